"""Ranges: evenly spaced numbers, and the unit matrix. May import rules, data, create, core and the
base.

The roundings are PyTorch's: which products are fused and where a vector loop starts anew decides
the last bit.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.op import Op
from ..core.promotion import cast_kernel
from ..core.tensor import Tensor
from ..errors import check
from .create import factory, number_argument

BLOCK_BYTES = 32  # PyTorch steps through floating ranges by vectors of this size


def arange_kernel(start: Any, step: Any, count: int, dtype: dtypes.dtype, vectors: bool) -> ndarray:
    """start, start + step, ...: integers exactly; floats rounded once, or where vectors round."""
    if dtype.category == dtypes.INTEGER:
        steps = np.arange(count, dtype=np.int64)
        steps *= int(step)
        steps += int(start)
        return steps.astype(dtype.numpy)
    if vectors:
        return vector_steps(start, step, count, dtype)
    return cast_kernel(start + step * np.arange(count, dtype=np.float64), dtype)


def vector_steps(start: float, step: float, count: int, dtype: dtypes.dtype) -> ndarray:
    """A floating range in vectors: each begins at a rounded `start + i * step` and adds multiples
    of the step.
    """
    lanes = BLOCK_BYTES // dtype.itemsize
    out = cast_kernel(fused_steps(start, step, np.arange(count)), dtype)
    whole = count // (2 * lanes) * (2 * lanes)
    first = out[:whole:lanes, None].astype(np.float64)  # (vectors, 1)
    out[:whole] = cast_kernel(fused_steps(first, step, np.arange(lanes)), dtype).reshape(-1)
    return out


def fused_steps(start: Any, step: float, index: ndarray) -> ndarray:
    """start + step * index, rounded once to float64."""
    return (np.asarray(start, np.longdouble) + np.longdouble(step) * index).astype(np.float64)


ARANGE = Op("arange", (), arange_kernel)


@factory
def arange(start: Any = None, end: Any = None, step: Any = None, *, dtype: Any = None) -> Tensor:
    """Numbers from `start` (0) up to, but without, `end`; of integers int64, else of the default
    type.

    >>> torch.arange(1, 2, 0.5)
    tensor([1.0000, 1.5000])
    """
    if end is None:
        start, end = 0, start
    check(
        end is not None,
        "arange() received no end; call arange(end) or arange(start, end)",
        TypeError,
    )
    start, end = (
        number_argument("arange", "start", start or 0),
        number_argument("arange", "end", end),
    )
    step = number_argument("arange", "step", 1 if step is None else step)
    return range_of(start, end, step, dtype, "arange")


def range_of(start: Any, end: Any, step: Any, dtype: dtypes.dtype | None, name: str) -> Tensor:
    """`arange` of numbers."""
    ends = (start, end, step)
    check(
        not any(isinstance(v, complex) for v in ends),
        lambda: f"[{name}] value cannot be converted to type double without overflow: {ends}",
    )
    whole = not any(isinstance(v, float) for v in ends)
    dtype = dtype or (dtypes.int64 if whole else dtypes.get_default_dtype())
    check(
        dtype in RANGE_TYPES,
        lambda: (
            f'[{name}] "arange_cpu" not implemented for {dtype}; use int64 or float32 and convert'
        ),
        NotImplementedError,
    )
    check(
        all(math.isfinite(v) for v in (start, end)),
        lambda: f"[{name}] unsupported range: {start} -> {end}",
    )
    if dtype is dtypes.int64:  # the other integer types count before they truncate
        start, end, step = int(start), int(end), int(step)
    check(step != 0, f"[{name}] step must be nonzero", RuntimeError if ends[2] == 0 else ValueError)
    check(
        start == end or (start < end) == (step > 0),
        f"[{name}] upper bound and lower bound inconsistent with step sign",
    )
    exact = all(isinstance(v, int) for v in (start, end, step))
    count = -((start - end) // step) if exact else math.ceil((end - start) / step)
    return apply(ARANGE, start=start, step=step, count=count, dtype=dtype, vectors=True)


RANGE_TYPES = {
    dtypes.uint8, dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64,
    dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64,
}  # fmt: skip


@factory
def range(start: Any = 0, end: Any = None, step: Any = 1, *, dtype: Any = None) -> Tensor:
    """Numbers from `start` up to and including `end`. Deprecated in PyTorch: use `arange`."""
    warnings.warn(
        "torch.range is deprecated and will be removed in a future release because its behavior is "
        "inconsistent with Python's range builtin. Instead, use torch.arange, which produces "
        "values in [start, end).",
        UserWarning,
        stacklevel=3,
    )
    if end is None:
        start, end = 0, start
    dtype = dtype or dtypes.get_default_dtype()
    check(step != 0, "[range] step must be nonzero")
    check(
        start == end or (start < end) == (step > 0),
        "[range] upper bound and lower bound inconsistent with step sign",
    )
    count = math.floor((end - start) / step) + 1
    return apply(ARANGE, start=start, step=step, count=count, dtype=dtype, vectors=False)


def linspace_kernel(start: Any, end: Any, steps: int, dtype: dtypes.dtype) -> ndarray:
    """`steps` numbers from start to end: the first half counted from the start, the second from the
    end.
    """
    if steps == 1:
        return cast_kernel(np.array([start]), dtype)
    if dtype.category == dtypes.FLOAT and dtype.itemsize == 2:
        return low_linspace(start, end, steps, dtype)
    wide: Any = np.float64 if dtype is dtypes.float32 else np.longdouble
    if dtype.category == dtypes.COMPLEX:
        wide = np.complex128
    first, last = cast_kernel(np.array([start, end]), dtype).astype(wide)
    step = (last - first) / (steps - 1)
    if dtype.category != dtypes.COMPLEX:
        step = wide(step.astype(dtype.numpy if dtype.category == dtypes.FLOAT else np.float64))
    index = np.arange(steps)
    values = np.where(index < steps // 2, first + step * index, last - step * (steps - 1 - index))
    if dtype.category == dtypes.INTEGER:
        values = values.astype(np.float64).astype(np.int64)
    return values.astype(dtype.numpy)


def low_linspace(start: float, end: float, steps: int, dtype: dtypes.dtype) -> ndarray:
    """`linspace` with every step of the arithmetic rounded to a two-byte type."""
    first, last = cast_kernel(np.array([start, end]), dtype)
    index = np.arange(steps)
    up, down = (cast_kernel(i, dtype) for i in (index, steps - 1 - index))
    step = (last - first) / cast_kernel(np.array(steps - 1), dtype)
    return np.where(index < steps // 2, first + step * up, last - step * down)


def logspace_kernel(start: Any, end: Any, steps: int, base: float, dtype: dtypes.dtype) -> ndarray:
    """`base` to the powers `linspace(start, end, steps)`, which are kept in float64."""
    wide: Any = np.complex128 if dtype.category == dtypes.COMPLEX else np.float64
    if steps == 1:
        return cast_kernel(np.array([wide(base) ** start]), dtype)
    first, last = cast_kernel(np.array([start, end]), dtype)
    if dtype.category == dtypes.INTEGER:
        first, last = np.int64(first), np.int64(last)  # their difference may be negative
    step = wide(last - first) / max(steps - 1, 1)
    up = np.arange(steps)
    down = steps - 1 - up
    powers = np.where(up < steps // 2, wide(first) + step * up, wide(last) - step * down)
    exact = powers if dtype.category == dtypes.COMPLEX else powers.astype(np.longdouble)
    values = np.power(exact.dtype.type(base), exact).astype(wide)
    return cast_kernel(values, dtype)


LINSPACE = Op("linspace", (), linspace_kernel)
LOGSPACE = Op("logspace", (), logspace_kernel)


@factory
def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included.

    >>> torch.linspace(0, 1, 5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    start, end, dtype = space_arguments("linspace", start, end, steps, dtype)
    return apply(LINSPACE, start=start, end=end, steps=steps.__index__(), dtype=dtype)


@factory
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: Any = None) -> Tensor:
    """`base ** linspace(start, end, steps)`."""
    start, end, dtype = space_arguments("logspace", start, end, steps, dtype)
    base = number_argument("logspace", "base", base)
    return apply(LOGSPACE, start=start, end=end, steps=steps.__index__(), base=base, dtype=dtype)


def space_arguments(
    name: str, start: Any, end: Any, steps: Any, dtype: dtypes.dtype | None
) -> tuple[Any, Any, dtypes.dtype]:
    """Both ends as numbers, and the type of the result."""
    for which, value in (("start", start), ("end", end)):
        check(
            not isinstance(value, Tensor) or not value._data.ndim,
            lambda which=which, value=value: (
                f"[{name}] {name} only supports 0-dimensional start and end tensors, "
                f"but got {which} with {value._data.ndim} dimension(s)."
            ),
        )
    start, end = number_argument(name, "start", start), number_argument(name, "end", end)
    check(
        hasattr(steps, "__index__"),
        lambda: f"{name}(): argument 'steps' (position 3) must be int, not {type(steps).__name__}",
        TypeError,
    )
    check(steps >= 0, f"[{name}] number of steps must be non-negative, got {steps}")
    inferred = dtypes.get_default_dtype()
    if isinstance(start, complex) or isinstance(end, complex):
        inferred = inferred.to_complex()
        check(
            dtype is None or dtype.category == dtypes.COMPLEX,
            lambda: (
                f"torch.{name}(): inferred dtype {inferred} can't be safely cast to passed dtype "
                f"{dtype}"
            ),
        )
    check(
        dtype is None or dtype in RANGE_TYPES or dtype.category == dtypes.COMPLEX,
        lambda: f'[{name}] "{name}_cpu" not implemented for {dtype}',
        NotImplementedError,
    )
    return start, end, dtype or inferred


EYE = Op("eye", (), lambda n, m, dtype: np.eye(n, m, dtype=dtype.numpy))


@factory
def eye(n: int, m: int | None = None, *, dtype: Any = None) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix of zeros; square without `m`."""
    for argument, value in (("n", n), ("m", m)):
        if value is None:
            continue
        check(
            hasattr(value, "__index__"),
            f"eye(): argument '{argument}' must be int, not {type(value).__name__}",
            TypeError,
        )
        check(value >= 0, f"[eye] {argument} must be greater or equal to 0, got {value}")
    return apply(
        EYE,
        n=n.__index__(),
        m=n.__index__() if m is None else m.__index__(),
        dtype=dtype or dtypes.get_default_dtype(),
    )
