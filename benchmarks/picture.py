"""The picture of the training steps: each contestant's speed, the best peer's being 1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measure import duration, speeds
from workloads import STEPS

COLOURS = {
    "lampion.compile": "#d9480f",
    "lampion": "#f7a072",
    "torch": "#5c6f82",
    "torch.compile": "#8fa3b5",
    "jax.jit": "#c3ced8",
}
LABELS = {
    "lampion.compile": "Lampion, compiled",
    "lampion": "Lampion, eager",
    "torch": "PyTorch, eager",
    "torch.compile": "torch.compile",
    "jax.jit": "jax.jit",
}
INK, FAINT = "#222222", "#777777"
GAP = 0.9  # between workloads, in bars


def draw(measured: Mapping[str, Mapping[str, dict[str, Any]]], path: Path, note: str) -> None:
    """Writes bars that reach right of 1 where a contestant beats the best peer, left where not."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = [n for n in COLOURS if any(n in results for results in measured.values())]
    figure, axes = plt.subplots(figsize=(9, 0.9 + (len(names) + GAP) * len(measured) * 0.19))
    place, ticks = 0.0, []
    for workload, results in measured.items():
        ratios = speeds(results)
        begin = place
        for name in names:
            if name in ratios:
                bar(axes, place, name, ratios[name], results[name]["best"])
            place += 1
        ticks.append((begin + (len(names) - 1) / 2, STEPS[workload].title.replace(", ", "\n", 1)))
        place += GAP
    axes.set_yticks(*zip(*ticks, strict=True), fontsize=9, color=INK)
    axes.set_ylim(place - GAP, -GAP)
    finish(axes, names)
    axes.annotate(
        note, (1, 0), xytext=(0, -26), xycoords="axes fraction", textcoords="offset points",
        ha="right", va="top", fontsize=7, color=FAINT,
    )  # fmt: skip
    figure.savefig(path, dpi=160, bbox_inches="tight", facecolor="white")
    plt.close(figure)


def bar(axes: Any, place: float, name: str, ratio: float, seconds: float) -> None:
    """One bar from 1 to the ratio, on a logarithmic axis, with its time at the end."""
    axes.barh(place, ratio - 1, left=1, height=0.86, color=COLOURS[name])
    if 0.97 < ratio < 1.03:  # too short to show whose it is
        axes.plot(ratio, place, "s", color=COLOURS[name], markersize=5.5, zorder=3)
    text = f"{ratio:.2f}×  {duration(seconds)}" if name.startswith("lampion") else duration(seconds)
    weight = "bold" if name == "lampion.compile" else "normal"
    axes.annotate(
        text, (ratio, place), xytext=(6 if ratio >= 1 else -6, 0), textcoords="offset points",
        ha="left" if ratio >= 1 else "right", va="center_baseline", fontsize=7, color=INK,
        fontweight=weight,
    )  # fmt: skip


def finish(axes: Any, names: list[str]) -> None:
    """Axis, legend and title."""
    from matplotlib.patches import Patch

    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5) * 0.55, max(high, 2.0) * 1.7)
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:g}×" if value >= 1 else f"1/{1 / value:g}×"
    )
    axes.tick_params(axis="both", length=0, labelsize=8, colors=FAINT)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(axis="x", color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.axvline(1, color=INK, linewidth=1)
    axes.spines[:].set_visible(False)
    axes.set_title(
        "Speed of one training step, best of the peers = 1 (further right is faster)",
        fontsize=11, loc="left", color=INK, pad=26,
    )  # fmt: skip
    patches = [Patch(color=COLOURS[name], label=LABELS[name]) for name in names]
    axes.legend(
        handles=patches, ncols=len(names), frameon=False, fontsize=8, loc="lower left",
        bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.2, handlelength=1, handleheight=1,
    )  # fmt: skip
