"""Modules, layers and losses under PyTorch's names: `torch.nn`."""

from . import functional as functional
