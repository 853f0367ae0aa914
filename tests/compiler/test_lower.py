"""Lowered graphs against eager results, run by the interpreter that checks every access."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import lampion as torch
from lampion.compiler.lower.kernels import Host, Library
from lampion.compiler.lower.pipeline import lower
from tests.compiler.lowering import flat, graph_of, run
from tests.samples.common import Sample
from tests.test_operators import SAMPLES, arrays, function

F = torch.nn.functional
RNG = np.random.default_rng(0)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def agree(got: np.ndarray, expected: np.ndarray) -> None:
    """Equal shapes and types; floats close to each other for their type."""
    assert got.shape == expected.shape and got.dtype == expected.dtype
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, expected)
        return
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    a, b = got.astype(wide), expected.astype(wide)
    finite = b[np.isfinite(b)]
    scale = max(np.abs(finite).max(initial=0), 1.0)
    single = got.dtype in (np.float32, np.complex64)
    tolerance = 3e-5 if single else 1e-2 if got.itemsize == 2 else 1e-9
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


def check(f, *given: np.ndarray) -> list[str]:
    """Compares a function's kernels with itself; their names."""
    graph, expected = graph_of(f, *given)
    listed = lower(graph)
    for a, b in zip(run(listed, given), expected, strict=True):
        agree(a, b)
    return [kernel.name for kernel in listed.kernels]


# -- every operator ----------------------------------------------------------------------------

# Samples that are not compared, with the reason.
SKIPPED = {
    r"empty|new_empty": "memory without content",
    r"rand|normal|bernoulli|poisson|binomial|multinomial|dropout|rrelu|gumbel": "draws numbers",
    r"copy_|uniform_|exponential_|cauchy_|geometric_|log_normal_|matrix_power": "writes in place",
}
LEAVES = [s for s in SAMPLES if not any(re.search(p, s.name) for p in SKIPPED)]


class Leaf(NamedTuple):
    """Stands for an array among a call's arguments."""

    number: int


def call_of(sample: Sample, dtype: str):
    """The sample's call as a function of its arrays, and these."""
    args, kwargs = arrays(sample, dtype)
    leaves: list[np.ndarray] = []

    def strip(x):
        if isinstance(x, np.ndarray):
            leaves.append(x)
            return Leaf(len(leaves) - 1)
        return type(x)(map(strip, x)) if type(x) in (list, tuple) else x

    stripped = [strip(a) for a in args], {k: strip(v) for k, v in kwargs.items()}

    def fill(x, tensors):
        if isinstance(x, Leaf):
            return tensors[x.number]
        return type(x)(fill(v, tensors) for v in x) if type(x) in (list, tuple) else x

    def call(*tensors):
        given = [fill(a, tensors) for a in stripped[0]]
        return function(sample)(*given, **{k: fill(v, tensors) for k, v in stripped[1].items()})

    return call, leaves


def compare(call, leaves: list[np.ndarray]) -> None:
    """Compares a call's kernels with its results, unless one is a template, which has own tests."""
    try:
        graph, expected = graph_of(call, *leaves)
    except RuntimeError as error:
        if "writes in place" in str(error):
            return
        raise
    listed = lower(graph)
    if any(isinstance(kernel.work, Library) for kernel in listed.kernels):
        listed.verify()
        return
    for a, b in zip(run(listed, leaves), expected, strict=True):
        agree(a, b)


FAMILIES = sorted({s.name.rsplit(".", 1)[-1][0] for s in LEAVES})


@pytest.mark.parametrize("letter", FAMILIES)
def test_operators(letter):
    """Every sample whose operator begins with the letter, in its first type and in bfloat16."""
    for sample in LEAVES:
        if sample.name.rsplit(".", 1)[-1][0] == letter:
            for dtype in dict.fromkeys((sample.dtypes[0], "bfloat16")):
                if dtype in sample.dtypes:
                    compare(*call_of(sample, dtype))


GRADIENTS = r"^nn.functional.(softmax|layer_norm|group_norm|batch_norm|cross_entropy|gelu|glu|pad)|^(cat|where|clamp|index_select|gather|logsumexp|amax|var|prod|cumsum|tril|roll)$"  # noqa: E501


@pytest.mark.parametrize(
    "sample", [s for s in LEAVES if re.search(GRADIENTS, s.name)][::3], ids=str
)
def test_gradients(sample):
    """The backward passes of some operators."""
    call, leaves = call_of(sample, "float32")

    def gradients(*tensors):
        given = [t.requires_grad_(True) if t.is_floating_point() else t for t in tensors]
        outs = [o for o in flat(call(*given)) if o.requires_grad]
        needed = [t for t in given if t.requires_grad]
        found = torch.autograd.grad(sum((o * o).sum() for o in outs), needed, allow_unused=True)
        return [g for g in found if g is not None]

    compare(gradients, leaves)


# -- special values ----------------------------------------------------------------------------

SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-40, 3e38, -100.0, 90.0, 0.5], np.float32)
UNARY = [
    "exp", "log", "tanh", "sigmoid", "relu", "sqrt", "rsqrt", "abs", "neg", "sign", "floor",
    "isnan", "isinf", "isfinite", "nan_to_num", "erf", "square", "reciprocal", "expm1", "log1p",
]  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_special_values(name):
    graph, (expected,) = graph_of(getattr(torch, name), SPECIAL)
    (got,) = run(lower(graph), [SPECIAL])
    if expected.dtype.kind == "b":
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-42)


def test_extremes_of_special_values():
    x = f32(6, 10)
    x[0, 3], x[1, 2], x[2], x[3, 1], x[4], x[5, 4] = np.nan, np.inf, -np.inf, -np.inf, -0.0, -np.nan
    check(lambda a: (a.amax(1), a.amin(1), a.max(), a.amax(0), a.amin(0)), x)


# -- views -------------------------------------------------------------------------------------

VIEWS = {
    "transpose": lambda x: x.transpose(0, 2),
    "permute": lambda x: x.permute(1, 2, 0),
    "slice": lambda x: x[1:, ::2],
    "select": lambda x: x[:, 1],
    "flip": lambda x: x.flip(0, 2),
    "expand": lambda x: x[:, :1].expand(2, 3, 4),
    "reshape of a transpose": lambda x: x.transpose(0, 1).reshape(4, 6),
    "flatten": lambda x: x.flatten(),
    "unfold": lambda x: x.unfold(2, 2, 1),
    "diagonal": lambda x: x.diagonal(0, 0, 1),
    "as_strided": lambda x: x.as_strided((2, 2), (3, 1), 2),
    "squeeze": lambda x: x[:, :1].squeeze(1).unsqueeze(0),
    "views of views": lambda x: x.flip(1).permute(2, 0, 1)[1:, :, 1:].reshape(-1)[2:],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(name):
    view = VIEWS[name]
    names = check(lambda x: view(x) * 2 + view(x * x), f32(2, 3, 4))
    assert len(names) == (4 if name == "as_strided" else 1), names
    check(view, f32(2, 3, 4))


def test_elementwise_work_reads_views_in_place():
    """No copy is made for a transposed, sliced or repeated operand."""
    names = check(lambda a, b: (a.t()[1:] + b.unsqueeze(1)).exp().reshape(-1), f32(5, 4), f32(3))
    assert names == ["exp copy add"]


# -- look-ups and scatter ----------------------------------------------------------------------


def test_gradients_of_look_ups():
    index = np.array([[1, 3, 1], [0, 1, 3]])

    def gradient(w, i):
        w = w.requires_grad_(True)
        return torch.autograd.grad((F.embedding(i, w, padding_idx=3) * 2).exp().sum(), w)

    names = check(gradient, f32(5, 64), index)
    assert names[0] == "check_index" and names[-1] == "embedding_gradient" and len(names) == 3

    def rows(w, i):
        w = w.requires_grad_(True)
        return torch.autograd.grad((w[i] * 2).exp().sum(), w)

    check(rows, f32(5, 6), index)
    check(lambda x, i, s: x.scatter_add(0, i, s), f32(5, 3), index, f32(2, 3))
    check(lambda x, i, s: x.scatter(1, i, s), f32(2, 5), np.array([[1, 3], [4, 0]]), f32(2, 2))


def test_wrong_indices_read_nothing_and_show():
    """Memory beyond the table is never read: the interpreter would notice."""
    index = np.array([0, 7, -9, -1])
    graph, _ = graph_of(lambda w, i: w[i], f32(5, 3), index % 5)
    w = f32(5, 3)
    (got,) = run(lower(graph), [w, index])
    np.testing.assert_array_equal(got[[0, 3]], w[[0, -1]])
    assert np.isnan(got[[1, 2]]).all()


# -- random programs ---------------------------------------------------------------------------

STEPS = [
    lambda x, y: x + y, lambda x, y: x * y - 1, lambda x, y: x.exp().clamp(max=3.0),
    lambda x, y: x - x.mean(-1, keepdim=True), lambda x, y: x.softmax(0),
    lambda x, y: x / (x * x).sum(dim=(0, 1), keepdim=True).add(1).sqrt(),
    lambda x, y: x.transpose(0, 1).reshape(x.shape), lambda x, y: x.flip(1),
    lambda x, y: torch.where(x > y, x, y), lambda x, y: x.amax(1, keepdim=True) - y,
    lambda x, y: torch.cat([x[:, 1:], y[:, :1]], 1), lambda x, y: x.sum() * 0.01 + y,
    lambda x, y: x.roll(1, 0).tril(), lambda x, y: (x > 0).to(x.dtype) * y,
]  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 30), st.integers(0, 30)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([(3, 4), (2, 3, 4), (5, 5)]),
)
def test_random_programs(choices, shape):
    x, y = np.random.default_rng(1).standard_normal((2, *shape))

    def program(x, y):
        values = [x, y]
        for number, a, b in choices:
            values.append(STEPS[number](values[a % len(values)], values[b % len(values)]))
        return values[2:]

    check(program, x, y)


def test_what_nobody_lowers_runs_on_the_host():
    graph, (expected,) = graph_of(lambda x: torch.linalg.svdvals(x * 2) + 1, f32(3, 3))
    listed = lower(graph)
    assert sum(isinstance(k.work, Host) for k in listed.kernels) == 1
    np.testing.assert_allclose(run(listed, [graph_input(graph)])[0].shape, expected.shape)


def graph_input(graph) -> np.ndarray:
    """Some array of the first input's shape."""
    return f32(*graph.inputs[0].value.shape)
