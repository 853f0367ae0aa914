"""The state that calls depend on and the nodes of the graph. May import op, tensor and the base.

A node holds what its backward needs and no more; a saved tensor is compared with its storage's last
write when it is used, so saving costs nothing.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import ref

import numpy as np

from .memory import Storage, tick
from .op import Op, Plan
from .tensor import Tensor, wrap

DIRECT, TAPE, GENERAL = range(3)


# What compiled calls know of `mode`: the number of a thread (0: none), and that thread's mode. Then
# how many changes of mode are left until `State.often` is called.
KNOWN = array("q", [0, 0, 100])


class State(threading.local):
    """What a thread's calls depend on. `mode` sums it up for the short path: no grad, grad,
    anything else.

    observers   each is called as `observer(op, inputs, params, outs)` after an operator ran; it is
                told what is `wrote`, asked for the `options` of an optimizer, and may `fail`:
                see compiler/trace.Tracer
    """

    mode = TAPE
    grad = True
    inference = False
    anomaly = False
    check_nan = True
    autocast: Any = None
    saved_hooks: tuple = ()
    interpreters: tuple = ()
    observers: tuple = ()
    depth = 0  # of nested function transforms

    def refresh(self) -> None:
        """Recomputes `mode` after a change of the others."""
        rare = (
            self.interpreters or self.autocast or self.saved_hooks or self.anomaly or self.inference
        )
        self.switch(GENERAL if rare or self.observers else TAPE if self.grad else DIRECT)

    def only_observed(self) -> bool:
        """Whether `mode` is GENERAL for the sake of observers alone: operators may be as large as
        they are without them.
        """
        other = self.interpreters or self.autocast or self.saved_hooks or self.anomaly
        return bool(self.observers) and not other

    def switch(self, mode: int) -> None:
        """Changes `mode`, and has compiled calls read it again."""
        self.mode = mode
        KNOWN[0] = 0
        KNOWN[2] -= 1
        if not KNOWN[2]:
            self.often()

    @staticmethod
    def often() -> Any:
        """Called once in a program that changes its mode often (set by ops)."""

    @contextmanager
    def set(self, **values: Any) -> Iterator[None]:
        """Changes attributes for the duration of a block."""
        before = {k: getattr(self, k) for k in values}
        self.__dict__.update(values)
        self.refresh()
        try:
            yield
        finally:
            self.__dict__.update(before)
            self.refresh()


STATE = State()
NOTHING: dict[str, Any] = {}  # the parameters of an operator that has none
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


class Recorded:
    """What every node sets; slots make a node cheaper, the rest stays in its dictionary.

    edges   for each input that requires grad, the node that made it, or the leaf tensor itself
    saved   what the backward needs, None once freed; seq orders nodes and writes
    """

    __slots__ = ("plan", "params", "edges", "saved", "seq", "shape", "dtype")
    plan: Plan
    params: dict
    edges: tuple
    saved: tuple | None
    seq: int
    shape: tuple[int, ...]
    dtype: np.dtype


class Node(Recorded):
    """One step of the graph: how to turn the gradient of an output into gradients of inputs."""

    watched = False  # has hooks of any kind
    hooks: dict | None = None
    pre_hooks: dict | None = None
    tensor_hooks: dict | None = None
    retained: ref | None = None
    trace: str | None = None
    interpreter: Any = None
    title: str | None = None  # where it is not the operator's
    _metadata: dict | None = None

    @property
    def op(self) -> Op:
        return self.plan.op

    @property
    def targets(self) -> tuple[int, ...]:
        """The numbers of the inputs that the edges belong to."""
        return self.plan.targets

    def name(self) -> str:
        """The name that prints as `grad_fn`."""
        titled = self.op.title
        return self.title or (titled(self) if titled else self.op.gradient_name(self.params))

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self))}>"

    @property
    def metadata(self) -> dict:
        """A dictionary for the user's own notes."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    def gradients(self, g: Any) -> Any:
        """One gradient (or None) for each edge."""
        saved = self.saved
        if saved is None:
            raise RuntimeError(FREED)
        plan = self.plan
        if plan.raw is not None and STATE.mode == DIRECT:
            dtype = g._data.dtype
            if dtype is F32 or dtype is F64:
                return self.raw_gradients(plan, g._data, saved)
        values = [self.unpack(s) for s in saved]
        if plan.op.kind == "elementwise" and g._data.dtype.itemsize == 2:
            g, values = g.float(), [widened(v) for v in values]
        return plan.run(g, *values)

    def raw_gradients(self, plan: Plan, g: Any, saved: tuple) -> list:
        """The formulas' gradients on raw arrays, for when nothing records."""
        if not saved:
            found = plan.raw(g)
        elif plan.short:
            seq, arrays = self.seq, [g]
            for s in saved:
                storage = s._storage
                if storage is not None and storage.written > seq:
                    raise RuntimeError(modified(self, s._data, storage))
                arrays.append(s._data)
            if self.shape == ():  # NumPy's scalars compute faster than its 0-dim arrays
                arrays = [x[()] for x in arrays]
            found = plan.raw(*arrays)
        else:
            found = plan.raw(g, *[self.array(s) for s in saved])
        return [None if x is None else wrap(x) for x in found]

    def array(self, saved: Any) -> Any:
        """The array of a saved tensor, if nobody has written to it since;
        a saved number as it is.
        """
        if saved.__class__ is SavedOutput or isinstance(saved, Tensor):
            storage, data = saved._storage, saved._data
        else:
            return saved
        if storage is not None and storage.written > self.seq:
            raise RuntimeError(modified(self, data, storage))
        return data

    def unpack(self, saved: Any) -> Any:
        """The saved value as the rule sees it: outputs get their place in the graph back."""
        if saved.__class__ is Packed:
            return saved.unpack()
        if saved.__class__ is SavedOutput:
            return saved.tensor(self, self.array(saved))
        if isinstance(saved, Tensor):
            self.array(saved)
        return saved


def is_short_float(x: Any) -> bool:
    """Whether an array is of float16 or bfloat16, whose derivatives are computed in float32."""
    return hasattr(x, "dtype") and x.dtype.itemsize == 2 and x.dtype.kind in "fV"


def widened(value: Any) -> Any:
    """A tensor of float16 or bfloat16 in float32; anything else as it is."""
    return value.float() if isinstance(value, Tensor) and is_short_float(value._data) else value


FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after "
    "they have already been freed). Saved intermediate values of the graph are freed when you call "
    ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the "
    "graph a second time or if you need to access saved tensors after calling backward."
)


def modified(node: Node, data: Any, storage: Storage) -> str:
    """Names the operator and the line that changed a saved tensor."""
    name, file, line = storage.writer_line()
    return (
        "one of the variables needed for gradient computation has been modified by an inplace "
        f"operation: [{node.name()}] saved a tensor of shape {tuple(data.shape)}, and `{name}` "
        f"changed it at {file}:{line}; use the out-of-place form there, or .clone() the tensor "
        "before"
    )


class SavedOutput(Storage):
    """An output kept for the backward without the tensor around it, so that no cycle is made.

    It is itself the storage of a tensor that had none.

    slot    its number among several differentiable outputs
    value   what an interpreter's tensor carries
    other   the storage that the tensor had already
    """

    __slots__ = ("_data", "slot", "differentiable", "value", "other")

    def __init__(self, t: Any) -> None:
        super().__init__()
        self._data = t._data
        self.slot: int | None = None
        self.differentiable = True
        self.value: Any = None
        self.other: Storage | None = None
        if t._storage is None:
            t._storage = self
        else:
            self.other = t._storage
        if t.interpreter is not None:
            self.value = t.detached_value()

    @property
    def _storage(self) -> Storage:
        return self.other or self

    def tensor(self, node: Node, data: Any) -> Tensor:
        """The output again, connected to `node`."""
        t = wrap(data) if self.value is None else self.value.copy()
        if self.differentiable:
            t._requires_grad = True
            t.grad_fn = node if self.slot is None else Slot(node, self.slot, data)
        return t


class Packed:
    """A saved tensor that went through the user's pack hook."""

    __slots__ = ("packed", "hook")

    def __init__(self, value: Any, hooks: tuple[Callable, Callable]) -> None:
        self.packed, self.hook = hooks[0](value), hooks[1]

    _storage = None  # what the hook gives back is the user's affair

    @property
    def _data(self) -> Any:
        return self.unpack()._data

    def unpack(self) -> Any:
        """What the user's unpack hook makes of it."""
        return self.hook(self.packed)


class Slot(Node):
    """One of several differentiable outputs of a node;
    passes its gradient on into the node's tuple.
    """

    def __init__(self, node: Node, index: int, data: Any) -> None:
        self.node, self.index, self.seq = node, index, tick()
        self.edges, self.shape, self.dtype = (node,), data.shape, data.dtype
        self.saved = ()

    @property
    def targets(self) -> tuple[int, ...]:
        return self.node.targets

    def name(self) -> str:
        op = getattr(self.node, "op", None)  # nodes of `autograd.Function` have none
        titled = None if self.node.title else getattr(op, "title", None)
        return titled(self) if titled else self.node.name()

    @property
    def next_functions(self) -> tuple:
        return self.node.next_functions  # type: ignore[attr-defined]
