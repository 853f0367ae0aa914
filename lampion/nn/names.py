"""The operators under their public names, for modules to call: `torch.cat`,
`torch.linalg.vector_norm`.

May import ops. Everything that `ops` publishes is there once `lampion.nn` is imported.
"""

from types import SimpleNamespace

from ..ops.rules import EXPORTS

linalg = SimpleNamespace(**EXPORTS["linalg"])
torch = SimpleNamespace(**{**EXPORTS["torch"], "linalg": linalg})
