"""Intel's mathematical library: `torch.backends.mkl`."""


def is_available() -> bool:
    """Whether it is used: no."""
    return False
