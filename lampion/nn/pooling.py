"""Pooling as modules: each is its settings and one function. May import core.

Input (N, C, *) or (C, *). Sizes are one number or one per dimension; `stride` is the kernel size if
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..core.tensor import Tensor
from ..errors import check
from . import functional as F
from .layer import ntuple, single
from .module import Module

Sizes = int | Sequence[int]


class _MaxPoolNd(Module):
    """The largest value under a sliding window; with `return_indices` also where it stands."""

    function: ClassVar[str]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding, self.dilation = kernel_size, padding, dilation
        self.stride = kernel_size if stride is None else stride
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        return getattr(F, self.function)(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPoolNd):
    """The largest value under a window that slides along (N, C, L)."""

    function = "max_pool1d"


class MaxPool2d(_MaxPoolNd):
    """The largest value under a window that slides over (N, C, H, W).

    >>> torch.nn.MaxPool2d(2)(torch.ones(1, 3, 8, 6)).shape
    torch.Size([1, 3, 4, 3])
    """

    function = "max_pool2d"


class MaxPool3d(_MaxPoolNd):
    """The largest value under a window that slides through (N, C, D, H, W)."""

    function = "max_pool3d"


class _MaxUnpoolNd(Module):
    """Puts the values of a max pool back where they stood, zeros elsewhere."""

    spatial: ClassVar[int]

    def __init__(self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0) -> None:
        super().__init__()
        each = ntuple(self.spatial)
        self.kernel_size, self.padding = each(kernel_size), each(padding)
        self.stride = each(kernel_size if stride is None else stride)

    def forward(
        self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None
    ) -> Tensor:
        unpool = getattr(F, f"max_unpool{self.spatial}d")
        return unpool(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpoolNd):
    """The partial inverse of `MaxPool1d`."""

    spatial = 1


class MaxUnpool2d(_MaxUnpoolNd):
    """The partial inverse of `MaxPool2d`."""

    spatial = 2


class MaxUnpool3d(_MaxUnpoolNd):
    """The partial inverse of `MaxPool3d`."""

    spatial = 3


class _AvgPoolNd(Module):
    """The mean under a sliding window.

    `count_include_pad` lets padding count as zeros; `divisor_override` divides by another number
    than the size.
    """

    function: ClassVar[str]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        return getattr(F, self.function)(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPoolNd):
    """The mean under a window that slides along (N, C, L)."""

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        stride = kernel_size if stride is None else stride
        super().__init__(
            single(kernel_size), single(stride), single(padding), ceil_mode, count_include_pad
        )

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )


class AvgPool2d(_AvgPoolNd):
    """The mean under a window that slides over (N, C, H, W).

    >>> torch.nn.AvgPool2d(2)(torch.ones(1, 3, 8, 6)).shape
    torch.Size([1, 3, 4, 3])
    """

    function = "avg_pool2d"


class AvgPool3d(_AvgPoolNd):
    """The mean under a window that slides through (N, C, D, H, W)."""

    function = "avg_pool3d"


class _FractionalMaxPoolNd(Module):
    """Max pooling over windows whose places are drawn at random (Graham, 2015)."""

    spatial: ClassVar[int]

    def __init__(
        self,
        kernel_size: Sizes,
        output_size: Sizes | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> None:
        super().__init__()
        name, each = type(self).__name__, ntuple(self.spatial)
        self.kernel_size = each(kernel_size)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        self.output_size = None if output_size is None else each(output_size)
        self.output_ratio = None if output_ratio is None else each(output_ratio)
        check(
            output_size is not None or output_ratio is not None,
            f"{name} requires specifying either an output size, or a pooling ratio",
            ValueError,
        )
        check(
            output_size is None or output_ratio is None,
            "only one of output_size and output_ratio may be specified",
            ValueError,
        )
        check(
            all(0 < r < 1 for r in self.output_ratio or ()),
            lambda: f"output_ratio must be between 0 and 1 (got {output_ratio})",
            ValueError,
        )

    def forward(self, input: Tensor) -> Any:
        pool = getattr(F, f"fractional_max_pool{self.spatial}d")
        return pool(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            _random_samples=self._random_samples,
        )


class FractionalMaxPool2d(_FractionalMaxPoolNd):
    """Max pooling of (N, C, H, W) to `output_size` or to a share `output_ratio` of its size."""

    spatial = 2


class FractionalMaxPool3d(_FractionalMaxPoolNd):
    """Max pooling of (N, C, D, H, W) to `output_size` or to a share `output_ratio` of its size."""

    spatial = 3


class _LPPoolNd(Module):
    """`sum(x ** p) ** (1 / p)` under a sliding window, `p = norm_type`."""

    function: ClassVar[str]

    def __init__(
        self,
        norm_type: float,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.norm_type, self.kernel_size = norm_type, kernel_size
        self.stride, self.ceil_mode = stride, ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        pool = getattr(F, self.function)
        return pool(input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPoolNd):
    """Power-average pooling of (N, C, L)."""

    function = "lp_pool1d"


class LPPool2d(_LPPoolNd):
    """Power-average pooling of (N, C, H, W)."""

    function = "lp_pool2d"


class LPPool3d(_LPPoolNd):
    """Power-average pooling of (N, C, D, H, W)."""

    function = "lp_pool3d"


class _AdaptiveAvgPoolNd(Module):
    """The mean over as many windows as `output_size` says; None keeps the size of a dimension."""

    function: ClassVar[str]

    def __init__(self, output_size: int | None | Sequence[int | None]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return getattr(F, self.function)(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    """Averages (N, C, L) to (N, C, output_size)."""

    function = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    """Averages (N, C, H, W) to (N, C, *output_size), whatever H and W are.

    >>> torch.nn.AdaptiveAvgPool2d(1)(torch.ones(2, 3, 7, 5)).shape
    torch.Size([2, 3, 1, 1])
    """

    function = "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd):
    """Averages (N, C, D, H, W) to (N, C, *output_size)."""

    function = "adaptive_avg_pool3d"


class _AdaptiveMaxPoolNd(Module):
    """The largest value of each of as many windows as `output_size` says."""

    function: ClassVar[str]

    def __init__(
        self, output_size: int | None | Sequence[int | None], return_indices: bool = False
    ) -> None:
        super().__init__()
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, input: Tensor) -> Any:
        return getattr(F, self.function)(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """The largest values of (N, C, L) in `output_size` windows."""

    function = "adaptive_max_pool1d"


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """The largest values of (N, C, H, W) in `output_size` windows."""

    function = "adaptive_max_pool2d"


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    """The largest values of (N, C, D, H, W) in `output_size` windows."""

    function = "adaptive_max_pool3d"
