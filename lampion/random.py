"""PyTorch's CPU random streams over NumPy arrays: same seed, same numbers, same state afterwards.

Imports NumPy and `errors` only. The engine is MT19937 (Matsumoto and Nishimura 1998); blocks of
float32 normals use the polynomials of Moshier's Cephes library, because PyTorch does. Samplers
fill in C order: a caller with another layout passes the shape of its memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .errors import check

Array = np.ndarray[Any, Any]
Shape = int | tuple[int, ...]

DEFAULT_SEED = 67280421310721  # a prime; what `torch.Generator()` starts from
STATE_BYTES = 5056
STATE_WORDS = 624
BLOCK = 1 << 15  # elements worked on at a time: the temporaries stay in the second-level cache

# The C struct that `torch.get_rng_state` copies out, without the fields that nothing uses.
_STATE = np.dtype(
    {
        "names": ["seed", "left", "seeded", "next", "words", "normal", "has_normal"],
        "formats": ["u8", "i4", "i4", "u8", ("u8", STATE_WORDS), "f8", "i4"],
        "offsets": [0, 8, 12, 16, 24, 5024, 5040],
        "itemsize": STATE_BYTES,
    }
)


class Generator:
    """An MT19937 stream that counts as PyTorch's CPU generator does.

    >>> Generator().manual_seed(0).words(2)
    array([2357136044, 2546248239], dtype=uint32)
    """

    def __init__(self, device: Any = "cpu") -> None:
        kind = str(device)
        check(kind == "cpu", f"[Generator] expects device cpu, got {kind}; use Generator('cpu')")
        self.device = kind
        self.next_normal: float | None = None  # second half of the last Box-Muller pair
        self._engine = np.random.MT19937(0)
        self._integers = np.random.Generator(self._engine).integers
        self.manual_seed(DEFAULT_SEED)

    def manual_seed(self, seed: int) -> Generator:
        """Restarts the stream at `seed`: its low 32 bits count, negative seeds wrap at 2**64."""
        kind = type(seed).__name__
        check(
            isinstance(seed, (int, np.integer)),
            f"[manual_seed] expects an int, got {kind} {seed!r}; pass int(seed)",
        )
        check(
            -(2**63) <= seed < 2**64,
            f"[manual_seed] expects a seed in [-2**63, 2**64), got {seed}; use fewer bits",
            ValueError,
        )
        self._seed = int(seed) % 2**64
        self.next_normal = None
        _seed_engine(self._engine, self._seed)
        return self

    def initial_seed(self) -> int:
        """The seed this stream was started from."""
        return self._seed

    def seed(self) -> int:
        """Restarts the stream at a seed from the operating system, and returns it."""
        return self.manual_seed(int.from_bytes(os.urandom(8), "little")).initial_seed()

    def words(self, count: int) -> Array:
        """The next `count` words of 32 bits, as uint32."""
        if count < 1024:  # the call with less overhead; its result is uint64
            return self._engine.random_raw(count).astype(np.uint32)
        return self._integers(0, 0xFFFFFFFF, count, np.uint32, endpoint=True)

    def long_words(self, count: int) -> Array:
        """The next `count` words of 64 bits, as uint64: two words each, the first one high."""
        words = self.words(2 * count)
        long = words[0::2].astype(np.uint64)
        long <<= np.uint64(32)
        long |= words[1::2]
        return long

    def doubles(self, count: int) -> Array:
        """The next `count` float64 numbers of [0, 1), two words each."""
        bits = self.long_words(count)
        bits &= np.uint64(2**53 - 1)
        return bits * 2.0**-53

    def skip(self, count: int) -> None:
        """Drops `count` words."""
        self._engine.random_raw(count, output=False)

    def state(self) -> Array:
        """The state as PyTorch's 5056 bytes (uint8): `torch.set_rng_state` takes them."""
        engine: Any = self._engine.state["state"]
        key, position = engine["key"], engine["pos"]
        record = np.zeros((), _STATE)
        record["seed"], record["seeded"], record["words"] = self._seed, 1, key
        record["left"], record["next"] = STATE_WORDS + 1 - position, position
        if position == STATE_WORDS:  # PyTorch writes 0 as long as nothing was drawn
            start: Any = _seed_engine(np.random.MT19937(0), self._seed).state["state"]
            record["next"] = 0 if np.array_equal(key, start["key"]) else position
        if self.next_normal is not None:
            record["normal"], record["has_normal"] = self.next_normal, 1
        return np.frombuffer(record.tobytes(), np.uint8).copy()

    def set_state_bytes(self, state: Array) -> None:
        """Takes over a state that `state()` or `torch.get_rng_state` returned."""
        kind = getattr(state, "dtype", type(state).__name__)
        check(
            isinstance(state, np.ndarray) and kind == np.uint8,
            f"[set_state] expects a uint8 array, got {kind}; pass what get_state returned",
            TypeError,
        )
        check(
            state.size == STATE_BYTES,
            f"[set_state] expects {STATE_BYTES} bytes, got {state.size}; pass a CPU state",
        )
        record = np.frombuffer(state.tobytes(), _STATE)[0]
        left, position = int(record["left"]), int(record["next"])
        position = STATE_WORDS if (left, position) == (1, 0) else position
        check(
            record["seeded"] == 1 and 1 <= position == STATE_WORDS + 1 - left,
            "[set_state] expects an MT19937 state, got bytes that are none; save the state again",
        )
        key = record["words"].astype(np.uint32)
        self._engine.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": position}}
        self._seed = int(record["seed"])
        self.next_normal = float(record["normal"]) if record["has_normal"] else None

    def clone_state(self) -> Generator:
        """A new generator that continues as this one does."""
        clone = Generator()
        clone.set_state_bytes(self.state())
        return clone


def _seed_engine(engine: np.random.MT19937, seed: int) -> np.random.MT19937:
    np.random.RandomState(engine).seed(seed % 2**32)
    return engine


default_generator = Generator()
default_generator.seed()  # as in PyTorch, a program that sets no seed differs from run to run


def manual_seed(seed: int) -> Generator:
    """Restarts the default stream at `int(seed)` and returns its generator."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Restarts the default stream at a seed from the operating system, and returns it."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed the default stream was started from."""
    return default_generator.initial_seed()


@contextmanager
def fork_rng(
    devices: Iterable[Any] | None = None, enabled: bool = True, device_type: str | None = None
) -> Iterator[None]:
    """Puts the default CPU stream back at the end of the block to where it was at its start."""
    state = default_generator.state()
    try:
        yield
    finally:
        if enabled:
            default_generator.set_state_bytes(state)


class _Float(NamedTuple):
    dtype: np.dtype[Any]
    digits: int  # bits of the significand
    largest: float
    wide: type  # what PyTorch computes in


@cache
def _float(dtype: Any) -> _Float | None:
    """Facts of a floating dtype (NumPy has no finfo of bfloat16), None of any other."""
    kind = np.dtype(dtype)
    digits, exponents = {
        "bfloat16": (8, 128), "float16": (11, 16), "float32": (24, 128), "float64": (53, 1024)
    }.get(kind.name, (0, 0))  # fmt: skip
    if not digits:
        return None
    largest = (2 - 2.0 ** (1 - digits)) * 2.0 ** (exponents - 1)
    return _Float(kind, digits, largest, np.float64 if digits == 53 else np.float32)


def _floating(operator: str, dtype: Any, error: type[Exception] = NotImplementedError) -> _Float:
    kind = _float(dtype)
    if kind is None:
        name = np.dtype(dtype).name
        raise error(f"[{operator}] expects a floating dtype, got {name}; convert to float32")
    return kind


def _narrow(values: Array, dtype: np.dtype[Any]) -> Array:
    """Casts to `dtype`; to two-byte floats by way of float32, as PyTorch's conversions go."""
    with np.errstate(over="ignore", invalid="ignore"):
        if dtype.itemsize == 2 and _float(dtype):
            values = values.astype(np.float32)
        return values.astype(dtype)


def _blocks(out: Array) -> Iterator[Array]:
    """Views of consecutive stretches of the contiguous array `out`."""
    flat = out.reshape(-1)
    return (flat[start : start + BLOCK] for start in range(0, flat.size, BLOCK))


def _fma(a: Array, b: Any, c: Any) -> Array:
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


def uniform(
    shape: Shape,
    low: float = 0.0,
    high: float = 1.0,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
) -> Array:
    """Numbers of [low, high), as `Tensor.uniform_(low, high)` draws them."""
    kind = _floating("uniform_", dtype)
    generator = generator or default_generator
    check(
        -kind.largest <= low <= high <= kind.largest and high - low <= kind.largest,
        lambda: f"[uniform_] expects {kind.dtype} bounds in order, got from={low}, to={high}; swap",
    )
    start = kind.wide(low)
    width = kind.wide(high) - start
    first, end = _narrow(np.array([low, high]), kind.dtype)
    out = np.empty(shape, kind.dtype)
    for block in _blocks(out):
        block[...] = _unit(generator, block.size, kind.wide, width, start)
        reached = block == end  # rounding can reach the bound, which is excluded
        if reached.any():
            block[reached] = first
    return out


def _unit(
    generator: Generator, count: int, dtype: type, width: Any = 1.0, start: Any = 0.0
) -> Array:
    """`u * width + start` for float32 (one word each) or float64 (two words each) u of [0, 1)."""
    if dtype is np.float64:
        values = generator.doubles(count)
        return _fma(values, width, start) if start else values * width
    bits = generator.words(count)
    bits &= 0xFFFFFF
    bits = bits.view(np.int32)  # signed integers convert faster
    scale = np.float32(width) * np.float32(2.0**-24)
    if start:
        return _fma(bits.astype(np.float32), scale, start)
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
        wide = _floating("bernoulli_", p.dtype).wide
        thresholds: Array = np.broadcast_to(p, out.shape).astype(wide).reshape(-1)
        out.reshape(-1)[...] = _unit(generator, out.size, wide) < thresholds
        return out
    # u < p compares integers; the low word matters only where the high words are equal
    high, low = divmod(math.ceil(p * 2.0**53), 2**32)
    for block in _blocks(out):
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
    form = _floating("normal_", dtype)
    check(std >= 0.0, lambda: f"[normal_] expects std >= 0, got {std}; use its absolute value")
    generator = generator or default_generator
    out = np.empty(shape, kind)
    flat = out.reshape(-1)
    if flat.size < 16 or not contiguous:
        normals = _paired_normals(generator, flat.size)
        flat[...] = _narrow(_fma(normals, std, mean) if mean else normals * std, kind)
        return out
    whole = flat.size // 16 * 16
    for block in _blocks(flat[:whole]):
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
    centre = mean if isinstance(mean, np.ndarray) else _narrow(np.array(mean), dtype)
    return (scaled + centre).astype(dtype)


def _polar(first: float, second: float) -> tuple[float, float]:
    """Box and Muller's pair of normals, with the C library's functions."""
    radius, angle = math.sqrt(-2.0 * math.log1p(-second)), 2.0 * math.pi * first
    return radius * math.cos(angle), radius * math.sin(angle)


def _paired_normals(generator: Generator, count: int) -> Array:
    """Float64 normals one after the other; an unused second half waits for the next call."""
    out = np.empty(count)
    filled = int(count > 0 and generator.next_normal is not None)
    if filled:
        out[0], generator.next_normal = generator.next_normal, None
    missing = count - filled
    first, second = generator.doubles(missing + missing % 2).reshape(-1, 2).T
    if missing <= 64:  # NumPy's vector functions may differ from the C library in the last bit
        pairs = np.array(
            [_polar(*pair) for pair in zip(first.tolist(), second.tolist(), strict=True)]
        )
    else:
        radius, angle = np.sqrt(-2.0 * np.log1p(-second)), 2.0 * math.pi * first
        pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    out[filled:] = pairs.reshape(-1)[:missing]
    if missing % 2:
        generator.next_normal = _polar(float(first[-1]), float(second[-1]))[1]
    return out


def _normals_by_16(generator: Generator, count: int, mean: float, std: float, wide: type) -> Array:
    """Normals of `wide` (float32 or float64): in each 16, 8 cosines and then 8 sines."""
    uniforms = _unit(generator, count, wide).reshape(-1, 2, 8)
    angle = wide(2 * math.pi) * uniforms[:, 1]  # (count / 16, 8)
    if wide is np.float32:
        radius = np.sqrt(np.float32(-2) * _log32(1 - uniforms[:, 0]))
        sine, cosine = _sine_and_cosine32(angle)
    else:
        radius = np.sqrt(-2 * np.log(1 - uniforms[:, 0]))
        sine, cosine = np.sin(angle), np.cos(angle)
    normals = np.stack([radius * cosine, radius * sine], axis=1).reshape(-1)
    return _fma(normals, wide(std), wide(mean))


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
        value = _fma(value, wide, coefficient)
    return value


def _log32(x: Array) -> Array:
    """log(x) of normal float32 numbers, rounded step by step as PyTorch's AVX2 kernel does."""
    bits = x.view(np.int32) + (0x3F800000 - _SQRT_HALF_BITS)
    exponent = ((bits >> 23) - 127).astype(np.float32)
    x = ((bits & 0x7FFFFF) + _SQRT_HALF_BITS).view(np.float32) - 1  # sqrt(1/2) - 1 to sqrt(2) - 1
    square = x * x
    y = _fma(_horner(x, _LOG) * x, square, exponent * _LOG_2[0]) - square * np.float32(0.5)
    return (x + y) + exponent * _LOG_2[1]


def _sine_and_cosine32(x: Array) -> tuple[Array, Array]:
    """sin(x), cos(x) of float32 numbers of [0, 2 pi], rounded as PyTorch's AVX2 kernel does."""
    octant = ((x * np.float32(4 / math.pi)).astype(np.int32) + 1) & ~1
    turns = octant.astype(np.float32)
    x = _fma(turns, _QUARTER_PI[2], x - turns * _QUARTER_PI[0] - turns * _QUARTER_PI[1])
    square = x * x
    half = square * np.float32(0.5)
    cosine = _fma(_horner(square, _COSINE) * square, square, -half) + np.float32(1)
    sine = _fma(_horner(square, _SINE) * square, x, x)
    sine_bits, cosine_bits = sine.view(np.int32), cosine.view(np.int32)
    swap = (sine_bits ^ cosine_bits) & -(octant >> 1 & 1)  # odd quarter turns exchange the two
    sine_bits ^= swap ^ ((octant & 4) << 29)
    cosine_bits ^= swap ^ ((octant + 2 & 4) << 29)
    return sine, cosine


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
        count, wide, base = _count_of(kind), kind.itemsize == 8, 0
    elif high is None and low == -(2**63):
        supported = kind == np.int64 or kind.name in ("bfloat16", "float32", "float64")
        error = RuntimeError if kind.kind == "i" or kind == np.uint8 else NotImplementedError
        check(supported, f"[random_] expects int64 for 64 bits, got {kind.name}", error)
        count, wide, base = 2**64, True, 0
    else:
        base, stop = _range_in(kind, low or 0, high)
        count, wide = stop - base, stop - base >= 2**28
    for block in _blocks(out):
        block[...] = _narrow(_remainders(generator, block.size, count, wide, base), kind)
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


def _count_of(dtype: np.dtype[Any]) -> int:
    """How many numbers `random_()` draws from."""
    form = _float(dtype)
    if form:
        return 2**form.digits + 1
    supported = dtype.kind in "bi" or dtype == np.uint8
    check(supported, f"[random_] expects a signed dtype, got {dtype.name}", NotImplementedError)
    return 2 if dtype.kind == "b" else int(np.iinfo(dtype).max) + 1


def _range_in(dtype: np.dtype[Any], low: int, high: int | None) -> tuple[int, int]:
    """Checks [low, high) and moves both inwards to where rounding to `dtype` cannot leave it."""
    form = _float(dtype)
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
        rounded = [_narrow(np.array(float(v)), dtype).item() for v in (start + 1, stop - 1)]
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
    supported = kind.kind in "if" or kind == np.uint8 or _float(kind)
    check(bool(supported), f"[randperm] does not know {kind.name}; use int64", NotImplementedError)
    fits = kind.name == "bfloat16" or n <= _count_of(kind)  # PyTorch lets bfloat16 round
    check(fits, f"[randperm] expects n that fits {kind.name}, got {n}; use int64")
    generator = generator or default_generator
    if n < (2**32 - 1) // 20:
        steps = np.arange(n)
        words = generator.words(max(n - 1, 0)).astype(np.int64)
        targets = np.append(words % (n - steps[:-1]) + steps[:-1], steps[-1:])
        return _narrow(_swapped(targets), kind)
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


def exponential(
    shape: Shape,
    rate: float = 1.0,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
) -> Array:
    """Numbers of density rate * exp(-rate * x): -log1p(-u) / rate."""
    check(rate > 0, lambda: f"[exponential_] expects lambda > 0, got {rate}; use a positive rate")
    kind, factor = _floating("exponential_", dtype, RuntimeError).dtype, -1.0 / rate
    return _from_uniforms(shape, kind, generator, lambda u: factor * np.log1p(-u))


def cauchy(
    shape: Shape,
    median: float = 0.0,
    sigma: float = 1.0,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
) -> Array:
    """Numbers of the Cauchy distribution: median + sigma * tan(pi * (u - 1/2))."""
    check(sigma > 0, lambda: f"[cauchy_] expects sigma > 0, got {sigma}; use a positive width")
    kind = _floating("cauchy_", dtype, RuntimeError).dtype
    return _from_uniforms(
        shape, kind, generator, lambda u: _fma(np.tan(math.pi * (u - 0.5)), sigma, median)
    )


def geometric(
    shape: Shape, p: float, dtype: DTypeLike = np.float32, generator: Generator | None = None
) -> Array:
    """How many trials of chance `p` it takes to succeed: ceil(log(u) / log1p(-p)), from 1 on."""
    check(0 < p < 1, lambda: f"[geometric_] expects p in (0, 1), got {p}; clip it")
    kind = np.dtype(dtype)
    supported = kind.kind in "if" or kind == np.uint8 or _float(kind)
    check(bool(supported), lambda: f"[geometric_] does not know {kind.name}", NotImplementedError)
    scale = math.log1p(-p)
    return _from_uniforms(shape, kind, generator, lambda u: np.ceil(np.log(u) / scale))


def _from_uniforms(
    shape: Shape,
    dtype: np.dtype[Any],
    generator: Generator | None,
    transform: Callable[[Array], Array],
) -> Array:
    generator = generator or default_generator
    out = np.empty(shape, dtype)
    with np.errstate(divide="ignore"):
        for block in _blocks(out):
            block[...] = _narrow(transform(generator.doubles(block.size)), dtype)
    return out


def log_normal(
    shape: Shape,
    mean: float = 1.0,
    std: float = 2.0,
    dtype: DTypeLike = np.float32,
    generator: Generator | None = None,
) -> Array:
    """exp of normal numbers, which are drawn in pairs whatever the size."""
    check(std > 0, lambda: f"[log_normal_] expects std > 0, got {std}; use a positive one")
    kind = _floating("log_normal_", dtype).dtype
    out = np.empty(shape, kind)
    for block in _blocks(out):
        normals = _paired_normals(generator or default_generator, block.size)
        with np.errstate(over="ignore"):
            numbers = np.exp(_fma(normals, std, mean))
        block[...] = _narrow(numbers, kind)
    return out


def multinomial(
    weights: Array, num_samples: int, replacement: bool = False, generator: Generator | None = None
) -> Array:
    """Indices drawn with chances proportional to `weights`: (K,) or (N, K) -> (n,) or (N, n).

    Without replacement, and for one sample: the largest weights / exponentials. Otherwise uniforms
    are looked up in the cumulative weights. Equal quotients (zero weights) go by index.
    """
    kind = _floating("multinomial", weights.dtype, RuntimeError)
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


class _SingleDraws:
    """Uniforms and normals one by one, for samplers that cannot say how many they need.

    Draws ahead of need; on leaving, moves the engine to just behind what was used.
    """

    def __init__(self, generator: Generator | None) -> None:
        self.generator = generator or default_generator
        self.used, self.ahead = 0, 64
        self.values: Iterator[float] = iter(())

    def __enter__(self) -> _SingleDraws:
        self.start = self.generator._engine.state
        return self

    def __exit__(self, *_: object) -> None:
        self.generator._engine.state = self.start
        self.generator.skip(2 * self.used)

    def uniform(self) -> float:
        value = next(self.values, None)
        if value is None:
            self.ahead = min(2 * self.ahead, BLOCK)
            self.values = iter(self.generator.doubles(self.ahead).tolist())
            value = next(self.values)
        self.used += 1
        return value

    def normal(self) -> float:
        value, self.generator.next_normal = self.generator.next_normal, None
        if value is None:
            value, self.generator.next_normal = _polar(self.uniform(), self.uniform())
        return value


def poisson(rates: Array, generator: Generator | None = None) -> Array:
    """Counts of the Poisson distribution with these rates, elementwise."""
    kind = _floating("poisson", rates.dtype).dtype
    numbers = rates.astype(np.float64).reshape(-1)
    valid = bool(np.all((numbers >= 0) & np.isfinite(numbers)))
    check(valid, "[poisson] expects finite rates >= 0, got others; clip them")
    with _SingleDraws(generator) as draws:
        counts = [_poisson(rate, draws) for rate in numbers.tolist()]
    return _narrow(np.array(counts, np.float64), kind).reshape(rates.shape)


def _poisson(rate: float, draws: _SingleDraws) -> int:
    if rate < 10:  # count the factors until a product of uniforms falls to exp(-rate)
        limit, product, count = math.exp(-rate), 1.0, 0
        while rate > 0 and (product := product * draws.uniform()) > limit:
            count += 1
        return count
    b = 0.931 + 2.53 * math.sqrt(rate)  # transformed rejection (Hoermann 1993)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    while True:
        u, v = draws.uniform() - 0.5, draws.uniform()
        edge = 0.5 - abs(u)
        if edge == 0 or v == 0:
            continue
        count = math.floor((2 * a / edge + b) * u + rate + 0.43)
        if edge >= 0.07 and v <= 0.9277 - 3.6224 / (b - 2):
            return count
        if count < 0 or (edge < 0.013 and v > edge):
            continue
        ratio = math.log(v) + math.log(inverse_alpha) - math.log(a / (edge * edge) + b)
        if ratio <= -rate + count * math.log(rate) - math.lgamma(count + 1.0):
            return count


def binomial(count: Array, prob: Array, generator: Generator | None = None) -> Array:
    """How many of `count` trials of chance `prob` succeed, elementwise."""
    dtype = np.dtype(count.dtype)
    supported = dtype.name in ("float32", "float64")
    check(supported, f"[binomial] expects float32 or float64, got {dtype}", NotImplementedError)
    check(dtype == prob.dtype, f"[binomial] expects one dtype, got {dtype} and {prob.dtype}")
    pairs = [x.reshape(-1) for x in np.broadcast_arrays(count, prob)]
    with _SingleDraws(generator) as draws:
        drawn = [_binomial(n, p, draws) for n, p in zip(*pairs, strict=True)]
    return np.array(drawn, dtype).reshape(np.broadcast_shapes(count.shape, prob.shape))


def _binomial(count: Any, chance: Any, draws: _SingleDraws) -> Any:
    """`count` and `chance` are NumPy scalars: PyTorch rounds some steps to their dtype."""
    if count <= 0 or chance <= 0:
        return 0.0
    if not chance < 1:  # 1 and more, or nan
        return count if chance >= 1 else math.nan
    if chance > 0.5:
        return count - _binomial(count, 1 - chance, draws)
    if count * chance >= 10:
        return _binomial_by_rejection(count, chance, draws)
    scale = float(type(count)(math.log1p(-chance)))
    trials, successes = 0.0, 0  # each success takes a geometric number of trials
    while (u := draws.uniform()) and (trials := trials + math.ceil(math.log(u) / scale)) <= count:
        successes += 1
    return successes


def _binomial_by_rejection(count: Any, chance: Any, draws: _SingleDraws) -> float:
    """Hoermann's BTRS (1993)."""
    n, p = float(count), float(chance)
    deviation = float(np.sqrt(count * chance * (1 - chance)))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    centre, odds = float(count * chance) + 0.5, float(chance / (1 - chance))
    alpha = (2.83 + 5.1 / b) * deviation
    mode = float(np.floor((count + 1) * chance))
    while True:
        u, v = draws.uniform() - 0.5, draws.uniform()
        edge = 0.5 - abs(u)
        if edge == 0 or v == 0:
            continue
        k = float(math.floor((2 * a / edge + b) * u + centre))
        if k < 0 or k > n:
            continue
        if edge >= 0.07 and v <= 0.92 - 4.2 / b:
            return k
        bound = (
            (mode + 0.5) * math.log((mode + 1) / (odds * (n - mode + 1)))
            + (n + 1) * math.log((n - mode + 1) / (n - k + 1))
            + (k + 0.5) * math.log(odds * (n - k + 1) / (k + 1))
            + (_stirling_tail(mode) + _stirling_tail(n - mode))
            - (_stirling_tail(k) + _stirling_tail(n - k))
        )
        if math.log(v * alpha / (a / (edge * edge) + b)) <= bound:
            return k


def _stirling_tail(k: float) -> float:
    """log(k!) minus Stirling's (k + 1/2) log(k + 1) - (k + 1) + log(2 pi) / 2."""
    if k < 10:
        return math.lgamma(k + 1) - (k + 0.5) * math.log(k + 1) + k + 1 - 0.9189385332046728
    square = (k + 1) * (k + 1)
    return (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)


def standard_gamma(alpha: Array, generator: Generator | None = None) -> Array:
    """Numbers of the Gamma distribution with shape `alpha` and rate 1, elementwise."""
    dtype = np.dtype(alpha.dtype)
    supported = dtype.name in ("float32", "float64")
    check(supported, f"[gamma] expects float32 or float64, got {dtype}", NotImplementedError)
    check(bool(np.all(alpha >= 0)), "[gamma] expects alpha >= 0, got less or nan; clip it")
    with _SingleDraws(generator) as draws:
        drawn = np.array([_gamma(a, draws) for a in alpha.reshape(-1)], np.float64)
    return np.maximum(drawn.astype(dtype), np.finfo(dtype).tiny).reshape(alpha.shape)


def _gamma(alpha: Any, draws: _SingleDraws) -> float:
    """Marsaglia and Tsang (2000). `alpha` is a NumPy scalar: PyTorch rounds some steps to it."""
    scale = 1.0
    if alpha < 1:
        if alpha == 0:
            return 0.0
        scale = (1 - draws.uniform()) ** float(1 / alpha)
        alpha = alpha + 1
    d = float(alpha - type(alpha)(np.float32(1 / 3)))
    c = 1 / math.sqrt(9 * d)
    while True:
        while (y := 1 + c * (x := draws.normal())) <= 0:
            pass
        v, u, square = y * y * y, 1 - draws.uniform(), x * x
        if u < 1 - 0.03310000151395798 * square * square:  # 0.0331 as a float32
            return scale * d * v
        if math.log(u) < 0.5 * square + d * (1 - v + math.log(v)):
            return scale * d * v


def dirichlet(alpha: Array, generator: Generator | None = None) -> Array:
    """Chances of the Dirichlet distribution, along the last dimension: gammas over their sum."""
    gammas = standard_gamma(alpha.astype(np.float64), generator)
    tiny, below_one = np.finfo(alpha.dtype).tiny, np.nextafter(alpha.dtype.type(1), 0)
    return np.clip((gammas / gammas.sum(-1, keepdims=True)).astype(alpha.dtype), tiny, below_one)
