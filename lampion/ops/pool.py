"""Pooling: averages, maxima and power means over windows, fixed, adaptive or random. May import rules, adjoint, the
kernels beside it, earlier families, core and the base.

Averages are one linear pair (pool and spread). A maximum remembers its input and finds the winners when
its gradient is wanted; putting values at the winners and taking them from there is the second pair.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from . import pool_kernels as kernels
from .adjoint import RESAMPLE, Mixing, Separable, adjoint_pair, batch_leading
from .conv_kernels import Steps
from .pool_kernels import Windows, window_count
from .rules import EXPORTS

# -- arguments ---------------------------------------------------------------------------------


def pool_dims(value: Any, n: int, name: str, operator: str) -> tuple[int, ...]:
    """An int, or a sequence of 1 or n ints, as a tuple of n."""
    values = (int(value),) * n if isinstance(value, (int, np.integer)) else tuple([int(v) for v in value])
    words = "single int, or a tuple of " + ("one", "two", "three")[n - 1] + " int" + "s" * (n > 1)
    check(len(values) in (1, n), lambda: f"{operator}: {name} must either be a {words}, got {value}")
    return values * n if len(values) == 1 else values


def check_image(name: str, x: Tensor, n: int) -> None:
    """Raises RuntimeError unless x is an image of n dimensions, with channels and perhaps a batch."""
    shape = list(x._data.shape)
    check(
        len(shape) in (n + 1, n + 2) and 0 not in shape[-n - 1 :],
        lambda: f"[{name}] Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim batch size for input, "
        f"but got:{shape}",
    )


def windows(
    name: str, x: Tensor, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Windows:
    """The windows that the arguments of a pooling function describe; raises RuntimeError where they make no sense."""
    no_stride = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    given = (kernel, kernel if no_stride else stride, padding, dilation)
    given = tuple([v if v.__class__ is int else tuple(v) for v in given])
    check_image(name, x, n)
    return plan_windows(name, x._data.shape[-n - 1 :], n, *given, bool(ceil_mode))


@functools.lru_cache(512)
def plan_windows(
    name: str, shape: tuple, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Windows:
    """`windows` for an input whose last dimensions, channels first, are `shape`."""
    kernel = pool_dims(kernel, n, "kernel_size", name)
    stride = pool_dims(stride, n, "stride", name)
    padding = pool_dims(padding, n, "padding", name)
    dilation = pool_dims(dilation, n, "dilation", name)
    check(min(kernel) > 0, lambda: f"[{name}] kernel size should be greater than zero, but got {kernel}")
    check(min(stride) > 0, lambda: f"[{name}] stride should not be zero, got {stride}")
    check(min(dilation) > 0, lambda: f"[{name}] dilation should be greater than zero, but got {dilation}")
    check(min(padding) >= 0, lambda: f"[{name}] pad must be non-negative, but got pad: {min(padding)}")
    for k, p, d in zip(kernel, padding, dilation):
        check(
            p <= ((k - 1) * d + 1) // 2,
            lambda p=p, k=k, d=d: f"[{name}] pad should be at most half of effective kernel size, but got pad={p}, "
            f"kernel_size={k} and dilation={d}",
        )
    channels, *size = shape
    out = tuple(map(window_count, size, kernel, stride, padding, dilation, (ceil_mode,) * n))
    check(
        min(out) > 0,
        lambda: f"[{name}] Given input size: ({'x'.join(map(str, shape))}). Calculated output size: "
        f"({'x'.join(map(str, (channels, *out)))}). Output size is too small",
    )
    return Windows(tuple(size), kernel, Steps(stride, padding, dilation), out)


def named(kind: str) -> Callable[[dict], str]:
    """The name of a gradient, e.g. `AvgPool2DBackward0`."""
    return lambda params: f"{kind}{len(params['plan'].size)}DBackward0"


# -- records -----------------------------------------------------------------------------------

AVERAGE, SPREAD = adjoint_pair(("avg_pool", "avg_pool_spread"), kernels.average, kernels.spread, named("AvgPool"))
MAX_POOL = Op(
    "max_pool",
    ("x",),
    kernels.maximum,
    vjp={"x": lambda g, x, y, plan: apply(PUT_AT, g, apply(WINNERS, x, y, plan=plan), plan=plan)},
    batch=batch_leading,
    grad_name=lambda params: f"MaxPool{len(params['plan'].size)}DWithIndicesBackward0",
)
WINNERS = Op("max_pool_winners", ("x", "y"), kernels.winners, batch=batch_leading)
WINNER_INDICES = Op("max_pool_indices", ("chosen",), kernels.indices, batch=batch_leading)
PUT_AT = Op(
    "max_pool_put",
    ("x", "chosen"),
    kernels.put_at,
    kind="linear",
    vjp={"x": lambda g, chosen, plan: apply(TAKE_AT, g, chosen, plan=plan)},
    batch=batch_leading,
)
TAKE_AT = Op(
    "max_pool_take",
    ("x", "chosen"),
    kernels.take_at,
    kind="linear",
    vjp={"x": lambda g, chosen, plan: apply(PUT_AT, g, chosen, plan=plan)},
    batch=batch_leading,
)

# -- maxima and averages -----------------------------------------------------------------------


def make_max_pool(n: int) -> tuple[Callable, Callable]:
    """`max_pool{n}d`, and its form that always returns indices."""
    name = f"max_pool{n}d"

    def function(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        plan = windows(name, input, n, kernel_size, stride, padding, dilation, ceil_mode)
        check(
            input.is_floating_point() or input._data.dtype.kind in "iu",
            lambda: f"[{name}] is not implemented for {input.dtype}",
            NotImplementedError,
        )
        y = apply(MAX_POOL, input, plan=plan)
        if not return_indices:
            return y
        chosen = apply(WINNERS, input, y, plan=plan)
        return y, apply(WINNER_INDICES, chosen, plan=plan)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""The largest element of each window over the last {n} dimensions: (N, C, *size) -> (N, C, *out).

    Padding never wins. With `return_indices` also the maxima's places in the flattened image.
    """
    return function, with_indices(function)


def with_indices(function: Callable) -> Callable:
    """The form of a pooling function that always returns a pair (values, indices)."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return function(*args, **{**kwargs, "return_indices": True})

    call.__name__ = call.__qualname__ = function.__name__ + "_with_indices"
    return call


def make_avg_pool(n: int) -> Callable:
    """`avg_pool{n}d`."""
    name = f"avg_pool{n}d"

    def function(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        plan = windows(name, input, n, kernel_size, stride, padding, 1, ceil_mode)
        check(divisor_override != 0, lambda: f"[{name}] divisor must be not zero")
        plan = plan._replace(count_padding=bool(count_include_pad), divisor=divisor_override)
        return apply(AVERAGE, input, plan=plan)

    def plain(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> Tensor:
        return function(input, kernel_size, stride, padding, ceil_mode, count_include_pad)

    made = plain if n == 1 else function
    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"The mean of each window over the last {n} dimensions: (N, C, *size) -> (N, C, *out)."
    return made


def make_lp_pool(n: int, avg_pool: Callable) -> Callable:
    """`lp_pool{n}d`."""
    name = f"lp_pool{n}d"

    def function(
        input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> Tensor:
        area = math.prod(pool_dims(kernel_size, n, "kernel_size", name))
        mean = avg_pool(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
        return (mean.sign() * mean.abs().relu() * area).pow(1.0 / norm_type)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "The power mean (sum of x^p)^(1/p) of each window, p being `norm_type`."
    return function


# -- adaptive pooling --------------------------------------------------------------------------


def adaptive_size(name: str, x: Tensor, output_size: Any, n: int) -> tuple[int, ...]:
    """The output's size; None keeps a dimension."""
    check_image(name, x, n)
    given = (output_size,) * n if output_size is None or isinstance(output_size, int) else tuple(output_size)
    check(
        len(given) in (1, n),
        lambda: f"[{name}] output_size must have {n} elements, got {output_size}",
        ValueError,
    )
    given = given * n if len(given) == 1 else given
    size = tuple(s if o is None else int(o) for o, s in zip(given, x._data.shape[-n:]))
    check(
        min(size) >= 0,
        lambda: f"[{name}] elements of output_size must be greater than or equal to 0 but received {size}",
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


def make_adaptive_avg_pool(n: int) -> Callable:
    """`adaptive_avg_pool{n}d`."""
    name = f"adaptive_avg_pool{n}d"

    def function(input: Tensor, output_size: Any) -> Tensor:
        out = adaptive_size(name, input, output_size, n)
        size = tuple(input._data.shape[-n:])
        if 0 not in out and all(s % o == 0 for s, o in zip(size, out)):
            kernel = tuple(s // o for s, o in zip(size, out))
            plan = Windows(size, kernel, Steps(kernel, (0,) * n, (1,) * n), out)
            return apply(AVERAGE, input, plan=plan)
        plan = Separable(tuple(map(adaptive_mixing, size, out)), f"AdaptiveAvgPool{n}DBackward0")
        return apply(RESAMPLE, input, plan=plan)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "The means of windows chosen so that the result has `output_size`; None keeps a size."
    return function


def adaptive_winners(x: ndarray, out: tuple[int, ...]) -> ndarray:
    """The place in the flattened image of the largest element of each adaptive window."""
    n = len(out)
    size, lead = x.shape[-n:], x.shape[:-n]
    numbers = np.arange(math.prod(size)).reshape(size)
    result = np.empty((*lead, *out), np.int64)
    bounds = [adaptive_bounds(s, o) for s, o in zip(size, out)]
    for at in np.ndindex(*out):
        window = (..., *[slice(b[i], e[i]) for i, (b, e) in zip(at, bounds)])
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

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "The maxima of windows chosen so that the result has `output_size`; None keeps a size."
    return function, with_indices(function)


# -- random windows ----------------------------------------------------------------------------


def fractional_winners(x: ndarray, samples: ndarray, kernel: tuple[int, ...], out: tuple[int, ...]) -> ndarray:
    """The places of the maxima of windows that begin at pseudo-random steps; samples are (N, C, n)."""
    n = len(out)
    size = x.shape[-n:]
    flat = np.zeros((*x.shape[:-n], *(1,) * 2 * n), np.int64)
    for d, (s, k, o) in enumerate(zip(size, kernel, out)):
        u = samples[..., (1 - d if n == 2 else d), None]  # PyTorch's order: x first in two dimensions only
        alpha = (s - k) / (o - 1) if o > 1 else 0.0
        alpha = samples.dtype.type(alpha)
        begin = ((np.arange(o) + u) * alpha).astype(np.int64) - (u * alpha).astype(np.int64)  # (N, C, o)
        begin[..., -1] = s - k
        shape = [1] * 2 * n
        shape[d] = o
        offsets = np.arange(k).reshape([-1 if i == n + d else 1 for i in range(2 * n)])
        flat = flat * s + begin.reshape(*begin.shape[:-1], *shape) + offsets  # (N, C, *out, *kernel)
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
        out, kernel = pool_dims(output_size, n, "output_size", name), pool_dims(kernel_size, n, "kernel_size", name)
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

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "The maxima of windows at pseudo-random steps, such that the result has `output_size`."
    return function, with_indices(function)


# -- unpooling ---------------------------------------------------------------------------------


def unpooled_size(
    x: Tensor, kernel: tuple, stride: tuple, padding: tuple, output_size: Sequence[int] | None
) -> tuple[int, ...]:
    """The size that pooling came from; `output_size` chooses among the possible ones."""
    n = len(kernel)
    default = [(i - 1) * s + k - 2 * p for i, k, s, p in zip(x._data.shape[-n:], kernel, stride, padding)]
    if output_size is None:
        return tuple(default)
    check(
        len(output_size) in (n, n + 2),
        lambda: f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a length of "
        f"'{len(output_size)}'",
        ValueError,
    )
    size = tuple(output_size)[-n:]
    for d, (o, i, s) in enumerate(zip(size, default, stride)):
        check(
            i - s < o < i + s,
            lambda d=d, i=i, s=s: f'invalid output_size "{size}" (dim {d} must be between {i - s} and {i + s})',
            ValueError,
        )
    return size


def make_max_unpool(n: int) -> Callable:
    """`max_unpool{n}d`."""
    name = f"max_unpool{n}d"

    def function(
        input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None
    ) -> Tensor:
        kernel = pool_dims(kernel_size, n, "kernel_size", name)
        stride = kernel if stride is None else pool_dims(stride, n, "stride", name)
        size = unpooled_size(input, kernel, stride, pool_dims(padding, n, "padding", name), output_size)
        check(
            indices._data.dtype == np.int64,
            lambda: f"[{name}] elements in indices should be type int64 but got: {indices.dtype}",
        )
        check(
            indices._data.shape == input._data.shape,
            lambda: f"[{name}] Expected shape of indices to be same as that of the input tensor "
            f"({list(input._data.shape)}) but got indices tensor with shape: {list(indices._data.shape)}",
        )
        check_image(name, input, n)
        cells, places = math.prod(size), indices.concrete(name)
        wrong = places[(places < 0) | (places >= cells)]
        check(
            not wrong.size,
            lambda: f"[{name}] Found an invalid max index: {wrong[0]} (output volumes are of size "
            f"{'x'.join(map(str, size))})",
        )
        blank = input.new_zeros((*input._data.shape[:-n], cells))
        return blank.scatter(-1, indices.flatten(-n), input.flatten(-n)).unflatten(-1, size)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = "Puts each maximum back at its place in an image of zeros; partly undoes max pooling."
    return function


for _n in (1, 2, 3):
    _max, _max_indices = make_max_pool(_n)
    _avg = make_avg_pool(_n)
    _adaptive, _adaptive_indices = make_adaptive_max_pool(_n)
    _made = [_max, _max_indices, _avg, make_lp_pool(_n, _avg), make_adaptive_avg_pool(_n), _adaptive,
             _adaptive_indices, make_max_unpool(_n)]  # fmt: skip
    if _n > 1:
        _made += make_fractional_max_pool(_n)
    EXPORTS["nn.functional"].update({f.__name__: f for f in _made})
    EXPORTS["torch"][_max.__name__] = _max
F = EXPORTS["nn.functional"]
for _name in ("avg_pool1d", "adaptive_avg_pool1d", "max_pool1d_with_indices"):
    EXPORTS["torch"][_name] = F[_name]
EXPORTS["torch"]["adaptive_max_pool1d"] = F["adaptive_max_pool1d_with_indices"]
