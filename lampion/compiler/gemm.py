"""Matrix products, C = relu(alpha * A @ B + C + bias), as LLVM IR for any vector width. Imports
emit and runtime.

The scheme is GotoBLAS's (Goto and van de Geijn, 2008): a register tile of rows x vectors, operands
packed so that the micro-kernel reads them in order. Unlike there, every tile of C packs what it
needs by itself, and only what pays: B whose rows lie side by side is read where it is by the
first rows, which write the packed copy on the way. So no barrier is needed, tiles can be handed out
by a counter, and a thread that is taken away delays one tile only. An element of C is summed over k
in an order that only K decides, so results have the same bits for any number of threads.
"""

from __future__ import annotations

from typing import NamedTuple

from .emit import Function, Module, Operand, Value, Variable, vector
from .runtime import Target

DEPTH = 144  # of a block along k, at most: three vectors of B of each k stay in the first cache

BATCH_DIMS = 4  # dimensions of batches that strides can describe

# What a tile is told of the work, in 8-byte fields. Batches: outermost dimension first.
JOB = (
    "a", "b", "c", "bias", "m", "n", "k", "a_row", "a_col", "b_row", "b_col", "c_row", "c_col",
    "alpha",
    "accumulate", "relu", "batches", *(f"size{d}" for d in range(BATCH_DIMS)),
    *(f"{x}_batch{d}" for x in "abc" for d in range(BATCH_DIMS)),
    "a_offset", "b_offset", "c_offset", "epilogue", "epilogue_job",
    "pool", "pack_a", "pack_b", "depth", "tile_m", "tile_n", "tiles_m", "tiles",
    "group", "pieces", "total", "next", "workspace", "share",
)  # fmt: skip
POINTERS = frozenset(
    {"a", "b", "c", "bias", "epilogue", "epilogue_job", "workspace", "pool"}
)  # fmt: skip
ON_THE_WAY, BEFORE = 1, 2  # when B is packed: by the first rows that read it, or before


class Shape(NamedTuple):
    """The register tile on a machine, and the types of numbers."""

    type: str  # of the sums
    size: int  # bytes of a number
    lanes: int  # numbers in a vector
    rows: int
    vectors: int
    source: str  # of the operands in memory: i16 is bfloat16
    result: str  # of C in memory
    masks: bool  # whether loading a part of a vector is one instruction

    @property
    def vector(self) -> str:
        """The vector type."""
        return vector(self.lanes, self.type)


def shape_for(target: Target, name: str, result: str = "") -> Shape:
    """The register tile of `float32`, `float64` or `bfloat16` products: as many sums as fit the
    registers beside a row of B and a number of A. The result is of the sums' type unless given.
    """
    size = 8 if name == "float64" else 4
    rows, vectors = (8, 3) if target.registers >= 32 else (4, 3 if target.fused else 2)
    type = "double" if size == 8 else "float"
    source = "i16" if name == "bfloat16" else type
    made = "i16" if result == "bfloat16" else type
    masks = target.bytes >= 32
    return Shape(type, size, target.bytes // size, rows, vectors, source, made, masks)


# -- packing -----------------------------------------------------------------------------------


def widened(f: Function, shape: Shape, value: Value) -> Value:
    """Numbers as they are in memory, as numbers of the sum's type: a bfloat16 is half a float32."""
    if value.type.find("i16") < 0:
        return value
    wide = value.type.replace("i16", "i32")
    bits = f.convert("zext", value, wide)
    bits = bits.binary("<<", 16)
    return f.convert("bitcast", bits, wide.replace("i32", "float"))


def narrowed(f: Function, value: Value) -> Value:
    """float32 numbers as bfloat16, to the nearest, ties to even; NaN stays NaN."""
    wide = value.type.replace("float", "i32")
    bits = f.convert("bitcast", value, wide)
    odd = f.emit(wide, f"lshr {bits}, {f.constant(wide, 16).name}") & 1
    nearest = bits + odd + 0x7FFF
    rounded = f.select(value.equals(value), nearest, bits | 0x400000)
    top = f.emit(wide, f"lshr {rounded}, {f.constant(wide, 16).name}")
    return f.convert("trunc", top, wide.replace("i32", "i16"))


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
    """Writes the function that copies a block into strips `[strip][k][width]`, in any strides.

    Lanes past the edge hold zeros or copies, and `k` is rounded up to whole vectors: what is there
    is never used but must be harmless to read.
    """
    f = module.function(
        name, "void", True, source="ptr noalias", lane="i64", step="i64", count="i64",
        depth="i64", to="ptr noalias", strip="i64",
    )  # fmt: skip
    with f.loop(0, f["count"], width) as p:
        to = f.at(f["to"], p / width * f["strip"], shape.type)
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
    """The strip's lanes lie side by side: vectors are copied, masked at the edge."""
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

# What micro-kernels and the functions around them get, in this order.
OPERANDS = {
    "depth": "i64", "a": "ptr noalias", "a_row": "i64", "a_col": "i64", "a_step": "i64",
    "b": "ptr", "b_row": "i64", "b_strip": "i64", "c": "ptr noalias", "c_row": "i64", "m": "i64",
    "n": "i64",
}  # fmt: skip


def finish_types(shape: Shape) -> dict[str, str]:
    """The parameters of what is done to sums."""
    return {"alpha": shape.type, "add": "i64", "relu": "i64", "bias": "ptr"}


def fetch(f: Function, place: Value, write: int, level: int) -> None:
    """Asks for a line of memory, to be read or written: 3 means the first cache, 2 the second."""
    numbers = [f.constant("i32", i) for i in (write, level, 1)]
    f.call("void", "llvm.prefetch.p0", place, *numbers)


def part(f: Function, count: Value, lanes: int) -> Value:
    """The mask of the first `count` lanes, made of an integer: LLVM keeps it in a register."""
    count = f.select(count < 0, f.constant("i64", 0), f.minimum(count, lanes))
    bits = f.constant("i64", 1).binary("<<", count) - 1
    return f.convert("bitcast", f.convert("trunc", bits, f"i{lanes}"), vector(lanes, "i1"))


def micro(module: Module, name: str, shape: Shape, vectors: int, packing: bool) -> None:
    """Writes the function that makes `vectors` columns of register tiles, `rows` rows at a time.

    A and B are read by strides, packed or where they lie: vector j of row k of B is at
    `b[k * b_row + j * b_strip]`. With `packing` what is read of B is copied to `to`.
    """
    extra = {"to": "ptr noalias"} if packing else {"next": "ptr"}
    f = module.function(name, "void", True, **OPERANDS, **finish_types(shape), **extra)
    f.head += " noinline"  # so that the loops have all registers
    b_row = f["b_row"] if packing else f.constant("i64", shape.lanes)
    strips = [f.at(f["b"], f["b_strip"] * j, shape.type) for j in range(vectors)]
    columns = [part(f, f["n"] - j * shape.lanes, shape.lanes) for j in range(vectors)]
    share, ahead = f.constant("i64", 0), f.constant("i64", 0)
    if not packing:  # rows of B that are fetched for the next columns, in each step and in all
        ahead = f.select(f.convert("ptrtoint", f["next"], "i64").differs(0), f["depth"], 0)
        steps = (f["m"] + (shape.rows - 1)) / shape.rows
        share = (ahead + steps - 1) / f.select(steps > 0, steps, 1)
    with f.loop(0, f["m"], shape.rows) as first:
        left = f.minimum(f["m"] - first, shape.rows)
        c = f.at(f["c"], first * f["c_row"], shape.type)
        a = f.at(f["a"], first * f["a_step"], shape.type)
        # Rows past the edge read the last one again.
        rows = [f.minimum(f.constant("i64", i), left - 1) for i in range(shape.rows)]
        starts = [f.at(a, row * f["a_row"], shape.type) for row in rows]
        for row in rows:
            for j in range(vectors):
                fetch(f, f.at(c, row * f["c_row"] + j * shape.lanes, shape.type), 1, 2)
        if not packing:
            with f.loop(
                first / shape.rows * share, f.minimum((first / shape.rows + 1) * share, ahead)
            ) as k:
                for j in range(shape.vectors):
                    fetch(f, f.at(f["next"], k * f["b_row"] + j * shape.lanes, shape.type), 0, 2)
        sums = [[f.variable(shape.vector, 0) for _ in range(vectors)] for _ in range(shape.rows)]
        with f.loop(0, f["depth"]) as k:
            b = []
            for j, strip in enumerate(strips):
                place = f.at(strip, k * b_row, shape.type)
                if packing and j == vectors - 1:
                    b.append(f.masked_load(shape.vector, place, columns[j]))
                else:
                    b.append(f.load(shape.vector, place, align=shape.size))
                if packing:
                    put = f.at(f["to"], (f["depth"] * j + k) * shape.lanes, shape.type)
                    f.store(b[j], put, align=shape.size)
            for i in range(shape.rows):
                number = f.load(shape.type, f.at(starts[i], k * f["a_col"], shape.type))
                broadcast = f.splat(number, shape.lanes)
                for j in range(vectors):
                    sums[i][j].set(f.fused(broadcast, b[j], sums[i][j].get()))
        write_tile(f, shape, sums, c, left, columns)
    f.ret()


def write_tile(
    f: Function, shape: Shape, sums: list[list[Variable]], c: Value, left: Value,
    columns: list[Value],
) -> None:  # fmt: skip
    """C = relu(alpha * sums + C + bias), each part where it is asked for, in the rows and columns
    that are left. Whole tiles of plain sums are written without a branch.
    """
    has_bias = f.convert("ptrtoint", f["bias"], "i64").differs(0)
    adds = f["add"].differs(0)
    plain = left.equals(shape.rows) & f["alpha"].equals(1.0) & f["relu"].equals(0)
    plain = plain & has_bias.equals(0)
    if not shape.masks:
        plain = plain & f["n"].equals(len(columns) * shape.lanes)

    def place(i: int, j: int) -> Value:
        return f.at(f.at(c, f["c_row"] * i, shape.type), j * shape.lanes, shape.type)

    def masked(j: int, last: int) -> bool:
        return shape.masks and j == last

    with f.when(plain):
        last = len(columns) - 1
        with f.when(adds):
            for i, row in enumerate(sums):
                for j, total in enumerate(row):
                    if masked(j, last):
                        before = f.masked_load(shape.vector, place(i, j), columns[j])
                    else:
                        before = f.load(shape.vector, place(i, j), align=shape.size)
                    total.set(total.get() + before)
        for i, row in enumerate(sums):
            for j, total in enumerate(row):
                if masked(j, last):
                    f.masked_store(total.get(), place(i, j), columns[j])
                else:
                    f.store(total.get(), place(i, j), align=shape.size)
    with f.when(plain.equals(0)):
        alpha = f.splat(f["alpha"], shape.lanes)
        floor = f.select(f["relu"].differs(0), f.constant(shape.type, 0), lowest(f, shape))
        floor = f.splat(floor, shape.lanes)
        bias_start = f.select(has_bias, f["bias"], f["c"])
        for j, mask in enumerate(columns):
            start = f.at(bias_start, j * shape.lanes, shape.type)
            bias = f.masked_load(shape.vector, start, mask & f.splat(has_bias, shape.lanes))
            before_mask = mask & f.splat(adds, shape.lanes)
            for i, row in enumerate(sums):
                with f.when(left > i):
                    before = f.masked_load(shape.vector, place(i, j), before_mask)
                    value = row[j].get() * alpha + before + bias
                    value = f.select(value < floor, floor, value)  # NaN stays
                    f.masked_store(value, place(i, j), mask)


def lowest(f: Function, shape: Shape) -> Value:
    """Minus infinity."""
    return Value(f, shape.type, "0xFFF0000000000000")


def panels(module: Module, shape: Shape) -> None:
    """Writes `panels(operands, finish, to)`: a block of C, of one block along k. Where `to` is
    given, the first rows copy B there, in strips, and the others read it from there.
    """
    f = module.function(
        "panels", "void", True, **OPERANDS, **finish_types(shape), to="ptr", next="ptr"
    )
    lanes, rows = shape.lanes, shape.rows
    strips = (f["n"] + (lanes - 1)) / lanes
    parts = (strips + (shape.vectors - 1)) / shape.vectors
    bias_given = f.convert("ptrtoint", f["bias"], "i64").differs(0)
    strip = f.variable("i64", 0)
    with f.loop(0, parts) as part:
        first = strip.get()
        vectors = (strips - first + (parts - part) - 1) / (parts - part)
        strip.set(first + vectors)
        column = first * lanes
        n = f.minimum(f["n"] - column, vectors * lanes)
        b = f.variable("ptr", f.at(f["b"], first * f["b_strip"], shape.type))
        b_row, b_strip = f.variable("i64", f["b_row"]), f.variable("i64", f["b_strip"])
        bias = f.select(bias_given, f.at(f["bias"], column, shape.type), f["bias"])
        start = f.variable("i64", 0)

        def call(name: str, m: Value, *more: Value) -> None:
            row = start.get()
            f.call(
                "void", name, f["depth"], f.at(f["a"], row * f["a_step"], shape.type), f["a_row"],
                f["a_col"], f["a_step"], b.get(), b_row.get(), b_strip.get(),
                f.at(f["c"], row * f["c_row"] + column, shape.type), f["c_row"], m, n, f["alpha"],
                f["add"], f["relu"], bias, *more,
            )  # fmt: skip

        packing = f.convert("ptrtoint", f["to"], "i64").differs(0)
        after = f.at(f["b"], strip.get() * f["b_strip"], shape.type)
        after = f.select((part + 1) < parts, after, f["next"])
        after = f.select(packing, after, Value(f, "ptr", "null"))
        if shape.masks:
            with f.when(packing):
                to = f.at(f["to"], first * f["depth"] * lanes, shape.type)
                for count in range(1, shape.vectors + 1):
                    with f.when(vectors.equals(count)):
                        call(f"packing_{count}", f.minimum(f["m"], rows), to)
                b.set(to)
                b_strip.set(f["depth"] * lanes)
                start.set(rows)
        for count in range(1, shape.vectors + 1):
            with f.when(vectors.equals(count)):
                call(f"micro_{count}", f["m"] - start.get(), after)
    f.ret()


# -- tiles -------------------------------------------------------------------------------------


def round_up(value: Value, unit: int) -> Value:
    """The next multiple of `unit`."""
    return (value + (unit - 1)) / unit * unit


def block(module: Module, shape: Shape) -> None:
    """Writes `block(...)`: a block of C over all of k, packing what is asked for in `space`."""
    f = module.function(
        "block", "void", True, a="ptr", a_row="i64", a_col="i64", b="ptr", b_row="i64",
        b_col="i64", c="ptr", c_row="i64", m="i64", n="i64", k="i64", **finish_types(shape),
        depth="i64", pack_a="i64", pack_b="i64", space="ptr",
    )  # fmt: skip
    null = Value(f, "ptr", "null")
    lanes, rows = shape.lanes, shape.rows
    has_bias = f.convert("ptrtoint", f["bias"], "i64").differs(0)
    space_a = f.at(f["space"], round_up(f["depth"], lanes) * round_up(f["n"], lanes), shape.type)
    with f.loop(0, f.select(f["k"] > 0, f["k"], 1), f["depth"]) as k0:
        depth = f.minimum(f["k"] - k0, f["depth"])
        rounded = round_up(depth, lanes)
        add = f.select(k0.equals(0), f["add"], 1)
        final = (k0 + depth) >= f["k"]
        relu = f.select(final, f["relu"], 0)
        bias = f.select(final & has_bias, f["bias"], null)
        from_a = f.at(f["a"], k0 * f["a_col"], shape.source)
        from_b = f.at(f["b"], k0 * f["b_row"], shape.source)
        a = f.variable("ptr", from_a)
        a_row, a_col = f.variable("i64", f["a_row"]), f.variable("i64", f["a_col"])
        a_step = f.variable("i64", f["a_row"])
        b = f.variable("ptr", from_b)
        b_row, b_strip = f.variable("i64", f["b_row"]), f.variable("i64", lanes)
        with f.when(f["pack_b"].equals(BEFORE)):
            strip = rounded * lanes
            f.call(
                "void", "pack_b", from_b, f["b_col"], f["b_row"], f["n"], depth, f["space"], strip
            )
            b.set(f["space"])
            b_row.set(lanes)
            b_strip.set(strip)
        with f.when(f["pack_a"].differs(0)):
            strip = rounded * rows
            f.call("void", "pack_a", from_a, f["a_row"], f["a_col"], f["m"], depth, space_a, strip)
            for variable, value in ((a, space_a), (a_row, 1), (a_col, rows), (a_step, rounded)):
                variable.set(value)
        following = f.select(final, null, f.at(from_b, depth * f["b_row"], shape.source))
        to = f.select(f["pack_b"].equals(ON_THE_WAY), f["space"], null)
        f.call(
            "void", "panels", depth, a.get(), a_row.get(), a_col.get(), a_step.get(), b.get(),
            b_row.get(), b_strip.get(), f["c"], f["c_row"], f["m"], f["n"], f["alpha"], add, relu,
            bias, to, following,
        )  # fmt: skip
    f.ret()


def place_of(f: Function, job: dict[str, Value], name: str, batch: list[Value]) -> Value:
    """How many elements into an operand a batch begins."""
    offset = job[f"{name}_offset"]
    for d in range(BATCH_DIMS):
        offset = offset + batch[d] * job[f"{name}_batch{d}"]
    return offset


def tile(module: Module, shape: Shape) -> None:
    """Writes `tile(job, tile, workspace)`, a group of pieces of C, and `piece`, one of them."""
    f = module.function("piece", "void", True, job="ptr", number="i64", workspace="ptr")
    job = {
        name: f.load("ptr" if name in POINTERS else shape.type if name == "alpha" else "i64",
                     f.at(f["job"], 8 * i))
        for i, name in enumerate(JOB)
    }  # fmt: skip
    number, tile = f["number"] / job["tiles"], f["number"] % job["tiles"]
    rest, batch = number, [number] * BATCH_DIMS
    for d in reversed(range(BATCH_DIMS)):
        batch[d] = rest % job[f"size{d}"]
        rest = rest / job[f"size{d}"]
    m0 = tile % job["tiles_m"] * job["tile_m"]  # neighbours share B
    n0 = tile / job["tiles_m"] * job["tile_n"]
    m = f.minimum(job["m"] - m0, job["tile_m"])
    n = f.minimum(job["n"] - n0, job["tile_n"])
    a = f.at(job["a"], place_of(f, job, "a", batch) + m0 * job["a_row"], shape.source)
    b = f.at(job["b"], place_of(f, job, "b", batch) + n0 * job["b_col"], shape.source)
    place = place_of(f, job, "c", batch) + m0 * job["c_row"] + n0 * job["c_col"]
    c = f.at(job["c"], place, shape.result)
    has_bias = f.convert("ptrtoint", job["bias"], "i64").differs(0)
    bias = f.select(has_bias, f.at(job["bias"], n0, shape.type), job["bias"])
    to, to_row = f.variable("ptr", c), f.variable("i64", job["c_row"])
    space = f.variable("ptr", f["workspace"])
    # Where C is of another type, or its columns are apart, the piece is made in the workspace.
    apart = f.constant("i1", 1) if shape.result != shape.type else job["c_col"].differs(1)
    strides = job["c_row"], job["c_col"]
    with f.when(apart):
        to.set(f["workspace"])
        to_row.set(round_up(n, shape.lanes))
        space.set(f.at(f["workspace"], round_up(m * to_row.get(), 16), shape.type))
        with f.when(job["accumulate"].differs(0)):
            copy_out(f, shape, (c, *strides, shape.result),
                     (to.get(), to_row.get(), 1, shape.type), (m, n))  # fmt: skip
    f.call(
        "void", "block", a, job["a_row"], job["a_col"], b, job["b_row"], job["b_col"], to.get(),
        to_row.get(), m, n, job["k"], job["alpha"], job["accumulate"], job["relu"], bias,
        job["depth"], job["pack_a"], job["pack_b"], space.get(),
    )  # fmt: skip
    with f.when(apart):
        copy_out(f, shape, (to.get(), to_row.get(), 1, shape.type),
                 (c, *strides, shape.result), (m, n))  # fmt: skip
    with f.when(f.convert("ptrtoint", job["epilogue"], "i64").differs(0)):
        f.call(
            "void", job["epilogue"], job["epilogue_job"], number, m0, m0 + m, n0, n0 + n
        )  # fmt: skip
    f.ret()

    f = module.function("tile", job="ptr", tile="i64", workspace="ptr")
    group, pieces = (
        f.load("i64", f.at(f["job"], 8 * JOB.index(name))) for name in ("group", "pieces")
    )
    first = f["tile"] * group
    with f.loop(first, f.minimum(first + group, pieces)) as number:
        f.call("void", "piece", f["job"], number, f["workspace"])
    f.ret()


def copy_out(
    f: Function, shape: Shape, source: tuple[Value, Operand, Operand, str],
    to: tuple[Value, Operand, Operand, str], extent: tuple[Value, Value],
) -> None:  # fmt: skip
    """Copies a matrix given by its start, strides and type into another, rounding if need be."""
    with f.loop(0, extent[0]) as i:
        rows = [f.at(x[0], i * x[1], x[3]) for x in (source, to)]
        with f.loop(0, extent[1]) as j:
            value = widened(f, shape, f.load(source[3], rows[0], j * source[2]))
            f.store(value if to[3] == shape.type else narrowed(f, value), rows[1], j * to[2])


def tiles(module: Module, shape: Shape) -> None:
    """Writes `tiles(job, thread)`: takes tiles of C from the counter until there are none."""
    f = module.function("tiles", job="ptr", thread="i64")
    job = {
        name: f.load("ptr" if name in POINTERS else "i64", f.at(f["job"], 8 * JOB.index(name)))
        for name in ("workspace", "share", "total")
    }
    counter = f.at(f["job"], 8 * JOB.index("next"))
    space = f.at(job["workspace"], f["thread"] * job["share"])
    with f.forever() as done:
        number = f.emit("i64", f"atomicrmw add {counter}, i64 1 monotonic")
        with f.when(number >= job["total"], leave=done):
            pass
        f.call("void", "tile", f["job"], number, space)
    f.ret()


def kernels(shape: Shape) -> Module:
    """The product's functions; `tile` and `tiles` are those to enter."""
    module = Module()
    pack(module, "pack_a", shape, shape.rows)
    pack(module, "pack_b", shape, shape.lanes)
    for vectors in range(1, shape.vectors + 1):
        micro(module, f"micro_{vectors}", shape, vectors, packing=False)
        if shape.masks:
            micro(module, f"packing_{vectors}", shape, vectors, packing=True)
    panels(module, shape)
    block(module, shape)
    tile(module, shape)
    tiles(module, shape)
    return module
