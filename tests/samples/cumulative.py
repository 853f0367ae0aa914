"""Samples of running sums, products and extremes, differences and integrals."""

import math

import numpy as np

from tests.samples.common import COMPLEX, FLOATS, INTS, LOW, NUMBERS, A, Sample

NAN = math.nan


def running_extreme(ufunc):
    """(values, indices) of a running maximum or minimum."""

    def reference(x, dim):
        values = ufunc.accumulate(x, dim)
        x, v = np.moveaxis(x, dim, -1), np.moveaxis(values, dim, -1)
        index = np.zeros(x.shape, int)
        for at in np.ndindex(x.shape[:-1]):
            last = 0
            for i in range(x.shape[-1]):
                last = i if x[at][i] == v[at][i] or np.isnan(x[at][i]) else last
                index[at][i] = last
        return values, np.moveaxis(index, -1, dim)

    return reference


def cumulative_trapezoid(y, x=None, dx=1, dim=-1):
    steps = dx if x is None else np.diff(x)
    return np.cumsum(
        (np.moveaxis(y, dim, -1)[..., 1:] + np.moveaxis(y, dim, -1)[..., :-1]) / 2 * steps, -1
    )


def gradient(x, spacing=1, dim=None, edge_order=1):
    steps = spacing if isinstance(spacing, (list, tuple)) else [spacing]
    found = np.gradient(x, *steps, axis=dim, edge_order=edge_order)
    return list(found) if isinstance(found, (list, tuple)) else [found]


ZEROS = A(2, 4, values=[[2.0, 0.0, -1.0, 3.0], [0.0, 0.5, 0.0, 2.0]])
HOLES = A(4, values=[1.0, NAN, 3.0, NAN], grad=False)

SAMPLES = [
    Sample(
        "cumsum",
        [A(2, 3), 1],
        np.cumsum,
        dtypes=NUMBERS + LOW + COMPLEX,
        errors=[([A(2, 3), 2], IndexError, "Dimension out of range")],
    ),
    Sample("cumsum", [A(), 0], lambda x, d: x),
    Sample(
        "cumsum",
        [A(3), -1],
        lambda x, d, dtype: np.cumsum(x.astype(float)),
        {"dtype": float},
        dtypes=("int64", "float64"),
    ),
    Sample("cumprod", [A(2, 3), 1], np.cumprod, dtypes=NUMBERS + LOW + COMPLEX),
    Sample("cumprod", [A(2, 3), 0], np.cumprod),
    Sample("cumprod", [ZEROS, 1], np.cumprod, dtypes=FLOATS + COMPLEX, batch=False),
    Sample(
        "cumprod",
        [A(3), 0],
        lambda x, d, dtype: np.cumprod(x),
        {"dtype": float},
        dtypes=("int64",),
        gradient=False,
    ),
    Sample(
        "logcumsumexp",
        [A(2, 3), 1],
        lambda x, d: np.log(np.cumsum(np.exp(x), d)),
        dtypes=FLOATS + LOW,
        errors=[([A(2, dtype="int64"), 0], NotImplementedError, "not implemented")],
    ),
    Sample(
        "logcumsumexp",
        [A(3, values=[0.1 + 1j, 0.3 - 0.5j, -0.2 + 0.1j]), 0],
        lambda x, d: np.log(np.cumsum(np.exp(x), d)),
        dtypes=COMPLEX,
    ),
    Sample(
        "logcumsumexp",
        [A(3, values=[-math.inf, 1000.0, 1000.0], grad=False), 0],
        gradient=False,
        reference=lambda x, d: np.array([-math.inf, 1000.0, 1000.0 + math.log(2)]),
    ),
    Sample(
        "cummax",
        [A(3, 4, distinct=True), 1],
        running_extreme(np.maximum),
        dtypes=FLOATS + INTS + LOW[:1],
        errors=[([A(2, dtype="complex64"), 0], NotImplementedError, "can be ordered")],
    ),
    Sample(
        "cummin",
        [A(3, 4, distinct=True), 0],
        running_extreme(np.minimum),
        dtypes=FLOATS + INTS + LOW[:1],
    ),
    Sample("cummax", [A(), 0], lambda x, d: (x, 0)),
    Sample("cummin", [HOLES, 0], running_extreme(np.minimum), gradient=False, batch=False),
    Sample(
        "diff",
        [A(2, 4)],
        np.diff,
        dtypes=NUMBERS + ("bool",),
        errors=[
            ([A()], RuntimeError, "at least one-dimensional"),
            ([A(3), -1], RuntimeError, "non-negative"),
        ],
    ),
    Sample("diff", [A(4, 2), 2, 0], np.diff),
    Sample("diff", [A(3), 5], lambda x, n: np.zeros(0)),
    Sample("diff", [A(2, 3), 1, 1, A(2, 1), A(2, 2)], np.diff),
    Sample("trapezoid", [A(2, 4)], np.trapezoid, dtypes=FLOATS + INTS),
    Sample(
        "trapezoid",
        [A(4, 2)],
        lambda y, dx, dim: np.trapezoid(y, dx=dx, axis=dim),
        {"dx": 0.5, "dim": 0},
    ),
    Sample(
        "trapezoid",
        [A(2, 4), A(4)],
        np.trapezoid,
        errors=[
            ([A(2, 3), A(2)], RuntimeError, "one `x` value for each"),
            ([A(3), A(3)], {"dx": 1}, TypeError, "both"),
        ],
    ),
    Sample(
        "trapezoid", [A(4, 2), A(4, 2)], lambda y, x, dim: np.trapezoid(y, x, axis=dim), {"dim": 0}
    ),
    Sample("cumulative_trapezoid", [A(2, 4)], cumulative_trapezoid, dtypes=FLOATS + INTS),
    Sample("cumulative_trapezoid", [A(2, 4), A(4)], cumulative_trapezoid),
    Sample(
        "gradient",
        [A(3, 4)],
        gradient,
        dtypes=FLOATS + INTS,
        errors=[
            ([A(1)], RuntimeError, "at least edge_order"),
            ([A(4)], {"edge_order": 3}, RuntimeError, "only supports edge_order"),
            ([A(3, 3)], {"spacing": [1, 2, 3]}, RuntimeError, "list of length"),
        ],
    ),
    Sample("gradient", [A(5)], gradient, {"spacing": 0.5, "edge_order": 2}),
    Sample("gradient", [A(3, 4)], gradient, {"spacing": [0.5, 2.0], "dim": (0, 1)}),
    Sample(
        "gradient",
        [A(2, 5)],
        gradient,
        {"spacing": [np.array([0.0, 0.5, 2.0, 2.5, 4.0])], "dim": 1, "edge_order": 2},
        dtypes=("float64",),
    ),
]
