"""Matrix products: Lampion's compiled kernels beside NumPy (and PyTorch where it is installed).

    python benchmarks/gemm.py [--threads N] [--seconds S] [--json OUT]

Each round times, one after the other, every library and a loop of register-only fused multiply-
adds of the same length and on the same threads; the figure is the fastest round of each, so a busy
neighbour or a changed clock speed hits all alike. Prints GFLOP/s, and Lampion's share of what the
multiply-add loop reached.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import time
from collections.abc import Callable

import numpy as np

import lampion
from lampion.compiler.kernels import product
from lampion.compiler.kernels.gemm_pack import Shape
from lampion.compiler.native import pool, runtime
from lampion.compiler.native.emit import Module

SIZES = [
    (37, 53, 71), (64, 1000, 100), (128, 784, 100), (128, 128, 128), (256, 256, 256),
    (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (2048, 256, 1024),
    (2048, 256, 256), (64, 2304, 1024),
]  # fmt: skip
GAP = 0.0005  # seconds for the threads of the library before to fall asleep


def peak_loop(shape: Shape) -> Callable[[int, int], None]:
    """A function that does pieces of so many multiply-adds each, on the pool's threads."""
    module = Module()
    f = module.function("turns", work="ptr", thread="i64")
    sums = [
        [f.variable(shape.vector, i + j) for i in range(shape.rows)] for j in range(shape.vectors)
    ]
    x = f.splat(f.load(shape.type, f.at(f["work"], 256)), shape.lanes)  # 0, unknown to LLVM
    with f.forever() as done:
        piece = f.emit("i64", f"atomicrmw add {f['work']}, i64 1 monotonic")
        with f.when(piece >= f.load("i64", f["work"], 1), leave=done):
            pass
        with f.loop(0, f.load("i64", f["work"], 2)):
            for row in sums:
                for total in row:
                    total.set(f.fused(x, x, total.get()))
    result = f.splat(f.constant(shape.type, 0), shape.lanes)
    for row in sums:
        for total in row:
            result = result + total.get()
    f.store(result, f.at(f["work"], 128), align=shape.size)
    f.ret()
    code = runtime.load(module.text())
    address = ctypes.c_void_p
    parallel = pool.native().function("parallel", None, address, address, address)
    work = (ctypes.c_int64 * 64)()
    turns = code.address("turns")

    def run(pieces: int, length: int) -> None:
        work[0], work[1], work[2] = 0, pieces, length
        parallel(pool.pool().address, turns, ctypes.addressof(work))

    return run


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call, the better of a few in a row."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def contestants(size: tuple[int, int, int], threads: int) -> dict[str, Callable[[], object]]:
    """What is timed for one size, by name; every result is compared first."""
    m, k, n = size
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    w, x, c = np.ascontiguousarray(b.T), np.ascontiguousarray(a.T), np.empty((m, n), np.float32)
    kernel = product.kernel("float32").call
    loop, shape = peak_loop(product.kernel("float32").shape), product.kernel("float32").shape
    flops = 2 * shape.lanes * shape.rows * shape.vectors
    turns = max(1, 2 * m * k * n // flops // (8 * threads))
    calls: dict[str, Callable[[], object]] = {
        "peak": lambda: loop(8 * threads, turns),
        "lampion": lambda: kernel(a, b, c, None, False),
        "lampion, W.T": lambda: kernel(a, w.T, c, None, False),
        "lampion, X.T": lambda: kernel(x.T, b, c, None, False),
        "numpy": lambda: np.matmul(a, b, out=c),
        "numpy, W.T": lambda: np.matmul(a, w.T, out=c),
    }
    expected = a.astype(np.float64) @ b
    for name, call in calls.items():
        c[...] = np.nan
        call()
        assert name == "peak" or np.allclose(c, expected, atol=1e-2), name
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(threads)
        first, second, out = map(torch.from_numpy, (a, b, np.empty_like(c)))
        calls["torch"] = lambda: torch.mm(first, second, out=out)
    return calls


def measure(size: tuple[int, int, int], threads: int, seconds: float) -> dict[str, float]:
    """GFLOP/s of each contestant."""
    calls = contestants(size, threads)
    best = dict.fromkeys(calls, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            best[name] = min(best[name], timed(call))
            time.sleep(GAP)
    m, k, n = size
    return {name: 2 * m * k * n / best[name] / 1e9 for name in calls}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=lampion.get_num_threads())
    parser.add_argument("--seconds", type=float, default=3.0, help="for each size")
    parser.add_argument("--json", help="where to write the figures")
    parser.add_argument("--size", help="one size alone, as 64x1000x100")
    options = parser.parse_args()
    lampion.set_num_threads(options.threads)
    pool.pool().settle(options.threads)
    results = []
    chosen = [tuple(map(int, options.size.split("x")))] if options.size else SIZES
    for size in chosen:
        rates = measure(size, options.threads, options.seconds)
        row = {"size": "x".join(map(str, size)), "threads": options.threads, **rates}
        row["share of peak"] = rates["lampion"] / rates["peak"]
        results.append(row)
        if len(results) == 1:
            print("M x K x N".ljust(16), *(name.rjust(13) for name in [*rates, "share of peak"]))
        figures = [f"{rate:13.0f}" for rate in rates.values()]
        print(row["size"].ljust(16), *figures, f"{row['share of peak']:13.0%}", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
