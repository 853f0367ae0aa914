"""Compiled calls of small products: matmul, mm, mv, dot, bmm, linear. Imports described, fused and
core.

Matrices are packed row by row where they do not lie so; each element is added up in order, as BLAS
does it for short sums. Products with vectors and those of longer sums are a call of BLAS.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial

from ...core.graph import GENERAL
from ...core.op import OPS
from ..native.emit import Module, Value
from .described import Described, completed, described
from .fused import run_loop
from .loops import FLOAT_TYPES
from .objects import MOST_DIMS, SMALL, Scope, begin, begin_core

PRODUCTS = 1024  # elements of a factor that is packed
DEPTH = 16  # terms of its sums, up to which BLAS adds them one after the other too
LARGE = 1 << 16  # multiplications from which `ops.matmul` has other kernels than BLAS


class Context(ctypes.Structure):
    """The product of two matrices, and that of others; of a matrix or a vector with a vector."""

    _fields_ = [(n, Described) for n in ("single", "batched", "column", "inner")]


def context_of(single: str, batched: str) -> Context:
    """The context of a product."""
    return Context(*[described(OPS[name]) for name in (single, batched, "mv", "dot")])


def write_matrix_at(module: Module) -> None:
    """`matrix_at(array, i)`: the address of a batch's i-th matrix."""
    s = begin(module, "matrix_at", "ptr", array="ptr", i="i64")
    f, array = s.f, s.f["array"]
    left, offset = f.variable("i64", f["i"]), f.variable("i64", 0)
    lead = f.convert("sext", s.rank(array), "i64") - 2
    with f.loop(0, lead) as k:
        d = lead - k - 1
        size = f.load("i64", s.sizes(array), d)
        at = left.get() % size
        offset.set(offset.get() + at * f.load("i64", s.steps(array), d))
        left.set(f.emit("i64", f"sdiv {left.get()}, {size.name}"))
    f.ret(f.at(s.memory(array), offset.get()))


def write_pack(module: Module) -> None:
    """`pack(x, y, n, m, dn, dm)`: a matrix with strides in bytes, row by row."""
    for type, bits in FLOAT_TYPES:
        f = module.function(
            f"pack_{bits}", "void", True, x="ptr", y="ptr", n="i64", m="i64", dn="i64", dm="i64"
        )
        with f.loop(0, f["n"]) as i, f.loop(0, f["m"]) as j:
            place = f.at(f["x"], i * f["dn"] + j * f["dm"])
            f.store(f.load(type, place), f["y"], i * f["m"] + j)
        f.ret()


class Factor:
    """An operand: its array, and the last two dimensions."""

    def __init__(self, s: Scope, tensor: Value, kind: Value | None = None) -> None:
        self.s, f = s, s.f
        self.array, self.kind = s.floats(tensor)
        if kind is not None:
            s.require(self.kind.equals(kind))
        self.rank = f.convert("sext", s.rank(self.array), "i64")
        s.require(s.both(self.rank >= 2, self.rank <= MOST_DIMS))
        self.sizes, self.steps = s.sizes(self.array), s.steps(self.array)
        self.rows, self.columns = self.last(self.sizes)
        self.packed = f.buffer(8 * PRODUCTS)

    def last(self, numbers: Value) -> tuple[Value, Value]:
        """The last two numbers of a shape or of strides."""
        load, n = self.s.f.load, self.rank
        return load("i64", numbers, n - 2), load("i64", numbers, n - 1)

    def matrix(self, i: Value) -> Value:
        """The address of the i-th matrix, packed if need be."""
        s, f = self.s, self.s.f
        place = f.variable("ptr", f.call("ptr", "matrix_at", self.array, i))
        with f.when(s.contiguous(self.array).equals(0)):
            strides = self.last(self.steps)
            given = (place.get(), self.packed, self.rows, self.columns, *strides)
            run_loop(s, self.kind, "pack", *given)
            place.set(self.packed)
        return place.get()

    def check_size(self) -> None:
        """Gives up on matrices that are too large to be packed."""
        s = self.s
        fits = self.rows * self.columns <= PRODUCTS
        s.require(s.either(s.contiguous(self.array), fits))


def few(s: Scope, n: Value, k: Value, m: Value) -> None:
    """Gives up on a product of (n, k) and (k, m) that is large, or that BLAS may round otherwise:
    vectors and long sums.
    """
    s.require(s.both(s.both(n > 1, m > 1), s.both(k > 0, k <= DEPTH)))
    s.require(s.both(n <= SMALL, n * m <= SMALL))
    s.require(k * m <= PRODUCTS)


def with_last(s: Scope, x: Factor, last: Value) -> Value:
    """The shape of a factor with another last size."""
    f, made = s.f, s.f.buffer(8 * MOST_DIMS, 8)
    with f.loop(0, x.rank) as i:
        f.store(f.load("i64", x.sizes, i), made, i)
    f.store(last, made, x.rank - 1)
    return made


def write_by_blas(module: Module) -> None:
    """`by_blas(context, (input, other))`: (n, k) @ (k,), (k,) @ (k,), and (n, k) @ (k, m) of few
    multiplications, as NumPy does it.
    """
    s = begin_core(module, "by_blas")
    f, tensors = s.f, [s.needed(i) for i in (0, 1)]
    (x, kind), (y, other) = (s.floats(t) for t in tensors)
    mode, ranks = s.mode(), [s.rank(x), s.rank(y)]
    s.require(s.both(mode.differs(GENERAL), kind.equals(other)))
    for rank in ranks:
        s.require(s.both(rank >= 1, rank <= 2))
    s.require(ranks[1] <= ranks[0])
    k = f.load("i64", s.sizes(x), f.convert("sext", ranks[0], "i64") - 1)
    s.require(k.equals(f.load("i64", s.sizes(y))))
    context = f.variable("ptr", f["context"])
    vectors = s.both(ranks[0].equals(1), ranks[1].equals(1))
    for condition, field in ((ranks[1].equals(1), Context.column), (vectors, Context.inner)):
        with f.when(condition):
            context.set(f.at(f["context"], field.offset))
    with f.when(ranks[1].equals(2)):
        s.require(s.count(x) * f.load("i64", s.sizes(y), 1) < LARGE)
    product = s.call_array("ptr", "matrix_product", x, y, s.null())
    s.require(product.differs(s.null()))
    made = s.call_array("ptr", "as_array", product)  # NumPy gives a number of two vectors
    s.require(made.differs(s.null()))
    f.ret(completed(s, mode, made, tensors, context=context.get()))
    s.end()


def write_matmul(module: Module) -> None:
    """`matmul(context, (input, other))`: what lies in few elements, or else `by_blas`."""
    s = begin_core(module, "matmul")
    f = s.f
    made = f.call("ptr", "by_loop", f["context"], f["given"])
    with f.when(made.differs(s.null())):
        f.ret(made)
    f.call("void", "PyErr_Clear")
    f.ret(f.call("ptr", "by_blas", f["context"], f["given"]))
    s.end()


# The ranks that `mm`, `mv` and `dot` ask for.
RANKS = {"mm": (2, 2), "mv": (2, 1), "dot": (1, 1), "bmm": (3, 3)}


def write_ranked(module: Module, name: str) -> None:
    """`matmul` of tensors of certain ranks."""
    s = begin_core(module, name)
    for i, rank in enumerate(RANKS[name]):
        s.require(s.rank(s.array(s.needed(i))).equals(rank))
    s.f.ret(s.f.call("ptr", "matmul", s.f["context"], s.f["given"]))
    s.end()


def write_by_loop(module: Module) -> None:
    """`by_loop(context, (input, other))`: (..., n, k) @ (k, m), or batches of the same shape."""
    s = begin_core(module, "by_loop")
    f, a, b = s.f, s.needed(0), s.needed(1)
    x = Factor(s, a)
    y = Factor(s, b, x.kind)
    mode, k, m = s.mode(), x.columns, y.columns
    s.require(s.both(mode.differs(GENERAL), y.rows.equals(k)))
    total = s.count(x.array)
    s.require(s.both(k > 0, total > 0))
    rows, batch = f.variable("i64", x.rows), f.variable("i64", 1)
    one = y.rank.equals(2)
    with f.when(s.both(one, x.rank > 2)):
        s.require(s.contiguous(x.array))
        rows.set(f.emit("i64", f"sdiv {total}, {k.name}"))
    with f.when(one.equals(0)):
        s.require(x.rank.equals(y.rank))
        with f.loop(0, x.rank - 2) as i:
            size = f.load("i64", x.sizes, i)
            s.require(size.equals(f.load("i64", y.sizes, i)))
            batch.set(batch.get() * size)
    n, count = rows.get(), batch.get()
    few(s, n, k, m)
    s.require(s.both(count <= SMALL, count * n * m <= SMALL))
    x.check_size()
    y.check_size()
    z = s.new_array(x.kind, s.rank(x.array), with_last(s, x, m))
    size = f.select(s.is_object(x.kind, "F64"), s.number(8), 4)
    with f.loop(0, count) as i:
        out = f.at(s.memory(z), i * n * m * size)
        run_loop(s, x.kind, "multiply", x.matrix(i), y.matrix(i), out, s.null(), n, k, m)
    batched = f.at(f["context"], Context.batched.offset)
    context = f.select(x.rank.equals(2), f["context"], batched)
    f.ret(completed(s, mode, z, [a, b], context=context))
    s.end()


def write_linear(module: Module) -> None:
    """`linear(context, (input, weight, bias))` of what lies row by row."""
    s = begin_core(module, "linear")
    f, a, w = s.f, s.needed(0), s.needed(1)
    x = Factor(s, a)
    weights = Factor(s, w, x.kind)
    k, m, mode = x.columns, weights.rows, s.mode()
    s.require(s.both(weights.rank.equals(2), weights.columns.equals(k)))
    s.require(s.both(s.contiguous(x.array), s.contiguous(weights.array)))
    s.require(s.both(k > 0, mode.differs(GENERAL)))
    rows = f.emit("i64", f"sdiv {s.count(x.array)}, {k.name}")
    few(s, rows, k, m)
    bias, added = s.optional_row(2, x.kind, m)
    y = s.new_array(x.kind, s.rank(x.array), with_last(s, x, m))
    turned = weights.packed
    run_loop(s, x.kind, "transpose", s.memory(weights.array), turned, m, k)
    given = (s.memory(x.array), turned, s.memory(y), added, rows, k, m)
    run_loop(s, x.kind, "multiply", *given)
    f.ret(completed(s, mode, y, [a, w, bias]))
    s.end()


SHARED: tuple[Callable[[Module], None], ...] = (
    write_matrix_at, write_pack, write_by_loop, write_by_blas, write_matmul, write_linear,
    *[partial(write_ranked, name=name) for name in RANKS],
)  # fmt: skip
