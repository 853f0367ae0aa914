"""Recurrent networks over sequences: LSTM, GRU and simple ones, their layers and single steps. May
import rules, earlier families, core and the base.

All inputs of a layer meet their weights in one product; the steps of a whole layer are one fused
operator, or each step is a product with the state and a fused operator. Sequences of different
lengths come packed: step t holds those that are long enough, longest first.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.autograd import grad
from ..core.dispatch import apply
from ..core.graph import DIRECT, GENERAL, STATE
from ..core.op import Op
from ..core.tensor import Tensor, wrap
from ..errors import check
from . import recurrent_kernels as kernels
from .linear import linear
from .recurrent_kernels import parts
from .rules import EXPORTS, F32, F64, batch_elementwise
from .shape import cat, stack

State = tuple[Tensor, ...]

# -- the fused steps ---------------------------------------------------------------------------


def sigmoid(x: ndarray) -> ndarray:
    """1 / (1 + exp(-x)) in one array."""
    y = np.negative(x)
    np.exp(y, out=y)
    y += 1
    return np.reciprocal(y, out=y)


def joined(values: Sequence[Any]) -> Any:
    """Side by side in the last dimension."""
    return cat(list(values), -1) if isinstance(values[0], Tensor) else np.concatenate(values, -1)


def lstm_gates(gates: Any) -> tuple:
    """Input, forget, cell and output gate of arrays or tensors."""
    g = parts(gates, 4)[2]
    if isinstance(gates, Tensor):
        i, f, _, o = parts(gates.sigmoid(), 4)
        return i, f, g.tanh(), o
    i, f, _, o = parts(sigmoid(gates), 4)  # one pass over all is shorter than three over parts
    return i, f, np.tanh(g), o


def lstm_kernel(gates: ndarray, c: ndarray) -> tuple[ndarray, ndarray]:
    """(h, c) after a step."""
    i, f, g, o = lstm_gates(gates)
    c = f * c + i * g
    return o * np.tanh(c), c


def lstm_gradients(gh: Any, gc: Any, gates: Any, c: Any) -> list:
    """The gradients of the gates and of c, on arrays or tensors; those of the results may be 0."""
    i, f, g, o = lstm_gates(gates)
    new = f * c + i * g
    t = new.tanh() if isinstance(new, Tensor) else np.tanh(new)
    gc = gc + gh * o * (1 - t * t)
    inner = (gc * g * i * (1 - i), gc * c * f * (1 - f), gc * i * (1 - g * g), gh * t * o * (1 - o))
    return [joined(inner), gc * f]


def gru_gates(x: Any, h: Any) -> tuple:
    """Reset and update gate, the candidate state and the state's share of it."""
    (xr, xz, xn), (hr, hz, hn) = parts(x, 3), parts(h, 3)
    if isinstance(x, Tensor):
        r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
        return r, z, (xn + r * hn).tanh(), hn
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    return r, z, np.tanh(xn + r * hn), hn


def gru_kernel(x: ndarray, h: ndarray, before: ndarray) -> ndarray:
    """The state after a step, from the gates' shares of input and state."""
    _, z, n, _ = gru_gates(x, h)
    return n + z * (before - n)


def gru_gradients(g: Any, x: Any, h: Any, before: Any) -> list:
    """The gradients of the gates' shares of input and state, and of the state, on arrays or
    tensors.
    """
    r, z, n, hn = gru_gates(x, h)
    gn = g * (1 - z) * (1 - n * n)
    gr, gz = gn * hn * r * (1 - r), g * (before - n) * z * (1 - z)
    return [joined((gr, gz, gn)), joined((gr, gz, gn * r)), g * z]


def on_arrays(gradients: Callable, tensors: tuple) -> list:
    """Runs a rule on arrays where nothing is recorded, else on tensors."""
    if STATE.mode != DIRECT:
        return gradients(*[0 if t is None else t for t in tensors])
    return [wrap(a) for a in gradients(*[0 if t is None else t._data for t in tensors])]


LSTM_STEP = Op(
    "lstm_step",
    ("gates", "c"),
    lstm_kernel,
    kind="fused",
    vjp=lambda g, gates, c: on_arrays(lstm_gradients, (*g, gates, c)),
    batch=lambda size, values, dims, params, op: (
        batch_elementwise(size, values, dims, params, op)[0],
        (0, 0),
    ),
    outputs=("h", "new"),
    title=lambda node: "AddBackward0" if getattr(node, "index", 0) else "MulBackward0",
)
GRU_STEP = Op(
    "gru_step",
    ("x", "h", "before"),
    gru_kernel,
    kind="fused",
    vjp=lambda g, x, h, before: on_arrays(gru_gradients, (g, x, h, before)),
    batch=batch_elementwise,
    grad_name="AddBackward0",
)

# -- one step ----------------------------------------------------------------------------------


def lstm_step(
    x: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None
) -> State:
    """(h, c) after a step; x is the input's share of the gates (N, 4 * hidden), w_hr a projection
    of h.
    """
    h, c = apply(LSTM_STEP, x + linear(state[0], w_hh, b_hh), state[1])
    return (h if w_hr is None else linear(h, w_hr)), c


def gru_step(x: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None, w_hr: None) -> State:
    """(h,) after a step; x is the input's share of the gates (N, 3 * hidden)."""
    return (apply(GRU_STEP, x, linear(state[0], w_hh, b_hh), state[0]),)


def tanh_step(x: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None, w_hr: None) -> State:
    """(h,) after a step of a simple network."""
    return ((x + linear(state[0], w_hh, b_hh)).tanh(),)


def relu_step(x: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None, w_hr: None) -> State:
    """(h,) after a step of a simple network with ReLU."""
    return ((x + linear(state[0], w_hh, b_hh)).relu(),)


STEPS: dict[str, Callable] = {
    "lstm": lstm_step,
    "gru": gru_step,
    "rnn_tanh": tanh_step,
    "rnn_relu": relu_step,
}
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}

# -- step by step ------------------------------------------------------------------------------


def walk(
    step: Callable[..., State], inputs: list[Tensor], start: State, weights: tuple, backwards: bool
) -> tuple[list[Tensor], State]:
    """The outputs of all steps and the last state of every sequence.

    inputs   the inputs' shares of each step, (N_t, gates) with N_t never increasing
    start    the states before the first step, (N, *)
    """
    state, ended, outputs = start, [], []
    if backwards and inputs:
        state = tuple([s[: inputs[-1].size(0)] for s in start])
    for x in reversed(inputs) if backwards else inputs:
        size, have = x._data.shape[0], state[0]._data.shape[0]
        if size < have:
            ended.append(tuple([s[size:] for s in state]))
            state = tuple([s[:size] for s in state])
        elif size > have:
            state = tuple([cat([s, s0[have:size]]) for s, s0 in zip(state, start)])
        state = step(x, state, *weights)
        outputs.append(state[0])
    if backwards:
        outputs.reverse()
    if ended:
        state = tuple([cat(pieces) for pieces in zip(state, *reversed(ended))])
    return outputs, state


# -- whole layers ------------------------------------------------------------------------------


def layer_gradients(kind: str, g: Any, inputs: tuple, kept: tuple, backwards: bool) -> list:
    """The gradients of a fused layer: on arrays, or of the same steps in public operators."""
    given = g[:2] if isinstance(g, list) else [g]  # of an LSTM: outputs and last c
    whole = STATE.mode == DIRECT or (STATE.only_observed() and not STATE.grad)
    if not whole:
        return stepwise_gradients(kind, given, inputs, backwards)
    grads = apply(LAYER_GRADIENTS[kind], *given, *inputs, *kept, backwards=backwards)
    found = iter(grads)
    return [None if t is None else next(found) for t in inputs]


def stepwise_gradients(kind: str, given: list, inputs: tuple, backwards: bool) -> list:
    """The gradients of a layer run step by step, which can be differentiated again."""
    recorded = STATE.grad
    with STATE.set(grad=True):
        inputs = tuple([t if t is None or not t._requires_grad else t.view_as(t) for t in inputs])
        x, w, b, *start = inputs
        out, state = walk(STEPS[kind], list(x.unbind(0)), tuple(start), (w, b, None), backwards)
        results = [(r, g) for r, g in zip((stack(out), *state[1:]), given) if g is not None]
        wanted = [t for t in inputs if t is not None and t._requires_grad]
        found = iter(grad([r for r, _ in results], wanted, [g for _, g in results],
                          create_graph=recorded, allow_unused=True))  # fmt: skip
    return [next(found) if t is not None and t._requires_grad else None for t in inputs]


LSTM_LAYER = Op(
    "lstm_layer",
    ("x", "w", "b", "h", "c"),
    kernels.lstm,
    kind="fused",
    vjp=lambda g, x, w, b, h, c, out, last, gates, cells, backwards: layer_gradients(
        "lstm", g, (x, w, b, h, c), (out, last, gates, cells), backwards
    ),
    outputs=("out", "last", "gates", "cells"),
    constant_outputs=("gates", "cells"),
    grad_name="StackBackward0",
)
GRU_LAYER = Op(
    "gru_layer",
    ("x", "w", "b", "h"),
    kernels.gru,
    kind="fused",
    vjp=lambda g, x, w, b, h, out, gates, shares, backwards: layer_gradients(
        "gru", g, (x, w, b, h), (out, gates, shares), backwards
    ),
    outputs=("out", "gates", "shares"),
    constant_outputs=("gates", "shares"),
    grad_name="StackBackward0",
)


def simple_layer(kind: str, relu: bool) -> Op:
    """The record of a layer of a simple network."""
    return Op(
        f"{kind}_layer",
        ("x", "w", "b", "h"),
        functools.partial(kernels.simple, relu=relu),
        kind="fused",
        vjp=lambda g, x, w, b, h, out, backwards: layer_gradients(
            kind, g, (x, w, b, h), (out,), backwards
        ),
        outputs=("out",),
        grad_name="StackBackward0",
    )


LAYERS = {
    "lstm": LSTM_LAYER,
    "gru": GRU_LAYER,
    "rnn_tanh": simple_layer("rnn_tanh", False),
    "rnn_relu": simple_layer("rnn_relu", True),
}


def layer_gradient(kind: str, gradients: Callable) -> Op:
    """The record of a fused layer's gradients: those of the inputs that there are."""

    def kernel(*arrays: ndarray | None, backwards: bool) -> tuple:
        found = gradients(*arrays, backwards=backwards)
        return tuple([a for a in found if a is not None])

    given = ("g", "gc") if kind == "lstm" else ("g",)
    layer = LAYERS[kind]
    return Op(
        f"{kind}_layer_gradient",
        (*given, *layer.inputs, *layer.outputs),
        kernel,
        kind="fused",
        outputs=("gradients", ...),
    )


LAYER_GRADIENTS = {
    "lstm": layer_gradient("lstm", kernels.lstm_gradient),
    "gru": layer_gradient("gru", kernels.gru_gradient),
    "rnn_tanh": layer_gradient("rnn_tanh", functools.partial(kernels.simple_gradient, relu=False)),
    "rnn_relu": layer_gradient("rnn_relu", functools.partial(kernels.simple_gradient, relu=True)),
}


def run_layer(
    kind: str, x: Tensor, sizes: list[int], start: State, weights: tuple, backwards: bool
) -> tuple[Tensor, State]:
    """One layer in one direction: fused where all sequences are as long and nothing watches."""
    w, b, w_hr = weights
    tensors = [t for t in (x, w, b, *start) if t is not None]
    types = {t._data.dtype for t in tensors}
    if (
        (STATE.mode == GENERAL and not STATE.only_observed())
        or w_hr is not None
        or len(set(sizes)) != 1
        or types not in FUSED_TYPES
    ):
        out, state = walk(STEPS[kind], list(x.split(sizes)), start, weights, backwards)
        return cat(out), state
    outs = apply(
        LAYERS[kind], x.unflatten(0, (len(sizes), sizes[0])), w, b, *start, backwards=backwards
    )
    out = outs[0] if isinstance(outs, tuple) else outs
    state = (out[0 if backwards else -1], *((outs[1],) if kind == "lstm" else ()))
    return out.flatten(0, 1), state


FUSED_TYPES = ({F32}, {F64})

# -- sequences ---------------------------------------------------------------------------------


def run_layers(
    kind: str,
    x: Tensor,
    sizes: list[int],
    states: State,
    layers: list[tuple],
    dropout: float,
    directions: int,
) -> tuple[Tensor, State]:
    """The outputs of the last layer and the last states of all.

    x        the inputs of all steps, one step below the other, (sum of sizes, features)
    sizes    how many sequences each step holds
    states   before the first step, (layers * directions, N, *) each
    layers   (w_ih, w_hh, b_ih, b_hh, w_hr) of each layer and direction; the last three may be None
    dropout  the share of each layer's outputs, but the last one's, that is dropped; 0 in evaluation
    """
    last = []
    for first in range(0, len(layers), directions):
        outs = []
        for i in range(first, first + directions):
            w_ih, w_hh, b_ih, b_hh, w_hr = layers[i]
            start = tuple([s[i] for s in states])
            weights = (w_hh, b_hh, w_hr)
            out, state = run_layer(kind, linear(x, w_ih, b_ih), sizes, start, weights, i > first)
            outs.append(out)
            last.append(state)
        x = outs[0] if directions == 1 else cat(outs, -1)
        if dropout and first + directions < len(layers):
            x = EXPORTS["nn.functional"]["dropout"](x, dropout)
    return x, tuple([stack(pieces) for pieces in zip(*last)])


def layer_weights(params: Sequence[Tensor], count: int, has_biases: bool) -> list[tuple]:
    """The flat list of weights, by layer and direction, with None for those that are absent."""
    each = len(params) // count
    groups = [tuple(params[i : i + each]) for i in range(0, len(params), each)]
    return [
        (*p[:2], *(p[2:4] if has_biases else (None, None)), p[-1] if each % 2 else None)
        for p in groups
    ]


def make_sequence(kind: str) -> Callable:
    """`torch.lstm` and its like: over padded sequences, or over packed ones."""

    def run(
        x: Tensor,
        sizes: list[int],
        hx: Any,
        params: Any,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
    ) -> tuple:
        states = tuple(hx) if kind == "lstm" else (hx,)
        directions = 1 + bool(bidirectional)
        weights = layer_weights(list(params), num_layers * directions, has_biases)
        out, states = run_layers(
            kind, x, sizes, states, weights, dropout if train else 0.0, directions
        )
        return out, *states

    def packed(
        data: Tensor, batch_sizes: Tensor, hx: Any, params: Any, *options: Any, **named: Any
    ) -> tuple:
        return run(data, batch_sizes.tolist(), hx, params, *options, **named)

    def padded(
        input: Tensor,
        hx: Any,
        params: Any,
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple:
        x = input.transpose(0, 1) if batch_first else input  # (T, N, features)
        time, n = x._data.shape[:2]
        check(time > 0, lambda: f"[{kind}] Expected sequence length to be larger than 0 in RNN")
        options = has_biases, num_layers, dropout, train, bidirectional
        out, *states = run(x.flatten(0, 1), [n] * time, hx, params, *options)
        out = out.unflatten(0, (time, n))
        if out.grad_fn is not None:
            one_way = "MkldnnRnnLayerBackward0" if kind == "lstm" else "StackBackward0"
            out.grad_fn.title = "CatBackward0" if bidirectional else one_way
        return (out.transpose(0, 1) if batch_first else out), *states

    def function(*args: Any, **kwargs: Any) -> tuple:
        is_packed = "batch_sizes" in kwargs or (len(args) > 3 and not isinstance(args[3], bool))
        return (packed if is_packed else padded)(*args, **kwargs)

    function.__name__ = function.__qualname__ = kind
    function.__doc__ = """The outputs of all steps, and the last states of all layers, of a
    recurrent network.

    Called as `f(input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
    batch_first)` for padded sequences (T, N, features), or as `f(data, batch_sizes, hx, params,
    has_biases, ...)` for packed ones.
    """
    return function


def make_cell(kind: str) -> Callable:
    """`torch.lstm_cell` and its like: one step from the input itself."""

    def function(
        input: Tensor,
        hx: Any,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Any:
        state = tuple(hx) if kind == "lstm" else (hx,)
        check_cell(f"{kind}_cell", input, state, w_ih, w_hh, GATES[kind])
        state = STEPS[kind](linear(input, w_ih, b_ih), state, w_hh, b_hh, None)
        return state if kind == "lstm" else state[0]

    function.__name__ = function.__qualname__ = f"{kind}_cell"
    function.__doc__ = (
        "The state after one step of a recurrent network: inputs (N, features), states (N, hidden)."
    )
    return function


def check_cell(name: str, x: Tensor, state: State, w_ih: Tensor, w_hh: Tensor, gates: int) -> None:
    """Raises RuntimeError for sizes that do not go together."""
    features, hidden = w_ih._data.shape[1], w_hh._data.shape[1]
    check(
        x._data.shape[-1] == features,
        lambda: (
            f"[{name}] input has inconsistent input_size: got {x._data.shape[-1]} expected "
            f"{features}"
        ),
    )
    check(
        w_ih._data.shape[0] == w_hh._data.shape[0] == gates * hidden,
        lambda: (
            f"[{name}] expects weights of {gates} * hidden rows, got {list(w_ih._data.shape)} and "
            f"{list(w_hh._data.shape)}"
        ),
    )
    for s in state:
        check(
            s._data.shape[:-1] == x._data.shape[:-1],
            lambda s=s: (
                f"[{name}] Input batch size {list(x._data.shape[:-1])} doesn't match hidden batch "
                f"size {list(s._data.shape[:-1])}"
            ),
        )
        check(
            s._data.shape[-1] == hidden,
            lambda s=s: (
                f"[{name}] hidden has inconsistent hidden_size: got {s._data.shape[-1]}, expected "
                f"{hidden}"
            ),
        )


EXPORTS["torch"].update({kind: make_sequence(kind) for kind in STEPS})
EXPORTS["torch"].update({f"{kind}_cell": make_cell(kind) for kind in STEPS})
