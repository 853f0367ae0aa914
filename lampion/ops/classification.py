"""Losses of classifiers: cross-entropy and negative log likelihood. May import rules, loss, earlier
families, core and the base.

`cross_entropy` of class indices is one record: it keeps only the logarithm of the sum of
exponentials of each position, and its gradient is `softmax(x) - one_hot(target)` in one array.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.graph import DIRECT, STATE
from ..core.op import Op
from ..core.tensor import Tensor, wrap
from ..errors import check
from .comparison import where
from .large import rowwise
from .loss import F, chosen_reduction, reduced
from .ranges import arange
from .rules import move_to_front, wide
from .shape import stack

# -- targets -----------------------------------------------------------------------------------


def check_targets(target: ndarray, classes: int, ignore_index: int) -> ndarray:
    """Where a target counts; raises IndexError for one that is no class."""
    counts = target != ignore_index
    wrong = counts & ((target < 0) | (target >= classes))
    if wrong.any():
        raise IndexError(
            f"Target {target[wrong].flat[0]} is out of bounds; it must be in [0, {classes - 1}]."
        )
    return counts


def picked(x: ndarray, target: ndarray) -> ndarray:
    """The elements of (N, C, *) in the classes (N, *)."""
    return np.take_along_axis(x, target[:, None], 1)[:, 0]


def target_weights(
    target: ndarray, w: ndarray | None, ignore_index: int, classes: int, dtype: np.dtype
) -> tuple:
    """The classes, 0 where they do not count, and each position's weight."""
    counts = check_targets(target, classes, ignore_index)
    classes_met = np.where(counts, target, 0).astype(np.intp)
    weights = counts.astype(dtype)
    if w is not None:
        weights *= w[classes_met]
    return classes_met, weights


def reduce_losses(losses: ndarray, weights: ndarray, reduction: str) -> Any:
    """The losses, their sum, or their weighted mean."""
    if reduction == "none":
        return losses
    total = losses.sum(dtype=losses.dtype)
    return total / weights.sum() if reduction == "mean" else total


def position_scale(g: ndarray, weights: ndarray, reduction: str) -> ndarray:
    """What each position's gradient is multiplied by."""
    if reduction != "mean":
        return g * weights
    return g * (weights / (weights.sum() or 1))  # nothing counted: no gradient


# -- negative log likelihood -------------------------------------------------------------------


def nll_kernel(
    x: ndarray, target: ndarray, w: ndarray | None, ignore_index: int, reduction: str
) -> Any:
    """-w[t] x[t] of (N, C, *) and targets (N, *)."""
    given, x = x.dtype, wide(x)
    classes, weights = target_weights(target, w, ignore_index, x.shape[1], x.dtype)
    losses = np.where(weights != 0, -picked(x, classes) * weights, 0)
    return np.asarray(reduce_losses(losses, weights, reduction)).astype(given)


def nll_gradient(g, x_shape, target, w, ignore_index, reduction):  # type: ignore[no-untyped-def]
    """-w[t] g at the target's class, 0 elsewhere."""
    scale, classes = tensor_scale(g, target, w, ignore_index, reduction)
    blank = g.new_zeros(x_shape)
    return blank.scatter(1, classes.unsqueeze(1), -scale.unsqueeze(1)), None, None


def tensor_scale(
    g: Tensor, target: Tensor, w: Tensor | None, ignore_index: int, reduction: str
) -> tuple:
    """`position_scale` and the classes, in public operators."""
    counts = target != ignore_index
    classes = where(counts, target, 0).long()
    weights = counts.to(g.dtype) if w is None else where(counts, w[classes], 0)
    if reduction == "mean":
        total = weights.sum()
        weights = weights / where(total == 0, 1, total)
    return g * weights, classes


def batch_classes(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The batch joins the samples; each sample of it is then reduced by itself."""
    if dims[2] is not None:
        singles = [
            [v if v is None or d is None else v.select(d, i) for v, d in zip(values, dims)]
            for i in range(size)
        ]
        rows = [apply(op, *single, **params) for single in singles]
        if isinstance(rows[0], tuple):
            return tuple(map(stack, zip(*rows))), (0, 0)
        return stack(rows), 0
    x, target = (v.expand(size, *v._data.shape) if d is None else move_to_front(v, d)
                 for v, d in zip(values[:2], dims))  # fmt: skip
    out = apply(
        op, x.flatten(0, 1), target.flatten(0, 1), values[2], **{**params, "reduction": "none"}
    )
    losses = out[0] if isinstance(out, tuple) else out
    losses = losses.unflatten(0, (size, -1))
    if params["reduction"] != "none":
        losses = losses.flatten(1)
        ones = losses.new_ones(losses._data.shape)
        scale, _ = tensor_scale(ones, target.flatten(1), values[2], params["ignore_index"], "sum")
        losses = losses.sum(1) / scale.sum(1) if params["reduction"] == "mean" else losses.sum(1)
    if isinstance(out, tuple):
        return (losses, out[1].unflatten(0, (size, -1))), (0, 0)
    return losses, 0


NLL_LOSS = Op(
    "nll_loss",
    ("x", "target", "w"),
    nll_kernel,
    kind="fused",
    vjp=nll_gradient,
    batch=batch_classes,
    grad_name="NllLossBackward0",
    autocast="float32",
)


def with_samples(function: Callable, name: str) -> Callable:
    """A loss of (N, C, *) that also takes one sample (C,), its sizes and types checked."""

    def call(
        input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, *options: Any
    ) -> Tensor:
        check_types(name, input, target)
        x, t = input._data.shape, target._data.shape
        if len(x) == 1:
            check(
                len(t) == 0,
                lambda: f"Expected input batch_size (1) to match target batch_size ({t}).",
                ValueError,
            )
            loss = call(input.unsqueeze(0), target.unsqueeze(0), weight, reduction, *options)
            return loss.squeeze(0) if reduction == "none" else loss
        check_sizes(name, x, t)
        check_weight(weight, x[1])
        loss = function(input, target, weight, reduction, *options)
        if len(x) > 2 and loss.grad_fn is not None:
            loss.grad_fn.title = "NllLoss2DBackward0"
        return loss

    return call


def check_types(name: str, input: Tensor, target: Tensor) -> None:
    """Raises for a target that is no index and an input that is not floating."""
    check(
        target._data.dtype in (np.int64, np.uint8),
        lambda: (
            f"[{name}] expected target dtype to be Long or Byte, but got {target.dtype}; "
            "convert with .long()"
        ),
    )
    check(
        input.is_floating_point(),
        lambda: f'[{name}] "{name}" not implemented for {input.dtype}',
        NotImplementedError,
    )


def check_sizes(name: str, x: tuple[int, ...], t: tuple[int, ...]) -> None:
    """Raises for an input that is not (N, C, *) or a target that is not (N, *)."""
    check(len(x) > 1, lambda: f"[{name}] Expected 2 or more dimensions (got {len(x)})", ValueError)
    check(
        len(t) > 0 and x[0] == t[0],
        lambda: (
            f"Expected input batch_size ({x[0]}) to match target batch_size ({t[0] if t else 1})."
        ),
        ValueError,
    )
    expected = (x[0], *x[2:])
    check(
        len(t) == len(expected) or len(x) != 4,
        lambda: (
            "only batches of spatial targets supported (3D tensors) but got targets of "
            f"dimension: {len(t)}"
        ),
    )
    check(t == expected, lambda: f"[{name}] Expected target size {list(expected)}, got {list(t)}")


def check_weight(weight: Tensor | None, classes: int, caller: str = "") -> None:
    """Raises RuntimeError for weights that are not one for each class."""
    shape = (classes,) if weight is None else weight._data.shape
    check(
        shape == (classes,),
        lambda: (
            f"{caller}weight tensor should be defined either for all {classes} classes or no "
            f"classes but got weight tensor of shape: {list(shape)}"
        ),
    )


negative_log_likelihood = with_samples(
    lambda x, t, w, reduction, ignore: apply(
        NLL_LOSS, x, t, w, ignore_index=ignore, reduction=reduction
    ),
    "nll_loss",
)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`-weight[t] * input[t]` of log-probabilities (N, C, *) and classes (N, *); a mean divides by
    the weights met.

    Raises IndexError for a target that is no class and not `ignore_index`.
    """
    reduction = chosen_reduction(size_average, reduce, reduction)
    return negative_log_likelihood(input, target, weight, reduction, ignore_index)


# -- cross-entropy -----------------------------------------------------------------------------


def plain(x: ndarray, target: ndarray, w: ndarray | None, ignore_index: int) -> bool:
    """Whether these are (N, C) and classes that all count the same: the common case, which is
    short.
    """
    if (
        x.ndim != 2
        or w is not None
        or target.dtype != np.int64
        or 0 <= ignore_index < x.shape[1]
        or not x.size
    ):
        return False
    return target.view(np.uint64).max() < x.shape[1]  # negative ones are huge then


def cross_entropy_kernel(
    x: ndarray, target: ndarray, w: ndarray | None, ignore_index: int, reduction: str
) -> tuple:
    """The loss and log(sum(exp(x))) over the classes, (N, *)."""
    given, x = x.dtype, wide(x)
    if plain(x, target, w, ignore_index):
        compiler = rowwise(x)
        if compiler is not None:
            losses, lse = compiler.run_cross_entropy(x, np.ascontiguousarray(target))
        else:
            largest = np.maximum.reduce(x, 1)
            lse = x - largest[:, None]
            np.exp(lse, out=lse)
            lse = np.log(np.add.reduce(lse, 1))
            lse += largest
            losses = lse - x[np.arange(len(x)), target]
        if reduction != "none":
            losses = np.add.reduce(losses) / (len(x) if reduction == "mean" else 1)
        return np.asarray(losses).astype(given, copy=False), lse
    classes, weights = target_weights(target, w, ignore_index, x.shape[1], x.dtype)
    if x.size:
        largest = np.maximum.reduce(x, 1, keepdims=True)
        total = x - largest
        np.exp(total, out=total)
        largest = largest[:, 0]
        logs = np.log(np.add.reduce(total, 1))
    else:
        largest = logs = np.zeros(target.shape, x.dtype)
    losses = np.where(weights != 0, (logs - (picked(x, classes) - largest)) * weights, 0)
    return np.asarray(reduce_losses(losses, weights, reduction)).astype(given), logs + largest


def cross_entropy_gradient_kernel(
    g: ndarray,
    x: ndarray,
    target: ndarray,
    w: ndarray | None,
    lse: ndarray,
    ignore_index: int,
    reduction: str,
) -> ndarray:
    """(softmax(x) - one_hot(target)) g, in one array."""
    given, x = x.dtype, wide(x)
    if plain(x, target, w, ignore_index):
        compiler = rowwise(x, lse)
        if compiler is not None:
            factors = np.empty_like(lse)
            factors[...] = g / len(x) if reduction == "mean" else g
            gx = compiler.run_cross_entropy_back(x, np.ascontiguousarray(target), lse, factors)
            return gx.astype(given, copy=False)
        gx = x - lse[:, None]
        np.exp(gx, out=gx)
        gx[np.arange(len(x)), target] -= 1
        gx *= g / len(x) if reduction == "mean" else g if reduction == "sum" else g[:, None]
        return gx.astype(given, copy=False)
    classes, weights = target_weights(target, w, ignore_index, x.shape[1], x.dtype)
    scale = position_scale(g.astype(x.dtype, copy=False), weights, reduction)[:, None]
    gx = x - lse[:, None]
    np.exp(gx, out=gx)
    gx *= scale
    at = classes[:, None]
    np.put_along_axis(gx, at, np.take_along_axis(gx, at, 1) - scale, 1)
    return gx.astype(given, copy=False)


def cross_entropy_gradient(g, x, target, w, lse, ignore_index, reduction):  # type: ignore[no-untyped-def]
    """The gradient of x: fast on arrays, or in public operators where it is recorded."""
    if STATE.mode == DIRECT:
        g, x, target, w, lse = [None if t is None else t._data for t in (g, x, target, w, lse)]
        gx = cross_entropy_gradient_kernel(g, x, target, w, lse, ignore_index, reduction)
        return wrap(gx), None, None
    scale, classes = tensor_scale(g, target, w, ignore_index, reduction)
    # lse has no derivative: it serves where the gradient is not differentiated in turn
    p = x.softmax(1) if STATE.grad else (x - lse.unsqueeze(1)).exp()
    numbers = arange(x._data.shape[1]).reshape(-1, *[1] * (x._data.ndim - 2))  # (C, 1 ...)
    hot = classes.unsqueeze(1) == numbers
    return where(hot, p - 1, p) * scale.unsqueeze(1), None, None


CROSS_ENTROPY = Op(
    "cross_entropy",
    ("x", "target", "w"),
    cross_entropy_kernel,
    kind="fused",
    vjp=cross_entropy_gradient,
    batch=batch_classes,
    outputs=("y", "lse"),
    constant_outputs=("lse",),
    grad_name="NllLossBackward0",
    autocast="float32",
)
cross_entropy_of_classes = with_samples(
    lambda x, t, w, reduction, ignore: apply(
        CROSS_ENTROPY, x, t, w, ignore_index=ignore, reduction=reduction
    )[0],
    "cross_entropy",
)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """`-weight[t] * log_softmax(input)[t]` of logits (N, C, *) and classes (N, *), or probabilities
    (N, C, *).

    `label_smoothing` mixes the target with the uniform distribution. Raises IndexError for a target
    that is no class and not `ignore_index`.

    >>> torch.nn.functional.cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.3863)
    """
    reduction = chosen_reduction(size_average, reduce, reduction)
    check(
        0.0 <= label_smoothing <= 1.0,
        lambda: f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}",
    )
    if target._data.shape == input._data.shape and target.is_floating_point():
        check(ignore_index < 0, "ignore_index is not supported for floating point target")
        return soft_cross_entropy(input, target, weight, reduction, label_smoothing)
    loss = cross_entropy_of_classes(input, target, weight, reduction, ignore_index)
    if label_smoothing == 0:
        return loss
    smooth = uniform_cross_entropy(input, target, weight, reduction, ignore_index)
    return loss * (1 - label_smoothing) + smooth * (
        label_smoothing / input._data.shape[input._data.ndim > 1]
    )


def beside_classes(weight: Tensor, ndim: int) -> Tensor:
    """(C,) aligned with (N, C, *), or with (C,)."""
    return weight.reshape(-1, *[1] * (ndim - 2)) if ndim > 2 else weight


def soft_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    """Cross-entropy with probabilities as targets."""
    dim = int(x._data.ndim > 1)
    classes = x._data.shape[dim]
    check_weight(weight, classes, "cross_entropy: ")
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    loss = x.log_softmax(dim) * target
    if weight is not None:
        loss = loss * beside_classes(weight, x._data.ndim)
    loss = -loss.sum(dim)
    return (
        loss.sum() / (x._data.size / classes) if reduction == "mean" else reduced(loss, reduction)
    )


def uniform_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: str, ignore_index: int
) -> Tensor:
    """The sum of the cross-entropies of all classes, the part that label smoothing adds."""
    dim = int(x._data.ndim > 1)
    logs = x.log_softmax(dim)
    if weight is not None:
        logs = logs * beside_classes(weight, x._data.ndim)
    ignored = target == ignore_index
    loss = (-logs.sum(dim)).masked_fill(ignored, 0)
    if reduction != "mean":
        return reduced(loss, reduction)
    if weight is None:
        return loss.sum() / (~ignored).sum()
    met = weight[where(ignored, 0, target).long()].masked_fill(ignored, 0)
    return loss.sum() / met.sum()


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """`cross_entropy(linear(input, linear_weight, linear_bias), target)`; a weight (C, *out, in)
    gives (N, C, *out).
    """
    check(
        1 <= input._data.ndim <= 2,
        lambda: f"expected input with dimensionality 1 or 2, got {input._data.ndim}",
    )
    classes, *out, features = linear_weight._data.shape
    rows = classes * math.prod(out)
    bias = None if linear_bias is None else linear_bias.reshape(rows)
    logits = F["linear"](input, linear_weight.reshape(rows, features), bias)
    logits = logits.reshape(*input._data.shape[:-1], classes, *out)
    ignore_index = -100 if ignore_index is None else ignore_index
    return cross_entropy(
        logits,
        target,
        weight,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
    )


F.update(nll_loss=nll_loss, cross_entropy=cross_entropy, linear_cross_entropy=linear_cross_entropy)
