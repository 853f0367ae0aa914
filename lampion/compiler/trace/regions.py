"""Memory as a trace sees it: regions, and the values that views of them have. Imports graph, core.

A region is a piece of memory that a tensor showed first: its base. Another tensor on it is known by
its geometry (address, shape, strides, type) and by the operator that makes it of a tensor that was
known before. A write counts the region's epoch on; a value of an earlier epoch is made again from
the base's when it is asked for. After the functionalisation of PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from weakref import ref

import numpy as np
from numpy import ndarray

from ...core.memory import root_array, strides_of
from ...core.op import Op
from ...layout import Order, order_of
from .graph import Value


def geometry(data: ndarray) -> tuple:
    """Where an array's elements are: equal for arrays that show the same elements."""
    address = data.__array_interface__["data"][0]
    return address, data.shape, data.strides, data.dtype.name


def interval(data: ndarray) -> tuple[int, int]:
    """The addresses of an array's first byte and of the one after its last."""
    low = high = data.__array_interface__["data"][0]
    for n, stride in zip(data.shape, data.strides):
        if stride > 0:
            high += (n - 1) * stride
        else:
            low += (n - 1) * stride
    return (low, high + data.itemsize) if data.size else (low, low)


class Like(NamedTuple):
    """How an array is laid out; strides in elements, `order` that of its dimensions in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype
    strides: tuple[int, ...]
    order: Order

    @classmethod
    def of(cls, data: ndarray) -> Like:
        return cls(data.shape, data.dtype, strides_of(data), order_of(data))


class Region:
    """A piece of memory, the value of its base and of views of it.

    kind     "argument", "state", "number" or "constant" as its input's role, else "made"
    input    the number of that input, -1 for memory that the call makes
    values   by geometry: (value, the epoch it belongs to)
    recipes  by geometry: (the parent's geometry, operator, parameters, the view's layout)
    """

    def __init__(self, data: ndarray, value: Value, kind: str, number: int) -> None:
        self.kind, self.input = kind, number
        self.base = geometry(data)
        self.low, self.high = interval(data)
        self.epoch = 0
        self.values: dict[tuple, tuple[Value, int]] = {self.base: (value, 0)}
        self.recipes: dict[tuple, tuple[tuple, Op, dict, Like]] = {}
        self.example = Like.of(data)

    def spans(self, data: ndarray) -> bool:
        """Whether an array lies inside."""
        low, high = interval(data)
        return self.low <= low and high <= self.high

    def learn(self, view: ndarray, parent: ndarray, op: Op, params: dict) -> None:
        """Notes how a view is made of a tensor that is known."""
        g, of = geometry(view), geometry(parent)
        known = of == self.base or of in self.recipes
        if known and g != self.base and g != of and g not in self.recipes:
            self.recipes[g] = (of, op, params, Like.of(view))

    def base_value(self) -> Value:
        """The base's present value."""
        return self.values[self.base][0]

    def replace(self, value: Value) -> None:
        """The base takes a new value."""
        self.epoch += 1
        self.values[self.base] = (value, self.epoch)

    def chain(self, g: tuple) -> tuple[tuple[Op, dict], ...]:
        """The operators that lead from the base to a view."""
        steps: list[tuple[Op, dict]] = []
        while g != self.base:
            g, op, params, _ = self.recipes[g]
            steps.append((op, params))
        return tuple(reversed(steps))


class Regions:
    """All regions, found by the array that owns their memory. None of it is kept alive."""

    def __init__(self) -> None:
        self.owners: dict[int, tuple[ref, list[Region]]] = {}

    def __iter__(self) -> Iterator[Region]:
        for _, regions in self.owners.values():
            yield from regions

    def of(self, data: ndarray) -> list[Region]:
        """The regions in the memory that an array shows."""
        root = root_array(data)
        found = self.owners.get(id(root))
        return found[1] if found is not None and found[0]() is root else []

    def find(self, data: ndarray) -> Region | None:
        """The region that an array shows, or shows a part of."""
        regions = self.of(data)
        if not regions:
            return None
        g = geometry(data)
        for region in regions:
            if g in region.values or g in region.recipes:
                return region
        return next((r for r in regions if r.spans(data)), None)

    def add(self, data: ndarray, value: Value, kind: str, number: int) -> Region:
        """A new region, whose base is the array."""
        root = root_array(data)
        found = self.owners.get(id(root))
        if found is None or found[0]() is not root:
            found = self.owners[id(root)] = (ref(root), [])
        region = Region(data, value, kind, number)
        found[1].append(region)
        return region
