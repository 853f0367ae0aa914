"""The one gate, `apply`. May import op, tensor, graph, promotion and the base.

`apply(op, *inputs, **params)`, also spelled `op(*inputs, **params)`, brings the inputs to one
type, hands them to the top interpreter if one is active or else to the kernel, then records a node
if an input requires grad. Reverse mode is an attribute of a tensor, not a level; each
interpreter's tensors carry their own tape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from ..errors import out_of_memory
from .graph import GENERAL, STATE, Node, Packed, SavedOutput, Slot
from .memory import Storage, tick
from .op import Op
from .promotion import promote, shape_error
from .tensor import Tensor, _new, wrap


def apply(op: Op, *inputs: Any, **params: Any) -> Any:
    """Runs an operator: inputs by position (tensors, numbers, None), parameters by keyword."""
    state = STATE
    mode = state.mode
    if op.promote != "none":
        inputs = promote(op, inputs)
    if mode == GENERAL:
        if state.autocast is not None and op.autocast is not None:
            inputs = state.autocast.cast(op, inputs)
        if state.interpreters:
            return interpret(op, inputs, params)
        outs = run_kernel(op, inputs, params)
        for observe in state.observers:
            observe(op, inputs, params, outs)
        if state.inference:
            for out in outs if outs.__class__ is tuple else (outs,):
                out._inference = True
        mode = state.grad
    else:
        outs = run_kernel(op, inputs, params)
    if mode and op.has_gradient:
        mask = grad_mask(inputs)
        if mask:
            record(op, mask, inputs, params, outs)
    return outs


def run_kernel(op: Op, inputs: tuple, params: dict) -> Any:
    """The kernel's result(s) as tensors; a view shares its input's storage."""
    arrays = [None if t is None else t._data for t in inputs]
    try:
        out = op.kernel(*arrays, **params)
    except ValueError as error:
        if op.kind != "elementwise":
            raise
        raise shape_error(op.name, *[x for x in arrays if x is not None]) from error
    except MemoryError as error:
        raise out_of_memory(op.name, error) from None
    if out.__class__ is tuple:
        return tuple([wrap(d) for d in out])
    result = wrap(out)
    if op.view:
        link_view(result, inputs[0], op, params)
    return result


def grad_mask(inputs: tuple) -> int:
    """Bit i is set if input i requires grad."""
    mask = 0
    for i, t in enumerate(inputs):
        if t is not None and t._requires_grad:
            mask |= 1 << i
    return mask


def record(op: Op, mask: int, inputs: tuple, params: dict, outs: Any) -> Node:
    """Puts a node behind the outputs."""
    plan = op.plans[mask]
    several = outs.__class__ is tuple
    node = _new(Node)
    node.plan, node.params = plan, params
    node.edges = tuple([edge(inputs[i]) for i in plan.targets])
    if several and len(op.differentiable) > 1:
        node.shape, node.dtype = len(outs), None
    else:
        first = outs[op.outputs.index(op.differentiable[0])] if several else outs
        node.shape, node.dtype = first._data.shape, first._data.dtype
        first._requires_grad, first.grad_fn = True, node
    node.saved = keep(op, plan, inputs, params, outs) if plan.names else ()
    node.seq = tick()
    if several and len(op.differentiable) > 1:
        any_number = op.outputs[-1] is ...
        for i, out in enumerate(outs):
            differentiable = any_number or op.outputs[i] in op.differentiable
            if differentiable and out._data.dtype.kind in "fcV":
                out._requires_grad, out.grad_fn = True, Slot(node, i, out._data)
    if STATE.anomaly:
        node.trace = anomaly_trace()
    return node


anomaly_trace: Callable[[], str] = lambda: ""  # noqa: E731  (set by anomaly)


def edge(t: Tensor) -> Any:
    """What the gradient of a tensor flows to: the node that made it, or the leaf itself."""
    return t if t.grad_fn is None else t.grad_fn


def keep(op: Op, plan: Any, inputs: tuple, params: dict, outs: Any) -> tuple:
    """What the backward needs, in the order of the plan's names;
    outputs without the tensors around them.
    """
    several = outs.__class__ is tuple

    def output(i: int) -> SavedOutput:
        saved = SavedOutput(outs[i] if several else outs)
        saved.slot = i if several and len(op.differentiable) > 1 else None
        saved.differentiable = op.outputs[i] in op.differentiable
        return saved

    values = plan.keep(inputs, params, output)
    hooks = STATE.saved_hooks
    return tuple([packed(v, hooks[-1]) for v in values]) if hooks else values


def packed(value: Any, hooks: tuple) -> Any:
    """A tensor that is saved, passed through the user's pack hook; anything else as it is."""
    if value.__class__ is SavedOutput:
        value = value.tensor(_new(Node), value._data).detach()
    return Packed(value, hooks) if isinstance(value, Tensor) else value


def interpret(op: Op, inputs: tuple, params: dict) -> Any:
    """Hands an operator to the top interpreter; its tensors are recorded on their own tape."""
    state = STATE
    *below, top = state.interpreters
    mine = [t is not None and t.interpreter is top for t in inputs]
    if not any(mine) and not top.takes_everything:
        with state.set(interpreters=tuple(below)):
            return apply(op, *inputs, **params)
    with state.set(interpreters=tuple(below)):
        outs = top.process(op, inputs, params)
    if state.grad and op.has_gradient:
        mask = sum(t._requires_grad << i for i, t in enumerate(inputs) if mine[i])
        if mask:
            with state.set(interpreters=state.interpreters):
                node = record(op, mask, inputs, params, outs)
            node.interpreter = top
    if op.view and outs.__class__ is not tuple:
        link_view(outs, inputs[0], op, params)
    return outs


def link_view(view: Tensor, x: Tensor, op: Op, params: dict) -> None:
    """Notes that `view` is `op(x)` on the same memory: one version,
    and a way to redo its history.
    """
    storage = x._storage
    if storage is None:
        storage = x._storage = Storage()
    view._storage = storage
    view._view = (x, op, params)
    views = storage.views
    if views is None:
        storage.views = [ref(view)]
        return
    views.append(ref(view))
    if len(views) > storage.limit:
        storage.prune()


Op.__call__ = apply
