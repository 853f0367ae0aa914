"""Element types and PyTorch's promotion rules. May import errors.

A `dtype` wraps a NumPy dtype (bfloat16 and float8 come from ml_dtypes) under PyTorch's names.
Promotion has three steps, as in PyTorch: tensors with dimensions outrank 0-dim tensors, these
outrank Python numbers, and a lower rank only counts when its category (bool < integer < float <
complex) is higher.
"""

from __future__ import annotations

import builtins
import math

import ml_dtypes
import numpy as np

from .errors import check

BOOL, INTEGER, FLOAT, COMPLEX = range(4)


class dtype:
    """The type of a tensor's elements, e.g. `float32`; one object per type,
    compared by identity.
    """

    __slots__ = ("name", "numpy", "itemsize", "category", "is_signed")

    def __init__(self, name: str, numpy: np.dtype, category: int) -> None:
        self.name, self.numpy, self.category = name, numpy, category
        self.itemsize = numpy.itemsize
        self.is_signed = category > INTEGER or numpy.kind == "i"

    @property
    def is_floating_point(self) -> builtins.bool:
        return self.category == FLOAT

    @property
    def is_complex(self) -> builtins.bool:
        return self.category == COMPLEX

    def to_real(self) -> dtype:
        """The real type whose pairs make this one; itself if it is real already."""
        return TO_REAL.get(self, self)

    def to_complex(self) -> dtype:
        """The complex type made of pairs of this one."""
        return TO_COMPLEX.get(self, complex64) if self.category < COMPLEX else self

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> tuple:
        return dtype_named, (self.name,)

    def __deepcopy__(self, memo: dict) -> dtype:
        return self


def dtype_named(name: str) -> dtype:
    """The dtype with this name, e.g. `"float32"`."""
    check(name in DTYPES, lambda: f"[dtype] no such type: {name!r}", TypeError)
    return DTYPES[name]


def _make(name: str, numpy_type: object, category: int) -> dtype:
    made = dtype(name, np.dtype(numpy_type), category)  # type: ignore[call-overload]
    DTYPES[name] = FROM_NUMPY[made.numpy] = made
    return made


DTYPES: dict[str, dtype] = {}
FROM_NUMPY: dict[np.dtype, dtype] = {}

bool = _make("bool", np.bool_, BOOL)
uint8 = _make("uint8", np.uint8, INTEGER)
int8 = _make("int8", np.int8, INTEGER)
int16 = _make("int16", np.int16, INTEGER)
int32 = _make("int32", np.int32, INTEGER)
int64 = _make("int64", np.int64, INTEGER)
uint16 = _make("uint16", np.uint16, INTEGER)
uint32 = _make("uint32", np.uint32, INTEGER)
uint64 = _make("uint64", np.uint64, INTEGER)
float16 = _make("float16", np.float16, FLOAT)
bfloat16 = _make("bfloat16", ml_dtypes.bfloat16, FLOAT)
float32 = _make("float32", np.float32, FLOAT)
float64 = _make("float64", np.float64, FLOAT)
float8_e4m3fn = _make("float8_e4m3fn", ml_dtypes.float8_e4m3fn, FLOAT)
float8_e5m2 = _make("float8_e5m2", ml_dtypes.float8_e5m2, FLOAT)
float8_e4m3fnuz = _make("float8_e4m3fnuz", ml_dtypes.float8_e4m3fnuz, FLOAT)
float8_e5m2fnuz = _make("float8_e5m2fnuz", ml_dtypes.float8_e5m2fnuz, FLOAT)
complex64 = _make("complex64", np.complex64, COMPLEX)
complex128 = _make("complex128", np.complex128, COMPLEX)

ALIASES = {
    "short": int16,
    "int": int32,
    "long": int64,
    "half": float16,
    "float": float32,
    "double": float64,
    "cfloat": complex64,
    "cdouble": complex128,
}
TO_REAL = {complex64: float32, complex128: float64}
TO_COMPLEX = {float32: complex64, float64: complex128, float16: complex64, bfloat16: complex64}
PYTHON_TYPES = {builtins.bool: bool, int: int64, float: float64, complex: complex128}

_INTEGER_WIDTH = {uint8: 1, int8: 1, int16: 2, int32: 4, int64: 8}
_UNPROMOTABLE = {
    uint16,
    uint32,
    uint64,
    float8_e4m3fn,
    float8_e5m2,
    float8_e4m3fnuz,
    float8_e5m2fnuz,
}
_default = float32


def get_default_dtype() -> dtype:
    """The floating type of Python floats and of creation functions that name none."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Sets the default floating type; raises TypeError for a type that is not floating."""
    global _default
    check(
        isinstance(d, dtype) and d.is_floating_point,
        lambda: (
            "[set_default_dtype] only floating-point types are supported as the default type, got "
            f"{d}"
        ),
        TypeError,
    )
    _default = d


def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest type that both convert to, by PyTorch's table."""
    if a is b:
        return a
    if a.category != b.category:
        low, high = (a, b) if a.category < b.category else (b, a)
        if high is complex64 and low is float64:
            return complex128
        return high
    check(
        a not in _UNPROMOTABLE and b not in _UNPROMOTABLE,
        lambda: (
            f"[promote_types] no common type is defined for {a} and {b}; convert one with .to()"
        ),
    )
    if a.category == INTEGER:
        if uint8 in (a, b):
            other = b if a is uint8 else a
            return int16 if other is int8 else other
        return a if _INTEGER_WIDTH[a] > _INTEGER_WIDTH[b] else b
    if {a, b} == {float16, bfloat16}:
        return float32
    return a if a.itemsize > b.itemsize else b


def combine(dimensioned: dtype | None, zero_dim: dtype | None, number: dtype | None) -> dtype:
    """Promotes across the three ranks; `number` is the dtype of Python numbers among the
    operands.
    """
    result = dimensioned
    for lower in (zero_dim, number):
        if lower is None:
            continue
        if result is None:
            result = lower
        elif lower.category > result.category:
            if lower.category == COMPLEX and result.category == FLOAT:
                result = result.to_complex()
            else:
                result = promote_types(result, lower) if lower.category == COMPLEX else lower
    assert result is not None
    return result


def number_dtype(value: object) -> dtype:
    """The dtype a Python number counts as: bool, int64, the default float or its complex type."""
    if isinstance(value, (np.bool_, builtins.bool)):
        return bool
    if isinstance(value, (int, np.integer)):
        return int64
    if isinstance(value, (float, np.floating)):
        return _default
    return _default.to_complex()


class finfo:
    """Limits of a floating type: `bits, eps, max, min, tiny, smallest_normal, resolution,
    dtype`.
    """

    def __init__(self, type: dtype | None = None) -> None:
        type = (type or _default).to_real()
        check(
            type.is_floating_point,
            lambda: f"[finfo] expects a floating type, got {type}",
            TypeError,
        )
        info = ml_dtypes.finfo(type.numpy)
        self.bits, self.dtype = info.bits, type.name
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = 10.0 ** -int(-math.log10(self.eps))  # one digit that always survives

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{n}={getattr(self, n):g}' for n in names)}, dtype={self.dtype})"


class iinfo:
    """Limits of an integer type: `bits, max, min, dtype`."""

    def __init__(self, type: dtype) -> None:
        check(
            type.category == INTEGER,
            lambda: f"[iinfo] expects an integer type, got {type}",
            TypeError,
        )
        info = np.iinfo(type.numpy)
        self.bits, self.max, self.min, self.dtype = (
            info.bits,
            int(info.max),
            int(info.min),
            type.name,
        )

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
