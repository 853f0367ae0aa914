"""In place, but for the values: a tensor takes another shape, other strides, another storage.

May import rules, views, expand, slices, splits, strided, core and the base.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.inplace import check_writable
from ..core.memory import Storage, memory_of, root_array
from ..core.naming import named
from ..core.tensor import Tensor, blank
from ..errors import check
from . import strided, views
from .rules import EXPORTS, public, shape_argument


def become_view(self: Tensor, view: Callable, args: tuple, kwargs: dict, name: str) -> Tensor:
    """`self` turns into a view of what it was; other views of it stay views of that."""
    check_writable(self, name)
    carrier: Any = self if self.interpreter is not None else None
    was = carrier.copy() if carrier is not None else blank(Tensor)
    was._data, was._storage, was._view = self._data, self._storage, self._view
    was._requires_grad, was.grad_fn = self._requires_grad, self.grad_fn
    seen = view(was, *args, **kwargs)
    for r in seen._storage.views:
        other = r()
        if other is not None and other._view[0] is self:
            other._view = (was, *other._view[1:])
    self._data, self._storage, self._view = seen._data, seen._storage, seen._view
    if carrier is not None:
        carrier.carry(*seen.fields())
    self._requires_grad, self.grad_fn = seen._requires_grad, seen.grad_fn
    self._storage.write(name)
    return self


def view_in_place(view: Callable, name: str) -> None:
    """Publishes the in-place form of a view."""

    def call(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return become_view(self, view, args, kwargs, name)

    doc = f"In-place form of `{name[:-1]}`: the tensor itself takes the new shape and strides."
    named(call, name, doc)
    setattr(Tensor, name, call)
    if name == "as_strided_":
        EXPORTS["torch"][name] = call


for function in (views.squeeze, views.unsqueeze, views.transpose, views.t, strided.as_strided):
    view_in_place(function, function.__name__ + "_")
view_in_place(views.swapaxes, "swapaxes_")
view_in_place(views.swapdims, "swapdims_")


# -- another storage ---------------------------------------------------------------------------


@public(spaces=())
def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """The tensor takes a shape; its storage is kept and grows if it must, new elements are
    arbitrary.

    Raises RuntimeError for a tensor that requires grad.
    """
    check(not self._requires_grad, "cannot resize variables that require grad")
    shape = shape_argument(sizes)
    check(
        all(s >= 0 for s in shape),
        lambda: f"Trying to create tensor with negative dimension in {list(shape)}",
    )
    x = self._data
    if x.shape == shape:
        return self
    count = int(np.prod(shape, dtype=np.int64))
    start, item = self.storage_offset() if x.size else 0, x.dtype.itemsize
    memory = memory_of(root_array(x))
    if (start + count) * item > memory.size:
        grown = np.empty((start + count) * item, np.uint8)
        grown[: memory.size] = memory
        memory = grown
        self._storage = Storage()
    if count:
        self._data = ndarray(shape, x.dtype, memory, start * item)
    else:
        self._data = np.empty(shape, x.dtype)
    if self._storage is None:
        self._storage = Storage()
    self._storage.write("resize_")
    return self


@public(spaces=())
def resize_as_(self: Tensor, the_template: Tensor, memory_format: Any = None) -> Tensor:
    """The tensor takes the shape of another."""
    return self.resize_(the_template._data.shape)


EXPORTS["torch"]["resize_as_"] = resize_as_
