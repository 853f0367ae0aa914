"""Worker threads parked in compiled code, and the fork and join around them. Imports emit, runtime
and settings.

A caller posts a function and its argument, works on it itself, closes it when its own share is
done and waits only for workers that have joined; one that wakes late finds the work closed. Idle
workers spin for a while, then yield, then block, so that they leave the processors to
others. On Linux each is pinned to a processor of the process's mask; the caller stays free, and
where it meets a worker on its processor, that worker is moved to the one left over.
"""

from __future__ import annotations

import _thread
import ctypes
import os
from functools import cache

from ...settings import get_num_threads, settings
from . import runtime
from .emit import Function, Module, Value, Variable

PINS = hasattr(os, "sched_setaffinity")
SPINS, YIELDS = 2000, 30  # before a worker blocks: some 75 microseconds of spinning
SHARE = 2 << 20  # bytes of workspace per thread

# Where the shared state keeps what, in bytes; what different threads write is in different lines.
FIELDS = {
    "sequence": 0,  # counts the jobs posted
    "active": 128,  # workers inside a job
    "argument": 256,  # of the job; null: none is open
    "function": 264,
    "lock": 384,  # taken by the caller whose job the workers do
    "sleepers": 512,
    "limit": 640,  # threads that may take part, the caller's included
    "workspace": 648,
    "spare": 656,  # the processor that no worker is pinned to
    "mutex": 768,
    "condition": 896,
    "ticket": 1024,  # which stage's tiles are handed out, and how many are left (see stages)
    "done": 1152,  # tiles of the stage that are finished
    "program": 1280,  # whose stages they are
    "settled": 1408,  # not 0: workers and limit are as set_num_threads says
    "homes": 1536,  # per worker: its processor, and the system's number of its thread
}
MOST = 256  # threads
STATE_BYTES = FIELDS["homes"] + 16 * MOST
MASK_BYTES = 128  # of a set of processors


def field(f: Function, name: str) -> Value:
    """The address of a field of the state (the parameter `pool`)."""
    return f.at(f["pool"], FIELDS[name])


def atomic_load(f: Function, name: str, type: str = "i64") -> Value:
    """The field's value, ordered with all other atomic accesses."""
    return f.emit(type, f"load atomic {type}, {field(f, name)} seq_cst, align 8")


def atomic_add(f: Function, name: str, amount: int) -> None:
    """Adds to the field, ordered with all other atomic accesses."""
    f.emit("i64", f"atomicrmw add {field(f, name)}, i64 {amount} seq_cst")


def relax(f: Function) -> None:
    """Tells the processor that this is a loop that waits."""
    if runtime.host().triple.startswith("x86"):
        f.call("void", "llvm.x86.sse2.pause")
    else:
        f.call("void", "llvm.aarch64.hint", f.constant("i32", 1))


def write_worker(module: Module) -> None:
    """Writes `worker(pool, thread)`, which takes part in job after job and never returns."""
    f = module.function("worker", pool="ptr", thread="i64")
    last = f.variable("i64", 0)
    turns = f.variable("i64", 0)
    with f.forever():
        sequence = atomic_load(f, "sequence")
        with f.when(sequence.equals(last.get())):
            turn = turns.get() + 1
            turns.set(turn)
            with f.when(turn <= SPINS):
                relax(f)
            with f.when(turn > SPINS):
                f.call("i32", "sched_yield")
            with f.when(turn > SPINS + YIELDS):
                block(f, last.get())
                turns.set(0)
        with f.when(sequence.differs(last.get())):
            last.set(sequence)
            with f.when(f["thread"] < atomic_load(f, "limit")):
                turns.set(0)
                atomic_add(f, "active", 1)
                argument = atomic_load(f, "argument", "ptr")
                with f.when(f.convert("ptrtoint", argument, "i64").differs(0)):
                    work = f.load("ptr", field(f, "function"))
                    f.call("void", work, argument, f["thread"])
                atomic_add(f, "active", -1)
    f.do("unreachable")


def block(f: Function, last: Value) -> None:
    """Sleeps until a job newer than `last` is posted."""
    mutex, condition = field(f, "mutex"), field(f, "condition")
    f.call("i32", "pthread_mutex_lock", mutex)
    atomic_add(f, "sleepers", 1)
    with f.forever() as awake:
        with f.when(atomic_load(f, "sequence").differs(last), leave=awake):
            pass
        f.call("i32", "pthread_cond_wait", condition, mutex)
    atomic_add(f, "sleepers", -1)
    f.call("i32", "pthread_mutex_unlock", mutex)


def write_caller(module: Module) -> None:
    """Writes `enter(pool) -> i64` and `leave(pool)`, which take and free the workers and the
    workspace, and `parallel(pool, function, argument)`, made of `post` and `wake`.
    """
    f = module.function("enter", "i64", pool="ptr")
    pair = f.emit("{ i64, i1 }", f"cmpxchg {field(f, 'lock')}, i64 0, i64 1 seq_cst seq_cst")
    f.ret(f.convert("zext", f.emit("i1", f"extractvalue {pair}, 1"), "i64"))

    f = module.function("leave", pool="ptr")
    f.do(f"store atomic i64 0, {field(f, 'lock')} seq_cst, align 8")
    f.ret()

    f = module.function("post", pool="ptr", function="ptr", argument="ptr")
    f.store(f["function"], field(f, "function"))
    f.do(f"store atomic {f['argument']}, {field(f, 'argument')} seq_cst, align 8")
    f.call("void", "wake", f["pool"])
    f.ret()

    f = module.function("wake", pool="ptr")
    atomic_add(f, "sequence", 1)
    with f.when(atomic_load(f, "sleepers") > 0):
        f.call("i32", "pthread_mutex_lock", field(f, "mutex"))
        f.call("i32", "pthread_cond_broadcast", field(f, "condition"))
        f.call("i32", "pthread_mutex_unlock", field(f, "mutex"))
    f.ret()

    f = module.function("parallel", pool="ptr", function="ptr", argument="ptr")
    if PINS:
        f.call("void", "make_way", f["pool"])
    close(f)  # of a program of stages, workers may still be on their way out
    f.call("void", "post", f["pool"], f["function"], f["argument"])
    f.call("void", f["function"], f["argument"], f.constant("i64", 0))
    close(f)
    f.ret()


def close(f: Function) -> None:
    """Lets no more workers into the job, and waits for those that are in it."""
    f.do(f"store atomic ptr null, {field(f, 'argument')} seq_cst, align 8")
    turns = f.variable("i64", 0)
    with f.forever() as done:
        with f.when(atomic_load(f, "active").equals(0), leave=done):
            pass
        patience(f, turns)


def patience(f: Function, turns: Variable) -> None:
    """One turn of waiting in a loop: spins at first, then yields."""
    turns.set(turns.get() + 1)
    relax(f)
    with f.when(turns.get() > SPINS):
        f.call("i32", "sched_yield")


def write_make_way(module: Module) -> None:
    """Writes `make_way(pool)`: moves the worker that is pinned to the caller's processor, if there
    is one, to the spare processor. Otherwise both would share one until the system notices.
    """
    f = module.function("make_way", pool="ptr")
    here = f.convert("sext", f.call("i32", "sched_getcpu"), "i64")
    spare = f.load("i64", field(f, "spare"))
    mask = f.buffer(MASK_BYTES)
    with f.when(here.differs(spare)):
        with f.loop(1, f.load("i64", field(f, "limit"))) as worker:
            home = f.at(field(f, "homes"), worker * 16)
            thread = f.load("i64", home, 1)
            with f.when(f.load("i64", home).equals(here) & thread.differs(0)):
                with f.loop(0, MASK_BYTES // 8) as i:
                    f.store(f.constant("i64", 0), mask, i)
                bit = f.constant("i64", 1).binary("<<", spare % 64)
                f.store(bit, mask, spare / 64)
                size = f.constant("i64", MASK_BYTES)
                f.call("i32", "sched_setaffinity", f.convert("trunc", thread, "i32"), size, mask)
                f.store(spare, home)
                f.store(here, field(f, "spare"))
                f.ret()
    f.ret()


def write_setup(module: Module) -> None:
    """Writes `setup(pool)`, which makes the lock that idle workers sleep on."""
    f = module.function("setup", pool="ptr")
    null = Value(f, "ptr", "null")
    f.call("i32", "pthread_mutex_init", field(f, "mutex"), null)
    f.call("i32", "pthread_cond_init", field(f, "condition"), null)
    f.ret()


@cache
def native() -> runtime.Native:
    """The compiled code of this file."""
    module = Module()
    write_worker(module)
    if PINS:
        write_make_way(module)
    write_caller(module)
    write_setup(module)
    return runtime.load(module.text())


class Pool:
    """The workers of this process; `threads` is how many threads a job may use, the caller's
    included, or -1 while that has to be settled (at first, and in a forked child).
    """

    def __init__(self) -> None:
        self.threads = -1
        self.workers = 0
        self.memory = ctypes.create_string_buffer(STATE_BYTES + 128)
        self.address = -(-ctypes.addressof(self.memory) // 128) * 128
        self.settled = ctypes.c_int64.from_address(self.address + FIELDS["settled"])
        self.workspace: list[ctypes.Array] = []  # every one that was made: a job may still use it
        self.clear()

    def clear(self) -> None:
        """No workers, no job."""
        ctypes.memset(self.address, 0, STATE_BYTES)
        if os.name == "posix":
            native().function("setup", None, ctypes.c_void_p)(self.address)
        self.threads, self.workers = -1, 0
        self.put("limit", 1)
        self.widen(1)

    def put(self, name: str, value: int) -> None:
        """Sets a field of the state."""
        ctypes.c_int64.from_address(self.address + FIELDS[name]).value = value

    def unsettle(self) -> None:
        """Has the next call settle the number of threads."""
        self.settled.value = 0

    def widen(self, threads: int) -> None:
        """Makes workspace for that many threads; its pages cost nothing until they are used."""
        if len(self.workspace) == 0 or len(self.workspace[-1]) < SHARE * threads:
            memory = (ctypes.c_char * (SHARE * threads + 64))()
            self.workspace.append(memory)
            self.put("workspace", -(-ctypes.addressof(memory) // 64) * 64)
        elif threads == 1:
            self.put("workspace", -(-ctypes.addressof(self.workspace[-1]) // 64) * 64)

    def settle(self, threads: int | None = None) -> None:
        """Lets jobs use `threads` threads, by default as many as `set_num_threads` says; starts
        what workers are missing.
        """
        wanted = min(threads or get_num_threads(), MOST)
        held = native().function("enter", ctypes.c_int64, ctypes.c_void_p)
        if not held(self.address):
            return  # a job runs: the next call settles it
        try:
            if os.name == "posix":
                self.widen(wanted)
                cpus = sorted(os.sched_getaffinity(0)) if PINS else []
                if self.workers == 0 and cpus:
                    self.put("spare", cpus[0])
                while self.workers < wanted - 1:
                    self.workers += 1
                    _thread.start_new_thread(work, (self.address, self.workers, cpus))
            self.put("limit", wanted if os.name == "posix" else 1)
            self.threads = wanted
            self.settled.value = 1
        finally:
            native().function("leave", None, ctypes.c_void_p)(self.address)


def work(address: int, thread: int, cpus: list[int]) -> None:
    """What a worker thread does: it goes into compiled code for good."""
    if cpus:
        home = cpus[thread % len(cpus)]
        os.sched_setaffinity(0, {home})  # of this thread alone
        place = address + FIELDS["homes"] + 16 * thread
        (ctypes.c_int64 * 2).from_address(place)[:] = [home, _thread.get_native_id()]
    native().function("worker", None, ctypes.c_void_p, ctypes.c_int64)(address, thread)


@cache
def pool() -> Pool:
    """The process's pool."""
    made = Pool()
    settings.listeners.append(made.unsettle)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=made.clear)
    return made
