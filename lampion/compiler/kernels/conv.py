"""Convolutions as stages: forward, gradient of the input. Imports conv_code, conv_plan, runtime
and stages.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ...errors import check
from ..native import runtime
from ..native.pool import SHARE
from ..native.runtime import Target
from ..native.stages import LINE, Call, Layout
from . import conv_amx, conv_amx_code, conv_amx_weight
from .conv_code import DIRECT, PACK, PHASE, Numbers, Tile, direct, driver, numbers_for
from .conv_plan import (
    Division,
    Phase,
    Problem,
    Sizes,
    Three,
    View,
    divide,
    forward_view,
    input_view,
    plain,
    pointers,
    pointwise,
    register_tile,
    strip_length,
    three,
    words,
)
from .conv_weight import weight_calls
from .gemm_split import SIDE

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


@lru_cache(1024)
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
        return all_weight_calls(p, x.dtype, target)
    forward = kind == "forward"
    if x.dtype == "float32" and target.matrix:
        view = forward_view(p) if forward else input_view(p)
        division = conv_amx.worth(p, view)
        if division:
            return matrix_calls(p, view, division, kind, bias, epilogue, target)
    p, copied = pointwise(p, (p.channels if forward else p.outputs) // p.groups)
    view = (forward_view(p) if forward else input_view(p))._replace(
        copied=copied and (forward or p.size == p.out)
    )
    if p.depthwise:
        view = view._replace(outputs=p.groups, deep=True)
        p = p._replace(channels=1, groups=1)
    return direct_calls(p, view, kind, x.dtype, bias, epilogue, target)


def all_weight_calls(
    p: Problem, dtype: str, target: Target
) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """The stages of the gradient of the weight, on matrix units where they are faster."""
    made = weight_calls(p, dtype, target)
    if dtype == "float32" and target.matrix:
        division = conv_amx_weight.worth(p)
        if division:
            return conv_amx_weight.calls(p, division, target, *made)
    return made


class Setup(NamedTuple):
    """What the stages of a view are made for: the register tile, blocks of output channels and of
    packed weights, and how the work is divided.

    frame      sizes of a strip's frame
    copies     0: the image is read where it lies; 1: copied to the workspace; 2: to a temporary
    copy_size  numbers of a copy
    """

    tile: Tile
    numbers: Numbers
    width: int
    blocks: int
    block_size: int
    division: Division
    frame: Three
    copies: int
    copy_size: int

    @property
    def packed(self) -> int:
        """Bytes of a group's packed weights."""
        return self.blocks * self.block_size * self.numbers.size


def set_up(p: Problem, view: View, numbers: Numbers, registers: int) -> Setup:
    """The register tile and the division that take the shortest time."""
    sizes = Sizes(numbers.lanes, registers, numbers.size)
    widths = [phase.counts[2] for phase in view.phases]
    rows = max(phase.counts[0] * phase.counts[1] for phase in view.phases)
    outputs, unit = (sizes.lanes, sizes.lanes) if view.deep else (view.outputs, 1)
    columns, tall, vectors = register_tile(widths, rows * p.images, outputs, sizes)
    tile = Tile(columns, tall, vectors, view.x_step[2] * unit, view.y_step[2] > 1, view.deep)
    width = vectors * numbers.lanes
    blocks = -(-view.outputs // width)
    block_size = width * (1 + view.channels * math.prod(p.kernel))
    packed = blocks * p.groups * block_size * numbers.size
    if len(set(widths)) > 1:  # register tiles of the narrow phases read on
        view = view._replace(frame=(*view.frame[:2], view.frame[2] + columns))
    division = divide(p, view, numbers.size * unit, blocks, packed)
    return setup_of(p, view, numbers, tile, division)


def setup_of(p: Problem, view: View, numbers: Numbers, tile: Tile, division: Division) -> Setup:
    """The setup of a register tile and a division."""
    unit = numbers.lanes if view.deep else 1
    width = tile.vectors * numbers.lanes
    blocks = -(-view.outputs // width)
    block_size = width * (1 + view.channels * math.prod(p.kernel))
    frame = list(view.frame)
    if division.strip_dim >= 0:
        frame[division.strip_dim] = strip_length(view, division.strip_dim, division.strip)
    slack = numbers.lanes + tile.columns * tile.step
    copy_size = division.images * view.channels * math.prod(frame) * unit + slack
    copy_size += -copy_size % LINE
    copies = 0
    if view.framed:
        copies = 1 if copy_size * numbers.size <= SHARE else 2
    frame_of = three(tuple(frame), 1)
    return Setup(tile, numbers, width, blocks, block_size, division, frame_of, copies, copy_size)


def direct_calls(
    p: Problem, view: View, kind: str, dtype: str, bias: bool, epilogue: bool, target: Target
) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """The stages of a view: weights are packed, then images are convolved."""
    s = set_up(p, view, numbers_for(target, dtype), target.registers)
    at = 2 + bias  # of the result among the operands
    temporaries: tuple[int, ...] = (s.packed * p.groups,)
    operands = {"x": 0, "weight": at + 1, "y": at}
    if s.copies == 2:
        temporaries += (s.division.tiles * s.copy_size * s.numbers.size,)
        operands["copy"] = at + 2
    if epilogue:
        end = at + 1 + len(temporaries)
        operands |= {"epilogue": end, "epilogue_job": end + 1}
    code = driver(target, dtype)
    job = direct_job(p, view, s, direct(target, dtype, s.tile).address("direct"))
    name = f"conv {'x'.join(map(str, p.kernel))} {kind}"
    main = Call(
        code.address("tiles"), job, s.division.tiles, pointers(DIRECT, operands), name
    )  # fmt: skip
    return (pack_call(p, view, kind, s, code, bias, at + 1), main), temporaries


def matrix_calls(
    p: Problem, view: View, division: conv_amx.Division, kind: str, bias: bool, epilogue: bool,
    target: Target,
) -> tuple[tuple[Call, ...], tuple[int, ...]]:  # fmt: skip
    """The stages of a view on matrix units. Beside theirs they have the jobs of vector units, for
    what is not finite.
    """
    s = again_setup(p, view, division, numbers_for(target, "float32"), target.registers)
    at = 2 + bias
    native, vectors = conv_amx_code.driver(target), driver(target, "float32")
    packing = pack_call(p, view, kind, s, vectors, bias, at + 2)
    temporaries: tuple[int, ...] = (conv_amx.packed_bytes(p, view), s.packed * p.groups)
    operands = {"x": 0, "weight": at + 1, "y": at} | ({"bias": 2} if bias else {})
    direct_operands = {"x": 0, "weight": at + 2, "y": at}
    if s.copies == 2:
        temporaries += (s.division.tiles * s.copy_size * s.numbers.size,)
        direct_operands["copy"] = at + 3
    if epilogue:
        end = at + 1 + len(temporaries)
        for each in (operands, direct_operands):
            each |= {"epilogue": end, "epilogue_job": end + 1}
    micro = direct(target, "float32", s.tile).address("direct")
    job, starts = conv_amx.main_job(
        p, view, division,
        {"again": vectors.address("tiles"), "again_pack": vectors.address("pack")},
        {"again_job": direct_job(p, view, s, micro), "again_pack_job": packing.job},
    )  # fmt: skip
    name = f"conv {'x'.join(map(str, p.kernel))} {kind}"
    places = (
        *pointers(conv_amx_code.JOB, operands),
        *pointers(DIRECT, direct_operands, starts["again_job"]),
        *((starts["again_pack_job"] + offset, number) for offset, number in packing.pointers),
    )
    main = Call(native.address("tiles"), job, division.tiles, places, name)
    pack = Call(
        native.address("pack"), conv_amx.pack_job(p, view, kind == "forward"),
        conv_amx.blocks_of(view) * p.groups,
        pointers(conv_amx_code.PACK, {"weight": 1, "packed": at + 1}), "conv weights",
    )  # fmt: skip
    return (pack, main), temporaries


def again_setup(
    p: Problem, view: View, division: conv_amx.Division, numbers: Numbers, registers: int
) -> Setup:
    """How vector units make a block of a strip of one image, as a tile of theirs."""
    widths = {phase.counts[2] for phase in view.phases}
    columns = min(max(widths), (registers - 4) // 2)
    tile = Tile(columns, 1, SIDE // numbers.lanes, view.x_step[2], view.y_step[2] > 1, False)
    if len(widths) > 1:
        view = view._replace(frame=(*view.frame[:2], view.frame[2] + columns))
    blocks, lead = conv_amx.blocks_of(view), conv_amx.lead_of(view)
    strips = -(-conv_amx.whole_of(view) // division.strip)
    own = Division(
        1, 1, 1, division.strip, lead if strips > 1 else -1, p.groups * p.images * strips * blocks
    )
    return setup_of(p, view, numbers, tile, own)


def pack_call(
    p: Problem, view: View, kind: str, s: Setup, code: runtime.Native, bias: bool, packed: int
) -> Call:
    """The stage that packs the weights for vector units into the operand `packed`."""
    taps = math.prod(p.kernel)
    along = p.channels // p.groups * taps  # from one output channel to the next
    forward = kind == "forward"
    values = {
        "blocks": s.blocks, "block_size": s.block_size, "width": s.width, "lanes": view.outputs,
        "depth": view.channels, "taps": taps, "lane": along if forward else taps,
        "outer": taps if forward else along, "group": p.outputs // p.groups * along,
        "has_bias": int(bias),
    }  # fmt: skip
    operands = {"weight": 1, "bias": 2 if bias else 1, "packed": packed}
    return Call(
        code.address("pack"), words(PACK, values), s.blocks * p.groups,
        pointers(PACK, operands), "conv weights",
    )  # fmt: skip


class Geometry(NamedTuple):
    """Where things lie: distances, in numbers, in the image as the kernel reads it and in the
    result.

    unit     numbers of a position of the image
    plane    from one channel to the next
    image    from one image to the next
    steps    from one position to the next, along each dimension
    y_image, y_steps   the same of the result
    width    of a block of packed weights
    folded   the table of taps has those of all channels
    strip    positions in a strip, along strip_dim (-1: there are no strips)
    """

    unit: int
    plane: int
    image: int
    steps: Three
    y_image: int
    y_steps: Three
    width: int
    folded: bool
    strip: int
    strip_dim: int


def geometry(p: Problem, view: View, s: Setup) -> Geometry:
    """The distances of a view that is set up so."""
    inside = s.frame if s.copies else view.source
    unit = s.width if view.deep else 1
    plane = math.prod(inside)
    own = plane * view.channels * unit if s.copies else plane * view.channels * p.groups
    taps = max(len(phase.taps) for phase in view.phases)
    return Geometry(
        unit, plane, own, (math.prod(inside[1:]) * unit, inside[2] * unit, unit),
        math.prod(view.target) * view.outputs * p.groups,
        (math.prod(view.target[1:]), view.target[2], 1), s.width,
        taps <= FOLD and view.channels * taps <= MOST_FOLDED,
        s.division.strip, s.division.strip_dim,
    )  # fmt: skip


def distance(place: Sequence[int], *factors: Sequence[int]) -> int:
    """The sum over dimensions of the place times its factors."""
    return sum(math.prod(values) for values in zip(place, *factors, strict=False))


def phase_tables(
    p: Problem, view: View, phase: Phase, g: Geometry, images: int, start: int
) -> tuple[bytes, bytes]:
    """A phase's record and its tables of taps and rows, which begin at byte `start` of the job."""
    taps = math.prod(p.kernel)
    pairs = [(distance(place, g.steps), number * g.width) for place, number in phase.taps]
    if g.folded:
        pairs = [
            (c * g.plane + offset, c * taps * g.width + row)
            for c, (offset, row) in itertools.product(range(view.channels), pairs)
        ]
    counts = list(phase.counts)
    total = strip_rows = counts[0] * counts[1]
    strip_y = 0
    if g.strip_dim >= 0:
        strip_rows = g.strip * (counts[1] if g.strip_dim == 0 else 1)
        strip_y = g.strip * view.y_step[g.strip_dim] * g.y_steps[g.strip_dim]
        counts[g.strip_dim] = min(g.strip, counts[g.strip_dim])
    rows = [
        (n * g.image + distance(at, view.x_step, g.steps),
         n * g.y_image + distance(at, view.y_step, g.y_steps))
        for n, *at in itertools.product(range(images), range(counts[0]), range(counts[1]))
    ]  # fmt: skip
    record = {
        "taps": len(pairs), "tap_table": start, "row_table": start + 16 * len(pairs),
        "strip_rows": strip_rows, "total_rows": total, "size": phase.counts[2],
        "y_start": distance(phase.start, g.y_steps), "strip_y": strip_y,
    }  # fmt: skip
    flat = [v for pair in (*pairs, *rows) for v in pair]
    return words(PHASE, record), struct.pack(f"<{len(flat)}q", *flat)


def direct_job(p: Problem, view: View, s: Setup, micro: int) -> bytes:
    """The job of the main stage: its fields, the phases, their tables."""
    division, frame, strip_dim = s.division, s.frame, s.division.strip_dim
    source, target = math.prod(view.source), math.prod(view.target)
    g = geometry(p, view, s)
    start = 8 * len(DIRECT)
    tables = start + 8 * len(PHASE) * len(view.phases)
    records, memory = b"", b""
    for phase in view.phases:
        record, table = phase_tables(p, view, phase, g, division.images, tables + len(memory))
        records, memory = records + record, memory + table
    strips, columns = 1, target
    along = [0, 0]  # what a strip moves on in the source
    if strip_dim >= 0:
        strips = -(-max(phase.counts[strip_dim] for phase in view.phases) // g.strip)
        along[strip_dim] = g.strip * view.x_step[strip_dim]
        columns = g.strip * view.y_step[strip_dim] * g.y_steps[strip_dim]
    channels = view.outputs if view.deep else view.channels * p.groups
    values = {
        "micro": micro, "block_size": s.block_size, "blocks": s.blocks, "width": s.width,
        "copies": s.copies, "copy_size": s.copy_size, "columns": s.tile.columns,
        "rows": s.tile.rows, "deep": int(view.deep),
        "image_groups": -(-p.images // division.images), "strips": strips,
        "block_groups": -(-s.blocks // division.blocks),
        "group_sets": -(-p.groups // division.groups), "images": p.images,
        "group_images": division.images, "groups": p.groups, "set_groups": division.groups,
        "group_blocks": division.blocks, "channels": view.channels,
        "x_image": source * channels, "x_channel": source,
        "x_d": view.source[0], "x_h": view.source[1], "x_w": view.source[2],
        "to_d": frame[0], "to_h": frame[1], "to_w": frame[2],
        "low_d": view.low[0], "low_h": view.low[1], "low_w": view.low[2],
        "strip_d": along[0], "strip_h": along[1],
        "outer": 1 if g.folded else view.channels, "outer_x": g.plane,
        "outer_w": math.prod(p.kernel) * g.width, "outputs": view.outputs,
        "y_image": g.y_image, "y_channel": target, "y_step": view.y_step[2],
        "x_step": view.x_step[2] * g.unit, "strip_columns": columns, "columns_total": target,
        "phases": len(view.phases), "phase_table": start,
    }  # fmt: skip
    return words(DIRECT, values) + records + memory
