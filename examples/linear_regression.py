"""Linear regression by gradient descent on all data and by stochastic gradient descent on
batches.
"""

import torch
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
true_w, true_b = torch.tensor([[2.0], [-3.4]]), 4.2
x = torch.randn(200, 2)
y = x @ true_w + true_b + 0.01 * torch.randn(200, 1)


def fit(batch_size, lr, epochs):
    """Trains a linear layer; returns it and the losses by epoch."""
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=lr)
    losses = []
    for _ in range(epochs):
        for batch_x, batch_y in DataLoader(TensorDataset(x, y), batch_size, shuffle=True):
            loss = ((layer(batch_x) - batch_y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    return layer, losses


for name, batch_size, lr in (("gradient descent", 200, 0.05), ("stochastic", 10, 0.05)):
    layer, losses = fit(batch_size, lr, 25)
    weights = [round(v, 3) for v in layer.weight[0].tolist()]
    print(
        f"{name:16} loss {losses[0]:.4f} -> {losses[-1]:.6f}, w = {weights}, b = "
        f"{layer.bias.item():.3f}"
    )

x = torch.tensor(2.0, requires_grad=True)
y = torch.tensor(3.0, requires_grad=True)
f = 3 * x**2 + 2 * y
f.backward()
print(f"f = 3x^2 + 2y at (2, 3): f = {f.item()}, df/dx = {x.grad.item()}, df/dy = {y.grad.item()}")
