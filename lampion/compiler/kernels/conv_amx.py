"""Convolutions on matrix units as stages: which cells there are, how the work is divided, and what
it is told. Imports conv_amx_code, conv_plan, gemm_split and runtime.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from . import conv_amx_code as code
from .conv_amx_code import CELL, MOST_FLAGS, PANEL, ROW, SUMS
from .conv_plan import TILE_WORK, TILES, Phase, Problem, View, uneven, words
from .gemm_split import SIDE, STEP, UNIT

# Bytes of cells, sums and a block's weights that a thread works on, in its second-level cache; and
# of cells and sums, in its workspace.
ROOM = 7 << 18
DEPTH = 4  # steps of 32 numbers whose sums are made apart from the rest
# Cycles: of a pair of tiles and a step, to cut 16 positions of 32 channels, to begin with a strip
# of as many, to pack 32 x 32 weights; to finish a pair, to fetch its sums, to begin a tile of the
# work, and to fetch a byte of weights.
PAIR, CUT, RUN, PACK = 540, 500, 250, 1600
FINISH, FETCH, START, WEIGHT = 1000, 250, 2000, 0.1
VECTOR_RATE = 22  # multiplications in a cycle, on vector units


class Cells:
    """The cells of a strip's frame, for images that alternate cell by cell. Along each dimension
    only the residues of the step that a tap reads have cells; columns of one residue are
    neighbours.

    lead      the dimension that strips divide: 0, or 1 of images of two dimensions
    size      sizes of the strip's frame
    lines     per dimension: the line of each place in the frame, -1 where none is read
    apart     per dimension: cells from one line to the next
    moves     per dimension: cells from one position to the next
    """

    def __init__(self, view: View, strip: int, images: int) -> None:
        self.view, self.strip, self.images, self.lead = view, strip, images, lead_of(view)
        self.size = list(view.frame)
        self.size[self.lead] -= (whole_of(view) - strip) * view.x_step[self.lead]
        self.lines: list[ndarray] = []
        counts, residues = [], []
        for d, (size, step) in enumerate(zip(self.size, view.x_step, strict=True)):
            read = sorted({place[d] % step for phase in view.phases for place, _ in phase.taps})
            rank = np.full(step, -1)
            rank[read] = np.arange(len(read))
            at, own = np.arange(size) // step, rank[np.arange(size) % step]
            line = at + own * -(-size // step) if d == 2 else at * len(read) + own
            self.lines.append(np.where(own < 0, -1, line))
            counts.append(-(-size // step) * len(read))
            residues.append(1 if d == 2 else len(read))
        self.apart = [counts[1] * counts[2] * images, counts[2] * images, images]
        self.moves = [a * n for a, n in zip(self.apart, residues, strict=True)]
        self.count = counts[0] * self.apart[0]

    @property
    def step_size(self) -> int:
        """Bytes of a step of 32 channels, with cells that tiles at the end read on, and one of
        each image for what is not wanted.
        """
        return (self.count + UNIT + self.images) * CELL

    def tap(self, place: tuple[int, ...]) -> int:
        """How many cells a tap is from its position."""
        return sum(
            int(line[at]) * apart
            for line, at, apart in zip(self.lines, place, self.apart, strict=True)
        )

    def rows(self, phase: Phase) -> ndarray:
        """The cell of the first column of each row of positions of a phase in a strip."""
        counts = list(phase.counts)
        counts[self.lead] = min(counts[self.lead], self.strip)
        first, second = (np.arange(counts[d]) * self.moves[d] for d in range(2))
        return first[:, None] + second

    def tiles(self, phase: Phase) -> list[int]:
        """The first cells of the fewest tiles that hold all positions of a phase."""
        if not phase.taps:
            return []
        found: list[int] = []
        end, length = 0, phase.counts[2] * self.images  # tiles reach `end`
        for start in self.rows(phase).ravel().tolist():
            added = range(max(start, end), start + length, UNIT)
            found += added
            end = added[-1] + UNIT if added else end
        return found


def lead_of(view: View) -> int:
    """The dimension that strips divide: the first that an image has more of than one."""
    return 0 if max(view.source[0], view.frame[0], view.target[0]) > 1 else 1


def whole_of(view: View) -> int:
    """How many positions there are along the dimension that strips divide."""
    return max(phase.counts[lead_of(view)] for phase in view.phases)


# -- tiles of the work ---------------------------------------------------------------------------


class Division(NamedTuple):
    """How work is divided: images, positions along the leading dimension, and blocks of 32 outputs
    per tile; steps of 32 channels that cells are held of; the number of tiles; and about how many
    cycles they take.
    """

    images: int
    strip: int
    blocks: int
    held: int
    tiles: int
    cycles: float


def steps_of(view: View) -> int:
    """Steps of 32 channels."""
    return -(-view.channels // STEP)


def blocks_of(view: View) -> int:
    """Blocks of 32 outputs."""
    return -(-view.outputs // SIDE)


def parts(count: int) -> list[int]:
    """Sizes of equal pieces, nearly, that a count may be divided into."""
    return sorted({-(-count // n) for n in range(1, count + 1)}, reverse=True)


def candidates(p: Problem, view: View) -> Iterator[Division]:
    """Divisions whose cells and sums fit the room."""
    steps, blocks, whole = steps_of(view), blocks_of(view), whole_of(view)
    for images, strip in itertools.product(parts(min(p.images, UNIT)), parts(whole)):
        cells = Cells(view, strip, images)
        if cells.step_size > ROOM:
            continue
        pairs = [-(-len(cells.tiles(phase)) // 2) for phase in view.phases]
        terms = sum(n * len(phase.taps) for n, phase in zip(pairs, view.phases, strict=True))
        sums = sum(pairs) * SUMS + ROW
        regions = -(-p.images // images) * -(-whole // strip) * p.groups
        cut = images * steps * (wanted_chunks(cells) * CUT + RUN)
        panels = math.prod(p.kernel) * PANEL
        own = terms * steps * PAIR + sum(pairs) * FINISH + panels * steps * WEIGHT
        step = cells.step_size + panels
        for each in parts(blocks):
            held = steps if step * steps + sums <= ROOM else (ROOM - each * sums) // step
            if held < 1 or images * each > MOST_FLAGS:
                continue
            rounds = -(-steps // held)
            held, groups = -(-steps // rounds), -(-blocks // each)
            again = (rounds - 1) * sum(pairs) * FETCH
            cycles = regions * (blocks * (own + again) + groups * (cut + START))
            yield Division(images, strip, each, held, regions * groups, cycles)


def divide(p: Problem, view: View) -> Division | None:
    """The division that takes the shortest time among those with enough tiles; none where cells do
    not fit the room.
    """
    wanted = max(min(p.flops // TILE_WORK, TILES), 1)
    return min(
        candidates(p, view),
        key=lambda d: (d.tiles < wanted, d.cycles * (1 + uneven(d.tiles))), default=None,
    )  # fmt: skip


def worth(p: Problem, view: View) -> Division | None:
    """How the work is divided where matrix units are faster than vector units."""
    if min(view.channels, view.outputs) < UNIT or p.flops < TILE_WORK:
        return None
    division = divide(p, view)
    packing = blocks_of(view) * steps_of(view) * math.prod(p.kernel) * p.groups * PACK
    if division is None or (division.cycles + packing) * VECTOR_RATE >= p.flops / 2:
        return None
    return division


# -- jobs ----------------------------------------------------------------------------------------


def packed_bytes(p: Problem, view: View) -> int:
    """Bytes of the packed weights."""
    return blocks_of(view) * steps_of(view) * math.prod(p.kernel) * p.groups * PANEL


def pack_job(p: Problem, view: View, forward: bool) -> bytes:
    """The job of the stage that packs the weights."""
    taps = math.prod(p.kernel)
    along = p.channels // p.groups * taps  # from one output channel to the next
    return words(code.PACK, {
        "blocks": blocks_of(view), "lanes": view.outputs, "depth": view.channels, "taps": taps,
        "lane": along if forward else taps, "outer": taps if forward else along,
        "group": p.outputs // p.groups * along,
    })  # fmt: skip


def main_job(
    p: Problem, view: View, d: Division, addresses: dict[str, int], jobs: dict[str, bytes]
) -> tuple[bytes, dict[str, int]]:
    """The job of the main stage: its fields, with addresses of functions, its tables, and the jobs
    of these functions; and where those begin.
    """
    cells = Cells(view, d.strip, d.images)
    lead, source, target = cells.lead, view.source, view.target
    steps, blocks, whole = steps_of(view), blocks_of(view), whole_of(view)
    inner, beyond = math.prod(source[lead + 1 :]), math.prod(target[lead + 1 :])
    columns = d.strip * view.y_step[lead] * beyond
    tables = Tables(8 * len(code.JOB))
    records, places, zero_row = phase_records(cells, math.prod(p.kernel), d.held, tables)
    taken = cell_table(cells)
    strips = -(-whole // d.strip)
    values = {
        "block_groups": -(-blocks // d.blocks), "strips": strips,
        "image_groups": -(-p.images // d.images), "groups": p.groups, "images": p.images,
        "group_images": d.images, "blocks": blocks, "group_blocks": d.blocks,
        "outputs": view.outputs, "channels": view.channels,
        "x_image": math.prod(source) * view.channels * p.groups, "x_channel": math.prod(source),
        "inner": inner, "lead": source[lead], "frame": cells.size[lead], "low": view.low[lead],
        "along": d.strip * view.x_step[lead], "steps": steps, "held": d.held,
        "step_size": cells.step_size, "depth": DEPTH, "dump": (cells.count + UNIT) * CELL,
        "cell_table": tables.add(taken * CELL, "i4"), "phases": len(view.phases),
        "ready_table": tables.add(ready_chunks(places, zero_row), "i8"),
        "place_table": tables.add(places, "i4"), "places": places.shape[1],
        "phase_table": tables.add(records, "i8"), "sums": d.held * cells.step_size,
        "block_sums": zero_row + ROW, "zero_row": zero_row,
        "block_size": steps * math.prod(p.kernel) * PANEL, "panels": math.prod(p.kernel) * PANEL,
        "strip_columns": columns, "columns": math.prod(target),
        "y_image": math.prod(target) * view.outputs * p.groups,
    }  # fmt: skip
    zeros = zero_runs(cells, view, taken, strips)
    values |= {"zeros": len(zeros), "zero_table": tables.add(zeros, "i8")}
    starts = {name: tables.add(np.frombuffer(job, "u1"), "u1") for name, job in jobs.items()}
    return words(code.JOB, values | addresses | starts) + bytes(tables.memory), starts


class Tables:
    """Tables behind the fields of a job, which begin at byte `start`."""

    def __init__(self, start: int) -> None:
        self.start, self.memory = start, bytearray()

    def add(self, table: ndarray, type: str) -> int:
        """Appends a table; where it begins."""
        at = self.start + len(self.memory)
        data = np.ascontiguousarray(table).astype(type).tobytes()
        self.memory += data + bytes(-len(data) % 64)
        return at


def cell_table(cells: Cells) -> ndarray:
    """(places along the leading dimension of a strip's frame, positions of the source beyond it):
    the cell of each, and of as many more as a vector reads on.
    """
    view, lead = cells.view, cells.lead
    lines = []
    for d in range(3):
        at = np.arange(cells.size[d] if d == lead else view.source[d])
        at = at if d == lead else at + view.low[d]
        inside = (at >= 0) & (at < cells.size[d])
        lines.append(np.where(inside, cells.lines[d][np.where(inside, at, 0)], -1))
    first, second, third = lines[0][:, None, None], lines[1][:, None], lines[2]
    number = first * cells.apart[0] + second * cells.apart[1] + third * cells.apart[2]
    read = (first >= 0) & (second >= 0) & (third >= 0)
    taken = np.where(read, number, cells.count + UNIT).ravel()
    return np.append(taken, np.full(UNIT, cells.count + UNIT))


def wanted_chunks(cells: Cells) -> int:
    """How many times 16 neighbouring positions of an image are cut into cells for a strip."""
    taken = cell_table(cells)
    chunks = taken[: len(taken) // UNIT * UNIT].reshape(-1, UNIT)
    return int((chunks < cells.count).any(1).sum())


def zero_runs(cells: Cells, view: View, taken: ndarray, strips: int) -> ndarray:
    """(runs, 2): beginnings and bytes of the cells that some strip does not fill."""
    lead = cells.lead
    last_low = view.low[lead] - (strips - 1) * cells.strip * view.x_step[lead]
    begin, end = max(view.low[lead], 0), min(view.source[lead] + last_low, cells.size[lead])
    inner = math.prod(view.source[lead + 1 :])
    filled = taken[begin * inner : max(begin, end) * inner]
    filled = filled[filled < cells.count]
    empty = np.ones(cells.count + UNIT + 2, np.int8)
    empty[-1] = 0
    empty[(filled[:, None] + np.arange(cells.images)).ravel()] = 0
    edges = np.flatnonzero(np.diff(empty, prepend=0))
    starts, ends = edges[::2], edges[1::2]
    return np.stack([starts, ends - starts], 1) * CELL


def phase_records(
    cells: Cells, taps: int, held: int, tables: Tables
) -> tuple[ndarray, ndarray, int]:
    """The phases' records, whose tables are added; (images, positions of a strip of the result) the
    place of each among the sums; and the place of a row of zeros.
    """
    view, lead = cells.view, cells.lead
    target = list(view.target)
    target[lead] = cells.strip * view.y_step[lead]
    places = np.full((cells.images, *target), -1)
    records, sums = [], 0
    for phase in view.phases:
        starts = np.array(cells.tiles(phase), np.int64)
        terms = [
            (step * cells.step_size + cells.tap(place) * CELL, (step * taps + number) * PANEL)
            for step, (place, number) in itertools.product(range(held), phase.taps)
        ]
        pairs = np.append(starts, starts[-1:] if len(starts) % 2 else starts[:0]) * CELL
        records.append(
            (len(phase.taps), tables.add(np.array(terms), "i8"), len(pairs) // 2,
             tables.add(pairs, "i8"), sums)
        )  # fmt: skip
        if phase.taps:
            columns = np.arange(phase.counts[2])[:, None] * cells.images + np.arange(cells.images)
            own = cells.rows(phase)[:, :, None, None] + columns  # (d, h, w, images)
            tile = np.searchsorted(starts, own, "right") - 1
            where = sums + tile * (UNIT * ROW) + (own - starts[tile]) * ROW
            to = [
                slice(first, first + count * step, step)
                for first, count, step in zip(phase.start, own.shape, view.y_step, strict=False)
            ]
            places[(slice(None), *to)] = np.moveaxis(where, 3, 0)
        sums += len(pairs) // 2 * SUMS
    flat = np.where(places < 0, sums, places).reshape(cells.images, -1)
    return np.array(records), np.pad(flat, ((0, 0), (0, UNIT)), constant_values=sums), sums


def ready_chunks(places: ndarray, zero_row: int) -> ndarray:
    """After each pair of tiles: how many chunks of 16 positions have all their sums."""
    pair = np.where(places < zero_row, places // SUMS, -1).max(0)
    pair = np.append(pair, np.full(-len(pair) % UNIT, -1)).reshape(-1, UNIT).max(1)
    return np.searchsorted(np.maximum.accumulate(pair), np.arange(zero_row // SUMS), "right")
