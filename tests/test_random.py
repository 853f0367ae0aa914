"""Random streams against PyTorch 2.13: golden values always, the oracle where it is installed.

`CASES` names each draw twice, for PyTorch and for Lampion. `python tests/test_random.py` (needs
PyTorch) writes `golden/random.json` anew: some numbers of each draw, a checksum of all of them,
and the state of the engine afterwards.
"""

import json
import math
import pickle
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from lampion import random

try:
    import torch
except ImportError:
    torch = None

GOLDEN = Path(__file__).parent / "golden" / "random.json"
needs_torch = pytest.mark.skipif(
    torch is None, reason="compares with PyTorch, which is not installed"
)

SIZES = [0, 1, 2, 5, 7, 15, 16, 17, 31, 32, 33, 100, 1000, 4097]
FLOATS = ["float32", "float64", "float16", "bfloat16"]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8", "bool"]
SEEDS = {0: 12, 1: -1, 16: 2**40 + 7, 17: 2**64 - 1}  # by size; 5 otherwise


def numpy_dtype(name):
    return np.dtype(getattr(ml_dtypes, name, name))


def filled(method, *arguments):
    """The PyTorch draw `torch.empty(n, dtype).method(*arguments)`."""
    return lambda n, dtype: getattr(torch.empty(n, dtype=dtype), method)(*arguments)


def ramp(n, low, high):
    return np.linspace(low, high, n) if n else np.empty(0)


def from_parameters(function, draw, *ranges):
    """A pair of draws whose tensor parameters are ramps over `ranges`."""

    def of_torch(n, dtype):
        return getattr(torch, function)(*(torch.from_numpy(ramp(n, *r)).to(dtype) for r in ranges))

    def of_lampion(n, dtype, generator):
        # by way of float32, as PyTorch rounds float64 to the dtypes of two bytes
        via = dtype if dtype.itemsize > 2 else np.float32
        return draw(*(ramp(n, *r).astype(via).astype(dtype) for r in ranges), generator=generator)

    return of_torch, of_lampion


def multinomial(columns, samples, replacement):
    """A pair of draws from n rows of different weights."""

    def weights(n):
        return 0.5 + np.arange(n * columns).reshape(n, columns) % 7

    def of_torch(n, dtype):
        return torch.multinomial(torch.from_numpy(weights(n)).to(dtype), samples, replacement)

    def of_lampion(n, dtype, generator):
        return random.multinomial(weights(n).astype(dtype), samples, replacement, generator)

    return of_torch, of_lampion


def drawn(function, *arguments, **keywords):
    """The Lampion draw `function(n, *arguments, dtype=..., generator=...)`."""
    return lambda n, dtype, generator: function(
        n, *arguments, dtype=dtype, generator=generator, **keywords
    )


CASES = {
    "uniform": (filled("uniform_"), drawn(random.uniform), FLOATS),
    "uniform(-0.1, 0.1)": (filled("uniform_", -0.1, 0.1), drawn(random.uniform, -0.1, 0.1), FLOATS),
    "uniform(2, 5)": (filled("uniform_", 2, 5), drawn(random.uniform, 2, 5), FLOATS),
    "normal": (filled("normal_"), drawn(random.normal), FLOATS),
    "normal(0.3, 1.7)": (filled("normal_", 0.3, 1.7), drawn(random.normal, 0.3, 1.7), FLOATS),
    "normal, strided": (
        lambda n, dtype: torch.empty(2 * n, dtype=dtype)[::2].normal_(),
        drawn(random.normal, contiguous=False),
        FLOATS,
    ),
    "normal, complex": (
        lambda n, dtype: torch.randn(n, dtype=dtype),
        drawn(random.normal),
        ["complex64", "complex128"],
    ),
    "normal of tensors": (*from_parameters("normal", random.normal_of, (-1, 1), (0, 2)), FLOATS),
    "bernoulli(0.3)": (
        filled("bernoulli_", 0.3),
        drawn(random.bernoulli, 0.3),
        FLOATS + INTEGERS,
    ),
    "bernoulli of a tensor": (
        *from_parameters(
            "bernoulli",
            lambda p, generator: random.bernoulli(p.shape, p, p.dtype, generator),
            (0, 1),
        ),
        FLOATS,
    ),
    "dropout(0.2)": (
        lambda n, dtype: torch.nn.functional.dropout(torch.ones(n), 0.2) != 0,
        drawn(random.dropout_mask, 0.2),
        ["bool"],
    ),
    "dropout(1)": (
        lambda n, dtype: torch.nn.functional.dropout(torch.ones(n), 1.0) != 0,
        drawn(random.dropout_mask, 1.0),
        ["bool"],
    ),
    "exponential(0.3)": (
        filled("exponential_", 0.3),
        drawn(random.exponential, 0.3),
        FLOATS,
    ),
    "log_normal": (filled("log_normal_", 1, 0.5), drawn(random.log_normal, 1, 0.5), FLOATS),
    "cauchy": (filled("cauchy_", 0.5, 3), drawn(random.cauchy, 0.5, 3), FLOATS),
    "geometric(0.1)": (
        filled("geometric_", 0.1),
        drawn(random.geometric, 0.1),
        FLOATS + INTEGERS[:-1],
    ),
    "random_()": (filled("random_"), drawn(random.randint), FLOATS + INTEGERS),
    "random_(3, 100)": (
        filled("random_", 3, 100),
        drawn(random.randint, 3, 100),
        FLOATS + ["int64", "uint8"],
    ),
    "random_, 2**28 - 1": (
        filled("random_", -5, 2**28 - 6),
        drawn(random.randint, -5, 2**28 - 6),
        ["int64", "int32", "float64"],
    ),
    "random_, 2**28": (
        filled("random_", -5, 2**28 - 5),
        drawn(random.randint, -5, 2**28 - 5),
        ["int64", "int32", "float64"],
    ),
    "random_, 2**62": (
        filled("random_", -(2**62), 3),
        drawn(random.randint, -(2**62), 3),
        ["int64"],
    ),
    "random_, from": (
        filled("random_", 3, None),
        drawn(random.randint, 3),
        ["int64", "int32", "uint8"],
    ),
    "random_, all bits": (
        filled("random_", -(2**63), None),
        drawn(random.randint, -(2**63)),
        ["int64", "float32", "float64", "bfloat16"],
    ),
    "randperm": (
        lambda n, dtype: torch.randperm(n, dtype=dtype),
        random.randperm,
        ["int64", "int32", "float32"],
    ),
    "multinomial, one": (*multinomial(6, 1, False), FLOATS),
    "multinomial": (*multinomial(6, 4, False), ["float32", "float64"]),
    "multinomial, replaced": (*multinomial(6, 9, True), FLOATS),
    "poisson, small": (*from_parameters("poisson", random.poisson, (0, 9.9)), FLOATS),
    "poisson": (*from_parameters("poisson", random.poisson, (10, 400)), FLOATS),
    "binomial, small": (
        *from_parameters("binomial", random.binomial, (20, 0), (0, 1)),
        ["float32", "float64"],
    ),
    "binomial": (
        *from_parameters("binomial", random.binomial, (100, 1e6), (0.1, 0.9)),
        ["float32", "float64"],
    ),
    "gamma": (
        *from_parameters("_standard_gamma", random.standard_gamma, (0, 3)),
        ["float32", "float64"],
    ),
    "dirichlet": (
        *from_parameters("_sample_dirichlet", random.dirichlet, (0.1, 3)),
        ["float32", "float64"],
    ),
}
# Draws whose last bits depend on who wrote log, sin, cos, tan or exp: to some units of float64.
INEXACT = {"normal", "normal(0.3, 1.7)", "normal, strided", "normal, complex", "normal of tensors"}
INEXACT |= {"exponential(0.3)", "log_normal", "cauchy", "gamma", "dirichlet"}
DRAWS = [(case, dtype) for case, (_, _, dtypes) in CASES.items() for dtype in dtypes]


def seed_of(size):
    return SEEDS.get(size, 5)


def lampion_draw(case, dtype, size):
    """What Lampion draws after three normals, which leave one in the cache, and its generator."""
    generator = random.Generator().manual_seed(seed_of(size))
    random.normal(3, generator=generator)
    return CASES[case][1](size, numpy_dtype(dtype), generator), generator


def torch_draw(case, dtype, size):
    """The same of PyTorch: array and state."""
    torch.manual_seed(seed_of(size))
    torch.randn(3)
    values = CASES[case][0](size, getattr(torch, dtype))
    if values.dtype == torch.bfloat16:
        values = values.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.ascontiguousarray(values), torch.get_rng_state().numpy()


def exact(case, dtype):
    return case not in INEXACT or dtype not in ("float64", "complex128")


def summary(values, state, checksum):
    """A draw as the golden file keeps it: checksums, some numbers, the normal in the cache."""
    wide = np.complex128 if values.dtype.kind == "c" else np.float64
    flat = values.reshape(-1).astype(wide).view(np.float64)
    count = 2 if checksum else 6
    picks = flat[flat.size // count // 2 :: max(1, flat.size // count)][:count]
    normal = state[5024:5032].view(np.float64)
    crc = zlib.crc32(values.tobytes()) if checksum else None
    engine = zlib.crc32(np.delete(state, np.s_[5024:5032]).tobytes())
    return [list(values.shape), crc, engine], [*picks.tolist(), *normal.tolist()]


def assert_close(values, expected):
    """Equal to a few units of float64, also where a mean cancels most of a number."""
    np.testing.assert_allclose(values, expected, rtol=2e-13, atol=1e-15)


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(("case", "dtype"), DRAWS)
def test_golden_values(golden, case, dtype):
    for size in SIZES:
        identity, numbers = golden["draws"][case][dtype][str(size)]
        values, generator = lampion_draw(case, dtype, size)
        found = summary(values, generator.state(), exact(case, dtype))
        assert found[0] == identity, size
        assert_close(found[1], numbers)


@needs_torch
@pytest.mark.parametrize(("case", "dtype"), DRAWS)
def test_draws_equal_those_of_torch(case, dtype):
    for size in [*SIZES, 70001] if case[:5] not in ("poiss", "binom", "gamma", "diric") else SIZES:
        expected, state = torch_draw(case, dtype, size)
        values, generator = lampion_draw(case, dtype, size)
        assert values.dtype == expected.dtype
        if exact(case, dtype):
            assert values.shape == expected.shape
            assert values.tobytes() == expected.tobytes()
        else:
            assert_close(values, expected)
        assert np.array_equal(generator.state(), state)


def mixed(draw):
    """Calls `draw(case, dtype, size)` for one long sequence of draws."""
    order = np.random.default_rng(0).integers(2**31, size=(200, 2))
    draws = [pair for pair in DRAWS if pair[0] not in ("normal, complex", "multinomial")]
    for i, j in order:
        draw(*draws[i % len(draws)], SIZES[j % len(SIZES)] % 1000)


def mixed_with_lampion():
    generator = random.Generator().manual_seed(2)
    mixed(lambda case, dtype, size: CASES[case][1](size, numpy_dtype(dtype), generator))
    return generator.state()


def mixed_with_torch():
    torch.manual_seed(2)
    mixed(lambda case, dtype, size: CASES[case][0](size, getattr(torch, dtype)))
    return torch.get_rng_state().numpy()


def test_a_long_sequence_of_draws_keeps_step(golden):
    assert summary(np.empty(0), mixed_with_lampion(), False)[0] == golden["mixed"]


@needs_torch
def test_a_long_sequence_of_draws_keeps_step_with_torch():
    assert np.array_equal(mixed_with_lampion(), mixed_with_torch())


def test_single_and_bulk_draws_are_one_stream():
    bulk = random.Generator().manual_seed(1).words(10_000)
    generator = random.Generator().manual_seed(1)
    parts = [generator.words(n) for n in (1, 1, 3, 619, 0, 2000, 1, 1023, 1024, 5000, 328)]
    assert np.array_equal(np.concatenate(parts), bulk)
    reference = np.random.RandomState(1)  # NumPy's MT19937, with its legacy seeding
    assert np.array_equal(reference.randint(0, 2**32, 10_000, dtype=np.uint32), bulk)


def test_state_of_torch_loads(golden):
    """The stored state was taken with a normal in the cache; both go on from it alike."""
    generator = random.Generator()
    state = np.frombuffer(bytes.fromhex(golden["state"]["words"]), np.uint8)
    generator.set_state_bytes(state)
    assert generator.initial_seed() == golden["state"]["seed"]
    assert np.array_equal(generator.state(), state)
    assert random.normal(3, generator=generator).tolist() == golden["state"]["normals"]


@needs_torch
def test_states_pass_both_ways():
    for pause in (0, 1, 5, 623, 624, 625, 2000):
        generator = random.Generator().manual_seed(pause)
        generator.words(pause)
        random.normal(3, generator=generator)
        torch.set_rng_state(torch.from_numpy(generator.state()))
        assert torch.initial_seed() == pause
        assert torch.randn(7).tolist() == random.normal(7, generator=generator).tolist()
        copy = random.Generator()
        copy.set_state_bytes(torch.get_rng_state().numpy())
        assert np.array_equal(copy.state(), generator.state())
        assert torch.randperm(50).tolist() == random.randperm(50, generator=copy).tolist()


def test_state_round_trips():
    generator = random.Generator().manual_seed(-3)
    for pause in (0, 1, 622, 1, 1, 500):
        generator.words(pause)
        random.normal(5, generator=generator)
        clones = [generator.clone_state(), pickle.loads(pickle.dumps(generator))]
        expected = random.normal(20, generator=generator).tolist()
        for clone in clones:
            assert clone.initial_seed() == 2**64 - 3
            assert random.normal(20, generator=clone).tolist() == expected
    fresh = random.Generator().manual_seed(8)
    assert fresh.state()[16] == 0 and fresh.clone_state().words(1) == fresh.words(1)


def test_state_errors():
    generator = random.Generator()
    before = generator.state()
    with pytest.raises(TypeError, match="expects a uint8 array, got float32"):
        generator.set_state_bytes(np.zeros(5056, np.float32))
    with pytest.raises(TypeError, match="expects a uint8 array, got list"):
        generator.set_state_bytes([1, 2])
    with pytest.raises(RuntimeError, match="expects 5056 bytes, got 10"):
        generator.set_state_bytes(np.zeros(10, np.uint8))
    with pytest.raises(RuntimeError, match="expects an MT19937 state"):
        generator.set_state_bytes(np.zeros(5056, np.uint8))
    assert np.array_equal(generator.state(), before)


def test_seeds():
    generator = random.Generator()
    assert generator.initial_seed() == 67280421310721
    assert generator.manual_seed(-1) is generator
    assert generator.initial_seed() == 2**64 - 1
    assert generator.manual_seed(np.int64(3)).initial_seed() == 3
    low, high = (random.Generator().manual_seed(s).words(4) for s in (7, 2**40 + 7))
    assert np.array_equal(low, high)  # the engine sees 32 bits
    assert generator.seed() == generator.initial_seed()
    assert generator.seed() != generator.seed()
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match=r"expects a seed in"):
            generator.manual_seed(seed)
    with pytest.raises(RuntimeError, match="expects an int, got str"):
        generator.manual_seed("3")
    with pytest.raises(RuntimeError, match="expects device cpu, got cuda"):
        random.Generator("cuda")


def test_default_generator():
    assert random.manual_seed(5.7) is random.default_generator
    assert random.initial_seed() == 5
    first = random.uniform(3)
    random.default_generator.manual_seed(5)
    assert np.array_equal(random.uniform(3), first)
    assert random.seed() == random.initial_seed()


def test_fork_rng():
    random.manual_seed(1)
    with random.fork_rng(devices=[0], device_type="cuda"):
        inside = random.normal(3)
    assert np.array_equal(random.normal(3), inside)
    after = random.default_generator.state()
    with pytest.raises(KeyError), random.fork_rng():
        random.uniform(9)
        raise KeyError
    assert np.array_equal(random.default_generator.state(), after)
    with random.fork_rng(enabled=False):
        random.uniform(9)
    assert not np.array_equal(random.default_generator.state(), after)


def test_shapes_are_filled_in_c_order():
    flat, shaped = (random.Generator().manual_seed(3) for _ in range(2))
    for draw in (random.uniform, random.normal, random.randint, random.exponential):
        expected = draw(60, generator=flat).reshape(3, 4, 5)
        assert np.array_equal(draw((3, 4, 5), generator=shaped), expected)
    assert random.uniform(()).shape == ()
    assert random.normal((0, 3)).shape == (0, 3)


def test_multinomial_draws_in_memory_order():
    weights = np.arange(1.0, 13.0).reshape(3, 4)
    rows = random.multinomial(weights, 1, generator=random.Generator().manual_seed(1))
    turned = np.asfortranarray(weights)
    columns = random.multinomial(turned, 1, generator=random.Generator().manual_seed(1))
    drawn_in_order = random.exponential(12, 1.0, float, random.Generator().manual_seed(1))
    assert np.array_equal(rows[:, 0], (weights / drawn_in_order.reshape(3, 4)).argmax(1))
    assert np.array_equal(columns[:, 0], (weights / drawn_in_order.reshape(4, 3).T).argmax(1))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 257, 1000])
def test_randperm_is_a_sequence_of_swaps(n):
    words = random.Generator().manual_seed(n).words(max(n - 1, 0)).tolist()
    expected = list(range(n))
    for i, word in enumerate(words):
        j = i + word % (n - i)
        expected[i], expected[j] = expected[j], expected[i]
    assert random.randperm(n, generator=random.Generator().manual_seed(n)).tolist() == expected


def test_bernoulli_looks_at_all_53_bits():
    """Probabilities that differ from a uniform in the last bit only, on either side."""
    uniforms = random.Generator().manual_seed(4).doubles(50)
    for i, u in enumerate(uniforms.tolist()):
        for p, expected in ((u, 0), (math.nextafter(u, 2), 1)):
            mask = random.bernoulli(50, p, generator=random.Generator().manual_seed(4))
            assert mask[i] == expected
            assert np.array_equal(mask, uniforms < p)


ERRORS = [
    (lambda: random.uniform(3, 2, 1), RuntimeError, "uniform_"),
    (lambda: random.uniform(3, 0, 1e39), RuntimeError, "float32 bounds"),
    (lambda: random.uniform(3, math.nan, 1), RuntimeError, "uniform_"),
    (lambda: random.uniform(3, -3e38, 3e38), RuntimeError, "uniform_"),
    (lambda: random.uniform(3, dtype=np.int64), NotImplementedError, "got int64"),
    (lambda: random.normal(3, 0, -1), RuntimeError, "std >= 0, got -1"),
    (lambda: random.normal(3, dtype=np.int32), NotImplementedError, "got int32"),
    (lambda: random.normal_of(np.zeros(2), np.float64([1, -1])), RuntimeError, "std >= 0"),
    (lambda: random.bernoulli(3, 1.5), RuntimeError, "got 1.5"),
    (lambda: random.bernoulli(3, math.nan), RuntimeError, "got nan"),
    (lambda: random.bernoulli(2, np.float32([0.1, 2])), RuntimeError, "p in"),
    (lambda: random.bernoulli(2, np.array([0, 1])), NotImplementedError, "got int64"),
    (lambda: random.randint(3, 5, 5), RuntimeError, "from < to, got from=5, to=5"),
    (lambda: random.randint(3, 0, 300, np.uint8), RuntimeError, "bounds within uint8"),
    (lambda: random.randint(3, 0, 70000, np.float16), RuntimeError, "bounds within float16"),
    (lambda: random.randint(3, dtype=np.uint16), NotImplementedError, "got uint16"),
    (lambda: random.randint(3, -(2**63), None, np.int32), RuntimeError, "got int32"),
    (lambda: random.randperm(-1), RuntimeError, "n >= 0, got -1"),
    (lambda: random.randperm(300, np.uint8), RuntimeError, "fits uint8, got 300"),
    (lambda: random.randperm(3000, np.float16), RuntimeError, "fits float16, got 3000"),
    (lambda: random.randperm(2, np.bool_), NotImplementedError, "bool"),
    (lambda: random.exponential(3, 0), RuntimeError, "lambda > 0, got 0"),
    (lambda: random.exponential(3, dtype=np.int32), RuntimeError, "got int32"),
    (lambda: random.log_normal(3, 0, 0), RuntimeError, "std > 0, got 0"),
    (lambda: random.cauchy(3, 0, 0), RuntimeError, "sigma > 0, got 0"),
    (lambda: random.geometric(3, 1), RuntimeError, "got 1"),
    (lambda: random.geometric(3, 0.5, np.bool_), NotImplementedError, "bool"),
    (lambda: random.multinomial(np.ones(3), 0), RuntimeError, "num_samples > 0, got 0"),
    (lambda: random.multinomial(np.ones(3), 4), RuntimeError, "at most 3 samples"),
    (lambda: random.multinomial(np.ones(3, int), 1), RuntimeError, "got int64"),
    (lambda: random.multinomial(np.ones((2, 3, 4)), 1), RuntimeError, "got 3"),
    (lambda: random.multinomial(np.float64([1, -1]), 1), RuntimeError, "finite weights"),
    (lambda: random.multinomial(np.float64([0, 0]), 2, True), RuntimeError, "positive sum"),
    (lambda: random.multinomial(np.float64([1, np.inf]), 2, True), RuntimeError, "finite"),
    (lambda: random.multinomial(np.float64([1, np.nan]), 1), RuntimeError, "finite"),
    (lambda: random.poisson(np.float32([-1])), RuntimeError, "rates >= 0"),
    (lambda: random.poisson(np.array([1])), NotImplementedError, "got int64"),
    (lambda: random.binomial(np.ones(1), np.ones(1, np.float32)), RuntimeError, "one dtype"),
    (lambda: random.standard_gamma(np.float32([-1])), RuntimeError, "alpha >= 0"),
    (lambda: random.standard_gamma(np.ones(2, np.float16)), NotImplementedError, "float16"),
]


@pytest.mark.parametrize(("draw", "error", "message"), ERRORS)
def test_errors(draw, error, message):
    before = random.default_generator.state()
    with pytest.raises(error, match=rf"^\[.*{message}"):
        draw()
    assert np.array_equal(random.default_generator.state(), before)


def write_golden():
    """Draws the golden values anew; needs PyTorch."""
    draws = {}
    for case, dtype in DRAWS:
        for size in SIZES:
            record = summary(*torch_draw(case, dtype, size), exact(case, dtype))
            draws.setdefault(case, {}).setdefault(dtype, {})[str(size)] = record
    torch.manual_seed(11)
    torch.rand(10), torch.randn(3)
    state = torch.get_rng_state().numpy().tobytes().hex()
    stored = {"seed": 11, "words": state, "normals": torch.randn(3).tolist()}
    mixed_state = summary(np.empty(0), mixed_with_torch(), False)[0]
    content = {"torch": torch.__version__, "mixed": mixed_state, "state": stored, "draws": draws}
    GOLDEN.write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    write_golden()
