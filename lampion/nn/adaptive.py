"""`AdaptiveLogSoftmaxWithLoss`: a softmax over very many classes, rare ones in clusters. May import
core and ops.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ..core.tensor import Tensor
from ..dtypes import int64
from ..errors import check
from . import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module
from .names import torch


class _ASMoutput(NamedTuple):
    """The log-probability of each target, and minus their mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-softmax over `n_classes` sorted by frequency (Grave et al., 2016).

    The head knows the classes below `cutoffs[0]` and one class for each cluster of rarer ones; a
    cluster's projection is narrower by `div_value` than that of the one before.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        check(len(cutoffs) > 0, "cutoffs should be a sequence of length larger than 0", ValueError)
        fits = all(isinstance(c, int) and 0 < c < n_classes for c in cutoffs)
        check(
            fits and cutoffs == sorted(set(cutoffs)),
            "cutoffs should be a sequence of unique, positive integers sorted in an increasing "
            "order, where each value is between 1 and n_classes-1",
            ValueError,
        )
        made = {"device": device, "dtype": dtype}
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value, self.head_bias = div_value, head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, **made)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(pairwise(self.cutoffs)):
            width = int(in_features // div_value ** (i + 1))
            self.tail.append(
                Sequential(
                    Linear(in_features, width, False, **made),
                    Linear(width, high - low, False, **made),
                )
            )

    def reset_parameters(self) -> None:
        """Draws all weights anew."""
        self.head.reset_parameters()
        for inner, outer in self.tail:
            inner.reset_parameters()
            outer.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> _ASMoutput:
        """(log-probability of each target (N,), minus their mean) for input (N, in_features)."""
        self._check_shapes(input_, target_)
        batched = target_.dim() > 0
        x = input_ if batched else input_.unsqueeze(0)
        target = target_ if batched else target_.unsqueeze(0)
        chosen = torch.zeros_like(target)  # the head's class of each target
        output = torch.zeros(target.shape, dtype=x.dtype)
        known = 0
        for i, (low, high) in enumerate(pairwise([0, *self.cutoffs])):
            rows = ((target >= low) & (target < high)).nonzero().squeeze(1)
            known += rows.numel()
            if rows.numel() == 0:
                continue
            if i == 0:
                chosen = chosen.index_copy(0, rows, target[rows])
            else:
                log_p = F.log_softmax(self.tail[i - 1](x.index_select(0, rows)), dim=1)
                output = output.index_copy(
                    0, rows, log_p.gather(1, (target[rows] - low)[:, None])[:, 0]
                )
                chosen = chosen.index_fill(0, rows, self.shortlist_size + i - 1)
        check(
            known == target.size(0),
            lambda: (
                f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                f"[{target.min().item()}, {target.max().item()}] were found. "
            ),
        )
        head = F.log_softmax(self.head(x), dim=1)
        output = output + head.gather(1, chosen.to(int64).unsqueeze(1)).squeeze(1)
        loss = (-output).mean()
        return _ASMoutput(output if batched else output.squeeze(0), loss)

    def _check_shapes(self, input: Tensor, target: Tensor) -> None:
        message = "0D or 1D target tensor expected, multi-target not supported"
        check(target.dim() <= 1, message)
        if target.dim() == 1:
            check(input.dim() == 2, "1D target tensor expects 2D input tensors, but found inputs "
                  f"with size {input.size()}")  # fmt: skip
            check(input.size(0) == target.size(0), "Input and target should have the same size "
                  "in the batch dimension.")  # fmt: skip
        else:
            check(input.dim() == 1, "0D target tensor expects 1D input tensors, but found inputs "
                  f"with size {input.size()}")  # fmt: skip

    def log_prob(self, input: Tensor) -> Tensor:
        """The log-probabilities of all classes, (N, n_classes)."""
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            share = head[:, self.shortlist_size + i].unsqueeze(1)
            parts.append(F.log_softmax(cluster(input), dim=1) + share)
        return torch.cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of each row."""
        return self.log_prob(input).argmax(dim=1)
