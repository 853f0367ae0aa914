"""Every operator through a graph file: traced, saved, loaded and run on other values."""

import io

import numpy as np
import pytest

from lampion import jit
from lampion.core.tensor import Tensor
from lampion.utils._pytree import tree_leaves
from tests.test_operators import SAMPLES, arrays, function, tensors

FIRST = list({s.name: s for s in SAMPLES if not s.name.startswith("empty")}.values())  # any value


@pytest.mark.parametrize("sample", FIRST, ids=[s.name for s in FIRST])
def test_sample(sample):
    dtype = "float32" if "float32" in sample.dtypes else sample.dtypes[0]
    args, kwargs = arrays(sample, dtype)
    inputs, options = tensors(args), tensors(kwargs)

    def call(*given):
        return function(sample)(*given, **options)

    try:
        traced = jit.trace(call, inputs, check_trace=False)
    except RuntimeError as error:
        if "[jit.trace]" in str(error):
            pytest.skip(str(error)[:120])
        raise
    file = io.BytesIO()
    try:
        jit.save(traced, file)
    except TypeError as error:
        if "safetensors knows no" in str(error):
            pytest.skip(str(error))
        raise
    loaded = jit.load(io.BytesIO(file.getvalue()))
    if any(step.op.random for step in loaded.graph.steps):
        return
    again, _ = arrays(sample, dtype, seed=1)
    flat = [t for t in tree_leaves(tuple(tensors(again))) if isinstance(t, Tensor)]
    found = tree_leaves(loaded(*flat))
    expected = tree_leaves(call(*tensors(again)))
    for mine, theirs in zip(found, expected, strict=True):
        if isinstance(theirs, Tensor):
            assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
            wide = np.complex128 if theirs.is_complex() else np.float64
            mine, theirs = (t.detach().numpy().astype(wide) for t in (mine, theirs))
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
