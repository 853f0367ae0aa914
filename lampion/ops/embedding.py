"""Rows of a table by number, one or bags of them, and one-hot vectors. May import rules, earlier
families, core and the base.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.graph import GENERAL, STATE
from ..core.op import Op
from ..core.tensor import Tensor, wrap
from ..errors import check
from .large import Least, engine
from .ranges import arange
from .rules import EXPORTS, F32, move_to_front, wide

FUNCTIONAL = EXPORTS["nn.functional"]

# -- embedding ---------------------------------------------------------------------------------


def embedding_kernel(
    w: ndarray, index: ndarray, padding_idx: int | None, by_frequency: bool
) -> ndarray:
    """The rows of w; raises IndexError for a number that is no row."""
    if index.size and (index.min() < 0 or index.max() >= len(w)):
        wrong = index[(index < 0) | (index >= len(w))].flat[0]
        raise IndexError(
            f"[embedding] index out of range in self: {wrong} with {len(w)} rows; set "
            "num_embeddings to more than the largest index"
        )
    return w.take(index, 0)


def row_weights(
    index: ndarray, rows: int, padding_idx: int | None, by_frequency: bool
) -> ndarray | None:
    """What each row's gradient is multiplied by: 0 for padding, 1 / frequency where asked for;
    None: 1.
    """
    if padding_idx is None and not by_frequency:
        return None
    weights = np.ones(index.shape, F32)
    if by_frequency:
        weights /= np.bincount(index.ravel(), minlength=rows)[index]
    if padding_idx is not None:
        weights[index == padding_idx] = 0
    return weights[..., None]


def embedding_gradient(
    g: ndarray, index: ndarray, rows: int, padding_idx: int | None, by_frequency: bool
) -> ndarray:
    """Adds each gradient to its row; equal numbers are brought together first."""
    given = g.dtype
    weights = row_weights(index, rows, padding_idx, by_frequency)
    g = wide(g)
    g = g if weights is None else g * weights.astype(g.dtype)
    compiler = engine("sums") if g.size >= Least.size else None
    if compiler is not None:
        added = compiler.add_rows(g, index, rows)
        if added is not None:
            return added.reshape(rows, *g.shape[index.ndim :]).astype(given, copy=False)
    table = np.zeros((rows, *g.shape[index.ndim :]), g.dtype)
    if index.size:
        flat = index.ravel()
        order = flat.argsort(kind="stable")
        flat = flat[order]
        begins = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
        table[flat[begins]] = np.add.reduceat(
            g.reshape(flat.size, *table.shape[1:])[order], begins, 0
        )
    return table.astype(given, copy=False)


def batch_embedding(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Batched tables are laid one behind the other."""
    (w, index), (w_dim, index_dim) = values, dims
    if w_dim is None:
        return apply(op, w, index, **params), index_dim
    w = move_to_front(w, w_dim)
    index = shifted_rows(index, index_dim, size, w._data.shape[1])
    return apply(op, w.flatten(0, 1), index, **params), 0


def shifted_rows(index: Tensor, dim: int | None, size: int, rows: int) -> Tensor:
    """The numbers (B, ...) of rows in B tables that lie one behind the other."""
    index = index.expand(size, *index._data.shape) if dim is None else move_to_front(index, dim)
    return index + (arange(size) * rows).reshape(-1, *[1] * (index._data.ndim - 1))


def batch_embedding_gradient(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Each sample has a table of its own; they lie one behind the other."""
    g, index = values
    g = g.expand(size, *g._data.shape) if dims[0] is None else move_to_front(g, dims[0])
    rows, padding = params["rows"], params["padding_idx"]
    index = shifted_rows(index, dims[1], size, rows)
    if padding is not None:
        g = g.masked_fill((index % rows == padding).unsqueeze(-1), 0)
    table = apply(op, g, index, **{**params, "rows": rows * size, "padding_idx": None})
    return table.unflatten(0, (size, rows)), 0


def weighted_rows(
    g: Tensor, index: Tensor, rows: int, padding_idx: int | None, by_frequency: bool
) -> Tensor:
    """The adjoint of the gradient: the rows, multiplied as their gradients were."""
    y = apply(EMBEDDING, g, index, padding_idx=padding_idx, by_frequency=by_frequency)
    weights = row_weights(index.concrete("embedding"), rows, padding_idx, by_frequency)
    return y if weights is None else y * wrap(weights).to(y.dtype)


EMBEDDING = Op(
    "embedding",
    ("w", "index"),
    embedding_kernel,
    kind="linear",
    vjp={
        "w": lambda g, index, w_shape, padding_idx, by_frequency: apply(
            EMBEDDING_GRADIENT,
            g,
            index,
            rows=w_shape[0],
            padding_idx=padding_idx,
            by_frequency=by_frequency,
        )
    },
    batch=batch_embedding,
)
EMBEDDING_GRADIENT: Op = Op(
    "embedding_gradient",
    ("g", "index"),
    embedding_gradient,
    kind="linear",
    vjp={
        "g": lambda g, index, rows, padding_idx, by_frequency: weighted_rows(
            g, index, rows, padding_idx, by_frequency
        )
    },
    batch=batch_embedding_gradient,
    grad_name="EmbeddingDenseBackwardBackward0",
)


def check_index(name: str, index: Tensor) -> None:
    """Raises RuntimeError for indices that are not int32 or int64."""
    check(
        index._data.dtype in (np.int64, np.int32),
        lambda: (
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: "
            f"Long, Int; but got {index.type()} instead (while checking arguments for {name})"
        ),
    )


def embedding_renorm_(input: Tensor, indices: Tensor, max_norm: float, norm_type: float) -> Tensor:
    """Scales, in place and unrecorded, the rows at `indices` that are longer than `max_norm`."""
    with STATE.set(grad=False):
        met = wrap(np.unique(indices.concrete("embedding_renorm_")).astype(np.int64))
        rows = input[met]
        norms = rows.norm(norm_type, 1, keepdim=True)
        scale = (max_norm / (norms + 1e-7)).masked_fill(norms <= max_norm, 1)
        input.index_copy_(0, met, rows * scale)
    return input


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` (V, D) numbered by `input` (*): (*, D).

    The row `padding_idx` gets no gradient. With `max_norm`, rows that are longer are scaled down in
    place. Gradients are dense. Raises IndexError for numbers that are no rows.

    >>> torch.nn.functional.embedding(torch.tensor([2, 0]), torch.eye(3))
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    if padding_idx is not None:
        rows = weight._data.shape[0]
        check(
            -rows <= padding_idx < rows, "Padding_idx must be within num_embeddings", AssertionError
        )
        padding_idx %= rows
    if max_norm is not None:
        embedding_renorm_(weight, input, max_norm, norm_type)
    return torch_embedding(
        weight, input, -1 if padding_idx is None else padding_idx, scale_grad_by_freq
    )


def torch_embedding(
    weight: Tensor,
    indices: Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """`nn.functional.embedding` in the order of arguments of `torch.embedding`."""
    check(weight._data.ndim == 2, lambda: f"'weight' must be 2-D, got {weight._data.ndim}-D")
    check_index("embedding", indices)
    padding = padding_idx if padding_idx >= 0 else None
    return apply(
        EMBEDDING, weight, indices, padding_idx=padding, by_frequency=bool(scale_grad_by_freq)
    )


# -- bags --------------------------------------------------------------------------------------


def largest_in_bags(rows: ndarray, bag: ndarray, bags: int) -> ndarray:
    """For each bag and feature the row with the largest value; -1 for an empty bag."""
    result = np.full((bags, rows.shape[1]), -1, np.int64)
    for b in np.unique(bag[bag >= 0]):
        members = np.flatnonzero(bag == b)
        result[b] = members[rows[members].argmax(0)]
    return result


LARGEST = Op("embedding_bag_argmax", ("rows", "bag"), largest_in_bags)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of bags of rows of `weight`: each row of a 2-d input, or 1-d pieces
    that begin at `offsets`.

    Raises ValueError where input, offsets, mode and weights do not go together.
    """
    if weight._data.dtype == np.int64 and input.is_floating_point():
        warnings.warn(
            "Argument order of nn.functional.embedding_bag was changed. Usage "
            "`embedding_bag(weight, input, ...)` is deprecated, and should now be "
            "`embedding_bag(input, weight, ...)`.",
            stacklevel=2,
        )
        weight, input = input, weight
    check_bags(input, weight, offsets, mode, scale_grad_by_freq, sparse, per_sample_weights)
    bags: Any = offsets
    if input._data.ndim == 2:
        count, length = input._data.shape
        bags = arange(0, count * length, length) if length else input.new_zeros(count)
        input, include_last_offset = input.reshape(-1), False
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)
    if max_norm is not None:
        embedding_renorm_(weight, input, max_norm, norm_type)
    number = ("sum", "mean", "max").index(mode)
    return torch_embedding_bag(
        weight,
        input,
        bags,
        scale_grad_by_freq,
        number,
        sparse,
        per_sample_weights,
        include_last_offset,
        padding_idx,
    )[0]


def check_bags(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None,
    mode: str,
    by_frequency: bool,
    sparse: bool,
    each: Any,
) -> None:
    """Raises ValueError or NotImplementedError for arguments that do not go together."""
    ndim = input._data.ndim
    check(
        each is None or each._data.shape == input._data.shape,
        lambda: (
            f"embedding_bag: If per_sample_weights ({each.shape}) is not None, then it must have "
            f"the same shape as the input ({input.shape})"
        ),
        ValueError,
    )
    check(
        weight._data.ndim == 2,
        lambda: f"weight has to be a 2D Tensor, but got Tensor of dimension {weight._data.ndim}",
        ValueError,
    )
    check(
        ndim in (1, 2),
        lambda: f"input has to be 1D or 2D Tensor, but got Tensor of dimension {ndim}",
        ValueError,
    )
    check(
        ndim == 1 or offsets is None,
        lambda: (
            "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of "
            f"fixed length sequences. However, found offsets of type {type(offsets)}"
        ),
        ValueError,
    )
    check(
        ndim == 2 or offsets is not None, "offsets has to be a 1D Tensor but got None", ValueError
    )
    check(offsets is None or offsets._data.ndim == 1, "offsets has to be a 1D Tensor", ValueError)
    check(mode in ("sum", "mean", "max"), "mode has to be one of sum, mean or max", ValueError)
    check(
        mode != "max" or not by_frequency,
        "max mode does not support scaling the gradient by the frequency",
        ValueError,
    )
    check(mode != "max" or not sparse, "max mode does not support sparse weights", ValueError)
    check(
        each is None or mode == "sum",
        lambda: (
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported "
            f"for mode='sum' (got mode='{mode}')."
        ),
        NotImplementedError,
    )


def torch_embedding_bag(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The bags (see `nn.functional.embedding_bag`), each index's bag, the bags' sizes and the rows
    of the maxima.
    """
    begins = offsets.concrete("embedding_bag").astype(np.int64)
    count = indices._data.shape[0]
    check(
        begins.size == 0 or begins[0] == 0,
        lambda: (
            "offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from "
            f"position 0. However, got {begins[0]}"
        ),
    )
    check(
        begins.size == 0 or begins[-1] <= count,
        lambda: (
            f"offsets[-1] can not be greater than input's length({count}), but got offsets[-1] of "
            f"{begins[-1]}"
        ),
    )
    bags = len(begins) - include_last_offset
    padding = None if padding_idx is None else padding_idx % weight._data.shape[0]
    bag = np.searchsorted(begins[:bags], np.arange(count), side="right") - 1
    counts = (
        np.ones(count, bool) if padding is None else indices.concrete("embedding_bag") != padding
    )
    sizes = np.bincount(bag[counts], minlength=bags)
    rows = torch_embedding(weight, indices, -1 if padding is None else padding, scale_grad_by_freq)
    largest = wrap(np.zeros((0,), np.int64))
    if mode == 2:
        largest = apply(LARGEST, rows, wrap(np.where(counts, bag, -1)), bags=bags)
        y = (
            rows.gather(0, largest.clamp(min=0))
            if count
            else rows.new_zeros((bags, rows._data.shape[1]))
        )
        y = y.masked_fill(largest < 0, 0)
    else:
        if per_sample_weights is not None:
            rows = rows * per_sample_weights.unsqueeze(1)
        rows = rows.masked_fill(wrap(~counts[:, None]), 0)
        y = rows.new_zeros((bags, rows._data.shape[1])).index_add(0, wrap(bag), rows)
        if mode == 1:
            y = y / wrap(np.maximum(sizes, 1)[:, None]).to(y.dtype)
    return y, wrap(bag), wrap(sizes), largest


# -- one-hot -----------------------------------------------------------------------------------


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """A 1 at each class's place: (*) -> (*, num_classes); -1 stands for the largest class and one.

    >>> torch.nn.functional.one_hot(torch.tensor([0, 2]))
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    check(
        tensor._data.dtype == np.int64,
        lambda: (
            f"one_hot is only applicable to index tensor of type LongTensor, got {tensor.dtype}; "
            "convert with .long()"
        ),
    )
    if tensor.interpreter is None:
        x = tensor._data
        check(
            x.size > 0 or num_classes > 0,
            "Can not infer total number of classes from empty tensor.",
        )
        largest = int(x.max(initial=-1))
        check(x.min(initial=0) >= 0, "Class values must be non-negative.")
        num_classes = largest + 1 if num_classes == -1 else num_classes
        check(largest < num_classes, "Class values must be smaller than num_classes.")
    check(
        num_classes > 0,
        "[one_hot] the number of classes cannot be inferred inside vmap; give num_classes",
    )
    if STATE.mode != GENERAL:
        return wrap((tensor._data[..., None] == np.arange(num_classes)).astype(np.int64))
    return (tensor.unsqueeze(-1) == arange(num_classes)).long()


FUNCTIONAL.update(embedding=embedding, embedding_bag=embedding_bag, one_hot=one_hot)
EXPORTS["torch"].update(
    embedding=torch_embedding,
    embedding_bag=torch_embedding_bag,
    embedding_renorm_=embedding_renorm_,
)
