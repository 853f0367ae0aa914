"""Samples of products of matrices and of the linear layer."""

import numpy as np

from tests.samples.common import COMPLEX, FLOATS, INTS, LOW, A, Sample

F = "nn.functional."
ALL = FLOATS + INTS + LOW + COMPLEX
MISMATCH = (
    [A(2, 3), A(4, 5)],
    RuntimeError,
    r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 4x5\)",
)


def bilinear(x, y, w, b=None):
    out = np.einsum("...i,kij,...j->...k", x, w, y)
    return out if b is None else out + b


SAMPLES = [
    Sample(
        "matmul",
        [A(2, 3), A(3, 4)],
        np.matmul,
        dtypes=ALL,
        op="mm",
        errors=[
            MISMATCH,
            ([A(2, 3), A(4, 3)], RuntimeError, r"did you mean b.mT\?"),
            ([A(3, 2), A(3, 4)], RuntimeError, r"did you mean a.mT\?"),
            ([A(2, 3), 3], TypeError, "must be Tensor, not int"),
            ([A(), A(3)], RuntimeError, "at least 1D"),
            ([A(2, 3), A(3, 2, dtype="int64")], RuntimeError, "same dtype"),
            ([A(2, 3, dtype="bool"), A(3, 2, dtype="bool")], NotImplementedError, "Bool"),
            ([A(2, 2, 3), A(3, 3, 4)], RuntimeError, "size of tensor a"),
        ],
    ),
    Sample("matmul", [A(3), A(3)], np.matmul, dtypes=ALL, op="dot"),
    Sample("matmul", [A(2, 3), A(3)], np.matmul, dtypes=ALL, op="mv"),
    Sample("matmul", [A(3), A(3, 2)], np.matmul),
    Sample("matmul", [A(3), A(5, 3, 2)], np.matmul),
    Sample("matmul", [A(2, 2, 3), A(3)], np.matmul),
    Sample("matmul", [A(2, 2, 3), A(3, 4)], np.matmul, dtypes=ALL),
    Sample("matmul", [A(2, 1, 2, 3), A(4, 3, 2)], np.matmul, dtypes=FLOATS + COMPLEX),
    Sample("matmul", [A(0, 3), A(3, 2)], np.matmul, gradient=False),
    Sample(
        "mm",
        [A(2, 3), A(3, 4)],
        np.matmul,
        errors=[
            MISMATCH,
            ([A(3), A(3, 4)], RuntimeError, "self must be a matrix"),
            ([A(2, 3), A(3)], RuntimeError, "mat2"),
        ],
    ),
    Sample(
        "bmm",
        [A(2, 2, 3), A(2, 3, 4)],
        np.matmul,
        dtypes=ALL,
        errors=[
            ([A(2, 3), A(3, 4)], RuntimeError, "batch1 must be a 3D tensor"),
            ([A(2, 3, 1), A(3, 4)], RuntimeError, "batch2 must be a 3D tensor"),
            ([A(2, 3, 1), A(2, 5, 1)], RuntimeError, "Expected size for first two dimensions"),
        ],
    ),
    Sample("mv", [A(2, 3), A(3)], np.matmul, errors=[([A(2, 3), A(2, 3)], RuntimeError, "vector")]),
    Sample(
        "dot",
        [A(3), A(3)],
        np.dot,
        errors=[
            ([A(3), A(4)], RuntimeError, "same number of elements"),
            ([A(3), A(3, 3)], RuntimeError, "1D tensors expected"),
        ],
    ),
    Sample(
        "addmm",
        [A(2, 4), A(2, 3), A(3, 4)],
        lambda i, a, b, beta, alpha: beta * i + alpha * (a @ b),
        {"beta": 2, "alpha": 3},
        dtypes=FLOATS + INTS,
        errors=[
            ([A(5), A(2, 3), A(3, 4)], RuntimeError, "expanded size"),
        ],
    ),
    Sample(
        "addmm", [A(4), A(2, 3), A(3, 4)], lambda i, a, b, beta: a @ b, {"beta": 0}, gradient=False
    ),
    Sample(
        F + "linear",
        [A(2, 3), A(4, 3), A(4)],
        lambda x, w, b: x @ w.T + b,
        dtypes=FLOATS + LOW + COMPLEX,
        errors=[
            (
                [A(2, 3), A(4, 5)],
                RuntimeError,
                r"expects 5 input features, got 3 from shape \(2, 3\)",
            ),
            ([A(2, 3), A(4, 3), A(5)], RuntimeError, "expanded size"),
            ([A(2, 3), A(3), A(2)], RuntimeError, "1-D"),
            ([A(2, 3), A(4, 3, dtype="int64")], RuntimeError, "same dtype"),
        ],
    ),
    Sample(F + "linear", [A(2, 2, 3), A(4, 3), A(4)], lambda x, w, b: x @ w.T + b),
    Sample(F + "linear", [A(2, 2, 3), A(4, 3)], lambda x, w: x @ w.T, dtypes=FLOATS + COMPLEX),
    Sample(F + "linear", [A(3), A(4, 3), A(4)], lambda x, w, b: x @ w.T + b),
    Sample(F + "linear", [A(2, 3), A(3)], lambda x, w: x @ w),
    Sample(
        F + "bilinear",
        [A(2, 3), A(2, 4), A(5, 3, 4), A(5)],
        bilinear,
        errors=[
            ([A(2, 3), A(2, 4), A(5, 3, 3)], RuntimeError, "input2 size does not match"),
            ([A(2, 3), A(3, 4), A(5, 3, 4)], RuntimeError, "batch dimensions do not match"),
        ],
    ),
]
