"""Compiled functions that write to their arguments."""

import threading

import numpy as np
import pytest

import lampion as torch
from tests.compiler.entering import by_the_short_way, needs_short_way, opened, refused

pytestmark = needs_short_way


def add_one(x):
    x.add_(1)
    return x


def test_an_argument():
    c = opened(add_one, torch.zeros(3))
    x = torch.zeros(3)
    assert by_the_short_way(c, x) is x
    assert c(x) is x
    assert x.tolist() == [2, 2, 2]
    assert c.count == 1


def test_each_write_counts():
    c = opened(add_one, torch.zeros(3))
    x = torch.zeros(3)
    for n in range(1, 400):  # past the small integers
        c(x)
        assert x._version == n
    w = torch.ones(3, requires_grad=True)
    y = (w * x).sum()
    by_the_short_way(c, x)
    with pytest.raises(RuntimeError, match="inplace"):
        y.backward()


def test_a_view_of_the_argument():
    def f(x):
        x[1:3].mul_(2)
        x[0] = 7
        return x.sum()

    c = opened(f, torch.ones(4))
    x, y = torch.arange(4.0), torch.arange(4.0)
    assert by_the_short_way(c, x).item() == f(y).item()
    assert x.tolist() == y.tolist() == [7, 2, 4, 3]


def test_an_argument_that_is_a_view():
    c = opened(add_one, torch.zeros(3))
    base = torch.zeros(3, 3)
    row = base[1]
    by_the_short_way(c, row)
    assert base.tolist() == [[0] * 3, [1] * 3, [0] * 3]
    assert base._version == row._version == 1
    w = torch.ones(3, 3, requires_grad=True)
    y = (w * base).sum()
    by_the_short_way(c, row)
    with pytest.raises(RuntimeError, match="inplace"):
        y.backward()
    column = base[:, 1]
    assert refused(c, column)
    c(column)
    assert base.tolist() == [[0, 1, 0], [2, 3, 2], [0, 1, 0]]


def test_an_argument_that_is_captured_as_well():
    w = torch.zeros(3)

    def f(x):
        x.add_(1)
        return w * 10 + x

    for c, rounds in ((torch.compile(f), 6), (f, 6)):
        w.zero_()
        found = [c(w).tolist() for _ in range(rounds)]
        found += [c(torch.ones(3)).tolist(), c(w).tolist(), c(w).tolist()]
        assert [row[0] for row in found] == [11, 22, 33, 44, 55, 66, 62, 77, 88]
    c = opened(f, w)
    w.zero_()
    assert by_the_short_way(c, w).tolist() == [11] * 3
    assert refused(c, torch.ones(3))
    assert refused(c, w[:])
    assert c(w[:]).tolist() == [22] * 3


@pytest.mark.filterwarnings("ignore:.*runs eagerly")
def test_a_view_of_what_is_captured():
    w = torch.zeros(4)

    def f(x):
        x.add_(1)
        return w + 0, x * 2

    c = opened(f, torch.zeros(2))
    for part in (w[:2], w[1:3], w.detach()[2:], torch.from_numpy(w.numpy()[:2])):
        assert refused(c, part)
        before = w.tolist()
        seen, _ = c(part)
        assert seen.tolist() == w.tolist() != before


@pytest.mark.filterwarnings("ignore:.*runs eagerly")
def test_arguments_in_the_same_memory():
    def f(x, y):
        x.add_(y)
        y.mul_(3)

    c = opened(f, torch.ones(3), torch.ones(3))
    x, y = torch.ones(3), torch.ones(3)
    by_the_short_way(c, x, y)
    assert (x.tolist(), y.tolist()) == ([2] * 3, [3] * 3)
    base, plain = torch.arange(6.0), torch.arange(6.0)
    for first, second in ((slice(0, 3), slice(1, 4)), (slice(2, 5), slice(2, 5))):
        assert refused(c, base[first], base[second])
        c(base[first], base[second])
        f(plain[first], plain[second])
        assert base.tolist() == plain.tolist()
    assert refused(c, x, x)
    c(x, x)
    assert x.tolist() == [12] * 3
    memory = np.arange(4, dtype=np.float32)
    first, second = torch.from_numpy(memory[:3]), torch.from_numpy(memory[1:])
    assert refused(c, first, second)
    c(first, second)
    assert memory.tolist() == [1, 9, 15, 9]
    by_the_short_way(c, base[:3], torch.ones(3))


@pytest.mark.filterwarnings("ignore:.*runs eagerly")
def test_one_that_is_only_read():
    def f(x, y):
        x.copy_(y)
        return x + y

    c = opened(f, torch.zeros(3), torch.ones(3))
    base = torch.arange(5.0)
    assert refused(c, base[:3], base[2:])
    assert c(base[:3], base[2:]).tolist() == [6, 6, 8]
    assert base.tolist() == [2, 3, 4, 3, 4]
    x, y = torch.zeros(3), torch.arange(3.0)
    assert by_the_short_way(c, x, y).tolist() == [0, 2, 4]
    assert x.tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:.*not writable")
def test_what_forbids_writing():
    c = opened(add_one, torch.zeros(3))
    fixed = torch.from_numpy(np.frombuffer(bytes(12), np.float32))
    with torch.inference_mode():
        rigid = torch.zeros(3)
    own = torch.zeros(3)
    own._data.flags.writeable = False
    for x, message in ((fixed, "read-only"), (rigid, "nference tensor")):
        assert refused(c, x)
        with pytest.raises(RuntimeError, match=message):
            c(x)
        assert x._data.tolist() == [0, 0, 0]
    assert refused(c, own)
    assert c(own).tolist() == [1, 1, 1]  # as eagerly
    with torch.inference_mode():
        assert c(rigid).tolist() == [1, 1, 1]
    leaf = torch.zeros(3, requires_grad=True)
    assert refused(c, leaf)
    with pytest.raises(RuntimeError, match="leaf"):
        c(leaf)
    with torch.no_grad():
        assert c(leaf).tolist() == [1, 1, 1]


def test_states_and_arguments_together():
    count = torch.zeros(2)

    def f(x):
        count.add_(1)
        x.add_(count)
        return x.sum()

    c = opened(f, torch.zeros(2))
    x = torch.zeros(2)
    assert by_the_short_way(c, x).item() == 8
    assert refused(c, count)
    assert c(count).item() == 20
    assert count.tolist() == [10, 10]


def test_a_failing_check_writes_nothing():
    table = torch.arange(3.0)

    def f(x, i):
        x.add_(1)
        return table[i] + x

    c = opened(f, torch.zeros(2), torch.tensor([0, 1]))
    x = torch.zeros(2)
    assert refused(c, x, torch.tensor([0, 3]))
    assert x.tolist() == [0, 0] and x._version == 0
    with pytest.raises(IndexError):
        c(x, torch.tensor([0, 3]))
    y = torch.zeros(2)
    with pytest.raises(IndexError):
        f(y, torch.tensor([0, 3]))
    assert x.tolist() == y.tolist()  # what the function has done before the error


def test_a_training_step_with_a_state_that_is_passed():
    """An exponential average of the weights that the caller holds."""
    results = []
    for wrap in (lambda f: f, torch.compile):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        average, x = torch.zeros(2, 3), torch.randn(4, 3)

        @wrap
        def step(x, average, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = model(x).square().sum()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                average.mul_(0.9).add_(model.weight, alpha=0.1)
            return loss

        losses = [step(x, average).item() for _ in range(8)]
        results.append((losses, average, average._version))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1])
    assert step.way is not None and not refused(step, x, average)


def test_threads_with_arguments_of_their_own():
    c = opened(add_one, torch.zeros(1000))
    given = [torch.zeros(1000) for _ in range(2)]

    def work(x):
        for _ in range(500):
            c(x)

    threads = [threading.Thread(target=work, args=(x,)) for x in given]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((x == 500).all() for x in given)
