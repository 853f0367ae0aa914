"""Stochastic gradient descent, with momentum (Sutskever et al. 2013). May import rule and core."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor, wrap
from ..errors import check
from .optimizer import ParamsT
from .rule import Rule, zeros


class SGD(Rule):
    """x -= lr * g; with momentum x -= lr * b, where b = momentum * b + (1 - dampening) * g.

    With nesterov the step looks ahead: x -= lr * (g + momentum * b). The first b is g itself.

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> optimizer = torch.optim.SGD([w], lr=0.1)
    >>> (w * w).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8000], requires_grad=True)
    """

    nonnegative = ("lr", "momentum", "weight_decay")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(params, locals())

    def check_options(self, **options: Any) -> None:
        """Also: Nesterov's step needs momentum, undampened."""
        super().check_options(**options)
        check(
            not options["nesterov"] or (options["momentum"] > 0 and options["dampening"] == 0),
            "Nesterov momentum requires a momentum and zero dampening",
            ValueError,
        )

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The buffer from which the first step, dampened or not, makes the gradient itself."""
        if group["momentum"] == 0:
            return {}
        if group["dampening"] == 0:
            return {"momentum_buffer": zeros(parameter)}
        first = self.decay(parameter._data, gradient._data, group)
        return {"momentum_buffer": wrap(first * (group["dampening"] / group["momentum"]))}

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= lr * b."""
        momentum = group["momentum"]
        if momentum != 0:
            buffer = state["momentum_buffer"]
            buffer *= momentum
            buffer += gradient if group["dampening"] == 0 else (1 - group["dampening"]) * gradient
            gradient = gradient + momentum * buffer if group["nesterov"] else buffer
        parameter -= group["lr"] * gradient
