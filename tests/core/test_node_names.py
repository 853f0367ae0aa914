"""What nodes of the graph are called, where that depends on shapes: PyTorch 2.13's names."""

import pytest

import lampion as torch

nn, F = torch.nn, torch.nn.functional

PROGRAMS = {
    "linear of rows": (lambda: nn.Linear(4, 3)(torch.rand(2, 4)), "AddmmBackward0"),
    "linear of more": (lambda: nn.Linear(4, 3)(torch.rand(5, 2, 4)), "ViewBackward0"),
    "linear of a vector": (lambda: nn.Linear(4, 3)(torch.rand(4)), "ViewBackward0"),
    "no bias": (lambda: nn.Linear(4, 3, bias=False)(torch.rand(2, 4)), "MmBackward0"),
    "no bias of more": (lambda: nn.Linear(4, 3, bias=False)(rand(5, 2, 4)), "UnsafeViewBackward0"),
    "addmm": (lambda: torch.addmm(rand(2), rand(2, 3), rand(3, 2), beta=0.5), "AddmmBackward0"),
    "2 / x": (lambda: 2 / rand(2), "MulBackward0"),
    "2 ** x": (lambda: 2 ** rand(2), "PowBackward2"),
    "x ** x": (lambda: rand(2) ** rand(2), "PowBackward1"),
    "max_pool1d": (lambda: F.max_pool1d(rand(1, 2, 4), 2), "SqueezeBackward1"),
    "avg_pool1d": (lambda: F.avg_pool1d(rand(1, 2, 4), 2), "SqueezeBackward1"),
    "max_pool2d": (lambda: F.max_pool2d(rand(1, 4, 4), 2), "MaxPool2DWithIndicesBackward0"),
    "avg_pool2d": (lambda: F.avg_pool2d(rand(1, 4, 4), 2), "AvgPool2DBackward0"),
    "mean of images": (lambda: F.adaptive_avg_pool2d(rand(1, 4, 4), 1), "MeanBackward1"),
    "adaptive": (lambda: F.adaptive_avg_pool2d(rand(1, 4, 4), 2), "AdaptiveAvgPool2DBackward0"),
    "adaptive 1d": (lambda: F.adaptive_avg_pool1d(rand(1, 4), 2), "SqueezeBackward1"),
    "LSTM": (lambda: nn.LSTM(4, 3)(rand(5, 2, 4))[0], "MkldnnRnnLayerBackward0"),
    "LSTM's h": (lambda: nn.LSTM(4, 3)(rand(5, 2, 4))[1][0], "StackBackward0"),
    "both ways": (lambda: nn.LSTM(4, 3, bidirectional=True)(rand(5, 2, 4))[0], "CatBackward0"),
    "GRU": (lambda: nn.GRU(4, 3)(rand(5, 2, 4))[0], "StackBackward0"),
    "LSTMCell's h": (lambda: nn.LSTMCell(4, 3)(rand(2, 4))[0], "MulBackward0"),
    "LSTMCell's c": (lambda: nn.LSTMCell(4, 3)(rand(2, 4))[1], "AddBackward0"),
    "GRUCell": (lambda: nn.GRUCell(4, 3)(rand(2, 4)), "AddBackward0"),
}


def rand(*shape):
    return torch.rand(*shape, requires_grad=True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_names(program):
    run, name = PROGRAMS[program]
    y = run()
    assert y.grad_fn.name() == name
    assert repr(y).endswith(f"grad_fn=<{name}>)")
