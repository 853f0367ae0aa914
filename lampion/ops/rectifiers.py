"""Activation functions made of straight pieces: relu and its relatives. May import earlier
operators, core and the base. Records first, public functions after: most have `inplace=`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy import maximum, ndarray

from .. import random as streams
from ..core.dispatch import apply
from ..core.inplace import in_place, type_name
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .comparison import where
from .elementwise import PRIVATE, Constant, excluding
from .rules import EXPORTS, elementwise, public

FUNCTIONAL: dict[str, Any] = {"spaces": ("nn.functional",), "method": False}
BOTH: dict[str, Any] = {"spaces": ("torch", "nn.functional")}

# -- straight pieces ---------------------------------------------------------------------------


class Zeros(Constant):
    """Zeros of the types that relu takes."""

    def __missing__(self, dtype: np.dtype) -> ndarray:
        check(
            dtype.kind not in "bc",
            lambda: f"[relu] {dtype} inputs not supported for relu; convert with .float()",
        )
        return super().__missing__(dtype)


ZERO = Zeros(0)


def relu_kernel(x: ndarray) -> ndarray:
    """The larger of x and 0, against a prepared zero of its type."""
    return maximum(x, ZERO[x.dtype])


relu = elementwise("relu", "maximum(x, 0)", numpy=relu_kernel, partials={"x": "y != 0"})


@functools.partial(excluding, "bc")
def hardtanh_kernel(x: ndarray, low: float, high: float) -> ndarray:
    """x moved into [low, high]."""
    y = np.asarray(maximum(x, x.dtype.type(low)))
    return np.minimum(y, x.dtype.type(high), out=y)


@functools.partial(excluding, "bc")
def threshold_kernel(x: ndarray, threshold: float, value: float) -> ndarray:
    """x where it is above the threshold, else the value."""
    return np.where(x <= threshold, x.dtype.type(value), x)


@functools.partial(excluding, "biuc")
def leaky_relu_kernel(x: ndarray, slope: float) -> ndarray:
    """x where it is positive, else slope * x."""
    steep = x * x.dtype.type(slope)
    return maximum(x, steep) if 0 <= slope <= 1 else np.where(x > 0, x, steep)


@functools.partial(excluding, "biuc")
def rrelu_noise(x: ndarray, lower: float, upper: float) -> ndarray:
    """Random numbers from [lower, upper] where x is not positive, drawn in its order, else 1."""
    noise, low = np.ones_like(x), x <= 0
    noise[low] = streams.uniform(
        (int(low.sum()),), lower, upper, np.dtype(float), streams.default_generator
    )
    return noise


@functools.partial(excluding, "biuc")
def softshrink_kernel(x: ndarray, width: float) -> ndarray:
    """x moved towards 0 by the width, as far as 0."""
    width = x.dtype.type(width)
    return x - np.minimum(maximum(x, -width), width)


@functools.partial(excluding, "biuc")
def hardshrink_kernel(x: ndarray, width: float) -> ndarray:
    """0 from -width to width, else x."""
    return np.where((x >= -width) & (x <= width), x.dtype.type(0), x)


@functools.partial(excluding, "biuc")
def hardsigmoid_kernel(x: ndarray) -> ndarray:
    """(x + 3) / 6, moved into [0, 1]."""
    y = np.asarray(x + x.dtype.type(3))
    maximum(y, y.dtype.type(0), out=y)
    np.minimum(y, y.dtype.type(6), out=y)
    y /= 6
    return y


@functools.partial(excluding, "biuc")
def hardswish_kernel(x: ndarray) -> ndarray:
    """x times hardsigmoid(x)."""
    return x * hardsigmoid_kernel(x)


_hardtanh = elementwise(
    "hardtanh",
    "minimum(maximum(x, low), high)",
    numpy=hardtanh_kernel,
    vjp={"x": lambda g, y, low, high: where((y <= low) | (y >= high), 0, g)},
    parameters={"low": -1.0, "high": 1.0},
    **PRIVATE,
).op
_threshold = elementwise(
    "threshold",
    "where(x <= threshold, value, x)",
    numpy=threshold_kernel,
    vjp={"x": lambda g, x, threshold: where(x <= threshold, 0, g)},
    parameters={"threshold": 0, "value": 0},
    **PRIVATE,
).op
_leaky_relu = elementwise(
    "leaky_relu",
    "where(x > 0, x, slope * x)",
    numpy=leaky_relu_kernel,
    vjp={"x": lambda g, x, slope: where(x > 0, g, slope * g)},
    parameters={"slope": 0.01},
    **PRIVATE,
).op
_prelu = elementwise(
    "prelu",
    "where(x > 0, x, w * x)",
    numpy=lambda x, w: np.where(x > 0, x, w * x),
    inputs=("x", "w"),
    vjp={"x": lambda g, x, w: where(x > 0, g, w * g), "w": lambda g, x: where(x > 0, 0, x * g)},
    grad_name="PreluKernelBackward0",
    promote="none",
    **PRIVATE,
)
RRELU_NOISE = Op("rrelu_noise", ("x",), rrelu_noise, random=True)
_softshrink = elementwise(
    "softshrink",
    "x - minimum(maximum(x, -width), width)",
    numpy=softshrink_kernel,
    vjp={"x": lambda g, x, width: where((x >= -width) & (x <= width), 0, g)},
    parameters={"width": 0.5},
    **PRIVATE,
).op
_hardshrink = elementwise(
    "hardshrink",
    "where((x >= -width) & (x <= width), 0, x)",
    numpy=hardshrink_kernel,
    vjp={"x": lambda g, x, width: where((x >= -width) & (x <= width), 0, g)},
    parameters={"width": 0.5},
    **PRIVATE,
).op
_hardsigmoid = elementwise(
    "hardsigmoid",
    "minimum(maximum(x + 3, 0), 6) / 6",
    numpy=hardsigmoid_kernel,
    vjp={"x": lambda g, x: where((x > -3) & (x < 3), g / 6, 0)},
    **PRIVATE,
)
_hardswish = elementwise(
    "hardswish",
    "x * minimum(maximum(x + 3, 0), 6) / 6",
    numpy=hardswish_kernel,
    vjp={"x": lambda g, x: where(x <= -3, 0, where(x < 3, g * (x / 3 + 0.5), g))},
    **PRIVATE,
)

# -- public functions --------------------------------------------------------------------------


def placed(input: Tensor, inplace: bool, name: str, function: Any, **params: Any) -> Tensor:
    """The function of the input, written into it if that is asked for."""
    if inplace:
        return in_place(input, name, function, **params)
    return function(input, **params)


def publish_in_place(*functions: Any) -> None:
    """The names with an underscore: the functions with `inplace=True`."""
    for function in functions:
        for space in ("torch", "nn.functional"):
            if function.__name__ in EXPORTS[space]:
                in_place = functools.partial(function, inplace=True)
                EXPORTS[space][function.__name__ + "_"] = in_place


def functional_relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`max(x, 0)`, elementwise.

    >>> torch.nn.functional.relu(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return input.relu_() if inplace else relu(input)


functional_relu.__name__ = "relu"
EXPORTS["nn.functional"].update(relu=functional_relu, relu_=Tensor.relu_)
EXPORTS["torch"]["relu"] = relu  # which has no out= in PyTorch


@public(**FUNCTIONAL)
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(x, 0), 6)`, elementwise."""
    return placed(input, inplace, "relu6_", _hardtanh, low=0, high=6)


@public(**FUNCTIONAL)
def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """`min(max(x, min_val), max_val)`, elementwise."""
    check(min_val <= max_val, "[hardtanh] min_val cannot be greater than max_val", ValueError)
    check(
        min_val >= 0 or input._data.dtype.kind != "u",
        "[hardtanh] cannot do hardtanh on an unsigned type with negative limits",
    )
    return placed(input, inplace, "hardtanh_", _hardtanh, low=min_val, high=max_val)


@public(method=False, **BOTH)
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where it is above the threshold, else `value`, elementwise."""
    return placed(input, inplace, "threshold_", _threshold, threshold=threshold, value=value)


@public(**FUNCTIONAL)
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where it is positive, else `negative_slope * x`, elementwise."""
    return placed(input, inplace, "leaky_relu_", _leaky_relu, slope=negative_slope)


@public(**BOTH)
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where it is positive, else `weight * x`; one weight, or one for each channel (dim 1)."""
    x, w = input._data, weight._data
    check(
        w.ndim <= 1,
        lambda: f"[prelu] Expected `weight` to be a scalar or 1D tensor, but got: ndim = {w.ndim}",
    )
    check(
        input.dtype is weight.dtype,
        lambda: (
            f"[prelu] Type promoting not supported. Got {type_name(input.dtype)} and "
            f"{type_name(weight.dtype)}"
        ),
    )
    if w.size != 1:
        check(x.ndim > 0, "[prelu] Not allow zero-dim input tensor.")
        channels = x.shape[1] if x.ndim > 1 else 1
        check(
            channels == w.size,
            lambda: (
                "[prelu] Mismatch of parameter numbers and input channel size. Found parameter "
                f"numbers = {w.size} and channel size = {channels}."
            ),
        )
    shape = [1] * x.ndim
    if x.ndim > 1:
        shape[1] = w.size
    return _prelu(input, weight.reshape(shape))


@public(method=False, **BOTH)
def rrelu(
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """x where it is positive, else a multiple of it: in training random from [lower, upper]."""
    check(lower <= upper, "[rrelu] Lower bound should be less than or equal to the upper bound")
    if not training:
        return placed(input, inplace, "rrelu_", _leaky_relu, slope=(lower + upper) / 2)
    noise = apply(RRELU_NOISE, input, lower=lower, upper=upper)
    return input.mul_(noise) if inplace else input * noise


@public(**FUNCTIONAL)
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(x + 3, 0), 6) / 6`, elementwise."""
    return placed(input, inplace, "hardsigmoid_", _hardsigmoid)


@public(**FUNCTIONAL)
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * hardsigmoid(x)`, elementwise."""
    return placed(input, inplace, "hardswish_", _hardswish)


@public(**FUNCTIONAL)
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by `lambd`, as far as 0, elementwise."""
    check(
        lambd >= 0, lambda: f"[softshrink] lambda must be greater or equal to 0, but found {lambd}"
    )
    return _softshrink(input, width=lambd)


@public(**BOTH)
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 from `-lambd` to `lambd`, else x, elementwise."""
    return _hardshrink(input, width=lambd)


publish_in_place(relu6, hardtanh, threshold, leaky_relu, rrelu)
