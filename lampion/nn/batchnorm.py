"""Norms with running statistics: `BatchNorm1d` to `3d`, `SyncBatchNorm`, `InstanceNorm1d` to `3d`.

May import core and ops. The statistics are buffers, updated while training and used in evaluation
mode.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from .. import dtypes
from ..core.tensor import Tensor
from ..errors import check
from ..ops.batchnorm import count_batch
from . import functional as F, init
from .module import Module
from .names import torch
from .parameter import Parameter


class _NormBase(Module):
    """Parameters and buffers of both kinds: one weight, bias, mean and variance per channel."""

    _version = 2  # since 2 there is `num_batches_tracked`
    dimensions: ClassVar[tuple[int, ...]] = ()  # the ranks that the input may have

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        made = {"device": device, "dtype": dtype}
        for name, wanted in (("weight", affine), ("bias", affine and bias)):
            value = Parameter(torch.empty(num_features, **made)) if wanted else None
            self.register_parameter(name, value)
        track = track_running_stats
        self.register_buffer("running_mean", torch.zeros(num_features, **made) if track else None)
        self.register_buffer("running_var", torch.ones(num_features, **made) if track else None)
        steps = torch.zeros((), dtype=dtypes.int64) if track else None
        self.register_buffer("num_batches_tracked", steps)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Forgets the statistics: mean 0, variance 1."""
        stats = ((self.running_mean, 0), (self.running_var, 1), (self.num_batches_tracked, 0))
        for statistic, value in stats:
            if statistic is not None:
                statistic.fill_(value)

    def reset_parameters(self) -> None:
        """Forgets the statistics; weight 1, bias 0."""
        self.reset_running_stats()
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        """Raises ValueError for an input of another rank than this norm is for."""
        if input.dim() not in self.dimensions:
            expected = " or ".join(f"{n}D" for n in self.dimensions)
            raise ValueError(f"expected {expected} input (got {input.dim()}D input)")

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )

    def _load_from_state_dict(
        self, state_dict: dict, prefix: str, local_metadata: dict, *rest: Any
    ) -> None:
        version = local_metadata.get("version")
        if (version is None or version < 2) and self.num_batches_tracked is not None:
            state_dict.setdefault(prefix + "num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


class _BatchNorm(_NormBase):
    """Normalizes each channel (dimension 1) over the batch and all places.

    `y = (x - mean) / sqrt(var + eps) * weight + bias`. While training, mean and (biased) variance
    are the batch's, and the running ones move towards it by `momentum` (None: their plain average).
    In evaluation mode the running ones are used.
    """

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        momentum = 0.0 if self.momentum is None else self.momentum
        training, track = self.training, self.track_running_stats
        if training and track:
            steps = self.num_batches_tracked
            if steps is not None:
                count_batch(steps)
                if self.momentum is None:
                    momentum = 1.0 / float(steps)
        weight, bias, mean, var = self._tensors()
        use_batch = training or (mean is None and var is None)
        if training and not track:
            mean = var = None
        return F.batch_norm(input, mean, var, weight, bias, use_batch, momentum, self.eps)

    def _tensors(self) -> tuple[Tensor | None, ...]:
        """Weight, bias, mean and variance, by one look-up each where they lie in their tables."""
        parameters, buffers = self._parameters, self._buffers
        try:
            own = parameters["weight"], parameters["bias"]
            return *own, buffers["running_mean"], buffers["running_var"]
        except KeyError:  # a parametrized weight, or a plain attribute
            return self.weight, self.bias, self.running_mean, self.running_var


class BatchNorm1d(_BatchNorm):
    """Batch normalization of features (N, C) or signals (N, C, L)."""

    dimensions = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalization of images (N, C, H, W): each channel gets mean 0 and variance 1 over N, H
    and W.

    >>> norm = torch.nn.BatchNorm2d(3)
    >>> y = norm(torch.randn(8, 3, 5, 5) * 4 + 7)
    >>> y.shape, bool(y.mean().abs() < 1e-5)
    (torch.Size([8, 3, 5, 5]), True)
    >>> norm.num_batches_tracked
    tensor(1)
    """

    dimensions = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalization of volumes (N, C, D, H, W)."""

    dimensions = (5,)


class SyncBatchNorm(_BatchNorm):
    """Batch normalization over the batches of all processes; in one process as `BatchNorm`."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        process_group: Any = None,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        check(
            input.dim() >= 2,
            lambda: f"expected at least 2D input (got {input.dim()}D input)",
            ValueError,
        )
        check(
            input.size(1) != 0,
            "SyncBatchNorm number of input channels should be non-zero",
            ValueError,
        )

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The model with `SyncBatchNorm` in the place of each batch norm, sharing its tensors."""
        converted = module
        if isinstance(module, _BatchNorm):
            converted = cls(
                module.num_features,
                module.eps,
                module.momentum,
                module.affine,
                module.track_running_stats,
                process_group,
                bias=module.bias is not None,
            )
            converted._parameters.update(module._parameters)
            converted._buffers.update(module._buffers)
            converted.training = module.training
        for name, child in module.named_children():
            converted.add_module(name, cls.convert_sync_batchnorm(child, process_group))
        return converted


class _InstanceNorm(_NormBase):
    """Normalizes each channel of each sample over its places; no statistics or weights unless asked
    for.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias
        )

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        unbatched = input.dim() == min(self.dimensions)
        self._check_channels(input, -max(self.dimensions) + 1)
        out = F.instance_norm(
            input.unsqueeze(0) if unbatched else input,  # (N, C, *)
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or not self.track_running_stats,
            0.0 if self.momentum is None else self.momentum,
            self.eps,
        )
        return out.squeeze(0) if unbatched else out

    def _check_channels(self, input: Tensor, dim: int) -> None:
        size = input.size(dim)
        if size == self.num_features:
            return
        check(
            not self.affine,
            lambda: (
                f"expected input's size at dim={dim + input.dim()} to match num_features "
                f"({self.num_features}), but got: {size}."
            ),
            ValueError,
        )
        warnings.warn(
            f"input's size at dim={dim + input.dim()} does not match num_features. You can "
            "silence this warning by not passing in num_features, which is not used because "
            "affine=False",
            stacklevel=4,
        )


class InstanceNorm1d(_InstanceNorm):
    """Instance normalization of signals (N, C, L) or (C, L)."""

    dimensions = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Instance normalization of images (N, C, H, W) or (C, H, W)."""

    dimensions = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Instance normalization of volumes (N, C, D, H, W) or (C, D, H, W)."""

    dimensions = (4, 5)
