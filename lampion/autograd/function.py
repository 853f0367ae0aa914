"""What custom operators are made of: `torch.autograd.function`. May import core."""

from ..core.function import (
    Function as Function,
    FunctionCtx as FunctionCtx,
    VmapInfo as VmapInfo,
    once_differentiable as once_differentiable,
)
