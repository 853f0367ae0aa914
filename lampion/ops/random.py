"""Random tensors, drawn from PyTorch's streams. May import rules, earlier families, core and the base."""
