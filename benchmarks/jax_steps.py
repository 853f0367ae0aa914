"""The same training steps for JAX: pure functions of weights named as in torch_steps.py, compiled
whole, with the old state's buffers given away. Imports jax.

The forms are those JAX is fastest with: images as NHWC, an LSTM's input products before its scan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from torch_steps import Training
from workloads import Size

Weights = dict[str, Any]
Update = Callable[[Weights, Weights, Any], tuple[Weights, Any]]


def scalar(weights: Weights, size: Size) -> Training:
    x, y, z = (weights[name] for name in "xyz")
    gradients: Weights = {}

    @jax.jit
    def value_and_gradients(x: Any, y: Any, z: Any) -> Any:
        def f(x: Any, y: Any, z: Any) -> Any:
            return jnp.tanh(jnp.log(1 + z * 2 * x / jnp.sin(y)))

        return jax.value_and_grad(f, (0, 1, 2))(x, y, z)

    def step() -> Any:
        nonlocal gradients
        value, found = value_and_gradients(x, y, z)
        gradients = dict(zip("xyz", found, strict=True))
        return value

    return Training(weights, step, lambda: gradients)


def fitted(weights: Weights, loss_of: Callable[..., Any], update: Update, slots: int) -> Training:
    """Loss, gradients and update as one program; `loss_of` gives new buffers beside the loss."""
    trained = {name for name in weights if "running" not in name}
    zeros = [{name: jnp.zeros_like(weights[name]) for name in trained} for _ in range(slots)]
    state = (weights, zeros, jnp.zeros((), jnp.float32))

    def next_state(state: Any, *batch: Any) -> Any:
        weights, slots, count = state
        parameters = {name: weights[name] for name in trained}
        buffers = {name: w for name, w in weights.items() if name not in trained}
        (loss, buffers), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            parameters, buffers, *batch
        )
        parameters, slots = update(parameters, gradients, slots, count + 1)
        return ({**parameters, **buffers}, slots, count + 1), loss

    compiled = jax.jit(next_state, donate_argnums=0)

    def step(*batch: Any) -> Any:
        nonlocal state
        state, loss = compiled(state, *batch)
        return loss

    return Training(weights, step, lambda: state[0])


def sgd(rate: float, momentum: float = 0.0) -> Update:
    """`slots` holds the velocities, where there is momentum."""

    def update(weights: Weights, gradients: Weights, slots: Any, count: Any) -> Any:
        if momentum:
            (velocity,) = slots
            gradients = {n: momentum * velocity[n] + g for n, g in gradients.items()}
            slots = [gradients]
        return {n: w - rate * gradients[n] for n, w in weights.items()}, slots

    return update


def adam(rate: float, decay: float = 0.0) -> Update:
    """Adam with decoupled weight decay; `slots` holds both moments."""

    def update(weights: Weights, gradients: Weights, slots: Any, count: Any) -> Any:
        means = {n: 0.9 * slots[0][n] + 0.1 * g for n, g in gradients.items()}
        squares = {n: 0.999 * slots[1][n] + 0.001 * g * g for n, g in gradients.items()}
        size = rate / (1 - 0.9**count)
        scale = jnp.sqrt(1 - 0.999**count)

        def moved(name: str, w: Any) -> Any:
            root = jnp.sqrt(squares[name]) / scale + 1e-8
            return w * (1 - rate * decay) - size * means[name] / root

        return {n: moved(n, w) for n, w in weights.items()}, [means, squares]

    return update


def cross_entropy(scores: Any, labels: Any) -> Any:
    chosen = jnp.take_along_axis(scores, labels[..., None], -1)[..., 0]
    return (jax.nn.logsumexp(scores, -1) - chosen).mean()


def linear(w: Weights, name: str, x: Any) -> Any:
    y = x @ w[f"{name}.weight"].T
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def two_layer(weights: Weights, size: Size) -> Training:
    def loss_of(w: Weights, buffers: Weights, x: Any, y: Any) -> Any:
        return ((jnp.maximum(x @ w["w1"], 0) @ w["w2"] - y) ** 2).sum(), buffers

    return fitted(weights, loss_of, sgd(1e-6), 0)


def two_layer_nn(weights: Weights, size: Size) -> Training:
    def loss_of(w: Weights, buffers: Weights, x: Any, y: Any) -> Any:
        return ((linear(w, "2", jax.nn.relu(linear(w, "0", x))) - y) ** 2).mean(), buffers

    return fitted(weights, loss_of, adam(1e-4), 2)


def mlp(weights: Weights, size: Size) -> Training:
    def loss_of(w: Weights, buffers: Weights, x: Any, y: Any) -> Any:
        for layer in range(size.depth):
            x = jax.nn.relu(linear(w, str(2 * layer), x))
        return cross_entropy(linear(w, str(2 * size.depth), x), y), buffers

    return fitted(weights, loss_of, sgd(0.01), 0)


def resnet18(weights: Weights, size: Size) -> Training:
    def conv(x: Any, kernel: Any, stride: int, padding: int) -> Any:
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), [(padding, padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    def loss_of(w: Weights, buffers: Weights, x: Any, y: Any) -> Any:
        new = {}

        def norm(x: Any, name: str) -> Any:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            count = x.size // x.shape[-1]
            unbiased = variance * count / (count - 1)
            for key, value in (("running_mean", mean), ("running_var", unbiased)):
                new[f"{name}.{key}"] = 0.9 * buffers[f"{name}.{key}"] + 0.1 * value
            scale = w[f"{name}.weight"] * lax.rsqrt(variance + 1e-5)
            return (x - mean) * scale + w[f"{name}.bias"]

        def block(x: Any, name: str, stride: int) -> Any:
            y = norm(conv(x, w[f"{name}.conv1.weight"], stride, 1), f"{name}.norm1")
            y = norm(conv(jax.nn.relu(y), w[f"{name}.conv2.weight"], 1, 1), f"{name}.norm2")
            if f"{name}.shortcut.0.weight" in w:
                x = norm(conv(x, w[f"{name}.shortcut.0.weight"], stride, 0), f"{name}.shortcut.1")
            return jax.nn.relu(y + x)

        x = jax.nn.relu(norm(conv(x.transpose(0, 2, 3, 1), w["0.weight"], 2, 3), "1"))
        edges = [(0, 0), (1, 1), (1, 1), (0, 0)]
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)
        for number in range(8):
            x = block(x, str(4 + number), 2 if number in (2, 4, 6) else 1)
        return cross_entropy(linear(w, "14", x.mean((1, 2))), y), new

    weights = {n: w.transpose(2, 3, 1, 0) if w.ndim == 4 else w for n, w in weights.items()}
    return fitted(weights, loss_of, sgd(0.01, momentum=0.9), 1)


def layer_norm(w: Weights, name: str, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    scale = lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred * scale * w[f"{name}.weight"] + w[f"{name}.bias"]


def gpt(weights: Weights, size: Size) -> Training:
    def attention(w: Weights, name: str, x: Any) -> Any:
        B, T, C = x.shape
        heads = (B, T, size.heads, C // size.heads)
        q, k, v = (t.reshape(heads) for t in jnp.split(linear(w, f"{name}.qkv", x), 3, -1))
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)  # (B, T, H, D)
        return linear(w, f"{name}.out", y.reshape(B, T, C))

    def loss_of(w: Weights, buffers: Weights, x: Any, y: Any) -> Any:
        x = w["tokens.weight"][x] + w["positions.weight"]
        for number in range(size.blocks):
            name = f"blocks.{number}"
            x = x + attention(w, f"{name}.attention", layer_norm(w, f"{name}.norm1", x))
            h = linear(w, f"{name}.mlp.0", layer_norm(w, f"{name}.norm2", x))
            x = x + linear(w, f"{name}.mlp.2", jax.nn.gelu(h, approximate=False))
        return cross_entropy(linear(w, "head", layer_norm(w, "norm", x)), y), buffers

    return fitted(weights, loss_of, adam(3e-4, decay=0.01), 2)


def lstm(weights: Weights, size: Size) -> Training:
    def layer(w: Weights, number: int, x: Any) -> Any:
        end = f"l{number}"
        inputs = x @ w[f"lstm.weight_ih_{end}"].T  # (T, B, 4 * width)
        inputs = inputs + (w[f"lstm.bias_ih_{end}"] + w[f"lstm.bias_hh_{end}"])

        def cell(state: Any, x: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(x + h @ w[f"lstm.weight_hh_{end}"].T, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[1], size.width))
        return lax.scan(cell, (zeros, zeros), inputs)[1]

    def loss_of(w: Weights, buffers: Weights, x: Any, y: Any) -> Any:
        x = w["tokens.weight"][x.T]  # (T, B, width)
        for number in range(size.layers):
            x = layer(w, number, x)
        return cross_entropy(linear(w, "head", x), y.T), buffers

    return fitted(weights, loss_of, adam(3e-4, decay=0.01), 2)


def normalized(a: Any) -> Any:
    centred = a - a.mean(1, keepdims=True)
    return centred * lax.rsqrt((centred * centred).mean(1, keepdims=True) + 1e-5)


CALLS: dict[str, Callable[..., Any]] = {
    "copy": jnp.copy,
    "add": lambda a, b: a + b,
    "exp": jnp.exp,
    "chain": lambda a, b: jax.nn.gelu(a * b + 0.5, approximate=False),
    "sum": jnp.sum,
    "sum_rows": lambda a: a.sum(1),
    "sum_columns": lambda a: a.sum(0),
    "softmax": lambda a: jax.nn.softmax(a, 1),
    "layer_norm": normalized,
}


def build(name: str, size: Size, weights: dict[str, np.ndarray]) -> Training:
    """The named workload of workloads.py, from these weights."""
    if name in CALLS:
        return Training({}, jax.jit(CALLS[name]))
    return BUILDERS[name]({n: jnp.array(w) for n, w in weights.items()}, size)


BUILDERS = {f.__name__: f for f in (scalar, two_layer, two_layer_nn, mlp, resnet18, gpt, lstm)}
