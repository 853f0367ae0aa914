"""What every learning-rate schedule is. May import the optimizer and core.

A schedule writes `lr` into the optimizer's groups, at construction and at each `step()`. Most
compute the next rate from the present one, so that several can act on one optimizer; many also know
a closed form.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...core.graph import STATE
from ...core.tensor import Tensor
from ...errors import check
from ..optimizer import Optimizer

EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where "
    "possible. Please use `scheduler.step()` to step the scheduler. During the deprecation, if "
    "epoch is different from None, the closed form is used instead of the new chainable form, "
    "where available. Please open an issue if you are unable to replicate your use case: "
    "https://github.com/pytorch/pytorch/issues/new/choose."
)
DOCUMENTATION = (
    "See more details at https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate"
)
OVERRIDDEN = (
    "Seems like `optimizer.step()` has been overridden after learning rate scheduler "
    "initialization. Please, make sure to call `optimizer.step()` before `lr_scheduler.step()`. "
    f"{DOCUMENTATION}"
)
WRONG_ORDER = (
    "Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch 1.1.0 and "
    "later, you should call them in the opposite order: `optimizer.step()` before "
    "`lr_scheduler.step()`.  Failure to do this will result in PyTorch skipping the first value "
    f"of the learning rate schedule. {DOCUMENTATION}"
)


class LRScheduler:
    """The base of all schedules: derived classes define `get_lr`, the rates of all groups for
    `last_epoch`.

    With `last_epoch=-1` the schedule starts; any other value resumes one, for which the groups must
    have their `initial_lr`.
    """

    _get_lr_called_within_step = False
    _is_initial = False
    _last_lr: list[Any]

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming "
                    "scheduler with last_epoch >= 0; load the optimizer's state first, or start "
                    "with last_epoch=-1"
                )
        self.base_lrs = values_of(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        self._step_function = optimizer.__dict__.get("step")
        optimizer.__dict__.setdefault("_opt_called", False)
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        with self._set("_is_initial"):
            self.step()

    @contextmanager
    def _set(self, flag: str) -> Iterator[None]:
        setattr(self, flag, True)
        try:
            yield
        finally:
            setattr(self, flag, False)

    def state_dict(self) -> dict[str, Any]:
        """All that changes, and all settings, except the optimizer: a dictionary to save."""
        return {k: v for k, v in self.__dict__.items() if k not in ("optimizer", "_step_function")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[Any]:
        """The rates that the last step set, one for each group."""
        return self._last_lr

    def get_lr(self) -> list[Any]:
        """The rates of all groups for `last_epoch`; only `step` should ask for them."""
        if not self._get_lr_called_within_step:
            warnings.warn(
                "To get the last learning rate computed by the scheduler, please use "
                "`get_last_lr()`.",
                UserWarning,
                stacklevel=2,
            )
        return self._rates()

    def _rates(self) -> list[Any]:
        raise NotImplementedError(f"[{type(self).__name__}] has no rates; override get_lr(self)")

    def step(self, epoch: int | None = None) -> None:
        """Goes on to the next rates. Call it after `optimizer.step()`."""
        if self._step_count == 1:
            if self.optimizer.__dict__.get("step") is not self._step_function:
                warnings.warn(OVERRIDDEN, UserWarning, stacklevel=2)
            elif not self.optimizer._opt_called:
                warnings.warn(WRONG_ORDER, UserWarning, stacklevel=2)
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch: int | None = None) -> None:
        for observer in STATE.observers:
            observer.fail("a learning-rate scheduler goes on inside the call; let it do so outside")
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed_form = getattr(self, "_get_closed_form_lr", None)
        with self._set("_get_lr_called_within_step"):
            rates = self.get_lr() if epoch is None or closed_form is None else closed_form()
        self._set_rates(rates)

    def _set_rates(self, rates: list[Any]) -> None:
        """Writes the rates into the groups; raises ValueError if their numbers differ."""
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            set_value(group, "lr", lr)
        self._last_lr = values_of(self.optimizer, "lr")

    def _scaled(self, factor: float) -> list[Any]:
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def _unchanged(self) -> list[Any]:
        return values_of(self.optimizer, "lr")


class _LRScheduler(LRScheduler):
    """The old name of the base class."""


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError for anything that is no optimizer."""
    check(
        isinstance(optimizer, Optimizer),
        lambda: f"{type(optimizer).__name__} is not an Optimizer",
        TypeError,
    )


def copied(value: Any) -> Any:
    """A number, or a copy of a tensor, which an optimizer's groups may change in place."""
    return value.clone() if isinstance(value, Tensor) else value


def values_of(optimizer: Optimizer, key: str) -> list[Any]:
    """An option's value in each group."""
    return [copied(group[key]) for group in optimizer.param_groups]


def set_value(group: dict[str, Any], key: str, value: Any) -> None:
    """Sets an option of a group; a tensor stays the same object."""
    if isinstance(group[key], Tensor):
        group[key].fill_(value)
    else:
        group[key] = value


def one_for_each_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """A list or tuple of one value for each group as a list, any other value repeated."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        value = [value] * groups
    check(
        len(value) == groups,
        lambda: (
            f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} "
            f"values, param_groups has {groups}."
        ),
        ValueError,
    )
    return [copied(v) for v in value]


def function_state(function: Callable | None) -> dict[str, Any] | None:
    """What to save of a function: a callable object's attributes, nothing of a plain one."""
    plain = function is None or isinstance(function, types.FunctionType)
    return None if plain else function.__dict__.copy()
