"""Matrix products, C = relu(alpha * A @ B + C + bias), as LLVM IR for any vector width. Imports
emit, gemm_micro and gemm_pack.

The scheme is GotoBLAS's (Goto and van de Geijn, 2008): a register tile of rows x vectors, operands
packed so that the micro-kernel reads them in order. Unlike there, every tile of C packs what it
needs by itself, and only what pays: B whose rows lie side by side is read where it is by the
first rows, which write the packed copy on the way. So no barrier is needed, tiles can be handed out
by a counter, and a thread that is taken away delays one tile only. Small results of long sums are
made in two halves of k. An element of C is summed in an order that only M, N and K decide, so
results have the same bits for any number of threads.
"""

from __future__ import annotations

from ..native.emit import Function, Module, Operand, Value
from .gemm_amx import matrix_kernels
from .gemm_micro import OPERANDS, dots, finish_types, lowest, micro
from .gemm_pack import (
    BEFORE as BEFORE,
    NEVER as NEVER,
    ON_THE_WAY as ON_THE_WAY,
    SPLIT as SPLIT,
    Shape,
    narrowed,
    pack,
    part,
    round_up,
    shape_for as shape_for,
    transposed as transposed,
    widened,
)

DEPTH = 144  # of a block along k, at most: three vectors of B of each k stay in the first cache
BATCH_DIMS = 4  # dimensions of batches that strides can describe
HALVES = 8  # tiles, at most, whose sums are made in two halves

# What a tile is told of the work, in 8-byte fields. Batches: outermost dimension first.
JOB = (
    "a", "b", "c", "bias", "m", "n", "k", "a_row", "a_col", "b_row", "b_col", "c_row", "c_col",
    "alpha", "accumulate", "relu", "batches", *(f"size{d}" for d in range(BATCH_DIMS)),
    *(f"{x}_batch{d}" for x in "abc" for d in range(BATCH_DIMS)),
    "a_offset", "b_offset", "c_offset", "epilogue", "epilogue_job",
    "pool", "pack_a", "pack_b", "depth", "tile_m", "tile_n", "tiles_m", "tiles",
    "group", "pieces", "total", "next", "workspace", "share",
    "half", *(f"half_done{i}" for i in range(HALVES)),
)  # fmt: skip
POINTERS = frozenset({"a", "b", "c", "bias", "epilogue", "epilogue_job", "workspace", "pool"})


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
                f.at(f["before"], row * f["before_row"] + column, shape.type), f["before_row"],
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


def block(module: Module, shape: Shape) -> None:
    """Writes `block(...)`: a block of C over all of k, packing what is asked for in `space`.

    Until the last step along k the sums are kept in `sums`, whose rows lie close together: those
    of C may be a power of two apart, and then fall into the same few sets of a cache.
    """
    f = module.function(
        "block", "void", a="ptr", a_row="i64", a_col="i64", b="ptr", b_row="i64",
        b_col="i64", sums="ptr", sums_row="i64", c="ptr", c_row="i64", m="i64", n="i64", k="i64",
        **finish_types(shape), depth="i64", pack_a="i64", pack_b="i64", space="ptr",
    )  # fmt: skip
    null = Value(f, "ptr", "null")
    lanes, rows = shape.lanes, shape.rows
    with f.when(f["pack_b"].equals(NEVER)):
        f.call(
            "void", "dots", f["a"], f["a_row"], f["b"], f["b_col"], f["c"], f["c_row"], f["m"],
            f["n"], f["k"], f["alpha"], f["add"], f["relu"], f["bias"],
        )  # fmt: skip
        f.ret()
    has_bias = f.convert("ptrtoint", f["bias"], "i64").differs(0)
    space_a = f.at(f["space"], round_up(f["depth"], lanes) * round_up(f["n"], lanes), shape.type)
    with f.loop(0, f.select(f["k"] > 0, f["k"], 1), f["depth"]) as k0:
        depth = f.minimum(f["k"] - k0, f["depth"])
        rounded = round_up(depth, lanes)
        begins = k0.equals(0)
        add = f.select(begins, f["add"], 1)
        before = f.select(begins, f["c"], f["sums"])
        before_row = f.select(begins, f["c_row"], f["sums_row"])
        final = (k0 + depth) >= f["k"]
        c, c_row = f.select(final, f["c"], f["sums"]), f.select(final, f["c_row"], f["sums_row"])
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
            b_row.get(), b_strip.get(), before, before_row, c, c_row, f["m"], f["n"], f["alpha"],
            add, relu, bias, to, following,
        )  # fmt: skip
    f.ret()


def place_of(f: Function, job: dict[str, Value], name: str, batch: list[Value]) -> Value:
    """How many elements into an operand a batch begins."""
    offset = job[f"{name}_offset"]
    for d in range(BATCH_DIMS):
        offset = offset + batch[d] * job[f"{name}_batch{d}"]
    return offset


def piece(module: Module, shape: Shape) -> None:
    """Writes `piece(job, number, workspace)`: a part of C, or half of its sums."""
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
    halved = job["half"] > 0
    k0 = f.select(halved, number * job["half"], 0)
    k = f.select(halved, f.minimum(job["k"] - k0, job["half"]), job["k"])
    a = place_of(f, job, "a", batch) + m0 * job["a_row"] + k0 * job["a_col"]
    b = place_of(f, job, "b", batch) + n0 * job["b_col"] + k0 * job["b_row"]
    a, b = f.at(job["a"], a, shape.source), f.at(job["b"], b, shape.source)
    place = place_of(f, job, "c", batch) + m0 * job["c_row"] + n0 * job["c_col"]
    c = f.at(job["c"], place, shape.result)
    has_bias = f.convert("ptrtoint", job["bias"], "i64").differs(0)
    bias = f.select(has_bias, f.at(job["bias"], n0, shape.type), job["bias"])
    to, to_row = f.variable("ptr", c), f.variable("i64", job["c_row"])
    sums, sums_row = f["workspace"], round_up(n, shape.lanes)
    space = f.at(f["workspace"], round_up(m * sums_row, 16), shape.type)
    # Where C is of another type, its columns are apart, or this is half of the sums, the piece is
    # made in the workspace.
    apart = f.constant("i1", 1) if shape.result != shape.type else job["c_col"].differs(1)
    strides = job["c_row"], job["c_col"]
    with f.when(apart | halved):
        to.set(sums)
        to_row.set(sums_row)
        with f.when(job["accumulate"].differs(0)):
            copy_out(f, shape, (c, *strides, shape.result),
                     (to.get(), to_row.get(), 1, shape.type), (m, n))  # fmt: skip
    relu = f.select(halved, f.constant("i64", 0), job["relu"])
    row = f.select(halved, Value(f, "ptr", "null"), bias)
    operands = a, job["a_row"], job["a_col"], b, job["b_row"], job["b_col"]
    finishing = m, n, k, job["alpha"], job["accumulate"], relu, row
    own = (apart | halved).equals(0)
    places = (sums, sums_row), (to.get(), to_row.get()), space
    finished = multiply(f, shape, job, operands, places, finishing, own, (number, m0, n0))
    with f.when(apart):
        copy_out(f, shape, (to.get(), to_row.get(), 1, shape.type),
                 (c, *strides, shape.result), (m, n))  # fmt: skip
    with f.when(halved):
        state = f.at(f["job"], tile * 8 + 8 * JOB.index("half_done0"))
        join(f, shape, state, (sums, sums_row), (c, job["c_row"]), (m, n), (job["relu"], bias))
    number = f.select(halved, f.constant("i64", 0), number)
    with f.when(f.convert("ptrtoint", job["epilogue"], "i64").differs(0) & finished.equals(0)):
        f.call(
            "void", job["epilogue"], job["epilogue_job"], number, m0, m0 + m, n0, n0 + n
        )  # fmt: skip
    f.ret()


def multiply(
    f: Function, shape: Shape, job: dict[str, Value], operands: tuple[Value, ...], places: tuple,
    finishing: tuple[Value, ...], own: Value, where: tuple[Value, ...],
) -> Value:  # fmt: skip
    """Makes a piece on vector or matrix units, and whether its epilogue ran on the way: on matrix
    units, where the piece is made in C itself (`own`).

    places  of the sums, of the result and of what is packed
    where   the batch, row and column at which the piece begins
    """
    (sums, sums_row), to, space = places
    split = job["pack_b"].equals(SPLIT)
    with f.when(split.equals(0)):
        f.call(
            "void", "block", *operands, sums, sums_row, *to, *finishing, job["depth"],
            job["pack_a"], job["pack_b"], space,
        )  # fmt: skip
    if shape.parts:
        with f.when(split):
            epilogue = f.select(own, job["epilogue"], Value(f, "ptr", "null"))
            f.call(
                "void", "matrix_block", *operands, *to, *finishing, space, epilogue,
                job["epilogue_job"], *where,
            )  # fmt: skip
    return split & own


def tile(module: Module) -> None:
    """Writes `tile(job, tile, workspace)`, a group of pieces of C."""
    f = module.function("tile", job="ptr", tile="i64", workspace="ptr")
    group, pieces = (
        f.load("i64", f.at(f["job"], 8 * JOB.index(name))) for name in ("group", "pieces")
    )
    first = f["tile"] * group
    with f.loop(first, f.minimum(first + group, pieces)) as number:
        f.call("void", "piece", f["job"], number, f["workspace"])
    f.ret()


def join(
    f: Function, shape: Shape, state: Value, sums: tuple[Value, Value], c: tuple[Value, Value],
    extent: tuple[Value, Value], finish: tuple[Value, Value],
) -> None:  # fmt: skip
    """Puts half of the sums of a tile into C: the thread that is first stores its half and leaves
    the function, the other one adds its own, then bias and relu. A sum of two is the same in
    either order.

    state  0: nobody is done; 1: a half is being stored; 2: it is stored
    """
    relu, bias = finish
    taken = f.emit("{ i64, i1 }", f"cmpxchg {state}, i64 0, i64 1 seq_cst seq_cst")
    with f.when(f.emit("i1", f"extractvalue {taken}, 1")):
        copy_out(f, shape, (*sums, 1, shape.type), (*c, 1, shape.type), extent)
        f.do(f"store atomic i64 2, {state} seq_cst, align 8")
        f.ret()
    with f.forever() as stored:
        now = f.emit("i64", f"load atomic i64, {state} seq_cst, align 8")
        with f.when(now.equals(2), leave=stored):
            pass
        f.call("i32", "sched_yield")
    has_bias = f.convert("ptrtoint", bias, "i64").differs(0)
    floor = f.splat(f.select(relu.differs(0), f.constant(shape.type, 0), lowest(f, shape)),
                    shape.lanes)  # fmt: skip
    with f.loop(0, extent[0]) as i, f.loop(0, extent[1], shape.lanes) as j:
        mask = part(f, extent[1] - j, shape.lanes)
        one, two = (f.at(x, i * row + j, shape.type) for x, row in (sums, c))
        more = f.masked_load(shape.vector, f.at(f.select(has_bias, bias, c[0]), j, shape.type),
                             mask & f.splat(has_bias, shape.lanes))  # fmt: skip
        value = f.masked_load(shape.vector, one, mask) + f.masked_load(shape.vector, two, mask)
        value = value + more
        f.masked_store(f.select(value < floor, floor, value), two, mask)  # NaN stays
    f.do(f"store atomic i64 0, {state} seq_cst, align 8")


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
    dots(module, shape)
    if shape.parts:
        matrix_kernels(module, shape)
    panels(module, shape)
    block(module, shape)
    piece(module, shape)
    tile(module)
    tiles(module, shape)
    return module
