"""Samples of solving, of functions of matrices and of their norms."""

import math

import numpy as np

from tests.samples.common import FLOATS, A, Sample
from tests.samples.linalg import (
    BOTH,
    INTEGERS,
    LOWER,
    NO_VALUES,
    SINGULAR,
    SQUARE,
    SYMMETRIC,
    WORSE,
    WRONG,
)


def solve(a, b, left=True):
    if not left:
        return np.linalg.solve(a.swapaxes(-1, -2), b.swapaxes(-1, -2)).swapaxes(-1, -2)
    vector = b.ndim == 1 or b.shape == a.shape[:-1]
    return np.linalg.solve(a, b[..., None])[..., 0] if vector else np.linalg.solve(a, b)


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
    return (
        x,
        residuals if names != "gelsy" else np.zeros(0),
        np.asarray(rank),
        s if names == "gelsd" else np.zeros(0),
    )


def tri(a, b, upper, left=True, unitriangular=False):
    a = np.triu(a) if upper else np.tril(a)
    if unitriangular:
        a = a - np.diag(np.diag(a)) + np.eye(len(a))
    return solve(a, b, left)


SAMPLES = [
    # solving
    Sample(
        "linalg.inv",
        [A(2, 3, 3)],
        np.linalg.inv,
        dtypes=BOTH,
        errors=[
            *WRONG,
            ([SINGULAR], RuntimeError, "The diagonal element 2 is zero"),
            ([WORSE], RuntimeError, r"linalg.inv: \(Batch element 1\): The diagonal element 1"),
        ],
    ),
    Sample(
        "linalg.inv_ex",
        [WORSE],
        lambda a: (
            np.array([np.eye(2), [[math.nan, math.nan], [math.nan, math.inf]]]),
            np.array([0, 1]),
        ),
        **NO_VALUES,
    ),
    Sample("inverse", [SQUARE], np.linalg.inv),
    *[
        Sample(
            "linalg.solve",
            [A(*a), A(*b)],
            solve,
            dtypes=BOTH,
            errors=[
                ([SINGULAR, A(2)], RuntimeError, "input matrix is singular"),
                ([SQUARE, A(2, 2)], RuntimeError, "Incompatible shapes"),
                ([SQUARE, A(3, dtype="complex64")], RuntimeError, "same dtype"),
                ([SQUARE, A(3)], {"left": False}, RuntimeError, "Vector broadcasting"),
            ],
        )
        for a, b in (
            ((3, 3), (3, 2)),
            ((3, 3), (3,)),
            ((2, 3, 3), (2, 3)),
            ((2, 1, 2, 2), (3, 2, 1)),
        )
    ],
    Sample("linalg.solve", [SQUARE, A(2, 3)], solve, {"left": False}, dtypes=BOTH),
    Sample("linalg.solve_ex", [SQUARE, A(3, 2)], lambda a, b: (solve(a, b), 0)),
    *[
        Sample(
            "linalg.solve_triangular",
            [A(3, 3), A(*b)],
            tri,
            k,
            dtypes=BOTH,
            errors=[([SQUARE, A(2, 2)], k, RuntimeError, "Incompatible shapes")],
        )
        for b, k in (
            ((3, 2), {"upper": True}),
            ((3, 2), {"upper": False, "unitriangular": True}),
            ((2, 3), {"upper": True, "left": False}),
            ((2, 3), {"upper": False, "left": False, "unitriangular": True}),
        )
    ],
    Sample(
        "linalg.solve_triangular",
        [A(40, 40, low=-0.1, high=0.1), A(40, 2)],
        tri,
        {"upper": True, "unitriangular": True},
        gradient=False,
    ),
    Sample(
        "triangular_solve",
        [A(3, 2), SQUARE],
        lambda b, a, upper, transpose: (tri(a.T, b, True), a),
        {"upper": False, "transpose": True},
    ),
    Sample(
        "cholesky_solve",
        [A(2, 2), LOWER],
        lambda b, a: np.linalg.solve(np.tril(a) @ np.tril(a).T, b),
    ),
    Sample(
        "cholesky_inverse", [LOWER, True], lambda a, u: np.linalg.inv(np.triu(a).T @ np.triu(a))
    ),
    Sample(
        "linalg.tensorinv",
        [A(2, 3, 6)],
        np.linalg.tensorinv,
        errors=[
            ([A(2, 3)], RuntimeError, "but got 1 != 6"),
            ([A(2, 2), 0], RuntimeError, "strictly positive"),
        ],
    ),
    Sample(
        "linalg.tensorsolve",
        [A(2, 3, 6), A(2, 3)],
        np.linalg.tensorsolve,
        errors=[([A(2, 3), A(2)], RuntimeError, "but got 3 != 2")],
    ),
    Sample(
        "linalg.tensorsolve",
        [A(2, 6, 3), A(2, 3), (1,)],
        lambda a, b, d: np.linalg.tensorsolve(a, b, d),
    ),
    # functions of matrices
    Sample("linalg.det", [A(2, 3, 3)], np.linalg.det, dtypes=BOTH, errors=WRONG[:2]),
    Sample("det", [SINGULAR], np.linalg.det, second=False),
    Sample("linalg.slogdet", [A(2, 3, 3)], np.linalg.slogdet, dtypes=BOTH),
    Sample("slogdet", [SINGULAR], lambda a: (0, -math.inf), gradient=False),
    Sample(
        "logdet",
        [A(3, 3, values=[[2, 1, 0], [0, 1, 1], [1, 0, 3]])],
        lambda a: np.log(np.linalg.det(a)),
        dtypes=BOTH,
    ),
    Sample("linalg.matrix_exp", [A(2, 3, 3)], exponential, dtypes=BOTH, errors=WRONG[:2]),
    Sample("matrix_exp", [A(2, 2, values=[[10, -9], [11, -3]])], exponential, dtypes=("float64",)),
    *[Sample("linalg.pinv", [A(*s)], np.linalg.pinv, dtypes=BOTH) for s in ((3, 2), (2, 2, 3))],
    Sample(
        "linalg.pinv",
        [SYMMETRIC],
        lambda a, rcond, hermitian: np.linalg.pinv(a, rcond),
        {"rcond": 0.3, "hermitian": True},
        dtypes=FLOATS,
        **NO_VALUES,
    ),
    Sample("pinverse", [A(3, 2)], np.linalg.pinv),
    Sample(
        "linalg.matrix_rank",
        [A(2, 2, 2, values=[[[1, 2], [2, 4]], [[1, 0], [0, 1]]])],
        np.linalg.matrix_rank,
        **NO_VALUES,
    ),
    Sample(
        "linalg.matrix_rank",
        [SYMMETRIC],
        lambda a, atol, hermitian: 2,
        {"atol": 1.0, "hermitian": True},
        **NO_VALUES,
    ),
    Sample(
        "linalg.lstsq",
        [A(4, 2), A(4, 3)],
        lstsq,
        {"driver": "gelsd"},
        gradient=False,
        errors=[
            ([A(2, 2), A(3, 2)], RuntimeError, "should match"),
            ([SQUARE, SQUARE], {"driver": "x"}, RuntimeError, "gelsy, gelsd"),
            ([A(3), A(3)], RuntimeError, "at least 2 dimensions"),
        ],
    ),
    Sample("linalg.lstsq", [A(2, 4, 2), A(2, 4)], None, {"driver": "gels"}),
    Sample("linalg.lstsq", [A(2, 3), A(2, 2)], lstsq, {"driver": "gelsy"}),
    # norms
    *[
        Sample("linalg.matrix_norm", [A(2, 3, 2), ord], matrix_norm, dtypes=BOTH, second=False)
        for ord in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf)
    ],
    *[
        Sample(
            "linalg.matrix_norm",
            [A(2, 3, 2), ord, (0, 2), True],
            matrix_norm,
            second=False,
            errors=[
                ([SQUARE, 3], RuntimeError, "Order 3 not supported"),
                ([SQUARE, "x"], RuntimeError, "Order x not supported"),
                ([SQUARE, 1, (0, 0)], RuntimeError, "dims must be different"),
                ([SQUARE, 1, 0], RuntimeError, "2-tuple"),
                INTEGERS,
            ],
        )
        for ord in ("nuc", 1, math.inf)
    ],
    *[
        Sample("linalg.norm", [A(2, 3), ord], np.linalg.norm, dtypes=BOTH, second=False)
        for ord in (None, "fro", 2, math.inf)
    ],
    Sample(
        "linalg.norm",
        [A(4), 3],
        np.linalg.norm,
        errors=[
            ([A(2, 2, 2), 2], RuntimeError, "must be 1D or 2D. Got 3D"),
            ([A(2, 2), 2, (0, 1, 1)], RuntimeError, "must be of length 1 or 2"),
        ],
    ),
    Sample("linalg.norm", [A(2, 3, 2), None, 1], lambda a, o, d: np.linalg.norm(a, o, d)),
    Sample(
        "linalg.vector_norm",
        [A(2, 3), 3],
        lambda a, p: (np.abs(a) ** p).sum() ** (1 / p),
        dtypes=BOTH,
        errors=[
            ([A(0), math.inf], RuntimeError, "does not have an identity"),
            ([A(2)], {"dtype": None, "dim": 3}, IndexError, "out of range"),
        ],
    ),
    *[
        Sample(
            "linalg.cond",
            [SQUARE, p],
            np.linalg.cond,
            second=False,
            dtypes=BOTH,
            errors=[([SQUARE, 3], RuntimeError, "invalid norm type: 3")],
        )
        for p in (None, -2, "fro", 1, "nuc")
    ],
    Sample("linalg.cond", [SINGULAR, 1], lambda a, p: math.inf, **NO_VALUES),
]
