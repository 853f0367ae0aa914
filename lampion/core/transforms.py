"""vmap and jvp as interpreters of `apply`. May import the core's earlier files.

An interpreter's tensors carry values one level down: a `Batched` one a value with a hidden batch
dimension, a `Dual` one a primal and its tangent. `process` computes an operator on the values with
the interpreter taken off, so levels nest in any order, and reverse mode works at each, since each
level's tensors have their own tape. After the batching and JVP traces of JAX's autodidax.
"""

from __future__ import annotations

import warnings
from itertools import count
from typing import Any

from ..errors import check
from .graph import STATE
from .op import TENSOR_NAMES, Op
from .tensor import Aval, Tensor, blank, wrap

levels = count(1)


class Interpreter:
    """One level of a transform: what operators mean while it is on top."""

    takes_everything = False  # also calls none of whose inputs is its own

    def __init__(self) -> None:
        self.level = next(levels)

    def __enter__(self) -> Any:
        self.before = STATE.interpreters
        STATE.interpreters = (*self.before, self)
        STATE.refresh()
        return self

    def __exit__(self, *exception: object) -> None:
        STATE.interpreters = self.before
        STATE.refresh()

    def process(self, op: Op, inputs: tuple, params: dict) -> Any:
        """The operator's result(s) as this interpreter's tensors."""
        raise TypeError(f"{type(self).__name__} does not say how operators run")

    def lift(self, value: Tensor) -> Tensor:
        """A value from below as this interpreter's tensor."""
        raise TypeError(f"{type(self).__name__} does not say how values are lifted")

    def assign(self, target: Tensor, result: Tensor) -> None:
        """The value of `target` becomes that of `result`, in place."""
        raise TypeError(f"{type(self).__name__} does not allow in-place operators")

    def __repr__(self) -> str:
        return f"{type(self).__name__.lower()} (level {self.level})"


class Carrier(Tensor):
    """A tensor that an interpreter makes: `_data` is only a shape and a type."""

    def __new__(cls, interpreter: Interpreter, *fields: Any) -> Any:
        t = blank(cls)
        t.interpreter = interpreter
        t.carry(*fields)
        return t

    def carry(self, *fields: Any) -> None:
        """Sets the fields and `_data`."""
        raise TypeError(f"{type(self).__name__} has no fields")

    def fields(self) -> tuple:
        """What `carry` was given."""
        raise TypeError(f"{type(self).__name__} has no fields")

    def detached_value(self) -> Any:
        """The same value without a place in the graph."""
        return type(self)(self.interpreter, *self.fields())

    copy = detached_value


# -- vmap --------------------------------------------------------------------------------------


class Batched(Carrier):
    """A tensor whose `value` has one more dimension, `batch_dim`, that operators do not see."""

    def carry(self, value: Tensor, batch_dim: int | None) -> None:
        shape = list(value._data.shape)
        if batch_dim is not None:
            del shape[batch_dim]
        self.value, self.batch_dim = value, batch_dim
        self._data = Aval(tuple(shape), value._data.dtype)

    def fields(self) -> tuple:
        return self.value, self.batch_dim


_told: set[str] = set()


class Vmap(Interpreter):
    """Runs each operator once for a whole batch, by its batching rule or, without one,
    by a loop.
    """

    def __init__(self, size: int, randomness: str = "error") -> None:
        super().__init__()
        self.size, self.randomness = size, randomness

    def lift(self, value: Tensor) -> Batched:
        return Batched(self, value, None)

    def unwrap(self, t: Any) -> tuple[Any, int | None]:
        """A tensor's value one level down and its batch dimension."""
        if t is None or t.interpreter is not self:
            return t, None
        return t.value, t.batch_dim

    def process(self, op: Op, inputs: tuple, params: dict) -> Any:
        pairs = [self.unwrap(t) for t in inputs]
        values, dims = tuple([v for v, _ in pairs]), tuple([d for _, d in pairs])
        if all(d is None for d in dims):
            outs: Any = op(*values, **params)
            dim: Any = (None,) * len(outs) if isinstance(outs, tuple) else None
        elif op.batch is not None:
            outs, dim = op.batch(self.size, values, dims, params, op)
        else:
            outs, dim = self.loop(op, values, dims, params)
        if isinstance(outs, tuple):
            return tuple([Batched(self, o, d) for o, d in zip(outs, dim, strict=True)])
        return Batched(self, outs, dim)

    def loop(self, op: Op, values: tuple, dims: tuple, params: dict) -> tuple:
        """One call for each element of the batch, results stacked; says so once per operator."""
        if op.name not in _told:
            _told.add(op.name)
            warnings.warn(
                f"[vmap] {op.name} has no batching rule: it runs in a loop over {self.size} "
                "elements",
                stacklevel=2,
            )
        rows = [
            op(*[v if d is None else v.select(d, i) for v, d in zip(values, dims)], **params)
            for i in range(self.size)
        ]
        stack = TENSOR_NAMES["stack"]
        if isinstance(rows[0], tuple):
            return tuple([stack(list(column)) for column in zip(*rows)]), (0,) * len(rows[0])
        return stack(rows), 0

    def assign(self, target: Any, result: Tensor) -> None:
        value, dim = self.unwrap(result)
        check(
            target.interpreter is self and (dim is None or target.batch_dim is not None),
            lambda: (
                "vmap: an in-place operator would write a batched value into a tensor that is not "
                "batched; use the out-of-place form, or make the tensor from a batched one, e.g. "
                "x.new_zeros(...)"
            ),
        )
        into = target.value
        if target.batch_dim is not None:
            into = into.movedim(target.batch_dim, 0)
            if dim is not None:
                value = value.movedim(dim, 0)
        with STATE.set(interpreters=self.before):
            into.copy_(value)

    def rows(self, t: Tensor, out_dim: int) -> Tensor:
        """A result with its batch dimension at `out_dim`; an unbatched one is repeated."""
        value, dim = self.unwrap(t)
        if dim is None:
            value, dim = value.unsqueeze(0).expand(self.size, *value._data.shape), 0
        return value.movedim(dim, out_dim)


# -- jvp ---------------------------------------------------------------------------------------


class Dual(Carrier):
    """A tensor with a tangent: how it changes when the differentiated inputs move along theirs."""

    def carry(self, primal: Tensor, tangent: Tensor | None) -> None:
        self.primal, self.tangent = primal, tangent
        self._data = Aval(tuple(primal._data.shape), primal._data.dtype)

    def fields(self) -> tuple:
        return self.primal, self.tangent

    def __repr__(self) -> str:
        shown = repr(self.primal)
        return shown if self.tangent is None else f"{shown[:-1]}, tangent={self.tangent!r})"


class Jvp(Interpreter):
    """Forward mode: each operator computes its result and the result's tangent."""

    def lift(self, value: Tensor) -> Dual:
        return Dual(self, value, None)

    def unwrap(self, t: Any) -> tuple[Any, Any]:
        """A tensor's primal and tangent (None: zero)."""
        if t is None or t.interpreter is not self:
            return t, None
        return t.primal, t.tangent

    def process(self, op: Op, inputs: tuple, params: dict) -> Any:
        pairs = [self.unwrap(t) for t in inputs]
        primals, tangents = tuple([p for p, _ in pairs]), tuple([t for _, t in pairs])
        outs = op(*primals, **params)
        moving = op.has_gradient and any(t is not None for t in tangents)
        if not isinstance(outs, tuple):
            return Dual(self, outs, jvp_of(op, primals, tangents, outs, params) if moving else None)
        moved = jvp_of(op, primals, tangents, outs, params) if moving else (None,) * len(outs)
        return tuple([Dual(self, o, t) for o, t in zip(outs, moved, strict=True)])

    def assign(self, target: Any, result: Tensor) -> None:
        check(
            target.interpreter is self,
            "jvp: an in-place operator would write a value with a tangent into a tensor without; "
            "use the out-of-place form",
        )
        primal, tangent = self.unwrap(result)
        with STATE.set(interpreters=self.before):
            target.primal.copy_(primal)
            if tangent is None:
                tangent = TENSOR_NAMES["zeros_like"](primal)
            if target.tangent is None:
                target.tangent = TENSOR_NAMES["zeros_like"](target.primal)
            target.tangent.copy_(tangent)


def jvp_of(op: Op, primals: tuple, tangents: tuple, outs: Any, params: dict) -> Any:
    """The tangent(s) of the result: by the op's own rule, its partials, or twice its vjp."""
    if op.jvp == "linear":
        first = next(i for i, t in enumerate(tangents) if t is not None)
        return op(*[tangents[i] if i == first else p for i, p in enumerate(primals)], **params)
    if callable(op.jvp):
        return op.jvp(tangents, primals, outs, params)
    if op.partials:
        return jvp_by_partials(op, primals, tangents, outs, params)
    return jvp_by_vjp(op, primals, tangents, outs, params)


def jvp_by_partials(
    op: Op, primals: tuple, tangents: tuple, y: Tensor, params: dict
) -> Tensor | None:
    """The sum over inputs of partial derivative times tangent."""
    total, partials = None, op.partials or {}
    for i, t in enumerate(tangents):
        if t is None or partials.get(op.inputs[i]) is None:
            continue
        plan = op.plans[1 << i]
        names = {**dict(zip(op.inputs, primals)), "y": y, **params}
        conjugate = TENSOR_NAMES["conj"]  # the plan multiplies by the conjugate, a tangent does not
        (term,) = plan.run(conjugate(t), *[names[n] for n in plan.names])
        term = conjugate(term)
        total = term if total is None else total + term
    if total is not None and total._data.shape != y._data.shape:
        total = total.expand(tuple(y._data.shape))
    return total


def jvp_by_vjp(op: Op, primals: tuple, tangents: tuple, outs: Any, params: dict) -> Any:
    """The vjp is linear in its cotangent: transposing it, by a second vjp, gives the jvp.

    Source: J. Townsend, "A new trick for calculating Jacobian vector products" (2017).
    """
    gradients = TENSOR_NAMES["grad"]
    moving = [i for i, t in enumerate(tangents) if t is not None]
    followed = STATE.grad and any(tracked(x) for i in moving for x in (primals[i], tangents[i]))
    with STATE.set(grad=True):
        marked = [mark(p) if i in moving else p for i, p in enumerate(primals)]
        again = op(*marked, **params)
        results = again if isinstance(again, tuple) else (again,)
        live = [r for r in results if r._requires_grad]
        dummies = [mark(TENSOR_NAMES["zeros_like"](r)) for r in live]
        pulled = gradients(
            live, [marked[i] for i in moving], dummies, create_graph=True, allow_unused=True
        )
        used = [
            (p, tangents[i])
            for p, i in zip(pulled, moving, strict=True)
            if p is not None and p._requires_grad
        ]
        pushed: tuple = (None,) * len(live)
        if used:
            pulled, given = [p for p, _ in used], [t for _, t in used]
            pushed = gradients(pulled, dummies, given, create_graph=followed, allow_unused=True)
    rest = iter(pushed)
    moved = tuple([next(rest) if r._requires_grad else None for r in results])
    return moved if isinstance(again, tuple) else moved[0]


def mark(x: Any) -> Tensor:
    """x as something to differentiate by at the innermost level,
    still connected to what computed it.
    """
    if not isinstance(x, Tensor):
        raise ValueError(f"[func] Thing passed to transform API must be Tensor, got {type(x)}")
    top = STATE.interpreters[-1] if STATE.interpreters else None
    if top is not None and x.interpreter is not top:
        x = top.lift(x)
    if x._requires_grad:
        return x.view_as(x)
    return (wrap(x._data) if top is None else x.copy()).requires_grad_()


def tracked(x: Tensor) -> bool:
    """Whether x requires grad at its level or at one below."""
    if x._requires_grad:
        return True
    values = x.fields() if isinstance(x, Carrier) else ()
    return any(tracked(v) for v in values if isinstance(v, Tensor))
