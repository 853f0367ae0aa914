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
