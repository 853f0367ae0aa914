"""Samples of sorting, order statistics, quantiles, distinct values and searching."""

import math

import numpy as np

from tests.samples.common import BOOL, FLOATS, LOW, NUMBERS, A, Sample

NAN = math.nan
HOLES = A(5, values=[3.0, NAN, 1.0, NAN, 2.0], grad=False)
REPEATED = A(9, values=[3, 1, 2, 1, 3, 2, 1, 5, 0], grad=False)
UNEVEN = A(2, 5, values=[[2, 2, 1, 3, 3], [0, 4, 4, 4, 1]], grad=False)


def sort(x, dim=-1, descending=False, stable=True):
    """(values, indices); NumPy's sort is only ascending."""
    if x.ndim == 0:
        return x, 0
    order = np.argsort(x, dim, kind="stable")
    if descending:  # NaN first, equals in their order
        order = x.shape[dim] - 1 - np.flip(np.argsort(np.flip(x, dim), dim, kind="stable"), dim)
    return np.take_along_axis(x, order, dim), order


def topk(x, k, dim=-1, largest=True):
    values, order = sort(x, dim, largest)
    return np.take(values, range(k), dim), np.take(order, range(k), dim)


def kth(x, k, dim=-1, keepdim=False):
    found = [np.take(part, [k - 1], dim) for part in sort(x, dim)]
    return found if keepdim else [part.squeeze(dim) for part in found]


def median(x, dim=None):
    if dim is None:
        return np.sort(x, None)[(x.size - 1) // 2]
    return kth(x, (x.shape[dim] + 1) // 2, dim)


def unique(x, sorted=True, return_inverse=False, return_counts=False, dim=None):
    found = np.unique(x, False, return_inverse, return_counts, axis=dim, equal_nan=False)
    return found


def consecutive(x):
    """Values, where each element went, and the lengths of the runs."""
    new = np.append(True, x[1:] != x[:-1])
    return x[new], np.cumsum(new) - 1, np.diff(np.append(np.flatnonzero(new), len(x)))


def rowwise_search(rows, values, right=False):
    return np.stack(
        [
            np.searchsorted(r, v, "right" if right else "left")
            for r, v in zip(rows, values, strict=True)
        ]
    )


SAMPLES = [
    Sample("sort", [A(3, 4, distinct=True)], sort, dtypes=NUMBERS + LOW + BOOL),
    Sample("sort", [A(3, 4, distinct=True), 0, True], sort),
    Sample("sort", [A(distinct=True)], sort),
    Sample("sort", [REPEATED, 0, True], sort, gradient=False),
    Sample("sort", [HOLES, 0, True], sort, gradient=False, dtypes=FLOATS + LOW),
    Sample(
        "sort",
        [HOLES],
        sort,
        kwargs={"stable": True, "descending": False, "dim": -1},
        gradient=False,
        errors=[
            ([A(3, dtype="complex64")], RuntimeError, "does not support complex"),
            ([A(3), 1], IndexError, "Dimension out of range"),
        ],
    ),
    Sample(
        "argsort",
        [A(3, 4, distinct=True), 0],
        lambda x, d: sort(x, d)[1],
        dtypes=NUMBERS + LOW,
        gradient=False,
    ),
    Sample(
        "argsort",
        [REPEATED],
        lambda x, **k: sort(x, 0, True)[1],
        kwargs={"descending": True, "stable": True},
        gradient=False,
        errors=[([A(3, dtype="complex64")], RuntimeError, "does not support complex")],
    ),
    Sample("msort", [A(4, 2, distinct=True)], lambda x: np.sort(x, 0)),
    Sample("topk", [A(3, 5, distinct=True), 2], topk, dtypes=FLOATS + LOW),
    Sample("topk", [A(5, 3, distinct=True), 2, 0, False], topk),
    Sample("topk", [A(2, 400, distinct=True), 3], topk, gradient=False),
    Sample("topk", [A(400, distinct=True), 3, -1, False], topk, gradient=False),
    Sample(
        "topk",
        [HOLES, 3],
        topk,
        gradient=False,
        errors=[
            ([A(3), 4], RuntimeError, "selected index k out of range"),
            ([A(3, dtype="bool"), 1], RuntimeError, "does not support bool"),
            ([A(3, dtype="complex64"), 1], NotImplementedError, "can be ordered"),
        ],
    ),
    Sample("kthvalue", [A(3, 5, distinct=True), 2], kth, dtypes=FLOATS + LOW),
    Sample(
        "kthvalue",
        [A(3, 5, distinct=True), 3, 0, True],
        kth,
        errors=[
            ([A(3), 4], RuntimeError, "k out of range"),
            ([A(3), 0], RuntimeError, "k out of range"),
            ([A(0, 2), 1, 0], IndexError, "non-zero size"),
            ([A(2, dtype="bool"), 1], NotImplementedError, "not implemented"),
        ],
    ),
    *[
        Sample(name, [A(3, 4, distinct=True), *dim], median, dtypes=FLOATS + LOW)
        for name in ("median", "nanmedian")
        for dim in ([], [0], [1])
    ],
    Sample(
        "median",
        [HOLES, 0],
        lambda x, d: (NAN, 1),
        gradient=False,
        batch=False,
        errors=[
            ([A(0, 2), 0], IndexError, "non-zero size"),
            ([A(2, dtype="bool")], NotImplementedError, "not impl"),
        ],
    ),
    Sample("median", [HOLES], lambda x: NAN, gradient=False, batch=False),
    Sample("nanmedian", [HOLES, 0], lambda x, d: (2, 4), gradient=False, batch=False),
    Sample("nanmedian", [HOLES], np.nanmedian, gradient=False, batch=False),
    Sample("median", [A(0)], lambda x: NAN, gradient=False),
    Sample(
        "mode",
        [UNEVEN],
        lambda x: (np.array([2, 4]), np.array([1, 3])),
        dtypes=NUMBERS + LOW,
        gradient=False,
        batch=False,
    ),
    Sample(
        "mode",
        [A(3, 4, distinct=True), 1, True],
        lambda x, d, k: [np.take(part, [0], 1) for part in sort(x, 1)],
        errors=[
            ([A(0)], IndexError, "non-zero size"),
            ([A(2, dtype="complex64")], NotImplementedError, "ordered"),
        ],
    ),
    *[
        Sample(
            "quantile",
            [A(3, 4, distinct=True), A(3, values=[0.0, 0.3, 0.75], grad=False), 1],
            lambda x, q, d, interpolation: np.quantile(x, q, d, method=interpolation),
            kwargs={"interpolation": how},
        )
        for how in ("linear", "lower", "higher", "midpoint", "nearest")
    ],
    Sample(
        "quantile",
        [A(3, 4, distinct=True), 0.4],
        np.quantile,
        errors=[
            ([A(0), 0.5], RuntimeError, "must be non-empty"),
            ([A(3), 1.5], RuntimeError, "in the range"),
            ([A(3), A(2, values=[0.5, 2.0])], RuntimeError, "in the range"),
            ([A(3), A(1, 1)], RuntimeError, "scalar or 1D"),
            ([A(3), A(1, dtype="float64")], RuntimeError, "same dtype"),
            ([A(3, dtype="int64"), 0.5], RuntimeError, "float or double"),
            ([A(3), 0.5], {"interpolation": "cubic"}, RuntimeError, "interpolation must be one of"),
        ],
    ),
    Sample(
        "quantile",
        [A(3, 4, 2, distinct=True), 0.4, 1, True],
        lambda x, q, d, k: np.quantile(x, q, d, keepdims=k),
    ),
    Sample("quantile", [HOLES, 0.5], np.quantile, gradient=False, batch=False),
    Sample("nanquantile", [HOLES, 0.3], np.nanquantile, gradient=False, batch=False),
    Sample(
        "nanquantile", [A(3, 4, distinct=True), 0.4, 0], lambda x, q, d: np.nanquantile(x, q, d)
    ),
    Sample("unique", [REPEATED], unique, dtypes=NUMBERS + LOW, gradient=False, batch=False),
    Sample("unique", [UNEVEN, True, True, True], unique, gradient=False, batch=False),
    Sample("unique", [HOLES, True, True, True], unique, dtypes=FLOATS, gradient=False, batch=False),
    Sample(
        "unique",
        [A(3, 2, values=[[1, 2], [0, 5], [1, 2]]), True, True, True, 0],
        unique,
        gradient=False,
        batch=False,
        errors=[
            ([A(), True, False, False, 0], IndexError, "no dimensions"),
            ([A(2, 0), True, False, False, 0], RuntimeError, "0 sized dimensions"),
        ],
    ),
    Sample(
        "unique",
        [A(2, 3, values=[[1, 0, 1], [2, 5, 2]])],
        lambda x, dim: np.unique(x, axis=1),
        {"dim": 1},
        gradient=False,
        batch=False,
    ),
    Sample(
        "unique_consecutive",
        [A(6, values=[1, 1, 2, 3, 3, 1]), True, True],
        gradient=False,
        batch=False,
        reference=lambda x, i, c: consecutive(x),
    ),
    Sample(
        "unique_consecutive",
        [A(4, 2, values=[[1, 2], [1, 2], [0, 5], [1, 2]])],
        lambda x, dim: x[[0, 2, 3]],
        kwargs={"dim": 0},
        gradient=False,
        batch=False,
    ),
    Sample(
        "isin",
        [REPEATED, A(2, values=[1, 5])],
        np.isin,
        dtypes=NUMBERS,
        gradient=False,
        batch=False,
    ),
    Sample(
        "isin",
        [REPEATED, 3],
        np.isin,
        kwargs={"invert": True},
        gradient=False,
        batch=False,
        errors=[([1, 2], TypeError, "expects a tensor")],
    ),
    Sample(
        "searchsorted",
        [A(4, values=[1, 3, 3, 7]), A(2, 3)],
        np.searchsorted,
        dtypes=NUMBERS + LOW,
        gradient=False,
    ),
    Sample(
        "searchsorted",
        [A(2, 4, values=[[1, 3, 3, 7], [0, 0, 2, 4]]), A(2, 3, low=0.0, high=5.0)],
        rowwise_search,
        kwargs={"right": True},
        gradient=False,
        errors=[
            ([A(3), A(3)], {"side": "middle"}, RuntimeError, "side can only be"),
            ([A(3), A(3)], {"side": "left", "right": True}, RuntimeError, "opposites"),
            ([A(), A(3)], RuntimeError, "positive dimension"),
            ([A(2, 3), A(3, 3)], RuntimeError, "first N-1 dimensions"),
            ([A(3), A(3, dtype="int64")], RuntimeError, "same dtype"),
            (
                [A(3), A(3)],
                {"sorter": np.zeros(2, np.int64)},
                RuntimeError,
                "sorter must have the same size",
            ),
        ],
    ),
    Sample(
        "searchsorted",
        [A(4, values=[7, 1, 3, 3]), 3],
        lambda x, v, sorter, side, out_int32: np.searchsorted(x, v, side, sorter),
        kwargs={"sorter": np.array([1, 2, 3, 0]), "side": "right", "out_int32": True},
        gradient=False,
    ),
    Sample(
        "searchsorted",
        [A(2, values=[1, 3]), A(2, values=[NAN, 0.0])],
        lambda x, v: np.array([2, 0]),
        gradient=False,
    ),
    Sample(
        "bucketize",
        [A(2, 3), A(3, values=[-1, 0, 1])],
        lambda x, b: np.digitize(x, b, right=True),
        dtypes=NUMBERS[:2],
        gradient=False,
        errors=[([A(3), A(2, 2)], RuntimeError, "must be 1 dimension")],
    ),
    Sample(
        "bucketize",
        [3, A(3, values=[1, 3, 5])],
        lambda x, b, right: 2,
        {"right": True},
        gradient=False,
    ),
]
