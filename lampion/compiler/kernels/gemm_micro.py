"""The inner loops of matrix products: register tiles, and dot products for few rows. Imports emit
and gemm_pack.
"""

from __future__ import annotations

from ..native.emit import Function, Module, Value, Variable
from .gemm_pack import Shape, fetch, part

# What micro-kernels and the functions around them get, in this order.
OPERANDS = {
    "depth": "i64", "a": "ptr noalias", "a_row": "i64", "a_col": "i64", "a_step": "i64",
    "b": "ptr", "b_row": "i64", "b_strip": "i64", "before": "ptr", "before_row": "i64", "c": "ptr",
    "c_row": "i64", "m": "i64", "n": "i64",
}  # fmt: skip


def finish_types(shape: Shape) -> dict[str, str]:
    """The parameters of what is done to sums."""
    return {"alpha": shape.type, "add": "i64", "relu": "i64", "bias": "ptr"}


def micro(module: Module, name: str, shape: Shape, vectors: int, packing: bool) -> None:
    """Writes the function that makes `vectors` columns of register tiles, `rows` rows at a time:
    C = relu(alpha * A @ B + before + bias), each part where it is asked for.

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
        before = f.at(f["before"], first * f["before_row"], shape.type)
        a = f.at(f["a"], first * f["a_step"], shape.type)
        # Rows past the edge read the last one again.
        rows = [f.minimum(f.constant("i64", i), left - 1) for i in range(shape.rows)]
        starts = [f.at(a, row * f["a_row"], shape.type) for row in rows]
        if not packing:
            with f.loop(
                first / shape.rows * share, f.minimum((first / shape.rows + 1) * share, ahead)
            ) as k:
                for j in range(shape.vectors):
                    fetch(f, f.at(f["next"], k * f["b_row"] + j * shape.lanes, shape.type), 2)
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
        write_tile(f, shape, sums, (before, c), left, columns)
    f.ret()


def write_tile(
    f: Function, shape: Shape, sums: list[list[Variable]], places: tuple[Value, Value],
    left: Value, columns: list[Value],
) -> None:  # fmt: skip
    """C = relu(alpha * sums + before + bias), in the rows and columns that are left; `places` are
    where this part of `before` and of C begin. Whole tiles of plain sums are written without a
    branch.
    """
    has_bias = f.convert("ptrtoint", f["bias"], "i64").differs(0)
    adds = f["add"].differs(0)
    plain = left.equals(shape.rows) & f["alpha"].equals(1.0) & f["relu"].equals(0)
    plain = plain & has_bias.equals(0)
    if not shape.masks:
        plain = plain & f["n"].equals(len(columns) * shape.lanes)

    def place(i: int, j: int) -> Value:
        return f.at(f.at(places[1], f["c_row"] * i, shape.type), j * shape.lanes, shape.type)

    def source(i: int, j: int) -> Value:
        return f.at(f.at(places[0], f["before_row"] * i, shape.type), j * shape.lanes, shape.type)

    def masked(j: int, last: int) -> bool:
        return shape.masks and j == last

    with f.when(plain):
        last = len(columns) - 1
        with f.when(adds):
            for i, row in enumerate(sums):
                for j, total in enumerate(row):
                    if masked(j, last):
                        before = f.masked_load(shape.vector, source(i, j), columns[j])
                    else:
                        before = f.load(shape.vector, source(i, j), align=shape.size)
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
                    before = f.masked_load(shape.vector, source(i, j), before_mask)
                    value = row[j].get() * alpha + before + bias
                    value = f.select(value < floor, floor, value)  # NaN stays
                    f.masked_store(value, place(i, j), mask)


def lowest(f: Function, shape: Shape) -> Value:
    """Minus infinity."""
    return Value(f, shape.type, "0xFFF0000000000000")


# -- few rows ----------------------------------------------------------------------------------

FEW_ROWS, FEW_COLUMNS = 2, 4  # of the sums that `dots` makes at once


def dots(module: Module, shape: Shape) -> None:
    """Writes `dots(...)`: products of few rows of A with columns of B, where the numbers of both
    lie side by side along k. Nothing is packed; a sum's lanes are added at the end.
    """
    f = module.function(
        "dots", "void", True, a="ptr noalias", a_row="i64", b="ptr noalias", b_col="i64",
        c="ptr noalias", c_row="i64", m="i64", n="i64", k="i64", **finish_types(shape),
    )  # fmt: skip
    with f.loop(0, f["n"], FEW_COLUMNS) as j, f.loop(0, f["m"], FEW_ROWS) as i:
        # Rows and columns past the edge read the last one again.
        rows = [f.minimum(i + r, f["m"] - 1) for r in range(FEW_ROWS)]
        columns = [f.minimum(j + c, f["n"] - 1) for c in range(FEW_COLUMNS)]
        of_a = [f.at(f["a"], row * f["a_row"], shape.type) for row in rows]
        of_b = [f.at(f["b"], column * f["b_col"], shape.type) for column in columns]
        sums = [[f.variable(shape.vector, 0) for _ in columns] for _ in rows]

        def add(k: Value, mask: Value | None) -> None:
            def read(start: Value) -> Value:
                place = f.at(start, k, shape.type)
                if mask is None:
                    return f.load(shape.vector, place, align=shape.size)
                return f.masked_load(shape.vector, place, mask)

            b = [read(start) for start in of_b]
            for start, totals in zip(of_a, sums, strict=True):
                a = read(start)
                for c, total in enumerate(totals):
                    total.set(f.fused(a, b[c], total.get()))

        whole = f["k"] / shape.lanes * shape.lanes
        with f.loop(0, whole, shape.lanes) as k:
            add(k, None)
        with f.when(whole < f["k"]):
            add(whole, part(f, f["k"] - whole, shape.lanes))
        for r, totals in enumerate(sums):
            for c, total in enumerate(totals):
                inside = (i + r < f["m"]) & (j + c < f["n"])
                with f.when(inside):
                    write_number(f, shape, lane_sum(f, shape, total.get()), i + r, j + c)
    f.ret()


def lane_sum(f: Function, shape: Shape, value: Value) -> Value:
    """The sum of a vector's lanes, by halves."""
    lanes = shape.lanes
    while lanes > 1:
        lanes //= 2
        other = [(i + lanes) % shape.lanes for i in range(shape.lanes)]
        value = value + f.shuffle(value, value, other)
    return f.emit(shape.type, f"extractelement {value}, i64 0")


def write_number(f: Function, shape: Shape, total: Value, row: Value, column: Value) -> None:
    """C[row, column] = relu(alpha * total + C + bias), each part where it is asked for."""
    place = f.at(f["c"], row * f["c_row"] + column, shape.type)
    result = f.variable(shape.type, total * f["alpha"])
    with f.when(f["add"].differs(0)):
        result.set(result.get() + f.load(shape.type, place))
    with f.when(f.convert("ptrtoint", f["bias"], "i64").differs(0)):
        result.set(result.get() + f.load(shape.type, f["bias"], column))
    with f.when(f["relu"].differs(0)):
        negative = result.get() < 0.0
        result.set(f.select(negative, f.constant(shape.type, 0), result.get()))  # NaN stays
    f.store(result.get(), place)
