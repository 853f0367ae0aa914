"""Attention: softmax(q k^T / sqrt(d)) v, and its form with several heads and projections. May
import rules, earlier families, core and the base.

The fused record goes through the scores block by block, so no (queries x keys) matrix of the whole
batch is ever in memory; it keeps the rows' largest scores and sums, from which the backward pass
makes the blocks again. After FlashAttention (Dao et al., 2022).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.graph import DIRECT, GENERAL, STATE
from ..core.op import Op
from ..core.tensor import Tensor, wrap
from ..errors import check
from .large import engine
from .matmul import SCALAR_NAMES
from .rules import EXPORTS, batch_elementwise, wide

FUNCTIONAL = EXPORTS["nn.functional"]
BLOCK_BYTES = 1 << 22
KEPT_MASK = 1 << 12  # elements of a causal mask that is kept for the next call

# -- the kernels -------------------------------------------------------------------------------


def blocks(dims: tuple[int, ...], row: int) -> Iterator[tuple[slice, ...]]:
    """Slices of `dims` = (*batch, queries) whose rows of `row` bytes fit into `BLOCK_BYTES`."""
    if math.prod(dims) * row <= BLOCK_BYTES:
        yield (slice(None),) * len(dims)
        return
    axis, inside = len(dims), row
    while axis and inside * dims[axis - 1] <= BLOCK_BYTES:
        axis -= 1
        inside *= dims[axis]
    count = max(BLOCK_BYTES // max(inside, 1), 1)
    for outer in np.ndindex(*dims[: axis - 1]):
        for first in range(0, dims[axis - 1], count):
            lead = [slice(i, i + 1) for i in outer]
            yield (*lead, slice(first, first + count), *[slice(None)] * (len(dims) - axis))


def spread_out(q: ndarray, k: ndarray, v: ndarray, mask: ndarray | None) -> tuple:
    """All with the same batch dimensions, as views; half precision in float32."""
    q, k, v = wide(q), wide(k), wide(v)
    batch = q.shape[:-2]
    if not batch == k.shape[:-2] == v.shape[:-2] or mask is not None:
        batch = np.broadcast_shapes(
            batch, k.shape[:-2], v.shape[:-2], mask.shape[:-2] if mask is not None else ()
        )
        q, k, v = (np.broadcast_to(a, (*batch, *a.shape[-2:])) for a in (q, k, v))
    if mask is not None:
        mask = mask if mask.dtype.kind == "b" else mask.astype(q.dtype, copy=False)
        mask = np.broadcast_to(mask, (*batch, q.shape[-2], k.shape[-2]))
    return q, k, v, mask


@functools.lru_cache(256)
def unseen(queries: int, keys: int) -> ndarray:
    """Which keys come after each query."""
    later = np.arange(queries)[:, None] < np.arange(keys)
    later.flags.writeable = False
    return later


def scores(
    q: ndarray, k: ndarray, mask: ndarray | None, at: tuple, scale: float, is_causal: bool
) -> ndarray:
    """The masked scores of a block of queries, (..., queries, keys)."""
    s = np.matmul(q[at], k[at[:-1]].swapaxes(-1, -2))
    s *= scale
    if is_causal:
        if s.shape[-2] * s.shape[-1] <= KEPT_MASK and s.shape[-2] == q.shape[-2]:
            later = unseen(*s.shape[-2:])
        else:
            later = np.arange(q.shape[-2])[at[-1]][:, None] < np.arange(k.shape[-2])
        np.copyto(s, -np.inf, where=later)
    if mask is not None:
        if mask.dtype.kind == "b":
            np.copyto(s, -np.inf, where=~mask[at])
        else:
            s += mask[at]
    return s


LARGE = 1 << 16  # multiplications in the scores from which compiled kernels are faster


def large_attention(
    q: ndarray, k: ndarray, v: ndarray, mask: ndarray | None, scale: float, is_causal: bool
) -> tuple[ndarray, ndarray, ndarray] | None:
    """`attention_kernel` by compiled kernels where they are faster, else None."""
    if q.dtype != np.float32 or q.size * k.shape[-2] < LARGE:
        return None
    compiler = engine("attention")
    return None if compiler is None else compiler.attend(q, k, v, mask, scale, is_causal)


def large_attention_gradient(
    g: ndarray, q: ndarray, k: ndarray, v: ndarray, mask: ndarray | None,
    y: ndarray, largest: ndarray, total: ndarray, scale: float, is_causal: bool,
) -> list | None:  # fmt: skip
    """The gradients of q, k and v, and None for the mask's, by compiled kernels; or None."""
    if q.dtype != np.float32 or g.dtype != q.dtype or q.size * k.shape[-2] < LARGE:
        return None
    compiler = engine("attention")
    if compiler is None:
        return None
    results = y, largest, total
    made = compiler.attend_back(g, q, k, v, mask, *results, scale, is_causal)
    return None if made is None else [*made, None]


def attention_kernel(
    q: ndarray, k: ndarray, v: ndarray, mask: ndarray | None, scale: float, is_causal: bool
) -> tuple[ndarray, ndarray, ndarray]:
    """The weighted values (..., L, D); each query's largest score and sum of exponentials (..., L).

    A query that sees nothing gives zeros.
    """
    made = large_attention(q, k, v, mask, scale, is_causal)
    if made is not None:
        return made
    given = q.dtype
    q, k, v, mask = spread_out(q, k, v, mask)
    y = np.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    largest, total = np.empty(q.shape[:-1], q.dtype), np.empty(q.shape[:-1], q.dtype)
    for at in blocks(q.shape[:-1], k.shape[-2] * q.itemsize):
        s = scores(q, k, mask, at, scale, is_causal)
        top = np.maximum.reduce(s, -1, keepdims=True, initial=-np.inf)
        top[top == -np.inf] = 0
        s -= top
        np.exp(s, out=s)
        sums = np.add.reduce(s, -1, keepdims=True)
        sums[sums == 0] = 1
        np.divide(np.matmul(s, v[at[:-1]]), sums, out=y[at])
        largest[at], total[at] = top[..., 0], sums[..., 0]
    return y.astype(given, copy=False), largest, total


def attention_gradient_kernel(
    g: ndarray, q: ndarray, k: ndarray, v: ndarray, mask: ndarray | None,
    y: ndarray, largest: ndarray, total: ndarray,
    scale: float, is_causal: bool, needs: tuple,
) -> list:  # fmt: skip
    """The gradients of q, k, v and a floating mask, from scores made again block by block."""
    if not needs[3]:
        made = large_attention_gradient(g, q, k, v, mask, y, largest, total, scale, is_causal)
        if made is not None:
            return made
    given = q.dtype
    q, k, v, mask = spread_out(q, k, v, mask)
    g = g.astype(q.dtype, copy=False)
    gq, gk, gv = np.empty(q.shape, q.dtype), np.zeros(k.shape, q.dtype), np.zeros(v.shape, q.dtype)
    gm = np.empty((*q.shape[:-1], k.shape[-2]), q.dtype) if needs[3] else None
    for at in blocks(q.shape[:-1], 2 * k.shape[-2] * q.itemsize):
        keys = at[:-1]
        p = scores(q, k, mask, at, scale, is_causal)
        p -= largest[at][..., None]
        np.exp(p, out=p)
        p /= total[at][..., None]
        gv[keys] += np.matmul(p.swapaxes(-1, -2), g[at])
        gp = np.matmul(g[at], v[keys].swapaxes(-1, -2))
        own = np.einsum("...k,...k->...", gp, p)  # exactly gp where a query sees one key only
        gp -= own[..., None]
        gp *= p
        if gm is not None:
            gm[at] = gp
        gp *= scale
        gq[at] = np.matmul(gp, k[keys])
        gk[keys] += np.matmul(gp.swapaxes(-1, -2), q[at])
    return [None if a is None else a.astype(given, copy=False) for a in (gq, gk, gv, gm)]


# -- the record --------------------------------------------------------------------------------


def masked_scores(
    q: Tensor, k: Tensor, mask: Tensor | None, scale: float, is_causal: bool
) -> Tensor:
    """The scores in public operators."""
    s = (q * scale) @ k.mT
    if is_causal:
        seen = EXPORTS["torch"]["ones"](
            s._data.shape[-2], s._data.shape[-1], dtype=dtypes.bool
        ).tril()
        s = s.masked_fill(~seen, -math.inf)
    if mask is not None:
        s = s.masked_fill(~mask, -math.inf) if mask._data.dtype.kind == "b" else s + mask
    return s


def safe_softmax(s: Tensor) -> Tensor:
    """The softmax of each row; zeros where all scores are -inf."""
    if STATE.mode != GENERAL and not (s._data.max(-1, initial=-np.inf) == -np.inf).any():
        return s.softmax(-1)
    blind = (s == -math.inf).all(-1, keepdim=True)
    return s.masked_fill(blind, 0).softmax(-1).masked_fill(blind, 0)


def attention_gradient(g, q, k, v, mask, y, largest, total, scale, is_causal, needs):  # type: ignore[no-untyped-def]
    """The gradients: fast on arrays, or with public operators where they are recorded."""
    if STATE.mode == DIRECT:
        tensors = (g, q, k, v, mask, y, largest, total)
        g, q, k, v, mask, y, largest, total = [None if t is None else t._data for t in tensors]
        grads = attention_gradient_kernel(
            g, q, k, v, mask, y, largest, total, scale, is_causal, needs
        )
        return [None if a is None else wrap(a) for a in grads]
    if not STATE.grad and not needs[3]:  # recorded, but not to be differentiated in turn
        saved = y, largest, total
        params = {"scale": scale, "is_causal": is_causal}
        return [*apply(ATTENTION_GRADIENT, g, q, k, v, mask, *saved, **params), None]
    p = safe_softmax(masked_scores(q, k, mask, scale, is_causal))
    gp = g @ v.mT
    gs = p * (gp - (gp * p).sum(-1, keepdim=True))
    return [gs @ k * scale, gs.mT @ q * scale, p.mT @ g, gs if needs[3] else None]


def attention_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Batch dimensions join those that attention has anyway."""
    return batch_elementwise(size, values, dims, params, op)[0], (0, 0, 0)


ATTENTION = Op(
    "scaled_dot_product_attention",
    ("q", "k", "v", "mask"),
    attention_kernel,
    kind="fused",
    vjp=attention_gradient,
    batch=attention_batch,
    outputs=("y", "largest", "total"),
    constant_outputs=("largest", "total"),
    grad_name="ScaledDotProductFlashAttentionForCpuBackward0",
    autocast="lower",
)

ATTENTION_GRADIENT = Op(
    "scaled_dot_product_attention_gradient",
    ("g", "q", "k", "v", "mask", "y", "largest", "total"),
    lambda g, q, k, v, mask, y, largest, total, scale, is_causal: tuple(
        attention_gradient_kernel(
            g, q, k, v, mask, y, largest, total, scale, is_causal, (True, True, True, False)
        )[:3]
    ),
    kind="fused",
    outputs=("gq", "gk", "gv"),
)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`softmax(query @ key.mT * scale + mask) @ value`: (*, L, E), (*, S, E), (*, S, D) -> (*, L,
    D).

    A boolean mask says what is seen, a floating one is added; `is_causal` lets query i see keys up
    to i. The scale is 1 / sqrt(E) unless given. `enable_gqa` lets groups of query heads share a key
    head. A query that sees nothing gives zeros. Raises RuntimeError where types, ranks or sizes do
    not fit.
    """
    check_attention(query, key, value, attn_mask, is_causal)
    factor = 1 / math.sqrt(max(query._data.shape[-1], 1)) if scale is None else float(scale)
    if enable_gqa and query._data.shape[-3] != key._data.shape[-3]:
        return grouped_attention(query, key, value, attn_mask, dropout_p, is_causal, factor)
    if dropout_p > 0:
        p = safe_softmax(masked_scores(query, key, attn_mask, factor, is_causal))
        return FUNCTIONAL["dropout"](p, dropout_p) @ value
    return apply(ATTENTION, query, key, value, attn_mask, scale=factor, is_causal=bool(is_causal))[
        0
    ]


def grouped_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float,
) -> Tensor:
    """Attention in which several query heads (*, H, L, E) share each key head (*, K, S, E)."""
    heads, kept = q._data.shape[-3], k._data.shape[-3]
    check(
        heads % kept == 0,
        lambda: (
            "[scaled_dot_product_attention] Number of heads in key and value must divide the "
            f"number of heads in query, got {kept} and {heads}"
        ),
    )
    if mask is not None and mask._data.ndim > 2:
        mask = (
            mask.unflatten(-3, (kept, -1)) if mask._data.shape[-3] == heads else mask.unsqueeze(-3)
        )
    q = q.unflatten(-3, (kept, heads // kept))  # (*, K, H / K, L, E)
    y = scaled_dot_product_attention(
        q, k.unsqueeze(-3), v.unsqueeze(-3), mask, dropout_p, is_causal, scale
    )
    return y.flatten(-4, -3)


def check_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> None:
    """Raises RuntimeError for arguments that do not go together."""
    a, b, c = q._data, k._data, v._data
    if min(a.ndim, b.ndim, c.ndim) < 2:
        raise RuntimeError(
            "Expected query, key, and value to all be  at least 2 dimensional, but got query.dim: "
            f"{a.ndim} key.dim: {b.ndim} and value.dim: {c.ndim} instead."
        )
    if not a.dtype == b.dtype == c.dtype and STATE.autocast is None:
        names = [SCALAR_NAMES.get(t.dtype.name, t.dtype.name) for t in (q, k, v)]
        raise RuntimeError(
            "Expected query, key, and value to have the same dtype, but got query.dtype: "
            f"{names[0]} key.dtype: {names[1]} and value.dtype: {names[2]} instead."
        )
    if a.shape[-1] != b.shape[-1] or b.shape[-2] != c.shape[-2]:
        raise RuntimeError(
            "[scaled_dot_product_attention] expects query (*, L, E), key (*, S, E) and value (*, "
            f"S, D), got {tuple(a.shape)}, {tuple(b.shape)} and {tuple(c.shape)}"
        )
    if mask is not None:
        check(
            not is_causal,
            "_scaled_dot_product_attention: Explicit attn_mask should not be set when "
            "is_causal=True",
        )
        check(
            mask._data.dtype.kind == "b" or mask.is_floating_point(),
            lambda: (
                "Expected attn_mask dtype to be bool or float or to match query dtype, but got "
                f"attn_mask.dtype: {SCALAR_NAMES.get(mask.dtype.name)} and  query.dtype: "
                f"{SCALAR_NAMES.get(q.dtype.name, q.dtype.name)} instead."
            ),
        )


FUNCTIONAL["scaled_dot_product_attention"] = scaled_dot_product_attention
