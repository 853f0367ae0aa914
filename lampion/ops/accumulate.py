"""Adding values at indices, on raw arrays: the gradient of every kind of indexing. May import
errors and NumPy.

NumPy's `add.at` is fast for few values and for single numbers. Many rows are added in rounds
instead: each round adds at most one row to each place, by plain indexing; where one place gets very
many rows, sorted rows are summed.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy import ndarray

FEW = 4096  # values up to which `add.at` is the fastest
ROUNDS = 64  # rows of one place up to which rounds are
LOW_PRECISION = {"float16", "bfloat16"}


def out_of_bounds(index: ndarray, size: int, dim: int) -> IndexError | None:
    """PyTorch's error for the first index that lies outside of a dimension, if there is one."""
    if index.size == 0:
        return None
    if size == 0:
        return IndexError("index is out of bounds for dimension with size 0")
    bad = (index < -size) | (index >= size)
    if not bad.any():
        return None
    return IndexError(
        f"index {index[bad].flat[0]} is out of bounds for dimension {dim} with size {size}"
    )


def from_front(index: ndarray, size: int, dim: int) -> ndarray:
    """Indices counted from the front; raises IndexError for those outside of the dimension."""
    error = out_of_bounds(index, size, dim)
    if error is not None:
        raise error
    negative = index < 0
    return np.where(negative, index + size, index) if negative.any() else index


def add_rows(table: ndarray, index: ndarray, rows: ndarray) -> None:
    """`table[index[i]] += rows[i]` for every i, where places may repeat; in place.

    table (V, D), index (n,) counted from the front, rows (n, D).
    """
    if table.dtype.name in LOW_PRECISION:
        wide = np.zeros(table.shape, np.float32)
        add_rows(wide, index, rows.astype(np.float32))
        table[...] = table.astype(np.float32) + wide
    elif table.shape[1] == 1:
        np.add.at(table[:, 0], index, rows[:, 0])
    elif rows.size <= FEW:
        np.add.at(table, index, rows)
    else:
        order = np.argsort(index, kind="stable")
        places = index[order]
        starts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
        counts = np.diff(np.append(starts, index.size))
        if counts.max() > ROUNDS:
            table[places[starts]] += np.add.reduceat(rows[order], starts, axis=0)
            return
        while starts.size:
            table[places[starts]] += rows[order[starts]]
            counts = counts - 1
            left = counts > 0
            starts, counts = starts[left] + 1, counts[left]


def place_of(dims: tuple[int, ...]) -> int:
    """Where the dimensions of an index stand in the result: at the indexed dims if these are
    neighbours, else first.
    """
    neighbours = all(b == a + 1 for a, b in pairwise(dims))
    return dims[0] if neighbours else 0


def index_rows(index: ndarray, dims: tuple[int, ...]) -> list[ndarray]:
    """The index of each dimension: for one, the array itself, for several, stacked along its first
    dimension.
    """
    return [index] if len(dims) == 1 else list(index)


def index_key(index: ndarray, dims: tuple[int, ...], ndim: int) -> tuple:
    """What goes between NumPy's brackets."""
    key: list = [slice(None)] * ndim
    for d, row in zip(dims, index_rows(index, dims), strict=True):
        key[d] = row
    return tuple(key)


def add_at(
    shape: tuple[int, ...], index: ndarray, values: ndarray, dims: tuple[int, ...]
) -> ndarray:
    """Zeros of this shape to which `values` have been added at `[..., index, ...]` over `dims`.

    `values` has the shape that indexing gives.
    """
    rows = index_rows(index, dims)
    over = tuple([shape[d] for d in dims])
    rest = tuple([n for d, n in enumerate(shape) if d not in dims])
    flat = np.zeros(rows[0].shape, np.int64)
    for row, size, d in zip(rows, over, dims, strict=True):
        flat = flat * size + from_front(row, size, d)
    at, depth = place_of(dims), rows[0].ndim
    if at and depth:
        values = np.moveaxis(
            values, range(at, at + depth), range(depth)
        )  # (index's dims, the rest)
    width = int(np.prod(rest, dtype=np.int64))
    table = np.zeros((int(np.prod(over, dtype=np.int64)), width), values.dtype)
    if flat.size and width:
        add_rows(table, flat.reshape(-1), values.reshape(flat.size, width))
    return np.moveaxis(table.reshape(over + rest), range(len(dims)), dims)
