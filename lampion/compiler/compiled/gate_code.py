"""The compiled entry of gates, and the records that it reads. Imports objects, recording and
earlier files.

One function serves all gates: CPython calls it with the address of a gate's context as `self`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache

from ...core.memory import Storage
from ...core.tensor import Tensor
from ..calls import objects
from ..calls.objects import Scope, begin, fill_objects
from ..calls.recording import SHARED
from ..native import pool, stages
from ..native.emit import Function, Module, Value
from ..native.entry import DATA, FLAGS
from ..native.pool import FIELDS
from ..native.runtime import Native, load

READY = objects.CONTIGUOUS | objects.ALIGNED

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


class StoreRecord(ctypes.Structure):
    """An object, the name of an attribute, and its new value: an object, or if that is 0 the one at
    a place among the outputs.
    """

    _fields_ = [(n, ctypes.c_int64) for n in ("holder", "name", "value", "output")]


class StorageRecord(ctypes.Structure):
    """A storage object."""

    _fields_ = [("storage", ctypes.c_int64)]


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
            "returned", "bare", "store_count", "stores", "storage_count", "storages",
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


def write_publish(module: Module) -> None:
    """Writes `publish(context, made) -> object`: sets attributes, counts versions of
    written memory, and gives what the call returns; takes the reference to the tuple of outputs.
    """
    s = begin(module, "publish", "ptr", context="ptr", made="ptr")
    f = s.f
    items = f.at(f["made"], objects.ITEMS)
    table = context(f, "stores", "ptr")
    with f.loop(0, context(f, "store_count")) as i:
        record = f.at(table, i * ctypes.sizeof(StoreRecord))
        holder, name = (get(f, record, StoreRecord, n, "ptr") for n in ("holder", "name"))
        value = f.variable("ptr", get(f, record, StoreRecord, "value", "ptr"))
        with f.when(value.get().equals(s.null())):
            value.set(f.load("ptr", items, get(f, record, StoreRecord, "output", "i64")))
        with f.when(f.call("i32", "PyObject_SetAttr", holder, name, value.get()).differs(0)):
            s.drop(f["made"])
            f.ret(s.null())
    f.call("void", "count_versions", f["context"])
    returned, bare = context(f, "returned"), context(f, "bare").differs(0)
    with f.when(bare):
        first = s.hold(f.load("ptr", items))
        s.drop(f["made"])
        f.ret(first)
    with f.when(returned.equals(context(f, "output_count"))):
        f.ret(f["made"])
    some = f.call("ptr", "PyTuple_GetSlice", f["made"], f.constant("i64", 0), returned)
    s.drop(f["made"])
    f.ret(some)


def write_versions(module: Module) -> None:
    """Writes `count_versions(context)`: what `Storage.write` does to each written storage."""
    s = begin(module, "count_versions", "void", context="ptr")
    f = s.f
    count = context(f, "storage_count")
    with f.when(count.equals(0)):
        f.ret()
    now = f.call("ptr", "PyIter_Next", s.object("CLOCK"))
    table = context(f, "storages", "ptr")
    with f.loop(0, count) as i:
        storage = f.load("ptr", table, i)
        version, written = (s.get(storage, Storage, name) for name in ("version", "written"))
        next = f.call("ptr", "PyLong_FromLong", f.call("i64", "PyLong_AsLong", version) + 1)
        s.put(storage, Storage, "version", next)
        s.put(storage, Storage, "written", s.hold(now))
        s.drop(version)
        s.drop(written)
    s.drop(now)
    f.ret()


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
        s.require(failed.get().differs(stages.FAILED))  # eagerly, the call raises its error
        f.ret(f.call("ptr", "PyErr_NoMemory"))
    f.ret(f.call("ptr", "publish", f["context"], made))
    f.lines.append(f"{s.otherwise}:")
    f.ret(s.hold(s.object("None")))


WRITERS: Sequence[Callable[[Module], None]] = (
    write_words, write_tensor, write_number, write_arguments, write_outputs, write_publish,
    write_versions, write_gate,
)  # fmt: skip


@cache
def native() -> Native:
    """The compiled entry of all gates."""
    module = Module()
    for write in (*SHARED, *WRITERS):
        write(module)
    code = load(module.text())
    fill_objects(code, module)
    code.fill("pool", pool.pool().address)
    code.fill("run", stages.native().address("run"))
    return code
