"""What is timed: the seven training steps and the calls of the bandwidth table, with their sizes
and data. Imports NumPy only; both are written, under the names used here, in torch_steps.py and
jax_steps.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

Size = SimpleNamespace
Batch = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Workload:
    """One piece of work that every contestant does on the same numbers."""

    title: str
    size: Mapping[str, int]
    tiny: Mapping[str, int]  # for tests
    batch: Callable[[np.random.Generator, Size], Batch]
    goal: float = 0.0  # the best peer's time by compiled Lampion's
    checked: int = 5  # steps whose losses are compared
    tolerance: float = 1e-4  # of the losses, relative
    read_bytes: int = 0  # of a call, per element
    written_bytes: int = 0

    def data(self, size: Mapping[str, int]) -> Batch:
        """The batch, the same in every process."""
        return self.batch(np.random.default_rng(1), Size(**size))


def no_batch(rng: np.random.Generator, size: Size) -> Batch:
    return ()


def regression(rng: np.random.Generator, size: Size) -> Batch:
    return (
        rng.standard_normal((size.batch, size.inputs), np.float32),
        rng.standard_normal((size.batch, size.outputs), np.float32),
    )


def vectors(rng: np.random.Generator, size: Size) -> Batch:
    x = rng.standard_normal((size.batch, size.inputs), np.float32)
    return x, rng.integers(size.outputs, size=size.batch)


def images(rng: np.random.Generator, size: Size) -> Batch:
    x = rng.standard_normal((size.batch, 3, size.image, size.image), np.float32)
    return x, rng.integers(size.classes, size=size.batch)


def tokens(rng: np.random.Generator, size: Size) -> Batch:
    text = rng.integers(size.vocabulary, size=(size.batch, size.length + 1))
    return np.ascontiguousarray(text[:, :-1]), np.ascontiguousarray(text[:, 1:])


def matrices(count: int) -> Callable[[np.random.Generator, Size], Batch]:
    """Data of a call on so many matrices."""

    def make(rng: np.random.Generator, size: Size) -> Batch:
        return tuple(rng.random((size.rows, size.columns), np.float32) for _ in range(count))

    return make


TWO_LAYERS = {"batch": 64, "inputs": 1000, "hidden": 100, "outputs": 10}
TINY_LAYERS = {"batch": 4, "inputs": 6, "hidden": 5, "outputs": 3}
MLP = {"batch": 128, "inputs": 784, "width": 100, "depth": 1, "outputs": 10}

STEPS = {
    "scalar": Workload("scalar graph, forward and backward", {}, {}, no_batch, goal=3),
    "two_layer": Workload(
        "two layers 64-1000-100-10, autograd, SGD", TWO_LAYERS, TINY_LAYERS, regression, goal=1.5
    ),
    "two_layer_nn": Workload(
        "two layers 64-1000-100-10, nn, Adam", TWO_LAYERS, TINY_LAYERS, regression, goal=2
    ),
    "mlp": Workload(
        "MLP 784-100-10, batch 128, SGD",
        MLP,
        {"batch": 4, "inputs": 6, "width": 5, "depth": 2, "outputs": 3},
        vectors,
        goal=1.5,
    ),
    "resnet18": Workload(
        "ResNet-18, 16 x 224 x 224, SGD, momentum",
        {"batch": 16, "image": 224, "width": 64, "classes": 1000},
        {"batch": 4, "image": 64, "width": 4, "classes": 5},
        images,
        goal=1.15,
        checked=3,
        tolerance=1e-3,
    ),
    "gpt": Workload(
        "GPT, 4 blocks, width 256, 16 x 128, AdamW",
        {"batch": 16, "length": 128, "blocks": 4, "width": 256, "heads": 8, "vocabulary": 256},
        {"batch": 2, "length": 6, "blocks": 2, "width": 8, "heads": 2, "vocabulary": 11},
        tokens,
        goal=1.6,
    ),
    "lstm": Workload(
        "LSTM, 2 layers, width 256, 32 x 64, AdamW",
        {"batch": 32, "length": 64, "layers": 2, "width": 256, "vocabulary": 256},
        {"batch": 2, "length": 4, "layers": 2, "width": 6, "vocabulary": 11},
        tokens,
        goal=1.5,
    ),
}

MATRIX = {"rows": 4096, "columns": 1024}  # 16 MiB: beyond the caches of a core


def call(title: str, inputs: int, reads: int, writes: int) -> Workload:
    """A call on so many matrices that has to read and write so many of their size."""
    return Workload(
        title, MATRIX, {"rows": 8, "columns": 16}, matrices(inputs), checked=1,
        read_bytes=4 * reads, written_bytes=4 * writes,
    )  # fmt: skip


CALLS = {
    "copy": call("copy", 1, 1, 1),
    "add": call("a + b", 2, 2, 1),
    "exp": call("exp(a)", 1, 1, 1),
    "chain": call("gelu(a * b + 0.5)", 2, 2, 1),
    "sum": call("a.sum()", 1, 1, 0),
    "sum_rows": call("a.sum(1)", 1, 1, 0),
    "sum_columns": call("a.sum(0)", 1, 1, 0),
    "softmax": call("softmax(a, 1)", 1, 1, 1),
    "layer_norm": call("layer_norm(a)", 1, 1, 1),
}

WORKLOADS = STEPS | CALLS
