"""What compiled programs hold: nothing of the call that was traced, an arena as small as the
schedule allows, one copy of gradients. By counts of bytes, never by time.
"""

import ctypes
import gc
import mmap
import os
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import lampion as torch
from lampion import nn
from lampion.compiler.lower.pipeline import lower
from lampion.compiler.native import arena, runtime
from lampion.compiler.program import program
from lampion.core.graph import STATE
from lampion.nn import functional as F

pytestmark = pytest.mark.skipif(not runtime.available(), reason="llvmlite is missing")
KB = 1 << 10


class Block(nn.Module):
    """A transformer's block of width 32 with 4 heads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.qkv, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.mlp = nn.Sequential(nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, C = x.shape
        q, k, v = (
            t.view(B, T, 4, 8).transpose(1, 2) for t in self.qkv(self.norm1(x)).split(C, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, 4, T, 8)
        x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.norm2(x))


def gpt() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = nn.Sequential(nn.Embedding(11, 32), Block(), Block(), nn.Linear(32, 11))
    tokens = torch.randint(0, 11, (64, 33))
    return model, tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)


def mlp() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    layers = [nn.Linear(64, 64), nn.ReLU(inplace=True)]
    model = nn.Sequential(*layers, *(nn.Linear(64, 64) for _ in range(6)), nn.Linear(64, 10))
    return model, torch.randn(4096, 64), torch.randint(0, 10, (4096,))


def cnn() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16 * 16, 10),
    )  # fmt: skip
    return model, torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))


MODELS = {made.__name__: made for made in (gpt, mlp, cnn)}


def training(name: str) -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    """A model and its training step."""
    torch.manual_seed(0)
    model, x, y = MODELS[name]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, -2), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def program_of(compiled: Any) -> program.Program:
    ((made, *_),) = compiled.programs.values()
    return made.executable


def least(lifetimes: list[arena.Lifetime]) -> int:
    """The most bytes that are alive at one kernel: no arena is smaller."""
    change = np.zeros(max(item.last for item in lifetimes) + 2, np.int64)
    for item in lifetimes:
        change[item.first] += item.size
        change[item.last + 1] -= item.size
    return int(np.cumsum(change).max())


@pytest.fixture
def counted() -> Iterator[Callable[[], tuple[int, int]]]:
    """Bytes that Python and NumPy hold now, and at most since the call before."""

    def look() -> tuple[int, int]:
        found = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        return found

    gc.collect()
    tracemalloc.start()
    yield look
    tracemalloc.stop()


@pytest.mark.parametrize("name", MODELS)
def test_arena_is_as_small_as_the_schedule_allows(name: str) -> None:
    _, step = training(name)
    compiled = torch.compile(step)
    compiled()
    placement = program_of(compiled).placement
    lifetimes = [arena.Lifetime(b.size, *live) for b, live in placement.lives.items()]
    rounding = arena.ALIGNMENT * len(lifetimes)
    assert placement.size <= 1.02 * least(lifetimes) + rounding


@pytest.mark.parametrize("name", MODELS)
def test_a_tracer_keeps_nothing_alive(name: str, counted: Any) -> None:
    peaks = []
    for observe in (observed, traced):
        _, step = training(name)
        step()
        observe(step)  # kernels that are made at their first use stay
        gc.collect()
        before, _ = counted()
        observe(step)
        peaks.append(counted()[1] - before)
    assert peaks[0] > 3000 * KB  # or there is nothing to be seen
    assert peaks[1] < peaks[0] + 800 * KB  # the graph, and what is known of tensors


def observed(step: Callable[[], Any]) -> None:
    """Runs a step as a traced one runs, but nobody looks at it."""

    class Nobody:
        def __call__(self, *_: Any) -> None:
            """An operator ran."""

        wrote = __call__

        def options(self, _: Any, group: dict) -> dict:
            return group

    with STATE.set(observers=(Nobody(),)):
        step()


def traced(step: Callable[[], Any]) -> None:
    """Traces a step and builds nothing."""
    torch.compile(step, backend=lambda graph: None)()


@pytest.mark.parametrize("name", MODELS)
def test_nothing_of_the_traced_call_is_left_when_the_arena_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    class Watched(arena.Arena):
        def __init__(self, size: int) -> None:
            held.append(numpy_bytes())
            super().__init__(size)

    monkeypatch.setattr(program, "Arena", Watched)
    _, step = training(name)
    tracemalloc.start()
    try:
        step()  # makes the gradients
        gc.collect()
        before = numpy_bytes()
        compiled = torch.compile(step)
        compiled()
    finally:
        tracemalloc.stop()
    assert program_of(compiled).placement.size > 2000 * KB  # what the traced call needed, about
    assert len(held) == 1
    assert held[0] < before + 100 * KB


def numpy_bytes() -> int:
    """Bytes of all arrays made since tracemalloc was started."""
    only = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
    return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([only]).traces)


def test_lowering_holds_no_activations(counted: Any) -> None:
    torch.manual_seed(0)
    norm, x = nn.BatchNorm2d(8), torch.randn(8, 8, 64, 64)  # 1 MiB
    graphs: list[Any] = []

    def keep(graph: Any) -> Any:
        graphs.append(graph)
        return graph

    torch.compile(lambda: (norm(x) ** 2).mean().backward(), backend=keep)()
    before, _ = counted()
    lower(graphs[0])
    assert counted()[1] - before < 3 * x.nbytes


def test_gradients_stay_where_the_traced_call_put_them() -> None:
    model, step = training("mlp")
    compiled = torch.compile(step)
    compiled()
    weights = [p for p in model.parameters() if p.dim() == 2]
    places = [p.grad.data_ptr() for p in weights]
    compiled()
    compiled()
    assert [p.grad.data_ptr() for p in weights] == places


def test_a_gradient_that_somebody_holds_is_left_alone() -> None:
    model, step = training("mlp")
    compiled = torch.compile(step)
    compiled()
    first = next(model.parameters())
    held, shown = first.grad, model[1:][1].weight.grad.numpy()
    copies = held.clone(), shown.copy()
    compiled()
    assert first.grad is not held
    assert torch.equal(held, copies[0])
    np.testing.assert_array_equal(shown, copies[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_process_has_an_arena_of_its_own() -> None:
    made = arena.Arena(3 * arena.HUGE)
    cell = made.view(0, (4,), np.dtype(np.int32))
    child = os.fork()
    if child == 0:
        cell[:] = 1
        os._exit(0)
    os.waitpid(child, 0)
    assert not cell.any()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_freed_memory_is_given_back() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE

    arrays = [np.ones(1 << 13) for _ in range(1000)]  # 64 MiB in pieces
    full = resident()
    kept = arrays[::50]
    del arrays
    arena.give_back()
    assert resident() < full - (48 << 20)
    assert all(a.sum() == 1 << 13 for a in kept)
