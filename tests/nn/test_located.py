"""Errors name the module they happened in, and keep their class."""

import pytest

import lampion as torch
from lampion import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(100, 10)

    def forward(self, x):
        return self.fc1(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x):
        return self.blocks[1](x)


def test_the_path_starts_with_the_variable():
    net = Net()
    with pytest.raises(RuntimeError) as caught:
        net(torch.ones(32, 288))
    assert str(caught.value).startswith(
        "[linear] net.blocks.1.fc1 expects 100 input features, got 288"
    )


def test_without_a_variable_it_starts_with_the_class():
    with pytest.raises(RuntimeError, match=r"^\[linear\] Net\.blocks\.1\.fc1 expects"):
        Net()(torch.ones(32, 288))


def test_a_module_that_is_called_directly():
    fc = nn.Linear(3, 2)
    with pytest.raises(RuntimeError, match=r"^\[linear\] fc expects 3 input features, got 4"):
        fc(torch.ones(2, 4))


def test_other_errors_get_a_note():
    class Index(nn.Module):
        def forward(self, x):
            return {}[x]

    model = nn.Sequential(Index())
    with pytest.raises(KeyError) as caught:
        model("key")
    assert caught.value.args == ("key",)
    assert caught.value.__notes__ == ["raised in the module model.0"]


def test_an_error_that_is_handled_inside_a_model_is_not_seen():
    class Careful(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)

        def forward(self, x):
            try:
                return self.inner(x)
            except RuntimeError:
                return x

    x = torch.ones(1, 5)
    assert Careful()(x) is x


def test_hooks_do_not_hide_the_path():
    net = Net()
    net.register_forward_hook(lambda *args: None)
    with pytest.raises(RuntimeError, match=r"\[linear\] net\.blocks\.1\.fc1 expects"):
        net(torch.ones(32, 288))
