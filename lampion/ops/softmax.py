"""Softmax and its relatives. May import earlier operators, core and the base.

The largest element is subtracted first, so that nothing overflows. The gradients are records of
their own, few passes over the array, and differentiable again.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.inplace import type_name
from ..core.op import Op
from ..core.tensor import Tensor, normalize_dim
from ..dtypes import FROM_NUMPY
from .create import empty_like
from .large import along_rows
from .rules import EXPORTS, F32, F64, dtype_argument, move_to_front, numpy_names, public

_max: Any = np.maximum.reduce
_sum: Any = np.add.reduce
WIDE = (F32, F64)


def converted(kernel: Any, *arrays: ndarray, dim: int) -> ndarray:
    """The kernel for other types than float32 and float64: halves compute in float32."""
    dtype = arrays[0].dtype
    if dtype.itemsize != 2 or dtype.kind in "iu":
        raise NotImplementedError(
            f"[softmax] not implemented for '{type_name(FROM_NUMPY[dtype])}'; "
            "pass dtype=torch.float32"
        )
    return kernel(*[x.astype(np.float32) for x in arrays], dim).astype(dtype)


def softmax_kernel(x: ndarray, dim: int) -> ndarray:
    """exp(x) / sum(exp(x)) along `dim`."""
    if x.dtype not in WIDE:
        return converted(softmax_kernel, x, dim=dim)
    if not (x.ndim and x.size):
        return np.ones_like(x)
    made = along_rows("softmax", x, dim=dim)
    if made is not None:
        return made
    y = x - _max(x, dim, None, None, True)
    np.exp(y, y)
    return np.divide(y, _sum(y, dim, None, None, True), y)


def log_softmax_kernel(x: ndarray, dim: int) -> ndarray:
    """x - log(sum(exp(x))) along `dim`."""
    if x.dtype not in WIDE:
        return converted(log_softmax_kernel, x, dim=dim)
    if not (x.ndim and x.size):
        return np.zeros_like(x)
    made = along_rows("log_softmax", x, dim=dim)
    if made is not None:
        return made
    y = x - _max(x, dim, None, None, True)
    total = _sum(np.exp(y), dim, None, None, True)
    return np.subtract(y, np.log(total, total), y)


def softmax_backward_kernel(t: ndarray, p: ndarray, dim: int) -> ndarray:
    """p (t - sum(t p)) along `dim`."""
    if p.dtype not in WIDE:
        return converted(softmax_backward_kernel, t, p, dim=dim)
    if p.ndim == 0:
        return np.zeros_like(p)
    made = along_rows("softmax_back", t, p, dim=dim)
    if made is not None:
        return made
    y = t * p
    return np.subtract(y, p * _sum(y, dim, None, None, True), y)


def log_softmax_backward_kernel(t: ndarray, l: ndarray, dim: int) -> ndarray:  # noqa: E741
    """t - exp(l) sum(t) along `dim`."""
    if l.dtype not in WIDE:
        return converted(log_softmax_backward_kernel, t, l, dim=dim)
    if l.ndim == 0:
        return np.zeros_like(l)
    made = along_rows("log_softmax_back", t, l, dim=dim)
    if made is not None:
        return made
    y = np.exp(l)
    np.multiply(y, _sum(t, dim, None, None, True), y)
    return np.subtract(t, y, y)


def batch_along(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The operands with the batch dimension in front; numbers get a dimension to work along."""
    fronted = [
        v.unsqueeze(0).expand((size, *v._data.shape)) if d is None else move_to_front(v, d)
        for v, d in zip(values, dims, strict=True)
    ]
    if fronted[0]._data.ndim == 1:
        return apply(op, *[v.unsqueeze(1) for v in fronted], dim=1).squeeze(1), 0
    return apply(op, *fronted, dim=params["dim"] + 1), 0


def softmax_gradient(g: Tensor, y: Tensor, dim: int) -> Tensor:
    """y (g - sum(g y)) along `dim`."""
    return apply(SOFTMAX_BACKWARD, g, y, dim=dim)


def log_softmax_gradient(g: Tensor, y: Tensor, dim: int) -> Tensor:
    """g - exp(y) sum(g) along `dim`."""
    return apply(LOG_SOFTMAX_BACKWARD, g, y, dim=dim)


SOFTMAX = Op(
    "softmax",
    ("x",),
    softmax_kernel,
    vjp={"x": softmax_gradient},
    jvp=lambda tangents, inputs, y, params: softmax_gradient(tangents[0], y, params["dim"]),
    batch=batch_along,
    autocast="float32 on cuda",
)
LOG_SOFTMAX = Op(
    "log_softmax",
    ("x",),
    log_softmax_kernel,
    vjp={"x": log_softmax_gradient},
    jvp=lambda tangents, inputs, y, params: (
        tangents[0] - (y.exp() * tangents[0]).sum(params["dim"], keepdim=True)
    ),
    batch=batch_along,
    autocast="float32 on cuda",
)
SOFTMAX_BACKWARD = Op(
    "softmax_backward",
    ("t", "p"),
    softmax_backward_kernel,
    vjp={
        "t": lambda g, p, dim: softmax_gradient(g, p, dim),
        "p": lambda g, t, p, dim: (
            g * t - g * (t * p).sum(dim, keepdim=True) - t * (g * p).sum(dim, keepdim=True)
        ),
    },
    batch=batch_along,
    grad_name="SoftmaxBackwardDataBackward0",
)
LOG_SOFTMAX_BACKWARD = Op(
    "log_softmax_backward",
    ("t", "l"),
    log_softmax_backward_kernel,
    vjp={
        "t": lambda g, l, dim: g - (g * l.exp()).sum(dim, keepdim=True),  # noqa: E741
        "l": lambda g, t, l, dim: -g * l.exp() * t.sum(dim, keepdim=True),  # noqa: E741
    },
    batch=batch_along,
    grad_name="LogSoftmaxBackwardDataBackward0",
)


def run(op: Op, input: Tensor, dim: int, dtype: Any) -> Tensor:
    """The operator along a checked `dim`, in `dtype` if one is given."""
    if dtype is not None:
        input = input.to(dtype_argument(dtype))
    return apply(op, input, dim=normalize_dim(dim, input._data.ndim))


@public(spaces=("torch", "special"), out=True)
@numpy_names
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """`exp(x) / sum(exp(x))` along `dim`: positive numbers that sum to 1.

    >>> torch.softmax(torch.zeros(2), 0)
    tensor([0.5000, 0.5000])
    """
    return run(SOFTMAX, input, dim, dtype)


@public(spaces=("torch", "special"), out=True)
@numpy_names
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """`x - log(sum(exp(x)))` along `dim`, without overflow."""
    return run(LOG_SOFTMAX, input, dim, dtype)


def implied_dim(name: str, input: Tensor, dim: int | None, stacklevel: int) -> int:
    """`dim`, or, with a warning, the one that PyTorch used to assume."""
    if dim is not None:
        return dim
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include "
        "dim=X as an argument.",
        stacklevel=stacklevel,
    )
    return 0 if input._data.ndim in (0, 1, 3) else 1


def functional_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """`exp(x) / sum(exp(x))` along `dim`: positive numbers that sum to 1."""
    return run(SOFTMAX, input, implied_dim("softmax", input, dim, _stacklevel), dtype)


def functional_log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """`x - log(sum(exp(x)))` along `dim`, without overflow."""
    return run(LOG_SOFTMAX, input, implied_dim("log_softmax", input, dim, _stacklevel), dtype)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """`softmax(-x)` along `dim`."""
    return run(SOFTMAX, -input, implied_dim("softmin", input, dim, _stacklevel), dtype)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """A random, differentiable choice along `dim`: `softmax((logits + gumbel noise) / tau)`.

    With `hard` the result is one-hot, with the gradient of the soft one.
    """
    noise = -empty_like(logits.detach()).exponential_().log()
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    chosen = soft.detach().argmax(dim, keepdim=True)
    one_hot = (soft * 0).detach().scatter(dim, chosen, 1.0)
    return one_hot - soft.detach() + soft


functional_softmax.__name__, functional_log_softmax.__name__ = "softmax", "log_softmax"
EXPORTS["nn.functional"].update(
    softmax=functional_softmax,
    log_softmax=functional_log_softmax,
    softmin=softmin,
    gumbel_softmax=gumbel_softmax,
)
