"""The scalar formulas of operators as code: what they may consist of, and their values. Imports
mathematics and emit.
"""

from __future__ import annotations

import ast
from typing import Any

from ..native.emit import Function, Value, suffix_of
from .mathematics import called

LIBRARY = {"sin", "cos", "exp", "expm1", "log", "log1p", "tanh", "erf"}  # of C's
INTRINSIC = {"sqrt": "sqrt", "abs": "fabs"}  # of LLVM's
OWN = {"conj", "sigmoid", "square", "maximum", "minimum", "at_least", "where", "sign"}
FUNCTIONS = LIBRARY | set(INTRINSIC) | OWN
SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}
COMPARISONS = {
    ast.NotEq: "!=",
    ast.Eq: "==",
    ast.Gt: ">",
    ast.Lt: "<",
    ast.GtE: ">=",
    ast.LtE: "<=",
}
PARTS = (ast.Expression, ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.USub, ast.Call,
         ast.Compare, ast.operator, ast.cmpop, ast.expr_context)  # fmt: skip


def names_in(formula: str) -> set[str]:
    """The names in a formula."""
    return {n.id for n in ast.walk(ast.parse(formula, mode="eval")) if isinstance(n, ast.Name)}


def writable(formula: str, names: set[str]) -> bool:
    """Whether a formula of these names is made of what `value_of` knows."""
    for node in ast.walk(ast.parse(formula, mode="eval")):
        if isinstance(node, ast.Name) and node.id not in names | FUNCTIONS:
            return False
        if isinstance(node, ast.BinOp) and type(node.op) not in SIGNS:
            return False
        if isinstance(node, ast.Compare) and (
            len(node.ops) > 1 or type(node.ops[0]) not in COMPARISONS
        ):
            return False
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
            return False
        if not isinstance(node, PARTS):
            return False
    return True


def evaluated(f: Function, formula: str, values: dict[str, Value], type: str) -> Value:
    """The value of a formula; of a comparison, a truth value as a byte."""
    node = ast.parse(formula, mode="eval").body
    if isinstance(node, ast.Compare):
        return f.convert("zext", truth_of(f, node, values, type), "i8")
    return value_of(f, node, values, type)


def truth_of(f: Function, node: Any, values: dict[str, Value], type: str) -> Value:
    """Whether a comparison holds."""
    left, right = (value_of(f, n, values, type) for n in (node.left, node.comparators[0]))
    return left.binary(COMPARISONS[node.ops[0].__class__], right)


def value_of(f: Function, node: Any, values: dict[str, Value], type: str) -> Value:
    """The value of a formula's part."""

    def part(inner: Any) -> Value:
        return value_of(f, inner, values, type)

    if isinstance(node, ast.Constant):
        number: Any = node.value
        return f.constant(type, number)
    if isinstance(node, ast.Name):
        return values[node.id]
    if isinstance(node, ast.UnaryOp):
        return -part(node.operand)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return power_of(f, part(node.left), part(node.right))
    if isinstance(node, ast.BinOp):
        return part(node.left).binary(SIGNS[node.op.__class__], part(node.right))
    if isinstance(node, ast.Compare):
        return f.convert("uitofp", truth_of(f, node, values, type), type)
    name = node.func.id
    if name == "where":
        condition, *others = node.args
        return f.select(truth_of(f, condition, values, type), *map(part, others))
    return function_of(f, name, [part(a) for a in node.args], type)


def power_of(f: Function, x: Value, exponent: Value) -> Value:
    """x to a power: by products for the third, by a root for half and minus half."""
    found, one = f.variable(x.type, x * x * x), f.constant(x.type, 1)
    with f.when(exponent.differs(3)):
        root = f.call(x.type, f"llvm.sqrt.{suffix_of(x.type)}", x)
        found.set(f.select(exponent.equals(0.5), root, one / root))
        halves = f.call(x.type, f"llvm.fabs.{suffix_of(x.type)}", exponent)
        with f.when(halves.differs(0.5)):
            name = "powf" if x.type == "float" else "pow"
            found.set(f.call(x.type, name, x, exponent))
    return found.get()


def function_of(f: Function, name: str, arguments: list[Value], type: str) -> Value:
    """A function of the formula language."""
    x = arguments[0]
    if name == "conj":
        return x
    if name == "sigmoid":
        one = f.constant(type, 1)
        return one / (called(f, "exp", -x) + one)
    if name == "square":
        return x * x
    if name == "sign":  # 0 for nan
        sides = [f.convert("uitofp", side, type) for side in (x > 0, x < 0)]
        return sides[0] - sides[1]
    if name in ("maximum", "minimum", "at_least"):  # a NaN on either side is the result
        better = x.binary("<" if name == "minimum" else ">", arguments[1])
        nan = f.emit("i1", f"fcmp uno {x}, {x.name}")
        return f.select(f.emit("i1", f"or {better}, {nan.name}"), x, arguments[1])
    if name in INTRINSIC:
        return f.call(type, f"llvm.{INTRINSIC[name]}.{suffix_of(type)}", x)
    return called(f, name, x)
