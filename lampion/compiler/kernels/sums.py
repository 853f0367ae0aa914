"""Sums of large arrays: of all elements, of rows, across rows, of channels. Imports rowwise and
earlier files.

An array laid out row by row is seen as (outer, kept, inner), where outer and inner are summed.
Tiles leave partial sums, which are added in their order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from numpy import ndarray

from ..ir.node import Node, constant, loop, store
from .items import Kernel, Loops, chunk_of
from .rowwise import TYPES, Row, by_rows, channel, total

BLOCK = 4  # rows that are added before they are added to the sum
SHORTEST = 16  # elements of a row that are worth a compiled loop
STRIP = 64  # columns that one thread adds to
LONGEST, MANY = 1 << 13, 64  # columns that stay in the first-level cache, rows to be added up


def everything(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
    """The sum of the elements of a tile."""
    sums, x = pointers
    i = Loops()(start, stop, "vector")
    return [store(sums, Node("div", "i64", (start, numbers[0])), total(x.load(i), i))]


def of_row(row: Row, number: Node, pointers: list[Node], others: list[Node]) -> list[Node]:
    """The sum of a row."""
    sums, x = pointers
    return [store(sums, number, row.sum(lambda c: x.load(row.base + c)))]


def across(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
    """A tile's sums of columns, four rows at a time."""
    sums, x = pointers
    columns, chunk = numbers
    loops, four = Loops(), constant(BLOCK, "i64")
    tile = Node("div", "i64", (start, chunk)) * columns
    blocks = Node("div", "i64", (stop - start, four))
    block = loops(0, blocks)
    c = loops.vector(columns)
    rows = [(start + block * BLOCK + k) * columns + c for k in range(BLOCK)]
    group = (x.load(rows[0]) + x.load(rows[1])) + (x.load(rows[2]) + x.load(rows[3]))
    first = loop(block, loop(c, store(sums, tile + c, sums.load(tile + c) + group)))
    row = loops(start + blocks * BLOCK, stop)
    c = loops.vector(columns)
    one = sums.load(tile + c) + x.load(row * columns + c)
    return [first, loop(row, loop(c, store(sums, tile + c, one)))]


def of_channel(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
    """The sum of a channel of (N, C, size)."""
    sums, x = pointers
    loops = Loops()
    number = loops(start, stop)
    n, i, at = channel(loops, number, *numbers)
    return [loop(number, store(sums, number, total(x.load(at), n, i)))]


def into_rows(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
    """table[index[r]] += x[r] for all rows, in their order; an item is a strip of columns."""
    table, x, index = pointers
    count, columns = numbers
    loops = Loops()
    row = loops(0, count)
    c = loops(start * STRIP, (stop * STRIP).min(columns), "vector")
    at = index.load(row) * columns + c
    return [loop(row, loop(c, store(table, at, table.load(at) + x.load(row * columns + c))))]


KERNELS: dict[str, tuple[int, Callable]] = {  # how many numbers, the body
    "everything": (1, everything),
    "rows": (1, by_rows(of_row)),
    "across": (2, across),
    "channels": (3, of_channel),
    "into_rows": (2, into_rows),
}


@cache
def kernel(name: str, dtype: np.dtype) -> Kernel:
    """The compiled kernel for a type."""
    numbers, body = KERNELS[name]
    arrays = [TYPES[dtype]] * 2 + ["i64"] * (name == "into_rows")
    return Kernel(f"sum_{name}", arrays, ["i64"] * numbers, body)


def add_rows(x: ndarray, index: ndarray, rows: int) -> ndarray | None:
    """The table (rows, columns) to which each row of x is added at its number; None for arrays
    that this is not made for.
    """
    if x.dtype not in TYPES or index.dtype != np.int64 or not x.size:
        return None
    if index.min() < 0 or index.max() >= rows:
        return None
    columns = x.size // index.size
    table = np.zeros((rows, columns), x.dtype)
    arrays = [table, np.ascontiguousarray(x), np.ascontiguousarray(index)]
    strips = -(-columns // STRIP)
    kernel("into_rows", x.dtype)(arrays, [index.size, columns], strips, index.size * STRIP)
    return table


@lru_cache(1024)
def seen(shape: tuple[int, ...], dims: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The shape as (outer, kept, inner), None where more than that is needed."""
    sizes: list[int] = []
    kinds: list[bool] = []
    for d, n in enumerate(shape):
        if n == 1:
            continue
        if kinds and kinds[-1] == (d in dims):
            sizes[-1] *= n
        else:
            sizes.append(n)
            kinds.append(d in dims)
    if kinds == [True]:
        return 1, 1, sizes[0]
    if kinds == [False, True]:
        return 1, sizes[0], sizes[1]
    if kinds == [True, False]:
        return sizes[0], sizes[1], 1
    return (sizes[0], sizes[1], sizes[2]) if kinds == [True, False, True] else None


def sum_over(x: ndarray, dims: tuple[int, ...]) -> ndarray | None:
    """The sums over dimensions (not negative) in a flat array, None for arrays that NumPy sums as
    well.
    """
    found = seen(x.shape, dims)
    if found is None or x.dtype not in TYPES or not x.flags.c_contiguous:
        return None
    outer, kept, inner = found
    if kept == 1 and outer == 1:
        chunk = chunk_of(inner, 1)
        parts = np.empty(-(-inner // chunk), x.dtype)
        kernel("everything", x.dtype)([parts, x], [chunk], inner, 1)
        return parts.sum(keepdims=True)
    if inner == 1:
        if not SHORTEST <= kept <= LONGEST or outer < MANY:
            return None
        chunk = chunk_of(outer, kept)
        parts = np.zeros((-(-outer // chunk), kept), x.dtype)
        kernel("across", x.dtype)([parts, x], [kept, chunk], outer, kept)
        return parts.sum(0)
    if inner < SHORTEST:
        return None
    sums = np.empty(kept, x.dtype)
    if outer == 1:
        kernel("rows", x.dtype)([sums, x], [inner], kept, inner)
    else:
        kernel("channels", x.dtype)([sums, x], [outer, kept, inner], kept, outer * inner)
    return sums
