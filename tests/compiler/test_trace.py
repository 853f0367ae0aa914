"""Tracing: every operator's samples, traced on one set of values and run on another; what a graph
looks like.
"""

import warnings

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.trace.tracer import Tracer
from lampion.core.tensor import Tensor
from tests.samples import all_samples
from tests.samples.common import A
from tests.test_operators import arrays, flat, function, ids, tensors

SAMPLES = all_samples()

# Operators whose result's shape or course depends on values: calls of them run eagerly.
READS_VALUES = {
    "argwhere", "bincount", "cov", "histc", "histogram", "histogramdd", "masked_select", "nonzero",
    "nonzero_static", "nn.functional.ctc_loss", "nn.functional.embedding",
    "nn.functional.embedding_bag", "nn.functional.max_unpool1d", "nn.functional.max_unpool2d",
    "nn.functional.max_unpool3d", "nn.functional.multi_margin_loss",
    "nn.functional.multilabel_margin_loss", "masked_scatter", "repeat_interleave",
    "Tensor.__getitem__", "unique", "unique_consecutive", "where",
}  # fmt: skip
WRITES_PRIVATELY = {"matrix_power"}  # its powers are written in place, past the operators
UNDEFINED = {"empty", "empty_like", "empty_strided", "Tensor.new_empty", "empty_permuted"}


def leaves(x):
    """The tensors in nested lists, tuples and dictionaries."""
    if isinstance(x, Tensor):
        return [x]
    if isinstance(x, dict):
        x = list(x.values())
    return [t for v in x for t in leaves(v)] if isinstance(x, (list, tuple)) else []


def marks(x):
    """For each tensor of a sample's arguments, whether it is differentiated."""
    if isinstance(x, A):
        return [x.grad]
    if isinstance(x, np.ndarray):
        return [True]
    if isinstance(x, dict):
        x = list(x.values())
    return [m for v in x for m in marks(v)] if isinstance(x, (list, tuple)) else []


def arguments(sample, seed):
    """New arguments, those that may require grad requiring it."""
    args, kwargs = (tensors(x) for x in arrays(sample, sample.dtypes[0], seed))
    found = leaves((args, kwargs))
    if sample.gradient:
        for t, wanted in zip(found, marks((sample.inputs, sample.kwargs)), strict=True):
            if wanted and t._data.dtype.kind in "fc":
                t.requires_grad_()
    return args, kwargs, found


def agree(found, expected):
    """Whether two results are the same but for rounding."""
    assert type(found) is type(expected)
    if isinstance(expected, (list, tuple)):
        for a, b in zip(found, expected, strict=True):
            agree(a, b)
    elif isinstance(expected, Tensor):
        assert found.dtype is expected.dtype
        assert found.requires_grad == expected.requires_grad
        rough = expected.dtype in (torch.float16, torch.bfloat16)
        a, b = (t.detach().float() if rough else t.detach() for t in (found, expected))
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-2 if rough else 1e-5, atol=1e-5)
    else:
        assert found == expected or found != found


@pytest.mark.parametrize("sample", SAMPLES, ids=ids(SAMPLES))
def test_samples(sample, monkeypatch):
    # No sample uses tensors that are not arguments: spares looking for them, a hundredth of a
    # second each time.
    monkeypatch.setattr("lampion.compiler.trace.tracer.living_tensors", list)
    call = function(sample)

    def f(*args, **kwargs):
        return call(*args, **kwargs)

    c = torch.compile(f, backend="interpreter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args, kwargs, _ = arguments(sample, 0)
        c(*args, **kwargs)
        if c.eager:
            assert sample.name in READS_VALUES | WRITES_PRIVATELY
            return
        results, grads, ends = [], [], []
        for g in (c, f):
            args, kwargs, given = arguments(sample, 1)
            torch.manual_seed(2)
            out = g(*args, **kwargs)
            ends.append(given)
            results.append(out)
            live = [t for t in flat(out) if isinstance(t, Tensor) and t.requires_grad]
            wanted = [t for t in given if t.requires_grad]
            if live:
                ones = [torch.ones_like(t) for t in live]
                grads.append(torch.autograd.grad(live, wanted, ones, allow_unused=True))
    assert c.count == 1
    if sample.name not in UNDEFINED:
        agree(*results)
    agree(*ends)
    if grads:
        agree(*grads)


def test_the_text_of_a_graph():
    w = torch.ones(3)

    def f(x):
        y = x * 2
        y.add_(w)
        w.mul_(0.5)
        return y

    c = torch.compile(f, backend="interpreter")
    c(torch.ones(2, 3))
    (program,) = next(iter(c.programs.values()))
    text = str(program.captured.graph)
    assert text.splitlines()[0] == "f:"
    assert "argument %a0: f32[2, 3]" in text
    assert "= mul(%a0, %c0)" in text
    assert "write %s0 <- " in text
    assert "add_" not in text


def test_steps_know_their_lines():
    c = torch.compile(lambda x: x * 2, backend="interpreter")
    c(torch.ones(2))
    (program,) = next(iter(c.programs.values()))
    assert "test_trace.py:" in program.captured.graph.steps[0].line


def test_memory_of_a_trace_is_not_kept():
    """A tracer holds no array that the call makes."""
    from weakref import ref

    kept = []

    def f(x):
        y = x * 2
        kept.append(ref(y._data))
        return (y + 1).sum()

    tracer = Tracer()
    with torch.no_grad():
        with torch.core.graph.STATE.set(observers=(tracer,)):
            f(torch.ones(1000))
        assert kept[0]() is None
    assert [step.op.name for step in tracer.steps] == ["full", "mul", "add", "sum"]
