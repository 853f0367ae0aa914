"""The edges of `torch.compile`, by native programs: shared memory, kept gradients, errors, wrong
indices, interrupts, forks.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import lampion as torch
from lampion.compiler.native import runtime

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is missing")


def assert_same(found, expected):
    """Equal values, layouts and places in the graph."""
    for a, b in zip(found, expected, strict=True):
        assert a.tolist() == b.tolist()
        assert a.stride() == b.stride()
        assert a.requires_grad == b.requires_grad


# -- memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", [False, True])
def test_results_that_are_one_tensor_or_share_memory(gradient):
    def f(x):
        y = x * 2
        return y[0], y, y, y.t(), y.detach()

    compiled = torch.compile(f)
    for _ in range(3):
        x = torch.randn(2, 3).requires_grad_(gradient)
        found, expected = compiled(x), f(x)
        assert_same(found, expected)
        assert found[1] is found[2]
        if gradient:
            losses = [(r[3] ** 2).sum() + r[0].sum() * 2 + r[1].sum() for r in (found, expected)]
            first, second = (torch.autograd.grad(loss, x)[0] for loss in losses)
            assert first.tolist() == second.tolist()
        with torch.no_grad():
            found[1].add_(1)
        assert found[3].t().tolist() == found[1].tolist() == found[4].tolist()
    assert compiled.count == 1


@pytest.mark.parametrize("keep", [lambda g: g, lambda g: g[1:], lambda g: g.numpy()])
@pytest.mark.parametrize("inside", [False, True])
def test_gradients_that_the_user_keeps_stay(keep, inside):
    w = torch.ones(3, requires_grad=True)

    @torch.compile
    def step(x):
        if inside:
            w.grad = None
        (w * x).sum().backward()

    kept = []
    for i in range(5):
        w.grad = None if not inside else w.grad
        step(torch.full((3,), float(i)))
        kept.append(keep(w.grad))
    assert [g.tolist()[0] for g in kept] == [0, 1, 2, 3, 4]


def layouts():
    """Arguments whose elements lie in odd ways."""
    x = torch.arange(12.0)
    yield x[:1].expand(4, 3)
    yield x.view(3, 4).t()[::2]
    yield x.as_strided((3, 3), (2, 1))
    yield x.view(4, 3)[:, :1]
    yield torch.zeros(0, 3)
    yield torch.zeros(3, 0)
    yield torch.ones(1, 1).expand(1, 1)


def test_layouts():
    def f(x):
        return x * 2 + 1, x.sum(0), x.cumsum(1), torch.cat([x, x]).t(), x.softmax(-1)

    compiled = torch.compile(f)
    for _ in range(2):
        for x in layouts():
            for a, b in zip(compiled(x), f(x), strict=True):
                assert a.shape == b.shape
                assert torch.allclose(a, b)


def test_sums_into_one_element():
    def f(x, i):
        return x[i.expand(5)].sum() * 3

    for size in (1, 4):
        x, i = torch.ones(size, requires_grad=True), torch.zeros(1).long()
        compiled = torch.compile(f)
        for _ in range(2):
            (g,) = torch.autograd.grad(compiled(x, i), x)
            assert g.tolist() == [15.0] + [0.0] * (size - 1)


# -- wrong input ---------------------------------------------------------------------------------


def test_an_exception_leaves_what_eager_leaves():
    def make():
        seen = torch.zeros(2)

        def f(x, wrong):
            seen.add_(x)
            if wrong:
                raise ValueError("wrong")
            return seen * 2

        return seen, f

    (mine, f), (theirs, g) = make(), make()
    compiled = torch.compile(f)
    for wrong in (False, False, True, False, True, False):
        for call in (compiled, g):
            if wrong:
                with pytest.raises(ValueError, match="wrong"):
                    call(torch.ones(2), wrong)
            else:
                call(torch.ones(2), wrong)
        assert mine.tolist() == theirs.tolist()


def test_wrong_indices_never_read_elsewhere():
    table = torch.ones(4, 3)
    look_up = torch.compile(lambda i: table[i])
    loss = torch.compile(torch.nn.functional.cross_entropy)
    scores = torch.zeros(2, 3)
    look_up(torch.tensor([1, 2]))
    loss(scores, torch.tensor([0, 1]))
    with pytest.raises(IndexError):
        look_up(torch.tensor([1, 4]))
    with pytest.raises(IndexError):
        loss(scores, torch.tensor([0, 3]))
    with pytest.raises(IndexError):
        loss(scores, torch.tensor([0, -1]))
    assert loss(scores, torch.tensor([0, -100])).isfinite()


def test_shapes_that_do_not_fit_raise():
    compiled = torch.compile(lambda x, y: x @ y)
    compiled(torch.ones(2, 3), torch.ones(3, 2))
    with pytest.raises(RuntimeError, match="shape"):
        compiled(torch.ones(2, 3), torch.ones(2, 3))
    assert compiled(torch.ones(2, 3), torch.ones(3, 2)).tolist() == [[3.0, 3.0]] * 2


# -- processes and threads -----------------------------------------------------------------------


def test_threads_at_once():
    w = torch.ones(400, 40)
    compiled = torch.compile(lambda x: (x @ w).relu().sum(1))
    wrong = []

    def work(k):
        x = torch.full((50, 400), float(k))
        wrong.extend(k for _ in range(20) if compiled(x).tolist() != [16000.0 * k] * 50)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_interrupt_is_honoured_after_a_long_call():
    @torch.compile
    def long(x):
        for _ in range(20):
            x = (x @ x).tanh()
        return x

    x = torch.zeros(700, 700)
    long(x)
    threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(200):
            long(x)
    assert long(x).sum() == 0


FORKS = """
import os
import lampion as torch
from lampion.utils.data import DataLoader, Dataset

compiled = torch.compile(lambda x: (x @ x).tanh() + x)
x = torch.ones(300, 300)
compiled(x), compiled(x)

class Rows(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, i):
        return compiled(x * i).sum()

seen = sum(batch.shape[0] for batch in DataLoader(Rows(), batch_size=2, num_workers=2))
child = os.fork()
if not child:
    fresh = torch.compile(lambda x: (x @ x.t()).exp() * 0)
    fine = compiled(x).isfinite().all() and fresh(x * 0).sum() == 0 and fresh(x * 0).sum() == 0
    os._exit(0 if fine else 1)
print(seen, os.waitpid(child, 0)[1], compiled(x)[0, 0].item())
"""


def test_forked_processes_compute():
    code = textwrap.dedent(FORKS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["8", "0", "2.0"], done.stderr
