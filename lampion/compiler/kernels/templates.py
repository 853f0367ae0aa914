"""Templates called on arrays: the program of each combination of layouts is kept, and so is the
memory of its temporaries. Imports arena and stages.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from numpy import ndarray

from ..native.arena import ALIGNMENT, Arena, aligned_bytes
from ..native.stages import Call, encode, execute

SCRATCH: list[Arena] = []  # memory for temporaries that no call uses now
KEPT = 1  # of them


class Launch:
    """Calls of a template, ready to run on operands; `temporaries` are bytes and come after the
    operands that `run` gets.
    """

    def __init__(self, calls: Sequence[Call], temporaries: Sequence[int]) -> None:
        self.program = encode(calls).memory
        self.idle: list[ctypes.Array] = []  # programs in memory that no call uses now
        self.offsets: list[int] = []
        self.size = 0
        for size in temporaries:
            self.offsets.append(self.size)
            self.size += size + -size % ALIGNMENT

    def run(self, operands: Sequence[ndarray]) -> None:
        """Runs the calls on contiguous arrays."""
        addresses = [x.__array_interface__["data"][0] for x in operands]
        scratch = self.scratch() if self.size else None
        if scratch is not None:
            addresses += [scratch.address + offset for offset in self.offsets]
        try:
            program = self.idle.pop()
        except IndexError:
            program = aligned_bytes(len(self.program))
            program.raw = self.program
        execute(program, (ctypes.c_int64 * len(addresses))(*addresses))
        self.idle.append(program)
        if scratch is not None and len(SCRATCH) < KEPT:
            SCRATCH.append(scratch)

    def scratch(self) -> Arena:
        """Memory for the temporaries: what the call before used, if it is enough."""
        try:
            found = SCRATCH.pop()
        except IndexError:
            return Arena(self.size)
        return found if found.size >= self.size else Arena(self.size)
