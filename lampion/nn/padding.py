"""Padding of the last 1, 2 or 3 dimensions, as modules. May import core.

`padding` is one number, or (before, after) of the last dimension, then of the one before it, and so
on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..core.tensor import Tensor
from . import functional as F
from .layer import ntuple
from .module import Module


class _PadNd(Module):
    """Pads with values taken from the input itself, as `mode` says."""

    spatial: ClassVar[int]
    mode: ClassVar[str]
    padding: tuple[int, ...]

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__()
        self.padding = ntuple(2 * self.spatial)(padding)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadNd(_PadNd):
    """Pads with one value."""

    mode = "constant"
    value: float

    def __init__(self, padding: int | Sequence[int], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _CircularPadNd(_PadNd):
    """Pads with the values from the other end."""

    mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        count = self.spatial
        if input.dim() not in (count + 1, count + 2):
            raise ValueError(
                f"expected {count + 1}D or {count + 2}D input (got {input.dim()}D input)"
            )
        return super().forward(input)


class _ReflectionPadNd(_PadNd):
    """Pads with the mirror image, the edge itself not repeated."""

    mode = "reflect"


class _ReplicationPadNd(_PadNd):
    """Pads with copies of the edge."""

    mode = "replicate"


class ConstantPad1d(_ConstantPadNd):
    """Pads the last dimension with `value`."""

    spatial = 1


class ConstantPad2d(_ConstantPadNd):
    """Pads the last two dimensions with `value`."""

    spatial = 2


class ConstantPad3d(_ConstantPadNd):
    """Pads the last three dimensions with `value`."""

    spatial = 3


class _ZeroPad(_ConstantPadNd):
    """Pads with zeros."""

    def __init__(self, padding: int | Sequence[int]) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad, ConstantPad1d):
    """Pads the last dimension with zeros."""


class ZeroPad2d(_ZeroPad, ConstantPad2d):
    """Pads the last two dimensions with zeros."""


class ZeroPad3d(_ZeroPad, ConstantPad3d):
    """Pads the last three dimensions with zeros."""


class CircularPad1d(_CircularPadNd):
    """Pads the last dimension with values from its other end."""

    spatial = 1


class CircularPad2d(_CircularPadNd):
    """Pads the last two dimensions with values from their other ends."""

    spatial = 2


class CircularPad3d(_CircularPadNd):
    """Pads the last three dimensions with values from their other ends."""

    spatial = 3


class ReflectionPad1d(_ReflectionPadNd):
    """Pads the last dimension with its mirror image."""

    spatial = 1


class ReflectionPad2d(_ReflectionPadNd):
    """Pads the last two dimensions with their mirror image."""

    spatial = 2


class ReflectionPad3d(_ReflectionPadNd):
    """Pads the last three dimensions with their mirror image."""

    spatial = 3


class ReplicationPad1d(_ReplicationPadNd):
    """Pads the last dimension with copies of its edges."""

    spatial = 1


class ReplicationPad2d(_ReplicationPadNd):
    """Pads the last two dimensions with copies of their edges."""

    spatial = 2


class ReplicationPad3d(_ReplicationPadNd):
    """Pads the last three dimensions with copies of their edges."""

    spatial = 3
