"""Draws made of uniform numbers: uniform, bernoulli, exponential, cauchy, geometric, multinomial.

Imports NumPy, `errors` and this package's earlier files. Samplers fill in C order: a caller with
another layout passes the shape of its memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import check
from .floats import Array, Shape, blocks, facts, floating, fma, narrow
from .generator import Generator, default_generator, drawn


def uniform(
    shape: Shape,
    low: float = 0.0,
    high: float = 1.0,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
) -> Array:
    """Numbers of [low, high), as `Tensor.uniform_(low, high)` draws them."""
    kind = floating("uniform_", dtype)
    generator = generator or default_generator
    check(
        -kind.largest <= low <= high <= kind.largest and high - low <= kind.largest,
        lambda: f"[uniform_] expects {kind.dtype} bounds in order, got from={low}, to={high}; swap",
    )
    out = np.empty(shape, kind.dtype)
    if drawn("draw_uniform", generator, out, low=low, high=high):
        return out
    start = kind.wide(low)
    width = kind.wide(high) - start
    first, end = narrow(np.array([low, high]), kind.dtype)
    for block in blocks(out):
        block[...] = unit(generator, block.size, kind.wide, width, start)
        reached = block == end  # rounding can reach the bound, which is excluded
        if reached.any():
            block[reached] = first
    return out


def unit(
    generator: Generator, count: int, dtype: type, width: Any = 1.0, start: Any = 0.0
) -> Array:
    """`u * width + start` for float32 (one word each) or float64 (two words each) u of [0, 1)."""
    if dtype is np.float64:
        values = generator.doubles(count)
        return fma(values, width, start) if start else values * width
    return uniforms_of(generator.words(count), width, start)


def uniforms_of(bits: Array, width: Any = 1.0, start: Any = 0.0) -> Array:
    """`u * width + start` for float32 u of [0, 1), one of each word, which are used up."""
    bits &= 0xFFFFFF
    bits = bits.view(np.int32)  # signed integers convert faster
    scale = np.float32(width) * np.float32(2.0**-24)
    if start:
        return fma(bits.astype(np.float32), scale, start)
    return np.multiply(bits, scale, dtype=np.float32, casting="unsafe")


def bernoulli(
    shape: Shape,
    p: float | Array,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
) -> Array:
    """1 with probability `p`, else 0: `bernoulli_(p)` for a number or an array of numbers `p`.

    A number and float64 arrays are compared with 53-bit uniforms, other arrays with 24-bit ones.
    """
    generator = generator or default_generator
    valid = np.logical_and(p >= 0, p <= 1)
    check(bool(valid.all()), lambda: f"[bernoulli_] expects p in [0, 1], got {p}; clip it")
    out = np.empty(shape, dtype)
    if isinstance(p, np.ndarray):
        wide = floating("bernoulli_", p.dtype).wide
        thresholds: Array = np.broadcast_to(p, out.shape).astype(wide).reshape(-1)
        out.reshape(-1)[...] = unit(generator, out.size, wide) < thresholds
        return out
    if drawn("draw_bernoulli", generator, out, p=p):
        return out
    # u < p compares integers; the low word matters only where the high words are equal
    high, low = divmod(math.ceil(p * 2.0**53), 2**32)
    for block in blocks(out):
        words = generator.words(2 * block.size)
        upper = words[0::2] & np.uint32(0x1FFFFF)
        np.less(upper, np.uint32(high), out=block, casting="unsafe")
        equal = np.flatnonzero(upper == high)
        block[equal] = words[1::2][equal] < low
    return out


def dropout_mask(
    shape: Shape, p: float, dtype: DTypeLike = np.bool_, generator: Generator | None = None
) -> Array:
    """What `dropout(p)` keeps: 1 with probability 1 - p. p = 0 and p = 1 draw nothing."""
    if p == 0 or p == 1:
        return np.full(shape, 1 - p, dtype)
    return bernoulli(shape, 1.0 - p, dtype, generator)


def exponential(
    shape: Shape,
    rate: float = 1.0,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
) -> Array:
    """Numbers of density rate * exp(-rate * x): -log1p(-u) / rate."""
    check(rate > 0, lambda: f"[exponential_] expects lambda > 0, got {rate}; use a positive rate")
    kind, factor = floating("exponential_", dtype, RuntimeError).dtype, -1.0 / rate
    return from_uniforms(shape, kind, generator, lambda u: factor * np.log1p(-u))


def cauchy(
    shape: Shape,
    median: float = 0.0,
    sigma: float = 1.0,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
) -> Array:
    """Numbers of the Cauchy distribution: median + sigma * tan(pi * (u - 1/2))."""
    check(sigma > 0, lambda: f"[cauchy_] expects sigma > 0, got {sigma}; use a positive width")
    kind = floating("cauchy_", dtype, RuntimeError).dtype
    return from_uniforms(
        shape, kind, generator, lambda u: fma(np.tan(math.pi * (u - 0.5)), sigma, median)
    )


def geometric(
    shape: Shape, p: float, dtype: DTypeLike = np.float32, generator: Generator | None = None
) -> Array:
    """How many trials of chance `p` it takes to succeed: ceil(log(u) / log1p(-p)), from 1 on."""
    check(0 < p < 1, lambda: f"[geometric_] expects p in (0, 1), got {p}; clip it")
    kind = np.dtype(dtype)
    supported = kind.kind in "if" or kind == np.uint8 or facts(kind)
    check(bool(supported), lambda: f"[geometric_] does not know {kind.name}", NotImplementedError)
    scale = math.log1p(-p)
    return from_uniforms(shape, kind, generator, lambda u: np.ceil(np.log(u) / scale))


def from_uniforms(
    shape: Shape,
    dtype: np.dtype[Any],
    generator: Generator | None,
    transform: Callable[[Array], Array],
) -> Array:
    """A function of float64 uniform numbers, one for each element."""
    generator = generator or default_generator
    out = np.empty(shape, dtype)
    with np.errstate(divide="ignore"):
        for block in blocks(out):
            block[...] = narrow(transform(generator.doubles(block.size)), dtype)
    return out


def multinomial(
    weights: Array, num_samples: int, replacement: bool = False, generator: Generator | None = None
) -> Array:
    """Indices drawn with chances proportional to `weights`: (K,) or (N, K) -> (n,) or (N, n).

    Without replacement, and for one sample: the largest weights / exponentials. Otherwise uniforms
    are looked up in the cumulative weights. Equal quotients (zero weights) go by index.
    """
    kind = floating("multinomial", weights.dtype, RuntimeError)
    check(weights.ndim in (1, 2), f"[multinomial] expects 1 or 2 dimensions, got {weights.ndim}")
    check(num_samples > 0, f"[multinomial] expects num_samples > 0, got {num_samples}")
    check(
        replacement or num_samples <= weights.shape[-1],
        f"[multinomial] expects at most {weights.shape[-1]} samples without replacement, got "
        f"{num_samples}; set replacement=True",
    )
    if weights.size == 0:
        return np.empty((*weights.shape[:-1], num_samples), np.int64)
    wide: Array = weights.astype(kind.wide)
    check(
        bool(np.all((wide >= 0) & (wide <= kind.largest)) and np.all(wide.sum(-1) > 0)),
        "[multinomial] expects finite weights >= 0 with a positive sum, got others; check them",
    )
    generator = generator or default_generator
    if replacement and num_samples > 1:
        rows = np.atleast_2d(wide)
        chances = np.cumsum(rows, axis=1)
        chances /= chances[:, -1:]
        uniforms = generator.doubles(len(rows) * num_samples).reshape(len(rows), num_samples)
        found = [
            np.searchsorted(row[:-1], draw) for row, draw in zip(chances, uniforms, strict=True)
        ]
        return np.array(found).reshape(*weights.shape[:-1], num_samples)
    turned = weights.ndim == 2 and abs(weights.strides[0]) < abs(weights.strides[1])
    shape = weights.shape[::-1] if turned else weights.shape  # exponentials go in memory order
    drawn = exponential(shape, 1.0, kind.dtype, generator)
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = weights / (drawn.T if turned else drawn)
    if num_samples == 1:
        return quotients.argmax(-1, keepdims=True)
    return np.argsort(-quotients, axis=-1, kind="stable")[..., :num_samples]
