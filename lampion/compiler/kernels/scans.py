"""Running sums and products, extremes and where they are, and the first of an order, as stages of a
program. Imports radix, stages,
emit, runtime and calls.scans, whose loops they run.
"""

from __future__ import annotations

import struct
from functools import cache

from ..calls.scans import (
    LANES,
    MOST_PICKED,
    MOST_SORTED,
    SCANS,
    TYPES,
    write_pick,
    write_scan,
)
from ..native import runtime
from ..native.emit import Function, Module, Value, vector
from ..native.stages import Call
from .radix import PAIR, write_radix

KINDS = {"float32": "F32", "float64": "F64", "int64": "I64"}
SIZES = {"F32": 4, "F64": 8, "I64": 8}
WORK = 20_000  # elements that are worth a tile
# A job is: the addresses of operands, then the number of rows, how many are in a tile, and two
# sizes: (n, inner) of a scan or an extreme, (n, count) of a choice.


def begin(module: Module, name: str, operands: int) -> tuple[Function, Value, Value, list[Value]]:
    """Begins a stage: the function, its first row, how many there are, and the two sizes."""
    f = module.function(name, job="ptr", tile="i64", workspace="ptr")
    rows, piece, *sizes = (f.load("i64", f["job"], operands + i) for i in range(4))
    first = f["tile"] * piece
    return f, first, f.minimum(rows - first, piece), sizes


def write_scan_stage(module: Module, name: str, kind: str) -> None:
    """Writes `cumsum_F32`, ...: of x into y."""
    f, first, rows, (n, inner) = begin(module, f"{name}_{kind}", 2)
    start = first * n * inner * SIZES[kind]
    x, y = (f.at(f.load("ptr", f["job"], i), start) for i in range(2))
    f.call("void", f"{name}_of_{kind}", x, y, rows, n, inner)
    f.ret()


def write_pick_stage(module: Module, name: str, kind: str, long: bool) -> None:
    """Writes `rising_stage_F32`, ...: the first of x in order, into values and places; of long rows
    `long_rising_stage_F32`, ..., with a fourth operand as space for the tiles.
    """
    word, operands = ("long_", 4) if long else ("", 3)
    f, first, rows, (n, count) = begin(module, f"{word}{name}_stage_{kind}", operands)
    x, values, places, *space = (f.load("ptr", f["job"], i) for i in range(operands))
    x = f.at(x, first * n * SIZES[kind])
    values = f.at(values, first * count * SIZES[kind])
    places = f.at(places, first * count * 8)
    space = [f.at(each, f["tile"] * n * (2 * PAIR)) for each in space]
    function = f"{name}_long_{kind}" if long else f"{name}_{kind}"
    f.call("void", function, x, values, places, rows, n, count, *space)
    f.ret()


# -- extremes --------------------------------------------------------------------------------------


def wins(f: Function, a: Value, b: Value, largest: bool) -> Value:
    """Whether a takes the place of b, which came before it: a NaN of everything but a NaN."""
    if "i64" in a.type:
        return a.binary(">" if largest else "<", b)
    better = f.emit(a.binary("==", b).type, f"fcmp {'ugt' if largest else 'ult'} {a}, {b.name}")
    return better & f.emit(better.type, f"fcmp ord {b}, {b.name}")


def write_extreme(module: Module, name: str, kind: str) -> None:
    """Writes `largest_F32`, `smallest_F32`, ...: the extreme of each row (n, inner) of x along n,
    and where it is, the first of equals.
    """
    f, first, rows, (n, inner) = begin(module, f"{name}_{kind}", 3)
    type, largest = TYPES[kind][0], name == "largest"
    x, values, places = (f.load("ptr", f["job"], i) for i in range(3))
    single = inner.equals(1)
    with f.loop(first, first + rows) as row:
        start, out = f.at(x, row * n * inner, type), row * inner
        with f.when(single):
            found = row_extreme(f, start, n, type, largest)
            for value, memory in zip(found, (values, places), strict=True):
                f.store(value, memory, out)
        with f.loop(0, f.select(single, f.constant("i64", 0), inner), LANES) as c:
            columns, numbers = vector(LANES, type), vector(LANES, "i64")
            mask = f.first_lanes(inner - c, LANES)
            best = f.variable(columns, f.masked_load(columns, f.at(start, c, type), mask))
            at = f.variable(numbers, 0)
            with f.loop(1, n) as k:
                value = f.masked_load(columns, f.at(start, k * inner + c, type), mask)
                better = wins(f, value, best.get(), largest)
                best.set(f.select(better, value, best.get()))
                at.set(f.select(better, f.splat(k, LANES), at.get()))
            f.masked_store(best.get(), f.at(values, out + c, type), mask)
            f.masked_store(at.get(), f.at(places, out + c, "i64"), mask)
    f.ret()


def row_extreme(f: Function, x: Value, n: Value, type: str, largest: bool) -> tuple[Value, Value]:
    """The extreme of n numbers and its place: first of those whose places leave the same rest."""
    columns, numbers = vector(LANES, type), vector(LANES, "i32")
    first = f.masked_load(columns, x, f.first_lanes(n, LANES))
    lanes, blocks = f.variable(columns, first), f.variable(numbers, 0)
    whole = n - n % LANES

    def take(start: Value, value: Value, mask: Value | None) -> None:
        better = wins(f, value, lanes.get(), largest)
        better = better if mask is None else better & mask
        block = f.convert("trunc", start / LANES, "i32")
        lanes.set(f.select(better, value, lanes.get()))
        blocks.set(f.select(better, f.splat(block, LANES), blocks.get()))

    with f.loop(LANES, whole, LANES) as start:
        take(start, f.load(columns, f.at(x, start, type), align=4), None)
    with f.when((n > LANES) & (whole < n)):
        mask = f.first_lanes(n - whole, LANES)
        take(whole, f.masked_load(columns, f.at(x, whole, type), mask), mask)
    values, places = f.buffer(8 * LANES), f.buffer(4 * LANES)
    f.store(lanes.get(), values)
    f.store(blocks.get(), places)
    best, at = f.variable(type, f.load(type, x)), f.variable("i64", 0)
    with f.loop(0, f.minimum(n, LANES)) as i:
        value = f.load(type, values, i)
        place = f.convert("zext", f.load("i32", places, i), "i64") * LANES + i
        better, worse = (wins(f, *p, largest) for p in ((value, best.get()), (best.get(), value)))
        with f.when(better | (worse.equals(0) & (place < at.get()))):
            best.set(value)
            at.set(place)
    return best.get(), at.get()


@cache
def native() -> runtime.Native:
    """The compiled stages."""
    module = Module()
    for name in SCANS:
        write_scan(module, name)
    for kind in TYPES:
        for name in SCANS:
            write_scan_stage(module, name, kind)
        for name in ("largest", "smallest"):
            write_extreme(module, name, kind)
        for name in ("rising", "falling"):
            write_pick(module, kind, name == "rising")
            write_radix(module, name, kind)
            for long in (False, True):
                write_pick_stage(module, name, kind, long)
    return runtime.load(module.text())


def stage(function: str, operands: int, rows: int, sizes: tuple[int, int], name: str) -> Call:
    """A stage on rows, in tiles that are worth it."""
    piece = max(1, min(rows, WORK // max(sizes[0], 1)))
    job = struct.pack(f"<{operands}q4q", *[0] * operands, rows, piece, *sizes)
    pointers = tuple((8 * i, i) for i in range(operands))
    return Call(native().address(function), job, -(-rows // piece), pointers, name)


def scan_call(name: str, dtype: str, outer: int, n: int, inner: int) -> Call | None:
    """`cumsum` or `cumprod` of an array (outer, n, inner) along its middle dimension, from operand
    0 into operand 1; None for other types than float32, float64 and int64.
    """
    kind = KINDS.get(dtype)
    return kind and stage(f"{name}_{kind}", 2, outer, (n, inner), name)  # type: ignore[return-value]


def extreme_call(
    name: str, dtype: str, outer: int, n: int, inner: int, largest: bool
) -> Call | None:
    """The extremes of an array (outer, n, inner) along its middle dimension, from operand 0 into
    operand 1, and where they are, as int64, into operand 2; None for other types than float32,
    float64 and int64.
    """
    kind = KINDS.get(dtype)
    if kind is None or n >= 1 << 31:
        return None
    function = f"{'largest' if largest else 'smallest'}_{kind}"
    return stage(function, 3, outer, (n, inner), name)


def pick_call(
    name: str, dtype: str, rows: int, n: int, count: int, rising: bool
) -> tuple[Call, int] | None:
    """The first `count` elements of each row of operand 0 in order, into operand 1, and their
    places, as int64, into operand 2; then how many bytes of space operand 3 has to have, 0 for no
    such operand. None for types that it does not cover, and for no elements.
    """
    kind = KINDS.get(dtype)
    if kind is None or not count or n >= 1 << 31:
        return None
    long = count > (MOST_SORTED if count == n else MOST_PICKED)
    function = f"{'rising' if rising else 'falling'}_stage_{kind}"
    if not long:
        return stage(function, 3, rows, (n, count), name), 0
    call = stage(f"long_{function}", 4, rows, (n, count), name)
    return call, call.tiles * n * 2 * PAIR
