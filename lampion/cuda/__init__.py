"""CUDA under PyTorch's names: `torch.cuda`, as on a machine without a CUDA device. May import ops
and accelerators.
"""

from __future__ import annotations

from typing import Any

from ..accelerators import (
    classes_that_raise,
    functions_that_raise,
    memory_questions,
    missing,
    questions,
    stream as stream,
)
from ..device import device as located
from ..errors import OutOfMemoryError as OutOfMemoryError
from ..ops.rules import EXPORTS

globals().update(questions("cuda"), **memory_questions(), **EXPORTS["cuda"])
globals().update(classes_that_raise("cuda", ("Stream", "Event", "CUDAGraph", "ExternalStream")))
globals().update(
    functions_that_raise(
        "cuda",
        [
            "init",
            "current_device",
            "get_device_name",
            "get_device_properties",
            "get_device_capability",
            "current_stream",
            "default_stream",
            "set_stream",
            "mem_get_info",
            "initial_seed",
            "get_rng_state",
            "set_rng_state",
            "can_device_access_peer",
            "set_per_process_memory_fraction",
            "memory_snapshot",
            "utilization",
            "temperature",
            "power_draw",
            "clock_rate",
            "graph",
            "make_graphed_callables",
        ],
    )
)

has_half, has_magma = True, False
default_generators: tuple = ()


def manual_seed_all(seed: int) -> None:
    """Seeds the streams of all CUDA devices; there are none."""
    int(seed)


def seed_all() -> None:
    """Seeds the streams of all CUDA devices at random; there are none."""


def get_rng_state_all() -> list:
    """The states of all CUDA devices: none."""
    return []


def set_rng_state_all(new_states: list) -> None:
    """Sets the states of all CUDA devices; raises AssertionError where there is one to set."""
    if list(new_states):
        raise missing("cuda")


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether a CUDA device computes in bfloat16: there is none."""
    return False


def is_tf32_supported() -> bool:
    """Whether a CUDA device computes in TF32: there is none."""
    return False


def get_arch_list() -> list[str]:
    """The architectures that CUDA code was compiled for: none."""
    return []


def ipc_collect() -> None:
    """Frees memory shared between processes; there is none."""


def reset_peak_memory_stats(device: Any = None) -> None:
    """Starts counting the peak of memory anew; none is counted."""


memory_cached = memory_questions()["memory_reserved"]  # old names
max_memory_cached = memory_questions()["max_memory_reserved"]
reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


def memory_stats(device: Any = None) -> dict[str, Any]:
    """Statistics of the device's memory: none."""
    return {}


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """A text about the device's memory."""
    return "no CUDA device is available, no memory is in use"


def set_device(device: Any) -> None:
    """Makes a CUDA device the current one; raises AssertionError, but for a negative index, which
    changes nothing.
    """
    index = located(device).index if not isinstance(device, int) else device
    if index is None or index >= 0:
        raise missing("cuda")


def is_current_stream_capturing() -> bool:
    """Whether a CUDA graph is being recorded: no."""
    return False


class device:
    """A block in which a CUDA device is the current one;
    None or an index below 0 changes nothing.
    """

    def __init__(self, device: Any) -> None:
        self.chosen = device

    def __enter__(self) -> None:
        if self.chosen is not None:
            set_device(self.chosen)

    def __exit__(self, *exception: object) -> None:
        """Leaves the block."""


class device_of(device):
    """A block in which a tensor's CUDA device is the current one; tensors on the CPU change
    nothing.
    """

    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else None)
