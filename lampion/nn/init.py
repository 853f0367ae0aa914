"""How parameters start: `torch.nn.init`. May import core and ops.

Every function fills a tensor in place without recording and returns it, drawing from the generator
in PyTorch's order. Fan-in and fan-out are the sizes of dimensions 1 and 0, times the receptive
field (dimensions 2 and up).
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

from .. import dtypes
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import check
from ..random import Generator
from .names import torch

GAINS = {
    "linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "conv3d": 1.0, "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0, "conv_transpose3d": 1.0, "sigmoid": 1.0, "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0), "selu": 3.0 / 4,
}  # fmt: skip


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance of activations through a nonlinearity; `param` is a slope.

    >>> calculate_gain("leaky_relu", 0.2)
    1.3867504905630728
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        check(
            isinstance(slope, (int, float)) and not isinstance(slope, bool),
            lambda: f"negative_slope {param} not a valid number",
            ValueError,
        )
        return math.sqrt(2.0 / (1 + slope**2))
    check(nonlinearity in GAINS, lambda: f"Unsupported nonlinearity {nonlinearity}", ValueError)
    return GAINS[nonlinearity]


@no_grad()
def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fills with numbers drawn evenly from [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fills with normal numbers."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fills with normal numbers of [a, b]; what falls outside is drawn again.

    Where less than three tenths of the distribution lie inside, even numbers of [a, b] are drawn
    instead and kept with the odds of the density.
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of "
            "values may be incorrect.",
            stacklevel=2,
        )
    above, below = ((1.0 + math.erf((x - mean) / std / math.sqrt(2.0))) / 2.0 for x in (b, a))
    if above - below > 0.3:
        values = _normals_inside(tensor, mean, std, a, b, generator)
    else:
        values = _even_numbers_kept_by_density(tensor, mean, std, a, b, generator)
    return tensor.copy_(values)


def _normals_inside(
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None
) -> Tensor:
    low, high = torch.tensor([a, b], dtype=tensor.dtype).tolist()  # as this type rounds them
    values = tensor.normal_(mean, std, generator=generator)
    while (outside := (values < low) | (values > high)).any():
        again = torch.empty_like(values).normal_(mean, std, generator=generator)
        values = torch.where(outside, again, values)
    return values


def _even_numbers_kept_by_density(
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: Generator | None
) -> Tensor:
    log_peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
    values = tensor
    rejected = torch.ones_like(tensor, dtype=dtypes.bool)
    while rejected.any():
        candidates = torch.empty_like(tensor).uniform_(a, b, generator=generator)
        values = torch.where(rejected, candidates, values)
        log_density = ((candidates - mean) / std).pow(2) * -0.5 - log_peak
        threshold = torch.empty_like(tensor).uniform_(generator=generator).log()
        rejected = rejected & (threshold > log_density)
    return values


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fills with one value."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fills with ones."""
    return constant_(tensor, 1.0)


@no_grad()
def zeros_(tensor: Tensor) -> Tensor:
    """Fills with zeros."""
    return tensor.zero_()


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """Fills a matrix with the identity, as far as it goes."""
    check(tensor.ndim == 2, "Only tensors with 2 dimensions are supported", ValueError)
    tensor.zero_()
    tensor.diagonal().fill_(1)
    return tensor


@no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fills a convolution's weight so that it hands its input channels on, group by group."""
    check(
        tensor.ndim in (3, 4, 5),
        "Only tensors with 3, 4, or 5 dimensions are supported",
        ValueError,
    )
    out_channels, in_channels, *kernel = tensor.shape
    check(out_channels % groups == 0, "dim 0 must be divisible by groups", ValueError)
    per_group = out_channels // groups
    tensor.zero_()
    centre = tuple(size // 2 for size in kernel)
    for group in range(groups):
        for channel in range(min(per_group, in_channels)):
            tensor[(group * per_group + channel, channel, *centre)] = 1
    return tensor


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """(inputs, outputs) that a unit of the layer with this weight is connected to."""
    check(
        tensor.ndim >= 2,
        "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions",
        ValueError,
    )
    outputs, inputs, *kernel = tensor.shape
    return inputs * math.prod(kernel), outputs * math.prod(kernel)


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    """The fan that `mode` names."""
    mode = mode.lower()
    check(
        mode in ("fan_in", "fan_out"),
        lambda: f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']",
        ValueError,
    )
    return _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]


def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fills from [-a, a), `a = gain * sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio, 2010)."""
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fills with normal numbers of `std = gain * sqrt(2 / (fan_in + fan_out))`."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2.0 / float(sum(_calculate_fan_in_and_fan_out(tensor))))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fills from [-b, b), `b = gain * sqrt(3 / fan)` (He et al., 2015); `a` is a slope."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fills with normal numbers of `std = gain / sqrt(fan)`."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fan = _calculate_correct_fan(tensor, mode)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Fills with a random (semi-)orthogonal matrix; dimensions from 1 on count as columns."""
    check(tensor.ndim >= 2, "Only tensors with 2 or more dimensions are supported", ValueError)
    if tensor.numel() == 0:
        return tensor
    rows, columns = tensor.size(0), tensor.numel() // tensor.size(0)
    flat = tensor.new_empty((rows, columns)).normal_(0, 1, generator=generator)
    if rows < columns:
        flat = flat.t()
    q, r = torch.linalg.qr(flat)
    q = q * torch.sign(torch.diagonal(r))  # one of the two signs, evenly
    if rows < columns:
        q = q.t()
    tensor.view_as(q).copy_(q)
    return tensor.mul_(gain)


@no_grad()
def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Fills a matrix with normal numbers; in each column a share `sparsity` of them is zero."""
    check(tensor.ndim == 2, "Only tensors with 2 dimensions are supported", ValueError)
    rows, columns = tensor.shape
    zeros = math.ceil(sparsity * rows)
    tensor.normal_(0, std, generator=generator)
    for column in range(columns):
        tensor[torch.randperm(rows)[:zeros], column] = 0
    return tensor


def deprecated(function: Callable) -> Callable:
    """The same function under its old name, without the underscore."""
    old = function.__name__[:-1]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(
            f"`nn.init.{old}` is now deprecated in favor of `nn.init.{old}_`.",
            FutureWarning,
            stacklevel=2,
        )
        return function(*args, **kwargs)

    call.__name__ = old
    return call


uniform = deprecated(uniform_)
normal = deprecated(normal_)
constant = deprecated(constant_)
eye = deprecated(eye_)
dirac = deprecated(dirac_)
xavier_uniform = deprecated(xavier_uniform_)
xavier_normal = deprecated(xavier_normal_)
kaiming_uniform = deprecated(kaiming_uniform_)
kaiming_normal = deprecated(kaiming_normal_)
orthogonal = deprecated(orthogonal_)
sparse = deprecated(sparse_)
