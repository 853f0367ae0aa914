"""The gradient of a convolution's weight as stages. Imports conv_weight_code, conv_plan, runtime
and stages.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..native.pool import SHARE
from ..native.runtime import Target
from ..native.stages import Call
from . import conv_weight_code as code
from .conv_code import numbers_for
from .conv_plan import (
    TILE_WORK,
    TILES,
    Problem,
    Sizes,
    Three,
    cycles,
    pointers,
    three,
    uneven,
    words,
)

ROOM = 5 << 18  # bytes of both sides that a thread works on, in its second-level cache
LINE = 1024  # positions of a row of a convolution that looks at single positions


class Form(NamedTuple):
    """Which side gives vectors.

    of_image   vectors are of the image's channels, numbers of the gradient's; else the reverse,
               with one number per column of the kernel, and maybe for each of its rows
    numbers    that a register tile broadcasts
    rows       of the kernel that they are of
    vectors    in a register tile
    deep       a depthwise convolution: both sides give vectors, of the same channels
    """

    of_image: bool
    numbers: int
    rows: int
    vectors: int
    deep: bool = False


class Side(NamedTuple):
    """One side: its channels per group, sizes, the frame of all positions, where the source begins
    in it, and how far one position of the result moves on in it.
    """

    channels: int
    size: Three
    frame: Three
    low: Three
    step: Three


class Division(NamedTuple):
    """How work is divided: images per tile and per chunk, rows per chunk, blocks and panels and
    groups per tile.
    """

    images: int
    chunk: int
    strip: int
    blocks: int
    panels: int
    groups: int
    tiles: int


def lines(p: Problem) -> Problem:
    """A convolution that looks at single positions, with rows as long as may be."""
    if math.prod(p.kernel) * math.prod(p.stride) != 1 or any(p.padding) or p.size != p.out:
        return p
    total = math.prod(p.size)
    count = next(n for n in range(1, total + 1) if total % n == 0 and total // n <= LINE)
    return p._replace(size=(1, count, total // count), out=(1, count, total // count))


def choose_form(p: Problem, sizes: Sizes) -> Form:
    """The register tile that takes the shortest time."""
    c, o, taps = p.channels // p.groups, p.outputs // p.groups, math.prod(p.kernel)
    rows = [(n, n * p.kernel[2]) for n in {1, p.kernel[1]}]
    fitting = [(number, n) for n, number in rows if number <= sizes.registers - 3]
    if p.depthwise and fitting:
        number, n = max(fitting)
        return Form(False, number, n, 1, True)
    best: tuple[float, Form] = (math.inf, Form(True, 1, 1, 1))
    for vectors in range(1, 5):
        most = max((sizes.registers - vectors - 2) // vectors, 1)
        for n in range(1, min(most, sizes.lanes, o) + 1):
            blocks = -(-c // (vectors * sizes.lanes))
            time = blocks * -(-o // n) * taps * cycles(n, vectors)
            best = min(best, (time, Form(True, n, 1, vectors)))
        for n, number in rows:
            if number <= most:
                blocks = -(-o // (vectors * sizes.lanes))
                time = blocks * c * taps / number * cycles(number, vectors)
                best = min(best, (time, Form(False, number, n, vectors)))
    return best[1]


def sides(p: Problem) -> tuple[Side, Side]:
    """The image's side and the gradient's."""
    reach = [(o - 1) * s + d * (k - 1) + 1
             for o, s, d, k in zip(p.out, p.stride, p.dilation, p.kernel, strict=True)]  # fmt: skip
    frame = three(tuple(reach), 1)
    image = Side(p.channels // p.groups, p.size, frame, p.padding, p.stride)
    return image, Side(p.outputs // p.groups, p.out, p.out, (0, 0, 0), (1, 1, 1))


def strip_frame(side: Side, out: Three, dim: int, strip: int) -> Three:
    """The frame of `strip` positions along a dimension."""
    frame = list(side.frame)
    frame[dim] -= (out[dim] - strip) * side.step[dim]
    return three(tuple(frame), 1)


def parts(count: int) -> list[int]:
    """Sizes of pieces that a count may be divided into."""
    return sorted({-(-count // n) for n in (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, count)}, reverse=True)


class Plan(NamedTuple):
    """All that is known of a gradient of the weight before it is divided."""

    p: Problem
    form: Form
    a: Side
    b: Side
    width: int  # of a vector block
    blocks: int
    panels: int
    taps: int  # register tiles per panel and block
    size: int  # bytes of a number
    strip_dim: int

    @property
    def a_width(self) -> int:
        """Numbers of a position that the numbers' side lays side by side."""
        return self.form.numbers if self.form.of_image else self.width if self.form.deep else 1

    def held(self, d: Division) -> tuple[int, int]:
        """Elements that the workspace holds of the numbers' side, and of both."""
        a, b = (
            math.prod(strip_frame(side, self.p.out, self.strip_dim, d.strip))
            for side in (self.a, self.b)
        )
        place = a * d.chunk * d.panels * self.a_width + 64
        place += -place % 16
        return place, place + b * d.chunk * self.width + 64


def make_plan(p: Problem, sizes: Sizes) -> Plan:
    """The plan of a problem."""
    p = lines(p)
    form = choose_form(p, sizes)
    image, gradient = sides(p)
    if form.deep:
        image, gradient = (s._replace(channels=p.groups) for s in (image, gradient))
        p = p._replace(channels=1, groups=1)
    a, b = (gradient, image) if form.of_image else (image, gradient)
    width = form.vectors * sizes.lanes
    taps = math.prod(p.kernel) // (1 if form.of_image else form.numbers)
    panels = -(-a.channels // form.numbers) if form.of_image else 1 if form.deep else a.channels
    dim = 0 if p.out[0] > 1 else 1
    return Plan(p, form, a, b, width, -(-b.channels // width), panels, taps, sizes.size, dim)


def candidates(plan: Plan) -> Iterator[Division]:
    """Divisions that fit the room, and the finest ones."""
    p = plan.p
    whole = p.out[plan.strip_dim]
    for images, blocks, panels, groups in itertools.product(
        parts(p.images), parts(plan.blocks), parts(plan.panels), parts(p.groups)
    ):
        tiles = -(-p.images // images) * -(-plan.blocks // blocks)
        tiles *= -(-plan.panels // panels) * -(-p.groups // groups)
        if tiles > 16 * TILES:
            continue
        chunks = [(n, whole) for n in parts(images)] + [(1, n) for n in parts(whole)]
        for chunk, strip in chunks:
            d = Division(images, chunk, strip, blocks, panels, groups, tiles)
            if plan.held(d)[1] * plan.size <= ROOM or (chunk, strip) == (1, 1):
                yield d
                break


def divide(plan: Plan) -> Division:
    """The division that takes the shortest time beside the sums."""
    p = plan.p
    wanted = max(min(p.flops // TILE_WORK, TILES), 1)
    a, b = (
        p.images * side.channels * p.groups * math.prod(side.frame) for side in (plan.a, plan.b)
    )
    numbers = plan.blocks * plan.width * plan.panels * plan.form.numbers * plan.taps * p.groups
    work = p.flops / 64

    def cost(d: Division) -> tuple[bool, bool, float]:
        chunks = -(-p.images // d.chunk) * -(-p.out[plan.strip_dim] // d.strip)
        copies = a * -(-plan.blocks // d.blocks) + b * -(-plan.panels // d.panels)
        time = 0.5 * copies + numbers * (0.3 * chunks + 0.2 * -(-p.images // d.images))
        too_large = plan.held(d)[1] * plan.size > SHARE
        return d.tiles < wanted, too_large, time + work * uneven(d.tiles) + 2000 * d.tiles

    return min(candidates(plan), key=cost)


def weight_calls(
    given: Problem, dtype: str, target: Target
) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """The stages that sum the gradient of the weight, and the bytes of the temporaries; operands
    are x, y, w and those.
    """
    numbers = numbers_for(target, dtype)
    plan = make_plan(given, Sizes(numbers.lanes, target.registers, numbers.size))
    d, p, form = divide(plan), plan.p, plan.form
    tile = form.numbers * plan.width
    partial_group = plan.blocks * plan.taps * plan.panels * tile
    partial_image = partial_group * p.groups
    image_groups = -(-p.images // d.images)
    temporaries: tuple[int, ...] = (image_groups * partial_image * numbers.size,)
    place, held = plan.held(d)
    own = held * numbers.size > SHARE
    if own:
        held += -held % 16
        temporaries += (d.tiles * held * numbers.size,)
    native = code.driver(target, dtype)
    step = 1 if form.of_image else plan.p.dilation[2] * plan.a_width
    micro = code.sums(
        target, dtype, form.numbers, form.rows, form.vectors, step, form.deep
    ).address("sums")
    values = {
        "micro": micro, "tile_size": tile, "partial_image": partial_image,
        "partial_group": partial_group, "b_place": place, "own_size": held if own else 0,
        "deep": int(form.deep),
    }  # fmt: skip
    x_side, g_side = ("b", "a") if form.of_image else ("a", "b")
    operands = {f"{x_side}_source": 0, f"{g_side}_source": 1, "partial": 3}
    if own:
        operands["own"] = 4
    name = f"conv {'x'.join(map(str, p.kernel))} weight"
    main = Call(
        native.address("tiles"), sums_job(plan, d, values), d.tiles, pointers(code.JOB, operands),
        name,
    )  # fmt: skip
    finish = Call(
        native.address("finish"), finish_job(plan, image_groups, partial_image),
        p.groups * plan.blocks * plan.taps, pointers(code.FINISH, {"partial": 3, "result": 2}),
        "conv weight sums",
    )  # fmt: skip
    return (main, finish), temporaries


def sums_job(plan: Plan, d: Division, given: dict[str, int]) -> bytes:
    """The job of the main stage, with its tables."""
    p, dim = plan.p, plan.strip_dim
    frames = [strip_frame(side, p.out, dim, d.strip) for side in (plan.a, plan.b)]
    widths = (plan.a_width, plan.width)
    values = given | {
        "block_groups": -(-plan.blocks // d.blocks), "panel_groups": -(-plan.panels // d.panels),
        "image_groups": -(-p.images // d.images), "group_sets": -(-p.groups // d.groups),
        "images": p.images, "group_images": d.images, "chunk_images": d.chunk,
        "strips": -(-p.out[dim] // d.strip), "groups": p.groups, "set_groups": d.groups,
        "blocks": plan.blocks, "group_blocks": d.blocks, "panels": plan.panels,
        "group_panels": d.panels, "columns": p.out[2], "taps": plan.taps,
        "apart": p.dilation[1] * frames[0][2] * widths[0],
        "a_column": widths[0] * plan.a.step[2], "b_column": widths[1] * plan.b.step[2],
    }  # fmt: skip
    for letter, side, frame, width in zip("ab", (plan.a, plan.b), frames, widths, strict=True):
        area = math.prod(side.size)
        moves = [0, 0, 0]
        moves[dim] = d.strip * side.step[dim]
        plane = math.prod(frame) * width
        own = {
            "channels": side.channels, "image": area * side.channels * p.groups, "channel": area,
            "d": side.size[0], "h": side.size[1], "w": side.size[2],
            "to_d": frame[0], "to_h": frame[1], "to_w": frame[2],
            "low_d": side.low[0], "low_h": side.low[1], "low_w": side.low[2],
            "strip_d": moves[0], "strip_h": moves[1], "width": width, "plane": plane,
        }  # fmt: skip
        values |= {f"{letter}_{name}": value for name, value in own.items()}
    counts = list(p.out)
    counts[dim] = d.strip
    offsets = [tap_offsets(plan, frames), row_offsets(plan, d, frames, widths, counts)]
    start = 8 * len(code.JOB)
    values |= {
        "rows": counts[0] * counts[1], "taps_table": start,
        "rows_table": start + 16 * len(offsets[0]),
    }  # fmt: skip
    flat = [v for table in offsets for pair in table for v in pair]
    return words(code.JOB, values) + struct.pack(f"<{len(flat)}q", *flat)


def tap_offsets(plan: Plan, frames: list[Three]) -> list[tuple[int, int]]:
    """Where each tap begins on both sides, relative to the first."""
    p = plan.p
    frame = frames[1] if plan.form.of_image else frames[0]
    ranges = p.kernel if plan.form.of_image else (p.kernel[0], p.kernel[1] // plan.form.rows, 1)
    found = []
    for d, h, w in itertools.product(*map(range, ranges)):
        row = d * p.dilation[0] * frame[1] + h * p.dilation[1]
        offset = row * frame[2] + w * p.dilation[2]
        found.append((0, offset * plan.width) if plan.form.of_image else (offset * plan.a_width, 0))
    return found


def row_offsets(
    plan: Plan, d: Division, frames: list[Three], widths: tuple[int, int], counts: list[int]
) -> list[tuple[int, int]]:
    """Where each row of positions begins on both sides."""
    found = []
    for n, i, j in itertools.product(range(d.chunk), range(counts[0]), range(counts[1])):
        pair = []
        for side, frame, width in zip((plan.a, plan.b), frames, widths, strict=True):
            row = n * frame[0] * frame[1] + i * side.step[0] * frame[1] + j * side.step[1]
            pair.append(row * frame[2] * width)
        found.append((pair[0], pair[1]))
    return found


def finish_job(plan: Plan, image_groups: int, partial_image: int) -> bytes:
    """The job of the last stage."""
    p, form = plan.p, plan.form
    c, o, taps = p.channels // p.groups, p.outputs // p.groups, math.prod(p.kernel)
    row = c * taps  # from one output channel to the next
    values = {
        "images": image_groups, "partial_image": partial_image, "blocks": plan.blocks,
        "taps": plan.taps, "panels": plan.panels, "width": plan.width, "lanes": plan.b.channels,
        "numbers": form.numbers, "to_group": o * row,
    }  # fmt: skip
    if form.of_image:
        values |= {
            "to_block": plan.width * taps, "to_tap": 1, "to_panel": form.numbers * row,
            "to_number": row, "to_lane": taps, "count": o,
        }  # fmt: skip
    else:
        values |= {
            "to_block": plan.width * row, "to_tap": form.numbers, "to_panel": taps,
            "to_number": 1, "to_lane": row, "count": c * form.numbers,
        }  # fmt: skip
    return words(code.FINISH, values)
