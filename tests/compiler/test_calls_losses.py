"""Compiled losses and conversions against the Python functions they stand for."""

import math

import pytest

import lampion as torch
from lampion.compiler.calls import losses, objects
from lampion.compiler.native import runtime

from .test_calls import NAMES, installed, native, outcome, tensors  # noqa: F401
from .test_calls_reduced import both, same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)
F = "functional"


@pytest.mark.parametrize("name", losses.PAIRS)
@pytest.mark.filterwarnings("ignore:Using a target size", "ignore:size_average")
def test_losses_of_pairs(name):
    for kind in NAMES:
        for partner in ("other", "double", "row", "matrix grad", "parameter", "strided", "cube"):
            for options in ({}, {"reduction": "sum"}, {"reduction": "none"}, {"reduction": "no"}):
                make = lambda: [tensors()[n] for n in (kind, partner)]  # noqa: E731
                same_results(*both((F, name), make, **options))
    make = lambda: [tensors()[n] for n in ("matrix grad", "other")]  # noqa: E731
    for options in ({"size_average": True}, {"reduce": False}, {"weight": torch.ones(4, 4)}):
        same_results(*both((F, name), make, **options))


@pytest.mark.parametrize("name", ["smooth_l1_loss", "huber_loss"])
def test_losses_with_a_number(name):
    word = {"smooth_l1_loss": "beta", "huber_loss": "delta"}[name]
    for kind in ("matrix", "matrix grad", "double grad", "nan"):
        for number in (0.5, 2, 1e-3, 0, 0.0, -1.0, 1e300, math.inf, True, None, "x", 2j):
            for reduction in ("mean", "none"):
                make = lambda kind=kind: (tensors()[kind], tensors()[kind].detach() * 0.3)  # noqa: E731
                options = {word: number, "reduction": reduction}
                same_results(*both((F, name), make, **options))


@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_losses_of_chances(name):
    """Certain ones too, with gradients by input and target, against finite differences."""
    chances = torch.tensor([[0.0, 1.0, 0.5, 0.2], [1.0, 0.0, 0.9, 1e-30]])
    for dtype in (torch.float32, torch.float64):
        for needs in ((True, False), (True, True), (False, True)):
            for options in (
                {}, {"reduction": "sum"}, {"reduction": "none"}, {"weight": torch.rand(4)},
                {"pos_weight": torch.tensor(2.0)}, {"pos_weight": None}, {"weight": None},
            ):  # fmt: skip

                def make(dtype=dtype, needs=needs):
                    given = [t.to(dtype).clone() for t in (chances, 1 - chances.flip(0))]
                    return [t.requires_grad_(n) for t, n in zip(given, needs, strict=True)]

                same_results(*both((F, name), make, **options))
    loss = native((F, name))
    inside = [torch.rand(3, 4, dtype=torch.float64) * 0.8 + 0.1 for _ in range(2)]
    inside = [t.detach().requires_grad_() for t in inside]
    assert torch.autograd.gradcheck(loss, inside) and torch.autograd.gradgradcheck(loss, inside)
    far = torch.tensor([1000.0, -1000.0])
    found = torch.nn.functional.binary_cross_entropy_with_logits(
        far, torch.tensor([0.0, 1.0]), reduction="none"
    )
    assert found.tolist() == [1000, 1000]


@pytest.mark.filterwarnings("ignore:size_average")
def test_nll_loss():
    labels = [[0, 1, 2, 3], [3, 3, 0, 0], [0, 1, 2, 4], [0, 1, 2, -1], [0, -100, 2, 1], [0, 1], []]
    options = [
        {}, {"reduction": "mean"}, {"reduction": "sum"}, {"reduction": "none"},
        {"reduction": "no"}, {"ignore_index": -100}, {"ignore_index": 1}, {"size_average": False},
        {"weight": torch.rand(4)},
    ]  # fmt: skip
    for kind in NAMES:
        for label in labels:
            make = lambda: (tensors()[kind], torch.tensor(label).long())  # noqa: E731
            same_results(*both((F, "nll_loss"), make))
    for option in options:
        make = lambda: (tensors()["matrix grad"], torch.arange(4))  # noqa: E731
        same_results(*both((F, "nll_loss"), make, **option))


def one_element():
    """Tensors of one element of many types, and some that have others."""
    made = [torch.tensor(2.5), torch.tensor([[-3]]), torch.tensor(True), torch.tensor(1 << 60)]
    made += [torch.tensor([0.1]).to(t) for t in (torch.float64, torch.float16, torch.bfloat16)]
    made += [torch.tensor([7]).to(t) for t in (torch.int32, torch.uint8, torch.complex64)]
    made += [torch.tensor(math.nan), torch.tensor(1.5, requires_grad=True)]
    return [*made, torch.ones(2), torch.zeros(0), torch.ones(2, 2)[0, :1]]


@pytest.mark.parametrize("place", [("Tensor", "item"), ("Tensor", "__float__")])
def test_numbers(place):
    for i in range(len(one_element())):
        found, wanted, *_ = both(place, lambda i=i: (one_element()[i],))
        assert type(found) is type(wanted)
        assert found == wanted or (found != found and wanted != wanted)
    assert float(torch.tensor([3])) == 3.0


@pytest.mark.parametrize("name", ["float", "double", "long", "bool", "clone"])
def test_conversions(name):
    for kind in NAMES:
        for options in ({}, {"memory_format": torch.preserve_format}, {"wrong": 1}):
            same_results(*both(("Tensor", name), lambda kind=kind: (tensors()[kind],), **options))
    numbers = [1e30, -1e30, math.inf, -0.5, 0.999, 2.0**53, -(2.0**63)]
    make = lambda: (torch.tensor(numbers, dtype=torch.float64),)  # noqa: E731
    same_results(*both(("Tensor", name), make))
    x = torch.ones(3)
    assert x.float() is x and x.clone() is not x


def test_a_clone_has_its_own_memory():
    x = torch.arange(4.0)
    y = x.clone()
    y.add_(1.0)
    assert x.tolist() == [0, 1, 2, 3] and y.tolist() == [1, 2, 3, 4]
