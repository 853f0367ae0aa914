"""Products with looked up rows, done with the table's rows, against eager."""

from __future__ import annotations

import pytest

import lampion
from lampion.compiler.native import runtime
from lampion.nn import functional as F

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is not installed")


def training(padding=None, rows=7, by_frequency=False):
    """A function of indices (4, 6) that gives a loss and gradients, and its tables."""
    lampion.manual_seed(0)
    table = lampion.randn(rows, 3, requires_grad=True)
    weight, bias = lampion.randn(5, 3, requires_grad=True), lampion.randn(5, requires_grad=True)

    def step(index):
        x = F.embedding(index, table, padding, scale_grad_by_freq=by_frequency)
        x = x.transpose(0, 1).flatten(0, 1)  # (24, 3)
        loss = F.linear(x, weight, bias).tanh().square().sum()
        return loss, *lampion.autograd.grad(loss, [table, weight, bias])

    return step


def compare(step, index):
    wanted, compiled = step(index), lampion.compile(step, fullgraph=True)
    compiled(index)  # runs as it is, traced
    for a, b in zip(compiled(index), wanted, strict=True):
        assert lampion.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("by_frequency", [False, True])
def test_gradients(padding, by_frequency):
    index = lampion.randint(0, 7, (4, 6), generator=lampion.Generator().manual_seed(1))
    compare(training(padding, by_frequency=by_frequency), index)


def kernels(step, index):
    text = lampion.compile.explain(step, index).kernels
    return [line for line in text.splitlines() if ": mm |" in line or ": linear |" in line]


def test_products_have_the_rows_of_the_table():
    index = lampion.zeros(4, 6, dtype=lampion.int64)
    found = kernels(training(), index)
    assert len(found) == 3
    assert not any("[24x" in line or "x24]" in line for line in found)


def test_large_tables_are_left_alone():
    index = lampion.zeros(4, 6, dtype=lampion.int64)
    step = training(rows=13)
    assert any("[24x" in line or "x24]" in line for line in kernels(step, index))
    compare(step, index)


def test_a_wrong_index_is_still_refused():
    compiled = lampion.compile(training())
    compiled(lampion.zeros(4, 6, dtype=lampion.int64))
    with pytest.raises(IndexError):
        compiled(lampion.full((4, 6), 7))


def test_numbers_that_nobody_looks_up_do_not_matter():
    step = training()
    table = step.__closure__[[*step.__code__.co_freevars].index("table")].cell_contents
    with lampion.no_grad():
        table[5], table[6] = float("inf"), float("nan")
    index = lampion.arange(24).reshape(4, 6) % 5
    assert all(result.isfinite().all() for result in step(index))
    compare(step, index)
