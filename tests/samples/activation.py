"""Samples of the activation functions and softmax."""

import math

import numpy as np

from tests.samples.common import COMPLEX, FLOATS, INTS, LOW, NUMBERS, A, Sample

F = "nn.functional."
X = A(3, 4, low=-4, high=4)
BOOL_INPUT = [([A(2, dtype="bool")], RuntimeError, "[Bb]ool")]
WHOLE_INPUT = [([A(2, dtype="int64")], RuntimeError, "Long")]
erf = np.vectorize(math.erf, otypes=[float])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x, beta=1.0, threshold=20.0):
    return np.where(beta * x > threshold, x, np.log1p(np.exp(beta * x)) / beta)


def gelu(x, approximate="none"):
    if approximate == "none":
        return x * 0.5 * (1 + erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def elu(x, alpha=1.0, scale=1.0, slope=1.0):
    return scale * np.where(x > 0, x, alpha * np.expm1(slope * x))


def shrink(x, lambd=0.5):
    return np.sign(x) * np.maximum(np.abs(x) - lambd, 0)


def softmax(x, dim):
    e = np.exp(x - x.max(dim, keepdims=True))
    return e / e.sum(dim, keepdims=True)


def log_softmax(x, dim):
    return x - np.log(np.exp(x).sum(dim, keepdims=True))


def glu(x, dim=-1):
    a, b = np.split(x, 2, dim)
    return a * sigmoid(b)


# -- of one input and parameters ---------------------------------------------------------------

ONE = [
    ("relu", lambda x: np.maximum(x, 0), {}, FLOATS + INTS + LOW, BOOL_INPUT),
    ("relu6", lambda x: np.clip(x, 0, 6), {}, NUMBERS, BOOL_INPUT),
    (
        "hardtanh",
        lambda x, min_val, max_val: np.clip(x, -2, 1),
        {"min_val": -2.0, "max_val": 1.0},
        FLOATS + LOW,
        [([A(2), 2, 1], ValueError, "min_val"), ([A(2, dtype="uint8")], RuntimeError, "unsigned")],
    ),
    (
        "threshold",
        lambda x, threshold, value: np.where(x <= 0.3, 5, x),
        {"threshold": 0.3, "value": 5.0},
        FLOATS,
        [],
    ),
    ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x), {}, FLOATS + LOW, WHOLE_INPUT),
    (
        "leaky_relu",
        lambda x, negative_slope: np.where(x > 0, x, 2 * x),
        {"negative_slope": 2.0},
        FLOATS,
        [],
    ),
    (
        "rrelu",
        lambda x: np.where(x > 0, x, x * 11 / 48),
        {},
        FLOATS,
        [([A(2), 0.5, 0.1], RuntimeError, "Lower bound")],
    ),
    ("elu", elu, {"alpha": -0.5}, FLOATS, WHOLE_INPUT),
    ("elu", elu, {}, FLOATS + LOW, []),
    ("selu", lambda x: elu(x, 1.6732632423543772, 1.0507009873554805), {}, FLOATS, WHOLE_INPUT),
    (
        "celu",
        lambda x, alpha: elu(x, 2.0, 1.0, 0.5),
        {"alpha": 2.0},
        FLOATS,
        [([A(2), 0.0], RuntimeError, "alpha")],
    ),
    ("gelu", gelu, {}, FLOATS, WHOLE_INPUT),
    (
        "gelu",
        gelu,
        {"approximate": "tanh"},
        FLOATS,
        [([A(2)], {"approximate": "x"}, RuntimeError, "approximate")],
    ),
    ("silu", lambda x: x * sigmoid(x), {}, FLOATS + LOW + COMPLEX, WHOLE_INPUT),
    ("mish", lambda x: x * np.tanh(softplus(x)), {}, FLOATS + LOW, WHOLE_INPUT),
    ("softplus", softplus, {}, FLOATS + LOW, WHOLE_INPUT),
    ("softplus", softplus, {"beta": 2.0, "threshold": 3.0}, FLOATS, []),
    ("softsign", lambda x: x / (1 + np.abs(x)), {}, FLOATS + ("int32",), []),
    ("softshrink", shrink, {}, FLOATS, [([A(2), -1.0], RuntimeError, "greater or equal")]),
    (
        "hardshrink",
        lambda x, lambd: np.where(np.abs(x) <= 1, 0, x),
        {"lambd": 1.0},
        FLOATS,
        WHOLE_INPUT,
    ),
    ("tanhshrink", lambda x: x - np.tanh(x), {}, FLOATS + ("int32",), []),
    ("hardsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6, {}, FLOATS + LOW, WHOLE_INPUT),
    ("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6, {}, FLOATS + LOW, WHOLE_INPUT),
    ("logsigmoid", lambda x: np.log(sigmoid(x)), {}, FLOATS + LOW, WHOLE_INPUT),
    ("sigmoid", sigmoid, {}, FLOATS, []),
    ("tanh", np.tanh, {}, FLOATS, []),
]
SAMPLES = [
    Sample(F + name, [X], reference, kwargs=kwargs, dtypes=dtypes, errors=errors)
    for name, reference, kwargs, dtypes, errors in ONE
]
SAMPLES += [Sample(name, [X], lambda x: np.maximum(x, 0)) for name in ("relu",)]
SAMPLES += [
    Sample(
        F + "prelu",
        [A(2, 3, 2), A(3)],
        lambda x, w: np.where(x > 0, x, x * w[None, :, None]),
        errors=[
            ([A(2, 3), A(2)], RuntimeError, "channel size"),
            ([A(), A(2)], RuntimeError, "zero-dim"),
            ([A(2, 3), A(1, 3)], RuntimeError, "1D tensor"),
            ([A(2, 3), A(3, dtype="float64")], RuntimeError, "Type promoting"),
        ],
    ),
    Sample(F + "prelu", [A(4), A(1)], lambda x, w: np.where(x > 0, x, x * w)),
    Sample(
        F + "rrelu",
        [A(4, low=0.5, high=2)],
        lambda x, training: x,
        kwargs={"training": True},
        batch=False,
    ),
    Sample(
        F + "glu",
        [A(2, 4)],
        glu,
        dtypes=FLOATS + LOW,
        errors=[([A(3)], RuntimeError, "must be even"), ([A()], RuntimeError, "scalars")],
    ),
    Sample(F + "glu", [A(2, 3), 0], glu),
]

# -- softmax -----------------------------------------------------------------------------------

NO_DIM = [
    ([A(2), 1], IndexError, "Dimension out of range"),
    ([A(2, dtype="int64"), 0], RuntimeError, "Long"),
]
SAMPLES += [
    Sample(name, [A(2, 3, 4), dim], reference, dtypes=FLOATS + LOW, errors=NO_DIM)
    for name, reference in (("softmax", softmax), ("log_softmax", log_softmax))
    for dim in (0, -1)
]
SAMPLES += [
    Sample("softmax", [A(), 0], lambda x, d: np.ones(())),
    Sample("log_softmax", [A(), 0], lambda x, d: np.zeros(())),
    Sample("softmax", [A(2, 3), 1], lambda x, d: softmax(x, d), dtypes=("float64",)),
    Sample(F + "softmax", [A(2, 3)], lambda x, dim: softmax(x, dim), kwargs={"dim": 1}),
    Sample(F + "log_softmax", [A(2, 3)], lambda x, dim: log_softmax(x, dim), kwargs={"dim": 0}),
    Sample(F + "softmin", [A(2, 3)], lambda x, dim: softmax(-x, dim), kwargs={"dim": 1}),
]
