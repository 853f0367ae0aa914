"""`lampion.compile`: a function, module or whole training step as native programs.

Imports the compiler and core. The first call with new shapes, types or modes runs as it is while
it is traced; later calls run its program. What can't be traced runs eagerly, and says so once.
"""

from __future__ import annotations

import functools
import random
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np
from numpy import ndarray

from ... import dtypes
from ...config import flags
from ...core.graph import STATE
from ...core.memory import root_array, strides_of
from ...core.tensor import Tensor
from ...errors import check
from ...settings import settings
from ..lower.bounds import bounds
from ..native import runtime
from ..native.arena import give_back
from ..native.stages import CheckFailed
from ..program import explain as texts, program
from ..trace.captured import Captured, capture
from ..trace.execute import Executable, Interpreter
from ..trace.graph import Graph
from ..trace.guards import PLAIN, Fact, Guards, guards_of, is_module
from ..trace.structure import Structure, flatten
from ..trace.tracer import Failure, Tracer
from ..trace.watch import TRACING, watching
from .backward import Build
from .bound import GradientMemory, Program
from .entrance import Entrance, entrance
from .unpack import Read

LIMIT = 64  # programs of one function; a function that needs more runs eagerly
MOST_WAYS = 8  # short ways that a call tries


class Disabled(threading.local):
    """How many functions that `control.disable` made are running."""

    depth = 0


@dataclass
class Stance:
    """What compiled functions do, see `control.set_stance`."""

    name: str = "default"


DISABLED, STANCE = Disabled(), Stance()
FUNCTIONS: WeakSet[Function] = WeakSet()  # all that there are, for `control.reset`


def native(graph: Graph) -> Executable:
    """One native program; where nothing can be compiled, the interpreter."""
    if not runtime.available():
        return interpreted(graph)
    try:
        return program.build(graph)
    except Exception as error:
        if flags.check:
            raise
        warnings.warn(f"[compile] {graph.name} runs in the interpreter: {error!r}", stacklevel=2)
        return interpreted(graph)


def interpreted(graph: Graph) -> Executable:
    """The steps one after the other."""
    return Interpreter(bounds(graph))


BACKENDS: dict[str, Build] = {
    "inductor": native,
    "native": native,
    "eager": interpreted,
    "interpreter": interpreted,
}


def compile(
    model: Callable | None = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: str | Callable = "inductor",
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    disable: bool = False,
    explain: bool = False,
) -> Any:
    """The function (or module) as native programs, one for each set of shapes, types and modes.

    Forward passes and whole training steps alike; also a decorator. With `fullgraph`, a call that
    can't be traced raises RuntimeError; without, it runs eagerly. With `explain`, each program is
    printed when it is made. `mode`, `options` and `dynamic` are accepted for PyTorch's sake.
    Raises RuntimeError for a backend that is not known.

    >>> @torch.compile
    ... def f(x):
    ...     return torch.sin(x) * 2
    >>> f(torch.zeros(2))
    tensor([0., 0.])
    """
    build = builder(backend)
    if model is None:
        return functools.partial(
            compile, fullgraph=fullgraph, dynamic=dynamic, backend=backend, mode=mode,
            options=options, disable=disable, explain=explain,
        )  # fmt: skip
    check(callable(model), lambda: f"[compile] expects a callable, got {type(model).__name__}",
          TypeError)  # fmt: skip
    if disable:
        return model
    made = Function(model, build, fullgraph, explain)
    if is_module(model):
        return Proxy(model, made)
    functools.update_wrapper(made, model)
    return made


def builder(backend: str | Callable) -> Build:
    """What makes an executable of a graph."""
    found = backend if callable(backend) else BACKENDS.get(backend)
    known = ", ".join(sorted(BACKENDS))
    check(found is not None, lambda: f"[compile] Invalid backend: {backend!r}; known are {known}")
    return found  # type: ignore[return-value]


class Trace(NamedTuple):
    """What a program is made of: see `bound.Program`."""

    captured: Captured
    guards: Guards
    identical: dict[int, ndarray]


Way = tuple[Callable[..., Any], Callable[[tuple, Sequence], Any]]  # see entrance.Entrance


class Function:
    """A compiled function: its programs by what distinguishes calls."""

    def __init__(
        self, function: Callable, build: Build, fullgraph: bool, explain: bool = False
    ) -> None:
        self.function, self.build, self.fullgraph = function, build, fullgraph
        self.explain = explain
        self.programs: dict[Any, list[Program]] = {}
        self.eager: set[Any] = set()  # keys of calls that can't be traced
        self.count = 0
        self.changing = {"lr"}  # options of optimizers that are known to change
        self.memories: dict[int, GradientMemory] = {}  # by the id of the gradient's owner
        self.entrances: dict[Program, Entrance | None] = {}
        self.close()
        FUNCTIONS.add(self)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def close(self) -> None:
        """Closes the short ways: the next call goes the long one."""
        self.ways: tuple[Way, ...] = ()  # of calls whose arguments stand alone, the last first
        self.nested: tuple[tuple[Read, Way], ...] = ()  # of calls with containers, or by keyword

    @property
    def way(self) -> Way | None:
        """The short way into the last program, for calls whose arguments stand alone."""
        return self.ways[0] if self.ways else None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            for enter, finish in self.ways:
                made = enter(*args)
                if made is not None:
                    return finish(made, args)
        for read, (enter, finish) in self.nested:
            leaves: list[Any] = []
            if read((args, kwargs), leaves):
                made = enter(*leaves)
                if made is not None:
                    return finish(made, leaves)
        enter = finish = None  # type: ignore[assignment]  # another one may take its memory
        return self.long_way(args, kwargs)

    def long_way(self, args: tuple, kwargs: dict) -> Any:
        """A call whose program has to be found, or made."""
        if STATE.interpreters or STATE.observers or STATE.saved_hooks or STATE.anomaly:
            return self.function(*args, **kwargs)
        if STANCE.name == "force_eager":
            return self.function(*args, **kwargs)
        leaves, structure = flatten((args, kwargs))
        key = call_key(leaves, structure)
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        for made in self.programs.get(key, ()):
            if made.fits(tensors) and made.busy.acquire(blocking=False):
                try:
                    result = made.run(tensors)
                    self.open(made, key, leaves, structure)
                    return result
                except CheckFailed:  # eagerly, the call raises its error
                    break
                finally:
                    made.busy.release()
        else:
            if key not in self.eager and not DISABLED.depth and self.may_compile():
                return self.first_call(key, leaves, tensors, args, kwargs)
        return self.function(*args, **kwargs)

    def may_compile(self) -> bool:
        """Whether a call that no program fits is compiled. Raises RuntimeError where the stance
        forbids such a call.
        """
        check(
            STANCE.name != "fail_on_recompile",
            lambda: (
                f"[compile] no program of {name_of(self.function)} fits this call, and the stance "
                "is fail_on_recompile; call it as before, or set the stance to default"
            ),
        )
        return STANCE.name != "eager_on_recompile"

    def open(self, program: Program, key: Any, leaves: list, structure: Structure) -> None:
        """Makes the program the one that the next call tries first."""
        self.close()
        if program in self.entrances:
            entered = self.entrances.pop(program)
        else:
            entered = entrance(program, leaves, structure)
        self.entrances[program] = entered  # at the end
        # A program may leave things such that another one fits next: gradients to add to, say.
        if entered is not None and program.fits([x for x in leaves if isinstance(x, Tensor)]):
            entered.settle()
        found = [(e.read, (e.call, e.result)) for e in self.entrances.values() if e and e.call]
        last = found[: -MOST_WAYS - 1 : -1]
        self.ways = tuple([way for read, way in last if read is None])
        self.nested = tuple([(read, way) for read, way in last if read is not None])

    def first_call(
        self, key: Any, leaves: list, tensors: list[Tensor], args: tuple, kwargs: dict
    ) -> Any:
        """Runs a call as it is and keeps the program of it."""
        if self.count >= LIMIT:
            self.eager.add(key)
            self.warn(f"{LIMIT} programs have been compiled, and a call fits none of them")
            return self.function(*args, **kwargs)
        if not TRACING.acquire(blocking=False):  # another thread is tracing
            return self.function(*args, **kwargs)
        try:
            self.note_changes(key)
            result, traced = self.trace(leaves, tensors, args, kwargs)
        finally:
            TRACING.release()
        if isinstance(traced, Trace):
            made = Program(*traced, self.build, self.memories)
            give_back()  # what the traced call and the compiler took, before the arena takes more
            self.programs.setdefault(key, []).insert(0, made)
            self.count += 1
            if self.explain:
                print(explanation(made))
        else:
            self.refuse(key, traced)
        return result

    def trace(
        self, leaves: list, tensors: list[Tensor], args: tuple, kwargs: dict
    ) -> tuple[Any, Trace | Failure | None]:
        """What a call returns, and its trace or why there is none."""
        guards = guards_of([self.function, *(x for x in leaves if not isinstance(x, Tensor))])
        active = Tracer(self.fullgraph, self.changing)
        drawn = python_randomness()
        with watching(active):
            for t in tensors:
                active.add_argument(t)
            result = self.function(*args, **kwargs)
            if guards.moving is not None:
                active.fail(f"the function can reach an iterator ({guards.moving!r})")
            if python_randomness() != drawn:
                active.fail("Python's or NumPy's random numbers are drawn")
            captured = capture(active, result, name_of(self.function))
        if captured is None or active.failure is not None:
            return result, active.failure
        guards.always += active.facts
        broken = guards.broken()
        if broken is not None:
            return result, Failure(f"the call changes an object of Python's: {broken}", "")
        roots = guards.roots
        also = (i for i, t in enumerate(tensors) if id(root_array(t._data)) in roots)
        identical = {i: tensors[i]._data for i in (*active.identical, *also)}
        return result, Trace(captured, guards, identical)

    def note_changes(self, key: Any) -> None:
        """Looks for the options of optimizers that made the programs of such calls unfit."""
        for made in self.programs.get(key, ()):
            broken = made.guards.broken()
            group = broken.holder if isinstance(broken, Fact) else None
            if isinstance(broken, Fact) and isinstance(group, dict) and "params" in group:
                self.changing.add(broken.key)

    def refuse(self, key: Any, failure: Failure | None) -> None:
        """Notes that calls like this one run eagerly, and says so once."""
        if failure is None or failure.again:
            return
        check(not self.fullgraph, lambda: f"[compile] fullgraph=True, but {failure}")
        if not self.eager:
            self.warn(str(failure))
        self.eager.add(key)

    def warn(self, reason: str) -> None:
        """One warning that names why the function runs eagerly."""
        warnings.warn(f"[compile] {name_of(self.function)} runs eagerly: {reason}", stacklevel=4)


def explanation(made: Program) -> Any:
    """A program as text: graph, kernels, memory and LLVM IR; of an interpreter, the graph."""
    if isinstance(made.executable, program.Program):
        return texts.explain(made.executable)
    return str(made.captured.graph)


def explain(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """What the program of `function(*args, **kwargs)` is made of: text to print, with the parts
    `graph`, `kernels`, `memory` and `llvm`.

    The call is made, up to three times: a training step trains. Raises RuntimeError if it can't be
    traced.

    >>> print(torch.compile.explain(lambda x: x + 1, torch.ones(2)).graph)  # doctest: +SKIP
    """
    made = Function(getattr(function, "function", function), native, fullgraph=True)
    for _ in range(3):  # an optimizer makes its state in the first
        made(*args, **kwargs)
        if made.programs:
            break
    ((found, *_),) = made.programs.values()
    return explanation(found)


compile.explain = explain  # type: ignore[attr-defined]


class Proxy:
    """A module whose calls are compiled; all else is the module's own."""

    def __init__(self, module: Any, call: Function) -> None:
        object.__setattr__(self, "_orig_mod", module)
        object.__setattr__(self, "_call", call)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._orig_mod, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._orig_mod, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._orig_mod, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # isinstance(compiled, Module) holds
        return type(self._orig_mod)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return self._orig_mod.__dict__

    def __dir__(self) -> list[str]:
        return dir(self._orig_mod)

    def __repr__(self) -> str:
        return repr(self._orig_mod)

    def __len__(self) -> int:
        return len(self._orig_mod)

    def __getitem__(self, index: Any) -> Any:
        return self._orig_mod[index]

    def __iter__(self) -> Any:
        return iter(self._orig_mod)


def python_randomness() -> tuple:
    """The states of the generators of Python and NumPy, whose draws no program repeats."""
    return random.getstate(), [str(x) for x in np.random.get_state()]


def name_of(function: Any) -> str:
    """A function's name for messages and graphs."""
    return getattr(function, "__name__", None) or type(function).__name__


# -- what distinguishes calls --------------------------------------------------------------------


def call_key(leaves: list, structure: Structure) -> tuple:
    """What must be equal for two calls to share a program."""
    policy = STATE.autocast
    modes = (
        STATE.grad,
        STATE.inference,
        policy and (policy.device_type, policy.dtype, policy.cache is not None),
        dtypes.get_default_dtype(),
        settings.deterministic,
    )
    inside = tuple([leaf_key(x) for x in leaves])
    return structure, modes, inside, sharing([x for x in leaves if isinstance(x, Tensor)])


def leaf_key(x: Any) -> Any:
    """A tensor by its layout and its place in a graph, numbers by value, others by identity."""
    if isinstance(x, Tensor):
        data = x._data
        leaf = x.grad_fn is None
        return data.shape, strides_of(data), data.dtype, x._requires_grad, leaf, type(x)
    if isinstance(x, PLAIN):
        return type(x), repr(x)
    return type(x), Identity(x)


class Identity:
    """Equal to no other object's; keeps the object alive, so that its number stays its own."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


def sharing(tensors: list[Tensor]) -> tuple:
    """Which arguments lie in the same memory, and how."""
    if len(tensors) < 2:
        return ()
    roots = [id(root_array(t._data)) for t in tensors]
    if len(set(roots)) == len(roots):
        return ()
    first = {root: roots.index(root) for root in roots}
    starts = [t._data.__array_interface__["data"][0] for t in tensors]
    views = [
        tuple([(op.name, repr(params)) for op, params in t._chain]) if t._view else ()
        for t in tensors
    ]
    return tuple(
        (first[root], start - starts[first[root]], tensors[i] is tensors[first[root]], views[i])
        for i, (root, start) in enumerate(zip(roots, starts))
        if roots.count(root) > 1
    )
