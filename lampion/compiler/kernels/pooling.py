"""Pooling as stages: maxima and averages over windows, what they chose, and their gradients.
Imports conv_code, conv_plan, emit, runtime and stages.

A tile is some planes (one channel of one image). Each row of windows is reduced in two steps: down
the rows of the image, whole vectors at a time, into a line that has the padding on both sides; then
along that line. A window of k x k costs 2 k steps and not k^2.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Any

from ...errors import check
from ..native import runtime
from ..native.emit import Function, Module, Value, vector
from ..native.pool import SHARE
from ..native.runtime import Target
from ..native.stages import Call, Layout
from .conv_code import Numbers, fields, gather, numbers_for
from .conv_plan import Three, plain, three, words

JOB = (
    "x", "y", "chosen",
    "planes", "tile_planes", "d", "h", "w", "out_d", "out_h", "out_w", "kernel_d", "kernel_h",
    "kernel_w", "stride_d", "stride_h", "stride_w", "padding_d", "padding_h", "padding_w",
    "dilation_d", "dilation_h", "dilation_w", "line", "rows_table", "columns_table", "taps_table",
)  # fmt: skip
OPERANDS = {
    "maximum": "x y", "winners": "x y chosen", "put": "y chosen x", "average": "x y",
    "spread": "y x",
}  # fmt: skip
TILE_ELEMENTS = 1 << 16  # that a tile reads or writes


class Rows:
    """The loop over the rows of windows of a tile's planes, being written."""

    def __init__(self, f: Function, kind: Numbers) -> None:
        self.f, self.kind = f, kind
        self.job = fields(f, f["job"], JOB, 3)
        job = self.job
        self.area = job["d"] * job["h"] * job["w"]
        self.out_area = job["out_d"] * job["out_h"] * job["out_w"]
        self.first = f["tile"] * job["tile_planes"]
        self.last = f.minimum(job["planes"], self.first + job["tile_planes"])

    @contextmanager
    def windows(self) -> Iterator[tuple[Value, Value]]:
        """For each row of windows: the plane's number and the row's number in the plane."""
        f, job = self.f, self.job
        with f.loop(self.first, self.last) as plane:
            with f.loop(0, job["out_d"] * job["out_h"]) as row:
                yield plane, row

    def begins(self, row: Value) -> tuple[Value, Value]:
        """Where in the image the windows of a row begin, maybe outside."""
        job = self.job
        d, h = row / job["out_h"], row % job["out_h"]
        return (
            d * job["stride_d"] - job["padding_d"],
            h * job["stride_h"] - job["padding_h"],
        )

    @contextmanager
    def rows_of(self, row: Value) -> Iterator[tuple[Value, Value]]:
        """For each row of the image in a row of windows: the number of its first element in the
        window and where it begins in the plane.
        """
        f, job = self.f, self.job
        begin_d, begin_h = self.begins(row)
        with f.loop(0, job["kernel_d"]) as i:
            d = begin_d + i * job["dilation_d"]
            with f.when((d >= 0) & (d < job["d"])):
                with f.loop(0, job["kernel_h"]) as j:
                    h = begin_h + j * job["dilation_h"]
                    with f.when((h >= 0) & (h < job["h"])):
                        number = (i * job["kernel_h"] + j) * job["kernel_w"]
                        yield number, (d * job["h"] + h) * job["w"]

    def source(self, plane: Value, offset: Value) -> Value:
        """The address of an element of the image."""
        return self.f.at(self.job["x"], plane * self.area + offset, self.kind.type)

    def target(self, name: str, type: str, plane: Value, row: Value) -> Value:
        """The address of a row of windows in a result."""
        return self.f.at(self.job[name], plane * self.out_area + row * self.job["out_w"], type)


def write_maximum(module: Module, kind: Numbers, step: int) -> None:
    """Writes `maximum(job, tile, workspace)`: the largest element of each window, or NaN."""
    f = module.function("maximum", job="ptr noalias", tile="i64", workspace="ptr noalias")
    rows = Rows(f, kind)
    reduce_rows(rows, step, -math.inf, lambda a, b: larger(f, a, b), lambda y, *_: y)
    f.ret()


def write_average(module: Module, kind: Numbers, step: int) -> None:
    """Writes `average(job, tile, workspace)`: the sum of each window over its divisor."""
    f = module.function("average", job="ptr noalias", tile="i64", workspace="ptr noalias")
    rows = Rows(f, kind)

    def divided(y: Value, row: Value, column: Value, mask: Value) -> Value:
        by_row = f.load(kind.type, f.at(f["job"], rows.job["rows_table"]), row)
        columns = f.at(f.at(f["job"], rows.job["columns_table"]), column, kind.type)
        return y / (f.masked_load(kind.vector, columns, mask) * f.splat(by_row, kind.lanes))

    reduce_rows(rows, step, 0.0, lambda a, b: a + b, divided)
    f.ret()


def reduce_rows(rows: Rows, step: int, start: float, combine: Any, finish: Any) -> None:
    """The two steps of a reduction that begins with `start`."""
    f, kind, job = rows.f, rows.kind, rows.job
    lanes, line = kind.lanes, f["workspace"]
    empty = number(f, kind, start)
    with rows.windows() as (plane, row):
        with f.loop(0, job["line"], lanes) as i:
            f.store(f.splat(empty, lanes), f.at(line, i, kind.type), align=kind.size)
        with rows.rows_of(row) as (_, offset):
            source = rows.source(plane, offset)
            with f.loop(0, job["w"], lanes) as i:
                mask = f.first_lanes(job["w"] - i, lanes)
                place = f.at(line, job["padding_w"] + i, kind.type)
                value = f.masked_load(kind.vector, f.at(source, i, kind.type), mask)
                old = f.load(kind.vector, place, align=kind.size)
                made = f.emit(kind.vector, f"select {mask}, {combine(old, value)}, {old}")
                f.store(made, place, align=kind.size)
        y = rows.target("y", kind.type, plane, row)
        total = f.variable(kind.vector)
        with f.loop(0, job["out_w"], lanes) as column:
            total.set(f.splat(empty, lanes))
            with f.loop(0, job["kernel_w"]) as k:
                begin = column * job["stride_w"] + k * job["dilation_w"]
                at = f.at(line, begin, kind.type)
                total.set(combine(total.get(), spaced(f, kind, at, job["stride_w"], step)))
            mask = f.first_lanes(job["out_w"] - column, lanes)
            value = finish(total.get(), row, column, mask)
            f.masked_store(value, f.at(y, column, kind.type), mask)


def number(f: Function, kind: Numbers, value: float) -> Value:
    """A number that may be infinite, by its bits."""
    (bits,) = struct.unpack("<Q", struct.pack("<d", value))  # floats are written as doubles, too
    return Value(f, kind.type, f"0x{bits:016X}")


def larger(f: Function, a: Value, b: Value) -> Value:
    """Lane by lane the larger number, or NaN if one is NaN."""
    bits = vector(int(a.type[1:].split(" ")[0]), "i1")
    above = f.emit(bits, f"fcmp ogt {b}, {a.name}")
    unknown = f.emit(bits, f"fcmp uno {b}, {b.name}")
    return f.select(above | unknown, b, a)


def spaced(f: Function, kind: Numbers, start: Value, stride: Value, step: int) -> Value:
    """A vector of numbers `stride` apart; `step` is the stride if it is 1 or 2, else 0."""
    lanes = kind.lanes
    if step == 1:
        return f.load(kind.vector, start, align=kind.size)
    if step == 2:
        a = f.load(kind.vector, start, align=kind.size)
        b = f.load(kind.vector, f.at(start, lanes, kind.type), align=kind.size)
        return f.shuffle(a, b, list(range(0, 2 * lanes, 2)))
    index = ramp(f, lanes, "i64") * f.splat(stride, lanes)
    return gather(f, kind, start, index, Value(f, vector(lanes, "i1"), ones(lanes)))


def ramp(f: Function, lanes: int, type: str) -> Value:
    """The vector 0, 1, 2 ..."""
    return Value(f, vector(lanes, type), "<" + ", ".join(f"{type} {i}" for i in range(lanes)) + ">")


def ones(lanes: int) -> str:
    """A mask of all lanes."""
    return "<" + ", ".join(["i1 true"] * lanes) + ">"


def write_winners(module: Module, kind: Numbers, type: str) -> None:
    """Writes `winners(job, tile, workspace)`: the number of each window's largest element: the
    first of equal ones, the last NaN.
    """
    f = module.function("winners", job="ptr noalias", tile="i64", workspace="ptr noalias")
    rows = Rows(f, kind)
    job, lanes, line = rows.job, kind.lanes, f["workspace"]
    numbers = f.at(line, job["line"], kind.type)  # of what the line holds: i32, -1 for padding
    many, bits = vector(lanes, "i32"), vector(lanes, "i1")
    empty, none = number(f, kind, -math.inf), f.constant("i32", -1)
    best, chosen = f.variable(kind.vector), f.variable(many)
    with rows.windows() as (plane, row):
        with f.loop(0, job["line"], lanes) as i:
            f.store(f.splat(empty, lanes), f.at(line, i, kind.type), align=kind.size)
            f.store(f.splat(none, lanes), f.at(numbers, i, "i32"), align=4)
        with rows.rows_of(row) as (first, offset):
            source = rows.source(plane, offset)
            new = f.splat(f.convert("trunc", first, "i32"), lanes)
            with f.loop(0, job["w"], lanes) as i:
                mask = f.first_lanes(job["w"] - i, lanes)
                place = f.at(line, job["padding_w"] + i, kind.type)
                place_number = f.at(numbers, job["padding_w"] + i, "i32")
                value = f.masked_load(kind.vector, f.at(source, i, kind.type), mask)
                old = f.load(kind.vector, place, align=kind.size)
                old_number = f.load(many, place_number, align=4)
                above = f.emit(bits, f"fcmp ogt {value}, {old.name}")
                unknown = f.emit(bits, f"fcmp uno {value}, {value.name}")
                better = (above | unknown | (old_number < 0)) & mask
                f.store(f.select(better, value, old), place, align=kind.size)
                f.store(f.select(better, new, old_number), place_number, align=4)
        to = rows.target("chosen", type, plane, row)
        with f.loop(0, job["out_w"], lanes) as column:
            best.set(f.splat(empty, lanes))
            chosen.set(f.splat(none, lanes))
            with f.loop(0, job["kernel_w"]) as k:
                begin = column * job["stride_w"] + k * job["dilation_w"]
                index = ramp(f, lanes, "i64") * f.splat(job["stride_w"], lanes)
                every = Value(f, bits, ones(lanes))
                value = gather(f, kind, f.at(line, begin, kind.type), index, every)
                found = gather_numbers(f, lanes, f.at(numbers, begin, "i32"), index)
                own = found + f.splat(f.convert("trunc", k, "i32"), lanes)
                choose(f, best, chosen, value, found, own)
            mask = f.first_lanes(job["out_w"] - column, lanes)
            made = chosen.get()
            narrow = made if type == "i32" else f.convert("trunc", made, vector(lanes, type))
            f.masked_store(narrow, f.at(to, column, type), mask)
    f.ret()


def choose(f: Function, best: Any, chosen: Any, value: Value, found: Value, own: Value) -> None:
    """Takes the value of number `own` if it is larger, or equal and earlier, or a later NaN; never
    padding, whose `found` is negative.
    """
    bits = vector(int(value.type[1:].split(" ")[0]), "i1")
    old, old_number = best.get(), chosen.get()
    above = f.emit(bits, f"fcmp ogt {value}, {old.name}")
    equal = f.emit(bits, f"fcmp oeq {value}, {old.name}") & (own < old_number)
    unknown = f.emit(bits, f"fcmp uno {value}, {value.name}")
    known = f.emit(bits, f"fcmp ord {old}, {old.name}")
    last = unknown & (known | (own > old_number))
    better = (above | equal | last | (old_number < 0)) & (found >= 0)
    best.set(f.select(better, value, old))
    chosen.set(f.select(better, own, old_number))


def gather_numbers(f: Function, lanes: int, start: Value, index: Value) -> Value:
    """`start[index]` of i32."""
    places = f.emit(vector(lanes, "ptr"), f"getelementptr i32, {start}, {index}")
    every, zero = (
        Value(f, vector(lanes, "i1"), ones(lanes)),
        Value(f, vector(lanes, "i32"), "zeroinitializer"),
    )
    name = f"llvm.masked.gather.v{lanes}i32.v{lanes}p0"
    return f.call(zero.type, name, places, f.constant("i32", 4), every, zero)


def clear(rows: Rows) -> None:
    """Fills the tile's planes of the image with zeros."""
    f, kind = rows.f, rows.kind
    start = rows.source(rows.first, f.constant("i64", 0))
    count = (rows.last - rows.first) * rows.area
    zero = Value(f, kind.vector, "zeroinitializer")
    with f.loop(0, count, kind.lanes) as i:
        f.masked_store(zero, f.at(start, i, kind.type), f.first_lanes(count - i, kind.lanes))


def write_put(module: Module, kind: Numbers, type: str) -> None:
    """Writes `put(job, tile, workspace)`: an image of zeros to which each window's value is added
    where the element was that it chose.
    """
    f = module.function("put", job="ptr noalias", tile="i64", workspace="ptr noalias")
    rows = Rows(f, kind)
    job = rows.job
    clear(rows)
    taps = f.at(f["job"], job["taps_table"])
    count = job["kernel_d"] * job["kernel_h"] * job["kernel_w"]
    with rows.windows() as (plane, row):
        begin_d, begin_h = rows.begins(row)
        first = (begin_d * job["h"] + begin_h) * job["w"] - job["padding_w"]
        source = rows.source(plane, first)
        y = rows.target("y", kind.type, plane, row)
        chosen = rows.target("chosen", type, plane, row)
        with f.loop(0, job["out_w"]) as column:
            tap = f.convert("zext", f.load(type, chosen, column), "i64")
            with f.when(tap < count):  # else the window has nothing but padding
                offset = f.load("i64", taps, tap) + column * job["stride_w"]
                place = f.at(source, offset, kind.type)
                f.store(f.load(kind.type, place) + f.load(kind.type, y, column), place)
    f.ret()


def write_spread(module: Module, kind: Numbers) -> None:
    """Writes `spread(job, tile, workspace)`: each window's share goes to all of its elements."""
    f = module.function("spread", job="ptr noalias", tile="i64", workspace="ptr noalias")
    rows = Rows(f, kind)
    job, lanes, line = rows.job, kind.lanes, f["workspace"]
    clear(rows)
    zero = Value(f, kind.vector, "zeroinitializer")
    columns = f.at(f["job"], job["columns_table"])
    with rows.windows() as (plane, row):
        with f.loop(0, job["line"], lanes) as i:
            f.store(zero, f.at(line, i, kind.type), align=kind.size)
        by_row = f.load(kind.type, f.at(f["job"], job["rows_table"]), row)
        y = rows.target("y", kind.type, plane, row)
        with f.loop(0, job["out_w"]) as column:
            by = f.load(kind.type, columns, column) * by_row
            share = f.load(kind.type, y, column) / by
            with f.loop(0, job["kernel_w"]) as k:
                offset = column * job["stride_w"] + k * job["dilation_w"]
                place = f.at(line, offset, kind.type)
                f.store(f.load(kind.type, place) + share, place)
        with rows.rows_of(row) as (_, offset):
            image = rows.source(plane, offset)
            with f.loop(0, job["w"], lanes) as i:
                mask = f.first_lanes(job["w"] - i, lanes)
                place = f.at(image, i, kind.type)
                at = f.at(line, job["padding_w"] + i, kind.type)
                own = f.load(kind.vector, at, align=kind.size)
                f.masked_store(f.masked_load(kind.vector, place, mask) + own, place, mask)
    f.ret()


@cache
def driver(target: Target, dtype: str, name: str, step: int, chosen: str) -> runtime.Native:
    """The code of one kind of pooling."""
    module, kind = Module(), numbers_for(target, dtype)
    if name in ("maximum", "average"):
        (write_maximum if name == "maximum" else write_average)(module, kind, step)
    elif name == "spread":
        write_spread(module, kind)
    else:
        (write_winners if name == "winners" else write_put)(module, kind, chosen)
    return runtime.load(module.text(), target)


# -- templates ---------------------------------------------------------------------------------


def divisors(size: Three, plan: Any, dim: int) -> list[int]:
    """How many elements of a window count along a dimension, per window."""
    n, k, out = size[dim], three(plan.kernel, 1)[dim], three(plan.out, 1)[dim]
    stride, padding = three(plan.steps.stride, 1)[dim], three(plan.steps.padding, 0)[dim]
    found = []
    for o in range(out):
        begin = o * stride - padding
        end = min(begin + k, n + padding)
        if not plan.count_padding:
            begin, end = max(begin, 0), min(end, n)
        found.append(end - begin)
    return found


@lru_cache(1024)
def pool_calls(
    kind: str, x: Layout, y: Layout, plan: Any, target: Target | None = None
) -> tuple[Call, ...]:
    """The stages of pooling of x (..., *size) to y (..., *out) over the windows of `plan` (see
    ops.pool_kernels.Windows).

    kind      operands, in this order
    maximum   x, y: the largest element of each window, or NaN
    winners   x, y, chosen: the number of that element (u8, or u32 for windows of 255 and more)
    put       y, chosen, x: the gradient of x from that of y
    average   x, y
    spread    y, x: the gradient of x from that of y

    Raises ValueError for other types than float32 and float64, for what is not contiguous or has
    no elements, and for images too wide for the workspace.
    """
    fits = x.dtype == y.dtype and x.dtype in ("float32", "float64") and kind in OPERANDS
    elements = 0 not in x.shape and 0 not in y.shape
    check(
        fits and elements and plain(x) and plain(y),
        lambda: f"[pool] expects contiguous float32 or float64 arrays with elements, got {x}, {y}",
        ValueError,
    )
    target = target or runtime.host()
    numbers = numbers_for(target, x.dtype)
    step = three(plan.steps.stride, 1)[2]
    planes = math.prod(x.shape) // math.prod(plan.size)
    each = max(TILE_ELEMENTS // math.prod(plan.size), 1)
    job = pool_job(kind, plan, numbers, {"planes": planes, "tile_planes": each})
    chosen = "i8" if math.prod(plan.kernel) < 255 else "i32"
    code = driver(target, x.dtype, kind, step if step <= 2 else 0, chosen)
    pointers = tuple((8 * JOB.index(name), i) for i, name in enumerate(OPERANDS[kind].split()))
    return (Call(code.address(kind), job, -(-planes // each), pointers, f"pool {kind}"),)


def pool_job(kind: str, plan: Any, numbers: Numbers, values: dict[str, int]) -> bytes:
    """The job of the stage: the fields given and those that the windows decide, and tables."""
    size, out, kernel = (three(v, 1) for v in (plan.size, plan.out, plan.kernel))
    stride, dilation = three(plan.steps.stride, 1), three(plan.steps.dilation, 1)
    padding = three(plan.steps.padding, 0)
    reach = (out[2] - 1) * stride[2] + dilation[2] * (kernel[2] - 1) + 1
    line = max(reach, padding[2] + size[2]) + (2 * stride[2] + 2) * numbers.lanes
    line += -line % numbers.lanes
    check(
        2 * line * numbers.size <= SHARE,
        lambda: f"[pool] expects rows that fit the workspace, got {size[2]} columns",
        ValueError,
    )
    values = values | {"line": line}
    for letter, own, o, k, s, p, t in zip(
        "dhw", size, out, kernel, stride, padding, dilation, strict=True
    ):
        values |= {
            letter: own, f"out_{letter}": o, f"kernel_{letter}": k, f"stride_{letter}": s,
            f"padding_{letter}": p, f"dilation_{letter}": t,
        }  # fmt: skip
    first, second = tables_of(kind, size, plan, dilation, numbers)
    start = 8 * len(JOB)
    values |= {"rows_table": start, "taps_table": start, "columns_table": start + len(first)}
    return words(JOB, values) + first + second


def tables_of(
    kind: str, size: Three, plan: Any, dilation: Three, numbers: Numbers
) -> tuple[bytes, bytes]:
    """What a job's fields refer to: divisors by rows and columns, or where each element of a window
    lies from its first.
    """
    if kind == "put":
        kernel = three(plan.kernel, 1)
        taps = [
            ((i * dilation[0]) * size[1] + j * dilation[1]) * size[2] + k * dilation[2]
            for i in range(kernel[0]) for j in range(kernel[1]) for k in range(kernel[2])
        ]  # fmt: skip
        return struct.pack(f"<{len(taps)}q", *taps), b""
    if kind not in ("average", "spread"):
        return b"", b""
    d, h, w = (divisors(size, plan, dim) for dim in range(3))
    rows = [a * b for a in d for b in h]
    if plan.divisor is not None:
        rows, w = [1] * len(rows), [plan.divisor] * len(w)
    form = "f" if numbers.size == 4 else "d"
    row_bytes = struct.pack(f"<{len(rows)}{form}", *rows)
    row_bytes += bytes(-len(row_bytes) % 8)
    return row_bytes, struct.pack(f"<{len(w)}{form}", *w)
