"""Compiled LSTM and GRU layers against the NumPy kernels, which tests/nn compares with PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import lampion
from lampion.compiler.kernels import recurrent
from lampion.compiler.native import runtime
from lampion.ops import large, recurrent_kernels

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is not installed")


@pytest.fixture(autouse=True)
def numpy_kernels(monkeypatch):
    """What the operators' kernels give is NumPy's, unless a test asks for less."""
    monkeypatch.setattr(large.Least, "size", 1 << 60)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("time", "batch", "width", "bias"),
    [(5, 3, 7, True), (6, 33, 50, False), (1, 4, 4, True), (4, 40, 96, True), (3, 70, 104, False)],
)
def test_layers(kind, dtype, backwards, time, batch, width, bias):
    rng = np.random.default_rng(0)
    gates = {"lstm": 4, "gru": 3}[kind] * width

    def make(*shape):
        return (rng.standard_normal(shape) * 0.5).astype(dtype)

    x, w, b = make(time, batch, gates), make(gates, width), make(gates) if bias else None
    start = tuple(make(batch, width) for _ in range(2 if kind == "lstm" else 1))
    tolerance = 1e-5 if dtype == np.float32 else 1e-12

    def agree(found, wanted):
        for a, c in zip(found, wanted, strict=True):
            assert (a is None) == (c is None)
            if a is not None:
                np.testing.assert_allclose(a, c, rtol=0, atol=tolerance * max(np.abs(c).max(), 1))

    forward = getattr(recurrent_kernels, kind)
    kept = forward(x, w, b, *start, backwards=backwards)
    agree(getattr(recurrent, kind)(x, w, b, *start, backwards), kept)
    given = [make(time, batch, width), *([make(batch, width)] if kind == "lstm" else [])]
    choices = [given, [None, given[1]], [given[0], None]] if kind == "lstm" else [given]
    for gradients in choices:
        arguments = (*gradients, x, w, b, *start, *kept)
        wanted = getattr(recurrent_kernels, f"{kind}_gradient")(*arguments, backwards=backwards)
        agree(getattr(recurrent, f"{kind}_gradient")(*arguments, backwards), wanted)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
def test_what_is_not_finite_stays_in_its_rows(kind, value):
    """Sums that matrix units cannot hold are made by vector units."""
    rng = np.random.default_rng(1)
    width, batch, gates = 64, 40, {"lstm": 4, "gru": 3}[kind]
    x = rng.standard_normal((3, batch, gates * width)).astype(np.float32)
    w = rng.standard_normal((gates * width, width)).astype(np.float32)
    start = [np.ones((batch, width), np.float32) for _ in range(2 if kind == "lstm" else 1)]
    start[0][5, 7] = value
    found = getattr(recurrent, kind)(x, w, None, *start, False)
    with np.errstate(all="ignore"):
        wanted = getattr(recurrent_kernels, kind)(x, w, None, *start, backwards=False)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_modules_take_them(monkeypatch):
    results = []
    for threshold in (1, 1 << 60):
        monkeypatch.setattr(large.Least, "size", threshold)
        lampion.manual_seed(0)
        layer = lampion.nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True)
        out, (h, c) = layer(lampion.randn(3, 4, 5))
        (out.sum() + (h * c).sum()).backward()
        results.append([out.detach(), *[p.grad for p in layer.parameters()]])
    for a, b in zip(*results, strict=True):
        assert lampion.allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_groups_and_parts(kind):
    """Several groups of units, the last one narrow, and a batch in several parts."""
    rng = np.random.default_rng(0)
    gates, (time, batch, width) = {"lstm": 4, "gru": 3}[kind], (3, 101, 150)

    def make(*shape):
        return rng.standard_normal(shape) * 0.3

    x, w, b = make(time, batch, gates * width), make(gates * width, width), make(gates * width)
    start = tuple(make(batch, width) for _ in range(2 if kind == "lstm" else 1))
    kept = getattr(recurrent_kernels, kind)(x, w, b, *start, backwards=False)
    found = getattr(recurrent, kind)(x, w, b, *start, False)
    g = [make(batch, time, width).transpose(1, 0, 2), *([None] if kind == "lstm" else [])]
    arguments = (*g, x, w, b, *start, *kept)
    kept += getattr(recurrent_kernels, f"{kind}_gradient")(*arguments, backwards=False)
    found += getattr(recurrent, f"{kind}_gradient")(*arguments, False)
    for a, c in zip(found, kept, strict=True):
        np.testing.assert_allclose(a, c, rtol=0, atol=1e-12 * max(np.abs(c).max(), 1))


@pytest.mark.parametrize("batch", [9, 70])
def test_same_bits_for_any_number_of_threads(batch):
    rng = np.random.default_rng(0)

    def make(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    x, w, b = make(4, batch, 800), make(800, 200), make(800)
    h, c, g = make(batch, 200), make(batch, 200), make(4, batch, 200)
    threads, results = lampion.get_num_threads(), []
    try:
        for count in (1, 2):
            lampion.set_num_threads(count)
            kept = recurrent.lstm(x, w, b, h, c, False)
            arguments = (g, None, x, w, b, h, c, *kept)
            results.append((*kept, *recurrent.lstm_gradient(*arguments, False)))
    finally:
        lampion.set_num_threads(threads)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("bias", [True, False])
def test_compiled_training(kind, bias):
    lampion.manual_seed(0)
    layer = getattr(lampion.nn, kind)(
        5, 70, 2, bidirectional=True, batch_first=True, bias=bias
    )  # fmt: skip
    x = lampion.randn(3, 4, 5)

    def step(x):
        out, state = layer(x)
        last = state[0] * state[1] if kind == "LSTM" else state
        loss = out.square().sum() + last.sum()
        return loss, *lampion.autograd.grad(loss, list(layer.parameters()))

    wanted, compiled = step(x), lampion.compile(step, fullgraph=True)
    for found in (compiled(x), compiled(x)):
        for a, c in zip(found, wanted, strict=True):
            assert lampion.allclose(a, c, rtol=1e-4, atol=1e-4)
    text = lampion.compile.explain(step, x).kernels
    assert f"{kind.lower()}_layer_gradient" in text
    assert "on the host" not in text
