"""How a gate runs a program: rows of stages, which may draw random numbers, and Python functions
between them. Imports gate_records, objects, draws, pool and stages.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from ..calls.objects import begin
from ..kernels.draws import STATE_BYTES
from ..native import stages
from ..native.emit import Module, Value
from .gate_records import PartRecord, context, get

RAISED = 3  # what `parts` gives besides what a run of stages does: a Python exception is set


def write_call_method(module: Module) -> None:
    """Writes `call_method(name, object) -> i1`: calls a method without arguments; false after an
    exception.
    """
    s = begin(module, "call_method", "i1", name="ptr", object="ptr")
    f = s.f
    given = f.buffer(8, 8)
    f.store(f["object"], given)
    found = f.call("ptr", "PyObject_VectorcallMethod", f["name"], given, s.number(1), s.null())
    with f.when(found.equals(s.null())):
        f.ret(Value(f, "i1", "false"))
    s.drop(found)
    f.ret(Value(f, "i1", "true"))


def write_stages(module: Module) -> None:
    """Writes `stages(context, part) -> i64`: runs a row of stages, holding the lock of the random
    generator that they use; waits for no other Python thread where that would be long.
    """
    s = begin(module, "stages", "i64", context="ptr", part="ptr")
    f = s.f
    lock, state, saved, program = (
        get(f, f["part"], PartRecord, n, "ptr") for n in ("lock", "state", "saved", "program")
    )
    locked = lock.differs(s.null())
    with f.when(locked):
        with f.when(f.call("i1", "call_method", s.object("acquire"), lock).equals(0)):
            f.ret(s.number(RAISED))
        with f.when(saved.differs(s.null())):
            f.call("ptr", "memcpy", saved, state, s.number(STATE_BYTES))
            f.store(s.number(1, "i32"), f.at(saved, STATE_BYTES))
    result = f.variable("i64")
    run = f.load("ptr", Value(f, "ptr", module.pointer("run")))
    pool_state = f.load("ptr", Value(f, "ptr", module.pointer("pool")))
    given = pool_state, program, context(f, "operands", "ptr")
    release = context(f, "release").differs(0)
    with f.when(release):
        thread = f.call("ptr", "PyEval_SaveThread")
        result.set(f.call("i64", run, *given))
        f.call("void", "PyEval_RestoreThread", thread)
    with f.when(release.equals(0)):
        result.set(f.call("i64", run, *given))
    with f.when(locked):
        with f.when(f.call("i1", "call_method", s.object("release"), lock).equals(0)):
            f.ret(s.number(RAISED))
    f.ret(result.get())


def write_host(module: Module) -> None:
    """Writes `host(context, function, args, made) -> i64`: calls a Python function of the program
    with the outputs, then the arguments; it says whether all went well.
    """
    s = begin(module, "host", "i64", context="ptr", function="ptr", args="ptr", made="ptr")
    f = s.f
    given, count = context(f, "given", "ptr"), context(f, "argument_count")
    f.store(f["made"], given)
    with f.loop(0, count) as i:
        f.store(f.load("ptr", f["args"], i), given, i + 1)
    found = f.call("ptr", "PyObject_Vectorcall", f["function"], given, count + 1, s.null())
    with f.when(found.equals(s.null())):
        f.ret(s.number(RAISED))
    good = s.is_object(found, "True")
    s.drop(found)
    f.ret(f.select(good, s.number(0), stages.FAILED))


def write_held(module: Module) -> None:
    """Writes `hold(context)` and `let_go(context)`: count references to what a call keeps alive."""
    for name, count in (("hold", "Py_IncRef"), ("let_go", "Py_DecRef")):
        f = module.function(name, "void", True, context="ptr")
        table = context(f, "held", "ptr")
        with f.loop(0, context(f, "held_count")) as i:
            f.call("void", count, f.load("ptr", table, i))
        f.ret()


def write_parts(module: Module) -> None:
    """Writes `parts(context, args, made) -> i64`: runs the program; 0 or what went wrong."""
    s = begin(module, "parts", "i64", context="ptr", args="ptr", made="ptr")
    f = s.f
    table, count = context(f, "parts", "ptr"), context(f, "part_count")
    note = context(f, "note", "ptr")
    with f.when(note.differs(s.null())):
        noted = f.call("ptr", "PyObject_CallNoArgs", note)
        with f.when(noted.equals(s.null())):
            f.ret(s.number(RAISED))
        s.drop(noted)
    with f.loop(0, count) as i:
        saved = get(f, f.at(table, i * ctypes.sizeof(PartRecord)), PartRecord, "saved", "ptr")
        with f.when(saved.differs(s.null())):
            f.store(s.number(0, "i32"), f.at(saved, STATE_BYTES))
    failed = f.variable("i64", 0)
    with f.loop(0, count) as i:
        part = f.at(table, i * ctypes.sizeof(PartRecord))
        function = get(f, part, PartRecord, "host", "ptr")
        native = function.equals(s.null())
        with f.when(native):
            failed.set(f.call("i64", "stages", f["context"], part))
        with f.when(native.equals(0)):
            failed.set(f.call("i64", "host", f["context"], function, f["args"], f["made"]))
        with f.when(failed.get().differs(0)):
            f.ret(failed.get())
    f.ret(s.number(0))


RUNNING: Sequence[Callable[[Module], None]] = (
    write_call_method, write_stages, write_host, write_held, write_parts,
)  # fmt: skip
