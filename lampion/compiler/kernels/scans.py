"""Running sums and products, and the first of an order, as stages of a program. Imports stages,
emit, runtime and calls.scans, whose loops they run.
"""

from __future__ import annotations

import struct
from functools import cache

from ..calls.scans import MOST_PICKED, MOST_SORTED, SCANS, TYPES, write_pick, write_scan
from ..native import runtime
from ..native.emit import Function, Module, Value
from ..native.stages import Call

KINDS = {"float32": "F32", "float64": "F64", "int64": "I64"}
SIZES = {"F32": 4, "F64": 8, "I64": 8}
WORK = 20_000  # elements that are worth a tile
# A job is: the addresses of operands, then the number of rows, how many are in a tile, and two
# sizes: (n, inner) of a scan, (n, count) of a choice.


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


def write_pick_stage(module: Module, name: str, kind: str) -> None:
    """Writes `rising_stage_F32`, ...: the first of x in order, into values and places."""
    f, first, rows, (n, count) = begin(module, f"{name}_stage_{kind}", 3)
    x, values, places = (f.load("ptr", f["job"], i) for i in range(3))
    x = f.at(x, first * n * SIZES[kind])
    values = f.at(values, first * count * SIZES[kind])
    places = f.at(places, first * count * 8)
    f.call("void", f"{name}_{kind}", x, values, places, rows, n, count)
    f.ret()


@cache
def native() -> runtime.Native:
    """The compiled stages."""
    module = Module()
    for name in SCANS:
        write_scan(module, name)
    for kind in TYPES:
        for name in SCANS:
            write_scan_stage(module, name, kind)
        for name in ("rising", "falling"):
            write_pick(module, kind, name == "rising")
            write_pick_stage(module, name, kind)
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


def pick_call(name: str, dtype: str, rows: int, n: int, count: int, rising: bool) -> Call | None:
    """The first `count` elements of each row of operand 0 in order, into operand 1, and their
    places, as int64, into operand 2; None for types and numbers that it does not cover.
    """
    kind = KINDS.get(dtype)
    few = 0 < count <= (MOST_SORTED if count == n else MOST_PICKED)
    if kind is None or not few:
        return None
    function = f"{'rising' if rising else 'falling'}_stage_{kind}"
    return stage(function, 3, rows, (n, count), name)
