"""Blocks of float32 normal numbers from random words, as PyTorch's AVX2 kernel makes them. Imports
emit and runtime.

Box and Muller's method on sixteen words at a time, with the polynomials of Moshier's Cephes
library; `random.normals` says the same in NumPy, with the fused multiply-add computed in float64.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from ..native import runtime
from ..native.emit import Function, Module, Value, vector

LANES = 8
FLOATS, WORDS = vector(LANES, "float"), vector(LANES, "i32")
SQRT_HALF_BITS = 0x3F3504F3
LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
       -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
LOG_2 = (-2.12194440e-4, 0.693359375)
COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
QUARTER_PI = (0.78515625, 2.4187564849853515625e-4, -3.77489497744594e-8)


def number(f: Function, value: float) -> Value:
    """A float32 constant in all lanes, exactly."""
    rounded = float(np.float32(value))
    bits = struct.unpack("<Q", struct.pack("<d", rounded))[0]
    return f.splat(Value(f, "float", f"0x{bits:016X}"), LANES)


def fma(f: Function, a: Value, b: Value, c: Value) -> Value:
    """a b + c, rounded once."""
    return f.call(FLOATS, "llvm.fma.v8f32", a, b, c)


def horner(f: Function, x: Value, coefficients: Sequence[float]) -> Value:
    """The polynomial of x, highest coefficient first."""
    value = number(f, coefficients[0])
    for coefficient in coefficients[1:]:
        value = fma(f, value, x, number(f, coefficient))
    return value


def bits(f: Function, word: str, a: Value, b: Value | int) -> Value:
    """An operation on words that is no arithmetic: ashr, xor, ..."""
    return f.emit(WORDS, f"{word} {a}, {f.constant(WORDS, b).name}")


def logarithm(f: Function, x: Value) -> Value:
    """log(x) of normal numbers."""
    shifted = f.convert("bitcast", x, WORDS) + (0x3F800000 - SQRT_HALF_BITS)
    exponent = f.convert("sitofp", bits(f, "ashr", shifted, 23) - 127, FLOATS)
    reduced = f.convert("bitcast", (shifted & 0x7FFFFF) + SQRT_HALF_BITS, FLOATS)
    x = reduced - number(f, 1)  # sqrt(1/2) - 1 to sqrt(2) - 1
    square = x * x
    first = horner(f, x, LOG) * x
    y = fma(f, first, square, exponent * number(f, LOG_2[0])) - square * number(f, 0.5)
    return (x + y) + exponent * number(f, LOG_2[1])


def sine_and_cosine(f: Function, x: Value) -> tuple[Value, Value]:
    """sin(x) and cos(x) of [0, 2 pi]."""
    octant = f.convert("fptosi", x * number(f, 4 / math.pi), WORDS)
    octant = (octant + 1) & ~1
    turns = f.convert("sitofp", octant, FLOATS)
    near = x - turns * number(f, QUARTER_PI[0]) - turns * number(f, QUARTER_PI[1])
    x = fma(f, turns, number(f, QUARTER_PI[2]), near)
    square = x * x
    half = square * number(f, 0.5)
    cosine = fma(f, horner(f, square, COSINE) * square, square, -half) + number(f, 1)
    sine = fma(f, horner(f, square, SINE) * square, x, x)
    sine_bits, cosine_bits = [f.convert("bitcast", v, WORDS) for v in (sine, cosine)]
    odd = f.constant(WORDS, 0) - (bits(f, "ashr", octant, 1) & 1)
    swap = bits(f, "xor", sine_bits, cosine_bits) & odd  # odd quarter turns exchange the two
    signs = [bits(f, "shl", (octant + turn) & 4, 29) for turn in (0, 2)]
    turned = [
        bits(f, "xor", bits(f, "xor", v, swap), sign)
        for v, sign in zip((sine_bits, cosine_bits), signs, strict=True)
    ]
    sine, cosine = [f.convert("bitcast", v, FLOATS) for v in turned]
    return sine, cosine


def write_normals(module: Module) -> None:
    """`normals(words, out, count, mean, std)`; count is a multiple of 16, `out` may be `words`."""
    f = module.function("normals", words="ptr", out="ptr", count="i64", mean="float", std="float")
    mean, std = f.splat(f["mean"], LANES), f.splat(f["std"], LANES)
    with f.loop(0, f["count"], 2 * LANES) as i:
        uniforms = []
        for half in (i, i + LANES):
            word = f.load(WORDS, f.at(f["words"], half, "i32"), 0, 4) & 0xFFFFFF
            uniforms.append(f.convert("sitofp", word, FLOATS) * number(f, 2.0**-24))
        first, second = uniforms
        log = logarithm(f, number(f, 1) - first)
        radius = f.call(FLOATS, "llvm.sqrt.v8f32", number(f, -2) * log)
        sine, cosine = sine_and_cosine(f, number(f, 2 * math.pi) * second)
        for place, part in ((i, cosine), (i + LANES, sine)):
            result = fma(f, radius * part, std, mean)
            f.store(result, f.at(f["out"], place, "float"), 0, 4)
    f.ret()


@cache
def compiled() -> Callable[..., None]:
    """The function, through ctypes."""
    pointer, size, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    module = Module()
    write_normals(module)
    code = runtime.load(module.text())
    return code.function("normals", None, pointer, pointer, size, real, real)


def fill(words: np.ndarray, out: np.ndarray, mean: Any, std: Any) -> None:
    """Turns uint32 words, a multiple of 16 of them, into as many float32 normals."""
    compiled()(words.ctypes.data, out.ctypes.data, out.size, mean, std)
