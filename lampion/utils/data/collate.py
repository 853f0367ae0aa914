"""From a list of samples to a batch, and from what a dataset returns to tensors. May import ops and
_pytree.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from ... import dtypes
from ...core.tensor import Tensor
from ...errors import check
from ...ops.data import as_tensor, tensor
from ...ops.shape import stack
from .._pytree import is_namedtuple

FOUND = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found "
Table = dict[type | tuple[type, ...], Callable]


def is_text(array: Any) -> bool:
    """Whether an array's or NumPy scalar's elements are strings or objects."""
    return array.dtype.kind in "SUO" and not isinstance(array, Tensor)


def default_convert(data: Any) -> Any:
    """Arrays and NumPy scalars as tensors, also inside containers; anything else as it is."""
    if isinstance(data, (np.ndarray, np.generic)):
        return data if is_text(data) else as_tensor(data)
    if isinstance(data, Mapping):
        return like_mapping(data, {key: default_convert(data[key]) for key in data})
    if is_namedtuple(data):
        return type(data)(*map(default_convert, data))
    if isinstance(data, tuple):
        return [default_convert(d) for d in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return like_sequence(data, [default_convert(d) for d in data])
    return data


def default_collate(batch: Sequence) -> Any:
    """Samples as one batch: tensors are stacked, numbers become tensors, containers are gone into.

    Containers keep their type, except that tuples become lists. Raises RuntimeError for tensors or
    lists of different sizes and TypeError for what cannot be stacked.

    >>> default_collate([{"x": 1, "name": "a"}, {"x": 2, "name": "b"}])
    {'x': tensor([1, 2]), 'name': ['a', 'b']}
    """
    return collate(batch, collate_fn_map=default_collate_fn_map)


def collate(batch: Sequence, *, collate_fn_map: Table | None = None) -> Any:
    """`default_collate` with functions of one's own for some types of samples."""
    first = batch[0]
    function = find_function(type(first), collate_fn_map or {})
    if function is not None:
        return function(batch, collate_fn_map=collate_fn_map)

    def inner(samples: Sequence) -> Any:
        return collate(samples, collate_fn_map=collate_fn_map)

    if isinstance(first, Mapping):
        return like_mapping(first, {key: inner([d[key] for d in batch]) for key in first})
    if not isinstance(first, Sequence):
        raise TypeError(f"{FOUND}{type(first)}")
    check_lengths(batch)
    columns = [inner(samples) for samples in zip(*batch, strict=True)]
    if is_namedtuple(first):
        return type(first)(*columns)
    return columns if isinstance(first, tuple) else like_sequence(first, columns)


def find_function(kind: type, table: Table) -> Callable | None:
    """The entry of a type, else the first entry of a type it derives from."""
    if kind in table:
        return table[kind]
    return next((function for known, function in table.items() if issubclass(kind, known)), None)


def check_shapes(shapes: list[tuple[int, ...]]) -> None:
    """Raises RuntimeError unless all shapes of a batch are the same."""
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(shapes[0])} at entry 0 "
                f"and {list(shape)} at entry {i}; pad them, or give a collate_fn"
            )


def check_lengths(batch: Iterable) -> None:
    """Raises RuntimeError unless all lists of a batch have the same length."""
    sizes = [len(sample) for sample in batch]
    check(
        len(set(sizes)) == 1,
        lambda: (
            "each element in list of batch should be of equal size; sample 0 has "
            f"{sizes[0]}, sample {next(i for i, n in enumerate(sizes) if n != sizes[0])} has "
            f"{next(n for n in sizes if n != sizes[0])}; pad them, or give a collate_fn"
        ),
    )


def like_mapping(model: Mapping, items: dict) -> Any:
    """These items in a mapping of the model's type, or a dictionary if that cannot be made."""
    try:
        if isinstance(model, MutableMapping):
            clone = copy.copy(model)
            clone.update(items)
            return clone
        return type(model)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def like_sequence(model: Sequence, items: list) -> Any:
    """These items in a sequence of the model's type, or a list if that cannot be made."""
    try:
        if isinstance(model, MutableSequence):
            clone = copy.copy(model)
            for i, item in enumerate(items):
                clone[i] = item
            return clone
        return type(model)(items)  # type: ignore[call-arg]
    except TypeError:
        return items


def collate_tensor_fn(batch: Sequence, *, collate_fn_map: Table | None = None) -> Tensor:
    """Tensors of one shape, stacked: n of (...) -> (n, ...)."""
    check_shapes([t._data.shape for t in batch])
    return stack(batch, 0)


def collate_numpy_array_fn(batch: Sequence, *, collate_fn_map: Table | None = None) -> Any:
    """Arrays of numbers, stacked."""
    check(not is_text(batch[0]), lambda: f"{FOUND}{batch[0].dtype}", TypeError)
    if collate_fn_map is not None and collate_fn_map.get(Tensor) is not collate_tensor_fn:
        return collate([as_tensor(array) for array in batch], collate_fn_map=collate_fn_map)
    check_shapes([array.shape for array in batch])
    return as_tensor(np.stack(batch))


def collate_numpy_scalar_fn(batch: Sequence, *, collate_fn_map: Table | None = None) -> Tensor:
    """NumPy's numbers as a vector of their type."""
    return as_tensor(np.array(batch))


def collate_float_fn(batch: Sequence, *, collate_fn_map: Table | None = None) -> Tensor:
    """Python's floats as a float64 vector."""
    return tensor(batch, dtype=dtypes.float64)


def collate_int_fn(batch: Sequence, *, collate_fn_map: Table | None = None) -> Tensor:
    """Whole numbers or truth values as a vector."""
    return tensor(batch)


def collate_str_fn(batch: Sequence, *, collate_fn_map: Table | None = None) -> Sequence:
    """Texts stay a list."""
    return batch


default_collate_fn_map: Table = {
    Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number, np.object_): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}
