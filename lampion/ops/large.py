"""Elementwise operators on large arrays by compiled kernels, behind a size check. May import core;
the compiler is imported at the first large call, NumPy does what it has no kernel for.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy import ndarray

from ..core import op as records
from ..core.op import Op

LARGE = 1 << 15  # elements from which a launch on several threads is worth its cost
MIDDLE = 1 << 10  # elements from which compiled kernels that are there are faster than NumPy's
BOOL, F32, F64 = np.dtype(bool), np.dtype(np.float32), np.dtype(np.float64)
HALVES = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
# Operators whose formula says all that the kernel does; of the others it is a summary.
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite"}
EXACT = COMPARISONS | {
    "add", "sub", "rsub", "add_scaled", "sub_scaled", "mul", "div", "neg", "addcmul", "addcdiv",
    "lerp", "abs", "sign", "where", "maximum", "minimum", "square", "sqrt", "rsqrt",
    "reciprocal", "exp", "expm1", "log", "log1p", "sigmoid", "tanh", "relu", "hardtanh",
    "threshold", "leaky_relu", "prelu", "hardshrink", "softshrink", "hardsigmoid", "hardswish",
    "elu", "softplus", "logsigmoid", "silu", "mish", "tanhshrink", "gelu", "gelu_tanh", "erf",
    "floor", "ceil", "trunc", "round", "frac",
}  # fmt: skip


class Least:
    """The size of arrays from which compiled kernels are used: LARGE, since the first of them loads
    the compiler; MIDDLE from `prefer_compiled` on.
    """

    size = LARGE


def prefer_compiled() -> None:
    """Notes that the compiler is loaded: middle-sized arrays are worth its kernels too."""
    Least.size = MIDDLE


@cache
def engine(name: str) -> Any:
    """A module of the compiler, None where llvmlite is missing."""
    if not importlib.import_module("lampion.compiler.native.runtime").available():
        return None
    return importlib.import_module(f"lampion.compiler.kernels.{name}")


def rowwise(x: ndarray, *others: ndarray | None) -> Any:
    """The compiled kernels over rows and channels, if they are made for such arrays and x is large,
    else None.
    """
    compiler = engine("rowwise") if x.size >= Least.size else None
    return compiler if compiler is not None and compiler.fits(x, *others) else None


def along_rows(name: str, *arrays: ndarray, dim: int) -> ndarray | None:
    """The compiled kernel of that name along the last dimension of large arrays, None for
    others.
    """
    x = arrays[0]
    compiler = rowwise(*arrays) if dim in (-1, x.ndim - 1) else None
    return None if compiler is None else compiler.along_rows(name, *arrays)


def large_copy(x: ndarray) -> ndarray | None:
    """A copy of a large array, laid out row by row; None for others."""
    if x.size < Least.size or x.dtype not in (F32, F64):
        return None
    if x.flags.c_contiguous:
        return SAME.call(x)
    compiler = engine("elementwise") if x.size >= LARGE else None
    return None if compiler is None else compiler.copy_rows(x)


class Entry:
    """A built-in of one of the compiler's modules, `entry(*given)`, made at its first call: `flat`
    has formulas of arrays, numbers and `out`, `reduced` has sums and extremes.
    """

    __slots__ = ("module", "given", "call")

    def __init__(self, module: str, *given: Any) -> None:
        self.module, self.given = module, given
        self.call: Callable[..., ndarray | None] = self.first

    def first(self, *operands: Any) -> ndarray | None:
        """Makes the built-in, which takes this function's place, and calls it."""
        compiler = engine(self.module)
        self.call = nothing if compiler is None else compiler.entry(*self.given)
        return self.call(*operands)


def large_formula(formula: str, names: tuple[str, ...]) -> Callable[[Callable], Callable]:
    """Decorates a kernel of arrays whose record has no formula: large ones go to that of this."""
    made = Entry("flat", formula, names)

    def decorate(kernel: Callable) -> Callable:
        def call(*arrays: ndarray) -> Any:
            if max([x.size for x in arrays]) >= Least.size:
                found = made.call(*arrays)
                if found is not None:
                    return found
            return kernel(*arrays)

        return call

    return decorate


REDUCED = {name: Entry("reduced", name) for name in ("sum", "mean", "amax", "amin")}


def reduced(name: str, x: ndarray, dim: Any, keepdim: bool) -> ndarray | None:
    """A reduction over dimensions, not negative (None: all), by a compiled kernel; None for arrays
    that it is not made for.
    """
    if x.size < Least.size:
        return None
    if dim.__class__ is not tuple:
        found = REDUCED[name].call(x, dim, keepdim)
        if found is not None or x.flags.c_contiguous:
            return found
    plan = arrangement(x.shape, x.strides, x.itemsize, dim)
    if plan is None:
        return None
    order, sizes, place, back = plan
    found = REDUCED[name].call(x.transpose(order).reshape(sizes), place, False)
    if found is None:
        return None
    found = found.transpose(back)
    gone = tuple(range(x.ndim)) if dim is None else dim
    return np.expand_dims(found, gone) if keepdim else found


@lru_cache(4096)
def arrangement(shape: tuple, strides: tuple, itemsize: int, dim: Any) -> tuple | None:
    """How to reduce an array without gaps, over dimensions that are side by side in memory: their
    order there, the sizes with those dimensions as one, which that is, and the order of the
    result's dimensions. None for others.
    """
    order = sorted(range(len(shape)), key=lambda d: -strides[d])
    dims = order if dim is None else (dim,) if dim.__class__ is int else dim
    places = sorted([order.index(d) for d in dims])
    if not places or places[-1] - places[0] >= len(places):
        return None
    for d in reversed(order):
        if shape[d] != 1 and strides[d] != itemsize:
            return None
        itemsize *= shape[d]
    first, end = places[0], places[-1] + 1
    sizes = [shape[d] for d in order]
    sizes[first:end] = [math.prod(sizes[first:end])]
    kept = [d for d in order if d not in dims]
    return order, sizes, first, sorted(range(len(kept)), key=lambda i: kept[i])


FILLED = Entry("flat", "value", ("x",), ("value",))


def large_cast(kernel: Callable) -> Callable:
    """The kernel that changes types, or one that hands large arrays of floats to a compiled one:
    from and to float32, where a number is rounded once.
    """
    made = {d: Entry("flat", "x", ("x",), (), False, d) for d in (F32, F64, *HALVES)}
    known = {(F32, d) for d in (F64, *HALVES)} | {(d, F32) for d in (F64, *HALVES)}

    def call(x: ndarray, dtype: Any) -> ndarray:
        if x.size >= Least.size and (x.dtype, dtype.numpy) in known:
            found = made[dtype.numpy].call(x)
            if found is not None:
                return found
        return kernel(x, dtype)

    return call


SAME = Entry("flat", "x", ("x",))
COPIED = Entry("flat", "source", ("x", "source"))


def fill_array(x: ndarray, value: Any) -> None:
    """`x[...] = value`."""
    if x.size < Least.size or FILLED.call(x, value, x) is None:
        x[...] = value


def copy_array(x: ndarray, source: ndarray) -> None:
    """`np.copyto(x, source)`."""
    if x.size < Least.size or COPIED.call(x, source, x) is None:
        np.copyto(x, source)


def nothing(*operands: Any) -> None:
    """What entries are where there is no compiler."""


def large_kernel(op: Op, kernel: Callable) -> Callable:
    """The kernel, or one that hands large arrays of floats to a compiled one; that takes `out`, the
    first operand, whose type the result must have.
    """
    if op.name not in EXACT:
        return kernel
    names = op.parameters
    made = Entry("flat", op.formula, op.inputs, names, op.name in COMPARISONS)

    if len(op.inputs) == 1 and not names:

        def unary(x: ndarray, out: Any = None) -> Any:
            if x.size >= Least.size:
                found = made.call(x) if out is None else made.call(x, out)
                if found is not None:
                    return found
            return kernel(x) if out is None else into(out, kernel, x)

        return marked(unary, kernel)
    if len(op.inputs) == 2 and not names:

        def binary(x: ndarray, y: ndarray, out: Any = None) -> Any:
            if x.size >= Least.size or y.size >= Least.size:
                found = made.call(x, y) if out is None else made.call(x, y, out)
                if found is not None:
                    return found
            return kernel(x, y) if out is None else into(out, kernel, x, y)

        return marked(binary, kernel)

    def general(*arrays: Any, out: Any = None, **params: Any) -> Any:
        if arrays[0].size >= Least.size or arrays[-1].size >= Least.size:
            numbers = [params[n] for n in names]
            if out is not None:
                numbers.append(out)
            found = made.call(*arrays, *numbers)
            if found is not None:
                return found
        return kernel(*arrays, **params) if out is None else into(out, kernel, *arrays, **params)

    return marked(general, kernel)


def into(out: ndarray, kernel: Any, *arrays: ndarray, **params: Any) -> ndarray:
    """The kernel's result in `out`; raises ValueError or TypeError where that has not its shape and
    type.
    """
    if isinstance(kernel, np.ufunc):
        return kernel(*arrays, out=out)
    result = kernel(*arrays, **params)
    if result.shape != out.shape:
        raise ValueError(f"[out] expects shape {result.shape}, got {out.shape}")
    np.copyto(out, result, casting="no")
    return out


def marked(call: Callable, kernel: Any) -> Callable:
    """The call under the kernel's name, with the kernel itself as `small`; it takes `out`."""
    call.__name__ = kernel.__name__
    call.writes = True  # type: ignore[attr-defined]
    call.small = kernel  # type: ignore[attr-defined]
    return call


def large_gradient(raw: Callable, names: tuple[str, ...], terms: tuple[str, ...]) -> Callable:
    """The formulas of gradients on arrays, or a function that hands large ones to kernels."""
    computed = [i for i, term in enumerate(terms) if term.startswith(("g *", "-g"))]
    if not computed:
        return raw
    formulas = tuple([terms[i] for i in computed])
    given = ("g", *names)

    def call(g: Any, *saved: Any) -> Any:
        if g.size < Least.size:
            return raw(g, *saved)
        compiler = engine("elementwise")
        arrays = [(n, x) for n, x in zip(given, (g, *saved)) if isinstance(x, ndarray)]
        types = {x.dtype for _, x in arrays} - {BOOL}
        if compiler is None or len(types) != 1 or not types <= {F32, F64}:
            return raw(g, *saved)
        parameters = {n: x for n, x in zip(names, saved) if not isinstance(x, ndarray)}
        kinds, (dtype,) = tuple([n for n, _ in arrays]), types
        made = compiler.run(
            formulas, kinds, [x for _, x in arrays], parameters, (dtype,) * len(computed)
        )
        if made is None:
            return raw(g, *saved)
        found = dict(zip(computed, made))
        constants = {"g": g, "None": None}
        return [
            found[i] if i in found else constants[t] if t in constants else np.zeros_like(g)
            for i, t in enumerate(terms)
        ]

    return call


records.LARGE_KERNEL, records.LARGE_GRADIENT = large_kernel, large_gradient
