"""Averaged stochastic gradient descent (Polyak and Juditsky 1992). May import rule and core."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from .optimizer import ParamsT
from .rule import Rule, assign, count_step, number, scalar, zeros


class ASGD(Rule):
    """x = (1 - lambd * eta) * x - eta * g with eta = lr / (1 + lambd * lr * t)**alpha; `ax` in the
    state is the mean of all x after step t0.
    """

    nonnegative = ("lr", "weight_decay")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count, the step size, the weight of the newest x in the mean, and the mean."""
        return {
            "step": scalar(0),
            "eta": scalar(float(group["lr"])),
            "mu": scalar(1),
            "ax": zeros(parameter),
        }

    def advance(self, state: dict, group: dict) -> dict[str, Any]:
        """This step's eta and mu; the state gets those of the next step."""
        lr, step = group["lr"], count_step(state)
        eta, mu = number(state["eta"]), number(state["mu"])
        assign(state["eta"], lr / (1 + group["lambd"] * lr * step) ** group["alpha"])
        assign(state["mu"], 1 / max(1, step - group["t0"]))
        return {"eta": eta, "mu": mu}

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x = (1 - lambd * eta) * x - eta * g."""
        eta, mu, average = state["eta"], state["mu"], state["ax"]
        parameter *= 1 - group["lambd"] * eta
        parameter -= eta * gradient
        if mu == 1:
            assign(average, parameter)
        else:
            average += (parameter - average) * mu
