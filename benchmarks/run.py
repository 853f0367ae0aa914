"""Lampion, eager and compiled, beside PyTorch, torch.compile and jax.jit, on the same work.

    make bench                                              # all of it, about 12 minutes
    python benchmarks/run.py --quick                        # about 3 minutes
    python benchmarks/run.py --only gpt,lstm --contestants lampion,torch --seconds 5

Every contestant has a process of its own; they take turns in short bursts on the same cores, after
their results were compared. Writes results.json, results.md and training_steps.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import measure  # noqa: E402
from contestants import NAMES, Field, missing, versions  # noqa: E402
from picture import draw  # noqa: E402
from workloads import STEPS  # noqa: E402

from lampion.compiler.native import runtime  # noqa: E402
from report import markdown  # noqa: E402

FRESH = ("resnet18", "gpt", "lstm")  # whose compile time and memory are measured
SWEEPS = ("gemm", "conv")  # scripts of their own, each with --threads, --seconds and --json
SECTIONS = ("fresh", *SWEEPS, "calls", "scaling", "footprint")


def listed(allowed: tuple[str, ...]) -> Any:
    """An argument's type: some of these names, separated by commas."""

    def parse(text: str) -> list[str]:
        unknown = [name for name in text.split(",") if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(allowed)}")
        return text.split(",")

    return parse


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = (*STEPS, *SECTIONS)
    parser.add_argument(
        "--only", type=listed(every), metavar="A,B", help=f"some of {', '.join(every)}"
    )
    parser.add_argument(
        "--contestants", type=listed(NAMES), metavar="A,B",
        help=f"some of {', '.join(NAMES)}",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, help="for each contestant and training step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks")
    return parser.parse_args()


def machine(threads: int) -> dict[str, Any]:
    """What the figures were measured on."""
    processor = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        processor = models[0] if models else processor
    date = time.strftime("%Y-%m-%d")
    units = runtime.available() and runtime.host().matrix
    return {
        "processor": processor, "matrix units": units, "threads": threads, "date": date,
        "versions": versions(),
    }  # fmt: skip


def script(name: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    """The rows of another script of this folder, in its own process."""
    out = folder / f"{name}.json"
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--json", str(out)]
    command += options
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    return json.loads(out.read_text())


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures that were asked for."""
    wanted = options.only or [*STEPS, *SECTIONS]
    asked = options.contestants or list(NAMES)
    absent = {name: reason for name in asked if (reason := missing(name))}
    if options.quick and not options.contestants:
        absent.setdefault("torch.compile", "it compiles for minutes; --quick leaves it out")
    names = [name for name in asked if name not in absent]
    for name, reason in absent.items():
        measure.say(f"skipping {name}: {reason}")
    figures: dict[str, Any] = {"machine": machine(options.threads), "absent": absent}
    caches, quick = folder / "caches", options.quick
    seconds = options.seconds or (1.0 if quick else 5.0)
    short = min(seconds, 0.25 if quick else 0.5)
    chosen = [name for name in STEPS if name in wanted]
    with Field(names, options.threads, caches) as field:
        if chosen:
            measure.say("training steps, first with empty caches")
            figures["steps"] = measure.steps(field, chosen, seconds, folder)
        if "scaling" in wanted:
            measure.say("scaling")
            figures["scaling"] = measure.scaling(field, short, folder, quick)
    if "calls" in wanted:
        measure.say("elementwise calls and reductions")
        with Field([*names, "copy"], options.threads, caches) as field:
            figures["calls"] = measure.calls(field, short, folder)
    if "fresh" in wanted:
        measure.say("compile time and memory, in fresh processes")
        heavy = [name for name in FRESH if name in chosen] or list(FRESH)
        heavy = heavy[-2:] if quick else heavy
        ready = Field(names, options.threads, caches)
        figures["fresh"] = measure.fresh(ready, heavy, figures.get("steps", {}), folder)
    for name in SWEEPS:
        if name not in wanted:
            continue
        if not (ROOT / "benchmarks" / f"{name}.py").exists():
            absent[name] = f"benchmarks/{name}.py does not exist yet"
            continue
        measure.say(f"{name}: shapes against the peak of multiply-adds")
        lengths = ["--threads", str(options.threads), "--seconds", "0.5" if quick else "2"]
        figures[name] = script(name, folder, *lengths)
    if "footprint" in wanted:
        measure.say("footprint: imports and disk")
        figures["footprint"] = script("footprint", folder)
    return figures


def main() -> None:
    """Measures, and writes what it found."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(options, Path(folder))
    (options.out / "results.json").write_text(json.dumps(figures, indent=1) + "\n")
    text = markdown(figures)
    (options.out / "results.md").write_text(text)
    print("\n" + text)
    if "steps" in figures:
        about = figures["machine"]
        note = f"{about['processor']}, {about['threads']} threads, float32, {about['date']}"
        try:
            draw(figures["steps"], options.out / "training_steps.png", note)
        except ImportError as error:
            print(f"no picture: {error}")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
