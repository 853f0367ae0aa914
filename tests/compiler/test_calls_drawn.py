"""Compiled random numbers against the Python functions they stand for: the same streams."""

import math

import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime
from lampion.ops import compiled_calls

from .test_calls import NAMES, installed, native, outcome, same_numbers, tensors  # noqa: F401
from .test_calls_reduced import same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)


def drawn(place, make_args, **kwargs):
    """Both functions draw the same, and take as many words from the stream."""
    found = []
    for function in (native(place), compiled_calls.REPLACED[place]):
        torch.manual_seed(11)
        arguments = make_args()
        found.append((outcome(function, arguments, kwargs), arguments))
        found.append(torch.rand(3))
    (ours, our_args), after, (theirs, their_args), wanted = found
    same_results(ours, theirs, our_args, their_args)
    same_numbers(after, wanted)


@pytest.mark.parametrize("name", ["rand_like", "randn_like"])
def test_like(name):
    for kind in NAMES:
        for options in ({}, {"dtype": torch.float64}, {"requires_grad": True}, {"device": "cpu"}):
            drawn(("torch", name), lambda kind=kind: (tensors()[kind],), **options)


def test_randint():
    for bounds in (
        (5, (3, 4)), (2, 9, (20,)), (-3, 3, [4]), (0, (2,)), (3, 3, (2,)), (5, 2, (2,)), (1, (0,)),
        (1 << 29, (3,)), (1 << 40, (3,)), (5.0, (2,)), (5, 3), (5,), (5, torch.Size([2, 2])),
        (5, (5000,)), (9, (300, 400)), (5, (140_000,)), (True, (2,)),
    ):  # fmt: skip
        for options in ({}, {"dtype": torch.int64}, {"dtype": torch.float32}, {"device": "cpu"}):
            drawn(("torch", "randint"), lambda bounds=bounds: bounds, **options)


def test_randperm():
    for n in (0, 1, 2, 7, 100, 5000, 100_000, -1, 2.0, True):
        for options in ({}, {"dtype": torch.float32}, {"device": "cpu"}):
            drawn(("torch", "randperm"), lambda n=n: (n,), **options)
    assert sorted(torch.randperm(50).tolist()) == list(range(50))


@pytest.mark.parametrize("name", ["normal_", "uniform_"])
def test_filling(name):
    for kind in [k for k in NAMES if "grad" not in k and k not in ("result", "parameter")]:
        for numbers in ((), (2.0, 3.0), (1, 2), (-1.0, 1.0), (0.5, -1.0), (0.0, math.inf), (3.0,)):
            drawn(("Tensor", name), lambda kind=kind, numbers=numbers: (tensors()[kind], *numbers))
    with torch.no_grad():
        drawn(("Tensor", name), lambda: (tensors()["parameter"],))
    x = torch.zeros(4, 4)
    getattr(x, name)()
    assert x._version == 1 and x._storage.writer[0] == name


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0, 0, 1, -0.1, 1.5, math.nan, "x"])
def test_dropout(p):
    for kind in NAMES:
        for options in ({}, {"training": False}, {"training": True, "inplace": False}):
            drawn(("functional", "dropout"), lambda kind=kind: (tensors()[kind], p), **options)
    make = lambda: (tensors()["matrix"],)  # noqa: E731
    drawn(("functional", "dropout"), make, inplace=True)


def test_dropout_keeps_as_many_as_asked():
    torch.manual_seed(0)
    y = torch.nn.functional.dropout(torch.ones(60, 60), 0.25)
    assert abs((y != 0).float().mean().item() - 0.75) < 0.03
    assert abs(y.max().item() - 4 / 3) < 1e-6
