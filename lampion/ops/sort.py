"""Sorting, order statistics, quantiles. May import earlier families, core and the base.

NaN counts as larger than every number, as in PyTorch. Sorting is stable: equal elements keep their
order, and where PyTorch leaves open which of several equal elements is picked, it is the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.naming import named
from ..core.op import Op
from ..core.promotion import scalar_array
from ..core.tensor import Tensor, normalize_dim, wrap
from ..errors import check
from .extremes import (
    check_not_empty,
    check_ordered,
    extreme_gradient,
    pick,
    selection,
    selection_gradient,
)
from .reduce import along, reduction
from .return_types import return_type
from .rules import F32, LOW_FLOATS, batch_first, numpy_names, public, shift_dims, wide

# -- sorting -----------------------------------------------------------------------------------


def stable_order(x: ndarray, dim: int, descending: bool = False) -> ndarray:
    """The indices that sort x along `dim`; NaN is the largest."""
    x = wide(x)
    if not descending:
        return np.argsort(x, dim, kind="stable")
    backwards = np.argsort(np.flip(x, dim), dim, kind="stable")
    return x.shape[dim] - 1 - np.flip(backwards, dim)


def sort_kernel(x: ndarray, dim: int, descending: bool) -> tuple[ndarray, ndarray]:
    """(values, indices)."""
    return pick(x, stable_order(x, dim, descending), dim, True)


def order_gradient(g: Tensor, indices: Tensor, x_shape: tuple, dim: int) -> Tensor:
    """The gradient goes back to where the elements came from."""
    return selection_gradient(g, indices, x_shape, dim, True)


SORT = selection("sort", sort_kernel, order_gradient)
ARGSORT = Op("argsort", ("x",), stable_order, batch=batch_first(shift_dims))
Sorted = return_type("sort", "values indices")


@public(out=True)
@numpy_names
def sort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = False
) -> Any:
    """The elements in order along `dim`, as (values, indices); stable with or without `stable`.

    >>> torch.tensor([3, 1, 2]).sort()
    torch.return_types.sort(
    values=tensor([1, 2, 3]),
    indices=tensor([1, 2, 0]))
    """
    check(
        input._data.dtype.kind != "c",
        "[sort] Sort does not support complex dtypes; sort .abs() or .real",
    )
    return Sorted(*along(SORT, input, dim, descending=descending))


@public(out=True)
@numpy_names
def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool | None = False
) -> Tensor:
    """The indices that put the elements in order along `dim`."""
    check(
        input._data.dtype.kind != "c",
        "[argsort] Sort does not support complex dtypes; sort .abs() or .real",
    )
    return along(ARGSORT, input, dim, descending=descending)


@public(out=True)
def msort(input: Tensor) -> Tensor:
    """The elements in ascending order along the first dimension."""
    return sort(input, 0)[0]


def topk_kernel(
    x: ndarray, k: int, dim: int, largest: bool, sorted: bool
) -> tuple[ndarray, ndarray]:
    """The k first of the order; of long rows only these are sorted."""
    n = x.shape[dim]
    if n < 256 or 2 * k > n or not k:
        order = stable_order(x, dim, largest)
        return pick(x, np.take(order, np.arange(k), dim), dim, True)
    keys = wide(x)
    candidates = first_places(keys, k, dim, largest)
    order = stable_order(np.take_along_axis(keys, candidates, dim), dim, largest)
    return pick(x, np.take_along_axis(candidates, order, dim), dim, True)


def first_places(x: ndarray, k: int, dim: int, largest: bool) -> ndarray:
    """Where the k first of the order stand, from the front on: among equals the first ones."""
    rank = x.shape[dim] - k if largest else k - 1
    edge = np.take(np.partition(x, rank, dim), [rank], dim)  # the last that is among them
    better, same = (x > edge if largest else x < edge), x == edge
    if x.dtype.kind == "f":
        number, known = x == x, edge == edge
        better |= known & ~number if largest else number & ~known
        same |= ~number & ~known
    room = k - np.add.reduce(better, dim, np.int64, keepdims=True)
    if (np.add.reduce(same, dim, np.int64, keepdims=True) > room).any():  # ties at the edge
        same &= np.cumsum(same, dim) <= room
    chosen = np.moveaxis(better | same, dim, -1)
    places = chosen.nonzero()[-1].reshape((*chosen.shape[:-1], k))
    return np.moveaxis(places, -1, dim)


TOPK = selection("topk", topk_kernel, order_gradient)
TopK = return_type("topk", "values indices")


@public(out=True)
@numpy_names
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k largest (or smallest) elements along `dim`, in order, as (values, indices)."""
    check_ordered("topk", input)
    check(input._data.dtype.kind != "b", "topk does not support bool dtypes on CPU")
    shape = input._data.shape
    dim = normalize_dim(dim, len(shape))
    size = shape[dim] if shape else 1
    check(
        0 <= k <= size,
        lambda: (
            f"[topk] selected index k out of range: expects 0 <= k <= {size} along dimension "
            f"{dim}, got {k}"
        ),
    )
    return TopK(*along(TOPK, input, dim, k=k, largest=largest, sorted=sorted))


# -- order statistics --------------------------------------------------------------------------


def check_numbers(name: str, input: Tensor) -> None:
    """Raises NotImplementedError for booleans and complex numbers."""
    check_ordered(name, input)
    check(
        input._data.dtype.kind != "b",
        f"[{name}] is not implemented for torch.bool; convert with .int()",
        NotImplementedError,
    )


def kth_smallest(x: ndarray, k: int, dim: int) -> ndarray:
    """The k-th smallest along `dim`, which stays; NaN is the largest."""
    if x.dtype in LOW_FLOATS:
        return kth_smallest(x.astype(F32), k, dim).astype(x.dtype)
    return np.take(np.partition(x, k - 1, dim), [k - 1], dim)


def locate(x: ndarray, values: ndarray, k: Any, dim: int, keepdim: bool) -> tuple[ndarray, ndarray]:
    """(values, indices) of the k-th smallest: among equals the one that a stable sort gives."""
    found, before = x == values, x < values
    if x.dtype.kind not in "iu":
        number, missing = x == x, values != values
        found |= ~number & missing
        before |= number & missing
    if np.add.reduce(found, None) > values.size:  # ties
        passed = k - 1 - np.add.reduce(before, dim, np.int64, keepdims=True)
        found &= np.cumsum(found, dim) > passed
    indices = found.argmax(dim, keepdims=True)
    return (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))


def kthvalue_kernel(x: ndarray, k: int, dim: int, keepdim: bool) -> tuple[ndarray, ndarray]:
    """(values, indices)."""
    return locate(x, kth_smallest(x, k, dim), k, dim, keepdim)


KTHVALUE = selection("kthvalue", kthvalue_kernel)
KthValue = return_type("kthvalue", "values indices")


@public(out=True)
@numpy_names
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest element along `dim`, counted from 1, as (values, indices)."""
    check_numbers("kthvalue", input)
    shape = input._data.shape
    dim = normalize_dim(dim, len(shape))
    check_not_empty("kthvalue", input, dim)
    size = shape[dim] if shape else 1
    check(
        1 <= k <= size,
        lambda: (
            f"kthvalue(): selected number k out of range for dimension {dim}: expects 1 to {size}, "
            f"got {k}"
        ),
    )
    return KthValue(*along(KTHVALUE, input, dim, k=k, keepdim=keepdim))


def median_kernel(x: ndarray, dim: int, keepdim: bool) -> tuple[ndarray, ndarray]:
    """The lower of the two middle elements; the first NaN if there is one."""
    k = (x.shape[dim] + 1) // 2
    middle = kth_smallest(x, k, dim)
    bad = x != x
    if not bad.any():
        return locate(x, middle, k, dim, keepdim)
    bad = bad.any(dim, keepdims=True)
    middle = np.where(bad, x.dtype.type(np.nan), middle)
    return locate(x, middle, np.where(bad, 1, k), dim, keepdim)


def nanmedian_kernel(x: ndarray, dim: int, keepdim: bool) -> tuple[ndarray, ndarray]:
    """The lower middle element of those that are not NaN, which come first in the order."""
    numbers = np.add.reduce(x == x, dim, np.int64, keepdims=True)
    if numbers.size and numbers.min() == x.shape[dim]:
        return median_kernel(x, dim, keepdim)
    middle = np.maximum(numbers - 1, 0) // 2
    return pick(x, np.take_along_axis(stable_order(x, dim), middle, dim), dim, keepdim)


def median_of_all(kernel: Callable, x: ndarray, dim: Any, keepdim: bool) -> ndarray:
    """The median of all elements, or of the dimensions behind a batch dimension."""
    if x.size == 0:
        missing = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else np.nan
        return np.full(() if dim is None else x.shape[:1], missing, x.dtype)
    if dim is None:
        return kernel(x.reshape(-1), 0, False)[0]
    return kernel(x.reshape(len(x), -1), 1, False)[0]


def median_function(name: str, kernel: Callable, doc: str) -> Callable:
    """`median` or `nanmedian`: of all elements (equals share the gradient) or along `dim`."""
    whole = reduction(
        name,
        lambda x, dim, keepdim: median_of_all(kernel, x, dim, keepdim),
        extreme_gradient,
        grad_name=name.capitalize() + "Backward0",
    )
    single = selection(name + "_dim", kernel, grad_name=name.capitalize() + "Backward1")
    result = return_type(name, "values indices")

    def call(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
        check_numbers(name, input)
        if dim is None:
            return apply(whole, input, dim=None, keepdim=False)
        check_not_empty(name, input, dim)
        return result(*along(single, input, dim, keepdim=keepdim))

    return public(numpy_names(named(call, name, doc)), out=True)


median = median_function(
    "median",
    median_kernel,
    "The median of all elements; with `dim`, (values, indices). Of two middle ones the lower.",
)
nanmedian = median_function(
    "nanmedian",
    nanmedian_kernel,
    "The median of the elements that are not NaN; with `dim`, (values, indices) along it.",
)


def mode_kernel(x: ndarray, dim: int, keepdim: bool) -> tuple[ndarray, ndarray]:
    """The smallest of the most frequent elements, and where its run ends in the order."""
    order = np.moveaxis(stable_order(x, dim), dim, -1)
    ordered = np.take_along_axis(np.moveaxis(x, dim, -1), order, -1)
    place = np.arange(x.shape[dim])
    starts = np.zeros(ordered.shape, np.int64)
    starts[..., 1:] = np.where(ordered[..., 1:] != ordered[..., :-1], place[1:], 0)
    length = place - np.maximum.accumulate(starts, -1)
    end = length.argmax(-1)[..., None]
    return pick(x, np.moveaxis(np.take_along_axis(order, end, -1), -1, dim), dim, keepdim)


MODE = selection("mode", mode_kernel)
Mode = return_type("mode", "values indices")


@public(out=True)
@numpy_names
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent element along `dim`, of several the smallest, as (values, indices)."""
    check_ordered("mode", input)
    check_not_empty("mode", input, dim)
    return Mode(*along(MODE, input, dim, keepdim=keepdim))


QUANTILE_RANKS = {
    "linear": lambda rank: rank,
    "lower": lambda rank: rank.floor(),
    "higher": lambda rank: rank.ceil(),
    "midpoint": lambda rank: (rank.floor() + rank.ceil()) / 2,
    "nearest": lambda rank: rank.round(),
}  # where between two neighbours in the order a quantile lies


def check_quantile(name: str, input: Tensor, q: Any, interpolation: str) -> Tensor:
    """q as a tensor, its shape, type and range checked."""
    check(input._data.size > 0, f"{name}() input tensor must be non-empty")
    check(
        input._data.dtype.name in ("float32", "float64"),
        f"{name}() input tensor must be either float or double dtype",
    )
    check(
        interpolation in QUANTILE_RANKS,
        f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but "
        f"got {interpolation}",
    )
    if not isinstance(q, Tensor):
        check(0 <= q <= 1, f"{name}() q must be in the range [0, 1] but got {q}")
        return wrap(scalar_array(q, input._data.dtype))
    check(q._data.ndim <= 1, f"{name}() q must be a scalar or 1D tensor")
    check(
        q._data.dtype is input._data.dtype,
        f"{name}() q tensor must be same dtype as the input tensor",
    )
    if isinstance(q._data, ndarray):
        check(
            bool(((q._data >= 0) & (q._data <= 1)).all()),
            f"{name}() q values must be in the range [0, 1]",
        )
    return q


def quantile_of_numbers(
    name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str
) -> Tensor:
    """What `quantile` and `nanquantile` do: sort, and blend the neighbours of rank q (n - 1)."""
    q = check_quantile(name, input, q, interpolation)
    ndim = input._data.ndim
    reduced = None if dim is None else normalize_dim(dim, ndim)
    if ndim == 0:
        reduced = None
    if reduced is None:
        ordered = input.reshape(-1).sort().values  # (..., n)
    else:
        ordered = input.sort(reduced).values.movedim(reduced, -1)  # (..., n)
    n = ordered._data.shape[-1]
    bad = (ordered != ordered).sum(-1, keepdim=True)  # how many NaN, which are last
    rows = q.reshape(-1)
    if name == "nanquantile":
        rank = rows * (n - 1 - bad).clamp(min=0)
    else:
        rank = (rows * (n - 1)).where(bad == 0, float(n - 1))
    rank = QUANTILE_RANKS[interpolation](rank)  # (..., Q)
    below = rank.floor()
    low = ordered.gather(-1, below.long())
    high = ordered.gather(-1, rank.ceil().long())
    found = low.lerp(high, rank - below).movedim(-1, 0)  # (Q, ...)
    if keepdim:
        found = (
            found.reshape((-1, *(1,) * ndim)) if reduced is None else found.unsqueeze(reduced + 1)
        )
    return found if q._data.ndim else found.squeeze(0)


@public(out=True)
@numpy_names
def quantile(
    input: Tensor,
    q: float | Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """The q-quantiles over `dim` (all by default); several q make a first dimension. NaN gives NaN.

    >>> torch.tensor([1.0, 2.0, 3.0, 4.0]).quantile(0.5)
    tensor(2.5000)
    """
    return quantile_of_numbers("quantile", input, q, dim, keepdim, interpolation)


@public(out=True)
@numpy_names
def nanquantile(
    input: Tensor,
    q: float | Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """The q-quantiles over `dim` (all by default) of the elements that are not NaN."""
    return quantile_of_numbers("nanquantile", input, q, dim, keepdim, interpolation)
