"""Gradients of convolutions by hand: `torch.nn.grad`. May import core and ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core.autograd import grad
from ..core.modes import enable_grad
from ..core.naming import named
from ..core.tensor import Tensor
from . import functional as F
from .names import torch


def gradient(
    convolve: Callable, x: Tensor, weight: Tensor, wanted: Tensor, g: Tensor, *settings: Any
) -> Tensor:
    """The gradient of a convolution by one of its operands, `wanted`."""
    with enable_grad():
        wanted.requires_grad_()
        return grad(convolve(x, weight, None, *settings), wanted, g)[0]  # type: ignore[return-value]


def of_input(name: str) -> Callable:
    """`conv2d_input` and its like."""

    def function(
        input_size: Sequence[int],
        weight: Tensor,
        grad_output: Tensor,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        x = torch.zeros(input_size, dtype=grad_output.dtype)
        settings = (stride, padding, dilation, groups)
        return gradient(getattr(F, name), x, weight.detach(), x, grad_output, *settings)

    doc = f"The gradient of `{name}` by its input, a tensor of `input_size`."
    return named(function, f"{name}_input", doc)


def of_weight(name: str) -> Callable:
    """`conv2d_weight` and its like."""

    def function(
        input: Tensor,
        weight_size: Sequence[int],
        grad_output: Tensor,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        weight = torch.zeros(weight_size, dtype=grad_output.dtype)
        settings = (stride, padding, dilation, groups)
        return gradient(getattr(F, name), input.detach(), weight, weight, grad_output, *settings)

    doc = f"The gradient of `{name}` by its weight, a tensor of `weight_size`."
    return named(function, f"{name}_weight", doc)


conv1d_input, conv1d_weight = of_input("conv1d"), of_weight("conv1d")
conv2d_input, conv2d_weight = of_input("conv2d"), of_weight("conv2d")
conv3d_input, conv3d_weight = of_input("conv3d"), of_weight("conv3d")
