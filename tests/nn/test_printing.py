"""How modules print, against what PyTorch 2.13 prints (tests/nn/make_golden.py)."""

import json
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest

import lampion as torch

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "modules.json").read_text())
NAMES = {**vars(torch.nn), "torch": torch, "OrderedDict": OrderedDict}


@pytest.mark.parametrize("text", GOLDEN["printed"])
def test_prints_as_pytorch(text):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dropout in a one-layer network
        assert repr(eval(text, dict(NAMES))) == GOLDEN["printed"][text]


def test_parameters_and_own_modules():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(2, 1)
            self.nothing = None
            self.register_module("absent", None)

        def extra_repr(self):
            return "first line\nsecond line"

    assert repr(Net()) == (
        "Net(\n  first line\n  second line\n"
        "  (fc): Linear(in_features=2, out_features=1, bias=True)\n  (absent): None\n)"
    )
    assert repr(torch.nn.Parameter(torch.ones(2))) == (
        "Parameter containing:\ntensor([1., 1.], requires_grad=True)"
    )
