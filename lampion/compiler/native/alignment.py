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
LARGE = 1 << 14  # bytes from which an array begins at a line; smaller ones are NumPy's business
HUGE = 1 << 22  # bytes from which zeros are left to the system, whose fresh pages have them
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


def write_allocator(module: Module) -> None:
    """Writes NumPy's four functions: `take(context, size)`, `zeros(context, count, size)`,
    `again(context, block, size)`, `give(context, block, size)`. All blocks are the C library's: any
    may be reallocated and freed as another.
    """
    f = module.function("take", "ptr", context="ptr", size="i64")
    with f.when(f["size"] >= LARGE):
        place, line = f.buffer(8, 8), f.constant("i64", LINE)
        f.store(Value(f, "ptr", "null"), place)
        f.call("i32", "posix_memalign", place, line, f["size"])
        f.ret(f.load("ptr", place))
    function, context = default(f, "malloc")
    f.ret(f.call("ptr", function, context, f["size"]))
    f = module.function("zeros", "ptr", context="ptr", count="i64", size="i64")
    total = f["count"] * f["size"]
    with f.when(total >= LARGE), f.when(total < HUGE):
        block = f.call("ptr", "take", f["context"], total)
        with f.when(block.differs(Value(f, "ptr", "null"))):
            f.call("ptr", "memset", block, f.constant("i32", 0), total)
        f.ret(block)
    function, context = default(f, "calloc")
    f.ret(f.call("ptr", function, context, f["count"], f["size"]))
    f = module.function("again", "ptr", context="ptr", block="ptr", size="i64")
    function, context = default(f, "realloc")
    f.ret(f.call("ptr", function, context, f["block"], f["size"]))
    f = module.function("give", context="ptr", block="ptr", size="i64")
    function, context = default(f, "free")
    f.call("void", function, context, f["block"], f["size"])
    f.ret()


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
