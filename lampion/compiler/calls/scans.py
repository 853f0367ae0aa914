"""Compiled calls along one dimension: cumsum, cumprod, topk, sort, argsort. Imports described,
lookups, objects, reductions and core.

Running sums and products of float32 are kept in float64, as in `ops.cumulative`; NaN is larger than
every number, and of equals the first comes first, as in `ops.sort`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

from ...core.graph import GENERAL
from ...core.op import OPS
from ..native.emit import Function, Module, Value, vector
from .described import Described, completed, described
from .lookups import along
from .objects import MOST_DIMS, Scope, begin_core
from .reductions import pair_of

LANES = 16  # columns that are added up at a time
MOST_PICKED = 64  # elements of a row that are kept in order while the others pass by
MOST_SORTED = 48  # elements of a row that is sorted by insertion
# Type of arrays -> of an element, and of its running sum.
TYPES = {"F32": ("float", "double"), "F64": ("double", "double"), "I64": ("i64", "i64")}
# Name of a core -> the function's parameters; of those that pick, those that are recorded too.
SCANS = {"cumsum": "input dim dtype", "cumprod": "input dim dtype"}
PICKS = {
    "topk": ("input k dim largest sorted", "k dim largest sorted"),
    "sort": ("input dim descending stable", "dim descending"),
    "argsort": ("input dim descending stable", "dim descending"),
}


class Picks(ctypes.Structure):
    """An operator that picks elements, and what its two results are made into."""

    _fields_ = [("described", Described), ("returns", ctypes.py_object)]


def scan_of(name: str) -> Described:
    """The context of a running sum or product."""
    return described(OPS[name], ("dim",))


def picks_of(name: str, returns: Any) -> Picks:
    """The context of `topk`, `sort` or `argsort`; `returns` is None for the last."""
    others = () if name == "argsort" else ("indices",)
    return Picks(described(OPS[name], PICKS[name][1].split(), others), returns)


# -- running sums and products ---------------------------------------------------------------------


def widened(f: Function, value: Value, wide: str) -> Value:
    """A value in the type of the running sum."""
    return value if value.type == wide else f.convert("fpext", value, wide)


def narrowed(f: Function, value: Value, type: str) -> Value:
    """A running sum in the type of the elements."""
    return value if value.type == type else f.convert("fptrunc", value, type)


def write_scan(module: Module, name: str) -> None:
    """`cumsum_of_F32(x, y, outer, n, inner)`, ...: rows one number after the other, columns several
    at a time.
    """
    sign, start = {"cumsum": ("+", 0), "cumprod": ("*", 1)}[name]
    for kind, (type, wide) in TYPES.items():
        numbers = dict.fromkeys(("outer", "n", "inner"), "i64")
        f = module.function(f"{name}_of_{kind}", "void", True, x="ptr", y="ptr", **numbers)
        outer, n, inner = (f[p] for p in numbers)
        with f.loop(0, outer) as o:
            x, y = (f.at(f[p], o * n * inner, type) for p in "xy")
            with f.when(inner.equals(1)):
                total = f.variable(wide, start)
                with f.loop(0, n) as k:
                    total.set(total.get().binary(sign, widened(f, f.load(type, x, k), wide)))
                    f.store(narrowed(f, total.get(), type), y, k)
            columns, sums = vector(LANES, type), vector(LANES, wide)
            with f.loop(0, f.select(inner.equals(1), f.constant("i64", 0), inner), LANES) as c:
                mask, totals = f.first_lanes(inner - c, LANES), f.variable(sums, start)
                with f.loop(0, n) as k:
                    at = k * inner + c
                    value = widened(f, f.masked_load(columns, f.at(x, at, type), mask), sums)
                    totals.set(totals.get().binary(sign, value))
                    f.masked_store(narrowed(f, totals.get(), columns), f.at(y, at, type), mask)
        f.ret()


def sizes_around(s: Scope, x: Value, rank: Value, dim: Value) -> tuple[Value, Value, Value]:
    """An array's sizes as (outer, n, inner), of which n belongs to the dimension."""
    f = s.f
    outer, n, inner = (f.variable("i64", 1) for _ in range(3))
    with f.loop(0, rank) as k:
        size = f.load("i64", s.sizes(x), k)
        for condition, total in ((k < dim, outer), (k.equals(dim), n), (k > dim, inner)):
            total.set(f.select(condition, total.get() * size, total.get()))
    return outer.get(), n.get(), inner.get()


def known(s: Scope, kind: Value) -> None:
    """Gives up on arrays of other types than `TYPES`."""
    found = s.is_object(kind, "F32")
    for name in TYPES:
        found = s.either(found, s.is_object(kind, name))
    s.require(found)


def write_scanned(module: Module, name: str) -> None:
    """`cumsum(context, (input, dim, dtype))`, and `cumprod`."""
    s = begin_core(module, name)
    f = s.f
    x, rank, dim, mode = along(s)
    s.require(s.is_missing(s.given(2)))
    kind = s.descriptor(x)
    known(s, kind)
    sizes = sizes_around(s, x, rank, dim)
    y = s.new_array(kind, s.rank(x), s.sizes(x))
    for type_name in TYPES:
        with f.when(s.is_object(kind, type_name)):
            f.call("void", f"{name}_of_{type_name}", s.memory(x), s.memory(y), *sizes)
    along_dim = f.call("ptr", "PyLong_FromSsize_t", dim)
    f.ret(completed(s, mode, y, [s.given(0)], [along_dim]))
    s.end()


# -- the first of an order -------------------------------------------------------------------------


def before(f: Function, a: Value, b: Value, up: bool) -> Value:
    """Whether number a comes before b, in a rising order or in a falling one."""
    found = a.binary("<" if up else ">", b)
    if a.type == "i64":
        return found
    first, second = (b, a) if up else (a, b)  # a NaN comes last in a rising order
    lone = f.emit("i1", f"fcmp uno {first}, {first.name}")
    number = f.emit("i1", f"fcmp ord {second}, {second.name}")
    return f.emit("i1", f"or {found}, {f.emit('i1', f'and {lone}, {number.name}').name}")


def insert(
    f: Function, value: Value, i: Value, count: Value, values: Value, places: Value, up: bool
) -> None:
    """Puts a number and its place behind those of `count` ordered ones that do not come after it;
    the last of them is moved to the place `count`.
    """
    at, going = f.variable("i64", count), f.variable("i1", 1)
    with f.forever() as leave:
        with f.when(f.emit("i1", f"or {at.get() < 1}, {going.get().equals(0).name}"), leave):
            pass
        last = f.load(value.type, values, at.get() - 1)
        going.set(before(f, value, last, up))
        with f.when(going.get()):
            f.store(last, values, at.get())
            f.store(f.load("i64", places, at.get() - 1), places, at.get())
            at.set(at.get() - 1)
    f.store(value, values, at.get())
    f.store(i, places, at.get())


def write_pick(module: Module, kind: str, up: bool) -> None:
    """`rising_F32(x, values, places, rows, n, count)`, `falling_...`: the first ones of each row
    in a rising or falling order, and where they stand.
    """
    type = TYPES[kind][0]
    f = module.function(
        f"{'rising' if up else 'falling'}_{kind}", "void", True, x="ptr", values="ptr",
        places="ptr", rows="i64", n="i64", count="i64",
    )  # fmt: skip
    n, count = f["n"], f["count"]
    kept, at = f.buffer(8 * (MOST_PICKED + 1)), f.buffer(8 * (MOST_PICKED + 1))
    with f.loop(0, f["rows"]) as row:
        x = f.at(f["x"], row * n, type)
        with f.loop(0, count) as i:
            insert(f, f.load(type, x, i), i, i, kept, at, up)
        with f.loop(count, n, LANES) as block:
            worst = f.load(type, kept, count - 1)
            passed = f.variable("i1", block + LANES <= n)
            with f.when(passed.get()):
                wide = vector(LANES, type)
                many = f.load(wide, f.at(x, block, type), align=4)
                word = ("icmp s" if type == "i64" else "fcmp u") + ("lt" if up else "gt")
                some = f.emit(vector(LANES, "i1"), f"{word} {many}, {f.splat(worst, LANES).name}")
                any = f.call("i1", f"llvm.vector.reduce.or.v{LANES}i1", some)
                passed.set(any.equals(0))
            with f.when(passed.get().equals(0)):
                with f.loop(block, f.minimum(block + LANES, n)) as i:
                    value = f.load(type, x, i)
                    with f.when(before(f, value, f.load(type, kept, count - 1), up)):
                        insert(f, value, i, count - 1, kept, at, up)
        with f.loop(0, count) as i:
            f.store(f.load(type, kept, i), f["values"], row * count + i)
            f.store(f.load("i64", at, i), f["places"], row * count + i)
    f.ret()


def flag(s: Scope, i: int, default: bool) -> Value:
    """A core's argument that is True or False; gives up on others."""
    given = s.given(i)
    yes, no = (s.is_object(given, name) for name in ("True", "False"))
    absent = given.equals(s.null())
    s.require(s.either(absent, s.either(yes, no)))
    return s.either(yes, absent) if default else yes


def truth(s: Scope, value: Value) -> Value:
    """A new reference to True or False."""
    return s.hold(s.f.select(value, s.object("True"), s.object("False")))


def last_dim(s: Scope, i: int, x: Value, rank: Value) -> Value:
    """The dimension that an argument names, which must be the last one, or by default is."""
    f, found = s.f, s.f.variable("i64", -1)
    with f.when(s.given(i).differs(s.null())):
        found.set(s.integer(s.given(i)))
    dim = f.select(found.get() < 0, found.get() + rank, found.get())
    s.require(s.both(dim.equals(rank - 1), dim >= 0))
    return dim


def picked(s: Scope, x: Value, rank: Value, count: Value, rising: Value) -> tuple[Value, Value]:
    """The arrays of the first `count` elements along the last dimension, and of their places."""
    f, kind = s.f, s.descriptor(x)
    sizes = f.buffer(8 * MOST_DIMS, 8)
    n = f.load("i64", s.sizes(x), rank - 1)
    with f.loop(0, rank) as k:
        f.store(f.load("i64", s.sizes(x), k), sizes, k)
    f.store(count, sizes, rank - 1)
    values = s.new_array(kind, s.rank(x), sizes)
    places = s.new_array(s.object("I64"), s.rank(x), sizes)
    rows = s.count(x) / n
    given = (s.memory(x), s.memory(values), s.memory(places), rows, n, count)
    for type_name in TYPES:
        with f.when(s.is_object(kind, type_name)):
            with f.when(rising):
                f.call("void", f"rising_{type_name}", *given)
            with f.when(rising.equals(0)):
                f.call("void", f"falling_{type_name}", *given)
    return values, places


def begin_picks(module: Module, name: str) -> tuple[Scope, Value, Value, Value]:
    """A core that picks elements; the array, its rank, and the mode."""
    s = begin_core(module, name)
    f, x = s.f, s.array(s.needed(0))
    rank, mode = f.convert("sext", s.rank(x), "i64"), s.mode()
    s.require(s.both(s.contiguous(x), s.count(x) > 0))
    s.require(s.both(rank > 0, s.both(rank <= MOST_DIMS, mode.differs(GENERAL))))
    known(s, s.descriptor(x))
    return s, x, rank, mode


def write_topk(module: Module) -> None:
    """`topk(context, (input, k, dim, largest, sorted))` of few elements in the last dimension."""
    s, x, rank, mode = begin_picks(module, "topk")
    f, count, dim = s.f, s.integer(s.needed(1)), last_dim(s, 2, x, rank)
    largest, ordered = flag(s, 3, True), flag(s, 4, True)
    n = f.load("i64", s.sizes(x), rank - 1)
    s.require(s.both(s.both(count > 0, count <= MOST_PICKED), count <= n))
    values, places = picked(s, x, rank, count, largest.equals(0))
    numbers = [f.call("ptr", "PyLong_FromSsize_t", number) for number in (count, dim)]
    params = [*numbers, truth(s, largest), truth(s, ordered)]
    pair_of(s, mode, values, places, params, Picks.returns.offset)


def write_sort(module: Module, name: str) -> None:
    """`sort(context, (input, dim, descending, stable))` of short rows, and `argsort`."""
    s, x, rank, mode = begin_picks(module, name)
    f, dim, descending = s.f, last_dim(s, 1, x, rank), flag(s, 2, False)
    with f.when(s.is_missing(s.given(3)).equals(0)):
        flag(s, 3, False)
    n = f.load("i64", s.sizes(x), rank - 1)
    s.require(n <= MOST_SORTED)
    values, places = picked(s, x, rank, n, descending.equals(0))
    if name == "argsort":
        s.drop(values)
        found = s.new_tensor(places)
        f.ret(found)
        s.end()
        return
    params = [f.call("ptr", "PyLong_FromSsize_t", dim), truth(s, descending)]
    pair_of(s, mode, values, places, params, Picks.returns.offset)


SHARED: tuple[Callable[[Module], None], ...] = (
    *[partial(write_scan, name=name) for name in SCANS],
    *[partial(write_scanned, name=name) for name in SCANS],
    *[partial(write_pick, kind=kind, up=up) for kind in TYPES for up in (True, False)],
    write_topk, partial(write_sort, name="sort"), partial(write_sort, name="argsort"),
)  # fmt: skip
