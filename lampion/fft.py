"""Discrete Fourier transforms under PyTorch's names: `torch.fft`."""

from .ops.rules import EXPORTS

globals().update(EXPORTS["fft"])
