"""Compiled functions with operators that NumPy runs: they are entered by the short way, too."""

import gc
import sys
import threading

import pytest

import lampion as torch
from lampion.compiler.lower.kernels import Host
from lampion.core.op import OPS
from tests.compiler.entering import by_the_short_way, needs_short_way, opened, refused

pytestmark = needs_short_way
F = torch.nn.functional

STATE = torch.arange(12.0)


def highest(x):
    """The largest element so far: NumPy runs it."""
    return torch.cummax(x, 0)[0]


FUNCTIONS = {
    "of a kernel's": lambda x: highest(x * 2) + 1,
    "of an argument": highest,
    "two in a row": lambda x: highest(highest(-x).flip(0)),
    "of a state": lambda x: highest(STATE) + x,
    "of a view": lambda x: torch.cummax(x.view(3, 4)[1:, ::2], 1)[0] * 3,
    "of whole numbers": lambda x: highest(x.long()),
    "linear algebra": lambda x: torch.linalg.inv(x[:9].view(3, 3).cos() + torch.eye(3) * 3),
    "several results": lambda x: (torch.cummax(x.sin(), 0)[1], x, highest(x) + 1),
    "nothing": lambda x: highest(x[:0]),
    "columns that are sorted": lambda x: torch.sort(x.view(3, 4).sin(), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_there_are_host_calls(name):
    c = opened(FUNCTIONS[name], torch.ones(12))
    (program,) = [made for row in c.programs.values() for made in row]
    assert any(isinstance(task, Host) for task in program.executable.tasks)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_those_of_the_function(name):
    f = FUNCTIONS[name]
    c = opened(f, torch.ones(12).cumsum(0))
    for n in range(4):
        x = torch.sin(torch.arange(12.0) * (n + 1)) * 5
        torch.testing.assert_close(by_the_short_way(c, x), f(x))
    assert c.count == 1


def test_results_are_memory_of_their_own():
    c = opened(highest, torch.ones(4))
    first = by_the_short_way(c, torch.ones(4))
    second = by_the_short_way(c, torch.ones(4) * 2)
    assert (first.tolist(), second.tolist()) == ([1] * 4, [2] * 4)
    first.add_(7)
    assert second.tolist() == [2] * 4


def test_states_are_written_after_the_last_host_call():
    seen, total = torch.zeros(4), torch.zeros(4)

    def f(x):
        seen.add_(x)
        total.copy_(highest(seen))
        return torch.linalg.cholesky(x.view(2, 2)) + total.sum()

    good, bad = torch.tensor([4.0, 0, 0, 4]), torch.tensor([-4.0, 0, 0, 4])
    c = opened(f, good)
    seen.zero_()
    by_the_short_way(c, good)
    assert (seen.tolist(), total.tolist()) == ([4, 0, 0, 4], [4, 4, 4, 4])
    assert refused(c, bad)
    assert (seen.tolist(), total.tolist()) == ([4, 0, 0, 4], [4, 4, 4, 4])
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
            loss = (highest(torch.logcumsumexp(w * x, 0)) * torch.arange(6.0)).square().mean()
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

    def f(x):
        return highest(x * torch.arange(5.0)).exp()

    c = opened(f, x)
    for weight in (1.0, 2.0, 3.0):
        x.grad = None
        (by_the_short_way(c, x).sin() * weight).sum().backward()
        found, x.grad = x.grad, None
        (f(x).sin() * weight).sum().backward()
        torch.testing.assert_close(found, x.grad)


def test_arguments_that_are_written():
    def f(x):
        x.copy_(highest(x) * 2)
        return highest(-x)

    c = opened(f, torch.zeros(3))
    x = torch.tensor([2.0, 1.0, 3.0])
    assert by_the_short_way(c, x).tolist() == [-4, -4, -4]
    assert by_the_short_way(c, x).tolist() == [-8, -8, -8]
    assert x.tolist() == [8, 8, 12] and x._version == 2


def test_threads():
    c = opened(lambda x: highest(x) * 2, torch.ones(50))
    wrong = []

    def work(number):
        for n in range(300):
            if c(torch.full((50,), float(n + number)))[-1].item() != 2 * (n + number):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def kept_blocks(call):
    """How much more memory is in use after many calls."""
    counts = []
    for _ in range(2):
        for _ in range(1000):
            call()
        gc.collect()
        counts.append(sys.getallocatedblocks())
    return counts[1] - counts[0]


def test_states_stay_while_python_runs(monkeypatch):
    """A state that another thread takes away is there until the call ends."""
    w, events = torch.ones(4), []
    kernel = OPS["cummax"].kernel

    def taking(*arrays, **params):
        if events:
            events.append(sys.getrefcount(w._data))
            w.data = torch.full((4,), 5.0)
        return kernel(*arrays, **params)

    monkeypatch.setattr(OPS["cummax"], "kernel", taking)
    c = opened(lambda x: highest(x) * w, torch.ones(4))
    count = sys.getrefcount(w._data)
    events.append("start")
    assert by_the_short_way(c, torch.ones(4)).tolist() == [1] * 4
    assert events == ["start", count + 1]
    assert c(torch.ones(4)).tolist() == [5] * 4


def test_nothing_is_kept():
    c = opened(lambda x: highest(x) * 2, torch.ones(50))
    x = torch.ones(50)
    count = sys.getrefcount(x)
    assert kept_blocks(lambda: by_the_short_way(c, x)) < 500
    assert sys.getrefcount(x) == count
    failing = opened(lambda x: torch.linalg.cholesky(x), torch.eye(2))
    bad = -torch.eye(2)
    assert refused(failing, bad)
    assert kept_blocks(lambda: refused(failing, bad)) < 500


def test_an_interrupt_inside_a_host_call(monkeypatch):
    interrupted = []
    kernel = OPS["cummax"].kernel

    def stopped(*arrays, **params):
        if interrupted:
            raise interrupted.pop()
        return kernel(*arrays, **params)

    monkeypatch.setattr(OPS["cummax"], "kernel", stopped)
    c = opened(lambda x: highest(x) * 2, torch.ones(3))
    interrupted.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        c(torch.ones(3))
    assert by_the_short_way(c, torch.ones(3)).tolist() == [2, 2, 2]
    interrupted += [ValueError(), ValueError()]  # by the short way, then by the long one
    assert c(torch.ones(3)).tolist() == [2, 2, 2]  # at last eagerly, where none is raised
    assert not interrupted
    assert by_the_short_way(c, torch.ones(3)).tolist() == [2, 2, 2]
