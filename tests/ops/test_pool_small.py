"""Small pooling against windows written out one by one."""

import itertools
import math

import numpy as np
import pytest

from lampion.ops import pool_small
from lampion.ops.conv_kernels import Steps
from lampion.ops.pool_kernels import Windows, window_count

CASES = [  # size, kernel, stride, padding, dilation, ceil_mode
    ((8,), (2,), (2,), (0,), (1,), False),
    ((6, 6), (2, 2), (2, 2), (0, 0), (1, 1), False),
    ((7, 5), (3, 2), (2, 1), (1, 1), (1, 1), False),
    ((7, 6), (2, 3), (3, 2), (1, 1), (1, 2), True),
    ((4, 5, 3), (2, 1, 3), (1, 2, 1), (1, 0, 1), (1, 1, 1), False),
]


def plan_of(case: tuple) -> Windows:
    size, kernel, stride, padding, dilation, ceil_mode = case
    each = zip(size, kernel, stride, padding, dilation, strict=True)
    out = tuple([window_count(*given, ceil_mode) for given in each])
    return Windows(size, kernel, Steps(stride, padding, dilation), out)


def windows(plan: Windows):
    """Each window: its place, and the (number, index) of those of its elements that exist."""
    for place in np.ndindex(*plan.out):
        seen = []
        for number, k in enumerate(itertools.product(*map(range, plan.kernel))):
            at = [o * s - p + i * d for o, i, s, p, d in zip(place, k, *plan.steps[:3])]
            if all(0 <= i < n for i, n in zip(at, plan.size, strict=True)):
                seen.append((number, (..., *at)))
        yield (..., *place), seen


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_windows(case: tuple, dtype: str) -> None:
    plan = plan_of(case)
    draw = np.random.default_rng(0)
    x = draw.permutation(2 * math.prod(plan.size)).reshape(2, *plan.size).astype(dtype) - 30
    largest, total = (np.zeros((2, *plan.out), dtype) for _ in range(2))
    for place, seen in windows(plan):
        values = np.stack([x[at] for _, at in seen])
        largest[place], total[place] = values.max(0), values.sum(0)
    lowest = -math.inf if dtype == "float32" else np.iinfo(dtype).min
    for ufunc, fill, want in ((np.maximum, lowest, largest), (np.add, 0, total)):
        made = pool_small.reduced(x, plan, ufunc, fill)
        assert made.dtype == x.dtype
        np.testing.assert_array_equal(made, want)


@pytest.mark.parametrize("case", CASES)
def test_winners_and_their_gradient(case: tuple) -> None:
    plan = plan_of(case)
    draw = np.random.default_rng(1)
    x = draw.integers(-2, 3, (2, *plan.size)).astype(np.float32)  # with equal elements
    y = pool_small.reduced(x, plan, np.maximum, -math.inf)
    g = draw.integers(-9, 9, y.shape).astype(np.float32)
    chosen, gx = np.zeros(y.shape, np.uint8), np.zeros_like(x)
    for place, seen in windows(plan):
        for image in range(2):
            number, at = max(seen, key=lambda tap: (x[image][tap[1]], -tap[0]))
            chosen[image][place] = number
            gx[image][at] += g[image][place]
    np.testing.assert_array_equal(pool_small.winners(x, y, plan), chosen)
    np.testing.assert_array_equal(pool_small.put_at(g, chosen, plan), gx)


def test_spread_of_windows_that_tile_the_image() -> None:
    g = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    want = np.kron(g, np.ones((1, 2, 2), np.float32))
    np.testing.assert_array_equal(pool_small.spread(g, plan_of(CASES[1])), want)
    assert pool_small.spread(np.zeros((2, 4, 6), np.float32), plan_of(CASES[2])) is None


def test_what_is_left_to_others() -> None:
    plan = plan_of(CASES[1])
    x = np.zeros((1, 6, 6), np.float32)
    assert pool_small.reduced(np.zeros((200, 6, 6)), plan, np.add, 0) is None
    for value in (math.nan, -math.inf):
        y = np.full((1, 3, 3), value, np.float32)
        assert pool_small.winners(x, y, plan) is None
    alone = Windows((1,), (2,), Steps((2,), (1,), (3,)), (1,))  # a window of padding alone
    assert pool_small.put_at(np.ones((1, 1)), np.full((1, 1), 255, np.uint8), alone) is None
