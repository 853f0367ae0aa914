"""Random programs, compiled against eager: operators, views, in-place writes, state, gradients.

A program is a list of instructions on a growing list of tensors. It runs eagerly and compiled, on
several sets of values (the first call traces, the others run what was compiled), with one thread
and with two.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import lampion as torch

SHAPES = [(), (3,), (2, 3), (4, 1), (1, 5), (3, 3), (2, 1, 4), (2, 3, 4), (16, 33)]
LARGE = [*SHAPES, (0, 3), (2, 0, 4), (300, 70), (3, 5000), (7, 16, 129), (40000,)]
MOST = 100_000  # elements of a value


class Instruction(NamedTuple):
    """`name` of OPERATIONS, two operands counted from the end of the list, and a number."""

    name: str
    x: int
    y: int
    n: int


def dim_of(x: Any, n: int) -> int:
    """One of the tensor's dimensions."""
    return n % max(x.dim(), 1) if x.dim() else 0


def fits(x: Any, y: Any) -> bool:
    """Whether two shapes broadcast."""
    pairs = zip(reversed(x.shape), reversed(y.shape))
    return all(a == b or 1 in (a, b) for a, b in pairs)


def with_fitting(operation: Any) -> Any:
    """A binary operation where the shapes broadcast, else the first operand's sine."""
    return lambda x, y, n: operation(x, y) if fits(x, y) else x.sin()


def written(x: Any, y: Any, n: int) -> Any:
    """A copy that is changed through a view of it."""
    x = x.clone()
    if x.dim() == 0 or not x.numel():
        return x.add_(y.sum())
    view = x.select(dim_of(x, n), 0)
    view.mul_(2).add_(y.mean())
    other = x.transpose(0, -1)
    other[..., -1:] = n / 7
    return x + view.sum()


def doubled(x: Any, y: Any, n: int) -> Any:
    """An in-place chain on a temporary, and a view of it that was taken before."""
    z = x * 0.5
    flat = z.reshape(-1)
    if n % 2:
        flat.add_(1)
    z.tanh_()  # its gradient needs its result: nobody may write there afterwards
    return flat if n % 4 < 2 else z


def matrix(x: Any, columns: int = 0) -> Any:
    """All elements as rows, of a fixed width if it is given and divides them."""
    if columns and x.numel() % columns == 0 and x.numel():
        return x.reshape(-1, columns)
    return x.reshape(-1, x.shape[-1] if x.dim() and x.shape[-1] else 1)


def weights(*shape: int) -> Any:
    """A tensor of fixed content."""
    size = int(np.prod(shape))
    return (torch.arange(size).reshape(shape) % 7 - 3).float() * 0.25


def places(x: Any, n: int, below: int) -> Any:
    """An index of as many elements as x has rows, below a bound."""
    return (torch.arange(x.shape[0]) * (2 * n + 1)) % max(below, 1)


def image(x: Any) -> Any:
    """(1, channels, height, width) of the elements that fit: at most 3 channels."""
    x = x.reshape(-1)
    channels = 3 if x.numel() >= 27 else 1
    width = max(int((x.numel() // channels) ** 0.5), 1)
    used = channels * width * width
    return torch.nn.functional.pad(x, (0, max(used - x.numel(), 0)))[:used].reshape(
        1, channels, width, width
    )


def convolved(x: Any, y: Any, n: int) -> Any:
    """A convolution with stride 1 or 2."""
    x = image(x)
    kernel = weights(4, x.shape[1], 3, 3)
    return torch.nn.functional.conv2d(x, kernel, stride=1 + n % 2, padding=1)


def normalised(x: Any, y: Any, n: int) -> Any:
    """Batch normalisation over the rows, in training."""
    x = matrix(x)
    if x.shape[0] < 2:
        return x
    scale = weights(x.shape[1]) if n % 2 else None
    return torch.nn.functional.batch_norm(x, None, None, scale, training=True, eps=0.1)


def classified(x: Any, y: Any, n: int) -> Any:
    """Cross-entropy of the rows."""
    x = matrix(x)
    target = places(x, n, x.shape[1])
    reduction = ("mean", "sum", "none")[n % 3]
    return torch.nn.functional.cross_entropy(x, target, reduction=reduction)


def scattered(x: Any, y: Any, n: int) -> Any:
    """Rows added at places."""
    x = matrix(x)
    base = torch.zeros(5, x.shape[1], dtype=x.dtype) + 0.5
    index = places(x, n, 5)
    if n % 3 == 0:
        return base.index_add(0, index, x)
    if n % 3 == 1:
        return base.scatter_add(0, index.unsqueeze(1).expand(-1, x.shape[1]), x)
    return base.index_put((index,), x, accumulate=True)


def attended(x: Any, y: Any, n: int) -> Any:
    """Attention of the rows to each other, causal or not."""
    x = matrix(x, 8)[:64].unsqueeze(0)
    f = torch.nn.functional.scaled_dot_product_attention
    return f(x, x * 0.5, x, is_causal=bool(n & 1)) if x.numel() else x


def changed_inside(x: Any, y: Any, n: int) -> Any:
    """A loop of writes to rows of a new tensor."""
    z = torch.zeros(4, *x.shape, dtype=x.dtype)
    for i in range(4):
        z[i] = x * i + (z[i - 1] if i else 0)
    z[n % 4].relu_()
    return z


OPERATIONS = {
    "linear": lambda x, y, n: torch.nn.functional.linear(
        matrix(x), weights(1 + 9 * (n % 4), matrix(x).shape[1]), weights(1 + 9 * (n % 4))
    ),
    "gram": lambda x, y, n: matrix(x)[:90] @ matrix(x)[:90].t() * 0.01,
    "conv": convolved,
    "max_pool": lambda x, y, n: (
        torch.nn.functional.max_pool2d(image(x), 2, ceil_mode=bool(n & 1))
        if image(x).shape[-1] > 1
        else x
    ),
    "avg_pool": lambda x, y, n: (
        torch.nn.functional.avg_pool2d(image(x), 2, 1) if image(x).shape[-1] > 1 else x
    ),
    "batch_norm": normalised,
    "cross_entropy": classified,
    "scatter": scattered,
    "attention": attended,
    "rows": lambda x, y, n: changed_inside(x, y, n) if x.numel() < 5000 and x.dim() < 4 else x,
    "embedding": lambda x, y, n: torch.nn.functional.embedding(
        places(matrix(x), n, matrix(x).shape[0]), matrix(x)
    ),
    "dropout": lambda x, y, n: torch.nn.functional.dropout(x, 0.25),
    "noise": lambda x, y, n: x + torch.rand(x.shape) * 0.5,
    "gelu": lambda x, y, n: torch.nn.functional.gelu(x, approximate="tanh" if n & 1 else "none"),
    "logsumexp": lambda x, y, n: x.logsumexp(dim_of(x, n)),
    "norm": lambda x, y, n: (x * x + 1).norm(dim=dim_of(x, n)) if x.dim() else x,
    "product": lambda x, y, n: x.tanh().prod(dim_of(x, n)),
    "sort": lambda x, y, n: x.sort(dim_of(x, n), stable=True)[0],
    "argmax": lambda x, y, n: x * x.argmax(dim_of(x, n), keepdim=True) if x.numel() else x,
    "mask": lambda x, y, n: x.masked_fill(x > 0.3, 0.1 * n),
    "both": lambda x, y, n: ((x > 0) & ~(x > 1)).sum(dim_of(x, n)) * 0.5 + x.sum(),
    "clamp": lambda x, y, n: x.clamp(-0.7, 0.1 * n),
    "roll": lambda x, y, n: x.roll(n - 3, dim_of(x, n)) if x.dim() else x,
    "repeat": lambda x, y, n: x.repeat(2, *[1] * x.dim()),
    "triangle": lambda x, y, n: matrix(x).tril(n - 3) + matrix(x).triu(2),
    "wide": lambda x, y, n: (x.double() * 1.5).cumsum(dim_of(x, n)).float(),
    "half": lambda x, y, n: (x.bfloat16() * 0 + 2).float() * x,
    "counts": lambda x, y, n: x + torch.arange(x.shape[-1]) // 3 if x.dim() else x,
    "split": lambda x, y, n: (
        torch.cat(x.split(2, dim_of(x, n))[::-1], dim_of(x, n)) if x.dim() else x
    ),
    "bmm": lambda x, y, n: torch.bmm(*[image(x)[0][:, :40, :40]] * 2) * 0.1,
    "gate": lambda x, y, n: (
        torch.nn.functional.glu(torch.cat([x, x * 2], -1), -1) if x.dim() else x
    ),
    "tanh": lambda x, y, n: x.tanh(),
    "exp": lambda x, y, n: (-x * x).exp(),
    "sigmoid": lambda x, y, n: x.sigmoid(),
    "relu": lambda x, y, n: x.relu(),
    "sqrt": lambda x, y, n: (x * x + 1).sqrt(),
    "power": lambda x, y, n: x**2 - 1.5 * x,
    "add": with_fitting(lambda x, y: x + y),
    "multiply": with_fitting(lambda x, y: x * y),
    "divide": with_fitting(lambda x, y: x / (y * y + 1)),
    "maximum": with_fitting(torch.maximum),
    "where": with_fitting(lambda x, y: torch.where(x > y, x, y * 0.5)),
    "sum": lambda x, y, n: x.sum(dim_of(x, n), keepdim=bool(n & 4)),
    "mean": lambda x, y, n: x.mean(dim_of(x, n), keepdim=True),
    "amax": lambda x, y, n: x.amax(dim_of(x, n), keepdim=bool(n & 4)),
    "total": lambda x, y, n: x.sum() * 0.1,
    "variance": lambda x, y, n: x.var(unbiased=False) if x.numel() else x.sum(),
    "softmax": lambda x, y, n: x.softmax(dim_of(x, n)),
    "log_softmax": lambda x, y, n: x.log_softmax(dim_of(x, n)),
    "layer_norm": lambda x, y, n: torch.nn.functional.layer_norm(x, x.shape[-1:]) if x.dim() else x,
    "matmul": lambda x, y, n: x.reshape(1, -1) @ x.reshape(-1, 1) * 0.1,
    "outer": lambda x, y, n: (x.reshape(-1, 1)[:6] @ y.reshape(1, -1)[:, :6]).tanh(),
    "transpose": lambda x, y, n: x.transpose(0, -1) if x.dim() else x,
    "flatten": lambda x, y, n: x.reshape(-1),
    "slice": lambda x, y, n: x[n % 2 :: 2] if x.dim() and x.shape[0] > 1 else x,
    "last": lambda x, y, n: x[..., -1] if x.dim() else x,
    "flip": lambda x, y, n: x.flip(dim_of(x, n)) if x.dim() else x,
    "unsqueeze": lambda x, y, n: x.unsqueeze(-1) if x.dim() < 4 else x,
    "expand": lambda x, y, n: x.expand(3, *x.shape) if x.dim() < 4 else x,
    "contiguous": lambda x, y, n: x.transpose(0, -1).contiguous() if x.dim() else x,
    "concatenate": lambda x, y, n: torch.cat([x.reshape(-1), y.reshape(-1)]),
    "stack": lambda x, y, n: torch.stack([x, x * 2], dim_of(x, n)) if x.dim() < 4 else x,
    "gather": lambda x, y, n: x.reshape(-1)[torch.tensor([0, -1, 0])] if x.numel() else x,
    "pad": lambda x, y, n: torch.nn.functional.pad(x, (1, n % 3)) if x.dim() else x,
    "cumsum": lambda x, y, n: x.cumsum(dim_of(x, n)),
    "cast": lambda x, y, n: (x.double() * 0.3).float(),
    "integer": lambda x, y, n: x + (x * 3).long() % 4,
    "written": written,
    "doubled": doubled,
}

instructions = st.builds(
    Instruction,
    st.sampled_from(sorted(OPERATIONS)),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 7),
)
programs = st.tuples(
    st.lists(st.sampled_from(LARGE), min_size=1, max_size=3),
    st.lists(instructions, min_size=1, max_size=10),
    st.booleans(),
    st.booleans(),
)


def run(instructions: list[Instruction], state: Any, gradient: bool, tensors: tuple) -> list:
    """The program: its last values, and gradients of the arguments if asked for."""
    found = [*tensors, state * 1.0]
    for name, x, y, n in instructions:
        value = OPERATIONS[name](found[-x % len(found)], found[-y % len(found)], n)
        if value.numel() <= MOST and value.dtype == torch.float32:
            found.append(value)
    with torch.no_grad():
        state.mul_(0.5).add_(found[-1].detach().double().mean().nan_to_num().clamp(-1, 1).float())
    if not gradient:
        return found[-3:]
    loss = tensors[0].sum() * 0.1
    loss = loss + sum((value.float() ** 2).mean() for value in found[-3:] if value.numel())
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    return [loss.detach(), *[g for g in gradients if g is not None]]


def backwards(a: Any) -> Any:
    """A view with all dimensions in reverse order."""
    return a.permute(*reversed(range(a.ndim)))


def values(shapes: list[tuple[int, ...]], seed: int, gradient: bool) -> tuple:
    """Arguments of the shapes."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    return tuple(torch.tensor(a).requires_grad_(gradient) for a in arrays)


def is_dense(x: Any) -> bool:
    """Whether a tensor's elements fill their memory, in whatever order of dimensions."""
    step = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride(), x.shape) if n > 1):
        if stride != step:
            return False
        step *= size
    return True


def stride_of(x: Any) -> list[int]:
    """The strides that matter."""
    return [s for s, n in zip(x.stride(), x.shape, strict=True) if n > 1]


def compare(got: list, expected: list, what: str) -> None:
    """Values, shapes and types are the same."""
    assert len(got) == len(expected), what
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape, what
        if is_dense(theirs):  # results that are views with gaps come without
            assert stride_of(mine) == stride_of(theirs) or mine.numel() < 2, what
        a, b = mine.detach().numpy(), theirs.detach().numpy()
        np.testing.assert_allclose(a, b, rtol=3e-4, atol=3e-5, err_msg=what)


@pytest.mark.parametrize("threads", [1, 2])
@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(programs)
def test_compiled_as_eager(threads, program):
    shapes, instructions, gradient, strided = program
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        mine, theirs = torch.ones(3), torch.ones(3)
        compiled = torch.compile(lambda *tensors: run(instructions, mine, gradient, tensors))
        for seed in range(2):
            arguments = values(shapes, seed, gradient)
            if strided:
                arguments = tuple(
                    backwards(backwards(a.detach()).clone()).requires_grad_(gradient)
                    for a in arguments
                )
            torch.manual_seed(seed)
            expected = run(instructions, theirs, gradient, arguments)
            torch.manual_seed(seed)
            compare(compiled(*arguments), expected, f"call {seed} of {program}")
            compare([mine], [theirs], f"state after call {seed} of {program}")
    finally:
        torch.set_num_threads(before)
