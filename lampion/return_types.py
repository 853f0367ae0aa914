"""The named tuples that operators with several results return: `torch.return_types`."""

from .ops.rules import EXPORTS

globals().update(EXPORTS["return_types"])
