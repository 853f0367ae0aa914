"""Running sums and products, sort, argsort and topk inside compiled functions."""

import pytest

import lampion as torch
from lampion.compiler.lower.kernels import Host
from lampion.compiler.native import runtime

pytestmark = pytest.mark.skipif(not runtime.available(), reason="the compiler needs llvmlite")
KINDS = {
    "cumsum": lambda x, dim: torch.cumsum(x, dim),
    "cumprod": lambda x, dim: torch.cumprod(x, dim),
}
PICKS = {
    "sort": lambda x: tuple(torch.sort(x)),
    "falling": lambda x: tuple(torch.sort(x, -1, True)),
    "argsort": lambda x: torch.argsort(x, descending=True),
    "topk": lambda x: tuple(torch.topk(x, 3)),
    "smallest": lambda x: tuple(torch.topk(x, 2, largest=False)),
    "all": lambda x: tuple(torch.topk(x, x.shape[-1])),
}


def numbers(*shape, dtype=torch.float32):
    """Numbers with many equal ones, and two that are none."""
    torch.manual_seed(0)
    x = torch.randint(-4, 5, shape).to(dtype)
    if dtype.is_floating_point:
        x.view(-1)[3], x.view(-1)[-2] = float("nan"), float("inf")
    return x


def check(f, x, hosted=False):
    """The compiled function gives what the function gives, and whether NumPy has a part in it."""
    c = torch.compile(f)
    for _ in range(3):
        torch.testing.assert_close(c(x), f(x), equal_nan=True)
    (program,) = [made for row in c.programs.values() for made in row]
    assert any(isinstance(task, Host) for task in program.executable.tasks) is hosted


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("name", KINDS)
def test_running_sums(name, dtype):
    f = KINDS[name]
    for shape, dim in (((7,), 0), ((3, 5), 1), ((3, 5), 0), ((2, 3, 37), 1), ((40, 999), -1)):
        check(lambda x, dim=dim: f(x, dim) * 2, numbers(*shape, dtype=dtype))
    check(lambda x: f(x.view(4, 6)[1:3], 1), numbers(24, dtype=dtype))


def test_running_sums_that_numpy_makes():
    check(lambda x: torch.cumsum(x, 0), numbers(6, dtype=torch.int32), hosted=True)
    check(lambda x: torch.cumsum(x.t(), 0), numbers(3, 5), hosted=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("name", PICKS)
def test_orders(name, dtype):
    for shape in ((7,), (3, 48), (2, 3, 5), (3000, 20)):
        check(PICKS[name], numbers(*shape, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("name", PICKS)
def test_orders_of_long_rows(name, dtype):
    for shape in ((49,), (3, 500), (70, 300)):
        x = numbers(*shape, dtype=dtype)
        check(PICKS[name], x)
        if dtype.is_floating_point:
            x.view(-1)[::7] *= -0.0
            check(PICKS[name], x)
            check(PICKS[name], torch.randn(*shape, dtype=dtype) * 1e30)
        else:
            check(PICKS[name], x * (1 << 60) + torch.arange(shape[-1]) % 3)


def test_orders_that_numpy_makes():
    x = numbers(3, 500)
    check(lambda x: tuple(torch.topk(x, 64)), x)
    check(lambda x: tuple(torch.topk(x, 65)), x)
    check(lambda x: tuple(torch.sort(x, 0)), x, hosted=True)
    check(lambda x: tuple(torch.sort(x.half())), x, hosted=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_extremes(name, dtype):
    f = getattr(torch, name)
    for shape, dim in (((7,), 0), ((3, 50), 1), ((3, 50), 0), ((2, 3, 37), 1), ((40, 999), -1)):
        x = numbers(*shape, dtype=dtype)
        check(lambda x, dim=dim: f(x, dim), x)
        check(lambda x, dim=dim: f(x, dim, keepdim=True), x)
        check(lambda x, dim=dim: tuple(getattr(torch, name[3:])(x, dim)), x)
    check(lambda x: f(x), numbers(5, 7, dtype=dtype))


def test_extremes_of_numbers_that_are_none():
    nan = float("nan")
    for row in ([nan], [1.0, nan, 5.0, nan], [nan] * 40, [3.0] * 40 + [nan, 9.0, nan]):
        for f in (torch.argmax, torch.argmin):
            check(lambda x, f=f: (f(x, 0), f(torch.stack([x, -x], 1), 0)), torch.tensor(row))
    check(lambda x: torch.argmax(x, 1), numbers(3, 5).half(), hosted=True)


def test_cells():
    lstm, gru = torch.nn.LSTMCell(3, 4), torch.nn.GRUCell(3, 4)
    x, h, c = torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)

    def f(x, h, c):
        y, c = lstm(x, (h, c))
        y = gru(x, y)
        parameters = [*lstm.parameters(), *gru.parameters()]
        return y, c, *torch.autograd.grad((y * c).sum(), parameters)

    compiled = torch.compile(f)
    for _ in range(3):
        torch.testing.assert_close(compiled(x, h, c), f(x, h, c))
    (program,) = [made for row in compiled.programs.values() for made in row]
    assert not any(isinstance(task, Host) for task in program.executable.tasks)


def test_gradients():
    weights = torch.arange(12.0).view(3, 4)

    def f(x):
        loss = (torch.sort(x)[0] * weights).cumsum(1).sin().sum() + torch.topk(x, 2)[0].prod(
            1
        ).sum()
        (gradient,) = torch.autograd.grad(loss, x)
        return loss, gradient

    x = torch.linspace(-1, 1, 12).cos().view(3, 4).requires_grad_()
    c = torch.compile(f)
    for _ in range(3):
        torch.testing.assert_close(c(x), f(x))
