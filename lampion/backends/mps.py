"""Apple's GPU: `torch.backends.mps`. Imports nothing of Lampion."""


def is_available() -> bool:
    """Whether Apple's GPU can be used: no."""
    return False


def is_built() -> bool:
    """Whether there is code for Apple's GPU: no."""
    return False
