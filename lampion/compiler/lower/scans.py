"""Running sums and products, extremes along a dimension, `sort`, `argsort` and `topk` as calls of
their template. May import definitions, recurrent, kernels and scans.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from ..kernels.scans import extreme_call, pick_call, scan_call
from ..native.stages import Call
from ..trace.graph import Step, Value
from .definitions import Definitions
from .kernels import Buffer, Kernel, Library
from .recurrent import in_order, memory

Buffers = Callable[[Value], Buffer]


def scanned(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """The kernel of a running sum or product; None for other types, and elements with gaps."""
    (x,), (y,) = step.inputs, step.outputs
    assert x is not None
    if not (x.size and x.shape and x.dtype == y.dtype and in_order(program, x)):
        return None
    dim = step.params["dim"] % len(x.shape)
    outer, inner = prod(x.shape[:dim]), prod(x.shape[dim + 1 :])
    call = scan_call(step.op.name, x.dtype.name, outer, x.shape[dim], inner)
    if call is None:
        return None
    operands = memory(program, x, buffer), buffer(y)
    return [kernel(program, step, buffer, Library((call,), operands), (buffer(y),))]


def picked(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """The kernel of `sort`, `argsort` or `topk` along the last dimension."""
    (x,), params = step.inputs, step.params
    assert x is not None
    if not (x.size and x.shape and in_order(program, x)):
        return None
    last = len(x.shape) - 1
    if params["dim"] % len(x.shape) != last:
        return None
    n = x.shape[last]
    rising = not params["largest" if "largest" in params else "descending"]
    rows = prod(x.shape[:last])
    found = pick_call(step.op.name, x.dtype.name, rows, n, params.get("k", n), rising)
    return None if found is None else chosen(program, step, buffer, *found)


def extreme(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """The kernel of `argmax`, of `max` with a dimension, and of those of the minimum."""
    (x,) = step.inputs
    assert x is not None
    if not (x.size and x.shape and in_order(program, x)):
        return None
    dim = step.params["dim"]
    outer, n, inner = 1, x.size, 1
    if dim is not None:
        d = dim % len(x.shape)
        outer, n, inner = prod(x.shape[:d]), x.shape[d], prod(x.shape[d + 1 :])
    call = extreme_call(step.op.name, x.dtype.name, outer, n, inner, "max" in step.op.name)
    return None if call is None else chosen(program, step, buffer, call)


def chosen(
    program: Definitions, step: Step, buffer: Buffers, call: Call, space: int = 0
) -> list[Kernel]:
    """The kernel of a call that makes values and places, in so many bytes of space."""
    (x,) = step.inputs
    assert x is not None
    made = [buffer(v) for v in step.outputs]
    if len(made) == 1:  # the values are not asked for
        made.insert(0, Buffer("temporary", made[0].shape, x.dtype, -1))
    if space:
        made.append(Buffer("temporary", (space,), np.dtype(np.uint8), -1))
    operands = memory(program, x, buffer), *made
    return [kernel(program, step, buffer, Library((call,), operands), tuple(made))]


def kernel(
    program: Definitions, step: Step, buffer: Buffers, work: Library, made: tuple[Buffer, ...]
) -> Kernel:
    """A kernel that reads the step's only input."""
    place = program.place(step.inputs[0])  # type: ignore[arg-type]
    assert place is not None
    name = step.op.name
    return Kernel(name, (name,), (buffer(place.root),), made, work)
