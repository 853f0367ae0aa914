"""Samples of the operators on complex numbers."""

import numpy as np

from tests.samples.common import COMPLEX, FLOATS, A, Sample

REAL_INPUT = [([A(2, dtype="float32")], RuntimeError, "complex")]


def pairs(x):
    return np.stack([x.real, x.imag], -1)


def unit(x):
    return np.where(x == 0, 0, x / np.where(x == 0, 1, np.abs(x)))


SAMPLES = [
    Sample("real", [A(2, 3)], np.real, dtypes=COMPLEX),
    Sample("real", [A(2, 3)], np.real),
    Sample("imag", [A(2, 3)], np.imag, dtypes=COMPLEX, errors=REAL_INPUT),
    Sample("view_as_real", [A(2, 3)], pairs, dtypes=COMPLEX, errors=REAL_INPUT),
    Sample(
        "view_as_complex",
        [A(3, 2)],
        lambda x: x[..., 0] + 1j * x[..., 1],
        errors=[
            ([A(3)], RuntimeError, "size 2"),
            ([A(2, dtype="int64")], RuntimeError, "scalar type: Long"),
        ],
    ),
    Sample(
        "complex",
        [A(2, 3), A(3)],
        lambda a, b: a + 1j * b,
        errors=[
            ([A(2), A(2, dtype="float64")], RuntimeError, "second argument"),
            ([A(2, dtype="int64"), A(2)], RuntimeError, "Expected both inputs"),
        ],
    ),
    Sample(
        "polar",
        [A(2, 3), A(3)],
        lambda a, b: a * np.exp(1j * b),
        errors=[([A(2), A(2, dtype="float64")], RuntimeError, "second argument")],
    ),
    Sample("angle", [A(2, 3)], np.angle, dtypes=FLOATS + ("int32",) + COMPLEX),
    Sample("sgn", [A(2, 3)], unit, dtypes=FLOATS + COMPLEX),
    Sample("conj", [A(2, 3)], np.conj, dtypes=COMPLEX + FLOATS),
    Sample("conj_physical", [A(2, 3)], np.conj, dtypes=COMPLEX + FLOATS),
    Sample("resolve_conj", [A(2, 3)], lambda x: x, dtypes=COMPLEX),
    Sample("resolve_neg", [A(2, 3)], lambda x: x, dtypes=COMPLEX),
]
