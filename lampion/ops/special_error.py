"""The error function, its inverse and relatives, and the normal distribution, on NumPy arrays.

Imports special_common and special_tables. Our own fits (parity/fit_special_functions.py), whose
forms follow Shepherd and Laframboise, Math. Comp. 36 (1981), for erfcx, and Giles, "Approximating
the erfinv function" (2010). Identities: DLMF chapter 7.
"""

from __future__ import annotations

import math

import numpy as np

from lampion.ops import special_tables as tables
from lampion.ops.special_common import (
    Array,
    by_blocks,
    mapped_polynomial,
    polynomial,
    square_exponential,
)

ROOT_2 = math.sqrt(2.0)
ROOT_PI = math.sqrt(math.pi)


def _erf_single(x: Array) -> Array:
    """erf(x) = tanh(x P(x**2)); the square stops where the result is 1 in float32."""
    square = x * x
    np.minimum(square, 3.92**2, out=square)
    result = polynomial(tables.ERF_SINGLE, square)
    result *= x
    return np.tanh(result, out=result)


@by_blocks(single=_erf_single)
def erf(x: Array) -> Array:
    """Error function, 2 / sqrt(pi) times the integral of exp(-t**2) from 0 to x.

    Computed as 1 - exp(-|x| P(|x| / (|x| + 4))) with the sign of x.

    >>> erf(np.array([0.0, 0.5]))
    array([0.        , 0.52049988])
    """
    size = np.abs(x)
    np.minimum(size, 6.0, out=size)  # erf(6) is 1 in float64
    result = polynomial(tables.ERF, size / (size + 4.0))
    result *= size
    np.negative(result, out=result)
    np.expm1(result, out=result)
    return np.copysign(result, x, out=result)


def _erfcx_positive(x: Array) -> Array:
    """erfcx(x) for x >= 0."""
    result = mapped_polynomial(tables.ERFCX, np.minimum(x, 1e300), 3.0)
    result /= 1.0 + 2.0 * x
    return result


def _reflect_erfc(tail: Array, x: Array) -> Array:
    """From erfc(|x|) to erfc(x): 2 - tail for negative x. Without branches, which cost more."""
    negative = (x < 0).astype(tail.dtype)
    tail *= 1 - 2 * negative
    tail += 2 * negative
    return tail


def _erfc_single(x: Array) -> Array:
    """As erfc, with a shorter polynomial; only the exponential needs float64."""
    size = np.minimum(np.abs(x), np.float32(12.0))
    tail = mapped_polynomial(tables.ERFCX_SINGLE, size, 2.5)
    tail /= 1.0 + 2.0 * size
    wide = size.astype(np.float64)
    wide *= -wide
    tail *= np.exp(wide, out=wide).astype(np.float32)
    return _reflect_erfc(tail, x)


@by_blocks(single=_erfc_single)
def erfc(x: Array) -> Array:
    """Complementary error function, 1 - erf(x), with small relative error in the right tail too."""
    size = np.minimum(np.abs(x), 30.0)
    tail = _erfcx_positive(size)
    tail *= square_exponential(size, -1)
    return _reflect_erfc(tail, x)


@by_blocks()
def erfcx(x: Array) -> Array:
    """Scaled complementary error function, exp(x**2) erfc(x), which neither under- nor overflows.

    Below 0 it is 2 exp(x**2) - erfcx(-x).
    """
    size = np.abs(x)
    result = _erfcx_positive(size)
    negative = x < 0
    if negative.any():
        growth = square_exponential(np.minimum(size[negative], 30.0), 1)  # overflows before 30
        result[negative] = 2.0 * growth - result[negative]
    return result


def _erfinv_tail(root: Array) -> Array:
    """erfinv(x) for root = sqrt(-log(1 - x**2)) from sqrt(5) to sqrt(37), relative error 1e-8."""
    return mapped_polynomial(tables.ERFINV_TAIL, root, 4.0)


def _erfc_inverse_tail(q: Array) -> Array:
    """The y with erfc(y) = q for 0 <= q < 0.001: Newton's method for the logarithm of the equation.

    log erfc(y) = log erfcx(y) - y**2, whose derivative is -2 / (sqrt(pi) erfcx(y)).
    """
    goal = -np.log(q)
    far = q < 1e-16
    y = _erfinv_tail(np.sqrt(goal - np.log(2.0 - q)))
    if far.any():
        y[far] = np.sqrt(goal[far] - 0.5 * np.log(math.pi * goal[far]))
    for _ in range(3 if far.any() else 1):
        scaled = _erfcx_positive(y)
        y -= (y * y - np.log(scaled) - goal) * (0.5 * ROOT_PI) * scaled
    y[q == 0] = np.inf
    return y


def _erfinv_single(x: Array) -> Array:
    """As erfinv, with a shorter polynomial."""
    w = -np.log((1 - x) * (1 + x))
    result = polynomial(tables.ERFINV_SINGLE, np.minimum(w, 5.0) - 2.5)
    result *= x
    tail = np.flatnonzero(w > 5.0)
    if tail.size:
        y = _erfinv_tail(np.sqrt(w[tail]))
        y[np.abs(x[tail]) == 1] = np.inf
        result[tail] = np.copysign(y, x[tail])
    return result


@by_blocks(single=_erfinv_single)
def erfinv(x: Array) -> Array:
    """Inverse of erf: infinite at -1 and 1, NaN outside.

    Computed as x P(w), w = -log(1 - x**2); where w > 6.25, as the solution of erfc(y) = 1 - |x|.
    """
    return _erfinv(x, (1.0 - x) * (1.0 + x), 1.0 - np.abs(x))


def _erfinv(x: Array, product: Array, complement: Array) -> Array:
    """erfinv(x), given also (1 - x)(1 + x) and 1 - |x|, both without cancellation."""
    w = -np.log(product)
    result = polynomial(tables.ERFINV, np.minimum(w, 6.25) - 3.125)
    result *= x
    tail = np.flatnonzero(w > 6.25)
    if tail.size:
        result[tail] = np.copysign(_erfc_inverse_tail(complement[tail]), x[tail])
    return result


@by_blocks()
def ndtr(x: Array) -> Array:
    """Distribution function of the standard normal distribution, erfc(-x / sqrt(2)) / 2."""
    return 0.5 * erfc(x * (-1.0 / ROOT_2))


@by_blocks()
def log_ndtr(x: Array) -> Array:
    """Logarithm of ndtr, accurate in both tails."""
    y = x / ROOT_2
    left = x < -1.0
    result = np.log1p(-0.5 * erfc(y))
    if left.any():
        tail = y[left]
        result[left] = np.log(0.5 * _erfcx_positive(-tail)) - tail * tail
    return result


@by_blocks()
def ndtri(p: Array) -> Array:
    """Inverse of ndtr, sqrt(2) erfinv(2p - 1): -inf at 0, inf at 1, NaN outside."""
    q = 1.0 - p
    return ROOT_2 * _erfinv(p - q, 4.0 * p * q, 2.0 * np.minimum(p, q))
