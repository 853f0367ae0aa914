"""Softmax, layer normalisation and cross-entropy on large arrays (rows, columns), a row at a time,
and batch normalisation, a channel at a time. Imports kernel and mathematics.

Arrays are laid out row by row and of one float type; what is shared by rows (a weight's gradient)
is summed per tile of rows, then over the tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from ..ir.mathematics import exp, log
from ..ir.node import Node, loop, reduce, store
from .items import Kernel, Loops, chunk_of

TYPES = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}


def total(value: Node, *ranges: Node) -> Node:
    """The sum over loops, in an order that SIMD lanes like."""
    return reduce(value, ranges, "add", "reassoc")


class Row:
    """A row of arrays (rows, columns) in a kernel."""

    def __init__(self, loops: Loops, row: Node, columns: Node) -> None:
        self.loops, self.columns, self.base = loops, columns, row * columns

    def over(self) -> Node:
        """A new counter over the columns."""
        return self.loops.vector(self.columns)

    def sum(self, value: Callable[[Node], Node]) -> Node:
        """The sum of the value at each column."""
        c = self.over()
        return total(value(c), c)

    def store(self, array: Node, value: Callable[[Node], Node]) -> Node:
        """The statement that stores the value at each column."""
        c = self.over()
        return loop(c, store(array, self.base + c, value(c)))


def by_rows(body: Callable[..., list[Node]]) -> Callable[..., list[Node]]:
    """A kernel's body from that of a row, `body(row, number of the row, pointers, others)`; the
    first number is that of the columns.
    """

    def build(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
        loops = Loops()
        number = loops(start, stop)
        others = [*numbers[1:], start]
        return [loop(number, *body(Row(loops, number, numbers[0]), number, pointers, others))]

    return build


# -- softmax -----------------------------------------------------------------------------------


def largest(row: Row, x: Node) -> Node:
    """The largest element of the row."""
    c = row.over()
    return reduce(x.load(row.base + c), [c], "max", "reassoc")


def softmax(row: Row, number: Node, pointers: list[Node], others: list[Node]) -> list[Node]:
    """exp(x - max) / sum, by one division for the row."""
    y, x = pointers
    most, at = largest(row, x), row.base
    first = row.store(y, lambda c: exp(x.load(at + c) - most))
    scale = 1.0 / row.sum(lambda c: y.load(at + c))
    return [first, row.store(y, lambda c: y.load(at + c) * scale)]


def log_softmax(row: Row, number: Node, pointers: list[Node], others: list[Node]) -> list[Node]:
    """x - max - log(sum(exp(x - max)))."""
    y, x = pointers
    most, at = largest(row, x), row.base
    logarithm = log(row.sum(lambda c: exp(x.load(at + c) - most)))
    return [row.store(y, lambda c: (x.load(at + c) - most) - logarithm)]


def softmax_back(row: Row, number: Node, pointers: list[Node], others: list[Node]) -> list[Node]:
    """p (t - sum(t p))."""
    y, t, p = pointers
    at = row.base
    whole = row.sum(lambda c: t.load(at + c) * p.load(at + c))
    return [row.store(y, lambda c: t.load(at + c) * p.load(at + c) - p.load(at + c) * whole)]


def log_softmax_back(
    row: Row, number: Node, pointers: list[Node], others: list[Node]
) -> list[Node]:
    """t - exp(l) sum(t)."""
    y, t, l = pointers  # noqa: E741
    at = row.base
    whole = row.sum(lambda c: t.load(at + c))
    return [row.store(y, lambda c: t.load(at + c) - exp(l.load(at + c)) * whole)]


# -- cross-entropy -----------------------------------------------------------------------------


def cross_entropy(row: Row, number: Node, pointers: list[Node], others: list[Node]) -> list[Node]:
    """lse = log(sum(exp(x))), and the loss lse - x[target]."""
    losses, lse, x, target = pointers
    most, at = largest(row, x), row.base
    value = log(row.sum(lambda c: exp(x.load(at + c) - most))) + most
    loss = value - x.load(at + target.load(number))
    return [store(lse, number, value), store(losses, number, loss)]


def cross_entropy_back(
    row: Row, number: Node, pointers: list[Node], others: list[Node]
) -> list[Node]:
    """(exp(x - lse) - one_hot(target)) * scale."""
    gx, x, target, lse, scale = pointers
    at, by, logarithm = row.base, scale.load(number), lse.load(number)
    first = row.store(gx, lambda c: exp(x.load(at + c) - logarithm) * by)
    place = at + target.load(number)
    return [first, store(gx, place, gx.load(place) - by)]


# -- layer normalisation -----------------------------------------------------------------------


def layer_norm(row: Row, number: Node, pointers: list[Node], others: list[Node]) -> list[Node]:
    """(x - mean) / sqrt(variance + eps) * w + b, and both statistics."""
    y, means, variances, x, w, b = pointers
    eps, at = others[0], row.base
    count = row.columns.cast(x.dtype[1:])
    mean = row.sum(lambda c: x.load(at + c)) / count
    variance = row.sum(lambda c: square(x.load(at + c) - mean)) / count
    scale = 1.0 / (variance + eps).unary("sqrt")
    return [
        store(means, number, mean),
        store(variances, number, variance),
        row.store(y, lambda c: (x.load(at + c) - mean) * scale * w.load(c) + b.load(c)),
    ]


def square(x: Node) -> Node:
    """x * x."""
    return x * x


def layer_norm_back(row: Row, number: Node, pointers: list[Node], others: list[Node]) -> list[Node]:
    """With h = g w and n the normalised x: scale * (h - mean(h) - n mean(h n)); and this tile's
    share of the sums of g n and of g over the rows.
    """
    gx, gw, gb, g, x, w, means, variances = pointers
    eps, chunk, start = others
    at, mean = row.base, means.load(number)
    count = row.columns.cast(x.dtype[1:])
    scale = 1.0 / (variances.load(number) + eps).unary("sqrt")
    tile = Node("div", "i64", (start, chunk)) * row.columns

    def n(c: Node) -> Node:
        return (x.load(at + c) - mean) * scale

    def h(c: Node) -> Node:
        return g.load(at + c) * w.load(c)

    mean_h = row.sum(h) / count
    mean_hn = row.sum(lambda c: h(c) * n(c)) / count
    c = row.over()
    stores = [
        store(gx, at + c, (h(c) - mean_h - n(c) * mean_hn) * scale),
        store(gw, tile + c, gw.load(tile + c) + g.load(at + c) * n(c)),
        store(gb, tile + c, gb.load(tile + c) + g.load(at + c)),
    ]
    return [loop(c, *stores)]


# -- batch normalisation -----------------------------------------------------------------------


def channel(
    loops: Loops, channel: Node, images: Node, channels: Node, size: Node
) -> tuple[Node, Node, Node]:
    """Counters over the images and positions of a channel of (N, C, size), and the index."""
    n = loops(0, images)
    i = loops.vector(size)
    return n, i, (n * channels + channel) * size + i


def batch_norm(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
    """The same as `layer_norm` for each channel, with one weight for all of it."""
    y, means, variances, x, w, b = pointers
    *sizes, count, eps = numbers
    loops = Loops()
    number = loops(start, stop)

    def visit() -> tuple[Node, Node, Node]:
        return channel(loops, number, *sizes)

    n, i, at = visit()
    mean = total(x.load(at), n, i) / count
    n, i, at = visit()
    variance = total(square(x.load(at) - mean), n, i) / count
    scale = w.load(number) / (variance + eps).unary("sqrt")
    n, i, at = visit()
    write = loop(n, loop(i, store(y, at, (x.load(at) - mean) * scale + b.load(number))))
    return [loop(number, store(means, number, mean), store(variances, number, variance), write)]


def batch_norm_back(
    pointers: list[Node], numbers: list[Node], start: Node, stop: Node
) -> list[Node]:
    """scale w (g - mean(g) - n mean(g n)), sum(g n), sum(g)."""
    gx, gw, gb, g, x, w, means, variances = pointers
    *sizes, count, eps = numbers
    loops = Loops()
    number = loops(start, stop)
    mean = means.load(number)
    scale = 1.0 / (variances.load(number) + eps).unary("sqrt")

    def visit() -> tuple[Node, Node, Node]:
        return channel(loops, number, *sizes)

    n, i, at = visit()
    sum_g, sum_gn = total(g.load(at), n, i), total(g.load(at) * ((x.load(at) - mean) * scale), n, i)
    by, mean_g, mean_gn = scale * w.load(number), sum_g / count, sum_gn / count
    n, i, at = visit()
    normal = (x.load(at) - mean) * scale
    write = loop(n, loop(i, store(gx, at, (g.load(at) - mean_g - normal * mean_gn) * by)))
    return [loop(number, store(gw, number, sum_gn), store(gb, number, sum_g), write)]


# -- kernels -----------------------------------------------------------------------------------

# By name: the arrays ("f" of the float type, "i" of i64), the numbers ("f" or i64), the body.
KERNELS: dict[str, tuple[str, str, Callable]] = {
    "softmax": ("ff", "i", by_rows(softmax)),
    "log_softmax": ("ff", "i", by_rows(log_softmax)),
    "softmax_back": ("fff", "i", by_rows(softmax_back)),
    "log_softmax_back": ("fff", "i", by_rows(log_softmax_back)),
    "cross_entropy": ("fffi", "i", by_rows(cross_entropy)),
    "cross_entropy_back": ("ffiff", "i", by_rows(cross_entropy_back)),
    "layer_norm": ("ffffff", "if", by_rows(layer_norm)),
    "layer_norm_back": ("ffffffff", "ifi", by_rows(layer_norm_back)),
    "batch_norm": ("ffffff", "iiiff", batch_norm),
    "batch_norm_back": ("ffffffff", "iiiff", batch_norm_back),
}


@cache
def kernel(name: str, dtype: np.dtype) -> Kernel:
    """The compiled kernel for a type."""
    arrays, numbers, body = KERNELS[name]
    kinds = {"f": TYPES[dtype], "i": "i64"}
    return Kernel(name, [kinds[a] for a in arrays], [kinds[n] for n in numbers], body)


def fits(*arrays: Any) -> bool:
    """Whether arrays (None counts) are of one float type and laid out row by row."""
    given = [a for a in arrays if a is not None]
    dtype = given[0].dtype
    return dtype in TYPES and all(a.dtype is dtype and a.flags.c_contiguous for a in given)


def along_rows(name: str, *arrays: ndarray) -> ndarray:
    """A kernel whose result has the shape of its inputs, over rows of the last dimension."""
    x = arrays[0]
    columns = x.shape[-1]
    y = np.empty(x.shape, x.dtype)
    kernel(name, x.dtype)([y, *arrays], [columns], x.size // columns, columns)
    return y


def run_cross_entropy(x: ndarray, target: ndarray) -> tuple[ndarray, ndarray]:
    """The losses and log(sum(exp(x))) of rows (N, C) for classes (N,) that are all in range."""
    n, columns = x.shape
    losses, lse = np.empty(n, x.dtype), np.empty(n, x.dtype)
    kernel("cross_entropy", x.dtype)([losses, lse, x, target], [columns], n, columns)
    return losses, lse


def run_cross_entropy_back(x: ndarray, target: ndarray, lse: ndarray, scale: ndarray) -> ndarray:
    """The gradient of x, with each row's factor."""
    n, columns = x.shape
    gx = np.empty_like(x)
    kernel("cross_entropy_back", x.dtype)([gx, x, target, lse, scale], [columns], n, columns)
    return gx


def affine(x: ndarray, count: int, w: Any, b: Any) -> tuple[ndarray, ndarray]:
    """Weights and biases, ones and zeros where there are none."""
    return (
        np.ones(count, x.dtype) if w is None else w,
        np.zeros(count, x.dtype) if b is None else b,
    )


def run_layer_norm(x: ndarray, w: Any, b: Any, columns: int, eps: float) -> tuple:
    """The normalised rows of `columns` elements, their means and variances."""
    rows = x.size // columns
    y, mean, variance = np.empty(x.shape, x.dtype), np.empty(rows, x.dtype), np.empty(rows, x.dtype)
    arrays = [y, mean, variance, x, *affine(x, columns, w, b)]
    kernel("layer_norm", x.dtype)(arrays, [columns, eps], rows, columns)
    return y, mean, variance


def run_layer_norm_back(
    g: ndarray, x: ndarray, w: Any, mean: ndarray, variance: ndarray, columns: int, eps: float
) -> tuple:
    """The gradients of x, w and b."""
    rows = x.size // columns
    chunk = chunk_of(rows, columns)
    gx, sums = np.empty(x.shape, x.dtype), np.zeros((2, -(-rows // chunk), columns), x.dtype)
    arrays = [gx, sums[0], sums[1], g, x, affine(x, columns, w, w)[0], mean, variance]
    kernel("layer_norm_back", x.dtype)(arrays, [columns, eps, chunk], rows, columns)
    gw, gb = sums.sum(1)
    return gx, gw, gb


def channel_sizes(x: ndarray) -> tuple[list[float], int]:
    """The numbers of a channel kernel but eps, and the number of channels."""
    images, channels = x.shape[:2]
    size = x.size // max(images * channels, 1)
    return [images, channels, size, images * size], channels


def run_batch_norm(x: ndarray, w: Any, b: Any, eps: float) -> tuple:
    """The normalised channels of (N, C, ...), their means and variances."""
    sizes, channels = channel_sizes(x)
    y, statistics = np.empty(x.shape, x.dtype), np.empty((2, channels), x.dtype)
    arrays = [y, statistics[0], statistics[1], x, *affine(x, channels, w, b)]
    kernel("batch_norm", x.dtype)(arrays, [*sizes, eps], channels, x.size // channels)
    return y, statistics[0], statistics[1]


def run_batch_norm_back(
    g: ndarray, x: ndarray, w: Any, mean: ndarray, variance: ndarray, eps: float
) -> tuple:
    """The gradients of x, w and b."""
    sizes, channels = channel_sizes(x)
    gx, sums = np.empty(x.shape, x.dtype), np.empty((2, channels), x.dtype)
    arrays = [gx, sums[0], sums[1], g, x, affine(x, channels, w, w)[0], mean, variance]
    kernel("batch_norm_back", x.dtype)(arrays, [*sizes, eps], channels, x.size // channels)
    return gx, sums[0], sums[1]
