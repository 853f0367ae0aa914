"""How the results of an operator are made: pointwise, as views, or from elsewhere. May import the
lower_ files before it.

A view is an index map, found by running its kernel once on an array without content.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir.formula import Unsupported
from ..ir.node import Node, constant
from ..trace.graph import Step, Value, contiguous_strides
from . import scalar
from .index import Index, broadcast
from .moves import MAPS
from .scalar import storage_type, value_type
from .values import NO_ALIAS, Alias, Map, Reader, place, strided_dummy

# -- pointwise ---------------------------------------------------------------------------------


def pointwise(step: Step) -> Map | None:
    """The map of an operator of scalar."""
    cost = scalar.cost_of(step)
    if cost is None:
        return None
    shape = step.outputs[0].shape

    def element(reader: Reader, index: Index) -> Node:
        operands = [
            None if v is None else reader.read(v, broadcast(index, shape, v.shape, reader.node))
            for v in step.inputs
        ]
        return scalar.result_of(step, operands)

    def reads(index: Index) -> list[tuple[Value, Index]]:
        return [(v, broadcast(index, shape, v.shape)) for v in step.inputs if v is not None]

    return Map(element, cost, reads)


# -- views -------------------------------------------------------------------------------------

SEVERAL_VIEWS = {"split", "unbind"}


def views(step: Step) -> list[Alias] | None:
    """The views that a step makes of its input."""
    is_view = step.op.view and step.op.name not in NO_ALIAS
    if not is_view and step.op.name not in SEVERAL_VIEWS:
        return None
    base = step.inputs[0]
    assert base is not None
    if any(v.dtype != base.dtype for v in step.outputs):
        return None
    if 0 in base.shape:
        return [Alias(base, 0, contiguous_strides(v.shape)) for v in step.outputs]
    dummy = strided_dummy(base.shape)
    made = step.op.kernel(dummy, **step.params)
    arrays = made if isinstance(made, tuple) else (made,)
    return [Alias(base, *place(array, dummy)) for array in arrays]


def flip(step: Step) -> list[Alias]:
    """Dimensions turned round: negative strides."""
    (base,) = step.inputs
    assert base is not None
    strides, offset = list(contiguous_strides(base.shape)), 0
    for d in step.params["dims"]:
        offset += strides[d] * (base.shape[d] - 1)
        strides[d] = -strides[d]
    return [Alias(base, offset, tuple(strides))]


def same(step: Step) -> list[Alias] | None:
    """A copy, which is the value itself: values never change."""
    (x,), (out,) = step.inputs, step.outputs
    assert x is not None
    return [Alias(x, 0, contiguous_strides(x.shape))] if x.dtype == out.dtype else None


ALIASES: dict[str, Callable[[Step], list[Alias] | None]] = {
    "flip": flip,
    "clone": same,
    "detach": same,
    "to": same,
}


def nothing(step: Step) -> Callable:
    """An element of an array that has none: its loops never run."""
    zero = constant(0, value_type(step.outputs[0].dtype))
    return lambda reader, index: zero


def definitions(step: Step) -> list[Alias] | list[Map] | None:
    """How each result of a step is made of its inputs, or None if this file cannot say."""
    aliases = ALIASES.get(step.op.name, views)(step)
    if aliases is not None:
        return aliases
    try:
        for value in (*step.inputs, *step.outputs):
            if value is not None:
                storage_type(value.dtype)
        if step.op.name in MAPS:
            make, cost = MAPS[step.op.name]
            return [Map(make(step) if step.outputs[0].size else nothing(step), cost)]
        found = pointwise(step)
        return None if found is None else [found]
    except Unsupported:
        return None
