"""The short way into a bound program: everything that it takes for granted, as words in memory.

Imports bound, gate and guards. `Entrance.call` is one built-in that compares the words, runs the
program and makes its outputs; it gives None where something is not as it was, and then the long
way finds out what. Nothing of this is needed for a right answer.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from types import CellType
from typing import Any

from numpy import ndarray

from ... import dtypes
from ...core.changes import CHANGES
from ...core.graph import GENERAL, STATE, Node
from ...core.memory import root_array
from ...core.tensor import Tensor
from ...settings import settings
from ..program import program as native
from ..trace.guards import Fact, Hooks, Row
from ..trace.structure import Structure
from ..trace.tracer import Option, Zero
from .bound import Program
from .gate import (
    Argument,
    Exactly,
    Gate,
    Given,
    Outcome,
    Unused,
    Word,
    can_pass,
    dict_word,
    dictionaries_have_versions,
    list_words,
    slot_word,
)
from .unpack import Read, reader

CELL = 16  # in a closure's cell: where its content is
KEYS, VALUES = 32, 40  # in a dict: its table of keys; its values, where instances share the keys
TABLE, ENTRIES, ENTRY = 32, 24, 16  # in a table: its size, how many entries; the size of an entry
TEXT_ONLY = 1  # the kind of a table whose keys are all text


def entrance(program: Program, leaves: Sequence[Any], structure: Structure) -> Entrance | None:
    """The short way into a program for calls like this one; None where there is none."""
    executable, captured = program.executable, program.captured
    possible = (
        isinstance(executable, native.Program)
        and STATE.mode != GENERAL
        and dictionaries_have_versions()
        and can_pass(executable)
        and all(g.argument < 0 for g in captured.gradients)
    )
    if not possible:
        return None
    shared = share_memory([x._data for x in leaves if isinstance(x, Tensor)])
    if shared and program.written_arguments:
        return None
    used_inputs = executable.used  # type: ignore[attr-defined]
    places = {s.place: i for i, s in enumerate(captured.sources) if s.kind == "argument"}
    arguments: list[Argument] = []
    number = 0
    for leaf in leaves:
        if not isinstance(leaf, Tensor):
            arguments.append(Exactly(leaf))
            continue
        used = number in places and used_inputs[places[number]]
        data, array = leaf._data, program.identical.get(number)
        made = leaf.grad_fn is not None
        if used:
            arguments.append(Given(places[number], leaf._requires_grad, array, made))
        elif shared or made or array is not None or not data.flags.c_contiguous:
            return None
        else:
            arguments.append(Unused(data, leaf._requires_grad))
        number += 1
    flat = (tuple, None, ((tuple, None, (None,) * len(leaves)), (dict, (), ())))
    return Entrance(program, arguments, None if structure == flat else reader(structure))


def share_memory(arrays: list[ndarray]) -> bool:
    """Whether two arrays lie in the same memory."""
    if len({id(root_array(array)) for array in arrays}) < len(arrays):
        return True
    return any(native.overlaps(a, native.spans_of(arrays[:i])) for i, a in enumerate(arrays))


WORTH = 16  # calls by the short way that pay for making it


class Entrance:
    """A gate, its words, and how the result is made of what the gate gives.

    read  finds the leaves of a call's arguments, which the gate takes; None where they stand alone
    """

    def __init__(self, program: Program, arguments: list[Argument], read: Read | None) -> None:
        self.program, self.arguments, self.read = program, arguments, read
        self.call: Callable[..., Any] | None = None
        self.gate: Gate | None = None
        self.result = finisher(program, [isinstance(a, Given | Unused) for a in arguments])
        self.misses, self.patience = 0, 0

    def settle(self) -> None:
        """After a call by the long way: from now on, things must be as they are now."""
        if self.gate is not None and self.gate.context.passed >= WORTH:
            self.misses = self.patience = 0
        self.misses += 1
        if self.misses <= self.patience:  # something changes with every call
            return
        self.misses, self.patience = 0, 2 * self.patience + 1
        program = self.program
        inputs = [
            None if s.kind in ("argument", "constant") else program.array_of(s, ())
            for s in program.captured.sources
        ]
        executable: Any = program.executable
        self.keep: list[Any] = []
        self.call = self.gate = None  # an old gate would count among the holders
        outcome = Outcome(writes=list(self.written()))
        gate = Gate(executable, inputs, self.arguments, outcome=outcome)
        del inputs
        kept = zip(program.grads, program.set, strict=True)
        if any(memory.tensor is not gradient.tensor._grad for memory, gradient in kept):
            return  # it is read, too: what is read and what is written take turns
        for memory in program.grads:
            memory.holders = word(id(memory.tensor._data))  # type: ignore[union-attr]
        gate.guard(list(self.words()), self.keep)
        self.gate = gate
        sources = enumerate(program.captured.sources)
        asked = {(id(z.option.group), *z.option[1:]): z.expected for z in self.zeros()}
        numbers = [
            Rate(s.where, gate.cell(i), asked.get((id(s.where.group), *s.where[1:])))
            for i, s in sources
            if s.where is not None
        ]
        self.call = reading(numbers, gate.call) if numbers else gate.call

    def written(self) -> Iterator[Tensor]:
        """What the program writes besides arguments, and gradients that it makes anew."""
        for source in self.program.written:
            if source.kind != "argument":
                t: Any = source.tensor
                yield t._grad if source.kind == "gradient" else t

    def words(self) -> Iterator[Word]:
        """All that must be as it was."""
        program = self.program
        for tensor, _, _ in program.held:
            yield slot_word(tensor, "_data")
            yield slot_word(tensor, "_requires_grad")
        for gradient in program.captured.gradients:
            yield self.version(vars(gradient.tensor))
            if gradient.after == "kept":
                yield slot_word(gradient.tensor._grad, "_data")
        for memory in program.grads:
            yield self.holders(id(memory.tensor))
            yield self.holders(id(memory.tensor._data))  # type: ignore[union-attr]
        for fact in program.guards.always:
            yield from self.fact_words(fact)
        yield from self.row_words(CHANGES)
        yield from self.entry_words(vars(dtypes), "_default")
        yield self.version(vars(settings))

    def zeros(self) -> list[Zero]:
        """The options that rules asked about."""
        return [fact for fact in self.program.guards.always if isinstance(fact, Zero)]

    def holders(self, address: int) -> Word:
        """That nobody else holds an object than now; given by its address, which holds nothing."""
        return Word(address, word(address), "at most")

    def version(self, holder: dict) -> Word:
        """That a dictionary is as it was."""
        self.keep.append(holder)
        return dict_word(holder)

    def fact_words(self, fact: Fact | Row | Hooks) -> Iterator[Word]:
        """The words of a guard."""
        if isinstance(fact, Row):
            yield from self.row_words(fact.holder)
        elif isinstance(fact, Fact) and isinstance(fact.holder, CellType):
            self.keep += [fact.holder, fact.expected]
            yield Word(id(fact.holder) + CELL, id(fact.now()))
        elif isinstance(fact, Fact):
            yield from self.entry_words(fact.holder, fact.key)

    def row_words(self, row: Any) -> Iterator[Word]:
        """That a list or dictionary is as it was."""
        if isinstance(row, dict):
            yield self.version(row)
        else:
            self.keep += [row, *row]
            yield from list_words(row)

    def entry_words(self, holder: dict, key: str) -> Iterator[Word]:
        """That a dictionary has the same object under a key, whatever happens to its others."""
        place = entry_address(holder, key)
        if place is None:
            yield self.version(holder)
            return
        self.keep += [holder, key, holder[key]]
        yield Word(id(holder) + KEYS, word(id(holder) + KEYS))
        yield Word(place, word(place))
        yield Word(place + 8, id(holder[key]))


class Rate:
    """A number that the program reads at each call, e.g. a learning rate."""

    __slots__ = ("option", "holder", "key", "cell", "last", "zero")

    def __init__(self, option: Option, cell: ctypes.c_double, zero: bool | None) -> None:
        self.option, self.cell = option, cell
        self.holder, self.key = option.group, option.name
        self.last: Any = None
        self.zero = zero


def reading(rates: list[Rate], call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, which first puts numbers that have changed where the program reads them."""

    def enter(*args: Any) -> Any:
        for rate in rates:
            value = rate.holder[rate.key]
            if value is not rate.last:
                number = rate.option.read()
                if rate.zero is not None and (number == 0) is not rate.zero:
                    return None
                rate.last, rate.cell.value = value, number
        return call(*args)

    return enter


def word(address: int) -> int:
    """Eight bytes of memory."""
    return ctypes.c_int64.from_address(address).value


def entry_address(holder: dict, key: str) -> int | None:
    """Where a dictionary's table has a key, and behind it the value; None where it has no such
    table: instances of a class share their keys.
    """
    keys = word(id(holder) + KEYS)
    kind = ctypes.c_int8.from_address(keys + 10).value
    if word(id(holder) + VALUES) or kind != TEXT_ONLY:
        return None
    index_bytes = ctypes.c_int8.from_address(keys + 9).value
    start, count = keys + TABLE + (1 << index_bytes), word(keys + ENTRIES)
    value = id(holder[key])
    for i in range(count):
        at = start + i * ENTRY
        found = word(at)
        if found and word(at + 8) == value and ctypes.cast(found, ctypes.py_object).value == key:
            return at
    return None


Finish = Callable[[tuple, Sequence], Any]


def finisher(program: Program, is_tensor: list[bool]) -> Finish:
    """What makes the result, of the outputs and the arguments, some of which are tensors."""
    captured, transposed = program.captured, program.transposed
    result = captured.results[0] if captured.structure is None else None
    if program.backward is not None or transposed or result is None:
        return general_finisher(program)
    if result.kind == "value":
        return single_value(result.place, program.spent.get(result.place))
    if result.kind == "argument":
        place = [i for i, tensor in enumerate(is_tensor) if tensor][result.place]
        return lambda made, args: args[place]
    if result.kind == "object":
        return lambda made, args: result.thing
    return general_finisher(program)


def single_value(place: int, node: Node | None) -> Finish:
    """One output, which may have a history that has been run."""

    def single(made: tuple, args: Sequence) -> Tensor:
        t = made[place]
        if node is not None:
            t._requires_grad, t.grad_fn = True, node
        return t

    return single


def general_finisher(program: Program) -> Finish:
    """Results of any structure, and those that have a backward."""

    def several(made: tuple, args: Sequence) -> Any:
        return program.assemble(list(made), [x for x in args if isinstance(x, Tensor)])

    return several
