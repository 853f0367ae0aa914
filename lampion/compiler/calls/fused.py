"""Compiled calls of softmax, layer normalisation and cross-entropy over few elements.
Imports objects, loops and core.

Each core computes what lies row by row and has few elements by a loop written here; everything else
goes to the Python function and its kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from ...core.graph import DIRECT, GENERAL
from ...core.op import Op
from ..native.emit import Module, Value
from .loops import FLOAT_TYPES, write_loops
from .objects import ITEMS, MOST_DIMS, SIZE, SMALL, Scope, begin, begin_core


class Context(ctypes.Structure):
    """The plans of an operator's backward by the inputs that require grad."""

    _fields_ = [("plans", ctypes.c_void_p * 8)]


def context_of(op: Op) -> Context:
    """The context of an operator."""
    masks = 1 << len(op.inputs)
    plans = [0, *[id(op.plans[mask]) for mask in range(1, masks)]] if op.has_gradient else []
    return Context((ctypes.c_void_p * 8)(*plans))


# -- what cores have in common ---------------------------------------------------------------------


def plan_of(s: Scope, mask: Value) -> Value:
    """The plan for the inputs that require grad."""
    return s.f.load("ptr", s.f["context"], mask)


def finished(s: Scope, mode: Value, data: Value, *inputs: Value) -> tuple[Value, Value, Value]:
    """The result's tensor, which is returned if nothing is recorded; the plan and the edges."""
    f = s.f
    t = s.new_tensor(data)
    s.require(t.differs(s.null()))
    with f.when(mode.equals(DIRECT)):
        f.ret(t)
    given = [*inputs, *[s.null()] * (3 - len(inputs))]
    mask = f.call("i64", "grad_mask", *given)
    with f.when(mask.equals(0)):
        f.ret(t)
    return t, plan_of(s, mask), f.call("ptr", "edges", mask, *given)


def matrix(s: Scope, tensor: Value, kind: Value | None = None) -> tuple[Value, Value, Value]:
    """The array of a matrix that lies row by row, of a type, and its two sizes."""
    x, own = s.floats(tensor)
    if kind is not None:
        s.require(own.equals(kind))
    s.require(s.rank(x).equals(2))
    s.require(s.contiguous(x))
    sizes = s.sizes(x)
    return x, s.f.load("i64", sizes), s.f.load("i64", sizes, 1)


def for_type(s: Scope, kind: Value, write: Callable[[str, str], Any]) -> None:
    """Writes code for either type, of which the one of `kind` runs."""
    wide = s.is_object(kind, "F64")
    for (type, bits), condition in zip(FLOAT_TYPES, (wide.equals(0), wide), strict=True):
        with s.f.when(condition):
            write(type, bits)


def run_loop(s: Scope, kind: Value, name: str, *arguments: Value) -> None:
    """Calls a loop for the type."""
    for_type(s, kind, lambda type, bits: s.f.call("void", f"{name}_{bits}", *arguments))


# -- softmax, layer normalisation, cross-entropy ---------------------------------------------------


def rows_of(s: Scope, x: Value) -> tuple[Value, Value, Value]:
    """How many rows an array has that lies row by row, and their length; and its rank."""
    f = s.f
    s.require(s.contiguous(x))
    rank = f.convert("sext", s.rank(x), "i64")
    s.require(rank > 0)
    n, total = f.load("i64", s.sizes(x), rank - 1), s.count(x)
    s.require(s.both(n > 0, total <= SMALL))
    return f.emit("i64", f"sdiv {total}, {n.name}"), n, rank


def write_softmax(module: Module, name: str) -> None:
    """`softmax` and `log_softmax` over the last dimension: (input, dim, dtype), or (input, dim,
    any, dtype)."""
    s = begin_core(module, name)
    f, input = s.f, s.needed(0)
    x, kind = s.floats(input)
    rows, n, rank = rows_of(s, x)
    dim = s.integer(s.needed(1))
    s.require(s.either(dim.equals(-1), dim.equals(rank - 1)))
    for i in (2, 3):  # one of them is a dtype, the other an int
        given = s.given(i)
        with f.when(s.is_missing(given).equals(0)):
            s.require(s.is_a(given, "int"))
    mode = s.mode()
    s.require(mode.differs(GENERAL))
    y = s.new_array(kind, s.rank(x), s.sizes(x))
    run_loop(s, kind, f"{name}_rows", s.memory(x), s.memory(y), rows, n)
    t, plan, edges = finished(s, mode, y, input)
    last = f.call("ptr", "PyLong_FromSsize_t", rank - 1)
    saved = s.tuple_of(f.call("ptr", "keep_output", t), s.hold(last))
    params = f.call("ptr", "one_item", s.object("dim"), last)
    f.ret(f.call("ptr", "record", t, plan, params, edges, saved))
    s.end()


def write_layer_norm(module: Module) -> None:
    """`layer_norm` over the last dimension: (input, (n,), weight, bias, eps)."""
    s = begin_core(module, "layer_norm")
    f, input, shape = s.f, s.needed(0), s.needed(1)
    x, kind = s.floats(input)
    rows, n, rank = rows_of(s, x)
    s.require(s.is_a(shape, "tuple", "Size"))
    s.require(f.load("i64", shape, SIZE >> 3).equals(1))
    s.require(s.integer(f.load("ptr", shape, ITEMS >> 3)).equals(n))
    s.require(rank <= MOST_DIMS)
    weight, w = s.optional_row(2, kind, n)
    bias, b = s.optional_row(3, kind, n)
    eps, given = f.variable("double", 1e-5), s.given(4)
    with f.when(given.differs(s.null())):
        s.require(s.is_a(given, "float"))
        eps.set(f.call("double", "PyFloat_AsDouble", given))
    mode = s.mode()
    s.require(mode.differs(GENERAL))
    mask = f.call("i64", "grad_mask", input, weight, bias)
    recorded = s.both(mask.differs(0), mode.differs(DIRECT))
    y = s.new_array(kind, s.rank(x), s.sizes(x))
    arguments = (s.memory(x), s.memory(y), rows, n, w, b)
    with f.when(recorded.equals(0)):
        run_loop(s, kind, "normalised_rows", *arguments, s.null(), s.null(), eps.get())
        f.ret(s.new_tensor(y))
    single = f.buffer(8 * MOST_DIMS, 8)  # the shape of the means: (..., 1)
    with f.loop(0, rank - 1) as i:
        f.store(f.load("i64", s.sizes(x), i), single, i)
    f.store(s.number(1), single, rank - 1)
    mean, variance = [s.new_array(kind, s.rank(x), single) for _ in range(2)]
    kept = (s.memory(mean), s.memory(variance))
    run_loop(s, kind, "normalised_rows", *arguments, *kept, eps.get())
    t, plan, edges = finished(s, mode, y, input, weight, bias)
    eps_object = f.call("ptr", "PyFloat_FromDouble", eps.get())
    params, size = f.call("ptr", "PyDict_New"), f.call("ptr", "shape_row", n)
    dims, view = s.object("LAST"), s.object("EMPTY")
    for key, value in (("dims", dims), ("shape", size), ("view", view), ("eps", eps_object)):
        f.call("i32", "PyDict_SetItem", params, s.object(key), value)
    none = s.object("None")
    b_size = f.select(bias.equals(s.null()), none, size)
    saved = s.tuple_of(
        s.hold(input), s.hold(f.select(weight.equals(s.null()), none, weight)), s.hold(b_size),
        f.call("ptr", "keep_statistic", mean), f.call("ptr", "keep_statistic", variance),
        s.hold(dims), size, s.hold(view), eps_object,
    )  # fmt: skip
    f.ret(f.call("ptr", "record", t, plan, params, edges, saved))
    s.end()


def write_cross_entropy(module: Module) -> None:
    """`cross_entropy` of (N, C) and N classes, meaned: (input, target, weight, size_average,
    ignore_index, reduce, reduction, label_smoothing).
    """
    s = begin_core(module, "cross_entropy")
    f, input, target = s.f, s.needed(0), s.needed(1)
    x, rows, n = matrix(s, input)
    kind, t = s.descriptor(x), s.array(target)
    s.require(s.both(s.rank(t).equals(1), s.contiguous(t)))
    s.require(s.is_object(s.descriptor(t), "I64"))
    s.require(f.load("i64", s.sizes(t)).equals(rows))
    s.require(s.both(rows > 0, n > 0))
    s.require(rows * n <= SMALL)
    for i in (2, 3, 5):
        s.require(s.is_missing(s.given(i)))
    for i, usual in ((4, "ignored"), (6, "averaged")):
        value = s.given(i)
        with f.when(value.differs(s.null())):
            s.require(f.call("i32", "same_value", value, s.object(usual)).differs(0))
    with f.when(s.given(7).differs(s.null())):
        s.require(f.call("i32", "same_value", s.given(7), s.object("smooth")).differs(0))
    mode = s.mode()
    s.require(mode.differs(GENERAL))
    loss = s.new_array(kind, s.number(0, "i32"), s.null())
    lse = s.new_array(kind, s.number(1, "i32"), s.sizes(t))
    arguments = (s.memory(x), s.memory(loss), rows, n, s.memory(t), s.memory(lse))
    right = f.variable("i1", 0)
    for_type(
        s, kind, lambda type, bits: right.set(f.call("i1", f"class_losses_{bits}", *arguments))
    )
    with f.when(right.get().equals(0)):
        s.drop(loss)
        s.drop(lse)
        f.ret(s.null())
    keep = f.call("ptr", "keep_statistic", lse)
    mask = f.call("i64", "grad_mask", input, s.null(), s.null())
    with f.when(s.either(mask.equals(0), mode.equals(DIRECT))):
        s.drop(keep)
    made, plan, edges = finished(s, mode, loss, input)
    saved = s.tuple_of(
        s.hold(input), s.hold(target), s.hold(s.object("None")), keep,
        s.hold(s.object("ignored")), s.hold(s.object("averaged")),
    )  # fmt: skip
    f.ret(f.call("ptr", "record", made, plan, s.hold(s.object("MEANED")), edges, saved))
    s.end()


# -- helpers ---------------------------------------------------------------------------------------


def write_shape_row(module: Module) -> None:
    """`shape_row(n)`: the tuple (n,)."""
    s = begin(module, "shape_row", "ptr", n="i64")
    s.f.ret(s.tuple_of(s.f.call("ptr", "PyLong_FromSsize_t", s.f["n"])))


def write_same_value(module: Module) -> None:
    """`same_value(a, b)`: whether a == b in Python; not where that fails."""
    s = begin(module, "same_value", "i32", a="ptr", b="ptr")
    f = s.f
    with f.when(f["a"].equals(f["b"])):
        f.ret(s.number(1, "i32"))
    equal = s.number(2, "i32")  # CPython's Py_EQ
    f.ret(
        f.convert(
            "zext", f.call("i32", "PyObject_RichCompareBool", f["a"], f["b"], equal) > 0, "i32"
        )
    )


SHARED: tuple[Callable[[Module], None], ...] = (
    write_loops, write_shape_row, write_same_value,
    lambda module: write_softmax(module, "softmax"),
    lambda module: write_softmax(module, "log_softmax"),
    write_layer_norm, write_cross_entropy,
)  # fmt: skip
