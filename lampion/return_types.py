"""The named tuples that operators with several results return: `torch.return_types`. May import ops."""

from .ops.rules import EXPORTS

globals().update(EXPORTS["return_types"])
