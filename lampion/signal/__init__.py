"""Signals under PyTorch's names: `torch.signal`. Imports its own files."""

from . import windows as windows
