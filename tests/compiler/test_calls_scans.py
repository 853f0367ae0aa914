"""Compiled running sums and orders against the Python functions they stand for, and NumPy."""

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime

from .test_calls import NAMES, installed, tensors  # noqa: F401
from .test_calls_reduced import both, same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)
NAN, INF = float("nan"), float("inf")
DIMS = [(0,), (1,), (-1,), (2,), (5,), (None,), (1.0,), (True,), ((0,),), ()]


@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running(name):
    for kind in NAMES:
        for dim in DIMS:
            for options in ({}, {"dtype": torch.float64}, {"dtype": None}):

                def arguments(kind=kind, dim=dim):
                    return tensors()[kind], *dim

                same_results(*both(("torch", name), arguments, **options))
                same_results(*both(("Tensor", name), arguments, **options))
    for options in ({"dim": 1}, {"axis": 1}, {"wrong": 1}, {"out": torch.zeros(4, 4)}):
        same_results(*both(("torch", name), lambda: (tensors()["matrix"],), **options))


def test_running_over_any_dimension_is_numpys():
    """Float32 is added up in float64, as in NumPy with that type."""
    rng = np.random.default_rng(0)
    for shape in ((700,), (31, 47), (5, 33, 19), (3, 1, 40)):
        x = rng.standard_normal(shape, np.float32)
        for dim in range(len(shape)):
            for name in ("cumsum", "cumprod"):
                wanted = getattr(np, name)(x, dim, np.float64).astype(np.float32)
                assert np.array_equal(getattr(torch.from_numpy(x), name)(dim).numpy(), wanted)
    whole = rng.integers(-9, 9, (6, 50))
    assert np.array_equal(torch.from_numpy(whole).cumsum(0).numpy(), whole.cumsum(0))


def rows():
    """Rows with ties, NaN and infinities, and long ones."""
    rng = np.random.default_rng(0)
    special = [3.0, NAN, -INF, 3.0, 0.0, -0.0, INF, NAN, 1.0, 1.0]
    long = rng.standard_normal((4, 2000))
    long[1, ::97], long[2] = NAN, np.sort(long[2])
    made = {
        "special": np.array([special, special[::-1], [NAN] * 10]),
        "ties": rng.integers(0, 4, (5, 40)).astype(float), "few": rng.standard_normal((2, 3, 7)),
        "sorted": np.arange(40.0).reshape(2, 20), "one": np.ones((3, 1)), "none": np.ones((3, 0)),
        "row": rng.standard_normal(20),
    }  # fmt: skip
    return made | {"long": long, "large": rng.standard_normal((2, 260))}


KINDS = list(rows())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.float16])
def test_topk(kind, dtype):
    x = torch.from_numpy(rows()[kind])
    x = x.nan_to_num().to(dtype) if dtype is torch.int64 else x.to(dtype)
    for given in (
        (1,), (2,), (0,), (5, -1), (2, 0), (2, 1), (3, -1, False), (3, -1, True, False), (70,),
        (7, -1, False, True), (2.0,), (-1,), (3, 5), (3, -1, 1), (40,),
    ):  # fmt: skip
        for needs in (False, True):

            def arguments(given=given, needs=needs):
                own = x.clone()
                return own.requires_grad_() if needs and own.is_floating_point() else own, *given

            same_results(*both(("Tensor", "topk"), arguments))
    same_results(*both(("torch", "topk"), lambda: (x,), k=1, largest=False))


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "long"])
@pytest.mark.parametrize("name", ["sort", "argsort"])
def test_sort(name, kind):
    x = torch.from_numpy(rows()[kind])
    for given in ((), (-1,), (0,), (1,), (-1, True), (-1, False), (-1, 1), (5,), (1.0,)):
        for options in ({}, {"stable": True}, {"stable": None}):
            for needs in (False, True):

                def arguments(given=given, needs=needs):
                    return x.clone().requires_grad_(needs), *given

                same_results(*both(("Tensor", name), arguments, **options))
    same_results(*both(("torch", name), lambda: (x,), descending=True, dim=-1))


def test_gradients_against_finite_differences():
    torch.manual_seed(0)
    x = torch.rand(3, 6, dtype=torch.float64).requires_grad_()
    for run in (
        lambda t: t.cumsum(1), lambda t: t.cumsum(0), lambda t: t.cumprod(1),
        lambda t: t.topk(3).values, lambda t: t.topk(2, largest=False)[0], lambda t: t.sort(1)[0],
        lambda t: t.sort(descending=True).values,
    ):  # fmt: skip
        assert torch.autograd.gradcheck(run, x) and torch.autograd.gradgradcheck(run, x)
