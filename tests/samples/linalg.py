"""Samples of linear algebra. Derivatives that need structured matrices are in tests/ops/test_linalg.py."""

import math

import numpy as np

from tests.samples.common import COMPLEX, FLOATS, A, Sample

BOTH = FLOATS + COMPLEX
SQUARE = A(3, 3)
POSITIVE = A(2, 3, 3, values=[[[4, 9, 9], [2, 5, 9], [1, -1, 6]], [[9, 0, 0], [3, 2, 0], [0, 1, 3]]])  # lower halves
LOWER = A(2, 2, values=[[2, 7], [-1, 3]])
SYMMETRIC = A(3, 3, values=[[0, 2, 1], [2, 0, 3], [1, 3, 5]], grad=False)
SINGULAR = A(2, 2, values=[[1, 2], [2, 4]])
WORSE = A(2, 2, 2, values=[[[1, 0], [0, 1]], [[0, 0], [0, 0]]])
LD = np.array([[0, 0, 0], [2, 0, 0], [1.5, 0.5, 2]])  # of SYMMETRIC, by hand
SWAPPED = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])  # rows 1 and 2, then 2 and 3
PIVOTS = A(3, values=[2, 3, 3], dtype="int32")
NOT_SQUARE = ([A(2, 3)], RuntimeError, "must be batches of square matrices, but they are 2 by 3")
INTEGERS = ([A(2, 2, dtype="int64")], RuntimeError, "Expected a floating point or complex tensor as input. Got Long")
HALVES = ([A(2, 2, dtype="float16")], RuntimeError, "Low precision dtypes not supported. Got Half")
VECTOR = ([A(3)], RuntimeError, "must have at least 2 dimensions")
WRONG = [NOT_SQUARE, INTEGERS, HALVES, VECTOR, ([3], TypeError, "must be Tensor, not int")]
NO_VALUES = {"gradient": False, "batch": False}


def full(a):
    """The symmetric matrix with this lower triangle."""
    return np.tril(a) + np.tril(a, -1).swapaxes(-1, -2)


def cholesky(a):
    return np.linalg.cholesky(full(a))


def solve(a, b, left=True):
    if not left:
        return np.linalg.solve(a.swapaxes(-1, -2), b.swapaxes(-1, -2)).swapaxes(-1, -2)
    vector = b.ndim == 1 or b.shape == a.shape[:-1]
    return np.linalg.solve(a, b[..., None])[..., 0] if vector else np.linalg.solve(a, b)


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


def matrix_norm(a, ord="fro", dim=(-2, -1), keepdim=False):
    return np.linalg.norm(a, ord, tuple(dim), keepdim)


def exponential(a):
    """The power series."""
    total = term = np.eye(a.shape[-1])
    for i in range(1, 60):
        term = term @ a / i
        total = total + term
    return total


def lstsq(a, b, **options):
    x, residuals, rank, s = np.linalg.lstsq(a, b, rcond=None)
    names = options.get("driver")
    return x, residuals if names != "gelsy" else np.zeros(0), np.asarray(rank), s if names == "gelsd" else np.zeros(0)


def tri(a, b, upper, left=True, unitriangular=False):
    a = np.triu(a) if upper else np.tril(a)
    if unitriangular:
        a = a - np.diag(np.diag(a)) + np.eye(len(a))
    return solve(a, b, left)


SAMPLES = [
    # decompositions
    Sample("linalg.cholesky", [POSITIVE], cholesky, dtypes=BOTH, gradient=False, errors=[
        *WRONG, ([A(2, 2, values=[[-1, 0], [0, 1]])], RuntimeError, "leading minor of order 1 is not positive-definite"),
        ([WORSE], RuntimeError, r"\(Batch element 1\): The factorization could not be completed"),
    ]),
    Sample("linalg.cholesky_ex", [A(2, 2, values=[[4, 0], [2, -3]])], lambda a: (np.array([[2, 0], [1, -3]]), 2), **NO_VALUES),
    Sample("cholesky", [A(2, 2, values=[[4, 2], [9, 5]]), True], lambda a, u: np.array([[2, 1], [0, 2]]), **NO_VALUES),
    *[Sample("linalg.qr", [A(*s)], np.linalg.qr, dtypes=FLOATS, errors=[
        VECTOR, ([SQUARE, "x"], RuntimeError, "unrecognized mode 'x'")]) for s in ((3, 3), (4, 2), (2, 3), (2, 3, 2))],
    Sample("linalg.qr", [A(3, 2), "complete"], np.linalg.qr, dtypes=BOTH, gradient=False),
    Sample("linalg.qr", [A(3, 2), "r"], lambda a, m: (np.zeros(0), np.linalg.qr(a, m)), gradient=False, batch=False),
    Sample("qr", [A(2, 3), False], lambda a, s: np.linalg.qr(a, "complete")),
    *[Sample("linalg.svd", [A(*s)], np.linalg.svd, kwargs={"full_matrices": False}, second=s == (3, 2), dtypes=FLOATS,
             errors=[VECTOR, ([A(2, 2, values=[[math.nan, 0], [0, 1]])], RuntimeError, "non-finite values")])
      for s in ((3, 2), (2, 3), (2, 2, 2))],
    Sample("linalg.svd", [A(3, 2)], np.linalg.svd, dtypes=BOTH, gradient=False, errors=[
        ([SQUARE], {"driver": "gesvd"}, RuntimeError, "only supported on CUDA")]),
    Sample("svd", [A(3, 2)], lambda a: (lambda u, s, v: (u, s, v.conj().T))(*np.linalg.svd(a, False)), dtypes=FLOATS),
    Sample("svd", [A(3, 2), True, False], lambda a, s, c: (np.zeros((3, 3)), np.linalg.svd(a)[1], np.zeros((2, 2))),
           gradient=False, batch=False),
    Sample("linalg.svdvals", [A(2, 3, 2)], lambda a: np.linalg.svd(a)[1], dtypes=BOTH),
    Sample("linalg.eigh", [SYMMETRIC], np.linalg.eigh, errors=[*WRONG, ([SQUARE, "x"], RuntimeError, "UPLO")], **NO_VALUES),
    Sample("linalg.eigh", [A(2, 3, 3), "U"], np.linalg.eigh, dtypes=BOTH, gradient=False),
    Sample("linalg.eigvalsh", [A(2, 3, 3)], np.linalg.eigvalsh, dtypes=BOTH, gradient=False),
    Sample("linalg.eig", [SQUARE], np.linalg.eig, dtypes=BOTH, gradient=False, errors=[
        *WRONG[:2], ([A(2, 2, values=[[math.inf, 0], [0, 1]])], RuntimeError, "should not contain infs or NaNs")]),
    Sample("linalg.eigvals", [SQUARE], np.linalg.eigvals, dtypes=BOTH),
    # factors
    *[Sample("linalg.lu", [A(*s)], lu, dtypes=FLOATS, errors=[
        ([SQUARE], {"pivot": False}, RuntimeError, "not implemented on the CPU")]) for s in ((3, 3), (4, 2), (2, 4))],
    Sample("linalg.lu_factor", [A(20, 20)], packed, gradient=False,
           errors=[([SINGULAR], RuntimeError, r"U\[2,2\] is zero"), VECTOR]),
    Sample("linalg.lu_factor_ex", [WORSE], lambda a: (a, np.array([[1, 2], [1, 2]]), np.array([0, 1])), **NO_VALUES),
    Sample("lu", [A(2, 3, 3)]),
    Sample("lu_unpack", [SQUARE, PIVOTS], lambda a, p: (
        SWAPPED, np.tril(a, -1) + np.eye(3), np.triu(a)), errors=[
        ([SQUARE, A(3, values=[1, 2, 3], dtype="int64")], RuntimeError, "torch.int32 dtype")]),
    Sample("linalg.lu_solve", [SQUARE, PIVOTS, A(3, 2)], lambda a, p, b: np.linalg.solve(
        SWAPPED @ (np.tril(a, -1) + np.eye(3)) @ np.triu(a), b), dtypes=BOTH, errors=[
        ([SQUARE, A(3), SQUARE], RuntimeError, "torch.int32"), ([SQUARE, PIVOTS, A(2, 2)], RuntimeError, "Incompatible"),
        ([SQUARE, A(2, values=[1, 2], dtype="int32"), SQUARE], RuntimeError, "Number of pivots")]),
    Sample("linalg.lu_solve", [SQUARE, PIVOTS, A(2, 3)], lambda a, p, b, left, adjoint: b @ np.linalg.inv(
        SWAPPED @ (np.tril(a, -1) + np.eye(3)) @ np.triu(a)).conj().T,
        {"left": False, "adjoint": True}, dtypes=BOTH),
    Sample("lu_solve", [A(3, 2), SQUARE, PIVOTS]),
    Sample("linalg.ldl_factor", [SYMMETRIC], lambda a: (LD, np.array([-2, -2, 3])), errors=[NOT_SQUARE], **NO_VALUES),
    Sample("linalg.ldl_solve", [A(3, 3, grad=False, values=LD),
                                A(3, values=[-2, -2, 3], dtype="int32"), A(3, 2)],
           lambda ld, p, b: np.linalg.solve([[0, 2, 1], [2, 0, 3], [1, 3, 5]], b), dtypes=BOTH),
    Sample("geqrf", [A(2, 4, 3)], lambda a: (lambda h, t: (h.swapaxes(-1, -2), t))(*np.linalg.qr(a, "raw")),
           dtypes=BOTH, gradient=False),
    Sample("linalg.householder_product", [A(4, 3), A(2)], householder, dtypes=BOTH, errors=[
        ([A(2, 3), A(2)], RuntimeError, "greater than or equal"), ([A(3, 2), A(3)], RuntimeError, "tau.shape"),
        ([A(2, 3, 2), A(2)], RuntimeError, "batch dimensions of tau")]),
    Sample("orgqr", [A(3, 3), A(3)], householder),
    *[Sample("ormqr", [A(3, 2), A(2), A(*s), left, turned], ormqr, dtypes=BOTH) for s, left, turned in (
        ((3, 2), True, False), ((3, 2), True, True), ((2, 3), False, False), ((2, 3), False, True))],
    # solving
    Sample("linalg.inv", [A(2, 3, 3)], np.linalg.inv, dtypes=BOTH, errors=[
        *WRONG, ([SINGULAR], RuntimeError, "The diagonal element 2 is zero"),
        ([WORSE], RuntimeError, r"linalg.inv: \(Batch element 1\): The diagonal element 1")]),
    Sample("linalg.inv_ex", [WORSE], lambda a: (
        np.array([np.eye(2), [[math.nan, math.nan], [math.nan, math.inf]]]), np.array([0, 1])),
           **NO_VALUES),
    Sample("inverse", [SQUARE], np.linalg.inv),
    *[Sample("linalg.solve", [A(*a), A(*b)], solve, dtypes=BOTH, errors=[
        ([SINGULAR, A(2)], RuntimeError, "input matrix is singular"), ([SQUARE, A(2, 2)], RuntimeError, "Incompatible shapes"),
        ([SQUARE, A(3, dtype="complex64")], RuntimeError, "same dtype"),
        ([SQUARE, A(3)], {"left": False}, RuntimeError, "Vector broadcasting")])
      for a, b in (((3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (2, 3)), ((2, 1, 2, 2), (3, 2, 1)))],
    Sample("linalg.solve", [SQUARE, A(2, 3)], solve, {"left": False}, dtypes=BOTH),
    Sample("linalg.solve_ex", [SQUARE, A(3, 2)], lambda a, b: (solve(a, b), 0)),
    *[Sample("linalg.solve_triangular", [A(3, 3), A(*b)], tri, k, dtypes=BOTH, errors=[
        ([SQUARE, A(2, 2)], k, RuntimeError, "Incompatible shapes")]) for b, k in (
        ((3, 2), {"upper": True}), ((3, 2), {"upper": False, "unitriangular": True}),
        ((2, 3), {"upper": True, "left": False}), ((2, 3), {"upper": False, "left": False, "unitriangular": True}))],
    Sample("linalg.solve_triangular", [A(40, 40, low=-0.1, high=0.1), A(40, 2)], tri, {"upper": True, "unitriangular": True},
           gradient=False),
    Sample("triangular_solve", [A(3, 2), SQUARE], lambda b, a, upper, transpose: (tri(a.T, b, True), a),
           {"upper": False, "transpose": True}),
    Sample("cholesky_solve", [A(2, 2), LOWER], lambda b, a: np.linalg.solve(np.tril(a) @ np.tril(a).T, b)),
    Sample("cholesky_inverse", [LOWER, True], lambda a, u: np.linalg.inv(np.triu(a).T @ np.triu(a))),
    Sample("linalg.tensorinv", [A(2, 3, 6)], np.linalg.tensorinv, errors=[
        ([A(2, 3)], RuntimeError, "but got 1 != 6"), ([A(2, 2), 0], RuntimeError, "strictly positive")]),
    Sample("linalg.tensorsolve", [A(2, 3, 6), A(2, 3)], np.linalg.tensorsolve, errors=[
        ([A(2, 3), A(2)], RuntimeError, "but got 3 != 2")]),
    Sample("linalg.tensorsolve", [A(2, 6, 3), A(2, 3), (1,)], lambda a, b, d: np.linalg.tensorsolve(a, b, d)),
    # functions of matrices
    Sample("linalg.det", [A(2, 3, 3)], np.linalg.det, dtypes=BOTH, errors=WRONG[:2]),
    Sample("det", [SINGULAR], np.linalg.det, second=False),
    Sample("linalg.slogdet", [A(2, 3, 3)], np.linalg.slogdet, dtypes=BOTH),
    Sample("slogdet", [SINGULAR], lambda a: (0, -math.inf), gradient=False),
    Sample("logdet", [A(3, 3, values=[[2, 1, 0], [0, 1, 1], [1, 0, 3]])], lambda a: np.log(np.linalg.det(a)), dtypes=BOTH),
    Sample("linalg.matrix_exp", [A(2, 3, 3)], exponential, dtypes=BOTH, errors=WRONG[:2]),
    Sample("matrix_exp", [A(2, 2, values=[[10, -9], [11, -3]])], exponential, dtypes=("float64",)),
    *[Sample("linalg.pinv", [A(*s)], np.linalg.pinv, dtypes=BOTH) for s in ((3, 2), (2, 2, 3))],
    Sample("linalg.pinv", [SYMMETRIC], lambda a, rcond, hermitian: np.linalg.pinv(a, rcond), {"rcond": 0.3, "hermitian": True},
           dtypes=FLOATS, **NO_VALUES),
    Sample("pinverse", [A(3, 2)], np.linalg.pinv),
    Sample("linalg.matrix_rank", [A(2, 2, 2, values=[[[1, 2], [2, 4]], [[1, 0], [0, 1]]])], np.linalg.matrix_rank, **NO_VALUES),
    Sample("linalg.matrix_rank", [SYMMETRIC], lambda a, atol, hermitian: 2, {"atol": 1.0, "hermitian": True}, **NO_VALUES),
    Sample("linalg.lstsq", [A(4, 2), A(4, 3)], lstsq, {"driver": "gelsd"}, gradient=False, errors=[
        ([A(2, 2), A(3, 2)], RuntimeError, "should match"), ([SQUARE, SQUARE], {"driver": "x"}, RuntimeError, "gelsy, gelsd"),
        ([A(3), A(3)], RuntimeError, "at least 2 dimensions")]),
    Sample("linalg.lstsq", [A(2, 4, 2), A(2, 4)], None, {"driver": "gels"}),
    Sample("linalg.lstsq", [A(2, 3), A(2, 2)], lstsq, {"driver": "gelsy"}),
    # norms
    *[Sample("linalg.matrix_norm", [A(2, 3, 2), ord], matrix_norm, dtypes=BOTH, second=False)
      for ord in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)],
    *[Sample("linalg.matrix_norm", [A(2, 3, 2), ord, (0, 2), True], matrix_norm, second=False, errors=[
        ([SQUARE, 3], RuntimeError, "Order 3 not supported"), ([SQUARE, "x"], RuntimeError, "Order x not supported"),
        ([SQUARE, 1, (0, 0)], RuntimeError, "dims must be different"), ([SQUARE, 1, 0], RuntimeError, "2-tuple"), INTEGERS])
      for ord in ("nuc", 1, math.inf)],
    *[Sample("linalg.norm", [A(2, 3), ord], np.linalg.norm, dtypes=BOTH, second=False)
      for ord in (None, "fro", 2, math.inf)],
    Sample("linalg.norm", [A(4), 3], np.linalg.norm, errors=[([A(2, 2, 2), 2], RuntimeError, "must be 1D or 2D. Got 3D"),
           ([A(2, 2), 2, (0, 1, 1)], RuntimeError, "must be of length 1 or 2")]),
    Sample("linalg.norm", [A(2, 3, 2), None, 1], lambda a, o, d: np.linalg.norm(a, o, d)),
    Sample("linalg.vector_norm", [A(2, 3), 3], lambda a, p: (np.abs(a) ** p).sum() ** (1 / p), dtypes=BOTH, errors=[
        ([A(0), math.inf], RuntimeError, "does not have an identity"),
        ([A(2)], {"dtype": None, "dim": 3}, IndexError, "out of range")]),
    *[Sample("linalg.cond", [SQUARE, p], np.linalg.cond, second=False, dtypes=BOTH, errors=[
        ([SQUARE, 3], RuntimeError, "invalid norm type: 3")]) for p in (None, -2, "fro", 1, "nuc")],
    Sample("linalg.cond", [SINGULAR, 1], lambda a, p: math.inf, **NO_VALUES),
]  # fmt: skip
