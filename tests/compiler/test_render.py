"""Random programs give the same on every target, and what NumPy gives; vector code; masks."""

import re

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lampion.compiler.ir import mathematics
from lampion.compiler.ir.node import (
    NUMPY,
    constant,
    fma,
    loop,
    loop_range,
    parameter,
    program,
    reduce,
    store,
    where,
)
from lampion.compiler.ir.render_cuda import render_cuda
from lampion.compiler.ir.render_llvm import render_llvm
from tests.compiler.targets import compile_llvm, compiled, run_everywhere, run_llvm

few = settings(max_examples=12)  # each example runs gcc and LLVM


def readable(array):
    """bfloat16, whose nan NumPy's comparisons do not know, as float32; all else as it is."""
    two_bytes = isinstance(array, np.ndarray) and array.dtype == ml_dtypes.bfloat16
    return array.astype("f") if two_bytes else array


def assert_same_everywhere(root, arguments, folder):
    """Runs on all targets, which must agree bit for bit; the arguments afterwards."""
    results = run_everywhere(root, arguments, folder)
    first = results["interpreter"]
    for target, arrays in results.items():
        for mine, its in zip(map(readable, first), map(readable, arrays), strict=True):
            np.testing.assert_array_equal(its, mine, err_msg=target)
            if isinstance(mine, np.ndarray) and mine.dtype.kind == "f":
                number = ~np.isnan(mine)  # the sign of nan is free
                np.testing.assert_array_equal(
                    np.signbit(its)[number], np.signbit(mine)[number], err_msg=target
                )
    return first


# A step of a random elementwise chain: its nodes and its NumPy.
FLOAT_STEPS = {
    "add": (lambda x, y: x + y, np.add),
    "sub": (lambda x, y: x - y, np.subtract),
    "mul": (lambda x, y: x * y, np.multiply),
    "div": (lambda x, y: x / y, np.divide),
    "max": (lambda x, y: x.max(y), np.maximum),
    "min": (lambda x, y: x.min(y), np.minimum),
    "neg": (lambda x, y: -x, lambda x, y: -x),
    "abs": (lambda x, y: abs(x), lambda x, y: np.abs(x)),
    "sqrt": (lambda x, y: abs(x).unary("sqrt"), lambda x, y: np.sqrt(np.abs(x))),
    "floor": (lambda x, y: x.unary("floor"), lambda x, y: np.floor(x)),
    "round": (lambda x, y: x.unary("round"), lambda x, y: np.rint(x)),
    "trunc": (lambda x, y: x.unary("trunc"), lambda x, y: np.trunc(x)),
    "ceil": (lambda x, y: x.unary("ceil"), lambda x, y: np.ceil(x)),
    "identities": (lambda x, y: (x * 1.0 + -0.0) / 4.0, lambda x, y: x / x.dtype.type(4)),
    "where": (lambda x, y: where(x < y, x, y * 2.0), lambda x, y: np.where(x < y, x, y + y)),
    "relu": (lambda x, y: where(x > 0.0, x, x * 0.0), lambda x, y: np.where(x > 0, x, x * 0)),
    "integer": (
        lambda x, y: x.cast("i64").cast(x.dtype),
        lambda x, y: to_integers(x, np.int64).astype(x.dtype),
    ),
    "bf16": (
        lambda x, y: x.cast("f32").cast("bf16").cast("f32").cast(x.dtype),
        lambda x, y: x.astype("f").astype(ml_dtypes.bfloat16).astype(x.dtype),
    ),
    "f16": (
        lambda x, y: x.cast("f32").cast("f16").cast("f32").cast(x.dtype),
        lambda x, y: x.astype("f").astype(np.float16).astype(x.dtype),
    ),
    "bool": (lambda x, y: x.cast("bool").cast(x.dtype), lambda x, y: (x != 0).astype(x.dtype)),
}
INTEGER_STEPS = {
    "add": FLOAT_STEPS["add"],
    "sub": FLOAT_STEPS["sub"],
    "mul": FLOAT_STEPS["mul"],
    "max": FLOAT_STEPS["max"],
    "min": FLOAT_STEPS["min"],
    "neg": FLOAT_STEPS["neg"],
    "abs": FLOAT_STEPS["abs"],
    "and": (lambda x, y: x & y, np.bitwise_and),
    "or": (lambda x, y: x | y, np.bitwise_or),
    "xor": (lambda x, y: x ^ y, np.bitwise_xor),
    "div": (lambda x, y: x // 7, lambda x, y: x // 7),
    "mod": (lambda x, y: x % 7, lambda x, y: x % 7),
    "shl": (lambda x, y: x << 3, lambda x, y: x << 3),
    "shr": (lambda x, y: x >> 2, lambda x, y: x >> 2),
    "where": (lambda x, y: where(x <= y, x * 5, y), lambda x, y: np.where(x <= y, x * 5, y)),
    "affine": (lambda x, y: (x * 6 + y * 4 + x) * 2 - 3, lambda x, y: x * 14 + y * 8 - 3),
    "equal": (lambda x, y: x.equals(y).cast(x.dtype), lambda x, y: (x == y).astype(x.dtype)),
    "float": (
        lambda x, y: x.cast("f32").cast(x.dtype),
        lambda x, y: to_integers(x.astype("f"), x.dtype.type),
    ),
}


def to_integers(x, kind):
    """Toward zero; what is out of range becomes the smallest integer."""
    low, high = float(np.iinfo(kind).min), -float(np.iinfo(kind).min)
    inside = (np.trunc(x) >= low) & (np.trunc(x) < high)
    return np.where(inside, np.where(inside, x, 0).astype(kind), np.iinfo(kind).min)


SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.5,
    -3.5,
    np.inf,
    -np.inf,
    np.nan,
    1e-40,
    3e38,
    -1e10,
    65520.0,
]


def values_of(dtype, shape, random):
    """Random numbers among special ones."""
    kind = NUMPY[dtype]
    if dtype in ("i32", "i64"):
        info = np.iinfo(kind)
        x = random.integers(-50, 50, shape).astype(kind)
        return np.where(
            random.random(shape) < 0.2, random.choice([info.min, info.max], shape), x
        ).astype(kind)
    x = (random.standard_normal(shape) * 10).astype(kind)
    return np.where(random.random(shape) < 0.3, random.choice(SPECIAL, shape), x).astype(kind)


@st.composite
def chains(draw):
    """(dtype, shape, broadcast axes of the second input, steps, seed)."""
    dtype = draw(st.sampled_from(["f32", "f64", "i32", "i64"]))
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    spread = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    table = FLOAT_STEPS if dtype[0] == "f" else INTEGER_STEPS
    steps = draw(st.lists(st.sampled_from(sorted(table)), min_size=1, max_size=6))
    return dtype, shape, spread, [table[s] for s in steps], draw(st.integers(0, 1000))


def flat_index(shape, ranges, spread):
    """The index into a contiguous array that is broadcast along some axes: stride 0 there."""
    index, stride = constant(0, "i64"), 1
    for size, range_, broadcast in reversed(list(zip(shape, ranges, spread, strict=True))):
        index = index + range_ * (0 if broadcast else stride)
        stride *= 1 if broadcast else size
    return index


@few
@given(chains())
def test_elementwise_chains_with_broadcasting(tmp_path_factory, chain):
    dtype, shape, spread, steps, seed = chain
    random = np.random.default_rng(seed)
    inner = [1 if b else n for n, b in zip(shape, spread, strict=True)]
    a, b = values_of(dtype, shape, random), values_of(dtype, inner, random)
    ranges = [loop_range(0, n, k) for k, n in enumerate(shape)]
    out, pa, pb = (parameter(k, f"*{dtype}") for k in range(3))
    here = flat_index(shape, ranges, [False] * len(shape))
    x, y = pa.load(here), pb.load(flat_index(shape, ranges, spread))
    expected, second = a, np.broadcast_to(b, shape)
    for step, numpy in steps:
        x, expected = step(x, y), numpy(expected, second)
    statement = store(out, here, x)
    for range_ in reversed(ranges):
        statement = loop(range_, statement)
    arguments = [np.zeros(a.size, a.dtype), a.ravel(), b.ravel()]
    root = program("chain", [f"*{dtype}"] * 3, statement)
    result, *_ = assert_same_everywhere(root, arguments, tmp_path_factory.mktemp("chain"))
    np.testing.assert_array_equal(result.reshape(shape), expected)


@few
@given(
    st.sampled_from(["f32", "f64", "i32", "i64"]),
    st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 4)),
    st.sets(st.integers(0, 2), min_size=1),
    st.sampled_from(["add", "mul", "max", "min"]),
    st.sampled_from(["exact", "reassoc"]),
)
def test_reductions_over_axes(tmp_path_factory, dtype, shape, axes, kind, order):
    x = np.random.default_rng(0).integers(-3, 4, shape).astype(NUMPY[dtype])  # exact in any order
    ranges = [loop_range(0, n, k) for k, n in enumerate(shape)]
    kept = [r for k, r in enumerate(ranges) if k not in axes]
    out, source = parameter(0, f"*{dtype}"), parameter(1, f"*{dtype}")
    value = source.load(flat_index(shape, ranges, [False] * 3)) * 2
    total = reduce(value, [ranges[k] for k in sorted(axes)], kind, order)
    sizes = [n for k, n in enumerate(shape) if k not in axes]
    statement = store(out, flat_index(sizes, kept, [False] * len(kept)), total)
    for range_ in reversed(kept):
        statement = loop(range_, statement)
    root = program("reduction", [f"*{dtype}"] * 2, statement)
    arguments = [np.zeros(int(np.prod(sizes)), x.dtype), x.ravel()]
    result, _ = assert_same_everywhere(root, arguments, tmp_path_factory.mktemp("reduction"))
    numpy = {"add": np.sum, "mul": np.prod, "max": np.max, "min": np.min}[kind]
    expected = numpy(x * x.dtype.type(2), axis=tuple(axes))
    np.testing.assert_array_equal(result.reshape(sizes), expected.astype(x.dtype))


@few
@given(st.integers(1, 9), st.integers(-4, 4), st.integers(1, 7))
def test_masks_keep_accesses_inside(tmp_path_factory, size, shift, rows):
    """A padded shift: out[i] = x[i + shift] inside, -1 outside; only even places are written."""
    i = loop_range(0, size * rows, 0)
    out, source = parameter(0, "*f32"), parameter(1, "*f32")
    at = i % size + shift
    inside = (at >= 0) & (at < size)
    value = source.load(at, inside, constant(-1.0, "f32"))
    root = program("shift", ["*f32"] * 2, loop(i, store(out, i, value, (i % 2).equals(0))))
    x = np.arange(1, size + 1, dtype="f")
    arguments = [np.zeros(size * rows, "f"), x]
    result, _ = assert_same_everywhere(root, arguments, tmp_path_factory.mktemp("masks"))
    for k, found in enumerate(result):
        j = k % size + shift
        assert found == (0 if k % 2 else x[j] if 0 <= j < size else -1)


def test_softmax_rows(tmp_path):
    """Three sweeps over each row; the values of a row are made once, outside the sweeps."""
    rows, columns = 4, 19
    i = loop_range(0, rows, 0, "grid")
    a, b, c = (loop_range(0, columns, k) for k in (1, 2, 3))
    out, x = parameter(0, "*f32"), parameter(1, "*f32")
    largest = reduce(x.load(i * columns + a), [a], "max")
    total = reduce(mathematics.exp(x.load(i * columns + b) - largest), [b], "add")
    value = mathematics.exp(x.load(i * columns + c) - largest) / total
    root = program("softmax", ["*f32"] * 2, loop(i, loop(c, store(out, i * columns + c, value))))
    data = np.random.default_rng(0).standard_normal((rows, columns)).astype("f")
    arguments = [np.zeros(data.size, "f"), data.ravel()]
    result, _ = assert_same_everywhere(root, arguments, tmp_path)
    e = np.exp(data - data.max(1, keepdims=True))
    np.testing.assert_allclose(result.reshape(data.shape), e / e.sum(1, keepdims=True), rtol=1e-6)


def test_updates_in_place_and_numbers_as_parameters(tmp_path):
    """An optimizer's step: two arrays change in one loop between the caller's bounds."""
    p, m, g, rate = (parameter(k, t) for k, t in enumerate(["*f32", "*f32", "*bf16", "f32"]))
    i = loop_range(parameter(4, "i64"), parameter(5, "i64"), 0, "vector")
    momentum = fma(m.load(i), constant(0.9, "f32"), g.load(i).cast("f32"))
    root = program(
        "step",
        ["*f32", "*f32", "*bf16", "f32", "i64", "i64"],
        loop(i, store(m, i, momentum), store(p, i, p.load(i) - rate * momentum)),
    )
    weights, buffer = np.arange(8, dtype="f"), np.ones(8, "f")
    gradient = np.linspace(-1, 1, 8).astype(ml_dtypes.bfloat16)
    arguments = [weights, buffer, gradient, 0.5, 2, 7]
    new, momenta, *_ = assert_same_everywhere(root, arguments, tmp_path)
    expected = buffer * np.float32(0.9) + gradient.astype("f")
    np.testing.assert_allclose(momenta[2:7], expected[2:7], rtol=1e-6)
    np.testing.assert_allclose(new[2:7], (weights - 0.5 * expected)[2:7], rtol=1e-6)
    np.testing.assert_array_equal(new[[0, 1, 7]], weights[[0, 1, 7]])


@pytest.mark.parametrize("steps", [0, 2])
def test_statements_run_in_order_and_loops_may_be_empty(steps, tmp_path):
    """A second nest reads what the first wrote; a sum over nothing is 0, a maximum -inf."""
    out, x = parameter(0, "*f64"), parameter(1, "*f64")
    i, j = loop_range(0, 4, 0), loop_range(0, parameter(2, "i64"), 1)
    total, largest = (reduce(x.load(i * 2 + j), [j], kind) for kind in ("add", "max"))
    after = loop(i, store(out, i + 4, largest + out.load(i)))
    root = program("order", ["*f64", "*f64", "i64"], loop(i, store(out, i, total)), after)
    arguments = [np.zeros(8), np.arange(8.0), steps]
    result, *_ = assert_same_everywhere(root, arguments, tmp_path)
    expected = [1, 5, 9, 13, 2, 8, 14, 20] if steps else [0.0] * 4 + [-np.inf] * 4
    assert result.tolist() == expected


def test_a_reduction_of_reductions(tmp_path):
    """max over rows of the square of their sums."""
    out, x = parameter(0, "*f64"), parameter(1, "*f64")
    a, b = loop_range(0, 3, 0), loop_range(0, 4, 1)
    row, zero = reduce(x.load(a * 4 + b), [b], "add"), constant(0, "i64")
    root = program("norm", ["*f64"] * 2, store(out, zero, reduce(row * row, [a], "max")))
    result, _ = assert_same_everywhere(root, [np.zeros(1), np.arange(12.0)], tmp_path)
    assert result[0] == (8 + 9 + 10 + 11) ** 2


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_half_precision_in_memory(dtype, tmp_path):
    """y = 3 x in f32, loaded and stored in two bytes, rounded to nearest even."""
    i = loop_range(0, 64, 0)
    out, x = parameter(0, f"*{dtype}"), parameter(1, f"*{dtype}")
    value = x.load(i).cast("f32") * 3.0
    root = program("triple", [f"*{dtype}"] * 2, loop(i, store(out, i, value.cast(dtype))))
    x = values_of("f32", 64, np.random.default_rng(0)).astype(NUMPY[dtype])
    result, _ = assert_same_everywhere(root, [np.zeros_like(x), x], tmp_path)
    expected = (x.astype("f") * np.float32(3)).astype(x.dtype)
    np.testing.assert_array_equal(readable(result), readable(expected))


@pytest.mark.parametrize("kind", ["max", "min"])
def test_truth_values(kind, tmp_path):
    """any and all, stored as bytes."""
    i = loop_range(0, 6, 0)
    out, x = parameter(0, "*bool"), parameter(1, "*bool")
    negated = x.load(i) ^ True
    root = program(
        "truth",
        ["*bool"] * 2,
        loop(i, store(out, i, negated | x.load(0 * i))),
        store(
            out,
            constant(6, "i64"),
            reduce(x.load(loop_range(0, 6, 1)), [loop_range(0, 6, 1)], kind),
        ),
    )
    x = np.array([False, True, True, False, True, True])
    result, _ = assert_same_everywhere(root, [np.zeros(7, bool), x], tmp_path)
    assert result.tolist() == [*(~x).tolist(), kind == "max"]


def test_rows_do_not_depend_on_how_a_grid_loop_is_split():
    """A runtime hands parts of the rows to threads: the bits stay the same."""
    out, x = parameter(0, "*f32"), parameter(1, "*f32")
    i = loop_range(parameter(2, "i64"), parameter(3, "i64"), 0, "grid")
    j = loop_range(0, 1001, 1)
    total = reduce(mathematics.exp(x.load(i * 1001 + j)), [j], "add", "reassoc")
    flat = compiled(program("rows", ["*f32", "*f32", "i64", "i64"], loop(i, store(out, i, total))))
    data = np.random.default_rng(0).standard_normal(8 * 1001).astype("f")
    whole, parts = np.zeros(8, "f"), np.zeros(8, "f")
    run_llvm(flat, [whole, data, 0, 8])
    for start, stop in ((0, 1), (1, 6), (6, 6), (6, 8)):
        run_llvm(flat, [parts, data, start, stop])
    assert whole.tobytes() == parts.tobytes()
    exact = np.exp(data.reshape(8, -1).astype("d")).sum(1)
    np.testing.assert_allclose(whole, exact, rtol=1e-6)


@pytest.mark.parametrize("order", ["exact", "reassoc"])
def test_only_reassoc_reductions_become_lanes(order):
    """A sum in exact order cannot be vectorised, one with `reassoc` must be."""
    llvm = pytest.importorskip("llvmlite.binding", reason="llvmlite is not installed")
    if "x86_64" not in llvm.get_default_triple():
        pytest.skip("the features are those of x86")
    i = loop_range(0, 4096, 0)
    out, x = parameter(0, "*f32"), parameter(1, "*f32")
    total = reduce(x.load(i), [i], "add", order)
    root = program("sum", ["*f32"] * 2, store(out, constant(0, "i64"), total))
    (optimised, _), _ = compile_llvm(llvm, render_llvm(compiled(root)), "+avx2,+fma")
    assert bool(re.search(r"fadd reassoc <8 x float>", optimised)) == (order == "reassoc")


def test_a_grid_loop_is_spread_over_threads():
    i = loop_range(0, 100, 0, "grid")
    root = program("one", ["*f32"], loop(i, store(parameter(0, "*f32"), i, constant(1.0, "f32"))))
    text = render_cuda(compiled(root))
    assert 'extern "C" __global__ void one(float* __restrict__ p0)' in text
    assert "+ (long long)blockIdx.x * blockDim.x + threadIdx.x" in text
