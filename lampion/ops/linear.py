"""The linear layer and the bilinear one. May import rules, matmul, earlier families, core and the
base.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply, edge
from ..core.graph import DIRECT, GENERAL, NOTHING, STATE, Node
from ..core.memory import tick
from ..core.op import Op
from ..core.tensor import Tensor, _new, wrap
from ..errors import check
from .matmul import as_rows, large_product, matmul_kernel, product, same_type
from .reduce import add_up
from .rules import EXPORTS, F32, F64, move_to_front


def linear_kernel(x: ndarray, w: ndarray, b: ndarray | None) -> ndarray:
    """x @ w.T + b; a weight of one dimension gives one number per row."""
    if b is not None and b.shape == w.shape[:1]:
        made = large_product(x, w.T, b)
        if made is not None:
            return made
    y = matmul_kernel(x, w.T)
    if b is None:
        return y
    return np.add(y, b, out=y) if y.ndim > 1 else y + b


def linear_gradient(g: Tensor, x: Tensor, w: Tensor, needs: tuple) -> tuple:
    """Gradients of `x @ w.T + b`: `g @ w`, `g.T @ x` and the sum of g over its rows."""
    if STATE.mode == DIRECT and w._data.ndim == 2 and g._data.dtype.kind != "c":
        grads = linear_gradient_kernel(g._data, x._data, w._data, needs)
        return tuple([None if a is None else wrap(a) for a in grads])
    gx = gw = None
    vector = w._data.ndim == 1
    if needs[0]:
        gx = g.unsqueeze(-1) * w.conj() if vector else product(g, w.conj())
    if needs[1]:
        rows = x.flatten(0, -2) if x._data.ndim > 1 else x.unsqueeze(0)  # (rows, in)
        g_rows = (
            g.reshape(-1) if vector else g.reshape(rows._data.shape[0], g._data.shape[-1])
        )  # (rows, out)
        gw = g_rows @ rows.conj() if vector else g_rows.mT @ rows.conj()  # (out, in)
    return gx, gw, g  # the engine un-broadcasts g


def linear_gradient_kernel(g: ndarray, x: ndarray, w: ndarray, needs: tuple) -> tuple:
    """The same on arrays, each product one call of BLAS."""
    gx = matmul_kernel(g, w) if needs[0] else None
    if g.ndim != 2:
        g, x = as_rows(g), as_rows(x)  # (rows, features)
    gw = matmul_kernel(g.T, x) if needs[1] else None
    return gx, gw, add_up(g, 0) if len(needs) > 2 and needs[2] else None


def linear_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Parameters that are not batched leave it one product; else it is a batched one."""
    x, w, b = values
    if dims[1] is None and dims[2] is None and dims[0] is not None:
        return apply(op, move_to_front(x, dims[0]), w, b), 0
    x, w = move_to_front(x, dims[0]), move_to_front(w, dims[1])
    inner = x._data.ndim - (dims[0] is not None)
    vector = w._data.ndim - (dims[1] is not None) == 1
    if vector:
        w = w.unsqueeze(-2)  # one output feature
    if inner == 1:
        x = x.unsqueeze(-2)
    w = w.mT
    if dims[1] is not None:
        w = w.reshape(size, *(1,) * (max(inner, 2) - 2), *w._data.shape[1:])  # (B, 1, ..., in, out)
    y = x @ w
    y = y.squeeze(-2) if inner == 1 else y
    y = y.squeeze(-1) if vector else y
    if b is not None:
        b = move_to_front(b, dims[2])
        if dims[2] is not None:
            b = b.reshape((size, *(1,) * (inner - 1), b._data.shape[-1]))
        y = y + b
    return y, 0


def linear_title(node: Node) -> str:
    """What PyTorch makes it of, for inputs laid out row by row."""
    rank, biased = len(node.shape), 2 in node.targets
    if rank == 2:
        return "AddmmBackward0" if biased else "MmBackward0"
    return "ViewBackward0" if biased else "UnsafeViewBackward0" if rank > 2 else "SqueezeBackward4"


LINEAR = Op(
    "linear",
    ("x", "w", "b"),
    linear_kernel,
    kind="fused",
    vjp=linear_gradient,
    batch=linear_batch,
    title=linear_title,
    autocast="lower",
)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`input @ weight.T + bias` over the last dimension: `(..., in) -> (..., out)`; weight is (out,
    in).

    Raises RuntimeError where the number of features differs.
    """
    x, w = input._data, weight._data
    b = None if bias is None else bias._data
    mode = STATE.mode
    d = x.dtype
    if (
        mode == GENERAL
        or x.ndim != 2
        or w.ndim != 2
        or d is not w.dtype
        or (d is not F32 and d is not F64)
        or (b is not None and (b.dtype is not d or b.shape != (w.shape[0],)))
    ):
        return general_linear(input, weight, bias)
    try:
        y = linear_kernel(x, w, b)
    except ValueError:
        raise features_differ(x, w) from None
    t = wrap(y)
    if mode:
        mask = input._requires_grad + 2 * weight._requires_grad
        if b is not None:
            mask += 4 * bias._requires_grad  # type: ignore[union-attr]
        if mask:
            node = _new(Node)
            node.plan = plan = LINEAR.plans[mask]
            inputs: Any = (input, weight, bias)
            node.edges = tuple([edge(inputs[i]) for i in plan.targets])
            node.params, node.shape, node.dtype = NOTHING, y.shape, d
            t._requires_grad, t.grad_fn = True, node
            node.saved = (input, weight)
            node.seq = tick()
    return t


def general_linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`linear` for all ranks and types, inside interpreters too."""
    x, w = input._data, weight._data
    check(
        x.ndim > 0 and 1 <= w.ndim <= 2,
        lambda: (
            "[linear] expects an input of at least 1 and a weight of 1 or 2 dimensions, got "
            f"{x.ndim} and {w.ndim}"
        ),
    )
    check(bias is None or w.ndim == 2, lambda: "[linear] mat2 must be a matrix, got 1-D tensor")
    if x.shape[-1] != w.shape[-1]:
        raise features_differ(x, w)
    if STATE.autocast is None:
        same_type(
            "linear", input, weight, "mat1 and mat2 must have the same dtype, but got {0} and {1}"
        )
        if bias is not None:
            same_type(
                "linear", input, bias, "mat1 and bias must have the same dtype, but got {0} and {1}"
            )
    if bias is not None and bias._data.shape not in ((), (1,), w.shape[:1]):
        raise RuntimeError(
            f"[linear] The expanded size of the tensor ({w.shape[0]}) must match the existing size "
            f"({bias._data.shape[-1]}) at non-singleton dimension {x.ndim - 1}; the bias needs "
            f"shape ({w.shape[0]},)"
        )
    return apply(LINEAR, input, weight, bias)


def features_differ(x: Any, w: Any) -> RuntimeError:
    """The error for a layer that gets another number of features than it has weights for."""
    rows = x.size // max(x.shape[-1], 1)
    columns = "x".join(map(str, w.shape[::-1]))
    return RuntimeError(
        f"[linear] expects {w.shape[-1]} input features, got {x.shape[-1]} from shape "
        f"{tuple(x.shape)}; set in_features={x.shape[-1]} (mat1 and mat2 shapes cannot be "
        f"multiplied ({rows}x{x.shape[-1]} and {columns}))"
    )


EXPORTS["nn.functional"]["linear"] = linear


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`input1 @ weight[k] @ input2 + bias[k]` for each output k; weight is (out, in1, in2)."""
    x, y, w = input1._data, input2._data, weight._data
    check(
        x.shape[:-1] == y.shape[:-1],
        lambda: (
            f"bilinear(): input batch dimensions do not match: got {tuple(x.shape)} and "
            f"{tuple(y.shape)}"
        ),
    )
    for number, array, features in ((1, x, w.shape[1]), (2, y, w.shape[2])):
        check(
            array.shape[-1] == features,
            lambda n=number, a=array, f=features: (
                f"bilinear(): input{n} size does not match weight size: got {a.shape[-1]} but "
                f"expected {f}"
            ),
        )
    out, first, second = w.shape
    flat = weight.permute(1, 0, 2).reshape(first, out * second)  # (in1, out * in2)
    partial = (input1 @ flat).reshape(*x.shape[:-1], out, second)
    result = (partial @ input2.unsqueeze(-1)).squeeze(-1)  # (..., out)
    return result if bias is None else result + bias


EXPORTS["nn.functional"]["bilinear"] = EXPORTS["torch"]["bilinear"] = bilinear
