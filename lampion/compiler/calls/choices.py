"""Compiled calls of elementwise operators with numbers as parameters, and of clamp, where and
masked_fill. Imports described, elementwise, formulas, inplace, objects and core.

A formula with parameters becomes a loop `(y, x, n, ...)` whose last arguments are the numbers.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

from ...core.graph import GENERAL
from ...core.op import OPS
from ..native.emit import Module, Value
from ..native.runtime import Native
from .described import MOST_PARAMETERS, Described, completed, described
from .elementwise import Context as Elementwise, context_of as elementwise_context
from .formulas import evaluated, function_of
from .inplace import target, written
from .loops import FLOAT_TYPES
from .objects import SMALL, Scope, begin_core

# -- formulas with parameters ----------------------------------------------------------------------


class Formula(NamedTuple):
    """A published function of one tensor and numbers.

    op          the operator's record
    arguments   names of the function's arguments; `inplace` may only be False
    parameters  the operator's, each with the name of the argument that it is, and its default
    """

    op: str
    arguments: str
    parameters: dict[str, tuple[str, float]]


FORMULAS = {
    "leaky_relu": Formula(
        "leaky_relu", "input negative_slope inplace", {"slope": ("negative_slope", 0.01)}
    ),
    "elu": Formula(
        "elu", "input alpha inplace",
        {"alpha": ("alpha", 1.0), "scale": ("", 1.0), "slope": ("", 1.0)},
    ),
    "softplus": Formula(
        "softplus", "input beta threshold",
        {"beta": ("beta", 1.0), "threshold": ("threshold", 20.0)},
    ),
    "selu": Formula(
        "elu", "input inplace",
        {"alpha": ("", 1.6732632423543772), "scale": ("", 1.0507009873554805), "slope": ("", 1)},
    ),
    "relu6": Formula("hardtanh", "input inplace", {"low": ("", 0), "high": ("", 6)}),
    "pow_number": Formula("pow_number", "input exponent", {"exponent": ("exponent", 2)}),
}  # fmt: skip


class Parametric(ctypes.Structure):
    """The loops of a formula, where its parameters stand among the arguments (-1: nowhere), their
    defaults, and where `inplace` stands.
    """

    _fields_ = [
        ("described", Described),
        ("loop32", ctypes.c_void_p),
        ("loop64", ctypes.c_void_p),
        ("places", ctypes.c_int64 * MOST_PARAMETERS),
        ("defaults", ctypes.py_object * MOST_PARAMETERS),
        ("flag", ctypes.c_int64),
    ]


def parametric_of(name: str) -> Parametric:
    """The context of a function with parameters."""
    formula = FORMULAS[name]
    arguments, made = formula.arguments.split(), Parametric(flag=-1)
    made.described = described(OPS[formula.op], tuple(formula.parameters))
    for i, (argument, default) in enumerate(formula.parameters.values()):
        made.places[i] = arguments.index(argument) if argument else -1
        made.defaults[i] = default
    if "inplace" in arguments:
        made.flag = arguments.index("inplace")
    return made


def fill_parametric(code: Native, *, name: str, context: Parametric) -> None:
    """Tells a context where the loops are."""
    loops = [code.address(f"{name}_with_{bits}") for _, bits in FLOAT_TYPES]
    context.loop32, context.loop64 = loops


def write_formulas(module: Module) -> None:
    """The loops of all formulas; each takes all numbers that a context may have."""
    numbers = {f"p{i}": "double" for i in range(MOST_PARAMETERS)}
    for name, formula in FORMULAS.items():
        for type, bits in FLOAT_TYPES:
            pointers = {"y": "ptr", "x": "ptr", "n": "i64"}
            f = module.function(f"{name}_with_{bits}", "void", **pointers, **numbers)
            given = {p: f[f"p{i}"] for i, p in enumerate(formula.parameters)}
            if type == "float":
                given = {p: f.convert("fptrunc", v, type) for p, v in given.items()}
            with f.loop(0, f["n"]) as i:
                values = {"x": f.load(type, f["x"], i), **given}
                f.store(evaluated(f, OPS[formula.op].formula, values, type), f["y"], i)
            f.ret()


def small(s: Scope, tensor: Value) -> tuple[Value, Value, Value, Value]:
    """The array of a small tensor that lies row by row, its type and size, and the mode."""
    x, kind = s.floats(tensor)
    n, mode = s.count(x), s.mode()
    s.require(s.both(s.contiguous(x), n <= SMALL))
    s.require(mode.differs(GENERAL))
    return x, kind, n, mode


def write_parametric(module: Module) -> None:
    """`parametric(context, (input, ...))`: a formula with numbers."""
    s = begin_core(module, "parametric")
    f, context = s.f, s.f["context"]
    x, kind, n, mode = small(s, s.needed(0))
    flag = f.load("i64", f.at(context, Parametric.flag.offset))
    with f.when(flag >= 0):
        given = f.load("ptr", f["given"], flag)
        s.require(s.either(given.equals(s.null()), s.is_object(given, "False")))
    count = f.load("i64", f.at(context, Described.size.offset))
    values, numbers = f.buffer(8 * MOST_PARAMETERS, 8), f.buffer(8 * MOST_PARAMETERS, 8)
    for slot in range(MOST_PARAMETERS):
        f.store(s.number(0, "double"), numbers, slot)
    with f.loop(0, count) as i:
        place = f.load("i64", f.at(context, Parametric.places.offset), i)
        value = f.variable("ptr", s.null())
        with f.when(place >= 0):
            value.set(f.load("ptr", f["given"], place))
        with f.when(value.get().equals(s.null())):
            value.set(f.load("ptr", f.at(context, Parametric.defaults.offset), i))
        f.store(s.double(value.get()), numbers, i)
        f.store(value.get(), values, i)
    with f.loop(0, count) as i:
        s.hold(f.load("ptr", values, i))
    y = s.new_array(kind, s.rank(x), s.sizes(x))
    loops = [f.load("ptr", f.at(context, at.offset)) for at in
             (Parametric.loop64, Parametric.loop32)]  # fmt: skip
    loop = f.select(s.is_object(kind, "F64"), *loops)
    given_numbers = [f.load("double", numbers, i) for i in range(MOST_PARAMETERS)]
    f.call("void", loop, s.memory(y), s.memory(x), n, *given_numbers)
    null = s.null()
    f.ret(f.call("ptr", "complete", context, mode, y, s.given(0), null, null, values))
    s.end()


class Power(ctypes.Structure):
    """The square, and powers of other numbers."""

    _fields_ = [("operator", Elementwise), ("number", Parametric)]


def power_of() -> Power:
    """The context of `pow`."""
    return Power(elementwise_context(OPS["square"]), parametric_of("pow_number"))


def fill_power(code: Native, *, context: Power) -> None:
    """Tells a context where the loops are."""
    fill_parametric(code, name="pow_number", context=context.number)


def write_power(module: Module) -> None:
    """`power(context, (input, exponent))`, where the exponent is a number; the int 2 is special."""
    s = begin_core(module, "power")
    f, exponent = s.f, s.needed(1)
    s.require(s.is_a(exponent, "float", "int"))
    with f.when(s.is_a(exponent, "int")):
        with f.when(f.call("double", "PyFloat_AsDouble", exponent).equals(2)):
            given = f.buffer(16, 8)
            f.store(s.needed(0), given)
            f.store(s.null(), given, 1)
            f.ret(f.call("ptr", "unary", f["context"], given))
    number = f.at(f["context"], Power.number.offset)
    f.ret(f.call("ptr", "parametric", number, f["given"]))
    s.end()


# -- clamp, where, masked_fill ---------------------------------------------------------------------


def bound(s: Scope, i: int, kind: Value, missing: float) -> tuple[Value, Value]:
    """A core's argument as a kept tensor of a number and as a double; null and a bound that changes
    nothing where it is absent or None.
    """
    f, given = s.f, s.given(i)
    tensor, number = f.variable("ptr", s.null()), f.variable("double", 0)
    f.store(Value(f, "double", infinity(missing)), number.place)
    with f.when(s.is_missing(given).equals(0)):
        number.set(s.double(given))
        s.require(number.get().equals(number.get()))
        tensor.set(f.call("ptr", "number", given, kind))
        s.require(tensor.get().differs(s.null()))
    return tensor.get(), number.get()


def infinity(sign: float) -> str:
    """Infinity as IR spells it."""
    return "0x7FF0000000000000" if sign > 0 else "0xFFF0000000000000"


def in_type(s: Scope, number: Value, type: str) -> Value:
    """A double in a type."""
    return number if type == "double" else s.f.convert("fptrunc", number, type)


def for_types(s: Scope, kind: Value, write: Any) -> None:
    """Writes code for either type, of which that of `kind` runs."""
    for type, bits in FLOAT_TYPES:
        with s.f.when(s.is_object(kind, f"F{bits}")):
            write(type)


def limit(
    s: Scope, type: str, arrays: tuple[Value, Value], n: Value, least: Value, most: Value
) -> None:
    """The second array of the first one: n numbers moved between two."""
    f, (x, y) = s.f, arrays
    first, last = in_type(s, least, type), in_type(s, most, type)
    with f.loop(0, n) as i:
        value = function_of(f, "maximum", [f.load(type, s.memory(x), i), first], type)
        f.store(function_of(f, "minimum", [value, last], type), s.memory(y), i)


def write_clamp(module: Module) -> None:
    """`clamp(context, (input, min, max))` with numbers."""
    s = begin_core(module, "clamp")
    f, input = s.f, s.needed(0)
    x, kind, n, mode = small(s, input)
    low, least = bound(s, 1, kind, -math.inf)
    high, most = bound(s, 2, kind, math.inf)
    none = s.both(low.equals(s.null()), high.equals(s.null()))
    s.require(none.equals(0))
    y = s.new_array(kind, s.rank(x), s.sizes(x))
    for_types(s, kind, lambda type: limit(s, type, (x, y), n, least, most))
    f.ret(completed(s, mode, y, [input, low, high]))
    s.end()


def write_clamp_in_place(module: Module) -> None:
    """`clamp_(context, (self, min, max))` with numbers."""
    s = begin_core(module, "clamp_")
    tensor = s.needed(0)
    x, kind, _ = target(s, tensor)
    low, least = bound(s, 1, kind, -math.inf)
    high, most = bound(s, 2, kind, math.inf)
    s.require(s.both(low.equals(s.null()), high.equals(s.null())).equals(0))
    for_types(s, kind, lambda type: limit(s, type, (x, x), s.count(x), least, most))
    written(s, tensor, s.object("clamp_"))


def truths(s: Scope, tensor: Value) -> Value:
    """The array of a tensor of truth values that lies row by row."""
    mask = s.array(tensor)
    s.require(s.is_object(s.descriptor(mask), "BOOL"))
    s.require(s.contiguous(mask))
    return mask


def write_masked_fill(module: Module) -> None:
    """`masked_fill(context, (input, mask, value))` with a number, and a mask of the last
    dimensions.
    """
    s = begin_core(module, "masked_fill")
    f, input = s.f, s.needed(0)
    x, kind, n, mode = small(s, input)
    mask, value = truths(s, s.needed(1)), s.double(s.needed(2))
    rank, lead = f.convert("sext", s.rank(mask), "i64"), f.variable("i64", 0)
    lead.set(f.convert("sext", s.rank(x), "i64") - rank)
    s.require(lead.get() >= 0)
    with f.loop(0, rank) as k:
        size = f.load("i64", s.sizes(x), k + lead.get())
        s.require(size.equals(f.load("i64", s.sizes(mask), k)))
    period = s.count(mask)
    s.require(period > 0)
    s.require(s.either(s.fits_float(value), s.is_object(kind, "F64")))
    y = s.new_array(kind, s.rank(x), s.sizes(x))

    def fill(type: str) -> None:
        number = in_type(s, value, type)
        with f.loop(0, n, period) as start, f.loop(0, period) as i:
            chosen = f.load("i8", s.memory(mask), i).differs(0)
            at = start + i
            f.store(f.select(chosen, number, f.load(type, s.memory(x), at)), s.memory(y), at)

    for_types(s, kind, fill)
    f.ret(completed(s, mode, y, [input, s.given(1)]))
    s.end()


def write_where(module: Module) -> None:
    """`where(context, (condition, input, other))` of one shape, or numbers."""
    s = begin_core(module, "where")
    f, condition = s.f, s.needed(0)
    c = truths(s, condition)
    given = [f.variable("ptr", s.needed(i)) for i in (1, 2)]
    first = f.variable("ptr", given[0].get())
    with f.when(s.is_a(first.get(), "float", "int")):
        first.set(given[1].get())
    _, kind = s.floats(first.get())
    n, mode, sources, steps = s.count(c), s.mode(), [], []
    s.require(s.both(n <= SMALL, mode.differs(GENERAL)))
    for side in given:
        with f.when(s.is_a(side.get(), "float", "int")):
            side.set(f.call("ptr", "number", side.get(), kind))
            s.require(side.get().differs(s.null()))
        x = s.array(side.get())
        s.require(s.descriptor(x).equals(kind))
        s.require(f.call("i1", "agree", x, c))
        sources.append(s.memory(x))
        steps.append(f.select(s.rank(x).equals(0), s.number(0), 1))
    y = s.new_array(kind, s.rank(c), s.sizes(c))

    def choose(type: str) -> None:
        with f.loop(0, n) as i:
            sides = [f.load(type, at, i * step) for at, step in zip(sources, steps)]
            f.store(f.select(f.load("i8", s.memory(c), i).differs(0), *sides), s.memory(y), i)

    for_types(s, kind, choose)
    f.ret(completed(s, mode, y, [condition, *[side.get() for side in given]]))
    s.end()


SHARED = (
    write_formulas,
    write_parametric,
    write_power,
    write_clamp,
    write_clamp_in_place,
    write_masked_fill,
    write_where,
)
# Name of a core -> (the operator's record, the parameters of the function).
CHOICES = {
    "clamp": ("clamp", "input min max"),
    "clamp_": ("clamp", "self min max"),
    "masked_fill": ("masked_fill", "input mask value"),
    "where": ("where", "condition input other"),
}
