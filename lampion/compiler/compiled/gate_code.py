"""The compiled entry of gates. Imports gate_records, gate_run, objects, recording and earlier
files.

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
from ..native.emit import Module, Value
from ..native.entry import DATA, FLAGS
from ..native.pool import FIELDS
from ..native.runtime import Native, load
from .gate_records import (
    NUMBER,
    OBJECT,
    TENSOR,
    ArgumentRecord,
    Context,
    OutputRecord,
    StoreRecord,
    WordRecord,
    context,
    get,
)
from .gate_run import RAISED, RUNNING

READY = objects.CONTIGUOUS | objects.ALIGNED

# -- what must be as it was ------------------------------------------------------------------------


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


def write_apart(module: Module) -> None:
    """Writes `apart(spans, count, start, end) -> i1`: whether memory lies outside of all spans."""
    f = module.function("apart", "i1", True, spans="ptr", count="i64", start="i64", end="i64")
    with f.loop(0, f["count"]) as i:
        low, high = (f.load("i64", f["spans"], i * 2 + k) for k in range(2))
        with f.when((f["end"] <= low).equals(0) & (f["start"] >= high).equals(0)):
            f.ret(Value(f, "i1", "false"))
    f.ret(Value(f, "i1", "true"))


def write_tensor(module: Module) -> None:
    """Writes `tensor(context, record, given) -> i1`: whether an argument is such a tensor; notes
    the address of its elements. It must not overlap memory that the program writes; one that the
    program writes must not overlap any state.
    """
    s = begin(module, "tensor", "i1", context="ptr", record="ptr", given="ptr")
    f = s.f
    data = s.array(f["given"])
    kind, shape, array, grad = (
        get(f, f["record"], ArgumentRecord, n, "ptr") for n in ("dtype", "shape", "array", "object")
    )
    rank = get(f, f["record"], ArgumentRecord, "rank", "i64")
    written = get(f, f["record"], ArgumentRecord, "written", "i64").differs(0)
    s.require(s.either(array.equals(s.null()), array.equals(data)))
    s.require(s.descriptor(data).equals(kind))
    s.require(f.convert("sext", s.rank(data), "i64").equals(rank))
    flags = f.load("i32", f.at(data, FLAGS))
    s.require((flags & READY).equals(READY))
    sizes = s.sizes(data)
    with f.loop(0, rank) as i:
        s.require(f.load("i64", sizes, i).equals(f.load("i64", shape, i)))
    with f.when(grad.differs(s.null())):
        s.require(s.get(f["given"], Tensor, "_requires_grad").equals(grad))
        leaf = s.is_object(s.get(f["given"], Tensor, "grad_fn"), "None")
        made = get(f, f["record"], ArgumentRecord, "made", "i64")
        s.require(f.convert("zext", leaf, "i64").differs(made))
    start = f.load("i64", f.at(data, DATA))
    end = start + get(f, f["record"], ArgumentRecord, "bytes", "i64")
    tables = [(context(f, n, "ptr"), context(f, f"{n}_count")) for n in ("written", "read")]
    s.require(f.call("i1", "apart", *tables[0], start, end))
    with f.when(written):
        s.require((flags & objects.WRITEABLE).differs(0))
        inference = f.call("ptr", "PyObject_GetAttr", f["given"], s.object("_inference"))
        s.drop(inference)
        s.require(s.is_object(inference, "False"))
        s.require(f.call("i1", "apart", *tables[1], start, end))
    operand = get(f, f["record"], ArgumentRecord, "operand", "i64")
    f.store(start, context(f, "operands", "ptr"), operand)
    f.ret(Value(f, "i1", "true"))
    f.lines.append(f"{s.otherwise}:")
    f.ret(Value(f, "i1", "false"))


def write_unshared(module: Module) -> None:
    """Writes `unshared(context) -> i1`: whether no argument overlaps another one that the program
    writes.
    """
    f = module.function("unshared", "i1", True, context="ptr")
    table, count = context(f, "arguments", "ptr"), context(f, "argument_count")
    span = f.buffer(16, 8)

    def place(i: Value) -> tuple[Value, Value, Value]:
        record = f.at(table, i * ctypes.sizeof(ArgumentRecord))
        kind = get(f, record, ArgumentRecord, "kind", "i64")
        operand = get(f, record, ArgumentRecord, "operand", "i64")
        start = f.load("i64", context(f, "operands", "ptr"), operand)
        size = f.select(kind.equals(TENSOR), get(f, record, ArgumentRecord, "bytes", "i64"), 0)
        return record, start, start + size

    with f.loop(0, count) as i:
        record, start, end = place(i)
        with f.when(get(f, record, ArgumentRecord, "written", "i64").differs(0)):
            f.store(start, span)
            f.store(end, span, 1)
            with f.loop(0, count) as k:
                _, start, end = place(k)
                one = f.constant("i64", 1)
                good = f.call("i1", "apart", span, one, start, end)
                with f.when(good.equals(0) & k.differs(i)):
                    f.ret(Value(f, "i1", "false"))
    f.ret(Value(f, "i1", "true"))


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
        for number, name in ((TENSOR, "tensor"), (NUMBER, "number")):
            with f.when(kind.equals(number)):
                good = f.call("i1", name, f["context"], record, given)
                with f.when(good.equals(0)):
                    f.ret(no)
        with f.when(kind.equals(OBJECT)):
            known = get(f, record, ArgumentRecord, "object", "ptr")
            with f.when(known.differs(given)):
                f.ret(no)
    with f.when(context(f, "writes").equals(0)):
        f.ret(Value(f, "i1", "true"))
    f.ret(f.call("i1", "unshared", f["context"]))


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
    """Writes `publish(context, made, args) -> object`: sets attributes, counts versions of
    written memory, and gives what the call returns; takes the reference to the tuple of outputs.
    """
    s = begin(module, "publish", "ptr", context="ptr", made="ptr", args="ptr")
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
    f.call("void", "count_versions", f["context"], f["args"])
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
    """Writes `count_versions(context, args)`: what `Storage.write` does to each written storage."""
    s = begin(module, "count_version", "void", storage="ptr", now="ptr")
    f, storage = s.f, s.f["storage"]
    version = f.call("i64", "PyLong_AsLong", s.get(storage, Storage, "version"))
    s.replace(storage, Storage, "version", f.call("ptr", "PyLong_FromLong", version + 1))
    s.replace(storage, Storage, "written", s.hold(f["now"]))
    f.ret()
    s = begin(module, "count_versions", "void", context="ptr", args="ptr")
    f = s.f
    count, writes = context(f, "storage_count"), context(f, "writes")
    with f.when((count + writes).equals(0)):
        f.ret()
    now = f.call("ptr", "PyIter_Next", s.object("CLOCK"))
    table = context(f, "storages", "ptr")
    with f.loop(0, count) as i:
        f.call("void", "count_version", f.load("ptr", table, i), now)
    with f.loop(0, f.select(writes.equals(0), writes, context(f, "argument_count"))) as i:
        record = f.at(context(f, "arguments", "ptr"), i * ctypes.sizeof(ArgumentRecord))
        with f.when(get(f, record, ArgumentRecord, "written", "i64").differs(0)):
            tensor = f.load("ptr", f["args"], i)
            with f.when(s.is_object(s.get(tensor, Tensor, "_storage"), "None")):
                s.replace(tensor, Tensor, "_storage", f.call("ptr", "new_storage"))
            f.call("void", "count_version", s.get(tensor, Tensor, "_storage"), now)
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
    s.require(f.call("i1", "arguments", f["context"], f["args"]))
    s.require(f.call("i1", "words", f["context"]))
    made = f.call("ptr", "outputs", f["context"])
    with f.when(made.equals(s.null())):
        f.ret(made)
    busy, passed = (f.at(f["context"], getattr(Context, n).offset) for n in ("busy", "passed"))
    f.store(s.number(1), busy)
    f.call("void", "hold", f["context"])
    failed = f.call("i64", "parts", f["context"], f["args"], made)
    f.call("void", "let_go", f["context"])
    f.store(s.number(0), busy)
    with f.when(failed.differs(0)):
        s.drop(made)
        with f.when(failed.equals(RAISED)):
            f.ret(s.null())
        with f.when(failed.equals(stages.NO_MEMORY)):
            f.ret(f.call("ptr", "PyErr_NoMemory"))
        rewind = context(f, "rewind", "ptr")
        with f.when(rewind.differs(s.null())):
            back = f.call("ptr", "PyObject_CallNoArgs", rewind)
            with f.when(back.equals(s.null())):
                f.ret(back)
            s.drop(back)
        s.require(failed.equals(0))  # eagerly, the call raises its error
    f.store(f.load("i64", passed) + 1, passed)
    f.ret(f.call("ptr", "publish", f["context"], made, f["args"]))
    f.lines.append(f"{s.otherwise}:")
    f.ret(s.hold(s.object("None")))


WRITERS: Sequence[Callable[[Module], None]] = (
    write_words, write_apart, write_tensor, write_number, write_unshared, write_arguments,
    write_outputs, write_publish, write_versions, *RUNNING, write_gate,
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
