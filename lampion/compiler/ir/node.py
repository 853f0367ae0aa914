"""The compiler's one node type, its flat programs, and the text of both.

Imports the base only. One immutable, interned node from expression to loop is tinygrad's idea
(`UOp`); here all code is typed and scalar.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import ml_dtypes
import numpy as np

from ...errors import check

# bf16 and f16 are storage only: loaded, stored, and cast from and to f32.
NUMPY: dict[str, Any] = {
    "bool": np.bool_,
    "i32": np.int32,
    "i64": np.int64,
    "f32": np.float32,
    "f64": np.float64,
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
}
INTS = {"i32", "i64"}
FLOATS = {"f32", "f64"}
STORAGE = {"bf16", "f16"}
NUMBERS = INTS | FLOATS
VALUES = NUMBERS | {"bool"}
BITS = {"i32": 32, "i64": 64, "f32": 32, "f64": 64}
# How a loop runs: spread over the device (the threads of a GPU), one by one, or as SIMD lanes.
LOOP_KINDS = ("grid", "serial", "vector")
REDUCTIONS = ("add", "mul", "max", "min")
ORDERS = ("exact", "reassoc")  # may a reduction's additions be made in another order?


class Node:
    """One typed operation on the results of others; equal nodes are the same object.

    `src` are the operands, `arg` is what no operand can say: a constant's value, a loop's kind.

    >>> x = constant(2.0, "f32")
    >>> x * x is x * x
    True
    """

    __slots__ = ("op", "dtype", "src", "arg", "__weakref__")
    op: str
    dtype: str
    src: tuple[Node, ...]
    arg: Any
    _interned: ClassVar[weakref.WeakValueDictionary] = weakref.WeakValueDictionary()

    def __new__(
        cls, op: str, dtype: str = "void", src: tuple[Node, ...] = (), arg: Any = None
    ) -> Node:
        exact = arg.hex() if type(arg) is float else arg  # -0.0 == 0.0, and nan != nan
        key = (op, dtype, src, type(arg), exact)
        node = cls._interned.get(key)
        if node is None:
            node = super().__new__(cls)
            for name, value in zip(
                ("op", "dtype", "src", "arg"), (op, dtype, src, arg), strict=True
            ):
                object.__setattr__(node, name, value)
            cls._interned[key] = node
        return node

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"[ir] nodes are immutable, got {name} = {value!r}; make a new node")

    def with_src(self, src: tuple[Node, ...]) -> Node:
        """The same operation on other operands."""
        return self if src == self.src else Node(self.op, self.dtype, src, self.arg)

    def toposort(self) -> list[Node]:
        """All nodes this one is made of, operands first, itself last."""
        order: dict[Node, None] = {}
        stack = [(self, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order[node] = None
            elif node not in order:
                stack.append((node, True))
                stack.extend((s, False) for s in reversed(node.src) if s not in order)
        return list(order)

    def __str__(self) -> str:
        return to_text(self)

    def __repr__(self) -> str:
        operands = ", ".join(f"{s.op} {s.dtype}" for s in self.src)
        return f"{self.op} {self.dtype} ({operands}){argument_text(self.arg)}"

    def _with(self, op: str, other: Node | float, dtype: str | None = None) -> Node:
        other = other if isinstance(other, Node) else constant(other, self.dtype)
        return Node(op, dtype or self.dtype, (self, other))

    def _under(self, op: str, other: float) -> Node:
        return constant(other, self.dtype)._with(op, self)

    def __add__(self, other: Node | float) -> Node:
        return self._with("add", other)

    def __sub__(self, other: Node | float) -> Node:
        return self._with("sub", other)

    def __mul__(self, other: Node | float) -> Node:
        return self._with("mul", other)

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: float) -> Node:
        return self._under("sub", other)

    def __truediv__(self, other: Node | float) -> Node:
        return self._with("div", other)

    def __rtruediv__(self, other: float) -> Node:
        return self._under("div", other)

    def __floordiv__(self, other: int) -> Node:
        return self._with("div", other)

    def __mod__(self, other: int) -> Node:
        return self._with("mod", other)

    def __neg__(self) -> Node:
        return Node("neg", self.dtype, (self,))

    def __abs__(self) -> Node:
        return Node("abs", self.dtype, (self,))

    def __and__(self, other: Node | int) -> Node:
        return self._with("and", other)

    def __or__(self, other: Node | int) -> Node:
        return self._with("or", other)

    def __xor__(self, other: Node | int) -> Node:
        return self._with("xor", other)

    def __lshift__(self, other: Node | int) -> Node:
        return self._with("shl", other)

    def __rshift__(self, other: Node | int) -> Node:
        return self._with("shr", other)

    def __lt__(self, other: Node | float) -> Node:
        return self._with("lt", other, "bool")

    def __le__(self, other: Node | float) -> Node:
        return self._with("le", other, "bool")

    def __gt__(self, other: Node | float) -> Node:
        return (other if isinstance(other, Node) else constant(other, self.dtype)) < self

    def __ge__(self, other: Node | float) -> Node:
        return (other if isinstance(other, Node) else constant(other, self.dtype)) <= self

    def equals(self, other: Node | float) -> Node:
        """The comparison as a node; `==` asks whether two nodes are the same."""
        return self._with("eq", other, "bool")

    def differs(self, other: Node | float) -> Node:
        """Not equal, as a node: true if either is nan."""
        return self._with("ne", other, "bool")

    def max(self, other: Node | float) -> Node:
        """The larger; nan if either is nan; 0.0 is above -0.0."""
        return self._with("max", other)

    def min(self, other: Node | float) -> Node:
        """The smaller; nan if either is nan; -0.0 is below 0.0."""
        return self._with("min", other)

    def unary(self, op: str) -> Node:
        """`sqrt`, `floor`, `ceil`, `trunc` or `round` (half to even)."""
        return Node(op, self.dtype, (self,))

    def cast(self, dtype: str) -> Node:
        """The value in another type."""
        return self if dtype == self.dtype else Node("cast", dtype, (self,))

    def bitcast(self, dtype: str) -> Node:
        """The same bits as another type of the same size."""
        return Node("bitcast", dtype, (self,))

    def load(self, index: Node, mask: Node | None = None, other: Node | None = None) -> Node:
        """The element at `index` of this pointer; where `mask` is false, `other`."""
        src = (self, index) if mask is None or other is None else (self, index, mask, other)
        return Node("load", self.dtype[1:], src)


def constant(value: float, dtype: str) -> Node:
    """A number or truth value: floats are rounded to the type, integers wrapped."""
    if dtype in FLOATS:
        return Node("const", dtype, (), float(NUMPY[dtype](value)))
    if dtype == "bool":
        return Node("const", dtype, (), bool(value))
    half = 1 << (BITS[dtype] - 1)
    return Node("const", dtype, (), (int(value) + half) % (2 * half) - half)


def parameter(index: int, dtype: str) -> Node:
    """The program's argument number `index`: a pointer, `*f32`, or a number, `i64`."""
    return Node("param", dtype, (), index)


def loop_range(start: Node | int, stop: Node | int, number: int, kind: str = "serial") -> Node:
    """The counter of loop `number` of a program, from `start` to `stop` - 1."""
    bounds = (b if isinstance(b, Node) else constant(b, "i64") for b in (start, stop))
    return Node("range", "i64", tuple(bounds), (number, kind))


def where(condition: Node, yes: Node, no: Node) -> Node:
    """`yes` if the condition holds, else `no`; both are computed."""
    return Node("where", yes.dtype, (condition, yes, no))


def fma(x: Node, y: Node, z: Node | float) -> Node:
    """x * y + z, rounded once."""
    return Node("fma", x.dtype, (x, y, z if isinstance(z, Node) else constant(z, x.dtype)))


def reduce(value: Node, ranges: Iterable[Node], kind: str, order: str = "exact") -> Node:
    """`add`, `mul`, `max` or `min` of a value over loops; `reassoc` lets them run as SIMD lanes."""
    return Node("reduce", value.dtype, (value, *ranges), (kind, order))


def store(pointer: Node, index: Node, value: Node, mask: Node | None = None) -> Node:
    """The statement `pointer[index] = value`, where `mask` holds."""
    return Node(
        "store", "void", (pointer, index, value) if mask is None else (pointer, index, value, mask)
    )


def loop(range_: Node, *body: Node) -> Node:
    """The statement that runs statements, in order, for each value of a range."""
    return Node("loop", "void", (range_, *body))


def program(name: str, signature: Iterable[str], *statements: Node) -> Node:
    """A whole program: its name, the types of its parameters, its statements in order."""
    return Node("program", "void", statements, (name, tuple(signature)))


class Instruction(NamedTuple):
    """A line of a flat program; `src` are the numbers of earlier lines."""

    op: str
    dtype: str
    src: tuple[int, ...] = ()
    arg: Any = None


class Program(NamedTuple):
    """Straight-line code with loops (`for` ... `end`) and accumulators, ready for a renderer."""

    name: str
    signature: tuple[str, ...]
    instructions: tuple[Instruction, ...]

    def __str__(self) -> str:
        return to_text(self)


def reduction_identity(kind: str, dtype: str) -> Node:
    """What a reduction starts from, and gives over nothing."""
    if kind in ("add", "mul"):
        return constant(kind == "mul", dtype)
    if dtype == "bool":
        return constant(kind == "min", dtype)
    largest = float("inf") if dtype in FLOATS else (1 << (BITS[dtype] - 1)) - 1
    smallest = -largest if dtype in FLOATS else -largest - 1
    return constant(smallest if kind == "max" else largest, dtype)


def argument_text(arg: Any) -> str:
    """` [...]`: an argument as JSON, which tells 1 from 1.0 and knows Infinity and NaN."""
    return "" if arg is None else f" [{json.dumps(arg)}]"


def as_tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def to_text(code: Node | Program) -> str:
    """A graph or program as text that `parse` reads back."""
    if isinstance(code, Program):
        head = "flat " + json.dumps([code.name, code.signature])
        lines: Iterable[Instruction] = code.instructions
    else:
        order = code.toposort()
        number = {node: i for i, node in enumerate(order)}
        head = "graph"
        lines = [Instruction(n.op, n.dtype, tuple(number[s] for s in n.src), n.arg) for n in order]
    text, depth = [head], 1
    for i, (op, dtype, src, arg) in enumerate(lines):
        depth -= op == "end"
        operands = "".join(f" %{s}" for s in src)
        text.append(f"{'  ' * depth}%{i} = {op} {dtype}{operands}{argument_text(arg)}")
        depth += op == "for"
    return "\n".join(text)


def parse_line(line: str, number: int) -> Instruction:
    """One line of `to_text`."""
    name, _, rest = line.strip().partition(" = ")
    head, bracket, arg = rest.partition(" [")
    words = head.split()
    well_formed = name == f"%{number}" and len(words) >= 2 and all(w[0] == "%" for w in words[2:])
    check(
        well_formed,
        f"[parse] expects line %{number} = op dtype ..., got {line.strip()!r}",
        ValueError,
    )
    src = tuple(int(w[1:]) for w in words[2:])
    check(
        all(s < number for s in src),
        f"[parse] expects operands from earlier lines, got {line.strip()!r}",
        ValueError,
    )
    value = as_tuples(json.loads(arg[: arg.rindex("]")])) if bracket else None
    return Instruction(words[0], words[1], src, value)


def parse(text: str) -> Node | Program:
    """Reads what `to_text` (and `print`) wrote; `ValueError` names the line that is wrong."""
    head, *lines = text.strip().splitlines()
    instructions = tuple(parse_line(line, i) for i, line in enumerate(lines))
    if head.startswith("flat "):
        name, signature = as_tuples(json.loads(head.removeprefix("flat ")))
        return Program(name, signature, instructions)
    check(
        head == "graph" and bool(lines),
        f"[parse] expects a first line 'graph' or 'flat [...]', got {head!r}",
        ValueError,
    )
    nodes: list[Node] = []
    for op, dtype, src, arg in instructions:
        nodes.append(Node(op, dtype, tuple(nodes[s] for s in src), arg))
    return nodes[-1]
