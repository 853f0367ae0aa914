"""Where arrays lie: strides, the memory that views share, and who wrote to it last.
May import nothing of lampion.
"""

from __future__ import annotations

import sys
from itertools import count
from types import CodeType
from typing import Any
from weakref import ref

import numpy as np
from numpy import ndarray
from numpy.lib.stride_tricks import as_strided

CLOCK = count(1)  # one clock orders graph nodes and writes into storages
tick = CLOCK.__next__


class Storage:
    """What all views of one memory share: when it was last written, by what, and who views it.

    writer   the operator's name, and the code and instruction of the user's line that asked for it
    limit    of views, at which those that are gone are forgotten
    """

    __slots__ = ("version", "written", "writer", "views", "limit", "__weakref__")

    def __init__(self) -> None:
        self.version = self.written = 0
        self.writer: tuple[str, CodeType, int] | None = None
        self.views: list[ref] | None = None
        self.limit = 16

    def write(self, name: str) -> None:
        """Notes an in-place write by the operator `name`, and the user's line that asked for it."""
        self.version += 1
        self.written = tick()
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(
            "lampion."
        ):
            frame = frame.f_back
        self.writer = (name, frame.f_code, frame.f_lasti)

    def writer_line(self) -> tuple[str, str, int]:
        """The last write's operator, and the file and line that asked for it."""
        if self.writer is None:
            return "an operator", "unknown", 0
        name, code, at = self.writer
        lines = (line for start, end, line in code.co_lines() if start <= at < end)
        return name, code.co_filename, next(lines, None) or code.co_firstlineno

    def prune(self) -> None:
        """Forgets the views that are gone."""
        self.views = [v for v in self.views or () if v() is not None]
        self.limit = 2 * len(self.views) + 16


def strides_of(data: Any) -> tuple[int, ...]:
    """PyTorch's strides of an array: in elements,
    and contiguous ones where sizes of 0 or 1 leave a choice.
    """
    if not isinstance(data, ndarray):
        return contiguous_strides(data.shape)
    if data.flags.c_contiguous:
        return contiguous_strides(data.shape)
    size = data.dtype.itemsize
    return tuple(s // size for s in data.strides)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides, in elements."""
    strides, step = [], 1
    for s in reversed(shape):
        strides.append(step)
        step *= max(s, 1)
    return tuple(reversed(strides))


def root_array(data: ndarray) -> ndarray:
    """The array that owns the memory."""
    base: Any = data.base
    while hasattr(base, "base"):  # an array, or what as_strided puts between two
        if isinstance(base, ndarray):
            data = base
        base = base.base
    return data


def memory_of(array: ndarray) -> ndarray:
    """The bytes from an array's first to its last element, in the order of their addresses,
    not copied.
    """
    item = array.dtype.itemsize
    last = sum((n - 1) * s for n, s in zip(array.shape, array.strides)) // item
    raw = array.view(np.dtype((np.void, item)))  # as_strided does not know every type
    return as_strided(raw, (last + 1 if array.size else 0,), (item,)).view(np.uint8)


def copy_memory(root: ndarray) -> ndarray:
    """A copy of an owner's memory in the same layout; as bytes where the layout has gaps."""
    memory = memory_of(root)
    return root.copy(order="K") if memory.size == root.nbytes else memory.copy()


def same_place(data: ndarray, root: ndarray, copy: ndarray) -> ndarray:
    """The view of `copy`, made by copy_memory(root), that lies where `data` lies in `root`."""
    if data is root and copy.dtype is data.dtype:
        return copy
    offset = data.ctypes.data - root.ctypes.data if data.size else 0
    return np.ndarray(data.shape, data.dtype, memory_of(copy), offset, data.strides)
