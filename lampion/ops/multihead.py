"""Attention with several heads, projections and masks, as `nn.MultiheadAttention` needs it. May
import rules, attention, earlier families, core and the base.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from .attention import FUNCTIONAL, scaled_dot_product_attention
from .linear import linear
from .pad import pad
from .shape import cat

# -- shapes and masks --------------------------------------------------------------------------


def check_ranks(
    q: Tensor, k: Tensor, v: Tensor, keys_mask: Tensor | None, mask: Tensor | None, heads: int
) -> bool:
    """Whether the inputs have a batch dimension; raises AssertionError for ranks that do not go
    together.
    """
    ndim = q._data.ndim
    check(
        ndim in (2, 3),
        lambda: (
            f"query should be unbatched 2D or batched 3D tensor but received {ndim}-D query tensor"
        ),
        AssertionError,
    )
    kind = "batched" if ndim == 3 else "unbatched"
    check(
        k._data.ndim == v._data.ndim == ndim,
        lambda: (
            f"For {kind} ({ndim}-D) `query`, expected `key` and `value` to be {ndim}-D but found "
            f"{k._data.ndim}-D and {v._data.ndim}-D tensors respectively"
        ),
        AssertionError,
    )
    have = None if keys_mask is None else keys_mask._data.ndim
    check(
        have is None or have == ndim - 1,
        lambda: (
            f"For {kind} ({ndim}-D) `query`, expected `key_padding_mask` to be `None` or "
            f"{ndim - 1}-D but found {have}-D tensor instead"
        ),
        AssertionError,
    )
    rank = None if mask is None else mask._data.ndim
    check(
        rank in (None, 2, 3),
        lambda: (
            f"For {kind} ({ndim}-D) `query`, expected `attn_mask` to be `None`, 2-D or 3-D but "
            f"found {rank}-D tensor instead"
        ),
        AssertionError,
    )
    if ndim == 2 and mask is not None and mask._data.ndim == 3:
        expected = (heads, q._data.shape[0], k._data.shape[0])
        check(
            mask._data.shape == expected,
            lambda: f"Expected `attn_mask` shape to be {expected} but got {mask.shape}",
            AssertionError,
        )
    return ndim == 3


def batch_of_one(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(L, E) as (L, 1, E) each; what was one tensor stays one."""
    query = q.unsqueeze(1)
    key = query if k is q else k.unsqueeze(1)
    return query, key, key if v is k else v.unsqueeze(1)


def head_size(width: int, expected: int, heads: int) -> int:
    """The features of each head; raises AssertionError where they do not come out even."""
    check(
        width == expected,
        lambda: f"was expecting embedding dimension of {expected}, but got {width}",
        AssertionError,
    )
    check(
        width % heads == 0,
        lambda: f"embed_dim {width} not divisible by num_heads {heads}",
        AssertionError,
    )
    return width // heads


def check_added_key(
    bias_k: Tensor | None, bias_v: Tensor | None, static_k: Tensor | None, static_v: Tensor | None
) -> None:
    """Raises AssertionError for a bias alone, or one beside keys or values that are given."""
    check(
        (bias_k is None) == (bias_v is None),
        "bias_k and bias_v must be given together",
        AssertionError,
    )
    check(
        bias_k is None or (static_k is None and static_v is None),
        "bias cannot be added to static key or value.",
        AssertionError,
    )


def additive_mask(mask: Tensor | None, name: str, like: Tensor) -> Tensor | None:
    """A mask as numbers to add: a boolean one hides what is True."""
    if mask is None or mask.is_floating_point():
        return mask
    check(
        mask._data.dtype.kind == "b",
        lambda: f"only bool and floating types of {name} are supported, got {mask.dtype}",
        AssertionError,
    )
    return like.new_zeros(mask._data.shape).masked_fill(mask, -math.inf)


def check_mask_shape(mask: Tensor, batch: int, queries: int, keys: int, heads: int) -> Tensor:
    """The mask with three dimensions; raises RuntimeError for sizes that do not fit."""
    ndim = mask._data.ndim
    expected = (queries, keys) if ndim == 2 else (batch * heads, queries, keys)
    check(
        mask._data.shape == expected,
        lambda: f"The shape of the {ndim}D attn_mask is {mask.shape}, but should be {expected}.",
    )
    return mask.unsqueeze(0) if ndim == 2 else mask


# -- projections -------------------------------------------------------------------------------


def project_packed(
    q: Tensor, k: Tensor, v: Tensor, w: Tensor | None, b: Tensor | None
) -> list[Tensor]:
    """The three projections whose weights lie one below the other; in one product where inputs are
    the same.
    """
    check(
        k._data.shape == v._data.shape,
        lambda: f"key shape {k.shape} does not match value shape {v.shape}",
        AssertionError,
    )
    if w is None:
        raise AssertionError("use_separate_proj_weight is False but in_proj_weight is None")
    width = q._data.shape[-1]
    if k is v and q is k:
        return list(linear(q, w, b).chunk(3, -1))
    bq, bkv = (None, None) if b is None else b.split([width, 2 * width])
    wq, wkv = w.split([width, 2 * width])
    if k is v:
        return [linear(q, wq, bq), *linear(k, wkv, bkv).chunk(2, -1)]
    bk, bv = (None, None) if bkv is None else bkv.chunk(2)
    wk, wv = wkv.chunk(2)
    return [linear(q, wq, bq), linear(k, wk, bk), linear(v, wv, bv)]


def project_separately(inputs: tuple, weights: tuple, b: Tensor | None) -> list[Tensor]:
    """The projections by weights of their own, which may have other numbers of features."""
    _, key, value = inputs
    check(
        key._data.shape[:2] == value._data.shape[:2],
        lambda: (
            f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}"
        ),
        AssertionError,
    )
    check(
        all(w is not None for w in weights),
        "use_separate_proj_weight is True but a projection weight is None",
        AssertionError,
    )
    biases = (None,) * 3 if b is None else b.chunk(3)
    return [linear(x, w, c) for x, w, c in zip(inputs, weights, biases, strict=True)]


def append_key(
    k: Tensor, v: Tensor, masks: list[Tensor | None], more: list[Tensor], dim: int
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """One more key and value, which every mask leaves visible."""
    masks = [None if m is None else pad(m, (0, 1)) for m in masks]
    return cat([k, more[0]], dim), cat([v, more[1]], dim), masks


# -- the function ------------------------------------------------------------------------------


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Projects (L, N, E) into heads, attends, projects back; also the weights (N, L, S) where
    `need_weights`.

    Masks hide what is True, or are added. Raises AssertionError and RuntimeError for shapes that do
    not fit.
    """
    batched = check_ranks(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:
        query, key, value = batch_of_one(query, key, value)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query._data.shape
    head, rows = head_size(width, embed_dim_to_check, num_heads), batch * num_heads
    check(
        not is_causal or attn_mask is not None,
        "Need attn_mask if specifying the is_causal hint. You may use the Transformer module "
        "method `generate_square_subsequent_mask` to create this mask.",
    )
    keys_mask = additive_mask(key_padding_mask, "key_padding_mask", query)
    is_causal = is_causal and keys_mask is None
    hinted = is_causal and not need_weights  # the fused operator makes the mask itself
    mask = None if hinted else additive_mask(attn_mask, "attn_mask", query)
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        q, k, v = project_separately((query, key, value), weights, in_proj_bias)
    else:
        q, k, v = project_packed(query, key, value, in_proj_weight, in_proj_bias)
    if mask is not None:
        mask = check_mask_shape(mask, batch, length, k._data.shape[0], num_heads)
    check_added_key(bias_k, bias_v, static_k, static_v)
    masks = [mask, keys_mask]
    if bias_k is not None and bias_v is not None:
        more = [b.repeat(1, batch, 1) for b in (bias_k, bias_v)]
        k, v, masks = append_key(k, v, masks, more, 0)
    q = q.reshape(length, rows, head).transpose(0, 1)  # (N * heads, L, head)
    k = into_heads(k, static_k, rows, head, "static_k")
    v = into_heads(v, static_v, rows, head, "static_v")
    if add_zero_attn:
        more = [t.new_zeros((rows, 1, head)) for t in (k, v)]
        k, v, masks = append_key(k, v, masks, more, 1)
    mask, keys_mask = masks
    mask = merge_masks(mask, keys_mask, batch, num_heads, k._data.shape[1])
    attend: Any = attend_with_weights if need_weights else attend_fused
    p = dropout_p if training else 0.0
    y, attended = attend(q, k, v, mask, p, is_causal, batch, num_heads)  # (L, N, E)
    y = linear(y.reshape(length * batch, width), out_proj_weight, out_proj_bias)
    y = y.reshape(length, batch, y._data.shape[-1])
    if attended is not None and average_attn_weights:
        attended = attended.mean(1)
    if not batched:
        return y.squeeze(1), None if attended is None else attended.squeeze(0)
    return y, attended


def into_heads(t: Tensor, static: Tensor | None, rows: int, head: int, name: str) -> Tensor:
    """(S, N, E) as (N * heads, S, head), or the given static one."""
    if static is None:
        return t.reshape(t._data.shape[0], rows, head).transpose(0, 1)
    check(
        static._data.shape[0] == rows and static._data.shape[2] == head,
        lambda: f"expecting {name} of shape ({rows}, S, {head}), but got {static.shape}",
        AssertionError,
    )
    return static


def merge_masks(
    mask: Tensor | None, keys_mask: Tensor | None, batch: int, heads: int, keys: int
) -> Tensor | None:
    """One mask of both: (1 or N * heads, L or 1, S)."""
    if keys_mask is None:
        return mask
    have = tuple(keys_mask._data.shape)
    check(
        have == (batch, keys),
        lambda: f"Expected key_padding_mask.shape to be {(batch, keys)}, but got {have}",
        AssertionError,
    )
    keys_mask = (
        keys_mask.reshape(batch, 1, 1, keys)
        .expand(-1, heads, -1, -1)
        .reshape(batch * heads, 1, keys)
    )
    return keys_mask if mask is None else mask + keys_mask


def attend_with_weights(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    batch: int,
    heads: int,
) -> tuple[Tensor, Tensor]:
    """Attention in public operators: the result (L, N, E) and the weights (N, heads, L, S)."""
    s = (q * math.sqrt(1.0 / q._data.shape[-1])) @ k.mT
    if mask is not None:
        s = s + mask
    p = s.softmax(-1)
    if dropout_p > 0:
        p = FUNCTIONAL["dropout"](p, dropout_p)
    y = (p @ v).transpose(0, 1)
    width = heads * y._data.shape[-1]
    return y.reshape(y._data.shape[0], batch, width), p.unflatten(0, (batch, heads))


def attend_fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    batch: int,
    heads: int,
) -> tuple[Tensor, Any]:
    """Attention in one operator: the result (L, N, E), no weights."""
    q, k, v = (t.unflatten(0, (batch, heads)) for t in (q, k, v))
    if mask is not None:
        mask = mask.unsqueeze(0) if mask._data.shape[0] == 1 else mask.unflatten(0, (batch, heads))
    y = scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)  # (N, heads, L, head)
    return y.permute(2, 0, 1, 3).flatten(2), None


FUNCTIONAL["multi_head_attention_forward"] = multi_head_attention_forward
