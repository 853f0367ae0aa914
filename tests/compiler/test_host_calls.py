"""Compiled functions with operators that NumPy runs: they are entered by the short way, too."""

import sys
import threading

import pytest

import lampion as torch
from lampion.core.op import OPS
from tests.compiler.entering import by_the_short_way, needs_short_way, opened, refused

pytestmark = needs_short_way
F = torch.nn.functional

STATE = torch.arange(12.0)

FUNCTIONS = {
    "cumsum": lambda x: torch.cumsum(x * 2, 0) + 1,
    "of an argument": lambda x: torch.cumsum(x, 0),
    "sort": lambda x: tuple(torch.sort(x.sin())),
    "topk": lambda x: torch.topk(x.cos(), 3)[0] * 2,
    "two in a row": lambda x: torch.cumsum(torch.sort(x)[0], 0),
    "of a state": lambda x: torch.cumsum(STATE, 0) + x,
    "of a view": lambda x: torch.cumsum(x.view(3, 4)[1:, ::2], 1) * 3,
    "of whole numbers": lambda x: torch.cumsum(x.long(), 0),
    "linear algebra": lambda x: torch.linalg.inv(x[:9].view(3, 3).cos() + torch.eye(3) * 3),
    "several results": lambda x: (torch.cummax(x.sin(), 0)[1], x, torch.sort(x)[1] + 1),
    "nothing": lambda x: torch.cumsum(x[:0], 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_those_of_the_function(name):
    f = FUNCTIONS[name]
    c = opened(f, torch.ones(12).cumsum(0))
    for n in range(4):
        x = torch.sin(torch.arange(12.0) * (n + 1)) * 5
        torch.testing.assert_close(by_the_short_way(c, x), f(x))
    assert c.count == 1


def test_results_are_memory_of_their_own():
    c = opened(lambda x: torch.cumsum(x, 0), torch.ones(4))
    first = by_the_short_way(c, torch.ones(4))
    second = by_the_short_way(c, torch.ones(4) * 2)
    assert (first.tolist(), second.tolist()) == ([1, 2, 3, 4], [2, 4, 6, 8])
    first.add_(1)
    assert second.tolist() == [2, 4, 6, 8]


def test_states_are_written_after_the_last_host_call():
    seen, total = torch.zeros(4), torch.zeros(4)

    def f(x):
        seen.add_(x)
        total.copy_(torch.cumsum(seen, 0))
        return torch.linalg.cholesky(x.view(2, 2)) + total.sum()

    good, bad = torch.tensor([4.0, 0, 0, 4]), torch.tensor([-4.0, 0, 0, 4])
    c = opened(f, good)
    seen.zero_()
    by_the_short_way(c, good)
    assert (seen.tolist(), total.tolist()) == ([4, 0, 0, 4], [4, 4, 4, 8])
    assert refused(c, bad)
    assert (seen.tolist(), total.tolist()) == ([4, 0, 0, 4], [4, 4, 4, 8])
    with pytest.raises(RuntimeError):  # eagerly, which writes before the error
        c(bad)
    assert (seen.tolist(), total.tolist()) == ([0, 0, 0, 8], [0, 0, 0, 8])
    by_the_short_way(c, good)


def test_training_steps():
    results = []
    for wrap in (lambda f: f, torch.compile):
        torch.manual_seed(0)
        w = torch.randn(6, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.05)
        x = torch.randn(6)

        @wrap
        def step(x, w=w, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (torch.sort(torch.cumsum(w * x, 0))[0] * torch.arange(6.0)).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        losses = [step(x).item() for _ in range(8)]
        results.append((losses, w.tolist(), w.grad.tolist()))
    for eager, compiled in zip(*results, strict=True):
        assert compiled == pytest.approx(eager, rel=1e-4)
    assert not refused(step, x)


def test_a_backward_outside():
    x = torch.arange(5.0).sin().requires_grad_()
    f = lambda x: (torch.sort(x)[0] * torch.arange(5.0)).cumsum(0)  # noqa: E731
    c = opened(f, x)
    for weight in (1.0, 2.0, 3.0):
        x.grad = None
        (by_the_short_way(c, x).sin() * weight).sum().backward()
        found, x.grad = x.grad, None
        (f(x).sin() * weight).sum().backward()
        torch.testing.assert_close(found, x.grad)


def test_arguments_that_are_written():
    def f(x):
        x.copy_(torch.cumsum(x, 0))
        return torch.sort(x, descending=True)[0]

    c = opened(f, torch.zeros(3))
    x = torch.ones(3)
    assert by_the_short_way(c, x).tolist() == [3, 2, 1]
    assert by_the_short_way(c, x).tolist() == [6, 3, 1]
    assert x.tolist() == [1, 3, 6] and x._version == 2


def test_threads():
    c = opened(lambda x: torch.cumsum(x, 0) * 2, torch.ones(50))
    wrong = []

    def work(number):
        for n in range(300):
            if c(torch.full((50,), float(n + number)))[-1].item() != 100 * (n + number):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_is_kept():
    c = opened(lambda x: torch.cumsum(x, 0) * 2, torch.ones(50))
    x = torch.ones(50)
    count, blocks = sys.getrefcount(x), sys.getallocatedblocks()
    for _ in range(1000):
        by_the_short_way(c, x)
    assert sys.getrefcount(x) == count
    assert sys.getallocatedblocks() - blocks < 100
    failing = opened(lambda x: torch.linalg.cholesky(x), torch.eye(2))
    bad, blocks = -torch.eye(2), sys.getallocatedblocks()
    for _ in range(1000):
        assert refused(failing, bad)
    assert sys.getallocatedblocks() - blocks < 100


def test_an_interrupt_inside_a_host_call(monkeypatch):
    interrupted = []
    kernel = OPS["cumsum"].kernel

    def stopped(*arrays, **params):
        if interrupted:
            raise interrupted.pop()
        return kernel(*arrays, **params)

    monkeypatch.setattr(OPS["cumsum"], "kernel", stopped)
    c = opened(lambda x: torch.cumsum(x, 0) * 2, torch.ones(3))
    interrupted.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        c(torch.ones(3))
    assert by_the_short_way(c, torch.ones(3)).tolist() == [2, 4, 6]
    interrupted += [ValueError(), ValueError()]  # by the short way, then by the long one
    assert c(torch.ones(3)).tolist() == [2, 4, 6]  # at last eagerly, where none is raised
    assert not interrupted
    assert by_the_short_way(c, torch.ones(3)).tolist() == [2, 4, 6]
