"""Statistics
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .reduce import MEAN, add_up, count, keep_dims, mean, numpy_names, reduced_dims, reduction
from .rules import public

# -- variance ----------------------------------------------------------------------------------


def freedom(shape: tuple[int, ...], dim: Any, correction: float) -> float:
    """What the squared deviations are divided by: n - correction, not below 0."""
    n = count(shape, dim) - correction
    return n if n > 0 else 0.0


def var_kernel(x: ndarray, dim: Any, correction: float, keepdim: bool) -> Any:
    """The mean squared distance from the mean, real for complex numbers too."""
    deviation = x - add_up(x, dim, True) / count(x.shape, dim)
    if x.dtype.kind == "c":
        squares = deviation.real**2 + deviation.imag**2
    else:
        squares = np.multiply(deviation, deviation, out=deviation)
    return add_up(squares, dim, keepdim) / freedom(x.shape, dim, correction)


def var_gradient(g: Tensor, x: Tensor, dim: Any, correction: float, keepdim: bool) -> Tensor:
    """2 / (n - correction) times the deviation from the mean."""
    shape = x._data.shape
    n = freedom(shape, dim, correction)
    scale = 2 / n if n else math.inf
    return keep_dims(g, shape, dim, keepdim) * scale * (x - apply(MEAN, x, dim=dim, keepdim=True))


def std_gradient(
    g: Tensor, x: Tensor, y: Tensor, dim: Any, correction: float, keepdim: bool
) -> Tensor:
    """That of the variance by 2 y; zero where y is zero."""
    return var_gradient((g / (2 * y)).masked_fill(y == 0, 0), x, dim, correction, keepdim)


VAR = reduction("var", var_kernel, var_gradient)
STD = reduction("std", lambda *args, **params: np.sqrt(var_kernel(*args, **params)), std_gradient)


def spread(op: Op, input: Tensor, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> Tensor:
    """What `var` and `std` do; a boolean in the place of `dim` is the old form's `unbiased`."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        check(correction is None, f"{op.name}(): got both unbiased and correction", TypeError)
        correction = int(unbiased)
    correction = 1 if correction is None else correction
    check(
        input._data.dtype.kind not in "biu",
        "std and var only support floating point and complex dtypes",
    )
    shape, dim = input._data.shape, reduced_dims(dim, input._data.ndim)
    if count(shape, dim) <= correction:
        warnings.warn(
            f"{op.name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction "
            "factor (input numel divided by output numel).",
            stacklevel=4,
        )
    return apply(op, input, dim=dim, correction=correction, keepdim=keepdim)


@public(out=True)
@numpy_names
def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The variance over `dim` (all by default): squared deviations by n - correction, which is 1 by default."""
    return spread(VAR, input, dim, unbiased, keepdim, correction)


@public(out=True)
@numpy_names
def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The standard deviation over `dim` (all by default), the square root of `var`."""
    return spread(STD, input, dim, unbiased, keepdim, correction)


def with_mean(op: Op) -> Callable:
    """`var_mean` or `std_mean`."""

    def call(
        input: Tensor,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        first = spread(op, input, dim, unbiased, keepdim, correction)
        return first, mean(input, None if isinstance(dim, bool) else dim, keepdim)

    call.__name__ = call.__qualname__ = op.name + "_mean"
    call.__doc__ = f"The pair (`{op.name}`, `mean`) over `dim`."
    return public(numpy_names(call), method=False, out=True)


var_mean, std_mean = with_mean(VAR), with_mean(STD)
