"""Named tuples for operators with several results, as in `torch.return_types`. May import rules.

A type made here prints as PyTorch's and is published in the namespace `return_types`.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from .rules import EXPORTS


def return_type(name: str, fields: str) -> Any:
    """A named tuple for the results of the operator `name`; `fields` are their names, e.g. "values
    indices".
    """
    made = namedtuple(name, fields)  # type: ignore[misc]
    made.__repr__ = show
    made.__module__ = "lampion.return_types"
    EXPORTS["return_types"][name] = made
    return made


def show(results: Any) -> str:
    """One line for each result: `torch.return_types.max(`, `values=tensor(3.),` ..."""
    lines = [f"{field}={value!r}" for field, value in zip(results._fields, results, strict=True)]
    return f"torch.return_types.{type(results).__name__}(\n" + ",\n".join(lines) + ")"
