"""Losses as modules: each is its settings and one function. May import core and ops.

`reduction` is "mean", "sum" or "none" (a loss for each element). `size_average` and `reduce` are
its old form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from ..ops.loss import legacy_reduction
from . import functional as F
from .layer import layer
from .module import Module


class _Loss(Module):
    """What losses share: the reduction, and class weights that move with the module."""

    reduction: str

    def __init__(
        self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean"
    ) -> None:
        super().__init__()
        self.size_average, self.reduce, self.reduction = size_average, reduce, reduction
        _Loss.prepare(self)

    def prepare(self) -> None:
        """Replaces the old arguments by `reduction`, and makes buffers of weights."""
        own = self.__dict__
        asked = own.pop("size_average", None), own.pop("reduce", None)
        self.reduction = legacy_reduction(*asked, stacklevel=4) or self.reduction
        for name in ("weight", "pos_weight"):
            if name in own:
                self.register_buffer(name, own.pop(name))

    def extra_repr(self) -> str:
        return ""


class _WeightedLoss(_Loss):
    """A loss with a weight for each class."""

    weight: Tensor | None

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        reduce: bool | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


# -- distances between numbers -----------------------------------------------------------------


class L1Loss(_Loss):
    """`|x - y|`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.l1_loss(input, target, reduction=self.reduction)


class MSELoss(_Loss):
    """`(x - y) ** 2`.

    >>> torch.nn.MSELoss()(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(input, target, reduction=self.reduction)


@layer
class SmoothL1Loss(_Loss):
    """`(x - y) ** 2 / (2 * beta)` where the distance is below beta, else `|x - y| - beta / 2`."""

    size_average: bool | None = None
    reduce: bool | None = None
    reduction: str = "mean"
    beta: float = 1.0

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


@layer
class HuberLoss(_Loss):
    """`(x - y) ** 2 / 2` where `|x - y|` is below delta, else `delta * (|x - y| - delta / 2)`."""

    reduction: str = "mean"
    delta: float = 1.0

    def prepare(self) -> None:
        """Checks delta."""
        check(
            isinstance(self.delta, (int, float)),
            lambda: f"delta must be a float or int, got: {type(self.delta)}",
            TypeError,
        )

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.huber_loss(input, target, reduction=self.reduction, delta=self.delta)


# -- log-likelihoods ---------------------------------------------------------------------------


@layer
class NLLLoss(_WeightedLoss):
    """`-weight[y] * x[y]` for log-probabilities x (N, C, *) and class indices y (N, *)."""

    weight: Tensor | None = None
    size_average: bool | None = None
    ignore_index: int = -100
    reduce: bool | None = None
    reduction: str = "mean"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class NLLLoss2d(NLLLoss):
    """The old name of `NLLLoss` for images."""


@layer
class CrossEntropyLoss(_WeightedLoss):
    """`-log softmax(x)[y]` for logits x (N, C, *) and targets y: class indices (N, *) or
    probabilities like x.

    `weight` (C,) weighs the classes, targets equal to `ignore_index` do not count, and
    `label_smoothing` mixes the targets with even probabilities.

    >>> logits = torch.zeros(3, 5)
    >>> torch.nn.CrossEntropyLoss()(logits, torch.tensor([1, 0, 4]))
    tensor(1.6094)
    """

    weight: Tensor | None = None
    size_average: bool | None = None
    ignore_index: int = -100
    reduce: bool | None = None
    reduction: str = "mean"
    label_smoothing: float = 0.0

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


@layer
class PoissonNLLLoss(_Loss):
    """`exp(x) - y * x` (or `x - y * log(x + eps)`), with Stirling's approximation of log(y!) if
    `full`.
    """

    log_input: bool = True
    full: bool = False
    size_average: bool | None = None
    eps: float = 1e-8
    reduce: bool | None = None
    reduction: str = "mean"

    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        return F.poisson_nll_loss(
            log_input,
            target,
            log_input=self.log_input,
            full=self.full,
            eps=self.eps,
            reduction=self.reduction,
        )


@layer(keyword_only=True)
class GaussianNLLLoss(_Loss):
    """`(log(var) + (x - y) ** 2 / var) / 2`, with its constant if `full`; var is at least eps."""

    full: bool = False
    eps: float = 1e-6
    reduction: str = "mean"

    def forward(self, input: Tensor, target: Tensor, var: Tensor | float) -> Tensor:
        return F.gaussian_nll_loss(
            input, target, var, full=self.full, eps=self.eps, reduction=self.reduction
        )


@layer
class KLDivLoss(_Loss):
    """`y * (log(y) - x)` for log-probabilities x and probabilities y (or their logs if
    `log_target`).
    """

    size_average: bool | None = None
    reduce: bool | None = None
    reduction: str = "mean"
    log_target: bool = False

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class BCELoss(_WeightedLoss):
    """`-(y * log(x) + (1 - y) * log(1 - x))` for probabilities; logs stay above -100."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


@layer
class BCEWithLogitsLoss(_Loss):
    """`BCELoss` of `sigmoid(x)` in one stable formula; `pos_weight` weighs positive targets."""

    weight: Tensor | None = None
    size_average: bool | None = None
    reduce: bool | None = None
    reduction: str = "mean"
    pos_weight: Tensor | None = None

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, pos_weight=self.pos_weight, reduction=self.reduction
        )


@layer
class CTCLoss(_Loss):
    """Minus the log of the probability of a label sequence, summed over all its alignments with the
    input.

    Shapes: log_probs (T, N, C) or (T, C), targets (N, S) or (sum of target_lengths,), lengths (N,).
    """

    blank: int = 0
    reduction: str = "mean"
    zero_infinity: bool = False

    def forward(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor
    ) -> Tensor:
        return F.ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            self.blank,
            self.reduction,
            self.zero_infinity,
        )


# -- margins -----------------------------------------------------------------------------------


class SoftMarginLoss(_Loss):
    """`log(1 + exp(-y * x))` for targets y of 1 and -1."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.soft_margin_loss(input, target, reduction=self.reduction)


@layer
class HingeEmbeddingLoss(_Loss):
    """`x` where y is 1, `max(0, margin - x)` where it is -1."""

    margin: float = 1.0
    size_average: bool | None = None
    reduce: bool | None = None
    reduction: str = "mean"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.hinge_embedding_loss(input, target, margin=self.margin, reduction=self.reduction)


class MultiLabelMarginLoss(_Loss):
    """A hinge between every target class and every other one, for several classes per sample."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multilabel_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(_WeightedLoss):
    """The mean over the classes of the binary cross-entropy with logits."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multilabel_soft_margin_loss(
            input, target, weight=self.weight, reduction=self.reduction
        )


@layer
class MultiMarginLoss(_WeightedLoss):
    """`max(0, margin - x[y] + x[i]) ** p`, averaged over the classes i other than y."""

    p: int = 1
    margin: float = 1.0
    weight: Tensor | None = None
    size_average: bool | None = None
    reduce: bool | None = None
    reduction: str = "mean"

    def prepare(self) -> None:
        """Checks p and the weights."""
        super().prepare()
        check(self.p in (1, 2), "only p == 1 and p == 2 supported", ValueError)
        check(
            self.weight is None or self.weight.dim() == 1,
            "MultiMarginLoss: expected weight to be None or 1D tensor",
            ValueError,
        )

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return F.multi_margin_loss(
            input,
            target,
            p=self.p,
            margin=self.margin,
            weight=self.weight,
            reduction=self.reduction,
        )


@layer
class MarginRankingLoss(_Loss):
    """`max(0, -y * (x1 - x2) + margin)`: y says whether x1 (1) or x2 (-1) ranks higher."""

    margin: float = 0.0
    size_average: bool | None = None
    reduce: bool | None = None
    reduction: str = "mean"

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return F.margin_ranking_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction
        )


@layer
class CosineEmbeddingLoss(_Loss):
    """`1 - cos(x1, x2)` where y is 1, `max(0, cos(x1, x2) - margin)` where it is -1."""

    margin: float = 0.0
    size_average: bool | None = None
    reduce: bool | None = None
    reduction: str = "mean"

    def forward(self, input1: Tensor, input2: Tensor, target: Tensor) -> Tensor:
        return F.cosine_embedding_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction
        )


@layer
class TripletMarginLoss(_Loss):
    """`max(0, |anchor - positive| - |anchor - negative| + margin)`, in the p-norm.

    `swap` takes the distance from positive to negative where it is the smaller one.
    """

    margin: float = 1.0
    p: float = 2.0
    eps: float = 1e-6
    swap: bool = False
    size_average: bool | None = None
    reduce: bool | None = None
    reduction: str = "mean"

    def prepare(self) -> None:
        """Checks the margin."""
        super().prepare()
        check_margin(self)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.triplet_margin_loss(
            anchor,
            positive,
            negative,
            margin=self.margin,
            p=self.p,
            eps=self.eps,
            swap=self.swap,
            reduction=self.reduction,
        )


@layer(keyword_only=True)
class TripletMarginWithDistanceLoss(_Loss):
    """`TripletMarginLoss` with a distance of your own; without one, the Euclidean distance."""

    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None
    margin: float = 1.0
    swap: bool = False
    reduction: str = "mean"

    def prepare(self) -> None:
        """Checks the margin."""
        check_margin(self)
        if isinstance(self.distance_function, Module):
            self.distance_function = self.__dict__.pop("distance_function")

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )


def check_margin(loss: Any) -> None:
    """Raises ValueError unless the margin is positive."""
    check(
        loss.margin > 0,
        lambda: (
            f"{type(loss).__name__}: expected margin to be greater than 0, got {loss.margin} "
            "instead"
        ),
        ValueError,
    )
