"""Compiled calls of reductions over all elements or one dimension: sums, means, products, extremes
and their places, truth. Imports described, loops, objects and core.

One core serves all. What is particular to a reduction is a loop for each type that it takes, which
brings (outer, n, inner) to (outer, inner).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...core.graph import DIRECT, GENERAL, SavedOutput
from ...core.op import OPS
from ..native.emit import Function, Module, Value, suffix_of
from ..native.runtime import Native
from .described import Described, completed, described
from .objects import MOST_DIMS, SMALL, Scope, begin, begin_core

MOST = 1 << 15  # elements of rows whose squares are summed here
TYPES = {"F32": "float", "F64": "double", "I64": "i64", "BOOL": "i8"}
NUMPY = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "BOOL": np.bool_}


class Loops(ctypes.Structure):
    """A loop for each of `TYPES`, null where there is none, and the type of what it gives."""

    _fields_ = [("loops", ctypes.c_void_p * 4), ("results", ctypes.c_void_p * 4)]


class Context(ctypes.Structure):
    """A reduction."""

    _fields_ = [("described", Described), ("loops", Loops)]


class Selection(ctypes.Structure):
    """An extreme: of all elements, and along a dimension with its place, as the pair `returns`."""

    _fields_ = [
        ("along", Described),
        ("values", Loops),
        ("places", Loops),
        ("whole", Context),
        ("returns", ctypes.py_object),
    ]


class Spread(ctypes.Structure):
    """A variance or its root: with the number of elements, and with one less."""

    _fields_ = [("described", Described), ("plain", Loops), ("corrected", Loops)]


LOOPS = Context.loops.offset
RESULTS = Loops.results.offset


# -- loops -----------------------------------------------------------------------------------------


def added(f: Function, row: Value, n: Value, step: Value, type: str, mean: bool) -> Value:
    """The sum of n numbers, or their mean."""
    wide = type if type in ("float", "double") else "i64"
    total = f.variable(wide, 0)
    near = step.equals(1)
    if wide == type and type != "i64":
        with f.when(near):
            total.set(f.call(type, f"total_{32 if type == 'float' else 64}", row, n))
        count = f.select(near, f.constant("i64", 0), n)
    else:
        count = n
    with f.loop(0, count) as k:
        value = f.load(type, row, k * step)
        total.set(total.get() + (value if type == wide else f.convert("zext", value, wide)))
    return total.get() / f.convert("sitofp", n, type) if mean else total.get()


def multiplied(f: Function, row: Value, n: Value, step: Value, type: str) -> Value:
    """The product of n numbers."""
    total = f.variable(type, 1)
    with f.loop(0, n) as k:
        total.set(total.get() * f.load(type, row, k * step))
    return total.get()


def extreme(
    f: Function, row: Value, n: Value, step: Value, type: str, sign: str, at: bool
) -> Value:
    """The largest (">") or smallest ("<") of n numbers, the first NaN before all; or its place."""
    top, place = f.variable(type, f.load(type, row)), f.variable("i64", 0)
    with f.loop(1, n) as k:
        value = f.load(type, row, k * step)
        better = value.binary(sign, top.get())
        if type != "i64":  # a NaN wins, but not over another one
            nan, known = (f.emit("i1", f"fcmp {w} {v}, {v.name}") for w, v in
                          (("uno", value), ("ord", top.get())))  # fmt: skip
            better = f.emit("i1", f"or {better}, {f.emit('i1', f'and {nan}, {known.name}').name}")
        place.set(f.select(better, k, place.get()))
        top.set(f.select(better, value, top.get()))
    return place.get() if at else top.get()


def decided(f: Function, row: Value, n: Value, step: Value, type: str, word: str) -> Value:
    """Whether any ("or") or all ("and") of n truth values hold."""
    found = f.variable(type, int(word == "and"))
    with f.loop(0, n) as k:
        found.set(f.emit(type, f"{word} {found.get()}, {f.load(type, row, k * step).name}"))
    return found.get()


def spread(
    f: Function, row: Value, n: Value, step: Value, type: str, correction: int, root: bool
) -> Value:
    """The squared deviations of n numbers by n - correction, or the root of that."""
    mean, squares = added(f, row, n, step, type, mean=True), f.variable(type, 0)
    with f.loop(0, n) as k:
        away = f.load(type, row, k * step) - mean
        squares.set(f.fused(away, away, squares.get()))
    found = squares.get() / f.convert("sitofp", n - correction, type)
    return f.call(type, f"llvm.sqrt.{suffix_of(type)}", found) if root else found


def root_of_squares(f: Function, row: Value, n: Value, step: Value, type: str) -> Value:
    """The root of the sum of n squares."""
    total, near = f.variable(type, 0), step.equals(1)
    with f.when(near):
        total.set(f.call(type, f"squares_{32 if type == 'float' else 64}", row, n))
    with f.loop(0, f.select(near, f.constant("i64", 0), n)) as k:
        value = f.load(type, row, k * step)
        total.set(f.fused(value, value, total.get()))
    return f.call(type, f"llvm.sqrt.{suffix_of(type)}", total.get())


class Reduction(NamedTuple):
    """How a reduction brings n numbers to one, and from which type to which."""

    write: Callable[..., Value]
    types: dict[str, str]


FLOATS = {"F32": "F32", "F64": "F64"}
ORDERED = {**FLOATS, "I64": "I64"}
REDUCTIONS = {
    "sum": Reduction(partial(added, mean=False), {**ORDERED, "BOOL": "I64"}),
    "mean": Reduction(partial(added, mean=True), FLOATS),
    "prod": Reduction(multiplied, FLOATS),
    "any": Reduction(partial(decided, word="or"), {"BOOL": "BOOL"}),
    "all": Reduction(partial(decided, word="and"), {"BOOL": "BOOL"}),
    "amax": Reduction(partial(extreme, sign=">", at=False), ORDERED),
    "amin": Reduction(partial(extreme, sign="<", at=False), ORDERED),
    "argmax": Reduction(partial(extreme, sign=">", at=True), dict.fromkeys(ORDERED, "I64")),
    "argmin": Reduction(partial(extreme, sign="<", at=True), dict.fromkeys(ORDERED, "I64")),
    "norm": Reduction(root_of_squares, FLOATS),
}


def write_loops(module: Module) -> None:
    """The loops of all reductions."""
    for name, reduction in REDUCTIONS.items():
        for kind, result in reduction.types.items():
            pointers = {"x": "ptr", "y": "ptr"}
            numbers = dict.fromkeys(("outer", "n", "inner"), "i64")
            f = module.function(f"{name}_of_{kind}", "void", **pointers, **numbers)
            n, inner = f["n"], f["inner"]
            with f.loop(0, f["outer"]) as o, f.loop(0, inner) as i:
                row = f.at(f["x"], o * n * inner + i, TYPES[kind])
                value = reduction.write(f, row, n, inner, TYPES[kind])
                assert value.type == TYPES[result]
                f.store(value, f["y"], o * inner + i)
            f.ret()


SPREAD = "input dim unbiased keepdim correction"  # the parameters of `var` and `std`
SPREADS = {"var": False, "std": True}  # whether a root is drawn
for name, root in SPREADS.items():
    for correction in range(2):
        write = partial(spread, correction=correction, root=root)
        REDUCTIONS[f"{name}_less_{correction}"] = Reduction(write, FLOATS)


# The norms: their parameters.
NORMS = {"norm": "input p dim keepdim dtype", "vector_norm": "x ord dim keepdim dtype"}


# -- contexts --------------------------------------------------------------------------------------


def loops_of(code: Native, name: str) -> Loops:
    """The loops of a reduction."""
    made, types = Loops(), REDUCTIONS[name].types
    for i, kind in enumerate(TYPES):
        if kind in types:
            made.loops[i] = code.address(f"{name}_of_{kind}")
            made.results[i] = id(np.dtype(NUMPY[types[kind]]))
    return made


def fill_context(code: Native, *, name: str, context: Context) -> None:
    """Tells a context where the loops are."""
    context.loops = loops_of(code, name)


def context_of(name: str) -> Context:
    """The context of a reduction."""
    return Context(described(OPS[name], ("dim", "keepdim")))


def selection_of(name: str, returns: Any) -> Selection:
    """The context of `max` or `min`."""
    along = described(OPS[f"{name}_dim"], ("dim", "keepdim"), ("indices",))
    return Selection(along=along, whole=context_of(name), returns=returns)


def fill_selection(code: Native, *, name: str, context: Selection) -> None:
    """Tells a context where the loops are."""
    context.values, context.places = loops_of(code, f"a{name}"), loops_of(code, f"arg{name}")
    fill_context(code, name=f"a{name}", context=context.whole)


def norm_of() -> Context:
    """The context of a norm."""
    return Context(described(OPS["norm"], ("p", "dim", "keepdim")))


def spread_of(name: str) -> Spread:
    """The context of `var` or `std`."""
    return Spread(described(OPS[name], ("dim", "keepdim", "correction")))


def fill_spread(code: Native, *, name: str, context: Spread) -> None:
    """Tells a context where the loops are."""
    context.plain, context.corrected = (loops_of(code, f"{name}_less_{i}") for i in range(2))


# -- cores -----------------------------------------------------------------------------------------


def write_reduced(module: Module) -> None:
    """`reduced(loops, x, dim, keep)`: the array of a reduction over `dim`, over all if that is -1;
    null where there is no loop for the type.
    """
    s = begin(module, "reduced", "ptr", loops="ptr", x="ptr", dim="i64", keep="i1")
    f, x, dim = s.f, s.f["x"], s.f["dim"]
    kind, number = s.descriptor(x), f.variable("i64", -1)
    for i, name in enumerate(TYPES):
        number.set(f.select(s.is_object(kind, name), s.number(i), number.get()))
    s.require(number.get() >= 0)
    loop = f.load("ptr", f["loops"], number.get())
    s.require(loop.differs(s.null()))
    result = f.load("ptr", f["loops"], number.get() + (RESULTS >> 3))
    sizes, left = f.buffer(8 * MOST_DIMS, 8), f.variable("i64", 0)
    outer, n, inner = (f.variable("i64", 1) for _ in range(3))
    with f.when(dim < 0):
        n.set(s.count(x))
    with f.when(dim >= 0), f.loop(0, f.convert("sext", s.rank(x), "i64")) as k:
        size = f.load("i64", s.sizes(x), k)
        here = k.equals(dim)
        for condition, total in ((k < dim, outer), (here, n), (k > dim, inner)):
            total.set(f.select(condition, total.get() * size, total.get()))
        f.store(f.select(here, s.number(1), size), sizes, left.get())
        kept = s.either(here.equals(0), f["keep"])
        left.set(left.get() + f.convert("zext", kept, "i64"))
    y = s.new_array(result, f.convert("trunc", left.get(), "i32"), sizes)
    f.call("void", loop, s.memory(x), s.memory(y), outer.get(), n.get(), inner.get())
    f.ret(y)
    s.end()


def asked(
    s: Scope, keep_at: int = 2, dim_at: int = 1, most: int = SMALL
) -> tuple[Value, Value, Value, Value]:
    """The array of a small tensor that lies row by row, the mode, the dimension (-1: all), and
    whether to keep it. Rows may have up to `most` elements in all.
    """
    f, x = s.f, s.array(s.needed(0))
    s.require(s.contiguous(x))
    n, mode, rank = s.count(x), s.mode(), f.convert("sext", s.rank(x), "i64")
    s.require(s.both(s.both(n > 0, n <= most), mode.differs(GENERAL)))
    s.require(rank <= MOST_DIMS)
    flag, dim, given = s.given(keep_at), f.variable("i64", -1), s.given(dim_at)
    keep = s.is_object(flag, "True")
    no = s.either(flag.equals(s.null()), s.is_object(flag, "False"))
    s.require(s.either(keep, no))
    missing = s.is_missing(given)
    s.require(s.both(missing, keep).equals(0))
    with f.when(missing.equals(0)):
        at = s.integer(given)
        dim.set(f.select(at < 0, at + rank, at))
        s.require(s.both(dim.get() >= 0, dim.get() < rank))
        s.require(s.either(n <= SMALL, dim.get().equals(rank - 1)))
    return x, mode, dim.get(), keep


def values_of(s: Scope, dim: Value, keep: Value) -> list[Value]:
    """The parameters as objects."""
    f, found = s.f, s.f.variable("ptr", s.object("None"))
    with f.when(dim >= 0):
        found.set(f.call("ptr", "PyLong_FromSsize_t", dim))
    with f.when(dim < 0):
        s.hold(s.object("None"))
    return [found.get(), s.hold(f.select(keep, s.object("True"), s.object("False")))]


def write_reduce(module: Module) -> None:
    """`reduce(context, (input, dim, keepdim))`."""
    s = begin_core(module, "reduce")
    f = s.f
    x, mode, dim, keep = asked(s)
    y = f.call("ptr", "reduced", f.at(f["context"], LOOPS), x, dim, keep)
    s.require(y.differs(s.null()))
    f.ret(completed(s, mode, y, [s.needed(0)], values_of(s, dim, keep)))
    s.end()


def write_norm(module: Module, name: str) -> None:
    """`norm(context, (input, p, dim, keepdim, dtype))` of order two; `vector_norm` takes no name
    for it.
    """
    s = begin_core(module, name)
    f, order = s.f, s.given(1)
    s.require(s.is_missing(s.given(4)))
    known = order.equals(s.null())
    if name == "norm":
        known = s.either(known, s.is_object(order, "fro"))
    with f.when(known.equals(0)):
        s.require(s.double(order).equals(2))
    x, mode, dim, keep = asked(s, keep_at=3, dim_at=2, most=MOST)
    y = f.call("ptr", "reduced", f.at(f["context"], LOOPS), x, dim, keep)
    s.require(y.differs(s.null()))
    two = f.call("ptr", "PyFloat_FromDouble", f.constant("double", 2))
    f.ret(completed(s, mode, y, [s.needed(0)], [two, *values_of(s, dim, keep)]))
    s.end()


def write_spread(module: Module) -> None:
    """`spread(context, (input, dim, unbiased, keepdim, correction))`: `var` and `std`."""
    s = begin_core(module, "spread")
    f, less = s.f, correction_asked(s)
    x, mode, dim, keep = asked(s, keep_at=3)
    n = f.variable("i64", s.count(x))
    with f.when(dim >= 0):
        n.set(f.load("i64", s.sizes(x), dim))
    s.require(n.get() > less)
    loops = [f.at(f["context"], at.offset) for at in (Spread.corrected, Spread.plain)]
    chosen = f.select(less.equals(1), *loops)
    y = f.call("ptr", "reduced", chosen, x, dim, keep)
    s.require(y.differs(s.null()))
    number = f.call("ptr", "PyLong_FromSsize_t", less)
    f.ret(completed(s, mode, y, [s.given(0)], [*values_of(s, dim, keep), number]))
    s.end()


def correction_asked(s: Scope) -> Value:
    """The correction that `unbiased` or `correction` ask for: 0 or 1."""
    f, unbiased, given = s.f, s.given(2), s.given(4)
    found = f.variable("i64", 1)
    with f.when(s.is_missing(unbiased).equals(0)):
        no = s.is_object(unbiased, "False")
        s.require(s.both(s.either(no, s.is_object(unbiased, "True")), s.is_missing(given)))
        found.set(f.select(no, s.number(0), 1))
    with f.when(s.is_missing(given).equals(0)):
        found.set(s.integer(given))
        s.require(s.both(found.get() >= 0, found.get() <= 1))
    return found.get()


def write_select(module: Module) -> None:
    """`select(context, (input, dim, keepdim))`: `max` and `min`."""
    s = begin_core(module, "select")
    f = s.f
    with f.when(s.is_missing(s.given(1))):
        s.require(s.given(2).equals(s.null()))
        f.ret(f.call("ptr", "reduce", f.at(f["context"], Selection.whole.offset), f["given"]))
    x, mode, dim, keep = asked(s)
    values, places = (
        f.call("ptr", "reduced", f.at(f["context"], at.offset), x, dim, keep)
        for at in (Selection.values, Selection.places)
    )
    s.require(s.both(values.differs(s.null()), places.differs(s.null())))
    pair_of(s, mode, values, places, values_of(s, dim, keep), Selection.returns.offset)


def pair_of(
    s: Scope, mode: Value, values: Value, places: Value, params: list[Value], returns_at: int
) -> None:
    """Returns a core's two results: values, and their places, which its backward may need. The
    context says what they are made into.
    """
    f = s.f
    indices = s.new_tensor(places)
    s.require(indices.differs(s.null()))
    saved = f.variable("ptr", s.hold(s.object("None")))
    needs = f.call("i64", "grad_mask", s.given(0), s.null(), s.null()).differs(0)
    with f.when(s.both(needs, mode.differs(DIRECT))):
        s.drop(saved.get())
        saved.set(f.call("ptr", "keep_place", indices))
    pair = f.buffer(16, 8)
    f.store(completed(s, mode, values, [s.given(0)], [*params, saved.get()]), pair)
    f.store(indices, pair, 1)
    returns = f.load("ptr", f.at(f["context"], returns_at))
    results = s.tuple_of(*[f.load("ptr", pair, i) for i in range(2)])
    f.store(returns, pair)
    f.store(results, pair, 1)
    new = s.object("new_tuple")  # what the class does in Python
    made = f.call("ptr", "PyObject_Vectorcall", new, pair, s.number(2), s.null())
    s.drop(results)
    f.ret(made)
    s.end()


def write_keep_place(module: Module) -> None:
    """`keep_place(tensor)`: what is saved of a result without gradient; it becomes its storage."""
    s = begin(module, "keep_place", "ptr", tensor="ptr")
    made = s.f.call("ptr", "keep_output", s.f["tensor"])
    s.require(made.differs(s.null()))
    no = s.hold(s.object("False"))
    s.replace(made, SavedOutput, "differentiable", no)
    s.f.ret(made)
    s.end()


SHARED: tuple[Callable[[Module], None], ...] = (
    write_loops, write_reduced, write_reduce, *[partial(write_norm, name=name) for name in NORMS],
    write_spread, write_keep_place, write_select,
)  # fmt: skip
