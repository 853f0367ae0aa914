"""Every in-place form of every sample, with its gradient: that of the out-of-place form.

The forms run on a tensor that is no leaf, and through a view of a larger one; by the Python
functions and by the compiled calls that take their place; and some of them compiled as programs.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime
from lampion.core.inplace import COPY
from lampion.core.tensor import Tensor
from lampion.ops import compiled_calls
from tests.samples.common import A, Sample
from tests.test_operators import SAMPLES, arrays, flat, function, ids, tensors

# Other names of an operator's in-place form, and of those whose samples have yet another name.
ALIASES = {
    "abs": ["absolute_"], "acos": ["arccos_"], "acosh": ["arccosh_"], "asin": ["arcsin_"],
    "asinh": ["arcsinh_"], "atan": ["arctan_"], "atanh": ["arctanh_"], "atan2": ["arctan2_"],
    "clamp": ["clip_"], "div": ["divide_"], "trunc": ["fix_"], "gt": ["greater_"],
    "ge": ["greater_equal_"], "lt": ["less_"], "le": ["less_equal_"], "mul": ["multiply_"],
    "neg": ["negative_"], "ne": ["not_equal_"], "sub": ["subtract_"],
    "special.gammaln": ["lgamma_"], "special.multigammaln": ["mvlgamma_"],
}  # fmt: skip
VIEWS = {"t", "transpose", "swapaxes", "swapdims", "squeeze", "unsqueeze", "as_strided", "detach"}
DIFFERENT = {"normal", "bernoulli"}  # their in-place forms take numbers; see `test_writers`
# In-place methods without a sample: they write values that have no history.
WRITERS = {
    "fill_": ((1.5,), "FillBackward2"),
    "zero_": ((), "ZeroBackward0"),
    "normal_": ((), "NormalBackward0"),
    "uniform_": ((), "UniformBackward0"),
    "bernoulli_": ((), "BernoulliBackward2"),
    "random_": ((), "RandomBackward2"),
    "exponential_": ((), "ExponentialBackward0"),
    "geometric_": ((0.5,), "GeometricBackward0"),
    "cauchy_": ((), "CauchyBackward0"),
    "log_normal_": ((), "LogNormalBackward0"),
    "eq_": ((1,), "EqBackward0"),
    "copy_": ((torch.ones(3),), "CopyBackwards"),
}
ELSEWHERE = {
    "requires_grad_", "resize_", "resize_as_", "set_", "share_memory_", "apply_", "map_",
    "fill_diagonal_", "igamma_", "igammac_",  # which have no gradient by the first operand
}  # fmt: skip


class Form(NamedTuple):
    """One way to call a sample's operator in place."""

    sample: Sample
    name: str
    call: Callable


def forms_of(sample: Sample) -> list[tuple[str, tuple[str, str] | None, Callable]]:
    """The in-place forms of a sample: name, where it is published, and the function."""
    space, _, last = sample.name.rpartition(".")
    methods = [n for n in (last + "_", *ALIASES.get(sample.name, ())) if hasattr(Tensor, n)]
    if sample.name == "div" and not sample.kwargs:
        methods.append("true_divide_")
    found = [(n, ("Tensor", n), getattr(Tensor, n)) for n in methods]
    if space == "nn.functional":
        outer = function(sample)
        if "inplace" in inspect.signature(outer).parameters:
            flagged = lambda *a, **k: function(sample)(*a, inplace=True, **k)  # noqa: E731
            found.append((f"{last}(inplace=True)", ("functional", last), flagged))
        if hasattr(torch.nn.functional, last + "_"):
            found.append((last + "_", None, getattr(torch.nn.functional, last + "_")))
    return found


def usable(sample: Sample) -> bool:
    """Whether the first operand is of floats, and the in-place form takes the same arguments."""
    first = sample.inputs[0] if sample.inputs else None
    floats = isinstance(first, A) and (first.dtype or "float64") == "float64"
    return floats and "float64" in sample.dtypes and sample.name not in DIFFERENT


SAMPLED = [*SAMPLES, Sample("Tensor.polygamma", [A(2, 3, low=0.5, high=3), 1])]
FORMS = [
    pytest.param(Form(sample, name, call), place, id=f"{i}-{name}")
    for sample, i in zip(SAMPLED, ids(SAMPLED), strict=True)
    if usable(sample)
    for name, place, call in forms_of(sample)
]


@pytest.fixture(scope="module", autouse=True)
def installed():
    """The compiled calls are there, as in any program that trains."""
    if not compiled_calls.REPLACED and runtime.available() and objects.known_layout():
        assert compiled_calls.install()


def published(form: Form, place: tuple | None) -> list[Callable]:
    """The form's function as it is now; if that is compiled, also the Python function."""
    if place is None or place not in compiled_calls.REPLACED:
        return [form.call]
    python = compiled_calls.REPLACED[place]
    if place[0] == "Tensor":
        return [getattr(Tensor, place[1]), python]
    return [form.call, lambda *a, **k: python(*a, inplace=True, **k)]


def on_itself(x: Tensor, call: Callable, in_place: bool) -> Tensor:
    """The operator on a tensor that is no leaf."""
    y = x * 1
    result = call(y)
    if not in_place:
        return result
    assert result is y
    return y


def through_view(x: Tensor, call: Callable, in_place: bool) -> Tensor:
    """The operator on the first half of a larger tensor."""
    whole = torch.cat([x.reshape(-1), x.reshape(-1) * 2])
    part = whole[: x.numel()].view(x.shape)
    if in_place:
        assert call(part) is part
        return whole
    result = call(part).to(x.dtype)
    return torch.cat([result.reshape(-1), whole[x.numel() :]])


def gradients(sample: Sample, run: Callable, call: Callable, in_place: bool) -> list[np.ndarray]:
    """The result and the gradients of all leaves, to second order where the sample has one."""
    torch.manual_seed(0)
    args, kwargs = arrays(sample, "float64")
    given, options = tensors(args), tensors(kwargs)
    leaves = [given[0].requires_grad_()]
    for declared, made in zip(flat(list(sample.inputs))[1:], flat(given)[1:], strict=True):
        if isinstance(declared, A) and declared.grad and made.dtype is torch.float64:
            leaves.append(made.requires_grad_())
    y = run(given[0], lambda x: call(x, *given[1:], **options), in_place)
    found = [y.detach()]
    if not y.requires_grad:
        return [*found, *[torch.zeros_like(x) for x in leaves]]
    weight = torch.linspace(0.5, 1.5, y.numel(), dtype=torch.float64).reshape(y.shape)
    second = sample.gradient and sample.second
    first = torch.autograd.grad(
        (y.to(torch.float64) * weight).sum(), leaves, create_graph=second, materialize_grads=True
    )
    found += first
    total = sum((g * g).sum() for g in first)
    if second and total.requires_grad:
        found += torch.autograd.grad(total, leaves, materialize_grads=True)
    return [x.detach().double().numpy() for x in found]


def fits(sample: Sample) -> bool:
    """Whether the out-of-place form keeps the shape, as an in-place form must."""
    args, kwargs = arrays(sample, "float64")
    result = function(sample)(*tensors(args), **tensors(kwargs))
    return tuple(result.shape) == args[0].shape


@pytest.mark.parametrize(("form", "place"), FORMS)
def test_gradient_is_that_of_the_form_out_of_place(form, place):
    sample = form.sample
    is_view = sample.name in VIEWS
    for call, run in itertools.product(published(form, place), (on_itself, through_view)):
        if is_view and run is through_view:
            continue  # the base does not change with the view's shape
        if not is_view and not fits(sample):
            with pytest.raises(RuntimeError, match="doesn't match|must match|should match"):
                gradients(sample, run, call, True)
            continue
        want = gradients(sample, run, function(sample), False)
        got = gradients(sample, run, call, True)
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("form", "place"), FORMS)
def test_leaves_are_not_written(form, place):
    args, kwargs = arrays(form.sample, "float64")
    for call in published(form, place):
        x, *others = tensors(args)
        before = x.clone()
        if form.name == "detach_":
            continue
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            call(x.requires_grad_(), *others, **tensors(kwargs))
        np.testing.assert_array_equal(x.detach().numpy(), before.numpy())


def test_every_in_place_method_is_met():
    named = {n for n in vars(Tensor) if n.endswith("_") and not n.startswith("_")}
    met = {form.name for form, _ in (p.values for p in FORMS)}
    integers = {s.name + "_" for s in SAMPLES if "float64" not in s.dtypes}
    assert named - met - set(WRITERS) - ELSEWHERE - integers == set()


# What PyTorch 2.13 does: the gradient of the content before is zero, not missing.
@pytest.mark.parametrize("name", WRITERS)
def test_writers(name):
    arguments, node = WRITERS[name]
    x = torch.rand(3, requires_grad=True)
    y = x * 1
    getattr(y, name)(*arguments)
    assert y.grad_fn.name() == node
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0, 0, 0]
    whole = x * 1
    getattr(whole[1:], name)(*[a[1:] if isinstance(a, Tensor) else a for a in arguments])
    assert whole.grad_fn.name() == "CopySlices"
    assert torch.autograd.grad(whole.sum(), x)[0].tolist() == [1, 0, 0]


def test_copies_in_files_of_graphs():
    """Files that were saved before 2026-11-21 do not say what wrote."""
    x = torch.ones(2, requires_grad=True)
    y = COPY(x * 1, torch.zeros(2))
    assert y.grad_fn.name() == "CopyBackwards"
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0, 0]


# PyTorch 2.13 saves a second operand as it is, also where it is the tensor that is written.
SELF = {
    "mul_": lambda y, x: y.mul_(y),
    "div_": lambda y, x: y.div_(y),
    "pow_": lambda y, x: y.pow_(y),
    "atan2_": lambda y, x: y.atan2_(y),
    "hypot_": lambda y, x: y.hypot_(y),
    "fmod_": lambda y, x: y.fmod_(y),
    "xlogy_": lambda y, x: y.xlogy_(y),
    "addcmul_": lambda y, x: y.addcmul_(y, x),
    "addcmul_2": lambda y, x: y.addcmul_(x, y),
    "addcdiv_": lambda y, x: y.addcdiv_(y, x),
    "addcdiv_2": lambda y, x: y.addcdiv_(x, y),
}


@pytest.mark.parametrize("name", SELF)
def test_another_operand_that_is_written_over_is_noticed(name):
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 1
    SELF[name](y, x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_an_input_that_counts_for_nothing_has_the_gradient_zero():
    x, a = torch.rand(2, 2, requires_grad=True), torch.rand(2, 2)
    y = torch.addmm(x, a, a, beta=0)
    assert y.grad_fn.name() == "AddmmBackward0"
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [[0, 0], [0, 0]]


# Values of PyTorch 2.13.
@pytest.mark.parametrize(
    ("program", "node"),
    [
        (lambda y: torch.nn.functional.leaky_relu(y, inplace=True), "LeakyReluBackward1"),
        (lambda y: torch.nn.functional.elu(y, inplace=True), "EluBackward1"),
        (lambda y: torch.nn.functional.threshold(y, 0.0, 1.0, inplace=True), "ThresholdBackward1"),
        (lambda y: torch.nn.functional.relu(y, inplace=True), "ReluBackward0"),
        (lambda y: y.acosh_(), "AcoshBackward1"),
        (lambda y: y.log1p_(), "Log1PBackward0"),
    ],
)
def test_names_of_nodes(program, node):
    assert program(torch.ones(2, requires_grad=True) * 2).grad_fn.name() == node


# -- saved through hooks ------------------------------------------------------------------------


def chain(x):
    y = (x * 1).sin_()
    return torch.nn.functional.leaky_relu(y * -2, 0.1, inplace=True).exp_()


@pytest.mark.parametrize("pack", [lambda t: t, lambda t: t.detach(), lambda t: (t,)])
def test_hooks_get_the_content_before(pack):
    x = torch.tensor([1.0, 2.0, 5.0], requires_grad=True)
    (want,) = torch.autograd.grad(chain(x).sum(), x)
    unpack = lambda p: p[0] if isinstance(p, tuple) else p  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = chain(x)
    assert torch.allclose(torch.autograd.grad(y.sum(), x)[0], want, rtol=1e-6)


# -- under transforms ---------------------------------------------------------------------------


def has_batches(sample: Sample) -> bool:
    """Whether the form has a rule for batches and draws nothing."""
    changes = sample.name not in VIEWS and fits(sample)
    return changes and sample.batch and "dropout" not in sample.name


@pytest.mark.parametrize("form", [p.values[0] for p in FORMS if has_batches(p.values[0].sample)])
def test_gradients_of_examples(form):
    """vmap(grad(f)) of a function that works in place: one gradient for each example."""
    args, kwargs = arrays(form.sample, "float64")
    x, *others = tensors(args)
    options = tensors(kwargs)

    def loss(x):
        y = x * 1
        form.call(y, *others, **options)
        return (y * y).sum()

    rows = torch.stack([x, x * 0.9])
    got = torch.func.vmap(torch.func.grad(loss))(rows)
    want = torch.stack([torch.func.grad(loss)(row) for row in rows])
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("transform", ["vmap", "jvp"])
def test_views_in_place(transform):
    x = torch.rand(2, 3, 4)

    def program(x):
        y = x * 2
        y.t_()
        y.unsqueeze_(0).squeeze_(0).transpose_(0, 1)
        return y.t_() * y.shape[0]

    if transform == "vmap":
        got = torch.vmap(program)(x)
        assert torch.equal(got, torch.stack([program(row) for row in x]))
    else:
        value, moved = torch.func.jvp(program, (x[0],), (x[1],))
        assert torch.equal(value, program(x[0])) and torch.equal(moved, x[1].t() * 8)


# -- compiled -----------------------------------------------------------------------------------

EAGER = VIEWS | {"masked_scatter"}  # which a compiled function leaves to eager mode, and says so
FIRST = {form.name: form for form, _ in (p.values for p in reversed(FORMS))}
COMPILED = [
    f for f in FIRST.values() if f.sample.gradient and f.sample.name not in EAGER and fits(f.sample)
]


@pytest.mark.skipif(not runtime.available(), reason="llvmlite is missing")
@pytest.mark.parametrize("part", range(4))
def test_compiled_programs(part):
    chosen = COMPILED[part::4]
    given = [tensors(arrays(f.sample, "float64")) for f in chosen]
    leaves = [args[0].requires_grad_() for args, _ in given]

    def program(*leaves):
        found = []
        for form, x, (args, kwargs) in zip(chosen, leaves, given, strict=True):
            y = x * 1
            form.call(y, *args[1:], **kwargs)
            found += torch.autograd.grad((y * y).sum(), x)
        return found

    compiled = torch.compile(program)
    for _ in range(3):
        torch.manual_seed(0)
        want = program(*leaves)
        torch.manual_seed(0)
        for form, g, w in zip(chosen, compiled(*leaves), want, strict=True):
            np.testing.assert_allclose(g.numpy(), w.numpy(), 1e-9, 1e-12, err_msg=form.name)
