"""Samples of normalisation."""

import numpy as np

from tests.samples.common import FLOATS, LOW, A, Sample

F = "nn.functional."


def standard(x, dims, eps):
    """(x - mean) / sqrt(variance + eps), and the mean and the inverse deviation."""
    mean = x.mean(dims, keepdims=True)
    scale = 1 / np.sqrt(x.var(dims, keepdims=True) + eps)
    return (x - mean) * scale, mean, scale


def scaled(y, w, b, shape):
    y = y if w is None else y * w.reshape(shape)
    return y if b is None else y + b.reshape(shape)


def batch_norm(x, mean, var, w=None, b=None, training=False, momentum=0.1, eps=1e-5):
    shape = (-1, *[1] * (x.ndim - 2))
    if training:
        y = standard(x, (0, *range(2, x.ndim)), eps)[0]
    else:
        y = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + eps)
    return scaled(y, w, b, shape)


def native_batch_norm(x, w, b, mean, var, training, momentum, eps):
    y, m, s = standard(x, (0, *range(2, x.ndim)), eps)
    return scaled(y, w, b, (-1, *[1] * (x.ndim - 2))), m.ravel(), s.ravel()


def layer_norm(x, shape, w=None, b=None, eps=1e-5):
    return scaled(standard(x, tuple(range(-len(shape), 0)), eps)[0], w, b, shape)


def native_layer_norm(x, shape, w, b, eps):
    y, m, s = standard(x, tuple(range(-len(shape), 0)), eps)
    return scaled(y, w, b, shape), m, s


def group_norm(x, groups, w=None, b=None, eps=1e-5):
    n, c = x.shape[:2]
    y = standard(x.reshape(n, groups, -1), 2, eps)[0].reshape(x.shape)
    return scaled(y, w, b, (c, *[1] * (x.ndim - 2)))


def native_group_norm(x, w, b, n, c, length, groups, eps):
    _, m, s = standard(x.reshape(n, groups, -1), 2, eps)
    return group_norm(x, groups, w, b, eps), m[..., 0], s[..., 0]


def instance_norm(x, mean=None, var=None, w=None, b=None):
    return scaled(standard(x, tuple(range(2, x.ndim)), 1e-5)[0], w, b, (-1, *[1] * (x.ndim - 2)))


def rms_norm(x, shape, w=None, eps=None):
    eps = np.finfo(np.float64).eps if eps is None else eps
    return scaled(
        x / np.sqrt((x**2).mean(tuple(range(-len(shape), 0)), keepdims=True) + eps), w, None, shape
    )


def local_response_norm(x, size, alpha=1e-4, beta=0.75, k=1.0):
    c = x.shape[1]
    squares = np.zeros_like(x)
    for i in range(c):
        squares[:, i] = (x[:, max(i - size // 2, 0) : i + (size - 1) // 2 + 1] ** 2).sum(1)
    return x / (k + alpha * squares / size) ** beta


def normalize(x, p=2.0, dim=1, eps=1e-12):
    return x / np.maximum((np.abs(x) ** p).sum(dim, keepdims=True) ** (1 / p), eps)


M, V = A(3, grad=False), A(3, low=0.5, high=2.0, grad=False)
TRAIN = {"training": True}
SAMPLES = [
    Sample(F + "batch_norm", [A(4, 3), None, None, A(3), A(3)], batch_norm, TRAIN, op="batch_norm"),
    Sample(F + "batch_norm", [A(2, 3, 4), None, None], batch_norm, TRAIN, dtypes=FLOATS),
    Sample(
        F + "batch_norm",
        [A(2, 3, 2, 3), None, None, A(3), A(3)],
        batch_norm,
        {**TRAIN, "eps": 0.1},
        errors=[
            ([A(2, 3, 4), None, None], RuntimeError, "running_mean must be defined"),
            (
                [A(2, 3, 4), A(4), A(3)],
                RuntimeError,
                "running_mean should contain 3 elements not 4",
            ),
            (
                [A(2, 3, 4), A(3), A(3), A(5)],
                RuntimeError,
                "weight should contain 3 elements not 5",
            ),
            ([A(1, 3), None, None], TRAIN, ValueError, "more than 1 value per channel"),
            ([A(2, 3, dtype="int64"), None, None], TRAIN, NotImplementedError, "not implemented"),
            ([A(2, 3), None, None], {**TRAIN, "eps": 0.0}, ValueError, "eps must be positive"),
        ],
    ),
    Sample(F + "batch_norm", [A(2, 3, 4), M, V, A(3), A(3)], batch_norm, op="batch_norm_fixed"),
    Sample(F + "batch_norm", [A(2, 3, 4), M, V], batch_norm, op="batch_norm_fixed", batch=False),
    Sample(
        "batch_norm",
        [A(2, 3, 4), A(3), A(3), None, None, True, 0.1, 1e-5, False],
        lambda x, w, b, *_: batch_norm(x, None, None, w, b, True),
    ),
    Sample(
        "native_batch_norm",
        [A(2, 3, 4), A(3), A(3), None, None, True, 0.1, 1e-5],
        native_batch_norm,
        gradient=False,
    ),
    Sample(
        F + "layer_norm",
        [A(2, 3, 4), (4,), A(4), A(4)],
        layer_norm,
        errors=[
            (
                [A(2, 3, 4), (5,)],
                RuntimeError,
                r"Given normalized_shape=\[5\], expected input with "
                r"shape \[\*, 5\]",
            ),
            ([A(2, 3, 4), ()], RuntimeError, "at least 1-dimensional"),
            ([A(2, 3, 4), (4,), A(3)], RuntimeError, "Expected weight to be of same shape"),
            ([A(2, 3, 4), (4,), A(4), A(3)], RuntimeError, "Expected bias to be of same shape"),
            ([A(2, 3, dtype="int64"), (3,)], NotImplementedError, "not implemented"),
        ],
    ),
    Sample(F + "layer_norm", [A(2, 3, 4), (3, 4), A(3, 4)], layer_norm),
    Sample(F + "layer_norm", [A(2, 3, 4), (4,)], layer_norm),
    Sample("layer_norm", [A(2, 4), (4,), A(4), A(4)], layer_norm),
    Sample(
        "native_layer_norm",
        [A(2, 3, 4), (3, 4), None, None, 1e-5],
        native_layer_norm,
        gradient=False,
    ),
    Sample(
        F + "group_norm",
        [A(2, 6, 4), 3, A(6), A(6)],
        group_norm,
        errors=[
            ([A(2, 6, 4), 4], RuntimeError, "divisible by num_groups"),
            ([A(2, 6, 4), 3, A(5)], RuntimeError, "Expected weight to be a vector"),
            ([A(6), 3], RuntimeError, "at least 2 dimensions"),
            ([A(1, 3), 3], ValueError, "more than 1 value"),
        ],
    ),
    Sample(F + "group_norm", [A(2, 4, 2, 3), 2], group_norm),
    Sample("group_norm", [A(2, 4, 3), 2, A(4)], group_norm),
    Sample(
        "native_group_norm",
        [A(2, 6, 4), A(6), A(6), 2, 6, 4, 3, 1e-5],
        native_group_norm,
        batch=False,
    ),
    Sample(
        F + "instance_norm",
        [A(2, 3, 4), None, None, A(3), A(3)],
        instance_norm,
        errors=[
            ([A(2, 6, 1)], ValueError, "more than 1 spatial element"),
        ],
    ),
    Sample(F + "instance_norm", [A(2, 3, 2, 2)], instance_norm),
    Sample(
        "instance_norm",
        [A(2, 3, 4), A(3), A(3), None, None, True, 0.1, 1e-5, False],
        lambda x, w, b, *_: instance_norm(x, None, None, w, b),
    ),
    Sample(
        F + "rms_norm",
        [A(2, 3, 4), (4,), A(4)],
        rms_norm,
        {"eps": 1e-3},
        dtypes=FLOATS + LOW,
        errors=[
            ([A(2, 6, 4), (5,), A(4)], RuntimeError, "Expected weight"),
        ],
    ),
    Sample("rms_norm", [A(2, 3, 4), (3, 4)], rms_norm, {"eps": 0.1}),
    Sample(
        F + "local_response_norm",
        [A(2, 6, 4), 3],
        local_response_norm,
        {"alpha": 0.5},
        errors=[
            ([A(2, 6), 2], ValueError, "Expected 3D"),
        ],
    ),
    Sample(F + "local_response_norm", [A(2, 5, 3, 2), 2], local_response_norm),
    Sample(F + "normalize", [A(2, 3)], normalize),
    Sample(F + "normalize", [A(2, 3, 4)], normalize, {"p": 3.0, "dim": 2}),
]
