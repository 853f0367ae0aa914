"""What a program switches globally: threads, deterministic algorithms, precision of products.
Imports errors.

PyTorch's names for it live in `torch` itself.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Callable
from functools import cache

import numpy as np

from .errors import check

__all__ = [
    "are_deterministic_algorithms_enabled",
    "get_deterministic_debug_mode",
    "get_float32_matmul_precision",
    "get_num_interop_threads",
    "get_num_threads",
    "is_deterministic_algorithms_warn_only_enabled",
    "is_warn_always_enabled",
    "set_deterministic_debug_mode",
    "set_float32_matmul_precision",
    "set_flush_denormal",
    "set_num_interop_threads",
    "set_num_threads",
    "set_warn_always",
    "use_deterministic_algorithms",
]


class Settings:
    """The present state of the switches.

    listeners   called when the number of threads was changed
    """

    listeners: list[Callable[[], None]] = []
    threads: int | None = None  # None: as many as there are processors
    interop_threads: int | None = None
    deterministic = warn_only = warn_always = False
    matmul_precision = "highest"


settings = Settings()

# -- threads -----------------------------------------------------------------------------------


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def blas_setter() -> Callable[[int], None] | None:
    """The function of NumPy's own OpenBLAS that sets its threads, None with another library."""
    folder = os.path.join(os.path.dirname(np.__file__), os.pardir, "numpy.libs")
    for file in os.listdir(folder) if os.path.isdir(folder) else ():
        if "openblas" not in file:
            continue
        library = ctypes.CDLL(os.path.join(folder, file))
        for name in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_"):
            if hasattr(library, name):
                return getattr(library, name)
    return None


def set_num_threads(num: int) -> None:
    """Sets how many threads one operation may use; raises RuntimeError unless `num` is a positive
    integer.
    """
    check(
        isinstance(num, int),
        f"set_num_threads expects an int, but got {type(num).__name__}",
        TypeError,
    )
    check(num > 0, f"[set_num_threads] expects a positive integer, got {num}; pass 1 or more")
    settings.threads = num
    setter = blas_setter()
    if setter is not None:
        setter(num)
    for listener in settings.listeners:
        listener()


def get_num_threads() -> int:
    """How many threads one operation may use."""
    return settings.threads or processors()


def set_num_interop_threads(num: int) -> None:
    """Accepted for compatibility: operations do not run beside one another."""
    check(
        num > 0, f"[set_num_interop_threads] expects a positive integer, got {num}; pass 1 or more"
    )
    settings.interop_threads = num


def get_num_interop_threads() -> int:
    """What `set_num_interop_threads` was told, at first the number of processors."""
    return settings.interop_threads or processors()


# -- deterministic algorithms ------------------------------------------------------------------

DEBUG_MODES = {"default": 0, "warn": 1, "error": 2}


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Asks for algorithms that repeat their results bit by bit; all of Lampion's do, so nothing
    else changes.
    """
    check(
        isinstance(mode, bool),
        lambda: (
            "use_deterministic_algorithms(): argument 'mode' must be bool, not "
            f"{type(mode).__name__}"
        ),
        TypeError,
    )
    settings.deterministic, settings.warn_only = mode, warn_only


def are_deterministic_algorithms_enabled() -> bool:
    """Whether deterministic algorithms were asked for."""
    return settings.deterministic


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether an algorithm that is not deterministic should warn and not raise."""
    return settings.warn_only


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """`use_deterministic_algorithms` by level: 0 or "default" off, 1 or "warn", 2 or "error"."""
    level = DEBUG_MODES.get(debug_mode) if isinstance(debug_mode, str) else debug_mode
    check(
        level in (0, 1, 2),
        lambda: (
            f"[set_deterministic_debug_mode] invalid value {debug_mode!r}; use one of "
            f"{list(DEBUG_MODES)}"
        ),
    )
    use_deterministic_algorithms(level in (1, 2), warn_only=level == 1)


def get_deterministic_debug_mode() -> int:
    """The level that `set_deterministic_debug_mode` takes."""
    return 0 if not settings.deterministic else 1 if settings.warn_only else 2


# -- numbers -----------------------------------------------------------------------------------


def set_float32_matmul_precision(precision: str) -> None:
    """Accepted: "highest", "high" or "medium". Products of float32 always have the errors of
    float32 sums here; matrix units (Intel AMX) are given all bits of the operands.
    """
    if precision not in ("highest", "high", "medium"):
        warnings.warn(
            f"{precision} is not one of 'highest', 'high', or 'medium'; the current "
            "setFloat32MatmulPrecision call has no effect.",
            UserWarning,
            stacklevel=2,
        )
        return
    settings.matmul_precision = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was told, at first "highest"."""
    return settings.matmul_precision


def set_flush_denormal(mode: bool) -> bool:
    """Whether denormal numbers can be flushed to zero as asked: they are always kept, so True only
    for False.
    """
    return not mode


def set_warn_always(b: bool) -> None:
    """Asks that warnings given once be given every time."""
    settings.warn_always = b


def is_warn_always_enabled() -> bool:
    """Whether warnings given once are given every time."""
    return settings.warn_always
