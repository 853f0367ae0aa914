"""The passes on graphs: expansion by references, equal and useless steps."""

from __future__ import annotations

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.lower.clean import clean
from lampion.compiler.lower.expand import expand
from lampion.compiler.lower.references import REFERENCES
from lampion.compiler.trace.execute import Interpreter
from lampion.compiler.trace.graph import Graph, Input, Step, Value
from lampion.core.op import OPS
from tests.compiler.lowering import graph_of

F = torch.nn.functional
RNG = np.random.default_rng(0)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


CALLS = {
    "mean": lambda x: x.mean((0, 2)),
    "var": lambda x: x.var(1),
    "std": lambda x: x.std(-1, correction=0, keepdim=True),
    "norm": lambda x: x.norm(2, 1),
    "logsumexp": lambda x: x.logsumexp((0, 1)),
    "nansum": lambda x: torch.nansum(x, 1),
    "softmax": lambda x: x.softmax(1),
    "log_softmax": lambda x: x.log_softmax(-1),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[1:]),
    "group_norm": lambda x: F.group_norm(x, 2),
    "batch_norm": lambda x: F.batch_norm(x, None, None, None, None, True),
    "instance_norm": lambda x: F.instance_norm(x),
    "batch_norm_fixed": lambda x: F.batch_norm(x, x[0, :, 0], x[1, :, 1] ** 2),
    "cross_entropy": lambda x: F.cross_entropy(x, torch.tensor([[1, 0, -100]] * 2)),
    "nll_loss": lambda x: F.nll_loss(x, torch.tensor([[1, 0, 3]] * 2), x[0, :, 0]),
    "glu": lambda x: F.glu(x, 1),
    "mse_loss": lambda x: F.mse_loss(x, x * 2),
    "huber_loss": lambda x: F.huber_loss(x, x * 2, reduction="sum"),
}


@pytest.mark.parametrize("name", CALLS)
def test_references_agree_with_kernels(name):
    """The expanded graph computes, operator by operator, what the record's kernel does."""
    x = f32(2, 4, 3)
    graph, expected = graph_of(CALLS[name], x)
    assert name in {step.op.name for step in graph.steps}
    expanded = expand(graph)
    expanded.verify()
    assert not {step.op.name for step in expanded.steps} & set(REFERENCES)
    given = [x] + [np.empty(0)] * (len(graph.inputs) - 1)
    for a, b in zip(Interpreter(expanded).run(given), expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_complex_numbers_are_not_expanded():
    x = f32(2, 3) + 1j * f32(2, 3)
    graph, _ = graph_of(lambda x: x.mean(0), x)
    assert [s.op.name for s in expand(graph).steps] == ["mean"]


def chain(*names: str) -> Graph:
    """Operators of one operand, each on the graph's input."""
    x = Value((2,), np.dtype(np.float32), "x")
    outs = [Value((2,), x.dtype, f"y{i}") for i in range(len(names))]
    steps = [Step(OPS[n], (x,), {}, (y,)) for n, y in zip(names, outs, strict=True)]
    total = Value((2,), x.dtype, "total")
    steps.append(Step(OPS["add"], (outs[0], outs[1]), {}, (total,)))
    return Graph([Input(x, "argument")], steps, [total], [])


def test_equal_steps_are_merged_and_useless_ones_dropped():
    cleaned = clean(chain("exp", "exp", "sin"))
    cleaned.verify()
    assert [s.op.name for s in cleaned.steps] == ["exp", "add"]
    assert len(set(cleaned.steps[1].inputs)) == 1


def test_draws_are_never_merged():
    graph, _ = graph_of(lambda x: F.dropout(x) + F.dropout(x), f32(3))
    draws = [s for s in clean(graph).steps if s.op.random]
    assert len(draws) == 2
