"""What `torch.cuda`, `torch.mps` and `torch.xpu` say where there is no such device. May import core
and the base.

Questions get an honest answer and housekeeping does nothing, so that programs that ask first run
unchanged; what needs the device raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .core.naming import named


def missing(kind: str) -> AssertionError:
    """The error of everything that needs the device."""
    return AssertionError(
        f"[{kind}] Torch not compiled with {kind.upper()} enabled: no {kind} device is available; "
        f"use the CPU, or ask torch.{kind}.is_available() first"
    )


def functions_that_raise(kind: str, names: Iterable[str]) -> dict[str, Callable]:
    """Functions of these names, which all raise AssertionError."""

    def make(name: str) -> Callable:
        def needs_device(*args: Any, **kwargs: Any) -> Any:
            raise missing(kind)

        return named(needs_device, name, f"Needs a {kind} device: raises AssertionError.")

    return {name: make(name) for name in names}


def classes_that_raise(kind: str, names: Iterable[str]) -> dict[str, type]:
    """Classes of these names, which cannot be instantiated."""

    def construct(cls: type, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"torch.{kind}.{cls.__name__} requires {kind.upper()} support; no {kind} device is "
            "available"
        )

    doc = f"Needs a {kind} device: raises RuntimeError."
    return {name: type(name, (), {"__new__": construct, "__doc__": doc}) for name in names}


def questions(kind: str) -> dict[str, Callable]:
    """What may be asked and done without a device: availability, counts, housekeeping, seeds."""

    def is_available() -> bool:
        """Whether such a device can be used: no."""
        return False

    def device_count() -> int:
        """How many such devices there are: 0."""
        return 0

    def is_initialized() -> bool:
        """Whether the device has been used: no."""
        return False

    def empty_cache() -> None:
        """Gives cached memory back; there is none."""

    def synchronize(device: Any = None) -> None:
        """Waits for the device's work; there is none."""

    def manual_seed(seed: int) -> None:
        """Seeds the device's stream; there is none."""
        int(seed)

    def seed() -> None:
        """Seeds the device's stream at random; there is none."""

    found = (
        is_available,
        device_count,
        is_initialized,
        empty_cache,
        synchronize,
        manual_seed,
        seed,
    )
    return {function.__name__: function for function in found}


def memory_questions() -> dict[str, Callable]:
    """How much of a device's memory is used: none."""

    def nothing(name: str) -> Callable:
        def amount(device: Any = None) -> int:
            return 0

        return named(amount, name, "Bytes of the device's memory: 0.")

    names = ["memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved"]
    return {name: nothing(name) for name in names}


def stream(stream: Any) -> AbstractContextManager:
    """A block whose work goes to a stream; with None nothing changes, no other exists."""
    return nullcontext()
