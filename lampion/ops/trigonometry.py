"""Trigonometric and hyperbolic functions and their inverses. May import earlier operators, core and
the base.
"""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray

from ..core.op import ARRAY_NAMES
from .elementwise import excluding
from .powers import FLOAT, FLOAT32, SPECIAL
from .rules import elementwise, in_float32

# -- trigonometric and hyperbolic functions ----------------------------------------------------

sin = elementwise("sin", "sin(x)", numpy=np.sin, partials={"x": "cos(x)"}, **FLOAT)
cos = elementwise("cos", "cos(x)", numpy=np.cos, partials={"x": "-sin(x)"}, **FLOAT)
tan = elementwise("tan", "tan(x)", numpy=np.tan, partials={"x": "1 + y * y"}, **FLOAT32)
sinh = elementwise("sinh", "sinh(x)", numpy=np.sinh, partials={"x": "cosh(x)"}, **FLOAT32)
cosh = elementwise("cosh", "cosh(x)", numpy=np.cosh, partials={"x": "sinh(x)"}, **FLOAT32)
tanh = elementwise("tanh", "tanh(x)", numpy=np.tanh, partials={"x": "1 - y * y"}, **FLOAT)

for _name, _numpy, _partial, _options in (
    ("asin", np.arcsin, "1 / sqrt(1 - x * x)", FLOAT32),
    ("acos", np.arccos, "-1 / sqrt(1 - x * x)", FLOAT32),
    ("atan", np.arctan, "1 / (1 + x * x)", FLOAT),
    ("asinh", np.arcsinh, "1 / sqrt(x * x + 1)", FLOAT),
    ("acosh", np.arccosh, "1 / (sqrt(x - 1) * sqrt(x + 1))", FLOAT),
    ("atanh", np.arctanh, "1 / (1 - x * x)", FLOAT),
):
    elementwise(
        _name,
        f"{_name}(x)",
        numpy=_numpy,
        partials={"x": _partial},
        aliases=("arc" + _name[1:],),
        **_options,
    )

_SQUARES = "where((a == 0) & (b == 0), 0 * a + 1, a * a + b * b)"
ARRAY_NAMES["atan2"] = np.arctan2
atan2 = elementwise(
    "atan2",
    "atan2(a, b)",
    numpy=excluding("c", np.arctan2),
    aliases=("arctan2",),
    partials={"a": f"b / {_SQUARES}", "b": f"-a / {_SQUARES}"},
    **FLOAT,
)
hypot = elementwise(
    "hypot", "hypot(a, b)", numpy=excluding("biuc", np.hypot), partials={"a": "a / y", "b": "b / y"}
)
for _name, _factor in (("Deg2Rad", math.pi / 180), ("Rad2Deg", 180 / math.pi)):
    elementwise(
        _name.lower(),
        f"x * {_factor}",
        partials={"x": str(_factor)},
        grad_name=_name + "Backward0",
        **FLOAT,
    )


def sinc_kernel(x: ndarray) -> ndarray:
    """sin(pi x) / (pi x), and 1 at 0."""
    angle = x * math.pi
    return np.where(x == 0, x.dtype.type(1), np.sin(angle) / angle)


sinc = elementwise(
    "sinc",
    "where(x == 0, 0 * x + 1, sin(pi * x) / (pi * x))",
    numpy=in_float32(sinc_kernel),
    partials={"x": "where(x == 0, 0 * x, (cos(pi * x) - y) / x)"},
    **SPECIAL,
    **FLOAT,
)
