"""Files: PyTorch's `.pt` and `.safetensors`, written atomically, loaded without running code from
them. Imports its own files.
"""

from .archive import load as load, save as save
from .unpickle import (
    add_safe_globals as add_safe_globals,
    clear_safe_globals as clear_safe_globals,
    get_safe_globals as get_safe_globals,
    safe_globals as safe_globals,
)
