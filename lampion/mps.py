"""Apple's GPU under PyTorch's names: `torch.mps`, as on a machine without one. May import
accelerators.
"""

from .accelerators import classes_that_raise, functions_that_raise, questions

globals().update(questions("mps"), **classes_that_raise("mps", ["Event"]))
globals().update(
    functions_that_raise(
        "mps",
        [
            "current_allocated_memory",
            "driver_allocated_memory",
            "recommended_max_memory",
            "get_rng_state",
            "set_rng_state",
            "set_per_process_memory_fraction",
        ],
    )
)
