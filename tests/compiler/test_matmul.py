"""Matrix products as stages, against NumPy in float64: layouts, batches, types, epilogues, what
lies around the result.
"""

import ctypes

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

import lampion
from lampion.compiler.kernels.matmul import matmul_calls
from lampion.compiler.native import runtime, stages
from lampion.compiler.native.emit import Module
from lampion.compiler.native.stages import Layout

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(autouse=True)
def threads_restored():
    before = lampion.get_num_threads()
    yield
    lampion.set_num_threads(before)


def product(a, b, out, **options):
    """Runs the template on arrays."""
    bias = options.pop("bias", None)
    layouts = [Layout.of(x) for x in (a, b, out)]
    calls = matmul_calls(*layouts, bias=None if bias is None else Layout.of(bias), **options)
    arrays = [a, b, *([] if bias is None else [bias]), out]
    stages.run(calls, [x.ctypes.data for x in arrays])
    return out


def agree(found, a, b, before=0):
    a, b = a.astype(np.float64), b.astype(np.float64)
    unit = 2.0**-8 if found.dtype == BFLOAT16 else np.finfo(found.dtype).eps
    size = np.abs(a) @ np.abs(b) + np.abs(before)
    error = np.abs(found.astype(np.float64) - (a @ b + before))
    assert (error <= unit * (8 + a.shape[-1] ** 0.5) * size + 1e-30).all()


def framed(shape, dtype, order):
    """An array inside a larger one of sevens, and the larger one."""
    inner = [n + 4 for n in shape]
    if order == "columns":
        frame = np.full([*inner[:-2], inner[-1], inner[-2]], 7, dtype).swapaxes(-1, -2)
    elif order == "apart":
        frame = np.full([*inner[:-1], 2 * inner[-1]], 7, dtype)[..., ::2]
    else:
        frame = np.full(inner, 7, dtype)
    return frame[tuple(slice(2, 2 + n) for n in shape)], frame


SHAPES = [
    ((3, 4), (4, 5)), ((37, 53), (53, 71)), ((64, 300), (300, 10)), ((1, 40), (40, 33)),
    ((2, 9, 17), (17, 20)), ((5, 1, 6, 7), (3, 7, 8)), ((4, 1, 33), (4, 33, 50)),
    ((2, 3, 2, 2, 3, 5, 6), (3, 1, 2, 1, 6, 4)), ((7, 0), (0, 3)), ((0, 4), (4, 3)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64, BFLOAT16])
@pytest.mark.parametrize("order", ["rows", "columns", "apart"])
def test_layouts_batches_and_types(dtype, order):
    rng = np.random.default_rng(0)
    for first, second in SHAPES:
        for flips in range(4):
            a = rng.standard_normal(first).astype(dtype)
            b = rng.standard_normal(second).astype(dtype)
            if flips & 1:
                a = np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)
            if flips & 2:
                b = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)
            lead = np.broadcast_shapes(first[:-2], second[:-2])
            out, frame = framed((*lead, first[-2], second[-1]), dtype, order)
            agree(product(a, b, out), a, b)
            out[...] = 7
            assert (frame == 7).all()


def test_heads_are_read_in_place():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 20, 4, 8), np.float32).transpose(0, 2, 1, 3)  # (B, H, T, D)
    y = rng.standard_normal((3, 20, 4, 8), np.float32).transpose(0, 2, 3, 1)  # (B, H, D, T)
    agree(product(x, y, np.empty((3, 4, 20, 20), np.float32)), x, y)
    out = np.empty((3, 20, 4, 20), np.float32).transpose(0, 2, 1, 3)
    agree(product(x, y, out), x, y)


@pytest.mark.parametrize("order", ["rows", "columns"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, BFLOAT16])
def test_factor_bias_sum_and_relu(dtype, order):
    rng = np.random.default_rng(2)
    sums = np.float64 if dtype == np.float64 else np.float32
    for m, k, n in ((5, 7, 9), (70, 400, 130)):
        a, b = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (k, n)))
        bias = rng.standard_normal(n).astype(sums)
        out, _ = framed((m, n), dtype, order)
        out[...] = before = rng.standard_normal((m, n)).astype(dtype)
        product(a, b, out, bias=bias, alpha=-0.5, accumulate=True)
        agree(out, a * dtype(-0.5) if dtype != BFLOAT16 else -0.5 * a.astype("f4"), b,
              before.astype("d") + bias)  # fmt: skip
        product(a, b, out, bias=bias, relu=True)
        expected = np.maximum(a.astype("d") @ b.astype("d") + bias, 0)
        assert np.allclose(out.astype("d"), expected, atol=0.3 if dtype == BFLOAT16 else 1e-3)


def test_the_epilogue_sees_every_part_once():
    module = Module()
    f = module.function(
        "mark", job="ptr", batch="i64", row0="i64", row1="i64", col0="i64", col1="i64"
    )
    rows, columns = (f.load("i64", f["job"], i) for i in (1, 2))
    base = f.load("ptr", f["job"])
    with f.loop(f["row0"], f["row1"]) as i:
        with f.loop(f["col0"], f["col1"]) as j:
            index = (f["batch"] * rows + i) * columns + j
            f.store(f.load("float", base, index) * 2.0 + 1.0, base, index)
    f.ret()
    code = runtime.load(module.text())
    rng = np.random.default_rng(3)
    for shape, other in (((3, 5), (5, 4)), ((6, 100, 30), (30, 70)), ((700, 80), (80, 900))):
        a, b = rng.standard_normal(shape, np.float32), rng.standard_normal(other, np.float32)
        out = np.empty((*shape[:-1], other[-1]), np.float32)
        job = (ctypes.c_int64 * 3)(out.ctypes.data, *out.shape[-2:])
        calls = matmul_calls(*map(Layout.of, (a, b, out)), epilogue=True)
        operands = [x.ctypes.data for x in (a, b, out)]
        stages.run(calls, [*operands, code.address("mark"), ctypes.addressof(job)])
        expected = 2 * (a.astype("d") @ b) + 1
        np.testing.assert_allclose(out, expected, atol=1e-3)


def test_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(4)
    for first, second in (((300, 400), (400, 500)), ((40, 64, 32), (40, 32, 64))):
        a, b = rng.standard_normal(first, np.float32), rng.standard_normal(second, np.float32)
        shape = (*first[:-1], second[-1])
        results = []
        for threads in (1, 2, 3):
            lampion.set_num_threads(threads)
            results.append(product(a, b, np.empty(shape, np.float32)))
        assert all((r == results[0]).all() for r in results)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((2, 3), (4, 5), (2, 5)), r"\(M, N\), got \(2, 3\)|\(2, 3\), \(4, 5\)"),
        (((2, 3), (3, 5), (2, 4)), r"\(2, 3\), \(3, 5\) and \(2, 4\)"),
        (((2, 2, 3), (3, 5), (3, 2, 5)), r"broadcast to \(3,\)"),
    ],
)
def test_layouts_that_do_not_fit(shapes, words):
    with pytest.raises(ValueError, match=words):
        matmul_calls(*(Layout(s, (1,) * len(s), "float32") for s in shapes))
    with pytest.raises(ValueError, match="convert"):
        matmul_calls(*(Layout((2, 2), (2, 1), "int64") for _ in range(3)))


def numbers(rng, *shape):
    return lampion.tensor(rng.standard_normal(shape).astype(np.float32), requires_grad=True)


PAIRS = [
    ((100, 784), (784, 90)), ((6, 50, 70), (70, 40)), ((6, 1, 50, 40), (5, 40, 30)),
    ((4, 90), (90, 500)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", PAIRS)
def test_eager_products_and_their_gradients(shapes):
    rng = np.random.default_rng(5)
    a, b = (numbers(rng, *shape) for shape in shapes)
    y = a @ b
    g = rng.standard_normal(y.shape).astype(np.float32)
    y.backward(lampion.tensor(g))
    x, w = (t.detach().numpy().astype(np.float64) for t in (a, b))
    agree(y.detach().numpy(), x, w)
    of_a, of_b = g @ w.swapaxes(-1, -2), x.swapaxes(-1, -2) @ g
    for found, full in ((a.grad.numpy(), of_a), (b.grad.numpy(), of_b)):
        extra = full.ndim - found.ndim
        full = full.sum(tuple(range(extra)))
        ones = tuple(i for i, n in enumerate(found.shape) if n == 1 != full.shape[i])
        np.testing.assert_allclose(found, full.sum(ones, keepdims=True), atol=2e-3)


def test_eager_linear_with_a_bias():
    rng = np.random.default_rng(6)
    x, w, b = numbers(rng, 3, 40, 100), numbers(rng, 30, 100), numbers(rng, 30)
    y = lampion.nn.functional.linear(x, w, b)
    y.sum().backward()
    a, c = x.detach().numpy().astype("d"), w.detach().numpy().astype("d")
    np.testing.assert_allclose(y.detach().numpy(), a @ c.T + b.detach().numpy(), atol=1e-4)
    np.testing.assert_allclose(b.grad.numpy(), np.full(30, 120), rtol=1e-6)
    expected = np.broadcast_to(a.sum((0, 1)), (30, 100))
    np.testing.assert_allclose(w.grad.numpy(), expected, atol=1e-3)
    column = lampion.tensor(rng.standard_normal((30, 2)).astype(np.float32))[:, 0]
    y = lampion.nn.functional.linear(x, w, column)  # a bias whose elements are apart
    np.testing.assert_allclose(y.detach().numpy(), a @ c.T + column.numpy(), atol=1e-4)


def test_sizes_that_differ_raise_as_ever():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        lampion.ones(100, 100) @ lampion.ones(90, 100)
