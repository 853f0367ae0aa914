"""Adam with Nesterov's momentum (Dozat 2016). May import rule and core."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from .optimizer import ParamsT
from .rule import Rule, count_step, lerp_, mean_square_, move_, number, root, scalar, zeros


class NAdam(Rule):
    """Adam whose step takes a share 1 - mu of the gradient and the share of the next mu of the
    mean.

    mu = beta1 * (1 - 0.96**(t * momentum_decay) / 2); the product of all mu takes the part of
    beta1**t.
    """

    nonnegative = ("lr", "eps", "weight_decay", "momentum_decay")
    listed = "lr betas eps weight_decay momentum_decay decoupled_weight_decay maximize"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count, the product of all mu and both means."""
        return {
            "step": scalar(0),
            "mu_product": scalar(1),
            "exp_avg": zeros(parameter),
            "exp_avg_sq": zeros(parameter),
        }

    def advance(self, state: dict, group: dict) -> dict[str, Any]:
        """The shares of gradient and mean, and what frees the second mean of its zero start."""
        step, lr, decay = count_step(state), group["lr"], group["momentum_decay"]
        beta1, beta2 = group["betas"]
        mu = beta1 * (1 - 0.5 * 0.96 ** (step * decay))
        mu_next = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * decay))
        mu_product = state["mu_product"]
        mu_product *= mu
        product = number(mu_product)
        return {
            "gradient_size": lr * (1 - mu) / (1 - product),
            "mean_size": lr * mu_next / (1 - product * mu_next),
            "correction": 1 - beta2**step,
        }

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= (share of g + share of m) / (sqrt(v / correction) + eps)."""
        beta1, beta2 = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        lerp_(mean, gradient, 1 - beta1)
        mean_square_(square, gradient, beta2)
        deviation = root(square / state["correction"], group["eps"])
        move_(parameter, gradient / deviation, state["gradient_size"])
        move_(parameter, mean / deviation, state["mean_size"])
