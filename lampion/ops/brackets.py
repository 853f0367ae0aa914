"""What stands between brackets: `x[index]`, `x[index] = value`. May import rules, the views, index,
core and the base.

An index is parsed into a view (integers, slices, new dimensions) and, if it has tensors, lists or
masks, one advanced index of that view. Integers select first, as in PyTorch, so that `x[0, :, [1,
2]]` leaves the list in its place; otherwise the dimensions of an advanced index go where NumPy puts
them. The short paths come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType, NoneType
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.graph import GENERAL, NOTHING, STATE
from ..core.inplace import assign, check_memory, check_writable, type_name
from ..core.memory import Storage
from ..core.op import Op
from ..core.promotion import CAST
from ..core.quick import quick_record, quick_view
from ..core.tensor import Tensor, wrap
from ..errors import check
from .accumulate import from_front, index_key
from .expand import expand_to
from .index import TAKE, one_index, put_at, take_rows
from .rules import public
from .slices import FULL, INDEX
from .views import view_of

INT64, BOOL = np.dtype(np.int64), np.dtype(np.bool_)

# -- parsing -----------------------------------------------------------------------------------


class Parsed:
    """An index: `basic` makes a view (None: the tensor as it is), `indices` index the dims `dims`
    of that view.
    """

    def __init__(self, shape: tuple[int, ...], index: Any, select: bool = True) -> None:
        """`select`: whether a tensor of one integer counts as that integer."""
        self.shape = shape
        self.basic: Any = []
        self.dims: list[int] = []
        self.indices: list = []
        self.dim = self.axis = 0  # how far the tensor's and the view's dimensions are taken
        items: Any = index if isinstance(index, tuple) else (index,)
        if isinstance(index, list) and any(
            isinstance(i, NESTED) or i is None or i is ... for i in index
        ):
            items = tuple(index)  # a list of indices counts as a tuple of them
        self.items = items = [as_item(i, select) for i in items]
        named = sum(dims_taken(i) for i in items)
        if named > len(shape):
            raise too_many(shape, items)
        self.spare = len(shape) - named  # how many dimensions an ellipsis stands for
        for item in items:
            self.add(item)
        self.plain = all(i.__class__ is slice and i == FULL for i in self.basic)

    def add(self, item: Any) -> None:
        """Takes in one item."""
        if item.__class__ is int:
            self.select(item)
        elif item.__class__ is slice:
            self.keep(1, item)
        elif item is None:
            self.basic.append(None)
            self.axis += 1
        elif item is ...:
            self.keep(self.spare)
            self.spare = 0  # a second ellipsis stands for none
        elif item.__class__ is bool or item._data.ndim == 0 and item._data.dtype.kind == "b":
            self.basic.append(None)
            self.advanced(wrap(np.zeros(1 if item else 0, INT64)))
        elif item._data.dtype.kind == "b":
            self.mask(item)
        else:
            self.basic.append(FULL)
            self.dim += 1
            self.advanced(item)

    def select(self, item: int) -> None:
        size = self.shape[self.dim]
        if not -size <= item < size:
            raise IndexError(
                f"index {item} is out of bounds for dimension {self.dim} with size {size}"
            )
        self.basic.append(item)
        self.dim += 1

    def keep(self, count: int, item: slice = FULL) -> None:
        self.basic += [item] * count
        self.dim += count
        self.axis += count

    def advanced(self, index: Tensor) -> None:
        self.dims.append(self.axis)
        self.indices.append(index)
        self.axis += 1

    def mask(self, mask: Tensor) -> None:
        """A mask stands for the places where it is true, in as many dimensions as it has."""
        shape, have = mask._data.shape, self.shape[self.dim : self.dim + mask._data.ndim]
        for i, (m, n) in enumerate(zip(shape, have, strict=True)):
            check(
                m == n,
                lambda i=i: (
                    f"The shape of the mask {list(shape)} at index {i} does not match the shape of "
                    f"the indexed tensor {list(self.shape)} at index {self.dim + i}"
                ),
                IndexError,
            )
        for places in np.nonzero(mask.concrete("a mask as an index")):
            self.basic.append(FULL)
            self.dim += 1
            self.advanced(wrap(places))

    def check_bounds(self) -> None:
        """Raises PyTorch's IndexError for an index outside of its dimension; of tensors alone."""
        for dim, index in zip(self.dims, self.indices, strict=True):
            from_front(index._data, self.shape[dim], dim)

    def view(self, x: Tensor) -> Tensor:
        """The view that the integers, slices and new dimensions make."""
        return x if self.plain else view_of(x, INDEX, {"index": (*self.basic, ...)})


NESTED = (Tensor, list, tuple, range, slice, ndarray)


def as_item(item: Any, select: bool) -> Any:
    """One item of an index: an int, a slice of ints, None, an ellipsis, a bool, or a tensor of
    indices or a mask.
    """
    if item.__class__ is int or item is None or item is ... or item.__class__ is bool:
        return item
    if item.__class__ is slice:
        return as_slice(item)
    if isinstance(item, str):
        raise TypeError(f"new(): invalid data type {item.__class__.__name__!r}")
    if isinstance(item, (list, tuple, range, ndarray, np.generic)):
        item = as_index_tensor(item)
    if not isinstance(item, Tensor):
        if not hasattr(item, "__index__"):
            raise IndexError(
                "only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables "
                f"are valid indices (got {type(item).__name__})"
            )
        return item.__index__()
    dtype = item.dtype
    if dtype is dtypes.uint8:
        return wrap(item.concrete("a mask as an index") != 0)
    if dtype not in (dtypes.int64, dtypes.int32, dtypes.bool):
        raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    if select and item._data.ndim == 0 and dtype is not dtypes.bool and item.interpreter is None:
        return int(item.concrete("a tensor as a single index"))
    return item


def as_index_tensor(item: Any) -> Tensor:
    """A list, range or array of indices (or a mask) as a tensor."""
    if isinstance(item, (list, tuple)):
        item = [i.tolist() if isinstance(i, Tensor) else i for i in item]
    array = np.asarray(item)
    if array.size == 0 and not isinstance(item, (ndarray, np.generic)):
        array = array.astype(INT64)
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        array = array.astype(INT64, copy=False)
    if array.dtype not in dtypes.FROM_NUMPY:
        raise IndexError(
            f"tensors used as indices must be long, int, byte or bool tensors, got {array.dtype}"
        )
    return wrap(array)


def as_slice(item: slice) -> slice:
    """A slice of plain ints; raises ValueError for a step that is not positive."""
    try:
        start, stop, step = [
            i if i is None or i.__class__ is int else i.__index__()
            for i in (item.start, item.stop, item.step)
        ]
    except AttributeError:
        raise TypeError(
            "slice indices must be integers or None or have an __index__ method"
        ) from None
    check(step != 0, "slice step cannot be zero", ValueError)
    check(step is None or step > 0, "step must be greater than zero", ValueError)
    return slice(start, stop, step)


def dims_taken(item: Any) -> int:
    """How many dimensions of the tensor an item stands for."""
    if item is None or item is ... or item.__class__ is bool:
        return 0
    if isinstance(item, Tensor) and item._data.dtype.kind == "b":
        return item._data.ndim
    return 1


def too_many(shape: tuple[int, ...], items: list) -> IndexError:
    """PyTorch's error for an index with more items than the tensor has dimensions."""
    if shape:
        return IndexError(f"too many indices for tensor of dimension {len(shape)}")
    if any(i.__class__ is slice for i in items):
        return IndexError("slice() cannot be applied to a 0-dim tensor.")
    return IndexError(
        "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in "
        "C++ to convert a 0-dim tensor to a number"
    )


def is_plain_slice(s: slice) -> bool:
    """Whether a slice is made of ints, without a step."""
    start, stop = s.start, s.stop
    return (
        s.step is None
        and (start is None or start.__class__ is int)
        and (stop is None or stop.__class__ is int)
    )


def is_plain(index: Any) -> bool:
    """Whether an index is made of ints, plain slices, None and one ellipsis at most."""
    kind = index.__class__
    if kind is int:
        return True
    if kind is slice:
        return is_plain_slice(index)
    if kind is not tuple:
        return False
    ellipses = 0
    for i in index:
        kind = i.__class__
        if kind is slice:
            if not is_plain_slice(i):
                return False
        elif kind is EllipsisType:
            ellipses += 1
        elif kind is not int and kind is not NoneType:
            return False
    return ellipses < 2


# -- reading -----------------------------------------------------------------------------------


def getitem(self: Tensor, index: Any) -> Tensor:
    """The part of the tensor that an index names: a view for integers, slices, None and `...`, else
    a copy.
    """
    if STATE.mode != GENERAL:
        kind = index.__class__
        try:
            if kind is int:
                return quick_view(self, self._data[index, ...], INDEX, {"index": index})
            if kind is slice and is_plain_slice(index):
                return quick_view(self, self._data[index], INDEX, {"index": index})
            if kind is tuple and is_plain(index):
                index = index if ... in index else (*index, ...)
                return quick_view(self, self._data[index], INDEX, {"index": index})
            if index is None:
                return self.unsqueeze(0)
        except IndexError:
            Parsed(self._data.shape, index)  # raises PyTorch's error for it
            raise
        if kind is tuple and all_rows(index) and len(index) <= self._data.ndim:
            return at_rows(self, index)
        if kind is Tensor and self._data.ndim and index._data.ndim:
            if index._data.dtype is INT64:
                return take_rows(self, index)
            if index._data.dtype is BOOL and index._data.shape == self._data.shape:
                return masked(self, index)
    parsed = Parsed(tuple(self._data.shape), index)
    if not parsed.dims:
        return view_of(self, INDEX, {"index": (*parsed.basic, ...)})
    return apply(TAKE, parsed.view(self), one_index(parsed.indices), dims=tuple(parsed.dims))


def all_rows(index: tuple) -> bool:
    """Whether an index is made of tensors of integers with dimensions."""
    for i in index:
        if i.__class__ is not Tensor or i._data.dtype is not INT64 or not i._data.ndim:
            return False
    return len(index) > 0


def at_rows(x: Tensor, index: tuple) -> Tensor:
    """x at tensors of indices for its first dimensions."""
    if not x._requires_grad or not STATE.grad:
        try:
            return wrap(x._data[tuple([i._data for i in index])])
        except IndexError:
            one_index(list(index))  # raises PyTorch's error for shapes; TAKE that for bounds
    return apply(TAKE, x, one_index(list(index)), dims=tuple(range(len(index))))


MASKED = Op(
    "masked",
    ("x", "mask"),
    lambda x, mask: x[mask],
    vjp={"x": lambda g, mask, x_shape: g.new_zeros(x_shape).masked_scatter(mask, g)},
    grad_name="IndexBackward0",
)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """x[mask] for a mask of the same shape: the short path of `apply`."""
    t = wrap(x._data[mask._data])
    if x._requires_grad and STATE.grad:
        before = x.grad_fn
        edges = (x if before is None else before,)
        quick_record(t, edges, MASKED.plans[1], NOTHING, (mask, x._data.shape))
    return t


# -- writing -----------------------------------------------------------------------------------


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """Writes a number or a tensor, broadcast, to the part of the tensor that an index names."""
    given = isinstance(value, Tensor)
    if not given and not isinstance(value, (int, float, complex, np.number, np.bool_)):
        kind = type(value)
        name = (
            kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        )
        raise TypeError(f"can't assign a {name} to a torch.{type_name(self.dtype)}Tensor")
    recorded = STATE.grad and (self._requires_grad or (given and value._requires_grad))
    if recorded or STATE.mode == GENERAL:
        set_recorded(self, index, value)
        return
    check_writable(self, "__setitem__")
    data = self._data
    if not data.flags.writeable:
        check_memory(data, "__setitem__")
    target, key = data, index
    if index.__class__ is Tensor and index._data.ndim and index._data.dtype in (INT64, BOOL):
        key = index._data
        check_types(self, [index], value)
    elif index.__class__ is tuple and is_plain(index):
        key = index if ... in index else (*index, ...)  # a view, also of one element
    elif not is_plain(index):
        parsed = Parsed(data.shape, index)
        target, key = data[(*parsed.basic, ...)], ...
        if parsed.dims:
            check_types(self, parsed.items, value)
            dims = tuple(parsed.dims)
            key = index_key(one_index(parsed.indices)._data, dims, target.ndim)
            for d in dims:
                from_front(key[d], target.shape[d], d)
    if given and 0 in data.strides:
        check_memory(np.asarray(target[key]) if is_plain(key) else target, "__setitem__")
    write(target, key, value._data if given else value, self.dtype)
    if self._storage is None:
        self._storage = Storage()
    self._storage.write("__setitem__")


def check_types(x: Tensor, items: list, value: Any) -> None:
    """Raises RuntimeError where an advanced index would convert; one value for one mask may be of
    any type.
    """
    if isinstance(value, Tensor) and value.dtype is not x.dtype:
        (first, *others) = items
        mask = isinstance(first, Tensor) and first.dtype is dtypes.bool and first._data.ndim > 0
        check(mask and not others and value._data.size == 1, lambda: types_differ(x, value))


def types_differ(x: Tensor, value: Tensor) -> str:
    """PyTorch's message for writing values of another type at an advanced index."""
    return (
        "Index put requires the source and destination dtypes match, got "
        f"{type_name(x.dtype)} for the destination and {type_name(value.dtype)} for the source."
    )


def write(target: ndarray, key: Any, value: Any, dtype: dtypes.dtype) -> None:
    """`target[key] = value` with PyTorch's errors."""
    if dtype.category < dtypes.COMPLEX and np.iscomplexobj(value):
        check(
            isinstance(value, ndarray) or value.imag == 0,
            f"value cannot be converted to type {dtype.name} without overflow",
        )
        value = value.real
    try:
        target[key] = value
    except IndexError:
        Parsed(target.shape, wrap(key) if isinstance(key, ndarray) else key).check_bounds()
        raise
    except OverflowError:
        raise RuntimeError(
            f"value cannot be converted to type {dtype.name} without overflow"
        ) from None
    except ValueError:
        part = target[key]
        if is_plain(key):
            expand_to(wrap(value), part.shape)  # raises PyTorch's error for it
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to "
            f"indexing result of shape {list(part.shape)}"
        ) from None


def set_recorded(self: Tensor, index: Any, value: Any) -> None:
    """Writing where a graph is recorded or an interpreter runs: through the view, whose base learns
    of it.
    """
    parsed = Parsed(tuple(self._data.shape), index)
    view = parsed.view(self)
    if parsed.dims:
        check_types(self, parsed.items, value)
    if not isinstance(value, Tensor):
        if not parsed.dims:
            view.fill_(value)
            return
        value = self.new_full((), value)
    elif value.dtype is not self.dtype:
        value = CAST(value, dtype=self.dtype)
    if parsed.dims:
        result = put_at(view, tuple(parsed.dims), parsed.indices, value, False)
        assign(view, result, "__setitem__")
        return
    shape = value._data.shape
    extra = len(shape) - view._data.ndim
    if extra > 0 and shape[:extra] == (1,) * extra:
        value = value.reshape(shape[extra:])
    view.copy_(value)


def delitem(self: Tensor, index: Any) -> None:
    """Raises TypeError: a tensor keeps its elements."""
    raise TypeError("Tensor does not support deleting items; index what is to stay")


Tensor.__getitem__, Tensor.__setitem__ = getitem, setitem
Tensor.__delitem__ = delitem


# -- index_put ---------------------------------------------------------------------------------


@public(inplace=True)
def index_put(
    input: Tensor, indices: Sequence[Tensor], values: Tensor, accumulate: bool = False
) -> Tensor:
    """`input` with `values` written to (or added at) `input[indices]`; indices may repeat.

    >>> torch.zeros(3).index_put((torch.tensor([1, 1]),), torch.tensor(1.0), accumulate=True)
    tensor([0., 2., 0.])
    """
    check(
        input.dtype is values.dtype,
        lambda: types_differ(input, values),
    )
    given = tuple([FULL if i is None else i for i in indices])
    parsed = Parsed(tuple(input._data.shape), given, select=False)
    if not parsed.dims:
        return input + values if accumulate else values.expand_as(input).clone()
    written = put_at(parsed.view(input), tuple(parsed.dims), parsed.indices, values, accumulate)
    return written.reshape(input._data.shape)
