"""Sequences and dictionaries of modules and parameters."""

from collections import OrderedDict

import pytest

import lampion as torch
from lampion import nn


def kinds(modules):
    return [type(m).__name__ for m in modules]


def test_sequential_runs_in_order_and_behaves_like_a_list():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    assert net(torch.ones(2, 4)).shape == (2, 3)
    net.append(nn.Tanh()).insert(1, nn.GELU())
    assert kinds(net) == ["Linear", "GELU", "ReLU", "Tanh"] and list(net._modules) == list("0123")
    assert kinds(net[1:3]) == ["GELU", "ReLU"] and list(net[1:3]._modules) == ["1", "2"]
    net[1] = nn.SELU()
    del net[2:]
    assert kinds(net) == ["Linear", "SELU"] and isinstance(net.pop(-1), nn.SELU) and len(net) == 1
    net.extend([nn.ELU()])
    assert kinds(net + nn.Sequential(nn.Tanh())) == ["Linear", "ELU", "Tanh"]
    assert kinds(2 * net) == kinds(net * 2) == ["Linear", "ELU"] * 2
    net *= 2
    net += nn.Sequential(nn.Tanh())
    assert kinds(net) == ["Linear", "ELU"] * 2 + ["Tanh"]


def test_sequential_with_names():
    net = nn.Sequential(OrderedDict(a=nn.ReLU(), b=nn.Tanh(), c=nn.Sigmoid()))
    assert net.b is net[1] and list(net[1:]._modules) == ["b", "c"]
    del net[1]
    assert list(net._modules) == ["0", "1"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s[7], IndexError, "index 7 is out of range"),
        (lambda s: s[-7], IndexError, "index -7 is out of range"),
        (lambda s: s + 3, ValueError, "supports only objects of Sequential"),
        (lambda s: s * 0, ValueError, "Non-positive multiplication factor 0"),
        (lambda s: s * 1.5, TypeError, "unsupported operand"),
        (lambda s: s.insert(9, nn.ReLU()), IndexError, "Index out of range: 9"),
        (lambda s: s.insert(0, 3), AssertionError, "module should be of type"),
        (
            lambda s: nn.ModuleList(3),
            TypeError,
            "ModuleList.extend should be called with an iterable, but got int",
        ),
        (lambda s: nn.ModuleDict(3), TypeError, "iterable of key/value pairs, but got int"),
        (lambda s: nn.ModuleDict([1]), TypeError, "sequence element #0 should be Iterable"),
        (
            lambda s: nn.ModuleDict([(1, 2, 3)]),
            ValueError,
            "element #0 has length 3; 2 is required",
        ),
        (
            lambda s: nn.ModuleDict({"items": nn.ReLU()}),
            KeyError,
            "attribute 'items' already exists",
        ),
        (lambda s: nn.ParameterDict({1: 2}), TypeError, "as it is not a string"),
        (
            lambda s: nn.ParameterList(3),
            TypeError,
            "should be called with an iterable, but got int",
        ),
        (lambda s: nn.ParameterList()(1), RuntimeError, "ParameterList should not be called"),
        (lambda s: nn.ModuleList()(1), NotImplementedError, "ModuleList"),
        (lambda s: nn.ParameterDict()["b"], AttributeError, "no attribute 'b'"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.Sequential(nn.ReLU(), nn.Tanh()))


def test_module_list():
    layers = nn.ModuleList([nn.ReLU()])
    layers.insert(0, nn.Tanh())
    layers += [nn.ELU()]
    assert kinds(layers) == ["Tanh", "ReLU", "ELU"] and kinds(layers[::2]) == ["Tanh", "ELU"]
    assert kinds(layers + layers[:1]) == ["Tanh", "ReLU", "ELU", "Tanh"]
    del layers[0]
    assert kinds(layers) == ["ReLU", "ELU"] and layers[-1] is layers[1]


def test_module_dict():
    heads = nn.ModuleDict({"a": nn.ReLU()})
    heads["b"] = nn.Tanh()
    heads.update([("c", nn.ELU())])
    assert list(heads) == list(heads.keys()) == ["a", "b", "c"] and "b" in heads and len(heads) == 3
    assert kinds(heads.values()) == ["ReLU", "Tanh", "ELU"]
    assert isinstance(heads.pop("b"), nn.Tanh) and dict(heads.items()).keys() == {"a", "c"}
    del heads["a"]
    heads.clear()
    assert len(heads) == 0


def test_parameter_list():
    weights = nn.ParameterList([torch.ones(1), torch.zeros(1), "text"])
    weights.append(torch.ones(2))
    weights[1] = torch.ones(5)
    assert [n for n, _ in weights.named_parameters()] == ["0", "1", "3"]
    assert weights[-1].shape == (2,) and weights[2] == "text" and len(weights[1:]) == 3
    assert all(isinstance(w, nn.Parameter) for w in (weights[0], weights[1], weights[3]))


def test_parameter_dict():
    weights = nn.ParameterDict({"b": torch.ones(1), "a": torch.zeros(2)})
    assert list(weights) == ["a", "b"]  # a plain dict is sorted, as in PyTorch
    weights["c"] = torch.ones(3)
    assert [n for n, _ in weights.named_parameters()] == ["a", "b", "c"]
    assert weights.get("z", 5) == 5 and weights.setdefault("d", torch.ones(1)).shape == (1,)
    joined = weights | nn.ParameterDict({"z": torch.ones(1)})
    assert list(joined.keys()) == ["a", "b", "c", "d", "z"] and joined["a"] is weights["a"]
    assert weights.popitem()[0] == "d" and weights.pop("a").shape == (2,)
    assert list(reversed(weights)) == ["c", "b"] and list(weights.copy()) == ["b", "c"]
    assert list(weights.fromkeys(["x", "y"], 1).items()) == [("x", 1), ("y", 1)]
    weights.clear()
    assert len(weights) == 0 and list(weights.parameters()) == []
