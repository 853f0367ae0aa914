"""Compiled views and parts against the Python functions they stand for."""

import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime

from .test_calls import NAMES, installed, tensors  # noqa: F401
from .test_calls_reduced import both, same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)
DIMS = [(), (0,), (1,), (-1,), (-2,), (2,), (-3,), (5,), (None,), (1.0,), ((0, 1),)]
PAIRS = [(0, 1), (1, 0), (-1, -2), (0, 0), (0, 2), (0, 5), (0,), (0, 1.0), (1, 1, 1)]
ARGUMENTS = {
    "transpose": PAIRS,
    "t": [(), (0,)],
    "permute": [
        (1, 0), ((1, 0),), ([0, 1],), (0, 1), (-1, 0), (-1, -2), (2, 0, 1), (0, 0), (0,), (), ((),),
        (1.0, 0), (0, 2), (-3, 0), (torch.Size([1, 0]),),
    ],
    "squeeze": DIMS,
    "unsqueeze": DIMS,
    "expand": [
        (2, 4, 4), (4, 4), (-1, 4), (-1, -1), (4, -1), (4, 17), (1,), (), ((2, 4, 4),), (3, 4),
        (-1, 4, 4), (0, 4, 4), (2, -1, -1), (4,), (2.0, 4), (-2, 4), (3, 3, 4), (2, 2, 3, 4),
    ],
    "flatten": [*DIMS, *PAIRS, (0, -1), (1, 2), (-2, -1), (1, -1)],
    "detach": [(), (1,)],
    "unbind": DIMS,
    "split": [
        (1,), (2,), (3,), (9,), (0,), (-1,), (2, 1), (3, -1), (2, 5), ([1, 3],), ((2, 2), 1),
        (2.0,),
    ],
    "chunk": [(1,), (2,), (3,), (9,), (0,), (-1,), (2, 1), (3, -1), (2, 5), (2.0,)],
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_views(name):
    for kind in [*NAMES, "column grad"]:
        for given in ARGUMENTS[name]:

            def arguments(kind=kind, given=given):
                made = tensors()
                made["column grad"] = made["column"].clone().requires_grad_()
                return made[kind], *given

            for no_grad in (False, True):
                with torch.set_grad_enabled(not no_grad):
                    results = both(("Tensor", name), arguments)
                same_results(*results)


def test_parameters_by_name():
    for name, options in (
        ("transpose", {"dim0": 0, "dim1": -1}), ("permute", {"dims": (1, 0)}),
        ("squeeze", {"dim": 0}),
        ("unsqueeze", {"dim": -1}), ("flatten", {"start_dim": 0}), ("flatten", {"end_dim": 0}),
        ("unbind", {"dim": 1}), ("split", {"split_size_or_sections": 2, "dim": 1}),
        ("chunk", {"chunks": 2, "dim": 1}),
    ):  # fmt: skip
        for kind in ("matrix", "matrix grad", "column"):
            same_results(*both(("torch", name), lambda kind=kind: (tensors()[kind],), **options))


def views_written(make, write):
    """What a write through a view does to the tensor seen, and to its gradient."""
    x = torch.arange(16.0).reshape(4, 4).requires_grad_()
    y = x * 1
    view = make(y)
    write(view)
    (y * y).sum().backward()
    return y.tolist(), y._version, y.grad_fn.name(), view.grad_fn.name(), x.grad.tolist()


@pytest.mark.parametrize(
    "make",
    [
        lambda y: y.transpose(0, 1), lambda y: y.t(), lambda y: y.permute(1, 0),
        lambda y: y.squeeze(), lambda y: y.unsqueeze(1), lambda y: y.flatten(),
    ],
)  # fmt: skip
def test_writing_through_views(make):
    found = views_written(make, lambda v: v.mul_(3))
    x = torch.arange(16.0)
    assert found[0] == (x * 3).reshape(4, 4).tolist() and found[1] == 1
    assert found[2] == "CopySlices" or found[2].startswith("As")
    assert found[4] == (x * 18).reshape(4, 4).tolist()


def test_detached_tensors_share_their_version():
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.detach().mul_(2)
    assert y._version == 1 and y.tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("name", "given", "sizes"),
    [("chunk", (2, 1), (2, 2)), ("split", (3, 0), (3, 1)), ("unbind", (1,), (1, 1, 1, 1))],
)
def test_gradients_of_parts(name, given, sizes):
    """Each part's gradient lands in its place, squares' too; a part that is not used gets zeros."""
    dim, start = given[-1], 0
    for part, size in enumerate(sizes):
        x = torch.arange(16.0).reshape(4, 4).requires_grad_()
        parts = getattr(x * 1, name)(*given)
        assert len(parts) == len(sizes)
        assert {p.grad_fn.name() for p in parts} == {parts[0].grad_fn.name()}
        (g,) = torch.autograd.grad((parts[part] ** 3).sum(), x, create_graph=True)
        (twice,) = torch.autograd.grad(g.sum(), x)
        inside = torch.zeros(4, 4)
        inside.narrow(dim, start, size).fill_(1)
        start += size
        assert torch.equal(g, 3 * x**2 * inside) and torch.equal(twice, 6 * x * inside)
    assert x.grad is None
    sum(p.sum() for p in getattr(x, name)(*given)).backward()
    assert torch.equal(x.grad, torch.ones(4, 4))


def test_parts_can_be_hooked_and_keep_their_gradients():
    x = torch.ones(4, 2, requires_grad=True)
    first, second = x.chunk(2)
    first.retain_grad()
    second.register_hook(lambda g: g * 10)
    (first.sum() * 2 + second.sum()).backward()
    assert first.grad.tolist() == [[2, 2]] * 2
    assert x.grad.tolist() == [[2, 2]] * 2 + [[10, 10]] * 2


def test_expand_as():
    for kind in [*NAMES, "column grad"]:
        for other in ("matrix", "cube", "row", "column", "number", "empty", "wide", "whole"):

            def arguments(kind=kind, other=other):
                made = tensors()
                made["column grad"] = made["column"].clone().requires_grad_()
                return made[kind], made[other]

            for no_grad in (False, True):
                with torch.set_grad_enabled(not no_grad):
                    same_results(*both(("Tensor", "expand_as"), arguments))
    for wrong in (3, None, (4, 4), "x"):
        same_results(
            *both(("Tensor", "expand_as"), lambda wrong=wrong: (tensors()["column"], wrong))
        )
