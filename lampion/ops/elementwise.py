"""Arithmetic, powers and signs, element by element. May import rules, core and the base.

Most operators are one call: a formula, the NumPy function that computes it and its local
derivatives, chosen to be stable and to use the result where that is cheaper than the input.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.inplace import type_name
from ..core.op import ARRAY_NAMES, TENSOR_NAMES
from ..core.promotion import promote
from ..core.tensor import Tensor, wrap
from ..errors import check
from .rules import EXPORTS, elementwise, in_float32, inplace_call, public, reflected, scalar_like

PRIVATE: dict[str, Any] = {
    "spaces": (),
    "method": False,
    "inplace": False,
}  # a record without a public name


BOOL = dtypes.bool.numpy
NUMBERS = (int, float)

# -- helpers -----------------------------------------------------------------------------------


def excluding(kinds: str, kernel: Callable) -> Callable:
    """The kernel, refusing arrays of the given kinds ("b" bool, "c" complex, "iu" integers ...).

    One of several steps computes float16 and bfloat16 in float32.
    """
    of_halves = kernel if isinstance(kernel, np.ufunc) else in_float32(kernel)

    @functools.wraps(kernel)
    def call(x: ndarray, *others: Any, **params: Any) -> Any:
        dtype = x.dtype
        if dtype.kind in kinds:
            name = type_name(dtypes.FROM_NUMPY[dtype])
            raise NotImplementedError(
                f"[{kernel.__name__}] not implemented for '{name}'; convert to another type"
            )
        return (of_halves if dtype.itemsize == 2 else kernel)(x, *others, **params)

    return call


class Constant(dict):
    """A number as a 0-dim array of each type, kept, since NumPy converts a Python number anew."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __missing__(self, dtype: np.dtype) -> ndarray:
        self[dtype] = np.asarray(self.value).astype(dtype)
        return self[dtype]


def common(*operands: Any) -> tuple[Tensor, ...]:
    """Tensors and Python numbers as tensors of their common type; None stays None."""
    first = operands[0]
    dtype: Any = first._data.dtype if isinstance(first, Tensor) else None
    kept: list[Any] = []
    for t in operands:
        if t.__class__ in NUMBERS:
            t = scalar_like(first, t)
        if t is not None and not (isinstance(t, Tensor) and t._data.dtype is dtype):
            break
        kept.append(t)
    else:
        return tuple(kept)
    promoted = iter(promote(_add.op, tuple([t for t in operands if t is not None])))
    given: list[Any] = [None if t is None else next(promoted) for t in operands]
    return tuple(given)


def number(value: Any) -> Any:
    """A Python number from a number or a tensor with one element."""
    return value.item() if isinstance(value, Tensor) else value


def tensor_operand(value: Any, name: str, argument: str) -> Tensor:
    """The argument, which must be a tensor; raises TypeError otherwise."""
    check(
        isinstance(value, Tensor),
        lambda: f"{name}(): argument '{argument}' must be Tensor, not {type(value).__name__}",
        TypeError,
    )
    return value


def operator_of(function: Callable) -> Callable:
    """The Python operator: arrays count as tensors, other foreign operands get their own turn."""

    def call(self: Tensor, other: Any) -> Any:
        if other is None:
            return NotImplemented
        try:
            return function(self, other)
        except TypeError:
            return function(self, wrap(other)) if isinstance(other, ndarray) else NotImplemented

    return call


# -- sums and products -------------------------------------------------------------------------

_add = elementwise("add", "a + b", numpy=np.add, partials={"a": "1", "b": "1"})
_sub = elementwise("sub", "a - b", numpy=np.subtract, partials={"a": "1", "b": "-1"})
_rsub = elementwise(
    "rsub",
    "b - a",
    numpy=lambda a, b: np.subtract(b, a),
    partials={"a": "-1", "b": "1"},
    grad_name="RsubBackward1",
    **PRIVATE,
)
_add_scaled = elementwise(
    "add_scaled",
    "a + alpha * b",
    partials={"a": "1", "b": "alpha"},
    parameters={"alpha": 1},
    grad_name="AddBackward0",
    **PRIVATE,
).op
_sub_scaled = elementwise(
    "sub_scaled",
    "a - alpha * b",
    partials={"a": "1", "b": "-alpha"},
    parameters={"alpha": 1},
    grad_name="SubBackward0",
    **PRIVATE,
).op
mul = elementwise(
    "mul", "a * b", numpy=np.multiply, partials={"a": "b", "b": "a"}, aliases=("multiply",)
)
_div = elementwise(
    "div",
    "a / b",
    numpy=np.divide,
    partials={"a": "1 / b", "b": "-y / b"},
    promote="float",
    aliases=("true_divide",),
)
neg = elementwise(
    "neg", "-x", numpy=excluding("b", np.negative), partials={"x": "-1"}, aliases=("negative",)
)


def scaled(record: Callable, input: Any, other: Any, alpha: Any) -> Tensor:
    """A sum or difference with a factor of a kind that the operands' type can hold."""
    input, other = common(input, other)
    kind, alpha = input.dtype.category, number(alpha)
    check(
        kind == dtypes.BOOL or not isinstance(alpha, bool),
        "Boolean alpha only supported for Boolean results.",
    )
    check(
        kind >= dtypes.FLOAT or not isinstance(alpha, (float, complex)),
        "For integral input tensors, argument alpha must not be a floating point number.",
    )
    check(
        kind == dtypes.COMPLEX or not isinstance(alpha, complex),
        "For non-complex input tensors, argument alpha must not be a complex number.",
    )
    return record(input, other, alpha=fitting(alpha, input))


def fitting(value: Any, x: Tensor) -> Any:
    """A number as the type of x holds it: cut to a whole number, wrapped around."""
    return (
        value
        if x.dtype.category >= dtypes.FLOAT
        else np.asarray(value).astype(x._data.dtype).item()
    )


@public(out=True)
def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """`input + alpha * other`, elementwise.

    >>> torch.add(torch.ones(2), 3, alpha=2)
    tensor([7., 7.])
    """
    if alpha.__class__ is int and alpha == 1:
        return _add(input, other)
    return scaled(_add_scaled, input, other, alpha)


def refuse_bool(a: Any, b: Any) -> None:
    """Raises RuntimeError, as PyTorch does, where a difference would involve a bool tensor."""
    first = isinstance(a, Tensor) and a._data.dtype is BOOL
    second = isinstance(b, Tensor) and b._data.dtype is BOOL
    if first and second:
        raise RuntimeError(
            "[sub] Subtraction, the `-` operator, with two bool tensors is not supported. Use "
            "the `^` or `logical_xor()` operator instead."
        )
    if first or second:
        raise RuntimeError(
            "[sub] Subtraction, the `-` operator, with a bool tensor is not supported. Use "
            "the `~` or `logical_not()` operator to invert a mask, or convert it with .to()."
        )


@public(aliases=("subtract",), out=True)
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """`input - alpha * other`, elementwise; raises RuntimeError for bool tensors."""
    refuse_bool(input, other)
    if alpha.__class__ is int and alpha == 1:
        return _sub(input, other)
    return scaled(_sub_scaled, input, other, alpha)


@public(method=False)
def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """`other - alpha * input`, elementwise."""
    refuse_bool(input, other)
    if alpha.__class__ is int and alpha == 1:
        return _rsub(input, other)
    return sub(other, input, alpha=alpha)


@public
def positive(input: Tensor) -> Tensor:
    """The tensor itself; raises RuntimeError for bool."""
    check(
        input._data.dtype.kind != "b",
        "[positive] The `+` operator, on a bool tensor is not supported.",
    )
    return input


Tensor.add_ = inplace_call(_add.op, add, _add_scaled)
Tensor.sub_ = Tensor.subtract_ = inplace_call(_sub.op, sub, _sub_scaled)
EXPORTS["torch"].update(add_=Tensor.add_, sub_=Tensor.sub_)

_addcmul = elementwise(
    "addcmul",
    "a + value * b * c",
    partials={"a": "1", "b": "value * c", "c": "value * b"},
    parameters={"value": 1},
    **PRIVATE,
).op
_addcdiv = elementwise(
    "addcdiv",
    "a + value * (b / c)",
    partials={"a": "1", "b": "value / c", "c": "-value * b / (c * c)"},
    parameters={"value": 1},
    **PRIVATE,
).op


@public(inplace=True, out=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """`input + value * tensor1 * tensor2`, elementwise."""
    input, tensor1, tensor2 = common(input, tensor1, tensor2)
    return _addcmul(input, tensor1, tensor2, value=fitting(number(value), input))


@public(inplace=True, out=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """`input + value * tensor1 / tensor2`, elementwise; raises RuntimeError if all are integers."""
    check(
        max(tensor1.dtype.category, tensor2.dtype.category) >= dtypes.FLOAT,
        "[addcdiv] Integer division with addcdiv is no longer supported; use input + value * "
        "torch.trunc(tensor1 / tensor2), or floating-point tensors",
    )
    input, tensor1, tensor2 = common(input, tensor1, tensor2)
    return _addcdiv(input, tensor1, tensor2, value=number(value))


def lerp_kernel(a: ndarray, b: ndarray, w: ndarray) -> ndarray:
    """From the nearer end, so that both ends are met exactly."""
    if w.ndim == 0:
        return a + w * (b - a) if np.abs(w) < 0.5 else b - (b - a) * (1 - w)
    step = b - a
    return np.where(np.abs(w) < 0.5, a + w * step, b - step * (1 - w))


_lerp = elementwise(
    "lerp",
    "where(abs(w) < 0.5, a + w * (b - a), b - (b - a) * (1 - w))",
    numpy=in_float32(lerp_kernel),
    partials={"a": "1 - w", "b": "w", "w": "b - a"},
    **PRIVATE,
)


@public(inplace=True, out=True)
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """`input + weight * (end - input)`, elementwise; raises RuntimeError for different types."""
    check(
        input.dtype.category >= dtypes.FLOAT,
        lambda: (
            f"[lerp] not implemented for '{type_name(input.dtype)}'; use floating-point tensors"
        ),
        NotImplementedError,
    )
    weight_counts = isinstance(weight, Tensor) and weight.ndim > 0
    for t, argument in ((end, "end"), (weight if weight_counts else input, "weight")):
        if t.dtype is not input.dtype:
            raise RuntimeError(
                f"[lerp] expected dtype {input.dtype} for `{argument}` but got dtype {t.dtype}"
            )
    return _lerp(input, end, weight)


# -- sign and size -----------------------------------------------------------------------------


@functools.partial(excluding, "c")
def sign_kernel(x: ndarray) -> ndarray:
    """-1, 0 or 1; 0 for a NaN."""
    return x.copy() if x.dtype.kind == "b" else np.subtract(x > 0, x < 0, dtype=x.dtype)


def direction(x: ndarray) -> ndarray:
    """The sign; of a complex number, the number of size 1 in its direction."""
    return np.sign(x) if x.dtype.kind == "c" else sign_kernel(x)


def size_tangent(tangents: tuple, inputs: tuple, y: Tensor, params: dict) -> Tensor:
    """The part of the tangent in the direction of x."""
    return TENSOR_NAMES["real"](tangents[0] * conj(inputs[0].sgn()))


ARRAY_NAMES.update(sgn=direction, conj=np.conjugate)
abs = elementwise(
    "abs",
    "abs(x)",
    numpy=excluding("b", np.absolute),
    partials={"x": "conj(sgn(x))"},
    jvp=size_tangent,
    aliases=("absolute",),
)
sign = elementwise("sign", "sign(x)", numpy=sign_kernel, partials={"x": "0"})
copysign = elementwise(
    "copysign",
    "copysign(a, b)",
    numpy=excluding("c", np.copysign),
    promote="float",
    partials={"a": "where(a == 0, 0 * a, y / a)", "b": "0"},
)

# -- the conjugate -----------------------------------------------------------------------------

_conj = elementwise(
    "conj", "conj(x)", numpy=np.conjugate, vjp={"x": lambda g: conj(g)}, jvp="linear", **PRIVATE
)


def conj(input: Any) -> Any:
    """The complex conjugate; real tensors and numbers themselves."""
    if isinstance(input, (int, float, complex)):
        return input.conjugate()
    tensor_operand(input, "conj", "input")
    return _conj(input) if input._data.dtype.kind == "c" else input


public(conj)
TENSOR_NAMES["conj"] = conj

# -- Python's operators ------------------------------------------------------------------------


Tensor.__add__ = Tensor.__radd__ = operator_of(_add)
Tensor.__sub__, Tensor.__rsub__ = operator_of(sub), operator_of(rsub)
Tensor.__mul__ = Tensor.__rmul__ = operator_of(mul)
Tensor.__truediv__ = Tensor.__div__ = operator_of(_div)
Tensor.__rtruediv__ = Tensor.__rdiv__ = operator_of(reflected(_div, "MulBackward0"))
Tensor.__neg__, Tensor.__pos__, Tensor.__abs__ = neg, positive, abs
Tensor.__iadd__, Tensor.__isub__ = Tensor.add_, Tensor.sub_  # type: ignore[assignment]
Tensor.__imul__ = Tensor.mul_
