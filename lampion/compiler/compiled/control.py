"""What PyTorch's `torch.compiler` has besides `compile`: who is compiled, and when.

Imports function. Names that only tell PyTorch's own tracer something are accepted, and change
nothing here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...errors import check
from ..trace.tracer import tracer
from .function import BACKENDS, DISABLED, FUNCTIONS, STANCE

STANCES = {
    "default", "force_eager", "eager_on_recompile", "fail_on_recompile", "eager_then_compile",
    "aot_eager_then_compile",
}  # fmt: skip


def disable(
    fn: Callable | None = None, recursive: bool = True, *, reason: str | None = None
) -> Any:
    """The function, never compiled: a call of it inside a compiled one runs in the trace."""
    if fn is None:
        return functools.partial(disable, recursive=recursive, reason=reason)

    @functools.wraps(fn)
    def eager(*args: Any, **kwargs: Any) -> Any:
        DISABLED.depth += 1
        try:
            return fn(*args, **kwargs)
        finally:
            DISABLED.depth -= 1

    return eager


class set_stance:
    """Says what compiled functions do from now on, until the `with` block ends, or while the
    decorated function runs:

    "default"             they are compiled for each new kind of call
    "force_eager"         they run as they are
    "eager_on_recompile"  a call that fits none of a function's programs runs as it is
    "fail_on_recompile"   such a call raises RuntimeError

    PyTorch's "eager_then_compile" and "aot_eager_then_compile" are as "default": a first call runs
    as it is in any case. Raises RuntimeError for other names.

    >>> with torch.compiler.set_stance("force_eager"):
    ...     torch.compile(torch.sin)(torch.zeros(1))
    tensor([0.])
    """

    def __init__(
        self,
        stance: str = "default",
        *,
        skip_guard_eval_unsafe: bool = False,
        force_backend: str | Callable | None = None,
    ) -> None:
        known = ", ".join(sorted(STANCES))
        check(stance in STANCES, lambda: f"[compile] Invalid stance: {stance!r}; known are {known}")
        self.stance, self.before = stance, STANCE.name
        take(stance)

    def __enter__(self) -> None:
        take(self.stance)

    def __exit__(self, *reason: object) -> None:
        take(self.before)

    def __call__(self, fn: Callable) -> Callable:
        take(self.before)

        @functools.wraps(fn)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with set_stance(self.stance):
                return fn(*args, **kwargs)

        return inside


def take(stance: str) -> None:
    """Changes the stance; the short ways into programs know nothing of it, and are closed."""
    STANCE.name = stance
    for function in list(FUNCTIONS):
        function.close()


def is_compiling() -> bool:
    """Whether a call is being traced."""
    return tracer() is not None


is_dynamo_compiling = is_compiling


def is_exporting() -> bool:
    """False: `jit.trace` is the way to a graph on its own."""
    return False


def reset() -> None:
    """Forgets all programs: functions are traced anew."""
    for function in list(FUNCTIONS):
        function.programs.clear()
        function.entrances.clear()
        function.memories.clear()
        function.close()
        function.eager.clear()
        function.count = 0


def list_backends(exclude_tags: Any = ("debug", "experimental")) -> list[str]:
    """The names that `compile` takes as its `backend`."""
    return sorted(BACKENDS)


def as_it_is(fn: Callable) -> Callable:
    """The function: its operators are traced like all others."""
    return fn


allow_in_graph = assume_constant_result = as_it_is


def nested_compile_region(fn: Callable | None = None, **options: Any) -> Any:
    """The function: equal kernels are compiled once in any case."""
    return as_it_is if fn is None else fn


def mark(x: Any, *dims: Any, **bounds: Any) -> None:
    """Nothing: each shape has a program of its own."""


mark_dynamic = maybe_mark_dynamic = mark_static = mark_static_address = mark


def graph_break(msg: str = "") -> None:
    """Nothing: a trace is one graph or none."""


def cudagraph_mark_step_begin() -> None:
    """Nothing: the memory of results is not used again while somebody holds them."""
