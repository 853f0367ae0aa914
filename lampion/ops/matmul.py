"""Products of matrices and vectors. May import rules, earlier families, core and the base.

Large products are compiled kernels, others one BLAS call (or one per matrix of a batch). PyTorch's
matmul rules: a vector counts as a row on the left and as a column on the right, dimensions before
the last two broadcast.
Half-precision types are computed in float32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.graph import DIRECT, GENERAL, NOTHING, STATE, Node
from ..core.inplace import COPY, type_name
from ..core.memory import tick
from ..core.naming import node_name
from ..core.op import Op
from ..core.tensor import Tensor, _new, wrap
from ..errors import check
from .large import engine
from .rules import EXPORTS, F32, F64, batch_elementwise, move_to_front, public

# -- kernels -----------------------------------------------------------------------------------


LARGE = 1 << 16  # multiplications from which compiled products are faster than BLAS
FEW = 8  # rows below which they are not


def large_product(a: ndarray, b: ndarray, bias: ndarray | None = None) -> ndarray | None:
    """`a @ b + bias` by a compiled kernel where that is faster than BLAS, else None."""
    inner = a.shape[-1]
    if a.ndim < 2 or b.ndim < 2 or a.size * b.shape[-1] < LARGE or a.size < FEW * inner:
        return None
    if inner != b.shape[-2]:
        return None
    compiler = engine("matmul")
    return None if compiler is None else compiler.multiply(a, b, bias)


def matmul_kernel(a: ndarray, b: ndarray) -> ndarray:
    """The matrix product over the last two dimensions; (..., n, k) @ (k, m) is one call of BLAS."""
    made = large_product(a, b)
    if made is not None:
        return made
    if a.dtype.itemsize < 4 and a.dtype.kind in "fV":
        return matmul_kernel(a.astype(F32), b.astype(F32)).astype(a.dtype)
    if b.ndim <= 2 and (a.ndim <= 2 or a.flags.c_contiguous):
        if a.ndim <= 2:
            return a.dot(b)
        rows = a.reshape(math.prod(a.shape[:-1]), a.shape[-1])
        return rows.dot(b).reshape(*a.shape[:-1], *b.shape[1:])
    return np.matmul(for_blas(a), for_blas(b))


def as_rows(a: ndarray) -> ndarray:
    """(..., k) -> (rows, k)."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def for_blas(x: ndarray) -> ndarray:
    """The array, copied if the strides of its matrices are none that BLAS takes."""
    unit = x.dtype.itemsize
    rows, columns = x.strides[-2:]
    good = (columns == unit and rows >= unit) or (rows == unit and columns >= unit)
    return x if good else np.ascontiguousarray(x)


def product(a: Tensor, b: Tensor, adjoint_a: bool = False, adjoint_b: bool = False) -> Tensor:
    """`a @ b` with adjoints where asked for; short on arrays, since every gradient needs it."""
    x, y = a._data, b._data
    if STATE.mode == DIRECT and x.dtype.kind != "c":
        return wrap(
            matmul_kernel(
                x.swapaxes(-1, -2) if adjoint_a else x, y.swapaxes(-1, -2) if adjoint_b else y
            )
        )
    return matmul(a.mH if adjoint_a else a, b.mH if adjoint_b else b)


def left_gradient(g: Tensor, b: Tensor) -> Tensor:
    """The gradient of the left factor."""
    return product(g, b, adjoint_b=True)


def right_gradient(g: Tensor, a: Tensor, b_shape: tuple) -> Tensor:
    """The gradient of the right factor; of a single matrix, one product over all rows."""
    if len(b_shape) == 2 and a._data.ndim > 2:
        a, g = a.flatten(0, -2), g.flatten(0, -2)  # (rows, k), (rows, m)
    return product(a, g, adjoint_a=True)


# -- records -----------------------------------------------------------------------------------


def matrix_op(name: str, right: Callable, grad_name: str) -> Op:
    """The record of a product of matrices or of batches of them."""
    return Op(
        name,
        ("a", "b"),
        matmul_kernel,
        kind="bilinear",
        vjp={"a": left_gradient, "b": right},
        batch=matrix_batch,
        grad_name=grad_name,
        autocast="lower",
    )


def matrix_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Batches of products broadcast like any other batch."""
    return batch_elementwise(size, values, dims, params, MATMUL)


def mv_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """A batch of vectors is a batch of columns."""
    a, v = (move_to_front(t, d) for t, d in zip(values, dims))
    return (a @ v.unsqueeze(-1)).squeeze(-1), 0  # (B, n, k) @ (B, k, 1), or (k, 1) -> (B, n)


def dot_batch(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """Products of rows."""
    a, b = (move_to_front(t, d) for t, d in zip(values, dims))
    return (a * b).sum(-1), 0


MM = matrix_op("mm", lambda g, a: product(a, g, adjoint_a=True), "MmBackward0")
BMM = matrix_op("bmm", right_gradient, "BmmBackward0")
MATMUL = matrix_op("matmul", right_gradient, "UnsafeViewBackward0")
MV = Op(
    "mv",
    ("a", "v"),
    matmul_kernel,
    kind="bilinear",
    vjp={
        "a": lambda g, v: g.unsqueeze(-1) * v.conj(),
        "v": lambda g, a: a.mH @ g,
    },
    batch=mv_batch,
    autocast="lower on cuda",
)
DOT = Op(
    "dot",
    ("a", "b"),
    matmul_kernel,
    kind="bilinear",
    vjp={"a": lambda g, b: g * b.conj(), "b": lambda g, a: g * a.conj()},
    batch=dot_batch,
)

# -- the functions -----------------------------------------------------------------------------


def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The product of matrices, vectors or batches of matrices: `(..., n, k) @ (..., k, m) -> (...,
    n, m)`.

    Vectors count as a row on the left and as a column on the right; leading dimensions broadcast.
    Raises RuntimeError where sizes or types differ.

    >>> torch.ones(2, 3) @ torch.ones(3, 4)
    tensor([[3., 3., 3., 3.],
            [3., 3., 3., 3.]])
    """
    try:
        x, y = input._data, other._data
    except AttributeError:
        raise TypeError(
            f"matmul(): argument 'other' (position 2) must be Tensor, not {type(other).__name__}"
        ) from None
    mode = STATE.mode
    d = x.dtype
    if (
        mode == GENERAL
        or x.ndim != 2
        or y.ndim != 2
        or d is not y.dtype
        or (d is not F32 and d is not F64)
    ):
        return general_matmul(input, other)
    try:
        t = wrap(matmul_kernel(x, y))
    except ValueError:
        raise sizes_differ(x, y) from None
    if mode:
        mask = input._requires_grad + 2 * other._requires_grad
        if mask:
            first, second = input.grad_fn, other.grad_fn
            if first is None:
                first = input
            if second is None:
                second = other
            node = _new(Node)
            node.plan = MM.plans[mask]
            if mask == 3:
                node.edges, node.saved = (first, second), (other, input)
            elif mask == 1:
                node.edges, node.saved = (first,), (other,)
            else:
                node.edges, node.saved = (second,), (input,)
            node.params, node.shape, node.dtype = NOTHING, t._data.shape, d
            t._requires_grad, t.grad_fn = True, node
            node.seq = tick()
    return t


def general_matmul(input: Tensor, other: Tensor) -> Tensor:
    """`matmul` for all ranks and types, inside interpreters too."""
    x, y = input._data, other._data
    check(
        x.ndim > 0 and y.ndim > 0,
        lambda: (
            f"[matmul] both arguments to matmul need to be at least 1D, but they are {x.ndim}D and "
            f"{y.ndim}D"
        ),
    )
    if STATE.autocast is None:
        same_type(
            "matmul", input, other, "expected m1 and m2 to have the same dtype, but got: {0} != {1}"
        )
    if x.shape[-1] != y.shape[-2 if y.ndim > 1 else -1]:
        raise sizes_differ(x, y)
    if x.ndim == 1 or y.ndim == 1:
        if x.ndim == y.ndim:
            return apply(DOT, input, other)
        if x.ndim == 2:
            return apply(MV, input, other)
        if x.ndim == 1:
            return general_matmul(input.unsqueeze(0), other).squeeze(-2)
        return general_matmul(input, other.unsqueeze(-1)).squeeze(-1)
    if x.ndim == y.ndim == 2:
        return apply(MM, input, other)
    try:
        np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    except ValueError:
        raise RuntimeError(
            f"[matmul] the batch dimensions of shapes {tuple(x.shape)} and {tuple(y.shape)} do not "
            "broadcast: " + broadcast_mismatch(x.shape[:-2], y.shape[:-2])
        ) from None
    return apply(MATMUL, input, other)


def broadcast_mismatch(x: tuple, y: tuple) -> str:
    """The place where two shapes do not broadcast, in PyTorch's words."""
    rank = max(len(x), len(y))
    for k in range(1, min(len(x), len(y)) + 1):
        if x[-k] != y[-k] and 1 not in (x[-k], y[-k]):
            return (
                f"The size of tensor a ({x[-k]}) must match the size of tensor b ({y[-k]}) at "
                f"non-singleton dimension {rank - k}"
            )
    return f"{tuple(x)} and {tuple(y)}"


def sizes_differ(x: Any, y: Any) -> RuntimeError:
    """The error for inner sizes that differ, with the transpose that would repair it."""
    if x.ndim == 1 and y.ndim == 1:
        return RuntimeError(
            f"[matmul] inconsistent tensor size, expected tensor [{x.size}] and src [{y.size}] to "
            f"have the same number of elements, but got {x.size} and {y.size} elements respectively"
        )
    if x.ndim == 2 and y.ndim == 1:
        return RuntimeError(
            f"[matmul] size mismatch, got input ({x.shape[0]}), mat ({x.shape[0]}x{x.shape[1]}), "
            f"vec ({y.size})"
        )
    if x.ndim == 3 and y.ndim == 3:
        return RuntimeError(
            "[matmul] Expected size for first two dimensions of batch2 tensor to be: "
            f"[{x.shape[0]}, {x.shape[2]}] but got: [{y.shape[0]}, {y.shape[1]}].{repair(x, y)}"
        )
    rows = 1
    for s in x.shape[:-1]:
        rows *= s
    columns = "x".join(map(str, y.shape[-2:])) if y.ndim > 1 else f"{y.shape[0]}x1"
    return RuntimeError(
        f"[matmul] mat1 and mat2 shapes cannot be multiplied ({rows}x{x.shape[-1]} and "
        f"{columns}){repair(x, y)}"
    )


def repair(x: Any, y: Any) -> str:
    """What would make the inner sizes agree, if a transposition does."""
    if y.ndim > 1 and x.shape[-1] == y.shape[-1]:
        return "; did you mean b.mT?"
    if x.ndim > 1 and y.ndim > 1 and x.shape[-2] == y.shape[-2]:
        return "; did you mean a.mT?"
    return ""


SCALAR_NAMES = {
    "float32": "float",
    "float64": "double",
    "int64": "long int",
    "int32": "int",
    "int16": "short",
    "int8": "signed char",
    "uint8": "unsigned char",
    "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
    "complex64": "c10::complex<float>",
    "complex128": "c10::complex<double>",
}


def same_type(name: str, x: Tensor, y: Tensor, message: str) -> None:
    """Raises RuntimeError unless both have one type, NotImplementedError for booleans."""
    if x._data.dtype != y._data.dtype:
        names = [SCALAR_NAMES.get(t.dtype.name, t.dtype.name) for t in (x, y)]
        raise RuntimeError(f"[{name}] {message.format(*names)}; convert one with .to()")
    check(
        x._data.dtype.kind != "b",
        lambda: f"[{name}] is not implemented for 'Bool'; convert with .int() or .float()",
        NotImplementedError,
    )


def operator_matmul(self: Tensor, other: Any) -> Tensor:
    """`a @ b`; NotImplemented for what is no tensor."""
    return matmul(self, other) if isinstance(other, Tensor) else NotImplemented


Tensor.__matmul__ = operator_matmul
Tensor.__rmatmul__ = lambda self, other: operator_matmul(other, self)
public(matmul, out=True)
# The method is the bare function, which checks its operands itself.
Tensor.matmul = matmul  # type: ignore[assignment]
EXPORTS["linalg"]["matmul"] = EXPORTS["torch"]["matmul"]


@public(out=True)
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices, without broadcasting: `(n, k) x (k, m) -> (n, m)`."""
    check(
        input._data.ndim == 2,
        lambda: f"[mm] self must be a matrix, got {input._data.ndim} dimensions",
    )
    check(
        mat2._data.ndim == 2,
        lambda: f"[mm] mat2 must be a matrix, got {mat2._data.ndim} dimensions",
    )
    return matmul(input, mat2)


@public(out=True)
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices: `(b, n, k) x (b, k, m) -> (b, n, m)`."""
    x, y = input._data, mat2._data
    check(x.ndim == 3, lambda: f"[bmm] batch1 must be a 3D tensor, got shape {tuple(x.shape)}")
    check(y.ndim == 3, lambda: f"[bmm] batch2 must be a 3D tensor, got shape {tuple(y.shape)}")
    check(
        x.shape[0] == y.shape[0] and x.shape[2] == y.shape[1],
        lambda: (
            f"[bmm] Expected size for first two dimensions of batch2 tensor to be: [{x.shape[0]}, "
            f"{x.shape[2]}] but got: [{y.shape[0]}, {y.shape[1]}]."
        ),
    )
    if STATE.autocast is None:
        same_type(
            "bmm", input, mat2, "expected m1 and m2 to have the same dtype, but got: {0} != {1}"
        )
    return apply(BMM, input, mat2)


@public(out=True)
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector: `(n, k) x (k,) -> (n,)`."""
    x, v = input._data, vec._data
    check(
        x.ndim == 2 and v.ndim == 1,
        lambda: f"[mv] vector + matrix @ vector expected, got 1, {x.ndim}, {v.ndim}",
    )
    return matmul(input, vec)


@public(out=True)
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of the products of two vectors' elements."""
    x, y = input._data, tensor._data
    check(
        x.ndim == y.ndim == 1,
        lambda: f"[dot] 1D tensors expected, but got {x.ndim}D and {y.ndim}D tensors",
    )
    check(
        x.dtype == y.dtype,
        lambda: (
            "[dot] dot : expected both vectors to have same dtype, but found "
            f"{type_name(input.dtype)} and {type_name(tensor.dtype)}"
        ),
    )
    return matmul(input, tensor)


@public(out=True, inplace=True)
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """`beta * input + alpha * (mat1 @ mat2)`; with beta 0 the input is not looked at."""
    return add_product("addmm", input, mm(mat1, mat2), beta, alpha)


def add_product(name: str, input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """`beta * input + alpha * product`, as in addmm, addmv, addbmm, baddbmm."""
    x, y = input._data, product._data
    if y.dtype.kind in "biu":
        beta, alpha = int(beta), int(alpha)  # PyTorch cuts the factors of integers
    if x.shape != y.shape:
        input = input.expand(y.shape)
    if STATE.autocast is None:
        same_type(
            name, input, product, "self and mat2 must have the same dtype, but got {0} and {1}"
        )
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return COPY(input, product, by=name) if input._requires_grad else product
    total = product + (input if beta == 1 else input * beta)
    if total.grad_fn is not None:
        total.grad_fn.title = node_name(name)
    return total
