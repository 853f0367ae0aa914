"""What a compiled call records: the plans of an operator's backward, and what each of them saves.
Imports objects, recording and core.

A core whose operator has parameters begins its context with a `Described` and ends with `complete`,
which makes the tensor of its result and, where an input requires grad, the node behind it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from ...core.graph import DIRECT
from ...core.op import Op
from ..native.emit import Module, Value
from .objects import ITEMS, Scope, begin

MOST_INPUTS, MOST_SAVED, MOST_PARAMETERS = 3, 8, 4
# What is saved: the number of an input, or one of these plus a number.
OUTPUT, SHAPE, VALUE = 3, 4, 8


class Saves(ctypes.Structure):
    """A plan, and what it saves, in order."""

    _fields_ = [
        ("plan", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("what", ctypes.c_int64 * MOST_SAVED),
    ]


class Described(ctypes.Structure):
    """The plans by the inputs that require grad; the names of the parameters, and how many objects
    a core hands over: the parameters, and behind them other things to be saved.
    """

    _fields_ = [
        ("saves", Saves * (1 << MOST_INPUTS)),
        ("names", ctypes.c_void_p * MOST_PARAMETERS),
        ("size", ctypes.c_int64),
        ("held", ctypes.c_int64),
    ]


SAVES, NAMES = ctypes.sizeof(Saves), Described.names.offset
SIZE_AT, HELD_AT = Described.size.offset, Described.held.offset
KEPT: list[str] = []  # the names that contexts point to


def described(op: Op, parameters: Sequence[str] = (), others: Sequence[str] = ()) -> Described:
    """The description of an operator whose core hands over these parameters, and others that are
    saved.
    """
    given = [*parameters, *others]
    KEPT.extend(parameters)
    names = (ctypes.c_void_p * MOST_PARAMETERS)(*[id(n) for n in parameters])
    made = Described(names=names, size=len(parameters), held=len(given))

    def code(name: str) -> int:
        if name in op.inputs:
            return op.inputs.index(name)
        if name in given:
            return VALUE + given.index(name)
        return OUTPUT if name in op.outputs else SHAPE + op.inputs.index(name[:-6])

    for mask in range(1, 1 << len(op.inputs)) if op.has_gradient else ():
        plan = op.plans[mask]
        what = (ctypes.c_int64 * MOST_SAVED)(*map(code, plan.names))
        made.saves[mask] = Saves(id(plan), len(plan.names), what)
    return made


def write_save(module: Module) -> None:
    """`save(saves, result, inputs, values)`: the tuple of what a plan saves."""
    s = begin(module, "save", "ptr", saves="ptr", result="ptr", inputs="ptr", values="ptr")
    f = s.f
    count = f.load("i64", f["saves"], 1)
    made = f.call("ptr", "PyTuple_New", count)
    s.require(made.differs(s.null()))
    found = f.variable("ptr")
    with f.loop(0, count) as i:
        what = f.load("i64", f["saves"], i + 2)
        with f.when(what >= VALUE):
            found.set(s.hold(f.load("ptr", f["values"], what - VALUE)))
        with f.when(what.equals(OUTPUT)):
            found.set(f.call("ptr", "keep_output", f["result"]))
        with f.when(s.both(what < VALUE, what.differs(OUTPUT))):
            shape = what >= SHAPE
            tensor = f.load("ptr", f["inputs"], f.select(shape, what - SHAPE, what))
            absent = tensor.equals(s.null())
            found.set(f.select(absent, s.object("None"), tensor))
            taken = s.both(shape, absent.equals(0))
            with f.when(taken):
                found.set(f.call("ptr", "shape_tuple", s.get_array(tensor)))
            with f.when(taken.equals(0)):
                s.hold(found.get())
        f.store(found.get(), made, i + (ITEMS >> 3))
    f.ret(made)
    s.end()


def write_parameters(module: Module) -> None:
    """`parameters(context, values)`: the dictionary of an operator's parameters."""
    s = begin(module, "parameters", "ptr", context="ptr", values="ptr")
    f = s.f
    size = f.load("i64", f.at(f["context"], SIZE_AT))
    with f.when(size.equals(0)):
        f.ret(s.hold(s.object("NOTHING")))
    made = f.call("ptr", "PyDict_New")
    s.require(made.differs(s.null()))
    with f.loop(0, size) as i:
        name = f.load("ptr", f.at(f["context"], NAMES), i)
        f.call("i32", "PyDict_SetItem", made, name, f.load("ptr", f["values"], i))
    f.ret(made)
    s.end()


def write_release(module: Module) -> None:
    """`release(values, count)`: drops references."""
    s = begin(module, "release", "void", values="ptr", count="i64")
    with s.f.loop(0, s.f["count"]) as i:
        s.drop(s.f.load("ptr", s.f["values"], i))
    s.f.ret()


def write_complete(module: Module) -> None:
    """`complete(context, mode, data, a, b, c, values)`: a tensor of the result, recorded if need
    be. Takes the references to the array and the values.
    """
    s = begin(
        module, "complete", "ptr", context="ptr", mode="i64", data="ptr", a="ptr", b="ptr", c="ptr",
        values="ptr",
    )  # fmt: skip
    f = s.f
    inputs = [f[name] for name in "abc"]
    t = s.new_tensor(f["data"])
    s.require(t.differs(s.null()))
    held = f.load("i64", f.at(f["context"], HELD_AT))
    mask = f.call("i64", "grad_mask", *inputs)
    saves = f.at(f["context"], mask * SAVES)
    plan = f.load("ptr", saves)
    with f.when(s.either(f["mode"].equals(DIRECT), plan.equals(s.null()))):
        f.call("void", "release", f["values"], held)
        f.ret(t)
    edges = f.call("ptr", "edges", mask, *inputs)
    listed = f.buffer(8 * MOST_INPUTS, 8)
    for i, tensor in enumerate(inputs):
        f.store(tensor, listed, i)
    saved = f.call("ptr", "save", saves, t, listed, f["values"])
    params = f.call("ptr", "parameters", f["context"], f["values"])
    f.call("void", "release", f["values"], held)
    f.ret(f.call("ptr", "record", t, plan, params, edges, saved))
    s.end()


def completed(
    s: Scope, mode: Value, data: Value, inputs: Sequence[Value], values: Sequence[Value] = (),
    context: Value | None = None,
) -> Value:  # fmt: skip
    """The tensor of an array that is a core's result; takes the references to the values. The
    description is the core's context, or another one.
    """
    f = s.f
    listed = f.buffer(8 * max(len(values), 1), 8)
    for i, value in enumerate(values):
        f.store(value, listed, i)
    padded = [*inputs, *[s.null()] * (MOST_INPUTS - len(inputs))]
    own = f["context"] if context is None else context
    return f.call("ptr", "complete", own, mode, data, *padded, listed)


SHARED = (write_save, write_parameters, write_release, write_complete)
