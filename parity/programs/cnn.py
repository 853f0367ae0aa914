"""Convolutions with batch-norm and pooling on noisy patterns: 50 steps of Adam from one seed."""

import torch


class Net(torch.nn.Module):
    """Two blocks of convolution, batch-norm and pooling, then a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.norm1 = torch.nn.BatchNorm2d(8)
        self.conv2 = torch.nn.Conv2d(8, 16, 3, padding=1)
        self.norm2 = torch.nn.BatchNorm2d(16)
        self.pool = torch.nn.MaxPool2d(2)
        self.out = torch.nn.Linear(16 * 4 * 4, 4)

    def forward(self, x):
        """Class scores (N, 4) of images (N, 1, 16, 16)."""
        x = self.pool(torch.relu(self.norm1(self.conv1(x))))  # (N, 8, 8, 8)
        x = self.pool(torch.relu(self.norm2(self.conv2(x))))  # (N, 16, 4, 4)
        return self.out(torch.flatten(x, 1))


def train(steps=50):
    """The loss of every step."""
    torch.manual_seed(2)
    patterns = torch.randn(4, 1, 16, 16)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(steps):
        target = torch.randint(0, 4, (16,))
        images = patterns[target] + 1.5 * torch.randn(16, 1, 16, 16)
        loss = torch.nn.functional.cross_entropy(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses
