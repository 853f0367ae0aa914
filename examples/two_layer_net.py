"""A two-layer network on random data, five ways, from gradients by hand to an optimizer."""

import torch

N, D_in, H, D_out = 64, 1000, 100, 10
STEPS = 50


def data():
    """The same random data and weights for every way."""
    torch.manual_seed(0)
    x, y = torch.randn(N, D_in), torch.randn(N, D_out)
    return x, y, torch.randn(D_in, H), torch.randn(H, D_out)


def by_hand():
    """Forward and backward written out."""
    x, y, w1, w2 = data()
    for _ in range(STEPS):
        h = x.mm(w1)
        h_relu = h.clamp(min=0)
        y_pred = h_relu.mm(w2)
        loss = (y_pred - y).pow(2).sum()

        grad_y_pred = 2.0 * (y_pred - y)
        grad_w2 = h_relu.t().mm(grad_y_pred)
        grad_h_relu = grad_y_pred.mm(w2.t())
        grad_h = grad_h_relu.clone()
        grad_h[h < 0] = 0
        grad_w1 = x.t().mm(grad_h)

        w1 -= 1e-6 * grad_w1
        w2 -= 1e-6 * grad_w2
    return loss.item()


class MyReLU(torch.autograd.Function):
    """ReLU with a derivative of its own."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad_y):
        (x,) = ctx.saved_tensors
        grad_input = grad_y.clone()
        grad_input[x < 0] = 0
        return grad_input


def with_autograd(relu):
    """The graph computes the gradients."""
    x, y, w1, w2 = data()
    w1.requires_grad_()
    w2.requires_grad_()
    for _ in range(STEPS):
        loss = (relu(x.mm(w1)).mm(w2) - y).pow(2).sum()
        loss.backward()
        with torch.no_grad():
            w1 -= 1e-6 * w1.grad
            w2 -= 1e-6 * w2.grad
            w1.grad.zero_()
            w2.grad.zero_()
    return loss.item()


def network():
    """The same network of layers."""
    return torch.nn.Sequential(torch.nn.Linear(D_in, H), torch.nn.ReLU(), torch.nn.Linear(H, D_out))


def with_nn():
    """Layers hold the weights; the update is written out."""
    x, y, _, _ = data()
    model = network()
    for _ in range(STEPS):
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        with torch.no_grad():
            for param in model.parameters():
                param -= 1e-2 * param.grad
        model.zero_grad()
    return loss.item()


def with_optim():
    """An optimizer holds the update rule."""
    x, y, _, _ = data()
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for _ in range(STEPS):
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss.item()


losses = {
    "gradients by hand": by_hand(),
    "autograd": with_autograd(lambda x: x.clamp(min=0)),
    "a custom Function": with_autograd(MyReLU.apply),
    "nn": with_nn(),
    "optim.Adam": with_optim(),
}
for name, loss in losses.items():
    print(f"{name:18} loss after {STEPS} steps: {loss:.6g}")
assert abs(losses["autograd"] / losses["gradients by hand"] - 1) < 1e-3
assert abs(losses["a custom Function"] / losses["autograd"] - 1) < 1e-3
