"""Smooth activation functions: exponential units, softplus, silu, gelu, gates. May import earlier
operators, core and the base. Records first, public functions after.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import ARRAY_NAMES, Op
from ..core.tensor import Tensor, normalize_dim
from ..errors import check
from .comparison import where
from .elementwise import PRIVATE, excluding
from .powers import sigmoid_kernel
from .rectifiers import BOTH, FUNCTIONAL, ZERO, placed, publish_in_place
from .rules import EXPORTS, elementwise, move_to_front, public
from .special_functions import erf

SELU = {"alpha": 1.6732632423543772, "scale": 1.0507009873554805}  # of Klambauer et al. (2017)

# -- curved pieces -----------------------------------------------------------------------------


@functools.partial(excluding, "biuc")
def elu_kernel(x: ndarray, alpha: float, scale: float, slope: float) -> ndarray:
    """scale * x where x is positive, else scale * alpha * (exp(slope * x) - 1)."""
    y = np.asarray(np.minimum(x, ZERO[x.dtype]))
    if slope != 1:
        y *= slope
    np.expm1(y, y)
    if alpha * scale != 1:
        y *= alpha * scale
    positive = np.maximum(x, ZERO[x.dtype])
    return np.add(y, positive if scale == 1 else scale * positive, y)


def elu_gradient(g: Tensor, x: Tensor, alpha: float, scale: float, slope: float) -> Tensor:
    """scale, or scale * alpha * slope * exp(slope * x) up to 0."""
    return g * where(x <= 0, scale * alpha * slope * (slope * x).exp(), scale)


_elu = elementwise(
    "elu",
    "where(x > 0, scale * x, scale * alpha * expm1(slope * x))",
    numpy=elu_kernel,
    vjp={"x": elu_gradient},
    parameters={"alpha": 1.0, "scale": 1.0, "slope": 1.0},
    grad_name=lambda params: "EluBackward0" if params["slope"] == 1 else "CeluBackward0",
    **PRIVATE,
).op


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
    "softplus",
    "where(beta * x > threshold, x, log1p(exp(beta * x)) / beta)",
    numpy=softplus_kernel,
    vjp={
        "x": lambda g, x, beta, threshold: where(beta * x > threshold, g, g * (beta * x).sigmoid())
    },
    parameters={"beta": 1.0, "threshold": 20.0},
    autocast="float32 on cuda",
    **PRIVATE,
).op
logsigmoid = elementwise(
    "logsigmoid",
    "minimum(x, 0) - log1p(exp(-abs(x)))",
    numpy=logsigmoid_kernel,
    partials={"x": "1 / (1 + exp(x))"},
    grad_name="LogSigmoidBackward0",
    inplace=False,
    **FUNCTIONAL,
)
ARRAY_NAMES.update(sigmoid=sigmoid_kernel, erf=erf)
_silu = elementwise(
    "silu",
    "x / (1 + exp(-x))",
    numpy=silu_kernel,
    partials={"x": "sigmoid(x) * (x - y + 1)"},
    **PRIVATE,
)
_mish = elementwise(
    "mish", "x * tanh(log1p(exp(x)))", numpy=mish_kernel, vjp={"x": mish_gradient}, **PRIVATE
)
tanhshrink = elementwise(
    "tanhshrink",
    "x - tanh(x)",
    promote="float",
    partials={"x": "(x - y) * (x - y)"},
    grad_name="SubBackward0",
    inplace=False,
    **FUNCTIONAL,
)

# -- the Gaussian error linear unit ------------------------------------------------------------

ROOT_HALF, DENSITY_0, ROOT_2_PI, CUBIC = (
    math.sqrt(0.5),
    1 / math.sqrt(2 * math.pi),
    math.sqrt(2 / math.pi),
    0.044715,
)


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
        "gelu",
        f"0.5 * x * (1 + erf(x * {ROOT_HALF}))",
        numpy=gelu_kernel,
        **PRIVATE,
        partials={"x": f"0.5 * (1 + erf(x * {ROOT_HALF})) + x * {DENSITY_0} * exp(-0.5 * x * x)"},
    ),
    "tanh": elementwise(
        "gelu_tanh",
        f"0.5 * x * (1 + tanh({ROOT_2_PI} * x * (1 + {CUBIC} * x * x)))",
        numpy=gelu_tanh_kernel,
        vjp={"x": gelu_tanh_gradient},
        grad_name="GeluBackward0",
        **PRIVATE,
    ),
}

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


@public(**FUNCTIONAL)
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, else `alpha * (exp(x) - 1)`, elementwise."""
    return placed(input, inplace, "elu_", _elu, alpha=alpha, scale=1, slope=1)


@public(method=False, **BOTH)
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """`scale * elu(x, alpha)` with the constants that keep mean 0 and variance 1 through layers."""
    return placed(input, inplace, "selu_", _elu, **SELU, slope=1)


@public(method=False, **BOTH)
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where it is positive, else `alpha * (exp(x / alpha) - 1)`, elementwise."""
    check(alpha != 0, "[celu] ZeroDivisionError: alpha cannot be 0 for CELU")
    return placed(input, inplace, "celu_", _elu, alpha=alpha, scale=1, slope=1 / alpha)


@public(**FUNCTIONAL)
def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """`x * Phi(x)`, Phi the normal distribution function; `approximate="tanh"` is cheaper."""
    check(
        approximate in _GELU,
        lambda: f"[gelu] approximate argument must be either none or tanh, got {approximate!r}",
    )
    return _GELU[approximate](input)


@public(**FUNCTIONAL)
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * sigmoid(x)`, elementwise."""
    return placed(input, inplace, "silu_", _silu)


@public(**FUNCTIONAL)
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """`x * tanh(softplus(x))`, elementwise."""
    return placed(input, inplace, "mish_", _mish)


@public(**FUNCTIONAL)
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """`log(1 + exp(beta * x)) / beta`, elementwise; x where `beta * x` exceeds the threshold."""
    return _softplus(input, beta=beta, threshold=threshold)


@public(**FUNCTIONAL)
def softsign(input: Tensor) -> Tensor:
    """`x / (1 + |x|)`, elementwise."""
    return input / (input.abs() + 1)


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


publish_in_place(elu, selu, celu)
