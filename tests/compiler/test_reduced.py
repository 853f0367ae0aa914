"""Compiled sums, means and extremes against NumPy in float64: shapes, special values, threads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import lampion
from lampion.compiler.kernels import reduced
from lampion.compiler.native import runtime
from lampion.ops import large

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is not installed")

NUMPY = {"sum": np.sum, "mean": np.mean, "amax": np.max, "amin": np.min}
SHAPES = [
    (5,), (1, 1), (7, 3), (64, 100), (3, 40, 17), (200, 300), (50, 4, 100), (100_000,), (3, 20_000),
    (300, 20, 33), (70_000, 1), (1000, 37), (2, 40_000),
]  # fmt: skip


@pytest.mark.parametrize("name", NUMPY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reductions_agree_with_numpy(name, dtype, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    call, wide = reduced.entry(name), x.astype(np.float64)
    tolerance = {"rtol": 1e-5, "atol": 2e-3} if dtype == np.float32 else {"rtol": 1e-10}
    made = 0
    for dim in (None, *range(x.ndim), -1):
        for keepdim in (False, True):
            found = call(x, dim, keepdim)
            if found is None:
                continue
            made += 1
            wanted = np.asarray(NUMPY[name](wide, axis=dim, keepdims=keepdim))
            assert found.dtype == dtype and found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, **tolerance)
    assert made >= 4, "all elements and the last dimension are always done"


@pytest.mark.parametrize("name", NUMPY)
@pytest.mark.parametrize("shape", [(3000,), (70_000,), (60, 40), (300, 400)], ids=str)
def test_nan_and_infinity(name, shape):
    call = reduced.entry(name)
    for special in (np.nan, np.inf, -np.inf):
        for place in (0, 17, -1):
            x = np.ones(shape, np.float32)
            x.flat[place] = special
            for dim in (None, 0, x.ndim - 1):
                found = call(x, dim, False)
                assert np.array_equal(found, NUMPY[name](x, axis=dim), equal_nan=True)


@pytest.mark.parametrize("name", NUMPY)
def test_the_same_bits_for_any_number_of_threads(name):
    x = np.random.default_rng(1).standard_normal((500, 333)).astype(np.float32)
    call, before = reduced.entry(name), lampion.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            lampion.set_num_threads(threads)
            results.append([call(x, dim, False).tobytes() for dim in (None, 0, 1)])
        assert results[0] == results[1] == results[2]
    finally:
        lampion.set_num_threads(before)


def test_what_is_left_to_numpy():
    call = reduced.entry("sum")
    x = np.ones((30, 40), np.float32)
    for other in (x.T, x[:, ::2], x.astype(np.int64), x.astype(np.float16), x[:0], x[0, 0]):
        assert call(np.asarray(other), None, False) is None
    for dim in (2, -3, (0, 1), "0", 1.0):
        assert call(x, dim, False) is None


def test_public_reductions_use_them(monkeypatch):
    monkeypatch.setattr(large.Least, "size", 1)
    data = np.random.default_rng(2).standard_normal((40, 50))
    x = lampion.tensor(data, requires_grad=True)
    cases = [
        (x.sum(), data.sum()),
        (x.mean(0), data.mean(0)),
        (x.sum(-1, keepdim=True), data.sum(-1, keepdims=True)),
        (x.max(), data.max()),
        (x.amin(1), data.min(1)),
        (x.sum((0, 1)), data.sum()),
        (x.t().sum(0), data.sum(1)),
    ]
    for found, wanted in cases:
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-12)
    (x.mean(0) * x.sum(1).sum()).sum().backward()
    wanted = data.sum() / 40 + data.mean(0).sum()
    np.testing.assert_allclose(x.grad.numpy(), np.full((40, 50), wanted), rtol=1e-10)


@pytest.mark.parametrize("name", NUMPY)
@pytest.mark.parametrize("shape", [(64, 100), (6, 40, 17), (3, 4, 20, 30)], ids=str)
def test_other_orders_and_several_dimensions(monkeypatch, name, shape):
    monkeypatch.setattr(large.Least, "size", 1)
    x = np.random.default_rng(3).standard_normal(shape)
    made = 0
    for axes in itertools.permutations(range(x.ndim)):
        y = x.transpose(axes)
        choices = [None, *range(y.ndim)]
        choices += [d for n in (2, 3) for d in itertools.combinations(range(y.ndim), n)]
        for dim in choices:
            for keepdim in (False, True):
                found = large.reduced(name, y, dim, keepdim)
                if found is not None:
                    made += 1
                    wanted = np.asarray(NUMPY[name](y, axis=dim, keepdims=keepdim))
                    assert found.shape == wanted.shape
                    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert made > 8
    assert large.reduced(name, x[:, ::2], 1, False) is None
