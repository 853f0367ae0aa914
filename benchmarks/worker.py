"""One contestant in a process of its own: reads requests from standard input, a JSON object a line,
and answers each with one. Imports the contestant's library only.

    python benchmarks/worker.py CONTESTANT THREADS

    {"do": "start", "workload": NAME, "size": {...}, "weights": FILE or null}
        -> {"values": [numbers of each checked step], "drift": how far the results moved,
            "first": seconds of the first step, "resident": MB before it, "summit": the most MB
            during the checked steps, compilation included}
    {"do": "burst", "seconds": S}  -> {"times": [seconds of a step, ...]}
    {"do": "memory", "steps": N}   -> {"peak": MB during so many steps}
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from torch_steps import Training, build
from workloads import WORKLOADS, Size

LEAST = 0.002  # seconds between two looks at the clock


class Eager:
    """A library with PyTorch's interface, called as it is."""

    library, compiles = "torch", False

    def __init__(self, threads: int) -> None:
        self.torch = __import__(self.library)
        self.torch.set_num_threads(threads)

    def build(self, name: str, size: Size, weights: dict[str, np.ndarray]) -> Training:
        made = build(self.torch, name, size)
        with self.torch.no_grad():
            for key, weight in made.weights.items():
                weight.copy_(self.torch.from_numpy(weights[key]))
        if self.compiles:
            made = made._replace(step=self.torch.compile(made.step))
        return made

    def batch(self, arrays: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        return tuple(self.torch.from_numpy(array) for array in arrays)

    def array(self, value: Any) -> np.ndarray:
        return value.detach().numpy()

    def wait(self, value: Any) -> None:
        """Eager results are there when a call returns."""


class Compiled(Eager):
    compiles = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        # What a compiler imports on first use is no part of a program's compile time.
        self.torch.compile(lambda x: x * 2 + 1)(self.torch.ones(3))


class Lampion(Eager):
    library = "lampion"


class CompiledLampion(Compiled):
    library = "lampion"


class Jax:
    """Whole steps through `jax.jit`; runs ahead of the device, so the clock waits for results."""

    def __init__(self, threads: int) -> None:
        import jax
        import jax_steps

        self.jax, self.steps = jax, jax_steps
        jax.jit(lambda x: x * 2 + 1)(1.0)

    def build(self, name: str, size: Size, weights: dict[str, np.ndarray]) -> Training:
        return self.steps.build(name, size, weights)

    def batch(self, arrays: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        return tuple(self.jax.numpy.array(array) for array in arrays)

    def array(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def wait(self, value: Any) -> None:
        self.jax.block_until_ready(value)


class Copy:
    """The yardstick of bandwidth: NumPy copies a matrix, a part on each thread."""

    def __init__(self, threads: int) -> None:
        self.threads, self.pool = threads, ThreadPoolExecutor(threads)

    def build(self, name: str, size: Size, weights: dict[str, np.ndarray]) -> Training:
        target = np.zeros((size.rows, size.columns), np.float32)

        def step(a: np.ndarray) -> np.ndarray:
            parts = (np.array_split(array, self.threads) for array in (target, a))
            list(self.pool.map(np.copyto, *parts))
            return target

        return Training({}, step)

    def batch(self, arrays: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
        return arrays

    def array(self, value: Any) -> np.ndarray:
        return value

    def wait(self, value: Any) -> None:
        """The copy is done when the call returns."""


KINDS: dict[str, Callable[[int], Any]] = {
    "lampion.compile": CompiledLampion,
    "lampion": Lampion,
    "torch": Eager,
    "torch.compile": Compiled,
    "jax.jit": Jax,
    "copy": Copy,
}


def memory(field: str) -> float:
    """Megabytes of VmRSS (now) or VmHWM (the most so far)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def forget_peak() -> None:
    """Begins VmHWM anew."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def give_back() -> None:
    """Frees what nobody uses and hands it to the system: what is resident then, is needed."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


class Run:
    """A workload that was started."""

    def __init__(self, kind: Any, request: dict[str, Any]) -> None:
        workload = WORKLOADS[request["workload"]]
        size = {**workload.size, **request["size"]}
        weights = dict(np.load(request["weights"])) if request["weights"] else {}
        self.kind = kind
        self.training = kind.build(request["workload"], Size(**size), weights)
        self.batch = kind.batch(workload.data(size))
        del weights
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the run ends
        np.savez(file, **self.results())
        give_back()
        resident = memory("VmRSS")
        forget_peak()
        start = time.perf_counter()
        values = [self.sample(self.training.step(*self.batch))]
        self.last = time.perf_counter() - start
        first = self.last
        for _ in range(workload.checked - 1):
            values.append(self.sample(self.training.step(*self.batch)))
        summit = memory("VmHWM")
        file.seek(0)
        before, after = dict(np.load(file)), self.results()
        squares = [np.sum((after[n] - before.get(n, 0.0)) ** 2) for n in after]
        drift = float(np.sqrt(sum(squares)))
        self.report = {
            "values": values, "drift": drift, "first": first, "resident": resident,
            "summit": summit,
        }  # fmt: skip

    def results(self) -> dict[str, np.ndarray]:
        """What steps change, as copies in double precision."""
        named = (self.training.results or (lambda: self.training.weights))()
        arrays = {n: self.kind.array(v) for n, v in named.items() if v is not None}
        return {n: a.astype(np.float64) for n, a in arrays.items()}

    def sample(self, value: Any) -> list[float]:
        """Up to 16 numbers of what a step returned."""
        flat = self.kind.array(value).reshape(-1)
        return flat[:: max(1, flat.size // 16)][:16].astype(np.float64).tolist()

    def steps(self, count: int) -> None:
        """Runs so many steps and waits for the last."""
        step, batch = self.training.step, self.batch
        for _ in range(count):
            value = step(*batch)
        self.kind.wait(value)

    def burst(self, seconds: float) -> list[float]:
        """Seconds of a step, for each look at the clock until the time is over."""
        clock, times = time.perf_counter, []
        if self.last < seconds / 3:  # others used the caches in the meantime
            self.steps(1)
        end = clock() + seconds
        while True:
            count = max(1, int(LEAST / self.last))
            start = clock()
            self.steps(count)
            now = clock()
            self.last = (now - start) / count
            times.append(self.last)
            if now >= end:
                return times

    def peak(self, steps: int) -> float:
        """Megabytes the process holds at most during so many steps."""
        give_back()  # what `results` took
        forget_peak()
        self.steps(steps)
        return memory("VmHWM")


def answer(request: dict[str, Any], run: Run | None) -> dict[str, Any]:
    """What a request about a started workload asks for."""
    assert run is not None, "start comes first"
    if request["do"] == "burst":
        return {"times": run.burst(request["seconds"])}
    if request["do"] == "memory":
        return {"peak": run.peak(request["steps"])}
    raise ValueError(f"no request is called {request['do']!r}")


def main(name: str, threads: int) -> None:
    """Serves until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    run, kind = None, None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            kind = kind or KINDS[name](threads)
            if request["do"] == "start":
                run = None  # what the last workload held is free first
                gc.collect()
                run = Run(kind, request)
                reply = run.report
            else:
                reply = answer(request, run)
        except Exception as error:  # the coordinator goes on with the others
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
