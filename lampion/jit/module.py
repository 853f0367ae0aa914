"""A graph as a module: it runs, trains and saves without the Python that made it. Imports file,
compiler.graph, core and nn.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, Any

from .. import dtypes
from ..compiler.trace.graph import Graph, Value
from ..core.modes import no_grad
from ..core.tensor import Tensor, wrap
from ..errors import check
from ..nn.module import Module
from ..nn.parameter import Parameter
from . import file


class GraphModule(Module):
    """Runs a traced graph on tensors, operator by operator, so that its results can be
    differentiated, its parameters trained and its graph compiled.

    Parameters and buffers have the names they had in the module that was traced. Arguments need
    the shapes and types that were traced: sizes are part of the graph.
    """

    def __init__(self, graph: Graph, results: Any, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.graph, self.results = graph, results
        self.arguments = [item.value for item in graph.inputs if item.role == "argument"]
        constants = (i for i in graph.inputs if i.role == "constant")
        self.constants: dict[Any, Tensor] = {i.value: wrap(i.data) for i in constants}
        self.places: dict[Value, tuple[Module, str]] = {}
        for item in graph.inputs:
            check(item.role != "number", lambda: number_error(item.value), TypeError)
            if item.role == "state":
                self.places[item.value] = self.place(item.value.name, tensors[item.value.name])

    def place(self, name: str, tensor: Tensor) -> tuple[Module, str]:
        """Puts a tensor at its dotted name, as parameter or as buffer."""
        *path, last = name.split(".")
        module: Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, Module())
            module = module._modules[part]
        if isinstance(tensor, Parameter):
            module.register_parameter(last, tensor)
        else:
            module.register_buffer(last, tensor)
        return module, last

    def forward(self, *arguments: Any) -> Any:
        """The results for these arguments. TypeError or RuntimeError for others than traced."""
        self.check_arguments(arguments)
        values: dict[Value | None, Any] = {None: None}
        values.update(self.constants)
        values.update(zip(self.arguments, arguments))
        for value, (module, name) in self.places.items():
            values[value] = getattr(module, name)
        for step in self.graph.steps:
            found = step.op(*[values[v] for v in step.inputs], **step.params)
            values.update(zip(step.outputs, found if isinstance(found, tuple) else (found,)))
        with no_grad():
            for target, value in self.graph.writes:
                values[target].copy_(values[value])
        return filled(self.results, values)

    def check_arguments(self, arguments: tuple) -> None:
        """Raises unless the arguments have the traced shapes and types."""
        expected, got = len(self.arguments), len(arguments)
        check(
            expected == got,
            lambda: f"[graph] takes {expected} tensors, got {got} arguments",
            TypeError,
        )
        for i, (value, argument) in enumerate(zip(self.arguments, arguments)):
            check(
                isinstance(argument, Tensor),
                lambda: f"[graph] argument {i} must be a Tensor, not {type(argument).__name__}",
                TypeError,
            )
            same = argument._data.shape == value.shape and argument._data.dtype == value.dtype
            check(
                same,
                lambda: (
                    f"[graph] argument {i} was traced as {value.type_text()}, got "
                    f"{argument.dtype} {list(argument.shape)}; trace again for this shape and type"
                ),
            )

    def save(self, f: str | os.PathLike | IO[bytes]) -> None:
        """Writes the graph and the present weights to a graph file."""
        found = {value.name: getattr(*place) for value, place in self.places.items()}
        weights = {name: tensor._data for name, tensor in found.items()}
        trainable = {name for name, tensor in found.items() if isinstance(tensor, Parameter)}
        file.write(f, self.graph, self.results, weights, trainable)

    def __str__(self) -> str:
        return str(self.graph)


def number_error(value: Value) -> str:
    """Why a graph that reads a Python number anew in each call is no module."""
    return (
        f"[jit.trace] {value!r} is read from an object at each call (an optimizer's lr, a step "
        "count); trace the model without its optimizer, or use lampion.compile"
    )


def filled(results: Any, values: Mapping[Any, Any]) -> Any:
    """The results with each value's tensor in its place."""
    if isinstance(results, Value):
        return values[results]
    if isinstance(results, dict):
        return {key: filled(r, values) for key, r in results.items()}
    if isinstance(results, (tuple, list)):
        return type(results)([filled(r, values) for r in results])
    return results


def load(f: str | os.PathLike | IO[bytes], map_location: Any = None) -> GraphModule:
    """The module in a graph file. No code from the file runs; `map_location` may name the CPU.

    Raises RuntimeError for a damaged file, one of a later format, or with an unknown operator.
    """
    graph, results, weights, trainable = file.read(f)
    tensors: dict[str, Tensor] = {}
    for name, array in weights.items():
        tensor = wrap(array)
        learns = name in trainable
        floating = dtypes.FROM_NUMPY[array.dtype].category >= dtypes.FLOAT
        tensors[name] = Parameter(tensor, requires_grad=floating) if learns else tensor
    module = GraphModule(graph, results, tensors)
    return module if map_location is None else module.to(map_location)
