"""What `import lampion` costs and promises: nothing heavy, few modules, no dangling public name."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lampion
from lampion.version import __version__

ROOT = Path(__file__).resolve().parents[1]
CORE_LINES = 750  # op, dispatch and autograd together: the part a reader takes in at one sitting
MODULES = 420  # after `import lampion`, NumPy's 170 or so included; PyTorch loads over 1,100
HEAVY = ["llvmlite", "matplotlib", "rich", "torch", "scipy", "cupy", "tensorboard"]


def run_python(code):
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def loaded():
    """The names of all modules after `import lampion` in a fresh interpreter."""
    code = "import sys, json, lampion; print(json.dumps(sorted(sys.modules)))"
    return set(json.loads(run_python(code)))


@pytest.mark.parametrize("package", HEAVY)
def test_import_leaves_heavy_packages_alone(loaded, package):
    assert package not in {name.split(".")[0] for name in loaded}


def test_import_loads_few_modules(loaded):
    own = sum(name.split(".")[0] == "lampion" for name in loaded)
    assert len(loaded) <= MODULES, f"{len(loaded)} modules loaded, {own} of them Lampion's"


def test_import_prints_nothing_and_warns_of_nothing():
    code = "import warnings; warnings.simplefilter('error'); import lampion"
    assert run_python(code) == ""


def test_public_names_exist():
    assert len(lampion.__all__) == len(set(lampion.__all__)), "a name is listed twice"
    missing = [name for name in lampion.__all__ if not hasattr(lampion, name)]
    assert not missing


def test_star_import_gives_the_public_names():
    scope = {}
    exec("from lampion import *", scope)
    assert set(lampion.__all__) <= set(scope)


def test_the_core_stays_small():
    lines = {
        name: len((ROOT / "lampion" / "core" / f"{name}.py").read_text().splitlines())
        for name in ("op", "dispatch", "autograd")
    }
    assert sum(lines.values()) < CORE_LINES, lines


def test_version_stands_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    try:
        installed = importlib.metadata.version("lampion")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("lampion runs from its source folder, not installed")
    assert installed == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def readme_programs():
    """The Python programs shown in README.md."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)


def test_readme_shows_programs():
    assert readme_programs()


@pytest.mark.parametrize("number", range(len(readme_programs())))
def test_readme_programs_run(number):
    run_python(readme_programs()[number])


def test_the_operator_that_contributing_adds():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    record, sample, use = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    checks = """
import lampion
lampion.squareplus = squareplus
from tests.test_operators import (test_values, test_gradients, test_jvp_is_the_transpose_of_vjp,
                                  test_vmap_is_a_loop, test_errors)
for dtype in sample.dtypes:
    test_values(sample, dtype)
test_gradients(sample, "float64")
test_jvp_is_the_transpose_of_vjp(sample, "float64")
test_vmap_is_a_loop(sample)
test_errors(sample, sample.errors[0])
print("checked")
"""
    printed = run_python(record + use + sample + checks)
    assert "tensor([0.6180, 1.0000, 1.6180], grad_fn=<SquareplusBackward0>)" in printed
    assert printed.endswith("checked\n")
