"""Joining tensors: what samples cannot say."""

import pytest

import lampion as torch


@pytest.mark.parametrize("shape, dim", [((3,), 0), ((2, 3), 0), ((2, 3), 1)])
def test_empty_vectors_join_anything_and_get_gradients(shape, dim):
    empty, full = torch.zeros(0, requires_grad=True), torch.ones(shape)
    joined = torch.cat((empty, full, empty), dim)
    assert joined.tolist() == full.tolist() and joined.requires_grad
    (gradient,) = torch.autograd.grad(joined.sum(), empty)
    assert gradient.shape == (0,)


X, AT = torch.arange(12.0).reshape(3, 4), torch.tensor([[0, 1]])
AXES = {
    "softmax": lambda **k: X.softmax(**k),
    "log_softmax": lambda **k: torch.log_softmax(X, **k),
    "stack": lambda **k: torch.stack([X, X], **k),
    "squeeze": lambda **k: X[:, :1].squeeze(**k),
    "unsqueeze": lambda **k: X.unsqueeze(**k),
    "unbind": lambda **k: X.unbind(**k)[1],
    "unflatten": lambda **k: X.unflatten(sizes=(2, -1), **k),  # of the four columns
    "norm": lambda **k: X.norm(**k),
    "linalg.norm": lambda **k: torch.linalg.norm(X, **k),
    "gather": lambda **k: torch.gather(X, index=AT, **k),
    "take_along_dim": lambda **k: X.take_along_dim(AT, **k),
    "index_select": lambda **k: X.index_select(index=AT[0], **k),
    "index_fill": lambda **k: X.index_fill(index=AT[0], value=2.0, **k),
    "scatter": lambda **k: X.scatter(index=AT, value=7.0, **k),
    "select": lambda **k: X.select(index=1, **k),
    "narrow": lambda **k: torch.narrow(X, start=1, length=2, **k),
    "cross": lambda **k: torch.cross(X[:, :3], X[:, 1:], **k),
    "repeat_interleave": lambda **k: X.repeat_interleave(2, **k),
    "cosine_similarity": lambda **k: torch.cosine_similarity(X, X * 2, **k),
    "renorm": lambda **k: torch.renorm(X, p=2, maxnorm=1.0, **k),
}


@pytest.mark.parametrize("name", AXES)
def test_axis_is_dim(name):
    """PyTorch takes NumPy's name wherever a function has a dimension."""
    torch.testing.assert_close(AXES[name](axis=1), AXES[name](dim=1))
