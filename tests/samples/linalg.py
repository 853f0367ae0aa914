"""Samples of linear algebra. Derivatives that need structured matrices are in
tests/ops/test_linalg.py."""

import math

import numpy as np

from tests.samples.common import COMPLEX, FLOATS, A, Sample

BOTH = FLOATS + COMPLEX
SQUARE = A(3, 3)
POSITIVE = A(
    2, 3, 3, values=[[[4, 9, 9], [2, 5, 9], [1, -1, 6]], [[9, 0, 0], [3, 2, 0], [0, 1, 3]]]
)  # lower halves
LOWER = A(2, 2, values=[[2, 7], [-1, 3]])
SYMMETRIC = A(3, 3, values=[[0, 2, 1], [2, 0, 3], [1, 3, 5]], grad=False)
SINGULAR = A(2, 2, values=[[1, 2], [2, 4]])
WORSE = A(2, 2, 2, values=[[[1, 0], [0, 1]], [[0, 0], [0, 0]]])
LD = np.array([[0, 0, 0], [2, 0, 0], [1.5, 0.5, 2]])  # of SYMMETRIC, by hand
SWAPPED = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])  # rows 1 and 2, then 2 and 3
PIVOTS = A(3, values=[2, 3, 3], dtype="int32")
NOT_SQUARE = ([A(2, 3)], RuntimeError, "must be batches of square matrices, but they are 2 by 3")
INTEGERS = (
    [A(2, 2, dtype="int64")],
    RuntimeError,
    "Expected a floating point or complex tensor as input. Got Long",
)
HALVES = ([A(2, 2, dtype="float16")], RuntimeError, "Low precision dtypes not supported. Got Half")
VECTOR = ([A(3)], RuntimeError, "must have at least 2 dimensions")
WRONG = [NOT_SQUARE, INTEGERS, HALVES, VECTOR, ([3], TypeError, "must be Tensor, not int")]
NO_VALUES = {"gradient": False, "batch": False}


def full(a):
    """The symmetric matrix with this lower triangle."""
    return np.tril(a) + np.tril(a, -1).swapaxes(-1, -2)


def cholesky(a):
    return np.linalg.cholesky(full(a))


def lu(a):
    """P, L and U by the textbook's loop."""
    m, n = a.shape
    k, u, order, low = min(m, n), a.copy(), np.arange(m), np.zeros((m, min(m, n)), a.dtype)
    for j in range(k):
        p = j + np.abs(u[j:, j]).argmax()
        u[[j, p]], order[[j, p]], low[[j, p]] = u[[p, j]], order[[p, j]], low[[p, j]]
        for i in range(j + 1, m):
            low[i, j] = u[i, j] / u[j, j]
            u[i] = u[i] - low[i, j] * u[j]
    np.fill_diagonal(low, 1)
    return np.eye(m)[order].T, low, np.triu(u[:k])


def packed(a):
    """L and U in one matrix, and the rows swapped."""
    p, low, u = lu(a)
    order, pivots = list(range(len(a))), []
    for i, row in enumerate(p.T.argmax(1)):
        j = order.index(row)
        order[i], order[j] = order[j], order[i]
        pivots.append(j + 1)
    return np.tril(low, -1) + u, np.array(pivots)


def householder(a, tau):
    m, n = a.shape
    q = np.eye(m)
    for i in range(len(tau)):
        v = np.concatenate([np.zeros(i), [1], a[i + 1 :, i]])
        q = q @ (np.eye(m) - tau[i] * np.outer(v, v.conj()))
    return q[:, :n]


def ormqr(a, tau, other, left=True, transpose=False):
    q = householder(np.hstack([a, np.zeros((len(a), len(a) - a.shape[1]))]), tau)
    q = q.conj().T if transpose else q
    return q @ other if left else other @ q


SAMPLES = [
    # decompositions
    Sample(
        "linalg.cholesky",
        [POSITIVE],
        cholesky,
        dtypes=BOTH,
        gradient=False,
        errors=[
            *WRONG,
            (
                [A(2, 2, values=[[-1, 0], [0, 1]])],
                RuntimeError,
                "leading minor of order 1 is not positive-definite",
            ),
            (
                [WORSE],
                RuntimeError,
                r"\(Batch element 1\): The factorization could not be completed",
            ),
        ],
    ),
    Sample(
        "linalg.cholesky_ex",
        [A(2, 2, values=[[4, 0], [2, -3]])],
        lambda a: (np.array([[2, 0], [1, -3]]), 2),
        **NO_VALUES,
    ),
    Sample(
        "cholesky",
        [A(2, 2, values=[[4, 2], [9, 5]]), True],
        lambda a, u: np.array([[2, 1], [0, 2]]),
        **NO_VALUES,
    ),
    *[
        Sample(
            "linalg.qr",
            [A(*s)],
            np.linalg.qr,
            dtypes=FLOATS,
            errors=[VECTOR, ([SQUARE, "x"], RuntimeError, "unrecognized mode 'x'")],
        )
        for s in ((3, 3), (4, 2), (2, 3), (2, 3, 2))
    ],
    Sample("linalg.qr", [A(3, 2), "complete"], np.linalg.qr, dtypes=BOTH, gradient=False),
    Sample(
        "linalg.qr",
        [A(3, 2), "r"],
        lambda a, m: (np.zeros(0), np.linalg.qr(a, m)),
        gradient=False,
        batch=False,
    ),
    Sample("qr", [A(2, 3), False], lambda a, s: np.linalg.qr(a, "complete")),
    *[
        Sample(
            "linalg.svd",
            [A(*s)],
            np.linalg.svd,
            kwargs={"full_matrices": False},
            second=s == (3, 2),
            dtypes=FLOATS,
            errors=[
                VECTOR,
                ([A(2, 2, values=[[math.nan, 0], [0, 1]])], RuntimeError, "non-finite values"),
            ],
        )
        for s in ((3, 2), (2, 3), (2, 2, 2))
    ],
    Sample(
        "linalg.svd",
        [A(3, 2)],
        np.linalg.svd,
        dtypes=BOTH,
        gradient=False,
        errors=[([SQUARE], {"driver": "gesvd"}, RuntimeError, "only supported on CUDA")],
    ),
    Sample(
        "svd",
        [A(3, 2)],
        lambda a: (lambda u, s, v: (u, s, v.conj().T))(*np.linalg.svd(a, False)),
        dtypes=FLOATS,
    ),
    Sample(
        "svd",
        [A(3, 2), True, False],
        lambda a, s, c: (np.zeros((3, 3)), np.linalg.svd(a)[1], np.zeros((2, 2))),
        gradient=False,
        batch=False,
    ),
    Sample("linalg.svdvals", [A(2, 3, 2)], lambda a: np.linalg.svd(a)[1], dtypes=BOTH),
    Sample(
        "linalg.eigh",
        [SYMMETRIC],
        np.linalg.eigh,
        errors=[*WRONG, ([SQUARE, "x"], RuntimeError, "UPLO")],
        **NO_VALUES,
    ),
    Sample("linalg.eigh", [A(2, 3, 3), "U"], np.linalg.eigh, dtypes=BOTH, gradient=False),
    Sample("linalg.eigvalsh", [A(2, 3, 3)], np.linalg.eigvalsh, dtypes=BOTH, gradient=False),
    Sample(
        "linalg.eig",
        [SQUARE],
        np.linalg.eig,
        dtypes=BOTH,
        gradient=False,
        errors=[
            *WRONG[:2],
            (
                [A(2, 2, values=[[math.inf, 0], [0, 1]])],
                RuntimeError,
                "should not contain infs or NaNs",
            ),
        ],
    ),
    Sample("linalg.eigvals", [SQUARE], np.linalg.eigvals, dtypes=BOTH),
    # factors
    *[
        Sample(
            "linalg.lu",
            [A(*s)],
            lu,
            dtypes=FLOATS,
            errors=[([SQUARE], {"pivot": False}, RuntimeError, "not implemented on the CPU")],
        )
        for s in ((3, 3), (4, 2), (2, 4))
    ],
    Sample(
        "linalg.lu_factor",
        [A(20, 20)],
        packed,
        gradient=False,
        errors=[([SINGULAR], RuntimeError, r"U\[2,2\] is zero"), VECTOR],
    ),
    Sample(
        "linalg.lu_factor_ex",
        [WORSE],
        lambda a: (a, np.array([[1, 2], [1, 2]]), np.array([0, 1])),
        **NO_VALUES,
    ),
    Sample("lu", [A(2, 3, 3)]),
    Sample(
        "lu_unpack",
        [SQUARE, PIVOTS],
        lambda a, p: (SWAPPED, np.tril(a, -1) + np.eye(3), np.triu(a)),
        errors=[
            ([SQUARE, A(3, values=[1, 2, 3], dtype="int64")], RuntimeError, "torch.int32 dtype")
        ],
    ),
    Sample(
        "linalg.lu_solve",
        [SQUARE, PIVOTS, A(3, 2)],
        lambda a, p, b: np.linalg.solve(SWAPPED @ (np.tril(a, -1) + np.eye(3)) @ np.triu(a), b),
        dtypes=BOTH,
        errors=[
            ([SQUARE, A(3), SQUARE], RuntimeError, "torch.int32"),
            ([SQUARE, PIVOTS, A(2, 2)], RuntimeError, "Incompatible"),
            (
                [SQUARE, A(2, values=[1, 2], dtype="int32"), SQUARE],
                RuntimeError,
                "Number of pivots",
            ),
        ],
    ),
    Sample(
        "linalg.lu_solve",
        [SQUARE, PIVOTS, A(2, 3)],
        lambda a, p, b, left, adjoint: (
            b @ np.linalg.inv(SWAPPED @ (np.tril(a, -1) + np.eye(3)) @ np.triu(a)).conj().T
        ),
        {"left": False, "adjoint": True},
        dtypes=BOTH,
    ),
    Sample("lu_solve", [A(3, 2), SQUARE, PIVOTS]),
    Sample(
        "linalg.ldl_factor",
        [SYMMETRIC],
        lambda a: (LD, np.array([-2, -2, 3])),
        errors=[NOT_SQUARE],
        **NO_VALUES,
    ),
    Sample(
        "linalg.ldl_solve",
        [A(3, 3, grad=False, values=LD), A(3, values=[-2, -2, 3], dtype="int32"), A(3, 2)],
        lambda ld, p, b: np.linalg.solve([[0, 2, 1], [2, 0, 3], [1, 3, 5]], b),
        dtypes=BOTH,
    ),
    Sample(
        "geqrf",
        [A(2, 4, 3)],
        lambda a: (lambda h, t: (h.swapaxes(-1, -2), t))(*np.linalg.qr(a, "raw")),
        dtypes=BOTH,
        gradient=False,
    ),
    Sample(
        "linalg.householder_product",
        [A(4, 3), A(2)],
        householder,
        dtypes=BOTH,
        errors=[
            ([A(2, 3), A(2)], RuntimeError, "greater than or equal"),
            ([A(3, 2), A(3)], RuntimeError, "tau.shape"),
            ([A(2, 3, 2), A(2)], RuntimeError, "batch dimensions of tau"),
        ],
    ),
    Sample("orgqr", [A(3, 3), A(3)], householder),
    *[
        Sample("ormqr", [A(3, 2), A(2), A(*s), left, turned], ormqr, dtypes=BOTH)
        for s, left, turned in (
            ((3, 2), True, False),
            ((3, 2), True, True),
            ((2, 3), False, False),
            ((2, 3), False, True),
        )
    ],
]
