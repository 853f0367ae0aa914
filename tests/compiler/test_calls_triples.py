"""Compiled addcmul, addcdiv and lerp against the Python functions they stand for."""

import math

import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime

from .test_calls import NAMES, PARTNERS, installed, tensors  # noqa: F401
from .test_calls_reduced import both, same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)
NUMBERS = [0.5, 0, 1, -2.5, 0.3, True, math.nan, 1e300, 1 << 80, 2j, None, "x"]


@pytest.mark.parametrize("name", ["addcmul", "addcdiv"])
def test_products_and_quotients(name):
    for kind in NAMES:
        for partner in (*PARTNERS, "number"):
            for place in (("torch", name), ("Tensor", name)):
                same_results(
                    *both(place, lambda k=kind, p=partner: [tensors()[n] for n in (k, p, "other")])
                )
            same_results(
                *both(("torch", name), lambda k=kind, p=partner: [tensors()[n] for n in (k, k, p)])
            )
    for kind in ("matrix", "matrix grad", "double grad", "whole"):
        for value in NUMBERS:
            make = lambda k=kind: [tensors()[n] for n in (k, k, k)]  # noqa: E731
            same_results(*both(("torch", name), make, value=value))
    same_results(*both(("torch", name), lambda: (tensors()["matrix"], 2.0, tensors()["other"])))


def test_lerp():
    for kind in NAMES:
        for partner in PARTNERS:
            same_results(
                *both(("torch", "lerp"),
                      lambda k=kind, p=partner: (*[tensors()[n] for n in (k, p)], 0.3))
            )  # fmt: skip
            same_results(
                *both(("Tensor", "lerp"),
                      lambda k=kind, p=partner: [tensors()[n] for n in (k, "other", p)])
            )  # fmt: skip
    for number in NUMBERS:
        for kind in ("matrix", "matrix grad", "double"):
            make = lambda k=kind, n=number: (tensors()[k], tensors()[k] * 2, n)  # noqa: E731
            same_results(*both(("torch", "lerp"), make))
    same_results(*both(("torch", "lerp"), lambda: (tensors()["matrix"], 2.0, 0.5)))


@pytest.mark.parametrize("name", ["addcmul_", "addcdiv_", "lerp_"])
def test_in_place(name):
    """Values, versions and the error of a backward that needs what was there."""
    last = [0.3, 2] if name == "lerp_" else ["other", "number", "row"]
    kinds = ("matrix", "double", "wide", "strided", "whole", "half", "number", "matrix grad")
    for kind in kinds:
        for partner in ("other", "double", "matrix", "matrix grad"):
            for third in last:
                for no_grad in (False, True):

                    def make(kind=kind, partner=partner, third=third):
                        known = tensors()
                        return known[kind], known[partner], known.get(third, third)

                    with torch.set_grad_enabled(not no_grad):
                        found, wanted, ours, theirs = both(("Tensor", name), make)
                    assert type(found) is type(wanted)
                    assert isinstance(wanted, torch.Tensor) or found == wanted
                    assert found is ours[0] or wanted is not theirs[0]
                    assert ours[0].requires_grad == theirs[0].requires_grad
                    assert torch.allclose(ours[0], theirs[0], 1e-6, 1e-6, equal_nan=True)
                    assert ours[0]._version == theirs[0]._version
    if name != "lerp_":
        for value in NUMBERS:
            make = lambda: [tensors()[n] for n in ("matrix", "other", "other")]  # noqa: E731
            same_results(*both(("Tensor", name), make, value=value))
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    with torch.no_grad():
        getattr(y, name)(torch.ones(3), torch.ones(3))
    with pytest.raises(RuntimeError, match=name):
        y.sum().backward()


def test_gradients_against_finite_differences():
    torch.manual_seed(0)
    given = [(torch.rand(3, 4, dtype=torch.float64) + 0.2).requires_grad_() for _ in range(3)]
    for run in (
        lambda a, b, c: a.addcmul(b, c, value=0.7), lambda a, b, c: torch.addcdiv(a, b, c),
        lambda a, b, c: a.lerp(b, 0.3) * c, lambda a, b, c: a.lerp(b, c),
    ):  # fmt: skip
        assert torch.autograd.gradcheck(run, given) and torch.autograd.gradgradcheck(run, given)
