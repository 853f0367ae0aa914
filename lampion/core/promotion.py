"""How operands are brought to one type, and what is said of shapes that do not fit. May import op,
tensor, graph and the base.

PyTorch's rule: tensors with dimensions outrank 0-dim tensors, these outrank Python numbers (see
dtypes).
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from .op import Op
from .tensor import Tensor, wrap

_scalars: dict[tuple, ndarray] = {}
# For types that meet Python numbers often: the number -> a kept 0-dim tensor of it.
SCALARS: dict[Any, dict[Any, Tensor]] = {
    np.dtype(name): {} for name in ("float32", "float64", "int64", "int32")
}


def scalar_array(value: Any, dtype: np.dtype) -> ndarray:
    """A read-only 0-dim array; the common ones are kept,
    since making one costs as much as adding two.
    """
    key = (value, dtype)
    found = _scalars.get(key)
    if found is None:
        found = np.asarray(value).astype(dtype)
        found.flags.writeable = False
        if value != 0 and len(_scalars) < 4096:  # 0.0 and -0.0 are the same key
            _scalars[key] = found
    return found


def is_ufunc(kernel: Any) -> bool:
    """Whether a kernel, or what it calls for small arrays, is a function of NumPy's."""
    return isinstance(getattr(kernel, "small", kernel), np.ufunc)


def promote(op: Op, inputs: tuple) -> tuple:
    """Brings tensors and Python numbers to the one type that the operator computes in."""
    if one_type(inputs, op.promote == "float"):
        return inputs
    dimensioned = zero_dim = number = None
    for t in inputs:
        if isinstance(t, Tensor):
            d = dtypes.FROM_NUMPY[t._data.dtype]
            if t._data.ndim:
                dimensioned = d if dimensioned is None else dtypes.promote_types(dimensioned, d)
            else:
                zero_dim = d if zero_dim is None else dtypes.promote_types(zero_dim, d)
        elif t is not None or is_ufunc(op.kernel):  # these have no optional inputs
            d = number_type(op, t)
            number = d if number is None else dtypes.promote_types(number, d)
    if dimensioned is zero_dim is number is None:
        number_type(op, None)
    target = dtypes.combine(dimensioned, zero_dim, number)
    if op.promote == "float" and target.category < dtypes.FLOAT:
        target = dtypes.get_default_dtype()
    return tuple([convert(t, target) for t in inputs])


def one_type(inputs: tuple, floating: bool) -> bool:
    """Whether all inputs are tensors of one type already,
    and of a floating one if that is asked for.
    """
    first = None
    for t in inputs:
        if not isinstance(t, Tensor):
            return False
        d = t._data.dtype
        if first is None:
            first = d
        elif d is not first:
            return False
    return first is not None and (not floating or first.kind in "fcV")


def number_type(op: Op, value: Any) -> dtypes.dtype:
    """The type a Python number counts as; raises TypeError for anything else."""
    if isinstance(value, (bool, int, float, complex, np.number, np.bool_)):
        return dtypes.number_dtype(value)
    raise TypeError(
        f"{op.name}(): argument must be Tensor or Number, not {type(value).__name__}; convert with "
        "torch.tensor"
    )


def convert(t: Any, target: dtypes.dtype) -> Any:
    """An operand in the computation's type."""
    if t is None:
        return None
    if not isinstance(t, Tensor):
        return wrap(scalar_array(t, target.numpy))
    if t._data.dtype is target.numpy:
        return t
    return CAST(t, dtype=target)


def shape_error(name: str, *arrays: ndarray) -> Exception:
    """PyTorch's error for shapes that do not broadcast, with the operator's name."""
    shapes = [tuple(x.shape) for x in arrays]
    for a, b in combinations(shapes, 2):
        for k in range(1, min(len(a), len(b)) + 1):
            if a[-k] != b[-k] and 1 not in (a[-k], b[-k]):
                return RuntimeError(
                    f"[{name}] The size of tensor a ({a[-k]}) must match the size of tensor b "
                    f"({b[-k]}) at non-singleton dimension {max(len(a), len(b)) - k}; got shapes "
                    f"{a} and {b}"
                )
    return RuntimeError(f"[{name}] failed on shapes {shapes}")


def cast_kernel(x: ndarray, dtype: dtypes.dtype) -> ndarray:
    """x in another type, with PyTorch's results: complex to real keeps the real part,
    overflow is as in C.
    """
    if x.dtype.kind == "c" and dtype.category < dtypes.COMPLEX:
        if dtype is dtypes.bool:
            return x != 0
        x = x.real
    have = x.dtype
    if have is F64 and dtype in FROM_FLOAT64:
        x = x.astype(FROM_FLOAT64[dtype])
    elif have.itemsize == 1 and dtype.category == dtypes.INTEGER and have in TINY_FLOATS:
        x = x.astype(np.float32)
    if dtype is dtypes.float8_e4m3fn:  # the one type that has no infinity and saturates
        x = np.clip(x.astype(np.float32), -448, 448)
    return x.astype(dtype.numpy)


F64 = dtypes.float64.numpy
# what a conversion goes through: it rounds twice, or wraps around at another width
FROM_FLOAT64 = {
    dtypes.float16: np.float32,
    dtypes.bfloat16: np.float32,
    dtypes.uint8: np.int64,
}
TINY_FLOATS = {dtypes.float8_e4m3fn.numpy, dtypes.float8_e5m2.numpy}


CAST: Op = Op(
    "to",
    ("x",),
    cast_kernel,
    kind="linear",
    vjp={"x": lambda g: g},  # the engine brings a gradient back to its input's type
    jvp="linear",
    batch=lambda size, values, dims, params, op: (CAST(values[0], **params), dims[0]),
    grad_name="ToCopyBackward0",
)
