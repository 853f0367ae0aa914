"""Native work as stages of tiles, run by the pool's threads. Imports emit, pool and runtime.

A stage calls a compiled function once for each of its tiles, on any thread, in any order; stages
run one after the other. One word says which stage is open and how many of its tiles nobody has
taken: threads take tiles by subtracting from it, and whoever finishes the last tile opens the next
stage. No thread is waited for unless it has a tile, so a worker that wakes late, or that the
system suspends, costs at most its tile.
"""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from ...errors import check
from . import pool, runtime
from .emit import Function, Module, Value
from .pool import SHARE, field


class Layout(NamedTuple):
    """Where an array's elements are: its shape, its strides in elements, and its type's name."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, array: np.ndarray) -> Layout:
        """The array's layout; raises ValueError if a stride is no whole number of elements.

        >>> Layout.of(np.zeros((2, 3), np.float32))
        Layout(shape=(2, 3), strides=(3, 1), dtype='float32')
        """
        if any(stride % array.itemsize for stride in array.strides):
            raise ValueError(f"[layout] expects strides in whole elements, got {array.strides}")
        strides = tuple(stride // array.itemsize for stride in array.strides)
        return cls(array.shape, strides, array.dtype.name)


class Call(NamedTuple):
    """One stage: `function(job, tile, workspace)` for each tile.

    function  its address
    job       the struct it reads; constant but for the addresses of operands
    tiles     how many there are; 1 for work that is not worth a second thread
    pointers  (byte offset in the job, number of an operand): where addresses go; a third number
              counts bytes from the operand's beginning
    name      for people, e.g. "conv 3x3 forward"
    check     whether it is a check, of one tile: it stores a word where the job's first address
              says, and if that is not 0, no stage after it runs
    """

    function: int
    job: bytes
    tiles: int
    pointers: tuple[tuple[int, ...], ...]
    name: str = ""
    check: bool = False


class CheckFailed(IndexError):
    """A program stopped at a check; what it writes at its end is as it was."""


# -- a program in memory -----------------------------------------------------------------------
# A head, a record per stage, patches (where the addresses of operands go), and the jobs. Records
# and patches say where jobs are relative to the head, so a program may be copied.

# of 8 bytes each; `failed` is 1 after a run that stopped at a check
HEAD = ("stages", "shared", "times", "patches", "patch_count", "failed")
RECORD = ("function", "job", "tiles", "check")
PATCH = 3  # words: where in the program, which operand, how many bytes on
LINE = 64  # jobs begin at multiples of this


class Encoded(NamedTuple):
    """A program's bytes, and where in them each call's job is."""

    memory: bytes
    jobs: tuple[int, ...]


def encode(calls: Sequence[Call]) -> Encoded:
    """The program that runs the calls; its times go nowhere."""
    calls = [call for call in calls if call.tiles > 0]
    check(len(calls) < MOST_STAGES, f"[stages] expects fewer than {MOST_STAGES} stages in a row")
    for call in calls:
        few = call.tiles < (2 if call.check else MOST_TILES)
        check(few, lambda: f"[stages] {call.name!r} expects fewer than {MOST_TILES} tiles")
    patch_count = sum(len(call.pointers) for call in calls)
    patches = 8 * (len(HEAD) + len(RECORD) * len(calls))
    start = patches + 8 * PATCH * patch_count
    start += -start % LINE
    shared = any(call.tiles > 1 for call in calls)
    words = [len(calls), int(shared), 0, patches, patch_count, 0]
    places: list[int] = []
    starts: list[int] = []
    jobs = bytearray()
    for call in calls:
        jobs += bytes(-len(jobs) % LINE)
        job = start + len(jobs)
        starts.append(job)
        words += [call.function, job, call.tiles, int(call.check)]
        for offset, operand, *shift in call.pointers:
            fits = 0 <= offset <= len(call.job) - 8
            check(fits, lambda: f"[stages] {call.name!r} has no room for an address at {offset}")
            places += [job + offset, operand, sum(shift)]
        jobs += call.job
    head = struct.pack(f"<{len(words) + len(places)}q", *words, *places)
    return Encoded(head + bytes(start - len(head)) + bytes(jobs), tuple(starts))


# -- the driver ----------------------------------------------------------------------------------

# The ticket says which tiles nobody has taken: from its low end (bits 0 to 21) so many (bits 22 to
# 43) of the open stage (bits 44 and up). Even threads take from the low end, odd ones from the
# high end: so two threads meet in the middle, and each finds in its cache what it did in the stage
# before. SLACK is added to the count: threads that take in vain do not reach the stage's number.
LEFT, STAGE, SLACK = 1 << 22, 1 << 44, 1 << 16
MOST_STAGES, MOST_TILES = 1 << 19, 1 << 21
IDLE = -STAGE  # no stage is open


def head(f: Function, name: str) -> Value:
    """The address of a field of the program's head (the parameter `program`)."""
    return f.at(f["program"], 8 * HEAD.index(name))


class Stage(NamedTuple):
    """What a stage's record says."""

    function: Value
    job: Value
    tiles: Value
    check: Value


def read_stage(f: Function, program: Value, number: Value) -> Stage:
    """Loads a record."""
    first = (number * len(RECORD)) + len(HEAD)
    job = f.at(program, f.load("i64", program, first + 1))
    tiles, check = (f.load("i64", program, first + k) for k in (2, 3))
    return Stage(f.load("ptr", program, first), job, tiles, check)


def write_failed(module: Module) -> None:
    """Writes `failed(program, job, check) -> i1`: whether a stage that has run was a check, and in
    vain, which is noted.
    """
    f = module.function("failed", "i1", True, program="ptr", job="ptr", check="i64")
    with f.when(f["check"].differs(0)):
        found = f.load("i64", f.load("ptr", f["job"]))
        with f.when(found.differs(0)):
            f.store(f.constant("i64", 1), head(f, "failed"))
            f.ret(Value(f, "i1", "true"))
    f.ret(Value(f, "i1", "false"))


FAILED, NO_MEMORY = 1, 2  # what a run gives
CLOCK = getattr(time, "CLOCK_MONOTONIC", 1)


def write_clock(module: Module) -> None:
    """Writes `clock(program, stage)`, which notes the nanosecond if times are asked for."""
    f = module.function("clock", "void", True, program="ptr", stage="i64")
    times = f.load("ptr", head(f, "times"))
    with f.when(f.convert("ptrtoint", times, "i64").differs(0)):
        now = f.buffer(16, align=8)
        f.call("i32", "clock_gettime", f.constant("i32", CLOCK), now)
        nanoseconds = f.load("i64", now) * 1_000_000_000 + f.load("i64", now, 1)
        f.store(nanoseconds, times, f["stage"])
    f.ret()


def write_advance(module: Module) -> None:
    """Writes `advance(pool, program, first, space)`: runs stages of one tile from `first` on until
    there is one for several threads, which it opens, or none.
    """
    f = module.function(
        "advance", "void", True, pool="ptr", program="ptr", first="i64", space="ptr"
    )
    number = f.variable("i64", f["first"])
    count = f.load("i64", head(f, "stages"))
    zero = f.constant("i64", 0)
    with f.forever() as done:
        f.call("void", "clock", f["program"], number.get())
        with f.when(number.get() >= count):
            f.do(f"store atomic i64 {IDLE}, {field(f, 'ticket')} seq_cst, align 8")
            f.ret()
        stage = read_stage(f, f["program"], number.get())
        with f.when(stage.tiles > 1, leave=done):
            pass
        f.call("void", stage.function, stage.job, zero, f["space"])
        number.set(number.get() + 1)
        with f.when(f.call("i1", "failed", f["program"], stage.job, stage.check)):
            number.set(count)
    tiles = read_stage(f, f["program"], number.get()).tiles
    ticket = number.get() * STAGE + (tiles + SLACK) * LEFT
    f.do(f"store atomic {ticket}, {field(f, 'ticket')} seq_cst, align 8")
    f.call("void", "post", f["pool"], Value(f, "ptr", "@take"), f["pool"])
    f.ret()


def write_take(module: Module) -> None:
    """Writes `take(pool, thread)`: takes tiles and runs them until there are none. What a thread
    knows of the program it reads while it has a tile: without one, the program may be gone.
    """
    f = module.function("take", pool="ptr", thread="i64")
    start = f.load("ptr", field(f, "workspace"))
    space = f.at(start, f["thread"] * SHARE)
    from_below = (f["thread"] & 1).equals(0)
    step = f.select(from_below, f.constant("i64", 1 - LEFT), -LEFT)
    with f.forever() as done:
        ticket = f.emit("i64", f"load atomic i64, {field(f, 'ticket')} seq_cst, align 8")
        with f.when(ticket % STAGE < (SLACK + 1) * LEFT, leave=done):
            pass
        ticket = f.emit("i64", f"atomicrmw add {field(f, 'ticket')}, {step} seq_cst")
        low, left = ticket % LEFT, ticket % STAGE / LEFT - SLACK
        with f.when(left <= 0, leave=done):
            pass
        number = ticket / STAGE
        tile = f.select(from_below, low, low + left - 1)
        program = f.load("ptr", field(f, "program"))
        stage = read_stage(f, program, number)
        f.call("void", stage.function, stage.job, tile, space)
        before = f.emit("i64", f"atomicrmw add {field(f, 'done')}, i64 1 seq_cst")
        with f.when((before + 1).equals(stage.tiles)):
            f.do(f"store atomic i64 0, {field(f, 'done')} seq_cst, align 8")
            f.call("void", "advance", f["pool"], program, number + 1, space)
    f.ret()


def write_alone(module: Module) -> None:
    """Writes `alone(program, space)`: all tiles of all stages in this thread."""
    f = module.function("alone", "void", True, program="ptr", space="ptr")
    count = f.load("i64", head(f, "stages"))
    with f.loop(0, count) as number:
        f.call("void", "clock", f["program"], number)
        stage = read_stage(f, f["program"], number)
        with f.loop(0, stage.tiles) as tile:
            f.call("void", stage.function, stage.job, tile, f["space"])
        with f.when(f.call("i1", "failed", f["program"], stage.job, stage.check)):
            f.ret()
    f.call("void", "clock", f["program"], count)
    f.ret()


def write_run(module: Module) -> None:
    """Writes `run(pool, program, operands) -> i64`: puts the operands' addresses into the jobs and
    runs the stages; alone where the work is small or the workers are taken. It gives 0, or
    FAILED after a check that failed, or NO_MEMORY.
    """
    f = module.function("run", "i64", pool="ptr", program="ptr", operands="ptr")
    zero = f.constant("i64", 0)
    f.store(zero, head(f, "failed"))
    patches = f.at(f["program"], f.load("i64", head(f, "patches")))
    with f.loop(0, f.load("i64", head(f, "patch_count"))) as i:
        at, operand, shift = (f.load("i64", patches, i * PATCH + k) for k in range(PATCH))
        address = f.load("i64", f["operands"], operand) + shift
        f.store(address, f.at(f["program"], at), align=1)
    with f.when(f.call("i64", "enter", f["pool"]).equals(0)):
        space = f.call("ptr", "malloc", f.constant("i64", SHARE + LINE))
        start = f.convert("ptrtoint", space, "i64")
        with f.when(start.equals(0)):
            f.ret(f.constant("i64", NO_MEMORY))
        f.call("void", "alone", f["program"], f.at(space, f.constant("i64", LINE) - start % LINE))
        f.call("void", "free", space)
        f.ret(f.load("i64", head(f, "failed")))
    space = f.load("ptr", field(f, "workspace"))
    many = f.load("i64", field(f, "limit")) > 1
    shared = f.load("i64", head(f, "shared")).differs(0) & many
    with f.when(shared.equals(0)):
        f.call("void", "alone", f["program"], space)
        f.call("void", "leave", f["pool"])
        f.ret(f.load("i64", head(f, "failed")))
    if pool.PINS:
        f.call("void", "make_way", f["pool"])
    f.store(f["program"], field(f, "program"))
    f.call("void", "advance", f["pool"], f["program"], zero, space)
    turns = f.variable("i64", 0)
    with f.forever() as done:
        f.call("void", "take", f["pool"], zero)
        ticket = f.emit("i64", f"load atomic i64, {field(f, 'ticket')} seq_cst, align 8")
        with f.when(ticket < 0, leave=done):
            pass
        pool.patience(f, turns)
    f.call("void", "leave", f["pool"])
    f.ret(f.load("i64", head(f, "failed")))


def write_run_one(module: Module) -> None:
    """Writes `run_one(pool, function, job, tiles) -> i64`: `run` for a single stage."""
    f = module.function("run_one", "i64", pool="ptr", function="ptr", job="ptr", tiles="i64")
    program = f.buffer(8 * (len(HEAD) + len(RECORD)), 8)
    job = f.convert("ptrtoint", f["job"], "i64") - f.convert("ptrtoint", program, "i64")
    values: dict[str, Value | int] = dict.fromkeys((*HEAD, *RECORD), 0)
    values |= {"stages": 1, "shared": f.convert("zext", f["tiles"] > 1, "i64")}
    values |= {"function": f["function"], "job": job, "tiles": f["tiles"]}
    for i, value in enumerate(values.values()):
        f.store(f.constant("i64", value), program, i)
    f.ret(f.call("i64", "run", f["pool"], program, Value(f, "ptr", "null")))


COPY = 1 << 18  # bytes that a tile copies


def write_copy(module: Module) -> None:
    """Writes `copy(job, tile, workspace)`: the job is to, from, and how many bytes."""
    f = module.function("copy", job="ptr", tile="i64", workspace="ptr")
    to, source, size = (f.load(t, f["job"], i) for i, t in enumerate(("ptr", "ptr", "i64")))
    start = f["tile"] * COPY
    f.call("ptr", "memcpy", f.at(to, start), f.at(source, start), f.minimum(size - start, COPY))
    f.ret()


def copy_call(size: int) -> Call:
    """The stage that copies so many bytes from operand 0 to operand 1, which do not overlap."""
    job = struct.pack("<3q", 0, 0, size)
    function = native().address("copy")
    return Call(function, job, -(-size // COPY), ((0, 1), (8, 0)), "copy")


@cache
def native() -> runtime.Native:
    """The compiled driver."""
    module = Module()
    if pool.PINS:
        pool.write_make_way(module)
    pool.write_caller(module)
    write_clock(module)
    write_failed(module)
    write_advance(module)
    write_take(module)
    write_alone(module)
    write_run(module)
    write_run_one(module)
    write_copy(module)
    return runtime.load(module.text())


@cache
def entrance() -> tuple[Callable[..., int], int]:
    """The driver's `run` as ctypes calls it, which releases the GIL, and the pool's address."""
    kinds = [ctypes.c_void_p] * 3
    return native().function("run", ctypes.c_int64, *kinds), pool.pool().address


# -- from Python ---------------------------------------------------------------------------------

encoded = lru_cache(4096)(encode)


def settle() -> None:
    """Makes the pool's threads as many as `set_num_threads` says, if they are not."""
    if not pool.pool().settled.value:
        pool.pool().settle()


def execute(program: ctypes.Array, operands: ctypes.Array) -> None:
    """Runs a program in memory that nobody else runs; raises MemoryError without workspace, and
    CheckFailed if a check stopped it.
    """
    settle()
    go, state = entrance()
    result = go(state, program, operands)
    if result == NO_MEMORY:
        raise MemoryError("[stages] expects 2 MiB of memory for a workspace, got none")
    if result == FAILED:
        raise CheckFailed("[compile] expects indices inside of their dimensions, got one outside")


def run(calls: Sequence[Call], operands: Sequence[int]) -> None:
    """Runs the calls, one after the other, on the memory at the operands' addresses: with the
    pool's threads where a call has several tiles, in the calling thread where none has or the
    threads are taken. Releases the GIL. Pass the same tuple again for the shortest way in.
    """
    program = encoded(calls if isinstance(calls, tuple) else tuple(calls)).memory
    memory = ctypes.create_string_buffer(program, len(program))
    execute(memory, (ctypes.c_int64 * len(operands))(*operands))
