"""Elementwise operators on large arrays: the formula of a record as a kernel. Imports kernel and
formula.

Operands may broadcast and need not be contiguous: dimensions over which all of them move alike are
one, and what is left must be at most three, the innermost with elements side by side or one
element for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy import ndarray

from ..ir.formula import Unsupported, expression
from ..ir.node import Node, constant, loop, store
from ..native.launch import launch
from .items import Kernel, Loops

DTYPES = {
    np.dtype(np.float32): "f32",
    np.dtype(np.float64): "f64",
    np.dtype(np.float16): "f16",
    np.dtype(ml_dtypes.bfloat16): "bf16",
    np.dtype(bool): "bool",
}
HALVES = ("f16", "bf16")  # which are computed with in f32, and rounded once
SIDE = 16  # of the blocks of a transposed copy
SHORTEST_ROW = 16  # elements: below it NumPy's loops are as good


class Layout(NamedTuple):
    """How operands lie in a common shape (a, b, c): the strides of each, in elements."""

    shape: tuple[int, int, int]
    strides: tuple[tuple[int, int, int], ...]
    flat: bool  # each operand has all its elements side by side, or one for all


def layout(shapes: tuple, strides: tuple, itemsizes: tuple) -> Layout | None:
    """The common layout of operands broadcast together, None where it has too many dimensions."""
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        return None
    steps = []
    for own, step, size in zip(shapes, strides, itemsizes, strict=True):
        if any(s % size for s in step):
            return None
        lead = (0,) * (len(shape) - len(own))
        steps.append(
            lead + tuple(0 if n == 1 else s // size for n, s in zip(own, step, strict=True))
        )
    sizes, merged = merge(shape, steps)
    if len(sizes) > 3 or any(row[-1] not in (0, 1) for row in merged):
        return None
    flat = len(sizes) == 1
    pad = 3 - len(sizes)
    rows = tuple((0,) * pad + tuple(row) for row in merged)
    full = (1,) * pad + tuple(sizes)
    if not flat and full[2] < SHORTEST_ROW:
        return None
    return Layout(full, rows, flat)


def merge(shape: tuple[int, ...], strides: list[tuple[int, ...]]) -> tuple[list, list[list]]:
    """The shape and the strides with dimensions of one element dropped and neighbours joined where
    every operand moves through them in one stride.
    """
    sizes: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for d, n in enumerate(shape):
        if n == 1:
            continue
        if sizes and all(m[-1] == s[d] * n for m, s in zip(merged, strides, strict=True)):
            sizes[-1] *= n
            for m, s in zip(merged, strides, strict=True):
                m[-1] = s[d]
        else:
            sizes.append(n)
            for m, s in zip(merged, strides, strict=True):
                m.append(s[d])
    if not sizes:
        return [1], [[0] for _ in strides]
    return sizes, merged


class Form(NamedTuple):
    """What a kernel is compiled for."""

    formulas: tuple[str, ...]
    names: tuple[str, ...]  # of the operands
    parameters: tuple[str, ...]
    inputs: tuple[str, ...]  # element types of the operands
    outputs: tuple[str, ...]
    moves: tuple[bool, ...]  # whether each array (outputs, operands) moves along the inner loop
    flat: bool
    into: int  # the operand that the first output overwrites, -1: none


@cache
def kernel_of(form: Form) -> Kernel | None:
    """The kernel, None where the formula cannot be written as nodes."""
    number = next(t for t in (*form.inputs, *form.outputs) if t != "bool")
    number = "f32" if number in HALVES else number
    strides = [] if form.flat else ["i64"] * (2 * len(form.moves) + 2)
    fresh = len(form.outputs) - (form.into >= 0)
    arrays = (*form.outputs[len(form.outputs) - fresh :], *form.inputs)

    def body(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
        operands = pointers[fresh:]
        results = pointers[:fresh]
        if form.into >= 0:
            results = [operands[form.into], *results]
        parameters = dict(zip(form.parameters, numbers[len(strides) :], strict=True))
        loops, steps = Loops(), numbers[: len(strides)]
        row: Node | None = None
        if form.flat:
            inner = loops(start, stop, "vector")
            indices = [inner if moves else inner * 0 for moves in form.moves]
        else:
            row = loops(start, stop)
            inner = loops.vector(steps[1])
            a, b = outer_and_middle(row, steps[0])
            indices = []
            for i, moves in enumerate(form.moves):
                offset = a * steps[2 + 2 * i] + b * steps[3 + 2 * i]
                indices.append(offset + inner if moves else offset)
        names = dict(parameters)
        for i, name in enumerate(form.names):
            value = operands[i].load(indices[len(form.outputs) + i])
            names[name] = value.cast("f32") if form.inputs[i] in HALVES else value
        stores = [
            store(to, indices[i], result_of(formula, names, form.outputs[i]))
            for i, (to, formula) in enumerate(zip(results, form.formulas, strict=True))
        ]
        return [loop(inner, *stores)] if row is None else [loop(row, loop(inner, *stores))]

    try:
        return Kernel("elementwise", arrays, [*strides, *[number] * len(form.parameters)], body)
    except Unsupported:
        return None


def outer_and_middle(row: Node, count: Node) -> tuple[Node, Node]:
    """The row's number as two: row = a * count + b."""
    return Node("div", "i64", (row, count)), Node("mod", "i64", (row, count))


def result_of(formula: str, names: dict[str, Any], dtype: str) -> Node:
    """The formula's value in the type of the output."""
    value = expression(formula, names)
    if not isinstance(value, Node):
        raise Unsupported(f"{formula} does not depend on an operand")
    return value.cast(dtype)


Described = tuple[tuple[int, ...], tuple[int, ...], np.dtype]  # of an array: shape, strides, type


class Plan(NamedTuple):
    """All that a call does besides filling in addresses and parameters.

    flat     whether each operand has all its elements side by side, or one for all
    moves    whether each operand moves along the inner loop
    shape    of the results, in the order of memory
    turned   the order of dimensions that brings results into that of the operands; None: it is
    fresh    the types of the results that are new
    job      with its tiles, where there are no parameters
    """

    kernel: Kernel
    flat: bool
    moves: tuple[bool, ...]
    shape: tuple[int, ...]
    turned: tuple[int, ...] | None
    fresh: tuple[np.dtype, ...]
    numbers: list[float]
    items: int
    elements: int
    job: tuple[bytes, int] | None


@lru_cache(4096)
def plan_of(
    formulas: tuple[str, ...],
    names: tuple[str, ...],
    parameters: tuple[str, ...],
    outputs: tuple[np.dtype, ...],
    arrays: tuple[Described, ...],
    into: int,
    ordered: bool,
) -> Plan | None:
    """The plan of a call, None where there is no kernel for it; see `run`."""
    dtypes = [a[2] for a in arrays]
    if any(d not in DTYPES for d in (*dtypes, *outputs)):
        return None
    shapes, strides = [a[0] for a in arrays], [a[1] for a in arrays]
    order = None if into >= 0 or ordered else memory_order(arrays)
    turned = None
    if order is not None:
        shapes, strides = (
            [tuple(((filler,) * (len(order) - len(v)) + v)[d] for d in order) for v in values]
            for values, filler in ((shapes, 1), (strides, 0))
        )
        turned = tuple(int(d) for d in np.argsort(order))
    found = layout(tuple(shapes), tuple(strides), tuple(d.itemsize for d in dtypes))
    if found is None:
        return None
    shape = np.broadcast_shapes(*shapes)
    if into >= 0 and shapes[into] != shape:
        return None
    steps = tuple(s[2] == 1 for s in found.strides)
    moves = (True,) * len(outputs) + steps
    types = tuple(DTYPES[d] for d in dtypes), tuple(DTYPES[d] for d in outputs)
    kernel = kernel_of(Form(formulas, names, parameters, *types, moves, found.flat, into))
    if kernel is None:
        return None
    a, b, c = found.shape
    numbers: list[float] = []
    items, elements = (c, 1) if found.flat else (a * b, c)
    if not found.flat:
        own = [(b * c, c)] * len(outputs) + [s[:2] for s in found.strides]
        numbers = [b, c, *[step for pair in own for step in pair]]
    job = None if parameters else kernel.prepare(numbers, items, elements)
    fresh = outputs[into >= 0 :]
    return Plan(kernel, found.flat, steps, shape, turned, fresh, numbers, items, elements, job)


def memory_order(arrays: Sequence[Described]) -> list[int] | None:
    """The dimensions from the largest stride to the smallest, as in the first operand that is not
    laid out row by row; None where that is the order they have.
    """
    rank = max(len(shape) for shape, _, _ in arrays)
    size = max(math.prod(shape) for shape, _, _ in arrays)
    for shape, strides, dtype in arrays:
        whole = math.prod(shape) == size and len(shape) == rank
        if whole and not in_rows(shape, strides, dtype.itemsize):
            order = sorted(range(rank), key=lambda d: -abs(strides[d]))
            return None if order == list(range(rank)) else order
    return None


def in_rows(shape: tuple[int, ...], strides: tuple[int, ...], step: int) -> bool:
    """Whether an array is laid out row by row without gaps."""
    for n, s in zip(reversed(shape), reversed(strides), strict=True):
        if n != 1 and s != step:
            return False
        step *= n
    return True


def run(
    formulas: tuple[str, ...],
    names: tuple[str, ...],
    arrays: Sequence[ndarray],
    parameters: dict[str, float],
    outputs: tuple[np.dtype, ...],
    out: ndarray | None = None,
    ordered: bool = False,
) -> list[ndarray] | None:
    """The formulas of the operands, each a new array of its type, the first into `out` if that is
    given (one of the operands, of the result's shape); None where there is no kernel for them.

    ordered   lay the results out row by row, not as the operands are, as NumPy does
    """
    plan = plan_for(formulas, names, arrays, parameters, outputs, out, ordered)
    return None if plan is None else execute(plan, arrays, parameters, out)


def plan_for(
    formulas: tuple[str, ...],
    names: tuple[str, ...],
    arrays: Sequence[ndarray],
    parameters: dict[str, float],
    outputs: tuple[np.dtype, ...],
    out: ndarray | None = None,
    ordered: bool = False,
) -> Plan | None:
    """The plan of a `run`, None where there is no kernel for it."""
    into = -1
    if out is not None:
        into = next((i for i, x in enumerate(arrays) if x is out), -1)
        apart = all(x is out or not np.may_share_memory(x, out) for x in arrays)
        if into < 0 or not apart or not out.flags.c_contiguous:
            return None
    described = tuple([(x.shape, x.strides, x.dtype) for x in arrays])
    return plan_of(formulas, names, tuple(parameters), outputs, described, into, ordered)


def execute(
    plan: Plan, arrays: Sequence[ndarray], parameters: dict[str, float], out: ndarray | None
) -> list[ndarray]:
    """The results of a plan on arrays."""
    fresh = [np.empty(plan.shape, d) for d in plan.fresh]
    job = plan.job
    if job is None:
        numbers = [*plan.numbers, *parameters.values()]
        job = plan.kernel.prepare(numbers, plan.items, plan.elements)
    launch(plan.kernel.at(plan.elements), *job, *fresh, *arrays)
    if plan.turned is not None:
        return [y.transpose(plan.turned) for y in fresh]
    return fresh if out is None else [out, *fresh]


# -- transposed copies -------------------------------------------------------------------------


def transposed(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
    """y[a, r, c] = x[a, r, c] where x has large strides; a block of SIDE rows is an item, and of
    each SIDE columns at a time are read, so that cache lines are used whole.
    """
    y, x = pointers
    blocks, rows, columns, step_a, step_r, step_c = numbers
    loops = Loops()
    block = loops(start, stop)
    a, first = outer_and_middle(block, blocks)
    strip = loops(0, Node("div", "i64", (columns + (SIDE - 1), constant(SIDE, "i64"))))
    r = loops(first * SIDE, (first * SIDE + SIDE).min(rows))
    c = loops(strip * SIDE, (strip * SIDE + SIDE).min(columns), "vector")
    copy = store(y, (a * rows + r) * columns + c, x.load(a * step_a + r * step_r + c * step_c))
    return [loop(block, loop(strip, loop(r, loop(c, copy))))]


@cache
def transposer(kind: str) -> Kernel:
    """The compiled kernel for an element type."""
    return Kernel("transposed", [kind, kind], ["i64"] * 6, transposed)


def copy_rows(x: ndarray) -> ndarray | None:
    """A copy laid out row by row; None for types and layouts that NumPy copies as well."""
    made = run(("x",), ("x",), [x], {}, (x.dtype,), ordered=True)
    if made is not None:
        return made[0]
    if x.dtype not in DTYPES or any(s % x.itemsize for s in x.strides):
        return None
    steps = [tuple(s // x.itemsize for s in x.strides)]
    sizes, (strides,) = merge(x.shape, steps)
    if not 2 <= len(sizes) <= 3 or min(sizes[-2:]) < SHORTEST_ROW or strides[-2] != 1:
        return None
    (a, rows, columns), (step_a, step_r, step_c) = (
        [*[fill] * (3 - len(v)), *v] for v, fill in ((sizes, 1), (strides, 0))
    )
    y = np.empty(x.shape, x.dtype)
    blocks = -(-rows // SIDE)
    numbers = [blocks, rows, columns, step_a, step_r, step_c]
    transposer(DTYPES[x.dtype])([y, x], numbers, a * blocks, SIDE * columns)
    return y
