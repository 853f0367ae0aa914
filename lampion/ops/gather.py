"""gather and scatter: one index for each element. May import rules, the views, index, core and the
base.

`index` has the dimensions of the input; element (i, j, k) of it names, with dim=1, the place (i,
index[i, j, k], k). On contiguous memory all these places are numbers of the flattened array, which
makes every kernel one line of NumPy.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.op import TENSOR_NAMES, Op
from ..core.tensor import Tensor, normalize_dim
from ..errors import check
from .expand import broadcast_pair
from .index import batched
from .rules import numpy_names, public
from .slices import INDEX
from .views import view_of

# -- places ------------------------------------------------------------------------------------


def places(shape: tuple[int, ...], index: ndarray, dim: int) -> ndarray:
    """Where each element of an index points to in a flattened array; raises if out of range."""
    size = shape[dim]
    if index.size and (index.min() < 0 or index.max() >= size):
        bad = index[(index < 0) | (index >= size)].flat[0]
        raise RuntimeError(f"index {bad} is out of bounds for dimension {dim} with size {size}")
    small = index.size <= KEPT_SIZE
    others = (offsets if small else offsets.__wrapped__)(shape, index.shape, dim)
    return others + index * math.prod(shape[dim + 1 :])


KEPT_SIZE = 1024  # of an index whose offsets are kept for the next call


@functools.lru_cache(256)
def offsets(shape: tuple[int, ...], index_shape: tuple[int, ...], dim: int) -> ndarray:
    """The part of `places` that comes from the dimensions other than `dim`."""
    at, step = np.zeros((1,) * len(shape), np.int64), 1
    for d in range(len(shape) - 1, -1, -1):
        if d != dim:
            n = index_shape[d]
            at = at + (np.arange(n) * step).reshape((n,) + (1,) * (len(shape) - d - 1))
        step *= shape[d]
    return at


def gather_kernel(x: ndarray, index: ndarray, dim: int) -> ndarray:
    """x at the places that the index names."""
    return x.reshape(-1).take(places(x.shape, index, dim))


def scatter_kernel(x: ndarray, index: ndarray, src: ndarray, dim: int) -> ndarray:
    """A copy of x with src at the places that the index names."""
    y = x.copy()
    y.reshape(-1)[places(x.shape, index, dim)] = src
    return y


def scatter_add_kernel(x: ndarray, index: ndarray, src: ndarray, dim: int) -> ndarray:
    """A copy of x with src added at the places that the index names."""
    y = x.copy()
    np.add.at(y.reshape(-1), places(x.shape, index, dim).reshape(-1), src.reshape(-1))
    return y


def identity_of(reduce: str, dtype: np.dtype) -> Any:
    """What a reduction starts from where the tensor's own elements do not count."""
    if reduce in ("sum", "mean", "prod"):
        return int(reduce == "prod")
    if dtype.kind == "b":
        return reduce == "amin"
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if reduce == "amax" else np.iinfo(dtype).max
    return -np.inf if reduce == "amax" else np.inf


REDUCTIONS = {
    "sum": np.add,
    "prod": np.multiply,
    "mean": np.add,
    "amax": np.maximum,
    "amin": np.minimum,
}


def scatter_reduce_kernel(
    x: ndarray, index: ndarray, src: ndarray, dim: int, reduce: str, include_self: bool
) -> ndarray:
    """A copy of x with src reduced into the places that the index names."""
    y = x.copy()
    flat, at, values = y.reshape(-1), places(x.shape, index, dim).reshape(-1), src.reshape(-1)
    if not include_self:
        flat[at] = identity_of(reduce, x.dtype)
    REDUCTIONS[reduce].at(flat, at, values)
    if reduce == "mean":
        count = np.bincount(at, minlength=flat.size)
        count = np.maximum(count + include_self, 1)
        flat[...] = flat // count if x.dtype.kind in "iu" else flat / count.astype(x.real.dtype)
    return y


# -- the records -------------------------------------------------------------------------------


def dim_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """All inputs batched in front, so that the index names the example too."""
    moved = [batched(size, v, d) for v, d in zip(values, dims, strict=True)]
    return apply(op, *moved, **{**params, "dim": params["dim"] + 1}), 0


def both_jvp(tangents: tuple, inputs: tuple, op: Op, params: dict) -> Tensor:
    """Scattering is linear in the tensor and the source together."""
    x, index, src = inputs
    moved = x.new_zeros(x._data.shape) if tangents[0] is None else tangents[0]
    source = src.new_zeros(src._data.shape) if tangents[2] is None else tangents[2]
    return apply(op, moved, index, source, **params)


GATHER = Op(
    "gather",
    ("x", "index"),
    gather_kernel,
    vjp={"x": lambda g, index, x_shape, dim: g.new_zeros(x_shape).scatter_add(dim, index, g)},
    jvp="linear",
    batch=dim_batch,
)
SCATTER: Op = Op(
    "scatter",
    ("x", "index", "src"),
    scatter_kernel,
    vjp={
        "x": lambda g, index, dim: g.scatter(dim, index, 0),
        "src": lambda g, index, dim: g.gather(dim, index),
    },
    jvp=lambda tangents, inputs, outputs, params: both_jvp(tangents, inputs, SCATTER, params),
    batch=dim_batch,
)
SCATTER_ADD: Op = Op(
    "scatter_add",
    ("x", "index", "src"),
    scatter_add_kernel,
    vjp={"x": lambda g: g, "src": lambda g, index, dim: g.gather(dim, index)},
    jvp=lambda tangents, inputs, outputs, params: both_jvp(tangents, inputs, SCATTER_ADD, params),
    batch=dim_batch,
)


def scatter_reduce_gradient(
    g: Tensor,
    x: Tensor,
    index: Tensor,
    src: Tensor,
    y: Tensor,
    dim: int,
    reduce: str,
    include_self: bool,
) -> list:
    """Gradients of `scatter_reduce` for the tensor and the source."""
    rule = (
        product_gradient
        if reduce == "prod"
        else extreme_gradient
        if reduce[0] == "a"
        else sum_gradient
    )
    for_x, for_src = rule(g, x, index, src, y, dim, reduce, include_self)
    return [for_x if include_self else for_x.scatter(dim, index, 0), None, for_src]


def sum_gradient(
    g: Tensor,
    x: Tensor,
    index: Tensor,
    src: Tensor,
    y: Tensor,
    dim: int,
    reduce: str,
    include_self: bool,
) -> tuple[Tensor, Tensor]:
    """Of a sum or mean: g, divided by how many elements were averaged."""
    if reduce == "mean":
        own = g.new_ones(g._data.shape) if include_self else g.new_zeros(g._data.shape)
        count = own.scatter_add(dim, index, src.new_ones(src._data.shape))
        g = g / count.masked_fill(count == 0, 1)
    return g, g.gather(dim, index)


def product_gradient(
    g: Tensor,
    x: Tensor,
    index: Tensor,
    src: Tensor,
    y: Tensor,
    dim: int,
    reduce: str,
    include_self: bool,
) -> tuple[Tensor, Tensor]:
    """Of a product: the product of the others, which needs care where one factor is zero."""
    own = x.masked_fill(x == 0, 1)
    others_of_x = (
        apply(SCATTER_REDUCE, own, index, src, dim=dim, reduce=reduce, include_self=include_self)
        / own
    )
    zero = src == 0
    zeros = x.new_zeros(x._data.shape).scatter_add(dim, index, zero.to(x.dtype)).gather(dim, index)
    single = zero & (zeros == 1)
    without = apply(
        SCATTER_REDUCE,
        x,
        index,
        src.masked_fill(single, 1),
        dim=dim,
        reduce=reduce,
        include_self=include_self,
    )
    others_of_src = (g * y).gather(dim, index) / src.masked_fill(zero, 1)
    return g * others_of_x, TENSOR_NAMES["where"](
        single, (g * without).gather(dim, index), others_of_src
    )


def extreme_gradient(
    g: Tensor,
    x: Tensor,
    index: Tensor,
    src: Tensor,
    y: Tensor,
    dim: int,
    reduce: str,
    include_self: bool,
) -> tuple[Tensor, Tensor]:
    """Of a maximum or minimum: shared evenly by the elements that attain it."""
    x_attains, src_attains = (x == y).to(g.dtype), (src == y.gather(dim, index)).to(g.dtype)
    if not include_self:
        x_attains = x_attains.scatter(dim, index, 0)
    share = g / x_attains.scatter_add(dim, index, src_attains)
    return x_attains * share, src_attains * share.gather(dim, index)


SCATTER_REDUCE = Op(
    "scatter_reduce",
    ("x", "index", "src"),
    scatter_reduce_kernel,
    vjp=scatter_reduce_gradient,
    batch=dim_batch,
)

# -- the public functions ----------------------------------------------------------------------


def check_index(input: Tensor, dim: int, index: Tensor, name: str) -> int:
    """Checks an index's type and dimensions; the dim, counted from the front."""
    check(
        index.dtype in (dtypes.int64, dtypes.int32) or index._data.size == 0,
        lambda: f"{name}(): Expected dtype int32/int64 for index",
    )
    who = "input" if name == "gather" else "self"
    check(
        max(index._data.ndim, 1) == max(input._data.ndim, 1) or index._data.size == 0,
        f"Index tensor must have the same number of dimensions as {who} tensor",
    )
    return normalize_dim(dim, input._data.ndim)


@public(out=True)
@numpy_names
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """For each element of the index the input's element with that place along `dim`.

    >>> torch.tensor([[1, 2], [3, 4]]).gather(1, torch.tensor([[1], [0]])).tolist()
    [[2], [3]]
    """
    dim = check_index(input, dim, index, "gather")
    shape = index._data.shape
    if input._data.ndim == 0:
        return apply(GATHER, input.reshape((1,)), index.reshape((-1,)), dim=0).reshape(shape)
    if index._data.size == 0:
        return input.reshape((-1,)).narrow(0, 0, 0).reshape(shape)
    for d, (n, m) in enumerate(zip(shape, input._data.shape, strict=False)):
        check(
            d == dim or n <= m,
            lambda d=d: (
                f"Size does not match at dimension {d} expected index {list(shape)} to be no "
                f"larger than self {list(input._data.shape)} apart from dimension {dim}"
            ),
        )
    if not shape:
        return apply(GATHER, input, index.reshape((1,)), dim=dim).reshape(())
    return apply(GATHER, input, index, dim=dim)


def scattered(
    op: Op, input: Tensor, dim: int, index: Tensor, src: Any, name: str, **params: Any
) -> Tensor:
    """One of the scatter operators, after its checks; a number is a source of that number."""
    dim = check_index(input, dim, index, name)
    shape = tuple(index._data.shape)
    if not isinstance(src, Tensor):
        src = input.new_full((), src).expand(shape)
    check(input.dtype is src.dtype, f"{name}(): Expected self.dtype to be equal to src.dtype")
    if input._data.ndim == 0 or not shape:
        flat, index, src = [t.reshape((-1,)) for t in (input, index, src)]
        return scattered(op, flat, dim, index, src, name, **params).reshape(input._data.shape)
    if index._data.size == 0:
        return input.clone()
    small = all(
        d == dim or n <= m for d, (n, m) in enumerate(zip(shape, input._data.shape, strict=False))
    )
    check(
        small
        and len(src._data.shape) == len(shape)
        and all(n <= m for n, m in zip(shape, src._data.shape, strict=True)),
        lambda: (
            f"Expected index {list(shape)} to be no larger than self {list(input._data.shape)} "
            f"apart from dimension {dim} and to be no larger size than src {list(src._data.shape)}"
        ),
    )
    if src._data.shape != shape:
        src = view_of(src, INDEX, {"index": tuple([slice(0, n) for n in shape])})
    return apply(op, input, index, src, dim=dim, **params)


@public(inplace=True, out=True)
@numpy_names
def scatter(
    input: Tensor,
    dim: int,
    index: Tensor,
    src: Any = None,
    *,
    value: Any = None,
    reduce: str | None = None,
) -> Tensor:
    """`input` with the elements of `src` (or one value) at the places that the index names along
    `dim`.

    `reduce` "add" or "multiply" combines them with what is there.
    """
    src = value if src is None else src
    if reduce is None:
        return scattered(SCATTER, input, dim, index, src, "scatter")
    check(reduce in ("add", "multiply"), "reduce argument must be either add or multiply.")
    kind = "sum" if reduce == "add" else "prod"
    return scattered(
        SCATTER_REDUCE, input, dim, index, src, "scatter", reduce=kind, include_self=True
    )


@public(inplace=True, out=True)
@numpy_names
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`input` with the elements of `src` added at the places that the index names along `dim`."""
    return scattered(SCATTER_ADD, input, dim, index, src, "scatter")


@public(inplace=True, out=True)
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """`input` with the elements of `src` reduced ("sum", "prod", "mean", "amax", "amin") into the
    named places.

    Without `include_self` what was at those places does not count.
    """
    check(
        reduce in REDUCTIONS,
        lambda: f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}",
    )
    return scattered(
        SCATTER_REDUCE, input, dim, index, src, "scatter", reduce=reduce, include_self=include_self
    )


@public(inplace=True, out=True)
def index_reduce(
    input: Tensor,
    dim: int,
    index: Tensor,
    source: Tensor,
    reduce: str,
    *,
    include_self: bool = True,
) -> Tensor:
    """`input` with `source[i]` reduced ("prod", "mean", "amax", "amin") into `index[i]` of a
    dimension.
    """
    check(
        reduce in REDUCTIONS and reduce != "sum",
        lambda: f"reduce argument must be either prod, mean, amax or amin, got {reduce}.",
    )
    check(index._data.ndim < 2, "index_reduce_(): Index is supposed to be a vector", IndexError)
    dim = normalize_dim(dim, input._data.ndim)
    count = source._data.shape[dim] if source._data.ndim else 1
    check(
        index._data.size == count,
        lambda: (
            f"index_reduce_(): Number of indices ({index._data.size}) should be equal to "
            f"source.size(dim) ({count})"
        ),
        IndexError,
    )
    ndim = source._data.ndim
    spread = index.reshape((-1,) + (1,) * (ndim - dim - 1) if ndim else ()).expand_as(source)
    return scattered(
        SCATTER_REDUCE,
        input,
        dim,
        spread,
        source,
        "index_reduce",
        reduce=reduce,
        include_self=include_self,
    )


@public(out=True)
@numpy_names
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` with broadcasting: the elements at `indices` of `dim`, or of the flattened input."""
    check(
        indices.dtype is dtypes.int64,
        lambda: f"torch.take_along_dim(): dtype of indices should be Long but got {indices.dtype}",
    )
    if dim is None:
        return input.reshape((-1,)).gather(0, from_end(indices.reshape((-1,)), input._data.size))
    ndim = input._data.ndim
    check(
        ndim == indices._data.ndim,
        lambda: (
            "torch.take_along_dim(): input and indices should have the same number of dimensions, "
            f"but got {ndim} dimensions for input, and {indices._data.ndim} dimensions for indices"
        ),
    )
    dim = normalize_dim(dim, ndim)
    own, other = list(input._data.shape), list(indices._data.shape)
    size, count = own[dim], other[dim]
    own[dim] = other[dim] = 1
    common = list(broadcast_pair(tuple(own), tuple(other)))
    input = input.expand((*common[:dim], size, *common[dim + 1 :]))
    indices = indices.expand((*common[:dim], count, *common[dim + 1 :]))
    return input.gather(dim, from_end(indices, size))


def from_end(index: Tensor, size: int) -> Tensor:
    """Negative indices counted from the end."""
    return TENSOR_NAMES["where"](index < 0, index + size, index)
