"""The sections of the benchmark: each asks the contestants in turn and returns plain dictionaries.

Only one contestant runs at a time; they take turns in short bursts, each round in another order,
so that a busy neighbour or a changed clock speed hits all alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contestants import PEERS, Failed, Field, Result
from torch_steps import build
from workloads import CALLS, STEPS, WORKLOADS, Size

BURST = 0.25  # seconds
PAUSE = 0.01  # seconds for the threads of the contestant before to fall asleep
SAMPLES = 5  # of a step, though it takes longer than its share of time: at most LONGER times
LONGER = 3
DRIFT_TOLERANCE = 0.01  # of how far all weights moved, relative
SCALES = {
    "batch": (8, 128, 2048),
    "width": (256, 1024),
    "depth": (4, 16),
}


def say(text: str) -> None:
    """Tells whoever waits what has been measured."""
    print(text, flush=True)


def write_weights(name: str, size: Mapping[str, int], folder: Path) -> str:
    """The file of the weights every contestant starts from; Lampion draws them, from seed 0."""
    import lampion

    lampion.manual_seed(0)
    weights = build(lampion, name, Size(**{**WORKLOADS[name].size, **size})).weights
    path = folder / f"{name}.npz"
    np.savez(path, **{key: weight.detach().numpy() for key, weight in weights.items()})
    return str(path)


def start(field: Field, name: str, size: Mapping[str, int], folder: Path) -> dict[str, Result]:
    """Starts a workload with every contestant; what one cannot do is in its "error"."""
    weights = write_weights(name, size, folder)
    results: dict[str, Result] = {}
    for contestant in field.names:
        request = {"workload": name, "size": dict(size), "weights": weights}
        try:
            results[contestant] = field.worker(contestant).ask("start", **request)
        except Failed as failure:
            results[contestant] = {"error": str(failure)}
            say(f"    {contestant}: {failure}")
    return results


def compare(results: dict[str, Result], tolerance: float) -> None:
    """Marks with an "error" whose values differ from the reference's, PyTorch's where it ran."""
    ran = [name for name, result in results.items() if "error" not in result]
    if not ran:
        return
    reference = results["torch" if "torch" in ran else ran[0]]
    expected = np.array(reference["values"])
    scale = np.abs(expected).max() or 1.0
    for name in ran:
        result = results[name]
        got = np.array(result["values"])
        difference = np.abs(got - expected).max() / scale if got.shape == expected.shape else np.inf
        moved = abs(result["drift"] - reference["drift"]) / (reference["drift"] or 1.0)
        result["difference"] = float(difference)
        result["drift difference"] = moved
        if not (difference <= tolerance and moved <= DRIFT_TOLERANCE):
            result["error"] = f"results differ: values {difference:.1e}, weights {moved:.1e}"
            say(f"    {name}: {result['error']}")


def race(field: Field, results: dict[str, Result], seconds: float) -> None:
    """Adds "best" and "median" seconds of a step to each result; `seconds` for each contestant,
    more where that is too short for a few steps.
    """
    times: dict[str, list[float]] = {n: [] for n, r in results.items() if "error" not in r}
    spent = dict.fromkeys(times, 0.0)

    def running() -> list[str]:
        return [
            name
            for name, already in spent.items()
            if already < seconds or (len(times[name]) < SAMPLES and already < LONGER * seconds)
        ]

    first = 0
    while names := running():
        first = (first + 1) % len(names)
        for name in names[first:] + names[:first]:
            begin = time.monotonic()
            try:
                times[name] += field.workers[name].ask("burst", seconds=BURST)["times"]
            except Failed as failure:
                results[name]["error"] = str(failure)
                say(f"    {name}: {failure}")
                begin -= LONGER * seconds
            spent[name] += time.monotonic() - begin
            time.sleep(PAUSE)
    for name, measured in times.items():
        if measured:
            results[name]["best"] = min(measured)
            results[name]["median"] = statistics.median(measured)


def run_workload(
    field: Field, name: str, size: Mapping[str, int], seconds: float, folder: Path
) -> dict[str, Result]:
    """Starts, compares and times one workload."""
    results = start(field, name, size, folder)
    compare(results, WORKLOADS[name].tolerance)
    race(field, results, seconds)
    return results


def best_peer(results: Mapping[str, Result], figure: str = "best") -> float | None:
    """The least of a figure among the peers whose results agree."""
    figures = [results[n][figure] for n in PEERS if usable(results.get(n, {}), figure)]
    return min(figures, default=None)


def usable(result: Result, figure: str = "best") -> bool:
    """Whether a result has that figure and nothing speaks against it."""
    return figure in result and "error" not in result


def speeds(results: Mapping[str, Result]) -> dict[str, float]:
    """Each contestant's speed, the best peer's being 1 (without peers, the fastest's)."""
    times = {name: result["best"] for name, result in results.items() if usable(result)}
    base = best_peer(results) or min(times.values(), default=1.0)
    return {name: base / seconds for name, seconds in times.items()}


def line(title: str, results: Mapping[str, Result], unit: Callable[[float], str]) -> str:
    """One measured workload, for whoever waits."""
    found = [f"{n} {unit(r['best'])}" for n, r in results.items() if usable(r)]
    return f"  {title}: " + ", ".join(found)


def steps(
    field: Field, chosen: Sequence[str], seconds: float, folder: Path
) -> dict[str, dict[str, Result]]:
    """The training steps; the first step's time with empty caches is in "first"."""
    measured = {}
    for name in chosen:
        say(f"  {STEPS[name].title} ...")
        measured[name] = run_workload(field, name, {}, seconds, folder)
        say(line(STEPS[name].title, measured[name], duration))
    return measured


def calls(field: Field, seconds: float, folder: Path) -> dict[str, dict[str, Result]]:
    """Large elementwise calls and reductions, in bytes a second that had to be moved."""
    measured = {}
    for name, workload in CALLS.items():
        names = field.names if name == "copy" else [n for n in field.names if n != "copy"]
        part = Field(names, field.threads, field.caches)
        part.workers = field.workers
        results = run_workload(part, name, {}, seconds, folder)
        elements = workload.size["rows"] * workload.size["columns"]
        for result in results.values():
            if usable(result):
                moved = elements * (workload.read_bytes + workload.written_bytes)
                result["bandwidth"] = moved / result["best"]
        measured[name] = results
        say(line(workload.title, results, duration))
    return measured


def fresh(
    field: Field, chosen: Sequence[str], cold: Mapping[str, Mapping[str, Result]], folder: Path
) -> dict[str, dict[str, Result]]:
    """The same steps in fresh processes whose caches `cold` (or a process before) has filled: the
    first step's time, and the most memory that the first steps and two later ones need beyond
    model, data and library.
    """
    measured: dict[str, dict[str, Result]] = {}
    for name in chosen:
        measured[name] = {}
        for contestant in field.names:
            before = cold.get(name, {}).get(contestant) or alone(field, contestant, name, folder)
            result = alone(field, contestant, name, folder)
            if "first" in before:
                result["cold"] = before["first"]
            measured[name][contestant] = result
        found = [
            f"{n} {duration(r['first'])}, {r['growth']:.0f} MB"
            for n, r in measured[name].items()
            if usable(r, "growth")
        ]
        say(f"  {STEPS[name].title}, first step and memory: " + "; ".join(found))
    return measured


def alone(field: Field, contestant: str, name: str, folder: Path) -> Result:
    """A contestant's first step and memory in a process for this alone."""
    with Field([contestant], field.threads, field.caches) as single:
        result = start(single, name, {}, folder)[contestant]
        if "error" not in result:
            resident = result["resident"]
            peak = single.worker(contestant).ask("memory", steps=2)["peak"]
            result |= {"growth": peak - resident, "start": result["summit"] - resident}
            result["peak"] = max(peak, result["summit"])
    return result


def scaling(field: Field, seconds: float, folder: Path, quick: bool) -> list[dict[str, Any]]:
    """The MLP's step for other batches, widths and depths, one changed at a time."""
    measured = []
    for dimension, values in SCALES.items():
        for value in (values[-1],) if quick else values:
            results = run_workload(field, "mlp", {dimension: value}, seconds, folder)
            measured.append({"dimension": dimension, "value": value, "results": results})
            say(line(f"MLP, {dimension} {value}", results, duration))
    return measured


def duration(seconds: float) -> str:
    """
    >>> duration(4.26e-6), duration(0.0431), duration(1.12)
    ('4.26 us', '43.1 ms', '1.12 s')
    """
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"
