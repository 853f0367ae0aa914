"""Python's operators, result types, in-place forms and special values of elementwise operators."""

import math
import operator

import numpy as np
import pytest

import lampion as torch

NAN, INF = math.nan, math.inf
F = torch.nn.functional

ARITHMETIC = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
    operator.eq,
    operator.ne,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
]
BITS = [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift]


@pytest.mark.parametrize("op", ARITHMETIC)
def test_operators_of_floats(op):
    a, b = np.array([1.5, 2.0, 3.5]), np.array([0.5, 2.0, 4.0])
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    np.testing.assert_allclose(op(x, y).numpy(), op(a, b))
    np.testing.assert_allclose(op(x, 2.0).numpy(), op(a, 2.0))
    np.testing.assert_allclose(op(2, y).numpy(), op(2, b))
    np.testing.assert_allclose(op(x, b).numpy(), op(a, b))


@pytest.mark.parametrize("op", BITS)
def test_operators_of_integers(op):
    a, b = np.array([5, 12, 7]), np.array([1, 2, 3])
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    np.testing.assert_array_equal(op(x, y).numpy(), op(a, b))
    np.testing.assert_array_equal(op(x, 2).numpy(), op(a, 2))
    np.testing.assert_array_equal(op(6, y).numpy(), op(6, b))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
def test_in_place_operators_write_into_the_memory(name):
    a = np.array([1.5, 2.0, 3.5])
    x = torch.from_numpy(a.copy())
    alias = x.view(-1)
    expected = getattr(operator, name)(a, 2.0)
    result = getattr(operator, f"i{name}")(x, 2.0)
    assert result is x
    np.testing.assert_allclose(alias.numpy(), expected)


def test_signs_and_inversion():
    x = torch.tensor([-1.5, 0.0, 2.0])
    assert (-x).tolist() == [1.5, -0.0, -2.0]
    assert abs(x).tolist() == [1.5, 0.0, 2.0]
    assert +x is x
    assert (~torch.tensor([True, False])).tolist() == [False, True]
    assert (~torch.tensor([0, 5])).tolist() == [-1, -6]
    with pytest.raises(TypeError, match="invert"):
        ~x


def test_foreign_operands():
    x = torch.ones(2)
    assert (x == None) is False  # noqa: E711
    assert (x != "a") is True
    with pytest.raises(TypeError, match="unsupported operand"):
        x + "a"
    with pytest.raises(TypeError, match="not supported"):
        assert x < None
    assert 1.0 in x
    assert 2.0 not in x
    with pytest.raises(RuntimeError, match="only supports"):
        assert "a" in x


RESULT_TYPES = [
    (lambda i, f: i + 1, "int64"),
    (lambda i, f: i + 1.5, "float32"),
    (lambda i, f: i / 2, "float32"),
    (lambda i, f: i // 2, "int64"),
    (lambda i, f: i**2, "int64"),
    (lambda i, f: i**0.5, "float32"),
    (lambda i, f: 2**i, "int64"),
    (lambda i, f: i * f, "float32"),
    (lambda i, f: f + 1j, "complex64"),
    (lambda i, f: torch.exp(i), "float32"),
    (lambda i, f: torch.float_power(i, 2), "float64"),
    (lambda i, f: torch.float_power(2, f), "float64"),
    (lambda i, f: torch.clamp(i, 0.5), "float32"),
    (lambda i, f: torch.where(i > 0, 1, 2), "int64"),
    (lambda i, f: torch.where(i > 0, i, 0.5), "float32"),
    (lambda i, f: torch.maximum(i, f), "float32"),
    (lambda i, f: torch.abs(f + 1j), "float32"),
    (lambda i, f: torch.sigmoid(i > 0), "float32"),
    (lambda i, f: torch.add(f.half(), 1, alpha=2.5), "float16"),
    (lambda i, f: torch.rad2deg(f.bfloat16()), "bfloat16"),
    (lambda i, f: F.gelu(f.bfloat16()), "bfloat16"),
    (lambda i, f: torch.softmax(i, 0, dtype=torch.float64), "float64"),
]


@pytest.mark.parametrize("case", range(len(RESULT_TYPES)))
def test_result_types(case):
    call, expected = RESULT_TYPES[case]
    i, f = torch.tensor([1, 2]), torch.tensor([1.5, 2.0])
    assert str(call(i, f).dtype) == f"torch.{expected}"
    assert str(call(i[0], f[0]).dtype) == f"torch.{expected}"


# Values where NaN, infinities and ties meet: (function, inputs, results, gradients), all PyTorch's.
CORNERS = [
    (
        torch.maximum,
        [[1.0, NAN, INF], [1.0, 2.0, INF]],
        [1.0, NAN, INF],
        [[0.5, 1, 0.5], [0.5, 1, 0.5]],
    ),
    (torch.fmax, [[1.0, NAN, 2.0], [1.0, 2.0, NAN]], [1.0, 2.0, 2.0], [[1, 0, 1], [0, 1, 0]]),
    (torch.fmin, [[3.0, NAN, 2.0], [2.0, 2.0, NAN]], [2.0, 2.0, 2.0], [[0, 0, 1], [1, 1, 0]]),
    (torch.relu, [[NAN, 0.0, 1.0]], [NAN, 0.0, 1.0], [[1, 0, 1]]),
    (lambda x: x.clamp(0, 1), [[NAN, 0.0, 1.0, 2.0]], [NAN, 0.0, 1.0, 1.0], [[0, 1, 1, 0]]),
    (
        torch.pow,
        [[0.0, 0.0, 2.0], [0.0, 2.0, 3.0]],
        [1.0, 0.0, 8.0],
        [[0, 0, 12], [0, 0, 8 * math.log(2)]],
    ),
    (lambda x: x**0, [[0.0, 3.0]], [1.0, 1.0], [[0, 0]]),
    (torch.sign, [[NAN, -3.0, 0.0]], [0.0, -1.0, 0.0], [[0, 0, 0]]),
    (torch.abs, [[0.0, -3.0]], [0.0, 3.0], [[0, -1]]),
    (
        torch.xlogy,
        [[0.0, 0.0, 2.0], [0.0, NAN, 1.0]],
        [0.0, NAN, 0.0],
        [[0, NAN, 0], [NAN, NAN, 2]],
    ),
    (torch.sinc, [[0.0]], [1.0], [[0]]),
    (torch.atan2, [[0.0], [0.0]], [0.0], [[0], [0]]),
    (torch.nan_to_num, [[NAN, 1.0]], [0.0, 1.0], [[0, 1]]),
    (
        lambda x: torch.logit(x, 0.1),
        [[0.05, 0.5, 0.99]],
        [-math.log(9), 0.0, math.log(9)],
        [[0, 4, 0]],
    ),
    (F.leaky_relu, [[NAN, 0.0, 2.0]], [NAN, 0.0, 2.0], [[0.01, 0.01, 1]]),
    (F.hardtanh, [[-1.0, 0.0, 1.0]], [-1.0, 0.0, 1.0], [[0, 1, 0]]),
    (F.hardswish, [[-3.0, 3.0]], [0.0, 3.0], [[0, 1]]),
    (F.softplus, [[-200.0, 25.0]], [0.0, 25.0], [[0, 1]]),
    (F.silu, [[-100.0, 1e8]], [0.0, 1e8], [[0, 1]]),
    (F.logsigmoid, [[-200.0, 200.0]], [-200.0, 0.0], [[1, 0]]),
]


@pytest.mark.parametrize("case", range(len(CORNERS)))
def test_corners(case):
    call, inputs, values, gradients = CORNERS[case]
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    y = call(*leaves)
    np.testing.assert_allclose(y.detach().numpy(), values, rtol=1e-6, atol=1e-30)
    y.backward(torch.ones_like(y))
    for leaf, expected in zip(leaves, gradients, strict=True):
        np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize(
    "name", ["relu", "elu", "selu", "celu", "leaky_relu", "hardtanh", "relu6", "silu", "mish"]
)
def test_inplace_argument(name):
    function = getattr(F, name)
    x = torch.tensor([-2.0, 0.5, 3.0])
    expected = function(x).tolist()
    assert function(x, inplace=True) is x
    # compiled calls of few elements, which are out of place, may round the last bit otherwise
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-6)


def test_inplace_relu_in_a_graph():
    x = torch.tensor([-2.0, 0.5], requires_grad=True)
    F.relu(x * 2, inplace=True).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0]


def test_saved_output_guards_against_writes():
    x = torch.tensor([-2.0, 0.5], requires_grad=True)
    y = torch.exp(x)
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_softmax_survives_large_inputs():
    x = torch.tensor([[1e4, 0.0], [-INF, 0.0]])
    assert torch.softmax(x, 1).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert torch.log_softmax(x, 1).tolist() == [[0.0, -1e4], [-INF, 0.0]]


def test_softmax_without_dim_warns():
    with pytest.warns(UserWarning, match="Implicit dimension choice"):
        F.softmax(torch.zeros(2, 3))


def test_gumbel_softmax():
    torch.manual_seed(0)  # PyTorch's numbers after this seed
    soft = F.gumbel_softmax(torch.ones(5))
    expected = [0.06979895, 0.19902517, 0.3981463, 0.09659411, 0.23643549]
    np.testing.assert_allclose(soft.numpy(), expected, rtol=1e-5)
    torch.manual_seed(0)
    logits = torch.ones(5, requires_grad=True)
    hard = F.gumbel_softmax(logits, hard=True)
    assert hard.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0]
    hard[2].backward()
    assert logits.grad.abs().sum() > 0


def test_rrelu_draws_for_negative_elements_only():
    torch.manual_seed(0)  # PyTorch's numbers after this seed
    y = F.rrelu(torch.tensor([1.0, -1, -1, 1, 0, -1]), training=True)
    expected = [1.0, -0.32709438, -0.27246249, 1.0, 0.0, -0.31682244]
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)


def test_missing_derivative_raises():
    a = torch.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(NotImplementedError, match="igamma"):
        torch.igamma(a, torch.ones(2)).sum().backward()
