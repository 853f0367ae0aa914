"""Random numbers as stages of the program. May import definitions, kernels and draws."""

from __future__ import annotations

from collections.abc import Callable

from ...random import Generator, default_generator
from ..kernels.draws import draw_call
from ..trace.graph import Step, Value
from .definitions import Definitions
from .kernels import Buffer, Kernel, Library


def generator_of(step: Step) -> Generator:
    """The generator that a step takes numbers from."""
    return step.params.get("generator") or default_generator


def drawn(
    program: Definitions, step: Step, buffer: Callable[[Value], Buffer]
) -> list[Kernel] | None:
    """The kernel of a draw; None for types that it does not cover, and for numbers that are drawn
    in another order than they have in memory.
    """
    (out,), params = step.outputs, dict(step.params)
    order, generator = params.pop("order"), generator_of(step)
    for name in ("shape", "dtype", "generator"):
        del params[name]
    if order not in (None, tuple(range(len(out.shape)))) or not out.size:
        return None
    call = draw_call(step.op.name, generator, out.size, out.dtype, params)
    if call is None:
        return None
    made = (buffer(out),)
    return [
        Kernel(step.op.name, (step.op.name,), (), made, Library((call,), made), draws=generator)
    ]
