"""The memory of tensors under PyTorch's names: `torch.storage`. May import ops."""

from .ops.storage import (
    TypedStorage as TypedStorage,
    UntypedStorage as UntypedStorage,
)
