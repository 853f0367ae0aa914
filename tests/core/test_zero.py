"""Second derivatives that are zero: what depends on what, and where zeros become numbers.

Values are PyTorch 2.13's.
"""

import importlib

import numpy as np
import pytest

import lampion as torch
from lampion.core.op import OPS
from lampion.core.zero import JOINT, PIECEWISE
from tests.test_operators import differentiable, ids

F, nn = torch.nn.functional, torch.nn

FAMILIES = ("activation", "complex", "cumulative", "elementwise", "pool", "reduce", "special")
# Operators whose gradient does not depend on their inputs; that of all others does.
CONSTANT = {
    "angle", "complex", "conj", "conj_physical", "real", "imag", "sgn", "view_as_complex",
    "cummax", "cummin", "cumsum", "diff", "gradient", "add", "ceil", "clamp", "clamp_max",
    "clamp_min", "deg2rad", "floor", "fmax", "fmin", "frac", "frexp", "maximum", "minimum",
    "nan_to_num", "neg", "positive", "rad2deg", "round", "rsub", "sign", "sub", "trunc", "where",
    "nn.functional.max_unpool1d", "nn.functional.max_unpool2d", "nn.functional.max_unpool3d",
    "Tensor.sum_to_size", "amax", "amin", "aminmax", "max", "mean", "min", "nanmean", "nansum",
    "sum", "floor_divide",
}  # fmt: skip
# With some arguments it does. Others are made of gather, resample and mul here.
SOMETIMES = {
    "mul", "div", "pow", "fmod", "lerp", "remainder", "xlogy", "trapezoid", "trapz", "copysign",
    "cumulative_trapezoid", "prod", "special.xlogy",
}  # fmt: skip
OTHERS = ("adaptive", "fractional", "rrelu")


def cases():
    """The differentiable samples of the families."""
    for family in FAMILIES:
        samples = importlib.import_module(f"tests.samples.{family}").SAMPLES
        for sample, name in zip(samples, ids(samples), strict=True):
            usual = sample.gradient and "float64" in sample.dtypes and sample.name not in SOMETIMES
            if usual and not any(p in sample.name for p in OTHERS):
                yield pytest.param(sample, id=name)


@pytest.mark.parametrize("sample", list(cases()))
def test_what_gradients_depend_on(sample):
    call, leaves = differentiable(sample)
    leaves = [x.requires_grad_() for x in leaves]
    outs = [y for y in call(*leaves) if y.requires_grad]
    total = sum(y.real.sum() + y.imag.sum() if y.is_complex() else y.sum() for y in outs)
    grads = torch.autograd.grad(total, leaves, create_graph=True, allow_unused=True)
    depends = [g.requires_grad for g in grads if g is not None]
    assert any(depends) == (sample.name not in CONSTANT)


def test_losses_of_classes():
    x, t = torch.rand(2, 4, requires_grad=True), torch.tensor([0, 1])
    (g,) = torch.autograd.grad(F.nll_loss(x, t), x, create_graph=True)
    assert g.grad_fn.name() == "NllLossBackwardBackward0"
    assert F.nll_loss(x.view(1, 2, 4), torch.zeros(1, 4).long()).grad_fn.name() == (
        "NllLoss2DBackward0"
    )


def test_operators_are_known():
    assert set(OPS) >= PIECEWISE | JOINT


PROGRAMS = {
    "ThresholdBackwardBackward0": F.relu,
    "HardtanhBackwardBackward0": F.relu6,
    "LeakyReluBackwardBackward0": F.leaky_relu,
    "SoftshrinkBackwardBackward0": F.softshrink,
    "MaxPool2DWithIndicesBackwardBackward0": lambda x: F.max_pool2d(x, 2),
    "AvgPool2DBackwardBackward0": lambda x: F.avg_pool2d(x, 2),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_second_derivative_is_zero(name):
    x = torch.randn(1, 2, 2, 4, requires_grad=True)
    (g,) = torch.autograd.grad(PROGRAMS[name](x).sum(), x, create_graph=True)
    assert g.requires_grad and g.grad_fn.name() == name
    (again,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    assert torch.equal(again, torch.zeros(1, 2, 2, 4))
    g.sum().backward()
    assert torch.equal(x.grad, torch.zeros(1, 2, 2, 4))


def test_through_layers():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    nn.init.ones_(net[0].bias)
    x = torch.rand(2, 3, requires_grad=True)
    (g,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    assert torch.autograd.grad(g.sum(), x, retain_graph=True)[0].tolist() == [[0.0] * 3] * 2
    g.square().sum().backward()
    assert x.grad.tolist() == [[0.0] * 3] * 2
    assert net[0].bias.grad.tolist() == [0.0] * 4  # which only the zero reaches
    assert net[0].weight.grad.abs().sum() > 0
    assert net[2].bias.grad is None


def test_a_linear_layer_has_no_second_derivative():
    x = torch.rand(2, 3, requires_grad=True)
    (g,) = torch.autograd.grad(nn.Linear(3, 3)(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(g.sum(), x)


def test_zero_and_more_is_more():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = x * x
    (g,) = torch.autograd.grad(F.relu(y).sum(), y, create_graph=True)
    assert torch.autograd.grad((g * y).sum(), x, retain_graph=True)[0].tolist() == [2, -4]
    (g,) = torch.autograd.grad(F.relu(y).sum(), y, create_graph=True)
    assert torch.autograd.grad((y + g).sum(), x)[0].tolist() == [2, -4]


class Twice(torch.autograd.Function):
    seen: list = []

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        Twice.seen.append(g.tolist())
        return g * 2


def test_hooks_and_functions_see_zeros():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y, seen = Twice.apply(x), []
    y.retain_grad()
    y.register_hook(lambda g: seen.append(g.tolist()))
    z = y.exp()
    (g,) = torch.autograd.grad(F.relu(z).sum(), z, create_graph=True)
    g.sum().backward()
    assert seen == [[0, 0]] and Twice.seen == [[0, 0]]
    assert y.grad.tolist() == x.grad.tolist() == [0, 0]


def test_several_outputs():
    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    first, second = x.sort()[0].exp().split([1, 2])
    (g,) = torch.autograd.grad(F.relu(first).sum(), first, create_graph=True)
    assert torch.autograd.grad(g.sum(), x, retain_graph=True)[0].tolist() == [0, 0, 0]
    (got,) = torch.autograd.grad((g + second).sum(), x)
    np.testing.assert_allclose(got, [np.exp(1), 0, np.exp(3)], rtol=1e-6)


def penalty(net, x):
    """The gradient penalty of a Wasserstein GAN's critic."""
    x = x.detach().requires_grad_()
    (g,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    return (g.norm(2, dim=1) - 1).square().mean()


@pytest.mark.parametrize("compiled", [False, True])
def test_gradient_penalty(compiled):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 8), nn.ReLU())
    net.append(nn.Linear(8, 1)).double()
    x = torch.randn(5, 3, dtype=torch.float64)

    def step():
        net.zero_grad()
        loss = penalty(net, x)
        loss.backward()
        return loss

    run = torch.compile(step) if compiled else step
    for _ in range(3):
        run()
    for p in (net[0].weight, net[4].weight):
        for i in range(3):
            flat = p.data.view(-1)
            kept, values = flat[i].item(), []
            for h in (1e-6, -1e-6):
                flat[i] = kept + h
                values.append(penalty(net, x).item())
            flat[i] = kept
            assert p.grad.view(-1)[i].item() == pytest.approx((values[0] - values[1]) / 2e-6, 1e-5)
    assert net[0].bias.grad.tolist() == [0.0] * 8


def test_under_transforms():
    x = torch.tensor([1.0, -2.0, 3.0])
    curve = torch.func.vmap(torch.func.grad(torch.func.grad(lambda v: F.relu(v) * 3)))
    assert curve(x).tolist() == [0, 0, 0]
    assert torch.func.hessian(lambda v: F.relu(v).sum())(x).tolist() == torch.zeros(3, 3).tolist()
