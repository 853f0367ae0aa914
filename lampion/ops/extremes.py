"""Largest and smallest elements and where they are. May import rules, reduce, core and the base.

With a dimension `max` and `min` pass their gradient to the element they picked; over several
elements at once those that are equal to the extreme share it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .large import reduced
from .reduce import SUM, along, keep_dims, reduced_dims, reduction
from .return_types import return_type
from .rules import batch_first, normalize_dims, numpy_names, public, shift_dims, wide

# -- selections --------------------------------------------------------------------------------


def selection_gradient(
    g: Tensor, indices: Tensor, x_shape: tuple, dim: int, keepdim: bool
) -> Tensor:
    """The gradient goes to the elements that were picked."""
    if not keepdim:
        g, indices = g.unsqueeze(dim), indices.unsqueeze(dim)
    return g.new_zeros(x_shape).scatter(dim, indices, g)


def selection(
    name: str, kernel: Callable, vjp: Callable = selection_gradient, grad_name: str | None = None
) -> Op:
    """The record of an operator that picks elements along `dim` and tells their indices."""
    return Op(
        name,
        ("x",),
        kernel,
        kind="selection",
        vjp={"x": vjp},
        batch=batch_first(shift_dims),
        outputs=("values", "indices"),
        constant_outputs=("indices",),
        grad_name=grad_name,
    )


def pick(x: ndarray, indices: ndarray, dim: int, keepdim: bool) -> tuple[ndarray, ndarray]:
    """(values, indices) of a selection whose indices still have the reduced dimension."""
    values = x[mesh(indices, dim)]
    if keepdim:
        return values, indices
    return values.squeeze(dim), indices.squeeze(dim)


def mesh(indices: ndarray, dim: int) -> tuple[ndarray, ...]:
    """What picks `indices` along `dim`: they, and for the other dimensions each place itself."""
    ndim = indices.ndim
    return tuple(
        [
            indices if d == dim else np.arange(n).reshape((-1,) + (1,) * (ndim - 1 - d))
            for d, n in enumerate(indices.shape)
        ]
    )


def check_ordered(name: str, input: Tensor) -> None:
    """Raises NotImplementedError for complex numbers, which have no order."""
    check(
        input._data.dtype.kind != "c",
        lambda: (
            f"[{name}] expects numbers that can be ordered, got {input.dtype}; use .abs() or .real"
        ),
        NotImplementedError,
    )


def check_not_empty(name: str, input: Tensor, dim: Any) -> None:
    """Raises where nothing would be reduced to a value that has no neutral element."""
    shape = input._data.shape
    if 0 not in shape:
        return
    check(
        dim is not None,
        f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
        "reduction dim with the 'dim' argument.",
        IndexError if name.startswith("arg") else RuntimeError,
    )
    for d in normalize_dims(dim, len(shape)):
        check(
            shape[d] != 0,
            f"{name}(): Expected reduction dim {d} to have non-zero size.",
            IndexError,
        )


# -- extremes ----------------------------------------------------------------------------------


def extreme_gradient(g: Tensor, x: Tensor, y: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """The gradient is shared evenly among the elements that are equal to the extreme."""
    shape = x._data.shape
    y, g = keep_dims(y, shape, dim, keepdim), keep_dims(g, shape, dim, keepdim)
    chosen = (x == y) | ((x != x) & (y != y))
    return g / apply(SUM, chosen, dim=dim, keepdim=True) * chosen


def extreme_kernels(name: str, ufunc: Any, find: Callable) -> tuple[Callable, Callable, Callable]:
    """The kernels of `amax`, of `max` with a dimension and of `argmax`, or those of the minimum."""

    def value(x: ndarray, dim: Any, keepdim: bool) -> Any:
        found = reduced(name, x, dim, keepdim)
        return ufunc.reduce(x, dim, None, None, keepdim) if found is None else found

    def both(x: ndarray, dim: int, keepdim: bool) -> tuple[ndarray, ndarray]:
        return pick(x, index(x, dim, True), dim, keepdim)

    def index(x: ndarray, dim: int, keepdim: bool) -> Any:
        return find(wide(x), dim, keepdims=keepdim)

    return value, both, index


MAX_VALUE, MAX_BOTH, MAX_INDEX = extreme_kernels("amax", np.maximum, np.argmax)
MIN_VALUE, MIN_BOTH, MIN_INDEX = extreme_kernels("amin", np.minimum, np.argmin)
AMAX = reduction("amax", MAX_VALUE, extreme_gradient)
AMIN = reduction("amin", MIN_VALUE, extreme_gradient)
MAX = reduction("max", MAX_VALUE, extreme_gradient, grad_name="MaxBackward1")
MIN = reduction("min", MIN_VALUE, extreme_gradient, grad_name="MinBackward1")
MAX_DIM = selection("max_dim", MAX_BOTH, grad_name="MaxBackward0")
MIN_DIM = selection("min_dim", MIN_BOTH, grad_name="MinBackward0")
ARGMAX = reduction("argmax", MAX_INDEX)
ARGMIN = reduction("argmin", MIN_INDEX)


def extreme_value(op: Op, input: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """What `amax` and `amin` do."""
    check_ordered(op.name, input)
    dim = reduced_dims(dim, input._data.ndim)
    check_not_empty(op.name, input, dim)
    return apply(op, input, dim=dim, keepdim=keepdim)


@public(out=True)
@numpy_names
def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The largest elements over `dim` (all by default); NaN wins, ties share the gradient."""
    return extreme_value(AMAX, input, dim, keepdim)


@public(out=True)
@numpy_names
def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The smallest elements over `dim` (all by default); NaN wins, ties share the gradient."""
    return extreme_value(AMIN, input, dim, keepdim)


MinAndMax = return_type("aminmax", "min max")


@public(out=True)
@numpy_names
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """The smallest and the largest elements, of all or along `dim`, as (min, max)."""
    check(
        input._data.size > 0 or dim is not None,
        "aminmax(): cannot compute aminmax over an empty dimension as the operation has no "
        "identity.",
    )
    return MinAndMax(amin(input, dim, keepdim), amax(input, dim, keepdim))


def extreme(input: Tensor, dim: Any, keepdim: bool, other: Any, whole: Op, single: Op) -> Any:
    """What `max` and `min` do: three operators under one name."""
    if isinstance(dim, Tensor):
        other = dim
    if other is not None:
        return input.maximum(other) if whole is MAX else input.minimum(other)
    if dim is None:
        return extreme_value(whole, input, None, False)
    check_ordered(whole.name, input)
    check_not_empty(whole.name, input, dim)
    return RESULTS[whole.name](*along(single, input, dim, keepdim=keepdim))


RESULTS = {name: return_type(name, "values indices") for name in ("max", "min")}


@public(out=True)
@numpy_names
def max(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None
) -> Any:
    """The largest element; with `dim` (values, indices); with a tensor the larger of each pair.

    >>> torch.tensor([[1, 5], [7, 2]]).max(1)
    torch.return_types.max(
    values=tensor([5, 7]),
    indices=tensor([1, 0]))
    """
    return extreme(input, dim, keepdim, other, MAX, MAX_DIM)


@public(out=True)
@numpy_names
def min(
    input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None
) -> Any:
    """The smallest element; with `dim` (values, indices); with a tensor the less of each pair."""
    return extreme(input, dim, keepdim, other, MIN, MIN_DIM)


def extreme_index(op: Op, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    """What `argmax` and `argmin` do."""
    name, ndim = op.name, input._data.ndim
    check_ordered(name, input)
    check(input._data.dtype.kind != "b", f"{name}(): does not support bool input")
    check_not_empty(name, input, dim)
    if dim is not None:
        return along(op, input, dim, keepdim=keepdim)
    found = apply(op, input.reshape(-1), dim=0, keepdim=False)
    return found.reshape((1,) * ndim) if keepdim else found


@public(out=True)
@numpy_names
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the first largest element: in the flattened tensor, or along `dim`."""
    return extreme_index(ARGMAX, input, dim, keepdim)


@public(out=True)
@numpy_names
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the first smallest element: in the flattened tensor, or along `dim`."""
    return extreme_index(ARGMIN, input, dim, keepdim)
