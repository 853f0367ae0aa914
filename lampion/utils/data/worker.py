"""What a worker does, be it a process or a thread: fetches batches. May import the files before it.

Seeds are PyTorch's: worker i's streams start from base seed + i, and NumPy's from a mixture of the
two.
"""

from __future__ import annotations

import random as python_random
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Queue
from typing import Any, NamedTuple

import numpy as np

from ... import random
from ...core.tensor import Tensor
from .collate import collate_tensor_fn, default_collate, default_collate_fn_map
from .dataset import IterableDataset, rows, rows_of


@dataclass(frozen=True, slots=True)
class RNG:
    """A thread's own random streams, since those of the modules are shared by all threads."""

    random_generator: python_random.Random
    torch_generator: random.Generator
    numpy_generator: np.random.Generator


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker knows of itself; `rng` is for workers that are threads."""

    id: int
    num_workers: int
    seed: int
    dataset: Any
    rng: RNG | None = None
    worker_method: str = "multiprocessing"


class Place(threading.local):
    """Where the code of this thread runs; a worker process writes to the class, for all its
    threads.
    """

    info: WorkerInfo | None = None


PLACE = Place()


def get_worker_info() -> WorkerInfo | None:
    """In a worker of a `DataLoader`: its id, the number of workers, its seed, its dataset. Else
    None.
    """
    return PLACE.info


class Failure:
    """An exception that a worker met, as text, on its way to the program."""

    def __init__(self, error: BaseException, where: str) -> None:
        special = isinstance(error, (SystemExit, StopIteration))  # they would end program or loop
        self.kind: type[BaseException] = RuntimeError if special else type(error)
        self.name = type(error).__name__
        self.text = "".join(traceback.format_exception(error))
        self.where = where

    def reraise(self) -> None:
        """Raises an exception of the same class, with the worker's traceback in its message."""
        message: Any = f"Caught {self.name} {self.where}.\nOriginal {self.text}"
        if self.kind is KeyError:
            message = Verbatim(message)
        try:
            error = self.kind(message)
        except Exception:
            raise RuntimeError(message) from None
        raise error


class Verbatim(str):
    """A text that KeyError shows as it is, line by line."""

    def __repr__(self) -> str:
        return str(self)


class Task(NamedTuple):
    """A batch to fetch: in which pass over the data, the how manieth, and of which samples."""

    epoch: int
    number: int
    index: Any


class Result(NamedTuple):
    """What became of a task: a batch, END or a Failure."""

    epoch: int
    number: int
    data: Any


class End:
    """Instead of a batch: the worker's iterable dataset has no more samples."""


END = End()


@dataclass
class Job:
    """All that workers need to know of a loader."""

    dataset: Any
    auto_collation: bool
    collate_fn: Callable
    drop_last: bool
    base_seed: int = 0
    num_workers: int = 0
    worker_init_fn: Callable[[int], None] | None = None
    together: bool = field(init=False)  # whether batches are cut out of tensors as a whole

    def __post_init__(self) -> None:
        plain = default_collate_fn_map.get(Tensor) is collate_tensor_fn
        standard = plain and self.auto_collation and self.collate_fn is default_collate
        self.together = standard and rows_of(self.dataset) is not None

    def fetcher(self) -> Callable[[Any], Any]:
        """A function from indices to batches, for one pass; raises StopIteration at its end."""
        if isinstance(self.dataset, IterableDataset):
            return IterableFetcher(self)
        return self.fetch

    def fetch(self, index: Any) -> Any:
        """The batch of these indices, or the one sample if batches are not made here."""
        if self.together:
            return rows(self.dataset, index)
        if not self.auto_collation:
            return self.collate_fn(self.dataset[index])
        if getattr(self.dataset, "__getitems__", None):
            return self.collate_fn(self.dataset.__getitems__(index))
        return self.collate_fn([self.dataset[i] for i in index])


class IterableFetcher:
    """The batches of one pass over an iterable dataset; of the indices only their number counts."""

    def __init__(self, job: Job) -> None:
        self.job, self.ended = job, False
        self.samples: Iterator = iter(job.dataset)

    def __call__(self, index: Any) -> Any:
        if self.ended:
            raise StopIteration
        if not self.job.auto_collation:
            return self.job.collate_fn(next(self.samples))
        batch = [sample for _, sample in zip(index, self.samples, strict=False)]
        self.ended = len(batch) < len(index)
        if not batch or (self.ended and self.job.drop_last):
            raise StopIteration
        return self.job.collate_fn(batch)


def serve(job: Job, where: str, number: int, tasks: Queue, send: Callable[[Result], None]) -> None:
    """Fetches what comes in until a None does; exceptions are sent in place of batches."""
    epoch, fetch, failure = -1, None, None
    if job.worker_init_fn is not None:
        try:
            job.worker_init_fn(number)
        except Exception as error:
            failure = Failure(error, where)
    while (task := tasks.get()) is not None:
        try:
            if epoch != task.epoch:
                epoch, fetch = task.epoch, job.fetcher()
            data = failure or fetch(task.index)  # type: ignore[misc]
        except StopIteration as error:
            data = END if isinstance(job.dataset, IterableDataset) else Failure(error, where)
        except (Exception, SystemExit) as error:
            data = Failure(error, where)
        send(Result(task.epoch, task.number, data))


def serve_in_thread(job: Job, number: int, tasks: Queue, send: Callable[[Result], None]) -> None:
    """A thread's work, with random streams of its own in `get_worker_info().rng`."""
    seed = job.base_seed + number
    rng = RNG(
        python_random.Random(seed),
        random.Generator().manual_seed(seed),
        np.random.default_rng(numpy_seed(job.base_seed, number)),
    )
    PLACE.info = WorkerInfo(number, job.num_workers, seed, job.dataset, rng, "thread")
    serve(job, f"in DataLoader worker thread {number}", number, tasks, send)


def serve_in_process(job: Job, number: int, tasks: Queue, send: Callable[[Result], None]) -> None:
    """A process's work; its random streams are seeded."""
    seed = job.base_seed + number
    python_random.seed(seed)
    random.manual_seed(seed)
    np.random.seed(numpy_seed(job.base_seed, number))
    Place.info = WorkerInfo(number, job.num_workers, seed, job.dataset)
    serve(job, f"in DataLoader worker process {number}", number, tasks, send)


def numpy_seed(base_seed: int, number: int) -> np.ndarray:
    """Four words that differ from worker to worker, and from those of neighbouring base seeds."""
    entropy = [number, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]
    return np.random.SeedSequence(entropy).generate_state(4)
