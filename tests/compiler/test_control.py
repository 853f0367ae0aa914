"""Modules compiled in place, stances, and the names of PyTorch's tracer."""

import copy
import pickle

import numpy as np
import pytest

import lampion as torch
from lampion import nn
from lampion.core import graph


def compiled(f):
    """The function, run by the interpreter of graphs."""
    return torch.compile(f, backend="interpreter")


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.0), nn.Linear(4, 2))


def test_a_module_is_compiled_in_place():
    model, x = small_model(), torch.randn(5, 3)
    expected = model(x)
    names = list(model.state_dict())
    assert model.compile(backend="interpreter", fullgraph=True) is None
    function = model._compiled_call_impl
    for _ in range(3):
        torch.testing.assert_close(model(x), expected)
    assert function.count == 1
    assert list(model.state_dict()) == names
    model(x).sum().backward()
    gradient = model[0].weight.grad.clone()
    model.zero_grad()
    expected.sum().backward()
    torch.testing.assert_close(gradient, model[0].weight.grad)
    model(torch.randn(2, 3))
    assert function.count == 2
    model.eval()
    torch.testing.assert_close(model(x), expected)


def test_hooks_of_a_module_compiled_in_place_run():
    model = small_model()
    model.compile(backend="interpreter")
    x = torch.randn(5, 3)
    plain = model(x).detach()
    model.register_forward_hook(lambda module, args, out: out * 2)
    for _ in range(3):
        torch.testing.assert_close(model(x).detach(), plain * 2)


def test_copies_of_a_module_compiled_in_place_run_as_they_are():
    model, x = small_model(), torch.randn(5, 3)
    model.compile(backend="interpreter")
    expected = model(x).detach()
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for made in copies:
        assert made._compiled_call_impl is None
        with torch.no_grad():
            made[0].weight.zero_()
            assert not torch.equal(made(x), expected)
    torch.testing.assert_close(model(x).detach(), expected)


def test_a_training_step_around_a_module_compiled_in_place():
    losses = []
    for in_place in (False, True):
        model, x = small_model(), torch.arange(15.0).reshape(5, 3) / 15
        if in_place:
            model.compile()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses.append([])
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_stances():
    c = compiled(lambda x: x + 1)
    x, wide = torch.ones(3), torch.ones(2, 3)
    with torch.compiler.set_stance("force_eager"):
        c(x)
        assert c.count == 0
    c(x)
    assert c.count == 1
    with torch.compiler.set_stance("eager_on_recompile"):
        torch.testing.assert_close(c(wide), wide + 1)
        assert c.count == 1
    torch.compiler.set_stance("fail_on_recompile")
    torch.testing.assert_close(c(x), x + 1)
    with pytest.raises(RuntimeError, match="no program of <lambda> fits .* fail_on_recompile"):
        c(wide)
    torch.compiler.set_stance("default")
    c(wide)
    assert c.count == 2

    @torch.compiler.set_stance("force_eager")
    def eagerly():
        return c(torch.ones(4))

    eagerly()
    assert c.count == 2
    c(torch.ones(4))
    assert c.count == 3
    with pytest.raises(RuntimeError, match="Invalid stance: 'lazy'"):
        torch.compiler.set_stance("lazy")


def test_a_stance_closes_short_ways():
    c, x = torch.compile(lambda x: x * 2), torch.ones(3)
    for _ in range(4):
        c(x)
    assert c.way is not None
    ran = []
    with torch.compiler.set_stance("force_eager"):
        assert c.way is None
        c.function = lambda x: ran.append(x)
        c(x)
    assert ran
    torch.testing.assert_close(c(x), x * 2)
    assert c.way is not None and len(ran) == 1


def test_names_that_change_nothing():
    x = torch.ones(3)
    torch._dynamo.mark_dynamic(x, 0)
    torch._dynamo.mark_dynamic(x, 0, min=2, max=8)
    torch._dynamo.graph_break()
    torch.compiler.cudagraph_mark_step_begin()
    assert torch.compiler.is_exporting() is False
    assert "inductor" in torch.compiler.list_backends()

    @torch.compiler.allow_in_graph
    def f(x):
        return x + 1

    torch.testing.assert_close(f(x), x + 1)
    torch.testing.assert_close(torch.compiler.nested_compile_region()(f)(x), x + 1)
    with torch._dynamo.config.patch(cache_size_limit=3, capture_scalar_outputs=True):
        assert torch._dynamo.config.cache_size_limit == 3
    assert torch._dynamo.config.cache_size_limit == 64
    assert torch._dynamo.config.capture_scalar_outputs is None
    assert isinstance(torch.compile(nn.Linear(2, 2)), torch._dynamo.OptimizedModule)


def test_calls_are_not_compiled_while_one_is_traced(monkeypatch):
    """Compiled calls replace methods that a trace watches."""
    before, graph.KNOWN[2] = graph.KNOWN[2], 5
    asked = []
    monkeypatch.setattr(graph.State, "often", staticmethod(lambda: asked.append(graph.KNOWN[2])))

    def f(x):
        for _ in range(20):
            with torch.no_grad():
                x = x + 1
        return x * x.sum().item()

    c = compiled(f)
    item = torch.Tensor.item
    with pytest.warns(UserWarning, match="item"):
        c(torch.ones(2))
    assert torch.Tensor.item is item
    for value in (2.0, 3.0):
        x = torch.full((2,), value)
        torch.testing.assert_close(c(x), f(x))
    assert asked == [0]  # afterwards, once
    graph.KNOWN[2] = before
