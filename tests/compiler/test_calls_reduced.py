"""Compiled reductions against the Python functions they stand for."""

import math

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime
from lampion.core.tensor import Tensor
from lampion.ops import compiled_calls

from .test_calls import NAMES, installed, native, outcome, same_result, tensors  # noqa: F401

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)


def both(place, make_args, **kwargs):
    """What both functions give for the same arguments, and these."""
    ours, theirs = make_args(), make_args()
    found = outcome(native(place), ours, kwargs)
    wanted = outcome(compiled_calls.REPLACED[place], theirs, kwargs)
    return found, wanted, ours, theirs


def same_results(found, wanted, ours, theirs):
    """Equal, also where there are several tensors."""
    if isinstance(wanted, tuple) and all(isinstance(t, Tensor) for t in wanted):
        assert type(found) is type(wanted) and len(found) == len(wanted)
        for f, w in zip(found, wanted, strict=True):
            same_result(f, w, ours, theirs)
        return
    same_result(found, wanted, ours, theirs)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("name", compiled_calls.REDUCED)
def test_reductions(name):
    dims = [(), (0,), (1,), (-1,), (-2,), (2,), (5,), (None,), ((0,),), ((0, 1),), (1.0,), (True,)]
    for kind in NAMES:
        for dim in dims:
            for options in ({}, {"keepdim": True}):
                for space in ("torch", "Tensor"):
                    same_results(*both((space, name), lambda: (tensors()[kind], *dim), **options))


@pytest.mark.parametrize("name", compiled_calls.REDUCED)
def test_other_arguments(name):
    for options in (
        {"axis": 1}, {"dim": 1}, {"dim": 1, "keepdims": True}, {"dtype": torch.float64},
        {"keepdim": 1, "dim": 0}, {"wrong": 1}, {"out": torch.zeros(())},
    ):  # fmt: skip
        for kind in ("matrix", "matrix grad", "truth", "whole"):
            place = ("torch", name)
            same_results(*both(place, lambda kind=kind: (tensors()[kind],), **options))
    for wrong in ((), (3,), (None,)):
        same_results(*both(("torch", name), lambda wrong=wrong: wrong))


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("name", ["var", "std"])
def test_spreads(name):
    for kind in NAMES:
        for given in ((1,), (None,), (0, False), (1, True, True), (False,), (-1, None, True)):
            place = ("Tensor", name)
            same_results(*both(place, lambda: (tensors()[kind], *given)))
        for correction in (0, 1, 2, 4, 0.5, None, True):
            place = ("torch", name)
            options = {"dim": -1, "correction": correction}
            same_results(*both(place, lambda kind=kind: (tensors()[kind],), **options))
        same_results(*both(place, lambda kind=kind: (tensors()[kind],), unbiased=False))


def test_extremes_of_pairs():
    for name in ("max", "min"):
        place = ("torch", name)
        for kind in ("matrix", "matrix grad", "whole"):
            same_results(*both(place, lambda: (tensors()[kind], tensors()["other"])))
            same_results(*both(place, lambda: (tensors()[kind],), other=tensors()["other"]))


def test_nan_wins():
    nan = math.nan
    x = torch.tensor([[1.0, nan, 3.0], [nan, 2.0, nan], [3.0, 1.0, 2.0], [1.0, 3.0, 3.0]])
    values, places = x.max(1)
    assert places.tolist() == [1, 0, 0, 1] and values[2:].tolist() == [3.0, 3.0]
    assert torch.isnan(values[:2]).all() and math.isnan(x.min().item())
    assert x.argmin(1).tolist() == [1, 0, 1, 0] and x.argmax(0).tolist() == [1, 0, 1]


def test_places_are_watched():
    x = torch.rand(3, 4, requires_grad=True)
    values, places = (x * 1).max(1)
    places.zero_()
    with pytest.raises(RuntimeError, match="MaxBackward0"):
        values.sum().backward()


@pytest.mark.parametrize("place", [("torch", "norm"), ("linalg", "vector_norm")])
def test_norms(place):
    """Orders and dimensions, by place and by name, with gradients."""
    order = "p" if place[1] == "norm" else "ord"
    for kind in NAMES:
        for given in (
            (), (2,), (2.0,), ("fro",), (1,), (math.inf,), (None,), (True,), (2, 1),
            (2, -1, True), (2, None), (2, (0, 1)), (2, 3), (3.5, 0), (2, 0, False),
        ):  # fmt: skip
            same_results(*both(place, lambda k=kind, g=given: (tensors()[k], *g)))
        for options in (
            {order: 2, "dim": 0},
            {"dim": 1, "keepdim": True},
            {"dtype": torch.float64},
        ):
            same_results(*both(place, lambda k=kind: (tensors()[k],), **options))


def test_norms_of_many_elements():
    rng = np.random.default_rng(0)
    for shape in ((90, 100), (30_000,), (40_000,), (3, 60, 100)):
        x = rng.standard_normal(shape)
        for dim in (None, 0, -1):
            for dtype in (torch.float32, torch.float64):
                found = torch.from_numpy(x).to(dtype).norm(dim=dim)
                wanted = np.sqrt((x * x).sum(dim))
                np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)


def test_gradients_of_norms():
    """Against the formula, second derivatives against finite differences."""
    for given in ((), (2, 0), (2, 1, True)):
        x = torch.rand(3, 5, dtype=torch.float64).requires_grad_()
        y = x.norm(*given)
        (g,) = torch.autograd.grad(y.sum(), x)
        size = (x * x).sum(given[1:2] or None, keepdim=bool(given)).sqrt()
        assert torch.allclose(g, x / size)
        assert torch.autograd.gradgradcheck(lambda t, given=given: t.norm(*given), x)
    zero = torch.zeros(3, requires_grad=True)
    zero.norm().backward()
    assert zero.grad.tolist() == [0, 0, 0]
