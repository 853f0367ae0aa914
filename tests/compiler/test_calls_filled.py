"""Compiled creation of tensors against the Python functions it stands for."""

import math

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime

from .test_calls import NAMES, installed, native, tensors  # noqa: F401
from .test_calls_reduced import both, same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)
SHAPES = [(4, 4), ((2, 3),), ([17],), (torch.Size([40]),), (0,), (3, 0), (-1,), (), ((),), (5000,),
          (2.0,), ("x",), (True,), (1, 2, 3, 4), (1, 2, 3, 4, 5), (2, "x")]  # fmt: skip
OPTIONS = [
    {}, {"dtype": torch.float64}, {"dtype": torch.int64}, {"dtype": torch.bool},
    {"dtype": torch.float16}, {"dtype": float}, {"dtype": "x"}, {"requires_grad": True},
    {"device": "cpu"}, {"device": torch.device("cpu")}, {"device": "nowhere"},
    {"dtype": torch.int64, "requires_grad": True}, {"requires_grad": 1}, {"layout": torch.strided},
]  # fmt: skip
NUMBERS = [0, 1, -3, 2.5, math.nan, math.inf, 1e300, 1 << 70, True, 2j, "x", None, np.float32(2)]


def alike(name, arguments):
    """Equal results with all options."""
    for options in OPTIONS:
        same_results(*both(("torch", name), lambda: arguments, **options))


@pytest.mark.parametrize("name", ["zeros", "ones"])
@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_sizes(name, shape):
    alike(name, shape)


def test_empty():
    for shape in SHAPES:
        for options in OPTIONS:
            found, wanted, *_ = both(("torch", "empty"), lambda: shape, **options)
            if not isinstance(wanted, torch.Tensor):
                assert found == wanted
                continue
            assert found.shape == wanted.shape and found.dtype is wanted.dtype
            assert found.requires_grad == wanted.requires_grad and found.is_contiguous()


@pytest.mark.parametrize("name", ["zeros_like", "ones_like"])
def test_like(name):
    for kind in NAMES:
        for options in OPTIONS:
            place = ("torch", name)
            same_results(*both(place, lambda kind=kind: (tensors()[kind],), **options))
    assert native(("torch", "empty_like"))(tensors()["cube"]).shape == (2, 3, 4)


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_full(value):
    for shape in ((2, 3), [2], 3, (), (0,), torch.Size([2])):
        alike("full", (shape, value))


def test_arange():
    for ends in (
        (5,), (0,), (2, 5), (5, 2), (5, 2, -1), (2, 9, 3), (9, 2, -3), (2, 2), (0, 5, 0), (5.0,),
        (1, 5, 0.5), (1 << 40,), (1 << 40, (1 << 40) + 3), (True,), ("x",), (-3,), (0, -4, -1), (),
        (None, 3), (5000,),
    ):  # fmt: skip
        alike("arange", ends)
    same_results(*both(("torch", "arange"), lambda: (), end=4))
    same_results(*both(("torch", "arange"), lambda: (1,), end=4, step=2))


def test_tensor():
    for data in (
        *NUMBERS, [1.0, 2.0], [1, 2], (1, 2.5), [], [True, False], [[1, 2], [3, 4]], [1, "x"],
        [1 << 70], [0.1] * 5000, np.arange(3), [np.float32(1)], (1.5,), [1, True], [2j],
    ):  # fmt: skip
        alike("tensor", (data,))


def test_another_default_type():
    torch.set_default_dtype(torch.float64)
    try:
        for made in (torch.zeros(2), torch.full((2,), 0.5), torch.tensor([0.5]), torch.empty(1)):
            assert made.dtype is torch.float64
        assert torch.tensor([1]).dtype is torch.int64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["new_zeros", "new_ones"])
def test_new_sizes(name):
    for kind in ("matrix", "double", "whole", "truth", "half", "matrix grad", "special"):
        for shape in SHAPES:
            for options in OPTIONS:
                same_results(
                    *both(("Tensor", name), lambda k=kind, s=shape: (tensors()[k], *s), **options)
                )
    assert native(("Tensor", "new_empty"))(tensors()["whole"], 2, 3).dtype is torch.int64


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_full_of_a_tensors_type(value):
    for kind in NAMES:
        for options in ({}, *OPTIONS[1:5], {"requires_grad": True}):
            same_results(
                *both(("torch", "full_like"), lambda k=kind: (tensors()[k], value), **options)
            )
            same_results(
                *both(("Tensor", "new_full"), lambda k=kind: (tensors()[k], (2, 3), value),
                      **options)
            )  # fmt: skip


def test_linspace():
    """The same bits as the formula in NumPy, so the same as PyTorch's."""
    for given in (
        (0, 1, 5), (0.0, 1.0, 2), (3, -7.5, 100), (0, 1, 1), (0, 1, 0), (0, 1, -1), (1, 1, 4),
        (0, 1), (0, 1, 2.0), (math.nan, 1, 3), (0, math.inf, 3), (1e300, 0, 3), (2j, 0, 3),
        (True, 2, 3), ("x", 2, 3), (0, 1, 100_000), (-0.1, 0.3, 131_073), (1 << 70, 0, 3),
    ):  # fmt: skip
        for options in OPTIONS:
            found, wanted, *_ = both(("torch", "linspace"), lambda given=given: given, **options)
            same_results(found, wanted, (), ())
            if isinstance(wanted, torch.Tensor):
                assert np.array_equal(found.detach(), wanted.detach(), equal_nan=True)
    same_results(*both(("torch", "linspace"), lambda: (), start=0, end=4, steps=3))


def test_eye():
    for sizes in (
        (3,), (3, 5), (5, 3), (1, 1), (0,), (3, 0), (-1,), (3, None), (2.0,), (3, 2.0), (True,),
        (300, 400), (400, 400), ("x",), (),
    ):  # fmt: skip
        alike("eye", sizes)
    same_results(*both(("torch", "eye"), lambda: (), n=2, m=3))
