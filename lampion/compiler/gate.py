"""The short way into a compiled program: one CPython built-in that checks what the program relies
on, runs it, and makes its outputs. Imports program, objects and earlier files.

A gate compares its arguments with what it was made for, and then a table of words in memory:
slots of tensors, versions of dictionaries, whatever can be told from eight bytes at a known
address. Where all is as it was, the program runs; else the gate gives None, and Python finds out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..core.graph import STATE
from ..core.tensor import Tensor
from ..errors import check
from . import objects, pool, stages
from .emit import Function, Module, Value
from .entry import DATA, FLAGS, METH_FASTCALL, Method
from .kernels import Buffer
from .objects import Scope, begin, fill_objects, known_layout, offset
from .pool import FIELDS
from .program import Native, Program
from .recording import SHARED
from .runtime import load
from .tasks import Task

READY = objects.CONTIGUOUS | objects.ALIGNED


class Word(NamedTuple):
    """Eight bytes that must be as they were: `kind` is "equal", or "at most" for a number."""

    address: int
    value: int
    kind: str = "equal"


class Given(NamedTuple):
    """An argument that is a tensor: the number of the program's input, and `requires_grad` as it
    must be; None lets through any, whatever it was computed from.
    """

    input: int
    requires_grad: bool | None = None


class Number(NamedTuple):
    """An argument that is a Python float or int: the number of the program's input."""

    input: int


class Exactly(NamedTuple):
    """An argument that must be this very object."""

    object: Any


Argument = Given | Number | Exactly


# -- words -----------------------------------------------------------------------------------------


def slot_word(holder: Any, name: str) -> Word:
    """That a slot holds the object that it holds now, e.g. a tensor its `_data`. Keep the object:
    another one could get its address.
    """
    kind: Any = type(holder)
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


# -- what the compiled entry reads -----------------------------------------------------------------


class WordRecord(ctypes.Structure):
    """A word; `most` is 1 where smaller numbers are as good."""

    _fields_ = [(n, ctypes.c_int64) for n in ("address", "value", "most")]


class ArgumentRecord(ctypes.Structure):
    """An argument: what it must be, and where in the operands its address goes.

    kind     0 a tensor, 1 one object, 2 a number
    object   the object; of a tensor its `requires_grad` as an object, 0 for any
    dtype    the object of its type
    """

    _fields_ = [
        (n, ctypes.c_int64)
        for n in ("kind", "object", "dtype", "rank", "shape", "operand", "bytes")
    ]


class OutputRecord(ctypes.Structure):
    """An output to be made: its type's object, its shape, where its address goes."""

    _fields_ = [(n, ctypes.c_int64) for n in ("dtype", "rank", "shape", "operand")]


class Span(ctypes.Structure):
    """Memory that the program writes."""

    _fields_ = [(n, ctypes.c_int64) for n in ("start", "end")]


class Context(ctypes.Structure):
    """All that the compiled entry knows of a gate."""

    _fields_ = [
        (n, ctypes.c_int64)
        for n in (
            "busy", "mode", "argument_count", "arguments", "word_count", "words", "output_count",
            "outputs", "program", "operands", "release", "written_count", "written",
        )
    ]  # fmt: skip


def get(f: Function, record: Value, kind: type[ctypes.Structure], name: str, type: str) -> Value:
    """A field of a record."""
    return f.load(type, f.at(record, getattr(kind, name).offset))


def context(f: Function, name: str, type: str = "i64") -> Value:
    """A field of the context (the parameter `context`)."""
    return get(f, f["context"], Context, name, type)


# -- the compiled entry ----------------------------------------------------------------------------


def write_words(module: Module) -> None:
    """Writes `words(context) -> i1`: whether all words are as they were, in order, so that one may
    say that the next can be read.
    """
    f = module.function("words", "i1", True, context="ptr")
    table = context(f, "words", "ptr")
    with f.loop(0, context(f, "word_count")) as i:
        record = f.at(table, i * ctypes.sizeof(WordRecord))
        address, value, most = (
            get(f, record, WordRecord, n, t)
            for n, t in (("address", "ptr"), ("value", "i64"), ("most", "i64"))
        )
        found = f.load("i64", address)
        with f.when(found.differs(value)):
            with f.when(most.equals(0) | (found > value)):
                f.ret(Value(f, "i1", "false"))
    f.ret(Value(f, "i1", "true"))


def write_tensor(module: Module) -> None:
    """Writes `tensor(context, record, given) -> i1`: whether an argument is such a tensor; notes
    the address of its elements. It must not overlap memory that the program writes.
    """
    s = begin(module, "tensor", "i1", context="ptr", record="ptr", given="ptr")
    f = s.f
    data = s.array(f["given"])
    kind, shape = (get(f, f["record"], ArgumentRecord, n, "ptr") for n in ("dtype", "shape"))
    rank = get(f, f["record"], ArgumentRecord, "rank", "i64")
    s.require(s.descriptor(data).equals(kind))
    s.require(f.convert("sext", s.rank(data), "i64").equals(rank))
    s.require((f.load("i32", f.at(data, FLAGS)) & READY).equals(READY))
    sizes = s.sizes(data)
    with f.loop(0, rank) as i:
        s.require(f.load("i64", sizes, i).equals(f.load("i64", shape, i)))
    grad = get(f, f["record"], ArgumentRecord, "object", "ptr")
    with f.when(grad.differs(s.null())):
        s.require(s.get(f["given"], Tensor, "_requires_grad").equals(grad))
        s.require(s.is_object(s.get(f["given"], Tensor, "grad_fn"), "None"))
    start = f.load("i64", f.at(data, DATA))
    end = start + get(f, f["record"], ArgumentRecord, "bytes", "i64")
    written = context(f, "written", "ptr")
    with f.loop(0, context(f, "written_count")) as i:
        low, high = f.load("i64", written, i * 2), f.load("i64", written, i * 2 + 1)
        s.require((end <= low) | (start >= high))
    operand = get(f, f["record"], ArgumentRecord, "operand", "i64")
    f.store(start, context(f, "operands", "ptr"), operand)
    f.ret(Value(f, "i1", "true"))
    f.lines.append(f"{s.otherwise}:")
    f.ret(Value(f, "i1", "false"))


def write_number(module: Module) -> None:
    """Writes `number(context, record, given) -> i1`: whether an argument is a float or an int; puts
    its value where the operand is.
    """
    s = begin(module, "number", "i1", context="ptr", record="ptr", given="ptr")
    f = s.f
    operand = get(f, f["record"], ArgumentRecord, "operand", "i64")
    place = f.load("ptr", context(f, "operands", "ptr"), operand)
    with f.when(s.is_a(f["given"], "float")):
        f.store(f.call("double", "PyFloat_AsDouble", f["given"]), place)
        f.ret(Value(f, "i1", "true"))
    s.require(s.is_a(f["given"], "int"))
    value = f.call("double", "PyLong_AsDouble", f["given"])
    f.store(value, place)
    failed = f.call("ptr", "PyErr_Occurred")
    with f.when(failed.differs(s.null())):
        f.call("void", "PyErr_Clear")  # an int larger than any float
        f.ret(Value(f, "i1", "false"))
    f.ret(Value(f, "i1", "true"))
    f.lines.append(f"{s.otherwise}:")
    f.ret(Value(f, "i1", "false"))


def write_arguments(module: Module) -> None:
    """Writes `arguments(context, args) -> i1`: whether all arguments are as they must be."""
    f = module.function("arguments", "i1", True, context="ptr", args="ptr")
    table, no = context(f, "arguments", "ptr"), Value(f, "i1", "false")
    with f.loop(0, context(f, "argument_count")) as i:
        record = f.at(table, i * ctypes.sizeof(ArgumentRecord))
        given = f.load("ptr", f["args"], i)
        kind = get(f, record, ArgumentRecord, "kind", "i64")
        for number, name in ((0, "tensor"), (2, "number")):
            with f.when(kind.equals(number)):
                good = f.call("i1", name, f["context"], record, given)
                with f.when(good.equals(0)):
                    f.ret(no)
        with f.when(kind.equals(1)):
            known = get(f, record, ArgumentRecord, "object", "ptr")
            with f.when(known.differs(given)):
                f.ret(no)
    f.ret(Value(f, "i1", "true"))


def write_outputs(module: Module) -> None:
    """Writes `outputs(context) -> tuple`: new tensors; null, and an exception, without memory."""
    s = begin(module, "outputs", "ptr", context="ptr")
    f = s.f
    table, count = context(f, "outputs", "ptr"), context(f, "output_count")
    made = f.call("ptr", "PyTuple_New", count)
    s.require(made.differs(s.null()))
    with f.loop(0, count) as i:
        record = f.at(table, i * ctypes.sizeof(OutputRecord))
        kind, shape = (get(f, record, OutputRecord, n, "ptr") for n in ("dtype", "shape"))
        tensor = f.call("ptr", "output", kind, get(f, record, OutputRecord, "rank", "i64"), shape)
        with f.when(tensor.equals(s.null())):
            s.drop(made)
            f.ret(s.null())
        f.store(tensor, made, i + (objects.ITEMS >> 3))
        start = s.memory(s.get(tensor, Tensor, "_data"))
        operand = get(f, record, OutputRecord, "operand", "i64")
        f.store(start, context(f, "operands", "ptr"), operand)
    f.ret(made)
    s.end()
    s = begin(module, "output", "ptr", kind="ptr", rank="i64", sizes="ptr")
    f = s.f
    data = s.new_array(f["kind"], f.convert("trunc", f["rank"], "i32"), f["sizes"])
    f.ret(s.new_tensor(data))
    s.end()


def write_gate(module: Module) -> None:
    """Writes the built-in's function; `self` is an int, the address of the context."""
    f = module.function("gate", "ptr", self="ptr", args="ptr", count="i64")
    s = Scope(f)
    f.parameters["context"] = f.call("ptr", "PyLong_AsVoidPtr", f["self"])
    state = f.load("ptr", Value(f, "ptr", module.pointer("pool")))
    s.require(f["count"].equals(context(f, "argument_count")))
    s.require(context(f, "busy").equals(0))
    s.require(f.load("i64", f.at(state, FIELDS["settled"])).differs(0))
    s.require(s.mode().equals(context(f, "mode")))
    s.require(f.call("i1", "words", f["context"]))
    s.require(f.call("i1", "arguments", f["context"], f["args"]))
    made = f.call("ptr", "outputs", f["context"])
    with f.when(made.equals(s.null())):
        f.ret(made)
    failed = f.variable("i64", 0)
    run = f.load("ptr", Value(f, "ptr", module.pointer("run")))
    given = (state, context(f, "program", "ptr"), context(f, "operands", "ptr"))
    release = context(f, "release").differs(0)
    with f.when(release):
        f.store(f.constant("i64", 1), f.at(f["context"], Context.busy.offset))
        thread = f.call("ptr", "PyEval_SaveThread")
        failed.set(f.call("i64", run, *given))
        f.call("void", "PyEval_RestoreThread", thread)
        f.store(f.constant("i64", 0), f.at(f["context"], Context.busy.offset))
    with f.when(release.equals(0)):
        failed.set(f.call("i64", run, *given))
    with f.when(failed.get().differs(0)):
        s.drop(made)
        f.ret(f.call("ptr", "PyErr_NoMemory"))
    f.ret(made)
    f.lines.append(f"{s.otherwise}:")
    f.ret(s.hold(s.object("None")))


@cache
def native() -> Any:
    """The compiled entry of all gates."""
    module = Module()
    for write in (*SHARED, write_words, write_tensor, write_number, write_arguments, write_outputs):
        write(module)
    write_gate(module)
    code = load(module.text())
    fill_objects(code, module)
    code.fill("pool", pool.pool().address)
    code.fill("run", stages.native().address("run"))
    return code


# -- from Python -----------------------------------------------------------------------------------


class Gate:
    """The built-in `call(*arguments)` of a program: a tuple of new tensors, the program's outputs,
    or None where something is not as it was; then nothing has been done.

    inputs     arrays in the order of the graph's inputs; those of arguments and constants are not
               looked at. States are written where they are: they must be contiguous
    arguments  what each positional argument must be
    words      what else must be as it was, in the order of comparison
    keep       objects whose addresses are in words
    mode       the thread's mode (`core.graph.STATE.mode`), by default the present one

    A gate has its own memory and runs one call at a time; another gets None.
    """

    def __init__(
        self,
        program: Program,
        inputs: Sequence[ndarray | None],
        arguments: Sequence[Argument],
        words: Sequence[Word] = (),
        keep: Any = None,
        mode: int | None = None,
    ) -> None:
        self.program, self.instance = program, program.take()
        self.context = Context()
        self.kept: dict[str, Any] = {}
        self.cells: dict[int, ctypes.c_double] = {}
        self.call: Callable[..., tuple[Tensor, ...] | None] = unknown
        if not can_pass(program):
            return
        stages.settle()
        part = self.instance.parts[0]
        assert isinstance(part, Native)
        self.context.program = ctypes.addressof(part.memory)
        self.context.operands = ctypes.addressof(self.instance.operands)
        self.context.release = any(task.tiles > 1 for task in part.tasks)
        self.context.mode = STATE.mode if mode is None else mode
        self.set_arguments(arguments)
        self.set_outputs()
        self.bind(inputs, skip=[a.input for a in arguments if not isinstance(a, Exactly)])
        self.guard(words, keep)
        self.call = self.builtin()

    def builtin(self) -> Callable[..., Any]:
        """The CPython built-in."""
        method = Method(b"gate", native().address("gate"), METH_FASTCALL, b"A compiled program.")
        make = ctypes.pythonapi.PyCFunction_NewEx
        make.restype = ctypes.py_object
        make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        self.kept["method"] = method
        return make(ctypes.addressof(method), ctypes.addressof(self.context), None)

    def table(self, name: str, kind: Any, rows: Sequence[Sequence[int]], count: str = "") -> None:
        """Puts a table of records into the context."""
        records = (kind * max(len(rows), 1))()
        for record, row in zip(records, rows, strict=False):
            for (field, *_), value in zip(kind._fields_, row, strict=True):
                setattr(record, field, value)
        self.kept[name] = records
        setattr(self.context, name, ctypes.addressof(records))
        setattr(self.context, count, len(rows))

    def shape(self, buffer: Buffer) -> int:
        """The address of a shape, which is kept."""
        sizes = (ctypes.c_int64 * max(len(buffer.shape), 1))(*buffer.shape)
        self.kept.setdefault("shapes", []).append(sizes)
        return ctypes.addressof(sizes)

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
        rows = []
        for argument in arguments:
            if isinstance(argument, Exactly):
                rows.append((1, id(argument.object), 0, 0, 0, 0, 0))
                continue
            buffer = self.buffer(argument.input)
            operand = self.program.moving[buffer]
            if isinstance(argument, Number):
                self.cell(argument.input)
                rows.append((2, 0, 0, 0, 0, operand, 0))
                continue
            written = buffer in self.program.written
            check(not written, lambda: f"[gate] expects no write to an argument, got {buffer!r}")
            grad = 0 if argument.requires_grad is None else id(bool(argument.requires_grad))
            kind, rank = id(buffer.dtype), len(buffer.shape)
            rows.append((0, grad, kind, rank, self.shape(buffer), operand, buffer.size))
        self.kept["given"] = list(arguments)
        self.table("arguments", ArgumentRecord, rows, "argument_count")

    def set_outputs(self) -> None:
        """Says what is to be made."""
        first = len(self.program.inputs)
        rows = [
            (id(buffer.dtype), len(buffer.shape), self.shape(buffer), first + i)
            for i, buffer in enumerate(self.program.placement.arrays)
        ]
        self.table("outputs", OutputRecord, rows, "output_count")

    def bind(self, inputs: Sequence[ndarray | None], skip: Sequence[int] = ()) -> None:
        """Says where states are, and what numbers are; raises RuntimeError for an array that has
        another layout than the program expects.
        """
        spans = []
        for number, array in enumerate(inputs):
            buffer = self.program.listed.inputs[number]
            if number in skip or buffer is None:
                continue
            assert array is not None
            if buffer.role == "number":
                self.cell(number).value = float(array)
                continue
            same = array.shape == buffer.shape and array.dtype == buffer.dtype
            ready = same and array.flags.c_contiguous and array.flags.aligned
            check(ready, lambda: f"[gate] expects a contiguous array for {buffer!r}")
            self.instance.operands[self.program.moving[buffer]] = array.ctypes.data
            if buffer in self.program.written:
                spans.append((array.ctypes.data, array.ctypes.data + array.nbytes))
        self.kept["inputs"] = list(inputs)
        self.table("written", Span, spans, "written_count")

    def guard(self, words: Sequence[Word], keep: Any = None) -> None:
        """Replaces what must be as it was."""
        rows = [(word.address, word.value, word.kind == "at most") for word in words]
        self.kept["guarded"] = keep
        self.table("words", WordRecord, rows, "word_count")

    def __del__(self) -> None:
        """Gives the memory back to the program."""
        instance = getattr(self, "instance", None)
        if instance is not None:
            self.program.idle.append(instance)


def can_pass(program: Program) -> bool:
    """Whether a gate can run the program: one native part, on an interpreter that it knows."""
    native = [isinstance(task, Task) for task in program.tasks]
    return known_layout() and len(native) > 0 and all(native)


def unknown(*arguments: Any) -> None:
    """The call of a gate that knows nothing."""
    return None
