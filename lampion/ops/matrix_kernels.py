"""Matrix algorithms on raw arrays that NumPy does not have: LU, LDL, triangular solves, the
exponential.

All take batches `(..., m, n)`. May import NumPy and errors only. After Golub & Van Loan, "Matrix
Computations".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.linalg import LinAlgError as NumpyError

from ..errors import LinAlgError

LEAF = 16  # up to this many columns, loops; beyond, recursion on halves, by matrix products


# -- failures ----------------------------------------------------------------------------------


def refuse(info: ndarray, caller: str | None, reason: str) -> None:
    """Raises LinAlgError for the first matrix whose code is not 0, where a caller wants that."""
    if caller is not None and info.any():
        at = int(np.flatnonzero(info)[0])
        element = f"(Batch element {at}): " if info.ndim else ""
        raise LinAlgError(f"{caller}: {element}{reason.format(info.reshape(-1)[at])}")


def no_failures(a: ndarray) -> ndarray:
    """The code 0 for each matrix of a batch."""
    return np.zeros(a.shape[:-2], np.int32)


# -- triangular systems ------------------------------------------------------------------------


def substitute(a: ndarray, b: ndarray, upper: bool, unit: bool) -> ndarray:
    """x with `a x = b` for triangular a (..., n, n) and b (..., n, k); the other triangle is not
    read."""
    n = a.shape[-1]
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    x = np.array(np.broadcast_to(b, lead + b.shape[-2:]))
    if n > LEAF:
        first, second = slice(n // 2), slice(n // 2, None)
        start, rest = (second, first) if upper else (first, second)
        x[..., start, :] = substitute(a[..., start, start], x[..., start, :], upper, unit)
        x[..., rest, :] -= a[..., rest, start] @ x[..., start, :]
        x[..., rest, :] = substitute(a[..., rest, rest], x[..., rest, :], upper, unit)
        return x
    for i in reversed(range(n)) if upper else range(n):
        if not unit:
            x[..., i, :] /= a[..., i, i, None]
        left = slice(i) if upper else slice(i + 1, None)
        x[..., left, :] -= a[..., left, i, None] * x[..., i, None, :]
    return x


# -- LU with partial pivoting ------------------------------------------------------------------


def lu_factor(a: ndarray) -> tuple[ndarray, ndarray]:
    """L below and U on and above the diagonal (..., m, n), and the rows swapped with, from 1 (...,
    min(m, n))."""
    *lead, m, n = a.shape
    lu = a.reshape(math.prod(lead), m, n).copy()  # (B, m, n)
    pivots = np.zeros((len(lu), min(m, n)), np.int32)  # (B, k)
    if lu.size:
        eliminate(lu, pivots)
    return lu.reshape(a.shape), (pivots + 1).reshape(*lead, min(m, n))


def eliminate(a: ndarray, pivots: ndarray) -> None:
    """LU in place: the left half, what that does to the right, the right half (Toledo 1997)."""
    k = pivots.shape[-1]
    if k <= LEAF:
        return eliminate_columns(a, pivots)
    h = k // 2
    left, right = a[..., :h], a[..., h:]
    eliminate(left, pivots[:, :h])
    swap_rows(right, pivots[:, :h])
    right[:, :h] = substitute(left[:, :h], right[:, :h], upper=False, unit=True)
    right[:, h:] -= left[:, h:] @ right[:, :h]
    eliminate(right[:, h:], pivots[:, h:])
    swap_rows(left[:, h:], pivots[:, h:])
    pivots[:, h:] += h


def eliminate_columns(a: ndarray, pivots: ndarray) -> None:
    """LU in place, column by column."""
    each = np.arange(len(a))
    for i in range(pivots.shape[-1]):
        found = i + taxicab(a[:, i:, i]).argmax(-1)  # (B,)
        pivots[:, i] = found
        row = a[each, found]
        a[each, found] = a[:, i]
        a[:, i] = row
        pivot = a[:, i, i, None]
        below = a[:, i + 1 :, i]
        np.divide(below, pivot, out=below, where=pivot != 0)
        a[:, i + 1 :, i + 1 :] -= below[:, :, None] * a[:, i, None, i + 1 :]


def taxicab(x: ndarray) -> ndarray:
    """|re| + |im|, by which LAPACK compares the sizes of complex numbers."""
    return np.abs(x.real) + np.abs(x.imag) if x.dtype.kind == "c" else np.abs(x)


def row_order(pivots: ndarray, m: int) -> ndarray:
    """The rows' order after the swaps of row i with row pivots[..., i], both from 0: (..., k) ->
    (..., m)."""
    flat = pivots.reshape(math.prod(pivots.shape[:-1]), pivots.shape[-1])
    order = np.tile(np.arange(m), (len(flat), 1))
    each = np.arange(len(flat))
    for i in range(flat.shape[-1]):
        found = flat[:, i]
        here = order[:, i].copy()
        order[:, i] = order[each, found]
        order[each, found] = here
    return order.reshape(*pivots.shape[:-1], m)


def swap_rows(a: ndarray, pivots: ndarray) -> None:
    """The swaps on the rows of a, in place."""
    order = row_order(pivots, a.shape[-2])
    a[...] = np.take_along_axis(a, order[..., None], -2)


def permutation(pivots: ndarray, m: int, dtype: Any) -> ndarray:
    """The matrix P of `A = P L U`: (..., m, m)."""
    order = row_order(pivots - 1, m)
    return (order[..., None, :] == np.arange(m)[:, None]).astype(dtype)


def first_zero(lu: ndarray) -> ndarray:
    """For each matrix the number, from 1, of the first zero on U's diagonal; 0 if there is none."""
    zero = np.diagonal(lu, axis1=-2, axis2=-1) == 0
    if zero.shape[-1] == 0:
        return no_failures(lu)
    return np.where(zero.any(-1), zero.argmax(-1) + 1, 0).astype(np.int32)


def solve_or_refuse(
    a: ndarray, b: ndarray | None, caller: str | None, reason: str
) -> tuple[ndarray, ndarray]:
    """x with `a x = b` (b None: the inverse) and the codes; singular matrices give infinities and
    NaNs."""
    try:
        return np.linalg.inv(a) if b is None else np.linalg.solve(a, b), no_failures(a)
    except NumpyError:
        lu, pivots = lu_factor(a)
        info = first_zero(lu)
        refuse(info, caller, reason)
        turned = permutation(pivots, a.shape[-1], a.dtype).swapaxes(-1, -2)
        y = substitute(lu, turned if b is None else turned @ b, upper=False, unit=True)
        return substitute(lu, y, upper=True, unit=False), info


# -- Cholesky ----------------------------------------------------------------------------------

NOT_POSITIVE = (
    "The factorization could not be completed because the input is not positive-definite (the "
    "leading minor of "
    "order {} is not positive-definite)."
)


def cholesky(a: ndarray, caller: str | None) -> tuple[ndarray, ndarray]:
    """L with `a = L L^H` and the order of the first leading minor that is not positive, or 0."""
    try:
        return np.linalg.cholesky(a), no_failures(a)
    except NumpyError:
        factors, info = np.tril(a), no_failures(a)
        for i in np.ndindex(info.shape):
            info[i] = cholesky_columns(factors[i])
        refuse(info, caller, NOT_POSITIVE)
        return factors, info


def cholesky_columns(a: ndarray) -> int:
    """Cholesky of one lower triangle in place, up to the first minor that is not positive; returns
    its order or 0."""
    for j in range(len(a)):
        done = a[j:, :j] @ a[j, :j].conj()
        square = (a[j, j] - done[0]).real
        if not square > 0:
            return j + 1
        a[j, j] = math.sqrt(square)
        a[j + 1 :, j] = (a[j + 1 :, j] - done[1:]) / a[j, j]
    return 0


# -- LDL with diagonal pivoting ----------------------------------------------------------------

ALPHA = (1 + math.sqrt(17)) / 8  # balances the growth of one 2x2 step and of two 1x1 steps


def ldl_factor(a: ndarray, hermitian: bool) -> tuple[ndarray, ndarray, ndarray]:
    """The lower triangle's `A = L D L^T` (or L^H): LD in LAPACK's packing, pivots from 1 (both
    negative for a 2x2 block), and the code of the first zero pivot."""
    ld = from_lower(a, hermitian)
    pivots = np.zeros(a.shape[:-1], np.int32)
    info = no_failures(a)
    for i in np.ndindex(info.shape):
        info[i] = bunch_kaufman(ld[i], pivots[i], hermitian)
    return np.tril(ld), pivots, info


def from_lower(a: ndarray, hermitian: bool) -> ndarray:
    """The symmetric (or Hermitian) matrix with this lower triangle."""
    other = np.tril(a, -1).swapaxes(-1, -2)
    if not hermitian:
        return np.tril(a) + other
    whole = np.tril(a, -1) + other.conj()
    i = np.arange(a.shape[-1])
    whole[..., i, i] = a[..., i, i].real
    return whole


def bunch_kaufman(a: ndarray, pivots: ndarray, hermitian: bool) -> int:
    """LDL of one full matrix in place; the lower triangle holds the result."""
    k, info, n = 0, 0, len(a)
    while k < n:
        p, step = choose_pivot(a, k)
        if step == 0:
            info, step = info or k + 1, 1
        else:
            swap_both(a[k:, k:], step - 1, p - k)
            block, below = a[k : k + step, k : k + step].copy(), a[k + step :, k : k + step].copy()
            factor = below / block if step == 1 else np.linalg.solve(block.T, below.T).T
            rest = a[k + step :, k + step :]
            rest[...] = from_lower(
                rest - factor @ (below.conj() if hermitian else below).T, hermitian
            )
            a[k + step :, k : k + step] = factor
        pivots[k : k + step] = p + 1 if step == 1 else -(p + 1)
        k += step
    return info


def choose_pivot(a: ndarray, k: int) -> tuple[int, int]:
    """Bunch & Kaufman's choice: the row that comes to the pivot's place and the block's size, 0 for
    a zero column."""
    here = taxicab(a[k, k])
    column = taxicab(a[k + 1 :, k])
    largest = column.max(initial=0)
    if max(here, largest) == 0 or np.isnan(here):
        return k, 0
    if here >= ALPHA * largest:
        return k, 1
    p = k + 1 + int(column.argmax())
    row = taxicab(a[p, k:])
    row[p - k] = 0
    if here * row.max() >= ALPHA * largest * largest:
        return k, 1
    return (p, 1) if taxicab(a[p, p]) >= ALPHA * row.max() else (p, 2)


def swap_both(a: ndarray, i: int, j: int) -> None:
    """Rows and columns i and j exchanged, in place."""
    a[[i, j]] = a[[j, i]]
    a[:, [i, j]] = a[:, [j, i]]


def ldl_solve(ld: ndarray, pivots: ndarray, b: ndarray, hermitian: bool) -> ndarray:
    """x with `A x = b`, from A's LDL factorization."""
    lead = np.broadcast_shapes(ld.shape[:-2], b.shape[:-2])
    x = np.array(np.broadcast_to(b, lead + b.shape[-2:]))
    ld = np.broadcast_to(ld, lead + ld.shape[-2:])
    pivots = np.broadcast_to(pivots, lead + pivots.shape[-1:])
    for i in np.ndindex(lead):
        ldl_substitute(ld[i], pivots[i], x[i], hermitian)
    return x


def ldl_substitute(ld: ndarray, pivots: ndarray, x: ndarray, hermitian: bool) -> None:
    """`ldl_solve` for one matrix, in place: forward with swaps and D, then backward."""
    blocks, k = [], 0
    while k < len(ld):
        step = 1 if pivots[k] > 0 else 2
        blocks.append((slice(k, k + step), k + step, k + step - 1, abs(int(pivots[k])) - 1))
        k += step
    for block, after, i, p in blocks:
        x[[i, p]] = x[[p, i]]
        x[after:] -= ld[after:, block] @ x[block]
        x[block] = np.linalg.solve(from_lower(ld[block, block], hermitian), x[block])
    for block, after, i, p in reversed(blocks):
        factor = ld[after:, block].T
        x[block] -= (factor.conj() if hermitian else factor) @ x[after:]
        x[[i, p]] = x[[p, i]]


# -- the exponential ---------------------------------------------------------------------------

PADE = (
    64764752532480000,
    32382376266240000,
    7771770303897600,
    1187353796428800,
    129060195264000,
    10559470521600,
    670442572800,
    33522128640,
    1323241920,
    40840800,
    960960,
    16380,
    182,
    1,
)
PADE_RADIUS = 5.37  # norms up to which the approximant is exact in double precision


def exponential(a: ndarray) -> ndarray:
    """exp of square matrices: Pade approximant of order 13, scaling and squaring (Higham 2005), in
    double precision."""
    if a.size == 0:
        return a.copy()
    x = a.astype(np.result_type(a.dtype, np.float64))
    norm = np.abs(x).sum(-2).max(-1)  # (...)
    halvings = np.ceil(np.log2(np.where(norm > PADE_RADIUS, norm / PADE_RADIUS, 1)))
    halvings = np.where(np.isfinite(halvings), halvings, 0)
    x = x / np.exp2(halvings)[..., None, None]
    x2 = x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    one, b = np.eye(x.shape[-1]), PADE
    odd = x @ (
        x6 @ (b[13] * x6 + b[11] * x4 + b[9] * x2) + b[7] * x6 + b[5] * x4 + b[3] * x2 + b[1] * one
    )
    even = (
        x6 @ (b[12] * x6 + b[10] * x4 + b[8] * x2) + b[6] * x6 + b[4] * x4 + b[2] * x2 + b[0] * one
    )
    y, _ = solve_or_refuse(even - odd, even + odd, None, "")
    for i in range(int(halvings.max())):
        y = np.where((i < halvings)[..., None, None], y @ y, y)
    return y.astype(a.dtype)


# -- decompositions of NumPy, with PyTorch's failures ------------------------------------------


def decompose(function: Callable[[], Any], a: ndarray, caller: str, repeated: str) -> Any:
    """NumPy's decomposition; raises LinAlgError where it does not converge."""
    if not np.isfinite(a).all():
        raise LinAlgError(
            f"{caller}: The algorithm failed to converge because the input matrix contained "
            "non-finite values."
        )
    try:
        return function()
    except NumpyError:
        raise LinAlgError(
            f"{caller}: The algorithm failed to converge because the input matrix is "
            "ill-conditioned or has too many "
            f"repeated {repeated}."
        ) from None
