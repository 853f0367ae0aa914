"""Compiled calls that draw few random numbers: rand, randn, both like another tensor, normal_,
uniform_, randint, randperm, dropout. Imports described, filled, inplace, normals and core.

Random numbers come from the default generator's engine, through the C functions that NumPy offers
for that, while its lock is held.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from ...core.graph import DIRECT, GENERAL
from ...core.op import OPS
from ...random.generator import default_generator
from ..native.emit import Function, Module, Value
from ..native.runtime import Native
from .described import Described, completed, described
from .filled import handed_out, options, row_of, shape_asked, type_asked
from .inplace import target, written
from .normals import write_normals
from .objects import SMALL, Scope, begin, begin_core

NEXT_WORD = 2  # the place of the function for 32 bits in NumPy's bitgen_t, behind the state's


class Context(ctypes.Structure):
    """The operator that is recorded, the lock of the default generator's engine, and what a call in
    place is called.
    """

    _fields_ = [
        ("described", Described),
        ("lock", ctypes.py_object),
        ("name", ctypes.py_object),
    ]


# Name of a core -> the parameters of the function.
DRAWN = {
    "rand": "0 1 2 3 4 5 6 7", "randn": "0 1 2 3 4 5 6 7",
    "rand_like": "input dtype device requires_grad",
    "randn_like": "input dtype device requires_grad",
    "normal_": "self mean std", "uniform_": "self from to",
    "randint": "0 1 2 dtype device requires_grad", "randperm": "n dtype device requires_grad",
    "dropout": "input p training inplace",
}  # fmt: skip
MOST_ORDERED = 1 << 20  # numbers in random order; far from where PyTorch draws 64 bits for each
LOCK, NAME = Context.lock.offset, Context.name.offset


def context_of(name: str) -> Context:
    """The context of what draws."""
    own = described(OPS["mul"]) if name == "dropout" else Described()
    return Context(own, default_generator._engine.lock, name)


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
    f.store(f.load("ptr", f.at(f["context"], LOCK)), stack)
    f.store(s.object("False"), stack, 1)
    given, null = s.number(count), s.null()
    found = f.call("ptr", "PyObject_VectorcallMethod", s.object(method), stack, given, null)
    s.require(found.differs(null))
    s.drop(found)
    return found


def lock(s: Scope, *arrays: Value) -> None:
    """Takes the engine's lock; gives up, and new arrays back, where another thread has it."""
    f = s.f
    with f.when(s.is_object(call_lock(s, "acquire", 2), "True").equals(0)):
        for array in arrays:
            s.drop(array)
        f.ret(s.null())


def unlock(s: Scope) -> None:
    """Gives the engine's lock back."""
    call_lock(s, "release", 1)


# -- streams ---------------------------------------------------------------------------------------


def write_uniforms(module: Module) -> None:
    """`uniforms(out, count, scale, start, low, high)`: 24 bits of each word, times a scale, from a
    start on; `low` where that is rounded up to `high`.
    """
    numbers = dict.fromkeys(("scale", "start", "low", "high"), "float")
    s = begin(module, "uniforms", "void", out="ptr", count="i64", **numbers)
    f, out = s.f, s.f["out"]
    f.call("void", "draw", out, f["count"], s.number(0))
    with f.loop(0, f["count"]) as i:
        word = f.convert("sitofp", f.load("i32", out, i) & 0xFFFFFF, "float")
        value = f.call("float", "llvm.fma.f32", word, f["scale"], f["start"])
        f.store(f.select(value.equals(f["high"]), f["low"], value), out, i)
    f.ret()


def write_blocks(module: Module) -> None:
    """`blocks(out, count, mean, std)`: normals in blocks of 16, the last one anew where it is not
    whole.
    """
    s = begin(module, "blocks", "void", out="ptr", count="i64", mean="float", std="float")
    f, out, count = s.f, s.f["out"], s.f["count"]
    rest, sixteen = count & 15, s.number(16)
    f.call("void", "draw", out, count - rest, s.number(0))
    f.call("void", "normals", out, out, count - rest, f["mean"], f["std"])
    with f.when(rest > 0):
        last = f.at(out, count - 16, "float")
        f.call("void", "draw", last, sixteen, rest)
        f.call("void", "normals", last, last, sixteen, f["mean"], f["std"])
    f.ret()


def draw_into(s: Scope, name: str, memory: Value, count: Value) -> None:
    """Draws standard numbers: `rand` or `randn`."""
    f, zero, one = s.f, s.number(0, "float"), s.number(1, "float")
    if name == "randn":
        f.call("void", "blocks", memory, count, zero, one)
    else:
        f.call("void", "uniforms", memory, count, f.constant("float", 2.0**-24), zero, zero, one)


# -- new tensors -----------------------------------------------------------------------------------


def write_new(module: Module, name: str) -> None:
    """`rand`, and `randn` of 16 numbers or more."""
    s = begin_core(module, name)
    rank, sizes, count = asked(s)
    s.require(count >= (16 if name == "randn" else 0))
    array = s.new_array(s.object("F32"), rank, sizes)
    lock(s, array)
    draw_into(s, name, s.memory(array), count)
    unlock(s)
    s.f.ret(s.new_tensor(array))
    s.end()


def write_like(module: Module, name: str) -> None:
    """`rand_like` and `randn_like` of what lies row by row."""
    s = begin_core(module, f"{name}_like")
    x = s.array(s.needed(0))
    count = s.count(x)
    s.require(s.both(s.contiguous(x), count <= SMALL))
    s.require(count >= (16 if name == "randn" else 0))
    kind, wanted = type_asked(s, 1, s.descriptor(x)), options(s, 2)
    s.require(s.is_object(kind, "F32"))
    array = s.new_array(kind, s.rank(x), s.sizes(x))
    lock(s, array)
    draw_into(s, name, s.memory(array), count)
    unlock(s)
    handed_out(s, array, wanted)


def remainder(f: Function, word: Value, by: Value) -> Value:
    """A word without sign modulo a number of fewer than 32 bits."""
    left = f.emit("i32", f"urem {word}, {f.convert('trunc', by, 'i32').name}")
    return f.convert("zext", left, "i64")


def write_randint(module: Module) -> None:
    """`randint(high, size)` and `randint(low, high, size)`."""
    s = begin_core(module, "randint")
    f = s.f
    low, high, size = f.variable("i64", 0), f.variable("i64"), f.variable("ptr", s.needed(1))
    short = s.given(2).equals(s.null())
    with f.when(short):
        high.set(s.integer(s.given(0)))
    with f.when(short.equals(0)):
        low.set(s.integer(s.given(0)))
        high.set(s.integer(s.given(1)))
        size.set(s.given(2))
    s.require(s.is_a(size.get(), "int").equals(0))
    given = f.buffer(16, 8)
    f.store(size.get(), given)
    f.store(s.null(), given, 1)
    rank, sizes, count = shape_asked(s, given)
    kind, wanted = type_asked(s, 3, s.object("I64")), options(s, 4)
    s.require(s.both(s.is_object(kind, "I64"), wanted.equals(0)))
    span = high.get() - low.get()
    s.require(s.both(span > 0, span < 1 << 28))
    array = s.new_array(kind, rank, sizes)
    out = s.memory(array)
    words = f.at(out, count, "i32")  # the second half, which is overwritten behind what is read
    lock(s, array)
    f.call("void", "draw", words, count, s.number(0))
    unlock(s)
    with f.loop(0, count) as i:
        f.store(remainder(f, f.load("i32", words, i), span) + low.get(), out, i)
    handed_out(s, array, wanted)


def write_randperm(module: Module) -> None:
    """`randperm(n)`: step i swaps entry i with entry i + word % (n - i)."""
    s = begin_core(module, "randperm")
    f, n = s.f, s.integer(s.needed(0))
    kind, wanted = type_asked(s, 1, s.object("I64")), options(s, 2)
    s.require(s.both(s.is_object(kind, "I64"), wanted.equals(0)))
    s.require(s.both(n > 0, n <= MOST_ORDERED))
    array, drawn = row_of(s, kind, n), row_of(s, s.object("F32"), n)
    out, words = s.memory(array), s.memory(drawn)
    lock(s, array, drawn)
    f.call("void", "draw", words, n - 1, s.number(0))
    unlock(s)
    with f.loop(0, n) as i:
        f.store(i, out, i)
    with f.loop(0, n - 1) as i:
        other = i + remainder(f, f.load("i32", words, i), n - i)
        own = f.load("i64", out, i)
        f.store(f.load("i64", out, other), out, i)
        f.store(own, out, other)
    s.drop(drawn)
    handed_out(s, array, wanted)


# -- in place --------------------------------------------------------------------------------------


def numbers_asked(s: Scope, defaults: tuple[float, float]) -> list[Value]:
    """Two numbers behind the tensor, in float32."""
    f, found = s.f, []
    for i, default in enumerate(defaults):
        number = f.variable("double", default)
        with f.when(s.given(i + 1).differs(s.null())):
            number.set(s.double(s.given(i + 1)))
        found.append(f.convert("fptrunc", number.get(), "float"))
    return found


def write_filling(module: Module, name: str) -> None:
    """`normal_(self, mean, std)` of 16 numbers or more, and `uniform_(self, from, to)`."""
    s = begin_core(module, name)
    f, tensor = s.f, s.needed(0)
    x, kind, _ = target(s, tensor)
    s.require(s.is_object(kind, "F32"))
    count, memory = s.count(x), s.memory(x)
    first, second = numbers_asked(s, (0.0, 1.0))
    if name == "normal_":
        s.require(s.both(count >= 16, second >= 0))
        lock(s)
        f.call("void", "blocks", memory, count, first, second)
    else:
        s.require(first <= second)
        width = second - first
        s.require(width.differs(Value(f, "float", "0x7FF0000000000000")))
        lock(s)
        f.call("void", "uniforms", memory, count, width * 2.0**-24, first, first, second)
    unlock(s)
    written(s, tensor, f.load("ptr", f.at(f["context"], NAME)))


# -- dropout ---------------------------------------------------------------------------------------


def write_dropout(module: Module) -> None:
    """`dropout(input, p, training, inplace)`: a product with 0 or 1 / (1 - p)."""
    s = begin_core(module, "dropout")
    f, input = s.f, s.needed(0)
    x, kind = s.floats(input)
    n, mode, p = s.count(x), s.mode(), f.variable("double", 0.5)
    s.require(s.both(mode.differs(GENERAL), s.contiguous(x)))
    s.require(s.both(n > 0, n <= SMALL))
    no = s.either(s.given(3).equals(s.null()), s.is_object(s.given(3), "False"))
    with f.when(s.given(1).differs(s.null())):
        p.set(s.double(s.given(1)))
    s.require(s.both(no, s.both(p.get() >= 0, p.get() < 1)))
    idle = s.is_object(s.given(2), "False")
    with f.when(s.either(idle, p.get().equals(0))):
        f.ret(s.hold(input))
    s.require(s.either(s.given(2).equals(s.null()), s.is_object(s.given(2), "True")))
    kept = f.constant("double", 1) - p.get()
    limit = f.call("double", "llvm.ceil.f64", kept * 2.0**53)
    limit = f.convert("fptosi", limit, "i64")
    noise, y = (s.new_array(kind, s.rank(x), s.sizes(x)) for _ in range(2))
    words = f.buffer(8 * SMALL, 8)
    lock(s, noise, y)
    f.call("void", "draw", words, n * 2, s.number(0))
    unlock(s)
    for type in ("float", "double"):
        with f.when(s.is_object(kind, "F32" if type == "float" else "F64")):
            whole = kept if type == "double" else f.convert("fptrunc", kept, type)
            scale = f.constant(type, 1) / whole
            with f.loop(0, n) as i:
                upper, lower = (
                    f.convert("zext", f.load("i32", words, i * 2 + k), "i64") for k in range(2)
                )
                number = (upper & 0x1FFFFF).binary("<<", 32) | lower
                factor = f.select(number < limit, scale, 0)
                f.store(factor, s.memory(noise), i)
                f.store(f.load(type, s.memory(x), i) * factor, s.memory(y), i)
    needs = f.call("i64", "grad_mask", input, s.null(), s.null()).differs(0)
    with f.when(s.either(mode.equals(DIRECT), needs.equals(0))):
        s.drop(noise)
        f.ret(s.new_tensor(y))
    factor = s.new_tensor(noise)
    made = completed(s, mode, y, [input, factor])
    s.drop(factor)
    f.ret(made)
    s.end()


SHARED: tuple[Callable[[Module], None], ...] = (
    write_normals, write_draw, write_uniforms, write_blocks, write_randint, write_randperm,
    write_dropout,
    *[lambda module, name=name: write_new(module, name) for name in ("rand", "randn")],
    *[lambda module, name=name: write_like(module, name) for name in ("rand", "randn")],
    *[lambda module, name=name: write_filling(module, name) for name in ("normal_", "uniform_")],
)  # fmt: skip
