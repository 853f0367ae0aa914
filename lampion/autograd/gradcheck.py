"""Derivatives against finite differences: `gradcheck` and `gradgradcheck`. May import core.

The numerical Jacobian is (f(x + h e) - f(x - h e)) / 2h, column by column; complex inputs move
along both axes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import dtypes
from ..core.autograd import grad
from ..core.modes import enable_grad, no_grad
from ..core.tensor import Tensor, wrap
from ..core.transforms import Dual, Jvp


class GradcheckError(RuntimeError):
    """A derivative differs from the finite difference."""


def _tuple(x: Any) -> tuple:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _outputs(func: Callable, inputs: tuple) -> tuple[Tensor, ...]:
    return tuple(
        o
        for o in _tuple(func(*inputs))
        if isinstance(o, Tensor) and (o.is_floating_point() or o.is_complex())
    )


def _checked(inputs: tuple) -> list[int]:
    """Which inputs to check; raises ValueError if none, warns about low precision."""
    places = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not places:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the them "
            "have requires_grad=True."
        )
    for i in places:
        if inputs[i].dtype not in (dtypes.float64, dtypes.complex128):
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point or "
                "complex. This check will likely fail if all the inputs are not of double "
                "precision floating point or complex. ",
                stacklevel=3,
            )
    return places


def _numerical(func: Callable, inputs: tuple, place: int, eps: float) -> list[np.ndarray]:
    """For each output the Jacobian with respect to one input: (elements of input, elements of
    output).

    A complex input gives two blocks of rows, for steps along the real and the imaginary axis.
    """
    x = inputs[place]
    steps = [eps, 1j * eps] if x.is_complex() else [eps]
    original = x.detach().numpy().copy()
    columns: list[list[np.ndarray]] = []

    def at(moved: np.ndarray) -> list[np.ndarray]:
        with no_grad():
            arguments = [wrap(moved) if i == place else a for i, a in enumerate(inputs)]
            detached = tuple(a.detach() if isinstance(a, Tensor) else a for a in arguments)
            return [o.detach().numpy().reshape(-1).copy() for o in _outputs(func, detached)]

    for step in steps:
        for k in range(original.size):
            up, down = original.copy(), original.copy()
            up.reshape(-1)[k] += step
            down.reshape(-1)[k] -= step
            columns.append([(a - b) / (2 * eps) for a, b in zip(at(up), at(down), strict=True)])
    if not columns:
        return [np.zeros((0, o.size)) for o in at(original)]
    return [np.stack(c) for c in zip(*columns, strict=True)]


def _analytical(
    func: Callable, inputs: tuple, places: list[int], retain: int = 1
) -> list[list[np.ndarray]]:
    """Jacobians by backward: [output][input] of shape (elements of input, elements of output),
    as `_numerical`.
    """
    with enable_grad():
        outs = _outputs(func, inputs)
    result = []
    for out in outs:
        rows: list[list[np.ndarray]] = [[] for _ in places]
        seeds = [1.0, 1j] if out.is_complex() else [1.0]
        for k in range(out.numel()):
            for seed in seeds:
                cotangent = np.zeros(out.numel(), out.dtype.numpy)
                cotangent[k] = seed
                v = wrap(cotangent.reshape(tuple(out.shape)))
                found: tuple = (None,) * len(places)
                if out.requires_grad:
                    found = grad(
                        out, [inputs[i] for i in places], v, retain_graph=True, allow_unused=True
                    )
                for row, g, i in zip(rows, found, places, strict=True):
                    row.append(_directional(g, inputs[i], seed))
        result.append([_assemble(row, inputs[i], out) for row, i in zip(rows, places, strict=True)])
    return result


def _directional(g: Tensor | None, x: Tensor, seed: complex) -> np.ndarray:
    """Re<g, step> for each real step of x: what the real loss Re<seed, out> changes by."""
    if g is None:
        return np.zeros(x.numel() * (2 if x.is_complex() else 1))
    if tuple(g.shape) != tuple(x.shape):
        raise GradcheckError(f"gradient has shape {tuple(g.shape)}, its input {tuple(x.shape)}")
    flat = g.detach().numpy().reshape(-1)
    return np.concatenate([flat.real, flat.imag]) if x.is_complex() else flat.real.astype(float)


def _assemble(rows: list[np.ndarray], x: Tensor, out: Tensor) -> np.ndarray:
    """Rows of real and imaginary seeds as one Jacobian: Re and Im of d out for each step of x."""
    if not rows:
        return np.zeros((x.numel() * (2 if x.is_complex() else 1), 0))
    j = np.stack(rows, axis=1)
    return j[:, 0::2] + 1j * j[:, 1::2] if out.is_complex() else j


def gradcheck(
    func: Callable,
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of `func` agree with finite differences; raises GradcheckError where
    they don't.

    Inputs should be float64 (or complex128) and require grad.
    """
    inputs = _tuple(inputs)
    places = _checked(inputs)
    try:
        numerical = [_numerical(func, inputs, i, eps) for i in places]
        if check_backward_ad:
            again = _analytical(func, inputs, places)
            repeated = _analytical(func, inputs, places) if nondet_tol == 0.0 else again
            for o, (row, row2) in enumerate(zip(again, repeated, strict=True)):
                for k, i in enumerate(places):
                    if not np.allclose(row[k], row2[k], atol=nondet_tol, rtol=0, equal_nan=True):
                        raise GradcheckError(
                            "Backward is not reentrant, i.e., running backward with same input and "
                            "grad_output multiple times gives different values, although "
                            "analytical gradient matches numerical gradient."
                        )
                    _compare(row[k], numerical[k][o], o, i, rtol, atol, "analytical")
        if check_forward_ad:
            _check_forward(func, inputs, places, numerical, rtol, atol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _compare(
    a: np.ndarray, n: np.ndarray, out: int, place: int, rtol: float, atol: float, kind: str
) -> None:
    if a.shape != n.shape or not np.allclose(a, n, rtol=rtol, atol=atol, equal_nan=True):
        raise GradcheckError(
            f"Jacobian mismatch for output {out} with respect to input "
            f"{place},\nnumerical:{n}\n{kind}:{a}\n"
        )


def _check_forward(
    func: Callable, inputs: tuple, places: list, numerical: list, rtol: float, atol: float
) -> None:
    """Tangents against the columns of the numerical Jacobian."""
    for k, i in enumerate(places):
        x = inputs[i].detach()
        steps = [1.0, 1j] if x.is_complex() else [1.0]
        columns: list = []
        for step in steps:
            for e in range(x.numel()):
                direction = np.zeros(x.numel(), x.dtype.numpy)
                direction[e] = step
                with Jvp() as level:
                    moved = [
                        Dual(level, x, wrap(direction.reshape(tuple(x.shape)))) if j == i else a
                        for j, a in enumerate(inputs)
                    ]
                    outs = _outputs(func, tuple(moved))
                pairs = [level.unwrap(o) for o in outs]
                columns.append(
                    [
                        np.zeros(p.numel()) if t is None else t.detach().numpy().reshape(-1)
                        for p, t in pairs
                    ]
                )
        for o, stacked in enumerate(zip(*columns, strict=True)):
            _compare(np.stack(stacked), numerical[k][o], o, i, rtol, atol, "forward-mode")


def _cotangents(func: Callable, inputs: tuple) -> list:
    """Random ones for all outputs, to be differentiated by."""
    rng, made = np.random.default_rng(0), []
    for o in _outputs(func, inputs):
        v = rng.standard_normal(tuple(o.shape))
        v = v + 1j * rng.standard_normal(tuple(o.shape)) if o.is_complex() else v
        made.append(wrap(np.asarray(v).astype(o.dtype.numpy)).requires_grad_())
    return made


def gradgradcheck(
    func: Callable,
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Whether second derivatives agree with finite differences of the first; see `gradcheck`."""
    inputs = _tuple(inputs)
    places = _checked(inputs)
    grad_outputs = _tuple(_cotangents(func, inputs) if grad_outputs is None else grad_outputs)
    split = len(inputs)

    def first(*args: Any) -> tuple:
        with enable_grad():
            given = tuple(
                a
                if not isinstance(a, Tensor) or a.requires_grad or i not in live
                else a.requires_grad_()
                for i, a in enumerate(args)
            )
            outs = list(_outputs(func, given[:split]))
            pairs = [(o, v) for o, v in zip(outs, given[split:], strict=True) if o.requires_grad]
            found = grad(
                [o for o, _ in pairs],
                [given[i] for i in places],
                [v for _, v in pairs],
                create_graph=True,
                allow_unused=True,
            )
            return tuple(g for g in found if g is not None)

    live = set(places) | {split + i for i, v in enumerate(grad_outputs) if v.requires_grad}
    return gradcheck(
        first,
        inputs + grad_outputs,
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
    )
