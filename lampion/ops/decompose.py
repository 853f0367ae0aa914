"""Cholesky, QR, singular values and eigenvalues. May import linalg, solve, earlier families, core
and the base.

Kernels are NumPy's (LAPACK), so signs are LAPACK's. Gradients: Giles (2008), "Collected matrix
derivative results"; Townsend (2016), "Differentiating the singular value decomposition"; Walter &
Lehmann (2010) for QR.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .linalg import (
    batch_matrices,
    check_matrix,
    check_square,
    diagonal,
    inverse_gaps,
    linalg,
    mirrored,
    skew,
)
from .matrix_kernels import cholesky as lower_factor, decompose
from .return_types import return_type
from .rules import public
from .shape import cat
from .solve import solve, triangular

CholeskyEx = return_type("linalg_cholesky_ex", "L info")
LinalgQR = return_type("linalg_qr", "Q R")
QR = return_type("qr", "Q R")
LinalgSVD = return_type("linalg_svd", "U S Vh")
SVD = return_type("svd", "U S V")
Eigh = return_type("linalg_eigh", "eigenvalues eigenvectors")
Eig = return_type("linalg_eig", "eigenvalues eigenvectors")


def check_phase(free: Tensor, name: str, vectors: str) -> None:
    """Raises RuntimeError where a loss depends on the phases of complex vectors, which are
    arbitrary: there the numbers `free` are not 0."""
    parts = free._data
    if (
        isinstance(parts, ndarray)
        and parts.dtype.kind == "c"
        and not np.allclose(parts.imag, 0, 1e-2, 1e-2)
    ):
        raise RuntimeError(
            f"{name}: The {vectors} in the complex case are specified up to multiplication by "
            f"e^{{i phi}}. The "
            "specified loss function depends on this phase term, making it ill-defined."
        )


# -- Cholesky ----------------------------------------------------------------------------------


def cholesky_gradient(g: Tensor, L: Tensor) -> Tensor:
    """L^-H phi L^-1, where phi is half of the lower triangle of L^H g, mirrored."""
    phi = (L.mH @ g).tril()
    phi = (phi + phi.tril(-1).mH) * 0.5
    return triangular(L, triangular(L.mH, phi, upper=True), upper=False, left=False)


def cholesky_kernel(a: ndarray, upper: bool, caller: str | None) -> tuple[ndarray, ndarray]:
    """L from the lower or the upper triangle."""
    return lower_factor(a.swapaxes(-1, -2).conj() if upper else a, caller)


CHOLESKY = Op(
    "cholesky_ex",
    ("A",),
    cholesky_kernel,
    outputs=("L", "info"),
    constant_outputs=("info",),
    vjp={"A": cholesky_gradient},
    batch=batch_matrices,
    grad_name="LinalgCholeskyExBackward0",
)


def factor_positive(A: Tensor, upper: bool, caller: str | None) -> tuple[Tensor, Tensor]:
    """The factor that reads and fills the lower triangle, or the upper one, and the codes."""
    L, info = CHOLESKY(A, upper=upper, caller=caller)
    return L.mH if upper else L, info


@linalg("cholesky")
def linalg_cholesky(input: Tensor, *, upper: bool = False) -> Tensor:
    """Lower triangular L with `input = L L^H` for Hermitian positive-definite matrices; raises
    LinAlgError for another.

    >>> torch.linalg.cholesky(torch.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    check_square(input, "linalg.cholesky")
    return factor_positive(input, upper, "linalg.cholesky")[0]


@linalg("cholesky_ex")
def cholesky_ex(input: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """L with `input = L L^H` and, for each matrix, the order of the first minor that is not
    positive (0: none)."""
    check_square(input, "linalg.cholesky_ex")
    return CholeskyEx(
        *factor_positive(input, upper, "linalg.cholesky_ex" if check_errors else None)
    )


@public(out=True)
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """L with `input = L L^H`, or U with `U^H U` if `upper`; see `torch.linalg.cholesky`."""
    check_square(input, "cholesky")
    return factor_positive(input, upper, "cholesky")[0]


# -- QR ----------------------------------------------------------------------------------------


def qr_gradient(g: list, Q: Tensor, R: Tensor, mode: str) -> Tensor:
    """A wide matrix is [X Y] with Y = Q R2, where X has a square R1."""
    check(
        mode != "r",
        "The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use "
        "linalg.qr(A, mode='reduced') if you are going to differentiate through linalg.qr.",
    )
    (m, k), n = Q.shape[-2:], R.shape[-1]
    check(
        mode != "complete" or m <= n,
        "The QR decomposition is not differentiable when mode='complete' and nrows > ncols.",
    )
    gQ, gR = g
    if n <= k:
        return tall_qr_gradient(gQ, gR, Q, R)
    if gR is None:
        gX = tall_qr_gradient(gQ, None, Q, R.narrow(-1, 0, k))
        return cat([gX, gX.new_zeros(*gX.shape[:-1], n - k)], -1)
    R2, gR1, gR2 = R.narrow(-1, k, n - k), gR.narrow(-1, 0, k), gR.narrow(-1, k, n - k)
    through = Q @ (R2 @ gR2.mH)
    gX = tall_qr_gradient(through if gQ is None else gQ + through, gR1, Q, R.narrow(-1, 0, k))
    return cat([gX, Q @ gR2], -1)


def tall_qr_gradient(gQ: Tensor | None, gR: Tensor | None, Q: Tensor, R: Tensor) -> Tensor:
    """[gQ + Q mirrored(triu(gR R^H - Q^H gQ))] R^-H, for square R."""
    inner: Any = 0 if gR is None else gR @ R.mH
    if gQ is not None:
        inner = inner - Q.mH @ gQ
    gA = Q @ mirrored(inner.triu())
    return triangular(R.mH, gA if gQ is None else gA + gQ, upper=False, left=False)


def qr_kernel(a: ndarray, mode: Any) -> tuple[ndarray, ndarray]:
    """NumPy's; Q is empty for mode "r"."""
    qr: Any = np.linalg.qr(a, mode)
    return (np.zeros(0, a.dtype), qr) if mode == "r" else tuple(qr)


QR_OP = Op(
    "qr",
    ("A",),
    qr_kernel,
    outputs=("Q", "R"),
    vjp={"A": qr_gradient},
    batch=batch_matrices,
    grad_name="LinalgQrBackward0",
)


@linalg("qr")
def linalg_qr(A: Tensor, mode: str = "reduced") -> Any:
    """`A = Q R` with orthonormal columns in Q and upper triangular R.

    mode "reduced": Q (m, k) and R (k, n) with k = min(m, n); "complete": (m, m) and (m, n); "r": Q
    is empty.
    """
    check_matrix(A, "linalg.qr")
    check(
        mode in ("reduced", "complete", "r"),
        lambda: (
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), "
            "'r', or 'complete'"
        ),
    )
    return LinalgQR(*QR_OP(A, mode=mode))


@public(out=True)
def qr(input: Tensor, some: bool = True) -> Any:
    """`input = Q R`; see `torch.linalg.qr`, whose mode is "reduced" if `some`, else "complete"."""
    return QR(*linalg_qr(input, "reduced" if some else "complete"))


# -- singular values ---------------------------------------------------------------------------


def svd_gradient(g: list, U: Tensor, S: Tensor, Vh: Tensor) -> Tensor:
    """U [(skew(U^H gU) / E) S + S (skew(Vh gVh^H) / E) + gS] Vh with E_ij = S_j^2 - S_i^2, and for
    singular vectors of a rectangular matrix what leaves their space."""
    gU, gS, gVh = g
    (m, n), k = (U.shape[-2], Vh.shape[-1]), S.shape[-1]
    U, Vh = U.narrow(-1, 0, k), Vh.narrow(-2, 0, k)
    if gU is None and gVh is None:
        return (U * gS.unsqueeze(-2)) @ Vh
    rows, columns = S.unsqueeze(-1), S.unsqueeze(-2)
    inner: Any = 0
    turn: Any = 0
    gaps = inverse_gaps(S * S)
    if gS is not None:
        inner = gS.diag_embed()
    if gU is not None:
        gU = gU.narrow(-1, 0, k)
        left = skew(U.mH @ gU)
        turn = turn + diagonal(left)
        inner = inner + left * gaps * columns
    if gVh is not None:
        gVh = gVh.narrow(-2, 0, k)
        right = skew(Vh @ gVh.mH)
        turn = turn + diagonal(right)
        inner = inner + rows * (right * gaps)
    check_phase(turn, "svd_backward", "singular vectors")
    if gU is not None and gVh is not None and U.is_complex():
        inner = inner + (diagonal(left) / (2 * S)).diag_embed()
    below = inner @ Vh
    if n > k and gVh is not None:
        below = below + (gVh - (gVh @ Vh.mH) @ Vh) / rows
    gA = U @ below
    if m > k and gU is not None:
        gA = gA + ((gU - U @ (U.mH @ gU)) / columns) @ Vh
    return gA


def svd_kernel(a: ndarray, full: bool) -> tuple:
    """U, S and Vh."""
    return tuple(decompose(lambda: np.linalg.svd(a, full), a, "linalg.svd", "singular values"))


def svdvals_kernel(a: ndarray) -> ndarray:
    """S alone."""
    return decompose(lambda: np.linalg.svd(a, compute_uv=False), a, "linalg.svd", "singular values")


def svdvals_gradient(g: Tensor, A: Tensor) -> Tensor:
    """U gS Vh."""
    U, _, Vh = SVD_OP(A, full=False)
    return (U * g.unsqueeze(-2)) @ Vh


SVD_OP = Op(
    "svd",
    ("A",),
    svd_kernel,
    outputs=("U", "S", "Vh"),
    vjp={"A": svd_gradient},
    batch=batch_matrices,
    grad_name="LinalgSvdBackward0",
)
SVDVALS = Op(
    "svdvals",
    ("A",),
    svdvals_kernel,
    outputs=("S",),
    vjp={"A": svdvals_gradient},
    batch=batch_matrices,
    grad_name="LinalgSvdBackward0",
)


def refuse_driver(driver: str | None, name: str) -> None:
    """Raises RuntimeError for a driver, which only cuSOLVER has."""
    check(
        driver is None,
        f"torch.{name}: keyword argument `driver=` is only supported on CUDA inputs with cuSOLVER "
        "backend.",
    )


@linalg("svd")
def linalg_svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """`A = U diag(S) Vh` with orthonormal U and Vh and S in descending order.

    U (*, m, m) and Vh (*, n, n), or without `full_matrices` (*, m, k) and (*, k, n) with k = min(m,
    n). The gradient needs distinct singular values where it comes from U or Vh.
    """
    check_matrix(A, "linalg.svd")
    refuse_driver(driver, "linalg.svd")
    return LinalgSVD(*SVD_OP(A, full=full_matrices))


@linalg("svdvals")
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values in descending order: (*, m, n) -> (*, min(m, n))."""
    check_matrix(A, "linalg.svdvals")
    refuse_driver(driver, "linalg.svdvals")
    return SVDVALS(A)


@public(out=True)
def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """`input = U diag(S) V^H`; without `compute_uv`, U and V are zeros."""
    check_matrix(input, "linalg.svd")
    if compute_uv:
        U, S, Vh = SVD_OP(input, full=not some)
        return SVD(U, S, Vh.mH)
    *lead, m, n = input.shape
    return SVD(input.new_zeros(*lead, m, m), SVDVALS(input), input.new_zeros(*lead, n, n))


# -- eigenvalues -------------------------------------------------------------------------------


def eigh_gradient(g: list, L: Tensor, V: Tensor) -> Tensor:
    """V [skew(V^H gV) / (2 (L_j - L_i)) + gL] V^H, which is Hermitian."""
    gL, gV = g
    if gV is None:
        return (V * gL.unsqueeze(-2)) @ V.mH
    inner = V.mH @ gV
    check_phase(diagonal(inner), "linalg_eigh_backward", "eigenvectors")
    inner = skew(inner) * (0.5 * inverse_gaps(L))
    return V @ (inner if gL is None else inner + gL.diag_embed()) @ V.mH


def eig_gradient(g: list, L: Tensor, V: Tensor) -> Tensor:
    """V^-H [(V^H gV - V^H V diag(Re V^H gV)) / conj(L_j - L_i) + gL] V^H: the vectors have length
    1."""
    gL, gV = g
    if gV is None:
        return solve(V.mH, gL.unsqueeze(-1) * V.mH)
    inner = V.mH @ gV
    check_phase(diagonal(inner), "linalg_eig_backward", "eigenvectors")
    inner = inner - V.mH @ (V * diagonal(inner).real.unsqueeze(-2))
    inner = inner * inverse_gaps(L).conj()
    return solve(V.mH, (inner if gL is None else inner + gL.diag_embed()) @ V.mH)


def eigh_kernel(a: ndarray, uplo: Any) -> tuple:
    """L and V, from one triangle."""
    return tuple(decompose(lambda: np.linalg.eigh(a, uplo), a, "linalg.eigh", "eigenvalues"))


def eigvalsh_kernel(a: ndarray, uplo: Any) -> ndarray:
    """L alone."""
    return decompose(lambda: np.linalg.eigvalsh(a, uplo), a, "linalg.eigh", "eigenvalues")


def eigvalsh_gradient(g: Tensor, A: Tensor, uplo: str) -> Tensor:
    """V gL V^H."""
    _, V = EIGH(A, uplo=uplo)
    return (V * g.unsqueeze(-2)) @ V.mH


def eig_kernel(a: ndarray) -> tuple[ndarray, ndarray]:
    """L and V, always complex."""
    check(np.isfinite(a).all(), "torch.linalg.eig: input tensor should not contain infs or NaNs.")
    values, vectors = decompose(lambda: np.linalg.eig(a), a, "linalg.eig", "eigenvalues")
    kind = np.result_type(a.dtype, np.complex64)
    return values.astype(kind), vectors.astype(kind)


EIGH = Op(
    "eigh",
    ("A",),
    eigh_kernel,
    outputs=("L", "V"),
    vjp={"A": eigh_gradient},
    batch=batch_matrices,
    grad_name="LinalgEighBackward0",
)
EIGVALSH = Op(
    "eigvalsh",
    ("A",),
    eigvalsh_kernel,
    outputs=("L",),
    vjp={"A": eigvalsh_gradient},
    batch=batch_matrices,
    grad_name="LinalgEighBackward0",
)
EIG = Op(
    "eig",
    ("A",),
    eig_kernel,
    outputs=("L", "V"),
    vjp={"A": eig_gradient},
    batch=batch_matrices,
    grad_name="LinalgEigBackward0",
)


def triangle_argument(UPLO: str) -> str:
    """UPLO in capitals; raises RuntimeError for anything but L and U."""
    check(
        UPLO.upper() in ("L", "U"),
        lambda: f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}",
    )
    return UPLO.upper()


@linalg("eigh")
def eigh(input: Tensor, UPLO: str = "L") -> Any:
    """`input = V diag(L) V^H` for Hermitian matrices, of which one triangle is read; L is real, in
    ascending order."""
    check_square(input, "linalg.eigh")
    return Eigh(*EIGH(input, uplo=triangle_argument(UPLO)))


@linalg("eigvalsh")
def eigvalsh(input: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of Hermitian matrices, in ascending order: (*, n, n) -> (*, n)."""
    check_square(input, "linalg.eigvalsh")
    return EIGVALSH(input, uplo=triangle_argument(UPLO))


@linalg("eig")
def eig(input: Tensor) -> Any:
    """`input V = V diag(L)` for square matrices; L and V are complex, the columns of V have length
    1."""
    check_square(input, "linalg.eig")
    return Eig(*EIG(input))


@linalg("eigvals")
def eigvals(input: Tensor) -> Tensor:
    """The eigenvalues of square matrices, complex: (*, n, n) -> (*, n)."""
    check_square(input, "linalg.eigvals")
    return EIG(input)[0]
