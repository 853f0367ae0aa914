"""Tensors as text, compared with what PyTorch 2.13 printed (parity/golden/printing.py)."""

import json
import math
import pathlib

import ml_dtypes
import numpy as np
import pytest

from lampion.core import printing

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "printing.json"
CASES = json.loads(GOLDEN.read_text())


def rebuild(case: dict) -> np.ndarray:
    """The array a golden case was printed from."""
    name = case["arguments"]["dtype_name"]
    values = np.array(case["values"], dtype=np.float64 if "float" in name else None)
    if name.startswith("complex"):
        values = values.astype(np.float64).view(np.complex128)
    dtype = np.dtype(getattr(ml_dtypes, name) if hasattr(ml_dtypes, name) else name)
    return values.astype(dtype).reshape(case["shape"])


@pytest.mark.parametrize("case", CASES, ids=[case["text"][:40] for case in CASES])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_prints_what_pytorch_prints(case):
    with printing.printoptions(**case["options"]):
        assert printing.format_tensor(rebuild(case), **case["arguments"]) == case["text"]


def test_there_are_enough_cases():
    assert len(CASES) >= 60


def test_prefix_sets_the_indentation_and_tangent_comes_last():
    array = np.arange(4.0, dtype=np.float32).reshape(2, 2)
    text = printing.format_tensor(
        array, dtype_name="float32", prefix="Points(", tangent="tensor([1.])"
    )
    assert text == "Points([[0., 1.],\n        [2., 3.]], tangent=tensor([1.]))"


def test_device_is_named_unless_it_is_the_cpu():
    text = printing.format_tensor(np.array([1]), dtype_name="int64", device="cuda:0")
    assert text == "tensor([1], device='cuda:0')"


def test_options_are_restored_after_an_error():
    before = printing.get_printoptions()
    with pytest.raises(KeyError), printing.printoptions(precision=9, sci_mode=True):
        assert printing.options.precision == 9
        raise KeyError
    assert printing.get_printoptions() == before


def test_profiles_and_automatic_scientific_mode():
    with printing.printoptions():
        printing.set_printoptions(profile="full", sci_mode=True)
        assert printing.options.threshold == math.inf and printing.options.sci_mode is True
        printing.set_printoptions(profile="short", edgeitems=7)
        assert (printing.options.precision, printing.options.edgeitems) == (2, 7)
        assert printing.options.sci_mode is None
        assert printing.PROFILES["short"].edgeitems == 2


def test_unknown_profile_is_refused():
    with pytest.raises(ValueError, match=r"\[set_printoptions\] expects profile in .*'tiny'"):
        printing.set_printoptions(profile="tiny")


def test_a_large_array_is_printed_without_touching_its_middle():
    """A broadcast view of 10**12 elements has only its corners read."""
    array = np.broadcast_to(np.float32(0.5), (10**6, 10**6))
    text = printing.format_tensor(array, dtype_name="float32")
    assert text.count("0.5000") == 36
