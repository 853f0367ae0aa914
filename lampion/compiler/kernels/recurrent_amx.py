"""The products of recurrent layers on matrix units: weights are cut into bfloat16 parts once per
layer, states by the tiles that make them. Imports emit, gemm_amx, gemm_pack and gemm_split.

Along k numbers come gate by gate, each gate in whole steps of 32 (see gemm_split): a layer's
forward product is over one such part, the state, and that of its gradient over all gates.
"""

from __future__ import annotations

from ..native.emit import Function, Module, Value
from .gemm_amx import DEPTH, SUMS, configure, finish, finite, multiply
from .gemm_pack import BEFORE, Shape
from .gemm_split import SIDE, STEP, TILE, UNIT, split

# What tiles are told, in 8-byte fields, see recurrent_code; a step has these behind its own.
STEP_FIELDS = ("w", "split", "ahead")
WEIGHTS = ("w", "packed", "width")
STATES = ("state", "ahead", "rows", "width")


def step_bytes(shape: Shape) -> int:
    """Bytes of a panel's tiles in one step along k."""
    return 2 * shape.parts * TILE


def steps_of(width: Value) -> Value:
    """Steps along k of one gate."""
    return (width + (STEP - 1)) / STEP


def write_products(module: Module, shape: Shape) -> None:
    """Writes the functions of products that the stages below call."""
    split(module, "split_a", shape, lanes_first=True)
    split(module, "split_b", shape, lanes_first=False)
    multiply(module, shape, 0)
    finish(module, shape)
    finite(module, shape)
    module.pointer("block")


def write_weights(module: Module, shape: Shape, gates: int, back: bool) -> None:
    """Writes `matrix_weights(job, tile, workspace)`: packs w (gates * H, H) for 32 units: a panel
    for each gate, or one for the state's gradient.
    """
    f = module.function("matrix_weights", job="ptr", tile="i64", workspace="ptr")
    w, packed = (f.load("ptr", f["job"], WEIGHTS.index(name)) for name in ("w", "packed"))
    width = f.load("i64", f["job"], WEIGHTS.index("width"))
    unit, size = f["tile"] * SIDE, steps_of(width) * step_bytes(shape)
    count = f.minimum(width - unit, SIDE)
    one = f.constant("i64", 1)
    for gate in range(gates):
        to = f.at(packed, (f["tile"] * gates + gate) * size)
        if back:
            source, lane, step = f.at(w, width * width * gate + unit, shape.type), one, width
        else:
            source, lane, step = f.at(w, (width * gate + unit) * width, shape.type), width, one
        f.call("void", "split_b", source, lane, step, count, width, to, f["workspace"])
    f.ret()


def write_states(module: Module, shape: Shape) -> None:
    """Writes `matrix_states(job, tile, workspace)`: cuts 32 rows of a state (N, H)."""
    f = module.function("matrix_states", job="ptr", tile="i64", workspace="ptr")
    state, ahead = (f.load("ptr", f["job"], STATES.index(name)) for name in ("state", "ahead"))
    rows, width = (f.load("i64", f["job"], STATES.index(name)) for name in ("rows", "width"))
    row = f["tile"] * SIDE
    split_rows(
        f, shape, f.at(state, row * width, shape.type), width, f.minimum(rows - row, SIDE), width,
        f.at(ahead, f["tile"] * steps_of(width) * step_bytes(shape)), f["workspace"],
    )  # fmt: skip
    f.ret()


def split_rows(
    f: Function, shape: Shape, source: Value, row: Value, count: Value, depth: Value, to: Value,
    space: Value,
) -> None:  # fmt: skip
    """Packs `count` rows of `depth` numbers, at most 32."""
    f.call("void", "split_a", source, row, f.constant("i64", 1), count, depth, to, space)


def add_product(
    f: Function, shape: Shape, job: dict[str, Value], gates: int, back: bool,
    place: tuple[Value, ...], sums: tuple[Value, int, int], space: Value,
) -> None:  # fmt: skip
    """Adds the product of m rows of states from r0 on and the weights of n units from u0 on.

    place   u0, r0, n and m
    sums    the block, the numbers in a row of it, and those of a gate
    """
    u0, r0, n, m = place
    block, row, group = sums
    width, columns = job["width"], 1 if back else gates
    steps = steps_of(width) * (gates if back else 1)
    size = steps * step_bytes(shape)
    configure(f)
    with f.loop(0, m, SIDE) as i, f.loop(0, n, SIDE) as j, f.loop(0, columns) as gate:
        a = f.at(job["split"], (r0 + i) / SIDE * size)
        b = f.at(job["packed"], ((u0 + j) / SIDE * columns + gate) * size)
        made = panel_product(f, shape, a, b, steps, ((m - i) > UNIT, (n - j) > UNIT))
        c = f.at(block, i * row + gate * group + j, shape.type)
        left = f.minimum(m - i, SIDE), f.minimum(n - j, SIDE)
        one, zero = f.constant("i64", 1), f.constant("i64", 0)
        factor, null = f.constant(shape.type, 1), Value(f, "ptr", "null")
        c_row = f.constant("i64", row)
        whole = f.call("i1", "finite", made)
        with f.when(whole):
            f.call("void", "finish", made, c, c_row, *left, factor, one, zero, null)
        with f.when(whole.equals(0)):  # by vector units, see gemm
            b_row, b_col = (width, one) if back else (one, width)
            w = f.at(job["w"], u0 + j if back else (gate * width + u0 + j) * width, shape.type)
            state = f.at(job["state"], (r0 + i) * job["depth"], shape.type)
            by_vectors = f.load("ptr", Value(f, "ptr", "@block"))
            f.call(
                "void", by_vectors, state, job["depth"], one, w, b_row, b_col, made,
                f.constant("i64", SIDE), c, c_row, *left, job["depth"], factor, one, zero, null,
                f.constant("i64", DEPTH), one, f.constant("i64", BEFORE), space,
            )  # fmt: skip
    f.call("void", "llvm.x86.tilerelease")


def panel_product(
    f: Function, shape: Shape, a: Value, b: Value, steps: Value, more: tuple[Value, Value]
) -> Value:
    """The sums of a panel of states and one of weights, 32 x 32, in a buffer; `more` says whether
    there are over 16 rows and columns.
    """
    made = f.buffer(SUMS)
    zero, null = f.constant("i64", 0), Value(f, "ptr", "null")
    nothing = null, null, zero, zero, zero, f.constant(shape.type, 1), zero, zero, null
    with f.loop(0, steps, DEPTH // STEP) as step:
        start = step * step_bytes(shape)
        count = f.minimum(steps - step, DEPTH // STEP)
        f.call(
            "void", "multiply_0", f.at(a, start), f.at(b, start), count, made, step.equals(0),
            *more, null, zero, null, *nothing,
        )  # fmt: skip
    return made


def split_ahead(
    f: Function, shape: Shape, job: dict[str, Value], gates: int, made: Value,
    place: tuple[Value, ...], space: Value,
) -> None:  # fmt: skip
    """Cuts what this tile made of the next step's state, (N, gates * H), if there is a next step;
    `made` is where its first unit is.
    """
    u0, r0, n, m = place
    width = job["width"]
    size = steps_of(width) * step_bytes(shape)  # of a gate
    with f.when(f.convert("ptrtoint", job["ahead"], "i64").differs(0)):
        with f.loop(0, m, SIDE) as i, f.loop(0, gates) as gate:
            to = (r0 + i) / SIDE * gates + gate
            source = f.at(made, i * (width * gates) + gate * width, shape.type)
            split_rows(
                f, shape, source, width * gates, f.minimum(m - i, SIDE), n,
                f.at(job["ahead"], to * size + u0 / STEP * step_bytes(shape)), space,
            )  # fmt: skip
