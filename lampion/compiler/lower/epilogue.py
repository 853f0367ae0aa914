"""What finishes a product or convolution part by part, as a kernel in IR. May import loops
and kernels.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir.node import loop, loop_range, parameter, program
from ..ir.rewrite import substitute
from ..ir.specification import verified
from ..trace.graph import Value
from .definitions import Definitions
from .fuse import Group
from .index import Counter
from .kernels import Buffer, Epilogue, Kernel, Library
from .loops import Writer, in_place

Buffers = Callable[[Value], Buffer]
Pairs = tuple[tuple[Buffer, Buffer], ...]


def finish(
    program_: Definitions, group: Group, stores: list[Value], buffer: Buffers
) -> tuple[Epilogue, Pairs]:
    """The values that are stored, made from a call's result for some rows and columns of a matrix,
    and what may be done in place (see Kernel).
    """
    begin = len(group.leaves) + len(group.members)  # of the numbers, behind all operands
    batch, row0, row1, column0, column1 = (parameter(begin + i, "i64") for i in range(5))
    (batches, _), (rows, _), (columns, _) = group.factors
    row, column = loop_range(row0, row1, 0), loop_range(column0, column1, 1)
    counters = [Counter(batch, batches), Counter(row, rows), Counter(column, columns)]
    writer = Writer(program_, group, counters)
    statement = loop(row, loop(column, *(writer.stored(v, writer.full) for v in stores)))
    count = len(writer.operands)
    numbers = {parameter(begin + i, "i64"): parameter(count + i, "i64") for i in range(5)}
    signature = [p.dtype for p in writer.operands.values()] + ["i64"] * 5
    root = verified(program("kernel", signature, substitute(statement, numbers)), "lowering")
    pairs = in_place(dict.fromkeys(stores, writer.full), writer, statement, buffer)
    return Epilogue(root, tuple(buffer(v) for v in writer.operands)), pairs


def with_epilogue(
    program_: Definitions, kernel: Kernel, group: Group, stores: list[Buffer], pairs: Pairs
) -> Kernel:
    """A call's kernel with what its epilogue reads and writes. Nothing that the call itself
    reads or writes may change before it is done.
    """
    assert isinstance(kernel.work, Library) and kernel.work.epilogue is not None
    writes = tuple(dict.fromkeys((*kernel.writes, *stores)))
    inputs = (b for b in kernel.work.epilogue.operands if b not in writes)
    taken = {*kernel.reads, *kernel.writes}
    operators = dict.fromkeys(program_.origin[v] for v in group.members)
    return Kernel(
        " ".join(operators),
        tuple(operators),
        tuple(dict.fromkeys((*kernel.reads, *inputs))),
        writes,
        kernel.work,
        tuple(pair for pair in pairs if taken.isdisjoint(pair)),
    )
