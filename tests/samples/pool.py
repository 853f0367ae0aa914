"""Samples of pooling, against windows cut out one by one."""

import itertools
import math

import numpy as np

from tests.samples.common import FLOATS, A, Sample
from tests.samples.conv import each

F = "nn.functional."


def windows(size, kernel, stride, padding, dilation, ceil_mode):
    """For one dimension the slices (begin, end) of each window, in padded coordinates."""
    reach = dilation * (kernel - 1) + 1
    count = (math.ceil if ceil_mode else math.floor)((size + 2 * padding - reach) / stride) + 1
    if ceil_mode and (count - 1) * stride >= size + padding:
        count -= 1
    return [(i * stride, i * stride + reach) for i in range(count)]


def cut(x, n, kernel, stride, padding, dilation, ceil_mode, fill):
    """(output position, window) pairs and the output's size."""
    kernel = each(kernel, n)
    stride = kernel if stride is None else each(stride, n)
    padding, dilation = each(padding, n), each(dilation, n)
    lines = [windows(*a, ceil_mode) for a in zip(x.shape[-n:], kernel, stride, padding, dilation)]
    pads = [
        (p, p + max(line[-1][1] - s - 2 * p, 0)) for line, p, s in zip(lines, padding, x.shape[-n:])
    ]
    padded = np.pad(x.astype(float), [(0, 0)] * (x.ndim - n) + pads, constant_values=fill)
    found = []
    for at in itertools.product(*[range(len(line)) for line in lines]):
        window = tuple(slice(*line[i], d) for i, line, d in zip(at, lines, dilation))
        found.append((at, padded[(..., *window)]))
    return [len(line) for line in lines], found


def max_pool(n, return_indices=False):
    def reference(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        size, found = cut(x, n, kernel_size, stride, padding, dilation, ceil_mode, -np.inf)
        y = np.zeros((*x.shape[:-n], *size))
        for at, window in found:
            y[(..., *at)] = window.reshape(*x.shape[:-n], -1).max(-1)
        if not return_indices:
            return y
        numbers = np.broadcast_to(np.arange(np.prod(x.shape[-n:])).reshape(x.shape[-n:]), x.shape)
        places = np.zeros(y.shape, int)
        for (at, window), (_, number) in zip(
            found, cut(numbers, n, kernel_size, stride, padding, dilation, ceil_mode, -1)[1]
        ):
            best = window.reshape(*x.shape[:-n], -1).argmax(-1)[..., None]
            places[(..., *at)] = np.take_along_axis(number.reshape(*x.shape[:-n], -1), best, -1)[
                ..., 0
            ]
        return y, places

    return reference


def avg_pool(n):
    def reference(
        x,
        kernel_size,
        stride=None,
        padding=0,
        ceil_mode=False,
        count_include_pad=True,
        divisor_override=None,
    ):
        size, found = cut(x, n, kernel_size, stride, padding, 1, ceil_mode, np.nan)
        y = np.zeros((*x.shape[:-n], *size))
        pads, steps = each(padding, n), each(kernel_size if stride is None else stride, n)
        for at, window in found:
            inside = np.isfinite(window).reshape(*x.shape[:-n], -1).sum(-1)
            reach = [
                min(i * s + k, length + 2 * p) - i * s
                for i, s, k, p, length in zip(at, steps, each(kernel_size, n), pads, x.shape[-n:])
            ]
            area = np.prod(reach) if count_include_pad else inside
            y[(..., *at)] = np.nansum(window, axis=tuple(range(-n, 0))) / (divisor_override or area)
        return y

    return reference


def lp_pool(n):
    def reference(x, norm_type, kernel_size, stride=None, ceil_mode=False):
        size, found = cut(x, n, kernel_size, stride, 0, 1, ceil_mode, 0)
        y = np.zeros((*x.shape[:-n], *size))
        for at, window in found:
            y[(..., *at)] = (window**norm_type).sum(tuple(range(-n, 0))) ** (1 / norm_type)
        return y

    return reference


def adaptive(n, reduce):
    def reference(x, output_size):
        out = each(output_size, n) if output_size is not None else (None,) * n
        out = [s if o is None else o for o, s in zip(out, x.shape[-n:])]
        y = np.zeros((*x.shape[:-n], *out))
        for at in itertools.product(*map(range, out)):
            window = tuple(
                slice(i * s // o, -(-(i + 1) * s // o)) for i, o, s in zip(at, out, x.shape[-n:])
            )
            y[(..., *at)] = reduce(x[(..., *window)], axis=tuple(range(-n, 0)))
        return y

    return reference


def D(*shape):
    return A(*shape, distinct=True)


MAXIMA = [
    ([D(2, 3, 7), 3], {}),
    ([D(3, 7), 3], {"stride": 2, "padding": 1, "dilation": 2}),
    ([D(1, 2, 8), 3], {"ceil_mode": True}),
    ([D(2, 2, 4, 6), 2], {}),
    ([D(2, 2, 5, 5), 3], {"stride": 2, "padding": 1}),
    ([D(2, 5, 6), (2, 3)], {"dilation": (2, 1)}),
    ([D(1, 2, 6, 6), 3], {"stride": 4, "ceil_mode": True, "padding": 1}),
    ([D(1, 2, 4, 4), 4], {}),
    ([D(1, 2, 4, 4, 3), 2], {"stride": 1}),
    ([D(1, 1, 4, 4, 4), (2, 3, 2)], {"padding": 1}),
]
MEANS = [
    ([A(2, 3, 7), 3], {}),
    ([A(3, 8), 3], {"stride": 2, "padding": 1, "count_include_pad": False}),
    ([A(1, 2, 8), 3], {"ceil_mode": True, "padding": 1}),
    ([A(2, 2, 4, 6), 2], {}),
    ([A(1, 2, 3, 3), 3], {}),
    ([A(2, 2, 5, 5), 3], {"stride": 2, "padding": 1, "divisor_override": 2}),
    (
        [A(1, 2, 6, 5), (2, 3)],
        {"stride": (3, 1), "ceil_mode": True, "padding": 1, "count_include_pad": False},
    ),
    ([A(1, 2, 4, 4, 3), 2], {"stride": 1}),
]
POOL_ERRORS = [
    ([A(1, 2, 2), 3], RuntimeError, "Output size is too small"),
    ([A(1, 5, 5), 3], {"padding": 2}, RuntimeError, "pad should be at most half"),
    ([A(1, 5, 5), 3], {"padding": -1}, RuntimeError, "non-negative"),
    ([A(1, 5, 5), 3], {"stride": 0}, RuntimeError, "stride should not be zero"),
    ([A(1, 5, 5), 0], RuntimeError, "greater than zero"),
    ([A(5, 5), 2], RuntimeError, "Expected 3D or 4D"),
    ([A(1, 1, 0, 5), 2], RuntimeError, "Expected 3D or 4D"),
    (
        [A(1, 5, 5), (2, 2, 2)],
        RuntimeError,
        "kernel_size must either be a single int, or a tuple of two ints",
    ),
]


def dims(inputs, options=(1, 2, 3)):
    """The number of spatial dimensions of a sample: what its kernel says, or its rank less two."""
    rank = len(inputs[0].shape)
    return (
        rank - 2
        if rank > 3
        else (1 if not isinstance(inputs[1], tuple) and rank <= 3 else rank - 1)
    )


SAMPLES = []
for i, k in MAXIMA:
    d = dims(i)
    d = 2 if i[0].shape == (2, 5, 6) else d
    SAMPLES += [
        Sample(
            f"{F}max_pool{d}d",
            i,
            max_pool(d),
            k,
            op="max_pool",
            dtypes=(*FLOATS, "int64"),
            errors=POOL_ERRORS if d == 2 and not k else [],
        ),
        Sample(
            f"{F}max_pool{d}d_with_indices",
            i,
            max_pool(d, True),
            k,
            op="max_pool",
            gradient=False,
        ),
    ]
for i, k in MEANS:
    d = dims(i)
    SAMPLES.append(
        Sample(
            f"{F}avg_pool{d}d",
            i,
            avg_pool(d),
            k,
            op="avg_pool",
            errors=[
                *POOL_ERRORS,
                (
                    [A(1, 5, 5), 2],
                    {"divisor_override": 0},
                    RuntimeError,
                    "divisor must be not zero",
                ),
            ]
            if d == 2 and not k
            else [],
        )
    )
for d in (1, 2, 3):
    shape = (2, 2, 5, 6, 4)[: d + 2]
    SAMPLES += [
        Sample(f"{F}lp_pool{d}d", [A(*shape, low=0.5, high=2.0), 3.0, 2], lp_pool(d)),
        Sample(
            f"{F}adaptive_avg_pool{d}d",
            [A(*shape), 3],
            adaptive(d, np.mean),
            op="resample",
            errors=[
                ([A(*shape), -2], RuntimeError, "greater than or equal to 0"),
                ([A(3), 2], RuntimeError, "Expected"),
            ],
        ),
        Sample(f"{F}adaptive_avg_pool{d}d", [A(*shape), 1], adaptive(d, np.mean), op="avg_pool"),
        Sample(
            f"{F}adaptive_max_pool{d}d",
            [D(*shape), 3],
            adaptive(d, np.max),
            op="adaptive_max_pool_indices",
        ),
        Sample(
            f"{F}max_unpool{d}d",
            [
                A(2, *[2] * d),
                A(
                    2,
                    *[2] * d,
                    dtype="int64",
                    values=np.arange(2 * 2**d).reshape(2, *[2] * d) % 2**d,
                ),
                2,
            ],
            lambda x, i, k, d=d: np.concatenate(
                [x.reshape(2, -1), np.zeros((2, 4**d - 2**d))], 1
            ).reshape(2, *[4] * d),
            errors=[
                (
                    [A(1, *[2] * d), A(1, *[2] * d, dtype="int64", low=99, high=99), 2],
                    RuntimeError,
                    "invalid max index",
                ),
                ([A(1, *[2] * d), A(1, *[2] * d, dtype="int32"), 2], RuntimeError, "int64"),
                (
                    [A(1, *[2] * d), A(1, *[3] * d, dtype="int64"), 2],
                    RuntimeError,
                    "same as that of the input",
                ),
                (
                    [A(1, *[2] * d), A(1, *[2] * d, dtype="int64"), 2],
                    {"output_size": (9,) * d},
                    ValueError,
                    "must be between",
                ),
            ],
        ),
    ]
SAMPLES += [
    Sample(F + "adaptive_avg_pool2d", [A(2, 5, 6), (None, 4)], adaptive(2, np.mean), op="resample"),
    Sample(
        F + "fractional_max_pool2d",
        [D(1, 2, 5, 5), 2],
        None,
        {"output_size": 3, "_random_samples": A(1, 2, 2, low=0, high=1, dtype="float64")},
        second=False,
        errors=[
            ([A(1, 5, 5), 2], ValueError, "requires specifying either"),
            ([A(1, 5, 5), 2], {"output_size": 5}, RuntimeError, "too large"),
        ],
        op="fractional_max_pool_indices",
    ),
    Sample(
        F + "fractional_max_pool3d",
        [D(1, 2, 5, 5, 5), 2],
        None,
        {"output_size": 3, "_random_samples": A(1, 2, 3, low=0, high=1, dtype="float64")},
        second=False,
        op="fractional_max_pool_indices",
    ),
]
