"""What samples of network operators cannot show: blocks, memory, state, special values, warnings,
names of gradients.

Literals are PyTorch 2.13's results.
"""

import math
import tracemalloc

import numpy as np
import pytest

import lampion as torch
from lampion.autograd import grad, gradcheck
from lampion.ops import attention, conv_kernels
from tests.samples.conv import conv

F = torch.nn.functional
NAN, INF = math.nan, math.inf


def random(*shape, seed=0, dtype=np.float64):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def close(a, b, rtol=1e-6, atol=1e-7):
    a, b = (x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x) for x in (a, b))
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


# -- convolution -------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3000, 20000])
@pytest.mark.parametrize("steps", [{"padding": 1}, {"stride": 2, "padding": 2, "groups": 2}])
def test_blocks_of_a_convolution_add_up(monkeypatch, limit, steps):
    x, w = random(3, 4, 19, 18), random(6, 4 // steps.get("groups", 1), 3, 3, seed=1)
    whole = gradients(lambda x, w: F.conv2d(x, w, **steps), x, w)
    close(whole[0], conv(x.numpy(), w.numpy(), **steps))
    monkeypatch.setattr(conv_kernels, "COLUMN_BYTES", limit)
    for one, parts in zip(
        whole, gradients(lambda x, w: F.conv2d(x, w, **steps), x, w), strict=True
    ):
        close(one, parts)


def gradients(function, *inputs):
    inputs = [x.clone().requires_grad_() for x in inputs]
    y = function(*inputs)
    return [y.detach(), *grad(y, inputs, random(*y.shape, seed=9))]


def test_a_convolution_needs_little_memory_beside_its_result():
    x, w = random(16, 32, 32, 32, dtype=np.float32), random(32, 32, 3, 3, dtype=np.float32)
    F.conv2d(x, w, padding=1)
    tracemalloc.start()
    y = F.conv2d(x, w, padding=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < y.nbytes + 2 * conv_kernels.COLUMN_BYTES


def test_half_precision_is_computed_in_float32_and_rounded_once():
    x, w = random(2, 3, 5, 5, dtype=np.float32), random(4, 3, 3, 3, dtype=np.float32)
    for dtype in (torch.float16, torch.bfloat16):
        a, b = x.to(dtype), w.to(dtype)
        got = F.conv2d(a, b)
        assert got.dtype is dtype
        assert torch.equal(got, F.conv2d(a.float(), b.float()).to(dtype))


# -- attention ---------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 300, 2000])
def test_blocks_of_attention_add_up(monkeypatch, limit):
    q, k, v = random(2, 3, 5, 4), random(2, 3, 7, 4, seed=1), random(2, 3, 7, 6, seed=2)
    mask = random(3, 5, 7, seed=3)
    whole = gradients(F.scaled_dot_product_attention, q, k, v, mask)
    causal = gradients(lambda *x: F.scaled_dot_product_attention(*x, is_causal=True), q, k, v)
    monkeypatch.setattr(attention, "BLOCK_BYTES", limit)
    for one, parts in zip(
        whole, gradients(F.scaled_dot_product_attention, q, k, v, mask), strict=True
    ):
        close(one, parts)
    again = gradients(lambda *x: F.scaled_dot_product_attention(*x, is_causal=True), q, k, v)
    for one, parts in zip(causal, again, strict=True):
        close(one, parts)


def test_a_query_that_sees_nothing_gives_zeros():
    q = random(1, 2, 3, 4).requires_grad_()
    mask = torch.tensor([[True, False, True], [False] * 3, [True] * 3])
    y = F.scaled_dot_product_attention(q, q, q, attn_mask=mask)
    assert not y[:, :, 1].any()
    y.sum().backward()
    assert torch.isfinite(q.grad).all()


def test_attention_draws_the_dropout_that_pytorch_draws():
    torch.manual_seed(5)
    q = torch.arange(24.0).reshape(1, 2, 3, 4).sin()
    got = F.scaled_dot_product_attention(q, q, q, dropout_p=0.5).flatten()[:4]
    close(got, [0.21319210529, -0.12809361517, -0.35161066055, -0.25185850262], rtol=1e-5)


def heads(need_weights, **options):
    x, y = random(5, 2, 8), random(6, 2, 8, seed=1)
    w, b, out = random(24, 8, seed=2), random(24, seed=3), random(8, 8, seed=4)
    return F.multi_head_attention_forward(
        x, y, y, 8, 2, w, b, options.pop("bias_k", None), options.pop("bias_v", None),
        options.pop("zero", False), 0.0, out, None, need_weights=need_weights, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": torch.ones(5, 6).triu(1).bool()},
        {"key_padding_mask": torch.tensor([[False] * 6, [False] * 3 + [True] * 3])},
        {"attn_mask": random(4, 5, 6), "key_padding_mask": random(2, 6)},
        {"zero": True, "bias_k": random(1, 1, 8), "bias_v": random(1, 1, 8, seed=5)},
    ],
)
def test_heads_with_and_without_weights_agree(options):
    slow, weights = heads(True, **options)
    fast, none = heads(False, **options)
    assert none is None
    close(slow, fast)
    close(weights.sum(-1), np.ones((2, 5)))


# -- normalisation -----------------------------------------------------------------------------


def test_running_statistics_move_by_momentum():
    x = random(4, 3, 5)
    mean, var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    F.batch_norm(x, mean, var, training=True, momentum=0.3)
    values = x.numpy()
    close(mean, 0.3 * values.mean((0, 2)))
    close(var, 0.7 + 0.3 * values.var((0, 2), ddof=1))
    assert mean._version > 0
    before = mean.clone()
    F.batch_norm(x, mean, var)
    assert torch.equal(mean, before)


def test_instances_average_their_running_statistics():
    x = random(4, 3, 5)
    mean, var = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    F.instance_norm(x, mean, var, momentum=0.5)
    close(mean, 0.5 * x.numpy().mean((0, 2)))
    close(var, 0.5 + 0.5 * x.numpy().var(2, ddof=1).mean(0))
    y = F.instance_norm(x, mean, var, use_input_stats=False)
    close(y, (x.numpy() - mean.numpy()[:, None]) / np.sqrt(var.numpy()[:, None] + 1e-5))


# -- pooling and resizing ----------------------------------------------------------------------


def test_the_last_nan_of_a_window_wins():
    x = torch.tensor([[[1.0, NAN, 3.0, NAN, -5.0, -6.0]]])
    y, places = F.max_pool1d(x, 4, 1, return_indices=True)
    assert torch.isnan(y).all()
    assert places.tolist() == [[[3, 3, 3]]]


def test_padding_never_wins_even_against_minus_infinity():
    x = torch.full((1, 1, 3, 3), -INF)
    assert F.max_pool2d(x, 3, 1, 1, return_indices=True)[1].tolist() == [
        [[[0, 0, 1], [0, 0, 1], [3, 3, 4]]]
    ]


def test_the_gradient_of_a_maximum_goes_to_one_element_and_stays_exact():
    x = torch.tensor([[2.0, 2.0, 1.0, 5.0]]).requires_grad_()
    F.max_pool1d(x, 2).backward(torch.tensor([[INF, 3.0]]))
    assert x.grad.tolist() == [[INF, 0.0, 0.0, 3.0]]


def test_max_pooling_can_be_differentiated_twice():
    x = random(2, 3, 6, 6).requires_grad_()
    g = random(2, 3, 3, 3, seed=1).requires_grad_()
    (first,) = grad(F.max_pool2d(x, 3, 2, 1), x, g, create_graph=True)
    h = random(2, 3, 6, 6, seed=2)
    (second,) = grad(first, g, h)
    _, places = F.max_pool2d(x, 3, 2, 1, return_indices=True)
    close(
        second,
        np.take_along_axis(h.numpy().reshape(2, 3, 36), places.numpy().reshape(2, 3, 9), 2).reshape(
            2, 3, 3, 3
        ),
    )


def test_fractional_windows_begin_where_pytorchs_do():
    x = torch.arange(1.0, 37.0).reshape(1, 1, 6, 6).sin()
    samples = torch.tensor([[[0.3, 0.8]]])
    _, places = F.fractional_max_pool2d(
        x, 2, output_size=3, return_indices=True, _random_samples=samples
    )
    assert places.tolist() == [[[[7, 8, 5], [13, 20, 17], [25, 32, 34]]]]
    x = torch.arange(1.0, 126.0).reshape(1, 1, 5, 5, 5).sin()
    samples = torch.tensor([[[0.3, 0.8, 0.1]]])
    _, places = F.fractional_max_pool3d(
        x, 2, output_size=(2, 3, 2), return_indices=True, _random_samples=samples
    )
    assert places.tolist() == [[[[[26, 33], [6, 13], [45, 19]], [[76, 108], [81, 114], [120, 94]]]]]


def test_infinity_spreads_no_further_than_its_neighbours():
    x = torch.zeros(1, 1, 6)
    x[0, 0, 0] = INF
    y = F.interpolate(x, size=12, mode="linear")
    assert y[0, 0, :2].tolist() == [INF, INF]
    assert y[0, 0, 4:].tolist() == [0.0] * 8
    assert F.adaptive_avg_pool1d(x, 4).tolist() == [[[INF, 0.0, 0.0, 0.0]]]


def test_bytes_are_interpolated_and_rounded():
    x = torch.arange(12).reshape(1, 1, 3, 4).to(torch.uint8)
    y = F.interpolate(x, size=(5, 5), mode="bilinear")
    assert y.dtype is torch.uint8
    assert y[0, 0].tolist() == [
        [0, 1, 2, 2, 3], [2, 3, 4, 4, 5], [4, 5, 6, 6, 7], [6, 7, 8, 8, 9], [8, 9, 10, 10, 11]
    ]  # fmt: skip


# -- embeddings --------------------------------------------------------------------------------


def test_padding_gets_no_gradient_and_frequent_rows_share_theirs():
    w = random(4, 2).requires_grad_()
    index = torch.tensor([1, 3, 3, 0])
    F.embedding(index, w, padding_idx=1).sum().backward()
    assert w.grad.tolist() == [[1, 1], [0, 0], [0, 0], [2, 2]]
    w.grad = None
    F.embedding(index, w, scale_grad_by_freq=True).sum().backward()
    assert w.grad.tolist() == [[1, 1], [1, 1], [0, 0], [1, 1]]


def test_rows_that_are_too_long_are_scaled_in_place():
    w = torch.tensor([[3.0, 4.0], [0.3, 0.4], [30.0, 40.0]])
    F.embedding(torch.tensor([0, 1]), w, max_norm=1.0)
    close(w, [[0.6, 0.8], [0.3, 0.4], [30.0, 40.0]], rtol=1e-5)


# -- losses ------------------------------------------------------------------------------------


def test_losses_warn_where_sizes_broadcast():
    for loss in (F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss):
        with pytest.warns(UserWarning, match="different to the input size"):
            loss(torch.ones(2, 3), torch.ones(2, 1))


def test_old_reduction_arguments_still_choose():
    x, t = random(3), random(3, seed=1)
    with pytest.warns(UserWarning, match="please use reduction='sum' instead"):
        assert (
            F.mse_loss(x, t, size_average=False).item() == F.mse_loss(x, t, reduction="sum").item()
        )


def test_the_mean_of_no_targets_is_nan_and_their_sum_zero():
    x, ignored = random(2, 3), torch.tensor([-100, -100])
    assert math.isnan(F.cross_entropy(x, ignored).item())
    assert F.cross_entropy(x, ignored, reduction="sum").item() == 0


def test_cross_entropy_survives_large_logits():
    x = torch.tensor([[1e4, -1e4, 0.0]]).requires_grad_()
    loss = F.cross_entropy(x, torch.tensor([1]))
    assert loss.item() == 2e4
    loss.backward()
    assert x.grad.tolist() == [[1.0, -1.0, 0.0]]


def test_kl_div_warns_about_its_mean():
    with pytest.warns(UserWarning, match="batchmean"):
        F.kl_div(random(2, 3), torch.ones(2, 3))


def test_ctc_gives_pytorchs_losses_and_gradients():
    logits = torch.arange(24.0).reshape(4, 2, 3).sin()
    logs = torch.log_softmax(logits, -1).requires_grad_()
    targets, lengths = torch.tensor([[1, 1], [2, 0]]), torch.tensor([2, 1])
    loss = F.ctc_loss(logs, targets, torch.tensor([4, 3]), lengths)
    loss.backward(retain_graph=True)
    close(loss, 1.826669454574585, rtol=1e-6)
    close(logs.grad[0, 0], [0.010009951889, -0.116974174976, 0.106964237987], rtol=1e-4)
    assert not logs.grad[3, 1].any()
    impossible = (logs, targets, torch.tensor([2, 3]), lengths)
    assert F.ctc_loss(*impossible, reduction="none")[0].item() == INF
    assert F.ctc_loss(*impossible, reduction="none", zero_infinity=True)[0].item() == 0
    (g,) = grad(F.ctc_loss(logs, targets, (4, 3), lengths), logs, create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):
        grad(g.sum(), logs)


def test_the_gradient_of_ctc_through_log_softmax():
    def loss(x):
        logs = torch.log_softmax(x, -1)
        return F.ctc_loss(logs, torch.tensor([1, 2, 1]), (5, 4), (2, 1), reduction="sum")

    assert gradcheck(loss, [random(5, 2, 3).requires_grad_()])


# -- recurrence --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
def test_a_packed_sequence_gives_what_its_sequences_give(kind):
    gates = {"lstm": 4, "gru": 3, "rnn_tanh": 1}[kind]
    params = [random(gates * 3, n, seed=i) for i, n in enumerate((2, 3))] * 2
    xs = [random(n, 2, seed=10 + n) for n in (4, 3, 1)]
    data = torch.cat([torch.stack([x[t] for x in xs if len(x) > t]) for t in range(4)])

    def state(n):
        zeros = torch.zeros(2, n, 3, dtype=torch.float64)
        return (zeros, zeros) if kind == "lstm" else zeros

    run = getattr(torch, kind)
    out, *last = run(data, torch.tensor([3, 2, 2, 1]), state(3), params, False, 1, 0.0, False, True)
    ends = [0, 3, 5, 7]
    for i, x in enumerate(xs):
        alone, *states = run(x.unsqueeze(1), state(1), params, False, 1, 0.0, False, True, False)
        close(alone[:, 0], torch.stack([out[ends[t] + i] for t in range(len(x))]))
        for mine, s in zip(last, states, strict=True):
            close(mine[:, i], s[:, 0])


# -- names -------------------------------------------------------------------------------------


def leaf(*shape):
    return random(*shape).requires_grad_()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("MmBackward0", lambda: leaf(2, 3) @ leaf(3, 2)),
        ("BmmBackward0", lambda: torch.bmm(leaf(2, 3, 2), leaf(2, 2, 3))),
        ("MvBackward0", lambda: leaf(2, 3) @ leaf(3)),
        ("DotBackward0", lambda: leaf(3) @ leaf(3)),
        ("UnsafeViewBackward0", lambda: leaf(2, 2, 3) @ leaf(3, 4)),
        ("AddmmBackward0", lambda: F.linear(leaf(2, 3), leaf(4, 3), leaf(4))),
        ("ConvolutionBackward0", lambda: F.conv2d(leaf(1, 2, 4, 4), leaf(3, 2, 3, 3))),
        ("ConvolutionBackward0", lambda: F.conv_transpose2d(leaf(1, 2, 4, 4), leaf(2, 2, 3, 3))),
        ("MaxPool2DWithIndicesBackward0", lambda: F.max_pool2d(leaf(1, 2, 4, 4), 2)),
        ("AvgPool2DBackward0", lambda: F.avg_pool2d(leaf(1, 2, 4, 4), 2)),
        ("AdaptiveAvgPool2DBackward0", lambda: F.adaptive_avg_pool2d(leaf(1, 2, 5, 5), 2)),
        ("NativeBatchNormBackward0", lambda: F.batch_norm(leaf(2, 3), None, None, training=True)),
        ("NativeLayerNormBackward0", lambda: F.layer_norm(leaf(2, 3), (3,))),
        ("NativeGroupNormBackward0", lambda: F.group_norm(leaf(2, 4, 3), 2)),
        ("NllLossBackward0", lambda: F.cross_entropy(leaf(2, 3), torch.tensor([0, 2]))),
        ("MseLossBackward0", lambda: F.mse_loss(leaf(2), leaf(2))),
        ("EmbeddingBackward0", lambda: F.embedding(torch.tensor([1]), leaf(2, 3))),
        ("ConstantPadNdBackward0", lambda: F.pad(leaf(2, 3), (1, 1))),
        ("ReflectionPad1DBackward0", lambda: F.pad(leaf(2, 3), (1, 1), mode="reflect")),
        ("UpsampleBicubic2DBackward0", lambda: F.interpolate(leaf(1, 1, 2, 2), 3, mode="bicubic")),
        ("Im2ColBackward0", lambda: F.unfold(leaf(1, 2, 4, 4), 2)),
    ],
)  # fmt: skip
def test_gradients_are_named_as_in_pytorch(name, call):
    assert call().grad_fn.name() == name
