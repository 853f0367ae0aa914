"""Signals under PyTorch's names: `torch.signal`."""

from . import windows as windows
