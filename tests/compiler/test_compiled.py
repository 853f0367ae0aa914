"""`torch.compile`: what calls return and leave behind, what fits, and what can't be a program."""

import threading
import types
import warnings

import numpy as np
import pytest

import lampion as torch


def compiled(f, **options):
    """The function, run by the interpreter of graphs."""
    return torch.compile(f, backend="interpreter", **options)


def twice(f, *args, count=1):
    """Calls a compiled function twice; returns the second result, with what eager gives."""
    c = compiled(f)
    c(*args)
    found = c(*args)
    assert c.count == count
    assert not c.eager
    return found, f(*args)


def assert_same(found, expected):
    """Equal values, types, strides and places."""
    if isinstance(expected, torch.Tensor):
        assert found.dtype is expected.dtype
        assert found.stride() == expected.stride()
        assert found.requires_grad == expected.requires_grad
        a, b = found.detach().numpy(), expected.detach().numpy()
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected)
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        assert_same(list(found.values()), list(expected.values()))
    else:
        assert found == expected


# -- results -------------------------------------------------------------------------------------


def test_returns_nothing():
    seen = torch.zeros(3)

    def f(x):
        seen.add_(x)

    c = compiled(f)
    for _ in range(3):
        assert c(torch.ones(3)) is None
    assert seen.tolist() == [3, 3, 3]
    assert c.count == 1


def test_nested_results():
    def f(x):
        return {"a": [x + 1, (x * 2, "text", None)], "b": 3}

    assert_same(*twice(f, torch.arange(4.0)))


def test_arguments_and_captured_tensors_come_back_as_themselves():
    w = torch.ones(3)
    c = compiled(lambda x: (x, w, x + w))
    x = torch.zeros(3)
    for _ in range(2):
        a, b, _ = c(x)
        assert a is x
        assert b is w


def test_views_of_arguments_share_their_memory():
    c = compiled(lambda x: (x.t(), x[0], x.detach(), x.split(1)))
    for _ in range(2):
        x = torch.zeros(2, 3)
        t, row, same, parts = c(x)
        x.fill_(5)
        assert t.shape == (3, 2)
        assert t.tolist() == [[5, 5]] * 3
        assert row.tolist() == [5, 5, 5]
        assert same.tolist() == x.tolist()
        assert parts[1].tolist() == [[5, 5, 5]]
    assert c.count == 1


def test_strides_of_results():
    assert_same(*twice(lambda x: (x * 2).t(), torch.ones(2, 3)))
    assert_same(*twice(lambda x: x.permute(2, 0, 1).exp(), torch.ones(2, 3, 4)))


def test_results_are_fresh_memory():
    c = compiled(lambda x: x + 1)
    c(torch.zeros(2))
    a, b = c(torch.zeros(2)), c(torch.ones(2))
    assert a.tolist() == [1, 1]
    assert b.tolist() == [2, 2]


# -- writes --------------------------------------------------------------------------------------


def test_in_place_writes_to_arguments_and_views():
    def f(x):
        x[:, 0] = 7
        x.t()[1].mul_(2)
        y = x.view(-1)
        y[2:4] += 1
        return y.sum(), x[1:]

    c = compiled(f)
    for _ in range(2):
        a, b = torch.ones(2, 3), torch.ones(2, 3)
        assert_same(c(a), f(b))
        assert_same(a, b)
    assert c.count == 1


def test_a_view_read_after_a_write_to_its_base():
    def f(x):
        view = x[1]
        x.add_(1)
        first = view * 2
        view.zero_()
        return first, x.clone(), view

    c = compiled(f)
    for _ in range(2):
        a, b = torch.arange(6.0).view(2, 3), torch.arange(6.0).view(2, 3)
        assert_same(c(a), f(b))
        assert_same(a, b)


def test_gradients_through_writes():
    def f(x):
        y = x * 2
        y[0] = x[1] ** 2
        y.mul_(3)
        return y.sum()

    c = compiled(f)
    for _ in range(2):
        a = torch.arange(1.0, 5, requires_grad=True)
        b = torch.arange(1.0, 5, requires_grad=True)
        c(a).backward()
        f(b).backward()
        assert_same(a.grad, b.grad)


def test_a_written_tensor_is_noticed_by_a_backward():
    w = torch.ones(3, requires_grad=True)
    scale = torch.ones(3)
    c = compiled(lambda: scale.add_(1))
    c()
    y = (w * scale).sum()
    c()
    with pytest.raises(RuntimeError, match="inplace"):
        y.backward()


# -- what fits -----------------------------------------------------------------------------------


def test_shapes_types_and_layouts_have_programs_of_their_own():
    c = compiled(lambda x: x * 2)
    calls = [torch.ones(2), torch.ones(3), torch.ones(3).double(), torch.ones(3, 2)]
    calls += [torch.ones(2, 3).t(), torch.ones(1, 2).expand(3, 2)]
    for _ in range(2):
        for x in calls:
            assert_same(c(x), x * 2)
    assert c.count == 6


def test_numbers_and_text_by_value():
    def f(x, how, by=1):
        return x + by if how == "add" else x * by

    c = compiled(f)
    x = torch.ones(2)
    for _ in range(2):
        assert c(x, "add").tolist() == [2, 2]
        assert c(x, "add", by=2).tolist() == [3, 3]
        assert c(x, "mul", by=2.5).tolist() == [2.5, 2.5]
        assert c(x, "mul", by=True).tolist() == [1, 1]
    assert c.count == 4


SCALE = 2.0


def test_globals_and_closures_are_guarded(monkeypatch):
    factor = 3.0
    weight = torch.ones(2)

    def f(x):
        return x * SCALE * factor + weight

    c = compiled(f)
    x = torch.ones(2)
    for _ in range(2):
        assert c(x).tolist() == [7, 7]
    monkeypatch.setitem(globals(), "SCALE", 4.0)
    assert c(x).tolist() == [13, 13]
    factor = 1.0
    assert c(x).tolist() == [5, 5]
    weight = torch.zeros(2)
    assert c(x).tolist() == [4, 4]
    weight.fill_(9)  # in place: the same program
    assert c(x).tolist() == [13, 13]
    assert c.count == 4
    weight.data = torch.ones(2)
    assert c(x).tolist() == [5, 5]


def test_what_other_files_hold():
    helpers = types.ModuleType("helpers_of_a_program")
    exec("scale = 2.0\ndef grow(x):\n    return x * scale", vars(helpers))
    c = compiled(lambda x: helpers.grow(x))
    for _ in range(2):
        assert c(torch.ones(1)).item() == 2
    helpers.scale = 3.0
    assert c(torch.ones(1)).item() == 3
    helpers.grow = lambda x: x * 5
    assert c(torch.ones(1)).item() == 5
    assert c.count == 3


def test_attributes_of_the_programs_own_objects():
    class Settings:
        def __init__(self):
            self.power, self.weights = 2, [torch.ones(2), torch.ones(2)]

    settings = Settings()
    c = compiled(lambda x: x**settings.power + settings.weights[0])
    x = torch.full((2,), 3.0)
    for _ in range(2):
        assert c(x).tolist() == [10, 10]
    settings.power = 3
    assert c(x).tolist() == [28, 28]
    settings.weights[0] = torch.zeros(2)
    assert c(x).tolist() == [27, 27]


def test_modes():
    w = torch.ones(2, requires_grad=True)
    c = compiled(lambda x: x * w)
    x = torch.ones(2)
    for _ in range(2):
        assert c(x).requires_grad
        with torch.no_grad():
            assert not c(x).requires_grad
        with torch.inference_mode():
            assert c(x).is_inference()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            c(x)
    assert c.count == 4


def test_no_grad_inside():
    def f(x):
        with torch.no_grad():
            scale = x.abs().max()
        return (x / scale).sum()

    c = compiled(f)
    for _ in range(2):
        a = torch.tensor([1.0, -4.0], requires_grad=True)
        c(a).backward()
        assert a.grad.tolist() == [0.25, 0.25]


def test_the_same_tensor_twice_and_overlapping_views():
    def f(a, b):
        a.add_(1)
        return a + b

    c = compiled(f)
    for _ in range(2):
        assert c(torch.zeros(2), torch.zeros(2)).tolist() == [1, 1]
        x = torch.zeros(2)
        assert c(x, x).tolist() == [2, 2]
    with pytest.warns(UserWarning, match="shows in part"):
        for _ in range(2):
            base, other = torch.zeros(4), torch.zeros(4)
            assert_same(c(base[:3], base[1:]), f(other[:3], other[1:]))
            assert_same(base, other)


def test_an_argument_that_is_captured_as_well():
    w = torch.ones(2)

    def f(x):
        x.add_(1)
        return x * w

    c = compiled(f)
    for _ in range(2):
        w.fill_(1)
        assert c(torch.ones(2)).tolist() == [2, 2]
        assert c(w).tolist() == [4, 4]
        assert c(w[:]).tolist() == [9, 9]


def test_arguments_that_come_by_keyword_and_in_containers():
    def f(batch, *, scale):
        return batch["x"] * scale + batch["y"][0]

    c = compiled(f)
    for n in (1.0, 2.0):
        batch = {"x": torch.full((2,), n), "y": [torch.ones(2)]}
        assert_same(c(batch, scale=torch.tensor(n)), f(batch, scale=torch.tensor(n)))
    assert c.count == 1


# -- modules -------------------------------------------------------------------------------------


def test_modules():
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    model = compiled(plain)
    assert isinstance(model, torch.nn.Module)
    assert list(model.state_dict()) == list(plain.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, losses = torch.randn(5, 3), []
    for _ in range(4):
        loss = model(x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    expected = torch.autograd.grad(plain(x).square().mean(), list(plain.parameters()))
    found = torch.autograd.grad(model(x).square().mean(), list(plain.parameters()))
    assert_same(found, expected)
    assert model._call.count == 1
    assert "CompiledFunctionBackward" in repr(model(x).grad_fn)
    model.eval()
    assert not plain.training


def test_layers_that_are_replaced():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    c = compiled(lambda x: model(x))
    x = torch.ones(1, 2)
    c(x)
    model[0] = torch.nn.Linear(2, 2)
    assert_same(c(x), model(x))
    model[0].weight = torch.nn.Parameter(torch.zeros(2, 2))
    assert_same(c(x), model(x))
    model.double()
    assert_same(c(x.double()), model(x.double()))
    model[1].register_forward_hook(lambda module, given, out: out + 1)
    assert_same(c(x.double()), model(x.double()))


def test_methods_and_decorators():
    class Model:
        def __init__(self, w):
            self.w = torch.tensor(w)

        @torch.compile(backend="interpreter")
        def apply(self, x):
            return x * self.w

    a, b = Model(2.0), Model(3.0)
    for _ in range(2):
        assert a.apply(torch.ones(1)).item() == 2
        assert b.apply(torch.ones(1)).item() == 3


def test_backward_of_several_results():
    def f(x, w):
        h = x @ w
        return h.relu(), h.sum(), x.detach() + 1

    def leaves():
        rng = np.random.default_rng(0)
        return [torch.tensor(rng.standard_normal((3, 3)), requires_grad=True) for _ in range(2)]

    c = compiled(f)
    for used in ((0, 1), (0,), (1,)):
        grads = []
        for g in (f, c):
            x, w = leaves()
            out = g(x * 1, w)
            sum(out[i].sum() for i in used).backward()
            grads.append((x.grad, w.grad))
        assert_same(grads[1], grads[0])
    assert c.count == 1


def test_a_second_backward_says_that_the_graph_is_gone():
    c = compiled(lambda x: (x**3).sum())
    x = torch.ones(2, requires_grad=True)
    c(x)
    y = c(x)
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_hooks_of_parameters_run_outside():
    w = torch.ones(2, requires_grad=True)
    seen = []
    w.register_hook(lambda g: seen.append(g.tolist()))
    c = compiled(lambda x: (x * w).sum())
    for _ in range(2):
        w.grad = None
        c(torch.ones(2)).backward()
    assert seen == [[1, 1], [1, 1]]


# -- what can't be a program ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "what"),
    [
        (lambda x: x * x.sum().item(), "item"),
        (lambda x: x if x.sum() > 0 else -x, "bool"),
        (lambda x: x * float(x[0]), "item"),
        (lambda x: torch.tensor(x.tolist()), "tolist"),
        (lambda x: x + torch.from_numpy(x.numpy() * 2), "numpy"),
        (lambda x: x[x > 0], "mask"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: (x, repr(x))[0] + 1, "print"),
    ],
)
def test_reading_values_runs_eagerly_and_says_so_once(f, what):
    c = compiled(f)
    with pytest.warns(UserWarning, match=what) as caught:
        for value in (1.0, -2.0, 3.0):
            x = torch.tensor([value, -1.0])
            assert_same(c(x), f(x))
    assert len(caught) == 1
    assert "test_compiled.py" in str(caught[0].message)
    with pytest.raises(RuntimeError, match="fullgraph"):
        compiled(f, fullgraph=True)(torch.ones(2))


def test_effects_on_python_objects_run_eagerly():
    kept, counts = [], {"n": 0}

    def keeps(x):
        kept.append(x * 2)
        return x

    def counting(x):
        counts["n"] += 1
        return x * counts["n"]

    with pytest.warns(UserWarning, match="runs eagerly"):
        c = compiled(keeps)
        for _ in range(3):
            c(torch.ones(1))
        assert len(kept) == 3
        c = compiled(counting)
        assert [c(torch.ones(1)).item() for _ in range(3)] == [1, 2, 3]


def test_what_goes_on_inside_runs_eagerly():
    batches = iter([torch.full((1,), float(n)) for n in range(5)])
    w = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def scheduled(x):
        optimizer.zero_grad()
        (w * x).sum().backward()
        optimizer.step()
        schedule.step()

    with pytest.warns(UserWarning, match="iterator"):
        c = compiled(lambda: next(batches) * 2)
        assert [c().item() for _ in range(4)] == [0, 2, 4, 6]
    with pytest.warns(UserWarning, match="scheduler"):
        c = compiled(scheduled)
        for _ in range(3):
            c(torch.ones(1))
    assert w.item() == -1.75
    with pytest.warns(UserWarning, match="random numbers"):
        c = compiled(lambda x: x * np.random.rand())
        assert len({c(torch.ones(1)).item() for _ in range(4)}) == 4


def test_attributes_that_a_module_sets():
    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x + self.calls

    model = Counter()
    c = compiled(model)
    with pytest.warns(UserWarning, match="runs eagerly"):
        assert [c(torch.zeros(1)).item() for _ in range(4)] == [1, 2, 3, 4]


def test_exceptions():
    w = torch.zeros(2)

    def f(x, fails):
        w.add_(1)
        if fails:
            raise KeyError("as it is")
        return x + w

    c = compiled(f)
    for n in range(3):
        assert c(torch.zeros(2), False).tolist() == [2 * n + 1] * 2
        with pytest.raises(KeyError, match="as it is"):
            c(torch.zeros(2), True)
    with pytest.raises(RuntimeError, match="size"):
        c(torch.zeros(3), False)
    assert c.count == 1


def test_bad_arguments():
    with pytest.raises(TypeError, match="callable"):
        torch.compile(3)
    with pytest.raises(RuntimeError, match="backend"):
        torch.compile(lambda x: x, backend="nothing")


def test_more_programs_than_the_limit(monkeypatch):
    monkeypatch.setattr("lampion.compiler.compiled.function.LIMIT", 3)
    c = compiled(lambda x, n: x * n)
    with pytest.warns(UserWarning, match="3 programs"):
        for n in range(6):
            assert c(torch.ones(1), n).item() == n
    assert c.count == 3


# -- nesting and threads -------------------------------------------------------------------------


def test_compiled_functions_inside_others():
    inner = compiled(lambda x: x * 2)
    outer = compiled(lambda x: inner(x) + 1)
    for n in range(3):
        assert outer(torch.tensor(float(n))).item() == 2 * n + 1
    assert outer.count == 1
    assert inner.count == 0


def test_recursion():
    def power(x, n):
        return x if n == 1 else x * c(x, n - 1)

    c = compiled(power)
    for _ in range(3):
        assert c(torch.tensor(2.0), 5).item() == 32


def test_transforms_of_compiled_functions():
    c = compiled(lambda x: (x**2).sum())
    x = torch.arange(3.0)
    c(x)
    assert torch.func.grad(c)(x).tolist() == [0, 2, 4]
    assert torch.vmap(c)(torch.ones(2, 3)).tolist() == [3, 3]


def test_two_threads():
    def f(x):
        for _ in range(20):
            x = (x * 1.5).sin()
        return x

    c = compiled(f)
    inputs = [torch.full((50,), float(i)) for i in range(8)]
    expected = [f(x) for x in inputs]
    wrong = []

    def work(part):
        for _ in range(10):
            for x, y in part:
                if not torch.allclose(c(x), y):
                    wrong.append(x)

    pairs = list(zip(inputs, expected, strict=True))
    threads = [threading.Thread(target=work, args=(pairs[i::2],)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_random_numbers():
    def f(x):
        return x + torch.rand(3) + torch.randn(3), torch.randperm(4)

    c = compiled(f)
    torch.manual_seed(0)
    found = [c(torch.zeros(3)) for _ in range(4)]
    torch.manual_seed(0)
    assert_same(found, [f(torch.zeros(3)) for _ in range(4)])
    assert c.count == 1


def test_names_of_pytorch():
    assert torch.compiler.is_compiling() is False
    seen = []

    @torch.compiler.disable
    def untraced(x):
        return x + 1

    c = compiled(lambda x: (seen.append(torch.compiler.is_compiling()), untraced(x))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert c(torch.ones(1)).item() == 2
    assert seen == [True]
    torch._dynamo.config.suppress_errors = True
    torch._dynamo.reset()
    assert c.count == 0


def test_explanations(capsys):
    w = torch.ones(3)
    text = torch.compile.explain(lambda x: (x * w).sum(), torch.ones(2, 3))
    assert "mul" in str(text)
    torch.compile(lambda x: x * 2, backend="interpreter", explain=True)(torch.ones(2))
    assert "= mul(" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="fullgraph"):
        torch.compile.explain(lambda x: x.item(), torch.ones(1))


SHIFT = 1.0


def shifted_loss(params, net, x):
    return (torch.func.functional_call(net, params, (x,)) - SHIFT).pow(2).sum()


def test_transforms_of_functions(monkeypatch):
    """What a transform returns has the name and module of the function, but not its globals."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh())
    x = torch.randn(4, 3)
    params = {k: v.detach() for k, v in net.named_parameters()}
    made = torch.func.vmap(torch.func.grad(lambda p, x: shifted_loss(p, net, x)), in_dims=(None, 0))
    run = torch.compile(made, fullgraph=True)
    for shift in (1.0, 1.0, 3.0):  # a global of the function inside is looked at
        monkeypatch.setitem(globals(), "SHIFT", shift)
        got, want = run(params, x), made(params, x)
        for name in params:
            torch.testing.assert_close(got[name], want[name])
