"""Compiled calls of cat and stack of small tensors. Imports objects, recording and core."""

from __future__ import annotations

import ctypes

from ...core.graph import DIRECT, GENERAL
from ...core.op import Op
from ..native.emit import Module, Value
from .objects import ITEMS, MOST_DIMS, SIZE, Scope, begin_core

BYTES = 1 << 15  # up to which tensors are joined here
MOST_JOINED = 32


class Context(ctypes.Structure):
    """The dictionary of an operator's plans by the inputs that require grad."""

    _fields_ = [("table", ctypes.c_void_p)]


def context_of(op: Op) -> Context:
    """The context of an operator."""
    return Context(id(op.plans))


class Joined:
    """A core whose first argument is a list or tuple of tensors of one type, row by row."""

    def __init__(self, s: Scope) -> None:
        self.s, f = s, s.f
        tensors = s.needed(0)
        self.items = f.variable("ptr", f.at(tensors, ITEMS))
        listed = s.is_a(tensors, "list")
        s.require(s.either(listed, s.is_a(tensors, "tuple")))
        with f.when(listed):
            self.items.set(f.load("ptr", self.items.get()))
        self.count = f.load("i64", tensors, SIZE >> 3)
        s.require(s.both(self.count > 0, self.count <= MOST_JOINED))
        self.first = s.array(self.tensor(s.number(0)))
        self.kind, self.mode = s.descriptor(self.first), s.mode()
        self.rank = f.convert("sext", s.rank(self.first), "i64")
        narrow, wide = s.is_object(self.kind, "F32"), s.is_object(self.kind, "F64")
        s.require(s.either(s.either(narrow, wide), s.is_object(self.kind, "I64")))
        s.require(s.both(self.rank < MOST_DIMS, self.mode.differs(GENERAL)))
        self.item = f.select(narrow, s.number(4), 8)  # bytes of an element
        self.mask = f.variable("i64", 0)

    def tensor(self, i: Value) -> Value:
        """The i-th tensor."""
        return self.s.f.load("ptr", self.items.get(), i)

    def dim(self, ends: int) -> Value:
        """The dimension along which they are joined, of `ends` more than they have."""
        s, f = self.s, self.s.f
        found, limit = f.variable("i64", 0), self.rank + ends
        with f.when(s.given(1).differs(s.null())):
            at = s.integer(s.given(1))
            found.set(f.select(at < 0, at + limit, at))
        s.require(s.both(found.get() >= 0, found.get() < limit))
        return found.get()

    def check(self, i: Value, along: Value) -> Value:
        """The i-th array, which must be as the first one is except along a dimension (-1: none)."""
        s, f = self.s, self.s.f
        tensor = self.tensor(i)
        x = s.array(tensor)
        s.require(s.descriptor(x).equals(self.kind))
        s.require(s.contiguous(x))
        s.require(s.rank(x).equals(s.rank(self.first)))
        with f.loop(0, self.rank) as k:
            same = f.load("i64", s.sizes(x), k).equals(f.load("i64", s.sizes(self.first), k))
            s.require(s.either(same, k.equals(along)))
        bit = f.call("i64", "grad_mask", tensor, s.null(), s.null())
        self.mask.set(self.mask.get() | f.emit("i64", f"shl {bit}, {i.name}"))
        return x

    def copy(self, rank: Value, sizes: Value, outer: Value, inner: Value, along: Value) -> Value:
        """The array of all: `outer` times a piece of each, of its size along a dimension (-1: 1)
        times `inner` bytes.
        """
        s, f = self.s, self.s.f
        y = s.new_array(self.kind, f.convert("trunc", rank, "i32"), sizes)
        whole, place = f.variable("i64", 0), f.variable("ptr", s.memory(y))

        def bytes_of(x: Value) -> Value:
            some = along >= 0
            size = f.load("i64", s.sizes(x), f.select(some, along, 0))
            return f.select(some, size, 1) * inner

        with f.loop(0, self.count) as i:
            whole.set(whole.get() + bytes_of(s.get_array(self.tensor(i))))
        with f.loop(0, self.count) as i:
            x = s.get_array(self.tensor(i))
            bytes = bytes_of(x)
            with f.loop(0, outer) as k:
                source = f.at(s.memory(x), k * bytes)
                f.call("ptr", "memcpy", f.at(place.get(), k * whole.get()), source, bytes)
            place.set(f.at(place.get(), bytes))
        return y

    def plan(self) -> Value:
        """The plan of the backward, null where nothing is recorded."""
        s, f = self.s, self.s.f
        plan = f.variable("ptr", s.null())
        with f.when(s.both(self.mask.get().differs(0), self.mode.differs(DIRECT))):
            number = f.call("ptr", "PyLong_FromSsize_t", self.mask.get())
            table = f.load("ptr", f["context"])
            plan.set(f.call("ptr", "PyDict_GetItemWithError", table, number))
            s.drop(number)
            s.require(plan.get().differs(s.null()))
        return plan.get()

    def finish(self, y: Value, plan: Value, dim: Value, shapes: bool) -> None:
        """Returns the tensor, recorded if there is a plan, which saves all shapes if asked to."""
        s, f = self.s, self.s.f
        t = s.new_tensor(y)
        s.require(t.differs(s.null()))
        with f.when(plan.equals(s.null())):
            f.ret(t)
        edges, used = f.variable("ptr"), f.variable("i64", ITEMS >> 3)
        edges.set(f.call("ptr", "PyTuple_New", f.call("i64", "llvm.ctpop.i64", self.mask.get())))
        listed = f.call("ptr", "PyTuple_New", self.count) if shapes else None
        with f.loop(0, self.count) as i:
            tensor = self.tensor(i)
            if listed is not None:
                shape = f.call("ptr", "shape_tuple", s.get_array(tensor))
                f.store(shape, listed, i + (ITEMS >> 3))
            with f.when(f.call("i64", "grad_mask", tensor, s.null(), s.null()).differs(0)):
                f.store(f.call("ptr", "edge", tensor), edges.get(), used.get())
                used.set(used.get() + 1)
        along = f.call("ptr", "PyLong_FromSsize_t", dim)
        s.hold(along)
        saved = s.tuple_of(along) if listed is None else s.tuple_of(listed, along)
        params = f.call("ptr", "one_item", s.object("dim"), along)
        f.ret(f.call("ptr", "record", t, plan, params, edges.get(), saved))
        s.end()


def write_cat(module: Module) -> None:
    """`cat(context, (tensors, dim))`."""
    s = begin_core(module, "cat")
    f, all = s.f, Joined(s)
    s.require(all.rank > 0)
    d = all.dim(ends=0)
    length = f.variable("i64", 0)
    with f.loop(0, all.count) as i:
        x = all.check(i, d)
        length.set(length.get() + f.load("i64", s.sizes(x), d))
    sizes, outer, inner = f.buffer(8 * MOST_DIMS, 8), f.variable("i64", 1), f.variable("i64", 1)
    inner.set(all.item)
    with f.loop(0, all.rank) as k:
        size = f.load("i64", s.sizes(all.first), k)
        f.store(f.select(k.equals(d), length.get(), size), sizes, k)
        outer.set(f.select(k < d, outer.get() * size, outer.get()))
        inner.set(f.select(k > d, inner.get() * size, inner.get()))
    s.require(length.get() * inner.get() * outer.get() <= BYTES)
    plan = all.plan()
    y = all.copy(all.rank, sizes, outer.get(), inner.get(), d)
    all.finish(y, plan, d, shapes=True)


def write_stack(module: Module) -> None:
    """`stack(context, (tensors, dim))`."""
    s = begin_core(module, "stack")
    f, all = s.f, Joined(s)
    d, none = all.dim(ends=1), s.number(-1)
    with f.loop(0, all.count) as i:
        all.check(i, none)
    sizes, outer, inner = f.buffer(8 * MOST_DIMS, 8), f.variable("i64", 1), f.variable("i64", 1)
    inner.set(all.item)
    with f.loop(0, all.rank) as k:
        size = f.load("i64", s.sizes(all.first), k)
        before = k < d
        f.store(size, sizes, f.select(before, k, k + 1))
        outer.set(f.select(before, outer.get() * size, outer.get()))
        inner.set(f.select(before, inner.get(), inner.get() * size))
    f.store(all.count, sizes, d)
    s.require(all.count * inner.get() * outer.get() <= BYTES)
    plan = all.plan()
    y = all.copy(all.rank + 1, sizes, outer.get(), inner.get(), none)
    all.finish(y, plan, d, shapes=False)


SHARED = (write_cat, write_stack)
