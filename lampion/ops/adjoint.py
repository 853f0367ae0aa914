"""Linear operators that come in pairs, each the other's adjoint. May import rules, core and the
base.

Pooling and spreading, sampling and scattering, padding and cropping: the gradient of one is the
other, of every order. Both kernels take the same `plan`, which says all that is particular to a
call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from .rules import in_float32, move_to_front


def batch_leading(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """For kernels that only look at the last dimensions: the batch dimension goes in front."""
    return apply(
        op, *[v if d is None else move_to_front(v, d) for v, d in zip(values, dims)], **params
    ), 0


def adjoint_pair(
    names: tuple[str, str],
    forward: Callable[[ndarray, Any], ndarray],
    backward: Callable[[ndarray, Any], ndarray],
    grad_name: Callable[[dict], str] | str | None = None,
) -> tuple[Op, Op]:
    """The records of `forward(x, plan)` and of its adjoint `backward(g, plan)`, linear over the
    last dimensions.
    """

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


DENSE_WIDTH = (
    64  # elements that a dense product reads in the time in which a sparse one gathers one
)


class Mixing:
    """A sparse matrix along one dimension: output i is the sum of `weights[i, t] * x[indices[i,
    t]]` over t.

    Weights of 0 fill up rows; None stands for weights of 1 in rows of one.
    """

    def __init__(self, indices: ndarray, weights: Any, size: int) -> None:
        self.indices, self.weights = indices, weights  # (O, T) both
        self.size = size  # the input's
        self._transposed: Mixing | None = None
        self._dense: ndarray | None = None

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

    @property
    def dense(self) -> ndarray:
        """The matrix (O, size) itself; made once."""
        if self._dense is None:
            self._dense = np.zeros((len(self.indices), self.size))
            rows = np.arange(len(self.indices))[:, None]
            np.add.at(self._dense, (rows, self.indices), self.weights)
        return self._dense

    def apply(self, x: ndarray, axis: int) -> ndarray:
        """The matrix applied along an axis, counted from the end."""
        if self.weights is None:
            return np.take(x, self.indices[:, 0], axis)
        if x.dtype.kind == "f" and self.size <= DENSE_WIDTH * self.weights.shape[1]:
            y = self.multiply(x, axis)
            if np.isfinite(y).all():  # else 0 * inf may have brought in NaN
                return y
        return self.gather(x, axis)

    def multiply(self, x: ndarray, axis: int) -> ndarray:
        """By a dense matrix, which BLAS makes up for."""
        matrix = self.dense.astype(x.dtype)
        if axis == -1:
            return np.matmul(x, matrix.T)
        shape = x.shape
        flat = x.reshape(*shape[:axis], shape[axis], math.prod(shape[axis + 1 :]))
        return np.matmul(matrix, flat).reshape(*shape[:axis], len(matrix), *shape[axis + 1 :])

    def apply_to_bytes(self, x: ndarray, axis: int) -> ndarray:
        """The matrix applied to uint8 in fixed-point arithmetic of 16 bits, as PyTorch does it."""
        bits = 14 - max(math.floor(math.log2(np.abs(self.dense).max(initial=1e-9))), -8)
        scaled = self.dense * (1 << bits)
        matrix = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int32)
        sums = np.moveaxis(np.tensordot(x.astype(np.int32), matrix, ([axis], [1])), -1, axis)
        return np.clip((sums + (1 << bits - 1)) >> bits, 0, 255).astype(np.uint8)

    def gather(self, x: ndarray, axis: int) -> ndarray:
        """Term by term; absent ones must not bring in NaN."""
        ones = (1,) * (-axis - 1)
        weights = self.weights.astype(x.dtype).reshape(*self.weights.shape, *ones)  # (O, T, 1, ...)
        rest: tuple[Any, ...] = (slice(None),) * len(ones)
        y = np.take(x, self.indices[:, 0], axis)
        y *= weights[:, 0]
        y[(..., self.weights[:, 0] == 0, *rest)] = 0
        for t in range(1, self.weights.shape[1]):
            rows = np.flatnonzero(self.weights[:, t])
            term = np.take(x, self.indices[rows, t], axis)
            term *= weights[rows, t]
            if len(rows) == len(weights):
                y += term
            else:
                at: tuple[Any, ...] = (..., rows, *rest)
                y[at] += term
        return y


class Separable(NamedTuple):
    """A matrix along each of the last dimensions, None leaving one alone, and what their gradient
    is called.
    """

    mixings: tuple[Mixing | None, ...]
    grad_name: str = "ResampleBackward0"


@in_float32
def mix(x: ndarray, plan: Separable) -> ndarray:
    """Applies the matrices, those of bytes from the last dimension on."""
    steps = [
        (axis, m) for axis, m in zip(range(-len(plan.mixings), 0), plan.mixings) if m is not None
    ]
    if x.dtype == np.uint8 and any(m.weights is not None for _, m in steps):
        for axis, mixing in reversed(steps):
            x = mixing.apply_to_bytes(x, axis)
        return x
    for axis, mixing in steps:
        x = mixing.apply(x, axis)
    return x if steps else x.copy()


def mix_transposed(x: ndarray, plan: Separable) -> ndarray:
    """The adjoint of `mix`."""
    transposed = tuple([None if m is None else m.transposed for m in plan.mixings])
    return mix(x, plan=plan._replace(mixings=transposed))


RESAMPLE, _ = adjoint_pair(
    ("resample", "resample_back"), mix, mix_transposed, lambda params: params["plan"].grad_name
)
