"""Convolutions of float32 on matrix units: every layout, what is not finite, errors, bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

import lampion
from lampion.compiler.kernels import conv, conv_amx, conv_amx_weight, conv_arrays
from lampion.compiler.kernels.conv_plan import Problem, forward_view, input_view
from lampion.compiler.native import runtime, stages
from lampion.compiler.native.arena import Arena
from lampion.compiler.native.stages import Layout
from lampion.ops import conv_kernels

from .guarded import guarded
from .test_conv import CASES, KINDS, Case, epilogue_module, expected, run

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
    divide = conv_amx_weight.divide
    monkeypatch.setattr(conv_amx_weight, "worth", lambda p: divide(p, forward_view(p)))
    conv.conv_calls.cache_clear()
    yield
    conv.conv_calls.cache_clear()


def operands_of(kind: str, x: np.ndarray, w: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """The two operands, then the result."""
    return {"forward": (x, w, y), "input": (y, w, x), "weight": (x, y, w)}[kind]


def random(case: Case, seed: int) -> list[np.ndarray]:
    """Images, weights and gradients that are normal."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(a.shape, np.float32) for a in case.arrays("float32")]


def convolved(
    case: Case, kind: str, given: tuple[np.ndarray, ...], level: str = "amx", side: str = "end",
    noted: bool = False,
) -> np.ndarray:  # fmt: skip
    """The result of the stages on arrays, all of them beside closed pages; negated by the epilogue
    if `noted`.
    """
    arrays = case.arrays("float32")
    layouts = [Layout.of(a) for a in arrays]
    calls, sizes = conv.conv_calls(kind, *layouts, case.steps, False, noted, runtime.level(level))
    operands = [guarded(a.shape, np.float32, side) for a in operands_of(kind, *arrays)]
    for operand, values in zip(operands, given, strict=False):
        operand[...] = values
    result = operands[2]
    arenas = [Arena(size) for size in sizes]
    addresses = [a.ctypes.data for a in operands] + [a.address for a in arenas]
    if noted:
        record = np.array([result.ctypes.data, result.shape[1], math.prod(result.shape[2:])])
        addresses += [runtime.load(epilogue_module().text()).address("note"), record.ctypes.data]
    stages.run(calls, addresses)
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [c for c in CASES + MORE if c.groups in (1, 2, 4)], ids=str)
def test_any_layout(always, case, kind):
    for bias in (False,) if kind == "weight" else (False, True):
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
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", [LARGE, Case(4, 256, 128, (8, 8), (3, 3), ONE, ONE, ONE)], ids=str)
def test_errors_are_no_larger_than_of_vector_units(case, kind, numbers):
    rng = np.random.default_rng(1)
    given = list(operands_of(kind, *random(case, 1))[:2])
    if numbers == "positive":
        given = [np.abs(a) for a in given]
    if numbers == "wide":
        given = [a * np.float32(2.0) ** rng.integers(-12, 12, a.shape, np.int32) for a in given]
        given = [a.astype(np.float32) for a in given]
    exact = exactly(case, kind, *given)
    scale = exactly(case, kind, *(np.abs(a) for a in given))
    own, others = (
        np.abs(convolved(case, kind, tuple(given), level) - exact) / scale
        for level in ("amx", "avx512")
    )
    assert np.sqrt((own**2).mean()) <= 1.05 * np.sqrt((others**2).mean())
    assert own.max() <= 1.2 * others.max()


def exactly(case: Case, kind: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The result by NumPy in double precision."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    limit, conv_kernels.COMPILED_FROM = conv_kernels.COMPILED_FROM, 1 << 62
    try:
        if kind == "forward":
            return conv_kernels.conv(first, second, None, case.steps)
        if kind == "input":
            return conv_kernels.conv_input(first, second, None, case.size, case.steps)
        return conv_kernels.conv_weight(first, second, case.kernel, case.steps)
    finally:
        conv_kernels.COMPILED_FROM = limit


@pytest.mark.parametrize("side", ["begin", "end"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_beside_operands_is_touched(always, side, kind):
    for case in (CASES[1], CASES[3], CASES[7], CASES[10], *MORE):
        given = operands_of(kind, *case.arrays("float32"))[:2]
        found = convolved(case, kind, given, "amx", side)
        np.testing.assert_array_equal(found, expected(case, kind))


@pytest.mark.parametrize("value", [np.nan, np.inf, -3.4028235e38])
@pytest.mark.parametrize("spoiled", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_spoils_only_what_it_reaches(kind, spoiled, value):
    """As where there are no matrix units; and the epilogue sees each element once."""
    given = operands_of(kind, *random(LARGE, 3))[:2]
    given[spoiled][1, 3, 1, 2] = given[spoiled][3, 5, 0, 0] = value
    exact = convolved(LARGE, kind, given, "avx512")
    assert not np.isfinite(exact).all() or abs(value) < np.inf
    for noted in (False,) if kind == "weight" else (False, True):
        found = convolved(LARGE, kind, given, noted=noted) * (-1 if noted else 1)
        assert (np.isnan(found) == np.isnan(exact)).all()
        assert (np.isinf(found) == np.isinf(exact)).all()
        finite = np.isfinite(exact)
        np.testing.assert_allclose(found[finite], exact[finite], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [1, np.inf])
def test_same_bits_for_any_number_of_threads(value):
    x, w, y = random(LARGE, 4)
    x[2, 1, 5, 6] = y[1, 2, 3, 4] = value
    threads = lampion.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            lampion.set_num_threads(n)
            made = (
                conv_arrays.forward(x, w, None, (28, 28), LARGE.steps),
                conv_arrays.input_gradient(y, w, None, (28, 28), LARGE.steps),
                conv_arrays.weight_gradient(x, y, (3, 3), LARGE.steps),
            )
            found.append([a.tobytes() for a in made])
    finally:
        lampion.set_num_threads(threads)
    assert found[0] == found[1] == found[2]


def test_large_convolutions_use_matrix_units_and_small_ones_do_not():
    def chosen(channels, outputs, size):
        p = Problem(
            4, channels, outputs, 1, (1, size, size), (1, 3, 3), (1, size, size), (1, 1, 1),
            (0, 1, 1), (1, 1, 1),
        )  # fmt: skip
        views = forward_view(p), input_view(p)
        divisions = [conv_amx.worth(p, view) for view in views] + [conv_amx_weight.worth(p)]
        return [division is not None for division in divisions]

    assert chosen(64, 64, 56) == chosen(512, 512, 7) == [True, True, True]
    assert chosen(3, 64, 56) == chosen(64, 64, 2) == [False, False, False]


def test_positions_of_alternating_images_fill_tiles():
    """Sixteen images of 7 x 7 positions need no more than 49 tiles of 16 positions."""
    p = Problem(
        16, 32, 32, 1, (1, 7, 7), (1, 3, 3), (1, 7, 7), (1, 1, 1), (0, 1, 1), (1, 1, 1)
    )  # fmt: skip
    view = forward_view(p)
    assert len(conv_amx.Cells(view, 7, 16).tiles(view.phases[0])) == 49
    assert len(conv_amx.Cells(view, 7, 1).tiles(view.phases[0])) == 4
