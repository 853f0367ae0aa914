"""Peak memory of training steps, Lampion beside PyTorch, each in a process of its own.

    python benchmarks/memory.py [--only gpt,lstm] [--threads 2] [--json OUT]

How many megabytes a process grows beyond library, model and data: during the first steps, tracing
and compiling included, and during later ones. All run the same program text on the same numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import measure  # noqa: E402
from contestants import Field  # noqa: E402
from workloads import STEPS  # noqa: E402

CONTESTANTS = ("lampion.compile", "lampion", "torch")
FIGURES = {"start": "first steps", "growth": "later steps"}
ROUNDS = 2  # the smallest counts: what else a system does only adds


def grown(name: str, contestant: str, threads: int, folder: Path) -> dict[str, float]:
    """The figures of one contestant."""
    field = Field([contestant], threads, folder / "caches")
    runs = [measure.alone(field, contestant, name, folder) for _ in range(ROUNDS)]
    return {figure: min(run[figure] for run in runs) for figure in FIGURES}


def rows(names: list[str], threads: int) -> list[dict[str, Any]]:
    """A row for each training step and figure."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            each = {c: grown(name, c, threads, Path(folder)) for c in CONTESTANTS}
            for figure, what in FIGURES.items():
                values = {c: each[c][figure] for c in CONTESTANTS}
                ratio = values["lampion.compile"] / values["torch"]
                found.append({"step": name, "growth, MB": what, **values, "ratio": ratio})
    return found


def main() -> None:
    """Prints the table; with --json also writes it."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--json", help="write the rows here as well")
    options.add_argument("--only", default="resnet18,gpt,lstm", help=f"some of {', '.join(STEPS)}")
    options.add_argument("--threads", type=int, default=2)
    chosen = options.parse_args()
    found = rows(chosen.only.split(","), chosen.threads)
    for row in found:
        print(", ".join(f"{k} {v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
