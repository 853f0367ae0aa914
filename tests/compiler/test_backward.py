"""The backward of what compiled functions return: gradients that meet, memory that changes."""

import numpy as np
import pytest

import lampion as torch

BACKENDS = ("interpreter", "inductor")


def leaf(*values):
    return torch.tensor(values, requires_grad=True)


def rows(*shape):
    return torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_argument_that_depends_on_another_counts_once(backend):
    x = leaf(1.0, 2.0, 3.0)
    c = torch.compile(lambda y, x: (y * x).sum(), backend=backend)
    for _ in range(3):
        x.grad = None
        c(x * 2, x).backward()
        np.testing.assert_allclose(x.grad.numpy(), [4.0, 8.0, 12.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_captured_tensor_that_depends_on_another_counts_once(backend):
    w = leaf(1.0, 2.0, 3.0)
    h = w * 3
    c = torch.compile(lambda x: (h * w * x).sum(), backend=backend)
    for _ in range(3):
        w.grad = None
        c(torch.ones(3)).backward(retain_graph=True)
        np.testing.assert_allclose(w.grad.numpy(), [6.0, 12.0, 18.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_backward_needs_may_not_change(backend):
    x, k = leaf(1.0, 2.0), torch.tensor([3.0, 4.0])
    c = torch.compile(lambda x, k: (x * k).sum(), backend=backend)
    for _ in range(4):
        loss = c(x, k)
        k.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_captured_memory_that_the_backward_needs_may_not_change(backend):
    x, k = leaf(1.0, 2.0), torch.tensor([3.0, 4.0])
    c = torch.compile(lambda x: (x * k).sum(), backend=backend)
    for _ in range(4):
        loss = c(x)
        k.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_backward_does_not_need_may_change(backend):
    x, k = leaf(1.0, 2.0), torch.tensor([3.0, 4.0])
    c = torch.compile(lambda x, k: (x * 2 + k).sum(), backend=backend)
    for _ in range(4):
        x.grad = None
        loss = c(x, k)
        k.add_(1)
        loss.backward()
        np.testing.assert_allclose(x.grad.numpy(), [2.0, 2.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_may_be_what_the_backward_needs(backend):
    w, x = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (w * w).sum().backward()
    c = torch.compile(lambda x: (w.grad * x).sum(), backend=backend)
    for factor in (1.0, 2.0, 3.0, 4.0):
        w.grad.copy_(torch.tensor([2.0, 4.0]) * factor)
        x.grad = None
        c(x).backward()
        np.testing.assert_allclose(x.grad.numpy(), [2.0 * factor, 4.0 * factor])


@pytest.mark.parametrize("backend", BACKENDS)
def test_cotangents_of_any_layout_and_type(backend):
    x = rows(2, 3).requires_grad_()
    c = torch.compile(lambda x: (x.exp(), x * 2, x.sum()), backend=backend)
    for _ in range(4):
        a, b, s = c(x)
        x.grad = None
        (a.t() * rows(3, 2)).sum().backward(retain_graph=True)
        np.testing.assert_allclose(x.grad.numpy(), (a.detach() * rows(3, 2).t()).numpy(), 1e-6)
        (b.sum() + 2 * s).backward()
        np.testing.assert_allclose(x.grad.numpy(), (a.detach() * rows(3, 2).t() + 4).numpy(), 1e-6)


def test_a_backward_goes_the_short_way():
    ws = [leaf(float(i), 1.0) for i in range(20)]

    def f(x):
        for w in ws:
            x = x * torch.tanh(w) + w
        return x.sum()

    c, x = torch.compile(f), leaf(1.0, 2.0)
    for _ in range(4):
        y = c(x)
        for t in (x, *ws):
            t.grad = None
        y.backward()
    gate = y.grad_fn.node.program.gate
    assert gate is not None and gate.call(x) is None  # wrong arguments go the long way
    found = [t.grad.clone() for t in (x, *ws)]
    for t in (x, *ws):
        t.grad = None
    f(x).backward()
    for t, g in zip((x, *ws), found, strict=True):
        torch.testing.assert_close(g, t.grad)


# -- second derivatives ----------------------------------------------------------------------------


def written(x):
    y = x * 2
    y[:, 0] = x[:, 1] ** 2
    y.mul_(3)
    return (y**2).sum()


def partly_detached(x):
    with torch.no_grad():
        scale = x.abs().mean()
    return (x * x.detach() * scale + torch.sin(x) * torch.tanh(x)).sum()


def of_its_gradient(x):
    y = (x**3).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    return (g * torch.sin(x)).sum()


FUNCTIONS = {
    "polynomial": lambda x: (x**3 - x * x).sum(),
    "views": lambda x: (x.t()[1:] @ x.view(2, 3)[:, :2].exp()).sum(),
    "softmax": lambda x: torch.softmax(x, 1).square().sum(),
    "norm": lambda x: torch.nn.functional.layer_norm(x, (3,)).tanh().sum(),
    "loss": lambda x: torch.nn.functional.cross_entropy(x, torch.tensor([0, 2])),
    "written": written,
    "partly detached": partly_detached,
    "of its gradient": of_its_gradient,
}


def second(f, *inputs):
    """The derivatives of the squared gradient of f(*inputs)."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    given = [t * 1.5 for t in leaves]
    found = torch.autograd.grad(f(*given), given, create_graph=True)
    total = sum((g * g * t).sum() for g, t in zip(found, given))
    return [t.detach().numpy() for t in (*found, *torch.autograd.grad(total, leaves))]


def same(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives(name, backend):
    f, x = FUNCTIONS[name], rows(2, 3) + 0.1
    c = torch.compile(f, backend=backend)
    for _ in range(3):
        same(second(c, x), second(f, x))
    assert c.count == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_third_derivatives(backend):
    c = torch.compile(lambda x: (x**4).sum(), backend=backend)
    for _ in range(3):
        y = x = leaf(1.0, 2.0)
        y = c(x)
        for _ in range(3):
            (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        np.testing.assert_allclose(y.detach().numpy(), [24.0, 48.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_derivatives_of_several_results_and_arguments(backend):
    def f(x, y):
        return (x * y).exp(), (x + y.detach()) ** 3, x

    def squares(call, x, y):
        a, b, _ = call(x, y)
        return (a * b).sum() + b.sum()

    c = torch.compile(f, backend=backend)
    x, y = rows(2, 2), rows(2, 2) + 1
    for _ in range(3):
        expected = second(lambda x, y: squares(f, x, y), x, y)
        same(second(lambda x, y: squares(c, x, y), x, y), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_second_derivatives_where_arguments_depend_on_one_another(backend):
    def total(call):
        x = leaf(1.0, 2.0, 3.0)
        y = x**2
        loss = call(y, x)
        g, h = torch.autograd.grad(loss, [x, y], create_graph=True)
        return [t.detach().numpy() for t in (g, h, *torch.autograd.grad((g * h).sum(), x))]

    f = lambda y, x: (y * y * x).sum()  # noqa: E731
    c = torch.compile(f, backend=backend)
    for _ in range(3):
        same(total(c), total(f))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_penalty(backend):
    """A critic's loss as in Wasserstein GANs: the penalty's gradient goes to the parameters."""

    def train(compiled):
        torch.manual_seed(0)
        critic = torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        )
        call = torch.compile(critic, backend=backend) if compiled else critic
        optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
        for _ in range(4):
            x = rows(4, 3).requires_grad_()
            (g,) = torch.autograd.grad(call(x).sum(), x, create_graph=True)
            loss = ((g.norm(dim=1) - 1) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return [p.detach().numpy() for p in (*critic.parameters(), *critic.buffers())]

    same(train(True), train(False))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * g * x


def watched(x):
    y = x * 2
    y.register_hook(lambda g: g * 3)
    return (y * y).sum()


def written_unseen(x):
    y = x * 2
    with torch.no_grad():
        y.add_(1)
    return (y + x * x).sum()


@pytest.mark.parametrize(
    ("f", "reason"),
    [
        (lambda x: torch.nn.functional.dropout(x * x, 0.5).sum(), "random numbers"),
        (lambda x: (Square.apply(x) * x).sum(), "a history of its own"),
        (lambda x: Square.apply(x), "a history of its own"),
        (watched, "a hook sees a gradient"),
        (written_unseen, "writes under no_grad"),
    ],
)
def test_what_has_no_second_derivatives_says_so(f, reason):
    c, x = torch.compile(f, backend="interpreter"), leaf(1.0, 2.0)
    c(x)
    y = c(x)
    assert c.count == 1
    with pytest.raises(RuntimeError, match=f"can't be differentiated twice: .*{reason}"):
        torch.autograd.grad(y.sum(), x, create_graph=True)
    expected = f(x)
    if "random" not in reason:
        g, h = (torch.autograd.grad(t.sum(), x)[0] for t in (c(x), expected))
        np.testing.assert_allclose(g.numpy(), h.numpy())
