"""Schedules that go up and down: cosines with restarts, triangles, one cycle. May import base.

After Loshchilov and Hutter (2016) and Smith (2015, 2017). The latter two move the momentum against
the rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...errors import check
from ..optimizer import Optimizer
from .base import LRScheduler, check_optimizer, function_state, one_for_each_group, set_value


class CosineAnnealingWarmRestarts(LRScheduler):
    """lr = eta_min + (initial lr - eta_min) * (1 + cos(pi * T_cur / T_i)) / 2.

    T_cur counts epochs since the last restart; after T_i of them comes the next one, and T_i is
    multiplied by T_mult. `step` also takes fractions of epochs.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        check(
            isinstance(T_0, int) and T_0 > 0,
            f"Expected positive integer T_0, but got {T_0}",
            ValueError,
        )
        check(
            isinstance(T_mult, int) and T_mult >= 1,
            f"Expected integer T_mult >= 1, but got {T_mult}",
            ValueError,
        )
        check(
            isinstance(eta_min, (float, int)),
            f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}",
            ValueError,
        )
        self.T_0 = self.T_i = T_0
        self.T_mult, self.eta_min = T_mult, eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def _rates(self) -> list[Any]:
        height = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * height / 2 for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Goes on to the next epoch, or to the given one, which may be a fraction."""
        if epoch is None and self.last_epoch < 0:
            epoch = 0
        if epoch is None:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            check(epoch >= 0, f"Expected non-negative epoch, but got {epoch}", ValueError)
            self._jump(epoch)
        self.last_epoch = math.floor(epoch)
        with self._set("_get_lr_called_within_step"):
            self._set_rates(self.get_lr())

    def _jump(self, epoch: float) -> None:
        """Sets T_cur and T_i as for the given epoch."""
        if epoch < self.T_0:
            self.T_cur, self.T_i = epoch, self.T_0
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            restarts = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            passed = self.T_0 * (self.T_mult**restarts - 1) / (self.T_mult - 1)
            self.T_cur, self.T_i = epoch - passed, self.T_0 * self.T_mult**restarts


class MomentumCycle(LRScheduler):
    """What the cyclic schedules share: they move momentum, or Adam's beta1, as well."""

    cycle_momentum: bool
    use_beta1: bool

    def _start_momentum(self, base: Any, most: Any, last_epoch: int) -> None:
        """Notes the bounds, and at the start of the schedule sets the momentum to the upper one."""
        defaults = self.optimizer.defaults
        check(
            "momentum" in defaults or "betas" in defaults,
            "optimizer must support momentum or beta1 with `cycle_momentum` option enabled",
            ValueError,
        )
        self.use_beta1 = "betas" in defaults
        self.base_momentums = one_for_each_group("base_momentum", self.optimizer, base)
        self.max_momentums = one_for_each_group("max_momentum", self.optimizer, most)
        if last_epoch == -1:
            self._set_momentums(self.max_momentums)
            for i, group in enumerate(self.optimizer.param_groups):
                group["max_momentum"] = self.max_momentums[i]
                group["base_momentum"] = self.base_momentums[i]

    def _set_momentums(self, momentums: list[Any]) -> None:
        for group, momentum in zip(self.optimizer.param_groups, momentums, strict=True):
            if self.use_beta1:
                group["betas"] = (momentum, *group["betas"][1:])
            else:
                group["momentum"] = momentum


class CyclicLR(MomentumCycle):
    """lr goes up from base_lr to max_lr and down again, in straight lines.

    Cycles are equally high in mode "triangular", half as high each time in "triangular2", and
    scaled by gamma**iteration in "exp_range". A function `scale_fn` of the cycle, or with
    `scale_mode="iterations"` of the iteration, takes the place of a mode. Call `step` after every
    batch.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | list[float],
        max_lr: float | list[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        known = mode in ("triangular", "triangular2", "exp_range")
        check(known or scale_fn is not None, "mode is invalid and scale_fn is None", ValueError)
        self.optimizer = optimizer
        base_lrs = one_for_each_group("base_lr", optimizer, base_lr)
        if last_epoch == -1:
            for lr, group in zip(base_lrs, optimizer.param_groups, strict=True):
                set_value(group, "lr", lr)
        self.max_lrs = one_for_each_group("max_lr", optimizer, max_lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        self.mode, self.gamma = mode, gamma
        self._scale_fn_custom = scale_fn
        if scale_fn is None:
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.scale_mode = scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._start_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """How high the cycle or iteration x goes, as a share of the full height."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular":
            return 1.0
        return 1 / (2.0 ** (x - 1)) if self.mode == "triangular2" else self.gamma**x

    def _rates(self) -> list[Any]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        place = 1.0 + self.last_epoch / self.total_size - cycle  # in the cycle, from 0 to 1
        rising = place <= self.step_ratio
        height = place / self.step_ratio if rising else (place - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            bounds = zip(self.base_momentums, self.max_momentums, strict=True)
            self._set_momentums([most - (most - base) * height * scale for base, most in bounds])
        bounds = zip(self.base_lrs, self.max_lrs, strict=True)
        return [base + (most - base) * height * scale for base, most in bounds]

    def state_dict(self) -> dict[str, Any]:
        """The state; of `scale_fn`, only the attributes of a callable object."""
        custom = function_state(self._scale_fn_custom)
        return {**super().state_dict(), "_scale_fn_custom": custom}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the state, and the attributes of a `scale_fn` that is a callable object."""
        custom = state_dict["_scale_fn_custom"]
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "_scale_fn_custom"})
        if custom is not None:
            self._scale_fn_custom.__dict__.update(custom)


UP = {"start_lr": "initial_lr", "end_lr": "max_lr",
      "start_momentum": "max_momentum", "end_momentum": "base_momentum"}  # fmt: skip
DOWN = {"start_lr": "max_lr", "end_lr": "initial_lr",
        "start_momentum": "base_momentum", "end_momentum": "max_momentum"}  # fmt: skip
OUT = {**DOWN, "end_lr": "min_lr"}
FADE = {"start_lr": "initial_lr", "end_lr": "min_lr",
        "start_momentum": "max_momentum", "end_momentum": "max_momentum"}  # fmt: skip


class OneCycleLR(MomentumCycle):
    """lr goes from max_lr / div_factor up to max_lr, then down to a `final_div_factor`-th of the
    first rate.

    The rise takes `pct_start` of all steps; with three_phase, the fall takes as long, and what is
    left fades out. Call `step` after every batch; raises ValueError after `total_steps` (or epochs
    * steps_per_epoch) of them.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        check_optimizer(optimizer)
        self.optimizer = optimizer
        self.total_steps = number_of_steps(total_steps, epochs, steps_per_epoch)
        check(
            isinstance(pct_start, float) and 0 <= pct_start <= 1,
            f"Expected float between 0 and 1 pct_start, but got {pct_start}",
            ValueError,
        )
        check(
            anneal_strategy in ("cos", "linear"),
            f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}",
            ValueError,
        )
        rise, last = float(pct_start * self.total_steps) - 1, self.total_steps - 1
        fall = float(2 * pct_start * self.total_steps) - 2
        phases = (
            ((rise, UP), (fall, DOWN), (last, FADE)) if three_phase else ((rise, UP), (last, OUT))
        )
        self._schedule_phases: list[dict[str, Any]] = [
            {"end_step": end, **phase} for end, phase in phases
        ]
        self._anneal_func_type = anneal_strategy
        max_lrs = one_for_each_group("max_lr", optimizer, max_lr)
        if last_epoch == -1:
            for most, group in zip(max_lrs, optimizer.param_groups, strict=True):
                group["initial_lr"], group["max_lr"] = most / div_factor, most
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self._start_momentum(base_momentum, max_momentum, last_epoch)
        super().__init__(optimizer, last_epoch)

    def _anneal(self, start: Any, end: Any, share: float) -> Any:
        if self._anneal_func_type == "linear":
            return (end - start) * share + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)

    def _rates(self) -> list[Any]:
        step = self.last_epoch
        check(
            step <= self.total_steps,
            lambda: (
                f"Tried to step {step} times. The specified number of total steps is "
                f"{self.total_steps}"
            ),
            ValueError,
        )
        start = 0.0
        for phase in self._schedule_phases:  # the last one stays, also beyond its end
            end: Any = phase["end_step"]
            if step <= end or phase is self._schedule_phases[-1]:
                break
            start = end
        share = (step - start) / (end - start)
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            first, last = phase["start_momentum"], phase["end_momentum"]
            self._set_momentums([self._anneal(g[first], g[last], share) for g in groups])
        first, last = phase["start_lr"], phase["end_lr"]
        return [self._anneal(g[first], g[last], share) for g in groups]


def number_of_steps(total: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    """The steps of a cycle, given as such or as epochs of so many steps; raises ValueError if
    neither is given.
    """
    given = {"total_steps": total}
    if total is None:
        check(
            epochs is not None and steps_per_epoch is not None,
            "You must define either total_steps OR (epochs AND steps_per_epoch)",
            ValueError,
        )
        given = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
    for name, value in given.items():
        check(
            isinstance(value, int) and value > 0,
            f"Expected positive integer {name}, but got {value}",
            ValueError,
        )
    return math.prod(given.values())  # type: ignore[arg-type]
