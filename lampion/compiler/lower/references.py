"""Operators in simpler ones, by the names of their records. May import ops and core.

Each function takes a record's inputs as tensors and its parameters, and returns what the record's
kernel does. It is run on zeros to be recorded, never to compute (see expand).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...core.op import OPS, TENSOR_NAMES
from ...core.tensor import Tensor
from ...dtypes import float32


def wide(x: Any) -> Any:
    """Half-precision tensors in float32."""
    half = x is not None and x.is_floating_point() and x._data.dtype.itemsize == 2
    return x.to(float32) if half else x


def count(x: Tensor, dim: Any) -> int:
    """How many elements one result of a reduction is made of."""
    if dim is None:
        return x._data.size
    dims = (dim,) if isinstance(dim, int) else dim
    return math.prod(x._data.shape[d] for d in dims) if x._data.ndim else 1


def total(x: Tensor, dim: Any, keepdim: bool = True) -> Tensor:
    """The sum over `dim`, all if it is None."""
    if dim is None:
        y = x.sum()
        return y.reshape([1] * x._data.ndim) if keepdim else y
    return x.sum(dim, keepdim)


# -- statistics --------------------------------------------------------------------------------


def mean(x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """sum / n."""
    return (total(wide(x), dim, keepdim) / count(x, dim)).to(x.dtype)


def var(x: Tensor, dim: Any, correction: float, keepdim: bool) -> Tensor:
    """The mean of squared distances from the mean."""
    wider = wide(x)
    n = count(x, dim)
    deviation = wider - total(wider, dim) / n
    squares = total(deviation * deviation, dim, keepdim)
    return (squares / max(n - correction, 0.0)).to(x.dtype)


def std(x: Tensor, dim: Any, correction: float, keepdim: bool) -> Tensor:
    """The root of the variance."""
    return var(wide(x), dim, correction, keepdim).sqrt().to(x.dtype)


def norm(x: Tensor, p: float, dim: Any, keepdim: bool) -> Tensor | None:
    """sum(|x|^p)^(1/p) for p = 1 and 2."""
    if p not in (1, 2):
        return None
    wider = wide(x)
    if p == 1:
        return total(wider.abs(), dim, keepdim).to(x.dtype)
    return total(wider * wider, dim, keepdim).sqrt().to(x.dtype)


def logsumexp(x: Tensor, dim: Any, keepdim: bool) -> Tensor | None:
    """The logarithm of a sum of exponentials, the largest taken out."""
    if not x._data.size:
        return None
    if dim is None:
        dim = tuple(range(x._data.ndim))
    wider = wide(x)
    largest = wider.amax(dim, True)
    largest = largest.where(largest.isfinite(), 0)
    y = (wider - largest).exp().sum(dim, True).log() + largest
    if not keepdim:
        dims = (dim,) if isinstance(dim, int) else dim
        gone = {d % x._data.ndim for d in dims} if x._data.ndim else set()
        y = y.reshape([n for d, n in enumerate(x._data.shape) if d not in gone])
    return y.to(x.dtype)


def nansum(x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """The sum with zeros for nan."""
    return total(x.masked_fill(x.isnan(), 0), dim, keepdim)


# -- softmax -----------------------------------------------------------------------------------


def softmax(x: Tensor, dim: int) -> Tensor | None:
    """exp(x) / sum(exp(x))."""
    if not x._data.size:
        return None
    wider = wide(x)
    e = (wider - wider.amax(dim, True)).exp()
    return (e * (1 / e.sum(dim, True))).to(x.dtype)


def log_softmax(x: Tensor, dim: int) -> Tensor | None:
    """x - log(sum(exp(x)))."""
    if not x._data.size:
        return None
    wider = wide(x)
    y = wider - wider.amax(dim, True)
    return (y - y.exp().sum(dim, True).log()).to(x.dtype)


def softmax_backward(t: Tensor, p: Tensor, dim: int) -> Tensor:
    """p (t - sum(t p))."""
    t, wider = wide(t), wide(p)
    return (wider * (t - (t * wider).sum(dim, True))).to(p.dtype)


def log_softmax_backward(t: Tensor, l: Tensor, dim: int) -> Tensor:  # noqa: E741
    """t - exp(l) sum(t)."""
    t, wider = wide(t), wide(l)
    return (t - wider.exp() * t.sum(dim, True)).to(l.dtype)


# -- normalisation -----------------------------------------------------------------------------


def normalise(
    x: Tensor, w: Any, b: Any, dims: tuple, shape: tuple, view: tuple, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The normalised tensor, means and variances."""
    wider, w, b = wide(x), wide(w), wide(b)
    if view:
        lead = x._data.shape[: x._data.ndim - len(view) + 1]
        wider = wider.reshape((*lead, *view))
    n = max(count(wider, dims), 1)
    average = wider.sum(dims, True) / n
    centred = wider - average
    variance = (centred * centred).sum(dims, True) / n
    y = centred * (variance + eps).rsqrt()
    y = y if w is None else y * w.reshape(shape)
    y = y if b is None else y + b.reshape(shape)
    return y.reshape(x._data.shape).to(x.dtype), average, variance


def fixed_normalise(
    x: Tensor, w: Any, b: Any, mean: Tensor, variance: Tensor, shape: tuple, eps: float
) -> Tensor:
    """One multiplication and one addition per element."""
    wider, w, b = wide(x), wide(w), wide(b)
    scale = (wide(variance) + eps).rsqrt()
    scale = scale if w is None else scale * w
    shift = -wide(mean) * scale
    shift = shift if b is None else b + shift
    y = wider * scale.to(wider.dtype).reshape(shape) + shift.to(wider.dtype).reshape(shape)
    return y.to(x.dtype)


# -- losses ------------------------------------------------------------------------------------


def weights_of(x: Tensor, target: Tensor, w: Any, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The classes, 0 where they do not count, and each position's weight. Negative ones are no
    classes: they get a number beyond all, for which a look-up gives nan.
    """
    counts = target != ignore_index
    classes = target.where(counts, 0).long()
    classes = classes.where(classes >= 0, x._data.shape[1])
    if w is None:
        return classes, counts.to(x.dtype)
    return classes, wide(w)[classes].where(counts, 0)


def reduced(losses: Tensor, weights: Tensor, reduction: str) -> Tensor:
    """The losses, their sum, or their weighted mean."""
    if reduction == "none":
        return losses
    return losses.sum() / weights.sum() if reduction == "mean" else losses.sum()


def cross_entropy(
    x: Tensor, target: Tensor, w: Any, ignore_index: int, reduction: str
) -> tuple[Tensor, Tensor] | None:
    """The loss and log(sum(exp(x))) over the classes."""
    if not x._data.size:
        return None
    wider = wide(x)
    classes, weights = weights_of(wider, target, w, ignore_index)
    largest = wider.amax(1, True)
    logs = (wider - largest).exp().sum(1, True).log()
    picked = wider.gather(1, classes.unsqueeze(1))
    losses = (logs - (picked - largest)).squeeze(1) * weights
    losses = losses.where(weights != 0, 0)
    return reduced(losses, weights, reduction).to(x.dtype), (logs + largest).squeeze(1)


def nll_loss(x: Tensor, target: Tensor, w: Any, ignore_index: int, reduction: str) -> Tensor | None:
    """-w[t] x[t]."""
    if not x._data.size:
        return None
    wider = wide(x)
    classes, weights = weights_of(wider, target, w, ignore_index)
    picked = wider.gather(1, classes.unsqueeze(1)).squeeze(1)
    losses = (-picked * weights).where(weights != 0, 0)
    return reduced(losses, weights, reduction).to(x.dtype)


def pointwise_loss(name: str) -> Callable[..., Tensor]:
    """A loss given by a formula over its inputs (see ops.loss), times weights, then reduced."""
    loss: Any = OPS[name].kernel.__wrapped__.__self__  # type: ignore[attr-defined]

    def reference(*tensors: Any, reduction: str, numbers: tuple) -> Tensor:
        *values, weight = [wide(t) for t in tensors]
        losses = eval(loss.formula, TENSOR_NAMES, loss.named(values, numbers))
        losses = losses if weight is None else losses * weight
        found = losses if reduction == "none" else losses.sum()
        if reduction == "mean":
            found = found / losses._data.size
        return found.to(tensors[0].dtype)

    return reference


LOSSES = (
    "mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "balanced_cross_entropy_with_logits", "soft_margin_loss",
)  # fmt: skip

# -- layers ------------------------------------------------------------------------------------


def glu(x: Tensor, dim: int) -> Tensor:
    """The first half times the sigmoid of the second."""
    half = x._data.shape[dim] // 2
    return x.narrow(dim, 0, half) * x.narrow(dim, half, half).sigmoid()


def gates_of(x: Tensor, count: int) -> list[Tensor]:
    """The gates that lie side by side in the last dimension."""
    n = x._data.shape[-1] // count
    return [x.narrow(-1, i * n, n) for i in range(count)]


def lstm_step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """(h, c) after a step of an LSTM cell."""
    i, f, g, o = gates_of(gates, 4)
    new = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * new.tanh(), new


def gru_step(x: Tensor, h: Tensor, before: Tensor) -> Tensor:
    """The state after a step of a GRU cell, from the gates' shares of input and state."""
    (xr, xz, xn), (hr, hz, hn) = gates_of(x, 3), gates_of(h, 3)
    n = (xn + (xr + hr).sigmoid() * hn).tanh()
    return n + (xz + hz).sigmoid() * (before - n)


REFERENCES: dict[str, Callable[..., Any]] = {
    "mean": mean,
    "var": var,
    "std": std,
    "norm": norm,
    "nansum": nansum,
    "logsumexp": logsumexp,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "softmax_backward": softmax_backward,
    "log_softmax_backward": log_softmax_backward,
    "layer_norm": normalise,
    "group_norm": normalise,
    "batch_norm": normalise,
    "instance_norm": normalise,
    "batch_norm_fixed": fixed_normalise,
    "cross_entropy": cross_entropy,
    "nll_loss": nll_loss,
    "glu": glu,
    "lstm_step": lstm_step,
    "gru_step": gru_step,
    **{name: pointwise_loss(name) for name in LOSSES},
}
