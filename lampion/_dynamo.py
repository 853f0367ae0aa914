"""Names of PyTorch's tracer that programs mention: `reset`, `disable`, `config`. Imports compiler.

`config` takes any attribute: none of its switches means anything here.
"""

from __future__ import annotations

from types import SimpleNamespace

from .compiler.compiled.function import (
    disable as disable,
    is_compiling as is_compiling,
    reset as reset,
)

config = SimpleNamespace(suppress_errors=False, cache_size_limit=64, verbose=False)
