"""Conversions: `to` and its short forms, `copy_`, NumPy's protocols, subclasses, shared memory.

May import rules, data, create, core and the base. Between types the work is done by CAST of
core/promotion.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.dispatch import apply
from ..core.graph import GENERAL, STATE
from ..core.inplace import COPY, assign, check_memory, check_writable
from ..core.memory import Storage, root_array
from ..core.naming import named
from ..core.promotion import CAST, cast_kernel
from ..core.tensor import Tensor, blank, wrap
from ..device import CPU, device as device_type, usable
from ..errors import check
from ..layout import memory_format as format_type, order_of, preserve_format
from .create import clone, number_argument
from .data import from_numpy
from .large import copy_array, large_cast
from .rules import EXPORTS, dtype_argument

CAST.kernel = large_cast(cast_kernel)

# -- types and devices -------------------------------------------------------------------------


def cast(x: Tensor, dtype: dtypes.dtype) -> Tensor:
    """The tensor in another type, itself if it has that type; gradients flow between types that
    have any.
    """
    if x._data.dtype is dtype.numpy:
        return x
    if x._data.dtype.kind == "c" and dtype.category < dtypes.COMPLEX and dtype is not dtypes.bool:
        warnings.warn(
            "Casting complex values to real discards the imaginary part", UserWarning, stacklevel=4
        )
    return CAST(x if dtype.category >= dtypes.FLOAT else x.detach(), dtype=dtype)


TO_FORMS = """to() received an invalid combination of arguments - got ({}), but expected one of:
 * (torch.device device = None, torch.dtype dtype = None, bool non_blocking = False, bool copy =
 False, *, torch.memory_format memory_format = None) * (torch.dtype dtype, bool non_blocking =
 False, bool copy = False, *, torch.memory_format memory_format = None) * (Tensor tensor, bool
 non_blocking = False, bool copy = False, *, torch.memory_format memory_format = None)
"""


def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """The tensor in another type, on another device or in another memory format; itself if nothing
    changes.

    Forms: `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(tensor)`, each with `non_blocking`,
    `copy` and `memory_format`.

    >>> torch.tensor([1.7, -1.7]).to(torch.int64)
    tensor([ 1, -1])
    """
    if len(args) == 1 and not kwargs:
        asked = args[0]
        if asked.__class__ is dtypes.dtype:
            return cast(self, asked)
        if asked.__class__ is str or asked.__class__ is device_type:
            usable(asked)
            return self
    where, dtype, copy, memory_format = to_arguments(*args, **kwargs)
    if where is not None:
        usable(where)
    made = self if dtype is None else cast(self, dtype)
    if memory_format is not None and memory_format is not preserve_format:
        made = made.contiguous(memory_format=memory_format)
    return clone(made) if copy and made is self else made


def to_arguments(*args: Any, **kwargs: Any) -> tuple[Any, dtypes.dtype | None, bool, Any]:
    """(device, dtype, copy, memory_format) from the arguments of `Tensor.to`; raises TypeError for
    others.

    `Module.to` takes the same ones.
    """
    where, kind, rest = None, None, list(args)
    first = rest[0] if rest else None
    if isinstance(first, Tensor):
        kind = rest.pop(0).dtype
    elif isinstance(first, (dtypes.dtype, type)):
        kind = dtype_argument(rest.pop(0))
    elif isinstance(first, (str, device_type)) or type(first) is int or (rest and first is None):
        where = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], (dtypes.dtype, type))):
            kind = dtype_argument(rest.pop(0))
    names = ("device", "dtype", "non_blocking", "copy", "memory_format")
    wrong = (
        len(rest) > 2 or not all(isinstance(r, bool) for r in rest) or kwargs.keys() - set(names)
    )
    kind = dtype_argument(kwargs.get("dtype")) or kind
    check(
        not wrong and (kind is None or isinstance(kind, dtypes.dtype)),
        lambda: TO_FORMS.format(", ".join([type(a).__name__ for a in args] + list(kwargs))),
        TypeError,
    )
    memory_format = kwargs.get("memory_format")
    check(
        memory_format is None or isinstance(memory_format, format_type),
        lambda: (
            "to(): argument 'memory_format' must be torch.memory_format, not "
            f"{type(memory_format).__name__}"
        ),
        TypeError,
    )
    copy = kwargs.get("copy", rest[1] if len(rest) > 1 else False)
    return kwargs.get("device", where), kind, copy, memory_format


def conversion(name: str, dtype: dtypes.dtype) -> Callable:
    """The method that converts to one type, e.g. `x.double()`."""

    def convert(self: Tensor, memory_format: Any = preserve_format) -> Tensor:
        if memory_format is preserve_format:
            return cast(self, dtype)
        return self.to(dtype, memory_format=memory_format)

    return named(convert, name, f"The tensor as {dtype}; itself if it is that already.")


for name, dtype in {
    **dtypes.ALIASES,
    "bool": dtypes.bool,
    "byte": dtypes.uint8,
    "char": dtypes.int8,
    "bfloat16": dtypes.bfloat16,
}.items():
    setattr(Tensor, name, conversion(name, dtype))


def cpu(self: Tensor, memory_format: Any = preserve_format) -> Tensor:
    """The tensor in the CPU's memory: itself."""
    return self if memory_format is preserve_format else self.to(memory_format=memory_format)


def cuda(
    self: Tensor,
    device: Any = None,
    non_blocking: bool = False,
    memory_format: Any = preserve_format,
) -> Tensor:
    """The tensor on a CUDA device; raises where there is none."""
    return self.to(
        device=device_type("cuda" if device is None else device), memory_format=memory_format
    )


def xpu(self: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """The tensor on an XPU device; raises where there is none."""
    return self.to(device=device_type("xpu" if device is None else device))


def dim_order(self: Tensor) -> tuple[int, ...]:
    """The dimensions from the outermost to the innermost in memory."""
    return order_of(self.concrete("dim_order")) or tuple(range(self._data.ndim))


Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.xpu = to, cpu, cuda, xpu
Tensor.dim_order = dim_order
for name in ("is_ipu", "is_maia", "is_mtia", "is_sparse_csr", "is_vulkan", "is_xla"):
    setattr(Tensor, name, False)
Tensor.is_cpu = property(lambda self: self.device == CPU)  # type: ignore[assignment]

# -- copying into a tensor ---------------------------------------------------------------------


def copy_(self: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Writes the elements of `src`, broadcast and converted, into this tensor; gradients flow to
    `src`.
    """
    if not isinstance(src, Tensor):
        src = wrap(np.asarray(number_argument("copy_", "other", src)))
    recorded = STATE.grad and (self._requires_grad or src._requires_grad)
    if STATE.mode == GENERAL or recorded:
        check_writable(self, "copy_")
        source = cast(src, self.dtype).expand(self._data.shape)
        if recorded:  # the base of a view keeps what the view does not hide of its gradient
            x = self if self._base is None else self.detach()
            source = apply(COPY, x, source, by="copy_")
        return assign(self, source, "copy_")
    check_writable(self, "copy_")
    data, values = self._data, src._data
    if not data.flags.writeable or 0 in data.strides:
        check_memory(data, "copy_")
    if values.dtype is not data.dtype:
        values = cast_kernel(values, self.dtype)
    try:
        copy_array(data, values)
    except ValueError:
        raise RuntimeError(
            f"[copy_] cannot broadcast a source of shape {values.shape} to "
            f"{tuple(data.shape)}; the sizes must match, or be 1 in the source"
        ) from None
    if self._storage is None:
        self._storage = Storage()
    self._storage.write("copy_")
    return self


Tensor.copy_ = copy_

# -- NumPy -------------------------------------------------------------------------------------


def array_wrap(
    self: Tensor, array: ndarray, context: Any = None, return_scalar: bool = False
) -> Tensor:
    """What a NumPy function returns for a tensor: a tensor again, of booleans as uint8 (as in
    PyTorch).
    """
    array = np.asarray(array)
    return from_numpy(array.astype(np.uint8) if array.dtype == np.bool_ else array)


Tensor.__array_wrap__ = array_wrap


def elements_of(self: Tensor, name: str) -> ndarray:
    """The array, for functions that write Python values into it; raises RuntimeError if it requires
    grad.
    """
    check(
        not self._requires_grad,
        f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() instead.",
    )
    return self.concrete(name)


def apply_(self: Tensor, callable: Callable) -> Tensor:
    """Replaces each element by `callable(element)`, one call after the other: slow."""
    return self.copy_(python_elements(self, callable, elements_of(self, "apply_")))


def map_(self: Tensor, tensor: Tensor, callable: Callable) -> Tensor:
    """Replaces each element by `callable(element, element of tensor)`; broadcasts: slow."""
    check(
        tensor.dtype is self.dtype,
        lambda: f"map_: expected {self.type()} for 'other' (got {tensor.type()})",
        TypeError,
    )
    other = elements_of(tensor.expand(self._data.shape), "map_")
    return self.copy_(python_elements(self, callable, elements_of(self, "map_"), other))


def python_elements(like: Tensor, function: Callable, *arrays: ndarray) -> Tensor:
    """The results of a Python function on the elements, as a tensor of the type of `like`."""
    columns = [wrap(a).reshape(-1).tolist() for a in arrays]
    values = np.array([function(*row) for row in zip(*columns, strict=True)])
    return wrap(cast_kernel(values, like.dtype).reshape(like._data.shape))


Tensor.apply_, Tensor.map_ = apply_, map_

# -- subclasses --------------------------------------------------------------------------------


def as_subclass(self: Tensor, cls: type) -> Any:
    """A tensor of class `cls` on the same memory, with the same history."""
    made, seen = blank(cls), self.detach()
    made._data, made._storage = seen._data, seen._storage
    made.__dict__.update(seen.__dict__)
    if self._requires_grad:
        made._requires_grad, made.grad_fn = True, self.view_as(self).grad_fn
    return made


def make_subclass(cls: type, data: Tensor, require_grad: bool = False) -> Any:
    """A new leaf of class `cls` on the memory of `data`."""
    made = blank(cls)
    made._data = data._data
    return made.requires_grad_(require_grad)


Tensor.as_subclass = as_subclass
Tensor._make_subclass = staticmethod(make_subclass)

# -- memory between processes ------------------------------------------------------------------


def share_memory_(self: Tensor) -> Tensor:
    """Moves the elements to memory that forked child processes share; views made before stay
    behind.
    """
    if not is_shared(self):
        data = self.concrete("share_memory_")
        memory = mmap.mmap(-1, max(data.nbytes, 1))
        shared = np.ndarray(data.shape, data.dtype, np.frombuffer(memory, np.uint8))
        np.copyto(shared, data)
        self._data = shared
    return self


def is_shared(self: Tensor) -> bool:
    """Whether the memory is one that forked processes share."""
    base = root_array(self._data).base
    return isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """Raises RuntimeError: memory is pinned for an accelerator, and there is none."""
    raise RuntimeError("[pin_memory] Cannot access accelerator device when none is available.")


Tensor.share_memory_, Tensor.is_shared = share_memory_, is_shared
Tensor.pin_memory = pin_memory

# -- questions about tensors and types ---------------------------------------------------------


def is_tensor(obj: Any) -> bool:
    """Whether `obj` is a tensor."""
    return isinstance(obj, Tensor)


def is_nonzero(input: Tensor) -> bool:
    """Whether the one element is not zero; raises RuntimeError if there is not exactly one."""
    return bool(input)


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape."""
    return input.shape == other.shape


def numel(input: Tensor) -> int:
    """The number of elements."""
    check(
        isinstance(input, Tensor),
        lambda: (
            f"numel(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}"
        ),
        TypeError,
    )
    return input.numel()


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The type in which an operator would compute with these two operands.

    >>> torch.result_type(torch.tensor([1, 2]), 1.0)
    torch.float32
    """
    ranks: list = [None, None, None]
    for operand in (tensor1, tensor2):
        if isinstance(operand, Tensor):
            rank, found = 0 if operand._data.ndim else 1, operand.dtype
        else:
            rank, found = 2, dtypes.number_dtype(number_argument("result_type", "other", operand))
        ranks[rank] = found if ranks[rank] is None else dtypes.promote_types(ranks[rank], found)
    return dtypes.combine(*ranks)


def can_cast(from_: dtypes.dtype, to: dtypes.dtype) -> bool:
    """Whether a result of the one type may be written to a tensor of the other: never to a lower
    category.
    """
    return from_.category <= to.category


def is_predicate(name: str) -> Callable:
    """`torch.is_complex(x)` for `x.is_complex()`."""

    def ask(input: Tensor) -> Any:
        check(
            isinstance(input, Tensor),
            lambda: (
                f"{name}(): argument 'input' (position 1) must be Tensor, not "
                f"{type(input).__name__}"
            ),
            TypeError,
        )
        return getattr(input, name)()

    return named(ask, name, f"`input.{name}()`.")


QUESTIONS = [
    "get_device",
    "is_floating_point",
    "is_complex",
    "is_signed",
    "is_inference",
    "is_conj",
    "is_neg",
]
EXPORTS["torch"].update(
    {name: is_predicate(name) for name in QUESTIONS},
    is_tensor=is_tensor,
    is_nonzero=is_nonzero,
    is_same_size=is_same_size,
    numel=numel,
    result_type=result_type,
    can_cast=can_cast,
    promote_types=dtypes.promote_types,
)
Tensor.is_nonzero, Tensor.is_same_size = is_nonzero, is_same_size  # type: ignore[assignment]

# -- what a user sees with dir() ---------------------------------------------------------------

INTERNAL = {"interpreter", "concrete", "detached_value", "view_dtype"}


def visible_names(self: Tensor) -> list[str]:
    """The attributes, without those that only the framework uses."""
    return [name for name in object.__dir__(self) if name not in INTERNAL]


Tensor.__dir__ = visible_names
