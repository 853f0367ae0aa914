"""Layers that move pixels and shapes: upsampling, pixel and channel shuffles, flattening. May
import core.
"""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from . import functional as F
from .layer import layer
from .module import Module


@layer
class Upsample(Module):
    """Resizes (N, C, *) to `size` or by `scale_factor`.

    mode: "nearest", "linear" (N, C, L), "bilinear" or "bicubic" (N, C, H, W), "trilinear" (N, C, D,
    H, W).
    """

    size: Any = None
    scale_factor: Any = None
    mode: str = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None

    def prepare(self) -> None:
        """Makes floats of the factors."""
        self.name = type(self).__name__
        factor = self.scale_factor
        if isinstance(factor, tuple):
            self.scale_factor = tuple(float(f) for f in factor)
        elif factor:
            self.scale_factor = float(factor)
        else:
            self.scale_factor = None

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            recompute_scale_factor=self.recompute_scale_factor,
        )

    def extra_repr(self) -> str:
        by_factor = self.scale_factor is not None
        amount = f"scale_factor={self.scale_factor!r}" if by_factor else f"size={self.size!r}"
        return f"{amount}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """`Upsample` of images by repeating pixels."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """`Upsample` of images by bilinear interpolation, corners on corners."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


@layer
class PixelShuffle(Module):
    """Rearranges (*, C * r * r, H, W) into (*, C, H * r, W * r)."""

    upscale_factor: int

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)


@layer
class PixelUnshuffle(Module):
    """Rearranges (*, C, H * r, W * r) into (*, C * r * r, H, W)."""

    downscale_factor: int

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)


@layer
class ChannelShuffle(Module):
    """Takes the channels of (N, C, *) in turns from `groups` groups."""

    groups: int

    def forward(self, input: Tensor) -> Tensor:
        return F.channel_shuffle(input, self.groups)


@layer
class Flatten(Module):
    """Makes one dimension of those from `start_dim` to `end_dim`.

    >>> torch.nn.Flatten()(torch.ones(32, 1, 5, 5)).shape
    torch.Size([32, 25])
    """

    start_dim: int = 1
    end_dim: int = -1

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)


@layer
class Unflatten(Module):
    """Splits one dimension into several: the opposite of `Flatten`."""

    dim: int
    unflattened_size: Any

    def prepare(self) -> None:
        """Checks the sizes."""
        check(
            isinstance(self.dim, int),
            lambda: (
                "unflattened_size must be a tuple of tuples, but found type "
                f"{type(self.unflattened_size).__name__}"
            ),
            TypeError,
        )
        size = self.unflattened_size
        check(
            isinstance(size, (tuple, list)),
            lambda: (
                f"unflattened_size must be a tuple of ints, but found type {type(size).__name__}"
            ),
            TypeError,
        )
        for i, n in enumerate(size):
            if not isinstance(n, int):
                raise TypeError(
                    "unflattened_size must be tuple of ints, but found element of type "
                    f"{type(n).__name__} at pos {i}"
                )

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)
