"""Compiled tril, triu, pad, flip, roll and one_hot against the Python functions they stand for."""

import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime

from .test_calls import NAMES, installed, tensors  # noqa: F401
from .test_calls_reduced import both, same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)


def alike(place, choices, others=()):
    """Equal results for all kinds of tensors, with and without gradients."""
    for kind in [*NAMES, "cube grad"]:
        for given in choices:
            for no_grad in (False, True):
                with torch.set_grad_enabled(not no_grad):
                    same_results(*both(place, lambda k=kind, g=given: (tensors()[k], *g)))
    for options in others:
        for kind in ("matrix", "cube", "wide grad"):
            same_results(*both(place, lambda k=kind: (tensors()[k],), **options))


@pytest.mark.parametrize("name", ["tril", "triu"])
def test_triangles(name):
    diagonals = [(), (0,), (1,), (-1,), (3,), (-3,), (100,), (-100,), (1 << 50,), (1.0,), (None,)]
    alike(("torch", name), [*diagonals, (True,), (1, 2)], [{"diagonal": 1}, {"wrong": 1}])


PADS = [
    (1, 1), (0, 2), (2, 0), (0, 0), (1, 2, 3, 4), (1, 2, 0, 0, 1, 0), (-1, 1), (1, -1), (-9, 1), (),
    (1,), (1, 1, 1, 1, 1, 1, 1, 1), (1.0, 1), (True, 1),
]  # fmt: skip


def test_padding():
    choices = [(p,) for p in PADS] + [([1, 2],), (torch.Size([1, 1]),), (3,), (None,)]
    values = [0, 1, -2.5, 0.0, -0.0, 1e300, float("nan"), True, 2j, None, "x"]
    choices += [((1, 1), "constant", v) for v in values]
    choices += [((1, 1), "reflect"), ((1, 1), "x"), ((1, 1), "replicate", 1)]
    alike(("functional", "pad"), choices, [{"pad": (1, 0), "value": 2.0}, {"pad": [0, 1]}])
    zero = torch.nn.functional.pad(torch.ones(1), (1, 0), value=-0.0)[0]
    assert torch.signbit(zero)


def test_flip():
    choices = [(0,), (1,), (-1,), ((0,),), ([1],), ((0, 1),), (0, 1), (2,), (5,), ((),), (), (1.0,)]
    alike(("torch", "flip"), [*choices, (None,), (True,)], [{"dims": 0}, {"dims": (1,)}])


def test_roll():
    choices = [
        (1, 0), (-1, 1), (5, 1), (-7, 0), (0, 0), (1,), ((1,), (0,)), ((1, 2), (0, 1)), (1, 2),
        (1, 5), (1.0, 0), (1, -1), ([2], 1), (1, None), (), (1, ()), (1 << 40, 0), (True, 0),
    ]  # fmt: skip
    alike(("Tensor", "roll"), choices, [{"shifts": 1, "dims": 0}, {"shifts": 1}])


def test_one_hot():
    whole = {
        "row": torch.tensor([0, 2, 1, 2]), "matrix": torch.tensor([[1, 0], [3, 3]]),
        "number": torch.tensor(2), "empty": torch.zeros(0, dtype=torch.int64),
        "negative": torch.tensor([0, -1]), "float": torch.ones(2), "int": torch.ones(2).int(),
        "strided": torch.arange(8)[::2],
    }  # fmt: skip
    for x in whole.values():
        for given in ((), (-1,), (4,), (9,), (3,), (0,), (-2,), (2.0,), (None,), (True,)):
            same_results(
                *both(("functional", "one_hot"), lambda x=x, given=given: (x.clone(), *given))
            )
    same_results(*both(("functional", "one_hot"), lambda: (whole["row"],), num_classes=5))


def test_gradients_against_finite_differences():
    torch.manual_seed(0)
    x = torch.rand(2, 3, 4, dtype=torch.float64).requires_grad_()
    for run in (
        lambda t: t.tril(1), lambda t: t.triu(-1), lambda t: t.flip(1), lambda t: t.roll(2, 2),
        lambda t: torch.nn.functional.pad(t, (1, 2, 0, 3), value=0.5),
    ):  # fmt: skip
        cube = lambda t, run=run: run(t) ** 3  # noqa: E731
        assert torch.autograd.gradcheck(cube, x) and torch.autograd.gradgradcheck(cube, x)
