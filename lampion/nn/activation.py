"""Activations as modules: each is its settings and one function. May import core.

`MultiheadAttention` is in `attention`.
"""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from . import functional as F
from .init import constant_
from .layer import layer
from .module import Module
from .names import torch
from .parameter import Parameter

# -- straight lines with bends -----------------------------------------------------------------


@layer
class Threshold(Module):
    """`x` where x > threshold, else `value`."""

    threshold: float
    value: float
    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.threshold(input, self.threshold, self.value, self.inplace)


@layer
class ReLU(Module):
    """`max(0, x)`."""

    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input, inplace=self.inplace)


@layer(shown="min_val max_val inplace")
class Hardtanh(Module):
    """`x` limited to [min_val, max_val]."""

    min_val: float = -1.0
    max_val: float = 1.0
    inplace: bool = False
    min_value: float | None = None
    max_value: float | None = None

    def prepare(self) -> None:
        """Takes the old names of the limits."""
        self.min_val = self.min_val if self.min_value is None else self.min_value
        self.max_val = self.max_val if self.max_value is None else self.max_value
        check(self.max_val > self.min_val, "max_val must be greater than min_val", AssertionError)
        del self.min_value, self.max_value

    def forward(self, input: Tensor) -> Tensor:
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)


class ReLU6(Hardtanh):
    """`min(max(0, x), 6)`."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)

    def extra_repr(self) -> str:
        return "inplace=True" if self.inplace else ""


@layer
class LeakyReLU(Module):
    """`x` where x >= 0, else `negative_slope * x`."""

    negative_slope: float = 1e-2
    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope, self.inplace)


@layer
class RReLU(Module):
    """A leaky ReLU with a slope drawn from [lower, upper) while training, else their mean."""

    lower: float = 1.0 / 8
    upper: float = 1.0 / 3
    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class PReLU(Module):
    """A leaky ReLU whose slope is learned: one for all, or one per channel (dimension 1)."""

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = Parameter(torch.empty(num_parameters, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Sets all slopes to `init`."""
        constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


@layer(unnamed=True)
class Hardshrink(Module):
    """`x` where |x| > lambd, else 0."""

    lambd: float = 0.5

    def forward(self, input: Tensor) -> Tensor:
        return F.hardshrink(input, self.lambd)


@layer(unnamed=True)
class Softshrink(Module):
    """`x` moved towards 0 by lambd, and 0 where |x| <= lambd."""

    lambd: float = 0.5

    def forward(self, input: Tensor) -> Tensor:
        return F.softshrink(input, self.lambd)


@layer(shown="-")
class Hardsigmoid(Module):
    """`min(max(0, x + 3), 6) / 6`."""

    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.hardsigmoid(input, self.inplace)


@layer(shown="-")
class Hardswish(Module):
    """`x * hardsigmoid(x)`."""

    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.hardswish(input, self.inplace)


# -- smooth ------------------------------------------------------------------------------------


class Sigmoid(Module):
    """`1 / (1 + exp(-x))`."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.sigmoid(input)


class LogSigmoid(Module):
    """`log(1 / (1 + exp(-x)))`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.logsigmoid(input)


class Tanh(Module):
    """`(exp(x) - exp(-x)) / (exp(x) + exp(-x))`."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.tanh(input)


class Tanhshrink(Module):
    """`x - tanh(x)`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.tanhshrink(input)


class Softsign(Module):
    """`x / (1 + |x|)`."""

    def forward(self, input: Tensor) -> Tensor:
        return F.softsign(input)


@layer
class Softplus(Module):
    """`log(1 + exp(beta * x)) / beta`, and x itself where beta * x > threshold."""

    beta: float = 1.0
    threshold: float = 20.0

    def forward(self, input: Tensor) -> Tensor:
        return F.softplus(input, self.beta, self.threshold)


@layer
class SiLU(Module):
    """`x * sigmoid(x)`, also called swish."""

    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.silu(input, inplace=self.inplace)


@layer
class Mish(Module):
    """`x * tanh(softplus(x))`."""

    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.mish(input, inplace=self.inplace)


@layer
class GELU(Module):
    """`x * P(X <= x)` for a standard normal X; approximate="tanh" takes Hendrycks' formula."""

    approximate: str = "none"

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


@layer
class ELU(Module):
    """`x` where x > 0, else `alpha * (exp(x) - 1)`."""

    alpha: float = 1.0
    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.elu(input, self.alpha, self.inplace)


@layer
class CELU(Module):
    """`x` where x > 0, else `alpha * (exp(x / alpha) - 1)`."""

    alpha: float = 1.0
    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.celu(input, self.alpha, self.inplace)


@layer
class SELU(Module):
    """A scaled ELU that keeps mean 0 and variance 1 from layer to layer."""

    inplace: bool = False

    def forward(self, input: Tensor) -> Tensor:
        return F.selu(input, self.inplace)


# -- along a dimension -------------------------------------------------------------------------


@layer
class GLU(Module):
    """`a * sigmoid(b)`, where a and b are the halves of the input along `dim`."""

    dim: int = -1

    def forward(self, input: Tensor) -> Tensor:
        return F.glu(input, self.dim)


@layer
class Softmax(Module):
    """`exp(x) / sum(exp(x))` along `dim`: positive numbers that add up to 1."""

    dim: int | None = None

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, self.dim, _stacklevel=5)


@layer
class Softmin(Module):
    """`softmax(-x)`."""

    dim: int | None = None

    def forward(self, input: Tensor) -> Tensor:
        return F.softmin(input, self.dim, _stacklevel=5)


@layer
class LogSoftmax(Module):
    """`log(softmax(x))`, computed without overflow."""

    dim: int | None = None

    def forward(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self.dim, _stacklevel=5)


class Softmax2d(Module):
    """Softmax over the channels at each place of images (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        check(
            input.dim() in (3, 4),
            lambda: f"Softmax2d: expected input to be 3D or 4D, got {input.dim()}D instead",
            ValueError,
        )
        return F.softmax(input, -3, _stacklevel=5)
