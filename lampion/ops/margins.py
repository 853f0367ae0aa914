"""Losses with margins: of single scores, of pairs, of the classes of a sample. May import rules,
loss, earlier families, core and the base.
"""

from __future__ import annotations

from ..core.tensor import Tensor
from ..errors import check
from .loss import F, PointwiseLoss, chosen_reduction, reduced

# -- scores and pairs --------------------------------------------------------------------------

soft_margin = PointwiseLoss(
    "soft_margin_loss",
    "log1p(exp(-t * x))",
    {"x": "-t / (1 + exp(t * x))", "t": "-x / (1 + exp(t * x))"},
    "SoftMarginLossBackward0",
)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`log(1 + exp(-t x))` for targets t of 1 and -1."""
    return soft_margin(input, target, reduction=chosen_reduction(size_average, reduce, reduction))


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The input where the target is 1, `max(0, margin - input)` where it is -1."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    apart = (margin - input).clamp_min(0).masked_fill(target == 1, 0)
    return reduced(apart + input.masked_fill(target == -1, 0), reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`max(0, margin - t (x1 - x2))`: t = 1 asks for x1 above x2, t = -1 for the reverse."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    check(
        input1._data.ndim == input2._data.ndim == target._data.ndim,
        lambda: (
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.size()}, input2: {input2.size()}, target: {target.size()} "
        ),
    )
    return reduced((margin - target * (input1 - input2)).clamp_min(0), reduction)


# -- margins between classes -------------------------------------------------------------------


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`sum over other classes of weight[t] max(0, margin - x[t] + x[c])^p / C` of scores (N, C) and
    classes (N,).
    """
    reduction = chosen_reduction(size_average, reduce, reduction)
    check(p in (1, 2), "only p == 1 and p == 2 supported", ValueError)
    check(weight is None or weight._data.ndim == 1, "weight must be one-dimensional", ValueError)
    x = input if input._data.ndim > 1 else input.reshape(1, -1)
    t = target.reshape(-1, 1).long()  # (N, 1)
    classes = x._data.shape[1]
    check(
        t._data.shape[0] == x._data.shape[0],
        lambda: (
            f"inconsistent target size, expected {x._data.shape[0]} targets, got {t._data.shape[0]}"
        ),
    )
    check(not bool(((t < 0) | (t >= classes)).any()), "[multi_margin_loss] target out of range")
    short = (margin - x.gather(1, t) + x).relu()
    if p == 2:
        short = short * short
    if weight is not None:
        short = short * weight[t]
    loss = short.scatter(1, t, 0.0).sum(1) / classes
    return reduced(loss if target._data.ndim else loss.squeeze(0), reduction)


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`sum of max(0, 1 - x[j] + x[c]) / C` over the target's classes j (up to the first -1) and all
    others c.
    """
    reduction = chosen_reduction(size_average, reduce, reduction)
    check(
        input._data.shape == target._data.shape,
        lambda: (
            f"inconsistent target size: {list(target._data.shape)} for input of size: "
            f"{list(input._data.shape)}"
        ),
    )
    x, t = (v if v._data.ndim > 1 else v.reshape(1, -1) for v in (input, target))  # (N, C)
    classes = x._data.shape[1]
    check(
        not bool(((t < -1) | (t >= classes)).any()),
        "[multilabel_margin_loss] argument #2 'target' is out of range",
    )
    listed = (t >= 0).long().cumprod(1)  # (N, C), 1 up to the first -1
    places = (t * listed).long()
    among = x.new_zeros(x._data.shape).scatter_add(1, places, listed.to(x.dtype)) > 0
    short = (1 - x.gather(1, places).unsqueeze(2) + x.unsqueeze(1)).relu()  # (N, target, class)
    short = short * listed.to(x.dtype).unsqueeze(2) * (~among).to(x.dtype).unsqueeze(1)
    loss = short.sum((1, 2)) / classes
    return reduced(loss if input._data.ndim > 1 else loss.squeeze(0), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes of the binary cross-entropy of each label's logit."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    loss = -(target * F["logsigmoid"](input) + (1 - target) * F["logsigmoid"](-input))
    if weight is not None:
        loss = loss * weight
    return reduced(loss.sum(-1) / input._data.shape[-1], reduction)


F.update(
    soft_margin_loss=soft_margin_loss,
    hinge_embedding_loss=hinge_embedding_loss,
    margin_ranking_loss=margin_ranking_loss,
    multi_margin_loss=multi_margin_loss,
    multilabel_margin_loss=multilabel_margin_loss,
    multilabel_soft_margin_loss=multilabel_soft_margin_loss,
)
