"""Normal and log-normal numbers. Imports NumPy, `errors` and this package's earlier files.

Blocks of float32 normals use the polynomials of Moshier's Cephes library, because PyTorch does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import check
from .floats import Array, Shape, blocks, floating, fma, narrow
from .generator import Generator, default_generator, drawn
from .uniforms import uniforms_of, unit


def normal(
    shape: Shape,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
    contiguous: bool = True,
) -> Array:
    """Normal numbers, as `normal_(mean, std)` fills a tensor.

    PyTorch turns whole blocks of 16 uniforms into normals, the last 16 anew when the size is no
    multiple of 16. Fewer than 16 elements, and tensors that are not contiguous, take pairs.
    """
    kind = np.dtype(dtype)
    if kind.kind == "c":  # half of the variance for each part
        parts = (shape, 2) if isinstance(shape, int) else (*shape, 2)
        real = np.empty(0, kind).real.dtype
        return normal(parts, mean, std / math.sqrt(2), real, generator).view(kind)[..., 0]
    form = floating("normal_", dtype)
    check(std >= 0.0, lambda: f"[normal_] expects std >= 0, got {std}; use its absolute value")
    generator = generator or default_generator
    out = np.empty(shape, kind)
    flat = out.reshape(-1)
    if flat.size < 16 or not contiguous:
        normals = paired_normals(generator, flat.size)
        flat[...] = narrow(fma(normals, std, mean) if mean else normals * std, kind)
        return out
    if drawn("draw_normal", generator, flat, mean=mean, std=std, contiguous=True):
        return out
    whole = flat.size // 16 * 16
    for block in blocks(flat[:whole]):
        block[...] = _normals_by_16(generator, block.size, mean, std, form.wide)
    if whole < flat.size:
        generator.skip((flat.size - whole) * {8: 2, 4: 1, 2: 0}[kind.itemsize])
        flat[-16:] = _normals_by_16(generator, 16, mean, std, form.wide)
    return out


def normal_of(mean: Any, std: Any, generator: Generator | None = None) -> Array:
    """`torch.normal(mean, std)` where one or both are arrays, which broadcast."""
    check(bool(np.all(np.asarray(std) >= 0)), "[normal] expects std >= 0, got less; use abs(std)")
    shape = np.broadcast_shapes(np.shape(mean), np.shape(std))
    dtype = (mean if isinstance(mean, np.ndarray) else std).dtype
    if not isinstance(std, np.ndarray):
        return normal(shape, 0.0, std, dtype, generator) + mean
    scaled = (normal(shape, 0.0, 1.0, dtype, generator) * std).astype(dtype)
    centre = mean if isinstance(mean, np.ndarray) else narrow(np.array(mean), dtype)
    return (scaled + centre).astype(dtype)


def polar(first: float, second: float) -> tuple[float, float]:
    """Box and Muller's pair of normals, with the C library's functions."""
    radius, angle = math.sqrt(-2.0 * math.log1p(-second)), 2.0 * math.pi * first
    return radius * math.cos(angle), radius * math.sin(angle)


def paired_normals(generator: Generator, count: int) -> Array:
    """Float64 normals one after the other; an unused second half waits for the next call."""
    out = np.empty(count)
    filled = int(count > 0 and generator.next_normal is not None)
    if filled:
        out[0], generator.next_normal = generator.next_normal, None
    missing = count - filled
    first, second = generator.doubles(missing + missing % 2).reshape(-1, 2).T
    if missing <= 64:  # NumPy's vector functions may differ from the C library in the last bit
        pairs = np.array(
            [polar(*pair) for pair in zip(first.tolist(), second.tolist(), strict=True)]
        )
    else:
        radius, angle = np.sqrt(-2.0 * np.log1p(-second)), 2.0 * math.pi * first
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    out[filled:] = pairs.reshape(-1)[:missing]
    if missing % 2:
        generator.next_normal = polar(float(first[-1]), float(second[-1]))[1]
    return out


# What turns words into float32 normals where it pays, set by ops; False if it did not.
compiled: Callable[[Array, Array, float, float], bool] | None = None


def _normals_by_16(generator: Generator, count: int, mean: float, std: float, wide: type) -> Array:
    """Normals of `wide` (float32 or float64): in each 16, 8 cosines and then 8 sines."""
    if compiled is not None and wide is np.float32:
        words, out = generator.words(count), np.empty(count, np.float32)
        if compiled(words, out, mean, std):
            return out
        return _normals_of(uniforms_of(words), mean, std, wide)
    return _normals_of(unit(generator, count, wide), mean, std, wide)


def _normals_of(uniforms: Array, mean: float, std: float, wide: type) -> Array:
    """Normals made of numbers in [0, 1)."""
    uniforms = uniforms.reshape(-1, 2, 8)
    angle = wide(2 * math.pi) * uniforms[:, 1]  # (count / 16, 8)
    if wide is np.float32:
        radius = np.sqrt(np.float32(-2) * _log32(1 - uniforms[:, 0]))
        sine, cosine = _sine_and_cosine32(angle)
    else:
        radius = np.sqrt(-2 * np.log(1 - uniforms[:, 0]))
        sine, cosine = np.sin(angle), np.cos(angle)
    normals = np.stack([radius * cosine, radius * sine], axis=1).reshape(-1)
    return fma(normals, wide(std), wide(mean))


def log_normal(
    shape: Shape,
    mean: float = 1.0,
    std: float = 2.0,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
) -> Array:
    """exp of normal numbers, which are drawn in pairs whatever the size."""
    check(std > 0, lambda: f"[log_normal_] expects std > 0, got {std}; use a positive one")
    kind = floating("log_normal_", dtype).dtype
    out = np.empty(shape, kind)
    for block in blocks(out):
        normals = paired_normals(generator or default_generator, block.size)
        with np.errstate(over="ignore"):
            numbers = np.exp(fma(normals, std, mean))
        block[...] = narrow(numbers, kind)
    return out


_SQRT_HALF_BITS = 0x3F3504F3
_LOG = np.array([7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1,
                 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1,
                 3.3333331174e-1], np.float32)  # fmt: skip
_LOG_2 = np.array([-2.12194440e-4, 0.693359375], np.float32)
_COSINE = np.array([2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2], np.float32)
_SINE = np.array([-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1], np.float32)
_QUARTER_PI = np.array([0.78515625, 2.4187564849853515625e-4, -3.77489497744594e-8], np.float32)


def _horner(x: Array, coefficients: Array) -> Array:
    wide = x.astype(np.float64)
    value = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = fma(value, wide, coefficient)
    return value


def _log32(x: Array) -> Array:
    """log(x) of normal float32 numbers, rounded step by step as PyTorch's AVX2 kernel does."""
    bits = x.view(np.int32) + (0x3F800000 - _SQRT_HALF_BITS)
    exponent = ((bits >> 23) - 127).astype(np.float32)
    x = ((bits & 0x7FFFFF) + _SQRT_HALF_BITS).view(np.float32) - 1  # sqrt(1/2) - 1 to sqrt(2) - 1
    square = x * x
    y = fma(_horner(x, _LOG) * x, square, exponent * _LOG_2[0]) - square * np.float32(0.5)
    return (x + y) + exponent * _LOG_2[1]


def _sine_and_cosine32(x: Array) -> tuple[Array, Array]:
    """sin(x), cos(x) of float32 numbers of [0, 2 pi], rounded as PyTorch's AVX2 kernel does."""
    octant = ((x * np.float32(4 / math.pi)).astype(np.int32) + 1) & ~1
    turns = octant.astype(np.float32)
    x = fma(turns, _QUARTER_PI[2], x - turns * _QUARTER_PI[0] - turns * _QUARTER_PI[1])
    square = x * x
    half = square * np.float32(0.5)
    cosine = fma(_horner(square, _COSINE) * square, square, -half) + np.float32(1)
    sine = fma(_horner(square, _SINE) * square, x, x)
    sine_bits, cosine_bits = sine.view(np.int32), cosine.view(np.int32)
    swap = (sine_bits ^ cosine_bits) & -(octant >> 1 & 1)  # odd quarter turns exchange the two
    sine_bits ^= swap ^ ((octant & 4) << 29)
    cosine_bits ^= swap ^ ((octant + 2 & 4) << 29)
    return sine, cosine
