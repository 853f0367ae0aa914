"""Activations recomputed instead of kept: `torch.utils.checkpoint`. May import core, autograd and
random.

Source: T. Chen et al., "Training deep nets with sublinear memory cost" (2016).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from ..core.autograd import backward as run_backward
from ..core.function import Function
from ..core.modes import enable_grad
from ..core.tensor import Tensor
from ..errors import check
from ..random import default_generator
from ._pytree import tree_flatten, tree_unflatten


class _Recompute(Function):
    """Runs a function without recording; its backward runs it again, recorded,
    and goes through that.
    """

    @staticmethod
    def forward(
        ctx: Any, run: Callable, preserve: bool, spec: Any, structure: list, *leaves: Any
    ) -> Any:
        ctx.run, ctx.spec, ctx.preserve = run, spec, preserve
        ctx.state = default_generator.state() if preserve else None
        ctx.others = [None if isinstance(x, Tensor) else x for x in leaves]
        ctx.save_for_backward(*[x if isinstance(x, Tensor) else None for x in leaves])
        args, kwargs = tree_unflatten(list(leaves), spec)
        out = run(*args, **kwargs)
        flat, out_spec = tree_flatten(out)
        structure.append(out_spec)
        return tuple(x.detach() if isinstance(x, Tensor) and x.requires_grad else x for x in flat)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        saved = ctx.saved_tensors
        inputs = [
            other if t is None else t.detach().requires_grad_(t.requires_grad)
            for t, other in zip(saved, ctx.others, strict=True)
        ]
        before = default_generator.state()
        if ctx.preserve:
            default_generator.set_state_bytes(ctx.state)
        try:
            with enable_grad():
                args, kwargs = tree_unflatten(inputs, ctx.spec)
                flat, _ = tree_flatten(ctx.run(*args, **kwargs))
        finally:
            default_generator.set_state_bytes(before)
        pairs = [
            (o, g)
            for o, g in zip(flat, grads, strict=True)
            if isinstance(o, Tensor) and o.requires_grad
        ]
        check(
            bool(pairs),
            "none of output has requires_grad=True, this checkpoint() is not necessary",
        )
        run_backward([o for o, _ in pairs], [g for _, g in pairs])
        found = [x.grad if isinstance(x, Tensor) else None for x in inputs]
        return (None, None, None, None, *found)


def checkpoint(
    function: Callable,
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable | None = None,
    determinism_check: str = "default",
    debug: bool = False,
    preserve_rng_state: bool = True,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """`function(*args, **kwargs)`, keeping only the inputs: backward computes the rest again.

    Parameters that the function captures get their gradients too. With `preserve_rng_state` the
    second run draws the random numbers of the first.
    """
    first, again = context_fn() if context_fn else (nullcontext(), nullcontext())
    contexts = iter([first, again])

    def run(*inner: Any, **named: Any) -> Any:
        with next(contexts, nullcontext()):
            return function(*inner, **named)

    leaves, _ = tree_flatten((args, kwargs))
    anchor = _anchor(leaves)
    structure: list = []
    outs = _Recompute.apply(
        lambda _, *inner, **named: run(*inner, **named),
        preserve_rng_state,
        tree_flatten(((anchor, *args), kwargs))[1],
        structure,
        anchor,
        *leaves,
    )
    return tree_unflatten(list(outs), structure[0])


def _anchor(leaves: list) -> Tensor:
    """A leaf that requires grad, so that a function whose captured parameters alone do is recorded
    too.
    """
    for x in leaves:
        if isinstance(x, Tensor):
            return x.new_zeros(()).requires_grad_()
    raise RuntimeError("[checkpoint] at least one argument must be a tensor")


def checkpoint_sequential(
    functions: Any, segments: int, input: Tensor, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """A sequential model in `segments` checkpointed pieces; the last piece is not checkpointed."""
    layers = list(functions.children()) if hasattr(functions, "children") else list(functions)
    check(
        segments >= 1,
        lambda: f"[checkpoint_sequential] segments must be positive, got {segments}",
        ValueError,
    )
    size = len(layers) // segments

    def piece(start: int, end: int) -> Callable:
        def run(x: Any) -> Any:
            for layer in layers[start:end]:
                x = layer(x)
            return x

        return run

    end = 0
    for start in range(0, size * (segments - 1), size):
        end = start + size
        input = checkpoint(piece(start, end), input, use_reentrant=use_reentrant, **kwargs)
    return piece(end, len(layers))(input)
