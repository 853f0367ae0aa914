"""Samples of the reductions: sums, products, truth, extremes."""

import math

import numpy as np

from tests.samples.common import ALL, BOOL, COMPLEX, FLOATS, INTS, LOW, NUMBERS, A, Sample

NAN, INF = math.nan, math.inf
HOLES = A(2, 3, values=[[1.0, NAN, -2.0], [NAN, 4.0, 0.5]], grad=False)
ZEROS = A(2, 3, values=[[0.0, 3.0, -2.0], [0.0, 0.0, 0.5]])
TIES = A(2, 3, values=[[3.0, 1.0, 3.0], [2.0, 3.0, -1.0]])


def logsumexp(x, dim, keepdim=False):
    return np.log(np.exp(x).sum(axis=dim, keepdims=keepdim))


def with_index(values, indices):
    """The reference of a selection along dimension `dim`."""

    def reference(x, dim, keepdim=False):
        return values(x, axis=dim, keepdims=keepdim), indices(x, axis=dim, keepdims=keepdim)

    return reference


def reductions(name, reference, dtypes=FLOATS, **options):
    """The forms that most reductions have: of all elements, over one dimension, over several,
    kept.
    """
    return [
        Sample(name, [A(2, 3)], reference, dtypes=dtypes, **options),
        Sample(name, [A()], reference, **options),
        Sample(name, [A(2, 3), 1], lambda x, d: reference(x, axis=d), dtypes=dtypes, **options),
        Sample(name, [A(2, 3, 2), (0, -1)], lambda x, d: reference(x, axis=d), **options),
        Sample(
            name,
            [A(2, 3, 2), (0, 2)],
            lambda x, d, keepdim: reference(x, axis=d, keepdims=True),
            kwargs={"keepdim": True},
            **options,
        ),
    ]


def extremes(name, values, indices):
    """`max` or `min` and what belongs to it."""
    reference = with_index(values, indices)
    outside = ([A(2, 3), 2], IndexError, "Dimension out of range")
    return [
        Sample(
            name,
            [A(2, 3, distinct=True)],
            values,
            dtypes=ALL,
            errors=[
                ([A(0)], RuntimeError, "Expected reduction dim to be specified"),
                ([A(0, 2), 0], IndexError, "non-zero size"),
                ([A(2, dtype="complex64")], NotImplementedError, "can be ordered"),
                outside,
            ],
        ),
        Sample(name, [TIES], values, gradient=False),
        Sample(name, [HOLES], values, gradient=False, batch=False),
        Sample(name, [A(2, 3, distinct=True), 1], reference, dtypes=ALL),
        Sample(name, [A(2, 3, distinct=True), 0, True], reference),
        Sample(name, [A(distinct=True), 0], lambda x, d: (x, 0)),
        Sample(name, [HOLES, 0], reference, gradient=False, batch=False),
        Sample(
            name,
            [A(2, 3, distinct=True), A(3)],
            lambda x, y: values(np.array(np.broadcast_arrays(x, y)), 0),
        ),
        Sample(
            "a" + name,
            [A(2, 3, 2, distinct=True), (0, 2)],
            lambda x, d: values(x, axis=d),
            dtypes=ALL,
            errors=[
                ([A(0)], RuntimeError, "Expected reduction dim to be specified"),
                ([A(2, 0), 1], IndexError, "non-zero size"),
                ([A(2, 2), (0, 0)], RuntimeError, "appears multiple times"),
            ],
        ),
        Sample(
            "a" + name,
            [A(2, 3, distinct=True), 1, True],
            lambda x, d, k: values(x, axis=d, keepdims=k),
        ),
        Sample(
            "arg" + name,
            [A(2, 3, distinct=True)],
            indices,
            dtypes=NUMBERS + LOW,
            gradient=False,
            errors=[
                ([A(0)], IndexError, "Expected reduction dim to be specified"),
                ([A(2, dtype="bool")], RuntimeError, "does not support bool"),
                outside,
            ],
        ),
        Sample(
            "arg" + name,
            [HOLES, 1, True],
            lambda x, d, k: indices(x, axis=d, keepdims=k),
            gradient=False,
        ),
    ]


SAMPLES = [
    *reductions("sum", np.sum, ALL + COMPLEX),
    Sample(
        "sum",
        [A(2, 3)],
        lambda x, dtype: x.astype(float).sum(),
        kwargs={"dtype": float},
        dtypes=("float32", "int64"),
        gradient=False,
        errors=[
            ([A(2, 3), 2], IndexError, "Dimension out of range"),
            ([A(2, 3), (1, -1)], RuntimeError, "appears multiple times"),
        ],
    ),
    Sample("sum", [A(0, 3), 0], lambda x, d: np.zeros(3)),
    Sample("sum", [A(3000, 2), 0], lambda x, d: x.sum(0), dtypes=FLOATS + LOW[1:], gradient=False),
    Sample(
        "sum",
        [A(2, 3)],
        lambda x, axis, keepdims: x.sum(1, keepdims=True),
        {"axis": 1, "keepdims": True},
    ),
    Sample(
        "Tensor.sum_to_size",
        [A(2, 3, 4), 3, 1],
        lambda x, *size: x.sum((0, 2)).reshape(3, 1),
        errors=[([A(2, 3), 2], RuntimeError, "not expandable")],
    ),
    *reductions("mean", np.mean, FLOATS + LOW + COMPLEX),
    Sample(
        "mean",
        [A(4)],
        lambda x, dtype: x.mean(),
        kwargs={"dtype": float},
        dtypes=("float64", "int64"),
        errors=[([A(3, dtype="int64")], RuntimeError, "could not infer output dtype")],
    ),
    *reductions("nansum", np.sum, FLOATS + INTS),
    Sample("nansum", [HOLES, 1], lambda x, d: np.nansum(x, d), gradient=False, batch=False),
    *reductions("nanmean", np.mean, FLOATS + LOW),
    Sample(
        "nanmean",
        [HOLES],
        np.nanmean,
        gradient=False,
        batch=False,
        errors=[([A(3, dtype="int64")], RuntimeError, "floating point dtype")],
    ),
    Sample("prod", [A(2, 3)], np.prod, dtypes=ALL + COMPLEX),
    Sample("prod", [A(2, 3), 1, True], lambda x, d, k: np.prod(x, d, keepdims=k)),
    Sample("prod", [A()], np.prod),
    Sample("prod", [ZEROS], np.prod, batch=False),
    Sample("prod", [ZEROS, 1], lambda x, d: np.prod(x, d), batch=False),
    Sample(
        "prod",
        [A(2, 3, values=[[0, 3, -2j], [1j, 1, 0.5]]), 0],
        lambda x, d: np.prod(x, d),
        dtypes=COMPLEX[1:],
    ),
    Sample(
        "prod",
        [A(3)],
        lambda x, dtype: np.prod(x, dtype=float),
        {"dtype": float},
        dtypes=("int64",),
        gradient=False,
    ),
    *reductions(
        "all",
        lambda x, **k: np.all(x, **k).astype(x.dtype if x.dtype == np.uint8 else bool),
        ALL,
        gradient=False,
    ),
    *reductions(
        "any",
        lambda x, **k: np.any(x, **k).astype(x.dtype if x.dtype == np.uint8 else bool),
        ALL,
        gradient=False,
    ),
    Sample("any", [A(2, 2, dtype="int64"), ()], lambda x, d: x != 0, gradient=False),
    Sample("count_nonzero", [A(2, 3)], np.count_nonzero, dtypes=BOOL + NUMBERS, gradient=False),
    Sample("count_nonzero", [ZEROS, 1], lambda x, d: np.count_nonzero(x, d), gradient=False),
    *extremes("max", np.max, np.argmax),
    *extremes("min", np.min, np.argmin),
    Sample("aminmax", [A(2, 3, distinct=True)], lambda x: (x.min(), x.max()), dtypes=ALL),
    Sample(
        "aminmax",
        [A(2, 3, distinct=True)],
        lambda x, dim, keepdim: (x.min(1, keepdims=True), x.max(1, keepdims=True)),
        kwargs={"dim": 1, "keepdim": True},
        errors=[([A(0)], RuntimeError, "over an empty dimension")],
    ),
    Sample("logsumexp", [A(2, 3), 1], logsumexp, dtypes=FLOATS + ("int64",) + LOW + COMPLEX),
    Sample("logsumexp", [A(2, 3, 2), (0, 2), True], logsumexp),
    Sample("logsumexp", [A(), 0], lambda x, d: x),
    Sample("logsumexp", [A(2, values=[1000.0, 1000.0]), 0], lambda x, d: 1000 + np.log(2.0)),
    Sample(
        "logsumexp", [A(2, values=[-INF, -INF], grad=False), 0], lambda x, d: -INF, gradient=False
    ),
]
