"""Derivatives of functions at a point: `torch.autograd.functional`. Built on `backward` alone. May
import core and ops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.autograd import grad as _grad
from ..core.modes import enable_grad
from ..core.tensor import Tensor
from ..errors import check
from ..ops.create import zeros_like
from ..ops.shape import stack

Tensors = Tensor | tuple[Tensor, ...]


def _as_tuple(x: Any, what: str, name: str) -> tuple[bool, tuple[Tensor, ...]]:
    """Whether it was a tuple, and the tuple; raises TypeError for anything but tensors."""
    many = isinstance(x, tuple)
    values = x if many else (x,)
    for i, v in enumerate(values):
        check(
            isinstance(v, Tensor),
            lambda: (
                f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but the "
                f"value at index {i} has type {type(v)}."
            ),
            TypeError,
        )
    return many, values


def _fresh(inputs: tuple[Tensor, ...], create_graph: bool) -> tuple[Tensor, ...]:
    """Inputs to differentiate by, connected to the caller's graph if asked for."""
    if create_graph:
        return tuple(
            x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in inputs
        )
    return tuple(x.detach().requires_grad_() for x in inputs)


def _result(many: bool, values: tuple, create_graph: bool) -> Any:
    values = values if create_graph else tuple(v.detach() for v in values)
    return values if many else values[0]


def _gradients(
    outputs: tuple, inputs: tuple, v: tuple | None, create: bool, strict: bool, name: str
) -> tuple:
    """Gradients, zeros where there is no dependence; with `strict` that raises RuntimeError."""
    live = [(o, None if v is None else v[i]) for i, o in enumerate(outputs) if o.requires_grad]
    check(
        len(live) == len(outputs) or not strict,
        lambda: (
            f"Output 0 of the user-provided function does not require gradients; {name} is strict"
        ),
    )
    found: tuple = (None,) * len(inputs)
    if live:
        found = _grad(
            [o for o, _ in live],
            inputs,
            [c for _, c in live],
            retain_graph=True,
            create_graph=create,
            allow_unused=True,
        )
    check(
        not strict or all(g is not None for g in found),
        lambda: (
            f"The output of the user-provided function is independent of an input; {name} is strict"
        ),
    )
    return tuple(zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True))


def _run(func: Callable, inputs: tuple, name: str) -> tuple[bool, tuple[Tensor, ...]]:
    return _as_tuple(func(*inputs), "outputs of the user-provided function", name)


def _check_like(v: tuple, like: tuple, name: str) -> None:
    check(
        len(v) == len(like) and all(a.shape == b.shape for a, b in zip(v, like, strict=True)),
        lambda: (
            f"[{name}] v has shapes {[tuple(a.shape) for a in v]}, expected "
            f"{[tuple(b.shape) for b in like]}"
        ),
    )


def vjp(
    func: Callable, inputs: Tensors, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """`(func(inputs), v^T J)`; `v` may be left out for a result with one element."""
    with enable_grad():
        many, xs = _as_tuple(inputs, "inputs", "vjp")
        xs = _fresh(xs, create_graph)
        many_out, outs = _run(func, xs, "vjp")
        if v is not None:
            v = _as_tuple(v, "v", "vjp")[1]
            _check_like(v, outs, "vjp")
        else:
            check(
                len(outs) == 1 and outs[0].numel() == 1,
                "The vector v can only be None if the user-provided function returns a single "
                "Tensor with a single element.",
            )
        grads = _gradients(outs, xs, v, create_graph, strict, "vjp")
        return _result(many_out, outs, create_graph), _result(many, grads, create_graph)


def jvp(
    func: Callable, inputs: Tensors, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """`(func(inputs), J v)`, by differentiating v^T J twice."""
    with enable_grad():
        many, xs = _as_tuple(inputs, "inputs", "jvp")
        xs = _fresh(xs, create_graph)
        if v is not None:
            v = _as_tuple(v, "v", "jvp")[1]
            _check_like(v, xs, "jvp")
        else:
            check(
                len(xs) == 1 and xs[0].numel() == 1,
                "The vector v can only be None if the input to the user-provided function is a "
                "single Tensor with a single element.",
            )
        many_out, outs = _run(func, xs, "jvp")
        dummies = tuple(zeros_like(o).requires_grad_() for o in outs)
        pulled = _gradients(outs, xs, dummies, True, strict, "jvp")
        pushed = _gradients(pulled, dummies, v, create_graph, strict, "jvp")
        return _result(many_out, outs, create_graph), _result(many_out, pushed, create_graph)


def jacobian(
    func: Callable,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian: for each output and input a tensor of shape (*out, *in).

    >>> torch.autograd.functional.jacobian(torch.exp, torch.zeros(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    with enable_grad():
        many, xs = _as_tuple(inputs, "inputs", "jacobian")
        xs = _fresh(xs, create_graph)
        many_out, outs = _run(func, xs, "jacobian")
        blocks = []
        for out in outs:
            rows = [
                _gradients((e,), xs, None, create_graph, strict, "jacobian")
                for e in out.reshape(-1).unbind(0)
            ]
            columns = [
                stack([r[i] for r in rows]).view(out.shape + x.shape)
                if rows
                else zeros_like(x).expand(out.shape + x.shape)
                for i, x in enumerate(xs)
            ]
            blocks.append(_result(many, tuple(columns), create_graph))
        return tuple(blocks) if many_out else blocks[0]


def hessian(
    func: Callable,
    inputs: Tensors,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The matrix of second derivatives of a function with one element: shape (*in, *in)."""
    many, xs = _as_tuple(inputs, "inputs", "hessian")

    def gradient(*points: Tensor) -> Any:
        out = func(*points)
        check(
            isinstance(out, Tensor) and out.numel() == 1,
            "The Tensor returned by the function given to hessian should contain a single element",
        )
        return _gradients((out.reshape(()),), points, None, True, strict, "hessian")

    blocks = jacobian(gradient, xs, create_graph, strict)
    return blocks if many else blocks[0][0]


def _second(
    func: Callable, inputs: Tensors, v: Any, create_graph: bool, strict: bool, name: str
) -> tuple:
    """What hvp and vhp share: the value, the inputs, the recorded gradient and v."""
    many, xs = _as_tuple(inputs, "inputs", name)
    xs = _fresh(xs, create_graph)
    v = (v,) if isinstance(v, Tensor) else v
    if v is None:
        check(
            len(xs) == 1 and xs[0].numel() == 1,
            f"The vector v can only be None if the input to {name} is a single Tensor with a "
            "single element.",
        )
        v = (xs[0].detach() * 0 + 1,)
    _check_like(v, xs, name)
    _, outs = _run(func, xs, name)
    check(
        len(outs) == 1 and outs[0].numel() == 1,
        f"The function given to {name} should return a single Tensor with a single element",
    )
    return many, xs, outs, _gradients(outs, xs, None, True, strict, name), v


def vhp(
    func: Callable, inputs: Tensors, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """`(func(inputs), v^T H)`, H the matrix of second derivatives."""
    with enable_grad():
        many, xs, outs, first, v = _second(func, inputs, v, create_graph, strict, "vhp")
        grads = _gradients(first, xs, v, create_graph, strict, "vhp")
        return _result(False, outs, create_graph), _result(many, grads, create_graph)


def hvp(
    func: Callable, inputs: Tensors, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple:
    """`(func(inputs), H v)`; H is symmetric,
    so this is `vhp` wherever second derivatives are continuous.
    """
    with enable_grad():
        many, xs, outs, first, v = _second(func, inputs, v, create_graph, strict, "hvp")
        dummies = tuple(zeros_like(x).requires_grad_() for x in xs)
        pulled = _gradients(first, xs, dummies, True, strict, "hvp")
        pushed = _gradients(pulled, dummies, v, create_graph, strict, "hvp")
        return _result(False, outs, create_graph), _result(many, pushed, create_graph)
