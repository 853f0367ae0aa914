"""From the end of a trace to a program: what comes back, what is set, what the backward needs.

Imports trace, graph and core. `capture` runs after the function has returned, with the tracer
still observing: the backward of results that require grad is traced by walking their tape.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable
from typing import Any, NamedTuple

from ...core import autograd
from ...core.dispatch import edge
from ...core.graph import FREED, STATE, Node, SavedOutput
from ...core.op import Op
from ...core.tensor import Tensor, wrap
from .graph import Graph, Input, Value
from .regions import geometry
from .structure import Structure, flatten
from .tracer import Source, Touched, Tracer, Untraceable, pruned

CONSTANT = (bool, int, float, complex, str, bytes, type(None))


class Result(NamedTuple):
    """What one place of the result holds.

    kind   "value": output `place`, with a gradient if `grad` says which of the differentiable
           ones it is; "argument": that argument; "view": of the argument or of `thing`, by `chain`;
           "object": `thing` itself; "same": what is at that place of the result; "part": a view of
           it
    spent  whether it requires grad, but its graph has been run and freed
    """

    kind: str
    place: int = -1
    thing: Any = None
    chain: tuple[tuple[Op, dict], ...] = ()
    grad: int | None = None
    spent: bool = False


class Gradient(NamedTuple):
    """What happens to `.grad` of a tensor: an argument's number, or the tensor itself.

    before  None: not looked at; else the program needs it to be ("none",) or like
            ("tensor", shape, strides, type)
    after   "kept", "none", or the number of the memory that it is written to
    """

    argument: int
    tensor: Tensor
    before: tuple | None
    after: int | str


class Backward(NamedTuple):
    """The gradients of results that require grad, as a graph of its own.

    graph    from cotangents, then saved values, to the gradients of the edges
    edges    what the gradients flow to: an argument's number, or a leaf or node
    roots    for each cotangent, its shape and type
    saved    where each saved value comes from: ("output", number) or ("input", number)
    given    for each edge, the number of its output; None: no gradient flows there
    detour   why the forward's steps do not show the history of its results, if so
    """

    graph: Graph
    edges: tuple[Any, ...]
    roots: tuple[tuple, ...]
    saved: tuple[tuple[str, int], ...]
    given: tuple[int | None, ...]
    detour: str = ""


class Captured(NamedTuple):
    """A traced call."""

    graph: Graph
    sources: list[Source]
    structure: Structure
    results: list[Result]
    gradients: list[Gradient]
    backward: Backward | None


def capture(tracer: Tracer, result: Any, name: str) -> Captured | None:
    """The program of a call that returned `result`; None if there is none (see `failure`)."""
    found = tracer.attempt(assemble, tracer, result, name)
    if tracer.failure is None:
        tracer.attempt(check_effects, tracer)
        keep = [t for t in flatten(result)[0] if isinstance(t, Tensor)]
        present = [t for t in (b.tensor() for b in tracer.before.values()) if t is not None]
        keep += [t._grad for t in present if t._grad is not None]
        tracer.attempt(check_leaks, tracer, keep)
    return found if tracer.failure is None else None


def assemble(tracer: Tracer, result: Any, name: str) -> Captured:
    """Puts the graph's ends together."""
    leaves, structure = flatten(result)
    outputs: list[Value] = []
    roots: list[Tensor] = []
    shared = [shared_with(tracer, leaves, i) for i in range(len(leaves))]
    results = [
        known or result_of(tracer, leaf, outputs, roots)
        for leaf, known in zip(leaves, shared, strict=True)
    ]
    memory: list[Value] = []
    gradients = [gradient_of(tracer, touched, memory) for touched in tracer.grads.values()]
    forward = list(tracer.steps)
    writes = tracer.writes()
    for i, value in enumerate(memory):
        target = Value(value.shape, value.dtype, f"g{i}")
        tracer.inputs.append(Input(target, "state"))
        tracer.sources.append(Source("memory", i))
        writes.append((target, value))
    backward = trace_backward(tracer, roots, results) if roots else None
    saved: list[Value] = []
    if backward is not None:
        saved = [v for kind, v in backward[1] if kind == "output"]
    graph = Graph(list(tracer.inputs), forward, outputs + saved, writes, name)
    graph, kept = pruned(graph)
    graph.verify()
    sources = [tracer.sources[i] for i in kept]
    if backward is None:
        return Captured(graph, sources, structure, results, gradients, None)
    numbers = {item.value: i for i, item in enumerate(graph.inputs)}
    places = []
    count = len(outputs)
    for kind, value in backward[1]:
        places.append((kind, count if kind == "output" else numbers[value]))
        count += kind == "output"
    whole = backward[0]._replace(saved=tuple(places))
    return Captured(graph, sources, structure, results, gradients, whole)


def result_of(tracer: Tracer, leaf: Any, outputs: list[Value], roots: list[Tensor]) -> Result:
    """How a place of the result is made again."""
    if not isinstance(leaf, Tensor):
        known = isinstance(leaf, CONSTANT) or type(leaf).__module__.startswith("lampion.")
        if not known:
            raise Untraceable(f"the function returns an object of type {type(leaf).__name__}")
        return Result("object", thing=leaf)
    for i, argument in enumerate(tracer.arguments):
        if leaf is argument:
            return Result("argument", i)
    if tracer.past(leaf) is not None:
        return Result("object", thing=leaf)
    value = tracer.value_of(leaf)
    region = tracer.regions.find(leaf._data)
    g = geometry(leaf._data)
    if region is not None and region.kind in ("argument", "state"):
        source = tracer.sources[region.input]
        explained = tracer.explained(region, leaf, g)
        chain = region.chain(g) if explained else ()
        if source.kind != "gradient" and explained and (chain or not leaf._requires_grad):
            place = source.place if source.kind == "argument" else -1
            return Result("view", place, source.tensor, chain, 0 if leaf._requires_grad else None)
    outputs.append(value)
    grad = None
    if leaf._requires_grad and leaf.grad_fn is not None and not is_freed(tracer, leaf.grad_fn):
        grad = len(roots)
        roots.append(leaf)
    spent = leaf._requires_grad and grad is None
    return Result("value", len(outputs) - 1, grad=grad, spent=spent)


def is_freed(tracer: Tracer, node: Node) -> bool:
    """Whether a backward has run through a node, or one that it leads to, and freed it."""
    seen: set[int] = set()
    stack: list[Any] = [node]
    while stack:
        e = stack.pop()
        if isinstance(e, Node) and e.seq > tracer.began and id(e) not in seen:
            if e.saved is None:
                return True
            seen.add(id(e))
            stack.extend(e.edges)
    return False


def shared_with(tracer: Tracer, leaves: list, i: int) -> Result | None:
    """The place of a result that is another one's tensor, or shows its memory."""
    leaf = leaves[i]
    region = tracer.regions.find(leaf._data) if isinstance(leaf, Tensor) else None
    if region is None or region.kind != "made":
        return None
    for k, other in enumerate(leaves[:i]):
        if other is leaf:
            return Result("same", k)
    g = geometry(leaf._data)
    for k, other in enumerate(leaves):
        if not isinstance(other, Tensor) or tracer.regions.find(other._data) is not region:
            continue
        whole = geometry(other._data) == region.base and leaf._requires_grad <= other._requires_grad
        first = k < i or (k > i and g != region.base)
        if whole and first and tracer.explained(region, leaf, g):
            grad = 0 if leaf._requires_grad else None
            return Result("part", k, chain=region.chain(g), grad=grad)
    return None


def gradient_of(tracer: Tracer, touched: Touched, memory: list[Value]) -> Gradient:
    """What the call needs of a tensor's `.grad`, and what it leaves there."""
    t, read, entry = touched
    final = t._grad
    number = next((k for k, a in enumerate(tracer.arguments) if a is t), -1)
    needs: tuple | None = None
    if read:
        needs = ("none",) if entry is None else like(entry)
    if final is entry and read:
        return Gradient(number, t, needs, "none" if final is None else "kept")
    if final is None:
        return Gradient(number, t, needs, "none")
    region = tracer.regions.find(final._data)
    if tracer.past(final) is not None or (region is not None and region.kind != "made"):
        raise Untraceable("`.grad` becomes a tensor from outside")
    memory.append(tracer.value_of(final))
    return Gradient(number, t, needs, len(memory) - 1)


def like(grad: Tensor) -> tuple:
    """What a program needs to know of a gradient that it reads."""
    data = grad._data
    return "tensor", data.shape, data.strides, data.dtype


# -- the backward of what is returned ------------------------------------------------------------


def trace_backward(
    tracer: Tracer, roots: list[Tensor], results: list[Result]
) -> tuple[Backward, list[tuple[str, Value]]]:
    """Walks the tape of the results to where it left the call, and writes down what runs."""
    start = len(tracer.steps)
    known_inputs = len(tracer.inputs)
    edges = outer_edges(tracer, roots)
    cotangents = []
    for t in roots:
        cotangents.append(wrap(t._data.copy()))
        tracer.add_input(cotangents[-1], "argument", Source("argument"))
    given = list(tracer.inputs[known_inputs:])
    wanted: dict[int, Any] = {id(e): None for e in edges}
    hooks = [(e, stash_hooks(e)) for e in edges]
    try:
        walk_tape(roots, cotangents, wanted)
    finally:
        for e, held in hooks:
            e.__dict__.update(held)
    found = [wanted[id(e)] for e in edges]
    outputs = [tracer.value_of(g) for g in found if g is not None]
    numbers = iter(range(len(outputs)))
    places = tuple(None if g is None else next(numbers) for g in found)
    steps = tracer.steps[start:]
    made = {v for s in tracer.steps[:start] for v in s.outputs}
    inputs = list(tracer.inputs)
    needed = {v for s in steps for v in s.inputs if v is not None} | set(outputs)
    saved = [("output", v) for v in needed if v in made]
    constants = [i for i in inputs if i.role == "constant"]
    if any(i.role != "constant" for i in inputs[known_inputs + len(given) :]):
        raise Untraceable("the backward uses a tensor that the forward has not seen")
    outside = {i.value for i in inputs[:known_inputs] if i.role != "constant"}
    saved += [("input", v) for v in needed if v in outside]
    saved.sort(key=lambda pair: pair[1].name)
    starts = given + [Input(v, "argument") for _, v in saved]
    graph = Graph(starts + constants, steps, outputs, [], "backward")
    kept_graph, _ = pruned(graph)
    constants = [i for i in kept_graph.inputs if i.role == "constant"]
    graph = Graph(starts + constants, kept_graph.steps, outputs, [], "backward")
    graph.verify()
    shapes = tuple((t._data.shape, t._data.dtype) for t in roots)
    ends = tuple(outer_edge(tracer, e) for e in edges)
    return Backward(graph, ends, shapes, (), places, tracer.detour), saved


def walk_tape(roots: list[Tensor], cotangents: list[Tensor], wanted: dict) -> None:
    """Runs the backward without accumulating, up to the wanted edges; the tape stays as it is."""
    with STATE.set(grad=False):
        reach = {n for n in autograd.nodes_leading_to(roots, wanted) if id(n) not in wanted}
        try:
            autograd.walk(roots, cotangents, True, wanted, reach)
        except RuntimeError as error:
            if str(error) == FREED:
                raise Untraceable("a result depends on a graph that has been freed") from None
            raise


def outer_edges(tracer: Tracer, roots: Iterable[Tensor]) -> list[Any]:
    """Where the tape leaves the call: leaves, and nodes that were there before."""
    found: dict[int, Any] = {}
    seen: set[int] = set()
    stack = [edge(t) for t in roots]
    while stack:
        e = stack.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        if isinstance(e, Node) and e.seq > tracer.began:
            stack.extend(e.edges)
            if e.watched:
                tracer.detour = "a hook sees a gradient inside"
        else:
            found[id(e)] = e
    return list(found.values())


def outer_edge(tracer: Tracer, e: Any) -> Any:
    """An argument's number for an edge that belongs to one, else the edge."""
    for i, argument in enumerate(tracer.arguments):
        if argument._requires_grad and edge(argument) is e:
            return i
    return e


def stash_hooks(e: Any) -> dict[str, Any]:
    """Takes the hooks off an edge: they run when the compiled backward's gradient arrives."""
    names = ("_hooks", "watched", "tensor_hooks", "pre_hooks", "retained", "hooks")
    held = {name: e.__dict__[name] for name in names if name in e.__dict__}
    for name in held:
        del e.__dict__[name]
    return held


# -- what a program could not do again -----------------------------------------------------------


def check_effects(tracer: Tracer) -> None:
    """Raises where the call changed more of a tensor than its values and its gradient."""
    tensors = [s.tensor for s in tracer.sources if s.tensor is not None and s.kind != "gradient"]
    for t in tensors:
        before = tracer.past(t)
        if before is None:
            continue
        same = t._data is before.data() and t._requires_grad == before.requires_grad
        if not same or t.grad_fn is not before.grad_fn:
            raise Untraceable("a tensor from outside takes other memory or another history")


def check_leaks(tracer: Tracer, keep: list[Tensor]) -> None:
    """Raises where a tensor that the call made stays behind in something unseen."""
    for attempt in range(2):
        living = [t for t in (r() for r in tracer.made) if t is not None]
        if not living:
            return
        reachable = tape_tensors(keep)
        if all(id(t) in reachable for t in living):
            return
        del living
        if attempt == 0:
            gc.collect()
    raise Untraceable("a tensor made in the call is kept by something other than its result")


def tape_tensors(roots: Iterable[Tensor]) -> set[int]:
    """Ids of the tensors that results hold: themselves, what they view, what their tape saved."""
    found: set[int] = set()
    stack: list[Any] = list(roots)
    while stack:
        x = stack.pop()
        if isinstance(x, (tuple, list)):
            stack.extend(x)
        elif isinstance(x, dict):
            stack.extend(x.values())
        elif isinstance(x, Op) or id(x) in found:
            continue
        elif isinstance(x, Tensor):
            found.add(id(x))
            stack += [x._view or (), x.grad_fn, x._grad]
        elif isinstance(x, SavedOutput):
            continue
        elif isinstance(x, Node):
            found.add(id(x))
            stack += [x.edges, x.saved or (), getattr(x, "node", None), vars(x)]
    return found
