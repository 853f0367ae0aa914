"""Normalisation on arrays, forward and backward, in few passes. Imports NumPy only.

Half-precision arrays are computed in float32; means and variances stay in float32 then.
"""

from __future__ import annotations

import math
import string
from typing import Any

import numpy as np
from numpy import ndarray

F32 = np.dtype(np.float32)


def widest(*arrays: ndarray | None) -> list:
    """The arrays, those of half precision as float32."""
    return [a.astype(F32) if a is not None and a.dtype.itemsize < 4 else a for a in arrays]


def sum_of_products(a: ndarray, b: ndarray, dims: tuple[int, ...]) -> ndarray:
    """The sum of a * b over `dims`, which keep size 1; makes no array of the products."""
    letters = string.ascii_letters[: a.ndim]
    gone = {d % a.ndim for d in dims}
    kept = "".join(c for i, c in enumerate(letters) if i not in gone)
    y = np.einsum(f"{letters},{letters}->{kept}", a, b)
    return y.reshape([1 if i in gone else n for i, n in enumerate(a.shape)])


def seen_as(x: Any, view: tuple[int, ...]) -> Any:
    """x with its last dimensions in the shape `view`, which has one more (channels divided into groups)."""
    return x.reshape(*x.shape[: len(x.shape) - len(view) + 1], *view) if view else x


def norm_kernel(
    x: ndarray, w: ndarray | None, b: ndarray | None, dims: tuple, shape: tuple, view: tuple, eps: float
) -> tuple[ndarray, ndarray, ndarray]:
    """The normalised array, and the means and variances, whose reduced dimensions keep size 1."""
    given, outer = x.dtype, x.shape
    x, w, b = widest(x, w, b)
    x = seen_as(x, view)
    count = max(math.prod(x.shape[d] for d in dims), 1)
    mean = np.add.reduce(x, dims, keepdims=True)
    mean /= count
    y = x - mean
    variance = sum_of_products(y, y, dims)
    variance /= count
    scale = 1 / np.sqrt(variance + eps)
    if w is not None and all(-d > len(shape) or shape[d] == 1 for d in dims):
        scale *= w.reshape(shape)  # one number for all that is normalised together
        w = None
    y *= scale
    if w is not None:
        y *= w.reshape(shape)
    if b is not None:
        y += b.reshape(shape)
    return y.reshape(outer).astype(given, copy=False), mean, variance


def norm_gradient_kernel(
    g: ndarray, x: ndarray, w: ndarray | None, mean: ndarray, variance: ndarray,
    dims: tuple, shape: tuple, view: tuple, eps: float, needs: tuple,
) -> tuple:  # fmt: skip
    """Gradients of x, w and b: with h = g w and n the normalised x, scale * (h - mean(h) - n mean(h n))."""
    given, outer = x.dtype, x.shape
    g, x, w = widest(g, x, w)
    g, x = seen_as(g, view), seen_as(x, view)
    scale = 1 / np.sqrt(variance + eps)
    n = x - mean
    n *= scale
    summed = tuple(d for d in range(-g.ndim, 0) if -d > len(shape) or shape[d] == 1)
    gw = sum_of_products(g, n, summed).reshape(-1) if needs[1] else None
    gb = np.add.reduce(g, summed).reshape(-1) if needs[2] else None
    gx = None
    if needs[0]:
        h = g if w is None else g * w.reshape(shape)
        count = math.prod(x.shape[d] for d in dims)
        n *= sum_of_products(h, n, dims) / -count
        n += h
        n -= np.add.reduce(h, dims, keepdims=True) / count
        n *= scale
        gx = n.reshape(outer).astype(given, copy=False)
    return gx, gw, gb


def fixed_norm_kernel(
    x: ndarray, w: ndarray | None, b: ndarray | None, mean: ndarray, variance: ndarray, shape: tuple, eps: float
) -> ndarray:
    """Normalisation by given means and variances: one multiplication and one addition."""
    given = x.dtype
    x, w, b, mean, variance = widest(x, w, b, mean, variance)
    scale = 1 / np.sqrt(variance + variance.dtype.type(eps))
    if w is not None:
        scale = scale * w
    shift = -mean * scale if b is None else b - mean * scale
    y = x * scale.astype(x.dtype, copy=False).reshape(shape)
    y += shift.reshape(shape)
    return y.astype(given, copy=False)
