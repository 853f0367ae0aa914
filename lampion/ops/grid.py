"""Sampling an image at the places of a grid, and grids of affine maps. May import rules, earlier
families, core and the base.

Written in public operators: places, weights and the elements gathered there, so both gradients
follow.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from .comparison import where
from .rules import EXPORTS

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")


def warn_align_corners() -> None:
    """PyTorch's warning where `align_corners` is left open."""
    warnings.warn(
        "Default grid_sample and affine_grid behavior has changed to align_corners=False since "
        "1.3.0. Please specify align_corners=True if the old behavior is desired. See the "
        "documentation of grid_sample for details.",
        stacklevel=3,
    )


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """The input (N, C, *size) at the places (N, *out, dims) -> (N, C, *out); places run from -1 to
    1, x first.

    Modes: bilinear, nearest, bicubic (2-d); outside: zeros, border, reflection. Raises ValueError
    for other modes.
    """
    check(
        mode in MODES,
        lambda: (
            "nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', "
            f"but got: '{mode}'"
        ),
        ValueError,
    )
    check(
        padding_mode in PADDINGS,
        lambda: (
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or "
            f"'reflection', but got: '{padding_mode}'"
        ),
        ValueError,
    )
    if align_corners is None:
        warn_align_corners()
    return sample(input, grid, mode, padding_mode, bool(align_corners))


def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sample` with numbered modes."""
    return sample(input, grid, MODES[interpolation_mode], PADDINGS[padding_mode], align_corners)


def check_grid(x: Tensor, grid: Tensor, mode: str) -> None:
    """Raises RuntimeError where input and grid do not belong together."""
    shape, places = list(x._data.shape), list(grid._data.shape)
    n = len(shape) - 2
    sizes = f"but got input with sizes {shape} and grid with sizes {places}"
    check(
        shape[0] == places[0],
        lambda: f"grid_sampler(): expected grid and input to have same batch size, {sizes}",
    )
    check(
        places[-1] == n,
        lambda: (
            f"grid_sampler(): expected grid to have size {n} in last dimension, but got grid with "
            f"sizes {places}"
        ),
    )
    check(
        n in (2, 3) and len(places) == n + 2,
        lambda: (
            f"grid_sampler(): expected {n + 2}D input and grid with same number of dimensions, "
            f"{sizes}"
        ),
    )
    check(
        mode != "bicubic" or n == 2, "grid_sampler(): bicubic interpolation only supports 4D input"
    )
    check(
        0 not in shape[2:],
        lambda: (
            "grid_sampler(): expected input to have non-empty spatial dimensions, but input has "
            f"sizes {shape} with dimension {shape.index(0, 2)} being empty"
        ),
    )


def sample(x: Tensor, grid: Tensor, mode: str, padding: str, align_corners: bool) -> Tensor:
    """The three modes: each is a sum over the elements around a place, times weights."""
    check_grid(x, grid, mode)
    n, c, *size = x._data.shape
    out = grid._data.shape[1:-1]
    places = [  # one (N, P) for each dimension of the image, first to last
        from_unit(grid.select(-1, len(size) - 1 - d).reshape(n, -1), s, align_corners)
        for d, s in enumerate(size)
    ]
    flat = x.flatten(2)  # (N, C, cells)
    if mode == "bicubic":
        y = sample_cubic(flat, places, size, padding, align_corners)
    else:
        places = [into_image(p, s, padding, align_corners) for p, s in zip(places, size)]
        y = (
            sample_near(flat, places, size)
            if mode == "nearest"
            else sample_linear(flat, places, size)
        )
    return y.reshape(n, c, *out)


def from_unit(place: Tensor, size: int, align_corners: bool) -> Tensor:
    """Places in [-1, 1] as places in [0, size - 1], the outer ones being centres or edges of
    elements.
    """
    return (place + 1) * ((size - 1) / 2) if align_corners else ((place + 1) * size - 1) / 2


def into_image(place: Tensor, size: int, padding: str, align_corners: bool) -> Tensor:
    """Places outside moved to the border, or reflected at it; zeros leave them where they are."""
    if padding == "zeros":
        return place
    if padding == "reflection":
        low, span = (0.0, size - 1.0) if align_corners else (-0.5, float(size))
        if span == 0:
            place = place * 0
        else:
            away = (place - low).abs()
            rest = away.fmod(span)
            odd = (away.detach() / span).floor().remainder(2) == 1
            place = where(odd, span - rest, rest) + low
    return place.clamp(0, size - 1)


def element(flat: Tensor, places: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The elements at whole places: (N, C, P), zero outside of the image."""
    inside: Any = None
    index: Any = None
    for p, s in zip(places, size):
        within = (p >= 0) & (p < s)
        inside = within if inside is None else inside & within
        whole = where(within, p, 0).long()
        index = whole if index is None else index * s + whole
    n, c = flat._data.shape[:2]
    index = index.unsqueeze(1).expand(n, c, index._data.shape[-1])  # (N, C, P)
    return where(inside.unsqueeze(1), flat.gather(2, index), 0)


def sample_near(flat: Tensor, places: list[Tensor], size: list[int]) -> Tensor:
    """The nearest element; halves go to the even one."""
    return element(flat, [p.detach().round() for p in places], size) + sum_of_zeros(places)


def sum_of_zeros(places: list[Tensor]) -> Tensor:
    """Zeros that depend on the places, so that the grid gets its gradient of zeros."""
    return sum(p.nan_to_num(0, 0, 0) * 0 for p in places).unsqueeze(1)  # type: ignore[union-attr]


def sample_linear(flat: Tensor, places: list[Tensor], size: list[int]) -> Tensor:
    """The weighted sum over the corners around each place."""
    first = [p.detach().floor() for p in places]
    after = [p - f for p, f in zip(places, first)]
    total: Any = None
    for corner in itertools.product((0, 1), repeat=len(places)):
        weight: Any = math.prod(a if up else 1 - a for a, up in zip(after, corner))
        term = element(flat, [f + up for f, up in zip(first, corner)], size) * weight.unsqueeze(1)
        total = term if total is None else total + term
    return total


def sample_cubic(
    flat: Tensor, places: list[Tensor], size: list[int], padding: str, align_corners: bool
) -> Tensor:
    """The sum over the 4 x 4 elements around each place; each is moved into the image by itself."""
    first = [p.detach().floor() for p in places]
    weights = [cubic_weights(p - f) for p, f in zip(places, first)]
    total: Any = None
    for i, j in itertools.product(range(4), repeat=2):
        around = [
            into_image(f + k - 1, s, padding, align_corners) for f, k, s in zip(first, (i, j), size)
        ]
        term = element(flat, around, size) * (weights[0][i] * weights[1][j]).unsqueeze(1)
        total = term if total is None else total + term
    return total


def cubic_weights(t: Tensor, a: float = -0.75) -> list[Tensor]:
    """Keys' kernel at the distances 1 + t, t, 1 - t and 2 - t."""

    def near(x: Tensor) -> Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Tensor) -> Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The places (N, *size, dims) to which affine maps (N, dims, dims + 1) take an image's
    elements, for `grid_sample`.
    """
    size = tuple(int(s) for s in size)
    shape, n = theta._data.shape, len(size) - 2
    if align_corners is None:
        warn_align_corners()
    check(
        theta.is_floating_point(),
        lambda: f"Expected theta to have floating point type, but got {theta.dtype}",
        ValueError,
    )
    check(
        n in (2, 3),
        lambda: (
            "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, "
            f"respectively. Got size {size}."
        ),
        NotImplementedError,
    )
    check(
        len(shape) == 3 and shape[1:] == (n, n + 1),
        lambda: (
            f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size {size}. Got "
            f"{theta.shape}."
        ),
        ValueError,
    )
    check(min(size) > 0, lambda: f"Expected non-zero, positive output size. Got {size}", ValueError)
    return affine_grid_generator(theta, size, bool(align_corners))


def affine_grid_generator(theta: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """`affine_grid` without its checks."""
    spatial = tuple(size[2:])
    axes = []
    for d, s in reversed(list(enumerate(spatial))):  # x first
        line = (
            EXPORTS["torch"]["linspace"](-1, 1, s, dtype=theta.dtype)
            if s > 1
            else theta.new_zeros(1)
        )
        line = line if align_corners else line * ((s - 1) / s)
        axes.append(line.reshape(-1, *[1] * (len(spatial) - d - 1)).expand(spatial).reshape(-1))
    axes.append(theta.new_ones(math.prod(spatial)))
    points = EXPORTS["torch"]["stack"](axes, -1)  # (cells, dims + 1)
    n = theta._data.shape[0]
    return (points.expand(n, *points._data.shape) @ theta.mT).reshape(n, *spatial, len(spatial))


EXPORTS["nn.functional"].update(grid_sample=grid_sample, affine_grid=affine_grid)
EXPORTS["torch"].update(
    grid_sampler=grid_sampler, grid_sampler_2d=grid_sampler, grid_sampler_3d=grid_sampler,
    affine_grid_generator=affine_grid_generator,
)  # fmt: skip
