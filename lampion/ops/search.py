"""Distinct values, membership, places in sorted sequences. May import rules, core and the base."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from ..core.promotion import scalar_array
from ..core.tensor import Tensor, normalize_dim, wrap
from ..dtypes import get_default_dtype, int64
from ..errors import check
from .rules import public, wide

# -- distinct values ---------------------------------------------------------------------------


def as_rows(name: str, x: ndarray, dim: int) -> ndarray:
    """The slices along `dim` as rows of a matrix."""
    check(
        x.ndim > 0,
        f"[{name}] Dimension specified as {dim} but tensor has no dimensions",
        IndexError,
    )
    dim = normalize_dim(dim, x.ndim)
    rest = math.prod([s for d, s in enumerate(x.shape) if d != dim])
    check(
        rest > 0 or x.shape[dim] == 0,
        f"There are 0 sized dimensions, and they aren't selected, so {name} cannot be applied",
    )
    return np.moveaxis(x, dim, 0).reshape(x.shape[dim], rest)


def starts_of_runs(rows: ndarray) -> ndarray:
    """For each row (or element) whether it differs from the one before it."""
    new = np.ones(len(rows), bool)
    if len(rows):
        differs = rows[1:] != rows[:-1]
        new[1:] = differs.any(1) if rows.ndim == 2 else differs
    return new


def run_lengths(new: ndarray) -> ndarray:
    """How long each run is, given where runs start."""
    return np.diff(np.append(np.flatnonzero(new), len(new)))


def with_extras(values: ndarray, inverse: Any, counts: Any) -> Any:
    """The values alone, or a tuple with what else was asked for."""
    extras = [wrap(e.astype(np.int64)) for e in (inverse, counts) if e is not None]
    return (wrap(values), *extras) if extras else wrap(values)


@public
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements, or slices along `dim`, in ascending order whatever `sorted` says.

    With `return_inverse` also where each element of the input went, with `return_counts` how often
    each occurs. NaN differs from itself.
    """
    x = input.concrete("unique")
    rows = x.reshape(-1) if dim is None else as_rows("unique", x, dim)
    keys = wide(rows)
    order = np.argsort(keys, kind="stable") if dim is None else np.lexsort(keys.T[::-1])
    new = starts_of_runs(rows[order])
    inverse: ndarray | None = None
    counts = None
    if return_inverse:
        inverse = np.empty(len(rows), np.int64)
        inverse[order] = np.cumsum(new) - 1
        if dim is None:
            inverse = inverse.reshape(x.shape)
    if return_counts:
        counts = run_lengths(new)
    first = order[new]
    values = rows[first] if dim is None else np.take(x, first, dim)
    return with_extras(values, inverse, counts)


@public
def unique_consecutive(
    input: Tensor,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The input without elements (or slices along `dim`) that equal the one before them."""
    x = input.concrete("unique_consecutive")
    rows = x.reshape(-1) if dim is None else as_rows("unique_consecutive", x, dim)
    new = starts_of_runs(rows)
    inverse = counts = None
    if return_inverse:
        inverse = (np.cumsum(new) - 1).reshape(x.shape if dim is None else -1)
    if return_counts:
        counts = run_lengths(new)
    values = rows[new] if dim is None else np.compress(new, x, dim)
    return with_extras(values, inverse, counts)


# -- membership --------------------------------------------------------------------------------

ISIN = Op(
    "isin",
    ("elements", "test_elements"),
    lambda elements, test_elements, invert: np.isin(elements, test_elements, invert=invert),
    promote="common",
)


def isin(
    elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False
) -> Tensor:
    """For each of `elements` whether it is among `test_elements`; one of them may be a number."""
    check(
        isinstance(elements, Tensor) or isinstance(test_elements, Tensor),
        "isin(): expects a tensor among elements and test_elements, got two numbers; use `in`",
        TypeError,
    )
    return apply(ISIN, elements, test_elements, invert=invert)


isin = public(isin, method=False, out=True)


# -- positions ---------------------------------------------------------------------------------


def search_kernel(
    sequence: ndarray, values: ndarray, sorter: ndarray | None, right: bool, out_int32: bool
) -> ndarray:
    """The number of elements of each sorted row that are smaller (right: not larger) than each
    value.
    """
    sequence, values = wide(sequence), wide(values)
    if sorter is not None:
        sequence = np.take_along_axis(sequence, sorter, -1)
    if sequence.ndim == 1:
        found = np.searchsorted(sequence, values, "right" if right else "left")
        if values.dtype.kind == "f":
            found = np.where(np.isnan(values), len(sequence), found)
    else:
        found = bisect(sequence, values, right)
    return np.asarray(found, np.int32 if out_int32 else np.int64)


def bisect(sequence: ndarray, values: ndarray, right: bool) -> ndarray:
    """Binary search of all rows at once: after each round the answer lies in [low, high]."""
    n = sequence.shape[-1]
    low, high = np.zeros(values.shape, np.int64), np.full(values.shape, n)
    for _ in range(n.bit_length()):
        middle = (low + high) // 2
        there = np.take_along_axis(sequence, np.minimum(middle, n - 1), -1)
        beyond = there > values if right else there >= values
        searching = low < high
        high = np.where(searching & beyond, middle, high)
        low = np.where(searching & ~beyond, middle + 1, low)
    return low


SEARCHSORTED = Op("searchsorted", ("sequence", "values", "sorter"), search_kernel)


def value_like(boundaries: Tensor, value: Any) -> Tensor:
    """A number as a 0-dim tensor that compares with the boundaries."""
    if isinstance(value, Tensor):
        return value
    d = boundaries._data.dtype
    if d.kind in "biu" and isinstance(value, float):
        d = get_default_dtype().numpy
    return wrap(scalar_array(value, d))


def searchsorted(
    sorted_sequence: Tensor,
    input: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where each value would have to be inserted into the sorted last dimension of
    `sorted_sequence`.

    With `right` (or `side="right"`) behind equal elements, else before them. `sorter` are the
    indices that sort an unsorted sequence. A sequence with more than one dimension has a row for
    each row of the values.
    """
    values, name = value_like(sorted_sequence, input), "torch.searchsorted():"
    have, want = values._data.shape, sorted_sequence._data.shape
    check(
        side in (None, "left", "right"),
        f"{name} side can only be 'left' or 'right' but got {side}",
    )
    check(
        not (right and side == "left"),
        f"{name} side and right can't be set to opposites, got side of left while right was True",
    )
    check(
        len(want) > 0,
        f"{name} boundaries tensor should have positive dimension, but got 0 dimension",
    )
    check(
        len(want) == 1 or want[:-1] == have[:-1] and len(have) == len(want),
        lambda: (
            f"{name} boundaries tensor should be 1 dimension or the first N-1 dimensions of "
            "boundaries tensor and input value tensor must match, but we got boundaries tensor "
            f"{list(want)} and input value tensor {list(have)}"
        ),
    )
    check(
        not have or values._data.dtype == sorted_sequence._data.dtype,
        lambda: (
            f"{name} boundary tensor and input value tensor should have same dtype, but got "
            "boundary tensor "
            f"dtype {sorted_sequence.dtype} and input value tensor dtype {values.dtype}"
        ),
    )
    if sorter is not None:
        check(
            sorter._data.shape == want and sorter.dtype is int64,
            lambda: (
                f"{name} boundary and sorter must have the same size, sorter of type torch.int64; "
                "got sizes "
                f"{list(want)} and {list(sorter._data.shape)}, sorter of type {sorter.dtype}"
            ),
        )
    right = right or side == "right"
    return apply(SEARCHSORTED, sorted_sequence, values, sorter, right=right, out_int32=out_int32)


searchsorted = public(searchsorted, method=False, out=True)


def bucketize(
    input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False
) -> Tensor:
    """Which bucket between the sorted 1-D `boundaries` each value falls into.

    >>> torch.bucketize(torch.tensor([0, 3, 9]), torch.tensor([1, 3, 5]))
    tensor([0, 1, 3])
    """
    check(
        boundaries._data.ndim == 1,
        lambda: f"boundaries tensor must be 1 dimension, but got dim({boundaries._data.ndim})",
    )
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


bucketize = public(bucketize, method=False, out=True)
