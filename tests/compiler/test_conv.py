"""Compiled convolutions against the NumPy ones in double precision, between canaries."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from lampion.compiler.kernels import conv, conv_arrays
from lampion.compiler.kernels.conv_plan import Problem, Sizes, forward_view, input_view, three
from lampion.compiler.kernels.conv_weight import choose_form
from lampion.compiler.native import runtime, stages
from lampion.compiler.native.arena import Arena
from lampion.compiler.native.emit import Module
from lampion.compiler.native.stages import Layout
from lampion.ops import conv_kernels
from lampion.ops.conv_kernels import Steps, output_size

KINDS = ("forward", "input", "weight")
CANARY, GUARD = 7.5, 128


class Case(NamedTuple):
    """A convolution of N images of C channels to O channels."""

    n: int
    c: int
    o: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def steps(self) -> Steps:
        return Steps(self.stride, self.padding, self.dilation, self.groups)

    def arrays(self, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images, weights, results; whole numbers, so that sums are exact in any order."""
        rng = np.random.default_rng(0)
        out = tuple(map(output_size, self.size, self.kernel, *self.steps[:3]))
        shapes = (
            (self.n, self.c, *self.size),
            (self.o, self.c // self.groups, *self.kernel),
            (self.n, self.o, *out),
        )
        x, w, y = (rng.integers(-4, 5, shape).astype(dtype) for shape in shapes)
        return x, w, y


CASES = [
    Case(2, 3, 5, (8, 9), (3, 3), (1, 1), (1, 1), (1, 1)),
    Case(2, 16, 33, (14, 14), (3, 3), (1, 1), (1, 1), (1, 1)),
    Case(3, 20, 40, (7, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    Case(2, 3, 64, (30, 30), (7, 7), (2, 2), (3, 3), (1, 1)),
    Case(2, 8, 16, (9, 9), (3, 3), (2, 2), (1, 1), (1, 1)),
    Case(2, 8, 16, (9, 9), (1, 1), (2, 2), (0, 0), (1, 1)),
    Case(2, 8, 17, (6, 6), (1, 1), (1, 1), (0, 0), (1, 1)),
    Case(2, 8, 12, (11, 10), (3, 2), (2, 1), (1, 0), (1, 2), 4),
    Case(1, 6, 6, (12, 12), (3, 3), (1, 1), (1, 1), (1, 1), 6),
    Case(2, 4, 6, (20,), (5,), (3,), (2,), (2,), 2),
    Case(1, 3, 4, (5, 6, 7), (2, 3, 2), (1, 2, 1), (1, 1, 0), (1, 1, 2)),
    Case(4, 2, 3, (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)),
    Case(2, 2, 3, (1, 1), (1, 1), (3, 3), (1, 1), (1, 1)),
    Case(2, 5, 40, (1, 1), (3, 3), (1, 1), (1, 1), (1, 1)),
    Case(3, 4, 4, (5, 5), (2, 2), (4, 4), (0, 0), (1, 1)),
    Case(1, 2, 2, (3, 40), (1, 20), (1, 3), (0, 7), (1, 2)),
    Case(1, 40, 4, (70, 70), (3, 3), (1, 1), (1, 1), (1, 1)),
    Case(1, 2, 3, (40000,), (3,), (1,), (1,), (1,)),
    Case(2, 20, 20, (9, 11), (3, 3), (1, 1), (1, 1), (1, 1), 20),
    Case(2, 16, 16, (30, 30), (3, 3), (2, 2), (1, 1), (1, 1), 16),
    Case(1, 40, 40, (9,), (5,), (1,), (2,), (1,), 40),
    Case(2, 6, 6, (5, 6, 7), (3, 1, 2), (1, 2, 2), (1, 0, 1), (2, 1, 1), 6),
    Case(1, 5, 5, (80, 90), (7, 7), (1, 1), (0, 0), (1, 1), 5),
]


def guarded(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """An array in the middle of memory that must not be written."""
    size = math.prod(shape)
    memory = np.full(size + 2 * GUARD, CANARY, dtype)
    return memory, memory[GUARD : GUARD + size].reshape(shape)


def run(case: Case, kind: str, dtype: str, level: str = "", bias: bool = False) -> np.ndarray:
    """The result of the compiled stages, after a look at the canaries."""
    x, w, y = case.arrays(dtype)
    layouts = [Layout.of(a) for a in (x, w, y)]
    target = runtime.level(level) if level else None
    calls, sizes = conv.conv_calls(kind, *layouts, case.steps, bias, False, target)
    number = KINDS.index(kind)
    inputs = [(x, w), (y, w), (x, y)][number]
    memory, result = guarded([y, x, w][number].shape, dtype)
    offsets = [bias_of(result, dtype)] if bias else []
    arenas = [Arena(size) for size in sizes]
    temporaries = [arena.address for arena in arenas]
    operands = [a.ctypes.data for a in (*inputs, *offsets, result)]
    stages.run(calls, operands + temporaries)
    assert (memory[:GUARD] == CANARY).all() and (memory[-GUARD:] == CANARY).all()
    return result


def bias_of(result: np.ndarray, dtype: str) -> np.ndarray:
    """A number per channel of the result."""
    return np.arange(result.shape[1]).astype(dtype)


def expected(case: Case, kind: str, bias: bool = False) -> np.ndarray:
    """The same by NumPy, in double precision."""
    x, w, y = case.arrays("float64")
    limit, conv_kernels.COMPILED_FROM = conv_kernels.COMPILED_FROM, 1 << 62
    try:
        if kind == "forward":
            return conv_kernels.conv(x, w, bias_of(y, "float64") if bias else None, case.steps)
        if kind == "input":
            b = bias_of(x, "float64") if bias else None
            return conv_kernels.conv_input(y, w, b, case.size, case.steps)
        return conv_kernels.conv_weight(x, y, case.kernel, case.steps)
    finally:
        conv_kernels.COMPILED_FROM = limit


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results(case: Case, kind: str) -> None:
    np.testing.assert_array_equal(run(case, kind, "float32"), expected(case, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", ["amx", "avx512", "avx2", "sse", "neon"])
def test_instruction_sets(level: str, kind: str) -> None:
    if not runtime.runs(level):
        pytest.skip(f"this machine has no {level}")
    for case in (CASES[0], CASES[7], CASES[18]):
        np.testing.assert_array_equal(run(case, kind, "float32", level), expected(case, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_double_precision(kind: str) -> None:
    for case in (CASES[1], CASES[4], CASES[10], CASES[18]):
        np.testing.assert_array_equal(run(case, kind, "float64"), expected(case, kind))


@pytest.mark.parametrize("kind", ["forward", "input"])
def test_bias(kind: str) -> None:
    for case in (CASES[1], CASES[5], CASES[7], CASES[18]):
        np.testing.assert_array_equal(
            run(case, kind, "float32", bias=True), expected(case, kind, True)
        )


def epilogue_module() -> Module:
    """`note(record, batch, row0, row1, col0, col1)` negates its part of a result of (2, rows,
    columns) whose address and sizes the record holds.
    """
    module = Module()
    f = module.function(
        "note", record="ptr", batch="i64", row0="i64", row1="i64", col0="i64", col1="i64"
    )
    y, rows, columns = f.load("ptr", f["record"]), *(f.load("i64", f["record"], i) for i in (1, 2))
    with f.loop(f["row0"], f["row1"]) as row:
        with f.loop(f["col0"], f["col1"]) as column:
            place = f.at(y, (f["batch"] * rows + row) * columns + column, "float")
            f.store(f.load("float", place) * -1.0, place)
    f.ret()
    return module


@pytest.mark.parametrize("kind", ["forward", "input"])
@pytest.mark.parametrize("case", [CASES[1], CASES[4], CASES[7], CASES[16], CASES[18]], ids=str)
def test_epilogue_sees_each_element_once(case: Case, kind: str) -> None:
    x, w, y = case.arrays("float32")
    calls, sizes = conv.conv_calls(
        kind, *(Layout.of(a) for a in (x, w, y)), case.steps, epilogue=True
    )
    source, result = (x, np.empty_like(y)) if kind == "forward" else (y, np.empty_like(x))
    record = np.array([result.ctypes.data, result.shape[1], math.prod(result.shape[2:])], np.int64)
    arenas = [Arena(size) for size in sizes]
    note = runtime.load(epilogue_module().text()).address("note")
    operands = [source.ctypes.data, w.ctypes.data, result.ctypes.data]
    stages.run(calls, [*operands, *(a.address for a in arenas), note, record.ctypes.data])
    np.testing.assert_array_equal(result, -expected(case, kind))


def test_refuses_what_does_not_fit() -> None:
    case = CASES[0]
    x, w, y = (Layout.of(a) for a in case.arrays("float32"))
    with pytest.raises(ValueError, match="belong together"):
        conv.conv_calls("forward", x, w, y._replace(dtype="float64"), case.steps)
    with pytest.raises(ValueError, match="elements"):
        empty = [layout._replace(shape=(0, *layout.shape[1:])) for layout in (x, y)]
        conv.conv_calls("forward", empty[0], w, empty[1], case.steps)
    with pytest.raises(ValueError, match="contiguous"):
        conv.conv_calls("forward", x._replace(strides=(1000, 100, 12, 1)), w, y, case.steps)


def test_same_bits_for_any_number_of_threads() -> None:
    import lampion

    case = Case(8, 16, 32, (20, 20), (3, 3), (1, 1), (1, 1), (1, 1))
    rng = np.random.default_rng(0)
    x, w, y = (rng.standard_normal(a.shape, np.float32) for a in case.arrays("float32"))
    threads = lampion.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            lampion.set_num_threads(n)
            found.append(
                (
                    conv_arrays.forward(x, w, None, (20, 20), case.steps),
                    conv_arrays.input_gradient(y, w, None, (20, 20), case.steps),
                    conv_arrays.weight_gradient(x, y, (3, 3), case.steps),
                )
            )
    finally:
        lampion.set_num_threads(threads)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert a.tobytes() == b.tobytes()


def test_views() -> None:
    """With strides, the gradient of the image has a phase per residue, which share the taps."""
    p = Problem(1, 1, 1, 1, three((9, 9), 1), (1, 3, 3), (1, 5, 5), (1, 2, 2), (0, 1, 1), (1, 1, 1))
    assert len(forward_view(p).phases) == 1
    phases = input_view(p).phases
    assert sorted(len(phase.taps) for phase in phases) == [1, 2, 2, 4]
    assert sum(math.prod(phase.counts) for phase in phases) == 81
    few = p._replace(channels=3, outputs=64)
    assert not choose_form(few, Sizes(16, 32, 4)).of_image  # vectors of the 64 channels
    many = p._replace(channels=64, outputs=64)
    assert choose_form(many, Sizes(16, 32, 4)).of_image
