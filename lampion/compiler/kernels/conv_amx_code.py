"""Machine code of convolutions on matrix units (Intel AMX). Imports conv_amx_results,
conv_code, emit, gemm_amx, gemm_pack, gemm_split and runtime.

As in products (see gemm_amx), float32 numbers are cut into three bfloat16 parts. A cell holds 32
channels of one position of the frame, part after part, as 16 pairs of channels (c, c + 16); so
neighbouring cells are the rows of a tile, and a tap of the kernel is a distance: no column matrix
is written. Which cell a number goes to, which cells make a tile, and where a result lies among the
sums, all say tables; so images may alternate cell by cell, and rows may be apart by the stride.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cache
from itertools import islice

from ..native import runtime
from ..native.emit import Function, Module, Value, vector
from ..native.runtime import Target
from . import conv_amx_results as results
from .conv_code import Numbers, divided, fields, gather, numbers_for
from .gemm_amx import TERMS, configure, tile_call
from .gemm_pack import Shape, shape_for, transposed
from .gemm_split import SIDE, STEP, TILE, UNIT, store_parts

PARTS = 3
CELL = 64 * PARTS  # bytes of a cell
PANEL = 2 * PARTS * TILE  # bytes of packed weights: 32 outputs of 32 channels, for one tap
ROW = 4 * SIDE  # bytes of the sums of a position
SUMS = SIDE * ROW  # bytes of the sums of a pair of tiles
PACE = 2  # pieces that are done after each product of tiles
MOST_FLAGS = 1024  # images times blocks of a tile, at most

# What a thread is told, in fields of 8 bytes: first what the addresses of operands go into.
JOB = (
    "x", "weight", "bias", "y", "epilogue", "epilogue_job", "again", "again_pack",
    "block_groups", "strips", "image_groups", "groups",  # how the tiles divide the work
    "images", "group_images", "blocks", "group_blocks", "outputs",
    "channels", "x_image", "x_channel", "inner", "lead", "frame", "low", "along",
    "steps", "held", "step_size", "depth",
    "dump", "cell_table", "zero_table", "zeros", "phases", "phase_table",
    "ready_table", "place_table", "places", "sums", "block_sums", "zero_row", "block_size",
    "panels", "strip_columns", "columns", "y_image", "again_job", "again_pack_job",
)  # fmt: skip
POINTERS = 8
PHASE = ("taps", "term_table", "pairs", "pair_table", "sums")
PACK = (
    "weight", "packed", "blocks", "lanes", "depth", "taps", "lane", "outer", "group",
)  # fmt: skip


# -- sums ----------------------------------------------------------------------------------------


def write_pair(module: Module, kind: Numbers, shape: Shape, cells_first: bool = True) -> None:
    """Writes `pair(one, two, b, terms, count, depth, sums, begins, closing)`: adds to the sums of
    two tiles of positions, 16 rows each, by 32 outputs, or sets them. `terms` has the offset of
    each step in the cells and in the packed weights. After `depth` steps tiles are added to the
    sums, so that errors of long sums stay small. On the way results of `closing` are written.

    Without `cells_first`, what is packed are the rows of the sums, cells the columns, and there is
    nothing to close.
    """
    f = module.function(
        "pair", "void", True, one="ptr", two="ptr", b="ptr", terms="ptr", count="i64",
        depth="i64", sums="ptr", begins="i1", **({"closing": "ptr"} if cells_first else {}),
    )  # fmt: skip
    f.head += " noinline"
    fresh = f.buffer(SUMS)
    with f.loop(0, f["count"], f["depth"]) as first:
        for tile in range(4):
            tile_call(f, "tilezero", tile)
        with f.loop(first, f.minimum(first + f["depth"], f["count"])) as term:
            offsets = [f.load("i64", f["terms"], term * 2 + i) for i in range(2)]
            cells = [f.at(f[name], offsets[0]) for name in ("one", "two")]
            packed = f.at(f["b"], offsets[1])
            ready = f.constant("i1", 0)
            if cells_first:
                ready = results.is_ready(f, f["closing"])
                with f.when(ready):
                    beside = results.pieces(f, kind, f["closing"])
                    multiply_term(f, cells, packed, cells_first, beside)
            with f.when(ready.equals(0)):
                multiply_term(f, cells, packed, cells_first, iter(()))
        begins = f["begins"] & first.equals(0)
        where = f.select(begins, f["sums"], fresh)
        for tile in range(4):
            quarter = f.at(where, tile // 2 * UNIT * ROW + tile % 2 * 64)
            tile_call(f, "tilestored64", tile, quarter, f.constant("i64", ROW))
        with f.when(begins.equals(0)), f.loop(0, SUMS, 64) as i:
            before = f.at(f["sums"], i)
            total = f.load(shape.vector, before) + f.load(shape.vector, f.at(fresh, i))
            f.store(total, before)
    f.ret()


def multiply_term(
    f: Function, cells: list[Value], packed: Value, cells_first: bool, beside: Iterator[None]
) -> None:
    """The products of all parts of two tiles of cells and a packed panel, and what is done beside,
    some of it after each product.
    """
    held: list[int | None] = [None, None]
    for term in TERMS[PARTS]:
        for operand, part in enumerate(term):
            if held[operand] == part:
                continue
            held[operand] = part
            for half in range(2):
                if operand == 0:
                    place, line = f.at(cells[half], 64 * part), CELL
                else:
                    place, line = f.at(packed, (2 * part + half) * TILE), 64
                number = 4 + 2 * operand + half
                tile_call(f, "tileloadd64", number, place, f.constant("i64", line))
        for tile in range(4):
            operands = (4, 6) if cells_first else (6, 4)
            tile_call(f, "tdpbf16ps", tile, operands[0] + tile // 2, operands[1] + tile % 2)
            for _ in islice(beside, PACE):
                pass
    deque(beside, 0)


# -- cells and packed weights ----------------------------------------------------------------------


def write_cells(module: Module, kind: Numbers, shape: Shape) -> None:
    """Writes `cells(x, second, x_channel, channels, more, count, table, dump, to)`: cuts `count`
    neighbouring positions of 16 channels, or fewer, from `x` on, and of as many paired with these,
    from `x + second` on, into the cells that the table lists. Those where it says `dump` are not
    wanted.
    """
    f = module.function(
        "cells", "void", True, x="ptr", second="i64", x_channel="i64", channels="i64", more="i64",
        count="i64", table="ptr", dump="i64", to="ptr",
    )  # fmt: skip
    lanes = kind.lanes
    second = f.at(f["x"], f["second"], kind.type)
    unwanted = f.splat(f.convert("trunc", f["dump"], "i32"), lanes)
    with f.loop(0, f["count"], lanes) as k:
        places = f.load(vector(lanes, "i32"), f.at(f["table"], k, "i32"), align=4)
        wanted = f.convert("bitcast", places.differs(unwanted), f"i{lanes}").differs(0)
        with f.when(wanted):
            mask = f.first_lanes(f["count"] - k, lanes)
            squares = []
            for begin, channels in ((f["x"], f["channels"]), (second, f["more"])):
                rows = []
                for channel in range(UNIT):
                    exists = f.splat(channels > channel, lanes)
                    row = f.at(begin, f["x_channel"] * channel + k, kind.type)
                    rows.append(f.masked_load(kind.vector, row, mask & exists))
                squares.append(transposed(f, rows, lanes))
            for lane, pair in enumerate(zip(*squares, strict=True)):
                place = f.load("i32", f.at(f["table"], k + lane, "i32"))
                cell = f.at(f["to"], f.convert("sext", place, "i64"))
                store_parts(f, shape, list(pair), cell, 64)
    f.ret()


def write_pack(module: Module, kind: Numbers, shape: Shape) -> None:
    """Writes `pack(job, tile, workspace)`: one block of weights as `[step][tap]` of panels, each
    `[part][half of the outputs][pair of channels][16]`, zeros for what is missing.
    """
    f = module.function("pack", job="ptr noalias", tile="i64", workspace="ptr")
    job = fields(f, f["job"], PACK, 2)
    group, block = f["tile"] / job["blocks"], f["tile"] % job["blocks"]
    steps = (job["depth"] + (STEP - 1)) / STEP
    to = f.at(job["packed"], f["tile"] * steps * job["taps"] * PANEL)
    first = block * SIDE
    source = f.at(job["weight"], group * job["group"] + first * job["lane"], kind.type)
    ramp = "<" + ", ".join(f"i64 {i}" for i in range(kind.lanes)) + ">"
    index = Value(f, vector(kind.lanes, "i64"), ramp) * f.splat(job["lane"], kind.lanes)
    with f.loop(0, steps) as step, f.loop(0, 2) as half, f.loop(0, UNIT) as row:
        lane = half * UNIT
        exists = f.first_lanes(job["lanes"] - first - lane, kind.lanes)
        start = f.at(source, lane * job["lane"], kind.type)
        tile = f.at(to, step * job["taps"] * PANEL + half * TILE + row * 64)
        with f.loop(0, job["taps"]) as tap:
            pair = []
            for channel in (step * STEP + row, step * STEP + row + UNIT):
                mask = exists & f.splat(job["depth"] > channel, kind.lanes)
                place = f.at(start, channel * job["outer"] + tap, kind.type)
                pair.append(gather(f, kind, place, index, mask))
            store_parts(f, shape, pair, f.at(tile, tap * PANEL))
    f.ret()


# -- the tiles of a stage ------------------------------------------------------------------------


def write_tiles(module: Module, kind: Numbers) -> None:
    """Writes `tiles(job, tile, workspace)`: some images, a strip of their rows and some blocks of
    32 output channels of one convolution. The workspace holds cells and sums.
    """
    f = module.function("tiles", job="ptr noalias", tile="i64", workspace="ptr noalias")
    job = fields(f, f["job"], JOB, POINTERS)
    configure(f)
    counts = (job["block_groups"], job["strips"], job["image_groups"], job["groups"])
    block_group, strip, image_group, group = divided(f, f["tile"], *counts)
    first_block = block_group * job["group_blocks"]
    last_block = f.minimum(job["blocks"], first_block + job["group_blocks"])
    first_image = image_group * job["group_images"]
    spoiled = f.buffer(MOST_FLAGS)
    closing = closing_record(f)
    clear(f, job)
    whole = job["held"] >= job["steps"]  # then a block is done when it is summed
    with f.loop(0, job["steps"], job["held"]) as first:
        steps = f.minimum(job["steps"] - first, job["held"])
        fill(f, kind, job, (first_image, group, strip), first, steps)
        with f.loop(first_block, last_block) as block:
            number = f.select(whole, f.constant("i64", 0), block - first_block)
            sums = f.at(f["workspace"], job["sums"] + number * job["block_sums"])
            place = (group * job["blocks"] + block) * job["block_size"]
            weights = f.at(job["weight"], place + first * job["panels"])
            last = (first + steps) >= job["steps"]
            begin(f, kind, job, sums, (first_image, strip, group, block), closing)
            add_steps(f, job, weights, steps, sums, (first.equals(0), last), closing)
            with f.when(last):
                flags = f.at(spoiled, (block - first_block) * job["group_images"])
                close(f, kind, job, (first_image, strip, group, block), closing, flags)
    f.call("void", "llvm.x86.tilerelease")
    with f.loop(first_block, last_block) as block, f.loop(0, job["group_images"]) as image:
        flag = f.load("i8", f.at(spoiled, (block - first_block) * job["group_images"] + image))
        with f.when(flag.differs(0)):
            again(f, job, group, first_image + image, strip, block)
    f.ret()


def clear(f: Function, job: dict[str, Value]) -> None:
    """Zeros in cells that are not filled in every strip, and in sums that nothing adds to."""
    clear_cells(f, job, job["held"], job["step_size"])
    zero = f.constant(vector(16, "float"), 0)
    number = f.select(job["held"] >= job["steps"], f.constant("i64", 1), job["group_blocks"])
    with f.loop(0, number) as block:
        row = f.at(f["workspace"], job["sums"] + block * job["block_sums"] + job["zero_row"])
        for k in range(0, ROW, 64):
            f.store(zero, f.at(row, k))


def clear_cells(f: Function, job: dict[str, Value], count: Value, size: Value) -> None:
    """Zeros in cells that are not filled in every strip, `count` times so many bytes."""
    table = f.at(f["job"], job["zero_table"])
    zero = f.constant(vector(16, "float"), 0)
    with f.loop(0, count) as number, f.loop(0, job["zeros"]) as i:
        start, length = (f.load("i64", table, i * 2 + k) for k in range(2))
        run = f.at(f["workspace"], number * size + start)
        with f.loop(0, length, 64) as k:
            f.store(zero, f.at(run, k))


def strip_of_source(f: Function, job: dict[str, Value], strip: Value) -> tuple[Value, ...]:
    """Where in the source a strip's frame begins, how many positions of the source are in it, and
    their table of cells.
    """
    low = job["low"] - strip * job["along"]  # where the source begins in the strip's frame
    begin = f.select(low > 0, low, 0)
    end = f.minimum(job["lead"] + low, job["frame"])
    table = f.at(f.at(f["job"], job["cell_table"]), begin * job["inner"], "i32")
    return (begin - low) * job["inner"], (end - begin) * job["inner"], table


def fill(
    f: Function, kind: Numbers, job: dict[str, Value], place: tuple[Value, ...], first: Value,
    steps: Value,
) -> None:  # fmt: skip
    """Cuts a strip of some images into cells, `steps` times 32 channels. Where there are fewer
    images than in a group, the last one is repeated.
    """
    first_image, group, strip = place
    start, count, table = strip_of_source(f, job, strip)
    with f.loop(0, job["group_images"]) as image, f.loop(0, steps) as step:
        number = f.minimum(first_image + image, job["images"] - 1)
        channel = (first + step) * STEP
        source = number * job["x_image"] + (group * job["channels"] + channel) * job["x_channel"]
        f.call(
            "void", "cells", f.at(job["x"], source + start, kind.type),
            job["x_channel"] * UNIT, job["x_channel"], job["channels"] - channel,
            job["channels"] - channel - UNIT, count, table, job["dump"],
            f.at(f["workspace"], step * job["step_size"] + image * CELL),
        )  # fmt: skip


def add_steps(
    f: Function, job: dict[str, Value], weights: Value, steps: Value, sums: Value,
    ends: tuple[Value, Value], closing: Value,
) -> None:  # fmt: skip
    """Adds what cells that are filled give to the sums of one block of outputs; `ends`: whether
    these are the first steps, and the last ones, after which results are ready.
    """
    phases = f.at(f["job"], job["phase_table"])
    with f.loop(0, job["phases"]) as number:
        phase = fields(f, f.at(phases, number * (8 * len(PHASE))), PHASE)
        terms, pairs = (f.at(f["job"], phase[name]) for name in ("term_table", "pair_table"))
        ready = f.at(f.at(f["job"], job["ready_table"]), phase["sums"] / SUMS * 8)
        own = f.at(sums, phase["sums"])
        with f.loop(0, phase["pairs"]) as pair:
            one, two = (
                f.at(f["workspace"], f.load("i64", pairs, pair * 2 + half)) for half in range(2)
            )
            f.call(
                "void", "pair", one, two, weights, terms, steps * phase["taps"], job["depth"],
                f.at(own, pair * SUMS), ends[0], closing,
            )  # fmt: skip
            with f.when(ends[1]):
                results.make_ready(f, closing, f.load("i64", ready, pair))


def closing_record(f: Function) -> Value:
    """The record of a block whose results are written, with memory for what it points to."""
    record = f.buffer(8 * len(results.CLOSING))
    for name, size in (("bias", ROW), ("differences", 64 * UNIT)):
        f.store(f.buffer(size), results.slot(f, record, name))
    return record


def region(
    f: Function, job: dict[str, Value], place: tuple[Value, ...]
) -> tuple[Value, Value, Value, Value]:
    """The channels and columns of a tile's block in the result: the first, and how many."""
    _, strip, group, block = place
    first, column = block * SIDE, strip * job["strip_columns"]
    outputs = f.minimum(job["outputs"] - first, SIDE)
    count = f.minimum(job["columns"] - column, job["strip_columns"])
    return group * job["outputs"] + first, outputs, column, count


def begin(
    f: Function, kind: Numbers, job: dict[str, Value], sums: Value, place: tuple[Value, ...],
    closing: Value,
) -> None:  # fmt: skip
    """Begins to write the results of a block."""
    first_image = place[0]
    channel, outputs, column, count = region(f, job, place)
    has_bias = f.convert("ptrtoint", job["bias"], "i64").differs(0)
    bias = f.select(has_bias, f.at(job["bias"], channel, kind.type), job["bias"])
    y = first_image * job["y_image"] + channel * job["columns"] + column
    results.begin(f, kind, closing, bias, {
        "sums": sums, "places": f.at(f["job"], job["place_table"]),
        "y": f.at(job["y"], y, kind.type), "places_row": job["places"],
        "y_image": job["y_image"], "y_channel": job["columns"],
        "images": f.minimum(job["images"] - first_image, job["group_images"]),
        "count": count, "outputs": outputs,
    })  # fmt: skip


def close(
    f: Function, kind: Numbers, job: dict[str, Value], place: tuple[Value, ...], closing: Value,
    flags: Value,
) -> None:  # fmt: skip
    """Writes the other results of a block, then runs the epilogue. Images of which a sum is not
    finite are flagged: they are to be made again, epilogue and all, by vector units.
    """
    first_image = place[0]
    channel, outputs, column, count = region(f, job, place)
    has_epilogue = f.convert("ptrtoint", job["epilogue"], "i64").differs(0)
    results.finish(f, closing)
    with f.loop(0, job["group_images"]) as i:
        f.store(f.constant("i8", 0), f.at(flags, i))
    with f.loop(0, f.minimum(job["images"] - first_image, job["group_images"])) as i:
        finite = results.is_finite(f, kind, closing, i)
        with f.when(finite & has_epilogue):
            f.call(
                "void", job["epilogue"], job["epilogue_job"], first_image + i, channel,
                channel + outputs, column, column + count,
            )  # fmt: skip
        with f.when(finite.equals(0)):
            f.store(f.constant("i8", 1), f.at(flags, i))


def again(
    f: Function, job: dict[str, Value], group: Value, image: Value, strip: Value, block: Value
) -> None:
    """Makes a block of a strip of one image by vector units."""
    packed = group * job["blocks"] + block
    tile = ((group * job["images"] + image) * job["strips"] + strip) * job["blocks"] + block
    for name, number in (("again_pack", packed), ("again", tile)):
        f.call("void", job[name], f.at(f["job"], job[f"{name}_job"]), number, f["workspace"])


# -- compiled ------------------------------------------------------------------------------------


@cache
def driver(target: Target) -> runtime.Native:
    """`tiles` and `pack`, for any convolution of float32."""
    module, kind, shape = Module(), numbers_for(target, "float32"), shape_for(target, "float32")
    write_pair(module, kind, shape)
    write_cells(module, kind, shape)
    write_pack(module, kind, shape)
    results.write_results(module, kind)
    write_tiles(module, kind)
    return runtime.load(module.text(), target)
