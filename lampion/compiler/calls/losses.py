"""Compiled calls of losses of few elements: nll_loss, and losses of pairs of numbers. Imports
described, formulas, loops, objects and core.
"""

from __future__ import annotations

from ...core.graph import GENERAL
from ..native.emit import Module, Value
from .described import completed
from .formulas import evaluated
from .loops import FLOAT_TYPES
from .objects import SMALL, Scope, begin_core

# Losses of pairs -> the formula of one.
FORMULAS = {"mse_loss": "(x - t) * (x - t)"}
# Name of a core -> the parameters of the function, and of the operator.
LOSSES = {
    "nll_loss": ("input target weight size_average ignore_index reduce reduction",
                 "ignore_index reduction"),
    "mse_loss": ("input target size_average reduce reduction weight", "reduction numbers"),
}  # fmt: skip


def write_pairs(module: Module) -> None:
    """The loops of losses of pairs."""
    for name, formula in FORMULAS.items():
        for type, bits in FLOAT_TYPES:
            f = module.function(
                f"{name}_of_{bits}", "void", True, y="ptr", x="ptr", t="ptr", n="i64"
            )
            with f.loop(0, f["n"]) as i:
                values = {p: f.load(type, f[p], i) for p in "xt"}
                f.store(evaluated(f, formula, values, type), f["y"], i)
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
    """A loss of pairs: (input, target, size_average, reduce, reduction, weight)."""
    s = begin_core(module, name)
    f, input, target = s.f, s.needed(0), s.needed(1)
    x, kind = s.floats(input)
    t = s.array(target)
    usual(s, 2, 3, 5)
    reduction, mean = reduction_asked(s, 4)
    none = s.is_object(reduction, "none")
    s.require(s.either(s.either(mean, none), s.is_object(reduction, "total")))
    s.require(s.both(s.descriptor(t).equals(kind), s.rank(t).equals(s.rank(x))))
    s.require(s.both(s.contiguous(x), f.call("i1", "agree", t, x)))
    n, mode = s.count(x), s.mode()
    s.require(s.both(s.both(n > 0, n <= SMALL), mode.differs(GENERAL)))
    y = f.variable("ptr", s.new_array(kind, s.rank(x), s.sizes(x)))
    for type, bits in FLOAT_TYPES:
        with f.when(s.is_object(kind, f"F{bits}")):
            places = [s.memory(array) for array in (y.get(), x, t)]
            f.call("void", f"{name}_of_{bits}", *places, n)
            with f.when(none.equals(0)):
                total = f.call(type, f"total_{bits}", places[0], n)
                s.drop(y.get())
                y.set(s.new_array(kind, s.number(0, "i32"), s.null()))
                divided = total / f.convert("sitofp", n, type)
                f.store(f.select(mean, divided, total), s.memory(y.get()))
    values = [s.hold(reduction), s.hold(s.object("EMPTY"))]
    f.ret(completed(s, mode, y.get(), [input, target], values))
    s.end()


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


SHARED = (
    write_pairs, write_nll_loss,
    *[lambda module, name=name: write_pair_loss(module, name) for name in FORMULAS],
)  # fmt: skip
