"""Elements from elsewhere: joins, pads, triangles, look-ups, ranges, parts replaced. May import
values, scalar, index and ir.

They choose or load where their operands are read, so that none of them needs a kernel of its own.
Each function takes a step and returns the function of an element.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, NamedTuple

from ...core.op import OPS
from ..ir.formula import Unsupported
from ..ir.node import FLOATS, INTS, Node, constant, where
from ..trace.graph import Step, Value, contiguous_strides
from . import scalar
from .index import Counter, Index, broadcast, count, digits
from .scalar import value_type
from .values import NO_ALIAS, Reader, place, strided_dummy

# -- elements from elsewhere -------------------------------------------------------------------


def moved(reader: Reader, position: Index, by: int, size: int) -> Index:
    """A position in a dimension, shifted, as a count into another of `size` elements."""
    if not by:
        return position
    return Index(((Counter(reader.node(position.shifted(by)), size), 1),))


def between(x: Node, low: int, high: int) -> Node:
    """low <= x < high."""
    return (x >= low) & (x < high)


def read_at(reader: Reader, value: Value, positions: Sequence[Index]) -> Node:
    """The element at a position."""
    return reader.read(value, count(positions, contiguous_strides(value.shape)))


def cat(step: Step) -> Callable:
    """The operand whose stretch of the dimension holds the index."""
    shape, dim = step.outputs[0].shape, step.params["dim"]
    parts = [v for v in step.inputs if v is not None and v.shape != (0,)]
    if len(parts) > 16:
        raise Unsupported("a long list")
    if len({v.shape for v in parts}) == 1:
        return alike(shape, dim, parts)

    def element(reader: Reader, index: Index) -> Node:
        at = digits(index, shape, reader.node)
        place, end = reader.node(at[dim]), shape[dim]
        result: Node | None = None
        for part in reversed(parts):
            begin = end - part.shape[dim]
            inner = [*at[:dim], moved(reader, at[dim], -begin, part.shape[dim]), *at[dim + 1 :]]
            here = read_at(reader.under(between(place, begin, end)), part, inner)
            result = here if result is None else where(place < end, here, result)
            end = begin
        assert result is not None
        return result

    return element


def alike(shape: tuple[int, ...], dim: int, parts: Sequence[Value]) -> Callable:
    """`cat` of parts of one size: the dimension is seen as (parts, size)."""
    size = parts[0].shape[dim]
    cut = (*shape[:dim], len(parts), size, *shape[dim + 1 :])

    def element(reader: Reader, index: Index) -> Node:
        at = digits(index, cut, reader.node)
        number, inner = reader.node(at[dim]), [*at[:dim], *at[dim + 1 :]]
        result: Node | None = None
        for i, part in reversed(list(enumerate(parts))):
            here = read_at(reader.under(number.equals(i)), part, inner)
            result = here if result is None else where(number.equals(i), here, result)
        assert result is not None
        return result

    element.cut = cut  # type: ignore[attr-defined]
    return element


def stack(step: Step) -> Callable:
    """The operand that the new dimension names."""
    shape, dim = step.outputs[0].shape, step.params["dim"]
    if len(step.inputs) > 16:
        raise Unsupported("a long list")

    def element(reader: Reader, index: Index) -> Node:
        at = digits(index, shape, reader.node)
        place, inner = reader.node(at[dim]), [*at[:dim], *at[dim + 1 :]]
        result: Node | None = None
        for i, part in reversed(list(enumerate(step.inputs))):
            assert part is not None
            here = read_at(reader.under(place.equals(i)), part, inner)
            result = here if result is None else where(place.equals(i), here, result)
        assert result is not None
        return result

    return element


def pad(step: Step) -> Callable:
    """The element inside the borders, else the value."""
    (x,), out = step.inputs, step.outputs[0]
    assert x is not None
    source, pads = x, step.params["pads"]
    lead = len(x.shape) - len(pads)

    def element(reader: Reader, index: Index) -> Node:
        at = digits(index, out.shape, reader.node)
        inside, inner = [], at[:lead]
        for d, (before, after) in enumerate(pads, lead):
            if before > 0 or after > 0:
                inside.append(between(reader.node(at[d]), before, before + source.shape[d]))
            inner.append(moved(reader, at[d], -before, source.shape[d]))
        value = constant(step.params["value"], value_type(out.dtype))
        if not inside:
            return read_at(reader, source, inner)
        mask = reduce(operator.and_, inside)
        return where(mask, read_at(reader.under(mask), source, inner), value)

    return element


def triangle(keep: Callable[[Node, Node], Node]) -> Callable[[Step], Callable]:
    """The elements of matrices on one side of a diagonal, else 0."""

    def make(step: Step) -> Callable:
        (x,) = step.inputs
        assert x is not None
        source = x

        def element(reader: Reader, index: Index) -> Node:
            *_, row, column = digits(index, source.shape, reader.node)
            kept = keep(reader.node(row), reader.node(column) - step.params["diagonal"])
            value = reader.read(source, index)
            return where(kept, value, constant(0, value.dtype))

        return element

    return make


def roll(step: Step) -> Callable:
    """Positions shifted, those beyond the end coming round."""
    (x,) = step.inputs
    assert x is not None
    source = x
    shifts: dict[int, int] = {}
    for by, dim in zip(step.params["shifts"], step.params["dims"], strict=True):
        shifts[dim] = shifts.get(dim, 0) + by

    def element(reader: Reader, index: Index) -> Node:
        at = digits(index, source.shape, reader.node)
        for d, by in shifts.items():
            n = source.shape[d]
            turned = (reader.node(at[d]) + (-by) % n) % n
            at[d] = Index(((Counter(turned, n), 1),))
        return read_at(reader, source, at)

    return element


def repeat(step: Step) -> Callable:
    """Positions modulo the size of what is repeated."""
    (x,), shape = step.inputs, step.outputs[0].shape
    assert x is not None
    source, lead = x, len(shape) - len(x.shape)

    def element(reader: Reader, index: Index) -> Node:
        at = digits(index, shape, reader.node)[lead:]
        for d, n in enumerate(source.shape):
            if n == 1:
                at[d] = Index()
            elif n != shape[lead + d]:
                at[d] = Index(((Counter(reader.node(at[d]) % n, n), 1),))
        return read_at(reader, source, at)

    return element


# -- look-ups ----------------------------------------------------------------------------------


def looked_up(reader: Reader, index: Value, at: Index, size: int) -> tuple[Index, Node]:
    """An index that is loaded, and whether it is valid: negative ones count from the end, and none
    leads out of bounds.
    """
    loaded = reader.read(index, at)
    if loaded.dtype not in INTS:
        raise Unsupported("an index of truth values")
    loaded = loaded.cast("i64")
    loaded = where(loaded < 0, loaded + size, loaded)
    inside = Index(((Counter(loaded.max(0).min(size - 1), size), 1),))
    return inside, between(loaded, 0, size)


def or_nan(valid: Node, value: Node) -> Node:
    """A float that was looked up in vain is nan, so that a wrong index shows in what is computed;
    eager calls raise IndexError.
    """
    return where(valid, value, constant(math.nan, value.dtype)) if value.dtype in FLOATS else value


def gather(step: Step) -> Callable:
    """x at the index along one dimension and at the place itself along the others."""
    x, index = step.inputs
    assert x is not None and index is not None
    source, places, dim = x, index, step.params["dim"]

    def element(reader: Reader, at: Index) -> Node:
        positions = digits(at, places.shape, reader.node)
        positions[dim], valid = looked_up(reader, places, at, source.shape[dim])
        return or_nan(valid, read_at(reader, source, positions))

    return element


def take(step: Step) -> Callable:
    """x at an index over one dimension, whose place the index's dimensions take."""
    x, index = step.inputs
    assert x is not None and index is not None
    dims = step.params.get("dims", (0,))
    if len(dims) != 1 or index.dtype.kind not in "iu":
        raise Unsupported("an index over several dimensions")
    source, rows, dim, depth = x, index, dims[0], len(index.shape)
    shape = step.outputs[0].shape

    def element(reader: Reader, at: Index) -> Node:
        positions = digits(at, shape, reader.node)
        inner = count(positions[dim : dim + depth], contiguous_strides(rows.shape))
        chosen, valid = looked_up(reader, rows, inner, source.shape[dim])
        place = [*positions[:dim], chosen, *positions[dim + depth :]]
        return or_nan(valid, read_at(reader, source, place))

    return element


# -- values from nothing -----------------------------------------------------------------------


def full(step: Step) -> Callable:
    """One value; new memory without content is zeros here."""
    dtype, value = value_type(step.outputs[0].dtype), step.params.get("value", 0)
    if isinstance(value, complex):
        raise Unsupported("complex numbers")
    same = scalar.rounded(constant(value, dtype), step.outputs[0].dtype)
    return lambda reader, index: same


def arange(step: Step) -> Callable:
    """start + step * index, for integers."""
    start, by, dtype = step.params["start"], step.params["step"], step.outputs[0].dtype
    if dtype.kind != "i":
        raise Unsupported("a range of floats")
    kind = value_type(dtype)
    return lambda reader, index: (reader.node(index) * int(by) + int(start)).cast(kind)


def eye(step: Step) -> Callable:
    """1 on the diagonal."""
    out = step.outputs[0]

    def element(reader: Reader, index: Index) -> Node:
        row, column = digits(index, out.shape, reader.node)
        return reader.node(row).equals(reader.node(column)).cast(value_type(out.dtype))

    return element


def fill(step: Step) -> Callable:
    """The value everywhere."""
    value, out = step.inputs[1], step.outputs[0]
    assert value is not None
    return lambda reader, index: reader.read(
        value, broadcast(index, out.shape, value.shape, reader.node)
    ).cast(value_type(out.dtype))


# -- parts replaced ----------------------------------------------------------------------------


class Part(NamedTuple):
    """A regular part of an array: for each dimension of the array its first position, the step and
    the dimension of the part that runs along it (None: a single position).
    """

    dims: tuple[tuple[int, int, int | None], ...]


def part_of(base: tuple[int, ...], chain: Sequence[tuple[Any, dict]]) -> tuple[Part, tuple]:
    """The part that a chain of views shows, and its shape; raises Unsupported if irregular."""
    dummy = strided_dummy(base)
    view = dummy
    for op, params in chain:
        if op.name in NO_ALIAS:
            raise Unsupported(op.name)
        view = op.kernel(view, **params)
    offset, strides = place(view, dummy)
    found: list[tuple[int, int, int | None]] = []
    runs = {k: s for k, (s, n) in enumerate(zip(strides, view.shape, strict=True)) if n > 1}
    for size, stride in zip(base, contiguous_strides(base), strict=True):
        along = [k for k, s in runs.items() if s % stride == 0 and abs(s) < stride * size]
        if len(along) > 1 or any(runs[k] < 0 for k in along):
            raise Unsupported("a part that is folded")
        first = offset // stride % size
        if along:
            k = along[0]
            by = runs.pop(k) // stride
            if first + by * (view.shape[k] - 1) >= size:
                raise Unsupported("a part that is folded")
            found.append((first, by, k))
        else:
            found.append((first, 1, None))
    if runs:
        raise Unsupported("a part with repeated elements")
    return Part(tuple(found)), view.shape


def scatter_view(step: Step) -> Callable:
    """The source inside a part of the base, else the base."""
    base, source = step.inputs
    assert base is not None and source is not None
    chain = step.params.get("chain") or ((step.params["view"], step.params["at"]),)
    return replaced(base.shape, source, chain, base)


def embed(step: Step) -> Callable:
    """The source inside a part, else zero."""
    (source,), shape = step.inputs, step.outputs[0].shape
    assert source is not None
    return replaced(shape, source, ((OPS["index_view"], {"index": step.params["index"]}),), None)


def replaced(
    whole: tuple[int, ...], source: Value, chain: Sequence[tuple[Any, dict]], base: Value | None
) -> Callable:
    """The source inside the part that a chain of views shows; outside, the base or zero."""
    part, shape = part_of(whole, chain)

    def element(reader: Reader, index: Index) -> Node:
        if 0 in shape:
            zero = constant(0, value_type(source.dtype))
            return zero if base is None else reader.read(base, index)
        mask, written = position_in(reader, index, whole, part, shape)
        at_source = broadcast(written, shape, source.shape, reader.node)
        if not mask:
            return reader.read(source, at_source)
        inside = reduce(operator.and_, mask)
        new = reader.under(inside).read(source, at_source)
        outside = constant(0, new.dtype) if base is None else reader.read(base, index)
        return where(inside, new, outside)

    return element


def position_in(
    reader: Reader, index: Index, whole: tuple[int, ...], part: Part, shape: tuple[int, ...]
) -> tuple[list[Node], Index]:
    """Whether an element of the whole is in the part (all these hold), and its index there."""
    mask: list[Node] = []
    positions = [Index()] * len(shape)
    at = digits(index, whole, reader.node)
    for digit, n, (first, by, k) in zip(at, whole, part.dims, strict=True):
        place, length = reader.node(digit), 1 if k is None else shape[k]
        if length * by < n or first:
            mask.append(between(place, first, first + by * (length - 1) + 1))
        if by > 1:
            mask.append(((place - first) % by).equals(0))
        if k is not None:
            away = (place - first) // by if by > 1 else place - first
            plain = by == 1 and not first
            positions[k] = digit if plain else Index(((Counter(away, length), 1),))
    return mask, count(positions, contiguous_strides(shape))


# Per operator: a function of the step that returns the element's function, and its rough cost.
MAPS: dict[str, tuple[Callable[[Step], Callable], int]] = {
    "cat": (cat, 4),
    "stack": (stack, 4),
    "constant_pad_nd": (pad, 4),
    "tril": (triangle(lambda row, column: row >= column), 2),
    "triu": (triangle(lambda row, column: row <= column), 2),
    "roll": (roll, 4),
    "repeat": (repeat, 4),
    "gather": (gather, 6),
    "index_select": (take, 6),
    "index": (take, 6),
    "take": (take, 6),
    "embedding": (take, 6),
    "full": (full, 0),
    "empty": (full, 0),
    "arange": (arange, 1),
    "eye": (eye, 1),
    "fill": (fill, 0),
    "embed": (embed, 6),
    "scatter_view": (scatter_view, 6),
    "view_scatter": (scatter_view, 6),
}
