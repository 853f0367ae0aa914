"""Samples of creation, ranges, conversions and copies."""

import numpy as np

import lampion as torch

from .common import ALL, COMPLEX, FLOATS, A, Sample


def made(name, inputs, reference, **options):
    """A sample of a function that takes no tensor: its type does not follow from one."""
    return Sample(
        name, inputs, reference, gradient=False, batch=False, dtypes=("float32",), **options
    )


def method(name, inputs, reference, **options):
    """A sample of a method whose result does not depend smoothly on the tensor."""
    return Sample(f"Tensor.{name}", inputs, reference, gradient=False, **options)


MANY = [d for d in ALL if d != "bool"]
NEGATIVE = "negative dimension"

SAMPLES = [
    made(
        "zeros",
        [2, 3],
        lambda *size: np.zeros(size),
        errors=[([-1], RuntimeError, NEGATIVE), ([2.0], TypeError, "tuple of ints")],
    ),
    made("ones", [(2, 3)], np.ones),
    made("full", [(2,), 3], np.full, errors=[([2, 1], TypeError, "tuple of ints")]),
    made("full", [(2,), 2 + 1j], np.full),
    made("full", [(2, 2), True], np.full),
    made(
        "full",
        [(2,), 7],
        lambda size, value, dtype: np.full(size, value, np.uint8),
        kwargs={"dtype": torch.uint8},
        errors=[([(2,), 300], {"dtype": torch.uint8}, RuntimeError, "overflow")],
    ),
    made("scalar_tensor", [3], np.float32),
    made("empty", [2, 3], None),
    made("empty_permuted", [(2, 3, 4), (1, 2, 0)], None),
    made("empty_strided", [(2, 3), (1, 2)], None, errors=[([(2,), (1, 2)], RuntimeError, "match")]),
    made(
        "tensor",
        [[[1, 2.5], [True, -1]]],
        np.array,
        errors=[
            ([[[1, 2], [3]]], ValueError, r"expected sequence of length 2 at dim 1 \(got 1\)"),
            ([["a"]], ValueError, "too many dimensions 'str'"),
            ([2**63], ValueError, "Overflow"),
            ([[1, None]], RuntimeError, "Could not infer dtype of NoneType"),
            ([1.0], {"dtype": "float32"}, TypeError, "must be torch.dtype"),
        ],
    ),
    made("as_tensor", [[1, 2]], np.array),
    made("asarray", [[1j, 2]], np.array),
    made("eye", [3], np.eye, errors=[([-1], RuntimeError, "greater or equal to 0")]),
    made("eye", [2, 4], np.eye),
    made(
        "arange",
        [5],
        np.arange,
        errors=[
            ([0, 1, 0], RuntimeError, "nonzero"),
            ([1, 0], RuntimeError, "inconsistent"),
            ([], TypeError, "no end"),
        ],
    ),
    made("arange", [1, 2.3, 0.1], np.arange),
    made("arange", [7, 0, -3], np.arange),
    made("linspace", [0, 1, 40], np.linspace, errors=[([0, 1, -1], RuntimeError, "non-negative")]),
    made("linspace", [3, -2, 1], np.linspace),
    made("linspace", [0, 1j, 5], np.linspace),
    made("logspace", [-1, 2, 7], np.logspace),
    made(
        "logspace",
        [0, 3, 4],
        lambda a, b, n, base: np.logspace(a, b, n, base=base),
        kwargs={"base": 2},
    ),
    method("new_zeros", [A(2), 3], lambda x, n: np.zeros(n)),
    method("new_ones", [A(2), (3, 1)], lambda x, size: np.ones(size)),
    method("new_full", [A(2), (3,), 1.5], lambda x, size, value: np.full(size, value)),
    method("new_empty", [A(2), 3], None, batch=False),
    method("new_tensor", [A(2), [1, 2]], lambda x, data: np.array(data, x.dtype), dtypes=MANY),
    Sample("zeros_like", [A(2, 3)], np.zeros_like, gradient=False, dtypes=ALL),
    Sample("ones_like", [A(2, 3)], np.ones_like, gradient=False, dtypes=ALL),
    Sample("full_like", [A(2, 3), 2], np.full_like, gradient=False, dtypes=MANY),
    Sample("empty_like", [A(2, 3)], None, gradient=False, batch=False),
    Sample("clone", [A(2, 3)], np.copy, dtypes=ALL + COMPLEX),
    Sample("Tensor.to", [A(2, 3), torch.float64], lambda x, dtype: x, op="to"),
    Sample("Tensor.double", [A(2)], lambda x: x, dtypes=FLOATS, op="to"),
    method(
        "to",
        [A(2, 3, low=-3.0, high=3.0), torch.int64],
        lambda x, dtype: x.astype(np.int64),
        dtypes=MANY,
        errors=[([A(2), "float32"], RuntimeError, "device string")],
    ),
    method("bool", [A(2, 3)], lambda x: x != 0, dtypes=ALL),
    method("type_as", [A(2), A(3, dtype="int16")], lambda x, y: x.astype(np.int16)),
    method("copy_", [A(2, 3), A(3)], lambda x, y: np.broadcast_to(y, x.shape), batch=False),
]
