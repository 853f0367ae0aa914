"""Machine code of the gradient of a convolution's weight: sums over images and positions. Imports
conv_code, emit and runtime.

At each position one side gives vectors and the other numbers to broadcast, as in the direct
convolution; which of image and gradient is which depends on their channels. Both are laid out anew,
some images or rows at a time. Every tile sums its own images into a partial result, and a last
stage adds the partial results in one order, so the bits do not depend on the threads.
"""

from __future__ import annotations

from functools import cache

from ..native import runtime
from ..native.emit import Function, Module, Value, vector
from ..native.runtime import Target
from .conv_code import (
    Numbers,
    broadcast,
    divided,
    fields,
    numbers_for,
    scatter,
    write_copy,
    write_lay,
)

# What is laid out on one side: its source, the frame around it, and the layout.
SIDE = (
    "channels", "image", "channel", "d", "h", "w", "to_d", "to_h", "to_w",
    "low_d", "low_h", "low_w", "strip_d", "strip_h", "width", "plane",
)  # fmt: skip
JOB = (
    "a_source", "b_source", "partial", "own", "micro",
    "block_groups", "panel_groups", "image_groups", "group_sets",
    "images", "group_images", "chunk_images", "strips", "groups", "set_groups",
    "blocks", "group_blocks", "panels", "group_panels", "rows", "columns", "a_column", "b_column",
    "taps", "taps_table", "rows_table", "b_place", "tile_size", "partial_image",
    "partial_group", "own_size", "apart", "deep",
    *(f"a_{name}" for name in SIDE), *(f"b_{name}" for name in SIDE),
)  # fmt: skip
FINISH = (
    "partial", "result", "images", "partial_image", "blocks", "taps", "panels", "width", "lanes",
    "numbers", "to_group", "to_block", "to_tap", "to_panel", "to_number", "to_lane", "count",
)  # fmt: skip


def write_sums(
    module: Module, kind: Numbers, numbers: int, rows: int, vectors: int, step: int, deep: bool
) -> None:
    """Writes `sums`: adds, over all positions, the products of some numbers and vectors to a
    partial result, or begins it. The table lists where the rows of positions begin on both sides.
    The numbers are in `rows` rows, `apart` from each other. With `deep`, they are vectors, too.
    """
    f = module.function(
        "sums", a="ptr noalias", b="ptr noalias", table="ptr noalias", rows="i64", columns="i64",
        apart="i64", a_column="i64", b_column="i64", to="ptr noalias", add="i64",
    )  # fmt: skip
    spread = range(0, vectors * kind.lanes, kind.lanes)
    sums = [[f.variable(kind.vector, 0) for _ in spread] for _ in range(numbers)]
    with f.loop(0, f["rows"]) as row:
        a_row = f.at(f["a"], f.load("i64", f["table"], row * 2), kind.type)
        b_row = f.at(f["b"], f.load("i64", f["table"], row * 2 + 1), kind.type)
        with f.loop(0, f["columns"]) as column:
            a = f.at(a_row, column * f["a_column"], kind.type)
            b = f.at(b_row, column * f["b_column"], kind.type)
            parts = [f.load(kind.vector, f.at(b, j, kind.type), align=kind.size) for j in spread]
            starts = [f.at(a, f["apart"] * i, kind.type) for i in range(rows)]
            for i, totals in enumerate(sums):
                row_of, column_of = divmod(i, numbers // rows)
                number = broadcast(f, kind, f.at(starts[row_of], column_of * step, kind.type), deep)
                for part, total in zip(parts, totals, strict=True):
                    total.set(f.fused(number, part, total.get()))
    with f.when(f["add"].differs(0)):
        for i, totals in enumerate(sums):
            for j, total in zip(spread, totals, strict=True):
                place = f.at(f["to"], i * len(spread) * kind.lanes + j, kind.type)
                total.set(total.get() + f.load(kind.vector, place, align=kind.size))
    for i, totals in enumerate(sums):
        for j, total in zip(spread, totals, strict=True):
            place = f.at(f["to"], i * len(spread) * kind.lanes + j, kind.type)
            f.store(total.get(), place, align=kind.size)
    f.ret()


def frame_of(f: Function, job: dict[str, Value], side: str, strip: Value) -> list[Value]:
    """The arguments of a strip's frame: its sizes and where the source begins."""
    return [
        *(job[f"{side}_to_{n}"] for n in "dhw"),
        job[f"{side}_low_d"] - strip * job[f"{side}_strip_d"],
        job[f"{side}_low_h"] - strip * job[f"{side}_strip_h"],
        job[f"{side}_low_w"],
    ]


def lay_block(
    f: Function, kind: Numbers, job: dict[str, Value], side: str, source: Value, first: Value,
    to: Value, images: Value, strip: Value,
) -> None:  # fmt: skip
    """Lays the channels of one block, from `first` on, of some images; channel by channel where
    blocks have one.
    """
    width = job[f"{side}_width"]
    sizes = [job[f"{side}_{n}"] for n in "dhw"]
    frame = frame_of(f, job, side, strip)
    with f.loop(0, images) as image:
        offset = image * job[f"{side}_image"] + first * job[f"{side}_channel"]
        start = f.at(source, offset, kind.type)
        put = f.at(to, image * job[f"{side}_plane"], kind.type)
        with f.when(width.equals(1)):
            f.call("void", "copy_plane", start, *sizes, put, *frame)
        with f.when(width.differs(1)):
            with f.loop(0, width, kind.lanes) as lane:
                left = f.minimum(job[f"{side}_channels"] - first, width) - lane
                channel = job[f"{side}_channel"]
                from_lane = f.at(start, lane * channel, kind.type)
                f.call(
                    "void", "lay", from_lane, channel, left, *sizes,
                    f.at(put, lane, kind.type), *frame, width,
                )  # fmt: skip


def write_tiles(module: Module, kind: Numbers) -> None:
    """Writes `tiles(job, tile, workspace)`: the partial result of some images, for some panels of
    numbers and some blocks of vectors.
    """
    f = module.function("tiles", job="ptr noalias", tile="i64", workspace="ptr noalias")
    job = fields(f, f["job"], JOB, 5)
    own = f.at(job["own"], f["tile"] * job["own_size"], kind.type)
    room = f.select(job["own_size"].equals(0), f["workspace"], own)
    counts = (job["block_groups"], job["panel_groups"], job["image_groups"], job["group_sets"])
    block_group, panel_group, image_group, group_set = divided(f, f["tile"], *counts)
    last_image = f.minimum(job["images"], (image_group + 1) * job["group_images"])
    first_image = image_group * job["group_images"]
    first_group = group_set * job["set_groups"]
    last_group = f.minimum(job["groups"], first_group + job["set_groups"])
    partial = f.at(job["partial"], image_group * job["partial_image"], kind.type)
    blocks = (block_group * job["group_blocks"],
              f.minimum(job["blocks"], (block_group + 1) * job["group_blocks"]))  # fmt: skip
    panels = (panel_group * job["group_panels"],
              f.minimum(job["panels"], (panel_group + 1) * job["group_panels"]))  # fmt: skip
    with f.loop(first_group, last_group) as group:
        to = f.at(partial, group * job["partial_group"], kind.type)
        with f.loop(first_image, last_image, job["chunk_images"]) as image:
            with f.loop(0, job["strips"]) as strip:
                images = f.minimum(last_image - image, job["chunk_images"])
                add = (image - first_image) + strip
                one_chunk(
                    f, kind, job, (group, image, images, strip, add), blocks, panels, room, to
                )
    f.ret()


def one_chunk(
    f: Function, kind: Numbers, job: dict[str, Value], chunk: tuple[Value, ...],
    blocks: tuple[Value, Value], panels: tuple[Value, Value], room: Value, to: Value,
) -> None:  # fmt: skip
    """Lays out some images or rows and adds their sums to the partial result."""
    group, image, images, strip, add = chunk

    def source(side: str) -> Value:
        channel = group * job[f"{side}_channels"] * job[f"{side}_channel"]
        return f.at(job[f"{side}_source"], image * job[f"{side}_image"] + channel, kind.type)

    a_panel = job["chunk_images"] * job["a_plane"]
    room_b = f.at(room, job["b_place"], kind.type)
    first, last = panels
    deep = job["deep"].differs(0)
    with f.loop(first, f.select(deep, first, last)) as panel:
        put = f.at(room, (panel - first) * a_panel, kind.type)
        lay_block(f, kind, job, "a", source("a"), panel * job["a_width"], put, images, strip)
    tap_table, row_table = (f.at(f["job"], job[name]) for name in ("taps_table", "rows_table"))
    size = job["taps"] * job["panels"]  # register tiles in a block
    with f.loop(*blocks) as block:
        channel = block * job["b_width"]
        lay_block(f, kind, job, "b", source("b"), channel, room_b, images, strip)
        with f.when(deep):
            lay_block(f, kind, job, "a", source("a"), channel, room, images, strip)
        with f.loop(0, job["taps"]) as tap:
            tap_a = f.at(room, f.load("i64", tap_table, tap * 2), kind.type)
            tap_b = f.at(room_b, f.load("i64", tap_table, tap * 2 + 1), kind.type)
            with f.loop(first, last) as panel:
                number = block * size + tap * job["panels"] + panel
                f.call(
                    "void", job["micro"], f.at(tap_a, (panel - first) * a_panel, kind.type), tap_b,
                    row_table, job["rows"] * images, job["columns"], job["apart"],
                    job["a_column"], job["b_column"],
                    f.at(to, number * job["tile_size"], kind.type), add,
                )  # fmt: skip


def write_finish(module: Module, kind: Numbers) -> None:
    """Writes `finish(job, tile, workspace)`: adds the partial results of one tap of one block and
    puts the sums where they belong.
    """
    f = module.function("finish", job="ptr noalias", tile="i64", workspace="ptr")
    job = fields(f, f["job"], FINISH, 2)
    tap, block, group = divided(f, f["tile"], job["taps"], job["blocks"], job["taps"])
    vectors = job["width"]
    ramp = Value(
        f, vector(kind.lanes, "i64"), "<" + ", ".join(f"i64 {n}" for n in range(kind.lanes)) + ">"
    )
    index = ramp * f.splat(job["to_lane"], kind.lanes)
    left = f.minimum(job["lanes"] - block * vectors, vectors)
    base = group * job["to_group"] + block * job["to_block"] + tap * job["to_tap"]
    total = f.variable(kind.vector, 0)
    with f.loop(0, job["count"]) as i:
        panel, number = i / job["numbers"], i % job["numbers"]
        source = f.at(job["partial"], (f["tile"] * job["panels"] * job["numbers"] + i) * vectors,
                      kind.type)  # fmt: skip
        to = f.at(job["result"], base + panel * job["to_panel"] + number * job["to_number"],
                  kind.type)  # fmt: skip
        with f.loop(0, vectors, kind.lanes) as lane:
            total.set(0)
            with f.loop(0, job["images"]) as image:
                place = f.at(source, image * job["partial_image"] + lane, kind.type)
                total.set(total.get() + f.load(kind.vector, place, align=kind.size))
            mask = f.first_lanes(left - lane, kind.lanes)
            scatter(f, kind, total.get(), f.at(to, lane * job["to_lane"], kind.type), index, mask)
    f.ret()


@cache
def driver(target: Target, dtype: str) -> runtime.Native:
    """`tiles` and `finish`, for any convolution."""
    module, kind = Module(), numbers_for(target, dtype)
    write_copy(module, kind)
    write_lay(module, kind)
    write_tiles(module, kind)
    write_finish(module, kind)
    return runtime.load(module.text(), target)


@cache
def sums(
    target: Target, dtype: str, numbers: int, rows: int, vectors: int, step: int, deep: bool
) -> runtime.Native:
    """The micro-kernel of a register tile."""
    module = Module()
    write_sums(module, numbers_for(target, dtype), numbers, rows, vectors, step, deep)
    return runtime.load(module.text(), target)
