"""Values added to, or put at, places that an index names: gradients of look-ups, and scatter. May
import definitions, index, kernels and ir.

Each tile owns a stretch of one dimension that the index does not touch, clears it (or copies the
base there) and then goes through the source in order, so that the result does not depend on
threads.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir.node import (
    INTS,
    Node,
    constant,
    loop,
    loop_range,
    parameter,
    program,
    store,
    where as choose,
)
from ..trace.graph import Step, Value, contiguous_strides
from .definitions import Definitions, Place
from .kernels import Buffer, Generated, Kernel
from .scalar import IR_TYPES

Buffers = Callable[[Value], Buffer]
WIDTH = 64  # elements of the innermost dimension that a tile owns


class Scatter:
    """One such step: loops over the source's dimensions, one of them the result's `dim`.

    axes   for each dimension of the source: the result's dimension that it runs along, or None for
           the dimensions of the index
    """

    def __init__(self, step: Step, source: Value, index: Value, base: Value | None) -> None:
        self.step, self.source, self.index, self.base = step, source, index, base
        self.out = step.outputs[0]
        self.skip: int | None = step.params.get("padding_idx")
        name = step.op.name
        rank, depth = len(source.shape), len(index.shape)
        if name in ("scatter", "scatter_add"):
            self.dim = step.params["dim"]
            self.axes: list[int | None] = list(range(rank))
            self.places = list(range(rank))  # the source's dimensions along which the index runs
            self.axes[self.dim] = None
        else:
            self.dim = step.params.get("dims", (0,))[0]
            after = range(self.dim + 1, len(self.out.shape))
            self.axes = [*range(self.dim), *[None] * depth, *after]
            self.places = list(range(self.dim, self.dim + depth))
        self.adds = name != "scatter"

    def owner(self) -> int | None:
        """The source's dimension that is divided among tiles: the last, or else the largest, one
        that runs along the whole of a dimension of the result.
        """
        free = [
            d
            for d, axis in enumerate(self.axes)
            if axis is not None and self.source.shape[d] == self.out.shape[axis] > 1
        ]
        last = len(self.axes) - 1
        if last in free and self.source.shape[last] % WIDTH == 0:
            return last
        return max(free, key=lambda d: self.source.shape[d], default=None)


def element(pointer: Node, place: Place, positions: list[Node]) -> Node:
    """The element of a value at a position."""
    index = constant(place.offset, "i64")
    for position, stride in zip(positions, place.strides, strict=True):
        index = index + position * stride
    return pointer.load(index)


def scatter(definitions: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """The kernel of a step; None for types and forms that it does not cover."""
    if step.params.get("by_frequency") or len(step.params.get("dims", (0,))) != 1:
        return None
    values = [v for v in step.inputs if v is not None]
    name = step.op.name
    with_base = name in ("scatter", "scatter_add")
    base = values[0] if with_base else None
    index, source = (values[1], values[2]) if with_base else (values[1], values[0])
    out = step.outputs[0]
    kind = IR_TYPES.get(out.dtype, "")
    covered = kind in ("f32", "f64", "i64", "i32") and IR_TYPES.get(index.dtype) in INTS
    if not covered or source.dtype != out.dtype or 0 in (source.size, out.size):
        return None
    work = Scatter(step, source, index, base)
    return [kernel(work, definitions, buffer, kind)]


def kernel(work: Scatter, definitions: Definitions, buffer: Buffers, kind: str) -> Kernel:
    """Loops over the owned part: clear or copy it, then go through the source."""
    out, source, index, base = work.out, work.source, work.index, work.base
    operands = [out, source, index, *([base] if base is not None else [])]
    places = [definitions.place(v) for v in operands]
    roots = [p.root for p in places if p is not None]
    pointers = [parameter(i, f"*{IR_TYPES[root.dtype]}") for i, root in enumerate(roots)]
    begin, end = (parameter(len(roots) + i, "i64") for i in range(2))
    owner = work.owner()
    split = owner == len(work.axes) - 1 and source.shape[owner] % WIDTH == 0
    if owner is None:
        extent = 1
    else:
        extent = source.shape[owner] // WIDTH if split else source.shape[owner]
    outer = loop_range(begin, end, 0)

    def owned(number: int) -> tuple[Node | None, Node]:
        """The loop over the tile's part of the owned dimension, if it is one, and the position."""
        if not split:
            return None, outer
        inner = loop_range(0, WIDTH, number)
        return inner, outer * WIDTH + inner

    axis = None if owner is None else work.axes[owner]
    cleared = clear(work, pointers, places, axis, owned(50), kind)
    moved = move(work, pointers, places, owner, owned(99), kind)
    code = loop(outer, cleared, moved)
    signature = [p.dtype for p in pointers] + ["i64", "i64"]
    tiles = max(1, min(extent, int((out.size + source.size) / 2e4)))
    buffers = tuple(buffer(root) for root in roots)
    made = Generated(program("kernel", signature, code), buffers, extent, tiles)
    name = work.step.op.name
    reads = tuple(dict.fromkeys(buffers[1:]))
    return Kernel(name, (name,), reads, (buffers[0],), made)


Owned = tuple[Node | None, Node]


def nested(ranges: list[Node], body: Node) -> Node:
    """A statement inside loops, the first outermost."""
    for each in reversed(ranges):
        body = loop(each, body)
    return body


def clear(
    work: Scatter, pointers: list[Node], places: list, axis: int | None, owned: Owned, kind: str
) -> Node:
    """The owned part of the result set to the base, or to zero."""
    ranges: list[Node] = []
    positions: list[Node] = []
    for d, n in enumerate(work.out.shape):
        if d == axis:
            inner, position = owned
        else:
            inner = position = loop_range(0, n, 10 + d)
        positions.append(position)
        ranges += [inner] if inner is not None else []
    zero = constant(0, kind)
    value = zero if work.base is None else element(pointers[3], places[3], positions)
    return nested(ranges, store(pointers[0], flat(positions, work.out.shape), value))


def flat(positions: list[Node], shape: tuple[int, ...]) -> Node:
    """The number of an element of a contiguous array."""
    index = constant(0, "i64")
    for position, stride in zip(positions, contiguous_strides(shape), strict=True):
        index = index + position * stride
    return index


def move(
    work: Scatter, pointers: list[Node], places: list, owner: int | None, owned: Owned, kind: str
) -> Node:
    """Each element of the source added to, or put at, its place."""
    ranges: list[Node] = []
    at: list[Node] = []
    for d, n in enumerate(work.source.shape):
        if d == owner:
            inner, position = owned
        else:
            inner = position = loop_range(0, n, 60 + d)
        at.append(position)
        ranges += [inner] if inner is not None else []
    found = element(pointers[2], places[2], [at[d] for d in work.places]).cast("i64")
    rows = work.out.shape[work.dim]
    valid = found if work.skip is None else choose(found.equals(work.skip), found * 0, found)
    named = choose(valid < 0, valid + rows, valid).max(0).min(rows - 1)
    target = [named] * len(work.out.shape)
    for d, axis in enumerate(work.axes):
        if axis is not None:
            target[axis] = at[d]
    place = flat(target, work.out.shape)
    value = element(pointers[1], places[1], at)
    if work.skip is not None:
        value = choose(found.equals(work.skip), constant(0, kind), value)
    if work.adds:
        value = pointers[0].load(place) + value
    return nested(ranges, store(pointers[0], place, value))
