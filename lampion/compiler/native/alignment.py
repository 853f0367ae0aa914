"""Memory of large arrays at the beginning of a cache line, through NumPy's own hook for allocators
(NEP 49). Imports emit, entry and runtime.

malloc gives addresses that are multiples of 16, so that half of all loads and stores of a wide
vector would touch two lines: that costs loops in the caches a tenth to a third of their speed.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

from numpy._core import _multiarray_umath

from . import runtime
from .emit import Function, Module, Value
from .entry import readable

LINE = 64
LARGE = 1 << 14  # bytes from which an array begins at a line
UNIT = 16  # bytes that all blocks begin at a multiple of
SET_HANDLER, DEFAULT_HANDLER = 304, 306  # numbers in NumPy's table of C functions
NAME = b"mem_handler"
DEFAULT = ("context", "malloc", "calloc", "realloc", "free")


class Handler(ctypes.Structure):
    """NumPy's PyDataMem_Handler."""

    _fields_ = [
        ("name", ctypes.c_char * 127),
        ("version", ctypes.c_uint8),
        ("context", ctypes.c_void_p),
        ("malloc", ctypes.c_void_p),
        ("calloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
    ]


def default(f: Function, name: str) -> tuple[Value, Value]:
    """A function of NumPy's own allocator, and its first argument."""
    pointers = [Value(f, "ptr", f.module.pointer(f"default_{n}")) for n in (name, "context")]
    return f.load("ptr", pointers[0]), f.load("ptr", pointers[1])


def room_for(f: Function, size: Value) -> Value:
    """Bytes that a block is larger than its array: its start is moved there by up to as many."""
    return f.select(size >= LARGE, f.constant("i64", LINE), UNIT)


def moved(f: Function, block: Value, room: Value) -> Value:
    """Where the array in a block begins: at the next multiple of `room`, so behind the block's
    start, which is noted before it.
    """
    address = f.convert("ptrtoint", block, "i64")
    return f.at(block, ((address + room) & (room * -1)) - address)


def note(f: Function, block: Value, start: Value) -> None:
    """Writes down the start of the array's block."""
    f.store(block, f.at(start, -8))


def write_allocator(module: Module) -> None:
    """Writes NumPy's four functions: `take(context, size)`, `zeros(context, count, size)`,
    `again(context, start, size)`, `give(context, start, size)`. Each takes a block that is a little
    larger from NumPy's own function: posix_memalign's leave gaps that the C library fills badly.
    """
    for name, own in (("take", "malloc"), ("zeros", "calloc")):
        counts = {"count": "i64"} if own == "calloc" else {}
        f = module.function(name, "ptr", context="ptr", **counts, size="i64")
        size = f["count"] * f["size"] if counts else f["size"]
        room, (function, context) = room_for(f, size), default(f, own)
        one = [f.constant("i64", 1)] if counts else []
        block = f.call("ptr", function, context, *one, size + room)
        give_up(f, block)
        start = moved(f, block, room)
        note(f, block, start)
        f.ret(start)
    f = module.function("again", "ptr", context="ptr", start="ptr", size="i64")
    with f.when(is_null(f, f["start"])):
        f.ret(f.call("ptr", "take", f["context"], f["size"]))
    function, context = default(f, "realloc")
    before = f.load("ptr", f.at(f["start"], -8))
    offset = f.convert("ptrtoint", f["start"], "i64") - f.convert("ptrtoint", before, "i64")
    block = f.call("ptr", function, context, before, f["size"] + LINE)
    give_up(f, block)
    start = moved(f, block, room_for(f, f["size"]))
    f.call("ptr", "memmove", start, f.at(block, offset), f["size"])
    note(f, block, start)
    f.ret(start)
    f = module.function("give", context="ptr", start="ptr", size="i64")
    with f.when(is_null(f, f["start"])):
        f.ret()
    function, context = default(f, "free")
    block = f.load("ptr", f.at(f["start"], -8))
    f.call("void", function, context, block, f["size"] + room_for(f, f["size"]))
    f.ret()


def is_null(f: Function, pointer: Value) -> Value:
    """Whether the pointer is null."""
    return f.convert("ptrtoint", pointer, "i64").equals(0)


def give_up(f: Function, block: Value) -> None:
    """Returns null where there is no memory."""
    with f.when(is_null(f, block)):
        f.ret(block)


@cache
def align_arrays() -> None:
    """Has NumPy's new arrays of LARGE bytes or more begin at a cache line, in this thread's context
    and those copied from it. Each array remembers what it was allocated by.
    """
    if os.name != "posix" or not readable():
        return
    api = ctypes.pythonapi
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    table = api.PyCapsule_GetPointer(_multiarray_umath._ARRAY_API, None)
    word = ctypes.c_void_p.from_address
    kept = ctypes.py_object.from_address(word(table + 8 * DEFAULT_HANDLER).value or 0).value
    own = Handler.from_address(api.PyCapsule_GetPointer(kept, NAME))
    module = Module()
    write_allocator(module)
    code = runtime.load(module.text())
    for name in DEFAULT:
        code.fill(f"default_{name}", getattr(own, name) or 0)
    functions = [code.address(n) for n in ("take", "zeros", "again", "give")]
    made = Handler(b"lampion", own.version, None, *functions)
    new = api.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    capsule = new(ctypes.addressof(made), NAME, None)
    for lasting in (made, code.engine, capsule):  # arrays may outlive this module
        api.Py_IncRef(ctypes.py_object(lasting))
    change = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)
    change(word(table + 8 * SET_HANDLER).value or 0)(capsule)
