"""The workers of one loader: processes or threads, with one interface. May import worker and
channel.

`put` gives a task to a worker, `get` waits for any result, `close` ends all of them. Processes and
the program watch each other by the ends of their sockets: when one is gone, the other one knows at
once.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from queue import Empty, Queue
from typing import Any

from .channel import receive, send
from .worker import Failure, Job, Result, Task, serve_in_process, serve_in_thread

PATIENCE = 5.0  # seconds that workers have to finish what they do when they are no longer needed
WATCH = 2.0  # seconds between two looks of a worker at whether its program is still there


class Timeout(Exception):
    """No result came in time."""


class ThreadPool:
    """Workers that are threads of the program."""

    def __init__(self, job: Job) -> None:
        self.results: Queue[Result] = Queue()
        self.tasks: list[Queue] = [Queue() for _ in range(job.num_workers)]
        self.threads = []
        for i, tasks in enumerate(self.tasks):
            arguments = (job, i, tasks, self.results.put)
            name = f"lampion-loader-{i}"
            thread = threading.Thread(
                target=serve_in_thread, args=arguments, name=name, daemon=True
            )
            thread.start()
            self.threads.append(thread)

    def put(self, worker: int, task: Task) -> None:
        """Gives a task to a worker."""
        self.tasks[worker].put(task)

    def get(self, timeout: float | None) -> Result:
        """Waits for a result; raises Timeout."""
        try:
            return self.results.get(timeout=timeout)
        except Empty:
            raise Timeout from None

    def close(self) -> None:
        """Ends the workers; a thread inside a dataset's code ends when that returns."""
        for tasks in self.tasks:
            while not tasks.empty():
                tasks.get()
            tasks.put(None)


class ProcessPool:
    """Workers that are processes: started with the given method, by default forked where that is
    possible.
    """

    def __init__(self, job: Job, context: Any = None) -> None:
        import multiprocessing

        if context is None:
            context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
        self.owner = os.getpid()
        self.channels: list[socket.socket] = []
        self.processes: list[Any] = []
        self.selector = selectors.DefaultSelector()
        forked = context.get_start_method() == "fork"
        for i in range(job.num_workers):
            ours, theirs = socket.socketpair()
            self.channels.append(ours)
            inherited = list(self.channels) if forked else []
            arguments = (job, i, theirs, inherited, self.owner)
            process = context.Process(target=run_process, args=arguments, daemon=True)
            with interrupts_blocked():
                process.start()
            theirs.close()
            self.processes.append(process)
            self.selector.register(ours, selectors.EVENT_READ, i)
            self.selector.register(process.sentinel, selectors.EVENT_READ, i)

    def put(self, worker: int, task: Task) -> None:
        """Gives a task to a worker."""
        try:
            send(self.channels[worker], task)
        except (BrokenPipeError, ConnectionResetError):
            self.died(worker)

    def get(self, timeout: float | None) -> Result:
        """Waits for a result; raises Timeout, and RuntimeError if a worker is gone."""
        events = self.selector.select(timeout)
        if not events:
            raise Timeout
        talking = [key for key, _ in events if key.fileobj in self.channels]
        if not talking:  # only a process's end was reported, and it left nothing behind
            self.died(events[0][0].data)
        try:
            return receive(talking[0].fileobj)  # type: ignore[arg-type]
        except (EOFError, ConnectionResetError):
            self.died(talking[0].data)
            raise

    def died(self, worker: int) -> None:
        """Raises RuntimeError that says how a worker ended."""
        process = self.processes[worker]
        process.join(PATIENCE)
        code = process.exitcode
        how = f"with exit code {code}"
        if code is not None and code < 0:
            how = f"killed by signal {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += "; the system may have run out of memory"
        raise RuntimeError(
            f"DataLoader worker (pid(s) {process.pid}) exited unexpectedly ({how}); run with "
            "num_workers=0 to see what its dataset does"
        )

    def close(self) -> None:
        """Ends the workers, by force those that do not end by themselves in time."""
        if os.getpid() != self.owner:  # the copy of this object in a forked worker
            return
        self.selector.close()
        for channel in self.channels:  # later forks may hold copies, which closing would not reach
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)
            channel.close()
        deadline = time.monotonic() + PATIENCE
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        for process in self.processes:
            if process.is_alive():
                process.terminate()
                process.join(PATIENCE)


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Holds back Ctrl-C, so that it does not reach a new process before that ignores it."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_process(
    job: Job, number: int, channel: socket.socket, inherited: list[socket.socket], parent: int
) -> None:
    """A worker process, from its start to its end."""
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which ends this
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    tasks: Queue = Queue()
    threading.Thread(target=listen, args=(channel, tasks, parent), daemon=True).start()

    def deliver(result: Result) -> None:
        try:
            send(channel, result)
        except (BrokenPipeError, ConnectionResetError):
            tasks.put(None)
        except Exception as error:
            where = f"in DataLoader worker process {number}, which cannot send its result"
            failure = result.data if isinstance(result.data, Failure) else Failure(error, where)
            failure.kind = RuntimeError
            send(channel, result._replace(data=failure))

    serve_in_process(job, number, tasks, deliver)


def listen(channel: socket.socket, tasks: Queue, parent: int) -> None:
    """Hands on the program's tasks; None when there will be no more, or the program is gone."""
    with contextlib.suppress(EOFError, OSError):
        while os.getppid() == parent:
            if select.select([channel], [], [], WATCH)[0]:
                tasks.put(receive(channel))
    while not tasks.empty():
        tasks.get()
    tasks.put(None)
