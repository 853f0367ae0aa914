"""Programs of random kernels against the same kernels in NumPy: memory that is shared and reused,
tiles, threads, host functions, states, outputs.
"""

import os

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

from hypothesis import given, settings, strategies as st

import lampion
from lampion.compiler import ir
from lampion.compiler.kernels import Buffer, Generated, Host, Kernel, KernelList
from lampion.compiler.program import Program

N = 96  # elements of most buffers


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory):
    """Objects of this file are kept nowhere else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAMPION_CACHE", str(tmp_path_factory.mktemp("objects")))
        yield


@pytest.fixture(autouse=True)
def threads_restored():
    yield
    lampion.set_num_threads(os.cpu_count())


def elementwise(operands, target, weights, tiles, in_place=True, name="sum"):
    """The kernel target[i] = sum of weight * operand[i] + 1, in integers."""
    listed = (*operands, target)
    signature = ["*i64"] * len(listed) + ["i64", "i64"]
    pointers = [ir.parameter(i, "*i64") for i in range(len(listed))]
    begin, end = (ir.parameter(len(listed) + i, "i64") for i in range(2))
    i = ir.loop_range(begin, end, 0)
    value = ir.constant(1, "i64")
    for pointer, weight in zip(pointers, weights, strict=False):
        value = value + pointer.load(i) * weight
    code = ir.program(name, signature, ir.loop(i, ir.store(pointers[-1], i, value)))
    pairs = tuple((operand, target) for operand in operands) if in_place else ()
    reads = tuple(dict.fromkeys(operands))
    return Kernel(name, ("add", "mul"), reads, (target,), Generated(code, listed, N, tiles), pairs)


def reversal(source, target, tiles):
    """The kernel target[i] = source[N - 1 - i], which cannot work in place."""
    x, y = ir.parameter(0, "*i64"), ir.parameter(1, "*i64")
    begin, end = ir.parameter(2, "i64"), ir.parameter(3, "i64")
    i = ir.loop_range(begin, end, 0)
    statement = ir.loop(i, ir.store(y, i, x.load(ir.constant(N - 1, "i64") - i)))
    code = ir.program("reversal", ["*i64", "*i64", "i64", "i64"], statement)
    return Kernel(
        "reversal", ("flip",), (source,), (target,), Generated(code, (source, target), N, tiles)
    )


def hosted(source, target):
    """A host function: target = source // 3."""
    return Kernel(
        "third", ("third",), (source,), (target,), Host(lambda x: x // 3, (source,), (target,))
    )


def buffer(role, number, data=None):
    return Buffer(role, (N,), np.dtype(np.int64), number, data)


def run_in_numpy(listed, inputs):
    """What the kernels of this file mean."""
    values = {b: a.copy() for b, a in zip(listed.inputs, inputs, strict=True)}

    def read(b):
        return b.data if b.role == "constant" else values[b]

    for kernel in listed.kernels:
        if kernel.name == "reversal":
            values[kernel.writes[0]] = read(kernel.reads[0])[::-1].copy()
        elif kernel.name == "third":
            values[kernel.writes[0]] = read(kernel.reads[0]) // 3
        else:
            *operands, target = kernel.work.operands
            weights = [int(w) for w in kernel.name.split("_")[1:]]
            values[target] = sum(
                (read(b) * w for b, w in zip(operands, weights, strict=True)), np.ones(N, np.int64)
            )
    outputs = [read(b).copy() for b in listed.outputs]
    new = [(state, read(value).copy()) for state, value in listed.writes]
    for state, value in new:
        values[state] = value
    return outputs, [values[b] for b in listed.inputs]


@st.composite
def kernel_lists(draw):
    """A random DAG: each kernel reads what is there, and something of it is returned or stored."""
    number = iter(range(1000)).__next__
    inputs = [buffer("argument", number()) for _ in range(draw(st.integers(1, 2)))]
    inputs += [buffer("state", number()) for _ in range(draw(st.integers(0, 3)))]
    values = list(inputs)
    if draw(st.booleans()):
        values.append(buffer("constant", number(), np.arange(N)))
    kernels = []
    for _ in range(draw(st.integers(1, 12))):
        target = buffer("temporary", number())
        kind = draw(st.sampled_from(["sum", "sum", "sum", "reversal", "third"]))
        tiles = draw(st.sampled_from([1, 1, 3, 7]))
        pick = st.sampled_from(values[-4:] + values[:1])
        if kind == "sum":
            operands = draw(st.lists(pick, min_size=1, max_size=3))
            weights = [draw(st.integers(-2, 2)) for _ in operands]
            name = "_".join(["sum", *map(str, weights)])
            kernels.append(elementwise(operands, target, weights, tiles, name=name))
        elif kind == "reversal":
            kernels.append(reversal(draw(pick), target, tiles))
        else:
            kernels.append(hosted(draw(pick), target))
        values.append(target)
    outputs = tuple(draw(st.lists(st.sampled_from(values), max_size=3)))
    states = [b for b in inputs if b.role == "state"]
    chosen = draw(st.lists(st.sampled_from(states), unique=True)) if states else []
    writes = tuple((state, draw(st.sampled_from(values))) for state in chosen)
    return KernelList("random", tuple(inputs), kernels, outputs, writes)


@settings(max_examples=60, deadline=None)
@given(kernel_lists(), st.sampled_from([1, 2, 3]))
def test_random_programs(listed, threads):
    lampion.set_num_threads(threads)
    rng = np.random.default_rng(len(listed.kernels))
    inputs = [rng.integers(-5, 5, N) for _ in listed.inputs]
    expected, states = run_in_numpy(listed, inputs)
    program = Program(listed)
    for _ in range(2):
        arrays = [a.copy() for a in inputs]
        found = program.run(arrays)
        for a, b in zip(found + arrays, expected + states, strict=True):
            np.testing.assert_array_equal(a, b)
