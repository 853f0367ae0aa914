"""Random numbers in compiled functions: those of an eager run with the same seed, and the same
state of the generator afterwards, whatever happens in between.
"""

import threading
import time

import numpy as np
import pytest

import lampion as torch
from lampion import random as streams
from lampion.compiler.kernels import draws
from lampion.compiler.lower.kernels import Host
from lampion.ops.large import Least
from lampion.random import generator as stream
from tests.compiler.entering import by_the_short_way, needs_short_way, opened, refused

pytestmark = needs_short_way
F = torch.nn.functional


def outcomes(f, calls):
    """What the calls give with a fresh seed (an exception as its type), and the generator's state
    after them.
    """
    torch.manual_seed(7)
    found = []
    for args in calls:
        try:
            result = f(*args)
        except Exception as error:
            found.append(type(error).__name__)
            continue
        results = result if isinstance(result, tuple) else (result,)
        found.append([r.detach().clone().tolist() for r in results])
    return found, torch.get_rng_state().tolist(), torch.randn(3).tolist()


def check_draws(f, *calls, programs=1):
    """A compiled function draws what the function itself draws; gives it back."""
    c = torch.compile(f)
    assert outcomes(c, calls) == outcomes(f, calls)
    assert outcomes(c, calls) == outcomes(f, calls)
    assert c.count == programs
    return c


# -- stages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 15, 16, 311, 312, 623, 624, 625, 5000])
def test_stages_draw_what_the_streams_draw(count):
    mine, theirs = (streams.Generator().manual_seed(3) for _ in range(2))

    def drawn(numbers, dtype=np.float32):
        name, values = numbers
        out = np.empty(count, dtype)
        draws.fill(mine, name, out, values)
        return out

    f32 = np.dtype(np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(drawn(("raw_words", ()), np.uint32), theirs.words(count))
        for dtype in (f32, np.dtype(np.float64)):
            for p in (0.0, 0.1, 0.5, 2**-40, 1.0):
                found = drawn(draws.bernoulli_numbers(count, dtype, p), dtype)
                np.testing.assert_array_equal(found, streams.bernoulli(count, p, dtype, theirs))
        for low, high in ((0.0, 1.0), (-2.0, 3.0), (1.0, 1.0000001)):
            found = drawn(draws.uniform_numbers(count, f32, low, high))
            np.testing.assert_array_equal(found, streams.uniform(count, low, high, f32, theirs))
        if count >= 16:
            found = drawn(draws.normal_numbers(count, f32, 0.5, 2.0, True))
            expected = streams.normal(count, 0.5, 2.0, f32, theirs)
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(mine.state(), theirs.state())


EAGERLY = {
    "rand": lambda: torch.rand(3, 1500),
    "uniform_": lambda: torch.empty(5000).uniform_(-1, 3),
    "uniform_ of doubles": lambda: torch.empty(5000, dtype=torch.float64).uniform_(),
    "randn": lambda: torch.randn(5007),
    "randn of doubles": lambda: torch.randn(5007, dtype=torch.float64),
    "normal_ of a transpose": lambda: torch.empty(70, 80).t().normal_(),
    "bernoulli_": lambda: torch.empty(5000, dtype=torch.bool).bernoulli_(0.3),
    "dropout": lambda: F.dropout(torch.ones(5000), 0.3),
    "dropout of doubles": lambda: F.dropout(torch.ones(5000, dtype=torch.float64), 0.3),
    "dropout of halves": lambda: F.dropout(torch.ones(5000, dtype=torch.bfloat16), 0.3),
    "integers": lambda: torch.randint(-5, 9, (5000,)),
    "permutation": lambda: torch.randperm(5000),
}  # fmt: skip


@pytest.mark.parametrize("name", EAGERLY)
def test_many_numbers_are_the_same_by_compiled_code(name, monkeypatch):
    monkeypatch.setattr(Least, "size", 1000)
    found = []
    for compiled in (stream.compiled, None):
        monkeypatch.setattr(stream, "compiled", compiled)
        torch.manual_seed(11)
        torch.rand(3)  # an odd number of words
        found.append((EAGERLY[name]().tolist(), torch.get_rng_state().tolist()))
    assert found[0] == found[1]


# -- functions -------------------------------------------------------------------------------------


def test_draws_keep_their_order():
    def f():
        first = torch.bernoulli(torch.full((40,), 0.5))  # its chances are made by a kernel
        return first, torch.rand(3), torch.randn(20)

    check_draws(f, (), (), (), ())


FUNCTIONS = {
    "dropout": lambda x: F.dropout(x, 0.3),
    "dropout of doubles": lambda x: F.dropout(x.double(), 0.3),
    "dropout of halves": lambda x: F.dropout(x.half(), 0.3),
    "dropout of a transpose": lambda x: F.dropout(x.t(), 0.3),
    "dropout of turned halves": lambda x: F.dropout(x.half().view(2, 4, 5).permute(2, 0, 1), 0.3),
    "draws like a transpose": lambda x: torch.rand_like(x.t()) + torch.randn_like(x.t()),
    "fills of a transpose": lambda x: torch.zeros(5, 8).t().bernoulli_(0.3) + x,
    "nothing dropped": lambda x: F.dropout(x, 0.0) + F.dropout(x, 1.0),
    "channels": lambda x: F.dropout2d(x.view(2, 5, 2, 2), 0.3),
    "alpha": lambda x: F.alpha_dropout(x, 0.3, True),
    "features": lambda x: F.feature_alpha_dropout(x.view(2, 5, 4), 0.3, True),
    "in place": lambda x: F.dropout(x + 1, 0.3, inplace=True),
    "uniform": lambda x: x + torch.rand(8, 5),
    "uniform_": lambda x: torch.empty(8, 5).uniform_(-2, 3) + x,
    "normal": lambda x: x + torch.randn(8, 5),
    "few normals": lambda x: x + torch.randn(5),
    "an odd number of normals": lambda x: (x + torch.randn(5), torch.randn(3)),
    "normal_": lambda x: torch.empty(8, 5).normal_(2, 3) + x,
    "bernoulli_": lambda x: torch.empty(8, 5).bernoulli_(0.25) + x,
    "integers": lambda x: x + torch.randint(0, 7, (8, 5)),
    "permutations": lambda x: x[torch.randperm(8)],
    "exponential": lambda x: torch.empty_like(x).exponential_(),
    "multinomial": lambda x: torch.multinomial(x.abs() + 0.1, 3),
    "nothing": lambda x: torch.rand(0) + torch.rand(1),
    "two": lambda x: F.dropout(F.dropout(x, 0.5).relu(), 0.5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_draw_what_they_draw_eagerly(name):
    x = torch.arange(40.0).view(8, 5) / 40
    c = check_draws(FUNCTIONS[name], *[(x,)] * 6)
    assert not refused(c, x)


def test_draws_are_stages_of_the_program():
    x = torch.randn(2, 8, 32)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
    parts = (layer, lambda x: F.dropout(x.transpose(1, 2), 0.2), lambda x: torch.rand_like(x) + x)
    for f in parts:
        c = opened(lambda x, f=f: f(x) * 2, x)
        (program,) = [made for row in c.programs.values() for made in row]
        assert not any(isinstance(task, Host) for task in program.executable.tasks)
        torch.manual_seed(1)
        found = by_the_short_way(c, x)
        torch.manual_seed(1)
        torch.testing.assert_close(found, f(x) * 2)


def test_attention_with_dropout():
    x = torch.arange(40.0).view(1, 2, 5, 4) / 40

    def attend(x):
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    c = opened(attend, x)
    for n in range(3):
        torch.manual_seed(n)
        found = by_the_short_way(c, x)
        torch.manual_seed(n)
        torch.testing.assert_close(found, attend(x))


def test_generators_of_ones_own():
    first, second = torch.Generator(), torch.Generator()

    def one(x):
        return x + torch.rand(40, generator=first)

    def two(x):
        return one(x) + torch.randn(40, generator=second) + torch.rand(40)

    for f, short in ((one, True), (two, False)):
        found = []
        for g in (f, torch.compile(f)):
            first.manual_seed(1), second.manual_seed(2), torch.manual_seed(3)
            found.append([g(torch.zeros(40)).tolist() for _ in range(5)])
            states = [first.get_state(), second.get_state(), torch.get_rng_state()]
            found[-1] += [s.tolist() for s in states]
        assert (g.way is not None) is short
        assert found[0] == found[1]


def test_seeds_and_states_are_set_between_calls():
    c = opened(lambda x: F.dropout(x), torch.ones(700))
    torch.manual_seed(1)
    first = by_the_short_way(c, torch.ones(700)).tolist()
    state = torch.get_rng_state()
    second = by_the_short_way(c, torch.ones(700)).tolist()
    torch.set_rng_state(state)
    assert by_the_short_way(c, torch.ones(700)).tolist() == second != first
    torch.manual_seed(1)
    assert by_the_short_way(c, torch.ones(700)).tolist() == first
    with torch.random.fork_rng():
        third = by_the_short_way(c, torch.ones(700)).tolist()
    assert by_the_short_way(c, torch.ones(700)).tolist() == third


# -- training --------------------------------------------------------------------------------------


def losses(wrap, optimizer, dtype, steps=12, switch=4):
    """Losses of a small model with dropout; it is evaluated after every few steps."""
    torch.manual_seed(5)
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 40), torch.nn.ReLU(), torch.nn.Dropout(0.4), torch.nn.Linear(40, 3),
        torch.nn.Dropout(0.1),
    ).to(dtype)  # fmt: skip
    made = optimizer(model.parameters(), lr=0.01)
    x, y = torch.randn(8, 6, dtype=dtype), torch.randint(0, 3, (8,))

    @wrap
    def step(x, y):
        made.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        made.step()
        return loss

    evaluate = wrap(lambda x: model(x))
    found = []
    for n in range(steps):
        found.append(step(x, y).item())
        if n % switch == switch - 1:
            model.eval()
            found.append(evaluate(x).sum().item())
            model.train()
            found.append(evaluate(x).sum().item())
    return found, torch.get_rng_state().tolist(), step


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_training_with_dropout(optimizer, dtype):
    eager, state, _ = losses(lambda f: f, optimizer, dtype)
    compiled, same_state, step = losses(torch.compile, optimizer, dtype)
    assert compiled == pytest.approx(eager, rel=1e-4 if dtype is torch.float32 else 1e-9)
    assert same_state == state
    assert step.way is not None


def test_changing_modes_again_and_again_keeps_the_short_way():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5))
    c = torch.compile(lambda x: model(x))
    x = torch.ones(2, 4)
    for _ in range(12):
        for mode in (True, False):
            model.train(mode)
            for _ in range(20):
                c(x)
        assert not refused(c, x)
    assert c.count == 2


def test_a_backward_outside():
    x = torch.ones(40, requires_grad=True)
    c = opened(lambda x: F.dropout(x * 2), x)
    torch.manual_seed(2)
    y = by_the_short_way(c, x)
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()
    torch.manual_seed(2)
    assert F.dropout(x * 2).tolist() == y.tolist()


# -- errors ----------------------------------------------------------------------------------------


def test_a_call_that_fails_has_drawn_what_it_draws_eagerly():
    table = torch.arange(2.0)

    def late(x):  # the index depends on what is drawn
        return table[(2.01 - F.dropout(x, 0.05)).long()]

    def by_host(x):
        return table[(x + torch.randn(3)).clamp(0, 9).long()] + torch.rand(2)[:1]

    def in_host(x):
        return torch.multinomial(F.dropout(x, 0.5), 1) + torch.rand(1)

    ones = torch.ones(2)  # that are dropped sometimes, both
    for f, x in ((late, torch.full((8,), 0.95)), (by_host, torch.zeros(3)), (in_host, ones)):
        c = check_draws(f, *[(x,)] * 40)
        found, *_ = outcomes(c, [(x,)] * 40)
        assert {isinstance(result, str) for result in found} == {True, False}


def test_a_failing_call_by_the_short_way_puts_the_generator_back():
    table = torch.arange(3.0)

    def f(x, i):
        y = F.dropout(x, 0.5)
        return y + table[i + (y * 0).long()]

    c = opened(f, torch.ones(2), torch.tensor([0, 1]))
    before = torch.get_rng_state().tolist()
    assert refused(c, torch.ones(2), torch.tensor([0, 7]))
    assert torch.get_rng_state().tolist() == before
    assert not refused(c, torch.ones(2), torch.tensor([0, 2]))
    assert torch.get_rng_state().tolist() != before


# -- threads ---------------------------------------------------------------------------------------


def run_together(*works):
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("size", [40, 30_000])
def test_threads_share_a_generator(size):
    """Whoever comes first: no number is drawn twice, none is lost."""
    c = opened(lambda x: F.dropout(x), torch.ones(size))
    found = []

    def work():
        for _ in range(100):
            found.append(c(torch.ones(size))._data.tobytes())

    def eagerly():
        for _ in range(100):
            found.append(F.dropout(torch.ones(size))._data.tobytes())

    torch.manual_seed(1)
    run_together(work, eagerly, work)
    state = torch.get_rng_state().tolist()
    torch.manual_seed(1)
    expected = [F.dropout(torch.ones(size))._data.tobytes() for _ in range(300)]
    assert sorted(found) == sorted(expected)
    assert state == torch.get_rng_state().tolist()


def test_a_generator_that_is_in_use_is_waited_for():
    c = opened(lambda x: F.dropout(x), torch.ones(40))
    taken, left = threading.Event(), []

    def hold():
        with stream.default_generator._engine.lock:
            taken.set()
            time.sleep(0.05)
            left.append(time.perf_counter())

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    by_the_short_way(c, torch.ones(40))
    assert left and time.perf_counter() > left[0]
    thread.join()
