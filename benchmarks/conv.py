"""Convolutions: Lampion's compiled kernels beside PyTorch (where it is installed).

    python benchmarks/conv.py [--threads N] [--seconds S] [--only REGEX] [--json OUT]

Shapes are ResNet-18's at batch 16 and those of small networks; each forward, gradient of the image
and gradient of the weight. Rounds time every library and a loop of register-only fused multiply-
adds of the same length one after the other; the figure is the fastest round of each. With one
thread, processor time is measured, which a busy neighbour hardly changes. Prints milliseconds,
GFLOP/s, the share of what the multiply-add loop reached, and PyTorch's time over Lampion's; and at
the end ResNet-18's sum, each shape as often as it occurs there.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from gemm import GAP, peak_loop

import lampion
from lampion.compiler.kernels import conv_arrays, product
from lampion.compiler.native import pool
from lampion.ops.conv_kernels import Steps, output_size

KINDS = ("forward", "input", "weight")


class Shape(NamedTuple):
    """Square images and kernels; `times`: how often ResNet-18 has it."""

    n: int
    c: int
    o: int
    size: int
    kernel: int
    stride: int
    padding: int
    times: int = 0


SHAPES = {
    "stem": Shape(16, 3, 64, 224, 7, 2, 3, 1),
    "56": Shape(16, 64, 64, 56, 3, 1, 1, 4),
    "28, stride 2": Shape(16, 64, 128, 56, 3, 2, 1, 1),
    "28, 1x1": Shape(16, 64, 128, 56, 1, 2, 0, 1),
    "28": Shape(16, 128, 128, 28, 3, 1, 1, 3),
    "14, stride 2": Shape(16, 128, 256, 28, 3, 2, 1, 1),
    "14, 1x1": Shape(16, 128, 256, 28, 1, 2, 0, 1),
    "14": Shape(16, 256, 256, 14, 3, 1, 1, 3),
    "7, stride 2": Shape(16, 256, 512, 14, 3, 2, 1, 1),
    "7, 1x1": Shape(16, 256, 512, 14, 1, 2, 0, 1),
    "7": Shape(16, 512, 512, 7, 3, 1, 1, 3),
    "digits 1": Shape(64, 1, 16, 8, 3, 1, 1),
    "digits 2": Shape(64, 16, 32, 8, 3, 1, 1),
    "mnist 1": Shape(64, 1, 8, 28, 3, 1, 1),
    "mnist 2": Shape(64, 8, 16, 14, 3, 1, 1),
    "mnist 5x5": Shape(64, 1, 32, 28, 5, 1, 2),
}


def fastest(call: Callable[[], object], clock: Callable[[], float]) -> float:
    """Seconds of one call, the better of a few in a row."""
    best = float("inf")
    for _ in range(3):
        start = clock()
        call()
        best = min(best, clock() - start)
    return best


def contestants(s: Shape, kind: str, threads: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name; PyTorch's result is compared first."""
    rng = np.random.default_rng(0)
    steps = Steps((s.stride,) * 2, (s.padding,) * 2, (1, 1), 1)
    out = output_size(s.size, s.kernel, s.stride, s.padding, 1)
    x = rng.standard_normal((s.n, s.c, s.size, s.size), np.float32)
    w = rng.standard_normal((s.o, s.c, s.kernel, s.kernel), np.float32)
    y = rng.standard_normal((s.n, s.o, out, out), np.float32)
    own: dict[str, Callable[[], np.ndarray]] = {
        "forward": lambda: conv_arrays.forward(x, w, None, (out, out), steps),
        "input": lambda: conv_arrays.input_gradient(y, w, None, x.shape[2:], steps),
        "weight": lambda: conv_arrays.weight_gradient(x, y, w.shape[2:], steps),
    }
    shape = product.kernel("float32").shape
    loop, flops = peak_loop(shape), 2 * shape.lanes * shape.rows * shape.vectors
    turns = max(1, 2 * y.size * w.size // s.o // flops // (8 * threads))
    calls: dict[str, Callable[[], object]] = {
        "peak": lambda: loop(8 * threads, turns),
        "lampion": own[kind],
    }
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(threads)
        a, b, c = map(torch.from_numpy, (x, w, y))
        options = [s.stride] * 2, [s.padding] * 2, [1, 1], False, [0, 0], 1
        mask = [kind == name for name in ("input", "weight", "bias")]
        theirs: Callable[[], torch.Tensor] = (
            (lambda: torch.conv2d(a, b, None, s.stride, s.padding))
            if kind == "forward"
            else (
                lambda: torch.ops.aten.convolution_backward(c, a, b, None, *options, mask)[
                    KINDS.index(kind) - 1
                ]
            )
        )
        expected = theirs().numpy()
        scale = np.abs(expected).max()
        assert np.abs(own[kind]() - expected).max() < 1e-4 * scale, (s, kind)
        calls["torch"] = theirs
    return calls


def measure(s: Shape, kind: str, threads: int, seconds: float) -> dict[str, float]:
    """Seconds of each contestant."""
    clock = time.perf_counter if threads > 1 else time.thread_time
    calls = contestants(s, kind, threads)
    best = dict.fromkeys(calls, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            best[name] = min(best[name], fastest(call, clock))
            time.sleep(GAP)
    return best


def line(name: str, kind: str, flops: float, times: dict[str, float]) -> str:
    """A row of the table."""
    own = times["lampion"]
    text = (
        f"{name:14} {kind:8} {own * 1e3:9.3f} {flops / own / 1e9:8.0f} {times['peak'] / own:6.0%}"
    )
    return text + (f" {times['torch'] / own:8.2f}" if "torch" in times else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=lampion.get_num_threads())
    parser.add_argument("--seconds", type=float, default=1.0, help="for each shape and direction")
    parser.add_argument("--only", default="", help="names of shapes, a regular expression")
    parser.add_argument("--json", help="where to write the figures")
    options = parser.parse_args()
    lampion.set_num_threads(options.threads)
    pool.pool().settle(options.threads)
    print(f"{'shape':14} {'kind':8} {'ms':>9} {'GFLOP/s':>8} {'peak':>6} {'torch':>8}")
    rows, total, total_flops = [], dict.fromkeys(("peak", "lampion", "torch"), 0.0), 0.0
    for name, shape in SHAPES.items():
        if not re.search(options.only, name):
            continue
        out = output_size(shape.size, shape.kernel, shape.stride, shape.padding, 1)
        flops = 2 * shape.n * shape.o * out**2 * shape.c * shape.kernel**2
        for kind in KINDS:
            times = measure(shape, kind, options.threads, options.seconds)
            print(line(name, kind, flops, times), flush=True)
            rates = {who: flops / value / 1e9 for who, value in times.items()}
            share = {"share of peak": times["peak"] / times["lampion"]}
            row = {"shape": name, "kind": kind, "threads": options.threads}
            rows.append({**row, **rates, **share})
            if not (name == "stem" and kind == "input"):  # images need no gradient
                total_flops += shape.times * flops
                for who, value in times.items():
                    total[who] += shape.times * value
    if total_flops:
        total = {who: value for who, value in total.items() if value}
        print(line("ResNet-18", "all", total_flops, total))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
