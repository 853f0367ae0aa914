"""Utilities under PyTorch's names: `torch.utils`."""
