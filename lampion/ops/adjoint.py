"""Linear operators that come in pairs, each the other's adjoint. May import rules, core and
the base.

Pooling and spreading, sampling and scattering, padding and cropping: the gradient of one is the other, of every order.
Both kernels take the same `plan`, which says all that is particular to a call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from .rules import in_float32, move_to_front


def batch_leading(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """For kernels that only look at the last dimensions: the batch dimension goes in front."""
    return apply(op, *[v if d is None else move_to_front(v, d) for v, d in zip(values, dims)], **params), 0


def adjoint_pair(
    names: tuple[str, str],
    forward: Callable[[ndarray, Any], ndarray],
    backward: Callable[[ndarray, Any], ndarray],
    grad_name: Callable[[dict], str] | str | None = None,
) -> tuple[Op, Op]:
    """The records of `forward(x, plan)` and of its adjoint `backward(g, plan)`, linear over the last dimensions."""

    def make(name: str, kernel: Callable, grad_name: Any) -> Op:
        return Op(
            name,
            ("x",),
            kernel,
            kind="linear",
            vjp={"x": lambda g, plan: apply(pair[name == names[0]], g, plan=plan)},
            jvp="linear",
            batch=batch_leading,
            grad_name=grad_name,
        )

    pair = (make(names[0], forward, grad_name), make(names[1], backward, None))
    return pair


class Mixing:
    """A sparse matrix along one dimension: output i is the sum of `weights[i, t] * x[indices[i, t]]` over t.

    Weights of 0 fill up rows; None stands for weights of 1 in rows of one.
    """

    def __init__(self, indices: ndarray, weights: ndarray | None, size: int) -> None:
        self.indices, self.weights, self.size = indices, weights, size  # (O, T), (O, T), the input's size
        self._transposed: Mixing | None = None

    @property
    def transposed(self) -> Mixing:
        """The transpose, in the same form; made once."""
        if self._transposed is None:
            made = self.transpose()
            self._transposed, made._transposed = made, self
        return self._transposed

    def transpose(self) -> Mixing:
        rows, terms = self.indices.shape
        weights = np.ones((rows, terms)) if self.weights is None else self.weights
        used = weights.ravel() != 0
        source = self.indices.ravel()[used]
        order = np.argsort(source, kind="stable")
        source = source[order]
        counts = np.bincount(source, minlength=self.size)
        place = np.arange(source.size) - np.repeat(np.cumsum(counts) - counts, counts)
        indices = np.zeros((self.size, max(counts.max(initial=0), 1)), np.intp)
        filled = np.zeros(indices.shape)
        indices[source, place] = np.repeat(np.arange(rows), terms)[used][order]
        filled[source, place] = weights.ravel()[used][order]
        return Mixing(indices, filled, rows)

    def apply(self, x: ndarray, axis: int) -> ndarray:
        """The matrix applied along an axis, counted from the end."""
        ones = (1,) * (-axis - 1)
        y = np.take(x, self.indices[:, 0], axis)
        if self.weights is None:
            return y
        weights = self.weights.astype(x.dtype).reshape(*self.weights.shape, *ones)  # (O, T, 1, ...)
        at = (..., *[slice(None)] * len(ones))
        y *= weights[:, 0]
        y[(*at[:1], self.weights[:, 0] == 0, *at[1:])] = 0  # absent terms must not bring in NaN
        for t in range(1, self.weights.shape[1]):
            rows = np.flatnonzero(self.weights[:, t])
            term = np.take(x, self.indices[rows, t], axis)
            term *= weights[rows, t]
            if len(rows) == len(weights):
                y += term
            else:
                y[(*at[:1], rows, *at[1:])] += term
        return y


class Separable(NamedTuple):
    """A matrix along each of the last dimensions, None leaving one alone, and what their gradient is called."""

    mixings: tuple[Mixing | None, ...]
    grad_name: str = "ResampleBackward0"


@in_float32
def mix(x: ndarray, plan: Separable) -> ndarray:
    """Applies the matrices; small integers are computed in float32 and rounded."""
    given, weighted = x.dtype, any(m is not None and m.weights is not None for m in plan.mixings)
    if weighted and given.kind in "iu":
        x = x.astype(np.float32)
    y = x
    for axis, mixing in zip(range(-len(plan.mixings), 0), plan.mixings):
        if mixing is not None:
            y = mixing.apply(y, axis)
    if y.dtype is not given:
        limits = np.iinfo(given)
        return np.clip(np.rint(y), limits.min, limits.max).astype(given)
    return y.copy() if y is x else y


def mix_transposed(x: ndarray, plan: Separable) -> ndarray:
    """The adjoint of `mix`."""
    transposed = tuple([None if m is None else m.transposed for m in plan.mixings])
    return mix(x, plan=plan._replace(mixings=transposed))


RESAMPLE, _ = adjoint_pair(
    ("resample", "resample_back"), mix, mix_transposed, lambda params: params["plan"].grad_name
)
