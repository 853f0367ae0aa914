"""Samples of convolutions and sliding blocks, against sums written out position by position."""

import itertools

import numpy as np

from tests.samples.common import COMPLEX, FLOATS, A, Sample

F = "nn.functional."


def each(value, n):
    return (value,) * n if isinstance(value, int) else tuple(value) * (n if len(value) == 1 else 1)


def conv(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """Cross-correlation, one output position at a time."""
    n = w.ndim - 2
    if x.ndim == n + 1:
        return conv(x[None], w, b, stride, padding, dilation, groups)[0]
    stride, dilation = each(stride, n), each(dilation, n)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, w.shape[2:])]
        pads = [(t // 2, t - t // 2) for t in total]
    else:
        pads = [(p, p) for p in each(0 if padding == "valid" else padding, n)]
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:])]
    out = [(s - r) // t + 1 for s, r, t in zip(x.shape[2:], reach, stride)]
    y = np.zeros((len(x), len(w), *out), np.result_type(x, w))
    for at in itertools.product(*map(range, out)):
        window = tuple(
            slice(i * s, i * s + r, d) for i, s, r, d in zip(at, stride, reach, dilation)
        )
        seen = x[(..., *window)].reshape(len(x), groups, -1)
        y[(..., *at)] = np.einsum(
            "ngk,gok->ngo", seen, w.reshape(groups, len(w) // groups, -1)
        ).reshape(len(x), -1)
    return y if b is None else y + b.reshape(-1, *[1] * n)


def conv_transpose(x, w, b=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Every input element puts a copy of the kernel into the output."""
    n = w.ndim - 2
    if x.ndim == n + 1:
        return conv_transpose(x[None], w, b, stride, padding, output_padding, groups, dilation)[0]
    stride, padding, more, dilation = (
        each(v, n) for v in (stride, padding, output_padding, dilation)
    )
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:])]
    size = [(i - 1) * s + r + e for i, s, r, e in zip(x.shape[2:], stride, reach, more)]
    channels = w.shape[1]
    y = np.zeros((len(x), groups * channels, *size), np.result_type(x, w))
    rows = len(w) // groups
    for at in itertools.product(*map(range, x.shape[2:])):
        window = (
            ...,
            *[slice(i * s, i * s + r, d) for i, s, r, d in zip(at, stride, reach, dilation)],
        )
        for g in range(groups):
            part = np.einsum(
                "nr,rc...->nc...",
                x[(..., *at)][:, g * rows : (g + 1) * rows],
                w[g * rows : (g + 1) * rows],
            )
            y[:, g * channels : (g + 1) * channels][window] += part
    y = y[(..., *[slice(p, s - p) for p, s in zip(padding, size)])]
    return y if b is None else y + b.reshape(-1, *[1] * n)


def unfold(x, kernel_size, dilation=1, padding=0, stride=1):
    if x.ndim == 3:
        return unfold(x[None], kernel_size, dilation, padding, stride)[0]
    n, c = x.shape[:2]
    area = int(np.prod(each(kernel_size, 2)))
    eye = np.eye(c * area).reshape(c * area, c, *each(kernel_size, 2))
    return conv(x, eye, None, stride, padding, dilation).reshape(n, c * area, -1)


def fold(x, output_size, kernel_size, dilation=1, padding=0, stride=1):
    c = x.shape[-2] // int(np.prod(each(kernel_size, 2)))
    size = each(output_size, 2)
    basis = np.eye(c * size[0] * size[1]).reshape(-1, c, *size)
    return (
        (unfold(basis, kernel_size, dilation, padding, stride) * x[:, None])
        .sum((2, 3))
        .reshape(len(x), c, *size)
    )


CONVS = [
    ([A(2, 3, 7), A(4, 3, 3), A(4)], {}),
    ([A(2, 4, 8), A(6, 2, 3), A(6)], {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}),
    ([A(3, 7), A(4, 3, 2)], {"padding": "same"}),
    ([A(2, 3, 5, 6), A(4, 3, 3, 2), A(4)], {"stride": (2, 1), "padding": (1, 0)}),
    ([A(2, 4, 6, 5), A(4, 1, 3, 3), A(4)], {"groups": 4, "padding": 1}),
    ([A(2, 3, 4, 4), A(2, 3, 1, 1), A(2)], {}),
    ([A(2, 3, 5, 5), A(2, 3, 1, 1)], {"stride": 2}),
    ([A(1, 2, 6, 5), A(2, 2, 2, 3)], {"padding": "same", "dilation": (2, 1)}),
    ([A(1, 2, 6, 6), A(3, 2, 2, 2)], {"padding": "valid", "stride": 3}),
    ([A(1, 2, 4, 3, 4), A(2, 2, 2, 2, 3), A(2)], {"stride": (1, 2, 1), "padding": (0, 1, 1)}),
]
TRANSPOSED = [
    ([A(2, 3, 5), A(3, 2, 3), A(2)], {"stride": 2, "padding": 1, "output_padding": 1}),
    ([A(2, 4, 4), A(4, 2, 2)], {"groups": 2, "dilation": 2}),
    ([A(3, 3, 4), A(3, 2, 2, 3), A(2)], {"stride": (2, 1)}),
    (
        [A(1, 4, 3, 3), A(4, 1, 3, 3), A(2)],
        {"groups": 2, "dilation": (3, 1), "output_padding": (2, 0), "stride": (2, 1)},
    ),
    ([A(1, 2, 3, 3), A(2, 3, 1, 1)], {}),
    ([A(1, 2, 2, 3, 2), A(2, 1, 2, 2, 2), A(1)], {"stride": 2, "padding": 1}),
]
X, W = A(2, 3, 4, 4), A(5, 3, 3, 3)
ERRORS = [
    (
        [X, A(5, 5, 3, 3)],
        RuntimeError,
        r"Given groups=1, weight of size \[5, 5, 3, 3\], expected input\[2, 3, 4, 4\]",
    ),
    ([A(2, 3, 2, 2), W], RuntimeError, r"Calculated padded input size per channel: \(2 x 2\)"),
    ([A(2, 3), W], RuntimeError, "Expected 3D"),
    ([X, W, A(4)], RuntimeError, "expected bias to be 1-dimensional with 5 elements"),
    ([X, W], {"stride": 0}, RuntimeError, "non-positive stride"),
    ([X, W], {"padding": -1}, RuntimeError, "negative padding"),
    ([X, W], {"dilation": 0}, RuntimeError, "non-positive dilation"),
    ([X, W], {"groups": 2}, RuntimeError, "divisible by 2 at dimension 0"),
    ([X, W], {"groups": 0}, RuntimeError, "non-positive groups"),
    (
        [X, W],
        {"stride": (1, 2, 3)},
        RuntimeError,
        "expected stride to be a single integer value or a list of 2",
    ),
    ([X, W], {"padding": "foo"}, RuntimeError, "Invalid padding string: 'foo'"),
    ([X, W], {"padding": "same", "stride": 2}, RuntimeError, "not supported for strided"),
    ([X, A(5, 3, 3, 3, dtype="int64")], RuntimeError, "should be the same"),
    ([X, W, A(5, dtype="int64")], RuntimeError, "should be the same"),
]
TRANSPOSED_ERRORS = [
    ([X, A(5, 5, 3, 3)], RuntimeError, "Given transposed=1"),
    ([X, A(3, 5, 3, 3)], {"output_padding": 1}, RuntimeError, "output padding must be smaller"),
    ([X, A(3, 5, 3, 3), A(4)], RuntimeError, "expected bias"),
    ([X, A(3, 5, 3, 3)], {"padding": "same"}, TypeError, "must be tuple of ints"),
    ([X, A(3, 5, 3, 3)], {"padding": 9}, RuntimeError, "too small"),
]

SAMPLES = [
    Sample(
        f"{F}conv{len(i[1].shape) - 2}d",
        i,
        conv,
        k,
        op="convolution",
        dtypes=(*FLOATS, "int64", *COMPLEX),
        errors=ERRORS if len(i[1].shape) == 4 else [],
    )
    for i, k in CONVS
]
SAMPLES += [
    Sample(
        f"{F}conv_transpose{len(i[1].shape) - 2}d",
        i,
        conv_transpose,
        k,
        op="convolution_input",
        dtypes=(*FLOATS, "int64"),
        errors=TRANSPOSED_ERRORS if len(i[1].shape) == 4 else [],
    )
    for i, k in TRANSPOSED
]
SAMPLES += [
    Sample(
        "convolution",
        [A(2, 3, 7), A(4, 3, 3), A(4), [1], [0], [1], False, [0], 1],
        lambda x, w, b, *_: conv(x, w, b),
        op="convolution",
    ),
    Sample(
        "conv_tbc",
        [A(5, 2, 3), A(3, 3, 4), A(4)],
        lambda x, w, b: conv(x.transpose(1, 2, 0), w.transpose(2, 1, 0), b).transpose(2, 0, 1),
    ),
    Sample(
        F + "unfold",
        [A(2, 3, 5, 4), (2, 3)],
        unfold,
        {"padding": 1, "stride": 2},
        op="unfold_blocks",
        errors=[
            ([A(1, 3, 2, 2), 3], RuntimeError, "calculated shape of the array of sliding blocks"),
            ([A(3, 4, 4, 1, 1), 3], RuntimeError, "Expected 3D or 4D"),
            ([A(1, 3, 4, 4), 0], RuntimeError, "greater than zero"),
        ],
    ),
    Sample(F + "unfold", [A(3, 5, 4), 2], unfold, {"dilation": (2, 1)}, op="unfold_blocks"),
    Sample(
        F + "fold",
        [A(2, 8, 6), (3, 4), 2],
        fold,
        op="fold_blocks",
        errors=[
            ([A(1, 28, 4), (4, 4), 3], RuntimeError, "divisible by the product of kernel_size"),
            ([A(1, 27, 5), (4, 4), 3], RuntimeError, r"sliding blocks 2 \* 2 = 4"),
            ([A(1, 27, 5, 2), (4, 4), 3], RuntimeError, "Expected 2D or 3D"),
        ],
    ),
    Sample(F + "fold", [A(2, 4, 9), 4, 2], fold, {"padding": 1, "stride": 2}, op="fold_blocks"),
]
