"""What the optimizer tests run, for Lampion and for PyTorch alike, and the golden values PyTorch
gave.

`python tests/optim/cases.py` (needs PyTorch) writes `golden/optimizers.npz` and
`golden/schedulers.json` anew.
"""

import functools
import json
import sys
import warnings
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "golden"
STEPS = 6

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.3, 0.8), "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}),
    ("Adam", {"lr": 0.01, "betas": (0.0, 0.99), "maximize": True}),
    ("AdamW", {"lr": 0.02}),
    ("AdamW", {"lr": 0.02, "weight_decay": 0.3, "amsgrad": True}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.7, "momentum": 0.8, "centered": True, "weight_decay": 0.1}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.6, "weight_decay": 0.1}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.1, "betas": (0.5, 0.7), "weight_decay": 0.1}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    ("ASGD", {}),
    ("ASGD", {"lr": 0.1, "lambd": 0.1, "t0": 2, "weight_decay": 0.1}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (1e-3, 0.15)}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.1, "weight_decay": 0.1, "d": 1.5}),
    ("Muon", {"lr": 0.05}),
    ("Muon", {"lr": 0.05, "nesterov": False, "adjust_lr_fn": "match_rms_adamw"}),
    ("LBFGS", {"max_iter": 3}),
    ("LBFGS", {"line_search_fn": "strong_wolfe", "max_iter": 4, "history_size": 2}),
]


def case_name(case):
    name, options = case
    return " ".join([name, *(f"{k}={v}" for k, v in options.items())])


def train(lib, name, options, dtype="float32", steps=STEPS):
    """The parameters of a tiny model after each step: mean((tanh(x w + c) v - y)^2)."""
    random = np.random.RandomState(0)
    shapes = (4, 3), (3, 2), (3,), (8, 4), (8, 2)
    w, v, c, x, y = (lib.tensor(random.standard_normal(s).astype(dtype)) for s in shapes)
    parameters = [w, v] if name == "Muon" else [w, v, c]
    for p in parameters:
        p.requires_grad_(True)
    optimizer = getattr(lib.optim, name)(parameters, **options)

    def closure():
        optimizer.zero_grad()
        error = (x @ w + c).tanh() @ v - y
        loss = (error * error).mean()
        loss.backward()
        return loss

    history = []
    for _ in range(steps):
        optimizer.step(closure)
        history.append(np.concatenate([p.detach().numpy().ravel() for p in parameters]))
    return np.array(history)


def schedulers(lib):
    """name -> (what makes the schedule of an optimizer, steps)."""
    s = lib.optim.lr_scheduler

    def sequence(optimizer):
        parts = s.ConstantLR(optimizer, 0.1, 3), s.ExponentialLR(optimizer, 0.9)
        return s.SequentialLR(optimizer, [*parts, s.StepLR(optimizer, 2, 0.5)], [3, 7])

    def chain(optimizer):
        return s.ChainedScheduler(
            [s.ConstantLR(optimizer, 0.1, 4), s.ExponentialLR(optimizer, 0.9)]
        )

    both = {"base_lr": [0.01, 0.1], "max_lr": [0.1, 0.5]}
    return {
        "LambdaLR": (lambda o: s.LambdaLR(o, [lambda t: 0.95**t, lambda t: 1 / (t + 1)]), 6),
        "MultiplicativeLR": (lambda o: s.MultiplicativeLR(o, lambda t: 0.9 + 0.01 * t), 6),
        "StepLR": (lambda o: s.StepLR(o, 3, gamma=0.3), 10),
        "MultiStepLR": (lambda o: s.MultiStepLR(o, [2, 5, 5, 7], gamma=0.3), 10),
        "ConstantLR": (lambda o: s.ConstantLR(o, 0.3, 4), 7),
        "LinearLR": (lambda o: s.LinearLR(o, 0.2, 0.9, 4), 7),
        "ExponentialLR": (lambda o: s.ExponentialLR(o, 0.93), 7),
        "PolynomialLR": (lambda o: s.PolynomialLR(o, 5, power=2.0), 8),
        "CosineAnnealingLR": (lambda o: s.CosineAnnealingLR(o, 5, eta_min=0.01), 17),
        "CosineAnnealingWarmRestarts": (lambda o: s.CosineAnnealingWarmRestarts(o, 2, 2, 0.01), 17),
        "SequentialLR": (sequence, 12),
        "ChainedScheduler": (chain, 8),
        "SWALR": (lambda o: lib.optim.swa_utils.SWALR(o, [0.05, 0.5], anneal_epochs=4), 8),
        "SWALR in a line": (
            lambda o: lib.optim.swa_utils.SWALR(o, 0.3, 3, anneal_strategy="linear"),
            6,
        ),
        "OneCycleLR": (lambda o: s.OneCycleLR(o, [0.5, 1.0], total_steps=12), 12),
        "OneCycleLR of three": (
            lambda o: s.OneCycleLR(
                o, 0.5, epochs=4, steps_per_epoch=5, three_phase=True, anneal_strategy="linear"
            ),
            20,
        ),
        "CyclicLR": (lambda o: s.CyclicLR(o, **both, step_size_up=3, step_size_down=2), 14),
        "CyclicLR half": (lambda o: s.CyclicLR(o, 0.1, 0.7, 3, mode="triangular2"), 14),
        "CyclicLR by gamma": (
            lambda o: s.CyclicLR(o, 0.1, 0.7, 3, mode="exp_range", gamma=0.9, cycle_momentum=False),
            14,
        ),
        "CyclicLR own": (lambda o: s.CyclicLR(o, 0.1, 0.7, 3, scale_fn=lambda x: 1 / x), 14),
    }


def two_groups(lib):
    """An optimizer with two groups of different rates."""
    first, second = (lib.tensor([1.0], requires_grad=True) for _ in range(2))
    groups = [{"params": [first]}, {"params": [second], "lr": 0.02}]
    return lib.optim.SGD(groups, lr=0.5, momentum=0.9)


def rates(lib, name):
    """The rates, and the momenta, of both groups before and after each step."""
    make, steps = schedulers(lib)[name]
    optimizer = two_groups(lib)
    scheduler = make(optimizer)
    found = [state_of(optimizer)]
    for _ in range(steps - 1):
        optimizer.step()
        scheduler.step()
        assert list(scheduler.get_last_lr()) == [group["lr"] for group in optimizer.param_groups]
        found.append(state_of(optimizer))
    return found


def state_of(optimizer):
    return [[group["lr"], group["momentum"]] for group in optimizer.param_groups]


PLATEAUS = {
    "min rel": {"patience": 1, "factor": 0.5},
    "max abs": {"mode": "max", "threshold_mode": "abs", "threshold": 0.05, "patience": 0},
    "cooldown": {"patience": 0, "cooldown": 2, "min_lr": [0.1, 0.0], "factor": 0.3},
}
METRICS = [1.0, 0.9, 0.95, 0.89999, 0.7, 0.8, 0.8, 0.75, 0.6, 0.61, 0.62, 0.63, 0.64]


def plateau_rates(lib, name):
    """The rates of both groups after each measured value."""
    optimizer = two_groups(lib)
    scheduler = lib.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **PLATEAUS[name])
    found = []
    for value in METRICS:
        scheduler.step(value)
        found.append(list(scheduler.get_last_lr()))
    return found


@functools.cache
def golden(file):
    """The golden values of a file in `golden/`."""
    path = GOLDEN / file
    return dict(np.load(path)) if path.suffix == ".npz" else json.loads(path.read_text())


def write(lib):
    """Writes the golden values of a library, which is PyTorch."""
    runs = {case_name(case): train(lib, *case) for case in OPTIMIZERS}
    np.savez_compressed(GOLDEN / "optimizers.npz", **runs)
    plateaus = {name: plateau_rates(lib, name) for name in PLATEAUS}
    schedules = {name: rates(lib, name) for name in schedulers(lib)}
    text = json.dumps({"schedules": schedules, "plateaus": plateaus})
    (GOLDEN / "schedulers.json").write_text(text + "\n")


if __name__ == "__main__":
    import torch

    warnings.simplefilter("error")
    print("golden values of torch", torch.__version__, "in", GOLDEN)
    sys.exit(write(torch))
