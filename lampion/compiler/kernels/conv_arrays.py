"""Convolutions of arrays by the compiled templates. Imports conv and templates."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy import ndarray

from ..native.stages import Layout
from .conv import conv_calls
from .templates import Launch


def layout_of(shape: tuple[int, ...], dtype: str) -> Layout:
    """The layout of a contiguous array."""
    return Layout(shape, tuple(prod(shape[d + 1 :]) for d in range(len(shape))), dtype)


@lru_cache(1024)
def launch(kind: str, x: tuple, w: tuple, y: tuple, dtype: str, steps: Any, bias: bool) -> Launch:
    """The program of a convolution of arrays of those shapes."""
    layouts = [layout_of(shape, dtype) for shape in (x, w, y)]
    return Launch(*conv_calls(kind, *layouts, steps, bias))


def forward(x: ndarray, w: ndarray, b: ndarray | None, out: tuple, steps: Any) -> ndarray:
    """(N, C, *size), (O, C / groups, *kernel), (O,) -> (N, O, *out)."""
    y = np.empty((len(x), len(w), *out), x.dtype)
    made = launch("forward", x.shape, w.shape, y.shape, x.dtype.name, steps, b is not None)
    made.run([*plain(x, w, b), y])
    return y


def input_gradient(y: ndarray, w: ndarray, b: ndarray | None, size: tuple, steps: Any) -> ndarray:
    """(N, O, *out), (O, C / groups, *kernel), (C,) -> (N, C, *size)."""
    x = np.empty((len(y), w.shape[1] * steps.groups, *size), y.dtype)
    made = launch("input", x.shape, w.shape, y.shape, y.dtype.name, steps, b is not None)
    made.run([*plain(y, w, b), x])
    return x


def weight_gradient(x: ndarray, y: ndarray, kernel: tuple, steps: Any) -> ndarray:
    """(N, C, *size), (N, O, *out) -> (O, C / groups, *kernel)."""
    w = np.empty((y.shape[1], x.shape[1] // steps.groups, *kernel), x.dtype)
    launch("weight", x.shape, w.shape, y.shape, x.dtype.name, steps, False).run([*plain(x, y), w])
    return w


def plain(*arrays: ndarray | None) -> list[ndarray]:
    """Those arrays that are given, contiguous."""
    return [np.ascontiguousarray(x) for x in arrays if x is not None]
