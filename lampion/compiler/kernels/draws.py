"""Random numbers as stages of a program: PyTorch's stream, sixteen words at a time. Imports emit,
stages, runtime, calls.normals and random.

The state is the one that NumPy's engine holds (MT19937, Matsumoto and Nishimura 1998), at its
address: who runs such a stage holds the engine's lock. Its words are a linear recurrence over 227
words back at least, so sixteen of them can be made at once. `lampion.random` says the same.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from ...random.generator import STATE_WORDS, Generator
from ..calls.normals import write_normals
from ..native import runtime
from ..native.emit import Function, Module, Value, vector
from ..native.stages import Call

LANES = 16
POSITION = 4 * STATE_WORDS  # where a state says how many of its words have been taken
STATE_BYTES = POSITION + 4
AHEAD = 397  # word i is made of the words i, i + 1 and i + AHEAD
MATRIX = 0x9908B0DF
TEMPERING = ((11, "lshr", -1), (7, "shl", 0x9D2C5680), (15, "shl", 0xEFC60000), (18, "lshr", -1))
CHUNK = 1024  # elements whose words are in the first-level cache together


@cache
def known_engine() -> bool:
    """Whether an engine's state is where, and as, the code here assumes."""
    engine: Any = np.random.MT19937(5)
    engine.random_raw(3)
    state = engine.state["state"]
    memory = ctypes.string_at(engine.ctypes.state_address, STATE_BYTES)
    words, position = np.frombuffer(memory[:POSITION], np.uint32), memory[POSITION:]
    return np.array_equal(words, state["key"]) and struct.unpack("<i", position)[0] == state["pos"]


def state_address(generator: Generator) -> int:
    """Where the state of a generator's engine is, for good."""
    engine: Any = generator._engine
    return engine.ctypes.state_address


# -- words -----------------------------------------------------------------------------------------


def words_type(lanes: int) -> str:
    """The type of so many words."""
    return vector(lanes, "i32") if lanes > 1 else "i32"


def signed(word: int) -> int:
    """A word as LLVM writes an i32."""
    return word - (1 << 32) if word >= 1 << 31 else word


def bits(f: Function, operation: str, a: Value, b: Value | int) -> Value:
    """An operation that is no arithmetic: lshr, shl, xor."""
    return f.emit(a.type, f"{operation} {a}, {f.constant(a.type, b).name}")


def write_twist(module: Module) -> None:
    """Writes `twist(state)`: the next 624 words before tempering, where the old ones are."""
    f = module.function("twist", "void", True, state="ptr")

    def word(i: Value | int, lanes: int) -> Value:
        return f.load(words_type(lanes), f.at(f["state"], i, "i32"), 0, 4)

    def make(i: Value | int, after: Value | int, far: Value | int, lanes: int) -> None:
        joined = (word(i, lanes) & signed(0x80000000)) | (word(after, lanes) & 0x7FFFFFFF)
        odd = f.constant(joined.type, 0) - (joined & 1)
        made = bits(f, "xor", word(far, lanes), bits(f, "lshr", joined, 1))
        made = bits(f, "xor", made, odd & signed(MATRIX))
        f.store(made, f.at(f["state"], i, "i32"), 0, 4)

    turn = STATE_WORDS - AHEAD
    for first, last, far in ((0, turn, AHEAD), (turn, STATE_WORDS - 1, -turn)):
        for lanes in (LANES, LANES // 2, LANES // 4, 1):
            end = last - (last - first) % lanes
            with f.loop(first, end, lanes) as i:
                make(i, i + 1, i + far, lanes)
            first = end
    make(STATE_WORDS - 1, 0, AHEAD - 1, 1)
    f.ret()


def write_words(module: Module) -> None:
    """Writes `words(state, out, count)`: the next words of a stream."""
    f = module.function("temper", "void", True, source="ptr", out="ptr", count="i64")
    whole = f["count"] - f["count"] % LANES
    for first, last, lanes in ((0, whole, LANES), (whole, f["count"], 1)):
        with f.loop(first, last, lanes) as i:
            word = f.load(words_type(lanes), f.at(f["source"], i, "i32"), 0, 4)
            for shift, way, mask in TEMPERING:
                moved = bits(f, way, word, shift)
                word = bits(f, "xor", word, moved & signed(mask) if mask > 0 else moved)
            f.store(word, f.at(f["out"], i, "i32"), 0, 4)
    f.ret()
    f = module.function("words", "void", True, state="ptr", out="ptr", count="i64")
    place, done = f.at(f["state"], POSITION), f.variable("i64", 0)
    with f.forever() as leave:
        with f.when(done.get() >= f["count"], leave=leave):
            pass
        with f.when(f.load("i32", place) >= STATE_WORDS):
            f.call("void", "twist", f["state"])
            f.store(f.constant("i32", 0), place)
        position = f.convert("sext", f.load("i32", place), "i64")
        count = f.minimum(f["count"] - done.get(), f.constant("i64", STATE_WORDS) - position)
        source, out = f.at(f["state"], position, "i32"), f.at(f["out"], done.get(), "i32")
        f.call("void", "temper", source, out, count)
        f.store(f.convert("trunc", position + count, "i32"), place)
        done.set(done.get() + count)
    f.ret()


# -- stages ----------------------------------------------------------------------------------------
# A job is: out, state, count, and up to four doubles (or i64s).


def begin(module: Module, name: str) -> tuple[Function, Value, Value, Value]:
    """Begins a stage: the function, where its numbers go, the state, and how many they are."""
    f = module.function(name, job="ptr", tile="i64", workspace="ptr")
    return f, f.load("ptr", f["job"]), f.load("ptr", f["job"], 1), f.load("i64", f["job"], 2)


def parameter(f: Function, i: int, type: str) -> Value:
    """A number of the job, in the elements' type."""
    number = f.load("double", f["job"], 3 + i)
    return f.convert("fptrunc", number, type) if type == "float" else number


def write_kept(module: Module, type: str) -> None:
    """Writes `kept_float` or `kept_double`: a number (the second parameter) where a number of 53
    bits, made of two words, is below a limit (the first, an i64); else 0.
    """
    f, out, state, count = begin(module, f"kept_{type}")
    limit, scale = f.load("i64", f["job"], 3), parameter(f, 1, type)
    words = f.buffer(8 * CHUNK)
    with f.loop(0, count, CHUNK) as start:
        n = f.minimum(count - start, CHUNK)
        f.call("void", "words", state, words, n * 2)
        here = f.at(out, start, type)
        whole = n - n % LANES
        for first, last, lanes in ((0, whole, LANES), (whole, n, 1)):
            wide, real = (vector(lanes, t) if lanes > 1 else t for t in ("i64", type))
            with f.loop(first, last, lanes) as i:
                pair = f.load(wide, f.at(words, i, "i64"), 0, 4)  # the high word comes first
                high = bits(f, "shl", pair & 0x1FFFFF, 32)
                number = high | bits(f, "lshr", pair, 32)
                most, value = (f.splat(x, lanes) if lanes > 1 else x for x in (limit, scale))
                zero = Value(f, real, "zeroinitializer")
                chosen = f.emit(real, f"select {number < most}, {value}, {zero}")
                f.store(chosen, f.at(here, i, type), 0, 4)
    f.ret()


def write_uniform(module: Module) -> None:
    """Writes `uniform_float`: 24 bits of each word, times a scale, from a start on; a lowest number
    where that is rounded up to the end.
    """
    f, out, state, count = begin(module, "uniform_float")
    scale, start, lowest, end = (parameter(f, i, "float") for i in range(4))
    with f.loop(0, count, CHUNK) as first:
        n = f.minimum(count - first, CHUNK)
        here = f.at(out, first, "float")
        f.call("void", "words", state, here, n)
        with f.loop(0, n) as i:
            word = f.convert("sitofp", f.load("i32", here, i) & 0xFFFFFF, "float")
            value = f.call("float", "llvm.fma.f32", word, scale, start)
            f.store(f.select(value.equals(end), lowest, value), here, i)
    f.ret()


def write_normal(module: Module) -> None:
    """Writes `normal_float`: blocks of 16 numbers with a mean and a deviation; where the last one
    is not whole, its words are dropped and the last 16 numbers made anew.
    """
    f, out, state, count = begin(module, "normal_float")
    mean, deviation = (parameter(f, i, "float") for i in range(2))
    rest = count % 16
    with f.loop(0, count - rest, CHUNK) as first:
        n = f.minimum(count - rest - first, CHUNK)
        here = f.at(out, first, "float")
        f.call("void", "words", state, here, n)
        f.call("void", "normals", here, here, n, mean, deviation)
    with f.when(rest > 0):
        last, dropped = f.at(out, count - 16, "float"), f.buffer(4 * 16)
        f.call("void", "words", state, dropped, rest)
        f.call("void", "words", state, last, f.constant("i64", 16))
        f.call("void", "normals", last, last, f.constant("i64", 16), mean, deviation)
    f.ret()


def write_raw(module: Module) -> None:
    """Writes `raw_words`: the words themselves."""
    f, out, state, count = begin(module, "raw_words")
    f.call("void", "words", state, out, count)
    f.ret()


@cache
def native() -> runtime.Native:
    """The compiled stages."""
    module = Module()
    for write in (write_twist, write_words, write_normals, write_uniform, write_normal, write_raw):
        write(module)
    for type in ("float", "double"):
        write_kept(module, type)
    return runtime.load(module.text())


def job(state: int, count: int, *numbers: float, out: int = 0) -> bytes:
    """What a stage reads; whole numbers among the parameters are i64s."""
    kinds = "".join("q" if isinstance(x, int) else "d" for x in numbers)
    return struct.pack(f"<3q{kinds}", out, state, count, *numbers)


# -- what operators draw ---------------------------------------------------------------------------

Numbers = tuple[str, tuple[float, ...]]  # the name of a stage, and its parameters


def kept_numbers(chance: float, scale: float, dtype: np.dtype) -> Numbers | None:
    """A number with this chance, else 0."""
    name = {"float32": "kept_float", "float64": "kept_double"}.get(dtype.name)
    return None if name is None else (name, (math.ceil(chance * 2.0**53), float(scale)))


def bernoulli_numbers(size: int, dtype: np.dtype, p: float) -> Numbers | None:
    """`random.bernoulli(p)`."""
    return kept_numbers(p, 1.0, dtype)


@lru_cache(256)
def noise_numbers(size: int, dtype: np.dtype, p: float) -> Numbers | None:
    """What dropout multiplies with."""
    real = dtype.type if dtype.itemsize == 4 else np.float64
    return kept_numbers(1.0 - p, float(real(1) / real(1.0 - p)), dtype)


def uniform_numbers(size: int, dtype: np.dtype, low: float, high: float) -> Numbers | None:
    """`random.uniform(low, high)`."""
    if dtype != np.float32:
        return None
    start, end = np.float32(low), np.float32(high)
    scale = (end - start) * np.float32(2.0**-24)
    return "uniform_float", tuple(float(x) for x in (scale, start, start, end))


def normal_numbers(
    size: int, dtype: np.dtype, mean: float, std: float, contiguous: bool
) -> Numbers | None:
    """`random.normal(mean, std)`, but for the pairs of which small tensors are made."""
    if dtype != np.float32 or size < 16 or not contiguous:
        return None
    return "normal_float", (float(mean), float(std))


def words_numbers(size: int, dtype: np.dtype) -> Numbers:
    """The words of the stream, as uint32."""
    return "raw_words", ()


NUMBERS: dict[str, Callable[..., Numbers | None]] = {
    "draw_bernoulli": bernoulli_numbers,
    "draw_dropout_noise": noise_numbers,
    "draw_uniform": uniform_numbers,
    "draw_normal": normal_numbers,
    "draw_words": words_numbers,
}


def draw_call(
    operator: str, generator: Generator, size: int, dtype: np.dtype, params: dict[str, Any]
) -> Call | None:
    """The stage of an operator that draws `size` numbers into operand 0; None where there is none.
    Hold the lock of the generator's engine while it runs, and keep the generator.
    """
    if not known_engine():
        return None
    found = NUMBERS[operator](size, dtype, **params)
    if found is None:
        return None
    name, numbers = found
    address = native().address(name)
    return Call(address, job(state_address(generator), size, *numbers), 1, ((0, 0),), operator)


@cache
def function(name: str) -> Callable[..., None]:
    """A stage through ctypes."""
    return native().function(name, None, ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p)


def fill(generator: Generator, name: str, out: np.ndarray, numbers: Sequence[float] = ()) -> None:
    """Runs a stage on a contiguous array."""
    with generator._engine.lock:
        given = job(state_address(generator), out.size, *numbers, out=out.ctypes.data)
        function(name)(given, 0, None)


def draw(operator: str, generator: Generator, out: np.ndarray, params: dict[str, Any]) -> bool:
    """Fills a contiguous array with the numbers of an operator; False where no stage does that."""
    found = NUMBERS[operator](out.size, out.dtype, **params) if known_engine() else None
    if found is not None:
        fill(generator, found[0], out, found[1])
    return found is not None
