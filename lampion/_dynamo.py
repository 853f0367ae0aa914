"""Names of PyTorch's tracer that programs mention. Imports compiler.

`config` takes any attribute, by name, by `patch` and in a `with` block: none of its switches means
anything here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .compiler.compiled.control import (
    allow_in_graph as allow_in_graph,
    assume_constant_result as assume_constant_result,
    disable as disable,
    graph_break as graph_break,
    is_compiling as is_compiling,
    list_backends as list_backends,
    mark_dynamic as mark_dynamic,
    mark_static as mark_static,
    mark_static_address as mark_static_address,
    maybe_mark_dynamic as maybe_mark_dynamic,
    reset as reset,
    set_stance as set_stance,
)
from .compiler.compiled.function import Proxy, explain as explain

OptimizedModule = Proxy


class Config:
    """Switches that are kept and change nothing; one that nobody has set is None."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    @contextmanager
    def patch(
        self, changes: dict[str, Any] | str | None = None, *value: Any, **more: Any
    ) -> Iterator[None]:
        """Changes switches for the duration of a block, or of a decorated function."""
        named = {changes: value[0]} if isinstance(changes, str) else changes or {}
        before = dict(self.__dict__)
        self.__dict__.update(named, **more)
        try:
            yield
        finally:
            self.__dict__.clear()
            self.__dict__.update(before)


config = Config(
    suppress_errors=False, cache_size_limit=64, recompile_limit=64, verbose=False, disable=False
)
