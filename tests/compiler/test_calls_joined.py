"""Compiled products, joins and lookups against the Python functions they stand for."""

import pytest

import lampion as torch
from lampion.compiler.calls import objects, products
from lampion.compiler.native import runtime
from lampion.ops import matmul

from .test_calls import NAMES, installed, tensors  # noqa: F401
from .test_calls_reduced import both, same_results

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)


def factors():
    """Operands of products: batches that fit and some that do not, turned ones too."""
    cube = tensors()["cube"]
    made = {
        "cube": cube, "turned": cube.transpose(1, 2), "turned whole": cube.transpose(1, 2) + 0,
        "matrix": tensors()["matrix"], "row": tensors()["row"], "four": torch.rand(2, 2, 3, 4),
        "four turned": torch.rand(2, 3, 2, 4).transpose(1, 2).transpose(-2, -1),
        "double": cube.double().transpose(1, 2), "wide": torch.rand(2, 4, 200), "one": cube[:1],
        "empty": torch.zeros(0, 3, 4), "half": cube.half(), "deep": torch.rand(2, 4, 40),
    }  # fmt: skip
    grads = {f"{n} grad": t.detach().clone().requires_grad_() for n, t in made.items()}
    turned = cube.clone().requires_grad_()
    return made | grads | {"turned grad": turned.transpose(1, 2)}


FACTORS = list(factors())


@pytest.mark.parametrize("left", FACTORS)
@pytest.mark.parametrize("place", [("torch", "matmul"), ("torch", "bmm")])
def test_products(place, left):
    torch.manual_seed(0)
    made = factors()
    for right in FACTORS:

        def arguments(right=right):
            copies = {n: made[n].detach().clone() for n in (left, right)}
            for n, t in copies.items():
                if n.endswith("grad"):
                    t.requires_grad_()
            # views stay views
            given = [
                copies[n].transpose(1, 2).contiguous().transpose(1, 2)
                if "turned" in n and made[n].ndim == 3
                else copies[n]
                for n in (left, right)
            ]
            return given

        found, wanted, *_ = both(place, arguments)
        same_results(found, wanted, (), ()) if not grads_of(wanted) else same_gradients(
            found, wanted
        )


def grads_of(result):
    return isinstance(result, torch.Tensor) and result.requires_grad


def same_gradients(found, wanted):
    """Equal results and graphs."""
    assert torch.allclose(found.detach(), wanted.detach(), 1e-5, 1e-5)
    assert found.shape == wanted.shape and found.dtype is wanted.dtype
    assert found.grad_fn.name() == wanted.grad_fn.name()
    g = torch.rand(found.shape).to(found.dtype)
    with torch.no_grad():
        results = [t.grad_fn.gradients(g) for t in (found, wanted)]
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, 1e-4, 1e-5)


def flat_factors(k):
    """Vectors of k numbers and matrices of k rows and columns, turned, sliced, and of other
    types.
    """
    square = torch.rand(k, k)
    made = {
        "vector": torch.rand(k), "steps": torch.rand(2 * k)[::2], "square": square,
        "turned": square.t(), "sliced": torch.rand(k, 2 * k)[:, ::2], "wide": torch.rand(k, 90),
        "double": torch.rand(k).double(), "whole": torch.arange(k), "none": torch.zeros(0, k),
        "number": torch.tensor(2.0), "longer": torch.rand(k + 1), "cube": torch.rand(2, k, k),
    }  # fmt: skip
    return made | {
        f"{n} grad": t.detach().clone().requires_grad_()
        for n, t in made.items()
        if t.is_floating_point()
    }


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("name", ["matmul", "mm", "mv", "dot"])
def test_products_of_vectors_and_matrices(name, k):
    torch.manual_seed(0)
    made = flat_factors(k)
    for left in made:
        for right in made:
            for no_grad in (False, True):
                with torch.set_grad_enabled(not no_grad):
                    found, wanted, *_ = both(
                        ("Tensor", name), lambda a=left, b=right: (made[a], made[b])
                    )
                if grads_of(wanted):
                    same_gradients(found, wanted)
                else:
                    same_results(found, wanted, (), ())


def test_blas_has_the_products_that_python_leaves_to_it():
    assert products.LARGE == matmul.LARGE


def test_linear_of_batches():
    for shape in ((2, 3, 4), (2, 2, 2, 4), (1, 1, 4), (4,), (2, 0, 4), (2, 3, 5)):
        for needs in (False, True):
            for bias in (True, False):

                def arguments(shape=shape, needs=needs, bias=bias):
                    torch.manual_seed(1)
                    x, w, b = torch.rand(shape), torch.rand(3, 4), torch.rand(3)
                    given = [t.requires_grad_(needs) for t in (x, w, b)]
                    return given if bias else given[:2]

                same_results(*both(("functional", "linear"), arguments))


def test_stack():
    lists = [
        ("matrix", "other"), ("matrix grad", "other"), ("matrix", "result", "parameter"), ("cube",),
        ("matrix", "wide"), ("matrix", "double"), ("row", "row grad"), ("whole", "whole"),
        ("number", "number grad"), ("matrix", "strided"), ("empty", "empty"), (),
        ("large", "large"), ("matrix",) * 40, ("truth", "truth"),
    ]  # fmt: skip
    for names in lists:
        for dim in (0, 1, -1, 2, -3, 7, 1.0):

            def arguments(names=names, dim=dim):
                given = tensors()
                return [given[n] for n in names], dim

            same_results(*both(("torch", "stack"), arguments))
    same_results(*both(("torch", "stack"), lambda: (tuple(tensors()[n] for n in ("row", "row")),)))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_both_kinds(name):
    for place in (("torch", name), ("Tensor", name)):
        for kind in NAMES:
            for dim in (-1, 0, 1, 5, None, "a"):
                same_results(*both(place, lambda: (tensors()[kind], dim)))
        for options in ({"dtype": torch.float64}, {"dtype": None}):
            same_results(*both(place, lambda: (tensors()["matrix grad"], -1), **options))
        same_results(*both(place, lambda: (tensors()["matrix"], -1, torch.float64)))


INDICES = [[0, 2], [[0, 1], [2, 3]], [], [4], [-1], [3, 3, 3], 1]


def test_embedding():
    options = [
        {}, {"padding_idx": 1}, {"padding_idx": -1}, {"padding_idx": 9}, {"max_norm": 1.0},
        {"scale_grad_by_freq": True}, {"sparse": True}, {"norm_type": 1.0}, {"wrong": 1},
    ]  # fmt: skip
    for index in INDICES:
        for kind in ("matrix", "matrix grad", "double grad", "parameter", "strided", "cube", "row"):
            for option in options:
                place = ("functional", "embedding")
                make = lambda: (torch.tensor(index).long(), tensors()[kind])  # noqa: E731
                same_results(*both(place, make, **option))
    for dtype in (torch.int32, torch.float32):
        make = lambda: (torch.tensor([0, 1]).to(dtype), tensors()["matrix grad"])  # noqa: E731
        same_results(*both(("functional", "embedding"), make))


@pytest.mark.parametrize("place", [("torch", "index_select"), ("Tensor", "index_select")])
def test_index_select(place):
    for kind in NAMES:
        for index in INDICES:
            for dim in (0, 1, -1, 5, 1.0):
                same_results(
                    *both(place, lambda: (tensors()[kind], dim, torch.tensor(index).long()))
                )


@pytest.mark.parametrize("place", [("torch", "gather"), ("Tensor", "gather")])
def test_gather(place):
    indices = [
        [[0], [1], [2], [3]], [[0, 1, 2, 3]], [[3, 3], [0, 0]], [[4]], [[-1]], [], [0, 1], 0,
        [[0] * 6] * 2, [[0]] * 6, [[[0, 1]], [[1, 0]]],
    ]  # fmt: skip
    for kind in NAMES:
        for index in indices:
            for dim in (0, 1, -1, 2, 5, 1.0):
                same_results(
                    *both(place, lambda: (tensors()[kind], dim, torch.tensor(index).long()))
                )
