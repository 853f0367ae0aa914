"""Normalisation with running statistics: over the batch, and over single images. May import rules,
norm, earlier families, core and the base.
"""

from __future__ import annotations

import math

from ..core.dispatch import apply
from ..core.graph import GENERAL, STATE
from ..core.memory import Storage
from ..core.op import Op
from ..core.tensor import Size, Tensor
from ..errors import check
from .norm import FUNCTIONAL, beside_channels, check_floating, check_values_per_channel, norm_op
from .norm_kernels import fixed_norm_kernel
from .rules import EXPORTS, move_to_front

BATCH_NORM = norm_op("batch_norm", "NativeBatchNormBackward0")
INSTANCE_NORM = norm_op("instance_norm", "ViewBackward0")

# -- the batch ---------------------------------------------------------------------------------


def fixed_norm_gradient(g, x, w, b_shape, mean, variance, shape, eps, needs):  # type: ignore[no-untyped-def]
    """The gradients of x, w and b, in public operators."""
    scale = (variance + eps).rsqrt()
    summed = [d for d in range(-g._data.ndim, 0) if -d > len(shape) or shape[d] == 1]
    gw = None
    if needs[1]:
        centred = x - mean.reshape(shape)
        gw = (g * centred).sum(summed).reshape(w._data.shape) * scale
    gx = g * (scale if w is None else scale * w).reshape(shape)
    return gx, gw, g.sum(summed).reshape(b_shape) if needs[2] else None, None, None


def fixed_norm_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Means, variances and weights may each have a batch dimension."""
    x = move_to_front(values[0], dims[0])
    if not any(d is not None for d in dims[1:]):
        return apply(op, x, *values[1:], **params), 0
    ndim = x._data.ndim - (dims[0] is not None)
    w, b, mean, variance = (
        None if t is None else beside_channels(t, d, ndim, params["shape"])
        for t, d in zip(values[1:], dims[1:])
    )
    y = (x - mean) * (variance + params["eps"]).rsqrt()
    y = y if w is None else y * w
    return y if b is None else y + b, 0


FIXED_NORM = Op(
    "batch_norm_fixed",
    ("x", "w", "b", "mean", "variance"),
    fixed_norm_kernel,
    kind="fused",
    vjp=fixed_norm_gradient,
    batch=fixed_norm_batch,
    grad_name="NativeBatchNormBackward0",
)


def check_channels(name: str, channels: int, **tensors: Tensor | None) -> None:
    """Raises RuntimeError unless each tensor has one number per channel."""
    for what, t in tensors.items():
        if t is not None and t._data.size != channels:
            raise RuntimeError(
                f"[{name}] {what} should contain {channels} elements not {t._data.size}"
            )


def batch_statistics(x: Tensor, w: Tensor | None, b: Tensor | None, eps: float) -> tuple:
    """Normalises each channel over the batch and all positions: the result, means and variances."""
    ndim = x._data.ndim
    dims = (-ndim, *range(2 - ndim, 0))
    return apply(
        BATCH_NORM,
        x,
        w,
        b,
        dims=dims,
        shape=(x._data.shape[1], *[1] * (ndim - 2)),
        view=(),
        eps=eps,
    )


def update_running(
    running: Tensor | None, new: Tensor, momentum: float, scale: float = 1.0
) -> None:
    """Moves a running statistic by `momentum` towards `scale * new`, in place and unrecorded."""
    if running is None:
        return
    if STATE.mode == GENERAL or running._data.dtype != new._data.dtype or running._requires_grad:
        new = new.reshape(-1) if scale == 1 else new.reshape(-1) * scale
        running.mul_(1 - momentum).add_(new.to(running.dtype) * momentum)
        return
    data = running._data
    data *= 1 - momentum
    moved = new._data.reshape(-1) * scale
    moved *= momentum
    data += moved
    note_write(running)


def count_batch(batches: Tensor) -> None:
    """Adds one to the number of batches seen, in place and unrecorded."""
    if STATE.mode == GENERAL or batches._requires_grad:
        batches.add_(1)
        return
    batches._data += 1
    note_write(batches)


def note_write(t: Tensor) -> None:
    """Notes that a statistic was written to."""
    if t._storage is None:
        t._storage = Storage()
    t._storage.write("batch_norm")


def general_batch_norm(
    x: Tensor,
    w: Tensor | None,
    b: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple:
    """Batch normalisation: the result and, in training, the batch's means and variances."""
    check_floating("batch_norm", x)
    shape = x._data.shape
    if x._data.size == 0 and (training or len(shape) < 2):
        return x.clone(), None, None
    if len(shape) < 2:
        raise IndexError(
            "Dimension out of range: batch_norm expects an input of shape (N, C, ...), got "
            f"{list(shape)}"
        )
    channels = shape[1]
    check_channels(
        "batch_norm", channels, running_mean=running_mean, running_var=running_var, weight=w, bias=b
    )
    if not training:
        for what, t in (("running_mean", running_mean), ("running_var", running_var)):
            if t is None:
                raise RuntimeError(f"[batch_norm] {what} must be defined in evaluation mode")
        params = {"shape": (channels, *(1,) * (len(shape) - 2)), "eps": eps}
        return apply(FIXED_NORM, x, w, b, running_mean, running_var, **params), None, None
    y, mean, variance = batch_statistics(x, w, b, eps)
    count = x._data.size // channels
    update_running(running_mean, mean, momentum)
    update_running(running_var, variance, momentum, count / max(count - 1, 1))
    return y, mean, variance


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> Tensor:
    """`(x - mean) / sqrt(variance + eps) * weight + bias` for each channel of (N, C, ...).

    In training with the batch's own statistics, which also move the running ones by `momentum`;
    else with the running ones. Raises ValueError for a batch with one value per channel in
    training.
    """
    if training:
        check_values_per_channel(input._data.shape, Size)
        if eps <= 0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    if eps < 0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    return general_batch_norm(
        input, weight, bias, running_mean, running_var, training, momentum, eps
    )[0]


def torch_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    """`nn.functional.batch_norm` in the order of arguments of `torch.batch_norm`."""
    return general_batch_norm(
        input, weight, bias, running_mean, running_var, training, momentum, eps
    )[0]


def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation with the batch's means and inverse deviations, which are empty in
    evaluation.
    """
    y, mean, variance = general_batch_norm(
        input, weight, bias, running_mean, running_var, training, momentum, eps
    )
    if mean is None:
        return y, input.new_zeros(0), input.new_zeros(0)
    return y, mean.view(-1), (variance.view(-1) + eps).rsqrt()


# -- single images -----------------------------------------------------------------------------


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> Tensor:
    """Normalises each channel of each sample over its positions; running statistics are averages
    over the samples.
    """
    if not use_input_stats:
        return general_batch_norm(
            input, weight, bias, running_mean, running_var, False, momentum, eps
        )[0]
    shape = input._data.shape
    count = math.prod(shape[2:])
    check(
        count != 1,
        lambda: f"Expected more than 1 spatial element when training, got input size {Size(shape)}",
        ValueError,
    )
    check_floating("instance_norm", input)
    spatial = tuple(range(2 - len(shape), 0))
    per_channel = (shape[1], *[1] * len(spatial))
    check_channels(
        "instance_norm",
        shape[1],
        running_mean=running_mean,
        running_var=running_var,
        weight=weight,
        bias=bias,
    )
    y, mean, variance = apply(
        INSTANCE_NORM, input, weight, bias, dims=spatial, shape=per_channel, view=(), eps=eps
    )
    update_running(running_mean, mean.mean(0), momentum)
    update_running(running_var, (variance * (count / max(count - 1, 1))).mean(0), momentum)
    return y


def torch_instance_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Tensor:
    """`nn.functional.instance_norm` in the order of arguments of `torch.instance_norm`."""
    return instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


FUNCTIONAL.update(batch_norm=batch_norm, instance_norm=instance_norm)
EXPORTS["torch"].update(
    batch_norm=torch_batch_norm,
    native_batch_norm=native_batch_norm,
    instance_norm=torch_instance_norm,
)
