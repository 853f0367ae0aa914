"""Compiled calls of elementwise operators of one and two inputs. Imports calls, objects and core.

One core serves all operators of an arity; what is particular to one stands in its context: the
kernel, loops made of its formula where that is plain arithmetic, and for each set of inputs that
require grad the plan of the backward and what it saves.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.graph import DIRECT, GENERAL
from ...core.op import Op
from ..native.emit import Module, Value
from ..native.runtime import Native
from .formulas import evaluated, names_in, writable
from .loops import FLOAT_TYPES
from .objects import ITEMS, SMALL, Scope, begin, begin_core

# Operators that NumPy composes.
SEVERAL = {"sigmoid", "rsqrt", "silu", "gelu", "logsigmoid", "hardswish", "sign"}


class Saved(ctypes.Structure):
    """A plan, and what it saves: 0 and 1 for inputs, 2 for the output."""

    _fields_ = [("plan", ctypes.c_void_p), ("count", ctypes.c_int64), ("what", ctypes.c_int64 * 3)]


class Context(ctypes.Structure):
    """What a core knows of an operator.

    same   whether the result has the inputs' type, or is of truth values
    truth  whether it is of truth values
    ufunc  what computes into an array where there are no loops
    """

    _fields_ = [
        ("kernel", ctypes.c_void_p),
        ("loop32", ctypes.c_void_p),
        ("loop64", ctypes.c_void_p),
        ("same", ctypes.c_int64),
        ("truth", ctypes.c_int64),
        ("ufunc", ctypes.c_void_p),
        ("saved", Saved * 4),
    ]


PLANS, PLAN_SIZE = Context.saved.offset, ctypes.sizeof(Saved)
TRUTH, UFUNC = Context.truth.offset, Context.ufunc.offset


def context_of(op: Op) -> Context:
    """The context of an operator; its loops are filled in once they are loaded."""
    small: Any = getattr(op.kernel, "small", op.kernel)
    context = Context(id(op.kernel))
    row = [np.ones(1, np.float32)] * len(op.inputs)
    result = small(*row).dtype
    if result == np.float32 and (isinstance(small, np.ufunc) or has_loops(op)):
        context.same, context.ufunc = 1, id(small)
    if result.kind == "b" and has_loops(op):
        context.same = context.truth = 1
    if op.has_gradient:
        for mask in range(1, 1 << len(op.inputs)):
            plan = op.plans[mask]
            what = [2 if n == "y" else op.inputs.index(n) for n in plan.names]
            context.saved[mask] = Saved(id(plan), len(what), (ctypes.c_int64 * 3)(*what))
    return context


def compilable(op: Op) -> bool:
    """Whether a core serves the operator: its plans save nothing but inputs and the output."""
    if op.kind != "elementwise" or op.parameters or len(op.inputs) > 2 or op.variadic:
        return False
    return not op.has_gradient or all(op.plans[m].short for m in range(1, 1 << len(op.inputs)))


# -- loops -----------------------------------------------------------------------------------------


def has_loops(op: Op) -> bool:
    """Whether the operator is computed here by its formula: plain arithmetic and comparisons, which
    round as NumPy does, and what would take NumPy several calls.
    """
    if op.name in SEVERAL:
        return True
    return names_in(op.formula) <= {*op.inputs, "maximum"} and writable(op.formula, {*op.inputs})


def fill_loops(code: Native, op: Op, contexts: Sequence[Any]) -> None:
    """Tells all contexts of the operator where its loops are."""
    for context in contexts:
        own = getattr(context, "operator", context)
        if isinstance(own, Context) and own.kernel == id(op.kernel):
            own.loop32, own.loop64 = [code.address(f"{op.name}_{bits}") for _, bits in FLOAT_TYPES]


def write_loops(module: Module, op: Op) -> None:
    """The operator's loops over rows of either type."""
    for type, bits in FLOAT_TYPES:
        f = module.function(
            f"{op.name}_{bits}", "void", y="ptr", a="ptr", b="ptr", n="i64", da="i64",
            db="i64",
        )  # fmt: skip
        with f.loop(0, f["n"]) as i:
            places = ((f["a"], f["da"]), (f["b"], f["db"]))
            values = {
                name: f.load(type, pointer, i * step)
                for name, (pointer, step) in zip(op.inputs, places)
            }
            f.store(evaluated(f, op.formula, values, type), f["y"], i)
        f.ret()


# -- cores -----------------------------------------------------------------------------------------


def write_number(module: Module) -> None:
    """`number(value, dtype)`: the kept tensor of a Python number; null if there is none yet."""
    s = begin(module, "number", "ptr", value="ptr", dtype="ptr")
    f = s.f
    s.require(s.is_a(f["value"], "float", "int"))
    table = f.select(s.is_object(f["dtype"], "F32"), s.object("SCALARS32"), s.object("SCALARS64"))
    zero = f.select(s.is_object(f["dtype"], "F32"), s.object("ZERO32"), s.object("ZERO64"))
    with f.when(f.call("i1", "is_zero", f["value"])):
        f.ret(zero)
    f.ret(f.call("ptr", "PyDict_GetItemWithError", table, f["value"]))
    s.end()


def write_is_zero(module: Module) -> None:
    """`is_zero(value)`: whether a Python number is 0, and not -0.0."""
    s = begin(module, "is_zero", "i1", value="ptr")
    f = s.f
    with f.when(s.is_a(f["value"], "int")):
        f.ret(f.call("i32", "PyObject_IsTrue", f["value"]).equals(0))
    number = f.call("double", "PyFloat_AsDouble", f["value"])
    f.ret(f.convert("bitcast", number, "i64").equals(0))


def write_finish(module: Module) -> None:
    """`finish(context, mode, data, a, b)`: a tensor of the result, recorded if need be."""
    s = begin(module, "finish", "ptr", context="ptr", mode="i64", data="ptr", a="ptr", b="ptr")
    f = s.f
    t = s.new_tensor(f["data"])
    s.require(t.differs(s.null()))
    with f.when(f["mode"].equals(DIRECT)):
        f.ret(t)
    mask = f.call("i64", "grad_mask", f["a"], f["b"], s.null())
    with f.when(mask.equals(0)):
        f.ret(t)
    plan = f.at(f["context"], mask * PLAN_SIZE + PLANS)
    with f.when(f.load("ptr", plan).equals(s.null())):  # no gradient
        f.ret(t)
    edges = f.call("ptr", "edges", mask, f["a"], f["b"], s.null())
    count = f.load("i64", plan, 1)
    saved = f.call("ptr", "PyTuple_New", count)
    with f.loop(0, count) as i:
        what = f.load("i64", plan, i + 2)
        with f.when(what.equals(2)):
            f.store(f.call("ptr", "keep_output", t), saved, i + (ITEMS >> 3))
        with f.when(what < 2):
            value = f.select(what.equals(0), f["a"], f["b"])
            f.store(s.hold(value), saved, i + (ITEMS >> 3))
    params = s.hold(s.object("NOTHING"))
    f.ret(f.call("ptr", "record", t, f.load("ptr", plan), params, edges, saved))
    s.end()


def write_unary(module: Module) -> None:
    """`unary(context, (input, option))`, where the option is not to be in place, or "none"."""
    s = begin_core(module, "unary")
    f, input = s.f, s.needed(0)
    no = s.either(s.is_object(s.given(1), "False"), s.is_object(s.given(1), "none"))
    s.require(s.either(s.given(1).equals(s.null()), no))
    x, kind = s.floats(input)
    mode = s.mode()
    s.require(mode.differs(GENERAL))
    y = f.call("ptr", "compute", f["context"], x, s.null(), kind, x)
    s.require(y.differs(s.null()))
    f.ret(f.call("ptr", "finish", f["context"], mode, y, input, s.null()))
    s.end()


def write_binary(module: Module) -> None:
    """`binary(context, (input, other))`; other may be a number."""
    s = begin_core(module, "binary")
    f, input, given = s.f, s.needed(0), s.needed(1)
    x, kind = s.floats(input)
    mode = s.mode()
    s.require(mode.differs(GENERAL))
    other = f.variable("ptr", given)
    with f.when(s.is_a(given, "float", "int")):
        other.set(f.call("ptr", "number", given, kind))
        s.require(other.get().differs(s.null()))
    b = other.get()
    y = s.array(b)
    s.require(s.descriptor(y).equals(kind))
    larger = f.select(s.rank(y).equals(0), x, y)  # whose shape the result has, if they agree
    z = f.call("ptr", "compute", f["context"], x, y, kind, larger)
    s.require(z.differs(s.null()))
    f.ret(f.call("ptr", "finish", f["context"], mode, z, input, b))
    s.end()


def write_compute(module: Module) -> None:
    """`compute(context, x, y, dtype, like)`: the result's array: by the operator's loop if the
    arrays lie row by row and have the shape of `like` or none, else by its kernel.
    """
    s = begin(module, "compute", "ptr", context="ptr", x="ptr", y="ptr", dtype="ptr", like="ptr")
    f = s.f
    x, y, like = f["x"], f["y"], f["like"]
    stack = f.buffer(24, 8)
    f.store(x, stack)
    f.store(y, stack, 1)
    alone = y.equals(s.null())
    second = f.select(alone, x, y)
    fit = f.call("i1", "agree", x, like)
    fit = s.both(fit, f.call("i1", "agree", second, like))
    n = f.call("i64", "count_elements", like)
    fit = s.both(fit, n <= SMALL)
    same = f.load("i64", f["context"], 3).differs(0)
    with f.when(s.both(fit, same)):
        truth = f.load("i64", f["context"], TRUTH >> 3).differs(0)
        result = f.select(truth, s.object("BOOL"), f["dtype"])
        made = s.new_array(result, s.rank(like), s.sizes(like))
        wide = s.is_object(f["dtype"], "F64")
        loop = f.select(wide, f.load("ptr", f["context"], 2), f.load("ptr", f["context"], 1))
        with f.when(loop.differs(s.null())):
            steps = [f.select(s.rank(a).equals(0), s.number(0), 1) for a in (x, second)]
            pointers = [s.memory(a) for a in (made, x, second)]
            f.call("void", loop, *pointers, n, *steps)
            f.ret(made)
        f.store(made, stack, 1)
        with f.when(y.differs(s.null())):
            f.store(y, stack, 1)
            f.store(made, stack, 2)
        given = f.select(alone, s.number(2), 3)
        ufunc = f.load("ptr", f["context"], UFUNC >> 3)
        found = f.call("ptr", "PyObject_Vectorcall", ufunc, stack, given, s.null())
        s.drop(made)
        f.ret(found)
    given = f.select(alone, s.number(1), 2)
    kernel = f.load("ptr", f["context"])
    found = f.call("ptr", "PyObject_Vectorcall", kernel, stack, given, s.null())
    s.require(found.differs(s.null()))
    with f.when(s.is_a(found, "ndarray")):
        f.ret(found)
    f.ret(s.call_array("ptr", "as_array", found))  # takes the number's reference
    s.end()


def write_agree(module: Module) -> None:
    """`agree(x, like)`: whether x lies row by row and has the other's shape, or is a number."""
    f = module.function("agree", "i1", True, x="ptr", like="ptr")
    s = Scope(f)
    no, yes = Value(f, "i1", "false"), Value(f, "i1", "true")
    with f.when(s.contiguous(f["x"]).equals(0)):
        f.ret(no)
    rank = s.rank(f["x"])
    with f.when(rank.equals(0)):
        f.ret(yes)
    with f.when(rank.differs(s.rank(f["like"]))):
        f.ret(no)
    mine, other = s.sizes(f["x"]), s.sizes(f["like"])
    with f.loop(0, f.convert("sext", rank, "i64")) as i:
        with f.when(f.load("i64", mine, i).differs(f.load("i64", other, i))):
            f.ret(no)
    f.ret(yes)


SHARED = (
    write_number,
    write_is_zero,
    write_finish,
    write_agree,
    write_compute,
    write_unary,
    write_binary,
)
