"""Intel's mathematical library: `torch.backends.mkl`. Imports nothing of Lampion."""


def is_available() -> bool:
    """Whether it is used: no."""
    return False
