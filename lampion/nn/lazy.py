"""Layers that learn the size of their input from the first one they see. May import core and ops.

Their parameters have no shape until then; afterwards the module is of the ordinary class
(`cls_to_become`).
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from ..core.tensor import Tensor
from ..dtypes import int64
from ..errors import check
from . import batchnorm, conv
from .batchnorm import _NormBase
from .conv import _ConvNd
from .linear import Linear
from .module import Module
from .names import torch
from .parameter import UninitializedBuffer, UninitializedParameter, is_lazy


class LazyModuleMixin(Module):
    """Gives a module a first call: `initialize_parameters` gives shapes to what has none.

    A subclass inherits from the mixin and from the module that it becomes, names the latter in
    `cls_to_become` and makes `UninitializedParameter`s in its `__init__`.
    """

    cls_to_become: ClassVar[type[Module] | None] = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.cls_to_become is not None or self.has_uninitialized_params():
            self.initialize_parameters(*args, **kwargs)
            check(
                not self.has_uninitialized_params(),
                lambda: f"module {self._get_name()} has not been fully initialized",
            )
            if self.cls_to_become is not None:
                self.__class__ = self.cls_to_become  # type: ignore[assignment]
        return Module.__call__(self, *args, **kwargs)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Gives parameters and buffers their shapes, from the first input."""
        raise NotImplementedError(
            f"initialize_parameters is not implemented for {type(self).__name__}"
        )

    def has_uninitialized_params(self) -> bool:
        """Whether some parameter or buffer has no shape yet."""
        return any(map(is_lazy, (*self._parameters.values(), *self._buffers.values())))


class _LazyLayer(LazyModuleMixin):
    """A layer with one unknown size, the attribute `unknown`."""

    unknown: ClassVar[str]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of parameters and buffers once the size is known."""
        raise NotImplementedError

    def size_of(self, input: Tensor) -> int:
        """The unknown size, read from an input."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draws parameters that have a shape."""
        if not self.has_uninitialized_params() and getattr(self, self.unknown) != 0:
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Gives parameters and buffers shapes and draws them; loaded ones keep their values."""
        fresh = self.has_uninitialized_params()
        if getattr(self, self.unknown) == 0:
            setattr(self, self.unknown, self.size_of(input))
        for name, shape in self.shapes().items():
            value = getattr(self, name)
            if is_lazy(value):
                value.materialize(shape)
        if fresh:
            self.reset_parameters()

    def leave_unshaped(self, *names: str, **made: Any) -> None:
        """Puts parameters without a shape under these names."""
        for name in names:
            setattr(self, name, UninitializedParameter(**made))


class LazyLinear(_LazyLayer, Linear):
    """A `Linear` whose `in_features` is the last size of the first input.

    >>> layer = torch.nn.LazyLinear(3)
    >>> layer(torch.ones(2, 5)).shape, layer
    (torch.Size([2, 3]), Linear(in_features=5, out_features=3, bias=True))
    """

    cls_to_become, unknown = Linear, "in_features"

    def __init__(
        self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(0, 0, False)
        self.out_features = out_features
        self.leave_unshaped("weight", *["bias"] * bias, device=device, dtype=dtype)

    def size_of(self, input: Tensor) -> int:
        """The last size of the input."""
        return input.shape[-1]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Weight and bias of a linear layer."""
        return {"weight": (self.out_features, self.in_features), "bias": (self.out_features,)}


class _LazyConvXdMixin(_LazyLayer, _ConvNd):
    """A convolution whose `in_channels` is the number of channels of the first input."""

    unknown = "in_channels"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        become: Any = self.cls_to_become
        settings = inspect.signature(become.__init__).bind(self, 0, *args, **kwargs)
        settings.apply_defaults()
        given = dict(settings.arguments)
        settings.arguments |= {"out_channels": 0, "bias": False}
        super().__init__(*settings.args[1:])
        self.out_channels = given["out_channels"]
        names = ["weight", "bias"] if given["bias"] else ["weight"]
        self.leave_unshaped(*names, device=given["device"], dtype=given["dtype"])

    def size_of(self, input: Tensor) -> int:
        """The number of channels of a batch or of a single sample."""
        count = self.spatial
        check(
            input.dim() in (count + 1, count + 2),
            lambda: (
                f"Expected {count + 1}D (unbatched) or {count + 2}D (batched) input to "
                f"{type(self).__name__}, but got input of size: {input.shape}"
            ),
        )
        return input.shape[-count - 1]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Weight and bias of a convolution."""
        outer, inner = self.out_channels, self.in_channels
        if self.transposed:
            outer, inner = inner, outer
        weight = (outer, inner // self.groups, *self.kernel_size)
        return {"weight": weight, "bias": (self.out_channels,)}


class _LazyNormBase(_LazyLayer, _NormBase):
    """A norm whose `num_features` is the number of channels of the first input."""

    unknown = "num_features"

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        made = {"device": device, "dtype": dtype}
        super().__init__(0, eps, momentum, False, False, **made, bias=False)
        self.affine, self.track_running_stats = affine, track_running_stats
        if affine:
            self.leave_unshaped("weight", *["bias"] * bias, **made)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(**made)
            self.running_var = UninitializedBuffer(**made)
            self.num_batches_tracked = torch.zeros((), dtype=int64)

    def size_of(self, input: Tensor) -> int:
        """The size of dimension 1."""
        return input.shape[1]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """One number per channel."""
        names = ("weight", "bias", "running_mean", "running_var")
        return dict.fromkeys(names, (self.num_features,))


def lazy(mixin: type, cls: type[Module]) -> type[Module]:
    """The lazy form of a convolution or norm."""
    text = f"`{cls.__name__}` that learns `{mixin.unknown}` from its first input."  # type: ignore[attr-defined]
    members = {"cls_to_become": cls, "__doc__": text, "__module__": __name__}
    made = type(f"Lazy{cls.__name__}", (mixin, cls), members)
    if mixin is _LazyConvXdMixin:
        first, *rest = inspect.signature(cls).parameters.values()
        made.__signature__ = inspect.Signature(rest)  # type: ignore[attr-defined]
    return made


LazyConv1d = lazy(_LazyConvXdMixin, conv.Conv1d)
LazyConv2d = lazy(_LazyConvXdMixin, conv.Conv2d)
LazyConv3d = lazy(_LazyConvXdMixin, conv.Conv3d)
LazyConvTranspose1d = lazy(_LazyConvXdMixin, conv.ConvTranspose1d)
LazyConvTranspose2d = lazy(_LazyConvXdMixin, conv.ConvTranspose2d)
LazyConvTranspose3d = lazy(_LazyConvXdMixin, conv.ConvTranspose3d)
LazyBatchNorm1d = lazy(_LazyNormBase, batchnorm.BatchNorm1d)
LazyBatchNorm2d = lazy(_LazyNormBase, batchnorm.BatchNorm2d)
LazyBatchNorm3d = lazy(_LazyNormBase, batchnorm.BatchNorm3d)
LazyInstanceNorm1d = lazy(_LazyNormBase, batchnorm.InstanceNorm1d)
LazyInstanceNorm2d = lazy(_LazyNormBase, batchnorm.InstanceNorm2d)
LazyInstanceNorm3d = lazy(_LazyNormBase, batchnorm.InstanceNorm3d)
