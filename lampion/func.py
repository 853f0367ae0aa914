"""Function transforms under PyTorch's names: `torch.func`. May import core, ops and utils.

`grad` marks its inputs at the level of the innermost interpreter, so that `vmap(grad(f))`,
`grad(vmap(f))` and `jvp(grad(f))` need no code of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import numpy as np

from .core.autograd import grad as _gradients
from .core.dispatch import edge
from .core.graph import STATE
from .core.op import TENSOR_NAMES
from .core.tensor import Tensor, wrap
from .core.transforms import Batched, Dual, Jvp, Vmap, mark, tracked
from .errors import check
from .utils._pytree import broadcast_prefix, tree_flatten, tree_map, tree_map_only, tree_unflatten

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "jacfwd",
    "jacrev",
    "jvp",
    "linearize",
    "stack_module_state",
    "vjp",
    "vmap",
]


# -- reverse mode ------------------------------------------------------------------------------


@contextmanager
def _differentiating() -> Any:
    """Inside, results are recorded, and the number of nested transforms is known."""
    with STATE.set(grad=True, depth=STATE.depth + 1):
        yield


def _outer_graph(results: list[Tensor], marked: list[Tensor]) -> bool:
    """Whether somebody outside may want to differentiate what we compute."""
    if STATE.depth > 1 or STATE.interpreters:
        return True
    own, seen = {id(edge(m)) for m in marked}, set()
    stack = [edge(r) for r in results if r._requires_grad]
    while stack:
        e = stack.pop()
        if id(e) in own or id(e) in seen:
            continue
        seen.add(id(e))
        if isinstance(e, Tensor):
            return True
        stack.extend(e.edges)
    return False


def _select(args: tuple, argnums: int | tuple[int, ...]) -> tuple[list, Any]:
    """The leaves to differentiate by and the structure of the result."""
    if isinstance(argnums, int):
        check(
            -len(args) <= argnums < len(args),
            lambda: (
                f"[grad] argnums={argnums} is out of range for {len(args)} positional arguments"
            ),
        )
        return tree_flatten(args[argnums])
    return tree_flatten(tuple(args[i] for i in argnums))


def _replace(args: tuple, argnums: int | tuple[int, ...], tree: Any) -> tuple:
    """The arguments with the differentiated ones replaced."""
    new = list(args)
    if isinstance(argnums, int):
        new[argnums] = tree
    else:
        for i, part in zip(argnums, tree, strict=True):
            new[i] = part
    return tuple(new)


def _pull(outs: list, marked: list, cotangents: Any, create: bool, keep: bool = False) -> list:
    """Gradients with zeros where there is no dependence."""
    live = [(o, c) for o, c in zip(outs, cotangents, strict=True) if o._requires_grad]
    if not live:
        return [TENSOR_NAMES["zeros_like"](m) for m in marked]
    found = _gradients(
        [o for o, _ in live],
        marked,
        [c for _, c in live],
        retain_graph=keep or create,
        create_graph=create,
        allow_unused=True,
    )
    return [
        TENSOR_NAMES["zeros_like"](m) if g is None else g
        for g, m in zip(found, marked, strict=True)
    ]


def _release(x: Any, outer: bool) -> Any:
    """A result as the caller gets it: without our marks' history unless somebody outside needs
    it.
    """
    return x.detach() if isinstance(x, Tensor) and not outer else x


def grad_and_value(func: Callable, argnums: Any = 0, has_aux: bool = False) -> Callable:
    """Like `grad`, and returns the value too: `(gradient, value)`, or `(gradient, (value,
    aux))`.
    """

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> tuple:
        with _differentiating():
            leaves, spec = _select(args, argnums)
            marked = [mark(x) for x in leaves]
            out = func(*_replace(args, argnums, tree_unflatten(marked, spec)), **kwargs)
            value, aux = out if has_aux else (out, None)
            check(
                isinstance(value, Tensor) and value._data.ndim == 0,
                lambda: (
                    "grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got "
                    + (
                        f"tensor with {value.dim()} dims. Maybe you wanted to use the vjp or "
                        "jacrev APIs instead?"
                        if isinstance(value, Tensor)
                        else f"{type(value)}"
                    )
                ),
            )
            outer = _outer_graph([value], marked)
            found = _pull([value], marked, [None], outer)
            value = _release(value, outer)
            aux = tree_map(lambda x: _release(x, outer), aux)
        gradient = tree_unflatten(found, spec)
        return gradient, ((value, aux) if has_aux else value)

    return run


def grad(func: Callable, argnums: Any = 0, has_aux: bool = False) -> Callable:
    """The gradient of a function that returns a scalar, as a function of the same arguments.

    >>> torch.func.grad(lambda x: x ** 3)(torch.tensor(2.0))
    tensor(12.)
    """

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        gradient, value = grad_and_value(func, argnums, has_aux)(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return run


def vjp(func: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """`func(*primals)` and the function that maps cotangents of the result to those of the
    primals.
    """
    with _differentiating():
        leaves, spec = tree_flatten(primals)
        marked = [mark(x) for x in leaves]
        out = func(*tree_unflatten(marked, spec))
        value, aux = out if has_aux else (out, None)
        outs, out_spec = tree_flatten(value)
        for o in outs:
            check(
                isinstance(o, Tensor),
                lambda: (
                    "[vjp] vjp(f, *primals): expected f(*primals) to return only tensors, got "
                    f"unsupported type {type(o)}"
                ),
            )
        outer = _outer_graph(outs, marked)
        shown = tree_unflatten([_release(o, outer) for o in outs], out_spec)

    def pull(*cotangents: Any) -> Any:
        given = cotangents[0] if len(cotangents) == 1 else cotangents
        flat, given_spec = tree_flatten(given)
        check(
            len(flat) == len(outs),
            lambda: (
                f"[vjp] expected cotangents in the structure of the result, {out_spec}, got "
                f"{given_spec}"
            ),
        )
        with _differentiating():
            create = outer or any(tracked(c) for c in flat)
            result = tree_unflatten(_pull(outs, marked, flat, create, keep=True), spec)
        return result if len(primals) > 1 else (result[0],)

    return (shown, pull, aux) if has_aux else (shown, pull)


# -- forward mode and batching -----------------------------------------------------------------


def jvp(
    func: Callable, primals: tuple, tangents: tuple, *, strict: bool = False, has_aux: bool = False
) -> tuple:
    """`func(*primals)` and how it changes when the primals move along the tangents.

    >>> torch.func.jvp(torch.sin, (torch.tensor(0.0),), (torch.tensor(1.0),))
    (tensor(0.), tensor(1.))
    """
    check(
        isinstance(primals, tuple)
        and isinstance(tangents, tuple)
        and len(primals) == len(tangents),
        "jvp(f, primals, tangents): Expected primals and tangents to be tuples of the same length",
    )
    flat, spec = tree_flatten(primals)
    moves, _ = tree_flatten(tangents)
    for p, t in zip(flat, moves, strict=True):
        check(
            p.shape == t.shape,
            lambda: f"jvp(f, primals, tangents): tangent has shape {t.shape}, its primal {p.shape}",
        )
    with Jvp() as level:
        out = func(
            *tree_unflatten([Dual(level, p, t) for p, t in zip(flat, moves, strict=True)], spec)
        )
        value, aux = out if has_aux else (out, None)
    outs, out_spec = tree_flatten(value)
    pairs = [level.unwrap(o) for o in outs]
    primal_out = tree_unflatten([p for p, _ in pairs], out_spec)
    zeros = TENSOR_NAMES["zeros_like"]
    tangent_out = tree_unflatten([zeros(p) if t is None else t for p, t in pairs], out_spec)
    if has_aux:
        return primal_out, tangent_out, tree_map_only(Tensor, lambda t: level.unwrap(t)[0], aux)
    return primal_out, tangent_out


def linearize(func: Callable, *primals: Any) -> tuple:
    """`func(*primals)` and its derivative there as a linear function of tangents."""
    return func(*primals), lambda *tangents: jvp(func, primals, tangents)[1]


def vmap(
    func: Callable,
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable:
    """`func` over a batch: each call sees one element, and each operator runs once for all of them.

    >>> torch.vmap(torch.dot)(torch.ones(3, 2), torch.ones(3, 2))
    tensor([2., 2., 2.])
    """
    check(
        randomness in ("error", "different", "same"),
        lambda: (
            "Only allowed values for randomness are 'error', 'different', or 'same'. Got "
            f"{randomness}"
        ),
    )

    @functools.wraps(func)
    def run(*args: Any, **kwargs: Any) -> Any:
        leaves, spec = tree_flatten(args)
        dims = _batch_dims(in_dims, args, leaves)
        size = _batch_size(leaves, dims)

        def once(part: list, n: int) -> Any:
            with Vmap(n, randomness) as level:
                batched = [
                    x if d is None else Batched(level, x, d)
                    for x, d in zip(part, dims, strict=True)
                ]
                out = func(*tree_unflatten(batched, spec), **kwargs)
            return _unbatched(func, out, out_dims, level)

        if chunk_size is None or chunk_size >= size:
            return once(leaves, size)
        parts = []
        for start in range(0, size, chunk_size):
            n = min(chunk_size, size - start)
            part = [
                x if d is None else x.narrow(d, start, n) for x, d in zip(leaves, dims, strict=True)
            ]
            parts.append(once(part, n))
        places = iter(broadcast_prefix(out_dims, parts[0]))
        return tree_map(lambda *rows: TENSOR_NAMES["cat"](list(rows), dim=next(places)), *parts)

    return run


def _batch_dims(in_dims: Any, args: tuple, leaves: list) -> list[int | None]:
    """The batch dimension of each leaf, counted from the front; None for what is not batched."""
    prefix: Any = in_dims if isinstance(in_dims, int) or in_dims is None else tuple(in_dims)
    check(
        not isinstance(prefix, tuple) or len(prefix) == len(args),
        lambda: f"vmap: in_dims has {len(prefix)} entries for {len(args)} arguments",
        ValueError,
    )
    for x, d in zip(leaves, broadcast_prefix(prefix, args), strict=True):
        check(
            d is None or not isinstance(x, Tensor) or -x.dim() <= d < x.dim(),
            lambda: (
                f"[vmap] Got in_dim={d} for some input, but that input is a Tensor of "
                f"dimensionality {x.dim()}; choose in_dims within its dimensions, or None"
            ),
            ValueError,
        )
    return [
        None if d is None or not isinstance(x, Tensor) else d % x.dim()
        for x, d in zip(leaves, broadcast_prefix(prefix, args), strict=True)
    ]


def _unbatched(func: Callable, out: Any, out_dims: Any, level: Vmap) -> Any:
    """The results with their batch dimensions where `out_dims` wants them."""
    outs, spec = tree_flatten(out)
    for o in outs:
        check(
            isinstance(o, Tensor),
            lambda: (
                f"vmap({getattr(func, '__name__', func)}): must only return Tensors, got {type(o)}"
            ),
            ValueError,
        )
    places = broadcast_prefix(out_dims, out)
    return tree_unflatten([level.rows(o, d) for o, d in zip(outs, places, strict=True)], spec)


def _batch_size(leaves: list, dims: list) -> int:
    """The one size of all batch dimensions."""
    sizes = {x.shape[d] for x, d in zip(leaves, dims, strict=True) if d is not None}
    check(
        bool(sizes), "vmap: at least one input must be a tensor with a batch dimension", ValueError
    )
    check(
        len(sizes) == 1,
        lambda: (
            "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
            f"{sorted(sizes)} for the mapped dimension"
        ),
        ValueError,
    )
    return sizes.pop()


# -- Jacobians ---------------------------------------------------------------------------------


def _basis(tensors: list[Tensor]) -> list[Tensor]:
    """For each tensor the rows of one identity over all their elements: (N, *shape)."""
    total = sum(t.numel() for t in tensors)
    rows, start = [], 0
    for t in tensors:
        columns = np.eye(total, t.numel(), -start, t.dtype.numpy)
        rows.append(wrap(columns.reshape(total, *t.shape)))
        start += t.numel()
    return rows


def _blocks(rows: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """(N, *rest) cut into one block (*shape, *rest) per tensor."""
    parts = rows.split([t.numel() for t in tensors])
    return [p.reshape(*t.shape, *rows.shape[1:]) for p, t in zip(parts, tensors, strict=True)]


def jacrev(func: Callable, argnums: Any = 0, has_aux: bool = False, **options: Any) -> Callable:
    """The Jacobian by reverse mode, one row per element of the result: shape (*out, *in)."""

    @functools.wraps(func)
    def run(*args: Any) -> Any:
        chosen = args[argnums] if isinstance(argnums, int) else tuple(args[i] for i in argnums)
        got = vjp(lambda x: func(*_replace(args, argnums, x)), chosen, has_aux=has_aux)
        outs, out_spec = tree_flatten(got[0])
        basis = tree_unflatten(_basis(outs), out_spec)
        (rows,) = vmap(got[1], chunk_size=options.get("chunk_size"))(basis)  # (N, *in)
        leaves, spec = tree_flatten(rows)
        blocks = [_blocks(r, outs) for r in leaves]
        per_out = [tree_unflatten([b[i] for b in blocks], spec) for i in range(len(outs))]
        jacobian = tree_unflatten(per_out, out_spec)
        return (jacobian, got[2]) if has_aux else jacobian

    return run


def jacfwd(
    func: Callable, argnums: Any = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Callable:
    """The Jacobian by forward mode, one column per element of the input: shape (*out, *in)."""

    @functools.wraps(func)
    def run(*args: Any) -> Any:
        leaves, spec = _select(args, argnums)

        def column(*tangents: Tensor) -> Any:
            def of(*xs: Tensor) -> Any:
                return func(*_replace(args, argnums, tree_unflatten(list(xs), spec)))

            got = jvp(of, tuple(leaves), tangents, has_aux=has_aux)
            return (got[1], got[2]) if has_aux else got[1]

        got = vmap(column, randomness=randomness)(*_basis(leaves))  # (N, *out)
        columns, aux = got if has_aux else (got, None)

        def blocks(rows: Tensor) -> Any:
            parts = _blocks(rows, leaves)  # (*in, *out)
            turned = [
                p.movedim(tuple(range(x.dim())), tuple(range(-x.dim(), 0))) if x.dim() else p
                for p, x in zip(parts, leaves, strict=True)
            ]
            return tree_unflatten(turned, spec)

        jacobian = tree_map(blocks, columns)
        return (jacobian, tree_map(lambda a: a[0], aux)) if has_aux else jacobian

    return run


def hessian(func: Callable, argnums: Any = 0) -> Callable:
    """The matrix of second derivatives, forward over reverse.

    >>> torch.func.hessian(lambda x: (x ** 3).sum())(torch.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


# -- modules -----------------------------------------------------------------------------------


def functional_call(
    module: Any,
    parameter_and_buffer_dicts: Any,
    args: Any = None,
    kwargs: dict | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Calls the module with the given tensors in the place of its parameters and buffers."""
    given: dict[str, Tensor] = {}
    dicts = parameter_and_buffer_dicts
    for d in [dicts] if isinstance(dicts, dict) else dicts:
        given.update(d)
    owners = {name: _owner(module, name) for name in given}
    if tie_weights:
        _tie(module, given, owners)
    kept = []
    try:
        for name, tensor in given.items():
            place, key = owners[name]
            kept.append((place, key, place[key]))
            place[key] = tensor
        args = () if args is None else args if isinstance(args, tuple) else (args,)
        return module(*args, **(kwargs or {}))
    finally:
        for place, key, before in reversed(kept):
            place[key] = before


def _owner(module: Any, name: str) -> tuple[dict, str]:
    """The dictionary that holds the parameter or buffer."""
    path, _, key = name.rpartition(".")
    owner = module.get_submodule(path)
    for place in (owner._parameters, owner._buffers):
        if key in place:
            return place, key
    raise KeyError(
        f"[functional_call] {name!r} is no parameter or buffer of {type(module).__name__}"
    )


def _tie(module: Any, given: dict, owners: dict) -> None:
    """Other names of a given tensor get the same replacement."""
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    by_id = {id(owners[n][0][owners[n][1]]): n for n in given}
    for name, tensor in named:
        if name not in given and id(tensor) in by_id:
            given[name] = given[by_id[id(tensor)]]
            owners[name] = _owner(module, name)


def stack_module_state(models: Any) -> tuple[dict, dict]:
    """The parameters and buffers of modules of one architecture, stacked:
    an ensemble for `vmap`.
    """
    models = list(models)
    check(len(models) > 0, "stack_module_state: Expected at least one model, got 0.")
    kinds = {type(m) for m in models}
    check(len(kinds) == 1, "stack_module_state: Expected all models to be of the same class.")

    def stacked(names: list[dict]) -> dict:
        return {
            k: TENSOR_NAMES["stack"]([d[k].detach() for d in names]).requires_grad_(
                names[0][k].requires_grad
            )
            for k in names[0]
        }

    return (
        stacked([dict(m.named_parameters()) for m in models]),
        stacked([dict(m.named_buffers()) for m in models]),
    )
