"""Writes tests/golden/special_functions.npz: mpmath's values, and PyTorch's at odd points.

`name/values` are computed with 40 digits from float32-exact arguments `name/0`, `name/1`;
`odd/name` is what PyTorch 2.13 gives at zeros, infinities, poles and NaN. Needs torch, which
brings mpmath.
"""

import pathlib

import mpmath as mp
import numpy as np
import torch

mp.mp.dps = 40
random = np.random.default_rng(20)
INF, NAN = float("inf"), float("nan")
ODD = np.array([0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, 2.0, -3.0, 1e-300, -1e-300, 1e300, -1e300])


def spread(low, high, count=40, decades=None):
    """Uniform points, and log-uniform ones if `decades` = (lowest, highest) are given."""
    parts = [random.uniform(low, high, count)]
    if decades:
        parts.append(10 ** random.uniform(*decades, count))
    return np.concatenate(parts).astype(np.float32).astype(np.float64)


def both_signs(points):
    """The points and their negatives."""
    return np.concatenate([points, -points])


def near(*centres):
    """Points at and around the places where a method hands over to another."""
    steps = np.array([0.0, 1e-3, -1e-3, 1e-6, -1e-6])
    return np.concatenate([c + steps * c for c in centres]).astype(np.float32).astype(np.float64)


def ndtr(x):
    """Normal distribution function."""
    return mp.erfc(-x / mp.sqrt(2)) / 2


def ndtri(p):
    """Its inverse."""
    return mp.sqrt(2) * mp.erfinv(2 * p - 1)


def multigammaln(p):
    """The function of x for dimension p."""
    return lambda x: (
        p * (p - 1) / mp.mpf(4) * mp.log(mp.pi)
        + sum(mp.loggamma(x - mp.mpf(j) / 2) for j in range(p))
    )


def chebyshev(kind):
    """T_n, U_n, V_n = U_n - U_{n - 1} or W_n = U_n + U_{n - 1} as a function of x and n."""
    below = lambda n, x: mp.chebyu(n - 1, x) if n > 0 else mp.mpf(0)  # noqa: E731
    return {
        "t": lambda x, n: mp.chebyt(int(n), x),
        "u": lambda x, n: mp.chebyu(int(n), x),
        "v": lambda x, n: mp.chebyu(int(n), x) - below(int(n), x),
        "w": lambda x, n: mp.chebyu(int(n), x) + below(int(n), x),
    }[kind]


def bessel_points():
    """Arguments for J, Y, I and K."""
    return np.concatenate([spread(0.01, 40, 40, (-6, 3)), near(2.0, 5.0, 8.0)])


ANYWHERE = both_signs(np.concatenate([spread(0, 6, 40, (-8, 0.7)), near(1.0, 3.92)]))
UNIT = np.concatenate([spread(0, 1), 10 ** random.uniform(-30, -1, 40)])
UNIT = UNIT.astype(np.float32).astype(np.float64)
POSITIVE = np.concatenate([spread(0, 12, 40, (-6, 6)), near(1.0, 2.0, 0.75, 2.25, 8.0)])
NEGATIVE = -spread(0, 12)
OPEN = both_signs(np.concatenate([spread(0, 1), 1 - 2.0 ** -np.arange(1, 24)]))

ONE_ARGUMENT = {
    "erf": (mp.erf, ANYWHERE),
    "erfc": (mp.erfc, np.concatenate([ANYWHERE, spread(6, 9)])),
    "erfcx": (lambda x: mp.exp(x * x) * mp.erfc(x), np.concatenate([ANYWHERE, spread(6, 9)])),
    "erfinv": (mp.erfinv, OPEN),
    "ndtr": (ndtr, np.concatenate([ANYWHERE, -spread(6, 13)])),
    "log_ndtr": (lambda x: mp.log(ndtr(x)), np.concatenate([ANYWHERE, -spread(6, 100)])),
    "ndtri": (ndtri, np.concatenate([UNIT, 1 - 2.0 ** -np.arange(1, 24)])),
    "lgamma": (lambda x: mp.loggamma(x).real, np.concatenate([POSITIVE, NEGATIVE])),
    "digamma": (mp.digamma, np.concatenate([POSITIVE, NEGATIVE])),
    "polygamma1": (lambda x: mp.polygamma(1, x), np.concatenate([spread(0.1, 30), NEGATIVE])),
    "polygamma2": (lambda x: mp.polygamma(2, x), np.concatenate([spread(0.1, 30), NEGATIVE])),
    "polygamma5": (lambda x: mp.polygamma(5, x), np.concatenate([spread(0.1, 30), NEGATIVE])),
    "multigammaln1": (multigammaln(1), spread(0.1, 40)),
    "multigammaln3": (multigammaln(3), spread(1.1, 40)),
    "i0": (lambda x: mp.besseli(0, x), both_signs(spread(0.01, 80, 40, (-6, 1)))),
    "i1": (lambda x: mp.besseli(1, x), both_signs(spread(0.01, 80, 40, (-6, 1)))),
    "i0e": (lambda x: mp.besseli(0, x) * mp.exp(-abs(x)), both_signs(bessel_points())),
    "i1e": (lambda x: mp.besseli(1, x) * mp.exp(-abs(x)), both_signs(bessel_points())),
    "bessel_j0": (lambda x: mp.besselj(0, x), both_signs(bessel_points())),
    "bessel_j1": (lambda x: mp.besselj(1, x), both_signs(bessel_points())),
    "bessel_y0": (lambda x: mp.bessely(0, x), bessel_points()),
    "bessel_y1": (lambda x: mp.bessely(1, x), bessel_points()),
    "modified_bessel_k0": (lambda x: mp.besselk(0, x), spread(0.01, 80, 40, (-6, 1))),
    "modified_bessel_k1": (lambda x: mp.besselk(1, x), spread(0.01, 80, 40, (-6, 1))),
    "scaled_modified_bessel_k0": (lambda x: mp.besselk(0, x) * mp.exp(x), bessel_points()),
    "scaled_modified_bessel_k1": (lambda x: mp.besselk(1, x) * mp.exp(x), bessel_points()),
    "spherical_bessel_j0": (lambda x: mp.sin(x) / x, both_signs(bessel_points())),
    "airy_ai": (mp.airyai, np.concatenate([spread(-30, 15, 80), near(10.0, -10.0, 0.5, -4.5)])),
    "entr": (lambda x: -x * mp.log(x), spread(0.01, 5)),
    "sinc": (lambda x: mp.sin(mp.pi * x) / (mp.pi * x), both_signs(spread(0.01, 0.9))),
    "logit": (lambda x: mp.log(x / (1 - x)), spread(0.01, 0.99)),
}
SHAPES = np.concatenate([spread(0.01, 30, 60), spread(20, 500, 60), spread(1e3, 1e5, 30)])
RATIOS = np.exp(0.5 * random.standard_normal(SHAPES.size) / np.sqrt(1 + SHAPES / 20))
LIMITS = (SHAPES * RATIOS).astype(np.float32).astype(np.float64)
TWO_ARGUMENTS = {
    "gammainc": (lambda a, x: mp.gammainc(a, 0, x, regularized=True), SHAPES, LIMITS),
    "gammaincc": (lambda a, x: mp.gammainc(a, x, regularized=True), SHAPES, LIMITS),
    "zeta": (mp.zeta, spread(1.1, 30), spread(0.1, 40)),
    "xlogy": (lambda x, y: x * mp.log(y), spread(-3, 3), spread(0.1, 5)),
    "xlog1py": (lambda x, y: x * mp.log(1 + y), spread(-3, 3), spread(-0.9, 5)),
}
DEGREES = random.integers(0, 16, 80).astype(np.float64)
POINTS = np.concatenate([spread(-1, 1), spread(-2, 2)])
SHIFTED_POINTS = np.concatenate([spread(0, 1), spread(-0.5, 1.5)])
for letter in "tuvw":
    name = f"chebyshev_polynomial_{letter}"
    function = chebyshev(letter)
    TWO_ARGUMENTS[name] = (function, POINTS, DEGREES)
    TWO_ARGUMENTS[f"shifted_{name}"] = (
        lambda x, n, function=function: function(2 * x - 1, n),
        SHIFTED_POINTS,
        DEGREES,
    )
TWO_ARGUMENTS |= {
    "hermite_polynomial_h": (lambda x, n: mp.hermite(int(n), x), POINTS, DEGREES),
    "hermite_polynomial_he": (
        lambda x, n: mp.mpf(2) ** (-n / 2) * mp.hermite(int(n), x / mp.sqrt(2)),
        POINTS,
        DEGREES,
    ),
    "laguerre_polynomial_l": (lambda x, n: mp.laguerre(int(n), 0, x), POINTS, DEGREES),
    "legendre_polynomial_p": (lambda x, n: mp.legendre(int(n), x), POINTS, DEGREES),
}


def torch_function(name):
    """PyTorch's function of that name."""
    if name.startswith("polygamma"):
        return lambda x: torch.special.polygamma(int(name[-1]), x)
    return getattr(torch.special, {"lgamma": "gammaln"}.get(name, name))


def main():
    """Computes and stores all arrays."""
    stored = {"odd_points": ODD}
    for name, (function, *arguments) in (ONE_ARGUMENT | TWO_ARGUMENTS).items():
        values = [function(*map(mp.mpf, point)) for point in zip(*arguments, strict=True)]
        stored[f"{name}/values"] = np.array([float(value) for value in values])
        for position, argument in enumerate(arguments):
            stored[f"{name}/{position}"] = argument.astype(np.float32)
        if not name.startswith("multigammaln"):
            grid = np.meshgrid(*[ODD] * len(arguments), indexing="ij")
            odd = torch_function(name)(*(torch.from_numpy(axis.copy()) for axis in grid))
            stored[f"odd/{name}"] = odd.numpy()
        print(name, flush=True)
    target = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "special_functions.npz"
    np.savez_compressed(target, **stored)


if __name__ == "__main__":
    main()
