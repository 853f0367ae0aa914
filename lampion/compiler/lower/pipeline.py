"""From a graph to kernels: the pipeline. May import the other files here, passes and kernels.

Operators become definitions (definitions), these are grouped (fuse), groups become kernels
(loops), and what has neither becomes a call of a template or of the host (calls).
"""

from __future__ import annotations

import numpy as np

from ...config import flags
from ..trace.graph import Graph, Value, contiguous_strides
from .bounds import bounds
from .calls import call_kernels
from .clean import clean
from .definitions import Call, Definitions, Place
from .draws import straightened
from .epilogue import finish, with_epilogue
from .expand import expand
from .fuse import Fusion, Group
from .kernels import Buffer, Host, Kernel, KernelList
from .lookup import lookup
from .loops import generate
from .values import Alias, Map

PASSES = (lookup, bounds, straightened, expand, clean)


def lower(graph: Graph) -> KernelList:
    """The kernels that do what the graph says, in an order that works."""
    for each in PASSES:
        graph = each(graph)
        if flags.check:
            graph.verify()
    return Lowering(graph).result()


class Lowering:
    """One graph on its way to kernels."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.program = Definitions(graph)
        self.buffers: dict[Value, Buffer] = {}
        self.inputs = [self.input_buffer(i.value) for i in graph.inputs]
        self.results = {v: self.own(v) for v in dict.fromkeys(graph.results())}
        self.fusion = Fusion(self.program)
        for value in self.results.values():
            root = self.fusion.in_memory(value)
            self.fusion.stored.add(root)
        self.outputs = {self.results[v] for v in graph.outputs}

    def input_buffer(self, value: Value) -> Buffer:
        """The buffer of a graph's input."""
        item = self.program.inputs[value]
        buffer = Buffer(item.role, value.shape, value.dtype, len(self.buffers), item.data)
        self.buffers[value] = buffer
        return buffer

    def own(self, value: Value) -> Value:
        """The value, or a copy if it is only seen through a view or computed on the way."""
        place = self.program.place(value)
        if place is not None and self.stands_for(place, value):
            return place.root
        inline = self.program.is_inline(value) and value not in self.program.inputs
        if isinstance(self.program.made.get(value), Alias) or inline:
            return self.program.copied(value, Value(value.shape, value.dtype, f"{value.name}_out"))
        return value

    def stands_for(self, place: Place, value: Value) -> bool:
        """Whether a view shows all of a value that is made here, as it lies in memory."""
        root, made = place.root, self.program.made.get(place.root)
        whole = place.offset == 0 and place.strides == contiguous_strides(value.shape)
        kept = made is not None and not (isinstance(made, Map) and self.program.is_inline(root))
        return whole and kept and root.shape == value.shape

    def buffer(self, value: Value) -> Buffer:
        """Where a value is in memory."""
        found = self.buffers.get(value)
        if found is None:
            role = "output" if value in self.outputs else "temporary"
            found = Buffer(role, value.shape, value.dtype, len(self.buffers))
            self.buffers[value] = found
        return found

    def result(self) -> KernelList:
        """All kernels, and what comes in and goes out."""
        kernels: list[Kernel] = []
        read = [v for g in self.fusion.groups if g.call is not None for v in g.leaves]
        for value in dict.fromkeys((*self.results.values(), *read)):
            made = isinstance(self.program.made.get(value), Call) or value in self.program.inputs
            if not value.size and not made:
                kernels.append(empty_kernel(self.buffer(value)))
        for group in ordered(self.fusion.groups):
            kernels += self.kernels(group)
        inputs = tuple(
            None if i.role == "constant" else self.buffers[i.value] for i in self.graph.inputs
        )
        outputs = tuple(self.buffer(self.results[v]) for v in self.graph.outputs)
        writes = tuple(
            (self.buffers[target], self.buffer(self.results[v])) for target, v in self.graph.writes
        )
        return KernelList(
            self.graph.name, inputs, kernels, outputs, writes, str(self.graph).splitlines()
        )

    def kernels(self, group: Group) -> list[Kernel]:
        """The kernels of a group; none where nothing is kept of what it makes."""
        if group.call is not None:
            return self.call_kernels(group, group.call)
        stores = [v for v in group.members if v in self.fusion.stored]
        if not stores:
            return []
        return [generate(self.program, group, stores, self.buffer)]

    def call_kernels(self, group: Group, call: Call) -> list[Kernel]:
        """The kernels of a call, with what its epilogue makes."""
        outs = call.step.outputs
        stores = [v for v in group.members if v in self.fusion.stored and v not in outs]
        if not stores:
            return call_kernels(self.program, call, self.buffer)
        self.share(outs[0], stores)
        epilogue, pairs = finish(self.program, group, stores, self.buffer)
        (kernel,) = call_kernels(self.program, call, self.buffer, epilogue)
        return [with_epilogue(self.program, kernel, group, [self.buffer(v) for v in stores], pairs)]

    def share(self, out: Value, stores: list[Value]) -> None:
        """Lets what only the epilogue reads use the memory of a value that the epilogue makes, one
        that is not to be made in a state's memory.
        """
        if out not in self.fusion.stored:
            states = {self.results[v] for _, v in self.graph.writes}
            alike = [v for v in stores if v.dtype == out.dtype and v not in states]
            if alike:
                self.buffers[out] = self.buffer(alike[0])


def empty_kernel(buffer: Buffer) -> Kernel:
    """What makes an array without elements."""
    work = Host(lambda: np.empty(buffer.shape, buffer.dtype), (), (buffer,))
    return Kernel("empty", (), (), (buffer,), work)


def ordered(groups: list[Group]) -> list[Group]:
    """The groups, each after those that must run before it, else in the order they were made."""
    done, result = 0, list[Group]()
    waiting = list(groups)
    while waiting:
        later: list[Group] = []
        for group in waiting:
            if group.before & ~done:
                later.append(group)
            else:
                result.append(group)
                done |= 1 << group.number
        assert len(later) < len(waiting), "groups that wait for each other"
        waiting = later
    return result
