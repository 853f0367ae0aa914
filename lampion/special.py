"""Special functions under PyTorch's names: `torch.special`."""

from .ops.rules import EXPORTS

globals().update(EXPORTS["special"])
