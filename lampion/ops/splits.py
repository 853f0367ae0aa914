"""Views of several parts at once: split, chunk, unbind. May import rules, views, slices, core and
the base.

`split` and `unbind` are operators with many results, so that the gradients of n pieces cost one
concatenation instead of n arrays of zeros.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply, link_view, record
from ..core.graph import GENERAL, STATE
from ..core.naming import named
from ..core.op import TENSOR_NAMES, Op
from ..core.tensor import Tensor, normalize_dim, wrap
from ..errors import check
from .rules import move_to_front, numpy_names, public, shape_argument
from .slices import FULL, INDEX, part


def bounds(sections: tuple[int, ...]) -> list[tuple[int, int]]:
    """Where pieces of these sizes begin and end."""
    return list(pairwise(accumulate(sections, initial=0)))


def split_kernel(x: ndarray, sections: tuple[int, ...], dim: int, form: str) -> tuple[ndarray, ...]:
    """Views of the pieces."""
    before = (FULL,) * dim
    return tuple([x[(*before, slice(a, b))] for a, b in bounds(sections)])


def split_gradient(g: list, x_shape: tuple, sections: tuple[int, ...], dim: int) -> Tensor:
    """The pieces' gradients in a row, zeros for those that have none."""
    known = next(piece for piece in g if piece is not None)
    shapes = [(*x_shape[:dim], n, *x_shape[dim + 1 :]) for n in sections]
    pieces = [
        known.new_zeros(s) if piece is None else piece for piece, s in zip(g, shapes, strict=True)
    ]
    return TENSOR_NAMES["cat"](pieces, dim)


def many_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The operator behind the batch dimension; each result keeps it in front."""
    outs = apply(op, move_to_front(values[0], dims[0]), **{**params, "dim": params["dim"] + 1})
    return outs, (0,) * len(outs)


SPLIT = Op(
    "split",
    ("x",),
    split_kernel,
    vjp={"x": split_gradient},
    jvp="linear",
    batch=many_batch,
    outputs=("pieces", ...),
    grad_name=lambda params: params["form"],
)


def unbind_gradient(g: list, x_shape: tuple, dim: int) -> Tensor:
    """The rows' gradients stacked, zeros for those that have none."""
    known = next(row for row in g if row is not None)
    rows = [known.new_zeros(known._data.shape) if row is None else row for row in g]
    return TENSOR_NAMES["stack"](rows, dim)


UNBIND = Op(
    "unbind",
    ("x",),
    lambda x, dim: tuple([x[(FULL,) * dim + (i, ...)] for i in range(x.shape[dim])]),
    vjp={"x": unbind_gradient},
    jvp="linear",
    batch=many_batch,
    outputs=("rows", ...),
)


def views_of(x: Tensor, op: Op, params: dict, indices: list) -> tuple[Tensor, ...]:
    """The results of an operator with many views, each linked to x by its index."""
    if STATE.mode == GENERAL:
        outs = apply(op, x, **params)
        for t, index in zip(outs, indices, strict=True):
            link_view(t, x, INDEX, {"index": index})
        return outs
    outs = []
    data = x._data
    for index in indices:
        t = wrap(data[index])
        link_view(t, x, INDEX, {"index": index})
        outs.append(t)
    outs = tuple(outs)
    if outs and x._requires_grad and STATE.grad:
        record(op, 1, (x,), params, outs)
    return outs


def pieces(x: Tensor, sections: tuple[int, ...], dim: int, form: str) -> tuple[Tensor, ...]:
    """Views of these sizes along a dimension, one after the other."""
    before = (FULL,) * dim
    indices = [(*before, slice(a, b)) for a, b in bounds(sections)]
    return views_of(x, SPLIT, {"sections": sections, "dim": dim, "form": form}, indices)


def equal_sections(size: int, each: int, name: str) -> tuple[int, ...]:
    """Sizes of pieces of `each` elements, the last one smaller if it must be."""
    check(
        each >= 0, lambda: f"{name} expects split_size be non-negative, but got split_size={each}"
    )
    check(
        each > 0 or size == 0,
        lambda: (
            f"split_size can only be 0 if dimension size is 0, but got dimension size of {size}"
        ),
    )
    if each == 0 or size == 0:
        return (size,)
    return (each,) * (size // each) + ((size % each,) if size % each else ())


@public
def split(tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces along a dimension: of one size (the last may be smaller), or of the given
    sizes.

    >>> [len(p) for p in torch.arange(5).split(2)]
    [2, 2, 1]
    """
    if not isinstance(split_size_or_sections, (int, Tensor, np.integer)):
        return split_with_sizes(tensor, split_size_or_sections, dim)
    shape = tensor._data.shape
    check(len(shape) > 0, "split expects at least a 1-dimensional tensor")
    dim = normalize_dim(dim, len(shape))
    sections = equal_sections(shape[dim], int(split_size_or_sections), "split")
    return pieces(tensor, sections, dim, "SplitBackward0")


@public
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of pieces of the given sizes along a dimension."""
    shape = input._data.shape
    check(len(shape) > 0, "split expects at least a 1-dimensional tensor")
    dim, sections = normalize_dim(dim, len(shape)), shape_argument((split_sizes,))
    check(
        all(s >= 0 for s in sections),
        lambda: (
            "split_with_sizes expects split_sizes have only non-negative entries, but got "
            f"split_sizes={list(sections)}"
        ),
    )
    check(
        sum(sections) == shape[dim],
        lambda: (
            f"split_with_sizes expects split_sizes to sum exactly to {shape[dim]} (input tensor's "
            f"size at dimension {dim}), but got split_sizes={list(sections)}"
        ),
    )
    return pieces(input, sections, dim, "SplitWithSizesBackward0")


@public
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` views of equal size along a dimension; the last may be smaller."""
    shape = input._data.shape
    check(len(shape) > 0, "chunk expects at least a 1-dimensional tensor")
    check(chunks > 0, lambda: f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    dim = normalize_dim(dim, len(shape))
    size = shape[dim]
    sections = (0,) * chunks if size == 0 else equal_sections(size, -(-size // chunks), "chunk")
    return pieces(input, sections, dim, "SplitBackward0")


@public
def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`chunk`; in PyTorch only its results may be written in place, here all may."""
    return chunk(input, chunks, dim)


@public
def unsafe_split(tensor: Tensor, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """`split`; in PyTorch only its results may be written in place, here all may."""
    return split(tensor, split_size, dim)


@public
def unsafe_split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """`split_with_sizes`; its results may be written in place, as those of `split` may."""
    return split_with_sizes(input, split_sizes, dim)


@public
@numpy_names
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """A view of each index of a dimension."""
    shape = input._data.shape
    check(len(shape) > 0, "Dimension specified as 0 but tensor has no dimensions", IndexError)
    dim = normalize_dim(dim, len(shape))
    before = (FULL,) * dim
    return views_of(input, UNBIND, {"dim": dim}, [(*before, i, ...) for i in range(shape[dim])])


@public
def tensor_split(
    input: Tensor,
    indices_or_sections: Any = None,
    dim: int = 0,
    *,
    indices: Any = None,
    sections: Any = None,
) -> tuple[Tensor, ...]:
    """Views of n nearly equal pieces, or of the pieces between the given indices.

    >>> [p.tolist() for p in torch.arange(5).tensor_split((1, 3))]
    [[0], [1, 2], [3, 4]]
    """
    given = next((g for g in (indices_or_sections, indices, sections) if g is not None), None)
    shape = input._data.shape
    check(
        len(shape) > 0,
        "tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims",
    )
    dim = normalize_dim(dim, len(shape))
    size = shape[dim]
    if isinstance(given, Tensor):
        rank, dtype = given._data.ndim, given.dtype
        check(
            rank < 2 and dtype is dtypes.int64,
            lambda: (
                "tensor_split expected tensor_indices_or_sections to be a zero-dimensional or "
                f"one-dimensional long tensor, but got a {dtype} tensor with {rank} dims"
            ),
        )
        given = given.tolist()
    if given is None:
        raise TypeError("tensor_split expects indices or sections, got neither")
    if isinstance(given, int):
        check(given > 0, lambda: f"number of sections must be larger than 0, got {given}")
        small, larger = divmod(size, given)
        ends = list(accumulate([small + (i < larger) for i in range(given)]))
        starts = [0, *ends[:-1]]
    else:
        cuts = list(given)
        starts, ends = [0, *cuts], [*cuts, size]
    return tuple(
        [
            part(input, dim, *slice(a, b).indices(size)[:2])
            for a, b in zip(starts, ends, strict=True)
        ]
    )


def split_along(name: str, axis: int, least: int) -> Any:
    """`hsplit` and its kind: `tensor_split` along a fixed dimension, into equal pieces only."""

    def call(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
        ndim = input._data.ndim
        check(
            ndim >= least,
            lambda: (
                f"torch.{name} requires a tensor with at least {least} "
                f"dimension{'s' * (least > 1)}, but got a tensor with {ndim} dimensions!"
            ),
        )
        dim = 0 if ndim == 1 else axis
        size = input._data.shape[dim]
        if isinstance(indices_or_sections, int):
            check(
                indices_or_sections != 0 and size % indices_or_sections == 0,
                lambda: (
                    f"torch.{name} attempted to split along dimension {dim}, but the size of the "
                    f"dimension {size} is not divisible by the split_size {indices_or_sections}!"
                ),
            )
        return tensor_split(input, indices_or_sections, dim)

    doc = f"`tensor_split` along dimension {axis}, into pieces of equal size or at indices."
    return public(named(call, name, doc))


hsplit = split_along("hsplit", 1, 1)
vsplit = split_along("vsplit", 0, 2)
dsplit = split_along("dsplit", 2, 3)
