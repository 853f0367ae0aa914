"""The training steps as PyTorch programs; `torch` is whichever library runs them. Imports nothing
else, so Lampion and PyTorch run the same text.

A builder makes the model and gives back its weights by name (every contestant starts from the same
values) and the step; `results` says what the step leaves, where that is not the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from workloads import Size


class Training(NamedTuple):
    weights: dict[str, Any]
    step: Callable[..., Any]
    results: Callable[[], dict[str, Any]] | None = None


def scalar(torch: Any, size: Size) -> Training:
    """tanh(ln(1 + z * 2x / sin y)) and its three derivatives."""
    x, y, z = (torch.tensor(value, requires_grad=True) for value in (1.0, 0.5, 2.0))

    def step() -> Any:
        x.grad = y.grad = z.grad = None
        f = torch.tanh(torch.log(1 + z * 2 * x / torch.sin(y)))
        f.backward()
        return f

    leaves = {"x": x, "y": y, "z": z}
    return Training(leaves, step, lambda: {name: leaf.grad for name, leaf in leaves.items()})


def two_layer(torch: Any, size: Size) -> Training:
    """Two matrices, the squared error, and the update written out."""
    w1 = torch.randn(size.inputs, size.hidden, requires_grad=True)
    w2 = torch.randn(size.hidden, size.outputs, requires_grad=True)

    def step(x: Any, y: Any) -> Any:
        loss = (x.mm(w1).clamp(min=0).mm(w2) - y).pow(2).sum()
        loss.backward()
        with torch.no_grad():
            for w in (w1, w2):
                w -= 1e-6 * w.grad
                w.grad.zero_()
        return loss

    return Training({"w1": w1, "w2": w2}, step)


def fitted(model: Any, optimizer: Any, loss_of: Callable[..., Any]) -> Training:
    """The usual step: loss, gradients, update."""

    def step(x: Any, y: Any) -> Any:
        loss = loss_of(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    state = model.state_dict(keep_vars=True)
    return Training({name: t for name, t in state.items() if t.is_floating_point()}, step)


def two_layer_nn(torch: Any, size: Size) -> Training:
    """The same network of layers, with Adam."""
    nn = torch.nn
    model = nn.Sequential(
        nn.Linear(size.inputs, size.hidden), nn.ReLU(), nn.Linear(size.hidden, size.outputs)
    )
    return fitted(model, torch.optim.Adam(model.parameters(), lr=1e-4), nn.functional.mse_loss)


def mlp(torch: Any, size: Size) -> Training:
    """Layers with ReLU between them and class labels."""
    nn = torch.nn
    layers, inputs = [], size.inputs
    for _ in range(size.depth):
        layers += [nn.Linear(inputs, size.width), nn.ReLU()]
        inputs = size.width
    model = nn.Sequential(*layers, nn.Linear(inputs, size.outputs))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return fitted(model, optimizer, nn.functional.cross_entropy)


def resnet18(torch: Any, size: Size) -> Training:
    """The residual network of 18 layers (He et al. 2015), with its batch normalization."""
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Sequential()
            if stride != 1 or inputs != outputs:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x: Any) -> Any:
            y = self.relu(self.norm1(self.conv1(x)))
            return self.relu(self.norm2(self.conv2(y)) + self.shortcut(x))

    width = size.width
    stem = [
        nn.Conv2d(3, width, 7, 2, padding=3, bias=False), nn.BatchNorm2d(width),
        nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, padding=1),
    ]  # fmt: skip
    blocks, inputs = [], width
    for stage in range(4):
        outputs = width << stage
        blocks += [Block(inputs, outputs, 1 if stage == 0 else 2), Block(outputs, outputs, 1)]
        inputs = outputs
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, size.classes)]
    model = nn.Sequential(*stem, *blocks, *head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return fitted(model, optimizer, nn.functional.cross_entropy)


def gpt(torch: Any, size: Size) -> Training:
    """A decoder-only transformer."""
    nn, F, width = torch.nn, torch.nn.functional, size.width

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(width, 3 * width)
            self.out = nn.Linear(width, width)

        def forward(self, x: Any) -> Any:
            B, T, C = x.shape
            heads = (B, T, size.heads, C // size.heads)
            q, k, v = (t.view(heads).transpose(1, 2) for t in self.qkv(x).split(C, dim=2))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, H, T, D)
            return self.out(y.transpose(1, 2).reshape(B, T, C))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attention = Attention()
            self.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            )

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(size.vocabulary, width)
            self.positions = nn.Embedding(size.length, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(size.blocks)))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, size.vocabulary, bias=False)

        def forward(self, x: Any) -> Any:
            x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
            return self.head(self.norm(self.blocks(x)))  # (B, T, vocabulary)

    model = GPT()
    return fitted(model, torch.optim.AdamW(model.parameters(), lr=3e-4), next_token_loss(torch))


def next_token_loss(torch: Any) -> Callable[..., Any]:
    """Cross-entropy of every position's scores."""
    return lambda scores, y: torch.nn.functional.cross_entropy(scores.flatten(0, 1), y.flatten())


def lstm(torch: Any, size: Size) -> Training:
    """A recurrent language model."""
    nn, width = torch.nn, size.width

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(size.vocabulary, width)
            self.lstm = nn.LSTM(width, width, size.layers, batch_first=True)
            self.head = nn.Linear(width, size.vocabulary)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(self.tokens(x))[0])  # (B, T, vocabulary)

    model = Recurrent()
    return fitted(model, torch.optim.AdamW(model.parameters(), lr=3e-4), next_token_loss(torch))


CALLS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "copy": lambda torch: lambda a: a.clone(),
    "add": lambda torch: lambda a, b: a + b,
    "exp": lambda torch: lambda a: torch.exp(a),
    "chain": lambda torch: lambda a, b: torch.nn.functional.gelu(a * b + 0.5),
    "sum": lambda torch: lambda a: a.sum(),
    "sum_rows": lambda torch: lambda a: a.sum(1),
    "sum_columns": lambda torch: lambda a: a.sum(0),
    "softmax": lambda torch: lambda a: torch.softmax(a, 1),
    "layer_norm": lambda torch: lambda a: torch.nn.functional.layer_norm(a, a.shape[1:]),
}


def build(torch: Any, name: str, size: Size) -> Training:
    """The named workload of workloads.py."""
    if name in CALLS:
        return Training({}, CALLS[name](torch))
    return BUILDERS[name](torch, size)


BUILDERS = {f.__name__: f for f in (scalar, two_layer, two_layer_nn, mlp, resnet18, gpt, lstm)}
