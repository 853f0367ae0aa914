"""Which steps are calls of a template: one small table per family. May import lower_program,
kernels and the templates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .conv import conv_calls
from .graph import Step, Value, contiguous_strides
from .kernels import Buffer, Kernel, Library, Slice
from .lower_program import Definitions
from .lower_scatter import scatter
from .matmul import SUMS, matmul_calls
from .stages import Call, Layout

Buffers = Callable[[Value], Buffer]
Operand = tuple[Layout, Buffer | Slice]


def operand(program: Definitions, value: Value, buffer: Buffers) -> Operand:
    """Where a value lies, and in which buffer."""
    place = program.place(value)
    assert place is not None
    layout = Layout(value.shape, place.strides, value.dtype.name)
    memory = buffer(place.root)
    if not place.offset:
        return layout, memory
    return layout, Slice(memory, place.offset * value.dtype.itemsize)


def is_contiguous(program: Definitions, value: Value) -> bool:
    """Whether a value lies in memory row by row."""
    place = program.place(value)
    return place is not None and place.strides == contiguous_strides(value.shape)


def kernel_of(
    step: Step, calls: tuple[Call, ...], operands: list, sizes: tuple[int, ...] = ()
) -> list[Kernel]:
    """The kernel that makes a template's calls; `sizes` are the bytes of its temporaries."""
    *given, out = operands
    temporaries = [Buffer("temporary", (size,), np.dtype(np.uint8), -1) for size in sizes]
    reads = tuple(dict.fromkeys(o.buffer if isinstance(o, Slice) else o for o in given))
    work = Library(calls, (*operands, *temporaries))
    return [Kernel(step.op.name, (step.op.name,), reads, (out, *temporaries), work)]


# -- products ----------------------------------------------------------------------------------


def as_matrix(layout: Layout, column: bool) -> Layout:
    """A vector as a matrix of one column, or one row."""
    if len(layout.shape) > 1:
        return layout
    (n,), (s,) = layout.shape, layout.strides
    shape, strides = ((n, 1), (s, 1)) if column else ((1, n), (1, s))
    return Layout(shape, strides, layout.dtype)


def turned(layout: Layout) -> Layout:
    """The transpose of a matrix."""
    return Layout(layout.shape[::-1], layout.strides[::-1], layout.dtype)


def product(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """a @ b, or x @ w.T + bias."""
    values = [v for v in step.inputs if v is not None]
    out = step.outputs[0]
    if {v.dtype for v in (*values, out)} != {out.dtype} or out.dtype.name not in SUMS:
        return None
    (a, a_memory), (b, b_memory), *rest = [operand(program, v, buffer) for v in values]
    if 0 in (*a.shape, *b.shape):
        return None
    linear = step.op.name == "linear"
    shape = (*(a.shape[:-1] or (1,)), 1 if len(b.shape) == 1 else b.shape[0 if linear else -1])
    a, b = as_matrix(a, False), as_matrix(b, not linear)
    if linear:
        b = turned(b)
    if len(values[0].shape) == 1 and len(b.shape) > 2:
        shape = (*b.shape[:-2], *shape)
    elif len(b.shape) > 2:
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    c = Layout(shape, contiguous_strides(shape), out.dtype.name)
    bias = None
    if rest:
        bias = rest[0][0]
        if bias.shape != c.shape[-1:] or bias.strides != (1,) or out.dtype.itemsize < 4:
            return None
    calls = matmul_calls(a, b, c, bias=bias)
    operands = [a_memory, b_memory, *(memory for _, memory in rest), buffer(out)]
    return kernel_of(step, calls, operands)


# -- convolutions ------------------------------------------------------------------------------

KINDS = {
    "convolution": "forward",
    "convolution_input": "input",
    "convolution_weight": "weight",
}


def convolution(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """A convolution or one of its gradients."""
    kind, steps, out = KINDS[step.op.name], step.params["steps"], step.outputs[0]
    values = [v for v in step.inputs if v is not None]
    if out.dtype.name not in ("float32", "float64") or not fits(program, values, out):
        return None
    found = [operand(program, v, buffer) for v in values]
    layouts = [layout for layout, _ in found]
    own = Layout(out.shape, contiguous_strides(out.shape), out.dtype.name)
    first, second, *bias = layouts
    order: dict[str, Any] = {
        "forward": (first, second, own),
        "input": (own, second, first),
        "weight": (first, own, second),
    }
    calls, sizes = conv_calls(kind, *order[kind], steps, bool(bias))
    return kernel_of(step, calls, [*(memory for _, memory in found), buffer(out)], sizes)


def fits(program: Definitions, values: list[Value], out: Value) -> bool:
    """Whether the operands are of one type, contiguous and not empty."""
    return all(
        v.dtype == out.dtype and v.size and is_contiguous(program, v) for v in values
    ) and bool(out.size)


Template = Callable[[Definitions, Step, Buffers], list[Kernel] | None]
TEMPLATES: dict[str, Template] = {
    **dict.fromkeys(("mm", "bmm", "matmul", "mv", "dot", "linear"), product),
    **dict.fromkeys(KINDS, convolution),
    **dict.fromkeys(("embedding_gradient", "index_backward", "scatter", "scatter_add"), scatter),
}


def library(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """The kernels of a step's template; None where there is none for it."""
    template = TEMPLATES.get(step.op.name)
    return None if template is None else template(program, step, buffer)
