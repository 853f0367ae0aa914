"""Reading at masks where nothing observes, with gradients."""

import numpy as np
import pytest

import lampion as torch


@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 3, 2)])
def test_gradients_of_masked_reading(shape):
    """The values are NumPy's; first and second gradients against finite differences."""
    rng = np.random.default_rng(0)
    array = rng.standard_normal(shape)
    for chosen in (array > 0, np.zeros(shape, bool), np.ones(shape, bool)):
        mask, x = torch.from_numpy(chosen), torch.tensor(array, requires_grad=True)
        y = x[mask]
        assert np.array_equal(y.detach().numpy(), array[chosen])
        assert y.grad_fn.name() == "IndexBackward0"
        (y**2).sum().backward()
        assert np.array_equal(x.grad.numpy(), np.where(chosen, 2 * array, 0))
        cubes = lambda t, mask=mask: (t[mask] ** 3).sum()  # noqa: E731
        assert torch.autograd.gradcheck(cubes, x) and torch.autograd.gradgradcheck(cubes, x)


def test_masks_that_are_written_to_later():
    """As in PyTorch, the mask is what is saved."""
    x, mask = torch.ones(3, requires_grad=True), torch.tensor([True, False, True])
    y = x[mask]
    mask.zero_()
    with pytest.raises(RuntimeError, match=r"modified by an inplace operation: \[IndexBackward0\]"):
        y.sum().backward()
