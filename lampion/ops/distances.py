"""Norms of tensors and distances between them. May import earlier families, core and the base."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from ..core.promotion import convert
from ..core.tensor import Tensor, normalize_dim, wrap
from ..errors import check
from .reduce import SUM, add_up, keep_dims, reduced_dims, reduction
from .rules import dtype_argument, normalize_dims, numpy_names, public

# -- norms -------------------------------------------------------------------------------------


add_reduce: Any = np.add.reduce  # their arguments go by position, which NumPy's stubs do not know
max_reduce: Any = np.maximum.reduce
min_reduce: Any = np.minimum.reduce


def norm_kernel(x: ndarray, p: float, dim: Any, keepdim: bool) -> Any:
    """sum(|x|^p)^(1/p), with its limits for p = 0 and infinity."""
    if p == 0:
        return add_reduce(x != 0, dim, x.real.dtype, None, keepdim)
    if p == 2 and x.dtype.kind != "c":
        if dim is None and not keepdim:
            row = x.reshape(-1)
            return np.sqrt(np.dot(row, row))
        return np.sqrt(add_up(np.square(x), dim, keepdim))
    size = np.abs(x)
    if p == math.inf:
        return max_reduce(size, dim, None, None, keepdim, 0)
    if p == -math.inf:
        return min_reduce(size, dim, None, None, keepdim)
    if p == 1:
        return add_up(size, dim, keepdim)
    return add_up(size**p, dim, keepdim) ** (1 / p)


def norm_gradient(
    g: Tensor, x: Tensor, y: Tensor, p: float, dim: Any, keepdim: bool
) -> Tensor | None:
    """g sign(x) (|x| / y)^(p - 1), zero where the norm is; extremes share it evenly."""
    y, g = (keep_dims(t, x._data.shape, dim, keepdim) for t in (y, g))
    if p == 0:
        return None
    if p == 1:
        return g * x.sgn()
    if p == 2:
        return x * (g / y).where(y != 0, 0)
    size = x.abs()
    if math.isinf(p):
        chosen = size == y
        return x.sgn() * (g / apply(SUM, chosen, dim=dim, keepdim=True) * chosen)
    if p < 2:
        powers = size.pow(p - 1).where(x != 0, 0) * x.sgn()
    else:
        powers = size.pow(p - 2) * x
    return powers * (g / y.pow(p - 1)).where(y != 0, 0)


NORM = reduction(
    "norm",
    norm_kernel,
    norm_gradient,
    grad_name="LinalgVectorNormBackward0",
    autocast="float32 on cuda",
)


def vector_norm(input: Tensor, p: float, dim: Any, keepdim: bool, dtype: Any = None) -> Tensor:
    """The p-norm of the numbers along `dim` (one or several, None for all)."""
    check(
        input._data.dtype.kind not in "biu",
        lambda: (
            "linalg.vector_norm: Expected a floating point or complex tensor as input. "
            f"Got {input.dtype}; convert with .float()"
        ),
    )
    if dtype is not None:
        input = convert(input, dtype_argument(dtype))
    dim = reduced_dims(dim, input._data.ndim)
    return apply(NORM, input, p=float(p), dim=dim, keepdim=keepdim)


@numpy_names
def norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    dtype: Any = None,
) -> Tensor:
    """The p-norm over `dim` (all by default); "fro" is p = 2, "nuc" sums the singular values.

    >>> torch.tensor([3.0, 4.0]).norm()
    tensor(5.)
    """
    if p == "nuc":
        return nuclear_norm(input, dim, keepdim, dtype)
    check(
        not isinstance(p, str) or p == "fro",
        lambda: f"norm(): only valid string values are 'fro' and 'nuc', found: {p}",
    )
    return vector_norm(input, 2.0 if p == "fro" else p, dim, keepdim, dtype)


def nuclear_norm(input: Tensor, dim: Any, keepdim: bool, dtype: Any) -> Tensor:
    """The sum of the singular values of the matrices in the two dimensions `dim`."""
    ndim = input._data.ndim
    dims = normalize_dims(dim, ndim)
    check(
        len(dims) == 2,
        lambda: (
            f"norm(): the nuclear norm expects a matrix or two dimensions, got dim={dim} of {ndim} "
            "dimensions"
        ),
    )
    if dtype is not None:
        input = convert(input, dtype_argument(dtype))
    matrices = input.movedim(dims, (-2, -1))
    found = matrices.svd().S.sum(-1)
    return keep_dims(found, input._data.shape, dims, False) if keepdim else found


norm = public(norm, out=True)


@public
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of `input - other`."""
    return vector_norm(input - other, p, None, False)


@public(inplace=True, out=True)
@numpy_names
def renorm(input: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """Scales the slices along `dim` whose p-norm is above `maxnorm` down to it."""
    ndim = input._data.ndim
    check(p > 0, "renorm: non-positive-norm not supported")
    check(maxnorm >= 0, f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    check(ndim > 1, f"renorm: input needs at least 2 dimensions, got {ndim} dimensions")
    dim = normalize_dim(dim, ndim)
    size = vector_norm(input, p, [d for d in range(ndim) if d != dim], True)
    return input * (maxnorm / (size + 1e-7)).where(size > maxnorm, 1.0)


# -- distances of all pairs --------------------------------------------------------------------


def squared_distances(x: ndarray, y: ndarray) -> ndarray:
    """x^2 - 2 x y + y^2 of all pairs of rows, as one product of (-2 x, x^2, 1) and (y, 1, y^2)."""
    of_x = np.empty((*x.shape[:-1], x.shape[-1] + 2), x.dtype)
    of_y = np.empty((*y.shape[:-1], y.shape[-1] + 2), y.dtype)
    np.multiply(x, -2, of_x[..., :-2])
    of_y[..., :-2] = y
    np.sum(x * x, -1, out=of_x[..., -2])
    np.sum(y * y, -1, out=of_y[..., -1])
    of_x[..., -1] = of_y[..., -2] = 1
    return of_x @ of_y.swapaxes(-1, -2)


def cdist_kernel(x: ndarray, y: ndarray, p: float, product: bool) -> ndarray:
    """(..., P, M) and (..., R, M) to (..., P, R); `product` finds 2-norms by a matrix product."""
    if product:
        return np.sqrt(np.maximum(squared_distances(x, y), 0))
    out = np.empty(
        (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-2]), x.dtype
    )
    for i in range(x.shape[-2]):  # one row at a time, so that memory stays small
        out[..., i, :] = norm_kernel(x[..., i, None, :] - y, p, -1, False)
    return out


def cdist_gradient(g: Tensor, x: Tensor, y: Tensor, d: Tensor, p: float, needs: tuple) -> tuple:
    """Each difference has the gradient of its norm; for p = 2 that is a product of matrices."""
    if p == 0:
        return None, None
    if p == 2:
        weight = (g / d).where(d != 0, 0)  # (..., P, R)
        turned = weight.transpose(-1, -2)
        return (
            x * weight.sum(-1, keepdim=True) - weight @ y if needs[0] else None,
            y * turned.sum(-1, keepdim=True) - turned @ x if needs[1] else None,
        )
    difference = x.unsqueeze(-2) - y.unsqueeze(-3)  # (..., P, R, M)
    grads = norm_gradient(g, difference, d, p, difference._data.ndim - 1, False)
    return (None, None) if grads is None else (grads.sum(-2), -grads.sum(-3))


CDIST = Op(
    "cdist",
    ("x", "y"),
    cdist_kernel,
    vjp=cdist_gradient,
    outputs=("d",),
    promote="common",
    autocast="float32",
)
PRODUCT_MODES: dict[str, Callable[[int, int], bool]] = {
    "use_mm_for_euclid_dist_if_necessary": lambda rows, columns: rows > 25 or columns > 25,
    "use_mm_for_euclid_dist": lambda rows, columns: True,
    "donot_use_mm_for_euclid_dist": lambda rows, columns: False,
}


def cdist(
    x1: Tensor,
    x2: Tensor,
    p: float = 2.0,
    compute_mode: str = "use_mm_for_euclid_dist_if_necessary",
) -> Tensor:
    """The p-norm distances (..., P, R) of all rows of x1 (..., P, M) to all of x2 (..., R, M)."""
    for name, x in (("X1", x1), ("X2", x2)):
        check(
            x._data.dtype.kind not in "biuc",
            f"cdist only supports floating-point dtypes, {name} got: {x.dtype}",
        )
        check(
            x._data.ndim >= 2,
            f"cdist only supports at least 2D tensors, {name} got: {x._data.ndim}D",
        )
    have, other = x1._data.shape, x2._data.shape
    check(
        have[-1] == other[-1],
        f"X1 and X2 must have the same number of columns. X1: {have[-1]} X2: {other[-1]}",
    )
    check(p >= 0, "cdist only supports non-negative p values")
    check(compute_mode in PRODUCT_MODES, f"{compute_mode} is not a valid value for compute_mode")
    product = p == 2 and PRODUCT_MODES[compute_mode](have[-2], other[-2])
    return CDIST(x1, x2, p=float(p), product=product)


cdist = public(cdist, method=False)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm distances of all N (N - 1) / 2 pairs of rows of (N, M), row by row."""
    check(
        input._data.ndim == 2, lambda: f"pdist only supports 2D tensors, got: {input._data.ndim}D"
    )
    check(
        input._data.dtype.kind not in "biuc",
        "pdist only supports floating-point dtypes",
    )
    check(p >= 0, "pdist only supports non-negative p values")
    first, second = (wrap(i) for i in np.triu_indices(input._data.shape[0], 1))
    return vector_norm(input.index_select(0, first) - input.index_select(0, second), p, 1, False)


pdist = public(pdist, spaces=("torch", "nn.functional"), method=False)
