"""Variance, covariance and histograms. May import earlier families, core and the base."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.naming import named
from ..core.op import TENSOR_NAMES, Op
from ..core.promotion import convert
from ..core.tensor import Tensor, wrap
from ..dtypes import get_default_dtype
from ..errors import check
from .reduce import MEAN, add_up, count, keep_dims, mean, reduced_dims, reduction
from .return_types import return_type
from .rules import numpy_names, public

# -- variance ----------------------------------------------------------------------------------


def freedom(shape: tuple[int, ...], dim: Any, correction: float) -> float:
    """What the squared deviations are divided by: n - correction, not below 0."""
    n = count(shape, dim) - correction
    return n if n > 0 else 0.0


def var_kernel(x: ndarray, dim: Any, correction: float, keepdim: bool) -> Any:
    """The mean squared distance from the mean, real for complex numbers too."""
    deviation = x - add_up(x, dim, True) / count(x.shape, dim)
    if x.dtype.kind == "c":
        squares = deviation.real**2 + deviation.imag**2
    else:
        squares = np.square(deviation, out=deviation if deviation.ndim else None)
    return add_up(squares, dim, keepdim) / freedom(x.shape, dim, correction)


def var_gradient(g: Tensor, x: Tensor, dim: Any, correction: float, keepdim: bool) -> Tensor:
    """2 / (n - correction) times the deviation from the mean."""
    shape = x._data.shape
    n = freedom(shape, dim, correction)
    scale = 2 / n if n else math.inf
    return keep_dims(g, shape, dim, keepdim) * scale * (x - apply(MEAN, x, dim=dim, keepdim=True))


def std_gradient(
    g: Tensor, x: Tensor, y: Tensor, dim: Any, correction: float, keepdim: bool
) -> Tensor:
    """That of the variance by 2 y; zero where y is zero."""
    return var_gradient((g / (2 * y)).where(y != 0, 0), x, dim, correction, keepdim)


VAR = reduction("var", var_kernel, var_gradient)
STD = reduction("std", lambda *args, **params: np.sqrt(var_kernel(*args, **params)), std_gradient)


def spread(
    op: Op, input: Tensor, dim: Any, unbiased: Any, keepdim: bool, correction: Any
) -> Tensor:
    """What `var` and `std` do; a boolean in the place of `dim` is the old form's `unbiased`."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        check(correction is None, f"{op.name}(): got both unbiased and correction", TypeError)
        correction = int(unbiased)
    correction = 1 if correction is None else correction
    check(
        input._data.dtype.kind not in "biu",
        "std and var only support floating point and complex dtypes",
    )
    shape, dim = input._data.shape, reduced_dims(dim, input._data.ndim)
    if count(shape, dim) <= correction:
        warnings.warn(
            f"{op.name}(): degrees of freedom is <= 0. Correction should be strictly less than "
            "the reduction factor (input numel divided by output numel).",
            stacklevel=4,
        )
    return apply(op, input, dim=dim, correction=correction, keepdim=keepdim)


@public(out=True)
@numpy_names
def var(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The variance over `dim` (all by default): squared deviations by n - correction."""
    return spread(VAR, input, dim, unbiased, keepdim, correction)


@public(out=True)
@numpy_names
def std(
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> Tensor:
    """The standard deviation over `dim` (all by default), the square root of `var`."""
    return spread(STD, input, dim, unbiased, keepdim, correction)


def with_mean(op: Op) -> Callable:
    """`var_mean` or `std_mean`."""

    def call(
        input: Tensor,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        first = spread(op, input, dim, unbiased, keepdim, correction)
        return first, mean(input, None if isinstance(dim, bool) else dim, keepdim)

    return public(
        numpy_names(named(call, op.name + "_mean", f"The pair (`{op.name}`, `mean`) over `dim`.")),
        method=False,
        out=True,
    )


var_mean, std_mean = with_mean(VAR), with_mean(STD)


# -- covariance --------------------------------------------------------------------------------


def check_weights(name: str, weights: Tensor, kinds: str, observations: int) -> None:
    """Raises RuntimeError unless each observation has a weight of the right type, not negative."""
    check(weights._data.ndim <= 1, f"cov(): expected {name} to have one or fewer dimensions")
    check(
        weights._data.dtype.kind in kinds,
        lambda: (
            f"cov(): expected {name} to have {'integral' if kinds == 'iu' else 'floating point'} "
            f"dtype, but got {weights.dtype}"
        ),
    )
    check(
        weights._data.size == observations,
        lambda: (
            f"cov(): expected {name} to have the same numel as there are observations in the "
            f"input, got {weights._data.size} != {observations}"
        ),
    )
    if isinstance(weights._data, ndarray):
        check(bool((weights._data >= 0).all()), f"cov(): {name} cannot be negative")


def observation_weights(
    fweights: Tensor | None, aweights: Tensor | None, observations: int
) -> Tensor | None:
    """The product of the weights that are given, checked."""
    if fweights is not None:
        check_weights("fweights", fweights, "iu", observations)
    if aweights is not None:
        check_weights("aweights", aweights, "f", observations)
    if fweights is None or aweights is None:
        return aweights if fweights is None else fweights
    return fweights * aweights


def check_matrix(name: str, input: Tensor) -> None:
    """Raises RuntimeError for more than two dimensions."""
    check(
        input._data.ndim <= 2,
        lambda: (
            f"{name}(): expected input to have two or fewer dimensions but got an input with "
            f"{input._data.ndim} dimensions"
        ),
    )


@public
def cov(
    input: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """The covariance matrix of the rows (variables) of (V, N); the columns are observations.

    `fweights` say how often each observation counts, `aweights` how important it is.
    """
    check_matrix("cov", input)
    check(input._data.dtype.kind != "b", "cov(): bool dtype is not supported for input")
    x = input if input._data.ndim == 2 else input.reshape((1, -1))  # (V, N)
    if x._data.dtype.kind in "iu":
        x = convert(x, get_default_dtype())
    n = x._data.shape[1]
    weight = observation_weights(fweights, aweights, n)
    if weight is None:
        deviation = weighted = x - x.mean(1, keepdim=True)
        freedom: Any = max(n - correction, 0)
    else:
        total = weight.sum()
        check(
            not isinstance(total._data, ndarray) or bool(total != 0),
            "cov(): weights sum to zero, can't be normalized",
        )
        deviation = x - (x * weight).sum(1, keepdim=True) / total
        weighted = deviation * weight
        lost = 1 if aweights is None else (weight * aweights).sum() / total
        freedom = (total - correction * lost).clamp(min=0)
    warn_if_not_free(freedom)
    return (deviation @ weighted.conj().T / freedom).squeeze()


def warn_if_not_free(freedom: Any) -> None:
    """Warns where there are not more observations than the correction takes away."""
    known = not isinstance(freedom, Tensor) or isinstance(freedom._data, ndarray)
    if known and freedom <= 0:
        warnings.warn(
            "cov(): degrees of freedom is <= 0. Correction should be strictly less than the "
            "number of observations.",
            stacklevel=3,
        )


@public
def corrcoef(input: Tensor) -> Tensor:
    """The matrix of Pearson's correlation coefficients of the rows (variables) of (V, N)."""
    check_matrix("corrcoef", input)
    c = cov(input)
    if c._data.ndim == 0:
        return c / c
    deviation = c.diagonal().real.sqrt() if c.is_complex() else c.diagonal().sqrt()
    c = c / deviation.unsqueeze(1) / deviation.unsqueeze(0)
    if not c.is_complex():
        return c.clamp(-1, 1)
    return TENSOR_NAMES["complex"](c.real.clamp(-1, 1), c.imag.clamp(-1, 1))


# -- histograms --------------------------------------------------------------------------------


@public
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, 2 ... occurs in a 1-D tensor; with `weights` the sum of those."""
    x = input.concrete("bincount")
    check(
        x.dtype.kind in "iu",
        lambda: f"[bincount] is not implemented for {input.dtype}; convert with .long()",
        NotImplementedError,
    )
    check(
        x.ndim == 1 and not (x < 0).any(),
        "bincount only supports 1-d non-negative integral inputs.",
    )
    check(minlength >= 0, "minlength should be >= 0")
    if weights is None:
        return wrap(np.bincount(x, minlength=minlength).astype(np.int64))
    w = weights.concrete("bincount")
    check(w.shape == x.shape, "weights should be 1-d and have the same length as input")
    counts = np.bincount(x, w.astype(np.float64), minlength)
    return wrap(counts.astype(np.float32) if w.dtype == np.float32 else counts)


def limits(name: str, low: float, high: float, widen: float) -> tuple[float, float]:
    """The range of a histogram, checked, and made wider on both sides if it is empty."""
    low, high = float(low), float(high)
    check(
        math.isfinite(low) and math.isfinite(high),
        f"{name}: range of [{low}, {high}] is not finite",
    )
    check(low <= high, f"{name}: max must be larger than min")
    return (low - widen, high + widen) if low == high else (low, high)


@public(out=True)
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of `bins` equal parts of [min, max], by default of the data."""
    x = input.concrete("histc")
    check(
        x.dtype.kind not in "biuc",
        lambda: f"[histc] is not implemented for {input.dtype}; convert with .float()",
        NotImplementedError,
    )
    check(bins > 0, "torch.histc(): bins must be > 0")
    if min == max and x.size:
        min, max = x.min(), x.max()
    low, high = limits("torch.histc", min, max, 1)
    return wrap(np.histogram(x.astype(np.float64), bins, (low, high))[0].astype(x.dtype))


def bin_edges(name: str, x: ndarray, bins: Any, ends: Any) -> ndarray:
    """The edges given, or those of equal bins between the ends, by default those of the data."""
    if isinstance(bins, Tensor):
        edges = bins.concrete(name)
        check(edges.dtype == x.dtype, f"{name}: input tensor and bins should have the same dtype")
        return edges
    check(bins > 0, f"{name}(): bins must be > 0, but got {bins}")
    if ends is None:
        ends = (x.min(), x.max()) if x.size else (0, 1)
    low, high = limits(name, ends[0], ends[1], 0.5)
    return np.linspace(low, high, bins + 1, dtype=x.dtype)


def count_in_bins(
    name: str, columns: list[ndarray], edges: list[ndarray], weight: Tensor | None, density: bool
) -> ndarray:
    """The number, weight or density of points in each cell of a grid; the last bins are closed."""
    inside = np.ones(len(columns[0]), bool)
    cell = np.zeros(len(columns[0]), np.int64)
    for x, e in zip(columns, edges, strict=True):
        inside &= (x >= e[0]) & (x <= e[-1])
        place = np.searchsorted(e, x, "right") - 1
        cell = cell * (len(e) - 1) + np.clip(place, 0, len(e) - 2)
    shape = [len(e) - 1 for e in edges]
    weights = None if weight is None else weight.concrete(name).reshape(-1)
    check(
        weights is None or len(weights) == len(inside),
        f"{name}: if weight tensor is provided it should have one element for each point of the "
        "input",
    )
    dtype = columns[0].dtype
    kept = None if weights is None else weights[inside].astype(np.float64)
    counts = np.bincount(cell[inside], kept, math.prod(shape)).reshape(shape)
    if density:
        counts = counts / counts.sum()
        for d, e in enumerate(edges):
            counts = counts / np.diff(e).reshape([-1 if i == d else 1 for i in range(len(edges))])
    return counts.astype(dtype)


Histogram = return_type("histogram", "hist bin_edges")
HistogramDD = return_type("histogramdd", "hist bin_edges")


@public(out=True)
def histogram(
    input: Tensor,
    bins: Any = 100,
    *,
    range: Any = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Any:
    """How many elements lie in each bin, as (hist, bin_edges); `bins` is a number or the edges.

    `range` is that of equal bins, by default the data's; `density` makes the integral 1.
    """
    x = input.concrete("histogram")
    edges = bin_edges("torch.histogram", x.reshape(-1), bins, range)
    hist = count_in_bins("histogram", [x.reshape(-1)], [edges], weight, density)
    return Histogram(wrap(hist), wrap(edges))


def histogramdd(
    input: Tensor,
    bins: Any,
    range: Any = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Any:
    """The histogram of points (..., D) on a D-dimensional grid, as (hist, list of the edges).

    `bins` is a number for all dimensions, a number for each, or the edges for each; `range` holds
    the pairs of limits one after the other.
    """
    x = input.concrete("histogramdd")
    check(x.ndim >= 2, "histogramdd: input tensor should have at least 2 dimensions")
    points = x.reshape(-1, x.shape[-1])  # (N, D)
    columns = [np.ascontiguousarray(c) for c in points.T]
    each = [bins] * len(columns) if isinstance(bins, int) else list(bins)
    check(
        len(each) == len(columns),
        "histogramdd: The size of bins must be equal to the innermost dimension of the input. Got "
        f"{len(each)} bins for {len(columns)} dimensions",
    )
    ends = (
        [None] * len(columns) if range is None else list(zip(range[::2], range[1::2], strict=True))
    )
    edges = [
        bin_edges("torch.histogramdd", *of_one) for of_one in zip(columns, each, ends, strict=True)
    ]
    hist = count_in_bins("histogramdd", columns, edges, weight, density)
    return HistogramDD(wrap(hist), tuple([wrap(e) for e in edges]))


histogramdd = public(histogramdd, method=False)


@public
def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix."""
    check(
        input._data.ndim == 2,
        lambda: f"trace: expected a matrix, but got tensor with dim {input._data.ndim}",
    )
    return input.diagonal().sum()
