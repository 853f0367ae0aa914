"""Operands of matrix products cut into bfloat16 parts and packed for matrix units. Imports emit and
gemm_pack.

A float32 holds 24 bits of a number, a bfloat16 holds 8 of as large a range: a float32 is the sum of
three bfloat16, each the nearest to what the ones before leave, and the third leaves nothing (Henry,
Tang and Heinecke, 2019). Two numbers whose places along k are 16 apart share 32 bits, for operands
of either side alike, which costs no shuffle: the order of a sum is free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ..native.emit import Function, Module, Value
from .gemm_pack import Shape, interleaved, part

UNIT = 16  # rows of a tile, and pairs along k in a row
STEP = 2 * UNIT  # numbers along k in a tile
SIDE = 2 * UNIT  # rows, or columns, of C in a panel: two tiles
TILE = 64 * UNIT  # bytes of a tile


def split(module: Module, name: str, shape: Shape, lanes_first: bool) -> None:
    """Writes `name(source, lane, step, count, depth, to, space)`, which packs a panel of `count`
    lanes (rows of A, columns of B), 32 at most, and `depth` numbers of each into tiles
    `[step][part][half][row][16]` of pairs. A row of a tile holds a lane's pairs (`lanes_first`, for
    A) or a pair's lanes (for B).

    Where a part is missing, or neither lanes nor numbers lie side by side, the panel is copied to
    `space` first, with zeros for what is missing.
    """
    f = module.function(
        name, "void", True, source="ptr", lane="i64", step="i64", count="i64", depth="i64",
        to="ptr", space="ptr",
    )  # fmt: skip
    source = f.variable("ptr", f["source"])
    lane, step = f.variable("i64", f["lane"]), f.variable("i64", f["step"])
    along, across = f["step"].equals(1), f["lane"].equals(1)
    whole = (f["count"] % UNIT).equals(0) & (f["depth"] % STEP).equals(0) & (along | across)
    steps = (f["depth"] + (STEP - 1)) / STEP
    halves = f.select(f["count"] > UNIT, f.constant("i64", 2), 1)  # tiles with lanes in them
    with f.when(whole.equals(0)):
        copy_panel(f, shape, halves * UNIT, steps * STEP)
        source.set(f["space"])
        step.set(f.select(across, f.constant("i64", SIDE), 1))
        lane.set(f.select(across, f.constant("i64", 1), steps * STEP))
    for numbers_first in (True, False):
        pack = rows_of_pairs if numbers_first == lanes_first else transposed_pairs
        with f.when(step.get().equals(1).equals(int(numbers_first))):
            outer = lane.get() if numbers_first else step.get()
            with f.loop(0, steps) as k, f.loop(0, halves) as half:
                start = f.at(source.get(), tile_start(k, half, outer, numbers_first), shape.source)
                to = f.at(f["to"], (k * (2 * shape.parts) + half) * TILE)
                deque(pack(f, shape, start, outer, numbers_first, to), 0)
    f.ret()


def tile_start(step: Value, half: Value | int, outer: Value, along: bool) -> Value:
    """How far into a panel the numbers of a tile begin."""
    return step * STEP + outer * UNIT * half if along else outer * STEP * step + half * UNIT


def copy_panel(f: Function, shape: Shape, lanes: Value, depth: Value) -> None:
    """Copies a panel to `space`, with zeros up to so many lanes and numbers: rows of 32 lanes if
    they lie side by side, else the numbers of each lane.
    """
    type = f"<{UNIT} x {shape.source}>"
    across = f["lane"].equals(1)

    def chosen(x: Value, y: Value) -> Value:
        return f.select(across, x, y)

    rows, length = chosen(f["depth"], f["count"]), chosen(f["count"], f["depth"])
    row, column = chosen(f["step"], f["lane"]), chosen(f["lane"], f["step"])
    width = chosen(f.constant("i64", SIDE), depth)
    with f.loop(0, chosen(depth, lanes)) as i:
        inside = i < rows
        start = f.at(f["source"], f.select(inside, i * row, 0), shape.source)
        to = f.at(f["space"], i * width, shape.source)
        left = f.select(inside & column.equals(1), length, 0)
        with f.loop(0, chosen(lanes, depth), UNIT) as j:
            value = f.masked_load(type, f.at(start, j, shape.source), part(f, left - j, UNIT))
            f.store(value, f.at(to, j, shape.source), align=2)
        with f.when(inside & column.differs(1)), f.loop(0, length) as j:
            f.store(f.load(shape.source, start, j * column, align=1), to, j)


def rows_of_pairs(
    f: Function, shape: Shape, start: Value, outer: Value, along: bool, to: Value
) -> Iterator[None]:  # fmt: skip
    """Packs a tile whose rows are vectors of the operand, piece by piece."""
    for row in range(UNIT):
        pair = [vector_of(f, shape, start, outer, along, row, half) for half in range(2)]
        store_parts(f, shape, pair, f.at(to, row * 64))
        yield


def transposed_pairs(
    f: Function, shape: Shape, start: Value, outer: Value, along: bool, to: Value
) -> Iterator[None]:  # fmt: skip
    """Packs a tile whose columns are vectors of the operand, piece by piece: two squares are
    transposed.
    """
    squares = []
    for half in range(2):
        square = [vector_of(f, shape, start, outer, along, r, half) for r in range(UNIT)]
        for _ in range(UNIT.bit_length() - 1):
            yield
            square = interleaved(f, square, UNIT)
        squares.append(square)
    for row, pair in enumerate(zip(*squares, strict=True)):
        yield
        store_parts(f, shape, list(pair), f.at(to, row * 64))


def vector_of(
    f: Function, shape: Shape, start: Value, outer: Value, along: bool, row: int, half: int
) -> Value:
    """A vector of a tile, as 32 bits each: of lane `row` (`along`) or of number `row`, which is 16
    further for the second half of pairs.
    """
    number, first = (row, half * UNIT) if along else (row + half * UNIT, 0)
    begin = f.at(start, outer * number + first, shape.source)
    if shape.source == "i16":
        value = f.load(f"<{UNIT} x i16>", begin, align=2)
        return f.convert("zext", value, f"<{UNIT} x i32>")
    return f.load(shape.vector, begin, align=shape.size)


def store_parts(
    f: Function, shape: Shape, pair: list[Value], place: Value, apart: int = 2 * TILE
) -> None:
    """Writes a row of pairs, the first number in the low half, for each part: so many bytes apart,
    which are from one tile to the next.
    """
    bits = f"<{UNIT} x i32>"
    if shape.source == "i16":
        f.store(pair[0] | pair[1].binary("<<", UNIT), place, align=64)
        return
    for number in range(shape.parts):
        whole = [f.convert("bitcast", value, bits) for value in pair]
        if number < shape.parts - 1:  # the last part is what is left, 8 bits or fewer
            whole = [(value + 0x8000) & -0x10000 for value in whole]
            parts = [f.convert("bitcast", value, shape.vector) for value in whole]
            pair = [value - taken for value, taken in zip(pair, parts, strict=True)]
        low = f.emit(bits, f"lshr {whole[0]}, {f.constant(bits, 16).name}")
        f.store(low | (whole[1] & -0x10000), f.at(place, number * apart), align=64)
