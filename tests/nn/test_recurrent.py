"""Recurrent layers against a NumPy walk through the same formulas; packed sequences; cells."""

import numpy as np
import pytest

import lampion as torch
from lampion import nn
from lampion.nn.utils import rnn


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_step(mode, x, h, c, w):
    """(h, c) after a step, written out gate by gate."""
    a, b = x @ w["weight_ih"].T + w["bias_ih"], h @ w["weight_hh"].T + w["bias_hh"]
    n = len(w["weight_hh"].T)
    if mode == "LSTM":
        i, f, g, o = (np.split(a + b, 4, -1)[k] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if mode == "GRU":
        r, z = sigmoid(a[..., :n] + b[..., :n]), sigmoid(a[..., n : 2 * n] + b[..., n : 2 * n])
        new = np.tanh(a[..., 2 * n :] + r * b[..., 2 * n :])
        return (1 - z) * new + z * h, c
    return np.tanh(a + b), c


def numpy_layer(mode, layer, x, place, backwards):
    """Outputs and last state of one direction for one sequence (T, features)."""
    w = {
        n[: -len(place) - 1]: p.detach().numpy()
        for n, p in layer.named_parameters()
        if n.endswith(place)
    }
    h = c = np.zeros(layer.hidden_size)
    outputs = []
    for row in x[::-1] if backwards else x:
        h, c = numpy_step(mode, row, h, c, w)
        outputs.append(h)
    return np.array(outputs[::-1] if backwards else outputs), h, c


def numpy_run(mode, layer, x):
    """Outputs (T, 2 * hidden) and last states of a bidirectional two-layer network."""
    last = []
    for number in range(2):
        forward = numpy_layer(mode, layer, x, f"l{number}", False)
        back = numpy_layer(mode, layer, x, f"l{number}_reverse", True)
        x = np.concatenate([forward[0], back[0]], 1)
        last += [forward[1:], back[1:]]
    return x, [h for h, _ in last], [c for _, c in last]


@pytest.mark.parametrize("mode", ["LSTM", "GRU", "RNN"])
def test_packed_sequences_run_as_each_alone(mode):
    layer = getattr(nn, mode)(3, 4, num_layers=2, bidirectional=True).double()
    rows = [torch.randn(n, 3, dtype=torch.float64) for n in (2, 5, 1)]
    packed, states = layer(rnn.pack_sequence(rows, enforce_sorted=False))
    padded, lengths = rnn.pad_packed_sequence(packed, batch_first=True)
    assert lengths.tolist() == [2, 5, 1] and isinstance(packed, rnn.PackedSequence)
    h, *c = states if mode == "LSTM" else (states,)
    for i, row in enumerate(rows):
        outputs, hs, cs = numpy_run(mode, layer, row.numpy())
        np.testing.assert_allclose(padded[i, : len(row)].detach().numpy(), outputs, atol=1e-12)
        np.testing.assert_allclose(h[:, i].detach().numpy(), hs, atol=1e-12)
        if c:
            np.testing.assert_allclose(c[0][:, i].detach().numpy(), cs, atol=1e-12)
    assert (padded[0, 2:] == 0).all()


def test_layouts_agree():
    layer = nn.GRU(3, 4)
    x = torch.randn(5, 2, 3)
    out, h = layer(x)
    layer.batch_first = True
    swapped, h2 = layer(x.transpose(0, 1))
    assert torch.allclose(swapped.transpose(0, 1), out) and torch.allclose(h, h2)
    layer.batch_first = False
    single, h3 = layer(x[:, 0])
    assert torch.allclose(single, out[:, 0], atol=1e-6) and h3.shape == (1, 4)


def test_a_sequence_may_be_continued():
    layer = nn.LSTM(3, 4, proj_size=2)
    x = torch.randn(6, 2, 3)
    whole, _ = layer(x)
    first, state = layer(x[:4])
    second, _ = layer(x[4:], state)
    assert torch.allclose(torch.cat([first, second]), whole, atol=1e-6) and whole.shape == (6, 2, 2)


def test_gradients_reach_every_weight():
    layer = nn.LSTM(2, 3, num_layers=2, bidirectional=True, proj_size=2).double()
    x = torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    names = [n for n, _ in layer.named_parameters()]

    def run(x, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))


def test_cells_take_one_step():
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    for mode, cell in (
        ("LSTM", nn.LSTMCell(3, 4)),
        ("GRU", nn.GRUCell(3, 4)),
        ("RNN", nn.RNNCell(3, 4)),
    ):
        w = {n: p.detach().numpy() for n, p in cell.named_parameters()}
        wanted = numpy_step(mode, x.numpy(), h.numpy(), c.numpy(), w)
        found = cell(x, (h, c) if mode == "LSTM" else h)
        found = found if mode == "LSTM" else (found,)
        for a, b in zip(found, wanted, strict=False):
            np.testing.assert_allclose(a.detach().numpy(), b, rtol=1e-5, atol=1e-6)
        assert cell(x[0])[0].dim() == (1 if mode == "LSTM" else 0)
    relu = nn.RNNCell(3, 4, nonlinearity="relu")
    assert (relu(x) >= 0).all()


def test_dropout_only_between_layers():
    layer = nn.GRU(2, 64, num_layers=2, dropout=1.0)
    x = torch.ones(3, 1, 2)
    with torch.no_grad():
        layer.weight_ih_l1.fill_(1.0)
        layer.bias_ih_l1.zero_(), layer.bias_hh_l1.zero_(), layer.weight_hh_l1.zero_()
    assert (layer(x)[0] == 0).all() and not (layer.eval()(x)[0] == 0).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: nn.LSTM(3, 4)(torch.ones(3)),
            ValueError,
            "LSTM: Expected input to be 2D or 3D, got 1D instead",
        ),
        (
            lambda: nn.LSTM(3, 4)(torch.ones(3, 4)),
            RuntimeError,
            "input.size(-1) must be equal to input_size. Expected 3, got 4",
        ),
        (
            lambda: nn.LSTM(3, 4)(torch.ones(2, 3, 3), (torch.ones(1, 3, 4), torch.ones(1, 2, 4))),
            RuntimeError,
            "Expected hidden[1] size (1, 3, 4), got [1, 2, 4]",
        ),
        (
            lambda: nn.LSTM(3, 4)(torch.ones(2, 3), (torch.ones(1, 3, 4), torch.ones(1, 2, 4))),
            RuntimeError,
            "For unbatched 2-D input, hx and cx should also be 2-D but got (3-D, 3-D) tensors",
        ),
        (
            lambda: nn.GRU(3, 4)(torch.ones(2, 3, 3), torch.ones(2, 4)),
            RuntimeError,
            "For batched 3-D input, hx should also be 3-D but got 2-D tensor",
        ),
        (
            lambda: nn.GRU(3, 4)(torch.ones(2, 3, 3), torch.ones(2, 3, 4)),
            RuntimeError,
            "Expected hidden size (1, 3, 4), got [2, 3, 4]",
        ),
        (
            lambda: nn.GRU(3, 4)(torch.ones(2, 3, dtype=torch.float64)),
            ValueError,
            "RNN input dtype (torch.float64) does not match weight dtype (torch.float32)",
        ),
        (
            lambda: nn.RNNCell(3, 4)(torch.ones(2, 2)),
            RuntimeError,
            "inconsistent input_size: got 2 expected 3",
        ),
        (
            lambda: nn.GRUCell(3, 4)(torch.ones(2, 3), torch.ones(3, 4)),
            RuntimeError,
            "doesn't match hidden batch size",
        ),
        (lambda: nn.RNN(3, 4, nonlinearity="x"), ValueError, "Unknown nonlinearity 'x'"),
        (lambda: nn.LSTM(3, -1), ValueError, "hidden_size must be greater than zero"),
        (
            lambda: nn.LSTM(3, 4, dropout=2),
            ValueError,
            "dropout should be a number in range [0, 1]",
        ),
        (
            lambda: nn.GRU(3, 4, proj_size=2),
            ValueError,
            "proj_size argument is only supported for LSTM",
        ),
        (
            lambda: rnn.pack_sequence([torch.ones(1), torch.ones(2)]),
            RuntimeError,
            "sorted in decreasing order",
        ),
        (
            lambda: rnn.pack_padded_sequence(torch.ones(3, 2), [3, 0]),
            RuntimeError,
            "greater than 0",
        ),
        (
            lambda: rnn.pack_padded_sequence(torch.ones(3, 2), [3]),
            RuntimeError,
            "equal to batch_size, but got 1",
        ),
        (
            lambda: rnn.pack_padded_sequence(torch.ones(3, 2), [5, 1]),
            RuntimeError,
            "at most 3 steps, got 5",
        ),
        (
            lambda: rnn.pad_packed_sequence(rnn.pack_sequence([torch.ones(3)]), total_length=2),
            ValueError,
            "total_length=2 and max sequence length being 3",
        ),
        (lambda: rnn.pad_sequence([]), RuntimeError, "received an empty list"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


def test_padding_and_packing_round_trip():
    rows = [torch.arange(float(n)) for n in (3, 5, 1)]
    assert rnn.pad_sequence(rows, batch_first=True, padding_value=-1).tolist() == [
        [0, 1, 2, -1, -1],
        [0, 1, 2, 3, 4],
        [0, -1, -1, -1, -1],
    ]
    assert rnn.pad_sequence(rows, padding_side="left")[:, 2].tolist() == [0, 0, 0, 0, 0]
    packed = rnn.pack_sequence(rows, enforce_sorted=False)
    assert packed.data.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 4]
    assert packed.batch_sizes.tolist() == [3, 2, 2, 1, 1]
    assert packed.sorted_indices.tolist() == [1, 0, 2]
    padded, lengths = rnn.pad_packed_sequence(packed, batch_first=True, total_length=6)
    assert padded.shape == (3, 6) and lengths.tolist() == [3, 5, 1]
    assert [r.tolist() for r in rnn.unpack_sequence(packed)] == [r.tolist() for r in rows]
    assert packed.double().data.dtype == torch.float64 and packed.to("cpu") is packed
