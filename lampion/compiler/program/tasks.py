"""From placed kernels to the stages of a program: what each calls, and what is in its job. Imports
assemble, placement and earlier files.

Kernels of one tile that follow one another are one stage; what only such a stage touches lies on
its stack, where LLVM can keep it in registers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from ..lower.kernels import Buffer, Generated, Host, Kernel, KernelList, Library, Slice
from ..native.stages import LINE
from .assemble import Assembly, Part, Place
from .placement import Placement

SMALL = 4096  # bytes of a temporary that may be on the stack of the stage that makes and uses it
STACK = 1 << 16  # bytes of such temporaries in a stage
ROW = 128  # kernels in a stage, at most: compile time grows faster than their number


Pointer = tuple[int, Buffer, int]


@dataclass
class Task:
    """One stage.

    kernels    what it does
    function   its name in the assembly, or its address
    job        what it reads; addresses are missing
    pointers   (byte offset in the job, buffer, bytes from its beginning): which addresses go where
    epilogue   the name of the epilogue, if it has one
    hooks      byte offsets in the job for the epilogue's address, for its job's, and its job
    check      whether it can stop the program (see stages.Call)
    """

    kernels: tuple[Kernel, ...]
    function: str | int
    job: bytes
    tiles: int
    pointers: tuple[Pointer, ...]
    name: str
    epilogue: str = ""
    hooks: tuple[tuple[int, ...], tuple[int, ...], int] = ((), (), 0)
    check: bool = False


class Planner:
    """Makes the tasks of a kernel list; the code they need is collected in `assembly`."""

    def __init__(self, listed: KernelList, placement: Placement) -> None:
        self.listed, self.placement = listed, placement
        self.assembly = Assembly()

    def tasks(self) -> Iterator[Task | Host]:
        """Stages and host functions, in order."""
        numbered = enumerate(self.listed.kernels)
        for small, group in groupby(numbered, lambda pair: is_small(pair[1])):
            listed = list(group)
            if small:
                for start in range(0, len(listed), ROW):
                    yield self.row(listed[start : start + ROW])
                continue
            for _, kernel in listed:
                if isinstance(kernel.work, Host):
                    yield kernel.work
                elif isinstance(kernel.work, Library):
                    yield from self.library(kernel, kernel.work)
                elif kernel.work.extent > 0:
                    yield self.tiled(kernel, kernel.work)

    def slots(self, operands: tuple[Buffer, ...]) -> list[Buffer]:
        """The memory of each operand."""
        return [self.placement.memory(operand) for operand in operands]

    def tiled(self, kernel: Kernel, work: Generated) -> Task:
        """A kernel as a stage of its own; equal kernels share a function."""
        number, memories = self.assembly.kernel(work.program, self.slots(work.operands))
        places, addresses = number_places(memories)
        function = self.assembly.stage((Part(number, places, None),))
        piece = -(-work.extent // max(work.tiles, 1))
        piece += -piece % work.grain
        pointers = in_order(addresses)
        job = bytes(8 * len(addresses)) + struct.pack("<2q", work.extent, piece)
        tiles = -(-work.extent // piece)
        return Task((kernel,), function, job, tiles, pointers, kernel.name, check=kernel.check)

    def row(self, numbered: list[tuple[int, Kernel]]) -> Task:
        """Small kernels as one stage."""
        if len(numbered) == 1:
            kernel = numbered[0][1]
            assert isinstance(kernel.work, Generated)
            return self.tiled(kernel, kernel.work)
        span = numbered[0][0], numbered[-1][0]
        found: dict[Buffer, Place] = {}
        addresses: list[Buffer] = []
        stack = 0
        parts = []
        for _, kernel in numbered:
            work = kernel.work
            assert isinstance(work, Generated)
            number, memories = self.assembly.kernel(work.program, self.slots(work.operands))
            for memory in memories:
                if memory in found:
                    continue
                if self.is_local(memory, span) and stack + memory.size <= STACK:
                    found[memory] = Place("stack", stack, memory.size)
                    stack += memory.size + -memory.size % LINE
                elif memory.role != "workspace":
                    found[memory] = Place("job", len(addresses))
                    addresses.append(memory)
            scratch, _ = number_places(memories)
            places = (found.get(m, place) for m, place in zip(memories, scratch, strict=True))
            parts.append(Part(number, tuple(places), work.extent))
        pointers = in_order(addresses)
        kernels = tuple(kernel for _, kernel in numbered)
        name = f"{len(kernels)} small: {', '.join(kernel.name for kernel in kernels)}"
        function = self.assembly.stage(tuple(parts))
        return Task(kernels, function, bytes(8 * len(addresses)), 1, pointers, name)

    def is_local(self, memory: Buffer, span: tuple[int, int]) -> bool:
        """Whether only kernels from one number to another touch a temporary."""
        if memory not in self.placement.lives or memory.size > SMALL:
            return False
        first, last = self.placement.lives[memory]
        return span[0] <= first and last <= span[1]

    def library(self, kernel: Kernel, work: Library) -> Iterator[Task]:
        """The calls of a template; an epilogue's job lies behind the call's own."""
        parts = [x if isinstance(x, Slice) else Slice(x, 0) for x in work.operands]
        operands = [(self.placement.memory(buffer), offset) for buffer, offset in parts]
        name, tail, inner = "", b"", list[Buffer]()
        if work.epilogue is not None:
            finish = work.epilogue
            number, inner = self.assembly.kernel(finish.program, self.slots(finish.operands))
            name = self.assembly.epilogue(number, len(inner))
            tail = bytes(8 * len(inner))
        for call in work.calls:
            if call.tiles == 0:
                continue
            start = len(call.job) + -len(call.job) % LINE
            count = len(operands)
            pointers = tuple(
                (at, operands[n][0], operands[n][1] + sum(shift))
                for at, n, *shift in call.pointers
                if n < count
            )
            functions = tuple(at for at, n, *_ in call.pointers if n == count)
            jobs = tuple(at for at, n, *_ in call.pointers if n == count + 1)
            pointers += in_order(inner, start)
            job = call.job.ljust(start, b"\0") + tail
            yield Task(
                (kernel,), call.function, job, call.tiles, pointers,
                call.name or kernel.name, name, (functions, jobs, start),
            )  # fmt: skip


def in_order(addresses: list[Buffer], start: int = 0) -> tuple[Pointer, ...]:
    """The pointers of a job, or of the part from `start` on, that begins with these addresses."""
    return tuple((start + 8 * i, buffer, 0) for i, buffer in enumerate(addresses))


def is_small(kernel: Kernel) -> bool:
    """Whether a kernel is generated, runs in one tile, and need not be a stage of its own."""
    work = kernel.work
    return not kernel.check and isinstance(work, Generated) and work.tiles == 1 and work.extent > 0


def number_places(memories: list[Buffer]) -> tuple[tuple[Place, ...], list[Buffer]]:
    """Where a stage finds its operands, and those whose addresses are in its job, in order."""
    places: list[Place] = []
    addresses: list[Buffer] = []
    scratch = 0
    for memory in memories:
        if memory.role == "workspace":
            places.append(Place("workspace", scratch))
            scratch += memory.size + -memory.size % LINE
        else:
            places.append(Place("job", len(addresses)))
            addresses.append(memory)
    return tuple(places), addresses
