"""Explanations and profiles of programs."""

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

from lampion.compiler.lower.kernels import KernelList
from lampion.compiler.program.explain import explain, profile
from lampion.compiler.program.program import Program

from .test_program import buffer, elementwise, hosted


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Two stages, a host function, one more stage; a state is written."""
    x, state = buffer("argument", 0), buffer("state", 1)
    a, b, c, out = (buffer("temporary", i) for i in range(2, 6))
    kernels = [
        elementwise([x], a, [2], 1, name="twice"),
        elementwise([a, state], b, [1, 1], 4, name="plus_state"),
        hosted(b, c),
        elementwise([c], out, [1], 1, name="last"),
    ]
    listed = KernelList("step", (x, state), kernels, (out,), ((state, b),), ["step:", "  return"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMPION_CACHE", str(tmp_path_factory.mktemp("objects")))
        yield Program(listed)


def test_an_explanation_names_everything(program):
    explained = explain(program)
    text = str(explained)
    assert explained.graph == "step:\n  return"
    for kernel in program.listed.kernels:
        assert f"{kernel.name}: {' '.join(kernel.operators)}" in text
    assert "4 tiles" in text and "on the host" in text
    assert f"arena of {program.placement.size} bytes" in text
    # not before the host function has returned, which may raise
    assert "t3:int64[96] is copied to s1:int64[96]" in text
    assert "define internal void" in explained.llvm and "@stage_0" in explained.llvm


def test_a_profile_times_every_stage(program):
    inputs = [np.arange(96), np.arange(96)]
    found = profile(program, inputs, repeats=3)
    assert [row.tiles for row in found.rows] == [1, 4, 0, 1, 1]
    assert [row.name for row in found.rows] == ["twice", "plus_state", "third", "last", "copy"]
    assert all(0 < row.microseconds < 1e6 for row in found.rows)
    assert found.total == pytest.approx(sum(row.microseconds for row in found.rows))
    assert "5 stages" in str(found) and str(found).count("third") == 1
    np.testing.assert_array_equal(inputs[1], np.arange(96))  # states are copies
    assert profile(program, repeats=1).total > 0  # on made-up inputs


def test_a_profiled_program_runs_as_before(program):
    profile(program, repeats=2)
    state = np.zeros(96, np.int64)
    (out,) = program.run([np.arange(96), state])
    expected = 2 * np.arange(96) + 2
    np.testing.assert_array_equal(state, expected)
    np.testing.assert_array_equal(out, expected // 3 + 1)
