"""How a convolution is laid out for its kernels: views, tables of offsets, tiles. Imports stages.

A `View` says in one form what the forward pass and the gradient of the input have in common: a
framed source that a set of taps moves over, and where results go. The gradient of the input has one
phase per residue of the stride, each a convolution of step 1 with some of the taps.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..native.stages import Layout

Three = tuple[int, int, int]
WORKSPACE = 1 << 20  # bytes of the copy that a thread works on: half of its second-level cache
TILE_WORK = 4_000_000  # floating-point operations that are worth a tile of their own
TILES = 8  # that work is divided into, where it is worth it
# Lines of positions, for kernels of one tap: numbers of all channels, positions at least, and
# channels from which a copy of them is worth it.
LINE_NUMBERS, SHORTEST_LINE, MANY_CHANNELS = 1 << 15, 112, 48


class Problem(NamedTuple):
    """A convolution of (N, C, *size) and (O, C / groups, *kernel) to (N, O, *out), in three
    dimensions.
    """

    images: int
    channels: int
    outputs: int
    groups: int
    size: Three
    kernel: Three
    out: Three
    stride: Three
    padding: Three
    dilation: Three

    @property
    def depthwise(self) -> bool:
        """Whether each output channel is of one input channel of its own."""
        return self.channels == self.outputs == self.groups > 3

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        positions = self.images * math.prod(self.out) * math.prod(self.kernel)
        return 2 * positions * self.outputs * self.channels // self.groups


class Phase(NamedTuple):
    """Positions that use the same taps: how many along each dimension, where the first and the
    next lie in the result, and per tap its offset in the frame and its number in the kernel.
    """

    counts: Three
    start: Three
    taps: tuple[tuple[Three, int], ...]


class View(NamedTuple):
    """One direction of a convolution.

    source     sizes of the image that is read, `channels` of it per group
    low        where the source begins in the frame (negative: it is cropped)
    frame      sizes of the frame, which holds all that the taps read
    x_step     between neighbouring positions in the frame
    target     sizes of the result, `outputs` channels of it per group
    y_step     between neighbouring positions of a phase in the result
    deep       a depthwise convolution: `outputs` are all channels, each of one input channel
    copied     the source is copied, row by row, even if it is the frame
    """

    channels: int
    outputs: int
    source: Three
    low: Three
    frame: Three
    x_step: Three
    target: Three
    y_step: Three
    phases: tuple[Phase, ...]
    deep: bool = False
    copied: bool = False

    @property
    def framed(self) -> bool:
        """Whether the frame is more than a part of the source, or must be laid out anew."""
        return (
            self.deep
            or self.copied
            or any(self.low)
            or any(f > s for f, s in zip(self.frame, self.source, strict=True))
        )


def plain(layout: Layout) -> bool:
    """Whether the array is contiguous, the last dimension first."""
    step = 1
    for n, stride in zip(reversed(layout.shape), reversed(layout.strides), strict=True):
        if n != 1 and stride != step:
            return False
        step *= n
    return True


def words(names: tuple[str, ...], values: dict[str, int]) -> bytes:
    """A record of fields of 8 bytes; those that are not given are 0."""
    return struct.pack(f"<{len(names)}q", *[values.get(name, 0) for name in names])


def pointers(
    names: tuple[str, ...], operands: dict[str, int], start: int = 0
) -> tuple[tuple[int, int], ...]:
    """Where in a record that begins at byte `start` the addresses of operands go."""
    return tuple((start + 8 * names.index(name), number) for name, number in operands.items())


def three(values: tuple[int, ...], fill: int) -> Three:
    """Sizes of one to three dimensions as those of three."""
    a, b, c = (fill,) * (3 - len(values)) + tuple(values)
    return a, b, c


def pointwise(p: Problem, channels: int) -> tuple[Problem, bool]:
    """A convolution that looks at single positions of so many channels, as one over lines of them;
    and whether lines are to be copied. Read where they lie, many channels would mean as many pages
    of memory for every register tile.
    """
    if math.prod(p.kernel) != 1 or any(p.padding):
        return p, False
    if p.size != p.out:
        return p, channels >= MANY_CHANNELS
    total = math.prod(p.size)
    most = max(LINE_NUMBERS // channels, SHORTEST_LINE)
    length = max(n for n in range(1, min(total, most) + 1) if total % n == 0)
    copied = channels >= MANY_CHANNELS and (length >= SHORTEST_LINE // 2 or length == total)
    line = (1, total // length, length) if copied else (1, 1, total)
    return p._replace(size=line, out=line), copied


def forward_view(p: Problem) -> View:
    """The result from the image."""
    reach = [(o - 1) * s + d * (k - 1) + 1
             for o, s, d, k in zip(p.out, p.stride, p.dilation, p.kernel, strict=True)]  # fmt: skip
    places = itertools.product(*[
        [k * d for k in range(n)] for n, d in zip(p.kernel, p.dilation, strict=True)
    ])  # fmt: skip
    taps = tuple((three(place, 0), number) for number, place in enumerate(places))
    phase = Phase(p.out, (0, 0, 0), taps)
    return View(
        p.channels // p.groups, p.outputs // p.groups, p.size, p.padding, three(tuple(reach), 1),
        p.stride, p.out, (1, 1, 1), (phase,),
    )  # fmt: skip


def residues(size: int, kernel: int, stride: int, padding: int, dilation: int) -> list:
    """Per residue of the stride: how many positions of the image have it, the first, and the taps
    that reach them as (offset in the result, number).
    """
    found = []
    for first in range(min(stride, size)):
        taps = [
            ((first + padding - k * dilation) // stride, k)
            for k in range(kernel)
            if (first + padding - k * dilation) % stride == 0
        ]
        found.append((-(-(size - first) // stride), first, taps))
    return found


def input_view(p: Problem) -> View:
    """The gradient of the image from that of the result."""
    each = [
        residues(*args)
        for args in zip(p.size, p.kernel, p.stride, p.padding, p.dilation, strict=True)
    ]
    offsets = [[offset for *_, taps in dim for offset, _ in taps] or [0] for dim in each]
    low = [-min(dim) for dim in offsets]
    counts = [max(count for count, *_ in dim) for dim in each]
    frame = [c + at + max(dim) for c, at, dim in zip(counts, low, offsets, strict=True)]
    phases = []
    for residue in itertools.product(*each):
        taps = []
        for chosen in itertools.product(*[taps for *_, taps in residue]):
            place = [offset + at for (offset, _), at in zip(chosen, low, strict=True)]
            (_, d), (_, h), (_, w) = chosen
            taps.append((three(tuple(place), 0), (d * p.kernel[1] + h) * p.kernel[2] + w))
        phases.append(
            Phase(three(tuple(r[0] for r in residue), 1), three(tuple(r[1] for r in residue), 0),
                  tuple(taps))
        )  # fmt: skip
    return View(
        p.outputs // p.groups, p.channels // p.groups, p.out, three(tuple(low), 0),
        three(tuple(frame), 1), (1, 1, 1), p.size, p.stride, tuple(phases),
    )  # fmt: skip


# -- the register tile -------------------------------------------------------------------------


class Sizes(NamedTuple):
    """What a machine offers: lanes of a vector, vector registers, bytes of a number."""

    lanes: int
    registers: int
    size: int


def cycles(positions: int, vectors: int) -> float:
    """About how long one tap of a register tile takes: multiply-adds, loads, or the time until the
    next sum may be added; and what loads of the weights from the second-level cache cost.
    """
    work = positions * vectors
    return max(work / 2, (positions + vectors + 2) / 2, 4) + 0.5 + vectors


def register_tile(widths: list[int], rows: int, outputs: int, sizes: Sizes) -> Three:
    """Columns, rows and vectors of the register tile that computes rows of the given widths in
    the shortest time.
    """
    best: tuple[float, Three] = (math.inf, (1, 1, 1))
    for vectors in range(1, min(4, -(-outputs // sizes.lanes)) + 1):
        most = max((sizes.registers - vectors - 2) // vectors, 1)
        blocks = -(-outputs // (vectors * sizes.lanes))
        for columns in range(1, min(most, max(widths)) + 1):
            high = min(most // columns, rows, 7) if columns >= max(widths) else 1
            for n in range(1, high + 1):
                tiles = sum(-(-w // columns) for w in widths) * (-(-rows // n))
                time = blocks * tiles * cycles(columns * n, vectors)
                if time < best[0] * 0.999:
                    best = (time, (columns, n, vectors))
    return best[1]


def uneven(tiles: int) -> float:
    """What share of the time a few threads wait for the last tiles."""
    return -(-tiles // 4) * 4 / tiles - 1


# -- tiles of the work -------------------------------------------------------------------------


class Division(NamedTuple):
    """How work is divided into tiles: images, groups and blocks of channels per tile, and steps
    along the first dimension; `strip_dim` is -1 where images stay whole.
    """

    images: int
    groups: int
    blocks: int
    strip: int
    strip_dim: int
    tiles: int


def strip_length(view: View, dim: int, strip: int) -> int:
    """How much of the frame a strip of positions needs along its dimension."""
    whole = max(phase.counts[dim] for phase in view.phases)
    return view.frame[dim] - (whole - strip) * view.x_step[dim]


def candidates(p: Problem, view: View, size: int, blocks: int) -> Iterator[Division]:
    """Divisions whose copies fit the workspace; where none can, the finest one."""
    dim = next((d for d in (0, 1) if view.target[d] > 1), -1)
    whole = max(phase.counts[dim] for phase in view.phases) if dim >= 0 else 1
    rest = math.prod(n for d, n in enumerate(view.frame) if d != dim)
    if dim < 0:
        rest = math.prod(view.frame)
    halves = (
        {1} if view.copied and p.size == p.out else {-(-whole // n) for n in range(1, whole + 1)}
    )
    for strip in sorted(halves, reverse=True):
        length = strip_length(view, dim, strip) if dim >= 0 else 1
        held = view.channels * length * rest * size
        fits = held <= WORKSPACE or not view.framed
        if not fits and strip > 1:
            continue
        most = p.images if strip == whole else 1
        if view.framed:
            most = min(most, max(WORKSPACE // held, 1))
        most = min(most, max(1024 // max(whole, 1), 1))  # the table of rows stays small
        for images in {-(-p.images // n) for n in range(1, p.images + 1)}:
            if images > most:
                continue
            pieces = -(-p.images // images) * -(-whole // strip)
            for each in {-(-blocks // n) for n in range(1, blocks + 1)}:
                for groups in {-(-p.groups // n) for n in range(1, min(p.groups, 64) + 1)}:
                    tiles = pieces * -(-blocks // each) * -(-p.groups // groups)
                    yield Division(images, groups, each, strip, dim if strip < whole else -1, tiles)


def divide(p: Problem, view: View, size: int, blocks: int, weight_bytes: int) -> Division:
    """The division with the least memory traffic among those with enough tiles."""
    wanted = max(min(p.flops // TILE_WORK, TILES), 1)

    def cost(d: Division) -> tuple[bool, float]:
        block_groups = -(-blocks // d.blocks)
        rows = -(-max(phase.counts[d.strip_dim] for phase in view.phases) // d.strip) if (
            d.strip_dim >= 0) else 1  # fmt: skip
        frame = math.prod(view.frame) * (
            rows * strip_length(view, d.strip_dim, d.strip) / view.frame[d.strip_dim]
            if d.strip_dim >= 0
            else 1
        )
        copied = p.images * view.channels * p.groups * frame * size * block_groups
        weights = weight_bytes * -(-p.images // d.images) * rows
        traffic = 2 * copied * view.framed + weights
        return d.tiles < wanted, traffic / 10 + p.flops / 64 * uneven(d.tiles) + d.tiles * 500

    return min(candidates(p, view, size, blocks), key=cost)
