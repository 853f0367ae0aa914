"""The short way into a compiled program: one CPython built-in that checks what the program relies
on, runs it, and makes its outputs. Imports program, objects and earlier files.

A gate compares its arguments with what it was made for, and then a table of words in memory:
slots of tensors, versions of dictionaries, whatever can be told from eight bytes at a known
address. Where all is as it was, the program runs; else the gate gives None, and Python finds out.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from functools import cache
from types import MemberDescriptorType
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ...core.graph import STATE
from ...core.tensor import Tensor
from ...errors import check
from ..calls import objects
from ..calls.objects import known_layout, offset
from ..kernels.draws import state_address
from ..lower.kernels import Buffer, Host
from ..native import stages
from ..native.entry import METH_FASTCALL, Method, function
from ..program.program import Program, generators
from ..program.tasks import Task
from .gate_code import native
from .gate_hosts import Places, Rewinding, hosted
from .gate_records import (
    NUMBER,
    OBJECT,
    TENSOR,
    ArgumentRecord,
    Context,
    ObjectRecord,
    OutputRecord,
    PartRecord,
    Span,
    StoreRecord,
    WordRecord,
)

LONG = 1 << 16  # bytes of a program that other Python threads should not wait for


class Word(NamedTuple):
    """Eight bytes that must be as they were: `kind` is "equal", or "at most" for a number."""

    address: int
    value: int
    kind: str = "equal"


class Given(NamedTuple):
    """An argument that is a tensor.

    input          the number of the program's input
    requires_grad  as it must be; None lets through any, whatever it was computed from
    array          the array that it must have, None for any
    made           whether it must have a history, or must not
    """

    input: int
    requires_grad: bool | None = None
    array: ndarray | None = None
    made: bool = False


class Unused(NamedTuple):
    """An argument that the program does not use: a tensor like the one with this array."""

    array: ndarray
    requires_grad: bool


class Number(NamedTuple):
    """An argument that is a Python float or int: the number of the program's input."""

    input: int


class Exactly(NamedTuple):
    """An argument that must be this very object."""

    object: Any


Argument = Given | Unused | Number | Exactly


# -- words -----------------------------------------------------------------------------------------


def slot_word(holder: Any, name: str) -> Word:
    """That a slot holds the object that it holds now, e.g. a tensor its `_data`. Keep the object:
    another one could get its address.
    """
    kind: Any = type(holder)
    member = isinstance(getattr(kind, name), MemberDescriptorType)
    check(member, lambda: f"[gate] {kind.__name__}.{name} is no slot")
    return Word(id(holder) + offset(kind, name), id(getattr(holder, name)))


def reference_word(holder: Any, most: int) -> Word:
    """That at most so many references to an object exist."""
    return Word(id(holder), most, "at most")


VERSION, ITEMS = 24, 24  # in a dict: the version of its content; in a list: where its items are


@cache
def dictionaries_have_versions() -> bool:
    """Whether a dictionary's memory tells that its content changed, where `dict_word` looks."""

    def version(of: dict) -> int:
        return ctypes.c_int64.from_address(id(of) + VERSION).value

    probe: dict = {"a": 1}
    seen = [version(probe)]
    for change in (lambda: probe.update(a=2), lambda: probe.update(b=3), lambda: probe.pop("a")):
        change()
        seen.append(version(probe))
    steady = version(probe) == seen[-1]
    return steady and len(set(seen)) == 4 and all(0 < v < 1 << 62 for v in seen)


def dict_word(holder: dict) -> Word:
    """That nothing was put into a dictionary or taken out of it; an object written to under the
    same key counts as a change too. Raises RuntimeError where the interpreter has no versions.
    """
    check(dictionaries_have_versions(), "[gate] this interpreter's dictionaries have no versions")
    return Word(id(holder) + VERSION, ctypes.c_int64.from_address(id(holder) + VERSION).value)


def list_words(holder: list) -> list[Word]:
    """That a list holds the objects that it holds now, in order."""
    items = ctypes.c_int64.from_address(id(holder) + ITEMS).value
    words = [Word(id(holder) + objects.SIZE, len(holder)), Word(id(holder) + ITEMS, items)]
    return words + [Word(items + 8 * i, id(x)) for i, x in enumerate(holder)]


# -- the gate ------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What becomes of a program's outputs, by their numbers.

    returns  what the call gives, as a tuple; None: all of them
    bare     the call gives its only output itself
    stores   (object, attribute, value): attributes to be set, e.g. gradients; a value is an object,
             or an int, the number of an output
    writes   tensors besides arguments that the program writes: their versions are counted on; the
             words must fail once one is gone
    """

    returns: Sequence[int] | None = None
    bare: bool = False
    stores: Sequence[tuple[Any, str, Any]] = ()
    writes: Sequence[Tensor] = ()


@cache
def method() -> Method:
    """What CPython knows of the built-ins: the same for all, as one that dies looks at it."""
    return Method(b"gate", native().address("gate"), METH_FASTCALL, b"A compiled program.")


class Lease:
    """Memory of a program, given back when nobody can run in it any more."""

    def __init__(self, program: Program) -> None:
        self.program, self.instance = program, program.take()

    def __del__(self) -> None:
        self.program.idle.append(self.instance)


class Gate:
    """The built-in `call(*arguments)` of a program: a tuple of new tensors, the program's outputs,
    or None where something is not as it was, or a check of the program fails; then nothing has been
    done.

    inputs     arrays in the order of the graph's inputs; those of arguments and constants are not
               looked at. States are written where they are: they must be contiguous, and the
               words must fail once one of the arrays is gone, as they are not kept alive. So are
               arguments that the program writes; those must not overlap anything else
    arguments  what each positional argument must be
    words      what else must be as it was, in the order of comparison
    keep       objects whose addresses are in words
    mode       the thread's mode (`core.graph.STATE.mode`), by default the present one

    A gate has its own memory and runs one call at a time; another gets None. Where gates cannot be
    (`can_pass`), every call gets None.
    """

    def __init__(
        self,
        program: Program,
        inputs: Sequence[ndarray | None],
        arguments: Sequence[Argument],
        words: Sequence[Word] = (),
        keep: Any = None,
        outcome: Outcome | None = None,
        mode: int | None = None,
    ) -> None:
        self.program, self.lease = program, Lease(program)
        self.instance = self.lease.instance
        self.context = Context()
        self.kept: dict[str, Any] = {}
        self.cells: dict[int, ctypes.c_double] = {}
        self.own_words: list[Word] = []
        self.call: Callable[..., Any] = unknown
        if not can_pass(program):
            return
        stages.settle()
        self.context.operands = ctypes.addressof(self.instance.operands)
        self.context.release = is_long(program)
        self.context.mode = STATE.mode if mode is None else mode
        self.set_arguments(arguments)
        order = self.set_outcome(outcome or Outcome())
        self.places = self.places_of(arguments, order)
        self.bind(inputs, skip=[a.input for a in arguments if isinstance(a, Given | Number)])
        self.set_parts()
        self.guard(words, keep)
        self.call = self.builtin()

    def builtin(self) -> Callable[..., Any]:
        """The CPython built-in; it keeps alive all that it reads, whatever becomes of the gate."""
        return function(method(), self.context, (self.context, self.kept, self.cells, self.lease))

    def table(self, name: str, kind: Any, rows: Sequence[Sequence[int]], count: str = "") -> None:
        """Puts a table of records into the context."""
        records = (kind * max(len(rows), 1))()
        for record, row in zip(records, rows, strict=False):
            for (field, *_), value in zip(kind._fields_, row, strict=True):
                setattr(record, field, value)
        self.kept[name] = records
        setattr(self.context, name, ctypes.addressof(records))
        setattr(self.context, count, len(rows))

    def shape(self, shape: tuple[int, ...]) -> int:
        """The address of a shape, which is kept."""
        sizes = (ctypes.c_int64 * max(len(shape), 1))(*shape)
        self.kept.setdefault("shapes", []).append(sizes)
        return ctypes.addressof(sizes)

    def name(self, attribute: str) -> str:
        """The one object of a name, which is kept."""
        return self.kept.setdefault("names", {}).setdefault(attribute, sys.intern(attribute))

    def value(self, value: Any, order: list[int]) -> tuple[int, int]:
        """What a store's record says of its value."""
        return (0, order.index(value)) if type(value) is int else (id(value), 0)

    def buffer(self, number: int) -> Buffer:
        """The buffer of an input."""
        buffer = self.program.listed.inputs[number]
        check(buffer is not None, lambda: f"[gate] input {number} is a constant")
        assert buffer is not None
        return buffer

    def cell(self, number: int) -> ctypes.c_double:
        """Where the value of an input that is a number is; set `.value` to change it."""
        if number not in self.cells:
            buffer = self.buffer(number)
            plain = buffer.role == "number" and buffer.dtype == np.float64
            check(plain, lambda: f"[gate] input {number} is {buffer!r}, no float64 number")
            self.cells[number] = ctypes.c_double()
            operand = self.program.moving[buffer]
            self.instance.operands[operand] = ctypes.addressof(self.cells[number])
        return self.cells[number]

    def set_arguments(self, arguments: Sequence[Argument]) -> None:
        """Says what arguments must be."""
        rows = [self.argument(each) for each in arguments]
        self.kept["given"] = list(arguments)
        self.table("arguments", ArgumentRecord, rows, "argument_count")
        self.context.writes = sum(row[-1] for row in rows)

    def argument(self, given: Argument) -> tuple[int, ...]:
        """What an argument's record says."""
        if isinstance(given, Exactly):
            return OBJECT, id(given.object), 0, 0, 0, 0, 0, 0, 0, 0
        if isinstance(given, Unused):
            array, grad = given.array, id(given.requires_grad)
            form = id(array.dtype), array.ndim, self.shape(array.shape)
            return TENSOR, grad, 0, 0, *form, len(self.program.moving), 0, 0
        buffer = self.buffer(given.input)
        operand = self.program.moving[buffer]
        if isinstance(given, Number):
            self.cell(given.input)
            return NUMBER, 0, 0, 0, 0, 0, 0, operand, 0, 0
        grad = 0 if given.requires_grad is None else id(bool(given.requires_grad))
        only = 0 if given.array is None else id(given.array)
        form = id(buffer.dtype), len(buffer.shape), self.shape(buffer.shape)
        written = buffer in self.program.written
        return TENSOR, grad, given.made, only, *form, operand, buffer.size, written

    def places_of(self, arguments: Sequence[Argument], order: list[int]) -> Places:
        """Where the program's Python functions find arrays."""
        first, moving = len(self.program.inputs), self.program.moving
        given = {
            moving[self.buffer(a.input)]: 1 + i
            for i, a in enumerate(arguments)
            if isinstance(a, Given)
        }
        places = Places(self.instance, {first + n: i for i, n in enumerate(order)}, given)
        for argument in arguments:
            if isinstance(argument, Number):
                buffer = self.buffer(argument.input)
                places.set_state(moving[buffer], buffer)
        return places

    def set_parts(self) -> None:
        """Says what is to be run."""
        drawing = [k.work for k in self.program.listed.kernels if k.draws is not None]
        native = not any(isinstance(work, Host) for work in drawing)
        rewinding = Rewinding(self.program.rewinds, native)
        calls = [hosted(p, self.places) for p in self.instance.parts if isinstance(p, Host)]
        waiting = iter(calls)
        rows = []
        for part in self.instance.parts:
            if isinstance(part, Host):
                rows.append((0, id(next(waiting)), 0, 0, 0))
                continue
            engine = (0, 0, 0)
            for g in part.draws:  # one at most
                engine = id(g._engine.lock), state_address(g), rewinding.room(g)
            rows.append((ctypes.addressof(part.memory), 0, *engine))
        self.table("parts", PartRecord, rows, "part_count")
        note, rewind = rewinding.note, rewinding.rewind
        if self.program.rewinds:
            self.context.note, self.context.rewind = 0 if native else id(note), id(rewind)
        room = (ctypes.c_int64 * (1 + self.context.argument_count))()
        self.context.given = ctypes.addressof(room)
        self.kept["called"] = calls, rewinding, note, rewind, room

    def set_outcome(self, outcome: Outcome) -> list[int]:
        """Says what is to be made, and where it goes; gives the order in which it is made."""
        first, arrays = len(self.program.inputs), self.program.placement.arrays
        returns = list(range(len(arrays)) if outcome.returns is None else outcome.returns)
        order = list(dict.fromkeys([*returns, *range(len(arrays))]))
        check(order[: len(returns)] == returns, "[gate] expects each output at most once")
        check(not outcome.bare or len(returns) == 1, "[gate] expects one output to return bare")
        rows = [
            (id(arrays[i].dtype), len(arrays[i].shape), self.shape(arrays[i].shape), first + i)
            for i in order
        ]
        self.table("outputs", OutputRecord, rows, "output_count")
        self.context.returned, self.context.bare = len(returns), outcome.bare
        stores = [
            (id(holder), id(self.name(attribute)), *self.value(value, order))
            for holder, attribute, value in outcome.stores
        ]
        self.table("stores", StoreRecord, stores, "store_count")
        storages = [tensor._storage for tensor in outcome.writes]
        check(None not in storages, "[gate] expects written tensors with a storage")
        self.own_words = [slot_word(tensor, "_storage") for tensor in outcome.writes]
        self.table("storages", ObjectRecord, [(id(x),) for x in storages], "storage_count")
        self.kept["outcome"] = outcome.stores, storages
        return order

    def bind(self, inputs: Sequence[ndarray | None], skip: Sequence[int] = ()) -> None:
        """Says where states are, and what numbers are; raises RuntimeError for an array that has
        another layout than the program expects.
        """
        written, read = list[tuple[int, int]](), list[tuple[int, int]]()
        held: list[tuple[int]] = []
        for number, array in enumerate(inputs):
            buffer = self.program.listed.inputs[number]
            if number in skip or buffer is None:
                continue
            assert array is not None
            if buffer.role == "number":
                self.cell(number).value = float(array)
                self.places.set_state(self.program.moving[buffer], buffer)
                continue
            same = array.shape == buffer.shape and array.dtype == buffer.dtype
            ready = same and array.flags.c_contiguous and array.flags.aligned
            check(ready, lambda: f"[gate] expects a contiguous array for {buffer!r}")
            held.append((id(array),))
            start, operand = array.ctypes.data, self.program.moving[buffer]
            self.instance.operands[operand] = start
            self.places.set_state(operand, buffer)
            spans = written if buffer in self.program.written else read
            spans.append((start, start + array.nbytes))
        self.table("written", Span, written, "written_count")
        self.table("read", Span, read, "read_count")
        interrupted = self.context.release or len(self.instance.parts) > 1
        self.table("held", ObjectRecord, held if interrupted else [], "held_count")

    def guard(self, words: Sequence[Word], keep: Any = None) -> None:
        """Replaces what must be as it was."""
        every = [*words, *self.own_words]
        rows = [(word.address, word.value, word.kind == "at most") for word in every]
        self.kept["guarded"] = keep
        self.table("words", WordRecord, rows, "word_count")


def can_pass(program: Program) -> bool:
    """Whether a gate can run the program: one random generator, on an interpreter that it knows."""
    one = len(generators(program.listed.kernels)) <= 1
    return known_layout() and len(program.tasks) > 0 and one


def is_long(program: Program) -> bool:
    """Whether a program is worth releasing the GIL for, which takes some 50 ns."""
    size = program.placement.size + sum(buffer.size for buffer in program.moving)
    return size > LONG or any(isinstance(t, Task) and t.tiles > 1 for t in program.tasks)


def unknown(*arguments: Any) -> None:
    """The call of a gate that knows nothing."""
    return None
