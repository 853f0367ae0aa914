"""What is made of products and convolutions element by element is part of them."""

from __future__ import annotations

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.lower.kernels import Library
from lampion.compiler.lower.pipeline import lower
from lampion.compiler.native import runtime
from lampion.compiler.program.program import Program
from tests.compiler.lowering import graph_of

pytestmark = pytest.mark.skipif(not runtime.available(), reason="needs llvmlite")
F = torch.nn.functional
RNG = np.random.default_rng(0)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def run(function, *given: np.ndarray) -> list[bool]:
    """For each kernel whether it has an epilogue; its program's results are compared."""
    graph, expected = graph_of(function, *given)
    listed = lower(graph)
    found = [isinstance(k.work, Library) and k.work.epilogue is not None for k in listed.kernels]
    program, inputs = Program(listed), [*given, *(i.data for i in graph.inputs[len(given) :])]
    for _ in range(2):
        for a, b in zip(program.run(inputs), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    return found


X, W, B = f32(6, 37, 50), f32(70, 50), f32(70)
IMAGE, KERNEL = f32(2, 3, 9, 11), f32(4, 3, 3, 3)


def test_activations_and_residuals_join_products():
    assert run(lambda x, w, b: F.gelu(F.linear(x, w, b)), X, W, B) == [True]
    assert run(lambda x, w, b: (x @ w.t() + b).relu(), X, W, B) == [True]
    assert run(lambda x, w, r: (F.linear(x, w) + r).tanh() * r, X, W, f32(6, 37, 70)) == [True]
    assert run(lambda a, b: (a @ b).exp(), 0.1 * f32(3, 5, 6), f32(3, 6, 7)) == [True]
    assert run(lambda x, y: x.transpose(1, 2) @ y * 2, X, X) == [True]
    assert run(lambda a, b: (a @ b).sigmoid(), f32(33, 65).T, f32(33, 3)) == [True]


def test_large_products_in_many_tiles():
    x, w = f32(1100, 300), f32(300, 700)
    assert run(lambda x, w: (x @ w).relu() * 2 + 1, x, w) == [True]


def test_convolutions():
    assert run(lambda x, w: F.conv2d(x, w, padding=1).relu(), IMAGE, KERNEL) == [True]
    b = f32(4)
    strided = run(lambda x, w, b: F.conv2d(x, w, b, stride=2).exp(), IMAGE, KERNEL, b)
    assert strided == [True]

    def scaled(x, w, b):  # numbers of each channel
        return F.conv2d(x, w, padding=1) * b.reshape(1, 4, 1, 1)

    assert run(scaled, IMAGE, KERNEL, b) == [True]

    def masked(x, w):  # the gradient of an image that was made by relu
        x = x.requires_grad_(True)
        return torch.autograd.grad((F.conv2d(x.relu(), w) ** 2).sum(), x)

    assert sum(run(masked, IMAGE, KERNEL)) == 2  # the square's gradient, and the mask


def test_the_result_itself_may_be_needed_too():
    def both(x, w):
        y = F.linear(x, w)
        return y, y.exp(), y.sum(1)

    assert run(both, 0.1 * X, W) == [True, False]


def test_what_reads_elsewhere_or_comes_later_is_a_kernel_of_its_own():
    assert run(lambda a: (a @ a).t() + a @ a, f32(8, 8)) == [False, False]
    assert run(lambda x, w: F.linear(x, w) - F.linear(x, w).amax(), X, W)[0] is False
    assert run(lambda a: (a @ a)[1:].exp(), f32(8, 8)) == [False, False]


def test_results_are_the_same_bits_with_one_thread():
    def step(x, w):
        return F.gelu(F.linear(x, w)) * 2

    graph, _ = graph_of(step, f32(300, 200), f32(500, 200))
    program = Program(lower(graph))
    given = [f32(300, 200), f32(500, 200), *(i.data for i in graph.inputs[2:])]
    threads = torch.get_num_threads()
    results = []
    for number in (1, 2):
        torch.set_num_threads(number)
        results.append(program.run(given)[0])
    torch.set_num_threads(threads)
    np.testing.assert_array_equal(*results)


def test_an_epilogue_keeps_no_array_beside_the_one_it_replaces():
    """Of what reads a result and more memory, only its sole reader joins."""

    def several(x, w, r):
        y = F.linear(x, w) * r
        return y, (y * (r + 1)).exp(), (y - r.flip(0)).tanh()

    assert run(several, 0.1 * X, W, f32(6, 37, 70)) == [True, False]
