"""Log-gamma, its derivatives, Hurwitz' zeta and the incomplete gamma functions, on NumPy arrays.

Imports special_common, special_tables and special_error. Formulas: DLMF chapters 5, 8 and 25
(Stirling's series, Euler-Maclaurin summation, reflections); N. M. Temme, "A set of algorithms for
the incomplete gamma functions", Prob. Eng. Inf. Sci. 8 (1994), for large a.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from lampion.ops import special_tables as tables
from lampion.ops.special_common import (
    Array,
    Kernel,
    by_blocks,
    mapped_polynomial,
    piecewise,
    polynomial,
)
from lampion.ops.special_error import erfc

EPSILON = 2.0**-53
MOST_TERMS = 1000  # of the incomplete gamma functions' series, which end long before
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def bernoulli_numbers(count: int) -> list[Fraction]:
    """B_2, B_4, ... B_{2 count}, from sum_{j <= n} binomial(n + 1, j) B_j = 0."""
    numbers = [Fraction(1)]
    for n in range(1, 2 * count + 1):
        terms = (math.comb(n + 1, j) * number for j, number in enumerate(numbers))
        total = sum(terms, Fraction(0))
        numbers.append(-total / (n + 1))
    return numbers[2::2]


BERNOULLI = bernoulli_numbers(12)
# Stirling's series of log gamma in 1 / z**2 (DLMF 5.11.1), and of digamma (DLMF 5.11.2)
STIRLING = [float(b / (2 * k * (2 * k - 1))) for k, b in enumerate(BERNOULLI[:8], 1)][::-1]
DIGAMMA = [float(b / (2 * k)) for k, b in enumerate(BERNOULLI[:8], 1)][::-1]
# B_2k / (2k)!, for Euler-Maclaurin
EULER_MACLAURIN = [float(b / math.factorial(2 * k)) for k, b in enumerate(BERNOULLI, 1)]


def _stirling_correction(z: Array) -> Array:
    """log gamma(z) - ((z - 1/2) log z - z + log(2 pi) / 2), for z >= 8."""
    inverse = 1.0 / z
    result = polynomial(STIRLING, inverse * inverse)
    result *= inverse
    return result


def _stirling(z: Array) -> Array:
    """log gamma(z) for z >= 8."""
    result = np.log(z)
    result -= 1.0
    result *= z - 0.5
    result += HALF_LOG_2PI - 0.5
    result += _stirling_correction(z)
    return result


def _lgamma_positive(x: Array) -> Array:
    """log gamma(x) for x > 0 with an absolute error of 1e-15 below 8: log gamma(x + 8) - log (x)_8.

    With t = x (x + 7) the rising factorial (x)_8 is t (t + 6) (t + 10) (t + 12).
    """
    small = (x < 8.0).astype(np.float64)
    below = np.minimum(x, 8.0)
    t = below * (below + 7.0)
    factorial = t * (t + 6.0)
    factorial *= t + 10.0
    factorial *= t + 12.0
    result = _stirling(x + 8.0 * small)
    result -= small * np.log(factorial)
    return result


def _lgamma_near_zeros(x: Array, x_minus_1: Array, x_minus_2: Array) -> Array:
    """log gamma(x) for 0.75 <= x <= 2.25 with a small relative error, also at its zeros 1 and 2."""
    return mapped_polynomial(tables.LGAMMA, x, 1.4) * x_minus_1 * x_minus_2


def _lgamma_single(x: Array) -> Array:
    """As lgamma; for float32 numbers an absolute error of 1e-15 is small, but at the zeros."""
    result = _lgamma(x.astype(np.float64)).astype(np.float32)
    result[(x == 1) | (x == 2)] = 0
    return result


def _lgamma(x: Array) -> Array:
    """log |gamma(x)|; below 0 by reflection, gamma(x) gamma(-x) = -pi / (x sin(pi x))."""
    size = np.abs(x)
    result = _lgamma_positive(size)
    result[np.isinf(size)] = np.inf
    result[size == 0] = np.inf
    negative = np.flatnonzero(x < 0)
    if negative.size:
        below = size[negative]
        sine = np.abs(np.sin(math.pi * (below - np.rint(below))))
        reflected = math.log(math.pi) - np.log(below) - np.log(sine) - result[negative]
        result[negative] = np.where(np.isinf(below), np.inf, reflected)
    return result


@by_blocks(single=_lgamma_single)
def lgamma(x: Array) -> Array:
    """Logarithm of the absolute value of the gamma function; infinite at 0, -1, -2, ...

    >>> lgamma(np.array([2.0, 4.0]))  # log 1! and log 3!
    array([0.        , 1.79175947])
    """
    result = _lgamma(x)
    near = np.flatnonzero(np.abs(x - 1.5) <= 0.75)
    if near.size:
        y = x[near]
        result[near] = _lgamma_near_zeros(y, y - 1.0, y - 2.0)
    return result


def _digamma_positive(x: Array) -> Array:
    """digamma(x) for x > 0: digamma(x + 8) less the eight reciprocals, taken in pairs.

    1 / (x + k) + 1 / (x + 7 - k) = (2x + 7) / (t + k (7 - k)) with t = x (x + 7).
    """
    small = (x < 8.0).astype(np.float64)
    z = x + 8.0 * small
    inverse = 1.0 / z
    square = inverse * inverse
    result = np.log(z)
    result -= 0.5 * inverse
    result -= polynomial(DIGAMMA, square) * square
    below = np.minimum(x, 8.0)
    t = below * (below + 7.0)
    reciprocals = 1.0 / t + 1.0 / (t + 6.0)
    reciprocals += 1.0 / (t + 10.0)
    reciprocals += 1.0 / (t + 12.0)
    result -= small * (2.0 * below + 7.0) * reciprocals
    return result


@by_blocks()
def digamma(x: Array) -> Array:
    """Logarithmic derivative of the gamma function; NaN at -1, -2, ..., minus infinity at 0.

    Below 0 by reflection, digamma(1 - x) - pi / tan(pi x). Plus infinity at -0.0, as in PyTorch.
    """
    negative = x < 0
    result = _digamma_positive(np.where(negative, 1.0 - x, x))
    if negative.any():
        below = x[negative]
        fraction = below - np.trunc(below)
        reflected = result[negative] - math.pi / np.tan(math.pi * fraction)
        result[negative] = np.where(fraction == 0, np.nan, reflected)
    zero = x == 0
    result[zero] = np.copysign(np.inf, -x[zero])
    return result


def _zeta_positive(s: Array, q: Array) -> Array:
    """sum_k (q + k)**-s for s > 1, q > 0: ten terms, then Euler-Maclaurin (DLMF 25.11.5)."""
    result = np.zeros_like(s)
    for k in range(10):
        result += (q + k) ** -s
    w = q + 10.0
    power = w**-s
    result += power * (w / (s - 1.0) + 0.5)
    power *= s / w
    for k, coefficient in enumerate(EULER_MACLAURIN):
        result += coefficient * power
        power *= (s + (2 * k + 1)) * (s + (2 * k + 2)) / (w * w)
    return result


def _zeta_negative(s: Array, q: Array) -> Array:
    """zeta(s, q) for q < 0 no integer and s an integer.

    With r = q mod 1, its terms are those of zeta(s, r) and, but for the sign, those of
    zeta(s, 1 - r) that are not in zeta(s, 1 - q). In this order they cancel exactly at r = 1/2.
    """
    sign = np.where(np.remainder(s, 2.0) == 0, 1.0, -1.0)
    both_sides = _zeta_positive(s, q - np.floor(q)) + sign * _zeta_positive(s, np.ceil(q) - q)
    return both_sides - sign * _zeta_positive(s, 1.0 - q)


@by_blocks()
def zeta(x: Array, q: Array) -> Array:
    """Hurwitz zeta function, the sum over k >= 0 of (q + k)**-x.

    NaN for x < 1, infinite at x = 1 and where q is 0, -1, -2, ..., NaN for other q < 0 if x is no
    integer.
    """
    s = np.minimum(x, 1e100)  # the same sums, and no product overflows
    whole_x, whole_q = x == np.floor(x), q == np.floor(q)
    allowed = x > 1.0
    pole = (x == 1.0) | (~(x < 1.0) & (q <= 0) & whole_q)
    result = piecewise(
        (
            (allowed & (q > 0), _zeta_positive),
            (allowed & (q < 0) & whole_x & ~whole_q, _zeta_negative),
        ),
        s,
        q,
    )
    result[pole] = np.inf
    return result


def polygamma(n: int, x: Array) -> Array:
    """The n-th derivative of digamma, (-1)**(n + 1) n! zeta(n + 1, x).

    Raises:
        RuntimeError: a negative n.
    """
    if n < 0:
        raise RuntimeError(f"[polygamma] expects n >= 0, got {n}; there is no negative derivative")
    if n == 0:
        return digamma(x)
    return _polygamma(x, n=n)


@by_blocks()
def _polygamma(x: Array, *, n: int) -> Array:
    """polygamma for n >= 1."""
    factorial = math.gamma(n + 1) if n < 171 else math.inf
    result = (-1) ** (n + 1) * factorial * zeta(np.full_like(x, n + 1), x)
    if n == 1:  # PyTorch has these limits for the first derivative only
        result[np.isposinf(x)] = 0.0
        result[np.isneginf(x)] = np.nan
    return result


def multigammaln(x: Array, p: int) -> Array:
    """Logarithm of the multivariate gamma function of dimension p.

    p (p - 1) / 4 log(pi) + the sum over j < p of lgamma(x - j / 2).

    Raises:
        RuntimeError: p below 1.
    """
    if p < 1:
        raise RuntimeError(f"[multigammaln] expects p >= 1, got {p}; pass the matrices' size")
    total = sum(lgamma(x - 0.5 * j) for j in range(p))
    return total + 0.25 * p * (p - 1) * math.log(math.pi)


def temme_coefficients(count: int) -> list[float]:
    """Taylor coefficients in eta of eta / mu, where eta**2 / 2 = mu - log(1 + mu).

    mu = sum_n a_n eta**n follows from mu mu' = eta (1 + mu); eta / mu is the reciprocal series.
    """
    a = [0.0, 1.0]
    for n in range(2, count + 2):
        a.append(a[n - 1] / (n + 1) - sum(a[i] * a[n + 1 - i] for i in range(2, n)) / 2)
    reciprocal = [1.0]
    for n in range(1, count):
        reciprocal.append(-sum(a[k + 1] * reciprocal[n - k] for k in range(1, n + 1)))
    return reciprocal


TEMME = temme_coefficients(26)
LOG1P_SERIES = [1.0 / (2 * k + 3) for k in range(13)][::-1]


def _log_distance(a: Array, x: Array) -> Array:
    """log(x / a) - mu, mu = x / a - 1: near mu = 0 by log(1 + mu) = 2 artanh(mu / (2 + mu))."""
    mu = (x - a) / a
    s = mu / (2.0 + mu)
    square = s * s
    series = 2.0 * s * square * polynomial(LOG1P_SERIES, square) - s * mu
    return np.where(np.abs(mu) < 0.4, series, np.log(x / a) - mu)


def _gamma_density(a: Array, x: Array) -> Array:
    """x**a exp(-x) / gamma(a + 1), the front factor of the series and the fraction below."""
    near = a * _log_distance(a, x) - 0.5 * np.log(2 * math.pi * a) - _stirling_correction(a)
    far = a * np.log(x) - x - _lgamma_positive(a + 1.0)
    return np.exp(np.where(a < 8.0, far, near))


def _lower_series(a: Array, x: Array) -> Array:
    """P(a, x) for x below a or both small: DLMF 8.7.1, all of whose terms are positive."""
    term = np.ones_like(x)
    total = np.ones_like(x)
    divisor = a.copy()
    for _ in range(MOST_TERMS):
        divisor += 1.0
        term *= x / divisor
        total += term
        if not (term > EPSILON * total).any():
            break
    return _gamma_density(a, x) * total


def _upper_series(a: Array, x: Array) -> Array:
    """Q(a, x) for small a and x, where P is near 1: DLMF 8.7.3 with the leading terms combined."""
    term = np.ones_like(x)
    total = np.zeros_like(x)
    for n in range(1, MOST_TERMS):
        term *= -x / n
        total += term / (a + n)
        if not (np.abs(term) > EPSILON * np.abs(total)).any():
            break
    logarithm = a * np.log(x)
    lgamma_1p = _lgamma_near_zeros(1.0 + a, a, a - 1.0)
    lgamma_1p = np.where(a < 1.0, lgamma_1p, _lgamma_positive(1.0 + a))
    return -np.expm1(logarithm - lgamma_1p) - a * total * np.exp(logarithm - lgamma_1p)


def _upper_fraction(a: Array, x: Array) -> Array:
    """Q(a, x) for x above a: the continued fraction DLMF 8.9.2, by Lentz' method."""
    b = x + 1.0 - a
    c = np.full_like(x, 1e300)
    d = 1.0 / b
    fraction = d.copy()
    for n in range(1, MOST_TERMS):
        numerator = n * (a - n)
        b += 2.0
        d = 1.0 / (numerator * d + b)
        c = b + numerator / c
        change = c * d
        fraction *= change
        if not (np.abs(change - 1.0) > 4 * EPSILON).any():
            break
    return a * _gamma_density(a, x) * fraction


def _upper_uniform(a: Array, x: Array) -> Array:
    """Q(a, x) for a > 20 and x near a: Temme's expansion around the normal distribution."""
    return 0.5 * erfc(_temme_eta(a, x) * np.sqrt(0.5 * a)) + _temme_remainder(a, x)


def _lower_uniform(a: Array, x: Array) -> Array:
    """P(a, x) where _upper_uniform is Q."""
    return 0.5 * erfc(-_temme_eta(a, x) * np.sqrt(0.5 * a)) - _temme_remainder(a, x)


def _temme_eta(a: Array, x: Array) -> Array:
    """eta with the sign of mu = x / a - 1 and eta**2 / 2 = mu - log(1 + mu) (DLMF 8.12.1)."""
    return np.copysign(np.sqrt(-2.0 * _log_distance(a, x)), x - a)


def _temme_remainder(a: Array, x: Array) -> Array:
    """R of DLMF 8.12.3-4, a power series in eta whose coefficients obey a backward recurrence."""
    eta = _temme_eta(a, x)
    coefficients = [np.zeros_like(a), np.zeros_like(a)]  # from the last one down
    for n in range(len(TEMME) - 1, 0, -1):
        coefficients.append(TEMME[n] + (n + 1) * coefficients[-2] / a)
    series = np.zeros_like(a)
    for coefficient in coefficients[2:]:
        series = series * eta + coefficient
    series /= 1.0 + coefficients[-2] / a
    return np.exp(-0.5 * a * eta * eta) / np.sqrt(2 * math.pi * a) * series


def _complement(function: Kernel) -> Kernel:
    """P from Q or Q from P."""
    return lambda a, x: 1.0 - function(a, x)


def _by_region(a: Array, x: Array, upper: bool) -> Array:
    """Q if `upper` else P for positive finite a and x, by the method that is stable there."""
    inside = (a > 0) & (x > 0) & np.isfinite(a) & np.isfinite(x)
    uniform = inside & (a > 20.0) & (np.abs(x - a) < 0.3 * a)
    small = inside & ~uniform & (x <= 1.1)
    large = inside & ~uniform & (x > 1.1)
    p_is_smaller = np.where(x <= 0.5, -0.4 / np.log(x) < a, 1.1 * x < a)
    regions = (
        (uniform, _lower_uniform, _upper_uniform),
        (small & p_is_smaller, _lower_series, _complement(_lower_series)),
        (small & ~p_is_smaller, _lower_series, _upper_series),
        (large & (x <= a), _lower_series, _complement(_lower_series)),
        (large & (x > a), _complement(_upper_fraction), _upper_fraction),
    )
    return piecewise([(mask, q if upper else p) for mask, p, q in regions], a, x)


def _incomplete(a: Array, x: Array, upper: bool) -> Array:
    """Q if `upper` else P, with PyTorch's answers at zeros and infinities."""
    start, end = (1.0, 0.0) if upper else (0.0, 1.0)
    answers = (
        ((a < 0) | (x < 0), np.nan),
        (a == 0, np.where(x > 0, end, np.nan)),
        (x == 0, start),
        (np.isinf(a), np.where(np.isinf(x), np.nan, start)),
        (np.isinf(x), end),
    )
    masks, values = zip(*answers, strict=True)
    return np.select(masks, values, _by_region(a, x, upper))


@by_blocks()
def gammainc(a: Array, x: Array) -> Array:
    """Regularised lower incomplete gamma function P(a, x); NaN for negative arguments."""
    return _incomplete(a, x, upper=False)


@by_blocks()
def gammaincc(a: Array, x: Array) -> Array:
    """Regularised upper incomplete gamma function, Q(a, x) = 1 - P(a, x)."""
    return _incomplete(a, x, upper=True)
