"""Joining tensors: cat, stack and what is made of them. May import rules, the views, index, core
and the base.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.graph import GENERAL, STATE
from ..core.inplace import write_out
from ..core.naming import named
from ..core.op import TENSOR_NAMES, Op
from ..core.promotion import convert
from ..core.quick import quick_record
from ..core.tensor import Tensor, normalize_dim, wrap
from ..errors import check
from .expand import expand_to
from .rules import EXPORTS, move_to_front, numpy_names, public, with_out
from .slices import part
from .views import NEW_DIM

# Without NumPy's protocol for foreign arrays, whose cost shows on small ones.
concatenate = getattr(np.concatenate, "_implementation", np.concatenate)

# -- cat ---------------------------------------------------------------------------------------


def cat_gradient(g: Tensor, shapes: tuple, dim: int, needs: tuple) -> list:
    """The slice of g that belongs to each tensor that needs one."""
    grads, start = [], 0
    for shape, needed in zip(shapes, needs, strict=False):
        stop = start + shape[dim]
        grads.append(part(g, dim, start, stop) if needed else None)
        start = stop
    return grads


def join_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """All batched, with the batch dimension in front."""
    values = tuple([
        v.unsqueeze(0).expand((size, *v._data.shape)) if d is None else move_to_front(v, d)
        for v, d in zip(values, dims, strict=True)
    ])  # fmt: skip
    return apply(op, *values, dim=params["dim"] + 1), 0


def join_jvp(tangents: tuple, inputs: tuple, outputs: Any, params: dict, op: Op) -> Tensor:
    """The tangents joined, zeros for those that are missing."""
    moved = [
        x.new_zeros(x._data.shape) if t is None else t
        for t, x in zip(tangents, inputs, strict=True)
    ]
    return apply(op, *moved, **params)


CAT: Op = Op(
    "cat",
    ("tensors",),
    lambda *tensors, dim: concatenate(tensors, dim),
    vjp=cat_gradient,
    jvp=lambda tangents, inputs, outputs, params: join_jvp(tangents, inputs, outputs, params, CAT),
    batch=join_batch,
    variadic=True,
)


def cat(
    tensors: Any, dim: int = 0, *, axis: int | None = None, out: Tensor | None = None
) -> Tensor:
    """The tensors one after the other along an existing dimension.

    >>> torch.cat([torch.tensor([1, 2]), torch.tensor([3])])
    tensor([1, 2, 3])
    """
    if axis is not None:
        dim = axis
    if out is not None or STATE.mode == GENERAL or tensors.__class__ not in (tuple, list):
        result = cat_checked(tensors, dim)
        return result if out is None else write_out(out, result, "cat")
    arrays, kind, recorded = [], None, False
    for x in tensors:
        array = x._data
        arrays.append(array)
        if array.dtype is not kind:
            if kind is not None:
                return cat_checked(tensors, dim)
            kind = array.dtype
        if x._requires_grad:
            recorded = True
    try:
        data = concatenate(arrays, dim)
    except (ValueError, IndexError):
        return cat_checked(tensors, dim)
    t = wrap(data)
    if recorded and STATE.grad:
        record_cat(t, tensors, dim if dim >= 0 else dim + data.ndim)
    return t


def record_cat(t: Tensor, tensors: Sequence[Tensor], dim: int) -> None:
    """The short path of `record` for `cat`."""
    mask, bit, edges, shapes = 0, 1, [], []
    for x in tensors:
        shapes.append(x._data.shape)
        if x._requires_grad:
            mask |= bit
            before = x.grad_fn
            edges.append(x if before is None else before)
        bit += bit
    quick_record(t, tuple(edges), CAT.plans[mask], {"dim": dim}, (shapes, dim))


def cat_checked(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """`cat` with every check, and operands brought to one type."""
    check(
        not isinstance(tensors, Tensor),
        "cat(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor",
        TypeError,
    )
    check(len(tensors) > 0, "torch.cat(): expected a non-empty list of Tensors", ValueError)
    for i, t in enumerate(tensors):
        check(
            isinstance(t, Tensor),
            lambda i=i, t=t: (
                f"expected Tensor as element {i} in argument 0, but got {type(t).__name__}"
            ),
            TypeError,
        )
        check(
            t._data.ndim > 0,
            lambda i=i: f"zero-dimensional tensor (at position {i}) cannot be concatenated",
        )
    target = tensors[0].dtype
    for t in tensors:
        target = dtypes.promote_types(target, t.dtype)
    kept = [t for t in tensors if t._data.shape != (0,)] or [tensors[0]]
    shape = kept[0]._data.shape
    dim = normalize_dim(dim, len(shape))
    for i, t in enumerate(tensors):
        other = t._data.shape
        check(
            other == (0,) or len(other) == len(shape),
            lambda o=other: (
                f"Tensors must have same number of dimensions: got {len(shape)} and {len(o)}"
            ),
        )
        for d in range(len(shape)) if other != (0,) else ():
            check(
                d == dim or other[d] == shape[d],
                lambda d=d, i=i, o=other: (
                    f"Sizes of tensors must match except in dimension {dim}. Expected size "
                    f"{shape[d]} but got size {o[d]} for tensor number {i} in the list."
                ),
            )
    hole = (*shape[:dim], 0, *shape[dim + 1 :])  # empty vectors join anything, with gradients
    joined = [t if t._data.shape != (0,) or shape == (0,) else t.reshape(hole) for t in tensors]
    return apply(CAT, *[convert(t, target) for t in joined], dim=dim)


# -- stack -------------------------------------------------------------------------------------


def stack_kernel(*tensors: ndarray, dim: int) -> ndarray:
    """Concatenation along a new dimension."""
    if dim == 0 and tensors[0].ndim:
        return concatenate(tensors).reshape((len(tensors), *tensors[0].shape))
    index = NEW_DIM[dim]
    return concatenate([x[index] for x in tensors], dim)


def stack_gradient(g: Tensor, dim: int, needs: tuple) -> list:
    """The slice of g that belongs to each tensor that needs one."""
    return [g.select(dim, i) if needed else None for i, needed in enumerate(needs)]


STACK: Op = Op(
    "stack",
    ("tensors",),
    stack_kernel,
    vjp=stack_gradient,
    jvp=lambda tangents, inputs, outputs, params: join_jvp(
        tangents, inputs, outputs, params, STACK
    ),
    batch=join_batch,
    variadic=True,
)


@numpy_names
def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new dimension.

    >>> torch.stack([torch.tensor([1, 2]), torch.tensor([3, 4])], dim=1)
    tensor([[1, 3],
            [2, 4]])
    """
    check(len(tensors) > 0, "stack expects a non-empty TensorList")
    shape, kind = tensors[0]._data.shape, tensors[0]._data.dtype
    mixed = False
    for i, t in enumerate(tensors):
        if t._data.dtype is not kind:
            mixed = True
        if t._data.shape != shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and "
                f"{list(t._data.shape)} at entry {i}"
            )
    dim = normalize_dim(dim, len(shape) + 1)
    if mixed:
        common = tensors[0].dtype
        for t in tensors:
            common = dtypes.promote_types(common, t.dtype)
        tensors = [convert(t, common) for t in tensors]
    return apply(STACK, *tensors, dim=dim)


# -- at least so many dimensions ---------------------------------------------------------------


def for_each(lift: Callable[[Tensor], Tensor], name: str, doc: str) -> Callable:
    """A function of one tensor, of several, or of a sequence of them."""

    def call(*tensors: Any) -> Any:
        if len(tensors) == 1 and not isinstance(tensors[0], (list, tuple)):
            return lift(tensors[0])
        given = tensors[0] if len(tensors) == 1 else tensors
        return tuple([lift(t) for t in given])

    named(call, name, doc)
    EXPORTS["torch"][name] = call
    return call


def lift_1d(x: Tensor) -> Tensor:
    """The tensor with at least one dimension."""
    return x if x._data.ndim else x.reshape((1,))


def lift_2d(x: Tensor) -> Tensor:
    """The tensor with at least two dimensions."""
    return x if x._data.ndim > 1 else lift_1d(x).unsqueeze(0)


def lift_3d(x: Tensor) -> Tensor:
    """The tensor with at least three dimensions."""
    return x if x._data.ndim > 2 else lift_2d(x).unsqueeze(-1)


atleast_1d = for_each(lift_1d, "atleast_1d", "The tensor, or a view of it with one dimension.")
atleast_2d = for_each(lift_2d, "atleast_2d", "The tensor, or a view of it with two dimensions.")
atleast_3d = for_each(lift_3d, "atleast_3d", "The tensor, or a view of it with three dimensions.")


def lifted_cat(
    name: str, lift: Callable[[Tensor], Tensor], dim_of: Callable[[Tensor], int], doc: str
) -> Callable:
    """A relative of `cat`: tensors are given enough dimensions, then joined along one that depends
    on the first.
    """

    def call(tensors: Any) -> Tensor:
        check(len(tensors) > 0, f"{name} expects a non-empty TensorList")
        lifted = [lift(t) for t in tensors]
        return cat(lifted, dim_of(lifted[0]))

    named(call, name, doc)
    EXPORTS["torch"][name] = with_out(call, name)
    return call


def as_column(x: Tensor) -> Tensor:
    """A vector as a column, a matrix as it is."""
    return x if x._data.ndim > 1 else x.reshape((x._data.size, 1))


hstack = lifted_cat(
    "hstack",
    lift_1d,
    lambda x: 0 if x._data.ndim == 1 else 1,
    "The tensors side by side, column after column.",
)
vstack = lifted_cat(
    "vstack", lift_2d, lambda x: 0, "The tensors on top of each other, row after row."
)
row_stack = lifted_cat("row_stack", lift_2d, lambda x: 0, "Another name for `vstack`.")
dstack = lifted_cat(
    "dstack", lift_3d, lambda x: 2, "The tensors behind each other, along the third dimension."
)
column_stack = lifted_cat(
    "column_stack",
    as_column,
    lambda x: 1,
    "Vectors as the columns of a matrix; matrices side by side.",
)
EXPORTS["torch"].update(cat=cat, concat=cat, concatenate=cat, stack=with_out(stack, "stack"))
TENSOR_NAMES.update(cat=cat, stack=stack)


# -- products and combinations -----------------------------------------------------------------


def block_diag(*tensors: Any) -> Tensor:
    """The matrix that has the given ones along its diagonal and zeros elsewhere."""
    for i, t in enumerate(tensors):
        check(
            t._data.ndim <= 2,
            lambda i=i, t=t: (
                "torch.block_diag: Input tensors must have 2 or fewer dimensions. Input "
                f"{i} has {t._data.ndim} dimensions"
            ),
        )
    matrices = [lift_2d(t) for t in tensors]
    width, at, rows = sum(m._data.shape[1] for m in matrices), 0, []
    for m in matrices:
        height, own = m._data.shape
        left, right = m.new_zeros((height, at)), m.new_zeros((height, width - at - own))
        rows.append(cat((left, m, right), 1))
        at += own
    return cat(rows)


def meshgrid(*tensors: Any, indexing: str | None = None) -> tuple[Tensor, ...]:
    """For each vector its values over the grid that all span: along dimension i ("ij") or, for
    images, with the first two swapped ("xy").
    """
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    check(len(tensors) > 0, "meshgrid expects a non-empty TensorList")
    check(
        indexing in (None, "ij", "xy"),
        lambda: f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}',
    )
    for t in tensors:
        check(
            t._data.ndim < 2,
            lambda t=t: f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {t}",
        )
        check(
            t.dtype is tensors[0].dtype, "torch.meshgrid expects all tensors to have the same dtype"
        )
    if indexing is None:
        warnings.warn(
            "torch.meshgrid: in an upcoming release, it will be required to pass the indexing "
            "argument; pass indexing='ij' to keep what it does now",
            stacklevel=2,
        )
    swapped = indexing == "xy" and len(tensors) > 1
    vectors = (tensors[1], tensors[0], *tensors[2:]) if swapped else tensors
    shape = tuple([v._data.size for v in vectors])
    grids = [
        expand_to(v.reshape((1,) * i + (-1,) + (1,) * (len(shape) - i - 1)), shape)
        for i, v in enumerate(vectors)
    ]
    return (grids[1], grids[0], *grids[2:]) if swapped else tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All tuples with one element of each vector, as rows; a single vector as it is."""
    for t in tensors:
        check(
            t._data.ndim == 1,
            lambda t=t: f"Expect a 1D vector, but got shape {list(t._data.shape)}",
        )
    if len(tensors) == 1:
        return tensors[0]
    return stack([g.reshape((-1,)) for g in meshgrid(*tensors, indexing="ij")], 1)


@public
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All r-subsets (or, with replacement, multisets) of a vector's elements, as rows.

    >>> torch.combinations(torch.tensor([1, 2, 3])).tolist()
    [[1, 2], [1, 3], [2, 3]]
    """
    check(
        input._data.ndim == 1,
        lambda: f"Expect a 1D vector, but got shape {list(input._data.shape)}",
    )
    check(r >= 0, lambda: f"Expect a non-negative number, but got {r}")
    if r == 0:
        return input.new_zeros((0,))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(choose(range(input._data.size), r))
    return input[wrap(np.array(rows, np.int64).reshape(len(rows), r))]


@public(out=True)
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: `other` scaled by each element of the input, as blocks."""
    ndim = max(input._data.ndim, other._data.ndim)
    a, b = [(1,) * (ndim - x._data.ndim) + tuple(x._data.shape) for x in (input, other)]
    outer = input.reshape([n for s in a for n in (s, 1)]) * other.reshape(
        [n for s in b for n in (1, s)]
    )
    return outer.reshape([m * n for m, n in zip(a, b, strict=True)])


def powers(x: Tensor, n: int, name: str) -> Tensor:
    """x to the powers 0 to n-1, along a new last dimension."""
    check(n >= 0, lambda: f"{name}: N must be non-negative, got {n}")
    if x.dtype.category < dtypes.FLOAT:
        x = x.long()
    ones = x.new_ones((*x._data.shape, min(n, 1)))
    if n < 2:
        return ones
    repeated = expand_to(x.unsqueeze(-1), (*x._data.shape, n - 1))
    return cat((ones, repeated.cumprod(-1)), -1)


@public(method=False)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The Vandermonde matrix of a vector: its powers from N-1 down to 0 (or up, if `increasing`),
    as columns.
    """
    check(x._data.ndim == 1, "x must be a one-dimensional tensor.")
    rising = powers(x, x._data.size if N is None else N, "vander")
    return rising if increasing else rising.flip(-1)


def linalg_vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Vandermonde matrices of a batch of vectors: powers 0 to N-1 along a new last dimension."""
    x = lift_1d(x)
    n = x._data.shape[-1] if N is None else N
    check(n > 1, "N must be greater than 1.")
    return powers(x, n, "linalg.vander")


EXPORTS["linalg"]["vander"] = linalg_vander
EXPORTS["torch"].update(block_diag=block_diag, meshgrid=meshgrid, cartesian_prod=cartesian_prod)
