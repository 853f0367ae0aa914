"""Runs one compiled function over tiles, on arrays, from Python. Imports stages, alignment and
earlier files.

The function is `f(job, tile, workspace)`, a stage of its own. The job is what it reads: eight bytes
for each array's address, then numbers. A single tile gets no workspace.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

from numpy import ndarray

from . import alignment, entry, pool, runtime, stages
from .emit import Module, Value

MOST = 4096  # bytes of a job
MAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # parameters of glibc's mallopt


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
        run, state = (f.load("ptr", Value(f, "ptr", module.pointer(n))) for n in ("run", "pool"))
        thread = f.call("ptr", "PyEval_SaveThread")
        failed = f.call("i64", run, state, function, memory, tiles)
        f.call("void", "PyEval_RestoreThread", thread)
        entry.require(f, failed.equals(0), "general")
    with f.when(several.equals(0)):
        f.call("void", function, memory, f.constant("i64", 0), Value(f, "ptr", "null"))
    entry.finish(f, f.load("ptr", f["args"], f["count"] - 1))


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


@cache
def prepare_memory() -> None:
    """What makes arrays cheaper to allocate and to work on, once a process."""
    keep_freed_memory()
    alignment.align_arrays()


class Launcher:
    """The compiled code of this file, and its entry."""

    def __init__(self) -> None:
        prepare_memory()
        module = Module()
        write_entry(module)
        code = runtime.load(module.text())
        driver = stages.native()
        code.fill("run", driver.address("run_one"))
        self.pool = pool.pool()
        code.fill("pool", self.pool.address)
        kinds = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64)
        self.run = driver.function("run_one", ctypes.c_int64, *kinds)
        self.call: Callable[..., ndarray] = entry.builtin(code, "launch", self.general)

    def general(self, function: int, job: bytes, tiles: int, *arrays: ndarray) -> ndarray:
        """Calls the function at an address once for each tile, with the arrays' addresses at the
        start of the job; returns the last array.
        """
        addresses = b"".join(a.ctypes.data.to_bytes(8, "little") for a in arrays)
        if self.run(self.pool.address, function, addresses + job[len(addresses) :], tiles):
            raise MemoryError("[launch] expects 2 MiB of memory for a workspace, got none")
        return arrays[-1]


@cache
def launcher() -> Launcher:
    """The process's launcher."""
    return Launcher()


def launch(function: int, job: bytes, tiles: int, *arrays: Any) -> ndarray:
    """`Launcher.general` by the short way; the workers are as many as `set_num_threads` says."""
    if tiles > 1:
        stages.settle()
    return launcher().call(function, job, tiles, *arrays)
