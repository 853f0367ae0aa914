"""Saving and loading under PyTorch's names: `torch.serialization`. Imports io."""

from .io import (
    add_safe_globals as add_safe_globals,
    clear_safe_globals as clear_safe_globals,
    get_safe_globals as get_safe_globals,
    load as load,
    safe_globals as safe_globals,
    save as save,
)
