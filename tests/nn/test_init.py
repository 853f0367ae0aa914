"""Initial parameters and `nn.init` against the numbers that PyTorch 2.13 draws
(tests/nn/make_golden.py).
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import lampion as torch

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "modules.json").read_text())
EXACT = (
    "uniform_(",
    "xavier_uniform_(",
    "kaiming_uniform_(",
    "normal_(",
    "kaiming_normal_(",
    "sparse_(",
)


@pytest.mark.parametrize("text", GOLDEN["drawn"])
def test_same_seed_same_parameters(text):
    torch.manual_seed(1)
    made = eval(text, vars(torch.nn).copy())
    wanted = GOLDEN["drawn"][text]
    found = {k: v.detach().numpy().ravel() for k, v in made.named_parameters()}
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], np.float32(values), err_msg=name)


@pytest.mark.parametrize("text", GOLDEN["filled"])
def test_fills_as_pytorch(text):
    torch.manual_seed(2)
    w = torch.empty(5, 7)
    result = eval(text, {**vars(torch.nn.init), "w": w})
    found, wanted = w.numpy().ravel(), np.float32(GOLDEN["filled"][text])
    assert result.data_ptr() == w.data_ptr()
    if text.startswith(EXACT):
        np.testing.assert_array_equal(found, wanted)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_dirac_hands_channels_on():
    conv = torch.nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
    torch.nn.init.dirac_(conv.weight, groups=2)
    x = torch.randn(1, 4, 5, 5)
    assert (conv(x) == x).all()


def test_nothing_is_recorded_and_leaves_may_be_filled():
    w = torch.nn.Parameter(torch.empty(3, 3))
    for fill in (torch.nn.init.ones_, torch.nn.init.zeros_, torch.nn.init.eye_):
        assert fill(w) is w and w.grad_fn is None
    assert torch.nn.init.constant_(w, 2.5)[0, 0].item() == 2.5


@pytest.mark.parametrize(
    ("name", "param", "gain"),
    [
        ("linear", None, 1),
        ("relu", None, math.sqrt(2)),
        ("tanh", None, 5 / 3),
        ("selu", None, 0.75),
        ("leaky_relu", 0.2, math.sqrt(2 / 1.04)),
        ("leaky_relu", None, math.sqrt(2 / (1 + 0.01**2))),
    ],
)
def test_gains(name, param, gain):
    assert torch.nn.init.calculate_gain(name, param) == pytest.approx(gain)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i, t: i.xavier_uniform_(t(3)), "fewer than 2 dimensions"),
        (lambda i, t: i.kaiming_normal_(t(3, 3), mode="fan"), "Mode fan not supported"),
        (lambda i, t: i.kaiming_normal_(t(3, 3), nonlinearity="x"), "Unsupported nonlinearity x"),
        (lambda i, t: i.eye_(t(3)), "Only tensors with 2 dimensions"),
        (lambda i, t: i.dirac_(t(3, 3)), "3, 4, or 5 dimensions"),
        (lambda i, t: i.dirac_(t(3, 3, 3), groups=2), "divisible by groups"),
        (lambda i, t: i.calculate_gain("leaky_relu", "x"), "not a valid number"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.nn.init, torch.empty)


def test_old_names_warn():
    with pytest.warns(FutureWarning, match="deprecated in favor of `nn.init.uniform_`"):
        torch.nn.init.uniform(torch.empty(2))


def test_empty_tensors_are_left_alone():
    with pytest.warns(UserWarning, match="zero-element"):
        torch.nn.init.kaiming_uniform_(torch.empty(0, 3))
