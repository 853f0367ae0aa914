"""Compiled softmax, normalisation, cross-entropy and sums of large arrays against the NumPy
kernels, which tests/ops compares with PyTorch.
"""

from __future__ import annotations

import numpy as np
import pytest

from lampion.compiler.kernels import rowwise, sums
from lampion.compiler.native import runtime
from lampion.ops import classification, large, norm_kernels, reduce, softmax

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is not installed")

SIZES = [(1, 1), (5, 7), (33, 130), (200, 257), (3, 5000)]
TYPES = [np.float32, np.float64]


@pytest.fixture(autouse=True)
def numpy_kernels(monkeypatch):
    """What the operators' kernels give is NumPy's, unless a test asks for less."""
    monkeypatch.setattr(large.Least, "size", 1 << 60)


def close(found, wanted, dtype):
    tolerance = 5e-6 if dtype == np.float32 else 1e-13
    for a, b in zip(found, wanted, strict=True):
        scale = max(np.abs(b).max(), 1e-3)
        np.testing.assert_allclose(np.ravel(a), np.ravel(b), rtol=0, atol=tolerance * scale)


@pytest.fixture(params=TYPES, ids=["float32", "float64"])
def make(request):
    rng = np.random.default_rng(0)
    return lambda *shape: rng.standard_normal(shape).astype(request.param)


@pytest.mark.parametrize("size", SIZES)
def test_softmax(make, size):
    x, t = make(*size) * 5, make(*size)
    p, l = softmax.softmax_kernel(x, 1), softmax.log_softmax_kernel(x, 1)  # noqa: E741
    pairs = [
        (rowwise.along_rows("softmax", x), p),
        (rowwise.along_rows("log_softmax", x), l),
        (rowwise.along_rows("softmax_back", t, p), softmax.softmax_backward_kernel(t, p, 1)),
        (
            rowwise.along_rows("log_softmax_back", t, l),
            softmax.log_softmax_backward_kernel(t, l, 1),
        ),
    ]
    for found, wanted in pairs:
        close([found], [wanted], x.dtype)


def test_softmax_of_special_values():
    x = np.zeros((4, 40), np.float32)
    x[0, 3], x[1, 5], x[2] = np.inf, np.nan, -np.inf
    x[3, :20] = -np.inf
    for name, kernel in (
        ("softmax", softmax.softmax_kernel), ("log_softmax", softmax.log_softmax_kernel),
    ):  # fmt: skip
        np.testing.assert_allclose(rowwise.along_rows(name, x), kernel(x, 1), rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(make, size, affine):
    x, g = make(*size), make(*size)
    columns = size[1]
    w, b = (make(columns), make(columns)) if affine else (None, None)
    wanted = norm_kernels.norm_kernel(x, w, b, (-1,), (columns,), (), 1e-5)
    close(rowwise.run_layer_norm(x, w, b, columns, 1e-5), wanted, x.dtype)
    _, mean, variance = wanted
    wanted = norm_kernels.norm_gradient_kernel(
        g, x, w, mean, variance, (-1,), (columns,), (), 1e-5, (True, True, True)
    )
    found = rowwise.run_layer_norm_back(g, x, w, mean, variance, columns, 1e-5)
    close(found, wanted, x.dtype)


@pytest.mark.parametrize("size", [(3, 5, 17), (2, 3, 4, 5), (16, 6, 20, 21), (1, 2, 33)])
def test_batch_norm(make, size):
    x, g, w, b = make(*size) + 3, make(*size), make(size[1]), make(size[1])
    dims, shape = (-len(size), *range(2 - len(size), 0)), (size[1], *[1] * (len(size) - 2))
    wanted = norm_kernels.norm_kernel(x, w, b, dims, shape, (), 1e-5)
    close(rowwise.run_batch_norm(x, w, b, 1e-5), wanted, x.dtype)
    _, mean, variance = wanted
    wanted = norm_kernels.norm_gradient_kernel(
        g, x, w, mean, variance, dims, shape, (), 1e-5, (True, True, True)
    )
    close(rowwise.run_batch_norm_back(g, x, w, mean, variance, 1e-5), wanted, x.dtype)


@pytest.mark.parametrize("affine", [True, False])
def test_group_norm(make, affine, monkeypatch):
    x, g, w, b = make(3, 6, 4, 5) + 3, make(3, 6, 4, 5), make(6), make(6)
    w, b = (w, b) if affine else (None, None)
    places = (-3, -2, -1), (2, 3, 1, 1), (2, 3, 4, 5)  # two groups of three channels
    needs = (True, affine, affine)
    results = []
    for size in (1, 1 << 60):
        monkeypatch.setattr(large.Least, "size", size)
        y, mean, variance = norm_kernels.norm_kernel(x, w, b, *places, 1e-5)
        back = norm_kernels.norm_gradient_kernel(g, x, w, mean, variance, *places, 1e-5, needs)
        results.append([v for v in (y, mean, variance, *back) if v is not None])
    close(*results, x.dtype)


@pytest.mark.parametrize("size", SIZES)
def test_cross_entropy(make, size):
    x, scale = make(*size) * 3, make(size[0])
    target = np.random.default_rng(1).integers(0, size[1], size[0])
    wanted = classification.cross_entropy_kernel(x, target, None, -100, "none")
    close(rowwise.run_cross_entropy(x, target), wanted, x.dtype)
    gradient = classification.cross_entropy_gradient_kernel(
        scale, x, target, None, wanted[1], -100, "none"
    )
    close([rowwise.run_cross_entropy_back(x, target, wanted[1], scale)], [gradient], x.dtype)


@pytest.mark.parametrize("shape", [(20, 33, 50), (100, 16, 4, 5), (3, 40, 5, 19), (1, 7, 3000)])
def test_sums_of_channels(monkeypatch, make, shape):
    x = make(*shape)
    monkeypatch.setattr(large.Least, "size", 1)
    dims = (0, *range(2, x.ndim))
    wanted = x.astype(np.float64).sum(dims)
    tolerance = 1e-5 if x.dtype == np.float32 else 1e-12
    found = sums.sum_over(x, dims)
    if shape[0] == 1:  # rows, which `reduced` has
        assert found is None
        found = large.reduced("sum", x[0], 1, False)
    np.testing.assert_allclose(found, wanted, atol=tolerance * np.sqrt(x.size))
    assert sums.sum_over(x[:, ::2], dims) is None
    assert sums.sum_over(np.ones(shape, np.int64), dims) is None


def test_sums_of_special_values():
    x = np.ones((10, 64, 20), np.float32)
    x[3, 5, 1], x[7, 6, 19] = np.inf, np.nan
    found = sums.sum_over(x, (0, 2))
    assert found[5] == np.inf and np.isnan(found[6]) and found[0] == 200


def test_operators_take_them(monkeypatch):
    """The same results through the operators' kernels, above and below the threshold."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((70, 90)).astype(np.float32)
    w = rng.standard_normal(90).astype(np.float32)
    target = rng.integers(0, 90, 70)
    calls = [
        lambda: softmax.softmax_kernel(x, 1),
        lambda: softmax.softmax_kernel(x, 0),
        lambda: norm_kernels.norm_kernel(x, w, None, (-1,), (90,), (), 1e-5),
        lambda: classification.cross_entropy_kernel(x, target, None, -100, "mean"),
        lambda: classification.cross_entropy_kernel(x, target, None, 3, "mean"),
        lambda: reduce.sum_kernel(x, 1, True),
        lambda: reduce.mean_kernel(x, None, False),
    ]
    results = []
    for threshold in (1, 1 << 60):
        monkeypatch.setattr(reduce, "LARGE", threshold)
        monkeypatch.setattr(large.Least, "size", threshold)
        results.append([call() for call in calls])
    for a, b in zip(*results, strict=True):
        a, b = (r if isinstance(r, tuple) else (r,) for r in (a, b))
        for p, q in zip(a, b, strict=True):
            assert np.shape(p) == np.shape(q) and np.asarray(p).dtype == np.asarray(q).dtype
            np.testing.assert_allclose(p, q, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("count", "columns"), [(300, 100), (1, 1), (50, 64), (700, 65)])
def test_rows_are_added_at_their_numbers(make, count, columns):
    x, index = make(count, columns), np.random.default_rng(3).integers(0, 9, count)
    wanted = np.zeros((9, columns), np.float64)
    np.add.at(wanted, index, x)
    tolerance = 1e-5 if x.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(sums.add_rows(x, index, 9), wanted, atol=tolerance * 10)
    assert sums.add_rows(x, index - 1, 5) is None
