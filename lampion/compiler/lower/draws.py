"""Random numbers as stages of the program. May import definitions, kernels, draws and core."""

from __future__ import annotations

from collections.abc import Callable

from ...core.op import OPS
from ...layout import inverse
from ...random import Generator, default_generator
from ..kernels.draws import NUMBERS, draw_call
from ..trace.graph import Graph, Step, Value
from .definitions import Definitions
from .kernels import Buffer, Kernel, Library


def straightened(graph: Graph) -> Graph:
    """The graph with numbers drawn in the order of their memory, and then transposed."""
    steps: list[Step] = []
    for step in graph.steps:
        order = step.params.get("order") if step.op.name in NUMBERS else None
        if order is None or order == tuple(range(len(order))):
            steps.append(step)
            continue
        (out,) = step.outputs
        shape = tuple([out.shape[d] for d in order])
        inside = Value(shape, out.dtype, f"{out.name}_drawn")
        params = {**step.params, "shape": shape, "order": None}
        steps.append(step._replace(params=params, outputs=(inside,)))
        steps.append(Step(OPS["permute"], (inside,), {"dims": inverse(order)}, (out,), step.line))
    return Graph(graph.inputs, steps, graph.outputs, graph.writes, graph.name)


def generator_of(step: Step) -> Generator:
    """The generator that a step takes numbers from."""
    return step.params.get("generator") or default_generator


def drawn(
    program: Definitions, step: Step, buffer: Callable[[Value], Buffer]
) -> list[Kernel] | None:
    """The kernel of a draw; None for types that it does not cover."""
    (out,), params, generator = step.outputs, dict(step.params), generator_of(step)
    for name in ("shape", "dtype", "generator", "order"):
        del params[name]
    if not out.size:
        return None
    call = draw_call(step.op.name, generator, out.size, out.dtype, params)
    if call is None:
        return None
    made = (buffer(out),)
    return [
        Kernel(step.op.name, (step.op.name,), (), made, Library((call,), made), draws=generator)
    ]
