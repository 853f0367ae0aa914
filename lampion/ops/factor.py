"""LU, LDL and Householder factors. May import linalg, solve, earlier families, core and the base.

Factors come in LAPACK's packing: the triangles of L and U, or R and the Householder vectors, share
one matrix. The LU gradient is in Townsend's notes; products of Householder reflectors are one `I -
V T V^H` (Schreiber & Van Loan 1989).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .linalg import (
    batch_matrices,
    check_floating,
    check_matrix,
    check_same_type,
    check_square,
    identity,
    linalg,
)
from .matrix_kernels import (
    first_zero,
    ldl_factor as ldl_kernel,
    ldl_solve as ldl_solve_kernel,
    lu_factor as lu_kernel,
    permutation,
    refuse,
)
from .return_types import return_type
from .rules import move_to_front, public
from .shape import cat
from .solve import check_sides, triangular

LU = return_type("linalg_lu", "P L U")
LUUnpack = return_type("lu_unpack", "P L U")
LUFactor = return_type("linalg_lu_factor", "LU pivots")
LUFactorEx = return_type("linalg_lu_factor_ex", "LU pivots info")
LDLFactor = return_type("linalg_ldl_factor", "LD pivots")
LDLFactorEx = return_type("linalg_ldl_factor_ex", "LD pivots info")
Geqrf = return_type("geqrf", "a tau")

# -- LU ----------------------------------------------------------------------------------------

ZERO_PIVOT = (
    "U[{0},{0}] is zero and using it on lu_solve would result in a division by zero. If you still "
    "want to perform the "
    "factorization, consider calling linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)"
)


def lu_factor_kernel(a: ndarray, caller: str | None) -> tuple[ndarray, ndarray, ndarray]:
    """LU, pivots and the codes."""
    lu, pivots = lu_kernel(a)
    info = first_zero(lu)
    refuse(info, caller, ZERO_PIVOT)
    return lu, pivots, info


def lu_gradient(g: Tensor, LU: Tensor, pivots: Tensor) -> Tensor:
    """P L^-H [tril(L^H gL, -1) + triu(gU U^H)] U^-H for square matrices. A wide one has more
    columns of U, a tall one more rows of L: `more` is what these change in the square part."""
    m, n = LU.shape[-2:]
    k = min(m, n)
    P, L, U = unpack(LU, pivots)
    square = g.narrow(-2, 0, k).narrow(-1, 0, k)
    L1, U1 = L.narrow(-2, 0, k), U.narrow(-1, 0, k)
    of_l, of_u = L1.mH @ square.tril(-1), square.triu() @ U1.mH
    if n > k:
        gU2 = g.narrow(-1, k, n - k)
        of_l = of_l - gU2 @ U.narrow(-1, k, n - k).mH
    if m > k:
        gL2 = g.narrow(-2, k, m - k)
        of_u = of_u - L.narrow(-2, k, m - k).mH @ gL2
    gA = triangular(L1.mH, of_l.tril(-1) + of_u.triu(), upper=True, unit=True)
    if m > k:
        gA = cat([gA, gL2], -2)
    gA = triangular(U1.mH, gA, upper=False, left=False)
    if n > k:
        gA = cat([gA, triangular(L1.mH, gU2, upper=True, unit=True)], -1)
    return P @ gA


def permutation_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Pivots are vectors: the batch dimension comes first."""
    return op(move_to_front(values[0], dims[0]), **params), 0


LU_FACTOR = Op(
    "lu_factor_ex",
    ("A",),
    lu_factor_kernel,
    outputs=("LU", "pivots", "info"),
    constant_outputs=("pivots", "info"),
    vjp={"A": lu_gradient},
    batch=batch_matrices,
    grad_name="LinalgLuFactorExBackward0",
)
PERMUTATION = Op("permutation_of_pivots", ("pivots",), permutation, batch=permutation_batch)


def lu_factored(A: Tensor, pivot: bool, caller: str | None) -> tuple[Tensor, Tensor, Tensor]:
    """LU, pivots and codes."""
    check_matrix(A, "torch.linalg.lu_factor")
    check(pivot, "linalg.lu_factor: LU without pivoting is not implemented on the CPU")
    return LU_FACTOR(A, caller=caller)


def unpack(LU: Tensor, pivots: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P (*, m, m), L (*, m, k) and U (*, k, n)."""
    m, n = LU.shape[-2:]
    k = min(m, n)
    L = LU.narrow(-1, 0, k).tril(-1) + identity(LU).narrow(-1, 0, k)
    return PERMUTATION(pivots, m=m, dtype=LU._data.dtype), L, LU.narrow(-2, 0, k).triu()


@linalg("lu_factor")
def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """The LU factors in one matrix, L below and U from the diagonal on, and the rows swapped,
    counted from 1; raises RuntimeError where U has a zero on its diagonal."""
    return LUFactor(*lu_factored(A, pivot, "torch.linalg.lu_factor")[:2])


@linalg("lu_factor_ex")
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """`lu_factor` and, for each matrix, the number of the first zero pivot (0: none)."""
    return LUFactorEx(*lu_factored(A, pivot, "torch.linalg.lu_factor_ex" if check_errors else None))


@linalg("lu")
def linalg_lu(A: Tensor, *, pivot: bool = True) -> Any:
    """`A = P L U` with a permutation P, unit lower triangular L and upper triangular U."""
    LU_data, pivots, _ = lu_factored(A, pivot, None)
    return LU(*unpack(LU_data, pivots))


@public
def lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> tuple:
    """The LU factors in one matrix, the pivots and, if asked for, the codes; see
    `torch.linalg.lu_factor_ex`."""
    results = lu_factored(A, pivot, None if get_infos else "torch.linalg.lu_factor")
    return results if get_infos else results[:2]


@public(method=False, out=True)
def lu_unpack(
    LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> Any:
    """P, L and U from the packed factors; what is not unpacked is empty."""
    check(
        not unpack_pivots or LU_pivots.dtype is dtypes.int32,
        "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 "
        "dtype.\nNote: this function is "
        "intended to be used with the output produced by torch.linalg.lu_factor",
    )
    empty = LU_data.new_empty(0)
    P, L, U = unpack(LU_data, LU_pivots)
    return LUUnpack(P if unpack_pivots else empty, *((L, U) if unpack_data else (empty, empty)))


@linalg("lu_solve")
def linalg_lu_solve(
    LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False
) -> Tensor:
    """X with `A X = B` (`X A = B`; with `adjoint`, A^H for A) from the LU factors of A."""
    name = "linalg.lu_solve"
    check_square(LU, name, "LU")
    check_same_type(name, LU, B, "LU", "B")
    check(
        pivots.dtype is dtypes.int32,
        "linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32",
    )
    check(
        LU.shape[:-1] == pivots.shape,
        "linalg.lu_solve: Number of pivots per batch should be same as the dimension of the matrix",
    )
    check_sides(LU, B, left, name)
    if not left:
        return linalg_lu_solve(LU, pivots, B.mH, adjoint=not adjoint).mH
    P, L, U = unpack(LU, pivots)
    if adjoint:
        return P @ triangular(L.mH, triangular(U.mH, B, upper=False), upper=True, unit=True)
    return triangular(U, triangular(L, P.mT @ B, upper=False, unit=True), upper=True)


@public(out=True)
def lu_solve(input: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X with `A X = input` from the LU factors of A; see `torch.linalg.lu_solve`."""
    return linalg_lu_solve(LU_data, LU_pivots, input)


# -- LDL ---------------------------------------------------------------------------------------


def ldl_factor_kernel(
    a: ndarray, hermitian: bool, caller: str | None
) -> tuple[ndarray, ndarray, ndarray]:
    """LD, pivots and the codes."""
    ld, pivots, info = ldl_kernel(a, hermitian)
    refuse(info, caller, "D[{0},{0}] is zero, so that the factors cannot be used to solve a system")
    return ld, pivots, info


def ldl_solve_gradient(g: Tensor, LD: Tensor, pivots: Tensor, hermitian: bool) -> Tensor:
    """The adjoint of a symmetric matrix is its conjugate."""
    if hermitian:
        return LDL_SOLVE(LD, pivots, g, hermitian=True)
    return LDL_SOLVE(LD, pivots, g.conj(), hermitian=False).conj()


LDL_FACTOR = Op(
    "ldl_factor_ex",
    ("A",),
    ldl_factor_kernel,
    outputs=("LD", "pivots", "info"),
    batch=batch_matrices,
    constant_outputs=("pivots", "info"),
)
LDL_SOLVE = Op(
    "ldl_solve",
    ("LD", "pivots", "B"),
    ldl_solve_kernel,
    vjp={"B": ldl_solve_gradient},
    grad_name="LinalgLdlSolveBackward0",
)


@linalg("ldl_factor")
def ldl_factor(input: Tensor, *, hermitian: bool = False) -> Any:
    """`input = L D L^T` (`L D L^H` if `hermitian`) of symmetric matrices by Bunch & Kaufman's
    pivoting, packed into one lower triangle; D has blocks of 1x1 and 2x2, whose pivots are
    negative."""
    check_square(input, "torch.linalg.ldl_factor")
    return LDLFactor(*LDL_FACTOR(input, hermitian=hermitian, caller="torch.linalg.ldl_factor")[:2])


@linalg("ldl_factor_ex")
def ldl_factor_ex(input: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    """`ldl_factor` and, for each matrix, the number of the first zero pivot (0: none)."""
    check_square(input, "torch.linalg.ldl_factor_ex")
    caller = "torch.linalg.ldl_factor_ex" if check_errors else None
    return LDLFactorEx(*LDL_FACTOR(input, hermitian=hermitian, caller=caller))


@linalg("ldl_solve")
def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X with `A X = B` from the LDL factors of A."""
    name = "torch.linalg.ldl_solve"
    check_square(LD, name, "LD")
    check_matrix(B, name, "B")
    check_same_type(name, LD, B, "LD", "B")
    check(
        not pivots.is_floating_point(),
        f"{name}: Expected pivots to be integers. Got {pivots.dtype}",
    )
    check(
        LD.shape[:-1] == pivots.shape,
        f"{name}: Expected LD.shape[:-1] and pivots.shape to be the same",
    )
    check_sides(LD, B, True, name)
    return LDL_SOLVE(LD, pivots, B, hermitian=hermitian)


# -- Householder reflectors --------------------------------------------------------------------


def geqrf_kernel(a: ndarray) -> tuple[ndarray, ndarray]:
    """NumPy gives the packed matrix transposed, as LAPACK has it."""
    h, tau = np.linalg.qr(a, "raw")
    return h.swapaxes(-1, -2), tau


GEQRF = Op("geqrf", ("A",), geqrf_kernel, outputs=("a", "tau"), batch=batch_matrices)


@public(out=True)
def geqrf(input: Tensor) -> Any:
    """QR in packed form: R from the diagonal on, below it the Householder vectors, and their
    factors tau."""
    check_matrix(input, "torch.geqrf", "input")
    return Geqrf(*GEQRF(input))


def reflect(vectors: Tensor, tau: Tensor, other: Tensor, adjoint: bool = False) -> Tensor:
    """`Q other` or `Q^H other`, where Q = H_1 ... H_k is the product of `H_i = I - tau_i v_i
    v_i^H`.

    Q = I - V T V^H with upper triangular T = (I + diag(tau) triu(V^H V, 1))^-1 diag(tau).
    """
    k = tau.shape[-1]
    V = vectors.narrow(-1, 0, k).tril(-1) + identity(vectors).narrow(-1, 0, k)  # (*, m, k)
    system = tau.unsqueeze(-1) * (V.mH @ V).triu(1) + identity(V.mT)  # (*, k, k)
    T = triangular(system, tau.diag_embed(), upper=True, unit=True)
    return other - V @ ((T.mH if adjoint else T) @ (V.mH @ other))


def check_reflectors(name: str, A: Tensor, tau: Tensor) -> None:
    """Raises RuntimeError for shapes or types that are not Householder vectors and factors."""
    check_matrix(A, name, "input")
    check_floating(tau, name, "tau")
    m, n = A.shape[-2:]
    check(m >= n, f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]")
    check(
        n >= tau.shape[-1],
        f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]",
    )
    check(
        tau.dim() == A.dim() - 1 and tau.shape[:-1] == A.shape[:-2],
        lambda: (
            f"{name}: Expected batch dimensions of tau to be equal to input.shape[:-2], but got "
            f"{list(tau.shape[:-1])}"
        ),
    )
    check(
        tau.dtype is A.dtype,
        lambda: f"{name}: tau dtype {tau.dtype} does not match input dtype {A.dtype}",
    )


@linalg("householder_product")
def householder_product(input: Tensor, tau: Tensor) -> Tensor:
    """The first n columns of H_1 ... H_k, whose vectors stand below the diagonal: (*, m, n), (*, k)
    -> (*, m, n)."""
    check_reflectors("torch.linalg.householder_product", input, tau)
    return reflect(input, tau, identity(input).narrow(-1, 0, input.shape[-1]))


@public(out=True)
def orgqr(input: Tensor, input2: Tensor) -> Tensor:
    """See `torch.linalg.householder_product`."""
    return householder_product(input, input2)


@public(out=True)
def ormqr(
    input: Tensor, input2: Tensor, input3: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """`Q other` (or `other Q`, with Q^H if `transpose`) for the product Q of Householder reflectors
    with the vectors `input` and the factors `input2`; `input3` is the other matrix."""
    check_matrix(input, "torch.ormqr", "input")
    check_same_type("torch.ormqr", input, input3, "input", "other")
    m = input3.shape[-2 if left else -1]
    check(
        m == input.shape[-2],
        lambda: f"torch.ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2]",
    )
    if left:
        return reflect(input, input2, input3, adjoint=transpose)
    return reflect(input, input2, input3.mH, adjoint=not transpose).mH
