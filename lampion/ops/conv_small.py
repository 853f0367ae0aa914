"""Convolutions of few numbers on arrays: as few calls of NumPy as possible. Imports NumPy only.

What a kernel reads is a view of the framed image with a dimension per dimension of the kernel and
of the result (`im2col`); laid out as a matrix it meets the weights in one product. The gradient of
the input is the same sum over the gradient of the result, spread out by the stride and framed,
with the kernel turned round. All that follows from shapes is kept.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

MOST_OPERATIONS = 1 << 16  # above, columns of blocks or compiled kernels are faster


class Reading(NamedTuple):
    """How columns are read from an image, in elements.

    frame    the shape of the image with zeros around and between its elements, (N, C, *frame)
    inside   where the image lies in it, and the part of the image that does; None where the frame
             is the image
    window   (N, C, *kernel, *out), the strides in bytes beside it
    """

    frame: tuple[int, ...]
    inside: tuple[tuple, tuple] | None
    window: tuple[int, ...]
    strides: tuple[int, ...]

    def columns(self, x: ndarray) -> ndarray:
        """The view (N, C, *kernel, *out) of the framed image."""
        if self.inside is None:
            framed = np.ascontiguousarray(x)
        else:
            framed = np.zeros(self.frame, x.dtype)
            to, out_of = self.inside
            framed[to] = x[out_of]
        return np.ndarray(self.window, x.dtype, framed, 0, self.strides)


def reading(
    lead: tuple[int, ...], frame: list[int], kernel: tuple, out: tuple, step: tuple,
    dilation: tuple, inside: tuple[tuple, tuple] | None, itemsize: int,
) -> Reading:  # fmt: skip
    """The reading of `out` positions, `step` apart, by taps that lie `dilation` apart."""
    shape = (*lead, *frame)
    along = [math.prod(shape[d + 1 :]) * itemsize for d in range(len(shape))]
    strides = (
        *along[:2],
        *[s * d for s, d in zip(along[2:], dilation)],
        *[s * d for s, d in zip(along[2:], step)],
    )
    return Reading(shape, inside, (*lead, *kernel, *out), strides)


class Small(NamedTuple):
    """A reading, and the shapes of the product: `matrix` of the weights, `columns`, the result's
    own, and that of a bias.
    """

    reading: Reading
    matrix: tuple[int, ...]
    columns: tuple[int, ...]
    result: tuple[int, ...]
    bias: tuple[int, ...]


def few(images: int, positions: tuple, w: tuple) -> bool:
    """Whether a convolution with weights of shape `w` is small."""
    count = 2 * images * math.prod(positions) * math.prod(w)
    return 0 < count < MOST_OPERATIONS


@functools.lru_cache(1024)
def forward_plan(x: tuple, w: tuple, steps: Any, itemsize: int) -> Small | None:
    """The plan of the convolution of images and weights of these shapes; None for large ones."""
    (n, c, *size), (o, _, *kernel), groups = x, w, steps.groups
    each = zip(size, kernel, *steps[:3])
    out = tuple([(i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, s, p, d in each])
    if not few(n, out, w):
        return None
    inside = None
    if any(steps.padding):
        parts = [slice(p, p + i) for p, i in zip(steps.padding, size)]
        inside = (..., *parts), (...,)
    frame = [i + 2 * p for i, p in zip(size, steps.padding)]
    read = reading(
        (n, c), frame, tuple(kernel), out, steps.stride, steps.dilation, inside, itemsize
    )
    depth = c // groups * math.prod(kernel)
    return Small(
        read, (groups, o // groups, depth), (n, groups, depth, math.prod(out)), (n, o, *out),
        (o, *[1] * len(out)),
    )  # fmt: skip


@functools.lru_cache(1024)
def input_plan(y: tuple, w: tuple, size: tuple, steps: Any, itemsize: int) -> Small | None:
    """The plan of the gradient of images of `size` from that of a result of shape `y`."""
    (n, o, *out), (_, c, *kernel), groups = y, w, steps.groups
    if not few(n, size, w) or 0 in out:
        return None
    frame, to, out_of = [], [], []
    for i, k, m, s, p, d in zip(size, kernel, out, *steps[:3]):
        frame.append(i + (k - 1) * d)
        low = (k - 1) * d - p  # where the first position of the result lies
        first = max(-(low // s), 0)
        end = max(min((frame[-1] - 1 - low) // s + 1, m), first)
        to.append(slice(first * s + low, max((end - 1) * s + low + 1, first * s + low), s))
        out_of.append(slice(first, end))
    inside = (..., *to), (..., *out_of)
    ones = (1,) * len(size)
    read = reading((n, o), frame, tuple(kernel), size, ones, steps.dilation, inside, itemsize)
    taps, channels = math.prod(kernel), c * groups
    return Small(
        read, (groups, o // groups, c, taps), (n, groups, o // groups * taps, math.prod(size)),
        (n, channels, *size), (channels, *[1] * len(size)),
    )  # fmt: skip


@functools.lru_cache(1024)
def weight_plan(x: tuple, z: tuple, kernel: tuple, steps: Any, itemsize: int) -> Small | None:
    """The plan of the gradient of weights from images and the gradient of the result."""
    (n, c, *_), (_, o, *out), groups = x, z, steps.groups
    shape = (o, c // groups, *kernel)
    plan = forward_plan(x, shape, steps, itemsize)
    if plan is None or plan.result != z:
        return None
    read = plan.reading
    spatial = len(kernel)
    order = (1, *range(2, 2 + spatial), 0, *range(2 + spatial, 2 + 2 * spatial))
    turned = read._replace(
        window=tuple([read.window[d] for d in order]),
        strides=tuple([read.strides[d] for d in order]),
    )  # (C, *kernel, N, *out)
    positions = n * math.prod(out)
    return Small(
        turned, (groups, o // groups, positions),
        (groups, c // groups * math.prod(kernel), positions), shape, (),
    )  # fmt: skip


def forward(x: ndarray, w: ndarray, b: ndarray | None, steps: Any) -> ndarray | None:
    """(N, C, *size), (O, C/G, *kernel), (O,) -> (N, O, *out); None where that is much work."""
    plan = forward_plan(x.shape, w.shape, steps, x.itemsize)
    if plan is None or w.dtype != x.dtype:
        return None
    columns = plan.reading.columns(x).reshape(plan.columns)  # (N, G, C/G * K, P)
    y = np.matmul(w.reshape(plan.matrix), columns).reshape(plan.result)
    return y if b is None else np.add(y, b.reshape(plan.bias), out=y, casting="unsafe")


def input_gradient(
    y: ndarray, w: ndarray, b: ndarray | None, size: tuple, steps: Any
) -> ndarray | None:
    """(N, O, *out), (O, C/G, *kernel), (C,) -> (N, C, *size); None where that is much work."""
    plan = input_plan(y.shape, w.shape, size, steps, y.itemsize)
    if plan is None or w.dtype != y.dtype:
        return None
    columns = plan.reading.columns(y).reshape(plan.columns)  # (N, G, O/G * K, P)
    groups, outputs, channels, taps = plan.matrix
    turned = w.reshape(plan.matrix)[..., ::-1].swapaxes(1, 2)  # (G, C/G, O/G, K)
    matrix = turned.reshape(groups, channels, outputs * taps)
    x = np.matmul(matrix, columns).reshape(plan.result)
    return x if b is None else np.add(x, b.reshape(plan.bias), out=x)


def weight_gradient(x: ndarray, z: ndarray, kernel: tuple, steps: Any) -> ndarray | None:
    """(N, C, *size), (N, O, *out) -> (O, C/G, *kernel); None where that is much work."""
    plan = weight_plan(x.shape, z.shape, kernel, steps, x.itemsize)
    if plan is None or z.dtype != x.dtype:
        return None
    columns = plan.reading.columns(x).reshape(plan.columns)  # (G, C/G * K, N * P)
    rows = z.swapaxes(0, 1).reshape(plan.matrix)  # (G, O/G, N * P)
    return np.matmul(rows, columns.swapaxes(1, 2)).reshape(plan.result)
