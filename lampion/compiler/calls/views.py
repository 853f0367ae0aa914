"""Compiled calls of views: other sizes, and what integers and slices between brackets name. Imports
calls, objects and core.

A new view shares its input's storage, is entered there by a weak reference, and knows the operator
that made it, as `core.quick` does it in Python.
"""

from __future__ import annotations

import ctypes
from typing import Any

from ...core.graph import DIRECT, GENERAL
from ...core.memory import Storage
from ...core.tensor import Tensor
from ..native.emit import Module, Value
from ..native.entry import FLAGS
from .objects import ALIGNED, ITEMS, MOST_DIMS, SIZE, WRITEABLE, Scope, begin, begin_core

START, STOP, STEP = 16, 24, 32  # in a slice object


class Context(ctypes.Structure):
    """The record of a view, and the plan of its backward."""

    _fields_ = [("op", ctypes.c_void_p), ("plan", ctypes.c_void_p)]


def context_of(op: Any) -> Context:
    """The context of a view's record."""
    return Context(id(op), id(op.step))


def new_view(s: Scope, x: Value, rank: Value, sizes: Value, strides: Value, memory: Value) -> Value:
    """An array on the memory of another one."""
    f = s.f
    kind = s.hold(s.descriptor(x))
    flags = f.load("i32", f.at(x, FLAGS)) & (ALIGNED | WRITEABLE)
    ndarray, null = s.object("ndarray"), s.null()
    made = s.call_array(
        "ptr", "new_array", ndarray, kind, rank, sizes, strides, memory, flags, null
    )
    s.require(made.differs(null))
    s.call_array("i32", "set_base", made, s.hold(x))
    return made


def write_enter_view(module: Module) -> None:
    """`enter_view(storage, view)`: notes a weak reference to the view; the last one is replaced if
    its view is gone, so that views which live shortly leave nothing behind.
    """
    s = begin(module, "enter_view", "ptr", storage="ptr", view="ptr")
    f = s.f
    made = f.call("ptr", "PyWeakref_NewRef", f["view"], s.null())
    s.require(made.differs(s.null()))
    views = s.get(f["storage"], Storage, "views")
    with f.when(s.is_object(views, "None")):
        listed = f.call("ptr", "PyList_New", s.number(1))
        f.call("i32", "PyList_SetItem", listed, s.number(0), made)
        s.put(f["storage"], Storage, "views", listed)
        s.drop(views)
        f.ret(f["view"])
    count = f.load("i64", views, SIZE >> 3)
    last = f.call("ptr", "PyList_GetItem", views, count - 1)
    s.require(last.differs(s.null()))
    with f.when(s.is_object(f.call("ptr", "PyWeakref_GetObject", last), "None")):
        f.call("i32", "PyList_SetItem", views, count - 1, made)
        f.ret(f["view"])
    f.call("i32", "PyList_Append", views, made)
    s.drop(made)
    limit = f.call("i64", "PyLong_AsLong", s.get(f["storage"], Storage, "limit"))
    with f.when(count >= limit):
        stack = f.buffer(8, 8)
        f.store(f["storage"], stack)
        one, null = s.number(1), s.null()
        pruned = f.call("ptr", "PyObject_VectorcallMethod", s.object("prune"), stack, one, null)
        s.require(pruned.differs(null))
        s.drop(pruned)
    f.ret(f["view"])
    s.end()


def write_view(module: Module) -> None:
    """`finish_view(context, mode, x, data, params)`: the tensor of a view's array. Takes the
    references to the last two.
    """
    s = begin(
        module, "finish_view", "ptr", context="ptr", mode="i64", x="ptr", data="ptr", params="ptr"
    )
    f = s.f
    x, params = f["x"], f["params"]
    view = s.new_tensor(f["data"])
    s.require(view.differs(s.null()))
    with f.when(s.is_object(s.get(x, Tensor, "_storage"), "None")):
        made = f.call("ptr", "new_storage")
        s.require(made.differs(s.null()))
        s.replace(x, Tensor, "_storage", made)
    storage = s.get(x, Tensor, "_storage")
    s.replace(view, Tensor, "_storage", s.hold(storage))
    op = f.load("ptr", f["context"])
    s.replace(view, Tensor, "_view", s.tuple_of(s.hold(x), s.hold(op), params))
    s.require(f.call("ptr", "enter_view", storage, view).differs(s.null()))
    with f.when(f["mode"].equals(DIRECT)):
        f.ret(view)
    with f.when(s.is_object(s.get(x, Tensor, "_requires_grad"), "True").equals(0)):
        f.ret(view)
    shape = f.call("ptr", "shape_tuple", s.get(x, Tensor, "_data"))
    saved = s.tuple_of(shape, s.hold(params))
    edges = s.tuple_of(f.call("ptr", "edge", x))
    plan = f.load("ptr", f["context"], 1)
    f.ret(f.call("ptr", "record", view, plan, s.hold(params), edges, saved))
    s.end()


# -- other sizes -----------------------------------------------------------------------------------


def write_read_sizes(module: Module) -> None:
    """`read_sizes(given, sizes)`: ints given one by one or as one sequence; their number, or -1."""
    s = begin(module, "read_sizes", "i64", given="ptr", sizes="ptr")
    f = s.f
    items, count = f.variable("ptr", f["given"]), f.variable("i64", 0)
    first = f.load("ptr", f["given"])
    with f.when(first.equals(s.null())):
        f.ret(s.number(-1))
    with f.when(s.is_a(first, "int")), f.forever() as leave:
        with f.when(f.load("ptr", f["given"], count.get()).equals(s.null()), leave):
            pass
        count.set(count.get() + 1)
    with f.when(s.is_a(first, "tuple", "Size")):
        items.set(f.at(first, ITEMS))
        count.set(f.load("i64", first, SIZE >> 3))
    with f.when(s.is_a(first, "list")):
        items.set(f.load("ptr", f.at(first, ITEMS)))
        count.set(f.load("i64", first, SIZE >> 3))
    with f.when(s.either(count.get() <= 0, count.get() > MOST_DIMS)):
        f.ret(s.number(-1))
    with f.loop(0, count.get()) as i:
        item = f.load("ptr", items.get(), i)
        with f.when(s.is_a(item, "int").equals(0)):
            f.ret(s.number(-1))
        size = f.call("i64", "PyLong_AsSsize_t", item)
        with f.when(size < -1):
            f.ret(s.number(-1))
        with f.when(size.equals(-1)):
            with f.when(f.call("ptr", "PyErr_Occurred").differs(s.null())):
                f.ret(s.number(-1))
        f.store(size, f["sizes"], i)
    f.ret(count.get())


def write_sized(module: Module) -> None:
    """`sized(context, (self, size, ...))`: `view` and `reshape` of what lies row by row."""
    s = begin_core(module, "sized")
    f, input = s.f, s.needed(0)
    x, mode = s.array(input), s.mode()
    s.require(mode.differs(GENERAL))
    s.require(s.contiguous(x))
    sizes = f.buffer(8 * MOST_DIMS, 8)
    rank = f.call("i64", "read_sizes", f.at(f["given"], 1, "ptr"), sizes)
    s.require(rank > 0)
    known, inferred = f.variable("i64", 1), f.variable("i64", -1)
    with f.loop(0, rank) as i:
        size = f.load("i64", sizes, i)
        with f.when(size.equals(-1)):
            s.require(inferred.get() < 0)
            inferred.set(i)
        with f.when(size >= 0):
            known.set(known.get() * size)
    total = s.count(x)
    with f.when(inferred.get() >= 0):
        s.require(known.get() > 0)
        f.store(f.emit("i64", f"sdiv {total}, {known.get().name}"), sizes, inferred.get())
        rest = f.emit("i64", f"srem {total}, {known.get().name}")
        s.require(rest.equals(0))
    with f.when(inferred.get() < 0):
        s.require(known.get().equals(total))
    rank = f.convert("trunc", rank, "i32")
    made = new_view(s, x, rank, sizes, s.null(), s.memory(x))
    params = f.call("ptr", "one_item", s.object("shape"), f.call("ptr", "shape_tuple", made))
    f.ret(f.call("ptr", "finish_view", f["context"], mode, input, made, params))
    s.end()


# -- brackets --------------------------------------------------------------------------------------


def write_part(module: Module) -> None:
    """`part(x, items, count, spare)`: the view of an array at ints, slices, None, and an ellipsis
    that stands for `spare` dimensions.
    """
    s = begin(module, "part", "ptr", x="ptr", items="ptr", count="i64", spare="i64")
    f, x = s.f, s.f["x"]
    rank = f.convert("sext", s.rank(x), "i64")
    have, step = s.sizes(x), s.steps(x)
    sizes, strides = f.buffer(8 * MOST_DIMS, 8), f.buffer(8 * MOST_DIMS, 8)
    left, offset, d = (f.variable("i64", 0) for _ in range(3))

    def keep(size: Value, stride: Value) -> None:
        f.store(size, sizes, left.get())
        f.store(stride, strides, left.get())
        left.set(left.get() + 1)

    def keep_all(count: Value) -> None:
        with f.loop(0, count) as _:
            keep(f.load("i64", have, d.get()), f.load("i64", step, d.get()))
            d.set(d.get() + 1)

    with f.loop(0, f["count"]) as i:
        item = f.load("ptr", f["items"], i)
        with f.when(s.is_object(item, "None")):
            keep(s.number(1), s.number(0))
        with f.when(s.is_object(item, "Ellipsis")):
            keep_all(f["spare"])
        integer, sliced = s.is_a(item, "int"), s.is_a(item, "slice")
        with f.when(s.either(integer, sliced)):
            size, stride = f.load("i64", have, d.get()), f.load("i64", step, d.get())
            d.set(d.get() + 1)
            with f.when(integer):
                given = s.integer(item)
                at = f.select(given < 0, given + size, given)
                s.require(s.both(at >= 0, at < size))
                offset.set(offset.get() + at * stride)
            with f.when(sliced):
                start, length, by = slice_of(s, item, size)
                offset.set(offset.get() + start * stride)
                keep(length, stride * by)
    keep_all(rank - d.get())
    memory = f.at(s.memory(x), offset.get())
    f.ret(new_view(s, x, f.convert("trunc", left.get(), "i32"), sizes, strides, memory))
    s.end()


def slice_of(s: Scope, item: Value, size: Value) -> tuple[Value, Value, Value]:
    """Where a slice of ints begins, how many it names, and its step."""
    f = s.f
    start, stop, step = (f.buffer(8, 8) for _ in range(3))
    for place in (START, STOP, STEP):
        end = f.load("ptr", f.at(item, place))
        s.require(s.either(s.is_object(end, "None"), s.is_a(end, "int")))
    s.require(f.call("i32", "PySlice_Unpack", item, start, stop, step) >= 0)
    by = f.load("i64", step)
    s.require(by > 0)
    length = f.call("i64", "PySlice_AdjustIndices", size, start, stop, by)
    return f.load("i64", start), length, by


def write_item(module: Module) -> None:
    """`item(context, (self, index))`: brackets with an int or a slice, or a tuple of them, of None
    and an ellipsis.
    """
    s = begin_core(module, "item")
    f, input, index = s.f, s.needed(0), s.needed(1)
    x, mode = s.array(input), s.mode()
    s.require(mode.differs(GENERAL))
    stack = f.buffer(8, 8)
    f.store(index, stack)
    items, count = f.variable("ptr", stack), f.variable("i64", 1)
    several = s.is_a(index, "tuple")
    with f.when(several):
        items.set(f.at(index, ITEMS))
        count.set(f.load("i64", index, SIZE >> 3))
    named, dots, stepped = (f.variable("i64", 0) for _ in range(3))
    with f.loop(0, count.get()) as i:
        item = f.load("ptr", items.get(), i)
        whole, sliced = s.is_a(item, "int"), s.is_a(item, "slice")
        named.set(named.get() + f.convert("zext", s.either(whole, sliced), "i64"))
        ellipsis, new = (s.is_object(item, name) for name in ("Ellipsis", "None"))
        s.require(s.either(s.either(whole, sliced), s.both(several, s.either(ellipsis, new))))
        dots.set(dots.get() + f.convert("zext", ellipsis, "i64"))
        with f.when(sliced):
            plain = s.is_object(f.load("ptr", f.at(item, STEP)), "None")
            stepped.set(f.select(plain, stepped.get(), 1))
    spare = f.convert("sext", s.rank(x), "i64") - named.get()
    s.require(s.both(spare >= 0, dots.get() + stepped.get() <= 1))
    s.require(count.get() + spare <= MOST_DIMS)
    made = f.call("ptr", "part", x, items.get(), count.get(), spare)
    s.require(made.differs(s.null()))
    given, longer = f.variable("ptr", index), s.both(several, dots.get().equals(0))
    longer = s.either(longer, stepped.get().differs(0))
    with f.when(longer):  # a tuple with an ellipsis at its end
        end = count.get()
        given.set(f.call("ptr", "PyTuple_New", end + 1))
        with f.loop(0, end) as i:
            f.store(s.hold(f.load("ptr", items.get(), i)), given.get(), i + (ITEMS >> 3))
        f.store(s.hold(s.object("Ellipsis")), given.get(), end + (ITEMS >> 3))
    with f.when(longer.equals(0)):
        s.hold(index)
    params = f.call("ptr", "one_item", s.object("index"), given.get())
    f.ret(f.call("ptr", "finish_view", f["context"], mode, input, made, params))
    s.end()


SHARED = (write_enter_view, write_view, write_read_sizes, write_sized, write_part, write_item)
