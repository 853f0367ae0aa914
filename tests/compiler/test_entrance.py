"""The short way into a program: it is taken where all is as it was, and never where it is not."""

import pytest

import lampion as torch
from lampion.compiler.compiled.function import MOST_WAYS
from lampion.nn import functional as F
from tests.compiler.entering import by_the_short_way, needs_short_way, opened, refused

pytestmark = needs_short_way
FACTOR = 2.0


def test_captured_tensors_that_change():
    w = torch.ones(3)
    c = opened(lambda x: x * w, torch.ones(3))
    w.fill_(5)
    assert by_the_short_way(c, torch.ones(3)).tolist() == [5, 5, 5]
    w.data = torch.full((3,), 7.0)
    assert refused(c, torch.ones(3))
    assert c(torch.ones(3)).tolist() == [7, 7, 7]


def test_arguments_that_differ():
    c = opened(lambda x, n: x * n, torch.ones(3), 2)
    assert by_the_short_way(c, torch.full((3,), 4.0), 2).tolist() == [8, 8, 8]
    for x, n in (
        (torch.ones(4), 2),
        (torch.ones(3).double(), 2),
        (torch.ones(3, requires_grad=True), 2),
        (torch.ones(6)[::2], 2),
        (torch.ones(3), 3),
    ):
        assert refused(c, x, n)
        assert c(x, n).tolist() == (x * n).tolist()
    with pytest.raises(TypeError):
        c(torch.ones(3))


def test_arguments_that_are_not_used():
    c = opened(lambda x, y: x * y.shape[0], torch.ones(2), torch.ones(3, 2))
    assert by_the_short_way(c, torch.ones(2), torch.zeros(3, 2)).tolist() == [3, 3]
    for y in (torch.ones(4, 2), torch.ones(3), torch.ones(3, 2).long(), torch.ones(2, 3).t()):
        assert refused(c, torch.ones(2), y)
        assert c(torch.ones(2), y).tolist() == [y.shape[0]] * 2
    x = torch.ones(2)
    c = torch.compile(lambda x, y: x + y)
    for _ in range(4):
        assert c(x, x).tolist() == [2, 2]  # what is traced knows one of them
    assert refused(c, x, torch.zeros(2))
    assert c(x, torch.zeros(2)).tolist() == [1, 1]
    assert c(x, x).tolist() == [2, 2]


def test_globals_and_cells(monkeypatch):
    offset = 1.0

    def f(x):
        return x * FACTOR + offset

    c = opened(f, torch.ones(2))
    monkeypatch.setitem(globals(), "SOMETHING_ELSE", 3)
    assert by_the_short_way(c, torch.ones(2)).tolist() == [3, 3]
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert refused(c, torch.ones(2))
    assert c(torch.ones(2)).tolist() == [4, 4]
    offset = 5.0
    assert c(torch.ones(2)).tolist() == [8, 8]


def test_modes():
    w = torch.ones(2, requires_grad=True)
    c = opened(lambda x: x * w, torch.ones(2))
    assert by_the_short_way(c, torch.ones(2)).requires_grad
    with torch.no_grad():
        assert refused(c, torch.ones(2))
        assert not c(torch.ones(2)).requires_grad
    with torch.inference_mode():
        assert c(torch.ones(2)).is_inference()
    w.requires_grad_(False)
    assert not c(torch.ones(2)).requires_grad


def test_modules():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    c = opened(lambda x: model(x), torch.randn(4, 2))
    model.eval()
    x = torch.randn(4, 2)
    assert refused(c, x)
    torch.testing.assert_close(c(x), model(x))


def training(wrap=lambda f: f, rate=0.1):
    """A step of gradient descent, with its parameter and optimizer."""
    w = torch.ones(2, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=rate)

    @wrap
    def step(x):
        optimizer.zero_grad()
        loss = (w * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    return step, w, optimizer


def test_a_training_step():
    step, w, optimizer = training()
    x = torch.ones(2)
    c = opened(step, x)
    for expected in (0.6, 0.5):
        by_the_short_way(c, x)
        assert w.tolist() == pytest.approx([expected] * 2)
    optimizer.param_groups[0]["lr"] = 0.25
    assert by_the_short_way(c, x).item() == pytest.approx(1.0)
    assert w.tolist() == pytest.approx([0.25] * 2)
    optimizer.param_groups[0]["weight_decay"] = 1.0
    assert refused(c, x)
    c(x)
    assert w.tolist() == pytest.approx([-0.0625] * 2)


def test_gradients_keep_their_memory_unless_somebody_holds_it():
    step, w, _ = training()
    c = opened(step, torch.ones(2))
    first = w.grad
    address = first.data_ptr()
    c(torch.full((2,), 3.0))
    assert first.tolist() == [1, 1]
    assert w.grad.tolist() == [3, 3]
    del first
    for n in range(4):
        c(torch.full((2,), float(n)))
    address = w.grad.data_ptr()
    by_the_short_way(c, torch.full((2,), 8.0))
    assert w.grad.data_ptr() == address
    assert w.grad.tolist() == [8, 8]
    w.grad = None
    c(torch.full((2,), 7.0))  # the long way
    assert w.grad.data_ptr() == address
    array = w.grad.numpy()
    c(torch.full((2,), 9.0))
    assert array.tolist() == [7, 7]
    assert w.grad.tolist() == [9, 9]


def test_a_gradient_that_is_taken_away():
    step, w, _ = training()
    c = opened(step, torch.ones(2))
    w.grad = None
    c(torch.full((2,), 2.0))
    assert w.grad.tolist() == [2, 2]
    w.grad = torch.zeros(2)
    given = w.grad
    c(torch.full((2,), 3.0))
    assert given.tolist() == [0, 0]
    assert w.grad.tolist() == [3, 3]


def test_writes_are_seen_by_autograd():
    step, w, _ = training()
    x = torch.ones(2)
    c = opened(step, x)
    y = (w * w).sum()
    by_the_short_way(c, x)
    with pytest.raises(RuntimeError, match="inplace"):
        y.backward()


def test_a_backward_outside():
    model = torch.nn.Linear(3, 2)
    x = torch.randn(4, 3)
    c = opened(lambda x: F.relu(model(x)), x)
    for n in range(3):
        model.zero_grad()
        given = x * n
        by_the_short_way(c, given).sum().backward()
        found = model.weight.grad.clone()
        model.zero_grad()
        F.relu(model(given)).sum().backward()
        torch.testing.assert_close(found, model.weight.grad)


def test_an_argument_in_the_memory_that_is_written():
    w = torch.ones(2)

    def f(x):
        w.add_(1)
        return x + w

    c = opened(f, torch.ones(2))
    before = w.clone()
    assert c(w).tolist() == ((before + 1) * 2).tolist()


def test_functions_that_change_something_with_every_call_are_left_alone():
    step, w, _ = training()
    c = torch.compile(step)
    held = []
    for _ in range(20):
        c(torch.ones(2))
        held.append(w.grad)  # so that the memory can't be used again
    assert [g.tolist() for g in held] == [[1, 1]] * 20
    assert c.count == 1


def test_keywords_and_containers():
    def f(x, batch, *more, scale=1.0, shift=None):
        y = x * batch["a"] + batch["b"][0] * scale
        return y if shift is None else y + shift

    x, a, b = torch.ones(2), torch.full((2,), 2.0), torch.full((2,), 5.0)
    batch = {"a": a, "b": [b]}
    c = opened(f, x, batch, scale=3.0)
    assert by_the_short_way(c, x, {"a": b, "b": [a]}, scale=3.0).tolist() == [11, 11]
    others = [
        ((x, batch), {}), ((x, batch), {"scale": 4.0}), ((x, batch), {"shift": 3.0}),
        ((x, batch), {"scale": 3.0, "shift": torch.ones(2)}), ((x, batch, 3.0), {}),
        ((x, {"b": [b], "a": a}), {"scale": 3.0}), ((x, {"a": a, "b": (b,)}), {"scale": 3.0}),
        ((x, {"a": a, "b": [b, torch.ones(1)]}), {"scale": 3.0}),
        ((x, {"a": a, "b": [torch.ones(2).double()]}), {"scale": 3.0}),
        ((), {"x": x, "batch": batch, "scale": 3.0}),
    ]  # fmt: skip
    for args, kwargs in others:
        assert refused(c, *args, **kwargs)
        assert c(*args, **kwargs).tolist() == f(*args, **kwargs).tolist()
    for args, kwargs in others[-MOST_WAYS:]:
        c(*args, **kwargs)
        assert by_the_short_way(c, *args, **kwargs).tolist() == f(*args, **kwargs).tolist()
    for bad in ((), (x, None), (x, [a])):
        with pytest.raises((TypeError, AttributeError)):
            c(*bad, scale=3.0)


def test_several_shapes():
    model = torch.nn.Linear(3, 2)
    c = torch.compile(lambda x: model(x))
    sizes = range(1, MOST_WAYS + 4)
    for n in sizes:
        for _ in range(2):
            c(torch.ones(n, 3))
    missed = [refused(c, torch.ones(n, 3)) for n in sizes]
    assert missed == [True] * 3 + [False] * MOST_WAYS
    for n in sizes:
        x = torch.randn(n, 3)
        torch.testing.assert_close(c(x), model(x))
    assert c.count == len(sizes)


def test_training_on_several_shapes():
    """Programs that take turns write gradients to the same memory."""
    found = []
    for wrap in (lambda f: f, torch.compile):
        step, w, optimizer = training(wrap=wrap, rate=0.01)
        losses = []
        for n in range(12):
            losses.append(step(torch.arange(2.0 * (1 + n % 3)).view(-1, 2)).item())
            losses += w.grad.tolist()
        found.append(losses + w.tolist())
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    address = w.grad.data_ptr()
    for n in (1, 2, 3, 1):
        by_the_short_way(step, torch.ones(n, 2))
        assert w.grad.data_ptr() == address
        assert w.grad.tolist() == [n, n]


def test_arguments_with_a_history():
    w = torch.full((3,), 2.0, requires_grad=True)
    c = opened(lambda x: x * x, w * 3)
    assert refused(c, torch.ones(3, requires_grad=True))
    assert refused(c, torch.ones(3))
    x = w * 3
    by_the_short_way(c, x).sum().backward()
    assert w.grad.tolist() == [36, 36, 36]
    with torch.no_grad():
        assert refused(c, x)
    leaf = torch.full((3,), 4.0, requires_grad=True)
    c(leaf).sum().backward()
    assert leaf.grad.tolist() == [8, 8, 8]


def test_a_gradient_that_is_made_of_the_one_before():
    """What is read and what is written are not the same memory."""
    found = []
    for wrap in (lambda f: f, torch.compile):
        w = torch.ones(3, requires_grad=True)
        w.grad = torch.ones(3)

        @wrap
        def f(x, w=w):
            w.grad = w.grad * x
            return w.grad.sum()

        found.append([(f(torch.arange(3.0) + n).item(), w.grad.tolist()) for n in range(8)])
    assert found[0] == found[1]
