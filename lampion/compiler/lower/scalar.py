"""One element of the result from one element of each operand: casts, formulas, choices. May import
formula, graph and ir.

Numbers of 16 bits are computed in float32 and rounded after each operator, as eager calls do. What
has no entry here, and no formula that is exact for its kind of operands, is left to the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir import mathematics
from ..ir.formula import Unsupported, expression, lifted, sign
from ..ir.node import FLOATS, INTS, NUMPY, STORAGE, Node, constant, parameter, where
from ..trace.graph import Step

IR_TYPES = {np.dtype(kind): name for name, kind in NUMPY.items()}
Operands = list[Node | None]

# Formulas that differ from their operators' kernels (in range, order of operations or for special
# values) are not used; those of OVERRIDES are written again below.
UNFAITHFUL = {
    "conj", "copysign", "isreal", "signbit", "logaddexp", "logaddexp2", "logit", "hypot",
    "round_decimals", "remainder", "fmod", "div_floor", "div_trunc", "heaviside", "frexp",
    "complex", "polar", "angle", "sgn", "conj_physical", "xlog1py", "sinc", "isclose",
}  # fmt: skip
OF_TRUTH = {
    "where", "masked_fill", "eq", "ne", "logical_not", "logical_and", "logical_or", "logical_xor",
    "bitwise_not", "bitwise_and", "bitwise_or", "bitwise_xor", "to", "clone", "copy",
}  # fmt: skip


def storage_type(dtype: np.dtype) -> str:
    """The IR's name of an array's type; raises Unsupported for those it has not."""
    name = IR_TYPES.get(np.dtype(dtype))
    if name is None:
        raise Unsupported(str(dtype))
    return name


def value_type(dtype: np.dtype) -> str:
    """The type that an array's elements are computed in."""
    name = storage_type(dtype)
    return "f32" if name in STORAGE else name


def rounded(x: Node, dtype: np.dtype) -> Node:
    """The value as the type holds it, in the type it is computed in."""
    name = storage_type(dtype)
    if name in STORAGE:
        return x.cast("f32").cast(name).cast("f32")
    return x.cast(name)


def clamped(x: Node, low: Node | None, high: Node | None) -> Node:
    """x moved up to low, then down to high; nan stays."""
    x = x if low is None else x.max(low)
    return x if high is None else x.min(high)


def power_of_number(x: Node, exponent: float) -> Node:
    """x ** exponent, by products and roots where these are exact enough."""
    if x.dtype not in FLOATS:
        raise Unsupported("integer powers")
    cheap: dict[float, Callable[[], Node]] = {
        0.5: lambda: x.unary("sqrt"),
        1: lambda: x,
        2: lambda: x * x,
        3: lambda: x * x * x,
        -0.5: lambda: 1.0 / x.unary("sqrt"),
        -1: lambda: 1.0 / x,
        -2: lambda: 1.0 / (x * x),
    }
    if exponent in cheap:
        return cheap[exponent]()
    return mathematics.pow(x, constant(exponent, x.dtype))


def power(a: Node, b: Node) -> Node:
    """a ** b of floats."""
    if a.dtype not in FLOATS:
        raise Unsupported("integer powers")
    return mathematics.pow(a, b)


def threshold(x: Node, threshold: float, value: float) -> Node:
    """The value where x is at most the threshold."""
    limit, instead = lifted(x, threshold, value)[1:]
    return where(x <= limit, instead, x)


def nan_to_num(x: Node, nan: Any, posinf: Any, neginf: Any) -> Node:
    """Numbers in the place of nan and the infinities."""
    if x.dtype not in FLOATS:
        return x
    most = float(np.finfo(NUMPY[x.dtype]).max)
    y = where(x.differs(x), constant(nan or 0, x.dtype), x)
    y = where(x.equals(math.inf), constant(most if posinf is None else posinf, x.dtype), y)
    return where(x.equals(-math.inf), constant(-most if neginf is None else neginf, x.dtype), y)


def logical(combine: Callable[..., Node]) -> Callable[..., Node]:
    """An operation on truth values."""

    def call(*operands: Node) -> Node:
        return combine(*[x if x.dtype == "bool" else x.differs(0) for x in operands])

    return call


def bitwise(op: str) -> Callable[..., Node]:
    """An operation on the bits of integers."""

    def call(a: Node, b: Node) -> Node:
        if a.dtype not in INTS and a.dtype != "bool":
            raise Unsupported("bits of floats")
        return Node(op, a.dtype, (a, b))

    return call


def inverted(x: Node) -> Node:
    """All bits turned."""
    if x.dtype == "bool":
        return x ^ True
    return x ^ -1


def float_test(test: Callable[[Node], Node], otherwise: bool) -> Callable[[Node], Node]:
    """A test of floats; integers all give `otherwise`."""
    return lambda x: test(x) if x.dtype in FLOATS else constant(otherwise, "bool")


def sigmoid(x: Node) -> Node:
    """1 / (1 + exp(-x))."""
    if x.dtype not in FLOATS:
        raise Unsupported("sigmoid of integers")
    return mathematics.sigmoid(x)


def remainder(a: Node, b: Node) -> Node:
    """The rest of an integer division by a positive constant, never negative."""
    if a.dtype not in INTS or b.op != "const" or b.arg <= 0:
        raise Unsupported("remainder")
    return Node("mod", a.dtype, (a, b))


def floor_division(a: Node, b: Node) -> Node:
    """An integer divided by a positive constant, rounded down."""
    if a.dtype not in INTS or b.op != "const" or b.arg <= 0:
        raise Unsupported("floor division")
    return Node("div", a.dtype, (a, b))


# Operators as functions of their operands and parameters, for those without a faithful formula.
OVERRIDES: dict[str, Callable[..., Node]] = {
    "clamp": clamped,
    "masked_fill": lambda x, mask, value: where(mask, value.cast(x.dtype), x),
    "where": lambda c, a, b: where(c, a, b),
    "clone": lambda x, **_: x,
    "copy": lambda x, source, **_: source,
    "to": lambda x, **_: x,
    "pow": power,
    "pow_number": power_of_number,
    "threshold": threshold,
    "nan_to_num": nan_to_num,
    "logical_not": logical(lambda x: x ^ True),
    "logical_and": logical(lambda a, b: a & b),
    "logical_or": logical(lambda a, b: a | b),
    "logical_xor": logical(lambda a, b: a ^ b),
    "bitwise_not": inverted,
    "bitwise_and": bitwise("and"),
    "bitwise_or": bitwise("or"),
    "bitwise_xor": bitwise("xor"),
    "isnan": float_test(lambda x: x.differs(x), False),
    "isinf": float_test(lambda x: abs(x).equals(math.inf), False),
    "isfinite": float_test(lambda x: abs(x) < math.inf, True),
    "isposinf": float_test(lambda x: x.equals(math.inf), False),
    "isneginf": float_test(lambda x: x.equals(-math.inf), False),
    "sigmoid": sigmoid,
    "sgn": sign,
    "remainder": remainder,
    "div_floor": floor_division,
}
POINTWISE = set(OVERRIDES)


def result_of(step: Step, operands: Operands) -> Node:
    """An element of the step's result, from elements of its operands; raises Unsupported."""
    op, params = step.op, step.params
    out = step.outputs[0].dtype
    if op.name not in OF_TRUTH and any(x is not None and x.dtype == "bool" for x in operands):
        raise Unsupported(f"{op.name} of truth values")
    if op.name in OVERRIDES:
        result = OVERRIDES[op.name](*operands, **params)
    elif op.formula and op.name not in UNFAITHFUL:
        names: dict[str, Any] = dict(zip(op.inputs, operands, strict=True))
        result = expression(op.formula, {**names, **{n: params[n] for n in op.parameters}})
    else:
        raise Unsupported(op.name)
    if not isinstance(result, Node):
        result = constant(result, value_type(out))
    return rounded(result, out)


WEIGHTS = {"div": 4, "sqrt": 4, "load": 0, "const": 0, "param": 0, "cast": 1}


def cost(root: Node) -> int:
    """Roughly how many instructions a value takes."""
    return sum(WEIGHTS.get(n.op, 1) for n in root.toposort())


COSTS: dict[tuple, int | None] = {}  # by operator, parameters and types


def cost_of(step: Step) -> int | None:
    """What an element of the step's result costs; None if it is no operator of this file."""
    if step.op.name not in POINTWISE and step.op.kind != "elementwise":
        return None
    if len(step.outputs) != 1:
        return None
    types = tuple(None if v is None else v.dtype for v in (*step.inputs, *step.outputs))
    key = step.op.name, step.op.formula, repr(step.params), types
    if key not in COSTS:
        COSTS[key] = find_cost(step)
    return COSTS[key]


def find_cost(step: Step) -> int | None:
    """The same, by making an element."""
    try:
        operands: Operands = [
            None if v is None else parameter(i, value_type(v.dtype))
            for i, v in enumerate(step.inputs)
        ]
        return cost(result_of(step, operands))
    except Unsupported:
        return None
