"""Dropout: sets elements or whole channels to zero at random. May import rules, random, core and
the base.

Drawn as PyTorch draws: one number for each element (or channel), kept with probability 1 - p, and
scaled by 1 / (1 - p). The alpha forms keep mean and variance of SELU's activations (Klambauer et
al. 2017).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..core.naming import named
from ..core.tensor import Tensor
from ..errors import check
from .create import like
from .draws import BERNOULLI_NUMBER, DROPOUT_NOISE, draw
from .rules import EXPORTS

ALPHA = 1.7580993408473766  # SELU's value far below zero, negated


def drop(
    input: Tensor, p: float, train: bool, inplace: bool, feature: bool = False, alpha: bool = False
) -> Tensor:
    """All forms of dropout; returns `input` itself where there is nothing to drop."""
    if p == 0 or not train or not input._data.size:
        return input
    if p == 1:
        return input.mul_(0) if inplace else input * 0
    check(
        input._data.dtype.kind in "fcV",
        lambda: (
            f"[dropout] result type Float can't be cast to the desired output type {input.dtype}; "
            "convert the input with .float()"
        ),
    )
    shape, dtype, order = like("dropout", input, None, None)
    if feature:
        check(len(shape) >= 2, "Feature dropout requires at least 2 dimensions in the input")
        shape, order = (*shape[:2], *(1,) * (len(shape) - 2)), None
    if alpha:
        return alpha_drop(
            input, draw(BERNOULLI_NUMBER, shape, dtype, None, order, p=1.0 - p), p, inplace
        )
    noise = draw(DROPOUT_NOISE, shape, dtype, None, order, p=p)
    return input.mul_(noise) if inplace else input * noise


def alpha_drop(input: Tensor, kept: Tensor, p: float, inplace: bool) -> Tensor:
    """Dropped elements become -ALPHA; all are then scaled and shifted."""
    a = 1.0 / math.sqrt((ALPHA * ALPHA * p + 1) * (1 - p))
    shift = kept.add(-1).mul_(ALPHA * a).add_(ALPHA * a * p)
    scale = kept.mul_(a)
    return input.mul_(scale).add_(shift) if inplace else (input * scale).add_(shift)


def check_probability(p: float, error: type[Exception]) -> None:
    """Raises unless p is in [0, 1]."""
    check(0.0 <= p <= 1.0, f"dropout probability has to be between 0 and 1, but got {p}", error)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Sets elements to zero with probability `p` and scales the others by 1 / (1 - p), while
    `training`.

    Raises ValueError unless p is in [0, 1].
    """
    check_probability(p, ValueError)
    return drop(input, p, training, inplace)


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Sets whole channels of (N, C, L) or (C, L) to zero."""
    check_probability(p, ValueError)
    dims = input.dim()
    check(
        dims in (2, 3),
        f"dropout1d: Expected 2D or 3D input, but received a {dims}D input. Note that dropout1d "
        "exists to provide channel-wise dropout on inputs with 1 spatial dimension, a channel "
        "dimension, and an optional batch dimension (i.e. 2D or 3D inputs).",
    )
    return drop_channels(input, p, training, inplace, batched=dims == 3)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Sets whole channels of (N, C, H, W) to zero; (N, C, L) has a batch dimension too."""
    check_probability(p, ValueError)
    dims = input.dim()
    if dims not in (3, 4):
        warn_of_dimensions("dropout2d", dims, "2 spatial dimensions", "3D or 4D")
    if dims == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout "
            "behavior is desired - input is interpreted as shape (N, C, L), where C is the channel "
            "dim. This behavior will change in a future release to interpret the input as one "
            "without a batch dimension, i.e. shape (C, H, W). To maintain the 1D channel-wise "
            "dropout behavior, please switch to using dropout1d instead.",
            stacklevel=2,
        )
    return drop(input, p, training, inplace, feature=True)


def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Sets whole channels of (N, C, D, H, W) or (C, D, H, W) to zero."""
    check_probability(p, ValueError)
    dims = input.dim()
    if dims not in (4, 5):
        warn_of_dimensions("dropout3d", dims, "3 spatial dimensions", "4D or 5D")
    return drop_channels(input, p, training, inplace, batched=dims == 5)


def drop_channels(input: Tensor, p: float, training: bool, inplace: bool, batched: bool) -> Tensor:
    """Dropout of channels; without a batch dimension one is added and taken away."""
    if batched:
        return drop(input, p, training, inplace, feature=True)
    dropped = drop(input.unsqueeze(0), p, training, inplace, feature=True)
    return input if inplace else dropped.squeeze(0)


def warn_of_dimensions(name: str, dims: int, space: str, expected: str) -> None:
    """PyTorch's warning about inputs that are not images."""
    warnings.warn(
        f"{name}: Received a {dims}-D input to {name}, which is deprecated and will result in an "
        "error in a future release. To retain the behavior and silence this warning, please use "
        f"dropout instead. Note that {name} exists to provide channel-wise dropout on inputs with "
        f"{space}, a channel dimension, and an optional batch dimension (i.e. {expected} inputs).",
        stacklevel=3,
    )


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Dropout that keeps mean 0 and variance 1, for networks with SELU."""
    check_probability(p, ValueError)
    return drop(input, p, training, inplace, alpha=True)


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """`alpha_dropout` of whole channels."""
    check_probability(p, ValueError)
    return drop(input, p, training, inplace, feature=True, alpha=True)


def native_dropout(input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """(dropped, which were kept): the kept ones scaled by 1 / (1 - p)."""
    kept = input.new_ones(input.shape, dtype=bool)
    if train is not False:
        kept.bernoulli_(1.0 - p)
        return (input * kept).mul_(0.0 if p == 1 else 1 / (1 - p)), kept
    return input.clone(), kept


def raw_form(name: str, feature: bool, alpha: bool, inplace: bool) -> Any:
    """`torch.dropout(input, p, train)` and its like, which `nn.functional` is built on."""

    def call(input: Tensor, p: float, train: bool) -> Tensor:
        check_probability(p, RuntimeError)
        return drop(input, p, train, inplace, feature, alpha)

    return named(call, name, f"`nn.functional.{name.rstrip('_')}` with `p` and `train` given.")


for name, feature, alpha in (
    ("dropout", False, False),
    ("feature_dropout", True, False),
    ("alpha_dropout", False, True),
    ("feature_alpha_dropout", True, True),
):
    EXPORTS["torch"][name] = raw_form(name, feature, alpha, False)
    EXPORTS["torch"][name + "_"] = raw_form(name + "_", feature, alpha, True)
EXPORTS["torch"]["native_dropout"] = native_dropout
EXPORTS["nn.functional"].update(
    dropout=dropout,
    dropout1d=dropout1d,
    dropout2d=dropout2d,
    dropout3d=dropout3d,
    alpha_dropout=alpha_dropout,
    feature_alpha_dropout=feature_alpha_dropout,
)
