"""Graphs of functions and modules: traced by running, printed, saved, loaded and trained without
the Python that made them. Imports its own files, compiler and nn.

The files are described in docs/graph_format.md; PyTorch's TorchScript archives are not read.
"""

from .module import GraphModule as GraphModule, load as load
from .tracing import (
    export as export,
    ignore as ignore,
    is_scripting as is_scripting,
    is_tracing as is_tracing,
    save as save,
    script as script,
    trace as trace,
    unused as unused,
)

ScriptModule = GraphModule
