"""`trace`: runs a function or module once and keeps the graph of what it did. Imports module,
compiler.trace, core and nn.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import IO, Any

from ..compiler.trace.graph import Graph, Value
from ..compiler.trace.tracer import Source, Tracer, pruned, tracer
from ..compiler.trace.watch import TRACING, watching
from ..core.tensor import Tensor
from ..errors import check
from ..nn.module import Module
from ..utils._pytree import tree_flatten, tree_leaves, tree_map
from .module import GraphModule


def trace(
    func: Callable[..., Any],
    example_inputs: Any = None,
    check_trace: bool = True,
    check_inputs: Any = None,
    example_kwarg_inputs: Mapping[str, Any] | None = None,
    **options: Any,
) -> GraphModule:
    """The graph of what `func` (a function or a Module) does to example tensors, as a module.

    Sizes, and everything that Python computed on the way, become part of the graph; parameters and
    buffers keep their names and are shared with the original. Raises RuntimeError where the
    function looks at a tensor's values, so that another input could have gone another way.
    `check_trace` runs the graph once more and compares it with the function's own results.

    >>> import lampion as torch
    >>> print(torch.jit.trace(lambda x: x.relu().sum(), torch.ones(2)))
    graph:
      argument %x: f32[2]
      %v0: f32[2] = relu(%x)
      %v1: f32[] = sum(%v0, dim=None, keepdim=False)
      return (%v1)
    """
    given = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    call = bound_call(func, tuple(given), dict(example_kwarg_inputs or {}))
    tensors = [t for t in tree_leaves(call.arguments) if isinstance(t, Tensor)]
    draws, results, active = run(func, call, tensors)
    check(
        active.failure is None,
        lambda: (
            f"[jit.trace] {active.failure}, so another input could take another way; compute with "
            "tensor operators (torch.where) instead, or keep that part out of the traced function"
        ),
    )
    structure, leaves = structure_of(results, active)
    graph, kept = pruned(Graph(active.inputs, active.steps, leaves, active.writes(), "graph"))
    sources = [active.sources[i] for i in kept]
    graph.inputs = ordered(graph, active)
    name_arguments(active, call, tensors)
    module = GraphModule(graph, structure, named_tensors(graph, active, sources, kept, func))
    module.training = bool(getattr(func, "training", True))
    if check_trace and not draws and not graph.writes:
        compare(module, tensors, results)
    return module


def bound_call(func: Callable, args: tuple, kwargs: dict) -> inspect.BoundArguments:
    """The arguments by the names of the function's parameters."""
    try:
        return inspect.signature(getattr(func, "forward", func)).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"[jit.trace] example_inputs do not fit the function: {error}") from None


def run(func: Callable, call: inspect.BoundArguments, tensors: list) -> tuple[bool, Any, Tracer]:
    """Runs the function, watched: whether it drew random numbers, its results, the trace."""
    with TRACING:
        active = Tracer()
        for t in tensors:
            active.add_argument(t)
        with watching(active):
            results = func(*call.args, **call.kwargs)
    return any(step.op.random for step in active.steps), results, active


def structure_of(results: Any, active: Tracer) -> tuple[Any, list[Value]]:
    """The results with values in the place of tensors, and these values."""
    found: list[Value] = []

    def value(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        found.append(active.value_of(x))
        return found[-1]

    return tree_map(value, results), found


def ordered(graph: Graph, active: Tracer) -> list:
    """The inputs: all arguments first, whether they are used or not, in their order."""
    arguments = [i for i in active.inputs if i.role == "argument"]
    return [*arguments, *(i for i in graph.inputs if i.role != "argument")]


def name_arguments(active: Tracer, call: inspect.BoundArguments, tensors: list) -> None:
    """Gives arguments the names of the function's parameters."""
    names: list[str] = []
    for name, value in call.arguments.items():
        count = sum(isinstance(leaf, Tensor) for leaf in tree_flatten(value)[0])
        names += [name] if count == 1 else [f"{name}{i}" for i in range(count)]
    for item, source in zip(active.inputs, active.sources):
        if source.kind == "argument":
            item.value.name = names[source.place]


def named_tensors(
    graph: Graph, active: Tracer, sources: list[Source], kept: list[int], func: Any
) -> dict[str, Tensor]:
    """The graph's state by name: a module's own names where it is one, else numbers."""
    names: dict[int, str] = {}
    if isinstance(func, Module):
        named = [*func.named_parameters(), *func.named_buffers()]
        names = {id(t._data): name for name, t in named}
    found: dict[str, Tensor] = {}
    for i, source in zip(kept, sources):
        item = active.inputs[i]
        if item.role == "state":
            tensor: Any = source.tensor
            item.value.name = names.get(id(tensor._data), f"captured.{len(found)}")
            found[item.value.name] = tensor
    return found


def compare(module: GraphModule, tensors: list, expected: Any) -> None:
    """Raises RuntimeError if the graph gives other results than the function did."""
    again = tree_leaves(module(*tensors))
    for mine, theirs in zip(again, tree_leaves(expected)):
        same = not isinstance(theirs, Tensor) or mine.allclose(theirs, equal_nan=True)
        check(
            bool(same),
            "[jit.trace] the graph gives other results than the function: it depends on something "
            "that is no operator (a Python number that changes, memory written from outside)",
        )


def save(m: GraphModule, f: str | os.PathLike | IO[bytes], **options: Any) -> None:
    """Writes a traced module to a graph file, docs/graph_format.md. TypeError for other modules."""
    check(
        isinstance(m, GraphModule),
        lambda: (
            f"[jit.save] saves what jit.trace returns, got {type(m).__name__}; trace it first: "
            "jit.trace(model, example_input)"
        ),
        TypeError,
    )
    m.save(f)


def script(obj: Any, *args: Any, **options: Any) -> Any:
    """The function, class or module itself: Lampion runs Python as it is, and `lampion.compile`
    makes it fast.
    """
    return obj


ignore = export = unused = script  # marks for the TorchScript compiler, which nothing needs here


def is_tracing() -> bool:
    """Whether a trace is going on in this thread."""
    return tracer() is not None


def is_scripting() -> bool:
    """False: functions run as Python."""
    return False
