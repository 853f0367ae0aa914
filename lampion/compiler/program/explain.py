"""What a program is made of and where its time goes, as text. Imports program.

`explain(program)` shows graph, kernels, memory and LLVM IR; `profile(program)` runs it and shows
the microseconds of every stage.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from ..lower.kernels import Buffer, Host
from ..native.stages import HEAD
from .program import Instance, Native, Program
from .tasks import Task


class Explanation(NamedTuple):
    """A program as text, in parts; printed, all but the LLVM IR."""

    graph: str
    kernels: str
    memory: str
    llvm: str

    def __str__(self) -> str:
        parts = ("graph", self.graph), ("kernels", self.kernels), ("memory", self.memory)
        return "\n\n".join(f"# {name}\n{text}" for name, text in parts)


def explain(program: Program) -> Explanation:
    """The graph, the stages with the operators in each, the plan of memory, and the LLVM IR."""
    kernels = "\n".join(stage_lines(program))
    graph = "\n".join(program.listed.lines)
    return Explanation(graph, kernels, memory_text(program), program.assembly.text())


def stage_lines(program: Program) -> list[str]:
    """A line per stage, and one per kernel in it."""
    lines = [str(program)]
    for number, task in enumerate(program.tasks):
        if isinstance(task, Host):
            lines.append(f"{number:4d}  on the host")
            kernels = [k for k in program.listed.kernels if k.work is task]
        else:
            where = task.function if isinstance(task.function, str) else "template"
            tiles = f"{task.tiles} tile{'s' if task.tiles > 1 else ''}"
            lines.append(f"{number:4d}  {where}, {tiles}")
            kernels = list(task.kernels)
        for kernel in kernels:
            reads, writes = (", ".join(map(brief, b)) for b in (kernel.reads, kernel.writes))
            operators = " ".join(kernel.operators) or "-"
            lines.append(f"        {kernel.name}: {operators} | {reads} -> {writes}")
    return lines


def brief(buffer: Buffer) -> str:
    """A buffer in a few characters."""
    sizes = "x".join(map(str, buffer.shape))
    return f"{buffer.role[0]}{buffer.number}:{buffer.dtype.name}[{sizes}]"


def memory_text(program: Program) -> str:
    """The arena, and where and how long each temporary is in it; what shares other memory."""
    placement = program.placement
    constants = sum(data.nbytes for data in program.constants.values())
    lines = [f"arena of {placement.size} bytes, constants of {constants} bytes"]
    for buffer, offset in sorted(placement.offsets.items(), key=lambda pair: pair[1]):
        first, last = placement.lives[buffer]
        span = f"{offset:10d} .. {offset + buffer.size:10d}"
        lines.append(f"{span}  kernels {first} to {last}  {brief(buffer)}")
    for buffer, root in placement.root.items():
        lines.append(f"{brief(buffer)} in the memory of {brief(root)}")
    lines += [f"{brief(source)} is copied to {brief(to)}" for source, to in placement.copies]
    return "\n".join(lines)


class Row(NamedTuple):
    """A stage's name, its tiles (0: on the host), and the microseconds it took at best."""

    name: str
    tiles: int
    microseconds: float


class Profile(NamedTuple):
    """The stages of a program in order; printed, the slowest first."""

    rows: tuple[Row, ...]

    @property
    def total(self) -> float:
        """Microseconds of all stages."""
        return sum(row.microseconds for row in self.rows)

    def __str__(self) -> str:
        lines = [f"{self.total:10.1f} us in {len(self.rows)} stages"]
        for row in sorted(self.rows, key=lambda row: -row.microseconds):
            share = 100 * row.microseconds / max(self.total, 1e-9)
            where = f"{row.tiles:3d} tiles" if row.tiles else "     host"
            lines.append(f"{row.microseconds:10.1f} us {share:5.1f} % {where}  {row.name}")
        return "\n".join(lines)


def profile(
    program: Program, inputs: Sequence[ndarray] | None = None, repeats: int = 20
) -> Profile:
    """Runs a program on copies of inputs, by default on made-up ones, and takes each stage's best
    time.
    """
    instance, best = program.take(), np.full(len(program.tasks), np.inf)
    given = made_up(program)
    if inputs is not None:
        given = [array for array, used in zip(inputs, program.used, strict=True) if used]
    clocks = [attach(part) if isinstance(part, Native) else None for part in instance.parts]
    try:
        for _ in range(repeats):
            arrays = [array.copy() for array in given]
            best = np.minimum(best, timed_run(instance, arrays, clocks))
    finally:
        for part in instance.parts:
            if isinstance(part, Native):
                point_times(part, 0)
        program.idle.append(instance)
    rows = zip(program.tasks, best, strict=True)
    return Profile(tuple(Row(*named(program, task), float(us)) for task, us in rows))


def named(program: Program, task: Task | Host) -> tuple[str, int]:
    """A stage's name and tiles."""
    if isinstance(task, Task):
        return task.name, task.tiles
    return next(k.name for k in program.listed.kernels if k.work is task), 0


def made_up(program: Program) -> list[ndarray]:
    """Inputs to measure with: small numbers, zeros for integers, which may be indices."""
    rng = np.random.default_rng(0)
    arrays = []
    for buffer in program.inputs:
        if buffer.dtype.kind in "fV":
            values = rng.standard_normal(buffer.shape) * 0.1
        else:
            values = np.zeros(buffer.shape)
        arrays.append(np.asarray(values).astype(buffer.dtype))
    return arrays


def attach(part: Native) -> ctypes.Array:
    """Room for the times that a row of stages begins and ends at."""
    times = (ctypes.c_int64 * (len(part.tasks) + 1))()
    point_times(part, ctypes.addressof(times))
    return times


def point_times(part: Native, address: int) -> None:
    """Says where the driver notes times."""
    place = ctypes.addressof(part.memory) + 8 * HEAD.index("times")
    ctypes.c_int64.from_address(place).value = address


def timed_run(
    instance: Instance, arrays: list[ndarray], clocks: Sequence[ctypes.Array | None]
) -> ndarray:
    """Runs once; the microseconds of each stage."""
    found: list[float] = []
    given = instance.begin(arrays, instance.program.new_outputs())
    for part, clock in zip(instance.parts, clocks, strict=True):
        start = time.perf_counter()
        instance.run_part(part, given)
        if clock is None:
            found.append(1e6 * (time.perf_counter() - start))
        else:
            found += list(np.diff(np.array(clock)) / 1e3)
    return np.array(found)
