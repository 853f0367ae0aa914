"""Pooling: averages, maxima and power means over windows, fixed, adaptive or random. May import
rules, adjoint, the kernels beside it, earlier families, core and the base.

Averages are one linear pair (pool and spread). A maximum remembers its input and finds the winners
when its gradient is wanted; putting values at the winners and taking them from there is the second
pair.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dispatch import apply
from ..core.naming import named
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from . import pool_kernels as kernels
from .adjoint import adjoint_pair, batch_leading
from .conv_kernels import Steps
from .pool_kernels import Windows, window_count
from .rules import EXPORTS

# -- arguments ---------------------------------------------------------------------------------


def pool_dims(value: Any, n: int, name: str, operator: str) -> tuple[int, ...]:
    """An int, or a sequence of 1 or n ints, as a tuple of n."""
    values = (
        (int(value),) * n
        if isinstance(value, (int, np.integer))
        else tuple([int(v) for v in value])
    )
    words = "single int, or a tuple of " + ("one", "two", "three")[n - 1] + " int" + "s" * (n > 1)
    check(
        len(values) in (1, n), lambda: f"{operator}: {name} must either be a {words}, got {value}"
    )
    return values * n if len(values) == 1 else values


def check_image(name: str, x: Tensor, n: int) -> None:
    """Raises RuntimeError unless x is an image of n dimensions with channels, or a batch."""
    shape = x._data.shape
    if len(shape) - n not in (1, 2) or 0 in shape[-n - 1 :]:
        raise RuntimeError(
            f"[{name}] Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim batch "
            f"size for input, but got:{list(shape)}"
        )


def windows(
    name: str,
    x: Tensor,
    n: int,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    count_padding: bool = True,
    divisor: int | None = None,
) -> Windows:
    """The windows that the arguments of a pooling function describe; raises RuntimeError where they
    make no sense.
    """
    no_stride = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    given: Any = (kernel, kernel if no_stride else stride, padding, dilation)
    given = [v if v.__class__ is int else tuple(v) for v in given]
    check_image(name, x, n)
    shape = x._data.shape[-n - 1 :]
    return plan_windows(name, shape, n, *given, bool(ceil_mode), bool(count_padding), divisor)


@functools.lru_cache(512)
def plan_windows(
    name: str,
    shape: tuple,
    n: int,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    count_padding: bool,
    divisor: int | None,
) -> Windows:
    """`windows` for an input whose last dimensions, channels first, are `shape`."""
    kernel = pool_dims(kernel, n, "kernel_size", name)
    stride = pool_dims(stride, n, "stride", name)
    padding = pool_dims(padding, n, "padding", name)
    dilation = pool_dims(dilation, n, "dilation", name)
    check(
        min(kernel) > 0,
        lambda: f"[{name}] kernel size should be greater than zero, but got {kernel}",
    )
    check(min(stride) > 0, lambda: f"[{name}] stride should not be zero, got {stride}")
    check(
        min(dilation) > 0,
        lambda: f"[{name}] dilation should be greater than zero, but got {dilation}",
    )
    check(
        min(padding) >= 0, lambda: f"[{name}] pad must be non-negative, but got pad: {min(padding)}"
    )
    for k, p, d in zip(kernel, padding, dilation):
        check(
            p <= ((k - 1) * d + 1) // 2,
            lambda p=p, k=k, d=d: (
                f"[{name}] pad should be at most half of effective kernel size, but got pad={p}, "
                f"kernel_size={k} and dilation={d}"
            ),
        )
    channels, *size = shape
    out = tuple(map(window_count, size, kernel, stride, padding, dilation, (ceil_mode,) * n))
    check(
        min(out) > 0,
        lambda: (
            f"[{name}] Given input size: ({'x'.join(map(str, shape))}). Calculated output size: "
            f"({'x'.join(map(str, (channels, *out)))}). Output size is too small"
        ),
    )
    steps = Steps(stride, padding, dilation)
    return Windows(tuple(size), kernel, steps, out, count_padding, divisor)


def backward_name(kind: str) -> Callable[[dict], str]:
    """The name of a gradient, e.g. `AvgPool2DBackward0`."""

    def name(params: dict) -> str:
        n = len(params["plan"].size)
        return f"{kind.format(n)}Backward0" if n > 1 else "SqueezeBackward1"

    return name


# -- records -----------------------------------------------------------------------------------

AVERAGE, _ = adjoint_pair(
    ("avg_pool", "avg_pool_spread"), kernels.average, kernels.spread, backward_name("AvgPool{}D")
)
MAX_POOL = Op(
    "max_pool",
    ("x",),
    kernels.maximum,
    vjp={"x": lambda g, x, y, plan: apply(PUT_AT, g, apply(WINNERS, x, y, plan=plan), plan=plan)},
    batch=batch_leading,
    grad_name=backward_name("MaxPool{}DWithIndices"),
)
WINNERS: Op = Op("max_pool_winners", ("x", "y"), kernels.winners, batch=batch_leading)
WINNER_INDICES = Op("max_pool_indices", ("chosen",), kernels.indices, batch=batch_leading)
PUT_AT: Op = Op(
    "max_pool_put",
    ("x", "chosen"),
    kernels.put_at,
    kind="linear",
    vjp={"x": lambda g, chosen, plan: apply(TAKE_AT, g, chosen, plan=plan)},
    batch=batch_leading,
)
TAKE_AT: Op = Op(
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
        if input._data.dtype.kind not in "fiu" and not input.is_floating_point():
            raise NotImplementedError(f"[{name}] is not implemented for {input.dtype}")
        y = apply(MAX_POOL, input, plan=plan)
        if not return_indices:
            return y
        chosen = apply(WINNERS, input, y, plan=plan)
        return y, apply(WINNER_INDICES, chosen, plan=plan)

    doc = f"""The largest element of each window over the last {n} dimensions: (N, C,
    *size) -> (N, C, *out).

    Padding never wins. With `return_indices` also the maxima's places in the flattened image.
    """
    named(function, name, doc)
    return function, with_indices(function)


def with_indices(function: Callable) -> Callable:
    """The form of a pooling function that always returns a pair (values, indices)."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return function(*args, **{**kwargs, "return_indices": True})

    return named(call, function.__name__ + "_with_indices")


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
        counted = count_include_pad, divisor_override
        plan = windows(name, input, n, kernel_size, stride, padding, 1, ceil_mode, *counted)
        if divisor_override == 0:
            raise RuntimeError(f"[{name}] divisor must be not zero")
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
    doc = f"The mean of each window over the last {n} dimensions: (N, C, *size) -> (N, C, *out)."
    return named(made, name, doc)


def make_lp_pool(n: int, avg_pool: Callable) -> Callable:
    """`lp_pool{n}d`."""
    name = f"lp_pool{n}d"

    def function(
        input: Tensor,
        norm_type: float,
        kernel_size: Any,
        stride: Any = None,
        ceil_mode: bool = False,
    ) -> Tensor:
        area = math.prod(pool_dims(kernel_size, n, "kernel_size", name))
        mean = avg_pool(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
        return (mean.sign() * mean.abs().relu() * area).pow(1.0 / norm_type)

    doc = "The power mean (sum of x^p)^(1/p) of each window, p being `norm_type`."
    return named(function, name, doc)


F = EXPORTS["nn.functional"]
for _n in (1, 2, 3):
    _max, _max_indices = make_max_pool(_n)
    _avg = make_avg_pool(_n)
    _made = (_max, _max_indices, _avg, make_lp_pool(_n, _avg))
    F.update({f.__name__: f for f in _made})
    EXPORTS["torch"][_max.__name__] = _max
EXPORTS["torch"].update({n: F[n] for n in ("avg_pool1d", "max_pool1d_with_indices")})
