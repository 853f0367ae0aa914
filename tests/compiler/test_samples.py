"""Every operator's samples, compiled against eager: values and gradients, by the native program and
by the interpreter that defines what kernels' code means.

A sample is traced on one set of values and run on another.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.lower.kernels import Generated, KernelList, Library
from lampion.compiler.lower.pipeline import lower
from lampion.compiler.native import runtime
from lampion.compiler.program import program
from lampion.compiler.trace.execute import Executable
from lampion.compiler.trace.graph import Graph
from lampion.core.tensor import Tensor
from lampion.utils._pytree import tree_leaves
from tests.compiler.lowering import run as run_kernels
from tests.samples.common import Sample
from tests.test_operators import SAMPLES, arrays, function, tensors

FIRST = list({s.name: s for s in SAMPLES if "empty" not in s.name}.values())  # any value
SMALL = 1500  # elements: the interpreter takes microseconds for each operation

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is missing")


def close(found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Equal types, shapes and, but for rounding, values."""
    assert found.dtype == expected.dtype, what
    assert found.shape == expected.shape, what
    if found.dtype.kind in "fc":
        rtol, atol = (2e-5, 2e-6) if found.dtype.itemsize >= 4 else (2e-2, 1e-3)
        np.testing.assert_allclose(found, expected, rtol, atol, err_msg=what)
    elif found.dtype.kind == "V":
        wide = (a.astype(np.float32) for a in (found, expected))
        np.testing.assert_allclose(*wide, 2e-2, 1e-3, err_msg=what)
    else:
        np.testing.assert_array_equal(found, expected, err_msg=what)


def is_interpretable(listed: KernelList) -> bool:
    """Whether the kernels are generated code, small enough, or host functions."""
    works = [k.work for k in listed.kernels]
    if any(isinstance(w, Library) for w in works):
        return False
    generated = [w for w in works if isinstance(w, Generated)]
    return bool(generated) and all(sum(b.size for b in w.operands) < 4 * SMALL for w in generated)


class Both:
    """The native program, whose results the interpreter of the IR has to confirm."""

    def __init__(self, graph: Graph) -> None:
        self.native: Executable = program.build(graph)
        self.listed = lower(graph)
        self.is_random = any(step.op.random for step in graph.steps)

    def run(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """The native results."""
        copies = [np.array(a, order="C") for a in inputs]
        outputs = self.native.run(inputs)
        if not self.is_random and is_interpretable(self.listed):
            given = [a for a, b in zip(copies, self.listed.inputs, strict=True) if b is not None]
            for mine, theirs in zip(run_kernels(self.listed, given), outputs, strict=True):
                close(mine, theirs, "interpreted against native")
        return outputs


def leaves_of(x: Any) -> list[Tensor]:
    """The tensors in a nested structure."""
    return [t for t in tree_leaves(x) if isinstance(t, Tensor)]


def arguments(sample: Sample, dtype: str, seed: int) -> list:
    """The sample's arguments; those that it differentiates with respect to require grad."""
    given = tensors(arrays(sample, dtype, seed)[0])
    for declared, made in zip(sample.inputs, given, strict=True):
        if not (sample.gradient and getattr(declared, "grad", True)):
            continue
        for t in leaves_of(made):
            t.requires_grad_(t.is_floating_point() or t.is_complex())
    return given


def gradients(made: Any, given: list) -> list[np.ndarray]:
    """The gradients of a sum of the results, each element with a weight of its own."""
    ends = [t for t in leaves_of(made) if t.requires_grad]
    starts = [t for t in leaves_of(tuple(given)) if t.requires_grad]
    if not ends:
        return []
    weights = [torch.linspace(0.5, 1.5, max(t.numel(), 1)).to(t.dtype) for t in ends]
    cotangents = [w[: t.numel()].reshape(t.shape) for w, t in zip(weights, ends, strict=True)]
    found = torch.autograd.grad(ends, starts, cotangents, allow_unused=True)
    return [np.zeros(0) if g is None else g.detach().numpy() for g in found]


@pytest.mark.parametrize("sample", FIRST, ids=[s.name for s in FIRST])
def test_compiled_as_eager(sample):
    dtype = "float32" if "float32" in sample.dtypes else sample.dtypes[0]
    options = tensors(arrays(sample, dtype)[1])

    def call(*given):
        return function(sample)(*given, **options)

    compiled = torch.compile(call, backend=Both)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the few that read values run eagerly
        compiled(*arguments(sample, dtype, 0))
    mine, theirs = (arguments(sample, dtype, 1) for _ in range(2))
    torch.manual_seed(1)
    found = compiled(*mine)
    torch.manual_seed(1)
    expected = call(*theirs)
    for a, b in zip(leaves_of(found), leaves_of(expected), strict=True):
        close(a.detach().numpy(), b.detach().numpy(), "values")
        assert a.requires_grad == b.requires_grad
    for a, b in zip(gradients(found, mine), gradients(expected, theirs), strict=True):
        close(a, b, "gradients")
