"""Function transforms, nested in every order, against loops and finite differences."""

import itertools

import numpy as np
import pytest

import lampion as torch
from lampion import func

RNG = np.random.default_rng(0)
W = torch.from_numpy(RNG.normal(size=(4, 3)))
C = torch.from_numpy(RNG.normal(size=3))
X = torch.from_numpy(RNG.normal(size=(5, 4)))
T = torch.from_numpy(RNG.normal(size=4))
EPS = 1e-6


def f(x):
    return (torch.softmax(x.reshape(1, 4) @ W, -1) * C).sum()


def numerical(function, x):
    """The gradient by central differences."""
    columns = []
    for e in np.eye(x.numel()):
        step = torch.from_numpy(EPS * e.reshape(tuple(x.shape)))
        columns.append(((function(x + step) - function(x - step)) / (2 * EPS)).numpy())
    return np.stack(columns, -1)


def close(a, b, tolerance=1e-7):
    np.testing.assert_allclose(np.asarray(a.detach()), np.asarray(b), rtol=1e-5, atol=tolerance)


def test_grad():
    close(func.grad(f)(X[0]), numerical(f, X[0]))
    assert not func.grad(f)(X[0]).requires_grad


def test_grad_and_value_with_aux():
    g, (value, aux) = func.grad_and_value(lambda x: (f(x), x * 2), has_aux=True)(X[0])
    close(g, numerical(f, X[0]))
    close(value, f(X[0]))
    close(aux, X[0] * 2)


def test_grad_of_several_arguments():
    g = func.grad(lambda a, b: (a * b["w"]).sum(), argnums=(0, 1))(X[0], {"w": T})
    close(g[0], T)
    close(g[1]["w"], X[0])


def test_jvp_and_vjp():
    value, moved = func.jvp(f, (X[0],), (T,))
    close(moved, numerical(f, X[0]) @ T.numpy())
    value, pull = func.vjp(lambda x: x.reshape(1, 4) @ W, X[0])
    (g,) = pull(torch.ones(1, 3, dtype=torch.float64))
    close(g, W.sum(1))


def test_hessian_four_ways():
    expected = numerical(func.grad(f), X[0])
    for outer, inner in itertools.product((func.jacfwd, func.jacrev), repeat=2):
        close(outer(inner(f))(X[0]), expected, 1e-6)
    close(func.hessian(f)(X[0]), expected, 1e-6)


def test_jacobians_of_several_inputs_and_outputs():
    g = lambda a, b: {"p": a * b, "s": (a * b).sum()}  # noqa: E731
    for jacobian in (func.jacrev, func.jacfwd):
        j = jacobian(g, argnums=(0, 1))(X[0], T)
        close(j["p"][0], np.diag(T.numpy()))
        close(j["s"][1], X[0])


def test_vmap_of_grad_is_a_loop():
    close(func.vmap(func.grad(f))(X), np.stack([func.grad(f)(x).numpy() for x in X]))


def test_grad_of_vmap():
    g = func.grad(lambda x: func.vmap(f)(x).sum())(X)
    close(g, np.stack([func.grad(f)(x).numpy() for x in X]))


def test_vmap_of_jvp_and_jvp_of_vmap():
    rows = np.stack([func.jvp(f, (x,), (T,))[1].numpy() for x in X])
    close(func.vmap(lambda x: func.jvp(f, (x,), (T,))[1])(X), rows)
    _, moved = func.jvp(func.vmap(f), (X,), (T.expand(5, 4),))
    close(moved, rows)


def test_nested_vmap():
    a, b = torch.arange(3.0), torch.arange(4.0)
    table = func.vmap(lambda x: func.vmap(lambda y: x * 10 + y)(b))(a)
    assert table.tolist() == [[10.0 * i + j for j in range(4)] for i in range(3)]


def test_vmap_of_hessian():
    rows = np.stack([func.hessian(f)(x).numpy() for x in X])
    close(func.vmap(func.hessian(f))(X), rows, 1e-6)


def test_in_dims_out_dims_and_chunks():
    a = torch.arange(6.0).view(2, 3)
    assert (
        func.vmap(lambda x, y: x + y, in_dims=(1, None), out_dims=1)(a, torch.zeros(2)).tolist()
        == a.tolist()
    )
    assert func.vmap(lambda x: x * 2, chunk_size=2)(torch.arange(5.0)).tolist() == [
        0.0,
        2.0,
        4.0,
        6.0,
        8.0,
    ]
    nested = func.vmap(lambda d: {"s": d["a"] + d["b"][0]})(
        {"a": torch.ones(3), "b": (torch.ones(3),)}
    )
    assert nested["s"].tolist() == [2.0, 2.0, 2.0]


def test_grad_inside_vmap_with_a_captured_parameter():
    """The parameter is not batched, its gradients are."""
    w = torch.ones(4, dtype=torch.float64)
    g = func.vmap(lambda x: func.grad(lambda w: (x * w * w).sum())(w))(X)
    close(g, 2 * X)


def test_a_captured_leaf_gets_its_gradient():
    w = torch.ones(4, dtype=torch.float64, requires_grad=True)
    func.grad(lambda x: (x * x * w).sum())(X[0]).sum().backward()
    close(w.grad, 2 * X[0])


def test_in_place_inside_grad_and_vmap():
    def g(x):
        y = x * 2
        y[0] = y[0] * 3
        y.add_(1)
        return (y * y).sum()

    close(func.grad(g)(X[0]), numerical(g, X[0]), 1e-5)
    close(func.vmap(func.grad(g))(X), np.stack([func.grad(g)(x).numpy() for x in X]))


def test_writing_a_batched_value_into_an_unbatched_tensor():
    def bad(x):
        y = torch.zeros(4, dtype=torch.float64)
        y.add_(x)
        return y

    with pytest.raises(
        RuntimeError, match="vmap: an in-place operator would write a batched value"
    ):
        func.vmap(bad)(X)


def test_values_cannot_be_looked_at():
    with pytest.raises(
        RuntimeError, match=r"\[(bool|item)\] needs the values of a tensor inside vmap"
    ):
        func.vmap(lambda x: x if x.sum() > 0 else -x)(X)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: func.grad(lambda x: x)(X), RuntimeError, "scalar Tensor, .* vjp or jacrev APIs"),
        (lambda: func.vmap(f)(1.0), ValueError, "at least one input must be a tensor"),
        (lambda: func.vmap(lambda x, y: x)(X, T), ValueError, "same size in the mapped dimension"),
        (lambda: func.jvp(f, (X[0],), (X,)), RuntimeError, "tangent has shape"),
        (lambda: func.vmap(lambda x: 1)(X), ValueError, "must only return Tensors"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_per_sample_gradients_of_a_module():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)
    ).double()
    parameters = {k: v.detach() for k, v in model.named_parameters()}
    labels = torch.tensor([0, 1, 2, 0, 1])

    def loss(p, x, y):
        out = func.functional_call(model, p, (x.unsqueeze(0),))
        return torch.nn.functional.cross_entropy(out, y.unsqueeze(0))

    each = func.vmap(func.grad(loss), in_dims=(None, 0, 0))(parameters, X, labels)
    for i in range(5):
        model.zero_grad()
        torch.nn.functional.cross_entropy(model(X[i : i + 1]), labels[i : i + 1]).backward()
        for name, p in model.named_parameters():
            close(each[name][i], p.grad)


def test_ensembles():
    models = [torch.nn.Linear(4, 2).double() for _ in range(3)]
    parameters, buffers = func.stack_module_state(models)
    out = func.vmap(
        lambda p, b, x: func.functional_call(models[0], (p, b), (x,)), in_dims=(0, 0, None)
    )(parameters, buffers, X)
    close(out, np.stack([m(X).detach().numpy() for m in models]))


def test_functional_call_restores_the_module():
    m = torch.nn.Linear(4, 2).double()
    before = m.weight
    with pytest.raises(RuntimeError):
        func.functional_call(m, {"weight": torch.zeros(2, 5, dtype=torch.float64)}, (X,))
    assert m.weight is before
    with pytest.raises(KeyError):
        func.functional_call(m, {"wrong": before}, (X,))
