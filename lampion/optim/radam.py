"""Rectified Adam (Liu et al. 2019). May import rule and core."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from .optimizer import ParamsT
from .rule import Rule, count_step, lerp_, mean_square_, move_, root, scalar, zeros


class RAdam(Rule):
    """Adam that does without the second mean until enough steps were made to trust its variance.

    rho = 2 / (1 - beta2) - 1 - 2 * t * beta2**t / (1 - beta2**t); above 5, the step is rectified by
    it.
    """

    listed = "lr betas eps weight_decay maximize foreach capturable"

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
        """The size of the step, with the corrections of both means, and whether it is rectified."""
        beta1, beta2 = group["betas"]
        step = count_step(state)
        correction = 1 - beta2**step
        most = 2 / (1 - beta2) - 1
        rho = most - 2 * step * beta2**step / correction
        size, rectified = group["lr"] / (1 - beta1**step), rho > 5
        if rectified:
            ratio = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
            size = size * (ratio * correction) ** 0.5
        return {"step_size": size, "rectified": rectified}

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= lr * m, later x -= lr * m / sqrt(v), rectified."""
        beta1, beta2 = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        lerp_(mean, gradient, 1 - beta1)
        mean_square_(square, gradient, beta2)
        if state["rectified"]:
            move_(parameter, mean / root(square, group["eps"]), state["step_size"])
        else:
            parameter -= state["step_size"] * mean
