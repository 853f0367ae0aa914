"""Which steps are calls of a template: one small table per family. May import definitions,
kernels and the templates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.attention import attention_calls, attention_gradient_calls
from ..kernels.conv import conv_calls
from ..kernels.draws import NUMBERS
from ..kernels.matmul import SUMS, matmul_calls
from ..kernels.pooling import pool_calls
from ..native.stages import Call, Layout
from ..trace.graph import Step, Value, contiguous_strides
from .checks import check_index
from .definitions import Definitions
from .draws import drawn
from .kernels import Buffer, Epilogue, Kernel, Library, Slice
from .matrix import folded, is_contiguous, layout_of
from .recurrent import KINDS as LAYERS, recurrent
from .scans import extreme, picked, scanned
from .scatter import scatter

Buffers = Callable[[Value], Buffer]
Operand = tuple[Layout, Buffer | Slice]


def operand(program: Definitions, value: Value, buffer: Buffers) -> Operand:
    """Where a value lies, and in which buffer."""
    place = program.place(value)
    assert place is not None
    layout = layout_of(program, value)
    memory = buffer(place.root)
    if not place.offset:
        return layout, memory
    return layout, Slice(memory, place.offset * value.dtype.itemsize)


def kernel_of(
    step: Step, calls: tuple[Call, ...], operands: list, sizes: tuple[int, ...] = (),
    epilogue: Epilogue | None = None,
) -> list[Kernel]:  # fmt: skip
    """The kernel that makes a template's calls; `sizes` are the bytes of its temporaries."""
    temporaries = [Buffer("temporary", (size,), np.dtype(np.uint8), -1) for size in sizes]
    return [several(step, calls, [*operands, *temporaries], len(operands) - 1, epilogue)]


def several(
    step: Step, calls: tuple[Call, ...], operands: list, inputs: int,
    epilogue: Epilogue | None = None,
) -> Kernel:  # fmt: skip
    """The kernel of calls that read the first operands and write the others."""
    given, made = operands[:inputs], operands[inputs:]
    reads = tuple(dict.fromkeys(o.buffer if isinstance(o, Slice) else o for o in given))
    work = Library(calls, tuple(operands), epilogue)
    return Kernel(step.op.name, (step.op.name,), reads, tuple(made), work)


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


def product(
    program: Definitions, step: Step, buffer: Buffers, epilogue: Epilogue | None
) -> list[Kernel] | None:
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
    rows = folded(a) if epilogue is not None and len(b.shape) == 2 else None
    if rows is not None:
        a, c = rows, Layout((rows.shape[0], shape[-1]), (shape[-1], 1), c.dtype)
    calls = matmul_calls(a, b, c, bias=bias, epilogue=epilogue is not None)
    operands = [a_memory, b_memory, *(memory for _, memory in rest), buffer(out)]
    return kernel_of(step, calls, operands, (), epilogue)


# -- convolutions ------------------------------------------------------------------------------

KINDS = {
    "convolution": "forward",
    "convolution_input": "input",
    "convolution_weight": "weight",
}


def convolution(
    program: Definitions, step: Step, buffer: Buffers, epilogue: Epilogue | None
) -> list[Kernel] | None:
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
    calls, sizes = conv_calls(kind, *order[kind], steps, bool(bias), epilogue is not None)
    operands = [*(memory for _, memory in found), buffer(out)]
    return kernel_of(step, calls, operands, sizes, epilogue)


def fits(program: Definitions, values: list[Value], out: Value) -> bool:
    """Whether the operands are of one type, contiguous and not empty."""
    return all(
        v.dtype == out.dtype and v.size and is_contiguous(program, v) for v in values
    ) and bool(out.size)


# -- pooling -----------------------------------------------------------------------------------

# By operator: the template's kind, and which operands are its x (the image) and y (the windows).
POOLS = {
    "max_pool": ("maximum", 0, 1),
    "max_pool_winners": ("winners", 0, 1),
    "max_pool_put": ("put", 2, 0),
    "avg_pool": ("average", 0, 1),
    "avg_pool_spread": ("spread", 1, 0),
}


def pooling(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """Pooling, or its gradient."""
    kind, image, windows = POOLS[step.op.name]
    values = [v for v in (*step.inputs, step.outputs[0]) if v is not None]
    x, y = values[image], values[windows]
    floats = x.dtype == y.dtype and x.dtype.name in ("float32", "float64")
    if not floats or not all(v.size and is_contiguous(program, v) for v in values[:-1]):
        return None
    layouts = [Layout(v.shape, contiguous_strides(v.shape), v.dtype.name) for v in (x, y)]
    try:
        calls = pool_calls(kind, *layouts, step.params["plan"])
    except ValueError:  # rows that are too long
        return None
    given = [operand(program, v, buffer)[1] for v in values[:-1]]
    return kernel_of(step, calls, [*given, buffer(values[-1])])


# -- attention ---------------------------------------------------------------------------------


def attention(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """Attention, or its gradient, without a matrix of scores."""
    names = dict(zip(step.op.inputs, step.inputs, strict=True))
    matrices = [names[n] for n in ("g", "q", "k", "v", "y") if n in names]
    if any(v is None or not in_rows(program, v) for v in matrices):
        return None
    values = [v for v in step.inputs if v is not None]
    found = {v: operand(program, v, buffer) for v in values}
    layouts = [None if v is None else found[v][0] for v in step.inputs]
    outs = [Layout(v.shape, contiguous_strides(v.shape), v.dtype.name) for v in step.outputs]
    options = {"scale": step.params["scale"], "causal": step.params["is_causal"]}
    try:
        if "g" in names:
            calls = attention_gradient_calls(*layouts[:6], *outs, **options)
        else:
            calls = attention_calls(*layouts, outs[0], **options)
    except ValueError:
        return None
    operands = [found[v][1] for v in values] + [buffer(v) for v in step.outputs]
    return [several(step, calls, operands, len(values))]


def in_rows(program: Definitions, value: Value) -> bool:
    """Whether a matrix is of float32 and has its rows' elements side by side."""
    place = program.place(value)
    assert place is not None
    return value.dtype.name == "float32" and (value.shape[-1] == 1 or place.strides[-1] == 1)


Template = Callable[[Definitions, Step, Buffers], list[Kernel] | None]
FINISHED: dict[str, Callable[..., list[Kernel] | None]] = {  # they take an epilogue too
    **dict.fromkeys(("mm", "bmm", "matmul", "mv", "dot", "linear"), product),
    **dict.fromkeys(KINDS, convolution),
}
TEMPLATES: dict[str, Template] = {
    **dict.fromkeys(POOLS, pooling),
    "scaled_dot_product_attention": attention,
    "scaled_dot_product_attention_gradient": attention,
    **dict.fromkeys(("embedding_gradient", "index_backward", "scatter", "scatter_add"), scatter),
    **dict.fromkeys(LAYERS, recurrent),
    **dict.fromkeys(NUMBERS, drawn),
    **dict.fromkeys(("cumsum", "cumprod"), scanned),
    **dict.fromkeys(("sort", "argsort", "topk"), picked),
    **dict.fromkeys(("argmax", "argmin", "max_dim", "min_dim"), extreme),
    "check_index": check_index,
}


def library(
    program: Definitions, step: Step, buffer: Buffers, epilogue: Epilogue | None = None
) -> list[Kernel] | None:
    """The kernels of a step's template; None where there is none for it."""
    if step.op.name in FINISHED:
        return FINISHED[step.op.name](program, step, buffer, epilogue)
    template = TEMPLATES.get(step.op.name)
    return None if template is None else template(program, step, buffer)
