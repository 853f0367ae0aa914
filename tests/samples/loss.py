"""Samples of loss functions."""

import itertools
import math

import numpy as np

from tests.samples.common import FLOATS, LOW, A, Sample

F = "nn.functional."


def reduced(loss, reduction, weight=None):
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    return loss.mean() if weight is None else loss.sum() / weight.sum()


def pointwise(formula):
    """A reference: a formula of input and target, times a weight, reduced."""

    def reference(x, t, weight=None, reduction="mean", **settings):
        loss = formula(x, t, **settings)
        return reduced(loss if weight is None else loss * weight, reduction)

    return reference


def smooth(x, t, beta=1.0):
    d = np.abs(x - t)
    return np.where(d < beta, d**2 / (2 * beta) if beta else 0, d - beta / 2)


def huber(x, t, delta=1.0):
    d = np.abs(x - t)
    return np.where(d <= delta, d**2 / 2, delta * (d - delta / 2))


def cross_entropy_of_logits(x, t, pos_weight=1.0):
    s = 1 / (1 + np.exp(-x))
    return -(pos_weight * t * np.log(s) + (1 - t) * np.log(1 - s))


def poisson(x, t, log_input=True, full=False, eps=1e-8):
    loss = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    with np.errstate(all="ignore"):
        stirling = t * np.log(t) - t + 0.5 * np.log(2 * np.pi * t)
    return loss + np.where(t > 1, stirling, 0) if full else loss


def gaussian(x, t, var, full=False, eps=1e-6, reduction="mean"):
    var = np.maximum(var, eps)
    var = var[..., None] if var.ndim < x.ndim else var
    return reduced(
        0.5 * (np.log(var) + (x - t) ** 2 / var) + (0.5 * math.log(2 * math.pi) if full else 0),
        reduction,
    )


def kl_div(x, t, reduction="mean", log_target=False):
    loss = np.exp(t) * (t - x) if log_target else t * (np.log(t) - x)
    return loss.sum() / len(x) if reduction == "batchmean" else reduced(loss, reduction)


def log_softmax(x, dim):
    x = x - x.max(dim, keepdims=True)
    return x - np.log(np.exp(x).sum(dim, keepdims=True))


def nll_loss(x, t, weight=None, ignore_index=-100, reduction="mean"):
    if x.ndim == 1:
        return nll_loss(x[None], np.asarray(t)[None], weight, ignore_index, "sum")
    weight = np.ones(x.shape[1]) if weight is None else weight
    loss, weights = np.zeros(t.shape), np.zeros(t.shape)
    for at in np.ndindex(*t.shape):
        if t[at] != ignore_index:
            weights[at] = weight[t[at]]
            loss[at] = -weights[at] * x[(at[0], t[at], *at[1:])]
    return reduced(loss, reduction, weights)


def cross_entropy(x, t, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    dim = int(x.ndim > 1)
    classes = x.shape[dim]
    logs = log_softmax(x, dim)
    if t.dtype.kind == "f":
        t = t * (1 - label_smoothing) + label_smoothing / classes
        w = np.ones(classes) if weight is None else weight
        loss = -(logs * t * (w.reshape(-1, *[1] * (x.ndim - 2)) if dim else w)).sum(dim)
        return loss.sum() / (x.size / classes) if reduction == "mean" else reduced(loss, reduction)
    hard = nll_loss(logs, t, weight, ignore_index, reduction)
    if not label_smoothing:
        return hard
    w = np.ones(classes) if weight is None else weight
    counts = t != ignore_index
    soft = -(logs * w.reshape(-1, *[1] * (x.ndim - 2))).sum(1) * counts
    met = np.where(counts, w[np.where(counts, t, 0)], 0)
    soft = reduced(soft, reduction, met)
    return (1 - label_smoothing) * hard + label_smoothing / classes * soft


def multi_margin(x, t, p=1, margin=1.0, weight=None, reduction="mean"):
    loss = np.zeros(len(x))
    for i, c in enumerate(t):
        short = np.maximum(0, margin - x[i, c] + np.delete(x[i], c)) ** p
        loss[i] = (short * (1 if weight is None else weight[c])).sum() / x.shape[1]
    return reduced(loss, reduction)


def multilabel_margin(x, t, reduction="mean"):
    loss = np.zeros(len(x))
    for i, row in enumerate(t):
        labels = list(itertools.takewhile(lambda c: c >= 0, row))
        others = [c for c in range(x.shape[1]) if c not in labels]
        loss[i] = sum(max(0, 1 - (x[i, j] - x[i, c])) for j in labels for c in others) / x.shape[1]
    return reduced(loss, reduction)


def cosine(x, y, dim=1, eps=1e-8):
    x, y = np.broadcast_arrays(x, y)
    norms = [np.maximum(np.sqrt((v**2).sum(dim, keepdims=True)), eps) for v in (x, y)]
    return (x / norms[0] * y / norms[1]).sum(dim)


def cosine_embedding(x, y, t, margin=0.0, reduction="mean"):
    c = cosine(x, y, -1)
    return reduced(np.where(t == 1, 1 - c, np.maximum(0, c - margin)), reduction)


def distance(x, y, p=2.0, eps=1e-6, keepdim=False):
    return (np.abs(x - y + eps) ** p).sum(-1, keepdims=keepdim) ** (1 / p)


def triplet(a, p_, n, margin=1.0, p=2, eps=1e-6, swap=False, reduction="mean"):
    far = distance(a, n, p, eps)
    far = np.minimum(far, distance(p_, n, p, eps)) if swap else far
    return reduced(np.maximum(0, margin + distance(a, p_, p, eps) - far), reduction)


def ctc(logs, targets, steps, lengths, blank=0, reduction="mean"):
    """Sums the probability of every path that collapses to the target."""
    losses = []
    for n in range(logs.shape[1]):
        target, total = [int(c) for c in targets[n][: lengths[n]]], 0.0
        for path in itertools.product(range(logs.shape[2]), repeat=steps[n]):
            if [c for c, _ in itertools.groupby(path) if c != blank] == target:
                total += np.exp(sum(logs[t, n, c] for t, c in enumerate(path)))
        losses.append(-np.log(total))
    losses = np.array(losses)
    return (
        (losses / np.maximum(lengths, 1)).mean()
        if reduction == "mean"
        else reduced(losses, reduction)
    )


X, T = A(3, 4), A(3, 4)
PROBABILITY = A(3, 4, low=0.1, high=0.9)
BINARY = A(3, 4, low=0.0, high=1.0, grad=False)
SIGNS = A(3, 4, values=[[1, -1, 1, 1], [-1, 1, -1, -1], [1, 1, -1, 1]], grad=False)
CLASSES = A(3, dtype="int64", values=[1, 3, 0])
SOME = A(3, dtype="int64", values=[1, -100, 0])
W = A(4, low=0.5, high=2.0, grad=False)
NO_REDUCTION = [
    ([X, T], {"reduction": "foo"}, ValueError, "foo is not a valid value for reduction")
]
OUTSIDE = A(3, dtype="int64", values=[1, 7, 0])

SAMPLES = [
    Sample(
        F + name,
        [X, T],
        pointwise(formula),
        kwargs,
        op=op or name,
        errors=NO_REDUCTION if not kwargs else [],
        dtypes=FLOATS + LOW,
        batch=batch,
    )
    for name, formula, kwargs, op, batch in [
        ("mse_loss", lambda x, t: (x - t) ** 2, {}, "", True),
        ("mse_loss", lambda x, t: (x - t) ** 2, {"reduction": "sum"}, "", True),
        ("mse_loss", lambda x, t: (x - t) ** 2, {"reduction": "none"}, "", True),
        ("l1_loss", lambda x, t: np.abs(x - t), {}, "abs", True),
        ("smooth_l1_loss", smooth, {"beta": 0.7}, "", True),
        ("smooth_l1_loss", smooth, {"beta": 0.0, "reduction": "sum"}, "abs", True),
        ("huber_loss", huber, {"delta": 0.8}, "", True),
        ("poisson_nll_loss", poisson, {}, "exp", True),
        ("binary_cross_entropy_with_logits", cross_entropy_of_logits, {}, "", True),
        (
            "binary_cross_entropy_with_logits",
            cross_entropy_of_logits,
            {"reduction": "sum"},
            "",
            True,
        ),
    ]
]
SAMPLES += [
    Sample(
        F + "mse_loss",
        [X, T],
        lambda x, t, weight: ((x - t) ** 2 * weight).sum() / weight.sum(),
        {"weight": A(3, 4, low=0.5, high=2)},
        errors=[([X, T], {"weight": A(2)}, ValueError, "same size")],
    ),
    Sample(
        F + "l1_loss",
        [X, T],
        lambda x, t, weight: (np.abs(x - t) * weight).sum() / weight.sum(),
        {"weight": A(3, 4, low=0.5, high=2)},
    ),
    Sample(
        F + "huber_loss",
        [X, T],
        lambda x, t, weight: (huber(x, t) * weight).mean(),
        {"weight": A(3, 4, low=0.5, high=2)},
        errors=[([X, T], {"delta": 0.0}, RuntimeError, "non-positive")],
    ),
    Sample(
        F + "smooth_l1_loss",
        [X, T],
        pointwise(smooth),
        errors=[([X, T], {"beta": -1.0}, RuntimeError, "negative")],
    ),
    Sample(
        F + "poisson_nll_loss",
        [A(3, 4, low=0.5, high=3), A(3, 4, low=0.3, high=4)],
        pointwise(poisson),
        {"log_input": False, "full": True},
    ),
    Sample(
        F + "gaussian_nll_loss",
        [X, T, A(3, 4, low=0.5, high=2)],
        gaussian,
        {"full": True},
        batch=False,
        errors=[
            ([X, T, A(3, 4, low=-2, high=-1)], ValueError, "negative"),
            ([X, T, A(2, low=1, high=2)], ValueError, "incorrect size"),
            ([X, T, 1.0], {"reduction": "foo"}, ValueError, "not valid"),
        ],
    ),
    Sample(
        F + "gaussian_nll_loss",
        [X, T, A(3, low=0.5, high=2)],
        gaussian,
        {"reduction": "sum"},
        batch=False,
    ),
    Sample(
        F + "binary_cross_entropy",
        [PROBABILITY, PROBABILITY],
        pointwise(lambda x, t: -(t * np.log(x) + (1 - t) * np.log(1 - x))),
        op="binary_cross_entropy",
        errors=[
            ([A(3, 4, low=2, high=3), BINARY], RuntimeError, "between 0 and 1"),
            ([PROBABILITY, A(3, 2)], ValueError, "different to the input size"),
        ],
    ),
    Sample(
        F + "binary_cross_entropy",
        [PROBABILITY, BINARY, W],
        pointwise(lambda x, t: -(t * np.log(x) + (1 - t) * np.log(1 - x))),
        {"reduction": "none"},
    ),
    Sample(
        F + "binary_cross_entropy_with_logits",
        [X, BINARY],
        pointwise(cross_entropy_of_logits),
        {"pos_weight": A(4, low=0.5, high=3), "weight": A(4, low=0.5, high=3)},
        errors=[([X, A(3, 2)], ValueError, "must be the same as input size")],
    ),
    Sample(F + "kl_div", [X, A(3, 4, low=0.1, high=1)], kl_div, {"reduction": "batchmean"}),
    Sample(F + "kl_div", [X, T], kl_div, {"reduction": "sum", "log_target": True}),
    Sample(F + "soft_margin_loss", [X, SIGNS], pointwise(lambda x, t: np.log(1 + np.exp(-t * x)))),
    Sample(
        F + "hinge_embedding_loss",
        [X, SIGNS],
        pointwise(lambda x, t, margin: np.where(t == 1, x, np.maximum(0, margin - x))),
        {"margin": 0.5},
    ),
    Sample(
        F + "margin_ranking_loss",
        [A(3), A(3), A(3, values=[1, -1, 1], grad=False)],
        lambda x, y, t, margin: np.maximum(0, margin - t * (x - y)).mean(),
        {"margin": 0.3},
        errors=[([A(3), A(3), A(3, 1)], RuntimeError, "same dimension")],
    ),
    Sample(
        F + "nll_loss",
        [X, CLASSES, W],
        nll_loss,
        errors=[
            ([X, OUTSIDE], IndexError, "Target 7 is out of bounds"),
            (
                [X, A(2, dtype="int64")],
                ValueError,
                r"Expected input batch_size \(3\) to match target "
                r"batch_size \(2\)",
            ),
            ([X, A(3)], RuntimeError, "expected target dtype to be Long or Byte"),
            (
                [X, CLASSES, A(3)],
                RuntimeError,
                "weight tensor should be defined either for all 4 classes",
            ),
            (
                [A(2, 3, 4), A(2, 5, dtype="int64")],
                RuntimeError,
                r"Expected target size \[2, 4\], got "
                r"\[2, 5\]",
            ),
        ],
    ),
    Sample(F + "nll_loss", [X, SOME], nll_loss, {"reduction": "sum"}),
    Sample(
        F + "nll_loss",
        [A(2, 3, 4), A(2, 4, dtype="int64", low=0, high=2)],
        nll_loss,
        {"reduction": "none"},
    ),
    Sample(
        F + "cross_entropy",
        [X, CLASSES],
        cross_entropy,
        dtypes=FLOATS + LOW,
        errors=[
            ([X, OUTSIDE], IndexError, "Target 7 is out of bounds"),
            (
                [X, CLASSES],
                {"label_smoothing": 1.5},
                RuntimeError,
                "label_smoothing must be between",
            ),
            ([X, A(3, 4)], {"ignore_index": 1}, RuntimeError, "ignore_index is not supported"),
            ([A(3, 4, dtype="int64"), CLASSES], NotImplementedError, "not implemented"),
        ],
    ),
    Sample(F + "cross_entropy", [X, SOME, W], cross_entropy),
    Sample(F + "cross_entropy", [X, CLASSES, W], cross_entropy, {"reduction": "none"}),
    Sample(F + "cross_entropy", [A(4), A(dtype="int64", values=2)], cross_entropy, batch=False),
    Sample(
        F + "cross_entropy",
        [A(2, 3, 2, 2), A(2, 2, 2, dtype="int64", low=0, high=2)],
        cross_entropy,
        {"reduction": "sum"},
    ),
    Sample(F + "cross_entropy", [X, SOME, W], cross_entropy, {"label_smoothing": 0.2}),
    Sample(
        F + "cross_entropy",
        [X, CLASSES],
        cross_entropy,
        {"label_smoothing": 0.2, "reduction": "sum"},
    ),
    Sample(F + "cross_entropy", [X, PROBABILITY, W], cross_entropy, {"label_smoothing": 0.1}),
    Sample(
        F + "cross_entropy",
        [A(2, 3, 4), A(2, 3, 4, low=0, high=1)],
        cross_entropy,
        {"reduction": "none"},
    ),
    Sample(
        F + "linear_cross_entropy",
        [A(3, 5), A(4, 5), CLASSES],
        lambda x, w, t: cross_entropy(x @ w.T, t),
    ),
    Sample(
        F + "multi_margin_loss",
        [X, CLASSES],
        multi_margin,
        {"p": 2, "margin": 0.7},
        batch=False,
        errors=[
            ([X, OUTSIDE], RuntimeError, "out of range"),
            ([X, CLASSES], {"p": 3}, ValueError, "only p == 1 and p == 2"),
        ],
    ),
    Sample(
        F + "multi_margin_loss",
        [X, CLASSES],
        multi_margin,
        {"weight": W, "reduction": "none"},
        batch=False,
    ),
    Sample(
        F + "multilabel_margin_loss",
        [A(2, 4), A(2, 4, dtype="int64", values=[[3, 0, -1, 1], [-1, 2, 1, 0]])],
        multilabel_margin,
        batch=False,
        errors=[
            (
                [A(2, 3), A(2, 3, dtype="int64", values=[[0, 1, 5], [2, -1, 0]])],
                RuntimeError,
                "out of range",
            ),
        ],
    ),
    Sample(
        F + "multilabel_soft_margin_loss",
        [X, BINARY],
        lambda x, t: cross_entropy_of_logits(x, t).mean(1).mean(),
    ),
    Sample(
        F + "cosine_similarity",
        [A(3, 4), A(3, 4)],
        cosine,
        errors=[([A(2, dtype="int64"), A(2, dtype="int64")], RuntimeError, "floating point")],
    ),
    Sample(F + "cosine_similarity", [A(2, 3, 4), A(3, 4)], cosine, {"dim": 2}),
    Sample(F + "pairwise_distance", [A(3, 4), A(3, 4)], distance),
    Sample(F + "pairwise_distance", [A(3, 4), A(3, 4)], distance, {"p": 3.0, "keepdim": True}),
    Sample(
        F + "cosine_embedding_loss",
        [A(3, 4), A(3, 4), A(3, values=[1, -1, -1], grad=False)],
        cosine_embedding,
        {"margin": 0.1},
        errors=[([A(3, 4), A(3, 4), A(3, 4)], RuntimeError, "target tensor")],
    ),
    Sample(
        F + "triplet_margin_loss",
        [A(3, 4), A(3, 4), A(3, 4)],
        triplet,
        {"swap": True, "margin": 0.7},
        errors=[
            (
                [A(3, 4), A(3, 4), A(3, 4)],
                {"margin": 0},
                ValueError,
                "margin must be greater than 0",
            ),
            ([A(3, 4), A(3, 4), A(4)], RuntimeError, "same number of dimensions"),
        ],
    ),
    Sample(F + "triplet_margin_with_distance_loss", [A(3, 4), A(3, 4), A(3, 4)], triplet),
    Sample(
        F + "ctc_loss",
        [
            A(4, 2, 3),
            A(2, 2, dtype="int64", values=[[1, 1], [2, 0]]),
            A(2, dtype="int64", values=[4, 3]),
            A(2, dtype="int64", values=[2, 1]),
        ],
        ctc,
        gradient=False,
        batch=False,
        errors=[
            ([A(4, 2, 3), A(2, 2, dtype="int64"), [5, 4], [2, 2]], RuntimeError, "input_lengths"),
            (
                [A(4, 2, 3), A(2, 2, dtype="int64"), [4, 4], [2, 2]],
                {"blank": 9},
                RuntimeError,
                "blank",
            ),
            ([A(4, 2, 3), A(2, 2, dtype="int64"), [4], [2, 2]], RuntimeError, "batch_size"),
        ],
    ),
]
