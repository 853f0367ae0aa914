"""Complex numbers as pairs of reals. May import earlier operators, core and the base.

Conjugates are computed at once, never kept as a mark on a view, so `resolve_conj` returns its
argument. Gradients follow PyTorch: that of x + iy is dx + i dy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.inplace import type_name
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .comparison import where
from .elementwise import conj, direction
from .rules import batch_elementwise, elementwise, move_to_front, public
from .views import ViewOp, view_of

# -- real and imaginary parts ------------------------------------------------------------------


def batch_pairs(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The batch dimension in front, away from the pairs."""
    return apply(op, move_to_front(values[0], dims[0])), 0


VIEW_AS_REAL = ViewOp(
    "view_as_real",
    lambda x: x[..., None].view(x.real.dtype),
    lambda g: view_as_complex(g.contiguous()),
    batch_pairs,
)
VIEW_AS_COMPLEX = ViewOp(
    "view_as_complex",
    lambda x: x.view(np.result_type(x, np.complex64))[..., 0],
    lambda g: view_as_real(g),
    batch_pairs,
)


@public
def view_as_real(input: Tensor) -> Tensor:
    """A view of a complex tensor as pairs of real and imaginary part: (...) -> (..., 2)."""
    check(
        input._data.dtype.kind == "c",
        lambda: f"[view_as_real] is only supported for complex tensors, got {input.dtype}",
    )
    return view_of(input, VIEW_AS_REAL, {})


@public
def view_as_complex(input: Tensor) -> Tensor:
    """A view of pairs of real and imaginary part as complex numbers: (..., 2) -> (...)."""
    x = input._data
    check(
        x.dtype.name in ("float32", "float64"),
        lambda: (
            "[view_as_complex] is only supported for float and double tensors, but got a tensor of "
            f"scalar type: {type_name(input.dtype)}"
        ),
    )
    check(
        x.ndim > 0 and x.shape[-1] == 2,
        lambda: (
            "[view_as_complex] Tensor must have a last dimension of size 2, got shape "
            f"{tuple(x.shape)}"
        ),
    )
    check(
        not isinstance(x, ndarray) or x.strides[-1] == x.itemsize or not x.size,
        "[view_as_complex] Tensor must have a last dimension with stride 1; use .contiguous()",
    )
    return view_of(input, VIEW_AS_COMPLEX, {})


def real(input: Tensor) -> Tensor:
    """The real part of a complex tensor, as a view; a real tensor itself."""
    return view_as_real(input).select(-1, 0) if input._data.dtype.kind == "c" else input


def imag(input: Tensor) -> Tensor:
    """The imaginary part of a complex tensor, as a view; raises RuntimeError for a real one."""
    check(
        input._data.dtype.kind == "c",
        lambda: f"[imag] is not implemented for tensors with non-complex dtypes, got {input.dtype}",
    )
    return view_as_real(input).select(-1, 1)


def writer(part: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Any], None]:
    """What an assignment to the real or imaginary part does."""

    def write(self: Tensor, value: Any) -> None:
        part(self).copy_(value)

    return write


for _part in (real, imag):
    public(_part, method=False)
    setattr(Tensor, _part.__name__, property(_part, writer(_part)))


# -- from parts --------------------------------------------------------------------------------


def check_parts(first: Tensor, second: Tensor, name: str) -> None:
    """Raises RuntimeError unless both are real floating-point tensors of one type."""
    check(
        first.dtype.is_floating_point and second.dtype.is_floating_point,
        lambda: (
            f"[{name}] Expected both inputs to be Half, Float or Double tensors but got "
            f"{type_name(first.dtype)} and {type_name(second.dtype)}"
        ),
    )
    check(
        first.dtype is second.dtype,
        lambda: (
            f"[{name}] Expected object of scalar type {type_name(first.dtype)} but got scalar type "
            f"{type_name(second.dtype)} for second argument"
        ),
    )


def from_parts(x: ndarray, y: ndarray) -> ndarray:
    """x + iy, without multiplying by i."""
    z = np.empty(np.broadcast_shapes(x.shape, y.shape), np.result_type(x, np.complex64))
    z.real, z.imag = x, y
    return z


COMPLEX = Op(
    "complex",
    ("a", "b"),
    from_parts,
    kind="elementwise",
    vjp={"a": lambda g: real(g), "b": lambda g: imag(g)},
    batch=batch_elementwise,
)
POLAR = Op(
    "polar",
    ("a", "b"),
    lambda a, b: from_parts(a * np.cos(b), a * np.sin(b)),
    kind="elementwise",
    vjp={
        "a": lambda g, b: real(g) * b.cos() + imag(g) * b.sin(),
        "b": lambda g, a, b: a * (imag(g) * b.cos() - real(g) * b.sin()),
    },
    batch=batch_elementwise,
)


@public(method=False, out=True)
def complex(real: Tensor, imag: Tensor) -> Tensor:
    """`real + i imag`, elementwise; both have one floating-point type.

    >>> torch.complex(torch.tensor([1.0]), torch.tensor([2.0]))
    tensor([1.+2.j])
    """
    check_parts(real, imag, "complex")
    return apply(COMPLEX, real, imag)


@public(method=False, out=True)
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """`abs * (cos(angle) + i sin(angle))`, elementwise; both have one floating-point type."""
    check_parts(abs, angle, "polar")
    return apply(POLAR, abs, angle)


# -- angle and direction -----------------------------------------------------------------------


def angle_kernel(x: ndarray) -> ndarray:
    """The argument of a complex number; of a real one, 0, or pi if it is negative."""
    if x.dtype.kind == "c":
        return np.arctan2(x.imag, x.real)
    y = np.where(x < 0, x.dtype.type(np.pi), x.dtype.type(0))
    return np.where(np.isnan(x), x, y)


def angle_gradient(g: Tensor, x: Tensor) -> Tensor:
    """g i x / |x|**2; 0 for real numbers and at 0."""
    if x._data.dtype.kind != "c":
        return g * 0
    size = real(x) ** 2 + imag(x) ** 2
    return where(size == 0, 0, g * 1j * x / where(size == 0, 1, size))


def sgn_gradient(g: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The part of g across the direction of x, over |x|; 0 for real numbers and at 0."""
    if x._data.dtype.kind != "c":
        return g * 0
    size = x.abs()
    across = g - real(g * conj(y)) * y
    return where(size == 0, 0, across / where(size == 0, 1, size))


angle = elementwise(
    "angle",
    "atan2(imag(x), real(x))",
    numpy=angle_kernel,
    vjp={"x": angle_gradient},
    promote="float",
    inplace=False,
)
sgn = elementwise("sgn", "x / abs(x)", numpy=direction, vjp={"x": sgn_gradient})


# -- conjugates --------------------------------------------------------------------------------

_conj_physical = elementwise(
    "conj_physical",
    "conj(x)",
    numpy=np.conjugate,
    vjp={"x": lambda g: conj_physical(g)},
    jvp="linear",
    spaces=(),
    method=False,
    inplace=False,
)


@public(inplace=True, out=True)
def conj_physical(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    return _conj_physical(input) if input._data.dtype.kind == "c" else input


@public
def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugates are always computed at once."""
    return input


@public
def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: negatives are always computed at once."""
    return input
