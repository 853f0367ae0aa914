"""Padding at the ends of dimensions: with a constant, by reflection, with the border or around. May
import rules, adjoint, core and the base.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy import ndarray

from ..core.dispatch import apply
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from .adjoint import RESAMPLE, Mixing, Separable, batch_leading
from .rules import EXPORTS


def constant_kernel(x: ndarray, pads: tuple[tuple[int, int], ...], value: float) -> ndarray:
    """The last dimensions with `pads` = (before, after) elements more each, or fewer where
    negative.
    """
    shape, to, out_of = constant_places(x.shape, pads)
    y = np.full(shape, value, x.dtype)
    y[to] = x[out_of]
    return y


@functools.lru_cache(512)
def constant_places(
    given: tuple[int, ...], pads: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, ...], tuple, tuple]:
    """The shape of a padded array, the place in it of what is kept, and where that comes from."""
    lead = len(given) - len(pads)
    shape = given[:lead] + tuple(n + a + b for n, (a, b) in zip(given[lead:], pads))
    to = tuple(slice(max(a, 0), n - max(b, 0)) for n, (a, b) in zip(shape[lead:], pads))
    out_of = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(given[lead:], pads))
    return shape, (..., *to), (..., *out_of)


CONSTANT_PAD: Op = Op(
    "constant_pad_nd",
    ("x",),
    constant_kernel,
    vjp={
        "x": lambda g, pads: apply(
            CONSTANT_PAD, g, pads=tuple([(-a, -b) for a, b in pads]), value=0
        )
    },
    batch=batch_leading,
)


@functools.lru_cache(256)
def border_mixing(size: int, before: int, after: int, mode: str) -> Mixing:
    """Which element stands at each place of a padded dimension."""
    i = np.arange(-before, size + after)
    if mode == "circular":  # what negative paddings cut off does not come round
        first, last = max(-before, 0), size - max(-after, 0)
        i = first + (i - first) % (last - first)
    elif mode == "reflect":
        i = np.abs(i)
        i = size - 1 - np.abs(size - 1 - i)
    else:
        i = np.clip(i, 0, size - 1)
    return Mixing(i[:, None], None, size)


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """Pads the last dimensions with a constant; `pad` lists (before, after) from the last dimension
    on.
    """
    shape = input._data.shape
    check(len(pad) % 2 == 0, lambda: f"[pad] Padding length must be divisible by 2, got {len(pad)}")
    check(
        len(pad) <= 2 * len(shape),
        lambda: (
            "[pad] Padding length should be less than or equal to two times the input dimension "
            f"but got padding length {len(pad)} and input of dimension {len(shape)}"
        ),
    )
    pads = pairs(pad)
    for n, (a, b) in zip(shape[len(shape) - len(pads) :], pads):
        if n + a + b < 0 or n + min(a, 0) + min(b, 0) < 0:
            raise RuntimeError(
                f"[pad] The input size {n}, plus negative padding {a} and {b}, resulted in a "
                "negative output size; narrow(): length must be non-negative."
            )
    return apply(CONSTANT_PAD, input, pads=pads, value=value)


def pairs(pad: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The flat list of paddings, last dimension first, as pairs in the order of dimensions."""
    numbers = [int(p) for p in pad]
    return tuple(zip(numbers[-2::-2], numbers[::-2]))


GRADIENT_KINDS = {
    "reflect": "ReflectionPad",
    "replicate": "ReplicationPad",
    "circular": "CircularPad",
}


def pad(
    input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Pads the last dimensions: `pad` lists (before, after) from the last dimension on; negative
    numbers cut.

    Modes: "constant" (`value`), "reflect" (mirrored without the edge), "replicate" (the edge),
    "circular".

    >>> torch.nn.functional.pad(torch.arange(3), (1, 2), value=9)
    tensor([9, 0, 1, 2, 9, 9])
    """
    if mode == "constant":
        return constant_pad_nd(input, pad, 0 if value is None else value)
    check(len(pad) % 2 == 0, lambda: f"[pad] Padding length must be divisible by 2, got {len(pad)}")
    check(mode in GRADIENT_KINDS, lambda: f"Unrecognised padding mode {mode}", NotImplementedError)
    check(not value, lambda: f'Padding mode "{mode}" doesn\'t take in value argument')
    shape, padded = input._data.shape, pairs(pad)
    n = len(padded)
    check(
        len(shape) in (n + 1, n + 2) and n <= 3,
        lambda: (
            f"Padding size {2 * n} is not supported for {len(shape)}D input tensor; non-constant "
            "padding takes 2 numbers for 2D or 3D input, 4 for 3D or 4D, 6 for 4D or 5D"
        ),
        NotImplementedError,
    )
    for d, (a, b) in enumerate(padded, len(shape) - n):
        size = shape[d]
        check(
            mode != "reflect" or (a < size and b < size),
            lambda a=a, b=b, d=d: (
                "[pad] Argument #4: Padding size should be less than the corresponding input "
                f"dimension, but got: padding ({a}, {b}) at dimension {d} of input {list(shape)}"
            ),
        )
        check(
            mode != "circular" or (a <= size and b <= size),
            "[pad] Padding value causes wrapping around more than once.",
        )
        check(
            size + a + b > 0 and size > 0,
            lambda a=a, b=b, d=d: (
                f"[pad] padding ({a}, {b}) leaves nothing of dimension {d} of input {list(shape)}"
            ),
        )
    mixings = tuple(
        border_mixing(s, a, b, mode) if a or b else None for s, (a, b) in zip(shape[-n:], padded)
    )
    return apply(RESAMPLE, input, plan=Separable(mixings, f"{GRADIENT_KINDS[mode]}{n}DBackward0"))


EXPORTS["nn.functional"]["pad"] = pad
EXPORTS["torch"]["constant_pad_nd"] = constant_pad_nd
