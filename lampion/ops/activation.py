"""Activation functions. May import earlier operators, core and the base.

Records first, public functions after: most of these have `inplace=`. Softmax and its gradient are in softmax.py.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy import maximum, ndarray

from .. import random as streams
from ..core.dispatch import apply
from ..core.inplace import assign, type_name
from ..core.op import ARRAY_NAMES, Op
from ..core.tensor import Tensor, normalize_dim
from ..errors import check
from .comparison import where
from .elementwise import PRIVATE, excluding
from .powers import sigmoid_kernel
from .rules import EXPORTS, elementwise, move_to_front, public
from .special_error import erf

FUNCTIONAL: dict[str, Any] = {"spaces": ("nn.functional",), "method": False}
BOTH: dict[str, Any] = {"spaces": ("torch", "nn.functional")}

# -- straight pieces ---------------------------------------------------------------------------


class Zeros(dict):
    """A 0-dim zero of each type, made at first use; bool has none."""

    def __missing__(self, dtype: np.dtype) -> ndarray:
        check(dtype.kind != "b", "[relu] Boolean inputs not supported for relu; convert with .float()")
        self[dtype] = np.zeros((), dtype)
        return self[dtype]


_ZEROS = Zeros()


def relu_kernel(x: ndarray) -> ndarray:
    """The larger of x and 0, against a prepared zero of its type."""
    return maximum(x, _ZEROS[x.dtype])


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
    "hardtanh", "minimum(maximum(x, low), high)", numpy=hardtanh_kernel,
    vjp={"x": lambda g, x, low, high: where((x <= low) | (x >= high), 0, g)},
    parameters={"low": -1.0, "high": 1.0}, **PRIVATE,
)  # fmt: skip
_threshold = elementwise(
    "threshold", "where(x <= threshold, value, x)", numpy=threshold_kernel,
    vjp={"x": lambda g, x, threshold: where(x <= threshold, 0, g)},
    parameters={"threshold": 0, "value": 0}, **PRIVATE,
)  # fmt: skip
_leaky_relu = elementwise(
    "leaky_relu", "where(x > 0, x, slope * x)", numpy=leaky_relu_kernel,
    vjp={"x": lambda g, x, slope: where(x > 0, g, slope * g)}, parameters={"slope": 0.01}, **PRIVATE,
)  # fmt: skip
_prelu = elementwise(
    "prelu", "where(x > 0, x, w * x)", numpy=lambda x, w: np.where(x > 0, x, w * x), inputs=("x", "w"),
    vjp={"x": lambda g, x, w: where(x > 0, g, w * g), "w": lambda g, x: where(x > 0, 0, x * g)},
    grad_name="PreluKernelBackward0", promote="none", **PRIVATE,
)  # fmt: skip
RRELU_NOISE = Op("rrelu_noise", ("x",), rrelu_noise)
_softshrink = elementwise(
    "softshrink", "x - minimum(maximum(x, -width), width)", numpy=softshrink_kernel,
    vjp={"x": lambda g, x, width: where((x >= -width) & (x <= width), 0, g)},
    parameters={"width": 0.5}, **PRIVATE,
)  # fmt: skip
_hardshrink = elementwise(
    "hardshrink", "where((x >= -width) & (x <= width), 0, x)", numpy=hardshrink_kernel,
    vjp={"x": lambda g, x, width: where((x >= -width) & (x <= width), 0, g)},
    parameters={"width": 0.5}, **PRIVATE,
)  # fmt: skip
_hardsigmoid = elementwise(
    "hardsigmoid", "minimum(maximum(x + 3, 0), 6) / 6", numpy=hardsigmoid_kernel,
    vjp={"x": lambda g, x: where((x > -3) & (x < 3), g / 6, 0)}, **PRIVATE,
)  # fmt: skip
_hardswish = elementwise(
    "hardswish", "x * minimum(maximum(x + 3, 0), 6) / 6", numpy=hardswish_kernel,
    vjp={"x": lambda g, x: where(x <= -3, 0, where(x < 3, g * (x / 3 + 0.5), g))}, **PRIVATE,
)  # fmt: skip

# -- curved pieces -----------------------------------------------------------------------------


@functools.partial(excluding, "biuc")
def elu_kernel(x: ndarray, alpha: float, scale: float, slope: float) -> ndarray:
    """scale * x where x is positive, else scale * alpha * (exp(slope * x) - 1)."""
    y = np.asarray(np.minimum(x, x.dtype.type(0)))
    if slope != 1:
        y *= slope
    np.expm1(y, out=y)
    y *= alpha * scale
    return np.where(x > 0, x if scale == 1 else x * x.dtype.type(scale), y)


def elu_gradient(g: Tensor, x: Tensor, alpha: float, scale: float, slope: float) -> Tensor:
    """scale, or scale * alpha * slope * exp(slope * x) up to 0."""
    return g * where(x <= 0, scale * alpha * slope * (slope * x).exp(), scale)


_elu = elementwise(
    "elu", "where(x > 0, scale * x, scale * alpha * expm1(slope * x))", numpy=elu_kernel,
    vjp={"x": elu_gradient}, parameters={"alpha": 1.0, "scale": 1.0, "slope": 1.0},
    grad_name=lambda params: "EluBackward0" if params["slope"] == 1 else "CeluBackward0", **PRIVATE,
)  # fmt: skip


@functools.partial(excluding, "biuc")
def softplus_kernel(x: ndarray, beta: float, threshold: float) -> ndarray:
    """log(1 + exp(beta x)) / beta, and x itself where beta x is above the threshold."""
    z = x if beta == 1 else x * x.dtype.type(beta)
    y = np.asarray(np.exp(z))
    np.log1p(y, out=y)
    if beta != 1:
        y /= beta
    np.copyto(y, x, where=z > threshold)
    return y


@functools.partial(excluding, "biuc")
def logsigmoid_kernel(x: ndarray) -> ndarray:
    """min(x, 0) - log(1 + exp(-|x|))."""
    y = np.asarray(np.abs(x))
    np.negative(y, out=y)
    np.exp(y, out=y)
    np.log1p(y, out=y)
    return np.subtract(np.minimum(x, x.dtype.type(0)), y, out=y)


@functools.partial(excluding, "biu")
def silu_kernel(x: ndarray) -> ndarray:
    """x times its logistic function."""
    return x * sigmoid_kernel(x)


@functools.partial(excluding, "biuc")
def mish_kernel(x: ndarray) -> ndarray:
    """x tanh(log(1 + exp(x)))."""
    y = np.asarray(np.exp(x))
    np.log1p(y, out=y)
    np.tanh(y, out=y)
    y *= x
    return y


def mish_gradient(g: Tensor, x: Tensor) -> Tensor:
    """t + x sigmoid(x) (1 - t**2) with t = tanh(softplus(x))."""
    t = softplus(x).tanh()
    return g * (t + x * x.sigmoid() * (1 - t * t))


_softplus = elementwise(
    "softplus", "where(beta * x > threshold, x, log1p(exp(beta * x)) / beta)", numpy=softplus_kernel,
    vjp={"x": lambda g, x, beta, threshold: where(beta * x > threshold, g, g * (beta * x).sigmoid())},
    parameters={"beta": 1.0, "threshold": 20.0}, autocast="float32", **PRIVATE,
)  # fmt: skip
logsigmoid = elementwise(
    "logsigmoid", "minimum(x, 0) - log1p(exp(-abs(x)))", numpy=logsigmoid_kernel,
    partials={"x": "1 / (1 + exp(x))"}, grad_name="LogSigmoidBackward0", inplace=False, **FUNCTIONAL,
)  # fmt: skip
ARRAY_NAMES.update(sigmoid=sigmoid_kernel, erf=erf)
_silu = elementwise(
    "silu", "x / (1 + exp(-x))", numpy=silu_kernel, partials={"x": "sigmoid(x) * (x - y + 1)"}, **PRIVATE
)
_mish = elementwise(
    "mish", "x * tanh(log1p(exp(x)))", numpy=mish_kernel, vjp={"x": mish_gradient}, **PRIVATE
)
tanhshrink = elementwise(
    "tanhshrink", "x - tanh(x)", promote="float",
    partials={"x": "(x - y) * (x - y)"}, grad_name="SubBackward0", inplace=False, **FUNCTIONAL,
)  # fmt: skip

# -- the Gaussian error linear unit ------------------------------------------------------------

ROOT_HALF, DENSITY_0, ROOT_2_PI, CUBIC = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi), math.sqrt(2 / math.pi), 0.044715


@functools.partial(excluding, "biuc")
def gelu_kernel(x: ndarray) -> ndarray:
    """x times the normal distribution function of x."""
    y = np.asarray(erf(x * x.dtype.type(ROOT_HALF)))
    y += 1
    y *= x
    y *= 0.5
    return y


@functools.partial(excluding, "biuc")
def gelu_tanh_kernel(x: ndarray) -> ndarray:
    """The same with the distribution approximated by a hyperbolic tangent."""
    y = np.asarray(x * x)
    y *= CUBIC
    y += 1
    y *= x
    y *= ROOT_2_PI
    np.tanh(y, out=y)
    y += 1
    y *= x
    y *= 0.5
    return y


def gelu_tanh_gradient(g: Tensor, x: Tensor) -> Tensor:
    """(1 + t + x (1 - t**2) u') / 2 with t = tanh(u)."""
    square = x * x
    t = (ROOT_2_PI * x * (1 + CUBIC * square)).tanh()
    slope = ROOT_2_PI * (1 + 3 * CUBIC * square)
    return g * (0.5 * (1 + t + x * (1 - t * t) * slope))


_GELU = {
    "none": elementwise(
        "gelu", f"0.5 * x * (1 + erf(x * {ROOT_HALF}))", numpy=gelu_kernel, **PRIVATE,
        partials={"x": f"0.5 * (1 + erf(x * {ROOT_HALF})) + x * {DENSITY_0} * exp(-0.5 * x * x)"},
    ),
    "tanh": elementwise(
        "gelu_tanh", f"0.5 * x * (1 + tanh({ROOT_2_PI} * x * (1 + {CUBIC} * x * x)))", numpy=gelu_tanh_kernel,
        vjp={"x": gelu_tanh_gradient}, grad_name="GeluBackward0", **PRIVATE,
    ),
}  # fmt: skip

# -- gated halves ------------------------------------------------------------------------------


def glu_kernel(x: ndarray, dim: int) -> ndarray:
    """The first half times the logistic function of the second."""
    a, b = np.split(x, 2, dim)
    return a * sigmoid_kernel(b)


def glu_gradient(g: Tensor, x: Tensor, dim: int) -> Tensor:
    """Both halves' gradients, put together."""
    a, b = x.chunk(2, dim)
    s = b.sigmoid()
    return EXPORTS["torch"]["cat"]([g * s, g * a * s * (1 - s)], dim)


GLU = Op(
    "glu",
    ("x",),
    excluding("biu", glu_kernel),
    vjp={"x": glu_gradient},
    batch=lambda size, values, dims, params, op: (
        op(move_to_front(values[0], dims[0]), dim=params["dim"] + 1),
        0,
    ),
)

# -- public functions --------------------------------------------------------------------------


def placed(input: Tensor, result: Tensor, inplace: bool, name: str) -> Tensor:
    """The result, written into the input if that is asked for."""
    return assign(input, result, name + "_") if inplace else result


def functional_relu(input: Tensor, inplace: bool = False) -> Tensor:
    """`max(x, 0)`, elementwise.

    >>> torch.nn.functional.relu(torch.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return input.relu_() if inplace else relu(input)


EXPORTS["nn.functional"].update(relu=functional_relu, relu_=Tensor.relu_)


@public(**FUNCTIONAL)
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(x, 0), 6)`, elementwise."""
    return placed(input, _hardtanh(input, low=0, high=6), inplace, "relu6")


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
    return placed(input, _hardtanh(input, low=min_val, high=max_val), inplace, "hardtanh")


@public(method=False, **BOTH)
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where it is above the threshold, else `value`, elementwise."""
    return placed(input, _threshold(input, threshold=threshold, value=value), inplace, "threshold")


@public(**FUNCTIONAL)
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where it is positive, else `negative_slope * x`, elementwise."""
    return placed(input, _leaky_relu(input, slope=negative_slope), inplace, "leaky_relu")


@public(**BOTH)
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where it is positive, else `weight * x`; one weight, or one for each channel (dimension 1)."""
    x, w = input._data, weight._data
    check(
        w.ndim <= 1,
        lambda: f"[prelu] Expected `weight` to be a scalar or 1D tensor, but got: ndim = {w.ndim}",
    )
    check(
        input.dtype is weight.dtype,
        lambda: f"[prelu] Type promoting not supported. Got {type_name(input.dtype)} and "
        f"{type_name(weight.dtype)}",
    )
    if w.size != 1:
        check(x.ndim > 0, "[prelu] Not allow zero-dim input tensor.")
        channels = x.shape[1] if x.ndim > 1 else 1
        check(
            channels == w.size,
            lambda: "[prelu] Mismatch of parameter numbers and input channel size. Found parameter numbers "
            f"= {w.size} and channel size = {channels}.",
        )
    shape = [1] * x.ndim
    if x.ndim > 1:
        shape[1] = w.size
    return _prelu(input, weight.reshape(shape))


@public(method=False, **BOTH)
def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """x where it is positive, else a multiple of x: random from [lower, upper] in training, else their mean."""
    check(lower <= upper, "[rrelu] Lower bound should be less than or equal to the upper bound")
    if not training:
        return placed(input, _leaky_relu(input, slope=(lower + upper) / 2), inplace, "rrelu")
    return placed(input, input * apply(RRELU_NOISE, input, lower=lower, upper=upper), inplace, "rrelu")


@public(**FUNCTIONAL)
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, else `alpha * (exp(x) - 1)`, elementwise."""
    return placed(input, _elu(input, alpha=alpha), inplace, "elu")


@public(method=False, **BOTH)
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """`scale * elu(x, alpha)` with the constants that keep mean 0 and variance 1 through layers."""
    result = _elu(input, alpha=1.6732632423543772848170429916717, scale=1.0507009873554804934193349852946)
    return placed(input, result, inplace, "selu")


@public(method=False, **BOTH)
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, else `alpha * (exp(x / alpha) - 1)`, elementwise."""
    check(alpha != 0, "[celu] ZeroDivisionError: alpha cannot be 0 for CELU")
    return placed(input, _elu(input, alpha=alpha, slope=1 / alpha), inplace, "celu")


for _function in (relu6, hardtanh, threshold, leaky_relu, rrelu, elu, selu, celu):
    _in_place = functools.partial(_function, inplace=True)
    EXPORTS["nn.functional"][_function.__name__ + "_"] = _in_place
    if _function.__name__ in EXPORTS["torch"]:
        EXPORTS["torch"][_function.__name__ + "_"] = _in_place


@public(**FUNCTIONAL)
def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """`x * Phi(x)` with the normal distribution function Phi; `approximate="tanh"` is close and cheaper."""
    check(
        approximate in _GELU,
        lambda: f"[gelu] approximate argument must be either none or tanh, got {approximate!r}",
    )
    return _GELU[approximate](input)


@public(**FUNCTIONAL)
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * sigmoid(x)`, elementwise."""
    return placed(input, _silu(input), inplace, "silu")


@public(**FUNCTIONAL)
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * tanh(softplus(x))`, elementwise."""
    return placed(input, _mish(input), inplace, "mish")


@public(**FUNCTIONAL)
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """`log(1 + exp(beta * x)) / beta`, elementwise, and x where `beta * x` is above the threshold."""
    return _softplus(input, beta=beta, threshold=threshold)


@public(**FUNCTIONAL)
def softsign(input: Tensor) -> Tensor:
    """`x / (1 + |x|)`, elementwise."""
    return input / (input.abs() + 1)


@public(**FUNCTIONAL)
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """`min(max(x + 3, 0), 6) / 6`, elementwise."""
    return placed(input, _hardsigmoid(input), inplace, "hardsigmoid")


@public(**FUNCTIONAL)
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * hardsigmoid(x)`, elementwise."""
    return placed(input, _hardswish(input), inplace, "hardswish")


@public(**FUNCTIONAL)
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by `lambd`, as far as 0, elementwise."""
    check(lambd >= 0, lambda: f"[softshrink] lambda must be greater or equal to 0, but found {lambd}")
    return _softshrink(input, width=lambd)


@public(**BOTH)
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 from `-lambd` to `lambd`, else x, elementwise."""
    return _hardshrink(input, width=lambd)


@public(**FUNCTIONAL)
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half along `dim` times the logistic function of the second half."""
    x = input._data
    check(x.ndim > 0, "[glu] does not support scalars because halving size must be even")
    dim = normalize_dim(dim, x.ndim)
    check(
        x.shape[dim] % 2 == 0,
        lambda: f"[glu] Halving dimension must be even, but dimension {dim} is size {x.shape[dim]}",
    )
    return apply(GLU, input, dim=dim)


EXPORTS["nn.functional"]["tanh"] = EXPORTS["torch"]["tanh"]
