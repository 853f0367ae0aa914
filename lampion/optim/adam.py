"""Adam (Kingma and Ba 2014), AMSGrad (Reddi et al. 2018). May import rule and core."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from .optimizer import ParamsT
from .rule import (
    Rule,
    assign,
    count_step,
    lerp_,
    maximum,
    mean_square_,
    move_,
    root,
    scalar,
    zeros,
)


class Adam(Rule):
    """x -= lr * m / (sqrt(v) + eps), with running means m of g and v of g * g, both free of their
    zero start.

    m = beta1 * m + (1 - beta1) * g, divided by 1 - beta1**t; v likewise. With amsgrad, v is the
    largest so far.
    """

    sparse_hint = ", please consider SparseAdam instead"
    listed = "lr betas eps weight_decay amsgrad maximize"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def check_options(self, **options: Any) -> None:
        """Also: tensors as lr or betas do not go with foreach."""
        super().check_options(**options)
        betas = options["betas"]
        tensors = [isinstance(beta, Tensor) for beta in betas]
        check(
            all(tensors) or all(isinstance(beta, float) for beta in betas),
            "betas must be either both floats or both Tensors",
            ValueError,
        )
        given = {"lr": options["lr"], "betas[0]": betas[0], "betas[1]": betas[1]}
        for name, option in given.items():
            tensor = isinstance(option, Tensor)
            check(
                not (tensor and options["foreach"] and not options["capturable"]),
                f"{name} as a Tensor is not supported for capturable=False and foreach=True",
                ValueError,
            )
            single = not tensor or option.numel() == 1
            check(single, f"Tensor {name} must be 1-element", ValueError)

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count, both means and, with amsgrad, the largest second one."""
        names = ("exp_avg", "exp_avg_sq", *["max_exp_avg_sq"] * group["amsgrad"])
        return {"step": scalar(0), **{name: zeros(parameter) for name in names}}

    def advance(self, state: dict, group: dict) -> dict[str, Any]:
        """The step's size and eps, such that lr * (m / c1) / (sqrt(v) / c2 + eps) = size * m /
        (sqrt(v) + eps').
        """
        beta1, beta2 = group["betas"]
        step = count_step(state)
        correction = (1 - beta2**step) ** 0.5
        size = group["lr"] / (1 - beta1**step) * correction
        return {"step_size": size, "eps": group["eps"] * correction}

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= size * m / (sqrt(v) + eps)."""
        beta1, beta2 = group["betas"]
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        lerp_(mean, gradient, 1 - beta1)
        mean_square_(square, gradient, beta2)
        if group["amsgrad"]:
            largest = maximum(state["max_exp_avg_sq"], square)
            assign(state["max_exp_avg_sq"], largest)
            square = largest
        move_(parameter, mean / root(square, state["eps"]), state["step_size"])
