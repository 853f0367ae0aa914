"""The backward of a program's results: a node of the tape, and the program that it runs. Imports
gate, again and captured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ...core.dispatch import edge
from ...core.graph import DIRECT, FREED, STATE, Node, modified
from ...core.memory import tick
from ...core.tensor import Tensor, wrap
from ..native.stages import CheckFailed
from ..program import program as native
from ..trace.captured import Backward, Captured
from ..trace.execute import Executable
from ..trace.graph import Graph, Value
from ..trace.tracer import Source
from .again import Again
from .gate import Gate, Given, can_pass

Build = Callable[[Graph], Executable]


class Compiled(Node):
    """The node behind the results of a compiled forward. `saved` are the tensors that the backward
    needs, and the arguments.
    """

    params: dict = {}
    title = "CompiledFunctionBackward"

    def __init__(self, program: BackwardProgram | None, count: int) -> None:
        self.program = program
        self.edges: tuple = ()
        self.saved: tuple | None = ()
        self.seq = tick()
        self.shape, self.dtype = count, None  # type: ignore[assignment]

    @property
    def targets(self) -> tuple[int, ...]:
        return tuple(range(len(self.edges)))

    def name(self) -> str:
        return self.title

    def gradients(self, g: Any) -> Any:
        """One gradient (or None) for each edge."""
        if self.saved is None or self.program is None:
            raise RuntimeError(FREED)
        tensors, leaves = self.saved
        program = self.program
        for source in program.again.sources if STATE.grad else program.sources:
            t = leaves[source.place] if source.kind == "argument" else source.tensor
            if t is not None and t._storage is not None and t._storage.written > self.seq:
                raise RuntimeError(modified(self, t._data, t._storage))
        if STATE.grad:
            return program.again.gradients(g, leaves, self.edges)
        return program.run(g, tensors)


def spent_node(value: Value) -> Node:
    """What is left behind a result whose backward ran inside the call."""
    node = Compiled(None, 1)
    node.saved, node.shape, node.dtype = None, value.shape, value.dtype
    return node


class BackwardProgram:
    """The gradients of a program's results.

    kept    what is saved, in order: memory that the program was traced with, or None for
    filled  (its place, the number of an output, or the source of another input)
    """

    def __init__(self, captured: Captured, backward: Backward, build: Build) -> None:
        self.backward, self.again = backward, Again(captured)
        self.executable = build(backward.graph)
        self.sources = [captured.sources[i] for kind, i in backward.saved if kind == "input"]
        self.kept: list[Tensor | None] = []
        self.filled: list[tuple[int, int, Source | None]] = []
        for place, (kind, i) in enumerate(backward.saved):
            source = captured.sources[i] if kind == "input" else None
            lasting = source is not None and source.kind == "state"
            self.kept.append(wrap(source.array) if lasting else None)  # type: ignore[union-attr]
            if not lasting:
                self.filled.append((place, i, source))
        self.constants = [i.data for i in backward.graph.inputs if i.data is not None]
        self.gate: Gate | None = None

    def node(
        self,
        leaves: Sequence[Tensor],
        outputs: list[Tensor],
        array_of: Callable[[Source, Sequence[Tensor]], ndarray],
    ) -> Node:
        """The node for one call: holds what the backward needs."""
        backward = self.backward
        node = Compiled(self, len(backward.roots))
        node.edges = tuple([edge(leaves[e]) if isinstance(e, int) else e for e in backward.edges])
        tensors = self.kept.copy()
        for place, i, source in self.filled:
            tensors[place] = outputs[i] if source is None else wrap(array_of(source, leaves))
        node.saved = tensors, leaves
        return node

    def run(self, cotangents: list, saved: list[Tensor]) -> list[Tensor | None]:
        """Gradients for the edges."""
        given = [
            wrap(np.zeros(shape, dtype)) if g is None else ready(g, dtype)
            for g, (shape, dtype) in zip(cotangents, self.backward.roots)
        ]
        made = self.pass_gate([*given, *saved])
        if made is None:
            arrays = [t._data for t in (*given, *saved)]
            try:
                made = [wrap(x) for x in self.executable.run([*arrays, *self.constants])]
            except CheckFailed as error:
                raise error.__cause__ or error from None
        return [None if i is None else made[i] for i in self.backward.given]

    def pass_gate(self, tensors: list[Tensor]) -> Sequence[Tensor] | None:
        """The outputs by the short way; None where there is none, or it is taken."""
        executable = self.executable
        if self.gate is None:
            if not isinstance(executable, native.Program) or not can_pass(executable):
                return None
            arguments = [Given(i) for i in range(len(tensors))]
            self.gate = Gate(executable, [None] * len(executable.used), arguments, mode=DIRECT)
        return self.gate.call(*tensors)


def ready(g: Tensor, dtype: np.dtype) -> Tensor:
    """A cotangent as the program reads it."""
    data = g._data
    if data.dtype is dtype and data.flags.c_contiguous:
        return g
    return wrap(np.ascontiguousarray(data, dtype).reshape(data.shape))
