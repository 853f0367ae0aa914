"""Samplers: in which order the samples of a dataset are visited. May import ops and random.

Random ones draw as PyTorch's do, so the same seed gives the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np

from ... import dtypes, random
from ...errors import check
from ...ops.data import as_tensor

T_co = TypeVar("T_co", covariant=True)


class Sampler(Generic[T_co]):
    """The base of all samplers: derived classes define `__iter__` and mostly `__len__`."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"[{type(self).__name__}] has no order; define __iter__")


class SequentialSampler(Sampler[int]):
    """From the first to the last."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """In a new random order each time; with replacement, each index is drawn anew.

    Without a generator, the order comes from a seed that the default one gives.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: random.Generator | None = None,
    ) -> None:
        self.data_source, self.replacement = data_source, replacement
        self._num_samples, self.generator = num_samples, generator
        check(
            isinstance(replacement, bool),
            f"replacement should be a boolean value, but got replacement={replacement}",
            TypeError,
        )
        check_positive("num_samples", self.num_samples)

    @property
    def num_samples(self) -> int:
        """How many indices one pass gives."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        size, count = len(self.data_source), self.num_samples
        generator = self.generator
        if generator is None:
            generator = random.Generator().manual_seed(draw_seed(None))
        if self.replacement:
            for start in range(0, count, 32):
                chunk = min(32, count - start)
                yield from random.randint(chunk, 0, size, generator=generator).tolist()
            return
        for _ in range(count // size):
            yield from random.randperm(size, generator=generator).tolist()
        yield from random.randperm(size, generator=generator).tolist()[: count % size]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices, each once, in random order."""

    def __init__(self, indices: Sequence[int], generator: random.Generator | None = None) -> None:
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        for i in random.randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """Indices drawn with chances proportional to weights, with or without replacement."""

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: random.Generator | None = None,
    ) -> None:
        check_positive("num_samples", num_samples)
        check_flag("replacement", replacement)
        self.weights = as_tensor(weights, dtype=dtypes.float64)
        check(
            self.weights.ndim == 1,
            "weights should be a 1d sequence but given weights have shape "
            f"{tuple(self.weights.shape)}",
            ValueError,
        )
        self.num_samples, self.replacement = num_samples, replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        weights, count = self.weights._data, self.num_samples
        yield from random.multinomial(weights, count, self.replacement, self.generator).tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of another sampler; `drop_last` leaves out a shorter last one.

    >>> list(BatchSampler(SequentialSampler(range(5)), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        check_positive("batch_size", batch_size)
        check_flag("drop_last", drop_last)
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        size = len(self.sampler)  # type: ignore[arg-type]
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)


def draw_seed(generator: random.Generator | None) -> int:
    """What PyTorch's loaders and samplers draw as seeds: `torch.empty((), int64).random_()`."""
    return int(random.randint((), dtype=np.int64, generator=generator))


def check_positive(name: str, value: Any) -> None:
    """Raises ValueError unless the value is a whole number above 0."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    check(
        whole and value > 0,
        lambda: f"{name} should be a positive integer value, but got {name}={value}",
        ValueError,
    )


def check_flag(name: str, value: Any) -> None:
    """Raises ValueError unless the value is True or False."""
    check(
        isinstance(value, bool),
        lambda: f"{name} should be a boolean value, but got {name}={value}",
        ValueError,
    )
