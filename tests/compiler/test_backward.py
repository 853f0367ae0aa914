"""The backward of what compiled functions return: gradients that meet, memory that changes."""

import numpy as np
import pytest

import lampion as torch

BACKENDS = ("interpreter", "inductor")


def leaf(*values):
    return torch.tensor(values, requires_grad=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_argument_that_depends_on_another_counts_once(backend):
    x = leaf(1.0, 2.0, 3.0)
    c = torch.compile(lambda y, x: (y * x).sum(), backend=backend)
    for _ in range(3):
        x.grad = None
        c(x * 2, x).backward()
        np.testing.assert_allclose(x.grad.numpy(), [4.0, 8.0, 12.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_captured_tensor_that_depends_on_another_counts_once(backend):
    w = leaf(1.0, 2.0, 3.0)
    h = w * 3
    c = torch.compile(lambda x: (h * w * x).sum(), backend=backend)
    for _ in range(3):
        w.grad = None
        c(torch.ones(3)).backward(retain_graph=True)
        np.testing.assert_allclose(w.grad.numpy(), [6.0, 12.0, 18.0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_backward_needs_may_not_change(backend):
    x, k = leaf(1.0, 2.0), torch.tensor([3.0, 4.0])
    c = torch.compile(lambda x, k: (x * k).sum(), backend=backend)
    for _ in range(4):
        loss = c(x, k)
        k.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_captured_memory_that_the_backward_needs_may_not_change(backend):
    x, k = leaf(1.0, 2.0), torch.tensor([3.0, 4.0])
    c = torch.compile(lambda x: (x * k).sum(), backend=backend)
    for _ in range(4):
        loss = c(x)
        k.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_backward_does_not_need_may_change(backend):
    x, k = leaf(1.0, 2.0), torch.tensor([3.0, 4.0])
    c = torch.compile(lambda x, k: (x * 2 + k).sum(), backend=backend)
    for _ in range(4):
        x.grad = None
        loss = c(x, k)
        k.add_(1)
        loss.backward()
        np.testing.assert_allclose(x.grad.numpy(), [2.0, 2.0])
