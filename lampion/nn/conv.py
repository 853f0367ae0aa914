"""Convolutions and their transposes in 1, 2 and 3 dimensions, and `Fold` and `Unfold`. May import
core and ops.

Input (N, C, *) or (C, *); along each spatial dimension of size L the output has
`(L + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1` places, and a transposed one
`(L - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from ..core.tensor import Tensor
from ..errors import check
from . import functional as F, init
from .layer import layer, ntuple
from .linear import reset_bias
from .module import Module
from .names import torch
from .parameter import Parameter

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _ConvNd(Module):
    """What all convolutions share; `spatial` is the number of dimensions that the kernel moves
    along.
    """

    spatial: ClassVar[int]
    function: ClassVar[str]
    transposed: ClassVar[bool] = False

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: str | int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        each = ntuple(self.spatial)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = each(kernel_size), each(stride)
        self.padding: Any = padding if isinstance(padding, str) else each(padding)
        self.dilation, self.groups = each(dilation), groups
        self.output_padding = each(0)
        self.padding_mode = padding_mode
        self._check_settings()
        self._reversed_padding_repeated_twice = self._padding_for_pad()
        self._make_parameters(bias, {"device": device, "dtype": dtype})

    def _check_settings(self) -> None:
        check(self.groups > 0, "groups must be a positive integer", ValueError)
        for name in ("in_channels", "out_channels"):
            check(
                getattr(self, name) % self.groups == 0,
                f"{name} must be divisible by groups",
                ValueError,
            )
        if isinstance(self.padding, str):
            check(
                self.padding in ("same", "valid"),
                lambda: f"Invalid padding string {self.padding!r}, should be one of same, valid",
                ValueError,
            )
            check(
                self.padding == "valid" or all(s == 1 for s in self.stride),
                "padding='same' is not supported for strided convolutions",
                ValueError,
            )
        check(
            self.padding_mode in PADDING_MODES,
            lambda: (
                f"padding_mode must be one of {list(PADDING_MODES)}, but got padding_mode="
                f"'{self.padding_mode}'"
            ),
            ValueError,
        )

    def _padding_for_pad(self) -> list[int]:
        """The padding for `F.pad`: (before, after) of each dimension, the last one first."""
        sides: list[int] = []
        for d in reversed(range(self.spatial)):
            if self.padding == "valid":
                sides += [0, 0]
            elif self.padding == "same":
                total = self.dilation[d] * (self.kernel_size[d] - 1)
                sides += [total // 2, total - total // 2]
            else:
                sides += [self.padding[d]] * 2
        return sides

    def _make_parameters(self, bias: bool, made: dict[str, Any]) -> None:
        outer, inner = self.out_channels, self.in_channels
        if self.transposed:
            outer, inner = inner, outer
        shape = (outer, inner // self.groups, *self.kernel_size)
        self.weight = Parameter(torch.empty(shape, **made))
        if bias:
            self.bias = Parameter(torch.empty(self.out_channels, **made))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight and bias anew, evenly from [-k, k) with `k = 1 / sqrt(fan_in)`."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        reset_bias(self.bias, self.weight)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with a given weight; what subclasses that change the weight call."""
        convolve = getattr(F, self.function)
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = (0,) * self.spatial
        return convolve(input, weight, bias, self.stride, padding, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        text += f", stride={self.stride}"
        zeros, ones = (0,) * self.spatial, (1,) * self.spatial
        for name, default in (
            ("padding", zeros), ("dilation", ones), ("output_padding", zeros), ("groups", 1)
        ):  # fmt: skip
            value = getattr(self, name)
            text += f", {name}={value}" if value != default else ""
        text += ", bias=False" if self.bias is None else ""
        return text + (
            f", padding_mode={self.padding_mode}" if self.padding_mode != "zeros" else ""
        )

    def __setstate__(self, state: dict) -> None:
        super().__setstate__({"padding_mode": "zeros", **state})


class Conv1d(_ConvNd):
    """Convolves signals (N, C_in, L) into (N, C_out, L_out); weight (C_out, C_in / groups,
    kernel_size).
    """

    spatial, function = 1, "conv1d"


class Conv2d(_ConvNd):
    """Convolves images: an output channel is a bias plus all input channels under a kernel.

    Shapes: input (N, C_in, H, W) or (C_in, H, W); weight (C_out, C_in / groups, kH, kW); bias
    (C_out,); output (N, C_out, H_out, W_out). Sizes may be one number or one per dimension.
    padding="same" keeps H and W. `groups` splits the channels into parts that do not see each
    other; `dilation` spreads the kernel out.

    >>> layer = torch.nn.Conv2d(16, 33, 3, stride=2, padding=1)
    >>> layer(torch.ones(20, 16, 50, 100)).shape
    torch.Size([20, 33, 25, 50])
    """

    spatial, function = 2, "conv2d"


class Conv3d(_ConvNd):
    """Convolves volumes (N, C_in, D, H, W); see `Conv2d`."""

    spatial, function = 3, "conv3d"


class _ConvTransposeNd(_ConvNd):
    """What transposed convolutions share: the gradient of a convolution by its input."""

    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        output_padding: int | Sequence[int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check(
            padding_mode == "zeros",
            lambda: f'Only "zeros" padding mode is supported for {type(self).__name__}',
            ValueError,
        )
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip
        self.output_padding = ntuple(self.spatial)(output_padding)

    def _output_padding_for(
        self, input: Tensor, output_size: Sequence[int] | None
    ) -> tuple[int, ...]:
        """What must be added at the end of each dimension to reach `output_size`."""
        if output_size is None:
            return self.output_padding
        count, batch = self.spatial, input.dim() - self.spatial
        size = list(output_size)
        if len(size) == batch + count:
            size = size[batch:]
        check(
            len(size) == count,
            lambda: (
                f"ConvTranspose{count}D: for {input.dim()}D input, output_size must have {count} "
                f"or {batch + count} elements (got {len(size)})"
            ),
            ValueError,
        )
        least = [
            (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
            for n, stride, padding, dilation, kernel in zip(
                input.shape[batch:],
                self.stride,
                self.padding,
                self.dilation,
                self.kernel_size,
                strict=True,
            )
        ]
        most = [n + stride - 1 for n, stride in zip(least, self.stride, strict=True)]
        check(
            all(low <= n <= high for low, n, high in zip(least, size, most, strict=True)),
            lambda: (
                f"requested an output size of {size}, but valid sizes range from {least} to "
                f"{most} (for an input of {input.size()[2:]})"
            ),
            ValueError,
        )
        return tuple(n - low for n, low in zip(size, least, strict=True))

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return getattr(F, self.function)(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self._output_padding_for(input, output_size),
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_ConvTransposeNd):
    """Upsamples signals (N, C_in, L) with a learned kernel (C_in, C_out / groups, kernel_size)."""

    spatial, function = 1, "conv_transpose1d"


class ConvTranspose2d(_ConvTransposeNd):
    """Upsamples images: every input value adds a copy of the kernel, weighted by it, to the output.

    Shapes: input (N, C_in, H, W); weight (C_in, C_out / groups, kH, kW). Several input sizes of a
    convolution give the same output size; `output_padding`, or `output_size` at the call, says
    which one is meant.

    >>> down = torch.nn.Conv2d(16, 16, 3, stride=2, padding=1)
    >>> up = torch.nn.ConvTranspose2d(16, 16, 3, stride=2, padding=1)
    >>> up(down(torch.ones(1, 16, 12, 12)), output_size=(12, 12)).shape
    torch.Size([1, 16, 12, 12])
    """

    spatial, function = 2, "conv_transpose2d"


class ConvTranspose3d(_ConvTransposeNd):
    """Upsamples volumes (N, C_in, D, H, W); see `ConvTranspose2d`."""

    spatial, function = 3, "conv_transpose3d"


@layer
class Unfold(Module):
    """Cuts sliding blocks out of images (N, C, H, W) and makes them columns (N, C * kH * kW,
    blocks).
    """

    kernel_size: Any
    dilation: Any = 1
    padding: Any = 0
    stride: Any = 1

    def forward(self, input: Tensor) -> Tensor:
        return F.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)


@layer
class Fold(Module):
    """Adds the columns of `Unfold` back into images (N, C, *output_size)."""

    output_size: Any
    kernel_size: Any
    dilation: Any = 1
    padding: Any = 0
    stride: Any = 1

    def forward(self, input: Tensor) -> Tensor:
        return F.fold(
            input, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride
        )
