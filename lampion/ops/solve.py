"""Systems of linear equations and inverses. May import linalg, matrix_kernels, earlier families,
core and the base.

Three records do the work: triangular systems, general ones and the inverse. Gradients: Giles
(2008), "Collected matrix derivative results", section 2.2.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.op import Op
from ..core.tensor import Tensor, normalize_dim
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
from .matrix_kernels import solve_or_refuse, substitute
from .return_types import return_type
from .rules import public

InvEx = return_type("linalg_inv_ex", "inverse info")
SolveEx = return_type("linalg_solve_ex", "result info")
TriangularSolve = return_type("triangular_solve", "solution cloned_coefficient")

# -- the records -------------------------------------------------------------------------------


def triangular_gradient(
    g: Tensor, A: Tensor, X: Tensor, upper: bool, unit: bool, needs: tuple
) -> tuple:
    """The adjoint system; its solution times -X^H, in A's triangle."""
    gB = TRIANGULAR(A.mH, g, upper=not upper, unit=unit)
    if not needs[0]:
        return None, gB
    gA = -(gB @ X.mH)
    return gA.triu(int(unit)) if upper else gA.tril(-int(unit)), gB


def solve_gradient(g: Tensor, A: Tensor, X: Tensor, needs: tuple) -> tuple:
    """The adjoint system; its solution times -X^H."""
    gB, _ = SOLVE(A.mH, g, caller=None)
    return -(gB @ X.mH) if needs[0] else None, gB


TRIANGULAR = Op(
    "solve_triangular",
    ("A", "B"),
    substitute,
    outputs=("X",),
    vjp=triangular_gradient,
    batch=batch_matrices,
    grad_name="LinalgSolveTriangularBackward0",
)
SOLVE = Op(
    "solve_ex",
    ("A", "B"),
    lambda a, b, caller: solve_or_refuse(
        a, b, caller, "The solver failed because the input matrix is singular."
    ),
    outputs=("X", "info"),
    constant_outputs=("info",),
    vjp=solve_gradient,
    batch=batch_matrices,
    grad_name="LinalgSolveExBackward0",
)
INVERSE = Op(
    "inv_ex",
    ("A",),
    lambda a, caller: solve_or_refuse(
        a,
        None,
        caller,
        "The diagonal element {} is zero, the inversion could not be completed because the input "
        "matrix is singular.",
    ),
    outputs=("Y", "info"),
    constant_outputs=("info",),
    vjp={"A": lambda g, Y: -(Y.mH @ g @ Y.mH)},
    batch=batch_matrices,
    grad_name="LinalgInvExBackward0",
)

# -- inverses ----------------------------------------------------------------------------------


@linalg("inv")
def inv(A: Tensor) -> Tensor:
    """The inverse of square matrices; raises LinAlgError for a singular one.

    >>> torch.linalg.inv(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    check_square(A, "linalg.inv")
    return INVERSE(A, caller="linalg.inv")[0]


@public(out=True)
def inverse(input: Tensor) -> Tensor:
    """The inverse of square matrices; see `torch.linalg.inv`."""
    return inv(input)


@linalg("inv_ex")
def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """The inverse and, for each matrix, the number of the first zero pivot (0: none)."""
    check_square(A, "linalg.inv")
    return InvEx(*INVERSE(A, caller="linalg.inv_ex" if check_errors else None))


# -- general systems ---------------------------------------------------------------------------


def is_vector_side(A: Tensor, B: Tensor) -> bool:
    """Whether B is a batch of vectors (*, m) for the matrices A (*, m, n), or one vector."""
    return B.dim() == 1 or (A.dim() - 1 == B.dim() and B.shape == A.shape[:-1])


def check_sides(A: Tensor, B: Tensor, left: bool, name: str) -> None:
    """Raises RuntimeError where `A X = B` (or `X A = B`) has no solution for reasons of shape."""
    fits = A.shape[-2] == B.shape[-2] if left else A.shape[-1] == B.shape[-1]
    a, b = ("x".join(map(str, t.shape[-2:])) for t in (A, B))
    check(
        fits,
        lambda: (
            f"{name}: Incompatible shapes of A and B for the equation "
            f"{'AX = B' if left else 'XA = B'} ({a} and {b})"
        ),
    )


def solve_system(
    A: Tensor, B: Tensor, left: bool, caller: str | None, name: str
) -> tuple[Tensor, Tensor]:
    """X with `A X = B` or `X A = B`, and the codes."""
    check_square(A, name)
    check_floating(B, name, "B")
    check_same_type(name, A, B)
    vector = is_vector_side(A, B)
    check(
        left or not vector,
        lambda: (
            f"{name}: Vector broadcasting of the left hand side is not supported for left=False. "
            "In this case "
            "linalg.solve is equivalent to B / A.squeeze(-1)"
        ),
    )
    right = B.unsqueeze(-1) if vector else B
    check_sides(A, right, left, name)
    if left:
        X, info = SOLVE(A, right, caller=caller)
        return X.squeeze(-1) if vector else X, info
    X, info = SOLVE(A.mT, right.mT, caller=caller)
    return X.mT, info


@linalg("solve")
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with `A X = B` (or `X A = B`) for square A (*, n, n) and B (*, n, k) or (*, n); raises
    LinAlgError for a singular matrix.

    >>> torch.linalg.solve(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    return solve_system(A, B, left, "torch.linalg.solve", "linalg.solve")[0]


@linalg("solve_ex")
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """X with `A X = B` and, for each matrix, the number of the first zero pivot (0: none)."""
    return SolveEx(
        *solve_system(A, B, left, "torch.linalg.solve_ex" if check_errors else None, "linalg.solve")
    )


# -- triangular systems ------------------------------------------------------------------------


def triangular(A: Tensor, B: Tensor, upper: bool, left: bool = True, unit: bool = False) -> Tensor:
    """X with `A X = B` or `X A = B` for triangular A."""
    if left:
        return TRIANGULAR(A, B, upper=upper, unit=unit)
    return TRIANGULAR(A.mT, B.mT, upper=not upper, unit=unit).mT


@linalg("solve_triangular")
def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X with `A X = B` (or `X A = B`) for triangular A; the other triangle is not read, nor, if
    `unitriangular`, the diagonal. A zero on the diagonal gives infinities."""
    name = "linalg.solve_triangular"
    check_same_type(name, A, B)
    check_square(A, name)
    check_matrix(B, name, "B")
    check_sides(A, B, left, name)
    return triangular(A, B, upper, left, unitriangular)


@public(out=True)
def triangular_solve(
    input: Tensor,
    A: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Any:
    """X with `A X = input` (or `A^T X`) for triangular A, and a copy of A."""
    check_square(A, "triangular_solve")
    check_matrix(input, "triangular_solve", "b")
    check_sides(A, input, True, "triangular_solve")
    X = triangular(A.mT if transpose else A, input, upper != transpose, True, unitriangular)
    return TriangularSolve(X, A.expand(*X.shape[:-2], *A.shape[-2:]).clone())


@public(out=True)
def cholesky_solve(input: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with `A X = input`, where `A = L L^H` (or `L^H L` if `upper`)."""
    check_square(L, "cholesky_solve", "A")
    check_matrix(input, "cholesky_solve", "b")
    check_sides(L, input, True, "cholesky_solve")
    factor = L.mH if upper else L
    return triangular(factor.mH, triangular(factor, input, upper=False), upper=True)


@public(out=True)
def cholesky_inverse(input: Tensor, upper: bool = False) -> Tensor:
    """The inverse of A from its Cholesky factor."""
    check_square(input, "cholesky_inverse")
    return cholesky_solve(identity(input), input, upper)


# -- tensors as matrices -----------------------------------------------------------------------


@linalg("tensorinv")
def tensorinv(input: Tensor, ind: int = 2) -> Tensor:
    """The tensor B with `tensordot(B, tensordot(input, x), ind) = x`: the inverse of the input,
    seen as a square matrix whose rows are the first `ind` dimensions."""
    check(ind > 0, "Expected a strictly positive integer for 'ind'")
    rows, columns = input.shape[:ind], input.shape[ind:]
    n, m = math.prod(rows), math.prod(columns)
    check(
        n == m,
        lambda: (
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == "
            "prod(self.shape[:ind]), but got "
            f"{m} != {n}"
        ),
    )
    return inv(input.reshape(n, m)).reshape(*columns, *rows)


@linalg("tensorsolve")
def tensorsolve(input: Tensor, other: Tensor, dims: Any = None) -> Tensor:
    """X with `tensordot(input, X, X.dim()) = other`; `dims` of the input are moved to its end
    first."""
    if dims is not None:
        moved = [normalize_dim(d, input.dim()) for d in dims]
        input = input.movedim(moved, list(range(input.dim() - len(moved), input.dim())))
    shape = input.shape[other.dim() :]
    n, m = math.prod(other.shape), math.prod(shape)
    have = math.prod(input.shape[: other.dim()])
    check(
        m == have,
        lambda: (
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
            f"prod(self.shape[:other.ndim]), but got {m} != {have}"
        ),
    )
    return solve(input.reshape(n, m), other.reshape(n)).reshape(shape)
