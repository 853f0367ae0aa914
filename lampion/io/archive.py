"""`save` and `load`: PyTorch's zip archives and safetensors. May import core and the base.

A `.pt` file is a zip of uncompressed members: `data.pkl`, a pickle whose tensors point to storages
by key, and `data/<key>`, the storages' bytes. PyTorch opens what is written here, and the other way
round.
"""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy import ndarray

from .. import dtypes
from ..core.memory import root_array, strides_of
from ..core.tensor import Parameter, Size, Tensor, wrap
from ..device import device, usable
from ..errors import check
from .atomic import replacing
from .unpickle import STORAGES, SafeUnpickler

ALIGNMENT = 64
STORAGE_NAMES = {d: name for name, d in STORAGES.items() if d is not None}
SAFETENSORS_NAMES = {
    "F64": dtypes.float64, "F32": dtypes.float32, "F16": dtypes.float16, "BF16": dtypes.bfloat16,
    "I64": dtypes.int64, "I32": dtypes.int32, "I16": dtypes.int16, "I8": dtypes.int8,
    "U8": dtypes.uint8,
    "U16": dtypes.uint16, "U32": dtypes.uint32, "U64": dtypes.uint64, "BOOL": dtypes.bool,
    "F8_E4M3": dtypes.float8_e4m3fn, "F8_E5M2": dtypes.float8_e5m2, "C64": dtypes.complex64,
}  # fmt: skip


# -- saving ------------------------------------------------------------------------------------


class Global:
    """Something that the pickle shall name `module.name`,
    whether or not such a module exists here.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Call:
    """A call of a named function with arguments, as the pickle shall hold it."""

    def __init__(self, function: Global, *args: Any) -> None:
        self.function, self.args = function, args


class StorageKey:
    """A storage, which the pickle refers to by key."""

    def __init__(self, array: ndarray, kind: Global, key: str, count: int) -> None:
        self.array, self.kind, self.key, self.count = array, kind, key, count


PythonPickler: Any = pickle._Pickler  # whose methods may be overridden, unlike Pickler's


class TensorPickler(PythonPickler):
    """Pickles tensors as PyTorch does and collects their storages;
    everything else as pickle does.
    """

    dispatch = dict(PythonPickler.dispatch)

    def __init__(self, file: IO[bytes], protocol: int = 2) -> None:
        super().__init__(file, protocol)
        self.storages: dict[tuple, StorageKey] = {}
        self.kept: list = []  # what was made on the way must not share an id with a later object

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, StorageKey):
            return ("storage", obj.kind, obj.key, "cpu", obj.count)
        return None

    def reducer_override(self, obj: Any) -> Any:
        return NotImplemented

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        stand_in = self.stand_in(obj)
        if stand_in is not None:
            self.kept.append(stand_in)
            memo = self.memo.get(id(obj))
            if memo is not None:
                self.write(self.get(memo[0]))
                return
            self.kept.append(obj)
            self.save_reduce(stand_in.function, stand_in.args, obj=obj)
            return
        super().save(obj, save_persistent_id)

    def stand_in(self, obj: Any) -> Call | None:
        """How PyTorch spells a tensor, parameter, size or device."""
        kind = type(obj)
        if kind is Size:
            return Call(Global("torch", "Size"), tuple(obj))
        if kind is device:
            return Call(Global("torch", "device"), *str(obj).split(":")[:1])
        if not isinstance(obj, Tensor):
            return None
        check(
            obj.interpreter is None,
            f"[save] a tensor inside {obj.interpreter} has no values to save",
        )
        if isinstance(obj, Parameter):
            data = obj.detach()
            return Call(
                Global("torch._utils", "_rebuild_parameter"), data, obj.requires_grad, OrderedDict()
            )
        return self.tensor_call(obj)

    def tensor_call(self, t: Tensor) -> Call:
        data = t.concrete("save")
        root = root_array(data)
        whole = root.dtype == data.dtype and root.flags.c_contiguous and root.size
        if not whole:
            data = root = in_rows(data)
        offset = (
            data.__array_interface__["data"][0] - root.__array_interface__["data"][0]
        ) // data.itemsize
        place: tuple = (
            offset,
            tuple(data.shape),
            strides_of(data),
            t.requires_grad,
            OrderedDict(),
        )
        dtype = dtypes.FROM_NUMPY[data.dtype]
        if dtype in STORAGE_NAMES:
            storage = self.storage(root, Global("torch", STORAGE_NAMES[dtype]), root.size)
            return Call(Global("torch._utils", "_rebuild_tensor_v2"), storage, *place)
        storage = self.storage(root, Global("torch.storage", "UntypedStorage"), root.nbytes)
        function = Global("torch._utils", "_rebuild_tensor_v3")
        return Call(function, storage, *place, Global("torch", dtype.name), None)

    def storage(self, root: ndarray, kind: Global, count: int) -> StorageKey:
        known = (root.__array_interface__["data"][0], root.nbytes, kind.name)
        if known not in self.storages:
            self.storages[known] = StorageKey(root, kind, str(len(self.storages)), count)
        return self.storages[known]

    def save_named(self, obj: Global) -> None:
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())

    def save_dtype(self, obj: dtypes.dtype) -> None:
        self.save_named(Global("torch", obj.name))

    dispatch[Global] = save_named
    dispatch[dtypes.dtype] = save_dtype

    def save_reduce(
        self, func: Any, args: Any, *rest: Any, obj: Any = None, **options: Any
    ) -> None:
        if isinstance(func, Global):
            self.save(func)
            self.save(args)
            self.write(pickle.REDUCE)
            if obj is not None and id(obj) not in self.memo:
                self.memoize(obj)
            return
        super().save_reduce(func, args, *rest, obj=obj, **options)


def save(
    obj: Any,
    f: str | os.PathLike | IO[bytes],
    pickle_module: Any = pickle,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Writes an object to a file: `.safetensors` for a dict of tensors, else PyTorch's `.pt`
    archive.

    A file is replaced whole or not at all: what was there before survives an error, a crash or a
    full disk.
    """
    if not isinstance(f, (str, os.PathLike)):
        check_file(f, "save", "write")
        write_archive(obj, f, "archive", pickle_protocol)
        return
    path = Path(f)
    check(not path.is_dir(), lambda: f"[save] {path} Is a directory; name a file in it")
    check(
        path.parent.is_dir(),
        lambda: f"[save] Parent directory {path.parent} does not exist; create it first",
    )
    with replacing(path) as file:
        if path.suffix == ".safetensors":
            file.write(safetensors_bytes(obj))
        else:
            write_archive(obj, file, path.stem or "archive", pickle_protocol)


def write_archive(obj: Any, file: IO[bytes], name: str, protocol: int) -> None:
    """The zip archive of an object."""
    buffer = io.BytesIO()
    pickler = TensorPickler(buffer, protocol)
    pickler.dump(obj)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        add_member(archive, f"{name}/data.pkl", buffer.getvalue())
        add_member(archive, f"{name}/.format_version", b"1")
        add_member(archive, f"{name}/.storage_alignment", str(ALIGNMENT).encode())
        add_member(archive, f"{name}/byteorder", b"little")
        for storage in pickler.storages.values():
            add_member(
                archive, f"{name}/data/{storage.key}", storage.array.reshape(-1).view(np.uint8).data
            )
        add_member(archive, f"{name}/version", b"3\n")


def add_member(archive: zipfile.ZipFile, name: str, data: Any) -> None:
    """One member, its bytes aligned so that they can be mapped into memory."""
    info = zipfile.ZipInfo(name)  # its date is fixed, so that equal objects make equal files
    start = archive.fp.tell() + 30 + len(name.encode())  # type: ignore[union-attr]
    padding = -(start + 4) % ALIGNMENT
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    info.file_size = len(data)
    with archive.open(info, "w", force_zip64=len(data) >= 1 << 31) as member:
        member.write(data)


def in_rows(data: ndarray) -> ndarray:
    """The array laid out row by row; NumPy's ascontiguousarray would give a 0-dim one a
    dimension.
    """
    return data if data.flags.c_contiguous else data.copy()


def safetensors_bytes(obj: Any) -> bytes:
    """A dict of tensors in the safetensors format."""
    check(
        isinstance(obj, dict) and all(isinstance(v, Tensor) for v in obj.values()),
        "[save] a .safetensors file holds a dict of tensors and nothing else; save other objects "
        "as .pt",
        TypeError,
    )
    known = set(SAFETENSORS_NAMES.values())
    for key, t in obj.items():
        check(t.dtype in known, lambda: f"[save] safetensors knows no {t.dtype} ({key})", TypeError)
    arrays = {str(k): in_rows(t.concrete("save")) for k, t in obj.items()}
    return safetensors.numpy.save(arrays, metadata={"format": "pt"})


# -- loading -----------------------------------------------------------------------------------


def load(
    f: str | os.PathLike | IO[bytes],
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """What `save` (or PyTorch) wrote. No code from the file runs, whatever `weights_only` says.

    Raises UnpicklingError naming what the file may not use, RuntimeError for a damaged file.
    """
    if isinstance(map_location, (str, device)):
        usable(map_location)
    if not isinstance(f, (str, os.PathLike)):
        check_file(f, "load", "read")
        return read_archive(f, "the given file")
    path = Path(f)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    with path.open("rb") as file:
        return read_archive(file, str(path))


def check_file(f: Any, name: str, method: str) -> None:
    """Raises AttributeError for what is neither a path nor a file."""
    check(
        hasattr(f, method),
        lambda: (
            f"[{name}] expected 'f' to be string, path, or a file-like object with a '{method}' "
            f"attribute, got {type(f).__name__}"
        ),
        AttributeError,
    )


def read_archive(file: IO[bytes], name: str) -> Any:
    """The object in a zip archive."""
    try:
        archive = zipfile.ZipFile(file)
        members = {n.partition("/")[2]: n for n in archive.namelist()}
        check(
            "data.pkl" in members,
            lambda: f"[load] {name} has no data.pkl: it is no PyTorch archive",
        )
        order = archive.read(members["byteorder"]) if "byteorder" in members else b"little"
        check(
            order == b"little",
            lambda: (
                f"[load] {name} is {order.decode(errors='replace')}-endian; only little is read"
            ),
        )
        reader = io.BytesIO(archive.read(members["data.pkl"]))
        return SafeUnpickler(reader, storage_reader(archive, members, name)).load()
    except zipfile.BadZipFile as error:
        raise unreadable(file)(
            f"[load] {name} is damaged or no archive: {error}; files written by PyTorch before 1.6 "
            "must be saved again with a newer one"
        ) from error
    except (
        EOFError,
        KeyError,
        IndexError,
        ValueError,
        TypeError,
        AttributeError,
        struct.error,
    ) as error:
        raise RuntimeError(f"[load] {name} is damaged: {type(error).__name__}: {error}") from error


def unreadable(file: IO[bytes]) -> type[Exception]:
    """What PyTorch raises for a file that is no archive: empty, a pickle or none,
    or a damaged archive.
    """
    file.seek(0)
    start = file.read(4)
    if start == b"PK\3\4":
        return RuntimeError
    return pickle.UnpicklingError if start else EOFError


def storage_reader(archive: zipfile.ZipFile, members: dict, name: str) -> Callable[[Any], ndarray]:
    """Reads storages by key, each once."""
    storages: dict[str, ndarray] = {}

    def read(pid: Any) -> ndarray:
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, tuple):
            raise pickle.UnpicklingError(f"[load] {name} refers to an unknown {kind!r}")
        dtype = storage[1] or dtypes.uint8
        if key not in storages:
            check(
                f"data/{key}" in members,
                lambda: f"[load] {name} is damaged: storage {key} is missing",
            )
            data = bytearray(archive.read(members[f"data/{key}"]))
            check(
                len(data) == count * dtype.itemsize,
                lambda: (
                    f"[load] {name} is damaged: storage {key} has {len(data)} bytes, {count} "
                    f"elements of {dtype}"
                ),
            )
            array = np.empty(count, dtype.numpy)
            array.view(np.uint8)[:] = np.frombuffer(data, np.uint8)
            storages[key] = array
        return storages[key]

    return read


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name."""
    try:
        records = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise RuntimeError(f"[load] {path} is damaged: {error}") from error
    found = {}
    for key, spec in records:
        dtype = SAFETENSORS_NAMES.get(spec["dtype"])
        if dtype is None:
            raise RuntimeError(f"[load] {path}: unknown type {spec['dtype']} of {key}")
        found[key] = wrap(np.frombuffer(spec["data"], dtype.numpy).reshape(spec["shape"]).copy())
    return found
