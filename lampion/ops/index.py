"""Advanced indexing: reading and writing at tensors of indices. May import rules, the views,
accumulate, core, base.

`TAKE` reads, `UNTAKE` adds into zeros and is its gradient, `PUT` writes into a copy. All three are
given the indexed dimensions `dims` and one tensor `index`: of one dimension the index itself, of
several the indices stacked along a first dimension. What stands between brackets is parsed in
`brackets.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.graph import DIRECT, GENERAL, STATE
from ..core.op import TENSOR_NAMES, Op
from ..core.promotion import CAST
from ..core.quick import quick_record
from ..core.tensor import Tensor, normalize_dim, wrap
from ..errors import check
from .accumulate import add_at, from_front, index_key, index_rows, out_of_bounds, place_of
from .expand import broadcast_tensors
from .rules import move_to_front, numpy_names, public


def take_kernel(x: ndarray, index: ndarray, dims: tuple[int, ...]) -> ndarray:
    """x[..., index, ...] over `dims`; raises PyTorch's IndexError."""
    try:
        if len(dims) == 1:
            return x.take(index, dims[0])
        return x[index_key(index, dims, x.ndim)]
    except IndexError:
        for d, row in zip(dims, index_rows(index, dims), strict=True):
            error = out_of_bounds(row, x.shape[d], d)
            if error is not None:
                raise error from None
        raise


def put_kernel(
    x: ndarray, index: ndarray, values: ndarray, dims: tuple[int, ...], accumulate: bool
) -> ndarray:
    """A copy of x with `values` written to, or added at, an index."""
    if not accumulate:
        y = x.copy()
        for d, row in zip(dims, index_rows(index, dims), strict=True):
            from_front(row, x.shape[d], d)
        y[index_key(index, dims, x.ndim)] = values
        return y
    depth, at = index_rows(index, dims)[0].shape, place_of(dims)
    rest = [n for d, n in enumerate(x.shape) if d not in dims]
    full = np.broadcast_to(values, (*rest[:at], *depth, *rest[at:]))
    return x + add_at(x.shape, index, full, dims)


# -- batching: the number of the example becomes one more index --------------------------------


def batched_index(size: int, index: Tensor, dim: int | None, dims: tuple[int, ...]) -> Tensor:
    """The stacked index (k + 1, size, *index) for tensors with a batch dimension in front."""
    several = len(dims) > 1
    rows = index if several else index.unsqueeze(0)  # (k, [size,] *index)
    if dim is None:
        shape = rows._data.shape
        rows = rows.unsqueeze(1).expand((shape[0], size, *shape[1:]))
    else:
        rows = rows.movedim(dim + (not several), 1)
    inner = tuple(rows._data.shape[2:])
    example = wrap(np.arange(size).reshape((1, size) + (1,) * len(inner)))
    return TENSOR_NAMES["cat"]((example.expand((1, size, *inner)), rows))


def batched(size: int, x: Tensor, dim: int | None) -> Tensor:
    """A value with its batch dimension in front, repeated where it has none."""
    return x.unsqueeze(0).expand((size, *x._data.shape)) if dim is None else move_to_front(x, dim)


def behind(dims: tuple[int, ...]) -> tuple[int, ...]:
    """The indexed dims of a tensor with a batch dimension in front."""
    return (0, *[d + 1 for d in dims])


def index_depth(index: Tensor, dim: int | None, dims: tuple[int, ...]) -> int:
    """How many dimensions one example's index has."""
    return index._data.ndim - (dim is not None) - (len(dims) > 1)


def swap_index(values: Tensor, depth: int, at: int, inwards: bool) -> Tensor:
    """Moves the index's dimensions from behind the batch dimension to where they stand in one
    example, or back.
    """
    if not at or not depth:
        return values
    outer, inner = tuple(range(1, 1 + depth)), tuple(range(1 + at, 1 + at + depth))
    return values.movedim(outer, inner) if inwards else values.movedim(inner, outer)


def take_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Reads each example's part at its own index."""
    over = params["dims"]
    x, index = batched(size, values[0], dims[0]), batched_index(size, values[1], dims[1], over)
    out = apply(op, x, index, dims=behind(over))
    return swap_index(out, index_depth(values[1], dims[1], over), place_of(over), True), 0


def untake_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Adds each example's gradients at its own index."""
    over = params["dims"]
    g, index = batched(size, values[0], dims[0]), batched_index(size, values[1], dims[1], over)
    g = swap_index(g, index_depth(values[1], dims[1], over), place_of(over), False)
    return apply(op, g, index, shape=(size, *params["shape"]), dims=behind(over)), 0


def put_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Writes each example's values at its own index."""
    over, (x, index, source) = params["dims"], values
    x = batched(size, x, dims[0])
    depth, at = index_depth(index, dims[1], over), place_of(over)
    rank = x._data.ndim - 1 - len(over) + depth
    source = batched(size, source, dims[2])
    missing = rank - (source._data.ndim - 1)
    source = source.reshape((size, *(1,) * missing, *source._data.shape[1:]))
    source = swap_index(source, depth, at, False)
    index = batched_index(size, index, dims[1], over)
    return apply(op, x, index, source, **{**params, "dims": behind(over)}), 0


# -- the records -------------------------------------------------------------------------------


def untaken(g: Tensor, index: Tensor, x_shape: tuple, dims: tuple[int, ...]) -> Tensor:
    """Zeros to which g is added at an index. Rows of one dimension, whose index is not negative, go
    to `index_add`, which has a compiled call.
    """
    if STATE.mode == DIRECT and len(dims) == 1 and index._data.ndim == 1 and is_natural(index):
        return g.new_zeros(x_shape).index_add(dims[0], index, g)
    return apply(UNTAKE, g, index, shape=x_shape, dims=dims)


def taking(name: str) -> Op:
    """The record of an operator that reads at an index."""
    return Op(
        name,
        ("x", "index"),
        take_kernel,
        vjp={"x": untaken},
        jvp="linear",
        batch=take_batch,
    )


def putting(name: str) -> Op:
    """The record of an operator that writes at an index."""
    return Op(
        name,
        ("x", "index", "values"),
        put_kernel,
        vjp={
            "x": lambda g, index, dims, accumulate: g if accumulate else erase(g, index, dims),
            "values": lambda g, index, dims: apply(TAKE, g, index, dims=dims),
        },
        jvp=lambda tangents, inputs, outputs, params: put_jvp(tangents, inputs, params),
        batch=put_batch,
    )


def erase(g: Tensor, index: Tensor, dims: tuple[int, ...]) -> Tensor:
    """g with zeros at an index."""
    return apply(PUT, g, index, g.new_zeros(()), dims=dims, accumulate=False)


def put_jvp(tangents: tuple, inputs: tuple, params: dict) -> Tensor:
    """Writing is linear in the tensor and the values together."""
    x, index, values = inputs
    moved = x.new_zeros(x._data.shape) if tangents[0] is None else tangents[0]
    written = values.new_zeros(values._data.shape) if tangents[2] is None else tangents[2]
    return apply(PUT, moved, index, written, **params)


TAKE, INDEX_SELECT, FLAT_TAKE = taking("index"), taking("index_select"), taking("take")
PUT, INDEX_ADD, INDEX_COPY, INDEX_FILL = [
    putting(n) for n in ("index_put", "index_add", "index_copy", "index_fill")
]
UNTAKE = Op(
    "index_backward",
    ("g", "index"),
    lambda g, index, shape, dims: add_at(shape, index, g, dims),
    vjp={"g": lambda g, index, dims: apply(TAKE, g, index, dims=dims)},
    jvp="linear",
    batch=untake_batch,
)

FIRST = {"dims": (0,)}
INDEX_TYPES = (dtypes.int64, dtypes.int32)


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """x[index] for an index of the first dimension: the short path of `apply`."""
    array = x._data
    try:
        data = array.take(index._data, 0)
    except IndexError:
        return apply(TAKE, x, index, **FIRST)  # raises PyTorch's error
    t = wrap(data)
    if x._requires_grad and STATE.grad:
        before = x.grad_fn
        edges = (x if before is None else before,)
        quick_record(t, edges, TAKE.plans[1], FIRST, (index, array.shape, (0,)))
    return t


# -- one dimension -----------------------------------------------------------------------------


def one_dim_index(input: Tensor, dim: int, index: Tensor, name: str, error: type[Exception]) -> int:
    """Checks the index of an operator over one dimension, whose values must not be negative; the
    dim.
    """
    dim = normalize_dim(dim, input._data.ndim)
    check(index._data.ndim < 2, f"{name}(): Index is supposed to be a vector", IndexError)
    check(
        index.dtype in INDEX_TYPES,
        lambda: f"{name}(): Expected dtype int32/int64 for index but got: {index.dtype}",
    )
    if index._data.__class__ is ndarray and index._data.size:
        size = input._data.shape[dim] if input._data.ndim else 1
        low, high = int(index._data.min()), int(index._data.max())
        check(
            low >= 0 and high < size,
            lambda: (
                f"{name}(): index {low if low < 0 else high} is out of bounds for dimension {dim} "
                f"with size {size}"
            ),
            error,
        )
    return dim


def is_natural(index: Tensor) -> bool:
    """Whether no index is negative; those that are too large are found when they are used."""
    array = index._data
    return array.__class__ is not ndarray or array.size == 0 or array.min() >= 0


@public(out=True)
@numpy_names
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The given indices of a dimension, in that order; raises IndexError for one that is out of
    range.

    >>> torch.tensor([5, 6, 7]).index_select(0, torch.tensor([2, 0]))
    tensor([7, 5])
    """
    if not (index.dtype in INDEX_TYPES and index._data.ndim == 1 and is_natural(index)):
        one_dim_index(input, dim, index, "index_select", IndexError)
    dim = normalize_dim(dim, input._data.ndim)
    if input._data.ndim == 0:
        check(
            index._data.size == 1,
            "index_select(): Index to scalar can have only 1 value, got several",
        )
        return input.reshape((1,)).index_select(0, index).reshape(())
    return apply(
        INDEX_SELECT, input, index if index._data.ndim else index.reshape((1,)), dims=(dim,)
    )


def along(
    op: Op, input: Tensor, dim: int, index: Tensor, source: Tensor, accumulate: bool
) -> Tensor:
    """Writes the rows of `source` at the indices of one dimension; 0-dim tensors count as having
    one element.
    """
    if input._data.ndim == 0:
        input, source = input.reshape((1,)), source.reshape((-1,))
        return along(op, input, 0, index, source, accumulate).reshape(())
    if index._data.ndim == 0:
        index = index.reshape((1,))
        if source._data.ndim == input._data.ndim - 1:
            source = source.unsqueeze(dim)
    return apply(op, input, index, source, dims=(dim,), accumulate=accumulate)


def check_rows(input: Tensor, dim: int, index: Tensor, source: Tensor, name: str) -> None:
    """Raises where `source` does not have one slice of the input's shape for each index."""
    count = source._data.shape[dim] if source._data.ndim else 1
    check(
        count == index._data.size,
        lambda: (
            f"{name}(): Number of indices ({index._data.size}) should be equal to "
            f"source.size(dim): ({count}), for dim: {dim}"
        ),
        IndexError if name == "index_copy_" else RuntimeError,
    )
    check(
        input.dtype is source.dtype,
        lambda: (
            f"{name}(): self and source expected to have the same dtype, but got (self) "
            f"{input.dtype} and (source) {source.dtype}"
        ),
    )
    own = [n for d, n in enumerate(input._data.shape) if d != dim]
    other = [n for d, n in enumerate(source._data.shape) if d != dim]
    check(
        own == other,
        lambda: (
            "source tensor shape must match self tensor shape, excluding the specified dimension. "
            f"Got self.shape = {list(input._data.shape)} source.shape = {list(source._data.shape)}"
        ),
    )


@public(inplace=True, out=True)
@numpy_names
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """`input` with `alpha * source[i]` added at `index[i]` of a dimension; indices may repeat."""
    dim = one_dim_index(input, dim, index, "index_add_", RuntimeError)
    check_rows(input, dim, index, source, "index_add_")
    return along(INDEX_ADD, input, dim, index, source if alpha == 1 else source * alpha, True)


@public(inplace=True, out=True)
@numpy_names
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """`input` with `source[i]` in the place of `index[i]` of a dimension."""
    dim = one_dim_index(input, dim, index, "index_copy_", IndexError)
    check_rows(input, dim, index, source, "index_copy_")
    return along(INDEX_COPY, input, dim, index, source, False)


@public(inplace=True)
@numpy_names
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """`input` with one value at the given indices of a dimension."""
    dim = normalize_dim(dim, input._data.ndim)
    if isinstance(value, Tensor):
        check(
            value._data.ndim == 0,
            lambda: (
                "index_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{value._data.ndim} dimension(s)."
            ),
        )
        value = value if value.dtype is input.dtype else CAST(value, dtype=input.dtype)
    else:
        value = input.new_full((), value)
    if value._requires_grad and index._data.__class__ is ndarray:
        index = wrap(np.unique(index._data))  # a place named twice takes the value once
    if input._data.ndim == 0:
        return along(INDEX_FILL, input, dim, index, value.reshape((1,)), False)
    return along(INDEX_FILL, input, dim, index.reshape((-1,)), value, False)


# -- flattened ---------------------------------------------------------------------------------


@public(out=True)
def take(input: Tensor, index: Tensor) -> Tensor:
    """The elements at these places of the flattened input, in the shape of the index."""
    check_flat(input, index, "take")
    return apply(FLAT_TAKE, input.reshape((-1,)), index, dims=(0,))


@public(inplace=True)
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """`input` with `source` written to (or added at) these places of its flattened form."""
    check_flat(input, index, "put_")
    check(
        index._data.size == source._data.size,
        lambda: (
            "put_(): Expected source and index to have the same number of elements, but got "
            f"source.numel() = {source._data.size}, index.numel() = {index._data.size}"
        ),
        IndexError,
    )
    check(
        input.dtype is source.dtype,
        lambda: (
            "put_(): self and source expected to have the same dtype, but got self.dtype = "
            f"{input.dtype} and source.dtype = {source.dtype}"
        ),
    )
    values = source.reshape(index._data.shape)
    flat = apply(PUT, input.reshape((-1,)), index, values, dims=(0,), accumulate=accumulate)
    return flat.reshape(input._data.shape)


def check_flat(input: Tensor, index: Tensor, name: str) -> None:
    """Raises where an index into a flattened tensor has the wrong type or is out of range."""
    check(
        index.dtype is dtypes.int64,
        lambda: f"{name}(): Expected a long tensor for index, but got {index.dtype}",
    )
    if index._data.__class__ is ndarray:
        size = input._data.size
        check(
            size > 0 or index._data.size == 0,
            f"{name}(): tried to {name.rstrip('_')} elements of an empty tensor",
            IndexError,
        )
        bad = index._data[(index._data < -size) | (index._data >= size)]
        check(
            bad.size == 0,
            lambda: f"out of range: tried to access index {bad[0]} on a tensor of {size} elements.",
            IndexError,
        )


# -- index_put ---------------------------------------------------------------------------------


def one_index(indices: list[Tensor]) -> Tensor:
    """Indices of several dimensions, broadcast and stacked; a single one as it is."""
    if len(indices) == 1:
        return indices[0]
    shapes = [i._data.shape for i in indices]
    alike = all(shape == shapes[0] for shape in shapes)
    try:
        shape = shapes[0] if alike else np.broadcast_shapes(*shapes)
    except ValueError:
        raise IndexError(
            "shape mismatch: indexing tensors could not be broadcast together with shapes "
            f"{', '.join(str(list(shape)) for shape in shapes)}"
        ) from None
    if STATE.mode == GENERAL:  # interpreters, and traces, are to see it
        return TENSOR_NAMES["stack"](broadcast_tensors(*[i.long() for i in indices]))
    arrays = [i._data for i in indices]
    return wrap(np.array(arrays if alike else [np.broadcast_to(a, shape) for a in arrays]))


def put_at(
    x: Tensor, dims: tuple[int, ...], indices: list, values: Tensor, accumulate: bool
) -> Tensor:
    """x with values, brought to its type, written to or added at an advanced index."""
    index = one_index(indices)
    own = index._data.shape[1:] if len(dims) > 1 else index._data.shape
    rest = [n for d, n in enumerate(x._data.shape) if d not in dims]
    at = place_of(dims)
    shape, given = [*rest[:at], *own, *rest[at:]], list(values._data.shape)
    while len(given) > len(shape) and given[0] == 1:
        given = given[1:]
    fits = len(given) <= len(shape) and all(
        n in (1, m) for n, m in zip(reversed(given), reversed(shape), strict=False)
    )
    check(
        fits,
        lambda: (
            f"shape mismatch: value tensor of shape {list(values._data.shape)} cannot be broadcast "
            f"to indexing result of shape {shape}"
        ),
    )
    if len(given) < values._data.ndim:
        values = values.reshape(given)
    return apply(PUT, x, index, values, dims=dims, accumulate=accumulate)
