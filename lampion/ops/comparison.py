"""Comparison, choice and tests for special values, element by element. May import elementwise, core
and the base.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.inplace import type_name
from ..core.op import ARRAY_NAMES, Op
from ..core.tensor import Tensor
from ..errors import check
from .elementwise import PRIVATE, common, excluding, operator_of, tensor_operand
from .large import Entry, Least
from .rules import batch_elementwise, elementwise, public

# -- comparison --------------------------------------------------------------------------------

eq = elementwise("eq", "a == b", numpy=np.equal)
ne = elementwise("ne", "a != b", numpy=np.not_equal, aliases=("not_equal",))
lt = elementwise("lt", "a < b", numpy=excluding("c", np.less), aliases=("less",))
le = elementwise("le", "a <= b", numpy=excluding("c", np.less_equal), aliases=("less_equal",))
gt = elementwise("gt", "a > b", numpy=excluding("c", np.greater), aliases=("greater",))
ge = elementwise("ge", "a >= b", numpy=excluding("c", np.greater_equal), aliases=("greater_equal",))

Tensor.__eq__, Tensor.__ne__ = operator_of(eq), operator_of(ne)
Tensor.__lt__, Tensor.__le__ = operator_of(lt), operator_of(le)
Tensor.__gt__, Tensor.__ge__ = operator_of(gt), operator_of(ge)


def contains(self: Tensor, element: Any) -> bool:
    """Whether any element equals a number or a tensor."""
    check(
        isinstance(element, (Tensor, int, float, complex)),
        lambda: f"[contains] only supports Tensor or scalar, but you passed in a {type(element)}",
    )
    return bool(eq(self, element).any())


Tensor.__contains__ = contains


def isclose_kernel(a: ndarray, b: ndarray, rtol: float, atol: float, equal_nan: bool) -> ndarray:
    """Equal, or both finite and at most `atol + rtol * |b|` apart."""
    close = a == b
    if equal_nan and a.dtype.kind in "fcV":
        close |= np.isnan(a) & np.isnan(b)
    if rtol == 0 and atol == 0:
        return close
    if a.dtype.kind in "biu":
        a, b = a.astype(np.float64), b.astype(np.float64)
    distance = np.abs(a - b)
    return close | (np.isfinite(distance) & (distance <= atol + np.abs(rtol * b)))


_isclose = elementwise(
    "isclose",
    "abs(a - b) <= atol + rtol * abs(b)",
    numpy=isclose_kernel,
    parameters={"rtol": 1e-05, "atol": 1e-08, "equal_nan": False},
    **PRIVATE,
).op


@public
def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """Whether `|input - other| <= atol + rtol * |other|`, elementwise; both must have one type."""
    check(
        input.dtype is tensor_operand(other, "isclose", "other").dtype,
        lambda: (
            f"[isclose] {type_name(input.dtype)} did not match {type_name(other.dtype)}; "
            "convert one with .to()"
        ),
    )
    check(
        rtol >= 0, lambda: f"[isclose] rtol must be greater than or equal to zero, but got {rtol}"
    )
    check(
        atol >= 0, lambda: f"[isclose] atol must be greater than or equal to zero, but got {atol}"
    )
    return _isclose(input, other, rtol=rtol, atol=atol, equal_nan=equal_nan)


@public
def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether `isclose` holds everywhere."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@public
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and the same elements."""
    a, b = input.concrete("equal"), tensor_operand(other, "equal", "other").concrete("equal")
    return np.array_equal(a, b)


# -- choice ------------------------------------------------------------------------------------

_where = elementwise(
    "where",
    "where(c, a, b)",
    numpy=np.where,
    inputs=("c", "a", "b"),
    promote="none",
    vjp={"a": lambda g, c: where(c, g, 0), "b": lambda g, c: where(c, 0, g)},
    **PRIVATE,
)


@public(method=False, out=True)
def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """`input` where the condition holds, else `other`; without them, the indices where it holds.

    >>> torch.where(torch.tensor([True, False]), 1.0, 2.0)
    tensor([1., 2.])
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    check(
        condition.dtype in (dtypes.bool, dtypes.uint8),
        lambda: (
            "[where] expected condition to be a boolean tensor, but got a tensor with dtype "
            f"{type_name(condition.dtype)}; compare it with something"
        ),
    )
    check(
        input is not None and other is not None,
        "where(): arguments 'input' and 'other' must be Tensors or Numbers, not NoneType",
        TypeError,
    )
    return _where(condition, *common(input, other))


Tensor.where = lambda self, condition, other: where(condition, self, other)


# -- the larger and the smaller ----------------------------------------------------------------


def extreme_rules(loses: Callable) -> dict[str, Callable]:
    """Gradients of maximum and minimum: all to the winner (or a NaN), halves to equals."""

    def rule(g: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return where(loses(a, b), 0, where(a == b, 0.5 * g, g))

    return {"a": rule, "b": lambda g, a, b: rule(g, b, a)}


def number_rules(wins: Callable) -> dict[str, Callable]:
    """Gradients of fmax and fmin: all of it to one of the two, never to a NaN beside a number."""
    return {
        "a": lambda g, a, b: where(wins(a, b) | isnan(b), g, 0),
        "b": lambda g, a, b: where(wins(a, b) | isnan(b), 0, g),
    }


maximum = elementwise(
    "maximum",
    "maximum(a, b)",
    numpy=excluding("c", np.maximum),
    vjp=extreme_rules(lt),
    inplace=False,
)
minimum = elementwise(
    "minimum",
    "minimum(a, b)",
    numpy=excluding("c", np.minimum),
    vjp=extreme_rules(gt),
    inplace=False,
)
fmax = elementwise(
    "fmax",
    "where(isnan(b), a, where(a >= b, a, b))",
    numpy=excluding("c", np.fmax),
    vjp=number_rules(ge),
    inplace=False,
)
fmin = elementwise(
    "fmin",
    "where(isnan(b), a, where(a <= b, a, b))",
    numpy=excluding("c", np.fmin),
    vjp=number_rules(le),
    inplace=False,
)


BOUNDED = Entry("flat", "minimum(maximum(x, low), high)", ("x", "low", "high"))
BOUNDED_BELOW = Entry("flat", "maximum(x, low)", ("x", "low"))
BOUNDED_ABOVE = Entry("flat", "minimum(x, high)", ("x", "high"))


@functools.partial(excluding, "c")
def clamp(x: ndarray, low: ndarray | None, high: ndarray | None) -> ndarray:
    """x moved up to low, then down to high; a NaN among the three stays."""
    if x.size >= Least.size:
        if high is None:
            found = BOUNDED_BELOW.call(x, low)
        else:
            found = BOUNDED_ABOVE.call(x, high) if low is None else BOUNDED.call(x, low, high)
        if found is not None:
            return found
    if low is not None:
        x = np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def inside_gradient(g: Tensor, x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    """g where x is inside the bounds, which count as inside."""
    if low is None or high is None:
        inside = x <= high if low is None else x >= low
    else:
        inside = (x >= low) & (x <= high)
    return where(inside, g, 0)


def low_gradient(g: Tensor, x: Tensor, low: Tensor, high: Tensor | None) -> Tensor:
    """g where low took the place of x."""
    taken = x < low
    return where(taken if high is None else taken & (low < high), g, 0)


def high_gradient(g: Tensor, x: Tensor, low: Tensor | None, high: Tensor) -> Tensor:
    """g where high took the place of x or of low."""
    taken = x > high
    return where(taken if low is None else taken | (high < low), g, 0)


CLAMP = Op(
    "clamp",
    ("x", "low", "high"),
    clamp,
    kind="elementwise",
    vjp={"x": inside_gradient, "low": low_gradient, "high": high_gradient},
    batch=batch_elementwise,
    grad_name="ClampBackward1",
)


@public(name="clamp", aliases=("clip",), inplace=True, out=True)
def clamp_between(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """`input` with values below `min` and above `max` replaced by these numbers or tensors."""
    check(
        min is not None or max is not None,
        "[clamp] At least one of 'min' or 'max' must not be None",
    )
    return apply(CLAMP, *common(input, min, max))


@public(inplace=True, out=True)
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """`input` with values below `min` replaced by it."""
    return apply(CLAMP, *common(input, min, None))


@public(inplace=True, out=True)
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """`input` with values above `max` replaced by it."""
    return apply(CLAMP, *common(input, None, max))


# -- special values ----------------------------------------------------------------------------


def float_test(test: Callable, otherwise: bool) -> Callable:
    """A test of floating-point values; integers all give `otherwise`."""

    @functools.wraps(test)
    def call(x: ndarray) -> ndarray:
        return np.full(x.shape, otherwise) if x.dtype.kind in "biu" else test(x)

    return call


def is_positive_infinity(x: ndarray) -> ndarray:
    """Whether x is +inf."""
    return x == np.inf


def is_negative_infinity(x: ndarray) -> ndarray:
    """Whether x is -inf."""
    return x == -np.inf


isnan = elementwise("isnan", "isnan(x)", numpy=float_test(np.isnan, False), inplace=False)
isinf = elementwise("isinf", "isinf(x)", numpy=float_test(np.isinf, False), inplace=False)
isfinite = elementwise(
    "isfinite", "isfinite(x)", numpy=float_test(np.isfinite, True), inplace=False
)
isposinf = elementwise(
    "isposinf",
    "x == inf",
    numpy=float_test(excluding("c", is_positive_infinity), False),
    inplace=False,
)
isneginf = elementwise(
    "isneginf",
    "x == -inf",
    numpy=float_test(excluding("c", is_negative_infinity), False),
    inplace=False,
)
isreal = elementwise("isreal", "imag(x) == 0", numpy=np.isreal, inplace=False)
signbit = elementwise("signbit", "x < 0", numpy=excluding("c", np.signbit), inplace=False)
ARRAY_NAMES["isfinite"] = np.isfinite


def nan_to_num_kernel(x: ndarray, nan: Any, posinf: Any, neginf: Any) -> ndarray:
    """Integers are finite already; None stands for the type's largest and smallest number."""
    if x.dtype.kind in "biu":
        return x.copy()
    if x.dtype.kind == "c":
        y = np.empty_like(x)
        y.real = nan_to_num_kernel(x.real, nan, posinf, neginf)
        y.imag = nan_to_num_kernel(x.imag, nan, posinf, neginf)
        return y
    limits = dtypes.finfo(dtypes.FROM_NUMPY[x.dtype])
    y = np.where(np.isnan(x), x.dtype.type(nan or 0), x)
    np.copyto(y, x.dtype.type(limits.max if posinf is None else posinf), where=x == np.inf)
    np.copyto(y, x.dtype.type(limits.min if neginf is None else neginf), where=x == -np.inf)
    return y


_nan_to_num = elementwise(
    "nan_to_num",
    "x",
    numpy=nan_to_num_kernel,
    partials={"x": "isfinite(x)"},
    parameters={"nan": None, "posinf": None, "neginf": None},
    **PRIVATE,
).op


@public(inplace=True, out=True)
def nan_to_num(input: Tensor, nan: Any = None, posinf: Any = None, neginf: Any = None) -> Tensor:
    """NaN replaced by `nan` (0), infinities by `posinf` and `neginf` (the type's extreme numbers).

    >>> torch.tensor([1.0, float("nan"), float("inf")]).nan_to_num(posinf=9)
    tensor([1., 0., 9.])
    """
    return _nan_to_num(input, nan=nan, posinf=posinf, neginf=neginf)
