"""Short paths of `apply` for the calls whose own cost is all they cost. May import graph, tensor
and the base.

They do what `link_view` and `record` of dispatch do, written out: a function call is a tenth of a
small view.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from .graph import STATE, Node
from .memory import Storage, tick
from .tensor import Tensor, _new, wrap


def quick_view(x: Tensor, data: Any, op: Any, params: dict) -> Tensor:
    """The short path of `apply` for a view whose array is known: `link_view` and `record` in one,
    written out.

    `op.step` is the plan of the backward, which saves the shape of x and the parameters.
    """
    view = wrap(data)
    storage = x._storage
    if storage is None:
        storage = x._storage = Storage()
    view._storage = storage
    view._view = (x, op, params)
    views = storage.views
    if views is None:
        storage.views = [ref(view)]
    else:
        views.append(ref(view))
        if len(views) > storage.limit:
            storage.prune()
    if x._requires_grad and STATE.grad:
        node = _new(Node)
        node.plan = op.step
        node.params = params
        before = x.grad_fn
        node.edges = (x if before is None else before,)
        node.shape = data.shape
        node.dtype = data.dtype
        node.saved = (x._data.shape, params)
        node.seq = tick()
        view._requires_grad = True
        view.grad_fn = node
    return view


def quick_record(out: Tensor, edges: tuple, plan: Any, params: dict, saved: tuple) -> None:
    """The short path of `record` for one result; `saved` are the values of `plan.names`,
    in their order.
    """
    data = out._data
    node = _new(Node)
    node.plan = plan
    node.params = params
    node.edges = edges
    node.shape = data.shape
    node.dtype = data.dtype
    node.saved = saved
    node.seq = tick()
    out._requires_grad = True
    out.grad_fn = node
