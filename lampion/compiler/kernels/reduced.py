"""Sums, means and extremes of arrays that lie row by row, as built-ins: over all elements or one
dimension. Imports flat, rowwise and earlier files.

An array is seen as (outer, n, inner), of which n is reduced. Work is cut by sizes alone; what the
tiles of one sum leave is reduced in their order, by the same kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from ..calls.objects import ALIGNED, CONTIGUOUS, MOST_DIMS, Scope, fill_objects
from ..calls.recording import write_count_elements
from ..ir.node import Node, constant, loop, reduce, store
from ..native import pool, runtime, stages
from ..native.emit import Module, Value
from ..native.entry import FLAGS, KEPT, METH_FASTCALL, Method, function, readable
from ..native.launch import prepare_memory
from .flat import ALONE, cut, require_settled, run_tiles
from .items import MOST_TILES, SHORT, TILE, Kernel, Loops, chunk_of
from .rowwise import TYPES, Row, by_rows

STREAMS = 4  # places at which a long row is read at a time
BLOCK = 4  # rows that are reduced before they meet the result
TALL = 1 << 17  # elements of a matrix whose columns are worth several threads
NARROW = 16  # columns below which NumPy is as good
LONGEST, MANY = 1 << 13, 64  # columns that stay in the first-level cache, rows to be cut
WORDS = {"sum": "add", "mean": "add", "amax": "max", "amin": "min"}
FORMS = ("whole", "rows", "columns", "short rows")


class Context(ctypes.Structure):
    """A reduction's kernels: those of `FORMS` for float32, then for float64.

    mean  whether the result is divided by the number of elements
    """

    _fields_ = [
        ("mean", ctypes.c_int64),
        ("general", ctypes.py_object),
        ("kernels", ctypes.c_void_p * (2 * len(FORMS))),
    ]


# -- kernels -----------------------------------------------------------------------------------


def joined(word: str, values: list[Node]) -> Node:
    """The values, a power of two in number, reduced in pairs."""
    while len(values) > 1:
        pairs = zip(values[::2], values[1::2], strict=True)
        values = [a + b if word == "add" else getattr(a, word)(b) for a, b in pairs]
    return values[0]


def whole(word: str) -> Callable[..., list[Node]]:
    """The body of a kernel that reduces the elements of a tile, read in several streams."""

    def body(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
        results, x = pointers
        loops = Loops()
        part = Node("div", "i64", (stop - start, constant(STREAMS, "i64")))
        i = loops(start, start + part, "vector")
        value = joined(word, [x.load(i + part * k) for k in range(STREAMS)])
        rest = loops(start + part * STREAMS, stop)
        parts = [reduce(value, [i], word, "reassoc"), reduce(x.load(rest), [rest], word, "reassoc")]
        return [store(results, Node("div", "i64", (start, numbers[0])), joined(word, parts))]

    return body


def rows(word: str) -> Callable[..., list[Node]]:
    """The body of a kernel that reduces each row."""

    def of_row(row: Row, number: Node, pointers: list[Node], others: list[Node]) -> list[Node]:
        results, x = pointers
        c = row.over()
        return [store(results, number, reduce(x.load(row.base + c), [c], word, "reassoc"))]

    return by_rows(of_row)


def columns(word: str) -> Callable[..., list[Node]]:
    """The body of a kernel that reduces the columns of each matrix (n, inner), some rows at a
    time.
    """

    def body(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
        results, x = pointers
        n, inner = numbers
        loops = Loops()
        matrix = loops(start, stop)
        to, base = matrix * inner, matrix * n * inner
        blocks = Node("div", "i64", (n - 1, constant(BLOCK, "i64")))

        def added(rows: list[Node], c: Node) -> Node:
            """Adds rows to the result."""
            value = joined(word, [x.load(base + r * inner + c) for r in rows])
            return loop(c, store(results, to + c, joined(word, [results.load(to + c), value])))

        c = loops.vector(inner)
        first = loop(c, store(results, to + c, x.load(base + c)))
        block = loops(0, blocks)
        several = added([block * BLOCK + (k + 1) for k in range(BLOCK)], loops.vector(inner))
        row = loops(blocks * BLOCK + 1, n)
        rest = added([row], loops.vector(inner))
        return [loop(matrix, first, loop(block, several), loop(row, rest))]

    return body


BODIES: dict[str, tuple[int, Callable]] = {  # how many numbers, the body
    "whole": (1, whole),
    "rows": (1, rows),
    "columns": (2, columns),
}


@cache
def kernel(form: str, word: str, dtype: np.dtype) -> Kernel:
    """The compiled kernel for a type."""
    numbers, body = BODIES[form]
    return Kernel(f"{form}_{word}", [TYPES[dtype]] * 2, ["i64"] * numbers, body(word))


# -- the built-in ------------------------------------------------------------------------------


def write_entry(module: Module) -> None:
    """Writes `reduced(array, dim, keepdim)` for CPython; see `entry`."""
    s = Scope(module.function("reduced", "ptr", self="ptr", args="ptr", count="i64"), "general")
    f = s.f
    context = f.call("ptr", "PyLong_AsVoidPtr", f["self"])
    x, dim, keep = (f.load("ptr", f["args"], i) for i in range(3))
    s.require(f["count"].equals(3))
    s.require(s.either(s.is_object(keep, "True"), s.is_object(keep, "False")))
    s.require(s.is_a(x, "ndarray"))
    need = CONTIGUOUS | ALIGNED
    s.require((f.load("i32", f.at(x, FLAGS)) & need).equals(need))
    kind = s.descriptor(x)
    wide = s.is_object(kind, "F64")
    s.require(s.either(wide, s.is_object(kind, "F32")))
    sizes = f.buffer(8 * MOST_DIMS, 8)
    outer, n, inner, rank = view(s, x, dim, s.is_object(keep, "True"), sizes)
    form = f.select(inner > 1, s.number(2), f.select(outer > 1, s.number(1), 0))
    short = s.both(form.equals(1), n < SHORT)
    place = f.select(short, s.number(3), form) + f.convert("zext", wide, "i64") * len(FORMS)
    function = f.load("ptr", f.at(context, Context.kernels.offset), place)
    s.require(function.differs(s.null()))
    chunk, tiles = cut_rows(s, form, outer, n, inner)
    y = s.new_array(kind, f.convert("trunc", rank, "i32"), sizes)
    job = f.buffer(8 * 6, 8)
    f.store(s.memory(x), job, 1)
    with f.when(form.equals(0)):
        reduce_whole(s, function, job, s.memory(y), (n, chunk, tiles), y)
    with f.when(form.differs(0)):
        f.store(s.memory(y), job)
        of_columns = form.equals(2)
        listed = (
            n,
            f.select(of_columns, inner, outer),
            f.select(of_columns, outer, chunk),
            chunk,
        )
        for i, value in enumerate(listed):
            f.store(value, job, 2 + i)
        run_tiles(s, function, job, tiles, y)
    with f.when(f.load("i64", context).differs(0)):
        divide(s, y, kind, n, outer * inner)
    f.ret(y)
    f.lines.append("general:")
    f.call("void", "PyErr_Clear")
    general = f.load("ptr", f.at(context, Context.general.offset))
    f.ret(f.call("ptr", "PyObject_Vectorcall", general, f["args"], f["count"], s.null()))


def view(
    s: Scope, x: Value, dim: Value, keep: Value, sizes: Value
) -> tuple[Value, Value, Value, Value]:
    """The array as (outer, n, inner), and the rank of the result, whose sizes are stored. Gives up
    for empty arrays, and for several dimensions.
    """
    f = s.f
    rank, at = f.convert("sext", s.rank(x), "i64"), f.variable("i64", -1)
    s.require(s.both(rank <= MOST_DIMS, rank > 0))
    all_of_it = s.is_object(dim, "None")
    with f.when(all_of_it.equals(0)):
        given = s.integer(dim)
        at.set(f.select(given < 0, given + rank, given))
        s.require(s.both(at.get() >= 0, at.get() < rank))
    outer, n, inner = (f.variable("i64", 1) for _ in range(3))
    left = f.variable("i64", 0)
    with f.loop(0, rank) as k:
        size, here = f.load("i64", s.sizes(x), k), s.either(k.equals(at.get()), all_of_it)
        before = s.both(k < at.get(), here.equals(0))
        behind = s.both(k > at.get(), here.equals(0))
        for condition, total in ((before, outer), (here, n), (behind, inner)):
            total.set(f.select(condition, total.get() * size, total.get()))
        f.store(f.select(here, s.number(1), size), sizes, left.get())
        left.set(left.get() + f.convert("zext", s.either(here.equals(0), keep), "i64"))
    s.require(outer.get() * n.get() * inner.get() > 0)
    return outer.get(), n.get(), inner.get(), left.get()


def cut_rows(s: Scope, form: Value, outer: Value, n: Value, inner: Value) -> tuple[Value, Value]:
    """The items in a tile, and the number of tiles. Gives up for tall matrices, which are cut
    otherwise, and for narrow ones.
    """
    f = s.f
    with f.when(form.equals(2)):
        s.require(inner >= NARROW)
    elements = outer * n * inner
    with f.when(s.both(form.equals(2), elements > TALL)):
        s.require(outer > 1)
    chunk, tiles = f.variable("i64", outer), f.variable("i64", 1)
    with f.when(form.equals(0)):
        cut_chunk, cut_tiles = cut(s, n)
        chunk.set(cut_chunk)
        tiles.set(cut_tiles)
    with f.when(s.both(form.differs(0), elements > ALONE)):
        require_settled(s)
        least = s.number(TILE) / (n * inner)
        share = (outer + (MOST_TILES - 1)) / MOST_TILES
        most = f.select(share > least, share, least)
        chunk.set(f.select(most > 1, most, 1))
        tiles.set((outer + chunk.get() - 1) / chunk.get())
    return chunk.get(), tiles.get()


def reduce_whole(
    s: Scope, function: Value, job: Value, result: Value, cut_as: tuple[Value, ...], y: Value
) -> None:
    """Reduces the tiles, and then what they leave."""
    f = s.f
    n, chunk, tiles = cut_as
    parts = f.buffer(8 * 2 * MOST_TILES, 8)
    several = tiles > 1
    f.store(f.select(several, parts, result), job)
    for i, value in enumerate((chunk, n, chunk)):
        f.store(value, job, 2 + i)
    run_tiles(s, function, job, tiles, y)
    with f.when(several):
        for i, value in enumerate((result, parts, tiles, tiles, tiles)):
            f.store(value, job, i)
        f.call("void", function, job, s.number(0), s.null())


def divide(s: Scope, y: Value, kind: Value, n: Value, count: Value) -> None:
    """Divides the elements of the result by n."""
    f = s.f
    for type, name in (("float", "F32"), ("double", "F64")):
        with f.when(s.is_object(kind, name)):
            by = f.convert("sitofp", n, type)
            with f.loop(0, count) as i:
                f.store(f.load(type, s.memory(y), i) / by, s.memory(y), i)


@cache
def native() -> runtime.Native:
    """The loaded code."""
    prepare_memory()
    module = Module()
    write_count_elements(module)
    write_entry(module)
    code = runtime.load(module.text())
    fill_objects(code, module)
    code.fill("run", stages.native().address("run_one"))
    code.fill("pool", pool.pool().address)
    return code


def tall(name: str, x: ndarray, keepdim: bool) -> ndarray | None:
    """A reduction of many rows, too many for one tile: in matrices of some rows, then of what they
    leave. None for matrices that NumPy reduces as well.
    """
    n = x.shape[0]
    inner = x.size // n if n else 0
    if not (x.flags.c_contiguous and NARROW <= inner <= LONGEST and n >= MANY):
        return None
    of_columns, chunk = kernel("columns", WORDS[name], x.dtype), chunk_of(n, inner)
    matrices, rest = n // chunk, n % chunk
    parts = np.empty((matrices + (rest > 0), inner), x.dtype)
    of_columns([parts, x], [chunk, inner], matrices, chunk * inner)
    if rest:
        of_columns([parts[matrices:], x[n - rest :]], [rest, inner], 1, rest * inner)
    y = np.empty((1, *x.shape[1:]) if keepdim else x.shape[1:], x.dtype)
    of_columns([y, parts], [len(parts), inner], 1, 1)
    return np.divide(y, n, y) if name == "mean" else y


def entry(name: str) -> Callable[[ndarray, Any, bool], ndarray | None]:
    """A reduction of `WORDS` as a function of an array, a dimension (None: all) and whether to keep
    it; None for arrays that it is not made for.
    """
    context = Context(name == "mean")

    def general(x: ndarray, dim: Any, keepdim: bool) -> ndarray | None:
        """Compiles the kernels for the array's type, if they are missing, and tries again; sums up
        tall matrices.
        """
        wide = x.dtype == np.float64
        if x.dtype not in TYPES:
            return None
        settled = pool.pool().settled
        if not context.kernels[len(FORMS) * wide] or not settled.value:
            stages.settle()
            for i, form in enumerate(FORMS):
                made = kernel(form.split()[-1], WORDS[name], x.dtype)
                address = made.at(SHORT - 1 if form.startswith("short") else SHORT)
                context.kernels[i + len(FORMS) * wide] = address
            return call(x, dim, keepdim) if settled.value else None
        return tall(name, x, keepdim) if dim == 0 else None

    if not readable():
        return lambda x, dim, keepdim: None
    context.general = general
    doc = f"{name} over all elements or one dimension.".encode()
    method = Method(b"reduced", native().address("reduced"), METH_FASTCALL, doc)
    KEPT.append((method, context))
    call = function(method, context)
    return call
