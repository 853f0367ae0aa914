"""Arrays that touch pages nobody may read or write: a stray access ends the process.

Run as a program (`python -m tests.compiler.guarded end`), it gives every array of NumPy's `empty`
such pages, before or behind its elements, and runs kernels of odd sizes.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
import weakref
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PLAIN_EMPTY = np.empty


def guarded(shape: tuple[int, ...], dtype: Any, side: str) -> np.ndarray:
    """An array whose first element follows a closed page (`side` "begin"), or whose last element
    is followed by one ("end").
    """
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    inner = -(-size // PAGE) * PAGE
    whole = inner + 2 * PAGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    start = LIBC.mmap(None, whole, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if start in (None, ctypes.c_void_p(-1).value):
        raise MemoryError("no pages")
    for page in (start, start + PAGE + inner):
        if LIBC.mprotect(page, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = start + PAGE if side == "begin" else start + PAGE + inner - size
    memory = (ctypes.c_char * size).from_address(first)
    weakref.finalize(memory, LIBC.munmap, start, whole)
    return np.frombuffer(memory, dtype).reshape(shape)


def guard_all(side: str) -> None:
    """Lets `numpy.empty` make guarded arrays."""

    def empty(shape: Any, dtype: Any = float, order: str = "C", **options: Any) -> np.ndarray:
        sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        kind = np.dtype(dtype)
        if kind.hasobject or not prod(sizes) * kind.itemsize or order not in "CK":
            return PLAIN_EMPTY(shape, dtype, order, **options)
        return guarded(sizes, dtype, side)

    np.empty = empty  # type: ignore[assignment]


# -- what is run ---------------------------------------------------------------------------------


def cases(torch: Any) -> Iterator[tuple[str, Callable, list[tuple[int, ...]]]]:
    """Functions and the shapes of their arguments."""
    f = torch.nn.functional
    for m, n, k in ((1, 1, 1), (7, 5, 3), (33, 17, 65), (131, 67, 259), (64, 100, 1000)):
        yield f"matmul {m} {n} {k}", lambda x, w: x @ w, [(m, k), (k, n)]
        yield f"transposed {m} {n} {k}", lambda x, w: x.t() @ w.t(), [(k, m), (n, k)]
        yield (
            f"linear {m} {n} {k}",
            lambda x, w, b: f.linear(x, w, b).relu(),
            [(m, k), (n, k), (n,)],
        )
    yield "bmm", torch.bmm, [(3, 13, 29), (3, 29, 11)]
    for channels, size, kernel in ((3, 7, 3), (5, 13, 1), (17, 9, 3), (16, 15, 5)):
        for stride in (1, 2):
            yield (
                f"conv {channels} {size} {kernel} {stride}",
                lambda x, w, s=stride, p=kernel // 2: f.conv2d(x, w, stride=s, padding=p),
                [(2, channels, size, size), (7, channels, kernel, kernel)],
            )
    depthwise = [(2, 19, 11, 13), (19, 1, 3, 3)]
    yield "depthwise", lambda x, w: f.conv2d(x, w, padding=1, groups=19), depthwise
    yield "conv1d", lambda x, w: f.conv1d(x, w, dilation=2), [(2, 3, 31), (5, 3, 3)]
    yield "max pool", lambda x: f.max_pool2d(x, 3, 2, 1), [(2, 5, 17, 19)]
    yield "average pool", lambda x: f.avg_pool2d(x, 3, 2, 1), [(2, 5, 17, 19)]
    heads = [(2, 3, 37, 13)] * 3
    yield "attention", lambda q, k, v: f.scaled_dot_product_attention(q, k, v), heads
    causal = [(1, 2, 129, 32)] * 3
    yield (
        "causal attention",
        lambda q, k, v: f.scaled_dot_product_attention(q, k, v, is_causal=True),
        causal,
    )
    for shape in ((3, 5), (7, 129), (257, 33), (5, 4099)):
        yield f"softmax {shape}", lambda x: x.softmax(-1), [shape]
        yield f"layer norm {shape}", lambda x, n=shape[-1]: f.layer_norm(x, (n,)), [shape]
        yield f"batch norm {shape}", lambda x: f.batch_norm(x, None, None, training=True), [shape]
        yield f"columns {shape}", lambda x: x.sum(0) + x.amax(0), [shape]
        yield f"elements {shape}", lambda x, y: (x * y).tanh() + x.exp(), [shape, shape]
        yield f"transposed {shape}", lambda x: x.t().contiguous() * 2, [shape]
        yield f"parts {shape}", lambda x: torch.cat([x[:, 1:], x.flip(0)], 1), [shape]
        yield f"sums {shape}", lambda x: x.cumsum(-1), [shape]
        target = torch.arange(shape[0]) % shape[1]
        yield f"loss {shape}", lambda x, t=target: f.cross_entropy(x, t), [shape]
        yield f"look-up {shape}", lambda x, t=target: f.embedding(t % x.shape[0], x), [shape]
    yield "lstm", lstm(torch, 13, 21), [(5, 3, 13)]


def lstm(torch: Any, inputs: int, width: int) -> Callable:
    """A recurrent layer."""
    layer = torch.nn.LSTM(inputs, width, 2)
    return lambda x: layer(x)[0]


def made(torch: Any, shape: tuple[int, ...], side: str) -> Any:
    """A tensor in guarded memory that requires grad."""
    array = guarded(shape, np.float32, side)
    array[...] = np.random.default_rng(prod(shape)).standard_normal(shape)
    return torch.from_numpy(array).requires_grad_()


def check_case(torch: Any, call: Callable, arguments: list) -> None:
    """The function and its gradients, eager and compiled, agree."""
    results = []
    for run in (call, torch.compile(call)):
        for _ in range(2 if run is not call else 1):
            y = run(*arguments)
            found = torch.autograd.grad((y * y).sum(), arguments)
        results.append([y, *found])
    for mine, theirs in zip(*results, strict=True):
        scale = max(float(theirs.detach().abs().max()), 1.0)
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4 * scale)


def check_step(torch: Any, name: str, side: str) -> None:
    """Whole training steps, whose parameters are written in place."""
    weights = [made(torch, shape, side) for shape in ((13, 7), (13,), (129, 13))]
    optimizer = getattr(torch.optim, name)(weights, lr=0.01)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = ((x @ weights[0].t() + weights[1]).tanh() @ weights[2].t()).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    compiled = torch.compile(step)
    losses = [float(compiled(made(torch, (5, 7), side).detach())) for _ in range(4)]
    assert losses[-1] < losses[0]


def main(side: str) -> None:
    """Runs everything; prints what it is at, so that a crash has a name."""
    guard_all(side)
    import lampion as torch

    for name, call, shapes in cases(torch):
        print(name, flush=True)
        check_case(torch, call, [made(torch, shape, side) for shape in shapes])
    for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad"):
        print(name, flush=True)
        check_step(torch, name, side)
    print("done")


if __name__ == "__main__":
    main(sys.argv[1])
