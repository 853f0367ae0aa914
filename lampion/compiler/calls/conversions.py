"""Compiled calls that read and convert: item, float(tensor), clone, and the methods `float`,
`double`, `long`, `bool`. Imports described, filled, objects and core.
"""

from __future__ import annotations

import ctypes
from typing import Any

from ... import dtypes
from ...core.graph import DIRECT, GENERAL
from ...core.op import OPS
from ..native.emit import Module, Value
from .described import Described, completed, described
from .filled import TYPES, for_kinds, number_in
from .objects import ITEM_SIZES, SMALL, Scope, begin_core

LIMIT = float(1 << 62)  # below it, int64 holds a float's whole part
TARGETS = {"float": dtypes.float32, "double": dtypes.float64, "long": dtypes.int64,
           "bool": dtypes.bool}  # fmt: skip


class Context(ctypes.Structure):
    """The operator, the type that is asked for and its arrays' type."""

    _fields_ = [("described", Described), ("asked", ctypes.py_object), ("kind", ctypes.c_void_p)]


def context_of(name: str) -> Context:
    """The context of a method that converts."""
    asked: Any = TARGETS[name]
    return Context(described(OPS["to"], ("dtype",)), asked, id(asked.numpy))


def clone_of() -> Described:
    """The context of `clone`."""
    return described(OPS["clone"], ("order",))


def write_item(module: Module, name: str) -> None:
    """`item` and `float` of a tensor of one element."""
    s = begin_core(module, f"read_{name}")
    f, x = s.f, s.array(s.needed(0))
    s.require(s.count(x).equals(1))
    for kind, (_, type) in TYPES.items():
        with f.when(s.is_object(s.descriptor(x), kind)):
            number = f.load(type, s.memory(x))
            if type == "i8" and name == "item":
                f.ret(s.hold(f.select(number.differs(0), s.object("True"), s.object("False"))))
            elif type == "i64" and name == "item":
                f.ret(f.call("ptr", "PyLong_FromLongLong", number))
            else:
                wide = number
                if type != "double":
                    word = "fpext" if type == "float" else "sitofp"
                    wide = f.convert(word, number, "double")
                f.ret(f.call("ptr", "PyFloat_FromDouble", wide))
    f.do(f"br label %{s.otherwise}")
    s.end()


def small(s: Scope) -> tuple[Value, Value, Value]:
    """The array of a small tensor that lies row by row, its size, and the mode."""
    x, mode = s.array(s.needed(0)), s.mode()
    n = s.count(x)
    s.require(s.both(s.contiguous(x), n <= SMALL))
    s.require(mode.differs(GENERAL))
    return x, n, mode


def write_clone(module: Module) -> None:
    """`clone(context, (input))`."""
    s = begin_core(module, "clone")
    f = s.f
    x, n, mode = small(s)
    kind, size = s.descriptor(x), f.variable("i64", 0)
    for name, bytes in ITEM_SIZES.items():
        size.set(f.select(s.is_object(kind, name), s.number(bytes), size.get()))
    s.require(size.get() > 0)
    y = s.new_array(kind, s.rank(x), s.sizes(x))
    f.call("ptr", "memcpy", s.memory(y), s.memory(x), n * size.get())
    f.ret(completed(s, mode, y, [s.given(0)], [s.hold(s.object("None"))]))
    s.end()


def write_convert(module: Module) -> None:
    """`convert(context, (self))`: to another of the common types."""
    s = begin_core(module, "convert")
    f, context = s.f, s.f["context"]
    x, n, mode = small(s)
    kind = s.descriptor(x)
    target = f.load("ptr", f.at(context, Context.kind.offset))
    with f.when(kind.equals(target)):
        f.ret(s.hold(s.given(0)))
    real = [s.either(s.is_object(k, "F32"), s.is_object(k, "F64")) for k in (kind, target)]
    known = s.either(s.is_object(kind, "I64"), s.is_object(kind, "BOOL"))
    s.require(s.either(real[0], known))
    y = s.new_array(target, s.rank(x), s.sizes(x))
    safe = f.variable("i1", 1)

    def write(source: str) -> None:
        def to(type: str) -> None:
            if type == source:
                return
            with f.loop(0, n) as i:
                number = f.load(source, s.memory(x), i)
                if type == "i8":
                    number = f.convert("zext", number.differs(0), "i8")
                elif source in ("float", "double") and type == "i64":
                    inside = s.both(number < LIMIT, number > -LIMIT)
                    safe.set(s.both(safe.get(), inside))
                    number = f.convert("fptosi", f.select(inside, number, 0), "i64")
                elif source == "float" and type == "double":
                    number = f.convert("fpext", number, type)
                elif source == "i8" and type == "i64":
                    number = f.convert("zext", number, type)
                else:
                    number = number_in(s, number, type)
                f.store(number, s.memory(y), i)

        for_kinds(s, target, to)

    for_kinds(s, kind, write)
    with f.when(safe.get().equals(0)):
        s.drop(y)
        f.ret(s.null())
    asked = s.hold(f.load("ptr", f.at(context, Context.asked.offset)))
    unrecorded = f.select(real[1], mode, DIRECT)  # gradients do not pass integers
    f.ret(completed(s, unrecorded, y, [s.given(0)], [asked]))
    s.end()


SHARED = (
    lambda module: write_item(module, "item"), lambda module: write_item(module, "float"),
    write_clone, write_convert,
)  # fmt: skip
