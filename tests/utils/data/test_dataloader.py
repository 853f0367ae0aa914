"""The loader: PyTorch's order for each seed, workers of both kinds, and what can go wrong with
them.
"""

import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest

import lampion as torch
import lampion.utils.data as data
from lampion.utils.data import pool
from tests.utils.data.cases import LOADERS, golden, loader_name, loader_order, samples

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
KINDS = ["process", "thread"]


@pytest.mark.parametrize("own", [False, True], ids=["default", "own"])
@pytest.mark.parametrize("options", LOADERS, ids=loader_name)
def test_order_is_that_of_pytorch(options, own):
    expected = golden()["loaders"][f"{loader_name(options)} {own}"]
    assert loader_order(torch, options, own) == expected
    if "num_workers" in options:
        assert loader_order(torch, {**options, "workers": "thread"}, own) == expected


class Squares(data.Dataset):
    """Sample i is (i * i, an array); what `odd` does happens at index 5."""

    def __init__(self, count=17, odd=None, width=3):
        self.count, self.odd, self.width = count, odd, width

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == 5 and self.odd is not None:
            return self.odd()
        return index * index, np.full(self.width, index, np.float32)


class Numbers(data.IterableDataset):
    """Worker i of n gives start + i, start + i + n, ... below stop."""

    def __init__(self, stop, uneven=False):
        self.stop, self.uneven = stop, uneven

    def __iter__(self):
        info = data.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        stop = self.stop // 3 if self.uneven and worker == 0 else self.stop
        return iter(range(worker, stop, workers))

    def __len__(self):
        return self.stop


def listed(loader):
    return [[part.tolist() for part in batch] for batch in loader]


# -- batches -----------------------------------------------------------------------------------


def test_rows_of_tensors_are_cut_out_as_they_are_collated():
    x = torch.arange(12).reshape(6, 2)
    rows = data.TensorDataset(x, torch.tensor([0.0, 1, 2, 3, 4, 5], requires_grad=True))
    for dataset in (rows, data.Subset(data.Subset(rows, [5, 3, 1, 0]), [3, 0, 1])):
        fast = list(data.DataLoader(dataset, batch_size=2))
        slow = list(
            data.DataLoader(dataset, batch_size=2, collate_fn=lambda b: data.default_collate(b))
        )
        assert [[p.tolist() for p in b] for b in fast] == [[p.tolist() for p in b] for b in slow]
        assert type(fast[0]) is type(slow[0]) is list
        assert fast[0][1].requires_grad and slow[0][1].requires_grad
    batch = next(iter(data.DataLoader(rows, batch_size=6)))
    batch[0].zero_()
    assert x[5].tolist() == [10, 11]  # a batch is a copy


def test_classes_derived_from_tensor_dataset_are_asked_for_samples():
    class Doubled(data.TensorDataset):
        def __getitem__(self, index):
            return super().__getitem__(index)[0] * 2

    (batch,) = data.DataLoader(Doubled(torch.arange(3)), batch_size=3)
    assert batch.tolist() == [0, 2, 4]


def test_batch_size_none_gives_samples_converted():
    first = next(iter(data.DataLoader(Squares(), batch_size=None)))
    assert first[0] == 0 and isinstance(first[1], torch.Tensor)


def test_own_samplers():
    loader = data.DataLoader(Squares(), batch_size=2, sampler=[4, 2, 3])
    assert [b[0].tolist() for b in loader] == [[16, 4], [9]] and len(loader) == 2
    loader = data.DataLoader(Squares(), batch_sampler=[[1, 2], [3]])
    assert [b[0].tolist() for b in loader] == [[1, 4], [9]] and len(loader) == 2


def test_lengths():
    assert len(data.DataLoader(range(10), batch_size=4)) == 3
    assert len(data.DataLoader(range(10), batch_size=4, drop_last=True)) == 2
    assert len(data.DataLoader(Numbers(10), batch_size=4)) == 3
    assert len(data.DataLoader(Numbers(10), batch_size=4, drop_last=True)) == 2
    assert len(data.DataLoader(Numbers(10), batch_size=None)) == 10


def test_iterable_datasets():
    assert [b.tolist() for b in data.DataLoader(Numbers(5), batch_size=2)] == [[0, 1], [2, 3], [4]]
    loader = data.DataLoader(Numbers(5), batch_size=2, drop_last=True)
    assert [b.tolist() for b in loader] == [[0, 1], [2, 3]]
    assert list(data.DataLoader(Numbers(3), batch_size=None)) == [0, 1, 2]


def test_an_iterable_longer_than_it_said():
    class Longer(Numbers):
        def __len__(self):
            return 1

    loader = data.DataLoader(Longer(2), batch_size=None)
    assert len(loader) == 1
    with pytest.warns(UserWarning, match="was reported to be 1"):
        assert list(loader) == [0, 1]


# -- workers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [3, 40_000])  # through the socket, and through shared memory
def test_workers_give_the_same_batches(kind, width):
    dataset = Squares(width=width)
    expected = list(data.DataLoader(dataset, batch_size=3))
    loader = data.DataLoader(dataset, batch_size=3, num_workers=2, workers=kind)
    for _ in range(2):
        for got, want in zip(loader, expected, strict=True):
            assert got[0].tolist() == want[0].tolist() and got[1].dtype is torch.float32
            np.testing.assert_array_equal(got[1].numpy(), want[1].numpy())
            got[1].zero_()  # batches can be written


@pytest.mark.parametrize("kind", KINDS)
def test_iterable_datasets_are_divided_among_workers(kind):
    options = {"num_workers": 2, "workers": kind}
    loader = data.DataLoader(Numbers(10), batch_size=2, **options)
    assert [b.tolist() for b in loader] == [[0, 2], [1, 3], [4, 6], [5, 7], [8], [9]]
    loader = data.DataLoader(Numbers(12, uneven=True), batch_size=2, **options)
    expected = [[0, 2], [1, 3], [5, 7], [9, 11]]
    assert [b.tolist() for b in loader] == expected
    loader = data.DataLoader(Numbers(12, True), 2, persistent_workers=True, **options)
    for _ in range(2):
        assert [b.tolist() for b in loader] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_persistent_workers_stay(kind):
    class Places(Squares):
        def __getitem__(self, index):
            import threading

            return index, os.getpid(), threading.get_ident()

    options = {"num_workers": 2, "workers": kind, "persistent_workers": True}
    loader = data.DataLoader(Places(), batch_size=4, **options)
    first = listed(loader)
    next(iter(loader))  # a pass that is not finished
    assert listed(loader) == first


@pytest.mark.parametrize("kind", KINDS)
def test_in_order_or_as_soon_as_ready(kind):
    class Slow(data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            time.sleep(0.3 if index == 0 else 0.0)
            return index

    options = {"num_workers": 2, "workers": kind, "batch_size": None}
    assert list(data.DataLoader(Slow(), **options)) == [0, 1, 2, 3]
    found = list(data.DataLoader(Slow(), in_order=False, **options))
    assert found[0] == 1 and sorted(found) == [0, 1, 2, 3]


def test_processes_are_seeded_as_in_pytorch():
    class Draws(data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            info = data.get_worker_info()
            return random.random(), np.random.rand(), torch.rand(1).item(), info.seed

    torch.manual_seed(0)
    loader = data.DataLoader(Draws(), batch_size=None, num_workers=2)
    # torch.manual_seed(0); list(DataLoader(Draws(), batch_size=None, num_workers=2)) of PyTorch
    assert [tuple(drawn) for drawn in loader] == [
        (0.21315340548154382, 0.8371640508861415, 0.7821398973464966, 900450186894289455),
        (0.7733861492043289, 0.6702704958690073, 0.6938178539276123, 900450186894289456),
    ]


def test_threads_have_streams_of_their_own():
    class Draws(data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            info = data.get_worker_info()
            rng = info.rng
            drawn = torch.rand(1, generator=rng.torch_generator).item()
            place = info.id, info.num_workers, info.worker_method, info.dataset is self
            return place, rng.random_generator.random(), rng.numpy_generator.random(), drawn

    def draws():
        torch.manual_seed(0)
        loader = data.DataLoader(Draws(), batch_size=None, num_workers=2, workers="thread")
        return list(loader)

    assert draws() == draws()
    places, *numbers = zip(*draws(), strict=True)
    assert places == ([0, 2, "thread", True], [1, 2, "thread", True])
    assert all(first != second for first, second in numbers)
    assert data.get_worker_info() is None


@pytest.mark.parametrize("kind", KINDS)
def test_worker_init_fn(kind):
    marks = {}

    def mark(number):
        marks[number] = number * 100

    class Marked(data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return index + marks[data.get_worker_info().id]

    options = {"num_workers": 2, "workers": kind, "worker_init_fn": mark, "batch_size": None}
    assert list(data.DataLoader(Marked(), **options)) == [0, 101, 2, 103]


def test_spawned_processes():
    loader = data.DataLoader(
        samples(torch, 5), batch_size=2, num_workers=1, multiprocessing_context="spawn"
    )
    assert [b[0].tolist() for b in loader] == [[0, 1], [2, 3], [4]]


# -- what can go wrong -------------------------------------------------------------------------


def boom():
    raise ValueError("no sample five")


def key():
    return {}["missing"]


class Awkward(Exception):
    def __init__(self, first, second):
        super().__init__(first)


def awkward():
    raise Awkward("a", "b")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("odd", "error", "text"),
    [
        (boom, ValueError, "no sample five"),
        (key, KeyError, "'missing'"),
        (awkward, RuntimeError, "Caught Awkward"),
        (sys.exit, RuntimeError, "Caught SystemExit"),
        (lambda: next(iter(())), RuntimeError, "StopIteration"),
    ],
    ids=["ValueError", "KeyError", "own arguments", "exit", "StopIteration"],
)
def test_exceptions_come_back_with_their_traceback(kind, odd, error, text):
    loader = data.DataLoader(Squares(odd=odd), batch_size=2, num_workers=2, workers=kind)
    batches = iter(loader)
    assert [next(batches)[0].tolist() for _ in range(2)] == [[0, 1], [4, 9]]
    with pytest.raises(error) as caught:
        next(batches)
    message = str(caught.value)
    assert f"in DataLoader worker {kind} 0" in message and "Traceback" in message
    assert text in message and "__getitem__" in message
    assert next(batches)[0].tolist() == [36, 49]  # the pass can go on


@pytest.mark.parametrize("kind", KINDS)
def test_a_failing_init_fn(kind):
    options = {"num_workers": 1, "workers": kind, "worker_init_fn": lambda number: boom()}
    with pytest.raises(ValueError, match="no sample five"):
        next(iter(data.DataLoader(Squares(), **options)))


def test_what_cannot_be_pickled():
    loader = data.DataLoader(Squares(odd=lambda: lambda: 0), batch_size=None, num_workers=1)
    with pytest.raises(RuntimeError, match="cannot send its result"):
        list(loader)
    x = torch.ones(3, requires_grad=True)
    loader = data.DataLoader(Squares(odd=lambda: x * 2), batch_size=None, num_workers=1)
    with pytest.raises(RuntimeError, match="graph leaves"):
        list(loader)


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by signal SIGKILL"),
        (lambda: os._exit(3), "exit code 3"),
    ],
    ids=["killed", "exit"],
)
def test_a_dead_worker_is_noticed(odd, message):
    start = time.monotonic()
    loader = data.DataLoader(Squares(odd=odd), batch_size=2, num_workers=2)
    with pytest.raises(RuntimeError, match=f"exited unexpectedly .*{message}"):
        list(loader)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("kind", KINDS)
def test_timeouts(kind, monkeypatch):
    monkeypatch.setattr(pool, "PATIENCE", 0.1)
    dataset = Squares(odd=lambda: time.sleep(2))
    loader = data.DataLoader(dataset, batch_size=6, num_workers=1, timeout=0.2, workers=kind)
    with pytest.raises(RuntimeError, match="timed out after 0.2 seconds"):
        list(loader)


def test_workers_end_with_their_iterator():
    batches = iter(data.DataLoader(Squares(), num_workers=2))
    next(batches)
    processes = batches.pool.processes
    assert all(process.is_alive() for process in processes)
    del batches
    gc.collect()
    assert not any(process.is_alive() for process in processes)


def run_program(text, action):
    """The exit code and output of a program with loader workers, after something was done to it."""
    head = """
        import os, sys, time, warnings
        import lampion.utils.data as data

        class Slow(data.Dataset):
            def __len__(self):
                return 1000
            def __getitem__(self, index):
                time.sleep(0.05)
                return index
    """
    code = textwrap.dedent(head) + textwrap.dedent(text)
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    workers = [int(pid) for pid in program.stdout.readline().split()]
    action(program.pid)
    output, errors = program.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return program.returncode, output, errors, list(filter(running, workers))


def running(pid):
    """Whether a process still runs; one that ended may wait to be noticed."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


LOOP = """
    batches = iter(data.DataLoader(Slow(), num_workers=2))
    print(*[process.pid for process in batches.pool.processes], flush=True)
    for batch in batches:
        pass
"""


@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks for processes in /proc")
def test_ctrl_c_ends_program_and_workers():
    code, _, errors, left = run_program(LOOP, lambda pid: os.killpg(pid, signal.SIGINT))
    assert code != 0 and not left
    assert errors.rstrip().endswith("KeyboardInterrupt") and errors.count("Traceback") == 1


@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks for processes in /proc")
def test_workers_do_not_outlive_a_killed_program():
    code, _, _, left = run_program(LOOP, lambda pid: os.kill(pid, signal.SIGKILL))
    assert code == -signal.SIGKILL and not left


@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks for processes in /proc")
def test_a_program_may_end_with_workers_running():
    code, output, errors, left = run_program(
        """
        warnings.simplefilter("ignore")  # of more workers than processors
        loader = data.DataLoader(Slow(), num_workers=2, persistent_workers=True)
        batches = iter(loader)
        print(*[process.pid for process in batches.pool.processes], flush=True)
        print(next(batches).tolist())
        """,
        lambda pid: None,
    )
    assert (code, output, errors, left) == (0, "[0]\n", "", [])


# -- checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_workers": -1}, ValueError, "num_workers option should be non-negative"),
        ({"timeout": -1}, ValueError, "timeout option should be non-negative"),
        ({"prefetch_factor": 2}, ValueError, "prefetch_factor option could only be specified"),
        ({"num_workers": 1, "prefetch_factor": 0}, ValueError, "prefetch_factor option"),
        ({"persistent_workers": True}, ValueError, "persistent_workers option needs"),
        ({"shuffle": True, "sampler": [1]}, ValueError, "mutually exclusive with shuffle"),
        ({"batch_sampler": [[1]], "batch_size": 2}, ValueError, "batch_sampler option is mutually"),
        ({"batch_size": None, "drop_last": True}, ValueError, "disables auto-batching"),
        ({"multiprocessing_context": "fork"}, ValueError, "can only be used with multi-process"),
        ({"num_workers": 1, "multiprocessing_context": "x"}, ValueError, "a valid start method"),
        ({"num_workers": 1, "multiprocessing_context": 3}, TypeError, "a valid context object"),
        ({"workers": "fibre"}, ValueError, "workers='process' or 'thread', got 'fibre'"),
        ({"batch_size": 0}, ValueError, "batch_size should be a positive integer"),
    ],
    ids=str,
)
def test_options_are_checked(options, error, message):
    with pytest.raises(error, match=message):
        data.DataLoader(Squares(), **options)


@pytest.mark.parametrize("option", ["shuffle", "sampler", "batch_sampler"])
def test_iterable_datasets_have_their_own_order(option):
    with pytest.raises(ValueError, match=f"expected unspecified {option} option"):
        data.DataLoader(Numbers(3), **{option: True})


def test_attributes_are_fixed():
    loader = data.DataLoader(Squares())
    with pytest.raises(ValueError, match="batch_size attribute should not be set after"):
        loader.batch_size = 3
    loader.num_workers = 0


def test_warnings():
    with pytest.warns(UserWarning, match="pinned memory won't be used"):
        iter(data.DataLoader(Squares(), pin_memory=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="This DataLoader will create 999 worker processes"):
            data.DataLoader(Squares(), num_workers=999)
        data.DataLoader(Squares(), num_workers=999, workers="thread")


def test_iterators_cannot_be_pickled():
    import pickle

    with pytest.raises(NotImplementedError, match="cannot be pickled"):
        pickle.dumps(iter(data.DataLoader(Squares())))
