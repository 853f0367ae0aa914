"""Images in other sizes: interpolation, and channels turned into pixels and back. May import rules,
adjoint, pool, core and the base.

Every mode is a sparse matrix along each dimension (`Mixing`), so its gradient is the transposed
matrices. Weights are computed in the input's type, as PyTorch does.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.tensor import Tensor
from ..errors import check
from .adjoint import RESAMPLE, Mixing, Separable
from .rules import EXPORTS, F32, F64, public

FUNCTIONAL = EXPORTS["nn.functional"]

# -- the matrices ------------------------------------------------------------------------------


def step(size: int, out: int, align_corners: bool, factor: float | None) -> float:
    """The distance, in input elements, between the places of neighbouring outputs."""
    if align_corners:
        return (size - 1) / (out - 1) if out > 1 else 0.0
    return 1.0 / factor if factor else size / out


@functools.lru_cache(512)
def mixing(
    size: int,
    out: int,
    mode: str,
    align_corners: bool,
    factor: float | None,
    antialias: bool,
    real: np.dtype,
) -> Mixing:
    """The matrix that brings a dimension from `size` to `out` elements."""
    scale = real.type(step(size, out, align_corners, factor))
    if antialias:
        return smooth_mixing(size, out, mode, scale, align_corners)
    i = np.arange(out, dtype=real)
    half = real.type(0.5)
    if mode == "nearest":
        return nearest_mixing(np.floor(i * scale), size)
    if mode == "nearest-exact":
        return nearest_mixing(np.floor((i + half) * scale), size)
    place = i * scale if align_corners else (i + half) * scale - half
    if mode != "bicubic":
        place = np.maximum(place, 0)
    first = np.floor(place).astype(np.intp)
    if mode != "bicubic":
        first = np.minimum(first, size - 1)
    t = place - first.astype(real)
    if mode == "bicubic":
        indices = np.clip(first[:, None] + np.arange(-1, 3), 0, size - 1)
        return Mixing(indices, cubic_weights(t, -0.75), size)
    return Mixing(
        np.stack([first, np.minimum(first + 1, size - 1)], 1), np.stack([1 - t, t], 1), size
    )


def nearest_mixing(place: ndarray, size: int) -> Mixing:
    """The matrix that picks the element at each place."""
    return Mixing(np.minimum(place.astype(np.intp), size - 1)[:, None], None, size)


def cubic(x: ndarray, a: float) -> ndarray:
    """Keys' cubic convolution kernel at a distance."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def cubic_weights(t: Any, a: float) -> ndarray:
    """The weights of the four elements around a place at distance t behind the second."""
    return np.stack([cubic(t + 1, a), cubic(t, a), cubic(1 - t, a), cubic(2 - t, a)], -1)


def triangle(x: ndarray) -> ndarray:
    """The kernel of linear interpolation at a distance."""
    return np.maximum(1 - np.abs(x), 0)


def lanczos(x: ndarray) -> ndarray:
    """The kernel of Lanczos resampling with three lobes at a distance."""
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


FILTERS = {
    "bilinear": (1, triangle),
    "bicubic": (2, lambda x: cubic(x, -0.5)),
    "lanczos": (3, lanczos),
}


def smooth_mixing(size: int, out: int, mode: str, scale: Any, align_corners: bool) -> Mixing:
    """The matrix of an antialiased resize: the filter is as wide as an output element."""
    radius, weight = FILTERS[mode]
    real = scale.dtype.type
    support = real(radius) * scale if scale >= 1 else real(radius)
    narrowing = 1 / scale if scale >= 1 else real(1)
    centre = scale * (np.arange(out, dtype=scale.dtype) + real(0.5))  # (out,)
    begin = np.maximum((centre - support + real(0.5)).astype(np.intp), 0)
    end = np.minimum((centre + support + real(0.5)).astype(np.intp), size)
    offsets = np.arange(max((end - begin).max(initial=1), 1))
    places = begin[:, None] + offsets
    weights = weight((places - centre[:, None] + real(0.5)) * narrowing)
    weights = np.where(places < end[:, None], weights, 0)
    return Mixing(np.minimum(places, size - 1), weights / weights.sum(1, keepdims=True), size)


# -- interpolate -------------------------------------------------------------------------------

RANKS = {"linear": 3, "bilinear": 4, "bicubic": 4, "lanczos": 4, "trilinear": 5}
KINDS = {
    "nearest": "Nearest",
    "nearest-exact": "NearestExact",
    "linear": "Linear",
    "bilinear": "Bilinear",
    "bicubic": "Bicubic",
    "trilinear": "Trilinear",
    "lanczos": "Lanczos",
}


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resizes the spatial dimensions of (N, C, *size) to `size` or by `scale_factor`.

    Modes: nearest, nearest-exact, area; linear (3-d input), bilinear and bicubic (4-d), trilinear
    (5-d). With `antialias` a smaller image is smoothed first. Raises ValueError and
    NotImplementedError for arguments that do not go together.
    """
    check(
        align_corners is None or mode not in ("nearest", "area", "nearest-exact"),
        "align_corners option can only be set with the interpolating modes: linear | bilinear | "
        "bicubic | trilinear",
        ValueError,
    )
    shape = tuple(input._data.shape)
    out, factors = target_size(shape[2:], size, scale_factor, mode, recompute_scale_factor)
    check_mode(len(shape), mode, bool(align_corners), antialias)
    if mode == "area":
        return FUNCTIONAL[f"adaptive_avg_pool{len(shape) - 2}d"](input, out)
    check(
        0 not in shape[2:] and min(out) > 0,
        lambda: (
            "[interpolate] Input and output sizes should be greater than 0, but got input "
            f"{list(shape[2:])} and output {list(out)}"
        ),
    )
    check(
        shape[1] > 0,
        lambda: (
            f"[interpolate] Non-empty {len(shape)}D data tensor expected but got a tensor with "
            f"sizes {list(shape)}"
        ),
    )
    real = F64 if input._data.dtype == F64 else F32
    mixings = tuple(
        mixing(s, o, mode, bool(align_corners), f, antialias, real)
        for s, o, f in zip(shape[2:], out, factors)
    )
    name = f"Upsample{KINDS[mode]}{len(out)}D{'Aa' * antialias}Backward0"
    return apply(RESAMPLE, input, plan=Separable(mixings, name))


def target_size(
    spatial: tuple[int, ...], size: Any, scale_factor: Any, mode: str, recompute: bool | None
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The output's size, and the factors that places are computed with (None: the ratio of the
    sizes).
    """
    n = len(spatial)
    check(
        size is None or scale_factor is None,
        "only one of size or scale_factor should be defined",
        ValueError,
    )
    check(
        size is not None or scale_factor is not None,
        "either size or scale_factor should be defined",
        ValueError,
    )
    given = size if size is not None else scale_factor
    values = tuple(given) if isinstance(given, (list, tuple)) else (given,) * n
    what = "output size" if size is not None else "scale_factor"
    check(
        len(values) == n,
        lambda: (
            f"Input and {what} must have the same number of spatial dimensions, but got input with "
            f"spatial dimensions of {list(spatial)} and {what} of {given}."
        ),
        ValueError,
    )
    if size is not None:
        check(
            not recompute,
            "recompute_scale_factor is not meaningful with an explicit size.",
            ValueError,
        )
        check(
            all(isinstance(v, (int, np.integer)) for v in values),
            lambda: (
                "expected size to be one of int or a tuple of ints, but got size with types "
                f"{[type(v) for v in values]}"
            ),
            TypeError,
        )
        return tuple(map(int, values)), (None,) * n
    out = tuple(math.floor(s * float(v)) for s, v in zip(spatial, values))
    keep = not recompute and mode != "area"
    return out, tuple(float(v) for v in values) if keep else (None,) * n


def check_mode(ndim: int, mode: str, align_corners: bool, antialias: bool) -> None:
    """Raises for modes that the input's rank or the other options rule out."""
    check(
        not antialias or (mode in FILTERS and ndim == 4),
        "Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a "
        "4-D tensor as input",
        ValueError,
    )
    check(mode != "lanczos" or antialias, "Lanczos mode requires antialias=True", ValueError)
    check(
        mode != "lanczos" or not align_corners,
        "Lanczos mode does not support align_corners=True",
        ValueError,
    )
    needed = RANKS.get(mode, ndim)
    check(
        needed == ndim or ndim not in (3, 4, 5),
        lambda: f"Got {ndim}D input, but {mode} mode needs {needed}D input",
        NotImplementedError,
    )
    check(
        ndim in (3, 4, 5) and (mode in KINDS or mode == "area"),
        lambda: (
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {ndim}D) for the modes: "
            "nearest | linear | bilinear | bicubic | trilinear | lanczos | area | nearest-exact "
            f"(got {mode})"
        ),
        NotImplementedError,
    )


def deprecated(name: str) -> None:
    """PyTorch's warning at an old name."""
    warnings.warn(
        f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.",
        stacklevel=3,
    )


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """The old name of `interpolate`."""
    deprecated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` in mode nearest."""
    deprecated("upsample_nearest")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """`interpolate` in mode bilinear with aligned corners."""
    deprecated("upsample_bilinear")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


FUNCTIONAL.update(
    interpolate=interpolate,
    upsample=upsample,
    upsample_nearest=upsample_nearest,
    upsample_bilinear=upsample_bilinear,
)

# -- channels and pixels -----------------------------------------------------------------------


def check_channels_and_pixels(name: str, x: Tensor, factor: int, what: str) -> None:
    """Raises RuntimeError for a rank or a factor that makes no sense."""
    ndim = x._data.ndim
    check(
        ndim >= 3,
        lambda: (
            f"{name} expects input to have at least 3 dimensions, but got input with {ndim} "
            "dimension(s)"
        ),
    )
    check(factor > 0, lambda: f"{name} expects a positive {what}, but got {factor}")


@public(spaces=("torch", "nn.functional"), method=False)
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Turns channels into pixels: (*, C r^2, H, W) -> (*, C, H r, W r), r = `upscale_factor`."""
    r = upscale_factor
    check_channels_and_pixels("pixel_shuffle", input, r, "upscale_factor")
    *lead, c, h, w = input._data.shape
    check(
        c % r**2 == 0,
        lambda: (
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square "
            f"of upscale_factor, but input.size(-3)={c} is not divisible by {r * r}"
        ),
    )
    n = len(lead)
    x = input.reshape(*lead, c // r**2, r, r, h, w)
    x = x.permute(*range(n + 1), n + 3, n + 1, n + 4, n + 2)  # (*, C, H, r, W, r)
    return x.reshape(*lead, c // r**2, h * r, w * r)


@public(spaces=("torch", "nn.functional"), method=False)
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Turns pixels into channels: (*, C, H r, W r) -> (*, C r^2, H, W), r = `downscale_factor`."""
    r = downscale_factor
    check_channels_and_pixels("pixel_unshuffle", input, r, "downscale_factor")
    *lead, c, h, w = input._data.shape
    for what, dim, n in (("height", -2, h), ("width", -1, w)):
        check(
            n % r == 0,
            lambda what=what, dim=dim, n=n: (
                f"pixel_unshuffle expects {what} to be divisible by downscale_factor, but "
                f"input.size({dim})={n} is not divisible by {r}"
            ),
        )
    n = len(lead)
    x = input.reshape(*lead, c, h // r, r, w // r, r)
    x = x.permute(*range(n + 1), n + 2, n + 4, n + 1, n + 3)  # (*, C, r, r, H, W)
    return x.reshape(*lead, c * r**2, h // r, w // r)


@public(spaces=("torch", "nn.functional"), aliases=("native_channel_shuffle",), method=False)
def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Deals the channels of (N, C, *) out to groups: channel i of group j becomes channel j of
    group i.
    """
    shape = input._data.shape
    check(
        len(shape) > 2,
        lambda: (
            f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(shape)}"
        ),
    )
    check(
        groups > 0,
        lambda: (
            f"Number of groups to divide channels in must be positive. Value of groups:{groups}"
        ),
    )
    check(
        shape[1] % groups == 0,
        lambda: (
            f"Number of channels must be divisible by groups. Got {shape[1]} channels and {groups} "
            "groups."
        ),
    )
    return input.unflatten(1, (groups, shape[1] // groups)).transpose(1, 2).reshape(shape)
