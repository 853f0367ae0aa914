"""Matrix products on matrix units (Intel AMX), which multiply tiles of bfloat16 and add in float32.
Imports emit, gemm_micro, gemm_pack and gemm_split.

float32 operands are cut into three bfloat16 parts each, and six of the nine products of parts are
added: those left out are below 2^-23 of the product, under what rounding its sum costs (Henry, Tang
and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
Computations", 2019). Blocks of 128 along k are added up apart from the rest, so that the error of
long sums is smaller than that of fused multiply-adds one after the other. Infinity, NaN and
overflow do not survive the cutting: parts of C whose sums are not finite are made again by the
vector units. Numbers below 1e-33 lose bits, and numbers below 1.2e-38 count as zero.

A processor multiplies tiles beside its other work. So while tiles of one part of C are multiplied,
vector instructions between them cut the operands of the next and finish the part before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import islice

from ..native.emit import Function, Module, Value, Variable
from .gemm_micro import finish_types, lowest
from .gemm_pack import BEFORE, Shape, part, round_up
from .gemm_split import SIDE, STEP, TILE, UNIT, rows_of_pairs, split, tile_start, transposed_pairs

DEPTH = 128  # of a block along k: a panel of A stays in the first cache
SUMS = 4 * SIDE * SIDE  # bytes of the sums of a part of C
ROW = 4 * SIDE  # bytes of a row of them

# By the number of parts: which parts of A and B are multiplied, so that neighbours share one.
TERMS = {1: ((0, 0),), 3: ((0, 2), (0, 1), (1, 1), (1, 0), (2, 0), (0, 0))}

# What a processor is told of its tiles: all are 16 rows of 64 bytes.
CONFIGURATION = struct.pack("<BB14x16H16B", 1, 0, *[64] * 8, *[0] * 8, *[UNIT] * 8, *[0] * 8)

# How a panel is packed while tiles are multiplied: as what, and whether the numbers of a lane lie
# side by side. By the number of the function that does both; 0 packs nothing.
PACKING = {
    1: (rows_of_pairs, True), 2: (transposed_pairs, False),  # of A
    3: (transposed_pairs, True), 4: (rows_of_pairs, False),  # of B
}  # fmt: skip
PACE = 2  # pieces of packing after each product of tiles

# A part of C that is finished while the next one is made; none where m is 0.
PART = {"done": "ptr", "c": "ptr", "c_row": "i64", "m": "i64", "n": "i64"}


def tile_call(f: Function, name: str, *arguments: int | Value) -> None:
    """An instruction on tiles, which are given by number."""
    values = [Value(f, "i8", str(a)) if isinstance(a, int) else a for a in arguments]
    f.call("void", f"llvm.x86.{name}", *values)


def configure(f: Function) -> None:
    """Tells the processor of its tiles; `llvm.x86.tilerelease` ends their use."""
    configuration = f.buffer(len(CONFIGURATION))
    for number, word in enumerate(struct.unpack(f"<{len(CONFIGURATION) // 8}q", CONFIGURATION)):
        f.store(f.constant("i64", word), configuration, number)
    tile_call(f, "ldtilecfg", configuration)


def multiply(module: Module, shape: Shape, number: int) -> None:
    """Writes `multiply_{number}(a, b, steps, sums, begins, tall, wide, source, outer, to, part
    ...)`: adds the product of a panel of A and one of B to 32 x 32 sums, or sets them where it
    begins; packs another panel (see PACKING) from `source` and finishes a part of C on the way.
    Unless `tall`, or `wide`, only 16 rows, or columns, are multiplied.
    """
    f = module.function(
        f"multiply_{number}", "void", True, a="ptr", b="ptr", steps="i64", sums="ptr", begins="i1",
        tall="i1", wide="i1", source="ptr", outer="i64", to="ptr", **PART, **finish_types(shape),
    )  # fmt: skip
    f.head += " noinline"
    fresh = f.buffer(SUMS)
    write_row = row_writer(f, shape)
    rows = (SIDE + f["steps"] - 1) / f["steps"]
    for tile in range(4):
        tile_call(f, "tilezero", tile)
    with f.loop(0, f["steps"]) as step:
        packing = pieces(f, shape, number, step) if number in PACKING else iter(())
        multiply_step(f, shape, step, packing)
        with f.loop(step * rows, f.minimum((step + 1) * rows, f["m"])) as row:
            write_row(row)
    where = f.select(f["begins"], f["sums"], fresh)
    for tile in range(4):
        quarter = f.at(where, tile // 2 * UNIT * ROW + tile % 2 * 64)
        tile_call(f, "tilestored64", tile, quarter, f.constant("i64", ROW))
    with f.when(f["begins"].equals(0)), f.loop(0, SUMS, 64) as i:
        before = f.at(f["sums"], i)
        total = f.load(shape.vector, before) + f.load(shape.vector, f.at(fresh, i))
        f.store(total, before)
    f.ret()


def pieces(f: Function, shape: Shape, number: int, step: Value) -> Iterator[None]:
    """Packs the tiles of one step along k of a whole panel, piece by piece."""
    pack, along = PACKING[number]
    for half in range(2):
        begin = tile_start(step, half, f["outer"], along)
        start = f.at(f["source"], begin, shape.source)
        to = f.at(f["to"], (step * (2 * shape.parts) + half) * TILE)
        yield from pack(f, shape, start, f["outer"], along, to)


def multiply_step(f: Function, shape: Shape, step: Value, packing: Iterator[None]) -> None:
    """The products of all parts of 32 numbers along k, and `packing` between them."""
    line = f.constant("i64", 64)
    starts = [f.at(f[name], step * (2 * shape.parts * TILE)) for name in "ab"]
    more = f["tall"], f["wide"]
    held: list[int | None] = [None, None]
    for term in TERMS[shape.parts]:
        for operand in range(2):
            if held[operand] != term[operand]:
                held[operand] = term[operand]
                place = f.at(starts[operand], 2 * term[operand] * TILE)
                tile_call(f, "tileloadd64", 4 + 2 * operand, place, line)
                with f.when(more[operand]):
                    tile_call(f, "tileloadd64", 5 + 2 * operand, f.at(place, TILE), line)
        for tile, wanted in enumerate((None, more[1], more[0], more[0] & more[1])):
            with f.when(wanted) if wanted is not None else nullcontext():
                tile_call(f, "tdpbf16ps", tile, 4 + tile // 2, 6 + tile % 2)
            for _ in islice(packing, PACE):
                pass
    for _ in packing:
        pass


def row_writer(f: Function, shape: Shape) -> Callable[[Value], None]:
    """How a row of a part is finished: C = relu(alpha * sums + C + bias), each part where it is
    asked for.
    """
    columns = [part(f, f["n"] - j * UNIT, UNIT) for j in range(2)]
    has_bias = f.convert("ptrtoint", f["bias"], "i64").differs(0)
    start = f.select(has_bias, f["bias"], f["done"])
    biases = [
        f.masked_load(shape.vector, f.at(start, j * 64), mask & f.splat(has_bias, UNIT))
        for j, mask in enumerate(columns)
    ]
    adds = f.splat(f["add"].differs(0), UNIT)
    alpha = f.splat(f["alpha"], UNIT)
    floor = f.select(f["relu"].differs(0), f.constant(shape.type, 0), lowest(f, shape))
    floor = f.splat(floor, UNIT)

    def write_row(row: Value) -> None:
        for j, (mask, bias) in enumerate(zip(columns, biases, strict=True)):
            place = f.at(f.at(f["c"], row * f["c_row"], shape.type), j * 64)
            before = f.masked_load(shape.vector, place, mask & adds)
            value = f.load(shape.vector, f.at(f["done"], row * ROW + j * 64))
            value = value * alpha + before + bias
            f.masked_store(f.select(value < floor, floor, value), place, mask)

    return write_row


def finish(module: Module, shape: Shape) -> None:
    """Writes `finish(part ...)`, which finishes a part of C."""
    f = module.function("finish", "void", True, **PART, **finish_types(shape))
    write_row = row_writer(f, shape)
    with f.loop(0, f["m"]) as row:
        write_row(row)
    f.ret()


def finite(module: Module, shape: Shape) -> None:
    """Writes `finite(sums) -> i1`: whether all sums of a part are finite."""
    f = module.function("finite", "i1", True, sums="ptr")
    difference = f.variable(shape.vector, 0)
    with f.loop(0, SUMS, 64) as i:
        value = f.load(shape.vector, f.at(f["sums"], i))
        difference.set(difference.get() + (value - value))  # NaN where one is infinite
    f.ret(f.convert("bitcast", difference.get().differs(0.0), f"i{UNIT}").equals(0))


# -- a block of C --------------------------------------------------------------------------------


class Operand:
    """A or B in a block along k, whose panels of 32 lanes (rows of A, columns of B) are packed one
    after the other: all of B, and of A the one in use and the next, which stay in the first cache.
    """

    def __init__(
        self, f: Function, shape: Shape, name: str, packed: Value, k0: Value, depth: Value
    ) -> None:  # fmt: skip
        self.f, self.shape, self.name, self.packed, self.depth = f, shape, name, packed, depth
        lane, step, count = ("row", "col", "m") if name == "a" else ("col", "row", "n")
        self.lane, self.step, self.count = f[f"{name}_{lane}"], f[f"{name}_{step}"], f[count]
        self.source = f.at(f[name], k0 * self.step, shape.source)
        self.size = round_up(depth, STEP) / STEP * (2 * shape.parts * TILE)  # bytes of a panel

    def panel(self, number: Value) -> Value:
        """Where a panel is packed."""
        place = number % 2 if self.name == "a" else number
        return self.f.at(self.packed, place * self.size)

    def start(self, number: Value) -> Value:
        """Where a panel begins in memory."""
        return self.f.at(self.source, number * SIDE * self.lane, self.shape.source)

    def pack(self, number: Value, spare: Value) -> None:
        """Packs a panel now."""
        count = self.f.minimum(self.count - number * SIDE, SIDE)
        self.f.call(
            "void", f"split_{self.name}", self.start(number), self.lane, self.step, count,
            self.depth, self.panel(number), spare,
        )  # fmt: skip

    def on_the_way(self, number: Value, otherwise: Value) -> tuple[Value, Value, Value, Value]:
        """The function that packs a panel while it multiplies another, or `otherwise` where the
        panel is not whole, and what it is told.
        """
        f = self.f
        along, across = self.step.equals(1), self.lane.equals(1)
        whole = (self.count >= (number + 1) * SIDE) & (self.depth % STEP).equals(0)
        first = 1 if self.name == "a" else 3
        names = [Value(f, "ptr", f"@multiply_{n}") for n in (first, first + 1)]
        function = f.select(whole & (along | across), f.select(along, *names), otherwise)
        return (
            function,
            self.start(number),
            f.select(along, self.lane, self.step),
            self.panel(number),
        )


def matrix_block(module: Module, shape: Shape) -> None:
    """Writes `matrix_block(...)`: a block of C over all of k, as `block` makes it (see gemm), with
    the sums, the packed operands and room for copies in `space`. Where there is an epilogue it runs
    on 32 rows at a time, while they are in the caches; the block begins at m0, n0 of C.
    """
    f = module.function(
        "matrix_block", "void", True, a="ptr", a_row="i64", a_col="i64", b="ptr", b_row="i64",
        b_col="i64", c="ptr", c_row="i64", m="i64", n="i64", k="i64", **finish_types(shape),
        space="ptr", epilogue="ptr", epilogue_job="ptr", number="i64", m0="i64", n0="i64",
    )  # fmt: skip
    configure(f)
    rows, columns = (round_up(f[name], SIDE) / SIDE for name in "mn")
    panel = DEPTH // STEP * 2 * shape.parts * TILE  # bytes, at most
    packed_a = f.at(f["space"], rows * columns * SUMS)
    packed_b = f.at(packed_a, 2 * panel)
    spare = f.at(packed_b, columns * panel)
    unfinished = {
        name: f.variable(type, f["c"] if type == "ptr" else 0)
        for name, type in (PART | finish_types(shape)).items()
    }
    for name in finish_types(shape):
        unfinished[name].set(f[name])
    with f.loop(0, f["k"], DEPTH) as k0:
        depth = f.minimum(f["k"] - k0, DEPTH)
        operands = (
            Operand(f, shape, "a", packed_a, k0, depth),
            Operand(f, shape, "b", packed_b, k0, depth),
        )
        for operand in operands:
            operand.pack(f.constant("i64", 0), spare)
        with f.loop(0, rows) as i, f.loop(0, columns) as j:
            sums = f.at(f["space"], (i * columns + j) * SUMS)
            multiply_part(f, operands, (i, j), (rows, columns), sums, k0, unfinished, spare)
            unfinished["m"].set(0)
            with f.when((k0 + depth) >= f["k"]):
                with f.when(j.equals(0) & (i > 0)):
                    run_epilogue(f, i - 1)
                close_part(f, shape, sums, i * SIDE, j * SIDE, unfinished, spare)
    f.call("void", "finish", *(variable.get() for variable in unfinished.values()))
    f.call("void", "llvm.x86.tilerelease")
    run_epilogue(f, rows - 1)
    f.ret()


def run_epilogue(f: Function, band: Value) -> None:
    """Calls the epilogue, if there is one, for 32 rows of the block."""
    with f.when(f.convert("ptrtoint", f["epilogue"], "i64").differs(0)):
        first, last = band * SIDE, f.minimum((band + 1) * SIDE, f["m"])
        f.call(
            "void", f["epilogue"], f["epilogue_job"], f["number"], f["m0"] + first, f["m0"] + last,
            f["n0"], f["n0"] + f["n"],
        )  # fmt: skip


def multiply_part(
    f: Function, operands: tuple[Operand, Operand], place_in_c: tuple[Value, Value],
    parts: tuple[Value, Value], sums: Value, k0: Value, unfinished: dict[str, Variable],
    spare: Value,
) -> None:  # fmt: skip
    """Adds a block along k to a part of C, and packs the panel that is needed next: of B beside the
    first panel of A, then of A beside the last one of B. Parts side by side in C follow each other,
    since rows are written fastest whole.
    """
    (i, j), (rows, columns), (a, b) = place_in_c, parts, operands
    of_b = i.equals(0) & (j + 1 < columns)
    of_a = (j + 1).equals(columns) & (i + 1 < rows)
    nothing = Value(f, "ptr", "@multiply_0")
    ways = a.on_the_way(i + 1, nothing), b.on_the_way(j + 1, nothing)
    function, *told = (f.select(of_a, x, y) for x, y in zip(*ways, strict=True))
    function = f.select(of_a | of_b, function, nothing)
    steps = round_up(a.depth, STEP) / STEP
    more = (a.count - i * SIDE) > UNIT, (b.count - j * SIDE) > UNIT
    f.call(
        "void", function, a.panel(i), b.panel(j), steps, sums, k0.equals(0), *more, *told,
        *(variable.get() for variable in unfinished.values()),
    )  # fmt: skip
    for wanted, operand, number in ((of_a, a, i + 1), (of_b, b, j + 1)):
        with f.when(wanted & function.equals(nothing)):
            operand.pack(number, spare)


def close_part(
    f: Function, shape: Shape, sums: Value, row: Value, column: Value,
    unfinished: dict[str, Variable], spare: Value,
) -> None:  # fmt: skip
    """Leaves the sums of a part to be finished; where they are not finite, makes it again now."""
    m, n = f.minimum(f["m"] - row, SIDE), f.minimum(f["n"] - column, SIDE)
    c = f.at(f["c"], row * f["c_row"] + column, shape.type)
    has_bias = f.convert("ptrtoint", f["bias"], "i64").differs(0)
    bias = f.select(has_bias, f.at(f["bias"], column, shape.type), f["bias"])
    done = f.call("i1", "finite", sums)
    told = sums, c, f["c_row"], f.select(done, m, 0), n, f["alpha"], f["add"], f["relu"], bias
    for variable, value in zip(unfinished.values(), told, strict=True):
        variable.set(value)
    with f.when(done.equals(0)):
        a = f.at(f["a"], row * f["a_row"], shape.source)
        b = f.at(f["b"], column * f["b_col"], shape.source)
        side, depth, pack_a, pack_b = (f.constant("i64", x) for x in (SIDE, DEPTH, 1, BEFORE))
        f.call(
            "void", "block", a, f["a_row"], f["a_col"], b, f["b_row"], f["b_col"], sums, side, c,
            f["c_row"], m, n, f["k"], *told[5:], depth, pack_a, pack_b, spare,
        )  # fmt: skip


def matrix_kernels(module: Module, shape: Shape) -> None:
    """Writes the functions of this file."""
    split(module, "split_a", shape, lanes_first=True)
    split(module, "split_b", shape, lanes_first=False)
    for number in (0, *PACKING):
        multiply(module, shape, number)
    finish(module, shape)
    finite(module, shape)
    matrix_block(module, shape)
