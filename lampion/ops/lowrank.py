"""Approximate singular values of large matrices from random projections. May import decompose,
random and earlier.

After Halko, Martinsson & Tropp (2009), "Finding structure with randomness".
"""

from __future__ import annotations

from ..core.tensor import Tensor
from ..errors import check
from .decompose import linalg_qr, linalg_svd
from .linalg import check_matrix
from .random import randn
from .rules import EXPORTS


def range_basis(A: Tensor, q: int, niter: int) -> Tensor:
    """Orthonormal Q (*, m, q) such that Q Q^H A is near A: algorithm 4.4 with `niter` power
    iterations."""
    Q = linalg_qr(A @ randn(A.shape[-1], q, dtype=A.dtype)).Q
    for _ in range(niter):
        Q = linalg_qr(A.mH @ Q).Q
        Q = linalg_qr(A @ Q).Q
    return Q


def svd_lowrank(
    A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """U (*, m, q), S (*, q) and V (*, n, q) with `A - M` near `U diag(S) V^H`, from random
    projections."""
    check_matrix(A, "svd_lowrank")
    q, niter = 6 if q is None else q, 2 if niter is None else niter
    if M is not None:
        A = A - M
    wide = A.shape[-2] < A.shape[-1]
    if wide:
        A = A.mH
    Q = range_basis(A, q, niter)
    U, S, Vh = linalg_svd(Q.mH @ A, full_matrices=False)
    U, V = Q @ U, Vh.mH
    return (V, S, U) if wide else (U, S, V)


def pca_lowrank(
    A: Tensor, q: int | None = None, center: bool = True, niter: int = 2
) -> tuple[Tensor, Tensor, Tensor]:
    """`svd_lowrank` of A, less the mean of each column if `center`: the columns of V are the
    principal directions of A's rows, from random projections."""
    check_matrix(A, "pca_lowrank")
    m, n = A.shape[-2:]
    q = min(6, m, n) if q is None else q
    check(
        0 <= q <= min(m, n),
        lambda: f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}",
        ValueError,
    )
    check(niter >= 0, lambda: f"niter(={niter}) must be non-negative integer", ValueError)
    return svd_lowrank(A - A.mean(-2, keepdim=True) if center else A, q, niter)


EXPORTS["torch"].update(svd_lowrank=svd_lowrank, pca_lowrank=pca_lowrank)
