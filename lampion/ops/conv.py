"""Convolutions over one, two and three dimensions. May import rules, conv_kernels, earlier
families, core and the base.

Three bilinear records are each other's derivatives: the convolution of x and w, the gradient of its
input (which is the transposed convolution) and the gradient of its weight; so derivatives of every
order are convolutions again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dispatch import apply
from ..core.graph import STATE
from ..core.inplace import type_name
from ..core.naming import named
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from . import conv_kernels as kernels
from .conv_kernels import Steps
from .matmul import SCALAR_NAMES
from .rules import EXPORTS, move_to_front

# -- arguments ---------------------------------------------------------------------------------


def per_dimension(value: Any, n: int, name: str, operator: str) -> tuple[int, ...]:
    """An int, or a sequence of 1 or n ints, as a tuple of n."""
    if isinstance(value, (int, np.integer)):
        return (int(value),) * n
    values = tuple([int(v) for v in value])
    if len(values) == n:
        return values
    check(
        len(values) == 1,
        lambda: (
            f"[{operator}] expected {name} to be a single integer value or a list of {n} values to "
            f"match the convolution dimensions, but got {name}={list(values)}"
        ),
    )
    return values * n


def check_groups(name: str, w: tuple[int, ...], groups: int) -> None:
    """Raises RuntimeError where the output channels of weights of shape `w` cannot be divided among
    the groups.
    """
    rows = w[0]
    check(groups > 0, lambda: f"[{name}] non-positive groups is not supported, got {groups}")
    check(
        rows >= groups,
        lambda: (
            f"[{name}] Given groups={groups}, expected weight to be at least {groups} at dimension "
            f"0, but got weight of size {list(w)} instead"
        ),
    )
    check(
        rows % groups == 0,
        lambda: (
            f"[{name}] Given groups={groups}, expected weight to be divisible by {groups} at "
            f"dimension 0, but got weight of size {list(w)} instead"
        ),
    )


def check_operands(name: str, x: Tensor, w: Tensor, b: Tensor | None, n: int) -> None:
    """Raises RuntimeError for ranks and types that do not belong together."""
    given = x._data
    if given.ndim not in (n + 1, n + 2):
        raise RuntimeError(
            f"[{name}] Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but "
            f"got input of size: {list(given.shape)}"
        )
    if w._data.ndim != n + 2:
        raise RuntimeError(
            f"[{name}] expects a weight of {n + 2} dimensions, (channels, channels, {n} sizes of "
            f"the kernel), got shape {list(w._data.shape)}"
        )
    if STATE.autocast is not None:
        return
    if given.dtype != w._data.dtype:
        raise RuntimeError(
            f"[{name}] Input type (torch.{type_name(x.dtype)}Tensor) and weight type "
            f"(torch.{type_name(w.dtype)}Tensor) should be the same; convert one with .to()"
        )
    if b is not None and given.dtype != b._data.dtype:
        raise RuntimeError(
            f"[{name}] Input type ({SCALAR_NAMES.get(x.dtype.name)}) and bias type "
            f"({SCALAR_NAMES.get(b.dtype.name)}) should be the same; convert one with .to()"
        )


def check_bias(name: str, w: tuple, b: tuple | None, channels: int, given: str) -> None:
    """Raises RuntimeError unless the bias, of shape `b`, has one number per output channel."""
    check(
        b is None or b == (channels,),
        lambda: (
            f"[{name}] Given {given}weight of size {list(w)}, expected bias to be 1-dimensional "
            f"with {channels} elements, but got bias of size {list(b or ())} instead"
        ),
    )


def check_steps(name: str, stride: tuple, padding: tuple, dilation: tuple) -> None:
    """Raises RuntimeError for steps that lead nowhere."""
    check(min(padding) >= 0, lambda: f"[{name}] negative padding is not supported, got {padding}")
    check(min(stride) > 0, lambda: f"[{name}] non-positive stride is not supported, got {stride}")
    check(
        min(dilation) > 0,
        lambda: f"[{name}] non-positive dilation is not supported, got {dilation}",
    )


# -- records -----------------------------------------------------------------------------------


def like_conv(x: Tensor, w: Tensor, out: tuple, steps: Steps) -> Tensor:
    """conv(x, w) cut to the size `out`: output padding may leave the kernel room for further
    positions.
    """
    y = apply(CONV, x, w, None, steps=steps)
    for d, n in enumerate(out, 2):
        if y._data.shape[d] != n:
            y = y.narrow(d, 0, n)
    return y


def bias_gradient(g: Tensor) -> Tensor:
    """The sum over samples and positions."""
    return g.sum((0, *range(2, g._data.ndim)))


def into_channels(t: Tensor, dim: int | None, size: int, front: bool = False) -> Tensor:
    """A batch of (N, C, ...) as (N, B * C, ...), or of weights (O, ...) as (B * O, ...)."""
    t = t.movedim(dim, 0) if dim is not None else t.expand(size, *t._data.shape)
    t = t if front else t.movedim(0, 1)  # (N, B, C, ...)
    at = 0 if front else 1
    shape = t._data.shape
    return t.reshape(*shape[:at], size * shape[at + 1], *shape[at + 2 :])


def batch_conv(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """One weight for all: the batch joins the samples. Else it joins the channels, as groups."""
    x, w, b = values
    if dims[1] is None and dims[2] is None:
        x = move_to_front(x, dims[0])
        y = apply(op, x.reshape(-1, *x._data.shape[2:]), w, b, **params)
        return y.reshape(size, -1, *y._data.shape[1:]), 0
    steps = params["steps"]
    x, w = into_channels(x, dims[0], size), into_channels(w, dims[1], size, front=True)
    y = apply(op, x, w, None, **{**params, "steps": steps._replace(groups=steps.groups * size)})
    y = y.reshape(y._data.shape[0], size, -1, *y._data.shape[2:])  # (N, B, O, *out)
    if b is not None:
        b = move_to_front(b, dims[2])
        y = y + b.reshape(*b._data.shape, *[1] * (y._data.ndim - 3))
    return y, 1


def batch_conv_weight(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The batch joins the channels, as groups."""
    steps = params["steps"]
    x, z = (into_channels(t, d, size) for t, d in zip(values, dims))
    w = apply(op, x, z, **{**params, "steps": steps._replace(groups=steps.groups * size)})
    return w.reshape(size, -1, *w._data.shape[1:]), 0


CONV = Op(
    "convolution",
    ("x", "w", "b"),
    kernels.conv,
    kind="fused",
    vjp={
        "x": lambda g, w, x_shape, steps: apply(
            CONV_INPUT, g, w.conj(), None, size=x_shape[2:], steps=steps
        ),
        "w": lambda g, x, w_shape, steps: apply(
            CONV_WEIGHT, x.conj(), g, kernel=w_shape[2:], steps=steps
        ),
        "b": bias_gradient,
    },
    batch=batch_conv,
    autocast="lower",
)
CONV_INPUT: Op = Op(
    "convolution_input",
    ("x", "w", "b"),
    kernels.conv_input,
    kind="fused",
    vjp={
        "x": lambda g, w, x_shape, steps: like_conv(g, w.conj(), x_shape[2:], steps),
        "w": lambda g, x, w_shape, steps: apply(
            CONV_WEIGHT, g, x.conj(), kernel=w_shape[2:], steps=steps
        ),
        "b": bias_gradient,
    },
    batch=batch_conv,
    grad_name="ConvolutionBackward0",
    autocast="lower",
)
CONV_WEIGHT: Op = Op(
    "convolution_weight",
    ("x", "z"),
    kernels.conv_weight,
    kind="fused",
    vjp={
        "x": lambda g, z, x_shape, steps: apply(
            CONV_INPUT, z.conj(), g, None, size=x_shape[2:], steps=steps
        ),
        "z": lambda g, x, z_shape, steps: like_conv(x.conj(), g, z_shape[2:], steps),
    },
    batch=batch_conv_weight,
    grad_name="ConvolutionBackwardBackward0",
)

# -- convolution -------------------------------------------------------------------------------


def make_conv(n: int) -> Callable:
    """The convolution over n dimensions."""
    name = f"conv{n}d"

    def function(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        stride = per_dimension(stride, n, "stride", name)
        dilation = per_dimension(dilation, n, "dilation", name)
        check_operands(name, input, weight, bias, n)
        if isinstance(padding, str):
            return conv_named_padding(
                name, input, weight, bias, Steps(stride, (), dilation, groups), padding
            )
        padding = per_dimension(padding, n, "padding", name)
        return general_conv(name, input, weight, bias, Steps(stride, padding, dilation, groups))

    size = ", *size" if n > 1 else ", length"
    doc = f"""The {n}-d cross-correlation of (N, C{size}) with weights (O, C / groups,
    *kernel) -> (N, O, *out).

    Each size becomes `(size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1`; `padding`
    may be "same" or "valid". An input without N is one sample. Raises RuntimeError where channels,
    sizes or types do not fit.
    """
    return named(function, name, doc)


def general_conv(name: str, x: Tensor, w: Tensor, b: Tensor | None, steps: Steps) -> Tensor:
    """Any convolution, its arguments normalised."""
    check_conv(name, x._data.shape, w._data.shape, None if b is None else b._data.shape, steps)
    if x._data.ndim < w._data.ndim:
        return apply(CONV, x.unsqueeze(0), w, b, steps=steps).squeeze(0)
    return apply(CONV, x, w, b, steps=steps)


@functools.lru_cache(1024)
def check_conv(name: str, x: tuple, w: tuple, b: tuple | None, steps: Steps) -> None:
    """Raises RuntimeError where shapes of images, weights and bias do not belong together."""
    check_steps(name, *steps[:3])
    check_groups(name, w, steps.groups)
    if len(x) < len(w):
        x = (1, *x)
    channels, given = w[1] * steps.groups, x[1]
    check(
        given == channels,
        lambda: (
            f"[{name}] Given groups={steps.groups}, weight of size {list(w)}, expected "
            f"input{list(x)} to have {channels} channels, but got {given} channels instead; set "
            f"in_channels={given}"
        ),
    )
    check_bias(name, w, b, w[0], "")
    padded = [s + 2 * p for s, p in zip(x[2:], steps.padding)]
    reach = [d * (k - 1) + 1 for k, d in zip(w[2:], steps.dilation)]
    check(
        all(r <= s for r, s in zip(reach, padded)),
        lambda: (
            f"[{name}] Calculated padded input size per channel: ({' x '.join(map(str, padded))}). "
            f"Kernel size: ({' x '.join(map(str, reach))}). Kernel size can't be greater than "
            "actual input size"
        ),
    )


def conv_named_padding(
    name: str, x: Tensor, w: Tensor, b: Tensor | None, steps: Steps, padding: str
) -> Tensor:
    """A convolution with padding "valid" (none) or "same" (the output is as large as the input)."""
    check(
        padding in ("same", "valid"),
        lambda: f"[{name}] Invalid padding string: {padding!r}; use 'same' or 'valid'",
    )
    kernel = w._data.shape[2:]
    if padding == "valid":
        return general_conv(name, x, w, b, steps._replace(padding=(0,) * len(kernel)))
    check(
        math.prod(steps.stride) == 1,
        lambda: (
            f"[{name}] padding='same' is not supported for strided convolutions, got "
            f"stride={steps.stride}"
        ),
    )
    total = [d * (k - 1) for k, d in zip(kernel, steps.dilation)]
    y = general_conv(name, x, w, b, steps._replace(padding=tuple([-(-t // 2) for t in total])))
    for dim, t in zip(range(-len(kernel), 0), total):
        if (
            t % 2
        ):  # the larger half of the padding is on the right: the first position is one too many
            y = y.narrow(dim, 1, y._data.shape[dim] - 1)
    return y


def make_conv_transpose(n: int) -> Callable:
    """The transposed convolution over n dimensions."""
    name = f"conv_transpose{n}d"

    def function(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        given = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "output_padding": output_padding,
        }
        check(
            not isinstance(padding, str),
            lambda: f"{name}(): argument 'padding' must be tuple of ints, not str",
            TypeError,
        )
        stride, padding, dilation, extra = (per_dimension(v, n, k, name) for k, v in given.items())
        check_operands(name, input, weight, bias, n)
        return general_conv_transpose(
            name, input, weight, bias, Steps(stride, padding, dilation, groups), extra
        )

    doc = f"""The transpose of conv{n}d as a linear map: (N, O, *size) with weights (O,
    C / groups, *kernel) -> (N, C, *out).

    Each size becomes `(size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding
    + 1`. Raises RuntimeError where channels, sizes or types do not fit.
    """
    return named(function, name, doc)


def general_conv_transpose(
    name: str, x: Tensor, w: Tensor, b: Tensor | None, steps: Steps, extra: tuple[int, ...]
) -> Tensor:
    """Any transposed convolution, its arguments normalised; `extra` is the output padding."""
    bias = None if b is None else b._data.shape
    size = transposed_size(name, x._data.shape, w._data.shape, bias, steps, extra)
    if x._data.ndim < w._data.ndim:
        return apply(CONV_INPUT, x.unsqueeze(0), w, b, size=size, steps=steps).squeeze(0)
    return apply(CONV_INPUT, x, w, b, size=size, steps=steps)


@functools.lru_cache(1024)
def transposed_size(
    name: str, x: tuple, w: tuple, b: tuple | None, steps: Steps, extra: tuple[int, ...]
) -> tuple[int, ...]:
    """The size of a transposed convolution's result; raises RuntimeError where shapes of images,
    weights and bias do not belong together.
    """
    check_steps(name, *steps[:3])
    check_groups(name, w, steps.groups)
    if len(x) < len(w):
        x = (1, *x)
    check(
        x[1] == w[0],
        lambda: (
            f"[{name}] Given transposed=1, weight of size {list(w)}, expected input{list(x)} to "
            f"have {w[0]} channels, but got {x[1]} channels instead"
        ),
    )
    check_bias(name, w, b, w[1] * steps.groups, "transposed=1, ")
    check(
        all(0 <= e < max(s, d) for e, s, d in zip(extra, steps.stride, steps.dilation)),
        lambda: (
            f"[{name}] output padding must be smaller than either stride or dilation, but got "
            f"output_padding: {extra} stride: {steps.stride} dilation: {steps.dilation}"
        ),
    )
    size = tuple(
        (i - 1) * s - 2 * p + d * (k - 1) + e + 1
        for i, k, s, p, d, e in zip(x[2:], w[2:], *steps[:3], extra)
    )
    check(
        min(size) > 0,
        lambda: (
            f"[{name}] Given input size per channel: {tuple(x[2:])}. Calculated output "
            f"size per channel: {size}. Output size is too small"
        ),
    )
    return size


for _n in (1, 2, 3):
    for _function in (make_conv(_n), make_conv_transpose(_n)):
        EXPORTS["nn.functional"][_function.__name__] = EXPORTS["torch"][_function.__name__] = (
            _function
        )
conv1d = EXPORTS["nn.functional"]["conv1d"]


def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Tensor:
    """Any convolution, transposed or not; the number of dimensions is the weight's."""
    n = weight._data.ndim - 2
    given = {
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "output_padding": output_padding,
    }
    stride, padding, dilation, extra = (
        per_dimension(v, n, k, "convolution") for k, v in given.items()
    )
    steps = Steps(stride, padding, dilation, groups)
    if transposed:
        return general_conv_transpose("convolution", input, weight, bias, steps, extra)
    return general_conv("convolution", input, weight, bias, steps)


def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """A 1-d convolution with time first: (T, N, C) with weights (kernel, C, O) -> (T', N, O)."""
    y = conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return y.permute(2, 0, 1)


EXPORTS["torch"].update(convolution=convolution, conv_tbc=conv_tbc)
EXPORTS["nn.functional"]["conv_tbc"] = conv_tbc
