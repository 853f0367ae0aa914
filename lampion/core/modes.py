"""Switches for recording: `no_grad`, `enable_grad`, `set_grad_enabled`, `inference_mode`, anomaly
detection, saved-tensor hooks. May import the core's earlier files. Each is a context manager
and a decorator.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .graph import DIRECT, GENERAL, STATE, TAPE


class Switch:
    """Sets attributes of the thread's state inside a `with` block or a decorated function."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.entered: list[Any] = []

    def __enter__(self) -> Any:
        state = STATE.__dict__
        self.entered.append({k: getattr(STATE, k) for k in self.values})
        state.update(self.values)
        STATE.refresh()
        return self

    def __exit__(self, *exception: object) -> None:
        STATE.__dict__.update(self.entered.pop())
        STATE.refresh()

    def clone(self) -> Switch:
        """A switch with the same settings, for one call of a decorated function."""
        return Switch(**self.values)

    def __call__(self, function: Callable) -> Callable:
        if inspect.isclass(function):
            function.__init__ = self(function.__init__)
            return function
        if inspect.isgeneratorfunction(function):
            return self.wrap_generator(function)

        @functools.wraps(function)
        def switched(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return function(*args, **kwargs)

        return switched

    def wrap_generator(self, function: Callable) -> Callable:
        """A generator whose body, and only its body, runs with the switch set."""

        @functools.wraps(function)
        def switched(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                generator = function(*args, **kwargs)
            sent, throw = None, None
            while True:
                try:
                    with self.clone():
                        got = generator.throw(throw) if throw else generator.send(sent)
                except StopIteration as end:
                    return end.value
                try:
                    sent, throw = (yield got), None
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as error:
                    throw = error

        return switched


class no_grad(Switch):
    """Records nothing: results do not require grad.

    >>> x = torch.ones(2, requires_grad=True)
    >>> with torch.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    def __new__(cls, function: Callable | None = None) -> Any:
        made = object.__new__(cls)
        if function is None:
            return made
        made.__init__()  # type: ignore[misc]
        return made(function)

    values = {"grad": False}

    def __init__(self, function: Callable | None = None) -> None:
        self.entered = []

    def __enter__(self) -> Any:
        self.entered.append(STATE.grad)
        switch_recording(self.values["grad"])
        return self

    def __exit__(self, *exception: object) -> None:
        switch_recording(self.entered.pop())

    def clone(self) -> Switch:
        made = object.__new__(type(self))
        made.entered = []
        return made


def switch_recording(grad: Any) -> None:
    """Sets whether operations are recorded; whatever else is set stays, and has its mode."""
    STATE.grad = grad
    if STATE.mode != GENERAL:
        STATE.switch(TAPE if grad else DIRECT)


class enable_grad(no_grad):
    """Records again inside `no_grad`."""

    values = {"grad": True}


class set_grad_enabled(Switch):
    """Switches recording at once; as a context manager, until the end of the block."""

    def __init__(self, mode: bool) -> None:
        if not isinstance(mode, (bool, np.bool_)):
            raise TypeError(
                "set_grad_enabled(): argument 'enabled' (position 1) must be bool, not "
                f"{type(mode).__name__}"
            )
        super().__init__(grad=bool(mode))
        super().__enter__()

    def __enter__(self) -> Any:
        return self

    def __call__(self, function: Callable) -> Callable:
        super().__exit__()
        return super().__call__(function)


class inference_mode(Switch):
    """Like `no_grad`, and what is made inside may never enter a graph later."""

    def __new__(cls, mode: Any = True) -> Any:
        made = object.__new__(cls)
        if not callable(mode):
            return made
        made.__init__()  # type: ignore[misc]
        return made(mode)

    def __init__(self, mode: Any = True) -> None:
        super().__init__(**({"grad": False, "inference": True} if mode else {"inference": False}))


class detect_anomaly(Switch):
    """Backward errors and NaNs name the forward line that made them; slow, for debugging."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__(anomaly=True, check_nan=check_nan)


class set_detect_anomaly(set_grad_enabled):
    """Switches anomaly detection at once; as a context manager, until the end of the block."""

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        Switch.__init__(self, anomaly=bool(mode), check_nan=check_nan)
        Switch.__enter__(self)


class saved_tensors_hooks(Switch):
    """Passes each saved tensor through `pack_hook` when saved and `unpack_hook` when used."""

    def __init__(self, pack_hook: Callable, unpack_hook: Callable) -> None:
        super().__init__()
        self.hooks = (pack_hook, unpack_hook)

    def __enter__(self) -> Any:
        self.values = {"saved_hooks": (*STATE.saved_hooks, self.hooks)}
        return super().__enter__()


def is_grad_enabled() -> bool:
    """Whether operations are recorded now."""
    return STATE.grad


def is_inference_mode_enabled() -> bool:
    """Whether `inference_mode` is on."""
    return STATE.inference


def is_anomaly_enabled() -> bool:
    """Whether anomaly detection is on."""
    return STATE.anomaly
