"""Pruning: parameters with some entries masked out. May import core and ops.

A pruned parameter `w` is computed as `w_orig * w_mask` before every forward; the mask is a buffer.
`remove` makes the result permanent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...errors import check
from ..module import Module
from ..names import torch
from .convert_parameters import parameters_to_vector

Amount = int | float


class BasePruningMethod(ABC):
    """A way to choose what is pruned, and the hook that applies it; defines `compute_mask`.

    PRUNING_TYPE says what a further method sees of a tensor that is already pruned: "unstructured"
    the entries that are left, "structured" the channels that are left, "global" everything.
    """

    PRUNING_TYPE: str
    _tensor_name: str

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """A mask of ones and zeros for scores `t`, zero at least where `default_mask` is."""

    def apply_mask(self, module: Module) -> Tensor:
        """The pruned tensor."""
        mask = getattr(module, f"{self._tensor_name}_mask")
        original = getattr(module, f"{self._tensor_name}_orig")
        return mask.to(original.dtype) * original

    @classmethod
    def apply(
        cls,
        module: Module,
        name: str,
        *args: Any,
        importance_scores: Tensor | None = None,
        **kwargs: Any,
    ) -> BasePruningMethod:
        """Prunes a parameter, further if it is pruned already."""
        method: BasePruningMethod = cls(*args, **kwargs)
        method._tensor_name = name
        hooks = module._forward_pre_hooks
        old = [
            k
            for k, h in hooks.items()
            if isinstance(h, BasePruningMethod) and h._tensor_name == name
        ]
        value = getattr(module, name)
        scores = value if importance_scores is None else importance_scores
        check_scores(scores, value, f"parameter {name} of {module}")
        with no_grad():
            if old:
                earlier = hooks[old[0]]
                chain = (
                    earlier if isinstance(earlier, PruningContainer) else PruningContainer(earlier)
                )
                chain.add_pruning_method(method)
                method, mask = chain, getattr(module, f"{name}_mask").clone()
            else:
                mask = torch.ones_like(value)
            mask = method.compute_mask(scores, default_mask=mask)
        if old:
            del hooks[old[0]]
        else:
            del module._parameters[name]
            module.register_parameter(f"{name}_orig", value)
        module.register_buffer(f"{name}_mask", mask)
        method(module, ())
        module.register_forward_pre_hook(method)
        return method

    def prune(
        self, t: Tensor, default_mask: Tensor | None = None, importance_scores: Tensor | None = None
    ) -> Tensor:
        """A pruned copy of a tensor."""
        scores = t if importance_scores is None else importance_scores
        check_scores(scores, t, "tensor t")
        mask = torch.ones_like(t) if default_mask is None else default_mask
        return t * self.compute_mask(scores, default_mask=mask)

    def remove(self, module: Module) -> None:
        """Makes the pruned tensor an ordinary parameter; what was pruned stays zero."""
        name = self._tensor_name
        pruned = self.apply_mask(module)
        if hasattr(module, name):
            delattr(module, name)
        original = module._parameters.pop(f"{name}_orig")
        original.data = pruned.data
        del module._buffers[f"{name}_mask"]
        setattr(module, name, original)


def check_scores(scores: Tensor, value: Tensor, what: str) -> None:
    """Raises AssertionError unless there is a score for each entry."""
    check(
        scores.shape == value.shape,
        lambda: (
            f"importance_scores should have the same shape as {what}, got {scores.shape} vs "
            f"{value.shape}"
        ),
        AssertionError,
    )


class PruningContainer(BasePruningMethod):
    """Several methods on one tensor, one after the other."""

    def __init__(self, *args: BasePruningMethod) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        if args:
            self._tensor_name = args[0]._tensor_name
        for method in args:
            self.add_pruning_method(method)

    def add_pruning_method(self, method: BasePruningMethod | None) -> None:
        """Adds a method for the same tensor."""
        if method is None:
            return
        check(
            isinstance(method, BasePruningMethod),
            lambda: f"{type(method)} is not a BasePruningMethod subclass",
            TypeError,
        )
        check(
            self._tensor_name == method._tensor_name,
            lambda: (
                "Can only add pruning methods acting on the parameter named "
                f"'{self._tensor_name}' to PruningContainer {self}. Found '{method._tensor_name}'"
            ),
            ValueError,
        )
        self._pruning_methods += (method,)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Iterator[BasePruningMethod]:
        return iter(self._pruning_methods)

    def __getitem__(self, idx: int) -> BasePruningMethod:
        return self._pruning_methods[idx]

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask with what the newest method takes away from what is left."""
        method = self._pruning_methods[-1]
        kind = method.PRUNING_TYPE
        check(
            kind in ("unstructured", "structured", "global"),
            f"Unrecognized PRUNING_TYPE {kind}",
            ValueError,
        )
        left: Any = (slice(None),) * t.dim()
        if kind == "unstructured":
            left = default_mask == 1
        elif kind == "structured":
            dim = method.dim % t.dim()  # type: ignore[attr-defined]
            others = [d for d in range(t.dim()) if d != dim]
            left = (*left[:dim], default_mask.sum(dim=others) != 0, *left[dim + 1 :])
        mask = default_mask.to(t.dtype)
        part = method.compute_mask(t[left], default_mask=default_mask[left])
        mask[left] = part.to(mask.dtype)
        return mask


# -- methods -----------------------------------------------------------------------------------


class Identity(BasePruningMethod):
    """Prunes nothing."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """The mask as it is."""
        return default_mask


class _ByAmount(BasePruningMethod):
    """Prunes `amount` entries or channels: a number of them, or a share between 0 and 1."""

    def __init__(self, amount: Amount) -> None:
        check(
            isinstance(amount, (int, float)),
            lambda: f"Invalid type for amount: {amount}. Must be int or float.",
            TypeError,
        )
        check(
            amount >= 0 and (isinstance(amount, int) or amount <= 1.0),
            f"amount={amount} should either be a float in the range [0, 1] or a non-negative "
            "integer",
            ValueError,
        )
        self.amount = amount

    def count(self, size: int) -> int:
        """How many of `size` are pruned; raises ValueError where there are not so many."""
        number = self.amount if isinstance(self.amount, int) else round(self.amount * size)
        check(
            number <= size,
            f"amount={number} should be smaller than the number of parameters to prune={size}",
            ValueError,
        )
        return number


class RandomUnstructured(_ByAmount):
    """Prunes entries at random."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Zero where the highest random numbers were drawn."""
        number = self.count(t.numel())
        mask = default_mask.clone()
        if number:
            chosen = torch.topk(torch.rand_like(t).view(-1), k=number).indices
            mask.view(-1)[chosen] = 0
        return mask


class L1Unstructured(_ByAmount):
    """Prunes the entries nearest to zero."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Zero where the values are smallest."""
        number = self.count(t.numel())
        mask = default_mask.clone()
        if number:
            chosen = torch.topk(torch.abs(t).reshape(-1), k=number, largest=False).indices
            mask.view(-1)[chosen] = 0
        return mask


class _Structured(_ByAmount):
    """Prunes whole channels along `dim`."""

    PRUNING_TYPE = "structured"
    dim: int

    def check_channels(self, t: Tensor) -> int:
        """The number of channels; raises where the tensor has no such dimension."""
        check(
            t.dim() > 1,
            lambda: (
                "Structured pruning can only be applied to multidimensional tensors. Found "
                f"tensor of shape {t.shape} with {t.dim()} dims"
            ),
            ValueError,
        )
        check(
            self.dim < t.dim(),
            lambda: f"Invalid index {self.dim} for tensor of size {t.shape}",
            IndexError,
        )
        return t.shape[self.dim]

    def keep(self, t: Tensor, default_mask: Tensor, kept: Tensor) -> Tensor:
        """The mask that leaves the channels `kept` (indices, or True for each of them)."""
        mask = torch.zeros_like(t)
        place: list[Any] = [slice(None)] * t.dim()
        place[self.dim] = kept
        mask[tuple(place)] = 1
        return mask * default_mask.to(mask.dtype)


class RandomStructured(_Structured):
    """Prunes channels along `dim` at random."""

    def __init__(self, amount: Amount, dim: int = -1) -> None:
        super().__init__(amount)
        self.dim = dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Zero in the channels for which the lowest random numbers were drawn."""
        channels = self.check_channels(t)
        number = self.count(channels)
        if number == 0:
            return default_mask
        drawn = torch.rand(channels)
        return self.keep(t, default_mask, drawn > torch.kthvalue(drawn, k=number).values)


class LnStructured(_Structured):
    """Prunes the channels along `dim` with the smallest n-norm."""

    def __init__(self, amount: Amount, n: Any, dim: int = -1) -> None:
        super().__init__(amount)
        self.n, self.dim = n, dim

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Zero in the channels with the smallest norms."""
        channels = self.check_channels(t)
        number = self.count(channels)
        if number == 0:
            return default_mask
        others = [d for d in range(t.dim()) if d != self.dim % t.dim()]
        norms = torch.norm(t, p=self.n, dim=others)
        return self.keep(t, default_mask, torch.topk(norms, k=channels - number).indices)


class CustomFromMask(BasePruningMethod):
    """Prunes by a mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def compute_mask(self, t: Tensor, default_mask: Tensor) -> Tensor:
        """Zero where one of the masks is."""
        check(
            default_mask.shape == self.mask.shape,
            lambda: (
                f"default_mask shape {default_mask.shape} must match self.mask shape "
                f"{self.mask.shape}"
            ),
            AssertionError,
        )
        return default_mask * self.mask.to(default_mask.dtype)


# -- functions ---------------------------------------------------------------------------------


def identity(module: Module, name: str) -> Module:
    """Makes a parameter a pruned one of which nothing is pruned yet."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: Amount) -> Module:
    """Prunes `amount` entries of a parameter at random."""
    RandomUnstructured.apply(module, name, amount=amount)
    return module


def l1_unstructured(
    module: Module, name: str, amount: Amount, importance_scores: Tensor | None = None
) -> Module:
    """Prunes the `amount` entries of a parameter that are (or whose scores are) nearest to zero.

    >>> layer = l1_unstructured(torch.nn.Linear(2, 3), "weight", amount=0.5)
    >>> sorted(layer.state_dict()), int(layer.weight_mask.sum())
    (['bias', 'weight_mask', 'weight_orig'], 3)
    """
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: Amount, dim: int) -> Module:
    """Prunes `amount` channels of a parameter along `dim` at random."""
    RandomStructured.apply(module, name, amount=amount, dim=dim)
    return module


def ln_structured(
    module: Module,
    name: str,
    amount: Amount,
    n: Any,
    dim: int,
    importance_scores: Tensor | None = None,
) -> Module:
    """Prunes the `amount` channels of a parameter along `dim` with the smallest n-norm."""
    LnStructured.apply(
        module, name, amount=amount, n=n, dim=dim, importance_scores=importance_scores
    )
    return module


def custom_from_mask(module: Module, name: str, mask: Tensor) -> Module:
    """Prunes a parameter by a mask of ones and zeros."""
    CustomFromMask.apply(module, name, mask=mask)
    return module


def global_unstructured(
    parameters: Iterable[tuple[Module, str]],
    pruning_method: type[BasePruningMethod],
    importance_scores: dict[tuple[Module, str], Tensor] | None = None,
    **kwargs: Any,
) -> None:
    """Prunes several parameters as if they were one: those entries that are least in all of them
    together.
    """
    check(
        isinstance(parameters, Iterable),
        "global_unstructured(): parameters is not an Iterable",
        TypeError,
    )
    scores = {} if importance_scores is None else importance_scores
    check(
        isinstance(scores, dict),
        "global_unstructured(): importance_scores must be of type dict",
        TypeError,
    )
    places = list(parameters)
    values = [getattr(module, name) for module, name in places]
    with no_grad():
        all_scores = parameters_to_vector(
            [scores.get(p, v) for p, v in zip(places, values, strict=True)]
        )
        masks = [
            getattr(m, f"{n}_mask", torch.ones_like(v))
            for (m, n), v in zip(places, values, strict=True)
        ]
        method = pruning_method(**kwargs)
        check(
            method.PRUNING_TYPE == "unstructured",
            lambda: (
                'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method '
                f"{pruning_method} of type {method.PRUNING_TYPE}"
            ),
            TypeError,
        )
        method._tensor_name = "all"
        mask = PruningContainer(method).compute_mask(all_scores, parameters_to_vector(masks))
    start = 0
    for (module, name), value in zip(places, values, strict=True):
        custom_from_mask(module, name, mask[start : start + value.numel()].view_as(value))
        start += value.numel()


def remove(module: Module, name: str) -> Module:
    """Makes the pruning of a parameter permanent; raises ValueError where it is not pruned."""
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            return module
    raise ValueError(
        f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed"
    )


def is_pruned(module: Module) -> bool:
    """Whether some parameter in the module or below it is pruned."""
    hooks = (h for m in module.modules() for h in m._forward_pre_hooks.values())
    return any(isinstance(h, BasePruningMethod) for h in hooks)
