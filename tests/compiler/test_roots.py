"""The square root of wide loops, made of the machine's estimate: the instruction's bits."""

import ctypes
import re

import numpy as np
import pytest

from lampion.compiler.ir.node import loop, loop_range, parameter, program, store
from lampion.compiler.ir.render_llvm import render_llvm
from lampion.compiler.native import runtime
from tests.compiler.targets import compiled

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is not installed")
EXACT = 2.0**-100  # from here on the root is rounded correctly


def kernel(count=None, dtype="f32"):
    """out[i] = sqrt(x[i]) for i < size, or count, for vectors of 512 bits."""
    out, x, size = parameter(0, f"*{dtype}"), parameter(1, f"*{dtype}"), parameter(2, "i64")
    i = loop_range(0, count or size, 0)
    root = program(
        "roots",
        [f"*{dtype}", f"*{dtype}", "i64"],
        loop(i, store(out, i, x.load(i).unary("sqrt"))),
    )
    return render_llvm(compiled(root), 512)


@pytest.fixture(scope="module")
def roots():
    """The roots of an array."""
    if not runtime.runs("avx512"):
        pytest.skip("this machine has no AVX-512")

    code = runtime.load(kernel(), runtime.level("avx512"))
    run = code.function("roots", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)

    def apply(x):
        out = np.empty_like(x)
        run(out.ctypes.data, x.ctypes.data, x.size)
        return out

    return apply


def assert_same_bits(found, expected):
    """Equal bits, but for those of nan."""
    same = (found.view(np.int32) == expected.view(np.int32)) | (
        np.isnan(found) & np.isnan(expected)
    )
    assert same.all(), f"{np.count_nonzero(~same)} differ"


def test_all_mantissas(roots):
    """A root's error is that of x or 2x between 1 and 2: these are all cases of normal numbers."""
    x = np.arange(0x3F800000, 0x40800000, dtype=np.int32).view(np.float32)
    assert_same_bits(roots(x), np.sqrt(x))


def test_all_exponents(roots):
    random = np.random.default_rng(0)
    x = random.integers(-(1 << 31), 1 << 31, 1 << 20, np.int32).view(np.float32)
    small = (x > 0) & (x < EXACT)
    found, expected = roots(x), np.sqrt(x)
    assert_same_bits(found[~small], expected[~small])
    distance = found[small].view(np.int32) - expected[small].view(np.int32)
    assert np.abs(distance).max() <= 1


def test_special_values_and_ends_of_loops(roots):
    special = np.array(
        [0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, -1e-45, 1e-45, 3.4e38, 1.2e-38, 4.0], np.float32
    )
    for size in range(1, 70):
        x = np.resize(special, size)
        assert_same_bits(roots(x), np.sqrt(x))


def test_the_root_of_a_row_is_no_estimate():
    """What is computed once for an inner loop is no vector."""
    out, x = parameter(0, "*f32"), parameter(1, "*f32")
    i, j = loop_range(0, 100, 0), loop_range(0, 100, 1)
    value = x.load(i).unary("sqrt") * x.load(j)
    root = program("rows", ["*f32", "*f32"], loop(i, loop(j, store(out, i * 100 + j, value))))
    assert "arcp" not in render_llvm(compiled(root), 512)


def test_only_long_loops_estimate():
    target = runtime.level("avx512")
    if "x86_64" not in target.triple:
        pytest.skip("the instructions are those of x86")
    estimates = re.compile(r"vrsqrt14ps\s.*zmm")
    for text in (kernel(), kernel(1000)):
        assert estimates.search(runtime.assembly(text, target))
    for text in (kernel(10), kernel(dtype="f64")):
        assert "arcp" not in text and not estimates.search(runtime.assembly(text, target))
