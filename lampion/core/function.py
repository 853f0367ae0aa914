"""Operators that users define: `Function` with its own forward and backward.
May import the core's earlier files.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import check
from .dispatch import edge
from .graph import FREED, STATE, Node, Packed, Slot, modified
from .inplace import rebase
from .memory import tick
from .op import TENSOR_NAMES
from .tensor import Tensor, _new
from .transforms import Dual, Jvp, Vmap


class FunctionCtx(Node):
    """What `forward` and `backward` share; at the same time the node in the graph."""

    function: type
    materialize = True
    needs_input_grad: tuple[bool, ...] = ()
    dirty: tuple[Tensor, ...] = ()
    constant: frozenset[int] = frozenset()
    several = False
    shapes: list[tuple]  # of the outputs, with their types

    def __init__(self, function: type) -> None:
        self.function = function
        self.saved = ()
        self.seq = tick()

    places: tuple[int, ...] = ()

    @property
    def targets(self) -> tuple[int, ...]:
        return self.places

    def name(self) -> str:
        return self.function.__name__ + "Backward"

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for `backward`, where they are `ctx.saved_tensors`."""
        for t in tensors:
            check(
                t is None or isinstance(t, Tensor),
                lambda: (
                    "save_for_backward can only save variables, but argument is of type "
                    f"{type(t).__name__}"
                ),
                TypeError,
            )
        self.kept = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keeps tensors for `jvp`, where they are `ctx.saved_tensors`."""
        if not self.__dict__.get("kept"):
            self.kept = tensors

    @property
    def saved_tensors(self) -> tuple:
        """What `save_for_backward` was given;
        raises RuntimeError if freed or changed in place since.
        """
        if self.saved is None:
            raise RuntimeError(FREED)
        found = []
        for value in self.saved or self.__dict__.get("kept", ()):
            if value.__class__ is Packed:
                value = value.unpack()
            elif value.__class__ is KeptOutput:
                value = value.tensor(self)
            elif value is not None:
                storage = value._storage
                if storage is not None and storage.written > self.seq:
                    raise RuntimeError(modified(self, value._data, storage))
            found.append(value)
        return tuple(found)

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Says which inputs `forward` changed in place (and returns)."""
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Says which outputs have no gradient."""
        self.constant = frozenset(id(t) for t in tensors)

    def set_materialize_grads(self, value: bool) -> None:
        """With False, `backward` gets None instead of zeros for outputs without gradient."""
        self.materialize = value

    def seal(self, outputs: list[Tensor]) -> None:
        """Turns what was kept into what is saved: outputs without the tensor around them,
        hooks applied.
        """
        places = {id(o): i for i, o in enumerate(outputs)}
        hooks = STATE.saved_hooks
        saved: list[Any] = []
        for t in self.__dict__.pop("kept", ()):
            if t is not None and id(t) in places and t.grad_fn is not None:
                saved.append(KeptOutput(t, places[id(t)] if self.several else None))
            elif t is not None and hooks:
                saved.append(Packed(t, hooks[-1]))
            else:
                saved.append(t)
        self.saved = tuple(saved)

    def gradients(self, g: Any) -> list:
        """One gradient for each edge, from the user's backward."""
        grads = g if self.several else [g]
        if self.materialize:
            grads = [
                TENSOR_NAMES["zeros"](self.shapes[i][0], dtype=self.shapes[i][1])
                if x is None
                else x
                for i, x in enumerate(grads)
            ]
        given = self.function.backward(self, *grads)  # type: ignore[attr-defined]
        given = given if isinstance(given, tuple) else (given,)
        wanted = len(self.needs_input_grad)
        extra = given[wanted:]
        check(
            len(given) >= wanted and all(x is None for x in extra),
            lambda: (
                f"function {self.name()} returned an incorrect number of gradients (expected "
                f"{wanted}, got {len(given)})"
            ),
        )
        return [given[i] for i in self.places]


class KeptOutput:
    """An output that the function saved, without the cycle that keeping the tensor would make."""

    __slots__ = ("data", "slot", "storage", "value")

    def __init__(self, t: Any, slot: int | None) -> None:
        self.data, self.slot, self.storage = t._data, slot, t._storage
        self.value = t.detached_value() if t.interpreter is not None else t.detach()

    def tensor(self, node: FunctionCtx) -> Tensor:
        """The output again, in its place in the graph."""
        if self.storage is not None and self.storage.written > node.seq:
            raise RuntimeError(modified(node, self.data, self.storage))
        t = self.value.copy() if self.value.interpreter is not None else self.value.detach()
        t._requires_grad = True
        t.grad_fn = node if self.slot is None else Slot(node, self.slot, self.data)
        return t


class VmapInfo(NamedTuple):
    """What a `vmap` staticmethod is told about the batch."""

    batch_size: int
    randomness: str


class Function:
    """Base class of operators with their own derivative; call them with `apply`.

    >>> class Cube(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x ** 3
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return 3 * x ** 2 * g
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward(); x.grad
    tensor(12.)
    """

    generate_vmap_rule = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all "
            "static, so you should invoke them on the class itself: use .apply"
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the result; takes `ctx` first unless `setup_context` is defined."""
        raise NotImplementedError(
            "You must implement the forward function for custom autograd.Function."
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> Any:
        """Saves what backward needs, where `forward` takes no ctx."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """The gradients of the inputs, given those of the outputs."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom "
            "autograd.Function to use it with backward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Runs the function and records it."""
        ctx = _new(cls._context())
        ctx.__init__(cls)
        tensors = [a if isinstance(a, Tensor) else None for a in args]
        ctx.needs_input_grad = tuple(t is not None and t._requires_grad for t in tensors)
        wanted = STATE.grad and any(ctx.needs_input_grad)
        with STATE.set(grad=False):
            outputs = cls._run(ctx, args, kwargs)
        ctx.several = isinstance(outputs, (tuple, list))
        flat = list(outputs) if ctx.several else [outputs]
        flat = [cls._output(ctx, o, tensors) for o in flat]
        if wanted:
            cls._record(ctx, tensors, flat)
        return tuple(flat) if ctx.several else flat[0]

    @classmethod
    @functools.cache
    def _context(cls) -> type:
        """The context class, named after the function as PyTorch's is."""
        return type(cls.__name__ + "Backward", (FunctionCtx,), {})

    @classmethod
    def _run(cls, ctx: Any, args: tuple, kwargs: dict) -> Any:
        """The forward: by the user's vmap or jvp rule under these transforms, else as written."""
        top = STATE.interpreters[-1] if STATE.interpreters else None
        separate = cls.setup_context is not Function.setup_context
        mine = [isinstance(a, Tensor) and a.interpreter is top for a in args] if top else []
        if isinstance(top, Vmap) and any(mine) and hasattr(cls, "vmap") and separate:
            outputs = cls._run_vmap(top, args)
        elif isinstance(top, Jvp) and any(mine) and hasattr(cls, "jvp"):
            return cls._run_jvp(ctx, top, args, kwargs, separate)
        elif separate:
            outputs = cls.forward(*args, **kwargs)
        else:
            return cls.forward(ctx, *args, **kwargs)
        cls.setup_context(ctx, args, outputs)
        return outputs

    @classmethod
    def _run_vmap(cls, level: Vmap, args: tuple) -> Any:
        from_level = [level.unwrap(a) if isinstance(a, Tensor) else (a, None) for a in args]
        with STATE.set(interpreters=level.before, grad=True):
            info = VmapInfo(level.size, level.randomness)
            outs, dims = cls.vmap(  # type: ignore[attr-defined]
                info, tuple(d for _, d in from_level), *[v for v, _ in from_level]
            )
        make = type(level.lift(outs[0] if isinstance(outs, tuple) else outs))
        if isinstance(outs, tuple):
            return tuple(make(level, o, d) for o, d in zip(outs, dims, strict=True))
        return make(level, outs, dims)

    @classmethod
    def _run_jvp(cls, ctx: Any, level: Jvp, args: tuple, kwargs: dict, separate: bool) -> Any:
        pairs = [level.unwrap(a) if isinstance(a, Tensor) else (a, None) for a in args]
        primals = tuple(p for p, _ in pairs)
        with STATE.set(interpreters=level.before):
            outs = (
                cls.forward(*primals, **kwargs)
                if separate
                else cls.forward(ctx, *primals, **kwargs)
            )
            if separate:
                cls.setup_context(ctx, primals, outs)
            moved = cls.jvp(ctx, *[t for _, t in pairs])  # type: ignore[attr-defined]
        if isinstance(outs, tuple):
            return tuple(Dual(level, o, t) for o, t in zip(outs, moved, strict=True))
        return Dual(level, outs, moved)

    @staticmethod
    def _output(ctx: FunctionCtx, out: Any, inputs: list) -> Any:
        """An output as a tensor of its own; an input returned unchanged becomes an alias."""
        if not isinstance(out, Tensor):
            return out
        if any(out is t for t in ctx.dirty):
            return out
        if any(out is t for t in inputs) or out._requires_grad:
            alias = out.detach()
            if id(out) in ctx.constant:
                ctx.constant |= {id(alias)}
            ctx.kept = tuple(alias if k is out else k for k in ctx.__dict__.get("kept", ()))
            return alias
        return out

    @staticmethod
    def _record(ctx: FunctionCtx, inputs: list, outputs: list) -> None:
        ctx.places = tuple(i for i, need in enumerate(ctx.needs_input_grad) if need)
        ctx.edges = tuple(edge(inputs[i]) for i in ctx.places)
        ctx.shapes = [
            (o._data.shape, o.dtype) if isinstance(o, Tensor) else ((), None) for o in outputs
        ]
        ctx.shape = len(outputs) if ctx.several else outputs[0]._data.shape  # type: ignore[assignment]
        ctx.dtype = None if ctx.several else outputs[0]._data.dtype  # type: ignore[assignment]
        ctx.seq = tick()
        for i, out in enumerate(outputs):
            if (
                not isinstance(out, Tensor)
                or id(out) in ctx.constant
                or out._data.dtype.kind not in "fcV"
            ):
                continue
            node = Slot(ctx, i, out._data) if ctx.several else ctx
            if any(out is t for t in ctx.dirty):
                result = out.detach()
                result._requires_grad, result.grad_fn = True, node
                rebase(out, result)
            else:
                out._requires_grad, out.grad_fn = True, node
        ctx.seal([o for o in outputs if isinstance(o, Tensor)])


def once_differentiable(function: Callable) -> Callable:
    """Decorates a `backward` that may not be differentiated again: doing so raises RuntimeError."""

    @functools.wraps(function)
    def wrapper(ctx: Any, *args: Any) -> Any:
        recording = STATE.grad and any(isinstance(a, Tensor) and a._requires_grad for a in args)
        with STATE.set(grad=False):
            outputs = function(ctx, *args)
        if not recording:
            return outputs
        flat = outputs if isinstance(outputs, tuple) else (outputs,)
        guarded = tuple(Barrier.apply(o, *args) if isinstance(o, Tensor) else o for o in flat)
        return guarded if isinstance(outputs, tuple) else guarded[0]

    return wrapper


class Barrier(Function):
    """Passes a value on and refuses to be differentiated."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *args: Any) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )
