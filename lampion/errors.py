"""Exceptions and the one check that raises them. Imports nothing.

Messages are one breath: `[operator] what it expected, what it got; what repairs it`. Classes are
PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable


class OutOfMemoryError(RuntimeError):
    """A device had no memory left for an allocation."""


class LinAlgError(RuntimeError):
    """A matrix has no decomposition, inverse or solution of the kind asked for."""


def out_of_memory(name: str, error: MemoryError) -> OutOfMemoryError:
    """PyTorch's error for an array that does not fit into memory."""
    return OutOfMemoryError(
        f"[{name}] expects memory for its result, can't allocate memory: "
        f"{error or 'none is left'}; use smaller shapes or batches"
    )


def check(
    condition: object, message: str | Callable[..., str], error: type[Exception] = RuntimeError
) -> None:
    """Raises `error` with `message` (or with what it returns) unless `condition` holds."""
    if not condition:
        raise error(message() if callable(message) else message)
