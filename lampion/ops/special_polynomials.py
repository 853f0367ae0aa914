"""Orthogonal polynomials of varying degree on NumPy arrays: Chebyshev, Hermite, Laguerre, Legendre.

Imports special_common. Each is its three-term recurrence (DLMF 18.9). For high degrees, Chebyshev's
are trigonometric functions of arccos(x) inside (-1, 1) (DLMF 18.5.1-4), where PyTorch does so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lampion.ops.special_common import Array, by_blocks, piecewise

Step = Callable[[int, Array, Array], Array]

HERMITE_LIMIT = {np.dtype(np.float32): 128, np.dtype(np.float64): 512}


def whole_degrees(n: Array) -> Array:
    """Degrees without fractions; -1, for the zero function, where no int64 from 0 on is meant."""
    return np.where((n > -1) & (n < 2.0**63), np.trunc(n), -1.0).astype(n.dtype)


def by_recurrence(n: Array, first: Array, step: Step) -> Array:
    """Returns p_n, where p_0 = 1, p_1 = first, p_{k + 1} = step(k, p_k, p_{k - 1}), p_{-1} = 0."""
    result = np.where(n == 0, first.dtype.type(1), np.where(n < 0, first.dtype.type(0), first))
    previous, current = np.ones_like(first), first
    highest = int(n.max(initial=0))
    for k in range(1, highest):
        previous, current = current, step(k, current, previous)
        np.copyto(result, current, where=n == k + 1)
        if np.isnan(current).all():  # and so is all that follows
            result[n > k] = np.nan
            break
    return result


@dataclass(frozen=True)
class Chebyshev:
    """What tells the four kinds apart: p_1, the values at 1 and -1, and p_n(cos t)."""

    first: Callable[[Array], Array]
    at_one: Callable[[Array], Array]
    at_minus_one: Callable[[Array], Array]  # without the sign (-1)**n
    of_angle: Callable[[Array, Array], Array]
    recurrence_up_to: int

    def __call__(self, x: Array, n: Array) -> Array:
        """p_n(x)."""
        n = whole_degrees(n)
        ends = np.abs(x) == 1
        angular = ~ends & (np.abs(x) < 1) & (n > self.recurrence_up_to)
        return piecewise(
            (
                (ends, self.at_ends),
                (angular, lambda x, n: self.of_angle(n, np.arccos(x))),
                (~ends & ~angular, self.by_recurrence),
            ),
            x,
            n,
        )

    def at_ends(self, x: Array, n: Array) -> Array:
        """p_n(1) and p_n(-1)."""
        sign = 1 - 2 * np.remainder(n, 2)
        value = np.where(x > 0, self.at_one(n), sign * self.at_minus_one(n))
        return np.where(n < 0, 0, value)

    def by_recurrence(self, x: Array, n: Array) -> Array:
        """p_{k + 1} = 2x p_k - p_{k - 1}."""
        twice = x + x
        return by_recurrence(n, self.first(x), lambda k, p, before: twice * p - before)


FIRST_KIND = Chebyshev(
    first=lambda x: x,
    at_one=np.ones_like,
    at_minus_one=np.ones_like,
    of_angle=lambda n, t: np.cos(n * t),
    recurrence_up_to=6,
)
SECOND_KIND = Chebyshev(
    first=lambda x: x + x,
    at_one=lambda n: n + 1,
    at_minus_one=lambda n: n + 1,
    of_angle=lambda n, t: np.sin((n + 1) * t) / np.sin(t),
    recurrence_up_to=8,
)
THIRD_KIND = Chebyshev(
    first=lambda x: x + x - 1,
    at_one=np.ones_like,
    at_minus_one=lambda n: n + n + 1,
    of_angle=lambda n, t: np.cos((n + 0.5) * t) / np.cos(0.5 * t),
    recurrence_up_to=8,
)
FOURTH_KIND = Chebyshev(
    first=lambda x: x + x + 1,
    at_one=lambda n: n + n + 1,
    at_minus_one=np.ones_like,
    of_angle=lambda n, t: np.sin((n + 0.5) * t) / np.sin(0.5 * t),
    recurrence_up_to=8,
)


@by_blocks(native=True)
def chebyshev_polynomial_t(x: Array, n: Array) -> Array:
    """Chebyshev polynomial of the first kind, T_n(x); 0 for negative n.

    >>> chebyshev_polynomial_t(np.array([0.5, 2.0]), np.array([3.0, 2.0]))
    array([-1.,  7.])
    """
    return FIRST_KIND(x, n)


@by_blocks(native=True)
def chebyshev_polynomial_u(x: Array, n: Array) -> Array:
    """Chebyshev polynomial of the second kind, U_n(x); 0 for negative n."""
    return SECOND_KIND(x, n)


@by_blocks(native=True)
def chebyshev_polynomial_v(x: Array, n: Array) -> Array:
    """Chebyshev polynomial of the third kind, V_n(x); 0 for negative n."""
    return THIRD_KIND(x, n)


@by_blocks(native=True)
def chebyshev_polynomial_w(x: Array, n: Array) -> Array:
    """Chebyshev polynomial of the fourth kind, W_n(x); 0 for negative n."""
    return FOURTH_KIND(x, n)


@by_blocks(native=True)
def shifted_chebyshev_polynomial_t(x: Array, n: Array) -> Array:
    """T_n(2x - 1), orthogonal on [0, 1]; 0 for negative n."""
    return FIRST_KIND(x + x - 1, n)


@by_blocks(native=True)
def shifted_chebyshev_polynomial_u(x: Array, n: Array) -> Array:
    """U_n(2x - 1), orthogonal on [0, 1]; 0 for negative n."""
    return SECOND_KIND(x + x - 1, n)


@by_blocks(native=True)
def shifted_chebyshev_polynomial_v(x: Array, n: Array) -> Array:
    """V_n(2x - 1), orthogonal on [0, 1]; 0 for negative n."""
    return THIRD_KIND(x + x - 1, n)


@by_blocks(native=True)
def shifted_chebyshev_polynomial_w(x: Array, n: Array) -> Array:
    """W_n(2x - 1), orthogonal on [0, 1]; 0 for negative n."""
    return FOURTH_KIND(x + x - 1, n)


@by_blocks(native=True)
def hermite_polynomial_h(x: Array, n: Array) -> Array:
    """Physicist's Hermite polynomial H_n(x); 0 for negative n, NaN above PyTorch's limit."""
    return _hermite(x, n, 2)


@by_blocks(native=True)
def hermite_polynomial_he(x: Array, n: Array) -> Array:
    """Probabilist's Hermite polynomial He_n(x); 0 for negative n, NaN above PyTorch's limit."""
    return _hermite(x, n, 1)


def _hermite(x: Array, n: Array, factor: int) -> Array:
    """p_{k + 1} = f (x p_k - k p_{k - 1}), where f is 2 for H and 1 for He."""
    n = whole_degrees(n)
    too_high = n > HERMITE_LIMIT[x.dtype]
    scaled = factor * x
    step = lambda k, p, before: scaled * p - (factor * k) * before  # noqa: E731
    return np.where(too_high, np.nan, by_recurrence(np.where(too_high, 0, n), scaled, step))


@by_blocks(native=True)
def laguerre_polynomial_l(x: Array, n: Array) -> Array:
    """Laguerre polynomial L_n(x); 0 for negative n."""
    first = 1 - x
    return by_recurrence(
        whole_degrees(n),
        first,
        lambda k, p, before: ((2 * k + first) * p - k * before) / (k + 1),
    )


@by_blocks(native=True)
def legendre_polynomial_p(x: Array, n: Array) -> Array:
    """Legendre polynomial P_n(x); 0 for negative n."""
    return by_recurrence(
        whole_degrees(n),
        x,
        lambda k, p, before: ((2 * k + 1) * x * p - k * before) / (k + 1),
    )
