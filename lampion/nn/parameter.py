"""Tensors that modules keep: parameters, buffers, and those whose shape is not known yet. May
import core.

`Parameter` lives in core, because optimizers and files know it too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..core.inplace import type_name
from ..core.tensor import Parameter as Parameter, Tensor, blank
from ..errors import check


class Buffer(Tensor):
    """A tensor that a Module registers as a buffer when it is assigned to an attribute.

    >>> module = torch.nn.Module()
    >>> module.mean = torch.nn.Buffer(torch.zeros(2))
    >>> list(module.state_dict())
    ['mean']
    """

    persistent = True

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        t = blank(cls)
        t._data = np.zeros(0, dtypes.get_default_dtype().numpy) if data is None else data._data
        t.persistent = persistent
        return t


class Uninitialized:
    """What tensors without a shape share: a type, and `materialize` to give them memory."""

    cls_to_become: type[Tensor]
    _data: Any

    def materialize(
        self, shape: Any, device: Any = None, dtype: dtypes.dtype | None = None
    ) -> None:
        """Gives the tensor its shape: from now on it is an ordinary parameter or buffer."""
        kind = self._data.dtype if dtype is None else dtype.numpy
        self._data = np.empty(tuple(shape), kind)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]

    @property
    def shape(self) -> Any:
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer. This error usually "
            "happens in `load_state_dict` when trying to load an uninitialized parameter into an "
            "initialized one. Call `forward` to initialize the parameters before accessing their "
            "attributes."
        )

    def share_memory_(self) -> Any:
        """Raises RuntimeError: there is no memory to share yet."""
        raise RuntimeError(
            "Can't share memory on an uninitialized parameter or buffer. Call `forward` to "
            "initialize the parameters before calling `module.share_memory()`."
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class UninitializedParameter(Uninitialized, Parameter):
    """A parameter whose shape is not known yet; lazy modules infer it from their first input.

    >>> w = torch.nn.UninitializedParameter()
    >>> w.materialize((2, 3))
    >>> w.shape
    torch.Size([2, 3])
    """

    cls_to_become = Parameter

    def __new__(
        cls, requires_grad: bool = True, device: Any = None, dtype: dtypes.dtype | None = None
    ) -> UninitializedParameter:
        kind = dtypes.get_default_dtype() if dtype is None else dtype
        t = blank(cls)
        t._data = np.empty(0, kind.numpy)
        t.requires_grad_(requires_grad)
        return t


class UninitializedBuffer(Uninitialized, Tensor):
    """A buffer whose shape is not known yet."""

    cls_to_become = Tensor

    def __new__(
        cls,
        requires_grad: bool = False,
        device: Any = None,
        dtype: dtypes.dtype | None = None,
        persistent: bool = True,
    ) -> UninitializedBuffer:
        kind = dtypes.get_default_dtype() if dtype is None else dtype
        t = blank(cls)
        t._data = np.empty(0, kind.numpy)
        t.persistent = persistent
        t.requires_grad_(requires_grad)
        return t


def is_lazy(value: Any) -> bool:
    """Whether a parameter or buffer has no shape yet."""
    return isinstance(value, Uninitialized)


def check_parameter(value: Any, name: str) -> None:
    """Raises unless `value` can stand as the parameter `name`."""
    check(
        isinstance(value, Parameter),
        lambda: (
            f"cannot assign '{typename(value)}' object to parameter '{name}' "
            "(torch.nn.Parameter or None required)"
        ),
        TypeError,
    )
    check(
        value.grad_fn is None,
        lambda: (
            f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be "
            f"created explicitly. To express '{name}' as a function of another Tensor, compute "
            "the value in the forward() method."
        ),
        ValueError,
    )


def typename(value: Any) -> str:
    """The name PyTorch gives a value's type in messages: `torch.FloatTensor`, `int`,
    `package.Class`.
    """
    if isinstance(value, Tensor):
        return f"torch.{type_name(value.dtype)}Tensor"
    kind = type(value)
    return (
        kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    )
