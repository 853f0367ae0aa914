"""Creation: tensors from shapes, ranges and other tensors. May import rules, data, core and the
base.

Each function is an operator without inputs, so that a trace sees when memory is made. `factory`
adds what all of them take: `out`, `dtype`, `layout`, `device`, `pin_memory`, `requires_grad`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.inplace import write_out
from ..core.naming import named
from ..core.op import TENSOR_NAMES, Op
from ..core.promotion import scalar_array
from ..core.tensor import Tensor
from ..device import usable
from ..errors import check
from ..layout import (
    Order,
    allocate,
    check_layout,
    copy_in_order,
    format_order,
    order_of,
    preserve_format,
    strided,
)
from .data import check_no_pinning, dtype_argument, tensor
from .large import large_copy
from .lists import integer_limits
from .rules import EXPORTS, public, shape_argument

Tensor.layout = strided

# -- arguments ---------------------------------------------------------------------------------


def factory(make: Callable[..., Tensor], publish: bool = True) -> Callable[..., Tensor]:
    """A creation function, in `torch` unless told not to publish it; `make` gets a dtype (or None)
    and its own arguments.
    """
    name = make.__name__

    @functools.wraps(make)
    def create(
        *args: Any,
        out: Tensor | None = None,
        dtype: Any = None,
        layout: Any = strided,
        device: Any = None,
        pin_memory: bool = False,
        requires_grad: bool = False,
        **options: Any,
    ) -> Tensor:
        dtype = dtype_argument(dtype, name)
        if device is not None:
            usable(device)
        if layout is not strided:
            check_layout(layout, name)
        if pin_memory:
            check_no_pinning(pin_memory, name)
        if out is not None:
            check(
                isinstance(out, Tensor),
                lambda: f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}",
                TypeError,
            )
            check(
                dtype is None or dtype is out.dtype,
                lambda: (
                    f"[{name}] dtype {dtype} does not match dtype of out parameter ({out.dtype})"
                ),
            )
            return write_out(out, make(*args, dtype=out.dtype, **options), name)
        made = make(*args, dtype=dtype, **options)
        return made.requires_grad_(requires_grad) if requires_grad else made

    if publish:
        EXPORTS["torch"][name] = create
    return create


def size_argument(name: str, sizes: tuple, size: Any = None) -> tuple[int, ...]:
    """The shape given as `f(2, 3)`, `f((2, 3))` or `f(size=(2, 3))`; raises for anything else."""
    given = sizes if size is None else (size,)
    check(bool(given), f'{name}() missing 1 required positional arguments: "size"', TypeError)
    try:
        check(not isinstance(given[0], (bool, str)), "", TypeError)
        shape = shape_argument(given)
    except (TypeError, AttributeError):
        raise TypeError(
            f"{name}(): argument 'size' must be tuple of ints, not {wrong_size(given).__name__}; "
            "pass whole numbers"
        ) from None
    for s in shape:
        if s < 0:
            raise RuntimeError(
                f"[{name}] Trying to create tensor with negative dimension {s}: {list(shape)}"
            )
    return shape


def wrong_size(given: tuple) -> type:
    """The type of the first thing that is no whole number."""
    inner = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    return next((type(s) for s in inner if not hasattr(s, "__index__")), type(given[0]))


def number_argument(name: str, argument: str, value: Any) -> Any:
    """A Python number, also from a 0-dim tensor or a NumPy scalar; raises TypeError for anything
    else.
    """
    if isinstance(value, (bool, int, float, complex)):
        return value
    scalar = isinstance(value, np.generic) or (
        isinstance(value, Tensor) and not value._data.ndim and not value._requires_grad
    )
    check(
        scalar and not isinstance(value, np.character),
        lambda: f"{name}(): argument '{argument}' must be Number, not {type(value).__name__}",
        TypeError,
    )
    return value.item()


def check_number(value: Any, dtype: dtypes.dtype) -> None:
    """Raises RuntimeError where a type cannot hold the number."""
    if dtype.category == dtypes.COMPLEX or dtype is dtypes.bool:
        return
    fits = not isinstance(value, complex) or value.imag == 0
    real = value.real
    if fits and dtype.category == dtypes.INTEGER:
        low, high = integer_limits(dtype)
        fits = low <= real <= high
    elif fits and math.isfinite(real):
        fits = abs(real) <= dtypes.finfo(dtype).max
    check(fits, f"value cannot be converted to type {dtype.name} without overflow")


def like(
    name: str, input: Any, dtype: dtypes.dtype | None, memory_format: Any
) -> tuple[tuple[int, ...], dtypes.dtype, Order]:
    """Shape, type and memory order for a tensor like `input`."""
    check(
        isinstance(input, Tensor),
        lambda: (
            f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}"
        ),
        TypeError,
    )
    data = input._data
    if memory_format is None or memory_format is preserve_format:
        order = order_of(data) if data.__class__ is ndarray else None
    else:
        order = format_order(data.ndim, memory_format, name)
    return tuple(data.shape), dtype or input.dtype, order


# -- one value ---------------------------------------------------------------------------------


def full_kernel(shape: tuple, value: Any, dtype: dtypes.dtype, order: Order) -> ndarray:
    """An array of one value; zeros come from the system without being written."""
    if value == 0 and not isinstance(value, complex):
        return allocate(shape, dtype.numpy, order, np.zeros)
    out = allocate(shape, dtype.numpy, order)
    out.fill(scalar_array(value, dtype.numpy)[()] if dtype.category < dtypes.COMPLEX else value)
    return out


FULL = Op("full", (), full_kernel)
EMPTY = Op("empty", (), lambda shape, dtype, order: allocate(shape, dtype.numpy, order))
EMPTY_STRIDED = Op(
    "empty_strided",
    (),
    lambda shape, stride, dtype: empty_strided_array(shape, stride, dtype.numpy),
)


def filled(
    shape: tuple[int, ...], value: Any, dtype: dtypes.dtype | None, order: Order = None
) -> Tensor:
    """A new tensor of one value, of the default type unless one is given."""
    return apply(
        FULL, shape=shape, value=value, dtype=dtype or dtypes.get_default_dtype(), order=order
    )


@factory
def zeros(*sizes: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """A tensor of zeros.

    >>> torch.zeros(2, 3)
    tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return filled(size_argument("zeros", sizes, size), 0, dtype)


@factory
def ones(*sizes: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """A tensor of ones."""
    return filled(size_argument("ones", sizes, size), 1, dtype)


@factory
def empty(*sizes: Any, size: Any = None, dtype: Any = None, memory_format: Any = None) -> Tensor:
    """A tensor whose elements hold whatever was in memory."""
    shape = size_argument("empty", sizes, size)
    order = format_order(len(shape), memory_format, "empty")
    return apply(EMPTY, shape=shape, dtype=dtype or dtypes.get_default_dtype(), order=order)


@factory
def full(size: Any, fill_value: Any, *, dtype: Any = None) -> Tensor:
    """A tensor of one value, whose type it takes unless `dtype` is given.

    >>> torch.full((2,), 3)
    tensor([3, 3])
    """
    check(
        not isinstance(size, int),
        lambda: (
            f"full(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}"
        ),
        TypeError,
    )
    return full_of(size_argument("full", (size,)), fill_value, dtype, None, "full")


def full_of(
    shape: tuple, value: Any, dtype: dtypes.dtype | None, order: Order, name: str
) -> Tensor:
    """`full` with everything known."""
    value = number_argument(name, "fill_value", value)
    dtype = dtype or dtypes.number_dtype(value)
    check_number(value, dtype)
    return filled(shape, value.real if dtype.category < dtypes.COMPLEX else value, dtype, order)


@factory
def scalar_tensor(s: Any, *, dtype: Any = None) -> Tensor:
    """A 0-dim tensor of the default type (not of the number's)."""
    return full_of((), s, dtype or dtypes.get_default_dtype(), None, "scalar_tensor")


@factory
def zeros_like(input: Tensor, *, dtype: Any = None, memory_format: Any = None) -> Tensor:
    """Zeros of the shape and type of `input`."""
    shape, dtype, order = like("zeros_like", input, dtype, memory_format)
    return filled(shape, 0, dtype, order)


@factory
def ones_like(input: Tensor, *, dtype: Any = None, memory_format: Any = None) -> Tensor:
    """Ones of the shape and type of `input`."""
    shape, dtype, order = like("ones_like", input, dtype, memory_format)
    return filled(shape, 1, dtype, order)


@factory
def empty_like(input: Tensor, *, dtype: Any = None, memory_format: Any = None) -> Tensor:
    """An uninitialised tensor of the shape, type and memory order of `input`."""
    shape, dtype, order = like("empty_like", input, dtype, memory_format)
    return apply(EMPTY, shape=shape, dtype=dtype, order=order)


@factory
def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, memory_format: Any = None
) -> Tensor:
    """A tensor of one value, of the shape and type of `input`."""
    shape, dtype, order = like("full_like", input, dtype, memory_format)
    return full_of(shape, fill_value, dtype, order, "full_like")


# -- strides -----------------------------------------------------------------------------------


def empty_strided_array(shape: tuple, stride: tuple, dtype: np.dtype) -> ndarray:
    """An uninitialised array with strides counted in elements."""
    extent = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    memory = np.empty(extent, dtype)
    return np.ndarray(
        shape, dtype, memory.view(np.uint8), 0, tuple(s * dtype.itemsize for s in stride)
    )


@factory
def empty_strided(size: Any, stride: Any, *, dtype: Any = None) -> Tensor:
    """An uninitialised tensor with these strides, counted in elements.

    >>> torch.empty_strided((2, 3), (1, 2)).stride()
    (1, 2)
    """
    shape, stride = size_argument("empty_strided", (size,)), shape_argument((stride,))
    check(
        len(shape) == len(stride),
        lambda: (
            f"[empty_strided] dimensionality of sizes ({len(shape)}) must match dimensionality of "
            f"strides ({len(stride)})"
        ),
    )
    check(
        all(s >= 0 for s in stride),
        lambda: (
            f"[empty_strided] Storage size calculation overflowed with sizes={list(shape)} and "
            f"strides={list(stride)}; strides must not be negative"
        ),
    )
    return apply(
        EMPTY_STRIDED, shape=shape, stride=stride, dtype=dtype or dtypes.get_default_dtype()
    )


@factory
def empty_permuted(size: Any, physical_layout: Any, *, dtype: Any = None) -> Tensor:
    """An uninitialised tensor whose dimensions lie in memory in the order `physical_layout`,
    outermost first.
    """
    shape, order = size_argument("empty_permuted", (size,)), shape_argument((physical_layout,))
    check(
        len(shape) == len(order),
        lambda: (
            "[empty_permuted] Number of dimensions in size does not match the length of the "
            f"physical_layout; i.e. len(size) = {len(shape)} is not equal to len(physical_layout) "
            f"= {len(order)}"
        ),
    )
    check(
        sorted(order) == list(range(len(order))),
        lambda: (
            f"[empty_permuted] expects each dimension once in physical_layout, got {list(order)}; "
            "Duplicate dim not allowed"
        ),
    )
    return apply(EMPTY, shape=shape, dtype=dtype or dtypes.get_default_dtype(), order=order)


# -- methods: new_* ----------------------------------------------------------------------------


def new_method(name: str, make: Callable[..., Tensor]) -> None:
    """`x.new_zeros(2)` is `zeros(2)` of x's type unless told otherwise."""

    def new(self: Tensor, *args: Any, dtype: Any = None, **options: Any) -> Tensor:
        return make(*args, dtype=dtype or self.dtype, **options)

    setattr(Tensor, name, named(new, name, f"`torch.{name[4:]}` with this tensor's type."))


for made_by in (zeros, ones, empty, full, empty_strided):
    new_method(f"new_{made_by.__name__}", made_by)


def new_tensor(
    self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`torch.tensor(data)` with this tensor's type unless told otherwise."""
    return tensor(data, dtype=dtype or self.dtype, device=device, requires_grad=requires_grad)


Tensor.new_tensor = new_tensor

# -- copies ------------------------------------------------------------------------------------


def clone_kernel(x: ndarray, order: Order) -> ndarray:
    """A copy whose dimensions lie in the given order in memory."""
    made = large_copy(x) if order is None else None
    return copy_in_order(x, order) if made is None else made


CLONE = Op(
    "clone",
    ("x",),
    clone_kernel,
    kind="linear",
    vjp={"x": lambda g: g},
    jvp="linear",
    batch=lambda size, values, dims, params, op: (values[0].clone(), dims[0]),
)


@public
def clone(input: Tensor, *, memory_format: Any = preserve_format) -> Tensor:
    """A copy with its own memory, connected to the graph; keeps the order of memory."""
    data = input._data
    order = None
    if memory_format is not preserve_format and memory_format is not None:
        order = format_order(data.ndim, memory_format, "clone")
    elif data.__class__ is ndarray and not data.flags.c_contiguous:
        order = order_of(data)
    return apply(CLONE, input, order=order)


TENSOR_NAMES.update(ones_like=ones_like, zeros_like=zeros_like)
