"""Normalisation: over the batch, the features, groups of channels or single images. May import
rules, earlier families, core and the base.

One fused record does them all: subtract the mean over `dims`, divide by the standard deviation,
scale and shift. `dims` count from the end. Its gradient is a closed formula, on arrays in three
passes, on tensors where it must be differentiable again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

from ..core.dispatch import apply
from ..core.graph import DIRECT, STATE
from ..core.op import Op
from ..core.tensor import Tensor, wrap
from ..dtypes import finfo
from ..errors import check
from .norm_kernels import norm_gradient_kernel, norm_kernel, seen_as
from .pad import pad
from .rules import EXPORTS, move_to_front

# -- the record --------------------------------------------------------------------------------

FUNCTIONAL = EXPORTS["nn.functional"]


def norm_gradient(g, x, w, b_shape, mean, variance, dims, shape, view, eps, needs):  # type: ignore[no-untyped-def]
    """The gradients of x, w and b: fast on arrays, or with public operators where they are
    recorded.
    """
    if STATE.mode == DIRECT:
        g, x, w, mean, variance = [
            None if t is None else t._data for t in (g, x, w, mean, variance)
        ]
        grads = norm_gradient_kernel(g, x, w, mean, variance, dims, shape, view, eps, needs)
        shapes = (x.shape, None if w is None else w.shape, b_shape)
        return [None if a is None else wrap(a.reshape(s)) for a, s in zip(grads, shapes)]
    g, seen = seen_as(g, view), seen_as(x, view)
    if STATE.grad:  # the statistics depend on x; those saved have no derivative
        mean = seen.mean(dims, keepdim=True)
        variance = ((seen - mean) * (seen - mean)).mean(dims, keepdim=True)
    scale = (variance + eps).rsqrt()
    n = (seen - mean) * scale
    summed = [d for d in range(-g._data.ndim, 0) if -d > len(shape) or shape[d] == 1]
    gw, gb = g * n if needs[1] else None, g if needs[2] else None
    if summed:  # an empty list would mean all dimensions
        gw, gb = [None if t is None else t.sum(summed) for t in (gw, gb)]
    gx = g if w is None else g * w.reshape(shape)
    along = (gx * n).mean(dims, keepdim=True)
    gx = gx - gx.mean(dims, keepdim=True)  # names are reused, so that memory is
    n = n * along
    gx = (gx - n) * scale
    return (
        gx.reshape(x._data.shape),
        None if gw is None else gw.reshape(w._data.shape),
        None if gb is None else gb.reshape(b_shape),
    )


def beside_channels(t: Tensor, dim: int | None, ndim: int, shape: tuple[int, ...]) -> Tensor:
    """A vector, or a batch of vectors, of numbers per channel, aligned with a batch of arrays of
    `ndim` dimensions.
    """
    if dim is None:
        return t.reshape(shape)
    t = move_to_front(t, dim)
    return t.reshape(t._data.shape[0], *(1,) * (ndim - len(shape)), *shape)


def norm_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Batched weights are applied afterwards: each sample has its own."""
    x = values[0].unsqueeze(0) if dims[0] is None else move_to_front(values[0], dims[0])
    if dims[1] is None and dims[2] is None:
        return apply(op, x, *values[1:], **params), (0, 0, 0)
    y, mean, variance = apply(op, x, None, None, **params)
    seen = seen_as(y, params["view"])
    for t, d, combine in zip(values[1:], dims[1:], (Tensor.__mul__, Tensor.__add__)):
        if t is not None:
            seen = combine(seen, beside_channels(t, d, seen._data.ndim - 1, params["shape"]))
    y = seen.reshape(seen._data.shape[0], *x._data.shape[1:])
    return (y, *[t.expand(size, *t._data.shape[1:]) for t in (mean, variance)]), (0, 0, 0)


def norm_op(name: str, grad_name: str) -> Op:
    """A record of the fused normalisation, under the name of one of its uses."""
    return Op(
        name,
        ("x", "w", "b"),
        norm_kernel,
        kind="fused",
        vjp=norm_gradient,
        batch=norm_batch,
        outputs=("y", "mean", "variance"),
        constant_outputs=("mean", "variance"),
        grad_name=grad_name,
        autocast="float32 on cuda" if "batch" not in name else None,
    )


LAYER_NORM = norm_op("layer_norm", "NativeLayerNormBackward0")
GROUP_NORM = norm_op("group_norm", "NativeGroupNormBackward0")


# -- layer, group and root-mean-square normalisation -------------------------------------------


def check_floating(name: str, x: Tensor) -> None:
    """Raises NotImplementedError for a type that is not floating."""
    if not x.is_floating_point():
        raise NotImplementedError(f'"{name}" not implemented for {x.dtype}; convert with .float()')


def check_values_per_channel(shape: Sequence[int], printed: type = list) -> None:
    """Raises ValueError where a single value would be normalised by its own mean; its message shows
    the shape as `printed`.
    """
    if shape[0] * math.prod(shape[2:]) == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {printed(shape)}"
        )


def check_features(
    x: Tensor, shape: tuple[int, ...], w: Tensor | None, b: Tensor | None = None
) -> None:
    """Raises RuntimeError unless the input ends with `shape` and the weights have it."""
    given = x._data.shape
    fits = shape and given[-len(shape) :] == shape
    if fits and (w is None or w._data.shape == shape) and (b is None or b._data.shape == shape):
        return
    if not shape:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one "
            "element, but got normalized_shape = []"
        )
    for what, t in (("weight", w), ("bias", b)):
        if t is not None and t._data.shape != shape:
            raise RuntimeError(
                f"Expected {what} to be of same shape as normalized_shape, but got {what} of shape "
                f"{list(t._data.shape)} and normalized_shape = {list(shape)}"
            )
    raise RuntimeError(
        f"Given normalized_shape={list(shape)}, expected input with shape [*, "
        f"{', '.join(map(str, shape))}], but got input of size{list(given)}"
    )


def features(normalized_shape: Any) -> tuple[int, ...]:
    """`normalized_shape` as a tuple; raises TypeError for what is no sequence of ints."""
    if not isinstance(normalized_shape, Sequence):
        raise TypeError(
            "[layer_norm] argument 'normalized_shape' must be tuple of ints, not "
            f"{type(normalized_shape).__name__}; pass (features,)"
        )
    return tuple(map(operator.index, normalized_shape))


def layer_statistics(
    x: Tensor, shape: tuple, w: Tensor | None, b: Tensor | None, eps: float
) -> tuple:
    """Layer normalisation: the result, the means and the variances."""
    check_features(x, shape, w, b)
    check_floating("LayerNormKernelImpl", x)
    return apply(
        LAYER_NORM, x, w, b, dims=tuple(range(-len(shape), 0)), shape=shape, view=(), eps=eps
    )


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-05,
) -> Tensor:
    """`(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimensions,
    `normalized_shape`.
    """
    return layer_statistics(input, features(normalized_shape), weight, bias, eps)[0]


def torch_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-05,
    cudnn_enable: bool = True,
) -> Tensor:
    """`nn.functional.layer_norm`."""
    return layer_norm(input, normalized_shape, weight, bias, eps)


def native_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer normalisation with the means and inverse deviations."""
    y, mean, variance = layer_statistics(input, features(normalized_shape), weight, bias, eps)
    return y, mean.to(input.dtype), (variance + eps).rsqrt().to(input.dtype)


def group_statistics(
    x: Tensor, groups: int, w: Tensor | None, b: Tensor | None, eps: float
) -> tuple:
    """Group normalisation: the result, the means and the variances."""
    shape = x._data.shape
    check(
        len(shape) >= 2,
        lambda: f"Expected at least 2 dimensions for input tensor but received {len(shape)}",
    )
    channels = shape[1]
    check(
        channels % groups == 0,
        lambda: (
            "Expected number of channels in input to be divisible by num_groups, but got input of "
            f"shape {list(shape)} and num_groups={groups}"
        ),
    )
    for what, t in (("weight", w), ("bias", b)):
        check(
            t is None or t._data.shape == (channels,),
            lambda what=what, t=t: (
                f"Expected {what} to be a vector of size equal to the number of channels in input, "
                f"but got {what} of shape {list(t._data.shape)} and input of shape {list(shape)}"
            ),
        )
    check_floating("GroupNormKernelImpl", x)
    view = (groups, channels // groups, *shape[2:])
    dims = tuple(range(1 - len(view), 0))
    return apply(
        GROUP_NORM,
        x,
        w,
        b,
        dims=dims,
        shape=(*view[:2], *[1] * (len(shape) - 2)),
        view=view,
        eps=eps,
    )


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-05,
) -> Tensor:
    """Normalises each of `num_groups` groups of channels of each sample of (N, C, ...)."""
    n, c, *rest = input._data.shape if input._data.ndim > 1 else (0, 0)
    check_values_per_channel([n * c // num_groups, num_groups, *rest])
    return group_statistics(input, num_groups, weight, bias, eps)[0]


def torch_group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-05,
    cudnn_enabled: bool = True,
) -> Tensor:
    """`nn.functional.group_norm`."""
    return group_norm(input, num_groups, weight, bias, eps)


def native_group_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Group normalisation with the means and inverse deviations, (N, groups) each."""
    y = group_statistics(input, group, weight, bias, eps)[0]
    x = input.reshape(N, group, C // group * HxW)
    return (
        y,
        x.mean(-1),
        (x.var(-1, correction=0) + eps).rsqrt(),
    )  # unlike the others' these have a gradient


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimensions; eps is the type's own where
    none is given.
    """
    shape = features(normalized_shape)
    check_features(input, shape, weight)
    x = input.float() if input._data.dtype.itemsize < 4 else input
    mean = x.pow(2).mean(tuple(range(-len(shape), 0)), keepdim=True)
    y = x * (mean + (finfo(x.dtype).eps if eps is None else eps)).rsqrt()
    return (y if weight is None else y * weight).to(input.dtype)


def local_response_norm(
    input: Tensor, size: int, alpha: float = 0.0001, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """`x / (k + alpha * mean(x^2))^beta`, the mean being over `size` neighbouring channels."""
    ndim = input._data.ndim
    check(
        ndim >= 3,
        lambda: f"Expected 3D or higher dimensionality input (got {ndim} dimensions)",
        ValueError,
    )
    if input._data.size == 0:
        return input
    squares = (input * input).flatten(2).unsqueeze(1)  # (N, 1, C, L)
    squares = pad(squares, (0, 0, size // 2, (size - 1) // 2))
    means = FUNCTIONAL["avg_pool2d"](squares, (size, 1), stride=1).reshape(input._data.shape)
    return input / (means * alpha + k).pow(beta)


def normalize(
    input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """`x / max(norm(x), eps)` along a dimension."""
    norm = input.norm(p, dim, keepdim=True).clamp_min(eps)
    return EXPORTS["torch"]["div"](input, norm.expand_as(input), out=out)


FUNCTIONAL.update(
    layer_norm=layer_norm,
    group_norm=group_norm,
    rms_norm=rms_norm,
    local_response_norm=local_response_norm,
    normalize=normalize,
)
EXPORTS["torch"].update(
    layer_norm=torch_layer_norm,
    native_layer_norm=native_layer_norm,
    group_norm=torch_group_norm,
    native_group_norm=native_group_norm,
    rms_norm=rms_norm,
)
