"""Names of functions that are made by functions, and of nodes. Imports nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable)


def named(function: F, name: str, doc: str | None = None) -> F:
    """The function, which from now on has this name and, if one is given, this docstring."""
    function.__name__ = function.__qualname__ = name
    if doc is not None:
        function.__doc__ = doc
    return function


def node_name(name: str) -> str:
    """What PyTorch calls the node of an operator, e.g. `LogSoftmaxBackward0`."""
    return "".join(w.capitalize() for w in name.split("_")) + "Backward0"
