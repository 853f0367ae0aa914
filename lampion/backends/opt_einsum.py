"""The order of products in einsum: `torch.backends.opt_einsum`. Its switches may be set and read.
Imports nothing of Lampion.
"""

enabled = False
strategy: str | None = None


def is_available() -> bool:
    """Whether the package opt_einsum is used: no."""
    return False
