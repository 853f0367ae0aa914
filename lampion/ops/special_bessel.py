"""Bessel functions of orders 0 and 1, modified and spherical ones, and Airy's Ai, on NumPy arrays.

Imports special_common and special_tables. Small arguments: power series (DLMF 10.8, 10.25, 10.31),
their coefficients computed here. Large ones: what remains after sqrt(x) and the wave or exponential
are taken out is smooth, and fitted up to infinity (parity/fit_special_functions.py; DLMF 10.17,
10.40). Airy: DLMF 9.2 and 9.7.
"""

from __future__ import annotations

import math

import numpy as np

from lampion.ops import special_tables as tables
from lampion.ops.special_common import Array, by_blocks, mapped_polynomial, piecewise, polynomial

TERMS = 28
HARMONIC = [sum(1.0 / j for j in range(1, k + 1)) for k in range(TERMS + 1)]
FACTORIAL = [math.factorial(k) for k in range(TERMS + 1)]
# I_0(x) and 2 I_1(x) / x in q = (x / 2)**2; at -q they are J_0(x) and 2 J_1(x) / x
REGULAR = (
    [1 / FACTORIAL[k] ** 2 for k in range(TERMS)][::-1],
    [1 / (FACTORIAL[k] * FACTORIAL[k + 1]) for k in range(TERMS)][::-1],
)
# The same terms times H_k, and times H_k + H_{k + 1}: what K and Y have beside the logarithm
HARMONIC_SERIES = (
    [HARMONIC[k] / FACTORIAL[k] ** 2 for k in range(TERMS)][::-1],
    [(HARMONIC[k] + HARMONIC[k + 1]) / (FACTORIAL[k] * FACTORIAL[k + 1]) for k in range(TERMS)][
        ::-1
    ],
)
HANKEL = (
    (tables.HANKEL_P0, tables.HANKEL_Q0),
    (tables.HANKEL_P1, tables.HANKEL_Q1),
)
I_TAIL = (tables.I0_TAIL, tables.I1_TAIL)
K_TAIL = (tables.K0_TAIL, tables.K1_TAIL)
EULER_GAMMA = float(np.euler_gamma)
ROOT_HALF = math.sqrt(0.5)


def _regular(order: int, x: Array, sign: int) -> Array:
    """J (sign -1) or I (sign 1) by the power series."""
    series = polynomial(REGULAR[order], sign * 0.25 * x * x)
    return series if order == 0 else 0.5 * x * series


def _logarithm(x: Array) -> Array:
    """log(x / 2) + Euler's gamma."""
    return np.log(0.5 * x) + EULER_GAMMA


def _hankel(order: int, x: Array, kind: str) -> Array:
    """J or Y for x >= 5 from Hankel's P and Q, with chi = x - (2 order + 1) pi / 4 (DLMF 10.17)."""
    square = np.minimum(x, 1e150) ** 2
    p = mapped_polynomial(HANKEL[order][0], square, 25.0)
    q = mapped_polynomial(HANKEL[order][1], square, 25.0) / x
    sine, cosine = np.sin(x), np.cos(x)
    if order == 0:
        cos_chi, sin_chi = cosine + sine, sine - cosine
    else:
        cos_chi, sin_chi = sine - cosine, -sine - cosine
    wave = cos_chi * p - sin_chi * q if kind == "J" else sin_chi * p + cos_chi * q
    return wave * (ROOT_HALF * math.sqrt(2.0 / math.pi)) / np.sqrt(x)


def _bessel_j(order: int, x: Array) -> Array:
    """J for x >= 0."""
    pieces = (
        (x < 5.0, lambda x: _regular(order, x, -1)),
        (x >= 5.0, lambda x: _hankel(order, x, "J")),
    )
    return piecewise(pieces, x)


def _small_y(order: int, x: Array) -> Array:
    """Y for 0 < x < 5 (DLMF 10.8)."""
    harmonic = polynomial(HARMONIC_SERIES[order], -0.25 * x * x)
    result = _logarithm(x) * _regular(order, x, -1)
    if order == 0:
        result -= harmonic
    else:
        result -= 0.25 * x * harmonic + 1.0 / x
    return result * (2.0 / math.pi)


def _bessel_y(order: int, x: Array) -> Array:
    """Y for x > 0; minus infinity at 0, NaN below."""
    pieces = (
        ((x > 0) & (x < 5.0), lambda x: _small_y(order, x)),
        (x >= 5.0, lambda x: _hankel(order, x, "Y")),
    )
    return np.where(x == 0, -np.inf, piecewise(pieces, x))


@by_blocks()
def bessel_j0(x: Array) -> Array:
    """Bessel function of the first kind of order 0."""
    return _bessel_j(0, np.abs(x))


@by_blocks()
def bessel_j1(x: Array) -> Array:
    """Bessel function of the first kind of order 1, an odd function."""
    return np.copysign(1.0, x) * _bessel_j(1, np.abs(x))


@by_blocks()
def bessel_y0(x: Array) -> Array:
    """Bessel function of the second kind of order 0: -inf at 0, NaN below."""
    return _bessel_y(0, x)


@by_blocks()
def bessel_y1(x: Array) -> Array:
    """Bessel function of the second kind of order 1: -inf at 0, NaN below."""
    return _bessel_y(1, x)


def _scaled_i(order: int, x: Array) -> Array:
    """exp(-x) I(x) for x >= 0."""
    pieces = (
        (x < 8.0, lambda x: np.exp(-x) * _regular(order, x, 1)),
        (x >= 8.0, lambda x: _tail(I_TAIL[order], x, 8.0)),
    )
    return piecewise(pieces, x)


def _tail(coefficients: tuple[float, ...], x: Array, start: float) -> Array:
    """A fit in (x - start) / (x + start), divided by sqrt(x); 0 at infinity."""
    return mapped_polynomial(coefficients, np.minimum(x, 1e300), start) / np.sqrt(x)


def _grow(scaled: Array, x: Array) -> Array:
    """exp(x) scaled, in two steps as exp(x) alone overflows too early."""
    half = np.exp(0.5 * x)
    return half * scaled * half


@by_blocks()
def i0e(x: Array) -> Array:
    """exp(-|x|) i0(x)."""
    return _scaled_i(0, np.abs(x))


@by_blocks()
def i1e(x: Array) -> Array:
    """exp(-|x|) i1(x)."""
    return np.copysign(1.0, x) * _scaled_i(1, np.abs(x))


@by_blocks()
def i0(x: Array) -> Array:
    """Modified Bessel function of the first kind of order 0."""
    size = np.abs(x)
    return _grow(_scaled_i(0, size), size)


@by_blocks()
def i1(x: Array) -> Array:
    """Modified Bessel function of the first kind of order 1, an odd function."""
    size = np.abs(x)
    return np.copysign(1.0, x) * _grow(_scaled_i(1, size), size)


def _small_k(order: int, x: Array) -> Array:
    """K for 0 < x < 2 (DLMF 10.31)."""
    harmonic = polynomial(HARMONIC_SERIES[order], 0.25 * x * x)
    product = _logarithm(x) * _regular(order, x, 1)
    return harmonic - product if order == 0 else product - 0.25 * x * harmonic + 1.0 / x


def _bessel_k(order: int, x: Array, *, scaled: bool) -> Array:
    """K, or exp(x) K if `scaled`: infinite at 0, NaN below."""
    small, large = (x > 0) & (x < 2.0), x >= 2.0
    if scaled:
        pieces = (
            (small, lambda x: np.exp(x) * _small_k(order, x)),
            (large, lambda x: _tail(K_TAIL[order], x, 2.0)),
        )
    else:
        pieces = (
            (small, lambda x: _small_k(order, x)),
            (large, lambda x: np.exp(-x) * _tail(K_TAIL[order], x, 2.0)),
        )
    return np.where(x == 0, np.inf, piecewise(pieces, x))


@by_blocks()
def modified_bessel_k0(x: Array) -> Array:
    """Modified Bessel function of the second kind of order 0: inf at 0, NaN below."""
    return _bessel_k(0, x, scaled=False)


@by_blocks()
def modified_bessel_k1(x: Array) -> Array:
    """Modified Bessel function of the second kind of order 1: inf at 0, NaN below."""
    return _bessel_k(1, x, scaled=False)


@by_blocks()
def scaled_modified_bessel_k0(x: Array) -> Array:
    """exp(x) modified_bessel_k0(x)."""
    return _bessel_k(0, x, scaled=True)


@by_blocks()
def scaled_modified_bessel_k1(x: Array) -> Array:
    """exp(x) modified_bessel_k1(x)."""
    return _bessel_k(1, x, scaled=True)


modified_bessel_i0 = i0
modified_bessel_i1 = i1


@by_blocks()
def spherical_bessel_j0(x: Array) -> Array:
    """sin(x) / x, which is 1 at 0 and 0 at infinity."""
    ratio = np.sin(x) / x
    return np.select([x == 0, np.isinf(x)], [1.0, 0.0], ratio)


AIRY_LIMIT = len(tables.AIRY_VALUES) // 2
AIRY_VALUES, AIRY_SLOPES = np.array(tables.AIRY_VALUES), np.array(tables.AIRY_SLOPES)


def airy_asymptotics(count: int) -> list[float]:
    """u_0 ... of DLMF 9.7.2: u_k = u_{k - 1} (6k - 5)(6k - 3)(6k - 1) / (216 k (2k - 1))."""
    u = [1.0]
    for k in range(1, count):
        u.append(u[-1] * (6 * k - 5) * (6 * k - 3) * (6 * k - 1) / (216 * k * (2 * k - 1)))
    return u


AIRY_U = airy_asymptotics(24)
AIRY_DECAY = [(-1) ** k * u for k, u in enumerate(AIRY_U)][::-1]
AIRY_EVEN = [(-1) ** k * u for k, u in enumerate(AIRY_U[0::2])][::-1]
AIRY_ODD = [(-1) ** k * u for k, u in enumerate(AIRY_U[1::2])][::-1]


def _airy_middle(x: Array) -> Array:
    """Ai near the integer n: its Taylor series, from Ai'' = x Ai and the values stored for n.

    With x = n + h the coefficients obey (k + 2)(k + 1) c_{k + 2} = n c_k + c_{k - 1}.
    """
    n = np.rint(x)
    h = x - n
    index = n.astype(np.intp) + AIRY_LIMIT
    before, current, after = np.zeros_like(x), AIRY_VALUES[index], AIRY_SLOPES[index]
    result = current + after * h
    power = h.copy()
    for k in range(24):
        following = (n * current + before) / ((k + 2) * (k + 1))
        before, current, after = current, after, following
        power *= h
        result += following * power
    return result


def _airy_right(x: Array) -> Array:
    """Ai for large positive x (DLMF 9.7.5)."""
    zeta = x * np.sqrt(x) * (2.0 / 3.0)
    series = polynomial(AIRY_DECAY, 1.0 / zeta)
    return np.exp(-zeta) * series / (2.0 * math.sqrt(math.pi) * np.sqrt(np.sqrt(x)))


def _airy_left(x: Array) -> Array:
    """Ai for large negative x (DLMF 9.7.9)."""
    size = -x
    zeta = size * np.sqrt(size) * (2.0 / 3.0)
    inverse = 1.0 / zeta
    even = polynomial(AIRY_EVEN, inverse * inverse)
    odd = polynomial(AIRY_ODD, inverse * inverse) * inverse
    sine, cosine = np.sin(zeta), np.cos(zeta)
    wave = (cosine + sine) * even + (sine - cosine) * odd
    return wave * ROOT_HALF / (math.sqrt(math.pi) * np.sqrt(np.sqrt(size)))


@by_blocks()
def airy_ai(x: Array) -> Array:
    """Airy function Ai, the solution of y'' = x y that decays to the right; NaN at infinity."""
    limit, finite = float(AIRY_LIMIT), np.isfinite(x)
    pieces = (
        (np.abs(x) <= limit, _airy_middle),
        (finite & (x > limit), _airy_right),
        (finite & (x < -limit), _airy_left),
    )
    return piecewise(pieces, x)
