"""Compiled calls of views whose parameters are integers: transposed, permuted, squeezed, expanded,
flattened; and of parts: chunk, split, unbind. Imports views, described, objects and
core.

A kind of view is a function that writes the new sizes and strides into a `Layout` and returns its
parameters; the rest is common to all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from ...core.graph import DIRECT, GENERAL, Node
from ...core.op import OPS
from ...core.tensor import Tensor
from ..native.emit import Module, Value
from .described import SAVES, Described, described
from .objects import ITEMS, MOST_DIMS, SIZE, Scope, begin, begin_core
from .views import Context, context_of, new_view

Parameters = dict[str, Value]  # names and owned references


class Layout:
    """A core that makes a view: the array seen, and the new dimensions as they are added."""

    def __init__(self, s: Scope, x: Value) -> None:
        self.s, self.f, self.x = s, s.f, x
        self.rank = s.f.convert("sext", s.rank(x), "i64")
        s.require(self.rank < MOST_DIMS)
        self.sizes, self.strides = (s.f.buffer(8 * MOST_DIMS, 8) for _ in range(2))
        self.count = s.f.variable("i64", 0)

    def size(self, i: Value) -> Value:
        """The array's size along a dimension."""
        return self.f.load("i64", self.s.sizes(self.x), i)

    def add(self, size: Value, stride: Value) -> None:
        """Adds a dimension."""
        self.f.store(size, self.sizes, self.count.get())
        self.f.store(stride, self.strides, self.count.get())
        self.count.set(self.count.get() + 1)

    def take(self, i: Value) -> None:
        """Adds a dimension of the array."""
        self.add(self.size(i), self.f.load("i64", self.s.steps(self.x), i))

    def dim(self, i: int, ends: int = 0) -> Value:
        """A core's argument that is a dimension, counted from the front; one of `ends` more."""
        s, f = self.s, self.f
        given, limit = s.integer(s.needed(i)), self.rank + ends
        dim = f.select(given < 0, given + limit, given)
        s.require(s.both(dim >= 0, dim < limit))
        return dim

    def integers(self) -> tuple[Value, Value]:
        """The arguments behind the tensor, integers from -1 on, in memory, and their number."""
        s, f = self.s, self.f
        found = f.buffer(8 * MOST_DIMS, 8)
        count = f.call("i64", "read_sizes", f.at(f["given"], 1, "ptr"), found)
        s.require(count > 0)
        return found, count

    def tuple_of(self, integers: Value, count: Value) -> Value:
        """A tuple of integers in memory."""
        s, f = self.s, self.f
        made = f.call("ptr", "PyTuple_New", count)
        with f.loop(0, count) as i:
            item = f.call("ptr", "PyLong_FromSsize_t", f.load("i64", integers, i))
            f.store(item, made, i + (ITEMS >> 3))
        s.require(made.differs(s.null()))
        return made


def integer(s: Scope, value: Value) -> Value:
    """A Python int."""
    return s.f.call("ptr", "PyLong_FromSsize_t", value)


def dictionary(s: Scope, items: Parameters) -> Value:
    """A new dictionary; takes the references to the values."""
    if not items:
        return s.hold(s.object("NOTHING"))
    made = s.f.call("ptr", "PyDict_New")
    for name, value in items.items():
        s.f.call("i32", "PyDict_SetItem", made, s.object(name), value)
        s.drop(value)
    return made


# -- kinds -----------------------------------------------------------------------------------------


def transposed(v: Layout) -> Parameters:
    """`transpose(self, dim0, dim1)`."""
    f, first, second = v.f, v.dim(1), v.dim(2)
    v.s.require(first.differs(second))
    with f.loop(0, v.rank) as k:
        v.take(f.select(k.equals(first), second, f.select(k.equals(second), first, k)))
    return {"dim0": integer(v.s, first), "dim1": integer(v.s, second)}


def turned(v: Layout) -> Parameters:
    """`t(self)`."""
    v.s.require(v.rank <= 2)
    with v.f.loop(0, v.rank) as k:
        v.take(v.rank - k - 1)
    return {}


def permuted(v: Layout) -> Parameters:
    """`permute(self, *dims)`."""
    s, f = v.s, v.f
    dims, count = v.integers()
    s.require(count.equals(v.rank))
    seen = f.variable("i64", 0)
    with f.loop(0, count) as k:
        given = f.load("i64", dims, k)
        dim = f.select(given < 0, given + v.rank, given)
        s.require(dim < v.rank)
        bit = f.constant("i64", 1).binary("<<", dim)
        s.require((seen.get() & bit).equals(0))
        seen.set(seen.get() | bit)
        f.store(dim, dims, k)
        v.take(dim)
    return {"dims": v.tuple_of(dims, count)}


def squeezed(v: Layout) -> Parameters:
    """`squeeze(self, dim)`."""
    s, f = v.s, v.f
    s.require(v.rank > 0)
    asked, all = f.variable("i64", -1), s.is_missing(s.given(1))
    with f.when(all.equals(0)):
        asked.set(v.dim(1))
    gone, count = f.buffer(8 * MOST_DIMS, 8), f.variable("i64", 0)
    with f.loop(0, v.rank) as k:
        drop = s.both(v.size(k).equals(1), s.either(all, k.equals(asked.get())))
        with f.when(drop):
            f.store(k, gone, count.get())
            count.set(count.get() + 1)
        with f.when(drop.equals(0)):
            v.take(k)
    form = f.select(all, s.number(0), 1)
    return {"dims": v.tuple_of(gone, count.get()), "form": integer(s, form)}


def unsqueezed(v: Layout) -> Parameters:
    """`unsqueeze(self, dim)`."""
    f, dim = v.f, v.dim(1, ends=1)
    with f.loop(0, v.rank + 1) as k:
        with f.when(k.equals(dim)):
            v.add(v.s.number(1), v.s.number(0))
        with f.when(k < v.rank):
            v.take(k)
    return {"dim": integer(v.s, dim)}


def expanded(v: Layout) -> Parameters:
    """`expand(self, *sizes)`."""
    return expanded_to(v, *v.integers())


def expanded_as(v: Layout) -> Parameters:
    """`expand_as(self, other)`."""
    s, f, other = v.s, v.f, v.s.array(v.s.needed(1))
    sizes, count = f.buffer(8 * MOST_DIMS, 8), f.convert("sext", s.rank(other), "i64")
    s.require(s.both(count > 0, count < MOST_DIMS))
    with f.loop(0, count) as k:
        f.store(f.load("i64", s.sizes(other), k), sizes, k)
    return expanded_to(v, sizes, count)


def expanded_to(v: Layout, sizes: Value, count: Value) -> Parameters:
    """The view of these sizes, of which -1 leaves one as it is."""
    s, f = v.s, v.f
    lead = count - v.rank
    s.require(lead >= 0)
    with f.loop(0, count) as k:
        asked = f.load("i64", sizes, k)
        with f.when(k < lead):
            s.require(asked >= 0)
            v.add(asked, s.number(0))
        with f.when(k >= lead):
            have = v.size(k - lead)
            same = s.either(asked.equals(have), asked.equals(-1))
            s.require(s.either(same, have.equals(1)))
            f.store(f.select(same, have, asked), sizes, k)
            step = f.load("i64", s.steps(v.x), k - lead)
            v.add(f.load("i64", sizes, k), f.select(same, step, 0))
    return {"shape": v.tuple_of(sizes, count)}


def flattened(v: Layout) -> Parameters:
    """`flatten(self, start_dim, end_dim)` of what lies row by row."""
    s, f = v.s, v.f
    s.require(s.both(s.contiguous(v.x), v.rank > 0))
    first, last = f.variable("i64", 0), f.variable("i64", v.rank - 1)
    for i, end in ((1, first), (2, last)):
        with f.when(s.given(i).differs(s.null())):
            end.set(v.dim(i))
    s.require(first.get() <= last.get())
    with f.when(first.get().equals(last.get())):
        f.ret(s.hold(s.given(0)))
    total = f.variable("i64", 1)
    with f.loop(0, v.rank) as k:
        inside = s.both(k >= first.get(), k <= last.get())
        total.set(f.select(inside, total.get() * v.size(k), total.get()))
        with f.when(s.either(inside.equals(0), k.equals(last.get()))):
            v.add(f.select(inside, total.get(), v.size(k)), s.number(0))
    return {"shape": v.tuple_of(v.sizes, v.count.get())}


# Name of the core -> what writes it, and the operator's record.
KINDS: dict[str, tuple[Callable[[Layout], Parameters], str]] = {
    "transpose": (transposed, "transpose"),
    "t": (turned, "t"),
    "permute": (permuted, "permute"),
    "squeeze": (squeezed, "squeeze"),
    "unsqueeze": (unsqueezed, "unsqueeze"),
    "expand": (expanded, "expand"),
    "expand_as": (expanded_as, "expand"),
    "flatten": (flattened, "view"),
}


def write_kind(module: Module, name: str) -> None:
    """The core of one kind of view."""
    s = begin_core(module, f"view_{name}")
    f, input = s.f, s.needed(0)
    x, mode = s.array(input), s.mode()
    s.require(mode.differs(GENERAL))
    layout = Layout(s, x)
    params = KINDS[name][0](layout)
    strides = s.null() if name == "flatten" else layout.strides
    rank = f.convert("trunc", layout.count.get(), "i32")
    made = new_view(s, x, rank, layout.sizes, strides, s.memory(x))
    f.ret(f.call("ptr", "finish_view", f["context"], mode, input, made, dictionary(s, params)))
    s.end()


def write_kinds(module: Module) -> None:
    """The cores of all kinds of views."""
    for name in KINDS:
        write_kind(module, name)


def write_detach(module: Module) -> None:
    """`detach(context, (self))`: the same array and storage."""
    s = begin_core(module, "detach")
    f, input = s.f, s.needed(0)
    x = s.array(input)
    s.require(s.mode().differs(GENERAL))
    made = s.new_tensor(s.hold(x))
    s.require(made.differs(s.null()))
    with f.when(s.is_object(s.get(input, Tensor, "_storage"), "None")):
        storage = f.call("ptr", "new_storage")
        s.require(storage.differs(s.null()))
        s.replace(input, Tensor, "_storage", storage)
    s.replace(made, Tensor, "_storage", s.hold(s.get(input, Tensor, "_storage")))
    f.ret(made)
    s.end()


# -- parts -----------------------------------------------------------------------------------------


class Parts(ctypes.Structure):
    """The operator that makes all parts, the view that each of them is, and the form of `split`."""

    _fields_ = [
        ("described", Described),
        ("view", Context),
        ("form", ctypes.py_object),
    ]


def parts_of(whole: str) -> Parts:
    """The context of `split`, `chunk` or `unbind`."""
    op = OPS[whole]
    parameters = ("dim",) if whole == "unbind" else ("sections", "dim", "form")
    return Parts(described(op, parameters), context_of(OPS["index_view"]), "SplitBackward0")


def write_one_part(module: Module, single: bool) -> None:
    """`piece(context, (x, dim, start, stop))` as integers: one part, and its index; `row` is that
    of one number.
    """
    s = Scope(
        module.function(
            "row" if single else "piece", "ptr", True, context="ptr", x="ptr", dim="i64",
            start="i64", stop="i64",
        )
    )  # fmt: skip
    f, dim, start = s.f, s.f["dim"], s.f["start"]
    x = s.get_array(f["x"])
    v = Layout(s, x)
    with f.loop(0, v.rank) as k:
        here = k.equals(dim)
        with f.when(here.equals(0)):
            v.take(k)
        if not single:
            with f.when(here):
                v.add(f["stop"] - start, f.load("i64", s.steps(x), k))
    memory = f.at(s.memory(x), start * f.load("i64", s.steps(x), dim))
    rank = f.convert("trunc", v.count.get(), "i32")
    made = new_view(s, x, rank, v.sizes, v.strides, memory)
    index = f.call("ptr", "PyTuple_New", dim + (2 if single else 1))
    with f.loop(0, dim) as k:
        f.store(s.hold(s.object("FULL")), index, k + (ITEMS >> 3))
    if single:
        f.store(integer(s, start), index, dim + (ITEMS >> 3))
        f.store(s.hold(s.object("Ellipsis")), index, dim + ((ITEMS >> 3) + 1))
    else:
        ends = [integer(s, start), integer(s, f["stop"])]
        f.store(f.call("ptr", "PySlice_New", *ends, s.null()), index, dim + (ITEMS >> 3))
        for end in ends:
            s.drop(end)
    params = dictionary(s, {"index": index})
    view = f.at(f["context"], Parts.view.offset)
    f.ret(f.call("ptr", "finish_view", view, s.number(DIRECT), f["x"], made, params))
    s.end()


def write_put_slot(module: Module) -> None:
    """`put_slot(part, node, i)`: a part becomes the i-th result of a node."""
    s = begin(module, "put_slot", "void", part="ptr", node="ptr", i="i64")
    f, part = s.f, s.f["part"]
    slot = f.call("ptr", "PyType_GenericAlloc", s.object("Slot"), s.number(0))
    s.require(slot.differs(s.null()))
    data = s.get_array(part)
    for name, value in (
        ("edges", s.tuple_of(s.hold(f["node"]))),
        ("shape", f.call("ptr", "shape_tuple", data)),
        ("dtype", s.hold(s.descriptor(data))),
        ("saved", s.hold(s.object("EMPTY"))),
        ("seq", f.call("ptr", "PyIter_Next", s.object("CLOCK"))),
    ):
        s.put(slot, Node, name, value)
    number = integer(s, f["i"])
    f.call("i32", "PyObject_SetAttr", slot, s.object("node"), f["node"])
    f.call("i32", "PyObject_SetAttr", slot, s.object("index"), number)
    s.drop(number)
    s.replace(part, Tensor, "_requires_grad", s.hold(s.object("True")))
    s.replace(part, Tensor, "grad_fn", slot)
    f.ret()
    f.label(s.otherwise)
    f.ret()


def write_record_parts(module: Module) -> None:
    """`record_parts(context, x, parts, values)`: puts a node behind all parts, and one in front of
    each, as `core.dispatch.record` does it.
    """
    s = begin(module, "record_parts", "ptr", context="ptr", x="ptr", parts="ptr", values="ptr")
    f, parts = s.f, s.f["parts"]
    saves = f.at(f["context"], SAVES)
    node = f.call("ptr", "PyType_GenericAlloc", s.object("Node"), s.number(0))
    s.require(node.differs(s.null()))
    count = f.load("i64", parts, SIZE >> 3)
    listed = f.buffer(8, 8)
    f.store(f["x"], listed)
    null = s.null()
    for name, value in (
        ("plan", s.hold(f.load("ptr", saves))),
        ("params", f.call("ptr", "parameters", f["context"], f["values"])),
        ("edges", f.call("ptr", "edges", s.number(1), f["x"], null, null)),
        ("saved", f.call("ptr", "save", saves, null, listed, f["values"])),
        ("seq", f.call("ptr", "PyIter_Next", s.object("CLOCK"))),
        ("shape", integer(s, count)),
        ("dtype", s.hold(s.object("None"))),
    ):
        s.put(node, Node, name, value)
    with f.loop(0, count) as i:
        f.call("void", "put_slot", f.load("ptr", parts, i + (ITEMS >> 3)), node, i)
    s.drop(node)
    f.ret(parts)
    s.end()


def recorded_parts(s: Scope, mode: Value, parts: Value, values: Sequence[Value]) -> None:
    """Returns the parts, recorded if need be; takes the references to the values."""
    f, input = s.f, s.given(0)
    listed = f.buffer(8 * len(values), 8)
    for i, value in enumerate(values):
        f.store(value, listed, i)
    needs = f.call("i64", "grad_mask", input, s.null(), s.null()).differs(0)
    with f.when(s.both(needs, mode.differs(DIRECT))):
        made = f.call("ptr", "record_parts", f["context"], input, parts, listed)
        s.require(made.differs(s.null()))
    f.call("void", "release", listed, s.number(len(values)))
    f.ret(parts)
    s.end()


def begin_parts(module: Module, name: str, dim_at: int) -> tuple[Scope, Value, Value, Value]:
    """A core that makes parts; the mode, the dimension and its size."""
    s = begin_core(module, name)
    f = s.f
    x, mode = s.array(s.needed(0)), s.mode()
    s.require(mode.differs(GENERAL))
    v, dim = Layout(s, x), f.variable("i64", 0)
    s.require(v.rank > 0)
    with f.when(s.given(dim_at).differs(s.null())):
        dim.set(v.dim(dim_at))
    size = v.size(dim.get())
    s.require(size > 0)
    return s, mode, dim.get(), size


def write_split(module: Module, name: str) -> None:
    """`split(self, size, dim)` of one size, and `chunk(self, chunks, dim)`."""
    s, mode, dim, size = begin_parts(module, name, 2)
    f, given = s.f, s.integer(s.needed(1))
    s.require(given > 0)

    def divided(a: Value, b: Value) -> Value:
        return f.emit("i64", f"sdiv {a + b - 1}, {b.name}")

    each = divided(size, given) if name == "chunk" else given
    count = divided(size, each)
    parts, sections = f.call("ptr", "PyTuple_New", count), f.call("ptr", "PyTuple_New", count)
    with f.loop(0, count) as i:
        start, end = i * each, i * each + each
        stop = f.select(end > size, size, end)
        made = f.call("ptr", "piece", f["context"], s.given(0), dim, start, stop)
        s.require(made.differs(s.null()))
        f.store(made, parts, i + (ITEMS >> 3))
        f.store(integer(s, stop - start), sections, i + (ITEMS >> 3))
    form = s.hold(f.load("ptr", f.at(f["context"], Parts.form.offset)))
    recorded_parts(s, mode, parts, [sections, integer(s, dim), form])


def write_unbind(module: Module) -> None:
    """`unbind(self, dim)`."""
    s, mode, dim, size = begin_parts(module, "unbind", 1)
    f = s.f
    parts = f.call("ptr", "PyTuple_New", size)
    with f.loop(0, size) as i:
        made = f.call("ptr", "row", f["context"], s.given(0), dim, i, i)
        s.require(made.differs(s.null()))
        f.store(made, parts, i + (ITEMS >> 3))
    recorded_parts(s, mode, parts, [integer(s, dim)])


SHARED: tuple[Callable[[Module], None], ...] = (
    write_kinds, write_detach, write_put_slot, write_record_parts,
    lambda module: write_one_part(module, single=True),
    lambda module: write_one_part(module, single=False),
    lambda module: write_split(module, "split"), lambda module: write_split(module, "chunk"),
    write_unbind,
)  # fmt: skip
