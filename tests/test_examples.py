"""The examples run with Lampion as their torch; with PyTorch installed, they print the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(p.name for p in FOLDER.glob("*.py"))


def output(*command):
    """What a program prints; fails with its errors."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name):
    assert output("-m", "lampion", "run", str(FOLDER / name))


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_prints_what_pytorch_prints(name, pytorch):
    """Texts are equal; numbers to 1 part in 1,000 (sums are rounded in another order)."""
    ours, theirs = output("-m", "lampion", "run", str(FOLDER / name)), output(str(FOLDER / name))
    number = re.compile(r"[-+]?\d+\.?\d*(?:e[-+]?\d+)?")
    assert number.sub("#", ours) == number.sub("#", theirs)
    for a, b in zip(number.findall(ours), number.findall(theirs), strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-3, abs=1e-5)


def test_the_table_lists_every_example():
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in EXAMPLES)
