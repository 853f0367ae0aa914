"""Compiled calls that read at indices in tensors: embedding, index_select. Imports
described, filled, objects and core.
"""

from __future__ import annotations

from ...core.graph import GENERAL
from ..native.emit import Function, Module, Value, Variable
from .described import completed
from .objects import ITEM_SIZES, MOST_DIMS, SMALL, Scope, begin, begin_core

# Name of a core -> the parameters of the function, and of the operator.
LOOKUPS = {
    "embedding": ("input weight padding_idx max_norm norm_type scale_grad_by_freq sparse",
                  "padding_idx by_frequency"),
    "index_select": ("input dim index", "dims"),
}  # fmt: skip


def numbers(s: Scope, tensor: Value) -> tuple[Value, Value]:
    """The array of a few int64 that lie row by row, and how many they are."""
    index = s.array(tensor)
    count = s.count(index)
    s.require(s.is_object(s.descriptor(index), "I64"))
    s.require(s.both(s.contiguous(index), s.both(count > 0, count <= SMALL)))
    return index, count


def write_bytes_of(module: Module) -> None:
    """`bytes_of(array)`: the bytes of an element, 0 for other types than the common ones."""
    s = begin(module, "bytes_of", "i64", x="ptr")
    found = s.f.variable("i64", 0)
    for name, size in ITEM_SIZES.items():
        is_it = s.is_object(s.descriptor(s.f["x"]), name)
        found.set(s.f.select(is_it, s.number(size), found.get()))
    s.f.ret(found.get())


def item_size(s: Scope, x: Value) -> Value:
    """The bytes of an element; gives up on other types than the common ones."""
    found = s.f.call("i64", "bytes_of", x)
    s.require(found > 0)
    return found


class Odometer:
    """Counts through the rows of a shape in memory, all dimensions but the last, in a loop. A step
    in dimension d moves a place by `distances[d]`.
    """

    def __init__(self, f: Function, rank: Value, sizes: Value, distances: Value) -> None:
        self.f, self.rank, self.sizes, self.distances = f, rank, sizes, distances
        self.at = f.buffer(8 * MOST_DIMS, 8)
        with f.loop(0, rank) as i:
            f.store(f.constant("i64", 0), self.at, i)

    def step(self, place: Variable) -> None:
        """Moves a place on to the next row."""
        f = self.f
        dim, going = f.variable("i64", self.rank - 2), f.variable("i1", 1)
        with f.forever() as leave:
            over = f.emit("i1", f"or {dim.get() < 0}, {going.get().equals(0).name}")
            with f.when(over, leave):
                pass
            d, distance = dim.get(), f.load("i64", self.distances, dim.get())
            now = f.load("i64", self.at, d) + 1
            around = now.equals(f.load("i64", self.sizes, d))
            f.store(f.select(around, f.constant("i64", 0), now), self.at, d)
            place.set(place.get() + distance - f.select(around, distance * now, 0))
            going.set(around)
            dim.set(d - 1)


def check_range(s: Scope, index: Value, count: Value, size: Value) -> None:
    """Gives up where an index is negative or too large."""
    f, good = s.f, s.f.variable("i1", 1)
    with f.loop(0, count) as i:
        at = f.load("i64", s.memory(index), i)
        good.set(s.both(good.get(), s.both(at >= 0, at < size)))
    s.require(good.get())


def copy_rows(
    s: Scope, x: Value, y: Value, index: Value, count: Value, outer: Value, size: Value, row: Value
) -> None:
    """y (outer, count, row) of x (outer, size, row) at the indices, `row` in bytes."""
    f = s.f
    with f.loop(0, outer) as o, f.loop(0, count) as i:
        at = f.load("i64", s.memory(index), i)
        source = f.at(s.memory(x), (o * size + at) * row)
        f.call("ptr", "memcpy", f.at(s.memory(y), (o * count + i) * row), source, row)


def write_embedding(module: Module) -> None:
    """`embedding(context, (input, weight, padding_idx, max_norm, norm_type, by_frequency, any))`
    where nothing is scaled.
    """
    s = begin_core(module, "embedding")
    f, weight = s.f, s.needed(1)
    w, kind = s.floats(weight)
    index, count = numbers(s, s.needed(0))
    s.require(s.both(s.contiguous(w), s.rank(w).equals(2)))
    s.require(s.is_missing(s.given(3)))
    s.require(s.either(s.given(5).equals(s.null()), s.is_object(s.given(5), "False")))
    mode = s.mode()
    s.require(mode.differs(GENERAL))
    rows, width = f.load("i64", s.sizes(w)), f.load("i64", s.sizes(w), 1)
    s.require(s.both(width <= SMALL, count * width <= SMALL))
    check_range(s, index, count, rows)
    padding, given = f.variable("ptr", s.object("None")), s.given(2)
    with f.when(s.is_missing(given).equals(0)):
        number = s.integer(given)
        s.require(s.both(number >= 0, number < rows))
        padding.set(given)
    rank = f.convert("sext", s.rank(index), "i64")
    s.require(rank < MOST_DIMS)
    sizes = f.buffer(8 * MOST_DIMS, 8)
    with f.loop(0, rank) as k:
        f.store(f.load("i64", s.sizes(index), k), sizes, k)
    f.store(width, sizes, rank)
    y = s.new_array(kind, f.convert("trunc", rank + 1, "i32"), sizes)
    copy_rows(s, w, y, index, count, s.number(1), rows, width * item_size(s, w))
    values = [s.hold(padding.get()), s.hold(s.object("False"))]
    f.ret(completed(s, mode, y, [weight, s.given(0)], values))
    s.end()


def along(s: Scope) -> tuple[Value, Value, Value, Value]:
    """The array of a small tensor that lies row by row, its rank, the dimension and the mode."""
    f, x = s.f, s.array(s.needed(0))
    mode, rank = s.mode(), f.convert("sext", s.rank(x), "i64")
    s.require(s.both(s.contiguous(x), mode.differs(GENERAL)))
    given = s.integer(s.needed(1))
    dim = f.select(given < 0, given + rank, given)
    s.require(s.both(s.both(dim >= 0, dim < rank), rank < MOST_DIMS))
    return x, rank, dim, mode


def write_index_select(module: Module) -> None:
    """`index_select(context, (input, dim, index))`."""
    s = begin_core(module, "index_select")
    f = s.f
    x, rank, dim, mode = along(s)
    index, count = numbers(s, s.needed(2))
    s.require(s.rank(index).equals(1))
    size = f.load("i64", s.sizes(x), dim)
    check_range(s, index, count, size)
    sizes, outer, inner = f.buffer(8 * MOST_DIMS, 8), f.variable("i64", 1), f.variable("i64", 1)
    with f.loop(0, rank) as k:
        have = f.load("i64", s.sizes(x), k)
        f.store(f.select(k.equals(dim), count, have), sizes, k)
        outer.set(f.select(k < dim, outer.get() * have, outer.get()))
        inner.set(f.select(k > dim, inner.get() * have, inner.get()))
    total = outer.get() * inner.get()
    s.require(s.both(total <= SMALL, total * count <= SMALL))
    bytes = item_size(s, x)
    y = s.new_array(s.descriptor(x), s.rank(x), sizes)
    copy_rows(s, x, y, index, count, outer.get(), size, inner.get() * bytes)
    dims = s.tuple_of(f.call("ptr", "PyLong_FromSsize_t", dim))
    f.ret(completed(s, mode, y, [s.given(0), s.given(2)], [dims]))
    s.end()


SHARED = (write_bytes_of, write_embedding, write_index_select)
