"""Samples of every operator, by family: each module's `SAMPLES` is a list of `Sample` records."""

import importlib
import pkgutil

from .common import Sample

FAMILIES = sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "common")


def all_samples() -> list[Sample]:
    """Every family's samples."""
    return [s for f in FAMILIES for s in importlib.import_module(f"{__name__}.{f}").SAMPLES]
