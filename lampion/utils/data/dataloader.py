"""`DataLoader`: batches of a dataset, in order, made here or ahead of time by workers. May import
all of this folder.

What it draws from the random streams, and when, is what PyTorch's draws, so the same seed gives the
same batches.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, repeat
from typing import Any, Generic, TypeVar

from ... import random
from ...errors import check
from .collate import default_collate as default_collate, default_convert as default_convert
from .dataset import Dataset, IterableDataset
from .pool import ProcessPool, ThreadPool, Timeout
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed
from .worker import End, Failure, Job, Task, get_worker_info as get_worker_info

T_co = TypeVar("T_co", covariant=True)

FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class InfiniteConstantSampler(Sampler[None]):
    """Indices for iterable datasets, which need none."""

    def __iter__(self) -> Iterator[None]:
        return repeat(None)


class DataLoader(Generic[T_co]):
    """Iterates over a dataset in batches.

    batch_size          samples in a batch; None: single samples as the dataset gives them
    shuffle             a new random order in each pass
    sampler             which samples, in which order; batch_sampler: which lists of them
    num_workers         how many workers fetch ahead of time; 0: this process does, when asked
    workers             what they are: "process", or "thread", which starts faster and shares memory
    collate_fn          makes a batch of a list of samples; `default_collate` stacks them
    drop_last           leave out a last batch that is shorter
    timeout             seconds to wait for a batch of a worker; 0: forever
    worker_init_fn      called with each worker's number when it starts
    prefetch_factor     batches that each worker is ahead; 2 by default
    persistent_workers  keep the workers for the next pass
    in_order            False: whichever batch is ready first

    >>> data = torch.utils.data.TensorDataset(torch.arange(5))
    >>> [batch.tolist() for batch, in DataLoader(data, batch_size=2)]
    [[0, 1], [2, 3], [4]]
    """

    _multiprocessing_context: Any = None
    _iterator: WorkerIterator | None = None
    _ready = False

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler | Iterable | None = None,
        batch_sampler: Sampler[list] | Iterable[list] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: random.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        workers: str = "process",
    ) -> None:
        check_workers(num_workers, timeout, prefetch_factor, persistent_workers, workers)
        iterable = isinstance(dataset, IterableDataset)
        if iterable:
            check_iterable(shuffle, sampler, batch_sampler)
        check_sampling(batch_size, shuffle, sampler, batch_sampler, drop_last)
        self.dataset, self.num_workers, self.workers = dataset, num_workers, workers
        self.prefetch_factor = 2 if num_workers and prefetch_factor is None else prefetch_factor
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self.timeout, self.worker_init_fn, self.in_order = timeout, worker_init_fn, in_order
        self.multiprocessing_context = multiprocessing_context
        self.generator, self.persistent_workers = generator, persistent_workers
        if sampler is None:
            if iterable:
                sampler = InfiniteConstantSampler()
            elif shuffle:
                sampler = RandomSampler(dataset, generator=generator)  # type: ignore[arg-type]
            else:
                sampler = SequentialSampler(dataset)  # type: ignore[arg-type]
        if batch_sampler is not None:
            batch_size = None
        elif batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)  # type: ignore[arg-type]
        self.batch_size, self.drop_last = batch_size, drop_last
        self.sampler, self.batch_sampler = sampler, batch_sampler
        if collate_fn is None:
            collate_fn = default_collate if self._auto_collation else default_convert
        self.collate_fn = collate_fn
        self._length_told: int | None = None
        self._ready = True
        self.check_worker_number_rationality()

    @property
    def multiprocessing_context(self) -> Any:
        """How worker processes are started: a name such as "spawn", or a context of
        multiprocessing.
        """
        return self._multiprocessing_context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: Any) -> None:
        if context is not None:
            context = check_context(context, self.num_workers)
        self._multiprocessing_context = context

    def __setattr__(self, name: str, value: Any) -> None:
        check(
            not (self._ready and name in FIXED),
            lambda: (
                f"{name} attribute should not be set after {type(self).__name__} is initialized"
            ),
            ValueError,
        )
        super().__setattr__(name, value)

    @property
    def _auto_collation(self) -> bool:
        return self.batch_sampler is not None

    @property
    def _index_sampler(self) -> Any:
        return self.batch_sampler if self._auto_collation else self.sampler

    def __iter__(self) -> BaseIterator:
        if self.num_workers == 0:
            return SerialIterator(self)
        self.check_worker_number_rationality()
        if not self.persistent_workers:
            return WorkerIterator(self)
        if self._iterator is None:
            self._iterator = WorkerIterator(self)
        else:
            self._iterator.restart()
        return self._iterator

    def __len__(self) -> int:
        if not isinstance(self.dataset, IterableDataset):
            return len(self._index_sampler)
        length = self._length_told = len(self.dataset)  # type: ignore[arg-type]
        if self.batch_size is None:
            return length
        return length // self.batch_size if self.drop_last else -(-length // self.batch_size)

    def check_worker_number_rationality(self) -> None:
        """Warns if there are more worker processes than processors they may run on."""
        known = hasattr(os, "sched_getaffinity")
        most = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
        if self.workers == "process" and self.num_workers > most:
            warnings.warn(
                f"This DataLoader will create {self.num_workers} worker processes in total. Our "
                f"suggested max number of worker in current system is {most}, which is smaller "
                "than "
                "what this DataLoader is going to create. Please be aware that excessive worker "
                "creation might get DataLoader running slow or even freeze, lower the worker "
                "number "
                "to avoid potential slowness/freeze if necessary.",
                stacklevel=3,
            )


def check_workers(
    num_workers: int,
    timeout: float,
    prefetch_factor: int | None,
    persistent_workers: bool,
    workers: str,
) -> None:
    """Raises ValueError for options of workers that are out of range or need workers."""
    for valid, message in (
        (
            num_workers >= 0,
            "num_workers option should be non-negative; use num_workers=0 to disable "
            "multiprocessing.",
        ),
        (timeout >= 0, "timeout option should be non-negative"),
        (
            num_workers > 0 or prefetch_factor is None,
            "prefetch_factor option could only be specified in multiprocessing. let num_workers > "
            "0 "
            "to enable multiprocessing, otherwise set prefetch_factor to None.",
        ),
        (
            prefetch_factor is None or prefetch_factor > 0,
            "prefetch_factor option should be positive",
        ),
        (
            num_workers > 0 or not persistent_workers,
            "persistent_workers option needs num_workers > 0",
        ),
        (
            workers in ("process", "thread"),
            f"[DataLoader] expects workers='process' or 'thread', got {workers!r}",
        ),
    ):
        check(valid, message, ValueError)


def check_iterable(shuffle: bool | None, sampler: Any, batch_sampler: Any) -> None:
    """Raises ValueError for orders asked of an iterable dataset, which has its own."""
    given = {"shuffle": shuffle or None, "sampler": sampler, "batch_sampler": batch_sampler}
    for name, value in given.items():
        check(
            value is None,
            f"DataLoader with IterableDataset: expected unspecified {name} option, but got "
            f"{name}={value}",
            ValueError,
        )


def check_sampling(
    batch_size: int | None, shuffle: bool | None, sampler: Any, batch_sampler: Any, drop_last: bool
) -> None:
    """Raises ValueError for options that contradict each other."""
    check(
        sampler is None or not shuffle,
        "sampler option is mutually exclusive with shuffle",
        ValueError,
    )
    check(
        batch_sampler is None
        or (batch_size == 1 and not shuffle and sampler is None and not drop_last),
        "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and "
        "drop_last",
        ValueError,
    )
    check(
        batch_size is not None or not drop_last,
        "batch_size=None option disables auto-batching and is mutually exclusive with drop_last",
        ValueError,
    )


def check_context(context: Any, num_workers: int) -> Any:
    """The context of a name; raises ValueError or TypeError for what is none."""
    import multiprocessing.context

    check(
        num_workers > 0,
        "multiprocessing_context can only be used with multi-process loading (num_workers > 0), "
        "but "
        f"got num_workers={num_workers}",
        ValueError,
    )
    if isinstance(context, str):
        known = multiprocessing.get_all_start_methods()
        check(
            context in known,
            "multiprocessing_context option should specify a valid start method in "
            f"{known!r}, but got multiprocessing_context={context!r}",
            ValueError,
        )
        return multiprocessing.get_context(context)
    check(
        isinstance(context, multiprocessing.context.BaseContext),
        "multiprocessing_context option should be a valid context object or a string specifying "
        "the "
        f"start method, but got multiprocessing_context={context}",
        TypeError,
    )
    return context


class BaseIterator:
    """One pass over a loader's batches."""

    def __init__(self, loader: DataLoader) -> None:
        if loader.pin_memory:
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, then device "
                "pinned memory won't be used.",
                stacklevel=4,
            )
        self.loader = loader
        self.indices = iter(loader._index_sampler)
        self.base_seed = draw_seed(loader.generator)
        self.yielded = 0
        self.job = Job(
            loader.dataset,
            loader._auto_collation,
            loader.collate_fn,
            loader.drop_last,
            self.base_seed,
        )

    def __iter__(self) -> Any:
        return self

    def __len__(self) -> int:
        return len(self.loader._index_sampler)

    def __next__(self) -> Any:
        batch = self.next_batch()
        self.yielded += 1
        told = self.loader._length_told
        if told is not None and self.yielded > told:
            warnings.warn(
                f"Length of IterableDataset {self.loader.dataset} was reported to be {told} (when "
                f"accessing len(dataloader)), but {self.yielded} samples have been fetched; with "
                "several workers, divide the samples among them by get_worker_info()",
                stacklevel=2,
            )
        return batch

    def next_batch(self) -> Any:
        """The next batch; raises StopIteration at the end."""
        raise NotImplementedError

    def __getstate__(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} cannot be pickled")


class SerialIterator(BaseIterator):
    """Fetches a batch when it is asked for."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        self.fetch = self.job.fetcher()

    def next_batch(self) -> Any:
        """The next batch; raises StopIteration at the end."""
        return self.fetch(next(self.indices))


class WorkerIterator(BaseIterator):
    """Hands indices to workers in turn, and their batches out in the order of the indices.

    Which worker gets which indices depends only on how many batches were taken, never on timing.
    """

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        self.job.num_workers = loader.num_workers
        self.job.worker_init_fn = loader.worker_init_fn
        self.pool: ThreadPool | ProcessPool
        if loader.workers == "thread":
            self.pool = ThreadPool(self.job)
        else:
            self.pool = ProcessPool(self.job, loader.multiprocessing_context)
        self.close = weakref.finalize(self, self.pool.close)  # also when the program ends
        self.epoch = -1
        self.start()

    def restart(self) -> None:
        """Begins the next pass with the same workers; what is left of this one is dropped."""
        self.indices = iter(self.loader._index_sampler)
        self.yielded = 0
        self.start()

    def start(self) -> None:
        """Gives every worker its first tasks."""
        count = self.loader.num_workers
        self.epoch += 1
        self.sent = 0
        self.waiting: dict[int, int] = {}  # task -> worker, in the order of the tasks
        self.arrived: dict[int, Any] = {}  # task -> batch, END or Failure
        self.active = [True] * count
        self.load = [0] * count
        self.turns = cycle(range(count))
        self.ahead = count * (self.loader.prefetch_factor or 1)
        for _ in range(self.ahead):
            self.put()

    def put(self) -> None:
        """Gives the next indices to the worker whose turn it is, if there are any."""
        try:
            index = next(self.indices)
        except StopIteration:
            return
        worker = self.next_worker()
        if worker is None:
            return
        self.pool.put(worker, Task(self.epoch, self.sent, index))
        self.waiting[self.sent] = worker
        self.load[worker] += 1
        self.sent += 1

    def next_worker(self) -> int | None:
        """Whose turn it is; out of order, one with less than its share of tasks."""
        for _ in self.active:
            worker = next(self.turns)
            if not self.active[worker]:
                continue
            if self.loader.in_order or self.load[worker] < self.ahead // sum(self.active):
                return worker
        return None

    def next_batch(self) -> Any:
        """The next batch; raises StopIteration at the end, and again what a worker raised."""
        while self.waiting:
            number = next(iter(self.waiting))
            if number not in self.arrived:
                number = self.receive()
                if self.loader.in_order or number not in self.arrived:
                    continue
            data = self.arrived.pop(number)
            worker = self.waiting.pop(number)
            self.load[worker] -= 1
            if isinstance(data, End):
                if self.active[worker]:
                    self.active[worker] = False
                    self.put()
                continue
            self.put()
            if isinstance(data, Failure):
                data.reraise()
            return data
        if not self.loader.persistent_workers:
            self.close()
        raise StopIteration

    def receive(self) -> int:
        """Waits for a result, and returns its number; those of an earlier pass are dropped."""
        try:
            result = self.pool.get(self.loader.timeout or None)
        except Timeout:
            raise RuntimeError(
                f"DataLoader timed out after {self.loader.timeout} seconds"
            ) from None
        if result.epoch == self.epoch:
            self.arrived[result.number] = result.data
            return result.number
        return -1
