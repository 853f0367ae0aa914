"""Convolutions as stages: forward, gradient of the input. Imports conv_code, conv_plan, runtime
and stages.
"""

from __future__ import annotations

import math
import struct
from functools import cache
from typing import Any

from ..errors import check
from . import runtime
from .conv_code import DIRECT, PACK, PHASE, Numbers, Tile, direct, driver, numbers_for
from .conv_plan import (
    Division,
    Problem,
    Sizes,
    View,
    divide,
    forward_view,
    input_view,
    plain,
    pointwise,
    register_tile,
    strip_length,
    three,
    words,
)  # fmt: skip
from .conv_weight import weight_calls
from .runtime import Target
from .stages import Call, Layout

FOLD = 4  # kernels of at most so many taps have one table of channels and taps
MOST_FOLDED = 1024


def problem(x: Layout, w: Layout, y: Layout, steps: Any) -> Problem:
    """The convolution of images x and weights w to y, with `steps` of stride, padding, dilation
    and groups; raises ValueError where they do not belong together.
    """
    (n, c, *size), (o, _, *kernel), out = x.shape, w.shape, y.shape[2:]
    expected = (n, o, *out), (o, c // steps.groups, *kernel)
    fits = (y.shape, w.shape) == expected and len(x.shape) == len(w.shape)
    check(
        fits and x.dtype == w.dtype == y.dtype and x.dtype in ("float32", "float64"),
        lambda: (
            f"[conv] expects images, weights and results that belong together, all float32 or "
            f"all float64, got {x}, {w} and {y}"
        ),
        ValueError,
    )
    for layout in (x, w, y):
        check(0 not in layout.shape, lambda: f"[conv] expects elements, got {layout}", ValueError)
        check(plain(layout), lambda: f"[conv] expects contiguous arrays, got {layout}", ValueError)
    return Problem(
        n, c, o, steps.groups, three(tuple(size), 1), three(tuple(kernel), 1), three(out, 1),
        three(steps.stride, 1), three(steps.padding, 0), three(steps.dilation, 1),
    )  # fmt: skip


@cache
def conv_calls(
    kind: str, x: Layout, w: Layout, y: Layout, steps: Any, bias: bool = False,
    epilogue: bool = False, target: Target | None = None,
) -> tuple[tuple[Call, ...], tuple[int, ...]]:  # fmt: skip
    """The stages of a convolution of x (N, C, *size) and w (O, C / groups, *kernel) to y (N, O,
    *out), and the bytes of each temporary.

    kind      operands, in this order
    forward   x, w, [bias], y, temporaries
    input     y, w, [bias], x, temporaries: the gradient of x from that of y, which is the
              transposed convolution; a bias is added per channel of x
    weight    x, y, w, temporaries: the gradient of w from that of y
    and then, with `epilogue`, the addresses of the epilogue and its job.

    Raises ValueError where layouts do not belong together, are not contiguous or have no elements.
    """
    p = problem(x, w, y, steps)
    target = target or runtime.host()
    if kind == "weight":
        return weight_calls(p, x.dtype, target)
    p = pointwise(p)
    view = forward_view(p) if kind == "forward" else input_view(p)
    if p.depthwise:
        view = view._replace(outputs=p.groups, deep=True)
        p = p._replace(channels=1, groups=1)
    return direct_calls(p, view, kind, x.dtype, bias, epilogue, target)


def direct_calls(
    p: Problem, view: View, kind: str, dtype: str, bias: bool, epilogue: bool, target: Target
) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """The stages of a view: weights are packed, then images are convolved."""
    numbers = numbers_for(target, dtype)
    sizes = Sizes(numbers.lanes, target.registers, numbers.size)
    widths = [phase.counts[2] for phase in view.phases]
    rows = max(phase.counts[0] * phase.counts[1] for phase in view.phases)
    outputs, unit = (sizes.lanes, sizes.lanes) if view.deep else (view.outputs, 1)
    columns, tall, vectors = register_tile(widths, rows * p.images, outputs, sizes)
    tile = Tile(columns, tall, vectors, view.x_step[2] * unit, view.y_step[2] > 1, view.deep)
    width = vectors * numbers.lanes
    blocks = -(-view.outputs // width)
    taps = math.prod(p.kernel)
    block_size = width * (1 + view.channels * taps)
    packed = blocks * p.groups * block_size * numbers.size
    if len(set(widths)) > 1:  # register tiles of the narrow phases read on
        view = view._replace(frame=(*view.frame[:2], view.frame[2] + columns))
    division = divide(p, view, numbers.size * unit, blocks, packed)
    frame = list(view.frame)
    if division.strip_dim >= 0:
        frame[division.strip_dim] = strip_length(view, division.strip_dim, division.strip)
    slack = numbers.lanes + columns * view.x_step[2] * unit
    copy_size = division.images * view.channels * math.prod(frame) * unit + slack
    copy_size += -copy_size % 16
    copies = 0
    if view.framed:
        copies = 1 if copy_size * numbers.size <= 2 << 20 else 2
    at = 2 + bias  # of the result among the operands
    temporaries: tuple[int, ...] = (packed,)
    if copies == 2:
        temporaries += (division.tiles * copy_size * numbers.size,)
    end = at + 1 + len(temporaries)
    code = driver(target, dtype)
    pack = pack_call(p, view, kind, numbers, (blocks, block_size, width), code, bias, at)
    sizes_of = {
        "micro": direct(target, dtype, tile).address("direct"), "block_size": block_size,
        "blocks": blocks, "width": width, "copies": copies, "copy_size": copy_size,
        "columns": columns, "rows": tall, "deep": int(view.deep),
    }  # fmt: skip
    job = direct_job(p, view, division, (frame[0], frame[1], frame[2]), sizes_of)
    operands = {"x": 0, "weight": at + 1, "y": at}
    if copies == 2:
        operands["copy"] = at + 2
    if epilogue:
        operands |= {"epilogue": end, "epilogue_job": end + 1}
    pointers = tuple((8 * DIRECT.index(name), operand) for name, operand in operands.items())
    name = f"conv {'x'.join(map(str, p.kernel))} {kind}"
    main = Call(code.address("tiles"), job, division.tiles, pointers, name)
    return (pack, main), temporaries


def pack_call(
    p: Problem, view: View, kind: str, numbers: Numbers, block: tuple[int, int, int],
    code: runtime.Native, bias: bool, at: int,
) -> Call:  # fmt: skip
    """The stage that packs the weights, whose place is after the result's, `at`."""
    blocks, block_size, width = block
    taps = math.prod(p.kernel)
    along = p.channels // p.groups * taps  # from one output channel to the next
    forward = kind == "forward"
    values = {
        "blocks": blocks, "block_size": block_size, "width": width, "lanes": view.outputs,
        "depth": view.channels, "taps": taps, "lane": along if forward else taps,
        "outer": taps if forward else along, "group": p.outputs // p.groups * along,
        "has_bias": int(bias),
    }  # fmt: skip
    operands = {"weight": 1, "bias": 2 if bias else 1, "packed": at + 1}
    pointers = tuple((8 * PACK.index(name), operand) for name, operand in operands.items())
    return Call(
        code.address("pack"), words(PACK, values), blocks * p.groups, pointers, "conv weights"
    )


def direct_job(
    p: Problem, view: View, division: Division, frame: tuple[int, int, int],
    given: dict[str, int],
) -> bytes:  # fmt: skip
    """The job of the main stage: its fields, the phases, their tables."""
    source, target, strip_dim = math.prod(view.source), math.prod(view.target), division.strip_dim
    inside = frame if given["copies"] else view.source
    plane = math.prod(inside)
    steps = (math.prod(inside[1:]), inside[2], 1)
    y_steps = (math.prod(view.target[1:]), view.target[2], 1)
    unit = given["width"] if view.deep else 1  # numbers of a position in the frame
    channels = view.outputs if view.deep else view.channels * p.groups
    image = plane * view.channels * unit if given["copies"] else source * channels
    folded = max(len(phase.taps) for phase in view.phases) <= FOLD and (
        view.channels * len(view.phases[0].taps) <= MOST_FOLDED
    )
    taps = math.prod(p.kernel)
    strips = 1
    along = [0, 0]  # what a strip moves on in the source, and in the result
    strip = division.strip
    if strip_dim >= 0:
        strips = -(-max(phase.counts[strip_dim] for phase in view.phases) // strip)
        along[strip_dim] = strip * view.x_step[strip_dim]
    start = 8 * len(DIRECT)
    tables = start + 8 * len(PHASE) * len(view.phases)
    records, memory = b"", b""
    for phase in view.phases:
        pairs = [
            (sum(o * s * unit for o, s in zip(place, steps, strict=True)), number * given["width"])
            for place, number in phase.taps
        ]
        if folded:
            pairs = [
                (c * plane + offset, c * taps * given["width"] + row)
                for c in range(view.channels)
                for offset, row in pairs
            ]
        counts = list(phase.counts)
        total = counts[0] * counts[1]
        if strip_dim >= 0:
            counts[strip_dim] = min(strip, counts[strip_dim])
        each = counts[1] if strip_dim == 0 else 1
        rows = [
            (
                n * image + sum(i * a * b * unit for i, a, b in zip(at, view.x_step, steps)),
                n * target * view.outputs * p.groups
                + sum(i * a * b for i, a, b in zip(at, view.y_step, y_steps)),
            )
            for n in range(division.images)
            for at in ((d, h) for d in range(counts[0]) for h in range(counts[1]))
        ]
        record = {
            "taps": len(pairs), "tap_table": tables + len(memory),
            "row_table": tables + len(memory) + 16 * len(pairs),
            "strip_rows": strip * each if strip_dim >= 0 else total, "total_rows": total,
            "size": phase.counts[2],
            "y_start": sum(a * b for a, b in zip(phase.start, y_steps, strict=True)),
            "strip_y": strip * view.y_step[strip_dim] * y_steps[strip_dim] * (strip_dim >= 0),
        }  # fmt: skip
        records += words(PHASE, record)
        memory += struct.pack(f"<{2 * len(pairs)}q", *[v for pair in pairs for v in pair])
        memory += struct.pack(f"<{2 * len(rows)}q", *[v for row in rows for v in row])
    values = given | {
        "image_groups": -(-p.images // division.images), "strips": strips,
        "block_groups": -(-given["blocks"] // division.blocks),
        "group_sets": -(-p.groups // division.groups), "images": p.images,
        "group_images": division.images, "groups": p.groups, "set_groups": division.groups,
        "group_blocks": division.blocks, "channels": view.channels,
        "x_image": source * channels, "x_channel": source,
        "x_d": view.source[0], "x_h": view.source[1], "x_w": view.source[2],
        "to_d": frame[0], "to_h": frame[1], "to_w": frame[2],
        "low_d": view.low[0], "low_h": view.low[1], "low_w": view.low[2],
        "strip_d": along[0], "strip_h": along[1],
        "outer": 1 if folded else view.channels, "outer_x": plane,
        "outer_w": taps * given["width"], "outputs": view.outputs,
        "y_image": target * view.outputs * p.groups, "y_channel": target,
        "y_step": view.y_step[2], "x_step": view.x_step[2] * unit,
        "strip_columns": (
            strip * view.y_step[strip_dim] * y_steps[strip_dim] if strip_dim >= 0 else target
        ),
        "columns_total": target, "phases": len(view.phases), "phase_table": start,
    }  # fmt: skip
    return words(DIRECT, values) + records + memory
