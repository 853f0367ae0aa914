"""Reductions: which dimensions of the source stay, and how large ones fall into fixed blocks. May
import maps, scalar, graph and ir.

A pattern lists the source's dimensions from the outermost, neighbours of one kind joined:
((size, kept), ...). What is summed is cut into blocks by size alone, and the blocks' results are
added in order, so results are the same bits for any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod
from typing import NamedTuple

import numpy as np

from ..ir.formula import Unsupported
from ..ir.node import FLOATS, Node, constant, reduction_identity, where
from ..trace.graph import Step, Value
from .index import Index, count, digits
from .scalar import rounded, value_type
from .values import Map, Reader

Pattern = tuple[tuple[int, bool], ...]
SPLIT_FROM = 1 << 15  # elements: less is done by one tile
MOST_BLOCKS = 32


class Reduction(NamedTuple):
    """An element is `kind` over the dimensions of the source that are not kept."""

    source: Value
    pattern: Pattern
    kind: str
    dtype: np.dtype  # of the result
    prepare: Callable[[Node], Node]  # from an element of the source to what is reduced


def pattern_of(shape: tuple[int, ...], dims: tuple[int, ...]) -> Pattern:
    """The dimensions of a shape, those in `dims` reduced; of size 1 left out, neighbours joined.

    >>> pattern_of((2, 3, 1, 4), (0, 1))
    ((6, False), (4, True))
    """
    joined: list[tuple[int, bool]] = []
    for d, n in enumerate(shape):
        kept = d not in dims
        if n == 1:
            continue
        if joined and joined[-1][1] == kept:
            joined[-1] = (joined[-1][0] * n, kept)
        else:
            joined.append((n, kept))
    return tuple(joined)


def kept_size(pattern: Pattern) -> int:
    """How many results there are."""
    return prod(n for n, kept in pattern if kept)


def is_column(pattern: Pattern) -> bool:
    """Whether what is reduced lies outside the innermost dimension."""
    return len(pattern) > 1 and pattern[-1][1] and pattern[-1][0] > 1


# -- the operators -----------------------------------------------------------------------------


def same(x: Node) -> Node:
    """The element itself."""
    return x


def whole(x: Node) -> Node:
    """Truth values and integers count as int64."""
    return x if x.dtype in FLOATS else x.cast("i64")


def is_true(x: Node) -> Node:
    """Not zero."""
    return x if x.dtype == "bool" else x.differs(0)


KINDS: dict[str, tuple[str, Callable[[Node], Node]]] = {
    "sum": ("add", whole),
    "prod": ("mul", whole),
    "amax": ("max", same),
    "amin": ("min", same),
    "max": ("max", same),
    "min": ("min", same),
    "all": ("min", is_true),
    "any": ("max", is_true),
    "count_nonzero": ("add", lambda x: is_true(x).cast("i64")),
}


def reduced_dims(step: Step) -> tuple[int, ...]:
    """The dimensions a step reduces, from the front."""
    (source,) = step.inputs
    assert source is not None
    dim, ndim = step.params.get("dim"), len(source.shape)
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    return tuple(d % ndim for d in dims) if ndim else ()


def reduction(step: Step) -> Reduction | Map | None:
    """The reduction that a step is, a map where it is over nothing, or None."""
    if step.op.name not in KINDS or len(step.outputs) != 1:
        return None
    (source,), (out,) = step.inputs, step.outputs
    assert source is not None
    kind, prepare = KINDS[step.op.name]
    try:
        value_type(source.dtype), value_type(out.dtype)
    except Unsupported:
        return None
    pattern = pattern_of(source.shape, reduced_dims(step))
    if kept_size(pattern) != out.size or (out.dtype == np.uint8):
        return None
    if source.size == 0:
        if kind in ("max", "min") and source.dtype != np.bool_:
            return None  # an error, which the kernel raises
        return over_nothing(kind, out)
    if all(kept for _, kept in pattern):
        return one_each(source, prepare, out)
    return Reduction(source, pattern, kind, out.dtype, prepare)


def over_nothing(kind: str, out: Value) -> Map:
    """A reduction without elements."""
    identity = reduction_identity(kind, value_type(out.dtype))
    return Map(lambda reader, index: identity, 0)


def one_each(source: Value, prepare: Callable[[Node], Node], out: Value) -> Map:
    """A reduction of single elements."""

    def element(reader: Reader, index: Index) -> Node:
        return rounded(prepare(reader.read(source, index)), out.dtype)

    return Map(element, 1)


# -- extremes of floats ------------------------------------------------------------------------

SIGNS = {"f32": ("i32", 31), "f64": ("i64", 63)}


def as_ordered(x: Node, kind: str) -> Node:
    """A float as an integer of the same order, nan beyond all: integers reduce faster, and LLVM
    does not fold the identity of their extremes into branches.
    """
    bits, sign = SIGNS[x.dtype]
    key = flipped(x.bitcast(bits), sign)
    nan = constant(math.nan, x.dtype).bitcast(bits)
    return where(x.differs(x), nan if kind == "max" else flipped(nan ^ (-1 << sign), sign), key)


def from_ordered(key: Node, dtype: str) -> Node:
    """The float again."""
    return flipped(key, SIGNS[dtype][1]).bitcast(dtype)


def flipped(bits: Node, sign: int) -> Node:
    """All bits but the sign turned where it is set."""
    return bits ^ ((bits >> sign) & ((1 << sign) - 1))


# -- blocks ------------------------------------------------------------------------------------


def blocks_of(pattern: Pattern, chunk: int) -> int:
    """Into how many blocks the outermost reduced dimension is cut; 1: the reduction is small, or
    has enough rows for all threads.
    """
    size = prod(n for n, _ in pattern)
    at = next(i for i, (_, kept) in enumerate(pattern) if not kept)
    rows = kept_size(pattern if not is_column(pattern) else pattern[:at])
    if size < SPLIT_FROM or rows >= 8:
        return 1
    most = min(MOST_BLOCKS // rows, max(size // (SPLIT_FROM // 4), 2))
    length = pattern[at][0]
    fits = [d for d in range(2, most + 1) if length % d == 0 and length // d >= chunk]
    return max(fits, default=1)


def split(found: Reduction, out: Value) -> tuple[Value, Reduction, Map] | None:
    """A large reduction as one of blocks and the sum of their results, or None."""
    if value_type(out.dtype) != value_type(found.dtype) or value_type(out.dtype) == "bool":
        return None
    blocks = blocks_of(found.pattern, 4)
    if blocks == 1:
        return None
    at = next(i for i, (_, kept) in enumerate(found.pattern) if not kept)
    length = found.pattern[at][0] // blocks
    cut = (*found.pattern[:at], (blocks, True), (length, False), *found.pattern[at + 1 :])
    before = prod(n for n, _ in found.pattern[:at])
    after = kept_size(found.pattern[at + 1 :])
    dtype = np.dtype(np.float32) if out.dtype.itemsize == 2 else out.dtype
    partial = Value((before, blocks, after), dtype, f"{out.name}_blocks")
    inner = Reduction(found.source, joined(cut), found.kind, dtype, found.prepare)
    return partial, inner, fold(partial, found.kind, out)


def joined(pattern: Pattern) -> Pattern:
    """Neighbours of one kind as one dimension."""
    result: list[tuple[int, bool]] = []
    for n, kept in pattern:
        if n == 1:
            continue
        if result and result[-1][1] == kept:
            result[-1] = (result[-1][0] * n, kept)
        else:
            result.append((n, kept))
    return tuple(result)


COMBINE: dict[str, Callable[[Node, Node], Node]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "max": lambda a, b: a.max(b),
    "min": lambda a, b: a.min(b),
}


def fold(partial: Value, kind: str, out: Value) -> Map:
    """The blocks' results combined, in pairs of neighbours."""
    before, blocks, after = partial.shape

    def element(reader: Reader, index: Index) -> Node:
        row = digits(index, (before, after), reader.node)
        places = [count(row, (blocks * after, 1), b * after) for b in range(blocks)]
        values = [reader.read(partial, place) for place in places]
        while len(values) > 1:
            pairs = zip(values[::2], values[1::2], strict=False)
            values = [COMBINE[kind](a, b) for a, b in pairs] + values[len(values) // 2 * 2 :]
        return rounded(values[0], out.dtype)

    return Map(element, blocks)
