"""Weight normalization as a hook: `w = g * v / |v|` before every forward (Salimans and Kingma,
2016).

May import core. `parametrizations.weight_norm` is the newer form.
"""

from __future__ import annotations

import warnings
from typing import Any

from ...core.tensor import Tensor
from ...errors import check
from ..module import Module
from ..names import torch
from ..parameter import Parameter, is_lazy


def norm_except_dim(v: Tensor, dim: int) -> Tensor:
    """The norm over all dimensions but `dim`, which are kept with size 1; over all of them if `dim`
    is -1.
    """
    if dim == -1:
        return torch.linalg.vector_norm(v)
    others = tuple(d for d in range(v.dim()) if d != dim % v.dim())
    return torch.linalg.vector_norm(v, dim=others, keepdim=True)


def scaled_to(v: Tensor, g: Tensor, dim: int) -> Tensor:
    """v with the norm g."""
    return v * (g / norm_except_dim(v, dim))


class WeightNorm:
    """The hook: computes the weight from `<name>_g` and `<name>_v`."""

    def __init__(self, name: str, dim: int | None) -> None:
        self.name, self.dim = name, -1 if dim is None else dim

    def compute_weight(self, module: Module) -> Tensor:
        """The weight that magnitude and direction give."""
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return scaled_to(v, g, self.dim)

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self.name, self.compute_weight(module))

    def remove(self, module: Module) -> None:
        """Makes the present weight a parameter again."""
        weight = self.compute_weight(module).detach()
        for name in (self.name, f"{self.name}_g", f"{self.name}_v"):
            delattr(module, name)
        setattr(module, self.name, Parameter(weight))


def find_hook(module: Module, kind: Any, name: str) -> int | None:
    """The key of the hook of a kind on a parameter."""
    hooks = module._forward_pre_hooks.items()
    return next((k for k, h in hooks if isinstance(h, kind) and h.name == name), None)


def check_new(module: Module, kind: type, name: str, what: str) -> Parameter:
    """The parameter that is to be normalized; raises where it already is, is absent, or has no
    shape.
    """
    check(
        find_hook(module, kind, name) is None,
        f"Cannot register two {what} hooks on the same parameter {name}",
    )
    weight = module._parameters[name]
    check(
        weight is not None,
        f"`{kind.__name__}` cannot be applied as parameter `{name}` is None",
        ValueError,
    )
    check(
        not is_lazy(weight),
        f"The module passed to `{kind.__name__}` can't have uninitialized parameters. Make sure "
        f"to run the dummy forward before applying {what.replace('_', ' ')}",
        ValueError,
    )
    return weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Replaces a parameter by its norm `<name>_g`, over all dimensions but `dim`, and direction
    `<name>_v`.
    """
    warnings.warn(
        "`torch.nn.utils.weight_norm` is deprecated in favor of "
        "`torch.nn.utils.parametrizations.weight_norm`.",
        FutureWarning,
        stacklevel=2,
    )
    weight = check_new(module, WeightNorm, name, "weight_norm")
    hook = WeightNorm(name, dim)
    del module._parameters[name]
    g = norm_except_dim(weight, hook.dim).detach()
    module.register_parameter(f"{name}_g", Parameter(g))
    module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    hook(module, ())
    module.register_forward_pre_hook(hook)
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Takes the hook of `weight_norm` away."""
    return remove_hook(module, WeightNorm, name, "weight_norm")


def remove_hook(module: Module, kind: type, name: str, what: str) -> Module:
    """Takes a normalization away; raises ValueError where there is none."""
    key = find_hook(module, kind, name)
    check(key is not None, lambda: f"{what} of '{name}' not found in {module}", ValueError)
    module._forward_pre_hooks.pop(key).remove(module)
    return module
