"""User-defined operators: contexts, several outputs, in place, once_differentiable, vmap, jvp."""

import gc
import weakref

import numpy as np
import pytest

import lampion as torch
from lampion.autograd import Function
from lampion.autograd.function import once_differentiable


class Cube(Function):
    @staticmethod
    def forward(ctx, x, scale=1.0):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return scale * x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * ctx.scale * x**2 * g, None


def leaf(*values):
    return torch.tensor(list(values), dtype=torch.float64, requires_grad=True)


def test_forward_and_backward():
    x = leaf(2.0)
    y = Cube.apply(x, 2.0)
    assert type(y.grad_fn).__name__ == "CubeBackward"
    y.sum().backward()
    assert x.grad.item() == 24.0


def test_twice_differentiable():
    assert torch.autograd.gradgradcheck(Cube.apply, leaf(1.0, 2.0))


def test_needs_input_grad_and_no_grad():
    class Product(Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            assert ctx.needs_input_grad == (True, False)
            return g * b, None

    a, b = leaf(2.0), torch.tensor([3.0], dtype=torch.float64)
    Product.apply(a, b).sum().backward()
    assert a.grad.item() == 3.0
    with torch.no_grad():
        assert not Product.apply(a, b).requires_grad


def test_nodes_of_several_outputs_have_the_classs_name():
    class Both(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            return a * 2 + b * 3

    for y in Both.apply(torch.ones(2, requires_grad=True)):
        assert y.grad_fn.name() == "BothBackward"
        assert "BothBackward" in repr(y.grad_fn)


def test_several_outputs_materialize_zeros():
    class Split(Function):
        @staticmethod
        def forward(ctx, x):
            index = torch.tensor([1])
            ctx.mark_non_differentiable(index)
            return x * 2, x * 3, index

        @staticmethod
        def backward(ctx, g2, g3, gi):
            assert g3.tolist() == [0.0]
            return g2 * 2 + g3 * 3

    x = leaf(1.0)
    doubled, tripled, index = Split.apply(x)
    assert tripled.requires_grad and not index.requires_grad
    doubled.sum().backward()
    assert x.grad.item() == 2.0


def test_saved_outputs_make_no_cycle():
    class Exp(Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y

    assert torch.autograd.gradgradcheck(Exp.apply, leaf(0.5, 1.0))
    gc.disable()
    try:
        y = Exp.apply(leaf(1.0))
        node = weakref.ref(y.grad_fn)
        del y
        assert node() is None
    finally:
        gc.enable()


def test_setup_context():
    class Square(Function):
        @staticmethod
        def forward(x):
            return x * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

        @staticmethod
        def vmap(info, in_dims, x):
            assert info.batch_size == 3
            return Square.apply(x), in_dims[0]

        @staticmethod
        def jvp(ctx, t):
            (x,) = ctx.saved_tensors
            return 2 * x * t

    x = torch.tensor([1.0, 2.0, 3.0])
    assert torch.vmap(Square.apply)(x).tolist() == [1.0, 4.0, 9.0]
    assert torch.vmap(torch.func.grad(Square.apply))(x).tolist() == [2.0, 4.0, 6.0]
    out, moved = torch.func.jvp(Square.apply, (x,), (torch.ones(3),))
    assert moved.tolist() == [2.0, 4.0, 6.0]


def test_in_place():
    class Double(Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return g * 2

    x = leaf(1.0, 2.0)
    y = x * 1
    z = Double.apply(y)
    assert z is y
    z.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_once_differentiable():
    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    x = leaf(3.0)
    v = leaf(1.0)
    (g,) = torch.autograd.grad(Square.apply(x), x, v, create_graph=True)
    assert g.item() == 6.0
    with pytest.raises(RuntimeError, match="once_differentiable"):
        g.sum().backward()


@pytest.mark.parametrize("returned", [(None, None, None), ()])
def test_wrong_number_of_gradients(returned):
    class Wrong(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return (g, g) if returned else ()

    with pytest.raises(RuntimeError, match="returned an incorrect number of gradients"):
        Wrong.apply(leaf(1.0)).sum().backward()


def test_modified_after_saving():
    x = leaf(2.0) * 1
    y = Cube.apply(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match=r"\[CubeBackward\] saved .* `add_` changed it"):
        y.sum().backward()


def test_not_to_be_instantiated():
    with pytest.raises(RuntimeError, match="should not be instantiated"):
        Cube()


def test_decks_relu():
    class MyReLU(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, grad_y):
            (x,) = ctx.saved_tensors
            grad_input = grad_y.clone()
            grad_input[x < 0] = 0
            return grad_input

    x = leaf(-1.0, 2.0)
    MyReLU.apply(x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0.0, 1.0])
