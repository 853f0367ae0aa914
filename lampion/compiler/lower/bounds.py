"""Adds a check for every index that a graph reads or writes with. May import graph, stages and
core.

Operators check their indices in Python, on the values that they are traced with; a program has to
do it at every call. A check of what the call is given comes first of all, others where their index
is made, and the program keeps what it writes until all have passed (see placement).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ...core.op import Op
from ..native.stages import CheckFailed
from ..trace.graph import Graph, Step, Value


def check_kernel(
    index: ndarray, sizes: tuple[int, ...], negative: bool, skip: int | None
) -> ndarray:
    """0 for an index inside of dimensions of these sizes (for several, the index is stacked along
    its first dimension); raises CheckFailed for another.
    """
    for row, size in zip(index if len(sizes) > 1 else [index], sizes, strict=True):
        wrong = (row < (-size if negative else 0)) | (row >= size)
        if skip is not None:
            wrong &= row != skip
        if wrong.any():
            raise CheckFailed(
                f"[compile] index {row[wrong].flat[0]} is out of bounds for size {size}"
            )
    return np.zeros((), np.int64)


CHECK = Op("check_index", ("index",), check_kernel)


# -- what operators allow ------------------------------------------------------------------------


class Rule(NamedTuple):
    """The indices that an operator allows in its second input: below the sizes, of which there are
    as many as indexed dimensions, and from 0 or (`negative`) from -size on.
    """

    sizes: Callable[[tuple[int, ...], dict[str, Any]], tuple[int, ...]]
    negative: bool = False


def first(shape: tuple[int, ...], params: dict[str, Any]) -> tuple[int, ...]:
    """Rows of a table."""
    return shape[:1]


def classes(shape: tuple[int, ...], params: dict[str, Any]) -> tuple[int, ...]:
    """The dimension of a classifier's results."""
    return shape[1:2]


def one(shape: tuple[int, ...], params: dict[str, Any]) -> tuple[int, ...]:
    """The dimension `dim`."""
    return (shape[params["dim"]],)


def several(shape: tuple[int, ...], params: dict[str, Any]) -> tuple[int, ...]:
    """The dimensions `dims`."""
    return tuple(shape[d] for d in params["dims"])


RULES = {
    "embedding": Rule(first),
    **dict.fromkeys(("cross_entropy", "nll_loss"), Rule(classes)),
    **dict.fromkeys(("gather", "scatter", "scatter_add", "scatter_reduce"), Rule(one)),
    **dict.fromkeys(("index_select", "index_add", "index_copy"), Rule(several)),
    **dict.fromkeys(("index", "take", "index_put", "index_fill"), Rule(several, negative=True)),
}


# -- what is known of values ---------------------------------------------------------------------


def span(graph: Graph) -> dict[Value, tuple[int, int]]:
    """The smallest and largest element that some integer values can have."""
    found: dict[Value, tuple[int, int]] = {}
    for item in graph.inputs:
        if item.data is not None and item.data.dtype.kind in "iu" and item.data.size:
            found[item.value] = int(item.data.min()), int(item.data.max())
    for step in graph.steps:
        params, name, source = step.params, step.op.name, next(iter(step.inputs), None)
        if (step.op.view or name in MOVES) and source in found:
            found.update(dict.fromkeys(step.outputs, found[source]))
        elif name == "arange" and step.outputs[0].size and step.outputs[0].dtype.kind == "i":
            begin = int(params["start"])
            end = begin + (step.outputs[0].size - 1) * int(params["step"])
            found[step.outputs[0]] = min(begin, end), max(begin, end)
        elif name in PLACES or step.op.kind == "selection":
            assert source is not None
            dim = params["dim"]
            size = source.size if dim is None else (source.shape or (1,))[dim]
            found[step.outputs[-1]] = 0, size - 1
    return found


MOVES = {"clone", "contiguous"}  # make a value with the elements of another
PLACES = {"argmax", "argmin", "argsort"}  # give indices into their input


def is_safe(step: Step, known: dict[Value, tuple[int, int]]) -> bool:
    """Whether a check is of no use."""
    (index,) = step.inputs
    assert index is not None
    low, high = known.get(index, (-1 << 63, 1 << 63))
    smallest = min(step.params["sizes"])
    return not index.size or (low >= -smallest * step.params["negative"] and high < smallest)


# -- the pass ------------------------------------------------------------------------------------


def check_of(step: Step) -> Step | None:
    """The check of a step's index."""
    rule = RULES.get(step.op.name)
    if rule is None:
        return None
    x, index = step.inputs[:2]
    assert x is not None and index is not None
    if index.dtype.kind not in "iu":
        return None
    params = {
        "sizes": rule.sizes(x.shape, step.params),
        "negative": rule.negative,
        "skip": step.params.get("ignore_index"),
    }
    word = Value((), np.dtype(np.int64), f"{step.outputs[0].name}_check")
    return Step(CHECK, (index,), params, (word,), step.line)


class Early:
    """Views of what the call is given, made again at the beginning of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.known: dict[Value, Value] = {i.value: i.value for i in graph.inputs}
        self.made = {v: step for step in graph.steps for v in step.outputs}
        self.steps: list[Step] = []

    def value(self, value: Value) -> Value | None:
        """The same value at the beginning; None where it takes more than views."""
        step = self.made.get(value)
        if value not in self.known and step is not None and step.op.view:
            (base,) = step.inputs
            assert base is not None
            source = self.value(base)
            if source is not None and len(step.outputs) == 1:
                copy = Value(value.shape, value.dtype, f"{value.name}_early", value.strides)
                self.steps.append(Step(step.op, (source,), step.params, (copy,), step.line))
                self.known[value] = copy
        return self.known.get(value)


def bounds(graph: Graph) -> Graph:
    """The graph with checks; what is known to be inside needs none."""
    known, early = span(graph), Early(graph)
    asked: dict[Any, Step] = {}
    for step in graph.steps:
        check = check_of(step)
        if check is not None and not is_safe(check, known):
            asked.setdefault((check.inputs, repr(check.params)), check)
    waiting: dict[Value, list[Step]] = {}
    for check in asked.values():
        (index,) = check.inputs
        assert index is not None
        source = early.value(index)
        if source is not None:
            early.steps.append(check._replace(inputs=(source,)))
        else:
            waiting.setdefault(index, []).append(check)
    steps = early.steps
    for step in graph.steps:
        steps.append(step)
        for value in step.outputs:
            steps += waiting.get(value, ())
    return Graph(graph.inputs, steps, graph.outputs, graph.writes, graph.name)
