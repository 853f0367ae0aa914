"""Adafactor: second moments kept as a row and a column (Shazeer and Stern 2018). May import rule
and core.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..core.tensor import Tensor, wrap
from ..errors import check
from .optimizer import ParamsT
from .rule import Rule, lerp_, scalar, zeros


class Adafactor(Rule):
    """x -= a * u / max(1, rms(u) / d) with u = g / sqrt(v), where v of a matrix is row @ column /
    mean(row).

    a = max(eps2, rms(x)) * min(lr, 1 / sqrt(t)); the means forget with 1 - t**beta2_decay.
    """

    on_arrays = False
    nonnegative = ()

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, locals())

    def check_options(self, **options: Any) -> None:
        """Its own texts, as in PyTorch."""
        super().check_options(**options)
        lr, decay, d = options["lr"], options["beta2_decay"], options["d"]
        eps1, eps2 = options["eps"]
        weight_decay = options["weight_decay"]
        for valid, message in (
            (lr >= 0, f"Learning rate should be >= 0 but is: {lr}"),
            (decay <= 0, f"beta2_decay should be <= 0 but is: {decay}"),
            (eps1 is None or eps1 >= 0, f"epsilon1 should be >= 0 but is: {eps1}"),
            (eps2 >= 0, f"epsilon2 should be >= 0 but is: {eps2}"),
            (d >= 1, f"Clipping threshold d should be >= 1 but is: {d}"),
            (weight_decay >= 0, f"weight_decay should be >= 0 but is: {weight_decay}"),
        ):
            check(bool(valid), message, ValueError)

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The step count and the mean squares: of rows and columns, or of a vector's elements."""
        check(not parameter.is_complex(), "Adafactor does not support complex parameters")
        if parameter.ndim < 2:
            return {"step": scalar(0), "variance": zeros(parameter)}
        *batch, rows, columns = parameter.shape
        kind = parameter._data.dtype
        return {
            "step": scalar(0),
            "row_var": wrap(np.zeros((*batch, rows, 1), kind)),
            "col_var": wrap(np.zeros((*batch, 1, columns), kind)),
        }

    def decay(self, parameter: Any, gradient: Any, group: dict) -> Any:
        """The sign of the gradient; weights decay in the rule, which needs their size before."""
        return -gradient if group["maximize"] else gradient

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """x -= a * u / max(1, rms(u) / d)."""
        lr, step = float(group["lr"]), float(state["step"])
        eps1, eps2 = group["eps"]
        if eps1 is None:
            eps1 = dtypes.finfo(parameter.dtype).eps
        size = max(eps2, root_mean_square(parameter)) * min(lr, step**-0.5)
        if group["weight_decay"] != 0:
            parameter *= 1 - lr * group["weight_decay"]
        change = gradient * self.variance(gradient, state, step ** group["beta2_decay"], eps1)
        clip = max(1.0, root_mean_square(change) / group["d"])
        parameter -= change * (size / clip)

    def variance(self, gradient: Tensor, state: dict, weight: float, eps: float) -> Tensor:
        """1 / sqrt(v), after the means took in the gradient with this weight."""
        if gradient.ndim < 2:
            lerp_(state["variance"], gradient * gradient, weight)
            estimate = state["variance"]
        else:
            row, column = state["row_var"], state["col_var"]
            lerp_(row, mean_square(gradient, -1), weight)  # (..., rows, 1)
            lerp_(column, mean_square(gradient, -2), weight)  # (..., 1, columns)
            estimate = row @ column / row.mean(-2, keepdim=True).clamp(min=eps)
        return estimate.clamp(min=eps * eps).rsqrt()


def mean_square(x: Tensor, dim: int) -> Tensor:
    """The mean of x * x along a dimension, which stays with size 1."""
    return (x * x).sum(dim, keepdim=True) / x.shape[dim]


def root_mean_square(x: Tensor) -> float:
    """The square root of the mean of x * x."""
    return float((x * x).sum()) ** 0.5 / max(x.numel(), 1) ** 0.5
