"""Layers in use: what they compute where that is not their function's own test."""

import numpy as np
import pytest

import lampion as torch
from lampion import nn


def test_convolution_gradients_by_hand():
    x, w = torch.randn(2, 4, 6, 5), torch.randn(6, 2, 3, 2)
    x.requires_grad_(), w.requires_grad_()
    settings = {"stride": 2, "padding": 1, "groups": 2}
    y = nn.functional.conv2d(x, w, **settings)
    g = torch.randn(y.shape)
    gx, gw = torch.autograd.grad(y, (x, w), g)
    with torch.no_grad():
        assert torch.allclose(nn.grad.conv2d_input(x.shape, w, g, **settings), gx)
        assert torch.allclose(nn.grad.conv2d_weight(x, w.shape, g, **settings), gw)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_pad_with_values(mode):
    conv = nn.Conv1d(1, 1, 3, padding=1, padding_mode=mode, bias=False)
    with torch.no_grad():
        conv.weight.fill_(1.0)
    x = np.float32([1, 2, 4])
    names = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    wanted = np.convolve(np.pad(x, 1, mode=names[mode]), [1, 1, 1], "valid")
    assert conv(torch.from_numpy(x)[None])[0].tolist() == wanted.tolist()


@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_same_padding_keeps_the_size(kernel):
    for mode in ("zeros", "circular"):
        conv = nn.Conv2d(1, 2, kernel, padding="same", dilation=2, padding_mode=mode)
        assert conv(torch.ones(1, 1, 9, 8)).shape == (1, 2, 9, 8)


def test_transposed_convolution_reaches_the_size_asked_for():
    up = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1)
    x = torch.ones(1, 1, 6, 6)
    assert up(x).shape == (1, 1, 11, 11) and up(x, output_size=(12, 12)).shape == (1, 1, 12, 12)
    assert up(x, output_size=[1, 1, 11, 12]).shape == (1, 1, 11, 12)
    with pytest.raises(ValueError, match=r"valid sizes range from \[11, 11\] to \[12, 12\]"):
        up(x, output_size=(13, 13))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "in_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "out_channels must be divisible by groups"),
        (lambda: nn.Conv2d(1, 1, 3, groups=0), "groups must be a positive integer"),
        (lambda: nn.Conv2d(1, 1, 3, padding="most"), "should be one of same, valid"),
        (lambda: nn.Conv2d(1, 1, 3, 2, padding="same"), "not supported for strided convolutions"),
        (lambda: nn.Conv2d(1, 1, 3, padding_mode="x"), "padding_mode must be one of"),
        (lambda: nn.ConvTranspose1d(1, 1, 3, padding_mode="reflect"), 'Only "zeros" padding mode'),
        (lambda: nn.BatchNorm2d(3)(torch.ones(2, 3)), r"expected 4D input \(got 2D input\)"),
        (lambda: nn.BatchNorm1d(3)(torch.ones(2)), r"expected 2D or 3D input \(got 1D input\)"),
        (lambda: nn.InstanceNorm1d(3, affine=True)(torch.ones(2, 4, 5)), "to match num_features"),
        (lambda: nn.GroupNorm(3, 4), r"num_channels \(4\) must be divisible by num_groups \(3\)"),
        (lambda: nn.Dropout(1.5), "dropout probability has to be between 0 and 1, but got 1.5"),
        (lambda: nn.Softmax2d()(torch.ones(2)), "expected input to be 3D or 4D, got 1D"),
        (lambda: nn.CircularPad2d(1)(torch.ones(2, 2)), "expected 3D or 4D input"),
        (lambda: nn.FractionalMaxPool2d(2), "requires specifying either an output size"),
        (lambda: nn.FractionalMaxPool2d(2, 3, 0.5), "only one of output_size and output_ratio"),
        (lambda: nn.TripletMarginLoss(margin=0), "expected margin to be greater than 0, got 0"),
        (lambda: nn.MultiMarginLoss(p=3), "only p == 1 and p == 2 supported"),
        (lambda: nn.MultiheadAttention(0, 1), "embed_dim and num_heads must be greater than 0"),
    ],
)
def test_settings_that_do_not_go_together(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_batch_norm_keeps_statistics():
    norm = nn.BatchNorm1d(2, momentum=0.5)
    x = torch.tensor([[0.0, 10.0], [2.0, 30.0]])
    y = norm(x)
    np.testing.assert_allclose(y.detach().numpy(), [[-1, -1], [1, 1]], atol=1e-4)
    assert norm.running_mean.tolist() == [0.5, 10.0] and norm.num_batches_tracked.item() == 1
    np.testing.assert_allclose(norm.running_var.numpy(), [1.5, 100.5])  # unbiased: 2 and 200
    norm.eval()
    np.testing.assert_allclose(
        norm(x).detach().numpy(), (x.numpy() - [0.5, 10]) / np.sqrt([1.5, 100.5]), rtol=1e-4
    )
    average = nn.BatchNorm1d(2, momentum=None)
    average(x), average(x + 2)
    assert average.running_mean.tolist() == [2.0, 21.0]
    bare = nn.BatchNorm1d(2, affine=False, track_running_stats=False).eval()
    np.testing.assert_allclose(bare(x).numpy(), [[-1, -1], [1, 1]], atol=1e-4)


def test_sync_batch_norm_takes_the_place_of_batch_norm():
    net = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.BatchNorm2d(3)))
    weight = net[0].weight
    net[0](torch.randn(4, 2))
    made = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert isinstance(made[0], nn.SyncBatchNorm) and isinstance(made[1][0], nn.SyncBatchNorm)
    assert made[0].weight is weight and made[0].num_batches_tracked.item() == 1


def test_embedding():
    table = nn.Embedding(5, 3, padding_idx=-1)
    assert table.padding_idx == 4 and (table.weight[4] == 0).all()
    x = torch.tensor([[4, 0], [0, 2]])
    table(x).sum().backward()
    assert table.weight.grad[:, 0].tolist() == [2, 0, 1, 0, 0]
    rows = torch.randn(4, 2)
    fixed = nn.Embedding.from_pretrained(rows)
    assert not fixed.weight.requires_grad and (fixed(torch.tensor([3])) == rows[3]).all()
    assert nn.EmbeddingBag.from_pretrained(rows, freeze=False).weight.requires_grad
    for wrong in (
        lambda: nn.Embedding(3, 2, padding_idx=3),
        lambda: nn.Embedding(2, 2, _weight=rows),
    ):
        with pytest.raises(AssertionError):
            wrong()


def test_attention_with_masks():
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    x = torch.randn(2, 3, 4)
    causal = nn.Transformer.generate_square_subsequent_mask(3)
    out, weights = attention(x, x, x, attn_mask=causal)
    assert (weights.triu(1) == 0).all()
    changed = x.clone()
    changed[:, 2] += 1
    again, _ = attention(changed, changed, changed, attn_mask=causal)
    assert torch.allclose(again[:, :2], out[:, :2], atol=1e-6) and not torch.allclose(
        again[:, 2], out[:, 2]
    )
    padding = torch.tensor([[False, False, True], [False, True, True]])
    _, weights = attention(x, x, x, key_padding_mask=padding, average_attn_weights=False)
    assert weights.shape == (2, 2, 3, 3) and (weights[1, :, :, 1:] == 0).all()
    out, none = attention(x[0], x[0], x[0], need_weights=False)
    assert out.shape == (3, 4) and none is None


def test_transformer_layers_agree_with_their_formula():
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    x = torch.randn(2, 3, 4)
    y = layer.norm1(x + layer.self_attn(x, x, x)[0])
    wanted = layer.norm2(y + layer.linear2(layer.linear1(y).relu()))
    assert torch.allclose(layer(x), wanted, atol=1e-6)
    layer.norm_first = True
    n = layer.norm1(x)
    y = x + layer.self_attn(n, n, n)[0]
    wanted = y + layer.linear2(layer.linear1(layer.norm2(y)).relu())
    assert torch.allclose(layer(x), wanted, atol=1e-6)


def test_transformer_is_causal_where_its_mask_is():
    model = nn.Transformer(4, 2, 1, 1, 8, dropout=0.0, batch_first=True)
    source, target = torch.randn(2, 5, 4), torch.randn(2, 3, 4)
    mask = model.generate_square_subsequent_mask(3)
    out = model(source, target, tgt_mask=mask)
    target[:, 2] += 1
    assert torch.allclose(model(source, target, tgt_mask=mask)[:, :2], out[:, :2], atol=1e-5)
    with pytest.raises(RuntimeError, match="the batch number of src and tgt must be equal"):
        model(source, target[:1])
    with pytest.raises(RuntimeError, match="must be equal to d_model"):
        model(source, target[..., :2])
    with pytest.raises(AssertionError, match="only bool and floating types of mask are supported"):
        model.encoder(source, mask=torch.zeros(5, 5, dtype=torch.int64))


def test_adaptive_log_softmax_adds_up_to_one():
    head = nn.AdaptiveLogSoftmaxWithLoss(8, 12, [3, 6], div_value=2.0)
    x, target = torch.randn(5, 8), torch.tensor([0, 4, 11, 2, 7])
    log_p = head.log_prob(x)
    assert torch.allclose(log_p.exp().sum(1), torch.ones(5), atol=1e-5)
    output, loss = head(x, target)
    assert torch.allclose(output, log_p.gather(1, target[:, None])[:, 0], atol=1e-6)
    assert torch.allclose(loss, -output.mean()) and (head.predict(x) == log_p.argmax(1)).all()
    with pytest.raises(RuntimeError, match=r"Target values should be in \[0, 11\]"):
        head(x, target + 5)


def test_layers_without_settings_of_their_own():
    x = torch.arange(12.0).reshape(1, 4, 3)
    assert nn.Identity(1, a=2)(x) is x
    assert nn.Flatten()(x).shape == (1, 12) and nn.Unflatten(1, (2, 2))(x).shape == (1, 2, 2, 3)
    assert nn.ChannelShuffle(2)(x[..., None])[0, :, 0, 0].tolist() == [0, 6, 3, 9]
    assert nn.PixelUnshuffle(2)(nn.PixelShuffle(2)(x[..., None])).shape == (1, 4, 3, 1)
    assert nn.Upsample(scale_factor=2)(x).shape == (1, 4, 6)
    assert nn.DataParallel(nn.Linear(3, 2))(x).shape == (1, 4, 2)
    with pytest.raises(TypeError, match="unflattened_size must be a tuple of ints"):
        nn.Unflatten(1, 4)


def test_old_paths_of_pytorch():
    modules = nn.modules
    assert modules.conv._ConvNd is nn.Conv2d.__mro__[1] and modules.Linear is nn.Linear
    assert issubclass(nn.BatchNorm2d, modules.batchnorm._BatchNorm)
    assert modules.utils._pair(3) == (3, 3) and modules.utils._pair((1, 2)) == (1, 2)
    assert modules.activation.MultiheadAttention is nn.MultiheadAttention
