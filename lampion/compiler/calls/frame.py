"""The frame of a compiled call: how CPython hands over its arguments, and the way to the Python
function for all that compiled code does not know. Imports objects, emit, entry and runtime.

A *core* is a function `ptr core(ptr context, ptr given)`: `given` are the arguments in order, null
where absent. It returns a new reference, or null where it does not know what to do or something
failed. Then the Python function is called with the very same arguments: it is the definition, and
it raises the errors.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..native.emit import Module, Value
from ..native.entry import KEPT, Method, function
from ..native.runtime import Native
from .objects import ITEMS, SIZE, begin

METH_FASTCALL, METH_KEYWORDS = 0x80, 0x2
MOST = 8  # arguments of an entry


class Entry(NamedTuple):
    """One compiled call.

    core        the core it runs
    parameters  names of its arguments; calls with others go to the Python function
    places      where it is published: (namespace, name), the namespace "Tensor" for methods
    context     what the core is told about the operator, a ctypes structure, or None
    fill        what tells the context where the loaded code's loops are
    """

    core: str
    parameters: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    context: Any = None
    fill: Callable[[Native], None] | None = None


class Call(ctypes.Structure):
    """What `enter` knows of one published call; `bound` is 1 for a method."""

    _fields_ = [
        ("core", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("python", ctypes.c_void_p),
        ("names", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("bound", ctypes.c_int64),
    ]


def write_match(module: Module) -> None:
    """`match(names, values, known, slots, count)`: puts keyword arguments into their slots; false
    for a name that is not known, or whose slot is taken.
    """
    f = module.function(
        "match", "i1", True, names="ptr", values="ptr", known="ptr", slots="ptr", count="i64"
    )
    no, yes = Value(f, "i1", "false"), Value(f, "i1", "true")
    place = f.variable("i64")
    with f.loop(0, f.load("i64", f["names"], SIZE >> 3)) as k:
        name = f.load("ptr", f["names"], k + (ITEMS >> 3))
        place.set(-1)
        with f.loop(0, f["count"]) as i:
            with f.when(f.load("ptr", f["known"], i).equals(name)):
                place.set(i)
        with f.when(place.get() < 0):
            f.ret(no)
        with f.when(f.load("ptr", f["slots"], place.get()).differs(Value(f, "ptr", "null"))):
            f.ret(no)
        f.store(f.load("ptr", f["values"], k), f["slots"], place.get())
    f.ret(yes)


def write_forward(module: Module) -> None:
    """`forward(function, self, args, count, names)`: calls a Python function, `self` in front."""
    s = begin(
        module, "forward", "ptr", function="ptr", self="ptr", args="ptr", count="i64", names="ptr"
    )
    f = s.f
    total = f.variable("i64", f["count"])
    with f.when(f["names"].differs(s.null())):
        total.set(total.get() + f.load("i64", f["names"], SIZE >> 3))
    stack = f.emit("ptr", f"alloca ptr, i64 {(total.get() + 1).name}")
    f.store(f["self"], stack)
    with f.loop(0, total.get()) as i:
        f.store(f.load("ptr", f["args"], i), stack, i + 1)
    count = f["count"] + 1
    f.ret(f.call("ptr", "PyObject_Vectorcall", f["function"], stack, count, f["names"]))


def write_enter(module: Module) -> None:
    """`enter(call, self, args, count, names)`: sorts the arguments into their slots and runs the
    core, or the Python function.
    """
    s = begin(module, "enter", "ptr", call="ptr", self="ptr", args="ptr", count="i64", names="ptr")
    f = s.f
    core, context, general, known = [f.load("ptr", f["call"], i) for i in range(4)]
    size, bound = f.load("i64", f["call"], 4), f.load("i64", f["call"], 5)
    slots = f.buffer(8 * MOST, 8)
    for place in range(MOST):
        f.store(s.null(), slots, place)
    with f.when(bound.differs(0)):
        f.store(f["self"], slots)
    s.require(f["count"] <= size - bound)
    first = f.at(slots, bound, "ptr")
    with f.loop(0, f["count"]) as i:
        f.store(f.load("ptr", f["args"], i), first, i)
    with f.when(f["names"].differs(s.null())):
        values = f.at(f["args"], f["count"], "ptr")
        s.require(f.call("i1", "match", f["names"], values, known, slots, size))
    found = f.call("ptr", core, context, slots)
    with f.when(found.differs(s.null())):
        f.ret(found)
    f.call("void", "PyErr_Clear")
    f.label(s.otherwise)
    with f.when(bound.differs(0)):
        f.ret(f.call("ptr", "forward", general, f["self"], f["args"], f["count"], f["names"]))
    f.ret(f.call("ptr", "PyObject_Vectorcall", general, f["args"], f["count"], f["names"]))


def write_entry(module: Module, place: tuple[str, str]) -> None:
    """The function that CPython calls for a place."""
    f = module.function("_".join(place), "ptr", self="ptr", args="ptr", count="i64", names="ptr")
    call = f.load("ptr", Value(f, "ptr", module.pointer("call_" + "_".join(place))))
    given = (f["self"], f["args"], f["count"], f["names"])
    f.ret(f.call("ptr", "enter", call, *given))


LITERALS = (type, type(None), bool, int, float, str, tuple)  # `type`: there is no default


def shown(default: Any) -> Any:
    """A default as a docstring can have it: objects without a literal are None there."""
    return default if isinstance(default, LITERALS) else None


def described(general: Callable, name: str, bound: bool) -> bytes:
    """The docstring, with the signature in front as CPython's built-ins have it."""
    parameters = inspect.signature(general).parameters.values()
    empty = inspect.Parameter.empty
    bare = [p.replace(annotation=empty, default=shown(p.default)) for p in parameters]
    listed = str(inspect.Signature(bare))
    listed = listed.replace("(", "($", 1) if bound else listed
    return f"{name}{listed}\n--\n\n{general.__doc__ or ''}".encode()


def builtin(
    code: Native, entry: Entry, place: tuple[str, str], general: Callable, owner: Any
) -> Callable[..., Any]:
    """The entry as a Python built-in that takes the place of `general` in its owner: a method if
    that is a class, else a function of the module.
    """
    interned = map(sys.intern, entry.parameters)  # as the names at call sites are
    names: Any = (ctypes.py_object * len(entry.parameters))(*interned)  # type: ignore[misc]
    context = 0 if entry.context is None else ctypes.addressof(entry.context)
    known, size, bound = ctypes.addressof(names), len(entry.parameters), isinstance(owner, type)
    call = Call(code.address(entry.core), context, id(general), known, size, bound)
    code.fill("call_" + "_".join(place), ctypes.addressof(call))
    doc, address = described(general, place[1], bound), code.address("_".join(place))
    method = Method(place[1].encode(), address, METH_FASTCALL | METH_KEYWORDS, doc)
    KEPT.append((method, call, names, entry.context, general))
    at = ctypes.addressof(method)
    if bound:
        make = ctypes.pythonapi.PyDescr_NewMethod
        make.restype, make.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_void_p]
        return make(owner, at)
    return function(method, module=owner.__name__)


SHARED: Sequence[Callable[[Module], None]] = (write_match, write_forward, write_enter)
