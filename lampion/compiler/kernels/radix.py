"""Long rows sorted digit by digit, as a stage of a program. Imports emit.

Keys are the numbers' bits, turned so that their order as unsigned integers is that of the numbers:
-0 is 0, and every NaN the same, larger than all numbers. Each pass deals the elements out by eight
bits of their keys, in the order in which they lie, so that equal ones keep it (Knuth 1973, 5.2.5);
a pass in which all have the same bits is left out.
"""

from __future__ import annotations

from ..native.emit import Function, Module, Value, Variable

PAIR = 16  # bytes of a key and a place, at most: keys of 32 bits share an i64 with their place
BUCKETS = 256
# Type of arrays -> of its elements, of their bits, and how many bytes they have.
KINDS = {"F32": ("float", "i32", 4), "F64": ("double", "i64", 8), "I64": ("i64", "i64", 8)}


def write_radix(module: Module, name: str, kind: str) -> None:
    """Writes `rising_long_F32(x, values, places, rows, n, count, space)`, `falling_...`: the first
    `count` of each row of n in order, and where they stand; `space` is for 2 n pairs.
    """
    numbers = dict.fromkeys(("rows", "n", "count"), "i64")
    f = module.function(
        f"{name}_long_{kind}", "void", True, x="ptr", values="ptr", places="ptr", **numbers,
        space="ptr",
    )  # fmt: skip
    type, _, digits = KINDS[kind]
    words, low = (1, 32) if digits == 4 else (2, 0)  # of a pair; below the key's lowest bit
    n, count, counts = f["n"], f["count"], f.buffer(8 * BUCKETS * digits)
    with f.loop(0, f["rows"]) as row:
        x = f.at(f["x"], row * n, type)
        pairs, others = f.variable("ptr", f["space"]), f.variable("ptr")
        others.set(f.at(f["space"], n * words, "i64"))
        with f.loop(0, BUCKETS * digits) as i:
            f.store(f.constant("i64", 0), counts, i)
        with f.loop(0, n) as i:
            key = key_of(f, f.load(type, x, i), kind, name == "falling")
            for d in range(digits):
                bucket = digit(f, key, f.constant("i64", 8 * d)) + BUCKETS * d
                f.store(f.load("i64", counts, bucket) + 1, counts, bucket)
            if words == 1:
                f.store(f.emit("i64", f"shl {key}, 32") | i, pairs.get(), i)
            else:
                f.store(key, pairs.get(), i * 2)
                f.store(i, pairs.get(), i * 2 + 1)
        with f.loop(0, digits) as each:
            sizes = f.at(counts, each * BUCKETS, "i64")
            deal(f, pairs, others, sizes, each * 8 + low, n, words)
        with f.loop(0, count) as i:
            place = f.load("i64", pairs.get(), i * words + words - 1)
            place = place & 0xFFFFFFFF if words == 1 else place
            f.store(f.load(type, x, place), f["values"], row * count + i)
            f.store(place, f["places"], row * count + i)
    f.ret()


def key_of(f: Function, number: Value, kind: str, falling: bool) -> Value:
    """What orders a number, as an i64."""
    type, word, size = KINDS[kind]
    sign = f.constant(word, -(1 << (8 * size - 1)))
    bits = number
    if kind != "I64":
        number = number + f.constant(type, 0.0)  # -0 becomes 0
        none = f.emit("i1", f"fcmp uno {number}, {number.name}")
        quiet = f.constant(word, 0x7FC00000 if size == 4 else 0x7FF8 << 48)
        bits = f.select(none, quiet, f.convert("bitcast", number, word))
        spread = f.emit(word, f"ashr {bits}, {8 * size - 1}")
        bits = xor(f, bits, spread | sign)
    else:
        bits = xor(f, bits, sign)
    bits = xor(f, bits, f.constant(word, -1)) if falling else bits
    return bits if word == "i64" else f.convert("zext", bits, "i64")


def xor(f: Function, a: Value, b: Value) -> Value:
    """The bits in which two words differ."""
    return f.emit(a.type, f"xor {a}, {b.name}")


def digit(f: Function, key: Value, shift: Value) -> Value:
    """Eight bits of a key."""
    return f.emit("i64", f"lshr {key}, {shift.name}") & (BUCKETS - 1)


def deal(
    f: Function, pairs: Variable, others: Variable, counts: Value, shift: Value, n: Value,
    words: int,
) -> None:  # fmt: skip
    """One pass: the pairs in the order of a digit, whose buckets' sizes are known; then the two
    memories are exchanged.
    """
    same = f.load("i64", counts, digit(f, f.load("i64", pairs.get()), shift)).equals(n)
    with f.when(same.equals(0)):
        total = f.variable("i64", 0)
        with f.loop(0, BUCKETS) as i:
            size = f.load("i64", counts, i)
            f.store(total.get(), counts, i)
            total.set(total.get() + size)
        with f.loop(0, n) as i:
            pair = [f.load("i64", pairs.get(), i * words + k) for k in range(words)]
            bucket = digit(f, pair[0], shift)
            to = f.load("i64", counts, bucket)
            f.store(to + 1, counts, bucket)
            for k, word in enumerate(pair):
                f.store(word, others.get(), to * words + k)
        before = pairs.get()
        pairs.set(others.get())
        others.set(before)
