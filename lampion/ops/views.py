"""Views: new shapes and strides on the same memory. May import rules, core and the base.

Each kind of view is an operator of its own, so that `grad_fn` names what the user called; the
gradient is the inverse view. Repeated views are in `expand.py`, parts in `slices.py`, changes of a
tensor's own shape in `metadata.py`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.graph import GENERAL, NOTHING, STATE
from ..core.memory import Storage
from ..core.op import Op, parameters_of
from ..core.quick import quick_view
from ..core.tensor import Tensor, normalize_dim, wrap
from ..errors import check
from ..layout import inverse
from .rules import batch_first, move_to_front, normalize_dims, numpy_names, public, shape_argument


class ViewOp(Op):
    """The record of a view: its kernel returns a view of the input's array, its jvp is itself.

    Every view saves the same, its input's shape and its parameters, so that the short path need not
    ask; `step` is the plan of its backward.
    """

    def __init__(self, name: str, kernel: Any, vjp: Any, batch: Any, **options: Any) -> None:
        given = [n if n in ("g", "x_shape") else f"params[{n!r}]" for n in parameters_of(vjp)]
        rule = eval(f"lambda g, x_shape, params: vjp({', '.join(given)})", {"vjp": vjp})
        super().__init__(
            name,
            ("x",),
            kernel,
            kind="view",
            vjp={"x": rule},
            jvp="linear",
            batch=batch,
            view=True,
            **options,
        )
        self.step = self.plans[1]


def view_of(x: Tensor, op: ViewOp, params: dict) -> Tensor:
    """A view by the short path if nothing else watches, else by `apply`."""
    if STATE.mode == GENERAL:
        return apply(op, x, **params)
    return quick_view(x, op.kernel(x._data, **params), op, params)


def sizes_argument(given: tuple, keyword: Any = None) -> tuple[int, ...]:
    """Sizes given one by one, as one sequence, or by keyword."""
    return shape_argument(given if keyword is None else (keyword,))


# -- reshape, view -----------------------------------------------------------------------------


def reshape_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The shape behind the batch dimension."""
    x = move_to_front(values[0], dims[0])
    return x.reshape((size, *params["shape"])), 0


VIEW = ViewOp(
    "view",
    lambda x, shape: x.reshape(shape),
    lambda g, x_shape: g.reshape(x_shape),
    reshape_batch,
)


def infer_shape(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The shape with its -1 worked out; raises RuntimeError where `size` elements do not fit."""
    known, inferred = 1, shape.count(-1)
    for s in shape:
        known *= s if s != -1 else 1
    check(inferred < 2, "only one dimension can be inferred")
    check(
        not inferred or known != 0,
        lambda: (
            f"cannot reshape tensor of {size} elements into shape {list(shape)} because the "
            "unspecified dimension size -1 can be any value and is ambiguous"
        ),
    )
    check(
        known > 0 and size % known == 0 if inferred else known == size,
        lambda: f"shape '{list(shape)}' is invalid for input of size {size}",
    )
    return tuple([size // known if s == -1 else s for s in shape])


@public(spaces=())
def view(self: Tensor, *shape: Any, dtype: Any = None, size: Any = None) -> Tensor:
    """The same elements in another shape, sharing memory; raises RuntimeError where strides forbid
    it.

    With a dtype, the same bytes seen as that type: see `view_dtype`.
    """
    if shape and STATE.mode != GENERAL:
        x = self._data
        try:
            data = x.reshape(shape if shape[0].__class__ is int else shape[0])
        except (TypeError, ValueError):  # a dtype, or a shape that does not fit
            return view_as_asked(self, shape, dtype, size)
        if data.shape != shape and not (
            min(shape) >= -1 if shape[0].__class__ is int else counts(shape[0])
        ):
            return view_as_asked(self, shape, dtype, size)
        base = data.base
        if base is x or (base is not None and base is x.base):  # it is no copy
            return quick_view(self, data, VIEW, {"shape": data.shape})
    return view_as_asked(self, shape, dtype, size)


def counts(sizes: Any) -> bool:
    """Whether a sequence holds counts or -1; NumPy takes other negative sizes too, and None."""
    return isinstance(sizes, (tuple, list)) and min(sizes, default=0) >= -1


def view_as_asked(x: Tensor, shape: tuple, dtype: Any, size: Any) -> Tensor:
    """`view` with every form of its arguments and every check."""
    if dtype is not None:
        return x.view_dtype(dtype)
    check(
        bool(shape) or size is not None,
        "view() expects a shape or a dtype, got no argument; pass sizes",
        TypeError,
    )
    if len(shape) == 1 and not isinstance(shape[0], (int, tuple, list, Tensor, np.integer)):
        return x.view_dtype(shape[0])
    return in_shape(x, sizes_argument(shape, size), copy=False)


@public
def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """The same elements in another shape: a view where strides allow it, else a copy.

    >>> torch.arange(4).reshape(2, -1)
    tensor([[0, 1],
            [2, 3]])
    """
    if sizes and STATE.mode != GENERAL:
        x = input._data
        try:
            data = x.reshape(sizes if sizes[0].__class__ is int else sizes[0], copy=False)
        except (TypeError, ValueError):
            return in_shape(input, sizes_argument(sizes, shape), copy=True)
        if data.shape != sizes and not (
            min(sizes) >= -1 if sizes[0].__class__ is int else counts(sizes[0])
        ):
            return in_shape(input, sizes_argument(sizes, shape), copy=True)
        base = data.base
        if base is x or (base is not None and base is x.base):
            return quick_view(input, data, VIEW, {"shape": data.shape})
    return in_shape(input, sizes_argument(sizes, shape), copy=True)


def in_shape(x: Tensor, shape: tuple[int, ...], copy: bool) -> Tensor:
    """`view`, or `reshape` with `copy`, with every check."""
    shape = infer_shape(shape, x._data.size)
    if x._data.__class__ is ndarray:
        try:
            x._data.reshape(shape, copy=False)
        except ValueError:
            check(
                copy,
                "view size is not compatible with input tensor's size and stride (at least one "
                "dimension spans across two contiguous subspaces). Use .reshape(...) instead.",
            )
            x = x.contiguous()
    return apply(VIEW, x, shape=shape)


@public(spaces=())
def view_as(self: Tensor, other: Tensor) -> Tensor:
    """A view in the shape of `other`."""
    return self.view(other._data.shape)


@public(spaces=())
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """The same elements in the shape of `other`."""
    return self.reshape(other._data.shape)


@public
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from `start_dim` to `end_dim` as one; the tensor itself if that is one
    already.
    """
    shape = input._data.shape
    start, end = normalize_dim(start_dim, len(shape)), normalize_dim(end_dim, len(shape))
    if not shape:
        return input.reshape((1,))
    check(start <= end, "flatten() has invalid args: start_dim cannot come after end_dim")
    if start == end:
        return input
    count = math.prod(shape[start : end + 1])
    return input.reshape((*shape[:start], count, *shape[end + 1 :]))


@public
@numpy_names
def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """One dimension as several, of the given sizes; one of them may be -1.

    >>> torch.zeros(6).unflatten(0, (2, -1)).shape
    torch.Size([2, 3])
    """
    shape = input._data.shape
    dim = normalize_dim(dim, len(shape))
    sizes = shape_argument((sizes,))
    check(len(sizes) > 0, "unflatten: sizes must be non-empty")
    have, product = shape[dim], 1
    for s in sizes:
        product *= s
    fits = have % product == 0 if -1 in sizes and product else product == have
    check(
        fits,
        lambda: (
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} "
            f"({have}) in the input tensor"
        ),
    )
    inferred = infer_shape(sizes, have) if -1 in sizes else sizes
    return input.view((*shape[:dim], *inferred, *shape[dim + 1 :]))


@public
def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension; a view where the memory is contiguous."""
    return input.contiguous().view((-1,))


# -- permutations ------------------------------------------------------------------------------


def permute_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The order behind the batch dimension."""
    x = move_to_front(values[0], dims[0])
    return apply(op, x, dims=(0, *[d + 1 for d in params["dims"]])), 0


PERMUTE: ViewOp = ViewOp(
    "permute",
    lambda x, dims: x.transpose(dims),
    lambda g, dims: view_of(g, PERMUTE, {"dims": inverse(dims)}),
    permute_batch,
)
TRANSPOSE = ViewOp(
    "transpose",
    lambda x, dim0, dim1: x.swapaxes(dim0, dim1),
    lambda g, dim0, dim1: g.transpose(dim0, dim1),
    batch_first(lambda params, ndim: {k: d + 1 for k, d in params.items()}),
)


def t_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The last two of three dimensions swapped."""
    x = move_to_front(values[0], dims[0])
    return (x if x._data.ndim < 3 else x.transpose(1, 2)), 0


T = ViewOp("t", lambda x: x.T, lambda g: g.t(), t_batch)


@public
def t(input: Tensor) -> Tensor:
    """A view of a matrix with rows and columns swapped; a tensor with fewer dimensions as it is."""
    ndim = input._data.ndim
    if ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {ndim}D")
    if STATE.mode == GENERAL:
        return apply(T, input)
    return quick_view(input, input._data.T, T, NOTHING)


@public
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions swapped."""
    x = input._data
    ndim = x.ndim
    if dim0 != dim1 and -ndim <= dim0 < ndim and -ndim <= dim1 < ndim and STATE.mode != GENERAL:
        params = {"dim0": dim0 % ndim, "dim1": dim1 % ndim}
        return quick_view(input, x.swapaxes(dim0, dim1), TRANSPOSE, params)
    dim0, dim1 = normalize_dim(dim0, ndim), normalize_dim(dim1, ndim)
    if dim0 == dim1:
        return view_of(input, ALIAS, NOTHING)
    return view_of(input, TRANSPOSE, {"dim0": dim0, "dim1": dim1})


@public
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """A view with two dimensions swapped; NumPy's name for `transpose`."""
    return input.transpose(axis0, axis1)


@public
def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions swapped; another name for `transpose`."""
    return input.transpose(dim0, dim1)


@public
def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """A view with the dimensions in the order `dims`."""
    order = sizes_argument(order, dims)
    if STATE.mode != GENERAL and order and min(order) >= 0:
        try:
            return quick_view(input, input._data.transpose(order), PERMUTE, {"dims": order})
        except ValueError:
            return permute_checked(input, order)
    return permute_checked(input, order)


def permute_checked(input: Tensor, order: tuple[int, ...]) -> Tensor:
    """`permute` with every check."""
    ndim = input._data.ndim
    check(
        len(order) == ndim,
        lambda: (
            "permute(sparse_coo): number of dimensions in the tensor input does not match the "
            f"length of the desired ordering of dimensions i.e. input.dim() = {ndim} is not equal "
            f"to len(dims) = {len(order)}"
        ),
    )
    order = tuple([normalize_dim(d, ndim) for d in order])
    check(len(set(order)) == ndim, "permute(): duplicate dims are not allowed.")
    return view_of(input, PERMUTE, {"dims": order})


@public(aliases=("moveaxis",))
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """A view with dimensions moved from `source` to `destination`; the others keep their order."""
    ndim = input._data.ndim
    source, destination = as_tuple(source), as_tuple(destination)
    check(
        len(source) == len(destination),
        lambda: (
            "movedim: Invalid source or destination dims: source "
            f"({list(source)} dims) should contain the same number of dims as destination "
            f"({list(destination)} dims)"
        ),
    )
    source = [normalize_dim(d, ndim) for d in source]
    destination = [normalize_dim(d, ndim) for d in destination]
    for name, dims in (("source", source), ("destination", destination)):
        check(len(set(dims)) == len(dims), f"movedim: repeated dim in `{name}` ({dims})")
    if not ndim:
        return view_of(input, ALIAS, NOTHING)
    rest = iter([d for d in range(ndim) if d not in source])
    placed = dict(zip(destination, source, strict=True))
    order = tuple([placed[i] if i in placed else next(rest) for i in range(ndim)])
    return view_of(input, PERMUTE, {"dims": order})


def as_tuple(value: Any) -> tuple:
    """An int as a tuple of one, a sequence as a tuple."""
    return tuple(value) if isinstance(value, Sequence) else (value,)


REVERSED = [tuple(range(n))[::-1] for n in range(65)]


def reverse_dims(self: Tensor) -> Tensor:
    """A view with the dimensions in reverse order."""
    ndim = self._data.ndim
    if ndim not in (0, 2):
        warnings.warn(
            f"The use of `x.T` on tensors of dimension other than 2, here {ndim}, is deprecated: "
            "take x.mT for batches of matrices, or x.permute for all dimensions in reverse order",
            stacklevel=2,
        )
    params = {"dims": REVERSED[ndim]}
    if STATE.mode == GENERAL:
        return apply(PERMUTE, self, **params)
    return quick_view(self, self._data.T, PERMUTE, params)


def matrix_transpose(self: Tensor) -> Tensor:
    """A view with the last two dimensions swapped."""
    ndim = self._data.ndim
    check(
        ndim != 1,
        lambda: (
            f"tensor.mT is only supported on matrices or batches of matrices. Got {ndim}-D tensor."
        ),
    )
    return self.transpose(-2, -1) if ndim else self


@public
def adjoint(input: Tensor) -> Tensor:
    """The last two dimensions swapped, and conjugated if complex."""
    check(
        input._data.ndim >= 2,
        lambda: (
            "tensor.adjoint() is only supported on matrices or batches of matrices. Got "
            f"{input._data.ndim}-D tensor."
        ),
    )
    return input.transpose(-2, -1).conj()


def hermitian(self: Tensor) -> Tensor:
    """A matrix transposed, and conjugated if complex."""
    ndim = self._data.ndim
    check(
        ndim in (0, 2),
        lambda: f"tensor.H is only supported on matrices (2-D tensors). Got {ndim}-D tensor.",
    )
    return self.adjoint() if ndim else self.conj()


Tensor.T = property(reverse_dims)  # type: ignore[assignment]
Tensor.mT = property(matrix_transpose)  # type: ignore[assignment]
Tensor.mH = property(adjoint)  # type: ignore[assignment]
Tensor.H = property(hermitian)  # type: ignore[assignment]


# -- squeeze, unsqueeze ------------------------------------------------------------------------

SQUEEZE = ViewOp(
    "squeeze",
    lambda x, dims, form: x.squeeze(dims),
    lambda g, x_shape: g.reshape(x_shape),
    batch_first(lambda params, ndim: {**params, "dims": tuple([d + 1 for d in params["dims"]])}),
    grad_name=lambda params: f"SqueezeBackward{params['form']}",
)
UNSQUEEZE = ViewOp(
    "unsqueeze",
    lambda x, dim: x[NEW_DIM[dim]],
    lambda g, dim: g.squeeze(dim),
    batch_first(lambda params, ndim: {"dim": params["dim"] + 1}),
)
NEW_DIM: list[tuple] = [(slice(None),) * d + (None,) for d in range(65)]


@public
@numpy_names
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """A view without the dimensions of size 1: all of them, or those in `dim` that have it.

    >>> torch.zeros(1, 2, 1).squeeze(0).shape
    torch.Size([2, 1])
    """
    shape = input._data.shape
    if dim.__class__ is int and 0 <= dim < len(shape):
        dims = (dim,) if shape[dim] == 1 else ()
        return view_of(input, SQUEEZE, {"dims": dims, "form": 1})
    form = 0 if dim is None else 1 if isinstance(dim, int) else 2
    asked = normalize_dims(dim, len(shape)) if shape or dim is not None else ()
    ones = tuple([d for d in asked if shape and shape[d] == 1])
    return view_of(input, SQUEEZE, {"dims": ones, "form": form})


@public
@numpy_names
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A view with a new dimension of size 1 at `dim`."""
    x = input._data
    if 0 <= dim <= x.ndim and STATE.mode != GENERAL:
        return quick_view(input, x[NEW_DIM[dim]], UNSQUEEZE, {"dim": dim})
    return view_of(input, UNSQUEEZE, {"dim": normalize_dim(dim, input._data.ndim + 1)})


# -- the same view, with and without history ---------------------------------------------------

ALIAS = ViewOp(
    "alias",
    lambda x: x.view(),
    lambda g: g,
    lambda size, values, dims, params, op: (apply(op, values[0]), dims[0]),
)
DETACH = Op(
    "detach",
    ("x",),
    lambda x: x,
    batch=lambda size, values, dims, params, op: (values[0].detach(), dims[0]),
)


@public
def detach(input: Tensor) -> Tensor:
    """The same memory and version, without history: gradients stop here."""
    if STATE.mode == GENERAL:
        t = apply(DETACH, input)
    else:
        t = wrap(input._data)
    if input._storage is None:
        input._storage = Storage()
    t._storage = input._storage
    return t


@public
def detach_(input: Tensor) -> Tensor:
    """Takes the tensor's own history away, in place; raises RuntimeError for a view."""
    check(
        input._view is None,
        "Can't detach views in-place. Use detach() instead. If you are using "
        "DistributedDataParallel (DDP) for training, and gradient_as_bucket_view is set as True, "
        "gradients are views of DDP buckets, and hence detach_() cannot be called on these "
        "gradients.",
    )
    input.grad_fn, input._requires_grad = None, False
    return input
