"""exp, log, erf, sin ...: errors in units in the last place, special values, and vector code."""

import math
import re

import numpy as np
import pytest

from lampion.compiler.ir import mathematics
from lampion.compiler.ir.interpret import interpret
from lampion.compiler.ir.linearize import linearize
from lampion.compiler.ir.node import NUMPY, loop, loop_range, parameter, program, store
from lampion.compiler.ir.render_llvm import render_llvm
from tests.compiler.targets import compile_llvm, compiled, run_everywhere, run_llvm

LONG = np.longdouble
exact_erf = np.vectorize(math.erf, otypes=[np.float64])
exact_pow = np.power

# name: (reference in more digits, interval, largest error in ulp for f32, for f64)
FUNCTIONS = {
    "exp": (np.exp, (-100.0, 88.0), 1, 1),
    "expm1": (np.expm1, (-20.0, 88.0), 2, 2),
    "log": (np.log, (1e-37, 100.0), 1, 1),
    "log1p": (np.log1p, (-0.999, 100.0), 2, 2),
    "tanh": (np.tanh, (-12.0, 12.0), 2.5, 2.5),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), (-80.0, 80.0), 2.5, 2.5),
    "erf": (exact_erf, (-5.0, 5.0), 2, 2),
    "sin": (np.sin, (-1000.0, 1000.0), 2, 2),
    "cos": (np.cos, (-1000.0, 1000.0), 2, 2),
    "sqrt": (np.sqrt, (0.0, 1e6), 0.5, 0.5),
    "rsqrt": (lambda x: 1 / np.sqrt(x), (1e-6, 1e6), 2, 2),
}
FLOATS = ["f32", "f64"]


def kernel(name, dtype, size, binary=False):
    """y[i] = f(x[i]) or f(x[i], z[i])."""
    i = loop_range(0, size, 0)
    out, *inputs = (parameter(k, f"*{dtype}") for k in range(3 if binary else 2))
    value = getattr(mathematics, name)(*(x.load(i) for x in inputs))
    return program(
        f"apply_{name}", [f"*{dtype}"] * (len(inputs) + 1), loop(i, store(out, i, value))
    )


def apply(name, dtype, *arrays):
    """The function on arrays, natively."""
    out = np.empty_like(arrays[0])
    run_llvm(compiled(kernel(name, dtype, out.size, len(arrays) == 2)), [out, *arrays])
    return out


def ulps(result, exact):
    """The distance in units in the last place of the exact result's rounding."""
    rounded = exact.astype(result.dtype)
    unit = np.spacing(np.abs(rounded)).astype(LONG)
    return np.abs(result.astype(LONG) - exact) / unit


def points(interval, dtype):
    """Many numbers of an interval: evenly spread, and near zero on all scales."""
    low, high = interval
    even = np.linspace(low, high, 40_001)
    scales = np.concatenate([s * np.logspace(-30, 0, 20_000) for s in (low, high)])
    both = np.concatenate([even, scales])
    return both[(both >= low) & (both <= high)].astype(NUMPY[dtype])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_is_a_few_units(name, dtype):
    reference, interval, *most = FUNCTIONS[name]
    x = points(interval, dtype)
    wide = np.float64 if name == "erf" else LONG
    error = ulps(apply(name, dtype, x), reference(x.astype(wide)).astype(LONG))
    worst = int(np.argmax(error))
    allowed = most[FLOATS.index(dtype)] + (0.5 if wide is np.float64 and dtype == "f64" else 0.01)
    assert error[worst] <= allowed, f"{name}({x[worst]!r}) is off by {error[worst]:.2f} ulp"


@pytest.mark.parametrize(("dtype", "most"), [("f32", 1), ("f64", 2)])
def test_powers(dtype, most):
    random = np.random.default_rng(0)
    x = np.exp(random.uniform(-20, 20, 50_000)).astype(NUMPY[dtype])
    y = random.uniform(-4, 4, 50_000).astype(NUMPY[dtype])
    error = ulps(apply("pow", dtype, x, y), np.power(x.astype(LONG), y.astype(LONG)))
    assert error.max() <= most


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name, dtype):
    kind = NUMPY[dtype]
    tiny, small = np.finfo(kind).tiny, np.nextafter(kind(0), kind(1))
    values = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        math.inf,
        -math.inf,
        math.nan,
        tiny,
        -tiny,
        small,
        -small,
        1e3,
        -1e3,
    ]
    x = np.array(
        [*values, np.finfo(kind).max, np.finfo(kind).min, 88.8, -103.5, 709.9, -745.0], kind
    )
    if name in ("sin", "cos"):
        x = x[~(np.abs(x) > 1e6) | ~np.isfinite(x)]  # large angles: the next test
    wide = np.float64 if name == "erf" else LONG
    exact = FUNCTIONS[name][0](x.astype(wide)).astype(kind)
    result = apply(name, dtype, x)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(exact))
    np.testing.assert_array_max_ulp(result[~np.isnan(exact)], exact[~np.isnan(exact)], 2)
    zero = exact == 0
    np.testing.assert_array_equal(np.signbit(result[zero]), np.signbit(exact[zero]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["tanh", "erf", "sigmoid"])
def test_no_value_above_one(name, dtype):
    y = apply(name, dtype, np.linspace(-40, 40, 400_001).astype(NUMPY[dtype]))
    assert np.abs(y).max() == 1 and y[-1] == 1
    if dtype == "f32":
        assert (np.diff(y) >= 0).all()


@pytest.mark.parametrize("name", ["exp", "expm1", "tanh", "erf", "sigmoid", "log"])
def test_nan_of_any_bits_stays_nan(name):
    """The exponent is added to bits, those of nan included."""
    bits = np.array([0x7F800001, 0x7FC00001, 0x7FC00180, 0x7FFFFFFF, 0xFFC01234], np.uint32)
    assert np.isnan(apply(name, "f32", np.resize(bits, 50).view(np.float32))).all()


@pytest.mark.parametrize(("dtype", "largest"), [("f32", 3e38), ("f64", 1e14)])
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_large_angles(name, dtype, largest):
    x = np.geomspace(1.0, largest, 2001).astype(NUMPY[dtype])
    exact = getattr(math, name)
    expected = np.array([exact(float(v)) for v in x])
    tolerance = 2e-7 if dtype == "f32" else 4e-16
    np.testing.assert_allclose(apply(name, dtype, x), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_doubles_too_large_for_an_angle_give_nan(name):
    assert np.isnan(apply(name, "f64", np.array([2.0**50, -1e300]))).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_powers(dtype):
    values = [
        0.0,
        -0.0,
        0.5,
        -0.5,
        1.0,
        -1.0,
        2.0,
        -2.0,
        3.0,
        -3.0,
        1e30,
        math.inf,
        -math.inf,
        math.nan,
    ]
    x, y = (a.ravel().astype(NUMPY[dtype]) for a in np.meshgrid(values, values))
    exact, result = exact_pow(x, y), apply("pow", dtype, x, y)
    np.testing.assert_allclose(result, exact, rtol=1e-6 if dtype == "f32" else 1e-14)
    np.testing.assert_array_equal(np.signbit(result[exact == 0]), np.signbit(exact[exact == 0]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*FUNCTIONS, "pow"])
def test_targets_agree_bit_for_bit(name, dtype, tmp_path):
    values = np.concatenate(
        [np.linspace(-9, 9, 37), [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-40]]
    )
    x = values.astype(NUMPY[dtype])
    arguments = [np.zeros_like(x), x, x[::-1].copy()][: 3 if name == "pow" else 2]
    results = run_everywhere(kernel(name, dtype, x.size, name == "pow"), arguments, tmp_path)
    for target, (out, *_) in results.items():
        np.testing.assert_array_equal(out, results["interpreter"][0], err_msg=target)


@pytest.mark.parametrize(
    ("features", "bits", "lanes"),
    [
        ("+avx512f,+avx512vl,+avx512dq,+fma", 512, "<16 x float>"),
        ("+avx2,+fma", None, "<8 x float>"),
    ],
)
@pytest.mark.parametrize("name", ["exp", "log", "tanh", "erf", "sin", "sigmoid"])
def test_loops_become_vector_code(name, features, bits, lanes):
    llvm = pytest.importorskip("llvmlite.binding", reason="llvmlite is not installed")
    if "x86_64" not in llvm.get_default_triple():
        pytest.skip("the features are those of x86")
    text = render_llvm(compiled(kernel(name, "f32", 4096)), vector_bits=bits)
    (optimised, _), _ = compile_llvm(llvm, text, features)
    assert re.search(rf"call {lanes} @llvm\.fma", optimised), f"no {lanes} in {name}"


def test_interpreter_reads_no_further_than_the_array():
    with pytest.raises(IndexError, match="expects an index below 3 of parameter 1, got 3"):
        interpret(linearize(kernel("exp", "f32", 4)), [np.zeros(4, "f"), np.zeros(3, "f")])
