"""Forward mode with dual numbers: `torch.autograd.forward_ad`. May import core.

>>> with torch.autograd.forward_ad.dual_level():
...     x = torch.autograd.forward_ad.make_dual(torch.tensor(3.0), torch.tensor(1.0))
...     torch.autograd.forward_ad.unpack_dual(x * x).tangent
tensor(6.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..core.graph import STATE
from ..core.tensor import Tensor
from ..core.transforms import Dual, Jvp
from ..errors import check


class UnpackedDualTensor(NamedTuple):
    """A tensor's value and its tangent (None if it has none)."""

    primal: Tensor
    tangent: Tensor | None


class dual_level(Jvp):
    """The block inside which dual tensors live; nested levels are refused, as in PyTorch."""

    def __enter__(self) -> Any:
        check(
            not any(isinstance(i, dual_level) for i in STATE.interpreters),
            "Nested forward mode AD is not supported at the moment",
        )
        return super().__enter__()


def _level() -> dual_level | None:
    return next((i for i in STATE.interpreters if isinstance(i, dual_level)), None)


def enter_dual_level() -> int:
    """Enters a dual level until `exit_dual_level`; returns its number."""
    level = dual_level()
    level.__enter__()
    return level.level


def exit_dual_level(*, level: int | None = None) -> None:
    """Leaves the dual level; its dual tensors lose their tangents."""
    current = _level()
    if current is None or level not in (None, current.level):
        raise RuntimeError(
            "Trying to exit a forward AD level that was not entered or is not the innermost."
        )
    current.__exit__()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor with a tangent; raises RuntimeError outside a dual level,
    ValueError if their shapes differ.
    """
    current = _level()
    if current is None:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to "
            "enter_dual_level() first."
        )
    check(
        tensor.is_floating_point() or tensor.is_complex(),
        lambda: f"Expected primal to be floating point or complex, but got: {tensor.dtype}",
        ValueError,
    )
    check(
        tensor.shape == tangent.shape,
        lambda: (
            f"Expected tangent to have the shape of its primal, {tensor.shape}, but got: "
            f"{tangent.shape}"
        ),
    )
    return Dual(current, tensor, tangent)


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The value and the tangent of a tensor."""
    if isinstance(tensor, Dual):
        return UnpackedDualTensor(tensor.primal, tensor.tangent)
    return UnpackedDualTensor(tensor, None)
