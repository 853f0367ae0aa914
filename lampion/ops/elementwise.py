"""Arithmetic, comparison and mathematical functions, element by element. May import rules, core and the base."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.op import TENSOR_NAMES
from ..core.tensor import Tensor
from .rules import elementwise, public, reflected

# -- arithmetic --------------------------------------------------------------------------------

_add = elementwise("add", "a + b", numpy=np.add, partials={"a": "1", "b": "1"})
_sub = elementwise("sub", "a - b", numpy=np.subtract, partials={"a": "1", "b": "-1"})
mul = elementwise(
    "mul", "a * b", numpy=np.multiply, partials={"a": "b", "b": "a"}, aliases=("multiply",)
)
_div = elementwise(
    "div",
    "a / b",
    numpy=np.divide,
    partials={"a": "1 / b", "b": "-y / b"},
    promote="float",
)
neg = elementwise("neg", "-x", numpy=np.negative, partials={"x": "-1"}, aliases=("negative",))

# -- exponentials and logarithms ---------------------------------------------------------------

exp = elementwise("exp", "exp(x)", numpy=np.exp, partials={"x": "y"}, promote="float", autocast="float32")
log = elementwise("log", "log(x)", numpy=np.log, partials={"x": "1 / x"}, promote="float", autocast="float32")
sin = elementwise("sin", "sin(x)", numpy=np.sin, partials={"x": "cos(x)"}, promote="float")
cos = elementwise("cos", "cos(x)", numpy=np.cos, partials={"x": "-sin(x)"}, promote="float")
tanh = elementwise("tanh", "tanh(x)", numpy=np.tanh, partials={"x": "1 - y * y"}, promote="float")

# -- comparison --------------------------------------------------------------------------------

eq = elementwise("eq", "a == b", numpy=np.equal)
ne = elementwise("ne", "a != b", numpy=np.not_equal, aliases=("not_equal",))
lt = elementwise("lt", "a < b", numpy=np.less, aliases=("less",))
le = elementwise("le", "a <= b", numpy=np.less_equal, aliases=("less_equal",))
gt = elementwise("gt", "a > b", numpy=np.greater, aliases=("greater",))
ge = elementwise("ge", "a >= b", numpy=np.greater_equal, aliases=("greater_equal",))

# -- Python's operators ------------------------------------------------------------------------

Tensor.__add__ = Tensor.__radd__ = _add
Tensor.__sub__, Tensor.__rsub__ = _sub, reflected(_sub)
Tensor.__mul__ = Tensor.__rmul__ = mul
Tensor.__truediv__, Tensor.__rtruediv__ = _div, reflected(_div)
Tensor.__neg__ = neg
Tensor.__eq__, Tensor.__ne__ = eq, ne
Tensor.__lt__, Tensor.__le__, Tensor.__gt__, Tensor.__ge__ = lt, le, gt, ge
Tensor.__iadd__, Tensor.__isub__ = Tensor.add_, Tensor.sub_
Tensor.__imul__, Tensor.__itruediv__ = Tensor.mul_, Tensor.div_

# -- complex -----------------------------------------------------------------------------------

_conj = elementwise(
    "conj", "conj(x)", numpy=np.conjugate, vjp={"x": lambda g: conj(g)}, jvp="linear", inplace=False
)


def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    return _conj(input) if input._data.dtype.kind == "c" else input


public(conj)
TENSOR_NAMES["conj"] = conj
