"""Devices, backends, settings and the torch-level names, on a machine without accelerators."""

import importlib
import subprocess
import sys

import pytest

import lampion as torch

# Names of the torch namespace that nearly every or many programs use (tiers 1 and 2).
NAMES = """
Tensor tensor as_tensor from_numpy zeros ones empty full arange linspace rand randn randint
randperm zeros_like ones_like cat stack where exp log sqrt abs clamp max min sum mean argmax
softmax sigmoid tanh matmul einsum topk no_grad manual_seed save load device float32 int64 eye
bool float16 bfloat16 int32 Generator sin cos pow cumsum tril chunk all isnan allclose
inference_mode enable_grad set_num_threads use_deterministic_algorithms get_rng_state
set_rng_state full_like empty_like randn_like normal multinomial float64 uint8 Size finfo
is_tensor rsqrt floor round sign norm std prod sort argsort unique nonzero triu outer mm bmm split
flip repeat_interleave index_select meshgrid any isfinite isclose equal maximum set_grad_enabled
autocast polar view_as_complex view_as_real bucketize cdist nan_to_num dtype long rand_like
bernoulli empty_strided dot addmm diag var isinf minimum ceil log1p log2 square unbind roll gather
scatter squeeze unsqueeze is_grad_enabled set_default_dtype histc tensordot cross vmap cummax
kthvalue take_along_dim complex64 bincount searchsorted from_dlpack FloatTensor LongTensor
ByteTensor int8 int16 half float double short int strided contiguous_format channels_last
preserve_format set_printoptions get_default_dtype set_float32_matmul_precision get_num_threads e
pi inf nan newaxis numel is_floating_point is_complex is_nonzero is_storage result_type can_cast
promote_types iinfo memory_format layout set_default_device typename seed initial_seed
set_flush_denormal
""".split()  # noqa: SIM905
METHODS = """
item backward size shape dtype device numel view reshape flatten permute transpose unsqueeze
squeeze expand repeat contiguous clone detach to cpu numpy tolist float long data grad
requires_grad requires_grad_ masked_fill gather copy_ zero_ __getitem__ __setitem__ register_hook
view_as expand_as scatter_ fill_ add_ mul_ normal_ uniform_ type_as index_add_ masked_fill_
new_zeros unbind unfold half double bool is_contiguous stride data_ptr pin_memory grad_fn is_leaf
index_put_ share_memory_ ndim dim t T cuda int type sum mean max min std argmax pow exp log sqrt
abs clamp add sub mul div eq split index_select masked_select masked_scatter_ clamp_ sub_ div_
detach_ new_tensor narrow chunk flip cumsum topk sort nonzero matmul bmm norm var all any isnan
logsumexp element_size is_cuda addcmul_ addcdiv_ swapaxes diff amax median logical_not bernoulli_
random_ untyped_storage new apply_ map_
""".split()  # noqa: SIM905
MODULES = """
autograd backends backends.cudnn backends.cuda backends.mps cpu cuda fft func hub linalg mps nn
nn.functional optim random serialization special testing types version xpu accelerator
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", NAMES)
def test_torch_has(name):
    assert hasattr(torch, name)


@pytest.mark.parametrize("name", METHODS)
def test_tensor_has(name):
    assert hasattr(torch.Tensor, name)


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_and_is_an_attribute(name):
    module = importlib.import_module(f"lampion.{name}")
    found = torch
    for part in name.split("."):
        found = getattr(found, part)
    assert found is module


def test_unknown_names_raise():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = torch.nonsense


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_without_an_accelerator(kind):
    module = getattr(torch, kind)
    assert not module.is_available() and module.device_count() == 0
    module.empty_cache(), module.synchronize(), module.manual_seed(0)
    needs_device = module.get_rng_state
    with pytest.raises(AssertionError, match=f"no {kind} device"):
        needs_device()


def test_cuda_counts_no_memory_and_makes_no_streams():
    assert torch.cuda.memory_allocated() == torch.cuda.max_memory_allocated() == 0
    assert torch.cuda.get_rng_state_all() == [] and not torch.cuda.is_bf16_supported()
    torch.cuda.manual_seed_all(3), torch.cuda.reset_peak_memory_stats()
    for make in (torch.cuda.Stream, torch.cuda.Event, torch.cuda.CUDAGraph):
        with pytest.raises(RuntimeError, match="requires CUDA support"):
            make()
    with pytest.raises(AssertionError, match="not compiled with CUDA"), torch.cuda.device(0):
        pass
    with torch.cuda.device(None), torch.cuda.stream(None), torch.cuda.device_of(torch.ones(1)):
        pass


def test_tensors_for_cuda_are_refused():
    for ask in (lambda: torch.ones(2).cuda(), lambda: torch.ones(2, device="cuda:1")):
        with pytest.raises(AssertionError, match="no CUDA device"):
            ask()
    assert not isinstance(torch.ones(2), torch.cuda.FloatTensor)


def test_devices_are_contexts():
    with torch.device("cpu") as where:
        assert torch.zeros(2).device == where
    with pytest.raises(AssertionError), torch.device("cuda"):
        pass
    torch.set_default_device("cpu")
    assert torch.get_default_device() == torch.device("cpu")


def test_cudnn_switches():
    import lampion.backends.cudnn as cudnn

    before = cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        assert cudnn.benchmark and not cudnn.is_available() and cudnn.version() is None
        with cudnn.flags(enabled=False, deterministic=True):
            assert not cudnn.enabled and cudnn.deterministic
        assert cudnn.enabled and not cudnn.deterministic
    finally:
        cudnn.benchmark = before
    with pytest.raises(AttributeError, match="speed"), cudnn.flags(speed=9):
        pass


def test_cuda_switches():
    with torch.backends.cuda.sdp_kernel(enable_flash=False):
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()
    torch.backends.cuda.matmul.allow_tf32 = True
    assert torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False


def test_threads():
    code = """
import lampion as torch, numpy, ctypes, pathlib
torch.set_num_threads(1)
assert torch.get_num_threads() == 1
file = next(pathlib.Path(numpy.__file__).parent.parent.glob("numpy.libs/*openblas*"), None)
if file is not None:
    library = ctypes.CDLL(str(file))
    assert library.scipy_openblas_get_num_threads64_() == 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    for wrong in (0, -1):
        with pytest.raises(RuntimeError, match="positive"):
            torch.set_num_threads(wrong)


def test_deterministic_algorithms():
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_deterministic_debug_mode() == 1
    torch.set_deterministic_debug_mode("default")
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(TypeError, match="must be bool"):
        torch.use_deterministic_algorithms(1)
    with pytest.raises(RuntimeError, match="invalid value"):
        torch.set_deterministic_debug_mode("maybe")


def test_matmul_precision():
    torch.set_float32_matmul_precision("high")
    assert torch.get_float32_matmul_precision() == "high"
    with pytest.warns(UserWarning, match="not one of"):
        torch.set_float32_matmul_precision("best")
    torch.set_float32_matmul_precision("highest")


CLOSE = """Tensor-likes are not close!

Mismatched elements: 1 / 4 (25.0%)
Greatest absolute difference: 1.0 at index (1, 1) (up to 1e-05 allowed)
Greatest relative difference: 0.20000000298023224 at index (1, 1) (up to 1.3e-06 allowed)"""
ITEM = """Scalars are not close!

Expected 3.0 but got 2.0.
Absolute difference: 1.0 (up to 1e-05 allowed)
Relative difference: 0.3333333333333333 (up to 1.3e-06 allowed)

The failure occurred for item ['a'][1]"""
KEYS = """The keys of the mappings do not match:
Missing keys in the actual mapping: ['b']
Additional keys in the actual mapping: ['a']"""
T = torch.tensor


@pytest.mark.parametrize(
    ("actual", "expected", "message"),
    [
        (T([[1.0, 2.0], [3.0, 4.0]]), T([[1.0, 2.0], [3.0, 5.0]]), CLOSE),
        ({"a": [T(1.0), T(2.0)]}, {"a": [T(1.0), T(3.0)]}, ITEM),
        ({"a": 1}, {"b": 1}, KEYS),
        ([1, 2], [1, 2, 3], "The length of the sequences mismatch: 2 != 3"),
        (
            T([1]),
            T([1.0]),
            "The values for attribute 'dtype' do not match: torch.int64 != torch.float32.",
        ),
        (
            T([1.0]),
            T([1.0, 2.0]),
            "The values for attribute 'shape' do not match: torch.Size([1]) != torch.Size([2]).",
        ),
        (True, False, "Booleans mismatch: True is not False"),
        (None, 1, "None mismatch: None is not 1"),
    ],
)
def test_assert_close_says_what_differs(actual, expected, message):
    with pytest.raises(AssertionError) as caught:
        torch.testing.assert_close(actual, expected)
    assert str(caught.value) == message


def test_assert_close_accepts():
    close = torch.testing.assert_close
    close(T([1.0]), T([1.0 + 1e-7]))
    close(T([float("nan")]), T([float("nan")]), equal_nan=True)
    close(T([1.0]), T([1.1]), rtol=0.2, atol=0)
    close(T([1.0]), T([1.0], dtype=torch.float64), check_dtype=False)
    close((1, 2.0), [1, 2.0])
    with pytest.raises(ValueError, match="no atol"):
        close(T(1.0), T(1.0), rtol=1)
    with pytest.raises(TypeError, match="No comparison pair"):
        close(T(1.0), 1.0)
    with pytest.raises(AssertionError, match="^mine$"):
        close(1, 2, msg="mine")


def test_make_tensor():
    x = torch.testing.make_tensor(3, 4, dtype=torch.float32, low=1, high=2, noncontiguous=True)
    assert x.shape == (3, 4) and not x.is_contiguous() and (x >= 1).all() and (x < 2).all()
    y = torch.testing.make_tensor((50,), dtype=torch.int8, exclude_zero=True)
    assert y.dtype is torch.int8 and (y != 0).all()


def test_hub_runs_a_local_repository(tmp_path, monkeypatch):
    (tmp_path / "hubconf.py").write_text(
        'dependencies = ["numpy"]\ndef scaled(n, k=1):\n    """n times k"""\n    return n * k\n'
    )
    assert torch.hub.load(str(tmp_path), "scaled", 3, k=2, source="local") == 6
    with pytest.raises(RuntimeError, match="Cannot find callable"):
        torch.hub.load(str(tmp_path), "other", source="local")
    with pytest.raises(ValueError, match="Unknown source"):
        torch.hub.load(str(tmp_path), "scaled", source="web")


def test_hub_downloads_weights_once(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_chosen_dir", str(tmp_path / "hub"))
    torch.save({"w": torch.ones(2)}, tmp_path / "net-0000.pt")
    url = (tmp_path / "net-0000.pt").as_uri()
    assert torch.hub.load_state_dict_from_url(url, progress=False)["w"].tolist() == [1, 1]
    (tmp_path / "net-0000.pt").unlink()
    assert torch.hub.load_state_dict_from_url(url)["w"].tolist() == [1, 1]
    torch.save({}, tmp_path / "net-0000.pt")
    with pytest.raises(RuntimeError, match="invalid hash"):
        torch.hub.load_state_dict_from_url(
            url, str(tmp_path / "b"), progress=False, check_hash=True
        )
    assert [p.name for p in (tmp_path / "b").iterdir()] == []
