"""How alike two vectors are, and losses that pull alike ones together. May import rules, loss,
earlier families, core and the base.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.tensor import Tensor
from ..errors import check
from .comparison import minimum
from .loss import REDUCTIONS, F, chosen_reduction, reduced
from .rules import EXPORTS, numpy_names


@numpy_names
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-08) -> Tensor:
    """`x1 . x2 / (max(|x1|, eps) max(|x2|, eps))` along a dimension.

    >>> torch.cosine_similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]))
    tensor([1.])
    """
    x1, x2 = EXPORTS["torch"]["broadcast_tensors"](x1, x2)
    check(
        x1.is_floating_point() and x2.is_floating_point(),
        "expected common dtype to be floating point; convert with .float()",
    )
    x1, x2 = (x / x.norm(2, dim, keepdim=True).clamp_min(eps) for x in (x1, x2))
    return (x1 * x2).sum(dim)


def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-06, keepdim: bool = False
) -> Tensor:
    """`|x1 - x2 + eps|_p` along the last dimension."""
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`1 - cos(x1, x2)` where the target is 1, `max(0, cos(x1, x2) - margin)` where it is -1."""
    reduction = chosen_reduction(size_average, reduce, reduction)
    rank = input1._data.ndim
    check(
        target._data.ndim in (0, 1) and rank == target._data.ndim + 1 == input2._data.ndim,
        lambda: (
            f"{target._data.ndim}D target tensor expects {target._data.ndim + 1}D input tensors, "
            f"but found inputs with sizes {list(input1._data.shape)} and "
            f"{list(input2._data.shape)}."
        ),
    )
    products = (input1 * input2).sum(-1)
    squares = [(x * x).sum(-1) + 1e-12 for x in (input1, input2)]
    cosine = products / (squares[0] * squares[1]).sqrt()
    alike = (1 - cosine).masked_fill(target != 1, 0)
    apart = (cosine - margin).clamp_min(0).masked_fill(target != -1, 0)
    return reduced(alike + apart, reduction)


def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    distance: Callable,
    margin: float,
    swap: bool,
    reduction: str,
) -> Tensor:
    """`max(0, margin + d(anchor, positive) - d(anchor, negative))`; see the two functions below."""
    check(margin > 0, lambda: f"margin must be greater than 0, got {margin}", ValueError)
    ranks = [t._data.ndim for t in (anchor, positive, negative)]
    check(
        len(set(ranks)) == 1,
        lambda: (
            "The anchor, positive, and negative tensors are expected to have the same number of "
            f"dimensions, but got: anchor {ranks[0]}D, positive {ranks[1]}D, and negative "
            f"{ranks[2]}D inputs"
        ),
    )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = minimum(far, distance(positive, negative))
    return reduced((margin + near - far).clamp_min(0), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-06,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Asks for the positive to be nearer to the anchor than the negative by `margin`, in the
    p-norm.

    With `swap` the negative's distance is the smaller of those to anchor and positive.
    """
    reduction = chosen_reduction(size_average, reduce, reduction)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return pairwise_distance(a, b, p, eps)

    return triplet(anchor, positive, negative, distance, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """`triplet_margin_loss` for any distance."""
    check(
        reduction in REDUCTIONS,
        lambda: f"{reduction} is not a valid value for reduction",
        ValueError,
    )
    return triplet(
        anchor, positive, negative, distance_function or pairwise_distance, margin, swap, reduction
    )


F.update(
    cosine_similarity=cosine_similarity, pairwise_distance=pairwise_distance,
    cosine_embedding_loss=cosine_embedding_loss, triplet_margin_loss=triplet_margin_loss,
    triplet_margin_with_distance_loss=triplet_margin_with_distance_loss,
)  # fmt: skip
EXPORTS["torch"].update(cosine_similarity=cosine_similarity, pairwise_distance=pairwise_distance)
