"""Views that repeat: expand and broadcasting. May import rules, views, core and the base."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.graph import GENERAL, STATE
from ..core.op import Op
from ..core.quick import quick_view
from ..core.tensor import Size, Tensor
from ..errors import check
from .rules import EXPORTS, move_to_front, public, shape_argument
from .views import ViewOp, view_of


def expand_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Ones between the batch dimension and the others, then a longer expansion."""
    x, shape = move_to_front(values[0], dims[0]), params["shape"]
    ones = (1,) * (len(shape) - x._data.ndim + 1)
    x = x.reshape((size, *ones, *x._data.shape[1:]))
    return apply(op, x, shape=(size, *shape)), 0


def expand_array(x: ndarray, shape: tuple[int, ...]) -> ndarray | None:
    """x with dimensions of size 1 repeated by a stride of 0; None where a size neither fits nor
    repeats.

    Unlike the result of NumPy's `broadcast_to`, this one is writable.
    """
    have = x.shape
    lead = len(shape) - len(have)
    if lead < 0 or (lead and min(shape[:lead]) < 0):
        return None
    strides, inner = x.strides, shape[lead:]
    if inner != have:
        steps = []
        for n, size, step in zip(inner, have, strides, strict=True):
            if n != size and (size != 1 or n < 0):
                return None
            steps.append(step if n == size else 0)
        strides = tuple(steps)
    if lead:
        strides = (0,) * lead + strides
    if x.flags.c_contiguous and x.size:
        return ndarray(shape, x.dtype, x, 0, strides)
    return np.lib.stride_tricks.as_strided(x, shape, strides)


EXPAND = ViewOp(
    "expand",
    expand_array,
    lambda g: g,  # the engine un-broadcasts
    expand_batch,
)


@public(spaces=())
def expand(self: Tensor, *size: Any, implicit: bool = False) -> Tensor:
    """A view in which dimensions of size 1 are repeated without copying; -1 keeps a size.

    >>> torch.tensor([[1], [2]]).expand(-1, 3)
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    if STATE.mode != GENERAL and size and size[0].__class__ is int:
        data = expand_array(self._data, size)
        if data is not None:
            return quick_view(self, data, EXPAND, {"shape": size})
    return expand_to(self, shape_argument(size))


def expand_to(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`expand` for a shape of plain ints."""
    have = x._data.shape
    lead = len(shape) - len(have)
    if lead < 0:
        raise RuntimeError(
            f"expand({x.dtype}{list(have)}, size={list(shape)}): the number of sizes provided "
            f"({len(shape)}) must be greater or equal to the number of dimensions in the tensor "
            f"({len(have)})"
        )
    for i, s in enumerate(shape[:lead]):
        if s < 0:
            raise RuntimeError(
                f"The expanded size of the tensor ({s}) isn't allowed in a leading, non-existing "
                f"dimension {i}"
            )
    if -1 in shape:
        shape = shape[:lead] + tuple(
            [h if s == -1 else s for h, s in zip(have, shape[lead:], strict=True)]
        )
    for i, (h, s) in enumerate(zip(have, shape[lead:], strict=True)):
        if (h != s and h != 1) or s < 0:
            raise RuntimeError(
                f"The expanded size of the tensor ({s}) must match the existing size ({h}) at "
                f"non-singleton dimension {i + lead}.  Target sizes: {list(shape)}.  Tensor sizes: "
                f"{list(have)}"
            )
    return view_of(x, EXPAND, {"shape": shape})


@public(spaces=())
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """Expanded to the shape of `other`."""
    return expand_to(self, tuple(other._data.shape))


@public
def broadcast_to(input: Tensor, *shape: Any, size: Any = None) -> Tensor:
    """Expanded to `size`."""
    return expand_to(input, shape_argument(shape if size is None else (size,)))


def broadcast_shapes(*shapes: Any) -> Any:
    """The shape that the shapes broadcast to; raises RuntimeError where they do not.

    >>> torch.broadcast_shapes((2, 1), (3,))
    torch.Size([2, 3])
    """
    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    result = [1] * max(map(len, given), default=0)
    for k, shape in enumerate(given):
        for i in range(-1, -len(shape) - 1, -1):
            check(
                shape[i] >= 0,
                lambda i=i, s=shape: (
                    f"Trying to create tensor with negative dimension ({s[i]}): ({s[i]})"
                ),
            )
            if shape[i] in (1, result[i]):
                continue
            check(
                result[i] == 1,
                lambda i=i, k=k, s=shape: (
                    f"Attempting to broadcast a dimension of length {s[i]} at {i}! Mismatching "
                    f"argument at index {k} had {s}; but expected shape should be broadcastable to "
                    f"{result}"
                ),
            )
            result[i] = shape[i]
    return Size(result)


def broadcast_tensors(*tensors: Any) -> list[Tensor]:
    """The tensors, each expanded to the shape that all broadcast to."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    shape = tensors[0]._data.shape
    for other in tensors[1:]:
        shape = broadcast_pair(shape, other._data.shape)
    return [expand_to(x, tuple(shape)) for x in tensors]


def broadcast_pair(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that two broadcast to, with the error that elementwise operators raise."""
    ndim = max(len(a), len(b))
    long_a, long_b = (1,) * (ndim - len(a)) + tuple(a), (1,) * (ndim - len(b)) + tuple(b)
    for i, (m, n) in enumerate(zip(long_a, long_b, strict=True)):
        check(
            m == n or 1 in (m, n),
            lambda m=m, n=n, i=i: (
                f"The size of tensor a ({m}) must match the size of tensor b ({n}) at "
                f"non-singleton dimension {i}"
            ),
        )
    return tuple([n if m == 1 else m for m, n in zip(long_a, long_b, strict=True)])


EXPORTS["torch"].update(broadcast_shapes=broadcast_shapes, broadcast_tensors=broadcast_tensors)
