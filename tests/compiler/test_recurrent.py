"""Compiled LSTM and GRU layers against the NumPy kernels, which tests/nn compares with PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import lampion
from lampion.compiler import recurrent, runtime
from lampion.ops import recurrent_kernels

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is not installed")


@pytest.mark.parametrize("kind", ["lstm", "gru"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("time", "batch", "width", "bias"), [(5, 3, 7, True), (6, 33, 50, False), (1, 4, 4, True)]
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


def test_modules_take_them(monkeypatch):
    results = []
    for threshold in (1, 1 << 60):
        monkeypatch.setattr(recurrent_kernels, "LARGE", threshold)
        lampion.manual_seed(0)
        layer = lampion.nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True)
        out, (h, c) = layer(lampion.randn(3, 4, 5))
        (out.sum() + (h * c).sum()).backward()
        results.append([out.detach(), *[p.grad for p in layer.parameters()]])
    for a, b in zip(*results, strict=True):
        assert lampion.allclose(a, b, atol=1e-6)
