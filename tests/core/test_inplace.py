"""In-place writes through views, and autograd: history, errors, versions.

Gradients are compared with ones derived by hand or with central differences of the same program.
"""

import warnings

import numpy as np
import pytest

import lampion as torch
from lampion.func import vmap

MODIFIED = "has been modified by an inplace operation"


def leaf(*shape, seed=0):
    """A random leaf in double precision."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return torch.tensor(x, dtype=torch.float64).requires_grad_()


def close(got, want):
    np.testing.assert_allclose(got.detach().numpy(), np.asarray(want, float), rtol=1e-6, atol=1e-7)


def check_program(program, *shapes):
    """Compares the gradients of a program's sum of squares with central differences."""
    inputs = [leaf(*s, seed=i) for i, s in enumerate(shapes)]

    def loss():
        out = program(*inputs)
        return (out * out).sum()

    loss().backward()
    for x in inputs:
        flat = x.data.view(-1)
        want = np.zeros(flat.shape)
        for i in range(len(want)):
            kept, values = flat[i].item(), []
            for step in (1e-5, -1e-5):
                flat[i] = kept + step
                values.append(loss().item())
            flat[i] = kept
            want[i] = (values[0] - values[1]) / 2e-5
        got = torch.zeros(x.shape, dtype=x.dtype) if x.grad is None else x.grad
        np.testing.assert_allclose(got.numpy().ravel(), want, rtol=1e-5, atol=1e-6)


# -- history -----------------------------------------------------------------------------------


def column(x, y):
    x = x * 1
    x[:, 0] = y
    return x


def transposed(x, y):
    x = x * 1
    x.t().add_(y)
    return x


def slice_of_slice(x, y):
    x = x * 2
    inner = x[1:][:, 1:3]
    inner.mul_(3).add_(y)
    return x * inner.sum()


def view_before_write_to_base(x, y):
    x = x * 1
    row, rows = x[0], x[1:]
    x.mul_(3).add_(y)
    return torch.cat([row[None], rows * 2])


def two_views_one_written(x, y):
    x = x * 1
    first, second = x[0], x.view(-1)
    second.mul_(3).add_(y)
    return first + second[:4]


def base_written_after_view_was_used(x, y):
    x = x * 1
    row = x[0]
    before = row.exp()
    x.add_(y)
    return before + row


def copy_through_view(x, y):
    out = torch.zeros(3, 4, dtype=torch.float64)
    out[1].copy_(x[0])
    out.t()[2] = y
    return out


def broadcast_assignment(x, y):
    x = x * 1
    x[1:, 1:] = y
    x[0] = 5
    return x


def augmented(x, y):
    x = x * 1
    x[0] += y
    x[:, 1] += x[:, 2]
    x -= x[2].clone()
    return x


def masked(x, y):
    x = x * 1
    x[x > 0] *= 3
    x.masked_fill_(x < -1, 0)
    return x * y


def advanced(x, y):
    x = x * 1
    x[[0, 2], [1, 3]] = y
    x[:, torch.tensor([0, 2])] += 1
    return x


def accumulated(x, y):
    x = x * 1
    x.index_put_((torch.tensor([0, 0]), torch.tensor([1, 1])), y.expand(2), accumulate=True)
    return x


def on_a_diagonal(x, y):
    x = x * 1
    x.diagonal().mul_(3).add_(y)
    x.diagonal(1)[1] = 7
    return x


def through_windows(x, y):
    x = x * 1
    x.unfold(1, 2, 2)[:, 0].mul_(3).add_(y)
    return x


def through_strides(x, y):
    x = x * 1
    x.as_strided((2, 2), (4, 2), 1).mul_(3).add_(y)
    return x.t().contiguous()


def through_expansion(x, y):
    x = x * 1
    x.expand(2, 3, 4)[1].mul_(3).add_(y)
    return x


def through_split(x, y):
    x = x * 1
    first, second = x.split([1, 2])
    second.mul_(3).add_(y)
    return first.sum() + x


def through_unbind(x, y):
    x = x * 1
    for i, row in enumerate(x.unbind()):
        row.mul_(i).add_(y)
    return x


def detached_write(x, y):
    x = x * y
    x.detach()[0] = 3  # same memory, other history: the gradient does not see it
    return x * 2


def permuted_base(x, y):
    x = (x * 1).t().clone()  # memory runs along columns
    x.t().view(12)[3:7].mul_(3).add_(y)
    return x * torch.arange(3.0, dtype=torch.float64)


def filled(x, y):
    x = x * y
    x[0].fill_(y[0])
    x[1].zero_()
    return x


def in_place_shapes(x, y):
    x = x * 1
    row = x[0]
    x.t_()
    x.unsqueeze_(0).mul_(3).add_(y)
    return x.squeeze_().sum() + row


PROGRAMS = [
    (column, (3, 4), (3,)),
    (transposed, (3, 4), (4, 1)),
    (slice_of_slice, (3, 4), (2, 2)),
    (view_before_write_to_base, (3, 4), (4,)),
    (two_views_one_written, (3, 4), (1,)),
    (base_written_after_view_was_used, (3, 4), (4,)),
    (copy_through_view, (3, 4), (3,)),
    (broadcast_assignment, (3, 4), (3,)),
    (augmented, (3, 4), (1,)),
    (masked, (3, 4), (1,)),
    (advanced, (3, 4), (2,)),
    (accumulated, (3, 4), (1,)),
    (on_a_diagonal, (3, 4), (1,)),
    (through_windows, (3, 4), (1,)),
    (through_strides, (3, 4), (1,)),
    (through_expansion, (3, 4), (4,)),
    (through_split, (3, 4), (4,)),
    (through_unbind, (3, 4), (4,)),
    (permuted_base, (3, 4), (1,)),
    (filled, (3, 4), (4,)),
    (in_place_shapes, (3, 4), (1,)),
]


@pytest.mark.parametrize(("program", "x", "y"), PROGRAMS, ids=[p[0].__name__ for p in PROGRAMS])
def test_gradients_of_programs(program, x, y):
    check_program(program, x, y)


def test_write_through_a_column_by_hand():
    x, y = leaf(2, 3), leaf(2, seed=1)
    z = x * 1
    z[:, 0] = y
    (z * z).sum().backward()
    want = 2 * x.detach().numpy()
    want[:, 0] = 0
    close(x.grad, want)
    close(y.grad, 2 * y.detach().numpy())
    assert z.grad_fn.name() == "CopySlices"


def test_a_leaf_that_needs_no_gradient_takes_the_history():
    x = leaf(4)
    out = torch.zeros(2, 4, dtype=torch.float64)
    row = out[1]
    assert not row.requires_grad
    out[1] = x * 3
    assert out.requires_grad and row.requires_grad
    row.sum().backward()
    close(x.grad, [3, 3, 3, 3])


def test_history_does_not_leak_through_data_or_detach():
    x = leaf(3)
    y = x * 2
    y.data[0] = 100
    y.detach().mul_(2)
    y.sum().backward()
    close(x.grad, [2, 2, 2])
    assert y[0].item() == 200


def test_writes_without_recording_leave_the_history():
    x = leaf(2, 3)
    with torch.no_grad():
        x[0] = 0
        x[1].mul_(2)
    assert x.is_leaf
    x.sum().backward()
    close(x.grad, np.ones((2, 3)))


def test_second_derivative_through_a_write():
    x = leaf(3)
    y = x * x
    y[1:] = y[1:].clone() * x[1:]  # x**2, x**3, x**3
    (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    v = x.detach().numpy()
    close(h, [2, 6 * v[1], 6 * v[2]])


def test_retained_gradient_moves_to_the_new_value():
    x = leaf(3)
    y = x * 2
    y.retain_grad()
    y.mul_(3)
    y.sum().backward()
    close(y.grad, [1, 1, 1])
    close(x.grad, [6, 6, 6])


def test_many_writes_in_a_row():
    x = leaf(50)
    out = torch.zeros(50, dtype=torch.float64)
    for i in range(50):
        out[i] = x[i] * i
    out.sum().backward()
    close(x.grad, np.arange(50))


def test_gradient_of_many_pieces_is_one_concatenation():
    x = leaf(6, 2)
    a, b, c = x.split(2)
    (a.sum() + 3 * c.sum()).backward()
    close(x.grad, [[1, 1], [1, 1], [0, 0], [0, 0], [3, 3], [3, 3]])
    assert a.grad_fn.next_functions[0][0] is c.grad_fn.next_functions[0][0]


# -- errors ------------------------------------------------------------------------------------


def test_leaves_cannot_be_written():
    x = leaf(2, 3)
    for write in (
        lambda: x.add_(1),
        lambda: x.zero_(),
        lambda: x.__setitem__((0, 0), 1),
        lambda: x.copy_(torch.zeros(2, 3)),
        lambda: x.t_(),
        lambda: x.masked_fill_(x > 0, 0),
    ):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            write()


def test_views_of_leaves_cannot_be_written():
    x = leaf(2, 3)
    for write in (
        lambda: x[0].add_(1),
        lambda: x.view(-1).zero_(),
        lambda: x.t().__setitem__(0, 1.0),
        lambda: x[0].__setitem__([0, 1], 1.0),
    ):
        with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
            write()


def test_shared_elements_cannot_be_written():
    e = torch.ones(3).expand(2, 3)
    for write in (
        lambda: e.add_(1),
        lambda: e.copy_(torch.zeros(2, 3)),
        lambda: e.__setitem__([0, 1], torch.zeros(3)),
    ):
        with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
            write()
    e[0].add_(1)
    e[1] = 5
    assert e.tolist() == [[5, 5, 5], [5, 5, 5]]


@pytest.mark.parametrize(
    "write",
    [
        lambda y: y.zero_(),
        lambda y: y[0].mul_(2),
        lambda y: y.detach().add_(1),
        lambda y: y.t().__setitem__(0, 1.0),
        lambda y: y.view(-1).index_fill_(0, torch.tensor([0]), 1.0),
    ],
)
def test_a_saved_tensor_that_was_written_raises(write):
    y = leaf(2, 3) * 1
    z = y * y
    write(y)
    with pytest.raises(RuntimeError, match=MODIFIED):
        z.sum().backward()


def test_the_error_names_operator_and_line():
    y = leaf(3) * 1
    z = y.exp()
    z.mul_(2)
    with pytest.raises(
        RuntimeError, match=r"\[ExpBackward0\].*`mul_` changed it at .*test_inplace\.py:\d+"
    ):
        z.sum().backward()


@pytest.mark.parametrize(
    "write",
    [lambda y: torch.relu_(y), lambda y: y.exp_(), lambda y: y.tanh_()],
)
def test_a_result_written_in_place_is_saved_once(write):
    y = leaf(2, 3) * 1
    write(y)
    assert y.grad_fn.saved[0]._data is y._data
    loss = y.sum()
    y.add_(1)
    with pytest.raises(RuntimeError, match=MODIFIED):
        loss.backward()


def test_a_source_that_is_copied_keeps_what_it_saved():
    x = leaf(3)
    y, target = x.exp(), torch.zeros(3)
    target.copy_(y)
    target.add_(1)
    y.sum().backward()
    close(x.grad, np.exp(x.detach().numpy()))


def test_writing_what_nobody_saved_is_fine():
    x = leaf(3)
    y = x.sin()
    y.add_(1)
    y.sum().backward()
    close(x.grad, np.cos(x.detach().numpy()))


def test_more_errors():
    x = leaf(2, 3)
    y = x * 1
    with pytest.raises(RuntimeError, match="Can't detach views in-place"):
        y[0].detach_()
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        y.resize_(3, 2)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        y.t().view(6)
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        y.add_(torch.zeros(4, 2, 3))
    with pytest.raises(TypeError, match="can't assign a list to a torch.DoubleTensor"):
        y[0] = [1.0, 2.0, 3.0]
    with pytest.raises(TypeError, match="can't assign a NoneType"):
        y[0] = None


def test_errors_of_writing_at_an_index():
    x = torch.zeros(3, 4)
    for index, error, message in (
        (3, IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
        ((0, 4), IndexError, "index 4 is out of bounds for dimension 1 with size 4"),
        ([0, 9], IndexError, "index 9 is out of bounds for dimension 0 with size 3"),
        (
            torch.tensor([0, -4]),
            IndexError,
            "index -4 is out of bounds for dimension 0 with size 3",
        ),
        (torch.tensor([True, False]), IndexError, "The shape of the mask"),
        (slice(None, None, -1), ValueError, "step must be greater than zero"),
    ):
        with pytest.raises(error, match=message):
            x[index] = 1.0
    with pytest.raises(RuntimeError, match=r"The expanded size of the tensor \(4\)"):
        x[0] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="cannot be broadcast to indexing result"):
        x[x == 0] = torch.zeros(2)
    with pytest.raises(RuntimeError, match="without overflow"):
        x[0] = 1j
    assert x.eq(0).all()


# -- versions ----------------------------------------------------------------------------------


def test_versions_count_writes_through_all_views():
    x = torch.zeros(4)
    y = x[1:]
    z = y[0]
    z.fill_(4)
    assert (x._version, y._version, z._version) == (1, 1, 1)
    x.zero_()
    x[0] = 2
    x += 1
    x[0] += 1  # the addition, then the assignment
    assert x._version == y._version == 6
    assert x.detach()._version == 6
    assert x.data._version == 0
    assert x.clone()._version == 0


def test_versions_of_changes_in_shape():
    x = torch.zeros(2, 3)
    x.t_()
    x.unsqueeze_(0)
    x.squeeze_()
    assert x.shape == (3, 2)
    assert x._version == 3
    x.resize_(2, 2)
    assert x._version == 4


def test_reading_changes_no_version():
    x = torch.zeros(2, 3)
    x.view(-1)[0] + x.sum() + x.t()[0, 0]
    assert x._version == 0


# -- vmap ------------------------------------------------------------------------------------


def test_writes_under_vmap():
    def f(row, value):
        out = row * 1
        out[0] = value
        out[1:].mul_(2)
        return out

    x, v = torch.arange(6.0).reshape(2, 3), torch.tensor([7.0, 8.0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\[vmap\]")
        assert vmap(f)(x, v).tolist() == [[7, 2, 4], [8, 8, 10]]


# -- what the gradient needs of the content before --------------------------------------------

F = torch.nn.functional
OVERWRITTEN = {
    "silu": lambda y: F.silu(y, inplace=True),
    "leaky_relu": lambda y: F.leaky_relu(y, 0.1, inplace=True),
    "elu": lambda y: F.elu(y, inplace=True),
    "mish": lambda y: F.mish(y, inplace=True),
    "relu6": lambda y: F.relu6(y, inplace=True),
    "hardswish": lambda y: F.hardswish(y, inplace=True),
    "sin_": lambda y: y.sin_(),
    "pow_": lambda y: y.pow_(2),
    "mul_": lambda y: y.mul_(torch.arange(5.0)),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", OVERWRITTEN)
def test_gradients_use_the_content_before(name, compiled):
    def run(x):
        return torch.autograd.grad((OVERWRITTEN[name](x * 1.5) ** 2).sum(), x)[0]

    def expected(x):
        """Finite differences in float64."""
        with torch.no_grad():
            steps = torch.eye(5, dtype=torch.float64) * 1e-6
            value = lambda d: (OVERWRITTEN[name]((x.double() + d) * 1.5) ** 2).sum()  # noqa: E731
            return torch.stack([(value(d) - value(-d)) / 2e-6 for d in steps])

    x = torch.tensor([-1.9, -0.7, 0.3, 1.1, 1.7], requires_grad=True)
    step = torch.compile(run) if compiled else run
    for _ in range(3):
        assert torch.allclose(step(x).double(), expected(x), rtol=1e-4, atol=1e-4)


def test_a_view_of_what_is_written_over_is_noticed():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    y.mul_(y.view(2))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
