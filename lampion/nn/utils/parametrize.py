"""Parametrizations: a parameter computed from others whenever it is read. May import core.

`register_parametrization(module, "weight", f)` moves the tensor to
`module.parametrizations.weight.original` and makes `module.weight` a property that returns
`f(original)`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...errors import check
from ..container import ModuleDict, ModuleList
from ..module import Module
from ..parameter import Parameter

_cache_depth = 0
_cache: dict[tuple[int, str], Tensor] = {}


@contextmanager
def cached() -> Iterator[None]:
    """Computes each parametrized tensor at most once inside the block."""
    global _cache_depth
    _cache_depth += 1
    try:
        yield
    finally:
        _cache_depth -= 1
        if not _cache_depth:
            _cache.clear()


class ParametrizationList(ModuleList):
    """The parametrizations of one tensor, applied one after the other, and the tensor(s) they start
    from.

    These are `original`, or `original0`, `original1`, ... where `right_inverse` of the first
    returns several.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        check(len(modules) > 0, "ParametrizationList requires one or more modules.", ValueError)
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        with no_grad():
            start = self._invert(original, needed=False)
        check_start(start)
        self.is_tensor = isinstance(start, Tensor)
        self.ntensors = 1 if self.is_tensor else len(start)
        if self.is_tensor:
            check(
                start.dtype == dtype,
                lambda: (
                    "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                    f"original.dtype: {dtype}\nright_inverse(original).dtype: {start.dtype}"
                ),
                ValueError,
            )
            original.data = start.data
            register(self, "original", original)
        else:
            for i, part in enumerate(start):
                part = part.detach()
                if isinstance(original, Parameter):
                    part = Parameter(part, original.requires_grad)
                part.requires_grad_(original.requires_grad)
                register(self, f"original{i}", part)
        if not unsafe:
            check_same(self(), shape, dtype, "unparametrized", "parametrized")

    def _invert(self, value: Any, needed: bool) -> Any:
        """The tensor(s) that give `value`, through each `right_inverse`, the last one first."""
        for module in reversed(list(self)):
            inverse = getattr(module, "right_inverse", None)
            if inverse is None:
                name = type(module).__name__
                check(not needed, f"parametrization {name} does not implement right_inverse.")
                continue
            try:
                value = inverse(value)
            except NotImplementedError:
                if needed:
                    raise
        return value

    def _originals(self) -> list[Tensor]:
        names = ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]
        return [getattr(self, name) for name in names]

    @no_grad()
    def right_inverse(self, value: Tensor) -> None:
        """Sets the original tensor(s) so that the parametrized one becomes `value`."""
        found = self._invert(value, needed=True)
        check_start(found)
        parts = [found] if isinstance(found, Tensor) else list(found)
        check(
            len(parts) == self.ntensors,
            lambda: (
                f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. "
                f"Got a sequence of length {len(parts)}."
            ),
            ValueError,
        )
        for i, (original, part) in enumerate(zip(self._originals(), parts, strict=True)):
            if part.dtype != original.dtype:
                raise ValueError(
                    f"Tensor {i} returned by `right_inverse` has dtype {part.dtype} while "
                    f"`original{i}` has dtype {original.dtype}"
                )
            original.data = part.data

    def forward(self) -> Tensor:
        first, *others = self._modules.values()
        x = first(*self._originals())
        for parametrization in others:
            x = parametrization(x)
        return x


def check_start(value: Any) -> None:
    """Raises ValueError unless `right_inverse` gave a tensor or several."""
    parts = [value] if isinstance(value, Tensor) else value
    check(
        isinstance(parts, Sequence) and all(isinstance(p, Tensor) for p in parts),
        lambda: (
            "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). Got "
            f"{type(value).__name__}"
        ),
        ValueError,
    )


def check_same(value: Any, shape: Any, dtype: Any, before: str, after: str) -> None:
    """Raises ValueError unless a parametrization gave a tensor of the same shape and type."""
    check(
        isinstance(value, Tensor),
        lambda: f"A parametrization must return a tensor. Got {type(value).__name__}.",
        ValueError,
    )
    for what, old, new in (("dtype", dtype, value.dtype), ("shape", shape, value.shape)):
        if old != new:
            raise ValueError(
                f"Registering a parametrization may not change the {what} of the tensor, unless "
                f"`unsafe` flag is enabled.\n{before} {what}: {old}\n{after} {what}: {new}"
            )


def register(module: Module, name: str, value: Tensor) -> None:
    """Registers a tensor as the parameter or buffer that it is."""
    if isinstance(value, Parameter):
        module.register_parameter(name, value)
    else:
        module.register_buffer(name, value)


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Makes `module.<tensor_name>` the result of `parametrization` on the tensor that was there.

    A further one is applied to the result of the earlier. Unless `unsafe`, shape and type must
    stay.

    >>> class Symmetric(torch.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).T
    >>> layer = register_parametrization(torch.nn.Linear(3, 3), "weight", Symmetric())
    >>> bool((layer.weight == layer.weight.T).all())
    True
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        chain = module.parametrizations[tensor_name]
        if not unsafe:
            value = getattr(module, tensor_name)
            found = parametrization(value)
            name = f"module.{tensor_name}"
            check_same(found, value.shape, value.dtype, name, f"parametrization({name})")
        chain.append(parametrization)
        chain.unsafe |= unsafe
    elif tensor_name in module._buffers or tensor_name in module._parameters:
        chain = ParametrizationList([parametrization], getattr(module, tensor_name), unsafe)
        delattr(module, tensor_name)
        if not is_parametrized(module):
            module.__class__ = parametrized_class(type(module))
            module.parametrizations = ModuleDict()
        setattr(type(module), tensor_name, parametrized_property(tensor_name))
        module.parametrizations[tensor_name] = chain
    else:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element "
            f"with name '{tensor_name}'"
        )
    return module


def parametrized_class(cls: type[Module]) -> type[Module]:
    """A class of its own for one module, so that properties can be put on it."""

    def __getstate__(self: Module) -> dict:
        raise RuntimeError(
            "Serialization of parametrized modules is only supported through state_dict()."
        )

    def __deepcopy__(self: Module, memo: dict) -> Module:
        if id(self) not in memo:
            memo[id(self)] = replica = object.__new__(type(self))
            replica.__dict__ = copy.deepcopy(self.__dict__, memo)
        return memo[id(self)]

    members: dict[str, Callable] = {"__getstate__": __getstate__}
    if not hasattr(cls, "__deepcopy__"):
        members["__deepcopy__"] = __deepcopy__
    return type(f"Parametrized{cls.__name__}", (cls,), members)


def parametrized_property(name: str) -> property:
    """Reads the parametrized tensor; writing goes through `right_inverse`."""

    def read(self: Module) -> Tensor:
        chain = self.parametrizations[name]
        if not _cache_depth:
            return chain()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = chain()
        return _cache[key]

    def write(self: Module, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(read, write)


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a tensor of the module (or any, without a name) has a parametrization."""
    found = module._modules.get("parametrizations")
    if not isinstance(found, ModuleDict):
        return False
    return len(found) > 0 if tensor_name is None else tensor_name in found


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """Makes the tensor an ordinary one again: with its present value, or else the original one."""
    check(
        is_parametrized(module, tensor_name),
        lambda: f"Module {module} does not have a parametrization on {tensor_name}",
        ValueError,
    )
    chain = module.parametrizations[tensor_name]
    check(
        leave_parametrized or chain.is_tensor,
        "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized "
        "in terms of a sequence of tensors.",
        ValueError,
    )
    value = getattr(module, tensor_name)
    if chain.is_tensor:
        original = chain.original
        if leave_parametrized:
            original.data = value.data
    else:
        original = Parameter(value.detach()) if value.requires_grad else value
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    register(module, tensor_name, original)
    if not is_parametrized(module):
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
    return module


def type_before_parametrizations(module: Module) -> type[Module]:
    """The class of the module without its parametrizations."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Gives `to_module` the parametrizations and originals of `from_module`, of one tensor or of
    all.
    """
    check(
        is_parametrized(from_module),
        lambda: f"{from_module} has no parametrizations",
        AssertionError,
    )
    names = list(from_module.parametrizations) if tensor_name is None else [tensor_name]
    for name in names:
        chain = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach().clone()))
        for parametrization in chain:
            register_parametrization(to_module, name, parametrization, unsafe=True)
        there = to_module.parametrizations[name]
        for source, target in zip(chain._originals(), there._originals(), strict=True):
            target.data = source.data
    return to_module
