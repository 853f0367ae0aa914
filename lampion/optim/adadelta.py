"""Adadelta (Zeiler 2012). May import rule and core."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from .optimizer import ParamsT
from .rule import Rule, mean_square_, move_, scalar, sqrt, zeros


class Adadelta(Rule):
    """x -= lr * d with d = sqrt(u + eps) / sqrt(v + eps) * g, and running means v of g * g and u of
    d * d.
    """

    listed = "lr rho eps weight_decay maximize capturable"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def check_options(self, **options: Any) -> None:
        """Also: rho is in [0, 1]."""
        super().check_options(**options)
        rho = options["rho"]
        check(0 <= rho <= 1, lambda: f"Invalid rho value: {rho}", ValueError)

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count and both means."""
        return {
            "step": scalar(0),
            "square_avg": zeros(parameter),
            "acc_delta": zeros(parameter),
        }

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= lr * d."""
        rho, eps = group["rho"], group["eps"]
        square, past = state["square_avg"], state["acc_delta"]
        mean_square_(square, gradient, rho)
        delta = sqrt(past + eps) / sqrt(square + eps) * gradient
        mean_square_(past, delta, rho)
        move_(parameter, delta, group["lr"])
