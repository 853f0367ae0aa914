"""Who takes part: worker processes, what they need, and talking to them. Imports no framework."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS = ("torch", "torch.compile", "jax.jit")
NAMES = ("lampion.compile", "lampion", *PEERS)
PATIENCE = 400.0  # seconds a reply may take; compiling is the longest


def missing(name: str) -> str | None:
    """Why a contestant cannot take part here, None where it can."""
    library = name.split(".")[0]
    if library != "copy" and not importlib.util.find_spec(library):
        return f"{library} is not installed"
    if name == "lampion.compile":
        import lampion

        return None if hasattr(lampion, "compile") else "lampion.compile does not exist yet"
    if name == "torch.compile" and not shutil.which(os.environ.get("CXX", "g++")):
        return "torch.compile needs a C++ compiler (g++)"
    return None


def environment(threads: int, caches: Path) -> dict[str, str]:
    """A worker's variables: so many threads, and caches of its own."""
    one_count = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)
    )
    own = {
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "LAMPION_CACHE": str(caches / "lampion"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={str(threads > 1).lower()}",
    }
    return {**os.environ, **one_count, **own}


def versions() -> dict[str, str]:
    """The versions of what takes part."""
    found = {}
    for package in ("torch", "jax", "jaxlib", "numpy", "llvmlite"):
        if importlib.util.find_spec(package):
            found[package] = importlib.metadata.version(package)
    return {"python": sys.version.split()[0], **found}


class Failed(Exception):
    """A contestant could not do what it was asked."""


class Worker:
    """A contestant's process, asked one thing at a time."""

    def __init__(
        self, name: str, threads: int, caches: Path, command: Sequence[str] | None = None
    ) -> None:
        self.name = name
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self.buffer = b""
        self.process = subprocess.Popen(
            command or [sys.executable, str(HERE / "worker.py"), name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log,
            env=environment(threads, caches),
        )  # fmt: skip

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The worker's reply; raises Failed with what went wrong there."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"the process ended: {self.last_words()}") from None
        reply = json.loads(self.line())
        if "error" in reply:
            raise Failed(reply["error"])
        return reply

    def line(self) -> bytes:
        """The next line of the worker's output."""
        assert self.process.stdout is not None
        end = time.monotonic() + PATIENCE
        while b"\n" not in self.buffer:
            left = max(0.0, end - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                self.process.kill()
                raise Failed(f"no reply within {PATIENCE:.0f} s")
            piece = os.read(self.process.stdout.fileno(), 1 << 20)
            if not piece:
                raise Failed(f"the process ended: {self.last_words()}")
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def last_words(self) -> str:
        """The end of what it printed."""
        self.process.wait()
        self.log.seek(0)
        text = self.log.read().decode(errors="replace").strip()
        return (text.splitlines() or [f"exit status {self.process.returncode}"])[-1]

    def close(self) -> None:
        """Ends the process and waits for it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


class Field:
    """The contestants of one section, alive until it ends.

    >>> with Field(["torch", "jax.jit"], 2, caches) as field: ...   # doctest: +SKIP
    """

    def __init__(self, names: Sequence[str], threads: int, caches: Path) -> None:
        self.names, self.threads, self.caches = names, threads, caches
        self.workers: dict[str, Worker] = {}

    def __enter__(self) -> Field:
        self.workers = {name: Worker(name, self.threads, self.caches) for name in self.names}
        return self

    def __exit__(self, *reason: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def worker(self, name: str) -> Worker:
        """The contestant's process; a new one where the last ended."""
        if self.workers[name].process.poll() is not None:
            self.workers[name].close()
            self.workers[name] = Worker(name, self.threads, self.caches)
        return self.workers[name]


Result = dict[str, Any]
Replies = Mapping[str, Result]
