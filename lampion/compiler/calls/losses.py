"""Compiled calls of losses of few elements: nll_loss, and losses of pairs of numbers. Imports
described, formulas, loops, objects and core.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ...core.graph import GENERAL
from ...core.op import OPS
from ..native.emit import Module, Value
from .described import completed
from .formulas import FUNCTIONS, evaluated, names_in
from .loops import FLOAT_TYPES
from .objects import SMALL, Scope, begin_core


class Pairs(NamedTuple):
    """A loss of pairs of numbers, by the formula of its operator.

    arguments  of the function; those not named here must be absent or None
    setting    the argument that is the formula's only number, and that number's default
    """

    arguments: str
    setting: tuple[str, float] | None = None


USUAL = "input target size_average reduce reduction weight"
PAIRS = {
    "mse_loss": Pairs(USUAL),
    "smooth_l1_loss": Pairs("input target size_average reduce reduction beta", ("beta", 1.0)),
    "huber_loss": Pairs("input target reduction delta weight", ("delta", 1.0)),
    "binary_cross_entropy": Pairs("input target weight size_average reduce reduction"),
    "binary_cross_entropy_with_logits": Pairs(
        "input target weight size_average reduce reduction pos_weight"
    ),
}
# Name of a core -> the parameters of the function, and of the operator.
LOSSES = {
    "nll_loss": ("input target weight size_average ignore_index reduce reduction",
                 "ignore_index reduction"),
} | {name: (loss.arguments, "reduction numbers") for name, loss in PAIRS.items()}  # fmt: skip


def setting_of(name: str) -> list[str]:
    """The name of the number in the formula of a loss, as a list: what is neither of a pair."""
    return sorted(names_in(OPS[name].formula) - FUNCTIONS - {"x", "t"})


def write_pairs(module: Module) -> None:
    """The loops of losses of pairs."""
    for name in PAIRS:
        for type, bits in FLOAT_TYPES:
            f = module.function(
                f"{name}_of_{bits}", "void", True, y="ptr", x="ptr", t="ptr", n="i64", s="double"
            )
            setting = f["s"] if type == "double" else f.convert("fptrunc", f["s"], type)
            numbers = dict.fromkeys(setting_of(name), setting)
            with f.loop(0, f["n"]) as i:
                values = {p: f.load(type, f[p], i) for p in "xt"} | numbers
                f.store(evaluated(f, OPS[name].formula, values, type), f["y"], i)
            f.ret()


def reduction_asked(s: Scope, i: int) -> tuple[Value, Value]:
    """The name of the reduction that an argument asks for, and whether it is the mean."""
    f, given = s.f, s.given(i)
    found = f.variable("ptr", given)
    with f.when(given.equals(s.null())):
        found.set(s.object("mean"))
    return found.get(), s.is_object(found.get(), "mean")


def usual(s: Scope, *places: int) -> None:
    """Gives up where one of these arguments is not None."""
    for i in places:
        s.require(s.is_missing(s.given(i)))


def write_pair_loss(module: Module, name: str) -> None:
    """A loss of pairs: see `PAIRS`."""
    loss = PAIRS[name]
    s, places = begin_core(module, name), {n: i for i, n in enumerate(loss.arguments.split())}
    f, input, target = s.f, s.needed(0), s.needed(1)
    x, kind = s.floats(input)
    t = s.array(target)
    reduction, mean = reduction_asked(s, places.pop("reduction"))
    setting = f.variable("double", 0)
    if loss.setting is not None:
        argument, default = loss.setting
        setting.set(default)
        given = s.given(places.pop(argument))
        with f.when(given.differs(s.null())):
            setting.set(s.double(given))
        s.require(s.both(setting.get() > 0, s.fits_float(setting.get())))
    usual(s, *list(places.values())[2:])
    none = s.is_object(reduction, "none")
    s.require(s.either(s.either(mean, none), s.is_object(reduction, "total")))
    s.require(s.both(s.descriptor(t).equals(kind), s.rank(t).equals(s.rank(x))))
    s.require(s.both(s.contiguous(x), f.call("i1", "agree", t, x)))
    n, mode = s.count(x), s.mode()
    s.require(s.both(s.both(n > 0, n <= SMALL), mode.differs(GENERAL)))
    if name == "binary_cross_entropy":
        check_chances(s, x, kind, n)
    y = f.variable("ptr", s.new_array(kind, s.rank(x), s.sizes(x)))
    for type, bits in FLOAT_TYPES:
        with f.when(s.is_object(kind, f"F{bits}")):
            memories = [s.memory(array) for array in (y.get(), x, t)]
            f.call("void", f"{name}_of_{bits}", *memories, n, setting.get())
            with f.when(none.equals(0)):
                total = f.call(type, f"total_{bits}", memories[0], n)
                s.drop(y.get())
                y.set(s.new_array(kind, s.number(0, "i32"), s.null()))
                divided = total / f.convert("sitofp", n, type)
                f.store(f.select(mean, divided, total), s.memory(y.get()))
    if loss.setting is None:
        numbers = s.hold(s.object("EMPTY"))
    else:
        numbers = s.tuple_of(f.call("ptr", "PyFloat_FromDouble", setting.get()))
    f.ret(completed(s, mode, y.get(), [input, target], [s.hold(reduction), numbers]))
    s.end()


def check_chances(s: Scope, x: Value, kind: Value, n: Value) -> None:
    """Gives up on numbers that are no probabilities."""
    f, good = s.f, s.f.variable("i1", 1)
    for type, bits in FLOAT_TYPES:
        with f.when(s.is_object(kind, f"F{bits}")), f.loop(0, n) as i:
            value = f.load(type, s.memory(x), i)
            good.set(s.both(good.get(), s.both(value >= 0, value <= 1)))
    s.require(good.get())


def write_nll_loss(module: Module) -> None:
    """`nll_loss` of (N, C) and N classes: (input, target, weight, size_average, ignore_index,
    reduce, reduction).
    """
    s = begin_core(module, "nll_loss")
    f, input, target = s.f, s.needed(0), s.needed(1)
    x, kind = s.floats(input)
    t = s.array(target)
    usual(s, 2, 3, 5)
    with f.when(s.given(4).differs(s.null())):
        s.require(f.call("i32", "same_value", s.given(4), s.object("ignored")).differs(0))
    reduction, mean = reduction_asked(s, 6)
    s.require(s.either(mean, s.is_object(reduction, "total")))
    s.require(s.both(s.rank(x).equals(2), s.contiguous(x)))
    s.require(s.both(s.rank(t).equals(1), s.contiguous(t)))
    s.require(s.is_object(s.descriptor(t), "I64"))
    rows, classes = (f.load("i64", s.sizes(x), i) for i in range(2))
    s.require(f.load("i64", s.sizes(t)).equals(rows))
    mode = s.mode()
    s.require(s.both(s.both(rows > 0, rows <= SMALL), mode.differs(GENERAL)))
    good = f.variable("i1", 1)
    with f.loop(0, rows) as i:
        at = f.load("i64", s.memory(t), i)
        good.set(s.both(good.get(), s.both(at >= 0, at < classes)))
    s.require(good.get())
    y = s.new_array(kind, s.number(0, "i32"), s.null())
    for type, bits in FLOAT_TYPES:
        with f.when(s.is_object(kind, f"F{bits}")):
            total = f.variable(type, 0)
            with f.loop(0, rows) as i:
                at = i * classes + f.load("i64", s.memory(t), i)
                total.set(total.get() - f.load(type, s.memory(x), at))
            divided = total.get() / f.convert("sitofp", rows, type)
            f.store(f.select(mean, divided, total.get()), s.memory(y))
    values = [s.hold(s.object("ignored")), s.hold(reduction)]
    f.ret(completed(s, mode, y, [input, target], values))
    s.end()


SHARED: tuple[Callable[[Module], None], ...] = (
    write_pairs, write_nll_loss, *[partial(write_pair_loss, name=name) for name in PAIRS],
)  # fmt: skip
