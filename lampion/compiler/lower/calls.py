"""Steps that read and write memory as a whole: calls of templates, or of NumPy on the host. May
import definitions, templates and kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.lib.stride_tricks import as_strided

from ..trace.graph import Value, contiguous_strides
from .definitions import Call, Definitions, Place
from .draws import generator_of
from .kernels import Buffer, Epilogue, Host, Kernel
from .templates import library

Buffers = Callable[[Value], Buffer]


def call_kernels(
    program: Definitions, call: Call, buffer: Buffers, epilogue: Epilogue | None = None
) -> list[Kernel]:
    """The kernels that run a step, and at its end the epilogue."""
    found = library(program, call.step, buffer, epilogue)
    return [host(program, call, buffer)] if found is None else found


def seen(array: ndarray, place: Place, shape: tuple[int, ...]) -> ndarray:
    """A view of a root's memory."""
    flat = array.reshape(-1)[place.offset :]
    return as_strided(flat, shape, [s * array.itemsize for s in place.strides], writeable=False)


def host(program: Definitions, call: Call, buffer: Buffers) -> Kernel:
    """A call of the operator's own kernel."""
    step = call.step
    places = [None if v is None else program.place(v) for v in step.inputs]
    roots = list(dict.fromkeys(p.root for p in places if p is not None))
    numbers = [None if p is None else roots.index(p.root) for p in places]
    views = [
        p is not None and v is not None and not is_whole(p, v)
        for p, v in zip(places, step.inputs, strict=True)
    ]
    shapes = [() if v is None else v.shape for v in step.inputs]
    kernel, params, dtypes = step.op.kernel, step.params, [v.dtype for v in step.outputs]

    def run(*arrays: ndarray) -> Any:
        given: list[ndarray | None] = []
        for place, number, view, shape in zip(places, numbers, views, shapes, strict=True):
            if place is None or number is None:
                given.append(None)
            else:
                given.append(seen(arrays[number], place, shape) if view else arrays[number])
        made = kernel(*given, **params)
        if isinstance(made, tuple):
            return tuple(np.asarray(a, d) for a, d in zip(made, dtypes, strict=True))
        return np.asarray(made, dtypes[0])

    reads = tuple(buffer(r) for r in roots)
    writes = tuple(buffer(v) for v in step.outputs)
    work = Host(run, reads, writes)
    draws = generator_of(step) if step.op.random else None
    return Kernel(step.op.name, (step.op.name,), reads, writes, work, draws=draws)


def is_whole(place: Place, value: Value) -> bool:
    """Whether a value is all of its root as it lies in memory."""
    same = place.root.shape == value.shape and place.offset == 0
    return same and place.strides == contiguous_strides(value.shape)
