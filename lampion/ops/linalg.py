"""What the operators of linear algebra share: checks of their arguments, adjoints, batching.

May import rules, earlier families, core and the base.
"""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..core.inplace import type_name
from ..core.naming import named
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import LinAlgError, check
from .complex import real
from .create import full_like
from .elementwise import tensor_operand
from .ranges import eye
from .rules import EXPORTS, batch_elementwise, public

EXPORTS["linalg"]["LinAlgError"] = LinAlgError
LINALG: dict[str, Any] = {
    "spaces": ("linalg",),
    "method": False,
    "out": True,
}  # how most functions are published


def linalg(name: str) -> Any:
    """A decorator: published as `torch.linalg.name`, with `out=`."""
    return lambda function: public(function, name=name, **LINALG)


REMOVED = {
    "eig": "torch.linalg.eig, whose results are complex",
    "symeig": "torch.linalg.eigh, which reads the lower triangle by default",
    "solve": "torch.linalg.solve(A, B), where A comes first, or torch.linalg.lu_factor",
    "lstsq": "torch.linalg.lstsq(A, B), where A comes first",
    "matrix_rank": "torch.linalg.matrix_rank, where `symmetric` is called `hermitian`",
}


def removed(name: str) -> None:
    """Publishes what PyTorch has instead of a function that it removed: one that names its
    successor."""

    def call(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            f"[{name}] This function was deprecated since version 1.9 and is now removed; use "
            f"{REMOVED[name]}"
        )

    public(
        named(call, name, f"Removed from PyTorch; use {REMOVED[name]}."),
        method=name != "matrix_rank",
    )


for _name in REMOVED:
    removed(_name)

# -- checks ------------------------------------------------------------------------------------


def check_floating(A: Tensor, name: str, argument: str = "A") -> None:
    """Raises for anything but a tensor of float32, float64 or the complex types."""
    tensor_operand(A, name, argument)
    d = A.dtype
    check(
        d.category >= dtypes.FLOAT,
        lambda: (
            f"{name}: Expected a floating point or complex tensor as input. Got {type_name(d)}; "
            "convert with .float()"
        ),
    )
    check(
        d.to_real().itemsize >= 4,
        lambda: (
            f"{name}: Low precision dtypes not supported. Got {type_name(d)}; convert with .float()"
        ),
    )


def check_matrix(A: Tensor, name: str, argument: str = "A") -> None:
    """Raises for what is no batch of floating-point matrices."""
    check_floating(A, name, argument)
    check(A.dim() >= 2, f"{name}: The input tensor {argument} must have at least 2 dimensions.")


def check_square(A: Tensor, name: str, argument: str = "A") -> None:
    """Raises for what is no batch of square floating-point matrices."""
    check_matrix(A, name, argument)
    m, n = A.shape[-2:]
    check(
        m == n,
        lambda: (
            f"{name}: {argument} must be batches of square matrices, but they are {m} by {n} "
            "matrices"
        ),
    )


def check_same_type(name: str, A: Tensor, B: Tensor, first: str = "A", second: str = "B") -> None:
    """Raises RuntimeError for operands of different types."""
    check(
        A.dtype is B.dtype,
        lambda: (
            f"{name}: Expected {first} and {second} to have the same dtype, but found {first} of "
            "type "
            f"{type_name(A.dtype)} and {second} of type {type_name(B.dtype)} instead"
        ),
    )


# -- building blocks of gradient rules ---------------------------------------------------------


def identity(A: Tensor) -> Tensor:
    """The identity matrix of the size of A's rows, in A's type."""
    return eye(A.shape[-2], dtype=A.dtype)


def diagonal(A: Tensor) -> Tensor:
    """(..., m, n) -> (..., min(m, n))."""
    return A.diagonal(0, -2, -1)


def mirrored(A: Tensor) -> Tensor:
    """A triangle with its adjoint on the other side and the diagonal's real part."""
    return A + A.mH - real(diagonal(A)).diag_embed()


def skew(A: Tensor) -> Tensor:
    """A - A^H."""
    return A - A.mH


def inverse_gaps(values: Tensor) -> Tensor:
    """1 / (v_j - v_i) off the diagonal, 0 on it: (..., n) -> (..., n, n)."""
    gaps = values.unsqueeze(-2) - values.unsqueeze(-1)
    return 1 / (gaps + full_like(values, float("inf")).diag_embed())


def batch_matrices(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The batch dimension joins the matrices' leading dimensions."""
    out, dim = batch_elementwise(size, values, dims, params, op)
    return out, (dim,) * len(out) if isinstance(out, tuple) else dim
