"""Samples of embeddings, one-hot vectors and attention."""

import math

import numpy as np

from tests.samples.common import FLOATS, LOW, A, Sample

F = "nn.functional."


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v, mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    if enable_gqa:
        k, v = (np.repeat(t, q.shape[-3] // t.shape[-3], -3) for t in (k, v))
    s = q @ np.swapaxes(k, -1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if is_causal:
        s = np.where(np.tril(np.ones(s.shape[-2:], bool)), s, -np.inf)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype.kind == "b" else s + mask
    return softmax(s) @ v


def bags(mode):
    def reference(index, w, offsets=None, per_sample_weights=None, padding_idx=None):
        rows = (
            [np.arange(index.size).reshape(index.shape)[i] for i in range(len(index))]
            if index.ndim == 2
            else [np.arange(a, b) for a, b in zip(offsets, [*offsets[1:], index.size])]
        )
        flat, found = index.ravel(), []
        for bag in rows:
            bag = [i for i in bag if flat[i] != padding_idx]
            members = w[flat[bag]] if len(bag) else np.zeros((1, w.shape[1]))
            if per_sample_weights is not None and len(bag):
                members = members * per_sample_weights.ravel()[bag][:, None]
            found.append(getattr(members, mode)(0))
        return np.array(found)

    return reference


def multi_head(
    q,
    k,
    v,
    width,
    heads,
    w_in,
    b_in,
    bias_k,
    bias_v,
    zero,
    dropout,
    w_out,
    b_out,
    training=True,
    padding=None,
    need_weights=True,
):
    parts = [x @ w.T + b for x, w, b in zip((q, k, v), np.split(w_in, 3), np.split(b_in, 3))]
    split = [
        p.reshape(len(p), -1, heads, width // heads).transpose(1, 2, 0, 3) for p in parts
    ]  # (N, heads, L, head)
    p = softmax(split[0] @ split[1].swapaxes(-1, -2) / math.sqrt(width // heads))
    y = (p @ split[2]).transpose(2, 0, 1, 3).reshape(q.shape) @ w_out.T + b_out
    return (y, p.mean(1)) if need_weights else y


INDEX = A(2, 3, dtype="int64", values=[[0, 3, 1], [3, 2, 3]])
W = A(4, 5)
Q, K, V = A(2, 3, 4), A(2, 5, 4), A(2, 5, 6)
HEADS = [
    A(3, 2, 4),
    A(5, 2, 4),
    A(5, 2, 4),
    4,
    2,
    A(12, 4),
    A(12),
    None,
    None,
    False,
    0.0,
    A(4, 4),
    A(4),
]

SAMPLES = [
    Sample(
        F + "embedding",
        [INDEX, W],
        lambda i, w: w[i],
        dtypes=FLOATS + LOW,
        errors=[
            ([A(1, dtype="int64", values=[5]), A(3, 4)], IndexError, "index out of range in self"),
            ([A(1, dtype="int64", values=[-1]), A(3, 4)], IndexError, "index out of range in self"),
            ([A(2), A(3, 4)], RuntimeError, "Long, Int"),
            ([INDEX, A(3)], RuntimeError, "must be 2-D"),
            ([INDEX, W], {"padding_idx": 7}, AssertionError, "Padding_idx"),
        ],
    ),
    Sample("embedding", [W, INDEX], lambda w, i: w[i]),
    Sample(
        F + "embedding",
        [INDEX, W],
        lambda i, w, max_norm: w[i],
        {"max_norm": 1e9},
        gradient=False,
        batch=False,
    ),
    Sample(
        F + "embedding_bag",
        [INDEX, W],
        bags("mean"),
        batch=False,
        errors=[
            ([A(2, dtype="int64", values=[0, 1]), W], ValueError, "offsets has to be a 1D Tensor"),
            (
                [A(2, dtype="int64", values=[0, 1]), W, A(1, dtype="int64", values=[1])],
                RuntimeError,
                r"offsets\[0\] has to be 0",
            ),
            ([INDEX, W], {"mode": "foo"}, ValueError, "mode has to be one of"),
            ([A(), W], ValueError, "1D or 2D"),
        ],
    ),
    Sample(
        F + "embedding_bag",
        [A(5, dtype="int64", values=[0, 3, 1, 3, 2]), W, A(3, dtype="int64", values=[0, 2, 2])],
        lambda i, w, o, mode: bags("sum")(i, w, o),
        {"mode": "sum"},
        batch=False,
    ),
    Sample(
        F + "embedding_bag",
        [INDEX, W],
        lambda i, w, mode: bags("max")(i, w),
        {"mode": "max"},
        batch=False,
        op="embedding_bag_argmax",
    ),
    Sample(
        F + "embedding_bag",
        [INDEX, W],
        lambda i, w, mode, per_sample_weights: bags("sum")(i, w, None, per_sample_weights),
        {"mode": "sum", "per_sample_weights": A(2, 3)},
        batch=False,
    ),
    Sample(
        F + "one_hot",
        [A(3, dtype="int64", values=[0, 2, 1]), 4],
        lambda i, n: np.eye(n, dtype=int)[i],
        gradient=False,
        errors=[
            ([A(2, dtype="int64", values=[0, 2]), 2], RuntimeError, "smaller than num_classes"),
            ([A(2, dtype="int64", values=[0, -2])], RuntimeError, "non-negative"),
            ([A(2)], RuntimeError, "LongTensor"),
            ([A(0, dtype="int64")], RuntimeError, "empty tensor"),
        ],
    ),
    Sample(
        F + "scaled_dot_product_attention",
        [Q, K, V],
        attention,
        dtypes=FLOATS + LOW,
        errors=[
            ([Q, A(2, 5, 3), V], RuntimeError, "expects query"),
            (
                [Q, K, V],
                {"attn_mask": A(3, 5, dtype="bool"), "is_causal": True},
                RuntimeError,
                "should not be set",
            ),
            ([Q, K, V], {"attn_mask": A(3, 5, dtype="int64")}, RuntimeError, "attn_mask dtype"),
            ([Q, A(2, 5, 4, dtype="int64"), V], RuntimeError, "same dtype"),
            ([A(4), A(4), A(4)], RuntimeError, "at least 2 dimensional"),
            (
                [A(1, 3, 2, 4), A(1, 2, 2, 4), A(1, 2, 2, 4)],
                {"enable_gqa": True},
                RuntimeError,
                "must divide",
            ),
        ],
    ),
    Sample(
        F + "scaled_dot_product_attention",
        [A(2, 2, 3, 4), A(2, 2, 3, 4), A(2, 2, 3, 4)],
        lambda q, k, v, is_causal, scale: attention(q, k, v, is_causal=True, scale=scale),
        {"is_causal": True, "scale": 0.7},
    ),
    Sample(F + "scaled_dot_product_attention", [Q, K, V, A(2, 3, 5)], attention),
    Sample(
        F + "scaled_dot_product_attention",
        [Q, K, V, A(3, 5, dtype="bool", values=[[1, 0, 1, 1, 0]] * 3)],
        attention,
    ),
    Sample(
        F + "scaled_dot_product_attention",
        [A(1, 4, 3, 2), A(1, 2, 3, 2), A(1, 2, 3, 2)],
        lambda q, k, v, enable_gqa: attention(q, k, v, enable_gqa=True),
        {"enable_gqa": True},
    ),
    Sample(F + "scaled_dot_product_attention", [A(3, 2), A(3, 2), A(3, 2)], attention),
    Sample(
        F + "multi_head_attention_forward",
        HEADS,
        multi_head,
        op="softmax",
        batch=False,
        second=False,
        errors=[
            (
                [A(3, 2, 5), *HEADS[1:]],
                AssertionError,
                "was expecting embedding dimension of 4, but got 5",
            ),
            ([*HEADS[:4], 3, *HEADS[5:]], AssertionError, "not divisible by num_heads"),
            ([A(4), *HEADS[1:]], AssertionError, "unbatched 2D or batched 3D"),
            ([HEADS[0], A(5, 4), *HEADS[2:]], AssertionError, "expected `key` and `value`"),
            (HEADS, {"is_causal": True}, RuntimeError, "Need attn_mask"),
        ],
    ),
]
