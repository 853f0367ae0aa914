"""Arrays that begin at a cache line: all of NumPy's ways to make, change and free them."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from lampion.compiler.native import alignment, runtime

pytestmark = pytest.mark.skipif(
    not runtime.available() or sys.platform == "win32", reason="needs llvmlite and POSIX"
)
SIZES = [1, 1000, alignment.LARGE - 1, alignment.LARGE, 100_000, 4 << 20, 40 << 20]


@pytest.fixture(autouse=True)
def aligned():
    alignment.align_arrays()


@pytest.mark.parametrize("size", SIZES)
def test_new_arrays(size):
    arrays = [make(size, np.uint8) for _ in range(3) for make in (np.empty, np.zeros, np.ones)]
    assert not arrays[1].any() and arrays[2].all()
    if size >= alignment.LARGE:
        assert all(a.ctypes.data % alignment.LINE == 0 for a in arrays)
    for a in arrays:
        a[...] = 7
    again = np.zeros(size, np.uint8)
    assert not again.any()


def test_zeros_in_memory_that_was_used():
    for _ in range(20):
        used = np.full(50_000, 9.0)
        del used
        assert not np.zeros(50_000).any()


def test_arrays_grow_and_shrink():
    for first, second in ((10, 100_000), (100_000, 10), (5000, 50_000), (50_000, 5000)):
        a = np.arange(first, dtype=np.int32)
        a.resize(second, refcheck=False)
        kept = min(first, second)
        assert np.array_equal(a[:kept], np.arange(kept)) and not a[kept:].any()


def test_copies_pickles_and_threads():
    a = np.random.default_rng(0).standard_normal((200, 300))
    assert np.array_equal(pickle.loads(pickle.dumps(a)), a)
    found = []
    worker = threading.Thread(target=lambda: found.append(a.T.copy() + 1))
    worker.start()
    worker.join()
    assert np.array_equal(found.pop(), a.T + 1)
    gc.collect()


def test_arrays_outlive_the_interpreter():
    program = (
        "import sys, numpy as np\n"
        "from lampion.compiler.native import alignment\n"
        "alignment.align_arrays()\n"
        "sys.kept = [np.ones(n) for n in (10, 10_000, 1_000_000)]\n"
        "np.kept = sys.kept[0].copy(), sys.kept[1] + 1\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
