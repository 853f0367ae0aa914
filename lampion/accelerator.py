"""Whichever accelerator there is, under PyTorch's names: `torch.accelerator`. May import
accelerators and the base.
"""

from __future__ import annotations

from .accelerators import memory_questions, questions
from .device import device

_asked = {**questions("accelerator"), **memory_questions()}
globals().update(
    {name: _asked[name] for name in _asked if name not in ("manual_seed", "seed", "is_initialized")}
)


def current_accelerator(check_available: bool = False) -> device | None:
    """The accelerator of this machine: None."""
    return None


def current_device_index() -> int:
    """The number of the current accelerator; raises RuntimeError, as there is none."""
    raise RuntimeError("Cannot access accelerator device when none is available.")


current_device_idx = current_device_index


def set_device_index(device: object) -> None:
    """Chooses an accelerator; raises RuntimeError, as there is none."""
    current_device_index()


set_device_idx = set_device_index
