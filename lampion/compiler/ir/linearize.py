"""From a graph of loops, reductions and values to a flat program.

May import ir and specification. A node is one value: it is computed once, at the first statement
that needs it, in the outermost open loop that it depends on - so before the inner loops, even if
they run zero times, and a load before the stores there. Only what a store adds to, the load of the
very element that it writes, is read where the store stands. Independent reductions over one range
share a loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...errors import check
from .node import Instruction, Node, Program, reduction_identity
from .specification import free_ranges, verified


class Line:
    """An instruction whose operands are lines still without numbers."""

    __slots__ = ("op", "dtype", "src", "arg")

    def __init__(self, op: str, dtype: str, src: Sequence[Line] = (), arg: Any = None) -> None:
        self.op, self.dtype, self.src, self.arg = op, dtype, src, arg


class Scope:
    """The inside of an open loop: its lines so far, and the values that live there."""

    def __init__(self, opened: Node | None = None, start: Line | None = None) -> None:
        self.opened, self.start = opened, start
        self.lines: list[Line] = []
        self.values: dict[Node, Line] = {}
        if opened is not None and start is not None:
            self.values[opened] = start


class Linearizer:
    """Walks the statements of one program."""

    def __init__(self, root: Node) -> None:
        order = root.toposort()
        self.free = free_ranges(root)
        self.reductions = [n for n in order if n.op == "reduce"]
        written = {n.src[0] for n in order if n.op == "store"}
        self.below: dict[Node, frozenset[Node]] = {}  # the reductions that a node depends on
        self.pinned = pinned(order)
        self.volatile: set[Node] = set()  # what depends on memory that the program writes
        for n in order:
            own = {n} if n.op == "reduce" else set()
            self.below[n] = frozenset(own).union(*(self.below[s] for s in n.src))
            if (n.op == "load" and n.src[0] in written) or not self.volatile.isdisjoint(n.src):
                self.volatile.add(n)

    def run(self, statement: Node, stack: list[Scope]) -> None:
        """Emits a statement inside the open loops."""
        if statement.op == "store":
            operands = [self.emit(s, stack) for s in statement.src]
            stack[-1].lines.append(Line("store", "void", operands))
            return
        inside = self.open(statement.src[0], stack)
        for inner in statement.src[1:]:
            self.run(inner, inside)
        self.close(inside)

    def open(self, range_: Node, stack: list[Scope]) -> list[Scope]:
        """The open loops with one more in them."""
        bounds = [self.emit(bound, stack) for bound in range_.src]
        return [*stack, Scope(range_, Line("for", "i64", bounds, range_.arg))]

    def close(self, stack: list[Scope]) -> None:
        """Moves the innermost loop into the one around it."""
        *_, around, inner = stack
        assert inner.start is not None
        around.lines += [inner.start, *inner.lines, Line("end", "void", [inner.start])]

    def home(self, node: Node, stack: list[Scope]) -> list[Scope]:
        """The open loops down to the innermost that a node depends on, or that has its value."""
        if node in self.pinned:
            known = (i + 1 for i, s in enumerate(stack) if node in s.values)
            return stack[: next(known, len(stack))]
        free = self.free[node]
        return stack[: max((i + 1 for i, s in enumerate(stack) if s.opened in free), default=1)]

    def find(self, node: Node, stack: list[Scope]) -> Line | None:
        """The line of a value, if it is there."""
        return self.home(node, stack)[-1].values.get(node)

    def emit(self, root: Node, stack: list[Scope]) -> Line:
        """The line of a node's value, after those of all it needs."""
        work = [(root, False)]
        while work:
            node, ready = work.pop()
            if self.find(node, stack) is not None:
                continue
            if ready:
                self.place(node, self.home(node, stack))
            else:
                work.append((node, True))
                work.extend((need, False) for need in self.needs(node, stack))
        line = self.find(root, stack)
        assert line is not None
        return line

    def needs(self, node: Node, stack: list[Scope]) -> Iterable[Node]:
        """What must be there first, in reverse; for a reduction what its loop does not change."""
        if node.op != "reduce":
            return reversed(node.src)
        opened = {scope.opened for scope in stack}
        inside = node.src[0].toposort()
        return [n for n in reversed(inside) if self.free[n] <= opened - set(node.src[1:])]

    def place(self, node: Node, stack: list[Scope]) -> None:
        """Emits a node whose operands are there."""
        check(node.op != "range", lambda: f"[linearize] expects a loop around a use of {node!r}")
        if node.op == "reduce":
            self.reduce(node, stack)
            return
        operands = [self.emit(s, stack) for s in node.src]
        line = Line(node.op, node.dtype, operands, node.arg)
        stack[-1].lines.append(line)
        stack[-1].values[node] = line

    def siblings(self, node: Node, stack: list[Scope]) -> list[Node]:
        """The reductions, `node` first, that one loop can make at once."""
        group = [node]
        for other in self.reductions:
            alike = other.src[1:] == node.src[1:] and self.free[other] == self.free[node]
            if not alike or other is node or other in self.volatile or self.find(other, stack):
                continue
            if all(other not in self.below[g] and g not in self.below[other] for g in group):
                group.append(other)
        return group

    def reduce(self, node: Node, stack: list[Scope]) -> None:
        """Emits the loop of a reduction and of its siblings."""
        group = self.siblings(node, stack)
        for other in group[1:]:
            for need in reversed(list(self.needs(other, stack))):
                self.emit(need, stack)
        accumulators = []
        for each in group:
            first = self.emit_constant(reduction_identity(each.arg[0], each.dtype), stack)
            accumulators.append(Line("accumulator", each.dtype, [first], each.arg))
        inside = stack
        for range_ in node.src[1:]:
            inside = self.open(range_, inside)
        stack[-1].lines += accumulators
        for each, accumulator in zip(group, accumulators, strict=True):
            update = [accumulator, self.emit(each.src[0], inside)]
            inside[-1].lines.append(Line("update", "void", update))
        while len(inside) > len(stack):
            self.close(inside)
            inside = inside[:-1]
        for each, accumulator in zip(group, accumulators, strict=True):
            stack[-1].values[each] = Line("read", each.dtype, [accumulator])
            stack[-1].lines.append(stack[-1].values[each])

    def emit_constant(self, node: Node, stack: list[Scope]) -> Line:
        """A constant that may be new to the graph."""
        self.free.setdefault(node, frozenset())
        return self.emit(node, stack)


def pinned(nodes: Iterable[Node]) -> set[Node]:
    """Loads of elements that are written by what they are part of, and what lies between."""
    found: set[Node] = set()
    for statement in nodes:
        if statement.op != "store":
            continue
        pointer, index, value = statement.src[:3]
        inside: set[Node] = set()
        for node in value.toposort():
            own = node.op == "load" and node.src[0] is pointer and node.src[1] is index
            if own or (node.op != "reduce" and not inside.isdisjoint(node.src)):
                inside.add(node)
        found |= inside
    return found


def linearize(root: Node) -> Program:
    """The flat program of a `program` node; verified under `config.flags.check`.

    >>> from .node import constant, loop, loop_range, parameter, program, store
    >>> i = loop_range(0, 4, 0)
    >>> x, y = parameter(0, "*f32"), parameter(1, "*f32")
    >>> print(linearize(program("double", ["*f32", "*f32"], loop(i, store(y, i, x.load(i) * 2.0)))))
    flat ["double", ["*f32", "*f32"]]
      %0 = const i64 [0]
      %1 = const i64 [4]
      %2 = param *f32 [1]
      %3 = param *f32 [0]
      %4 = const f32 [2.0]
      %5 = for i64 %0 %1 [[0, "serial"]]
        %6 = load f32 %3 %5
        %7 = mul f32 %6 %4
        %8 = store void %2 %5 %7
      %9 = end void %5
    """
    verified(root, "the graph's passes")
    outermost = Scope()
    linearizer = Linearizer(root)
    for statement in root.src:
        linearizer.run(statement, [outermost])
    number = {id(line): i for i, line in enumerate(outermost.lines)}
    lines = (
        Instruction(line.op, line.dtype, tuple(number[id(s)] for s in line.src), line.arg)
        for line in outermost.lines
    )
    return verified(Program(root.arg[0], root.arg[1], tuple(lines)), "linearize")
