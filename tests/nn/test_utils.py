"""Clipping, vectors, parametrizations, norms, pruning, fusion, lean construction."""

import copy
import pickle

import numpy as np
import pytest

import lampion as torch
from lampion import nn
from lampion.nn import utils
from lampion.nn.utils import parametrizations, parametrize, prune


def with_gradients():
    layer = nn.Linear(2, 2)
    layer.weight.grad = torch.tensor([[3.0, 0.0], [0.0, -4.0]])
    layer.bias.grad = torch.tensor([0.0, 12.0])
    return layer


def test_clip_grad_norm():
    layer = with_gradients()
    total = utils.clip_grad_norm_(layer.parameters(), 1.3)
    assert total.item() == 13.0
    np.testing.assert_allclose(layer.bias.grad.numpy(), [0, 1.2], rtol=1e-6)
    assert utils.clip_grad_norm_(layer.parameters(), 5.0).item() == pytest.approx(1.3)
    np.testing.assert_allclose(layer.weight.grad.numpy(), [[0.3, 0], [0, -0.4]], rtol=1e-6)
    assert utils.clip_grad_norm_(with_gradients().weight, 1.0, float("inf")).item() == 4.0
    assert utils.clip_grad_norm_(with_gradients().parameters(), 1.0, 1).item() == 19.0
    assert utils.clip_grad_norm_([], 1.0).item() == 0.0
    with pytest.warns(UserWarning, match="empty generator"):
        utils.clip_grad_norm_((p for p in ()), 1.0)


def test_norms_that_are_not_finite():
    layer = with_gradients()
    layer.bias.grad[0] = float("nan")
    assert utils.clip_grad_norm_(layer.parameters(), 1.0).isnan()
    with pytest.raises(RuntimeError, match="total norm of order 2.0 .* is non-finite"):
        utils.clip_grad_norm_(layer.parameters(), 1.0, error_if_nonfinite=True)


def test_clip_grad_value():
    layer = with_gradients()
    utils.clip_grad_value_(layer.parameters(), 3.5)
    assert layer.weight.grad.tolist() == [[3.0, 0.0], [0.0, -3.5]]
    assert layer.bias.grad.tolist() == [0.0, 3.5]


def test_parameters_as_a_vector():
    layer = nn.Linear(2, 2)
    vector = utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (6,) and vector.grad_fn is not None
    utils.vector_to_parameters(torch.arange(6.0), layer.parameters())
    assert layer.weight.tolist() == [[0, 1], [2, 3]] and layer.bias.tolist() == [4, 5]
    with pytest.raises(TypeError, match="expected torch.Tensor, but got: list"):
        utils.vector_to_parameters([1.0], layer.parameters())


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).T

    def right_inverse(self, x):
        return x.triu()


class Doubled(nn.Module):
    def forward(self, x):
        return x * 2


def test_parametrizations_compute_and_can_be_assigned():
    layer = parametrize.register_parametrization(nn.Linear(3, 3), "weight", Symmetric())
    assert (layer.weight == layer.weight.T).all() and type(layer).__name__ == "ParametrizedLinear"
    a = torch.randn(3, 3)
    layer.weight = a + a.T
    assert torch.allclose(layer.weight, a + a.T)
    layer(torch.ones(1, 3)).sum().backward()
    assert layer.parametrizations.weight.original.grad is not None
    assert list(layer.state_dict()) == ["bias", "parametrizations.weight.original"]
    parametrize.register_parametrization(layer, "weight", Doubled())
    assert torch.allclose(layer.weight, 2 * (a + a.T))
    with pytest.raises(RuntimeError, match="Doubled does not implement right_inverse"):
        layer.weight = a
    other = copy.deepcopy(layer)
    assert other.weight is not layer.weight and torch.allclose(other.weight, layer.weight)
    with pytest.raises(RuntimeError, match="only supported through state_dict"):
        pickle.dumps(layer)


@pytest.mark.parametrize("leave", [True, False])
def test_parametrizations_can_be_removed(leave):
    layer = nn.Linear(2, 2)
    weight, before = layer.weight, layer.weight.detach().clone()
    parametrize.register_parametrization(layer, "weight", Doubled())
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=leave)
    assert type(layer) is nn.Linear and layer.weight is weight
    assert torch.allclose(layer.weight, before * (2 if leave else 1))
    assert sorted(layer.state_dict()) == ["bias", "weight"]


def test_parametrizations_are_cached_in_a_block():
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Doubled())
    with parametrize.cached():
        first = layer.weight
        assert layer.weight is first
    assert layer.weight is not first


def test_parametrizations_must_keep_shape_and_type():
    class Wrong(nn.Module):
        def forward(self, x):
            return x[:1]

    with pytest.raises(ValueError, match="may not change the shape of the tensor"):
        parametrize.register_parametrization(nn.Linear(2, 2), "weight", Wrong())
    layer = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Wrong(), unsafe=True)
    assert layer.weight.shape == (1, 2)
    with pytest.raises(ValueError, match="does not have a parameter, a buffer"):
        parametrize.register_parametrization(nn.Linear(2, 2), "w", Doubled())
    with pytest.raises(ValueError, match="does not have a parametrization on bias"):
        parametrize.remove_parametrizations(layer, "bias")


@pytest.mark.parametrize("old", [True, False])
def test_weight_norm_splits_norm_and_direction(old):
    layer = nn.Linear(3, 4)
    before = layer.weight.detach().clone()
    x = torch.randn(2, 3)
    if old:
        with pytest.warns(FutureWarning):
            utils.weight_norm(layer)
        g, v = layer.weight_g, layer.weight_v
    else:
        parametrizations.weight_norm(layer)
        g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    assert g.shape == (4, 1) and torch.allclose(layer.weight, before, atol=1e-6)
    with torch.no_grad():
        g.mul_(2)
    assert torch.allclose(layer(x) - layer.bias, x @ (2 * before).T, atol=1e-5)
    layer(x).sum().backward()
    assert (g.grad != 0).any() and torch.allclose((v.grad * v).sum(1), torch.zeros(4), atol=1e-5)
    if old:
        utils.remove_weight_norm(layer)
    else:
        parametrize.remove_parametrizations(layer, "weight")
    assert torch.allclose(layer.weight, 2 * before, atol=1e-6) and isinstance(
        layer.weight, nn.Parameter
    )


def test_new_weight_norm_loads_the_old_names():
    with pytest.warns(FutureWarning):
        old = utils.weight_norm(nn.Linear(3, 4))
    new = parametrizations.weight_norm(nn.Linear(3, 4))
    new.load_state_dict(old.state_dict())
    assert torch.allclose(new.weight, old.weight)


@pytest.mark.parametrize("old", [True, False])
def test_spectral_norm_brings_the_largest_singular_value_to_one(old):
    layer = nn.Linear(5, 4)
    (utils if old else parametrizations).spectral_norm(layer, n_power_iterations=50)
    layer(torch.randn(1, 5))
    assert np.linalg.norm(layer.weight.detach().numpy(), 2) == pytest.approx(1, abs=1e-4)
    names = set(layer.state_dict())
    if old:
        assert names == {"bias", "weight_orig", "weight_u", "weight_v"}
        utils.remove_spectral_norm(layer)
        assert set(layer.state_dict()) == {"bias", "weight"}
        with pytest.raises(ValueError, match="spectral_norm of 'weight' not found"):
            utils.remove_spectral_norm(layer)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
@pytest.mark.parametrize("how", ["matrix_exp", "cayley", "householder"])
def test_orthogonal(shape, how):
    layer = parametrizations.orthogonal(nn.Linear(*shape), orthogonal_map=how)
    layer(torch.ones(1, shape[0])).sum().backward()
    with torch.no_grad():
        layer.parametrizations.weight.original.sub_(
            0.1 * layer.parametrizations.weight.original.grad
        )
    w = layer.weight.detach().numpy()
    product = w @ w.T if len(w) <= len(w.T) else w.T @ w
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-5)


def test_pruning_masks_and_can_be_made_permanent():
    layer = nn.Linear(4, 6)
    weight = layer.weight
    prune.l1_unstructured(layer, "weight", 0.25)
    smallest = np.sort(np.abs(weight.detach().numpy()).ravel())[:6]
    gone = weight.detach().numpy()[layer.weight_mask.numpy() == 0]
    np.testing.assert_array_equal(np.sort(np.abs(gone)), smallest)
    layer(torch.ones(1, 4)).sum().backward()
    assert (layer.weight_orig.grad == layer.weight_mask).all() and layer.weight_orig is weight
    prune.random_unstructured(layer, "weight", 4)
    assert layer.weight_mask.sum().item() == 24 - 10
    prune.ln_structured(layer, "weight", 1, n=2, dim=0)
    assert (layer.weight.sum(1) == 0).any() and prune.is_pruned(layer)
    prune.remove(layer, "weight")
    assert layer.weight is weight and (weight == 0).sum() >= 10 and not prune.is_pruned(layer)
    assert sorted(layer.state_dict()) == ["bias", "weight"] and not layer._forward_pre_hooks
    with pytest.raises(ValueError, match="has to be pruned before pruning can be removed"):
        prune.remove(layer, "weight")


def test_pruning_of_several_parameters_together():
    a, b = nn.Linear(3, 3), nn.Linear(3, 2)
    with torch.no_grad():
        a.weight.fill_(0.1)
    prune.global_unstructured([(a, "weight"), (b, "weight")], prune.L1Unstructured, amount=5)
    assert a.weight_mask.sum() + b.weight_mask.sum() == 15 - 5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda m: prune.l1_unstructured(m, "weight", 1.5),
            ValueError,
            "amount=1.5 should either be a float",
        ),
        (
            lambda m: prune.l1_unstructured(m, "weight", 99),
            ValueError,
            "amount=99 should be smaller",
        ),
        (
            lambda m: prune.l1_unstructured(m, "weight", "x"),
            TypeError,
            "Invalid type for amount: x",
        ),
        (lambda m: prune.ln_structured(m, "bias", 1, 2, 0), ValueError, "multidimensional tensors"),
        (lambda m: prune.ln_structured(m, "weight", 1, 2, 5), IndexError, "Invalid index 5"),
        (lambda m: prune.custom_from_mask(m, "bias", torch.ones(1)), AssertionError, "must match"),
    ],
)
def test_pruning_errors_leave_the_module_alone(call, error, message):
    layer = nn.Linear(2, 2)
    with pytest.raises(error, match=message):
        call(layer)
    assert sorted(layer.state_dict()) == ["bias", "weight"]


def filled_norm(norm):
    norm.running_mean.uniform_(-1, 1), norm.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2), norm.bias.uniform_(-1, 1)
    return norm.eval()


def test_fusion_of_a_batch_norm():
    x = torch.randn(2, 2, 5, 5)
    norm = filled_norm(nn.BatchNorm2d(3))
    for layer in (nn.Conv2d(2, 3, 3).eval(), nn.Conv2d(2, 3, 3, bias=False).eval()):
        assert torch.allclose(utils.fuse_conv_bn_eval(layer, norm)(x), norm(layer(x)), atol=1e-5)
    up = nn.ConvTranspose2d(2, 3, 3).eval()
    assert torch.allclose(
        utils.fuse_conv_bn_eval(up, norm, transpose=True)(x), norm(up(x)), atol=1e-5
    )
    flat, norm1 = nn.Linear(2, 3).eval(), filled_norm(nn.BatchNorm1d(3))
    assert torch.allclose(
        utils.fuse_linear_bn_eval(flat, norm1)(x[0, :, 0].T), norm1(flat(x[0, :, 0].T)), atol=1e-5
    )
    with pytest.raises(AssertionError, match="Fusion only for eval"):
        utils.fuse_conv_bn_eval(nn.Conv2d(2, 3, 3), norm)


def test_skip_init_draws_nothing():
    torch.manual_seed(0)
    layer = utils.skip_init(nn.Linear, 3, 2)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.rand(1) == after and type(layer) is nn.Linear and layer.weight.shape == (2, 3)
    with pytest.raises(RuntimeError, match="must support a 'device' arg"):
        utils.skip_init(nn.ReLU)
