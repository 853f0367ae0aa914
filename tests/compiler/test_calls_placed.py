"""Compiled gather, scatter and index_add against the Python functions they stand for, and NumPy."""

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime

from .test_calls import installed, native  # noqa: F401
from .test_calls_reduced import both, same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)
SHAPE = (3, 4, 5)
SHAPES = {
    "same": SHAPE, "long": (3, 9, 5), "less": (2, 3, 4), "one": (3, 1, 5), "first": (6, 4, 5),
    "last": (3, 4, 7), "single": (3, 4, 1), "none": (3, 0, 5), "wide": (4, 4, 6), "flat": (4,),
}  # fmt: skip
DTYPES = (torch.float32, torch.float64, torch.int64, torch.bool, torch.float16)


def made(shape, dtype=torch.float32, seed=0):
    values = np.random.default_rng(seed).standard_normal(shape) * 4
    return torch.from_numpy(values).to(dtype)


def index(shape, high, low=0, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).integers(low, high, shape))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["gather", "scatter", "scatter_add", "scatter_", "scatter_add_"])
def test_indices_of_many_dimensions(name, shape):
    shape = SHAPES[shape]
    for dim in (0, 1, 2, -1, 3):
        size = SHAPE[dim] if dim < 3 else 1
        places = [index(shape, size), index(shape, size + 2), index(shape, size, -1)]
        for place in [*places, places[0].int(), places[0].float()]:
            for dtype in DTYPES:

                def arguments(dim=dim, place=place, dtype=dtype):
                    given = [made(SHAPE, dtype), dim, place.clone()]
                    return given if name == "gather" else [*given, made(shape, dtype, 2)]

                same_results(*both(("Tensor", name), arguments))


@pytest.mark.parametrize("name", ["gather", "scatter", "scatter_add", "index_add"])
def test_gradients(name):
    """First and second ones, of repeated places too."""
    for dim in (0, 1, 2):
        place = index(SHAPE, SHAPE[dim])
        if name == "index_add":
            place = index((6,), SHAPE[dim])
        shape = tuple(6 if d == dim and name == "index_add" else n for d, n in enumerate(SHAPE))
        if name == "scatter":  # places that repeat leave open which element wins
            place = index(SHAPE, SHAPE[dim]).argsort(dim)
        for needs in ((True, True), (True, False), (False, True)):

            def arguments(dim=dim, place=place, shape=shape, needs=needs):
                x = made(SHAPE, torch.float64).requires_grad_(needs[0])
                if name == "gather":
                    return x, dim, place
                return x, dim, place, made(shape, torch.float64, 2).requires_grad_(needs[1])

            if name != "gather" or needs[0]:
                same_results(*both(("torch", name), arguments))
                tensors = [t for t in arguments() if getattr(t, "requires_grad", False)]

                def run(*tensors, arguments=arguments):
                    left = list(tensors)
                    given = [left.pop(0) if getattr(a, "requires_grad", False) else a
                             for a in arguments()]  # fmt: skip
                    return native(("torch", name))(*given)

                assert torch.autograd.gradcheck(run, tensors)


def test_values_of_scatter():
    """Numbers as sources, by place and by name; other arguments."""
    for options in (
        {"src": 1.5}, {"value": 1.5}, {"value": 2}, {"value": True}, {"src": None}, {},
        {"value": 1e300}, {"value": 1j}, {"src": 2.0, "reduce": "add"}, {"src": "a"},
        {"src": made(SHAPE), "value": 1.0}, {"src": made(SHAPE).double()}, {"wrong": 1},
        {"src": made((3, 5, 6))}, {"src": made((3, 4, 5)).transpose(0, 1)},
    ):  # fmt: skip
        for name in ("scatter", "scatter_"):
            for dtype in DTYPES:

                def arguments(dtype=dtype):
                    return made(SHAPE, dtype), 1, index((3, 4, 5), 4)

                same_results(*both(("Tensor", name), arguments, **options))


@pytest.mark.parametrize("name", ["index_add", "index_add_"])
def test_index_add(name):
    for dim in (0, 1, 2, -2, 3, -4):
        for count in (0, 1, 6):
            shape = tuple(count if d == dim % 3 else n for d, n in enumerate(SHAPE))
            for dtype in DTYPES:
                for high in (3, 5, 6):

                    def arguments(dim=dim, count=count, shape=shape, dtype=dtype, high=high):
                        return (made(SHAPE, dtype), dim, index((count,), high),
                                made(shape, dtype, 2))  # fmt: skip

                    same_results(*both(("Tensor", name), arguments))
    for options in ({"alpha": 2}, {"alpha": 1}, {"alpha": 0.5}):

        def few():
            return made(SHAPE), 0, index((6,), 3), made((6, 4, 5), seed=2)

        same_results(*both(("Tensor", name), few, **options))
        same_results(*both(("Tensor", name), lambda: (*few()[:3], made((6, 5, 4))), **options))


def test_writes_in_place_are_noticed():
    x = torch.ones(4, requires_grad=True)
    y = x * 2
    z = y.exp()
    with torch.no_grad():
        y.scatter_(0, torch.tensor([1]), 5.0)
        z.index_add_(0, torch.tensor([0]), torch.ones(1))
    assert y._version == 1 and y.tolist() == [2, 5, 2, 2] and z._version == 1
    with pytest.raises(RuntimeError, match="index_add_"):
        z.sum().backward()
    view = torch.zeros(2, 3)
    view[1].scatter_add_(0, torch.tensor([2, 2]), torch.ones(2))
    assert view.tolist() == [[0, 0, 0], [0, 0, 2]]


def test_a_source_in_the_same_memory():
    for name in ("scatter_", "scatter_add_"):
        x = torch.arange(6.0)
        place = torch.tensor([3, 4, 5])
        wanted = torch.arange(6.0)
        getattr(wanted, name)(0, place, torch.arange(6.0)[1:4].clone())
        getattr(x, name)(0, place, x[1:4])
        assert x.tolist() == wanted.tolist()


def test_many_elements():
    rng = np.random.default_rng(0)
    x, source = rng.standard_normal((2, 300, 200), np.float32)
    place = rng.integers(0, 200, (300, 200))
    tensors = [torch.from_numpy(a) for a in (x, source, place)]
    rows = np.arange(300)[:, None]
    assert np.array_equal(tensors[0].gather(1, tensors[2]).numpy(), x[rows, place])
    wanted = x.astype(np.float64)
    np.add.at(wanted, (rows, place), source)
    found = tensors[0].scatter_add(1, tensors[2], tensors[1]).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    order = rng.permuted(np.tile(np.arange(200), (300, 1)), axis=1)
    wanted = x.copy()
    wanted[rows, order] = source
    found = tensors[0].scatter(1, torch.from_numpy(order), tensors[1])
    assert np.array_equal(found.numpy(), wanted)
    wanted = x.astype(np.float64)
    np.add.at(wanted, place[:, 0], source)
    found = tensors[0].index_add(0, tensors[2][:, 0].contiguous(), tensors[1]).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
