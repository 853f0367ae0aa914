"""Scalar formulas, the strings of operator records, as nodes. May import ir and mathematics.

The same strings run on arrays and on tensors (core/op.py). Here a truth value in arithmetic counts
as 0 or 1, and Python numbers take the type of what they meet, as in NumPy.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from functools import cache
from typing import Any

from . import mathematics
from .node import FLOATS, Node, constant, where


class Unsupported(Exception):
    """The formula uses a name or a form that has no nodes."""


def lifted(*operands: Any) -> list[Node]:
    """Operands as nodes of one type: numbers and truth values in that of the first number node."""
    nodes = [x for x in operands if isinstance(x, Node)]
    if not nodes:
        raise Unsupported("a formula of constants only")
    dtype = next((n.dtype for n in nodes if n.dtype != "bool"), None)
    if dtype is None:
        numbers = [x for x in operands if not isinstance(x, (Node, bool))]
        if numbers:
            raise Unsupported("arithmetic of truth values and numbers")
        dtype = "bool"
    return [x.cast(dtype) if isinstance(x, Node) else constant(x, dtype) for x in operands]


def of_numbers(function: Callable[..., Node]) -> Callable[..., Any]:
    """A function of nodes of one floating type."""

    def call(*operands: Any) -> Node:
        nodes = lifted(*operands)
        if nodes[0].dtype not in FLOATS:
            raise Unsupported(f"{function.__name__} of {nodes[0].dtype}")
        return function(*nodes)

    return call


def choose(condition: Any, yes: Any, no: Any) -> Node:
    """`yes` where the condition holds, else `no`."""
    return where(truth(condition), *lifted(yes, no))


def truth(x: Any) -> Node:
    """A node as a truth value."""
    return x if x.dtype == "bool" else x.differs(0)


def sign(x: Node) -> Node:
    """-1, 0 or 1; 0 for nan."""
    return (x > 0.0).cast(x.dtype) - (x < 0.0).cast(x.dtype)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: of_numbers(getattr(mathematics, name))
        for name in ("exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sin", "cos",
                     "sqrt", "rsqrt")
    },
    **{name: of_numbers(lambda x, op=name: x.unary(op)) for name in ("floor", "ceil", "trunc")},
    "round": of_numbers(lambda x: x.unary("round")),
    "abs": lambda x: abs(x),
    "square": lambda x: x * x,
    "maximum": lambda x, y: Node.max(*lifted(x, y)),
    "at_least": lambda x, low: Node.max(*lifted(x, low)),
    "minimum": lambda x, y: Node.min(*lifted(x, y)),
    "where": choose,
    "sgn": sign,
    "sign": sign,
    "conj": lambda x: x,
    "isnan": lambda x: x.differs(x),
    "isfinite": lambda x: abs(x) < math.inf,
    "isinf": lambda x: abs(x).equals(math.inf),
}  # fmt: skip
CONSTANTS = {"pi": math.pi, "inf": math.inf, "nan": math.nan}
ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda x, y: x + y,
    ast.Sub: lambda x, y: x - y,
    ast.Mult: lambda x, y: x * y,
    ast.Div: lambda x, y: x / y,
    ast.BitAnd: lambda x, y: x & y,
    ast.BitOr: lambda x, y: x | y,
}
COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: lambda x, y: x.equals(y),
    ast.NotEq: lambda x, y: x.differs(y),
    ast.Lt: lambda x, y: x < y,
    ast.LtE: lambda x, y: x <= y,
    ast.Gt: lambda x, y: x > y,
    ast.GtE: lambda x, y: x >= y,
}


def expression(formula: str, names: dict[str, Any]) -> Any:
    """The formula as a node, its names given as nodes and numbers; raises Unsupported.

    >>> from lampion.compiler.ir.node import parameter
    >>> expression("x * 2 + 1", {"x": parameter(0, "f32")}).dtype
    'f32'
    """
    return evaluate(parsed(formula), names)


@cache
def parsed(formula: str) -> ast.expr:
    """The formula's tree."""
    return ast.parse(formula, mode="eval").body


def evaluate(tree: ast.AST, names: dict[str, Any]) -> Any:
    """The value of a part of a formula: a node, or a Python number."""
    if isinstance(tree, ast.Constant) and isinstance(tree.value, (int, float)):
        return tree.value
    if isinstance(tree, ast.Name):
        value = names.get(tree.id, CONSTANTS.get(tree.id))
        if value is None:
            raise Unsupported(tree.id)
        return value
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return -evaluate(tree.operand, names)
    if isinstance(tree, ast.BinOp):
        return operation(ARITHMETIC, tree.op, tree.left, tree.right, names)
    if isinstance(tree, ast.Compare) and len(tree.ops) == 1:
        return operation(COMPARISONS, tree.ops[0], tree.left, tree.comparators[0], names)
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        function = FUNCTIONS.get(tree.func.id)
        if function is not None and not tree.keywords:
            return function(*[evaluate(a, names) for a in tree.args])
    raise Unsupported(ast.unparse(tree))


def operation(
    table: dict[type, Callable], sign: ast.AST, left: ast.AST, right: ast.AST, names: dict[str, Any]
) -> Any:
    """A binary operation; one of two Python numbers is done in Python."""
    if type(sign) not in table:
        raise Unsupported(type(sign).__name__)
    x, y = evaluate(left, names), evaluate(right, names)
    if isinstance(x, Node) or isinstance(y, Node):
        x, y = lifted(x, y)
    return table[type(sign)](x, y)
