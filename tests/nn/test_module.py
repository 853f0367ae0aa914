"""What a Module is: attributes, names, walking, conversion, copies, calls."""

import copy
import pickle

import pytest

import lampion as torch
from lampion import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 3)
        self.fc2 = nn.Linear(3, 2)
        self.register_buffer("steps", torch.zeros(1))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.fc2(self.fc1(x).relu()) * self.scale


def shared():
    layer = nn.Linear(2, 2)
    return nn.Sequential(layer, nn.ReLU(), layer)


def test_names_come_in_the_order_of_registration():
    net = Net()
    names = ["scale", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    assert [n for n, _ in net.named_parameters()] == names
    assert [n for n, _ in net.named_parameters(prefix="net", recurse=False)] == ["net.scale"]
    assert [n for n, _ in net.named_buffers()] == ["steps"]
    assert [n for n, _ in net.named_children()] == ["fc1", "fc2"]
    assert [n for n, _ in net.named_modules(prefix="p")] == ["p", "p.fc1", "p.fc2"]


def test_shared_modules_are_met_once():
    net = shared()
    assert [n for n, _ in net.named_modules()] == ["", "0", "1"]
    assert [n for n, _ in net.named_modules(remove_duplicate=False)] == ["", "0", "1", "2"]
    assert len(list(net.parameters())) == 2
    twice = [n for n, _ in net.named_parameters(remove_duplicate=False)]
    assert twice == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert list(net.state_dict()) == twice


def test_an_attribute_is_one_thing_at_a_time():
    net = Net()
    net.plain = 3
    net.plain = nn.Parameter(torch.ones(1))
    assert "plain" in net._parameters and "plain" not in net.__dict__
    del net.plain
    assert not hasattr(net, "plain")
    net.plain = nn.ReLU()
    net.plain = nn.Parameter(torch.ones(1))
    assert "plain" in net._parameters and "plain" not in net._modules
    net.steps = torch.ones(2)
    assert dict(net.named_buffers())["steps"].shape == (2,)
    net.steps = None
    assert list(net.buffers()) == []
    net.scale = None
    assert net.scale is None and "scale" in net._parameters


def test_buffer_class_registers_itself():
    net = nn.Module()
    net.mean = nn.Buffer(torch.zeros(2))
    net.cache = nn.Buffer(torch.zeros(2), persistent=False)
    assert [n for n, _ in net.named_buffers()] == ["mean", "cache"]
    assert list(net.state_dict()) == ["mean"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda n: setattr(n, "scale", torch.zeros(2)),
            TypeError,
            "cannot assign 'torch.FloatTensor' as parameter 'scale' (torch.nn.Parameter or None "
            "expected)",
        ),
        (lambda n: setattr(n, "scale", nn.ReLU()), TypeError, "as parameter 'scale'"),
        (
            lambda n: setattr(n, "fc1", 3),
            TypeError,
            "cannot assign 'int' as child module 'fc1' (torch.nn.Module or None expected)",
        ),
        (
            lambda n: setattr(n, "steps", 3),
            TypeError,
            "cannot assign 'int' as buffer 'steps' (torch.nn.Buffer, torch.Tensor or None "
            "expected)",
        ),
        (lambda n: n.register_buffer("x.y", None), KeyError, 'buffer name can\'t contain "."'),
        (lambda n: n.register_buffer("", None), KeyError, 'buffer name can\'t be empty string ""'),
        (lambda n: n.register_buffer("fc1", None), KeyError, "attribute 'fc1' already exists"),
        (
            lambda n: n.register_buffer(3, None),
            TypeError,
            "buffer name should be a string. Got int",
        ),
        (
            lambda n: n.register_buffer("q", 3),
            TypeError,
            "cannot assign 'int' object to buffer 'q' (torch Tensor or None required)",
        ),
        (
            lambda n: n.register_parameter("q", torch.zeros(1)),
            TypeError,
            "cannot assign 'torch.FloatTensor' object to parameter 'q' (torch.nn.Parameter or None "
            "required)",
        ),
        (
            lambda n: n.register_parameter("forward", None),
            KeyError,
            "attribute 'forward' already exists",
        ),
        (lambda n: n.add_module("x.y", None), KeyError, 'module name can\'t contain ".", got: x.y'),
        (lambda n: n.add_module("q", 3), TypeError, "int is not a Module subclass"),
        (lambda n: n.get_submodule("a.b"), AttributeError, "Net has no attribute `a`"),
        (lambda n: n.get_submodule("scale"), AttributeError, "`scale` is not an nn.Module"),
        (
            lambda n: n.get_parameter("fc1.in_features"),
            AttributeError,
            "`in_features` is not an nn.Parameter",
        ),
        (lambda n: n.get_buffer("scale"), AttributeError, "`scale` is not a buffer"),
        (lambda n: n.set_submodule("", nn.ReLU()), ValueError, "without a target name"),
        (
            lambda n: n.set_submodule("fc1", 3),
            ValueError,
            "`module` is not an nn.Module, found <class 'int'>",
        ),
        (
            lambda n: n.set_submodule("q", nn.ReLU(), strict=True),
            AttributeError,
            "Net has no attribute `q`",
        ),
        (lambda n: n.train(3), ValueError, "training mode is expected to be boolean"),
        (
            lambda n: n.to(torch.int32),
            TypeError,
            "nn.Module.to only accepts floating point or "
            "complex dtypes, but got desired "
            "dtype=torch.int32",
        ),
        (lambda n: n.to(3.5), TypeError, "[to] expects a device, a dtype or a tensor, got float"),
        (lambda n: n.foo, AttributeError, "'Net' object has no attribute 'foo'"),
        (
            lambda n: nn.Module(3),
            TypeError,
            "Module.__init__() takes 1 positional argument but 2 were given",
        ),
        (
            lambda n: nn.ReLU(foo=4),
            TypeError,
            "ReLU.__init__() got an unexpected keyword argument 'foo'",
        ),
        (
            lambda n: nn.ReLU(4, 5),
            TypeError,
            "ReLU.__init__() takes from 1 to 2 positional arguments but 3 were given",
        ),
        (
            lambda n: nn.Threshold(),
            TypeError,
            "missing 2 required positional arguments: 'threshold' and 'value'",
        ),
        (
            lambda n: nn.Module()(1),
            NotImplementedError,
            'Module [Module] is missing the required "forward"',
        ),
    ],
)
def test_errors_are_pytorchs(call, error, message):
    with pytest.raises(error) as caught:
        call(Net())
    assert message in str(caught.value.args[0])


@pytest.mark.parametrize(
    ("value", "what"), [(nn.ReLU(), "module"), (nn.Parameter(torch.ones(1)), "parameters")]
)
def test_assignment_before_init(value, what):
    class Early(nn.Module):
        def __init__(self):
            self.x = value

    with pytest.raises(AttributeError, match=f"cannot assign {what} before Module.__init__"):
        Early()


def test_submodules_by_dotted_name():
    net = nn.Sequential(nn.Sequential(nn.Linear(1, 1)))
    assert net.get_submodule("") is net
    assert net.get_parameter("0.0.weight") is net[0][0].weight
    net.set_submodule("0.0", nn.ReLU())
    assert isinstance(net[0][0], nn.ReLU)
    net.set_submodule("new", nn.Tanh())
    assert isinstance(net.new, nn.Tanh)


def test_modes_and_gradients():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), shared())
    assert not any(m.training for m in net.eval().modules())
    assert all(m.training for m in net.train().modules())
    assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())
    net.requires_grad_()(torch.ones(1, 2)).sum().backward()
    net.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_apply_visits_children_first():
    seen = []
    nn.Sequential(nn.Linear(1, 1), nn.ReLU()).apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Sequential"]


def test_conversions_keep_the_parameters_and_spare_integers():
    net = Net()
    net.register_buffer("count", torch.zeros((), dtype=torch.int64))
    weight = net.fc1.weight
    net(torch.ones(1, 4)).sum().backward()
    for call, dtype in [
        (net.double, torch.float64), (net.half, torch.float16), (net.bfloat16, torch.bfloat16),
        (net.float, torch.float32), (lambda: net.to(torch.float64), torch.float64),
        (lambda: net.to("cpu", torch.float32), torch.float32),
        (lambda: net.to(torch.ones(1, dtype=torch.float64)), torch.float64),
    ]:  # fmt: skip
        assert call() is net
        assert net.fc1.weight is weight and weight.dtype == weight.grad.dtype == dtype
        assert net.steps.dtype == dtype and net.count.dtype == torch.int64
    assert net.type(torch.float32).count.dtype == torch.float32
    assert net.cpu() is net and net.to_empty(device="cpu").fc1.weight.shape == (3, 4)


def test_copies_and_pickles_keep_sharing_apart():
    net = shared()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other[0] is other[2] and other[0] is not net[0]
        assert isinstance(other[0].weight, nn.Parameter) and other[0].weight.requires_grad
        x = torch.randn(3, 2)
        assert (other(x) == net(x)).all()
        with torch.no_grad():
            other[0].weight.zero_()
        assert not (other(x) == net(x)).all()


def test_dir_lists_what_is_registered():
    names = dir(Net())
    assert {"fc1", "steps", "scale", "forward"} <= set(names)
    assert "0" not in dir(nn.Sequential(nn.ReLU()))


def test_a_layer_takes_settings_by_position_and_name():
    assert nn.LeakyReLU(0.3, True).inplace and nn.LeakyReLU(inplace=True).negative_slope == 0.01
    assert nn.Hardtanh(min_value=-3).min_val == -3
    weighted = nn.CrossEntropyLoss(torch.ones(3))
    assert (
        list(weighted.state_dict()) == ["weight"]
        and weighted.double().weight.dtype == torch.float64
    )
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    with pytest.raises(TypeError, match="takes 1 positional argument but 2"):
        nn.GaussianNLLLoss(True)


def test_a_subclass_of_a_layer_may_annotate_its_own_attributes():
    class Loud(nn.ReLU):
        volume: float = 2.0

        def forward(self, input):
            return super().forward(input) * self.volume

    assert Loud()(torch.ones(1)).item() == 2.0


def test_lazy_modules_become_what_they_stand_for():
    layer = nn.LazyConv2d(4, 3, bias=False)
    assert layer.has_uninitialized_params()
    assert layer(torch.ones(1, 2, 5, 5)).shape == (1, 4, 3, 3)
    assert type(layer) is nn.Conv2d and layer.in_channels == 2
    norm = nn.LazyBatchNorm1d()
    norm(torch.randn(4, 3))
    assert norm.running_mean.shape == (3,) and type(norm) is nn.BatchNorm1d
    with pytest.raises(RuntimeError, match="shape of an uninitialized parameter"):
        nn.LazyLinear(3).weight.shape


def test_a_lazy_module_loads_before_its_first_call():
    ready = nn.LazyLinear(2)
    ready(torch.ones(1, 3))
    lazy = nn.LazyLinear(2)
    lazy.load_state_dict(ready.state_dict())
    x = torch.randn(4, 3)
    assert (lazy(x) == ready(x)).all()
