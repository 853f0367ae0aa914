"""Graphs of small functions, and kernels run by the interpreter that defines them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lampion.compiler.ir.interpret import interpret
from lampion.compiler.ir.linearize import linearize
from lampion.compiler.lower.expand import Recorder
from lampion.compiler.lower.kernels import Buffer, Generated, Host, KernelList
from lampion.compiler.trace.graph import Graph, Input, Value
from lampion.core.graph import STATE
from lampion.core.op import OPS
from lampion.core.tensor import Tensor, wrap


class Tape(Recorder):
    """A recorder that knows tensors by their arrays too; what it has not met is a constant."""

    def __init__(self, tensors: Sequence[Tensor], values: Sequence[Value]) -> None:
        super().__init__(list(tensors), list(values))
        self.arrays = {id(t._data): v for t, v in zip(tensors, values, strict=True)}
        self.inputs = [Input(v, "argument") for v in values]

    def new(self, t: Tensor) -> Value:
        value = super().new(t)
        self.arrays.setdefault(id(t._data), value)
        self.kept.append(t._data)
        return value

    def value(self, t: Tensor) -> Value:
        found = self.values.get(id(t)) or self.arrays.get(id(t._data))
        if found is None:
            self.kept.append(t)
            found = self.new(t)
            self.inputs.append(Input(found, "constant", t._data.copy()))
        return found


def graph_of(function: Callable[..., Any], *arrays: np.ndarray) -> tuple[Graph, list[np.ndarray]]:
    """The graph of a function of tensors, all of its results' arrays."""
    tensors = [wrap(np.asarray(a)) for a in arrays]
    values = [Value(t._data.shape, t._data.dtype, f"x{i}") for i, t in enumerate(tensors)]
    tape = Tape(tensors, values)
    with STATE.set(observers=(tape,)):
        made = function(*tensors)
    results = flat(made)
    outputs = [tape.value(t) for t in results]
    graph = Graph(tape.inputs, tape.steps, outputs, [])
    graph.verify()
    return graph, [t.detach()._data.copy() for t in results]


def flat(made: Any) -> list[Tensor]:
    """The tensors in what a function returned."""
    if isinstance(made, Tensor):
        return [made]
    if isinstance(made, (list, tuple)):
        return [t for part in made for t in flat(part)]
    return []


def run(listed: KernelList, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """What the kernels compute, each in two parts if it has several iterations. Every access is
    checked by the interpreter; new memory is full of nonsense.
    """
    listed.verify()
    memory: dict[Buffer, np.ndarray] = {}
    given = [b for b in listed.inputs if b is not None]
    for buffer, array in zip(given, arrays, strict=True):
        memory[buffer] = np.array(array, order="C")

    def array_of(buffer: Buffer) -> np.ndarray:
        if buffer not in memory:
            nonsense = np.full(buffer.shape, 77).astype(buffer.dtype)
            memory[buffer] = nonsense if buffer.data is None else np.array(buffer.data, order="C")
        return memory[buffer]

    for kernel in listed.kernels:
        work = kernel.work
        if isinstance(work, Host):
            made = work.function(*map(array_of, work.reads))
            for buffer, array in zip(
                work.writes, made if isinstance(made, tuple) else (made,), strict=True
            ):
                np.copyto(array_of(buffer), array)
        else:
            assert isinstance(work, Generated), f"{kernel.name} is a template"
            flat_program = linearize(work.program)
            middle = work.extent // 2
            for begin, end in ((0, middle), (middle, work.extent)):
                operands = [array_of(b).reshape(-1) for b in work.operands]
                if end > begin:
                    interpret(flat_program, [*operands, begin, end])
    for target, buffer in listed.writes:
        np.copyto(array_of(target), array_of(buffer))
    return [array_of(b) for b in listed.outputs]


def count(listed: KernelList) -> int:
    """How many kernels there are."""
    return len(listed.kernels)


__all__ = ["OPS", "count", "graph_of", "run"]
