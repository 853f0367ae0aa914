"""Autocast types as PyTorch's on the CPU, gradients in the parameters' own type, loss scaling."""

import warnings

import pytest

import lampion as torch
from lampion.amp import GradScaler, autocast

F = torch.nn.functional
BF16, F32 = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("name", "call", "expected"),  # the types PyTorch 2.13 gives on the CPU
    [
        ("matmul", lambda x, h: x @ x, BF16),
        ("linear", lambda x, h: F.linear(x, x, x[0]), BF16),
        ("bmm", lambda x, h: torch.bmm(x[None], x[None]), BF16),
        ("conv", lambda x, h: F.conv2d(x[None, None], x[None, None]), BF16),
        ("attention", lambda x, h: F.scaled_dot_product_attention(x[None], x[None], x[None]), BF16),
        ("mv", lambda x, h: torch.mv(x, x[0]), F32),
        ("add", lambda x, h: x + x, F32),
        ("exp of a half", lambda x, h: h.exp(), BF16),
        ("softmax of a half", lambda x, h: h.softmax(-1), BF16),
        ("layer_norm of a half", lambda x, h: F.layer_norm(h, (4,)), BF16),
        ("sum of a half", lambda x, h: h.sum(), BF16),
        ("cross_entropy of a half", lambda x, h: F.cross_entropy(h, torch.arange(4)), F32),
        ("mse_loss of a half", lambda x, h: F.mse_loss(h, h), F32),
        ("prod of a half", lambda x, h: h.prod(), F32),
        ("cat", lambda x, h: torch.cat([x, h]), F32),
        ("float64", lambda x, h: x.double() @ x.double(), torch.float64),
    ],
)
def test_types(name, call, expected):
    x = torch.randn(4, 4)
    with autocast("cpu"):
        assert call(x, x.bfloat16()).dtype is expected, name
    assert (x @ x).dtype is F32


def test_gradients_have_the_parameters_type():
    layer = torch.nn.Linear(4, 3)
    x = torch.randn(2, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = layer(x).float().sum()
    loss.backward()
    assert layer.weight.grad.dtype is F32
    expected = torch.nn.Linear(4, 3)
    expected.load_state_dict(layer.state_dict())
    expected(x).sum().backward()
    assert torch.allclose(layer.weight.grad, expected.weight.grad, rtol=1e-2, atol=1e-2)


def test_a_changed_weight_is_cast_again():
    w = torch.ones(2, 2, requires_grad=True)
    with autocast("cpu"):
        first = torch.ones(2, 2) @ w
        with torch.no_grad():
            w.mul_(3)
        second = torch.ones(2, 2) @ w
    assert first[0, 0].item() == 2.0
    assert second[0, 0].item() == 6.0


def test_disabled_nested_and_decorated():
    x = torch.ones(2, 2)
    with autocast("cpu"):
        with autocast("cpu", enabled=False):
            assert (x @ x).dtype is F32
        assert (x @ x).dtype is BF16

    @autocast("cpu")
    def f():
        return x @ x

    assert f().dtype is BF16
    with pytest.warns(UserWarning, match="CUDA is not available"):
        with autocast("cuda"):
            assert (x @ x).dtype is F32
    with pytest.raises(RuntimeError, match="unsupported autocast device_type"):
        autocast("toaster")


def test_scaler_unscales_and_steps():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=0.1)
    scaler = GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale((p * 2).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert torch.allclose(p, torch.full((2,), 0.6))
    assert scaler.get_scale() == 2048.0


def test_scaler_skips_what_overflowed():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([p], lr=0.1)
    scaler = GradScaler("cpu", init_scale=8.0)
    scaler.scale((p * float("inf")).sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert p.tolist() == [1.0, 1.0]
    assert scaler.get_scale() == 4.0
    copy = GradScaler("cpu")
    copy.load_state_dict(scaler.state_dict())
    assert copy.get_scale() == 4.0


def test_scaler_without_a_gpu_is_disabled():
    with pytest.warns(UserWarning, match="CUDA is not available"):
        scaler = GradScaler()
    x = torch.ones(1)
    assert scaler.scale(x) is x
    assert scaler.get_scale() == 1.0
    assert scaler.state_dict() == {}


def test_the_old_names_are_disabled_without_a_gpu():
    from lampion.cuda.amp import GradScaler as OldScaler, autocast as old_autocast

    with pytest.warns(UserWarning, match="CUDA is not available"):
        with old_autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is F32
    with pytest.warns(UserWarning, match="CUDA is not available"):
        assert not OldScaler().is_enabled()
    assert not torch.cuda.amp.GradScaler(enabled=False).is_enabled()


def test_a_compiled_module_inside_a_block():
    """Weights that a block has cast are not kept over the call that was compiled."""

    def losses(compiled):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        run = torch.compile(net) if compiled else net
        found = []
        for i in range(4):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = run(torch.ones(3, 4) + i).float().pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert losses(True) == pytest.approx(losses(False), rel=2e-2)
