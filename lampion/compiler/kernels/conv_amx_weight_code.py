"""Machine code of the gradient of a convolution's weight on matrix units (Intel AMX). Imports
conv_amx_code, conv_code, emit, gemm_pack, gemm_split and runtime.

Sums go over positions, in pairs: of two images, the same position. A cell holds a position of 16
channels of the two, as pairs; neighbouring cells are the rows of a tile, so that a tap of the
kernel is a distance, as in the forward pass. The gradients of 32 outputs are packed once for
all taps. Every tile of the work sums its own images, and a last stage adds them up.
"""

from __future__ import annotations

from functools import cache

from ..native import runtime
from ..native.emit import Function, Module, Value, vector
from ..native.runtime import Target
from .conv_amx_code import (
    CELL,
    PANEL,
    SUMS,
    clear_cells,
    strip_of_source,
    write_cells,
    write_pair,
)
from .conv_code import Numbers, divided, fields, gather, numbers_for, scatter
from .gemm_amx import configure
from .gemm_pack import Shape, shape_for
from .gemm_split import SIDE, TILE, UNIT, store_parts

# What a thread is told, in fields of 8 bytes: first what the addresses of operands go into.
JOB = (
    "x", "y", "partial", "spoiled",
    "block_groups", "panel_groups", "image_groups", "groups",  # how the tiles divide the work
    "images", "group_images", "chunk", "strips",
    "blocks", "group_blocks", "panels", "group_panels",  # of 32 outputs; of 32 channels
    "channels", "x_image", "x_channel", "inner", "lead", "frame", "low", "along",
    "outputs", "y_image", "y_channel", "y_strip", "cells_size", "dump", "cell_table",
    "zero_table", "zeros", "terms", "term_table", "place_table", "last_table", "taps",
    "tap_table", "packed", "partial_image", "depth",
)  # fmt: skip
FINISH = (
    "partial", "result", "spoiled", "images", "partial_image", "blocks", "panels", "taps",
    "channels", "outputs",
)  # fmt: skip
AGAIN = ("spoiled", "function", "job")


def write_gradients(module: Module, kind: Numbers, shape: Shape) -> None:
    """Writes `gradients(y, y_channel, outputs, second, limit, places, count, to)`: packs `count`
    panels of 32 outputs, or fewer, by 16 places, each a pair: one in `y`, another `second` further.
    `places` lists 16 of each panel; what is negative, or not below `limit`, counts as zero.
    """
    f = module.function(
        "gradients", "void", True, y="ptr", y_channel="i64", outputs="i64", second="i64",
        limit="i64", places="ptr", count="i64", to="ptr",
    )  # fmt: skip
    lanes = kind.lanes
    with f.loop(0, f["count"]) as panel:
        start = f.at(f["places"], panel * lanes, "i32")
        places = f.load(vector(lanes, "i32"), start, align=4)
        index = f.convert("sext", places, vector(lanes, "i64"))
        there = index >= f.constant(index.type, 0)
        seconds = f.constant("i64", 0), f["second"]
        masks = [there & (index < f.splat(f["limit"] - more, lanes)) for more in seconds]
        with f.loop(0, SIDE) as output:
            exists = f.splat(f["outputs"] > output, lanes)
            row = f.at(f["y"], output * f["y_channel"], kind.type)
            pair = [
                gather(f, kind, f.at(row, more, kind.type), index, mask & exists)
                for more, mask in zip(seconds, masks, strict=True)
            ]
            put = panel * PANEL + output / UNIT * TILE + output % UNIT * 64
            store_parts(f, shape, pair, f.at(f["to"], put))
    f.ret()


def write_tiles(module: Module, kind: Numbers) -> None:
    """Writes `tiles(job, tile, workspace)`: the sums over some images of some blocks of outputs by
    some panels of channels.
    """
    f = module.function("tiles", job="ptr noalias", tile="i64", workspace="ptr noalias")
    job = fields(f, f["job"], JOB, 4)
    configure(f)
    f.store(f.constant("i64", 0), job["spoiled"])
    counts = (job["block_groups"], job["panel_groups"], job["image_groups"], job["groups"])
    block_group, panel_group, image_group, group = divided(f, f["tile"], *counts)
    blocks, panels, images = (
        (first * job[size], f.minimum(job[count], (first + 1) * job[size]))
        for first, size, count in (
            (block_group, "group_blocks", "blocks"), (panel_group, "group_panels", "panels"),
            (image_group, "group_images", "images"),
        )
    )  # fmt: skip
    partial = f.at(job["partial"], image_group * job["partial_image"])
    with f.loop(*images, job["chunk"]) as image, f.loop(0, job["strips"]) as strip:
        clear_cells(f, job, job["group_panels"] * 2, job["cells_size"])
        begins = image.equals(images[0]) & strip.equals(0)
        fill(f, kind, job, (group, image, strip), panels)
        with f.loop(*blocks) as block:
            pack_gradients(f, kind, job, (group, image, strip), block, images[1])
            with f.loop(*panels) as panel:
                number = (group * job["blocks"] + block) * job["panels"] + panel
                sums = f.at(partial, number * job["taps"] * SUMS)
                add_terms(f, job, panel - panels[0], sums, begins)
    f.call("void", "llvm.x86.tilerelease")
    f.ret()


def fill(
    f: Function, kind: Numbers, job: dict[str, Value], place: tuple[Value, ...],
    panels: tuple[Value, Value],
) -> None:  # fmt: skip
    """Cuts a strip of a chunk of images into cells, 16 channels after the other. Beyond the last
    image it is repeated, for gradients of zero.
    """
    group, first, strip = place
    start, count, table = strip_of_source(f, job, strip)
    last = job["images"] - 1
    with f.loop(0, job["chunk"], 2) as image, f.loop(panels[0] * 2, panels[1] * 2) as half:
        one, two = (f.minimum(first + image + i, last) for i in range(2))
        channel = half * UNIT
        source = one * job["x_image"] + (group * job["channels"] + channel) * job["x_channel"]
        left = job["channels"] - channel
        to = (half - panels[0] * 2) * job["cells_size"] + image / 2 * CELL
        f.call(
            "void", "cells", f.at(job["x"], source + start, kind.type),
            (two - one) * job["x_image"], job["x_channel"], left, left, count, table, job["dump"],
            f.at(f["workspace"], to),
        )  # fmt: skip


def pack_gradients(
    f: Function, kind: Numbers, job: dict[str, Value], place: tuple[Value, ...], block: Value,
    last_image: Value,
) -> None:  # fmt: skip
    """Packs the gradients of one block of a strip of a chunk."""
    group, image, strip = place
    tables = (f.at(f["job"], job[name]) for name in ("last_table", "place_table"))
    channel = group * job["outputs"] + block * SIDE
    source = image * job["y_image"] + channel * job["y_channel"] + strip * job["y_strip"]
    limit = (last_image - image) * job["y_image"]
    f.call(
        "void", "gradients", f.at(job["y"], source, kind.type), job["y_channel"],
        job["outputs"] - block * SIDE, job["y_image"], limit,
        f.select((strip + 1).equals(job["strips"]), *tables), job["terms"],
        f.at(f["workspace"], job["packed"]),
    )  # fmt: skip


def add_terms(f: Function, job: dict[str, Value], panel: Value, sums: Value, begins: Value) -> None:
    """Adds what is laid out to the sums of a block of outputs and a panel of channels, tap by tap:
    so few terms at a time that they stay in the first cache.
    """
    cells = f.at(f["workspace"], panel * 2 * job["cells_size"])
    taps = f.at(f["job"], job["tap_table"])
    with f.loop(0, job["terms"], job["depth"]) as term:
        count = f.minimum(job["terms"] - term, job["depth"])
        terms = f.at(f.at(f["job"], job["term_table"]), term * 16)
        with f.loop(0, job["taps"]) as tap:
            one = f.at(cells, f.load("i64", taps, tap))
            f.call(
                "void", "pair", one, f.at(one, job["cells_size"]),
                f.at(f["workspace"], job["packed"]), terms, count, count, f.at(sums, tap * SUMS),
                begins & term.equals(0),
            )  # fmt: skip


def write_finish(module: Module, kind: Numbers) -> None:
    """Writes `finish(job, tile, workspace)`: adds the sums of all images for one block of outputs
    and one panel of channels, and puts them where they belong; notes it where one is not finite.
    """
    f = module.function("finish", job="ptr noalias", tile="i64", workspace="ptr")
    job = fields(f, f["job"], FINISH, 3)
    panel, block, group = divided(f, f["tile"], job["panels"], job["blocks"], job["blocks"])
    outputs = f.minimum(job["outputs"] - block * SIDE, SIDE)
    first = group * job["outputs"] + block * SIDE
    start = f.at(job["partial"], f["tile"] * job["taps"] * SUMS)
    ramp = "<" + ", ".join(f"i64 {n}" for n in range(kind.lanes)) + ">"
    index = Value(f, vector(kind.lanes, "i64"), ramp) * f.splat(job["taps"], kind.lanes)
    total, difference = f.variable(kind.vector, 0), f.variable(kind.vector, 0)
    with f.loop(0, outputs) as output, f.loop(0, 2) as half, f.loop(0, job["taps"]) as tap:
        source = f.at(start, tap * SUMS + output * (4 * SIDE) + half * 64)
        total.set(0)
        with f.loop(0, job["images"]) as image:
            part = f.load(kind.vector, f.at(source, image * job["partial_image"]))
            total.set(total.get() + part)
        difference.set(difference.get() + (total.get() - total.get()))
        channel = panel * SIDE + half * UNIT
        mask = f.first_lanes(job["channels"] - channel, kind.lanes)
        to = ((first + output) * job["channels"] + channel) * job["taps"] + tap
        scatter(f, kind, total.get(), f.at(job["result"], to, kind.type), index, mask)
    spoiled = f.convert("bitcast", difference.get().differs(0.0), f"i{kind.lanes}").differs(0)
    with f.when(spoiled):
        f.store(f.constant("i64", 1), job["spoiled"])
    f.ret()


def write_again(module: Module) -> None:
    """Writes `again(job, tile, workspace)`: a tile of another stage, where sums are not finite."""
    f = module.function("again", job="ptr noalias", tile="i64", workspace="ptr")
    job = fields(f, f["job"], AGAIN, 2)
    with f.when(f.load("i64", job["spoiled"]).differs(0)):
        f.call("void", job["function"], f.at(f["job"], job["job"]), f["tile"], f["workspace"])
    f.ret()


@cache
def driver(target: Target) -> runtime.Native:
    """`tiles`, `finish` and `again`, for any convolution of float32."""
    module, kind, shape = Module(), numbers_for(target, "float32"), shape_for(target, "float32")
    write_pair(module, kind, shape, cells_first=False)
    write_cells(module, kind, shape)
    write_gradients(module, kind, shape)
    write_tiles(module, kind)
    write_finish(module, kind)
    write_again(module)
    return runtime.load(module.text(), target)
