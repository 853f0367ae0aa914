"""OpenMP threads: `torch.backends.openmp`."""


def is_available() -> bool:
    """Whether it is used: no."""
    return False
