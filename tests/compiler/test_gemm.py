"""Compiled matrix products against NumPy in float64: shapes, strides, levels of vector units,
memory around operands.
"""

import mmap
import threading

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

from lampion.compiler.kernels import product
from lampion.compiler.kernels.product import Product, gemm
from lampion.compiler.native import pool, runtime

LEVELS = [name for name in ("amx", "avx512", "avx2", "sse", "neon") if runtime.runs(name)]
SIZES = [
    (1, 1, 1), (1, 5, 3), (7, 1, 2), (3, 4, 1), (8, 16, 48), (9, 17, 49), (13, 300, 31),
    (37, 53, 71), (64, 257, 100), (130, 513, 97), (33, 1000, 600), (300, 40, 700),
    (64, 1000, 100), (250, 1025, 131), (16, 513, 97), (400, 320, 200),
]  # fmt: skip


@pytest.fixture(autouse=True)
def threads_restored():
    yield
    pool.pool().settle()


def numbers(rng, rows, columns, dtype, layout):
    """A matrix in one of several memory layouts."""
    if layout == "rows":
        return rng.standard_normal((rows, columns)).astype(dtype)
    if layout == "columns":
        return rng.standard_normal((columns, rows)).astype(dtype).T
    if layout == "steps":
        return rng.standard_normal((2 * rows, 3 * columns)).astype(dtype)[::2, ::3]
    if layout == "reversed":
        return rng.standard_normal((rows, columns)).astype(dtype)[::-1, ::-1]
    return np.broadcast_to(rng.standard_normal((1, columns)).astype(dtype), (rows, columns))


def agree(found, a, b, bias=None, relu=False):
    """Compares with float64, to the error that sums of K roundings have."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    expected = a @ b + (0 if bias is None else bias.astype(np.float64))
    size = np.abs(a) @ np.abs(b) + (0 if bias is None else np.abs(bias))
    if relu:
        expected = np.maximum(expected, 0)
    unit = np.finfo(found.dtype).eps
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= unit * (8 + a.shape[1] ** 0.5) * size + 1e-30).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("level", LEVELS)
def test_products_on_every_level(level, dtype):
    rng = np.random.default_rng(1)
    made = Product(dtype, runtime.level(level))
    layouts = ["rows", "columns", "steps", "reversed", "repeated"]
    for m, k, n in SIZES:
        for first in layouts:
            second = layouts[rng.integers(len(layouts))]
            a, b = numbers(rng, m, k, dtype, first), numbers(rng, k, n, dtype, second)
            bias = rng.standard_normal(n).astype(dtype)
            agree(made.call(a, b, np.full((m, n), np.nan, dtype), None, False), a, b)
            agree(made.call(a, b, np.full((m, n), np.nan, dtype), bias, True), a, b, bias, True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_empty_sizes(dtype):
    bias = np.array([1, -2, 3], dtype)
    assert gemm(np.ones((0, 4), dtype), np.ones((4, 3), dtype)).shape == (0, 3)
    assert gemm(np.ones((4, 3), dtype), np.ones((3, 0), dtype)).shape == (4, 0)
    assert (gemm(np.ones((2, 0), dtype), np.ones((0, 3), dtype)) == 0).all()
    found = gemm(np.ones((2, 0), dtype), np.ones((0, 3), dtype), bias=bias, relu=True)
    assert (found == [1, 0, 3]).all()


def test_factor_sum_and_batches():
    rng = np.random.default_rng(2)
    a = rng.standard_normal((3, 1, 5, 300), np.float32)
    b = rng.standard_normal((2, 300, 7), np.float32)
    c = rng.standard_normal((3, 2, 5, 7), np.float32)
    expected = 0.5 * (a.astype("d") @ b) + c
    found = gemm(a, b, c.copy(), alpha=0.5, accumulate=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(gemm(a, b), a.astype("d") @ b, atol=1e-4)
    into = np.zeros((3, 2, 7, 5), np.float32).swapaxes(-1, -2)
    assert gemm(a, b, into) is into
    np.testing.assert_allclose(into, a.astype("d") @ b, atol=1e-4)


def test_bfloat16_operands_are_summed_in_float32():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(7)
    for m, k, n in ((5, 7, 3), (40, 300, 70)):
        a, b = (rng.standard_normal(s).astype(ml_dtypes.bfloat16) for s in ((m, k), (n, k)))
        found = gemm(a, b.T)
        assert found.dtype == np.float32
        agree(found, a, b.T)


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="got int32"):
        gemm(np.ones((2, 2), np.int32), np.ones((2, 2), np.int32))


def test_nan_and_infinity_pass():
    a = np.array([[np.nan, 1], [np.inf, 1], [1, 1]], np.float32)
    found = gemm(a, np.ones((2, 2), np.float32), relu=True)
    assert np.isnan(found[0]).all() and np.isinf(found[1]).all() and (found[2] == 2).all()


def test_out_that_overlaps_an_operand():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((20, 20), np.float32), rng.standard_normal((20, 20), np.float32)
    expected = a @ b
    assert gemm(a, b, a) is a
    np.testing.assert_allclose(a, expected, atol=1e-5)


def test_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(4)
    made = product.kernel("float32")
    halves = ((64, 1000, 100), (130, 2049, 250), (9, 5000, 33))  # small results of long sums
    for m, k, n in ((129, 700, 333), (512, 512, 512), *halves):
        a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
        results = []
        for threads in (1, 2, 3, 8):
            pool.pool().settle(threads)
            for _ in range(3):
                results.append(made.call(a, b, np.empty((m, n), np.float32), None, False))
        assert all((r == results[0]).all() for r in results)
        agree(results[0], a, b)


def test_python_threads_call_at_once():
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((200, 300), np.float32), rng.standard_normal((300, 210), np.float32)
    expected, wrong = gemm(a, b), []

    def caller():
        for _ in range(100):
            if (gemm(a, b) != expected).any():
                wrong.append(1)

    callers = [threading.Thread(target=caller) for _ in range(3)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert not wrong
    agree(expected, a, b)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((1, 2, 3, None, False), TypeError, "expects a of float32, got int"),
        ((np.ones((2, 3)), np.ones((3, 2)), np.ones((2, 2)), None, False), TypeError, "float64"),
        (("f23", "f42", "f22", None, False), ValueError, r"got \(2, 3\) and \(4, 2\)"),
        (("f23", "f32", "f23", None, False), ValueError, r"out of shape \(2, 2\)"),
        (("f23", "f32", "f22", "f3", False), ValueError, r"bias of shape \(2,\)"),
        (("f23", "f32"), TypeError, "argument"),
        ((), TypeError, "argument"),
    ],
)
def test_wrong_arguments_raise(arguments, error, words):
    made = [
        np.ones([int(d) for d in x[1:]], np.float32) if isinstance(x, str) else x for x in arguments
    ]
    with pytest.raises(error, match=words):
        product.kernel("float32").call(*made)


def test_read_only_and_swapped_arrays():
    a = np.ones((3, 3), np.float32)
    out = np.zeros((3, 3), np.float32)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        product.kernel("float32").call(a, a, out, None, False)
    with pytest.raises(TypeError, match="convert"):
        product.kernel("float32").call(a.astype(">f4"), a, a.copy(), None, False)
    odd = np.zeros(37, np.uint8)[1:].view(np.float32).reshape(3, 3)  # not aligned
    assert (gemm(odd, a) == 0).all()


@pytest.mark.skipif(not hasattr(mmap, "MAP_PRIVATE"), reason="needs pages that may not be touched")
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_outside_operands_is_touched(level):
    """Operands end (or begin) at a page that may not be read; a canary lies around the result."""
    import ctypes

    made = Product("float32", runtime.level(level))
    page = mmap.PAGESIZE
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    rng = np.random.default_rng(6)

    def guarded(rows, columns, at_end):
        size = rows * columns * 4
        pages = -(-size // page)
        memory = mmap.mmap(-1, (pages + 2) * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        start = page + (pages * page - size if at_end else 0)
        array = np.frombuffer(memory, np.float32, rows * columns, start).reshape(rows, columns)
        array[...] = rng.standard_normal((rows, columns))
        for edge in (0, (pages + 1) * page):
            assert protect(address + edge, page, 0) == 0
        return array, memory, address

    for m, k, n in (
        (1, 1, 1),
        (5, 7, 3),
        (9, 33, 50),
        (17, 257, 65),
        (17, 1025, 65),
        (200, 150, 200),
    ):
        for at_end in (True, False):
            for flip_a in (False, True):
                for flip_b in (False, True):
                    a, *_ = guarded(*((k, m) if flip_a else (m, k)), at_end)
                    b, *_ = guarded(*((n, k) if flip_b else (k, n)), at_end)
                    out, *_ = guarded(m, n, at_end)
                    bias = guarded(1, n, at_end)[0][0]
                    a, b = (a.T if flip_a else a), (b.T if flip_b else b)
                    agree(made.call(a, b, out, bias, False), a, b, bias)
    frame = np.full((20, 80), 7, np.float32)
    a, b = rng.standard_normal((9, 12), np.float32), rng.standard_normal((12, 50), np.float32)
    agree(made.call(a, b, frame[5:14, 10:60], None, False), a, b)
    frame[5:14, 10:60] = 7
    assert (frame == 7).all()


def test_arm_code_has_fused_vector_instructions():
    shape = product.shape_for(runtime.level("neon"), "float32")
    text = product.kernels(shape).text()
    assert "fmla" in runtime.assembly(text, runtime.level("neon"))
