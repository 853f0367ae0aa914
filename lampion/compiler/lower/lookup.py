"""Products with looked up rows of a table: of the table's own rows instead, where they are fewer.
May import graph and core.

An embedding gives rows of a table, and a linear layer treats each row by itself, so its results for
the table's rows can be looked up as well: `E[i] @ W.T = (E @ W.T)[i]`. The gradients commute alike:
those of equal rows are added up first, then multiplied once. For 2048 tokens of 256 kinds that is
an eighth of the arithmetic. Rows that nobody looks up count as zeros, whatever is in them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...core.op import OPS
from ...dtypes import FROM_NUMPY
from ..trace.graph import Graph, Step, Value

FEWER = 2  # how many rows are looked up, at least, for each row of the table


class Lookup(NamedTuple):
    """A value that is `table[rows]`."""

    table: Value
    rows: Value


class Commuting:
    """One graph being rewritten; what its products no longer need is dropped by `clean`."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made = {v: step for step in graph.steps for v in step.outputs}
        self.found: dict[Value, Lookup] = {}
        self.steps: list[Step] = []
        self.count = 0

    def run(self) -> Graph:
        """The rewritten graph."""
        for step in self.graph.steps:
            rule = RULES.get(step.op.name)
            if rule is None or not rule(self, step):
                self.steps.append(step)
        g = self.graph
        return Graph(g.inputs, self.steps, g.outputs, g.writes, g.name)

    def add(
        self, name: str, like: Value, shape: tuple[int, ...], /, *inputs: Value | None,
        **params: Any,
    ) -> Value:  # fmt: skip
        """A new step of one result, of that type and shape."""
        self.count += 1
        made = Value(shape, like.dtype, f"{like.name}_lookup{self.count}")
        self.steps.append(Step(OPS[name], inputs, params, (made,)))
        return made

    def turned(self, value: Value, dim0: int = 0, dim1: int = 1) -> Value:
        """Two dimensions exchanged."""
        shape = list(value.shape)
        shape[dim0], shape[dim1] = shape[dim1], shape[dim0]
        return self.add("transpose", value, tuple(shape), value, dim0=dim0, dim1=dim1)

    def reshaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        """The elements in another shape."""
        if value.shape == shape:
            return value
        value = self.add("clone", value, value.shape, value, order=None)
        return self.add("view", value, shape, value, shape=shape)

    def summed(self, g: Value, index: Value, rows: int, padding: int | None) -> Value:
        """The sums of the rows of g that have the same index."""
        g = self.plain(g)
        options = {"rows": rows, "padding_idx": padding, "by_frequency": False}
        return self.add("embedding_gradient", g, (rows, g.shape[-1]), g, index, **options)

    def filled(self, like: Value, shape: tuple[int, ...], number: float) -> Value:
        """One number, everywhere."""
        dtype = FROM_NUMPY[like.dtype]
        return self.add("full", like, shape, shape=shape, value=number, dtype=dtype, order=None)

    def used_rows(self, table: Value, index: Value) -> Value:
        """The table with zeros in the rows that nobody looks up: inf there would make nan."""
        counts = self.summed(
            self.filled(table, (index.size, 1), 1.0), index, table.shape[0], None
        )  # (rows, 1)
        zero = self.filled(table, (), 0.0)
        truth = Value((), np.dtype(bool), counts.name)
        used = self.add("ne", truth, counts.shape, counts, zero)
        return self.add("where", table, table.shape, used, table, zero)

    def plain(self, value: Value) -> Value:
        """The value that a view of the same shape shows."""
        step = self.made.get(value)
        while step is not None and step.op.name == "view" and step.inputs[0].shape == value.shape:  # type: ignore[union-attr]
            value = step.inputs[0]  # type: ignore[assignment]
            step = self.made.get(value)
        return value

    # -- rules: whether a step was replaced --------------------------------------------------

    def embedding(self, step: Step) -> bool:
        """Notes what is looked up."""
        table, index = step.inputs
        assert table is not None and index is not None
        if self.worthwhile(table, index) and len(table.shape) == 2:
            self.found[step.outputs[0]] = Lookup(table, index)
        return False

    def worthwhile(self, table: Value, index: Value) -> bool:
        """Whether many rows of a table of floating-point numbers are looked up."""
        return table.dtype.kind == "f" and index.size >= FEWER * table.shape[0]

    def move(self, step: Step) -> bool:
        """Notes what a view of looked up rows shows."""
        (source,) = step.inputs
        if source in self.found:
            table, rows = self.found[source]
            moved = self.moved(step, rows, step.outputs[0].shape)
            if moved is not None:
                self.found[step.outputs[0]] = Lookup(table, moved)
        return False

    def moved(self, step: Step, index: Value, shape: tuple[int, ...]) -> Value | None:
        """The index after its rows were moved to that shape; None where rows are cut."""
        (source,) = step.inputs
        out = step.outputs[0]
        assert source is not None
        if not out.shape or out.shape[-1:] != source.shape[-1:]:
            return None
        if step.op.name != "transpose":
            return self.reshaped(index, shape[:-1])
        dims = [d % len(out.shape) for d in (step.params["dim0"], step.params["dim1"])]
        if len(out.shape) - 1 in dims:
            return None
        return self.turned(index, *sorted(dims))

    def linear(self, step: Step) -> bool:
        """linear(table[index]) is linear(table)[index]."""
        x, weight, bias = step.inputs
        assert weight is not None
        if x not in self.found:
            return False
        table, index = self.found[x]
        shape = table.shape[0], weight.shape[0]
        small = self.add("linear", step.outputs[0], shape, table, weight, bias)
        params = {"padding_idx": None, "by_frequency": False}
        self.steps.append(Step(OPS["embedding"], (small, index), params, step.outputs, step.line))
        return True

    def product(self, step: Step) -> bool:
        """g.T @ table[index] is (sums of g's rows by index).T @ table."""
        a, x = step.inputs
        source = self.made.get(a) if a is not None else None
        if x not in self.found or source is None or source.op.name != "transpose":
            return False
        g = source.inputs[0]
        table, index = self.found[x]
        if g is None or len(g.shape) != 2 or len(index.shape) != 1:
            return False
        sums = self.turned(self.summed(g, index, table.shape[0], None))
        rows = self.used_rows(table, index)
        self.steps.append(Step(step.op, (sums, rows), step.params, step.outputs, step.line))
        return True

    def gradient(self, step: Step) -> bool:
        """The sums of the rows of g @ w by index are (those of g) @ w."""
        value, index = step.inputs
        assert value is not None and index is not None
        rows, padding = step.params["rows"], step.params["padding_idx"]
        if step.params["by_frequency"] or index.size < FEWER * rows:
            return False
        source = self.made.get(value)
        while source is not None and source.op.name in ("transpose", "view", "clone"):
            before = source.inputs[0]
            assert before is not None
            moved = self.moved(source, index, before.shape)
            if moved is None:
                return False
            value, index, source = before, moved, self.made.get(before)
        if source is None or source.op.name != "mm" or len(index.shape) != 1:
            return False
        g, w = source.inputs
        assert g is not None
        sums = self.summed(g, index, rows, padding)
        self.steps.append(Step(source.op, (sums, w), source.params, step.outputs, step.line))
        return True


RULES = {
    "embedding": Commuting.embedding,
    **dict.fromkeys(("transpose", "view", "clone"), Commuting.move),
    "linear": Commuting.linear,
    "mm": Commuting.product,
    "embedding_gradient": Commuting.gradient,
}


def lookup(graph: Graph) -> Graph:
    """The graph with products of tables instead of looked up rows, where that is less work."""
    return Commuting(graph).run()
