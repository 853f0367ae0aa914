"""A lowered graph as one native program. Imports tasks, placement, stages and earlier files.

A run is one native call for each row of stages between two host functions. What does not change
from call to call is in the jobs when the program is built; a call fills in the addresses of inputs
and outputs.
"""

from __future__ import annotations

import ctypes
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import Any, NamedTuple
from weakref import ref

import numpy as np
from numpy import ndarray

from ...random import Generator
from ..lower.kernels import Buffer, Host, Kernel, KernelList, Library
from ..lower.pipeline import lower
from ..native import stages
from ..native.arena import Arena, aligned_bytes
from ..native.entry import DATA, readable
from ..native.stages import Call, CheckFailed
from ..trace.graph import Graph
from .placement import Placement, place
from .tasks import Planner, Task

Spans = tuple[list[int], list[int]]  # where memory begins and ends, in order
word = ctypes.c_int64.from_address


class Native(NamedTuple):
    """A row of stages in memory, ready to run, and the random generators that they use."""

    memory: ctypes.Array
    tasks: tuple[Task, ...]
    draws: tuple[Generator, ...] = ()


class Mark(NamedTuple):
    """Where a random generator was."""

    generator: Generator
    state: Any
    next_normal: float | None

    @classmethod
    def of(cls, generator: Generator) -> Mark:
        """Where it is now."""
        with generator._engine.lock:
            return cls(generator, generator._engine.state, generator.next_normal)

    def rewind(self) -> None:
        """Puts the generator back there."""
        with self.generator._engine.lock:
            self.generator._engine.state = self.state
            self.generator.next_normal = self.next_normal


def generators(kernels: Iterable[Kernel]) -> tuple[Generator, ...]:
    """The random generators of some kernels, in one order for all programs: that of their locks."""
    found = dict.fromkeys(kernel.draws for kernel in kernels if kernel.draws is not None)
    return tuple(sorted(found, key=id))


class Instance:
    """A program's memory: arena, jobs, and the addresses of operands. One call runs in it at a
    time.

    known  states that were here at the call before; they are not kept alive
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.arena = Arena(program.placement.size)
        self.operands = (ctypes.c_int64 * (len(program.moving) + 1))()  # the last is nobody's
        self.known: list[Callable[[], ndarray | None]] = [nothing] * len(program.inputs)
        self.spans: Spans = ([], [])
        self.arrays: dict[Buffer, ndarray] = {}  # what host functions see
        for buffer, offset in program.placement.offsets.items():
            self.arrays[buffer] = self.arena.view(offset, buffer.shape, buffer.dtype)
        for buffer, data in program.constants.items():
            self.arrays[buffer] = data
        self.parts: list[Native | Host] = []
        for hosted, group in groupby(program.tasks, lambda task: isinstance(task, Host)):
            if hosted:
                self.parts += [task for task in group if isinstance(task, Host)]
            else:
                self.parts.append(self.native([t for t in group if isinstance(t, Task)]))

    def native(self, tasks: list[Task]) -> Native:
        """Encodes a row of stages, with the addresses that never change."""
        encoded = stages.encode([self.call(task) for task in tasks])
        memory = aligned_bytes(len(encoded.memory))
        ctypes.memmove(memory, encoded.memory, len(encoded.memory))
        start = ctypes.addressof(memory)
        for task, job in zip(tasks, encoded.jobs, strict=True):
            _, places, inner = task.hooks
            for at in places:
                struct.pack_into("<q", memory, job + at, start + job + inner)
        return Native(memory, tuple(tasks), generators(k for task in tasks for k in task.kernels))

    def call(self, task: Task) -> Call:
        """A stage whose job has the addresses that never change."""
        job, pointers = bytearray(task.job), []
        for at, buffer, shift in task.pointers:
            if buffer in self.arrays:
                struct.pack_into("<q", job, at, self.arrays[buffer].ctypes.data + shift)
            else:
                pointers.append((at, self.program.moving[buffer], shift))
        for at in task.hooks[0]:
            struct.pack_into("<q", job, at, self.program.code.address(task.epilogue))
        function = task.function
        if isinstance(function, str):
            function = self.program.code.address(function)
        return Call(function, bytes(job), task.tiles, tuple(pointers), task.name, task.check)

    def begin(self, originals: Sequence[ndarray], outputs: list[ndarray]) -> list[ndarray]:
        """Notes where inputs and outputs are; gives the arrays that stand for them. A state that is
        the same array as at the call before needs no second look.
        """
        program = self.program
        arrays = list(originals)
        new = [i for i, array in enumerate(originals) if array is not self.known[i]()]
        for i in new:
            arrays[i] = fit(originals[i], program.inputs[i])
        if any(program.is_written[i] for i in new):
            self.spans = spans_of([a for a, w in zip(arrays, program.is_written) if w])
            new = list(range(len(arrays)))
        for i in new:
            if not program.is_written[i] and overlaps(arrays[i], self.spans):
                arrays[i] = arrays[i].copy()
            self.operands[i] = address(arrays[i])
            lasting = program.inputs[i].role == "state" and arrays[i] is originals[i]
            self.known[i] = ref(arrays[i]) if lasting else nothing
        for i, array in enumerate(outputs, len(arrays)):
            self.operands[i] = address(array)
        return arrays + outputs

    def run_part(self, part: Native | Host, given: list[ndarray]) -> None:
        """Runs a row of stages or a host function."""
        if isinstance(part, Host):
            self.host(part, given)
            return
        with ExitStack() as held:
            for generator in part.draws:
                held.enter_context(generator._engine.lock)
            stages.execute(part.memory, self.operands)

    def host(self, work: Host, given: list[ndarray]) -> None:
        """Calls a host function; raises CheckFailed if it raises."""
        try:
            results = work.function(*(self.array(buffer, given) for buffer in work.reads))
        except Exception as error:
            raise CheckFailed(f"[compile] {error}") from error
        results = results if isinstance(results, tuple) else (results,)
        for buffer, result in zip(work.writes, results, strict=True):
            np.copyto(self.array(buffer, given), result)

    def array(self, buffer: Buffer, given: list[ndarray]) -> ndarray:
        """The array of a buffer; what shares its memory may have another shape."""
        memory = self.program.placement.memory(buffer)
        found = self.arrays.get(memory)
        if found is None:
            found = given[self.program.moving[memory]]
        return found if found.shape == buffer.shape else found.reshape(buffer.shape)


class Program:
    """A compiled kernel list; several threads may run it at once."""

    def __init__(self, listed: KernelList) -> None:
        listed.verify()
        self.listed = listed
        self.placement: Placement = place(listed)
        listed.kernels += [copy_kernel(*pair) for pair in self.placement.copies]
        planner = Planner(listed, self.placement)
        self.tasks = list(planner.tasks())
        self.assembly = planner.assembly
        self.code = planner.assembly.load()
        self.inputs = [b for b in listed.inputs if b is not None]
        operands = [*self.inputs, *self.placement.arrays]
        self.moving = {buffer: i for i, buffer in enumerate(operands)}
        self.constants = constants_of(listed)
        self.used = [buffer is not None for buffer in listed.inputs]
        self.written = {state for state, _ in listed.writes}
        self.is_written = [buffer in self.written for buffer in self.inputs]
        self.written_at = [i for i, written in enumerate(self.is_written) if written]
        stops = any(k.check or isinstance(k.work, Host) for k in listed.kernels)
        self.rewinds = generators(listed.kernels) if stops else ()
        self.idle = [Instance(self)]

    def __str__(self) -> str:
        kernels, size = len(self.listed.kernels), self.placement.size / 1e6
        count = len(self.tasks)
        return f"{self.listed.name}: {kernels} kernels in {count} stages, {size:.1f} MB temporaries"

    def run(self, inputs: Sequence[ndarray]) -> list[ndarray]:
        """Runs it on arrays in the order of the graph's inputs (constants' are not read) and gives
        new arrays for its outputs; states are written in place. Raises TypeError for an array of
        another type, ValueError for one of another shape, and CheckFailed for an index that is
        out of bounds or a host function that raises; then no state has been written, and no random
        number been taken.
        """
        originals = [array for array, used in zip(inputs, self.used, strict=True) if used]
        outputs = self.new_outputs()
        instance = self.take()
        marks = [Mark.of(generator) for generator in self.rewinds]
        try:
            given = instance.begin(originals, outputs)
            for part in instance.parts:
                instance.run_part(part, given)
        except CheckFailed:
            for mark in marks:
                mark.rewind()
            raise
        finally:
            self.idle.append(instance)
        for i in self.written_at:
            if given[i] is not originals[i]:
                originals[i][...] = given[i]
        return outputs

    def new_outputs(self) -> list[ndarray]:
        """Arrays for the outputs of a call."""
        return [np.empty(buffer.shape, buffer.dtype) for buffer in self.placement.arrays]

    def take(self) -> Instance:
        """Memory that no call uses."""
        try:
            return self.idle.pop()
        except IndexError:  # another thread, or a host function, runs the program too
            return Instance(self)


def constants_of(listed: KernelList) -> dict[Buffer, ndarray]:
    """The arrays of constants, in the program's own memory."""
    used = [b for kernel in listed.kernels for b in kernel.reads]
    used += [*listed.outputs, *(value for _, value in listed.writes)]
    made = {}
    for buffer in used:
        if buffer.role == "constant" and buffer not in made:
            data = np.ascontiguousarray(buffer.data, buffer.dtype)
            made[buffer] = data.reshape(buffer.shape)
    return made


def copy_kernel(source: Buffer, target: Buffer) -> Kernel:
    """The kernel that copies a buffer."""
    work = Library((stages.copy_call(source.size),), (source, target))
    return Kernel("copy", (), (source,), (target,), work)


def fit(array: ndarray, buffer: Buffer) -> ndarray:
    """The array as the program reads it: contiguous; numbers in the buffer's type."""
    if buffer.role == "number":
        return np.asarray(array, buffer.dtype).reshape(buffer.shape)
    if array.dtype != buffer.dtype:
        raise TypeError(f"[program] expects {buffer!r}, got an array of {array.dtype}")
    if array.shape != buffer.shape:
        raise ValueError(f"[program] expects {buffer!r}, got an array of shape {array.shape}")
    return array if array.flags.c_contiguous and array.flags.aligned else array.copy()


def nothing() -> None:
    """A reference to no array."""


def address(array: ndarray) -> int:
    """Where an array's elements are; `array.ctypes.data` takes a microsecond."""
    if readable():
        return word(id(array) + DATA).value
    return array.ctypes.data


def span(array: ndarray) -> tuple[int, int]:
    """Where an array's memory begins and ends."""
    start = address(array)
    if array.flags.c_contiguous:
        return start, start + array.nbytes
    ways = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low = start + sum(way for way in ways if way < 0)
    return low, start + sum(way for way in ways if way > 0) + array.itemsize


def spans_of(arrays: Iterable[ndarray]) -> Spans:
    """The memory of arrays, in order; of those that overlap, together."""
    starts: list[int] = []
    ends: list[int] = []
    for start, end in sorted(map(span, arrays)):
        if ends and start < ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            starts.append(start)
            ends.append(end)
    return starts, ends


def overlaps(array: ndarray, spans: Spans) -> bool:
    """Whether an array shares memory with spans that are apart from one another."""
    start, end = span(array)
    before = bisect_left(spans[0], end) - 1  # the last that begins before its end
    return before >= 0 and spans[1][before] > start


def build(graph: Graph) -> Program:
    """The native program of a graph."""
    return Program(lower(graph))
