"""Reverse mode: walks the graph from the newest node to the oldest. May import most of core.

The engine carries gradients as tensors, un-broadcasts and casts them in one place (`fit`),
accumulates, runs hooks and frees saved values as it goes. With `create_graph` the same rules run
with recording on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np

from .. import dtypes
from ..errors import check
from . import dispatch
from .anomaly import call_watched
from .graph import DIRECT, GENERAL, STATE, TAPE, Node, Slot
from .hooks import run_hooks, run_pre_hooks, run_tensor_hooks
from .leaves import accumulate_grad
from .op import TENSOR_NAMES
from .promotion import CAST, scalar_array
from .tensor import Tensor, wrap
from .zero import ZERO, skips, with_dependence, zeros


def listed(tensors: Any, name: str) -> list:
    """One tensor or a sequence of them as a list."""
    if isinstance(tensors, Tensor):
        return [tensors]
    if not isinstance(tensors, Iterable) or isinstance(tensors, str):
        raise TypeError(
            f"[autograd] argument '{name}' must be Tensor or sequence of Tensors, not "
            f"{type(tensors).__name__}"
        )
    return list(tensors)


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Any = None,
) -> None:
    """Accumulates into `.grad` of the leaves (or of `inputs`) the gradients of the sum.

    `grad_tensors` are the cotangents; only a tensor with one element may leave its own out.
    """
    roots = listed(tensors, "tensors")
    given = grad_tensors if grad_tensors is not None else grad_variables
    one = given is None or isinstance(given, Tensor)
    cotangents = [given] * len(roots) if one else listed(given, "gradient")
    if inputs is not None:
        inputs = listed(inputs, "inputs")
        check(len(inputs) > 0, "`inputs` argument to `backward` cannot be empty.")
    keep = create_graph if retain_graph is None else retain_graph
    run_backward(roots, cotangents, keep, create_graph, inputs, accumulate=True)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of the sum of `outputs` with respect to `inputs`, as a tuple.

    An input that the outputs do not depend on raises RuntimeError, or gives None with
    `allow_unused`, or zeros with `materialize_grads`.
    """
    roots, wanted = listed(outputs, "outputs"), listed(inputs, "inputs")
    single = grad_outputs is None or isinstance(grad_outputs, Tensor)
    cotangents = [grad_outputs] * len(roots) if single else list(grad_outputs)
    keep = create_graph if retain_graph is None else retain_graph
    if is_grads_batched:
        return batched_grad(roots, wanted, cotangents, keep, create_graph, allow_unused)
    found = run_backward(roots, cotangents, keep, create_graph, wanted, accumulate=False)
    if materialize_grads:
        found = [TENSOR_NAMES["zeros_like"](t) if g is None else g for g, t in zip(found, wanted)]
    elif not allow_unused:
        check(
            all(g is not None for g in found),
            "One of the differentiated Tensors appears to not have been used in the graph. Set "
            "allow_unused=True if this is the desired behavior.",
        )
    return tuple(found)


def batched_grad(
    roots: list, wanted: list, cotangents: list, keep: bool, create: bool, unused: bool | None
) -> tuple:
    """`grad` for a batch of cotangents: the first dimension of each counts them."""
    n = cotangents[0].size(0)
    rows = []
    for i in range(n):
        given = [c[i] for c in cotangents]
        rows.append(grad(roots, wanted, given, keep or i < n - 1, create, allow_unused=unused))
    stack = TENSOR_NAMES["stack"]
    return tuple(None if column[0] is None else stack(list(column)) for column in zip(*rows))


# -- the engine --------------------------------------------------------------------------------


def run_backward(
    roots: list[Tensor],
    cotangents: list,
    keep: bool,
    create: bool,
    inputs: list[Tensor] | None,
    accumulate: bool,
) -> list[Tensor | None]:
    """Runs the graph backward; returns the gradients of `inputs` unless it accumulates them."""
    wanted: dict[int, Any] = {}
    reach = None
    if inputs is not None:
        for t in inputs:
            check(
                isinstance(t, Tensor) and t._requires_grad,
                "One of the differentiated Tensors does not require grad",
            )
            wanted[id(dispatch.edge(t))] = None
        reach = nodes_leading_to(roots, wanted)
    state = STATE
    before = state.grad, state.mode
    state.grad = create
    if state.mode != GENERAL:
        state.switch(TAPE if create else DIRECT)
    try:
        walk(roots, cotangents, keep, wanted, reach)
        if inputs is None:
            return []
        found = [wanted[id(dispatch.edge(t))] for t in inputs]
        found = [TENSOR_NAMES["zeros_like"](t) if g is ZERO else g for g, t in zip(found, inputs)]
        if accumulate:
            for t, g in zip(inputs, found):
                if g is not None:
                    accumulate_grad(t, g, hooked=True)
        return found
    finally:
        state.grad = before[0]
        state.switch(before[1])


def walk(roots: list, cotangents: list, keep: bool, wanted: dict, reach: set | None) -> None:
    """From the newest node to the oldest: each runs when all its gradients have arrived."""
    pending: dict[Node, Any] = {}
    heap: list[tuple[int, Node]] = []
    anomaly, create = STATE.anomaly, STATE.grad
    for t, g in zip(roots, cotangents):
        deposit(dispatch.edge(t), initial(t, g), pending, heap, wanted, reach)
    while heap:
        node = heappop(heap)[1]
        g = pending.pop(node)
        if g is ZERO and not skips(node, g):
            g = zeros(node.shape, node.dtype)
        if node.watched:
            g = run_pre_hooks(node, g)
        if reach is not None:
            if id(node) in wanted:
                wanted[id(node)] = g
            if node not in reach:
                continue
        if node.__class__ is Slot:
            fill_slot(node, g, pending, heap)
            continue
        if g is ZERO or (g.__class__ is list and skips(node, g)):
            grads = [ZERO] * len(node.edges)
        else:
            grads = call_watched(node, g) if anomaly else node.gradients(g)
            if create and node.__class__ is Node:
                grads = with_dependence(node, grads)
        if node.watched and node.hooks:
            grads = run_hooks(node, grads, g)
        if not keep:
            node.saved = None
        g = None  # so that `is_ours` finds no other holder
        for e, gi in zip(node.edges, grads):
            if gi is not None:
                d = gi._data.dtype
                if (
                    e.__class__ is Node
                    and d is e.dtype
                    and gi._data.shape == e.shape
                    and e not in pending
                ):
                    pending[e] = gi  # the common case of deposit
                    heappush(heap, (-e.seq, e))
                else:
                    deposit(e, gi, pending, heap, wanted, reach)


def initial(t: Tensor, g: Tensor | None) -> Tensor:
    """The cotangent of a root: the one given, checked, or 1 for a single element."""
    check(
        t._requires_grad,
        "element 0 of tensors does not require grad and does not have a grad_fn; make one of its "
        "inputs require grad with requires_grad_()",
    )
    if g is None:
        check(
            t._data.size == 1,
            lambda: (
                "grad can be implicitly created only for scalar outputs, got shape "
                f"{tuple(t._data.shape)}; call .sum() or pass a gradient"
            ),
        )
        check(
            t._data.dtype.kind != "c", "grad can be implicitly created only for real scalar outputs"
        )
        if t.interpreter is None:
            one = scalar_array(1.0, t._data.dtype)
            return wrap(one if t._data.ndim == 0 else one.reshape(t._data.shape))
        return TENSOR_NAMES["ones_like"](t)
    check(
        isinstance(g, Tensor),
        lambda: f"gradients can be either Tensors or None, but got {type(g).__name__}",
        TypeError,
    )
    check(
        tuple(g._data.shape) == tuple(t._data.shape),
        lambda: (
            f"Mismatch in shape: grad_output[0] has a shape of {g.shape} and output[0] has a shape "
            f"of {t.shape}."
        ),
    )
    return g


def nodes_leading_to(roots: list[Tensor], wanted: dict[int, Any]) -> set:
    """The nodes from which some wanted edge can be reached."""
    order: list[Node] = []
    seen: set = set()
    stack = [e for e in map(dispatch.edge, roots) if isinstance(e, Node)]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            order.append(node)
            stack.extend(e for e in node.edges if isinstance(e, Node))
    leading: set = set()
    for node in sorted(order, key=lambda n: n.seq):
        if any(id(e) in wanted or e in leading for e in node.edges):
            leading.add(node)
    return leading


def deposit(e: Any, g: Tensor, pending: dict, heap: list, wanted: dict, reach: set | None) -> None:
    """Adds a gradient to what has arrived at an edge: a node's pending sum, or a leaf."""
    if g is ZERO:
        if isinstance(e, Node):
            if e not in pending:
                pending[e] = ZERO
                heappush(heap, (-e.seq, e))
            return
        if reach is None and e._grad is not None and not (e._hooks or e._post_hooks):
            return
        g = zeros(e._data.shape, e._data.dtype)
    data = g._data
    if isinstance(e, Node):
        if e.dtype is not None and (data.shape != e.shape or data.dtype is not e.dtype):
            g = fit(g, e.shape, e.dtype)
        if e in pending:
            pending[e] = pending[e] + g
        else:
            pending[e] = g
            heappush(heap, (-e.seq, e))
        return
    leaf = e._data
    if data.shape != leaf.shape or data.dtype is not leaf.dtype:
        g = fit(g, leaf.shape, leaf.dtype)
    if reach is None:
        accumulate_grad(e, g)
    elif id(e) in wanted:
        if e._hooks:
            g = run_tensor_hooks(e._hooks, g)
        before = wanted[id(e)]
        wanted[id(e)] = g if before is None else before + g


def fill_slot(slot: Slot, g: Tensor, pending: dict, heap: list) -> None:
    """Adds an output's gradient to its node's tuple; a saved output has a second slot."""
    node = slot.node
    grads: Any = pending.get(node)
    if grads is None:
        grads = pending[node] = [None] * node.shape  # type: ignore[operator]
        heappush(heap, (-node.seq, node))
    if g is ZERO:
        return
    before = grads[slot.index]
    grads[slot.index] = g if before is None else before + g


def fit(g: Tensor, shape: tuple[int, ...], dtype: np.dtype) -> Tensor:
    """Un-broadcasts a gradient to the shape of its input, and brings it to its type."""
    have = g._data.shape
    if have != shape:
        lead = len(have) - len(shape)
        dims = tuple(range(lead)) + tuple(
            i + lead for i, n in enumerate(shape) if n == 1 and have[i + lead] != 1
        )
        if dims:
            g = g.sum(dims, keepdim=True)
        if lead:
            g = g.reshape(shape)
    if g._data.dtype is not dtype:
        if g._data.dtype.kind == "c" and dtype.kind != "c":
            g = TENSOR_NAMES["real"](g)
        if g._data.dtype != dtype:
            g = CAST(g, dtype=dtypes.FROM_NUMPY[dtype])
    return g


# -- the method ------------------------------------------------------------------------------


def tensor_backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulates the gradients of this tensor into `.grad` of the graph's leaves."""
    if inputs is None and (gradient is None or isinstance(gradient, Tensor)):
        keep = create_graph if retain_graph is None else retain_graph
        run_backward([self], [gradient], keep, create_graph, None, accumulate=True)
    else:
        backward(self, gradient, retain_graph, create_graph, inputs=inputs)


Tensor.backward = tensor_backward
TENSOR_NAMES["grad"] = grad
