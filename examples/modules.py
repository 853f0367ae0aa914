"""Modules of one's own, in containers; hooks that look inside; saving and loading."""

import io

import torch
from torch import nn


class ParallelBlock(nn.Module):
    """Two linear layers side by side, multiplied."""

    def __init__(self, features_in, features_out):
        super().__init__()
        self.linear1 = nn.Linear(features_in, features_out)
        self.linear2 = nn.Linear(features_in, features_out)

    def forward(self, x):
        return (self.linear1(x) * self.linear2(x)).clamp(min=0)


torch.manual_seed(0)
x, y = torch.randn(64, 20), torch.randn(64, 5)
model = nn.Sequential(ParallelBlock(20, 30), ParallelBlock(30, 30), nn.Linear(30, 5))
print(model)

shapes = []
for layer in model:
    layer.register_forward_hook(
        lambda m, args, out: shapes.append((type(m).__name__, tuple(out.shape)))
    )

optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=50, gamma=0.5)
for _ in range(100):
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
print("layers saw", shapes[:3])
print(f"loss {loss.item():.6f}, learning rate {scheduler.get_last_lr()[0]:g}")

file = io.BytesIO()
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
file.seek(0)
copy = nn.Sequential(ParallelBlock(20, 30), ParallelBlock(30, 30), nn.Linear(30, 5))
print(copy.load_state_dict(torch.load(file, weights_only=True)["model"]))
assert torch.equal(copy(x), model(x))
