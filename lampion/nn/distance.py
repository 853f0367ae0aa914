"""Distances between vectors as modules. May import core."""

from __future__ import annotations

from ..core.tensor import Tensor
from . import functional as F
from .layer import layer
from .module import Module


@layer(shown="-")
class PairwiseDistance(Module):
    """The p-norm of `x1 - x2 + eps` along the last dimension."""

    p: float = 2.0
    eps: float = 1e-6
    keepdim: bool = False

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.pairwise_distance(x1, x2, self.p, self.eps, self.keepdim)


@layer(shown="-")
class CosineSimilarity(Module):
    """`x1 . x2 / (|x1| * |x2|)` along `dim`; the norms are at least eps."""

    dim: int = 1
    eps: float = 1e-8

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        return F.cosine_similarity(x1, x2, self.dim, self.eps)
