"""A perceptron with dropout on shuffled batches: 50 steps of SGD with momentum from one seed."""

import torch


def train(steps=50):
    """The loss of every step."""
    torch.manual_seed(1)
    inputs = torch.randn(512, 20)
    labels = (inputs[:, :10].sum(1) > inputs[:, 10:].sum(1)).long()
    data = torch.utils.data.TensorDataset(inputs, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=32, shuffle=True)
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 64),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(64, 32),
        torch.nn.Tanh(),
        torch.nn.Dropout(0.2),
        torch.nn.Linear(32, 2),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    loss_function = torch.nn.CrossEntropyLoss()
    losses = []
    while len(losses) < steps:
        for batch, target in loader:
            optimizer.zero_grad()
            loss = loss_function(model(batch), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses[:steps]
