"""Peak memory of training steps, Lampion beside PyTorch, each in a process of its own.

    python benchmarks/memory.py [--json OUT]

Two figures per program: the process's peak, and how much of it came after importing the library and
making model and data. Both run the same program text on two threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import resource, sys
import {library} as torch
from {library} import nn

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.set_num_threads(2)
torch.manual_seed(0)
if {name!r} == "MLP":
    model = nn.Sequential(
        nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 10))
    x = torch.randn(512, 784)
else:
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 10))
    x = torch.randn(64, 3, 32, 32)
y = torch.randint(0, 10, (len(x),))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
before = peak()
for _ in range(4):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
print(before, peak())
"""


def measure(library: str, name: str) -> dict[str, float]:
    """Megabytes: the process's peak, and its growth during the steps."""
    program = PROGRAM.format(library=library, name=name)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    before, peak = map(float, done.stdout.split())
    return {"peak": peak, "growth": peak - before}


def main() -> None:
    """Prints the table; with --json also writes it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", help="write the rows here as well")
    chosen = options.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'training step':16}{'':10}{'Lampion MB':>12}{'PyTorch MB':>12}{'ratio':>8}")
    for name in ("MLP", "CNN"):
        runs = {lib: [measure(lib, name) for _ in range(3)] for lib in ("lampion", "torch")}
        for figure in ("peak", "growth"):
            ours, theirs = (min(r[figure] for r in runs[lib]) for lib in ("lampion", "torch"))
            rows.append(
                {
                    "step": name,
                    "figure": figure,
                    "lampion": ours,
                    "torch": theirs,
                    "ratio": ours / theirs,
                }
            )
            print(f"{name:16}{figure:10}{ours:12.1f}{theirs:12.1f}{ours / theirs:8.2f}")
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
