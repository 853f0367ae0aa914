"""What lowering makes of a graph: buffers, and the kernels that fill them, in order. Imports ir and
stages.

`lower` writes a KernelList and `program` makes one native program of it. A buffer is contiguous
memory of one shape; views of a value that move no element are the same buffer. Buffers are told
apart by identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ...errors import check
from ...random import Generator
from ..ir import node as ir
from ..native.stages import Call

# Where a buffer's memory comes from: the caller (argument, state, number), the program for good
# (constant), a new array per call (output), the program's arena (temporary), or the running
# thread's scratch, whose content no other tile sees (workspace).
ROLES = ("argument", "state", "number", "constant", "output", "temporary", "workspace")
INPUTS = ("argument", "state", "number")


@dataclass(eq=False)
class Buffer:
    """Contiguous memory for one array; `data` is a constant's array, `number` is for people."""

    role: str
    shape: tuple[int, ...]
    dtype: np.dtype
    number: int
    data: ndarray | None = None

    def __post_init__(self) -> None:
        self.dtype = np.dtype(self.dtype)
        check(self.role in ROLES, lambda: f"[kernels] a buffer has no role {self.role!r}")
        given = self.role == "constant"
        check(given == (self.data is not None), f"[kernels] {self!r}: constants have data")

    @property
    def size(self) -> int:
        """Its bytes."""
        return prod(self.shape) * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"{self.role} {self.number}: {self.dtype.name}{list(self.shape)}"


class Slice(NamedTuple):
    """A buffer's memory from so many bytes on: where a view begins."""

    buffer: Buffer
    offset: int


@dataclass(frozen=True)
class Generated:
    """A kernel in IR. Its parameters are the operands' pointers, in order, then the i64s `begin`
    and `end`: it does that part of its `extent` outermost iterations. A program runs it in `tiles`
    parts of whole multiples of `grain` iterations.
    """

    program: ir.Node
    operands: tuple[Buffer, ...]
    extent: int
    tiles: int = 1
    grain: int = 1


@dataclass(frozen=True)
class Epilogue:
    """What a product or convolution does to finished parts of its output, in IR. Its parameters
    are the operands' pointers, then the i64s batch, row0, row1, col0, col1.
    """

    program: ir.Node
    operands: tuple[Buffer, ...]


@dataclass(frozen=True)
class Library:
    """Calls of a template on buffers and parts of them. With an epilogue, `calls` were made with
    `epilogue=True`, and the two operand numbers after the last of `operands` are the epilogue and
    its job.
    """

    calls: tuple[Call, ...]
    operands: tuple[Buffer | Slice, ...]
    epilogue: Epilogue | None = None


@dataclass(frozen=True)
class Host:
    """A Python function between two native parts: it is called with the arrays of `reads` and
    returns the array (a tuple for several) that `writes` are to hold.
    """

    function: Callable[..., Any]
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]


@dataclass(frozen=True)
class Kernel:
    """One stage of a program (a Library: one per call).

    name       for people
    operators  names of the operators that were fused into it
    reads      buffers whose content it needs
    writes     buffers it fills completely, unless they are in `reads` too
    in_place   (read, written) pairs of equal type and size that may be the same memory: the element
               of one is read before, and only where, that of the other is written
    check      whether the program stops if what it writes to its first operand is not 0
    draws      the random generator that it takes numbers from
    """

    name: str
    operators: tuple[str, ...]
    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]
    work: Generated | Library | Host
    in_place: tuple[tuple[Buffer, Buffer], ...] = ()
    check: bool = False
    draws: Generator | None = None


@dataclass
class KernelList:
    """A lowered graph.

    inputs   in the order of the graph's: arguments, states, numbers; None for a constant
    outputs  what the call returns; any buffers, one may be there twice
    writes   (argument or state, buffer): at the end that memory gets the buffer's content. The
             program does so in place where no kernel needs the old content later
    """

    name: str
    inputs: tuple[Buffer | None, ...]
    kernels: list[Kernel]
    outputs: tuple[Buffer, ...]
    writes: tuple[tuple[Buffer, Buffer], ...] = ()
    lines: list[str] = field(default_factory=list)  # the graph as text, for explanations

    def verify(self) -> None:
        """Raises RuntimeError unless each buffer is filled before it is read."""
        filled = {b for b in self.inputs if b is not None}

        def use(buffer: Buffer, where: str) -> None:
            ready = buffer in filled or buffer.role in ("constant", "workspace")
            check(ready, lambda: f"[kernels] {where} reads {buffer!r} before it is filled")

        for kernel in self.kernels:
            for buffer in kernel.reads:
                use(buffer, kernel.name)
            for buffer in kernel.writes:
                fresh = buffer.role not in (*INPUTS, "constant") or buffer in kernel.reads
                check(fresh, lambda: f"[kernels] {kernel.name} overwrites {buffer!r}")
            filled.update(kernel.writes)
            for read, written in kernel.in_place:
                same = read.size == written.size and read.dtype == written.dtype
                check(same, lambda: f"[kernels] {read!r} has no room for {written!r}")
        for buffer in (*self.outputs, *(value for _, value in self.writes)):
            use(buffer, "the end")
