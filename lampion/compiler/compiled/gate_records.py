"""What the compiled entry of gates reads: a context, and tables of records. Imports emit."""

from __future__ import annotations

import ctypes

from ..native.emit import Function, Value

TENSOR, OBJECT, NUMBER = range(3)  # kinds of arguments


class WordRecord(ctypes.Structure):
    """A word; `most` is 1 where smaller numbers are as good."""

    _fields_ = [(n, ctypes.c_int64) for n in ("address", "value", "most")]


class ArgumentRecord(ctypes.Structure):
    """An argument: what it must be, and where in the operands its address goes.

    kind     TENSOR, OBJECT (a certain one), or NUMBER
    object   the object; of a tensor its `requires_grad` as an object, 0 for any
    made     whether a tensor must have a history, or must not; not looked at if `object` is 0
    array    the array that a tensor must have, 0 for any
    dtype    the object of its type
    written  whether the program writes to it
    """

    _fields_ = [
        (n, ctypes.c_int64)
        for n in (
            "kind", "object", "made", "array", "dtype", "rank", "shape", "operand", "bytes",
            "written",
        )
    ]  # fmt: skip


class OutputRecord(ctypes.Structure):
    """An output to be made: its type's object, its shape, where its address goes."""

    _fields_ = [(n, ctypes.c_int64) for n in ("dtype", "rank", "shape", "operand")]


class StoreRecord(ctypes.Structure):
    """An object, the name of an attribute, and its new value: an object, or if that is 0 the one at
    a place among the outputs.
    """

    _fields_ = [(n, ctypes.c_int64) for n in ("holder", "name", "value", "output")]


class ObjectRecord(ctypes.Structure):
    """An object."""

    _fields_ = [("object", ctypes.c_int64)]


class Span(ctypes.Structure):
    """Memory that the program writes, or reads."""

    _fields_ = [(n, ctypes.c_int64) for n in ("start", "end")]


class PartRecord(ctypes.Structure):
    """A part of the program: a row of stages in memory, or a Python function.

    host    the function; 0 for a row of stages
    lock    the lock of the random generator that the stages use, 0 for none
    state   where that one's state is
    saved   where its state is kept before the part runs, and behind it whether it is; 0: nowhere
    """

    _fields_ = [(n, ctypes.c_int64) for n in ("program", "host", "lock", "state", "saved")]


class Context(ctypes.Structure):
    """All that the compiled entry knows of a gate.

    written  memory of states that the program writes; read: that of its other states
    writes   how many arguments it writes
    given    room for what a Python function of the program is called with
    note     0, or what is called at the start, so that `rewind` can put random generators back
    passed   how many calls have run the program
    held     objects that a call keeps alive where other Python threads run meanwhile
    """

    _fields_ = [
        (n, ctypes.c_int64)
        for n in (
            "busy", "mode", "argument_count", "arguments", "word_count", "words", "output_count",
            "outputs", "part_count", "parts", "operands", "release", "written_count", "written",
            "read_count", "read", "writes", "returned", "bare", "store_count", "stores",
            "storage_count", "storages", "given", "note", "rewind", "passed", "held_count", "held",
        )
    ]  # fmt: skip


def get(f: Function, record: Value, kind: type[ctypes.Structure], name: str, type: str) -> Value:
    """A field of a record."""
    return f.load(type, f.at(record, getattr(kind, name).offset))


def context(f: Function, name: str, type: str = "i64") -> Value:
    """A field of the context (the parameter `context`)."""
    return get(f, f["context"], Context, name, type)
