"""Whole layers of LSTM and GRU as stages, one per time step, in eager calls and compiled programs.
Imports recurrent_code, matmul, stages and templates.

The signatures of `lstm` and its like are those of lampion/ops/recurrent_kernels.py, whose NumPy
code says what is computed; `x` is the input's share of the gates (T, N, gates * H), all arrays are
of one float type.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from ..native import pool, stages
from ..native.stages import Call, Layout, copy_call
from .gemm_split import SIDE
from .matmul import matmul_calls
from .recurrent_amx import STATES, STEP_FIELDS, WEIGHTS, step_bytes
from .recurrent_code import (
    BODIES,
    CLEAR,
    COLUMNS,
    PACK,
    POINTERS,
    STEP,
    STRIPS,
    TOTAL,
    group_of,
    native,
)
from .templates import Launch

ROWS = 48  # of a batch in a tile, at most: their sums stay in the first caches
MATRIX_ROWS, MATRIX_WIDTH = 24, 64  # of layers, at least, whose products use matrix units

Place = tuple[str, int]  # an operand's name, and how many elements from its beginning


class Layer(NamedTuple):
    """What the stages of a layer depend on.

    kind   "lstm" or "gru"
    bias   whether the state's share of the gates has one
    g      of a gradient: the strides of that of the outputs in elements, if there is one
    gc     of a gradient: whether there is one of the last cells
    """

    kind: str
    time: int
    batch: int
    width: int
    dtype: str
    backwards: bool
    bias: bool
    g: tuple[int, ...] | None = None
    gc: bool = False

    @property
    def gates(self) -> int:
        """How many there are."""
        return BODIES[self.kind].gates

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize

    @property
    def state(self) -> int:
        """Elements of a step's states."""
        return self.batch * self.width

    def order(self) -> list[int]:
        """The steps in the order in which they are made."""
        return list(range(self.time)[:: -1 if self.backwards else 1])

    @property
    def matrix(self) -> bool:
        """Whether its products are made on matrix units."""
        large = self.batch >= MATRIX_ROWS and self.width >= MATRIX_WIDTH
        return large and native(self.kind, self.dtype)[1].parts > 0

    @property
    def turns(self) -> tuple[str, ...]:
        """The names of the temporaries that hold states for matrix units, in turns."""
        return ("even", "odd") if self.matrix else ()

    def groups(self) -> int:
        """How many groups of units there are: a stage's tiles, unless the batch is cut too."""
        return -(-self.width // group_of(native(self.kind, self.dtype)[1]))


class Calls:
    """The stages of a layer on operands that have names."""

    def __init__(self, layer: Layer, body: str, operands: Iterable[str]) -> None:
        self.layer, self.body = layer, body
        self.numbers = {name: i for i, name in enumerate(operands)}
        self.code, self.shape = native(body, layer.dtype)
        self.made: list[Call] = []

    def pointer(self, at: int, place: Place) -> tuple[int, int, int]:
        """That an operand's address goes to a place in a job."""
        name, offset = place
        return at, self.numbers[name], offset * self.layer.size

    def add(
        self, function: str, names: tuple[str, ...], tiles: int, operands: Mapping[str, Place],
        arrays: Iterable[Place] = (), **values: int,
    ) -> None:  # fmt: skip
        """Adds a stage; `arrays` are what its job ends with."""
        arrays = list(arrays)
        words = [values[name] if name not in POINTERS else 0 for name in names]
        job = struct.pack(f"<{len(words) + len(arrays)}q", *words, *[0] * len(arrays))
        pointers = [self.pointer(8 * names.index(n), place) for n, place in operands.items()]
        pointers += [self.pointer(8 * (len(names) + i), a) for i, a in enumerate(arrays)]
        name = f"{self.body} {function}"
        self.made.append(
            Call(self.code.address(function), job, tiles, tuple(pointers), name)
        )  # fmt: skip

    def use(self, calls: Iterable[Call], places: list[Place]) -> None:
        """Adds calls of another template on these operands."""
        for call in calls:
            pointers = tuple(self.pointer(at, places[n]) for at, n in call.pointers)
            self.made.append(call._replace(pointers=pointers))

    def pack(self) -> int:
        """Adds the packing of w; how many bytes it needs."""
        layer, groups, body = self.layer, self.layer.groups(), BODIES[self.body]
        operands = {"w": ("w", 0), "packed": ("packed", 0)}
        if layer.matrix:
            self.add("matrix_weights", WEIGHTS, -(-layer.width // SIDE), operands,
                     width=layer.width)  # fmt: skip
            return -(-layer.width // SIDE) * layer.gates * self.panel_bytes()
        self.add("weights", PACK, groups, operands, width=layer.width)
        depth = layer.width * (1 if body.sums > 1 else body.gates)
        depth += -depth % self.shape.lanes
        return groups * STRIPS * self.shape.lanes * body.sums * depth * layer.size

    def panel_bytes(self) -> int:
        """Of 32 rows of one gate's weights, or of states, as parts for matrix units."""
        return -(-self.layer.width // SIDE) * step_bytes(self.shape)

    def temporaries(self) -> list[int]:
        """The bytes of the states that steps cut for each other, in turns."""
        layer, body = self.layer, BODIES[self.body]
        gates = 1 if body.sums > 1 else body.gates
        return [-(-layer.batch // SIDE) * gates * self.panel_bytes()] * len(layer.turns)

    def cut(self, state: Place) -> None:
        """Adds the cutting of the first step's state."""
        layer = self.layer
        if layer.matrix:
            operands = {"state": state, "ahead": (layer.turns[0], 0)}
            self.add("matrix_states", STATES, -(-layer.batch // SIDE), operands,
                     rows=layer.batch, width=layer.width)  # fmt: skip

    def step(
        self, number: int, state: Place | None, start: Place | None, start_row: int,
        arrays: list[Place],
    ) -> None:  # fmt: skip
        """Adds a time step; without a state there is no product."""
        layer, body = self.layer, BODIES[self.body]
        function, names, rows = "step", tuple(STEP), ROWS
        operands = {"packed": ("packed", 0)}
        operands |= {} if state is None else {"state": state}
        operands |= {} if start is None else {"start": start}
        if layer.matrix:
            function, names, rows = "matrix_step", (*STEP, *STEP_FIELDS), 2 * SIDE
            operands |= {"w": ("w", 0), "split": (layer.turns[number % 2], 0)}
            if number + 1 < layer.time:
                operands["ahead"] = layer.turns[(number + 1) % 2], 0
        parts = -(-layer.batch // rows)
        chunk = -(-layer.batch // parts)
        depth = layer.width * (1 if body.sums > 1 else body.gates)
        self.add(
            function, names, layer.groups() * parts, operands, arrays, start_row=start_row,
            rows=layer.batch, width=layer.width, depth=0 if state is None else depth,
            chunk=chunk + -chunk % SIDE if layer.matrix else chunk, parts=parts,
        )  # fmt: skip

    def clear(self, name: str) -> None:
        """Adds the clearing of an (N, H) array."""
        size = self.layer.state * self.layer.size
        self.add("clear", CLEAR, 1, {"to": (name, 0)}, bytes=size)

    def product(
        self, a: Place, rows: Layout, b: Place, columns: Layout, out: str, accumulate: bool = False
    ) -> None:
        """Adds `out = a @ b`, or that `out` is added to."""
        shape = rows.shape[0], columns.shape[1]
        made = Layout(shape, (shape[1], 1), self.layer.dtype)
        calls = matmul_calls(rows, columns, made, accumulate=accumulate)
        self.use(calls, [a, b, (out, 0)])


def row_by_row(layer: Layer, *shape: int) -> Layout:
    """The layout of a contiguous matrix."""
    return Layout(shape, (shape[1], 1), layer.dtype)


# -- templates ---------------------------------------------------------------------------------

KEPT = {"lstm": ("gates", "cells"), "gru": ("gates", "shares")}


def forward_operands(layer: Layer) -> tuple[str, ...]:
    """The names of `layer_calls`'s operands, in order, but the temporary."""
    lstm = layer.kind == "lstm"
    given = ("x", "w", *(["b"] if layer.bias else []), "h", *(["c"] if lstm else []))
    return (*given, "out", *(["last"] if lstm else []), *KEPT[layer.kind])


def layer_calls(layer: Layer) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """The stages of a layer, and the bytes of its temporaries.

    Operands, all contiguous, see `forward_operands`: x, w, b, h and (LSTM) c; out, the last c,
    the gates after their activations, and the cells or the state's share of the candidate.
    """
    calls = Calls(layer, layer.kind, (*forward_operands(layer), "packed", *layer.turns))
    sizes = [calls.pack(), *calls.temporaries()]
    state, kept = layer.state, KEPT[layer.kind][1]
    h, c = ("h", 0), ("c", 0)
    bias = ("b", 0) if layer.bias else None
    calls.cut(h)
    for number, t in enumerate(layer.order()):
        own, gates = t * state, t * state * layer.gates
        before = c if layer.kind == "lstm" else h
        arrays = [("x", gates), before, ("gates", gates), (kept, own), ("out", own)]
        calls.step(number, h, bias, 0, arrays)
        h, c = ("out", own), (kept, own)
    if layer.kind == "lstm":
        calls.use([copy_call(state * layer.size)], [c, ("last", 0)])
    return tuple(calls.made), tuple(sizes)


def gradient_operands(layer: Layer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of `gradient_calls`'s operands that it reads and writes, in order."""
    lstm = layer.kind == "lstm"
    given = [*(["g"] if layer.g is not None else []), *(["gc"] if layer.gc else []), "w", "h"]
    made = ["dx", "dw", *(["db"] if layer.bias else []), "dh", *(["dc"] if lstm else [])]
    return (*given, *(["c"] if lstm else []), "out", *KEPT[layer.kind]), tuple(made)


def gradient_calls(layer: Layer) -> tuple[tuple[Call, ...], tuple[int, ...]]:
    """The stages of a layer's gradient, and the bytes of its temporaries.

    Operands, see `gradient_operands`: the gradients of the outputs, the only one that need not be
    contiguous, and of the last c, w, h, c, and what the layer made; the gradients of x, w, b, h, c.
    """
    given, made = gradient_operands(layer)
    lstm, state, gates, kept = layer.kind == "lstm", layer.state, layer.gates, KEPT[layer.kind][1]
    d, running = ("dx", "dc") if lstm else ("dshare", "dh")
    more = () if lstm else ("dshare",)
    calls = Calls(layer, f"{layer.kind}_back", (*given, *made, "packed", *more, *layer.turns))
    sizes = [calls.pack(), *(layer.time * state * gates * layer.size for _ in more)]
    sizes += calls.temporaries()
    if layer.gc:
        calls.use([copy_call(state * layer.size)], [("gc", 0), (running, 0)])
    else:
        calls.clear(running)
    order = layer.order()
    after: Place | None = None
    for number, (t, past) in enumerate(
        zip(reversed(order), [*reversed(order[:-1]), None], strict=True)
    ):
        own, wide = t * state, t * state * gates
        first = ("c" if lstm else "h", 0)
        before = first if past is None else (kept if lstm else "out", past * state)
        start = None if layer.g is None else ("g", t * layer.g[0])
        written = [("dx", wide), *([] if lstm else [(d, wide)]), (running, 0)]
        arrays = [("gates", wide), (kept, own), before, *written]
        calls.step(number, after, start, 0 if layer.g is None else layer.g[1], arrays)
        after = (d, wide)
    add_sums(calls, d, order)
    return tuple(calls.made), tuple(sizes)


def add_sums(calls: Calls, d: str, order: list[int]) -> None:
    """Adds the gradients of w, b and h from those of the gates, d (T, N, gates * H)."""
    layer, columns = calls.layer, calls.layer.width * calls.layer.gates
    first, later = order[0], (layer.time - 1) * layer.batch
    at = (d, first * layer.batch * columns)

    def turned(rows: int) -> Layout:
        return Layout((columns, rows), (1, columns), layer.dtype)

    start = row_by_row(layer, layer.batch, layer.width)
    calls.product(at, turned(layer.batch), ("h", 0), start, "dw")
    if later:
        moved = (0, layer.state) if layer.backwards else (layer.batch * columns, 0)
        states = row_by_row(layer, later, layer.width)
        calls.product((d, moved[0]), turned(later), ("out", moved[1]), states, "dw", True)
    if layer.bias:
        tiles = -(-columns // (COLUMNS * calls.shape.lanes))
        rows = layer.time * layer.batch
        operands = {"d": (d, 0), "total": ("db", 0)}
        calls.add("total", TOTAL, tiles, operands, rows=rows, columns=columns)
    gates, w = (
        row_by_row(layer, n, m) for n, m in ((layer.batch, columns), (columns, layer.width))
    )
    calls.product(at, gates, ("w", 0), w, "dh", accumulate=layer.kind == "gru")


# -- on arrays ---------------------------------------------------------------------------------


@cache
def forward(layer: Layer, threads: int) -> Launch:
    """A layer ready to run; the number of threads decides how products are cut."""
    return Launch(*layer_calls(layer))


@cache
def gradient(layer: Layer, threads: int) -> Launch:
    """A layer's gradient ready to run."""
    return Launch(*gradient_calls(layer))


def in_rows(**arrays: Any) -> dict[str, ndarray]:
    """The arrays that there are, laid out row by row."""
    return {name: np.ascontiguousarray(a) for name, a in arrays.items() if a is not None}


def threads() -> int:
    """How many the pool has, by the present settings."""
    stages.settle()
    return pool.pool().threads


def run(kind: str, x: ndarray, w: ndarray, b: Any, backwards: bool, **states: ndarray) -> tuple:
    """What a layer returns and keeps."""
    time, batch, _ = x.shape
    width = w.shape[1]
    layer = Layer(kind, time, batch, width, x.dtype.name, bool(backwards), b is not None)
    arrays = in_rows(x=x, w=w, b=b, **states)
    names = forward_operands(layer)
    made = names[len(arrays) :]
    shapes = {"last": (batch, width), "gates": x.shape}
    for name in made:
        arrays[name] = np.empty(shapes.get(name, (time, batch, width)), x.dtype)
    forward(layer, threads()).run([arrays[name] for name in names])
    return tuple(arrays[name] for name in made)


def run_gradient(
    kind: str, g: Any, gc: Any, w: ndarray, b: Any, backwards: bool, **kept: ndarray
) -> tuple:
    """The gradients of x, w, b, h and (LSTM) c."""
    gates, (batch, width) = kept["gates"], kept["h"].shape
    arrays = in_rows(gc=gc, w=w, **kept)
    if g is not None:
        aligned = g.strides[-1] == g.itemsize and not any(s % g.itemsize for s in g.strides)
        arrays["g"] = g if aligned else np.ascontiguousarray(g)
    strides = None if g is None else Layout.of(arrays["g"]).strides
    layer = Layer(
        kind, len(gates), batch, width, gates.dtype.name, bool(backwards), b is not None, strides,
        gc is not None,
    )  # fmt: skip
    given, made = gradient_operands(layer)
    shapes = {"dx": gates.shape, "dw": w.shape, "db": gates.shape[-1:]}
    for name in made:
        arrays[name] = np.empty(shapes.get(name, (batch, width)), gates.dtype)
    gradient(layer, threads()).run([arrays[name] for name in (*given, *made)])
    found = [arrays[name] for name in made]
    return tuple(found if layer.bias else [*found[:2], None, *found[2:]])


def lstm(x: ndarray, w: ndarray, b: Any, h: ndarray, c: ndarray, backwards: bool) -> tuple:
    """(out, last c, gates after their activations, cells)."""
    return run("lstm", x, w, b, backwards, h=h, c=c)


def lstm_gradient(
    g: Any, gc: Any, x: Any, w: ndarray, b: Any, h: ndarray, c: ndarray,
    out: ndarray, last: Any, gates: ndarray, cells: ndarray, backwards: bool,
) -> tuple:  # fmt: skip
    """The gradients of x, w, b, h and c."""
    kept = {"h": h, "c": c, "out": out, "gates": gates, "cells": cells}
    return run_gradient("lstm", g, gc, w, b, backwards, **kept)


def gru(x: ndarray, w: ndarray, b: Any, h: ndarray, backwards: bool) -> tuple:
    """(out, gates after their activations, the state's share of the candidate)."""
    return run("gru", x, w, b, backwards, h=h)


def gru_gradient(
    g: ndarray, x: Any, w: ndarray, b: Any, h: ndarray,
    out: ndarray, gates: ndarray, shares: ndarray, backwards: bool,
) -> tuple:  # fmt: skip
    """The gradients of x, w, b and h."""
    kept = {"h": h, "out": out, "gates": gates, "shares": shares}
    return run_gradient("gru", g, None, w, b, backwards, **kept)
