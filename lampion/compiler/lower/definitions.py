"""A graph as definitions: how each value is made, whatever operators it came from. May import the
other lower_ files but loops.

Aliases are seen through, maps may be computed wherever they are read, reductions and calls make
memory. Here stands also where a view lies in the memory of what it is a view of.
"""

from __future__ import annotations

from collections import Counter as Counts
from math import prod
from typing import NamedTuple

from ...core.op import OPS
from ..ir.formula import Unsupported
from ..ir.node import Node, constant, loop_range
from ..trace.graph import Graph, Input, Step, Value, contiguous_strides
from .index import Counter, Index, count, exact_digits
from .maps import definitions
from .reduce import Reduction, reduction, split
from .scalar import IR_TYPES, value_type
from .values import Alias, Map, Reader


class Call(NamedTuple):
    """A step that reads and writes memory as a whole: a template's, or the host's."""

    step: Step


Definition = Alias | Map | Reduction | Call
CONTIGUOUS = {
    "convolution", "convolution_input", "convolution_weight", "max_pool", "max_pool_winners",
    "max_pool_put", "avg_pool", "avg_pool_spread",
}  # fmt: skip  # their templates read no gaps
CHEAP = 6  # instructions that are worth less than a value's way to memory and back


class Place(NamedTuple):
    """A value in the memory of another: element at offset + sum(position * stride)."""

    root: Value
    offset: int
    strides: tuple[int, ...]


class Definitions:
    """How the values of a graph are made, in order; what must be in memory in the end.

    origin  the operator and the source line that a value comes from
    copies  of values that have no regular place in memory: later views are views of those
    steps   the steps that make memory as a whole, by their first result
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made: dict[Value, Definition] = {}
        self.origin: dict[Value, str] = {}
        self.inputs: dict[Value, Input] = {i.value: i for i in graph.inputs}
        self.copies: dict[Value, Value] = {}
        self.depth: dict[Value, tuple[int, frozenset[Value]]] = {}
        self.uses = Counts(v for step in graph.steps for v in step.inputs if v is not None)
        self.uses.update(graph.results())
        for step in graph.steps:
            self.add(step)
        calls = [how.step for how in self.made.values() if isinstance(how, Call)]
        read = [v for step in calls for v in step.inputs if v is not None]
        self.kept = {self.root(v) for v in (*read, *graph.results())}  # in memory anyway

    def add(self, step: Step) -> None:
        """Defines the results of a step."""
        found: list = list(definitions(step) or [reduction(step)])
        if isinstance(found[0], Alias):
            found = [f._replace(base=self.copies.get(f.base, f.base)) for f in found]
        if isinstance(found[0], Alias) and not self.is_regular(step, found):
            found = [None]
        if found[0] is None:
            whole = step.op.name in CONTIGUOUS
            inputs = tuple(None if v is None else self.in_memory(v, whole) for v in step.inputs)
            found = [Call(step._replace(inputs=inputs))] * len(step.outputs)
        for value, how in zip(step.outputs, found, strict=True):
            self.origin[value] = step.op.name
            parts = split(how, value) if isinstance(how, Reduction) else None
            if parts is not None:
                partial, inner, how = parts
                self.origin[partial] = step.op.name
                self.made[partial] = inner
            self.made[value] = how

    def is_regular(self, step: Step, found: list[Alias]) -> bool:
        """Whether views can be read: elements of types that the IR has not are never moved by it,
        so those need strides.
        """
        if step.outputs[0].dtype in IR_TYPES:
            return True
        self.made.update(zip(step.outputs, found, strict=True))
        return all(self.place(v) is not None for v in step.outputs)

    def in_memory(self, value: Value, whole: bool = False) -> Value:
        """The value, or a copy of it where it has no regular place in memory; with `whole`, where
        it does not lie there row by row.
        """
        place = self.place(value)
        if place is not None and (not whole or place.strides == contiguous_strides(value.shape)):
            return value
        if value not in self.copies:
            copy = Value(value.shape, value.dtype, f"{value.name}_copy{len(self.made)}")
            self.copies[value] = self.copied(value, copy)
        return self.copies[value]

    def copied(self, value: Value, copy: Value) -> Value:
        """Defines a copy."""
        self.origin[copy] = "copy"
        if value.dtype not in IR_TYPES:
            params = {"order": tuple(range(len(value.shape)))}
            self.made[copy] = Call(Step(OPS["clone"], (value,), params, (copy,)))
            return copy

        def element(reader: Reader, index: Index) -> Node:
            return reader.read(value, index)

        self.made[copy] = Map(element, CHEAP + 1, lambda index: [(value, index)])
        return copy

    def place(self, value: Value) -> Place | None:
        """Where a value lies in the memory of its root; None if its strides are not regular."""
        counters = [
            Counter(loop_range(0, n, 900 + d), n) if n > 1 else None
            for d, n in enumerate(value.shape)
        ]
        if prod(value.shape) == 0:
            return Place(self.root(value), 0, contiguous_strides(value.shape))
        index = Index(
            tuple(
                (c, s)
                for c, s in zip(counters, contiguous_strides(value.shape), strict=True)
                if c is not None
            )
        )
        how = self.made.get(value)
        while isinstance(how, Alias):
            if how.strides == contiguous_strides(value.shape):
                index = index.shifted(how.offset)
            else:
                positions = alias_positions(index, value.shape)
                if positions is None:
                    return None
                index = count(positions, how.strides, how.offset)
            value = how.base
            how = self.made.get(value)
        factors = dict(index.terms)
        plain = contiguous_strides(tuple(1 if c is None else c.size for c in counters))
        strides = tuple(
            own if c is None else factors.pop(c, 0) for c, own in zip(counters, plain, strict=True)
        )
        return None if factors else Place(value, index.constant, strides)

    def root(self, value: Value) -> Value:
        """What a view is a view of, at last."""
        how = self.made.get(value)
        while isinstance(how, Alias):
            value = how.base
            how = self.made.get(value)
        return value

    def constant(self, value: Value) -> Node | None:
        """The number that a constant of one element is."""
        item = self.inputs.get(value)
        if item is None or item.data is None or item.data.size != 1:
            return None
        try:
            kind = value_type(value.dtype)
        except Unsupported:
            return None
        return constant(item.data.reshape(-1)[0].item(), kind)

    # -- recomputed or kept ------------------------------------------------------------------

    def is_inline(self, value: Value) -> bool:
        """Whether the value is computed wherever it is read: it costs less than memory."""
        if not isinstance(self.made.get(value), Map):
            return self.constant(value) is not None
        cost, leaves = self.weight(value)
        large = [v for v in leaves if v.size * 4 >= value.size]
        if cost and value in self.kept:
            return False
        once = self.uses[value] == 1  # then it costs a write and a read to keep it
        return cost == 0 or (cost <= CHEAP and len(large) <= 1 + once)

    def weight(self, value: Value) -> tuple[int, frozenset[Value]]:
        """What an element costs if it is computed anew, and the memory it is computed from."""
        found = self.depth.get(value)
        if found is None:
            found = self.depth[value] = self.find_weight(value)
        return found

    def find_weight(self, value: Value) -> tuple[int, frozenset[Value]]:
        how = self.made.get(value)
        if isinstance(how, Alias):
            return self.weight(how.base) if self.is_inline(how.base) else (0, frozenset([how.base]))
        if not isinstance(how, Map):
            return 0, frozenset() if self.constant(value) is not None else frozenset([value])
        cost, leaves = how.cost, frozenset[Value]()
        for source, _ in reads_of(how, canonical(value)):
            source = self.root(source)
            if self.is_inline(source):
                inner, below = self.weight(source)
                cost, leaves = cost + inner, leaves | below
            else:
                leaves |= {source}
        return cost, leaves


def alias_positions(index: Index, shape: tuple[int, ...]) -> list[Index] | None:
    """The digits of an index with positive coefficients if they are exact, else None."""
    if any(f < 0 for _, f in index.terms):
        return None
    return exact_digits(index, shape)


def canonical(value: Value) -> Index:
    """The index of the element that a loop over a whole value is at."""
    if value.size <= 1:
        return Index()
    return Index(((Counter(loop_range(0, value.size, 800), value.size), 1),))


class Probe:
    """A reader that notes what is read and at which index, without making code."""

    def __init__(self) -> None:
        self.reads: list[tuple[Value, Index]] = []

    def read(self, value: Value, index: Index) -> Node:
        """Notes it; the node stands for the element."""
        self.reads.append((value, index))
        return Node("param", value_type(value.dtype), (), len(self.reads))

    def node(self, index: Index) -> Node:
        """A node that stands for the index, different for different ones."""
        return Node("param", "i64", (), hash(index) & 0xFFFFFFF)

    def under(self, mask: Node) -> Reader:
        """Masks change nothing in what is read."""
        return self


def reads_of(how: Map, index: Index) -> list[tuple[Value, Index]]:
    """What a map reads for the element at an index."""
    if how.reads is not None:
        return how.reads(index)
    probe = Probe()
    how.element(probe, index)
    return probe.reads
