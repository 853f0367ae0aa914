"""Muon: steps along the nearest orthogonal matrix to the momentum (Jordan et al. 2024). May import
rule and core.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from .optimizer import ParamsT
from .rule import Rule, lerp_, zeros


class Muon(Rule):
    """x = (1 - lr * weight_decay) * x - lr' * orthogonalized(b), for matrices only; b is the
    momentum.

    lr' is lr * sqrt(max(1, rows / columns)) or, matching Adam's steps, 0.2 * lr * sqrt(max(rows,
    columns)).
    """

    on_arrays = False
    nonnegative = ()

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(params, locals())
        for group in self.param_groups:
            for p in group["params"]:
                check(
                    p.ndim == 2,
                    "Muon only supports 2D parameters whereas we found a parameter with size: "
                    f"{p.size()}",
                    ValueError,
                )

    def check_options(self, **options: Any) -> None:
        """Its own texts, as in PyTorch."""
        super().check_options(**options)
        names = {"lr": "Learning rate", "momentum": "momentum", "weight_decay": "weight decay"}
        for name, title in names.items():
            value = options[name]
            check(bool(value >= 0), f"{title} should be >= 0 but is: {value}", ValueError)
        check(
            options["adjust_lr_fn"] in (None, "original", "match_rms_adamw"),
            f"Adjust learning rate function {options['adjust_lr_fn']} is not supported",
            ValueError,
        )
        check(
            len(options["ns_coefficients"]) == 3,
            "Coefficients must be a tuple of exactly 3 values",
            ValueError,
        )
        check(
            options["ns_steps"] < 100,
            "Number of steps must be less than 100 for computational efficiency",
            ValueError,
        )

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The momentum."""
        check(not parameter.is_complex(), "Muon does not support complex parameters")
        return {"momentum_buffer": zeros(parameter)}

    def decay(self, parameter: Any, gradient: Any, group: dict) -> Any:
        """The parameter shrinks; the gradient stays."""
        parameter *= 1 - group["lr"] * group["weight_decay"]
        return gradient

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= lr' * orthogonalized(b)."""
        momentum, buffer = group["momentum"], state["momentum_buffer"]
        lerp_(buffer, gradient, 1 - momentum)
        change = gradient.lerp(buffer, momentum) if group["nesterov"] else buffer
        change = orthogonalized(change, group["ns_coefficients"], group["ns_steps"], group["eps"])
        rows, columns = parameter.shape
        ratio = math.sqrt(max(1, rows / columns))
        if group["adjust_lr_fn"] == "match_rms_adamw":
            ratio = 0.2 * math.sqrt(max(rows, columns))
        parameter -= change.to(parameter.dtype) * (group["lr"] * ratio)


def orthogonalized(
    x: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """About u @ v for x = u @ s @ v: steps of x = (a + b * x @ x.T + c * (x @ x.T)**2) @ x, in
    bfloat16.

    The iteration is Newton and Schulz's; its coefficients are chosen to bring singular values near
    1 fast.
    """
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    x = rounded(x.T if tall else x)  # (rows, columns), rows <= columns
    x = rounded(x / rounded((x * x).sum().sqrt()).clamp(min=eps))
    for _ in range(steps):
        gram = rounded(x @ x.T)
        x = rounded(a * x + rounded(b * gram + c * (gram @ gram)) @ x)
    return x.T if tall else x


def rounded(x: Tensor) -> Tensor:
    """Rounded to bfloat16, but kept in float32: sums of products are rounded once, at the end."""
    return x.bfloat16().float()
