"""OpenMP threads: `torch.backends.openmp`. Imports nothing of Lampion."""


def is_available() -> bool:
    """Whether it is used: no."""
    return False
