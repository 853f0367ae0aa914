"""Gates: programs run by a built-in that checks what they rely on."""

import os
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

import lampion
from lampion.compiler.calls import objects
from lampion.compiler.compiled import gate as gates
from lampion.compiler.compiled.gate import Exactly, Gate, Given, Number, slot_word
from lampion.compiler.ir import node as ir
from lampion.compiler.lower.kernels import Buffer, Generated, Kernel, KernelList
from lampion.compiler.program.program import Program

if not objects.known_layout():
    pytest.skip("this interpreter lays objects out differently", allow_module_level=True)

N = 6


@pytest.fixture(autouse=True)
def threads_restored():
    yield
    lampion.set_num_threads(os.cpu_count())


def scaled_sum(tiles=1, extent=N):
    """state += argument * number; returns state - 1, all float32 but the number."""
    f32, shape = np.dtype(np.float32), (extent,)
    x, state = Buffer("argument", shape, f32, 0), Buffer("state", shape, f32, 1)
    number = Buffer("number", (), np.dtype(np.float64), 2)
    new, out = Buffer("temporary", shape, f32, 3), Buffer("output", shape, f32, 4)
    signature = ["*f32", "*f32", "*f64", "*f32", "*f32", "i64", "i64"]
    p = [ir.parameter(i, dtype) for i, dtype in enumerate(signature)]
    i = ir.loop_range(p[5], p[6], 0)
    zero = ir.constant(0, "i64")
    value = p[1].load(i) + p[0].load(i) * p[2].load(zero).cast("f32")
    body = ir.loop(i, ir.store(p[3], i, value), ir.store(p[4], i, value - 1.0))
    work = Generated(
        ir.program("update", signature, body), (x, state, number, new, out), extent, tiles
    )
    kernel = Kernel("update", (), (x, state, number), (new, out), work, ((state, new),))
    return Program(KernelList("update", (x, state, number), [kernel], (out,), ((state, new),)))


class Setting:
    """A program, a state, and a gate."""

    def __init__(self, arguments=None, words=(), **options):
        arguments = arguments or (Given(0, False), Number(2))
        self.program = scaled_sum(**options)
        self.state = lampion.zeros(self.program.inputs[0].shape)
        self.words = [slot_word(self.state, "_data"), *words]
        inputs = [None, self.state._data, np.float64(1.0)]
        self.gate = Gate(self.program, inputs, arguments, self.words, self.state)
        self.call = self.gate.call


def test_calls_run_the_program():
    s = Setting()
    x = lampion.arange(float(N))
    (out,) = s.call(x, 2.0)
    assert type(out) is lampion.Tensor and out.dtype == lampion.float32 and not out.requires_grad
    assert s.state.tolist() == [0, 2, 4, 6, 8, 10]
    assert out.tolist() == [-1, 1, 3, 5, 7, 9]
    (again,) = s.call(x, 1)
    assert again.tolist() == [-1, 2, 5, 8, 11, 14]
    assert out.tolist() == [-1, 1, 3, 5, 7, 9]
    out += 1  # is an ordinary tensor
    assert out.tolist() == s.state.sub(x).tolist()


def test_other_arguments_are_left_to_python():
    s = Setting()
    x = lampion.ones(N)
    base = lampion.ones(N + 1)
    strange = [
        (), (x,), (x, 1.0, 1.0), (x, "1"), (x, True), (x, 10**400), (1.0, x), (x._data, 1.0),
        (x.double(), 1.0), (lampion.ones(N, 1), 1.0), (lampion.ones(N - 1), 1.0), (x[0], 1.0),
        (lampion.ones(2 * N)[::2], 1.0), (lampion.ones(N, requires_grad=True), 1.0),
        (lampion.ones(N, requires_grad=True) * 2, 1.0), (s.state, 1.0),
    ]  # fmt: skip
    for arguments in strange:
        assert s.call(*arguments) is None
    assert s.state.tolist() == [0] * N
    assert s.call(base[1:], 1.0) is not None  # a contiguous view is as good
    assert s.call(lampion.nn.Parameter(x, requires_grad=False), 1.0) is not None
    with lampion.inference_mode():
        assert s.call(x, 1.0) is None
    assert s.state.tolist() == [2] * N


def test_any_gradient_and_exact_objects():
    marker = object()
    s = Setting((Given(0), Exactly(marker), Exactly(None)))
    s.gate.cell(2).value = 3.0
    x = lampion.ones(N, requires_grad=True) * 2
    assert s.call(x, None, marker) is None
    assert s.call(x, marker, None) is not None
    assert s.state.tolist() == [6] * N


def test_a_replaced_array_is_noticed():
    s = Setting()
    x = lampion.ones(N)
    assert s.call(x, 1.0) is not None
    old = s.state.detach()
    s.state.data = lampion.zeros(N)
    assert s.call(x, 1.0) is None
    s.gate.bind([None, s.state._data, 1.0], skip=[0, 2])
    s.gate.guard([slot_word(s.state, "_data")], s.state)
    assert s.call(x, 1.0) is not None
    assert old.tolist() == s.state.tolist() == [1] * N


@pytest.mark.skipif(not gates.dictionaries_have_versions(), reason="no versions of dictionaries")
def test_dictionaries_and_lists():
    options, items = {"lr": 0.1}, [1, object(), "x"]
    words = [gates.dict_word(options), *gates.list_words(items)]
    s = Setting(words=words)
    x = lampion.ones(N)
    assert s.call(x, 1.0) is not None
    options["lr"] = 0.2
    assert s.call(x, 1.0) is None
    s.gate.guard([gates.dict_word(options), *gates.list_words(items)])
    assert s.call(x, 1.0) is not None
    changes = (
        lambda: items.append(2), items.pop, items.pop, lambda: items.__setitem__(1, object()),
        lambda: items.extend(range(100)),
    )  # fmt: skip
    for change in changes:
        s.gate.guard(gates.list_words(items))
        assert s.call(x, 1.0) is not None
        change()
        assert s.call(x, 1.0) is None


def test_references():
    thing = object()
    count = sys.getrefcount(thing) - 1
    s = Setting(words=[gates.reference_word(thing, count)])
    x = lampion.ones(N)
    assert s.call(x, 1.0) is not None
    more = [thing]
    assert s.call(x, 1.0) is None
    more.clear()
    assert s.call(x, 1.0) is not None


def test_threads_take_the_slow_way_while_it_is_busy():
    lampion.set_num_threads(2)
    s = Setting(tiles=4, extent=1 << 16)
    x = lampion.ones(1 << 16)
    done = [0, 0]

    def work(number):
        for _ in range(300):
            done[number] += s.call(x, 1.0) is not None

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if s.call(x, 1.0) is None:  # the pool was settled for other threads
        s.program.run([x._data, np.zeros(1 << 16, np.float32), np.float64(1)])
        assert s.call(x, 1.0) is not None
    assert (s.state._data == s.state._data[0]).all()
    assert s.state._data[0] == sum(done) + 1


def test_a_new_number_of_threads_is_settled_by_the_slow_way():
    s = Setting()
    x = lampion.ones(N)
    assert s.call(x, 1.0) is not None
    lampion.set_num_threads(1)
    assert s.call(x, 1.0) is None
    s.program.run([x._data, np.zeros(N, np.float32), np.float64(1)])
    assert s.call(x, 1.0) is not None


def test_references_are_counted():
    s = Setting()
    x = lampion.ones(N)
    before = sys.getrefcount(None), sys.getrefcount(x), sys.getrefcount(x._data.dtype)
    for _ in range(1000):
        s.call(x, 1.0)
        s.call(x)
    after = sys.getrefcount(None), sys.getrefcount(x), sys.getrefcount(x._data.dtype)
    assert all(abs(a - b) < 50 for a, b in zip(before, after, strict=True))


def test_outputs_fill_slots():
    s = Setting()
    parameter = lampion.nn.Parameter(lampion.zeros(N))
    parameter.grad = old = lampion.ones(N)
    count = sys.getrefcount(old)
    parameter.note = "before"
    outcome = gates.Outcome((), stores=[(parameter, "_grad", 0), (parameter, "note", "after")])
    inputs = [None, s.state._data, np.float64(1.0)]
    gate = Gate(s.program, inputs, (Given(0), Number(2)), s.words, s.state, outcome)
    x = lampion.arange(float(N))
    assert gate.call(x, 1.0) == ()
    assert sys.getrefcount(old) == count - 1 and parameter.note == "after"
    assert parameter.grad.tolist() == [-1, 0, 1, 2, 3, 4]
    first = parameter.grad
    assert gate.call(x, 1.0) == ()
    assert parameter.grad is not first and sys.getrefcount(first) == 2
    assert gate.call(x, "1") is None
    assert parameter.grad.tolist() == [-1, 1, 3, 5, 7, 9]


def test_an_output_alone():
    s = Setting()
    inputs = [None, s.state._data, np.float64(1.0)]
    bare = gates.Outcome(bare=True)
    gate = Gate(s.program, inputs, (Given(0), Number(2)), s.words, s.state, bare)
    out = gate.call(lampion.ones(N), 3.0)
    references = sys.getrefcount(out)
    assert references == 2
    assert out.tolist() == [2] * N


def test_versions_are_counted():
    s = Setting()
    w = lampion.ones(N, requires_grad=True)
    (w * s.state).sum()  # the state is saved for the backward pass, and so has a storage
    s.state.mul_(1)
    kept = w * s.state
    assert s.state._storage is not None
    inputs = [None, s.state._data, np.float64(1.0)]
    outcome = gates.Outcome(writes=[s.state])
    gate = Gate(s.program, inputs, (Given(0), Number(2)), s.words, s.state, outcome)
    before = s.state._version
    for _ in range(300):  # past the small integers
        assert gate.call(lampion.ones(N), 1.0) is not None
    assert s.state._version == before + 300
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.sum().backward()
    s.state._storage = None
    assert gate.call(lampion.ones(N), 1.0) is None


def test_states_are_not_kept_alive():
    s = Setting()
    array = s.state._data
    before = sys.getrefcount(array)
    gate = Gate(s.program, [None, array, 1.0], (Given(0), Number(2)), s.words, s.state)
    assert gate.call(lampion.ones(N), 1.0) is not None
    assert sys.getrefcount(array) == before
