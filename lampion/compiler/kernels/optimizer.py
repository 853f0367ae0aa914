"""Optimizer steps: a rule's lines, run once on symbols, as one kernel over all parameters. Imports
kernel and earlier files.

A rule (optim/rule.py) is arithmetic on arrays, with in-place changes. Run on symbols it leaves in
each the node of its last value, which the kernel stores. Options are constants of the kernel; the
learning rate and what a step count makes of it are numbers given at each launch, in double
precision until they meet an array, as Python's numbers are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy import ndarray

from ..ir.linearize import linearize
from ..ir.node import Node, constant, loop, parameter, program, store, where
from ..ir.render_llvm import attributes, render_llvm
from ..ir.simplify import simplify
from ..native import runtime
from ..native.emit import Module, Value
from ..native.launch import MOST, launch
from .items import Loops

CHUNK = 1 << 14  # elements in a piece
SEVERAL = 1 << 15  # elements from which pieces are spread over threads
HEAD = 3  # words of a table before its numbers


class Opaque(Exception):
    """The rule does what cannot be written as nodes, e.g. branches on an array's values."""


Compute = Callable[[Sequence[float]], float]  # a number, from those that a step is given


class Symbol:
    """An array's element, or a number, while a rule runs: the node of its present value.

    A number also knows how it comes of the step's numbers. A comparison of numbers is decided by
    those at hand; the step notes it, and serves only numbers that decide alike.
    """

    def __init__(
        self, node: Node, compute: Compute | None = None, step: Step | None = None
    ) -> None:
        self.node, self.compute, self.step = node, compute, step

    @property
    def number(self) -> bool:
        """Whether it is a number, not an array's element."""
        return self.compute is not None

    def lift(self, other: Any) -> Symbol:
        """A Python number beside this symbol as a symbol."""
        if isinstance(other, Symbol):
            return other
        if not isinstance(other, (int, float)):
            raise Opaque(type(other).__name__)
        value = float(other)
        node = constant(value, self.node.dtype)
        return Symbol(node, (lambda given: value) if self.number else None, self.step)

    def combine(self, other: Any, operation: Callable[[Any, Any], Any]) -> Symbol:
        """A new symbol: numbers take the type of the array they meet."""
        other = self.lift(other)
        x, y = self.node, other.node
        a, b = self.compute, other.compute
        if a is not None and b is not None:
            return Symbol(operation(x, y), lambda given: operation(a(given), b(given)), self.step)
        if a is not None:
            x = x.cast(y.dtype)
        if b is not None:
            y = y.cast(x.dtype)
        return Symbol(operation(x, y))

    def become(self, value: Symbol) -> Symbol:
        """Takes a value, in place."""
        self.node, self.compute = value.node, value.compute
        return self

    def __add__(self, other: Any) -> Symbol:
        return self.combine(other, lambda x, y: x + y)

    def __sub__(self, other: Any) -> Symbol:
        return self.combine(other, lambda x, y: x - y)

    def __rsub__(self, other: Any) -> Symbol:
        return self.combine(other, lambda x, y: y - x)

    def __mul__(self, other: Any) -> Symbol:
        return self.combine(other, lambda x, y: x * y)

    def __truediv__(self, other: Any) -> Symbol:
        return self.combine(other, lambda x, y: x / y)

    def __rtruediv__(self, other: Any) -> Symbol:
        return self.combine(other, lambda x, y: y / x)

    __radd__, __rmul__ = __add__, __mul__

    def __iadd__(self, other: Any) -> Symbol:
        return self.become(self + other)

    def __isub__(self, other: Any) -> Symbol:
        return self.become(self - other)

    def __imul__(self, other: Any) -> Symbol:
        return self.become(self * other)

    def __itruediv__(self, other: Any) -> Symbol:
        return self.become(self / other)

    def __neg__(self) -> Symbol:
        return self * -1.0

    def __abs__(self) -> Symbol:
        if self.number:
            raise Opaque("the size of a number")
        return Symbol(abs(self.node))

    def compare(self, other: Any, operation: Callable[[Any, Any], Any]) -> Any:
        """The truth, a symbol, for an array; for numbers True or False, which the step notes."""
        other = self.lift(other)
        a, b, step = self.compute, other.compute, self.step
        if a is None or b is None:
            return self.combine(other, operation)
        if step is None:
            raise Opaque("a comparison of constants")

        def decide(given: Sequence[float]) -> bool:
            return bool(operation(a(given), b(given)))

        step.decisions.append((decide, decide(step.given)))
        return step.decisions[-1][1]

    def __lt__(self, other: Any) -> Any:
        return self.compare(other, lambda x, y: x < y)

    def __gt__(self, other: Any) -> Any:
        return self.compare(other, lambda x, y: x > y)

    def __eq__(self, other: object) -> Any:
        if not self.number:
            raise Opaque("a comparison for equality")
        return self.compare(other, lambda x, y: x == y)

    def __ne__(self, other: object) -> Any:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise Opaque("a branch on a value")

    def __pow__(self, other: Any) -> Symbol:
        raise Opaque("a power")

    __rpow__ = __float__ = __pow__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Symbol:
        if method != "__call__" or kwargs or ufunc not in UFUNCS:
            raise Opaque(str(ufunc))
        first, *others = inputs
        if isinstance(first, Symbol):
            return UFUNCS[ufunc](first, *others)
        raise Opaque("a function of a number first")

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        if function is np.copyto and isinstance(args[0], Symbol):
            value = args[1] if isinstance(args[1], Symbol) else args[0] * 0.0 + args[1]
            args[0].become(value)
            return None
        if function is np.where and isinstance(args[0], Symbol):
            return args[2].combine(args[1], lambda no, yes: where(args[0].node, yes, no))
        if function is np.clip:
            return maximum(args[0], args[1]).combine(args[2], Node.min)
        raise Opaque(str(function))

    @property
    def dtype(self) -> Any:
        """The NumPy type, which rules convert numbers with."""
        return np.dtype({"f32": np.float32, "f64": np.float64}[self.node.dtype])


def maximum(x: Symbol, y: Any) -> Symbol:
    """The larger one."""
    return x.combine(y, Node.max)


def sign(x: Symbol) -> Symbol:
    """-1, 0 or 1."""
    node = x.node
    return Symbol((node > 0.0).cast(node.dtype) - (node < 0.0).cast(node.dtype))


def sqrt(x: Symbol) -> Symbol:
    """The square root of an array."""
    if x.number:
        raise Opaque("the root of a number")
    return Symbol(x.node.unary("sqrt"))


UFUNCS: dict[Any, Callable[..., Symbol]] = {
    np.sqrt: sqrt,
    np.maximum: maximum,
    np.sign: sign,
    np.abs: abs,
}

Rule = Callable[[Symbol, Symbol, dict[str, Symbol], dict[str, Symbol]], None]


class Step:
    """A compiled rule. `rule(parameter, gradient, state, numbers)` is run once, on symbols; raises
    Opaque where it cannot be.

    dtype    the element type, "f32" or "f64"
    state    the names of the state's arrays
    numbers  the names of the numbers that change from step to step
    given    these numbers in the first step
    """

    def __init__(
        self,
        rule: Rule,
        dtype: str,
        state: Sequence[str],
        numbers: Sequence[str],
        given: Sequence[float],
    ) -> None:
        self.given = given
        self.decisions: list[tuple[Callable[[Sequence[float]], bool], bool]] = []
        self.arrays = 2 + len(state)
        self.numbers = len(numbers)
        count = self.arrays
        signature = [f"*{dtype}"] * count + ["f64"] * len(numbers) + ["i64"]
        nodes = [parameter(i, kind) for i, kind in enumerate(signature)]
        i = Loops()(0, nodes[-1], "vector")
        symbols = [Symbol(pointer.load(i)) for pointer in nodes[:count]]
        named = {
            name: Symbol(nodes[count + k], lambda given, k=k: given[k], self)  # type: ignore[misc]
            for k, name in enumerate(numbers)
        }
        before = [s.node for s in symbols]
        rule(symbols[0], symbols[1], dict(zip(state, symbols[2:], strict=True)), named)
        stores = [
            store(pointer, i, s.node)
            for pointer, s, old in zip(nodes, symbols, before, strict=False)
            if s.node is not old and pointer is not nodes[1]
        ]
        flat = linearize(simplify(program("update", signature, loop(i, *stores))))
        width = 8 * runtime.host().bytes
        size = 4 if dtype == "f32" else 8
        text = render_llvm(flat, width) + tile_text(count, len(numbers), size, width)
        self.address = runtime.load(text).address("tile")
        self.table = lru_cache(256)(self.make_table)

    def serves(self, given: Sequence[float]) -> bool:
        """Whether these numbers decide as those that the rule was traced with."""
        return all(decide(given) == truth for decide, truth in self.decisions)

    def make_table(self, sizes: tuple[int, ...]) -> tuple[ndarray, int]:
        """What a launch says of parameters of these sizes, and its number of tiles; see
        `tile_text`.
        """
        ends = list(accumulate(-(-size // CHUNK) for size in sizes))
        pieces = ends[-1] if sum(sizes) < SEVERAL else 1
        head = [len(sizes), pieces, ends[-1], *[0] * self.numbers]
        return np.array([*head, *ends, *sizes], np.int64), -(-ends[-1] // pieces)

    def __call__(self, tensors: Sequence[tuple[ndarray, ...]], numbers: Sequence[float]) -> None:
        """Updates parameters, each given as (parameter, gradient, *state) of contiguous arrays."""
        most = (MOST // 8 - 1) // self.arrays
        for first in range(0, len(tensors), most):
            part = tensors[first : first + most]
            table, tiles = self.table(tuple([arrays[0].size for arrays in part]))
            table = table.copy()
            table.view(np.float64)[HEAD : HEAD + self.numbers] = numbers
            job = bytes(8 * (1 + len(part) * self.arrays))
            launch(self.address, job, tiles, table, *[a for arrays in part for a in arrays])


def tile_text(arrays: int, numbers: int, size: int, width: int) -> str:
    """The text of `tile(job, tile, workspace)`.

    The job is the address of a table, then those of the arrays, parameter after parameter. Each
    parameter is cut in pieces of CHUNK elements. The table: how many parameters there are, how many
    pieces a tile does, how many there are, the numbers, up to which piece each parameter goes, how
    many elements it has.
    """
    module = Module()
    f = module.function("tile", job="ptr", tile="i64", workspace="ptr")
    f.head += attributes(width)  # what is inlined in it is worked on by its own vectors
    table = f.load("ptr", f["job"])
    count, pieces, total = (f.load("i64", table, i) for i in range(HEAD))
    given = [f.load("double", table, HEAD + i) for i in range(numbers)]
    ends = f.at(table, HEAD + numbers, "i64")
    sizes = f.at(ends, count, "i64")
    first = f["tile"] * pieces
    with f.loop(first, f.minimum(first + pieces, total)) as piece:
        owner = f.variable("i64", 0)
        with f.forever() as found:
            with f.when(f.load("i64", ends, owner.get()) > piece, leave=found):
                pass
            owner.set(owner.get() + 1)
        number = owner.get()
        begin = f.variable("i64", 0)
        with f.when(number > 0):
            begin.set(f.load("i64", ends, number - 1))
        start = (piece - begin.get()) * CHUNK
        length = f.minimum(f.load("i64", sizes, number) - start, CHUNK)
        slot = number * arrays + 1
        pointers = [f.at(f.load("ptr", f["job"], slot + i), start * size) for i in range(arrays)]
        f.call("void", Value(f, "ptr", "@update"), *pointers, *given, length)
    f.ret()
    return module.text()


def compiled(
    rule: Rule,
    dtype: np.dtype,
    state: Sequence[str],
    numbers: Sequence[str],
    given: Sequence[float],
) -> Step | None:
    """The compiled rule, None where it cannot be."""
    kind = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}.get(dtype)
    if kind is None:
        return None
    try:
        return Step(rule, kind, state, numbers, given)
    except (Opaque, KeyError, TypeError, AttributeError):  # what arrays have and symbols lack
        return None
