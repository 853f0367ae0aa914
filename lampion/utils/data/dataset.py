"""Datasets: anything with `__getitem__` and `__len__`, or with `__iter__`. May import core and
random.

`TensorDataset`, and `Subset`s of one, also know how to give a whole batch at once.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar

import numpy as np

from ... import random
from ...core.tensor import Tensor, wrap
from ...errors import check

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Samples by index: derived classes define `__getitem__(index)` and mostly `__len__()`.

    Those that can fetch several samples faster together define `__getitems__(indices)` as well.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co], Iterable[T_co]):
    """Samples one after the other: derived classes define `__iter__`.

    With several workers each iterates over its own copy: divide the samples by `get_worker_info()`.
    """

    def __add__(self, other: Dataset) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Rows of tensors: sample i is the tuple of each tensor's row i.

    >>> data = TensorDataset(torch.arange(3), torch.tensor([[0, 0], [1, 10], [2, 20]]))
    >>> data[1]
    (tensor(1), tensor([ 1, 10]))
    """

    def __init__(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            check(
                hasattr(tensor, "size"),
                lambda: f"[TensorDataset] expects tensors, got {type(tensor).__name__}",
                AttributeError,
            )
        sizes = [len(tensor) for tensor in tensors]
        check(len(set(sizes)) == 1, "Size mismatch between tensors", AssertionError)
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple([tensor[index] for tensor in self.tensors])

    def __len__(self) -> int:
        return len(self.tensors[0])


class StackDataset(Dataset):
    """Datasets side by side: samples are tuples, or dictionaries for datasets given by keyword.

    >>> data = StackDataset(image=[1, 2], label=[10, 20])
    >>> data[1]
    {'image': 2, 'label': 20}
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        check(
            not (args and kwargs),
            "Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like "
            "input/output, but both types are given.",
            ValueError,
        )
        check(bool(args or kwargs), "At least one dataset should be passed", ValueError)
        self.datasets: Any = args or kwargs
        sizes = {len(dataset) for dataset in args or kwargs.values()}
        check(len(sizes) == 1, "Size mismatch between datasets", ValueError)
        self._length = sizes.pop()

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __getitems__(self, indices: list) -> list:
        """Several samples, from datasets' own `__getitems__` where they have one."""
        if isinstance(self.datasets, dict):
            columns = [samples_of(dataset, indices) for dataset in self.datasets.values()]
            return [
                dict(zip(self.datasets, row, strict=True)) for row in zip(*columns, strict=True)
            ]
        return list(zip(*[samples_of(dataset, indices) for dataset in self.datasets], strict=True))

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[T_co]):
    """Datasets one after the other."""

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.datasets = list(datasets)
        check(bool(self.datasets), "datasets should not be an empty iterable", AssertionError)
        check(
            not any(isinstance(dataset, IterableDataset) for dataset in self.datasets),
            "ConcatDataset does not support IterableDataset",
            AssertionError,
        )
        self.cumulative_sizes = self.cumsum(self.datasets)

    @staticmethod
    def cumsum(sequence: Iterable) -> list[int]:
        """Where each dataset ends."""
        return list(accumulate(len(part) for part in sequence))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, idx: int) -> T_co:
        if idx < 0:
            check(
                -idx <= len(self),
                "absolute value of index should not exceed dataset length",
                ValueError,
            )
            idx += len(self)
        part = bisect_right(self.cumulative_sizes, idx)
        start = self.cumulative_sizes[part - 1] if part else 0
        return self.datasets[part][idx - start]


class ChainDataset(IterableDataset):
    """Iterable datasets one after the other."""

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self.datasets = datasets

    def _checked(self) -> Iterator[Any]:
        for dataset in self.datasets:
            known = isinstance(dataset, IterableDataset)
            check(known, "ChainDataset only supports IterableDataset", AssertionError)
            yield dataset

    def __iter__(self) -> Iterator:
        for dataset in self._checked():
            yield from dataset

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self._checked())


class Subset(Dataset[T_co]):
    """Some samples of a dataset: sample i is `dataset[indices[i]]`."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices
        kind = type(self)
        one, several = kind.__getitem__, kind.__getitems__
        check(
            one is Subset.__getitem__ or several is not Subset.__getitems__,
            f"{kind.__name__} overrides __getitem__ but not __getitems__. When subclassing Subset "
            "and overriding __getitem__, you must also override __getitems__ to ensure DataLoader "
            "works correctly with your custom logic. A simple implementation:\n\ndef "
            "__getitems__(self, indices):\n    return [self.__getitem__(idx) for idx in indices]",
            NotImplementedError,
        )

    def __getitem__(self, idx: Any) -> Any:
        if isinstance(idx, list):
            return self.dataset[[self.indices[i] for i in idx]]
        return self.dataset[self.indices[idx]]

    def __getitems__(self, indices: list[int]) -> list[T_co]:
        """Several samples, from the dataset's own `__getitems__` if it has one."""
        return samples_of(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def samples_of(dataset: Any, indices: list) -> list:
    """Several samples of a dataset; raises ValueError if its `__getitems__` returns too few."""
    if not callable(getattr(dataset, "__getitems__", None)):
        return [dataset[i] for i in indices]
    samples = dataset.__getitems__(indices)
    check(
        len(samples) == len(indices),
        lambda: (
            f"Nested dataset's output size mismatch. Expected {len(indices)}, got {len(samples)}"
        ),
        ValueError,
    )
    return samples


def rows_of(dataset: Any) -> TensorDataset | None:
    """The `TensorDataset` whose rows are the samples, be it through `Subset`s; else None."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return dataset if type(dataset) is TensorDataset else None


def rows(dataset: Any, indices: list[int]) -> list[Tensor]:
    """What collating these samples gives, of a dataset that has `rows_of`: each tensor's rows."""
    while type(dataset) is Subset:
        indices = [dataset.indices[i] for i in indices]
        dataset = dataset.dataset
    at = np.array(indices, np.int64)
    return [
        tensor[indices] if tensor.requires_grad else wrap(tensor._data.take(at, 0))
        for tensor in dataset.tensors
    ]


def random_split(
    dataset: Dataset,
    lengths: Sequence[int | float],
    generator: random.Generator | None = random.default_generator,
) -> list[Subset]:
    """Subsets of random samples that do not overlap: of these lengths, or of these fractions.

    Of fractions, what rounding down leaves over is handed out one by one from the first on.

    >>> [len(part) for part in random_split(range(10), [0.75, 0.25])]
    [8, 2]
    """
    size = len(dataset)  # type: ignore[arg-type]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        for i, fraction in enumerate(lengths):
            check(
                0 <= fraction <= 1,
                f"Fraction at index {i} is not between 0 and 1",
                ValueError,
            )
        counts = [math.floor(size * fraction) for fraction in lengths]
        for i in range(size - sum(counts)):
            counts[i % len(counts)] += 1
        for i, count in enumerate(counts):
            if count == 0:
                warnings.warn(
                    f"Length of split at index {i} is 0. This might result in an empty dataset.",
                    stacklevel=2,
                )
        lengths = counts
    check(
        sum(lengths) == size,
        "Sum of input lengths does not equal the length of the input dataset!",
        ValueError,
    )
    order = random.randperm(size, generator=generator).tolist()
    ends = list(accumulate(lengths))
    return [
        Subset(dataset, order[end - count : end]) for end, count in zip(ends, lengths, strict=True)
    ]
