"""Rounding, and division that rounds. May import earlier operators, core and the base."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.op import ARRAY_NAMES
from ..core.tensor import Tensor
from ..errors import check
from .elementwise import PRIVATE, _div, excluding, operator_of
from .rules import elementwise, public, reflected

# -- rounding ----------------------------------------------------------------------------------

floor = elementwise("floor", "floor(x)", numpy=excluding("bc", np.floor), partials={"x": "0"})
ceil = elementwise("ceil", "ceil(x)", numpy=excluding("bc", np.ceil), partials={"x": "0"})
trunc = elementwise(
    "trunc", "trunc(x)", numpy=excluding("bc", np.trunc), partials={"x": "0"}, aliases=("fix",)
)


@functools.partial(excluding, "biuc")
def fraction(x: ndarray) -> ndarray:
    """What is left of x without its whole part."""
    return x - np.trunc(x)


frac = elementwise("frac", "x - trunc(x)", numpy=fraction, partials={"x": "1"})


@functools.partial(excluding, "bc")
def to_whole(x: ndarray) -> ndarray:
    """The nearest whole number, halves to even."""
    return x.copy() if x.dtype.kind in "iu" else np.rint(x)


@functools.partial(excluding, "biuc")
def to_decimals(x: ndarray, decimals: int) -> ndarray:
    """The nearest number with so many decimals; negative ones round to tens, hundreds ..."""
    scale = x.dtype.type(10.0 ** np.abs(decimals))
    return np.rint(x / scale) * scale if decimals < 0 else np.rint(x * scale) / scale


_round = elementwise(
    "round", "round(x)", numpy=to_whole, partials={"x": "0"}, grad_name="RoundBackward0", **PRIVATE
)
_round_decimals = elementwise(
    "round_decimals",
    "round(x * 10 ** decimals) / 10 ** decimals",
    numpy=to_decimals,
    partials={"x": "0"},
    parameters={"decimals": 0},
    grad_name="RoundBackward1",
    **PRIVATE,
).op


@public(spaces=("torch", "special"), inplace=True, out=True)
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest number with `decimals` decimals, halves to the even neighbour.

    >>> torch.tensor([0.5, 1.5, 2.5]).round()
    tensor([0., 2., 2.])
    """
    return _round_decimals(input, decimals=decimals) if decimals else _round(input)


# -- division that rounds ----------------------------------------------------------------------


def check_divisor(b: ndarray, name: str) -> None:
    """Raises RuntimeError for an integer division by zero."""
    check(
        b.dtype.kind not in "iu" or bool(b.all()),
        lambda: f"[{name}] ZeroDivisionError: integer division by zero; use floating-point tensors",
    )


@functools.partial(excluding, "bc")
def divide_down(a: ndarray, b: ndarray) -> ndarray:
    """a / b rounded towards minus infinity."""
    check_divisor(b, "floor_divide")
    return np.floor_divide(a, b)


@functools.partial(excluding, "bc")
def divide_to_zero(a: ndarray, b: ndarray) -> ndarray:
    """a / b rounded towards zero."""
    check_divisor(b, "div")
    return np.trunc(a / b) if a.dtype.kind not in "iu" else (a - np.fmod(a, b)) // b


@functools.partial(excluding, "bc")
def remainder_kernel(a: ndarray, b: ndarray) -> ndarray:
    """What rounding a / b down leaves; it has the sign of b."""
    check_divisor(b, "remainder")
    return np.remainder(a, b)


@functools.partial(excluding, "bc")
def fmod_kernel(a: ndarray, b: ndarray) -> ndarray:
    """What rounding a / b to zero leaves; it has the sign of a."""
    check_divisor(b, "fmod")
    return np.fmod(a, b)


ARRAY_NAMES["div_floor"] = divide_down
_div_floor = elementwise(
    "div_floor",
    "floor(a / b)",
    numpy=divide_down,
    partials={"a": "0", "b": "0"},
    grad_name="DivBackward2",
    **PRIVATE,
)
_div_trunc = elementwise(
    "div_trunc",
    "trunc(a / b)",
    numpy=divide_to_zero,
    partials={"a": "0", "b": "0"},
    grad_name="DivBackward2",
    **PRIVATE,
)
_DIVISIONS = {None: _div, "floor": _div_floor, "trunc": _div_trunc}


@public(aliases=("divide",), inplace=True, out=True)
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """`input / other`, elementwise; `rounding_mode` "trunc" rounds towards zero, "floor" downwards.

    >>> torch.div(torch.tensor([-7, 7]), 2, rounding_mode="trunc")
    tensor([-3,  3])
    """
    check(
        rounding_mode in _DIVISIONS,
        lambda: (
            "[div] expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
            f"{rounding_mode!r}"
        ),
    )
    return _DIVISIONS[rounding_mode](input, other)


@public(inplace=True, out=True)
def floor_divide(input: Any, other: Any) -> Tensor:
    """`input / other` rounded down, elementwise; raises RuntimeError for an integer over zero."""
    return _div_floor(input, other)


remainder = elementwise(
    "remainder",
    "a - b * floor(a / b)",
    numpy=remainder_kernel,
    partials={"a": "1", "b": "-div_floor(a, b)"},
)
fmod = elementwise(
    "fmod", "a - b * trunc(a / b)", numpy=fmod_kernel, partials={"a": "1", "b": "-trunc(a / b)"}
)

Tensor.__floordiv__, Tensor.__rfloordiv__ = (
    operator_of(_div_floor),
    operator_of(reflected(_div_floor)),
)
Tensor.__mod__, Tensor.__rmod__ = operator_of(remainder), operator_of(reflected(remainder))
Tensor.__itruediv__ = Tensor.__idiv__ = Tensor.div_  # type: ignore[assignment]
Tensor.__ifloordiv__, Tensor.__imod__ = Tensor.floor_divide_, Tensor.remainder_
