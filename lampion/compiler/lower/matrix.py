"""Whose results can be finished on the way: products and convolutions as batches of matrices. May
import definitions and stages.

A template that takes an epilogue calls it for each part of its result while that is in the cache.
"""

from __future__ import annotations

from math import prod

from ..kernels.gemm import BATCH_DIMS
from ..native.stages import Layout
from ..trace.graph import Step, Value, contiguous_strides
from .definitions import Definitions

Matrix = tuple[int, int, int]  # batches, rows, columns
PRODUCTS = {"mm", "bmm", "matmul", "linear"}
CONVOLUTIONS = {"convolution", "convolution_input"}


def matrix_of(program: Definitions, step: Step) -> Matrix | None:
    """How a step's result falls into matrices for its epilogue; None if it takes none."""
    out = step.outputs[0]
    values = [v for v in step.inputs if v is not None]
    numbers = out.dtype.name in ("float32", "float64") and {v.dtype for v in values} == {out.dtype}
    if not numbers or not all(v.size for v in (*values, out)):
        return None
    if step.op.name in PRODUCTS:
        return product_matrix(program, step.op.name == "linear", values, out)
    if step.op.name in CONVOLUTIONS and all(is_contiguous(program, v) for v in values):
        return out.shape[0], out.shape[1], prod(out.shape[2:])
    return None


def product_matrix(
    program: Definitions, linear: bool, values: list[Value], out: Value
) -> Matrix | None:
    """The same of a @ b, or x @ w.T + bias."""
    a, b, *bias = values
    if min(len(a.shape), len(b.shape)) < 2:
        return None
    if any(layout_of(program, v).strides != (1,) for v in bias):
        return None
    if len(b.shape) == 2:
        whole = folded(layout_of(program, a)) is not None
        return (1, prod(out.shape[:-1]), out.shape[-1]) if whole else None
    few = len(out.shape) - 2 <= BATCH_DIMS
    return (prod(out.shape[:-2]), out.shape[-2], out.shape[-1]) if few and not linear else None


def layout_of(program: Definitions, value: Value) -> Layout:
    """How a value that is in memory lies there."""
    place = program.place(value)
    assert place is not None
    return Layout(value.shape, place.strides, value.dtype.name)


def is_contiguous(program: Definitions, value: Value) -> bool:
    """Whether a value lies in memory row by row."""
    place = program.place(value)
    return place is not None and place.strides == contiguous_strides(value.shape)


def folded(layout: Layout) -> Layout | None:
    """Batches of matrices as one whose rows are those of all; None if they are not evenly apart.

    >>> folded(Layout((2, 3, 4), (15, 5, 1), "float32")).strides
    (5, 1)
    """
    *lead, columns = layout.shape
    *steps, column = layout.strides
    row, size = 0, 1
    for n, step in zip(reversed(lead), reversed(steps), strict=True):
        if n == 1:
            continue
        if size == 1:
            row = step
        elif step != row * size:
            return None
        size *= n
    return Layout((size, columns), (row, column), layout.dtype)
