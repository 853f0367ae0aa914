"""What it costs to have a library: seconds and memory of its import, megabytes on disk.

    python benchmarks/footprint.py [--json OUT]

Imports are timed in fresh processes, their byte code compiled by a process before, the fastest of
several, the libraries in turn. The disk holds the package and what it requires at run time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("numpy", "lampion", "jax", "torch")
PROGRAM = """
import resource, time
begin = time.perf_counter()
import {}
taken = time.perf_counter() - begin
print(taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
ROUNDS = 5


def imported(library: str, byte_code: str) -> tuple[float, float]:
    """Seconds of the import, and the process's megabytes after it; `byte_code` is the folder of
    compiled modules.
    """
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    own = {"PYTHONPATH": path, "PYTHONPYCACHEPREFIX": byte_code, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(library)],
        env={**os.environ, **own}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def requirements(distribution: str) -> list[str]:
    """The names a distribution requires without extras; Lampion's stand in this clone."""
    if distribution == "lampion":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        lines = project["dependencies"]
    else:
        lines = importlib.metadata.requires(distribution) or []
    names = [re.match(r"[\w.-]+", line) for line in lines if "extra ==" not in line]
    return [match[0] for match in names if match]


def files(distribution: str) -> list[Path]:
    """A distribution's files on disk, byte code left out."""
    if distribution == "lampion":
        found = list((ROOT / "lampion").rglob("*"))
    else:
        found = [Path(str(f.locate())) for f in importlib.metadata.files(distribution) or ()]
    return [path for path in found if path.suffix != ".pyc" and path.is_file()]


def disk(distribution: str) -> dict[str, float]:
    """Megabytes of each distribution that has to be there; those of other systems are not."""
    sizes: dict[str, float] = {}
    left = [distribution]
    while left:
        name = left.pop().lower().replace("_", "-")
        if name in sizes:
            continue
        try:
            sizes[name] = sum(path.stat().st_size for path in files(name)) / 1e6
            left += requirements(name)
        except importlib.metadata.PackageNotFoundError:
            sizes[name] = 0.0
    return sizes


def rows() -> list[dict[str, Any]]:
    """A row for each library that is here."""
    here = [name for name in LIBRARIES if importlib.util.find_spec(name)]
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in here}
    with tempfile.TemporaryDirectory() as byte_code:
        for _ in range(1 + ROUNDS):
            for name in here:
                costs[name].append(imported(name, byte_code))
    found = []
    for name in here:
        seconds, megabytes = (min(values) for values in zip(*costs[name], strict=True))
        sizes = disk(name)
        largest = max(sizes, key=lambda key: sizes[key])
        found.append(
            {
                "library": name,
                "import, ms": seconds * 1e3,
                "memory after it, MB": megabytes,
                "on disk, MB": sum(sizes.values()),
                "of which": f"{largest} {sizes[largest]:.0f}",
            }
        )
    return found


def main() -> None:
    """Prints the table; with --json also writes it."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--json", help="write the rows here as well")
    chosen = options.parse_args()
    found = rows()
    for row in found:
        print(", ".join(f"{k} {v:.0f}" if isinstance(v, float) else str(v) for k, v in row.items()))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
