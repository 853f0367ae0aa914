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
    check(
        keys_mask is None or keys_mask._data.ndim == ndim - 1,
        lambda: (
            f"For {kind} ({ndim}-D) `query`, expected `key_padding_mask` to be `None` or "
            f"{ndim - 1}-D but found {keys_mask._data.ndim}-D tensor instead"
        ),
        AssertionError,
    )
    check(
        mask is None or mask._data.ndim in (2, 3),
        lambda: (
            f"For {kind} ({ndim}-D) `query`, expected `attn_mask` to be `None`, 2-D or 3-D but "
            f"found {mask._data.ndim}-D tensor instead"
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


def project_packed(q: Tensor, k: Tensor, v: Tensor, w: Tensor, b: Tensor | None) -> list[Tensor]:
    """The three projections whose weights lie one below the other; in one product where inputs are
    the same.
    """
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
    biases = (None,) * 3 if b is None else b.chunk(3)
    return [linear(x, w, c) for x, w, c in zip(inputs, weights, biases)]


def append_key(
    k: Tensor, v: Tensor, masks: list, more_k: Tensor, more_v: Tensor, dim: int
) -> tuple:
    """One more key and value, which every mask leaves visible."""
    masks = [None if m is None else pad(m, (0, 1)) for m in masks]
    return cat([k, more_k], dim), cat([v, more_v], dim), masks


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
        same_key, same_value = key is query, value is key
        query = query.unsqueeze(1)
        key = query if same_key else key.unsqueeze(1)
        value = key if same_value else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query._data.shape
    check(
        width == embed_dim_to_check,
        lambda: f"was expecting embedding dimension of {embed_dim_to_check}, but got {width}",
        AssertionError,
    )
    head = width // num_heads
    check(
        head * num_heads == width,
        lambda: f"embed_dim {width} not divisible by num_heads {num_heads}",
        AssertionError,
    )
    check(
        not is_causal or attn_mask is not None,
        "Need attn_mask if specifying the is_causal hint. You may use the Transformer module "
        "method `generate_square_subsequent_mask` to create this mask.",
    )
    keys_mask = additive_mask(key_padding_mask, "key_padding_mask", query)
    if is_causal and keys_mask is None and not need_weights:
        mask = None
    else:
        mask = additive_mask(attn_mask, "attn_mask", query)
        is_causal = is_causal and keys_mask is None
    check_keys_and_values(key, value, use_separate_proj_weight)
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        check(
            all(w is not None for w in weights),
            "use_separate_proj_weight is True but a projection weight is None",
            AssertionError,
        )
        q, k, v = project_separately((query, key, value), weights, in_proj_bias)
    else:
        check(
            in_proj_weight is not None,
            "use_separate_proj_weight is False but in_proj_weight is None",
            AssertionError,
        )
        q, k, v = project_packed(query, key, value, in_proj_weight, in_proj_bias)
    if mask is not None:
        mask = check_mask_shape(mask, batch, length, k._data.shape[0], num_heads)
    check(
        (bias_k is None) == (bias_v is None),
        "bias_k and bias_v must be given together",
        AssertionError,
    )
    if bias_k is not None:
        check(
            static_k is None and static_v is None,
            "bias cannot be added to static key or value.",
            AssertionError,
        )
        more = [b.repeat(1, batch, 1) for b in (bias_k, bias_v)]
        k, v, (mask, keys_mask) = append_key(k, v, [mask, keys_mask], *more, 0)
    rows = batch * num_heads
    q = q.reshape(length, rows, head).transpose(0, 1)  # (N * heads, L, head)
    k = into_heads(k, static_k, rows, head, "static_k")
    v = into_heads(v, static_v, rows, head, "static_v")
    if add_zero_attn:
        more = [t.new_zeros((rows, 1, head)) for t in (k, v)]
        k, v, (mask, keys_mask) = append_key(k, v, [mask, keys_mask], *more, 1)
    mask = merge_masks(mask, keys_mask, batch, num_heads, k._data.shape[1])
    dropout_p = dropout_p if training else 0.0
    attend = attend_with_weights if need_weights else attend_fused
    y, weights = attend(q, k, v, mask, dropout_p, is_causal, batch, num_heads)  # (L, N, E)
    y = linear(y.reshape(length * batch, width), out_proj_weight, out_proj_bias)
    y = y.reshape(length, batch, -1)
    if weights is not None and average_attn_weights:
        weights = weights.mean(1)
    if not batched:
        return y.squeeze(1), None if weights is None else weights.squeeze(0)
    return y, weights


def check_keys_and_values(key: Tensor, value: Tensor, separate: bool) -> None:
    """Raises AssertionError where keys and values do not belong together."""
    ks, vs = key._data.shape, value._data.shape
    if separate:
        check(
            ks[:2] == vs[:2],
            lambda: (
                f"key's sequence and batch dims {key.shape[:2]} do not match value's "
                f"{value.shape[:2]}"
            ),
            AssertionError,
        )
    else:
        check(
            ks == vs,
            lambda: f"key shape {key.shape} does not match value shape {value.shape}",
            AssertionError,
        )


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
    check(
        keys_mask._data.shape == (batch, keys),
        lambda: (
            f"Expected key_padding_mask.shape to be {(batch, keys)}, but got "
            f"{tuple(keys_mask._data.shape)}"
        ),
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
    return y.reshape(y._data.shape[0], batch, -1), p.unflatten(0, (batch, heads))


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
