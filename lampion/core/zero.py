"""Derivatives that are zero without being computed. May import graph, tensor and the base.

`ZERO` flows backward in the place of a gradient and is made into numbers only where somebody looks:
at leaves, wanted tensors and hooks. A second derivative of a piecewise linear operator is such a
zero, and so is the gradient of what an in-place operator wrote over.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..dtypes import FROM_NUMPY
from .graph import Node, Slot
from .memory import tick
from .op import TENSOR_NAMES
from .tensor import Tensor


class Zero:
    """A gradient of any shape that is zero; added to another, it is the other."""

    class _data:
        shape = dtype = None

    def __add__(self, other: Any) -> Any:
        return other


ZERO: Any = Zero()

# Operators whose gradient is piecewise linear. PyTorch computes it from the input by an operator of
# its own, so that it depends on the input, by a derivative of zero: `grad(grad(relu))` is zero, not
# an error.
PIECEWISE = {
    "relu", "hardtanh", "threshold", "leaky_relu", "prelu", "softshrink", "hardshrink",
    "hardsigmoid", "max_pool", "avg_pool", "nll_loss",
}  # fmt: skip
# Operators with several inputs whose gradients PyTorch computes together, so that each depends on
# all inputs: here, where a gradient depends on none else.
JOINT = {"convolution", "convolution_input", "batch_norm", "layer_norm", "instance_norm"}
SHARED = {"ReluBackward": "ThresholdBackward"}  # relu's gradient is threshold's


class Dependence(Node):
    """Behind a gradient that depends on the inputs of the `source` it came from."""

    def __init__(self, source: Node, g: Tensor) -> None:
        own = () if not g._requires_grad else (g if g.grad_fn is None else g.grad_fn,)
        self.own, self.edges = len(own), (*own, *source.edges)
        self.plan, self.params, self.saved = source.plan, source.params, ()
        self.shape, self.dtype, self.seq = g._data.shape, g._data.dtype, tick()
        self.interpreter = g.interpreter

    @property
    def targets(self) -> tuple[int, ...]:
        return tuple(range(len(self.edges)))

    def name(self) -> str:
        name = self.op.gradient_name(self.params).rstrip("0123456789")
        return SHARED.get(name, name) + "Backward0"

    def gradients(self, g: Any) -> list:
        return [g] * self.own + [ZERO] * (len(self.edges) - self.own)


def with_dependence(node: Node, grads: Any) -> list:
    """The gradients that `node` gave, as depending on its inputs where PyTorch's do."""
    name = node.plan.op.name
    return [
        depending(node, g)
        if isinstance(g, Tensor) and (name in PIECEWISE or name in JOINT and not g._requires_grad)
        else g
        for g in grads
    ]


def depending(node: Node, g: Tensor) -> Tensor:
    """The gradient on the same memory, with the inputs of `node` in its history."""
    found = g.detach()
    found._requires_grad, found.grad_fn = True, Dependence(node, g)
    return found


def skips(node: Node, g: Any) -> bool:
    """Whether a node passes ZERO on unseen: it has no hooks and no user's code."""
    if g.__class__ is list:
        return node.__class__ is Node and all(x is None for x in g)
    return g is ZERO and not node.watched and node.__class__ in (Node, Slot, Dependence)


def zeros(shape: Any, dtype: np.dtype) -> Tensor:
    """ZERO as numbers."""
    return TENSOR_NAMES["zeros"](shape, dtype=FROM_NUMPY[dtype])
