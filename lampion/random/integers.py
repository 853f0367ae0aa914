"""Whole numbers of a range, and random orders. Imports NumPy, `errors` and earlier files."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import check
from .floats import BLOCK, Array, Shape, blocks, facts, narrow
from .generator import Generator, default_generator


def randint(
    shape: Shape,
    low: int | None = None,
    high: int | None = None,
    dtype: DTypeLike = np.int64,
    generator: Generator | None = None,
) -> Array:
    """Whole numbers of [low, high), as `Tensor.random_(low, high)` draws them.

    Without `high`, to the largest number of an integer dtype and to 2**digits of a floating one.
    Without both, the numbers of `random_()`: from 0. `low=-2**63` alone: all 64 bits.
    """
    kind = np.dtype(dtype)
    generator = generator or default_generator
    out = np.empty(shape, kind)
    if low is None and high is None:
        count, wide, base = count_of(kind), kind.itemsize == 8, 0
    elif high is None and low == -(2**63):
        supported = kind == np.int64 or kind.name in ("bfloat16", "float32", "float64")
        error = RuntimeError if kind.kind == "i" or kind == np.uint8 else NotImplementedError
        check(supported, f"[random_] expects int64 for 64 bits, got {kind.name}", error)
        count, wide, base = 2**64, True, 0
    else:
        base, stop = _range_in(kind, low or 0, high)
        count, wide = stop - base, stop - base >= 2**28
    for block in blocks(out):
        block[...] = narrow(_remainders(generator, block.size, count, wide, base), kind)
    return out


def _remainders(generator: Generator, size: int, count: int, wide: bool, base: int) -> Array:
    """`base + word % count` in int64, from 64-bit words if `wide`."""
    words = generator.long_words(size) if wide else generator.words(size)
    if count < 2**64:
        quotients = words // words.dtype.type(count)  # SIMD, unlike the remainder
        quotients *= words.dtype.type(count)
        words -= quotients
    values = words.view(np.int64) if wide else words.astype(np.int64)
    values += np.int64(base)
    return values


def count_of(dtype: np.dtype[Any]) -> int:
    """How many numbers `random_()` draws from."""
    form = facts(dtype)
    if form:
        return 2**form.digits + 1
    supported = dtype.kind in "bi" or dtype == np.uint8
    check(supported, f"[random_] expects a signed dtype, got {dtype.name}", NotImplementedError)
    return 2 if dtype.kind == "b" else int(np.iinfo(dtype).max) + 1


def _range_in(dtype: np.dtype[Any], low: int, high: int | None) -> tuple[int, int]:
    """Checks [low, high) and moves both inwards to where rounding to `dtype` cannot leave it."""
    form = facts(dtype)
    if form:
        bounds, top = (-form.largest, form.largest), 2**form.digits + 1
    elif dtype.kind == "b":
        bounds, top = (0, 1), 2
    else:
        bounds = (int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), 2**63 - 1))
        top = int(np.iinfo(dtype).max) + 1
    start, stop = low, top if high is None else high
    check(start < stop, f"[random_] expects from < to, got from={low}, to={stop}; swap them")
    if form:
        rounded = [narrow(np.array(float(v)), dtype).item() for v in (start + 1, stop - 1)]
        if -(2**63) <= rounded[0] < start:
            start = int(rounded[0]) + 2 ** (abs(start + 1).bit_length() - form.digits)
        if high is not None and stop <= rounded[1] < 2**63:
            stop = int(rounded[1]) - 2 ** (abs(stop - 1).bit_length() - form.digits)
    check(
        bounds[0] <= start < stop <= bounds[1] + 1,
        f"[random_] expects bounds within {dtype.name}, got from={low}, to={high}; narrow them",
    )
    return start, stop


def randperm(n: int, dtype: DTypeLike = np.int64, generator: Generator | None = None) -> Array:
    """A random order of 0 ... n - 1: step i swaps entry i with entry i + word % (n - i)."""
    kind = np.dtype(dtype)
    check(n >= 0, f"[randperm] expects n >= 0, got {n}; pass a count")
    supported = kind.kind in "if" or kind == np.uint8 or facts(kind)
    check(bool(supported), f"[randperm] does not know {kind.name}; use int64", NotImplementedError)
    fits = kind.name == "bfloat16" or n <= count_of(kind)  # PyTorch lets bfloat16 round
    check(fits, f"[randperm] expects n that fits {kind.name}, got {n}; use int64")
    generator = generator or default_generator
    if n < (2**32 - 1) // 20:
        steps = np.arange(n)
        words = generator.words(max(n - 1, 0)).astype(np.int64)
        targets = np.append(words % (n - steps[:-1]) + steps[:-1], steps[-1:])
        return narrow(_swapped(targets), kind)
    out = np.empty(n, kind)  # 32 bits would favour some orders: built from the front with 64
    for start in range(0, n, BLOCK):
        counts = np.arange(start + 1, min(start + BLOCK, n) + 1, dtype=np.uint64)
        places = generator.long_words(counts.size) % counts
        for step, place in enumerate(places.tolist(), start):
            out[step] = out[place] if place < step else step
            out[place] = step
    return out


def _swapped(targets: Array) -> Array:
    """0 ... n - 1 after swapping entries i and targets[i] >= i for i = 0, 1, ... - without a loop.

    Step i moves what entry i holds (`held`) to entry targets[i]; entry i is never touched again.
    An entry holds its own number until the first step that targets it, then what that step moved.
    """
    steps = np.arange(targets.size)
    bits = int(targets.size).bit_length()
    keys = np.sort(targets << bits | steps)  # by target, then by step
    place, step = keys >> bits, keys & ((1 << bits) - 1)
    repeated = np.flatnonzero(place[1:] == place[:-1])
    previous = np.full(targets.size, -1)  # the last step before i with the same target
    previous[step[repeated + 1]] = step[repeated]
    last = np.full(targets.size, -1)  # the last step with target i: i itself, or earlier
    last[place] = step
    source = np.where(last == steps, previous, last)
    held = np.where(source < 0, steps, source)
    while not np.array_equal(held, jumped := held[held]):  # follow the chain of moves to its start
        held = jumped
    moved = np.where(previous < 0, targets, held[previous])
    return np.where(targets == steps, held, moved)
