"""Whole training steps, compiled against eager: the same losses, parameters and gradients.

The programs run in the interpreter of graphs, which uses the operators' own kernels.
"""

import warnings

import numpy as np
import pytest

import lampion as torch
from lampion.nn import functional as F

CLASSES = 4


def batches(count=6, size=8, features=6, last=None, seed=0):
    """Inputs and labels; the last batch may be smaller."""
    rng = np.random.default_rng(seed)
    sizes = [size] * count
    if last:
        sizes[-1] = last
    return [
        (
            torch.tensor(rng.standard_normal((n, features)), dtype=torch.float32),
            torch.tensor(rng.integers(0, CLASSES, n)),
        )
        for n in sizes
    ]


def compare(make, data, each=None, programs=1, tolerance=2e-6):
    """Runs the step that `make()` gives eagerly and compiled, on the same data."""
    losses, ends = [], []
    for compiled in (False, True):
        torch.manual_seed(0)
        step, model, optimizer = make()
        call = torch.compile(step, backend="interpreter") if compiled else step
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = []
            for i, batch in enumerate(data):
                found.append(float(call(*batch)))
                if each:
                    each(i, model, optimizer)
        losses.append(found)
        ends.append(
            [t.detach().numpy() for t in (*model.parameters(), *model.buffers())]
            + [p.grad.numpy() for p in model.parameters() if p.grad is not None]
        )
        drawn = torch.rand(1).item()
        losses[-1].append(drawn)  # both have drawn as many random numbers
    np.testing.assert_allclose(losses[1], losses[0], rtol=tolerance, atol=tolerance)
    assert len(ends[0]) == len(ends[1])
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    assert call.count == programs
    assert not call.eager
    return call


def classifier(model, optimizer, before=None):
    """The usual step."""

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        if before:
            before()
        optimizer.step()
        return loss

    return step, model, optimizer


def mlp(*layers):
    return torch.nn.Sequential(torch.nn.Linear(6, 8), *layers, torch.nn.Linear(8, CLASSES))


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}],
    ids=str,
)
def test_sgd(options):
    def make():
        model = mlp(torch.nn.ReLU())
        return classifier(model, torch.optim.SGD(model.parameters(), lr=0.1, **options))

    compare(make, batches())


@pytest.mark.parametrize(
    "name", ["Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam"]
)
def test_optimizers(name):
    def make():
        model = mlp(torch.nn.Tanh())
        return classifier(model, getattr(torch.optim, name)(model.parameters(), lr=0.01))

    compare(make, batches(), tolerance=2e-5)


def test_learning_rate_of_a_scheduler():
    schedulers = {}

    def make():
        model = mlp(torch.nn.GELU())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1)
        schedulers[id(model)] = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
        return classifier(model, optimizer)

    compare(make, batches(), each=lambda i, model, o: schedulers[id(model)].step())


def test_an_option_that_changes_makes_a_new_program():
    def make():
        model = mlp(torch.nn.ReLU())
        return classifier(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    def each(i, model, optimizer):
        if i == 2:
            optimizer.param_groups[0]["momentum"] = 0.5

    compare(make, batches(), each=each, programs=2)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_momentum_that_a_scheduler_changes(name):
    schedulers = {}

    def make():
        model = mlp(torch.nn.ReLU())
        options = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.1, **options)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)
        schedulers[id(model)] = schedule
        return classifier(model, optimizer)

    each = lambda i, model, o: schedulers[id(model)].step()  # noqa: E731
    compare(make, batches(10), each=each, programs=2, tolerance=2e-5)


def test_loaded_optimizer_state():
    saved = {}

    def make():
        model = mlp(torch.nn.ReLU())
        saved.clear()
        return classifier(model, torch.optim.Adam(model.parameters(), lr=0.01))

    def each(i, model, optimizer):
        if i == 2:
            saved["model"] = {k: v.clone() for k, v in model.state_dict().items()}
            saved["optimizer"] = optimizer.state_dict()
        if i == 4:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])

    compare(make, batches(8), each=each, programs=2, tolerance=2e-5)


def test_dropout_draws_the_same_numbers():
    def make():
        model = mlp(torch.nn.Dropout(0.4), torch.nn.ReLU(), torch.nn.Dropout(0.2))
        return classifier(model, torch.optim.Adam(model.parameters(), lr=0.01))

    compare(make, batches(), tolerance=2e-5)


def test_batch_norm_in_both_modes():
    def make():
        model = mlp(torch.nn.BatchNorm1d(8), torch.nn.ReLU())
        return classifier(model, torch.optim.SGD(model.parameters(), lr=0.1))

    def each(i, model, optimizer):
        model.train(i not in (2, 3))

    compare(make, batches(8), each=each, programs=2)


@pytest.mark.parametrize("norm", [2.0, float("inf"), 1.0])
def test_gradient_clipping(norm):
    def make():
        model = mlp(torch.nn.ReLU())
        clip = lambda: torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1, norm)  # noqa: E731
        return classifier(model, torch.optim.AdamW(model.parameters(), lr=0.01), clip)

    compare(make, batches(), tolerance=2e-5)


def test_clipping_by_value():
    def make():
        model = mlp(torch.nn.ReLU())
        clip = lambda: torch.nn.utils.clip_grad_value_(model.parameters(), 0.01)  # noqa: E731
        return classifier(model, torch.optim.SGD(model.parameters(), lr=0.1), clip)

    compare(make, batches())


def test_accumulation_inside():
    def make():
        model = mlp(torch.nn.ReLU())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            total = 0
            for part, labels in zip(x.chunk(2), y.chunk(2), strict=True):
                loss = F.cross_entropy(model(part), labels) / 2
                loss.backward()
                total = total + loss.detach()
            optimizer.step()
            return total

        return step, model, optimizer

    compare(make, batches())


def test_accumulation_over_calls():
    def make():
        model = mlp(torch.nn.ReLU())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            loss = F.cross_entropy(model(x), y) / 2
            loss.backward()
            return loss.detach()

        return step, model, optimizer

    def each(i, model, optimizer):
        if i % 2:
            optimizer.step()
            optimizer.zero_grad()

    compare(make, batches(8), each=each, programs=2)  # without and with a gradient to add to


def test_zero_grad_at_the_end():
    def make():
        model = mlp(torch.nn.ReLU())
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

        def step(x, y):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss.detach()

        return step, model, optimizer

    compare(make, batches(), tolerance=2e-5)


def test_zero_grad_that_fills():
    def make():
        model = mlp(torch.nn.ReLU())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad(set_to_none=False)
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step, model, optimizer

    compare(make, batches(), programs=2)


def test_smaller_last_batch():
    def make():
        model = mlp(torch.nn.ReLU())
        return classifier(model, torch.optim.Adam(model.parameters(), lr=0.01))

    data = batches(4, last=3) + batches(4, last=3, seed=1)
    compare(make, data, programs=2, tolerance=2e-5)


def test_parameter_groups_and_frozen_layers():
    def make():
        model = mlp(torch.nn.ReLU())
        groups = [
            {"params": model[0].parameters(), "lr": 0.01},
            {"params": model[2].parameters(), "weight_decay": 0.1},
        ]
        return classifier(model, torch.optim.AdamW(groups, lr=0.1))

    def each(i, model, optimizer):
        if i == 2:
            model[0].requires_grad_(False)

    compare(make, batches(8), each=each, programs=2, tolerance=2e-5)


def test_convolutions():
    def make():
        model = torch.nn.Sequential(
            torch.nn.Conv2d(1, 3, 3, padding=1),
            torch.nn.BatchNorm2d(3),
            torch.nn.ReLU(inplace=True),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(12, CLASSES),
        )
        return classifier(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    data = [(x[:, :, None].expand(-1, -1, 6)[:, None, :4, :4].clone(), y) for x, y in batches()]
    compare(make, data, tolerance=1e-5)


class Recurrent(torch.nn.Module):
    """Letters to letters."""

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 5)
        self.lstm = torch.nn.LSTM(5, 6, num_layers=2, batch_first=True)
        self.head = torch.nn.Linear(6, 7)

    def forward(self, x):
        out, _ = self.lstm(self.embedding(x))
        return self.head(out)


class Attention(torch.nn.Module):
    """One block of a GPT."""

    def __init__(self, width=8, heads=2, length=5):
        super().__init__()
        self.heads = heads
        self.tokens = torch.nn.Embedding(7, width)
        self.places = torch.nn.Embedding(length, width)
        self.first, self.second = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.project = torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
        self.head = torch.nn.Linear(width, 7, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        b, t = x.shape
        x = self.tokens(x) + self.places(torch.arange(t))
        q, k, v = self.qkv(self.first(x)).chunk(3, dim=-1)
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(b, t, -1))
        x = x + self.down(F.gelu(self.up(self.second(x))))
        return self.head(x)


@pytest.mark.parametrize("kind", [Recurrent, Attention])
def test_models_of_text(kind):
    rng = np.random.default_rng(0)
    letters = [torch.tensor(rng.integers(0, 7, (3, 6))) for _ in range(5)]

    def make():
        model = kind()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss

        return step, model, optimizer

    compare(make, [(x[:, :-1], x[:, 1:]) for x in letters], tolerance=2e-5)


def test_exponential_average_of_weights():
    averages = {}

    def make():
        model = mlp(torch.nn.ReLU())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        average = [p.detach().clone() for p in model.parameters()]
        averages[id(model)] = average

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for a, p in zip(average, model.parameters(), strict=True):
                    a.mul_(0.9).add_(p, alpha=0.1)
            return loss

        return step, model, optimizer

    compare(make, batches())
    eager, compiled = list(averages.values())
    for a, b in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_bare_tensors_and_a_hand_written_update():
    def make():
        weights = [torch.randn(6, 8, requires_grad=True), torch.randn(8, CLASSES)]
        weights[1].requires_grad_()

        def step(x, y):
            loss = F.cross_entropy((x @ weights[0]).tanh() @ weights[1], y)
            loss.backward()
            with torch.no_grad():
                for w in weights:
                    w -= 0.1 * w.grad
                    w.grad = None
            return loss

        class Model:
            parameters = staticmethod(lambda: weights)
            buffers = staticmethod(list)

        return step, Model, None

    compare(make, batches())


def test_gradient_penalty():
    def make():
        model = mlp(torch.nn.Tanh())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            x = x.clone().requires_grad_()
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            (slope,) = torch.autograd.grad(loss, x, create_graph=True)
            total = loss + slope.square().sum()
            total.backward()
            optimizer.step()
            return total

        return step, model, optimizer

    compare(make, batches())


def test_checkpoints_without_random_numbers():
    def make():
        model = mlp(torch.nn.Tanh())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            hidden = torch.utils.checkpoint.checkpoint(model[:2], x, use_reentrant=False)
            loss = F.cross_entropy(model[2](hidden), y)
            loss.backward()
            optimizer.step()
            return loss

        return step, model, optimizer

    compare(make, batches())


def test_two_optimizers():
    def make():
        model = torch.nn.ModuleList([mlp(torch.nn.ReLU()), torch.nn.Linear(CLASSES, 1)])
        first, second = (torch.optim.Adam(part.parameters(), lr=0.01) for part in model)

        def step(x, y):
            fake = model[0](x)
            second.zero_grad()
            real = F.one_hot(y, CLASSES).float() + 0.1 * torch.randn(len(y), CLASSES)
            judged = F.softplus(model[1](fake.detach())) + F.softplus(-model[1](real))
            judged.mean().backward()
            second.step()
            first.zero_grad()
            fooled = F.softplus(-model[1](fake)).mean()
            fooled.backward()
            first.step()
            return judged.mean() + fooled

        return step, model, None

    compare(make, batches(), tolerance=2e-5)
