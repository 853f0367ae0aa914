"""The CPU as one of the devices, under PyTorch's names: `torch.cpu`. Imports nothing of Lampion."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any


def is_available() -> bool:
    """Whether the CPU can be used: yes."""
    return True


def is_initialized() -> bool:
    """Whether the CPU is ready: yes."""
    return True


def device_count() -> int:
    """How many CPU devices there are: 1."""
    return 1


def current_device() -> str:
    """The current CPU device: `"cpu"`."""
    return "cpu"


def set_device(device: Any) -> None:
    """Chooses a CPU device; there is only one."""


def synchronize(device: Any = None) -> None:
    """Waits for the CPU's work, which is done when a call returns."""


class Stream:
    """The one order in which the CPU works."""

    def __init__(self, priority: int = -1) -> None:
        self.priority = priority

    def wait_stream(self, stream: Stream) -> None:
        """Waits for another stream's work, which is done."""


def current_stream(device: Any = None) -> Stream:
    """The stream that work goes to."""
    return Stream()


def stream(stream: Any) -> AbstractContextManager:
    """A block whose work goes to a stream; there is only one."""
    return nullcontext()
