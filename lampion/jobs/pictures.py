"""The pictures of a training run. May import nothing of lampion; Matplotlib (`lampion[plots]`)
is imported on use.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray


def available() -> bool:
    """Whether Matplotlib is installed."""
    return find_spec("matplotlib") is not None


def new_figure(width: float, height: float) -> Any:
    """An empty figure that belongs to no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_curves(history: list[dict[str, Any]], path: Path) -> None:
    """Loss and accuracy of training and validation by epoch."""
    figure = new_figure(9, 3.6)
    loss, accuracy = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for axes, what in ((loss, "loss"), (accuracy, "accuracy")):
        for part, style in (("training", "-"), ("validation", "--")):
            axes.plot(epochs, [row[f"{part} {what}"] for row in history], style, label=part)
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    loss.set_yscale("log")
    figure.savefig(path, dpi=150)


def draw_confusion(counts: ndarray, classes: tuple[str, ...], path: Path) -> None:
    """How many test samples of each class (row) were read as each class (column)."""
    figure = new_figure(5.2, 4.8)
    axes = figure.subplots()
    axes.imshow(np.log1p(counts), cmap="Blues")
    for (row, column), n in np.ndenumerate(counts):
        if n:
            color = "white" if np.log1p(n) > np.log1p(counts).max() / 2 else "black"
            axes.text(column, row, n, ha="center", va="center", color=color)
    axes.set(
        xlabel="read as",
        ylabel="is",
        xticks=range(len(classes)),
        yticks=range(len(classes)),
        xticklabels=classes,
        yticklabels=classes,
    )
    axes.set_title(f"{int(np.trace(counts))} of {int(counts.sum())} right")
    figure.savefig(path, dpi=150)


def draw_mistakes(
    images: ndarray, truth: ndarray, read: ndarray, sure: ndarray, path: Path
) -> None:
    """The misclassified samples with what they are, what they were read as and how surely."""
    n = len(images)
    columns = max(1, min(n, 6))
    rows = max(1, -(-n // columns))
    figure = new_figure(1.5 * columns + 0.5, 1.8 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, t, r, p in zip(grid.flat, images, truth, read, sure, strict=False):
        axes.imshow(image, cmap="gray_r")
        axes.set_title(f"{t} read as {r}\n({p:.0%} sure)", fontsize=8)
    figure.suptitle(
        "No mistakes on the test split"
        if not n
        else f"{n} mistake{'s' * (n > 1)} on the test split",
        fontsize=9,
    )
    figure.savefig(path, dpi=150)
