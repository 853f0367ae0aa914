"""Matrix products as stages: what eager operators and compiled programs call. Imports product,
stages and earlier files.

A template is asked once for each set of layouts, and answers with the calls that do the work; the
kernels are those of `gemm`, so one compiled module serves all sizes and strides.
"""

from __future__ import annotations

import math
import struct
from functools import cache

import ml_dtypes
import numpy as np
from numpy import ndarray

from ...errors import check
from ..native import pool, stages
from ..native.stages import Call, Layout
from .gemm import BATCH_DIMS, JOB
from .product import kernel
from .product_jobs import descriptions

SUMS = {"float32": "float32", "float64": "float64", "bfloat16": "float32"}  # the type of sums
NUMBERS = {"float32": np.float32, "float64": np.float64, "bfloat16": ml_dtypes.bfloat16}
TYPES = {np.dtype(number): name for name, number in NUMBERS.items()}


def matmul_calls(
    a: Layout,
    b: Layout,
    out: Layout,
    *,
    bias: Layout | None = None,
    alpha: float = 1.0,
    accumulate: bool = False,
    relu: bool = False,
    epilogue: bool = False,
) -> tuple[Call, ...]:
    """The calls of `out = relu(alpha * a @ b + out + bias)`, each part where it is asked for.

    Layouts are (..., M, K), (..., K, N) and (..., M, N), with any strides and broadcast batches;
    the bias is (N,), of the sums' type, its elements side by side. Operands are float32, float64
    or bfloat16, which is summed in float32 and written as float32 or, rounded once, as bfloat16.

    Operands of the calls: a, b, the bias if there is one, out, and with `epilogue` the addresses
    of a function and of its job: `epilogue(job, batch, row0, row1, col0, col1)` is called when that
    part of `out` is written. Raises ValueError where layouts do not fit one another.

    >>> square = Layout((64, 64), (64, 1), "float32")
    >>> [call.name for call in matmul_calls(square, square, square)]
    ['matmul 64x64x64']
    """
    stages.settle()
    threads = pool.pool().threads
    return cached(a, b, out, bias, float(alpha), accumulate, relu, epilogue, threads)


@cache
def cached(
    a: Layout,
    b: Layout,
    out: Layout,
    bias: Layout | None,
    alpha: float,
    accumulate: bool,
    relu: bool,
    epilogue: bool,
    threads: int,
) -> tuple[Call, ...]:
    """`matmul_calls` for a number of threads, by which tiles are sized (and no bit changes)."""
    check_layouts(a, b, out, bias)
    if 0 in out.shape:
        return ()
    made = kernel(a.dtype, "" if out.dtype == SUMS[a.dtype] else out.dtype)
    has_bias = int(bias is not None)
    pointers = {"a": 0, "b": 1, "c": 2 + has_bias} | ({"bias": 2} if bias else {})
    if epilogue:
        pointers |= {"epilogue": 3 + has_bias, "epilogue_job": 4 + has_bias}
    places = tuple((8 * JOB.index(name), operand) for name, operand in pointers.items())
    calls = []
    for fields in descriptions(
        a, b, out, alpha=alpha, accumulate=accumulate, relu=relu, fold=not epilogue
    ):
        words = made.planned(fields)
        sizes = [fields[f"size{d}"] for d in range(BATCH_DIMS)] + [fields[x] for x in "mkn"]
        name = "matmul " + "x".join(str(s) for i, s in enumerate(sizes) if s > 1 or i >= BATCH_DIMS)
        job = struct.pack(f"<{len(JOB)}q", *words)
        calls.append(Call(made.tile, job, words[JOB.index("total")], places, name))
    return tuple(calls)


def check_layouts(a: Layout, b: Layout, out: Layout, bias: Layout | None) -> None:
    """Raises ValueError for shapes and types that do not go together."""
    fit = len(a.shape) >= 2 <= len(b.shape) and a.shape[-1] == b.shape[-2]
    check(
        fit and out.shape[-2:] == (a.shape[-2], b.shape[-1]),
        lambda: (
            f"[matmul] expects (..., M, K), (..., K, N) and (..., M, N), got {a.shape}, {b.shape} "
            f"and {out.shape}"
        ),
        ValueError,
    )
    sums = SUMS.get(a.dtype)
    check(
        sums is not None and a.dtype == b.dtype and out.dtype in (sums, a.dtype),
        lambda: (
            f"[matmul] expects float32, float64 or bfloat16, got {a.dtype}, {b.dtype} and "
            f"{out.dtype}; convert them"
        ),
        ValueError,
    )
    if bias is not None:
        wanted = Layout((b.shape[-1],), (1,), str(sums))
        plain = bias.shape == wanted.shape and bias.dtype == sums
        check(
            plain and (bias.strides == (1,) or bias.shape[0] <= 1),
            lambda: f"[matmul] expects a bias of {wanted}, got {bias}",
            ValueError,
        )


# -- for eager operators -----------------------------------------------------------------------


def multiply(a: ndarray, b: ndarray, bias: ndarray | None = None) -> ndarray | None:
    """`a @ b + bias`, (..., M, K) by (..., K, N), in a new array of the operands' type; None where
    no kernel is made for them.
    """
    dtype = a.dtype
    name = TYPES.get(dtype) if dtype == b.dtype and (bias is None or bias.dtype == dtype) else None
    if name is None:
        return None
    stages.settle()
    if a.ndim == b.ndim == 2 and name != "bfloat16":
        return kernel(name).call(a, b, np.empty((a.shape[0], b.shape[1]), dtype), bias, False)
    if not (a.flags.aligned and b.flags.aligned):
        return None
    found = prepared(
        name, a.shape, a.strides, b.shape, b.strides, bias is not None, pool.pool().threads
    )
    if found is None or (bias is not None and bias.strides != (bias.itemsize,)):
        return None
    calls, shape = found
    out = np.empty(shape, dtype)
    given = (a, b, out) if bias is None else (a, b, bias, out)
    stages.run(calls, [x.ctypes.data for x in given])
    return out


@cache
def prepared(
    name: str,
    a_shape: tuple[int, ...],
    a_strides: tuple[int, ...],
    b_shape: tuple[int, ...],
    b_strides: tuple[int, ...],
    has_bias: bool,
    threads: int,
) -> tuple[tuple[Call, ...], tuple[int, ...]] | None:
    """The calls of a product and its shape, from what NumPy says of the operands; None where no
    kernel is made for them.
    """
    size = np.dtype(NUMBERS[name]).itemsize
    if any(s % size for s in a_strides + b_strides) or (has_bias and name == "bfloat16"):
        return None
    a = Layout(a_shape, tuple(s // size for s in a_strides), name)
    b = Layout(b_shape, tuple(s // size for s in b_strides), name)
    lead = np.broadcast_shapes(a_shape[:-2], b_shape[:-2])
    shape = (*lead, a_shape[-2], b_shape[-1])
    steps = tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))
    bias = Layout((shape[-1],), (1,), name) if has_bias else None
    calls = cached(a, b, Layout(shape, steps, name), bias, 1.0, False, False, False, threads)
    return calls, shape
