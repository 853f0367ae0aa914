"""Where gradients arrive: adding to `.grad` of a leaf. May import graph, hooks and tensor.

The first gradient is not copied where nobody but the engine holds its memory.
"""

from __future__ import annotations

import sys

from numpy import ndarray

from .graph import STATE
from .hooks import run_tensor_hooks
from .tensor import Tensor, wrap


def accumulate_grad(leaf: Tensor, g: Tensor, hooked: bool = False) -> None:
    """Adds to `.grad` of a leaf, taking the gradient's memory over where nobody else holds it."""
    if leaf._hooks and not hooked:
        g = run_tensor_hooks(leaf._hooks, g)
    before = leaf._grad
    if before is None:
        if not is_ours(g):
            leaf._grad = g.clone()
        else:
            leaf._grad = g if g._base is None else wrap(g._data)
    elif STATE.grad:
        leaf._grad = before + g
    else:
        before.add_(g)
    if leaf._post_hooks:
        for hook in list(leaf._post_hooks.values()):
            hook(leaf)


def is_ours(g: Tensor) -> bool:
    """Whether only the engine's own frames hold the gradient's memory, laid out row by row.

    The counts are those of `walk` (list, pair, loop variable), `deposit`, `accumulate_grad` and
    this call.
    """
    data = g._data
    if sys.getrefcount(g) > 7 or sys.getrefcount(data) > 4 or data.__class__ is not ndarray:
        return False
    if data.base is not None:
        viewed = g._base
        if viewed is None or sys.getrefcount(viewed) > 3 or sys.getrefcount(data.base) > 3:
            return False
    return data.flags.c_contiguous and data.flags.writeable
