"""Hooks of modules: their order, what they see and what they may change. Values are PyTorch
2.13's.
"""

import pytest

import lampion as torch
from lampion import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2, bias=False)
        self.fc.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])

    def forward(self, x, scale=1.0):
        return self.fc(x) * scale


def test_order_of_all_kinds():
    net, log = Net(), []

    def note(name):
        return lambda *args, **kwargs: log.append(name)

    handles = [
        net.register_forward_pre_hook(note("pre 1")),
        net.register_forward_pre_hook(note("pre 2"), prepend=True),
        net.register_forward_hook(note("after 1")),
        net.register_forward_hook(note("after 2"), prepend=True),
        net.register_full_backward_hook(note("back 1")),
        net.register_full_backward_hook(note("back 2"), prepend=True),
        net.register_full_backward_pre_hook(note("back pre")),
        net.fc.register_full_backward_hook(note("fc back")),
        nn.modules.module.register_module_forward_pre_hook(note("every pre")),
        nn.modules.module.register_module_forward_hook(note("every after")),
    ]
    x = torch.ones(1, 2, requires_grad=True)
    out = net(x)
    assert log == [
        "every pre",
        "pre 2",
        "pre 1",
        "every pre",
        "every after",
        "every after",
        "after 2",
        "after 1",
    ]
    log.clear()
    out.sum().backward()
    assert log == ["back pre", "fc back", "back 2", "back 1"]
    log.clear()
    for handle in handles:
        handle.remove()
    net(x).sum().backward()
    assert log == []


def test_hooks_may_replace_what_passes():
    net = Net()
    net.register_forward_pre_hook(lambda m, args: args[0] * 2)
    net.register_forward_pre_hook(lambda m, args, kwargs: (args, {"scale": 3.0}), with_kwargs=True)
    net.register_forward_hook(lambda m, args, kwargs, out: out + kwargs["scale"], with_kwargs=True)
    net.register_full_backward_pre_hook(lambda m, grad_output: (grad_output[0] * 5,))
    net.register_full_backward_hook(lambda m, grad_input, grad_output: (grad_input[0] * 10,))
    x = torch.ones(1, 2, requires_grad=True)
    out = net(x)
    assert out.tolist() == [[3 * 2 * 3 + 3.0, 7 * 2 * 3 + 3.0]]
    out.sum().backward()
    assert x.grad.tolist() == [[4 * 3 * 5 * 10 * 2.0, 6 * 3 * 5 * 10 * 2.0]]
    assert net.fc.weight.grad.tolist() == [[30.0, 30.0], [30.0, 30.0]]


def test_pre_hook_with_kwargs_must_return_a_pair():
    net = Net()
    net.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(
        RuntimeError, match=r"None or a tuple of \(new_args, new_kwargs\), but got 3"
    ):
        net(torch.ones(1, 2))


def test_backward_hooks_see_one_gradient_for_each_tensor():
    class Two(nn.Module):
        def forward(self, a, n, b):
            return a * 2, a * n

    net, seen = Two(), []
    net.register_full_backward_pre_hook(lambda m, go: seen.append(go))
    net.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
    first, _ = net(a, 3, b)
    assert first.grad_fn.name() == "BackwardHookFunctionBackward"
    first.sum().backward()
    (go, none), (gi, _) = seen
    assert go.tolist() == [1, 1] and none is None
    assert gi[0].tolist() == [2, 2] and gi[1] is None and gi[2].tolist() == [0, 0]
    assert a.grad.tolist() == [2, 2]


def test_backward_hook_without_inputs_that_need_gradients():
    net, seen = nn.Linear(2, 1), []
    net.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].tolist())))
    out = net(torch.ones(1, 2))
    with pytest.warns(UserWarning, match="no inputs require gradients"):
        out.sum().backward()
    assert seen == [((None,), [[1.0]])]


def test_backward_hooks_allow_second_derivatives():
    class Cube(nn.Module):
        def forward(self, x):
            return x * x * x

    net = Cube()
    net.register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,))
    x = torch.tensor([2.0], requires_grad=True)
    (g,) = torch.autograd.grad(net(x), x, create_graph=True)
    (gg,) = torch.autograd.grad(g, x)
    assert g.item() == 24.0 and gg.item() == 24.0  # the second pass meets the hook's factor once


def test_wrong_number_of_gradients():
    net = Net()
    net.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    out = net(torch.ones(1, 2, requires_grad=True))
    with pytest.raises(RuntimeError, match="invalid number of grad_input, got 2, but expected 1"):
        out.sum().backward()


def test_hooks_that_are_always_called():
    class Bad(nn.Module):
        def forward(self, x):
            raise ValueError("no")

    net, log = Bad(), []
    net.register_forward_hook(lambda m, args, out: log.append(out), always_call=True)
    net.register_forward_hook(lambda m, args, out: log.append("never"))
    with pytest.raises(ValueError, match="no"):
        net(1)
    assert log == [None]


def test_old_backward_hooks_do_not_mix_with_full_ones():
    net, seen = nn.ReLU(), []
    net.register_backward_hook(lambda m, gi, go: seen.append((gi[0].tolist(), go[0].tolist())))
    net(torch.tensor([1.0, -1.0], requires_grad=True)).sum().backward()
    assert seen == [([1.0, 0.0], [1.0, 1.0])]
    with pytest.raises(
        RuntimeError, match="regular backward hooks and full backward hooks on a single Module"
    ):
        net.register_full_backward_hook(print)


def test_output_that_is_neither_tensor_nor_tuple():
    class Dictionary(nn.Module):
        def forward(self, x):
            return {"x": x}

    net = Dictionary()
    net.register_full_backward_hook(lambda m, gi, go: None)
    with pytest.warns(UserWarning, match="should be a Tensor or a tuple of Tensors"):
        net(torch.ones(1, requires_grad=True))


def test_registration_hooks_see_and_replace():
    replaced = nn.Parameter(torch.full((1,), 7.0))
    register = nn.modules.module.register_module_parameter_registration_hook
    with register(lambda m, name, p: replaced if name == "w" else None):
        net = nn.Module()
        net.w = nn.Parameter(torch.zeros(1))
        assert net.w is replaced


def test_a_handle_is_a_context_manager():
    net, log = nn.ReLU(), []
    with net.register_forward_hook(lambda *args: log.append(1)):
        net(torch.ones(1))
    net(torch.ones(1))
    assert log == [1]
