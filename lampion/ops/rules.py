"""Makers: what the operators of one kind have in common. May import core and the base.

A maker takes what is particular to an operator and returns the public function, having made the
record, the Tensor method, the in-place form and `out=`. `public` does the same for functions
written by hand.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.arguments import explain, guarded, takes_tensors
from ..core.dispatch import apply
from ..core.graph import GENERAL, NOTHING, STATE, Node, SavedOutput
from ..core.inplace import assign, check_memory, check_writable, in_place, write_out
from ..core.memory import Storage, tick
from ..core.naming import named
from ..core.op import ARRAY_NAMES, TENSOR_NAMES, Op
from ..core.promotion import SCALARS, is_ufunc, scalar_array, shape_error
from ..core.tensor import Tensor, normalize_dim, wrap
from ..errors import out_of_memory

EXPORTS: dict[str, dict[str, Any]] = defaultdict(dict)  # namespace -> name -> public function

F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
LOW_FLOATS = {d.numpy for d in dtypes.DTYPES.values() if d.is_floating_point and d.itemsize < 4}
_new = object.__new__


# -- publishing --------------------------------------------------------------------------------


def public(
    function: Callable | None = None,
    *,
    name: str = "",
    spaces: Sequence[str] = ("torch",),
    aliases: Sequence[str] = (),
    method: bool = True,
    inplace: bool = False,
    out: bool = False,
) -> Any:
    """Publishes a function whose first argument is a tensor: in namespaces, as a method, in place,
    with `out=`.
    """
    if function is None:
        return functools.partial(
            public,
            name=name,
            spaces=spaces,
            aliases=aliases,
            method=method,
            inplace=inplace,
            out=out,
        )
    name = name or function.__name__
    exported = with_out(function, name) if out else function
    bound = guarded(function) if takes_tensors(function, 2) else function
    for n in (name, *aliases):
        for space in spaces:
            EXPORTS[space][n] = exported
        if method:
            setattr(Tensor, n, bound)
        if inplace:
            in_place = make_inplace(function, n + "_")
            setattr(Tensor, n + "_", in_place)
            if "torch" in spaces:
                EXPORTS["torch"][n + "_"] = in_place
    TENSOR_NAMES.setdefault(name, function)
    return exported


NUMPY_NAMES = {"axis": "dim", "keepdims": "keepdim"}


def numpy_names(function: Callable) -> Callable:
    """Lets a function be called with NumPy's names `axis` and `keepdims`, as PyTorch does."""
    known = inspect.signature(function).parameters
    renamed = {n: t for n, t in NUMPY_NAMES.items() if t in known}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            kwargs = {renamed.get(n, n): value for n, value in kwargs.items()}
        return function(*args, **kwargs)

    return call


def with_out(function: Callable, name: str) -> Callable:
    """The function with an `out=` argument: a tensor, or a tuple of them for several results."""

    @functools.wraps(function)
    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            explain(error, function, args, kwargs)
            raise
        if out is None:
            return result
        if isinstance(result, tuple):
            written = [write_out(o, r, name) for o, r in zip(out, result, strict=True)]
            return type(result)(*written) if hasattr(result, "_fields") else tuple(written)
        return write_out(out, result, name)

    call.guarded = True  # type: ignore[attr-defined]
    return call


def make_inplace(function: Callable, name: str) -> Callable:
    """The in-place form: the out-of-place operator, then `assign`."""

    def call(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        try:
            return in_place(self, name, function, *args, **kwargs)
        except Exception as error:
            explain(error, function, (self, *args), kwargs)
            raise

    return named(call, name, f"In-place form of `{name[:-1]}`.")


# -- elementwise -------------------------------------------------------------------------------


def elementwise(
    name: str,
    formula: str,
    *,
    numpy: Callable | None = None,
    partials: dict[str, str] | None = None,
    parameters: dict[str, Any] | None = None,
    promote: str = "common",
    aliases: Sequence[str] = (),
    spaces: Sequence[str] = ("torch",),
    method: bool = True,
    inplace: bool = True,
    doc: str = "",
    grad_name: Any = None,
    autocast: str | None = None,
    vjp: Any = None,
    jvp: Any = None,
    inputs: Sequence[str] = (),
) -> Any:
    """An operator applied to each element (or pair, or triple) by a scalar formula, with
    broadcasting.

    formula     Python arithmetic over the inputs and `parameters`, e.g. `"a * b"`, `"log(1 +
                exp(x))"`
    numpy       the kernel, where one exists; else it is compiled from the formula
    partials    {input: formula of the local derivative}; may use inputs, `y` and parameters; "1"
                passes g on. An input that is not listed has no gradient.
    promote     "common": in the operands' common type; "float": integers become the default float
    parameters  keyword arguments with their defaults, which formulas may use
    inputs      the names of the inputs where their order is not alphabetical
    """
    parameters = parameters or {}
    inputs = tuple(inputs) or inputs_of(formula, parameters)
    source = f"lambda {', '.join((*inputs, *parameters))}: {formula}"
    kernel = numpy or in_float32(eval(source, ARRAY_NAMES))
    op = Op(
        name,
        inputs,
        kernel,
        kind="elementwise",
        formula=formula,
        partials=partials,
        parameters=tuple(parameters),
        vjp=vjp,
        jvp=jvp,
        promote=promote,
        batch=batch_elementwise,
        grad_name=grad_name,
        autocast=autocast,
    )
    if parameters:
        function = parametric_call(op, parameters)
    elif len(inputs) == 1:
        function = unary_call(op)
    elif len(inputs) == 2:
        function = binary_call(op)
    else:
        function = functools.partial(apply, op)
    return publish_elementwise(op, function, aliases, spaces, method, inplace, doc)


def wide(x: ndarray) -> ndarray:
    """float16, bfloat16 and smaller floats as float32; any other array as it is."""
    return x.astype(F32) if x.dtype in LOW_FLOATS else x


def rounded(result: ndarray, dtype: np.dtype) -> ndarray:
    """Numbers in a smaller type; indices and truth values as they are."""
    return result if result.dtype.kind in "biu" else result.astype(dtype)


def in_float32(kernel: Callable) -> Callable:
    """The kernel, which computes smaller floats in float32 and rounds once at the end, as
    PyTorch's do.
    """

    @functools.wraps(kernel)
    def call(x: ndarray, *others: Any, **params: Any) -> Any:
        dtype = x.dtype
        if dtype not in LOW_FLOATS:
            return kernel(x, *others, **params)
        others = tuple([t.astype(F32) if isinstance(t, ndarray) else t for t in others])
        result = kernel(x.astype(F32), *others, **params)
        if isinstance(result, tuple):
            return tuple([rounded(r, dtype) for r in result])
        return rounded(result, dtype)

    return call


def inputs_of(formula: str, parameters: dict) -> tuple[str, ...]:
    """A formula's inputs: its free names of one letter, in alphabetical order."""
    return tuple(sorted({n for n in re.findall(r"\b[a-z]\b", formula) if n not in parameters}))


def publish_elementwise(
    op: Op,
    function: Callable,
    aliases: Sequence,
    spaces: Sequence,
    method: bool,
    inplace: bool,
    doc: str,
) -> Callable:
    """Names, documents and publishes an elementwise operator."""
    if not isinstance(function, functools.partial):
        formula = f"`{op.formula}`, elementwise."
        named(function, op.name, f"{doc}\n\n{formula}" if doc else formula)
    exported = public(
        function, name=op.name, spaces=spaces, aliases=aliases, method=method, out=True
    )
    function.op = op  # type: ignore[attr-defined]
    exported.op = op
    if inplace:
        in_place = inplace_call(op, function)
        for n in (op.name, *aliases):
            setattr(Tensor, n + "_", in_place)
            EXPORTS["torch"][n + "_"] = in_place
    return function


def scalar_like(t: Any, value: Any) -> Any:
    """A kept 0-dim tensor of the number in t's type if that is the common type, else the number."""
    d: Any = t._data.dtype if isinstance(t, Tensor) else None
    kept = SCALARS.get(d)
    if kept is None or (value.__class__ is float and d.kind != "f"):
        return value
    key = value or (0, math.copysign(1.0, value))  # 0.0 and -0.0 are equal
    found = kept.get(key)
    if found is None:
        found = wrap(scalar_array(value, d))
        if len(kept) < 4096:
            kept[key] = found
    return found


def unary_call(op: Op) -> Callable:
    """The short path of a one-input operator."""
    kernel, floats_only = op.kernel, op.promote == "float"
    differentiable = op.has_gradient
    plan: Any = op.plans[1] if differentiable else None
    save = plan and plan.save
    keeps_output = plan and plan.keeps_output
    only_output = plan and plan.names == ("y",)

    def call(input: Any) -> Tensor:
        mode = STATE.mode
        try:
            x = input._data
        except AttributeError:
            raise TypeError(
                f"{op.name}(): argument 'input' (position 1) must be Tensor, not "
                f"{type(input).__name__}"
            ) from None
        if mode == GENERAL or (floats_only and x.dtype is not F32 and x.dtype is not F64):
            return apply(op, input)
        t = wrap(kernel(x))
        if mode and differentiable and input._requires_grad:
            node = _new(Node)
            node.plan = plan
            before = input.grad_fn
            node.edges = (input if before is None else before,)
            d = t._data
            node.params, node.shape, node.dtype = NOTHING, d.shape, d.dtype
            t._requires_grad = True
            t.grad_fn = node
            if only_output:
                node.saved = (SavedOutput(t),)
            else:
                node.saved = save(input, SavedOutput(t) if keeps_output else None) if save else ()
            node.seq = tick()
        return t

    short = plan is None or plan.short
    return call if short else lambda input: apply(op, input)


def binary_call(op: Op) -> Callable:
    """The short path of a two-input operator."""
    kernel, plan_of, floats_only = op.kernel, op.plans, op.promote == "float"
    differentiable = op.has_gradient

    def call(input: Any, other: Any) -> Tensor:
        if other.__class__ is float or other.__class__ is int:
            other = scalar_like(input, other)
        try:
            x = input._data
            y = other._data
        except AttributeError:
            return apply(op, input, other)
        mode = STATE.mode
        d = x.dtype
        if mode == GENERAL or d is not y.dtype or (floats_only and d is not F32 and d is not F64):
            return apply(op, input, other)
        try:
            t = wrap(kernel(x, y))
        except ValueError:
            raise shape_error(op.name, x, y) from None
        except MemoryError as error:
            raise out_of_memory(op.name, error) from None
        if mode and differentiable:
            if input._requires_grad:
                first = input.grad_fn
                edges: tuple
                if first is None:
                    first = input
                if other._requires_grad:
                    second = other.grad_fn
                    edges = (first, other if second is None else second)
                    plan = plan_of[3]
                else:
                    edges = (first,)
                    plan = plan_of[1]
            elif other._requires_grad:
                second = other.grad_fn
                edges = (other if second is None else second,)
                plan = plan_of[2]
            else:
                return t
            node = _new(Node)
            node.plan = plan
            node.edges = edges
            node.params = NOTHING
            d = t._data
            node.shape = d.shape
            node.dtype = d.dtype
            t._requires_grad = True
            t.grad_fn = node
            if plan.save is None:
                node.saved = ()
            elif plan.kept is not None:
                node.saved = (other,) if plan.kept else (input,)
            else:
                node.saved = plan.save(input, other, SavedOutput(t) if plan.keeps_output else None)
            node.seq = tick()
        return t

    short = not differentiable or plan_of[3].short
    return call if short else lambda input, other: apply(op, input, other)


def parametric_call(op: Op, defaults: dict[str, Any]) -> Callable:
    """A call whose further arguments, by position or keyword, are the formula's parameters."""
    names, count = tuple(defaults), len(op.inputs)

    def call(*args: Any, **kwargs: Any) -> Tensor:
        params = {**defaults, **dict(zip(names, args[count:])), **kwargs}
        if len(params) > len(names) or len(args) < count:
            unknown = [k for k in params if k not in defaults]
            raise TypeError(f"{op.name}() takes {op.inputs} and {names}, got {args} and {unknown}")
        return apply(op, *args[:count], **params)

    return call


def inplace_call(op: Op, function: Callable, scaled: Op | None = None) -> Callable:
    """In place: straight into the memory where no graph is recorded,
    else the operator and `assign`. `scaled` is the operator with a factor `alpha`.
    """
    plain, name = op.kernel, op.name + "_"
    direct = is_ufunc(plain) or (getattr(plain, "writes", False) and not op.parameters)
    with_factor: Any = scaled and scaled.kernel

    def call(self: Tensor, *others: Any, **params: Any) -> Tensor:
        kernel = plain
        if params and with_factor and is_factor(self, params):
            kernel = with_factor
        if direct and (not params or kernel is with_factor) and STATE.mode != GENERAL:
            arrays = arrays_of_type(self, others)
            if arrays is not None and writes_directly(self, op):
                try:
                    kernel(self._data, *arrays, out=self._data, **params)
                except (ValueError, TypeError):  # `assign` says what does not fit
                    return assign(self, function(self, *others), name)
                if self._storage is None:
                    self._storage = Storage()
                self._storage.write(name)
                return self
        check_writable(self, name)
        return in_place(self, name, function, *others, **params)

    return named(call, name, f"In-place form of `{op.name}`.")


def is_factor(target: Tensor, params: dict) -> bool:
    """Whether the parameters are `alpha` alone, a number, and the target is of floats."""
    number = params.get("alpha").__class__
    return len(params) == 1 and number in (float, int) and target._data.dtype.kind == "f"


def arrays_of_type(target: Tensor, others: tuple) -> list | None:
    """The operands' arrays if all are of the target's type and nothing is to be recorded,
    else None.
    """
    recording, dtype = STATE.grad, target._data.dtype
    if recording and target._requires_grad:
        return None
    arrays = []
    for t in others:
        if t.__class__ is float or t.__class__ is int:
            t = scalar_like(target, t)
        if (
            not isinstance(t, Tensor)
            or t._data.dtype is not dtype
            or (recording and t._requires_grad)
        ):
            return None
        arrays.append(t._data)
    return arrays


def writes_directly(target: Tensor, op: Op) -> bool:
    """Whether the result has the target's type;
    raises RuntimeError for memory that may not be written.
    """
    data = target._data
    if not data.flags.writeable or 0 in data.strides:
        check_memory(data, op.name + "_")
    return not target._inference and (op.promote == "common" or data.dtype.kind == "f")


def reflected(function: Callable, title: str | None = None) -> Callable:
    """The operator with its operands swapped, for `2 - x`; `title` names its node."""

    def call(self: Tensor, other: Any) -> Tensor:
        if other.__class__ is float or other.__class__ is int:
            other = scalar_like(self, other)
        result = function(other, self)
        if title and result.grad_fn is not None:
            result.grad_fn.title = title
        return result

    return call


# -- batching rules ----------------------------------------------------------------------------


def move_to_front(value: Any, dim: int | None) -> Any:
    """The value with its batch dimension first; unbatched values stay as they are."""
    return value if dim in (None, 0) else value.movedim(dim, 0)


def batch_elementwise(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Aligns: the batch dimension in front, then ones up to the largest rank."""
    rank = max(v._data.ndim - (d is not None) for v, d in zip(values, dims) if v is not None)
    aligned = []
    for v, d in zip(values, dims):
        if v is not None and d is not None:
            v = move_to_front(v, d)
            missing = rank - (v._data.ndim - 1)
            if missing:
                v = v.reshape((v._data.shape[0], *(1,) * missing, *v._data.shape[1:]))
        aligned.append(v)
    return apply(op, *aligned, **params), 0


def batch_first(shift: Callable[[dict, int], dict]) -> Callable:
    """A rule for one-input operators: batch dimension first, parameters shifted by `shift(params,
    ndim)`.
    """

    def rule(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
        x = move_to_front(values[0], dims[0])
        out = apply(op, x, **shift(params, x._data.ndim - 1))
        return out, (0,) * len(out) if isinstance(out, tuple) else 0

    return rule


def shift_dims(params: dict, ndim: int) -> dict:
    """`dim` (an int, a tuple or None for all) moved behind the batch dimension."""
    dim = params["dim"]
    if dim is None:
        dim = tuple(range(1, ndim + 1))
    elif isinstance(dim, int):
        dim = dim % max(ndim, 1) + 1
    else:
        dim = tuple(d % max(ndim, 1) + 1 for d in dim)
    return {**params, "dim": dim}


# -- helpers for signatures --------------------------------------------------------------------


def normalize_dims(dim: Any, ndim: int) -> tuple[int, ...]:
    """An int, a sequence or None (all) as a tuple of dims counted from the front,
    each at most once.
    """
    if dim is None:
        return tuple(range(ndim))
    if isinstance(dim, int):
        return (normalize_dim(dim, ndim),)
    dims = tuple(normalize_dim(operator.index(d), ndim) for d in dim)
    if len(set(dims)) != len(dims):
        raise RuntimeError(
            f"dim {next(d for d in dims if dims.count(d) > 1)} appears multiple times in the list "
            "of dims"
        )
    return dims


def shape_argument(shape: tuple) -> tuple[int, ...]:
    """`f(2, 3)`, `f((2, 3))` and `f(Size)` alike."""
    if len(shape) == 1 and not isinstance(shape[0], (int, Tensor, np.integer)):
        shape = tuple(shape[0])
    try:
        return tuple([s if s.__class__ is int else operator.index(s) for s in shape])
    except TypeError:
        whole = (int, np.integer)
        at = next(i for i, s in enumerate(shape) if not isinstance(s, whole))
        raise TypeError(
            f"argument 'size' must be tuple of ints, but found element of type "
            f"{type(shape[at]).__name__} at pos {at}; pass integers"
        ) from None


ARRAY_NAMES.update(
    {n: getattr(np, n) for n in [
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos",
        "tan", "sinh", "cosh", "tanh", "where", "maximum", "minimum", "sign", "floor", "ceil",
        "trunc", "zeros_like", "isnan", "abs", "square", "logaddexp", "arctan2", "hypot",
        "copysign", "isinf", "pi", "inf", "nan", "fmod",
    ]},
    asin=np.arcsin, acos=np.arccos, atan=np.arctan,
    asinh=np.arcsinh, acosh=np.arccosh, atanh=np.arctanh,
    round=np.rint, real=np.real, imag=np.imag,
)  # fmt: skip
TENSOR_NAMES.update(pi=math.pi, inf=math.inf, nan=math.nan)


def dtype_argument(dtype: Any) -> Any:
    """A `dtype=` argument: ours, a Python type, or None."""
    return dtypes.PYTHON_TYPES.get(dtype, dtype) if dtype is not None else None
