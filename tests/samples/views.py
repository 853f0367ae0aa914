"""Samples of the views: new shapes, orders, parts and strides of the same memory."""

import numpy as np

import lampion as torch
from tests.samples.common import ALL, COMPLEX, FLOATS, A, Sample

EVERY = (*ALL, *COMPLEX)
OUT_OF_RANGE = "Dimension out of range"


def windows(x, dimension, size, step):
    w = np.lib.stride_tricks.sliding_window_view(x, size, dimension)
    return np.take(w, range(0, w.shape[dimension], step), dimension)


def embedded(x, offset=0):
    """Vectors as the diagonals of matrices."""
    n = x.shape[-1] + abs(offset)
    y = np.zeros((*x.shape[:-1], n, n), x.dtype)
    i = np.arange(x.shape[-1])
    y[..., i + max(-offset, 0), i + max(offset, 0)] = x
    return y


def strided(x, size, stride, offset=0):
    at = sum(
        np.arange(n).reshape((-1,) + (1,) * (len(size) - d - 1)) * s
        for d, (n, s) in enumerate(zip(size, stride, strict=True))
    )
    return x.reshape(-1)[offset + at]


def replaced(x, src, key):
    y = x.copy()
    y[key] = src
    return y


def pieces(x, ends, dim=0):
    return [np.asarray(p) for p in np.split(x, ends, dim)]


RESHAPES = [
    Sample(
        "Tensor.view",
        [A(2, 6), 3, -1],
        lambda x, *s: x.reshape(s),
        dtypes=EVERY,
        errors=[
            ([A(2, 3), 4], RuntimeError, r"shape '\[4\]' is invalid for input of size 6"),
            ([A(2, 3), -1, -1], RuntimeError, "only one dimension can be inferred"),
            ([A(2, 3), 4, -1], RuntimeError, "is invalid for input of size 6"),
        ],
    ),
    Sample("Tensor.view", [A(), (1, 1)], lambda x, s: x.reshape(s)),
    Sample("Tensor.view_as", [A(2, 3), A(3, 2, grad=False)], lambda x, o: x.reshape(o.shape)),
    Sample("Tensor.reshape_as", [A(2, 3), A(6, grad=False)], lambda x, o: x.reshape(o.shape)),
    Sample(
        "reshape",
        [A(2, 3, 2), (4, -1)],
        lambda x, s: x.reshape(s),
        dtypes=EVERY,
        errors=[
            ([A(2, 3), (0, -1)], RuntimeError, "is ambiguous"),
            ([A(2, 3), (2.0, 3)], TypeError, "integer"),
        ],
    ),
    Sample("reshape", [A(0, 3), (3, 0)], lambda x, s: x.reshape(s)),
    Sample("flatten", [A(2, 3, 2)], np.ravel),
    Sample("flatten", [A()], np.ravel),
    Sample(
        "flatten",
        [A(2, 3, 2, 2), 1, 2],
        lambda x, a, b: x.reshape(2, 6, 2),
        errors=[
            ([A(2, 3), 1, 0], RuntimeError, "start_dim cannot come after end_dim"),
        ],
    ),
    Sample(
        "unflatten",
        [A(2, 6), 1, (2, -1)],
        lambda x, d, s: x.reshape(2, 2, 3),
        errors=[
            ([A(2, 6), 1, (4, 2)], RuntimeError, "don't multiply up to the size of dim 1"),
        ],
    ),
    Sample("ravel", [A(2, 3)], np.ravel),
    Sample(
        "Tensor.view_dtype",
        [A(2, 3), torch.int32],
        lambda x, d: x.view(np.int32),
        dtypes=("float32",),
        gradient=False,
        errors=[([A(), torch.uint8], RuntimeError, "cannot be 0 to view")],
    ),
]

ORDERS = [
    Sample(
        "t",
        [A(2, 3)],
        np.transpose,
        dtypes=EVERY,
        errors=[
            ([A(2, 2, 2)], RuntimeError, "expects a tensor with <= 2 dimensions, but self is 3D")
        ],
    ),
    Sample("t", [A(3)], np.transpose),
    Sample(
        "transpose",
        [A(2, 3, 4), 0, -1],
        np.swapaxes,
        dtypes=EVERY,
        errors=[([A(2, 3), 0, 2], IndexError, OUT_OF_RANGE)],
    ),
    Sample("transpose", [A(2, 3), 1, 1], np.swapaxes),
    Sample("swapaxes", [A(2, 3, 4), 0, 1], np.swapaxes),
    Sample("swapdims", [A(2, 3, 4), 2, 1], np.swapaxes),
    Sample(
        "permute",
        [A(2, 3, 4), (2, 0, -2)],
        np.transpose,
        dtypes=EVERY,
        errors=[
            ([A(2, 3), (0, 0)], RuntimeError, "duplicate dims are not allowed"),
            ([A(2, 3), (0,)], RuntimeError, "does not match the length of the desired ordering"),
            ([A(2, 3), (0, 5)], IndexError, OUT_OF_RANGE),
        ],
    ),
    Sample(
        "movedim",
        [A(2, 3, 4), (0, 1), (-1, 0)],
        np.moveaxis,
        errors=[
            ([A(2, 3), (0, 0), (0, 1)], RuntimeError, "repeated dim in `source`"),
            ([A(2, 3), (0,), (0, 1)], RuntimeError, "same number of dims"),
        ],
    ),
    Sample("moveaxis", [A(2, 3, 4), 0, 2], np.moveaxis),
    Sample(
        "adjoint",
        [A(2, 3, 4)],
        lambda x: x.conj().swapaxes(-1, -2),
        dtypes=(*FLOATS, *COMPLEX),
        errors=[([A(3)], RuntimeError, "only supported on matrices")],
    ),
    Sample(
        "squeeze",
        [A(1, 2, 1)],
        np.squeeze,
        dtypes=EVERY,
        errors=[([A(2, 3), 2], IndexError, OUT_OF_RANGE)],
        batch=False,
    ),
    Sample("squeeze", [A(1, 2, 1), 0], np.squeeze),
    Sample("squeeze", [A(1, 2, 1), 1], lambda x, d: x),
    Sample("squeeze", [A(1, 2, 1), (0, -1)], np.squeeze),
    Sample(
        "unsqueeze",
        [A(2, 3), -1],
        np.expand_dims,
        dtypes=EVERY,
        errors=[([A(2), 2], IndexError, OUT_OF_RANGE)],
    ),
    Sample("Tensor.contiguous", [A(2, 3)], lambda x: x),
    Sample("detach", [A(2, 3)], lambda x: x, gradient=False),
    Sample("alias_copy", [A(2, 3)], lambda x: x),
]

EXPANSIONS = [
    Sample(
        "Tensor.expand",
        [A(3, 1), 2, -1, 4],
        lambda x, *s: np.broadcast_to(x, (2, 3, 4)),
        dtypes=EVERY,
        errors=[
            ([A(2, 3), 3], RuntimeError, "must be greater or equal to the number of dimensions"),
            (
                [A(2, 3), 2, 4],
                RuntimeError,
                r"The expanded size of the tensor \(4\) must match the existing size \(3\)",
            ),
            ([A(3), -1, 3], RuntimeError, "isn't allowed in a leading, non-existing dimension 0"),
        ],
    ),
    Sample(
        "Tensor.expand_as",
        [A(3, 1), A(2, 3, 2, grad=False)],
        lambda x, o: np.broadcast_to(x, o.shape),
    ),
    Sample("broadcast_to", [A(1, 3), (2, 3)], np.broadcast_to),
    Sample(
        "broadcast_tensors",
        [A(2, 1), A(3)],
        np.broadcast_arrays,
        errors=[([A(2), A(3)], RuntimeError, "must match the size of tensor b")],
    ),
]

PARTS = [
    Sample(
        "select",
        [A(2, 3, 2), 1, -1],
        lambda x, d, i: x.take(i, d),
        dtypes=EVERY,
        errors=[
            (
                [A(2, 3), 0, 2],
                IndexError,
                r"index 2 out of range for tensor of size \[2, 3\] at dimension 0",
            ),
            ([A(), 0, 0], IndexError, "cannot be applied to a 0-dim tensor"),
        ],
    ),
    Sample(
        "narrow",
        [A(2, 5), 1, 1, 3],
        lambda x, d, a, n: x[:, a : a + n],
        dtypes=EVERY,
        errors=[
            (
                [A(3), 0, 2, 2],
                RuntimeError,
                r"start \(2\) \+ length \(2\) exceeds dimension size \(3\)",
            ),
            ([A(3), 0, 4, 1], IndexError, "start out of range"),
        ],
    ),
    Sample("narrow_copy", [A(5), 0, -2, 2], lambda x, d, a, n: x[-2:]),
    Sample(
        "split",
        [A(5, 2), 2],
        lambda x, n: pieces(x, [2, 4]),
        errors=[
            ([A(3), 0], RuntimeError, "split_size can only be 0"),
            ([A(3), -1], RuntimeError, "be non-negative"),
            ([A(), 1], RuntimeError, "at least a 1-dimensional tensor"),
        ],
    ),
    Sample(
        "split",
        [A(2, 5), [1, 0, 4], 1],
        lambda x, n, d: pieces(x, [1, 1], 1),
        errors=[([A(3), [1, 1]], RuntimeError, "to sum exactly to 3")],
    ),
    Sample("split_with_sizes", [A(5), (2, 3)], lambda x, n: pieces(x, [2])),
    Sample(
        "chunk",
        [A(5, 2), 3],
        lambda x, n: pieces(x, [2, 4]),
        errors=[([A(3), 0], RuntimeError, "`chunks` to be greater than 0, got: 0")],
    ),
    Sample("unsafe_chunk", [A(4), 2], lambda x, n: pieces(x, [2])),
    Sample("unsafe_split", [A(4), 3], lambda x, n: pieces(x, [3])),
    Sample(
        "unbind",
        [A(2, 3), 1],
        lambda x, d: [x[:, i] for i in range(3)],
        errors=[([A()], IndexError, "tensor has no dimensions")],
    ),
    Sample(
        "tensor_split",
        [A(5, 2), 3],
        np.array_split,
        errors=[([A(3), 0], RuntimeError, "number of sections must be larger than 0")],
    ),
    Sample("tensor_split", [A(2, 5), (1, 3), 1], lambda x, i, d: pieces(x, [1, 3], 1)),
    Sample(
        "hsplit",
        [A(2, 4), 2],
        np.hsplit,
        errors=[([A(2, 3), 2], RuntimeError, "is not divisible by")],
    ),
    Sample(
        "vsplit",
        [A(4, 2), [1]],
        np.vsplit,
        errors=[([A(4), 2], RuntimeError, "at least 2 dimensions")],
    ),
    Sample("dsplit", [A(2, 2, 4), 2], np.dsplit),
    Sample(
        "diagonal",
        [A(3, 4), 1],
        np.diagonal,
        dtypes=EVERY,
        errors=[([A(2, 2), 0, 0, 0], RuntimeError, "dimensions cannot be identical")],
    ),
    Sample("diagonal", [A(2, 3, 4), -1, 2, 0], np.diagonal),
    Sample("linalg.diagonal", [A(2, 3, 3)], lambda x: np.diagonal(x, 0, 1, 2)),
    Sample("diag_embed", [A(2, 3)], embedded),
    Sample("diag_embed", [A(3), -1], embedded),
    Sample(
        "diag",
        [A(3), 1],
        np.diag,
        errors=[([A(2, 2, 2)], RuntimeError, "Supports 1D or 2D tensors")],
    ),
    Sample("diag", [A(3, 4), -1], np.diag),
    Sample("diagflat", [A(2, 2), 1], np.diagflat),
    Sample(
        "Tensor.unfold",
        [A(2, 7), 1, 3, 2],
        windows,
        errors=[
            (
                [A(3), 0, 4, 1],
                RuntimeError,
                "maximum size for tensor at dimension 0 is 3 but size is 4",
            ),
            ([A(3), 0, 2, 0], RuntimeError, "step is 0 but must be > 0"),
        ],
    ),
    Sample("Tensor.unfold", [A(5, 2), 0, 2, 1], windows),
    Sample(
        "as_strided",
        [A(2, 4), (2, 3), (1, 2), 1],
        strided,
        errors=[
            ([A(3), (5,), (1,)], RuntimeError, "are out of bounds for storage of size"),
            ([A(3), (2,), (-1,)], RuntimeError, "Negative strides are not supported"),
        ],
    ),
]

REPLACEMENTS = [
    Sample(
        "select_scatter",
        [A(3, 4), A(3), 1, 2],
        lambda x, s, d, i: replaced(x, s, np.s_[:, 2]),
        errors=[
            (
                [A(3, 4), A(4), 1, 2],
                RuntimeError,
                "expected src to have a size equal to the slice of self",
            )
        ],
    ),
    Sample(
        "slice_scatter",
        [A(5, 2), A(2, 2), 0, 1, 4, 2],
        lambda x, s, *k: replaced(x, s, np.s_[1:4:2]),
    ),
    Sample(
        "diagonal_scatter", [A(3, 3), A(2), 1], lambda x, s, k: replaced(x, s, ([0, 1], [1, 2]))
    ),
    Sample(
        "as_strided_scatter",
        [A(2, 3), A(2), (2,), (2,), 1],
        lambda x, s, *k: replaced(x, s, ([0, 1], [1, 0])),
    ),
]

COPIES = [
    Sample("as_strided_copy", [A(2, 4), (2, 3), (1, 2)], strided),
    Sample("detach_copy", [A(2)], lambda x: x, gradient=False),
    Sample("diagonal_copy", [A(3, 3)], np.diagonal),
    Sample("expand_copy", [A(3, 1), (3, 2)], np.broadcast_to),
    Sample("permute_copy", [A(2, 3), (1, 0)], np.transpose),
    Sample("select_copy", [A(2, 3), 0, 1], lambda x, d, i: x[i]),
    Sample("slice_copy", [A(5), 0, 1, 4, 2], lambda x, d, a, b, s: x[a:b:s]),
    Sample("split_copy", [A(5), 3], lambda x, n: pieces(x, [3])),
    Sample("split_with_sizes_copy", [A(5), [1, 4]], lambda x, n: pieces(x, [1])),
    Sample("squeeze_copy", [A(1, 3)], np.squeeze, batch=False),
    Sample("t_copy", [A(2, 3)], np.transpose),
    Sample("transpose_copy", [A(2, 3), 0, 1], np.swapaxes),
    Sample("unbind_copy", [A(2, 3)], list),
    Sample("unfold_copy", [A(5), 0, 2, 1], windows),
    Sample("unsqueeze_copy", [A(3), 0], np.expand_dims),
    Sample("view_copy", [A(2, 3), (6,)], np.reshape),
]

SAMPLES = [*RESHAPES, *ORDERS, *EXPANSIONS, *PARTS, *REPLACEMENTS, *COPIES]
