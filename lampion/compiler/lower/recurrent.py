"""Recurrent layers and their gradients as calls of their template. May import definitions,
kernels and recurrent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..kernels.recurrent import (
    Layer,
    forward_operands,
    gradient_calls,
    gradient_operands,
    layer_calls,
)
from ..native.stages import Call
from ..trace.graph import Step, Value, contiguous_strides
from .definitions import Definitions
from .kernels import Buffer, Kernel, Library, Slice

Buffers = Callable[[Value], Buffer]
KINDS = {f"{kind}_layer{suffix}": kind for kind in ("lstm", "gru") for suffix in ("", "_gradient")}


def recurrent(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """A layer in one direction, or its gradient."""
    given = dict(zip(step.op.inputs, step.inputs, strict=True))
    values = [v for v in (*step.inputs, *step.outputs) if v is not None]
    floats = {v.dtype.name for v in values} in ({"float32"}, {"float64"})
    if not floats or any(v.size == 0 for v in values):
        return None
    layer = describe(program, step, given)
    if layer is None:
        return None
    if step.op.name.endswith("_gradient"):
        reads, writes = gradient_operands(layer)
        calls, sizes = gradient_calls(layer)
    else:
        operands = forward_operands(layer)
        count = len(operands) - len(step.outputs)
        reads, writes = operands[:count], operands[count:]
        calls, sizes = layer_calls(layer)
    values = [v for name in reads if (v := given[name]) is not None]
    if any(not in_order(program, v) for v in values if v is not given.get("g")):
        return None
    assert len(values) == len(reads) and len(writes) == len(step.outputs)
    return [kernel(step, calls, [memory(program, v, buffer) for v in values], sizes, buffer)]


def describe(program: Definitions, step: Step, given: dict[str, Value | None]) -> Layer | None:
    """What a step's layer is; None where the outputs' gradient has gaps in its rows."""
    x, w, g = given["x"], given["w"], given.get("g")
    assert x is not None and w is not None
    strides = None
    if g is not None:
        place = program.place(g)
        assert place is not None
        strides = place.strides
        if strides[-1] != 1:
            return None
    kind, (time, batch, _), width = KINDS[step.op.name], x.shape, w.shape[1]
    return Layer(
        kind, time, batch, width, x.dtype.name, bool(step.params["backwards"]),
        given["b"] is not None, strides, given.get("gc") is not None,
    )  # fmt: skip


def in_order(program: Definitions, value: Value) -> bool:
    """Whether a value lies in memory row by row."""
    place = program.place(value)
    return place is not None and place.strides == contiguous_strides(value.shape)


def memory(program: Definitions, value: Value, buffer: Buffers) -> Buffer | Slice:
    """Where a value begins."""
    place = program.place(value)
    assert place is not None
    offset = place.offset * value.dtype.itemsize
    return Slice(buffer(place.root), offset) if offset else buffer(place.root)


def kernel(
    step: Step, calls: tuple[Call, ...], given: list[Buffer | Slice], sizes: tuple[int, ...],
    buffer: Buffers,
) -> Kernel:  # fmt: skip
    """The kernel of the calls on these inputs, with temporaries of so many bytes."""
    made = [buffer(v) for v in step.outputs]
    made += [Buffer("temporary", (size,), np.dtype(np.uint8), -1) for size in sizes]
    reads = tuple(dict.fromkeys(o.buffer if isinstance(o, Slice) else o for o in given))
    work = Library(calls, (*given, *made))
    return Kernel(step.op.name, (step.op.name,), reads, tuple(made), work)
