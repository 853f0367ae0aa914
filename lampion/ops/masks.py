"""Masks and where they are true. May import rules, the views, index, core and the base."""

from __future__ import annotations

import math
from numbers import Number
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.inplace import type_name
from ..core.op import Op
from ..core.promotion import CAST, scalar_array
from ..core.tensor import Tensor, wrap
from ..errors import check
from .expand import broadcast_pair, expand_to
from .large import large_formula
from .rules import batch_elementwise, public

# -- masked writes and reads -------------------------------------------------------------------


@large_formula("where(mask, value, x)", ("x", "mask", "value"))
def masked_fill_kernel(x: ndarray, mask: ndarray, value: ndarray) -> ndarray:
    """The value where the mask is true, else x."""
    return np.where(mask, value, x)


MASKED_FILL = Op(
    "masked_fill",
    ("x", "mask", "value"),
    masked_fill_kernel,
    vjp={
        "x": lambda g, mask: g.masked_fill(mask, 0),
        "value": lambda g, mask: g.masked_fill(~mask, 0),
    },
    jvp=lambda tangents, inputs, outputs, params: masked_fill_jvp(tangents, inputs),
    batch=batch_elementwise,
)


def masked_fill_jvp(tangents: tuple, inputs: tuple) -> Tensor:
    """Filling is linear in the tensor and the value together."""
    x, mask, value = inputs
    moved = x.new_zeros(x._data.shape) if tangents[0] is None else tangents[0]
    return apply(
        MASKED_FILL, moved, mask, value.new_zeros(()) if tangents[2] is None else tangents[2]
    )


@public(inplace=True)
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`input` with one value where the mask is true; the two broadcast.

    >>> torch.ones(2).masked_fill(torch.tensor([True, False]), 0)
    tensor([0., 1.])
    """
    dtype = input.dtype
    check(
        mask._data.dtype.kind == "b",
        lambda: (
            "masked_fill_ only supports boolean masks, but got mask with dtype "
            f"{type_name(mask.dtype).lower()}"
        ),
    )
    if isinstance(value, Tensor):
        check(
            value._data.ndim == 0,
            lambda: (
                "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{value._data.ndim} dimension(s)."
            ),
        )
        check(
            value.dtype.category <= dtype.category,
            lambda: f"value cannot be converted to type {dtype.name} without overflow",
        )
        value = value if value.dtype is dtype else CAST(value, dtype=dtype)
    else:
        check(
            isinstance(value, (Number, np.bool_)),
            lambda: (
                "masked_fill(): argument 'value' must be Tensor or Number, not "
                f"{type(value).__name__}"
            ),
            TypeError,
        )
        check(
            not isinstance(value, complex) or dtype.category == dtypes.COMPLEX,
            lambda: f"value cannot be converted to type {dtype.name} without overflow",
        )
        value = wrap(scalar_array(value, dtype.numpy))
    shape = input._data.shape
    if mask._data.shape != shape:
        broadcast_pair(tuple(mask._data.shape), tuple(shape))
    return apply(MASKED_FILL, input, mask, value)


def both_broadcast(input: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor and its mask, expanded to one shape."""
    shape = broadcast_pair(tuple(input._data.shape), tuple(mask._data.shape))
    return expand_to(input, shape), expand_to(mask, shape)


MASKED_SELECT = Op(
    "masked_select",
    ("x", "mask"),
    lambda x, mask: x[mask],
    vjp={
        "x": lambda g, mask, x_shape: g.new_zeros(x_shape).masked_scatter(mask, g),
    },
    jvp="linear",
)


@public(out=True)
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where the mask is true, in one dimension; the two broadcast."""
    check(mask._data.dtype.kind == "b", "masked_select: expected BoolTensor for mask")
    x, mask = both_broadcast(input, mask)
    mask.concrete("masked_select")
    return apply(MASKED_SELECT, x, mask)


def masked_scatter_kernel(x: ndarray, mask: ndarray, source: ndarray) -> ndarray:
    """A copy of x with the first elements of source where the mask is true."""
    y = x.copy()
    y[mask] = source.reshape(-1)[: int(np.count_nonzero(mask))]
    return y


def masked_source_gradient(g: Tensor, mask: Tensor, source_shape: tuple[int, ...]) -> Tensor:
    """The gradients of the elements that were used, zeros for the rest."""
    used = g.masked_select(mask)
    flat = g.new_zeros((math.prod(source_shape),))
    return flat.slice_scatter(used, 0, 0, used._data.size).reshape(source_shape)


MASKED_SCATTER = Op(
    "masked_scatter",
    ("x", "mask", "source"),
    masked_scatter_kernel,
    vjp={
        "x": lambda g, mask: g.masked_fill(mask, 0),
        "source": masked_source_gradient,
    },
)


@public(inplace=True)
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """`input` with the elements of `source`, in order, where the mask is true; both broadcast."""
    check(
        mask._data.dtype.kind == "b",
        lambda: (
            "masked_scatter_ only supports boolean masks, but got mask with dtype "
            f"{type_name(mask.dtype)}"
        ),
    )
    check(
        input.dtype is source.dtype,
        lambda: (
            "masked_scatter: expected self and source to have same dtypes but got "
            f"{type_name(input.dtype)} and {type_name(source.dtype)}"
        ),
    )
    x, mask = both_broadcast(input, mask)
    wanted = int(np.count_nonzero(mask.concrete("masked_scatter")))
    check(
        wanted <= source._data.size,
        "masked_scatter: expected self and source to have enough elements: Number of elements of "
        "source < number of ones in mask",
    )
    return apply(MASKED_SCATTER, x, mask, source)


# -- places ------------------------------------------------------------------------------------


@public(out=True)
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """Where elements are not zero: one row of indices each, or with `as_tuple` one tensor for each
    dimension.

    >>> torch.tensor([0, 3, 4]).nonzero(as_tuple=True)
    (tensor([1, 2]),)
    """
    x = input.concrete("nonzero")
    if as_tuple:
        return tuple([wrap(i) for i in np.nonzero(x.reshape(1) if x.ndim == 0 else x)])
    return wrap(np.argwhere(x))


@public
def argwhere(input: Tensor) -> Tensor:
    """Where elements are not zero, one row of indices each."""
    return nonzero(input)


@public(out=True)
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first `size` rows of `nonzero`, filled up with `fill_value`."""
    check(size >= 0, "nonzero_static: 'size' must be an non-negative integer")
    rows = np.argwhere(input.concrete("nonzero_static"))[:size]
    filled = np.full((size, input._data.ndim), fill_value, np.int64)
    filled[: len(rows)] = rows
    return wrap(filled)


@public(method=False)
def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """The index of each dimension for places in a flattened array of this shape."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    check(
        indices.dtype.category == dtypes.INTEGER,
        lambda: f"torch.unravel_index(): Expected an int tensor, but got {indices.dtype}",
        ValueError,
    )
    found, rest = [], indices.long()
    for size in reversed(sizes):
        found.append(rest % size)
        rest = rest // size
    return tuple(reversed(found))
