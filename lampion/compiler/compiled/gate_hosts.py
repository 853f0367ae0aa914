"""Python functions inside a gate's program, and random generators that are put back where a call
stops. Imports program, draws and kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ...random import Generator
from ..kernels.draws import STATE_BYTES, state_address
from ..lower.kernels import Buffer, Host
from ..program.program import Instance, Mark

Find = Callable[[tuple], ndarray]  # an array, of what a gate hands to a function


class Places:
    """Where the functions of a program find arrays: (outputs, *arguments) is what they are called
    with.

    outputs    for each output of the program its place among the tensors that a call makes
    arguments  of an argument that is a tensor: its place, by the number of the program's input
    states     arrays on the memory of states and numbers, which they do not keep alive
    """

    def __init__(
        self, instance: Instance, outputs: dict[int, int], arguments: dict[int, int]
    ) -> None:
        self.instance, self.outputs, self.arguments = instance, outputs, arguments
        self.states: dict[int, ndarray] = {}

    def set_state(self, operand: int, buffer: Buffer) -> None:
        """Notes where a state or a number is now."""
        memory: Any = (ctypes.c_char * buffer.size).from_address(self.instance.operands[operand])
        self.states[operand] = np.ndarray(buffer.shape, buffer.dtype, memory)

    def find(self, buffer: Buffer) -> Find:
        """What gives a buffer's array."""
        program, shape = self.instance.program, buffer.shape
        memory = program.placement.memory(buffer)
        fixed = self.instance.arrays.get(memory)
        if fixed is not None:
            array = fixed.reshape(shape)
            return lambda given: array
        operand = program.moving[memory]
        if operand in self.outputs:
            place = self.outputs[operand]
            return lambda given: given[0][place]._data.reshape(shape)
        if operand in self.arguments:
            place = self.arguments[operand]
            return lambda given: given[place]._data.reshape(shape)
        return lambda given: self.states[operand].reshape(shape)


def hosted(work: Host, places: Places) -> Callable[..., bool]:
    """The function that a gate calls; it says whether it went well."""
    reads, writes = ([places.find(buffer) for buffer in row] for row in (work.reads, work.writes))
    function = work.function

    def call(*given: tuple) -> bool:
        try:
            results = function(*[find(given) for find in reads])
        except Exception:  # eagerly, the call raises it
            return False
        results = results if isinstance(results, tuple) else (results,)
        for find, result in zip(writes, results, strict=True):
            np.copyto(find(given), result)
        return True

    return call


class Rewinding:
    """What puts a program's random generators back, if a call that stops has used them.

    native  whether only stages draw: then gates save a generator's state before the first that does
    """

    def __init__(self, generators: tuple[Generator, ...], native: bool) -> None:
        self.generators, self.native = generators, native
        self.marks: list[Mark] = []
        self.saved: dict[Generator, ctypes.Array] = {}

    def room(self, generator: Generator) -> int:
        """Where the stages that draw from a generator first save its state; 0 for later ones."""
        if not self.native or generator not in self.generators or generator in self.saved:
            return 0
        self.saved[generator] = ctypes.create_string_buffer(STATE_BYTES + 4)
        return ctypes.addressof(self.saved[generator])

    def note(self) -> None:
        """Notes where the generators are."""
        self.marks = [Mark.of(generator) for generator in self.generators]

    def rewind(self) -> None:
        """Puts them back."""
        for mark in self.marks:
            mark.rewind()
        for generator, saved in self.saved.items():
            if any(saved[STATE_BYTES:]):
                with generator._engine.lock:
                    ctypes.memmove(state_address(generator), saved, STATE_BYTES)
