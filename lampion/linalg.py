"""Linear algebra under PyTorch's names: `torch.linalg`."""

from .ops.rules import EXPORTS

globals().update(EXPORTS["linalg"])
