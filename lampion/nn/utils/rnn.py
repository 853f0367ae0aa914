"""Sequences of different lengths in one tensor: padded, or packed without padding. May import core
and ops.

A `PackedSequence` holds, for each time step, the elements of those sequences that are that long,
longest sequence first: its `batch_sizes` say how many there are at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...core.tensor import Tensor, wrap
from ...errors import check
from ..names import torch


class _Packed(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Packed):
    """Sequences of different lengths, step after step; made by `pack_sequence` and
    `pack_padded_sequence`.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if batch_sizes is None:
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The data moved or cast as by `Tensor.to`."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else self._replace(data=data)

    def cpu(self) -> PackedSequence:
        """The data on the CPU."""
        return self.to("cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The data on a CUDA device; raises RuntimeError where there is none."""
        return self.to("cuda", *args, **kwargs)

    def pin_memory(self) -> PackedSequence:
        """The sequence itself: without a CUDA device there is nothing to pin for."""
        return self

    def is_pinned(self) -> bool:
        """Whether the data is in pinned memory."""
        return self.data.is_pinned()

    @property
    def is_cuda(self) -> bool:
        """Whether the data is on a CUDA device."""
        return self.data.is_cuda


def cast_to(name: str) -> Callable[[PackedSequence], PackedSequence]:
    """A method that casts the data as the tensor method of that name does."""

    def cast(self: PackedSequence) -> PackedSequence:
        return self._replace(data=getattr(self.data, name)())

    cast.__name__, cast.__doc__ = name, f"The sequence with `data.{name}()`."
    return cast


for _name in ("double", "float", "half", "long", "int", "short", "char", "byte"):
    setattr(PackedSequence, _name, cast_to(_name))


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes `permutation`."""
    return None if permutation is None else wrap(np.argsort(permutation._data, kind="stable"))


def lengths_array(lengths: Any) -> np.ndarray:
    """Lengths given as a tensor or numbers, as an int64 array."""
    return np.asarray(lengths._data if isinstance(lengths, Tensor) else lengths).astype(np.int64)


def pack_padded_sequence(
    input: Tensor,
    lengths: Tensor | Sequence[int],
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Packs padded sequences (T, B, *), or (B, T, *) if `batch_first`, of the given lengths.

    Raises RuntimeError where a length is not positive, or, if `enforce_sorted`, where they
    increase.

    >>> x = torch.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
    >>> packed = pack_padded_sequence(x, [2, 1, 3], batch_first=True, enforce_sorted=False)
    >>> packed.data, packed.batch_sizes
    (tensor([4, 1, 3, 5, 2, 6]), tensor([3, 2, 1]))
    """
    sizes = lengths_array(lengths)
    x = input.transpose(0, 1) if batch_first else input  # (T, B, *)
    check(
        len(sizes) == x.size(1),
        lambda: (
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(sizes)} "
            f"(batch_size={x.size(1)})"
        ),
    )
    check(
        bool((sizes > 0).all()),
        "Length of all samples has to be greater than 0, but found an element in 'lengths' that "
        "is <= 0",
    )
    order = np.arange(len(sizes)) if enforce_sorted else np.argsort(-sizes, kind="stable")
    sizes = sizes[order]
    check(
        bool((np.diff(sizes) <= 0).all()),
        "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You "
        "can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to "
        "sidestep this requirement if you do not need ONNX exportability.",
    )
    check(
        sizes[0] <= x.size(0),
        lambda: (
            f"[pack_padded_sequence] expects lengths of at most {x.size(0)} steps, got "
            f"{sizes[0]}; pass the lengths before padding"
        ),
    )
    step, place = np.nonzero(np.arange(sizes[0])[:, None] < sizes)  # of each element that is kept
    batch_sizes = np.bincount(step)
    data = x[wrap(step), wrap(order[place])]  # (sum of lengths, *)
    return PackedSequence(data, wrap(batch_sizes), None if enforce_sorted else wrap(order))


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(padded sequences (T, B, *) in original order, their lengths): undoes packing."""
    data, sizes = sequence.data, sequence.batch_sizes._data
    steps, batch = len(sizes), int(sizes[0])
    check(
        total_length is None or total_length >= steps,
        lambda: (
            "Expected total_length to be at least the length of the longest sequence in input, "
            f"but got total_length={total_length} and max sequence length being {steps}"
        ),
        ValueError,
    )
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    there = np.arange(batch) < sizes[:, None]  # (T, B)
    rows = np.where(there, starts[:, None] + np.arange(batch), len(data))
    if total_length is not None:
        rows = np.pad(rows, ((0, total_length - steps), (0, 0)), constant_values=len(data))
    lengths = there.sum(0)
    if sequence.unsorted_indices is not None:
        back = sequence.unsorted_indices._data
        rows, lengths = rows[:, back], lengths[back]
    padding = torch.full((1, *data.shape[1:]), padding_value, dtype=data.dtype)
    padded = torch.cat([data, padding])[wrap(rows)]  # (T, B, *)
    return padded.transpose(0, 1) if batch_first else padded, wrap(lengths)


def pad_sequence(
    sequences: Tensor | Iterable[Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Stacks sequences (L_i, *) into (T, B, *), or (B, T, *) if `batch_first`.

    >>> pad_sequence([torch.tensor([1, 2]), torch.tensor([3])], batch_first=True)
    tensor([[1, 2],
            [3, 0]])
    """
    check(
        isinstance(sequences, (Tensor, Iterable)),
        lambda: (
            "pad_sequence: Expected iterable for input sequences, but got arg of type: "
            f"{type(sequences)}"
        ),
    )
    check(
        padding_side in ("left", "right"),
        lambda: f"Expected padding_side to be one of left or right, but got {padding_side}.",
    )
    rows = list(sequences)
    check(len(rows) > 0, "received an empty list of sequences")
    longest = max(row.size(0) for row in rows)
    padded = []
    for row in rows:
        missing = (longest - row.size(0), *row.shape[1:])
        padding = torch.full(missing, padding_value, dtype=rows[0].dtype)
        padded.append(torch.cat([row, padding] if padding_side == "right" else [padding, row]))
    return torch.stack(padded, 0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False
) -> list[Tensor]:
    """The sequences of a padded batch, each cut to its length."""
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [row[:n] for row, n in zip(rows, lengths_array(lengths).tolist(), strict=True)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Packs sequences (L_i, *), the longest first if `enforce_sorted`."""
    lengths = [row.size(0) for row in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences that were packed, in their original order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
