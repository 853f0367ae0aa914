"""Compiled backward steps of elementwise operators: `Node.gradients` of a few elements. Imports
loops, objects and core.

The loops are written from the formulas of the local derivatives. What they do not know (broadcast
or half-precision operands, tensors written to since, recording) is left to the method in Python.
"""

from __future__ import annotations

import ctypes

from ...core.graph import DIRECT, Node, SavedOutput
from ...core.memory import Storage
from ...core.op import Op, Plan
from ...core.tensor import Tensor
from ..native.emit import Function, Module, Value
from ..native.runtime import Native
from .formulas import evaluated, names_in, writable
from .loops import FLOAT_TYPES
from .objects import COMPILED_PLANS, ITEMS, SIZE, SMALL, begin, begin_core

SLOTS = 3  # what formulas name: first and second input, result


class Step(ctypes.Structure):
    """The loops that give one input its gradient; none where it is g itself."""

    _fields_ = [("loop32", ctypes.c_void_p), ("loop64", ctypes.c_void_p)]


class Backward(ctypes.Structure):
    """A plan: for each name its place among what is saved or -1, and a step for each target."""

    _fields_ = [("places", ctypes.c_int64 * SLOTS), ("count", ctypes.c_int64), ("steps", Step * 2)]


COUNT, STEPS = Backward.count.offset, Backward.steps.offset


# -- formulas --------------------------------------------------------------------------------------


KEPT: list[Backward] = []  # what code points to


def known(op: Op) -> bool:
    """Whether all derivatives of an operator of one or two inputs are such formulas."""
    if not op.partials or len(op.inputs) > 2 or op.parameters:
        return False
    return all(n in op.partials and writable(op.partials[n], {*op.inputs, "y"}) for n in op.inputs)


def partial_of(f: Function, formula: str, values: dict[str, Value], type: str) -> Value:
    """The value of a local derivative."""
    found = evaluated(f, formula, values, type)
    return found if found.type == type else f.convert("uitofp", found, type)


def write_steps(module: Module, op: Op) -> None:
    """The loops of an operator: g times the local derivative of each input."""
    names = [*op.inputs, *["unused"] * (2 - len(op.inputs)), "y"]
    for target in op.inputs:
        formula = (op.partials or {})[target]
        for type, bits in FLOAT_TYPES:
            places = dict.fromkeys(("out", "g", *names), "ptr")
            f = module.function(
                f"{op.name}_to_{target}_{bits}", "void", **places, n="i64",
                **{f"d{n}": "i64" for n in names},
            )  # fmt: skip
            with f.loop(0, f["n"]) as i:
                used = sorted(names_in(formula) & {*names})  # the same text in every process
                values = {n: f.load(type, f[n], i * f[f"d{n}"]) for n in used}
                g = f.load(type, f["g"], i)
                f.store(g * partial_of(f, formula, values, type), f["out"], i)
            f.ret()


def register(code: Native, op: Op) -> None:
    """Makes the operator's plans known to the core."""
    assert op.partials is not None
    for mask in range(1, 1 << len(op.inputs)):
        plan: Plan = op.plans[mask]
        order = [*op.inputs, *[""] * (2 - len(op.inputs)), "y"]
        places = [plan.names.index(n) if n in plan.names else -1 for n in order]
        steps = []
        for i in plan.targets:
            target = op.inputs[i]
            loops = [code.address(f"{op.name}_to_{target}_{bits}") for _, bits in FLOAT_TYPES]
            steps.append(Step() if op.partials[target] == "1" else Step(*loops))
        made = Backward((ctypes.c_int64 * SLOTS)(*places), len(steps), (Step * 2)(*steps))
        KEPT.append(made)
        COMPILED_PLANS[plan] = ctypes.addressof(made)


# -- the core --------------------------------------------------------------------------------------


def write_saved_array(module: Module) -> None:
    """`saved_array(saved, seq)`: the array of a saved tensor or output to which nobody has written
    since; else null.
    """
    s = begin(module, "saved_array", "ptr", saved="ptr", seq="i64")
    f, saved = s.f, s.f["saved"]
    data, storage = f.variable("ptr", s.null()), f.variable("ptr", s.object("None"))
    with f.when(s.is_a(saved, "Tensor", "Parameter")):
        data.set(s.get(saved, Tensor, "_data"))
        storage.set(s.get(saved, Tensor, "_storage"))
    with f.when(s.is_a(saved, "SavedOutput")):
        data.set(s.get(saved, SavedOutput, "_data"))
        other = s.get(saved, SavedOutput, "other")
        storage.set(f.select(s.is_object(other, "None"), saved, other))
    s.require(data.get().differs(s.null()))
    s.require(s.is_a(data.get(), "ndarray"))
    with f.when(s.is_object(storage.get(), "None").equals(0)):
        written = f.call("i64", "PyLong_AsLong", s.get(storage.get(), Storage, "written"))
        s.require(written <= f["seq"])
    f.ret(data.get())
    s.end()


def write_gradients(module: Module) -> None:
    """`gradients(context, (node, g))`: a list of one gradient for each edge."""
    s = begin_core(module, "gradients")
    f, node, g = s.f, s.needed(0), s.needed(1)
    s.require(s.is_a(node, "Node"))
    s.require(s.mode().equals(DIRECT))
    x, kind = s.floats(g)
    n, saved = s.count(x), s.get(node, Node, "saved")
    s.require(s.both(s.contiguous(x), n <= SMALL))
    s.require(s.is_a(saved, "tuple"))
    plan = s.get(node, Node, "plan")
    found = f.call("ptr", "PyDict_GetItemWithError", s.object("COMPILED_PLANS"), plan)
    s.require(found.differs(s.null()))
    backward = f.call("ptr", "PyLong_AsVoidPtr", found)
    seq = f.call("i64", "PyLong_AsLong", s.get(node, Node, "seq"))
    pointers, steps = f.buffer(8 * SLOTS, 8), f.buffer(8 * SLOTS, 8)
    with f.loop(0, SLOTS) as i:
        place = f.load("i64", backward, i)
        f.store(s.memory(x), pointers, i)
        f.store(s.number(0), steps, i)
        with f.when(place >= 0):
            s.require(place < f.load("i64", saved, SIZE >> 3))
            data = f.call("ptr", "saved_array", f.load("ptr", saved, place + (ITEMS >> 3)), seq)
            s.require(data.differs(s.null()))
            s.require(s.descriptor(data).equals(kind))
            s.require(f.call("i1", "agree", data, x).differs(0))
            f.store(s.memory(data), pointers, i)
            f.store(f.select(s.rank(data).equals(0), s.number(0), 1), steps, i)
    count = f.load("i64", backward, COUNT >> 3)
    made = f.call("ptr", "PyList_New", count)
    s.require(made.differs(s.null()))
    wide = f.convert("zext", s.is_object(kind, "F64"), "i64")
    with f.loop(0, count) as k:
        loop = f.load("ptr", backward, k * 2 + wide + (STEPS >> 3))
        array = f.variable("ptr", x)
        with f.when(loop.equals(s.null())):
            s.hold(x)
        with f.when(loop.differs(s.null())):
            array.set(s.new_array(kind, s.rank(x), s.sizes(x)))
            f.call("void", "run_step", loop, s.memory(array.get()), s.memory(x), pointers, n, steps)
        f.call("i32", "PyList_SetItem", made, k, s.new_tensor(array.get()))
    f.ret(made)
    s.end()


def write_run_step(module: Module) -> None:
    """`run_step(loop, out, g, pointers, n, steps)`."""
    s = begin(
        module, "run_step", "void", loop="ptr", out="ptr", g="ptr", pointers="ptr", n="i64",
        steps="ptr",
    )  # fmt: skip
    f = s.f
    pointers = [f.load("ptr", f["pointers"], i) for i in range(SLOTS)]
    steps = [f.load("i64", f["steps"], i) for i in range(SLOTS)]
    f.call("void", f["loop"], f["out"], f["g"], *pointers, f["n"], *steps)
    f.ret()


SHARED = (write_saved_array, write_run_step, write_gradients)
