"""Views: new shapes and strides on the same memory. May import rules, core and the base."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply, edge, link_view
from ..core.graph import GENERAL, STATE, Node
from ..core.op import Op
from ..core.tensor import Tensor, _new, normalize_dim, tick, wrap
from ..errors import check
from .rules import move_to_front, public, shape_argument


def view_op(name: str, kernel: Any, vjp: Any, batch: Any, **options: Any) -> Op:
    """The record of a view: its jvp is itself, its kernel returns a view of the input's array."""
    return Op(name, ("x",), kernel, kind="view", vjp={"x": vjp}, jvp="linear", batch=batch, view=True, **options)


def quick_view(x: Tensor, data: ndarray, op: Op, params: dict) -> Tensor:
    """The short path of `apply` for a view whose array is known."""
    t = _new(Tensor)
    t._data = data
    link_view(t, x, op, params)
    if STATE.mode and x._requires_grad:
        node = _new(Node)
        node.params, node.plan = params, op.plans[1]
        before = x.grad_fn
        node.edges = (x if before is None else before,)
        node.shape, node.dtype = data.shape, data.dtype
        shape = x._data.shape
        node.saved = tuple([shape if n == "x_shape" else params[n] for n in node.plan.names])
        t._requires_grad, t.grad_fn = True, node
        node.seq = tick()
    return t


# -- reshape, view -----------------------------------------------------------------------------


def reshape_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    x = move_to_front(values[0], dims[0])
    return x.reshape((size, *params["shape"])), 0


VIEW = view_op(
    "view",
    lambda x, shape: x.reshape(shape),
    lambda g, x_shape: g.reshape(x_shape),
    reshape_batch,
)


def infer_shape(shape: tuple[int, ...], size: int, name: str) -> tuple[int, ...]:
    """The shape with its -1 worked out; raises RuntimeError where it cannot hold `size` elements."""
    if -1 in shape:
        known = 1
        for s in shape:
            known *= s if s != -1 else 1
        check(shape.count(-1) == 1, f"[{name}] only one dimension can be inferred")
        check(
            known != 0,
            lambda: f"[{name}] cannot reshape tensor of {size} elements into shape {list(shape)} because the "
            "unspecified dimension size -1 can be any value and is ambiguous",
        )
        check(size % known == 0, lambda: f"shape '{list(shape)}' is invalid for input of size {size}")
        shape = tuple([size // known if s == -1 else s for s in shape])
    return shape


def view(self: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape, sharing memory; raises RuntimeError where strides forbid it."""
    if shape[0].__class__ is not int:
        if not isinstance(shape[0], (tuple, list, Tensor, np.integer)):
            return self.view_dtype(shape[0])
        shape = shape_argument(shape)
    x = self._data
    if -1 in shape:
        shape = infer_shape(shape, x.size, "view")
    if STATE.mode == GENERAL:
        return apply(VIEW, self, shape=shape)
    try:
        data = x.reshape(shape)
    except ValueError:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {x.size}") from None
    if not x.flags.c_contiguous and x.size and not np.may_share_memory(x, data):
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans "
            "across two contiguous subspaces). Use .reshape(...) instead."
        )
    return quick_view(self, data, VIEW, {"shape": shape})


Tensor.view = view  # type: ignore[attr-defined]


@public
def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape: a view where strides allow it, else a copy.

    >>> torch.arange(4).reshape(2, -1)
    tensor([[0, 1],
            [2, 3]])
    """
    shape = shape_argument(shape)
    x = input._data
    if -1 in shape:
        shape = infer_shape(shape, x.size, "reshape")
    if input.interpreter is not None:
        return apply(VIEW, input, shape=shape)
    if x.flags.c_contiguous or can_view(x, shape):
        return input.view(shape)
    return input.clone().view(shape)


def can_view(x: ndarray, shape: tuple[int, ...]) -> bool:
    """Whether the strides of x let the new shape share its memory."""
    if x.size == 0:
        return True
    try:
        return np.may_share_memory(x, x.reshape(shape))
    except ValueError:
        return True


# -- permutations ------------------------------------------------------------------------------


def permute_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    x = move_to_front(values[0], dims[0])
    return apply(op, x, dims=(0, *[d + 1 for d in params["dims"]])), 0


def inverse(dims: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `dims`."""
    out = [0] * len(dims)
    for i, d in enumerate(dims):
        out[d] = i
    return tuple(out)


PERMUTE = view_op(
    "permute",
    lambda x, dims: x.transpose(dims),
    lambda g, dims: apply(PERMUTE, g, dims=inverse(dims)),
    permute_batch,
)


@public
def permute(input: Tensor, *dims: Any) -> Tensor:
    """A view with the dimensions in the order `dims`."""
    order = shape_argument(dims)
    ndim = input._data.ndim
    check(
        len(order) == ndim,
        lambda: f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the "
        f"desired ordering of dimensions i.e. input.dim() = {ndim} is not equal to len(dims) = {len(order)}",
    )
    order = tuple([normalize_dim(d, ndim) for d in order])
    check(len(set(order)) == ndim, "permute(): duplicate dims are not allowed.")
    return apply(PERMUTE, input, dims=order)


@public(aliases=("swapaxes", "swapdims"))
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """A view with two dimensions swapped."""
    ndim = input._data.ndim
    dim0, dim1 = normalize_dim(dim0, ndim), normalize_dim(dim1, ndim)
    order = list(range(ndim))
    if ndim:
        order[dim0], order[dim1] = dim1, dim0
    return apply(PERMUTE, input, dims=tuple(order))


@public
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """A view with dimensions moved from `source` to `destination`; the others keep their order."""
    ndim = input._data.ndim
    src = [normalize_dim(d, ndim) for d in ([source] if isinstance(source, int) else source)]
    dst = [normalize_dim(d, ndim) for d in ([destination] if isinstance(destination, int) else destination)]
    check(len(src) == len(dst), "movedim: source and destination must have the same number of dims")
    rest = iter([d for d in range(ndim) if d not in src])
    placed = dict(zip(dst, src))
    return apply(PERMUTE, input, dims=tuple([placed[i] if i in placed else next(rest) for i in range(ndim)]))


# -- expand ------------------------------------------------------------------------------------


def expand_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    x, shape = move_to_front(values[0], dims[0]), params["shape"]
    ones = (1,) * (len(shape) - x._data.ndim + 1)
    x = x.reshape((size, *ones, *x._data.shape[1:]))
    return apply(op, x, shape=(size, *shape)), 0


EXPAND = view_op(
    "expand",
    lambda x, shape: np.broadcast_to(x, shape),
    lambda g: g,  # the engine un-broadcasts
    expand_batch,
)


@public(spaces=())
def expand(self: Tensor, *sizes: Any, implicit: bool = False) -> Tensor:
    """A view in which dimensions of size 1 are repeated without copying; -1 keeps a size."""
    shape = shape_argument(sizes)
    have = self._data.shape
    lead = len(shape) - len(have)
    check(
        lead >= 0,
        lambda: f"expand({self.dtype}{list(have)}, size={list(shape)}): the number of sizes provided ({len(shape)}) "
        f"must be greater or equal to the number of dimensions in the tensor ({len(have)})",
    )
    shape = tuple([have[i - lead] if s == -1 and i >= lead else s for i, s in enumerate(shape)])
    for i, (h, s) in enumerate(zip(have, shape[lead:])):
        if h != s and h != 1:
            raise RuntimeError(
                f"The expanded size of the tensor ({s}) must match the existing size ({h}) at non-singleton "
                f"dimension {i + lead}.  Target sizes: {list(shape)}.  Tensor sizes: {list(have)}"
            )
    return apply(EXPAND, self, shape=shape)
