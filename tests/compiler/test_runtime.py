"""The runtime: code in memory and on disk, worker threads, forks, interrupts, built-ins made at
run time.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

import lampion
from lampion.compiler.kernels.product import gemm
from lampion.compiler.native import cache, entry, pool, runtime
from lampion.compiler.native.emit import Module


def triangle(step=1):
    """The IR of a function that adds up 0, step, 2 step, ... below n."""
    module = Module()
    f = module.function("triangle", "i64", n="i64")
    total = f.variable("i64", 0)
    with f.loop(0, f["n"], step) as i:
        total.set(total.get() + i)
    f.ret(total.get())
    return module.text()


def call(code, n):
    return code.function("triangle", ctypes.c_int64, ctypes.c_int64)(n)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAMPION_CACHE", str(tmp_path))
    return tmp_path


def run(program, **options):
    """Runs a program in a new interpreter; its output."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_leaves_llvmlite_alone():
    assert run("import sys, lampion; print('llvmlite' in sys.modules)") == "False"


def test_code_runs_and_is_found_again(folder, monkeypatch):
    assert call(runtime.load(triangle()), 10) == 45
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(runtime, "build", lambda *_: pytest.fail("was built again"))
    assert call(runtime.load(triangle()), 10) == 45


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_damaged_object_is_built_again(folder, damage):
    runtime.load(triangle())
    (path,) = folder.iterdir()
    good = path.read_bytes()
    bad = {
        "cut": good[:-7],
        "flipped": good[:200] + bytes([good[200] ^ 1]) + good[201:],
        "empty": b"",
        "other": b"something else",
    }[damage]
    path.write_bytes(bad)
    assert call(runtime.load(triangle()), 10) == 45
    assert cache.read(path) == good[len(cache.MAGIC) + 32 :]


def test_folder_stays_small(folder, monkeypatch):
    monkeypatch.setattr(cache, "LIMIT", 3000)
    for step in range(1, 9):
        cache.fetch(f"object{step}", lambda: b"x" * 900)
        os.utime(folder / f"object{step}", (step, step))
    left = sorted(p.name for p in folder.iterdir())
    assert left == ["object6", "object7", "object8"]


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LAMPION_CACHE", str(tmp_path / "file" / "cache"))
    assert call(runtime.load(triangle()), 4) == 6


def test_several_processes_share_a_folder(folder):
    program = (
        "from lampion.compiler.kernels.product import gemm; import numpy as np;"
        "print(gemm(np.ones((5, 6), 'f'), np.ones((6, 7), 'f')).sum())"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [p.communicate(timeout=120)[0].strip() for p in started] == ["210.0"] * 3
    assert all(cache.read(path) for path in folder.iterdir())


def test_unknown_names_raise():
    with pytest.raises(KeyError):
        runtime.load(triangle()).address("square")


def test_bad_text_raises():
    with pytest.raises(RuntimeError):
        runtime.load("define i64 @f() { ret i64 %missing }")


def test_layout_check_sees_differences():
    assert entry.readable()
    assert entry.agrees(np.ones((2, 3)))
    assert not entry.agrees(np.ones((2, 3)).view(type("Other", (np.ndarray,), {})))


def test_without_readable_objects_python_is_the_entry(monkeypatch):
    monkeypatch.setattr(entry, "readable", lambda: False)

    def general(*arguments):
        return arguments

    assert entry.builtin(None, "anything", general) is general


def large():
    a = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    return a, gemm(a, a)


def test_set_num_threads():
    before = lampion.get_num_threads()
    try:
        for threads in (1, 2, 3):
            lampion.set_num_threads(threads)
            large()
            limit = ctypes.c_int64.from_address(pool.pool().address + pool.FIELDS["limit"]).value
            assert limit == threads
    finally:
        lampion.set_num_threads(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_computes():
    program = """if True:
        import os, numpy as np
        from lampion.compiler.native import pool
        from lampion.compiler.kernels.product import gemm
        a = np.random.default_rng(0).standard_normal((300, 300)).astype("f")
        c = gemm(a, a)
        pool.pool().settle(2)
        for _ in range(5):
            child = os.fork()
            if child == 0:
                same = all((gemm(a, a) == c).all() for _ in range(20))
                os._exit(0 if same else 3)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert (gemm(a, a) == c).all()
        print("done")
    """
    assert run(program) == "done"


def test_idle_workers_sleep():
    large()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.05


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_interrupt_is_raised_after_the_call():
    a = np.ones((1500, 1500), np.float32)
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        for _ in range(1000):
            gemm(a, a)
    assert (gemm(a[:2], a) == 1500).all()


def test_tight_arguments_do_not_leak():
    a = np.ones((4, 4), np.float32)
    out = np.empty((4, 4), np.float32)
    before = sys.getrefcount(out)
    for _ in range(100):
        gemm(a, a, out)
    assert sys.getrefcount(out) == before
