"""Functions of neural networks under PyTorch's names: `torch.nn.functional`. Imports ops."""

from ..ops.rules import EXPORTS

globals().update(EXPORTS["nn.functional"])
