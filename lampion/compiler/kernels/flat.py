"""Elementwise kernels as built-ins. Imports items, elementwise and the objects of calls.

One machine code serves all formulas. It is bound to the address of a `Context`, which holds the
kernels that are compiled so far: those for arrays that lie row by row and numbers, and the plans of
the last calls with other layouts. What neither is made for goes to `elementwise`, and is kept.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from ..calls.elementwise import write_agree
from ..calls.objects import ALIGNED, CONTIGUOUS, WRITEABLE, Scope, begin, fill_objects
from ..calls.recording import write_count_elements
from ..native import pool, runtime, stages
from ..native.emit import Function, Module, Operand, Value, Variable
from ..native.entry import FLAGS, KEPT, METH_FASTCALL, Method, function, readable
from ..native.launch import prepare_memory
from .elementwise import DTYPES, Plan, execute, plan_for
from .items import LINE, MOST_TILES, TILE, chunk_of

MOST_ARRAYS, MOST_NUMBERS, MOST_RANK = 3, 4, 6
MOST_WORDS = 2 + 2 * (1 + MOST_ARRAYS)
MOST_KNOWN = 8  # plans of a formula
ALONE = 1 << 15  # elements up to which the calling thread does all of them
WIDE, INTO = 1 << MOST_ARRAYS, 2 << MOST_ARRAYS  # bits of a kernel's number
BOOL, F64 = np.dtype(bool), np.dtype(np.float64)
JOB = 8 * (1 + MOST_ARRAYS + MOST_WORDS + MOST_NUMBERS + 2)  # bytes
WIDEST = 8  # bytes of an element at most
KINDS = {d: d for d in DTYPES}  # the objects that arrays share
WHOLE = {np.dtype(np.float32), F64}
FLOATS = {*DTYPES} - {BOOL}


class Layout(ctypes.Structure):
    """Where an array lies; `kind` is the address of its type."""

    _fields_ = [
        ("kind", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("sizes", ctypes.c_int64 * MOST_RANK),
        ("steps", ctypes.c_int64 * MOST_RANK),
    ]


class Known(ctypes.Structure):
    """The plan of a call with these operands.

    words  how many numbers come after the addresses in the kernel's job, before the formula's
    into   whether the result goes to the first operand
    kind   the address of the type of operands that are no truth values
    """

    _fields_ = [
        ("kernel", ctypes.c_void_p),
        ("tiles", ctypes.c_int64),
        ("items", ctypes.c_int64),
        ("chunk", ctypes.c_int64),
        ("words", ctypes.c_int64),
        ("into", ctypes.c_int64),
        ("kind", ctypes.c_void_p),
        ("numbers", ctypes.c_int64 * MOST_WORDS),
        ("result", Layout),
        ("operands", Layout * MOST_ARRAYS),
    ]


class Context(ctypes.Structure):
    """A formula's operands and kernels.

    truths   bit i: operand i is of truth values; -1: no kernel is compiled yet
    truth    whether the result is
    kernels  by which operands are arrays and not numbers (bits), plus WIDE for float64, plus INTO
             for results that go to the first operand's memory
    next     the place of the next plan among those that are known
    """

    _fields_ = [
        ("arrays", ctypes.c_int64),
        ("numbers", ctypes.c_int64),
        ("truths", ctypes.c_int64),
        ("truth", ctypes.c_int64),
        ("general", ctypes.py_object),
        ("kernels", ctypes.c_void_p * (2 * INTO)),
        ("next", ctypes.c_int64),
        ("known", Known * MOST_KNOWN),
    ]


# -- the built-in ------------------------------------------------------------------------------


def write_entry(module: Module) -> None:
    """Writes `flat(*operands, *numbers[, out])` for CPython; see `entry`."""
    s = Scope(module.function("flat", "ptr", self="ptr", args="ptr", count="i64"))
    f = s.f
    context = f.call("ptr", "PyLong_AsVoidPtr", f["self"])
    for way in ("by_rows", "by_plan"):
        found = f.call("ptr", way, context, f["args"], f["count"])
        with f.when(found.differs(s.null())):
            f.ret(found)
        f.call("void", "PyErr_Clear")
    general = f.load("ptr", f.at(context, Context.general.offset))
    f.ret(f.call("ptr", "PyObject_Vectorcall", general, f["args"], f["count"], s.null()))


def write_by_rows(module: Module) -> None:
    """Writes `by_rows(context, args, count)`: arrays that lie row by row, of one shape, and
    numbers.
    """
    s = begin(module, "by_rows", "ptr", context="ptr", args="ptr", count="i64")
    f, context = s.f, s.f["context"]
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
    job = f.buffer(JOB, 8)
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
    write_addresses(s, job, first, arrays)
    run_tiles(s, function, job, tiles, out.get())
    f.ret(out.get())
    s.end()


def write_addresses(s: Scope, job: Value, first: Value, arrays: Value) -> None:
    """Stores the operands' addresses."""
    f = s.f
    with f.loop(0, arrays) as i:
        f.store(s.memory(f.load("ptr", f["args"], i)), job, first + i)


def word(f: Function, known: Value, name: str, index: Operand = 0) -> Value:
    """A number of a `Known`."""
    return f.load("i64", f.at(known, getattr(Known, name).offset), index)


def write_lies_as(module: Module) -> None:
    """Writes `lies_as(x, layout)`: whether an object is an array that lies so."""
    f = module.function("lies_as", "i1", True, x="ptr", layout="ptr")
    s, no = Scope(f), Value(f, "i1", "false")
    x, layout = f["x"], f["layout"]
    for wrong in (
        s.type_of(x).differs(s.object("ndarray")),
        s.descriptor(x).differs(f.load("ptr", layout)),
        f.convert("sext", s.rank(x), "i64").differs(f.load("i64", layout, 1)),
        (f.load("i32", f.at(x, FLAGS)) & ALIGNED).equals(0),
    ):
        with f.when(wrong):
            f.ret(no)
    with f.loop(0, f.load("i64", layout, 1)) as i:
        for own, field in ((s.sizes(x), Layout.sizes), (s.steps(x), Layout.steps)):
            with f.when(
                f.load("i64", own, i).differs(f.load("i64", f.at(layout, field.offset), i))
            ):
                f.ret(no)
    f.ret(Value(f, "i1", "true"))


def write_find(module: Module) -> None:
    """Writes `find(context, args, into)`: the plan for these operands, or null."""
    s = begin(module, "find", "ptr", context="ptr", args="ptr", into="i64")
    f, wrong = s.f, s.f.variable("i64", 0)
    arrays = f.load("i64", f["context"])
    with f.loop(0, MOST_KNOWN) as k:
        known = f.at(f["context"], k * ctypes.sizeof(Known) + Context.known.offset)
        used = s.both(
            f.load("ptr", known).differs(s.null()), word(f, known, "into").equals(f["into"])
        )
        with f.when(used):
            wrong.set(0)
            with f.loop(0, arrays) as i:
                layout = f.at(known, i * ctypes.sizeof(Layout) + Known.operands.offset)
                alike = f.call("i1", "lies_as", f.load("ptr", f["args"], i), layout)
                wrong.set(wrong.get() + f.convert("zext", alike.equals(0), "i64"))
            with f.when(wrong.get().equals(0)):
                f.ret(known)
    f.ret(s.null())


def write_by_plan(module: Module) -> None:
    """Writes `by_plan(context, args, count)`: operands that lie as those of a call before."""
    s = begin(module, "by_plan", "ptr", context="ptr", args="ptr", count="i64")
    f, context = s.f, s.f["context"]
    arrays, numbers = f.load("i64", context), f.load("i64", context, 1)
    given = arrays + numbers
    into = f["count"] - given
    s.require((into & -2).equals(0))
    known = f.call("ptr", "find", context, f["args"], into)
    s.require(known.differs(s.null()))
    result = f.at(known, Known.result.offset)
    out = f.variable("ptr", s.null())
    with f.when(into.differs(0)):
        out.set(f.load("ptr", f["args"], given))
        s.require((f.load("i32", f.at(out.get(), FLAGS)) & WRITEABLE).differs(0))
        s.require(out.get().equals(f.load("ptr", f["args"])))
        require_free(s, out.get(), arrays)
    tiles, job = word(f, known, "tiles"), f.buffer(JOB, 8)
    with f.when(tiles > 1):
        require_settled(s)
    first, words = s.number(1) - into, word(f, known, "words")
    rest = first + arrays
    with f.loop(0, words) as i:
        f.store(word(f, known, "numbers", i), job, rest + i)
    wide = s.is_object(f.load("ptr", f.at(known, Known.kind.offset)), "F64")
    write_numbers(s, f.at(job, rest + words, "i64"), arrays, numbers, wide)
    for place, name in enumerate(("items", "chunk")):
        f.store(word(f, known, name), job, rest + words + numbers + place)
    with f.when(into.differs(0)):
        s.hold(out.get())
    with f.when(into.equals(0)):
        rank = f.convert("trunc", f.load("i64", result, 1), "i32")
        places = [f.at(result, field.offset) for field in (Layout.sizes, Layout.steps)]
        out.set(laid_out(s, f.load("ptr", result), rank, *places))
        f.store(s.memory(out.get()), job)
    write_addresses(s, job, first, arrays)
    run_tiles(s, f.load("ptr", known), job, tiles, out.get())
    f.ret(out.get())
    s.end()


def laid_out(s: Scope, kind: Value, rank: Value, sizes: Value, steps: Value) -> Value:
    """A new array with these strides; gives up where there is no memory."""
    null, zero = s.null(), s.number(0, "i32")
    s.hold(kind)  # the array takes it
    given = (s.object("ndarray"), kind, rank, sizes, steps, null, zero, null)
    made = s.call_array("ptr", "new_array", *given)
    s.require(made.differs(null))
    return made


def require_free(s: Scope, out: Value, arrays: Value) -> None:
    """Gives up unless no operand but the first, which is `out`, shares memory with it."""
    f, start = s.f, address_of(s, out)
    low, high = f.variable("i64"), f.variable("i64")
    end = start + f.call("i64", "count_elements", out) * WIDEST
    with f.loop(1, arrays) as i:
        x = f.load("ptr", f["args"], i)
        low.set(address_of(s, x))
        high.set(low.get() + WIDEST)
        with f.loop(0, f.convert("sext", s.rank(x), "i64")) as k:
            span = (f.load("i64", s.sizes(x), k) - 1) * f.load("i64", s.steps(x), k)
            low.set(low.get() + f.select(span < 0, span, 0))
            high.set(high.get() + f.select(span > 0, span, 0))
        s.require(s.either(high.get() <= start, end <= low.get()))


def address_of(s: Scope, x: Value) -> Value:
    """An array's address as a number."""
    return s.f.convert("ptrtoint", s.memory(x), "i64")


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
        require_settled(s)
        share = (n + (MOST_TILES * LINE - 1)) / (MOST_TILES * LINE) * LINE
        chunk.set(f.select(share > TILE, share, TILE))
        tiles.set((n + chunk.get() - 1) / chunk.get())
    return chunk.get(), tiles.get()


def require_settled(s: Scope) -> None:
    """Gives up where the number of threads is not as `set_num_threads` says."""
    f = s.f
    state = f.load("ptr", Value(f, "ptr", f.module.pointer("pool")))
    s.require(f.load("i64", f.at(state, pool.FIELDS["settled"])).differs(0))


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
    for write in (write_count_elements, write_agree, write_lies_as, write_find, write_by_rows,
                  write_by_plan, write_entry):  # fmt: skip
        write(module)
    code = runtime.load(module.text())
    fill_objects(code, module)
    code.fill("run", stages.native().address("run_one"))
    code.fill("pool", pool.pool().address)
    return code


# -- formulas ----------------------------------------------------------------------------------


def entry(
    formula: str,
    names: Sequence[str],
    parameters: Sequence[str] = (),
    truth: bool = False,
    result: np.dtype | None = None,
) -> Callable[..., ndarray | None]:
    """The formula as a function of arrays and numbers, in that order, and the array for its result,
    if that is to be the first operand; None for calls that no kernel is made for.

    truth   whether the result is of truth values
    result  its type, where that is another one
    """
    context = Context(len(names), len(parameters), -1, truth)
    places, numbers = len(names), len(names) + len(parameters)

    def general(*given: Any) -> ndarray | None:
        """The formula by `elementwise.run`; its kernel is kept for the next call of this kind."""
        arrays, out = given[:places], given[numbers] if len(given) > numbers else None
        types = {x.dtype for x in arrays} - {BOOL}
        if len(types) != 1 or not types <= FLOATS:
            return None
        kept = result is None and types <= WHOLE and (out is None or out is arrays[0])
        values = dict(zip(parameters, given[places:numbers], strict=True))
        outputs = (BOOL,) if truth else tuple(types) if result is None else (result,)
        plan = plan_for((formula,), tuple(names), arrays, values, outputs, out)
        if plan is None:
            return None
        made = execute(plan, arrays, values, out)[0]
        into = out is not None
        known = kept and keep(context, plan, arrays, into)
        if not known and (out is None or out is arrays[0]):
            remember(context, plan, arrays, made, into)
        return made

    general.__name__ = general.__qualname__ = formula
    if not readable() or len(names) > MOST_ARRAYS or len(parameters) > MOST_NUMBERS:
        return general
    context.general = general
    doc = f"{formula}, element by element.".encode()
    method = Method(b"flat", native().address("flat"), METH_FASTCALL, doc)
    KEPT.append((method, context))
    return function(method, context)


def keep(context: Context, plan: Plan, arrays: Sequence[ndarray], into: bool) -> bool:
    """Notes a call's kernel for others alike, if all operands lie row by row or are numbers."""
    whole = [x.ndim > 0 for x in arrays]
    shapes = {x.shape for x, moves in zip(arrays, whole, strict=True) if moves}
    rows = all(x.flags.c_contiguous for x in arrays)
    if not (plan.flat and rows and len(shapes) == 1 and list(plan.moves) == whole):
        return False
    truths = sum((x.dtype == BOOL) << i for i, x in enumerate(arrays))
    if context.truths not in (-1, truths):
        return False
    context.truths = truths
    wide = any(x.dtype == F64 for x in arrays)
    number = sum(moves << i for i, moves in enumerate(whole)) + WIDE * wide + INTO * into
    context.kernels[number] = plan.kernel.address
    return True


def remember(
    context: Context, plan: Plan, arrays: Sequence[ndarray], result: ndarray, into: bool
) -> None:
    """Notes a call's plan for others with the same layouts, in place of the oldest."""
    everything = (result, *arrays)
    if max(x.ndim for x in everything) > MOST_RANK or len(plan.numbers) > MOST_WORDS:
        return
    if any(x.dtype not in KINDS or x.dtype is not KINDS[x.dtype] for x in everything):
        return
    alone = plan.items * plan.elements <= ALONE
    chunk = max(plan.items, 1) if alone else chunk_of(plan.items, plan.elements)
    known = context.known[context.next]
    known.kernel, known.into = plan.kernel.at(plan.elements), into
    known.items, known.chunk, known.tiles = plan.items, chunk, -(-plan.items // chunk)
    known.words = len(plan.numbers)
    known.numbers[: len(plan.numbers)] = [int(n) for n in plan.numbers]
    for layout, x in zip((known.result, *known.operands), everything):
        layout.kind, layout.rank = id(x.dtype), x.ndim
        layout.sizes[: x.ndim], layout.steps[: x.ndim] = x.shape, x.strides
    known.kind = next(id(x.dtype) for x in arrays if x.dtype != BOOL)
    context.next = (context.next + 1) % MOST_KNOWN
