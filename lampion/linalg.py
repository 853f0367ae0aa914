"""Linear algebra under PyTorch's names: `torch.linalg`. Imports ops."""

from .ops.rules import EXPORTS

globals().update(EXPORTS["linalg"])
