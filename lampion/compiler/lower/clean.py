"""Equal steps once, unused ones not at all. May import graph and bounds."""

from __future__ import annotations

from typing import Any

from ..trace.graph import Graph, Step, Value
from .bounds import CHECK


def key_of(step: Step, known: dict[Value, Value]) -> Any:
    """What tells steps with different results apart; draws of random numbers are all different."""
    if step.op.random:
        return step.outputs
    inputs = tuple(None if v is None else known.get(v, v) for v in step.inputs)
    dtypes = tuple(v.dtype for v in step.outputs)
    return step.op.name, inputs, repr(step.params), dtypes


def merged(graph: Graph) -> Graph:
    """The graph without steps that another one has done before."""
    known: dict[Value, Value] = {}
    done: dict[Any, Step] = {}
    kept: list[Step] = []
    results = set(graph.results())
    for step in graph.steps:
        key = key_of(step, known)
        before = done.get(key)
        if before is not None and results.isdisjoint(step.outputs):
            known.update(zip(step.outputs, before.outputs, strict=True))
            continue
        inputs = tuple(None if v is None else known.get(v, v) for v in step.inputs)
        step = step._replace(inputs=inputs)
        done.setdefault(key, step)
        kept.append(step)
    return Graph(graph.inputs, kept, graph.outputs, graph.writes, graph.name)


def clean(graph: Graph) -> Graph:
    """The graph with equal steps merged and those without use dropped, but for checks and draws
    of random numbers: the ones after them depend on how many there were.
    """
    graph = merged(graph)
    needed = set(graph.results())
    kept: list[Step] = []
    for step in reversed(graph.steps):
        stays = step.op is CHECK or step.op.random
        if stays or not needed.isdisjoint(step.outputs):
            kept.append(step)
            needed.update(v for v in step.inputs if v is not None)
    steps = kept[::-1]
    return Graph(graph.inputs, steps, graph.outputs, graph.writes, graph.name)
