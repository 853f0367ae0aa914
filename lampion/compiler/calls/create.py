"""Compiled calls that draw small tensors of the default type: rand, randn. Imports filled, normals,
objects, random and core.

Random numbers come from the default generator's engine, through the C functions that NumPy offers
for that, while its lock is held.
"""

from __future__ import annotations

import ctypes
from typing import Any

from ...core.graph import GENERAL
from ...random.generator import default_generator
from ..native.emit import Module, Value
from ..native.runtime import Native
from .filled import shape_asked
from .normals import write_normals
from .objects import Scope, begin, begin_core

NEXT_WORD = 2  # the place of the function for 32 bits in NumPy's bitgen_t, behind the state's


class Context(ctypes.Structure):
    """The lock of the default generator's engine."""

    _fields_ = [("lock", ctypes.py_object)]


def context_of() -> Context:
    """The context of all that is drawn."""
    return Context(default_generator._engine.lock)


def fill_engine(code: Native) -> None:
    """Tells loaded code where the default generator's engine is."""
    engine: Any = default_generator._engine
    code.fill("engine", engine.ctypes.bit_generator.value)


def asked(s: Scope) -> tuple[Value, Value, Value]:
    """The rank and the sizes that are given, and how many elements they make."""
    s.require(s.f.call("ptr", "default_float").differs(s.null()))
    s.require(s.mode().differs(GENERAL))
    return shape_asked(s, s.f["given"])


def write_draw(module: Module) -> None:
    """`draw(words, count, skipped)`: drops words, then writes the next ones."""
    s = begin(module, "draw", "void", words="ptr", count="i64", skipped="i64")
    f = s.f
    engine = f.load("ptr", Value(f, "ptr", module.pointer("engine")))
    state, function = f.load("ptr", engine), f.load("ptr", engine, NEXT_WORD)
    with f.loop(0, f["skipped"]) as _:
        f.call("i32", function, state)
    with f.loop(0, f["count"]) as i:
        f.store(f.call("i32", function, state), f["words"], i)
    f.ret()


def call_lock(s: Scope, method: str, count: int) -> Value:
    """Calls a method of the engine's lock, with False (do not wait) if `count` is 2; what it
    returns (borrowed).
    """
    f = s.f
    stack = f.buffer(16, 8)
    f.store(f.load("ptr", f["context"]), stack)
    f.store(s.object("False"), stack, 1)
    given, null = s.number(count), s.null()
    found = f.call("ptr", "PyObject_VectorcallMethod", s.object(method), stack, given, null)
    s.require(found.differs(null))
    s.drop(found)
    return found


def lock(s: Scope, array: Value) -> None:
    """Takes the engine's lock; gives up, and the array back, where another thread has it."""
    f = s.f
    with f.when(s.is_object(call_lock(s, "acquire", 2), "True").equals(0)):
        s.drop(array)
        f.ret(s.null())


def write_rand(module: Module) -> None:
    """`rand`: 24 bits of each word."""
    s = begin_core(module, "rand")
    f = s.f
    rank, sizes, count = asked(s)
    array = s.new_array(s.object("F32"), rank, sizes)
    words = s.memory(array)
    lock(s, array)
    f.call("void", "draw", words, count, s.number(0))
    with f.loop(0, count) as i:
        number = f.convert("sitofp", f.load("i32", words, i) & 0xFFFFFF, "float")
        f.store(number * 2.0**-24, words, i)
    call_lock(s, "release", 1)
    f.ret(s.new_tensor(array))
    s.end()


def write_randn(module: Module) -> None:
    """`randn` of 16 numbers or more: blocks of 16, the last one anew where it is not whole."""
    s = begin_core(module, "randn")
    f = s.f
    rank, sizes, count = asked(s)
    s.require(count >= 16)
    array = s.new_array(s.object("F32"), rank, sizes)
    out = s.memory(array)
    zero, one, sixteen = s.number(0, "float"), s.number(1, "float"), s.number(16)
    lock(s, array)
    rest = count & 15
    f.call("void", "draw", out, count - rest, s.number(0))
    f.call("void", "normals", out, out, count - rest, zero, one)
    with f.when(rest > 0):
        last = f.at(out, count - 16, "float")
        f.call("void", "draw", last, sixteen, rest)
        f.call("void", "normals", last, last, sixteen, zero, one)
    call_lock(s, "release", 1)
    f.ret(s.new_tensor(array))
    s.end()


SHARED = (write_normals, write_draw, write_rand, write_randn)
