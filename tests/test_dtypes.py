"""Types, promotion, casts: PyTorch's tables; every dtype through creation, copies, files."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import lampion as torch
from lampion import dtypes

NAMES = list(dtypes.DTYPES)
FLOATS = [n for n in NAMES if getattr(torch, n).is_floating_point]
# PyTorch's promotion table, row by row in the order of TABLE_TYPES (initials: see SHORT)
TABLE_TYPES = (
    "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128"
)
SHORT = dict(zip("bu1248hBfdcz", TABLE_TYPES.split(), strict=True))
TABLE = """
b u 1 2 4 8 h B f d c z
u u 2 2 4 8 h B f d c z
1 2 1 2 4 8 h B f d c z
2 2 2 2 4 8 h B f d c z
4 4 4 4 4 8 h B f d c z
8 8 8 8 8 8 h B f d c z
h h h h h h h f f d c z
B B B B B B f B f d c z
f f f f f f f f f d c z
d d d d d d d d d d z z
c c c c c c c c c z c z
z z z z z z z z z z z z
"""


@pytest.mark.parametrize("name", NAMES)
def test_every_type_is_made_copied_and_stored(name):
    dtype = getattr(torch, name)
    values = [0, 1, 1] if name == "bool" else [0, 1, 2]
    x = torch.tensor(values, dtype=dtype)
    assert x.dtype is dtype and repr(dtype) == f"torch.{name}"
    assert x.element_size() == dtype.itemsize
    assert torch.zeros(2, dtype=dtype).dtype is torch.empty(2, dtype=dtype).dtype is dtype
    for same in (x.clone(), copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert same.dtype is dtype and same._data.dtype is dtype.numpy
        assert same.to(torch.complex128).tolist() == [complex(v) for v in values]
    assert pickle.loads(pickle.dumps(dtype)) is dtype


def test_promotion_table():
    order = TABLE_TYPES.split()
    rows = [row.split() for row in TABLE.strip().splitlines()]
    for (i, a), (j, b) in itertools.product(enumerate(order), repeat=2):
        want = getattr(torch, SHORT[rows[i][j]])
        assert torch.promote_types(getattr(torch, a), getattr(torch, b)) is want, (a, b)


@pytest.mark.parametrize(
    ("a", "b", "want"),
    [
        ("torch.ones(2)", "1", "float32"),
        ("torch.ones(2, dtype=torch.int8)", "1.0", "float32"),
        ("torch.ones(2, dtype=torch.int8)", "300", "int8"),
        ("torch.ones(2, dtype=torch.float16)", "torch.tensor(1.0, dtype=torch.float64)", "float16"),
        ("torch.tensor(1)", "torch.ones(1, dtype=torch.int32)", "int32"),
        ("torch.ones(2, dtype=torch.float16)", "1j", "complex64"),
        ("True", "2", "int64"),
        ("1", "2.0", "float32"),
    ],
)
def test_result_type(a, b, want):
    assert torch.result_type(eval(a), eval(b)) is getattr(torch, want)


def test_unsigned_types_do_not_promote():
    with pytest.raises(RuntimeError, match="uint16"):
        torch.promote_types(torch.uint16, torch.int8)
    assert torch.promote_types(torch.uint16, torch.float32) is torch.float32


def test_can_cast_never_falls_to_a_lower_category():
    assert torch.can_cast(torch.float64, torch.float16) and torch.can_cast(torch.int32, torch.uint8)
    assert not torch.can_cast(torch.float32, torch.int32)
    assert not torch.can_cast(torch.complex64, torch.float32)
    assert not torch.can_cast(torch.int32, torch.bool)


def test_finfo_and_iinfo():
    info = torch.finfo(torch.float32)
    assert (info.bits, info.eps, info.tiny) == (32, 2**-23, 2**-126)
    assert repr(torch.finfo(torch.bfloat16)) == (
        "finfo(resolution=0.01, min=-3.38953e+38, max=3.38953e+38, eps=0.0078125, "
        "smallest_normal=1.17549e-38, tiny=1.17549e-38, dtype=bfloat16)"
    )
    assert torch.finfo(torch.complex64).dtype == "float32"
    assert repr(torch.iinfo(torch.int8)) == "iinfo(min=-128, max=127, dtype=int8)"
    for wrong in (lambda: torch.finfo(torch.int32), lambda: torch.iinfo(torch.float32)):
        with pytest.raises(TypeError):
            wrong()


def test_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        made = torch.tensor(1.0), torch.zeros(1), torch.rand(1), torch.tensor([1j]), torch.Tensor(1)
        kinds = [t.dtype for t in made]
    finally:
        torch.set_default_dtype(torch.float32)
    assert kinds == [torch.float64] * 3 + [torch.complex128, torch.float64]
    with pytest.raises(TypeError, match="floating-point"):
        torch.set_default_dtype(torch.int32)


def test_default_tensor_type():
    with pytest.warns(UserWarning, match="deprecated"):
        torch.set_default_tensor_type(torch.DoubleTensor)
    kind = torch.get_default_dtype()
    with pytest.warns(UserWarning, match="deprecated"):
        torch.set_default_tensor_type("torch.FloatTensor")
    assert (kind, torch.get_default_dtype()) == (torch.float64, torch.float32)


def test_narrow_floats_are_rounded_twice_as_in_pytorch():
    between = 1 + 2**-11 + 2**-40  # above the tie for float16, on it after rounding to float32
    assert torch.tensor(between, dtype=torch.float64).half().item() == 1.0
    assert np.float64(between).astype(np.float16) > 1


def test_float8_saturates_where_it_has_no_infinity():
    x = torch.tensor([1e9, -float("inf"), 449.0])
    assert x.to(torch.float8_e4m3fn).tolist() == [448, -448, 448]
    assert x.to(torch.float8_e5m2).tolist() == [float("inf"), -float("inf"), 448]


def test_casting_complex_to_real_warns():
    with pytest.warns(UserWarning, match="discards the imaginary part"):
        assert torch.tensor([1 + 2j]).float().tolist() == [1]


def test_casts_pass_gradients_between_floats_only():
    x = torch.ones(2, requires_grad=True)
    x.double().mul(3).sum().backward()
    assert x.grad.dtype is torch.float32 and x.grad.tolist() == [3, 3]
    assert not x.long().requires_grad and x.half().grad_fn.name() == "ToCopyBackward0"
