"""Tracing by running: a call runs as it is, and an observer writes down each operator as a graph.

Imports graph, regions, arena and core. Memory that several tensors show is a region (see
`regions`): reading a tensor asks the region for its present value, writing to one gives the region
a new value, so the graph has neither views nor writes. What can't be written down (a value that
Python looks at, memory changed behind the operators' back) is a `Failure`; the call goes on.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Collection
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy import ndarray

from ...config import flags
from ...core.dispatch import grad_mask
from ...core.graph import STATE
from ...core.inplace import SCATTER_VIEW
from ...core.memory import Storage, root_array, tick
from ...core.op import Op
from ...core.promotion import CAST
from ...core.tensor import Tensor, blank
from ...dtypes import FROM_NUMPY
from ..native.arena import give_back
from .graph import Graph, Input, Step, Value
from .guards import Fact, Row
from .regions import Like, Region, Regions, geometry


class Untraceable(RuntimeError):
    """What a call does can't be written down as a graph."""


class Failure(NamedTuple):
    """Why a call has no graph. `again`: the next one may."""

    reason: str
    line: str
    again: bool = False

    def __str__(self) -> str:
        return f"{self.reason} at {self.line}" if self.line else self.reason


class Option(NamedTuple):
    """A number among an optimizer's options: a group's value, or one of several."""

    group: dict[str, Any]
    name: str
    place: int | None = None

    def read(self) -> float:
        """Its present value."""
        value = self.group[self.name]
        return float(value if self.place is None else value[self.place])


class Zero(NamedTuple):
    """Whether an option is zero, where a rule asked for it."""

    option: Option
    expected: bool

    def holds(self) -> bool:
        """Whether the answer would be the same."""
        return (self.option.read() == 0) is self.expected


class Number(Tensor):
    """An option as a tensor. Rules may ask whether it is zero, which becomes a fact."""

    option: Option
    facts: list[Any]

    def __eq__(self, other: object) -> Any:
        return self._compared(Tensor.__eq__, other)

    def __ne__(self, other: object) -> Any:
        return self._compared(Tensor.__ne__, other)

    __hash__ = Tensor.__hash__

    def _compared(self, compare: Callable[..., Any], other: object) -> Any:
        if other.__class__ in (int, float) and other == 0:
            equal = bool(self._data == 0)
            self.facts.append(Zero(self.option, equal))
            return equal if compare is Tensor.__eq__ else not equal
        return compare(self, other)


class Source(NamedTuple):
    """Where an input comes from at each call.

    kind    "argument": its number is `place`; "state": `array`, which `tensor` shows;
            "gradient": `tensor.grad`; "memory": what the gradient number `place` is written
            to; "number": what `read()` returns, which is `where`; "constant"
    """

    kind: str
    place: int = -1
    tensor: Tensor | None = None
    array: ndarray | None = None
    read: Callable[[], float] | None = None
    where: Option | None = None


class Before(NamedTuple):
    """What a tensor was when the trace began; of what the call lets go, nothing is kept alive."""

    tensor: ref[Tensor]
    data: ref[ndarray]
    requires_grad: bool
    grad_fn: Any
    grad: ref[Tensor] | None

    @classmethod
    def of(cls, t: Tensor) -> Before:
        grad = None if t._grad is None else ref(t._grad)
        return cls(ref(t), ref(t._data), t._requires_grad, t.grad_fn, grad)


class Touched(NamedTuple):
    """A tensor whose `.grad` the call reads or sets: whether it reads it first, and what it read
    then.
    """

    tensor: Tensor
    read: bool
    grad: Tensor | None


class Tracer:
    """Writes down what the operators of a call do, until something can't be written down.

    before    every tensor there was, by id
    outside   the memory of those tensors, by its id
    changing  options of optimizers that are read anew at each call
    grads     by id, the tensors whose `.grad` was read or set
    """

    def __init__(self, strict: bool = False, changing: Collection[str] = ("lr",)) -> None:
        self.strict, self.changing = strict, changing
        self.began = tick()
        self.inputs: list[Input] = []
        self.sources: list[Source] = []
        self.steps: list[Step] = []
        self.regions = Regions()
        self.failure: Failure | None = None
        living = living_tensors()
        self.before = {id(t): Before.of(t) for t in living}
        self.versions: WeakKeyDictionary[Storage, int] = WeakKeyDictionary(
            {t._storage: t._storage.version for t in living if t._storage is not None}
        )
        roots = [root_array(t._data) for t in living]
        self.outside = {id(root): ref(root) for root in roots}
        self.grads: dict[int, Touched] = {}
        self.made: list[ref] = []
        self.detour = ""  # why the steps do not show the history of results, if so
        self.rewound = False  # whether the state of the random generator was set
        self.arguments: list[Tensor] = []
        self.identical: set[int] = set()  # arguments that were captured as well
        self.counts: dict[str, int] = {}
        self.facts: list[Fact | Row | Zero] = []

    # -- what the call tells ---------------------------------------------------------------------

    def __call__(self, op: Op, inputs: tuple, params: dict, outs: Any) -> None:
        """An operator ran."""
        self.attempt(self.ran, op, inputs, params, outs if outs.__class__ is tuple else (outs,))

    def wrote(self, target: Tensor, result: Tensor) -> None:
        """A tensor took the value of another in place."""
        self.attempt(self.write, target, result)

    def attempt(self, act: Callable[..., Any], *args: Any) -> Any:
        """Acts unless the trace has failed; what can't be written down makes it fail."""
        if self.failure is None:
            try:
                return act(*args)
            except Untraceable as error:
                self.fail(str(error))
            except Exception as error:  # a fault of the tracer's is no reason to end the call
                if flags.check:
                    raise
                self.fail(f"the tracer failed with {error!r}")
        return None

    def fail(self, reason: str, again: bool = False) -> None:
        """Ends the trace, not the call."""
        if self.failure is None:
            self.failure = Failure(reason, user_line(), again)
            if self.strict and not again:
                raise Untraceable(f"[compile] fullgraph=True, but {self.failure}")

    def read(self, t: Tensor, asker: str) -> None:
        """Python looks at the values of a tensor."""
        if self.failure is None:
            region = self.regions.find(t._data)
            constant = region is not None and region.kind == "constant" and not region.epoch
            if not constant:
                self.fail(f"`{asker}` reads the values of a tensor")

    def touch_grad(self, t: Tensor, read: bool) -> None:
        """The call reads or sets a tensor's `.grad`."""
        before = self.past(t)
        if self.failure is not None or id(t) in self.grads or before is None:
            return
        grad = t._grad if read else None
        if read and grad is not (before.grad and before.grad()):
            self.fail("a retained gradient is read")
        self.grads[id(t)] = Touched(t, read, grad)
        if grad is not None and self.regions.find(grad._data) is None:
            self.attempt(self.add_input, grad, "state", Source("gradient", tensor=t))

    def options(self, optimizer: Any, group: dict[str, Any]) -> dict[str, Any]:
        """An optimizer's group as its rule sees it: the rate is a number that is read anew at each
        call, the other options are taken for granted.
        """
        if self.failure is not None:
            return group
        give_back()  # what the passes needed: a traced update has temporaries of all parameters
        own = vars(optimizer)
        self.facts += [Fact(own, name, own[name]) for name in ("param_groups", "state")]
        self.facts += [Row(optimizer.param_groups, tuple(optimizer.param_groups))]
        self.facts += [Row(group["params"], tuple(group["params"]))]
        traced = dict(group)
        for name, option in group.items():
            changes = name == "lr" or name in self.changing
            if changes and isinstance(option, float):
                traced[name] = self.add_number(Option(group, name))
            elif changes and isinstance(option, tuple):
                places = range(len(option))
                traced[name] = tuple([self.add_number(Option(group, name, i)) for i in places])
            elif name != "params":
                self.facts.append(Fact(group, name, option))
        return traced

    # -- inputs ----------------------------------------------------------------------------------

    def past(self, t: Tensor) -> Before | None:
        """What a tensor was when the trace began; None for one that the call has made."""
        found = self.before.get(id(t))
        return found if found is not None and found.tensor() is t else None

    def is_outside(self, root: ndarray) -> bool:
        """Whether memory, given by its owner, was there when the trace began."""
        found = self.outside.get(id(root))
        return found is not None and found() is root

    def add_argument(self, t: Tensor) -> None:
        """A tensor that the caller passes."""
        self.arguments.append(t)
        if self.past(t) is None:
            self.before[id(t)] = Before.of(t)
        if self.regions.find(t._data) is None:
            self.add_input(t, "argument", Source("argument", len(self.arguments) - 1, t, t._data))
        else:
            self.attempt(self.value_of, t)

    def add_number(self, option: Option) -> Tensor:
        """A 0-dim float64 tensor of a number that is read anew at each call."""
        t: Number = blank(Number)
        t._data, t.option, t.facts = np.array(option.read(), np.float64), option, self.facts
        source = Source("number", array=t._data, read=option.read, where=option)
        self.attempt(self.add_input, t, "number", source)
        return t

    def add_input(self, t: Tensor, role: str, source: Source) -> Region:
        data = None if role != "constant" else t._data.copy()
        value = self.value(Like.of(t._data), role[0])
        self.inputs.append(Input(value, role, data))
        self.sources.append(source)
        return self.regions.add(t._data, value, role, len(self.inputs) - 1)

    def meet(self, t: Tensor) -> Region:
        """The region of a tensor that is not known yet."""
        data = t._data
        if t._view is not None:
            parent, op, params = t._view
            self.value_of(parent)
            region = self.regions.find(parent._data)
            if region is not None and region.spans(data):
                region.learn(data, parent._data, op, params)
                return region
        root = root_array(data)
        kept = root.ndim == 0 and not root.flags.writeable  # a number that `promotion` keeps
        if self.is_outside(root) and not kept:
            return self.add_input(t, "state", Source("state", tensor=t, array=data))
        if gc.get_freeze_count() and not kept:
            raise Untraceable("gc.freeze() hides which tensors there were before the call")
        return self.add_input(t, "constant", Source("constant"))

    # -- values ----------------------------------------------------------------------------------

    def value(self, like: Like, prefix: str = "v") -> Value:
        """A new value of a layout."""
        self.counts[prefix] = number = self.counts.get(prefix, -1) + 1
        return Value(like.shape, like.dtype, f"{prefix}{number}", like.strides)

    def value_of(self, t: Tensor) -> Value:
        """What a tensor holds now."""
        if not isinstance(t, Tensor) or not isinstance(t._data, ndarray):
            raise Untraceable(f"an operator got {type(t).__name__} as an input")
        data = t._data
        region = self.regions.find(data) or self.meet(t)
        self.check_version(t)
        if region.kind == "argument" and self.past(t) is not None:
            self.check_captured(t, region)
        return self.current(region, t, geometry(data))

    def check_version(self, t: Tensor) -> None:
        """Notices memory that was written behind the operators' back."""
        storage = t._storage
        if storage is None:
            return
        if self.versions.setdefault(storage, 0) != storage.version:
            raise Untraceable("memory is written by something that is no operator")

    def check_captured(self, t: Tensor, region: Region) -> None:
        """Notices that an argument is known to the function from elsewhere, too."""
        if not any(t is a for a in self.arguments):
            self.identical.add(self.sources[region.input].place)

    def current(self, region: Region, t: Tensor | None, g: tuple) -> Value:
        """A view's present value: made anew from its parent's if something was written since."""
        known = region.values.get(g)
        if known is not None and known[1] == region.epoch:
            return known[0]
        if not self.explained(region, t, g):
            raise Untraceable("a view that no operator explains is used after a write")
        parent_geometry, op, params, like = region.recipes[g]
        value = self.value(like)
        given = self.current(region, None, parent_geometry)
        self.steps.append(Step(op, (given,), params, (value,), user_line()))
        region.values[g] = (value, region.epoch)
        return value

    def explained(self, region: Region, t: Tensor | None, g: tuple) -> bool:
        """Whether it is known how a view is made of its region's base."""
        if t is not None and t._view is not None:
            parent, op, params = t._view
            if self.explained(region, parent, geometry(parent._data)):
                region.learn(t._data, parent._data, op, params)
        return g == region.base or g in region.recipes

    def ran(self, op: Op, inputs: tuple, params: dict, outs: tuple) -> None:
        given = tuple([None if t is None else self.value_of(t) for t in inputs])
        values = tuple([self.value(Like.of(t._data)) for t in outs])
        mask = grad_mask(inputs) if STATE.grad else 0
        self.steps.append(Step(op, given, params, values, user_line(), mask))
        for t, value in zip(outs, values):
            self.made.append(ref(t))
            region = self.regions.find(t._data)
            if region is None:
                self.regions.add(t._data, value, "made", -1)
                continue
            if len(outs) == 1 and len(inputs) == 1:
                region.learn(t._data, inputs[0]._data, op, params)
            g = geometry(t._data)
            same = region.values.get(g)
            shows = op.view or op.name == "detach"  # another tensor on what is known, maybe
            if not (shows and same is not None and same[1] == region.epoch):
                region.values[g] = (value, region.epoch)

    def write(self, target: Tensor, result: Tensor) -> None:
        storage = target._storage
        if storage is not None:
            self.versions[storage] = storage.version
        value = self.value_of(result)
        if target._requires_grad and not STATE.grad:
            self.detour = "it writes under no_grad to a tensor that requires grad"
        data = target._data
        region = self.regions.find(data)
        if region is None:
            region = self.meet(target)
        g = geometry(data)
        if value.dtype != data.dtype:
            cast = self.value(Like.of(data))
            params = {"dtype": FROM_NUMPY[data.dtype]}
            self.steps.append(Step(CAST, (value,), params, (cast,), user_line()))
            value = cast
        if g == region.base:
            region.replace(value)
            return
        if not self.explained(region, target, g):
            raise Untraceable("a view that no operator explains is written to")
        base, order = region.base_value(), region.example.order
        whole = self.value(region.example)
        placed: dict[str, Any] = {"chain": region.chain(g), "order": order}
        mask = -1 if STATE.grad else 0
        self.steps.append(Step(SCATTER_VIEW, (base, value), placed, (whole,), user_line(), mask))
        region.replace(whole)
        region.values[g] = (value, region.epoch)

    # -- the end ---------------------------------------------------------------------------------

    def writes(self) -> list[tuple[Value, Value]]:
        """What arguments and state hold at the end, where that has changed. Raises Untraceable
        where what is written lies in another of them, too.
        """
        outside = [r for r in self.regions if r.kind in ("argument", "state")]
        outside.sort(key=lambda r: r.low)
        last = None
        for region in outside:
            if last is not None and region.low < last.high and (region.epoch or last.epoch):
                raise Untraceable("memory is written that another tensor shows in part")
            if last is None or region.high > last.high:
                last = region
        return [(self.inputs[r.input].value, r.base_value()) for r in outside if r.epoch]


def living_tensors() -> list[Tensor]:
    """All tensors that there are, but for those of interpreters."""
    kinds: set[type] = {Tensor}
    more = kinds
    while more:
        more = set().union(*(type.__subclasses__(kind) for kind in more))
        kinds |= more
    found = [x for x in gc.get_objects() if type(x) in kinds]
    return [t for t in found if isinstance(getattr(t, "_data", None), ndarray)]


def user_line() -> str:
    """The file and line outside of Lampion that is running."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("lampion."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def tracer() -> Tracer | None:
    """The tracer of this thread, if a call is being traced."""
    for observer in STATE.observers:
        if isinstance(observer, Tracer) and observer.failure is None:
            return observer
    return None


def pruned(graph: Graph) -> tuple[Graph, list[int]]:
    """The graph without steps and inputs that nothing depends on, and the numbers of those that
    stay. Draws of random numbers stay: the ones after them depend on how many there were.
    """
    needed = set(graph.results()) | {target for target, _ in graph.writes}
    steps = []
    for step in reversed(graph.steps):
        if step.op.random or not needed.isdisjoint(step.outputs):
            steps.append(step)
            needed.update(v for v in step.inputs if v is not None)
    kept = [i for i, item in enumerate(graph.inputs) if item.value in needed]
    inputs = [graph.inputs[i] for i in kept]
    return Graph(inputs, steps[::-1], graph.outputs, graph.writes, graph.name), kept
