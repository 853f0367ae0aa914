"""Looking at and changing what the graph keeps: `torch.autograd.graph`. May import core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.graph import Node as Node
from ..core.hooks import RemovableHandle as RemovableHandle
from ..core.memory import Storage
from ..core.modes import saved_tensors_hooks as saved_tensors_hooks
from ..core.tensor import Tensor


class save_on_cpu(saved_tensors_hooks):
    """Keeps saved tensors in the CPU's memory and brings them back to their device when used."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda t: (t.device, t.cpu()), lambda packed: packed[1].to(packed[0]))


def increment_version(tensors: Any) -> None:
    """Tells autograd that the tensors were changed in place by other means."""
    for t in [tensors] if isinstance(tensors, Tensor) else tensors:
        if t._storage is None:
            t._storage = Storage()
        t._storage.write("increment_version")


def get_gradient_edge(tensor: Tensor) -> tuple[Any, int]:
    """The node and output number that the tensor's gradient flows to."""
    return tensor.grad_fn, tensor.output_nr


def register_multi_grad_hook(tensors: Any, fn: Callable, *, mode: str = "all") -> RemovableHandle:
    """Calls `fn` with the gradients of all tensors once they are computed (mode="any":
    with the first).
    """
    tensors = list(tensors)
    found: dict[int, Any] = {}

    def make(i: int) -> Callable:
        def hook(g: Tensor) -> None:
            found[i] = g
            if mode == "any":
                if len(found) == 1:
                    fn(g)
            elif len(found) == len(tensors):
                fn([found[k] for k in range(len(tensors))])
                found.clear()

        return hook

    handles = [t.register_hook(make(i)) for i, t in enumerate(tensors)]

    class Handles(RemovableHandle):
        def __init__(self) -> None:
            super().__init__({})

        def remove(self) -> None:
            for h in handles:
                h.remove()

    return Handles()
