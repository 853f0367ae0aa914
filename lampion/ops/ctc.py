"""Connectionist temporal classification: the loss of a sequence of labels whose alignment is
unknown. May import rules, loss, core and the base. After Graves et al. (2006): sums over alignments
by the forward and backward recursions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from ..core.tensor import Tensor, wrap
from ..errors import check
from .loss import F, chosen_reduction, reduced


class Lattice(NamedTuple):
    """The states of each sample's alignment: its labels with blanks between and around, (N,
    states).
    """

    labels: ndarray
    skip: ndarray  # whether a state may be reached from the one before the last
    exists: ndarray
    states: ndarray  # (N,)


def lattice(targets: ndarray, lengths: ndarray, blank: int) -> Lattice:
    """Lays out targets (N, S), of which the first `lengths` count."""
    n, s = targets.shape
    labels = np.full((n, 2 * s + 1), blank, np.intp)
    labels[:, 1::2] = targets
    states = 2 * lengths + 1
    exists = np.arange(2 * s + 1) < states[:, None]
    labels[~exists] = blank
    skip = np.zeros(labels.shape, bool)
    skip[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return Lattice(labels, skip, exists, states)


def step(before: ndarray, skip: ndarray) -> ndarray:
    """The logarithm of what flows into each state: from itself, the last one and, over a blank, the
    one before.
    """
    nothing = np.full((len(before), 2), -np.inf, before.dtype)
    padded = np.concatenate([nothing, before], 1)
    skipped = np.where(skip, padded[:, :-2], -np.inf)
    return np.logaddexp(np.logaddexp(before, padded[:, 1:-1]), skipped)


def forward_sums(logs: ndarray, way: Lattice, steps: ndarray) -> tuple[ndarray, ndarray]:
    """log alpha (T, N, states), and the loss of each sample."""
    emitted = np.take_along_axis(logs, way.labels[None], 2)  # (T, N, states)
    sums = np.full(emitted.shape, -np.inf, logs.dtype)
    if len(sums):
        sums[0, :, :2] = np.where(way.exists[:, :2], emitted[0, :, :2], -np.inf)
    for t in range(1, len(sums)):
        sums[t] = np.where(way.exists, step(sums[t - 1], way.skip) + emitted[t], -np.inf)
    last = (
        np.take_along_axis(sums, np.maximum(steps - 1, 0)[None, :, None], 0)[0]
        if len(sums)
        else sums.sum(0)
    )
    ends = [
        np.take_along_axis(last, np.maximum(way.states - k, 0)[:, None], 1)[:, 0] for k in (1, 2)
    ]
    total = np.where(way.states > 1, np.logaddexp(*ends), ends[0])
    return sums, np.where(steps > 0, -total, np.where(way.states > 1, np.inf, 0)).astype(logs.dtype)


def loss_kernel(
    logs: ndarray, targets: ndarray, steps: ndarray, lengths: ndarray, blank: int
) -> ndarray:
    """The negative log likelihood of each sample: logs (T, N, C), targets (N, S), steps and lengths
    (N,).
    """
    return forward_sums(logs, lattice(targets, lengths, blank), steps)[1]


def gradient_kernel(
    logs: ndarray, targets: ndarray, steps: ndarray, lengths: ndarray, loss: ndarray, blank: int
) -> ndarray:
    """exp(logs) - (the probability of each label at each step, given the target), zero behind each
    sample's end.

    As PyTorch's, this is the gradient through a log_softmax that made `logs`.
    """
    way = lattice(targets, lengths, blank)
    ahead = forward_sums(logs, way, steps)[0]
    emitted = np.take_along_axis(logs, way.labels[None], 2)
    place = np.arange(way.labels.shape[1])
    ends = (place >= way.states[:, None] - 2) & way.exists
    back = np.full_like(ahead, -np.inf)
    skip = np.zeros_like(way.skip)
    skip[:, :-2] = way.skip[:, 2:]  # seen from behind
    for t in reversed(range(len(logs))):
        following = np.full(ends.shape, -np.inf, logs.dtype) if t + 1 == len(logs) else back[t + 1]
        flow = step(following[:, ::-1], skip[:, ::-1])[:, ::-1]
        start = np.equal(t, steps - 1)[:, None] & ends
        back[t] = np.where(way.exists, np.where(start, 0, flow) + emitted[t], -np.inf)
    both = ahead + back  # (T, N, states)
    gathered = np.full(logs.shape, -np.inf, logs.dtype)
    rows = np.arange(logs.shape[1])
    for s in place:
        label = way.labels[:, s]
        gathered[:, rows, label] = np.logaddexp(gathered[:, rows, label], both[:, :, s])
    g = np.exp(logs) - np.exp(gathered + loss[:, None] - logs)
    return np.where((np.arange(len(logs))[:, None] < steps)[:, :, None], g, 0).astype(logs.dtype)


def no_second_derivative(g: Tensor) -> Tensor:
    """Raises RuntimeError, as PyTorch does."""
    raise RuntimeError("derivative for _ctc_loss_backward is not implemented")


CTC_LOSS = Op(
    "ctc_loss",
    ("logs", "targets", "steps", "lengths"),
    loss_kernel,
    vjp={
        "logs": lambda g, y, logs, targets, steps, lengths, blank: finite(
            apply(CTC_GRADIENT, logs, targets, steps, lengths, y, blank=blank), g
        )
    },
    autocast="float32",
)
CTC_GRADIENT: Op = Op(
    "ctc_loss_gradient",
    ("logs", "targets", "steps", "lengths", "loss"),
    gradient_kernel,
    vjp={"logs": no_second_derivative},
)


def finite(gradient: Tensor, g: Tensor) -> Tensor:
    """The gradient times g, zero where g is, so that a loss of infinity can be taken out."""
    g = g.unsqueeze(-1)
    return (gradient * g).masked_fill(g == 0, 0)


def integers(value: Any) -> Tensor:
    """A tensor of int64 from a tensor or a sequence of numbers."""
    return value.long() if isinstance(value, Tensor) else wrap(np.array(value, np.int64))


def padded_targets(targets: Tensor, lengths: Tensor, samples: int) -> Tensor:
    """Targets (N, S), from that or from all labels one after the other."""
    if targets._data.ndim > 1:
        return targets.long()
    counts = lengths.concrete("ctc_loss")
    check(
        int(counts.sum()) == targets._data.size,
        lambda: (
            f"[ctc_loss] expects as many targets as the target lengths' sum {int(counts.sum())}, "
            f"got {targets._data.size}"
        ),
    )
    rows = np.zeros((samples, max(int(counts.max(initial=0)), 0)), np.int64)
    rows[np.arange(rows.shape[1]) < counts[:, None]] = targets.concrete("ctc_loss")
    return wrap(rows)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """The negative log likelihood of label sequences, summed over all alignments.

    log_probs is (T, N, C) or (T, C); targets are (N, S), (S,) or all labels one after the other. A
    mean divides each sample's loss by its target's length first. `zero_infinity` sets losses of
    impossible targets to 0.
    """
    reduction = chosen_reduction(None, None, reduction)
    single = log_probs._data.ndim == 2
    logs = log_probs.unsqueeze(1) if single else log_probs
    steps, lengths = integers(input_lengths).reshape(-1), integers(target_lengths).reshape(-1)
    time, samples, classes = logs._data.shape
    check(
        logs.is_floating_point(), lambda: f"[ctc_loss] log_probs must be floating, got {logs.dtype}"
    )
    check(
        0 <= blank < classes,
        lambda: f"[ctc_loss] blank must be in label range, got {blank} for {classes} classes",
    )
    for what, t in (("input_lengths", steps), ("target_lengths", lengths)):
        check(
            t._data.size == samples,
            lambda what=what, t=t: (
                f"[ctc_loss] {what} must be of size batch_size {samples}, got {t._data.size}"
            ),
        )
    check(
        not bool(((steps < 0) | (steps > time)).any()),
        lambda: (
            f"[ctc_loss] Expected input_lengths to have value at most {time}, but got "
            f"{steps.tolist()}"
        ),
    )
    if single and targets._data.ndim == 1:
        targets = targets.unsqueeze(0)
    rows = padded_targets(targets, lengths, samples)
    loss = apply(CTC_LOSS, logs, rows, steps, lengths, blank=int(blank))
    if zero_infinity:
        loss = loss.masked_fill(loss == float("inf"), 0)
    if reduction == "mean":
        return (loss / lengths.clamp(min=1).to(loss.dtype)).mean()
    return loss.squeeze(0) if single and reduction == "none" else reduced(loss, reduction)


F["ctc_loss"] = ctc_loss
