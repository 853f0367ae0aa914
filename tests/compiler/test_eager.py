"""Large elementwise calls by compiled kernels against NumPy: formulas, layouts, special values,
gradients, bounds, threads.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import lampion
from lampion.compiler.ir import formula
from lampion.compiler.ir.node import loop, parameter, store
from lampion.compiler.kernels import elementwise as eager
from lampion.compiler.kernels.items import Kernel, Loops
from lampion.compiler.native import runtime
from lampion.core.op import OPS
from lampion.dtypes import FROM_NUMPY
from lampion.ops import large

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is not installed")

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
DEFAULTS = {  # of the operators' parameters
    "alpha": 1.5, "value": 0.75, "low": -0.5, "high": 0.5, "threshold": 0.25, "slope": 0.1,
    "width": 0.5, "scale": 1.25, "beta": 2.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def all_large(monkeypatch):
    monkeypatch.setattr(large.Least, "size", 1)


def numbers(rng, shape, dtype, special=True):
    x = rng.standard_normal(shape).astype(dtype)
    if special and x.size > 8:
        x.flat[:6] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0]
    return x


def close(a, b, dtype):
    tolerance = 2e-6 if dtype == F32 else 1e-14
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("name", sorted(large.EXACT))
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_kernels_agree_with_numpy(name, dtype):
    rng = np.random.default_rng(0)
    op = OPS[name]
    arrays = [numbers(rng, (5, 37), dtype) for _ in op.inputs]
    if name == "where":
        arrays[0] = arrays[0] > 0
    if len(arrays) > 1:
        arrays[-1] = rng.permutation(arrays[-1].ravel()).reshape(5, 37)
    params = {p: DEFAULTS[p] for p in op.parameters}
    made = eager.run(
        (op.formula,), op.inputs, arrays, params, (np.dtype(bool),)
        if name in large.COMPARISONS else (dtype,),
    )  # fmt: skip
    assert made is not None, "no kernel for the formula"
    wanted = op.kernel.small(*arrays, **params)
    close(made[0], wanted, dtype)
    assert made[0].dtype == wanted.dtype
    assert np.array_equal(op.kernel(*arrays, **params), made[0], equal_nan=True)


@pytest.mark.parametrize("name", sorted(n for n in large.EXACT if OPS[n].partials))
def test_gradients_agree_with_numpy(name, monkeypatch):
    rng = np.random.default_rng(1)
    op = OPS[name]
    plan = op.plans[(1 << len(op.inputs)) - 1]
    arrays = {n: np.abs(numbers(rng, (9, 33), F64, False)) + 0.1 for n in (*op.inputs, "y", "g")}
    saved = [arrays[n] if n in arrays else DEFAULTS[n] for n in plan.names]
    found = plan.raw(arrays["g"], *saved)
    monkeypatch.setattr(large.Least, "size", 1 << 60)
    for a, b in zip(found, plan.raw(arrays["g"], *saved), strict=True):
        close(a, b, F64)


def test_whole_gradients_through_tensors():
    x = lampion.randn(40, 50, dtype=lampion.float64, requires_grad=True)
    w = lampion.randn(50, dtype=lampion.float64, requires_grad=True)

    def loss(x, w):
        return (lampion.nn.functional.gelu(x * w + 1).tanh() / (1 + x.exp())).sum()

    loss(x, w).backward()
    step = 1e-6
    for t, at in ((x, (3, 4)), (w, (7,))):
        up, down = t.detach().clone(), t.detach().clone()
        up[at] += step
        down[at] -= step
        pair = [(p, w) if t is x else (x, p) for p in (up, down)]
        slope = (loss(*pair[0]) - loss(*pair[1])).item() / (2 * step)
        assert abs(slope - t.grad[at].item()) < 1e-6


LAYOUTS = [
    lambda x, y: (x, y),
    lambda x, y: (x, y[0]),
    lambda x, y: (x, y[:, :1]),
    lambda x, y: (x[::2], y[::2, ::-1]),
    lambda x, y: (x.T, y.T),
    lambda x, y: (x.T, y.T.copy()),
    lambda x, y: (x[:, :20], np.asarray(y[0, 7])),
    lambda x, y: (x.reshape(6, 4, 40), y[:6, None]),
    lambda x, y: (x.reshape(2, 3, 4, 40).transpose(0, 2, 1, 3), y.reshape(2, 4, 3, 40)),
    lambda x, y: (x[:, None], y[None]),
    lambda x, y: (x[:0], y[:0]),
    lambda x, y: (x[:0, ::2], y[:0, ::2]),
    lambda x, y: (x[:, :0].T, y[:, :0].T),
]


@pytest.mark.parametrize("make", LAYOUTS)
def test_layouts(make):
    rng = np.random.default_rng(2)
    a, b = make(numbers(rng, (24, 40), F32), numbers(rng, (24, 40), F32))
    for _ in range(2):  # the second call finds the plan of the first
        made = OPS["sub"].kernel(a, b)
        assert np.array_equal(made, a - b, equal_nan=True)
        assert made.strides == (a - b).strides


def test_in_place():
    x = lampion.ones(64, 65)
    x.add_(x).mul_(lampion.arange(65.0)).sub_(1)
    assert np.array_equal(x.numpy(), np.tile(2 * np.arange(65.0) - 1, (64, 1)))
    view = lampion.zeros(10, 64)
    view[:, 3:40].add_(2)
    assert view.sum().item() == 10 * 37 * 2


def test_overlap_is_read_before_it_is_written():
    base = np.arange(101, dtype=F32)
    t = lampion.from_numpy(base)
    t[1:].add_(t[:-1])
    assert np.array_equal(base[1:], np.arange(1, 101) + np.arange(100))


def test_nothing_is_written_out_of_bounds():
    def body(pointers, given, start, stop):
        i = Loops()(start, stop, "vector")
        return [loop(i, store(pointers[0], i, pointers[1].load(i) + 1.0))]

    kernel = Kernel("canary", ["f32", "f32"], [], body)
    for size in (1, 15, 16, 17, 100, 40_000):
        memory = np.full(size + 128, -7.0, np.float32)
        kernel([memory[64 : 64 + size], np.ones(size, np.float32)], [], size, 1)
        assert (memory[64 : 64 + size] == 2).all()
        assert (memory[:64] == -7).all() and (memory[64 + size :] == -7).all()


def test_the_same_bits_for_any_number_of_threads():
    x = numbers(np.random.default_rng(3), (300, 400), F32)
    before = lampion.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 3):
            lampion.set_num_threads(threads)
            results.append([OPS[n].kernel(x).tobytes() for n in ("gelu", "tanh", "sigmoid")])
        assert results[0] == results[1] == results[2]
    finally:
        lampion.set_num_threads(before)


def test_formulas_without_nodes_are_refused():
    x = parameter(0, "f32")
    assert formula.expression("1 + 2", {}) == 3
    for text in ("digamma(x)", "x ** 2", "unknown + x", "x if x else x"):
        with pytest.raises(formula.Unsupported):
            formula.expression(text, {"x": x})


def test_other_types_are_left_to_numpy():
    for x in (np.arange(100), np.ones(100, np.float16), np.ones(100, np.complex64)):
        assert np.array_equal(OPS["add"].kernel(x, x), x + x)
    assert np.array_equal(OPS["add"].kernel(np.ones(9, F32), np.ones(9, F64)), np.full(9, 2.0))
    with pytest.raises(ValueError, match="broadcast"):
        OPS["add"].kernel(np.ones((3, 4), F32), np.ones((3, 5), F32))


def test_copies_of_views():
    x = np.arange(2 * 30 * 4 * 32, dtype=F32).reshape(2, 30, 4, 32)
    t = lampion.from_numpy(x)
    moved = t.transpose(1, 2)
    assert np.array_equal(moved.contiguous().numpy(), x.transpose(0, 2, 1, 3))
    flat = moved.reshape(2, 4, -1)
    assert np.array_equal(flat.numpy(), x.transpose(0, 2, 1, 3).reshape(2, 4, -1))
    assert flat.is_contiguous() and moved.contiguous().is_contiguous()
    assert np.array_equal(t[..., ::2].clone().numpy(), x[..., ::2])
    assert t.reshape(60, -1).data_ptr() == t.data_ptr()


@pytest.mark.parametrize("shape", [(37, 50), (3, 33, 40), (100, 16), (2, 16, 17), (5, 4, 3)])
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_transposed_copies(shape, dtype):
    x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    for view in (x.swapaxes(-1, -2), x.T, x[..., 1:].swapaxes(-1, -2)):
        found = eager.copy_rows(view)
        if found is not None:
            assert np.array_equal(found, view) and found.flags.c_contiguous
    assert (eager.copy_rows(x.swapaxes(-1, -2)) is not None) == (min(shape[-2:]) >= 16)


ODD = {
    "rows": lambda x: x,
    "transposed": lambda x: x.T,
    "strided": lambda x: x[:, ::2],
    "every second row": lambda x: x[::2],
    "part": lambda x: x[1:, 3:],
    "number": lambda x: x[0, 0],
    "empty": lambda x: x[:0],
}
PAIRS = {  # what tensors do, and the same in NumPy; both get x, another and a mask
    "clamp": (lambda x, y, m: x.clamp(-0.5, 0.5), lambda x, y, m: np.clip(x, -0.5, 0.5)),
    "clamp_min": (lambda x, y, m: x.clamp(min=0), lambda x, y, m: np.maximum(x, 0)),
    "clamp_max": (lambda x, y, m: x.clamp(max=y), lambda x, y, m: np.minimum(x, y)),
    "masked_fill": (lambda x, y, m: x.masked_fill(m, 3), lambda x, y, m: np.where(m, 3, x)),
    "where": (lambda x, y, m: lampion.where(m, x, y), lambda x, y, m: np.where(m, x, y)),
    "scaled": (lambda x, y, m: x.add(y, alpha=-0.5), lambda x, y, m: x - 0.5 * y),
}
IN_PLACE = {
    "add_": (lambda t, u: t.add_(u), lambda x, y: x + y),
    "scaled add_": (lambda t, u: t.add_(u, alpha=0.25), lambda x, y: x + 0.25 * y),
    "scaled sub_": (lambda t, u: t.sub_(u, alpha=3), lambda x, y: x - 3 * y),
    "mul_": (lambda t, u: t.mul_(0.5), lambda x, y: x * 0.5),
    "relu_": (lambda t, u: t.relu_(), lambda x, y: np.maximum(x, 0)),
    "abs_": (lambda t, u: t.abs_(), lambda x, y: np.abs(x)),
    "fill_": (lambda t, u: t.fill_(1.5), lambda x, y: np.full_like(x, 1.5)),
    "zero_": (lambda t, u: t.zero_(), lambda x, y: np.zeros_like(x)),
    "copy_": (lambda t, u: t.copy_(u), lambda x, y: y.copy()),
}


@pytest.mark.parametrize("form", ODD)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", PAIRS)
def test_numbers_and_masks(name, form, dtype):
    rng = np.random.default_rng(4)
    x, y = (ODD[form](numbers(rng, (30, 40), dtype)) for _ in range(2))
    mask = ODD[form](rng.random((30, 40)) < 0.5)
    call, reference = PAIRS[name]
    given = [lampion.from_numpy(np.asarray(a)) for a in (x, y, mask)]
    for _ in range(2):  # by way of `general`, and then of the kernel that it kept
        found, wanted = call(*given).numpy(), np.asarray(reference(x, y, mask)).astype(dtype)
        assert found.dtype == dtype and found.shape == wanted.shape
        assert np.array_equal(found, wanted, equal_nan=True)


@pytest.mark.parametrize("form", [f for f in ODD if f != "number"])
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_writes_only_what_it_should(name, form, dtype):
    rng = np.random.default_rng(5)
    call, reference = IN_PLACE[name]
    for _ in range(2):
        whole, y = numbers(rng, (30, 40), dtype), ODD[form](numbers(rng, (30, 40), dtype))
        expected = whole.copy()
        ODD[form](expected)[...] = reference(ODD[form](whole), y)
        t = lampion.from_numpy(ODD[form](whole))
        version = t._version
        assert call(t, lampion.from_numpy(y)) is t
        assert t._version == version + 1
        assert np.array_equal(whole, expected, equal_nan=True)


@pytest.mark.parametrize("name", ["add_", "scaled add_", "copy_"])
def test_operands_that_overlap_the_target(name):
    call, reference = IN_PLACE[name]
    for offset, size in ((1, 100), (0, 100), (0, 1), (50, 1)):
        base = np.arange(201, dtype=F32)
        source = base[offset : offset + size] if size > 1 else base[offset]
        expected = base.copy()
        expected[:100] = reference(base[:100].copy(), source.copy())
        t = lampion.from_numpy(base)
        call(t[:100], t[offset : offset + size] if size > 1 else t[offset])
        assert np.array_equal(base, expected)


def test_signs_of_zero_and_numbers_out_of_range():
    x = np.array([0.0, -0.0] * 50, F32)
    assert np.array_equal(np.signbit(OPS["neg"].kernel(x)), np.signbit(-x))
    assert np.array_equal(np.signbit(OPS["mul"].kernel(x, x)), np.signbit(x * x))
    t = lampion.zeros(100)
    assert (t.fill_(-0.0).numpy().view(np.int32) == np.int32(-(2**31))).all()
    assert t.add(lampion.ones(100), alpha=1e300).isinf().all()
    with pytest.raises(RuntimeError, match="leaf"):
        lampion.zeros(100, requires_grad=True).fill_(1.0)


LOSSES = {
    "mse_loss": {}, "smooth_l1_loss": {"beta": 0.7}, "huber_loss": {"delta": 0.7},
    "binary_cross_entropy": {}, "binary_cross_entropy_with_logits": {},
}  # fmt: skip


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_agree_with_numpy(name, reduction, monkeypatch):
    """Losses of large arrays and both gradients, by kernels and by NumPy; with special values."""
    results = []
    for size in (1, 1 << 60):
        monkeypatch.setattr(large.Least, "size", size)
        lampion.manual_seed(0)
        x, t = (lampion.rand(40, 50) * 0.98 + 0.01 for _ in range(2))
        if name != "binary_cross_entropy":
            x = x * 6 - 3
            x.view(-1)[:4] = lampion.tensor([float("nan"), 100.0, -100.0, 0.0])
        x.requires_grad_(), t.requires_grad_()
        loss = getattr(lampion.nn.functional, name)(x, t, reduction=reduction, **LOSSES[name])
        loss.nansum().backward() if reduction == "none" else loss.backward()
        results.append([v.detach().numpy() for v in (loss, x.grad, t.grad)])
    for fast, plain in zip(*results, strict=True):
        np.testing.assert_allclose(fast, plain, rtol=2e-5, atol=1e-6)


def arranged(rng, shape, dtype):
    """An array of a random layout that broadcasts to the shape."""
    axes = rng.permutation(len(shape))
    steps = rng.integers(1, 3, len(shape)) if rng.random() < 0.3 else [1] * len(shape)
    stored = rng.standard_normal([shape[a] * steps[a] for a in axes]).astype(dtype)
    x = stored.transpose(np.argsort(axes))[tuple(slice(None, None, k) for k in steps)]
    x = x[tuple(slice(0, 1) if rng.random() < 0.2 else slice(None) for _ in shape)]
    while x.ndim and x.shape[0] == 1 and rng.random() < 0.5:
        x = x[0, ...]
    return x


@pytest.mark.parametrize("seed", range(8))
def test_random_layouts(seed):
    rng = np.random.default_rng(seed)
    formulas = {
        "add": lambda a, b: a + b,
        "maximum": np.maximum,
        "gt": lambda a, b: a > b,
        "sub_scaled": lambda a, b: a - a.dtype.type(0.5) * b,
    }
    calls = []
    for _ in range(20):
        shape = tuple(rng.integers(1, 40, rng.integers(1, 4)))
        dtype = rng.choice([F32, F64])
        calls.append([arranged(rng, shape, dtype) for _ in range(2)])
    for name, wanted in formulas.items():
        params = {"alpha": 0.5} if name == "sub_scaled" else {}
        for i in rng.permutation(3 * len(calls)) % len(calls):
            a, b = calls[i]
            found = OPS[name].kernel(a, b, **params)
            assert np.array_equal(found, wanted(a, b)) and found.shape == wanted(a, b).shape
            if name == "add":
                target = np.zeros(found.shape, a.dtype)
                for k in (1, 2):
                    assert OPS["add"].kernel(target, b, out=target) is target
                    assert np.array_equal(target, np.broadcast_to(k * b, target.shape))


HALVES = [np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", ["add", "mul", "div", "relu", "where", "gt", "sub_scaled", "neg"])
def test_halves_are_computed_in_float32_and_rounded_once(name, dtype):
    rng = np.random.default_rng(6)
    op = OPS[name]
    arrays = [numbers(rng, (40, 50), dtype) for _ in op.inputs]
    if name == "where":
        arrays[0] = arrays[0] > 0
    params = {p: DEFAULTS[p] for p in op.parameters}
    wanted = op.kernel.small(*arrays, **params)
    for _ in range(2):
        found = op.kernel(*arrays, **params)
        assert found.dtype == wanted.dtype
        assert np.array_equal(found.astype(F32), wanted.astype(F32), equal_nan=True)


@pytest.mark.parametrize("dtype", [F64, *HALVES], ids=str)
@pytest.mark.parametrize("layout", ["rows", "transposed", "strided"])
def test_casts(dtype, layout):
    rng = np.random.default_rng(7)
    values = (rng.standard_normal((60, 80)) * 10.0 ** rng.integers(-9, 9, (60, 80))).astype(F32)
    values.flat[:8] = [np.nan, np.inf, -np.inf, 0.0, -0.0, 65504.0, 65520.0, 1e-8]
    x = ODD[layout](values)
    for given, to in ((x, dtype), (x.astype(dtype), F32)):
        t = lampion.from_numpy(x) if given is x else lampion.from_numpy(x).to(FROM_NUMPY[dtype])
        for _ in range(2):
            found = t.to(FROM_NUMPY[to])._data
            wanted = given.astype(to)
            assert found.dtype == to and found.shape == wanted.shape
            assert np.array_equal(found.astype(F64), wanted.astype(F64), equal_nan=True)
            kept = ~np.isnan(given.astype(F64))
            signs = [np.signbit(a.astype(F64))[kept] for a in (found, wanted)]
            assert np.array_equal(*signs)


def test_where_needs_both_sides():
    x = lampion.zeros(3)
    for sides in ((None, x), (x, None)):
        with pytest.raises(TypeError, match="NoneType"):
            lampion.where(x == 0, *sides)
