"""Python objects seen from compiled code: tensors, nodes, arrays; reading, making, counting them.
Imports core, emit, entry and runtime.

Slots are found at the offsets that their descriptors hold; a check at start compares what lies
there with what Python says. Code here is emitted into a `Scope`, which names one function being
written and the label it goes to where it does not know what to do.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numpy._core import _multiarray_umath

from ... import dtypes
from ...core.graph import F32, F64, KNOWN, NOTHING, STATE, Node, SavedOutput, Slot
from ...core.memory import CLOCK, Storage
from ...core.promotion import SCALARS, scalar_array
from ...core.tensor import Parameter, Size, Tensor, wrap
from ...device import device
from ..native.emit import Function, Module, Value
from ..native.entry import DATA, DESCRIPTOR, FLAGS, RANK, SHAPE, STRIDES, TYPE, readable
from ..native.runtime import Native

ITEMS = 24  # where a tuple's items begin
SIZE = 16  # where a tuple, list or bytes object says how many items it has
BASE = 48  # an array's base
CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400
MOST_DIMS = 16
ITEM_SIZES = {"F32": 4, "F64": 8, "I64": 8, "BOOL": 1}  # of the common types, in bytes
SMALL = 4096  # elements up to which compiled calls compute by themselves
# Functions of NumPy's C interface: their numbers in its table, which never change.
ARRAY_FUNCTIONS = {"as_array": 70, "new_array": 94, "take_from": 124, "matrix_product": 280,
                   "set_base": 282}  # fmt: skip
COMPILED_PLANS: dict[Any, int] = {}  # plan of a backward -> where its compiled form is
# Objects that code refers to; each is a global of that name.
OBJECTS: dict[str, Any] = {
    "None": None, "True": True, "False": False, "zero": 0, "sixteen": 16,
    "int": int, "float": float, "slice": slice, "tuple": tuple, "list": list, "Size": Size,
    "new_tuple": tuple.__new__,
    "ndarray": np.ndarray, "F32": F32, "F64": F64, "I64": np.dtype(np.int64),
    "BOOL": np.dtype(bool),
    "SCALARS32": SCALARS[F32], "SCALARS64": SCALARS[F64],
    "ZERO32": SCALARS[F32].setdefault((0, 1.0), wrap(scalar_array(0.0, F32))),
    "ZERO64": SCALARS[F64].setdefault((0, 1.0), wrap(scalar_array(0.0, F64))),
    "Tensor": Tensor, "Parameter": Parameter, "Node": Node, "Storage": Storage,
    "SavedOutput": SavedOutput, "Slot": Slot, "STATE": STATE, "NOTHING": NOTHING, "CLOCK": CLOCK,
    "COMPILED_PLANS": COMPILED_PLANS,
    "Ellipsis": ..., "FULL": slice(None), "EMPTY": (), "LAST": (-1,),
    "MEANED": {"ignore_index": -100, "reduction": "mean"},
    "ignored": -100, "averaged": "mean", "total": "sum", "smooth": 0.0, "prefix": "lampion.",
    "dtypes": vars(dtypes), "float32": dtypes.float32, "float64": dtypes.float64,
    "int64": dtypes.int64, "truth": dtypes.bool, "device": device,
} | {
    name: name
    for name in ("mode", "prune", "shape", "index", "dim", "dims", "view", "eps",
                 "_inference", "acquire", "release", "_default", "__name__", "dim0", "dim1",
                 "form", "none", "cpu", "mean", "clamp_", "node", "fro", "constant")
}  # fmt: skip


@cache
def offset(cls: Any, name: str) -> int:
    """Where the slot lies in an instance, in bytes (CPython's PyMemberDescrObject)."""
    descriptor = getattr(cls, name)
    member = ctypes.c_void_p.from_address(id(descriptor) + 40).value or 0
    return ctypes.c_ssize_t.from_address(member + 16).value


@cache
def known_layout() -> bool:
    """Whether objects lie in memory as code emitted here assumes."""
    if not readable():
        return False
    storage, node, made = Storage(), Node(), wrap(np.zeros((2, 3), np.float32))
    made._storage, node.seq = storage, 12345
    saved = SavedOutput(made)
    probes: list = [(made, n) for n in ("_data", "_requires_grad", "grad_fn", "_storage", "_view")]
    probes += [(storage, "version"), (storage, "views"), (node, "seq"), (saved, "_data")]
    for holder, name in probes:
        at = id(holder) + offset(holder.__class__, name)
        if ctypes.c_void_p.from_address(at).value != id(getattr(holder, name)):
            return False
    view = made._data[1:]
    pair = (view, node)
    word = ctypes.c_void_p.from_address
    return (
        word(id(view) + BASE).value == id(made._data)
        and word(id(pair) + ITEMS + 8).value == id(node)
        and word(id(pair) + SIZE).value == 2
    )


def array_table() -> int:
    """The address of NumPy's table of C functions."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return pointer(_multiarray_umath._ARRAY_API, None)


def fill_objects(code: Native, module: Module) -> None:
    """Sets the globals of a loaded module that name objects, functions and the known mode."""
    table = array_table()
    for name, number in ARRAY_FUNCTIONS.items():
        if f"numpy_{name}" in module.globals:
            function = ctypes.c_void_p.from_address(table + 8 * number).value or 0
            code.fill(f"numpy_{name}", function)
    for name, value in OBJECTS.items():
        if f"object_{name}" in module.globals:
            code.fill(f"object_{name}", id(value))
    if "known_mode" in module.globals:
        code.fill("known_mode", KNOWN.buffer_info()[0])


class Scope:
    """A function being written, and the label it goes to where it gives up."""

    def __init__(self, f: Function, otherwise: str = "unknown") -> None:
        self.f, self.otherwise = f, otherwise

    # -- conditions ----------------------------------------------------------------------------

    def require(self, condition: Value) -> None:
        """Gives up unless the condition holds."""
        f = self.f
        f.count += 1
        f.do(f"br {condition}, label %good{f.count}, label %{self.otherwise}")
        f.lines.append(f"good{f.count}:")

    def either(self, a: Value, b: Value) -> Value:
        """`a or b`."""
        return self.f.emit("i1", f"or {a}, {b.name}")

    def both(self, a: Value, b: Value) -> Value:
        """`a and b`."""
        return self.f.emit("i1", f"and {a}, {b.name}")

    def null(self) -> Value:
        """The null pointer."""
        return Value(self.f, "ptr", "null")

    def given(self, i: int) -> Value:
        """A core's argument, null if absent."""
        return self.f.load("ptr", self.f["given"], i)

    def needed(self, i: int) -> Value:
        """A core's argument, which must be there."""
        value = self.given(i)
        self.require(value.differs(self.null()))
        return value

    def number(self, value: int, type: str = "i64") -> Value:
        """A constant."""
        return self.f.constant(type, value)

    def end(self) -> None:
        """Writes where the function goes when it gives up: it returns null."""
        self.f.lines.append(f"{self.otherwise}:")
        self.f.ret(self.null())

    # -- objects -------------------------------------------------------------------------------

    def object(self, name: str) -> Value:
        """One of `OBJECTS`."""
        return self.f.load("ptr", Value(self.f, "ptr", self.f.module.pointer(f"object_{name}")))

    def is_object(self, value: Value, name: str) -> Value:
        """Whether a pointer is one of `OBJECTS`."""
        return value.equals(self.object(name))

    def is_missing(self, value: Value) -> Value:
        """Whether an argument is absent or None."""
        return self.either(value.equals(self.null()), self.is_object(value, "None"))

    def type_of(self, value: Value) -> Value:
        """The object's class."""
        return self.f.load("ptr", self.f.at(value, TYPE))

    def is_a(self, value: Value, *names: str) -> Value:
        """Whether the object's class is exactly one of these."""
        kind = self.type_of(value)
        found = self.is_object(kind, names[0])
        for name in names[1:]:
            found = self.either(found, self.is_object(kind, name))
        return found

    def hold(self, value: Value) -> Value:
        """Counts one more reference."""
        self.f.call("void", "Py_IncRef", value)
        return value

    def drop(self, value: Value) -> None:
        """Counts one reference less."""
        self.f.call("void", "Py_DecRef", value)

    def get(self, value: Value, cls: type, name: str) -> Value:
        """What a slot holds (borrowed)."""
        return self.f.load("ptr", self.f.at(value, offset(cls, name)))

    def put(self, value: Value, cls: type, name: str, item: Value) -> None:
        """Fills a slot of a new object with a reference that the caller owns."""
        self.f.store(item, self.f.at(value, offset(cls, name)))

    def replace(self, value: Value, cls: type, name: str, item: Value) -> None:
        """Sets a slot that is filled to an owned reference."""
        before = self.get(value, cls, name)
        self.put(value, cls, name, item)
        self.drop(before)

    def call_array(self, type: str, name: str, *arguments: Value) -> Value:
        """Calls a function of NumPy's C interface."""
        place = Value(self.f, "ptr", self.f.module.pointer(f"numpy_{name}"))
        return self.f.call(type, self.f.load("ptr", place), *arguments)

    def mode(self) -> Value:
        """The mode of this thread's calls, as an i64."""
        return self.f.call("i64", "mode")

    # -- tensors and arrays --------------------------------------------------------------------

    def array(self, tensor: Value) -> Value:
        """A tensor's array; gives up for anything but a plain tensor or parameter with one."""
        self.require(self.is_a(tensor, "Tensor", "Parameter"))
        data = self.get(tensor, Tensor, "_data")
        self.require(data.differs(self.null()))
        self.require(self.is_a(data, "ndarray"))
        return data

    def floats(self, tensor: Value) -> tuple[Value, Value]:
        """The array, of float32 or float64, and its descriptor."""
        data = self.array(tensor)
        kind = self.descriptor(data)
        self.require(self.either(self.is_object(kind, "F32"), self.is_object(kind, "F64")))
        return data, kind

    def get_array(self, tensor: Value) -> Value:
        """The array of a tensor that `array` has let pass."""
        return self.get(tensor, Tensor, "_data")

    def optional_row(self, i: int, kind: Value, n: Value) -> tuple[Value, Value]:
        """A core's argument that is a vector of that type and size, and its memory; null for both
        where it is absent or None.
        """
        f, given = self.f, self.given(i)
        found, memory = f.variable("ptr", self.null()), f.variable("ptr", self.null())
        with f.when(self.is_missing(given).equals(0)):
            row = self.array(given)
            self.require(self.descriptor(row).equals(kind))
            self.require(self.rank(row).equals(1))
            self.require(f.load("i64", self.sizes(row)).equals(n))
            self.require(self.contiguous(row))
            found.set(given)
            memory.set(self.memory(row))
        return found.get(), memory.get()

    def integer(self, value: Value) -> Value:
        """The number of an int that an i64 holds."""
        f = self.f
        self.require(self.is_a(value, "int"))
        found = f.call("i64", "PyLong_AsSsize_t", value)
        with f.when(found.equals(-1)):
            self.require(f.call("ptr", "PyErr_Occurred").equals(self.null()))
        return found

    def double(self, number: Value) -> Value:
        """The number of a float or an int that a double holds."""
        f = self.f
        self.require(self.is_a(number, "float", "int"))
        found = f.call("double", "PyFloat_AsDouble", number)
        with f.when(found.equals(-1)):
            self.require(f.call("ptr", "PyErr_Occurred").equals(self.null()))
        return found

    def fits_float(self, number: Value) -> Value:
        """Whether a double becomes no infinity in float32, unless it is one."""
        f = self.f
        narrow = f.convert("fpext", f.convert("fptrunc", number, "float"), "double")
        size, infinity = f.call("double", "llvm.fabs.f64", narrow), "0x7FF0000000000000"
        finite = size.differs(Value(f, "double", infinity))
        return self.either(finite, number.equals(narrow))

    def contiguous(self, data: Value) -> Value:
        """Whether the array lies row by row."""
        return (self.f.load("i32", self.f.at(data, FLAGS)) & CONTIGUOUS).differs(0)

    def descriptor(self, data: Value) -> Value:
        """The array's type (borrowed)."""
        return self.f.load("ptr", self.f.at(data, DESCRIPTOR))

    def rank(self, data: Value) -> Value:
        """The number of dimensions, an i32."""
        return self.f.load("i32", self.f.at(data, RANK))

    def sizes(self, data: Value) -> Value:
        """The address of the shape."""
        return self.f.load("ptr", self.f.at(data, SHAPE))

    def steps(self, data: Value) -> Value:
        """The address of the strides, in bytes."""
        return self.f.load("ptr", self.f.at(data, STRIDES))

    def memory(self, data: Value) -> Value:
        """The address of the first element."""
        return self.f.load("ptr", self.f.at(data, DATA))

    def count(self, data: Value) -> Value:
        """The number of elements."""
        return self.f.call("i64", "count_elements", data)

    def new_array(self, kind: Value, rank: Value, sizes: Value) -> Value:
        """A new array, row by row; gives up where there is no memory."""
        self.hold(kind)  # the array takes it
        null, zero = self.null(), self.number(0, "i32")
        ndarray = self.object("ndarray")
        made = self.call_array(
            "ptr", "new_array", ndarray, kind, rank, sizes, null, null, zero, null
        )
        self.require(made.differs(null))
        return made

    def new_tensor(self, data: Value) -> Value:
        """A tensor around an array whose reference it takes; null where there is no memory."""
        return self.f.call("ptr", "new_tensor", data)

    def tuple_of(self, *items: Value) -> Value:
        """A tuple of owned references."""
        made = self.f.call("ptr", "PyTuple_New", self.number(len(items)))
        for i, item in enumerate(items):
            self.f.store(item, made, (ITEMS >> 3) + i)
        return made


def begin_core(module: Module, name: str) -> Scope:
    """Begins a core (see `calls`)."""
    return Scope(module.function(name, "ptr", context="ptr", given="ptr"))


def begin(module: Module, name: str, result: str, /, **parameters: str) -> Scope:
    """Begins a function that other code of the module calls."""
    return Scope(module.function(name, result, True, **parameters))
