"""What matrices and batches a job of `gemm` is told of, from layouts. Imports gemm and stages."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from ...errors import check
from ..native.stages import Layout
from .gemm import BATCH_DIMS, JOB


def descriptions(
    a: Layout, b: Layout, out: Layout, *, alpha: float = 1.0, accumulate: bool = False,
    relu: bool = False, fold: bool = True,
) -> Iterator[dict[str, int]]:  # fmt: skip
    """The fields of the jobs that make `out` together: one, unless there are more dimensions of
    batches than a job describes.
    """
    sizes, strides, (m, k, n) = arranged(a, b, out, fold)
    outer = max(len(sizes) - BATCH_DIMS, 0)
    pattern = "<d" if a.dtype == "float64" else "<fxxxx"
    (bits,) = struct.unpack("<q", struct.pack(pattern, alpha))
    fields = dict.fromkeys(JOB, 0) | {"m": m, "k": k, "n": n, "alpha": bits}
    fields |= {"accumulate": int(accumulate), "relu": int(relu)}
    for name, own in zip("abc", strides, strict=True):
        fields |= {f"{name}_row": own[-2], f"{name}_col": own[-1]}
    fields |= describe_batches(sizes[outer:], [s[outer:-2] for s in strides])
    for offsets in starts(sizes[:outer], strides):
        names = ("a_offset", "b_offset", "c_offset")
        yield fields | dict(zip(names, offsets, strict=True))


def arranged(
    a: Layout, b: Layout, out: Layout, fold: bool
) -> tuple[list[int], list[list[int]], tuple[int, int, int]]:
    """The sizes of batches, the strides of a, b and out, and M, K and N.

    With `fold`, batches that share b become rows where the strides allow it.
    """
    (m, k), n = a.shape[-2:], b.shape[-1]
    lead = out.shape[:-2]
    steps = [spread(a, lead), spread(b, lead), spread(out, lead)]
    if fold and not any(steps[1]):
        rows = [[*s, x.strides[-2]] for s, x in zip((steps[0], steps[2]), (a, out), strict=True)]
        sizes, (of_a, of_c) = merge((*lead, m), [tuple(r) for r in rows])
        if not sizes or m == 1 or sizes[-1] % m == 0:
            m = sizes.pop() if sizes else 1
            row_a, row_c = (s.pop() if s else 0 for s in (of_a, of_c))
            ends = [[row_a, a.strides[-1]], list(b.strides[-2:]), [row_c, out.strides[-1]]]
            starts = [of_a, [0] * len(sizes), of_c]
            return sizes, joined(starts, ends, (m, k, n)), (m, k, n)
    sizes, merged = merge(lead, [tuple(s) for s in steps])
    ends = [list(x.strides[-2:]) for x in (a, b, out)]
    return sizes, joined(merged, ends, (m, k, n)), (m, k, n)


def joined(
    batches: list[list[int]], ends: list[list[int]], extent: tuple[int, int, int]
) -> list[list[int]]:
    """Strides of batches, rows and columns; a stride over one element says that elements lie side
    by side, which is read fastest.
    """
    m, k, n = extent
    for row_and_column, columns in zip(ends, (k, n, n), strict=True):
        if columns <= 1:
            row_and_column[1] = 1
    return [[*batch, *end] for batch, end in zip(batches, ends, strict=True)]


def spread(x: Layout, lead: tuple[int, ...]) -> list[int]:
    """The strides of batches broadcast to the sizes `lead`; raises ValueError if they do not."""
    own, strides = x.shape[:-2], x.strides[:-2]
    missing = len(lead) - len(own)
    fits = missing >= 0 and all(
        s in (1, t) for s, t in zip(own, lead[max(missing, 0) :], strict=False)
    )
    check(
        fits,
        lambda: f"[matmul] expects batches that broadcast to {lead}, got {own}",
        ValueError,
    )
    return [0] * missing + [0 if n == 1 else s for n, s in zip(own, strides, strict=True)]


def starts(sizes: Sequence[int], strides: list[list[int]]) -> list[tuple[int, int, int]]:
    """The elements at which the operands of each call begin: one call, unless there are more
    dimensions of batches than a job describes.
    """
    found = [(0, 0, 0)]
    for d, size in enumerate(sizes):
        found = [
            (x + i * strides[0][d], y + i * strides[1][d], z + i * strides[2][d])
            for x, y, z in found
            for i in range(size)
        ]
    return found


def describe_batches(sizes: Sequence[int], strides: Sequence[Sequence[int]]) -> dict[str, int]:
    """The fields of a job that say how batches lie."""
    padding = BATCH_DIMS - len(sizes)
    fields = {"batches": 1}
    for d in range(BATCH_DIMS):
        size = sizes[d - padding] if d >= padding else 1
        fields[f"size{d}"] = size
        fields["batches"] *= size
        for name, own in zip("abc", strides, strict=True):
            fields[f"{name}_batch{d}"] = own[d - padding] if d >= padding else 0
    return fields


def merge(
    sizes: tuple[int, ...], strides: list[tuple[int, ...]]
) -> tuple[list[int], list[list[int]]]:
    """The dimensions with those of one element dropped, and neighbours joined that all operands
    move through in one stride.
    """
    shape: list[int] = []
    merged: list[list[int]] = [[] for _ in strides]
    for d, size in enumerate(sizes):
        if size == 1:
            continue
        joins = shape and all(m[-1] == s[d] * size for m, s in zip(merged, strides, strict=True))
        if joins:
            shape[-1] *= size
        else:
            shape.append(size)
        for m, s in zip(merged, strides, strict=True):
            m[-1 if joins else len(m) :] = [s[d]]
    return shape, merged
