"""Whole recurrent layers on arrays, forward and backward through time. May import large.

Inputs come as their share of the gates, x (T, N, gates * H); each step adds the state's, h w^T + b.
All that a gradient needs of a step but the product with w is worked out for all steps at once; the
gradient of w is one product. Every kernel of a kind takes (x, w, b, *states) and returns (out,
*last cell states, *kept), its gradient takes the gradients of all but what is kept, and these.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .large import Least, engine


def native(weight: int) -> Callable:
    """Lets the compiled form of the same name run large layers, by the size of that argument."""

    def decorate(kernel: Callable) -> Callable:
        @functools.wraps(kernel)
        def call(*arguments: Any, backwards: bool) -> tuple:
            compiler = engine("recurrent") if arguments[weight].size >= Least.size else None
            if compiler is not None:
                return getattr(compiler, kernel.__name__)(*arguments, backwards)
            return kernel(*arguments, backwards)

        return call

    return decorate


def sigmoid_(x: ndarray) -> ndarray:
    """1 / (1 + exp(-x)) in place."""
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1
    return np.reciprocal(x, out=x)


def parts(x: Any, count: int) -> list:
    """The gates that lie side by side in the last dimension of an array or tensor, as views."""
    n = x.shape[-1] // count
    return [x[..., i * n : (i + 1) * n] for i in range(count)]


def steps(x: ndarray, backwards: bool) -> range:
    """The numbers of the steps in the order in which they are made."""
    return range(len(x))[:: -1 if backwards else 1]


def before(out: ndarray, start: ndarray, backwards: bool) -> ndarray:
    """For each step the state before it."""
    moved = np.empty_like(out)
    moved[-1 if backwards else 0] = start
    if backwards:
        moved[:-1] = out[1:]
    else:
        moved[1:] = out[:-1]
    return moved


def weight_gradients(d: ndarray, h: ndarray, b: ndarray | None) -> tuple[ndarray, ndarray | None]:
    """The gradients of w and b from those of the gates (T, N, G) and the states before them."""
    flat = d.reshape(-1, d.shape[-1])
    return flat.T @ h.reshape(len(flat), -1), None if b is None else flat.sum(0)


# -- LSTM --------------------------------------------------------------------------------------


@native(weight=1)
def lstm(x: ndarray, w: ndarray, b: Any, h: ndarray, c: ndarray, backwards: bool) -> tuple:
    """(out, last c, gates after their activations, cells)."""
    gates = x.copy() if b is None else x + b
    out = np.empty((*x.shape[:2], h.shape[1]), x.dtype)
    cells, w = np.empty_like(out), w.T
    for t in steps(x, backwards):
        g = gates[t]
        g += h @ w
        i, f, cell, o = parts(g, 4)
        candidate = np.tanh(cell)
        sigmoid_(g)
        cell[...] = candidate
        c = np.multiply(f, c, out=cells[t])
        candidate *= i
        c += candidate
        h = np.multiply(np.tanh(c), o, out=out[t])
    return out, c.copy(), gates, cells


@native(weight=3)
def lstm_gradient(
    g: Any,
    gc: Any,
    x: Any,
    w: ndarray,
    b: Any,
    h: ndarray,
    c: ndarray,
    out: ndarray,
    last: Any,
    gates: ndarray,
    cells: ndarray,
    backwards: bool,
) -> tuple:
    """The gradients of x, w, b, h and c."""
    i, f, cell, o = parts(gates, 4)
    t_cells, c_before = np.tanh(cells), before(cells, c, backwards)
    through = o * (1 - t_cells * t_cells)
    d = gates * (1 - gates)
    parts(d, 4)[2][...] = 1 - cell * cell
    gh = np.zeros_like(h)
    gc = np.zeros_like(c) if gc is None else gc.copy()
    for t in reversed(steps(out, backwards)):
        if g is not None:
            gh = gh + g[t]
        gc += gh * through[t]
        di, df, dg, do = parts(d[t], 4)
        di *= gc * cell[t]
        df *= gc * c_before[t]
        dg *= gc * i[t]
        do *= gh * t_cells[t]
        gc *= f[t]
        gh = d[t] @ w
    return d, *weight_gradients(d, before(out, h, backwards), b), gh, gc


# -- GRU ---------------------------------------------------------------------------------------


@native(weight=1)
def gru(x: ndarray, w: ndarray, b: Any, h: ndarray, backwards: bool) -> tuple:
    """(out, gates after their activations, the state's share of the candidate)."""
    gates, width = x.copy(), h.shape[1]
    out = np.empty((*x.shape[:2], width), x.dtype)
    shares, w = np.empty_like(out), w.T
    for t in steps(x, backwards):
        share = h @ w
        if b is not None:
            share += b
        shares[t] = share[:, 2 * width :]
        g = gates[t]
        g[:, : 2 * width] += share[:, : 2 * width]
        sigmoid_(g[:, : 2 * width])
        r, z, n = parts(g, 3)
        n += r * shares[t]
        np.tanh(n, out=n)
        h = np.subtract(h, n, out=out[t])
        h *= z
        h += n
    return out, gates, shares


@native(weight=2)
def gru_gradient(
    g: ndarray,
    x: Any,
    w: ndarray,
    b: Any,
    h: ndarray,
    out: ndarray,
    gates: ndarray,
    shares: ndarray,
    backwards: bool,
) -> tuple:
    """The gradients of x, w, b and h."""
    r, z, n = parts(gates, 3)
    h_before = before(out, h, backwards)
    dx, width = np.empty_like(gates), h.shape[1]
    dr, dz, dn = parts(dx, 3)
    np.multiply(1 - z, 1 - n * n, out=dn)
    np.multiply((h_before - n) * z, 1 - z, out=dz)
    np.multiply(shares * r, 1 - r, out=dr)
    d = np.empty_like(gates)
    gh = np.zeros_like(h)
    for t in reversed(steps(out, backwards)):
        gh = gh + g[t]
        dn[t] *= gh
        dz[t] *= gh
        dr[t] *= dn[t]
        d[t] = dx[t]
        d[t, :, 2 * width :] *= r[t]
        gh *= z[t]
        gh += d[t] @ w
    return dx, *weight_gradients(d, h_before, b), gh


# -- simple networks ---------------------------------------------------------------------------


def simple(x: ndarray, w: ndarray, b: Any, h: ndarray, backwards: bool, relu: bool) -> ndarray:
    """The outputs of a network with tanh, or with ReLU."""
    out, w = x.copy() if b is None else x + b, w.T
    for t in steps(x, backwards):
        out[t] += h @ w
        h = np.maximum(out[t], 0, out=out[t]) if relu else np.tanh(out[t], out=out[t])
    return out


def simple_gradient(
    g: ndarray, x: Any, w: ndarray, b: Any, h: ndarray, out: ndarray, backwards: bool, relu: bool
) -> tuple:
    """The gradients of x, w, b and h."""
    d = (out > 0).astype(out.dtype) if relu else 1 - out * out
    gh = np.zeros_like(h)
    for t in reversed(steps(out, backwards)):
        gh = gh + g[t]
        d[t] *= gh
        gh = d[t] @ w
    return d, *weight_gradients(d, before(out, h, backwards), b), gh
