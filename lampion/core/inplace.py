"""In-place writes and `out=`. May import op, tensor, graph, promotion, dispatch and the base.

An in-place operator is the out-of-place one followed by `assign`. Written through a view, the
base's history becomes "the base with the view replaced", and every view of it gets its history
anew, as in PyTorch.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..errors import check
from ..layout import Order, contiguous_format, inverse, order_of
from .dispatch import record
from .graph import GENERAL, STATE, Node, SavedOutput, Slot
from .memory import Storage, tick
from .naming import node_name
from .op import Op
from .promotion import CAST
from .tensor import Tensor, wrap
from .zero import ZERO


def check_writable(target: Tensor, name: str) -> None:
    """Raises RuntimeError where autograd or the memory forbids an in-place write."""
    if STATE.grad and target._requires_grad:
        if target.grad_fn is None:
            raise RuntimeError(
                f"[{name}] a leaf Variable that requires grad is being used in an in-place "
                "operation; wrap the update in torch.no_grad(), or work on a .clone()"
            )
        base = target._base
        if base is not None and base.grad_fn is None:
            raise RuntimeError(
                f"[{name}] a view of a leaf Variable that requires grad is being used in an "
                "in-place operation; wrap the update in torch.no_grad(), or work on a .clone()"
            )
    if target._inference and not STATE.inference:
        raise RuntimeError(
            f"[{name}] Inplace update to inference tensor outside InferenceMode is not allowed. "
            "You can make a clone to get a normal tensor before doing inplace update."
        )


def check_result(target: Tensor, shape: tuple, dtype: np.dtype, name: str) -> None:
    """Raises RuntimeError if a result of this shape and type does not fit into the target."""
    have, want = dtypes.FROM_NUMPY[dtype], dtypes.FROM_NUMPY[target._data.dtype]
    if have is not want:
        check(
            have.category <= want.category or (have.category == dtypes.INTEGER == want.category),
            lambda: (
                f"result type {type_name(have)} can't be cast to the desired output type "
                f"{type_name(want)}"
            ),
        )
    if tuple(shape) != tuple(target._data.shape):
        raise RuntimeError(
            f"[{name}] output with shape {list(target._data.shape)} doesn't match the broadcast "
            f"shape {list(shape)}; use the out-of-place form"
        )


TYPE_NAMES: dict[str, str] = {
    "bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int",
    "int64": "Long", "float16": "Half", "bfloat16": "BFloat16", "float32": "Float",
    "float64": "Double", "complex64": "ComplexFloat", "complex128": "ComplexDouble",
}  # fmt: skip


def type_name(d: dtypes.dtype) -> str:
    """PyTorch's scalar type name, e.g. `Float`."""
    return TYPE_NAMES.get(d.name, d.name)


def assign(target: Tensor, result: Tensor, name: str, fresh: bool = False) -> Tensor:
    """The end of every in-place operator: `target` takes the value and the history of `result`;
    its memory too, if it is `fresh`: nobody else knows it.
    """
    check_writable(target, name)
    check_result(target, result._data.shape, result._data.dtype, name)
    if target.interpreter is not None or result.interpreter is not None:
        owner = target.interpreter or result.interpreter
        owner.assign(target, result)
    else:
        data = target._data
        if not data.flags.writeable or 0 in data.strides:
            check_memory(data, name)
        np.copyto(data, result._data, casting="unsafe")
    if target._storage is None:
        target._storage = Storage()
    target._storage.write(name)
    for observer in STATE.observers:
        observer.wrote(target, result)
    if STATE.grad and (result._requires_grad or target._requires_grad):
        rebase(target, result, name)
        if fresh and target._base is None:
            hand_over(target, result)
    return target


def check_memory(data: ndarray, name: str) -> None:
    """Raises RuntimeError for memory that several elements share or that is read-only."""
    shared = data.size > 0 and any(s == 0 and n > 1 for s, n in zip(data.strides, data.shape))
    check(
        not shared,
        lambda: (
            f"[{name}] unsupported operation: more than one element of the written-to tensor "
            "refers to a single memory location. Please clone() the tensor before performing the "
            "operation."
        ),
    )
    if not data.flags.writeable and not shared:
        try:
            data.flags.writeable = True
        except ValueError:
            raise RuntimeError(
                f"[{name}] the tensor's memory is read-only (it came from a read-only array); "
                ".clone() it first"
            ) from None


def rebase(target: Tensor, result: Tensor, name: str = "copy_") -> None:
    """Gives `target`, and through a view its base and all other views, the history of `result`,
    which `name` wrote there.
    """
    if result._data.dtype is not target._data.dtype:
        result = CAST(result, dtype=target.dtype)
    base: Any = target._base
    before = target.grad_fn
    if base is None:
        if result.grad_fn is None:
            result = COPY(target, result, by=name)
        target._requires_grad, target.grad_fn = True, result.grad_fn
        base = target
    else:
        mask = base._requires_grad + 2 * result._requires_grad
        data = base._data
        order = order_of(data) if isinstance(data, ndarray) else None
        record(SCATTER_VIEW, mask, (base, result), {"chain": target._chain, "order": order}, base)
        refresh(target)
    if target._retains_grad:
        before.retained, target.grad_fn.retained, target.grad_fn.watched = None, ref(target), True
    for r in list(base._storage.views or ()):
        view = r()
        if view is not None and view._base is base and view is not target:
            refresh(view)


def in_place(target: Tensor, name: str, function: Any, *others: Any, **params: Any) -> Tensor:
    """An in-place operator: `target` becomes what the function makes of it. What the gradient needs
    of the content before is copied, as in PyTorch.
    """
    since = tick()
    before = content_of(target) if STATE.saved_hooks and STATE.grad else target
    result = function(before, *others, **params)
    node: Any = result.grad_fn
    if node.__class__ is Node:
        if node.saved and before is target:
            keep_input(target, node, since)
        if node.plan.op.name in RENUMBERED:
            node.title = node.name().replace("Backward0", "Backward1")
    return assign(target, result, name, fresh=True)


# Operators whose in-place form has a node with a number of its own in PyTorch.
RENUMBERED = {"acosh", "asinh", "atanh", "elu", "leaky_relu", "threshold"}


def keep_input(target: Tensor, last: Any, since: int) -> None:
    """Has the backward use a copy of `target`, which is about to be written over, in the nodes made
    `since` then; the last one knows it only as its first operand: `y.mul_(y)` has to be noticed.
    """
    kept = None
    nodes = [last]
    for node in nodes:
        for e in node.edges:
            if e.__class__ in NODES and e.seq > since:
                nodes.append(e)
        for i, saved in enumerate(node.saved):
            if saved is target and (node is not last or is_first(node, i)):
                kept = content_of(target) if kept is None else kept
                node.saved = (*node.saved[:i], kept, *node.saved[i + 1 :])


NODES = Node, Slot


def is_first(node: Any, i: int) -> bool:
    """Whether the i-th thing that a node saves is its operator's first operand."""
    return node.plan.names[i] == node.plan.op.inputs[0]


def content_of(target: Tensor) -> Tensor:
    """A copy of the same place in the graph."""
    if STATE.mode == GENERAL:
        with STATE.set(grad=False):
            copy = target.clone()
    else:
        copy = wrap(target._data.copy("K"))
    copy._requires_grad, copy.grad_fn = target._requires_grad, target.grad_fn
    return copy


def hand_over(target: Tensor, result: Tensor) -> None:
    """Has the backward use `target` for what it saved of the result: the same numbers, once."""
    saved: Any = result._storage
    node: Any = result.grad_fn
    if saved.__class__ is not SavedOutput or node.__class__ is not Node:
        return
    if node is not target.grad_fn or result is target:
        return
    if any(isinstance(s, Tensor) and s._storage is target._storage for s in node.saved or ()):
        return  # saved and written over: the backward has to notice
    if saved.value is None and saved.other is None:
        saved._data, saved.other = target._data, target._storage
        node.seq = tick()  # it has the content that was written just now


def refresh(view: Tensor) -> None:
    """Makes a view's history again from that of its base."""
    out: Any = view._base
    for op, params in view._chain:
        out = op(out, **params)
    view._requires_grad, view.grad_fn = out._requires_grad, out.grad_fn


def scatter_view_gradient(g: Tensor, chain: tuple, order: Order) -> Tensor:
    """The base keeps the gradient of what the write left alone.

    Its copy lies in memory as the base does (`order`), so that each operator of the chain gives a
    view of it.
    """
    if order is None:
        rest = g.clone(memory_format=contiguous_format)
    else:
        rest = g.permute(order).clone(memory_format=contiguous_format).permute(inverse(order))
    view = rest
    for op, params in chain:
        view = op(view, **params)
    view.zero_()
    return rest


def take_view(g: Tensor, chain: tuple) -> Tensor:
    """The part of the base's gradient that belongs to the view."""
    for op, params in chain:
        g = op(g, **params)
    return g


def scatter_view_kernel(base: ndarray, source: ndarray, chain: tuple, order: Order) -> ndarray:
    """A copy of the base, laid out as the base is, with the view replaced."""
    copy = base.copy() if order is None else base.transpose(order).copy()
    copy = copy if order is None else copy.transpose(inverse(order))
    view = copy
    for op, params in chain:
        view = op.kernel(view, **params)
    view[...] = source
    return copy


SCATTER_VIEW = Op(
    "scatter_view",
    ("base", "source"),
    scatter_view_kernel,
    vjp={"base": scatter_view_gradient, "source": take_view},
    grad_name="CopySlices",
)
# What PyTorch calls the nodes of operators that write values without a history.
WRITERS = {
    "copy_": "CopyBackwards",
    "fill_": "FillBackward2",
    "bernoulli_": "BernoulliBackward2",
    "random_": "RandomBackward2",
}
COPY = Op(
    "copy",
    ("x", "source"),
    lambda x, source, by="copy_": source.astype(x.dtype),  # files of graphs may not have `by`
    vjp={"x": lambda g: ZERO, "source": lambda g: g},
    batch=lambda size, values, dims, params, op: (op(*values, **params), dims[1]),
    grad_name=lambda params: WRITERS.get(by := params.get("by", "copy_")) or node_name(by),
)


def write_out(out: Tensor, result: Tensor, name: str) -> Tensor:
    """The end of every `out=`: resizes `out` if it must, checks its type and copies."""
    check(
        isinstance(out, Tensor),
        lambda: f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}",
        TypeError,
    )
    check(
        not (STATE.grad and (out._requires_grad or result._requires_grad)),
        lambda: (
            f"{name}(): functions with out=... arguments don't support automatic differentiation, "
            "but one of the arguments requires grad."
        ),
    )
    if out._data.shape != result._data.shape:
        out._data = np.empty(result._data.shape, out._data.dtype)
    return assign(out, result, name)
