"""The engine behind PyTorch's CPU streams and the default stream. Imports `device` and `errors`.

MT19937 (Matsumoto and Nishimura 1998), with the state that PyTorch saves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from ..device import CPU
from ..errors import check

Array = np.ndarray[Any, Any]

DEFAULT_SEED = 67280421310721  # a prime; what `torch.Generator()` starts from
STATE_BYTES = 5056
STATE_WORDS = 624

# The C struct that `torch.get_rng_state` copies out, without the fields that nothing uses.
_STATE = np.dtype(
    {
        "names": ["seed", "left", "seeded", "next", "words", "normal", "has_normal"],
        "formats": ["u8", "i4", "i4", "u8", ("u8", STATE_WORDS), "f8", "i4"],
        "offsets": [0, 8, 12, 16, 24, 5024, 5040],
        "itemsize": STATE_BYTES,
    }
)


# What draws many numbers by compiled code where it pays, set by ops; False if it did not.
compiled: Callable[[str, Generator, Array, dict[str, Any]], bool] | None = None


def drawn(operator: str, generator: Generator, out: Array, **params: Any) -> bool:
    """Whether compiled code has filled the contiguous array with the numbers of an operator."""
    return compiled is not None and compiled(operator, generator, out, params)


class Generator:
    """An MT19937 stream that counts as PyTorch's CPU generator does.

    >>> Generator().manual_seed(0).words(2)
    array([2357136044, 2546248239], dtype=uint32)
    """

    def __init__(self, device: Any = "cpu") -> None:
        kind = str(device)
        check(kind == "cpu", f"[Generator] expects device cpu, got {kind}; use Generator('cpu')")
        self.device = CPU
        self.next_normal: float | None = None  # second half of the last Box-Muller pair
        self.manual_seed(DEFAULT_SEED)

    @cached_property
    def _engine(self) -> np.random.MT19937:
        """Made at the first draw: to import NumPy's engines takes a sixth of all of Lampion."""
        return _seed_engine(np.random.MT19937(0), self._seed)

    @cached_property
    def _integers(self) -> Callable[..., Array]:
        return np.random.Generator(self._engine).integers

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
        if "_engine" in self.__dict__:
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
        out = np.empty(count, np.uint32)
        if drawn("draw_words", self, out):
            return out
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
