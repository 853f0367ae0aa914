"""Running sums, products and extremes, differences, integrals. May import earlier families, core
and the base.

As in PyTorch, running sums and products of float32 are kept in float64 until the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.naming import named
from ..core.op import TENSOR_NAMES, Op
from ..core.promotion import convert
from ..core.tensor import Tensor, normalize_dim, wrap
from ..dtypes import get_default_dtype
from ..errors import check
from .extremes import check_ordered, selection
from .reduce import along, has_no_zero, in_type
from .return_types import return_type
from .rules import batch_first, in_float32, move_to_front, numpy_names, public, shift_dims

# -- running sums and products -----------------------------------------------------------------

WIDE = {np.dtype(np.float32): np.float64, np.dtype(np.complex64): np.complex128}


def accumulate(ufunc: np.ufunc, x: ndarray, dim: int) -> ndarray:
    """`ufunc.accumulate` in a type with room; integers become int64."""
    if x.dtype.kind in "biu":
        return ufunc.accumulate(x, dim, np.int64)
    out = ufunc.accumulate(x, dim, WIDE.get(x.dtype, x.dtype))
    return out.astype(x.dtype, copy=False)


def running(name: str, kernel: Callable, vjp: Callable, **options: Any) -> Op:
    """The record of a cumulative operator along `dim`."""
    batch = batch_first(shift_dims)
    return Op(name, ("x",), in_float32(kernel), vjp={"x": vjp}, batch=batch, **options)


def reverse_cumsum(g: Tensor, dim: int) -> Tensor:
    """The sum of each element and all after it."""
    return g.flip(dim).cumsum(dim).flip(dim)


CUMSUM = running(
    "cumsum",
    lambda x, dim: accumulate(np.add, x, dim),
    reverse_cumsum,
    jvp="linear",
    autocast="float32 on cuda",
)


@public(inplace=True, out=True)
@numpy_names
def cumsum(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The sum of each element and all before it along `dim`; integers sum to int64.

    >>> torch.tensor([1, 2, 3]).cumsum(0)
    tensor([1, 3, 6])
    """
    return in_type(dtype, lambda x: along(CUMSUM, x, dim), input)


def recurrence_kernel(a: ndarray, b: ndarray, dim: int) -> ndarray:
    """y[i] = a[i] y[i-1] + b[i] along `dim`, with y[-1] = 0."""
    y = np.array(np.broadcast_to(b, np.broadcast_shapes(a.shape, b.shape)), np.result_type(a, b))
    rows, factors = np.moveaxis(y, dim, 0), np.moveaxis(a, dim, 0)
    for i in range(1, len(rows)):
        rows[i] += factors[i] * rows[i - 1]
    return y


def recurrence_gradient(g: Tensor, a: Tensor, y: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Backward it is the same recurrence, run from the end with a moved by one place."""
    back = RECURRENCE(a.conj().roll(-1, dim).flip(dim), g.flip(dim), dim=dim).flip(dim)
    return back * y.roll(1, dim).where(after_first(y, dim), 0).conj(), back


def after_first(x: Tensor, dim: int) -> Tensor:
    """For each place along `dim` of x whether it is not the first."""
    shape = x._data.shape
    return wrap(
        (np.arange(shape[dim]) > 0).reshape([-1 if d == dim else 1 for d in range(len(shape))])
    )


def batch_recurrence(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The batch in front; what has none counts for all of it."""
    rows = [v.unsqueeze(0) if d is None else move_to_front(v, d) for v, d in zip(values, dims)]
    return op(*rows, dim=params["dim"] + 1), 0


RECURRENCE = Op(
    "linear_recurrence",
    ("a", "b"),
    recurrence_kernel,
    vjp=recurrence_gradient,
    batch=batch_recurrence,
)


def cumprod_gradient(g: Tensor, x: Tensor, y: Tensor, dim: int) -> Tensor:
    """sum(g y) from here on by x; where x may be 0, a recurrence that does not divide."""
    if has_no_zero(x):
        return reverse_cumsum(g * y.conj(), dim) / x.conj()
    before = y.roll(1, dim).where(after_first(y, dim), 1)  # the product of all elements before
    after = RECURRENCE(x.conj().roll(-1, dim).flip(dim), g.flip(dim), dim=dim).flip(dim)
    return before.conj() * after


CUMPROD = running(
    "cumprod",
    lambda x, dim: accumulate(np.multiply, x, dim),
    cumprod_gradient,
    autocast="float32 on cuda",
)


@public(inplace=True, out=True)
@numpy_names
def cumprod(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The product of each element and all before it along `dim`; integers multiply to int64."""
    return in_type(dtype, lambda x: along(CUMPROD, x, dim), input)


def logcumsumexp_kernel(x: ndarray, dim: int) -> ndarray:
    """log(exp(a) + exp(b)) again and again, the larger exponential taken out."""
    if x.dtype.kind != "c":
        return np.logaddexp.accumulate(x, dim)
    y = x.copy()
    rows = np.moveaxis(y, dim, 0)
    for i in range(1, len(rows)):
        swap = rows[i - 1].real > rows[i].real
        low, high = np.where(swap, rows[i], rows[i - 1]), np.where(swap, rows[i - 1], rows[i])
        same = (low.real == high.real) & np.isinf(low.real)
        rows[i] = high + np.log1p(np.exp(np.where(same, 0, low - high)))
    return y


def logcumsumexp_gradient(g: Tensor, x: Tensor, y: Tensor, dim: int) -> Tensor:
    """sum(g[i] exp(x[k] - y[i])) over i >= k: a recurrence with factors exp(y[k] - y[k+1]) <= 1."""
    known = y != -math.inf
    decay = (y - y.roll(-1, dim)).where(known & after_first(y, dim).flip(dim), -math.inf).exp()
    after = RECURRENCE(decay.conj().flip(dim), g.flip(dim), dim=dim).flip(dim)
    return after * (x - y).where(known, -math.inf).exp().conj()


LOGCUMSUMEXP = running("logcumsumexp", logcumsumexp_kernel, logcumsumexp_gradient)


@public(out=True)
@numpy_names
def logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """The logarithm of the running sum of exponentials along `dim`."""
    check(
        input._data.dtype.kind not in "biu",
        lambda: f"[logcumsumexp] is not implemented for {input.dtype}; convert with .float()",
        NotImplementedError,
    )
    return along(LOGCUMSUMEXP, input, dim)


# -- running extremes --------------------------------------------------------------------------


def running_extreme(name: str, ufunc: np.ufunc, doc: str) -> Callable:
    """`cummax` or `cummin`."""

    def kernel(x: ndarray, dim: int) -> tuple[ndarray, ndarray]:
        values = ufunc.accumulate(x, dim)
        place = np.arange(x.shape[dim]).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
        reached = np.where((x == values) | (x != x), place, 0)  # the last of equals
        return values, np.maximum.accumulate(reached, dim)

    op = selection(
        name,
        kernel,
        lambda g, indices, x_shape, dim: g.new_zeros(x_shape).scatter_add(dim, indices, g),
    )
    result = return_type(name, "values indices")

    def call(input: Tensor, dim: int) -> Any:
        check_ordered(name, input)
        return result(*along(op, input, dim))

    return public(numpy_names(named(call, name, doc)), out=True)


cummax = running_extreme(
    "cummax",
    np.maximum,
    "The largest of each element and all before it along `dim`, as (values, indices).",
)
cummin = running_extreme(
    "cummin",
    np.minimum,
    "The smallest of each element and all before it along `dim`, as (values, indices).",
)

# -- differences -------------------------------------------------------------------------------


@public(out=True)
@numpy_names
def diff(
    input: Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: Tensor | None = None,
    append: Tensor | None = None,
) -> Tensor:
    """The n-th differences of neighbours along `dim` in (`prepend`, `input`, `append`)."""
    check(input._data.ndim > 0, "diff expects input to be at least one-dimensional")
    check(n >= 0, f"order must be non-negative but got {n}")
    if n == 0:
        return input.clone()
    dim = normalize_dim(dim, input._data.ndim)
    parts = [t for t in (prepend, input, append) if t is not None]
    x = TENSOR_NAMES["cat"](parts, dim) if len(parts) > 1 else input
    size = x._data.shape[dim]
    if n >= size:
        return x.narrow(dim, 0, 0)
    for length in range(size - 1, size - 1 - n, -1):
        high, low = x.narrow(dim, 1, length), x.narrow(dim, 0, length)
        x = high.logical_xor(low) if x._data.dtype.kind == "b" else high - low
    return x


# -- integrals ---------------------------------------------------------------------------------


def trapezoids(name: str, y: Tensor, x: Tensor | None, dx: Any, dim: int) -> tuple[Tensor, int]:
    """The areas of the trapezoids between neighbours, and the dimension counted from the front."""
    check(x is None or dx is None, f"{name}(): got both x and dx; pass one of them", TypeError)
    dim = normalize_dim(dim, y._data.ndim)
    n = y._data.shape[dim]
    between = max(n - 1, 0)
    twice = y.narrow(dim, n - between, between) + y.narrow(dim, 0, between)
    if x is None:
        return twice * ((1 if dx is None else dx) / 2), dim
    have = x._data.shape
    points = have[0] if len(have) == 1 else have[dim]
    check(points == n, f"{name}: There must be one `x` value for each sample point")
    if len(have) == 1:
        x = x.reshape((n,) + (1,) * (y._data.ndim - 1 - dim))
        return twice * x.diff(dim=0) / 2, dim
    return twice * x.diff(dim=dim - y._data.ndim) / 2, dim


def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral along `dim` of samples y at the points x, or `dx` apart, by trapezoids."""
    areas, dim = trapezoids("trapezoid", y, x, dx, dim)
    return areas.sum(dim)


def cumulative_trapezoid(
    y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1
) -> Tensor:
    """The running integral of samples y at the points x, or `dx` apart, along `dim`."""
    areas, dim = trapezoids("cumulative_trapezoid", y, x, dx, dim)
    return areas.cumsum(dim)


trapezoid = public(numpy_names(trapezoid), aliases=("trapz",), method=False)
cumulative_trapezoid = public(numpy_names(cumulative_trapezoid), method=False)

# -- finite differences ------------------------------------------------------------------------


def gradient(
    input: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1
) -> tuple[Tensor, ...]:
    """The derivative along each dimension in `dim`, by central differences; one-sided at the edges.

    `spacing` is the distance of neighbours (1 by default), or one for each dimension, or a tensor
    of coordinates for each.
    """
    ndim = input._data.ndim
    given = [dim] if isinstance(dim, int) else range(ndim) if dim is None else dim
    dims = [normalize_dim(d, ndim) for d in given]
    single = spacing is None or isinstance(spacing, (int, float, complex))
    steps = [1 if spacing is None else spacing] * len(dims) if single else list(spacing)
    check(
        len(steps) == len(dims),
        lambda: (
            "torch.gradient expected spacing to be unspecified, a scalar, or a list of length "
            f"equal to {len(dims)}, one for each dimension, but got a list of length {len(steps)}"
        ),
    )
    check(edge_order in (1, 2), "torch.gradient only supports edge_order=1 and edge_order=2.")
    for d in dims:
        check(
            input._data.shape[d] > edge_order,
            "torch.gradient expected each dimension size to be at least edge_order+1",
        )
    if input._data.dtype.kind in "biu":
        input = convert(input, get_default_dtype())
    return tuple([slope(input, step, d, edge_order) for step, d in zip(steps, dims, strict=True)])


gradient = public(gradient, method=False)


def slope(y: Tensor, spacing: Any, dim: int, edge_order: int) -> Tensor:
    """The derivative along `dim`: at each point that of the parabola through its neighbours."""
    n = y._data.shape[dim]
    weight: Any
    first: Any
    last: Any
    if isinstance(spacing, Tensor):
        steps = spacing.diff().reshape((n - 1,) + (1,) * (y._data.ndim - 1 - dim))
        left, right = steps.narrow(0, 0, n - 2), steps.narrow(0, 1, n - 2)
        weight = left / (left + right)  # (n - 2, 1, ...)
        first, last = (weight.narrow(0, i, 1) for i in (0, n - 3)) if n > 2 else (None, None)
    else:
        steps, weight, first, last = spacing, 0.5, 0.5, 0.5
    secants = y.diff(dim=dim) / steps  # (..., n - 1, ...)
    before, after = secants.narrow(dim, 0, n - 2), secants.narrow(dim, 1, n - 2)
    inner = before * (1 - weight) + after * weight
    start, end = secants.narrow(dim, 0, 1), secants.narrow(dim, n - 2, 1)
    if edge_order == 2:
        start = start + (start - secants.narrow(dim, 1, 1)) * first
        end = end + (end - secants.narrow(dim, n - 3, 1)) * (1 - last)
    return TENSOR_NAMES["cat"]([start, inner, end], dim)
