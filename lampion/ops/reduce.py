"""Reductions over dimensions. May import rules, views, core and the base."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.graph import DIRECT, STATE
from ..core.op import Op
from ..core.tensor import Tensor, wrap
from .rules import batch_first, dtype_argument, normalize_dims, public, shift_dims


def keep_dims(g: Tensor, x_shape: tuple, dim: Any, keepdim: bool) -> Tensor:
    """The gradient with its reduced dimensions back, of size 1."""
    if keepdim or not x_shape:
        return g
    reduced = normalize_dims(dim, len(x_shape))
    return g.reshape(tuple([1 if i in reduced else s for i, s in enumerate(x_shape)]))


def sum_kernel(x: ndarray, dim: Any = None, keepdim: bool = False) -> Any:
    """Sums; booleans and small integers become int64."""
    if x.dtype.kind in "biu":
        return np.add.reduce(x, axis=dim, keepdims=keepdim, dtype=np.int64)
    return np.add.reduce(x, axis=dim, keepdims=keepdim)


SUM = Op(
    "sum",
    ("x",),
    sum_kernel,
    kind="reduction",
    vjp={"x": lambda g, x_shape, dim, keepdim: keep_dims(g, x_shape, dim, keepdim).expand(x_shape)},
    jvp="linear",
    batch=batch_first(shift_dims),
    grad_name=lambda p: "SumBackward0" if p["dim"] is None else "SumBackward1",
    autocast="float32",
)


@public(out=True)
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:  # noqa: A001
    """The sum of all elements, or over `dim`; integers sum to int64.

    >>> torch.ones(2, 3).sum(1)
    tensor([3., 3.])
    """
    if dtype is not None:
        input = input.to(dtype_argument(dtype))
    if dim is not None:
        dim = normalize_dims(dim, input._data.ndim) or None
    return apply(SUM, input, dim=dim, keepdim=keepdim)
