"""Memory seen anew: contiguous, as_strided, view(dtype), `*_copy` and `*_scatter` of views.

May import rules, views, expand, slices, splits, core and the base.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.memory import memory_of, root_array, strides_of
from ..core.naming import named
from ..core.op import Op
from ..core.tensor import Tensor, wrap
from ..errors import check
from ..layout import contiguous_format, format_order, is_dense_in
from . import expand, slices, splits, views
from .rules import move_to_front, public, shape_argument
from .slices import DIAGONAL, FULL, INDEX
from .views import ViewOp, view_of

# -- contiguous --------------------------------------------------------------------------------


@public(spaces=())
def contiguous(self: Tensor, memory_format: Any = contiguous_format) -> Tensor:
    """The tensor itself if its memory is in order already, else a copy in which it is."""
    data = self._data
    if data.__class__ is ndarray and memory_format is contiguous_format and data.flags.c_contiguous:
        return self
    format_order(self._data.ndim, memory_format, "contiguous")
    return self if self.is_contiguous(memory_format) else self.clone(memory_format=memory_format)


@public(spaces=())
def is_contiguous(self: Tensor, memory_format: Any = contiguous_format) -> bool:
    """Whether the elements lie in memory in the order of their indices (or of `memory_format`)."""
    data = self._data
    return data.__class__ is not ndarray or is_dense_in(data, memory_format)


# -- as_strided --------------------------------------------------------------------------------


def strided_array(
    x: ndarray, size: tuple[int, ...], stride: tuple[int, ...], storage_offset: int, geometry: tuple
) -> ndarray:
    """The storage of x with other sizes and strides; `geometry` is where x lay when the call was
    made.

    An array that lies otherwise (a gradient, a tangent) is read as if it lay there, into a copy.
    """
    shape, strides, offset = geometry
    root, item = root_array(x), x.dtype.itemsize
    if 0 in size:
        return np.empty(size, x.dtype)
    if x.shape == shape and strides_of(x) == strides:
        at = x.ctypes.data - root.ctypes.data + (storage_offset - offset) * item
        steps = tuple([s * item for s in stride])
        return ndarray(size, x.dtype, memory_of(root), at, steps)
    into, out = positions(*geometry), positions(size, stride, storage_offset)
    storage = np.zeros(max(into.max(initial=-1), out.max()) + 1, x.dtype)
    storage[into] = x
    return storage[out]


def positions(size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> ndarray:
    """Where in the storage each element of a strided tensor lies."""
    at = np.full(size, offset, np.int64)
    for d, (n, step) in enumerate(zip(size, stride, strict=True)):
        at += (np.arange(n) * step).reshape((n,) + (1,) * (len(size) - d - 1))
    return at


def restride(x: Tensor, geometry: tuple, size: tuple, stride: tuple, offset: int) -> Tensor:
    """x, laid into a storage by `geometry` (size, stride, offset), read with another; copies.

    Elements that share a place in the storage are added up; this is also the gradient of
    `as_strided`.
    """
    into, out = positions(*geometry), positions(size, stride, offset)
    span = int(max(into.max(initial=-1), out.max(initial=-1))) + 1
    storage = x.new_zeros((span,)).index_put((wrap(into),), x, accumulate=True)
    return storage[wrap(out)]


def strided_gradient(
    g: Tensor, size: tuple, stride: tuple, storage_offset: int, geometry: tuple
) -> Tensor:
    """What reaches each place of the storage; elements that share a place divide it."""
    gathered = restride(g, (size, stride, storage_offset), *geometry)
    places = positions(*geometry)
    if 0 in geometry[1] or np.unique(places).size < places.size:
        _, sharers, count = np.unique(places, return_inverse=True, return_counts=True)
        gathered = gathered / wrap(count[sharers].reshape(places.shape).astype(g._data.dtype))
    return gathered


def strided_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Each example has a storage of its own, contiguous as its shape says."""
    x = move_to_front(values[0], dims[0]).reshape((size, -1))
    at = positions(params["size"], params["stride"], params["storage_offset"])
    return x[:, wrap(at)], 0


AS_STRIDED = ViewOp("as_strided", strided_array, strided_gradient, strided_batch)
AS_STRIDED.jvp = lambda tangents, inputs, outputs, params: restride(
    tangents[0], params["geometry"], params["size"], params["stride"], params["storage_offset"]
)


def strided_params(x: Tensor, size: Any, stride: Any, storage_offset: int | None) -> dict:
    """Checked parameters of `as_strided`; raises RuntimeError where they leave the storage."""
    size, stride = shape_argument((size,)), shape_argument((stride,))
    check(
        len(size) == len(stride),
        lambda: (
            f"mismatch in length of strides and shape: {list(size)} sizes, {list(stride)} strides"
        ),
    )
    check(
        all(n >= 0 for n in size),
        lambda: (
            f"[as_strided] Storage size calculation overflowed with sizes={list(size)} and "
            f"strides={list(stride)}; sizes must not be negative"
        ),
    )
    check(
        all(s >= 0 for s in stride),
        lambda: (
            "as_strided: Negative strides are not supported at the moment, got strides: "
            f"{list(stride)}"
        ),
    )
    real = x._data.__class__ is ndarray
    own = x.storage_offset() if real else 0
    offset = own if storage_offset is None else storage_offset
    check(offset >= 0, lambda: f"Tensor: invalid storage offset {offset}")
    item = x._data.dtype.itemsize
    stored = root_array(x._data).nbytes if real else x._data.size * item
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) + 1
    check(
        0 in size or last * item <= stored,
        lambda: (
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and "
            f"itemsize {item} requiring a storage size of {last * item} are out of bounds for "
            f"storage of size {stored}"
        ),
    )
    geometry = (tuple(x._data.shape), strides_of(x._data), own)
    return {"size": size, "stride": stride, "storage_offset": offset, "geometry": geometry}


@public
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view of the tensor's storage with the given sizes, strides and offset, counted in elements.

    >>> torch.arange(6).as_strided((2, 2), (3, 1), 1)
    tensor([[1, 2],
            [4, 5]])
    """
    return view_of(input, AS_STRIDED, strided_params(input, size, stride, storage_offset))


# -- view(dtype) -------------------------------------------------------------------------------

VIEW_DTYPE = Op(
    "view_dtype",
    ("x",),
    lambda x, dtype: x.view(dtype.numpy),
    view=True,
    batch=lambda size, values, dims, params, op: (
        apply(op, move_to_front(values[0], dims[0]), **params),
        0,
    ),
)


@public(spaces=())
def view_dtype(self: Tensor, dtype: dtypes.dtype) -> Tensor:
    """The same bytes as another type; where sizes differ, the last dimension shrinks or grows.

    >>> torch.tensor(1.0).view(torch.int32)
    tensor(1065353216, dtype=torch.int32)
    """
    check(
        isinstance(dtype, dtypes.dtype),
        lambda: f"view(): argument must be ints or a dtype, got {type(dtype).__name__}",
        TypeError,
    )
    x, old, new = self._data, self._data.dtype.itemsize, dtype.itemsize
    if old != new:
        check(
            x.ndim > 0,
            lambda: (
                f"self.dim() cannot be 0 to view {self.dtype} as {dtype} (different element sizes)"
            ),
        )
        check(
            x.shape[-1] <= 1 or self.stride(-1) == 1,
            lambda: (
                f"self.stride(-1) must be 1 to view {self.dtype} as {dtype} (different element "
                f"sizes), but got {self.stride(-1)}"
            ),
        )
        check(
            x.shape[-1] * old % new == 0,
            lambda: (
                f"self.size(-1) must be divisible by {new // old} to view {self.dtype} as {dtype} "
                f"(different element sizes), but got {x.shape[-1]}"
            ),
        )
    return apply(VIEW_DTYPE, self, dtype=dtype)


# -- a copy with one view of it replaced -------------------------------------------------------


def view_scatter_kernel(x: ndarray, src: ndarray, view: ViewOp, at: dict) -> ndarray:
    """A copy of x whose view has the values of src."""
    y = x.copy()
    view.kernel(y, **at)[...] = src
    return y


def view_scatter_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The same view behind the batch dimension."""
    x, src = [
        v.unsqueeze(0).expand((size, *v._data.shape)) if d is None else move_to_front(v, d)
        for v, d in zip(values, dims, strict=True)
    ]
    view, at = params["view"], params["at"]
    if view is INDEX:
        shifted = {"index": slices.behind_batch(at["index"])}
    else:
        shifted = slices.shift_diagonal(at, 0)
    return apply(op, x, src, view=view, at=shifted), 0


def scatter_name(params: dict) -> str:
    """`SelectScatterBackward0` and the like."""
    return params["view"].gradient_name(params["at"]).replace("Backward", "ScatterBackward")


VIEW_SCATTER: Op = Op(
    "view_scatter",
    ("x", "src"),
    view_scatter_kernel,
    vjp={
        "x": lambda g, src_shape, view, at: apply(
            VIEW_SCATTER, g, g.new_zeros(src_shape), view=view, at=at
        ),
        "src": lambda g, view, at: view_of(g, view, at),
    },
    batch=view_scatter_batch,
    grad_name=scatter_name,
)


def view_scatter(x: Tensor, src: Tensor, view: ViewOp, at: dict) -> Tensor:
    """A copy of x whose view `view(x, **at)` has the values of src."""
    shape = tuple(view_of(x.detach(), view, at)._data.shape)
    check(
        tuple(src._data.shape) == shape,
        lambda: (
            "expected src to have a size equal to the slice of self. src size = "
            f"{list(src._data.shape)}, slice size = {list(shape)}"
        ),
    )
    return apply(VIEW_SCATTER, x, src, view=view, at=at)


@public
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of the input with `src` in the place of one index of a dimension."""
    part: Any = input.detach().select(dim, index)
    view, at = part._view[1:]
    return view_scatter(input, src, view, at)


@public
def slice_scatter(
    input: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """A copy of the input with `src` in the place of a slice of a dimension."""
    dim = dim + input._data.ndim if dim < 0 else dim
    index = (FULL,) * dim + (slice(start, end, step),)
    return view_scatter(input, src, INDEX, {"index": index})


@public
def diagonal_scatter(
    input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """A copy of the input with `src` on a diagonal of two dimensions."""
    dim1, dim2 = slices.two_dims(dim1, dim2, input._data.ndim, "diagonal")
    return view_scatter(input, src, DIAGONAL, {"offset": offset, "dim1": dim1, "dim2": dim2})


@public
def as_strided_scatter(
    input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """A copy of the input with `src` in the place of a strided part of its storage."""
    copy = input.clone()
    params = strided_params(copy, size, stride, storage_offset)
    at = wrap(positions(params["size"], params["stride"], params["storage_offset"]))
    return copy.reshape((-1,)).index_put((at,), src).reshape(input._data.shape)


# -- copies of views ---------------------------------------------------------------------------


def copy_form(view: Callable, name: str) -> Callable:
    """The function whose result is a view's copy (or a tuple of them)."""

    def call(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        seen = view(input, *args, **kwargs)
        if isinstance(seen, tuple):
            return tuple([t.clone() for t in seen])
        return seen.clone()

    return public(
        named(call, name, f"A copy of what `{name[:-5]}` shows."),
        out=True,
        method=name == "narrow_copy",
    )


VIEWS = {
    "alias": lambda input: view_of(input, views.ALIAS, {}),
    "as_strided": as_strided,
    "detach": views.detach,
    "diagonal": slices.diagonal,
    "expand": expand.expand,
    "narrow": slices.narrow,
    "permute": views.permute,
    "select": slices.select,
    "slice": lambda input, dim=0, start=None, end=None, step=1: view_of(
        input, INDEX, {"index": (FULL,) * (dim % input._data.ndim) + (slice(start, end, step),)}
    ),
    "split": splits.split,
    "split_with_sizes": splits.split_with_sizes,
    "squeeze": views.squeeze,
    "t": views.t,
    "transpose": views.transpose,
    "unbind": splits.unbind,
    "unfold": slices.unfold,
    "unsqueeze": views.unsqueeze,
    "view": views.view,
}
for name, function in VIEWS.items():
    copy_form(function, name + "_copy")
