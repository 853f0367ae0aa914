"""What all compiled calls share: the mode, results as tensors, nodes of the graph. Imports objects
and core.

Functions in IR that others call by name, each written by a Python function that says what it does.
"""

from __future__ import annotations

from ...core.graph import Node, SavedOutput
from ...core.memory import Storage
from ...core.tensor import Tensor
from ..native.emit import Module, Value
from .objects import ITEMS, Scope, begin


def write_mode(module: Module) -> None:
    """`mode()`: what is known for this thread, else read from `STATE` and noted."""
    s = begin(module, "mode", "i64")
    f = s.f
    known = f.load("ptr", Value(f, "ptr", module.pointer("known_mode")))
    thread = f.call("i64", "PyThreadState_GetID", f.call("ptr", "PyThreadState_Get"))
    with f.when(f.load("i64", known).differs(thread)):
        found = f.call("ptr", "PyObject_GetAttr", s.object("STATE"), s.object("mode"))
        f.store(f.call("i64", "PyLong_AsLong", found), known, 1)
        f.store(thread, known)
        s.drop(found)
    f.ret(f.load("i64", known, 1))


def write_new_tensor(module: Module) -> None:
    """`new_tensor(array)`: a tensor that takes the reference to the array."""
    s = begin(module, "new_tensor", "ptr", data="ptr")
    f = s.f
    made = f.call("ptr", "PyType_GenericAlloc", s.object("Tensor"), s.number(0))
    s.require(made.differs(s.null()))
    s.put(made, Tensor, "_data", f["data"])
    s.put(made, Tensor, "_requires_grad", s.hold(s.object("False")))
    for name in ("grad_fn", "_storage", "_view"):
        s.put(made, Tensor, name, s.hold(s.object("None")))
    f.ret(made)
    s.end()


def write_count_elements(module: Module) -> None:
    """`count_elements(array)`: the product of its sizes."""
    s = begin(module, "count_elements", "i64", data="ptr")
    f = s.f
    total, sizes = f.variable("i64", 1), s.sizes(f["data"])
    with f.loop(0, f.convert("sext", s.rank(f["data"]), "i64")) as i:
        total.set(total.get() * f.load("i64", sizes, i))
    f.ret(total.get())


def write_shape_tuple(module: Module) -> None:
    """`shape_tuple(array)`: its shape as a new tuple."""
    s = begin(module, "shape_tuple", "ptr", data="ptr")
    f = s.f
    rank, sizes = f.convert("sext", s.rank(f["data"]), "i64"), s.sizes(f["data"])
    made = f.call("ptr", "PyTuple_New", rank)
    s.require(made.differs(s.null()))
    with f.loop(0, rank) as i:
        size = f.call("ptr", "PyLong_FromSsize_t", f.load("i64", sizes, i))
        f.store(size, made, i + (ITEMS >> 3))
    f.ret(made)
    s.end()


def write_edge(module: Module) -> None:
    """`edge(tensor)`: what its gradient flows to, a new reference."""
    s = begin(module, "edge", "ptr", tensor="ptr")
    f = s.f
    node = s.get(f["tensor"], Tensor, "grad_fn")
    f.ret(s.hold(f.select(s.is_object(node, "None"), f["tensor"], node)))


def write_grad_mask(module: Module) -> None:
    """`grad_mask(a, b, c)`: bit i is set if input i, which may be null, requires grad."""
    s = begin(module, "grad_mask", "i64", a="ptr", b="ptr", c="ptr")
    f = s.f
    mask = f.variable("i64", 0)
    for i, name in enumerate("abc"):
        with f.when(f[name].differs(s.null())):
            flag = s.is_object(s.get(f[name], Tensor, "_requires_grad"), "True")
            mask.set(mask.get() + f.convert("zext", flag, "i64") * (1 << i))
    f.ret(mask.get())


def write_edges(module: Module) -> None:
    """`edges(mask, a, b, c)`: a tuple of the edges of the inputs in the mask."""
    s = begin(module, "edges", "ptr", mask="i64", a="ptr", b="ptr", c="ptr")
    f = s.f
    made = f.call("ptr", "PyTuple_New", f.call("i64", "llvm.ctpop.i64", f["mask"]))
    s.require(made.differs(s.null()))
    used = f.variable("i64", ITEMS >> 3)
    for i, name in enumerate("abc"):
        with f.when((f["mask"] & (1 << i)).differs(0)):
            f.store(f.call("ptr", "edge", f[name]), made, used.get())
            used.set(used.get() + 1)
    f.ret(made)
    s.end()


def write_record(module: Module) -> None:
    """`record(tensor, plan, params, edges, saved)`: puts a node behind a result. Takes the
    references to the last three.
    """
    s = begin(
        module, "record", "ptr", tensor="ptr", plan="ptr", params="ptr", edges="ptr", saved="ptr"
    )
    f = s.f
    node = f.call("ptr", "PyType_GenericAlloc", s.object("Node"), s.number(0))
    s.require(node.differs(s.null()))
    data = s.get(f["tensor"], Tensor, "_data")
    s.put(node, Node, "plan", s.hold(f["plan"]))
    for name in ("params", "edges", "saved"):
        s.put(node, Node, name, f[name])
    s.put(node, Node, "seq", f.call("ptr", "PyIter_Next", s.object("CLOCK")))
    s.put(node, Node, "shape", f.call("ptr", "shape_tuple", data))
    s.put(node, Node, "dtype", s.hold(s.descriptor(data)))
    s.replace(f["tensor"], Tensor, "_requires_grad", s.hold(s.object("True")))
    s.replace(f["tensor"], Tensor, "grad_fn", node)
    f.ret(f["tensor"])
    s.end()


def fill_storage(s: Scope, storage: Value) -> None:
    """The slots of a new storage."""
    for name, value in (
        ("version", "zero"), ("written", "zero"), ("writer", "None"), ("views", "None"),
        ("limit", "sixteen"),
    ):  # fmt: skip
        s.put(storage, Storage, name, s.hold(s.object(value)))


def write_new_storage(module: Module) -> None:
    """`new_storage()`."""
    s = begin(module, "new_storage", "ptr")
    made = s.f.call("ptr", "PyType_GenericAlloc", s.object("Storage"), s.number(0))
    s.require(made.differs(s.null()))
    fill_storage(s, made)
    s.f.ret(made)
    s.end()


def write_one_item(module: Module) -> None:
    """`one_item(key, value)`: a dictionary of one item; takes the reference to the value."""
    s = begin(module, "one_item", "ptr", key="ptr", value="ptr")
    f = s.f
    made = f.call("ptr", "PyDict_New")
    s.require(made.differs(s.null()))
    f.call("i32", "PyDict_SetItem", made, f["key"], f["value"])
    s.drop(f["value"])
    f.ret(made)
    s.end()


def write_saved_output(module: Module) -> None:
    """`saved_output(array)`: a `SavedOutput` of an array, for `keep_output` and for statistics."""
    s = begin(module, "saved_output", "ptr", data="ptr")
    f = s.f
    made = f.call("ptr", "PyType_GenericAlloc", s.object("SavedOutput"), s.number(0))
    s.require(made.differs(s.null()))
    fill_storage(s, made)
    s.put(made, SavedOutput, "differentiable", s.hold(s.object("True")))
    for name in ("slot", "value", "other"):
        s.put(made, SavedOutput, name, s.hold(s.object("None")))
    s.put(made, SavedOutput, "_data", s.hold(f["data"]))
    f.ret(made)
    s.end()


def write_keep_output(module: Module) -> None:
    """`keep_output(tensor)`: what is saved of a new result, whose storage it becomes."""
    s = begin(module, "keep_output", "ptr", tensor="ptr")
    f = s.f
    made = f.call("ptr", "saved_output", s.get(f["tensor"], Tensor, "_data"))
    s.require(made.differs(s.null()))
    s.replace(f["tensor"], Tensor, "_storage", s.hold(made))
    f.ret(made)
    s.end()


def write_keep_statistic(module: Module) -> None:
    """`keep_statistic(array)`: what is saved of a result without gradient; takes its reference."""
    s = begin(module, "keep_statistic", "ptr", data="ptr")
    f = s.f
    made = f.call("ptr", "saved_output", f["data"])
    s.require(made.differs(s.null()))
    s.drop(f["data"])
    s.replace(made, SavedOutput, "differentiable", s.hold(s.object("False")))
    f.ret(made)
    s.end()


SHARED = (
    write_mode, write_new_tensor, write_count_elements, write_shape_tuple, write_edge,
    write_grad_mask, write_edges, write_record, write_new_storage, write_one_item,
    write_saved_output, write_keep_output, write_keep_statistic,
)  # fmt: skip
