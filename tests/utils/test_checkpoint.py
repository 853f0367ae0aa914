"""Recomputed activations give the same gradients, with the same random numbers."""

import pytest

import lampion as torch
from lampion.utils.checkpoint import checkpoint, checkpoint_sequential


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradients_are_those_of_the_plain_run(use_reentrant):
    w = torch.randn(4, 4, requires_grad=True)
    x = torch.randn(2, 4, requires_grad=True)

    def block(x, scale):
        return torch.tanh(x @ w) * scale, x + 1

    a, b = block(x, 2.0)
    (a.sum() + b.sum()).backward()
    expected = w.grad.clone(), x.grad.clone()
    w.grad = x.grad = None
    a, b = checkpoint(block, x, 2.0, use_reentrant=use_reentrant)
    (a.sum() + b.sum()).backward()
    assert torch.equal(w.grad, expected[0])
    assert torch.equal(x.grad, expected[1])


def test_captured_parameters_alone():
    w = torch.randn(4, requires_grad=True)
    checkpoint(lambda x: x * w, torch.ones(4), use_reentrant=False).sum().backward()
    assert w.grad.tolist() == [1.0] * 4


def test_dropout_draws_the_same_numbers_again():
    x = torch.ones(100, requires_grad=True)
    y = checkpoint(lambda x: torch.nn.functional.dropout(x * 2, 0.5), x, use_reentrant=False)
    state = torch.get_rng_state()
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_function_runs_twice():
    calls = []

    def block(x):
        calls.append(1)
        return x * 2

    x = torch.ones(2, requires_grad=True)
    y = checkpoint(block, x, use_reentrant=False)
    assert len(calls) == 1
    y.sum().backward()
    assert len(calls) == 2


def test_sequential():
    model = torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(5)])
    x = torch.randn(3, 4)
    model(x).sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    checkpoint_sequential(model, 2, x).sum().backward()
    for p, g in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g)
