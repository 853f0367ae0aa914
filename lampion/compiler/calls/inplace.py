"""Compiled calls that write in place where nothing is recorded: add_, mul_, fill_, zero_, copy_.
Imports elementwise, objects and core.

A write counts one more version of the storage and notes the operator and the user's instruction,
as `core.memory.Storage.write` does it in Python.
"""

from __future__ import annotations

import ctypes

from ...core.graph import GENERAL, TAPE
from ...core.memory import Storage
from ...core.op import OPS
from ...core.tensor import Tensor
from ..native.emit import Module, Value
from ..native.entry import FLAGS
from .elementwise import Context as Elementwise, context_of as elementwise_context
from .loops import FLOAT_TYPES
from .objects import SMALL, WRITEABLE, Scope, begin, begin_core


class Context(ctypes.Structure):
    """The operator's own context, and what it is called in place."""

    _fields_ = [("operator", Elementwise), ("name", ctypes.py_object)]


NAME = Context.name.offset >> 3
ANY = 1 << 62  # elements


def context_of(operator: str, name: str) -> Context:
    """The context of an operator in place; of one that only has a name, `operator` is ""."""
    own = elementwise_context(OPS[operator]) if operator else Elementwise()
    return Context(own, name)


# -- the storage's notes ---------------------------------------------------------------------------


def write_is_ours(module: Module) -> None:
    """`is_ours(frame)`: whether a frame runs a function of the library."""
    s = begin(module, "is_ours", "i1", frame="ptr")
    f = s.f
    names = f.call("ptr", "PyFrame_GetGlobals", f["frame"])
    own = f.call("ptr", "PyDict_GetItemWithError", names, s.object("__name__"))
    s.drop(names)
    with f.when(own.equals(s.null())):
        f.ret(Value(f, "i1", "false"))
    last, front = s.number((1 << 63) - 1), s.number(-1, "i32")
    arguments = (own, s.object("prefix"), s.number(0), last, front)
    f.ret(f.call("i64", "PyUnicode_Tailmatch", *arguments).equals(1))


def write_note(module: Module) -> None:
    """`note_write(tensor, name)`: its storage is written to by the operator `name`, which the
    nearest frame asked for that is not the library's.
    """
    s = begin(module, "note_write", "ptr", tensor="ptr", name="ptr")
    f, tensor = s.f, s.f["tensor"]
    with f.when(s.is_object(s.get(tensor, Tensor, "_storage"), "None")):
        made = f.call("ptr", "new_storage")
        s.require(made.differs(s.null()))
        s.replace(tensor, Tensor, "_storage", made)
    storage = s.get(tensor, Tensor, "_storage")
    frame = f.variable("ptr", f.call("ptr", "PyEval_GetFrame"))
    s.require(frame.get().differs(s.null()))
    s.hold(frame.get())
    with f.forever() as leave:
        with f.when(f.call("i1", "is_ours", frame.get()).equals(0), leave):
            pass
        back = f.call("ptr", "PyFrame_GetBack", frame.get())
        with f.when(back.equals(s.null()), leave):
            pass
        s.drop(frame.get())
        frame.set(back)
    version = f.call("i64", "PyLong_AsLong", s.get(storage, Storage, "version")) + 1
    s.replace(storage, Storage, "version", f.call("ptr", "PyLong_FromSsize_t", version))
    s.replace(storage, Storage, "written", f.call("ptr", "PyIter_Next", s.object("CLOCK")))
    code = f.call("ptr", "PyFrame_GetCode", frame.get())
    at = f.convert("sext", f.call("i32", "PyFrame_GetLasti", frame.get()), "i64")
    s.drop(frame.get())
    instruction = f.call("ptr", "PyLong_FromSsize_t", at)
    writer = s.tuple_of(s.hold(f["name"]), code, instruction)
    s.replace(storage, Storage, "writer", writer)
    f.ret(tensor)
    s.end()


# -- cores -----------------------------------------------------------------------------------------


def target(s: Scope, tensor: Value, most: int = SMALL) -> tuple[Value, Value, Value]:
    """The array of a tensor that may be written to without further ado, its type, and the mode;
    gives up for more than `most` elements.
    """
    f = s.f
    x, kind = s.floats(tensor)
    mode = s.mode()
    s.require(mode.differs(GENERAL))
    s.require(s.contiguous(x))
    s.require((f.load("i32", f.at(x, FLAGS)) & WRITEABLE).differs(0))
    unrecorded(s, tensor, mode)
    inference = f.call("ptr", "PyObject_GetAttr", tensor, s.object("_inference"))
    s.require(inference.differs(s.null()))
    s.drop(inference)
    s.require(s.is_object(inference, "False"))
    s.require(s.count(x) <= most)
    return x, kind, mode


def unrecorded(s: Scope, tensor: Value, mode: Value) -> None:
    """Gives up where the tensor's part in the call would be recorded."""
    needs = s.f.call("i64", "grad_mask", tensor, s.null(), s.null()).differs(0)
    s.require(s.both(needs, mode.equals(TAPE)).equals(0))


def apart(s: Scope, x: Value, y: Value, kind: Value) -> None:
    """Gives up where two arrays that lie row by row share memory, unless they are the same."""
    f = s.f
    size = f.select(s.is_object(kind, "F64"), s.number(8), 4)
    starts = [f.convert("ptrtoint", s.memory(a), "i64") for a in (x, y)]
    ends = [start + s.count(a) * size for start, a in zip(starts, (x, y), strict=True)]
    free = s.either(ends[0] <= starts[1], ends[1] <= starts[0])
    same = s.both(starts[0].equals(starts[1]), ends[0].equals(ends[1]))
    s.require(s.either(free, same))


def operand(s: Scope, given: Value, x: Value, kind: Value, mode: Value) -> tuple[Value, Value]:
    """The array of a tensor of the target's type and shape, or of a number, and its step."""
    f = s.f
    other = f.variable("ptr", given)
    with f.when(s.is_a(given, "float", "int")):
        other.set(f.call("ptr", "number", given, kind))
        s.require(other.get().differs(s.null()))
    y = s.array(other.get())
    s.require(s.descriptor(y).equals(kind))
    s.require(f.call("i1", "agree", y, x).differs(0))
    unrecorded(s, other.get(), mode)
    apart(s, x, y, kind)
    return y, f.select(s.rank(y).equals(0), s.number(0), 1)


def written(s: Scope, tensor: Value, name: Value | None = None) -> None:
    """Notes the write and returns the tensor itself."""
    f = s.f
    name = f.load("ptr", f["context"], NAME) if name is None else name
    noted = f.call("ptr", "note_write", tensor, name)
    s.require(noted.differs(s.null()))
    f.ret(s.hold(tensor))
    s.end()


def run_kernel(s: Scope, x: Value, y: Value) -> None:
    """The operator's kernel of both arrays, into the first: it knows vectors and threads."""
    f, stack = s.f, s.f.buffer(24, 8)
    for i, array in enumerate((x, y, x)):
        f.store(array, stack, i)
    kernel = f.load("ptr", f["context"])
    made = f.call("ptr", "PyObject_Vectorcall", kernel, stack, s.number(3), s.null())
    s.require(made.differs(s.null()))
    s.drop(made)


def write_arithmetic(module: Module) -> None:
    """`arithmetic_(context, (self, other, alpha))`; alpha belongs to sums, whose loop is apart."""
    s = begin_core(module, "arithmetic_")
    f, tensor, given = s.f, s.needed(0), s.needed(1)
    s.require(s.given(2).equals(s.null()))
    x, kind, mode = target(s, tensor, ANY)
    y, step = operand(s, given, x, kind, mode)
    with f.when(s.count(x) > SMALL):
        run_kernel(s, x, y)
        noted = f.call("ptr", "note_write", tensor, f.load("ptr", f["context"], NAME))
        s.require(noted.differs(s.null()))
        f.ret(s.hold(tensor))
    wide = s.is_object(kind, "F64")
    loop = f.select(wide, f.load("ptr", f["context"], 2), f.load("ptr", f["context"], 1))
    s.require(loop.differs(s.null()))
    memory = s.memory(x)
    f.call("void", loop, memory, memory, s.memory(y), s.count(x), s.number(1), step)
    written(s, tensor)


def write_scaled_sum(module: Module) -> None:
    """`scaled_sum_(context, (self, other, alpha))`: add_ with a factor, or without."""
    s = begin_core(module, "scaled_sum_")
    f, tensor, given, alpha = s.f, s.needed(0), s.needed(1), s.given(2)
    with f.when(alpha.equals(s.null())):
        f.ret(f.call("ptr", "arithmetic_", f["context"], f["given"]))
    s.require(s.is_a(alpha, "float"))
    x, kind, mode = target(s, tensor)
    y, step = operand(s, given, x, kind, mode)
    factor = f.call("double", "PyFloat_AsDouble", alpha)
    for type, bits in FLOAT_TYPES:
        with f.when(s.is_object(kind, f"F{bits}")):
            scale = factor if type == "double" else f.convert("fptrunc", factor, type)
            with f.loop(0, s.count(x)) as i:
                term = f.load(type, s.memory(y), i * step) * scale
                f.store(f.load(type, s.memory(x), i) + term, s.memory(x), i)
    written(s, tensor)


def write_fill(module: Module) -> None:
    """`fill_(context, (self, value))` with a float, and `zero_(context, (self))`."""
    for name in ("fill_", "zero_"):
        s = begin_core(module, name)
        f, tensor = s.f, s.needed(0)
        x, kind, _ = target(s, tensor)
        value = s.number(0, "double")
        if name == "fill_":
            s.require(s.is_a(s.needed(1), "float"))
            value = f.call("double", "PyFloat_AsDouble", s.given(1))
        for type, bits in FLOAT_TYPES:
            with f.when(s.is_object(kind, f"F{bits}")):
                number = value if type == "double" else f.convert("fptrunc", value, type)
                with f.loop(0, s.count(x)) as i:
                    f.store(number, s.memory(x), i)
        written(s, tensor)


def write_copy(module: Module) -> None:
    """`copy_(context, (self, src))` of a tensor of the same type and shape."""
    s = begin_core(module, "copy_")
    f, tensor, source = s.f, s.needed(0), s.needed(1)
    x, kind, mode = target(s, tensor)
    y = s.array(source)
    s.require(s.rank(y).equals(s.rank(x)))
    s.require(f.call("i1", "agree", y, x).differs(0))
    s.require(s.descriptor(y).equals(kind))
    unrecorded(s, source, mode)
    size = f.select(s.is_object(kind, "F64"), s.number(8), 4)
    f.call("ptr", "memmove", s.memory(x), s.memory(y), s.count(x) * size)
    written(s, tensor)


SHARED = (write_is_ours, write_note, write_arithmetic, write_scaled_sum, write_fill, write_copy)
