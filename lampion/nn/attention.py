"""`MultiheadAttention`. May import core and ops."""

from __future__ import annotations

from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from . import functional as F, init
from .linear import NonDynamicallyQuantizableLinear
from .module import Module
from .names import torch
from .parameter import Parameter


class MultiheadAttention(Module):
    """Attention with several heads (Vaswani et al., 2017): each looks up values where keys fit its
    queries.

    `softmax(q k^T / sqrt(head_dim)) v` per head, with q, k and v projected from the inputs and the
    heads projected together to the output.

    Shapes: query (L, N, embed_dim), key (S, N, kdim), value (S, N, vdim); batch first if
    `batch_first`; without N for a single sample. `attn_mask` (L, S) or (N * heads, L, S) and
    `key_padding_mask` (N, S): True, or a number that is added to the scores, keeps a key out.
    Returns the output, like the query, and the attention weights (N, L, S), averaged over the heads
    unless told otherwise, or None if not `need_weights`.

    >>> attention = torch.nn.MultiheadAttention(8, num_heads=2, batch_first=True)
    >>> x = torch.ones(1, 5, 8)
    >>> output, weights = attention(x, x, x)
    >>> output.shape, weights.shape
    (torch.Size([1, 5, 8]), torch.Size([1, 5, 5]))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check(
            embed_dim > 0 and num_heads > 0,
            lambda: (
                "embed_dim and num_heads must be greater than 0, got "
                f"embed_dim={embed_dim} and num_heads={num_heads} instead"
            ),
            ValueError,
        )
        super().__init__()
        self.embed_dim = embed_dim
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == embed_dim and self.vdim == embed_dim
        self.num_heads, self.dropout, self.batch_first = num_heads, dropout, batch_first
        self.head_dim = embed_dim // num_heads
        check(
            self.head_dim * num_heads == embed_dim,
            "embed_dim must be divisible by num_heads",
            AssertionError,
        )
        self.add_zero_attn = add_zero_attn
        self._make_parameters(bias, add_bias_kv, {"device": device, "dtype": dtype})

    def _make_parameters(self, bias: bool, add_bias_kv: bool, made: dict[str, Any]) -> None:
        size, same = self.embed_dim, self._qkv_same_embed_dim
        shapes = {
            "q_proj_weight": None if same else (size, size),
            "k_proj_weight": None if same else (size, self.kdim),
            "v_proj_weight": None if same else (size, self.vdim),
            "in_proj_weight": (3 * size, size) if same else None,
            "in_proj_bias": 3 * size if bias else None,
        }
        if same:
            shapes = {"in_proj_weight": shapes.pop("in_proj_weight"), **shapes}
        for name, shape in shapes.items():
            value = None if shape is None else Parameter(torch.empty(shape, **made))
            self.register_parameter(name, value)
        self.out_proj = NonDynamicallyQuantizableLinear(size, size, bias, **made)
        for name in ("bias_k", "bias_v"):
            value = Parameter(torch.empty((1, 1, size), **made)) if add_bias_kv else None
            self.register_parameter(name, value)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        if self._qkv_same_embed_dim:
            init.xavier_uniform_(self.in_proj_weight)
        else:
            for weight in (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
                init.xavier_uniform_(weight)
        if self.in_proj_bias is not None:
            init.constant_(self.in_proj_bias, 0.0)
            init.constant_(self.out_proj.bias, 0.0)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        swap = self.batch_first and query.dim() == 3
        if swap:  # one tensor given three times must stay one tensor
            turned = {id(t): t.transpose(0, 1) for t in (query, key, value)}  # (L, N, E)
            query, key, value = turned[id(query)], turned[id(key)], turned[id(value)]
        same = self._qkv_same_embed_dim
        output, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not same,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (output.transpose(0, 1) if swap else output), weights
