"""Worker processes that run the entries of a database: a crash or a hang costs one entry.

May import outcomes.
"""

import importlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import torch

from outcomes import Tally, attempt


def serve(db, opts):
    """Worker: reads tasks from stdin, writes JSON lines to the original stdout."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # prints of the implementation go to stderr

    def say(**message):
        out.write(json.dumps(message, default=str) + "\n")
        out.flush()

    warnings.simplefilter("ignore")
    if opts.mem and opts.device == "cpu":
        resource.setrlimit(resource.RLIMIT_DATA, (int(opts.mem * 2**30),) * 2)
    torch.set_num_threads(1)
    kind, lib = attempt(importlib.import_module, opts.impl)
    if kind != "ok":
        return say(fatal=f"cannot import {opts.impl}: {lib}")
    attempt(lambda: lib.set_num_threads(1))
    say(ready=str(getattr(lib, "__version__", "")))

    def note(*at):
        say(at=at)

    for line in sys.stdin:
        entry, dtype, mode = json.loads(line)
        tally = Tally(dtype, mode)
        kind, text = attempt(db.run, db.entries[entry], dtype, mode, lib, opts, tally, note)
        if kind != "ok":
            tally.add("samples", "reference", text)  # torch could not make them
        say(done=tally.result())


class Worker:
    """One process that answers tasks, started again after it died or was killed."""

    def __init__(self, opts):
        self.opts, self.proc = opts, None

    def start(self):
        self.buffer = b""
        self.err = tempfile.TemporaryFile()  # noqa: SIM115, closed by end()
        env = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }
        self.proc = subprocess.Popen(
            [sys.executable, *sys.argv, "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.err,
            env=env,
        )
        self.poll = selectors.DefaultSelector()
        self.poll.register(self.proc.stdout, selectors.EVENT_READ)
        hello = self.read(time.time() + 300)
        if not hello or "ready" not in hello:
            raise SystemExit(
                (hello or {}).get("fatal") or f"the worker did not start: {self.end()}"
            )
        self.version = hello["ready"]

    def read(self, deadline):
        """The next message, None at the end of the stream, {} at the deadline."""
        while b"\n" not in self.buffer:
            if not self.poll.select(max(0, deadline - time.time())):
                return {}
            data = os.read(self.proc.stdout.fileno(), 1 << 16)
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def end(self):
        """Stops the worker; says how it ended."""
        try:
            code = self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            code = self.proc.wait()
        self.err.seek(0)
        tail = " ".join(self.err.read()[-300:].decode(errors="replace").split())
        for f in (self.poll, self.proc.stdin, self.proc.stdout, self.err):
            attempt(f.close)
        self.proc = None
        return f"{signal.Signals(-code).name if code < 0 else f'exit {code}'} {tail}"

    def ask(self, task):
        if not self.proc:
            self.start()
        self.err.seek(0)
        self.err.truncate()
        at, start = ("reference", "samples", ""), time.time()
        try:
            self.proc.stdin.write((json.dumps(task) + "\n").encode())
            self.proc.stdin.flush()
        except OSError:
            pass  # the end of the stream tells
        while True:
            message = self.read(
                min(time.time() + self.opts.timeout, start + 20 * self.opts.timeout)
            )
            if message and "done" in message:
                return message["done"]
            if message and "at" in message:
                at = message["at"]
                continue
            if message == {}:
                self.proc.kill()
            text = (
                f"no answer in time, killed ({self.end()})"
                if message == {}
                else f"died ({self.end()})"
            )
            tally, (phase, variant, sample) = Tally(*task[1:]), at
            tally.add(variant, "crash", f"{text} in the {phase} call", sample)
            return tally.result()


def run_all(tasks, opts):
    """(entry, dtype, mode) -> result, over opts.jobs workers."""
    results, pending, lock, versions, failed = {}, list(reversed(tasks)), threading.Lock(), [], []
    begin = time.time()

    def loop():
        worker = Worker(opts)
        try:
            while not failed:
                with lock:
                    if not pending:
                        break
                    task = pending.pop()
                start = time.time()
                result = worker.ask(task)
                result["seconds"] = round(time.time() - start, 3)
                with lock:
                    results[task] = result
                    versions.append(worker.version)
                    if sys.stderr.isatty() or len(results) % 200 == 0:
                        at = f"{len(results)}/{len(tasks)} {time.time() - begin:.0f} s"
                        print(
                            f"\r{at} {task[0]:50.50}",
                            end="",
                            file=sys.stderr,
                            flush=True,
                        )
        except SystemExit as e:
            failed.append(e)
        finally:
            if worker.proc:
                worker.proc.stdin.close()
                worker.end()

    threads = [threading.Thread(target=loop) for _ in range(opts.jobs)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(file=sys.stderr)
    if failed:
        raise failed[0]
    return results, (versions or [""])[0], time.time() - begin
