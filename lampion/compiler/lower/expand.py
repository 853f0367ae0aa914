"""Replaces operators by simpler ones where they have a reference. May import graph, references,
arena and core.

A reference is run once on zeros of the right shapes while an observer writes down its operators;
what was recorded for a signature is used again for all steps like it. All zeros, and whatever the
reference makes of them, lie in the same memory: nobody reads the numbers.
"""

from __future__ import annotations

from math import prod
from typing import Any

from numpy import ndarray

from ...core.graph import STATE
from ...core.op import OPS, Op
from ...core.tensor import Tensor, wrap
from ...dtypes import FROM_NUMPY
from ..native.arena import Arena
from ..trace.graph import Graph, Step, Value
from .references import REFERENCES


class Zeros:
    """Arrays of zeros in one memory, whose pages are not there until somebody writes to them."""

    def __init__(self) -> None:
        self.arena = Arena(0)

    def like(self, x: Value | ndarray) -> ndarray:
        """Zeros of a shape and type, row by row."""
        size = prod(x.shape) * x.dtype.itemsize
        if size > self.arena.size:
            self.arena = Arena(size)
        return self.arena.view(0, x.shape, x.dtype)


class Recorder:
    """An observer that writes operators down as steps on values."""

    def __init__(self, inputs: list[Tensor | None], values: list[Value | None]) -> None:
        self.kept: list[Any] = list(inputs)
        self.values = {
            id(t): v for t, v in zip(inputs, values, strict=True) if t is not None and v is not None
        }
        self.steps: list[Step] = []

    def __call__(self, op: Op, inputs: tuple, params: dict, outs: Any) -> None:
        """An operator ran."""
        given = tuple(None if t is None else self.value(t) for t in inputs)
        made = outs if isinstance(outs, tuple) else (outs,)
        self.kept.extend(made)
        values = tuple(self.new(t) for t in made)
        self.steps.append(Step(op, given, params, values))

    def new(self, t: Tensor) -> Value:
        """A value for a tensor that was made."""
        value = Value(t._data.shape, t._data.dtype, f"r{len(self.values)}")
        self.values[id(t)] = value
        return value

    def value(self, t: Tensor) -> Value:
        """The value of a tensor; a number that Python brought in is filled in."""
        found = self.values.get(id(t))
        if found is None:
            self.kept.append(t)
            found = self.new(t)
            number, dtype = t._data.reshape(-1)[0].item(), FROM_NUMPY[t._data.dtype]
            params = {"shape": t._data.shape, "value": number, "dtype": dtype, "order": None}
            self.steps.append(Step(OPS["full"], (), params, (found,)))
        return found

    def wrote(self, target: Tensor, result: Tensor) -> None:
        """References write nothing in place."""
        raise RuntimeError("[expand] a reference writes in place; use the out-of-place form")


class Rehearsal(Recorder):
    """A recorder that replaces results by zeros."""

    def __init__(
        self, inputs: list[Tensor | None], values: list[Value | None], zeros: Zeros
    ) -> None:
        super().__init__(inputs, values)
        self.zeros = zeros

    def __call__(self, op: Op, inputs: tuple, params: dict, outs: Any) -> None:
        super().__call__(op, inputs, params, outs)
        for t in outs if isinstance(outs, tuple) else (outs,):
            if not op.view and t._data.flags.c_contiguous:
                t._data = self.zeros.like(t._data)


Recording = tuple[list[Value | None], list[Step], list[Value]]  # inputs, steps, outputs


def record(step: Step, zeros: Zeros) -> Recording | None:
    """The steps of an operator's reference; None where the reference declines."""
    inputs = [None if v is None else wrap(zeros.like(v)) for v in step.inputs]
    values = [
        None if v is None else Value(v.shape, v.dtype, f"x{i}") for i, v in enumerate(step.inputs)
    ]
    recorder = Rehearsal(inputs, values, zeros)
    with STATE.set(grad=False, observers=(recorder,), autocast=None, interpreters=()):
        made = REFERENCES[step.op.name](*inputs, **step.params)
    if made is None:
        return None
    outs = made if isinstance(made, tuple) else (made,)
    return values, recorder.steps, [recorder.value(t) for t in outs]


class Expansion:
    """One graph's expansion; equal steps share a recording."""

    def __init__(self) -> None:
        self.recordings: dict[Any, Recording | None] = {}
        self.steps: list[Step] = []
        self.zeros = Zeros()

    def run(self, step: Step) -> None:
        """Adds a step, or what it is made of."""
        complex_ = any(v is not None and v.dtype.kind == "c" for v in step.inputs)
        if step.op.name not in REFERENCES or complex_:
            self.steps.append(step)
            return
        layouts = tuple(None if v is None else (v.shape, v.dtype) for v in step.inputs)
        key = step.op.name, layouts, repr(step.params)
        if key not in self.recordings:
            self.recordings[key] = record(step, self.zeros)
        found = self.recordings[key]
        if found is None:
            self.steps.append(step)
        else:
            self.copy(step, found)

    def copy(self, step: Step, recording: Recording) -> None:
        """The recorded steps between a step's inputs and outputs."""
        inputs, steps, outputs = recording
        new: dict[Value | None, Value | None] = {None: None}
        new.update(zip(inputs, step.inputs, strict=True))
        for mine, value in zip(outputs, step.outputs, strict=True):
            new.setdefault(mine, value)  # an output that is an input is copied at the end
        for each in steps:
            for value in each.outputs:
                if value not in new:
                    name = f"{step.outputs[0].name}_{value.name}"
                    new[value] = Value(value.shape, value.dtype, name)
            made = tuple(new[v] for v in each.outputs)
            taken = tuple(new[v] for v in each.inputs)
            inner = Step(each.op, taken, each.params, made, step.line)  # type: ignore[arg-type]
            self.run(inner)
        for mine, value in zip(outputs, step.outputs, strict=True):
            if new[mine] is not value:
                self.steps.append(Step(OPS["clone"], (new[mine],), {"order": None}, (value,)))


def expand(graph: Graph) -> Graph:
    """The graph with every operator that has a reference replaced."""
    expansion = Expansion()
    for step in graph.steps:
        expansion.run(step)
    return Graph(graph.inputs, expansion.steps, graph.outputs, graph.writes, graph.name)
