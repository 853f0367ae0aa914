"""Views of a part: slices, diagonals, windows. May import rules, views, core and the base.

One operator, `INDEX`, stands for every mix of integers, slices and new dimensions; its gradient
puts the part back into zeros (`EMBED`). Several parts at once are in `splits.py`.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from ..core.tensor import Tensor, normalize_dim
from ..errors import check
from .rules import EXPORTS, batch_first, move_to_front, numpy_names, public
from .views import ViewOp, view_of

FULL = slice(None)
LOW_PRECISION = {"float16", "bfloat16"}  # summed in float32


# -- integers, slices and new dimensions -------------------------------------------------------


def index_array(x: ndarray, index: Any) -> ndarray:
    """x[index] as an array, also where NumPy would give a scalar."""
    return x[index, ...] if index.__class__ is int else x[index]


def behind_batch(index: Any) -> tuple:
    """The index for a tensor with a batch dimension in front."""
    return (FULL, *index) if index.__class__ is tuple else (FULL, index)


def index_name(params: dict) -> str:
    """What PyTorch calls the last step of an index: `Select`, `Slice`, `Unsqueeze` or `Alias`."""
    index = params["index"]
    steps = index if index.__class__ is tuple else (index,)
    for step in reversed(steps):
        if step.__class__ is slice and (step != FULL or len(steps) == 1):
            return "SliceBackward0"
        if step is None:
            return "UnsqueezeBackward0"
        if step.__class__ is int:
            return "SelectBackward0"
    return "AliasBackward0"


INDEX = ViewOp(
    "index_view",
    index_array,
    lambda g, x_shape, index: apply(EMBED, g, shape=x_shape, index=index),
    batch_first(lambda params, ndim: {"index": behind_batch(params["index"])}),
    grad_name=index_name,
)


def embed_kernel(g: ndarray, shape: tuple[int, ...], index: Any) -> ndarray:
    """Zeros with g at the place of an index."""
    y = np.zeros(shape, g.dtype)
    y[index] = g
    return y


EMBED: Op = Op(
    "embed",
    ("g",),
    embed_kernel,
    kind="linear",
    vjp={"g": lambda g, index: view_of(g, INDEX, {"index": index})},
    jvp="linear",
    batch=lambda size, values, dims, params, op: (
        apply(
            op,
            move_to_front(values[0], dims[0]),
            shape=(size, *params["shape"]),
            index=behind_batch(params["index"]),
        ),
        0,
    ),
)


def part(x: Tensor, dim: int, start: int, stop: int) -> Tensor:
    """The view from `start` to `stop` along one dimension, both counted from the front."""
    return view_of(x, INDEX, {"index": (FULL,) * dim + (slice(start, stop),)})


@public
@numpy_names
def select(input: Tensor, dim: int, index: Any) -> Tensor:
    """A view of one index of a dimension, which disappears."""
    shape = input._data.shape
    check(len(shape) > 0, "select() cannot be applied to a 0-dim tensor.", IndexError)
    dim, index = normalize_dim(dim, len(shape)), operator.index(index)
    if not -shape[dim] <= index < shape[dim]:
        raise IndexError(
            f"select(): index {index} out of range for tensor of size {list(shape)} at dimension "
            f"{dim}"
        )
    return view_of(input, INDEX, {"index": (FULL,) * dim + (index, ...)})


@public
@numpy_names
def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """A view of `length` elements of a dimension, from `start` on.

    >>> torch.arange(5).narrow(0, 1, 3)
    tensor([1, 2, 3])
    """
    shape = input._data.shape
    check(len(shape) > 0, "narrow() cannot be applied to a 0-dim tensor.")
    check(length >= 0, "narrow(): length must be non-negative.")
    dim = normalize_dim(dim, len(shape))
    start, size = int(start), shape[dim]
    check(
        -size <= start <= size,
        lambda: (
            f"start out of range (expected to be in range of [-{size}, {size}], but got {start})"
        ),
        IndexError,
    )
    start += size if start < 0 else 0
    check(
        start + length <= size,
        lambda: f"start ({start}) + length ({length}) exceeds dimension size ({size}).",
    )
    return part(input, dim, start, start + length)


# -- diagonals ---------------------------------------------------------------------------------


def diagonal_array(x: ndarray, offset: int, dim1: int, dim2: int) -> ndarray:
    """NumPy's view of a diagonal, writable where x is."""
    y = x.diagonal(offset, dim1, dim2)
    if x.flags.writeable:
        y.flags.writeable = True
    return y


def shift_diagonal(params: dict, ndim: int) -> dict:
    """A diagonal's parameters behind a batch dimension."""
    return {**params, "dim1": params["dim1"] + 1, "dim2": params["dim2"] + 1}


DIAGONAL = ViewOp(
    "diagonal",
    diagonal_array,
    lambda g, x_shape, offset, dim1, dim2: apply(
        DIAGONAL_EMBED, g, shape=x_shape, offset=offset, dim1=dim1, dim2=dim2
    ),
    batch_first(shift_diagonal),
)


def diagonal_embed_kernel(
    g: ndarray, shape: tuple[int, ...], offset: int, dim1: int, dim2: int
) -> ndarray:
    """Zeros with g on a diagonal."""
    y = np.zeros(shape, g.dtype)
    diagonal_array(y, offset, dim1, dim2)[...] = g
    return y


DIAGONAL_EMBED: Op = Op(
    "diag_embed",
    ("g",),
    diagonal_embed_kernel,
    kind="linear",
    vjp={
        "g": lambda g, offset, dim1, dim2: view_of(
            g, DIAGONAL, {"offset": offset, "dim1": dim1, "dim2": dim2}
        )
    },
    jvp="linear",
    batch=lambda size, values, dims, params, op: (
        apply(
            op,
            move_to_front(values[0], dims[0]),
            **{**shift_diagonal(params, 0), "shape": (size, *params["shape"])},
        ),
        0,
    ),
)


def two_dims(dim1: int, dim2: int, ndim: int, name: str) -> tuple[int, int]:
    """The two dimensions of a diagonal, counted from the front."""
    first, second = normalize_dim(dim1, ndim), normalize_dim(dim2, ndim)
    check(first != second, lambda: f"{name} dimensions cannot be identical {dim1}, {dim2}")
    return first, second


@public
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A view of a diagonal of two dimensions, as a new last dimension."""
    first, second = two_dims(dim1, dim2, input._data.ndim, "diagonal")
    return view_of(input, DIAGONAL, {"offset": offset, "dim1": first, "dim2": second})


def linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """A view of the diagonals of matrices."""
    return diagonal(A, offset, dim1, dim2)


EXPORTS["linalg"]["diagonal"] = linalg_diagonal


@public
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Zeros with the last dimension of the input on a diagonal of two dimensions."""
    shape = input._data.shape
    check(len(shape) > 0, "diag_embed: expected at least a 1-dimensional tensor")
    first, second = two_dims(dim1, dim2, len(shape) + 1, "diagonal")
    rest = iter(shape[:-1])
    side = shape[-1] + abs(offset)
    full = tuple([side if d in (first, second) else next(rest) for d in range(len(shape) + 1)])
    return apply(DIAGONAL_EMBED, input, shape=full, offset=offset, dim1=first, dim2=second)


@public(out=True)
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with a vector as its diagonal; always a copy."""
    ndim = input._data.ndim
    check(ndim in (1, 2), lambda: f"diag(): Supports 1D or 2D tensors. Got {ndim}D")
    return diag_embed(input, diagonal) if ndim == 1 else input.diagonal(diagonal).clone()


@public
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The matrix with the input's elements as its diagonal."""
    return diag_embed(input.reshape((-1,)), offset)


# -- windows -----------------------------------------------------------------------------------


def unfold_array(x: ndarray, dimension: int, size: int, step: int) -> ndarray:
    """Windows of `size` elements, `step` apart; each becomes the last dimension."""
    if x.ndim == 0:
        return x.reshape(1)[:size]
    count = (x.shape[dimension] - size) // step + 1
    shape = (*x.shape[:dimension], count, *x.shape[dimension + 1 :], size)
    at = x.strides[dimension]
    strides = (*x.strides[:dimension], at * step, *x.strides[dimension + 1 :], at)
    return np.lib.stride_tricks.as_strided(x, shape, strides)


def fold_kernel(
    g: ndarray, shape: tuple[int, ...], dimension: int, size: int, step: int
) -> ndarray:
    """The sum of windows, each where it came from."""
    if g.dtype.name in LOW_PRECISION:
        return fold_kernel(g.astype(np.float32), shape, dimension, size, step).astype(g.dtype)
    y = np.zeros(shape, g.dtype)
    if not shape:
        return y + g.sum(dtype=g.dtype)
    before = (FULL,) * dimension
    reach = (g.shape[dimension] - 1) * step + 1
    for k in range(size):
        y[(*before, slice(k, k + reach, step))] += g[..., k]
    return y


def shift_window(params: dict, ndim: int) -> dict:
    """A window's parameters behind a batch dimension."""
    return {**params, "dimension": params["dimension"] + 1}


def unfold_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Windows behind the batch dimension; a 0-dim example counts as one element."""
    x = move_to_front(values[0], dims[0])
    if x._data.ndim == 1:
        return x.unsqueeze(1).narrow(1, 0, params["size"]), 0
    return apply(op, x, **shift_window(params, 0)), 0


UNFOLD = ViewOp(
    "unfold",
    unfold_array,
    lambda g, x_shape, dimension, size, step: apply(
        FOLD, g, shape=x_shape, dimension=dimension, size=size, step=step
    ),
    unfold_batch,
)
FOLD: Op = Op(
    "unfold_backward",
    ("g",),
    fold_kernel,
    kind="linear",
    vjp={
        "g": lambda g, dimension, size, step: view_of(
            g, UNFOLD, {"dimension": dimension, "size": size, "step": step}
        )
    },
    jvp="linear",
)


@public(spaces=())
def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """A view of all windows of `size` elements along a dimension, `step` apart; a window is the
    last dimension.

    >>> torch.arange(5).unfold(0, 3, 1)
    tensor([[0, 1, 2],
            [1, 2, 3],
            [2, 3, 4]])
    """
    shape = self._data.shape
    dimension = normalize_dim(dimension, len(shape))
    length = shape[dimension] if shape else 1
    check(step > 0, lambda: f"step is {step} but must be > 0")
    check(size >= 0, lambda: f"size is {size} but must be >= 0")
    check(
        size <= length,
        lambda: f"maximum size for tensor at dimension {dimension} is {length} but size is {size}",
    )
    return view_of(self, UNFOLD, {"dimension": dimension, "size": size, "step": step})
