"""The schedule that watches a measured value and lowers the rate when it no longer improves. May
import base.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, SupportsFloat

from ...errors import check
from ..optimizer import Optimizer
from .base import EPOCH_DEPRECATION_WARNING, LRScheduler, check_optimizer, set_value, values_of


class ReduceLROnPlateau(LRScheduler):
    """lr = lr * factor when `step(metrics)` saw no improvement for more than `patience` epochs.

    mode       "min" if smaller is better, "max" if larger is
    threshold  what counts as improvement: a share of the best so far ("rel"), or an amount ("abs")
    cooldown   epochs after a reduction in which bad ones do not count
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: list[float] | float = 0,
        eps: float = 1e-8,
    ) -> None:
        check(factor < 1.0, "Factor should be < 1.0.", ValueError)
        check_optimizer(optimizer)
        check(mode in ("min", "max"), f"mode {mode} is unknown!", ValueError)
        known = threshold_mode in ("rel", "abs")
        check(known, f"threshold mode {threshold_mode} is unknown!", ValueError)
        self.optimizer, self.factor = optimizer, factor
        groups = len(optimizer.param_groups)
        listed = isinstance(min_lr, (list, tuple))
        self.default_min_lr = None if listed else min_lr
        self.min_lrs: list[Any] = list(min_lr) if listed else [min_lr] * groups  # type: ignore[arg-type]
        check(
            len(self.min_lrs) == groups,
            f"expected {groups} min_lrs, got {len(self.min_lrs)}",
            ValueError,
        )
        self.patience, self.cooldown, self.eps = patience, cooldown, eps
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.last_epoch = 0
        self._last_lr = values_of(optimizer, "lr")
        self._reset()

    def _reset(self) -> None:
        """Forgets the best value and all counts."""
        self.best = self.mode_worse
        self.cooldown_counter = self.num_bad_epochs = 0

    def step(self, metrics: SupportsFloat, epoch: int | None = None) -> None:  # type: ignore[override]
        """Takes note of the value measured in this epoch."""
        current = float(metrics)
        if epoch is None:
            epoch = self.last_epoch + 1
        else:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self.last_epoch = epoch
        if self._is_better(current, self.best):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = values_of(self.optimizer, "lr")

    def _reduce_lr(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            check(
                self.default_min_lr is not None,
                lambda: (
                    f"The number of param groups in the `optimizer` ({len(groups)}) differs from "
                    f"when `ReduceLROnPlateau` was initialized ({len(self.min_lrs)}), usually due "
                    "to a new param group being added to the optimizer. Please modify the "
                    "`min_lrs` field to match the length of the `optimizer` param groups."
                ),
            )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, least in zip(groups, self.min_lrs, strict=True):
            old = float(group["lr"])
            new: Any = max(old * self.factor, least)
            if old - new > self.eps:
                set_value(group, "lr", new)

    @property
    def in_cooldown(self) -> bool:
        """Whether a reduction was so recent that bad epochs do not count."""
        return self.cooldown_counter > 0

    def _is_better(self, value: float, best: float) -> bool:
        relative = self.threshold_mode == "rel"
        if self.mode == "min":
            return value < (best * (1.0 - self.threshold) if relative else best - self.threshold)
        return value > (best * (self.threshold + 1.0) if relative else best + self.threshold)
