"""The tensor as an object: old constructors, copies, storages, NumPy, subclasses, printing."""

import copy
import os
import pickle

import numpy as np
import pytest

import lampion as torch
from lampion.core.tensor import Parameter

# -- sizes and layouts -------------------------------------------------------------------------


def test_sizes_stay_sizes():
    size = torch.Size([2, 3])
    for made in (size + (4,), (4,) + size, size * 2, 2 * size, size[1:]):
        assert type(made) is torch.Size
    assert repr(size) == str(size) == "torch.Size([2, 3])"
    assert size.numel() == 6 and size == (2, 3) and torch.ones(size).shape == size


def test_layout_and_formats_print_as_pytorchs():
    assert repr(torch.ones(2).layout) == repr(torch.strided) == "torch.strided"
    assert repr(torch.channels_last) == "torch.channels_last"
    assert pickle.loads(pickle.dumps(torch.float32)) is torch.float32
    assert copy.deepcopy(torch.device("cpu")) == torch.device("cpu")


# -- the old constructors ----------------------------------------------------------------------


def test_tensor_called_like_a_constructor():
    assert torch.Tensor(2, 3).shape == (2, 3) and torch.Tensor().shape == (0,)
    assert torch.Tensor(torch.Size([2, 3])).shape == (2, 3)
    assert torch.Tensor(np.int64(3)).shape == (3,)
    x = torch.ones(2)
    assert torch.Tensor(x).data_ptr() == x.data_ptr()
    assert torch.Tensor([True, 2]).tolist() == [1.0, 2.0]


def test_old_classes_stand_for_types():
    x = torch.ones(2)
    assert isinstance(x, torch.FloatTensor) and not isinstance(x, torch.DoubleTensor)
    assert isinstance(Parameter(x), torch.FloatTensor)
    assert repr(torch.FloatTensor) == "<class 'torch.FloatTensor'>"
    assert torch.FloatTensor.dtype is torch.float32 and not torch.FloatTensor.is_cuda
    assert torch.cuda.FloatTensor.is_cuda and not issubclass(torch.FloatTensor, torch.Tensor)


def test_type_names_and_converts():
    x = torch.ones(2)
    names = ["float32", "int64", "bool", "bfloat16", "complex64", "uint16", "float8_e5m2"]
    assert [x.to(getattr(torch, n)).type() for n in names] == [
        "torch.FloatTensor",
        "torch.LongTensor",
        "torch.BoolTensor",
        "torch.BFloat16Tensor",
        "torch.ComplexFloatTensor",
        "torch.UInt16Tensor",
        "torch.Float8_e5m2Tensor",
    ]
    for same in ("torch.LongTensor", torch.LongTensor, torch.int64):
        assert x.type(same).dtype is torch.int64
    assert x.type_as(torch.tensor(1)).dtype is torch.int64
    assert torch.typename(x) == "torch.FloatTensor" and torch.typename(3) == "int"


def test_variable_is_the_old_name_of_a_tensor():
    x = torch.ones(2)
    y = torch.autograd.Variable(x, requires_grad=True)
    assert y.requires_grad and y.data_ptr() == x.data_ptr()
    assert isinstance(x, torch.autograd.Variable)


class Named(torch.Tensor):
    """A subclass."""


def test_subclasses():
    made = Named([1.0, 2.0])
    assert type(made) is Named and made.tolist() == [1, 2]
    x = torch.ones(2, requires_grad=True)
    y = (x * 2).as_subclass(Named)
    assert type(y) is Named and y.requires_grad
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]
    leaf = torch.Tensor._make_subclass(Named, torch.zeros(2), True)
    assert type(leaf) is Named and leaf.is_leaf and leaf.requires_grad


# -- to ----------------------------------------------------------------------------------------


def test_to_returns_itself_where_nothing_changes():
    x = torch.ones(2, 3)
    other = torch.zeros(1, dtype=torch.float64)
    for same in (x.to("cpu"), x.to(torch.float32), x.to(None), x.to(x), x.cpu(), x.float()):
        assert same is x
    assert x.to(torch.float32, copy=True) is not x
    for call in (
        lambda: x.to(torch.device("cpu"), torch.float64),
        lambda: x.to("cpu", torch.float64, True, True),
        lambda: x.to(other),
        lambda: x.to(dtype=torch.float64, non_blocking=True),
        lambda: x.to(float),
    ):
        assert call().dtype is torch.float64


def test_to_memory_format():
    x = torch.arange(24.0).reshape(1, 2, 3, 4)
    y = x.to(memory_format=torch.channels_last)
    assert y.stride() == (24, 1, 8, 2) and torch.equal(x, y)
    assert y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
    assert y.clone().stride() == y.stride() and y.contiguous().stride() == x.stride()


# -- copies ------------------------------------------------------------------------------------


def test_deepcopy_keeps_what_is_shared_shared():
    base = torch.arange(6.0).reshape(2, 3)
    copied, row, turned = copy.deepcopy([base, base[1], base.t()])
    copied[1, 0] = 9
    assert row[0].item() == 9 and turned[0, 1].item() == 9 and base[1, 0].item() == 3
    assert turned.stride() == (1, 3)


def test_deepcopy_keeps_layout_grad_and_attributes():
    x = torch.ones(3, 4).t().clone().requires_grad_()
    x.sum().backward()
    x.note = ["kept"]
    y = copy.deepcopy(x)
    assert y.stride() == x.stride() == (1, 4) and y.requires_grad
    assert torch.equal(y.grad, x.grad) and y.grad is not x.grad
    assert y.note == ["kept"] and y.note is not x.note
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(x * 2)


def test_copy_shares_and_pickle_does_not():
    x = torch.ones(2, requires_grad=True)
    assert copy.copy(x).data_ptr() == x.data_ptr()
    y = pickle.loads(pickle.dumps(x))
    assert torch.equal(x, y) and y.requires_grad and y.data_ptr() != x.data_ptr()
    p = pickle.loads(pickle.dumps(Parameter(torch.ones(2))))
    assert type(p) is Parameter and p.requires_grad


def test_copy_in_place_broadcasts_converts_and_differentiates():
    source = torch.ones(3, dtype=torch.float64, requires_grad=True)
    x = torch.zeros(2, 3).copy_(source * 2)
    assert x.dtype is torch.float32 and x.grad_fn.name() == "CopyBackwards"
    x.sum().backward()
    assert source.grad.tolist() == [4, 4, 4]


# -- storages ----------------------------------------------------------------------------------


def test_untyped_storage_is_the_whole_memory():
    x = torch.arange(6.0).reshape(2, 3)
    memory = x.untyped_storage()
    assert memory.nbytes() == memory.size() == len(memory) == 24
    assert memory == x[1].untyped_storage() != x.clone().untyped_storage()
    assert memory.data_ptr() == x.data_ptr() and hash(memory) == hash(x.t().untyped_storage())
    memory[3] = 0x40
    assert x[0, 0].item() == 2.0
    memory.fill_(0)
    assert x.sum().item() == 0
    assert repr(torch.UntypedStorage([1, 2])).endswith("UntypedStorage(device=cpu) of size 2]")


def test_typed_storage_warns_and_reads_numbers():
    x = torch.arange(4.0)[1:]
    with pytest.warns(UserWarning, match="TypedStorage is deprecated"):
        numbers = x.storage()
    assert numbers.tolist() == [0, 1, 2, 3] and numbers[2] == 2 and numbers.size() == 4
    assert isinstance(numbers, torch.FloatStorage) and not isinstance(numbers, torch.LongStorage)
    assert torch.is_storage(numbers) and not torch.is_storage(x)
    assert (
        torch.FloatStorage([1, 2.5]).tolist() == [1, 2.5] and numbers.type() == "torch.FloatStorage"
    )


def test_set_moves_a_tensor_to_another_memory():
    source = torch.arange(6.0)
    x = torch.zeros(1).set_(source.untyped_storage(), 1, (2, 2), (2, 1))
    assert x.tolist() == [[1, 2], [3, 4]]
    assert torch.zeros(1).set_(source).data_ptr() == source.data_ptr()
    assert torch.zeros(1).set_().shape == (0,)
    with pytest.raises(RuntimeError, match="reaches beyond"):
        torch.zeros(1).set_(source.untyped_storage(), 4, (3,), (1,))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="shares memory with a forked process")
def test_shared_memory_is_seen_by_a_forked_process():
    x = torch.zeros(3)
    assert not x.is_shared() and x.share_memory_() is x and x.is_shared()
    child = os.fork()
    if child == 0:
        x[1] = 5
        os._exit(0)
    os.waitpid(child, 0)
    assert x.tolist() == [0, 5, 0]


# -- NumPy -------------------------------------------------------------------------------------


def test_numpy_functions_give_tensors():
    x = torch.arange(3.0)
    assert isinstance(np.exp(x), torch.Tensor) and isinstance(np.add(np.ones(3), x), torch.Tensor)
    assert np.asarray(x, dtype=np.float64).dtype == np.float64
    assert np.array(x, copy=True) is not x.numpy() and not np.shares_memory(np.array(x), x.numpy())
    assert np.shares_memory(np.asarray(x), x.numpy())


def test_dir_shows_no_internals():
    names = set(dir(torch.ones(2)))
    assert {"add", "shape", "backward", "to"} <= names
    public = {n for n in names if not n.startswith("_")}
    assert not public & {"interpreter", "concrete", "detached_value"}


# -- printing ----------------------------------------------------------------------------------


def test_printing_of_tensors_in_a_graph():
    x = torch.ones(2, requires_grad=True)
    assert repr(x) == "tensor([1., 1.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 2.], grad_fn=<MulBackward0>)"
    assert repr(x.double()) == "tensor([1., 1.], dtype=torch.float64, grad_fn=<ToCopyBackward0>)"
    assert (
        repr(Parameter(torch.zeros(1))) == "Parameter containing:\ntensor([0.], requires_grad=True)"
    )
    assert repr(torch.empty(0, 3)) == "tensor([], size=(0, 3))"
    assert repr(torch.zeros(0, dtype=torch.int64)) == "tensor([], dtype=torch.int64)"
    assert f"{torch.tensor(1.5):.2f}" == "1.50"


def test_printoptions():
    torch.set_printoptions(precision=2)
    try:
        assert repr(torch.tensor([1 / 3])) == "tensor([0.33])"
    finally:
        torch.set_printoptions(profile="default")
    assert repr(torch.tensor([1 / 3])) == "tensor([0.3333])"
