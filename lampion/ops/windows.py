"""Windows for spectra: Bartlett, Blackman, Hamming, Hann, Kaiser. May import create, core and the
base.

A periodic window is a symmetric one, longer by one element, without its last. Formulas: Harris
(1978), "On the use of windows for harmonic analysis with the discrete Fourier transform".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .create import factory


def cosines(n: int, *weights: float) -> ndarray:
    """weights[0] - weights[1] cos(t) + weights[2] cos(2 t) ..., for t from 0 to 2 pi in n steps."""
    t = np.linspace(0, 2 * np.pi, n)
    return sum((-1) ** k * w * np.cos(k * t) for k, w in enumerate(weights))


SHAPES: dict[str, Callable[..., ndarray]] = {
    "bartlett": np.bartlett,
    "blackman": lambda n: cosines(n, 0.42, 0.5, 0.08),
    "hamming": cosines,
    "hann": lambda n: cosines(n, 0.5, 0.5),
    "kaiser": np.kaiser,
}


def window_kernel(shape: str, length: int, periodic: bool, numbers: tuple, dtype: Any) -> ndarray:
    """The window; a single element is 1."""
    if length < 2:
        return np.ones(length, dtype.numpy)
    found = SHAPES[shape](length + periodic, *numbers)[:length]
    return np.asarray(found, dtype.numpy)


WINDOW = Op("window", (), window_kernel)


def window(shape: str, length: int, periodic: bool, dtype: Any, *numbers: float) -> Tensor:
    """The window of this shape in a floating type; raises RuntimeError for a negative length."""
    dtype = dtype or dtypes.get_default_dtype()
    check(
        length >= 0,
        lambda: f"{shape}_window requires non-negative window_length, got window_length={length}",
    )
    check(
        dtype.is_floating_point,
        lambda: f"{shape}_window expects floating point dtypes, got: {dtype}",
    )
    return WINDOW(shape=shape, length=length, periodic=periodic, numbers=numbers, dtype=dtype)


@factory
def bartlett_window(window_length: int, periodic: bool = True, *, dtype: Any = None) -> Tensor:
    """A triangle from 0 over 1 to 0."""
    return window("bartlett", window_length, periodic, dtype)


@factory
def blackman_window(window_length: int, periodic: bool = True, *, dtype: Any = None) -> Tensor:
    """`0.42 - 0.5 cos(t) + 0.08 cos(2 t)` for t from 0 to 2 pi."""
    return window("blackman", window_length, periodic, dtype)


@factory
def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
) -> Tensor:
    """`alpha - beta cos(t)` for t from 0 to 2 pi."""
    return window("hamming", window_length, periodic, dtype, alpha, beta)


@factory
def hann_window(window_length: int, periodic: bool = True, *, dtype: Any = None) -> Tensor:
    """`(1 - cos(t)) / 2` for t from 0 to 2 pi.

    >>> torch.hann_window(4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return window("hann", window_length, periodic, dtype)


@factory
def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: Any = None
) -> Tensor:
    """`I0(beta sqrt(1 - x^2)) / I0(beta)` for x from -1 to 1."""
    return window("kaiser", window_length, periodic, dtype, beta)
