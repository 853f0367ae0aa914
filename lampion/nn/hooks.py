"""Hooks of modules: who is told when a module runs forward or backward. May import core.

`Hooked` registers hooks and runs them around `forward`; `BackwardHook` puts identity nodes around a
module's inputs and outputs, so that full backward hooks see the gradients of just these. The
dictionaries and the order of calls are PyTorch's.
"""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.dispatch import apply
from ..core.graph import STATE
from ..core.hooks import RemovableHandle
from ..core.memory import Storage
from ..core.op import TENSOR_NAMES, Op
from ..core.tensor import Tensor
from ..errors import check


class CallHook(NamedTuple):
    """A hook around calls of modules."""

    kind: str  # "forward", "forward_pre", "backward_pre", "backward" or "old_backward"
    hook: Callable
    with_kwargs: bool = False
    always_call: bool = False


class GlobalHooks:
    """Hooks of every module: around calls, and where something is registered."""

    def __init__(self) -> None:
        self.calls: OrderedDict[int, CallHook] = OrderedDict()
        self.buffer_registration: OrderedDict[int, Callable] = OrderedDict()
        self.module_registration: OrderedDict[int, Callable] = OrderedDict()
        self.parameter_registration: OrderedDict[int, Callable] = OrderedDict()

    def of_kind(self, kind: str) -> list[Callable]:
        """The hooks of a kind in the order of their registration."""
        return [g.hook for g in self.calls.values() if g.kind == kind]


GLOBAL = GlobalHooks()


def add(hooks: dict, hook: Any, *flags: dict, prepend: bool = False) -> RemovableHandle:
    """Registers a hook, at the front if asked to, and marks it in each dictionary of `flags`."""
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    for flag in flags:
        flag[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]
    return handle


MIXED = (
    "Cannot use both regular backward hooks and full backward hooks {}. "
    "Please use only one of them."
)


# -- for all modules ---------------------------------------------------------------------------


def register_module_buffer_registration_hook(hook: Callable) -> RemovableHandle:
    """Calls `hook(module, name, buffer)` whenever a module gets a buffer; a result replaces the
    buffer.
    """
    return add(GLOBAL.buffer_registration, hook)


def register_module_module_registration_hook(hook: Callable) -> RemovableHandle:
    """Calls `hook(module, name, submodule)` whenever a module gets a child; a result replaces the
    child.
    """
    return add(GLOBAL.module_registration, hook)


def register_module_parameter_registration_hook(hook: Callable) -> RemovableHandle:
    """Calls `hook(module, name, parameter)` whenever a module gets a parameter; a result replaces
    it.
    """
    return add(GLOBAL.parameter_registration, hook)


def register_module_forward_pre_hook(hook: Callable) -> RemovableHandle:
    """Calls `hook(module, args)` before every module's forward; see
    `Module.register_forward_pre_hook`.
    """
    return add(GLOBAL.calls, CallHook("forward_pre", hook))


def register_module_forward_hook(
    hook: Callable, *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """Calls `hook(module, args, output)` after every module's forward; see
    `Module.register_forward_hook`.
    """
    return add(GLOBAL.calls, CallHook("forward", hook, with_kwargs, always_call))


def register_module_full_backward_pre_hook(hook: Callable) -> RemovableHandle:
    """Calls `hook(module, grad_output)` before every module's backward."""
    return add(GLOBAL.calls, CallHook("backward_pre", hook))


def register_module_full_backward_hook(hook: Callable) -> RemovableHandle:
    """Calls `hook(module, grad_input, grad_output)` after every module's backward."""
    check(not GLOBAL.of_kind("old_backward"), MIXED.format("as a global Module hook"))
    return add(GLOBAL.calls, CallHook("backward", hook))


def register_module_backward_hook(hook: Callable) -> RemovableHandle:
    """The old form of `register_module_full_backward_hook`: sees the last operator of the module
    only.
    """
    check(not GLOBAL.of_kind("backward"), MIXED.format("as a global Module hook"))
    return add(GLOBAL.calls, CallHook("old_backward", hook))


# -- one module --------------------------------------------------------------------------------


class Hooked:
    """Registration of a module's own hooks, and the call that runs them."""

    _forward_hooks: OrderedDict
    _forward_hooks_with_kwargs: OrderedDict
    _forward_hooks_always_called: OrderedDict
    _forward_pre_hooks: OrderedDict
    _forward_pre_hooks_with_kwargs: OrderedDict
    _backward_hooks: OrderedDict
    _backward_pre_hooks: OrderedDict
    _is_full_backward_hook: bool | None
    forward: Callable[..., Any]

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, args)` before `forward`; what it returns replaces the arguments.

        With `with_kwargs`: `hook(module, args, kwargs)`, which returns None or `(args, kwargs)`.
        """
        flags = [self._forward_pre_hooks_with_kwargs] * with_kwargs
        return add(self._forward_pre_hooks, hook, *flags, prepend=prepend)

    def register_forward_hook(
        self,
        hook: Callable,
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Calls `hook(module, args, output)` after `forward`; what it returns replaces the output.

        With `with_kwargs`: `hook(module, args, kwargs, output)`. With `always_call` it runs even
        when `forward` raises; its output is None then.

        >>> net, shapes = torch.nn.Linear(2, 3), []
        >>> handle = net.register_forward_hook(lambda m, args, output: shapes.append(output.shape))
        >>> _ = net(torch.ones(1, 2))
        >>> shapes
        [torch.Size([1, 3])]
        >>> handle.remove()
        """
        flags = [self._forward_hooks_with_kwargs] * with_kwargs
        flags += [self._forward_hooks_always_called] * always_call
        return add(self._forward_hooks, hook, *flags, prepend=prepend)

    def register_full_backward_pre_hook(
        self, hook: Callable, prepend: bool = False
    ) -> RemovableHandle:
        """Calls `hook(module, grad_output)` before the module's backward; a result replaces
        `grad_output`.
        """
        return add(self._backward_pre_hooks, hook, prepend=prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """Calls `hook(module, grad_input, grad_output)` when the gradients of the module's inputs
        are known.

        Both are tuples, None for what is no tensor. A returned tuple replaces `grad_input`.
        """
        check(self._is_full_backward_hook is not False, MIXED.format("on a single Module"))
        self._is_full_backward_hook = True
        return add(self._backward_hooks, hook, prepend=prepend)

    def register_backward_hook(self, hook: Callable) -> RemovableHandle:
        """The old form of `register_full_backward_hook`: sees the last operator only."""
        check(self._is_full_backward_hook is not True, MIXED.format("on a single Module"))
        self._is_full_backward_hook = False
        return add(self._backward_hooks, hook)

    def _call_with_hooks(self, args: tuple, kwargs: dict) -> Any:
        """`forward` with all hooks around it; those that must always run do so after an error."""
        called: set[int] = set()
        try:
            return self._run_with_hooks(args, kwargs, called)
        except Exception:
            self._run_always_called(args, kwargs, called)
            raise

    def _run_with_hooks(self, args: tuple, kwargs: dict, called: set[int]) -> Any:
        own, is_full = self._backward_hooks.values(), self._is_full_backward_hook
        full = [*GLOBAL.of_kind("backward"), *(own if is_full else ())]
        old = [*GLOBAL.of_kind("old_backward"), *(own if is_full is False else ())]
        before = [*GLOBAL.of_kind("backward_pre"), *self._backward_pre_hooks.values()]
        args, kwargs = self._run_forward_pre_hooks(args, kwargs)
        watch = BackwardHook(self, full, before) if full or before else None
        if watch:
            args = watch.wrap_inputs(args)
        result = self._run_forward_hooks(args, kwargs, self.forward(*args, **kwargs), called)
        if watch:
            result = watch.wrap_outputs(result)
        if old:
            register_on_node(self, old, result)
        return result

    def _run_forward_pre_hooks(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        with_kwargs = self._forward_pre_hooks_with_kwargs
        every = [(None, hook) for hook in GLOBAL.of_kind("forward_pre")]
        for key, hook in [*every, *self._forward_pre_hooks.items()]:
            if key in with_kwargs:
                new = hook(self, args, kwargs)
                if new is not None:
                    if not (isinstance(new, tuple) and len(new) == 2):
                        raise RuntimeError(
                            "forward pre-hook must return None or a tuple of (new_args, "
                            f"new_kwargs), but got {new}."
                        )
                    args, kwargs = new
            else:
                new = hook(self, args)
                if new is not None:
                    args = new if isinstance(new, tuple) else (new,)
        return args, kwargs

    def _forward_hook_calls(self) -> list[tuple[int, CallHook]]:
        """(id, hook) of every forward hook, in the order of the calls."""
        with_kwargs, always = self._forward_hooks_with_kwargs, self._forward_hooks_always_called
        own = [
            (key, CallHook("forward", hook, key in with_kwargs, key in always))
            for key, hook in self._forward_hooks.items()
        ]
        return [(key, g) for key, g in GLOBAL.calls.items() if g.kind == "forward"] + own

    def _run_forward_hooks(self, args: tuple, kwargs: dict, result: Any, called: set[int]) -> Any:
        for key, (_, hook, with_kwargs, _) in self._forward_hook_calls():
            called.add(key)
            new = hook(self, args, kwargs, result) if with_kwargs else hook(self, args, result)
            if new is not None:
                result = new
        return result

    def _run_always_called(self, args: tuple, kwargs: dict, called: set[int]) -> None:
        """After an error: the hooks that asked for it; their own errors become warnings."""
        for key, (_, hook, with_kwargs, always) in self._forward_hook_calls():
            if not always or key in called:
                continue
            try:
                hook(self, args, kwargs, None) if with_kwargs else hook(self, args, None)
            except Exception as error:
                warnings.warn(
                    "module forward hook with ``always_call=True`` raised an exception that was "
                    f"silenced as another error was raised in forward: {error}",
                    stacklevel=2,
                )


# -- backward hooks ----------------------------------------------------------------------------


@functools.cache
def identity(count: int) -> Op:
    """The operator that hands `count` tensors on, and their gradients to `hook` on the way back."""

    def kernel(*arrays: Any, hook: Callable) -> Any:
        return arrays if count > 1 else arrays[0]

    def vjp(g: Any, hook: Callable) -> Any:
        return hook(list(g) if count > 1 else [g])

    def batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
        outs = apply(op, *values, **params)
        return (outs, tuple(dims)) if count > 1 else (outs, dims[0])

    return Op(
        f"backward_hook_{count}",
        tuple(f"x{i}" for i in range(count)),
        kernel,
        vjp=vjp,
        batch=batch,
        outputs=tuple(f"y{i}" for i in range(count)),
        grad_name="BackwardHookFunctionBackward",
    )


def pass_through(tensors: list[Tensor], hook: Callable) -> list[Tensor]:
    """The same values with `hook(gradients) -> gradients` in their way back; they share their
    storages.
    """
    outs = apply(identity(len(tensors)), *tensors, hook=hook)
    outs = outs if isinstance(outs, tuple) else (outs,)
    for t, out in zip(tensors, outs, strict=True):
        if t._storage is None:
            t._storage = Storage()
        out._storage = t._storage
    return list(outs)


class BackwardHook:
    """The full backward hooks of one call of a module.

    The node around the outputs runs first and keeps their gradients for the node around the inputs,
    which has those of the inputs and calls the user's hooks.
    """

    def __init__(self, module: Any, hooks: list[Callable], pre_hooks: list[Callable]) -> None:
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.inputs: tuple = ()
        self.outputs: tuple = ()
        self.grad_outputs: tuple | None = None
        self.inputs_watched = False

    def wrap_inputs(self, args: tuple) -> tuple:
        """The arguments with their differentiable tensors behind the node of the inputs."""
        self.inputs = args
        wrapped = self.wrap(args, self.inputs_done)
        self.inputs_watched = wrapped is not args
        return wrapped

    def wrap_outputs(self, result: Any) -> Any:
        """The module's result with its differentiable tensors behind the node of the outputs."""
        if not isinstance(result, (Tensor, tuple)):
            warnings.warn(
                "For backward hooks to be called, module output should be a Tensor or a tuple of "
                f"Tensors but received {type(result)}",
                stacklevel=5,
            )
            return result
        self.outputs = result if isinstance(result, tuple) else (result,)
        wrapped = self.wrap(self.outputs, self.outputs_done)
        if not isinstance(result, tuple):
            return wrapped[0]
        return type(result)(*wrapped) if hasattr(result, "_fields") else wrapped

    def wrap(self, values: tuple, hook: Callable) -> tuple:
        places = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v._requires_grad]
        if not places or not STATE.grad:
            return values
        wrapped = list(values)
        for i, t in zip(
            places, pass_through([values[i] for i in places], self.at(places, hook)), strict=True
        ):
            wrapped[i] = t
        return tuple(wrapped)

    def at(self, places: list[int], hook: Callable) -> Callable:
        """`hook` on all values, for a node that knows only those at `places`."""

        def watch(grads: list) -> tuple:
            new = hook(dict(zip(places, grads, strict=True)))
            return tuple(new[i] for i in places)

        return watch

    def outputs_done(self, grads: dict[int, Tensor]) -> tuple:
        """The gradients of the outputs are known: runs the pre-hooks."""
        found: tuple = tuple(grads.get(i) for i in range(len(self.outputs)))
        for hook in self.pre_hooks:
            new = hook(self.module, found)
            if new is not None:
                new = new if isinstance(new, tuple) else (new,)
                check_count("Backward pre hook", "grad_output", new, found)
                found = new
        self.grad_outputs = found
        if not self.inputs_watched:
            self.finish_without_inputs()
        return found

    def finish_without_inputs(self) -> None:
        """No input requires a gradient: the hooks run once those of the outputs are known."""
        warnings.warn(
            "Full backward hook is firing when gradients are computed with respect to module "
            "outputs since no inputs require gradients.",
            stacklevel=2,
        )
        for hook in self.hooks:
            new = hook(self.module, (None,) * len(self.inputs), self.grad_outputs)
            check(
                new is None or (isinstance(new, tuple) and all(g is None for g in new)),
                "Backward hook for Modules where no input requires gradient should always return "
                "None or None for all gradients.",
            )
        self.grad_outputs = None

    def inputs_done(self, grads: dict[int, Tensor]) -> tuple:
        """The gradients of the inputs are known: runs the user's hooks."""
        zeros_like = TENSOR_NAMES["zeros_like"]
        found: tuple = tuple(
            None if not isinstance(x, Tensor) or not x.is_floating_point()
            else zeros_like(x.detach()) if grads.get(i) is None else grads[i]
            for i, x in enumerate(self.inputs)
        )  # fmt: skip
        if self.grad_outputs is None:  # the gradient came to the inputs by another way
            return found
        for hook in self.hooks:
            new = hook(self.module, found, self.grad_outputs)
            if new is not None:
                new = new if isinstance(new, tuple) else (new,)
                check_count("Backward hook", "grad_input", new, found)
                found = new
        self.grad_outputs = None
        return found


def check_count(who: str, what: str, new: tuple, old: tuple) -> None:
    """Raises RuntimeError unless a hook returned as many gradients as it was given."""
    check(
        len(new) == len(old),
        lambda: (
            f"{who} returned an invalid number of {what}, got {len(new)}, but expected {len(old)}"
        ),
    )


def register_on_node(module: Any, hooks: list[Callable], result: Any) -> None:
    """Old backward hooks: on the node that made the first tensor of the result."""
    while not isinstance(result, Tensor):
        values = result.values() if isinstance(result, dict) else result
        result = next(v for v in values if isinstance(v, Tensor) or not isinstance(result, dict))
    if result.grad_fn is not None:
        for hook in hooks:
            result.grad_fn.register_hook(functools.partial(hook, module))
