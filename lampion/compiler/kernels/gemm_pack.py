"""The register tile of matrix products, and how operands are packed for it. Imports emit and
runtime.
"""

from __future__ import annotations

from typing import NamedTuple

from ..native.emit import Function, Module, Value, vector
from ..native.runtime import Target

# When B is packed; on the way: by the first rows that read it; split: for matrix units, with A.
NEVER, ON_THE_WAY, BEFORE, SPLIT = 0, 1, 2, 3


class Shape(NamedTuple):
    """The register tile on a machine, and the types of numbers."""

    type: str  # of the sums
    size: int  # bytes of a number
    lanes: int  # numbers in a vector
    rows: int
    vectors: int
    source: str  # of the operands in memory: i16 is bfloat16
    result: str  # of C in memory
    masks: bool  # whether loading a part of a vector is one instruction
    parts: int  # bfloat16 numbers that make one of the source for matrix units; 0 without them

    @property
    def vector(self) -> str:
        """The vector type."""
        return vector(self.lanes, self.type)


def shape_for(target: Target, name: str, result: str = "") -> Shape:
    """The register tile of `float32`, `float64` or `bfloat16` products: as many sums as fit the
    registers beside a row of B and a number of A. The result is of the sums' type unless given.
    """
    size = 8 if name == "float64" else 4
    rows, vectors = (8, 3) if target.registers >= 32 else (4, 3 if target.fused else 2)
    type = "double" if size == 8 else "float"
    source = "i16" if name == "bfloat16" else type
    made = "i16" if result == "bfloat16" else type
    masks = target.bytes >= 32
    parts = {"float32": 3, "bfloat16": 1}.get(name, 0) if target.matrix else 0
    return Shape(type, size, target.bytes // size, rows, vectors, source, made, masks, parts)


def round_up(value: Value, unit: Value | int) -> Value:
    """The next multiple of `unit`."""
    return (value + (unit - 1)) / unit * unit


def fetch(f: Function, place: Value, level: int) -> None:
    """Asks for a line of memory that is read soon, at any address: 3 means into the first cache, 2
    the second.
    """
    numbers = [f.constant("i32", i) for i in (0, level, 1)]
    f.call("void", "llvm.prefetch.p0", place, *numbers)


def part(f: Function, count: Value, lanes: int) -> Value:
    """The mask of the first `count` lanes, made of an integer: LLVM keeps it in a register."""
    count = f.select(count < 0, f.constant("i64", 0), f.minimum(count, lanes))
    bits = f.constant("i64", 1).binary("<<", count) - 1
    return f.convert("bitcast", f.convert("trunc", bits, f"i{lanes}"), vector(lanes, "i1"))


# -- packing -----------------------------------------------------------------------------------


def widened(f: Function, shape: Shape, value: Value) -> Value:
    """Numbers as they are in memory, as numbers of the sum's type: a bfloat16 is half a float32."""
    if value.type.find("i16") < 0:
        return value
    wide = value.type.replace("i16", "i32")
    bits = f.convert("zext", value, wide)
    bits = bits.binary("<<", 16)
    return f.convert("bitcast", bits, wide.replace("i32", "float"))


def narrowed(f: Function, value: Value) -> Value:
    """float32 numbers as bfloat16, to the nearest, ties to even; NaN stays NaN."""
    wide = value.type.replace("float", "i32")
    bits = f.convert("bitcast", value, wide)
    odd = f.emit(wide, f"lshr {bits}, {f.constant(wide, 16).name}") & 1
    nearest = bits + odd + 0x7FFF
    rounded = f.select(value.equals(value), nearest, bits | 0x400000)
    top = f.emit(wide, f"lshr {rounded}, {f.constant(wide, 16).name}")
    return f.convert("trunc", top, wide.replace("i32", "i16"))


def interleaved(f: Function, rows: list[Value], lanes: int) -> list[Value]:
    """Vectors of `lanes` numbers after a perfect shuffle: the first half of them interleaved with
    the second. For R vectors, R a power of two, log2(R) of them transpose.
    """
    low = [i // 2 + (i % 2) * lanes for i in range(lanes)]
    high = [i + lanes // 2 for i in low]
    half = len(rows) // 2
    pairs = list(zip(rows[:half], rows[half:], strict=True))
    return [f.shuffle(a, b, half_of) for a, b in pairs for half_of in (low, high)]


def transposed(f: Function, rows: list[Value], lanes: int) -> list[Value]:
    """R vectors of `lanes` numbers, R a power of two, as the same numbers column by column."""
    done = 1
    while done < len(rows):
        rows = interleaved(f, rows, lanes)
        done *= 2
    return rows


def pack(module: Module, name: str, shape: Shape, width: int) -> None:
    """Writes the function that copies a block into strips `[strip][k][width]`, in any strides.

    Lanes past the edge hold zeros or copies, and `k` is rounded up to whole vectors: what is there
    is never used but must be harmless to read.
    """
    f = module.function(
        name, "void", True, source="ptr noalias", lane="i64", step="i64", count="i64",
        depth="i64", to="ptr noalias", strip="i64",
    )  # fmt: skip
    unit, along = f["lane"].equals(1), f["step"].equals(1)
    with f.when(unit):
        copy_lanes(f, shape, width)
    with f.when(unit.equals(0)), f.loop(0, f["count"], width) as p:
        to = f.at(f["to"], p / width * f["strip"], shape.type)
        start = f.at(f["source"], p * f["lane"], shape.source)
        left = f.minimum(f["count"] - p, width)
        with f.when(along):
            copy_transposed(f, shape, width, start, left, to)
        with f.when(along.equals(0)):
            copy_strided(f, shape, width, start, left, to)
    f.ret()


def copy_lanes(f: Function, shape: Shape, width: int) -> None:
    """A row's lanes lie side by side: rows are copied one after the other, by vectors, each to all
    strips; masked at the edge.
    """
    lanes = min(shape.lanes, width)
    type = vector(lanes, shape.source)
    whole = f["count"] / width * width

    def copy(row: Value, k: Value, p: Value, whole: bool) -> None:
        to = f.at(f["to"], p / width * f["strip"] + k * width, shape.type)
        for offset in range(0, width, lanes):
            place = f.at(row, p + offset, shape.source)
            if whole:
                value = f.load(type, place, align=1)
            else:
                mask = f.first_lanes(f["count"] - p - offset, lanes)
                value = f.masked_load(type, place, mask)
            put = f.at(to, offset, shape.type)
            f.store(widened(f, shape, value), put, align=shape.size)

    with f.loop(0, f["depth"]) as k:
        row = f.at(f["source"], k * f["step"], shape.source)
        with f.loop(0, whole, width) as p:
            copy(row, k, p, True)
        with f.when(whole < f["count"]):
            copy(row, k, whole, False)


def copy_transposed(
    f: Function, shape: Shape, width: int, start: Value, left: Value, to: Value
) -> None:
    """Each lane's numbers lie side by side: square blocks are read by vectors and transposed."""
    lanes = shape.lanes
    group = min(width, lanes)
    type = vector(lanes, shape.source)
    with f.loop(0, f["depth"], lanes) as k:
        mask = f.first_lanes(f["depth"] - k, lanes)
        for first in range(0, width, group):
            rows = []
            for i in range(first, first + group):
                lane = f.minimum(f.constant("i64", i), left - 1)
                place = f.at(start, lane * f["lane"] + k, shape.source)
                rows.append(widened(f, shape, f.masked_load(type, place, mask)))
            for i, value in enumerate(transposed(f, rows, lanes)):
                row, column = divmod(i * lanes, group)
                put = f.at(to, (k + row) * width + (first + column), shape.type)
                f.store(value, put, align=shape.size)


def copy_strided(
    f: Function, shape: Shape, width: int, start: Value, left: Value, to: Value
) -> None:
    """Numbers one by one, for strides of any size and sign."""
    with f.loop(0, f["depth"]) as k:
        with f.loop(0, width) as i:
            lane = f.minimum(i, left - 1)
            place = f.at(start, k * f["step"] + lane * f["lane"], shape.source)
            value = widened(f, shape, f.load(shape.source, place, align=1))
            f.store(value, f.at(to, k * width + i, shape.type))
