"""The kernel that checks an index. May import definitions, kernels and ir.

It stores how many elements lie outside of their dimension; the program stops if there is one (see
stages.Call).
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir.node import (
    INTS,
    Node,
    constant,
    loop,
    loop_range,
    parameter,
    program,
    reduce,
    store,
    where as choose,
)
from ..trace.graph import Step, Value, contiguous_strides
from .definitions import Definitions
from .kernels import Buffer, Generated, Kernel
from .scalar import IR_TYPES

Buffers = Callable[[Value], Buffer]


def check_index(definitions: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """The kernel of a check; None for an index of another type than int32 and int64."""
    (index,), (word,) = step.inputs, step.outputs
    assert index is not None
    kind, sizes = IR_TYPES.get(index.dtype), step.params["sizes"]
    if kind not in INTS:
        return None
    place = definitions.place(index)
    assert place is not None
    shape, strides, begin, apart = index.shape, place.strides, place.offset, 0
    if len(sizes) > 1:
        shape, strides, apart = shape[1:], strides[1:], strides[0]
    if strides == contiguous_strides(shape):
        shape, strides = (index.size // len(sizes),), (1,)
    out, elements = parameter(0, "*i64"), parameter(1, f"*{kind}")
    count = constant(0, "i64")
    for number, size in enumerate(sizes):
        ranges = [loop_range(0, n, 1 + number * len(shape) + d) for d, n in enumerate(shape)]
        at = constant(begin + number * apart, "i64")
        for each, stride in zip(ranges, strides, strict=True):
            at = at + each * stride
        wrong = outside(elements.load(at).cast("i64"), size, step).cast("i64")
        count = count + reduce(wrong, ranges, "add")
    once = loop_range(parameter(2, "i64"), parameter(3, "i64"), 0)
    code = loop(once, store(out, constant(0, "i64"), count))
    operands = buffer(word), buffer(place.root)
    work = Generated(program("kernel", ["*i64", f"*{kind}", "i64", "i64"], code), operands, 1)
    name = step.op.name
    return [Kernel(name, (name,), operands[1:], operands[:1], work, check=True)]


def outside(x: Node, size: int, step: Step) -> Node:
    """Whether an element is no index."""
    wrong = (x < (-size if step.params["negative"] else 0)) | (x >= size)
    skip = step.params["skip"]
    return wrong if skip is None else choose(x.equals(skip), constant(0, "bool"), wrong)
