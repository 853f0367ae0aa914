"""Samples of recurrent sequences and cells."""

import numpy as np

from tests.samples.common import A, Sample


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_step(x, state, w_ih, w_hh, b_ih, b_hh):
    h, c = state
    i, f, g, o = np.split(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(x, state, w_ih, w_hh, b_ih, b_hh):
    (h,) = state
    (ir, iz, i_n), (hr, hz, hn) = (
        np.split(x @ w_ih.T + b_ih, 3, -1),
        np.split(h @ w_hh.T + b_hh, 3, -1),
    )
    z, n = sigmoid(iz + hz), np.tanh(i_n + sigmoid(ir + hr) * hn)
    return ((1 - z) * n + z * h,)


def simple_step(activation):
    return lambda x, state, w_ih, w_hh, b_ih, b_hh: (
        activation(x @ w_ih.T + b_ih + state[0] @ w_hh.T + b_hh),
    )


STEPS = {
    "lstm": (lstm_step, 4),
    "gru": (gru_step, 3),
    "rnn_tanh": (simple_step(np.tanh), 1),
    "rnn_relu": (simple_step(lambda x: np.maximum(x, 0)), 1),
}


def sequence(kind):
    def reference(x, hx, params, biases, layers, dropout, train, bidirectional, batch_first):
        states, last = (hx if kind == "lstm" else (hx,)), []
        x = x.swapaxes(0, 1) if batch_first else x
        for layer in range(layers):
            outs = []
            for d in range(1 + bidirectional):
                n = layer * (1 + bidirectional) + d
                state, out = tuple(s[n] for s in states), []
                for step in x[::-1] if d else x:
                    state = STEPS[kind][0](step, state, *params[4 * n : 4 * n + 4])
                    out.append(state[0])
                outs.append(np.stack(out[::-1] if d else out))
                last.append(state)
            x = np.concatenate(outs, -1)
        return (x.swapaxes(0, 1) if batch_first else x), *[np.stack(s) for s in zip(*last)]

    return reference


def cell(kind):
    def reference(x, hx, *weights):
        state = STEPS[kind][0](x, hx if kind == "lstm" else (hx,), *weights)
        return state if kind == "lstm" else state[0]

    return reference


def weights(gates, features, hidden):
    return [
        A(gates * hidden, features),
        A(gates * hidden, hidden),
        A(gates * hidden),
        A(gates * hidden),
    ]


def state(kind, *shape):
    return (A(*shape), A(*shape)) if kind == "lstm" else A(*shape)


SAMPLES = []
for _kind, (_, _gates) in STEPS.items():
    _twice = [w for f in (2, 2, 6, 6) for w in weights(_gates, f, 3)]
    SAMPLES += [
        Sample(
            f"{_kind}_cell",
            [A(2, 3), state(_kind, 2, 4), *weights(_gates, 3, 4)],
            cell(_kind),
            batch=_kind != "lstm",
            errors=[
                ([A(2, 5), state(_kind, 2, 4), *weights(_gates, 3, 4)], RuntimeError, "input_size"),
                (
                    [A(2, 3), state(_kind, 2, 5), *weights(_gates, 3, 4)],
                    RuntimeError,
                    "hidden_size",
                ),
            ],
        ),
        Sample(
            _kind,
            [
                A(3, 2, 2),
                state(_kind, 1, 2, 3),
                weights(_gates, 2, 3),
                True,
                1,
                0.0,
                True,
                False,
                False,
            ],
            sequence(_kind),
            batch=False,
        ),
        Sample(
            _kind,
            [A(2, 3, 2), state(_kind, 4, 2, 3), _twice, True, 2, 0.0, False, True, True],
            sequence(_kind),
            batch=False,
            second=False,
        ),
    ]
