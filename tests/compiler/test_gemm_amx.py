"""Products of float32 on matrix units: as exact as fused multiply-adds, and the same for numbers
that bfloat16 parts do not hold.
"""

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

from lampion.compiler.kernels.gemm_pack import SPLIT
from lampion.compiler.kernels.product import JOB, Product
from lampion.compiler.kernels.product_jobs import descriptions
from lampion.compiler.native import runtime
from lampion.compiler.native.stages import Layout

pytestmark = pytest.mark.skipif(not runtime.runs("amx"), reason="this machine has no matrix units")


@pytest.fixture(scope="module")
def units():
    return Product("float32", runtime.level("amx"))


@pytest.fixture(scope="module")
def vectors():
    return Product("float32", runtime.level("avx512"))


def multiply(made, a, b):
    return made.call(a, b, np.full((len(a), b.shape[1]), np.nan, np.float32), None, False)


def numbers(rng, kind, shape):
    """Operands of several kinds: which bits and which ranges they have."""
    normal = rng.standard_normal(shape)
    made = {
        "normal": normal,
        "positive": rng.random(shape) + 0.5,
        "wide": normal * 2.0 ** rng.integers(-12, 12, shape),
        "small": normal * 1e-12,
        "large": normal * 1e15,
    }[kind]
    return made.astype(np.float32)


@pytest.mark.parametrize("kind", ["normal", "positive", "wide", "small", "large"])
@pytest.mark.parametrize("shape", [(96, 96, 96), (256, 128, 256), (160, 700, 130), (128, 3000, 64)])
def test_errors_are_no_larger_than_of_fused_multiply_adds(units, vectors, kind, shape):
    rng = np.random.default_rng(1)
    m, k, n = shape
    a, b = numbers(rng, kind, (m, k)), numbers(rng, kind, (k, n))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    scale = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    own, others = (np.abs(multiply(made, a, b) - exact) / scale for made in (units, vectors))
    assert np.sqrt((own**2).mean()) <= 1.05 * np.sqrt((others**2).mean())
    assert own.max() <= 1.2 * others.max()


def test_integers_of_sixteen_bits_are_multiplied_exactly(units):
    rng = np.random.default_rng(2)
    a = rng.integers(-(2**15), 2**15, (128, 256)).astype(np.float32)
    b = rng.integers(-1, 2, (256, 128)).astype(np.float32)
    assert (multiply(units, a, b) == a.astype(np.float64) @ b.astype(np.float64)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, -3.4028235e38])
@pytest.mark.parametrize("side", ["a", "b"])
def test_what_is_not_finite_spoils_only_its_rows(units, value, side):
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((200, 300), np.float32), rng.standard_normal((300, 170), np.float32)
    (a if side == "a" else b)[[5, 77], [3, 100]] = value
    with np.errstate(invalid="ignore", over="ignore"):
        expected = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    found = multiply(units, a, b)
    assert (np.isnan(found) == np.isnan(expected)).all()
    assert (np.isinf(found) == np.isinf(expected)).all()
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-4, atol=1e-4)


def test_sum_with_what_is_there_where_a_sum_is_infinite(units):
    a, b = np.ones((64, 128), np.float32), np.ones((128, 64), np.float32)
    a[7, 7] = np.inf
    out = np.full((64, 64), 3, np.float32)
    units.batched(a, b, out, np.full(64, 2, np.float32), alpha=0.5, accumulate=True, relu=True)
    assert np.isinf(out[7]).all()
    assert (np.delete(out, 7, 0) == 0.5 * 128 + 3 + 2).all()


def test_tiny_numbers_count_to_the_smallest_normal_number(units):
    rng = np.random.default_rng(4)
    a = (rng.standard_normal((64, 64)) * 1e-34).astype(np.float32)
    b = rng.standard_normal((64, 64), np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert np.abs(multiply(units, a, b) - exact).max() <= 64 * 8 * np.finfo(np.float32).tiny


def test_large_products_use_matrix_units_and_small_ones_do_not(units):
    def packing(size):
        layout = Layout((size, size), (size, 1), "float32")
        (fields,) = descriptions(layout, layout, layout)
        return units.planned(fields)[JOB.index("pack_b")]

    assert packing(512) == SPLIT
    assert packing(16) != SPLIT
