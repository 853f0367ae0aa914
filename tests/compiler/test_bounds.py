"""No kernel reads or writes beyond its arrays: they run between pages that are closed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lampion.compiler.native import runtime

if sys.platform != "linux":
    pytest.skip("the pages are Linux's", allow_module_level=True)

ROOT = Path(__file__).parents[2]
STRAY = """
import ctypes, sys
from tests.compiler.guarded import guarded
x = guarded((5,), "float32", sys.argv[1])
place = x.ctypes.data + (x.nbytes if sys.argv[1] == "end" else -4)
print(x.sum(), flush=True)
print(ctypes.c_float.from_address(place).value)
"""


def started(*command: str) -> subprocess.CompletedProcess:
    """A Python process in the repository, ended."""
    return subprocess.run(
        [sys.executable, "-W", "error:[compile]", *command],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("side", ["begin", "end"])
def test_a_stray_access_is_seen(side):
    done = started("-c", STRAY, side)
    assert done.stdout == f"{np.float32(0)}\n"
    assert done.returncode < 0


@pytest.mark.skipif(not runtime.available(), reason="llvmlite is missing")
@pytest.mark.parametrize("side", ["begin", "end"])
def test_kernels_stay_inside(side):
    done = started("-m", "tests.compiler.guarded", side)
    assert done.stdout.endswith("done\n"), (done.returncode, done.stdout[-60:], done.stderr[-800:])
