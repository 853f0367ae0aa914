"""Programs of random kernels against the same kernels in NumPy: memory that is shared and reused,
tiles, threads, host functions, states, outputs.
"""

import os
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

from hypothesis import given, settings, strategies as st

import lampion
from lampion.compiler.ir import node as ir
from lampion.compiler.lower.kernels import (
    Buffer,
    Epilogue,
    Generated,
    Host,
    Kernel,
    KernelList,
    Library,
    Slice,
)
from lampion.compiler.native import runtime, stages
from lampion.compiler.native.emit import Module
from lampion.compiler.program.program import Program

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


# -- single features -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def templates():
    """`rows`: c[r] = 2 a[r] for a row of N numbers per tile, then the epilogue on that row."""
    module = Module()
    f = module.function("rows", job="ptr", tile="i64", workspace="ptr")
    a, c = (f.load("ptr", f["job"], i) for i in range(2))
    with f.loop(0, N) as i:
        at = f["tile"] * N + i
        f.store(f.load("i64", a, at) * 2, c, at)
    epilogue, job = (f.load("ptr", f["job"], i) for i in (2, 3))
    zero, all = f.constant("i64", 0), f.constant("i64", N)
    with f.when(f.convert("ptrtoint", epilogue, "i64").differs(0)):
        f.call("void", epilogue, job, zero, f["tile"], f["tile"] + 1, zero, all)
    f.ret()
    return runtime.load(module.text())


def rows_call(templates, rows, epilogue=False):
    pointers = ((0, 0), (8, 1)) + (((16, 2), (24, 3)) if epilogue else ())
    return stages.Call(templates.address("rows"), bytes(32), rows, pointers, "rows")


def bias_epilogue(out, bias):
    """out[r, c] += bias[c]."""
    p = [ir.parameter(i, "*i64") for i in range(2)]
    row0, row1, col0, col1 = (ir.parameter(i, "i64") for i in range(3, 7))
    r, c = ir.loop_range(row0, row1, 0), ir.loop_range(col0, col1, 1)
    at = r * N + c
    body = ir.loop(r, ir.loop(c, ir.store(p[0], at, p[0].load(at) + p[1].load(c))))
    return Epilogue(ir.program("bias", ["*i64"] * 2 + ["i64"] * 5, body), (out, bias))


@pytest.mark.parametrize("threads", [1, 2])
def test_epilogues_of_templates(templates, threads):
    lampion.set_num_threads(threads)
    rows, rng = 5, np.random.default_rng(0)
    a = Buffer("argument", (rows, N), np.dtype(np.int64), 0)
    bias, constant = buffer("argument", 1), buffer("constant", 2, np.arange(N))
    middle, out = (Buffer("temporary", (rows, N), np.dtype(np.int64), i) for i in (3, 4))
    kernels = []
    for source, target, added in ((a, middle, bias), (middle, out, constant)):
        work = Library(
            (rows_call(templates, rows, True),), (source, target), bias_epilogue(target, added)
        )
        kernels.append(Kernel("rows", ("linear",), (source, added), (target,), work))
    program = Program(KernelList("rows", (a, bias), kernels, (out,)))
    arrays = [rng.integers(0, 9, (rows, N)), rng.integers(0, 9, N)]
    for _ in range(3):
        (found,) = program.run(arrays)
        np.testing.assert_array_equal(found, 4 * arrays[0] + 2 * arrays[1] + np.arange(N))
    assert len(program.assembly.epilogues) == 1  # both are the same code


def test_parts_of_buffers(templates):
    x = Buffer("argument", (3, N), np.dtype(np.int64), 0)
    out = Buffer("temporary", (3, N), np.dtype(np.int64), 1)
    row = 8 * N
    kernels = [
        Kernel(
            "copy", (), (x,), (out,),
            Library((rows_call(templates, count),), (Slice(x, row * i), Slice(out, row * j))),
        )
        for i, j, count in ((1, 0, 2), (0, 2, 1))
    ]  # fmt: skip
    program = Program(KernelList("roll", (x,), kernels, (out,)))
    array = np.arange(3 * N).reshape(3, N)
    np.testing.assert_array_equal(program.run([array])[0], 2 * np.roll(array, -1, 0))


def accumulation():
    """state += x; returns 2 state (new)."""
    x, state, new, out = (buffer(r, i) for i, r in enumerate(("argument", "state", "temporary",
                                                               "output")))  # fmt: skip
    kernels = [
        elementwise([state, x], new, [1, 1], 3),
        elementwise([new], out, [2], 1),
    ]
    return Program(KernelList("accumulate", (x, state), kernels, (out,), ((state, new),)))


def test_states_in_any_layout():
    program = accumulation()
    assert not program.placement.copies  # it is written in place
    x = np.arange(N)
    wide = np.zeros(2 * N, np.int64)
    (out,) = program.run([x[::-1], wide[::2]])
    np.testing.assert_array_equal(wide[::2], x[::-1] + 1)
    np.testing.assert_array_equal(wide[1::2], 0)
    np.testing.assert_array_equal(out, 2 * (x[::-1] + 1) + 1)


def test_arguments_may_be_the_memory_that_is_written():
    program = accumulation()
    for view in (lambda m: m[:N], lambda m: m[5 : N + 5], lambda m: m[N - 1 :: -1]):
        memory = np.arange(2 * N)
        state, x = memory[:N], view(memory)
        expected = state + x + 1
        for _ in range(2):  # the state is known at the second call
            (out,) = program.run([x, state])
            np.testing.assert_array_equal(state, expected)
            np.testing.assert_array_equal(out, 2 * expected + 1)
            expected = state + x + 1
        other = np.zeros(N, np.int64)
        program.run([x, other])
        np.testing.assert_array_equal(other, x + 1)


def test_wrong_inputs_are_named():
    program = accumulation()
    good = np.zeros(N, np.int64)
    with pytest.raises(TypeError, match=r"argument 0: int64\[96\], got an array of float64"):
        program.run([good.astype(float), good])
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        program.run([good, good[:3]])
    with pytest.raises(ValueError):
        program.run([good])
    assert program.run([good, good.copy()])[0][0] == 3


def test_outputs_are_new_arrays():
    program = accumulation()
    state = np.zeros(N, np.int64)
    first = program.run([np.zeros(N, np.int64), state])[0]
    kept = first.copy()
    second = program.run([np.ones(N, np.int64), state])[0]
    np.testing.assert_array_equal(first, kept)
    assert not np.shares_memory(first, second)


def test_nothing_around_the_arena_and_the_arrays_is_written(monkeypatch):
    listed = KernelList("chain", (), [], ())
    x = buffer("argument", 0)
    values = [x, *(buffer("temporary", i) for i in range(1, 30))]
    listed.inputs, listed.outputs = (x,), (values[-1],)
    for source, target in zip(values[:-1], values[1:], strict=True):
        listed.kernels.append(reversal(source, target, 3))
    program = Program(listed)
    instance = program.idle[0]
    arena = instance.arena
    assert arena.size == 2 * N * 8
    arena.memory[...] = 0x5A
    room = np.full(3 * N, -7)
    room[N : 2 * N] = np.arange(N)
    (out,) = program.run([room[N : 2 * N]])
    np.testing.assert_array_equal(out, np.arange(N)[::-1])
    assert (room[:N] == -7).all() and (room[2 * N :] == -7).all()
    start = arena.address - arena.memory.ctypes.data
    assert (arena.memory[:start] == 0x5A).all() and (
        arena.memory[start + arena.size :] == 0x5A
    ).all()


def test_a_program_may_run_inside_itself():
    x, middle, out = (buffer(r, i) for i, r in enumerate(("argument", "temporary", "temporary")))
    depth = 0

    def inner(array):
        nonlocal depth
        depth += 1
        return program.run([array])[0] if depth < 4 else array

    kernels = [
        elementwise([x], middle, [2], 3),
        Kernel("inner", (), (middle,), (out,), Host(inner, (middle,), (out,))),
    ]
    program = Program(KernelList("inside", (x,), kernels, (out,)))
    np.testing.assert_array_equal(program.run([np.arange(N)])[0], 16 * np.arange(N) + 15)
    assert len(program.idle) == 4


def test_threads_run_one_program_at_once():
    lampion.set_num_threads(2)
    x, middle, out = (buffer(r, i) for i, r in enumerate(("argument", "temporary", "temporary")))
    kernels = [elementwise([x], middle, [2], 4), reversal(middle, out, 4)]
    program = Program(KernelList("shared", (x,), kernels, (out,)))
    wrong = []

    def work(seed):
        array = np.arange(N) * seed
        for _ in range(300):
            (found,) = program.run([array])
            if not (found == (2 * array + 1)[::-1]).all():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_small_temporaries_stay_off_the_arena():
    values = [buffer("argument", 0), *(buffer("temporary", i) for i in range(1, 9))]
    kernels = [elementwise([a], b, [1], 1) for a, b in zip(values, values[1:], strict=False)]
    program = Program(KernelList("chain", (values[0],), kernels, (values[-1],)))
    assert len(program.tasks) == 1 and len(program.assembly.kernels) <= 2
    assert len(program.tasks[0].pointers) == 2  # the argument and the output
    np.testing.assert_array_equal(program.run([np.zeros(N, np.int64)])[0], 8)


def test_an_object_is_built_once(tmp_path, monkeypatch):
    monkeypatch.setenv("LAMPION_CACHE", str(tmp_path))
    accumulation()
    monkeypatch.setattr(runtime, "build", None)  # would fail
    accumulation()
    assert len(list(tmp_path.iterdir())) == 1


def test_programs_do_not_keep_what_they_are_given():
    program = accumulation()
    x, state = np.zeros(N, np.int64), np.zeros(N, np.int64)
    before = sys.getrefcount(x), sys.getrefcount(state)
    program.run([x, state])
    assert (sys.getrefcount(x), sys.getrefcount(state)) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_run_programs():
    lampion.set_num_threads(2)
    program = accumulation()
    state, x = np.zeros(N, np.int64), np.arange(N)
    program.run([x, state])
    child = os.fork()
    if child == 0:
        program.run([x, state])
        os._exit(0 if (state == 2 * (x + 1)).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(state, x + 1)  # the child wrote to its own memory


def test_an_interrupt_comes_after_the_call():
    x, out = buffer("argument", 0), buffer("temporary", 1)
    calls = []

    def interrupted(array):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return array + 1

    kernels = [
        elementwise([x], out, [2], 3),
        Kernel("host", (), (out,), (out2 := buffer("temporary", 2),),
               Host(interrupted, (out,), (out2,))),
    ]  # fmt: skip
    program = Program(KernelList("interrupted", (x,), kernels, (out2,)))
    with pytest.raises(KeyboardInterrupt):
        program.run([np.arange(N)])
    np.testing.assert_array_equal(program.run([np.arange(N)])[0], 2 * np.arange(N) + 2)
    assert len(program.idle) == 1
