"""Memory layouts: PyTorch's `layout` and `memory_format` names, and in which order dimensions lie
in memory.

May import errors. An `order` lists an array's dimensions from the outermost to the innermost in
memory; None stands for row-major. The sorting rule is the one by which PyTorch's element loops
walk a tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from .errors import check, out_of_memory

__all__ = [
    "channels_last",
    "channels_last_3d",
    "contiguous_format",
    "layout",
    "memory_format",
    "preserve_format",
    "sparse_bsc",
    "sparse_bsr",
    "sparse_coo",
    "sparse_csc",
    "sparse_csr",
    "strided",
]

Order = tuple[int, ...] | None


class layout:
    """How a tensor's elements are stored; `strided` is the one that Lampion has."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return self.name


class memory_format(layout):
    """In which order the dimensions of a strided tensor lie in memory."""

    __slots__ = ()


strided = layout("strided")
sparse_coo = layout("sparse_coo")
sparse_csr = layout("sparse_csr")
sparse_csc = layout("sparse_csc")
sparse_bsr = layout("sparse_bsr")
sparse_bsc = layout("sparse_bsc")

contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")

CHANNELS_LAST = {channels_last: (0, 2, 3, 1), channels_last_3d: (0, 2, 3, 4, 1)}


def check_layout(wanted: layout | None, name: str) -> None:
    """Raises NotImplementedError for a layout other than `strided`."""
    check(
        wanted is None or wanted is strided,
        lambda: f"[{name}] expects layout torch.strided, got {wanted}; leave layout out",
        NotImplementedError,
    )


def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes `order`."""
    out = [0] * len(order)
    for place, dim in enumerate(order):
        out[dim] = place
    return tuple(out)


def memory_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> Order:
    """Dimensions by falling stride; a stride of 0 decides nothing, of equal ones the larger size
    comes first.
    """

    def lies_inside(a: int, b: int) -> int:
        """1 if dimension a has to lie inside b, -1 if outside, 0 if either will do."""
        if strides[a] == 0 or strides[b] == 0:
            return 0
        if strides[a] != strides[b]:
            return -1 if strides[a] > strides[b] else 1
        return 1 if shape[a] < shape[b] else 0

    order = list(range(len(shape)))
    for start in range(len(order) - 2, -1, -1):  # insertion sort from the back, as PyTorch's
        moving = start
        for after in range(start + 1, len(order)):
            inside = lies_inside(order[moving], order[after])
            if inside > 0:
                order[moving], order[after] = order[after], order[moving]
                moving = after
            elif inside < 0:
                break
    return None if order == sorted(order) else tuple(order)


def order_of(x: ndarray) -> Order:
    """The order in which the dimensions of an array lie in memory."""
    return None if x.flags.c_contiguous else memory_order(x.shape, x.strides)


def format_order(ndim: int, wanted: memory_format | None, name: str) -> Order:
    """The order of dimensions that a memory format other than `preserve_format` means."""
    check(wanted is not preserve_format, lambda: f"[{name}] unsupported memory format Preserve")
    if wanted is None or wanted is contiguous_format:
        return None
    order = CHANNELS_LAST[wanted]
    check(
        ndim == len(order),
        lambda: (
            f"[{name}] required rank {len(order)} tensor to use {wanted.name} format, got rank "
            f"{ndim}"
        ),
    )
    return order


def allocate(
    shape: tuple[int, ...], dtype: np.dtype, order: Order, make: Callable[..., ndarray] = np.empty
) -> ndarray:
    """`make(shape, dtype)` with its dimensions in the given order in memory."""
    try:
        if order is None:
            return make(shape, dtype)
        return make(tuple([shape[d] for d in order]), dtype).transpose(inverse(order))
    except MemoryError as error:
        raise out_of_memory("empty", error) from None
    except ValueError:  # of NumPy's, for more elements than an integer can count
        raise RuntimeError(
            f"[empty] Storage size calculation overflowed with sizes={list(shape)}; use a smaller "
            "shape"
        ) from None


def copy_in_order(x: ndarray, order: Order) -> ndarray:
    """A copy whose dimensions lie in the given order in memory."""
    try:
        return x.copy() if order is None else x.transpose(order).copy().transpose(inverse(order))
    except MemoryError as error:
        raise out_of_memory("clone", error) from None


def is_dense_in(x: ndarray, wanted: memory_format) -> bool:
    """Whether the array's memory is laid out in this format, without gaps."""
    order = CHANNELS_LAST.get(wanted)
    if order is None:
        return x.flags.c_contiguous
    return x.ndim == len(order) and x.transpose(order).flags.c_contiguous
