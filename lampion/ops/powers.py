"""Powers, roots, exponentials and logarithms. May import earlier operators, core and the base."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.op import ARRAY_NAMES, TENSOR_NAMES
from ..core.tensor import Tensor
from ..errors import check
from . import special_functions as special
from .comparison import where
from .elementwise import PRIVATE, Constant, common, conj, excluding, operator_of
from .rules import elementwise, in_float32, public, reflected

LN2, LN10 = math.log(2), math.log(10)
FLOAT: dict[str, Any] = {"promote": "float"}  # integers become the default float
FLOAT32: dict[str, Any] = {
    "promote": "float",
    "autocast": "float32 on cuda",
}  # autocast computes in float32
SPECIAL: dict[str, Any] = {"spaces": ("torch", "special")}

# -- powers and roots --------------------------------------------------------------------------


def integer_power(a: ndarray, b: ndarray) -> ndarray:
    """Integers to integers; a negative power of anything but 1 and -1 is 0."""
    if b.dtype.kind == "u" or not (b < 0).any():
        return np.power(a, b)
    y = np.power(a, np.maximum(b, 0))
    unit = np.where(a == 1, 1, np.where(a == -1, 1 - 2 * (b & 1), 0)).astype(a.dtype)
    return np.where(b < 0, unit, y)


@functools.partial(excluding, "b")
def power(a: ndarray, b: ndarray) -> ndarray:
    """a to the b, integers included."""
    return integer_power(a, b) if a.dtype.kind in "iu" else np.power(a, b)


_CHEAP_POWERS: dict[Any, Callable] = {
    0.5: np.sqrt,
    1: np.positive,
    2: np.square,
    3: lambda x: x * x * x,
    -0.5: lambda x: np.reciprocal(np.sqrt(x)),
    -1: np.reciprocal,
    -2: lambda x: np.reciprocal(x * x),
}


@functools.partial(excluding, "b")
def power_of_number(x: ndarray, exponent: Any) -> ndarray:
    """x to a number, without a general power where a few products or a root do."""
    cheap = _CHEAP_POWERS.get(exponent)
    return cheap(x) if cheap else np.power(x, np.asarray(exponent).astype(x.dtype))


def number_power_gradient(g: Tensor, x: Tensor, exponent: Any) -> Tensor:
    """0 for the power 0, also where x is 0."""
    return 0 * g if exponent == 0 else g * conj(exponent * x ** (exponent - 1))


def base_gradient(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """0 where the exponent is 0."""
    return where(b == 0, 0, g * conj(b * a ** (b - 1)))


def exponent_gradient(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """0 where 0 is raised to a power that is not negative."""
    flat = (a == 0) & (TENSOR_NAMES["real"](b) >= 0)
    return where(flat, 0, g * conj(y * log(a)))


_power = elementwise(
    "pow",
    "a ** b",
    numpy=power,
    vjp={"a": base_gradient, "b": exponent_gradient},
    grad_name="PowBackward1",
    **PRIVATE,
)
_number_power = elementwise(
    "pow_number",
    "x ** exponent",
    numpy=power_of_number,
    parameters={"exponent": 2},
    vjp={"x": number_power_gradient},
    grad_name="PowBackward0",
    **PRIVATE,
).op
_square = elementwise(
    "square",
    "x * x",
    numpy=excluding("b", np.square),
    partials={"x": "x + x"},
    grad_name="PowBackward0",
    **PRIVATE,
)


@public(inplace=True, out=True)
def pow(input: Any, exponent: Any) -> Tensor:
    """`input ** exponent`, elementwise; one of them may be a number.

    Raises RuntimeError for an integer tensor and a negative integer number.
    """
    if isinstance(exponent, Tensor):
        return _power(input, exponent)
    if exponent.__class__ is int and exponent == 2 and input._data.dtype.kind != "b":
        return _square(input)
    if input._data.dtype.kind in "fV" and exponent.__class__ in (int, float):
        return _number_power(input, exponent=exponent)
    x, e = common(input, exponent)
    if x.dtype.category == dtypes.INTEGER:
        check(
            exponent >= 0,
            "[pow] Integers to negative integer powers are not allowed; use a float tensor.",
        )
        check(
            exponent <= dtypes.iinfo(x.dtype).max,
            lambda: (
                f"[pow] value {exponent} cannot be converted to type {x.dtype} without overflow"
            ),
        )
    return _number_power(x, exponent=exponent) if x._data.dtype.kind in "fcV" else _power(x, e)


@public(inplace=True, out=True)
def square(input: Tensor) -> Tensor:
    """`input ** 2`, elementwise."""
    return pow(input, 2)


@public(inplace=True, out=True)
def float_power(input: Any, exponent: Any) -> Tensor:
    """`input ** exponent` in float64 (complex128 if one of them is complex)."""
    x, e = common(input, exponent)
    wide = dtypes.complex128 if x.dtype.is_complex else dtypes.float64
    return pow(x.to(wide), e.to(wide) if isinstance(exponent, Tensor) else exponent)


sqrt = elementwise("sqrt", "sqrt(x)", numpy=np.sqrt, partials={"x": "0.5 / y"}, promote="float")
rsqrt = elementwise(
    "rsqrt",
    "1 / sqrt(x)",
    partials={"x": "-0.5 * y * y * y"},
    promote="float",
    autocast="float32 on cuda",
)
reciprocal = elementwise(
    "reciprocal",
    "1 / x",
    numpy=np.reciprocal,
    partials={"x": "-y * y"},
    promote="float",
    autocast="float32 on cuda",
)


Tensor.__pow__, Tensor.__ipow__ = operator_of(pow), Tensor.pow_
Tensor.__rpow__ = operator_of(reflected(_power, "PowBackward2"))

# -- exponentials and logarithms ---------------------------------------------------------------

exp = elementwise("exp", "exp(x)", numpy=np.exp, partials={"x": "y"}, **FLOAT32)
exp2 = elementwise(
    "exp2", "exp2(x)", numpy=np.exp2, partials={"x": f"y * {LN2}"}, **SPECIAL, **FLOAT
)
expm1 = elementwise(
    "expm1", "expm1(x)", numpy=np.expm1, partials={"x": "y + 1"}, **SPECIAL, **FLOAT32
)
log = elementwise("log", "log(x)", numpy=np.log, partials={"x": "1 / x"}, **FLOAT32)
log2 = elementwise("log2", "log2(x)", numpy=np.log2, partials={"x": f"1 / (x * {LN2})"}, **FLOAT32)
log10 = elementwise(
    "log10", "log10(x)", numpy=np.log10, partials={"x": f"1 / (x * {LN10})"}, **FLOAT32
)
log1p = elementwise(
    "log1p",
    "log1p(x)",
    numpy=np.log1p,
    partials={"x": "1 / (x + 1)"},
    grad_name="Log1PBackward0",
    **SPECIAL,
    **FLOAT32,
)


def add_exponentials(a: ndarray, b: ndarray) -> ndarray:
    """The logarithm of a sum of exponentials; the larger real part is taken out."""
    if a.dtype.kind != "c":
        return np.logaddexp(a, b)
    low, high = np.where(a.real < b.real, a, b), np.where(a.real < b.real, b, a)
    return high + np.log1p(np.exp(low - high))


logaddexp = elementwise(
    "logaddexp",
    "log(exp(a) + exp(b))",
    numpy=excluding("biu", add_exponentials),
    partials={"a": "1 / (1 + exp(b - a))", "b": "1 / (1 + exp(a - b))"},
    inplace=False,
)
logaddexp2 = elementwise(
    "logaddexp2",
    "log2(exp2(a) + exp2(b))",
    numpy=excluding("biuc", np.logaddexp2),
    partials={"a": "1 / (1 + exp2(b - a))", "b": "1 / (1 + exp2(a - b))"},
    inplace=False,
)


ARRAY_NAMES["xlogy"] = special.xlogy
xlogy = elementwise(
    "xlogy",
    "where(isnan(b), b, where(a == 0, 0 * a, a * log(b)))",
    numpy=excluding("c", special.xlogy),
    partials={"a": "xlogy(where(a == 0, 0 * a, 0 * a + 1), b)", "b": "a / b"},
    **SPECIAL,
    **FLOAT,
)

# -- the logistic function ---------------------------------------------------------------------


ONE = Constant(1)


def sigmoid_kernel(x: ndarray) -> ndarray:
    """1 / (1 + exp(-x)), in one array; where exp overflows, its reciprocal is the 0 wanted."""
    y = np.asarray(np.negative(x))
    np.exp(y, y)
    np.add(y, ONE[x.dtype], y)
    return np.reciprocal(y, y)


sigmoid = elementwise(
    "sigmoid",
    "1 / (1 + exp(-x))",
    numpy=in_float32(sigmoid_kernel),
    partials={"x": "y * (1 - y)"},
    spaces=("torch", "nn.functional"),
    **FLOAT,
)


def logit_gradient(g: Tensor, x: Tensor, eps: float | None) -> Tensor:
    """0 outside [eps, 1 - eps]; without eps, NaN outside [0, 1]."""
    low, outside = (0.0, math.nan) if eps is None else (eps, 0.0)
    return where((x < low) | (x > 1 - low), outside, g / (x * (1 - x)))


_logit = elementwise(
    "logit",
    "log(x / (1 - x))",
    numpy=excluding("c", special.logit),
    vjp={"x": logit_gradient},
    parameters={"eps": None},
    **PRIVATE,
    **FLOAT,
).op


@public(inplace=True, out=True, spaces=("torch", "special"))
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """`log(x / (1 - x))`, elementwise, after moving x into [eps, 1 - eps] where `eps` is given."""
    return _logit(input, eps=eps)
