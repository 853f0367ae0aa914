"""The named tuples that operators with several results return: `torch.return_types`.
Imports ops.
"""

from .ops.rules import EXPORTS

globals().update(EXPORTS["return_types"])
