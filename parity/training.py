"""Trains each of `programs/` in PyTorch and in Lampion, one text, one seed; compares every loss.

The text says `import torch`; for Lampion that line becomes `import lampion as torch`.
"""

import argparse
import math
import sys
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent / "programs"
TOLERANCES = {"mlp": 1e-4, "cnn": 1e-3}  # largest relative difference of a loss


def losses(name, library):
    """What `train` of a program gives when the library stands for torch."""
    path = PROGRAMS / f"{name}.py"
    text = path.read_text()
    if text.count("\nimport torch\n") != 1:
        raise ValueError(f"{path.name} must say `import torch` once, on a line of its own")
    text = text.replace("\nimport torch\n", f"\nimport {library} as torch\n")
    scope = {"__name__": name}
    exec(compile(text, path, "exec"), scope)
    return scope["train"]()


def relative_difference(ours, theirs):
    """|ours - theirs| / |theirs|, infinite where one of them is not a number."""
    if math.isnan(ours) or math.isnan(theirs):
        return math.inf
    return abs(ours - theirs) / max(abs(theirs), 1e-12)


def main():
    """0 if every program stays within its tolerance, else 1."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--impl", default="lampion", help="module to test (default: %(default)s)")
    options = p.parse_args()
    failed = False
    print(f"{'program':9}{'steps':>6}{'first':>8}{'last':>8}{'difference':>12}{'limit':>8}")
    for name, limit in TOLERANCES.items():
        theirs, ours = losses(name, "torch"), losses(name, options.impl)
        pairs = list(zip(ours, theirs, strict=True))
        largest = max(relative_difference(a, b) for a, b in pairs)
        step = next(i for i, pair in enumerate(pairs) if relative_difference(*pair) == largest)
        row = f"{name:9}{len(pairs):6}{theirs[0]:8.4f}{theirs[-1]:8.4f}{largest:12.1e}{limit:8.0e}"
        if largest > limit:
            failed = True
            row += f"  step {step + 1}: {ours[step]}, PyTorch {theirs[step]}"
        print(row)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
