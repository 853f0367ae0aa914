"""The tensor: an array with a gradient, a place in the graph and, for views, a base. May import op
and the base.

Everything that computes is an operator and is attached to the class by `ops`; here live the
attributes and what Python itself asks of an object. What an instance does not set falls back to
the class's defaults, which is what makes a new tensor cheap. Interpreters (vmap, jvp, trace)
subclass it; their `_data` is an `Aval`.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..device import CPU, device
from ..errors import check
from .memory import Storage, copy_memory, root_array, same_place, strides_of
from .printing import format_tensor


class Size(tuple):
    """A shape; prints as `torch.Size([2, 3])`."""

    __slots__ = ()

    def numel(self) -> int:
        """The number of elements."""
        n = 1
        for s in self:
            n *= s
        return n

    def __getitem__(self, index: Any) -> Any:
        got = tuple.__getitem__(self, index)
        return Size(got) if isinstance(index, slice) else got

    def __add__(self, other: tuple) -> Size:
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: tuple) -> Size:
        return Size(tuple(other) + tuple(self))

    def __mul__(self, times: Any) -> Size:
        return Size(tuple.__mul__(self, times))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    __str__ = __repr__


class Aval(NamedTuple):
    """The shape and type of a value that an interpreter holds in place of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return Size(self.shape).numel()


class Held:
    """What every tensor sets; slots, so that calls find it fast (compiled ones at known offsets).

    _view   of a view: (the tensor it views, operator, parameters), else None
    """

    __slots__ = ("_data", "_requires_grad", "grad_fn", "_storage", "_view")
    _data: Any
    _requires_grad: bool
    grad_fn: Any
    _storage: Storage | None
    _view: tuple | None


class Tensor(Held):
    """A multi-dimensional array of one type that can record what is done to it and compute
    gradients.
    """

    _grad: Tensor | None = None
    _hooks: dict | None = None
    _post_hooks: dict | None = None
    _retains_grad = False
    _inference = False
    interpreter: Any = None
    is_sparse = is_quantized = is_mkldnn = is_nested = is_cuda = is_mps = is_meta = is_xpu = False
    layout = "torch.strided"
    __array_priority__ = 1000

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        return cls._construct(*args, **kwargs) if cls._construct else blank(cls)

    _construct: Callable | None = (
        None  # the old-style constructor Tensor(2, 3), given by ops.create
    )

    # -- what it is ----------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self._data.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the size of one dimension."""
        if dim is None:
            return Size(self._data.shape)
        return self._data.shape[normalize_dim(dim, self._data.ndim)]

    @property
    def dtype(self) -> dtypes.dtype:
        return dtypes.FROM_NUMPY[self._data.dtype]

    @property
    def device(self) -> device:
        return CPU

    @property
    def ndim(self) -> int:
        return self._data.ndim

    def dim(self) -> int:
        """The number of dimensions."""
        return self._data.ndim

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return self._data.size

    nelement = numel

    @property
    def itemsize(self) -> int:
        return self._data.dtype.itemsize

    def element_size(self) -> int:
        """Bytes an element takes."""
        return self._data.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._data.size * self._data.dtype.itemsize

    def stride(self, dim: int | None = None) -> Any:
        """The steps, in elements, between neighbours along each dimension (or along one)."""
        strides = strides_of(self._data)
        return strides if dim is None else strides[normalize_dim(dim, self._data.ndim)]

    def storage_offset(self) -> int:
        """Where, in elements of its storage, the tensor begins."""
        root = root_array(self._data)
        return (self._data.ctypes.data - root.ctypes.data) // max(self._data.dtype.itemsize, 1)

    def data_ptr(self) -> int:
        """The address of the first element; 0 for a tensor without elements."""
        return self._data.ctypes.data if self._data.size else 0

    def is_floating_point(self) -> bool:
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        return self._data.dtype.kind == "c"

    def is_signed(self) -> bool:
        return self.dtype.is_signed

    def is_set_to(self, other: Tensor) -> bool:
        """Whether both are the same view of the same memory."""
        same = self.data_ptr() == other.data_ptr() and self.shape == other.shape
        return same and self.stride() == other.stride()

    def is_inference(self) -> bool:
        """Whether it was made under `inference_mode`."""
        return self._inference

    def is_shared(self) -> bool:
        return False

    def is_pinned(self) -> bool:
        return False

    def is_conj(self) -> bool:
        return False

    def is_neg(self) -> bool:
        return False

    def get_device(self) -> int:
        return -1

    # -- autograd's attributes -----------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Asks for (or stops) a gradient; raises RuntimeError for integer types and for non-leaf
        tensors.
        """
        if requires_grad.__class__ is not bool and not isinstance(requires_grad, np.bool_):
            raise TypeError(
                "requires_grad_(): argument 'requires_grad' (position 1) must be bool, not "
                f"{type(requires_grad).__name__}"
            )
        check(
            not requires_grad or self._data.dtype.kind in "fcV",
            lambda: (
                "only Tensors of floating point and complex dtype can require gradients, got "
                f"{self.dtype}; convert with .float() first"
            ),
        )
        if not requires_grad and self.grad_fn is not None:
            raise RuntimeError(
                "you can only change requires_grad flags of leaf variables. If you want to use a "
                "computed variable in a subgraph that doesn't require differentiation use "
                "var_no_grad = var.detach()."
            )
        check(
            not (requires_grad and self._inference),
            "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.",
        )
        self._requires_grad = bool(requires_grad)
        return self

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    @property
    def output_nr(self) -> int:
        return getattr(self.grad_fn, "index", 0)

    @property
    def grad(self) -> Tensor | None:
        if self._grad is None and self.grad_fn is not None and not self._retains_grad:
            warnings.warn(
                "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed; "
                "backward() leaves it None: call .retain_grad() on this tensor before, or look at "
                "the leaf that it was computed from",
                stacklevel=2,
            )
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            check(
                isinstance(value, Tensor),
                lambda: (
                    "assigned grad expected to be a Tensor or None but got grad of type "
                    f"{type(value)}"
                ),
                TypeError,
            )
            check(
                value._data.shape == self._data.shape,
                lambda: (
                    f"assigned grad has data of a different size: {value.shape}, the tensor's "
                    f"{self.shape}"
                ),
            )
            check(
                value._data.dtype == self._data.dtype,
                lambda: (
                    f"assigned grad has data of a different type: {value.dtype}, the tensor's "
                    f"{self.dtype}"
                ),
            )
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def retains_grad(self) -> bool:
        return self._retains_grad

    @property
    def _version(self) -> int:
        return 0 if self._storage is None else self._storage.version

    def _is_view(self) -> bool:
        return self._view is not None

    @property
    def _base(self) -> Tensor | None:
        """The tensor whose memory a view shows, through all views of views;
        None if this is no view.
        """
        base, view = None, self._view
        while view is not None:
            base = view[0]
            view = base._view
        return base

    @property
    def _chain(self) -> tuple[tuple, ...]:
        """The operators, with their parameters, that lead from the base to this view."""
        steps, view = [], self._view
        while view is not None:
            steps.append(view[1:])
            view = view[0]._view
        return tuple(reversed(steps))

    @property
    def data(self) -> Tensor:
        """The same memory without history; writes through it are not seen by autograd."""
        return wrap(self._data) if self.interpreter is None else self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        check(
            isinstance(value, Tensor),
            lambda: f"Variable data has to be a tensor, but got {type(value).__name__}",
            TypeError,
        )
        self._data = value._data

    @property
    def names(self) -> tuple[None, ...]:
        return (None,) * self._data.ndim

    # -- Python's protocols --------------------------------------------------------------------

    def item(self) -> Any:
        """The one element as a Python number; raises RuntimeError if there are more."""
        data = self.concrete("item")
        check(
            data.size == 1,
            lambda: f"a Tensor with {data.size} elements cannot be converted to Scalar",
        )
        value = data.item()
        return float(value) if data.dtype in LOW_TYPES else value

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers."""
        data = self.concrete("tolist")
        return (data.astype(np.float32) if data.dtype in LOW_TYPES else data).tolist()

    def concrete(self, asker: str) -> ndarray:
        """The array; raises RuntimeError where an interpreter holds no values to look at."""
        data = self._data
        if not isinstance(data, ndarray):
            raise RuntimeError(
                f"[{asker}] needs the values of a tensor inside {self.interpreter}, where only "
                "shapes are known; move the call outside, or use tensor operators such as "
                "torch.where instead"
            )
        return data

    def numpy(self, *, force: bool = False) -> ndarray:
        """The array itself, sharing memory; raises RuntimeError for a tensor that requires grad."""
        if self._requires_grad and not force:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() "
                "instead."
            )
        data = self.concrete("numpy")
        check(
            data.dtype not in LOW_TYPES,
            lambda: f"Got unsupported ScalarType {self.dtype.name}; convert with .float() first",
            TypeError,
        )
        return data.view(ndarray)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        check(
            not self._requires_grad,
            "Can't export tensors that require gradient, use tensor.detach()",
            BufferError,
        )
        data = self.concrete("__dlpack__")
        if not data.flags.writeable:
            data = data.copy()
        return data.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __len__(self) -> int:
        check(self._data.ndim > 0, "len() of a 0-d tensor", TypeError)
        return self._data.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        check(self._data.ndim > 0, "iteration over a 0-d tensor", TypeError)
        return iter(self.unbind(0))

    def __bool__(self) -> bool:
        data = self.concrete("bool")
        check(
            data.size == 1,
            lambda: (
                f"Boolean value of Tensor with {'no' if data.size == 0 else 'more than one'} value"
                f"{'s' if data.size == 0 else ''} is ambiguous"
            ),
        )
        return bool(data.reshape(()))

    def __int__(self) -> int:
        return int(self._scalar())

    def __float__(self) -> float:
        return float(self._scalar())

    def __complex__(self) -> complex:
        return complex(self._scalar())

    def _scalar(self) -> Any:
        """`item()`, but PyTorch's conversions to Python numbers raise ValueError."""
        if self._data.size != 1:
            raise ValueError(
                "only one element tensors can be converted to Python scalars, got shape "
                f"{tuple(self._data.shape)}; reduce it first, or use .tolist()"
            )
        return self.item()

    def __index__(self) -> int:
        check(
            self._data.dtype.kind in "iub" and self._data.size == 1,
            "only integer tensors of a single element can be converted to an index",
            TypeError,
        )
        return operator.index(int(self.item()))

    def __hash__(self) -> int:
        return id(self)

    def __format__(self, spec: str) -> str:
        if self._data.ndim == 0 and isinstance(self._data, ndarray):
            return format(self.item(), spec)
        return object.__format__(self, spec)

    def __repr__(self) -> str:
        if not isinstance(self._data, ndarray):
            return f"{type(self).__name__}(shape={tuple(self._data.shape)}, dtype={self.dtype})"
        return format_tensor(
            self._data,
            dtype_name=self.dtype.name,
            default_float=dtypes.get_default_dtype().name,
            requires_grad=self._requires_grad and self.grad_fn is None,
            grad_fn=self.grad_fn.name() if self.grad_fn is not None else None,
        )

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple:
        check(
            self.grad_fn is None,
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol at the moment; use .detach().clone()",
        )
        data = self._data
        state = {k: v for k, v in self.__dict__.items() if k not in UNPICKLED}
        return rebuild, (type(self), data, self.dtype, self._requires_grad, state)

    def __deepcopy__(self, memo: dict) -> Tensor:
        check(
            self.grad_fn is None,
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol at the moment; use .detach().clone()",
        )
        if id(self) in memo:
            return memo[id(self)]
        copied = blank(type(self))
        memo[id(self)] = copied
        root = root_array(self._data)
        if id(root) not in memo:
            memo[id(root)] = copy_memory(root)
            memo.setdefault(id(memo), []).append(root)
        copied._data = same_place(self._data, root, memo[id(root)])
        if self._requires_grad:
            copied._requires_grad = True
        if self._grad is not None:
            copied._grad = self._grad.__deepcopy__(memo)
        for name, value in self.__dict__.items():
            if name not in UNPICKLED:
                copied.__dict__[name] = deepcopy(value, memo)
        return copied


UNPICKLED = {"_hooks", "_post_hooks", "_grad", "_retains_grad", "_accumulator", "_inference"}
LOW_FLOATS = {"bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"}
LOW_TYPES = {d.numpy for d in dtypes.DTYPES.values() if d.name in LOW_FLOATS}

_new = object.__new__


def blank(cls: type) -> Any:
    """A tensor of the class that has no array yet."""
    t = _new(cls)
    t._requires_grad = False
    t.grad_fn = t._storage = t._view = None
    return t


def wrap(data: Any) -> Tensor:
    """A tensor around an array, without copying; NumPy scalars become 0-dim arrays."""
    t = _new(Tensor)
    t._requires_grad = False
    t.grad_fn = t._storage = t._view = None
    t._data = data if data.__class__ is ndarray else np.asarray(data)
    return t


def rebuild(
    cls: type, data: ndarray, dtype: dtypes.dtype, requires_grad: bool, state: dict
) -> Tensor:
    """Unpickles a tensor."""
    t = blank(cls)
    t.__dict__.update(state)
    t._data = data if data.dtype is dtype.numpy else data.view(dtype.numpy)
    if requires_grad:
        t._requires_grad = True
    return t


def normalize_dim(dim: int, ndim: int) -> int:
    """`dim` counted from the front; raises IndexError when out of range.
    A 0-dim tensor has dims 0 and -1.
    """
    size = ndim or 1
    if not -size <= dim < size:
        raise IndexError(
            f"Dimension out of range (expected to be in range of [{-size}, {size - 1}], but got "
            f"{dim})"
        )
    return dim + size if dim < 0 else dim


class Parameter(Tensor):
    """A tensor that a Module lists among its parameters; requires grad by default.

    >>> Parameter(torch.zeros(2)).requires_grad
    True
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        t = blank(cls)
        if not (data is None or isinstance(data, Tensor)):
            raise AttributeError(
                "Parameter(): argument 'data' (position 1) must be Tensor, not "
                f"{type(data).__name__}; make one with torch.tensor"
            )
        t._data = np.zeros(0, dtypes.get_default_dtype().numpy) if data is None else data._data
        t.requires_grad_(requires_grad)
        return t

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()
