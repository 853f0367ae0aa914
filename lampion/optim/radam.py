"""Rectified Adam (Liu et al. 2019). May import rule."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from .optimizer import ParamsT
from .rule import Rule, count_step, lerp_, scalar, sqrt, zeros


class RAdam(Rule):
    """Adam that does without the second mean until enough steps were made to trust its variance.

    rho = 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t); above 5, the step is rectified by it.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count and both means."""
        return {"step": scalar(0), "exp_avg": zeros(parameter), "exp_avg_sq": zeros(parameter)}

    def advance(self, state: dict, group: dict) -> dict[str, Any]:
        """The corrections of both means, and the rectification, None while there is none."""
        beta1, beta2 = group["betas"]
        step = count_step(state)
        correction = 1 - beta2**step
        most = 2 / (1 - beta2) - 1
        rho = most - 2 * step * beta2**step / correction
        rectification = None
        if rho > 5:
            ratio = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
            rectification = ratio**0.5
        return {
            "mean_correction": 1 - beta1**step,
            "correction": correction**0.5,
            "rectification": rectification,
        }

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= lr * m, later x -= lr * m / sqrt(v), rectified."""
        beta1, beta2 = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        lerp_(mean, gradient, 1 - beta1)
        square *= beta2
        square += (1 - beta2) * gradient * gradient
        change = mean / state["mean_correction"] * group["lr"]
        if state["rectification"] is not None:
            scale = state["correction"] / (sqrt(square) + group["eps"])
            change = change * scale * state["rectification"]
        parameter -= change
