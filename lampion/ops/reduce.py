"""Reductions: sums, products, truth, logsumexp, and what all reductions share. May import rules,
core and the base.

In a record `dim` is None (all dimensions), an int or a tuple, and () reduces nothing; the public
functions bring PyTorch's forms to that. float16 and bfloat16 are reduced in float32.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.graph import GENERAL, STATE, Node
from ..core.memory import tick
from ..core.naming import named
from ..core.op import Op
from ..core.promotion import convert
from ..core.tensor import Tensor, _new, normalize_dim, wrap
from ..errors import check
from .large import LARGE, engine, reduced
from .rules import (
    F32,
    F64,
    batch_first,
    dtype_argument,
    in_float32,
    move_to_front,
    normalize_dims,
    numpy_names,
    public,
    shape_argument,
    shift_dims,
    with_out,
)

# -- what reductions have in common ------------------------------------------------------------


def reduction(name: str, kernel: Callable, vjp: Callable | None = None, **options: Any) -> Op:
    """The record of a reduction with the parameters `dim` and `keepdim`."""
    rules = {"x": vjp} if vjp else None
    batch = batch_first(shift_dims)
    return Op(name, ("x",), in_float32(kernel), kind="reduction", vjp=rules, batch=batch, **options)


def reduced_dims(dim: Any, ndim: int) -> Any:
    """A `dim` argument as records want it: None for all dimensions, an int, or a tuple."""
    if dim is None:
        return None
    if dim.__class__ is not int:
        dims = normalize_dims(dim, ndim)
        if not dims or ndim == 0:
            return None
        return dims[0] if len(dims) == 1 else dims
    dim = normalize_dim(dim, ndim)
    return dim if ndim else None


def keep_dims(t: Tensor, x_shape: tuple, dim: Any, keepdim: bool) -> Tensor:
    """A result or its gradient with the reduced dimensions back, of size 1."""
    if keepdim or not x_shape:
        return t
    reduced = normalize_dims(dim, len(x_shape))
    return t.reshape(tuple([1 if i in reduced else s for i, s in enumerate(x_shape)]))


def in_type(dtype: Any, run: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
    """`run(input)`, computed and returned in the type asked for; None leaves it to `run`."""
    if dtype is None:
        return run(input)
    d = dtype_argument(dtype)
    return convert(run(convert(input, d)), d)


def count(shape: tuple[int, ...], dim: Any) -> int:
    """How many elements go into one result."""
    if dim.__class__ is int:
        return shape[dim]
    return math.prod([shape[d] for d in normalize_dims(dim, len(shape))])


def along(op: Op, input: Tensor, dim: int, **params: Any) -> Any:
    """Runs an operator along one dimension; a 0-dim tensor counts as a row of one element."""
    ndim = input._data.ndim
    dim = normalize_dim(dim, ndim)
    if ndim:
        return apply(op, input, dim=dim, **params)
    outs = apply(op, input.reshape(1), dim=0, **params)
    return tuple([o.reshape(()) for o in outs]) if isinstance(outs, tuple) else outs.reshape(())


# -- sums --------------------------------------------------------------------------------------

add_reduce: Any = np.add.reduce  # its arguments go by position, which NumPy's stubs do not know
PARTS = 64  # a long column is summed in so many parts


def large_sum(x: ndarray, dims: tuple[int, ...], keepdim: bool) -> ndarray | None:
    """The sum by a compiled kernel, None for arrays that it is not made for."""
    compiler = engine("sums")
    total = None if compiler is None else compiler.sum_over(x, dims)
    if total is None:
        return None
    kept = (1,) if keepdim else ()
    shape = [s for d, n in enumerate(x.shape) for s in (kept if d in dims else (n,))]
    return total.reshape(shape)


def add_up(x: ndarray, dim: Any = None, keepdim: bool = False) -> Any:
    """The sum of floating numbers. NumPy adds pairwise within rows but one by one across them, so
    here every 64th row is summed first: less rounding, and longer rows, which are faster.
    """
    found = reduced("sum", x, dim, keepdim)
    if found is not None:
        return found
    if x.size >= LARGE:
        total = large_sum(x, normalize_dims(dim, x.ndim), keepdim)
        if total is not None:
            return total
    if dim.__class__ is not int or x.shape[dim] < 8 * PARTS or x.strides[dim] == x.itemsize:
        return add_reduce(x, dim, None, None, keepdim)
    columns = np.moveaxis(x, dim, 0)  # (n, ...)
    whole = len(columns) // PARTS * PARTS
    parts = columns[:whole].reshape(-1, PARTS, *columns.shape[1:])  # (n / 64, 64, ...)
    total = add_reduce(add_reduce(parts, 0), 0) + add_reduce(columns[whole:], 0)
    return np.expand_dims(total, dim) if keepdim else total


def sum_kernel(x: ndarray, dim: Any, keepdim: bool) -> Any:
    """Sums; booleans and integers become int64."""
    if x.dtype.kind == "b" and dim is None:
        return np.full((1,) * x.ndim if keepdim else (), np.count_nonzero(x), np.int64)
    if x.dtype.kind in "biu":
        return add_reduce(x, dim, np.int64, None, keepdim)
    return add_up(x, dim, keepdim)


def sum_gradient(g: Tensor, x_shape: tuple, dim: Any, keepdim: bool) -> Tensor:
    """The gradient of each sum goes to all its terms."""
    if dim is not None:
        g = keep_dims(g, x_shape, dim, keepdim)
    return g.expand(x_shape)


def mean_kernel(x: ndarray, dim: Any, keepdim: bool) -> Any:
    """The sum by the number of elements; 0 / 0 is NaN."""
    found = reduced("mean", x, dim, keepdim)
    if found is not None:
        return found
    return add_up(x, dim, keepdim) / count(x.shape, dim)


def mean_gradient(g: Tensor, x_shape: tuple, dim: Any, keepdim: bool) -> Tensor:
    """That of the sum by the number of elements."""
    return sum_gradient(g / count(x_shape, dim), x_shape, dim, keepdim)


def numbered(name: str) -> Callable[[dict], str]:
    """PyTorch's name of the node: one number for all elements, the other for dimensions."""
    return lambda params: f"{name}Backward{0 if params['dim'] is None else 1}"


SUM = reduction(
    "sum",
    sum_kernel,
    sum_gradient,
    jvp="linear",
    grad_name=numbered("Sum"),
    autocast="float32 on cuda",
)
MEAN = reduction("mean", mean_kernel, mean_gradient, jvp="linear", grad_name=numbered("Mean"))


def reduction_call(
    op: Op, rows: dict[int, ndarray], check_input: Callable[[Tensor], None]
) -> Callable:
    """The public function of `sum` or `mean`; float32 and float64 take a short path as in
    `rules.unary_call`.

    A sum of few elements may be the product with the row of that length in `rows`, which costs a
    third less than a reduction.
    """
    exact: Any = op.kernel
    kernel, plans, product = exact.__wrapped__, op.plans, np.vdot

    def general(
        input: Tensor, dim: Any, keepdim: bool, dtype: Any, axis: Any = None, keepdims: bool = False
    ) -> Tensor:
        dim = reduced_dims(axis if dim is None else dim, input._data.ndim)

        def run(x: Tensor) -> Tensor:
            check_input(x)
            return apply(op, x, dim=dim, keepdim=keepdim or keepdims)

        return in_type(dtype, run, input)

    general = with_out(general, op.name)

    def call(
        input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, **others: Any
    ) -> Tensor:
        mode = STATE.mode
        try:
            x = input._data
        except AttributeError:
            raise TypeError(
                f"{op.name}(): argument 'input' (position 1) must be Tensor, not "
                f"{type(input).__name__}"
            ) from None
        d = x.dtype
        if (d is not F32 and d is not F64) or mode == GENERAL or dtype is not None or others:
            return general(input, dim, keepdim, dtype, **others)
        if dim is None and not keepdim:
            row = rows.get(x.size)
            y = kernel(x, None, False) if row is None else product(x, row)
        else:
            dim = reduced_dims(dim, x.ndim)
            y = kernel(x, dim, keepdim)
        t = wrap(y)
        if mode and input._requires_grad:
            node = _new(Node)
            node.plan, node.params = plans[1], {"dim": dim, "keepdim": keepdim}
            before = input.grad_fn
            node.edges = (input if before is None else before,)
            node.shape, node.dtype = t._data.shape, d
            t._requires_grad, t.grad_fn = True, node
            node.saved = (x.shape, dim, keepdim)  # what both gradient rules name
            node.seq = tick()
        return t

    return public(named(call, op.name))


def check_mean_type(input: Tensor) -> None:
    """Raises RuntimeError for integers, whose mean has no obvious type."""
    check(
        input._data.dtype.kind not in "biu",
        lambda: (
            "mean(): could not infer output dtype. Input dtype must be either a floating point or "
            f"complex dtype. Got: {input.dtype}; convert with .float() or pass dtype="
        ),
    )


ONES = {n: np.ones(n, F32) for n in range(1, 129)}
sum = reduction_call(SUM, ONES, lambda input: None)
sum.__doc__ = """The sum of all elements, or over `dim` (an int or several); integers sum to int64.

>>> torch.ones(2, 3).sum(1)
tensor([3., 3.])
"""
mean = reduction_call(MEAN, {}, check_mean_type)
mean.__doc__ = """The mean of all elements, or over `dim`; raises RuntimeError for integers.

>>> torch.tensor([1.0, 2.0, 6.0]).mean()
tensor(3.)
"""


def nansum_kernel(x: ndarray, dim: Any, keepdim: bool) -> Any:
    """The sum with zeros in the place of NaN."""
    return sum_kernel(np.where(np.isnan(x), x.dtype.type(0), x), dim, keepdim)


def nansum_gradient(g: Tensor, x: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """That of the sum, zero where x is NaN."""
    return keep_dims(g, x._data.shape, dim, keepdim) * (x == x)


NANSUM = reduction("nansum", nansum_kernel, nansum_gradient)


@public(out=True)
@numpy_names
def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The sum over `dim` (all by default), NaN counting as zero."""
    check(input._data.dtype.kind != "c", "nansum does not support complex inputs")
    dim = reduced_dims(dim, input._data.ndim)

    def run(x: Tensor) -> Tensor:
        return apply(SUM if x._data.dtype.kind in "biu" else NANSUM, x, dim=dim, keepdim=keepdim)

    return in_type(dtype, run, input)


@public(out=True)
@numpy_names
def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The mean over `dim` (all by default) of the elements that are not NaN."""
    check(
        input._data.dtype.kind != "c" and input._data.dtype.kind not in "biu",
        lambda: f"nanmean(): expected input to have floating point dtype but got {input.dtype}",
    )
    return nansum(input, dim, keepdim, dtype=dtype) / sum(input == input, dim, keepdim)


@public(spaces=())
def sum_to_size(self: Tensor, *size: Any) -> Tensor:
    """The sum over the dimensions along which a tensor of this size would be repeated to fit."""
    shape, have = shape_argument(size), self._data.shape
    lead = len(have) - len(shape)
    check(
        lead >= 0 and builtins.all(s in (1, n) for s, n in zip(shape, have[lead:], strict=True)),
        f"size {{{list(shape)}}} is not expandable to size {{{list(have)}}}.",
    )
    repeated = [d for d, n in enumerate(have) if d < lead or shape[d - lead] != n]
    if shape and not repeated:
        return self
    return sum(self, repeated or None, True).reshape(shape)


# -- products ----------------------------------------------------------------------------------


def prod_kernel(x: ndarray, dim: Any, keepdim: bool) -> Any:
    """Products; booleans and integers become int64."""
    integer = x.dtype.kind in "biu"
    reduced: Any = np.multiply.reduce  # NumPy's stubs know neither dtype=None nor every axis
    return reduced(x, dim, np.int64 if integer else None, None, keepdim)


def has_no_zero(x: Tensor) -> bool:
    """Whether the values are known and none is 0, so that a product may be divided by them."""
    return isinstance(x._data, ndarray) and bool(x._data.all())


def prod_gradient(g: Tensor, x: Tensor, y: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    """g times the product of all other elements: y / x, or without division where x may be 0."""
    shape = x._data.shape
    g = keep_dims(g, shape, dim, keepdim)
    if has_no_zero(x):
        return g * (keep_dims(y, shape, dim, keepdim) / x).conj()
    if dim is None:
        return g * products_of_others(x.reshape(-1), 0).reshape(shape).conj()
    return g * products_of_others(x, dim).conj()


def products_of_others(x: Tensor, dim: int) -> Tensor:
    """For each element the product of all others along `dim`: those before times those after."""
    n = x._data.shape[dim]
    place = np.arange(n).reshape([n if d == dim else 1 for d in range(x._data.ndim)])
    before = x.roll(1, dim).where(wrap(place > 0), 1).cumprod(dim)
    after = x.roll(-1, dim).where(wrap(place < n - 1), 1).flip(dim).cumprod(dim).flip(dim)
    return before * after


def batch_flat(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Batches a reduction over one dimension or, flattened, over all."""
    x, dim = move_to_front(values[0], dims[0]), params["dim"]
    if dim is None:
        x, dim = x.reshape((size, -1)), 0
    return apply(op, x, **{**params, "dim": dim + 1}), 0


PROD = Op(
    "prod",
    ("x",),
    in_float32(prod_kernel),
    kind="reduction",
    vjp={"x": prod_gradient},
    batch=batch_flat,
    grad_name=numbered("Prod"),
    autocast="float32",
)


@public(out=True)
@numpy_names
def prod(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """The product of all elements, or over `dim`; integers multiply to int64."""

    def run(x: Tensor) -> Tensor:
        if dim is None:
            return apply(PROD, x, dim=None, keepdim=False)
        return along(PROD, x, dim, keepdim=keepdim)

    return in_type(dtype, run, input)


# -- truth -------------------------------------------------------------------------------------


def truth(name: str, ufunc: Any, doc: str) -> Callable:
    """`all` or `any`."""

    def kernel(x: ndarray, dim: Any, keepdim: bool) -> Any:
        out = ufunc.reduce(x if x.dtype.kind == "b" else x != 0, dim, None, None, keepdim)
        return out.astype(np.uint8) if x.dtype == np.uint8 else out

    op = reduction(name, kernel)

    def call(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
        dims = () if dim == () else reduced_dims(dim, input._data.ndim)
        return apply(op, input, dim=dims, keepdim=keepdim)

    return public(numpy_names(named(call, name, doc)), out=True)


all = truth(
    "all",
    np.logical_and,
    "Whether all elements, or all along `dim`, are not zero. uint8 gives uint8.",
)
any = truth(
    "any", np.logical_or, "Whether any element, or any along `dim`, is not zero. uint8 gives uint8."
)

COUNT_NONZERO = reduction(
    "count_nonzero", lambda x, dim, keepdim: add_reduce(x != 0, dim, np.int64, None, keepdim)
)


@public
@numpy_names
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements, or elements along `dim`, are not zero."""
    return apply(COUNT_NONZERO, input, dim=reduced_dims(dim, input._data.ndim), keepdim=False)


# -- logsumexp ---------------------------------------------------------------------------------


def logsumexp_kernel(x: ndarray, dim: Any, keepdim: bool) -> Any:
    """log(sum(exp(x))), the largest term taken out so that nothing overflows."""
    if x.size == 0:
        return np.log(add_reduce(x, dim, None, None, keepdim))
    largest = np.maximum.reduce(x.real, dim, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, 0).astype(largest.dtype)
    total = np.log(add_reduce(np.exp(x - largest), dim, None, None, True)) + largest
    return total if keepdim else total.squeeze(dim) if dim is not None else total.reshape(())


def logsumexp_gradient(g: Tensor, x: Tensor, y: Tensor, dim: Any, keepdim: bool) -> Tensor:
    """The softmax of x times g; zero where all of x is -inf."""
    y, g = (keep_dims(t, x._data.shape, dim, keepdim) for t in (y, g))
    return g * (x - y).exp().where(y != -math.inf, 0).conj()


LOGSUMEXP = reduction("logsumexp", logsumexp_kernel, logsumexp_gradient, promote="float")


@public(out=True, spaces=("torch", "special"))
@numpy_names
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """`log(sum(exp(input)))` over `dim`, computed without overflow."""
    return apply(LOGSUMEXP, input, dim=reduced_dims(dim, input._data.ndim), keepdim=keepdim)
