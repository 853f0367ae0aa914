"""Numbers for tensors: what arrays may hold, and nested lists as arrays. May import core and the
base.

A nested list is taken apart level by level, which finds its shape, its types and every ragged place
in a few passes at C speed; PyTorch's rules then choose the type, and NumPy converts the flat list
once.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.promotion import cast_kernel
from ..core.tensor import LOW_FLOATS, Tensor, wrap
from ..errors import check

NUMPY_TYPES = (
    "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, uint32, "
    "uint16, uint8, and bool"
)
TEXT = (str, bytes)
NO_SEQUENCES = (str, bytes, dict, set, frozenset)


# The types whose memory NumPy can share, by themselves: equal types may be other objects.
SHARED_TYPES = {d.numpy: d.numpy for d in dtypes.DTYPES.values() if d.name not in LOW_FLOATS}


def checked_array(array: ndarray) -> ndarray:
    """The array, of a dtype object that Lampion knows; raises for what a tensor cannot share memory
    with.
    """
    dtype = array.dtype
    if SHARED_TYPES.get(dtype) is dtype:
        size = dtype.itemsize
        if all(s >= 0 and s % size == 0 for s in array.strides):
            return array
    check(
        dtype.isnative,
        "given numpy array has byte order different from the native byte order. Conversion between "
        "byte orders is currently not supported; use array.astype(array.dtype.newbyteorder('='))",
        ValueError,
    )
    known = dtypes.FROM_NUMPY.get(dtype)
    check(
        known is not None and known.name not in LOW_FLOATS,
        lambda: (
            f"can't convert np.ndarray of type numpy.{dtype.type.__name__}. The only supported "
            f"types are: {NUMPY_TYPES}."
        ),
        TypeError,
    )
    check(
        all(s >= 0 for s in array.strides),
        "At least one stride in the given numpy array is negative, and tensors with negative "
        "strides are not currently supported. (You can probably work around this by making a copy "
        "of your array  with array.copy().) ",
        ValueError,
    )
    check(
        all(s % dtype.itemsize == 0 for s in array.strides),
        "given numpy array strides not a multiple of the element byte size. Copy the numpy array "
        "to reallocate the memory.",
        ValueError,
    )
    assert known is not None
    return array if dtype is known.numpy else array.view(known.numpy)


def take_apart(data: Any) -> tuple[list, tuple[int, ...], set[type]]:
    """The leaves of a nested sequence, in order, its shape, and the leaves' types; raises for
    ragged rows.
    """
    level, shape = [data], list[int]()
    while True:
        kinds = set(map(type, level))
        if not kinds <= ROWS or not kinds:
            if kinds <= LEAF_TYPES.keys() or not any(map(is_sequence_type, kinds)):
                return level, tuple(shape), kinds
            check_level(level, kinds, len(shape))
        sizes = set(map(len, level))
        if len(sizes) > 1:
            want = len(level[0])
            got = next(len(row) for row in level if len(row) != want)
            raise ValueError(f"expected sequence of length {want} at dim {len(shape)} (got {got})")
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))


ROWS = {list, tuple}


@functools.cache
def is_sequence_type(kind: type) -> bool:
    """Whether objects of this type are rows; tensors are numbers here, as in PyTorch."""
    numbers = issubclass(kind, (*NO_SEQUENCES, Tensor, np.generic))
    return not numbers and hasattr(kind, "__getitem__") and hasattr(kind, "__len__")


def check_level(level: list, kinds: set[type], dim: int) -> None:
    """Raises TypeError where rows and numbers stand side by side."""
    rows = [kind.__name__ for kind in kinds if is_sequence_type(kind)]
    if len(rows) < len(kinds):
        row_first = is_sequence_type(level[0].__class__)
        problem = "not a sequence" if row_first else f"must be a number, not {rows[0]}"
        raise TypeError(f"[tensor] at dim {dim}: {problem}; rows and numbers stand side by side")


LEAF_TYPES: dict[type, Callable[[], dtypes.dtype]] = {
    bool: lambda: dtypes.bool,
    int: lambda: dtypes.int64,
    float: dtypes.get_default_dtype,
    complex: lambda: dtypes.get_default_dtype().to_complex(),
}


def dtype_of_type(kind: type) -> dtypes.dtype:
    """The type that numbers of a Python or NumPy class count as; raises for what is no number."""
    if issubclass(kind, np.generic) and np.dtype(kind) in dtypes.FROM_NUMPY:
        return dtypes.FROM_NUMPY[np.dtype(kind)]
    for base in kind.__mro__:
        if base in LEAF_TYPES:
            return LEAF_TYPES[base]()
    check(not issubclass(kind, TEXT), f"new(): invalid data type '{kind.__name__}'", TypeError)
    raise RuntimeError(f"Could not infer dtype of {kind.__name__}")


def infer_dtype(leaves: list, kinds: set[type]) -> dtypes.dtype:
    """The common type of a list's numbers; the default type of an empty list."""
    found = [dtype_of_type(k) for k in kinds if not issubclass(k, (Tensor, ndarray))]
    if len(found) < len(kinds):
        found += [wrap_leaf(x).dtype for x in leaves if isinstance(x, (Tensor, ndarray))]
    return functools.reduce(dtypes.promote_types, found) if found else dtypes.get_default_dtype()


def wrap_leaf(leaf: Any) -> Tensor:
    """A tensor inside a list, or a 0-dim array as one."""
    return leaf if isinstance(leaf, Tensor) else wrap(checked_array(leaf))


def plain_numbers(leaves: list, kinds: set[type]) -> list:
    """The leaves with tensors and NumPy scalars as Python numbers; raises TypeError for others."""
    if kinds <= LEAF_TYPES.keys():
        return leaves
    for kind in kinds:
        check(
            issubclass(kind, (*LEAF_TYPES, np.generic, ndarray, Tensor)),
            f"must be real number, not {kind.__name__}",
            TypeError,
        )
    return [leaf.item() if hasattr(leaf, "item") else leaf for leaf in leaves]


def array_from_list(data: Any, dtype: dtypes.dtype | None) -> ndarray:
    """A nested list of numbers as an array of `dtype`, by default of their common type."""
    if type(data) is list and data and type(data[0]) is ndarray and all_arrays(data):
        return stack_arrays(data, dtype)
    leaves, shape, kinds = take_apart(data)
    if shape and leaves and isinstance(leaves[0], TEXT):
        raise ValueError(f"too many dimensions '{type(leaves[0]).__name__}'")
    target = dtype or infer_dtype(leaves, kinds)
    return array_of_numbers(plain_numbers(leaves, kinds), target).reshape(shape)


def all_arrays(data: list) -> bool:
    """Whether a list holds nothing but arrays with dimensions."""
    return all(type(x) is ndarray and x.ndim for x in data)


def stack_arrays(arrays: list[ndarray], dtype: dtypes.dtype | None) -> ndarray:
    """A list of arrays as one; warns, as PyTorch does, that this is slow."""
    warnings.warn(
        "Creating a tensor from a list of numpy.ndarrays is extremely slow. Please consider "
        "converting the list to a single numpy.ndarray with numpy.array() before converting to a "
        "tensor.",
        UserWarning,
        stacklevel=6,
    )
    for array in arrays:
        check(
            array.shape == arrays[0].shape,
            f"expected sequence of length {len(arrays[0])} at dim 1 (got {len(array)})",
            ValueError,
        )
    target = dtype or infer_dtype(arrays, {ndarray})
    return np.stack([cast_kernel(checked_array(a), target) for a in arrays])


def array_of_numbers(numbers: list, target: dtypes.dtype) -> ndarray:
    """Python numbers as a flat array; raises where an integer type cannot hold one."""
    if target.category == dtypes.COMPLEX:
        return cast_kernel(np.array(numbers, np.complex128), target)
    if target.category == dtypes.FLOAT:
        try:
            return cast_kernel(np.array(numbers, np.float64), target)
        except TypeError:
            raise TypeError("must be real number, not complex; pass a complex dtype") from None
    kinds = set(map(type, numbers))
    check(target is dtypes.bool or complex not in kinds, "must be int, not complex", TypeError)
    try:
        natural = np.array(numbers, np.float64 if float in kinds else np.int64)
    except (OverflowError, TypeError):
        if target is dtypes.bool:
            return np.array(numbers, object).astype(bool)
        check(target is dtypes.uint64, "Overflow when unpacking long long", ValueError)
        return np.array(numbers, np.uint64)
    check_fits(natural, target)
    return cast_kernel(natural, target)


def check_fits(values: ndarray, target: dtypes.dtype) -> None:
    """Raises RuntimeError for a number outside an integer type; unsigned types take negative
    numbers modulo.
    """
    if (
        target is dtypes.bool
        or not values.size
        or (target is dtypes.int64 and values.dtype.kind == "i")
    ):
        return
    low, high = integer_limits(target)
    fits = bool(values.min() >= low and values.max() <= high)  # False for nan
    check(fits, f"value cannot be converted to type {target.name} without overflow")


def integer_limits(target: dtypes.dtype) -> tuple[int, int]:
    """The least and the largest number that converts without overflow."""
    info = dtypes.iinfo(target)
    return (info.min, info.max) if info.min else (-info.max, info.max)
