"""Discrete Fourier transforms under PyTorch's names: `torch.fft`. Imports ops."""

from .ops.rules import EXPORTS

globals().update(EXPORTS["fft"])
