"""Pooling of arrays by the compiled templates. Imports conv_arrays, pooling and templates."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy import ndarray

from .conv_arrays import layout_of, plain
from .pooling import pool_calls
from .templates import Launch


@lru_cache(1024)
def launch(kind: str, x: tuple, y: tuple, dtype: str, plan: Any) -> Launch:
    """The program of pooling arrays of those shapes."""
    return Launch(pool_calls(kind, layout_of(x, dtype), layout_of(y, dtype), plan), ())


def reduced(kind: str, x: ndarray, plan: Any) -> ndarray:
    """`maximum` or `average`: (..., *size) -> (..., *out)."""
    y = np.empty(x.shape[: x.ndim - len(plan.size)] + plan.out, x.dtype)
    launch(kind, x.shape, y.shape, x.dtype.name, plan).run([*plain(x), y])
    return y


def spread(y: ndarray, plan: Any) -> ndarray:
    """The adjoint of `average`: (..., *out) -> (..., *size)."""
    x = np.empty(y.shape[: y.ndim - len(plan.size)] + plan.size, y.dtype)
    launch("spread", x.shape, y.shape, y.dtype.name, plan).run([*plain(y), x])
    return x


def winners(x: ndarray, y: ndarray, plan: Any) -> ndarray:
    """The number of each window's largest element."""
    chosen = np.empty(y.shape, np.uint8 if prod(plan.kernel) < 255 else np.uint32)
    launch("winners", x.shape, y.shape, x.dtype.name, plan).run([*plain(x, y), chosen])
    return chosen


def put_at(y: ndarray, chosen: ndarray, plan: Any) -> ndarray:
    """Each window's value where the element was that it chose: (..., *out) -> (..., *size)."""
    x = np.empty(y.shape[: y.ndim - len(plan.size)] + plan.size, y.dtype)
    launch("put", x.shape, y.shape, y.dtype.name, plan).run([*plain(y, chosen), x])
    return x
