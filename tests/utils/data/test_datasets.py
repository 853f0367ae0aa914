"""Datasets, splits, samplers and collation: PyTorch's orders, containers, types, checks."""

import collections

import numpy as np
import pytest

import lampion as torch
import lampion.utils.data as data
from lampion.utils.data import distributed
from lampion.utils.data.collate import collate, default_collate_fn_map
from tests.utils.data.cases import golden, sampler_orders, samples


@pytest.mark.parametrize("name", golden()["samplers"])
def test_orders_are_those_of_pytorch(name):
    assert sampler_orders(torch)[name] == golden()["samplers"][name]


# -- datasets ----------------------------------------------------------------------------------


class Counting(data.IterableDataset):
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter(range(self.count))

    def __len__(self):
        return self.count


class Together(data.Dataset):
    """Counts how samples were asked for."""

    def __init__(self, count, shorter=0):
        self.count, self.shorter, self.asked = count, shorter, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return index * 10

    def __getitems__(self, indices):
        self.asked.append(indices)
        return [i * 10 for i in indices[self.shorter :]]


def test_tensor_dataset():
    rows = data.TensorDataset(torch.arange(3), torch.arange(6).reshape(3, 2))
    assert len(rows) == 3
    assert [t.tolist() for t in rows[1]] == [1, [2, 3]]
    assert [t.tolist() for t in rows[-2:]] == [[1, 2], [[2, 3], [4, 5]]]
    with pytest.raises(AssertionError, match="Size mismatch between tensors"):
        data.TensorDataset(torch.arange(3), torch.arange(2))


def test_concatenation():
    joined = samples(torch, 3) + samples(torch, 2)
    assert isinstance(joined, data.ConcatDataset) and len(joined) == 5
    assert [joined[i][0].item() for i in (0, 2, 3, 4, -1, -5)] == [0, 2, 0, 1, 1, 0]
    with pytest.raises(ValueError, match="should not exceed dataset length"):
        joined[-6]
    with pytest.raises(AssertionError, match="not be an empty iterable"):
        data.ConcatDataset([])
    with pytest.raises(AssertionError, match="does not support IterableDataset"):
        data.ConcatDataset([Counting(2)])


def test_chain():
    chain = Counting(2) + Counting(3)
    assert list(chain) == [0, 1, 0, 1, 2] and len(chain) == 5
    with pytest.raises(AssertionError, match="only supports IterableDataset"):
        list(data.ChainDataset([[1]]))


def test_stack():
    assert data.StackDataset([1, 2], "ab")[1] == (2, "b")
    named = data.StackDataset(x=[1, 2], y=Together(2))
    assert named[1] == {"x": 2, "y": 10}
    assert named.__getitems__([1, 0]) == [{"x": 2, "y": 10}, {"x": 1, "y": 0}]
    assert named.datasets["y"].asked == [[1, 0]]
    assert data.StackDataset([1, 2], "ab").__getitems__([1, 0]) == [(2, "b"), (1, "a")]
    with pytest.raises(ValueError, match="Expected 2, got 1"):
        data.StackDataset(Together(2, shorter=1)).__getitems__([0, 1])
    for arguments, message in ((([1], [1, 2]), "Size mismatch"), ((), "At least one dataset")):
        with pytest.raises(ValueError, match=message):
            data.StackDataset(*arguments)
    with pytest.raises(ValueError, match="both types are given"):
        data.StackDataset([1], x=[1])


def test_subset():
    whole = Together(9)
    part = data.Subset(whole, [8, 2, 5])
    assert len(part) == 3 and part[1] == 20
    assert part.__getitems__([2, 0]) == [50, 80] and whole.asked == [[5, 8]]
    assert data.Subset("abcd", [3, 1]).__getitems__([0, 1]) == ["d", "b"]

    class Own(data.Subset):
        def __getitem__(self, index):
            return 0

    with pytest.raises(NotImplementedError, match="must also override __getitems__"):
        Own(whole, [1])


def test_abstract_classes_say_what_to_define():
    with pytest.raises(NotImplementedError, match="should implement __getitem__"):
        data.Dataset()[0]
    with pytest.raises(NotImplementedError, match="define __iter__"):
        iter(data.Sampler())


def test_random_split():
    parts = data.random_split(range(10), [0.75, 0.25], torch.Generator().manual_seed(0))
    assert [len(part) for part in parts] == [8, 2]
    assert sorted(i for part in parts for i in part.indices) == list(range(10))
    with pytest.raises(ValueError, match="does not equal the length"):
        data.random_split(range(10), [3, 3])
    with pytest.raises(ValueError, match="Fraction at index 0 is not between 0 and 1"):
        data.random_split(range(10), [1.5, -0.5])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        data.random_split(range(2), [0.99, 0.01])


# -- samplers ----------------------------------------------------------------------------------


def test_sizes():
    batches = data.BatchSampler(data.SequentialSampler(range(7)), 3, False)
    assert list(batches) == [[0, 1, 2], [3, 4, 5], [6]] and len(batches) == 3
    batches = data.BatchSampler(range(7), 3, True)
    assert list(batches) == [[0, 1, 2], [3, 4, 5]] and len(batches) == 2
    assert len(data.RandomSampler(range(7))) == 7
    assert len(data.SubsetRandomSampler([4, 2])) == len(data.WeightedRandomSampler([1, 1], 2)) == 2
    assert len(data.DistributedSampler(range(7), 2, 1)) == 4


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: data.RandomSampler([]), ValueError, "num_samples should be a positive integer"),
        (lambda: data.RandomSampler([1], 1), TypeError, "replacement should be a boolean value"),
        (lambda: data.BatchSampler([1], True, False), ValueError, "got batch_size=True"),
        (lambda: data.BatchSampler([1], 0, False), ValueError, "got batch_size=0"),
        (lambda: data.BatchSampler([1], 1, 0), ValueError, "drop_last should be a boolean"),
        (lambda: data.WeightedRandomSampler([1.0], -1), ValueError, "got num_samples=-1"),
        (lambda: data.WeightedRandomSampler([[1.0]], 1), ValueError, r"have shape \(1, 1\)"),
        (lambda: data.DistributedSampler([1], 2, 2), ValueError, r"in the interval \[0, 1\]"),
        (lambda: data.DistributedSampler([1]), RuntimeError, "initialized process group"),
    ],
)
def test_samplers_check_their_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_process_group_gives_ranks(monkeypatch):
    monkeypatch.setattr(distributed, "process_group", lambda: (2, 1))
    assert list(data.DistributedSampler(range(4), shuffle=False)) == [1, 3]


def test_few_samples_for_many_processes():
    parts = [list(data.DistributedSampler([7], 3, rank, shuffle=False)) for rank in range(3)]
    assert parts == [[0], [0], [0]]


# -- collation ---------------------------------------------------------------------------------

Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("batch", "dtype", "values"),
    [
        ([1, 2], torch.int64, [1, 2]),
        ([1.5, 2], torch.float64, [1.5, 2.0]),
        ([True, False], torch.bool, [True, False]),
        ([np.float32(1), np.float32(2)], torch.float32, [1.0, 2.0]),
        ([np.int16(1), np.int16(2)], torch.int16, [1, 2]),
        ([np.ones(2), np.zeros(2)], torch.float64, [[1.0, 1.0], [0.0, 0.0]]),
        ([np.array(1, np.uint8), np.array(2, np.uint8)], torch.uint8, [1, 2]),
        ([torch.tensor([1]), torch.tensor([2])], torch.int64, [[1], [2]]),
    ],
    ids=str,
)
def test_numbers_and_arrays_become_tensors(batch, dtype, values):
    stacked = data.default_collate(batch)
    assert stacked.dtype is dtype and stacked.tolist() == values


def test_containers_are_gone_into():
    batch = [({"a": 1, "b": "x"}, Point(1.0, [1, 2])), ({"a": 2, "b": "y"}, Point(2.0, [3, 4]))]
    mapping, point = data.default_collate(batch)
    assert mapping["a"].tolist() == [1, 2] and mapping["b"] == ["x", "y"]
    assert isinstance(point, Point) and point.x.tolist() == [1.0, 2.0]
    assert [t.tolist() for t in point.y] == [[1, 3], [2, 4]]
    ordered = data.default_collate([collections.OrderedDict(b=1, a=2)] * 2)
    assert isinstance(ordered, collections.OrderedDict) and list(ordered) == ["b", "a"]
    assert data.default_collate(["a", "b"]) == ["a", "b"]
    assert data.default_collate([b"a", b"b"]) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ([torch.zeros(3), torch.zeros(4)], RuntimeError, r"\[3\] at entry 0 and \[4\] at entry 1"),
        ([np.zeros(3), np.zeros(4)], RuntimeError, r"\[3\] at entry 0 and \[4\] at entry 1"),
        ([[1], [1], [1, 2]], RuntimeError, "sample 0 has 1, sample 2 has 2"),
        ([None, None], TypeError, "found <class 'NoneType'>"),
        ([np.array(["a"])], TypeError, "found <U1"),
    ],
    ids=["tensors", "arrays", "lists", "None", "text"],
)
def test_what_cannot_be_stacked(batch, error, message):
    with pytest.raises(error, match=message):
        data.default_collate(batch)


def test_own_functions_by_type():
    table = {**default_collate_fn_map, Point: lambda batch, *, collate_fn_map: len(batch)}
    assert collate([Point(1, 2)] * 3, collate_fn_map=table) == 3
    table = {**default_collate_fn_map, torch.Tensor: lambda batch, *, collate_fn_map: "own"}
    assert collate([np.ones(2)], collate_fn_map=table) == "own"


def test_conversion():
    array, number, text = np.ones(2), np.float32(3), np.array(["a"])
    converted = data.default_convert([array, (number, "x"), {"k": array}, text, Point(array, None)])
    assert [type(c) for c in converted] == [torch.Tensor, list, dict, np.ndarray, Point]
    assert converted[1][0].item() == 3.0 and converted[1][1] == "x"
    assert isinstance(converted[2]["k"], torch.Tensor) and converted[4].y is None
