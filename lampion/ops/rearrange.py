"""Repeating, rolling, flipping, triangles. May import rules, the views, index, shape, core and the
base.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.naming import named
from ..core.op import Op
from ..core.tensor import Tensor, normalize_dim, wrap
from ..errors import check
from .rules import (
    EXPORTS,
    batch_first,
    dtype_argument,
    move_to_front,
    normalize_dims,
    numpy_names,
    public,
    shape_argument,
)

# -- repeating ---------------------------------------------------------------------------------


def repeat_gradient(g: Tensor, x_shape: tuple[int, ...], repeats: tuple[int, ...]) -> Tensor:
    """The sum over the copies."""
    sizes = (1,) * (len(repeats) - len(x_shape)) + x_shape
    split = [n for r, s in zip(repeats, sizes, strict=True) for n in (r, s)]
    copies = tuple(range(0, len(split), 2))
    return g.reshape(split).sum(copies).reshape(x_shape) if copies else g


def repeat_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """One repetition of the batch dimension, and ones up to the given rank."""
    x, repeats = move_to_front(values[0], dims[0]), params["repeats"]
    ones = (1,) * (len(repeats) - x._data.ndim + 1)
    x = x.reshape((size, *ones, *x._data.shape[1:]))
    return apply(op, x, repeats=(1, *repeats)), 0


REPEAT = Op(
    "repeat",
    ("x",),
    lambda x, repeats: np.tile(x, repeats),
    vjp={"x": repeat_gradient},
    jvp="linear",
    batch=repeat_batch,
)


@public(spaces=())
def repeat(self: Tensor, *sizes: Any, repeats: Any = None) -> Tensor:
    """Copies of the tensor, `repeats[i]` of them along dimension i; new dimensions come in front.

    >>> torch.tensor([1, 2]).repeat(2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    repeats = shape_argument(sizes if repeats is None else (repeats,))
    check(
        len(repeats) >= self._data.ndim,
        "Number of dimensions of repeat dims can not be smaller than number of dimensions of "
        "tensor",
    )
    check(
        all(r >= 0 for r in repeats),
        lambda: f"Trying to create tensor with negative dimension in repeats {list(repeats)}",
    )
    return apply(REPEAT, self, repeats=repeats)


@public
def tile(input: Tensor, *sizes: Any, dims: Any = None) -> Tensor:
    """`repeat`, with ones in front of `dims` where they are fewer than the tensor's dimensions."""
    dims = shape_argument(sizes if dims is None else (dims,))
    return input.repeat((1,) * (input._data.ndim - len(dims)) + dims)


@numpy_names
def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element (or index of `dim`) several times in a row: `repeats` times, or its own number
    of times.

    Called with the numbers alone, it gives the indices: `repeat_interleave(tensor([1, 2]))` is `[0,
    1, 1]`.

    >>> torch.tensor([5, 6]).repeat_interleave(2)
    tensor([5, 5, 6, 6])
    """
    if repeats is None:
        check(input._data.ndim == 1, "repeat_interleave only accept 1D vector as repeat")
        check(input.dtype in (dtypes.int64, dtypes.int32), "repeats has to be Long or Int tensor")
        check((input.concrete("repeat_interleave") >= 0).all(), "repeats can not be negative")
        return wrap(np.repeat(np.arange(input._data.size), input._data))
    x = input.reshape((-1,)) if dim is None else input
    x = x.reshape((1,)) if x._data.ndim == 0 else x
    axis = normalize_dim(dim or 0, x._data.ndim)
    size = x._data.shape[axis]
    counts = repeats.concrete("repeat_interleave") if isinstance(repeats, Tensor) else repeats
    counts = np.asarray(counts)
    check(counts.ndim < 2, "repeats must be 0-dim or 1-dim tensor")
    check(
        counts.size in (1, size),
        lambda: (
            "repeats must have the same size as input along dim, but got repeats.size(0) = "
            f"{counts.size} and input.size({axis}) = {size}"
        ),
    )
    check((counts >= 0).all(), "repeats can not be negative")
    total = int(counts.sum()) if counts.size == size else int(counts.item()) * size
    check(
        output_size in (None, total),
        lambda: f"allocated size does not match required size: {output_size}, {total}",
    )
    if counts.size != 1:
        return x.index_select(axis, wrap(np.repeat(np.arange(size), counts)))
    before, after = x._data.shape[: axis + 1], x._data.shape[axis + 1 :]
    copies = x.unsqueeze(axis + 1).expand((*before, int(counts.item()), *after))
    return copies.reshape((*before[:-1], total, *after))


public(repeat_interleave)


# -- rolling and flipping ----------------------------------------------------------------------


def shift_tuple(params: dict, ndim: int) -> dict:
    """`dims` behind a batch dimension."""
    return {**params, "dims": tuple([d + 1 for d in params["dims"]])}


ROLL: Op = Op(
    "roll",
    ("x",),
    lambda x, shifts, dims: np.roll(x, shifts, dims),
    vjp={"x": lambda g, shifts, dims: g.roll(tuple([-s for s in shifts]), dims)},
    jvp="linear",
    batch=batch_first(shift_tuple),
)


@public
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements moved by `shifts` along `dims`, those that leave at one end entering at the other.

    >>> torch.tensor([1, 2, 3]).roll(1)
    tensor([3, 1, 2])
    """
    shifts = shape_argument((shifts,)) if not isinstance(shifts, int) else (shifts,)
    ndim = input._data.ndim
    dims = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    check(len(shifts) > 0, "`shifts` required")
    if not dims and len(shifts) == 1:
        return input.reshape((-1,)).roll(shifts, 0).reshape(input._data.shape)
    check(
        len(dims) == len(shifts),
        lambda: f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}",
    )
    dims = tuple([normalize_dim(d, ndim) for d in dims])
    return apply(ROLL, input, shifts=shifts, dims=dims) if ndim else input.clone()


def flip_kernel(x: ndarray, dims: tuple[int, ...]) -> ndarray:
    """A copy, so that negative strides never show."""
    turned = slice(None, None, -1)
    return x[tuple([turned if d in dims else slice(None) for d in range(x.ndim)])].copy()


FLIP: Op = Op(
    "flip",
    ("x",),
    flip_kernel,
    vjp={"x": lambda g, dims: g.flip(dims)},
    jvp="linear",
    batch=batch_first(shift_tuple),
)


@public
def flip(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """A copy with the elements in reverse order along `dims`."""
    dims = shape_argument(order if dims is None else (dims,))
    ndim = input._data.ndim
    dims = normalize_dims(dims, ndim)
    return apply(FLIP, input, dims=dims if ndim else ())


@public
def fliplr(input: Tensor) -> Tensor:
    """A copy with the columns in reverse order."""
    check(input._data.ndim >= 2, "Input must be >= 2-d.")
    return flip(input, 1)


@public
def flipud(input: Tensor) -> Tensor:
    """A copy with the rows in reverse order."""
    check(input._data.ndim >= 1, "Input must be >= 1-d.")
    return flip(input, 0)


@public
def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """A copy turned by 90 degrees k times in the plane of two dimensions, from the first towards
    the second.
    """
    ndim = input._data.ndim
    check(len(dims) == 2, lambda: f"expected total rotation dims == 2, but got dims = {len(dims)}")
    check(ndim >= 2, lambda: f"expected total dims >= 2, but got total dims = {ndim}")
    first, second = [normalize_dim(d, ndim) for d in dims]
    check(
        first != second,
        lambda: (
            f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}"
        ),
    )
    turns = k % 4
    if turns == 0:
        return input.clone()
    if turns == 2:
        return flip(input, (first, second))
    return flip(input, second if turns == 1 else first).transpose(first, second)


# -- triangles ---------------------------------------------------------------------------------


KEPT_MASK = 1 << 12  # elements of a triangle's mask that is kept for the next call
zero = functools.cache(functools.partial(np.zeros, ()))  # of a type


def triangle(name: str, keep: Any, doc: str) -> None:
    """`tril` or `triu`: zero where `keep(row, column - diagonal)` is false."""

    def kept(rows: int, columns: int, diagonal: int) -> ndarray:
        return keep(np.arange(rows)[:, None], np.arange(columns) - diagonal)

    small = functools.lru_cache(256)(kept)

    def kernel(x: ndarray, diagonal: int) -> ndarray:
        rows, columns = x.shape[-2:]
        mask = (small if rows * columns <= KEPT_MASK else kept)(rows, columns, diagonal)
        return np.where(mask, x, zero(x.dtype))

    op = Op(
        name,
        ("x",),
        kernel,
        vjp={"x": lambda g, diagonal: getattr(g, name)(diagonal)},
        jvp="linear",
        batch=batch_first(lambda params, ndim: params),
    )

    def call(input: Tensor, diagonal: int = 0) -> Tensor:
        check(input._data.ndim >= 2, f"{name}: input tensor must have at least 2 dimensions")
        return apply(op, input, diagonal=diagonal)

    def indices(
        row: int,
        col: int,
        offset: int = 0,
        *,
        dtype: Any = dtypes.int64,
        layout: Any = None,
        device: Any = None,
        pin_memory: bool = False,
        requires_grad: bool = False,
    ) -> Tensor:
        check(row >= 0, lambda: f"row must be non-negative, got{row}")
        check(col >= 0, lambda: f"col must be non-negative, got{col}")
        places = np.stack(np.nonzero(kept(row, col, offset)))
        return wrap(places.astype((dtype_argument(dtype) or dtypes.int64).numpy))

    named(call, name, doc)
    doc = f"Rows and columns of what `{name}` keeps of a row x col matrix, as two rows."
    named(indices, name + "_indices", doc)
    public(call, inplace=True, out=True)
    EXPORTS["torch"][name + "_indices"] = indices


triangle(
    "tril", np.greater_equal, "The part of matrices on and below a diagonal; the rest is zero."
)
triangle("triu", np.less_equal, "The part of matrices on and above a diagonal; the rest is zero.")
