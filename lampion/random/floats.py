"""Floating-point facts and steps that all draws share: dtypes, rounding, fused multiply-add.

Imports NumPy and `errors` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Shape = int | tuple[int, ...]

BLOCK = 1 << 15  # elements worked on at a time: the temporaries stay in the second-level cache


class Float(NamedTuple):
    """What drawing needs to know of a floating dtype."""

    dtype: np.dtype[Any]
    digits: int  # bits of the significand
    largest: float
    wide: type  # what PyTorch computes in


@cache
def facts(dtype: Any) -> Float | None:
    """Facts of a floating dtype (NumPy has no finfo of bfloat16), None of any other."""
    kind = np.dtype(dtype)
    digits, exponents = {
        "bfloat16": (8, 128), "float16": (11, 16), "float32": (24, 128), "float64": (53, 1024)
    }.get(kind.name, (0, 0))  # fmt: skip
    if not digits:
        return None
    largest = (2 - 2.0 ** (1 - digits)) * 2.0 ** (exponents - 1)
    return Float(kind, digits, largest, np.float64 if digits == 53 else np.float32)


def floating(operator: str, dtype: Any, error: type[Exception] = NotImplementedError) -> Float:
    """The facts of a floating dtype; raises the error for any other."""
    kind = facts(dtype)
    if kind is None:
        name = np.dtype(dtype).name
        raise error(f"[{operator}] expects a floating dtype, got {name}; convert to float32")
    return kind


def narrow(values: Array, dtype: np.dtype[Any]) -> Array:
    """Casts to `dtype`; to two-byte floats by way of float32, as PyTorch's conversions go."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.itemsize == 2 and facts(dtype):
            values = values.astype(np.float32)
        return values.astype(dtype)


def blocks(out: Array) -> Iterator[Array]:
    """Views of consecutive stretches of the contiguous array `out`."""
    flat = out.reshape(-1)
    return (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))


def fma(a: Array, b: Any, c: Any) -> Array:
    """`a * b + c` rounded once, as the fused instruction in PyTorch's kernels does it."""
    if a.dtype == np.float32:
        total = a.astype(np.float64)
        total *= b  # exact: two times 24 bits
        total += c
        return total.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # Dekker's product and Knuth's sum
        product, b = a * b, np.float64(b)
        a_high = a * 134217729.0 - (a * 134217729.0 - a)
        b_high = b * 134217729.0 - (b * 134217729.0 - b)
        a_low, b_low = a - a_high, b - b_high
        error = a_low * b_low - (product - a_high * b_high - a_low * b_high - a_high * b_low)
        total = product + c
        part = total - product
        error += (product - (total - part)) + (c - part)
        return np.where(np.isfinite(error), total + error, total)
