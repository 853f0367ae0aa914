"""The engine: graphs, accumulation, hooks, modes, memory, errors."""

import gc
import subprocess
import sys
import threading
import warnings
import weakref

import numpy as np
import pytest

import lampion as torch


def leaf(*values):
    return torch.tensor(list(values), dtype=torch.float64, requires_grad=True)


def test_a_value_used_twice_gets_both_gradients():
    x = leaf(3.0)
    y = x * x
    (y + y * x).sum().backward()
    assert x.grad.item() == 2 * 3 + 3 * 9


def test_gradients_add_up_over_calls():
    x = leaf(2.0)
    for _ in range(3):
        (x * x).sum().backward()
    assert x.grad.item() == 12.0


def test_gradients_of_two_leaves_share_no_memory():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (a + b).sum().backward()
    a.grad.add_(10)
    assert b.grad.tolist() == [1.0, 1.0]


def test_a_gradient_is_not_the_cotangent_itself():
    a = leaf(1.0, 2.0)
    g = torch.ones(2, dtype=torch.float64)
    (a + 0).backward(g)
    a.grad.mul_(5)
    assert g.tolist() == [1.0, 1.0]


def test_broadcast_operands_get_sums():
    a = torch.ones(3, 1, dtype=torch.float64, requires_grad=True)
    b = torch.ones(4, dtype=torch.float64, requires_grad=True)
    c = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    (a * b * c).sum().backward()
    assert a.grad.tolist() == [[8.0]] * 3
    assert b.grad.tolist() == [6.0] * 4
    assert c.grad.item() == 12.0


def test_mixed_types_get_gradients_of_their_type():
    a = torch.ones(2, dtype=torch.float32, requires_grad=True)
    b = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.dtype is torch.float32
    assert b.grad.dtype is torch.float64


def test_second_and_third_derivatives():
    x = leaf(2.0)
    y = x**4
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x, create_graph=True)
    (third,) = torch.autograd.grad(second.sum(), x)
    assert [first.item(), second.item(), third.item()] == [32.0, 48.0, 48.0]


def test_a_freed_graph_says_so():
    x = leaf(1.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()


def test_retain_graph():
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12.0


def test_inputs_restrict_what_accumulates():
    x, w = leaf(2.0), leaf(3.0)
    (x * w).sum().backward(inputs=[w])
    assert x.grad is None
    assert w.grad.item() == 2.0


def test_grad_with_respect_to_an_inner_tensor():
    x = leaf(2.0)
    h = x * x
    (g,) = torch.autograd.grad((h * h).sum(), h)
    assert g.item() == 8.0
    assert x.grad is None


def test_unused_inputs():
    x, w = leaf(1.0), leaf(1.0)
    with pytest.raises(RuntimeError, match="appears to not have been used in the graph"):
        torch.autograd.grad(x.sum(), [x, w])
    assert torch.autograd.grad(x.sum(), [x, w], allow_unused=True)[1] is None
    assert torch.autograd.grad(x.sum(), [x, w], materialize_grads=True)[1].item() == 0.0


def test_batched_cotangents():
    x = leaf(1.0, 2.0)
    y = x**2
    (jacobian,) = torch.autograd.grad(
        y, x, torch.eye(2, dtype=torch.float64), is_grads_batched=True
    )
    assert jacobian.tolist() == [[2.0, 0.0], [0.0, 4.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: torch.ones(2, requires_grad=True).backward(),
            "grad can be implicitly created only for scalar outputs",
        ),
        (lambda: torch.ones(()).backward(), "does not require grad"),
        (lambda: torch.ones(2, requires_grad=True).backward(torch.ones(3)), "Mismatch in shape"),
        (
            lambda: torch.ones(2, dtype=torch.int64, requires_grad=True),
            "Only Tensors of floating point|only Tensors of floating point",
        ),
        (lambda: (torch.ones(2, requires_grad=True) * 2).requires_grad_(False), "leaf variables"),
        (lambda: torch.ones(2, requires_grad=True).numpy(), "Can't call numpy"),
    ],
)
def test_errors(call, message):
    with pytest.raises(RuntimeError, match=message):
        call()


def test_a_modified_saved_tensor_names_operator_and_line():
    x = leaf(1.0, 2.0)
    y = torch.exp(x)
    y.add_(1)  # the line that the message names
    with pytest.raises(
        RuntimeError, match=r"\[ExpBackward0\] saved .* `add_` changed it at .*test_autograd.py:\d+"
    ):
        y.sum().backward()


def test_modifying_what_nobody_saved_is_fine():
    x = leaf(1.0, 2.0)
    y = x + 1
    y.mul_(3)
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_tensor_hooks_change_and_see_gradients():
    x = leaf(1.0)
    seen = []
    h = x * 2
    h.register_hook(lambda g: seen.append(g.item()))
    handle = h.register_hook(lambda g: g * 10)
    (h * 3).sum().backward(retain_graph=True)
    assert seen == [3.0]
    assert x.grad.item() == 60.0
    handle.remove()
    x.grad = None
    (h * 3).sum().backward()
    assert x.grad.item() == 6.0


def test_leaf_hooks_and_post_accumulate_hooks():
    x = leaf(1.0)
    order = []
    x.register_hook(lambda g: order.append("hook"))
    x.register_post_accumulate_grad_hook(lambda t: order.append(t.grad.item()))
    (x * 2).sum().backward()
    assert order == ["hook", 2.0]


def test_node_hooks():
    x = leaf(1.0)
    y = x * 2
    seen = []
    y.grad_fn.register_prehook(lambda grads: seen.append("pre"))
    y.grad_fn.register_hook(
        lambda grad_inputs, grad_outputs: seen.append(
            (grad_inputs[0].item(), grad_outputs[0].item())
        )
    )
    (y * 3).sum().backward()
    assert seen == ["pre", (6.0, 3.0)]


def test_retain_grad():
    x = leaf(2.0)
    h = x * x
    h.retain_grad()
    (h * 3).sum().backward()
    assert h.grad.item() == 3.0
    assert h.retains_grad


def test_next_functions_lead_to_the_leaves():
    x = leaf(1.0)
    y = torch.exp(x * 2)
    ((mul, _),) = y.grad_fn.next_functions
    assert mul.name() == "MulBackward0"
    assert mul.next_functions[0][0].variable is x


def test_grad_modes():
    x = leaf(1.0)
    with torch.no_grad():
        assert not (x * 2).requires_grad
        with torch.enable_grad():
            assert (x * 2).requires_grad
    torch.set_grad_enabled(False)
    assert not (x * 2).requires_grad
    torch.set_grad_enabled(True)

    @torch.no_grad()
    def f():
        return x * 2

    @torch.no_grad
    def g():
        yield x * 2
        yield torch.is_grad_enabled()

    assert not f().requires_grad
    values = g()
    assert not next(values).requires_grad
    assert torch.is_grad_enabled()
    assert next(values) is False


def test_inference_mode():
    x = leaf(1.0)
    with torch.inference_mode():
        y = x * 2
    assert not y.requires_grad
    assert y.is_inference()
    with pytest.raises(
        RuntimeError, match="Inplace update to inference tensor outside InferenceMode"
    ):
        y.add_(1)


def test_grad_mode_belongs_to_a_thread():
    inside = []
    with torch.no_grad():
        t = threading.Thread(target=lambda: inside.append(torch.is_grad_enabled()))
        t.start()
        t.join()
    assert inside == [True]


def test_saved_tensors_hooks():
    x = leaf(3.0)
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: packed.append(t.item()) or len(packed) - 1,
        lambda i: torch.tensor([packed[i]], dtype=torch.float64),
    ):
        y = (x * x).sum()
    y.backward()
    assert packed == [3.0, 3.0]
    assert x.grad.item() == 6.0


def test_anomaly_mode_names_the_forward_line():
    x = leaf(0.0)
    with torch.autograd.detect_anomaly(), warnings.catch_warnings():
        y = torch.sqrt(x) * 0  # the derivative of sqrt at 0 is infinite, times 0 it is nan
        with pytest.raises(
            RuntimeError, match=r"(?s)'SqrtBackward0' returned nan.*test_autograd.py.*torch.sqrt"
        ):
            y.sum().backward()


def test_a_long_chain_runs_backward():
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1
    y.sum().backward()
    assert x.grad.item() == 1.0


def test_a_long_chain_is_freed_without_recursion():
    code = """
import lampion as torch
x = torch.ones(1, requires_grad=True)
y = x
for _ in range(100_000):
    y = y * 1.0
del y
print("freed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "freed\n", done.stderr[-500:]


def test_graphs_die_with_their_last_reference():
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        y = torch.tanh(torch.exp(x)).sum()
        inner = weakref.ref(y.grad_fn)
        del y
        assert inner() is None, (
            "a graph that is not run backward must not wait for the garbage collector"
        )
    finally:
        gc.enable()


def test_training_steps_leak_nothing():
    w = torch.ones(4, 4, requires_grad=True)
    x = torch.ones(2, 4)

    def step():
        loss = torch.tanh(x @ w).sum()
        loss.backward()
        with torch.no_grad():
            w.sub_(w.grad, alpha=0.01)
        w.grad = None

    for _ in range(50):
        step()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(1000):
        step()
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_detach_and_data():
    x = leaf(1.0, 2.0)
    d = x.detach()
    assert not d.requires_grad
    d[0] = 5.0
    assert x.tolist() == [5.0, 2.0]
    x.data.mul_(2)
    assert x.tolist() == [10.0, 4.0]
    assert x._version == d._version == 1


def test_gradients_of_complex_numbers_follow_pytorch():
    z = torch.tensor([1 + 2j], dtype=torch.complex128, requires_grad=True)
    (z * z.conj()).real.sum().backward()
    np.testing.assert_allclose(z.grad.numpy(), [2 + 4j])


def test_gradcheck_finds_a_wrong_derivative():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * x

        @staticmethod
        def backward(ctx, g):
            return g

    x = leaf(1.0, 2.0)
    assert torch.autograd.gradcheck(lambda x: x * x, x)
    assert torch.autograd.gradgradcheck(lambda x: x**3, x)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(Wrong.apply, x)
    assert torch.autograd.gradcheck(Wrong.apply, x, raise_exception=False) is False


@pytest.mark.parametrize("name", ["jacobian", "hessian", "vjp", "jvp", "vhp", "hvp"])
def test_autograd_functional(name):
    x, v = leaf(1.0, 2.0), leaf(3.0, 4.0).detach()
    f = getattr(torch.autograd.functional, name)
    cube = lambda x: (x**3).sum()  # noqa: E731
    hessian = np.diag([6.0, 12.0])
    if name == "jacobian":
        np.testing.assert_allclose(f(lambda x: x**3, x).numpy(), np.diag([3.0, 12.0]))
    elif name == "hessian":
        np.testing.assert_allclose(f(cube, x).numpy(), hessian)
    elif name == "vjp" or name == "jvp":
        np.testing.assert_allclose(f(lambda x: x**3, x, v)[1].numpy(), [9.0, 48.0])
    else:
        np.testing.assert_allclose(f(cube, x, v)[1].numpy(), hessian @ [3.0, 4.0])


def test_forward_mode_dual_numbers():
    fw = torch.autograd.forward_ad
    with fw.dual_level():
        x = fw.make_dual(torch.tensor([2.0]), torch.tensor([1.0]))
        y = fw.unpack_dual(torch.exp(x) * x)
        assert y.tangent.item() == pytest.approx(np.exp(2) * 3)
    with pytest.raises(RuntimeError, match="no level exists"):
        fw.make_dual(torch.tensor([2.0]), torch.tensor([1.0]))


# -- what PyTorch warns of ----------------------------------------------------------------------


def test_grad_of_a_tensor_that_is_no_leaf():
    x = torch.ones(2, requires_grad=True)
    y, z = x * 2, x * 3
    with pytest.warns(UserWarning, match="not a leaf Tensor is being accessed.*retain_grad"):
        assert y.grad is None
    z.retain_grad()
    assert z.grad is None and x.grad is None and torch.ones(2).grad is None  # says nothing
    z.sum().backward()
    assert z.grad.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: torch.ones(2, 3, 4).T, "dimension other than 2, here 3.*x.mT"),
        (lambda: torch.ones(2).T, "dimension other than 2, here 1"),
        (lambda: torch.meshgrid(torch.arange(2), torch.arange(3)), "pass the indexing argument"),
    ],
)
def test_deprecated_calls(call, message):
    with pytest.warns(UserWarning, match=message):
        call()


def test_printed_dual_tensors():
    forward = torch.autograd.forward_ad
    with forward.dual_level():
        x = forward.make_dual(torch.ones(2), torch.full((2,), 3.0))
        assert repr(x) == "tensor([1., 1.], tangent=tensor([3., 3.]))"
        assert repr(x * x) == "tensor([1., 1.], tangent=tensor([6., 6.]))"
