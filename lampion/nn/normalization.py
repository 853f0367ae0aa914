"""Norms without running statistics: `LayerNorm`, `RMSNorm`, `GroupNorm`, `LocalResponseNorm`. May
import core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from . import functional as F, init
from .layer import layer
from .module import Module
from .names import torch
from .parameter import Parameter


class _Affine(Module):
    """A norm whose result is multiplied by `weight` and moved by `bias`, where it has them."""

    weight: Tensor | None
    bias: Tensor | None

    def _make_parameters(self, shape: Any, weight: bool, bias: bool, made: dict[str, Any]) -> None:
        self.register_parameter("weight", Parameter(torch.empty(shape, **made)) if weight else None)
        self.register_parameter("bias", Parameter(torch.empty(shape, **made)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class LayerNorm(_Affine):
    """Normalizes each sample over its last dimensions, those of `normalized_shape`.

    `y = (x - mean) / sqrt(var + eps) * weight + bias`, with the biased variance. The same in
    training and evaluation mode; weight and bias have the shape `normalized_shape`.

    >>> norm = torch.nn.LayerNorm(10)
    >>> y = norm(torch.randn(20, 5, 10) * 3 + 2)
    >>> y.shape, bool((y.mean(-1).abs() < 1e-5).all())
    (torch.Size([20, 5, 10]), True)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = shape_of(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        made = {"device": device, "dtype": dtype}
        affine = elementwise_affine
        self._make_parameters(self.normalized_shape, affine, affine and bias, made)

    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(_Affine):
    """`y = x / sqrt(mean(x ** 2) + eps) * weight` over the last dimensions, those of
    `normalized_shape`.

    `eps` is the smallest step of the input's type where it is None.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = shape_of(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        weight = torch.empty(self.normalized_shape, device=device, dtype=dtype)
        self.register_parameter("weight", Parameter(weight) if elementwise_affine else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(_Affine):
    """Splits the channels (dimension 1) into groups and normalizes each group of each sample.

    One group is a layer norm over all but the batch, `num_groups = num_channels` an instance norm.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        check(
            num_channels % num_groups == 0,
            lambda: f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})",
            ValueError,
        )
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = eps, affine
        made = {"device": device, "dtype": dtype}
        self._make_parameters(num_channels, affine, affine and bias, made)

    def forward(self, input: Tensor) -> Tensor:
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


@layer
class LocalResponseNorm(Module):
    """Divides by `(k + alpha * mean(x ** 2)) ** beta` over `size` neighbouring channels."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    def forward(self, input: Tensor) -> Tensor:
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """The old name of `LocalResponseNorm` for images (N, C, H, W)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        super().__init__(size, alpha, beta, k)


def shape_of(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    """A number or a sequence of numbers as a tuple."""
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
