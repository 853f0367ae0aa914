"""Elementwise kernels as built-ins, for arrays that lie row by row and numbers. Imports items,
elementwise and the objects of calls.

One machine code serves all formulas. It is bound to the address of a `Context`, which holds the
kernels that are compiled so far; calls that none of them is made for go to `elementwise.run`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from ..calls.elementwise import write_agree
from ..calls.objects import ALIGNED, CONTIGUOUS, WRITEABLE, Scope, fill_objects
from ..calls.recording import write_count_elements
from ..native import pool, runtime, stages
from ..native.emit import Module, Value, Variable
from ..native.entry import FLAGS, KEPT, METH_FASTCALL, Method, readable
from ..native.launch import prepare_memory
from .elementwise import Plan, execute, plan_for
from .items import MOST_TILES, TILE

MOST_ARRAYS, MOST_NUMBERS = 3, 4
ALONE = 1 << 15  # elements up to which the calling thread does all of them
WIDE, INTO = 1 << MOST_ARRAYS, 2 << MOST_ARRAYS  # bits of a kernel's number
BOOL, F64 = np.dtype(bool), np.dtype(np.float64)
FLOATS = {np.dtype(np.float32), F64}


class Context(ctypes.Structure):
    """A formula's operands and kernels.

    truths   bit i: operand i is of truth values; -1: no kernel is compiled yet
    truth    whether the result is
    kernels  by which operands are arrays and not numbers (bits), plus WIDE for float64, plus INTO
             for results that go to the first operand's memory
    """

    _fields_ = [
        ("arrays", ctypes.c_int64),
        ("numbers", ctypes.c_int64),
        ("truths", ctypes.c_int64),
        ("truth", ctypes.c_int64),
        ("general", ctypes.py_object),
        ("kernels", ctypes.c_void_p * (2 * INTO)),
    ]


# -- the built-in ------------------------------------------------------------------------------


def write_entry(module: Module) -> None:
    """Writes `flat(*operands, *numbers[, out])` for CPython; see `entry`."""
    s = Scope(module.function("flat", "ptr", self="ptr", args="ptr", count="i64"), "general")
    f = s.f
    context = f.call("ptr", "PyLong_AsVoidPtr", f["self"])
    arrays, numbers, truths, truth = (f.load("i64", context, i) for i in range(4))
    given = arrays + numbers
    extra = f["count"] - given
    s.require((extra & -2).equals(0))
    like, kind = read_operands(s, arrays)
    n, wide = f.call("i64", "count_elements", like), s.is_object(kind, "F64")
    s.require(n > 0)
    number = f.variable("i64", f.convert("zext", wide, "i64") * WIDE)
    match_operands(s, arrays, truths, like, kind, number)
    into, out = extra.equals(1), f.variable("ptr", s.null())
    with f.when(into):
        out.set(f.load("ptr", f["args"], given))
        s.require((f.load("i32", f.at(out.get(), FLAGS)) & WRITEABLE).differs(0))
        require_apart(s, out.get(), arrays, n, wide)
        number.set(number.get() + INTO)
    function = f.load("ptr", f.at(context, Context.kernels.offset), number.get())
    s.require(function.differs(s.null()))
    job = f.buffer(8 * (1 + MOST_ARRAYS + MOST_NUMBERS + 2), 8)
    first = f.convert("zext", into.equals(0), "i64")
    write_numbers(s, f.at(job, first + arrays, "i64"), arrays, numbers, wide)
    chunk, tiles = cut(s, n)
    for place, value in enumerate((n, chunk)):
        f.store(value, job, first + given + place)
    with f.when(into):
        s.hold(out.get())
    with f.when(into.equals(0)):
        result = f.select(truth.differs(0), s.object("BOOL"), kind)
        out.set(s.new_array(result, s.rank(like), s.sizes(like)))
        f.store(s.memory(out.get()), job)
    with f.loop(0, arrays) as i:
        f.store(s.memory(f.load("ptr", f["args"], i)), job, first + i)
    run_tiles(s, function, job, tiles, out.get())
    f.ret(out.get())
    f.lines.append("general:")
    f.call("void", "PyErr_Clear")
    general = f.load("ptr", f.at(context, Context.general.offset))
    f.ret(f.call("ptr", "PyObject_Vectorcall", general, f["args"], f["count"], s.null()))


def read_operands(s: Scope, arrays: Value) -> tuple[Value, Value]:
    """The last operand that is no number, and the type of those that are no truth values."""
    f, like, kind = s.f, s.f.variable("ptr", s.null()), s.f.variable("ptr", s.null())
    need = CONTIGUOUS | ALIGNED
    with f.loop(0, arrays) as i:
        x = f.load("ptr", f["args"], i)
        s.require(s.is_a(x, "ndarray"))
        s.require((f.load("i32", f.at(x, FLAGS)) & need).equals(need))
        with f.when(s.is_object(s.descriptor(x), "BOOL").equals(0)):
            kind.set(s.descriptor(x))
        with f.when(s.rank(x) > 0):
            like.set(x)
    s.require(like.get().differs(s.null()))
    s.require(s.either(s.is_object(kind.get(), "F32"), s.is_object(kind.get(), "F64")))
    return like.get(), kind.get()


def match_operands(
    s: Scope, arrays: Value, truths: Value, like: Value, kind: Value, number: Variable
) -> None:
    """Gives up unless all operands have the shape of `like` or none, and the types that the kernels
    are for; adds the bits of those that are arrays to the kernel's number.
    """
    f = s.f
    with f.loop(0, arrays) as i:
        x, bit = f.load("ptr", f["args"], i), s.number(1).binary("<<", i)
        wanted = f.select((truths & bit).differs(0), s.object("BOOL"), kind)
        s.require(s.descriptor(x).equals(wanted))
        s.require(f.call("i1", "agree", x, like))
        number.set(number.get() + f.select(s.rank(x).equals(0), s.number(0), bit))


def require_apart(s: Scope, out: Value, arrays: Value, n: Value, wide: Value) -> None:
    """Gives up unless `out` is the first operand, and no other shares memory with it but is it."""
    f, size = s.f, n * s.f.select(wide, s.number(8), 4)
    s.require(out.equals(f.load("ptr", f["args"])))
    s.require(s.rank(out).differs(0))
    start = f.convert("ptrtoint", s.memory(out), "i64")
    with f.loop(1, arrays) as i:
        x = f.load("ptr", f["args"], i)
        other = f.convert("ptrtoint", s.memory(x), "i64")
        free = s.either(other + size <= start, start + size <= other)
        s.require(s.either(free, x.equals(out)))


def write_numbers(s: Scope, place: Value, arrays: Value, numbers: Value, wide: Value) -> None:
    """Stores the numbers in the operands' type; gives up unless they are Python's."""
    f = s.f
    with f.loop(0, numbers) as i:
        given = f.load("ptr", f["args"], arrays + i)
        s.require(s.is_a(given, "float", "int"))
        value = f.call("double", "PyFloat_AsDouble", given)
        with f.when(value.equals(-1)):
            s.require(f.call("ptr", "PyErr_Occurred").equals(s.null()))
        with f.when(wide):
            f.store(value, place, i)
        with f.when(wide.equals(0)):
            f.store(f.convert("fptrunc", value, "float"), place, i * 2)


def cut(s: Scope, n: Value) -> tuple[Value, Value]:
    """The elements in a tile, and the number of tiles, as `items.chunk_of` has them; one tile where
    a second thread is not worth its start. Gives up while the threads are not settled.
    """
    f, chunk, tiles = s.f, s.f.variable("i64", n), s.f.variable("i64", 1)
    with f.when(n > ALONE):
        state = f.load("ptr", Value(f, "ptr", f.module.pointer("pool")))
        s.require(f.load("i64", f.at(state, pool.FIELDS["settled"])).differs(0))
        share = (n + (MOST_TILES - 1)) / MOST_TILES
        chunk.set(f.select(share > TILE, share, TILE))
        tiles.set((n + chunk.get() - 1) / chunk.get())
    return chunk.get(), tiles.get()


def run_tiles(s: Scope, function: Value, job: Value, tiles: Value, out: Value) -> None:
    """Runs the kernel: a single tile here, several with the pool's threads and without the GIL."""
    f, several = s.f, tiles > 1
    with f.when(several.equals(0)):
        f.call("void", function, job, s.number(0), s.null())
    with f.when(several):
        run, state = (f.load("ptr", Value(f, "ptr", f.module.pointer(n))) for n in ("run", "pool"))
        thread = f.call("ptr", "PyEval_SaveThread")
        failed = f.call("i64", run, state, function, job, tiles)
        f.call("void", "PyEval_RestoreThread", thread)
        with f.when(failed.differs(0)):
            s.drop(out)
            s.require(failed.equals(0))


@cache
def native() -> runtime.Native:
    """The loaded code."""
    prepare_memory()
    module = Module()
    write_count_elements(module)
    write_agree(module)
    write_entry(module)
    code = runtime.load(module.text())
    fill_objects(code, module)
    code.fill("run", stages.native().address("run_one"))
    code.fill("pool", pool.pool().address)
    return code


# -- formulas ----------------------------------------------------------------------------------


def entry(
    formula: str, names: Sequence[str], parameters: Sequence[str] = (), truth: bool = False
) -> Callable[..., ndarray | None]:
    """The formula as a function of arrays and numbers, in that order, and the array for its result,
    if that is to be the first operand; None for calls that no kernel is made for.

    truth   whether the result is of truth values
    """
    context = Context(len(names), len(parameters), -1, truth)
    places, numbers = len(names), len(names) + len(parameters)

    def general(*given: Any) -> ndarray | None:
        """The formula by `elementwise.run`; its kernel is kept for the next call of this kind."""
        arrays, out = given[:places], given[numbers] if len(given) > numbers else None
        types = {x.dtype for x in arrays} - {BOOL}
        if len(types) != 1 or not types <= FLOATS:
            return None
        values = dict(zip(parameters, given[places:numbers], strict=True))
        outputs = (BOOL,) if truth else tuple(types)
        plan = plan_for((formula,), tuple(names), arrays, values, outputs, out)
        if plan is None:
            return None
        if out is None or out is arrays[0]:
            keep(context, plan, arrays, out is not None)
        return execute(plan, arrays, values, out)[0]

    general.__name__ = general.__qualname__ = formula
    if not readable() or len(names) > MOST_ARRAYS or len(parameters) > MOST_NUMBERS:
        return general
    context.general = general
    doc = f"{formula}, element by element.".encode()
    method = Method(b"flat", native().address("flat"), METH_FASTCALL, doc)
    KEPT.append((method, context))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.addressof(method), ctypes.addressof(context), None)


def keep(context: Context, plan: Plan, arrays: Sequence[ndarray], into: bool) -> None:
    """Notes a call's kernel for others alike, if all operands lie row by row or are numbers."""
    whole = [x.ndim > 0 for x in arrays]
    shapes = {x.shape for x, moves in zip(arrays, whole, strict=True) if moves}
    rows = all(x.flags.c_contiguous for x in arrays)
    if not (plan.flat and rows and len(shapes) == 1 and list(plan.moves) == whole):
        return
    truths = sum((x.dtype == BOOL) << i for i, x in enumerate(arrays))
    if context.truths not in (-1, truths):
        return
    context.truths = truths
    wide = any(x.dtype == F64 for x in arrays)
    number = sum(moves << i for i, moves in enumerate(whole)) + WIDE * wide + INTO * into
    context.kernels[number] = plan.kernel.address
