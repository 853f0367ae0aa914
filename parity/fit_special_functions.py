"""Computes lampion/ops/special_tables.py from the functions' definitions. No part of Lampion.

Each polynomial is the minimax one for the relative error of what is computed from it, found by
Remez' exchange algorithm (Remez 1934; Press et al., Numerical Recipes, section 5.13) with mpmath,
40 digits. A minute: `python parity/fit_special_functions.py > lampion/ops/special_tables.py`.
"""

import functools
import itertools
import sys
import textwrap

import mpmath as mp

mp.mp.dps = 40
GRID = 400
ROOT_PI = mp.sqrt(mp.pi)

HEADER = '''"""Polynomials and sampled values for the special functions. Imports nothing.

Written by parity/fit_special_functions.py: minimax fits, computed with 40 digits from the
definitions of the functions. Coefficients come highest power first; "error" is relative.
"""

# fmt: off
'''


def chebyshev_row(u, degree):
    """T_0(u) ... T_degree(u)."""
    row = [mp.mpf(1), u]
    while len(row) <= degree:
        row.append(2 * u * row[-1] - row[-2])
    return row[: degree + 1]


def exchange(errors, count):
    """Indices of `count` alternating extrema, the largest that can be had."""
    extrema = []
    for i, error in enumerate(errors):
        if not extrema or mp.sign(error) != mp.sign(errors[extrema[-1]]):
            extrema.append(i)
        elif abs(error) > abs(errors[extrema[-1]]):
            extrema[-1] = i
    while len(extrema) > count:
        sizes = [abs(errors[i]) for i in extrema]
        if len(extrema) == count + 1:
            extrema.pop(0 if sizes[0] < sizes[-1] else -1)
        else:
            pair = min(range(len(extrema) - 1), key=lambda j: max(sizes[j], sizes[j + 1]))
            del extrema[pair : pair + 2]
    return extrema


def to_monomials(coefficients, low, high):
    """Coefficients, highest first, in t of a Chebyshev sum over [low, high]."""
    scale, shift = 2 / (high - low), -(low + high) / (high - low)
    basis = [[mp.mpf(1)], [shift, scale]]  # lowest first
    while len(basis) < len(coefficients):
        doubled = [mp.mpf(0)] * (len(basis[-1]) + 1)
        for power, value in enumerate(basis[-1]):
            doubled[power] += 2 * shift * value
            doubled[power + 1] += 2 * scale * value
        for power, value in enumerate(basis[-2]):
            doubled[power] -= value
        basis.append(doubled)
    total = [mp.mpf(0)] * len(coefficients)
    for coefficient, polynomial in zip(coefficients, basis, strict=False):
        for power, value in enumerate(polynomial):
            total[power] += coefficient * value
    return total[::-1]


def fit(function, low, high, degree, weight):
    """The polynomial that minimises max |weight * (function - polynomial)| on [low, high]."""
    low, high = mp.mpf(low), mp.mpf(high)
    nodes = [-mp.cos(mp.pi * i / GRID) for i in range(GRID + 1)]
    points = [(low + high) / 2 + (high - low) / 2 * u for u in nodes]
    values, weights = [function(t) for t in points], [weight(t) for t in points]
    rows = [chebyshev_row(u, degree) for u in nodes]
    count = degree + 2
    reference = [round(GRID * i / (count - 1)) for i in range(count)]
    for _ in range(40):
        system = mp.matrix(count, count)
        for sign, i in enumerate(reference):
            for j in range(degree + 1):
                system[sign, j] = rows[i][j]
            system[sign, degree + 1] = (-1) ** sign / weights[i]
        solution = mp.lu_solve(system, mp.matrix([values[i] for i in reference]))
        coefficients = [solution[j] for j in range(degree + 1)]
        errors = [
            w * (f - mp.fdot(coefficients, row))
            for w, f, row in zip(weights, values, rows, strict=True)
        ]
        largest = max(abs(e) for e in errors)
        if largest <= abs(solution[degree + 1]) * 1.01:
            break
        reference = exchange(errors, count)
    return largest, to_monomials(coefficients, low, high)


def from_mobius(s, k):
    """The x >= 0 for which s = (x - k) / (x + k)."""
    return k * (1 + s) / max(1 - s, mp.mpf(10) ** -30)


def erf_by_tanh(t):
    """atanh(erf(x)) / x as a function of t = x**2."""
    x = mp.sqrt(t)
    return 2 / ROOT_PI if t < 1e-25 else mp.log((2 - mp.erfc(x)) / mp.erfc(x)) / (2 * x)


def erf_by_exp(r):
    """-log(erfc(x)) / x as a function of r = x / (x + 4)."""
    x = 4 * r / (1 - r)
    return 2 / ROOT_PI if x < 1e-25 else -mp.log(mp.erfc(x)) / x


def shepherd(x):
    """(1 + 2x) erfcx(x), between 1 and 1.4 for all x >= 0 (Shepherd and Laframboise 1981)."""
    if x > 100:
        series = mp.nsum(lambda k: mp.fac2(2 * k - 1) / (-2 * x * x) ** k, [0, 14], method="d")
        return (1 + 2 * x) / (x * ROOT_PI) * series
    return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)


def erfinv_factor(w):
    """erfinv(x) / x as a function of w = -log(1 - x**2)."""
    w = max(w, mp.mpf(0))
    x = mp.sqrt(-mp.expm1(-w))
    return ROOT_PI / 2 if w < 1e-25 else mp.erfinv(x) / x


def erfinv_tail(root):
    """erfinv(x) as a function of sqrt(-log(1 - x**2))."""
    return mp.erfinv(mp.sqrt(-mp.expm1(-root * root)))


def lgamma_factor(x):
    """lgamma(x) / ((x - 1) (x - 2))."""
    if abs(x - 1) < 1e-12:
        return mp.euler
    return 1 - mp.euler if abs(x - 2) < 1e-12 else mp.loggamma(x) / ((x - 1) * (x - 2))


def hankel_parts(order, x):
    """P and Q of J = sqrt(2 / (pi x)) (P cos(chi) - Q sin(chi)), DLMF 10.17(i), 10.18(iii)."""
    chi = x - (2 * order + 1) * mp.pi / 4
    hankel = mp.hankel1(order, x) * mp.sqrt(mp.pi * x / 2) * mp.expj(-chi)
    return hankel.real, hankel.imag


def hankel_part(order, part, square):
    """P, or Q x, as a function of x**2."""
    with mp.workdps(80):
        x = mp.sqrt(min(square, mp.mpf(10) ** 30))
        return hankel_parts(order, x)[part] * (x if part else 1)


def scaled(function, sign, x):
    """A Bessel function times sqrt(x) exp(sign x)."""
    with mp.workdps(80):
        x = min(x, mp.mpf(10) ** 30)
        return function(x) * mp.sqrt(x) * mp.exp(sign * x)


def relative(function):
    """The weight that makes errors relative."""
    return lambda t: 1 / abs(function(t))


def mobius_fit(function, k, low, high, degree):
    """Fits in s = (x - k) / (x + k) for x in [low, high]; high may be infinite."""
    high_s = mp.mpf(1) if high == mp.inf else mp.mpf(high - k) / (high + k)
    mapped = lambda s: function(from_mobius(s, k))  # noqa: E731
    return fit(mapped, mp.mpf(low - k) / (low + k), high_s, degree, relative(mapped))


def tanh_weight(t):
    """What turns an error of atanh(erf(x)) / x into the relative error of erf(x)."""
    x = mp.sqrt(t)
    return x * mp.erfc(x) * (2 - mp.erfc(x)) / mp.erf(x) if t > 1e-25 else ROOT_PI / 2


def exp_weight(r):
    """What turns an error of -log(erfc(x)) / x into the relative error of erf(x)."""
    x = 4 * r / (1 - r)
    return x * mp.erfc(x) / mp.erf(x) if x > 1e-25 else ROOT_PI / 2


def linear_fit(function, low, high, degree, centre=0):
    """Fits in t - centre with relative errors."""
    shifted = lambda t: function(t + centre)  # noqa: E731
    return fit(shifted, low - centre, high - centre, degree, relative(shifted))


def bessel_fits():
    """The polynomials for J and Y (x >= 5), K (x >= 2) and I (x >= 8)."""
    for order, part in itertools.product((0, 1), (0, 1)):
        name = f"HANKEL_{'PQ'[part]}{order}"
        note = f"Hankel's {'PQ'[part]}{' x' if part else ''}, order {order}"
        function = functools.partial(hankel_part, order, part)
        yield (
            name,
            f"{note}, in (x**2 - 25) / (x**2 + 25), x >= 5",
            mobius_fit(function, 25, 25, mp.inf, 17),
        )
    for name, bessel, sign, start, k, degree in (
        ("K", mp.besselk, 1, 2, 2, 18),
        ("I", mp.besseli, -1, 8, 8, 22),
    ):
        for order in (0, 1):
            note = f"{name}{order}(x) sqrt(x) exp({'+-'[sign < 0]}x)"
            function = functools.partial(scaled, functools.partial(bessel, order), sign)
            yield (
                f"{name}{order}_TAIL",
                f"{note} in (x - {k}) / (x + {k}), x >= {start}",
                mobius_fit(function, k, start, mp.inf, degree),
            )


def error_fits():
    """The polynomials for erf and its relatives and for lgamma."""
    yield (
        "ERF_SINGLE",
        "atanh(erf(x)) / x in x**2, x <= 3.92",
        fit(erf_by_tanh, 0, mp.mpf("3.92") ** 2, 6, tanh_weight),
    )
    yield (
        "ERF",
        "-log(erfc(x)) / x in x / (x + 4), x <= 6",
        fit(erf_by_exp, 0, mp.mpf("0.6"), 17, exp_weight),
    )
    note = "(1 + 2x) exp(x**2) erfc(x) in (x - {k}) / (x + {k}), x >= 0"
    yield (
        "ERFCX_SINGLE",
        note.format(k=2.5),
        mobius_fit(shepherd, mp.mpf(2.5), 0, mp.inf, 10),
    )
    yield "ERFCX", note.format(k=3), mobius_fit(shepherd, 3, 0, mp.inf, 22)
    note = "erfinv(x) / x in w - {c}, where w = -log(1 - x**2) <= {w}"
    yield "ERFINV_SINGLE", note.format(c=2.5, w=5), linear_fit(erfinv_factor, 0, 5, 9, 2.5)
    yield "ERFINV", note.format(c=3.125, w=6.25), linear_fit(erfinv_factor, 0, 6.25, 21, 3.125)
    yield (
        "ERFINV_TAIL",
        "erfinv(x) in (r - 4) / (r + 4), where r = sqrt(-log(1 - x**2)), 5 <= r**2 <= 37",
        mobius_fit(erfinv_tail, 4, mp.sqrt(5), mp.sqrt(37), 10),
    )
    yield (
        "LGAMMA",
        "lgamma(x) / ((x - 1) (x - 2)) in (x - 1.4) / (x + 1.4), 0.75 <= x <= 2.25",
        mobius_fit(lgamma_factor, mp.mpf("1.4"), mp.mpf(0.75), mp.mpf(2.25), 18),
    )


def tuple_text(name, numbers, digits):
    """`name = (...)`, wrapped."""
    texts = [mp.nstr(number, digits, strip_zeros=True) for number in numbers]
    body = textwrap.fill(", ".join(texts), 96, break_on_hyphens=False)
    return f"{name} = (\n{textwrap.indent(body, '    ')},\n)\n"


def main():
    """Prints the module."""
    print(HEADER)
    for name, note, (error, coefficients) in itertools.chain(error_fits(), bessel_fits()):
        print(name, mp.nstr(error, 2), file=sys.stderr, flush=True)
        print(f"# {note}. Error {mp.nstr(error, 2)}.")
        print(tuple_text(name, coefficients, 10 if name.endswith("SINGLE") else 18))
    print("# Ai and its derivative at the integers from -10 to 10.")
    integers = range(-10, 11)
    print(tuple_text("AIRY_VALUES", [mp.airyai(n) for n in integers], 18))
    slopes = [mp.airyai(n, derivative=1) for n in integers]
    print(tuple_text("AIRY_SLOPES", slopes, 18), end="")


if __name__ == "__main__":
    main()
