"""The type stubs say what Tensor and the public namespaces have after import."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_stubs_are_up_to_date():
    # In an interpreter of its own, where no test has attached operators of its own.
    command = [sys.executable, "-m", "tools.make_stubs", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
