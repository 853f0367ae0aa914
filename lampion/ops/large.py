"""Elementwise operators on large arrays by compiled kernels, behind a size check. May import core;
the compiler is imported at the first large call, NumPy does what it has no kernel for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from ..core import op as records
from ..core.op import Op

LARGE = 1 << 15  # elements from which a launch on several threads is worth its cost
BOOL, F32, F64 = np.dtype(bool), np.dtype(np.float32), np.dtype(np.float64)
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


@cache
def engine(name: str) -> Any:
    """A module of the compiler, None where llvmlite is missing."""
    if not importlib.import_module("lampion.compiler.native.runtime").available():
        return None
    return importlib.import_module(f"lampion.compiler.kernels.{name}")


def rowwise(*arrays: ndarray | None) -> Any:
    """The compiled kernels over rows and channels, if they are made for such arrays, else None."""
    compiler = engine("rowwise")
    return compiler if compiler is not None and compiler.fits(*arrays) else None


def along_rows(name: str, *arrays: ndarray, dim: int) -> ndarray | None:
    """The compiled kernel of that name along the last dimension of large arrays, None for
    others.
    """
    x = arrays[0]
    if x.size < LARGE or dim not in (-1, x.ndim - 1):
        return None
    compiler = rowwise(*arrays)
    return None if compiler is None else compiler.along_rows(name, *arrays)


def large_copy(x: ndarray) -> ndarray | None:
    """A copy of a large array, laid out row by row; None for others."""
    compiler = engine("elementwise") if x.size >= LARGE and x.dtype in (F32, F64) else None
    return None if compiler is None else compiler.copy_rows(x)


def large_kernel(op: Op, kernel: Callable) -> Callable:
    """The kernel, or one that hands large arrays of floats to a compiled one."""
    if op.name not in EXACT:
        return kernel
    formulas, names = (op.formula,), op.inputs
    outputs = (BOOL,) if op.name in COMPARISONS else None

    def attempt(arrays: tuple, params: dict, out: ndarray | None) -> Any:
        compiler = engine("elementwise")
        types = {x.dtype for x in arrays} - {BOOL}
        if compiler is None or len(types) != 1 or not types <= {F32, F64}:
            return None
        made = compiler.run(formulas, names, arrays, params, outputs or tuple(types), out)
        return None if made is None else made[0]

    if len(names) == 1 and not op.parameters:

        def unary(x: ndarray, out: Any = None) -> Any:
            if x.size >= LARGE:
                found = attempt((x,), {}, out)
                if found is not None:
                    return found
            return kernel(x) if out is None else kernel(x, out=out)

        return marked(unary, kernel)
    if len(names) == 2 and isinstance(kernel, np.ufunc):

        def binary(x: ndarray, y: ndarray, out: Any = None) -> Any:
            if x.size >= LARGE or y.size >= LARGE:
                found = attempt((x, y), {}, out)
                if found is not None:
                    return found
            return kernel(x, y) if out is None else kernel(x, y, out=out)

        return marked(binary, kernel)

    def general(*arrays: Any, **params: Any) -> Any:
        if any(x.size >= LARGE for x in arrays):
            found = attempt(arrays, params, None)
            if found is not None:
                return found
        return kernel(*arrays, **params)

    return marked(general, kernel)


def marked(call: Callable, kernel: Any) -> Callable:
    """The call under the kernel's name, with the kernel itself as `small`."""
    call.__name__ = kernel.__name__
    call.small = kernel  # type: ignore[attr-defined]
    return call


def large_gradient(raw: Callable, names: tuple[str, ...], terms: tuple[str, ...]) -> Callable:
    """The formulas of gradients on arrays, or a function that hands large ones to one kernel."""
    computed = [i for i, term in enumerate(terms) if term.startswith(("g *", "-g"))]
    if not computed:
        return raw
    formulas = tuple([terms[i] for i in computed])
    given = ("g", *names)

    def call(g: Any, *saved: Any) -> Any:
        if g.size < LARGE:
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
