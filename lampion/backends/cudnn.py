"""cuDNN's switches: `torch.backends.cudnn`. They may be set and read; nothing here uses cuDNN.
Imports nothing of Lampion.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

enabled = True
benchmark = False
benchmark_limit: int | None = None
deterministic = False
allow_tf32 = True


def is_available() -> bool:
    """Whether cuDNN can be used: no."""
    return False


def version() -> int | None:
    """cuDNN's version: None, as it is not there."""
    return None


def is_acceptable(tensor: Any) -> bool:
    """Whether cuDNN could work on this tensor: no."""
    return False


@contextmanager
def flags(**values: Any) -> Iterator[None]:
    """Sets switches inside a block, e.g. `flags(enabled=False)`; raises AttributeError for a name
    that is none.
    """
    switches = globals()
    unknown = values.keys() - {
        "enabled",
        "benchmark",
        "benchmark_limit",
        "deterministic",
        "allow_tf32",
    }
    if unknown:
        raise AttributeError(f"[cudnn.flags] unknown switches: {sorted(unknown)}")
    before = {name: switches[name] for name in values}
    switches.update(values)
    try:
        yield
    finally:
        switches.update(before)
