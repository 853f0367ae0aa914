"""Mixed precision under PyTorch's names: `torch.amp`. Imports its own files."""

from .autocast import (
    autocast as autocast,
    custom_bwd as custom_bwd,
    custom_fwd as custom_fwd,
    is_autocast_available as is_autocast_available,
)
from .grad_scaler import GradScaler as GradScaler
