"""The loops of compiled calls: rows added, multiplied, normalised. Imports mathematics and emit.

They are for few elements: plain loops over numbers, and vectors of eight where that is as short.
"""

from __future__ import annotations

from functools import partial

from ..native.emit import Function, Module, Value, suffix_of, vector
from .mathematics import called

FLOAT_TYPES = (("float", "32"), ("double", "64"))
LANES, WIDE = 8, 16


def reduced(f: Function, word: str, start: float | None, value: Value) -> Value:
    """All lanes added (`fadd`) or their largest (`fmax`), in any order."""
    scalar, name = value.type.split(" x ")[1][:-1], f"llvm.vector.reduce.{word}"
    name += f".{suffix_of(value.type)}"
    given = ([] if start is None else [f.constant(scalar, start)]) + [value]
    f.module.declare(scalar, name, tuple(given))
    return f.emit(scalar, f"call reassoc {scalar} @{name}({', '.join(map(str, given))})")


def lanes_left(f: Function, n: Value, i: Value) -> Value:
    """The mask of the elements from i on, of n."""
    return f.first_lanes(n - i, LANES)


def write_multiply(f: Function, type: str) -> None:
    """z = x @ y + bias of (n, k) and (k, m); each element is added up in order, as BLAS does it."""
    wide, n, k, m = vector(LANES, type), f["n"], f["k"], f["m"]
    with f.loop(0, n) as i, f.loop(0, m, LANES) as j:
        mask = lanes_left(f, m, j)
        total = f.variable(wide, 0)
        with f.loop(0, k) as p:
            factor = f.splat(f.load(type, f["x"], i * k + p), LANES)
            row = f.masked_load(wide, f.at(f["y"], p * m + j, type), mask)
            total.set(f.fused(factor, row, total.get()))
        with f.when(f["bias"].differs(Value(f, "ptr", "null"))):
            bias = f.masked_load(wide, f.at(f["bias"], j, type), mask)
            total.set(total.get() + bias)
        f.masked_store(total.get(), f.at(f["z"], i * m + j, type), mask)
    f.ret()


def write_transpose(f: Function, type: str) -> None:
    """y = x.T of an (m, k) matrix."""
    with f.loop(0, f["m"]) as j, f.loop(0, f["k"]) as p:
        f.store(f.load(type, f["x"], j * f["k"] + p), f["y"], p * f["m"] + j)
    f.ret()


def write_total(f: Function, type: str, squared: bool = False) -> None:
    """The sum of a row, or of its squares."""
    total = f.variable(vector(LANES, type), 0)
    with f.loop(0, f["n"], LANES) as i:
        place = f.at(f["x"], i, type)
        part = f.masked_load(vector(LANES, type), place, lanes_left(f, f["n"], i))
        total.set(f.fused(part, part, total.get()) if squared else total.get() + part)
    f.ret(reduced(f, "fadd", 0.0, total.get()))


def largest(f: Function, row: Value, n: Value, type: str) -> Value:
    """The largest number of a row; NaN where there is one."""
    return f.call(type, f"largest_{32 if type == 'float' else 64}", row, n)


def write_largest(f: Function, type: str) -> None:
    """`largest(x, n)`: in lanes, then of these."""
    wide = vector(WIDE, type)
    low = f.splat(Value(f, type, "0xFFF0000000000000"), WIDE)  # minus infinity
    top, found = f.variable(wide, low), f.buffer(8 * WIDE)
    with f.loop(0, f["n"], WIDE) as i:
        mask = f.first_lanes(f["n"] - i, WIDE)
        value = f.select(mask, f.masked_load(wide, f.at(f["x"], i, type), mask), low)
        top.set(
            f.select(f.emit(mask.type, f"fcmp ugt {value}, {top.get().name}"), value, top.get())
        )
    f.store(top.get(), found)
    best = f.variable(type, f.load(type, found))
    with f.loop(1, f.minimum(f["n"], WIDE)) as k:
        value = f.load(type, found, k)
        better = f.emit("i1", f"fcmp ugt {value}, {best.get().name}")
        known = f.emit("i1", f"fcmp ord {best.get()}, {best.get().name}")
        better = f.emit("i1", f"and {better}, {known.name}")
        best.set(f.select(better, value, best.get()))
    f.ret(best.get())


def sum_of_exponentials(f: Function, row: Value, n: Value, top: Value, out: Value | None) -> Value:
    """The sum of exp(x - top) over a row, in lanes, whose terms are kept in `out`."""
    wide = vector(WIDE, top.type)
    total, none, tops = f.variable(wide, 0), f.constant(wide, 0), f.splat(top, WIDE)
    with f.loop(0, n, WIDE) as i:
        mask = f.first_lanes(n - i, WIDE)
        value = f.masked_load(wide, f.at(row, i, top.type), mask)
        term = f.select(mask, called(f, "exp", value - tops), none)
        if out is not None:
            f.masked_store(term, f.at(out, i, top.type), mask)
        total.set(total.get() + term)
    return reduced(f, "fadd", 0.0, total.get())


def write_softmax_rows(f: Function, type: str) -> None:
    """exp(x) / sum(exp(x)) of each row."""
    wide = vector(WIDE, type)
    with f.loop(0, f["rows"]) as r:
        x, y = [f.at(f[p], r * f["n"], type) for p in ("x", "y")]
        total = sum_of_exponentials(f, x, f["n"], largest(f, x, f["n"], type), y)
        totals = f.splat(total, WIDE)
        with f.loop(0, f["n"], WIDE) as i:
            mask, at = f.first_lanes(f["n"] - i, WIDE), f.at(y, i, type)
            f.masked_store(f.masked_load(wide, at, mask) / totals, at, mask)
    f.ret()


def write_log_softmax_rows(f: Function, type: str) -> None:
    """x - log(sum(exp(x))) of each row."""
    with f.loop(0, f["rows"]) as r:
        x, y = [f.at(f[p], r * f["n"], type) for p in ("x", "y")]
        top = largest(f, x, f["n"], type)
        log = called(f, "log", sum_of_exponentials(f, x, f["n"], top, None))
        with f.loop(0, f["n"]) as i:
            f.store(f.load(type, x, i) - top - log, y, i)
    f.ret()


def write_normalised_rows(f: Function, type: str) -> None:
    """(x - mean) / sqrt(variance + eps) w + b of each row; keeps means and variances."""
    n, null = f["n"], Value(f, "ptr", "null")
    size = f.convert("sitofp", n, type)
    eps = f["eps"] if type == "double" else f.convert("fptrunc", f["eps"], type)
    with f.loop(0, f["rows"]) as r:
        x, y = [f.at(f[p], r * n, type) for p in ("x", "y")]
        mean, squares = f.variable(type, 0), f.variable(type, 0)
        with f.loop(0, n) as i:
            mean.set(mean.get() + f.load(type, x, i))
        mean.set(mean.get() / size)
        with f.loop(0, n) as i:
            centred = f.load(type, x, i) - mean.get()
            f.store(centred, y, i)
            squares.set(f.fused(centred, centred, squares.get()))
        variance = squares.get() / size
        root = f.call(type, f"llvm.sqrt.{suffix_of(type)}", variance + eps)
        scale = f.constant(type, 1) / root
        with f.loop(0, n) as i:
            value = f.variable(type, f.load(type, y, i) * scale)
            with f.when(f["w"].differs(null)):
                value.set(value.get() * f.load(type, f["w"], i))
            with f.when(f["b"].differs(null)):
                value.set(value.get() + f.load(type, f["b"], i))
            f.store(value.get(), y, i)
        with f.when(f["means"].differs(null)):
            f.store(mean.get(), f["means"], r)
            f.store(variance, f["variances"], r)
    f.ret()


def write_class_losses(f: Function, type: str) -> None:
    """The mean of log(sum(exp(x))) - x[target] over rows; false for a target that is no class."""
    loss, n = f.variable(type, 0), f["n"]
    with f.loop(0, f["rows"]) as r:
        x = f.at(f["x"], r * n, type)
        target = f.load("i64", f["target"], r)
        for wrong in (target < 0, target >= n):
            with f.when(wrong):
                f.ret(Value(f, "i1", "false"))
        top = largest(f, x, n, type)
        lse = called(f, "log", sum_of_exponentials(f, x, n, top, None)) + top
        f.store(lse, f["lse"], r)
        loss.set(loss.get() + (lse - f.load(type, x, target)))
    f.store(loss.get() / f.convert("sitofp", f["rows"], type), f["y"])
    f.ret(Value(f, "i1", "true"))


def write_loops(module: Module) -> None:
    """All loops, for both types."""
    rows = {"x": "ptr", "y": "ptr", "rows": "i64", "n": "i64"}
    product = dict.fromkeys(("x", "y", "z", "bias"), "ptr") | dict.fromkeys(("n", "k", "m"), "i64")
    turned = {"x": "ptr", "y": "ptr", "m": "i64", "k": "i64"}
    norm = {**rows, "w": "ptr", "b": "ptr", "means": "ptr", "variances": "ptr", "eps": "double"}
    for type, bits in FLOAT_TYPES:
        for name, write, result, parameters in (
            ("multiply", write_multiply, "void", product),
            ("transpose", write_transpose, "void", turned),
            ("largest", write_largest, type, {"x": "ptr", "n": "i64"}),
            ("total", write_total, type, {"x": "ptr", "n": "i64"}),
            ("squares", partial(write_total, squared=True), type, {"x": "ptr", "n": "i64"}),
            ("softmax_rows", write_softmax_rows, "void", rows),
            ("log_softmax_rows", write_log_softmax_rows, "void", rows),
            ("normalised_rows", write_normalised_rows, "void", norm),
            ("class_losses", write_class_losses, "i1", {**rows, "target": "ptr", "lse": "ptr"}),
        ):
            write(module.function(f"{name}_{bits}", result, True, **parameters), type)
