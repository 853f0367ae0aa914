"""The graph of a traced function: which operator was run on what, in order. Imports core.op.

A graph is in single-assignment form: views and in-place writes are gone, each value is made by one
step. It says what is computed; kernels, loops and memory come later. `print(graph)` writes it as
text. After the jaxpr of JAX and the FX graph of PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...core.op import Op
from ...errors import check

# Where an input's value comes from at each call: the caller, memory that outlives the call
# (parameters, buffers, optimizer state), a Python number read anew, or the graph itself.
ROLES = ("argument", "state", "number", "constant")
SHORT = {
    "float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16", "int64": "i64",
    "int32": "i32", "int16": "i16", "int8": "i8", "uint8": "u8", "uint16": "u16", "uint32": "u32",
    "uint64": "u64", "complex64": "c64", "complex128": "c128",
}  # fmt: skip


class Value:
    """A tensor in a graph: its shape and type, and the layout it had when it was traced.

    strides  in elements; what a caller sees of a result, no duty inside the program
    name     unique in its graph
    """

    __slots__ = ("shape", "dtype", "strides", "name")

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype,
        name: str,
        strides: tuple[int, ...] | None = None,
    ) -> None:
        self.shape, self.dtype, self.name = tuple(shape), np.dtype(dtype), name
        self.strides = contiguous_strides(self.shape) if strides is None else tuple(strides)

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    def __repr__(self) -> str:
        return f"%{self.name}"

    def type_text(self) -> str:
        """E.g. `f32[64, 100]`."""
        kind = SHORT.get(self.dtype.name, self.dtype.name)
        return f"{kind}[{', '.join(map(str, self.shape))}]"


def contiguous_strides(shape: Iterable[int]) -> tuple[int, ...]:
    """Strides, in elements, of a C-contiguous array.

    >>> contiguous_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides: list[int] = []
    step = 1
    for n in reversed(tuple(shape)):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


class Input(NamedTuple):
    """A value that a graph starts from; `data` is a constant's array."""

    value: Value
    role: str
    data: np.ndarray | None = None


class Step(NamedTuple):
    """One operator run: an input is None where the record was given none. Where bit i of `mask` is
    not set, autograd saw nothing behind input i (-1: it saw what there is).
    """

    op: Op
    inputs: tuple[Value | None, ...]
    params: dict[str, Any]
    outputs: tuple[Value, ...]
    line: str = ""  # "file:line" of the call that it came from
    mask: int = -1

    def __str__(self) -> str:
        left = ", ".join(f"{v!r}: {v.type_text()}" for v in self.outputs)
        given = [repr(v) for v in self.inputs]
        given += [f"{name}={brief(value)}" for name, value in self.params.items()]
        return f"{left} = {self.op.name}({', '.join(given)})"


class Graph:
    """What a function does to tensors.

    outputs  values that are returned, in order (one may be there twice)
    writes   (state or argument, value): at the end that memory gets the value
    """

    def __init__(
        self,
        inputs: list[Input],
        steps: list[Step],
        outputs: list[Value],
        writes: list[tuple[Value, Value]],
        name: str = "graph",
    ) -> None:
        self.inputs, self.steps, self.outputs, self.writes = inputs, steps, outputs, writes
        self.name = name

    def __str__(self) -> str:
        lines = [f"{self.name}:"]
        lines += [f"  {i.role} {i.value!r}: {i.value.type_text()}" for i in self.inputs]
        lines += [f"  {step}" for step in self.steps]
        lines += [f"  write {target!r} <- {value!r}" for target, value in self.writes]
        return "\n".join([*lines, f"  return ({', '.join(map(repr, self.outputs))})"])

    def results(self) -> Iterator[Value]:
        """What must be there at the end: outputs and what is written."""
        yield from self.outputs
        for _, value in self.writes:
            yield value

    def verify(self) -> None:
        """Raises RuntimeError unless each value is made once and before it is used."""
        known: set[Value] = set()
        names: set[str] = set()

        def define(value: Value) -> None:
            new = value not in known and value.name not in names
            check(new, lambda: f"[graph] {value!r} is defined twice")
            known.add(value)
            names.add(value.name)

        def use(value: Value, where: str) -> None:
            check(value in known, lambda: f"[graph] {where} uses {value!r} before it is made")

        for item in self.inputs:
            check(item.role in ROLES, lambda: f"[graph] {item.value!r} has no role {item.role!r}")
            define(item.value)
        writable = {i.value for i in self.inputs if i.role in ("argument", "state")}
        for step in self.steps:
            for value in step.inputs:
                if value is not None:
                    use(value, step.op.name)
            for value in step.outputs:
                define(value)
        for value in self.results():
            use(value, "the end")
        for target, value in self.writes:
            check(target in writable, lambda: f"[graph] {target!r} is written and is no state")
            same = target.shape == value.shape and target.dtype == value.dtype
            check(same, lambda: f"[graph] {value.type_text()} is written to {target.type_text()}")


def brief(value: Any) -> str:
    """A parameter as text, long arrays cut."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"<{value.dtype}{list(value.shape)}>"
    return repr(value)
