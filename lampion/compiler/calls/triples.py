"""Compiled calls of formulas over three tensors: addcmul, addcdiv, lerp, in place too. Imports
described, formulas, inplace, loops, objects and core.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from ...core.graph import GENERAL
from ...core.op import OPS
from ..native.emit import Module, Value
from ..native.runtime import Native
from .described import Described, completed, described
from .formulas import evaluated
from .inplace import operand, target
from .loops import FLOAT_TYPES
from .objects import SMALL, Scope, begin_core

# Operator -> the function's parameters; whether the third operand may be a number.
TRIPLES = {
    "addcmul": ("input tensor1 tensor2 value", False),
    "addcdiv": ("input tensor1 tensor2 value", False),
    "lerp": ("input end weight", True),
}


class Context(ctypes.Structure):
    """An operator, its loops, whether its third operand may be a number, its name in place."""

    _fields_ = [
        ("described", Described),
        ("loops", ctypes.c_void_p * 2),
        ("numbers", ctypes.c_int64),
        ("name", ctypes.py_object),
    ]


def context_of(name: str) -> Context:
    """The context of an operator, or of its form in place."""
    operator = name.removesuffix("_")
    own = described(OPS[operator], OPS[operator].parameters)
    return Context(own, numbers=TRIPLES[operator][1], name=name)


def fill(code: Native, *, name: str, context: Context) -> None:
    """Tells a context where the loops are."""
    operator = name.removesuffix("_")
    context.loops[:] = [code.address(f"{operator}_of_{bits}") for _, bits in FLOAT_TYPES]


def write_loops(module: Module) -> None:
    """`addcmul_of_32(y, a, b, c, n, db, dc, value)`, ...: b and c with the distance of their
    elements.
    """
    for name in TRIPLES:
        op = OPS[name]
        for type, bits in FLOAT_TYPES:
            pointers = dict.fromkeys(("y", "a", "b", "c"), "ptr")
            numbers = dict.fromkeys(("n", "db", "dc"), "i64") | {"value": "double"}
            f = module.function(f"{name}_of_{bits}", "void", **pointers, **numbers)
            value = f["value"] if type == "double" else f.convert("fptrunc", f["value"], type)
            steps = (f.constant("i64", 1), f["db"], f["dc"])
            with f.loop(0, f["n"]) as i:
                values = {
                    own: f.load(type, f[p], i * step)
                    for own, p, step in zip(op.inputs, "abc", steps, strict=True)
                }
                values |= dict.fromkeys(op.parameters, value)
                f.store(evaluated(f, op.formula, values, type), f["y"], i)
            f.ret()


def factor(s: Scope, kind: Value) -> tuple[Value, Value]:
    """The `value` argument as an object, a new reference, and as a double; 1 where it is absent,
    null and 1 for an operator without.
    """
    f, size = s.f, s.f.load("i64", s.f.at(s.f["context"], Described.size.offset))
    found, number = f.variable("ptr", s.null()), f.variable("double", 1)
    with f.when(size > 0):
        given = f.load("ptr", f["given"], 3)
        with f.when(given.differs(s.null())):
            number.set(s.double(given))
            s.require(s.either(s.fits_float(number.get()), s.is_object(kind, "F64")))
            found.set(s.hold(given))
        with f.when(given.equals(s.null())):
            found.set(f.call("ptr", "PyLong_FromSsize_t", s.number(1)))
    return found.get(), number.get()


def checked(s: Scope, i: int) -> Value:
    """A core's argument that may be a number only where the context says so, and only the last."""
    given, f = s.needed(i), s.f
    number = s.is_a(given, "float", "int")
    if i == 1:
        s.require(number.equals(0))
    else:
        allowed = f.load("i64", f.at(f["context"], Context.numbers.offset)).differs(0)
        s.require(s.either(allowed, number.equals(0)))
    return given


def run(
    s: Scope, kind: Value, y: Value, arrays: list[Value], steps: list[Value], number: Value
) -> None:
    """Runs the loop."""
    f = s.f
    loops = f.at(f["context"], Context.loops.offset)
    chosen = f.load("ptr", loops, f.convert("zext", s.is_object(kind, "F64"), "i64"))
    f.call("void", chosen, s.memory(y), *map(s.memory, arrays), s.count(y), *steps, number)


def single(s: Scope, number: Value, kind: Value) -> Value:
    """A new tensor of a number."""
    f = s.f
    s.require(s.either(s.fits_float(number), s.is_object(kind, "F64")))
    array = s.new_array(kind, s.number(0, "i32"), s.null())
    for type, bits in FLOAT_TYPES:
        with f.when(s.is_object(kind, f"F{bits}")):
            f.store(number if type == "double" else f.convert("fptrunc", number, type),
                    s.memory(array))  # fmt: skip
    made = s.new_tensor(array)
    s.require(made.differs(s.null()))
    return made


def write_triple(module: Module) -> None:
    """`triple(context, (a, b, c, value))` of one shape; b and c may be single numbers."""
    s = begin_core(module, "triple")
    f, first = s.f, s.needed(0)
    x, kind = s.floats(first)
    n, mode = s.count(x), s.mode()
    s.require(s.both(s.contiguous(x), s.both(n <= SMALL, mode.differs(GENERAL))))
    tensors, arrays, steps, made = [first], [x], [], f.variable("ptr", s.null())
    for i in (1, 2):
        given = f.variable("ptr", checked(s, i))
        with f.when(s.is_a(given.get(), "float", "int")):
            made.set(single(s, s.double(given.get()), kind))
            given.set(made.get())
        array = s.array(given.get())
        s.require(s.both(s.descriptor(array).equals(kind), f.call("i1", "agree", array, x)))
        tensors.append(given.get())
        arrays.append(array)
        steps.append(f.select(s.rank(array).equals(0), s.number(0), 1))
    held, number = factor(s, kind)
    y = s.new_array(kind, s.rank(x), s.sizes(x))
    run(s, kind, y, arrays, steps, number)
    result = completed(s, mode, y, tensors, [held])
    with f.when(made.get().differs(s.null())):
        s.drop(made.get())
    f.ret(result)
    s.end()


def write_triple_in_place(module: Module) -> None:
    """`triple_(context, (a, b, c, value))` where nothing is recorded."""
    s = begin_core(module, "triple_")
    f, first = s.f, s.needed(0)
    x, kind, mode = target(s, first)
    others = [operand(s, checked(s, i), x, kind, mode) for i in (1, 2)]
    arrays, steps = [x, *[a for a, _ in others]], [step for _, step in others]
    held, number = factor(s, kind)
    run(s, kind, x, arrays, steps, number)
    with f.when(held.differs(s.null())):
        s.drop(held)
    name = f.load("ptr", f.at(f["context"], Context.name.offset))
    s.require(f.call("ptr", "note_write", first, name).differs(s.null()))
    f.ret(s.hold(first))
    s.end()


SHARED: tuple[Callable[[Module], None], ...] = (write_loops, write_triple, write_triple_in_place)
