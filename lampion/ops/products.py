"""Products of tensors beyond the matrix product. May import rules, earlier families, core and the
base.

All are written in matmul, permutations and broadcasting; their derivatives follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.tensor import Tensor, normalize_dim
from ..errors import check
from .matmul import add_product, bmm, matmul, mm, mv
from .rules import normalize_dims, numpy_names, public


@public(aliases=("ger",), out=True)
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of an element of one vector with one of the other: (n), (m) -> (n, m)."""
    check(
        input._data.ndim == 1 and vec2._data.ndim == 1,
        lambda: f"[outer] Expected 1-D arguments, got {input._data.ndim}-D and {vec2._data.ndim}-D",
    )
    return input.unsqueeze(1) * vec2.unsqueeze(0)


@public(out=True)
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums over the last dimension of both: (*a, k), (*b, k) -> (*a, *b);
    a 0-dim operand multiplies.
    """
    x, y = input._data, other._data
    if x.ndim == 0 or y.ndim == 0:
        return input * other
    check(
        x.shape[-1] == y.shape[-1],
        lambda: (
            "[inner] inner() the last dimension must match on both input tensors but got shapes "
            f"{list(x.shape)} and {list(y.shape)}"
        ),
    )
    return tensordot(input, other, ([-1], [-1]))


@public(out=True)
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The sum of products of two vectors' elements, the first conjugated."""
    return input.conj().dot(other)


@public(spaces=("linalg",), method=False, out=True)
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Inner products along a dimension, the first operand conjugated;
    other dimensions broadcast.
    """
    check(
        x.dtype == y.dtype,
        lambda: (
            f"linalg.vecdot: Expected x and y to have the same dtype, got {x.dtype} and {y.dtype}"
        ),
    )
    return (x.conj() * y).sum(dim)


@public(inplace=True, out=True)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """`beta * input + alpha * (mat @ vec)`."""
    return add_product("addmv", input, mv(mat, vec), beta, alpha)


@public(inplace=True, out=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """`beta * input + alpha * outer(vec1, vec2)`, in the operands' common type."""
    product = outer(vec1, vec2)
    if product.dtype.category == 0:  # booleans: or, and
        product = product & bool(alpha)
        return product | input if beta else product
    scaled = product * alpha
    return (
        scaled + input * 0
        if beta == 0 and not scaled.is_floating_point()
        else (scaled if beta == 0 else input * beta + scaled)
    )


@public(inplace=True, out=True)
def addbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """`beta * input + alpha * sum over the batch of batch1 @ batch2`."""
    return add_product("addbmm", input, bmm(batch1, batch2).sum(0), beta, alpha)


@public(inplace=True, out=True)
def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """`beta * input + alpha * (batch1 @ batch2)` for each matrix of the batches."""
    return add_product("baddbmm", input, bmm(batch1, batch2), beta, alpha)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of several matrices, in the order that costs least."""
    return multi_dot(list(matrices))


public(chain_matmul, method=False)


@public(spaces=("linalg",), method=False, out=True)
def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of several matrices, in the order that costs least; the first and last may be
    vectors.

    Source: Cormen et al., "Introduction to Algorithms", matrix-chain multiplication.
    """
    tensors = list(tensors)
    check(
        len(tensors) >= 2,
        lambda: f"multi_dot(): expected at least 2 tensors but got {len(tensors)}",
    )
    first, last = tensors[0].dim() == 1, tensors[-1].dim() == 1
    matrices = [t.unsqueeze(0) if i == 0 and first else t for i, t in enumerate(tensors)]
    matrices = [
        t.unsqueeze(1) if i == len(matrices) - 1 and last else t for i, t in enumerate(matrices)
    ]
    for i, t in enumerate(matrices):
        check(t.dim() == 2, lambda: f"multi_dot(): tensor {i} must be 2D but got {t.dim()}D")
    for a, b in zip(matrices, matrices[1:]):
        check(
            a.shape[1] == b.shape[0],
            lambda: (
                f"multi_dot(): tensors with shapes {list(a.shape)} and {list(b.shape)} cannot be "
                "multiplied"
            ),
        )
    out = multiply_in_order(
        matrices, cheapest_splits([t.shape[0] for t in matrices] + [matrices[-1].shape[1]])
    )
    out = out.squeeze(0) if first else out
    return out.squeeze(-1) if last else out


def cheapest_splits(sizes: list[int]) -> dict[tuple[int, int], int]:
    """For each run of matrices (i, j) where its last multiplication splits it."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    split = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            options = {
                k: cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1]
                for k in range(i, j)
            }
            split[i, j] = min(options, key=options.__getitem__)
            cost[i, j] = options[split[i, j]]
    return split


def multiply_in_order(matrices: list[Tensor], split: dict[tuple[int, int], int]) -> Tensor:
    """The product of all matrices by the splits."""

    def run(i: int, j: int) -> Tensor:
        return matrices[i] if i == j else mm(run(i, split[i, j]), run(split[i, j] + 1, j))

    return run(0, len(matrices) - 1)


@public(spaces=("torch", "linalg"), out=True)
def matrix_power(input: Tensor, n: int) -> Tensor:
    """The n-th power of square matrices by repeated squaring; negative powers invert first."""
    check(
        input.dim() >= 2 and input.shape[-1] == input.shape[-2],
        lambda: (
            "linalg.matrix_power: The input tensor A must have at least 2 square dimensions, got "
            f"{tuple(input.shape)}"
        ),
    )
    if n == 0:
        return input.clone().zero_() + input.new_tensor([1]).expand(input.shape[-1]).diag()
    if n < 0:
        return matrix_power(input.inverse(), -n)
    result: Any = None
    square = input
    while n:
        if n & 1:
            result = square if result is None else matmul(result, square)
        n >>= 1
        if n:
            square = matmul(square, square)
    return result.clone() if result is input else result


# -- contractions ------------------------------------------------------------------------------


@public(method=False, out=True)
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums products over pairs of dimensions: the last `dims` of a with the first of b, or two
    lists.

    >>> torch.tensordot(torch.ones(2, 3), torch.ones(3, 4), dims=1)
    tensor([[3., 3., 3., 3.],
            [3., 3., 3., 3.]])
    """
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    if isinstance(dims, int):
        check(
            0 <= dims <= min(a.dim(), b.dim()),
            lambda: f"tensordot expects dims >= 0, but got dims={dims}",
        )
        left, right = list(range(a.dim() - dims, a.dim())), list(range(dims))
    else:
        left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
        left = list(normalize_dims(left, a.dim()))
        right = list(normalize_dims(right, b.dim()))
    check(len(left) == len(right), "both dimension lists should have same length")
    check(a.dtype == b.dtype, "both inputs should have same dtype")
    for i, j in zip(left, right, strict=True):
        m, n = a.shape[i], b.shape[j]
        check(
            m == n or 1 in (m, n),
            lambda: (
                f"contracted dimensions need to match, but first has size {m} in dim {i} and "
                f"second has size {n} in dim {j}"
            ),
        )
        a = a.sum(i, keepdim=True) if n == 1 and m != 1 else a
        b = b.sum(j, keepdim=True) if m == 1 and n != 1 else b
    free_a = [d for d in range(a.dim()) if d not in left]
    free_b = [d for d in range(b.dim()) if d not in right]
    count = 1
    for d in left:
        count *= a.shape[d]
    x = a.permute(*free_a, *left).reshape(-1, count) if count else a.new_zeros(_size(a, free_a), 0)
    y = b.permute(*right, *free_b).reshape(count, -1) if count else b.new_zeros(0, _size(b, free_b))
    return mm(x, y).reshape([a.shape[d] for d in free_a] + [b.shape[d] for d in free_b])


def _size(x: Tensor, dims: list[int]) -> int:
    """The product of some sizes."""
    n = 1
    for d in dims:
        n *= x.shape[d]
    return n


def cross_dim(input: Tensor, other: Tensor, dim: int | None) -> int:
    """The dimension of size 3: the one given, or the first."""
    if dim is not None:
        return normalize_dim(dim, max(input.dim(), other.dim()))
    found = [i for i, n in enumerate(input.shape) if n == 3]
    check(bool(found), "no dimension of size 3 in input")
    return found[0]


def cross_product(input: Tensor, other: Tensor, dim: int) -> Tensor:
    """(a1 b2 - a2 b1, a2 b0 - a0 b2, a0 b1 - a1 b0) along a dimension."""
    check(
        input.dim() == other.dim(),
        "linalg.cross: inputs must have the same number of dimensions.",
    )
    check(
        input.shape[dim] == 3 and other.shape[dim] == 3,
        lambda: (
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[dim]} and "
            f"{other.shape[dim]}"
        ),
    )
    turned = [t.roll(k, dim) for t, k in ((input, -1), (other, -2), (input, -2), (other, -1))]
    return turned[0] * turned[1] - turned[2] * turned[3]


@public(out=True)
@numpy_names
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The cross product of vectors of three elements along a dimension."""
    return cross_product(input, other, cross_dim(input, other, dim))


def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The cross product of vectors of three elements along `dim`; other dimensions broadcast."""
    return cross_product(input, other, normalize_dim(dim, input.dim()))


public(linalg_cross, name="cross", spaces=("linalg",), method=False, out=True)
