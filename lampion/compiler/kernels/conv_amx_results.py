"""How sums of a convolution on matrix units become results: bit by bit, while others are made.
Imports conv_code, emit, gemm_pack and gemm_split.

Matrix units work beside vector units. So the results of a block of outputs are written from the
sums of its first tiles while its next ones are multiplied: a queue of pieces, 16 positions of one
image by 16 outputs each, of which one is done after each product of tiles as long as any is ready.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ..native.emit import Function, Module, Value
from .conv_code import Numbers, fields
from .gemm_pack import interleaved
from .gemm_split import SIDE, UNIT

# A block of outputs whose results are written, in fields of 8 bytes; first addresses: of the sums,
# the table of where positions lie among them, the result, the bias, and per image the differences
# of results from themselves, which are NaN where one is not finite. `next` is the number of the
# next piece, `ready` how many may be done, `total` how many there are.
CLOSING = (
    "sums", "places", "y", "bias", "differences", "next", "ready", "total", "places_row", "y_image",
    "y_channel", "images", "count", "outputs",
)  # fmt: skip
ADDRESSES = 5


def slot(f: Function, closing: Value, name: str) -> Value:
    """The address of a field."""
    return f.at(closing, 8 * CLOSING.index(name))


def pieces(f: Function, kind: Numbers, closing: Value) -> Iterator[None]:
    """The instructions of the next piece, a few at a time."""
    c = fields(f, closing, CLOSING, ADDRESSES)
    lanes, number = kind.lanes, c["next"]
    f.store(number + 1, slot(f, closing, "next"))
    first = number % 2 * UNIT
    image, k = number / 2 % c["images"], number / 2 / c["images"] * lanes
    table = f.at(c["places"], image * c["places_row"] + k, "i32")
    sums = f.at(c["sums"], first, kind.type)
    square = []
    for lane in range(lanes):
        place = f.convert("sext", f.load("i32", table, lane), "i64")
        square.append(f.load(kind.vector, f.at(sums, place)))
        if lane % 4 == 3:
            yield
    for _ in range(lanes.bit_length() - 1):
        square = interleaved(f, square, lanes)
        yield
    y = f.at(c["y"], image * c["y_image"] + first * c["y_channel"] + k, kind.type)
    bias, left = f.at(c["bias"], first, kind.type), c["outputs"] - first
    mask = f.first_lanes(c["count"] - k, lanes)
    place = f.at(c["differences"], image * (4 * lanes))
    difference = f.load(kind.vector, place)
    for output, value in enumerate(square):
        difference = difference + (value - value)
        exists = f.splat(left > output, lanes)
        row = f.at(y, c["y_channel"] * output, kind.type)
        value = value + f.splat(f.load(kind.type, bias, output), lanes)
        f.masked_store(value, row, mask & exists)
        yield
    f.store(difference, place)


def write_results(module: Module, kind: Numbers) -> None:
    """Writes `results(closing)`, which does the next piece."""
    f = module.function("results", "void", True, closing="ptr")
    f.head += " noinline"
    deque(pieces(f, kind, f["closing"]), 0)
    f.ret()


def is_ready(f: Function, closing: Value) -> Value:
    """Whether a piece is ready."""
    next, ready = (f.load("i64", slot(f, closing, name)) for name in ("next", "ready"))
    return next < ready


def begin(
    f: Function, kind: Numbers, closing: Value, bias: Value, values: dict[str, Value]
) -> None:
    """Fills in the record of a block of outputs; the bias may be null."""
    lanes = kind.lanes
    has_bias = f.convert("ptrtoint", bias, "i64").differs(0)
    offsets = f.load("ptr", slot(f, closing, "bias"))
    start = f.select(has_bias, bias, offsets)
    for i in range(0, SIDE, lanes):
        mask = f.first_lanes(values["outputs"] - i, lanes) & f.splat(has_bias, lanes)
        value = f.masked_load(kind.vector, f.at(start, i, kind.type), mask)
        f.store(value, f.at(offsets, i, kind.type))
    differences = f.load("ptr", slot(f, closing, "differences"))
    with f.loop(0, values["images"]) as image:
        f.store(f.constant(kind.vector, 0), f.at(differences, image * (4 * lanes)))
    pieces = (values["count"] + (lanes - 1)) / lanes * values["images"] * 2
    zero = f.constant("i64", 0)
    for name, value in (values | {"next": zero, "ready": zero, "total": pieces}).items():
        f.store(value, slot(f, closing, name))


def make_ready(f: Function, closing: Value, chunks: Value) -> None:
    """Lets pieces be done, of so many times 16 positions."""
    images, total = (f.load("i64", slot(f, closing, name)) for name in ("images", "total"))
    f.store(f.minimum(chunks * images * 2, total), slot(f, closing, "ready"))


def finish(f: Function, closing: Value) -> None:
    """Does all pieces that are left."""
    next, total = (f.load("i64", slot(f, closing, name)) for name in ("next", "total"))
    with f.loop(next, total):
        f.call("void", "results", closing)


def is_finite(f: Function, kind: Numbers, closing: Value, image: Value) -> Value:
    """Whether all results of an image are finite."""
    differences = f.load("ptr", slot(f, closing, "differences"))
    difference = f.load(kind.vector, f.at(differences, image * (4 * kind.lanes)))
    return f.convert("bitcast", difference.differs(0.0), f"i{kind.lanes}").equals(0)
