"""All parameters as one vector, and back. May import core and ops."""

from __future__ import annotations

from collections.abc import Iterable

from ...core.tensor import Tensor
from ...errors import check
from ..names import torch


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The parameters, flattened, one after the other."""
    return torch.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Gives each parameter its part of the vector, whose memory it then shares."""
    check(
        isinstance(vec, Tensor),
        lambda: f"expected torch.Tensor, but got: {type(vec).__name__}",
        TypeError,
    )
    start = 0
    for p in parameters:
        p.data = vec[start : start + p.numel()].view_as(p).data
        start += p.numel()
