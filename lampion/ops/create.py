"""Creation: tensors from data, from shapes, from other tensors. May import rules, core and the base."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..core.dispatch import apply
from ..core.op import TENSOR_NAMES, Op
from ..core.promotion import CAST
from ..core.tensor import Tensor, wrap
from .rules import EXPORTS, public

CLONE = Op(
    "clone",
    ("x",),
    lambda x: x.copy(),
    kind="linear",
    vjp={"x": lambda g: g},
    jvp="linear",
    batch=lambda size, values, dims, params, op: (apply(op, values[0]), dims[0]),
)


@public
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy with its own memory, connected to the graph."""
    return apply(CLONE, input)


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Tensor:
    """A new tensor with a copy of `data`."""
    array = np.array(data)
    if array.dtype == np.float64 and not isinstance(data, np.ndarray):
        array = array.astype(dtypes.get_default_dtype().numpy)
    if dtype is not None:
        array = array.astype(dtype.numpy)
    t = wrap(array)
    if requires_grad:
        t.requires_grad_()
    return t
def ones_like(x): return wrap(np.ones(x._data.shape, x._data.dtype))
def zeros_like(x): return wrap(np.zeros(x._data.shape, x._data.dtype))
def zero_(self):
    self._data[...]=0
    return self
TENSOR_NAMES.update(ones_like=ones_like, zeros_like=zeros_like)
Tensor.zero_ = zero_
