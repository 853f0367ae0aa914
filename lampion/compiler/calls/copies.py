"""Compiled calls of copies in which elements stand elsewhere, or zeros: tril, triu, pad, flip,
roll, one_hot. Imports described, filled, lookups, objects, scans and core.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...core.graph import GENERAL
from ..native.emit import Module, Value
from .described import completed
from .filled import for_kinds, number_in
from .lookups import Odometer, item_size
from .objects import ITEMS, MOST_DIMS, SIZE, Scope, begin, begin_core
from .scans import sizes_around

# Name of a core -> the operator's record ("": none), the function's parameters, and the recorded
# ones.
COPIES = {
    "tril": ("tril", "input diagonal", "diagonal"),
    "triu": ("triu", "input diagonal", "diagonal"),
    "pad": ("constant_pad_nd", "input pad mode value", "pads value"),
    "flip": ("flip", "input dims", "dims"),
    "roll": ("roll", "input shifts dims", "shifts dims"),
    "one_hot": ("", "tensor num_classes", ""),
}
MOST_CLASSES = 1 << 20  # elements of rows with a single one


def whole(s: Scope, least: int = 1) -> tuple[Value, Value, Value]:
    """The array of a tensor that lies row by row and is not empty, its rank, and the mode."""
    f, x = s.f, s.array(s.needed(0))
    rank, mode = f.convert("sext", s.rank(x), "i64"), s.mode()
    s.require(s.both(s.contiguous(x), s.both(rank >= least, rank < MOST_DIMS)))
    s.require(s.both(s.count(x) > 0, mode.differs(GENERAL)))
    return x, rank, mode


def size_of(s: Scope, x: Value, i: Value) -> Value:
    """An array's size along a dimension."""
    return s.f.load("i64", s.sizes(x), i)


def clear(s: Scope, place: Value, count: Value) -> None:
    """Writes zeros to bytes."""
    s.f.call("ptr", "memset", place, s.number(0, "i32"), count)


def copy(s: Scope, to: Value, source: Value, count: Value) -> None:
    """Copies bytes."""
    s.f.call("ptr", "memcpy", to, source, count)


# -- triangles -------------------------------------------------------------------------------------


def write_triangle(module: Module, name: str) -> None:
    """`tril(context, (input, diagonal))` and `triu`."""
    s = begin_core(module, name)
    f = s.f
    x, rank, mode = whole(s, 2)
    given = f.variable("ptr", s.given(1))
    with f.when(given.get().equals(s.null())):
        given.set(s.object("zero"))
    diagonal = s.integer(given.get())
    s.require(s.both(diagonal > -(1 << 40), diagonal < 1 << 40))
    bytes, rows, columns = item_size(s, x), size_of(s, x, rank - 2), size_of(s, x, rank - 1)
    y = s.new_array(s.descriptor(x), s.rank(x), s.sizes(x))
    first = diagonal + (1 if name == "tril" else 0)  # where the first row changes
    with f.loop(0, s.count(x) / columns) as line:
        edge = first + line % rows
        edge = f.select(edge < 0, s.number(0), f.minimum(edge, columns)) * bytes
        at, rest = line * columns * bytes, columns * bytes - edge
        source, to = f.at(s.memory(x), at), f.at(s.memory(y), at)
        if name == "tril":
            copy(s, to, source, edge)
            clear(s, f.at(to, edge), rest)
        else:
            clear(s, to, edge)
            copy(s, f.at(to, edge), f.at(source, edge), rest)
    f.ret(completed(s, mode, y, [s.given(0)], [s.hold(given.get())]))
    s.end()


# -- padding ---------------------------------------------------------------------------------------


def write_place_rows(module: Module) -> None:
    """`place_rows(x, y, rank, steps)`: the rows of an array that lies row by row, each to its place
    in memory, where a step along dimension i goes over `steps[i]` bytes; the last number is the
    bytes of a row.
    """
    s = begin(module, "place_rows", "void", x="ptr", y="ptr", rank="i64", steps="ptr")
    f, rank = s.f, s.f["rank"]
    row = f.load("i64", f["steps"], rank - 1)
    rows_on, offset = Odometer(f, rank, s.sizes(f["x"]), f["steps"]), f.variable("i64", 0)
    lines = f.call("i64", "count_elements", f["x"]) / size_of(s, f["x"], rank - 1)
    with f.loop(0, lines) as line:
        source = f.at(s.memory(f["x"]), line * row)
        copy(s, f.at(f["y"], offset.get()), source, row)
        rows_on.step(offset)
    f.ret()


def items_of(s: Scope, listed: Value) -> tuple[Value, Value]:
    """The items of a list or tuple in memory, and how many they are."""
    f, found = s.f, s.f.variable("ptr", s.f.at(listed, ITEMS))
    is_list = s.is_a(listed, "list")
    s.require(s.either(is_list, s.is_a(listed, "tuple")))
    with f.when(is_list):
        found.set(f.load("ptr", found.get()))
    return found.get(), f.load("i64", listed, SIZE >> 3)


def write_pad(module: Module) -> None:
    """`pad(context, (input, pad, mode, value))` of floats with a constant, nothing cut off."""
    s = begin_core(module, "pad")
    f = s.f
    x, rank, mode = whole(s)
    kind, how = s.descriptor(x), s.given(2)
    s.require(s.either(s.is_object(kind, "F32"), s.is_object(kind, "F64")))
    s.require(s.either(how.equals(s.null()), s.is_object(how, "constant")))
    value = f.variable("ptr", s.given(3))
    with f.when(s.is_missing(value.get())):
        value.set(s.object("zero"))
    number = s.double(value.get())
    s.require(s.either(s.fits_float(number), s.is_object(kind, "F64")))
    items, given = items_of(s, s.needed(1))
    count = given / 2
    s.require(s.both((given & 1).equals(0), s.both(count > 0, count <= rank)))
    sizes, steps = f.buffer(8 * MOST_DIMS, 8), f.buffer(8 * MOST_DIMS, 8)
    before = f.buffer(8 * MOST_DIMS, 8)
    with f.loop(0, rank) as k:
        f.store(size_of(s, x, k), sizes, k)
        f.store(s.number(0), before, k)
    with f.loop(0, count) as i:
        ends = [s.integer(f.load("ptr", items, i * 2 + side)) for side in (0, 1)]
        for end in ends:
            s.require(s.both(end >= 0, end < 1 << 31))
        k = rank - i - 1
        f.store(size_of(s, x, k) + ends[0] + ends[1], sizes, k)
        f.store(ends[0], before, k)
    y = s.new_array(kind, s.rank(x), sizes)
    start, step = f.variable("i64", 0), f.variable("i64", item_size(s, x))
    with f.loop(0, rank) as i:
        k = rank - i - 1
        f.store(step.get(), steps, k)
        start.set(start.get() + f.load("i64", before, k) * step.get())
        step.set(step.get() * f.load("i64", sizes, k))
    for_kinds(s, kind, partial(fill_all, s, y, number))
    f.store(size_of(s, x, rank - 1) * item_size(s, x), steps, rank - 1)
    f.call("void", "place_rows", x, f.at(s.memory(y), start.get()), rank, steps)
    pads = f.call("ptr", "PyTuple_New", count)
    with f.loop(0, count) as i:  # from the first dimension on
        pair = (count - i - 1) * 2
        ends = [s.hold(f.load("ptr", items, pair + side)) for side in (0, 1)]
        f.store(s.tuple_of(*ends), pads, i + (ITEMS >> 3))
    f.ret(completed(s, mode, y, [s.given(0)], [pads, s.hold(value.get())]))
    s.end()


def fill_all(s: Scope, y: Value, number: Value, type: str) -> None:
    """Writes a number to all elements."""
    if type in ("float", "double"):
        value, place = number_in(s, number, type), s.memory(y)
        with s.f.loop(0, s.count(y)) as i:
            s.f.store(value, place, i)


# -- flip and roll ---------------------------------------------------------------------------------


def one_number(s: Scope, given: Value) -> Value:
    """The int that is given, alone or as the only item of a list or tuple."""
    f, found = s.f, s.f.variable("ptr", given)
    with f.when(s.is_a(given, "int").equals(0)):
        items, count = items_of(s, given)
        s.require(count.equals(1))
        found.set(f.load("ptr", items))
    return found.get()


def dim_of(s: Scope, given: Value, rank: Value) -> Value:
    """The dimension, counted from the front, that an int names."""
    number = s.integer(given)
    dim = s.f.select(number < 0, number + rank, number)
    s.require(s.both(dim >= 0, dim < rank))
    return dim


def write_flip(module: Module) -> None:
    """`flip(context, (input, dims))` along one dimension."""
    s = begin_core(module, "flip")
    f = s.f
    x, rank, mode = whole(s)
    dim = dim_of(s, one_number(s, s.needed(1)), rank)
    kind, bytes = s.descriptor(x), item_size(s, x)
    outer, n, inner = sizes_around(s, x, rank, dim)
    y = s.new_array(kind, s.rank(x), s.sizes(x))
    source, to = s.memory(x), s.memory(y)

    def turn(type: str) -> None:
        with f.loop(0, outer) as o:
            end, start = f.at(source, o * n + (n - 1), type), f.at(to, o * n, type)
            with f.loop(0, n) as k:
                f.store(f.load(type, end, -k), start, k)

    with f.when(inner.equals(1)):
        for_kinds(s, kind, turn)
    with f.when(inner.differs(1)):
        row = inner * bytes
        with f.loop(0, outer) as o, f.loop(0, n) as k:
            copy(s, f.at(to, (o * n + k) * row), f.at(source, (o * n + (n - 1) - k) * row), row)
    dims = s.tuple_of(f.call("ptr", "PyLong_FromSsize_t", dim))
    f.ret(completed(s, mode, y, [s.given(0)], [dims]))
    s.end()


def write_roll(module: Module) -> None:
    """`roll(context, (input, shifts, dims))` along one dimension."""
    s = begin_core(module, "roll")
    f = s.f
    x, rank, mode = whole(s)
    shift = one_number(s, s.needed(1))
    moved, dim = s.integer(shift), dim_of(s, one_number(s, s.needed(2)), rank)
    outer, n, inner = sizes_around(s, x, rank, dim)
    left = moved % n
    row = inner * item_size(s, x)
    head = f.select(left < 0, left + n, left) * row  # bytes that come round
    block = n * row
    y = s.new_array(s.descriptor(x), s.rank(x), s.sizes(x))
    with f.loop(0, outer) as o:
        source, to = (f.at(s.memory(a), o * block) for a in (x, y))
        copy(s, f.at(to, head), source, block - head)
        copy(s, to, f.at(source, block - head), head)
    numbers = (s.hold(shift), f.call("ptr", "PyLong_FromSsize_t", dim))
    f.ret(completed(s, mode, y, [s.given(0)], [s.tuple_of(number) for number in numbers]))
    s.end()


# -- one_hot ---------------------------------------------------------------------------------------


def write_one_hot(module: Module) -> None:
    """`one_hot(context, (tensor, num_classes))`."""
    s = begin_core(module, "one_hot")
    f = s.f
    x = s.array(s.needed(0))
    rank, count = f.convert("sext", s.rank(x), "i64"), s.count(x)
    s.require(s.both(s.contiguous(x), s.is_object(s.descriptor(x), "I64")))
    s.require(s.both(rank < MOST_DIMS, s.both(count > 0, s.mode().differs(GENERAL))))
    largest, smallest = f.variable("i64", 0), f.variable("i64", 0)
    with f.loop(0, count) as i:
        number = f.load("i64", s.memory(x), i)
        largest.set(f.select(number > largest.get(), number, largest.get()))
        smallest.set(f.minimum(number, smallest.get()))
    s.require(s.both(smallest.get() >= 0, largest.get() < MOST_CLASSES))
    classes, given = f.variable("i64", largest.get() + 1), s.given(1)
    with f.when(given.differs(s.null())):
        asked = s.integer(given)
        s.require(s.either(asked.equals(-1), asked >= classes.get()))
        classes.set(f.select(asked.equals(-1), classes.get(), asked))
    width = classes.get()
    s.require(s.both(width <= MOST_CLASSES, count <= MOST_CLASSES))
    s.require(count * width <= MOST_CLASSES)
    sizes = f.buffer(8 * MOST_DIMS, 8)
    with f.loop(0, rank) as k:
        f.store(size_of(s, x, k), sizes, k)
    f.store(width, sizes, rank)
    y = s.new_array(s.object("I64"), f.convert("trunc", rank + 1, "i32"), sizes)
    clear(s, s.memory(y), count * width * 8)
    source, to = s.memory(x), s.memory(y)
    with f.loop(0, count) as i:
        f.store(s.number(1), to, i * width + f.load("i64", source, i))
    made = s.new_tensor(y)
    f.ret(made)
    s.end()


SHARED: tuple[Callable[[Module], None], ...] = (
    *[partial(write_triangle, name=name) for name in ("tril", "triu")],
    write_place_rows, write_pad, write_flip, write_roll, write_one_hot,
)  # fmt: skip
