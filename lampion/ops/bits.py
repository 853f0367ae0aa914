"""Logic, bits, whole-number functions and parts of floating-point numbers. May import earlier
operators, core and the base.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .elementwise import PRIVATE, excluding, operator_of
from .powers import pow
from .return_types import return_type
from .rules import elementwise, public, reflected

# -- logic and bits ----------------------------------------------------------------------------


def truth(kernel: Callable) -> Callable:
    """A logical kernel: each operand counts as true where it is not zero, whatever its type."""
    return lambda *arrays: kernel(*[x if x.dtype.kind == "b" else x != 0 for x in arrays])


logical_not = elementwise("logical_not", "x == 0", numpy=truth(np.logical_not), promote="none")
logical_and = elementwise("logical_and", "(a != 0) & (b != 0)", numpy=truth(np.logical_and))
logical_or = elementwise("logical_or", "(a != 0) | (b != 0)", numpy=truth(np.logical_or))
logical_xor = elementwise("logical_xor", "(a != 0) != (b != 0)", numpy=truth(np.logical_xor))

whole = functools.partial(excluding, "fcV")  # kernels for bool and integers
bitwise_not = elementwise("bitwise_not", "~x", numpy=whole(np.bitwise_not))
bitwise_and = elementwise("bitwise_and", "a & b", numpy=whole(np.bitwise_and))
bitwise_or = elementwise("bitwise_or", "a | b", numpy=whole(np.bitwise_or))
bitwise_xor = elementwise("bitwise_xor", "a ^ b", numpy=whole(np.bitwise_xor))
bitwise_left_shift = elementwise(
    "bitwise_left_shift", "a << b", numpy=excluding("bfcV", np.left_shift)
)
bitwise_right_shift = elementwise(
    "bitwise_right_shift", "a >> b", numpy=excluding("bfcV", np.right_shift)
)


def invert(self: Tensor) -> Tensor:
    """`~x`: raises TypeError for anything but integers and bool."""
    check(
        self._data.dtype.kind in "biu",
        "~ (operator.invert) is only implemented on integer and Boolean-type tensors",
        TypeError,
    )
    return bitwise_not(self)


Tensor.__invert__ = invert
for _name, _function in (
    ("and", bitwise_and),
    ("or", bitwise_or),
    ("xor", bitwise_xor),
    ("lshift", bitwise_left_shift),
    ("rshift", bitwise_right_shift),
):
    setattr(Tensor, f"__{_name}__", operator_of(_function))
    setattr(Tensor, f"__r{_name}__", operator_of(reflected(_function)))
    setattr(Tensor, f"__i{_name}__", getattr(Tensor, f"{_function.op.name}_"))

# -- whole numbers -----------------------------------------------------------------------------

gcd = elementwise("gcd", "gcd(a, b)", numpy=excluding("bfcV", np.gcd))
lcm = elementwise("lcm", "lcm(a, b)", numpy=excluding("bfcV", np.lcm))

# -- parts of floating-point numbers -----------------------------------------------------------

nextafter = elementwise(
    "nextafter",
    "nextafter(a, b)",
    numpy=excluding("biuc", np.nextafter),
    partials={"a": "a != b", "b": "0"},
)


def step(x: ndarray, values: ndarray) -> ndarray:
    """0 below zero, 1 above, `values` at zero."""
    return np.where(x == 0, values, (x > 0).astype(x.dtype))


_heaviside = elementwise(
    "heaviside", "where(a == 0, b, a > 0)", numpy=excluding("c", step), promote="none", **PRIVATE
)


@public(inplace=True, out=True)
def heaviside(input: Tensor, values: Tensor) -> Tensor:
    """0 where `input` is negative, 1 where positive, `values` where 0; both have one type."""
    check(isinstance(values, Tensor), "heaviside(): argument 'values' must be Tensor", TypeError)
    check(
        input.dtype is values.dtype,
        lambda: (
            "[heaviside] not implemented for tensors with different dtypes, got "
            f"{input.dtype} and {values.dtype}; convert one with .to()"
        ),
    )
    return _heaviside(input, values)


@public(inplace=True, out=True)
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """`input * 2 ** other`, elementwise."""
    return input * pow(2.0, other)


FREXP = Op(
    "frexp",
    ("x",),
    excluding("biuc", np.frexp),
    kind="elementwise",
    vjp={"x": lambda g, exponent: g / pow(2.0, exponent)},
    batch=lambda size, values, dims, params, op: (op(*values), (dims[0], dims[0])),
    outputs=("mantissa", "exponent"),
    constant_outputs=("exponent",),
)
FrexpResult = return_type("frexp", "mantissa exponent")


@public(out=True)
def frexp(input: Tensor) -> Any:
    """Mantissa in [0.5, 1) and int32 exponent with `input = mantissa * 2 ** exponent`."""
    return FrexpResult(*FREXP(input))
