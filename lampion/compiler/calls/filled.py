"""Compiled calls that make tensors of known numbers: zeros, ones, empty, full and what is like
another tensor or of its type, arange, linspace, eye, tensor. Imports views, objects and core.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ...core.graph import GENERAL
from ...core.tensor import Tensor
from ...device import device
from ..native.emit import Module, Value
from .objects import ITEMS, MOST_DIMS, SIZE, SMALL, Scope, begin, begin_core

# The types that are made: of arrays, and what the user calls them; and of their elements.
TYPES = {"F32": ("float32", "float"), "F64": ("float64", "double"), "I64": ("int64", "i64"),
         "BOOL": ("truth", "i8")}  # fmt: skip
MOST = 1 << 17  # elements that are made here
EXACT = 1 << 24  # up to which float32 holds whole numbers
# Name of a core -> the parameters of the function.
FILLED = {
    **dict.fromkeys(("zeros", "ones", "empty"), "0 1 2 3 dtype device requires_grad"),
    **dict.fromkeys(("zeros_like", "ones_like", "empty_like"), "input dtype device requires_grad"),
    **dict.fromkeys(
        ("new_zeros", "new_ones", "new_empty"), "self 0 1 2 3 dtype device requires_grad"
    ),
    "full": "size fill_value dtype device requires_grad",
    "new_full": "self size fill_value dtype device requires_grad",
    "full_like": "input fill_value dtype device requires_grad",
    "linspace": "start end steps dtype device requires_grad",
    "eye": "n m dtype device requires_grad",
    "arange": "start end step dtype device requires_grad",
    "tensor": "data dtype device requires_grad",
}
VALUES = {"zeros": 0, "ones": 1, "empty": None}


# -- arguments -------------------------------------------------------------------------------------


def write_is_here(module: Module) -> None:
    """`is_here(device)`: whether it is absent, None or the CPU."""
    s = begin(module, "is_here", "i1", device="ptr")
    f, given = s.f, s.f["device"]
    yes = Value(f, "i1", "true")
    with f.when(s.either(s.is_missing(given), s.is_object(given, "cpu"))):
        f.ret(yes)
    with f.when(s.is_a(given, "device")):
        f.ret(s.is_object(s.get(given, device, "type"), "cpu"))
    f.ret(Value(f, "i1", "false"))


def write_default(module: Module) -> None:
    """`default_float()`: the type of arrays of the default type, null unless that is float32."""
    s = begin(module, "default_float", "ptr")
    f = s.f
    found = f.call("ptr", "PyDict_GetItemWithError", s.object("dtypes"), s.object("_default"))
    s.require(s.is_object(found, "float32"))
    f.ret(s.object("F32"))
    s.end()


def type_asked(s: Scope, i: int, default: Value) -> Value:
    """The array type that a `dtype=` argument asks for, the default where it is absent."""
    f, given = s.f, s.given(i)
    found = f.variable("ptr", s.null())
    with f.when(s.is_missing(given)):
        found.set(default)
    for kind, (name, _) in TYPES.items():
        with f.when(s.is_object(given, name)):
            found.set(s.object(kind))
    s.require(found.get().differs(s.null()))
    return found.get()


def options(s: Scope, i: int) -> Value:
    """Whether `requires_grad=` is true; it stands behind `device=`, which is argument i."""
    f, given = s.f, s.given(i + 1)
    s.require(f.call("i1", "is_here", s.given(i)))
    s.require(s.mode().differs(GENERAL))
    wanted = s.is_object(given, "True")
    s.require(s.either(wanted, s.either(given.equals(s.null()), s.is_object(given, "False"))))
    return wanted


def handed_out(s: Scope, array: Value, wanted: Value) -> None:
    """Returns the tensor of an array, which requires grad if that is wanted."""
    f, made = s.f, s.new_tensor(array)
    s.require(made.differs(s.null()))
    with f.when(wanted):
        s.replace(made, Tensor, "_requires_grad", s.hold(s.object("True")))
    f.ret(made)
    s.end()


def check_grad(s: Scope, kind: Value, wanted: Value) -> None:
    """Gives up on a gradient for integers."""
    real = s.either(s.is_object(kind, "F32"), s.is_object(kind, "F64"))
    s.require(s.either(real, wanted.equals(0)))


def for_kinds(s: Scope, kind: Value, write: Callable[[str], None]) -> None:
    """Writes code for each type of elements, of which that of `kind` runs."""
    for name, (_, type) in TYPES.items():
        with s.f.when(s.is_object(kind, name)):
            write(type)


def number_in(s: Scope, number: Value, type: str) -> Value:
    """A double or an i64 in a type of elements."""
    f = s.f
    if number.type == type:
        return number
    if number.type == "double":
        return f.convert("fptrunc" if type == "float" else "fptosi", number, type)
    return f.convert("sitofp" if type in ("float", "double") else "trunc", number, type)


def fill(s: Scope, array: Value, kind: Value, count: Value, number: Value) -> None:
    """Writes one number everywhere."""

    def write(type: str) -> None:
        value, place = number_in(s, number, type), s.memory(array)
        with s.f.loop(0, count) as i:
            s.f.store(value, place, i)

    for_kinds(s, kind, write)


def shape_asked(s: Scope, given: Value) -> tuple[Value, Value, Value]:
    """The rank, the sizes and the number of elements of a shape that is not large."""
    f = s.f
    sizes, total = f.buffer(8 * MOST_DIMS, 8), f.variable("i64", 1)
    rank = f.call("i64", "read_sizes", given, sizes)
    s.require(rank > 0)
    with f.loop(0, rank) as i:
        size = f.load("i64", sizes, i)
        s.require(s.both(size >= 0, size <= MOST))
        total.set(total.get() * size)
        s.require(total.get() <= MOST)
    return f.convert("trunc", rank, "i32"), sizes, total.get()


# -- one number ------------------------------------------------------------------------------------


def own_type(s: Scope, x: Value) -> Value:
    """An array's type, if it is one of `TYPES`."""
    own, known = s.descriptor(x), s.is_object(s.descriptor(x), "F32")
    for type_name in TYPES:
        known = s.either(known, s.is_object(own, type_name))
    s.require(known)
    return own


def default_type(s: Scope, i: int) -> Value:
    """The default type, null where a `dtype=` argument asks for one."""
    default = s.f.variable("ptr", s.null())
    with s.f.when(s.is_missing(s.given(i))):
        default.set(s.f.call("ptr", "default_float"))
    return default.get()


def write_filled(module: Module, name: str, new: bool) -> None:
    """`zeros`, `ones` and `empty`: up to four sizes, or one sequence of them; `new_zeros` and its
    kind, of a tensor's type.
    """
    s = begin_core(module, f"new_{name}" if new else name)
    f, first = s.f, int(new)
    given = f.buffer(40, 8)
    for i in range(4):
        f.store(s.given(first + i), given, i)
    f.store(s.null(), given, 4)
    rank, sizes, count = shape_asked(s, given)
    default = own_type(s, s.array(s.needed(0))) if new else default_type(s, 4)
    kind, wanted = type_asked(s, first + 4, default), options(s, first + 5)
    check_grad(s, kind, wanted)
    array = s.new_array(kind, rank, sizes)
    value = VALUES[name]
    if value is not None:
        fill(s, array, kind, count, s.number(value))
    handed_out(s, array, wanted)


def write_like(module: Module, name: str) -> None:
    """`zeros_like` and its kind, of what lies row by row."""
    s = begin_core(module, f"{name}_like")
    x = s.array(s.needed(0))
    count = s.count(x)
    s.require(s.both(s.contiguous(x), count <= MOST))
    kind, wanted = type_asked(s, 1, own_type(s, x)), options(s, 2)
    check_grad(s, kind, wanted)
    array = s.new_array(kind, s.rank(x), s.sizes(x))
    value = VALUES[name]
    if value is not None:
        fill(s, array, kind, count, s.number(value))
    handed_out(s, array, wanted)


def full_of(s: Scope, place: int, default: Value, rank: Value, sizes: Value, count: Value) -> None:
    """Returns a tensor of the number that argument `place` is; the type is asked for behind it, or
    by default is that one, null for the number's own.
    """
    f, value = s.f, s.needed(place)
    whole, found = s.is_a(value, "int"), f.variable("ptr", default)
    with f.when(s.both(default.equals(s.null()), whole)):
        found.set(s.object("I64"))
    with f.when(s.both(default.equals(s.null()), whole.equals(0))):
        found.set(f.call("ptr", "default_float"))
    kind, wanted = type_asked(s, place + 1, found.get()), options(s, place + 2)
    check_grad(s, kind, wanted)
    s.require(s.is_object(kind, "BOOL").equals(0))
    integers = s.is_object(kind, "I64")
    s.require(s.either(whole, integers.equals(0)))
    number, real = f.variable("i64", 0), f.variable("double", 0)
    with f.when(integers):
        number.set(s.integer(value))
    with f.when(integers.equals(0)):
        real.set(s.double(value))
        s.require(s.either(s.fits_float(real.get()), s.is_object(kind, "F64")))
    array = s.new_array(kind, rank, sizes)
    with f.when(integers):
        fill(s, array, kind, count, number.get())
    with f.when(integers.equals(0)):
        fill(s, array, kind, count, real.get())
    handed_out(s, array, wanted)


def write_full(module: Module, new: bool) -> None:
    """`full(size, fill_value)`: of a float or an int, in a type that holds it; `new_full`, in a
    tensor's type.
    """
    s = begin_core(module, "new_full" if new else "full")
    f, first = s.f, int(new)
    given = f.buffer(16, 8)
    f.store(s.needed(first), given)
    f.store(s.null(), given, 1)
    s.require(s.is_a(s.given(first), "int").equals(0))
    default = own_type(s, s.array(s.needed(0))) if new else s.null()
    full_of(s, first + 1, default, *shape_asked(s, given))


def write_full_like(module: Module) -> None:
    """`full_like(input, fill_value)` of what lies row by row."""
    s = begin_core(module, "full_like")
    x = s.array(s.needed(0))
    count = s.count(x)
    s.require(s.both(s.contiguous(x), count <= MOST))
    full_of(s, 1, own_type(s, x), s.rank(x), s.sizes(x), count)


# -- several numbers -------------------------------------------------------------------------------


def write_eye(module: Module) -> None:
    """`eye(n, m)`."""
    s = begin_core(module, "eye")
    f, rows = s.f, s.integer(s.needed(0))
    columns = f.variable("i64", rows)
    with f.when(s.is_missing(s.given(1)).equals(0)):
        columns.set(s.integer(s.given(1)))
    width = columns.get()
    for size in (rows, width):
        s.require(s.both(size > 0, size <= MOST))
    s.require(rows * width <= MOST)
    kind, wanted = type_asked(s, 2, default_type(s, 2)), options(s, 3)
    check_grad(s, kind, wanted)
    sizes = f.buffer(16, 8)
    f.store(rows, sizes)
    f.store(width, sizes, 1)
    array = s.new_array(kind, s.number(2, "i32"), sizes)
    fill(s, array, kind, rows * width, s.number(0))
    place = s.memory(array)

    def write(type: str) -> None:
        with f.loop(0, f.minimum(rows, width)) as i:
            f.store(f.constant(type, 1), place, i * (width + 1))

    for_kinds(s, kind, write)
    handed_out(s, array, wanted)


def row_of(s: Scope, kind: Value, count: Value) -> Value:
    """A new array of one dimension."""
    size = s.f.buffer(8, 8)
    s.f.store(count, size)
    return s.new_array(kind, s.number(1, "i32"), size)


def write_linspace(module: Module) -> None:
    """`linspace(start, end, steps)` in float32: the first half counted from the start, the second
    from the end, in float64.
    """
    s = begin_core(module, "linspace")
    f, ends = s.f, [s.double(s.needed(i)) for i in (0, 1)]
    count = s.integer(s.needed(2))
    kind, wanted = type_asked(s, 3, default_type(s, 3)), options(s, 4)
    s.require(s.is_object(kind, "F32"))
    s.require(s.both(count > 1, count <= MOST))
    for end in ends:
        s.require(s.fits_float(end))

    def single(number: Value) -> Value:
        return f.convert("fpext", f.convert("fptrunc", number, "float"), "double")

    first, last = map(single, ends)
    step = single((last - first) / f.convert("sitofp", count - 1, "double"))
    array = row_of(s, kind, count)
    place, half = s.memory(array), count / 2
    for low, high in ((s.number(0), half), (half, count)):
        with f.loop(low, high) as i:
            if high is half:
                value = first + step * f.convert("sitofp", i, "double")
            else:
                value = last - step * f.convert("sitofp", count - 1 - i, "double")
            f.store(f.convert("fptrunc", value, "float"), place, i)
    handed_out(s, array, wanted)


def write_arange(module: Module) -> None:
    """`arange(start, end, step)` of ints."""
    s = begin_core(module, "arange")
    f, first = s.f, s.integer(s.needed(0))
    start, end, by = f.variable("i64", 0), f.variable("i64", first), f.variable("i64", 1)
    with f.when(s.is_missing(s.given(2)).equals(0)):
        by.set(s.integer(s.given(2)))
    step = by.get()
    with f.when(s.is_missing(s.given(1)).equals(0)):
        start.set(first)
        end.set(s.integer(s.given(1)))
    kind, wanted = type_asked(s, 3, s.object("I64")), options(s, 4)
    check_grad(s, kind, wanted)
    s.require(s.is_object(kind, "BOOL").equals(0))
    for limit in (start.get(), end.get(), step):
        s.require(s.both(limit < EXACT, limit > -EXACT))
    way = end.get() - start.get()
    up = step > 0
    s.require(s.either(s.both(up, way >= 0), s.both(step < 0, way <= 0)))
    one = f.select(up, s.number(1), -1)
    count = f.emit("i64", f"sdiv {way + step - one}, {step.name}")
    s.require(count <= MOST)
    array = row_of(s, kind, count)
    place = s.memory(array)

    def write(type: str) -> None:
        with f.loop(0, count) as i:
            f.store(number_in(s, start.get() + i * step, type), place, i)

    for_kinds(s, kind, write)
    handed_out(s, array, wanted)


def write_tensor(module: Module) -> None:
    """`tensor(data)` of a float or an int, or of a list or tuple of them."""
    s = begin_core(module, "tensor")
    f, data = s.f, s.needed(0)
    stack = f.buffer(8, 8)
    f.store(data, stack)
    items, count = f.variable("ptr", stack), f.variable("i64", 1)
    listed, several = s.is_a(data, "list"), s.is_a(data, "list", "tuple")
    with f.when(several):
        count.set(f.load("i64", data, SIZE >> 3))
        items.set(f.at(data, ITEMS))
    with f.when(listed):
        items.set(f.load("ptr", items.get()))
    s.require(s.both(count.get() > 0, count.get() <= SMALL))
    default, whole = f.variable("ptr", s.object("I64")), f.variable("i1", 1)
    with f.loop(0, count.get()) as i:
        item = f.load("ptr", items.get(), i)
        real = s.is_a(item, "float")
        s.require(s.either(real, s.is_a(item, "int")))
        whole.set(s.both(whole.get(), real.equals(0)))
    with f.when(whole.get().equals(0)):
        default.set(f.call("ptr", "default_float"))
    kind, wanted = type_asked(s, 1, default.get()), options(s, 2)
    check_grad(s, kind, wanted)
    s.require(s.is_object(kind, "BOOL").equals(0))
    integers = s.is_object(kind, "I64")
    s.require(s.either(whole.get(), integers.equals(0)))
    size = f.buffer(8, 8)
    f.store(count.get(), size)
    rank = f.convert("zext", several, "i32")
    array = s.new_array(kind, rank, size)

    def write(type: str) -> None:
        with f.loop(0, count.get()) as i:
            item = f.load("ptr", items.get(), i)
            number = s.integer(item) if type == "i64" else s.double(item)
            f.store(number_in(s, number, type), s.memory(array), i)

    for_kinds(s, kind, write)
    handed_out(s, array, wanted)


SHARED: tuple[Callable[[Module], None], ...] = (
    write_is_here, write_default,
    *[partial(write_filled, name=name, new=new) for name in VALUES for new in (False, True)],
    *[lambda module, name=name: write_like(module, name) for name in VALUES],
    partial(write_full, new=False), partial(write_full, new=True), write_full_like, write_arange,
    write_linspace, write_eye, write_tensor,
)  # fmt: skip
