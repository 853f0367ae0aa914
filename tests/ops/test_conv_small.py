"""Small convolutions against sums written out, and against the paths of larger ones."""

import itertools

import numpy as np
import pytest

from lampion.ops import conv_kernels, conv_small
from lampion.ops.conv_kernels import Steps

CASES = [  # size, kernel, stride, padding, dilation, groups
    ((7,), (3,), (1,), (0,), (1,), 1),
    ((6, 5), (3, 3), (1, 1), (1, 1), (1, 1), 1),
    ((6, 5), (3, 2), (2, 1), (1, 0), (1, 2), 2),
    ((5, 6), (1, 1), (2, 2), (0, 0), (1, 1), 1),
    ((4, 4), (2, 1), (3, 2), (4, 3), (1, 1), 2),  # positions that read padding only
    ((3, 4, 3), (2, 3, 1), (1, 2, 1), (1, 1, 0), (2, 1, 1), 1),
]


def problem(case: tuple) -> tuple:
    """Images, weights, a bias, a gradient of the result, and the steps."""
    size, kernel, stride, padding, dilation, groups = case
    steps = Steps(stride, padding, dilation, groups)
    out = tuple(map(conv_kernels.output_size, size, kernel, stride, padding, dilation))
    draw = np.random.default_rng(0).standard_normal
    x, w = draw((2, 2 * groups, *size)), draw((3 * groups, 2, *kernel))
    return x, w, draw(3 * groups), draw((2, 3 * groups, *out)), steps


def terms(x: np.ndarray, w: np.ndarray, out: tuple, steps: Steps):
    """The indices (image, weight, result) of each product that a convolution sums up."""
    per_group = w.shape[0] // steps.groups
    for o, c, *k in np.ndindex(*w.shape):
        channel = o // per_group * w.shape[1] + c
        for position in itertools.product(*map(range, out)):
            at = [i * s + a * d - p for i, a, s, p, d in zip(position, k, *steps[:3])]
            if all(0 <= i < n for i, n in zip(at, x.shape[2:])):
                yield (slice(None), channel, *at), (o, c, *k), (slice(None), o, *position)


@pytest.mark.parametrize("case", CASES)
def test_sums(case: tuple) -> None:
    x, w, b, g, steps = problem(case)
    y, gx, gw = np.zeros_like(g), np.zeros_like(x), np.zeros_like(w)
    for at, tap, to in terms(x, w, g.shape[2:], steps):
        y[to] += x[at] * w[tap]
        gx[at] += g[to] * w[tap]
        gw[tap] += (x[at] * g[to]).sum()
    y += b.reshape(-1, *[1] * len(case[0]))
    np.testing.assert_allclose(conv_small.forward(x, w, b, steps), y, atol=1e-12)
    made = conv_small.input_gradient(g, w, None, x.shape[2:], steps)
    np.testing.assert_allclose(made, gx, atol=1e-12)
    made = conv_small.weight_gradient(x, g, w.shape[2:], steps)
    np.testing.assert_allclose(made, gw, atol=1e-12)


def test_arrays_that_are_not_contiguous() -> None:
    x, w, b, g, steps = problem(CASES[2])
    turned, wide = (np.asfortranarray(t) for t in (x, w))
    want = conv_small.forward(x, w, b, steps)
    np.testing.assert_array_equal(conv_small.forward(turned, wide, b, steps), want)
    want = conv_small.weight_gradient(x, g, w.shape[2:], steps)
    made = conv_small.weight_gradient(turned, np.asfortranarray(g), w.shape[2:], steps)
    np.testing.assert_allclose(made, want, atol=1e-12)


def test_much_work_and_mixed_types_are_left_to_others() -> None:
    x, w, b, _, steps = problem(CASES[1])
    assert conv_small.forward(x, w.astype(np.float32), b, steps) is None
    assert conv_small.forward(np.zeros((64, 2, 32, 32)), w, b, steps) is None
    assert conv_small.forward(x[:0], w, b, steps) is None
