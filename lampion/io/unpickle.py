"""An unpickler that runs no code: it knows a list of names and refuses all others. May import core
and the base.

Python's own unpickler calls whatever a file names. This one resolves names in a table, calls only
what the table holds as a function, and sets state only on types that it knows.
"""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.tensor import Parameter, Size, Tensor, wrap
from ..device import device

STORAGES = {
    "DoubleStorage": dtypes.float64,
    "FloatStorage": dtypes.float32,
    "HalfStorage": dtypes.float16,
    "BFloat16Storage": dtypes.bfloat16,
    "LongStorage": dtypes.int64,
    "IntStorage": dtypes.int32,
    "ShortStorage": dtypes.int16,
    "CharStorage": dtypes.int8,
    "ByteStorage": dtypes.uint8,
    "BoolStorage": dtypes.bool,
    "ComplexFloatStorage": dtypes.complex64,
    "ComplexDoubleStorage": dtypes.complex128,
    "UntypedStorage": None,
}

_safe: dict[tuple[str, str], Any] = {}


def add_safe_globals(names: list) -> None:
    """Lets files name these classes or functions. They run with what the file gives them:
    list only your own.
    """
    for item in names:
        if isinstance(item, tuple):
            item, path = item
            module, _, name = path.rpartition(".")
        else:
            module, name = item.__module__, item.__qualname__
        _safe[module, name] = item


def get_safe_globals() -> list:
    """What `add_safe_globals` was given."""
    return list(_safe.values())


def clear_safe_globals() -> None:
    """Forgets what `add_safe_globals` was given."""
    _safe.clear()


@contextmanager
def safe_globals(names: list) -> Iterator[None]:
    """`add_safe_globals` for the duration of a block."""
    before = dict(_safe)
    add_safe_globals(names)
    try:
        yield
    finally:
        _safe.clear()
        _safe.update(before)


# -- what a file may call ----------------------------------------------------------------------


def rebuild_tensor(
    storage: ndarray,
    offset: int,
    size: tuple,
    stride: tuple,
    requires_grad: bool = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    """A tensor on a storage; raises UnpicklingError where it would reach outside."""
    numbers = (offset, *size, *stride)
    sound = (
        isinstance(storage, ndarray)
        and all(type(n) is int and n >= 0 for n in numbers)
        and len(size) == len(stride)
    )
    if not sound:
        raise pickle.UnpicklingError(
            f"[load] a tensor of size {size}, stride {stride}, offset {offset} is malformed"
        )
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in size and last >= storage.size:
        raise pickle.UnpicklingError(
            f"[load] a tensor of size {tuple(size)} reaches element {last} of a storage of "
            f"{storage.size}"
        )
    step = storage.dtype.itemsize
    if 0 in size:
        data = np.zeros(size, storage.dtype)
    else:
        strides = tuple(s * step for s in stride)
        data = np.lib.stride_tricks.as_strided(storage[offset:], size, strides)
        data = as_plain_view(data, storage, offset)
    return wrap(data).requires_grad_(bool(requires_grad))


def as_plain_view(data: ndarray, storage: ndarray, offset: int) -> ndarray:
    """The same view made so that its base is the storage itself."""
    if data.flags.c_contiguous:
        return storage[offset : offset + data.size].reshape(data.shape)
    return data


def rebuild_tensor_with_dtype(
    storage: ndarray,
    offset: int,
    size: tuple,
    stride: tuple,
    requires_grad: bool,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    """Like `rebuild_tensor`, for a storage of bytes."""
    if not isinstance(dtype, dtypes.dtype) or storage.nbytes % dtype.itemsize:
        raise pickle.UnpicklingError(f"[load] a storage of {storage.nbytes} bytes holds no {dtype}")
    return rebuild_tensor(storage.view(dtype.numpy), offset, size, stride, requires_grad)


def rebuild_parameter(
    data: Tensor, requires_grad: bool = True, hooks: Any = None, state: Any = None
) -> Parameter:
    """A parameter around a tensor."""
    return Parameter(data, bool(requires_grad))


def numpy_array(subtype: Any, shape: Any, code: Any) -> ndarray:
    """The empty array that a pickled NumPy array starts from; its state follows."""
    return np.empty(0, np.uint8)


def numpy_dtype(name: str, align: bool = False, copy: bool = True) -> np.dtype:
    """A NumPy dtype of numbers; object and structured types are refused."""
    if not isinstance(name, str) or np.dtype(name).hasobject or np.dtype(name).fields:
        raise pickle.UnpicklingError(f"[load] NumPy dtype {name!r} is not allowed")
    return np.dtype(name)


def numpy_scalar(dtype: np.dtype, data: bytes) -> Any:
    """A NumPy number."""
    return np.frombuffer(data, dtype, count=1)[0]


def encoded_bytes(text: str, encoding: str) -> bytes:
    """Bytes, which pickle's protocol 2 spells as a latin-1 string."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"[load] bytes in encoding {encoding!r} are not allowed")
    return text.encode("latin-1")


SAFE: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("collections", "Counter"): Counter,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("builtins", "int"): int,
    ("builtins", "float"): float,
    ("builtins", "complex"): complex,
    ("__builtin__", "set"): set,
    ("torch", "Size"): Size,
    ("torch", "device"): device,
    ("torch", "Tensor"): Tensor,
    ("torch.nn.parameter", "Parameter"): Parameter,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v3"): rebuild_tensor_with_dtype,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): rebuild_parameter,
    ("_codecs", "encode"): encoded_bytes,
    ("numpy", "dtype"): numpy_dtype,
    ("numpy", "ndarray"): ndarray,
    **{
        (m, "_reconstruct"): numpy_array
        for m in ("numpy.core.multiarray", "numpy._core.multiarray")
    },
    **{(m, "scalar"): numpy_scalar for m in ("numpy.core.multiarray", "numpy._core.multiarray")},
    **{("torch", name): ("storage", dtype) for name, dtype in STORAGES.items()},
    ("torch.storage", "UntypedStorage"): ("storage", None),
    **{("torch", d.name): d for d in dtypes.DTYPES.values()},
}


# -- the unpickler -----------------------------------------------------------------------------


PythonUnpickler: Any = pickle._Unpickler  # whose methods may be overridden, unlike Unpickler's


class SafeUnpickler(PythonUnpickler):
    """Unpickles tensors, containers and numbers; raises UnpicklingError naming anything else."""

    dispatch = dict(PythonUnpickler.dispatch)

    def __init__(self, file: Any, load_storage: Callable[[Any], ndarray]) -> None:
        super().__init__(file, encoding="utf-8")
        self.load_storage = load_storage

    def find_class(self, module: str, name: str) -> Any:
        found = SAFE.get((module, name), _safe.get((module, name)))
        if found is None:
            raise pickle.UnpicklingError(
                f"[load] the file names `{module}.{name}`, which is not on the list of what a file "
                "may use; if you trust the file and it is your own class, call "
                "torch.serialization.add_safe_globals([it]) first"
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        return self.load_storage(pid)

    def load_reduce(self) -> None:
        args = self.stack.pop()
        function = self.stack[-1]
        if not isinstance(args, tuple) or not self.callable(function):
            raise pickle.UnpicklingError(
                f"[load] the file calls {function!r}, which is not allowed"
            )
        if function is defaultdict:
            args = tuple(a for a in args if a in (None, int, float, list, dict, set, OrderedDict))
        self.stack[-1] = function(*args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        cls = self.stack.pop()
        if not isinstance(cls, type) or not self.callable(cls):
            raise pickle.UnpicklingError(f"[load] the file makes a {cls!r}, which is not allowed")
        self.append(cls.__new__(cls, *args))

    def callable(self, function: Any) -> bool:
        """Whether the file may call it: it is in a table, and no storage kind or dtype."""
        listed = any(function is v for v in SAFE.values()) or any(
            function is v for v in _safe.values()
        )
        return listed and callable(function) and function not in (Tensor, ndarray)

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, ndarray):
            self.stack[-1] = self.built_array(state)
        elif isinstance(target, np.dtype):
            if not isinstance(state, tuple) or state[1] not in ("<", ">", "|", "=") or state[2]:
                raise pickle.UnpicklingError("[load] malformed NumPy dtype")
            self.stack[-1] = target.newbyteorder(state[1])
        elif isinstance(target, (OrderedDict, Parameter)) and isinstance(state, dict):
            target.__dict__.update({k: v for k, v in state.items() if isinstance(k, str)})
        elif type(target) in _safe.values():
            getattr(target, "__setstate__", target.__dict__.update)(state)
        else:
            raise pickle.UnpicklingError(
                f"[load] the file sets state of a {type(target).__name__}, which is not allowed"
            )

    @staticmethod
    def built_array(state: Any) -> ndarray:
        """A NumPy array from its pickled state: (version, shape, dtype, Fortran order, bytes)."""
        _, shape, dtype, fortran, data = state
        if not isinstance(data, bytes) or dtype.hasobject:
            raise pickle.UnpicklingError("[load] a NumPy array of objects is not allowed")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").copy()

    def refuse(self) -> None:
        raise pickle.UnpicklingError(
            "[load] the file uses a pickle instruction that is not allowed"
        )

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    for _code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = refuse
