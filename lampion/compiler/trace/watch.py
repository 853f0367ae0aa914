"""What a trace must learn of besides operators: methods that are replaced while one runs.

Imports trace, core and random. Nothing here costs anything while no call is traced; other threads
go through the replaced methods for that moment, and see no difference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...core import autograd
from ...core.graph import KNOWN, STATE
from ...core.tensor import Tensor
from ...random import Generator, default_generator
from .tracer import Tracer, tracer

TRACING = threading.Lock()  # one call at a time is traced


def reading(method: Callable, name: str) -> Callable:
    """The method, which tells the trace that Python looks at values."""

    def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        active = tracer()
        if active is not None:
            asker = args[0] if name == "concrete" else name
            active.read(self, asker)
        return method(self, *args, **kwargs)

    return call


def failing(method: Callable, reason: str) -> Callable:
    """The method, after which there is no graph."""

    def call(*args: Any, **kwargs: Any) -> Any:
        active = tracer()
        if active is not None:
            active.fail(reason)
        return method(*args, **kwargs)

    return call


def watched_grad(grad: property) -> property:
    """`.grad`, which tells the trace who reads and sets it."""

    def get(self: Tensor) -> Tensor | None:
        active = tracer()
        if active is not None:
            active.touch_grad(self, read=True)
        return grad.fget(self)  # type: ignore[misc]

    def put(self: Tensor, value: Tensor | None) -> None:
        active = tracer()
        if active is not None:
            active.touch_grad(self, read=False)
        grad.fset(self, value)  # type: ignore[misc]

    def delete(self: Tensor) -> None:
        put(self, None)

    return property(get, put, delete, grad.__doc__)


def watched_accumulate(accumulate: Callable) -> Callable:
    """The engine's accumulation into a leaf, which reads its `.grad`."""

    def call(leaf: Tensor, g: Tensor, hooked: bool = False) -> None:
        active = tracer()
        if active is not None:
            active.touch_grad(leaf, read=True)
        accumulate(leaf, g, hooked)

    return call


def watched_state(set_state: Callable) -> Callable:
    """Setting a generator's state: harmless where no number is drawn and it ends as it began."""

    def call(self: Generator, state: Any) -> None:
        active = tracer()
        if active is not None and self is not default_generator:
            active.fail("a random generator's state is set")
        elif active is not None:
            active.rewound = True
        set_state(self, state)

    return call


REPLACED: list[tuple[Any, str, Callable[[Any], Any]]] = [
    (Tensor, "concrete", lambda m: reading(m, "concrete")),
    (Tensor, "item", lambda m: reading(m, "item")),  # built-ins do not ask `concrete`
    (Tensor, "__float__", lambda m: reading(m, "item")),
    (Tensor, "__repr__", lambda m: reading(m, "print")),
    (Tensor, "__deepcopy__", lambda m: reading(m, "deepcopy")),
    (Tensor, "__reduce_ex__", lambda m: reading(m, "pickle")),
    (Tensor, "grad", watched_grad),
    (autograd, "accumulate_grad", watched_accumulate),
    (Generator, "manual_seed", lambda m: failing(m, "a random generator is seeded")),
    (Generator, "set_state_bytes", watched_state),
]


@contextmanager
def watching(active: Tracer) -> Iterator[None]:
    """Runs a block with the tracer observing this thread."""
    start = default_generator.state()
    left, KNOWN[2] = KNOWN[2], 0  # small calls, some of these methods, are compiled afterwards
    originals = [(owner, name, vars(owner)[name]) for owner, name, _ in REPLACED]
    for (owner, name, replace), (_, _, original) in zip(REPLACED, originals):
        setattr(owner, name, replace(original))
    try:
        with STATE.set(observers=(*STATE.observers, active)):
            yield
            if active.rewound:
                drawn = any(step.op.random for step in active.steps)
                if drawn or not np.array_equal(start, default_generator.state()):
                    active.fail("a random generator's state is set")
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)
        KNOWN[2] = left
