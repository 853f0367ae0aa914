"""The folder of a training run: its checkpoint, its metrics and what identifies it.
May import io and the base.
"""

from __future__ import annotations

import csv
import io
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import check
from ..io import load, save
from ..io.atomic import replacing
from ..version import __version__


class RunFolder:
    """Reads and writes the files of one run; each file is replaced whole or not at all.

    checkpoint.pt   what `--resume` needs    metrics.csv   one line per epoch
    run.json        settings, seed, versions and results
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def create(self) -> None:
        """Makes the folder."""
        self.path.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Writes the checkpoint."""
        save(state, self.checkpoint)

    def load_checkpoint(self) -> dict[str, Any]:
        """Reads the checkpoint; raises FileNotFoundError where there is none."""
        check(
            self.checkpoint.is_file(),
            lambda: (
                f"[run] {self.checkpoint} does not exist; train first with `lampion train digits "
                f"--out {self.path}`"
            ),
            FileNotFoundError,
        )
        state = load(self.checkpoint)
        check(
            isinstance(state, dict) and "model" in state,
            lambda: f"[run] {self.checkpoint} is no checkpoint of a training run",
        )
        return state

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file."""
        with replacing(self.path / name) as file:
            file.write(text.encode())

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Writes metrics.csv from one dict per epoch."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
        writer.writeheader()
        for row in history:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        self.write_text("metrics.csv", text.getvalue())

    def write_record(self, settings: dict[str, Any], results: dict[str, Any]) -> None:
        """Writes run.json: what was run, with what, and what came of it."""
        versions = {
            "lampion": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }
        record = {
            "settings": settings,
            "versions": versions,
            "machine": platform.machine(),
            "results": results,
        }
        self.write_text("run.json", json.dumps(record, indent=2) + "\n")
