"""Norms and condition numbers of matrices. May import decompose, matrix_functions, solve, earlier
families, core and the base.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.promotion import convert
from ..core.tensor import Tensor, normalize_dim
from ..errors import check
from . import distances
from .comparison import where
from .decompose import svdvals
from .linalg import check_floating, check_matrix, check_square, linalg
from .reduce import keep_dims
from .rules import EXPORTS, dtype_argument, normalize_dims, numpy_names
from .solve import inv_ex


@linalg("vector_norm")
def vector_norm(
    x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """`sum(|x|^ord)^(1/ord)` over `dim`, all by default; the largest size for inf, the smallest for
    -inf, the number of nonzero elements for 0.

    >>> torch.linalg.vector_norm(torch.tensor([3.0, 4.0]))
    tensor(5.)
    """
    check_same_kind(x, dtype, "linalg.vector_norm")
    dims = normalize_dims(dim if dim != () and dim != [] else None, x.dim())
    check(
        0 <= ord < math.inf or x.dim() == 0 or all(x.shape[d] for d in dims),
        lambda: (
            f"linalg.vector_norm cannot compute the {ord} norm on an empty tensor because the "
            "operation does not have "
            "an identity"
        ),
    )
    return distances.vector_norm(x, ord, dim, keepdim, dtype)


def check_same_kind(x: Tensor, dtype: Any, name: str) -> None:
    """Raises RuntimeError for a dtype in which the norm of x would lose its imaginary part or
    precision."""
    d = dtype_argument(dtype)
    check(
        d is None or d.is_complex is x.dtype.is_complex,
        lambda: (
            f"{name}: dtype should be {'complex' if x.is_complex() else 'floating-point'} for the "
            f"input, got {dtype}"
        ),
    )
    check(
        d is None or d.itemsize >= x.dtype.itemsize,
        lambda: (
            f"{name}: the dtype of the input ({x.dtype}) should be convertible without narrowing "
            "to the specified "
            f"dtype ({dtype})"
        ),
    )


@linalg("matrix_norm")
@numpy_names
def matrix_norm(
    input: Tensor,
    ord: Any = "fro",
    dim: Any = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> Tensor:
    """The norms of the matrices in two dimensions: "fro" (the root of the sum of squares), "nuc"
    (the sum of singular values), 2 and -2 (the largest and smallest singular value), 1 and -1 (the
    largest and smallest sum of a column's sizes), inf and -inf (of a row's)."""
    name = "linalg.matrix_norm"
    check_floating(input, name)
    check(input.dim() >= 2, f"{name}: The input tensor A must have at least 2 dimensions.")
    check(
        not isinstance(dim, int) and len(dim) == 2,
        lambda: f"{name}: dim must be a 2-tuple. Got {dim}",
    )
    dims = [normalize_dim(d, input.dim()) for d in dim]
    check(dims[0] != dims[1], lambda: f"{name}: dims must be different. Got ({dim[0]}, {dim[1]})")
    known = ord in ("fro", "nuc") if isinstance(ord, str) else abs(ord) in (1, 2, math.inf)
    check(known, lambda: f"{name}: Order {ord} not supported.")
    if dtype is not None:
        check_same_kind(input, dtype, name)
        input = convert(input, dtype_argument(dtype))
    if ord == "fro":
        return distances.vector_norm(input, 2, dims, keepdim)
    if ord == "nuc" or abs(ord) == 2:
        S = svdvals(input.movedim(dims, (-2, -1)))
        found = S.sum(-1) if ord == "nuc" else extreme(S, ord, -1).squeeze(-1)
        return keep_dims(found, input.shape, dims, False) if keepdim else found
    added, compared = dims if abs(ord) == 1 else dims[::-1]
    found = extreme(distances.vector_norm(input, 1, added, True), ord, compared)
    return found if keepdim else found.squeeze(dims)


def extreme(sizes: Tensor, ord: float, dim: int) -> Tensor:
    """The largest along `dim` for a positive order, 0 where there is none, the smallest for a
    negative one."""
    if ord < 0:
        return sizes.amin(dim, True)
    return sizes.amax(dim, True) if sizes.shape[dim] else sizes.sum(dim, True)


@linalg("norm")
@numpy_names
def norm(
    input: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """`matrix_norm` over two dimensions or of a matrix where `ord` is given, else `vector_norm`, by
    default of all elements and of order 2."""
    dims = (dim,) if isinstance(dim, int) else None if dim is None else tuple(dim)
    check(
        dims is None or len(dims) in (1, 2),
        lambda: (
            f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims or ())}"
        ),
    )
    check(
        dims is not None or ord is None or input.dim() in (1, 2),
        lambda: (
            "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
            f"{input.dim()}D"
        ),
    )
    if ord is not None and len(dims if dims is not None else input.shape) == 2:
        return matrix_norm(input, ord, dims or (0, 1), keepdim, dtype=dtype)
    check(
        not isinstance(ord, str),
        lambda: f"linalg.norm: Order {ord} not supported for vectors; give two dimensions",
    )
    return vector_norm(input, 2 if ord is None else ord, dims, keepdim, dtype=dtype)


@linalg("cond")
def cond(input: Tensor, p: Any = None) -> Tensor:
    """The condition number `|input| |input^-1|` in the norm p, by default 2: how much a solution
    may magnify errors; inf for singular matrices."""
    check_matrix(input, "linalg.cond")
    if p is None or p in (2, -2):
        S = svdvals(input)
        return S[..., -1] / S[..., 0] if p == -2 else S[..., 0] / S[..., -1]
    check(
        p in ("fro", "nuc", 1, -1, math.inf, -math.inf),
        lambda: f"linalg.cond got an invalid norm type: {p}",
    )
    check_square(input, "linalg.cond")
    inverse, info = inv_ex(input)
    sizes = matrix_norm(input, p) * matrix_norm(
        where((info != 0)[..., None, None], 0.0, inverse), p
    )
    return where(info != 0, math.inf, sizes)


def nuclear_norm(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum of the singular values of the matrices in two dimensions."""
    return distances.norm(input, "nuc", dim, keepdim)


def frobenius_norm(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """The root of the sum of squares over one or two dimensions."""
    return distances.norm(input, "fro", dim, keepdim)


EXPORTS["torch"].update(nuclear_norm=nuclear_norm, frobenius_norm=frobenius_norm)
