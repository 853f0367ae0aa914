"""Pooling of few numbers on arrays: as few calls of NumPy as possible. Imports NumPy only.

All windows are one view of the image, (*kernel, ..., *out), that is reduced over its first
dimensions. All that follows from shapes is kept. `plan` is a `pool_kernels.Windows`.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

MOST_ELEMENTS = 1 << 12  # above, passes over one dimension after the other are faster
MOST_TAPS = 255  # numbers of a window's elements are bytes


class Reading(NamedTuple):
    """How windows are read from an image.

    frame    the shape of the image with its padding
    inside   where the image lies in it; None where the frame is the image
    window   (*kernel, ..., *out), its strides in bytes, and the dimensions of the kernel
    apart    whether no element lies in two windows
    seen     whether each window has an element that is not padding
    """

    frame: tuple[int, ...]
    inside: tuple | None
    window: tuple[int, ...]
    strides: tuple[int, ...]
    taps: tuple[int, ...]
    apart: bool
    seen: bool

    def view(self, x: ndarray, fill: float) -> ndarray:
        """The view of all windows of x."""
        if self.inside is None:
            framed = np.ascontiguousarray(x)
        else:
            framed = np.full(self.frame, fill, x.dtype)
            framed[self.inside] = x
        return np.ndarray(self.window, x.dtype, framed, 0, self.strides)


@functools.lru_cache(1024)
def reading(x: tuple, plan: Any, itemsize: int) -> Reading | None:
    """The reading of an image of shape x = (..., *size); None for large ones."""
    n = len(plan.size)
    lead = x[: len(x) - n]
    stride, padding, dilation = plan.steps[:3]
    each = list(zip(plan.size, plan.kernel, plan.out, stride, padding, dilation))
    reach = [(o - 1) * s + d * (k - 1) + 1 - p for _, k, o, s, p, d in each]
    frame = (*lead, *[p + max(m, r) for m, p, r in zip(plan.size, padding, reach)])
    few = math.prod(x) > 0 and math.prod(frame) < MOST_ELEMENTS
    if not few or math.prod(plan.kernel) >= MOST_TAPS:
        return None
    along = [math.prod(frame[d + 1 :]) * itemsize for d in range(len(frame))]
    last = along[len(lead) :]
    strides = (
        *[a * d for a, d in zip(last, dilation)],
        *along[: len(lead)],
        *[a * s for a, s in zip(last, stride)],
    )
    inside = None
    if frame != x:
        inside = (..., *[slice(p, p + m) for p, m in zip(padding, plan.size)])
    apart = all(s > d * (k - 1) for _, k, _, s, _, d in each)
    seen = all(
        any(0 <= i * s - p + j * d < m for j in range(k))
        for m, k, o, s, p, d in each
        for i in range(o)
    )
    window = (*plan.kernel, *lead, *plan.out)
    return Reading(frame, inside, window, strides, tuple(range(n)), apart, seen)


def reduced(x: ndarray, plan: Any, ufunc: np.ufunc, fill: float) -> ndarray | None:
    """A reduction of each window: (..., *size) -> (..., *out); None for large images."""
    read = reading(x.shape, plan, x.itemsize)
    return None if read is None else ufunc.reduce(read.view(x, fill), read.taps, x.dtype)


def spread(x: ndarray, plan: Any) -> ndarray | None:
    """Each number to all elements of its window: (..., *out) -> (..., *size); None for large
    images and for windows that overlap.
    """
    shape = (*x.shape[: x.ndim - len(plan.size)], *plan.size)
    read = reading(shape, plan, x.itemsize)
    if read is None or not read.apart or read.inside is not None:
        return None
    y = np.zeros(shape, x.dtype)
    read.view(y, 0)[...] = x
    return y


def winners(x: ndarray, y: ndarray, plan: Any) -> ndarray | None:
    """The number of each window's largest element, y, the first of equal ones; None for large
    images and where a maximum is not finite.
    """
    read = reading(x.shape, plan, x.itemsize)
    if read is None or x.dtype.kind != "f" or not np.isfinite(y).all():
        return None
    columns = read.view(x, -math.inf).reshape(-1, *y.shape)  # (K, ..., *out)
    return columns.argmax(0).astype(np.uint8)


@functools.lru_cache(256)
def places(x: tuple, plan: Any) -> tuple[ndarray, ndarray]:
    """Where each window's first element lies in the flattened image of shape x, and how far from
    there the others do.
    """
    n = len(plan.size)
    stride, padding, dilation = plan.steps[:3]
    rows = [math.prod(plan.size[d + 1 :]) for d in range(n)]
    image = math.prod(plan.size)
    first = np.arange(0, math.prod(x), image).reshape(*x[: len(x) - n], *[1] * n)
    for d, (o, s, p) in enumerate(zip(plan.out, stride, padding)):
        first = first + ((np.arange(o) * s - p) * rows[d]).reshape(-1, *[1] * (n - d - 1))
    steps = np.zeros((), np.int64)
    for k, t, row in zip(plan.kernel, dilation, rows):
        steps = steps[..., None] + np.arange(k) * (t * row)
    return first, steps.reshape(-1)


def put_at(g: ndarray, chosen: ndarray, plan: Any) -> ndarray | None:
    """Each window's value where the element was that it chose: (..., *out) -> (..., *size); None
    for large images and where a window has chosen nothing.
    """
    shape = (*g.shape[: g.ndim - len(plan.size)], *plan.size)
    read = reading(shape, plan, g.itemsize)
    if read is None or not read.seen or g.shape != chosen.shape or g.itemsize < 4:
        return None
    first, steps = places(shape, plan)
    at = steps[chosen]
    at += first
    y = np.zeros(shape, g.dtype)
    if read.apart:
        y.reshape(-1)[at] = g
    else:
        np.add.at(y.reshape(-1), at, g)
    return y
