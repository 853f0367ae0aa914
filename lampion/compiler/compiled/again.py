"""Derivatives of a compiled function's gradients: its graph is run again, as eager operators.

Imports trace and core. A trace notes for each operator which of its inputs had a history
(`Step.mask`), so the tape of the second run is that of the function itself; where it could not be,
an error says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...core import autograd
from ...core.dispatch import apply, edge
from ...core.graph import STATE
from ...core.op import OPS
from ...core.tensor import Tensor, wrap
from ..trace.captured import Captured
from ..trace.graph import Graph, Step, Value
from ..trace.tracer import pruned


class Again:
    """What is needed to run a program's forward again."""

    def __init__(self, captured: Captured) -> None:
        graph, backward = captured.graph, captured.backward
        assert backward is not None
        roots = sorted(
            (r.grad, r.place) for r in captured.results if r.kind == "value" and r.grad is not None
        )
        outputs = [graph.outputs[place] for _, place in roots]
        self.graph, kept = pruned(Graph(graph.inputs, graph.steps, outputs, []))
        self.sources = [captured.sources[i] for i in kept]
        self.given = backward.given
        self.problem = backward.detour
        written = {target for target, _ in graph.writes}
        if not written.isdisjoint(i.value for i in self.graph.inputs):
            self.problem = "it writes to what it reads"
        if not all(s.kind in ("argument", "state", "constant") for s in self.sources):
            self.problem = "it reads gradients or options of an optimizer"
        if any(step.op.random for step in self.graph.steps):
            self.problem = "it draws random numbers"

    def gradients(
        self, cotangents: Sequence[Tensor | None], leaves: Sequence[Tensor], edges: Sequence[Any]
    ) -> list[Tensor | None]:
        """The gradients of the edges, with a history."""
        values: dict[Value | None, Any] = {None: None}
        aliases: list[tuple[Any, Tensor]] = []  # inputs told apart from what they depend on
        for item, source in zip(self.graph.inputs, self.sources, strict=True):
            t = leaves[source.place] if source.kind == "argument" else source.tensor
            if item.data is not None:
                t = wrap(item.data)
            assert t is not None
            values[item.value] = t
            if t._requires_grad:
                values[item.value] = OPS["alias"](t)
                aliases.append((edge(t), values[item.value]))
        reached = [e for e, _ in aliases]
        lost = any(
            number is not None and not any(e is r for r in reached)
            for e, number in zip(edges, self.given, strict=True)
        )
        if self.problem or lost:
            self.refuse(self.problem or "an argument shows the memory of another")
        self.run(values)
        roots = [values[v] for v in self.graph.outputs]
        pairs = [(r, g) for r, g in zip(roots, cotangents, strict=True) if g is not None]
        if not all(r._requires_grad for r, _ in pairs):
            self.refuse("a result has a history of its own")
        found = autograd.grad(
            [r for r, _ in pairs], [t for _, t in aliases], [g for _, g in pairs],
            create_graph=True, allow_unused=True,
        )  # fmt: skip
        return [
            total([g for (of, _), g in zip(aliases, found) if of is e and g is not None])
            for e in edges
        ]

    def run(self, values: dict[Value | None, Any]) -> None:
        """Computes all values from those of the inputs."""
        with STATE.set(autocast=None):
            for step in self.graph.steps:
                inputs = [self.operand(step, i, values[v]) for i, v in enumerate(step.inputs)]
                outs = apply(step.op, *inputs, **step.params)
                values.update(zip(step.outputs, outs if isinstance(outs, tuple) else (outs,)))

    def operand(self, step: Step, i: int, t: Tensor | None) -> Tensor | None:
        """An input of a step, with a history if it had one."""
        if t is None or step.mask < 0:
            return t
        if step.mask >> i & 1:
            if not t._requires_grad:
                self.refuse(f"an input of {step.op.name} has a history of its own")
            return t
        return t.detach() if t._requires_grad else t

    def refuse(self, reason: str) -> None:
        """Raises RuntimeError."""
        raise RuntimeError(
            f"[compile] this compiled function can't be differentiated twice: {reason}; call the "
            "function itself, or compile the whole step"
        )


def total(gradients: list[Tensor]) -> Tensor | None:
    """The sum; None for no gradient."""
    if not gradients:
        return None
    result = gradients[0]
    for g in gradients[1:]:
        result = result + g
    return result
