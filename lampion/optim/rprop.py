"""Resilient backpropagation (Riedmiller and Braun 1993). May import rule and core."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from .optimizer import ParamsT
from .rule import Rule, assign, clip, filled, scalar, sign, where, zeros


class Rprop(Rule):
    """x -= s * sign(g), where each s grows while its gradient keeps its sign and shrinks when that
    turns.

    Where it turns, the step is left out once, and counts as no sign.
    """

    nonnegative = ("lr",)
    listed = "lr etas step_sizes foreach maximize differentiable"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def check_options(self, **options: Any) -> None:
        """Also: one factor shrinks, the other one grows."""
        super().check_options(**options)
        shrink, grow = options["etas"]
        valid = 0 < shrink < 1 < grow
        check(valid, lambda: f"Invalid eta values: {shrink}, {grow}", ValueError)

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count, the last gradient and the size of each step."""
        size = filled(parameter, float(group["lr"]))
        return {"step": scalar(0), "prev": zeros(parameter), "step_size": size}

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= s * sign(g)."""
        shrink, grow = group["etas"]
        past, size = state["prev"], state["step_size"]
        turn = sign(gradient * past)  # 1: same sign, -1: turned, 0: no sign
        factor = where(turn > 0, grow, where(turn < 0, shrink, turn + 1))
        assign(size, clip(size * factor, *group["step_sizes"]))
        gradient = where(turn < 0, 0, gradient)
        parameter -= sign(gradient) * size
        assign(past, gradient)
