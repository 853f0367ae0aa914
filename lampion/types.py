"""Names for types in annotations: `torch.types`. May import core and the base."""

from __future__ import annotations

import os
from collections.abc import Sequence as _Sequence
from typing import IO, TypeAlias

from .core.tensor import Size, Tensor as Tensor
from .device import device as _device
from .dtypes import dtype as _dtype  # noqa: F401
from .layout import layout as _layout  # noqa: F401
from .ops.storage import TypedStorage, UntypedStorage

Number: TypeAlias = int | float | bool
Device: TypeAlias = _device | str | int | None
FileLike: TypeAlias = str | os.PathLike[str] | IO[bytes]
Storage: TypeAlias = UntypedStorage | TypedStorage
IntLikeType: TypeAlias = int
FloatLikeType: TypeAlias = float
BoolLikeType: TypeAlias = bool

_int, _float, _bool, _complex = int, float, bool, complex
_size: TypeAlias = Size | list[int] | tuple[int, ...]
_TensorOrTensors: TypeAlias = Tensor | _Sequence[Tensor]
_TensorOrOptionalTensors: TypeAlias = Tensor | None | _Sequence[Tensor | None]
__all__ = ["Number", "Device", "FileLike", "Storage"]
