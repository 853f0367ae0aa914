"""Schedules made of schedules: one after the other, or all at once. May import base and plateau."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ...errors import check
from ..optimizer import Optimizer
from .base import LRScheduler, set_value, values_of
from .plateau import ReduceLROnPlateau


class CompositeLR(LRScheduler):
    """What `SequentialLR` and `ChainedScheduler` share: checks, saving and loading of their
    schedules.
    """

    _schedulers: Sequence[LRScheduler]

    def _check_schedulers(self, optimizer: Optimizer, expectation: str) -> None:
        name = type(self).__name__
        check(
            len(self._schedulers) > 0,
            f"{name} expects {expectation}, but got no scheduler.",
            ValueError,
        )
        for i, scheduler in enumerate(self._schedulers):
            check(
                hasattr(scheduler, "optimizer"),
                f"{name} at index {i} should have `optimizer` as its attribute.",
                TypeError,
            )
            check(
                not isinstance(scheduler, ReduceLROnPlateau),
                f"{name} does not support `ReduceLROnPlateau` scheduler as it requires additional "
                f"kwargs to be specified when calling `step`, but got one at index {i} in the "
                "given schedulers sequence.",
                ValueError,
            )
            check(
                scheduler.optimizer is optimizer,
                f"{name} expects all schedulers to belong to the same optimizer, but got "
                f"scheduler {type(scheduler).__name__} at index {i} has {scheduler.optimizer}, "
                f"which is different from {type(optimizer).__name__}.",
                ValueError,
            )

    def state_dict(self) -> dict[str, Any]:
        """The state, with those of the schedules."""
        states = [scheduler.state_dict() for scheduler in self._schedulers]
        return {**super().state_dict(), "_schedulers": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the state, and that of each schedule."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_schedulers"})
        for scheduler, state in zip(self._schedulers, state_dict["_schedulers"], strict=True):
            scheduler.load_state_dict(state)


class SequentialLR(CompositeLR):
    """The first schedule up to the first milestone, then the next one from its own beginning, and
    so on.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: list[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        self._schedulers, self._milestones = schedulers, milestones
        self._check_schedulers(optimizer, "at least one scheduler")
        check(
            len(milestones) == len(schedulers) - 1,
            "Sequential Schedulers expects number of schedulers provided to be one more than the "
            f"number of milestone points, but got number of schedulers {len(schedulers)} and the "
            f"number of milestones to be equal to {len(milestones)}",
            ValueError,
        )
        self.optimizer = optimizer
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:  # undo what the schedules did when they were made
            set_value(group, "lr", group["initial_lr"])
        self.recursive_undo()
        first = schedulers[bisect_right(milestones, 0)]
        first._initial_step()
        self._last_lr = first.get_last_lr()

    def recursive_undo(self, sched: LRScheduler | None = None) -> None:
        """Takes back the first step of every schedule inside."""
        scheduler = self if sched is None else sched
        for inner in getattr(scheduler, "_schedulers", ()):
            self.recursive_undo(inner)
        if not hasattr(scheduler, "_schedulers"):
            scheduler.last_epoch -= 1

    def step(self) -> None:  # type: ignore[override]
        """Goes on in the schedule whose turn it is."""
        self.last_epoch += 1
        i = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[i]
        if i > 0 and self._milestones[i - 1] == self.last_epoch:
            scheduler._update_lr(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


class ChainedScheduler(CompositeLR):
    """All schedules at every step, each on what the one before left."""

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        self._schedulers = schedulers
        first = schedulers[0].optimizer if schedulers and optimizer is None else optimizer
        self._check_schedulers(first, "at least one scheduler to be chained")  # type: ignore[arg-type]
        self.optimizer = first  # type: ignore[assignment]
        self._last_lr = values_of(self._schedulers[-1].optimizer, "lr")

    def step(self) -> None:  # type: ignore[override]
        """Steps each schedule."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = values_of(self._schedulers[-1].optimizer, "lr")
