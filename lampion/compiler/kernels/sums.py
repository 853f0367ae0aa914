"""Sums of large arrays that `reduced` has not: of channels, and of rows into those of a table.
Imports rowwise and earlier files.

An array laid out row by row is seen as (outer, kept, inner), where outer and inner are summed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from numpy import ndarray

from ..ir.node import Node, loop, store
from .items import Kernel, Loops
from .rowwise import TYPES, channel, total

SHORTEST = 16  # elements of a row that are worth a compiled loop
STRIP = 64  # columns that one thread adds to


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
    """The shape as (outer, kept, inner), None where it is not three groups of dimensions."""
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
    return (sizes[0], sizes[1], sizes[2]) if kinds == [True, False, True] else None


def sum_over(x: ndarray, dims: tuple[int, ...]) -> ndarray | None:
    """The sums over dimensions (not negative) around others in a flat array, None for arrays that
    NumPy sums as well. What is side by side in memory is summed by `reduced`.
    """
    found = seen(x.shape, dims)
    if found is None or x.dtype not in TYPES or not x.flags.c_contiguous:
        return None
    outer, kept, inner = found
    if inner < SHORTEST:
        return None
    sums = np.empty(kept, x.dtype)
    kernel("channels", x.dtype)([sums, x], [outer, kept, inner], kept, outer * inner)
    return sums
