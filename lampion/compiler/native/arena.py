"""One block of memory for all temporaries of a program. Imports numpy alone.

Each temporary is needed from the kernel that fills it to the last one that reads it; those whose
times overlap must not share bytes. Placing the largest first, each into the smallest gap that it
fits, comes close to the least possible size (Pisarchyk and Lee, 2020).
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ALIGNMENT = 64  # bytes: a line of the cache, and the widest vector
HUGE = 2 << 20  # bytes of a huge page
# Memory of this process alone: a forked one gets a copy, and pages may be huge.
OWN = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
MADV_HUGEPAGE = getattr(mmap, "MADV_HUGEPAGE", None)


class Lifetime(NamedTuple):
    """A temporary: its bytes, and the first and the last kernel that touch it."""

    size: int
    first: int
    last: int


class Plan(NamedTuple):
    """Where in the arena each temporary begins, and how many bytes the arena has."""

    offsets: tuple[int, ...]
    size: int


def plan(lifetimes: Sequence[Lifetime]) -> Plan:
    """Places the temporaries so that those alive at the same kernel do not overlap.

    >>> plan([Lifetime(100, 0, 1), Lifetime(100, 1, 2), Lifetime(100, 2, 3)])
    Plan(offsets=(0, 128, 0), size=256)
    """
    sizes = [-(-item.size // ALIGNMENT) * ALIGNMENT for item in lifetimes]
    first = np.array([item.first for item in lifetimes], np.int64)
    last = np.array([item.last for item in lifetimes], np.int64)
    ends = np.array(sizes, np.int64)
    offsets = np.full(len(sizes), -1, np.int64)
    for i in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        near = np.flatnonzero((offsets >= 0) & (first <= last[i]) & (last >= first[i]))
        near = near[np.argsort(offsets[near], kind="stable")]
        offsets[i] = best_gap(sizes[i], offsets[near].tolist(), (offsets + ends)[near].tolist())
    total = int((offsets + ends).max()) if sizes else 0
    return Plan(tuple(offsets.tolist()), total)


def best_gap(size: int, starts: list[int], ends: list[int]) -> int:
    """The start of the smallest gap of at least `size` between intervals that are in order."""
    reached, best, room = 0, -1, 0
    for start, end in zip(starts, ends, strict=True):
        gap = start - reached
        if gap >= size and (best < 0 or gap < room):
            best, room = reached, gap
        reached = max(reached, end)
    return reached if best < 0 else best


def give_back() -> None:
    """Gives memory that has been freed back to the system, where the C library can do so: before
    an arena takes more of it.
    """
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)  # type: ignore[union-attr]


class Arena:
    """The memory: zeros at first, aligned, given back when nobody refers to it."""

    def __init__(self, size: int) -> None:
        self.size = size
        if size >= 2 * HUGE:
            mapped = mmap.mmap(-1, size + HUGE, **OWN)
            if MADV_HUGEPAGE is not None:
                mapped.madvise(MADV_HUGEPAGE)
            self.memory = np.frombuffer(mapped, np.uint8)
            unit = HUGE
        else:
            self.memory = np.zeros(size + ALIGNMENT, np.uint8)
            unit = ALIGNMENT
        start = self.memory.ctypes.data
        self.address = -(-start // unit) * unit

    def view(self, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array on part of it; it keeps the arena's memory."""
        start = self.address - self.memory.ctypes.data + offset
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return self.memory[start : start + size].view(dtype).reshape(shape)


def aligned_bytes(size: int) -> ctypes.Array:
    """Bytes for a program in memory, at an address that is a multiple of ALIGNMENT."""
    memory = ctypes.create_string_buffer(size + ALIGNMENT)
    skip = -ctypes.addressof(memory) % ALIGNMENT
    return (ctypes.c_char * size).from_buffer(memory, skip)
