"""Folding a batch norm into the convolution or linear layer before it, for evaluation. May import
core and ops.
"""

from __future__ import annotations

import copy
from typing import Any

from ...core.tensor import Tensor
from ...errors import check
from ..module import Module
from ..names import torch
from ..parameter import Parameter


def fuse_conv_bn_eval(conv: Module, bn: Module, transpose: bool = False) -> Module:
    """A convolution that does what `conv` and then `bn` do, both in evaluation mode."""
    check(not (conv.training or bn.training), "Fusion only for eval!", AssertionError)
    return fused(conv, bn, fuse_conv_bn_weights, transpose=transpose)


def fuse_linear_bn_eval(linear: Module, bn: Module) -> Module:
    """A linear layer that does what `linear` and then `bn` do, both in evaluation mode."""
    check(not (linear.training or bn.training), "Fusion only for eval!", AssertionError)
    check(
        linear.out_features == bn.num_features or bn.num_features == 1,
        "To fuse, linear.out_features == bn.num_features or bn.num_features == 1",
        AssertionError,
    )
    return fused(linear, bn, fuse_linear_bn_weights)


def fused(layer: Module, bn: Module, fuse: Any, **options: Any) -> Module:
    """A copy of the layer with the norm's work in its weight and bias."""
    made = copy.deepcopy(layer)
    check(
        bn.running_mean is not None and bn.running_var is not None,
        "Fusion needs the running statistics of the norm",
        AssertionError,
    )
    made.weight, made.bias = fuse(
        made.weight,
        made.bias,
        bn.running_mean,
        bn.running_var,
        bn.eps,
        bn.weight,
        bn.bias,
        **options,
    )
    return made


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """(weight, bias) of a convolution and the norm after it; output channels are dimension 1 if
    `transpose`.
    """
    scale = torch.rsqrt(bn_rv + bn_eps)
    scale = scale if bn_w is None else bn_w * scale
    shape = [1] * conv_w.dim()
    shape[1 if transpose else 0] = -1
    weight = (conv_w * scale.reshape(shape)).to(conv_w.dtype)
    bias = -bn_rm if conv_b is None else conv_b - bn_rm
    bias = bias * scale if bn_b is None else bias * scale + bn_b
    kept = conv_w.requires_grad
    bias_kept = kept if conv_b is None else conv_b.requires_grad
    return Parameter(weight.detach(), kept), Parameter(bias.detach().to(conv_w.dtype), bias_kept)


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor,
    bn_b: Tensor,
) -> tuple[Parameter, Parameter]:
    """(weight, bias) of a linear layer and the norm after it."""
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)
