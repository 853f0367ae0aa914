"""An operator's parameters as JSON, and back. Imports core, ops and the base.

Numbers, text, None and truth values stand for themselves and a JSON list is a tuple; everything
else is an object with one key that says what it is: `{"dtype": "float32"}`. Arrays are put aside
by name. Reading runs no code from the file: each key has its reader here, and nothing else is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..core.op import OPS, Op
from ..device import device
from ..errors import check
from ..layout import (
    channels_last,
    channels_last_3d,
    contiguous_format,
    layout,
    preserve_format,
    strided,
)
from ..ops.adjoint import Mixing, Separable
from ..ops.conv_kernels import Steps
from ..ops.pool_kernels import Windows

# Named tuples that are parameters of operators. Their names are part of the file format.
LAYOUTS = {
    known.name: known
    for known in (strided, contiguous_format, preserve_format, channels_last, channels_last_3d)
}
RECORDS: dict[str, Any] = {kind.__name__: kind for kind in (Steps, Windows, Separable)}


class Encoder:
    """Writes values as JSON's own types; `arrays` collects the arrays by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def __call__(self, value: Any) -> Any:
        """The value as JSON; TypeError for what the format has no words for."""
        if value is None or isinstance(value, (bool, str)) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, tuple):
            return self.record(value) if hasattr(value, "_fields") else [self(v) for v in value]
        for kind, name, write in WRITERS:
            if isinstance(value, kind):
                return {name: write(self, value)}
        raise TypeError(
            f"[jit.save] a graph file cannot hold {type(value).__name__} {value!r}; compute it "
            "before tracing, or pass it as a tensor"
        )

    def record(self, value: Any) -> dict:
        """A named tuple; any but those of RECORDS are read back as plain tuples."""
        fields = [self(v) for v in value]
        return {"record": [type(value).__name__, *fields]} if is_record(value) else fields  # type: ignore[return-value]

    def array(self, value: np.ndarray) -> str:
        """Puts an array aside and returns its name."""
        name = f"constant.{len(self.arrays)}"
        self.arrays[name] = value
        return name


def is_record(value: Any) -> bool:
    """Whether a named tuple is one that the format knows by name."""
    return RECORDS.get(type(value).__name__) is type(value)


def write_mixing(encode: Encoder, value: Mixing) -> list:
    """A sparse matrix: its indices, weights and size."""
    return [encode(value.indices), encode(value.weights), value.size]


# For each type its key and how its content is written; the first that fits counts.
WRITERS: list[tuple[Any, str, Callable[[Encoder, Any], Any]]] = [
    (list, "list", lambda encode, v: [encode(x) for x in v]),
    (dict, "dict", lambda encode, v: [[encode(key), encode(x)] for key, x in v.items()]),
    (slice, "slice", lambda encode, v: [encode(x) for x in (v.start, v.stop, v.step)]),
    (type(...), "ellipsis", lambda encode, v: []),
    (complex, "complex", lambda encode, v: [encode(v.real), encode(v.imag)]),
    (dtypes.dtype, "dtype", lambda encode, v: v.name),
    (np.dtype, "numpy dtype", lambda encode, v: v.name),
    (np.generic, "number", lambda encode, v: [v.dtype.name, encode(v.item())]),
    (np.ndarray, "array", lambda encode, v: encode.array(v)),
    (device, "device", lambda encode, v: str(v)),
    (layout, "layout", lambda encode, v: v.name),
    (Op, "operator", lambda encode, v: v.name),
    (Mixing, "mixing", write_mixing),
]


class Decoder:
    """Reads what Encoder wrote; `arrays` are the file's arrays by name."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def __call__(self, value: Any) -> Any:
        """The value; ValueError for what is not written as the format says."""
        if isinstance(value, list):
            return tuple([self(v) for v in value])
        if not isinstance(value, dict):
            return value
        (name, content) = next(iter(value.items()), ("", None))
        reader = READERS.get(name)
        if reader is None or len(value) != 1:
            raise ValueError(f"[jit.load] the graph has a parameter {value!r} of no known kind")
        return reader(self, content)

    def record(self, content: list) -> Any:
        """A named tuple."""
        name, *fields = content
        check(name in RECORDS, lambda: f"[jit.load] unknown record {name!r}", ValueError)
        return RECORDS[name](*[self(v) for v in fields])


def operator(name: str) -> Op:
    """The record of that name."""
    check(
        name in OPS,
        lambda: (
            f"[jit.load] the graph uses the operator {name!r}, which this version of Lampion does "
            "not have; install the version that the file names"
        ),
        ValueError,
    )
    return OPS[name]


def dtype_named(name: str) -> dtypes.dtype:
    """PyTorch's type of that name."""
    found = getattr(dtypes, str(name), None)
    known = isinstance(found, dtypes.dtype)
    check(known, lambda: f"[jit.load] unknown type {name!r}", ValueError)
    return found  # type: ignore[return-value]


READERS: dict[str, Callable[[Decoder, Any], Any]] = {
    "float": lambda decode, c: float(c),
    "record": lambda decode, c: decode.record(c),
    "list": lambda decode, c: [decode(v) for v in c],
    "dict": lambda decode, c: {decode(k): decode(v) for k, v in c},
    "slice": lambda decode, c: slice(*[decode(v) for v in c]),
    "ellipsis": lambda decode, c: ...,
    "complex": lambda decode, c: complex(decode(c[0]), decode(c[1])),
    "dtype": lambda decode, c: dtype_named(c),
    "numpy dtype": lambda decode, c: dtype_named(c).numpy,
    "number": lambda decode, c: dtype_named(c[0]).numpy.type(decode(c[1])),
    "array": lambda decode, c: decode.arrays[c],
    "device": lambda decode, c: device(c),
    "layout": lambda decode, c: LAYOUTS[c],
    "operator": lambda decode, c: operator(c),
    "mixing": lambda decode, c: Mixing(decode(c[0]), decode(c[1]), c[2]),
}
