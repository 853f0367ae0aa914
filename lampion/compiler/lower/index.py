"""Where an element is: sums of loop counters, kept as numbers until a load needs them. May import
ir and graph.

An index is a count into a value's elements in row order. Views, broadcasts and reshapes map one
index to another by arithmetic on coefficients, so most of them cost nothing in a kernel; only where
a reshape cuts across a loop, a division is left in the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ..ir.node import Node, constant
from ..trace.graph import contiguous_strides


class Counter(NamedTuple):
    """An integer that runs through 0 ... size - 1, e.g. a loop's counter or a loaded index."""

    node: Node
    size: int


class Index(NamedTuple):
    """constant + sum(coefficient * counter), all coefficients but 0, counters in a fixed order."""

    terms: tuple[tuple[Counter, int], ...] = ()
    constant: int = 0

    def largest(self) -> int:
        """The largest value; all coefficients must be positive."""
        return self.constant + sum(f * (c.size - 1) for c, f in self.terms)

    def __mul__(self, factor: object) -> Index:
        """The index times a whole number."""
        assert isinstance(factor, int)
        if factor == 0:
            return Index()
        return Index(tuple((c, f * factor) for c, f in self.terms), self.constant * factor)

    def shifted(self, by: int) -> Index:
        """The index plus a number."""
        return Index(self.terms, self.constant + by)


ToNode = Callable[[Index], Node]


def total(parts: Iterable[Index]) -> Index:
    """The sum of indices."""
    terms: dict[Counter, int] = {}
    offset = 0
    for part in parts:
        offset += part.constant
        for counter, factor in part.terms:
            terms[counter] = terms.get(counter, 0) + factor
    return Index(tuple((c, f) for c, f in terms.items() if f), offset)


def as_node(index: Index) -> Node:
    """The index as code."""
    result: Node | None = None
    for counter, factor in index.terms:
        term = counter.node if factor == 1 else counter.node * factor
        result = term if result is None else result + term
    if result is None:
        return constant(index.constant, "i64")
    return result + index.constant if index.constant else result


def ascending(index: Index, node: ToNode = as_node) -> Index:
    """The same index with positive coefficients: a counter that runs down is n - 1 - counter."""
    if all(f > 0 for _, f in index.terms):
        return index
    terms, offset = [], index.constant
    for counter, factor in index.terms:
        if factor < 0:
            offset += factor * (counter.size - 1)
            down = Index(((counter, -1),), counter.size - 1)
            counter, factor = Counter(node(down), counter.size), -factor
        terms.append((counter, factor))
    return Index(tuple(terms), offset)


def exact_digits(index: Index, shape: Sequence[int]) -> list[Index] | None:
    """The digits of an index if the counters fall apart along the dimensions, else None."""
    digits: list[Index] = []
    terms, offset = list(index.terms), index.constant
    for size, stride in zip(shape, contiguous_strides(shape)):
        if size == 1:
            digits.append(Index())
            continue
        taken = tuple((c, f // stride) for c, f in terms if f % stride == 0)
        terms = [(c, f) for c, f in terms if f % stride]
        digit = Index(taken, offset // stride)
        offset %= stride
        if Index(tuple(terms), offset).largest() >= stride or digit.largest() >= size:
            return None
        digits.append(digit)
    return digits if not terms and not offset else None


def digits(index: Index, shape: Sequence[int], node: ToNode = as_node) -> list[Index]:
    """The position in each dimension of the element that an index counts.

    >>> digits(Index((), 7), (2, 4))
    [Index(terms=(), constant=1), Index(terms=(), constant=3)]
    """
    index = ascending(index, node)
    exact = exact_digits(index, shape)
    if exact is not None:
        return exact
    whole, result = node(index), []
    for size, stride in zip(shape, contiguous_strides(shape)):
        digit = whole if stride == 1 else whole // stride
        digit = digit if stride * size > index.largest() else digit % size
        result.append(Index(((Counter(digit, size), 1),)) if size > 1 else Index())
    return result


def count(positions: Sequence[Index], strides: Sequence[int], offset: int = 0) -> Index:
    """The element at a position: offset + sum(position * stride)."""
    return total(p * s for p, s in zip(positions, strides, strict=True)).shifted(offset)


def broadcast(
    index: Index, shape: Sequence[int], source: Sequence[int], node: ToNode = as_node
) -> Index:
    """The index into a value of shape `source` that is repeated to `shape`."""
    if tuple(shape) == tuple(source):
        return index
    if all(n == 1 for n in source):
        return Index()
    padded = (*(1 for _ in range(len(shape) - len(source))), *source)
    sizes, repeats = list[int](), list[bool]()  # neighbours that are both repeated, or both not
    for size, own in zip(shape, padded, strict=True):
        if size == 1:
            continue
        if repeats and repeats[-1] == (own == 1):
            sizes[-1] *= size
        else:
            sizes.append(size)
            repeats.append(own == 1)
    inside = contiguous_strides([1 if r else n for n, r in zip(sizes, repeats, strict=True)])
    strides = [0 if r else s for s, r in zip(inside, repeats, strict=True)]
    return count(digits(index, sizes, node), strides)
