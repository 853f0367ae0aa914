"""Runs one compiled function over tiles, on arrays, from Python. Imports pool, entry and earlier
files.

The function is `f(job, tile, workspace)`; it is called once for each tile on the pool's threads,
which take tile after tile from one counter. The job is what it reads: eight bytes for each array's
address, then numbers. No workspace is given.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from numpy import ndarray

from ..settings import processors, settings
from . import entry, pool, runtime
from .emit import Function, Module, Value

FUNCTION, JOB, TILES, NEXT, TASK_BYTES = 0, 8, 16, 64, 128  # offsets in a task
MOST = 4096  # bytes of a job
MAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # parameters of glibc's mallopt
POOL_FUNCTIONS = ("enter", "leave", "parallel")


def write_share(module: Module) -> None:
    """Writes `share(task, thread)`: takes tiles until there are none."""
    f = module.function("share", task="ptr", thread="i64")
    function, job = (f.load("ptr", f.at(f["task"], offset)) for offset in (FUNCTION, JOB))
    tiles = f.load("i64", f.at(f["task"], TILES))
    with f.forever() as done:
        place = f.at(f["task"], NEXT)
        tile = f.emit("i64", f"atomicrmw add {place}, i64 1 seq_cst")
        with f.when(tile >= tiles, leave=done):
            pass
        f.call("void", function, job, tile, Value(f, "ptr", "null"))
    f.ret()


def write_run(module: Module) -> None:
    """Writes `run(function, job, tiles)`: alone where the workers are taken."""
    f = module.function("run", function="ptr", job="ptr", tiles="i64")
    task, zero = f.buffer(TASK_BYTES, 64), f.constant("i64", 0)
    f.store(f["function"], task)
    f.store(f["job"], f.at(task, JOB))
    f.store(f["tiles"], f.at(task, TILES))
    f.store(zero, f.at(task, NEXT))
    enter, leave, parallel, state = (
        f.load("ptr", Value(f, "ptr", module.pointer(n))) for n in (*POOL_FUNCTIONS, "pool")
    )
    share = Value(f, "ptr", "@share")
    with f.when(f.call("i64", enter, state).equals(0)):
        f.call("void", share, task, zero)
        f.ret()
    f.call("void", parallel, state, share, task)
    f.call("void", leave, state)
    f.ret()


def write_entry(module: Module) -> None:
    """Writes `launch(function, job, tiles, *arrays)` for CPython, see `general`."""
    f = module.function("launch", "ptr", self="ptr", args="ptr", count="i64")
    entry.require(f, f["count"] > 3, "general")
    given, job, parts = (f.load("ptr", f["args"], i) for i in range(3))
    size = f.call("i64", "PyBytes_Size", job)
    entry.require(f, size <= MOST, "general")
    function = f.call("ptr", "PyLong_AsVoidPtr", given)
    tiles = f.call("i64", "PyLong_AsSsize_t", parts)
    memory = f.buffer(MOST)
    f.call("ptr", "memcpy", memory, f.call("ptr", "PyBytes_AsString", job), size)
    kind = f.load("ptr", Value(f, "ptr", module.pointer("ndarray")))
    with f.loop(3, f["count"]) as i:
        array = f.load("ptr", f["args"], i)
        entry.require(f, f.load("ptr", f.at(array, entry.TYPE)).equals(kind), "general")
        f.store(f.load("ptr", f.at(array, entry.DATA)), memory, i - 3)
    several = tiles > 1
    with f.when(several):
        thread = f.call("ptr", "PyEval_SaveThread")
        f.call("void", "run", function, memory, tiles)
        f.call("void", "PyEval_RestoreThread", thread)
    with f.when(several.equals(0)):
        f.call("void", function, memory, f.constant("i64", 0), Value(f, "ptr", "null"))
    entry.finish(f, f.load("ptr", f["args"], f["count"] - 1))


def write_call(function: Function) -> None:
    """Ends a function without a result."""
    function.ret()


def keep_freed_memory() -> None:
    """Asks the C library to reuse large blocks that are freed instead of giving them back to the
    system: the page faults of new ones often cost more than the arithmetic on them.

    It does nothing where the user chose by environment variables, or without glibc.
    """
    chosen = {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"}
    if os.name != "posix" or not chosen.isdisjoint(os.environ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(MAP_THRESHOLD, 32 << 20)  # the most that glibc takes
        library.mallopt(TRIM_THRESHOLD, 256 << 20)


class Launcher:
    """The compiled code of this file, and its entry."""

    def __init__(self) -> None:
        keep_freed_memory()
        module = Module()
        write_share(module)
        write_run(module)
        write_entry(module)
        code = runtime.load(module.text())
        for name in POOL_FUNCTIONS:
            code.fill(name, pool.native().address(name))
        self.pool = pool.pool()
        code.fill("pool", self.pool.address)
        self.run = code.function("run", None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64)
        self.call: Callable[..., ndarray] = entry.builtin(code, "launch", self.general)

    def general(self, function: int, job: bytes, tiles: int, *arrays: ndarray) -> ndarray:
        """Calls the function at an address once for each tile, with the arrays' addresses at the
        start of the job; returns the last array.
        """
        addresses = b"".join(a.ctypes.data.to_bytes(8, "little") for a in arrays)
        self.run(function, addresses + job[len(addresses) :], tiles)
        return arrays[-1]


@cache
def launcher() -> Launcher:
    """The process's launcher."""
    return Launcher()


def launch(function: int, job: bytes, tiles: int, *arrays: Any) -> ndarray:
    """`Launcher.general` by the short way; the workers are as many as `set_num_threads` says."""
    made = launcher()
    if tiles > 1 and made.pool.threads != (settings.threads or processors()):
        made.pool.settle()
    return made.call(function, job, tiles, *arrays)
