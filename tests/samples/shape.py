"""Samples of joining and rearranging: cat, stack, repeat, roll, flip, triangles, grids."""

import itertools

import numpy as np

from tests.samples.common import ALL, COMPLEX, INTS, A, Sample

EVERY = (*ALL, *COMPLEX)
COUNTS = A(3, dtype="int64", values=[2, 0, 1])


def on_diagonal(*blocks):
    blocks = [np.atleast_2d(b) for b in blocks]
    y = np.zeros(np.sum([b.shape for b in blocks], 0))
    row = column = 0
    for b in blocks:
        y[row : row + b.shape[0], column : column + b.shape[1]] = b
        row, column = row + b.shape[0], column + b.shape[1]
    return y


def column_stack(x):
    return np.column_stack([np.ravel(v) if v.ndim < 2 else v for v in x])


JOINS = [
    Sample(
        "cat",
        [[A(2, 3), A(1, 3)]],
        np.concatenate,
        dtypes=EVERY,
        errors=[
            ([[]], ValueError, "expected a non-empty list of Tensors"),
            ([A(2, 3)], TypeError, "must be tuple of Tensors, not Tensor"),
            ([[A(2, 3), A(3)]], RuntimeError, "same number of dimensions: got 2 and 1"),
            (
                [[A(2, 3), A(2, 4)]],
                RuntimeError,
                "Expected size 3 but got size 4 for tensor number 1",
            ),
            ([[A(), A()]], RuntimeError, "cannot be concatenated"),
            ([[A(2), A(2)], 1], IndexError, "Dimension out of range"),
        ],
    ),
    Sample("cat", [(A(2, 3), A(2, 1), A(2, 2)), -1], lambda x, d: np.concatenate(x, 1)),
    Sample("cat", [[A(0), A(2, 3)], 1], lambda x, d: x[1]),
    Sample(
        "cat", [[A(2, dtype="int64"), A(2, dtype="float64")]], np.concatenate, dtypes=("float64",)
    ),
    Sample("concat", [[A(2), A(3)]], np.concatenate),
    Sample("concatenate", [[A(2), A(3)]], np.concatenate),
    Sample(
        "stack",
        [[A(2, 3), A(2, 3)], 1],
        np.stack,
        dtypes=EVERY,
        errors=[
            ([[]], RuntimeError, "non-empty TensorList"),
            ([[A(2), A(3)]], RuntimeError, r"got \[2\] at entry 0 and \[3\] at entry 1"),
        ],
    ),
    Sample("stack", [[A(), A(), A()]], np.stack),
    Sample("stack", [[A(2, 2), A(2, 2)]], np.stack),
    Sample("hstack", [[A(2), A(3)]], np.hstack),
    Sample("hstack", [[A(2, 1), A(2, 2)]], np.hstack),
    Sample("vstack", [[A(3), A(2, 3)]], np.vstack),
    Sample("row_stack", [[A(3), A(3)]], np.vstack),
    Sample("dstack", [[A(2, 3), A(2, 3)]], np.dstack),
    Sample("column_stack", [[A(2), A(2, 3), A(2)]], column_stack),
    Sample(
        "block_diag",
        [A(2, 2), A(3), A()],
        on_diagonal,
        errors=[([A(1, 1, 1)], RuntimeError, "must have 2 or fewer dimensions")],
    ),
    Sample("atleast_1d", [A()], np.atleast_1d),
    Sample("atleast_2d", [A(3)], np.atleast_2d),
    Sample("atleast_3d", [A(2, 3)], np.atleast_3d),
    Sample("atleast_2d", [A(3), A()], np.atleast_2d),
]

REPETITIONS = [
    Sample(
        "Tensor.repeat",
        [A(2, 3), 2, 1, 2],
        lambda x, *r: np.tile(x, r),
        dtypes=EVERY,
        errors=[
            ([A(2, 3), 2], RuntimeError, "can not be smaller than number of dimensions"),
            ([A(2), -1], RuntimeError, "negative dimension"),
        ],
    ),
    Sample("Tensor.repeat", [A(2), (3, 0)], np.tile),
    Sample("tile", [A(2, 3), (2,)], np.tile),
    Sample("tile", [A(2), (2, 2)], np.tile),
    Sample("repeat_interleave", [A(2, 3), 2], np.repeat),
    Sample(
        "repeat_interleave",
        [A(3, 2), COUNTS, 0],
        np.repeat,
        errors=[
            ([A(2), COUNTS], RuntimeError, "repeats must have the same size as input"),
            ([A(2), -1], RuntimeError, "can not be negative"),
        ],
    ),
    Sample(
        "repeat_interleave",
        [COUNTS],
        lambda n: np.repeat(np.arange(3), n),
        dtypes=("float64",),
        gradient=False,
        batch=False,
    ),
    Sample(
        "roll",
        [A(2, 3), 1],
        np.roll,
        dtypes=EVERY,
        errors=[
            (
                [A(2, 3), (1, 2), 0],
                RuntimeError,
                "shifts and dimensions must align. shifts: 2, dims:1",
            )
        ],
    ),
    Sample("roll", [A(2, 3), (1, -1), (0, 1)], np.roll),
    Sample(
        "flip",
        [A(2, 3), (0, -1)],
        np.flip,
        dtypes=EVERY,
        errors=[([A(2, 3), (0, 0)], RuntimeError, "appears multiple times")],
    ),
    Sample("fliplr", [A(2, 3)], np.fliplr, errors=[([A(3)], RuntimeError, "must be >= 2-d")]),
    Sample("flipud", [A(2, 3)], np.flipud),
    *[Sample("rot90", [A(2, 3), k], np.rot90) for k in range(4)],
    Sample(
        "rot90",
        [A(2, 3, 2), 1, (0, 2)],
        np.rot90,
        errors=[([A(2, 3), 1, (0, 0)], RuntimeError, "expected rotation dims to be different")],
    ),
    Sample(
        "tril",
        [A(2, 3, 3), 1],
        np.tril,
        dtypes=EVERY,
        errors=[([A(3)], RuntimeError, "must have at least 2 dimensions")],
    ),
    Sample("triu", [A(3, 4), -1], np.triu, dtypes=EVERY),
    Sample(
        "tril_indices",
        [2, 3],
        lambda r, c: np.stack(np.tril_indices(r, 0, c)),
        dtypes=("int64",),
        gradient=False,
        errors=[([-1, 2], RuntimeError, "row must be non-negative")],
    ),
    Sample(
        "triu_indices",
        [3, 2, 1],
        lambda r, c, k: np.stack(np.triu_indices(r, k, c)),
        dtypes=("int64",),
        gradient=False,
    ),
]

GRIDS = [
    Sample(
        "meshgrid",
        [A(2), A(3)],
        lambda x, y, indexing: np.meshgrid(x, y, indexing="ij"),
        kwargs={"indexing": "ij"},
        errors=[
            ([A(2, 2)], RuntimeError, "Expected 0D or 1D tensor"),
            ([A(2)], {"indexing": "yx"}, RuntimeError, "must be one of"),
        ],
    ),
    Sample(
        "meshgrid",
        [A(2), A(3), A(2)],
        lambda *x, indexing: np.meshgrid(*x, indexing="xy"),
        kwargs={"indexing": "xy"},
    ),
    Sample(
        "cartesian_prod",
        [A(2), A(3)],
        lambda x, y: np.array(list(itertools.product(x, y))),
        errors=[([A(2, 2)], RuntimeError, "Expect a 1D vector")],
    ),
    Sample("combinations", [A(4)], lambda x: np.array(list(itertools.combinations(x, 2)))),
    Sample(
        "combinations",
        [A(3), 2, True],
        lambda x, r, w: np.array(list(itertools.combinations_with_replacement(x, 2))),
        errors=[
            ([A(2, 2)], RuntimeError, "Expect a 1D vector"),
            ([A(2), -1], RuntimeError, "Expect a non-negative number"),
        ],
    ),
    Sample("kron", [A(2, 3), A(3, 2)], np.kron, dtypes=EVERY),
    Sample("kron", [A(2), A(2, 2)], np.kron),
    Sample("vander", [A(3), 4], np.vander, errors=[([A(2, 2)], RuntimeError, "one-dimensional")]),
    Sample("vander", [A(3), 3, True], np.vander, dtypes=("float64", *INTS[3:])),
    Sample(
        "linalg.vander",
        [A(3)],
        lambda x: np.vander(x, 3, True),
        errors=[([A(1)], RuntimeError, "N must be greater than 1")],
    ),
]

SAMPLES = [*JOINS, *REPETITIONS, *GRIDS]
