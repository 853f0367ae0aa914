"""Matrix products, C = relu(alpha * A @ B + C + bias), as LLVM IR for any vector width. Imports
emit and runtime.

The scheme is GotoBLAS's (Goto and van de Geijn, 2008): a register tile of rows x vectors, panels
of A and B packed so that the micro-kernel reads them in order. Unlike there, every tile of C packs
what it needs by itself: that costs a few percent and needs no barrier, so tiles can be handed out
by a counter and a thread that is taken away delays one tile only. An element of C is summed over k
in an order that only K decides, so results have the same bits for any number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

from .emit import Function, Module, Value, Variable, vector
from .runtime import Target

DEPTH = 256  # of a packed block

# What a thread is told of the work, in 8-byte fields.
JOB = (
    "a", "b", "c", "bias", "m", "n", "k", "a_row", "a_col", "b_row", "b_col", "c_row", "batches",
    "a_batch", "b_batch", "c_batch", "alpha", "accumulate", "relu", "pack_a", "depth", "tile_m",
    "tile_n", "tiles_m", "tiles", "total", "next", "workspace", "share", "pool",
)  # fmt: skip
POINTERS = frozenset({"a", "b", "c", "bias", "workspace", "pool"})


class Shape(NamedTuple):
    """The register tile on a machine, and the type of its numbers."""

    type: str  # of the sums
    size: int  # bytes of a number
    lanes: int  # numbers in a vector
    rows: int
    vectors: int
    source: str  # of the operands in memory: i16 is bfloat16

    @property
    def columns(self) -> int:
        """The register tile's columns."""
        return self.vectors * self.lanes

    @property
    def vector(self) -> str:
        """The vector type."""
        return vector(self.lanes, self.type)


def shape_for(target: Target, name: str) -> Shape:
    """The register tile of `float32`, `float64` or `bfloat16` products: as many sums as fit the
    registers beside a row of B and a number of A.
    """
    size = 8 if name == "float64" else 4
    rows, vectors = (8, 3) if target.registers >= 32 else (4, 3 if target.fused else 2)
    type = "double" if size == 8 else "float"
    source = "i16" if name == "bfloat16" else type
    return Shape(type, size, target.bytes // size, rows, vectors, source)


# -- packing -----------------------------------------------------------------------------------


def widened(f: Function, shape: Shape, value: Value) -> Value:
    """Numbers as they are in memory, as numbers of the sum's type: a bfloat16 is half a float32."""
    if shape.source == shape.type:
        return value
    wide = value.type.replace("i16", "i32")
    bits = f.convert("zext", value, wide)
    bits = bits.binary("<<", 16)
    return f.convert("bitcast", bits, wide.replace("i32", "float"))


def transposed(f: Function, rows: list[Value], lanes: int) -> list[Value]:
    """R vectors of `lanes` numbers, R a power of two, as the same numbers column by column.

    log2(R) perfect shuffles: each interleaves the first half of the vectors with the second.
    """
    low = [i // 2 + (i % 2) * lanes for i in range(lanes)]
    high = [i + lanes // 2 for i in low]
    half = len(rows) // 2
    done = 1
    while done < len(rows):
        pairs = list(zip(rows[:half], rows[half:], strict=True))
        rows = [f.shuffle(a, b, half_of) for a, b in pairs for half_of in (low, high)]
        done *= 2
    return rows


def pack(module: Module, name: str, shape: Shape, width: int) -> None:
    """Writes the function that copies a block into panels `[panel][k][width]`, in any strides.

    Lanes past the edge hold zeros or copies, and `k` is rounded up to whole vectors: what is there
    is never used but must be harmless to read.
    """
    f = module.function(
        name, "void", True, source="ptr noalias", lane="i64", step="i64", count="i64",
        depth="i64", to="ptr noalias", panel="i64",
    )  # fmt: skip
    with f.loop(0, f["count"], width) as p:
        to = f.at(f["to"], p / width * f["panel"], shape.type)
        start = f.at(f["source"], p * f["lane"], shape.source)
        left = f.minimum(f["count"] - p, width)
        unit, along = f["lane"].equals(1), f["step"].equals(1)
        with f.when(unit):
            copy_lanes(f, shape, width, start, left, to)
        with f.when(f.select(unit, f.constant("i1", 0), along)):
            copy_transposed(f, shape, width, start, left, to)
        with f.when((unit | along).equals(0)):
            copy_strided(f, shape, width, start, left, to)
    f.ret()


def copy_lanes(f: Function, shape: Shape, width: int, start: Value, left: Value, to: Value) -> None:
    """The panel's lanes lie side by side: vectors are copied, masked at the edge."""
    lanes = min(shape.lanes, width)
    type = vector(lanes, shape.source)
    offsets = range(0, width, lanes)
    masks = [f.first_lanes(left - offset, lanes) for offset in offsets]
    full = left.equals(width)

    def rows(whole: bool) -> None:
        with f.loop(0, f["depth"]) as k:
            row = f.at(start, k * f["step"], shape.source)
            for offset, mask in zip(offsets, masks, strict=True):
                place = f.at(row, offset, shape.source)
                if whole:
                    value = f.load(type, place, align=1)
                else:
                    value = f.masked_load(type, place, mask)
                put = f.at(to, k * width + offset, shape.type)
                f.store(widened(f, shape, value), put, align=shape.size)

    with f.when(full):
        rows(True)
    with f.when(full.equals(0)):
        rows(False)


def copy_transposed(
    f: Function, shape: Shape, width: int, start: Value, left: Value, to: Value
) -> None:
    """Each lane's numbers lie side by side: square blocks are read by vectors and transposed."""
    lanes = shape.lanes
    group = min(width, lanes)
    type = vector(lanes, shape.source)
    with f.loop(0, f["depth"], lanes) as k:
        mask = f.first_lanes(f["depth"] - k, lanes)
        for first in range(0, width, group):
            rows = []
            for i in range(first, first + group):
                lane = f.minimum(f.constant("i64", i), left - 1)
                place = f.at(start, lane * f["lane"] + k, shape.source)
                rows.append(widened(f, shape, f.masked_load(type, place, mask)))
            for i, value in enumerate(transposed(f, rows, lanes)):
                row, column = divmod(i * lanes, group)
                put = f.at(to, (k + row) * width + (first + column), shape.type)
                f.store(value, put, align=shape.size)


def copy_strided(
    f: Function, shape: Shape, width: int, start: Value, left: Value, to: Value
) -> None:
    """Numbers one by one, for strides of any size and sign."""
    with f.loop(0, f["depth"]) as k:
        with f.loop(0, width) as i:
            lane = f.minimum(i, left - 1)
            place = f.at(start, k * f["step"] + lane * f["lane"], shape.source)
            value = widened(f, shape, f.load(shape.source, place, align=1))
            f.store(value, f.at(to, k * width + i, shape.type))


# -- the micro-kernel --------------------------------------------------------------------------


def micro(module: Module, name: str, shape: Shape, vectors: int, packed: bool) -> None:
    """Writes the function that makes one register tile: `rows` x `vectors` sums over `depth`.

    A is a packed panel, or read where it lies, by strides; B is a packed panel.
    """
    f = module.function(
        name, "void", True, depth="i64", a="ptr noalias", a_row="i64", a_col="i64",
        b="ptr noalias", c="ptr noalias", c_row="i64", m="i64", n="i64", alpha=shape.type,
        add="i64", relu="i64", bias="ptr",
    )  # fmt: skip
    sums = [[f.variable(shape.vector, 0) for _ in range(vectors)] for _ in range(shape.rows)]
    last = f["m"] - 1
    starts = [f["a"]] * shape.rows
    if not packed:  # rows past the edge read the last one again
        rows = (f.minimum(f.constant("i64", i), last) for i in range(shape.rows))
        starts = [f.at(f["a"], row * f["a_row"], shape.type) for row in rows]
    with f.loop(0, f["depth"]) as k:
        row_b = f.at(f["b"], k * shape.columns, shape.type)
        b = [
            f.load(shape.vector, f.at(row_b, j * shape.lanes, shape.type), align=shape.size)
            for j in range(vectors)
        ]
        offset = k * shape.rows if packed else k * f["a_col"]
        for i in range(shape.rows):
            place = f.at(starts[i], offset, shape.type)
            number = f.load(shape.type, place, i if packed else 0)
            a = f.splat(number, shape.lanes)
            for j in range(vectors):
                sums[i][j].set(f.fused(a, b[j], sums[i][j].get()))
    full = f["m"].equals(shape.rows) & f["n"].equals(vectors * shape.lanes)
    with f.when(full):
        write_tile(f, shape, sums, edge=False)
        f.ret()
    write_tile(f, shape, sums, edge=True)
    f.ret()


def write_tile(f: Function, shape: Shape, sums: list[list[Variable]], edge: bool) -> None:
    """C = relu(alpha * sums + C + bias), each part where it is asked for; masked at an edge."""
    vectors = len(sums[0])
    masks = [f.first_lanes(f["n"] - j * shape.lanes, shape.lanes) for j in range(vectors)]
    places = []
    for i, row in enumerate(sums):
        start = f.at(f["c"], f["c_row"] * i, shape.type)
        inside = f.splat(f["m"] > i, shape.lanes)
        for j, total in enumerate(row):
            place = f.at(start, j * shape.lanes, shape.type)
            places.append((total, place, masks[j] & inside, j))
    alpha = f.splat(f["alpha"], shape.lanes)

    def read(place: Value, mask: Value) -> Value:
        if edge:
            return f.masked_load(shape.vector, place, mask)
        return f.load(shape.vector, place, align=shape.size)

    with f.when(f["alpha"].differs(1.0)):
        for total, *_ in places:
            total.set(total.get() * alpha)
    with f.when(f["add"].differs(0)):
        for total, place, mask, _ in places:
            total.set(total.get() + read(place, mask))
    with f.when(f.convert("ptrtoint", f["bias"], "i64").differs(0)):
        bias = [read(f.at(f["bias"], j * shape.lanes, shape.type), m) for j, m in enumerate(masks)]
        for total, _, _, j in places:
            total.set(total.get() + bias[j])
    with f.when(f["relu"].differs(0)):
        for total, *_ in places:
            value = total.get()
            total.set(f.select(value < 0, f.constant(shape.vector, 0), value))  # NaN stays
    for total, place, mask, _ in places:
        if edge:
            f.masked_store(total.get(), place, mask)
        else:
            f.store(total.get(), place, align=shape.size)


# -- tiles -------------------------------------------------------------------------------------


def tiles(module: Module, shape: Shape) -> None:
    """Writes `tiles(job, thread)`: takes tiles of C from the counter until there are none."""
    f = module.function("tiles", job="ptr", thread="i64")
    job = {
        name: f.load("ptr" if name in POINTERS else shape.type if name == "alpha" else "i64",
                     f.at(f["job"], 8 * i))
        for i, name in enumerate(JOB)
    }  # fmt: skip
    counter = f.at(f["job"], 8 * JOB.index("next"))
    space = f.at(job["workspace"], f["thread"] * job["share"])
    with f.forever() as done:
        tile = f.emit("i64", f"atomicrmw add {counter}, i64 1 monotonic")
        with f.when(tile >= job["total"], leave=done):
            pass
        batch, tile = tile / job["tiles"], tile % job["tiles"]
        m0 = tile % job["tiles_m"] * job["tile_m"]  # neighbours share B
        n0 = tile / job["tiles_m"] * job["tile_n"]
        m = f.minimum(job["m"] - m0, job["tile_m"])
        n = f.minimum(job["n"] - n0, job["tile_n"])
        a = f.at(job["a"], batch * job["a_batch"] + m0 * job["a_row"], shape.source)
        b = f.at(job["b"], batch * job["b_batch"] + n0 * job["b_col"], shape.source)
        c = f.at(job["c"], batch * job["c_batch"] + m0 * job["c_row"] + n0, shape.type)
        one_tile(f, shape, job, (m, n, n0), (a, b, c), space)
    f.ret()


def one_tile(
    f: Function, shape: Shape, job: dict[str, Value], extent: tuple[Value, Value, Value],
    operands: tuple[Value, Value, Value], space: Value,
) -> None:  # fmt: skip
    """One tile of C, block by block along k."""
    (m, n, n0), (a, b, c) = extent, operands
    null = Value(f, "ptr", "null")
    with f.loop(0, f.select(job["k"] > 0, job["k"], 1), job["depth"]) as k0:
        depth = f.minimum(job["k"] - k0, job["depth"])
        rounded = round_up(depth, shape.lanes)
        panel_b, panel_a = rounded * shape.columns, rounded * shape.rows
        space_a = f.at(space, job["depth"] * round_up(job["tile_n"], shape.columns), shape.type)
        first, final = k0.equals(0), (k0 + depth) >= job["k"]
        add = f.select(first, job["accumulate"], 1)
        relu = f.select(final, job["relu"], 0)
        has_bias = f.convert("ptrtoint", job["bias"], "i64").differs(0)
        bias = f.select(final & has_bias, f.at(job["bias"], n0, shape.type), null)
        from_b = f.at(b, k0 * job["b_row"], shape.source)
        f.call("void", "pack_b", from_b, job["b_col"], job["b_row"], n, depth, space, panel_b)
        from_a = f.at(a, k0 * job["a_col"], shape.source)
        packed = job["pack_a"].differs(0)
        with f.when(packed):
            f.call("void", "pack_a", from_a, job["a_row"], job["a_col"], m, depth, space_a, panel_a)
        with f.loop(0, n, shape.columns) as j:
            left = f.minimum(n - j, shape.columns)
            width = (left + (shape.lanes - 1)) / shape.lanes
            bias_j = f.select(final & has_bias, f.at(bias, j, shape.type), null)
            from_panel = f.at(space, j / shape.columns * panel_b, shape.type)
            for vectors in range(1, shape.vectors + 1):
                for mode in modes(shape):
                    with f.when(width.equals(vectors) & packed.equals(int(mode))):
                        with f.loop(0, m, shape.rows) as i:
                            if mode:
                                from_row = f.at(space_a, i / shape.rows * panel_a, shape.type)
                            else:
                                from_row = f.at(from_a, i * job["a_row"], shape.type)
                            to = f.at(c, i * job["c_row"] + j, shape.type)
                            f.call(
                                "void", micro_name(vectors, mode), depth, from_row, job["a_row"],
                                job["a_col"], from_panel, to, job["c_row"],
                                f.minimum(m - i, shape.rows), left, job["alpha"], add, relu, bias_j,
                            )  # fmt: skip


def round_up(value: Value, unit: int) -> Value:
    """The next multiple of `unit`."""
    return (value + (unit - 1)) / unit * unit


def modes(shape: Shape) -> tuple[bool, ...]:
    """Whether A may be read packed, and where it lies."""
    return (True, False) if shape.source == shape.type else (True,)


def micro_name(vectors: int, packed: bool) -> str:
    """The micro-kernel's name."""
    return f"micro_{vectors}_{'packed' if packed else 'strided'}"


def kernels(shape: Shape) -> Module:
    """The product's functions; `tiles` is the one to enter."""
    module = Module()
    pack(module, "pack_a", shape, shape.rows)
    pack(module, "pack_b", shape, shape.columns)
    for vectors in range(1, shape.vectors + 1):
        for packed in modes(shape):
            micro(module, micro_name(vectors, packed), shape, vectors, packed)
    tiles(module, shape)
    return module
