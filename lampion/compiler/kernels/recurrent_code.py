"""The stages of recurrent layers, as LLVM IR: a time step's product with packed weights and all
that is elementwise in it, for a group of hidden units. Imports emit, gemm_pack, the IR and
mathematics.

A tile works out its own units' columns of the product by a register tile of rows times four (or
three) vectors, into a block of sums that stays in the first caches; the elementwise kernel reads
it there. Weights are packed once per layer, so that a core finds its share of them in its second
cache at each step. An element is summed in an order that only the sizes decide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

from ..ir import mathematics
from ..ir.linearize import linearize
from ..ir.node import Node, loop, loop_range, parameter, program, store
from ..ir.render_llvm import attributes, render_llvm
from ..ir.simplify import simplify
from ..native import runtime
from ..native.emit import Function, Module, Value
from . import product, recurrent_amx
from .gemm_pack import Shape, pack, part, round_up, shape_for

STRIPS = 4  # vectors of units in a group: what a tile works on
DEPTH = 128  # along k, of a block of packed weights that stays in the first cache
ROWS_SUMMED = 32  # at once, in the gradient of a bias
TYPES = {"float32": "f32", "float64": "f64"}

Stores = list[tuple[Node, Node, Node]]
Index = Callable[[int], Node]


class Body(NamedTuple):
    """What is elementwise in a step. `stores(pointers, unit, gate, share)` says what is stored, as
    (pointer, index, value): `unit` is the index in an (N, H) array, `gate(k)` that of gate k in an
    (N, gates * H) one, `share(k)` that of gate k in the block of sums, the first pointer.

    arrays   of the pointers but the first: "u" for (N, H), "g" for (N, gates * H), in a string
    gates    of the layer
    sums     columns of the product per unit: the gates, or 1 where it is the state's gradient
    next     which of the arrays the next step's product is of
    """

    stores: Callable[[list[Node], Node, Index, Index], Stores]
    arrays: str
    gates: int
    sums: int
    next: int


def slope(s: Node) -> Node:
    """The derivative of the logistic function from its value."""
    return s * (1.0 - s)


# -- LSTM --------------------------------------------------------------------------------------


def lstm_step(pointers: list[Node], unit: Node, gate: Index, share: Index) -> Stores:
    """sums: the state's share of all gates, to which the input's, x, is added."""
    sums, x, c, gates, cells, out = pointers
    i, f, g, o = (sums.load(share(k)) + x.load(gate(k)) for k in range(4))
    i, f, o = (mathematics.sigmoid(s) for s in (i, f, o))
    g = mathematics.tanh(g)
    cell = f * c.load(unit) + i * g
    values = [(gates, gate(k), s) for k, s in enumerate((i, f, g, o))]
    return [*values, (cells, unit, cell), (out, unit, o * mathematics.tanh(cell))]


def lstm_step_back(pointers: list[Node], unit: Node, gate: Index, share: Index) -> Stores:
    """sums: the gradient of the output; d: the gates' gradients; gc: the cell's, after the step
    before, before this one after.
    """
    sums, gates, cells, c, d, gc = pointers
    i, f, cell, o = (gates.load(gate(k)) for k in range(4))
    h = sums.load(share(0))
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


def gru_step(pointers: list[Node], unit: Node, gate: Index, share: Index) -> Stores:
    """sums: the state's share of all gates; shares: that of the candidate, kept."""
    sums, x, h, gates, shares, out = pointers
    r, z = (mathematics.sigmoid(sums.load(share(k)) + x.load(gate(k))) for k in range(2))
    own = sums.load(share(2))
    n = mathematics.tanh(x.load(gate(2)) + r * own)
    values = [(gates, gate(k), s) for k, s in enumerate((r, z, n))]
    return [*values, (shares, unit, own), (out, unit, n + z * (h.load(unit) - n))]


def gru_step_back(pointers: list[Node], unit: Node, gate: Index, share: Index) -> Stores:
    """dx, d: the gradients of the input's and the state's shares; kept: of the state, directly."""
    sums, gates, shares, h, dx, d, kept = pointers
    r, z, n = (gates.load(gate(k)) for k in range(3))
    total = kept.load(unit) + sums.load(share(0))
    dn = (1.0 - z) * (1.0 - n * n) * total
    dz = (h.load(unit) - n) * slope(z) * total
    dr = shares.load(unit) * slope(r) * dn
    values = [(dx, gate(k), s) for k, s in enumerate((dr, dz, dn))]
    values += [(d, gate(k), s) for k, s in enumerate((dr, dz, dn * r))]
    return [*values, (kept, unit, z * total)]


BODIES = {
    "lstm": Body(lstm_step, "gugu" + "u", 4, 4, 4),
    "lstm_back": Body(lstm_step_back, "guugu", 4, 1, 3),
    "gru": Body(gru_step, "gugu" + "u", 3, 3, 4),
    "gru_back": Body(gru_step_back, "guuggu", 3, 1, 4),
}

# What tiles are told, in 8-byte fields; `step` goes on with the addresses of the body's arrays.
STEP = ("state", "packed", "start", "start_row", "rows", "width", "depth", "chunk", "parts")
PACK = ("w", "packed", "width")
TOTAL = ("d", "total", "rows", "columns")
CLEAR = ("to", "bytes")
POINTERS = frozenset({"state", "packed", "start", "w", "d", "total", "to", "split", "ahead"})


def fields(f: Function, names: tuple[str, ...]) -> dict[str, Value]:
    """The fields of the parameter `job`."""
    return {
        name: f.load("ptr" if name in POINTERS else "i64", f["job"], i)
        for i, name in enumerate(names)
    }


def group_of(shape: Shape) -> int:
    """How many units a tile works on."""
    return STRIPS * shape.lanes


# -- elementwise -------------------------------------------------------------------------------


def elementwise(name: str, shape: Shape, dtype: str) -> str:
    """The text of `name(sums, *arrays, count, width, start, stop)`: the body for rows from start to
    stop and `count` units; `width` is the layer's. The other pointers are at the first unit.
    """
    body, group = BODIES[name], group_of(shape)
    pointers = 1 + len(body.arrays)
    signature = [*(["*" + TYPES[dtype]] * pointers), "i64", "i64", "i64", "i64"]
    nodes = [parameter(i, kind) for i, kind in enumerate(signature)]
    count, width, start, stop = nodes[pointers:]
    row, j = loop_range(start, stop, 0, "serial"), loop_range(0, count, 1, "vector")
    stores = body.stores(
        nodes[:pointers],
        row * width + j,
        lambda k: row * (width * body.gates) + j + width * k,
        lambda k: row * (body.sums * group) + j + k * group,
    )
    statement = loop(row, loop(j, *[store(*s) for s in stores]))
    flat = linearize(simplify(program(name, signature, statement)))
    return render_llvm(flat, width_of(shape))


def width_of(shape: Shape) -> int:
    """The bits of a vector."""
    return 8 * shape.lanes * shape.size


# -- the product -------------------------------------------------------------------------------


def rows_of(registers: int, vectors: int) -> int:
    """Rows of a register tile: as many as fit beside a row of weights and a number."""
    return (registers - vectors - 1) // vectors


def write_sums(module: Module, shape: Shape, rows: int, vectors: int) -> None:
    """Writes `sums_<rows>(...)`: adds the product of rows of `a` with `vectors` strips of packed
    weights to C.
    """
    f = module.function(
        f"sums_{rows}", "void", True, depth="i64", a="ptr noalias", a_row="i64", b="ptr noalias",
        b_strip="i64", c="ptr noalias", c_row="i64", c_strip="i64",
    )  # fmt: skip
    f.head += " noinline"  # so that the loop has all registers
    strips = [f.at(f["b"], f["b_strip"] * j, shape.type) for j in range(vectors)]
    starts = [f.at(f["a"], f["a_row"] * i, shape.type) for i in range(rows)]
    places = [
        [f.at(f["c"], f["c_row"] * i + f["c_strip"] * j, shape.type) for j in range(vectors)]
        for i in range(rows)
    ]
    sums = [
        [f.variable(shape.vector, f.load(shape.vector, c, align=shape.size)) for c in row]
        for row in places
    ]
    with f.loop(0, f["depth"]) as k:
        b = [f.load(shape.vector, f.at(s, k * shape.lanes, shape.type), align=shape.size)
             for s in strips]  # fmt: skip
        for start, row in zip(starts, sums, strict=True):
            number = f.splat(f.load(shape.type, start, k), shape.lanes)
            for vector, total in zip(b, row, strict=True):
                total.set(f.fused(number, vector, total.get()))
    for row, own in zip(sums, places, strict=True):
        for total, place in zip(row, own, strict=True):
            f.store(total.get(), place, align=shape.size)
    f.ret()


def write_block(module: Module, shape: Shape, rows: int) -> None:
    """Writes `add(...)`: C += A @ B for m rows and the strips of a block of packed weights; the
    rows are cut into parts that differ by one row at most.
    """
    f = module.function(
        "add", "void", True, m="i64", k="i64", a="ptr", b="ptr", b_strip="i64", c="ptr",
        c_row="i64", c_strip="i64",
    )  # fmt: skip
    count = (f["m"] + (rows - 1)) / rows
    least, longer = f["m"] / count, f["m"] % count
    with f.loop(0, f["k"], DEPTH) as k0:
        depth = f.minimum(f["k"] - k0, DEPTH)
        b = f.at(f["b"], k0 * shape.lanes, shape.type)
        with f.loop(0, count) as i:
            first = i * least + f.minimum(i, longer)
            size = f.select(i < longer, least + 1, least)
            a = f.at(f["a"], first * f["k"] + k0, shape.type)
            c = f.at(f["c"], first * f["c_row"], shape.type)
            for n in range(1, rows + 1):
                with f.when(size.equals(n)):
                    f.call("void", f"sums_{n}", depth, a, f["k"], b, f["b_strip"], c, f["c_row"],
                           f["c_strip"])  # fmt: skip
    f.ret()


def write_start(module: Module, shape: Shape, sums: int) -> None:
    """Writes `begin(...)`: what the product is added to, `sums` times `count` columns of rows that
    are `row` elements apart, or zeros.
    """
    f = module.function(
        "begin", "void", True, source="ptr", row="i64", width="i64", m="i64", count="i64", to="ptr"
    )
    group = group_of(shape)
    given = f.splat(f.convert("ptrtoint", f["source"], "i64").differs(0), shape.lanes)
    source = f.select(f.convert("ptrtoint", f["source"], "i64").differs(0), f["source"], f["to"])
    columns = [part(f, f["count"] - j * shape.lanes, shape.lanes) & given for j in range(STRIPS)]
    with f.loop(0, f["m"]) as i:
        for k in range(sums):
            start = f.at(source, i * f["row"] + f["width"] * k, shape.type)
            to = f.at(f["to"], i * (sums * group) + k * group, shape.type)
            for j, mask in enumerate(columns):
                value = f.masked_load(
                    shape.vector, f.at(start, j * shape.lanes, shape.type), mask
                )  # fmt: skip
                f.store(value, f.at(to, j * shape.lanes, shape.type), align=shape.size)
    f.ret()


def write_step(module: Module, shape: Shape, name: str, matrix: bool) -> None:
    """Writes `step(job, tile, workspace)`, or `matrix_step`: a time step for a group of units and a
    part of rows, with its product on vector or matrix units.
    """
    body, group = BODIES[name], group_of(shape)
    f = module.function("matrix_step" if matrix else "step", job="ptr", tile="i64", workspace="ptr")
    f.head += attributes(width_of(shape))  # for the elementwise part, which is inlined
    names = (*STEP, *recurrent_amx.STEP_FIELDS) if matrix else STEP
    job = fields(f, names)
    width, sums = job["width"], f["workspace"]
    u0, r0 = f["tile"] / job["parts"] * group, f["tile"] % job["parts"] * job["chunk"]
    n, m = f.minimum(width - u0, group), f.minimum(job["rows"] - r0, job["chunk"])
    has_start = f.convert("ptrtoint", job["start"], "i64").differs(0)
    start = f.at(job["start"], r0 * job["start_row"] + u0, shape.type)
    start = f.select(has_start, start, job["start"])
    arrays = [sums]
    for i, kind in enumerate(body.arrays):
        gates = body.gates if kind == "g" else 1
        array = f.load("ptr", f["job"], len(names) + i)
        arrays.append(f.at(array, r0 * width * gates + u0, shape.type))
    f.call("void", "begin", start, job["start_row"], width, m, n, sums)
    row = body.sums * group
    space = f.at(sums, round_up(m * row, shape.lanes), shape.type)
    if matrix:
        with f.when(job["depth"] > 0):
            recurrent_amx.add_product(
                f, shape, job, body.gates, body.sums == 1, (u0, r0, n, m), (sums, row, group), space
            )  # fmt: skip
    else:
        add_product(f, shape, job, body.sums, (u0, r0, n, m), sums)
    f.call("void", Value(f, "ptr", f"@{name}"), *arrays, n, width, f.constant("i64", 0), m)
    if matrix:
        gates = body.gates if body.arrays[body.next] == "g" else 1
        made = arrays[1 + body.next]
        recurrent_amx.split_ahead(f, shape, job, gates, made, (u0, r0, n, m), space)
    f.ret()


def add_product(
    f: Function, shape: Shape, job: dict[str, Value], columns: int, place: tuple[Value, ...],
    sums: Value,
) -> None:  # fmt: skip
    """Adds the product of m rows of states from r0 on and the packed weights of n units from u0 on
    to the block of sums.
    """
    u0, r0, n, m = place
    group = group_of(shape)
    state = f.at(job["state"], r0 * job["depth"], shape.type)
    strip = round_up(job["depth"], shape.lanes) * shape.lanes
    row = f.constant("i64", columns * group)
    packed = f.at(job["packed"], u0 / shape.lanes * columns * strip, shape.type)
    if columns == 1:
        f.call("void", "add", m, job["depth"], state, packed, strip, sums, row,
               f.constant("i64", shape.lanes))  # fmt: skip
    else:
        with f.loop(0, n, shape.lanes) as u:
            own = f.at(packed, u / shape.lanes * columns * strip, shape.type)
            f.call("void", "add", m, job["depth"], state, own, strip,
                   f.at(sums, u, shape.type), row, f.constant("i64", group))  # fmt: skip


# -- before and after --------------------------------------------------------------------------


def write_pack(module: Module, shape: Shape, name: str) -> None:
    """Writes `weights(job, tile, workspace)`: packs a group's part of w (gates * H, H), its rows
    for the gates, or its columns for the state's gradient. Strips past the edge repeat the last.
    """
    body, lanes = BODIES[name], shape.lanes
    f = module.function("weights", job="ptr", tile="i64", workspace="ptr")
    job = fields(f, PACK)
    width = job["width"]
    one = f.constant("i64", 1)
    depth = width if body.sums > 1 else width * body.gates
    strip = round_up(depth, lanes) * lanes
    for i in range(STRIPS):
        number = f["tile"] * STRIPS + i
        u = f.minimum(number, (width - 1) / lanes) * lanes
        count = f.minimum(width - u, lanes)
        for k in range(body.sums):
            to = f.at(job["packed"], (number * body.sums + k) * strip, shape.type)
            first, lane, step = (u, one, width)
            if body.sums > 1:
                first, lane, step = (u + width * k) * width, width, one
            source = f.at(job["w"], first, shape.type)
            f.call("void", "pack", source, lane, step, count, depth, to, strip)
    f.ret()


def write_total(module: Module, shape: Shape) -> None:
    """Writes `total(job, tile, workspace)`: sums of columns, 16 vectors of them in a tile."""
    f = module.function("total", job="ptr", tile="i64", workspace="ptr")
    job = fields(f, TOTAL)
    first = f["tile"] * (COLUMNS * shape.lanes)
    vectors = range(COLUMNS)
    masks = [part(f, job["columns"] - first - j * shape.lanes, shape.lanes) for j in vectors]
    totals = [f.variable(shape.vector, 0) for _ in vectors]
    with f.loop(0, job["rows"], ROWS_SUMMED) as start:
        sums = [f.variable(shape.vector, 0) for _ in vectors]
        with f.loop(start, f.minimum(start + ROWS_SUMMED, job["rows"])) as row:
            place = f.at(job["d"], row * job["columns"] + first, shape.type)
            for j, mask in enumerate(masks):
                more = f.masked_load(shape.vector, f.at(place, j * shape.lanes, shape.type), mask)
                sums[j].set(sums[j].get() + more)
        for all_rows, some in zip(totals, sums, strict=True):
            all_rows.set(all_rows.get() + some.get())
    to = f.at(job["total"], first, shape.type)
    for j, mask in enumerate(masks):
        f.masked_store(totals[j].get(), f.at(to, j * shape.lanes, shape.type), mask)
    f.ret()


COLUMNS = 8  # vectors that a tile of `total` sums: with their two levels they fit the registers


def write_clear(module: Module) -> None:
    """Writes `clear(job, tile, workspace)`: zeros."""
    f = module.function("clear", job="ptr", tile="i64", workspace="ptr")
    job = fields(f, CLEAR)
    f.call("ptr", "memset", job["to"], f.constant("i32", 0), job["bytes"])
    f.ret()


@cache
def native(name: str, dtype: str) -> tuple[runtime.Native, Shape]:
    """The compiled stages of one of BODIES for numbers of a type, and the shape of vectors."""
    target, body = runtime.host(), BODIES[name]
    shape = shape_for(target, dtype)
    vectors = body.sums if body.sums > 1 else STRIPS
    rows = rows_of(target.registers, vectors)
    module = Module()
    pack(module, "pack", shape, shape.lanes)
    for n in range(1, rows + 1):
        write_sums(module, shape, n, vectors)
    write_block(module, shape, rows)
    write_start(module, shape, body.sums)
    write_step(module, shape, name, matrix=False)
    write_pack(module, shape, name)
    if shape.parts:
        recurrent_amx.write_products(module, shape)
        recurrent_amx.write_weights(module, shape, body.gates, body.sums == 1)
        recurrent_amx.write_states(module, shape)
        write_step(module, shape, name, matrix=True)
    if body.sums == 1:
        write_total(module, shape)
        write_clear(module)
    code = runtime.load(module.text() + elementwise(name, shape, dtype))
    if shape.parts:
        code.fill("block", product.kernel(dtype).block)
    return code, shape
