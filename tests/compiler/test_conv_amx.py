"""Convolutions of float32 on matrix units: every layout, what is not finite, errors, bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

import lampion
from lampion.compiler.kernels import conv, conv_amx, conv_arrays
from lampion.compiler.kernels.conv_plan import Problem, forward_view, input_view
from lampion.compiler.native import runtime, stages
from lampion.compiler.native.arena import Arena
from lampion.compiler.native.stages import Layout
from lampion.ops import conv_kernels

from .guarded import guarded
from .test_conv import CASES, Case, epilogue_module, expected, run

pytestmark = pytest.mark.skipif(not runtime.runs("amx"), reason="this machine has no matrix units")

ONE = (1, 1)
MORE = [
    Case(5, 40, 70, (13, 17), (3, 3), ONE, ONE, ONE),
    Case(3, 70, 40, (14, 15), (3, 3), (2, 2), ONE, ONE),
    Case(17, 64, 32, (7, 7), (3, 3), ONE, ONE, ONE),
    Case(2, 64, 64, (60, 50), (3, 3), ONE, ONE, ONE),
    Case(3, 64, 96, (20, 20), ONE, (2, 2), (0, 0), ONE),
    Case(4, 80, 64, (20, 23), (3, 2), (2, 3), (1, 0), (2, 2), 2),
    Case(2, 40, 33, (5, 6, 7), (2, 3, 2), (1, 2, 1), (1, 1, 0), (1, 1, 2)),
]
LARGE = Case(4, 64, 64, (28, 28), (3, 3), ONE, ONE, ONE)


@pytest.fixture
def always(monkeypatch):
    """Matrix units for convolutions of any size."""
    monkeypatch.setattr(conv_amx, "worth", conv_amx.divide)
    conv.conv_calls.cache_clear()
    yield
    conv.conv_calls.cache_clear()


def convolved(
    case: Case, kind: str, first: np.ndarray, w: np.ndarray, level: str = "amx", side: str = "end",
    noted: bool = False,
) -> np.ndarray:  # fmt: skip
    """The result of the stages on arrays, all of them beside closed pages; negated by the epilogue
    if `noted`.
    """
    arrays = case.arrays("float32")
    layouts = [Layout.of(a) for a in arrays]
    target = runtime.level(level)
    calls, sizes = conv.conv_calls(kind, *layouts, case.steps, False, noted, target)
    result = guarded(arrays[2 if kind == "forward" else 0].shape, np.float32, side)
    operands = [guarded(a.shape, np.float32, side) for a in (first, w)]
    for operand, given in zip(operands, (first, w), strict=True):
        operand[...] = given
    arenas = [Arena(size) for size in sizes]
    addresses = [a.ctypes.data for a in (*operands, result)] + [a.address for a in arenas]
    if noted:
        record = np.array([result.ctypes.data, result.shape[1], math.prod(result.shape[2:])])
        addresses += [runtime.load(epilogue_module().text()).address("note"), record.ctypes.data]
    stages.run(calls, addresses)
    return result


@pytest.mark.parametrize("kind", ["forward", "input"])
@pytest.mark.parametrize("case", [c for c in CASES + MORE if c.groups in (1, 2, 4)], ids=str)
def test_any_layout(always, case, kind):
    for bias in (False, True):
        found = run(case, kind, "float32", "amx", bias)
        np.testing.assert_array_equal(found, expected(case, kind, bias))


@pytest.mark.parametrize("kind", ["forward", "input"])
@pytest.mark.parametrize("room", [1 << 17, 1 << 18])
def test_channels_in_rounds(always, monkeypatch, kind, room):
    """Cells of some channels at a time, where they do not fit the room together."""
    monkeypatch.setattr(conv_amx, "ROOM", room)
    for case in (Case(3, 130, 100, (9, 9), (3, 3), ONE, ONE, ONE), MORE[1], MORE[4]):
        np.testing.assert_array_equal(run(case, kind, "float32", "amx"), expected(case, kind))


@pytest.mark.parametrize("numbers", ["normal", "positive", "wide"])
@pytest.mark.parametrize("kind", ["forward", "input"])
def test_errors_are_no_larger_than_of_vector_units(kind, numbers):
    rng = np.random.default_rng(1)
    for case in (LARGE, Case(2, 256, 128, (8, 8), (3, 3), ONE, ONE, ONE)):
        x, w, y = (rng.standard_normal(a.shape) for a in case.arrays("float64"))
        first = (x if kind == "forward" else y).astype(np.float32)
        w = w.astype(np.float32)
        if numbers == "positive":
            first, w = np.abs(first), np.abs(w)
        if numbers == "wide":
            first = first * np.float32(2.0) ** rng.integers(-12, 12, first.shape)
        first = first.astype(np.float32)
        exact, scale = (
            exactly(case, kind, a.astype(np.float64), b.astype(np.float64))
            for a, b in ((first, w), (np.abs(first), np.abs(w)))
        )
        own, others = (
            np.abs(convolved(case, kind, first, w, level) - exact) / scale
            for level in ("amx", "avx512")
        )
        assert np.sqrt((own**2).mean()) <= 1.05 * np.sqrt((others**2).mean())
        assert own.max() <= 1.2 * others.max()


def exactly(case: Case, kind: str, first: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The result by NumPy in double precision."""
    limit, conv_kernels.COMPILED_FROM = conv_kernels.COMPILED_FROM, 1 << 62
    try:
        if kind == "forward":
            return conv_kernels.conv(first, w, None, case.steps)
        return conv_kernels.conv_input(first, w, None, case.size, case.steps)
    finally:
        conv_kernels.COMPILED_FROM = limit


@pytest.mark.parametrize("side", ["begin", "end"])
@pytest.mark.parametrize("kind", ["forward", "input"])
def test_nothing_beside_operands_is_touched(always, side, kind):
    for case in (CASES[1], CASES[3], CASES[7], CASES[10], *MORE):
        x, w, y = case.arrays("float32")
        found = convolved(case, kind, x if kind == "forward" else y, w, "amx", side)
        np.testing.assert_array_equal(found, expected(case, kind))


@pytest.mark.parametrize("value", [np.nan, np.inf, -3.4028235e38])
@pytest.mark.parametrize("where", ["image", "weight"])
@pytest.mark.parametrize("kind", ["forward", "input"])
def test_what_is_not_finite_spoils_only_what_it_reaches(kind, where, value):
    """As where there are no matrix units; and the epilogue sees each element once."""
    rng = np.random.default_rng(3)
    x, w, y = (rng.standard_normal(a.shape, np.float32) for a in LARGE.arrays("float32"))
    first = x if kind == "forward" else y
    if where == "image":
        first[1, 3, 10, 11] = first[3, 5, 0, 0] = value
    else:
        w[7, 9, 1, 2] = value
    exact = convolved(LARGE, kind, first, w, "avx512")
    assert not np.isfinite(exact).all() or abs(value) < np.inf
    for noted in (False, True):
        found = convolved(LARGE, kind, first, w, noted=noted) * (-1 if noted else 1)
        assert (np.isnan(found) == np.isnan(exact)).all()
        assert (np.isinf(found) == np.isinf(exact)).all()
        finite = np.isfinite(exact)
        np.testing.assert_allclose(found[finite], exact[finite], rtol=1e-4, atol=1e-4)


def test_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(4)
    arrays = [rng.standard_normal(a.shape, np.float32) for a in LARGE.arrays("float32")]
    arrays[0][2, 1, 5, 6] = np.inf
    threads = lampion.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            lampion.set_num_threads(n)
            x, w, y = arrays
            one = conv_arrays.forward(x, w, None, (28, 28), LARGE.steps)
            found.append(one.tobytes())
            found.append(conv_arrays.input_gradient(y, w, None, (28, 28), LARGE.steps).tobytes())
    finally:
        lampion.set_num_threads(threads)
    assert len(set(found[::2])) == len(set(found[1::2])) == 1


def test_large_convolutions_use_matrix_units_and_small_ones_do_not():
    def chosen(channels, outputs, size):
        p = Problem(
            4, channels, outputs, 1, (1, size, size), (1, 3, 3), (1, size, size), (1, 1, 1),
            (0, 1, 1), (1, 1, 1),
        )  # fmt: skip
        return [conv_amx.worth(p, view(p)) is not None for view in (forward_view, input_view)]

    assert chosen(64, 64, 56) == chosen(512, 512, 7) == [True, True]
    assert chosen(3, 64, 56) == chosen(64, 64, 2) == [False, False]


def test_positions_of_alternating_images_fill_tiles():
    """Sixteen images of 7 x 7 positions need no more than 49 tiles of 16 positions."""
    p = Problem(
        16, 32, 32, 1, (1, 7, 7), (1, 3, 3), (1, 7, 7), (1, 1, 1), (0, 1, 1), (1, 1, 1)
    )  # fmt: skip
    view = forward_view(p)
    assert len(conv_amx.Cells(view, 7, 16).tiles(view.phases[0])) == 49
    assert len(conv_amx.Cells(view, 7, 1).tiles(view.phases[0])) == 4
