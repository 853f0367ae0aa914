"""What is legal at which stage: operations, operand types, scopes; `verify` names what is not.

May import ir. Legality as a table is tinygrad's `uop/spec`. There are two stages: the graph, which
passes rewrite, and the flat program, which renderers read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...config import flags
from ...errors import check
from .node import (
    BITS,
    FLOATS,
    INTS,
    LOOP_KINDS,
    NUMBERS,
    NUMPY,
    ORDERS,
    REDUCTIONS,
    STORAGE,
    VALUES,
    Node,
    Program,
    argument_text,
)

Operands = Sequence[Any]  # nodes or instructions: both have op, dtype, arg


class Rule(NamedTuple):
    """What an operation expects, in words and as a test of (dtype, operands, arg)."""

    expects: str
    holds: Callable[[str, Operands, Any], bool]


def types(operands: Operands) -> list[str]:
    """The operands' dtypes."""
    return [x.dtype for x in operands]


def alike(count: int, dtypes: set[str]) -> Rule:
    """`count` operands of the result's own type."""
    return Rule(
        f"{count} operand(s) of its own type, one of {sorted(dtypes)}",
        lambda dtype, src, arg: types(src) == [dtype] * count and dtype in dtypes and arg is None,
    )


COMPARISON = Rule(
    "two operands of one type and a bool result",
    lambda dtype, src, arg: (
        dtype == "bool"
        and len(src) == 2
        and src[0].dtype == src[1].dtype
        and src[0].dtype in VALUES
    ),
)


def is_constant_of(dtype: str, arg: Any) -> bool:
    """Is this a Python number of the type, in its range?"""
    if dtype in FLOATS:
        return type(arg) is float
    if dtype == "bool":
        return type(arg) is bool
    return dtype in INTS and type(arg) is int and arg.bit_length() < BITS[dtype] + (arg < 0)


def is_division(dtype: str, src: Operands, arg: Any) -> bool:
    """Floats divide as they like; integers by a positive constant, rounding down."""
    if types(src) != [dtype, dtype] or dtype not in NUMBERS:
        return False
    return dtype in FLOATS or (src[1].op == "const" and src[1].arg > 0)


def is_cast(dtype: str, src: Operands, arg: Any) -> bool:
    """Between all values; storage types only from and to f32."""
    if len(src) != 1:
        return False
    pair = {dtype, src[0].dtype}
    return len(pair) == 2 and (pair <= VALUES or ("f32" in pair and pair - {"f32"} <= STORAGE))


def is_access(dtype: str, src: Operands, result: str) -> bool:
    """(pointer to dtype, i64 index) first, and the operation itself of type `result`."""
    return (
        len(src) >= 2
        and types(src[:2]) == [f"*{dtype}", "i64"]
        and dtype in NUMPY
        and result in (dtype, "void")
    )


def is_reduction(dtype: str, arg: Any) -> bool:
    """A known kind and order; truth values have only max and min."""
    if not (isinstance(arg, tuple) and len(arg) == 2):
        return False
    kind, order = arg
    return kind in REDUCTIONS and order in ORDERS and (dtype in NUMBERS or kind in ("max", "min"))


SAME_SIZE = [{"i32", "f32"}, {"i64", "f64"}]
STATEMENTS = {"store", "loop"}

EXPRESSIONS = {
    "const": Rule(
        "a value of its type", lambda dtype, src, arg: not src and is_constant_of(dtype, arg)
    ),
    "param": Rule(
        "an index, and a pointer or number type",
        lambda dtype, src, arg: (
            not src
            and type(arg) is int
            and arg >= 0
            and (dtype in VALUES or (dtype[:1] == "*" and dtype[1:] in NUMPY))
        ),
    ),
    "load": Rule(
        "(pointer to its type, i64 index) or these and (bool mask, value of its type)",
        lambda dtype, src, arg: (
            is_access(dtype, src, dtype) and types(src[2:]) in ([], ["bool", dtype])
        ),
    ),
    "store": Rule(
        "(pointer, i64 index, value of the pointer's type), perhaps a bool mask",
        lambda dtype, src, arg: (
            dtype == "void"
            and len(src) in (3, 4)
            and is_access(src[2].dtype, src, "void")
            and types(src[3:]) in ([], ["bool"])
        ),
    ),
    "cast": Rule("one operand of another type; bf16 and f16 only from and to f32", is_cast),
    "bitcast": Rule(
        "one operand of another type of its size",
        lambda dtype, src, arg: len(src) == 1 and {dtype, src[0].dtype} in SAME_SIZE,
    ),
    "where": Rule(
        "(bool, value, value) of its own type",
        lambda dtype, src, arg: types(src) == ["bool", dtype, dtype] and dtype in VALUES | STORAGE,
    ),
    "div": Rule("two floats, or an integer and a positive constant", is_division),
    "mod": Rule(
        "an integer and a positive constant",
        lambda dtype, src, arg: dtype in INTS and is_division(dtype, src, arg),
    ),
    **{op: alike(2, NUMBERS) for op in ("add", "sub", "mul")},
    **{op: alike(2, VALUES) for op in ("max", "min")},
    **{op: alike(1, NUMBERS) for op in ("neg", "abs")},
    **{op: alike(1, FLOATS) for op in ("sqrt", "floor", "ceil", "trunc", "round")},
    **{op: alike(2, INTS | {"bool"}) for op in ("and", "or", "xor")},
    **{op: alike(2, INTS) for op in ("shl", "shr")},
    "fma": alike(3, FLOATS),
    **dict.fromkeys(("lt", "le", "eq", "ne"), COMPARISON),
}

GRAPH = {
    **EXPRESSIONS,
    "range": Rule(
        "two i64 bounds and [number, kind]",
        lambda dtype, src, arg: (
            types(src) == ["i64", "i64"]
            and dtype == "i64"
            and len(arg) == 2
            and arg[1] in LOOP_KINDS
        ),
    ),
    "reduce": Rule(
        "(value of its type, ranges) and [kind, order]",
        lambda dtype, src, arg: (
            len(src) > 1
            and src[0].dtype == dtype
            and all(r.op == "range" for r in src[1:])
            and is_reduction(dtype, arg)
        ),
    ),
    "loop": Rule(
        "a range, then statements",
        lambda dtype, src, arg: (
            len(src) > 1 and src[0].op == "range" and all(s.op in STATEMENTS for s in src[1:])
        ),
    ),
    "program": Rule(
        "statements and [name, parameter types]",
        lambda dtype, src, arg: all(s.op in STATEMENTS for s in src) and len(arg) == 2,
    ),
}

FLAT = {
    **EXPRESSIONS,
    "for": Rule(
        "two i64 bounds and [number, kind]",
        lambda dtype, src, arg: types(src) == ["i64", "i64"] and arg[1] in LOOP_KINDS,
    ),
    "end": Rule("the `for` it ends", lambda dtype, src, arg: len(src) == 1 and src[0].op == "for"),
    "accumulator": Rule(
        "its first value and [kind, order]",
        lambda dtype, src, arg: types(src) == [dtype] and is_reduction(dtype, arg),
    ),
    "update": Rule(
        "an accumulator and a value of its type",
        lambda dtype, src, arg: (
            len(src) == 2 and src[0].op == "accumulator" and src[0].dtype == src[1].dtype
        ),
    ),
    "read": Rule(
        "an accumulator of its type",
        lambda dtype, src, arg: (
            len(src) == 1 and src[0].op == "accumulator" and types(src) == [dtype]
        ),
    ),
}


def verify(code: Node | Program, after: str = "construction") -> None:
    """Raises `RuntimeError` naming the pass and the first node or line that is illegal."""
    if isinstance(code, Program):
        verify_flat(code, after)
    else:
        verify_graph(code, after)


def verified(code: Any, after: str) -> Any:
    """What a pass made, verified if `config.flags.check` is set."""
    if flags.check:
        verify(code, after)
    return code


def check_rule(table: dict[str, Rule], item: Any, src: Operands, where: str) -> None:
    """Checks one node or instruction by its rule."""
    rule = table.get(item.op)
    check(rule is not None, lambda: f"{where} is no operation of this stage; lower it first")
    assert rule is not None
    check(
        rule.holds(item.dtype, src, item.arg),
        lambda: (
            f"{where} expects {rule.expects}, "
            f"got ({', '.join(types(src))}){argument_text(item.arg)}"
        ),
    )


def check_parameter(item: Any, signature: Sequence[str], where: str) -> None:
    """A parameter must be one of the signature's, of its type."""
    known = item.arg < len(signature) and signature[item.arg] == item.dtype
    check(
        known,
        lambda: f"{where} expects a parameter of the signature {list(signature)}, got {item.arg}",
    )


def free_ranges(root: Node) -> dict[Node, frozenset[Node]]:
    """For every node, the ranges that must be open around it."""
    free: dict[Node, frozenset[Node]] = {}
    for node in root.toposort():
        below: frozenset[Node] = frozenset().union(*(free[s] for s in node.src))
        if node.op == "range":
            below |= {node}
        elif node.op == "reduce":
            below -= set(node.src[1:])
        elif node.op == "loop":
            below -= {node.src[0]}
        free[node] = below
    return free


def verify_graph(root: Node, after: str) -> None:
    """Types of all nodes; then, for a program, its parameters and that every range is opened."""
    order = root.toposort()
    for node in order:
        check_rule(GRAPH, node, node.src, f"[verify] after {after}: {node!r}")
    if root.op != "program":
        return
    for node in order:
        if node.op == "param":
            check_parameter(node, root.arg[1], f"[verify] after {after}: {node!r}")
    free = free_ranges(root)
    for statement in root.src:
        missing = sorted(r.arg for r in free[statement])
        where = f"[verify] after {after}: {statement!r}"
        check(not missing, f"{where} expects a loop(range, ...) around it for the ranges {missing}")


def verify_flat(program: Program, after: str) -> None:
    """Types of all lines; loops that nest; operands defined earlier in a loop still open."""
    lines = program.instructions
    open_loops: list[int] = []
    home: list[list[int]] = []  # the loops around each line
    for i, line in enumerate(lines):
        where = f"[verify] after {after}: %{i} = {line.op} {line.dtype}"
        check(all(0 <= s < i for s in line.src), f"{where} expects earlier lines, got {line.src}")
        check_rule(FLAT, line, [lines[s] for s in line.src], where)
        closed = [f"%{s}" for s in line.src if home[s] != open_loops[: len(home[s])]]
        check(not closed, f"{where} expects values of loops still open, got {closed}")
        if line.op == "param":
            check_parameter(line, program.signature, where)
        if line.op == "end":
            check(
                open_loops[-1] == line.src[0], f"{where} expects the innermost loop, got {line.src}"
            )
            open_loops.pop()
        if line.op == "for":
            grid = line.arg[1] == "grid"
            check(not (grid and open_loops), f"{where} expects no loop around a grid loop")
            open_loops.append(i)
        home.append(list(open_loops))
    check(not open_loops, f"[verify] after {after}: loops {open_loops} have no end")
