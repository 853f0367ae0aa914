"""Hooks on tensors and nodes, and the ends of the graph as the user sees them. May import tensor,
graph and op.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import ref

from ..errors import check
from . import changes
from .graph import Node
from .tensor import Tensor


def run_tensor_hooks(hooks: dict, g: Tensor) -> Tensor:
    """Each hook sees the gradient and may return another in its place."""
    for hook in list(hooks.values()):
        new = hook(g)
        if new is not None:
            check(
                isinstance(new, Tensor),
                lambda: (
                    f"hook '{hook.__name__}' has changed the type of value (was Tensor got "
                    f"{type(new)})"
                ),
                TypeError,
            )
            g = new
    return g


def run_pre_hooks(node: Node, g: Any) -> Any:
    """Hooks of the tensor that the node made, `retain_grad`, then the node's pre-hooks."""
    if node.tensor_hooks:
        g = run_tensor_hooks(node.tensor_hooks, g)
    if node.retained is not None:
        owner = node.retained()
        if owner is not None:
            owner._grad = g if owner._grad is None else owner._grad + g
    for hook in list((node.pre_hooks or {}).values()):
        new = hook(tuple(g) if isinstance(g, list) else (g,))
        if new is not None:
            new = new if isinstance(new, tuple) else (new,)
            g = list(new) if isinstance(g, list) else new[0]
    return g


def run_hooks(node: Node, grads: Any, g: Any) -> list:
    """Hooks on the node see (gradients of inputs, gradients of outputs)
    and may replace the former.
    """
    given = tuple(g) if isinstance(g, list) else (g,)
    for hook in list((node.hooks or {}).values()):
        new = hook(tuple(grads), given)
        if new is not None:
            grads = new if isinstance(new, tuple) else (new,)
    return list(grads)


hook_ids = count()


def add_hook(owner: Any, place: str, hook: Callable) -> RemovableHandle:
    """Registers a hook in the dictionary `place` of a node or tensor."""
    hooks = getattr(owner, place)
    if hooks is None:
        hooks = {}
        setattr(owner, place, hooks)
    if isinstance(owner, Node):
        owner.watched = True
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


class RemovableHandle:
    """Returned by every `register_*hook`; `remove()` takes the hook away.
    Also a context manager.
    """

    def __init__(self, hooks: dict) -> None:
        self.hooks, self.id = hooks, next(hook_ids)
        changes.note()

    def remove(self) -> None:
        """Takes the hook away; a second call does nothing."""
        self.hooks.pop(self.id, None)
        changes.note()

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def register_hook(self: Tensor, hook: Callable) -> RemovableHandle:
    """Calls `hook(grad)` whenever this tensor's gradient is computed;
    what it returns replaces the gradient.
    """
    check(self._requires_grad, "cannot register a hook on a tensor that doesn't require gradient")
    if self.grad_fn is None:
        return add_hook(self, "_hooks", hook)
    return add_hook(self.grad_fn, "tensor_hooks", hook)


def register_post_accumulate_grad_hook(self: Tensor, hook: Callable) -> RemovableHandle:
    """Calls `hook(tensor)` after a gradient has been added to the leaf's `.grad`."""
    check(
        self.is_leaf and self._requires_grad,
        "post accumulate grad hooks cannot be registered on non-leaf tensors or tensors without "
        "requires_grad",
    )
    return add_hook(self, "_post_hooks", hook)


def retain_grad(self: Tensor) -> None:
    """Keeps the gradient of a non-leaf tensor in its `.grad` when it is computed."""
    check(self._requires_grad, "can't retain_grad on Tensor that has requires_grad=False")
    if self.grad_fn is not None:
        self._retains_grad = True
        self.grad_fn.retained, self.grad_fn.watched = ref(self), True


Tensor.register_hook = register_hook
Tensor.register_post_accumulate_grad_hook = register_post_accumulate_grad_hook
Tensor.retain_grad = retain_grad


class AccumulateGrad:
    """The end of a path through the graph: the leaf whose `.grad` receives what flows there."""

    next_functions: tuple = ()

    def __init__(self, variable: Tensor) -> None:
        self.variable = variable

    def name(self) -> str:
        """The node's name, as PyTorch gives it."""
        return "torch::autograd::AccumulateGrad"

    def register_hook(self, hook: Callable) -> RemovableHandle:
        """Calls `hook(grad_inputs, grad_outputs)` after the gradient was accumulated."""
        return add_hook(self.variable, "_post_hooks", lambda leaf: hook((), (leaf.grad,)) and None)

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {hex(id(self.variable))}>"


def next_functions(node: Node) -> tuple:
    """The nodes that the gradients flow on to, as pairs (node, output number);
    None where none is wanted.
    """
    edges = iter(node.edges)
    wanted = set(node.targets)
    found: list = []
    for i in range(max(wanted, default=-1) + 1):
        e = next(edges) if i in wanted else None
        if isinstance(e, Tensor):
            e = e.__dict__.setdefault("_accumulator", AccumulateGrad(e))
        found.append((e, getattr(e, "index", 0)))
    return tuple(found)


Node.next_functions = property(next_functions)  # type: ignore[attr-defined]
Node.register_hook = lambda self, hook: add_hook(self, "hooks", hook)  # type: ignore[attr-defined]
Node.register_prehook = lambda self, hook: add_hook(self, "pre_hooks", hook)  # type: ignore[attr-defined]
