"""Determinants, the exponential, the pseudoinverse, rank and least squares. May import decompose,
solve, earlier families, core and the base.

Gradients: Giles (2008); Golub & Pereyra (1973) for the pseudoinverse; Higham (2008), "Functions of
Matrices", for the exponential of a block matrix.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.op import Op
from ..core.tensor import Tensor, wrap
from ..errors import check
from .comparison import maximum, where
from .complex import real
from .decompose import SVD_OP, eigh_kernel as hermitian_kernel, eigvalsh, svd_kernel, svdvals
from .linalg import batch_matrices, check_matrix, check_same_type, check_square, identity, linalg
from .matrix_kernels import exponential
from .return_types import return_type
from .rules import public
from .shape import cat
from .solve import SOLVE, is_vector_side

LinalgSlogdet = return_type("linalg_slogdet", "sign logabsdet")
Slogdet = return_type("slogdet", "sign logabsdet")
Lstsq = return_type("linalg_lstsq", "solution residuals rank singular_values")

# -- determinants ------------------------------------------------------------------------------


def matrices(x: Tensor) -> Tensor:
    """A number per matrix, to multiply matrices with: (...) -> (..., 1, 1)."""
    return x.unsqueeze(-1).unsqueeze(-1)


def inverse_adjoint(A: Tensor) -> Tensor:
    """A^-H, with infinities where A is singular."""
    return SOLVE(A.mH, identity(A), caller=None)[0]


def det_gradient(g: Tensor, A: Tensor, y: Tensor) -> Tensor:
    """g conj(det) A^-H; the adjugate, from singular values, where a determinant is 0."""
    values = y._data
    if not (isinstance(values, ndarray) and (values == 0).any()):
        return matrices(g * y.conj()) * inverse_adjoint(A)
    U, S, Vh = SVD_OP(A, full=True)
    others = where(identity(S.unsqueeze(-1)) == 1, 1, S.unsqueeze(-2)).prod(
        -1
    )  # without the own one
    return (U * (matrices(g * (det(U) * det(Vh)).conj()) * others.unsqueeze(-2))) @ Vh


def slogdet_gradient(g: list, A: Tensor, sign: Tensor) -> Tensor | None:
    """A^-H times the gradient of log |det|; a complex sign turns with the imaginary part."""
    g_sign, scale = g
    if g_sign is not None and A.is_complex():
        turn = -1j * (g_sign.conj() * sign).imag
        scale = turn if scale is None else scale + turn
    return None if scale is None else matrices(scale) * inverse_adjoint(A)


def slogdet_kernel(a: ndarray) -> tuple[ndarray, ndarray]:
    """NumPy's; its numbers as arrays."""
    sign, size = np.linalg.slogdet(a)
    return np.asarray(sign), np.asarray(size)


DET = Op(
    "det",
    ("A",),
    lambda a: np.asarray(np.linalg.det(a)),
    vjp={"A": det_gradient},
    batch=batch_matrices,
    grad_name="LinalgDetBackward0",
)
SLOGDET = Op(
    "slogdet",
    ("A",),
    slogdet_kernel,
    outputs=("sign", "logabsdet"),
    vjp={"A": slogdet_gradient},
    batch=batch_matrices,
    grad_name="LinalgSlogdetBackward0",
)


@public(spaces=("torch",))
def det(input: Tensor) -> Tensor:
    """The determinants of square matrices: (*, n, n) -> (*)."""
    check_square(input, "linalg.det")
    return DET(input)


@linalg("det")
def linalg_det(A: Tensor) -> Tensor:
    """The determinants of square matrices: (*, n, n) -> (*).

    >>> torch.linalg.det(torch.tensor([[2.0, 1.0], [0.0, 3.0]]))
    tensor(6.)
    """
    return det(A)


@linalg("slogdet")
def linalg_slogdet(A: Tensor) -> Any:
    """The sign (or phase) of the determinants and the logarithms of their sizes, -inf for singular
    matrices."""
    check_square(A, "linalg.slogdet")
    return LinalgSlogdet(*SLOGDET(A))


@public(out=True)
def slogdet(input: Tensor) -> Any:
    """See `torch.linalg.slogdet`."""
    return Slogdet(*linalg_slogdet(input))


@public
def logdet(input: Tensor) -> Tensor:
    """The logarithms of determinants; NaN for negative ones."""
    check_square(input, "logdet")
    sign, size = SLOGDET(input)
    return sign.log() + size if input.is_complex() else size.where(sign != -1, math.nan)


# -- the exponential ---------------------------------------------------------------------------


def exponential_gradient(g: Tensor, A: Tensor) -> Tensor:
    """The upper right block of exp [[A^H, g], [0, A^H]]."""
    n, turned = A.shape[-1], A.mH
    blocks = cat([cat([turned, g], -1), cat([turned.new_zeros(turned.shape), turned], -1)], -2)
    return MATRIX_EXP(blocks).narrow(-2, 0, n).narrow(-1, n, n)


MATRIX_EXP = Op(
    "matrix_exp",
    ("A",),
    exponential,
    vjp={"A": exponential_gradient},
    batch=batch_matrices,
    grad_name="LinalgMatrixExpBackward0",
)


@public(spaces=("torch", "linalg"))
def matrix_exp(input: Tensor) -> Tensor:
    """`I + A + A^2 / 2 + A^3 / 6 + ...` of square matrices."""
    check_square(input, "linalg.matrix_exp")
    return MATRIX_EXP(input)


# -- rank and pseudoinverse --------------------------------------------------------------------


def tolerances(A: Tensor, atol: Any, rtol: Any) -> tuple[Tensor, Tensor]:
    """Below max(atol, rtol * largest) a singular value counts as 0. By default atol is 0; rtol is
    the type's precision times the larger side, or 0 where atol is positive."""
    kind = A.dtype.to_real()
    usual = np.finfo(kind.numpy).eps * max(A.shape[-2:])

    def tensor(x: Any) -> Tensor:
        return x.to(kind) if isinstance(x, Tensor) else wrap(np.asarray(x, kind.numpy))

    if rtol is None:
        rtol = where(tensor(0 if atol is None else atol) > 0, 0.0, usual)
    return tensor(0 if atol is None else atol), tensor(rtol)


@linalg("matrix_rank")
def matrix_rank(
    input: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """How many singular values are above `max(atol, rtol * the largest)`; see `pinv` for the
    defaults. `tol` is an atol with rtol 0."""
    check_matrix(input, "linalg.matrix_rank", "input")
    atol, rtol = tolerances(input, *((atol, rtol) if tol is None else (tol, 0.0)))
    input = input.detach()
    S = eigvalsh(input).abs() if hermitian else svdvals(input)
    if S.shape[-1] == 0:
        return (S > 0).sum(-1)
    limit = maximum(atol, rtol * S.amax(-1))
    return (limit.unsqueeze(-1) < S).sum(-1)


def pinv_kernel(a: ndarray, atol: ndarray, rtol: ndarray, hermitian: bool) -> ndarray:
    """V S^+ U^H, for tolerances (..., 1, 1)."""
    if hermitian:
        values, u = hermitian_kernel(a, "L")
        vh = u.conj().swapaxes(-1, -2)
    else:
        u, values, vh = svd_kernel(a, False)
    size = np.abs(values)
    largest = size.max(-1, initial=0)[..., None, None]
    limit = np.maximum(atol, rtol * largest)[..., 0]  # (..., 1)
    inverse = np.where(size > limit, 1 / values, 0).astype(values.dtype)
    return (vh.conj().swapaxes(-1, -2) * inverse[..., None, :]) @ u.conj().swapaxes(-1, -2)


def pinv_gradient(g: Tensor, A: Tensor, Y: Tensor) -> Tensor:
    """-Y^H g Y^H + (I - A Y) g^H Y Y^H + Y^H Y g^H (I - Y A), in the order that keeps products
    small."""
    gh, Yh = g.mH, Y.mH
    if A.shape[-2] <= A.shape[-1]:
        K = gh @ Y
        right = K @ Yh
        return right - (Y @ K).mH - (A @ Y) @ right + (Yh @ Y) @ (gh - K @ A)
    K = Y @ gh
    left = Yh @ K
    return left - (K @ Y).mH + (gh - A @ K) @ Y @ Yh - (left @ Y) @ A


PINV = Op(
    "pinv",
    ("A", "atol", "rtol"),
    pinv_kernel,
    outputs=("Y",),
    vjp={"A": pinv_gradient},
    batch=batch_matrices,
    grad_name="LinalgPinvBackward0",
)


@linalg("pinv")
def pinv(
    input: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """The pseudoinverse V S^+ U^H, where singular values up to `max(atol, rtol * the largest)`
    count as 0.

    atol defaults to 0 and rtol to the type's precision times the larger side (0 if atol is
    positive); `rcond` is an old name of rtol. With `hermitian`, eigenvalues of the lower triangle
    are used. The gradient needs a rank that stays.
    """
    check_matrix(input, "linalg.pinv")
    if hermitian:
        check_square(input, "linalg.pinv")
    atol, rtol = tolerances(input, *((atol, rtol) if rcond is None else (0.0, rcond)))
    return PINV(input, matrices(atol), matrices(rtol), hermitian=hermitian)


@public
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The pseudoinverse; see `torch.linalg.pinv`."""
    return pinv(input, rcond)


# -- least squares -----------------------------------------------------------------------------

DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


def lstsq_kernel(a: ndarray, b: ndarray, cutoff: float) -> tuple[ndarray, ndarray, ndarray]:
    """The shortest x that minimizes |a x - b|, the rank and the singular values."""
    u, s, vh = svd_kernel(a, False)
    kept = s > cutoff * s.max(-1, keepdims=True, initial=0)
    inverse = np.where(kept, 1 / s, 0).astype(s.dtype)[..., None]
    x = vh.conj().swapaxes(-1, -2) @ (inverse * (u.conj().swapaxes(-1, -2) @ b))
    return x, np.asarray(kept.sum(-1)), s


def lstsq_gradient(g: Tensor, A: Tensor, B: Tensor, needs: tuple) -> tuple:
    """Through `pinv(A) @ B`."""
    Y = pinv(A)
    return pinv_gradient(g @ B.mH, A, Y) if needs[0] else None, Y.mH @ g


LSTSQ = Op(
    "lstsq",
    ("A", "B"),
    lstsq_kernel,
    outputs=("X", "rank", "S"),
    constant_outputs=("rank", "S"),
    vjp=lstsq_gradient,
    batch=batch_matrices,
    grad_name="LinalgLstsqBackward0",
)


@linalg("lstsq")
def lstsq(
    input: Tensor, b: Tensor, rcond: float | None = None, *, driver: str | None = None
) -> Any:
    """X that minimizes the Frobenius norm of `input X - b`, the shortest where there are several:
    input (*, m, n) and b (*, m, k) or (*, m).

    Also the squared residuals (for m > n and full rank, not for "gelsy"), the ranks (not for
    "gels") and the singular values (for "gelsd" and "gelss"); otherwise empty. `rcond` times the
    largest singular value counts as 0.
    """
    check_matrix(input, "torch.linalg.lstsq", "input")
    check(b.dim() >= 1, "torch.linalg.lstsq: other must have at least 1 dimension")
    check_same_type("torch.linalg.lstsq", input, b, "input", "other")
    driver = driver or "gelsy"
    check(
        driver in DRIVERS,
        "torch.linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)",
    )
    vector = is_vector_side(input, b)
    right = b.unsqueeze(-1) if vector else b
    m, n = input.shape[-2:]
    check(right.shape[-2] == m, "torch.linalg.lstsq: input.size(-2) should match other.size(-2)")
    kind = input.dtype.to_real().numpy
    cutoff = 0.0 if driver == "gels" else np.finfo(kind).eps * max(m, n) if rcond is None else rcond
    X, rank, S = LSTSQ(input, right, cutoff=cutoff)
    full = not isinstance(rank._data, ndarray) or (rank._data == n).all()
    if m > n and full and driver != "gelsy":
        residuals = real((input @ X - right).abs().square()).sum(-2)  # (*, k)
        residuals = residuals.squeeze(-1) if vector else residuals
    else:
        residuals = real(X).flatten().narrow(0, 0, 0)  # empty, but part of the graph
    return Lstsq(
        X.squeeze(-1) if vector else X,
        residuals,
        rank if driver != "gels" else rank.new_empty(0),
        S if driver in ("gelsd", "gelss") else S.new_empty(0),
    )
