"""Kernels over a range of items: a few loops in IR, compiled once, launched in tiles. Imports
launch, the IR and its renderer.

A kernel's parameters are arrays, then numbers, then the range of items it does; the numbers, sizes
among them, are given at each launch. Work is split by its size alone, so results are the same bits
for any number of threads.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from numpy import ndarray

from ..ir.linearize import linearize
from ..ir.node import Node, loop_range, parameter, program
from ..ir.render_llvm import TYPES, attributes, render_llvm
from ..ir.simplify import simplify
from ..native import runtime
from ..native.launch import launch

PACKED = {"i64": "q", "f64": "d", "f32": "f4x"}  # a number's eight bytes in a job
TILE = 1 << 14  # elements at least in a tile
MOST_TILES = 48
SHORT = 256  # elements of an item that is done one vector at a time
LINE = 64  # elements, of whatever type, that fill cache lines
MOST_JOBS = 1024  # that a kernel keeps

Body = Callable[[list[Node], list[Node], Node, Node], Sequence[Node]]


class Kernel:
    """A compiled loop nest. `body(pointers, numbers, start, stop)` gives its statements.

    arrays   the element types of its arrays
    numbers  the types of its numbers
    """

    def __init__(
        self, name: str, arrays: Sequence[str], numbers: Sequence[str], body: Body
    ) -> None:
        signature = [*(f"*{dtype}" for dtype in arrays), *numbers, "i64", "i64"]
        nodes = [parameter(i, dtype) for i, dtype in enumerate(signature)]
        count = len(arrays)
        statements = body(nodes[:count], nodes[count:-2], nodes[-2], nodes[-1])
        flat = linearize(simplify(program(name, signature, *statements)))
        width = 8 * runtime.host().bytes
        self.text = render_llvm(flat, width) + tile_function(name, signature, width)
        self.address = runtime.load(self.text).address("tile")
        self.short: int | None = None
        self.floats = any(dtype != "i64" for dtype in numbers)
        packed = "".join(PACKED[dtype] for dtype in numbers)
        self.job = struct.Struct(f"<{8 * count}x{packed}qq").pack
        self.jobs: dict[tuple, tuple[bytes, int]] = {}

    def __call__(
        self, arrays: Sequence[ndarray], numbers: Sequence[float], items: int, elements: int
    ) -> None:
        """Does all items; `elements` of work are in each. The jobs of calls by sizes are kept."""
        if self.floats:
            launch(self.at(elements), *self.prepare(numbers, items, elements), *arrays)
            return
        key = (*numbers, items, elements)
        found = self.jobs.get(key)
        if found is None:
            found = self.prepare(numbers, items, elements)
            if len(self.jobs) < MOST_JOBS:
                self.jobs[key] = found
        launch(self.at(elements), *found, *arrays)

    def at(self, elements: int) -> int:
        """Where the code is for items of so many elements. In that for short ones, inner loops do
        one vector at a time and not several, which leaves less to be done by single numbers.
        """
        if elements == 1 or elements >= SHORT:
            return self.address
        if self.short is None:
            self.short = runtime.load(self.text, interleave=False).address("tile")
        return self.short

    def prepare(self, numbers: Sequence[float], items: int, elements: int) -> tuple[bytes, int]:
        """The job, and its number of tiles."""
        chunk = chunk_of(items, elements)
        return self.job(*numbers, items, chunk), -(-items // chunk)


def chunk_of(items: int, elements: int) -> int:
    """How many items a tile has, by their number and the elements in each; single elements come in
    whole cache lines.
    """
    least, share = max(TILE // max(elements, 1), 1), -(-items // MOST_TILES)
    return max(least, share if elements > 1 else share + -share % LINE)


def tile_function(name: str, signature: Sequence[str], width: int) -> str:
    """The text of `tile(job, tile, workspace)`: reads the job and does its share of the items. Made
    for vectors of `width` bits, as the kernel that may be inlined in it.
    """
    lines = [f"define void @tile(ptr %job, i64 %tile, ptr %workspace){attributes(width)} {{"]
    kinds = ["ptr" if dtype[0] == "*" else TYPES[dtype] for dtype in signature]
    for i, kind in enumerate(kinds):
        lines.append(f"  %a{i} = getelementptr i8, ptr %job, i64 {8 * i}")
        lines.append(f"  %v{i} = load {kind}, ptr %a{i}")
    total, chunk = len(kinds) - 2, len(kinds) - 1
    arguments = [f"{kind} %v{i}" for i, kind in enumerate(kinds[:-2])]
    lines += [
        f"  %start = mul i64 %tile, %v{chunk}",
        f"  %end = add i64 %start, %v{chunk}",
        f"  %over = icmp slt i64 %end, %v{total}",
        f"  %stop = select i1 %over, i64 %end, i64 %v{total}",
        f'  call void @"{name}"({", ".join([*arguments, "i64 %start", "i64 %stop"])})',
        "  ret void",
        "}",
    ]
    return "\n".join(lines) + "\n"


class Loops:
    """Numbered loops of one kernel."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, start: Node | int, stop: Node | int, kind: str = "serial") -> Node:
        """A new counter from `start` to `stop` - 1."""
        self.count += 1
        return loop_range(start, stop, self.count - 1, kind)

    def vector(self, stop: Node | int) -> Node:
        """A new counter from 0 that runs as SIMD lanes."""
        return self(0, stop, "vector")
