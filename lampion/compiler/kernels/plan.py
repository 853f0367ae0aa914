"""How a matrix product is cut into tiles, decided in compiled code at each call. Imports emit,
gemm and pool.

The depth of a block, which decides the order of sums, comes from K alone. The tiles of C come from
a small model of what they cost: a few candidates are tried, and the one whose rounds of tiles end
first is taken.
"""

from __future__ import annotations

from ..native import pool
from ..native.emit import Function, Module, Value
from .gemm import DEPTH, HALVES, JOB
from .gemm_pack import BEFORE, NEVER, ON_THE_WAY, SPLIT, Shape, round_up
from .gemm_split import SIDE, STEP, UNIT

TILE_BYTES, TILE_COLUMNS = 1536, 576  # of a column, and columns, of a tile: all fits SHARE
FEW = 6  # rows whose products with packed columns cost less than packing them
LARGE = 192  # rows and columns of tiles that pack A even where its rows could be read
SMALL, LONG = 1 << 15, 512  # elements of C at most, and k at least, of sums in two halves
CANDIDATES = 4  # numbers of parts tried, in rows and in columns
PACKING = 11  # rows of products that take as long as packing a row of B
ENOUGH = 6  # tiles per thread that balance well without a choice
MATRIX_TILE = 512, 384  # of a tile on matrix units: its sums, packed operands and C fit SHARE
# By the parts of operands: cycles for 16 x 16 x 32 multiplications, and to cut 16 x 32 numbers.
MATRIX_CYCLES = {1: (40, 200), 3: (145, 340)}
BLOCK, START = 75, 1000  # cycles to finish 16 x 16 sums, and to begin
VECTOR_RATE = 24  # multiplications in a cycle, on vector units
GROUP = 1 << 19  # multiplications in a tile, at least, where there are several pieces
PARALLEL = 1 << 19  # multiplications worth waking workers for


def slot(f: Function, name: str) -> Value:
    """The address of a field of the job (the parameter `job`)."""
    return f.at(f["job"], 8 * JOB.index(name))


def volume(f: Function) -> Value:
    """How many multiplications the job is."""
    m, n, k, b = (f.load("i64", slot(f, name)) for name in ("m", "n", "k", "batches"))
    return m * n * k * b


def quotient_up(f: Function, a: Value, b: Value | int) -> Value:
    """a / b, rounded up; a is not negative, and b below 1 counts as 1."""
    b = f.constant("i64", b)
    b = f.select(b > 0, b, 1)
    return (a + b - 1) / b


def write_plan(module: Module, shape: Shape) -> None:
    """Writes `plan(job)`, which fills in the sizes of blocks and tiles and their numbers."""
    f = module.function("plan", job="ptr")
    m, n, k, batches = (f.load("i64", slot(f, name)) for name in ("m", "n", "k", "batches"))
    matrix = on_matrix_units(f, shape, (m, n, k))
    units = tuple(f.select(matrix, f.constant("i64", SIDE), x) for x in (shape.rows, shape.lanes))
    most = [
        f.select(matrix, f.constant("i64", x), y)
        for x, y in zip(MATRIX_TILE, (TILE_BYTES // shape.size, TILE_COLUMNS), strict=True)
    ]
    strips, bands = (quotient_up(f, *each) for each in zip((m, n), most, strict=True))
    halved = in_halves(f, shape, (m, n, k), batches * strips * bands)
    length = f.select(halved, round_up(quotient_up(f, k, 2), STEP), k)
    blocks = quotient_up(f, length, DEPTH)
    depth = round_up(quotient_up(f, f.select(length > 0, length, 1), blocks), shape.lanes)
    shares = f.select(halved, f.constant("i64", 2), batches)  # pieces of each tile
    parts_m, parts_n = f.variable("i64", strips), f.variable("i64", bands)
    threads = f.load("i64", f.at(f.load("ptr", slot(f, "pool")), pool.FIELDS["limit"]))
    few = strips * bands * shares < threads * ENOUGH
    with f.when(few & (threads > 1) & (volume(f) >= PARALLEL)):
        best = f.variable("i64", 1 << 62)
        step = quotient_up(f, threads, CANDIDATES)
        with f.loop(0, step * CANDIDATES, step) as i:
            with f.loop(0, step * CANDIDATES, step) as j:
                tries = strips + i, bands + j
                cost = round_cost(f, shape, (m, n, shares), tries, threads, units, matrix)
                fits = halved.equals(0) | (tries[0] * tries[1] <= HALVES)
                with f.when(fits & (cost < best.get())):
                    best.set(cost)
                    parts_m.set(tries[0])
                    parts_n.set(tries[1])
    tile_m = tile_size(f, m, parts_m.get(), units[0])
    tile_n = tile_size(f, n, parts_n.get(), units[1])
    tiles_m, tiles_n = quotient_up(f, m, tile_m), quotient_up(f, n, tile_n)
    pieces = tiles_m * tiles_n * shares
    group = f.constant("i64", GROUP) / f.select(k > 0, tile_m * tile_n * length, 1)
    group = f.select(volume(f) >= PARALLEL, f.select(group > 1, group, 1), pieces)
    a_col, b_col = (f.load("i64", slot(f, name)) for name in ("a_col", "b_col"))
    large = (tile_m >= LARGE) & (tile_n >= LARGE)
    packed = f.convert("zext", a_col.differs(1) | large, "i64")
    if shape.source != shape.type:
        packed = f.constant("i64", 1)
    if shape.masks and shape.source == shape.type:
        pack_b = f.select(b_col.equals(1), f.constant("i64", ON_THE_WAY), BEFORE)
    else:
        pack_b = f.constant("i64", BEFORE)
    if shape.source == shape.type:
        b_row = f.load("i64", slot(f, "b_row"))
        along = a_col.equals(1) & b_row.equals(1) & (k > 0)
        pack_b = f.select(along & (m <= FEW), f.constant("i64", NEVER), pack_b)
    pack_b = f.select(matrix, f.constant("i64", SPLIT), pack_b)
    for name, value in {
        "depth": depth, "tile_m": tile_m, "tile_n": tile_n, "tiles_m": tiles_m,
        "tiles": tiles_m * tiles_n, "total": quotient_up(f, pieces, group), "pack_a": packed,
        "pack_b": pack_b, "group": group, "pieces": pieces, "half": f.select(halved, length, 0),
        "next": f.constant("i64", 0), "share": f.constant("i64", pool.SHARE),
    }.items():  # fmt: skip
        f.store(value, slot(f, name))
    f.ret()


def in_halves(f: Function, shape: Shape, extent: tuple[Value, Value, Value], tiles: Value) -> Value:
    """Whether the sums of one small tile are made in two halves along a long k, which two threads
    can do without each packing, or fetching, all of B. It does not depend on the threads at hand.
    """
    if shape.result != shape.type:
        return f.constant("i1", 0)
    m, n, k = extent
    small = tiles.equals(1) & (m * n <= SMALL) & (k >= LONG) & (volume(f) >= PARALLEL)
    accumulate, c_col = (f.load("i64", slot(f, name)) for name in ("accumulate", "c_col"))
    return small & accumulate.equals(0) & c_col.equals(1)


def on_matrix_units(f: Function, shape: Shape, extent: tuple[Value, Value, Value]) -> Value:
    """Whether matrix units, with the cutting of operands and the rounding up of sizes, are faster
    than vector units.
    """
    if not shape.parts:
        return f.constant("i1", 0)
    m, n, k = extent
    rows, columns, steps = quotient_up(f, m, UNIT), quotient_up(f, n, UNIT), quotient_up(f, k, STEP)
    work, cutting = MATRIX_CYCLES[shape.parts]
    cycles = (rows * columns * work + (rows + columns) * cutting) * steps + rows * columns * BLOCK
    return (cycles + START) * VECTOR_RATE < m * n * k


def tile_size(f: Function, size: Value, parts: Value, unit: Value) -> Value:
    """The size of each of so many parts, in whole units."""
    return round_up(quotient_up(f, f.select(size > 0, size, 1), parts), unit)


def round_cost(
    f: Function, shape: Shape, extent: tuple[Value, Value, Value], parts: tuple[Value, Value],
    threads: Value, units: tuple[Value, ...], matrix: Value,
) -> Value:  # fmt: skip
    """What the product costs the busiest thread, in quarters of a row by a vector (or in cycles per
    step along k, on matrix units), where each tile is so many pieces.
    """
    m, n, shares = extent
    tile_m, tile_n = (tile_size(f, *each) for each in zip((m, n), parts, units, strict=True))
    tiles = quotient_up(f, m, tile_m) * quotient_up(f, n, tile_n) * shares
    vectors, panels = tile_n / shape.lanes, quotient_up(f, tile_n, shape.lanes * shape.vectors)
    tile = vectors * (tile_m + PACKING) * 4 + panels * tile_m
    if shape.parts:
        rows, columns = tile_m / UNIT, tile_n / UNIT
        work, cutting = MATRIX_CYCLES[shape.parts]
        tile = f.select(matrix, rows * columns * work + (rows + columns) * cutting, tile)
    return quotient_up(f, tiles, threads) * tile
