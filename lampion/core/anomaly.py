"""Anomaly mode: an error or a NaN on the way back names the forward line that it came from.

May import dispatch, graph and the base.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

import numpy as np
from numpy import ndarray

from . import dispatch
from .graph import STATE, Node


def call_watched(node: Node, g: Any) -> Any:
    """The node's gradients under anomaly mode: an error or a NaN names the forward line."""
    try:
        grads = node.gradients(g)
    except Exception as error:
        raise RuntimeError(f"{error}\n{anomaly_report(node)}") from error
    for i, gi in enumerate(grads if STATE.check_nan else ()):
        if gi is not None and isinstance(gi._data, ndarray) and np.isnan(gi._data).any():
            raise RuntimeError(
                f"Function '{node.name()}' returned nan values in its {i}th "
                f"output.\n{anomaly_report(node)}"
            )
    return grads


def anomaly_report(node: Node) -> str:
    """Which operator failed, and the lines of the forward pass that called it."""
    where = node.trace or "  (the forward pass ran without anomaly detection; no line is known)\n"
    return f"[{node.name()}] failed in backward. The forward call that caused the error:\n{where}"


def anomaly_trace() -> str:
    """The user's lines that are running now."""
    frames = traceback.extract_stack(sys._getframe(2))
    return "".join(traceback.format_list([f for f in frames if "/lampion/core/" not in f.filename]))


dispatch.anomaly_trace = anomaly_trace
