"""The slow interpreter: the definition of what flat programs do, for renderers to agree with.

May import ir. Every operation is one entry of SCALAR on NumPy scalars, which is also what constant
folding uses. Every access to memory is checked. The idea is tinygrad's `ops_python`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ...errors import check
from .node import BITS, INTS, NUMPY, Program


def maximum(a: Any, b: Any) -> Any:
    """nan if either is nan; 0.0 is above -0.0."""
    if a == b:
        return b if np.signbit(a) else a
    return a if a > b or a != a else b


def minimum(a: Any, b: Any) -> Any:
    """nan if either is nan; -0.0 is below 0.0."""
    if a == b:
        return a if np.signbit(a) else b
    return a if a < b or a != a else b


def fused_multiply_add(a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once: exact in rationals (f64), or rounded to odd in f64 first (f32)."""
    kind = type(a)
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)):
        return a * b + c
    if kind is np.float64:
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        if exact == 0:  # the sign of zero is that of the ordinary sum
            return kind(a * b + c) if a == 0 or b == 0 else kind(0.0)
        return kind(exact) if abs(exact) < 2**1023 else kind(float(exact / 4)) * kind(4)
    product, addend = np.float64(a) * np.float64(b), np.float64(c)  # the product is exact
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)
    if (
        error != 0 and not int(total.view(np.int64)) & 1
    ):  # to odd, so that rounding again is harmless
        total = np.nextafter(total, np.inf if error > 0 else -np.inf)
    return kind(total)


def cast(value: Any, dtype: str) -> Any:
    """Floats to integers go toward zero, those out of range to the smallest integer."""
    if dtype in INTS and not isinstance(value, np.bool_ | np.integer):
        half = 2.0 ** (BITS[dtype] - 1)
        inside = -half <= np.trunc(value) < half
        return NUMPY[dtype](int(value) if inside else -int(half))
    if dtype == "bool":
        return np.bool_(value != 0)
    return np.asarray(value).astype(NUMPY[dtype])[()]


def shift_left(a: Any, b: Any) -> Any:
    """Bits moved up; those that fall off are lost."""
    return type(a)(np.left_shift(a, b))


SCALAR: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b if isinstance(a, np.floating) else a // b,
    "mod": lambda a, b: a % b,
    "neg": lambda a: -a,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.rint,
    "fma": fused_multiply_add,
    "max": maximum,
    "min": minimum,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "shl": shift_left,
    "shr": lambda a, b: a >> b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "where": lambda condition, yes, no: yes if condition else no,
}


def evaluate(op: str, dtype: str, *values: Any) -> Any:
    """One operation on NumPy scalars."""
    if op == "cast":
        return cast(values[0], dtype)
    if op == "bitcast":
        return values[0].view(NUMPY[dtype])
    return NUMPY[dtype](SCALAR[op](*values))


class Interpreter:
    """One run of a program: a value per line, a method per operation that is no arithmetic."""

    def __init__(self, program: Program, arguments: Sequence[Any]) -> None:
        check(
            len(arguments) == len(program.signature),
            f"[interpret] {program.name} expects {len(program.signature)} arguments, "
            f"got {len(arguments)}",
            TypeError,
        )
        self.lines, self.arguments = program.instructions, arguments
        self.values: list[Any] = [None] * len(self.lines)
        self.end_of = {line.src[0]: i for i, line in enumerate(self.lines) if line.op == "end"}
        for index, dtype in enumerate(program.signature):
            self.check_argument(index, dtype)

    def check_argument(self, index: int, dtype: str) -> None:
        """Pointers must be flat arrays of their type."""
        array = self.arguments[index]
        if dtype[0] == "*":
            fits = (
                isinstance(array, np.ndarray)
                and array.ndim == 1
                and array.dtype == NUMPY[dtype[1:]]
            )
            check(
                fits, f"[interpret] argument {index} expects a flat array of {dtype[1:]}", TypeError
            )

    def run(self) -> None:
        """Executes all lines."""
        at = 0
        while at < len(self.lines):
            at = self.step(at)

    def step(self, at: int) -> int:
        """Executes a line; the number of the next one."""
        line = self.lines[at]
        handler = getattr(self, f"run_{line.op}", None)
        if handler is not None:
            return handler(at, *line.src)
        self.values[at] = evaluate(line.op, line.dtype, *(self.values[s] for s in line.src))
        return at + 1

    def run_const(self, at: int) -> int:
        line = self.lines[at]
        self.values[at] = NUMPY[line.dtype](line.arg)
        return at + 1

    def run_param(self, at: int) -> int:
        line = self.lines[at]
        value = self.arguments[line.arg]
        self.values[at] = value if line.dtype[0] == "*" else NUMPY[line.dtype](value)
        return at + 1

    def run_for(self, at: int, start: int, stop: int) -> int:
        self.values[at] = self.values[start]
        return at + 1 if self.values[start] < self.values[stop] else self.end_of[at] + 1

    def run_end(self, at: int, opened: int) -> int:
        self.values[opened] += np.int64(1)
        stop = self.lines[opened].src[1]
        return opened + 1 if self.values[opened] < self.values[stop] else at + 1

    def place(self, at: int, pointer: int, index: int) -> tuple[np.ndarray, int]:
        """The array and the position of an access; `IndexError` if it is outside."""
        array, position = self.values[pointer], int(self.values[index])
        check(
            0 <= position < array.size,
            lambda: (
                f"[interpret] %{at} = {self.lines[at].op} expects an index below {array.size} of "
                "parameter "
                f"{self.lines[pointer].arg}, got {position}; mask the access"
            ),
            IndexError,
        )
        return array, position

    def run_load(self, at: int, pointer: int, index: int, mask: int = -1, other: int = -1) -> int:
        if mask >= 0 and not self.values[mask]:
            self.values[at] = self.values[other]
        else:
            array, position = self.place(at, pointer, index)
            self.values[at] = array[position]
        return at + 1

    def run_store(self, at: int, pointer: int, index: int, value: int, mask: int = -1) -> int:
        if mask < 0 or self.values[mask]:
            array, position = self.place(at, pointer, index)
            array[position] = self.values[value]
        return at + 1

    def run_accumulator(self, at: int, first: int) -> int:
        self.values[at] = self.values[first]
        return at + 1

    def run_update(self, at: int, accumulator: int, value: int) -> int:
        line = self.lines[accumulator]
        new = evaluate(line.arg[0], line.dtype, self.values[accumulator], self.values[value])
        self.values[accumulator] = new
        return at + 1

    def run_read(self, at: int, accumulator: int) -> int:
        self.values[at] = self.values[accumulator]
        return at + 1


def interpret(program: Program, arguments: Sequence[Any]) -> None:
    """Runs a flat program on flat NumPy arrays (and numbers), writing into the arrays.

    `IndexError` for an access outside an array, `TypeError` for an argument of the wrong type.
    """
    Interpreter(program, arguments).run()
