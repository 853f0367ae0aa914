"""Indices that are out of bounds in compiled programs: eager's error, and nothing is written."""

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

import lampion as torch
from lampion.compiler.lower import pipeline as lower
from lampion.compiler.lower.bounds import CHECK, bounds
from lampion.compiler.native.stages import CheckFailed
from lampion.compiler.program import program
from lampion.compiler.trace.graph import Graph, Input, Step, Value
from lampion.core.op import OPS
from lampion.nn import functional as F

from .guarded import guarded
from .lowering import graph_of

WORDS, WIDTH = 20, 16


@pytest.fixture(params=[1, 2])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Language(torch.nn.Module):
    """Embeddings, attention, a normalised layer with dropout, and a head."""

    def __init__(self, drop):
        super().__init__()
        self.words = torch.nn.Embedding(WORDS, WIDTH)
        self.places = torch.nn.Embedding(8, WIDTH)
        self.inner = torch.nn.Linear(WIDTH, WIDTH)
        self.drop = torch.nn.Dropout(drop) if drop else torch.nn.Identity()
        self.head = torch.nn.Linear(WIDTH, WORDS)

    def forward(self, x):
        x = self.words(x) + self.places(torch.arange(x.shape[1]))
        x = x + F.scaled_dot_product_attention(x, x, x, is_causal=True)
        return self.head(F.layer_norm(self.drop(self.inner(x)), (WIDTH,)))


def language(size=4, drop=0.0):
    model = Language(drop)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        loss.backward()
        optimizer.step()
        return loss

    rng = np.random.default_rng(0)
    x, y = (torch.tensor(rng.integers(0, WORDS, (size, 8))) for _ in range(2))
    return step, model, optimizer, x, y


def classifier(size=6):
    layers = (torch.nn.Linear(5, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU())
    model = torch.nn.Sequential(*layers, torch.nn.Linear(32, WORDS))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, model, optimizer, torch.randn(size, 5), torch.tensor(np.arange(size) % WORDS)


def memory(model, optimizer):
    """Copies of parameters and the optimizer's state."""
    held = list(model.parameters())
    for state in optimizer.state.values():
        held += [v for v in state.values() if isinstance(v, torch.Tensor)]
    return [t.detach().numpy().copy() for t in held]


def same(a, b):
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def changed(t, value):
    """A copy with one element replaced."""
    made = t.clone()
    made.view(-1)[made.numel() // 2] = value
    return made


def message(function, *args):
    with pytest.raises((IndexError, RuntimeError)) as raised:
        function(*args)
    assert type(raised.value) is not CheckFailed
    return str(raised.value)


@pytest.mark.parametrize("make", [classifier, language])
@pytest.mark.parametrize("size", [6, 600])
@pytest.mark.parametrize("bad", [WORDS, -1, 1 << 40, -(1 << 62)])
def test_a_wrong_label_changes_nothing(make, size, bad, threads):
    torch.manual_seed(0)
    step, model, optimizer, x, y = make(size)
    compiled = torch.compile(step)
    for _ in range(4):
        compiled(x, y)
    assert compiled.count and compiled.way  # the gate is open
    before = memory(model, optimizer)
    assert str(bad) in message(compiled, x, changed(y, bad))
    assert same(before, memory(model, optimizer))
    assert message(compiled, x, changed(y, bad)) == message(step, x, changed(y, bad))
    ignored = compiled(x, changed(y, -100))
    assert np.isfinite(ignored.item())
    assert not same(before, memory(model, optimizer))
    assert np.isfinite(compiled(x, y).item())
    assert not compiled.eager


@pytest.mark.parametrize("bad", [WORDS, -1])
def test_a_wrong_word_changes_nothing(bad, threads):
    torch.manual_seed(0)
    step, model, optimizer, x, y = language()
    compiled = torch.compile(step)
    for _ in range(4):
        compiled(x, y)
    before = memory(model, optimizer)
    assert message(compiled, changed(x, bad), y) == message(step, changed(x, bad), y)
    assert same(before, memory(model, optimizer))
    assert np.isfinite(compiled(x, y).item())


@pytest.mark.parametrize("make", [classifier, lambda: language(drop=0.2)])
def test_a_failed_call_and_the_next_are_as_in_eager(make):
    """The same parameters, statistics and random numbers after errors in between."""
    ends = []
    for compile in (False, True):
        torch.manual_seed(0)
        step, model, optimizer, x, y = make()
        call = torch.compile(step) if compile else step
        losses = []
        for i in range(8):
            if i in (4, 6):
                message(call, x, changed(y, WORDS))
            losses.append(call(x, y).item())
        held = memory(model, optimizer) + [b.numpy().copy() for b in model.buffers()]
        ends.append((losses, held, torch.rand(3).numpy()))
    np.testing.assert_allclose(ends[1][0], ends[0][0], rtol=1e-5)
    for a, b in zip(ends[1][1], ends[0][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(ends[1][2], ends[0][2])


T = torch.randn(6, 4)
CASES = {
    "embedding": (lambda i: F.embedding(i, T), (6, -1)),
    "index": (lambda i: T[i], (6, -7)),
    "index of two": (lambda i: T[i, i], (4, -5)),
    "index of a column": (lambda i: T[:, i], (4, -5)),
    "index_select": (lambda i: T.index_select(0, i), (6, -1)),
    "gather": (lambda i: T.gather(0, i.reshape(3, 1)), (6, -1)),
    "take": (lambda i: T.take(i), (24, -25)),
    "scatter": (lambda i: T.scatter(0, i.reshape(3, 1), 1.0), (6, -1)),
    "scatter_add": (lambda i: T.scatter_add(0, i.reshape(3, 1), T[:3, :1]), (6, -1)),
    "scatter_reduce": (lambda i: T.scatter_reduce(0, i.view(3, 1), T[:3, :1], "amax"), (6, -1)),
    "index_add": (lambda i: T.index_add(0, i, T[:3]), (6, -1)),
    "index_copy": (lambda i: T.index_copy(0, i, T[:3]), (6, -1)),
    "index_fill": (lambda i: T.index_fill(0, i, 2.0), (6, -7)),
    "index_put": (lambda i: T.index_put((i,), torch.ones(3, 4)), (6, -7)),
    "nll_loss": (lambda i: F.nll_loss(T[:3].log_softmax(1), i), (4, -1)),
    "weighted": (lambda i: F.cross_entropy(T[:3], i, torch.ones(4)), (4, -1)),
    "part": (lambda i: T[i[1:]], (6, -7)),
    "computed": (lambda i: T[T.argmax(0)[:3] * 0 + i], (6, -7)),
}


@pytest.mark.parametrize("backend", ["native", "interpreter"])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
@pytest.mark.parametrize("name", CASES)
def test_every_operator(name, kind, backend):
    function, wrong = CASES[name]
    good = torch.tensor([1, 2, 3])
    if kind is torch.int32 and name in ("take", "nll_loss", "weighted", "scatter_reduce"):
        kind = torch.int64
    call = torch.compile(function, backend=backend)
    for _ in range(3):
        np.testing.assert_allclose(call(good.to(kind)).numpy(), function(good).numpy(), rtol=1e-6)
    for bad in wrong:
        index = torch.tensor([1, bad, 3]).to(kind)
        assert message(call, index) == message(function, index)
        inside = bad - 1 if bad > 0 else bad + 1
        index = torch.tensor([1, inside, 3]).to(kind)
        np.testing.assert_allclose(call(index).numpy(), function(index).numpy(), rtol=1e-6)
    if name == "part":  # what is not looked at may be anything
        call(torch.tensor([99, 2, 3]).to(kind))
    assert call.count == 1 and not call.eager


def test_state_that_is_written_before_an_index_is_made():
    """Its new content is kept apart until the index is known to be good."""
    seen = torch.zeros(4)

    def step(x):
        seen.add_(x.sum(0))
        return x[(x * 10).sum(1).long()]

    call = torch.compile(step)
    for _ in range(3):
        call(torch.zeros(3, 4))
    assert call.count == 1
    call(torch.full((3, 4), 0.05))  # row 2
    np.testing.assert_allclose(seen.numpy(), 0.15, rtol=1e-6)
    large = torch.ones(3, 4)
    assert message(call, large) == "index 40 is out of bounds for dimension 0 with size 3"
    np.testing.assert_allclose(seen.numpy(), 3.15, rtol=1e-6)  # once, as in an eager call


def test_gradients_of_a_compiled_forward():
    model = torch.nn.Embedding(6, 4)
    call = torch.compile(lambda i: model(i).square())
    for _ in range(3):
        call(torch.tensor([1, 2])).sum().backward()
    before = model.weight.grad.numpy().copy()
    message(call, torch.tensor([1, 6]))
    np.testing.assert_array_equal(model.weight.grad.numpy(), before)
    call(torch.tensor([5, 2])).sum().backward()
    assert not np.array_equal(model.weight.grad.numpy(), before)


def test_an_error_of_a_host_function_writes_nothing():
    state = torch.zeros(3, 3)

    def step(x):
        state.add_(1)
        return torch.linalg.cholesky(x)

    call = torch.compile(step)
    for _ in range(3):
        call(torch.eye(3))
    with pytest.raises(torch.linalg.LinAlgError):
        call(-torch.eye(3))
    np.testing.assert_array_equal(state.numpy(), 4)  # by the eager call


def checks(function, *arrays):
    graph, _ = graph_of(function, *arrays)
    return [step for step in bounds(graph).steps if step.op is CHECK]


def test_what_is_known_needs_no_check():
    x, i = np.zeros((4, 6), np.float32), np.array([[0, 1]])
    assert checks(lambda x: x[torch.arange(4)], x) == []
    assert checks(lambda x: x.gather(1, x.argmax(1, keepdim=True)), x) == []
    assert checks(lambda x: x.gather(1, x.sort(1).indices), x) == []
    known = torch.tensor([3, -4])
    assert checks(lambda x: x[known], x) == []
    assert len(checks(lambda x: x.index_select(0, torch.arange(2) * 2), x)) == 1
    assert len(checks(lambda x: x[x.argmax(1)], x)) == 1  # up to 5, of 4 rows
    assert len(checks(lambda x, i: x[i] + x[i], x, i)) == 1
    assert len(checks(lambda x, i: x[i.view(-1)][0] + x[i][0], x, i)) == 2
    assert len(checks(lambda x, i: x[i] + x[:3][i], x, i)) == 2


def test_checks_of_arguments_come_first():
    x, i = np.zeros((4, 6), np.float32), np.array([[0, 1]])
    graph, _ = graph_of(lambda x, i: x.exp()[i.view(-1)[1:]], x, i)
    steps = bounds(graph).steps
    at = [step.op is CHECK for step in steps].index(True)
    assert all(step.op.view for step in steps[:at])


@pytest.mark.parametrize("count", [1, 100_000])
def test_a_program_stops(count, threads):
    """Without a gate: stages after the check do not run, and the program runs again."""
    x, i = (Value((8, count), np.dtype(np.float32), "x"), Value((2,), np.dtype(np.int64), "i"))
    y, z = (Value((2, count), np.dtype(np.float32), n) for n in "yz")
    state = Value((2, count), np.dtype(np.float32), "s")
    steps = [
        Step(OPS["index"], (x, i), {"dims": (0,)}, (y,)),
        Step(OPS["add"], (y, state), {}, (z,)),
    ]
    inputs = [Input(x, "argument"), Input(i, "argument"), Input(state, "state")]
    made = program.build(Graph(inputs, steps, [], [(state, z)]))
    table, kept = np.ones((8, count), np.float32), np.zeros((2, count), np.float32)
    for n in range(3):
        made.run([table, np.array([7, -8]), kept])
        assert (kept == n + 1).all()
        for bad in (8, -9):
            with pytest.raises(CheckFailed, match="expects indices inside"):
                made.run([table, np.array([0, bad]), kept])
        assert (kept == n + 1).all()


def test_indices_of_several_dimensions_and_single_ones_are_not_constants():
    pairs = torch.compile(lambda i, j: T[i, j])
    single = torch.compile(lambda i: T[i] + 1)
    for n in range(4):
        i, j = torch.tensor([n, 0]), torch.tensor([[1], [n]])
        np.testing.assert_array_equal(pairs(i, j).numpy(), T[i, j].numpy())
    assert pairs.count == 1
    with pytest.warns(UserWarning, match="a tensor as a single index"):
        for n in range(4):
            np.testing.assert_array_equal(single(torch.tensor(n)).numpy(), T[n].numpy() + 1)


def test_an_old_gate_that_dies_reads_no_freed_memory():
    """A call that finds its gate closed makes a new one and lets the old one go."""
    for _ in range(20):
        step, _, optimizer, x, y = classifier()
        compiled = torch.compile(step)
        for _ in range(4):
            compiled(x, y)
        for _ in range(2):  # the second time, a new gate is made
            optimizer.zero_grad()
            compiled(x, y)
            assert np.isfinite(compiled(x, y).item())


ACCESSES = {
    "rows": lambda x, i: x[i],
    "gather": lambda x, i: x.gather(0, i.unsqueeze(1)),
    "scatter": lambda x, i: x.scatter(0, i.unsqueeze(1), 1.0),
    "scatter_add": lambda x, i: x.scatter_add(0, i.unsqueeze(1), x[:3, :1]),
    "embedding": lambda x, i: torch.autograd.grad(F.embedding(i, x.requires_grad_()).sum(), x)[0],
    "loss": lambda x, i: F.cross_entropy(x[:3], i),
}


@pytest.mark.parametrize("side", ["begin", "end"])
@pytest.mark.parametrize("name", ACCESSES)
def test_accesses_stay_inside_even_without_checks(name, side, monkeypatch):
    """A check stops the stages after it; stages alone are safe too."""
    others = tuple(each for each in lower.PASSES if each is not bounds)
    monkeypatch.setattr(lower, "PASSES", others)
    table, index = np.ones((6, 64), np.float32), np.array([0, 1, 2])
    graph, _ = graph_of(ACCESSES[name], table, index)
    made = program.build(graph)
    x, i = guarded(table.shape, table.dtype, side), guarded(index.shape, index.dtype, side)
    x[...] = table
    constants = [item.data for item in graph.inputs[2:]]
    for bad in (64, -65, 1 << 20, -(1 << 20), (1 << 63) - 1, -(1 << 63)):
        i[...] = [0, bad, 2]
        made.run([x, i, *constants])
        np.testing.assert_array_equal(x, table)
