"""Old spellings that programs still use: `torch.FloatTensor`, `Tensor(2, 3)`, `x.type(...)`.

May import data, create, convert, storage, core and the base.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.inplace import TYPE_NAMES
from ..core.naming import named
from ..core.tensor import Size, Tensor, wrap
from ..device import CPU, device as device_type, usable
from ..errors import check
from ..layout import strided
from .convert import cast
from .create import size_argument
from .data import from_numpy
from .lists import array_from_list
from .rules import EXPORTS
from .storage import is_storage

# -- the old constructor -----------------------------------------------------------------------


def construct(dtype: dtypes.dtype, *args: Any, device: Any = None) -> Tensor:
    """`FloatTensor(2, 3)` is uninitialised, `FloatTensor([1, 2])` has these values; tensors are
    aliased.
    """
    if device is not None:
        usable(device)
    first = args[0] if args else None
    if not args:
        return wrap(np.empty(0, dtype.numpy))
    if len(args) == 1 and not isinstance(first, (int, np.integer)) or isinstance(first, bool):
        return from_data(dtype, first)
    return wrap(np.empty(size_argument("new", args), dtype.numpy))


def from_data(dtype: dtypes.dtype, data: Any) -> Tensor:
    """A tensor of `dtype` from one argument that is not a size; raises TypeError for a number."""
    if isinstance(data, Tensor):
        return data.view_as(data)
    if is_storage(data):
        return wrap(np.empty(0, dtype.numpy)).set_(data)
    if isinstance(data, ndarray):
        return cast(from_numpy(data).clone(), dtype)
    if isinstance(data, Size):
        return wrap(np.empty(data, dtype.numpy))
    check(
        hasattr(data, "__len__") and hasattr(data, "__getitem__") or isinstance(data, str),
        lambda: f"new(): data must be a sequence (got {type(data).__name__})",
        TypeError,
    )
    return wrap(array_from_list(data, None if isinstance(data, str) else dtype))


def construct_class(cls: type, *args: Any, **options: Any) -> Tensor:
    """`Tensor(...)` in the default type; an instance of the subclass where one is called."""
    made = construct(dtypes.get_default_dtype(), *args, **options)
    return made if cls is Tensor else made.as_subclass(cls)


def new(self: Tensor, *args: Any, device: Any = None) -> Tensor:
    """The old constructor with this tensor's type: `x.new(2, 3)`, `x.new([1, 2])`."""
    return construct(self.dtype, *args, device=device)


Tensor._construct = classmethod(construct_class)  # type: ignore[assignment]
Tensor.new = new

# -- the old classes ---------------------------------------------------------------------------


class tensortype(type):
    """The class of `torch.FloatTensor` and its like: each stands for the tensors of one type and
    device.
    """

    dtype: dtypes.dtype
    layout = strided
    kind: str

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and cls.kind == "cpu" and instance.dtype is cls.dtype

    def __call__(cls, *args: Any, device: Any = None) -> Tensor:
        check(
            cls.kind == "cpu",
            lambda: (
                f"type {cls.__module__}.{cls.__name__} not available. Torch not compiled with CUDA "
                "enabled."
            ),
            TypeError,
        )
        made = construct(cls.dtype, *args, device=device)
        check(
            made.dtype is cls.dtype,
            lambda: (
                f"[{cls.__name__}] expects a tensor of {cls.dtype}, got {made.dtype}; convert with "
                ".to()"
            ),
            TypeError,
        )
        return made

    @property
    def is_cuda(cls) -> bool:
        return cls.kind == "cuda"


def make_types(kind: str) -> dict[str, tensortype]:
    """The old classes of one kind of device, by name."""
    module = "torch" if kind == "cpu" else f"torch.{kind}"
    old = {d: n for d, n in TYPE_NAMES.items() if not dtypes.DTYPES[d].is_complex}
    return {
        f"{name}Tensor": tensortype(
            f"{name}Tensor", (), {"dtype": dtypes.DTYPES[d], "kind": kind, "__module__": module}
        )
        for d, name in old.items()
    }


TENSOR_TYPES = make_types("cpu")
CUDA_TENSOR_TYPES = make_types("cuda")
BY_NAME = {
    f"{t.__module__}.{t.__name__}": t for t in (*TENSOR_TYPES.values(), *CUDA_TENSOR_TYPES.values())
}


def type_string(x: Tensor) -> str:
    """`torch.FloatTensor` and its like; types without an old class are named in the same way."""
    name = x.dtype.name
    spelled = name.replace("uint", "UInt") if name.startswith("uint") else name.capitalize()
    return f"torch.{TYPE_NAMES.get(name, spelled)}Tensor"


def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """The name of the tensor's old class, or the tensor converted to a type given as dtype, class
    or name.

    >>> torch.ones(2).type()
    'torch.FloatTensor'
    >>> torch.ones(2).type("torch.LongTensor")
    tensor([1, 1])
    """
    if dtype is None:
        return type_string(self)
    if isinstance(dtype, dtypes.dtype):
        return cast(self, dtype)
    found = dtype if isinstance(dtype, tensortype) else BY_NAME.get(dtype)
    if dtype is Tensor or dtype == "torch.Tensor":
        return cast(self, dtypes.get_default_dtype())
    name = dtype.__name__ if isinstance(dtype, type) else dtype
    if found is None:
        raise ValueError(f"invalid type: '{name}'; expected a name such as 'torch.FloatTensor'")
    if found.kind != "cpu":
        usable(found.kind)
    return cast(self, found.dtype)


def type_as(self: Tensor, other: Tensor) -> Tensor:
    """The tensor in the type of `other`."""
    return cast(self, other.dtype)


Tensor.type, Tensor.type_as = named(type_, "type"), type_as

# -- defaults ----------------------------------------------------------------------------------


def set_default_tensor_type(t: Any) -> None:
    """Sets the default floating type by an old class or its name. Deprecated in PyTorch."""
    warnings.warn(
        "torch.set_default_tensor_type() is deprecated as of PyTorch 2.1, please use "
        "torch.set_default_dtype() and torch.set_default_device() as alternatives.",
        UserWarning,
        stacklevel=2,
    )
    found = t if isinstance(t, tensortype) else BY_NAME.get(t)
    if found is None:
        raise TypeError(f"[set_default_tensor_type] invalid type object: {t!r}")
    usable(found.kind)
    dtypes.set_default_dtype(found.dtype)


def typename(obj: Any) -> str:
    """The name of a tensor's old class, else the full name of an object's class."""
    if isinstance(obj, Tensor):
        return type_string(obj)
    kind = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(kind, "__module__", None)
    return kind.__qualname__ if module in (None, "builtins") else f"{module}.{kind.__qualname__}"


def set_default_device(device: Any) -> None:
    """Sets where creation functions put tensors: on the CPU; raises RuntimeError for a device that
    is not there.
    """
    usable(device)


def get_default_device() -> device_type:
    """Where creation functions put tensors."""
    return CPU


EXPORTS["torch"].update(
    TENSOR_TYPES,
    set_default_tensor_type=set_default_tensor_type,
    set_default_device=set_default_device,
    get_default_device=get_default_device,
    get_default_dtype=dtypes.get_default_dtype,
    set_default_dtype=dtypes.set_default_dtype,
    typename=typename,
    finfo=dtypes.finfo,
    iinfo=dtypes.iinfo,
)
EXPORTS["cuda"].update(CUDA_TENSOR_TYPES)
