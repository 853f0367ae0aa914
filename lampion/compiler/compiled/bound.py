"""A program bound to the memory and objects it was traced with. Imports backward and captured.

`Program.run` collects the inputs' arrays, runs the executable, sets gradients and builds the
result, as the traced call left them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ...core.graph import STATE, Node, Slot
from ...core.memory import Storage, root_array, tick
from ...core.tensor import Tensor, wrap
from ..native.stages import CheckFailed
from ..program.program import overlaps, spans_of
from ..trace.captured import Captured, Gradient, Result, like
from ..trace.execute import laid_out
from ..trace.graph import contiguous_strides
from ..trace.guards import Guards, Hooks
from ..trace.structure import unflatten
from ..trace.tracer import Source
from .backward import BackwardProgram, Build, spent_node


class Program:
    """A compiled call. Only one thread runs it at a time: who finds it `busy` runs eagerly.

    memories  of the gradients that programs of the same function set, by the tensor's id
    """

    def __init__(
        self, captured: Captured, guards: Guards, identical: dict[int, ndarray], build: Build,
        memories: dict[int, GradientMemory],
    ) -> None:  # fmt: skip
        self.captured, self.guards, self.identical = captured, guards, identical
        self.executable = build(captured.graph)
        self.busy = threading.Lock()
        self.held = [
            (s.tensor, s.array, s.tensor._requires_grad)
            for s in captured.sources
            if s.kind == "state" and s.tensor is not None and s.array is not None
        ]
        self.roots = {id(root_array(array)) for _, array, _ in self.held}
        guards.modules += [Hooks.of(tensor) for tensor, _, _ in self.held]
        outputs = enumerate(captured.graph.outputs)
        self.transposed = [(i, v) for i, v in outputs if v.strides != contiguous_strides(v.shape)]
        written = {target for target, _ in captured.graph.writes}
        pairs = zip(captured.sources, captured.graph.inputs)
        self.written = [s for s, i in pairs if i.value in written and s.kind != "memory"]
        self.written_arguments = [s.place for s in self.written if s.kind == "argument"]
        self.used_arguments = [s.place for s in captured.sources if s.kind == "argument"]
        states = [s.array for s in self.written if s.kind == "state" and s.array is not None]
        self.written_spans = spans_of(states)
        self.held_spans = spans_of([array for _, array, _ in self.held])
        after = (g for g in captured.gradients if isinstance(g.after, int))
        self.set = sorted(after, key=lambda g: g.after)  # the gradients that are set
        self.grads = [memory_of(g, memories) for g in self.set]
        self.shared = [(i, r) for i, r in enumerate(captured.results) if r.kind in ("same", "part")]
        self.spent = {
            r.place: spent_node(captured.graph.outputs[r.place])
            for r in captured.results
            if r.spent
        }
        self.backward = None
        if captured.backward is not None:
            self.backward = BackwardProgram(captured, captured.backward, build)

    def fits(self, leaves: Sequence[Tensor]) -> bool:
        """Whether everything that the trace took for granted is so."""
        for tensor, array, requires_grad in self.held:
            if tensor._data is not array or tensor._requires_grad is not requires_grad:
                return False
        for i, t in enumerate(leaves):
            if i in self.identical:
                if t._data is not self.identical[i]:
                    return False
            elif id(root_array(t._data)) in self.roots:
                return False
        for gradient in self.captured.gradients:
            if gradient.before is not None and not self.grad_fits(gradient, leaves):
                return False
        return self.guards.hold()

    def grad_fits(self, gradient: Gradient, leaves: Sequence[Tensor]) -> bool:
        """Whether `.grad` is what the program needs."""
        grad, needed = self.owner_of(gradient, leaves)._grad, gradient.before
        found = ("none",) if grad is None else like(grad)
        return found == needed

    def array_of(self, source: Source, leaves: Sequence[Tensor]) -> ndarray:
        """An input's array for this call."""
        if source.kind == "argument":
            return leaves[source.place]._data
        if source.kind == "memory":
            gradient = self.set[source.place]
            owner = self.owner_of(gradient, leaves)
            return self.grads[source.place].array(owner, gradient.before is None)
        if source.kind == "number":
            return np.array(source.read(), np.float64)  # type: ignore[misc]
        if source.kind == "gradient":
            owner = self.owner(source.tensor, leaves)
            return owner._grad._data  # type: ignore[union-attr]
        return source.array  # type: ignore[return-value]

    def owner_of(self, gradient: Gradient, leaves: Sequence[Tensor]) -> Tensor:
        """The tensor whose `.grad` is meant."""
        return leaves[gradient.argument] if gradient.argument >= 0 else gradient.tensor

    def owner(self, tensor: Tensor | None, leaves: Sequence[Tensor]) -> Tensor:
        """The tensor whose gradient is meant: one that is held, or this call's argument."""
        for gradient in self.captured.gradients:
            if gradient.tensor is tensor and gradient.argument >= 0:
                return leaves[gradient.argument]
        return tensor  # type: ignore[return-value]

    def run(self, leaves: Sequence[Tensor]) -> Any:
        """Runs the program on this call's arguments; returns what the function would. Raises
        CheckFailed, and has done nothing, for what the function raises an error.
        """
        captured = self.captured
        if self.written:
            self.check_writes(leaves)
        arrays = [self.array_of(source, leaves) for source in captured.sources]
        outputs = self.executable.run(arrays)
        self.note_writes(leaves)
        for gradient in captured.gradients:
            after = gradient.after
            if after != "kept":
                grad = self.grads[after].tensor if isinstance(after, int) else None
                self.owner_of(gradient, leaves)._grad = grad
        return self.assemble([wrap(array) for array in outputs], leaves)

    def check_writes(self, leaves: Sequence[Tensor]) -> None:
        """Raises CheckFailed where an argument that is written forbids it, and where what is
        written is known by another name, too: to NumPy, say.
        """
        written = self.written_arguments
        for place in written:
            t = leaves[place]
            if not t._data.flags.writeable or (t._inference and not STATE.inference):
                raise CheckFailed("[compile] an argument that is written is read-only")
        for place in self.used_arguments:
            data = leaves[place]._data
            states = self.held_spans if place in written else self.written_spans
            others = spans_of([leaves[other]._data for other in written if other != place])
            if overlaps(data, states) or overlaps(data, others):
                raise CheckFailed("[compile] memory is written that an argument shows")

    def assemble(self, outputs: list[Tensor], leaves: Sequence[Tensor]) -> Any:
        """The result, of a run's outputs."""
        for i, value in self.transposed:
            outputs[i] = wrap(laid_out(outputs[i]._data, value))
        node = None
        if self.backward is not None:
            node = self.backward.node(leaves, outputs, self.array_of)
        found: list[Any] = [
            None if r.kind in ("same", "part") else self.result(r, leaves, outputs, node)
            for r in self.captured.results
        ]
        for i, r in self.shared:
            found[i] = found[r.place] if r.kind == "same" else view_of(found[r.place], r)
        return unflatten(self.captured.structure, iter(found))

    def note_writes(self, leaves: Sequence[Tensor]) -> None:
        """Counts the versions of written memory on, as in-place operators do."""
        if not self.written:
            return
        now = tick()
        for source in self.written:
            t = leaves[source.place] if source.kind == "argument" else source.tensor
            if source.kind == "gradient":
                t = self.owner(t, leaves)._grad
            storage = t._storage  # type: ignore[union-attr]
            if storage is None:
                storage = t._storage = Storage()  # type: ignore[union-attr]
            storage.version += 1
            storage.written = now

    def result(
        self, r: Result, leaves: Sequence[Tensor], outputs: list[Tensor], node: Node | None
    ) -> Any:
        """One place of the result."""
        if r.kind == "object":
            return r.thing
        if r.kind == "argument":
            return leaves[r.place]
        if r.kind == "view":
            return view_of(leaves[r.place] if r.place >= 0 else r.thing, r)
        t = outputs[r.place]
        if STATE.inference:
            t._inference = True
        if r.grad is not None:
            t._requires_grad, t.grad_fn = True, Slot(node, r.grad, t._data)  # type: ignore[arg-type]
        elif r.spent:
            t._requires_grad, t.grad_fn = True, self.spent[r.place]
        return t


class GradientMemory:
    """What a gradient is written to: the same memory at each call, if nobody else holds it. At
    first, that of the gradient that goes.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.tensor: Tensor | None = None
        self.holders = 1  # of its array, as far as they are the program's own

    def array(self, owner: Tensor, replaces: bool) -> ndarray:
        """Memory that may be written to; with `replaces`, nobody reads the gradient that goes."""
        if self.tensor is None and replaces and self.is_like(owner._grad):
            self.tensor = owner._grad
        if self.tensor is None or not self.is_ours(owner):
            like = self.like._data
            self.tensor, self.holders = wrap(np.empty(like.shape, like.dtype)), 1
        return self.tensor._data

    def is_like(self, grad: Tensor | None) -> bool:
        """Whether a gradient that the call replaces is such as `array` makes."""
        if type(grad) is not Tensor or grad._requires_grad or grad._hooks:
            return False
        data, like = grad._data, self.like._data
        own = data.flags.owndata and data.flags.c_contiguous and data.flags.writeable
        return own and data.shape == like.shape and data.dtype is like.dtype

    def is_ours(self, owner: Tensor) -> bool:
        """Whether only the program, and the tensor whose gradient it is, hold the memory."""
        grad: Any = self.tensor
        count = 3 + (owner._grad is grad)  # the attribute, this variable, the call's argument
        return sys.getrefcount(grad) <= count and sys.getrefcount(grad._data) - 1 <= self.holders


def memory_of(gradient: Gradient, memories: dict[int, GradientMemory]) -> GradientMemory:
    """Where a gradient is written to: for all programs of a function the same, but for those of
    arguments.
    """
    if gradient.argument >= 0:
        return GradientMemory(gradient.tensor)
    return memories.setdefault(id(gradient.tensor), GradientMemory(gradient.tensor))


def view_of(t: Tensor, r: Result) -> Tensor:
    """The view that a place of the result shows."""
    for op, params in r.chain:
        t = op(t, **params)
    return t if r.grad is not None else detached(t)


def detached(t: Tensor) -> Tensor:
    """A tensor on the same memory without history."""
    return t if not t._requires_grad else t.detach()
