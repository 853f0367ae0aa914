"""Compiled pooling against the NumPy kernels, between canaries."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from lampion.compiler.kernels import pooling
from lampion.compiler.native import runtime, stages
from lampion.compiler.native.stages import Layout
from lampion.ops import pool_kernels as kernels
from lampion.ops.conv_kernels import Steps
from lampion.ops.pool_kernels import Windows, window_count

CANARY, GUARD = 77, 128


class Case(NamedTuple):
    """Windows over images with the leading dimensions `lead`."""

    lead: tuple[int, ...]
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool = False
    count_padding: bool = True
    divisor: int | None = None

    @property
    def plan(self) -> Windows:
        steps = Steps(self.stride, self.padding, self.dilation)
        ceil = (self.ceil_mode,) * len(self.size)
        out = tuple(map(window_count, self.size, self.kernel, *steps[:3], ceil))
        return Windows(self.size, self.kernel, steps, out, self.count_padding, self.divisor)


CASES = [
    Case((2, 3), (9, 37), (3, 3), (2, 2), (1, 1), (1, 1)),
    Case((2, 3), (8, 8), (2, 2), (2, 2), (0, 0), (1, 1)),
    Case((2, 3), (9, 40), (3, 2), (1, 3), (1, 1), (1, 2)),
    Case((2, 3), (9, 10), (3, 3), (2, 2), (1, 1), (1, 1), True, False),
    Case((2, 3), (9, 10), (3, 3), (2, 2), (0, 1), (1, 1), True, True, 5),
    Case((2,), (50,), (4,), (1,), (2,), (1,)),
    Case((1, 2), (4, 5, 6), (2, 3, 2), (2, 1, 2), (1, 1, 0), (1, 1, 1)),
    Case((2,), (20, 20), (16, 16), (2, 1), (0, 0), (1, 1)),
    Case((3,), (2, 5), (2, 1), (1, 1), (1, 0), (3, 1)),  # windows of nothing but padding
    Case((40, 10), (16, 16), (2, 2), (2, 2), (0, 0), (1, 1)),
]


@pytest.fixture(autouse=True)
def numpy_kernels() -> Iterator[None]:
    """The kernels compared with are NumPy's."""
    limit, kernels.COMPILED_FROM = kernels.COMPILED_FROM, 1 << 62
    yield
    kernels.COMPILED_FROM = limit


def image(case: Case, dtype: str, special: bool = False) -> np.ndarray:
    """Small whole numbers, so that there are equal ones and sums are exact; maybe NaN and -inf."""
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, (*case.lead, *case.size)).astype(dtype)
    if special:
        x.flat[::7], x.flat[::5] = math.nan, -math.inf
    return x


def gradient(case: Case, dtype: str) -> np.ndarray:
    """What comes back to each window."""
    rng = np.random.default_rng(1)
    return rng.integers(-3, 4, (*case.lead, *case.plan.out)).astype(dtype)


def run(kind: str, case: Case, dtype: str, *inputs: np.ndarray, level: str = "") -> np.ndarray:
    """The result of the compiled stages, after a look at the canaries."""
    plan = case.plan
    x_shape, y_shape = (*case.lead, *case.size), (*case.lead, *plan.out)
    x, y = (Layout.of(np.empty(shape, dtype)) for shape in (x_shape, y_shape))
    calls = pooling.pool_calls(kind, x, y, plan, runtime.level(level) if level else None)
    shape = x_shape if kind in ("put", "spread") else y_shape
    few = math.prod(plan.kernel) < 255
    kind_of = np.dtype((np.uint8 if few else np.uint32) if kind == "winners" else dtype)
    size = math.prod(shape)
    memory = np.full(size + 2 * GUARD, CANARY, kind_of)
    result = memory[GUARD : GUARD + size].reshape(shape)
    stages.run(calls, [a.ctypes.data for a in (*inputs, result)])
    assert (memory[:GUARD] == CANARY).all() and (memory[-GUARD:] == CANARY).all()
    return result


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_maxima(case: Case, dtype: str, special: bool) -> None:
    x, g, plan = image(case, dtype, special), gradient(case, dtype), case.plan
    y = kernels.maximum(x, plan)
    np.testing.assert_array_equal(run("maximum", case, dtype, x), y)
    chosen = kernels.winners(x, y, plan)
    np.testing.assert_array_equal(run("winners", case, dtype, x, y), chosen)
    put = run("put", case, dtype, g, chosen)
    np.testing.assert_array_equal(put, kernels.put_at(g, chosen, plan))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [c for c in CASES if max(c.dilation) == 1], ids=str)
def test_averages(case: Case, dtype: str) -> None:
    x, g, plan = image(case, dtype), gradient(case, dtype), case.plan
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(run("average", case, dtype, x), kernels.average(x, plan), **close)
    np.testing.assert_allclose(run("spread", case, dtype, g), kernels.spread(g, plan), **close)


@pytest.mark.parametrize("level", ["avx512", "avx2", "sse", "neon"])
def test_instruction_sets(level: str) -> None:
    if not runtime.runs(level):
        pytest.skip(f"this machine has no {level}")
    case = CASES[0]
    x, g, plan = image(case, "float32", True), gradient(case, "float32"), case.plan
    y = kernels.maximum(x, plan)
    chosen = kernels.winners(x, y, plan)
    for kind, inputs, expected in (
        ("maximum", (x,), y),
        ("winners", (x, y), chosen),
        ("put", (g, chosen), kernels.put_at(g, chosen, plan)),
        ("spread", (g,), kernels.spread(g, plan)),
    ):
        found = run(kind, case, "float32", *inputs, level=level)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_refuses_what_it_cannot_read() -> None:
    case = CASES[1]
    x, y = Layout.of(image(case, "float32")), Layout.of(gradient(case, "float32"))
    with pytest.raises(ValueError, match="contiguous"):
        pooling.pool_calls("maximum", x._replace(strides=(500, 80, 9, 1)), y, case.plan)
    with pytest.raises(ValueError, match="float32"):
        pooling.pool_calls("maximum", x._replace(dtype="int64"), y, case.plan)


def test_large_arrays_are_pooled_by_compiled_kernels() -> None:
    kernels.COMPILED_FROM = 1 << 12
    case = CASES[-1]
    x, plan = image(case, "float32"), case.plan
    assert kernels.compiled(x, plan) is not None
    rows = x.reshape(40, 10, 8, 2, 8, 2)
    y = kernels.maximum(x, plan)
    np.testing.assert_array_equal(y, rows.max((3, 5)))
    g = np.ones_like(y)
    back = kernels.put_at(g, kernels.winners(x, y, plan), plan)
    assert back.reshape(rows.shape).sum((3, 5)).tolist() == g.tolist()
    np.testing.assert_array_equal(back * x, back * y.repeat(2, 2).repeat(2, 3))
    np.testing.assert_allclose(kernels.average(x, plan), rows.mean((3, 5)), rtol=1e-6)
