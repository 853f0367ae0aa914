"""Compiled formulas with numbers, comparisons, clamp, where and masked_fill against Python."""

import math

import pytest

from lampion.compiler.calls import objects
from lampion.compiler.native import runtime

from .test_calls import NAMES, PARTNERS, installed, tensors  # noqa: F401
from .test_calls_reduced import both, same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)
F = "functional"
NUMBERS = [0.5, 0, 1, 0.0, -0.0, True, math.nan, math.inf, -math.inf, 1e300, 1 << 80, 2j, None, "x"]
ONE = ("sigmoid", "silu", "gelu", "logsigmoid", "leaky_relu", "elu", "softplus", "selu", "relu6",
       "hardswish")  # fmt: skip
COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")


@pytest.mark.parametrize("name", ONE)
def test_activations(name):
    for kind in NAMES:
        same_results(*both((F, name), lambda kind=kind: (tensors()[kind],)))
    for options in ({"inplace": False}, {"inplace": True}, {"approximate": "none"},
                    {"approximate": "tanh"}, {"alpha": 0.5}, {"negative_slope": 0.2},
                    {"negative_slope": 2}, {"negative_slope": "x"}, {"beta": 2}, {"beta": 0.5,
                    "threshold": 0.1}):  # fmt: skip
        for kind in ("matrix", "double grad", "nan", "whole"):
            same_results(*both((F, name), lambda kind=kind: (tensors()[kind],), **options))


def test_rsqrt():
    for kind in NAMES:
        same_results(*both(("torch", "rsqrt"), lambda kind=kind: (tensors()[kind],)))


@pytest.mark.parametrize("name", COMPARED)
def test_comparisons(name):
    for place in (("torch", name), ("Tensor", f"__{name}__")):
        for kind in NAMES:
            for partner in PARTNERS:
                same_results(*both(place, lambda: [tensors()[k] for k in (kind, partner)]))
        for kind in ("matrix", "double grad", "whole", "number grad", "nan"):
            for number in NUMBERS:
                same_results(*both(place, lambda: (tensors()[kind], number)))


@pytest.mark.parametrize("place", [("torch", "pow"), ("Tensor", "__pow__")])
def test_powers(place):
    for kind in NAMES:
        same_results(*both(("torch", "square"), lambda kind=kind: (tensors()[kind],)))
        for exponent in (2, 2.0, 3, 3.0, 0.5, -1, -0.5, 0, 1.7, True, 1e300, "x", 1 << 70):
            same_results(*both(place, lambda: (tensors()[kind], exponent)))
        same_results(*both(place, lambda kind=kind: (tensors()[kind], tensors()["other"])))


@pytest.mark.parametrize("name", ["floor", "ceil", "round", "sign", "reciprocal", "log1p", "expm1"])
def test_one_operand(name):
    for kind in NAMES:
        for space in ("torch", "Tensor"):
            same_results(*both((space, name), lambda kind=kind: (tensors()[kind],)))
    if name == "round":
        same_results(*both(("torch", name), lambda: (tensors()["matrix"],), decimals=1))


@pytest.mark.parametrize("place", [("torch", "clamp"), ("Tensor", "clamp"), ("Tensor", "clip")])
def test_clamp(place):
    for kind in NAMES:
        for low, high in ((0.1, 0.5), (0.5, 0.1), (None, 0.5), (-1, None), (None, None), (0, 1)):
            same_results(*both(place, lambda: (tensors()[kind], low, high)))
            same_results(*both(place, lambda: (tensors()[kind],), min=low, max=high))
    for kind in ("matrix grad", "whole", "nan"):
        for number in NUMBERS:
            same_results(*both(place, lambda: (tensors()[kind],), min=number))
    same_results(*both(place, lambda: [tensors()[k] for k in ("matrix grad", "row", "other")]))


def masks():
    """Masks that fit a matrix of 4 by 4, and some that do not."""
    made = tensors()
    truth = made["truth"]
    return {
        "same": truth, "row": truth[0], "column": truth[:, :1].clone(), "number": truth[0, 0],
        "strided": truth.t(), "wrong": made["matrix"], "long": truth.repeat(2, 1),
        "cube": truth.expand(2, 4, 4).clone(),
    }  # fmt: skip


@pytest.mark.parametrize("mask", masks())
def test_masked_fill(mask):
    for kind in NAMES:
        for number in NUMBERS:
            for place in (("torch", "masked_fill"), ("Tensor", "masked_fill")):
                same_results(*both(place, lambda: (tensors()[kind], masks()[mask], number)))


@pytest.mark.parametrize("mask", masks())
def test_where(mask):
    place = ("torch", "where")
    for kind in NAMES:
        for partner in PARTNERS:
            same_results(
                *both(place, lambda: (masks()[mask], *[tensors()[k] for k in (kind, partner)]))
            )
    for number in NUMBERS:
        same_results(*both(place, lambda: (masks()[mask], tensors()["matrix grad"], number)))
        same_results(*both(place, lambda: (masks()[mask], number, tensors()["double grad"])))
        same_results(*both(place, lambda: (masks()[mask], number, 1.0)))
    same_results(*both(place, lambda: (masks()[mask],)))
