"""Normalisation on arrays, forward and backward, in few passes. May import large and rules.

Half-precision arrays are computed in float32; means and variances stay in float32 then.
"""

from __future__ import annotations

import functools
import math
import string
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from .large import rowwise
from .rules import wide

SHORTEST = 16  # positions in a channel that are worth a compiled loop


def widest(*arrays: ndarray | None) -> list:
    """The arrays, those of half precision as float32."""
    return [None if a is None else wide(a) for a in arrays]


class Layout(NamedTuple):
    """What follows from shapes alone: how many elements share a mean, whether a weight is one
    number for them, over which dimensions a weight's gradient is summed, and the sums of products
    over either; whether whole rows are normalised, each element with a weight of its own, or whole
    channels.
    """

    shared: int
    one_weight: bool
    summed: tuple[int, ...]
    over_dims: tuple[str, tuple[int, ...]]
    over_summed: tuple[str, tuple[int, ...]]
    kind: str | None  # "rows" | "groups" (rows whose parts have weights) | "channels"


@functools.lru_cache(512)
def layout(size: tuple[int, ...], dims: tuple[int, ...], shape: tuple[int, ...]) -> Layout:
    """The layout of an array of this size, its means over `dims`, its weights seen in `shape`."""
    ndim = len(size)
    summed = tuple(d for d in range(-ndim, 0) if -d > len(shape) or shape[d] == 1)
    rows = sorted(d % ndim for d in dims) == list(range(ndim - len(dims), ndim))
    kind = ("rows" if size[ndim - len(dims) :] == shape else "groups") if rows else None
    channels = ndim > 1 and sorted(d % ndim for d in dims) == [0, *range(2, ndim)]
    if channels and shape == (size[1], *[1] * (ndim - 2)) and math.prod(size[2:]) >= SHORTEST:
        kind = "channels"
    return Layout(
        max(math.prod(size[d] for d in dims), 1),
        all(-d > len(shape) or shape[d] == 1 for d in dims),
        summed,
        product_sum(size, dims),
        product_sum(size, summed),
        kind,
    )


def product_sum(size: tuple[int, ...], dims: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """The subscripts of `einsum` for the sum of a * b over `dims`; the shape with these as 1."""
    letters = string.ascii_letters[: len(size)]
    gone = {d % len(size) for d in dims}
    kept = "".join(c for i, c in enumerate(letters) if i not in gone)
    return f"{letters},{letters}->{kept}", tuple(1 if i in gone else n for i, n in enumerate(size))


def seen_as(x: Any, view: tuple[int, ...]) -> Any:
    """x with its last dimensions in the shape `view`, which has one more (channels divided into
    groups).
    """
    return x.reshape(*x.shape[: len(x.shape) - len(view) + 1], *view) if view else x


def norm_kernel(
    x: ndarray,
    w: ndarray | None,
    b: ndarray | None,
    dims: tuple,
    shape: tuple,
    view: tuple,
    eps: float,
) -> tuple[ndarray, ndarray, ndarray]:
    """The normalised array, and the means and variances, whose reduced dimensions keep size 1."""
    given, outer = x.dtype, x.shape
    x, w, b = widest(x, w, b)
    x = seen_as(x, view)
    plan = layout(x.shape, dims, shape)
    kind = plan.kind
    compiler = rowwise(x, w, b) if kind else None
    if compiler is not None:
        if kind == "channels":
            y, mean, variance = compiler.run_batch_norm(x, w, b, eps)
        else:
            own = (w, b) if kind == "rows" else (None, None)
            y, mean, variance = compiler.run_layer_norm(x, *own, plan.shared, eps)
        if kind == "groups":
            y = y.reshape(x.shape)
            if w is not None:
                y *= w.reshape(shape)
            if b is not None:
                y += b.reshape(shape)
        reduced = plan.over_dims[1]
        y = y.reshape(outer).astype(given, copy=False)
        return y, mean.reshape(reduced), variance.reshape(reduced)
    mean = np.add.reduce(x, dims, keepdims=True)
    mean /= plan.shared
    y = x - mean
    subscripts, reduced = plan.over_dims
    variance = np.einsum(subscripts, y, y).reshape(reduced)
    variance /= plan.shared
    scale = 1 / np.sqrt(variance + eps)
    if w is not None and plan.one_weight:
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
    """Gradients of x, w and b: with h = g w and n the normalised x, scale * (h - mean(h) - n mean(h
    n)).
    """
    given, outer = x.dtype, x.shape
    g, x, w = widest(g, x, w)
    g, x = seen_as(g, view), seen_as(x, view)
    plan = layout(x.shape, dims, shape)
    kind = plan.kind if needs[0] else None
    compiler = rowwise(x, w, mean, variance) if kind else None
    if compiler is not None:
        given_g = np.ascontiguousarray(g, x.dtype)
        if kind == "rows":
            made = compiler.run_layer_norm_back(given_g, x, w, mean, variance, plan.shared, eps)
        elif kind == "groups":
            h = given_g if w is None else given_g * w.reshape(shape)
            made = compiler.run_layer_norm_back(h, x, None, mean, variance, plan.shared, eps)
            n = (x - mean) * (1 / np.sqrt(variance + eps)) if needs[1] else None
            made = made[0], *weight_gradients(plan, g, n, needs)
        else:
            made = compiler.run_batch_norm_back(given_g, x, w, mean, variance, eps)
        gx, gw, gb = made
        gx = gx.reshape(outer).astype(given, copy=False)
        return gx, gw if needs[1] else None, gb if needs[2] else None
    scale = 1 / np.sqrt(variance + eps)
    n = x - mean
    n *= scale
    gw, gb = weight_gradients(plan, g, n, needs)
    gx = None
    subscripts, reduced = plan.over_dims
    alike = plan.one_weight and plan.over_dims == plan.over_summed  # sums over the same elements
    if alike and needs[0] and w is not None and gw is not None and gb is not None:
        n *= gw.reshape(reduced) / -plan.shared  # the weight is a factor of both means
        n += g
        n -= gb.reshape(reduced) / plan.shared
        n *= scale * w.reshape(shape)
        gx = n.reshape(outer).astype(given, copy=False)
    elif needs[0]:
        h = g if w is None else g * w.reshape(shape)
        n *= np.einsum(subscripts, h, n).reshape(reduced) / -plan.shared
        n += h
        n -= np.add.reduce(h, dims, keepdims=True) / plan.shared
        n *= scale
        gx = n.reshape(outer).astype(given, copy=False)
    return gx, gw, gb


def weight_gradients(
    plan: Layout, g: ndarray, n: ndarray | None, needs: tuple
) -> tuple[ndarray | None, ndarray | None]:
    """Those of weight and bias, each summed over all that share them; n is the normalised x."""
    gw = gb = None
    if needs[1] and n is not None:
        gw = np.einsum(plan.over_summed[0], g, n).reshape(-1)
    if needs[2]:
        gb = np.add.reduce(g, plan.summed).reshape(-1)
    return gw, gb


def fixed_norm_kernel(
    x: ndarray,
    w: ndarray | None,
    b: ndarray | None,
    mean: ndarray,
    variance: ndarray,
    shape: tuple,
    eps: float,
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
