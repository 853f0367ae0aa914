"""Scaled dot-product attention as stages: what eager operators and compiled programs call. Imports
attention_code, gemm, stages and earlier files.

No (queries x keys) matrix is ever in memory: going forward each query's largest score and sum of
exponentials are kept, from which the way back makes the scores again, block by block.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy import ndarray

from ...errors import check
from ..native import runtime, stages
from ..native.stages import Call, Layout
from .attention_code import ADDED, JOB, NONE, QUERIES, SEEN, write_backward, write_forward
from .gemm import BATCH_DIMS, DEPTH, kernels
from .gemm_pack import shape_for
from .product import aligned
from .product_jobs import merge, spread


@cache
def native(target: runtime.Target | None = None) -> runtime.Native:
    """The compiled kernels."""
    shape = shape_for(target or runtime.host(), "float32")._replace(parts=0)  # short products
    module = kernels(shape)
    write_forward(module, shape)
    write_backward(module, shape)
    return runtime.load(module.text(), target)


@cache
def attention_calls(
    q: Layout,
    k: Layout,
    v: Layout,
    mask: Layout | None,
    y: Layout,
    *,
    scale: float,
    causal: bool = False,
    target: runtime.Target | None = None,
) -> tuple[Call, ...]:
    """The calls of `y = softmax(q @ k.T * scale + mask) @ v`, float32: (..., L, E), (..., S, E),
    (..., S, D), a mask that broadcasts to (..., L, S), and (..., L, D).

    Rows have their elements side by side; all else may be strided, and batches broadcast to y's.
    The mask is float32 and added, or bool and says what is seen; `causal` hides later keys from a
    query. A query that sees nothing gives zeros.

    Operands of the calls: q, k, v, the mask if there is one, y, and two arrays (..., L) with
    elements side by side, for each query's largest score and sum of exponentials. Raises ValueError
    for layouts that do not fit or are not supported (E or D above 144).
    """
    fields = describe({"q": q, "k": k, "v": v, "y": y}, mask, scale, causal)
    blocks = -(-fields["queries"] // fields["step"])
    names = ("q", "k", "v", *(["mask"] if mask else []), "y", "largest", "total")
    tiles = fields["batches"] * blocks
    name = f"attention {fields['queries']}x{fields['keys']}x{fields['e']} forward"
    return made(native(target).address("forward"), fields | {"blocks": blocks}, names, tiles, name)


@cache
def attention_gradient_calls(
    g: Layout,
    q: Layout,
    k: Layout,
    v: Layout,
    mask: Layout | None,
    y: Layout,
    dq: Layout,
    dk: Layout,
    dv: Layout,
    *,
    scale: float,
    causal: bool = False,
    target: runtime.Target | None = None,
) -> tuple[Call, ...]:
    """The calls of the gradients of q, k and v from y's gradient g and what `attention_calls` left.

    The gradients have all the batches of y: where an input was broadcast, they are still to be
    summed. Operands: g, q, k, v, the mask if there is one, y, largest, total, dq, dk, dv.
    """
    matrices = {"q": q, "k": k, "v": v, "y": y, "g": g, "dq": dq, "dk": dk, "dv": dv}
    fields = describe(matrices, mask, scale, causal)
    for name, like in (("g", y), ("dq", q), ("dk", k), ("dv", v)):
        shape = (*y.shape[:-2], *like.shape[-2:])
        check(
            matrices[name].shape == shape,
            lambda n=name, s=shape: (
                f"[attention] expects {n} of shape {s}, got {matrices[n].shape}"
            ),
            ValueError,
        )
    names = ("g", "q", "k", "v", *(["mask"] if mask else []), "y", "largest", "total")
    name = f"attention {fields['queries']}x{fields['keys']}x{fields['e']} backward"
    address = native(target).address("backward")
    return made(address, fields, (*names, "dq", "dk", "dv"), fields["batches"], name)


def made(
    function: int, fields: dict[str, int], names: tuple[str, ...], tiles: int, name: str
) -> tuple[Call, ...]:
    """The call with these fields and operands; none where there is nothing to do."""
    if tiles == 0:
        return ()
    job = struct.pack(f"<{len(JOB)}q", *(fields.get(field, 0) for field in JOB))
    pointers = tuple((8 * JOB.index(operand), i) for i, operand in enumerate(names))
    return (Call(function, job, tiles, pointers, name),)


def describe(
    matrices: dict[str, Layout], mask: Layout | None, scale: float, causal: bool
) -> dict[str, int]:
    """The fields of the job; raises ValueError for layouts that do not go together."""
    q, k, v, y = (matrices[x] for x in "qkvy")
    ranks = min(len(x.shape) for x in matrices.values())
    check(
        ranks >= 2
        and q.shape[-1] == k.shape[-1]
        and k.shape[-2] == v.shape[-2]
        and y.shape[-2:] == (q.shape[-2], v.shape[-1]),
        lambda: (
            "[attention] expects (..., L, E), (..., S, E), (..., S, D) and (..., L, D), got "
            f"{q.shape}, {k.shape}, {v.shape} and {y.shape}"
        ),
        ValueError,
    )
    (queries, e), (keys, d) = q.shape[-2:], v.shape[-2:]
    check(
        keys > 0 and 0 < e <= DEPTH and 0 < d <= DEPTH,
        lambda: (
            f"[attention] expects 1 to {DEPTH} features and some keys, got {q.shape}, {v.shape}"
        ),
        ValueError,
    )
    plain = all(x.strides[-1] == 1 or x.shape[-1] == 1 for x in matrices.values())
    check(
        plain and all(x.dtype == "float32" for x in matrices.values()),
        "[attention] expects float32 with the elements of a row side by side; use .contiguous()",
        ValueError,
    )
    (bits,) = struct.unpack("<q", struct.pack("<fxxxx", scale))
    fields = {"queries": queries, "keys": keys, "e": e, "d": d, "scale": bits}
    step = QUERIES
    if causal:  # short blocks, for fewer scores beside the diagonal that nobody needs
        step = QUERIES // 4 if queries <= 4 * QUERIES else QUERIES // 2
    fields |= {"causal": int(causal), "step": step, "mask_kind": NONE}
    fields |= {f"{name}_row": x.strides[-2] for name, x in matrices.items()}
    lead = y.shape[:-2]
    steps = {name: spread(x, lead) for name, x in matrices.items()}
    if mask is not None:
        row, column, steps["mask"] = mask_strides(mask, lead, (queries, keys))
        kind = SEEN if mask.dtype == "bool" else ADDED
        fields |= {"mask_kind": kind, "mask_row": row, "mask_col": column}
    return fields | batch_fields(lead, steps)


def mask_strides(
    mask: Layout, lead: tuple[int, ...], extent: tuple[int, int]
) -> tuple[int, int, list[int]]:
    """The strides of queries, keys and batches; 0 where the mask is broadcast."""
    check(
        mask.dtype in ("bool", "float32"),
        lambda: f"[attention] expects a mask of bool or float32, got {mask.dtype}; convert it",
        ValueError,
    )
    shape = (1, 1, *mask.shape)[-max(len(mask.shape), 2) :]
    strides = (0, 0, *mask.strides)[-max(len(mask.shape), 2) :]
    ends = [0 if n == 1 else s for n, s in zip(shape[-2:], strides[-2:], strict=True)]
    fits = all(n in (1, m) for n, m in zip(shape[-2:], extent, strict=True))
    check(
        fits,
        lambda: f"[attention] expects a mask that broadcasts to {extent}, got {mask.shape}",
        ValueError,
    )
    return ends[0], ends[1], spread(Layout(shape, strides, mask.dtype), lead)


def batch_fields(lead: tuple[int, ...], steps: dict[str, list[int]]) -> dict[str, int]:
    """The fields that say how batches lie."""
    sizes, merged = merge(lead, [tuple(s) for s in steps.values()])
    check(
        len(sizes) <= BATCH_DIMS,
        lambda: f"[attention] expects at most {BATCH_DIMS} dimensions of batches, got {sizes}",
        ValueError,
    )
    padding = BATCH_DIMS - len(sizes)
    fields = {"batches": 1}
    for i in range(BATCH_DIMS):
        size = sizes[i - padding] if i >= padding else 1
        fields[f"size{i}"] = size
        fields["batches"] *= size
        for name, own in zip(steps, merged, strict=True):
            fields[f"{name}_batch{i}"] = own[i - padding] if i >= padding else 0
    return fields


# -- for eager operators -----------------------------------------------------------------------


def run(calls: tuple[Call, ...], arrays: Sequence[ndarray | None]) -> None:
    """Runs the calls on the arrays, those that are None left out."""
    stages.run(calls, [x.ctypes.data for x in arrays if x is not None])


def empty(shape: tuple[int, ...], like: ndarray) -> ndarray:
    """A new array, with its dimensions in the order in memory that they have in `like`."""
    if shape == like.shape and like.strides[-1] == like.itemsize:
        return np.empty_like(like)
    return np.empty(shape, like.dtype)


def layout(x: ndarray | None) -> Layout | None:
    """The layout of an array."""
    return None if x is None else Layout.of(x)


def usable(*arrays: ndarray | None) -> bool:
    """Whether kernels are made for such arrays; what layouts do not tell is checked here."""
    given = [x for x in arrays if x is not None]
    matrices = [x for x in given if x.dtype.name == "float32"]
    return all(aligned(x) for x in given) and all(
        x.shape[-1] == 1 or x.strides[-1] == x.itemsize for x in matrices
    )


def attend(
    q: ndarray, k: ndarray, v: ndarray, mask: ndarray | None, scale: float, causal: bool
) -> tuple[ndarray, ndarray, ndarray] | None:
    """`softmax(q @ k.T * scale + mask) @ v`, and each query's largest score and sum of
    exponentials; None where no kernel is made for the arrays.
    """
    if not usable(q, k, v):
        return None
    masks = () if mask is None else mask.shape[:-2]
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2], masks)
    y = empty((*lead, q.shape[-2], v.shape[-1]), q)
    largest, total = np.empty(y.shape[:-1], y.dtype), np.empty(y.shape[:-1], y.dtype)
    layouts = (*map(Layout.of, (q, k, v)), layout(mask), Layout.of(y))
    try:
        calls = attention_calls(*layouts, scale=scale, causal=causal)
    except ValueError:
        return None
    run(calls, (q, k, v, mask, y, largest, total))
    return y, largest, total


def attend_back(
    g: ndarray, q: ndarray, k: ndarray, v: ndarray, mask: ndarray | None, y: ndarray,
    largest: ndarray, total: ndarray, scale: float, causal: bool,
) -> list[ndarray] | None:  # fmt: skip
    """The gradients of q, k and v, with all the batches of y; None where no kernel is made."""
    if g.strides[-1] != g.itemsize:
        g = np.ascontiguousarray(g)
    if not usable(g, q, k, v, y):
        return None
    lead = y.shape[:-2]
    gradients = [empty((*lead, *x.shape[-2:]), x) for x in (q, k, v)]
    layouts = (*map(Layout.of, (g, q, k, v)), layout(mask), *map(Layout.of, (y, *gradients)))
    try:
        calls = attention_gradient_calls(*layouts, scale=scale, causal=causal)
    except ValueError:
        return None
    largest, total = map(np.ascontiguousarray, (largest, total))
    run(calls, (g, q, k, v, mask, y, largest, total, *gradients))
    return gradients
