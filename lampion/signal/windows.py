"""Windows under PyTorch's names: `torch.signal.windows`. May import ops.

A window of M points is symmetric, or with `sym=False` one period of a longer one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import dtypes
from ..core.dispatch import apply
from ..core.tensor import Tensor, wrap
from ..errors import check
from ..ops.create import factory, filled
from ..ops.ranges import LINSPACE, arange

__all__ = [
    "bartlett",
    "blackman",
    "cosine",
    "exponential",
    "gaussian",
    "general_cosine",
    "general_hamming",
    "hamming",
    "hann",
    "kaiser",
    "nuttall",
]


def window(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A creation function of M points: checks M and the type; 0 points are none, 1 point is 1."""
    name = make.__name__

    @functools.wraps(make)
    def checked(M: int, *, sym: bool = True, dtype: Any = None, **shape: Any) -> Tensor:
        check(M >= 0, f"[{name}] requires non-negative window length, got M={M}", ValueError)
        dtype = dtype or dtypes.get_default_dtype()
        check(
            dtype in (dtypes.float32, dtypes.float64),
            lambda: f"[{name}] expects float32 or float64 dtypes, got: {dtype}",
            ValueError,
        )
        return make(M, sym=sym, dtype=dtype, **shape) if M > 1 else filled((M,), 1, dtype)

    return factory(checked, publish=False)


def spread(first: float, step: float, M: int, dtype: dtypes.dtype) -> Tensor:
    """M numbers from `first` on, by `step`."""
    return apply(LINSPACE, start=first, end=first + (M - 1) * step, steps=M, dtype=dtype)


def cosines(M: int, a: Sequence[float], sym: bool, dtype: dtypes.dtype) -> Tensor:
    """`a[0] - a[1] cos(k) + a[2] cos(2k) - ...` for one period of k."""
    k = spread(0.0, 2 * math.pi / (M - 1 if sym else M), M, dtype)
    weights = wrap(np.array([(-1) ** i * w for i, w in enumerate(a)]).astype(dtype.numpy))
    order = arange(len(a), dtype=dtype)
    return (weights.unsqueeze(-1) * (order.unsqueeze(-1) * k).cos()).sum(0)


@window
def general_cosine(M: int, *, a: Sequence[float], sym: bool, dtype: dtypes.dtype) -> Tensor:
    """A sum of cosines with the weights `a`."""
    weights = hasattr(a, "__iter__") and not isinstance(a, str)
    check(weights, "[general_cosine] Coefficients must be a list/tuple", TypeError)
    check(len(a) > 0, "[general_cosine] Coefficients cannot be empty", ValueError)
    return cosines(M, a, sym, dtype)


@window
def general_hamming(M: int, *, alpha: float = 0.54, sym: bool, dtype: dtypes.dtype) -> Tensor:
    """`alpha - (1 - alpha) cos(k)`."""
    return cosines(M, (alpha, 1.0 - alpha), sym, dtype)


@window
def hamming(M: int, *, sym: bool, dtype: dtypes.dtype) -> Tensor:
    """Hamming's window: `0.54 - 0.46 cos(k)`."""
    return cosines(M, (0.54, 0.46), sym, dtype)


@window
def hann(M: int, *, sym: bool, dtype: dtypes.dtype) -> Tensor:
    """Hann's window: `0.5 - 0.5 cos(k)`."""
    return cosines(M, (0.5, 0.5), sym, dtype)


@window
def blackman(M: int, *, sym: bool, dtype: dtypes.dtype) -> Tensor:
    """Blackman's window: three terms."""
    return cosines(M, (0.42, 0.5, 0.08), sym, dtype)


@window
def nuttall(M: int, *, sym: bool, dtype: dtypes.dtype) -> Tensor:
    """Nuttall's window: four terms with small sidelobes."""
    return cosines(M, (0.3635819, 0.4891775, 0.1365995, 0.0106411), sym, dtype)


@window
def bartlett(M: int, *, sym: bool, dtype: dtypes.dtype) -> Tensor:
    """Bartlett's window: a triangle that begins at 0."""
    return 1 - spread(-1.0, 2 / (M - 1 if sym else M), M, dtype).abs()


@window
def cosine(M: int, *, sym: bool, dtype: dtypes.dtype) -> Tensor:
    """Half a period of a sine."""
    step = math.pi / (M if sym else M + 1)
    return spread(0.5 * step, step, M, dtype).sin()


@window
def exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool, dtype: dtypes.dtype
) -> Tensor:
    """`exp(-|n - center| / tau)`; only a window that is not symmetric may choose its centre."""
    check(tau > 0, f"[exponential] Tau must be positive, got: {tau} instead.", ValueError)
    own_centre = sym and center is not None
    check(not own_centre, "[exponential] Center must be None for symmetric windows", ValueError)
    middle = (M - 1 if sym else M) / 2 if center is None else center
    return spread(-middle / tau, 1 / tau, M, dtype).abs().neg().exp()


@window
def gaussian(M: int, *, std: float = 1.0, sym: bool, dtype: dtypes.dtype) -> Tensor:
    """`exp(-(n - middle)^2 / (2 std^2))`."""
    problem = f"[gaussian] Standard deviation must be positive, got: {std} instead."
    check(std > 0, problem, ValueError)
    step = 1 / (std * math.sqrt(2))
    return (-(spread(-(M - 1 if sym else M) / 2 * step, step, M, dtype) ** 2)).exp()


@window
def kaiser(M: int, *, beta: float = 12.0, sym: bool, dtype: dtypes.dtype) -> Tensor:
    """Kaiser's window: Bessel functions over half an ellipse."""
    check(beta >= 0, f"[kaiser] beta must be non-negative, got: {beta} instead.", ValueError)
    step = 2.0 * beta / (M - 1 if sym else M)
    end = min(beta, -beta + (M - 1) * step)
    k = apply(LINSPACE, start=-beta, end=end, steps=M, dtype=dtype)
    return (beta * beta - k**2).sqrt().i0() / filled((), beta, dtype).i0()
