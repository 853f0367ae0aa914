"""Pooling on arrays, over the last dimensions: windows, their sums and maxima, and where a maximum
was. Imports NumPy, rules, large, conv_kernels and pool_small only.

Small images are pooled by pool_small, large arrays of floats by compiled kernels. Elsewhere sums
and maxima are taken dimension by dimension, so a window of k x k costs 2 k passes and not k^2. What
is remembered of a maximum is the number of the window's element that it was, found when a gradient
or an index is wanted.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from . import pool_small as small
from .conv_kernels import Steps, taps
from .large import F32, F64, engine
from .rules import in_float32

COMPILED_FROM = 1 << 12  # elements of an image from which compiled kernels are worth it
WIDEST = 1 << 14  # columns of an image that they have room for


class Windows(NamedTuple):
    """Windows over an image of a given size; `divisor` and `count_padding` say how an average
    divides.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    steps: Steps
    out: tuple[int, ...]
    count_padding: bool = True
    divisor: int | None = None


def window_count(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """How many windows fit; with `ceil_mode` also the last one that still begins inside."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (room + (stride - 1) * ceil_mode) // stride + 1
    return count - (ceil_mode and (count - 1) * stride >= size + padding)


def compiled(x: ndarray, plan: Windows, *others: ndarray) -> Any:
    """The compiled kernels, if they are made for such arrays and worth it, else None."""
    columns = plan.size[-1] + plan.kernel[-1] * plan.steps.dilation[-1] + 64 * plan.steps.stride[-1]
    elements = math.prod(x.shape[: x.ndim - len(plan.size)]) * math.prod(plan.size)
    if elements < COMPILED_FROM or columns > WIDEST or x.dtype not in (F32, F64) or not x.size:
        return None
    if any(other.shape != x.shape for other in others):
        return None
    return engine("pool_arrays")


def padded(x: ndarray, plan: Windows, fill: float) -> ndarray:
    """The image with all that the windows reach."""
    pads, steps = [], plan.steps
    for n, k, o, s, p, d in zip(plan.size, plan.kernel, plan.out, *steps[:3]):
        pads.append((p, max((o - 1) * s + d * (k - 1) + 1 - n - p, 0)))
    if not any(map(any, pads)):
        return x
    shape = [n + a + b for n, (a, b) in zip(plan.size, pads)]
    y = np.full((*x.shape[: x.ndim - len(shape)], *shape), fill, x.dtype)
    inside(y, plan)[...] = x
    return y


def inside(y: ndarray, plan: Windows) -> ndarray:
    """The part of a padded image that is the image."""
    inner: tuple = tuple(slice(p, p + n) for p, n in zip(plan.steps.padding, plan.size))
    return y[(..., *inner)]


def along(x: ndarray, plan: Windows, dim: int, k: int) -> ndarray:
    """Element k of the windows along one dimension."""
    step, begin = plan.steps.stride[dim], k * plan.steps.dilation[dim]
    piece: Any = slice(begin, begin + (plan.out[dim] - 1) * step + 1, step)
    rest: tuple = (slice(None),) * (len(plan.size) - dim - 1)
    return x[(..., piece, *rest)]


def reduce_windows(x: ndarray, plan: Windows, ufunc: np.ufunc, fill: float) -> ndarray:
    """A reduction over each window, dimension by dimension."""
    made = small.reduced(x, plan, ufunc, fill)
    if made is not None:
        return made
    x = padded(x, plan, fill)
    n = len(plan.size)
    for dim, k in enumerate(plan.kernel):
        if plan.out[dim] == 1 and plan.steps.dilation[dim] == 1:
            window: tuple = (..., slice(k), *[slice(None)] * (n - dim - 1))
            x = ufunc.reduce(x[window], dim - n, keepdims=True)
        else:
            y = along(x, plan, dim, 0).copy()
            for i in range(1, k):
                ufunc(y, along(x, plan, dim, i), out=y)
            x = y
    return x


# -- averages ----------------------------------------------------------------------------------


@functools.lru_cache(256)
def divisors(plan: Windows, dtype: np.dtype) -> ndarray:
    """How many elements each window's sum is divided by, as an array that broadcasts."""
    if plan.divisor is not None:
        return np.array(plan.divisor, dtype)
    result = np.ones((), dtype)
    for n, k, o, s, p in zip(plan.size, plan.kernel, plan.out, *plan.steps[:2]):
        begin = np.arange(o) * s - p
        end = np.minimum(begin + k, n + p)
        if not plan.count_padding:
            begin, end = np.maximum(begin, 0), np.minimum(end, n)
        result = result[..., None] * (end - begin).astype(dtype)
    return (
        result.reshape(-1)[0] if result.size and (result == result.reshape(-1)[0]).all() else result
    )


@in_float32
def average(x: ndarray, plan: Windows) -> ndarray:
    """The mean of each window; of integers, cut to integers."""
    native = compiled(x, plan)
    if native is not None:
        return native.reduced("average", x, plan)
    y = reduce_windows(x, plan, np.add, 0)
    if y.dtype.kind in "iu":
        return np.trunc(y / divisors(plan, np.dtype(float))).astype(y.dtype)
    y /= divisors(plan, y.dtype)
    return y


@in_float32
def spread(g: ndarray, plan: Windows) -> ndarray:
    """The adjoint of `average`: each window's share goes to all of its elements."""
    native = compiled(g, plan)
    if native is not None:
        return native.spread(g, plan)
    x = g / divisors(plan, g.dtype)
    made = small.spread(x, plan)
    if made is not None:
        return made
    shape = list(x.shape)
    for dim in reversed(range(len(plan.size))):
        axis = len(shape) - len(plan.size) + dim
        reach = (plan.out[dim] - 1) * plan.steps.stride[dim] + plan.kernel[dim]
        shape[axis] = max(reach, plan.size[dim] + plan.steps.padding[dim])
        y = np.zeros(shape, x.dtype)
        for k in range(plan.kernel[dim]):
            piece = along(y, plan, dim, k)
            piece += x
        x = y
    return np.ascontiguousarray(inside(x, plan))


# -- maxima ------------------------------------------------------------------------------------


def lowest(dtype: np.dtype) -> float:
    """What never wins a maximum."""
    return np.iinfo(dtype).min if dtype.kind in "iu" else -math.inf


def maximum(x: ndarray, plan: Windows) -> ndarray:
    """The largest element of each window; NaN if there is one."""
    native = compiled(x, plan)
    if native is not None:
        return native.reduced("maximum", x, plan)
    return reduce_windows(x, plan, np.maximum, lowest(x.dtype))


def winners(x: ndarray, y: ndarray, plan: Windows) -> ndarray:
    """The number of the element of each window that is its maximum: the first of equal ones, the
    last NaN.
    """
    native = compiled(x, plan)
    if native is not None:
        return native.winners(x, y, plan)
    made = small.winners(x, y, plan)
    if made is not None:
        return made
    dtype: Any = np.dtype(np.uint8 if math.prod(plan.kernel) < 255 else np.uint32)
    unset = np.iinfo(dtype).max
    chosen = np.full(y.shape, unset, dtype)
    floating = x.dtype.kind not in "iu"
    x = padded(x, plan, math.nan if floating else lowest(x.dtype))
    for number, (_, part) in enumerate(taps(x, plan.kernel, plan.steps, plan.out)):
        lost = np.negative((part != y).astype(dtype))  # 0 or the largest number
        np.minimum(chosen, np.maximum(lost, number, out=lost), out=chosen)
    if floating and (chosen == unset).any():
        for number, (at, part) in enumerate(taps(x, plan.kernel, plan.steps, plan.out)):
            real = np.isnan(part) & np.isnan(y) & within(plan, at)
            np.copyto(chosen, number, where=real, casting="unsafe")
    return chosen


def positions(plan: Windows, at: tuple) -> list[ndarray]:
    """Where element `at` of each window lies, per dimension, as arrays that broadcast."""
    places = [np.arange(o) * s - p + k * d for o, s, p, d, k in zip(plan.out, *plan.steps[:3], at)]
    return np.ix_(*places)  # type: ignore[return-value]


def within(plan: Windows, at: tuple) -> ndarray:
    """Whether element `at` of each window lies in the image and not in its padding."""
    result = np.array(True)
    for place, n in zip(positions(plan, at), plan.size):
        result = result & (place >= 0) & (place < n)
    return result


def indices(chosen: ndarray, plan: Windows) -> ndarray:
    """The winners' places in the flattened image."""
    result = np.zeros(chosen.shape, np.int64)
    for number, at in enumerate(itertools.product(*map(range, plan.kernel))):
        flat = np.zeros((), np.int64)
        for place, n in zip(positions(plan, at), plan.size):
            flat = flat * n + place
        np.copyto(result, flat, where=chosen == number)
    return result


def masked(x: ndarray, mask: ndarray) -> ndarray:
    """x where the mask holds, else 0; by its bits, which is three times as fast as `np.where`."""
    bits = f"i{x.itemsize}"
    if x.itemsize > 8:
        return np.where(mask, x, 0)
    return np.bitwise_and(x.view(bits), np.negative(mask.view(np.int8), dtype=bits)).view(x.dtype)


def put_at(g: ndarray, chosen: ndarray, plan: Windows) -> ndarray:
    """Adds each window's value to the element that was chosen; the adjoint of `take_at`."""
    native = compiled(g, plan, chosen)
    if native is not None:
        return native.put_at(g, chosen, plan)
    made = small.put_at(g, chosen, plan)
    if made is not None:
        return made
    y = padded(np.zeros((*g.shape[: g.ndim - len(plan.size)], *plan.size), g.dtype), plan, 0)
    apart = all(
        s > d * (k - 1) for s, d, k in zip(plan.steps.stride, plan.steps.dilation, plan.kernel)
    )
    for number, (_, part) in enumerate(taps(y, plan.kernel, plan.steps, plan.out)):
        value = masked(g, chosen == number)
        if apart:
            part[...] = value
        else:
            part += value
    return np.ascontiguousarray(inside(y, plan))


def take_at(x: ndarray, chosen: ndarray, plan: Windows) -> ndarray:
    """The element of each window that was chosen."""
    y = np.zeros(
        np.broadcast_shapes((*x.shape[: x.ndim - len(plan.size)], *plan.out), chosen.shape), x.dtype
    )
    for number, (_, part) in enumerate(taps(padded(x, plan, 0), plan.kernel, plan.steps, plan.out)):
        y += masked(part, chosen == number)
    return y
