"""Writing one value everywhere: fill_, zero_, fill_diagonal_. May import rules, the views, masks,
core and the base.
"""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np

from .. import dtypes
from ..core.dispatch import apply
from ..core.graph import STATE
from ..core.inplace import assign, check_memory, check_writable, rebase
from ..core.memory import Storage
from ..core.op import Op
from ..core.promotion import CAST
from ..core.tensor import Tensor, wrap
from ..core.zero import ZERO
from ..errors import check
from .large import fill_array
from .rules import batch_elementwise, public

FILL = Op(
    "fill",
    ("x", "value"),
    lambda x, value: np.full(np.broadcast_shapes(x.shape, value.shape), value, x.dtype),
    vjp={"x": lambda g: ZERO, "value": lambda g: g},
    batch=batch_elementwise,
)


def fill_value(value: Any, dtype: dtypes.dtype) -> Tensor:
    """A number or 0-dim tensor in the type of the tensor that it fills."""
    if not isinstance(value, Tensor):
        return wrap(as_number(value, dtype))
    check(
        value._data.ndim == 0,
        lambda: (
            "fill_ only supports 0-dimension value tensor but got tensor with "
            f"{value._data.ndim} dimensions."
        ),
    )
    return value if value.dtype is dtype else CAST(value, dtype=dtype)


def as_number(value: Any, dtype: dtypes.dtype) -> Any:
    """A number in a type; raises RuntimeError where it does not fit, TypeError for no number."""
    if not isinstance(value, (Number, np.bool_)):
        raise TypeError(f"argument 'value' must be Tensor or Number, not {type(value).__name__}")
    try:
        if dtype.category < dtypes.COMPLEX and isinstance(value, complex):
            raise OverflowError
        if dtype.category == dtypes.INTEGER:
            whole: Any = value
            return np.asarray(int(whole), dtype.numpy)
        return np.asarray(value).astype(dtype.numpy)
    except (OverflowError, ValueError):
        raise RuntimeError(
            f"value cannot be converted to type {dtype.name} without overflow"
        ) from None


@public
def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor like the input, full of one value."""
    return apply(FILL, input, fill_value(value, input.dtype))


@public
def fill_(self: Tensor, value: Any) -> Tensor:
    """Every element becomes the value: a number or a 0-dim tensor."""
    if value.__class__ is float and self._data.dtype.kind == "f" and self.interpreter is None:
        return overwrite(self, value, "fill_")
    value = fill_value(value, self.dtype)
    if self.interpreter is not None or value.interpreter is not None or value._requires_grad:
        return assign(self, apply(FILL, self, value), "fill_")
    return overwrite(self, value._data, "fill_")


@public
def zero_(self: Tensor) -> Tensor:
    """Every element becomes zero."""
    if self.interpreter is not None:
        return assign(self, self.new_zeros(self._data.shape), "zero_")
    return overwrite(self, 0, "zero_")


def overwrite(self: Tensor, value: Any, name: str) -> Tensor:
    """Writes one value without history everywhere, also where elements share memory."""
    check_writable(self, name)
    data = self._data
    if not data.flags.writeable:
        check_memory(data, name)
    if self._storage is None:  # before an observer meets the tensor: it notes the version it met
        self._storage = Storage()
    observers = STATE.observers
    filled = apply(FILL, self, wrap(np.asarray(value, data.dtype))) if observers else self
    fill_array(data, value)
    self._storage.write(name)
    for observer in observers:
        observer.wrote(self, filled)
    if STATE.grad and self._requires_grad:
        rebase(self, wrap(data), name)
    return self


@public(spaces=())
def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Writes a value to the main diagonal; with `wrap`, that of a tall matrix goes on below its
    end.
    """
    shape = self._data.shape
    check(len(shape) >= 2, "dimensions must larger than 1")
    check(
        len(shape) == 2 or len(set(shape)) == 1,
        "all dimensions of input must be of equal length",
    )
    mask = self.new_zeros(shape, dtype=dtypes.bool)
    np.fill_diagonal(mask._data, True, wrap)
    return self.masked_fill_(mask, fill_value)
