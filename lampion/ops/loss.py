"""Losses element by element: regression and probabilities. May import rules,
earlier families, core and the base.

A pointwise loss is one record: a scalar formula, its local derivatives, and the reduction. Compound
ones are written in public operators.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.graph import DIRECT, STATE
from ..core.inplace import type_name
from ..core.op import ARRAY_NAMES, TENSOR_NAMES, Op
from ..core.promotion import shape_error
from ..core.tensor import Tensor, wrap
from ..errors import check
from .large import Entry, Least, reduced as reduced_array
from .powers import xlogy
from .rules import EXPORTS, batch_elementwise, in_float32

F = EXPORTS["nn.functional"]

# -- reductions --------------------------------------------------------------------------------

REDUCTIONS = ("none", "mean", "sum")


def legacy_reduction(
    size_average: bool | None, reduce: bool | None, stacklevel: int = 3
) -> str | None:
    """The `reduction` that two old arguments mean, with a warning; None where neither is given."""
    if size_average is None and reduce is None:
        return None
    average, reduced = size_average is None or size_average, reduce is None or reduce
    found = "none" if not reduced else "mean" if average else "sum"
    warnings.warn(
        f"size_average and reduce args will be deprecated, please use reduction='{found}' instead.",
        stacklevel=stacklevel,
    )
    return found


def chosen_reduction(size_average: bool | None, reduce: bool | None, reduction: str) -> str:
    """What the old arguments `size_average` and `reduce` ask for, else `reduction`."""
    reduction = legacy_reduction(size_average, reduce, stacklevel=5) or reduction
    check(
        reduction in REDUCTIONS,
        lambda: f"{reduction} is not a valid value for reduction; use 'none', 'mean' or 'sum'",
        ValueError,
    )
    return reduction


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The mean, the sum or all of the losses."""
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def reduce_array(losses: ndarray, reduction: str) -> Any:
    """`reduced` of an array."""
    if reduction == "none":
        return losses
    total = reduced_array("sum", losses, None, False)
    if total is None:
        total = np.add.reduce(losses, None)
    return total / losses.size if reduction == "mean" else total


def warn_sizes(input: Tensor, target: Tensor) -> None:
    """Warns where a loss would broadcast: mostly (N, 1) against (N,) by mistake."""
    if input._data.shape != target._data.shape:
        warnings.warn(
            f"Using a target size ({target.size()}) that is different to the input size "
            f"({input.size()}). This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=3,
        )


# -- the maker ---------------------------------------------------------------------------------


def batch_loss(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The losses of all elements, reduced for each sample of the batch."""
    losses, _ = batch_elementwise(size, values, dims, {**params, "reduction": "none"}, op)
    if params["reduction"] == "none" or losses._data.ndim == 1:
        return losses, 0
    flat = losses.flatten(1)
    return flat.mean(1) if params["reduction"] == "mean" else flat.sum(1), 0


class PointwiseLoss:
    """A loss given by a formula over `inputs` and the numbers `settings`, times an optional weight,
    then reduced.

    Called with the inputs, then weight, reduction and the settings. The derivatives `partials` are
    evaluated on arrays, or on tensors where the gradient must be differentiable again.
    """

    def __init__(
        self,
        name: str,
        formula: str,
        partials: Mapping[str, str],
        grad_name: str,
        inputs: str = "xt",
        settings: str = "",
    ) -> None:
        self.name, self.inputs, self.settings = name, inputs, settings
        self.formula = compile(formula, name, "eval")
        self.partials = {k: compile(v, name, "eval") for k, v in partials.items()}
        names, numbers = tuple(inputs), tuple(settings)
        self.large = Entry("flat", formula, names, numbers)
        self.large_partials = {
            k: Entry("flat", f"g * ({v})", ("g", *names), numbers) for k, v in partials.items()
        }
        arguments = ", ".join((*inputs, "w"))
        rule = eval(  # a rule's parameters say what is saved
            f"lambda g, {arguments}, reduction, numbers, needs: "
            f"gradient(g, ({arguments},), reduction, numbers, needs)",
            {"gradient": self.gradient},
        )
        self.op = Op(
            name,
            (*inputs, "w"),
            in_float32(self.kernel),
            kind="reduction",
            formula=formula,
            vjp=rule,
            batch=batch_loss,
            promote="float",
            grad_name=grad_name,
            autocast="float32",
        )

    def __call__(
        self, *tensors: Any, weight: Tensor | None = None, reduction: str, **settings: float
    ) -> Tensor:
        numbers = tuple(settings[s] for s in self.settings)
        return apply(self.op, *tensors, weight, reduction=reduction, numbers=numbers)

    def named(self, values: Iterable, numbers: tuple) -> dict[str, Any]:
        """What the formulas' names stand for."""
        return dict(zip((*self.inputs, *self.settings), (*values, *numbers), strict=True))

    def kernel(self, *arrays: Any, reduction: str, numbers: tuple) -> ndarray:
        """The losses of arrays, reduced."""
        *values, weight = arrays
        losses = self.large.call(*values, *numbers) if values[0].size >= Least.size else None
        if losses is None:
            try:
                losses = eval(self.formula, ARRAY_NAMES, self.named(values, numbers))
            except ValueError:
                raise shape_error(self.name, *arrays[:2]) from None
        return reduce_array(losses if weight is None else losses * weight, reduction)

    def gradient(
        self, g: Tensor, tensors: tuple, reduction: str, numbers: tuple, needs: tuple
    ) -> list:
        """The gradients of the inputs and the weight, which has none."""
        if STATE.mode != DIRECT:
            return [*self.scaled(g, tensors, reduction, numbers, needs, TENSOR_NAMES), None]
        arrays = [None if t is None else t._data for t in tensors]
        grads = self.scaled(g._data, arrays, reduction, numbers, needs, ARRAY_NAMES)
        return [*(None if a is None else wrap(a) for a in grads), None]

    def scaled(
        self,
        g: Any,
        operands: Sequence,
        reduction: str,
        numbers: tuple,
        needs: tuple,
        environment: dict,
    ) -> list:
        """g times the derivatives by the inputs that need one, on arrays or tensors alike."""
        *values, weight = operands
        if weight is not None:
            g = g * weight
        if reduction == "mean":
            shapes = [v.shape for v in values if hasattr(v, "shape")]
            g = g / max(math.prod(np.broadcast_shapes(*shapes)), 1)
        wanted = [i for i, need in zip(self.inputs, needs, strict=False) if need]
        found: dict[str, Any] = {}
        if environment is ARRAY_NAMES and values[0].size >= Least.size:
            g = np.asarray(g)
            for i in wanted:
                if i in self.large_partials:
                    found[i] = self.large_partials[i].call(g, *values, *numbers)
        named = self.named(values, numbers)
        for i in wanted:
            if i in self.partials and found.get(i) is None:
                found[i] = g * eval(self.partials[i], environment, named)
        return [found.get(i) for i in self.inputs]


# -- regression --------------------------------------------------------------------------------

squared_error = PointwiseLoss(
    "mse_loss", "square(x - t)", {"x": "2 * (x - t)", "t": "2 * (t - x)"}, "MseLossBackward0"
)
smooth_error = PointwiseLoss(
    "smooth_l1_loss",
    "where(abs(x - t) < b, square(x - t) * (0.5 / b), abs(x - t) - 0.5 * b)",
    {
        "x": "where(abs(x - t) >= b, sign(x - t), (x - t) / b)",  # nan stays nan
        "t": "where(abs(x - t) >= b, sign(t - x), (t - x) / b)",
    },
    "SmoothL1LossBackward0",
    settings="b",
)
huber_error = PointwiseLoss(
    "huber_loss",
    "where(abs(x - t) <= d, 0.5 * square(x - t), d * (abs(x - t) - 0.5 * d))",
    {
        "x": "where(abs(x - t) > d, d * sign(x - t), x - t)",
        "t": "where(abs(x - t) > d, d * sign(t - x), t - x)",
    },
    "HuberLossBackward0",
    settings="d",
)


def weighted_mean(
    losses: Tensor, weight: Tensor, input: Tensor, reduction: str, divide: bool = True
) -> Tensor:
    """The losses times a weight for each; a mean divides by the sum of the weights."""
    check(
        weight._data.shape == input._data.shape,
        "Weights and input must have the same size.",
        ValueError,
    )
    losses = losses * weight
    if reduction == "mean" and divide:
        return losses.sum() / weight.sum()
    return reduced(losses, reduction)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """The mean (sum, or all) of `(input - target)^2`; warns where the sizes differ and broadcast.

    >>> torch.nn.functional.mse_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    """
    warn_sizes(input, target)
    reduction = chosen_reduction(size_average, reduce, reduction)
    if weight is not None:
        return weighted_mean(
            squared_error(input, target, reduction="none"), weight, input, reduction
        )
    return squared_error(input, target, reduction=reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """The mean (sum, or all) of `|input - target|`; warns where the sizes differ and broadcast."""
    warn_sizes(input, target)
    reduction = chosen_reduction(size_average, reduce, reduction)
    losses = (input - target).abs()
    return (
        reduced(losses, reduction)
        if weight is None
        else weighted_mean(losses, weight, input, reduction)
    )


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """`d^2 / (2 beta)` for differences d below beta, else `|d| - beta / 2`."""
    warn_sizes(input, target)
    reduction = chosen_reduction(size_average, reduce, reduction)
    check(beta >= 0, "smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return reduced((input - target).abs(), reduction)
    return smooth_error(input, target, reduction=reduction, b=float(beta))


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """`d^2 / 2` for differences d up to delta, else `delta (|d| - delta / 2)`."""
    warn_sizes(input, target)
    reduction = chosen_reduction(None, None, reduction)
    check(delta > 0, "huber_loss does not support non-positive values for delta.")
    if weight is not None:
        losses = huber_error(input, target, reduction="none", d=float(delta))
        return weighted_mean(losses, weight, input, reduction, divide=False)
    return huber_error(input, target, reduction=reduction, d=float(delta))


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-08,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The negative log likelihood of counts under a Poisson rate; `full` adds Stirling's
    approximation of log(t!).
    """
    reduction = chosen_reduction(size_average, reduce, reduction)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + stirling.masked_fill(target <= 1, 0)
    return reduced(loss, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Any,
    full: bool = False,
    eps: float = 1e-06,
    reduction: str = "mean",
) -> Tensor:
    """`(log(var) + (input - target)^2 / var) / 2`, var being at least eps; `full` adds log(2 pi) /
    2.
    """
    if not isinstance(var, Tensor):
        var = EXPORTS["torch"]["full_like"](input, float(var))
    if var.interpreter is None:
        check(not (var._data < 0).any(), "var has negative entry/entries", ValueError)
    shape, have = input._data.shape, var._data.shape
    if have != shape:
        if have == shape[:-1]:
            var = var.unsqueeze(-1)
        else:
            different = sum(n for m, n in zip(shape, have) if m != n)
            check(
                len(have) == len(shape) and different == 1, "var is of incorrect size", ValueError
            )
    check(reduction in REDUCTIONS, lambda: f"{reduction} is not valid", ValueError)
    var = var + (
        var.detach().clamp(min=eps) - var.detach()
    )  # the gradient goes through as if not clamped
    loss = 0.5 * (var.log() + (input - target).square() / var)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# -- probabilities -----------------------------------------------------------------------------

ARRAY_NAMES["at_least"] = np.maximum
TENSOR_NAMES["at_least"] = lambda x, low: x.clamp(min=low)
LOG_X, LOG_REST = "at_least(log(x), -100)", "at_least(log(1 - x), -100)"
SOFTPLUS = "(log1p(exp(-abs(x))) + at_least(-x, 0))"  # log(1 + exp(-x))

cross_entropy_of_probabilities = PointwiseLoss(
    "binary_cross_entropy",
    f"(t - 1) * {LOG_REST} - t * {LOG_X}",
    {
        "x": "(x - t) / at_least((1 - x) * x, 1e-12)",
        "t": f"{LOG_REST} - {LOG_X}",
    },
    "BinaryCrossEntropyBackward0",
)
cross_entropy_of_logits = PointwiseLoss(
    "binary_cross_entropy_with_logits",
    f"(1 - t) * x + {SOFTPLUS}",
    {"x": "(1 - t) - 1 / (1 + exp(x))", "t": "-x"},
    "BinaryCrossEntropyWithLogitsBackward0",
)
balanced_cross_entropy_of_logits = PointwiseLoss(
    "balanced_cross_entropy_with_logits",
    f"(1 - t) * x + (1 + (p - 1) * t) * {SOFTPLUS}",
    {
        "x": "(1 - t) - (1 + (p - 1) * t) / (1 + exp(x))",
        "t": f"(p - 1) * {SOFTPLUS} - x",
        "p": f"t * {SOFTPLUS}",
    },
    "BinaryCrossEntropyWithLogitsBackward0",
    inputs="xtp",
)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """`-(t log(x) + (1 - t) log(1 - x))` of probabilities, logarithms being at least -100.

    Raises RuntimeError for inputs outside [0, 1] and ValueError for sizes that differ.
    """
    reduction = chosen_reduction(size_average, reduce, reduction)
    check(
        target._data.shape == input._data.shape,
        lambda: (
            f"Using a target size ({target.size()}) that is different to the input size "
            f"({input.size()}) is deprecated. Please ensure they have the same size."
        ),
        ValueError,
    )
    check(
        input.dtype.category <= target.dtype.category,
        lambda: (
            f"[binary_cross_entropy] Found dtype {type_name(target.dtype)} but expected "
            f"{type_name(input.dtype)}; convert the target with .to(input.dtype)"
        ),
    )
    if input.interpreter is None:
        x = input._data
        check(
            bool(((x >= 0) & (x <= 1)).all()),
            "[binary_cross_entropy] all elements of input should be between 0 and 1; apply "
            "sigmoid, or use binary_cross_entropy_with_logits",
        )
    return cross_entropy_of_probabilities(input, target, weight=weight, reduction=reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """`-(p t log(s) + (1 - t) log(1 - s))` with s = sigmoid(input) and p = pos_weight, without
    overflow.
    """
    reduction = chosen_reduction(size_average, reduce, reduction)
    check(
        target._data.shape == input._data.shape,
        lambda: f"Target size ({target.size()}) must be the same as input size ({input.size()})",
        ValueError,
    )
    if pos_weight is None:
        return cross_entropy_of_logits(input, target, weight=weight, reduction=reduction)
    operands = (input, target, pos_weight)
    return balanced_cross_entropy_of_logits(*operands, weight=weight, reduction=reduction)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """`t (log(t) - input)`, the input being log-probabilities; "batchmean" divides the sum by the
    batch's size.
    """
    mean_per_sample = reduction == "batchmean"
    if reduction == "mean" and size_average is None and reduce is None:
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size. "
            "'batchmean' divides only by the batch size, and aligns with the KL div math "
            "definition.",
            stacklevel=2,
        )
    reduction = chosen_reduction(size_average, reduce, "sum" if mean_per_sample else reduction)
    loss = divergence(input, target, reduction, log_target)
    return loss / input._data.shape[0] if mean_per_sample and input._data.ndim else loss


def divergence(input: Tensor, target: Tensor, reduction: str, log_target: bool = False) -> Tensor:
    """`kl_div` without its warning."""
    loss = target.exp() * (target - input) if log_target else xlogy(target, target) - target * input
    return reduced(loss, reduction)


F.update(
    mse_loss=mse_loss,
    l1_loss=l1_loss,
    smooth_l1_loss=smooth_l1_loss,
    huber_loss=huber_loss,
    poisson_nll_loss=poisson_nll_loss,
    gaussian_nll_loss=gaussian_nll_loss,
    binary_cross_entropy=binary_cross_entropy,
    binary_cross_entropy_with_logits=binary_cross_entropy_with_logits,
    kl_div=kl_div,
)
