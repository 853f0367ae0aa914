"""Walking the tree of modules: parameters, buffers, children by name. May import core.

A module, parameter or buffer that is reachable by several names is met once, under its first name,
unless `remove_duplicate` is False.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from ..core.tensor import Tensor
from ..errors import check
from .parameter import Parameter


class Tree:
    """A node that owns parameters, buffers and children."""

    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]

    def children(self) -> Iterator[Any]:
        """The direct children, each once."""
        for _, module in self.named_children():
            yield module

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """(name, module) of the direct children, each once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def modules(self, remove_duplicate: bool = True) -> Iterator[Any]:
        """This module and all below it, each once."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """(dotted name, module) of this module (whose name is the prefix) and all below it.

        >>> [name for name, _ in torch.nn.Sequential(torch.nn.ReLU()).named_modules()]
        ['', '0']
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                start = f"{prefix}.{name}" if prefix else name
                yield from module.named_modules(memo, start, remove_duplicate)

    def _named_members(
        self,
        get_members_fn: Callable[[Any], Iterable[tuple[str, Any]]],
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        """(dotted name, member) of what `get_members_fn` finds in the modules, None left out."""
        memo = set()
        modules: Iterable = [(prefix, self)]
        if recurse:
            modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        for start, module in modules:
            for name, member in get_members_fn(module):
                if member is None or member in memo:
                    continue
                if remove_duplicate:
                    memo.add(member)
                yield (f"{start}.{name}" if start else name), member

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once, in the order of registration: what optimizers are given."""
        for _, param in self.named_parameters(recurse=recurse):
            yield param

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of all parameters."""
        yield from self._named_members(
            lambda module: module._parameters.items(), prefix, recurse, remove_duplicate
        )

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer) of all buffers."""
        yield from self._named_members(
            lambda module: module._buffers.items(), prefix, recurse, remove_duplicate
        )

    def apply(self, fn: Callable[[Any], Any]) -> Self:
        """Calls `fn` on every submodule and then on this module, e.g. to initialise them."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # -- by dotted name ------------------------------------------------------------------------

    def get_submodule(self, target: str) -> Any:
        """The module below this one with the dotted name `target`; AttributeError if there is none.

        >>> torch.nn.Sequential(torch.nn.Sequential(torch.nn.ReLU())).get_submodule("0.0")
        ReLU()
        """
        found: Any = self
        for name in target.split(".") if target else ():
            missing = f"{found._get_name()} has no attribute `{name}`"
            check(hasattr(found, name), missing, AttributeError)
            found = getattr(found, name)
            check(isinstance(found, Tree), f"`{name}` is not an nn.Module", AttributeError)
        return found

    def set_submodule(self, target: str, module: Any, strict: bool = False) -> None:
        """Puts `module` under the dotted name `target`; with `strict` only in another's place."""
        check(target != "", "Cannot set the submodule without a target name!", ValueError)
        check(
            isinstance(module, Tree),
            lambda: f"`module` is not an nn.Module, found {type(module)}",
            ValueError,
        )
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        there = hasattr(parent, name)
        check(
            there or not strict,
            lambda: f"{parent._get_name()} has no attribute `{name}`",
            AttributeError,
        )
        is_module = not there or isinstance(getattr(parent, name), Tree)
        check(is_module, f"`{name}` is not an nn.Module", AttributeError)
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with the dotted name `target`; AttributeError if there is none."""
        module, name = self._holder(target)
        found = getattr(module, name)
        check(isinstance(found, Parameter), f"`{name}` is not an nn.Parameter", AttributeError)
        return found

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with the dotted name `target`; AttributeError if there is none."""
        module, name = self._holder(target)
        check(name in module._buffers, f"`{name}` is not a buffer", AttributeError)
        return module._buffers[name]

    def _holder(self, target: str) -> tuple[Any, str]:
        """The module that has the last part of a dotted name as an attribute, and that part."""
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        check(
            hasattr(module, name),
            lambda: f"{module._get_name()} has no attribute `{name}`",
            AttributeError,
        )
        return module, name
