"""Storages: the memory behind tensors, as bytes or as numbers of one type. May import data, core
and the base.

Two tensors share memory if their storages are equal. NumPy owns the memory; a storage is a flat
view of all of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.inplace import TYPE_NAMES
from ..core.memory import memory_of, root_array
from ..core.tensor import Tensor, wrap
from ..device import CPU
from ..errors import check
from .lists import array_from_list
from .rules import EXPORTS, shape_argument


class UntypedStorage:
    """The bytes of a tensor's memory.

    >>> torch.ones(3).untyped_storage().nbytes()
    12
    """

    is_cuda = is_sparse = is_hpu = False
    device = CPU
    _data: ndarray

    def __init__(self, source: Any = 0, *, device: Any = None) -> None:
        if isinstance(source, int):
            self._data = np.empty(source, np.uint8)
        else:
            self._data = array_from_list(list(source), dtypes.uint8)

    @classmethod
    def of(cls, data: ndarray) -> UntypedStorage:
        """The storage that an array lies in."""
        made = object.__new__(cls)
        made._data = memory_of(root_array(data))
        return made

    def data_ptr(self) -> int:
        """The address of the first byte; 0 where there is none."""
        return self._data.ctypes.data if self._data.size else 0

    _cdata = property(data_ptr)

    def nbytes(self) -> int:
        """How many bytes it has."""
        return self._data.size

    size = __len__ = nbytes

    def element_size(self) -> int:
        """The bytes of an element: 1."""
        return 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and self.data_ptr() == other.data_ptr()

    def __hash__(self) -> int:
        return hash(self.data_ptr())

    def __getitem__(self, index: Any) -> Any:
        found = self._data[index]
        if isinstance(index, slice):
            made = object.__new__(UntypedStorage)
            made._data = found
            return made
        return int(found)

    def __setitem__(self, index: Any, value: int) -> None:
        self._data[index] = value

    def __iter__(self) -> Iterator[int]:
        return iter(self.tolist())

    def tolist(self) -> list[int]:
        """The bytes as a list of numbers."""
        return self._data.tolist()

    def fill_(self, value: int) -> UntypedStorage:
        """Sets every byte."""
        self._data[...] = value
        return self

    def copy_(self, source: UntypedStorage, non_blocking: bool = False) -> UntypedStorage:
        """Takes over the bytes of another storage of the same size."""
        check(
            source.nbytes() == self.nbytes(),
            lambda: (
                f"[copy_] size does not match, self was {self.nbytes()} bytes but src was "
                f"{source.nbytes()} bytes"
            ),
        )
        np.copyto(self._data, source._data)
        return self

    def clone(self) -> UntypedStorage:
        """A copy with its own memory."""
        return UntypedStorage(self.nbytes()).copy_(self)

    def cpu(self) -> UntypedStorage:
        """The storage on the CPU: itself."""
        return self

    def untyped(self) -> UntypedStorage:
        """The storage itself."""
        return self

    def __repr__(self) -> str:
        rows = "\n".join(f" {b}" for b in self.tolist())
        return f"{rows}\n[torch.storage.UntypedStorage(device={self.device}) of size {len(self)}]"


class TypedStorage:
    """A storage read as numbers of one type. PyTorch keeps it for old programs."""

    device = CPU
    is_cuda = is_sparse = False
    _untyped_storage: UntypedStorage
    dtype: dtypes.dtype

    def __init__(
        self,
        source: Any = 0,
        *,
        dtype: dtypes.dtype | None = None,
        wrap_storage: UntypedStorage | None = None,
        device: Any = None,
    ) -> None:
        self.dtype = dtype or dtypes.get_default_dtype()
        if wrap_storage is not None:
            self._untyped_storage = wrap_storage
        elif isinstance(source, int):
            self._untyped_storage = UntypedStorage(source * self.dtype.itemsize)
        else:
            self._untyped_storage = UntypedStorage.of(array_from_list(list(source), self.dtype))

    @property
    def numbers(self) -> Tensor:
        """The elements as a 1-D tensor on the same memory."""
        data = self._untyped_storage._data
        whole = data.size // self.dtype.itemsize * self.dtype.itemsize
        return wrap(data[:whole].view(self.dtype.numpy))

    def untyped(self) -> UntypedStorage:
        """The same memory as bytes."""
        return self._untyped_storage

    def data_ptr(self) -> int:
        """The address of the first element."""
        return self._untyped_storage.data_ptr()

    _cdata = property(data_ptr)

    def size(self) -> int:
        """How many elements it has."""
        return self.numbers.numel()

    __len__ = size

    def nbytes(self) -> int:
        """How many bytes it has."""
        return self._untyped_storage.nbytes()

    def element_size(self) -> int:
        """The bytes of an element."""
        return self.dtype.itemsize

    def tolist(self) -> list:
        """The elements as a list."""
        return self.numbers.tolist()

    def __iter__(self) -> Iterator:
        return iter(self.tolist())

    def __getitem__(self, index: int) -> Any:
        return wrap(self.numbers._data[index]).item()

    def __setitem__(self, index: Any, value: Any) -> None:
        self.numbers._data[index] = value

    def __eq__(self, other: object) -> bool:
        same_type = isinstance(other, TypedStorage) and self.dtype is other.dtype
        return same_type and self._untyped_storage == other._untyped_storage  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._untyped_storage)

    def fill_(self, value: Any) -> TypedStorage:
        """Sets every element."""
        self.numbers._data[...] = value
        return self

    def clone(self) -> TypedStorage:
        """A copy with its own memory."""
        return TypedStorage(dtype=self.dtype, wrap_storage=self._untyped_storage.clone())

    def cpu(self) -> TypedStorage:
        """The storage on the CPU: itself."""
        return self

    def type(self) -> str:
        """The name of its old class, e.g. `torch.FloatStorage`."""
        return f"torch.{TYPE_NAMES.get(self.dtype.name, self.dtype.name)}Storage"

    def __repr__(self) -> str:
        rows = "\n".join(f" {v}" for v in self.tolist())
        kind = f"torch.storage.TypedStorage(dtype={self.dtype}, device={self.device})"
        return f"{rows}\n[{kind} of size {len(self)}]"


class StorageType(type):
    """The class of `FloatStorage` and its like: typed storages of one type."""

    dtype: dtypes.dtype

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, TypedStorage) and instance.dtype is cls.dtype

    def __call__(cls, source: Any = 0, **options: Any) -> TypedStorage:
        return TypedStorage(source, dtype=cls.dtype, **options)


def untyped_storage(self: Tensor) -> UntypedStorage:
    """The memory that this tensor and all its views lie in, as bytes."""
    return UntypedStorage.of(self.concrete("untyped_storage"))


def storage(self: Tensor) -> TypedStorage:
    """The memory as numbers of this tensor's type. Deprecated in PyTorch: use `untyped_storage`."""
    warnings.warn(
        "TypedStorage is deprecated. It will be removed in the future and UntypedStorage will be "
        "the only storage class. This should only matter to you if you are using storages "
        "directly.  To access UntypedStorage directly, use tensor.untyped_storage() instead of "
        "tensor.storage()",
        UserWarning,
        stacklevel=2,
    )
    return TypedStorage(dtype=self.dtype, wrap_storage=untyped_storage(self))


def set_(
    self: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None
) -> Tensor:
    """Moves the tensor to another memory: that of a tensor, or a place in a storage; nothing
    empties it.
    """
    if isinstance(source, Tensor) and size is None:
        self._data = source._data
        return self
    if source is None:
        self._data = np.empty(0, self._data.dtype)
        return self
    memory = tensor_memory(source)
    count = memory.size // self._data.dtype.itemsize
    shape = (count - storage_offset,) if size is None else shape_argument((size,))
    steps = (
        wrap(np.empty(shape, np.uint8)).stride() if stride is None else shape_argument((stride,))
    )
    item = self._data.dtype.itemsize
    check(
        storage_offset + sum((n - 1) * s for n, s in zip(shape, steps, strict=True)) < count
        or 0 in shape,
        lambda: (
            f"[set_] size {list(shape)} with stride {list(steps)} at offset {storage_offset} "
            f"reaches beyond a storage of {count} elements"
        ),
    )
    place = tuple(s * item for s in steps)
    self._data = np.ndarray(shape, self._data.dtype, memory, storage_offset * item, place)
    return self


def tensor_memory(source: Any) -> ndarray:
    """The bytes of a storage or of a tensor's storage; raises TypeError for anything else."""
    if isinstance(source, Tensor):
        return untyped_storage(source)._data
    check(
        is_storage(source),
        lambda: f"set_(): argument 'source' must be Tensor or Storage, not {type(source).__name__}",
        TypeError,
    )
    return source.untyped()._data


def is_storage(obj: Any) -> bool:
    """Whether `obj` is a storage."""
    return isinstance(obj, (UntypedStorage, TypedStorage))


Tensor.untyped_storage, Tensor.storage = untyped_storage, storage
Tensor.set_ = set_
EXPORTS["torch"].update(
    {
        f"{name}Storage": StorageType(
            f"{name}Storage", (), {"dtype": dtypes.DTYPES[d], "__module__": "torch"}
        )
        for d, name in TYPE_NAMES.items()
    },
    UntypedStorage=UntypedStorage,
    TypedStorage=TypedStorage,
    is_storage=is_storage,
)
