"""Dropout as modules: random zeros while training, nothing in evaluation mode. May import core."""

from __future__ import annotations

from typing import ClassVar

from ..core.tensor import Tensor
from . import functional as F
from .module import Module


class _DropoutNd(Module):
    """What all kinds share: the probability `p` of a zero."""

    function: ClassVar[str]
    p: float
    inplace: bool

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return getattr(F, self.function)(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_DropoutNd):
    """While training, zeros elements with probability p and multiplies others by `1 / (1 - p)`.

    >>> torch.nn.Dropout(0.5).eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    function = "dropout"


class Dropout1d(_DropoutNd):
    """Zeros whole channels of signals (N, C, L) or (C, L)."""

    function = "dropout1d"


class Dropout2d(_DropoutNd):
    """Zeros whole channels of images (N, C, H, W) or (C, H, W)."""

    function = "dropout2d"


class Dropout3d(_DropoutNd):
    """Zeros whole channels of volumes (N, C, D, H, W) or (C, D, H, W)."""

    function = "dropout3d"


class AlphaDropout(_DropoutNd):
    """Dropout for SELU networks: keeps mean 0 and variance 1."""

    function = "alpha_dropout"

    def forward(self, input: Tensor) -> Tensor:
        return F.alpha_dropout(input, self.p, self.training)


class FeatureAlphaDropout(_DropoutNd):
    """`AlphaDropout` of whole channels."""

    function = "feature_alpha_dropout"

    def forward(self, input: Tensor) -> Tensor:
        return F.feature_alpha_dropout(input, self.p, self.training)
