"""Every operator by its samples: values, gradients to second order, jvp, vmap, in-place safety,
errors.

Each rule is checked against something independent: NumPy for values, finite differences for
derivatives, the vjp for the jvp, a loop for vmap.
"""

import warnings
from collections import Counter

import ml_dtypes
import numpy as np
import pytest

import lampion as torch
from lampion.autograd import gradcheck, gradgradcheck
from lampion.core.graph import STATE
from lampion.core.op import OPS
from lampion.core.tensor import wrap
from lampion.func import jvp, vjp, vmap
from tests.samples import all_samples
from tests.samples.common import A, Sample

SAMPLES = all_samples()
TOLERANCE = {
    "float16": (2e-3, 2e-3),
    "bfloat16": (2e-2, 2e-2),
    "float32": (2e-5, 1e-5),
    "complex64": (2e-5, 1e-5),
    "float64": (1e-9, 1e-10),
    "complex128": (1e-9, 1e-10),
}
NUMPY = {"bfloat16": ml_dtypes.bfloat16, "bool": np.bool_}

# Operators that a sample cannot call by themselves, with the reason.
DECLARED = set(OPS)  # before any test runs: hooks of modules make operators as they go
UNSAMPLED = {
    "scatter_view": "the history of in-place writes through views; tests/core/test_views.py",
    "copy": "the history of copy_; tests/core/test_inplace.py",
    "max_pool_take": "the double backward of max_pool; tests/ops/test_network.py",
    "scaled_dot_product_attention_gradient": "attention's, where it is recorded",
    "ctc_loss_gradient": "assumes log_softmax, as PyTorch's; tests/ops/test_network.py",
    "masked": "x[mask] where nothing observes; tests/ops/test_masks.py",
    "check_index": "a step of compiled programs; tests/compiler/test_indices.py",
}


def ids(samples: list) -> list[str]:
    """Names with a number where a name comes several times."""
    seen: Counter = Counter()
    found = []
    for s in samples:
        seen[s.name] += 1
        found.append(f"{s.name}-{seen[s.name]}")
    return found


def function(sample: Sample):
    """The public function of a sample."""
    found = torch
    for part in sample.name.split("."):
        found = getattr(found, part)
    return found


def arrays(sample: Sample, dtype: str, seed: int = 0):
    """The sample's arguments with NumPy arrays in the place of tensors."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(NUMPY.get(dtype, dtype))

    def build(x):
        if isinstance(x, A):
            return np.asarray(
                x.array(rng, np.dtype(NUMPY.get(x.dtype, x.dtype)) if x.dtype else kind)
            )
        if isinstance(x, (list, tuple)):
            return type(x)(build(v) for v in x)
        return x

    return [build(x) for x in sample.inputs], {k: build(v) for k, v in sample.kwargs.items()}


def tensors(x):
    """Arrays, nested, as tensors."""
    if isinstance(x, np.ndarray):
        return wrap(x.copy())
    if isinstance(x, (list, tuple)):
        return type(x)(tensors(v) for v in x)
    if isinstance(x, dict):
        return {k: tensors(v) for k, v in x.items()}
    return x


def wide(x, kinds):
    """Arrays of low precision, and of the given kinds, as float64 for the reference."""
    if isinstance(x, np.ndarray) and (
        x.dtype.name in ("float16", "bfloat16") or x.dtype.kind in kinds
    ):
        return x.astype(np.float64)
    if isinstance(x, (list, tuple)):
        return type(x)(wide(v, kinds) for v in x)
    return x


def flat(x):
    """Results as a flat list of tensors."""
    if isinstance(x, (list, tuple)):
        return [t for v in x for t in flat(v)]
    return [x]


CASES = [
    pytest.param(s, d, id=f"{i}-{d}")
    for s, i in zip(SAMPLES, ids(SAMPLES), strict=True)
    for d in (s.dtypes if s.reference else s.dtypes[:1])
]


@pytest.mark.parametrize(("sample", "dtype"), CASES)
def test_values(sample, dtype):
    args, kwargs = arrays(sample, dtype)
    got = flat(function(sample)(*tensors(args), **tensors(kwargs)))
    if sample.reference is None:
        assert all(isinstance(t, torch.Tensor) for t in got)
        return
    # NumPy gives half precision for functions of small integers, PyTorch single
    kinds = (
        "bui"
        if np.dtype(NUMPY.get(dtype, dtype)).kind in "bui" and got[0].dtype.is_floating_point
        else ""
    )
    want = flat(
        sample.reference(*wide(args, kinds), **{k: wide(v, kinds) for k, v in kwargs.items()})
    )
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        g, w = (
            np.asarray(g.detach().to(torch.float64) if g.dtype is torch.bfloat16 else g.detach()),
            np.asarray(w),
        )
        rtol, atol = TOLERANCE.get(dtype, (1e-5, 1e-5))
        assert g.shape == w.shape
        np.testing.assert_allclose(g.astype(complex), w.astype(complex), rtol=rtol, atol=atol)


def differentiable(sample: Sample, dtype: str = "float64"):
    """A function of the differentiable inputs alone, and these inputs."""
    args, kwargs = arrays(sample, dtype)
    given = tensors(args)
    flags = [a.grad if isinstance(a, A) else True for a in flat(list(sample.inputs))]
    leaves, places = [], []

    def collect(x, path=()):
        if isinstance(x, torch.Tensor):
            if next(flag) and x.dtype in (torch.float64, torch.complex128):
                leaves.append(x)
                places.append(path)
        elif isinstance(x, (list, tuple)):
            for i, v in enumerate(x):
                collect(v, (*path, i))
        else:
            next(flag)

    flag = iter(flags)
    for i, x in enumerate(given):
        collect(x, (i,))

    def put(x, path, value):
        if not path:
            return value
        items = list(x)
        items[path[0]] = put(items[path[0]], path[1:], value)
        return type(x)(items) if not isinstance(x, tuple) else tuple(items)

    def call(*values):
        filled = given
        for path, v in zip(places, values, strict=True):
            filled = put(filled, path, v)
        out = function(sample)(*filled, **tensors(kwargs))
        keep = [t for t in flat(out) if isinstance(t, torch.Tensor) and t.dtype.category >= 2]
        return tuple(keep)

    return call, leaves


GRADED = [s for s in SAMPLES if s.gradient]
GRADED_CASES = [
    pytest.param(s, d, id=f"{i}-{d}")
    for s, i in zip(SAMPLES, ids(SAMPLES), strict=True)
    if s.gradient
    for d in ("float64", "complex128")
    if d in s.dtypes
]


@pytest.mark.parametrize(("sample", "dtype"), GRADED_CASES)
def test_gradients(sample, dtype):
    call, leaves = differentiable(sample, dtype)
    assert leaves, "a sample with gradient=True needs a differentiable input"
    leaves = [x.requires_grad_() for x in leaves]
    assert gradcheck(call, leaves, atol=1e-5)
    if sample.second:
        assert gradgradcheck(call, leaves, atol=1e-4)


@pytest.mark.parametrize(("sample", "dtype"), GRADED_CASES)
def test_jvp_is_the_transpose_of_vjp(sample, dtype):
    call, leaves = differentiable(sample, dtype)
    rng = np.random.default_rng(1)

    def random_like(t):
        x = rng.standard_normal(tuple(t.shape))
        return wrap(
            np.asarray(
                x + 1j * rng.standard_normal(tuple(t.shape)) if t.is_complex() else x, t.dtype.numpy
            )
        )

    tangents = tuple(random_like(x) for x in leaves)
    outs, moved = jvp(call, tuple(leaves), tangents)
    cotangents = tuple(random_like(o) for o in outs)
    _, pull = vjp(call, *leaves)
    pulled = pull(cotangents)
    left = sum(
        (m.numpy() * c.numpy().conj()).real.sum() for m, c in zip(moved, cotangents, strict=True)
    )
    right = sum(
        (t.numpy() * p.numpy().conj()).real.sum() for t, p in zip(tangents, pulled, strict=True)
    )
    np.testing.assert_allclose(left, right, rtol=1e-7, atol=1e-8)


BATCHED = [
    pytest.param(s, id=i)
    for s, i in zip(SAMPLES, ids(SAMPLES), strict=True)
    if s.batch and any(isinstance(a, A) for a in flat(list(s.inputs)))
]


@pytest.mark.parametrize("sample", BATCHED)
def test_vmap_is_a_loop(sample):
    dtype = sample.dtypes[0]
    rows = [arrays(sample, dtype, seed)[0] for seed in range(3)]
    kwargs = tensors(arrays(sample, dtype)[1])
    call = function(sample)
    places = [
        isinstance(x, np.ndarray) and not (isinstance(a, A) and a.values is not None)
        for a, x in zip(sample.inputs, rows[0], strict=True)
    ]
    if not any(places):
        pytest.skip("only lists of tensors: vmapped by the functions that call it")
    expected = [
        flat(
            call(
                *[tensors(r[i]) if p else tensors(rows[0][i]) for i, p in enumerate(places)],
                **kwargs,
            )
        )
        for r in rows
    ]
    stacked = [
        wrap(np.stack([r[i] for r in rows])) if p else tensors(rows[0][i])
        for i, p in enumerate(places)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\[vmap\]")
        got = flat(
            vmap(
                lambda *xs: tuple(flat(call(*xs, **kwargs))),
                in_dims=tuple(0 if p else None for p in places),
            )(*stacked)
        )
    for k, g in enumerate(got):
        want = np.stack(
            [
                e[k].to(torch.float64).numpy() if e[k].dtype is torch.bfloat16 else e[k].numpy()
                for e in expected
            ]
        )
        g = g.to(torch.float64) if g.dtype is torch.bfloat16 else g
        np.testing.assert_allclose(np.asarray(g), want, rtol=1e-5, atol=1e-6)


ERRORS = [
    pytest.param(s, error, id=f"{i}-{k}")
    for s, i in zip(SAMPLES, ids(SAMPLES), strict=True)
    for k, error in enumerate(s.errors)
]


@pytest.mark.parametrize(("sample", "error"), ERRORS)
def test_errors(sample, error):
    inputs, kwargs, exception, pattern = error if len(error) == 4 else (error[0], {}, *error[1:])
    bad = Sample(sample.name, inputs, kwargs=kwargs)
    args, kwargs = arrays(bad, sample.dtypes[0])
    with pytest.raises(exception, match=pattern):
        function(sample)(*tensors(args), **tensors(kwargs))


class Names:
    """Notes the names of operators that run."""

    def __init__(self):
        self.seen = set()

    def __call__(self, op, inputs, params, outs):
        self.seen.add(op.name)

    def wrote(self, target, result):
        """In-place writes are no operators of their own."""


def test_every_operator_has_a_sample():
    names = Names()
    with STATE.set(observers=(names,)):
        for sample in SAMPLES:
            args, kwargs = arrays(sample, sample.dtypes[0])
            function(sample)(*tensors(args), **tensors(kwargs))
            if sample.gradient and "float64" in sample.dtypes:
                call, leaves = differentiable(sample)
                outs = call(*[x.requires_grad_() for x in leaves])
                live = [o for o in outs if o.requires_grad]
                torch.autograd.backward(
                    live, [wrap(np.ones(tuple(o.shape), o.dtype.numpy)) for o in live]
                )
    missing = sorted(DECLARED - names.seen - set(UNSAMPLED))
    assert not missing, f"operators without samples in tests/samples: {missing}"
