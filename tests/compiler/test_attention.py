"""Attention as stages, against its definition in float64: shapes, masks, strides, levels of vector
units, what lies around the results.
"""

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

import lampion
from lampion.compiler.kernels.attention import attention_calls, attention_gradient_calls
from lampion.compiler.native import runtime, stages
from lampion.compiler.native.stages import Layout

LEVELS = [name for name in ("avx512", "avx2", "sse", "neon") if runtime.runs(name)]


@pytest.fixture(autouse=True)
def threads_restored():
    before = lampion.get_num_threads()
    yield
    lampion.set_num_threads(before)


def framed(*shape):
    """An array of heads inside a larger one of sevens: (B, H, T, D), with T before H in memory."""
    b, h, t, d = shape
    frame = np.full((b, t + 2, h, d + 3), 7, np.float32)
    return frame[:, 1 : t + 1, :, 1 : d + 1].transpose(0, 2, 1, 3), frame


def run(q, k, v, mask, g, scale, causal, target=None):
    """The result, the largest scores and sums, and the gradients; frames are checked."""
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    shapes = [(*lead, *x.shape[-2:]) for x in (q, k, v)]
    (y, *frames), *gradients = (
        framed(*lead, q.shape[-2], v.shape[-1]),
        *(framed(*s) for s in shapes),
    )
    frames += [frame for _, frame in gradients]
    dq, dk, dv = (x for x, _ in gradients)
    largest, total = (np.full(y.shape[:-1], np.nan, np.float32) for _ in "ab")
    given = [q, k, v, *([] if mask is None else [mask])]
    of_mask = None if mask is None else Layout.of(mask)
    layouts = [Layout.of(x) for x in (q, k, v)]
    options = {"scale": scale, "causal": causal, "target": target}
    calls = attention_calls(*layouts, of_mask, Layout.of(y), **options)
    stages.run(calls, [x.ctypes.data for x in (*given, y, largest, total)])
    others = [Layout.of(x) for x in (y, dq, dk, dv)]
    calls = attention_gradient_calls(Layout.of(g), *layouts, of_mask, *others, **options)
    stages.run(calls, [x.ctypes.data for x in (g, *given, y, largest, total, dq, dk, dv)])
    results = [x.copy() for x in (y, dq, dk, dv)]
    for x, frame in zip((y, dq, dk, dv), frames, strict=True):
        x[...] = 7
        assert (frame == 7).all()
    return results, largest, total


def reference(q, k, v, mask, g, scale, causal):
    """The definition, and its derivatives by hand, in float64."""
    q, k, v, g = (x.astype(np.float64) for x in (q, k, v, g))
    s = q @ k.swapaxes(-1, -2) * scale
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    top = s.max(-1, keepdims=True)
    p = np.exp(s - np.where(np.isneginf(top), 0, top))
    total = p.sum(-1, keepdims=True)
    p /= np.where(total == 0, 1, total)
    gp = g @ v.swapaxes(-1, -2)
    gs = p * (gp - (gp * p).sum(-1, keepdims=True)) * scale
    back = (gs @ k, gs.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g)
    return [p @ v, *back], top[..., 0], total[..., 0]


def compare(shapes, mask=None, causal=False, target=None):
    """Runs both on random numbers: (B, H, L, S, E, D)."""
    rng = np.random.default_rng(0)
    b, h, queries, keys, e, d = shapes
    sizes = ((b, h, queries, e), (b, h, keys, e), (b, h, keys, d), (b, h, queries, d))
    q, k, v, g = (rng.standard_normal(s).astype(np.float32) for s in sizes)
    q = np.ascontiguousarray(q.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    found, largest, total = run(q, k, v, mask, g, e**-0.5, causal, target)
    expected, top, sums = reference(q, k, v, mask, g, e**-0.5, causal)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5)
    seen = sums > 0
    np.testing.assert_allclose(largest[seen], top[seen], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total[seen], sums[seen], rtol=1e-4)


SHAPES = [
    (1, 1, 1, 1, 1, 1), (2, 3, 5, 7, 3, 4), (1, 2, 37, 53, 20, 17), (2, 1, 128, 128, 32, 32),
    (1, 2, 150, 270, 16, 33), (1, 1, 300, 600, 64, 144), (1, 1, 5, 400, 144, 1),
]  # fmt: skip


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("level", LEVELS)
def test_shapes_on_every_level(level, causal):
    for shapes in SHAPES if level == LEVELS[0] else SHAPES[1:5]:
        compare(shapes, causal=causal, target=runtime.level(level))


def test_masks_of_both_kinds():
    rng = np.random.default_rng(1)
    for shape in ((40, 50), (1, 50), (40, 1), (2, 1, 40, 50), (2, 3, 1, 50), (50,)):
        compare((2, 3, 40, 50, 8, 8), rng.standard_normal(shape).astype(np.float32))
        seen = rng.random(shape) < 0.7
        seen[..., :1] = True
        compare((2, 3, 40, 50, 8, 8), seen)


def test_queries_that_see_nothing_give_zeros():
    seen = np.ones((300, 300), bool)
    seen[3] = seen[200:210] = False
    seen[5, :256] = False  # sees nothing in the first block of keys
    compare((1, 1, 300, 300, 8, 8), seen)


def test_broadcast_keys():
    rng = np.random.default_rng(2)
    q, g = (rng.standard_normal((2, 4, 20, 8)).astype(np.float32) for _ in "ab")
    k, v = (rng.standard_normal((2, 1, 30, 8)).astype(np.float32) for _ in "ab")
    found, *_ = run(q, k, v, None, g, 0.3, False)
    expected, *_ = reference(q, k, v, None, g, 0.3, False)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=2e-5)


def test_large_scores_and_nan():
    q = np.full((1, 1, 2, 4), 100, np.float32)
    k = np.array([[[[100] * 4, [99] * 4, [-100] * 4]]], np.float32)
    v = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    found, *_ = run(q, k, v, None, np.ones((1, 1, 2, 4), np.float32), 1.0, False)
    np.testing.assert_allclose(found[0][0, 0], [[0, 1, 2, 3]] * 2)
    q[0, 0, 1, 2] = np.nan
    found, *_ = run(q, k, v, None, np.ones((1, 1, 2, 4), np.float32), 1.0, False)
    assert np.isnan(found[0][0, 0, 1]).all()
    np.testing.assert_allclose(found[0][0, 0, 0], [0, 1, 2, 3])


def test_same_bits_for_any_number_of_threads():
    rng = np.random.default_rng(3)
    q, k, v, g = (rng.standard_normal((2, 3, 200, 16)).astype(np.float32) for _ in "abcd")
    results = []
    for threads in (1, 2, 3):
        lampion.set_num_threads(threads)
        results.append(run(q, k, v, None, g, 0.25, True)[0])
    for other in results[1:]:
        assert all((x == y).all() for x, y in zip(results[0], other, strict=True))


def test_layouts_that_are_not_supported():
    good, y = Layout((2, 3, 4), (12, 4, 1), "float32"), Layout((2, 3, 4), (12, 4, 1), "float32")
    with pytest.raises(ValueError, match="side by side"):
        attention_calls(good._replace(strides=(12, 1, 3)), good, good, None, y, scale=1.0)
    with pytest.raises(ValueError, match="float32"):
        attention_calls(good._replace(dtype="float64"), good, good, None, y, scale=1.0)
    with pytest.raises(ValueError, match="1 to 144 features"):
        wide = Layout((2, 3, 200), (600, 200, 1), "float32")
        attention_calls(wide, wide, wide, None, wide, scale=1.0)
    with pytest.raises(ValueError, match=r"mask that broadcasts to \(3, 3\)"):
        mask = Layout((2, 2), (2, 1), "bool")
        attention_calls(good, good, good, mask, y, scale=1.0)


@pytest.mark.parametrize("kind", ["plain", "causal", "bool", "added"])
def test_eager_attention_and_its_gradients(kind):
    rng = np.random.default_rng(4)
    q, k, v, g = (rng.standard_normal((2, 80, 3, 16)).astype(np.float32) for _ in "abcd")
    given = [lampion.tensor(x, requires_grad=True) for x in (q, k, v)]
    mask = rng.random((80, 80)) < 0.8 if kind == "bool" else None
    if kind == "added":
        mask = rng.standard_normal((2, 1, 80, 80)).astype(np.float32)
    y = lampion.nn.functional.scaled_dot_product_attention(
        *(x.transpose(1, 2) for x in given),
        attn_mask=None if mask is None else lampion.tensor(mask),
        is_causal=kind == "causal",
    )
    y.backward(lampion.tensor(g).transpose(1, 2))
    heads = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    expected, *_ = reference(*heads, mask, g.transpose(0, 2, 1, 3), 0.25, kind == "causal")
    found = [y.detach().numpy(), *(x.grad.numpy().transpose(0, 2, 1, 3) for x in given)]
    for x, z in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, z, rtol=1e-4, atol=2e-5)
