"""What the special functions share: work in blocks, polynomials, pieces. Imports NumPy only.

A formula of forty array operations is fast when each operation finds its operands in the cache, so
the functions here see some thousand elements at a time, and overwrite their temporaries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import ml_dtypes
import numpy as np

Array = Any  # a NumPy array: its own type loses all it knows in arithmetic
Kernel = Callable[..., Array]

BLOCK = 16384  # elements; a few temporaries of this length stay in the second-level cache
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def by_blocks(*, single: Kernel | None = None, native: bool = False) -> Callable[[Kernel], Kernel]:
    """Makes a function of float64 vectors of one length work on arrays of any shape and precision.

    The result broadcasts the arguments and has their dtype: float32, float64, or float16 and
    bfloat16, which are computed in higher precision. Inside it is float64, except that float32 goes
    to `single` if there is one, or to the same function if it is `native`. Warnings of NumPy are
    off: infinities and NaNs are answers. Keywords are passed on.

    Raises:
        TypeError: an argument that is not an array of floating-point numbers.
    """

    def decorate(function: Kernel) -> Kernel:
        for_single = function if native else single
        kernels: dict[Any, tuple[Kernel, Any]] = {DOUBLE: (function, DOUBLE)}
        for dtype in (SINGLE, np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)):
            kernels[dtype] = (for_single, SINGLE) if for_single else (function, DOUBLE)

        @wraps(function)
        def apply(*arrays: Any, **parameters: Any) -> Array:
            arrays = tuple(np.asarray(array) for array in arrays)
            dtype, shape = arrays[0].dtype, arrays[0].shape
            if len(arrays) > 1:
                arrays = np.broadcast_arrays(*arrays)
                dtype, shape = common_dtype(arrays), arrays[0].shape
            if dtype not in kernels:
                raise TypeError(
                    f"[{function.__name__}] expects floating-point arrays, got {dtype}; "
                    "convert to float32 first"
                )
            kernel, work = kernels[dtype]
            vectors = [array.reshape(-1) for array in arrays]
            with np.errstate(all="ignore"):
                return in_blocks(kernel, vectors, work, dtype, parameters).reshape(shape)

        return apply

    return decorate


def common_dtype(arrays: Sequence[Array]) -> np.dtype[Any]:
    """The dtype that holds all arguments; of two halves, float32."""
    dtypes = {array.dtype for array in arrays}
    return dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes, np.float32)


def in_blocks(
    kernel: Kernel,
    vectors: Sequence[Array],
    work: np.dtype[Any],
    dtype: np.dtype[Any],
    parameters: dict[str, Any],
) -> Array:
    """Runs `kernel` in dtype `work` over each block of the vectors; the result has `dtype`."""
    size = vectors[0].size
    if size <= BLOCK:
        vectors = [vector.astype(work, copy=False) for vector in vectors]
        return kernel(*vectors, **parameters).astype(dtype, copy=False)
    result = np.empty(size, dtype)
    for start in range(0, size, BLOCK):
        block = slice(start, start + BLOCK)
        pieces = [vector[block].astype(work, copy=False) for vector in vectors]
        result[block] = kernel(*pieces, **parameters)
    return result


def polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """Horner's rule for sum_i c_i x**i, in a new array; coefficients come highest power first."""
    total: Array = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        total += coefficient
        total *= x
    total += coefficients[-1]
    return total


def mapped_polynomial(coefficients: Sequence[float], x: Array, centre: float) -> Array:
    """A polynomial in (x - c) / (x + c), which maps 0 to -1, c to 0 and infinity to 1."""
    s = x - centre
    s /= x + centre
    return polynomial(coefficients, s)


def piecewise(pieces: Sequence[tuple[Array, Kernel]], *arrays: Array) -> Array:
    """Applies to each element the function whose mask holds there; NaN where none does.

    Masks must not overlap. Only the elements of its mask are given to a function.
    """
    result = np.full_like(arrays[0], np.nan)
    for mask, function in pieces:
        if mask.all():
            return function(*arrays)
        if mask.any():
            result[mask] = function(*(array[mask] for array in arrays))
    return result


def square_exponential(x: Array, sign: int) -> Array:
    """Returns exp(sign x**2) with the rounding error of the square put back.

    The float32 nearest to x has an exact square in float64; what it leaves of x**2 is small.
    """
    near = x.astype(np.float32).astype(np.float64)
    result: Array = np.exp(sign * near * near)
    result *= np.exp(sign * (x - near) * (x + near))
    return result
