"""Stages: every tile once, one stage after the other, on any number of threads; busy pools, forks,
tasks from several Python threads.
"""

import ctypes
import os
import struct
import threading

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

import lampion
from lampion.compiler.native import pool, runtime, stages
from lampion.compiler.native.emit import Module


@pytest.fixture(autouse=True)
def threads_restored():
    yield
    lampion.set_num_threads(os.cpu_count())


@pytest.fixture(scope="module")
def code():
    """`step`: y[i] = 3 y[i] + x[i] over a tile of y; `total`: s = the sum of y; `count`: an atomic
    counter per tile.
    """
    module = Module()
    f = module.function("step", job="ptr", tile="i64", workspace="ptr")
    x, y, n = f.load("ptr", f["job"]), f.load("ptr", f["job"], 1), f.load("i64", f["job"], 2)
    with f.loop(0, n) as i:
        at = f["tile"] * n + i
        f.store(f.load("i64", y, at) * 3 + f.load("i64", x, at), y, at)
    f.ret()
    f = module.function("total", job="ptr", tile="i64", workspace="ptr")
    y, s, n = f.load("ptr", f["job"]), f.load("ptr", f["job"], 1), f.load("i64", f["job"], 2)
    with f.loop(0, n) as i:
        f.store(f.load("i64", s) + f.load("i64", y, i), s)
    f.ret()
    f = module.function("count", job="ptr", tile="i64", workspace="ptr")
    place = f.at(f.load("ptr", f["job"]), f["tile"], "i64")
    f.emit("i64", f"atomicrmw add {place}, i64 1 seq_cst")
    f.store(f["tile"], f["workspace"], align=64)  # is there, and aligned
    f.store(f["tile"], f["workspace"], stages.SHARE // 8 - 1)
    f.ret()
    return runtime.load(module.text())


def step(code, n, tiles, x=0, y=1):
    return stages.Call(code.address("step"), struct.pack("<3q", 0, 0, n), tiles, ((0, x), (8, y)))


def total(code, n, y=1, s=2):
    return stages.Call(code.address("total"), struct.pack("<3q", 0, 0, n), 1, ((0, y), (8, s)))


def addresses(*arrays):
    return [array.ctypes.data for array in arrays]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_stages_run_in_order(code, threads):
    lampion.set_num_threads(threads)
    rng = np.random.default_rng(0)
    for tiles, size in ((1, 10), (7, 100), (64, 30), (3, 5000)):
        n = tiles * size
        x, y, s = rng.integers(0, 9, n), rng.integers(0, 9, n), np.zeros(1, np.int64)
        expected, sums = y.copy(), 0
        calls = []
        for tiling in (tiles, 1, 1, tiles, tiles, 1, tiles):
            calls += [step(code, n // tiling, tiling), total(code, n)]
            expected = 3 * expected + x
            sums += expected.sum()
        for _ in range(20):
            fresh = y.copy()
            s[0] = 0
            stages.run(calls, addresses(x, fresh, s))
            np.testing.assert_array_equal(fresh, expected)
            assert s[0] == sums


@pytest.mark.parametrize("threads", [1, 3])
def test_each_tile_runs_once(code, threads):
    lampion.set_num_threads(threads)
    for tiles in (0, 1, 2, 3, 1000):
        counts = np.zeros(max(tiles, 1), np.int64)
        call = stages.Call(code.address("count"), bytes(8), tiles, ((0, 0),))
        stages.run([call] * 5, addresses(counts))
        np.testing.assert_array_equal(counts, 5 if tiles else 0)


def test_a_taken_pool_leaves_the_caller_alone(code):
    x, y = np.ones(1000, np.int64), np.zeros(1000, np.int64)
    stages.settle()
    native, state = stages.native(), pool.pool().address
    enter = native.function("enter", ctypes.c_int64, ctypes.c_void_p)
    leave = native.function("leave", None, ctypes.c_void_p)
    assert enter(state)
    try:
        stages.run([step(code, 100, 10)] * 2, addresses(x, y))
    finally:
        leave(state)
    np.testing.assert_array_equal(y, 4)


def test_python_threads_run_programs_at_once(code):
    lampion.set_num_threads(2)
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 9, 4000), rng.integers(0, 9, 4000)
        expected = y
        for _ in range(4):
            expected = 3 * expected + x
        for _ in range(200):
            fresh = y.copy()
            stages.run([step(code, 500, 8)] * 4, addresses(x, fresh))
            if not (fresh == expected).all():
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_products_and_stages_take_turns(code):
    from lampion.compiler.kernels.product import gemm

    lampion.set_num_threads(2)
    a = np.random.default_rng(0).standard_normal((160, 160)).astype(np.float32)
    x, y = np.ones(8000, np.int64), np.zeros(8000, np.int64)
    expected = gemm(a, a)
    for _ in range(200):
        y[:] = 1
        stages.run([step(code, 1000, 8)] * 3, addresses(x, y))
        np.testing.assert_array_equal(y, 40)
        np.testing.assert_array_equal(gemm(a, a), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_have_workers_of_their_own(code):
    lampion.set_num_threads(2)
    x, y = np.ones(8000, np.int64), np.zeros(8000, np.int64)
    stages.run([step(code, 1000, 8)], addresses(x, y))
    child = os.fork()
    if child == 0:
        stages.run([step(code, 1000, 8)], addresses(x, y))
        good = (y == 4).all() and pool.pool().workers == 1
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    stages.run([step(code, 1000, 8)], addresses(x, y))
    np.testing.assert_array_equal(y, 4)


def test_layout_of_an_array():
    layout = stages.Layout.of(np.zeros((4, 6), np.float32)[::2, ::-1])
    assert layout == ((2, 6), (12, -1), "float32")
    with pytest.raises(ValueError, match="whole elements"):
        stages.Layout.of(np.zeros(3, [("a", "i1"), ("b", "i4")])["b"])
