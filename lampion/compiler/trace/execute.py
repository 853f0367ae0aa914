"""The definition of what a graph means: its steps, one after the other, by the operators' kernels.

Imports graph and core. The native program of `program` must agree with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from ...core.memory import strides_of
from .graph import Graph, Value


class Executable(Protocol):
    """A graph that can be run."""

    def run(self, inputs: Sequence[ndarray]) -> list[ndarray]:
        """Fresh arrays for the graph's outputs; what it writes is written into its inputs."""


class Interpreter:
    """Runs a graph step by step.

    >>> Interpreter(graph).run([x])  # doctest: +SKIP
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        uses: dict[Value, int] = {v: i for i, s in enumerate(graph.steps) for v in s.inputs if v}
        results = set(graph.results())
        made = {v for step in graph.steps for v in step.outputs}
        last: dict[int, list[Value]] = {}
        for value in made - results:
            last.setdefault(uses.get(value, -1), []).append(value)
        self.done = last  # by the number of a step: the values that nobody uses after it

    def run(self, inputs: Sequence[ndarray]) -> list[ndarray]:
        """See Executable."""
        graph = self.graph
        values: dict[Value | None, Any] = {None: None}
        for item, array in zip(graph.inputs, inputs, strict=True):
            values[item.value] = item.data if item.role == "constant" else array
        for number, step in enumerate(graph.steps):
            found = step.op.kernel(*[values[v] for v in step.inputs], **step.params)
            found = found if found.__class__ is tuple else (found,)
            values.update(zip(step.outputs, map(np.asarray, found)))  # sums may be bare numbers
            for value in self.done.get(number, ()):
                del values[value]
        owned = [np.array(values[v], order="K") for _, v in graph.writes]
        outputs = [laid_out(np.array(values[v], order="K"), v) for v in graph.outputs]
        for (target, _), array in zip(graph.writes, owned):
            np.copyto(values[target], array)
        return outputs


def laid_out(array: Any, value: Value) -> ndarray:
    """A copy of an array with the strides that the traced value had, if it has others."""
    if strides_of(array) == value.strides:
        return array
    made = empty_like(value)
    np.copyto(made, array)
    return made


def empty_like(value: Value) -> ndarray:
    """Memory for a value, with its strides where they leave no gaps; else row by row."""
    order = sorted(range(len(value.shape)), key=lambda d: -value.strides[d])
    made = np.empty([value.shape[d] for d in order], value.dtype)
    return made.transpose(np.argsort(order)) if order else made
