"""Optimizers: PyTorch's numbers step by step, state, groups, hooks, checks. Golden values are in
`golden/`.
"""

import copy
import pickle

import numpy as np
import pytest

import lampion as torch
import lampion.optim
from lampion.optim.rule import BLOCK
from tests.optim.cases import OPTIMIZERS, STEPS, case_name, golden, train

BY_NAME = dict(reversed(OPTIMIZERS))  # the plain case of each


def parameter(*shape, dtype="float32", grad=True):
    values = np.random.standard_normal(shape)
    p = torch.tensor(values.astype(dtype), requires_grad=True)
    if grad:
        p.grad = torch.tensor(np.random.standard_normal(shape).astype(dtype))
    return p


def values(p):
    return p.detach().numpy().copy()


@pytest.mark.parametrize("case", OPTIMIZERS, ids=case_name)
def test_numbers_are_those_of_pytorch(case):
    expected = golden("optimizers.npz")[case_name(case)]
    tolerance = 1e-3 if case[0] == "LBFGS" else 5e-6  # LBFGS divides by differences
    np.testing.assert_allclose(train(torch, *case), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", [n for n in BY_NAME if n not in ("LBFGS", "Muon", "Adafactor")])
def test_large_parameters_go_in_blocks(name):
    p = parameter(3, BLOCK // 2)
    rows = [torch.tensor(values(p)[i : i + 1], requires_grad=True) for i in range(3)]
    optimizers = [getattr(torch.optim, name)(params) for params in ([p], rows)]
    for _ in range(2):
        for i, row in enumerate(rows):
            row.grad = p.grad[i : i + 1].clone()
        for optimizer in optimizers:
            optimizer.step()
    np.testing.assert_array_equal(values(p), np.concatenate([values(row) for row in rows]))


@pytest.mark.parametrize("name", [n for n in BY_NAME if n not in ("LBFGS", "Muon", "Adafactor")])
def test_parameters_of_any_layout(name):
    p = torch.tensor(np.random.standard_normal((4, 3)).astype("float32").T, requires_grad=True)
    q = torch.tensor(np.ascontiguousarray(values(p)), requires_grad=True)
    p.grad = torch.tensor(np.random.standard_normal((3, 4)).astype("float32"))
    q.grad = p.grad.clone()
    optimizer = getattr(torch.optim, name)([p, q])
    optimizer.step()
    optimizer.step()
    np.testing.assert_array_equal(values(p), values(q))


@pytest.mark.parametrize("name", [n for n in BY_NAME if n not in ("LBFGS", "Muon", "Adafactor")])
def test_complex_parameters_are_pairs_of_real_ones(name):
    p = parameter(4, 2)
    z = torch.tensor(values(p).view(np.complex64)[:, 0], requires_grad=True)
    z.grad = torch.tensor(p.grad.numpy().copy().view(np.complex64)[:, 0])
    optimizers = [getattr(torch.optim, name)([q]) for q in (p, z)]
    for _ in range(2):
        for optimizer in optimizers:
            optimizer.step()
    np.testing.assert_array_equal(values(z).view(np.float32).reshape(4, 2), values(p))


@pytest.mark.parametrize("name", BY_NAME)
def test_state_dict_continues_the_run(name):
    def run(restart):
        random = np.random.RandomState(3)
        p = torch.tensor(random.standard_normal((3, 3)).astype("float32"), requires_grad=True)
        optimizer = getattr(torch.optim, name)([p], **BY_NAME[name])

        def closure():
            optimizer.zero_grad()
            loss = ((p * p - 1) * (p * p - 1)).sum()
            loss.backward()
            return loss

        for step in range(4):
            if step == 2 and restart:
                saved = pickle.loads(pickle.dumps(optimizer.state_dict()))
                optimizer = getattr(torch.optim, name)([p])
                optimizer.load_state_dict(saved)
            optimizer.step(closure)
        return values(p)

    np.testing.assert_array_equal(run(False), run(True))


def test_state_dict_has_the_keys_of_pytorch():
    p = parameter(2)
    optimizer = torch.optim.Adam([p], amsgrad=True)
    optimizer.step()
    state = optimizer.state_dict()
    assert set(state["state"][0]) == {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}
    assert state["state"][0]["step"].item() == 1.0
    assert state["state"][0]["step"].dtype is torch.float32
    assert state["param_groups"] == [
        {
            "lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-08, "weight_decay": 0, "amsgrad": True,
            "maximize": False, "foreach": None, "capturable": False, "differentiable": False,
            "fused": None, "decoupled_weight_decay": False, "params": [0],
        }
    ]  # fmt: skip


def test_plain_sgd_has_no_state():
    optimizer = torch.optim.SGD([parameter(2)])
    optimizer.step()
    assert optimizer.state_dict()["state"] == {}


def test_loaded_state_takes_the_parameters_dtype():
    p = parameter(2)
    first = torch.optim.Adam([p])
    first.step()
    q = parameter(2, dtype="float64")
    second = torch.optim.Adam([q])
    second.load_state_dict(first.state_dict())
    assert second.state[q]["exp_avg"].dtype is torch.float64
    assert second.state[q]["step"].dtype is torch.float32


def test_early_files_count_steps_as_numbers():
    p = parameter(2)
    optimizer = torch.optim.Adam([p])
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = 7
    optimizer.load_state_dict(saved)
    optimizer.step()
    assert optimizer.state[p]["step"].item() == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["param_groups"].append(s["param_groups"][0]), "different number of parameter"),
        (lambda s: s["param_groups"][0]["params"].append(1), "doesn't match the size"),
    ],
)
def test_state_of_another_model_is_refused(change, message):
    optimizer = torch.optim.SGD([parameter(2)])
    saved = optimizer.state_dict()
    change(saved)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(saved)


def test_writes_are_counted_and_seen_by_autograd():
    p = parameter(2)
    y = (p * p).sum()
    torch.optim.SGD([p]).step()
    assert p._version == 1
    with pytest.raises(RuntimeError, match="SGD"):
        y.backward()


def test_views_of_a_parameter_see_the_step():
    p = parameter(2, 2)
    view = p.data.t()
    before = values(view)
    torch.optim.SGD([p], lr=1.0).step()
    np.testing.assert_allclose(values(view), before - p.grad.numpy().T)


@pytest.mark.parametrize("name", ["SGD", "Adam", "Adadelta", "NAdam", "RAdam", "ASGD", "Adagrad"])
def test_differentiable_steps(name):
    def loss(start, differentiable):
        x = torch.tensor(start, requires_grad=True)
        p = x * 1
        optimizer = getattr(torch.optim, name)([p], lr=0.1, differentiable=differentiable)
        p.grad = x * x * x
        optimizer.step()
        return x, (p * p).sum()

    start = np.array([0.5, -1.5, 2.0])
    x, y = loss(start, True)
    y.backward()
    for i in range(3):
        step = np.eye(3)[i] * 1e-6
        numeric = (loss(start + step, True)[1] - loss(start - step, True)[1]).item() / 2e-6
        assert x.grad[i].item() == pytest.approx(numeric, rel=1e-4, abs=1e-6)


def test_the_rate_can_be_learned():
    lr = torch.tensor(0.1, requires_grad=True)
    p = torch.tensor([1.0, 2.0], requires_grad=True) * 1
    p.grad = torch.tensor([3.0, 4.0])
    torch.optim.SGD([p], lr=lr, differentiable=True).step()
    p.sum().backward()
    assert lr.grad.item() == pytest.approx(-7.0)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "NAdam", "ASGD", "Rprop", "Adafactor"])
def test_tensor_as_rate(name):
    p = parameter(3)
    q = torch.tensor(values(p), requires_grad=True)
    q.grad = p.grad.clone()
    getattr(torch.optim, name)([p], lr=torch.tensor(0.5)).step()
    getattr(torch.optim, name)([q], lr=0.5).step()
    np.testing.assert_allclose(values(p), values(q), rtol=1e-6)


def test_groups_have_their_own_options():
    p, q = parameter(2), parameter(2)
    before = values(p), values(q)
    groups = [{"params": p}, {"params": [q], "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    optimizer.step()
    np.testing.assert_allclose(values(p), before[0] - np.float32(0.1) * p.grad.numpy(), rtol=1e-6)
    np.testing.assert_allclose(values(q), before[1] - np.float32(0.5) * q.grad.numpy(), rtol=1e-6)
    optimizer.param_groups[0]["lr"] = 0.0
    kept = values(p)
    optimizer.step()
    np.testing.assert_array_equal(values(p), kept)


def test_parameters_without_gradient_stay():
    p = parameter(2, grad=False)
    before = values(p)
    optimizer = torch.optim.Adam([p])
    assert optimizer.step() is None
    np.testing.assert_array_equal(values(p), before)
    assert len(optimizer.state) == 0


def test_named_parameters():
    p, q = parameter(2), parameter(2)
    optimizer = torch.optim.SGD([("w", p), ("b", q)])
    assert optimizer.param_groups[0]["param_names"] == ["w", "b"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["w", "b"]
    other = torch.optim.SGD([("x", p), ("y", q)])
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["param_names"]
    other.load_state_dict(saved)
    assert other.param_groups[0]["param_names"] == ["x", "y"]


def test_closure_runs_with_gradients_and_its_loss_is_returned():
    p = parameter(2, grad=False)
    optimizer = torch.optim.SGD([p])

    def closure():
        loss = (p * p).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.requires_grad and p.grad is not None


def test_zero_grad():
    p = parameter(2)
    kept = p.grad
    optimizer = torch.optim.SGD([p])
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is kept and p.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert p.grad is None


def test_repr():
    optimizer = torch.optim.SGD([parameter(1)], lr=0.1)
    assert repr(optimizer) == (
        "SGD (\nParameter Group 0\n    dampening: 0\n    differentiable: False\n    foreach: None\n"
        "    fused: None\n    lr: 0.1\n    maximize: False\n    momentum: 0\n    nesterov: False\n"
        "    weight_decay: 0\n)"
    )


def test_repr_of_groups():
    groups = [{"params": [parameter(1)]}, {"params": [parameter(2)], "lr": 0.5}]
    first, second = repr(torch.optim.SGD(groups, lr=0.1)).split("\n\n")
    assert first.endswith("    weight_decay: 0") and second.startswith("Parameter Group 1\n")
    assert "    lr: 0.1\n" in first and "    lr: 0.5\n" in second


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", "lr betas eps weight_decay amsgrad maximize foreach capturable differentiable "
                 "fused decoupled_weight_decay"),
        ("Adagrad", "lr lr_decay eps weight_decay initial_accumulator_value foreach maximize "
                    "differentiable fused"),
        ("RMSprop", "lr momentum alpha eps centered weight_decay capturable foreach maximize "
                    "differentiable"),
        ("Adadelta", "lr rho eps weight_decay maximize capturable foreach differentiable"),
        ("NAdam", "lr betas eps weight_decay momentum_decay decoupled_weight_decay maximize "
                  "foreach capturable differentiable"),
        ("RAdam", "lr betas eps weight_decay maximize foreach capturable decoupled_weight_decay "
                  "differentiable"),
        ("Rprop", "lr etas step_sizes foreach maximize differentiable capturable"),
        ("SGD", "lr momentum dampening weight_decay nesterov maximize foreach differentiable "
                "fused"),
    ],
)  # fmt: skip
def test_order_of_options(name, options):
    """As PyTorch 2.13 prints a group of `state_dict()`."""
    (group,) = getattr(torch.optim, name)([parameter(1)]).state_dict()["param_groups"]
    assert list(group) == [*options.split(), "params"]


def test_copies():
    p = parameter(2)
    optimizer = torch.optim.Adam([p], lr=0.5)
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    q = twin.param_groups[0]["params"][0]
    assert q is not p and twin.state[q]["step"].item() == 1.0
    twin.step()
    assert optimizer.state[p]["step"].item() == 1.0


# -- hooks -------------------------------------------------------------------------------------


def test_step_hooks_are_called_in_order():
    p = parameter(1)
    optimizer = torch.optim.SGD([p])
    calls = []
    pre = torch.optim.optimizer.register_optimizer_step_pre_hook
    handles = [
        optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("pre")),
        optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("post")),
        pre(lambda o, args, kwargs: calls.append(("all", o is optimizer, args[0] is optimizer))),
    ]
    optimizer.step()
    assert calls == [("all", True, True), "pre", "post"]
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert len(calls) == 3


def test_pre_hook_may_replace_the_arguments():
    p = parameter(1)
    optimizer = torch.optim.SGD([p])
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: 5.0), {}))
    assert optimizer.step() == 5.0
    optimizer.register_step_pre_hook(lambda o, args, kwargs: 3)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()


def test_hooks_run_once_where_a_step_calls_the_one_it_derives_from():
    class Noisy(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    calls = []
    optimizer = Noisy([parameter(1)])
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    optimizer.step()
    assert calls == [1]


def test_state_dict_hooks():
    optimizer = torch.optim.SGD([parameter(1)], lr=0.1)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("second"))
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("first"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, state: {**state, "extra": 1})
    saved = optimizer.state_dict()
    assert calls == ["first", "second"] and saved["extra"] == 1

    def faster(o, state):
        state["param_groups"] = [{**state["param_groups"][0], "lr": 9.0}]

    optimizer.register_load_state_dict_pre_hook(faster)
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 9.0 and calls[-1] == "loaded"
    assert saved["param_groups"][0]["lr"] == 0.1


# -- checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"lr": -1}, "Invalid learning rate: -1"),
        ("SGD", {"momentum": -0.5}, "Invalid momentum value: -0.5"),
        ("SGD", {"weight_decay": -0.5}, "Invalid weight_decay value: -0.5"),
        ("SGD", {"nesterov": True}, "Nesterov momentum requires a momentum and zero dampening"),
        ("Adam", {"betas": (1.0, 0.5)}, "Invalid beta parameter at index 0: 1.0"),
        ("Adam", {"betas": (0.5, -0.5)}, "Invalid beta parameter at index 1: -0.5"),
        ("Adam", {"betas": (0.5, 0)}, "betas must be either both floats or both Tensors"),
        ("Adam", {"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ("Adam", {"lr": np.ones(2)}, "Tensor lr must be 1-element"),
        ("RMSprop", {"alpha": -1}, "Invalid alpha value: -1"),
        ("Adagrad", {"lr_decay": -1}, "Invalid lr_decay value: -1"),
        ("Adadelta", {"rho": 1.5}, "Invalid rho value: 1.5"),
        ("NAdam", {"momentum_decay": -1}, "Invalid momentum_decay value: -1"),
        ("Rprop", {"etas": (1.5, 2.0)}, "Invalid eta values: 1.5, 2.0"),
        ("Adafactor", {"d": 0.5}, "Clipping threshold d should be >= 1 but is: 0.5"),
        ("Adafactor", {"lr": -1}, "Learning rate should be >= 0 but is: -1"),
        ("Muon", {"adjust_lr_fn": "x"}, "Adjust learning rate function x is not supported"),
        ("LBFGS", {"lr": -1}, "Invalid learning rate: -1"),
    ],
)
def test_options_out_of_range(name, options, message):
    if isinstance(options.get("lr"), np.ndarray):
        options = {"lr": torch.tensor(options["lr"])}
    with pytest.raises(ValueError, match=f"^{message}$"):
        getattr(torch.optim, name)([parameter(2, 2)], **options)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        (lambda p: [], ValueError, "optimizer got an empty parameter list"),
        (lambda p: p, TypeError, "should be an iterable of Tensors or dicts"),
        (lambda p: [1.0], TypeError, "can only optimize Tensors, but one of the params is float"),
        (lambda p: [p * 2], ValueError, "can't optimize a non-leaf Tensor"),
        (lambda p: [{"params": {p}}], TypeError, "ordered collections"),
        (lambda p: [{"params": p}, {"params": p}], ValueError, "more than one parameter group"),
        (lambda p: [{"params": p}, p], TypeError, "param_group must be a dict"),
        (lambda p: [("w", p), parameter(1)], ValueError, "Some param names are missing"),
    ],
)
def test_parameters_are_checked(params, error, message):
    with pytest.raises(error, match=message):
        torch.optim.SGD(params(parameter(1)))


def test_names_in_some_groups_only():
    optimizer = torch.optim.SGD([("w", parameter(1))])
    with pytest.raises(ValueError, match="cannot add param group without names"):
        optimizer.add_param_group({"params": [parameter(1)]})


def test_duplicates_warn():
    p = parameter(1)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        torch.optim.SGD([p, p])


def test_required_options():
    class Own(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": torch.optim.optimizer.required})

    with pytest.raises(ValueError, match="didn't specify a value of required"):
        Own([parameter(1)])
    optimizer = Own([{"params": [parameter(1)], "lr": 1.0}])
    with pytest.raises(NotImplementedError, match="override step"):
        optimizer.step()


def test_muon_and_lbfgs_limits():
    with pytest.raises(ValueError, match="only supports 2D parameters"):
        torch.optim.Muon([parameter(3)])
    with pytest.raises(ValueError, match="doesn't support per-parameter options"):
        torch.optim.LBFGS([{"params": [parameter(1)]}, {"params": [parameter(1)]}])
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        p = parameter(2)
        torch.optim.LBFGS([p], line_search_fn="x").step(lambda: (p * p).sum())


def test_fused_and_foreach_exclude_each_other():
    with pytest.raises(RuntimeError, match="cannot be `True` together"):
        torch.optim.Adam([parameter(1)], fused=True, foreach=True)
    with pytest.raises(RuntimeError, match="does not support `differentiable`"):
        torch.optim.SGD([parameter(1)], fused=True, differentiable=True)
    for options in ({"fused": True}, {"foreach": True}, {"capturable": True}):
        np.testing.assert_array_equal(
            train(torch, "Adam", options, steps=2), train(torch, "Adam", {}, steps=2)
        )


def test_lbfgs_finds_the_minimum_of_rosenbrocks_valley():
    p = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([p], line_search_fn="strong_wolfe", max_iter=60)

    def closure():
        optimizer.zero_grad()
        loss = (1 - p[0]) * (1 - p[0]) + 100 * (p[1] - p[0] * p[0]) * (p[1] - p[0] * p[0])
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(values(p), [1.0, 1.0], atol=1e-4)


def test_double_precision_runs_agree_with_single_ones():
    for name, options in OPTIMIZERS:
        if name in ("LBFGS", "Muon"):
            continue
        wide = train(torch, name, options, "float64", STEPS)
        np.testing.assert_allclose(train(torch, name, options), wide, atol=1e-4)
