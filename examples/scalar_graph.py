"""f = tanh(ln(1 + z * 2x / sin(y))): forward, backward,
and the same derivatives by the chain rule.
"""

import math

import torch

x = torch.tensor(1.0, requires_grad=True)
y = torch.tensor(0.5, requires_grad=True)
z = torch.tensor(2.0, requires_grad=True)

a = 2 * x
b = torch.sin(y)
c = a / b
d = z * c
e = torch.log(1 + d)
f = torch.tanh(e)
f.backward()

# Each edge of the graph holds the derivative of its head by its tail; a path multiplies them.
df_de = 1 - math.tanh(e.item()) ** 2
de_dd = 1 / (1 + d.item())
by_hand = {
    "x": df_de * de_dd * z.item() * (1 / b.item()) * 2,
    "y": df_de * de_dd * z.item() * (-a.item() / b.item() ** 2) * math.cos(y.item()),
    "z": df_de * de_dd * c.item(),
}

print(f"f = {f.item():.6f}, made by {f.grad_fn.name()}")
for name, leaf in (("x", x), ("y", y), ("z", z)):
    print(f"df/d{name}: autograd {leaf.grad.item():+.6f}, chain rule {by_hand[name]:+.6f}")
    assert math.isclose(leaf.grad.item(), by_hand[name], rel_tol=1e-4)
