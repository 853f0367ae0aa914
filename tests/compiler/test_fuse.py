"""How many kernels a graph becomes: what is fused stays fused."""

from __future__ import annotations

import numpy as np

import lampion as torch
from lampion.compiler.lower.kernels import Generated, KernelList
from lampion.compiler.lower.pipeline import lower
from tests.compiler.lowering import graph_of, run

F = torch.nn.functional


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def kernels(f, *given: np.ndarray) -> KernelList:
    return lower(graph_of(f, *given)[0])


def count(f, *given: np.ndarray) -> int:
    return len(kernels(f, *given).kernels)


def gradients(f):
    """The function that also differentiates its sum by all floating arguments."""

    def call(*tensors):
        given = [t.requires_grad_(True) if t.is_floating_point() else t for t in tensors]
        y = f(*given)
        return [y, *torch.autograd.grad(y.sin().sum(), [t for t in given if t.requires_grad])]

    return call


def test_forward_passes_are_one_kernel():
    x, w, b = f32(8, 16), f32(16), f32(16)
    assert count(lambda x: F.gelu(x * 2 + 1).relu(), x) == 1
    assert count(lambda x: x.softmax(1), x) == 1
    assert count(lambda x: x.log_softmax(-1), x) == 1
    assert count(lambda x, w, b: F.layer_norm(x, (16,), w, b), x, w, b) == 1
    assert count(lambda x, w, b: F.layer_norm(x * 2, (16,), w, b).tanh() + x, x, w, b) == 1
    assert (
        count(lambda x, g: F.batch_norm(x, None, None, g, g, True).relu(), f32(2, 3, 4, 4), f32(3))
        == 1
    )
    assert count(lambda x: x.logsumexp(1), x) == 1


def test_backward_passes():
    x, w, b = f32(8, 16), f32(16), f32(16)
    assert count(gradients(lambda x: x.softmax(1)), x) == 1
    # y and gx in rows; then gw and gb, which sum over the rows, in one sweep
    assert count(gradients(lambda x, w, b: F.layer_norm(x, (16,), w, b)), x, w, b) <= 3
    image = f32(2, 3, 4, 4)
    assert (
        count(
            gradients(lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
            image,
            f32(3),
            f32(3),
        )
        == 1
    )


def test_cross_entropy_with_its_gradient():
    target = np.arange(8) % 16

    def both(x, t):
        x = x.requires_grad_(True)
        loss = F.cross_entropy(x, t)
        return [loss, *torch.autograd.grad(loss, x)]

    listed = kernels(both, f32(8, 16), target)
    assert all(isinstance(k.work, Generated) for k in listed.kernels)
    assert (
        len(listed.kernels) <= 5
    )  # the check; rows; the weights' sum; the losses' mean; the gradient


def test_large_sums_are_two_sweeps():
    """Blocks, then their sum: the same bits for any number of threads."""
    listed = kernels(lambda x: x.sum(), f32(512, 256))
    assert [k.work.extent for k in listed.kernels] == [16, 1]
    listed = kernels(lambda x: x.sum(0), f32(512, 256))
    assert [k.work.extent for k in listed.kernels] == [16, 256]
    assert count(lambda x: x.sum(1), f32(512, 256)) == 1


def test_one_kernel_updates_a_parameter():
    def adam(p, g, m, v):
        m = m.lerp(g, 0.1)
        v = v * 0.999 + g * g * 0.001
        return p - 0.01 * m / (v.sqrt() + 1e-8), m, v

    listed = kernels(adam, *[f32(64, 32) for _ in range(4)])
    assert len(listed.kernels) == 1
    (kernel,) = listed.kernels
    pairs = {(a.number, b.number) for a, b in kernel.in_place}
    assert len({b for _, b in pairs}) == 3  # each result may replace what it is made of

    def ten(*tensors):
        return [t for i in range(0, 40, 4) for t in adam(*tensors[i : i + 4])]

    assert count(ten, *[f32(8, i // 4 + 1) for i in range(40)]) == 10


def test_cheap_values_are_made_again_instead_of_kept():
    def mask_later(x):
        seen = x > 0
        return (x.sum(0) * 2).exp(), (torch.where(seen, x, 0) * 2).sum(1)

    listed = kernels(mask_later, f32(64, 32))
    kept = {b.dtype for k in listed.kernels for b in k.writes}
    assert kept == {np.dtype(np.float32)}


def writes(f, *given: np.ndarray) -> list[int]:
    """How many stores each kernel has for its first result."""
    found = []
    for kernel in kernels(f, *given).kernels:
        stores = [n for n in kernel.work.program.toposort() if n.op == "store"]
        pointers = [n.src[0] for n in stores]
        found.append(max(pointers.count(p) for p in pointers))
    return found


def test_costly_values_of_a_row_are_kept_in_its_result():
    """Exponentials of a softmax and what a normalisation is of; no cheap ones, and none of a single
    row, whose sums are computed before any loop.
    """
    x = f32(8, 16)
    assert writes(lambda x: x.softmax(1), x) == [2]
    assert writes(lambda x: F.layer_norm(F.gelu(x), (16,)), x) == [2]
    assert writes(lambda x: F.layer_norm(x, (16,)), x) == [1]
    assert writes(lambda x: x.flatten().softmax(0), x) == [1]


def test_kept_values_are_read_before_they_are_overwritten():
    """Several results of one row, sums among them, some in the memory of others."""
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((5, 9)).astype(t) for t in (np.float32, np.float64)]
    for x in given:
        for f in (
            lambda x: (x.softmax(1), x.softmax(1) * 2, x.exp()),
            lambda x: (x.exp(), x.exp().sum(1), x.exp() / x.exp().sum(1, keepdim=True)),
            lambda x: x.softmax(1).softmax(1) + x, lambda x: (x * 2).softmax(1) * x,
            lambda x: (x.sin() / x.sin().norm(dim=1, keepdim=True), x.sin().amax(1), x * 3),
            lambda x: F.layer_norm(F.gelu(x), (9,)).tanh() + x.sin().sum(1, keepdim=True),
        ):  # fmt: skip
            graph, wanted = graph_of(f, x)
            for got, want in zip(run(lower(graph), [x]), wanted, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_columns_do_not_wait_for_rows():
    """A cycle between groups would have to be cut: the result is in an order that works."""

    def tangled(x):
        rows = x.sum(1)
        columns = (x * rows.unsqueeze(1).exp()).sum(0)
        return (x * columns.exp()).sum(1) + rows

    kernels(tangled, f32(6, 7)).verify()


def test_equal_steps_are_done_once():
    assert count(lambda x: x.exp().sum(1) + x.exp().sum(1), f32(4, 5)) == 1
    listed = kernels(lambda x: ((x * 3).exp(), x.exp()[:0]), f32(4, 5))
    assert len(listed.kernels) == 2


def test_loops_are_cut_instead_of_dividing_positions():
    def heads(q, k, v):
        parts = [
            t.transpose(1, 2).reshape(2, 5, 12) for t in (q, k, v)
        ]  # (B, H, T, D) -> (B, T, C)
        return torch.cat(parts, 2) * 2

    (kernel,) = kernels(heads, *[f32(2, 3, 5, 4) for _ in range(3)]).kernels
    operations = {node.op for node in kernel.work.program.toposort()}
    assert not operations & {"div", "mod"}


def test_no_value_is_copied_twice():
    def heads(x, w):
        y = x.transpose(1, 2).reshape(2, 5, 12)  # (B, H, T, D) -> (B, T, C)
        return F.linear(y, w), y.reshape(-1, 12).t() @ y.reshape(-1, 12)

    listed = kernels(heads, f32(2, 3, 5, 4), f32(6, 12))
    assert sum(isinstance(k.work, Generated) for k in listed.kernels) == 1
    assert len(listed.kernels) == 3


def test_reshapes_of_reshapes_are_read_in_place():
    def gradient(x, g):
        rows = (x.exp() * x).reshape(6, 4).reshape(2, 3, 4)
        return g.reshape(6, 5).t() @ rows.reshape(6, 4), rows @ x.reshape(6, 4).t()

    listed = kernels(gradient, f32(2, 3, 4), f32(2, 3, 5))
    assert len(listed.kernels) == 3  # x.exp() * x, and the products
