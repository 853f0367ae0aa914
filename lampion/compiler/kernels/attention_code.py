"""Attention as LLVM IR: tiles of queries, online softmax, gradients. Imports emit and gemm.

After FlashAttention (Dao et al., 2022). Scores are made transposed, a row of queries for each key:
then only the queries are packed, and largest scores and sums of 16 queries are vertical vector
operations. Scores are in units of log 2, so that their exponential needs no range reduction.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..native.emit import Function, Module, Value, Variable, vector
from .gemm import BATCH_DIMS, BEFORE, DEPTH, ON_THE_WAY
from .gemm_micro import lane_sum
from .gemm_pack import Shape, part, round_up

QUERIES, KEYS = 128, 256  # of a block of scores, going forward; going back KEYS is QUERIES too
LOG2E, LN2 = 1.4426950216293335, 0.6931471824645996  # as float32
# 2**r for |r| <= 0.5, fitted at Chebyshev's points; lowest power first.
EXP2 = (
    1.0, 0.6931471824645996, 0.24022650718688965, 0.055503569543361664, 0.009618056938052177,
    0.0013390866806730628, 0.00015461447765119374,
)  # fmt: skip
ROUND = 12582912.0  # added to a number below 2**22, leaves the nearest integer in its last bits
NONE, ADDED, SEEN = 0, 1, 2  # kinds of masks: none, a number for each score, whether it is seen

MATRICES = ("q", "k", "v", "y", "g", "dq", "dk", "dv")
ROWS = ("largest", "total")  # a number for each query, side by side
JOB = (
    *MATRICES, "mask", *ROWS, "queries", "keys", "e", "d", "step", "blocks", "batches", "scale",
    "causal", "mask_kind", "mask_row", "mask_col", *(f"{x}_row" for x in MATRICES),
    *(f"size{i}" for i in range(BATCH_DIMS)),
    *(f"{x}_batch{i}" for x in (*MATRICES, "mask") for i in range(BATCH_DIMS)),
)  # fmt: skip
POINTERS = frozenset((*MATRICES, "mask", *ROWS))

FLOAT, SIZE = "float", 4


@dataclass(frozen=True)
class Work:
    """What the functions of a tile share."""

    f: Function
    shape: Shape
    job: dict[str, Value]
    at: dict[str, Value]  # where the batch of each operand begins
    first: Variable  # the first query of the block
    count: Variable  # its queries
    buffers: dict[str, Value]

    def packed_lanes(self) -> Value:
        """The queries of the block, in whole vectors."""
        return round_up(self.count.get(), self.shape.lanes)


def read_job(f: Function) -> dict[str, Value]:
    """All fields of the job."""
    types = dict.fromkeys(POINTERS, "ptr") | {"scale": FLOAT}
    return {
        name: f.load(types.get(name, "i64"), f.at(f["job"], 8 * i)) for i, name in enumerate(JOB)
    }


def begin(f: Function, shape: Shape, batch: Value, sizes: dict[str, int]) -> Work:
    """Finds the batch's operands and lays out the workspace: float buffers of these sizes."""
    job = read_job(f)
    rest, index = batch, [batch] * BATCH_DIMS
    for i in reversed(range(BATCH_DIMS)):
        index[i] = rest % job[f"size{i}"]
        rest = rest / job[f"size{i}"]
    at = {}
    for name in (*MATRICES, "mask"):
        offset = index[0] * job[f"{name}_batch0"]
        for i in range(1, BATCH_DIMS):
            offset = offset + index[i] * job[f"{name}_batch{i}"]
        at[name] = offset
    places, used = {}, 0
    for name, size in sizes.items():
        places[name] = f.at(f["workspace"], used * SIZE)
        used += size
    places["rest"] = f.at(f["workspace"], used * SIZE)
    for name in MATRICES:
        at[name] = f.at(job[name], at[name], FLOAT)
    for name in ROWS:
        at[name] = f.at(job[name], batch * job["queries"], FLOAT)
    return Work(f, shape, job, at, f.variable("i64", 0), f.variable("i64", 0), places)


# -- vectors -----------------------------------------------------------------------------------


def exp2(f: Function, shape: Shape, x: Value) -> Value:
    """2**x for x <= 127 or so; 0 below -126, NaN of NaN."""
    whole = x + ROUND
    r = x - (whole - ROUND)
    total = f.constant(shape.vector, EXP2[-1])
    for number in reversed(EXP2[:-1]):
        total = f.fused(total, r, f.constant(shape.vector, number))
    integers = vector(shape.lanes, "i32")
    bits = f.convert("bitcast", whole, integers).binary("<<", 23) + (127 << 23)
    power = f.convert("bitcast", bits, shape.vector)
    return f.select(x < -126.0, f.constant(shape.vector, 0), total * power)


def lowest(f: Function) -> Value:
    """Minus infinity."""
    return Value(f, FLOAT, "0xFFF0000000000000")


def load(f: Function, shape: Shape, place: Value) -> Value:
    """A vector from anywhere."""
    return f.load(shape.vector, place, align=SIZE)


def store(f: Function, value: Value, place: Value) -> None:
    """A vector to anywhere."""
    f.store(value, place, align=SIZE)


# -- parts of a tile ---------------------------------------------------------------------------


def pack_rows(work: Work, source: str, to: str, depth: Value, scale: Value | None) -> None:
    """Transposes the block's rows of `q` or `g` into strips of a vector each, times a number."""
    f, lanes = work.f, work.shape.lanes
    row = work.job[f"{source}_row"]
    start = f.at(work.at[source], work.first.get() * row, FLOAT)
    strip = round_up(depth, lanes) * lanes
    one = f.constant("i64", 1)
    f.call("void", "pack_b", start, row, one, work.count.get(), depth, work.buffers[to], strip)
    if scale is not None:
        many = f.splat(scale, lanes)
        with f.loop(0, work.packed_lanes() / lanes * strip, lanes) as i:
            place = f.at(work.buffers[to], i, FLOAT)
            store(f, load(f, work.shape, place) * many, place)


def scores(
    work: Work, rows: str, packed: str, to: str, key: Value, keys: Value, depth: Value
) -> None:
    """The products of `keys` rows of `k` or `v`, from `key` on, with all packed rows."""
    f, lanes = work.f, work.shape.lanes
    row = work.job[f"{rows}_row"]
    zero, one, null = f.constant("i64", 0), f.constant("i64", 1), Value(f, "ptr", "null")
    c = work.buffers[to], f.constant("i64", QUERIES)
    f.call(
        "void", "panels", depth, f.at(work.at[rows], key * row, FLOAT), row, one, row,
        work.buffers[packed], f.constant("i64", lanes), round_up(depth, lanes) * lanes,
        *c, *c, keys, work.packed_lanes(),
        f.constant(FLOAT, 1), zero, zero, null, null, null,
    )  # fmt: skip


def multiply(
    work: Work, a: tuple[Value, Value, Value], b: tuple[Value, Value], c: tuple[Value, Value],
    extent: tuple[Value, Value, Value], add: Value,
) -> None:  # fmt: skip
    """C = A @ B or C += A @ B; A by its start, row and column strides, B and C by start and row."""
    f = work.f
    m, n, k = extent
    pack_b = f.constant("i64", ON_THE_WAY if work.shape.masks else BEFORE)
    zero, one, null = f.constant("i64", 0), f.constant("i64", 1), Value(f, "ptr", "null")
    f.call(
        "void", "block", *a, *b, one, *c, *c, m, n, k, f.constant(FLOAT, 1), add, zero, null,
        f.constant("i64", DEPTH), zero, pack_b, work.buffers["rest"],
    )  # fmt: skip


def hide(work: Work, key: Value, keys: Value) -> None:
    """Adds the mask to the scores of a block, and hides keys after the query."""
    f, shape, job = work.f, work.shape, work.job
    with f.when(job["mask_kind"].differs(NONE)):
        byte_wide = job["mask_kind"].equals(SEEN)
        with f.loop(0, keys) as i:
            row = f.at(work.buffers["scores"], i * QUERIES, FLOAT)
            with f.loop(0, work.count.get()) as j:
                place = (work.first.get() + j) * job["mask_row"] + (key + i) * job["mask_col"]
                place = work.at["mask"] + place
                added = f.variable(FLOAT, 0)
                with f.when(byte_wide):
                    seen = f.load("i8", f.at(job["mask"], place, "i8")).differs(0)
                    hidden = lowest(f)
                    added.set(f.select(seen, f.constant(FLOAT, 0), hidden))
                with f.when(byte_wide.equals(0)):
                    log2e = f.constant(FLOAT, LOG2E)
                    added.set(f.load(FLOAT, f.at(job["mask"], place, FLOAT)) * log2e)
                f.store(f.load(FLOAT, row, j) + added.get(), row, j)
    late = (key + keys - 1) > work.first.get()
    with f.when(job["causal"].differs(0) & late):
        integers = vector(shape.lanes, "i64")
        ramp = Value(f, integers, "<" + ", ".join(f"i64 {i}" for i in range(shape.lanes)) + ">")
        minus = f.splat(lowest(f), shape.lanes)
        with f.loop(0, keys) as i:
            row = f.at(work.buffers["scores"], i * QUERIES, FLOAT)
            # Queries before the key, of this block.
            with f.loop(
                0, f.minimum(key + i - work.first.get(), work.count.get()), shape.lanes
            ) as j:
                place = f.at(row, j, FLOAT)
                query = ramp + f.splat(work.first.get() + j, shape.lanes)
                before = query < f.splat(key + i, shape.lanes)
                store(f, f.select(before, minus, load(f, shape, place)), place)


def seen_keys(work: Work) -> Value:
    """How many keys the block's last query may see."""
    f, job = work.f, work.job
    end = f.minimum(work.first.get() + work.count.get(), job["keys"])
    return f.select(job["causal"].differs(0), end, job["keys"])


# -- forward -----------------------------------------------------------------------------------


def soften(work: Work, keys: Value, start: Value) -> None:
    """Scores of a block to exponentials; brings the queries' largest scores and sums up to date,
    and says in `shrink` what older sums are to be multiplied by.
    """
    f, shape = work.f, work.shape
    buffers = work.buffers
    with f.loop(0, work.packed_lanes(), shape.lanes) as j:
        column = f.at(buffers["scores"], j, FLOAT)
        minus = f.splat(lowest(f), shape.lanes)
        top, total = f.variable(shape.vector, minus), f.variable(shape.vector, 0)
        with f.when(start.equals(0)):
            top.set(load(f, shape, f.at(buffers["largest"], j, FLOAT)))
            total.set(load(f, shape, f.at(buffers["total"], j, FLOAT)))
        before = top.get()
        with f.loop(0, keys) as i:
            x = load(f, shape, f.at(column, i * QUERIES, FLOAT))
            top.set(f.select(x.binary(">", top.get()), x, top.get()))
        # A query that has seen nothing so far: any finite number does.
        blind = top.get().equals(minus)
        base = f.select(blind, f.constant(shape.vector, 0), top.get())
        shrink = exp2(f, shape, before - base)
        total.set(total.get() * shrink)
        with f.loop(0, keys) as i:
            place = f.at(column, i * QUERIES, FLOAT)
            p = exp2(f, shape, load(f, shape, place) - base)
            store(f, p, place)
            total.set(total.get() + p)
        store(f, top.get(), f.at(buffers["largest"], j, FLOAT))
        store(f, total.get(), f.at(buffers["total"], j, FLOAT))
        store(f, shrink, f.at(buffers["shrink"], j, FLOAT))


def scale_rows(work: Work, factors: Value) -> None:
    """Multiplies each of the block's rows of `y` by its number."""
    f, shape, job = work.f, work.shape, work.job
    with f.loop(0, work.count.get()) as i:
        row = f.at(work.at["y"], (work.first.get() + i) * job["y_row"], FLOAT)
        many = f.splat(f.load(FLOAT, factors, i), shape.lanes)
        with f.loop(0, job["d"], shape.lanes) as j:
            mask = part(f, job["d"] - j, shape.lanes)
            place = f.at(row, j, FLOAT)
            f.masked_store(f.masked_load(shape.vector, place, mask) * many, place, mask)


def write_forward(module: Module, shape: Shape) -> None:
    """Writes `forward(job, tile, workspace)`: a block of queries of a batch."""
    f = module.function("forward", job="ptr", tile="i64", workspace="ptr")
    blocks = f.load("i64", f.at(f["job"], 8 * JOB.index("blocks")))
    sizes = {
        "scores": QUERIES * KEYS, "queries": QUERIES * round_depth(shape), "largest": QUERIES,
        "total": QUERIES, "shrink": QUERIES,
    }  # fmt: skip
    work = begin(f, shape, f["tile"] / blocks, sizes)
    job, buffers = work.job, work.buffers
    work.first.set(f["tile"] % blocks * job["step"])
    work.count.set(f.minimum(job["queries"] - work.first.get(), job["step"]))
    log2e = f.constant(FLOAT, LOG2E)
    pack_rows(work, "q", "queries", job["e"], job["scale"] * log2e)
    y = f.at(work.at["y"], work.first.get() * job["y_row"], FLOAT)
    with f.loop(0, seen_keys(work), KEYS) as key:
        keys = f.minimum(seen_keys(work) - key, KEYS)
        start = f.convert("zext", key.equals(0), "i64")
        scores(work, "k", "queries", "scores", key, keys, job["e"])
        hide(work, key, keys)
        soften(work, keys, start)
        with f.when(start.equals(0)):
            scale_rows(work, buffers["shrink"])
        one, width = f.constant("i64", 1), f.constant("i64", QUERIES)
        v = f.at(work.at["v"], key * job["v_row"], FLOAT)
        multiply(work, (buffers["scores"], one, width), (v, job["v_row"]), (y, job["y_row"]),
                 (work.count.get(), job["d"], keys), one - start)  # fmt: skip
    with f.loop(0, work.count.get()) as i:
        top, total = (f.load(FLOAT, buffers[name], i) for name in ROWS)
        seen = total > 0.0
        unordered = f.emit("i1", f"fcmp uno {total}, {total.name}")
        top = f.select(top.binary(">", lowest(f)) | unordered, top, 0)
        total = f.select(seen | unordered, total, 1)
        f.store(top * f.constant(FLOAT, LN2), f.at(work.at["largest"], work.first.get() + i, FLOAT))
        f.store(total, f.at(work.at["total"], work.first.get() + i, FLOAT))
        f.store(f.constant(FLOAT, 1) / total, buffers["shrink"], i)
    scale_rows(work, buffers["shrink"])
    f.ret()


def round_depth(shape: Shape) -> int:
    """The most numbers of a packed query, in whole vectors."""
    return -(-DEPTH // shape.lanes) * shape.lanes


# -- backward ----------------------------------------------------------------------------------


def row_products(work: Work) -> None:
    """The products of gradients with results, summed over each of the block's rows."""
    f, shape, job = work.f, work.shape, work.job
    with f.loop(0, work.count.get()) as i:
        query = work.first.get() + i
        g, y = (f.at(work.at[x], query * job[f"{x}_row"], FLOAT) for x in "gy")
        total = f.variable(shape.vector, 0)
        with f.loop(0, job["d"], shape.lanes) as j:
            mask = part(f, job["d"] - j, shape.lanes)
            a, b = (f.masked_load(shape.vector, f.at(x, j, FLOAT), mask) for x in (g, y))
            total.set(f.fused(a, b, total.get()))
        f.store(lane_sum(f, shape, total.get()), work.buffers["own"], i)
        top = f.load(FLOAT, work.at["largest"], query) * f.constant(FLOAT, LOG2E)
        f.store(top, work.buffers["largest"], i)
        one = f.constant(FLOAT, 1)
        f.store(one / f.load(FLOAT, work.at["total"], query), work.buffers["inverse"], i)


def differentiate(work: Work, keys: Value) -> None:
    """Scores to probabilities p, and p's gradients to the scores' gradients p (gp - own) scale."""
    f, shape, buffers = work.f, work.shape, work.buffers
    scale = f.splat(work.job["scale"], shape.lanes)
    with f.loop(0, work.packed_lanes(), shape.lanes) as j:
        top, inverse, own = (
            load(f, shape, f.at(buffers[name], j, FLOAT)) for name in ("largest", "inverse", "own")
        )
        with f.loop(0, keys) as i:
            of_scores = f.at(buffers["scores"], i * QUERIES + j, FLOAT)
            of_gradients = f.at(buffers["gradients"], i * QUERIES + j, FLOAT)
            p = exp2(f, shape, load(f, shape, of_scores) - top) * inverse
            gp = load(f, shape, of_gradients)
            store(f, p, of_scores)
            store(f, p * (gp - own) * scale, of_gradients)


def clear(work: Work, name: str, columns: Value) -> None:
    """Zeros in all rows of `dk` or `dv`."""
    f, shape, job = work.f, work.shape, work.job
    with f.loop(0, job["keys"]) as i:
        row = f.at(work.at[name], i * job[f"{name}_row"], FLOAT)
        with f.loop(0, columns, shape.lanes) as j:
            mask = part(f, columns - j, shape.lanes)
            f.masked_store(f.constant(shape.vector, 0), f.at(row, j, FLOAT), mask)


def write_backward(module: Module, shape: Shape) -> None:
    """Writes `backward(job, tile, workspace)`: the gradients of a batch."""
    f = module.function("backward", job="ptr", tile="i64", workspace="ptr")
    depth = round_depth(shape)
    sizes = {
        "scores": QUERIES * QUERIES, "gradients": QUERIES * QUERIES, "queries": QUERIES * depth,
        "packed": QUERIES * depth, "largest": QUERIES, "inverse": QUERIES, "own": QUERIES,
    }  # fmt: skip
    work = begin(f, shape, f["tile"], sizes)
    job, buffers, at = work.job, work.buffers, work.at
    clear(work, "dk", job["e"])
    clear(work, "dv", job["d"])
    one, width = f.constant("i64", 1), f.constant("i64", QUERIES)
    with f.loop(0, job["queries"], job["step"]) as first:
        work.first.set(first)
        work.count.set(f.minimum(job["queries"] - first, job["step"]))
        count = work.count.get()
        pack_rows(work, "q", "queries", job["e"], job["scale"] * f.constant(FLOAT, LOG2E))
        pack_rows(work, "g", "packed", job["d"], None)
        row_products(work)

        def rows(name: str, row: Value) -> tuple[Value, Value]:
            return f.at(at[name], row * job[f"{name}_row"], FLOAT), job[f"{name}_row"]

        with f.loop(0, seen_keys(work), QUERIES) as key:
            keys = f.minimum(seen_keys(work) - key, QUERIES)
            scores(work, "k", "queries", "scores", key, keys, job["e"])
            hide(work, key, keys)
            scores(work, "v", "packed", "gradients", key, keys, job["d"])
            differentiate(work, keys)
            p, gs = buffers["scores"], buffers["gradients"]
            multiply(work, (p, width, one), rows("g", first), rows("dv", key),
                     (keys, job["d"], count), one)  # fmt: skip
            multiply(work, (gs, width, one), rows("q", first), rows("dk", key),
                     (keys, job["e"], count), one)  # fmt: skip
            later = f.convert("zext", key > 0, "i64")
            multiply(work, (gs, one, width), rows("k", key), rows("dq", first),
                     (count, job["e"], keys), later)  # fmt: skip
    f.ret()
