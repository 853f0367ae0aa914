"""Archives both ways with PyTorch, hostile and damaged files, and saving that never loses the old
file.
"""

import io
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

import lampion as torch

GOLDEN = Path(__file__).parents[1] / "golden" / "pytorch.pt"  # written by PyTorch 2.13.0


def example():
    x = torch.arange(6.0).view(2, 3)
    return {
        "x": x,
        "view": x.t(),
        "bf16": x.to(torch.bfloat16),
        "f8": x.to(torch.float8_e4m3fn),
        "u16": torch.tensor([1, 2], dtype=torch.uint16),
        "complex": torch.tensor([1 + 2j]),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "plain": [1, 2.5, "text", None, True, (1, b"bytes"), {3}],
        "size": torch.Size((2, 3)),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "state": OrderedDict(w=x),
    }


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return (
            type(a) is type(b)
            and a.dtype is b.dtype
            and a.shape == b.shape
            and a.stride() == b.stride()
            and a.requires_grad == b.requires_grad
            and a.tolist() == b.tolist()
        )
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_round_trip(tmp_path):
    torch.save(example(), tmp_path / "x.pt")
    loaded = torch.load(tmp_path / "x.pt")
    assert equal(example(), loaded)


def test_round_trip_through_a_file_object():
    buffer = io.BytesIO()
    torch.save(example(), buffer)
    buffer.seek(0)
    assert equal(example(), torch.load(buffer))


def test_shared_memory_stays_shared(tmp_path):
    torch.save(example(), tmp_path / "x.pt")
    loaded = torch.load(tmp_path / "x.pt")
    loaded["x"][0, 1] = 50.0
    assert loaded["view"][1, 0].item() == 50.0
    assert loaded["state"]["w"][0, 1].item() == 50.0


def test_equal_objects_make_equal_files():
    first, second = io.BytesIO(), io.BytesIO()
    torch.save(example(), first)
    torch.save(example(), second)
    assert first.getvalue() == second.getvalue()


def test_storages_are_aligned():
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3), "b": torch.ones(5, dtype=torch.float64)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        for info in archive.infolist():
            buffer.seek(info.header_offset + 26)
            name, extra = np.frombuffer(buffer.read(4), "<u2")
            assert (info.header_offset + 30 + int(name) + int(extra)) % 64 == 0


def test_reads_what_pytorch_wrote():
    loaded = torch.load(GOLDEN)
    x, view = loaded["shared"]
    assert x.tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert view.tolist() == np.arange(12.0).reshape(3, 4).T[1:].tolist()
    x[0, 1] = -1.0
    assert view[0, 0].item() == -1.0
    assert loaded["bf16"].dtype is torch.bfloat16
    assert loaded["u16"].tolist() == [1, 2]
    assert loaded["c"].dtype is torch.complex64
    assert isinstance(loaded["parameter"], torch.nn.Parameter)
    assert loaded["dtype"] is torch.float64
    layer = torch.nn.Linear(3, 2)
    layer.load_state_dict(loaded["model"])
    optimizer = torch.optim.Adam(layer.parameters())
    optimizer.load_state_dict(loaded["optimizer"])
    assert optimizer.state[layer.weight]["step"].item() == 1


def test_pytorch_reads_what_we_wrote(tmp_path, pytorch):
    torch.save(example(), tmp_path / "x.pt")
    theirs = pytorch.load(tmp_path / "x.pt", weights_only=True)
    assert theirs["view"].tolist() == example()["view"].tolist()
    assert theirs["x"].data_ptr() == theirs["view"].data_ptr()
    assert theirs["bf16"].dtype is pytorch.bfloat16
    assert theirs["parameter"].requires_grad


def test_safetensors_round_trip(tmp_path):
    tensors = {
        "a": torch.arange(6.0).view(2, 3),
        "b": torch.ones(2, dtype=torch.bfloat16),
        "c": torch.tensor(True),
    }
    torch.save(tensors, tmp_path / "x.safetensors")
    assert equal(torch.load(tmp_path / "x.safetensors"), tensors)
    with pytest.raises(TypeError, match=r"\[save\] a .safetensors file holds a dict of tensors"):
        torch.save([1], tmp_path / "y.safetensors")
    assert not (tmp_path / "y.safetensors").exists()


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def archive_of(payload, protocol=2):
    """An archive with a pickle made by Python's own pickler."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            "archive/data.pkl",
            payload if isinstance(payload, bytes) else pickle.dumps(payload, protocol),
        )
        archive.writestr("archive/version", b"3\n")
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("function", [os.system, eval, getattr, subprocess.call, exec])
def test_hostile_files_run_nothing(function, protocol, tmp_path):
    witness = tmp_path / "witness"
    hostile = Calls(function, f"touch {witness}")
    with pytest.raises(
        pickle.UnpicklingError, match=r"\[load\] the file names `.*`, which is not on the list"
    ):
        torch.load(archive_of(hostile, protocol), weights_only=False)
    assert not witness.exists()


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80\x02ctorch\nTensor\n}X\x03\x00\x00\x00addK\x01s\x86b.",  # state on a class
        b"\x80\x02ccollections\nOrderedDict\nN}X\x01\x00\x00\x00xK\x01s\x86b.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",  # missing arguments
        b"\x80\x02K\x01K\x02R.",  # calls a number
        b"(i__builtin__\neval\n.",
        b"\x80\x02\x82\x01.",  # extension registry
    ],
)
def test_malformed_pickles(payload):
    with pytest.raises((pickle.UnpicklingError, RuntimeError), match=r"\[load\]"):
        torch.load(archive_of(payload))
    assert not hasattr(torch.Tensor, "x")


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [
        (0, (100,), (1,)),
        (3, (2,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, ("2",), (1,)),
    ],
)
def test_tensors_outside_their_storage(offset, size, stride):
    from lampion.io.unpickle import rebuild_tensor

    with pytest.raises(pickle.UnpicklingError, match=r"\[load\] a tensor of size"):
        rebuild_tensor(np.zeros(4, np.float32), offset, size, stride)


def test_own_classes_after_asking(tmp_path):
    torch.save({"point": Point(1, 2)}, tmp_path / "x.pt")
    with pytest.raises(pickle.UnpicklingError, match="Point"):
        torch.load(tmp_path / "x.pt")
    with torch.serialization.safe_globals([Point]):
        assert torch.load(tmp_path / "x.pt")["point"].y == 2


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y


@given(st.data())
def test_damage_is_an_error_or_harmless(data):
    """One changed bit or a cut: the loader raises its own errors, or the bit was in no content."""
    buffer = io.BytesIO()
    torch.save(example(), buffer)
    blob = bytearray(buffer.getvalue())
    at = data.draw(st.integers(0, len(blob) - 1))
    if data.draw(st.booleans()):
        blob = blob[:at]
    else:
        blob[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        loaded = torch.load(io.BytesIO(bytes(blob)))
    except (RuntimeError, pickle.UnpicklingError) as error:
        assert "[load]" in str(error)
    else:
        assert equal(loaded, example())


def test_truncated_and_foreign_files_name_themselves(tmp_path):
    torch.save(example(), tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_text("not an archive")
    (tmp_path / "empty.pt").write_bytes(b"")
    classes = {"cut.pt": RuntimeError, "text.pt": pickle.UnpicklingError, "empty.pt": EOFError}
    for name, error in classes.items():  # PyTorch's classes
        with pytest.raises(error, match=rf"\[load\] .*{name} is damaged or no archive"):
            torch.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        torch.load(tmp_path / "missing.pt")


FULL_DISK = """
import resource, sys
import lampion as torch
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    torch.save({"big": torch.zeros(100000)}, sys.argv[1])
except OSError as error:
    print("refused:", error.strerror)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux's file size limit as a full disk")
def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"small": torch.ones(2)}, path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True
    )
    assert "refused: File too large" in done.stdout
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.pt"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 20000


def test_an_error_while_saving_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.pt"
    torch.save([1], path)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        torch.save({"tensor": torch.ones(3), "bad": lambda: None}, path)
    assert torch.load(path) == [1]
    assert os.listdir(tmp_path) == ["x.pt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"\[save\] Parent directory .* does not exist"):
        torch.save([1], tmp_path / "none" / "x.pt")


def test_no_gpu_to_load_to(tmp_path):
    torch.save([1], tmp_path / "x.pt")
    assert torch.load(tmp_path / "x.pt", map_location="cpu") == [1]
    with pytest.raises(RuntimeError, match="no CUDA device is available"):
        torch.load(tmp_path / "x.pt", map_location="cuda:0")
