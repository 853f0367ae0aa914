"""Saving and loading what a module knows: `state_dict` and `load_state_dict`. May import core.

Loading first compares every key and shape and copies only when all fit, so a failed load leaves the
module as it was. Keys, metadata, hooks and messages are PyTorch's.
"""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ..core.hooks import RemovableHandle
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import check
from .hooks import add
from .parameter import Parameter, is_lazy

EXTRA_STATE = "_extra_state"
PENDING = "pending_copies"  # where in a module's metadata loads wait until all keys are checked


class _IncompatibleKeys(NamedTuple):
    """What `load_state_dict` returns: the keys that only one side has."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"_IncompatibleKeys(missing_keys={self.missing_keys}, "
            f"unexpected_keys={self.unexpected_keys})"
        )


class Stateful:
    """The state of a module as a dictionary, out and in."""

    _version: int = 1
    _parameters: dict[str, Any]
    _buffers: dict[str, Any]
    _modules: dict[str, Any]
    _non_persistent_buffers_set: set[str]
    _state_dict_hooks: OrderedDict
    _state_dict_pre_hooks: OrderedDict
    _load_state_dict_pre_hooks: OrderedDict
    _load_state_dict_post_hooks: OrderedDict

    def get_extra_state(self) -> Any:
        """What a subclass wants saved besides its tensors; goes with `set_extra_state`."""
        raise RuntimeError(
            "Reached a code path in Module.get_extra_state() that should never be called; "
            "override it together with set_extra_state()"
        )

    def set_extra_state(self, state: Any) -> None:
        """Takes back what `get_extra_state` gave."""
        raise RuntimeError(
            "Reached a code path in Module.set_extra_state() that should never be called; "
            "override it together with get_extra_state()"
        )

    # -- out -----------------------------------------------------------------------------------

    def state_dict(
        self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """The parameters and persistent buffers by dotted names, sharing the module's memory.

        They are detached unless `keep_vars`; the attribute `_metadata` holds each module's version.

        >>> [*torch.nn.Sequential(torch.nn.Linear(2, 3)).state_dict()]
        ['0.weight', '0.bias']
        """
        if args:
            warnings.warn(
                "Positional args are being deprecated, use kwargs instead.",
                FutureWarning,
                stacklevel=2,
            )
            given = dict(zip(("destination", "prefix", "keep_vars"), args, strict=False))
            return self.state_dict(
                **{"destination": destination, "prefix": prefix, "keep_vars": keep_vars, **given}
            )
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(
                    destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars
                )
        for hook in self._state_dict_hooks.values():
            result = hook(self, destination, prefix, local_metadata)
            check(
                result is None or not getattr(hook, "_from_public_api", False),
                "state_dict post-hook must return None",
            )
            if result is not None:
                destination = result
        return destination

    def _own_state(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters and persistent buffers of this module alone."""
        for name, value in self._parameters.items():
            if value is not None:
                yield name, value
        for name, value in self._buffers.items():
            if value is not None and name not in self._non_persistent_buffers_set:
                yield name, value

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """Puts this module's own state into `destination`."""
        for name, value in self._own_state():
            destination[prefix + name] = value if keep_vars or is_lazy(value) else value.detach()
        if self._has_extra_state("get"):
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _has_extra_state(self, verb: str) -> bool:
        name = f"{verb}_extra_state"
        return getattr(type(self), name) is not getattr(Stateful, name)

    # -- in ------------------------------------------------------------------------------------

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copies tensors into the module; returns the keys that only one side has.

        With `assign` the tensors themselves take the places of the module's. Raises RuntimeError,
        with every problem in its message and the module unchanged, where shapes differ or, if
        `strict`, keys do.
        """
        check(
            isinstance(state_dict, Mapping),
            lambda: f"Expected state_dict to be dict-like, got {type(state_dict)}.",
            TypeError,
        )
        loading = Loading(state_dict, assign)
        loading.visit(self, OrderedDict(state_dict), "")
        keys = loading.keys
        failed = loading.errors or (strict and (keys.missing_keys or keys.unexpected_keys))
        if not failed or (loading.post_hooks and not loading.errors):
            loading.copy()
            loading.run_post_hooks()
        errors = loading.messages(strict)
        if errors:
            raise RuntimeError(
                f"Error(s) in loading state_dict for {type(self).__name__}:\n\t"
                + "\n\t".join(errors)
            )
        return keys

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Loads this module alone; subclasses override it to read older formats.

        What is to be copied waits in `local_metadata` until `load_state_dict` has checked all
        modules.
        """
        for hook in list(self._load_state_dict_pre_hooks.values()):
            hook(
                state_dict,
                prefix,
                local_metadata,
                strict,
                missing_keys,
                unexpected_keys,
                error_msgs,
            )
        pending = local_metadata.get(PENDING)
        copies: list[Callable] = [] if pending is None else pending
        assign = local_metadata.get("assign_to_params_buffers", False)
        own = dict(self._own_state())
        for name, target in own.items():
            key = prefix + name
            if key not in state_dict:
                missing_keys += [key] * strict
                continue
            problem, source = fitting(key, target, state_dict[key])
            if problem:
                error_msgs.append(problem)
            else:
                load = assign_one if assign else copy_one
                copies.append(functools.partial(load, self, name, target, source))
        extra = prefix + EXTRA_STATE
        if self._has_extra_state("set"):
            if extra in state_dict:
                copies.append(functools.partial(self.set_extra_state, state_dict[extra]))
            else:
                missing_keys += [extra] * strict
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            unexpected_keys += self._unknown_keys(state_dict, prefix, own)
        if pending is None:
            for copy in copies:
                copy()

    def _unknown_keys(self, state_dict: dict, prefix: str, own: dict) -> Iterator[str]:
        """The keys under `prefix` that name neither an own tensor nor something in a child."""
        for key in state_dict:
            if key.startswith(prefix) and key != prefix + EXTRA_STATE:
                name, dot, _ = key[len(prefix) :].partition(".")
                if name not in (self._modules if dot else own):
                    yield key

    # -- hooks ---------------------------------------------------------------------------------

    def register_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Calls `hook(module, prefix, keep_vars)` before the module's state is collected."""
        return add(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, local_metadata)` after the state is collected."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return add(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable) -> RemovableHandle:
        """The old form of `register_state_dict_post_hook`: a result replaces the dictionary."""
        check(
            not getattr(hook, "_from_public_api", False),
            "Cannot register the same function as the state dict post hook that was previously "
            "registered via register_state_dict_post_hook",
        )
        return add(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Calls `hook(module, state_dict, prefix, ...)` before loading; may change the dictionary.

        Further arguments are local_metadata, strict, missing_keys, unexpected_keys and error_msgs.
        """
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable, with_module: bool = False
    ) -> RemovableHandle:
        """The old form: the hook does not get the module unless `with_module`."""
        return add(
            self._load_state_dict_pre_hooks, functools.partial(hook, self) if with_module else hook
        )

    def register_load_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """Calls `hook(module, incompatible_keys)` after loading; it may change the lists."""
        return add(self._load_state_dict_post_hooks, hook)


class Loading:
    """One call of `load_state_dict`: what was found, and the copies that wait for checks."""

    def __init__(self, state_dict: Mapping[str, Any], assign: bool) -> None:
        self.metadata = getattr(state_dict, "_metadata", None) or {}
        self.assign = assign
        self.keys = _IncompatibleKeys([], [])
        self.errors: list[str] = []
        self.copies: list[Callable] = []
        self.post_hooks: list[tuple[Any, Callable]] = []

    def visit(self, module: Any, state_dict: dict[str, Any], prefix: str) -> None:
        """Compares a module and its children with their part of the dictionary."""
        local = dict(self.metadata.get(prefix[:-1], {}))
        if self.assign:
            local["assign_to_params_buffers"] = True
        local[PENDING] = self.copies
        missing, unexpected = self.keys
        module._load_from_state_dict(
            state_dict, prefix, local, True, missing, unexpected, self.errors
        )
        for name, child in module._modules.items():
            if child is not None:
                start = f"{prefix}{name}."
                part = {k: v for k, v in state_dict.items() if k.startswith(start)}
                self.visit(child, part, start)
        self.post_hooks += [(module, h) for h in module._load_state_dict_post_hooks.values()]

    def copy(self) -> None:
        """Does what the modules asked for."""
        for copy in self.copies:
            copy()

    def run_post_hooks(self) -> None:
        """Calls the hooks, children before parents."""
        for module, hook in self.post_hooks:
            check(
                hook(module, self.keys) is None,
                "Hooks registered with ``register_load_state_dict_post_hook`` are not expected "
                "to return new values, if incompatible_keys need to be modified, it should be "
                "done inplace.",
            )

    def messages(self, strict: bool) -> list[str]:
        """Everything that does not fit."""
        found = []
        for what, keys in (
            ("Missing", self.keys.missing_keys),
            ("Unexpected", self.keys.unexpected_keys),
        ):
            if strict and keys:
                names = ", ".join(f'"{k}"' for k in keys)
                found.append(f"{what} key(s) in state_dict: {names}. ")
        return found + self.errors


def fitting(key: str, target: Tensor, source: Any) -> tuple[str, Any]:
    """(what is wrong with loading `source`, or "", the source as it is to be loaded)."""
    if not isinstance(source, Tensor):
        return (
            f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like '
            f"object from checkpoint but received {type(source)}"
        ), None
    if is_lazy(target):
        return "", source
    if is_lazy(source):
        return (
            f"size mismatch for {key}: the checkpoint was saved before this parameter had a shape.",
            None,
        )
    if target.ndim == 0 and source.shape == (1,):  # before 0-dim tensors existed
        source = source[0]
    if source.shape != target.shape:
        return (
            f"size mismatch for {key}: copying a param with shape {source.shape} from checkpoint, "
            f"the shape in current model is {target.shape}."
        ), None
    return "", source


def copy_one(module: Any, name: str, target: Tensor, source: Tensor) -> None:
    """Writes the values of `source` into the module's own tensor, which takes its shape if it had
    none.
    """
    with no_grad():
        if is_lazy(target):
            target.materialize(source.shape)  # type: ignore[attr-defined]
        target.copy_(source)


def assign_one(module: Any, name: str, target: Tensor, source: Tensor) -> None:
    """Puts `source` itself in the place of the module's tensor."""
    if isinstance(target, Parameter):
        if isinstance(source, Parameter):
            source.requires_grad_(target.requires_grad)
        else:
            source = Parameter(source, requires_grad=target.requires_grad)
    setattr(module, name, source)


def consume_prefix_in_state_dict_if_present(state_dict: dict[str, Any], prefix: str) -> None:
    """Takes `prefix` off the keys of a state_dict, in place; e.g. the "module." of a DataParallel
    model.
    """
    for key in list(state_dict):
        if key.startswith(prefix):
            state_dict[key[len(prefix) :]] = state_dict.pop(key)
    metadata = getattr(state_dict, "_metadata", {})
    for key in list(metadata):
        if key and f"{key}.".startswith(prefix):
            metadata[key[len(prefix) :]] = metadata.pop(key)
