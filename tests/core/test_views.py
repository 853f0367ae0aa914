"""Views: which results share memory, their strides, bases and names; what counts as an index."""

import gc
import weakref

import numpy as np
import pytest

import lampion as torch
from lampion.func import vmap


def leaf(*shape, seed=0):
    """A random leaf in double precision."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return torch.tensor(x, dtype=torch.float64).requires_grad_()


# -- memory ------------------------------------------------------------------------------------

SHARING = {
    "view": lambda x: x.view(12),
    "view of a dtype": lambda x: x.view(torch.int64),
    "reshape": lambda x: x.reshape(2, -1),
    "flatten": lambda x: x.flatten(),
    "t": lambda x: x.t(),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "transpose": lambda x: x.transpose(0, 1),
    "permute": lambda x: x.permute(1, 0),
    "movedim": lambda x: x.movedim(0, 1),
    "squeeze": lambda x: x.unsqueeze(0).squeeze(0),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "expand": lambda x: x.expand(2, 3, 4),
    "integer": lambda x: x[1],
    "negative integer": lambda x: x[-1],
    "element": lambda x: x[1, 2],
    "0-dim index": lambda x: x[torch.tensor(1)],
    "slice": lambda x: x[1:3],
    "column": lambda x: x[:, 0],
    "new dimension": lambda x: x[None],
    "ellipsis": lambda x: x[..., 1:],
    "select": lambda x: x.select(0, 1),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "split": lambda x: x.split(2)[0],
    "chunk": lambda x: x.chunk(2, 1)[1],
    "unbind": lambda x: x.unbind()[2],
    "tensor_split": lambda x: x.tensor_split(2)[0],
    "diagonal": lambda x: x.diagonal(),
    "unfold": lambda x: x.unfold(0, 2, 1),
    "as_strided": lambda x: x.as_strided((2, 2), (1, 4), 2),
    "detach": lambda x: x.detach(),
    "data": lambda x: x.data,
    "contiguous already": lambda x: x.contiguous(),
}
COPYING = {
    "reshape of a transpose": lambda x: x.t().reshape(12),
    "contiguous": lambda x: x.t().contiguous(),
    "list": lambda x: x[[0, 1]],
    "mask": lambda x: x[x > 0],
    "index_select": lambda x: x.index_select(0, torch.tensor([0])),
    "diag": lambda x: x.diag(),
    "flip": lambda x: x.flip(0),
    "repeat": lambda x: x.repeat(1, 1),
    "clone": lambda x: x.clone(),
    "cat": lambda x: torch.cat([x]),
    "view_copy": lambda x: torch.view_copy(x, (12,)),
}


@pytest.mark.parametrize("name", SHARING)
def test_views_share_memory(name):
    x = torch.arange(12.0, dtype=torch.float64).reshape(3, 4).clone()
    view = SHARING[name](x)
    assert np.shares_memory(view.numpy(), x.numpy())
    x.fill_(7)
    assert (view.view(torch.float64) if view.dtype is torch.int64 else view).eq(7).all()


@pytest.mark.parametrize("name", COPYING)
def test_copies_do_not(name):
    x = torch.arange(12.0, dtype=torch.float64).reshape(3, 4).clone()
    assert not np.shares_memory(COPYING[name](x).numpy(), x.numpy())


def test_strides_and_offsets():
    x = torch.arange(24).reshape(2, 3, 4)
    assert x.stride() == (12, 4, 1)
    assert x.permute(2, 0, 1).stride() == (1, 12, 4)
    assert x[1, 1:].storage_offset() == 16
    assert x.unsqueeze(1).stride() == (12, 12, 4, 1)
    assert x[:, :1].expand(2, 5, 4).stride() == (12, 0, 1)
    assert x.unfold(2, 2, 1).stride() == (12, 4, 1, 1)
    assert not x.mT.is_contiguous()
    assert x.mT.contiguous().is_contiguous()
    assert x.flip(0).stride() == (12, 4, 1)


def test_base_of_a_view():
    x = leaf(3, 4)
    y = x * 1
    assert y._base is None
    assert y[0][1:]._base is y
    assert y.t()._is_view()
    assert y.detach()._base is None
    assert not y.clone()._is_view()


def test_views_that_are_gone_are_forgotten():
    x = torch.zeros(1000)
    for i in range(1000):
        x[i]
    gc.collect()
    assert len(x._storage.views) < 64
    kept = [x[i] for i in range(100)]
    assert sum(r() is not None for r in x._storage.views) == len(kept)
    last = weakref.ref(kept.pop())
    gc.collect()
    assert last() is None


# -- history -----------------------------------------------------------------------------------

GRAD_NAMES = {
    "ViewBackward0": lambda y: [
        y.view(12),
        y.reshape(4, 3),
        y.flatten(),
        y.ravel(),
        y.unflatten(0, (3, 1)),
    ],
    "SelectBackward0": lambda y: [
        y[0],
        y[:, 0],
        y[1, 2],
        y[0, :],
        y.select(0, 1),
        y[torch.tensor(1)],
    ],
    "SliceBackward0": lambda y: [y[:], y[0:2], y[0, 1:2], y.narrow(0, 0, 1), y.tensor_split(2)[0]],
    "UnsqueezeBackward0": lambda y: [y[None], y[0, None], y.unsqueeze(1)],
    "AliasBackward0": lambda y: [y[...], y[()]],
    "TBackward0": lambda y: [y.t()],
    "PermuteBackward0": lambda y: [y.T, y.permute(1, 0), y.movedim(0, 1)],
    "TransposeBackward0": lambda y: [y.transpose(0, 1), y.mT, y.mH, y.adjoint(), y.swapaxes(0, 1)],
    "SqueezeBackward0": lambda y: [y.squeeze()],
    "SqueezeBackward1": lambda y: [y.squeeze(0)],
    "SqueezeBackward2": lambda y: [y.squeeze((0, 1))],
    "ExpandBackward0": lambda y: [y.expand(2, 3, 4), torch.broadcast_to(y, (2, 3, 4))],
    "SplitBackward0": lambda y: [y.split(1)[0], y.chunk(2)[1]],
    "SplitWithSizesBackward0": lambda y: [y.split([1, 2])[0]],
    "UnbindBackward0": lambda y: [y.unbind()[0]],
    "DiagonalBackward0": lambda y: [y.diagonal()],
    "UnfoldBackward0": lambda y: [y.unfold(0, 2, 1)],
    "AsStridedBackward0": lambda y: [y.as_strided((2,), (1,))],
    "IndexBackward0": lambda y: [y[[0]], y[y > 0], y[torch.tensor([0]), 1:]],
    "CatBackward0": lambda y: [torch.cat([y, y]), torch.hstack([y, y])],
    "StackBackward0": lambda y: [torch.stack([y, y])],
    "GatherBackward0": lambda y: [y.gather(0, torch.zeros(1, 4, dtype=torch.int64))],
}


@pytest.mark.parametrize("name", GRAD_NAMES)
def test_names_of_grad_fn(name):
    y = leaf(3, 4) * 1
    assert {v.grad_fn.name() for v in GRAD_NAMES[name](y)} == {name}


# -- indexing rules that NumPy does not share --------------------------------------------------


def test_integers_select_before_lists():
    z = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert z[0, :, [0, 1]].shape == (3, 2, 5)
    assert z[[0, 1], :, [0, 1]].shape == (2, 3, 5)
    assert z[True, :, [0, 1]].shape == (2, 2, 4, 5)
    assert z[:, True, [0, 1]].shape == (2, 2, 4, 5)
    assert z[:, torch.ones(3, 4, dtype=torch.bool)].shape == (2, 12, 5)
    assert z[False].shape == (0, 2, 3, 4, 5)


def test_everything_that_counts_as_an_index():
    x = torch.arange(12).reshape(3, 4)
    rows = [[4, 5, 6, 7], [0, 1, 2, 3]]
    for index in (
        [1, 0],
        torch.tensor([1, 0]),
        torch.tensor([1, 0], dtype=torch.int32),
        np.array([1, 0]),
        range(1, -1, -1),
        ([1, 0],),
    ):
        assert x[index].tolist() == rows
    assert x[np.int64(1)].tolist() == rows[0]
    assert x[torch.tensor([1, 0, 0], dtype=torch.uint8)].tolist() == [rows[1]]
    assert x[[True, False, False]].tolist() == [rows[1]]
    assert x[[[0, 1], [1, 2]]].tolist() == [1, 6]
    assert x[1 : torch.tensor(3)].shape == (2, 4)
    assert x[[]].shape == (0, 4)
    assert torch.tensor(5)[True].tolist() == [5]
    assert torch.tensor(5)[...].item() == 5


# -- writing values ----------------------------------------------------------------------------


def test_assignment_converts_and_broadcasts():
    x = torch.zeros(2, 3, dtype=torch.int64)
    x[0] = torch.tensor([1.7, 2.2, -3.9])
    x[1, 1:] = torch.tensor(7.5)
    x[:, 0] = True
    assert x.tolist() == [[1, 2, -3], [1, 7, 7]]
    x[0, 1] = torch.tensor([[9]])
    assert x[0, 1].item() == 9
    y = torch.zeros(3)
    y[1:] = torch.tensor([1, 2])
    y[y == 0] = torch.tensor([4], dtype=torch.int32)
    assert y.tolist() == [4, 1, 2]
    with pytest.raises(RuntimeError, match="got Float for the destination and Long for the source"):
        y[[0]] = torch.tensor([1])


def test_resize_keeps_what_fits():
    x = torch.arange(6.0)
    x.resize_(2, 2)
    assert x.tolist() == [[0, 1], [2, 3]]
    x.resize_(6)
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
    x.resize_(10)
    assert x.shape == (10,)
    assert x[:6].tolist() == [0, 1, 2, 3, 4, 5]


def test_fill_diagonal():
    x = torch.zeros(5, 2)
    x.fill_diagonal_(1, wrap=True)
    assert x.tolist() == [[1, 0], [0, 1], [0, 0], [1, 0], [0, 1]]
    assert torch.zeros(2, 3).fill_diagonal_(4).tolist() == [[4, 0, 0], [0, 4, 0]]


# -- vmap --------------------------------------------------------------------------------------


def test_joining_under_vmap():
    x, y = torch.arange(6.0).reshape(3, 2), torch.arange(2.0)
    assert vmap(lambda a: torch.cat([a, y]))(x).tolist() == [[*r, 0, 1] for r in x.tolist()]
    assert vmap(lambda a: torch.stack([y, a], 1))(x).shape == (3, 2, 2)
    assert vmap(lambda a: torch.hstack([a[:1], a]))(x).tolist() == [[r[0], *r] for r in x.tolist()]
