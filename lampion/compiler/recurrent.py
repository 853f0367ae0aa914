"""Whole layers of LSTM and GRU on arrays: per step one product and one kernel for all that is
elementwise. Imports product, sums, kernel and mathematics.

The signatures are those of lampion/ops/recurrent_kernels.py, whose NumPy code says what is
computed; `x` is the input's share of the gates (T, N, gates * H), all arrays are of one float type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from ..settings import processors, settings
from . import mathematics, pool
from .ir import Node, loop, store
from .kernel import Kernel, Loops
from .product import gemm, kernel as product_kernel
from .sums import sum_over

TYPES = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}


def steps(count: int, backwards: bool) -> Iterator[int]:
    """The numbers of the steps in the order in which they are made."""
    return iter(range(count)[:: -1 if backwards else 1])


def rows(gates: int, body: Callable[..., list[tuple[Node, Node, Node]]]) -> Callable:
    """The loop nest of a step: for each of N rows and H units. `body(pointers, unit, gate)` gives
    what is stored, as (pointer, index, value); `unit` is the index in an (N, H) array, `gate(k)`
    that of gate k in an (N, gates * H) one.
    """

    def build(pointers: list[Node], numbers: list[Node], start: Node, stop: Node) -> list[Node]:
        loops, (width,) = Loops(), numbers
        row = loops(start, stop)
        j = loops.vector(width)
        unit, first = row * width + j, row * (width * gates) + j
        stores = body(pointers, unit, lambda k: first + width * k)
        return [loop(row, loop(j, *[store(*s) for s in stores]))]

    return build


def added(pointers: list[Node], index: Node) -> Node:
    """The sum of what several arrays hold at an index."""
    first, *others = (p.load(index) for p in pointers)
    for other in others:
        first = first + other
    return first


def slope(s: Node) -> Node:
    """The derivative of the logistic function from its value."""
    return s * (1.0 - s)


# -- LSTM --------------------------------------------------------------------------------------


def lstm_step(pointers: list[Node], unit: Node, gate: Callable[[int], Node]) -> list[tuple]:
    """share: the state's of all gates. It is an array of its own: LLVM could not tell that a gate
    that is stored is not one that is still to be loaded.
    """
    gates, cells, out, x, share, c = pointers
    i, f, g, o = (added([share, x], gate(k)) for k in range(4))
    i, f, o = (mathematics.sigmoid(s) for s in (i, f, o))
    g = mathematics.tanh(g)
    cell = f * c.load(unit) + i * g
    values = [(gates, gate(k), s) for k, s in enumerate((i, f, g, o))]
    return [*values, (cells, unit, cell), (out, unit, o * mathematics.tanh(cell))]


def lstm_step_back(pointers: list[Node], unit: Node, gate: Callable[[int], Node]) -> list[tuple]:
    """d: the gates' gradients; gc: the cell's, after the step before, before this one after."""
    d, gc, gates, cells, c, gh, g = pointers
    i, f, cell, o = (gates.load(gate(k)) for k in range(4))
    h = added([gh, g], unit)
    t = mathematics.tanh(cells.load(unit))
    total = gc.load(unit) + h * (o * (1.0 - t * t))
    shares = (
        slope(i) * (total * cell),
        slope(f) * (total * c.load(unit)),
        (1.0 - cell * cell) * (total * i),
        slope(o) * (h * t),
    )
    return [*[(d, gate(k), s) for k, s in enumerate(shares)], (gc, unit, total * f)]


# -- GRU ---------------------------------------------------------------------------------------


def gru_step(pointers: list[Node], unit: Node, gate: Callable[[int], Node]) -> list[tuple]:
    """share: the state's of all gates; shares: that of the candidate, kept."""
    gates, shares, out, x, share, h = pointers
    r, z = (mathematics.sigmoid(added([share, x], gate(k))) for k in range(2))
    own = share.load(gate(2))
    n = mathematics.tanh(x.load(gate(2)) + r * own)
    values = [(gates, gate(k), s) for k, s in enumerate((r, z, n))]
    return [*values, (shares, unit, own), (out, unit, n + z * (h.load(unit) - n))]


def gru_step_back(pointers: list[Node], unit: Node, gate: Callable[[int], Node]) -> list[tuple]:
    """dx, d: the gradients of the input's and the state's shares; kept: of the state, directly."""
    dx, d, kept, gates, shares, h, gh, g = pointers
    r, z, n = (gates.load(gate(k)) for k in range(3))
    total = kept.load(unit) + added([gh, g], unit)
    dn = (1.0 - z) * (1.0 - n * n) * total
    dz = (h.load(unit) - n) * slope(z) * total
    dr = shares.load(unit) * slope(r) * dn
    values = [(dx, gate(k), s) for k, s in enumerate((dr, dz, dn))]
    values += [(d, gate(k), s) for k, s in enumerate((dr, dz, dn * r))]
    return [*values, (kept, unit, z * total)]


KERNELS: dict[str, tuple[int, int, Callable]] = {  # gates, arrays, body
    "lstm": (4, 6, lstm_step),
    "lstm_back": (4, 7, lstm_step_back),
    "gru": (3, 6, gru_step),
    "gru_back": (3, 8, gru_step_back),
}


@cache
def kernel(name: str, dtype: np.dtype) -> Callable[..., None]:
    """The elementwise part of a step, called with its arrays, the first of them an (N, ...) one."""
    gates, arrays, body = KERNELS[name]
    made = Kernel(name, [TYPES[dtype]] * arrays, ["i64"], rows(gates, body))

    def call(width: int, *arrays: ndarray) -> None:
        made(arrays, [width], len(arrays[0]), gates * width)

    return call


# -- layers ------------------------------------------------------------------------------------


def in_rows(*arrays: Any) -> list:
    """The arrays, laid out row by row."""
    return [None if a is None else np.ascontiguousarray(a) for a in arrays]


def products(dtype: np.dtype) -> Callable[..., ndarray]:
    """`multiply(a, b, out, bias, relu)` of a type, looked up once for all steps."""
    workers = pool.pool()
    if workers.threads != (settings.threads or processors()):
        workers.settle()
    return product_kernel(dtype.name).call


def before(out: ndarray, start: ndarray, backwards: bool) -> ndarray:
    """For each step the state before it."""
    return np.concatenate((out[1:], start[None]) if backwards else (start[None], out[:-1]))


def weight_gradients(d: ndarray, h: ndarray, b: Any) -> tuple[ndarray, ndarray | None]:
    """The gradients of w and b from those of the gates (T, N, G) and the states before them."""
    flat = d.reshape(-1, d.shape[-1])
    gb = None if b is None else sum_over(flat, (0,))
    if b is not None and gb is None:
        gb = flat.sum(0)
    return gemm(flat.T, h.reshape(len(flat), -1)), gb


def lstm(x: ndarray, w: ndarray, b: Any, h: ndarray, c: ndarray, backwards: bool) -> tuple:
    """(out, last c, gates after their activations, cells)."""
    x, b, h, c = in_rows(x, b, h, c)
    gates, out = np.empty_like(x), np.empty((*x.shape[:2], h.shape[1]), x.dtype)
    cells, step, width, turned = np.empty_like(out), kernel("lstm", x.dtype), h.shape[1], w.T
    share, multiply = np.empty(x.shape[1:], x.dtype), products(x.dtype)
    for t in steps(len(x), backwards):
        multiply(h, turned, share, b, False)
        step(width, gates[t], cells[t], out[t], x[t], share, c)
        h, c = out[t], cells[t]
    return out, c.copy(), gates, cells


def lstm_gradient(
    g: Any, gc: Any, x: Any, w: ndarray, b: Any, h: ndarray, c: ndarray,
    out: ndarray, last: Any, gates: ndarray, cells: ndarray, backwards: bool,
) -> tuple:  # fmt: skip
    """The gradients of x, w, b, h and c."""
    d, gh = np.empty_like(gates), np.zeros(h.shape, h.dtype)
    gc = np.zeros(c.shape, c.dtype) if gc is None else np.array(gc, order="C")
    g = np.zeros_like(out) if g is None else np.ascontiguousarray(g)
    (w, c), multiply = in_rows(w, c), products(d.dtype)
    step, width, order = kernel("lstm_back", d.dtype), h.shape[1], list(steps(len(d), backwards))
    for t, past in zip(reversed(order), [*reversed(order[:-1]), None], strict=True):
        own = d[t]
        step(width, own, gc, gates[t], cells[t], c if past is None else cells[past], gh, g[t])
        multiply(own, w, gh, None, False)
    return d, *weight_gradients(d, before(out, h, backwards), b), gh, gc


def gru(x: ndarray, w: ndarray, b: Any, h: ndarray, backwards: bool) -> tuple:
    """(out, gates after their activations, the state's share of the candidate)."""
    x, b, h = in_rows(x, b, h)
    gates, out = np.empty_like(x), np.empty((*x.shape[:2], h.shape[1]), x.dtype)
    shares, step, width, turned = np.empty_like(out), kernel("gru", x.dtype), h.shape[1], w.T
    share, multiply = np.empty(x.shape[1:], x.dtype), products(x.dtype)
    for t in steps(len(x), backwards):
        multiply(h, turned, share, b, False)
        step(width, gates[t], shares[t], out[t], x[t], share, h)
        h = out[t]
    return out, gates, shares


def gru_gradient(
    g: ndarray, x: Any, w: ndarray, b: Any, h: ndarray,
    out: ndarray, gates: ndarray, shares: ndarray, backwards: bool,
) -> tuple:  # fmt: skip
    """The gradients of x, w, b and h."""
    dx, d, gh = np.empty_like(gates), np.empty_like(gates), np.zeros(h.shape, h.dtype)
    kept, g = np.zeros_like(gh), np.ascontiguousarray(g)
    (w, h), multiply = in_rows(w, h), products(d.dtype)
    step, width, order = kernel("gru_back", d.dtype), h.shape[1], list(steps(len(d), backwards))
    for t, past in zip(reversed(order), [*reversed(order[:-1]), None], strict=True):
        state = h if past is None else out[past]
        step(width, dx[t], d[t], kept, gates[t], shares[t], state, gh, g[t])
        multiply(d[t], w, gh, None, False)
    gh += kept
    return dx, *weight_gradients(d, before(out, h, backwards), b), gh
