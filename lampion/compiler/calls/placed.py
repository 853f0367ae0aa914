"""Compiled calls that move elements to places: gather, scatter, scatter_add and index_add, the last
three in place too. Imports described, inplace, lookups, objects and core.

An index of several dimensions is walked row by row; where a row's elements lie in the other tensor
is counted on from row to row. An index out of range is found on the way: the call gives up.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial

from ...core.op import OPS
from ..native.emit import Module, Value
from .described import Described, completed, described
from .inplace import ANY, target, unrecorded
from .lookups import Odometer, along, item_size
from .objects import MOST_DIMS, Scope, begin, begin_core

# What is moved: elements of a size, or numbers that are added.
MOVED = {"i8": 1, "i32": 4, "i64": 8}
ADDED = {"F32": "float", "F64": "double", "I64": "i64"}
# Name of a core -> the operator's record, the function's parameters, those that are recorded.
PLACED = {
    "gather": ("gather", "input dim index", "dim"),
    "scatter": ("scatter", "input dim index src value reduce", "dim"),
    "scatter_": ("scatter", "self dim index src value reduce", "dim"),
    "scatter_add": ("scatter_add", "input dim index src", "dim"),
    "scatter_add_": ("scatter_add", "self dim index src", "dim"),
    "index_add": ("index_add", "input dim index source alpha", "dims accumulate"),
    "index_add_": ("index_add", "self dim index source alpha", "dims accumulate"),
}


class Context(ctypes.Structure):
    """The operator, and what it is called in place."""

    _fields_ = [("described", Described), ("name", ctypes.py_object)]


def context_of(name: str) -> Context:
    """The context of a core."""
    operator, _, parameters = PLACED[name]
    return Context(described(OPS[operator], parameters.split()), name)


# -- loops -----------------------------------------------------------------------------------------

# What a loop is told of its walk, in this order: the rows of the index and their length, the size
# of the dimension that is indexed, the distance of its elements, whether a row goes along with the
# other tensor's last dimension, the distance of the source's elements, the rank. Behind them stand
# the index's sizes, and the distances that a step in each dimension makes in the other tensor.
WALK = ("rows", "length", "size", "step", "own", "spread", "rank")
SIZES, STEPS = len(WALK), len(WALK) + MOST_DIMS


def write_walk(module: Module, name: str, type: str) -> None:
    """`gather_i32(x, y, index, walk)`, ...: whether all indices are in range. `gather` reads x at
    the places into y, `put` writes y there, `add` adds it.
    """
    f = module.function(f"{name}_{type}", "i1", True, x="ptr", y="ptr", index="ptr", walk="ptr")
    rows, length, size, step, own, spread, rank = (f.load("i64", f["walk"], i) for i in range(7))
    sizes, steps = (f.at(f["walk"], i, "i64") for i in (SIZES, STEPS))
    rows_on = Odometer(f, rank, sizes, steps)
    base, good = f.variable("i64", 0), f.variable("i1", 1)
    with f.loop(0, rows) as row:
        start = row * length
        with f.loop(0, length) as j:
            given = f.load("i64", f["index"], start + j)
            inside = f.emit("i1", f"icmp ult {given}, {size.name}")
            good.set(f.emit("i1", f"and {good.get()}, {inside.name}"))
            place = base.get() + f.select(inside, given, 0) * step + j * own
            other = (start + j) * spread
            if name == "gather":
                f.store(f.load(type, f["x"], place), f["y"], other)
            else:
                value = f.load(type, f["y"], other)
                value = f.load(type, f["x"], place) + value if name == "add" else value
                f.store(value, f["x"], place)
        rows_on.step(base)
    f.ret(good.get())


def write_add_rows(module: Module) -> None:
    """`add_rows_F32(x, y, index, outer, size, count, inner)`: y (outer, count, inner) added to x
    (outer, size, inner) at the indices of its middle dimension.
    """
    names = dict.fromkeys(("outer", "size", "count", "inner"), "i64")
    for kind, type in ADDED.items():
        f = module.function(
            f"add_rows_{kind}", "void", True, x="ptr noalias", y="ptr noalias", index="ptr", **names
        )
        outer, size, count, inner = (f[n] for n in names)
        with f.loop(0, outer) as o, f.loop(0, count) as i:
            to = f.at(f["x"], (o * size + f.load("i64", f["index"], i)) * inner, type)
            row = f.at(f["y"], (o * count + i) * inner, type)
            with f.loop(0, inner) as c:
                f.store(f.load(type, to, c) + f.load(type, row, c), to, c)
        f.ret()


# -- cores -----------------------------------------------------------------------------------------


def write_plan_walk(module: Module) -> None:
    """`plan_walk(x, index, dim, spread, walk)`: writes how the index walks through x; the walk, or
    null where the index is empty or larger than x in another dimension.
    """
    s = begin(module, "plan_walk", "ptr", x="ptr", index="ptr", dim="i64", spread="i64", walk="ptr")
    f, x, index, dim, walk = s.f, *(s.f[n] for n in ("x", "index", "dim", "walk"))
    rank, bytes = f.convert("sext", s.rank(x), "i64"), item_size(s, x)
    length, total = f.load("i64", s.sizes(index), rank - 1), s.count(index)
    s.require(total > 0)
    with f.loop(0, rank) as k:
        size, here = f.load("i64", s.sizes(index), k), k.equals(dim)
        s.require(s.either(size <= f.load("i64", s.sizes(x), k), here))
        f.store(size, walk, k + SIZES)
        distance = f.load("i64", s.steps(x), k) / bytes
        f.store(f.select(here, s.number(0), distance), walk, k + STEPS)
    last = dim.equals(rank - 1)
    step = f.select(last, s.number(1), f.load("i64", s.steps(x), dim) / bytes)
    own = f.select(last, s.number(0), 1)
    size = f.load("i64", s.sizes(x), dim)
    for i, value in enumerate((total / length, length, size, step, own, f["spread"], rank)):
        f.store(value, walk, i)
    f.ret(walk)
    s.end()


def walk_of(s: Scope, x: Value, dim: Value, index: Value, spread: Value) -> Value:
    """How the index walks through x; gives up where `plan_walk` does."""
    walk = s.f.buffer(8 * (len(WALK) + 2 * MOST_DIMS), 8)
    made = s.f.call("ptr", "plan_walk", x, index, dim, spread, walk)
    s.require(made.differs(s.null()))
    return made


def index_of(s: Scope, rank: Value | None) -> Value:
    """The array of the index: int64, row by row, of this rank, or one dimension."""
    index = s.array(s.needed(2))
    s.require(s.is_object(s.descriptor(index), "I64"))
    s.require(s.contiguous(index))
    s.require(s.rank(index).equals(1 if rank is None else s.f.convert("trunc", rank, "i32")))
    return index


def moved(s: Scope, name: str, kind: Value, *arguments: Value) -> None:
    """Runs the loop for elements of this type; gives up on an index that is out of range."""
    f, good = s.f, s.f.variable("i1", 0)
    if name == "add":
        for type_name, type in ADDED.items():
            with f.when(s.is_object(kind, type_name)):
                good.set(f.call("i1", f"add_{type}", *arguments))
    else:
        for type_name, type in (("F32", "i32"), ("F64", "i64"), ("I64", "i64"), ("BOOL", "i8")):
            with f.when(s.is_object(kind, type_name)):
                good.set(f.call("i1", f"{name}_{type}", *arguments))
    s.require(good.get())


def write_gather(module: Module) -> None:
    """`gather(context, (input, dim, index))`."""
    s = begin_core(module, "gather")
    f = s.f
    x, rank, dim, mode = along(s)
    s.require(s.count(x) > 0)
    index = index_of(s, rank)
    walk = walk_of(s, x, dim, index, s.number(1))
    kind = s.descriptor(x)
    y = s.new_array(kind, s.rank(x), s.sizes(index))
    moved_or_dropped(s, "gather", kind, y, s.memory(x), s.memory(y), s.memory(index), walk)
    along_dim = f.call("ptr", "PyLong_FromSsize_t", dim)
    f.ret(completed(s, mode, y, [s.given(0), s.given(2)], [along_dim]))
    s.end()


def moved_or_dropped(s: Scope, name: str, kind: Value, made: Value, *arguments: Value) -> None:
    """`moved`, which drops the new array where it gives up."""
    inner = Scope(s.f, f"dropped{s.f.count}")
    moved(inner, name, kind, *arguments)
    after = f"kept{s.f.count}"
    s.f.do(f"br label %{after}")
    s.f.lines.append(f"{inner.otherwise}:")
    s.drop(made)
    s.f.do(f"br label %{s.otherwise}")
    s.f.lines.append(f"{after}:")


def copied(s: Scope, x: Value) -> Value:
    """A copy of an array that lies row by row."""
    y = s.new_array(s.descriptor(x), s.rank(x), s.sizes(x))
    s.f.call("ptr", "memcpy", s.memory(y), s.memory(x), s.count(x) * item_size(s, x))
    return y


def source_of(s: Scope, number_at: int | None, like: Value, kind: Value) -> tuple[Value, ...]:
    """The source of a scatter: its tensor (null for a number), its memory and the distance of its
    elements.
    """
    f, given = s.f, s.f.variable("ptr", s.given(3))
    if number_at is not None:
        with f.when(s.is_missing(given.get())):
            given.set(s.given(number_at))
    s.require(given.get().differs(s.null()))
    tensor, memory, distance = f.variable("ptr", s.null()), f.variable("ptr"), f.variable("i64", 1)
    number = s.is_a(given.get(), "float", "int")
    with f.when(number):
        place, value = f.buffer(8, 8), s.double(given.get())
        wide = s.is_object(kind, "F64")
        s.require(s.either(wide, s.both(s.is_object(kind, "F32"), s.fits_float(value))))
        with f.when(wide):
            f.store(value, place)
        with f.when(wide.equals(0)):
            f.store(f.convert("fptrunc", value, "float"), place)
        memory.set(place)
        distance.set(0)
    with f.when(number.equals(0)):
        y = s.array(given.get())
        s.require(s.both(s.descriptor(y).equals(kind), s.contiguous(y)))
        s.require(s.rank(y).equals(s.rank(like)))
        with f.loop(0, f.convert("sext", s.rank(like), "i64")) as k:
            s.require(f.load("i64", s.sizes(y), k).equals(f.load("i64", s.sizes(like), k)))
        tensor.set(given.get())
        memory.set(s.memory(y))
    return tensor.get(), memory.get(), distance.get()


def write_scatter(module: Module, name: str) -> None:
    """`scatter(context, (input, dim, index, src, value, reduce))`, `scatter_add` without the last
    two; of a source that has the index's shape, or of a number.
    """
    s = begin_core(module, name)
    f, numbers = s.f, name == "scatter"
    x, rank, dim, mode = along(s)
    s.require(s.count(x) > 0)
    index, kind = index_of(s, rank), s.descriptor(x)
    if numbers:
        s.require(s.is_missing(s.given(5)))
    source, memory, distance = source_of(s, 4 if numbers else None, index, kind)
    if not numbers:
        s.require(source.differs(s.null()))
    walk = walk_of(s, x, dim, index, distance)
    y = copied(s, x)
    loop = "put" if numbers else "add"
    moved_or_dropped(s, loop, kind, y, s.memory(y), memory, s.memory(index), walk)
    along_dim = f.call("ptr", "PyLong_FromSsize_t", dim)
    f.ret(completed(s, mode, y, [s.given(0), s.given(2), source], [along_dim]))
    s.end()


def check_indices(s: Scope, index: Value, size: Value) -> None:
    """Gives up where an index is negative or too large."""
    f, good = s.f, s.f.variable("i1", 1)
    with f.loop(0, s.count(index)) as i:
        at = f.load("i64", s.memory(index), i)
        good.set(s.both(good.get(), f.emit("i1", f"icmp ult {at}, {size.name}")))
    s.require(good.get())


def begin_in_place(s: Scope) -> tuple[Value, Value, Value, Value, Value]:
    """The array that is written to, its rank, type, the dimension, and the mode."""
    x, kind, mode = target(s, s.needed(0), ANY)
    s.require(s.count(x) > 0)
    _, rank, dim, _ = along(s)
    return x, rank, kind, dim, mode


def noted(s: Scope) -> None:
    """Notes the write and returns the tensor."""
    f = s.f
    name = f.load("ptr", f.at(f["context"], Context.name.offset))
    done = f.call("ptr", "note_write", s.given(0), name)
    s.require(done.differs(s.null()))
    f.ret(s.hold(s.given(0)))
    s.end()


def write_apart(module: Module) -> None:
    """`lie_apart(x, y)`: whether two arrays that lie row by row share no memory."""
    s = begin(module, "lie_apart", "i1", x="ptr", y="ptr")
    f, ends = s.f, []
    for x in (f["x"], f["y"]):
        start = f.convert("ptrtoint", s.memory(x), "i64")
        ends.append((start, start + s.count(x) * f.call("i64", "bytes_of", x)))
    (start, end), (low, high) = ends
    f.ret(s.either(high <= start, end <= low))


def disjoint(s: Scope, x: Value, *others: Value) -> None:
    """Gives up where an array shares memory with x."""
    for other in others:
        s.require(s.f.call("i1", "lie_apart", x, other))


def write_scatter_in_place(module: Module, name: str) -> None:
    """`scatter_` and `scatter_add_` where nothing is recorded."""
    s = begin_core(module, name)
    f, numbers = s.f, name == "scatter_"
    x, rank, kind, dim, mode = begin_in_place(s)
    index = index_of(s, rank)
    if numbers:
        s.require(s.is_missing(s.given(5)))
    source, memory, distance = source_of(s, 4 if numbers else None, index, kind)
    disjoint(s, x, index)
    with f.when(source.differs(s.null())):
        unrecorded(s, source, mode)
        disjoint(s, x, s.get_array(source))
    if not numbers:
        s.require(source.differs(s.null()))
    check_indices(s, index, f.load("i64", s.sizes(x), dim))
    walk = walk_of(s, x, dim, index, distance)
    moved(s, "put" if numbers else "add", kind, s.memory(x), memory, s.memory(index), walk)
    noted(s)


def rows_added(s: Scope, x: Value, y: Value, rank: Value, dim: Value, index: Value) -> Value:
    """The array of a source whose slices fit x; gives up where they do not, or for an index that is
    out of range.
    """
    f, kind = s.f, s.descriptor(x)
    s.require(s.both(s.descriptor(y).equals(kind), s.contiguous(y)))
    s.require(s.rank(y).equals(s.rank(x)))
    count = s.count(index)
    with f.loop(0, rank) as k:
        want = f.select(k.equals(dim), count, f.load("i64", s.sizes(x), k))
        s.require(f.load("i64", s.sizes(y), k).equals(want))
    check_indices(s, index, f.load("i64", s.sizes(x), dim))
    return y


def add_rows(s: Scope, x: Value, y: Value, rank: Value, dim: Value, index: Value) -> None:
    """Adds the slices of y to those of x that the index names."""
    f = s.f
    outer, inner = f.variable("i64", 1), f.variable("i64", 1)
    with f.loop(0, rank) as k:
        size = f.load("i64", s.sizes(x), k)
        outer.set(f.select(k < dim, outer.get() * size, outer.get()))
        inner.set(f.select(k > dim, inner.get() * size, inner.get()))
    sizes = (outer.get(), f.load("i64", s.sizes(x), dim), s.count(index), inner.get())
    for type_name in ADDED:
        with f.when(s.is_object(s.descriptor(x), type_name)):
            places = [s.memory(a) for a in (x, y, index)]
            f.call("void", f"add_rows_{type_name}", *places, *sizes)


def write_index_add(module: Module) -> None:
    """`index_add(context, (input, dim, index, source, alpha))` without a factor."""
    s = begin_core(module, "index_add")
    f = s.f
    x, rank, dim, mode = along(s)
    s.require(s.both(s.count(x) > 0, s.is_object(s.descriptor(x), "BOOL").equals(0)))
    s.require(s.given(4).equals(s.null()))
    index, source = index_of(s, None), s.needed(3)
    y = rows_added(s, x, s.array(source), rank, dim, index)
    made = copied(s, x)
    add_rows(s, made, y, rank, dim, index)
    values = [s.tuple_of(f.call("ptr", "PyLong_FromSsize_t", dim)), s.hold(s.object("True"))]
    f.ret(completed(s, mode, made, [s.given(0), s.given(2), source], values))
    s.end()


def write_index_add_in_place(module: Module) -> None:
    """`index_add_` where nothing is recorded."""
    s = begin_core(module, "index_add_")
    x, rank, _, dim, mode = begin_in_place(s)
    s.require(s.given(4).equals(s.null()))
    index, source = index_of(s, None), s.needed(3)
    y = rows_added(s, x, s.array(source), rank, dim, index)
    unrecorded(s, source, mode)
    disjoint(s, x, index, y)
    add_rows(s, x, y, rank, dim, index)
    noted(s)


SHARED: tuple[Callable[[Module], None], ...] = (
    *[partial(write_walk, name=n, type=t) for n in ("gather", "put") for t in MOVED],
    *[partial(write_walk, name="add", type=t) for t in ADDED.values()],
    write_add_rows, write_plan_walk, write_apart, write_gather,
    write_index_add, write_index_add_in_place,
    *[partial(write_scatter, name=n) for n in ("scatter", "scatter_add")],
    *[partial(write_scatter_in_place, name=n) for n in ("scatter_", "scatter_add_")],
)  # fmt: skip
