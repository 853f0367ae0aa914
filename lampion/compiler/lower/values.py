"""What a value can be to others: a view, or a function of its index; and where views lie. May
import index, graph and ir.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..ir.node import Node
from ..trace.graph import Value, contiguous_strides
from .index import Index


class Reader(Protocol):
    """What an element is made with."""

    def read(self, value: Value, index: Index) -> Node:
        """The element of a value at an index."""

    def node(self, index: Index) -> Node:
        """An index as code."""

    def under(self, mask: Node) -> Reader:
        """A reader that reads only where the mask holds, else gives 0."""


class Alias(NamedTuple):
    """A view: its element at a position is that of `base` at offset + sum(position * stride)."""

    base: Value
    offset: int
    strides: tuple[int, ...]


class Map(NamedTuple):
    """An element by a function of its index; `cost` is about how many instructions it takes.

    reads  what is read for the element at an index, where that is known without making code
    """

    element: Callable[[Reader, Index], Node]
    cost: int
    reads: Callable[[Index], list[tuple[Value, Index]]] | None = None


# -- where views lie ---------------------------------------------------------------------------

NO_ALIAS = {"as_strided", "view_as_real", "view_as_complex"}  # of memory, or of another type


def strided_dummy(shape: Sequence[int]) -> np.ndarray:
    """An array without content, one byte per element: its strides are those of elements."""
    return as_strided(np.empty(1, np.int8), tuple(shape), contiguous_strides(shape))


def place(view: np.ndarray, base: np.ndarray) -> tuple[int, tuple[int, ...]]:
    """Where a view begins in its base, and its strides."""
    if view.size == 0:
        return 0, contiguous_strides(view.shape)
    begin = view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    strides = zip(view.strides, view.shape, contiguous_strides(view.shape), strict=True)
    return begin, tuple(c if n == 1 else s for s, n, c in strides)
