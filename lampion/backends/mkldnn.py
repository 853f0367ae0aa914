"""Intel's oneDNN: `torch.backends.mkldnn`. Its switches may be set and read; nothing here uses it.
Imports nothing of Lampion.
"""

enabled = True
deterministic = False
allow_tf32 = True


def is_available() -> bool:
    """Whether it is used: no."""
    return False
