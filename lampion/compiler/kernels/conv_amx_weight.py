"""The gradient of a convolution's weight on matrix units as stages: how the work is divided, and
what it is told. Imports conv_amx, conv_amx_weight_code, conv_plan, runtime and stages.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..native.runtime import Native, Target
from ..native.stages import LINE, Call
from . import conv_amx_weight_code as code
from .conv_amx import (
    CUT,
    DEPTH,
    FETCH,
    PAIR,
    START,
    VECTOR_RATE,
    Cells,
    Tables,
    cell_table,
    parts,
    whole_of,
    zero_runs,
)
from .conv_amx_code import CELL, PANEL, SUMS
from .conv_plan import TILE_WORK, TILES, Problem, View, forward_view, pointers, uneven, words
from .gemm_split import SIDE, UNIT

ROOM = 7 << 18  # bytes of cells and packed gradients that a thread works on
GATHER = 2000  # cycles to pack a panel of gradients
SUM = 500  # cycles to add and place the sums of 32 outputs by 32 channels of a tap


class Division(NamedTuple):
    """How work is divided: images, blocks of 32 outputs and panels of 32 channels per tile; pairs
    of images and positions along the leading dimension that are laid out together; the number of
    tiles; and about how many cycles they take.
    """

    images: int
    blocks: int
    panels: int
    pairs: int
    strip: int
    tiles: int
    cycles: float


def sizes(p: Problem) -> tuple[int, int, int]:
    """Blocks of 32 outputs, panels of 32 channels, taps."""
    channels, outputs = p.channels // p.groups, p.outputs // p.groups
    return -(-outputs // SIDE), -(-channels // SIDE), math.prod(p.kernel)


def candidates(p: Problem, view: View) -> Iterator[Division]:
    """Divisions whose cells and packed gradients fit the room."""
    blocks, panels, taps = sizes(p)
    whole = whole_of(view)
    most = -(-p.images // 2)
    for pairs, strip in itertools.product(parts(min(most, UNIT // 2)), parts(whole)):
        cells = Cells(view, strip, pairs)
        terms = len(cells.tiles(view.phases[0]))
        rounds = -(-terms // DEPTH)
        for own_panels in parts(panels):
            if cells.step_size * 2 * own_panels + terms * PANEL > ROOM:
                continue
            cut = pairs * math.prod(cells.size) / UNIT * own_panels * 2 * CUT
            for groups, own_blocks in itertools.product(parts(-(-most // pairs)), parts(blocks)):
                images = 2 * pairs * groups
                tiles = -(-p.images // images) * -(-panels // own_panels) * -(-blocks // own_blocks)
                if tiles * p.groups > 8 * TILES:
                    continue
                pair = taps * (terms * PAIR + rounds * FETCH)
                chunk = cut + own_blocks * (terms * GATHER + own_panels * pair)
                each = groups * -(-whole // strip) * chunk + START
                summed = -(-p.images // images) * blocks * panels * taps * SUM
                cycles = (tiles * each + summed) * p.groups
                yield Division(
                    images, own_blocks, own_panels, pairs, strip, tiles * p.groups, cycles
                )


def divide(p: Problem, view: View) -> Division | None:
    """The division that takes the shortest time among those with enough tiles, if there is any."""
    wanted = max(min(p.flops // TILE_WORK, TILES), 1)
    return min(
        candidates(p, view),
        key=lambda d: (d.tiles < wanted, d.cycles * (1 + uneven(d.tiles))),
        default=None,
    )


def worth(p: Problem) -> Division | None:
    """How the work is divided where matrix units are faster than vector units."""
    if min(p.channels, p.outputs) // p.groups < UNIT or p.flops < TILE_WORK:
        return None
    division = divide(p, forward_view(p))
    if division is None or division.cycles * VECTOR_RATE >= p.flops / 2:
        return None
    return division


def calls(
    p: Problem, d: Division, target: Target, again: Sequence[Call], temporaries: Sequence[int]
) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """The stages that sum the gradient of the weight, then those of vector units (`again`, with
    their temporaries), which do something only where a sum is not finite; and the bytes of the
    temporaries.
    """
    native = code.driver(target)
    blocks, panels, taps = sizes(p)
    partial_image = p.groups * blocks * panels * taps * SUMS
    image_groups = -(-p.images // d.images)
    memory = (max(temporaries[0], image_groups * partial_image), *temporaries[1:], LINE)
    spoiled = 2 + len(memory)  # the last of the operands x, y, w and the temporaries
    main = Call(
        native.address("tiles"), main_job(p, d, partial_image), d.tiles,
        pointers(code.JOB, {"x": 0, "y": 1, "partial": 3, "spoiled": spoiled}),
        f"conv {'x'.join(map(str, p.kernel))} weight",
    )  # fmt: skip
    finish = Call(
        native.address("finish"), finish_job(p, image_groups, partial_image),
        p.groups * blocks * panels,
        pointers(code.FINISH, {"partial": 3, "result": 2, "spoiled": spoiled}), "conv weight sums",
    )  # fmt: skip
    return (main, finish, *(repeated(call, native, spoiled) for call in again)), memory


def repeated(call: Call, native: Native, spoiled: int) -> Call:
    """A stage that is one of vector units if the operand `spoiled` says so."""
    head = words(code.AGAIN, {"function": call.function, "job": LINE})
    head += bytes(LINE - len(head))
    moved = tuple((at + LINE, *rest) for at, *rest in call.pointers)
    return Call(
        native.address("again"), head + call.job, call.tiles,
        (*pointers(code.AGAIN, {"spoiled": spoiled}), *moved), f"{call.name} again",
    )  # fmt: skip


def main_job(p: Problem, d: Division, partial_image: int) -> bytes:
    """The job of the main stage."""
    view = forward_view(p)
    (phase,) = view.phases
    cells = Cells(view, d.strip, d.pairs)
    lead, source, strips = cells.lead, view.source, -(-whole_of(view) // d.strip)
    blocks, panels, taps = sizes(p)
    tables = Tables(8 * len(code.JOB))
    starts = np.array(cells.tiles(phase))
    terms = np.stack([starts * CELL, np.arange(len(starts)) * PANEL], 1)
    taken = cell_table(cells)
    zeros = zero_runs(cells, view, taken, strips)
    last = whole_of(view) - (strips - 1) * d.strip
    distances = np.array([cells.tap(place) * CELL for place, _ in phase.taps])
    return words(code.JOB, {
        "block_groups": -(-blocks // d.blocks), "panel_groups": -(-panels // d.panels),
        "image_groups": -(-p.images // d.images), "groups": p.groups, "images": p.images,
        "group_images": d.images, "chunk": 2 * d.pairs, "strips": strips, "blocks": blocks,
        "group_blocks": d.blocks, "panels": panels, "group_panels": d.panels,
        "channels": view.channels, "x_image": math.prod(source) * p.channels,
        "x_channel": math.prod(source), "inner": math.prod(source[lead + 1 :]),
        "lead": source[lead], "frame": cells.size[lead], "low": view.low[lead],
        "along": d.strip * view.x_step[lead], "outputs": view.outputs,
        "y_image": math.prod(p.out) * p.outputs, "y_channel": math.prod(p.out),
        "y_strip": d.strip * math.prod(p.out[lead + 1 :]), "cells_size": cells.step_size,
        "dump": (cells.count + UNIT) * CELL, "cell_table": tables.add(taken * CELL, "i4"),
        "zero_table": tables.add(zeros, "i8"), "zeros": len(zeros), "terms": len(starts),
        "term_table": tables.add(terms, "i8"),
        "place_table": tables.add(gradient_places(p, cells, starts, d.strip), "i4"),
        "last_table": tables.add(gradient_places(p, cells, starts, last), "i4"), "taps": taps,
        "tap_table": tables.add(distances, "i8"), "packed": 2 * d.panels * cells.step_size,
        "partial_image": partial_image, "depth": DEPTH,
    }) + bytes(tables.memory)  # fmt: skip


def gradient_places(p: Problem, cells: Cells, starts: ndarray, strip: int) -> ndarray:
    """(tiles, 16): where in the gradient of the result the position of each lane is, in the first
    channel and image of a chunk; -1 where it is none, or in a tile before. Positions along the
    leading dimension count up to `strip`.
    """
    (phase,) = cells.view.phases
    rows = cells.rows(phase)
    columns = np.arange(phase.counts[2])[:, None] * cells.images + np.arange(cells.images)
    own = rows[:, :, None, None] + columns  # (d, h, w, pairs)
    d, h, w = p.out
    plane = (np.arange(own.shape[0])[:, None] * h + np.arange(own.shape[1]))[:, :, None] * w
    offset = (plane + np.arange(w))[..., None] + np.arange(cells.images) * (
        2 * p.outputs * math.prod(p.out)
    )
    lead = [-1 if dim == cells.lead else 1 for dim in range(4)]
    valid = np.arange(own.shape[cells.lead]).reshape(lead) < strip
    tile = np.searchsorted(starts, own, "right") - 1
    places = np.full((len(starts), UNIT), -1)
    places[tile, own - starts[tile]] = np.where(valid, offset, -1)
    return places


def finish_job(p: Problem, image_groups: int, partial_image: int) -> bytes:
    """The job of the stage that adds the sums of all images."""
    blocks, panels, taps = sizes(p)
    return words(code.FINISH, {
        "images": image_groups, "partial_image": partial_image, "blocks": blocks,
        "panels": panels, "taps": taps, "channels": p.channels // p.groups,
        "outputs": p.outputs // p.groups,
    })  # fmt: skip
