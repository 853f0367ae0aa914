"""Automatic differentiation under PyTorch's names: `torch.autograd`. May import core and ops."""

from ..core.autograd import backward as backward, grad as grad
from ..core.function import Function as Function
from ..core.modes import (
    detect_anomaly as detect_anomaly,
    enable_grad as enable_grad,
    inference_mode as inference_mode,
    no_grad as no_grad,
    set_detect_anomaly as set_detect_anomaly,
    set_grad_enabled as set_grad_enabled,
)
from ..core.tensor import Tensor
from . import (
    forward_ad as forward_ad,
    function as function,
    functional as functional,
    gradcheck as _gradcheck,
    graph as graph,
)

gradcheck = _gradcheck.gradcheck
gradgradcheck = _gradcheck.gradgradcheck
GradcheckError = _gradcheck.GradcheckError


class _VariableType(type):
    """`isinstance(x, Variable)` holds for every tensor."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tensor)


class Variable(metaclass=_VariableType):
    """The old name of a tensor: `Variable(x, requires_grad=True)` is one on x's memory."""

    def __new__(cls, data: Tensor, requires_grad: bool = False, volatile: bool = False) -> Tensor:  # type: ignore[misc]
        return data.detach().requires_grad_(requires_grad)
