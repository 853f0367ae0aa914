"""Adagrad (Duchi, Hazan and Singer 2011). May import rule and core."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from .optimizer import ParamsT
from .rule import Rule, count_step, filled, move_, root, scalar


class Adagrad(Rule):
    """x -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps), s being the sum of all g * g."""

    nonnegative = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")
    listed = "lr lr_decay eps"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, locals())
        for group in self.param_groups:  # PyTorch makes the state here, not at the first step
            for p in group["params"]:
                self.state[p] = self.initial_state(p, p, group)

    def share_memory(self) -> None:
        """Lets other processes see the state."""
        for state in self.state.values():
            state["sum"].share_memory_()

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count and the sum of squares."""
        start = group["initial_accumulator_value"]
        return {"step": scalar(0), "sum": filled(parameter, start)}

    def advance(self, state: dict, group: dict) -> dict[str, Any]:
        """The decayed learning rate."""
        step = count_step(state)
        return {"step_size": group["lr"] / (1 + (step - 1) * group["lr_decay"])}

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= step size * g / (sqrt(s) + eps)."""
        total = state["sum"]
        total += gradient * gradient
        move_(parameter, gradient / root(total, group["eps"]), state["step_size"])
