"""Samples of products of tensors beyond the matrix product."""

import numpy as np

from tests.samples.common import COMPLEX, FLOATS, INTS, A, Sample

BOTH = FLOATS + COMPLEX
ALL = INTS + BOTH


def multi_dot(tensors):
    return np.linalg.multi_dot(tensors)


def einsum(*shapes):
    """Samples of equations with operands of these shapes."""
    return [
        Sample("einsum", [equation, *[A(*s) for s in operands]], np.einsum, dtypes=BOTH)
        for equation, *operands in shapes
    ]


def cross(a, b, dim=-1):
    return np.cross(a, b, axis=dim)


SAMPLES = [
    Sample(
        "outer",
        [A(2), A(3)],
        np.outer,
        dtypes=ALL,
        errors=[([A(2, 2), A(3)], RuntimeError, "1-D arguments")],
    ),
    Sample(
        "inner",
        [A(2, 3), A(4, 3)],
        np.inner,
        dtypes=ALL,
        errors=[([A(2), A(3)], RuntimeError, "last dimension must match")],
    ),
    Sample("inner", [A(2, 3), A()], np.inner),
    Sample("vdot", [A(3), A(3)], np.vdot, dtypes=ALL),
    Sample(
        "linalg.vecdot",
        [A(2, 3), A(3)],
        lambda a, b: (a.conj() * b).sum(-1),
        dtypes=BOTH,
        errors=[([A(3), A(3, dtype="complex64")], RuntimeError, "same dtype")],
    ),
    Sample(
        "addmv",
        [A(2), A(2, 3), A(3)],
        lambda i, a, v, beta: beta * i + a @ v,
        {"beta": 2},
        dtypes=BOTH,
    ),
    Sample(
        "addr",
        [A(2, 3), A(2), A(3)],
        lambda i, a, b, alpha: i + alpha * np.outer(a, b),
        {"alpha": 3},
        dtypes=ALL,
    ),
    Sample(
        "addbmm", [A(2, 4), A(5, 2, 3), A(5, 3, 4)], lambda i, a, b: i + (a @ b).sum(0), dtypes=BOTH
    ),
    Sample(
        "baddbmm",
        [A(4), A(5, 2, 3), A(5, 3, 4)],
        lambda i, a, b, beta: beta * i + a @ b,
        {"beta": 0.5},
        dtypes=BOTH,
    ),
    Sample(
        "linalg.multi_dot",
        [[A(2, 3), A(3, 4), A(4, 5)]],
        multi_dot,
        dtypes=BOTH,
        errors=[
            ([[A(2, 3)]], RuntimeError, "at least 2 tensors"),
            ([[A(2, 3), A(2, 3)]], RuntimeError, "cannot be multiplied"),
            ([[A(2), A(2, 2, 2), A(2)]], RuntimeError, "must be 2D"),
        ],
    ),
    Sample("linalg.multi_dot", [[A(3), A(3, 4), A(4)]], multi_dot),
    Sample("chain_matmul", [A(2, 3), A(3, 4)], np.matmul),
    *[
        Sample(
            "matrix_power",
            [A(2, 3, 3), n],
            np.linalg.matrix_power,
            dtypes=BOTH,
            errors=[([A(2, 3), 2], RuntimeError, "square")],
        )
        for n in (0, 1, 3, -2)
    ],
    Sample(
        "tensordot",
        [A(2, 3), A(3, 4), 1],
        np.tensordot,
        dtypes=ALL,
        errors=[
            ([A(2, 3), A(3, 4), ([0], [1])], RuntimeError, "contracted dimensions need to match"),
            ([A(2, 3), A(3, 4), ([0], [0, 1])], RuntimeError, "same length"),
            ([A(2), A(2), 2], RuntimeError, "dims=2"),
        ],
    ),
    Sample("tensordot", [A(2, 3, 4), A(4, 2), ([0, 2], [1, 0])], np.tensordot, dtypes=BOTH),
    *einsum(
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("ij,kj", (2, 3), (4, 3)),
        ("ii->i", (3, 3)),
        ("ii", (3, 3)),
        ("...ij->...ji", (2, 2, 3)),
        ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
        ("i,j,k->ijk", (2,), (3,), (2,)),
        ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)),
        ("...i,ij->...j", (2, 3), (3, 2)),
        ("ij->", (2, 3)),
        ("iji,j->i", (2, 3, 2), (3,)),
    ),
    Sample(
        "einsum",
        ["ij,jk", A(2, 3), A(3, 2)],
        np.einsum,
        errors=[
            (["ij,jk", A(2, 3)], RuntimeError, "more operands were provided"),
            (["ij", A(2)], RuntimeError, "does not match"),
            (["ij,jk", A(2, 3), A(4, 2)], RuntimeError, "does not broadcast"),
            (["ij->ik", A(2, 3)], RuntimeError, "output subscript k"),
            (["i1", A(2, 3)], RuntimeError, "invalid subscript"),
            (["ij"], RuntimeError, "at least one operand"),
        ],
    ),
    Sample(
        "cross",
        [A(2, 3), A(2, 3), 1],
        cross,
        dtypes=ALL,
        errors=[
            ([A(2, 2), A(2, 2)], RuntimeError, "no dimension of size 3"),
            ([A(2, 3), A(3)], RuntimeError, "same number of dimensions"),
        ],
    ),
    Sample(
        "linalg.cross",
        [A(3, 2), A(3, 2)],
        cross,
        {"dim": 0},
        dtypes=BOTH,
        errors=[([A(2, 2), A(2, 2)], RuntimeError, "must have length 3")],
    ),
]
