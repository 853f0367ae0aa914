"""Turns the measured figures into Markdown tables. Imports what measure.py defines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from measure import best_peer, duration, speeds, usable
from workloads import CALLS, STEPS

Figures = dict[str, Any]
SCRIPTS = {
    "gemm": "Matrix products, GFLOP/s",
    "conv": "Convolutions, GFLOP/s",
    "footprint": "Imports and disk",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for those who read the text."""
    cells = [list(head), *map(list, rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in cells
    )


def cell(results: Mapping[str, Figures], name: str, figure: str = "best") -> str:
    """A contestant's time; says where there is none."""
    result = results.get(name, {})
    return duration(result[figure]) if usable(result, figure) else "failed" if result else "-"


def names_in(measured: Iterable[Mapping[str, Figures]]) -> list[str]:
    """The contestants of all rows, in their order."""
    return list(dict.fromkeys(name for results in measured for name in results))


def steps_table(measured: Mapping[str, Mapping[str, Figures]]) -> str:
    """Times of a step, and Lampion's speed beside the best peer's."""
    names = names_in(measured.values())
    rows = []
    for name, results in measured.items():
        ratio = speeds(results) if best_peer(results) else {}
        ours = [f"{ratio[n]:.2f}" if n in ratio else "-" for n in ("lampion.compile", "lampion")]
        times = [cell(results, contestant) for contestant in names]
        rows.append([STEPS[name].title, *times, *ours, f"{STEPS[name].goal:g}"])
    head = ["training step", *names, "best peer / compiled", "best peer / eager", "goal, compiled"]
    return table(head, rows)


def fresh_table(measured: Mapping[str, Mapping[str, Figures]]) -> str:
    """First steps and memory, a row for each contestant."""
    rows = []
    for name, results in measured.items():
        for contestant, result in results.items():
            times = [cell(results, contestant, figure) for figure in ("cold", "first")]
            memory = ["failed"] * 3
            if usable(result, "growth"):
                memory = [f"{result[figure]:.0f}" for figure in ("start", "growth", "peak")]
            rows.append([STEPS[name].title, contestant, *times, *memory])
    head = ["training step", "contestant", "first step, no cache", "first step, cached"]
    return table([*head, "first steps, MB", "a later step, MB", "whole process, MB"], rows)


def calls_table(measured: Mapping[str, Mapping[str, Figures]]) -> str:
    """Bandwidth of large calls as a share of a copy's."""
    copy = measured["copy"].get("copy", {}).get("bandwidth")
    names = [name for name in names_in(measured.values()) if name != "copy"]
    rows = []
    for name, results in measured.items():
        figures = []
        for contestant in names:
            rate = results.get(contestant, {}).get("bandwidth")
            figures.append(f"{rate / copy:.0%}" if rate and copy else "failed")
        rows.append([CALLS[name].title, *figures])
    note = (
        f"A copy on all threads moves {copy / 1e9:.1f} GB/s (read and written).\n\n" if copy else ""
    )
    return note + table(["4096 x 1024 float32, share of the copy's bandwidth", *names], rows)


def scaling_table(measured: Sequence[Figures]) -> str:
    """The MLP's step by batch, width and depth."""
    names = names_in(row["results"] for row in measured)
    return table(
        ["MLP 784-100-10, batch 128, with", *names],
        (
            [f"{row['dimension']} {row['value']}", *(cell(row["results"], n) for n in names)]
            for row in measured
        ),
    )


def script_table(rows: Sequence[Figures]) -> str:
    """Whatever a script of its own wrote, a column for each key."""

    def text(key: str, value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        return f"{value:.0%}" if "share" in key else f"{value:.0f}"

    head = list(dict.fromkeys(key for row in rows for key in row))
    return table(head, ([text(key, row.get(key, "")) for key in head] for row in rows))


def failures(figures: Figures) -> list[str]:
    """A line for each contestant that failed somewhere."""
    found = []
    for section in ("steps", "fresh", "calls"):
        for name, results in figures.get(section, {}).items():
            for contestant, result in results.items():
                if "error" in result:
                    found.append(f"- {section}, {name}, {contestant}: {result['error']}")
    return found


UNITS = (
    " Lampion's float32 products and convolutions ran on matrix units (Intel AMX, see "
    "docs/matrix_units.md), which LAMPION_AMX=0 switches off; the peak of multiply-adds is that of "
    "vector units."
)


def markdown(figures: Figures) -> str:
    """The whole report."""
    machine = figures["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        "# Lampion beside its peers",
        f"{machine['processor']}, {machine['threads']} threads; {versions}; {machine['date']}. "
        "Times are the fastest of many short bursts taken in turn; `python benchmarks/run.py`."
        + UNITS
        * machine.get("matrix units", False),
    ]
    if "steps" in figures:
        parts += ["## Training steps: forward, backward, update", steps_table(figures["steps"])]
    if "fresh" in figures:
        parts += ["## Compile time and memory", fresh_table(figures["fresh"])]
    for name, title in SCRIPTS.items():
        if name in figures:
            parts += [f"## {title}", script_table(figures[name])]
    if "calls" in figures:
        parts += ["## Elementwise calls and reductions", calls_table(figures["calls"])]
    if "scaling" in figures:
        parts += ["## Scaling", scaling_table(figures["scaling"])]
    absent = [f"- {name}: {reason}" for name, reason in figures.get("absent", {}).items()]
    if absent:
        parts += ["## Not measured", "\n".join(absent)]
    failed = failures(figures)
    if failed:
        parts += ["## Failed", "\n".join(failed)]
    return "\n\n".join(parts) + "\n"
