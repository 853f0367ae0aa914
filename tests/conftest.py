"""What all tests share: repeatable examples, and settings that no test leaves changed."""

import sys

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("lampion", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("lampion")


@pytest.fixture(autouse=True)
def settings_restored():
    """Every test starts from seed 0, float32 and gradients on, and must leave the latter two so."""
    np.random.seed(0)
    lampion = sys.modules.get("lampion")
    if lampion is None:  # a test that does not use the library
        yield
        return
    lampion.manual_seed(0)
    yield
    left = lampion.get_default_dtype(), lampion.is_grad_enabled()
    lampion.set_default_dtype(lampion.float32)
    lampion.set_grad_enabled(True)
    assert left == (lampion.float32, True), f"the test left default dtype and grad mode {left}"


@pytest.fixture
def pytorch():
    """PyTorch itself, to compare with; without it, tests that ask for it are skipped."""
    return pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
