"""`Module`: what all layers and models are made of. May import core, and compiler on demand.

A module owns parameters, buffers and other modules under names, calls `forward`, and can be walked,
converted, saved and printed. Hooks are in `hooks`, saving in `state`, walking in `tree`, error
messages in `located`. Names, order and messages are PyTorch's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from typing import Any, Self

from .. import dtypes
from ..core import changes
from ..core.tensor import Tensor
from ..device import device, usable
from ..errors import check
from .hooks import GLOBAL, Hooked
from .located import locate
from .names import torch
from .parameter import Buffer, Parameter, check_parameter, typename
from .state import Stateful
from .tree import Tree


class Module(Tree, Hooked, Stateful):
    """The base of layers and models: assign parameters and modules, define `forward`.

    >>> class Net(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc1 = torch.nn.Linear(4, 3)
    ...
    ...     def forward(self, x):
    ...         return self.fc1(x)
    >>> net = Net()
    >>> net(torch.ones(2, 4)).shape
    torch.Size([2, 3])
    >>> [name for name, _ in net.named_parameters()]
    ['fc1.weight', 'fc1.bias']
    """

    training: bool
    dump_patches = False
    _compiled_call_impl: Callable[..., Any] | None  # set by `compile`
    call_super_init = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init:
            name = f"{type(self).__name__}.__init__()"
            if kwargs:
                raise TypeError(f"{name} got an unexpected keyword argument '{next(iter(kwargs))}'")
            if args:
                raise TypeError(
                    f"{name} takes 1 positional argument but {len(args) + 1} were given"
                )
        self.__dict__.update(fresh_state())
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(fresh_state())
        self.__dict__.update(state)

    # -- calling -------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            if (
                self._forward_hooks
                or self._forward_pre_hooks
                or self._backward_hooks
                or self._backward_pre_hooks
                or GLOBAL.calls
                or self._compiled_call_impl
            ):
                return (self._compiled_call_impl or self._call_impl)(*args, **kwargs)
            return self.forward(*args, **kwargs)
        except Exception as error:
            locate(error)
            raise

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """A call as it is, hooks included."""
        return self._call_with_hooks(args, kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Has calls of this module run compiled: with the arguments of `torch.compile`, in place.
        Copies of the module run as they are.
        """
        compile = import_module("lampion.compiler").compile
        self._compiled_call_impl = compile(self._call_impl, *args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_compiled_call_impl"}

    def _forward_missing(self, *input: Any) -> Any:
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    forward: Callable[..., Any] = _forward_missing

    # -- attributes ----------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if "_parameters" in own:
            for table in (own["_parameters"], own["_buffers"], own["_modules"]):
                if name in table:
                    return table[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        changes.note()
        own = self.__dict__
        if isinstance(value, Parameter):
            self._register(name, value)
        elif name in own.get("_parameters", ()):
            check_assigned(value is None, value, f"parameter '{name}' (torch.nn.Parameter")
            own["_parameters"][name] = announce(GLOBAL.parameter_registration, self, name, value)
        elif isinstance(value, Module):
            self._register(name, value)
        elif name in own.get("_modules", ()):
            check_assigned(value is None, value, f"child module '{name}' (torch.nn.Module")
            own["_modules"][name] = announce(GLOBAL.module_registration, self, name, value)
        elif isinstance(value, Buffer):
            self._register(name, value)
        elif name in own.get("_buffers", ()):
            fits = value is None or isinstance(value, Tensor)
            check_assigned(fits, value, f"buffer '{name}' (torch.nn.Buffer, torch.Tensor")
            own["_buffers"][name] = announce(GLOBAL.buffer_registration, self, name, value)
        else:
            object.__setattr__(self, name, value)

    def _register(self, name: str, value: Any) -> None:
        """Makes a parameter, module or buffer the one thing that goes by a name."""
        own = self.__dict__
        what = "parameter" if isinstance(value, Parameter) else "buffer"
        what = "module" if isinstance(value, Module) else what
        table = f"_{what}s"
        if table not in own:
            plural = "parameters" if what == "parameter" else what
            raise AttributeError(f"cannot assign {plural} before Module.__init__() call")
        own.pop(name, None)
        for other in ("_parameters", "_buffers", "_modules"):
            if other != table:
                own[other].pop(name, None)
        own["_non_persistent_buffers_set"].discard(name)
        if what == "module":
            own["_modules"][name] = announce(GLOBAL.module_registration, self, name, value)
        elif what == "parameter":
            self.register_parameter(name, value)
        else:
            self.register_buffer(name, value, value.persistent)

    def __delattr__(self, name: str) -> None:
        changes.note()
        for table in (self._parameters, self._buffers, self._modules):
            if name in table:
                del table[name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        own = {*dir(type(self)), *self.__dict__, *self._parameters, *self._modules, *self._buffers}
        return sorted(name for name in own if not name[0].isdigit())

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Adds a parameter under a free name; None keeps the name for one that is absent."""
        self._check_name("parameter", name, self.__dict__.get("_parameters"))
        if param is not None:
            check_parameter(param, name)
        self._parameters[name] = announce(GLOBAL.parameter_registration, self, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Adds a tensor that moves with the module; it is in `state_dict` if `persistent`.

        >>> module = torch.nn.Module()
        >>> module.register_buffer("steps", torch.zeros(1), persistent=False)
        >>> module.steps, list(module.state_dict())
        (tensor([0.]), [])
        """
        self._check_name("buffer", name, self.__dict__.get("_buffers"))
        check(
            tensor is None or isinstance(tensor, Tensor),
            lambda: (
                f"cannot assign '{typename(tensor)}' object to buffer '{name}' (torch Tensor or "
                "None required)"
            ),
            TypeError,
        )
        self._buffers[name] = announce(GLOBAL.buffer_registration, self, name, tensor)
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Adds a child under a name that is still free."""
        check(
            module is None or isinstance(module, Module),
            lambda: f"{typename(module)} is not a Module subclass",
            TypeError,
        )
        self._check_name("module", name, self.__dict__.get("_modules"))
        self._modules[name] = announce(GLOBAL.module_registration, self, name, module)

    def register_module(self, name: str, module: Module | None) -> None:
        """Another name of `add_module`."""
        self.add_module(name, module)

    def _check_name(self, what: str, name: str, table: dict | None) -> None:
        """Raises unless `name` can be an attribute and is free, or is in `table` already."""
        check(
            table is not None, f"cannot assign {what} before Module.__init__() call", AttributeError
        )
        check(
            isinstance(name, str),
            lambda: f"{what} name should be a string. Got {typename(name)}",
            TypeError,
        )
        got = f", got: {name}" if what == "module" else ""
        check("." not in name, f'{what} name can\'t contain "."{got}', KeyError)
        check(name != "", f'{what} name can\'t be empty string ""', KeyError)
        free = name in table or not hasattr(self, name)  # type: ignore[operator]
        check(free, lambda: f"attribute '{name}' already exists", KeyError)

    # -- converting ----------------------------------------------------------------------------

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Applies `fn` to the memory of every parameter, its gradient, and every buffer."""
        changes.note()
        if recurse:
            for child in self.children():
                child._apply(fn)
        for param in self._parameters.values():
            if param is None:
                continue
            param.data = fn(param.data)
            if param.grad is not None:
                grad, param.grad = param.grad, None
                grad.data = fn(grad.data)
                param.grad = grad
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = fn(buffer)
        return self

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Moves and casts in place: `to(device)`, `to(dtype)`, `to(device, dtype)`, `to(tensor)`.

        Only floating-point and complex tensors are cast. Returns the module.

        >>> torch.nn.Linear(1, 1).to(torch.float64).weight.dtype
        torch.float64
        """
        where, kind = parse_to(*args, **kwargs)
        check(
            kind is None or kind.is_floating_point or kind.is_complex,
            lambda: (
                "nn.Module.to only accepts floating point or complex dtypes, but got desired "
                f"dtype={kind}"
            ),
            TypeError,
        )
        usable(where)
        return self if kind is None else self._cast(kind)

    def _cast(self, kind: dtypes.dtype) -> Self:
        return self._apply(lambda t: t.to(kind) if t.is_floating_point() or t.is_complex() else t)

    def type(self, dst_type: dtypes.dtype | str) -> Self:
        """Casts every parameter and buffer, also those of integers, to a type."""
        return self._apply(lambda t: t.type(dst_type))

    def float(self) -> Self:
        """Casts floating-point parameters and buffers to float32."""
        return self._cast_floats(dtypes.float32)

    def double(self) -> Self:
        """Casts floating-point parameters and buffers to float64."""
        return self._cast_floats(dtypes.float64)

    def half(self) -> Self:
        """Casts floating-point parameters and buffers to float16."""
        return self._cast_floats(dtypes.float16)

    def bfloat16(self) -> Self:
        """Casts floating-point parameters and buffers to bfloat16."""
        return self._cast_floats(dtypes.bfloat16)

    def _cast_floats(self, kind: dtypes.dtype) -> Self:
        return self._apply(lambda t: t.to(kind) if t.is_floating_point() else t)

    def cpu(self) -> Self:
        """Moves everything to the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Self:
        """Moves everything to a CUDA device; raises RuntimeError where there is none."""
        return self.to("cuda" if device is None else device)

    def to_empty(self, *, device: Any, recurse: bool = True) -> Self:
        """Moves everything to a device without copying the values."""
        usable(device)
        return self._apply(lambda t: torch.empty_like(t), recurse=recurse)

    def share_memory(self) -> Self:
        """Puts parameters and buffers where other processes can see them."""
        return self._apply(lambda t: t.share_memory_())

    # -- modes ---------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Sets `training` here and in all submodules: dropout and batch norm behave by it."""
        check(isinstance(mode, bool), "training mode is expected to be boolean", ValueError)
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """The same as `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Asks for gradients of all parameters, or freezes them."""
        for param in self.parameters():
            param.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of all parameters; with `set_to_none=False` sets them to zero."""
        for param in self.parameters():
            if set_to_none:
                param.grad = None
            elif param.grad is not None:
                param.grad = param.grad.detach() if param.grad.grad_fn else param.grad
                param.grad.requires_grad_(False)
                param.grad.zero_()

    # -- printing ------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return self.__class__.__name__

    def extra_repr(self) -> str:
        """What `repr` prints between the parentheses; layers override it."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        extra_lines = extra.split("\n") if extra else []
        children = [f"({name}): {indent(repr(m))}" for name, m in self._modules.items()]
        lines = extra_lines + children
        if not children and len(extra_lines) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


def fresh_state() -> dict[str, Any]:
    """The attributes of a new module: no parameters, no children, no hooks."""
    return {
        "training": True,
        "_parameters": {},
        "_buffers": {},
        "_non_persistent_buffers_set": set(),
        "_backward_pre_hooks": OrderedDict(),
        "_backward_hooks": OrderedDict(),
        "_is_full_backward_hook": None,
        "_compiled_call_impl": None,
        "_forward_hooks": OrderedDict(),
        "_forward_hooks_with_kwargs": OrderedDict(),
        "_forward_hooks_always_called": OrderedDict(),
        "_forward_pre_hooks": OrderedDict(),
        "_forward_pre_hooks_with_kwargs": OrderedDict(),
        "_state_dict_hooks": OrderedDict(),
        "_state_dict_pre_hooks": OrderedDict(),
        "_load_state_dict_pre_hooks": OrderedDict(),
        "_load_state_dict_post_hooks": OrderedDict(),
        "_modules": {},
    }


def announce(hooks: dict, module: Module, name: str, value: Any) -> Any:
    """What global registration hooks make of a value that a module gets."""
    for hook in hooks.values():
        new = hook(module, name, value)
        if new is not None:
            value = new
    return value


def check_assigned(fits: bool, value: Any, role: str) -> None:
    """Raises TypeError for a value that cannot take a registered name."""
    check(fits, lambda: f"cannot assign '{typename(value)}' as {role} or None expected)", TypeError)


def parse_to(*args: Any, **kwargs: Any) -> tuple[device | None, dtypes.dtype | None]:
    """The device and type that the arguments of `to` ask for."""
    where, kind = kwargs.get("device"), kwargs.get("dtype")
    for arg in (*args[:2], kwargs.get("tensor")):
        if isinstance(arg, Tensor):
            where, kind = arg.device, arg.dtype
        elif isinstance(arg, dtypes.dtype):
            kind = arg
        elif isinstance(arg, (str, device, int)) and not isinstance(arg, bool):
            where = arg
        elif arg is not None:
            raise TypeError(
                f"[to] expects a device, a dtype or a tensor, got {typename(arg)}; pass "
                "to(device), to(dtype), to(device, dtype) or to(tensor)"
            )
    return where if where is None else device(where), kind


def indent(text: str) -> str:
    """All lines but the first two columns to the right."""
    return text.replace("\n", "\n  ")
