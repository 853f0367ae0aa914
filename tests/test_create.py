"""Creation, conversion and random tensors against PyTorch 2.13, expression by expression.

Each expression runs with Lampion as `torch`; its type, shape, strides and values must be those that
PyTorch gave. `python tests/test_create.py` (needs PyTorch) writes `golden/create.json` anew.
"""

import itertools
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import lampion

GOLDEN = Path(__file__).parent / "golden" / "create.json"
FLOATS = ["float16", "bfloat16", "float32", "float64"]
SPECIAL = "[0., -0., 1.5, -1.5, 2.5, 127.9, -128.9, 300., -300., 7e4, 3e9, -3e9, 1e19, 1e30, 1 / 3]"
LAYOUTS = [
    "torch.zeros(5, 7)",
    "torch.zeros(7, 5).t()",
    "torch.zeros(3, 4, 5).permute(2, 0, 1)",
    "torch.zeros(6, 8)[:, ::2]",
    "torch.zeros(4, 1, 5).permute(2, 1, 0)",
    "torch.zeros(3, 1).expand(3, 4).t()",
    "torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)",
    "torch.zeros(0, 3)",
    "torch.zeros(())",
]
DRAWS = [
    "torch.rand_like({})",
    "torch.randn_like({})",
    "torch.randint_like({}, 3, 9)",
    "torch.bernoulli({} + 0.3)",
    "{}.clone().random_(9)",
    "{}.clone().exponential_()",
    "{}.clone().geometric_(0.3)",
    "torch.nn.functional.dropout({} + 1, 0.3)",
    "torch.nn.functional.alpha_dropout({} + 1, 0.3, True)",
]


VMAP = "torch.vmap(lambda v: {}, randomness='{}')(torch.linspace(0, 1, 12).reshape(3, 4))"
VMAPPED = [
    "torch.rand(2) + v[0]",
    "torch.randn(3) + v[0]",
    "torch.randperm(5) + v[0]",
    "torch.nn.functional.dropout(v)",
    "v.clone().normal_()",
    "torch.bernoulli(v)",
    "torch.poisson(9 * v)",
    "torch.normal(v)",
    "torch.multinomial(1 + v, 2)",
    "torch.vmap(lambda w: torch.rand(2) + w, randomness='different')(v)",
]


def expressions():
    """All that is compared."""
    yield from """torch.tensor([[1, 2], [3, 4]])
torch.tensor([1, 2.5, True])
torch.tensor([True, False])
torch.tensor(3.5)
torch.tensor([[], []])
torch.tensor([1 + 2j])
torch.tensor([np.float32(1), 2.0])
torch.tensor([np.int16(1), 2])
torch.tensor([torch.tensor(1.0), torch.tensor(2, dtype=torch.float64)])
torch.tensor([torch.tensor([1]), torch.tensor([3])])
torch.tensor(range(3))
torch.tensor([-1], dtype=torch.uint8)
torch.tensor([2**63], dtype=torch.uint64)
torch.tensor([2], dtype=torch.bool)
torch.tensor([7e4], dtype=torch.float16)
torch.tensor(np.arange(6, dtype=np.int16).reshape(2, 3).T)
torch.tensor(bytearray(b"ab"))
torch.as_tensor(np.float32(1))
torch.asarray(b"abcd", dtype=torch.uint8)
torch.frombuffer(bytearray(b"abcdefgh"), dtype=torch.int16, count=2, offset=2)
torch.full((2, 3), True)
torch.full((2,), 3)
torch.full((), 2.5 + 1j)
torch.full_like(torch.ones(2, dtype=torch.int64), 1.5)
torch.zeros(2, 3, out=torch.empty(0))
torch.empty_strided((2, 3), (1, 2)).fill_(1)
torch.empty_permuted((2, 3, 5), (1, 2, 0)).fill_(1)
torch.ones(2, 3).new_tensor([1, 2])
torch.ones(2, dtype=torch.int64).new_full((2,), 1.5)
torch.ones(2, dtype=torch.int64).new([3, 4])
torch.eye(2, 3, dtype=torch.bool)
torch.arange(5)
torch.arange(1, 6, 2)
torch.arange(5, 1, -1)
torch.arange(0.5, 2.7, 1, dtype=torch.int64)
torch.arange(300, dtype=torch.uint8)
torch.arange(2**62, 2**62 + 3)
torch.linspace(10, 0, 4, dtype=torch.uint8)
torch.linspace(-10, 7, 13, dtype=torch.int64)
torch.linspace(3, 3, 1)
torch.linspace(0, 1, 0)
torch.logspace(0, 3, 7, dtype=torch.int64)
torch.Tensor([[1, 2], [3, 4]])
torch.Tensor(torch.tensor([1, 2]))
torch.Tensor(np.array([1.0, 2.0]))
torch.LongTensor([1.5, 2])
torch.BoolTensor([1, 0])
torch.HalfTensor([1, 2])
torch.ones(2, dtype=torch.int64).copy_(torch.tensor([1.7, -2.2]))
torch.zeros(2, 3).copy_(torch.arange(3))
torch.tensor([1 + 2j]).bool()
torch.ones(2, 3).t().clone()
torch.ones(2, 3, 4, 5).clone(memory_format=torch.channels_last)
torch.ones(1, 2, 3, 4).to(memory_format=torch.channels_last)
torch.zeros(3).apply_(lambda x: x + 2)
torch.ones(2, 3).map_(torch.arange(3.0), lambda a, b: a - b)
np.sin(torch.zeros(2))
np.isfinite(torch.zeros(2))
torch.randint(5, (9,))
torch.randint(-3, 2**40, (3,))
torch.randint(0, 2, (5,), dtype=torch.bool)
torch.randperm(9)
torch.normal(2.0, 3.0, (5,))
torch.normal(torch.zeros(3, 1), torch.ones(2))
torch.normal(torch.arange(4.0))
torch.multinomial(torch.arange(1.0, 9), 3)
torch.multinomial(torch.arange(1.0, 25).reshape(3, 8), 4, True)
torch.poisson(torch.arange(30.0))
torch.binomial(torch.arange(20.0), torch.full((20,), 0.3))
torch.empty(5, 7).bernoulli_(torch.linspace(0, 1, 7))
torch.zeros(6, 8)[:, :4].normal_()
torch.rand(4, generator=torch.Generator().manual_seed(5))
torch.rand(3, dtype=torch.complex64)
torch.randn(3, dtype=torch.complex64)
torch.nn.functional.dropout1d(torch.ones(3, 4), 0.4)
torch.nn.functional.dropout2d(torch.ones(3, 4, 2, 2), 0.4)
torch.nn.functional.dropout3d(torch.ones(3, 4, 1, 2, 2), 0.4)
torch.nn.functional.feature_alpha_dropout(torch.ones(3, 4, 2), 0.4, True)""".splitlines()
    for call in VMAPPED:
        for randomness in ("different", "same"):
            if randomness == "different" or "rand" in call and "lambda" not in call:
                yield VMAP.format(call, randomness)
    for kind in FLOATS:
        for call in (
            "arange(-0.3, 7.1, 0.17",
            "linspace(-1.3, 2.9, 45",
            "rand(20",
            "randn(5",
            "randn(21",
        ):
            yield f"torch.{call}, dtype=torch.{kind})"
        yield f"torch.nn.functional.dropout(torch.arange(20.0).to(torch.{kind}), 0.3)"
    for base in (10.0, 1.7):
        yield f"torch.logspace(-1.3, 2.9, 25, base={base}, dtype=torch.float64)"
    for kind in ["int8", "uint8", "int16", "int32", "int64", "bool", *FLOATS]:
        yield f"torch.tensor({SPECIAL}, dtype=torch.float64).to(torch.{kind})"
        yield f"torch.tensor({SPECIAL}).to(torch.{kind})"
        yield f"torch.tensor([0, 1, -1, 200, -200, 70000, 2**40 + 3]).to(torch.{kind})"
    for layout in LAYOUTS:
        yield f"torch.ones_like({layout})"
        yield f"{layout}.clone()"
    for layout, draw in itertools.product(LAYOUTS, DRAWS):
        if "expand" not in layout or "_like" in draw:
            yield draw.format(layout)


def outcome(torch, expression):
    """What an expression gives after seed 0: type, shape, strides, values and the next random
    number.
    """
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = eval(expression, {"torch": torch, "np": np})
    wide = torch.float64 if result.dtype.is_floating_point else result.dtype
    values = result.detach().to(wide).numpy()
    if values.dtype.kind == "c":
        values = np.stack([values.real, values.imag], -1).astype(np.float64)
    shape, stride = list(result.shape), list(result.stride())
    following = torch.rand(1, dtype=torch.float64).item()
    return [str(result.dtype), shape, stride, values.reshape(-1).tolist(), following]


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("expression", list(dict.fromkeys(expressions())))
def test_as_pytorch(golden, expression):
    got, want = outcome(lampion, expression), golden[expression]
    assert got[:3] == want[:3]
    assert got[4] == want[4], "another number of random draws"
    exact = "float64" not in expression or "rand" not in expression  # libm decides the last bit
    np.testing.assert_allclose(got[3], want[3], rtol=0 if exact else 1e-14, atol=0)


ERRORS = [
    ("tensor([[1, 2], 3])", TypeError, "rows and numbers"),
    ("tensor([[1], [2, 3]])", ValueError, r"expected sequence of length 1 at dim 1 \(got 2\)"),
    ("tensor({1, 2})", RuntimeError, "Could not infer dtype of set"),
    ("tensor([1e10], dtype=torch.int32)", RuntimeError, "without overflow"),
    ("tensor([float('nan')], dtype=torch.int64)", RuntimeError, "without overflow"),
    ("tensor([1j], dtype=torch.float32)", TypeError, "must be real number, not complex"),
    ("tensor([1], requires_grad=True)", RuntimeError, "floating point"),
    ("tensor([1.0], pin_memory=True)", RuntimeError, "pinned memory"),
    ("tensor(1.0, device='cuda')", AssertionError, "not compiled with CUDA"),
    ("from_numpy([1])", TypeError, r"expected np.ndarray \(got list\)"),
    ("from_numpy(np.arange(3)[::-1])", ValueError, "negative"),
    ("from_numpy(np.array(['a']))", TypeError, "can't convert np.ndarray of type numpy.str_"),
    ("from_numpy(np.array([1], '>f4'))", ValueError, "byte order"),
    ("frombuffer(bytearray(3), dtype=torch.int16)", ValueError, "multiple of element size"),
    ("frombuffer(bytearray(2), dtype=torch.int16, offset=2)", ValueError, "offset"),
    ("asarray([1], copy=False)", ValueError, "can't alias"),
    ("full((2,), 1e40)", RuntimeError, "without overflow"),
    ("full((2,), torch.ones(2))", TypeError, "must be Number, not Tensor"),
    ("zeros(2, dtype=np.float32)", TypeError, "must be torch.dtype, not type"),
    ("zeros_like([1])", TypeError, "must be Tensor, not list"),
    ("zeros(2, 3, layout=torch.sparse_coo)", NotImplementedError, "strided"),
    ("zeros(2, out=torch.empty(0), dtype=torch.int64)", RuntimeError, "does not match dtype"),
    ("arange(5, dtype=torch.bool)", NotImplementedError, "arange_cpu"),
    ("linspace(torch.ones(1), 1, 3)", RuntimeError, "0-dimensional"),
    ("linspace(0, 1j, 3, dtype=torch.float32)", RuntimeError, "can't be safely cast"),
    ("empty(2, 3, memory_format=torch.channels_last)", RuntimeError, "required rank 4"),
    ("ones(2).to(torch.ones(1), torch.float32)", TypeError, "invalid combination"),
    ("ones(2).type('FloatTensor')", ValueError, "invalid type"),
    ("ones(2, requires_grad=True).numpy()", RuntimeError, "requires grad"),
    ("ones(2, requires_grad=True).apply_(abs)", RuntimeError, "Can't call apply_"),
    ("ones(2).map_(torch.ones(2).double(), max)", TypeError, "expected torch.FloatTensor"),
    ("ones(2).bfloat16().numpy()", TypeError, "unsupported ScalarType"),
    ("ones(2).pin_memory()", RuntimeError, "none is available"),
    ("Tensor(2.0)", TypeError, "must be a sequence"),
    ("LongTensor(torch.ones(2))", TypeError, "expects a tensor of torch.int64"),
    ("cuda.FloatTensor(2)", TypeError, "not available"),
    ("ones(2).copy_(torch.ones(3))", RuntimeError, "cannot broadcast"),
    ("set_rng_state(torch.zeros(3))", TypeError, "ByteTensor"),
    ("rand(2, generator=3)", TypeError, "must be torch.Generator"),
    ("ones(2, requires_grad=True).normal_()", RuntimeError, "leaf"),
    ("nn.functional.dropout(torch.ones(2, dtype=torch.int64))", RuntimeError, "convert the input"),
]


@pytest.mark.parametrize(("expression", "error", "message"), ERRORS)
def test_errors(expression, error, message):
    with pytest.raises(error, match=message):
        eval(f"torch.{expression}", {"torch": lampion, "np": np})


def test_from_numpy_shares_memory_both_ways():
    array = np.arange(6.0).reshape(2, 3)
    tensor = lampion.from_numpy(array)
    tensor.add_(1)
    assert array[1, 2] == 6
    array[0, 0] = -1
    assert tensor[0, 0].item() == -1
    assert np.shares_memory(tensor.numpy(), array)


def test_a_slice_owns_only_what_it_spans():
    array = np.arange(100, dtype=np.float32).reshape(10, 10)
    tensor = lampion.from_numpy(array[2:4, ::2])
    assert tensor.storage_offset() == 0 and tensor.stride() == (10, 2)
    assert tensor.untyped_storage().nbytes() == 4 * 19


def test_read_only_arrays_warn_and_cannot_be_written():
    array = np.zeros(3)
    array.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        tensor = lampion.from_numpy(array)
    with pytest.raises(RuntimeError, match="read-only"):
        tensor.add_(1)


def test_dlpack_shares_memory_both_ways():
    tensor = lampion.arange(4.0)
    assert np.shares_memory(np.from_dlpack(tensor), tensor.numpy())
    back = lampion.from_dlpack(lampion.to_dlpack(tensor))
    back[0] = 7
    assert tensor[0].item() == 7
    assert lampion.from_dlpack(np.arange(3)).dtype is lampion.int64
    with pytest.raises(BufferError, match="require gradient"):
        lampion.ones(2, requires_grad=True).__dlpack__()


def test_inference_mode_marks_what_is_made_in_it():
    with lampion.inference_mode():
        assert lampion.zeros(2).is_inference() and lampion.rand(2).is_inference()
    assert not lampion.zeros(2).is_inference()


def test_vmap_forbids_random_numbers_unless_asked():
    for draw in (lambda v: lampion.rand(2) + v, lampion.bernoulli, lambda v: v.normal_()):
        with pytest.raises(RuntimeError, match="randomness error mode"):
            lampion.vmap(draw)(lampion.zeros(3))


def test_fork_rng_leaves_the_stream_alone():
    lampion.manual_seed(3)
    with lampion.random.fork_rng():
        lampion.rand(7)
    first = lampion.rand(1)
    lampion.manual_seed(3)
    assert lampion.equal(first, lampion.rand(1))


def test_generator_states_travel():
    generator = lampion.Generator().manual_seed(9)
    lampion.rand(5, generator=generator)
    state = generator.get_state()
    ahead = lampion.rand(3, generator=generator)
    other = lampion.Generator().set_state(state)
    assert lampion.equal(lampion.rand(3, generator=other), ahead)
    assert generator.device == lampion.device("cpu")


def test_dropout_scales_and_passes_gradients_where_it_keeps():
    x = lampion.ones(1000, requires_grad=True)
    y = lampion.nn.functional.dropout(x, 0.25)
    y.sum().backward()
    assert set(y.unique().tolist()) == {0.0, np.float32(1 / 0.75).item()}
    assert lampion.equal(x.grad, y.detach())
    assert abs((y == 0).float().mean().item() - 0.25) < 0.05
    assert lampion.nn.functional.dropout(x, 0.25, training=False) is x


if __name__ == "__main__":
    import torch

    results = {e: outcome(torch, e) for e in dict.fromkeys(expressions())}
    rows = ",\n".join(f"{json.dumps(e)}: {json.dumps(r)}" for e, r in results.items())
    GOLDEN.write_text("{\n" + rows + "\n}\n")
