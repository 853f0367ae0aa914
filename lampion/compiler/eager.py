"""Elementwise operators on large arrays: the formula of a record as a kernel. Imports kernel and
formula.

Operands may broadcast and need not be contiguous: dimensions over which all of them move alike are
one, and what is left must be at most three, the innermost with elements side by side or one
element for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from .formula import Unsupported, expression
from .ir import Node, loop, store
from .kernel import Kernel, Loops

DTYPES = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64", np.dtype(bool): "bool"}
FLOATS = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}
SHORTEST_ROW = 16  # elements: below it NumPy's loops are as good


class Layout(NamedTuple):
    """How operands lie in a common shape (a, b, c): the strides of each, in elements."""

    shape: tuple[int, int, int]
    strides: tuple[tuple[int, int, int], ...]
    flat: bool  # each operand has all its elements side by side, or one for all


@lru_cache(4096)
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
            names[name] = operands[i].load(indices[len(form.outputs) + i])
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
    given (and of the right shape and type); None where there is no kernel for them.

    ordered   lay the results out row by row, not as the operands are
    """
    try:
        types = tuple([DTYPES[x.dtype] for x in arrays])
        made = tuple([DTYPES[d] for d in outputs])
    except KeyError:
        return None
    if out is None and not ordered:
        order = memory_order(arrays)
        if order is not None:
            return permuted(order, formulas, names, arrays, parameters, outputs)
    found = layout(
        tuple([x.shape for x in arrays]),
        tuple([x.strides for x in arrays]),
        tuple([x.itemsize for x in arrays]),
    )
    if found is None:
        return None
    into = -1
    shape = np.broadcast_shapes(*[x.shape for x in arrays]) if len(arrays) > 1 else arrays[0].shape
    if out is not None:
        into = next((i for i, x in enumerate(arrays) if x is out), -1)
        if into < 0 or out.shape != shape or not out.flags.c_contiguous:
            return None
        if any(x is not out and np.may_share_memory(x, out) for x in arrays):
            return None
    a, b, c = found.shape
    moves = (True,) * len(outputs) + tuple([s[2] == 1 for s in found.strides])
    form = Form(formulas, names, tuple(parameters), types, made, moves, found.flat, into)
    kernel = kernel_of(form)
    if kernel is None:
        return None
    fresh = [np.empty(shape, d) for d in outputs[into >= 0 :]]
    numbers: list[float] = []
    if not found.flat:
        own = [(b * c, c)] * len(outputs) + [s[:2] for s in found.strides]
        numbers = [b, c, *[step for pair in own for step in pair]]
    numbers += parameters.values()
    if found.flat:
        kernel([*fresh, *arrays], numbers, c, 1)
    else:
        kernel([*fresh, *arrays], numbers, a * b, c)
    return fresh if out is None else [out, *fresh]


def memory_order(arrays: Sequence[ndarray]) -> list[int] | None:
    """The dimensions from the largest stride to the smallest, as in the first operand that is not
    laid out row by row; None where that is the order they have.
    """
    rank = max(x.ndim for x in arrays)
    size = max(x.size for x in arrays)
    for x in arrays:
        if x.size == size and x.ndim == rank and not x.flags.c_contiguous:
            order = sorted(range(rank), key=lambda d: -abs(x.strides[d]))
            return None if order == list(range(rank)) else order
    return None


def permuted(
    order: list[int],
    formulas: tuple[str, ...],
    names: tuple[str, ...],
    arrays: Sequence[ndarray],
    parameters: dict[str, float],
    outputs: tuple[np.dtype, ...],
) -> list[ndarray] | None:
    """`run` in another order of dimensions; results are laid out in that order, as NumPy's are."""
    rank = len(order)
    views = [x.reshape((1,) * (rank - x.ndim) + x.shape).transpose(order) for x in arrays]
    made = run(formulas, names, views, parameters, outputs, ordered=True)
    return None if made is None else [y.transpose(np.argsort(order)) for y in made]
