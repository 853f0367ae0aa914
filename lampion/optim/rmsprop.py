"""RMSprop (Hinton 2012), also centered (Graves 2013). May import rule and core."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from .optimizer import ParamsT
from .rule import Rule, lerp_, mean_square_, move_, root, scalar, zeros


class RMSprop(Rule):
    """x -= lr * g / (sqrt(v) + eps), with a running mean v of g * g; centered: of the variance of
    g.

    With momentum, b = momentum * b + g / (sqrt(v) + eps) and x -= lr * b.
    """

    nonnegative = ("lr", "eps", "momentum", "weight_decay", "alpha")
    listed = "lr momentum alpha eps centered"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count, the mean of squares and, where asked for, the momentum and the mean."""
        state = {"step": scalar(0), "square_avg": zeros(parameter)}
        if group["momentum"] > 0:
            state["momentum_buffer"] = zeros(parameter)
        if group["centered"]:
            state["grad_avg"] = zeros(parameter)
        return state

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= lr * g / (sqrt(v) + eps)."""
        alpha, square = group["alpha"], state["square_avg"]
        mean_square_(square, gradient, alpha)
        if group["centered"]:
            mean = state["grad_avg"]
            lerp_(mean, gradient, 1 - alpha)
            square = square - mean * mean
        direction = gradient / root(square, group["eps"])
        if group["momentum"] > 0:
            buffer = state["momentum_buffer"]
            buffer *= group["momentum"]
            buffer += direction
            parameter -= group["lr"] * buffer
        else:
            move_(parameter, direction, group["lr"])
