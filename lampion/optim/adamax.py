"""Adamax: Adam with a maximum for the mean square (Kingma and Ba 2014). May import rule and
core.
"""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from .optimizer import ParamsT
from .rule import Rule, assign, count_step, lerp_, maximum, move_, scalar, zeros


class Adamax(Rule):
    """x -= lr / (1 - beta1**t) * m / u, with a running mean m of g and u = max(beta2 * u, |g| +
    eps).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count, the mean and the largest gradient."""
        return {"step": scalar(0), "exp_avg": zeros(parameter), "exp_inf": zeros(parameter)}

    def advance(self, state: dict, group: dict) -> dict[str, Any]:
        """The size of the step, which frees the mean of its zero start."""
        step = count_step(state)
        return {"step_size": group["lr"] / (1 - group["betas"][0] ** step)}

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= step size * m / u."""
        beta1, beta2 = group["betas"]
        mean, past = state["exp_avg"], state["exp_inf"]
        lerp_(mean, gradient, 1 - beta1)
        largest = maximum(past * beta2, abs(gradient) + group["eps"])
        assign(past, largest)
        move_(parameter, mean / largest, state["step_size"])
