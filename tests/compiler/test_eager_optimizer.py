"""Compiled optimizer steps against the same rules on NumPy arrays: the same bits."""

from __future__ import annotations

import numpy as np
import pytest

import lampion
from lampion.compiler.kernels import optimizer
from lampion.compiler.native import runtime
from lampion.optim import rule

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is not installed")

SHAPES = [(3,), (200, 201), (7, 11), (1,), ()]
MAKERS = {
    "sgd": lambda p: lampion.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: lampion.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
    ),
    "dampened": lambda p: lampion.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1),
    "adam": lambda p: lampion.optim.Adam(p),
    "amsgrad": lambda p: lampion.optim.Adam(p, amsgrad=True, maximize=True, weight_decay=0.1),
    "adamw": lambda p: lampion.optim.AdamW(p, betas=(0.4, 0.9)),
    "rmsprop": lambda p: lampion.optim.RMSprop(p, momentum=0.9, centered=True),
    "adagrad": lambda p: lampion.optim.Adagrad(p),
    "adadelta": lambda p: lampion.optim.Adadelta(p),
    "adamax": lambda p: lampion.optim.Adamax(p),
    "nadam": lambda p: lampion.optim.NAdam(p),
    "radam": lambda p: lampion.optim.RAdam(p),
    "rprop": lambda p: lampion.optim.Rprop(p),
    "asgd": lambda p: lampion.optim.ASGD(p),
}


def train(make, monkeypatch, native, dtype, steps=8):
    monkeypatch.setattr(rule, "FEW", 0 if native else 1 << 60)
    monkeypatch.setattr(rule, "LARGE", 1 if native else 1 << 60)
    rng = np.random.default_rng(0)
    params = [lampion.from_numpy(np.asarray(rng.standard_normal(s), dtype)) for s in SHAPES]
    made = make([p.requires_grad_() for p in params])
    for number in range(steps):
        made.param_groups[0]["lr"] *= 0.9  # as a scheduler does
        for p in params:
            p.grad = lampion.from_numpy(np.asarray(rng.standard_normal(tuple(p.shape)), dtype))
        if number == 3:
            params[0].grad = None
        made.step()
    return [p.detach().numpy() for p in params]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_as_numpy(name, dtype, monkeypatch):
    found = train(MAKERS[name], monkeypatch, True, dtype)
    for a, b in zip(found, train(MAKERS[name], monkeypatch, False, dtype), strict=True):
        assert np.array_equal(a, b)
        assert not np.isnan(a).any()


def test_the_common_rules_are_compiled(monkeypatch):
    rule.Rule.compiled.clear()
    for name in ("sgd", "adam", "adamw", "nesterov", "rmsprop"):
        train(MAKERS[name], monkeypatch, True, np.float32, steps=1)
    made = [s for kinds in rule.Rule.compiled.values() for steps in kinds.values() for s in steps]
    assert len(made) >= 5 and None not in made


def test_a_branch_on_a_number_is_noted():
    def branching(parameter, gradient, state, numbers):
        if numbers["lr"] * 2 > 1:
            parameter -= gradient
        else:
            parameter += gradient

    step = optimizer.compiled(branching, np.dtype(np.float32), [], ["lr"], [1.0])
    assert step.serves([0.6]) and not step.serves([0.4])
    x, g = np.ones(5, np.float32), np.ones(5, np.float32)
    step([(x, g)], [0.6])
    assert (x == 0).all()


def test_a_branch_on_an_array_is_refused():
    def branching(parameter, gradient, state, numbers):
        if gradient > 0:
            parameter -= gradient

    assert optimizer.compiled(branching, np.dtype(np.float32), [], ["lr"], [1.0]) is None

    def equal(parameter, gradient, state, numbers):
        if gradient == 1:
            parameter -= gradient

    assert optimizer.compiled(equal, np.dtype(np.float32), [], ["lr"], [1.0]) is None


def test_options_that_change_do_not_compile_anew(monkeypatch):
    """As with OneCycleLR, which moves momentum or betas in each step."""
    rule.Rule.compiled.clear()
    monkeypatch.setattr(rule, "FEW", 0)
    p, q = (lampion.ones(50, requires_grad=True) for _ in range(2))
    for param, native in ((p, True), (q, False)):
        monkeypatch.setattr(rule, "FEW", 0 if native else 1 << 60)
        made = lampion.optim.Adam([param], lr=0.1)
        for number in range(10):
            made.param_groups[0]["betas"] = (0.95 - 0.01 * number, 0.999)
            param.grad = lampion.linspace(-1, 1, 50) * (number + 1)
            made.step()
    assert np.array_equal(p.detach().numpy(), q.detach().numpy())
    made = [s for kinds in rule.Rule.compiled.values() for steps in kinds.values() for s in steps]
    assert len(made) == 1


def test_many_parameters_and_a_saved_one(monkeypatch):
    """More parameters than one launch takes; writes are counted, so a stale backward is noticed."""
    monkeypatch.setattr(rule, "FEW", 0)
    params = [lampion.ones(5, requires_grad=True) for _ in range(300)]
    loss = sum((p * p).sum() for p in params)
    loss.backward(retain_graph=True)
    lampion.optim.Adam(params, lr=0.5).step()
    assert all(np.allclose(p.detach().numpy(), 0.5) for p in params)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
