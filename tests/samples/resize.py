"""Samples of padding, resizing, sampling and of channels turned into pixels."""

import math

import numpy as np

from tests.samples.common import FLOATS, INTS, A, Sample

F = "nn.functional."
MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
FALSE = {"align_corners": False}


def pad(x, pads, mode="constant", value=0.0):
    """Pads, then cuts what is negative; what goes around is cut first."""
    ends = list(zip(pads[-2::-2], pads[::-2]))
    lead = x.ndim - len(ends)
    widths = [(0, 0)] * lead + [(max(a, 0), max(b, 0)) for a, b in ends]
    cut = (..., *[slice(max(-a, 0), None if b >= 0 else b) for a, b in ends])
    if mode == "circular":
        return np.pad(x[cut], widths, "wrap")
    return (
        np.pad(x, widths, constant_values=value)
        if mode == "constant"
        else np.pad(x, widths, MODES[mode])
    )[cut]


def cubic(x, a=-0.75):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def line(size, out, mode, align, factor, antialias):
    """The matrix (out, size) of one dimension."""
    m = np.zeros((out, size))
    scale = (
        ((size - 1) / (out - 1) if out > 1 else 0)
        if align
        else (1 / factor if factor else size / out)
    )
    for i in range(out):
        if antialias:
            support = (1 if mode == "bilinear" else 2) * max(scale, 1)
            centre = scale * (i + 0.5)
            for j in range(
                max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), size)
            ):
                d = (j - centre + 0.5) / max(scale, 1)
                m[i, j] = max(1 - abs(d), 0) if mode == "bilinear" else cubic(d, -0.5)
            m[i] /= m[i].sum()
        elif mode == "area":
            begin, end = i * size // out, -(-(i + 1) * size // out)
            m[i, begin:end] = 1 / (end - begin)
        elif mode.startswith("nearest"):
            m[i, min(int((i + (0.5 if mode == "nearest-exact" else 0)) * scale), size - 1)] = 1
        else:
            place = i * scale if align else (i + 0.5) * scale - 0.5
            if mode == "bicubic":
                for j in range(math.floor(place) - 1, math.floor(place) + 3):
                    m[i, min(max(j, 0), size - 1)] += cubic(place - j)
            else:
                place = min(max(place, 0), size - 1)
                j = min(int(place), size - 1)
                m[i, j] += 1 - (place - j)
                m[i, min(j + 1, size - 1)] += place - j
    return m


def interpolate(
    x, size=None, scale_factor=None, mode="nearest", align_corners=False, antialias=False
):
    n = x.ndim - 2
    factors = (scale_factor,) * n if not isinstance(scale_factor, tuple) else scale_factor
    out = (
        [int(s * f) for s, f in zip(x.shape[2:], factors)]
        if size is None
        else ((size,) * n if isinstance(size, int) else size)
    )
    for d in range(n):
        m = line(
            x.shape[2 + d],
            out[d],
            mode,
            align_corners,
            None if size is not None else factors[d],
            antialias,
        )
        x = np.moveaxis(np.tensordot(x, m, ([2 + d], [1])), -1, 2 + d)
    return x


def reflect(p, size, align):
    low, high = (0, size - 1) if align else (-0.5, size - 0.5)
    while not low <= p <= high and high > low:
        p = 2 * low - p if p < low else 2 * high - p
    return p if high > low else 0


def grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False):
    """One output element at a time; places come x first."""
    n, c, *size = x.shape
    y = np.zeros((n, c, *grid.shape[1:-1]))

    def inside(p, s):
        p = (
            min(max(p, 0), s - 1)
            if padding_mode == "border"
            else reflect(p, s, align_corners)
            if (padding_mode == "reflection")
            else p
        )
        return min(max(p, 0), s - 1) if padding_mode == "reflection" else p

    for at in np.ndindex(n, *grid.shape[1:-1]):
        place = [
            (v + 1) / 2 * (s - 1) if align_corners else ((v + 1) * s - 1) / 2
            for v, s in zip(grid[at][::-1], size)
        ]
        if mode != "bicubic":
            place = [inside(p, s) for p, s in zip(place, size)]
        if mode == "nearest":
            terms = [(tuple(int(np.rint(p)) for p in place), 1.0)]
        else:
            reach, kernel = (
                (range(-1, 3), cubic) if mode == "bicubic" else (range(2), lambda d: 1 - abs(d))
            )
            terms = []
            for offset in np.ndindex(*[len(reach)] * len(size)):
                corner = [math.floor(p) + reach[o] for p, o in zip(place, offset)]
                weight = np.prod([kernel(p - q) for p, q in zip(place, corner)])
                if mode == "bicubic":
                    corner = [int(inside(q, s)) for q, s in zip(corner, size)]
                terms.append((tuple(corner), weight))
        for corner, weight in terms:
            if all(0 <= q < s for q, s in zip(corner, size)):
                y[(at[0], slice(None), *at[1:])] += weight * x[(at[0], slice(None), *corner)]
    return y


def affine_grid(theta, size, align_corners=False):
    axes = [np.linspace(-1, 1, s) * (1 if align_corners else (s - 1) / s) for s in size[2:]]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(size[2:])], -1)
    return np.einsum("...j,nij->n...i", places, theta)


def pixel_shuffle(x, r):
    *lead, c, h, w = x.shape
    y = np.zeros((*lead, c // r**2, h * r, w * r))
    for i in range(r):
        for j in range(r):
            y[..., i::r, j::r] = x[..., i * r + j :: r * r, :, :]
    return y


def pixel_unshuffle(x, r):
    *lead, c, h, w = x.shape
    y = np.zeros((*lead, c * r**2, h // r, w // r))
    for i in range(r):
        for j in range(r):
            y[..., i * r + j :: r * r, :, :] = x[..., i::r, j::r]
    return y


X = A(2, 3, 4)
NOT_SUPPORTED = [([A(4), (1, 1)], {"mode": "reflect"}, NotImplementedError, "not supported")]
SAMPLES = [
    Sample(
        F + "pad",
        [X, (1, 2)],
        pad,
        dtypes=FLOATS + INTS,
        op="constant_pad_nd",
        errors=[
            ([X, (1,)], RuntimeError, "divisible by 2"),
            ([X, (1,) * 8], RuntimeError, "two times the input dimension"),
            ([X, (-3, -2)], RuntimeError, "negative"),
            ([X, (1, 1)], {"mode": "foo"}, NotImplementedError, "Unrecognised"),
        ],
    ),
    Sample(F + "pad", [X, (1, -1, 0, 2)], pad, {"value": 2.5}, op="constant_pad_nd"),
    Sample("constant_pad_nd", [X, (0, 1), 3.0], lambda x, p, v: pad(x, p, value=v)),
    *[
        Sample(
            F + "pad", [A(2, 3, 4), (2, 1)], pad, {"mode": m}, op="resample", errors=NOT_SUPPORTED
        )
        for m in MODES
    ],
    *[
        Sample(F + "pad", [A(1, 2, 3, 4), (3, -1, 0, 2)], pad, {"mode": m}, op="resample")
        for m in MODES
    ],
    *[
        Sample(F + "pad", [A(2, 3, 2, 3), (1, 1, 0, 1, 2, 1)], pad, {"mode": m}, op="resample")
        for m in MODES
    ],
    Sample(
        F + "pad",
        [X, (1, 1)],
        pad,
        {"mode": "reflect"},
        op="resample",
        errors=[
            ([X, (4, 1)], {"mode": "reflect"}, RuntimeError, "Padding size should be less"),
            ([X, (5, 5)], {"mode": "circular"}, RuntimeError, "wrapping around more than once"),
            ([X, (1, 1)], {"mode": "reflect", "value": 2.0}, RuntimeError, "value argument"),
        ],
    ),
    Sample(
        F + "interpolate",
        [A(2, 2, 5)],
        interpolate,
        {"size": 8},
        op="resample",
        errors=[
            ([X], ValueError, "either size or scale_factor"),
            ([X, 2, 2.0], ValueError, "only one of size or scale_factor"),
            (
                [X, 2],
                {"mode": "bilinear"},
                NotImplementedError,
                "Got 3D input, but bilinear mode needs 4D",
            ),
            ([X, 2], {"align_corners": True}, ValueError, "align_corners option"),
            ([X, 0], RuntimeError, "greater than 0"),
            ([X, (2, 3)], ValueError, "spatial dimensions"),
            ([X, 2], {"mode": "foo"}, NotImplementedError, "Input Error"),
            ([X, 2], {"antialias": True}, ValueError, "Anti-alias"),
        ],
    ),
    *[
        Sample(
            F + "interpolate",
            [A(1, 2, 5, 4), *size],
            interpolate,
            {"mode": m, **more},
            op="resample",
        )
        for size, m, more in [
            ([(3, 7)], "nearest", {}),
            ([None, 1.7], "nearest", {}),
            ([(3, 7)], "nearest-exact", {}),
            ([(3, 7)], "bilinear", {}),
            ([(3, 7)], "bilinear", {"align_corners": True}),
            ([None, (1.6, 0.6)], "bilinear", {}),
            ([(7, 3)], "bicubic", {}),
            ([(7, 3)], "bicubic", {"align_corners": True}),
            ([(3, 2)], "area", {}),
            ([(2, 3)], "bilinear", {"antialias": True}),
            ([(2, 7)], "bicubic", {"antialias": True}),
        ]
    ],
    Sample(F + "interpolate", [A(2, 2, 5), 8], interpolate, {"mode": "linear"}, op="resample"),
    Sample(
        F + "interpolate",
        [A(1, 2, 3, 2, 4), (4, 3, 2)],
        interpolate,
        {"mode": "trilinear"},
        op="resample",
    ),
    *[
        Sample(
            F + "grid_sample",
            [A(2, 2, 3, 4), A(2, 2, 3, 2, low=-1.6, high=1.6)],
            grid_sample,
            {"mode": m, "padding_mode": p, "align_corners": a},
            op="gather",
            second=m != "nearest" and p != "reflection",
        )
        for m in ("bilinear", "nearest", "bicubic")
        for p in ("zeros", "border", "reflection")
        for a in (False, True)
    ],
    Sample(
        F + "grid_sample",
        [A(1, 2, 2, 3, 2), A(1, 2, 1, 2, 3, low=-1, high=1)],
        grid_sample,
        {"align_corners": False},
        op="gather",
        errors=[
            ([A(2, 4, 5, 3), A(3, 4, 4, 2)], FALSE, RuntimeError, "same batch size"),
            ([A(2, 4, 5, 3), A(2, 4, 4, 3)], FALSE, RuntimeError, "size 2 in last dimension"),
            ([A(2, 4, 5, 3), A(2, 4, 4, 2)], {"mode": "foo"}, ValueError, "expected mode"),
            (
                [A(2, 4, 5, 3), A(2, 4, 4, 2)],
                {"padding_mode": "foo"},
                ValueError,
                "expected padding_mode",
            ),
            (
                [A(1, 1, 2, 2, 2), A(1, 1, 1, 1, 3)],
                {"mode": "bicubic", **FALSE},
                RuntimeError,
                "only supports 4D",
            ),
        ],
    ),
    Sample(
        F + "affine_grid",
        [A(2, 2, 3), (2, 1, 3, 4)],
        affine_grid,
        {"align_corners": False},
        errors=[
            ([A(2, 2, 4), (2, 3, 4, 5, 6)], FALSE, ValueError, "3D affine matrices"),
            ([A(2, 2, 3), (2, 3, 4)], FALSE, NotImplementedError, "4D"),
            ([A(2, 2, 3), (2, 3, 0, 4)], FALSE, ValueError, "non-zero"),
        ],
    ),
    Sample(F + "affine_grid", [A(1, 3, 4), (1, 1, 2, 3, 4)], affine_grid, {"align_corners": True}),
    Sample(
        F + "pixel_shuffle",
        [A(2, 8, 2, 3), 2],
        pixel_shuffle,
        errors=[
            ([A(2, 3, 4, 5), 2], RuntimeError, "not divisible by 4"),
            ([A(4, 5), 2], RuntimeError, "at least 3 dimensions"),
            ([A(4, 5, 5), -2], RuntimeError, "positive"),
        ],
    ),
    Sample(
        F + "pixel_unshuffle",
        [A(2, 2, 4, 6), 2],
        pixel_unshuffle,
        errors=[([A(2, 3, 4, 5), 2], RuntimeError, "width to be divisible")],
    ),
    Sample(
        F + "channel_shuffle",
        [A(1, 6, 2), 3],
        lambda x, g: x[
            :, [j * (x.shape[1] // g) + i for i in range(x.shape[1] // g) for j in range(g)]
        ],
        errors=[
            ([A(2, 3, 5, 6), 2], RuntimeError, "divisible by groups"),
            ([A(4, 5), 2], RuntimeError, "> 2 dims"),
        ],
    ),
]
