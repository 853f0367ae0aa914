"""Learning-rate schedules: PyTorch's sequences to the last bit, resuming, warnings, checks."""

import pickle
import warnings

import pytest

import lampion as torch
import lampion.optim
from tests.optim.cases import (
    METRICS,
    PLATEAUS,
    golden,
    plateau_rates,
    rates,
    schedulers,
    state_of,
    two_groups,
)

NAMES = list(schedulers(torch))
lr_scheduler = torch.optim.lr_scheduler


def optimizer_of(lr=0.5):
    return torch.optim.SGD([torch.tensor([1.0], requires_grad=True)], lr=lr)


@pytest.mark.parametrize("name", NAMES)
def test_sequences_are_those_of_pytorch(name):
    assert rates(torch, name) == golden("schedulers.json")["schedules"][name]


@pytest.mark.parametrize("name", PLATEAUS)
def test_plateaus_are_those_of_pytorch(name):
    assert plateau_rates(torch, name) == golden("schedulers.json")["plateaus"][name]


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_schedule_continues(name):
    make, steps = schedulers(torch)[name]
    expected = golden("schedulers.json")["schedules"][name]
    optimizer = two_groups(torch)
    scheduler = make(optimizer)
    for step in range(1, steps):
        if step == steps // 2:
            fast = optimizer.state_dict(), pickle.loads(pickle.dumps(savable(scheduler)))
            optimizer = two_groups(torch)
            scheduler = make(optimizer)
            optimizer.load_state_dict(fast[0])
            scheduler.load_state_dict(fast[1])
        optimizer.step()
        scheduler.step()
        assert state_of(optimizer) == expected[step]


def savable(scheduler):
    state = scheduler.state_dict()
    assert "optimizer" not in state
    return state


def test_a_saved_plateau_continues():
    expected = golden("schedulers.json")["plateaus"]["cooldown"]
    optimizer = two_groups(torch)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **PLATEAUS["cooldown"])
    for step, value in enumerate(METRICS):
        if step == 5:
            state = scheduler.state_dict()
            scheduler = lr_scheduler.ReduceLROnPlateau(optimizer)
            scheduler.load_state_dict(state)
        scheduler.step(value)
        assert scheduler.get_last_lr() == expected[step]


def test_callable_objects_are_saved():
    class Ramp:
        def __init__(self, slope):
            self.slope = slope

        def __call__(self, epoch):
            return 1 + self.slope * epoch

    first = lr_scheduler.LambdaLR(optimizer_of(), Ramp(0.5))
    second = lr_scheduler.LambdaLR(optimizer_of(), Ramp(9.0))
    state = first.state_dict()
    assert state["lr_lambdas"] == [{"slope": 0.5}]
    second.load_state_dict(state)
    assert second.lr_lambdas[0].slope == 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda o: lr_scheduler.StepLR(o, 3, 0.3),
        lambda o: lr_scheduler.MultiStepLR(o, [2, 4], 0.3),
        lambda o: lr_scheduler.ConstantLR(o, 0.3, 4),
        lambda o: lr_scheduler.LinearLR(o, 0.2, 0.9, 4),
        lambda o: lr_scheduler.ExponentialLR(o, 0.9),
        lambda o: lr_scheduler.PolynomialLR(o, 8, 2.0),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 8, 0.01),
    ],
)
def test_closed_forms_agree_with_steps(make):
    chained, closed = optimizer_of(), optimizer_of()
    steps, jumps = make(chained), make(closed)
    for epoch in range(1, 7):
        chained.step()
        steps.step()
        closed.step()
        with pytest.warns(UserWarning, match="epoch parameter in `scheduler.step"):
            jumps.step(epoch)
        assert jumps.get_last_lr() == pytest.approx(steps.get_last_lr())


def test_warm_restarts_take_fractions():
    optimizer = optimizer_of(1.0)
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4, 2)
    scheduler.step(2.0)
    assert scheduler.get_last_lr() == pytest.approx([0.5])
    scheduler.step(4 + 8 / 2)
    assert scheduler.get_last_lr() == pytest.approx([0.5])
    assert scheduler.T_i == 8 and scheduler.T_cur == 4
    with pytest.raises(ValueError, match="non-negative epoch"):
        scheduler.step(-1)


def test_resuming_needs_the_initial_rate():
    optimizer = optimizer_of()
    with pytest.raises(KeyError, match="'initial_lr' is not specified in param_groups"):
        lr_scheduler.StepLR(optimizer, 3, last_epoch=2)
    optimizer.param_groups[0]["initial_lr"] = 0.5
    scheduler = lr_scheduler.StepLR(optimizer, 3, last_epoch=2)
    assert scheduler.last_epoch == 3 and scheduler.get_last_lr() == pytest.approx([0.05])


def test_a_tensor_stays_the_same_object():
    lr = torch.tensor(0.5)
    optimizer = optimizer_of(lr)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is lr and lr.item() == 0.25
    assert scheduler.base_lrs[0].item() == 0.5


def test_the_order_of_steps_is_watched():
    optimizer = optimizer_of()
    scheduler = lr_scheduler.StepLR(optimizer, 3)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
    optimizer.step()
    scheduler = lr_scheduler.StepLR(optimizer, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler.step()
    scheduler = lr_scheduler.StepLR(optimizer, 3)
    optimizer.step = lambda: None
    with pytest.warns(UserWarning, match="has been overridden"):
        scheduler.step()


def test_rates_are_for_step_only():
    scheduler = lr_scheduler.StepLR(optimizer_of(), 3)
    with pytest.warns(UserWarning, match="please use `get_last_lr"):
        scheduler.get_lr()


def test_own_schedules():
    class Halved(lr_scheduler.LRScheduler):
        def get_lr(self):
            return [base / 2**self.last_epoch for base in self.base_lrs]

    optimizer = optimizer_of()
    scheduler = Halved(optimizer)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.25
    with pytest.raises(NotImplementedError, match="override get_lr"):
        lr_scheduler.LRScheduler(optimizer_of())


def test_one_cycle_ends():
    optimizer = optimizer_of()
    scheduler = lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=3, cycle_momentum=False)
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    with pytest.raises(ValueError, match="Tried to step 4 times"):
        scheduler.step()


def test_cycles_move_beta1_of_adam():
    p = torch.tensor([1.0], requires_grad=True)
    optimizer = torch.optim.Adam([p])
    lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=10)
    assert optimizer.param_groups[0]["betas"] == (0.95, 0.999)


def plateau(**options):
    return lambda o: lr_scheduler.ReduceLROnPlateau(o, **options)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda o: lr_scheduler.StepLR(None, 3), TypeError, "NoneType is not an Optimizer"),
        (
            lambda o: lr_scheduler.LambdaLR(o, [len, len]),
            ValueError,
            "Expected 1 lr_lambdas, but got 2",
        ),
        (lambda o: lr_scheduler.LambdaLR(o, 3), TypeError, "lr_lambda should be a function"),
        (lambda o: lr_scheduler.ConstantLR(o, 2.0), ValueError, "between 0 and 1"),
        (lambda o: lr_scheduler.LinearLR(o, 0.0), ValueError, "greater than 0"),
        (lambda o: lr_scheduler.LinearLR(o, 0.5, 2.0), ValueError, "Ending multiplicative factor"),
        (
            lambda o: lr_scheduler.CyclicLR(o, [1, 2], 3),
            ValueError,
            "base_lr must have the same length",
        ),
        (lambda o: lr_scheduler.CyclicLR(o, 1, 2, mode="x"), ValueError, "mode is invalid"),
        (
            lambda o: lr_scheduler.OneCycleLR(o, 1.0),
            ValueError,
            "You must define either total_steps",
        ),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 0), ValueError, "positive integer total_steps"),
        (lambda o: lr_scheduler.OneCycleLR(o, 1.0, 9, pct_start=2.0), ValueError, "pct_start"),
        (
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, 9, anneal_strategy="x"),
            ValueError,
            "'cos' or 'linear'",
        ),
        (
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 0),
            ValueError,
            "positive integer T_0",
        ),
        (plateau(factor=1.0), ValueError, "Factor should be < 1.0"),
        (plateau(mode="x"), ValueError, "mode x is unknown!"),
        (plateau(min_lr=[1, 2]), ValueError, "expected 1 min_lrs, got 2"),
        (lambda o: lr_scheduler.SequentialLR(o, [], []), ValueError, "at least one scheduler"),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(o, 1)], [1]),
            ValueError,
            "one more than the number of milestone points",
        ),
        (
            lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ReduceLROnPlateau(o)]),
            ValueError,
            "does not support `ReduceLROnPlateau`",
        ),
        (
            lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.StepLR(optimizer_of(), 1)], []),
            ValueError,
            "belong to the same optimizer",
        ),
    ],
)
def test_arguments_are_checked(make, error, message):
    with pytest.raises(error, match=message):
        make(optimizer_of())


def test_cycles_need_momentum():
    optimizer = torch.optim.Adagrad([torch.tensor([1.0], requires_grad=True)])
    with pytest.raises(ValueError, match="must support momentum or beta1"):
        lr_scheduler.CyclicLR(optimizer, 0.1, 0.2)
