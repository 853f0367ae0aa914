"""Compiled calls against the Python functions they stand for: same results, graphs and errors."""

import copy
import gc
import inspect
import math
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import lampion as torch
from lampion.compiler.calls import objects
from lampion.compiler.native import runtime
from lampion.core.graph import KNOWN, Node
from lampion.core.op import OPS
from lampion.core.tensor import Tensor
from lampion.ops import compiled_calls

pytestmark = pytest.mark.skipif(
    not (runtime.available() and objects.known_layout()), reason="needs llvmlite and CPython"
)


@pytest.fixture(scope="module", autouse=True)
def installed():
    if not compiled_calls.REPLACED:
        assert compiled_calls.install()


class Special(Tensor):
    pass


def tensors(seed=0):
    """Tensors of all kinds that calls meet, the same at each call."""
    rng = np.random.default_rng(seed)

    def made(*shape, dtype=torch.float32):
        return torch.from_numpy(rng.standard_normal(shape)).to(dtype)

    given = {
        "matrix": made(4, 4),
        "other": made(4, 4),
        "double": made(4, 4, dtype=torch.float64),
        "wide": made(3, 17),
        "tall": made(17, 3),
        "cube": made(2, 3, 4),
        "row": made(4),
        "column": made(4, 1),
        "number": made(),
        "empty": made(0, 4),
        "large": made(70, 70),
        "half": made(4, 4, dtype=torch.float16),
        "whole": torch.arange(16).reshape(4, 4),
        "truth": made(4, 4) > 0,
        "strided": made(4, 8)[:, ::2],
        "transposed": made(4, 4).t(),
        "nan": torch.tensor([[1.0, math.nan], [-0.0, -math.inf]]),
        "special": made(4, 4).as_subclass(Special),
    }
    for name in ("matrix", "double", "wide", "cube", "number", "large", "row"):
        given[f"{name} grad"] = given[name].clone().requires_grad_()
    given["parameter"] = torch.nn.Parameter(given["matrix"].clone())
    given["result"] = given["matrix grad"] * 2
    return given


NAMES = list(tensors())
F = "functional"
CALLS = {
    **{name: ("torch", name) for name in ("neg", "relu", "exp", "log", "tanh", "sqrt", "abs")},
    "sum": ("torch", "sum"),
    "mean": ("Tensor", "mean"),
}
PAIRS = {name: ("torch", name) for name in ("add", "sub", "mul", "div", "maximum", "matmul")}
OPERATORS = ["__add__", "__radd__", "__rsub__", "__mul__", "__truediv__", "__matmul__"]
PAIRS |= {name: ("Tensor", name) for name in OPERATORS}
PARTNERS = ["other", "double", "row", "number", "transposed", "tall", "matrix grad", "parameter"]
NUMBERS = [2.0, 2, 0.0, -0.0, True, math.nan, 1 << 80, 2j, None, "x"]


def native(place):
    """The compiled call at a place."""
    space, name = place
    owner = Tensor if space == "Tensor" else sys.modules[compiled_calls.MODULES[space]]
    return vars(owner)[name]


def outcome(function, args, kwargs):
    """What a call gives, or the error it raises."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)


def check(place, make_args, **kwargs):
    """Both functions on the same arguments."""
    ours, theirs = make_args(), make_args()
    found = outcome(native(place), ours, kwargs)
    wanted = outcome(compiled_calls.REPLACED[place], theirs, kwargs)
    same_result(found, wanted, ours, theirs)


def same_result(found, wanted, ours=(), theirs=()):
    """Equal results, and equal gradients of the arguments, twice over."""
    assert type(found) is type(wanted)
    if not isinstance(wanted, Tensor):
        assert found == wanted
        return
    assert found.dtype is wanted.dtype and found.shape == wanted.shape
    assert found.stride() == wanted.stride() and found.is_leaf == wanted.is_leaf
    same_numbers(found, wanted)
    assert found.requires_grad == wanted.requires_grad
    assert found._is_view() == wanted._is_view() and found._version == wanted._version
    assert (found._storage is None) == (wanted._storage is None)
    if wanted._is_view():
        assert found._view[1:] == wanted._view[1:]
    if wanted.grad_fn is None or wanted.is_complex():
        return
    assert found.grad_fn.name() == wanted.grad_fn.name()
    nodes = [getattr(t.grad_fn, "node", t.grad_fn) for t in (found, wanted)]
    assert nodes[0].params == nodes[1].params
    assert [e is None for e, _ in found.grad_fn.next_functions] == [
        e is None for e, _ in wanted.grad_fn.next_functions
    ]
    leaves = [leaves_of(args) for args in (ours, theirs)]
    grads = [
        torch.autograd.grad((y * y).sum(), x, create_graph=True)
        for y, x in zip((found, wanted), leaves, strict=True)
    ]
    for g, h in zip(*grads, strict=True):
        same_numbers(g, h)
    sums = [sum((g * g).sum() for g in both) for both in grads]
    if sums[1].requires_grad:
        twice = [
            torch.autograd.grad(s, x, retain_graph=True, allow_unused=True)
            for s, x in zip(sums, leaves, strict=True)
        ]
        for g, h in zip(*twice, strict=True):
            assert (g is None) == (h is None)
            if g is not None:
                same_numbers(g, h, scaled=True)


def leaves_of(args):
    """The leaves that require grad behind the arguments."""
    listed = [t for a in args for t in (a if isinstance(a, (list, tuple)) else [a])]
    found = {}
    for t in listed:
        if isinstance(t, Tensor) and t.requires_grad:
            leaf = t if t.is_leaf else t.grad_fn.next_functions[0][0].variable
            found[id(leaf)] = leaf
    return list(found.values())


def same_numbers(a, b, scaled=False):
    """Equal but for rounding: of each, or of the largest, of which others are differences."""
    x, y = a.detach().numpy(), b.detach().numpy()
    tolerance = 2e-5 if x.dtype == np.float32 else 1e-12
    largest = np.abs(y[np.isfinite(y)]).max(initial=1) if scaled else 1
    np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


@pytest.mark.parametrize("name", CALLS)
def test_one_input(name):
    for kind in NAMES:
        check(CALLS[name], lambda kind=kind: (tensors()[kind],))
    for wrong in ((), (3,), (None,), (np.zeros(2),)):
        if CALLS[name][0] == "torch":
            check(CALLS[name], lambda wrong=wrong: wrong)


@pytest.mark.parametrize("name", PAIRS)
def test_two_inputs(name):
    for kind in NAMES:
        for partner in PARTNERS:
            check(PAIRS[name], lambda: [tensors()[k] for k in (kind, partner)])
    for kind in ("matrix", "double grad", "whole", "number grad"):
        for number in NUMBERS:
            check(PAIRS[name], lambda: (tensors()[kind], number))


def test_keywords():
    given = tensors()
    a, b = given["matrix"], given["other"]
    same_result(torch.add(input=a, other=b), a + b)
    same_result(torch.add(a, b, alpha=2), a + b * 2)
    same_result(torch.nn.functional.softmax(a, dim=1), torch.softmax(a, 1))
    with pytest.raises(TypeError):
        torch.add(a, other=b, input=a)
    with pytest.raises(TypeError):
        torch.add(a, b, wrong=1)


INDICES = [
    0, -1, 3, 4, -5, slice(1, 3), slice(None), slice(-2, None), slice(3, 1), slice(0, 99), None,
    ..., slice(0, 4, 2), (0, 1), (slice(None), 1), (1, slice(1, 3)), (0, 9), (0, 0, 0, 0), (..., 0),
    True, (slice(1, 3), slice(0, 2)), (), [0, 1], slice("a", None), 1.5, 1 << 70,
    (0, 1 << 70), (None, 0), (slice(None), None), (..., None), (None, ..., 1), (..., ...),
    slice(None, None, 2), slice(1, None, 3), slice(None, None, -1), slice(None, None, 0),
    (slice(None, None, 2), 1), (..., slice(None, None, 2)), (slice(0, 4, 2), None), (None,),
    (slice(None, None, "x"),), (..., 0, 0, 0, 0), (None, None, slice(1, 2), ...),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_brackets(index):
    for kind in NAMES:
        check(("Tensor", "__getitem__"), lambda kind=kind: (tensors()[kind], index))


SIZES = [
    (16,), (2, 8), (-1,), (2, -1), (-1, 3), (3, -1), (-1, -1), (0, 4), (-1, 0), ((4, 4),),
    ([2, 8],), (torch.Size([8, 2]),), (), ((),), (1 << 70,), (2.0, 8), (-2, 8),
    (torch.float64,), (True, 16),
    (2, 2, 2, 2), (1,) * 9,
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES, ids=repr)
@pytest.mark.parametrize("place", [("Tensor", "view"), ("Tensor", "reshape"), ("torch", "reshape")])
def test_sizes(place, sizes):
    for kind in NAMES:
        check(place, lambda kind=kind: (tensors()[kind], *sizes))


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name):
    for kind in NAMES:
        for dim in (-1, 0, 1, 5, None, "a"):
            check((F, name), lambda: (tensors()[kind], dim))
    check((F, name), lambda: (tensors()["matrix grad"],), dim=-1, dtype=torch.float64)


def test_layer_norm():
    weights = [
        (None, None), ("row", "row"), ("row grad", "row grad"), ("row grad", None), (None, "row"),
        ("double", None), ("column", None),
    ]  # fmt: skip
    for kind in NAMES:
        for w, b in weights:

            def arguments(kind=kind, w=w, b=b):
                given = tensors()
                row = [None if n is None else given[n].detach().clone() for n in (w, b)]
                row = [r.requires_grad_() if n and "grad" in n else r for n, r in zip((w, b), row)]
                return given[kind], (given[kind].shape[-1:] or (1,))[0:1], *row

            check((F, "layer_norm"), arguments)
            check((F, "layer_norm"), arguments, eps=0.1)
    for shape in ((5,), (4, 4), [4], 4, ()):
        check((F, "layer_norm"), lambda shape=shape: (tensors()["matrix"], shape))


def test_cross_entropy():
    labels = [[0, 1, 2, 3], [3, 3, 0, 0], [0, 1, 2, 4], [0, 1, 2, -1], [0, -100, 2, 1], [0, 1]]
    options = [
        {}, {"reduction": "mean"}, {"reduction": "sum"}, {"reduction": "no"},
        {"ignore_index": -100}, {"ignore_index": 1}, {"label_smoothing": 0.1},
        {"label_smoothing": 0.0},
        {"size_average": 1},
    ]  # fmt: skip
    for kind in NAMES:
        for label in labels:
            check((F, "cross_entropy"), lambda: (tensors()[kind], torch.tensor(label)))
    for option in options:
        check((F, "cross_entropy"), lambda: (tensors()["matrix grad"], torch.arange(4)), **option)


def test_linear():
    for kind in NAMES:
        for weight in ("matrix", "double", "wide", "tall", "parameter", "strided", "row"):
            for bias in (None, "row", "row grad", "number"):

                def arguments(kind=kind, weight=weight, bias=bias):
                    given = tensors()
                    return given[kind], given[weight], bias and given[bias]

                check((F, "linear"), arguments)


def test_cat():
    lists = [
        ("matrix", "other"), ("matrix grad", "other"), ("matrix", "result", "parameter"), ("cube",),
        ("matrix", "wide"), ("matrix", "double"), ("row", "row"), ("whole", "whole"), ("number",),
        ("matrix", "strided"), ("empty", "matrix"), (), ("large grad", "large"), ("matrix",) * 40,
    ]  # fmt: skip
    for names in lists:
        for dim in (0, 1, -1, 7, 1.0):

            def arguments(names=names, dim=dim):
                given = tensors()
                return [given[n] for n in names], dim

            check(("torch", "cat"), arguments)
    check(("torch", "cat"), lambda: (tuple(tensors()[n] for n in ("matrix", "other")),))


def test_modes():
    """Compiled calls follow the switches of their thread, and interpreters get what is theirs."""
    x = torch.ones(3, requires_grad=True)
    assert (x + 1).requires_grad
    with torch.no_grad():
        assert not (x + 1).requires_grad and not x[0].requires_grad
        seen = []
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join()
        assert seen == [True]
        assert not (x + 1).requires_grad
    assert (x + 1).requires_grad
    with torch.inference_mode():
        assert (x + 1).is_inference()
    assert torch.func.vmap(lambda t: t + 1)(torch.zeros(2, 3)).shape == (2, 3)
    assert torch.func.grad(lambda t: (t * t).sum())(torch.ones(2)).tolist() == [2, 2]


def test_a_new_thread_does_not_inherit_what_is_known():
    def off():
        torch.set_grad_enabled(False)
        assert not (torch.ones(2, requires_grad=True) + 1).requires_grad

    x, seen = torch.ones(2, requires_grad=True), []
    for _ in range(50):  # a later thread may get the memory of an earlier one
        for target in (off, lambda: seen.append((x + 1).requires_grad)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert all(seen) and len(seen) == 50


def test_saved_tensors_are_watched():
    x = torch.ones(3, requires_grad=True)
    y = (x * 1).relu()
    y.mul_(2)
    with pytest.raises(RuntimeError, match="ReluBackward0.*mul_"):
        (y.sum()).backward()
    w = torch.ones(2, 2)
    z = torch.nn.functional.linear(x[None, :2], w)
    w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace"):
        z.sum().backward()


def test_in_place_through_compiled_views():
    x = torch.ones(4, requires_grad=True)
    y = x * 1
    view, other = y[1:3], y.view(2, 2)
    view.mul_(3)
    assert other.grad_fn.name() == "ViewBackward0" and y.grad_fn.name() == "CopySlices"
    other.sum().backward()
    assert x.grad.tolist() == [1, 3, 3, 1]


def test_short_views_leave_nothing_behind():
    x = torch.ones(4, 4)
    for _ in range(1000):
        x[1]
    assert len(x._storage.views) <= 2
    kept = [x[i % 4] for i in range(100)]
    assert len([v for v in x._storage.views if v() is not None]) == len(kept)


def each_call():
    """One of every compiled call, recorded and not."""
    given = tensors()
    a, g, row = given["matrix"], given["matrix grad"], given["row grad"]
    labels, functional, target = torch.arange(4), torch.nn.functional, torch.ones(3)
    for x in (a, g):
        yield from (
            lambda x=x: x + a, lambda x=x: x * 2.0, lambda x=x: torch.relu(x), lambda x=x: x.exp(),
            lambda x=x: x[1], lambda x=x: x[1:3, 0], lambda x=x: x.view(2, 8), lambda x=x: x @ a,
            lambda x=x: torch.cat([x, a]), lambda x=x: functional.softmax(x, -1),
            lambda x=x: functional.layer_norm(x, (4,), row, row), lambda x=x: x.sum(),
            lambda x=x: functional.cross_entropy(x, labels),
            lambda x=x: functional.linear(x, a, row), lambda: torch.zeros(3),
            lambda: torch.rand(3, 4), lambda: torch.randn(20), lambda: target.add_(1.0),
        )  # fmt: skip
        yield from newer_calls(x, given)


def newer_calls(x, given):
    """Reductions, views, choices, products, joins, lookups, losses, conversions, creation."""
    a, row, cube, truth = given["matrix"], given["row grad"], given["cube grad"], given["truth"]
    labels, functional, table = torch.arange(4), torch.nn.functional, torch.tensor([[0], [1]])
    turned = cube.detach().transpose(1, 2)
    yield from (
        lambda: x.sum(1), lambda: x.mean(0, keepdim=True), lambda: x.max(), lambda: x.max(1),
        lambda: x.argmax(1), lambda: truth.any(), lambda: x.amin(1), lambda: truth.sum(),
        lambda: x.transpose(0, -1), lambda: x.t(), lambda: x.permute(1, 0), lambda: x.squeeze(),
        lambda: x.unsqueeze(1), lambda: x.expand(2, 4, 4), lambda: x.flatten(),
        lambda: x.detach(), lambda: a.split(2), lambda: a.chunk(2, 1), lambda: a.unbind(1),
        lambda: x > 0, lambda: x == a, lambda: x.sigmoid(), lambda: functional.gelu(x),
        lambda: functional.leaky_relu(x, 0.1), lambda: functional.elu(x), lambda: x.clamp(0, 1.0),
        lambda: x.clamp(min=0.0), lambda: x.masked_fill(truth, 0.0),
        lambda: torch.where(truth, x, 0.0), lambda: cube @ turned, lambda: torch.bmm(cube, turned),
        lambda: functional.linear(cube, a, row), lambda: torch.stack([x, a], 1),
        lambda: functional.embedding(labels, x), lambda: x.index_select(1, labels),
        lambda: x.gather(1, table), lambda: x.softmax(-1), lambda: functional.mse_loss(x, a),
        lambda: functional.nll_loss(x, labels), lambda: x.clone(), lambda: x.double(),
        lambda: truth.float(), lambda: x[1, 1].item(), lambda: torch.zeros(2, dtype=torch.int64),
        lambda: torch.full((2,), 0.5), lambda: torch.empty(3, device="cpu"),
        lambda: torch.arange(5), lambda: torch.tensor([1.0, 2.0], requires_grad=True),
        lambda: torch.tensor(3), lambda: torch.ones_like(x), lambda: torch.randperm(5),
        lambda: torch.randn_like(x), lambda: torch.randint(5, (3,)), lambda: a.uniform_(),
        lambda: functional.dropout(x, 0.5),
    )  # fmt: skip


def test_nothing_leaks():
    """Objects, memory and references to what all calls share."""
    shared = [None, True, False, 0, 16, Tensor, np.ndarray, np.dtype(np.float32)]

    def attempt(call, times):
        for _ in range(times):
            call()

    def failing():
        with pytest.raises(RuntimeError):
            torch.ones(4, 4) + torch.ones(3)

    def backward():
        x = torch.ones(3, requires_grad=True)
        (x * 2 / x).tanh().relu().sum().backward()

    for call in (*each_call(), failing, backward):
        attempt(call, 20)
        gc.collect()
        tracemalloc.start()
        attempt(call, 20)
        counts, memory = [sys.getrefcount(s) for s in shared], tracemalloc.get_traced_memory()[0]
        attempt(call, 600)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - memory
        tracemalloc.stop()
        assert grown < 1000, call.__code__.co_names
        for before, thing in zip(counts, shared, strict=True):
            assert abs(sys.getrefcount(thing) - before) < 100, thing


def test_small_calls_enter_no_python():
    """What makes them fast, counted: no Python function runs."""
    for call in each_call():
        entered = []
        sys.setprofile(lambda frame, event, arg: entered.append(frame) if event == "call" else None)
        try:
            call()
        finally:
            sys.setprofile(None)
        names = [frame.f_code.co_name for frame in entered]
        assert [n for n in names if n not in ("prune", "<listcomp>")] == ["<lambda>"]


def test_after_fork():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        x = torch.ones(3, requires_grad=True)
        os.write(writer, str((x * 2).sum().item()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"6.0"


def test_mode_is_read_again_after_each_change():
    torch.ones(2) + 1
    assert KNOWN[0] != 0
    with torch.no_grad():
        assert KNOWN[0] == 0


IN_PLACE = {
    "add_": [(2.0,), (2,), (0.0,), ("other",), ("row",), ("number",), ("other", 0.5), (3, 2)],
    "sub_": [(2.0,), ("other",), ("other", 0.5)],
    "mul_": [(2.0,), ("other",), ("matrix grad",), (True,), ("double",), ("x",)],
    "div_": [(2,), ("other",), ("whole",)],
    "fill_": [(2.0,), (2,), ("number",), (math.nan,), (None,)],
    "zero_": [()],
    "clamp_": [(0.5,), (0,), (-1.0,), (math.nan,), (None,), ("other",), ("x",)],
    "copy_": [("other",), ("double",), ("row",), ("strided",), (1.0,), ("matrix grad",), ("wide",)],
}


def changed(function, kind, others, no_grad):
    """What a call in place gives and leaves behind."""
    given = tensors()
    tensor = given[kind]
    args = [given.get(o, o) for o in others[:1]]
    options = {"alpha": others[1]} if len(others) > 1 else {}
    with torch.set_grad_enabled(not no_grad):
        result = outcome(function, (tensor, *args), options)
    if isinstance(result, Tensor):
        assert result is tensor
        result = None
    name = tensor.grad_fn and tensor.grad_fn.name()
    storage = tensor._storage
    writer = storage and storage.writer and (storage.writer[0], storage.writer_line()[1][-13:])
    numbers = tensor.detach().numpy().tolist()
    return result, numbers, name, tensor._version, tensor.requires_grad, writer


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name):
    place = ("Tensor", name)
    for kind in NAMES:
        for others in IN_PLACE[name]:
            for no_grad in (False, True):
                found = changed(native(place), kind, others, no_grad)
                wanted = changed(compiled_calls.REPLACED[place], kind, others, no_grad)
                np.testing.assert_equal(found, wanted)


def test_in_place_where_memory_is_shared():
    for make in (
        lambda x: x[1:].add_(x[:-1]), lambda x: x.mul_(x[2]), lambda x: x.add_(x),
        lambda x: x[:2].copy_(x[1:3]), lambda x: x.expand(2, 6).add_(1.0),
    ):  # fmt: skip
        x, y = torch.arange(6.0), torch.arange(6.0)
        outcome(make, (x,), {})
        with_python(lambda: outcome(make, (y,), {}))
        assert x.tolist() == y.tolist()
    with torch.inference_mode():
        made = torch.ones(3)
    with pytest.raises(RuntimeError, match="inference"):
        made.add_(1.0)


def with_python(call):
    """Runs a call with the Python functions in place."""
    for place in IN_PLACE:
        setattr(Tensor, place, compiled_calls.REPLACED[("Tensor", place)])
    try:
        call()
    finally:
        compiled_calls.install()


def test_the_line_that_wrote_is_found():
    x = torch.ones(3, requires_grad=True)
    y = torch.ones(3)
    z = x * y
    y.add_(1.0)
    with pytest.raises(RuntimeError, match=r"`add_` changed it at .*test_calls\.py:\d+") as error:
        z.sum().backward()
    line = int(str(error.value).split("test_calls.py:")[1].split(";")[0])
    assert line == sys._getframe().f_lineno - 4


SHAPES = [(4, 4), ((2, 3),), ([17],), (torch.Size([40]),), (0,), (3, 0), (-1,), (), ((),), (5000,)]
SHAPES += [(2.0,), ("x",), (True,), (31,), (4095,)]


@pytest.mark.parametrize("name", ["zeros", "ones", "rand", "randn"])
def test_new_tensors(name):
    place = ("torch", name)
    for shape in SHAPES:
        for options in ({}, {"dtype": torch.float64}, {"requires_grad": True}):
            found = []
            for function in (native(place), compiled_calls.REPLACED[place]):
                torch.manual_seed(5)
                found.append(outcome(function, shape, options))
                found.append(torch.rand(3))  # as many words were taken
            same_result(found[0], found[2])
            same_numbers(found[1], found[3])


def test_new_tensors_of_another_default_type():
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.zeros(2).dtype is torch.float64 and torch.rand(2).dtype is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_draws_in_threads():
    """The engine's lock is respected: each word is drawn once."""
    torch.manual_seed(0)
    found = [[] for _ in range(4)]

    def draw(into):
        for _ in range(200):
            into.extend(torch.rand(20).tolist())

    threads = [threading.Thread(target=draw, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.manual_seed(0)
    assert sorted(sum(found, [])) == sorted(torch.rand(16000).tolist())


PROGRAM = """
import sys, lampion
def kind():
    return type(lampion.add).__name__
before = kind()
x = lampion.ones(2, requires_grad=True)
for _ in range(200):
    (x * 2).sum().backward()
print(before, kind(), "llvmlite" in sys.modules)
"""


@pytest.mark.parametrize(
    "setting, kinds",
    [
        ("", "function builtin_function_or_method True"),
        ("1", "builtin_function_or_method builtin_function_or_method True"),
        ("0", "function function False"),
    ],
)
def test_when_calls_are_compiled(setting, kinds):
    environment = {**os.environ, "LAMPION_NATIVE": setting}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == kinds


def test_unknown_layouts_keep_python(monkeypatch):
    monkeypatch.setattr(objects, "known_layout", lambda: False)
    before = torch.add
    assert compiled_calls.install() is False
    assert torch.add is before


STEPS = ["add", "sub", "mul", "div", "rsub", "maximum", "neg", "relu", "exp", "log", "sin", "cos",
         "tanh", "sqrt", "sigmoid", "abs"]  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_backward_steps(name):
    """`Node.gradients` compiled and in Python, on the same node."""
    ours, theirs = Node.gradients, compiled_calls.REPLACED[("Node", "gradients")]
    for kind in ("matrix", "double", "wide", "cube", "number", "large", "row", "nan", "half"):
        for partner in ("same", "row", "number", 2.0, "strided"):
            given = tensors()
            x = given[kind].detach().clone().requires_grad_()
            other = {"same": x * 1.5, 2.0: 2.0}.get(partner)
            other = given[partner] if other is None else other
            binary = len(OPS[name].inputs) == 2
            function = (lambda a, b: b - a) if name == "rsub" else getattr(torch, name)
            try:
                y = function(x, other) if binary else function(x)
            except RuntimeError:
                continue  # shapes that do not fit
            for g in (torch.ones_like(y), torch.randn(y.shape).to(y.dtype), given["strided"]):
                with torch.no_grad():
                    results = [outcome(f, (y.grad_fn, g), {}) for f in (ours, theirs)]
                assert len(results[0]) == len(results[1])
                for found, wanted in zip(*results, strict=True):
                    if isinstance(wanted, Tensor):
                        assert found.dtype is wanted.dtype and found.shape == wanted.shape
                        same_numbers(found, wanted)
                    else:
                        assert found == wanted


def test_backward_steps_see_writes():
    x = torch.ones(3, requires_grad=True)
    w = torch.ones(3)
    y = x * w
    w.add_(1.0)
    with pytest.raises(RuntimeError, match=r"MulBackward0.*`add_`"):
        y.sum().backward()
    z = (x * 2).exp()
    z.sum().backward()
    with pytest.raises(RuntimeError, match="second time"):
        z.sum().backward()
    a = torch.ones(3, requires_grad=True)
    b = (a * 2).exp()
    kept = b.detach()
    kept.mul_(2)  # the same memory
    with pytest.raises(RuntimeError, match="ExpBackward0"):
        b.sum().backward()


def test_gradients_are_not_shared():
    a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    (a + b).sum().backward()
    a.grad.mul_(5)
    assert b.grad.tolist() == [1, 1, 1]
    g = torch.ones(3)
    c = torch.ones(3, requires_grad=True)
    (c + b).backward(g)
    c.grad.mul_(7)
    assert g.tolist() == [1, 1, 1] and b.grad.tolist() == [2, 2, 2]


def test_products_round_as_those_of_blas():
    rng = np.random.default_rng(3)
    for n, k, m in [(2, 1, 2), (4, 4, 4), (5, 8, 3), (16, 7, 9), (3, 8, 64)]:
        for dtype in (torch.float32, torch.float64):
            x, w, b = [
                torch.from_numpy(rng.standard_normal(shape)).to(dtype)
                for shape in ((n, k), (m, k), (m,))
            ]
            for place, args in (((F, "linear"), (x, w, b)), (("torch", "matmul"), (x, w.t() + 0))):
                found = native(place)(*args)
                assert torch.equal(found, compiled_calls.REPLACED[place](*args))


def test_functions_look_like_themselves():
    for place, python in compiled_calls.REPLACED.items():
        found = native(place) if place[0] != "Node" else Node.gradients
        assert found.__name__ == place[1]
        listed = [list(inspect.signature(f).parameters) for f in (found, python)]
        assert listed[0] == listed[1]
        if place[0] not in ("Tensor", "Node"):
            assert pickle.loads(pickle.dumps(found)) is found and copy.deepcopy(found) is found


WRITTEN = """
import hashlib
from lampion.compiler.native import runtime
from lampion.ops import compiled_calls

def shown(text):
    print(hashlib.sha256(text.encode()).hexdigest())
    raise SystemExit

runtime.load = shown
compiled_calls.install()
"""


def test_the_code_is_the_same_in_every_process():
    """Else each would compile it anew: sets have no order that lasts."""
    texts = set()
    for seed in ("1", "2", "3"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "LAMPION_NATIVE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", WRITTEN], env=environment, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        texts.add(done.stdout)
    assert len(texts) == 1 and len(texts.pop().strip()) == 64
