"""Samples of variance, norms, distances, covariance and histograms."""

import math

import numpy as np

from tests.samples.common import COMPLEX, FLOATS, INTS, LOW, A, Sample

INF = math.inf


def variances(name, reference):
    """`var` or `std` in its old and new forms, with and without the mean."""
    dtypes = FLOATS + LOW + COMPLEX
    pair = name + "_mean"
    return [
        Sample(
            name,
            [A(2, 3)],
            lambda x: reference(x, ddof=1),
            dtypes=dtypes,
            errors=[([A(3, dtype="int64")], RuntimeError, "only support floating point")],
        ),
        Sample(name, [A(2, 3), 1], lambda x, d: reference(x, d, ddof=1), dtypes=dtypes),
        Sample(name, [A(2, 3), False], lambda x, u: reference(x)),
        Sample(name, [A(2, 3), 0, False, True], lambda x, d, u, k: reference(x, d, keepdims=True)),
        Sample(
            name,
            [A(2, 3, 2), (0, 2)],
            lambda x, d, correction, keepdim: reference(x, d, ddof=2, keepdims=True),
            kwargs={"correction": 2, "keepdim": True},
        ),
        Sample(
            pair, [A(2, 3), 1], lambda x, d: (reference(x, d, ddof=1), x.mean(d)), dtypes=dtypes
        ),
        Sample(pair, [A(2, 3), False], lambda x, u: (reference(x), x.mean())),
    ]


def norm(x, p=2.0, dim=None, keepdim=False):
    size = np.abs(x)
    if p == 0:
        return (x != 0).sum(axis=dim, keepdims=keepdim)
    if math.isinf(p):
        return (np.max if p > 0 else np.min)(size, axis=dim, keepdims=keepdim)
    return (size**p).sum(axis=dim, keepdims=keepdim) ** (1 / p)


def cdist(x, y, p=2.0, compute_mode=""):
    return norm(x[..., :, None, :] - y[..., None, :, :], p, -1)


def renorm(x, p, dim, maxnorm):
    size = norm(x, p, tuple(d for d in range(x.ndim) if d != dim), True)
    return np.where(size > maxnorm, x * maxnorm / (size + 1e-7), x)


POINTS = A(6, 2, values=[[0.1, 0.9], [0.5, 0.5], [1.0, 0.0], [0.3, 0.2], [0.7, 1.0], [2.0, 0.1]])

SAMPLES = [
    *variances("var", np.var),
    *variances("std", np.std),
    *[
        Sample(
            "norm",
            [A(2, 3), p, 1],
            norm,
            second=p not in (0, INF, -INF),
            dtypes=FLOATS + LOW[:1] + COMPLEX,
            gradient=p != 0,
        )
        for p in (0, 0.5, 1, 1.5, 2, 3, INF, -INF)
    ],
    Sample(
        "norm",
        [A(2, 3)],
        np.linalg.norm,
        errors=[
            ([A(2, dtype="int64")], RuntimeError, "Expected a floating point or complex"),
            ([A(2, 2), "euclid"], RuntimeError, "only valid string values"),
            ([A(2), "nuc"], RuntimeError, "expects a matrix"),
        ],
    ),
    Sample("norm", [A(2, 3, 4), "fro", (0, 2), True], lambda x, p, d, k: norm(x, 2, d, k)),
    Sample("norm", [A(3, 4), "nuc"], lambda x, p: np.linalg.norm(x, "nuc"), second=False),
    Sample(
        "norm",
        [A(3, 2, 4), "nuc", (0, 2), True],
        second=False,
        reference=lambda x, p, d, k: np.linalg.norm(x, "nuc", d, keepdims=True),
    ),
    Sample("dist", [A(2, 3), A(3), 3], lambda x, y, p: norm(x - y, p), dtypes=FLOATS + COMPLEX),
    Sample(
        "renorm",
        [A(3, 4), 2.0, 0, 1.5],
        renorm,
        dtypes=FLOATS + COMPLEX,
        errors=[
            ([A(3, 4), 2.0, 0, -1.0], RuntimeError, "maxnorm to be >= 0"),
            ([A(3), 2.0, 0, 1.0], RuntimeError, "at least 2 dimensions"),
            ([A(3, 4), 0, 0, 1.0], RuntimeError, "non-positive-norm"),
        ],
    ),
    *[
        Sample("cdist", [A(3, 4), A(2, 4), p], cdist, second=math.isfinite(p), gradient=p > 0)
        for p in (0.0, 1.0, 1.5, 2.0, 3.0, INF)
    ],
    Sample(
        "cdist",
        [A(2, 3, 4), A(2, 4), 2.0, "use_mm_for_euclid_dist"],
        cdist,
        errors=[
            ([A(2, 3), A(2, 4)], RuntimeError, "same number of columns"),
            ([A(3), A(2, 3)], RuntimeError, "at least 2D"),
            ([A(2, 3), A(2, 3), -1.0], RuntimeError, "non-negative p"),
        ],
    ),
    Sample(
        "pdist",
        [A(4, 3), 3.0],
        lambda x, p: cdist(x, x, p)[np.triu_indices(4, 1)],
        errors=[([A(4)], RuntimeError, "only supports 2D")],
    ),
    Sample(
        "cov",
        [A(3, 5)],
        np.cov,
        dtypes=FLOATS + INTS + COMPLEX,
        errors=[([A(2, 2, 2)], RuntimeError, "two or fewer dimensions")],
    ),
    Sample("cov", [A(5)], np.cov),
    Sample(
        "cov",
        [A(3, 4)],
        lambda x, **k: np.cov(
            x, ddof=k["correction"], fweights=k["fweights"], aweights=k["aweights"]
        ),
        kwargs={
            "correction": 0,
            "fweights": np.array([1, 2, 0, 3]),
            "aweights": np.array([0.5, 1.0, 2.0, 0.25]),
        },
        dtypes=("float64",),
    ),
    Sample("corrcoef", [A(3, 5)], np.corrcoef, dtypes=FLOATS + COMPLEX),
    Sample("corrcoef", [A(5)], np.corrcoef),
    Sample(
        "trace",
        [A(3, 4)],
        np.trace,
        dtypes=FLOATS + INTS,
        errors=[([A(3)], RuntimeError, "expected a matrix")],
    ),
    Sample(
        "bincount",
        [A(6, low=0, dtype="int64")],
        np.bincount,
        dtypes=("int64",),
        gradient=False,
        batch=False,
        errors=[
            ([A(2, values=[-1, 1])], RuntimeError, "non-negative"),
            ([A(2, dtype="float32")], NotImplementedError, "not implemented"),
        ],
    ),
    Sample(
        "bincount", [A(4, low=0, dtype="int32"), A(4), 9], np.bincount, gradient=False, batch=False
    ),
    Sample(
        "histc",
        [A(20), 5, -1.0, 2.0],
        lambda x, bins, low, high: np.histogram(x, bins, (low, high))[0],
        gradient=False,
        batch=False,
        errors=[([A(3), 2, 2.0, 1.0], RuntimeError, "max must be larger")],
    ),
    Sample(
        "histc", [A(20), 4], lambda x, bins: np.histogram(x, bins)[0], gradient=False, batch=False
    ),
    Sample("histogram", [A(20), 4], np.histogram, gradient=False, batch=False),
    Sample(
        "histogram",
        [A(20), 4],
        lambda x, bins, range, density: np.histogram(x, bins, range, density=density),
        kwargs={"range": (-1.0, 1.0), "density": True},
        gradient=False,
        batch=False,
        errors=[([A(3), 0], RuntimeError, "bins must be > 0")],
    ),
    Sample(
        "histogram",
        [A(5), A(4, values=[-1.0, 0.0, 0.5, 2.0])],
        lambda x, bins, weight: np.histogram(x, bins, weights=weight),
        kwargs={"weight": A(5, low=0.0)},
        gradient=False,
        batch=False,
    ),
    Sample(
        "histogramdd",
        [POINTS, [2, 3]],
        lambda x, bins: (lambda h, e: (h, *e))(*np.histogramdd(x, bins)),
        gradient=False,
        batch=False,
        errors=[([A(3), 2], RuntimeError, "at least 2 dimensions")],
    ),
]
