"""Special functions under PyTorch's names: `torch.special`. Imports ops."""

from .ops.rules import EXPORTS

globals().update(EXPORTS["special"])
