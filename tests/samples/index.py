"""Samples of indexing: brackets, gather and scatter, masks, writes."""

import numpy as np

from tests.samples.common import ALL, COMPLEX, FLOATS, A, Sample

EVERY = (*ALL, *COMPLEX)
ROWS = A(3, dtype="int64", values=[2, 0, 2])
ONCE = A(2, dtype="int64", values=[2, 0])
MASK = A(3, 2, dtype="bool", values=[[True, False], [False, True], [True, True]])
FAR = A(1, dtype="int64", values=[5])
PICKS = A(2, 3, dtype="int64", values=[[0, 2, 1], [1, 1, 0]])
FIRSTS = A(2, 2, dtype="int64", values=[[1, 0], [1, 1]])
OUT_OF_BOUNDS = "is out of bounds for dimension"


def written(x, key, value):
    y = x.copy()
    y[key] = value
    return y


def added(x, key, value, ufunc=np.add):
    y = x.copy()
    ufunc.at(y, key, value)
    return y


def along(index, dim):
    """The key that names what `gather` and `scatter` touch."""
    grid = list(np.indices(index.shape))
    grid[dim] = index
    return tuple(grid)


def scattered(ufunc):
    return lambda x, dim, index, src, *rest, **options: added(x, along(index, dim), src, ufunc)


def reduced(x, dim, index, src, reduce, include_self):
    """`scatter_reduce` by a loop."""
    groups = {}
    for at in np.ndindex(index.shape):
        place = (*at[:dim], index[at], *at[dim + 1 :])
        groups.setdefault(place, []).append(src[at])
    y = x.copy()
    functions = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}
    for place, values in groups.items():
        y[place] = functions[reduce]([x[place], *values] if include_self else values)
    return y


def reductions():
    for reduce in ("sum", "prod", "mean", "amax", "amin"):
        for include_self in (True, False):
            yield Sample(
                "scatter_reduce",
                [A(3, 3, distinct=True), 0, PICKS, A(2, 3, distinct=True), reduce],
                lambda x, d, i, s, r, include_self: reduced(x, d, i, s, r, include_self),
                kwargs={"include_self": include_self},
                second=reduce != "prod",
            )


BRACKETS = [
    Sample(
        "Tensor.__getitem__",
        [A(3, 4), key],
        lambda x, k: x[k],
        dtypes=EVERY if key == 1 else FLOATS,
    )
    for key in (
        1,
        slice(1, 3),
        (slice(None), 0),
        (1, 2),
        (..., -1),
        None,
        (0, None, slice(None, None, 2)),
        ...,
    )
] + [
    Sample(
        "Tensor.__getitem__",
        [A(3, 4), ROWS],
        lambda x, i: x[i],
        dtypes=EVERY,
        errors=[
            ([A(3, 4), 3], IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
            (
                [A(3, 4), (0, -5)],
                IndexError,
                "index -5 is out of bounds for dimension 1 with size 4",
            ),
            ([A(3, 4), (0, 0, 0)], IndexError, "too many indices for tensor of dimension 2"),
            ([A(), 0], IndexError, "invalid index of a 0-dim tensor"),
            ([A(), slice(None)], IndexError, r"slice\(\) cannot be applied to a 0-dim tensor"),
            ([A(3), slice(None, None, -1)], ValueError, "step must be greater than zero"),
            ([A(3), 1.5], IndexError, r"are valid indices \(got float\)"),
            ([A(3), "a"], TypeError, "invalid data type 'str'"),
            ([A(3), A(2, dtype="float32")], IndexError, "must be long, int, byte or bool tensors"),
            ([A(3, 4), FAR], IndexError, "index 5 is out of bounds for dimension 0 with size 3"),
            ([A(3, 4), A(2, dtype="bool")], IndexError, r"The shape of the mask \[2\] at index 0"),
            (
                [A(3, 4), ([0, 1], [0, 1, 2])],
                IndexError,
                "indexing tensors could not be broadcast together",
            ),
        ],
    ),
    Sample("Tensor.__getitem__", [A(3, 2), MASK], lambda x, m: x[m], batch=False),
    Sample("Tensor.__getitem__", [A(3, 4), ([0, 2], [1, 1])], lambda x, k: x[k]),
    Sample(
        "Tensor.__getitem__", [A(2, 3, 4), (0, slice(None), [1, 2])], lambda x, k: x[0][:, [1, 2]]
    ),
    Sample("Tensor.__getitem__", [A(2, 3, 4), ([0, 1], slice(None), [1, 2])], lambda x, k: x[k]),
    Sample(
        "Tensor.__getitem__", [A(2, 3, 4), (slice(None), [[0], [2]], [1, 3])], lambda x, k: x[k]
    ),
    Sample("Tensor.__getitem__", [A(3), True], lambda x, k: x[None]),
    Sample(
        "index_put",
        [A(3, 2), [ROWS], A(3, 2)],
        lambda x, k, v: written(x, k[0], v),
        dtypes=FLOATS,
        errors=[
            ([A(3), [FAR], A()], IndexError, OUT_OF_BOUNDS),
            (
                [A(3), [ROWS], A(2)],
                RuntimeError,
                r"value tensor of shape \[2\] cannot be broadcast",
            ),
            ([A(3), [ROWS], A(dtype="int64")], RuntimeError, "source and destination dtypes match"),
        ],
        second=False,
        gradient=False,
    ),
    Sample("index_put", [A(3, 2), [ONCE], A(2, 2)], lambda x, k, v: written(x, k[0], v)),
    Sample(
        "index_put",
        [A(3, 2), [ROWS], A(2), True],
        lambda x, k, v, a: added(x, k[0], v),
        dtypes=EVERY,
    ),
    Sample(
        "index_put",
        [A(3, 3, 2), [ONCE, ONCE], A(2, 1), True],
        lambda x, k, v, a: added(x, tuple(k), v),
    ),
    Sample(
        "index_put",
        [A(2, 3, 3), [A(dtype="int64", values=1)], A(3)],
        lambda x, k, v: written(x, 1, v),
    ),
]

ONE_DIM = [
    Sample(
        "index_select",
        [A(2, 3), 1, ROWS],
        lambda x, d, i: x.take(i, d),
        dtypes=EVERY,
        errors=[
            ([A(3), 0, FAR], IndexError, OUT_OF_BOUNDS),
            ([A(3), 0, A(1, dtype="int64", values=[-1])], IndexError, OUT_OF_BOUNDS),
            ([A(3), 0, PICKS], IndexError, "Index is supposed to be a vector"),
            ([A(3), 0, A(2)], RuntimeError, "Expected dtype int32/int64 for index"),
        ],
    ),
    Sample("index_select", [A(), 0, A(1, dtype="int64", values=[0])], lambda x, d, i: x),
    Sample(
        "index_add",
        [A(3, 2), 0, ROWS, A(3, 2)],
        lambda x, d, i, s: added(x, i, s),
        dtypes=EVERY,
        errors=[
            ([A(3, 2), 0, FAR, A(1, 2)], RuntimeError, OUT_OF_BOUNDS),
            (
                [A(3, 2), 0, ONCE, A(1, 2)],
                RuntimeError,
                r"Number of indices \(2\) should be equal to source.size",
            ),
            (
                [A(3, 2), 0, ONCE, A(2, 3)],
                RuntimeError,
                "source tensor shape must match self tensor shape",
            ),
        ],
    ),
    Sample(
        "index_add",
        [A(2, 3), 1, ROWS, A(2, 3)],
        lambda x, d, i, s, alpha: added(x, np.s_[:, i], 2 * s),
        kwargs={"alpha": 2},
    ),
    Sample(
        "index_copy",
        [A(3, 2), 0, ONCE, A(2, 2)],
        lambda x, d, i, s: written(x, i, s),
        errors=[
            ([A(3, 2), 0, FAR, A(1, 2)], IndexError, OUT_OF_BOUNDS),
            ([A(3), 0, ONCE, A(1)], IndexError, "Number of indices"),
            ([A(3), 0, ONCE, A(2, dtype="int64")], RuntimeError, "expected to have the same dtype"),
        ],
    ),
    Sample("index_fill", [A(2, 3), 1, ONCE, 7], lambda x, d, i, v: written(x, np.s_[:, i], v)),
    Sample(
        "index_fill",
        [A(2, 3), 1, ROWS, A()],
        lambda x, d, i, v: written(x, np.s_[:, i], v),
        errors=[
            ([A(3), 0, ONCE, A(2)], RuntimeError, "0-dimensional value tensor"),
            ([A(3), 0, FAR, 1], IndexError, OUT_OF_BOUNDS),
        ],
    ),
    Sample(
        "index_reduce",
        [A(3, 2), 0, ONCE, A(2, 2), "amax"],
        lambda x, d, i, s, r: added(x, i, s, np.maximum),
        errors=[
            ([A(3), 0, ONCE, A(2), "sum"], RuntimeError, "must be either prod, mean, amax or amin")
        ],
    ),
    Sample(
        "index_reduce",
        [A(3, 2), 0, ROWS, A(3, 2), "prod"],
        lambda x, d, i, s, r: added(x, i, s, np.multiply),
    ),
]

GATHERS = [
    Sample(
        "gather",
        [A(3, 3), 0, PICKS],
        lambda x, d, i: np.take_along_axis(x, i, d),
        dtypes=EVERY,
        errors=[
            (
                [A(3, 3), 0, A(1, 1, dtype="int64", values=[[5]])],
                RuntimeError,
                "index 5 " + OUT_OF_BOUNDS,
            ),
            ([A(3, 3), 0, ONCE], RuntimeError, "same number of dimensions as input"),
            (
                [A(3, 3), 0, A(2, 4, dtype="int64", low=0, high=2)],
                RuntimeError,
                "Size does not match at dimension 1",
            ),
            ([A(3, 3), 0, A(2, 2)], RuntimeError, "Expected dtype int32/int64 for index"),
        ],
    ),
    Sample("gather", [A(2, 4), 1, FIRSTS], lambda x, d, i: np.take_along_axis(x, i, d)),
    Sample(
        "scatter",
        [A(2, 3), 1, A(2, 2, dtype="int64", values=[[0, 2], [1, 0]]), A(2, 3)],
        lambda x, d, i, s: written(x, along(i, d), s[:, :2]),
        dtypes=EVERY,
        errors=[
            ([A(2, 3), 1, FIRSTS, A(1, 1)], RuntimeError, "to be no larger size than src"),
            ([A(2, 3), 1, FIRSTS, A(2, 2, dtype="int64")], RuntimeError, "equal to src.dtype"),
            ([A(2, 3), 0, A(1, 1, dtype="int64", values=[[-1]]), 1.0], RuntimeError, OUT_OF_BOUNDS),
        ],
    ),
    Sample("scatter", [A(2, 3), 1, FIRSTS, 5.0], lambda x, d, i, v: written(x, along(i, d), v)),
    Sample("scatter", [A(2, 3), 1, FIRSTS, A(2, 2)], scattered(np.add), kwargs={"reduce": "add"}),
    Sample(
        "scatter",
        [A(2, 3), 1, FIRSTS, A(2, 2)],
        scattered(np.multiply),
        kwargs={"reduce": "multiply"},
        second=False,
        errors=[([A(2), 0, ONCE, 1.0], {"reduce": "mean"}, RuntimeError, "either add or multiply")],
    ),
    Sample("scatter_add", [A(3, 3), 0, PICKS, A(2, 3)], scattered(np.add), dtypes=EVERY),
    *reductions(),
    Sample(
        "scatter_reduce",
        [A(3), 0, ONCE, A(2), "sum"],
        scattered(np.add),
        errors=[
            (
                [A(3), 0, ONCE, A(2), "median"],
                RuntimeError,
                "must be either sum, prod, mean, amax or amin",
            )
        ],
    ),
    Sample(
        "take",
        [A(2, 3), PICKS],
        np.take,
        dtypes=EVERY,
        errors=[
            ([A(2), FAR], IndexError, "tried to access index 5 on a tensor of 2 elements"),
            (
                [A(2), A(1, dtype="int32", values=[0])],
                RuntimeError,
                "Expected a long tensor for index",
            ),
        ],
    ),
    Sample("take_along_dim", [A(2, 3), FIRSTS, 1], np.take_along_axis),
    Sample("take_along_dim", [A(2, 3), PICKS], lambda x, i: x.reshape(-1)[i.reshape(-1)]),
    Sample(
        "put",
        [A(2, 3), ROWS, A(3), True],
        lambda x, i, s, a: added(x.reshape(-1), i, s).reshape(2, 3),
    ),
    Sample(
        "put",
        [A(2, 3), ONCE, A(2)],
        lambda x, i, s: written(x.reshape(-1), i, s).reshape(2, 3),
        errors=[
            ([A(3), ROWS, A(1)], IndexError, "source and index to have the same number of elements")
        ],
    ),
]

MASKS = [
    Sample(
        "masked_fill",
        [A(3, 2), MASK, 7],
        lambda x, m, v: np.where(m, v, x).astype(x.dtype),
        dtypes=EVERY,
        errors=[
            ([A(2), A(2, dtype="uint8"), 0], RuntimeError, "only supports boolean masks"),
            ([A(2), A(2, dtype="bool"), A(1)], RuntimeError, "0-dimensional value tensor"),
            ([A(2, dtype="float32"), A(2, dtype="bool"), 1j], RuntimeError, "without overflow"),
            ([A(3), A(2, dtype="bool"), 0], RuntimeError, "must match the size of tensor b"),
        ],
    ),
    Sample("masked_fill", [A(2), MASK, A()], lambda x, m, v: np.where(m, v, x)),
    Sample(
        "masked_select",
        [A(3, 2), MASK],
        lambda x, m: x[m],
        dtypes=EVERY,
        batch=False,
        errors=[([A(2), A(2, dtype="uint8")], RuntimeError, "expected BoolTensor for mask")],
    ),
    Sample("masked_select", [A(2), MASK], lambda x, m: np.broadcast_to(x, m.shape)[m], batch=False),
    Sample(
        "masked_scatter",
        [A(3, 2), MASK, A(6)],
        lambda x, m, s: written(x, m, s[: m.sum()]),
        batch=False,
        errors=[([A(3, 2), MASK, A(2)], RuntimeError, "source < number of ones in mask")],
    ),
    Sample("nonzero", [MASK], np.argwhere, dtypes=("float64",), gradient=False, batch=False),
    Sample(
        "nonzero",
        [MASK],
        lambda m, as_tuple: np.nonzero(m),
        kwargs={"as_tuple": True},
        dtypes=("float64",),
        gradient=False,
        batch=False,
    ),
    Sample("argwhere", [MASK], np.argwhere, dtypes=("float64",), gradient=False, batch=False),
    Sample("where", [MASK], np.nonzero, dtypes=("float64",), gradient=False, batch=False),
    Sample(
        "nonzero_static",
        [MASK],
        lambda m, size: np.argwhere(m)[:2],
        kwargs={"size": 2},
        dtypes=("float64",),
        gradient=False,
        batch=False,
    ),
    Sample(
        "unravel_index",
        [PICKS, (2, 2)],
        np.unravel_index,
        dtypes=("float64",),
        gradient=False,
        batch=False,
    ),
    Sample(
        "fill",
        [A(2, 3), A()],
        lambda x, v: np.full_like(x, v),
        errors=[
            ([A(2), A(2)], RuntimeError, "only supports 0-dimension value tensor"),
            ([A(2), 1j], RuntimeError, "without overflow"),
        ],
    ),
    Sample("fill", [A(2, 3), 3], lambda x, v: np.full_like(x, v), dtypes=EVERY),
]

SAMPLES = [*BRACKETS, *ONE_DIM, *GATHERS, *MASKS]
