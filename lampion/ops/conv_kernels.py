"""The three sums of convolution on arrays: result, gradient of the input, gradient of the weight.
Imports NumPy, rules, conv_small and large only.

Small convolutions are those of conv_small, large sums of floats are made by compiled kernels.
Elsewhere all three are one matrix product per
block of samples between the weight, the images' columns and the result. Images lie in a flat layout
in which moving the kernel by one output position moves every element it reads by one: rows follow
each other with their left padding between them (which serves as the right padding of the row
before), and an input with strides is split into phases. A column of the matrix is then one
contiguous piece of memory; positions between the rows are computed too and dropped. The columns of
a block stay below `COLUMN_BYTES`.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from . import conv_small as small
from .large import F32, F64, engine
from .rules import in_float32

COLUMN_BYTES = 1 << 21  # small enough for the caches, large enough for BLAS
COMPILED_FROM = 1 << 16  # operations of a convolution from which compiled kernels are worth it


class Steps(NamedTuple):
    """How a kernel moves: one number per dimension each, and the groups that the channels are
    divided into.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


def output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """How many positions a kernel has along one dimension."""
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


class Sliding:
    """Where a kernel lies over an image at each output position, in the flat layout.

    out      positions along each dimension
    length   of a row of columns: from the first to the last position
    steps    from one position to the next along each dimension, in the flat layout
    phases   the residues of stride that the kernel's elements meet
    offsets  (phase, offset) of each element of the kernel
    total    the elements of one phase of one channel
    """

    def __init__(self, size: tuple, kernel: tuple, steps: Steps, out: tuple) -> None:
        stride, padding, dilation, _ = steps
        self.size, self.stride, self.padding, self.out = size, stride, padding, out
        fitted = [max(-(-(n + p) // s), o) for n, p, s, o in zip(size, padding, stride, out)]
        self.grid = (max(-(-(size[0] + 2 * padding[0]) // stride[0]), out[0]), *fitted[1:])
        self.steps = tuple(math.prod(self.grid[d + 1 :]) for d in range(len(size)))
        self.length = 1 + sum((o - 1) * f for o, f in zip(out, self.steps))
        taps = list(
            itertools.product(*[[k * d for k in range(n)] for n, d in zip(kernel, dilation)])
        )
        residues = [tuple(i % s for i, s in zip(t, stride)) for t in taps]
        self.phases = sorted(set(residues))
        shifts = [sum(i // s * f for i, s, f in zip(t, stride, self.steps)) for t in taps]
        self.offsets = [(self.phases.index(r), shift) for r, shift in zip(residues, shifts)]
        self.total = max(math.prod(self.grid), max(shifts) + self.length)
        self.pointwise = math.prod(kernel) == math.prod(stride) == 1 and not any(padding)

    def blocks(
        self, samples: int, channels: int, dtype: np.dtype
    ) -> Iterator[tuple[slice, list[slice], ndarray]]:
        """Slices of samples, within each of positions, whose columns fit the limit, and memory for
        them.
        """
        row = max(channels * len(self.offsets) * dtype.itemsize, 1)
        count = max(min(COLUMN_BYTES // (row * self.length), samples), 1)
        width = min(max(COLUMN_BYTES // row, 256), self.length) if count == 1 else self.length
        positions = [slice(i, min(i + width, self.length)) for i in range(0, self.length, width)]
        memory = np.empty(channels * len(self.offsets) * count * width, dtype)
        for first in range(0, samples, count):
            yield slice(first, min(first + count, samples)), positions, memory

    def places(self, flat: ndarray, image: ndarray) -> Iterator[tuple[ndarray, ndarray]]:
        """For each phase the part of a flat array and the part of an image that belong together."""
        cells = math.prod(self.grid)
        for number, phase in enumerate(self.phases):
            plane = flat[:, :, number, :cells].reshape(*flat.shape[:2], *self.grid)
            to: list[Any] = [...]
            out_of: list[Any] = [...]
            for a, n, s, p in zip(phase, self.size, self.stride, self.padding):
                first = (a - p) % s
                begin = (first + p) // s
                to.append(slice(begin, begin + max(-(-(n - first) // s), 0)))
                out_of.append(slice(first, None, s))
            yield plane[tuple(to)], image[tuple(out_of)]

    def flatten(self, image: ndarray) -> ndarray:
        """(N, C, *size) -> (N, C, phases, total), padded with zeros."""
        flat = np.zeros((*image.shape[:2], len(self.phases), self.total), image.dtype)
        for to, out_of in self.places(flat, image):
            to[...] = out_of
        return flat

    def unflatten(self, flat: ndarray, image: ndarray) -> None:
        """The reverse of `flatten`, into `image`; elements that no position reads become 0."""
        if len(self.phases) < math.prod(self.stride):
            image[...] = 0
        for source, to in self.places(flat, image):
            to[...] = source

    def columns(self, flat: ndarray, positions: slice, memory: ndarray) -> ndarray:
        """(N, C, phases, total) -> (C, K, N, positions): what each element of the kernel reads,
        laid into `memory`.
        """
        n, c = flat.shape[:2]
        shape = (c, len(self.offsets), n, positions.stop - positions.start)
        columns = memory[: math.prod(shape)].reshape(shape)
        channels_first = flat.transpose(1, 0, 2, 3)
        for k, (phase, offset) in enumerate(self.offsets):
            columns[:, k] = channels_first[
                :, :, phase, offset + positions.start : offset + positions.stop
            ]
        return columns

    def add_columns(self, columns: ndarray, flat: ndarray, positions: slice) -> None:
        """The reverse of `columns`: adds what belongs to each element read."""
        channels_first = flat.transpose(1, 0, 2, 3)
        for k, (phase, offset) in enumerate(self.offsets):
            channels_first[:, :, phase, offset + positions.start : offset + positions.stop] += (
                columns[:, k]
            )

    def rows(self, wide: ndarray) -> ndarray:
        """(O, N, length) -> a view (N, O, *out) without the positions between the rows."""
        o, n, step = wide.strides
        strides = (n, o, *[f * step for f in self.steps])
        return np.ndarray((wide.shape[1], wide.shape[0], *self.out), wide.dtype, wide, 0, strides)

    def widen(self, g: ndarray) -> ndarray:
        """(N, O, *out) -> (O, N, length), zero between the rows."""
        n, o = g.shape[:2]
        full = self.length == math.prod(self.out)
        wide = (np.empty if full else np.zeros)((o, n, self.length), g.dtype)
        self.rows(wide)[...] = g
        return wide


sliding = functools.lru_cache(512)(Sliding)


def compiled(x: ndarray, others: tuple[ndarray | None, ...], operations: int) -> Any:
    """The compiled kernels, if they are made for such arrays and worth it, else None."""
    if operations < COMPILED_FROM or x.dtype not in (F32, F64):
        return None
    if any(y is not None and y.dtype != x.dtype for y in others):
        return None
    return engine("conv_arrays")


@in_float32
def conv(x: ndarray, w: ndarray, b: ndarray | None, steps: Steps) -> ndarray:
    """(N, C, *size), (O, C/G, *kernel), (O,) -> (N, O, *out)."""
    made = small.forward(x, w, b, steps)
    if made is not None:
        return made
    (n, c), (o, _, *kernel), groups = x.shape[:2], w.shape, steps.groups
    out = tuple(map(output_size, x.shape[2:], kernel, *steps[:3]))
    native = compiled(x, (w, b), 2 * n * math.prod(out) * w.size)
    if native is not None:
        return native.forward(x, w, b, out, steps)
    plan = sliding(x.shape[2:], tuple(kernel), steps, out)
    y = np.empty((n, o, *out), x.dtype)
    bias = 0 if b is None else b.reshape(-1, *[1] * len(out))
    matrix = w.reshape(groups, o // groups, -1)  # (G, O/G, C/G * K)
    if plan.pointwise:
        np.matmul(
            matrix, x.reshape(n, groups, c // groups, -1), out=y.reshape(n, groups, o // groups, -1)
        )
        return y if b is None else np.add(y, bias, out=y)
    for samples, positions, memory in plan.blocks(n, c, x.dtype):
        flat = plan.flatten(x[samples])
        wide = np.empty((o, len(flat), plan.length), x.dtype)
        for part in positions:
            columns = plan.columns(flat, part, memory).reshape(
                groups, matrix.shape[2], -1
            )  # (G, C/G * K, N * P)
            np.matmul(matrix, columns, out=by_group(wide[..., part], groups))
        np.add(plan.rows(wide), bias, out=y[samples], casting="unsafe")
    return y


@in_float32
def conv_input(x: ndarray, w: ndarray, b: ndarray | None, size: tuple, steps: Steps) -> ndarray:
    """(N, O, *out), (O, C/G, *kernel), (C,) -> (N, C, *size): the gradient of the input, the
    transposed convolution.
    """
    made = small.input_gradient(x, w, b, size, steps)
    if made is not None:
        return made
    (n, o), (_, c, *kernel), groups = x.shape[:2], w.shape, steps.groups
    c *= groups
    native = compiled(x, (w, b), 2 * n * math.prod(x.shape[2:]) * w.size)
    if native is not None:
        return native.input_gradient(x, w, b, size, steps)
    plan = sliding(size, tuple(kernel), steps, x.shape[2:])
    y = np.empty((n, c, *size), x.dtype)
    matrix = w.reshape(groups, o // groups, -1).swapaxes(1, 2)  # (G, C/G * K, O/G)
    if plan.pointwise and x.shape[2:] == size:
        np.matmul(
            matrix, x.reshape(n, groups, o // groups, -1), out=y.reshape(n, groups, c // groups, -1)
        )
    else:
        for samples, positions, memory in plan.blocks(n, c, x.dtype):
            wide = plan.widen(x[samples])
            flat = np.zeros((wide.shape[1], c, len(plan.phases), plan.total), x.dtype)
            for part in positions:
                given = by_group(wide[..., part], groups)
                shape = (groups, matrix.shape[1], given.shape[2])  # (G, C/G * K, N * P)
                columns = np.matmul(matrix, given, out=memory[: math.prod(shape)].reshape(shape))
                plan.add_columns(columns.reshape(c, len(plan.offsets), len(flat), -1), flat, part)
            plan.unflatten(flat, y[samples])
    return y if b is None else np.add(y, b.reshape(-1, *[1] * len(size)), out=y)


@in_float32
def conv_weight(x: ndarray, z: ndarray, kernel: tuple, steps: Steps) -> ndarray:
    """(N, C, *size), (N, O, *out) -> (O, C/G, *kernel): the gradient of the weight."""
    made = small.weight_gradient(x, z, kernel, steps)
    if made is not None:
        return made
    (n, c), o, groups = x.shape[:2], z.shape[1], steps.groups
    native = compiled(x, (z,), 2 * z.size * c // groups * math.prod(kernel))
    if native is not None:
        return native.weight_gradient(x, z, kernel, steps)
    plan = sliding(x.shape[2:], kernel, steps, z.shape[2:])
    w = np.zeros((groups, o // groups, c // groups * math.prod(kernel)), x.dtype)
    if plan.pointwise and x.shape[2:] == z.shape[2:]:
        columns = (
            x.reshape(n, c, -1).swapaxes(0, 1).reshape(groups, c // groups, -1)
        )  # (G, C/G, N * P)
        w = np.matmul(by_group(plan.widen(z), groups), columns.swapaxes(1, 2))
    else:
        for samples, positions, memory in plan.blocks(n, c, x.dtype):
            flat, wide = plan.flatten(x[samples]), plan.widen(z[samples])
            for part in positions:
                columns = plan.columns(flat, part, memory).reshape(
                    groups, w.shape[2], -1
                )  # (G, C/G * K, N * P)
                w += np.matmul(by_group(wide[..., part], groups), columns.swapaxes(1, 2))
    return w.reshape(o, c // groups, *kernel)


def by_group(wide: ndarray, groups: int) -> ndarray:
    """(O, N, P) -> (G, O/G, N * P), a view: a part of the positions is taken of single samples
    only.
    """
    o, n, p = wide.shape
    return (
        wide.reshape(groups, o // groups, n * p)
        if n != 1
        else wide[:, 0].reshape(groups, o // groups, p)
    )


# -- sliding blocks ----------------------------------------------------------------------------


def taps(
    image: ndarray, kernel: tuple, steps: Steps, out: tuple
) -> Iterator[tuple[tuple, ndarray]]:
    """Each element of a kernel: its place and the part of a padded (N, C, *size) that it reads."""
    for at, part in tap_slices(kernel, steps, out):
        yield at, image[part]


@functools.lru_cache(256)
def tap_slices(kernel: tuple, steps: Steps, out: tuple) -> list[tuple[tuple, tuple]]:
    """The places and slices of `taps`."""
    found = []
    for at in itertools.product(*map(range, kernel)):
        begins = [k * d for k, d in zip(at, steps.dilation)]
        found.append(
            (
                at,
                (
                    ...,
                    *[
                        slice(b, b + (o - 1) * s + 1, s)
                        for b, o, s in zip(begins, out, steps.stride)
                    ],
                ),
            )
        )
    return found


def unfold(x: ndarray, kernel: tuple, steps: Steps) -> ndarray:
    """(N, C, *size) -> (N, C * K, L): the block of the image under each position of a kernel."""
    out = tuple(map(output_size, x.shape[2:], kernel, *steps[:3]))
    padded = np.pad(x, [(0, 0), (0, 0), *[(p, p) for p in steps.padding]])
    blocks = np.empty((*x.shape[:2], *kernel, *out), x.dtype)
    for at, part in taps(padded, kernel, steps, out):
        blocks[(slice(None), slice(None), *at)] = part
    return blocks.reshape(len(x), x.shape[1] * math.prod(kernel), math.prod(out))


def fold(x: ndarray, size: tuple, kernel: tuple, steps: Steps) -> ndarray:
    """(N, C * K, L) -> (N, C, *size): the sum of the blocks, each at its place; the adjoint of
    `unfold`.
    """
    out = tuple(map(output_size, size, kernel, *steps[:3]))
    channels = x.shape[1] // math.prod(kernel)
    blocks = x.reshape(len(x), channels, *kernel, *out)
    padded = np.zeros(
        (len(x), channels, *[n + 2 * p for n, p in zip(size, steps.padding)]), x.dtype
    )
    for at, part in taps(padded, kernel, steps, out):
        part += blocks[(slice(None), slice(None), *at)]
    inner: tuple[Any, ...] = tuple(slice(p, p + n) for n, p in zip(size, steps.padding))
    return np.ascontiguousarray(padded[(..., *inner)])
