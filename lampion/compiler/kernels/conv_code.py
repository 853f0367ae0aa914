"""Machine code of direct convolution: a padded copy of images, packed weights, and a micro-kernel
of positions x channels. Imports emit, gemm_pack and runtime.

A vector holds output channels, so a number of the image is broadcast from wherever it lies: any
stride, dilation or kernel is a table of offsets, and no column matrix is written. The scheme is
that of oneDNN's direct kernels (Georganas et al., 2018); here the gradient of the input is the same
loop over other tables, one per residue of the stride.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from ..native import runtime
from ..native.emit import Function, Module, Value, vector
from ..native.runtime import Target
from .gemm_pack import fetch, transposed

AHEAD = 12  # taps: how early packed weights are fetched

# What a thread is told, in fields of 8 bytes: first what the addresses of operands go into.
DIRECT = (
    "x", "weight", "y", "copy", "epilogue", "epilogue_job", "micro",
    "image_groups", "strips", "block_groups", "group_sets",  # how the tiles divide the work
    "images", "group_images", "groups", "set_groups", "blocks", "group_blocks",
    "channels", "x_image", "x_channel", "x_d", "x_h", "x_w",  # the source and its sizes
    "to_d", "to_h", "to_w", "low_d", "low_h", "low_w", "strip_d", "strip_h", "copy_size",
    "copies", "outer", "outer_x", "outer_w", "block_size", "width", "outputs",
    "y_image", "y_channel", "y_step", "x_step", "strip_columns", "columns_total",
    "columns", "rows", "phases", "phase_table", "deep",
)  # fmt: skip
PHASE = (
    "taps", "tap_table", "strip_rows", "total_rows", "row_table", "size", "y_start", "strip_y",
)  # fmt: skip
PACK = (
    "weight", "bias", "packed", "blocks", "block_size", "width", "lanes", "depth", "taps",
    "lane", "outer", "group", "has_bias",
)  # fmt: skip


class Numbers(NamedTuple):
    """The type of the numbers and how many fit a vector."""

    type: str
    size: int
    lanes: int

    @property
    def vector(self) -> str:
        """The vector type."""
        return vector(self.lanes, self.type)


class Tile(NamedTuple):
    """A register tile of direct convolution: `rows` x `columns` positions, `vectors` of channels;
    `step` numbers of the image are between neighbouring positions; `apart`: not side by side in
    the result; `deep`: each channel is of one input channel (a depthwise convolution), and a
    position of the image is a vector of these.
    """

    columns: int
    rows: int
    vectors: int
    step: int
    apart: bool
    deep: bool


def numbers_for(target: Target, dtype: str) -> Numbers:
    """The vectors of `float32` or `float64` on a machine."""
    size = {"float32": 4, "float64": 8}[dtype]
    return Numbers("float" if size == 4 else "double", size, target.bytes // size)


def fields(f: Function, record: Value, names: tuple[str, ...], pointers: int = 0) -> dict:
    """The fields of a record; the first `pointers` are addresses."""
    return {
        name: f.load("ptr" if i < pointers else "i64", f.at(record, 8 * i))
        for i, name in enumerate(names)
    }


def positive(f: Function, value: Value) -> Value:
    """The number, or 0 if it is negative."""
    return f.select(value > 0, value, 0)


# -- the micro-kernel --------------------------------------------------------------------------


def write_direct(module: Module, kind: Numbers, tile: Tile) -> None:
    """Writes `direct`: the sums of one register tile over all channels and taps, into the result.

    `rows` lists per row of positions its offset in the image and in the result; `table` per tap
    its offset in the image and in the packed weights, which begin with the bias.
    """
    f = module.function(
        "direct", x="ptr noalias", rows="ptr noalias", m="i64", w="ptr noalias", outer="i64",
        outer_x="i64", outer_w="i64", taps="i64", table="ptr noalias", y="ptr noalias",
        y_channel="i64", n="i64", count="i64", y_step="i64",
    )  # fmt: skip
    chosen = [f.minimum(f.constant("i64", r), f["m"] - 1) * 2 for r in range(tile.rows)]
    starts = [f.at(f["x"], f.load("i64", f["rows"], r), kind.type) for r in chosen]
    spread = range(0, tile.vectors * kind.lanes, kind.lanes)
    bias = [f.load(kind.vector, f.at(f["w"], j, kind.type), align=kind.size) for j in spread]
    places = [(r, q) for r in range(tile.rows) for q in range(tile.columns)]
    sums = [[f.variable(kind.vector, b) for b in bias] for _ in places]
    weights = f.at(f["w"], tile.vectors * kind.lanes, kind.type)
    with f.loop(0, f["outer"]) as c:
        x_c, w_c = c * f["outer_x"], f.at(weights, c * f["outer_w"], kind.type)
        with f.loop(0, f["taps"]) as t:
            offset = x_c + f.load("i64", f["table"], t * 2)
            row = f.at(w_c, f.load("i64", f["table"], t * 2 + 1), kind.type)
            w = [f.load(kind.vector, f.at(row, j, kind.type), align=kind.size) for j in spread]
            for j in spread:
                fetch(f, f.at(row, AHEAD * tile.vectors * kind.lanes + j, kind.type), 3)
            at = [f.at(start, offset, kind.type) for start in starts]
            for (r, q), total in zip(places, sums, strict=True):
                place = f.at(at[r], q * tile.step, kind.type)
                a = broadcast(f, kind, place, tile.deep)
                for j, part in enumerate(total):
                    part.set(f.fused(a, w[j], part.get()))
    results = [[part.get() for part in total] for total in sums]
    y_rows = [f.load("i64", f["rows"], r + 1) for r in chosen]
    for first in range(0, len(places), kind.lanes):
        store_chunk(f, kind, tile, results, first, y_rows)
    f.ret()


def broadcast(f: Function, kind: Numbers, place: Value, deep: bool) -> Value:
    """The number at a place in all lanes; with `deep` the vector there."""
    if deep:
        return f.load(kind.vector, place, align=kind.size)
    return f.splat(f.load(kind.type, place), kind.lanes)


def store_chunk(
    f: Function, kind: Numbers, tile: Tile, sums: list[list[Value]], first: int,
    y_rows: list[Value],
) -> None:  # fmt: skip
    """Writes the positions from `first` on, as many as lanes, channel by channel."""
    lanes = kind.lanes
    chunk = sums[first : first + lanes]
    zero = f.constant(kind.vector, 0)
    rows = sorted({(first + i) // tile.columns for i in range(len(chunk))})
    targets = []
    for r in rows:
        ramp = "<" + ", ".join(f"i64 {first + i - r * tile.columns}" for i in range(lanes)) + ">"
        place = Value(f, vector(lanes, "i64"), ramp)
        count = f.select(f["m"] > r, f["count"], 0)
        inside = f.emit(
            vector(lanes, "i1"), f"icmp ult {place}, {f.splat(count, lanes).name}"
        )  # negative places are large numbers
        targets.append((first - r * tile.columns, place, inside, y_rows[r]))
    for j in range(tile.vectors):
        column = [row[j] for row in chunk] + [zero] * (lanes - len(chunk))
        for i, value in enumerate(transposed(f, column, lanes)):
            channel = j * lanes + i
            row_start = f.at(f["y"], f["y_channel"] * channel, kind.type)
            exists = f.splat(f["n"] > channel, lanes)
            for shift, place, inside, y_row in targets:
                start = f.at(row_start, y_row, kind.type)
                if tile.apart:
                    scatter(f, kind, value, start, place * f.splat(f["y_step"], lanes),
                            inside & exists)  # fmt: skip
                else:
                    f.masked_store(value, f.at(start, shift, kind.type), inside & exists)


def scatter(
    f: Function, kind: Numbers, value: Value, start: Value, index: Value, mask: Value
) -> None:
    """`start[index] = value` in the lanes of the mask."""
    places = f.emit(vector(kind.lanes, "ptr"), f"getelementptr {kind.type}, {start}, {index}")
    name = f"llvm.masked.scatter.{vector_suffix(kind)}.v{kind.lanes}p0"
    f.call("void", name, value, places, f.constant("i32", kind.size), mask)


def vector_suffix(kind: Numbers) -> str:
    """How intrinsics spell the vector type."""
    return f"v{kind.lanes}{'f32' if kind.type == 'float' else 'f64'}"


# -- packing -----------------------------------------------------------------------------------


def write_pack(module: Module, kind: Numbers) -> None:
    """Writes `pack(job, tile, workspace)`: one block of weights as `[bias][outer][taps][width]`,
    zeros beyond the last lane; the bias is zeros where there is none.
    """
    f = module.function("pack", job="ptr noalias", tile="i64", workspace="ptr")
    job = fields(f, f["job"], PACK, 3)
    group, block = f["tile"] / job["blocks"], f["tile"] % job["blocks"]
    to = f.at(job["packed"], f["tile"] * job["block_size"], kind.type)
    first = block * job["width"]
    left = f.minimum(job["lanes"] - first, job["width"])
    source = f.at(job["weight"], group * job["group"] + first * job["lane"], kind.type)
    bias = f.at(job["bias"], group * job["lanes"] + first, kind.type)
    ramp = "<" + ", ".join(f"i64 {i}" for i in range(kind.lanes)) + ">"
    index = Value(f, vector(kind.lanes, "i64"), ramp) * f.splat(job["lane"], kind.lanes)
    with f.loop(0, job["width"], kind.lanes) as lane:
        mask = f.first_lanes(left - lane, kind.lanes)
        with_bias = mask & f.splat(job["has_bias"].differs(0), kind.lanes)
        value = f.masked_load(kind.vector, f.at(bias, lane, kind.type), with_bias)
        f.store(value, f.at(to, lane, kind.type), align=kind.size)
        to_lane = f.at(to, lane + job["width"], kind.type)
        with f.loop(0, job["depth"]) as k:
            at_k = f.at(source, lane * job["lane"] + k * job["outer"], kind.type)
            with f.loop(0, job["taps"]) as t:
                value = gather(f, kind, f.at(at_k, t, kind.type), index, mask)
                row = (k * job["taps"] + t) * job["width"]
                f.store(value, f.at(to_lane, row, kind.type), align=kind.size)
    f.ret()


def gather(f: Function, kind: Numbers, start: Value, index: Value, mask: Value) -> Value:
    """`start[index]` in the lanes of the mask, else 0."""
    places = f.emit(vector(kind.lanes, "ptr"), f"getelementptr {kind.type}, {start}, {index}")
    name = f"llvm.masked.gather.{vector_suffix(kind)}.v{kind.lanes}p0"
    zero = Value(f, kind.vector, "zeroinitializer")
    return f.call(kind.vector, name, places, f.constant("i32", kind.size), mask, zero)


def write_copy(module: Module, kind: Numbers) -> None:
    """Writes `copy_plane`, which lays one channel of an image into a larger or smaller frame:
    element i of each dimension is element i - low of the source, or zero. Rows are written in
    whole vectors, in order, so memory for one more vector must follow.
    """
    f = module.function(
        "copy_plane", "void", True, x="ptr noalias", x_d="i64", x_h="i64", x_w="i64",
        to="ptr noalias", to_d="i64", to_h="i64", to_w="i64", low_d="i64", low_h="i64",
        low_w="i64",
    )  # fmt: skip
    lanes = kind.lanes
    with f.loop(0, f["to_d"]) as i:
        d = i - f["low_d"]
        inside_d = (d >= 0) & (d < f["x_d"])
        with f.loop(0, f["to_h"]) as j:
            h = j - f["low_h"]
            inside = inside_d & (h >= 0) & (h < f["x_h"])
            size = f.splat(f.select(inside, f["x_w"], 0), lanes)
            row = f.at(f["x"], (d * f["x_h"] + h) * f["x_w"] - f["low_w"], kind.type)
            put = f.at(f["to"], (i * f["to_h"] + j) * f["to_w"], kind.type)
            with f.loop(0, f["to_w"], lanes) as k:
                ramp = "<" + ", ".join(f"i64 {n}" for n in range(lanes)) + ">"
                place = Value(f, vector(lanes, "i64"), ramp) + f.splat(k - f["low_w"], lanes)
                mask = f.emit(vector(lanes, "i1"), f"icmp ult {place}, {size.name}")
                value = f.masked_load(kind.vector, f.at(row, k, kind.type), mask)
                f.store(value, f.at(put, k, kind.type), align=kind.size)
    f.ret()


def write_lay(module: Module, kind: Numbers) -> None:
    """Writes `lay`: some channels of an image, at most as many as lanes, position by position into
    a frame as `copy_plane` lays one. Vectors are written whole, in order of positions.
    """
    f = module.function(
        "lay", "void", True, x="ptr noalias", channel="i64", left="i64", x_d="i64", x_h="i64",
        x_w="i64", to="ptr noalias", to_d="i64", to_h="i64", to_w="i64", low_d="i64", low_h="i64",
        low_w="i64", width="i64",
    )  # fmt: skip
    lanes = kind.lanes
    ramp = Value(f, vector(lanes, "i64"), "<" + ", ".join(f"i64 {n}" for n in range(lanes)) + ">")
    with f.loop(0, f["to_d"]) as i:
        d = i - f["low_d"]
        inside_d = (d >= 0) & (d < f["x_d"])
        with f.loop(0, f["to_h"]) as j:
            h = j - f["low_h"]
            inside = inside_d & (h >= 0) & (h < f["x_h"])
            size = f.splat(f.select(inside, f["x_w"], 0), lanes)
            row = f.at(f["x"], (d * f["x_h"] + h) * f["x_w"] - f["low_w"], kind.type)
            put = (i * f["to_h"] + j) * f["to_w"]
            with f.loop(0, f["to_w"], lanes) as k:
                place = ramp + f.splat(k - f["low_w"], lanes)
                mask = f.emit(vector(lanes, "i1"), f"icmp ult {place}, {size.name}")
                read = []
                for channel in range(lanes):
                    exists = f.splat(f["left"] > channel, lanes)
                    start = f.at(row, f["channel"] * channel + k, kind.type)
                    read.append(f.masked_load(kind.vector, start, mask & exists))
                for n, value in enumerate(transposed(f, read, lanes)):
                    to = f.at(f["to"], (put + k + n) * f["width"], kind.type)
                    with f.when((k + n) < f["to_w"]):
                        f.store(value, to, align=kind.size)
    f.ret()


# -- the tiles of a stage ----------------------------------------------------------------------


def divided(f: Function, tile: Value, *counts: Value) -> list[Value]:
    """The number of a tile as one number for each of the counts, the first the fastest."""
    found = []
    for count in counts[:-1]:
        found.append(tile % count)
        tile = tile / count
    return [*found, tile]


def write_tiles(module: Module, kind: Numbers) -> None:
    """Writes `tiles(job, tile, workspace)`: some images, a strip of their rows, some groups of
    channels and some blocks of output channels of one convolution.
    """
    f = module.function("tiles", job="ptr noalias", tile="i64", workspace="ptr noalias")
    job = fields(f, f["job"], DIRECT, 7)
    parts = (job["block_groups"], job["strips"], job["image_groups"], job["group_sets"])
    block_group, strip, image_group, group_set = divided(f, f["tile"], *parts)
    first_image = image_group * job["group_images"]
    images = f.minimum(job["images"] - first_image, job["group_images"])
    first_group = group_set * job["set_groups"]
    last_group = f.minimum(job["groups"], first_group + job["set_groups"])
    first_block = block_group * job["group_blocks"]
    last_block = f.minimum(job["blocks"], first_block + job["group_blocks"])
    own = f.at(job["copy"], f["tile"] * job["copy_size"], kind.type)
    room = f.select(job["copies"].equals(2), own, f["workspace"])
    strip_start = (strip * job["strip_d"] * job["x_h"] + strip * job["strip_h"]) * job["x_w"]
    with f.loop(first_group, last_group) as group:
        channel = first_image * job["x_image"] + group * job["channels"] * job["x_channel"]
        source = f.at(job["x"], channel, kind.type)
        deep = job["deep"].differs(0)
        with f.when(job["copies"].differs(0) & deep.equals(0)):
            copy_images(f, kind, job, source, room, images, strip)
        direct = f.at(source, strip_start, kind.type)
        x = f.select(job["copies"].equals(0), direct, room)
        with f.loop(first_block, last_block) as block:
            with f.when(deep):
                lay_images(f, kind, job, source, room, images, strip, block)
            one_block(f, kind, job, x, (first_image, images, strip, group, block))
    f.ret()


def copy_images(
    f: Function, kind: Numbers, job: dict[str, Value], source: Value, room: Value,
    images: Value, strip: Value,
) -> None:  # fmt: skip
    """The padded copy of a strip of some images, all channels of a group."""
    plane = job["to_d"] * job["to_h"] * job["to_w"]
    low = low_of(job, strip)
    with f.loop(0, images) as image:
        with f.loop(0, job["channels"]) as c:
            offset = image * job["x_image"] + c * job["x_channel"]
            f.call(
                "void", "copy_plane", f.at(source, offset, kind.type), job["x_d"], job["x_h"],
                job["x_w"], f.at(room, (image * job["channels"] + c) * plane, kind.type),
                job["to_d"], job["to_h"], job["to_w"], *low,
            )  # fmt: skip


def low_of(job: dict[str, Value], strip: Value) -> list[Value]:
    """Where the source begins in a strip's frame."""
    along = (strip * job["strip_d"], strip * job["strip_h"])
    return [job["low_d"] - along[0], job["low_h"] - along[1], job["low_w"]]


def lay_images(
    f: Function, kind: Numbers, job: dict[str, Value], source: Value, room: Value,
    images: Value, strip: Value, block: Value,
) -> None:  # fmt: skip
    """A strip of some images position by position, the channels of one block."""
    plane = job["to_d"] * job["to_h"] * job["to_w"]
    first = block * job["width"]
    with f.loop(0, images) as image:
        start = image * job["x_image"] + first * job["x_channel"]
        f.call(
            "void", "lay", f.at(source, start, kind.type), job["x_channel"],
            job["outputs"] - first, job["x_d"], job["x_h"], job["x_w"],
            f.at(room, image * plane * job["width"], kind.type), job["to_d"], job["to_h"],
            job["to_w"], *low_of(job, strip), job["width"],
        )  # fmt: skip


def one_block(
    f: Function, kind: Numbers, job: dict[str, Value], x: Value, place: tuple[Value, ...]
) -> None:
    """All positions of a tile for one block of output channels, then the epilogue."""
    first_image, images, strip, group, block = place
    w = f.at(job["weight"], (group * job["blocks"] + block) * job["block_size"], kind.type)
    first = block * job["width"]
    n = f.minimum(job["outputs"] - first, job["width"])
    channel = group * job["outputs"] + first
    y_first = first_image * job["y_image"] + channel * job["y_channel"]
    phases = f.at(f["job"], job["phase_table"])
    with f.loop(0, job["phases"]) as number:
        phase = fields(f, f.at(phases, number * (8 * len(PHASE))), PHASE)
        taps, rows = f.at(f["job"], phase["tap_table"]), f.at(f["job"], phase["row_table"])
        left = phase["total_rows"] - strip * phase["strip_rows"]
        count = positive(f, f.minimum(left, phase["strip_rows"])) * images
        y = f.at(job["y"], y_first + phase["y_start"] + strip * phase["strip_y"], kind.type)
        last = positive(f, phase["size"] - job["columns"])
        valid = f.minimum(phase["size"], job["columns"])
        with f.loop(0, count, job["rows"]) as row:
            with f.loop(0, phase["size"], job["columns"]) as position:
                start = f.minimum(position, last)  # the last tile may overlap the one before
                f.call(
                    "void", job["micro"], f.at(x, start * job["x_step"], kind.type),
                    f.at(rows, row * 16), count - row, w, job["outer"], job["outer_x"],
                    job["outer_w"], phase["taps"], taps,
                    f.at(y, start * job["y_step"], kind.type), job["y_channel"], n, valid,
                    job["y_step"],
                )  # fmt: skip
    with f.when(f.convert("ptrtoint", job["epilogue"], "i64").differs(0)):
        first_column = strip * job["strip_columns"]
        last_column = f.minimum(job["columns_total"], first_column + job["strip_columns"])
        with f.loop(first_image, first_image + images) as image:
            f.call(
                "void", job["epilogue"], job["epilogue_job"], image, channel, channel + n,
                first_column, last_column,
            )  # fmt: skip


# -- compiled ----------------------------------------------------------------------------------


@cache
def driver(target: Target, dtype: str) -> runtime.Native:
    """`tiles` and `pack`, for any convolution."""
    module, kind = Module(), numbers_for(target, dtype)
    write_copy(module, kind)
    write_lay(module, kind)
    write_tiles(module, kind)
    write_pack(module, kind)
    return runtime.load(module.text(), target)


@cache
def direct(target: Target, dtype: str, tile: Tile) -> runtime.Native:
    """The micro-kernel of a register tile."""
    module = Module()
    write_direct(module, numbers_for(target, dtype), tile)
    return runtime.load(module.text(), target)
