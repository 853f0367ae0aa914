"""Intel's GPU under PyTorch's names: `torch.xpu`, as on a machine without one. May import
accelerators.
"""

from .accelerators import (
    classes_that_raise,
    functions_that_raise,
    memory_questions,
    questions,
    stream as stream,
)

globals().update(
    questions("xpu"), **memory_questions(), **classes_that_raise("xpu", ["Stream", "Event"])
)
globals().update(
    functions_that_raise(
        "xpu",
        [
            "init",
            "current_device",
            "set_device",
            "get_device_name",
            "get_device_properties",
            "get_device_capability",
            "current_stream",
            "set_stream",
            "mem_get_info",
            "initial_seed",
            "get_rng_state",
            "set_rng_state",
        ],
    )
)


def manual_seed_all(seed: int) -> None:
    """Seeds the streams of all XPU devices; there are none."""
    int(seed)


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether an XPU device computes in bfloat16: there is none."""
    return False
