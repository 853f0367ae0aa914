"""Pooling into a given size: over adaptive windows, over random ones, and back from maxima. May
import rules, adjoint, pool, earlier families, core and the base.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.naming import named
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .adjoint import RESAMPLE, Mixing, Separable, batch_leading
from .conv_kernels import Steps
from .pool import AVERAGE, F, check_image, pool_dims, with_indices
from .pool_kernels import Windows
from .rules import EXPORTS

# -- adaptive pooling --------------------------------------------------------------------------


def adaptive_size(name: str, x: Tensor, output_size: Any, n: int) -> tuple[int, ...]:
    """The output's size; None keeps a dimension."""
    check_image(name, x, n)
    given = (
        (output_size,) * n
        if output_size is None or isinstance(output_size, int)
        else tuple(output_size)
    )
    check(
        len(given) in (1, n),
        lambda: (
            f"[{name}] output_size must be {n} numbers, got {output_size}; pass one per dimension"
        ),
    )
    given = given * n if len(given) == 1 else given
    size = tuple(s if o is None else int(o) for o, s in zip(given, x._data.shape[-n:]))
    check(
        min(size) >= 0,
        lambda: (
            f"[{name}] elements of output_size must be greater than or equal to 0 but received "
            f"{size}"
        ),
    )
    return size


def adaptive_bounds(size: int, out: int) -> tuple[ndarray, ndarray]:
    """Where each of `out` windows over a dimension begins and ends."""
    i = np.arange(out)
    return i * size // max(out, 1), -(-(i + 1) * size // max(out, 1))


@functools.lru_cache(256)
def adaptive_mixing(size: int, out: int) -> Mixing:
    """The averages over the adaptive windows, as a matrix."""
    begin, end = adaptive_bounds(size, out)
    within = np.arange(max((end - begin).max(initial=1), 1))
    indices = begin[:, None] + within
    used = indices < end[:, None]
    return Mixing(np.minimum(indices, size - 1), used / (end - begin)[:, None], size)


def entitled(result: Tensor, out: tuple[int, ...]) -> Tensor:
    """The result with its node called as PyTorch's."""
    if result.grad_fn is not None and len(out) > 1:
        mean = set(out) == {1}
        result.grad_fn.title = "MeanBackward1" if mean else f"AdaptiveAvgPool{len(out)}DBackward0"
    return result


def make_adaptive_avg_pool(n: int) -> Callable:
    """`adaptive_avg_pool{n}d`."""
    name = f"adaptive_avg_pool{n}d"

    def function(input: Tensor, output_size: Any) -> Tensor:
        out = adaptive_size(name, input, output_size, n)
        size = tuple(input._data.shape[-n:])
        if 0 not in out and all(s % o == 0 for s, o in zip(size, out)):
            kernel = tuple(s // o for s, o in zip(size, out))
            plan = Windows(size, kernel, Steps(kernel, (0,) * n, (1,) * n), out)
            return entitled(apply(AVERAGE, input, plan=plan), out)
        mixings = tuple(map(adaptive_mixing, size, out))
        separable = Separable(mixings, f"AdaptiveAvgPool{n}DBackward0")
        return apply(RESAMPLE, input, plan=separable)

    doc = "The means of windows chosen so that the result has `output_size`; None keeps a size."
    return named(function, name, doc)


def adaptive_winners(x: ndarray, out: tuple[int, ...]) -> ndarray:
    """The place in the flattened image of the largest element of each adaptive window."""
    n = len(out)
    size, lead = x.shape[-n:], x.shape[:-n]
    numbers = np.arange(math.prod(size)).reshape(size)
    result = np.empty((*lead, *out), np.int64)
    bounds = [adaptive_bounds(s, o) for s, o in zip(size, out)]
    for at in np.ndindex(*out):
        window: tuple = (..., *[slice(b[i], e[i]) for i, (b, e) in zip(at, bounds)])
        best = x[window].reshape(*lead, -1).argmax(-1)
        result[(..., *at)] = numbers[window].ravel()[best]
    return result


ADAPTIVE_WINNERS = Op("adaptive_max_pool_indices", ("x",), adaptive_winners, batch=batch_leading)


def pick(x: Tensor, indices: Tensor, n: int) -> Tensor:
    """The elements of the flattened images at `indices`."""
    return x.flatten(-n).gather(-1, indices.flatten(-n)).reshape(indices._data.shape)


def make_adaptive_max_pool(n: int) -> tuple[Callable, Callable]:
    """`adaptive_max_pool{n}d`, and its form that always returns indices."""
    name = f"adaptive_max_pool{n}d"

    def function(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        out = adaptive_size(name, input, output_size, n)
        indices = apply(ADAPTIVE_WINNERS, input, out=out)
        y = pick(input, indices, n)
        return (y, indices) if return_indices else y

    doc = "The maxima of windows chosen so that the result has `output_size`; None keeps a size."
    named(function, name, doc)
    return function, with_indices(function)


# -- random windows ----------------------------------------------------------------------------


def fractional_winners(
    x: ndarray, samples: ndarray, kernel: tuple[int, ...], out: tuple[int, ...]
) -> ndarray:
    """The places of the maxima of windows at pseudo-random steps; samples are (N, C, n)."""
    n = len(out)
    size = x.shape[-n:]
    flat = np.zeros((*x.shape[:-n], *(1,) * 2 * n), np.int64)
    for d, (s, k, o) in enumerate(zip(size, kernel, out)):
        u = samples[
            ..., (1 - d if n == 2 else d), None
        ]  # PyTorch's order: x first in two dimensions only
        alpha = (s - k) / (o - 1) if o > 1 else 0.0
        alpha = samples.dtype.type(alpha)
        begin = ((np.arange(o) + u) * alpha).astype(np.int64) - (u * alpha).astype(
            np.int64
        )  # (N, C, o)
        begin[..., -1] = s - k
        shape = [1] * 2 * n
        shape[d] = o
        offsets = np.arange(k).reshape([-1 if i == n + d else 1 for i in range(2 * n)])
        flat = (
            flat * s + begin.reshape(*begin.shape[:-1], *shape) + offsets
        )  # (N, C, *out, *kernel)
    flat = flat.reshape(*flat.shape[: x.ndim - n], math.prod(out), math.prod(kernel))
    values = np.take_along_axis(x.reshape(*x.shape[:-n], 1, math.prod(size)), flat, -1)
    best = np.take_along_axis(flat, values.argmax(-1)[..., None], -1)
    return best.reshape(*x.shape[:-n], *out)


FRACTIONAL_WINNERS = Op("fractional_max_pool_indices", ("x", "samples"), fractional_winners)


def make_fractional_max_pool(n: int) -> tuple[Callable, Callable]:
    """`fractional_max_pool{n}d`, and its form that always returns indices."""
    name = f"fractional_max_pool{n}d"

    def function(
        input: Tensor,
        kernel_size: Any,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Tensor | None = None,
    ) -> Any:
        check_image(name, input, n)
        size = input._data.shape[-n:]
        if output_size is None:
            check(
                output_ratio is not None,
                lambda: f"{name} requires specifying either an output_size or an output_ratio",
                ValueError,
            )
            ratios = (output_ratio,) * n if isinstance(output_ratio, float) else tuple(output_ratio)
            output_size = [int(s * r) for s, r in zip(size, ratios)]
        out, kernel = (
            pool_dims(output_size, n, "output_size", name),
            pool_dims(kernel_size, n, "kernel_size", name),
        )
        for s, o, k in zip(size, out, kernel):
            check(
                o + k - 1 <= s,
                lambda s=s, k=k: f"[{name}] pool size {k} too large relative to input size {s}",
            )
        batched = input if input._data.ndim == n + 2 else input.unsqueeze(0)
        if _random_samples is None:
            shape = (*batched._data.shape[:2], n)
            _random_samples = EXPORTS["torch"]["rand"](*shape, dtype=input.dtype)
        samples = _random_samples[: batched._data.shape[0]]
        indices = apply(FRACTIONAL_WINNERS, batched, samples, kernel=kernel, out=out)
        if batched is not input:
            indices = indices.squeeze(0)
        y = pick(input, indices, n)
        return (y, indices) if return_indices else y

    doc = "The maxima of windows at pseudo-random steps, such that the result has `output_size`."
    named(function, name, doc)
    return function, with_indices(function)


# -- unpooling ---------------------------------------------------------------------------------


def unpooled_size(
    x: Tensor, kernel: tuple, stride: tuple, padding: tuple, output_size: Sequence[int] | None
) -> tuple[int, ...]:
    """The size that pooling came from; `output_size` chooses among the possible ones."""
    n = len(kernel)
    default = [
        (i - 1) * s + k - 2 * p for i, k, s, p in zip(x._data.shape[-n:], kernel, stride, padding)
    ]
    if output_size is None:
        return tuple(default)
    check(
        len(output_size) in (n, n + 2),
        lambda: (
            f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a "
            f"length of '{len(output_size)}'"
        ),
        ValueError,
    )
    size = tuple(output_size)[-n:]
    for d, (o, i, s) in enumerate(zip(size, default, stride)):
        check(
            i - s < o < i + s,
            lambda d=d, i=i, s=s: (
                f'invalid output_size "{size}" (dim {d} must be between {i - s} and {i + s})'
            ),
            ValueError,
        )
    return size


def make_max_unpool(n: int) -> Callable:
    """`max_unpool{n}d`."""
    name = f"max_unpool{n}d"

    def function(
        input: Tensor,
        indices: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        output_size: Any = None,
    ) -> Tensor:
        kernel = pool_dims(kernel_size, n, "kernel_size", name)
        stride = kernel if stride is None else pool_dims(stride, n, "stride", name)
        size = unpooled_size(
            input, kernel, stride, pool_dims(padding, n, "padding", name), output_size
        )
        check(
            indices._data.dtype == np.int64,
            lambda: f"[{name}] elements in indices should be type int64 but got: {indices.dtype}",
        )
        check(
            indices._data.shape == input._data.shape,
            lambda: (
                f"[{name}] Expected shape of indices to be same as that of the input tensor "
                f"({list(input._data.shape)}) but got indices tensor with shape: "
                f"{list(indices._data.shape)}"
            ),
        )
        check_image(name, input, n)
        cells, places = math.prod(size), indices.concrete(name)
        wrong = places[(places < 0) | (places >= cells)]
        check(
            not wrong.size,
            lambda: (
                f"[{name}] Found an invalid max index: {wrong[0]} (output volumes are of size "
                f"{'x'.join(map(str, size))})"
            ),
        )
        blank = input.new_zeros((*input._data.shape[:-n], cells))
        return blank.scatter(-1, indices.flatten(-n), input.flatten(-n)).unflatten(-1, size)

    doc = "Puts each maximum back at its place in an image of zeros; partly undoes max pooling."
    return named(function, name, doc)


for _n in (1, 2, 3):
    _made = [make_adaptive_avg_pool(_n), *make_adaptive_max_pool(_n), make_max_unpool(_n)]
    if _n > 1:
        _made += make_fractional_max_pool(_n)
    F.update({f.__name__: f for f in _made})
EXPORTS["torch"]["adaptive_avg_pool1d"] = F["adaptive_avg_pool1d"]
EXPORTS["torch"]["adaptive_max_pool1d"] = F["adaptive_max_pool1d_with_indices"]
