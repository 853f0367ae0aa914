"""What every optimizer is: groups of parameters, state for each parameter, hooks, saving and
loading.

May import core and errors. The interface is PyTorch's `Optimizer`; an algorithm overrides `step`,
or derives from `rule.Rule`, which has the one step loop.
"""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from itertools import chain
from typing import Any, TypeAlias

from ..core.hooks import RemovableHandle
from ..core.tensor import Tensor
from ..dtypes import float32
from ..errors import check
from ..ops.compiled_calls import expect_training

ParamsT: TypeAlias = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]
StateDict: TypeAlias = dict[str, Any]

STEP_PRE_HOOKS: OrderedDict[int, Callable] = OrderedDict()  # of all optimizers
STEP_POST_HOOKS: OrderedDict[int, Callable] = OrderedDict()


class Required:
    """The default of an option that every group has to give."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = Required()


def add_hook(hooks: OrderedDict, hook: Callable, prepend: bool = False) -> RemovableHandle:
    """Registers a hook, at the front if asked to."""
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def register_optimizer_step_pre_hook(hook: Callable) -> RemovableHandle:
    """Calls `hook(optimizer, args, kwargs)` before every step of any optimizer."""
    return add_hook(STEP_PRE_HOOKS, hook)


def register_optimizer_step_post_hook(hook: Callable) -> RemovableHandle:
    """Calls `hook(optimizer, args, kwargs)` after every step of any optimizer."""
    return add_hook(STEP_POST_HOOKS, hook)


def with_hooks(step: Callable) -> Callable:
    """A `step` method that calls the hooks around it, and tells schedulers that it ran."""

    @functools.wraps(step)
    def hooked(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if type(self).step is not hooked:  # called by the step of a derived class
            return step(self, *args, **kwargs)
        if STEP_PRE_HOOKS or self._optimizer_step_pre_hooks:
            args, kwargs = run_pre_hooks(self, step, args, kwargs)
        out = step(self, *args, **kwargs)
        if STEP_POST_HOOKS or self._optimizer_step_post_hooks:
            hooks = chain(self._optimizer_step_post_hooks.values(), STEP_POST_HOOKS.values())
            for hook in list(hooks):
                hook(self, (self, *args), kwargs)
        if "_opt_called" in self.__dict__:  # a scheduler asks
            self._opt_called = True
        return out

    return hooked


def run_pre_hooks(optimizer: Optimizer, step: Callable, args: tuple, kwargs: dict) -> tuple:
    """The arguments of `step` after each pre-hook had the chance to return others."""
    args = (optimizer, *args)
    hooks = chain(STEP_PRE_HOOKS.values(), optimizer._optimizer_step_pre_hooks.values())
    for hook in list(hooks):
        result = hook(optimizer, args, kwargs)
        if result is None:
            continue
        check(
            isinstance(result, tuple) and len(result) == 2,
            f"{step} must return None or a tuple of (new_args, new_kwargs), but got {result}.",
        )
        args, kwargs = result
    return args[1:], kwargs


class Optimizer:
    """The base of all optimizers: holds parameters in groups, and the options of each group.

    `params` are tensors, pairs (name, tensor), or dictionaries with `"params"` and options of their
    own; `defaults` are the options of groups that give none. Raises ValueError for an empty list.
    """

    _optimizer_step_pre_hooks: OrderedDict[int, Callable]
    _optimizer_step_post_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_post_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_post_hooks: OrderedDict[int, Callable]
    _opt_called: bool  # there once a scheduler asked for it

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = with_hooks(cls.step)

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        expect_training()
        self.defaults = defaults
        self._add_hook_tables()
        check(
            isinstance(params, Iterable) and not isinstance(params, Tensor),
            lambda: (
                "params argument given to the optimizer should be an iterable of Tensors or dicts, "
                f"but got {type(params).__name__}; pass [tensor] or module.parameters()"
            ),
            TypeError,
        )
        self.state: defaultdict[Any, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups = list(params)
        check(len(groups) > 0, "optimizer got an empty parameter list", ValueError)
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)  # type: ignore[arg-type]

    def _add_hook_tables(self) -> None:
        for name in (n for n in Optimizer.__annotations__ if n.endswith("_hooks")):
            self.__dict__.setdefault(name, OrderedDict())

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("defaults", "state", "param_groups")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._add_hook_tables()
        self.defaults.setdefault("differentiable", False)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += [*([""] if i else []), f"Parameter Group {i}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    # -- steps ---------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters once; returns the loss of `closure`, which computes it and its
        gradients.
        """
        raise NotImplementedError(
            f"[{type(self).__name__}] has no step; override step(self, closure=None)"
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters, or fills them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:  # not looked at: a traced step does not depend on what was there
                    p.grad = None
                    continue
                if p.grad is None:
                    continue
                if p.grad.requires_grad:
                    p.grad = p.grad.detach()
                p.grad.zero_()

    # -- groups --------------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters with options of their own, e.g. layers that were frozen until now."""
        check(
            isinstance(param_group, dict),
            lambda: f"param_group must be a dict, but got {type(param_group)}",
            TypeError,
        )
        params = param_group["params"]
        check(
            not isinstance(params, set),
            "optimizer parameters need to be organized in ordered collections, but the ordering "
            "of tensors in sets will change between runs. Please use a list instead.",
            TypeError,
        )
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        param_group["params"] = params = [p[1] if isinstance(p, tuple) else p for p in params]
        if names:
            check(
                len(names) == len(params),
                "all optimizer params should be with/without names. Some param names are missing",
                ValueError,
            )
            param_group["param_names"] = names
        for p in params:
            self._check_parameter(p)
        self._fill_in_defaults(param_group)
        self._check_group(param_group)
        self.param_groups.append(param_group)

    def _check_parameter(self, p: Any) -> None:
        check(
            isinstance(p, Tensor),
            lambda: (
                f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}"
            ),
            TypeError,
        )
        trainable = self.defaults.get("differentiable") or p.is_leaf or p.retains_grad
        check(trainable, "can't optimize a non-leaf Tensor", ValueError)

    def _fill_in_defaults(self, param_group: dict[str, Any]) -> None:
        for name, default in self.defaults.items():
            check(
                default is not required or name in param_group,
                f"parameter group didn't specify a value of required optimization parameter {name}",
                ValueError,
            )
            param_group.setdefault(name, default)

    def _check_group(self, param_group: dict[str, Any]) -> None:
        """Raises ValueError for parameters that come twice, or names in some groups only."""
        params = set(param_group["params"])
        if len(params) != len(param_group["params"]):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this "
                "will cause an error; see github.com/pytorch/pytorch/issues/40967 for more "
                "information",
                stacklevel=4,
            )
        named = "param_names" in param_group
        check(
            all(named == ("param_names" in group) for group in self.param_groups),
            "all optimizer param groups should be with/without names. cannot add param group "
            f"{'with' if named else 'without'} names to the optimizer",
            ValueError,
        )
        check(
            params.isdisjoint(chain.from_iterable(group["params"] for group in self.param_groups)),
            "some parameters appear in more than one parameter group",
            ValueError,
        )

    # -- saving and loading --------------------------------------------------------------------

    def state_dict(self) -> StateDict:
        """The state and the groups, with numbers for the parameters: a dictionary to save."""
        for hook in list(self._optimizer_state_dict_pre_hooks.values()):
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        start = 0
        for group in self.param_groups:
            for i, p in enumerate(group["params"], start):
                numbers.setdefault(id(p), i)
            packed = {k: v for k, v in group.items() if k != "params"}
            packed["params"] = [numbers[id(p)] for p in group["params"]]
            groups.append(packed)
            start += len(group["params"])
        state = {numbers[id(k)] if isinstance(k, Tensor) else k: v for k, v in self.state.items()}
        packed_state: StateDict = {"state": state, "param_groups": groups}
        for hook in list(self._optimizer_state_dict_post_hooks.values()):
            result = hook(self, packed_state)
            packed_state = packed_state if result is None else result
        return packed_state

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Takes over what `state_dict` returned; parameters are matched by their place in the
        groups.

        Raises ValueError if the groups do not have the same sizes.
        """
        check(
            isinstance(state_dict, Mapping),
            lambda: (
                "[optimizer] load_state_dict expects what state_dict() returned, got "
                f"{type(state_dict).__name__}, which has no attribute 'copy'"
            ),
            AttributeError,
        )
        state_dict = state_dict.copy()
        for hook in list(self._optimizer_load_state_dict_pre_hooks.values()):
            result = hook(self, state_dict)
            state_dict = state_dict if result is None else result
        groups, saved_groups = self.param_groups, deepcopy(state_dict["param_groups"])
        check(
            len(groups) == len(saved_groups),
            "loaded state dict has a different number of parameter groups",
            ValueError,
        )
        pairs = list(zip(groups, saved_groups, strict=True))
        check(
            all(len(group["params"]) == len(saved["params"]) for group, saved in pairs),
            "loaded state dict contains a parameter group that doesn't match the size of "
            "optimizer's group",
            ValueError,
        )
        owners = {
            number: (p, saved)
            for group, saved in pairs
            for p, number in zip(group["params"], saved["params"], strict=True)
        }
        state: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in owners:
                state[owners[key][0]] = cast_state(value, *owners[key])
            else:
                state[key] = value
        for group, saved in pairs:
            if "param_names" in group:
                saved.setdefault("param_names", group["param_names"])
        param_groups = [{**saved, "params": group["params"]} for group, saved in pairs]
        self.__setstate__({"state": state, "param_groups": param_groups})
        for hook in list(self._optimizer_load_state_dict_post_hooks.values()):
            hook(self)

    # -- hooks ---------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook: Callable) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` before each step; may return other arguments."""
        return add_hook(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable) -> RemovableHandle:
        """Calls `hook(optimizer, args, kwargs)` after each step."""
        return add_hook(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer)` before `state_dict` reads the state."""
        return add_hook(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer, state_dict)` on what `state_dict` returns; may replace it."""
        return add_hook(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer, state_dict)` before loading; may return another state_dict."""
        return add_hook(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(optimizer)` after loading."""
        return add_hook(self._optimizer_load_state_dict_post_hooks, hook, prepend)


def cast_state(value: Any, p: Tensor, group: dict[str, Any], key: Any = None) -> Any:
    """Loaded state of the parameter `p`, in its dtype; step counts keep theirs."""
    if isinstance(value, Tensor):
        if key == "step":
            whole = group.get("capturable") or group.get("fused")
            return value.to(float32) if whole else value
        return value.to(p.dtype) if p.is_floating_point() else value
    if isinstance(value, dict):
        return {k: cast_state(v, p, group, k) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return type(value)(cast_state(v, p, group) for v in value)  # type: ignore[call-arg]
    return value
