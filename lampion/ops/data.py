"""Tensors from data: numbers, nested lists, arrays, buffers, DLPack. May import lists, rules, core
and the base.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.graph import GENERAL, STATE
from ..core.op import Op
from ..core.promotion import cast_kernel
from ..core.tensor import Tensor, wrap
from ..device import usable
from ..errors import check
from ..layout import copy_in_order, order_of
from .lists import SHARED_TYPES, array_from_list, checked_array
from .rules import EXPORTS, dtype_argument as python_dtype

# -- arrays ------------------------------------------------------------------------------------


def warn_read_only(what: str) -> None:
    """PyTorch's warning where a tensor is made on memory that may not be written."""
    warnings.warn(
        f"The given {what} is not writable, and PyTorch does not support non-writable tensors. "
        f"This means writing to this tensor raises an error. You may want to copy the {what} to "
        "protect its data or make it writable before converting it to a tensor.",
        UserWarning,
        stacklevel=4,
    )


def from_numpy(ndarray: ndarray) -> Tensor:
    """A tensor on the array's memory: what is written to one is seen in the other.

    Raises TypeError for types that tensors do not have, ValueError for negative strides.

    >>> a = np.zeros(2)
    >>> torch.from_numpy(a).add_(1)
    tensor([1., 1.], dtype=torch.float64)
    >>> a
    array([1., 1.])
    """
    if ndarray.__class__ is np.ndarray and ndarray.base is None:
        dtype, flags = ndarray.dtype, ndarray.flags
        if flags.c_contiguous and flags.writeable and SHARED_TYPES.get(dtype) is dtype:
            return wrap(ndarray)
    check(
        isinstance(ndarray, np.ndarray),
        lambda: f"expected np.ndarray (got {type(ndarray).__name__})",
        TypeError,
    )
    array = checked_array(ndarray)
    if not array.flags.writeable:
        warn_read_only("NumPy array")
    own = array.base is None and array.flags.writeable
    return wrap(array if own else np.asarray(Borrowed(array, array.flags.writeable)))


class Borrowed:
    """Memory that another array owns, for `np.asarray`: the array made of it does not know more.

    So a slice's storage is what it spans, and read-only memory cannot be made writable again.
    """

    def __init__(self, array: ndarray, writable: bool) -> None:
        address = array.__array_interface__["data"][0]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, not writable)}
        self.array = array


# -- arguments ---------------------------------------------------------------------------------


def dtype_argument(dtype: Any, name: str) -> dtypes.dtype | None:
    """A `dtype=` argument: a dtype, a Python type or None; raises TypeError for anything else."""
    if dtype is None or dtype.__class__ is dtypes.dtype:
        return dtype
    found = python_dtype(dtype) if isinstance(dtype, type) else None
    check(
        isinstance(found, dtypes.dtype),
        lambda: f"{name}(): argument 'dtype' must be torch.dtype, not {type(dtype).__name__}",
        TypeError,
    )
    return found


def check_no_pinning(pin_memory: bool, name: str) -> None:
    """Raises RuntimeError where pinned memory is asked for: there is no accelerator."""
    check(
        not pin_memory,
        lambda: (
            f"[{name}] pin_memory=True requires a CUDA or other accelerator backend; no pinned "
            "memory allocator is available on this system."
        ),
    )


# -- tensor, as_tensor, asarray ----------------------------------------------------------------


def tensor_kernel(values: Any, dtype: dtypes.dtype | None) -> ndarray:
    """A new array of the values: an array is copied, a list converted."""
    if isinstance(values, ndarray):
        if dtype is None or values.dtype is dtype.numpy:
            return copy_in_order(values, order_of(values))
        return cast_kernel(values, dtype)
    return array_from_list(values, dtype)


TENSOR = Op("tensor", (), tensor_kernel)


def tensor(
    data: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """A new tensor with a copy of `data`: a number, a nested list of numbers, or an array.

    Python's ints become int64, floats the default type; arrays keep theirs.

    >>> torch.tensor([[1, 2], [3, 4]])
    tensor([[1, 2],
            [3, 4]])
    >>> torch.tensor([1, 2.5])
    tensor([1.0000, 2.5000])
    """
    if data.__class__ is float and dtype is None and device is None and STATE.mode != GENERAL:
        # what scalar graphs start from
        made = wrap(np.asarray(data, dtypes.get_default_dtype().numpy))
        return made.requires_grad_() if requires_grad else made
    dtype = dtype_argument(dtype, "tensor")
    if device is not None:
        usable(device)
    check_no_pinning(pin_memory, "tensor")
    if isinstance(data, Tensor):
        warnings.warn(
            "To copy construct from a tensor, it is recommended to use "
            "sourceTensor.detach().clone() or sourceTensor.detach().clone().requires_grad_(True), "
            "rather than torch.tensor(sourceTensor).",
            UserWarning,
            stacklevel=2,
        )
        made = data.detach().to(dtype or data.dtype, copy=True)
    elif isinstance(data, ndarray):
        made = apply(TENSOR, values=checked_array(data), dtype=dtype)
    else:
        made = apply(TENSOR, values=data, dtype=dtype)
    return made.requires_grad_() if requires_grad else made


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory (and history) where no conversion is needed."""
    dtype = dtype_argument(dtype, "as_tensor")
    if device is not None:
        usable(device)
    if isinstance(data, ndarray):
        data = from_numpy(data)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    return tensor(data, dtype=dtype)


def asarray(
    obj: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool | None = None,
) -> Tensor:
    """`obj` as a tensor: shares memory if it can (`copy=None`), must (`False`) or must not
    (`True`).

    Takes tensors, arrays, DLPack objects, buffers, numbers and nested lists.
    """
    dtype = dtype_argument(dtype, "asarray")
    if device is not None:
        usable(device)
    source = shared_source(obj, dtype)
    if source is None:
        check(copy is not False, "can't alias arbitrary sequence into a tensor.", ValueError)
        made = tensor(obj, dtype=dtype)
    else:
        if dtype is not None and source.dtype is not dtype:
            check(
                copy is not False,
                lambda: f"can't alias tensor with dtype {source.dtype} into dtype {dtype}.",
                ValueError,
            )
            made = source.to(dtype)
        else:
            made = source.clone() if copy else source
    return settle_grad(made, made is obj, requires_grad)


def shared_source(obj: Any, dtype: dtypes.dtype | None) -> Tensor | None:
    """A tensor on the memory of `obj`, None if it has none to share."""
    if isinstance(obj, Tensor):
        return obj
    if isinstance(obj, (ndarray, np.generic)):
        return from_numpy(obj) if isinstance(obj, ndarray) else None
    if hasattr(obj, "__dlpack__"):
        return from_dlpack(obj)
    if isinstance(obj, (list, tuple, int, float, complex, str)):
        return None
    try:
        return frombuffer(obj, dtype=dtype or dtypes.get_default_dtype())
    except ValueError:
        if isinstance(obj, (bytes, bytearray, memoryview)):
            raise
        return None


def settle_grad(made: Tensor, is_input: bool, requires_grad: bool | None) -> Tensor:
    """Detaches, or asks for a gradient, as `requires_grad` says; None leaves the history alone."""
    if requires_grad is None or made.requires_grad == requires_grad:
        return made
    if not requires_grad:
        return made.detach()
    return (made.detach() if is_input else made).requires_grad_()


# -- buffers and DLPack ------------------------------------------------------------------------


def frombuffer(
    buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False
) -> Tensor:
    """A 1-D tensor on the memory of an object with Python's buffer protocol, from byte `offset` on.

    Raises ValueError where `count` elements do not lie in the buffer.
    """
    dtype = dtype_argument(dtype, "frombuffer")
    try:
        memory = memoryview(buffer)
    except TypeError:
        raise ValueError(
            "[frombuffer] object does not implement Python buffer protocol: "
            f"{type(buffer).__name__}"
        ) from None
    size, item = memory.nbytes, dtype.itemsize
    check(
        size > 0 and count != 0,
        f"both buffer length ({size}) and count ({count}) must not be 0",
        ValueError,
    )
    check(
        0 <= offset < size,
        f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} "
        "bytes) minus 1",
        ValueError,
    )
    if count < 0:
        check(
            (size - offset) % item == 0,
            f"buffer length ({size - offset} bytes) after offset ({offset} bytes) must be a "
            f"multiple of element size ({item})",
            ValueError,
        )
        count = (size - offset) // item
    check(
        offset + count * item <= size,
        f"requested buffer length ({count} * {item} bytes) after offset ({offset} bytes) must not "
        f"be greater than actual buffer length ({size} bytes)",
        ValueError,
    )
    if memory.readonly:
        warn_read_only("buffer")
    array = np.frombuffer(memory, np.uint8, count * item, offset).view(dtype.numpy)
    made = wrap(array)
    return made.requires_grad_() if requires_grad else made


class Capsule:
    """A raw DLPack capsule with the methods that NumPy asks a producer for."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor on the memory of another library's array, by way of DLPack; also takes a raw
    capsule.

    Raises RuntimeError for arrays that are not in the CPU's memory.
    """
    if device is not None:
        usable(device)
    if not hasattr(ext_tensor, "__dlpack__"):
        ext_tensor = Capsule(ext_tensor)
    array = checked_array(np.from_dlpack(ext_tensor))
    made = wrap(
        np.asarray(Borrowed(array, writable=True))
    )  # older capsules do not say: PyTorch writes
    return made.clone() if copy else made


def to_dlpack(tensor: Tensor) -> Any:
    """A DLPack capsule on the tensor's memory, for `from_dlpack` of any library."""
    return tensor.__dlpack__()


EXPORTS["torch"].update(
    tensor=tensor,
    as_tensor=as_tensor,
    asarray=asarray,
    from_numpy=from_numpy,
    frombuffer=frombuffer,
    from_dlpack=from_dlpack,
    to_dlpack=to_dlpack,
)
