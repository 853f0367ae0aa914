"""Compiled functions as CPython built-ins made at run time. Imports emit and runtime.

An entry has CPython's own calling convention (METH_FASTCALL), so a call costs some 20 ns. It reads
pointers, shapes and strides out of the array objects, at offsets that a check at start compares
with what NumPy reports. Whatever it does not know, wrong arguments included, it hands to a Python
function with the same arguments; where objects are laid out differently (free-threaded and debug
builds), that Python function is the entry.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from .emit import Function, Module, Value
from .runtime import Native

METH_FASTCALL = 0x80
# Offsets in array and descriptor objects, in bytes, and flags (NumPy's ndarraytypes.h).
TYPE, DATA, RANK, SHAPE, STRIDES, DESCRIPTOR, FLAGS = 8, 16, 24, 32, 40, 56, 64
BYTE_ORDER, TYPE_NUMBER = 26, 28
ALIGNED, WRITEABLE = 0x0100, 0x0400


@cache
def readable() -> bool:
    """Whether arrays are laid out in this interpreter as the entries assume."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    if object.__basicsize__ != 16 or np.ndarray.__basicsize__ < FLAGS + 4:
        return False
    probes: list[np.ndarray] = [
        np.zeros((3, 5), np.float32),
        np.zeros((4, 6), np.float64)[::2, ::-1],
    ]
    probes.append(probes[0].T[1:])
    probes[2].flags.writeable = False
    return all(agrees(probe) for probe in probes)


def agrees(array: np.ndarray) -> bool:
    """Whether what is read from the object's memory is what NumPy says."""
    base = id(array)

    def word(offset: int, type: Any = ctypes.c_int64) -> int:
        return type.from_address(base + offset).value

    if word(TYPE) != id(np.ndarray) or word(DESCRIPTOR) != id(array.dtype):
        return False
    if word(RANK, ctypes.c_int32) != array.ndim or word(DATA) != array.ctypes.data:
        return False
    for offset, known in ((SHAPE, array.shape), (STRIDES, array.strides)):
        if tuple((ctypes.c_int64 * array.ndim).from_address(word(offset))) != known:
            return False
    flags = word(FLAGS, ctypes.c_int32)
    number = ctypes.c_int32.from_address(id(array.dtype) + TYPE_NUMBER).value
    order = ctypes.c_char.from_address(id(array.dtype) + BYTE_ORDER).value
    return (
        bool(flags & WRITEABLE) == array.flags.writeable
        and bool(flags & ALIGNED) == array.flags.aligned
        and number == array.dtype.num
        and order.decode() == array.dtype.byteorder
    )


class Array(NamedTuple):
    """What an entry knows of an array argument."""

    data: Value
    shape: list[Value]
    strides: list[Value]  # in bytes


def require(f: Function, condition: Value, otherwise: str) -> None:
    """Goes to the label unless the condition holds."""
    with f.when(condition.equals(0), leave=otherwise):
        pass


def read_array(
    f: Function, object: Value, rank: int, number: int, otherwise: str, writeable: bool = False
) -> Array:
    """Reads an ndarray of that rank and type number; anything else goes to the label."""
    kind = f.load("ptr", Value(f, "ptr", f.module.pointer("ndarray")))
    require(f, f.load("ptr", f.at(object, TYPE)).equals(kind), otherwise)
    require(f, f.load("i32", f.at(object, RANK)).equals(rank), otherwise)
    descriptor = f.load("ptr", f.at(object, DESCRIPTOR))
    require(f, f.load("i32", f.at(descriptor, TYPE_NUMBER)).equals(number), otherwise)
    require(f, f.load("i8", f.at(descriptor, BYTE_ORDER)).differs(swapped_order()), otherwise)
    need = ALIGNED | (WRITEABLE if writeable else 0)
    require(f, (f.load("i32", f.at(object, FLAGS)) & need).equals(need), otherwise)
    shape, strides = f.load("ptr", f.at(object, SHAPE)), f.load("ptr", f.at(object, STRIDES))
    return Array(
        f.load("ptr", f.at(object, DATA)),
        [f.load("i64", shape, i) for i in range(rank)],
        [f.load("i64", strides, i) for i in range(rank)],
    )


def swapped_order() -> int:
    """The mark of descriptors whose byte order is not the machine's."""
    return ord(">" if sys.byteorder == "little" else "<")


def extent(f: Function, array: Array, size: int) -> tuple[Value, Value]:
    """The first address of an array that is not empty, and the one after its last."""
    low = f.convert("ptrtoint", array.data, "i64")
    high = low + size
    for count, stride in zip(array.shape, array.strides, strict=True):
        span = (count - 1) * stride
        low = low + f.select(span < 0, span, 0)
        high = high + f.select(span > 0, span, 0)
    return low, high


def begin(module: Module, name: str, arguments: int) -> tuple[Function, list[Value], str]:
    """Begins an entry of so many arguments; `finish` ends it. Gives the function, the arguments
    and the label of the Python function.
    """
    f = module.function(name, "ptr", self="ptr", args="ptr", count="i64")
    require(f, f["count"].equals(arguments), "general")
    return f, [f.load("ptr", f["args"], i) for i in range(arguments)], "general"


def finish(f: Function, result: Value) -> None:
    """Returns a new reference to `result`; writes the way to the Python function."""
    f.call("void", "Py_IncRef", result)
    f.ret(result)
    f.lines.append("general:")
    function = f.load("ptr", Value(f, "ptr", f.module.pointer("python")))
    null = Value(f, "ptr", "null")
    f.ret(f.call("ptr", "PyObject_Vectorcall", function, f["args"], f["count"], null))


class Method(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


KEPT: list[Any] = []  # what built-ins point to


def builtin(code: Native, name: str, general: Callable[..., Any]) -> Callable[..., Any]:
    """The compiled entry as a Python built-in; `general` gets the calls it does not know."""
    if not readable():
        return general
    code.fill("ndarray", id(np.ndarray))
    code.fill("python", id(general))
    doc = (general.__doc__ or "").encode()
    method = Method(name.encode(), code.address(name), METH_FASTCALL, doc)
    KEPT.append((method, general))
    return function(method)


def function(method: Method, context: Any = None, module: Any = None) -> Callable[..., Any]:
    """A new CPython built-in: it is called with the context's address, a number; it keeps `module`
    alive and nothing else.
    """
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    null = ctypes.py_object()
    number = null if context is None else ctypes.py_object(ctypes.addressof(context))
    owner = null if module is None else ctypes.py_object(module)
    return make(ctypes.addressof(method), number, owner)
