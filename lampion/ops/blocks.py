"""The blocks under a sliding kernel as columns, and columns added up to an image. May import rules,
conv, core and the base.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.dispatch import apply
from ..core.op import Op
from ..core.tensor import Tensor
from ..errors import check
from . import conv_kernels as kernels
from .conv import check_steps, per_dimension
from .conv_kernels import Steps, output_size
from .rules import EXPORTS, move_to_front


def batch_blocks(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """The batch joins the samples."""
    x = move_to_front(values[0], dims[0])
    y = apply(op, x.reshape(-1, *x._data.shape[2:]), **params)
    return y.reshape(size, -1, *y._data.shape[1:]), 0


UNFOLD = Op(
    "unfold_blocks",
    ("x",),
    kernels.unfold,
    kind="linear",
    vjp={
        "x": lambda g, x_shape, kernel, steps: apply(
            FOLD, g, size=x_shape[2:], kernel=kernel, steps=steps
        )
    },
    jvp="linear",
    batch=batch_blocks,
    grad_name="Im2ColBackward0",
)
FOLD: Op = Op(
    "fold_blocks",
    ("x",),
    kernels.fold,
    kind="linear",
    vjp={"x": lambda g, kernel, steps: apply(UNFOLD, g, kernel=kernel, steps=steps)},
    jvp="linear",
    batch=batch_blocks,
    grad_name="Col2ImBackward0",
)


def block_steps(
    name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[tuple, Steps]:
    """The arguments of unfold and fold as pairs."""
    kernel = per_dimension(kernel_size, 2, "kernel_size", name)
    steps = Steps(
        per_dimension(stride, 2, "stride", name),
        per_dimension(padding, 2, "padding", name),
        per_dimension(dilation, 2, "dilation", name),
    )
    check(
        min(kernel) > 0,
        lambda: (
            f"[{name}] kernel size should be greater than zero, but got kernel_height: {kernel[0]} "
            f"kernel_width: {kernel[1]}"
        ),
    )
    check_steps(name, *steps[:3])
    return kernel, steps


def unfold(
    input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The blocks of an image under a sliding kernel, as columns: (N, C, H, W) -> (N, C * kernel,
    blocks).
    """
    kernel, steps = block_steps("unfold", kernel_size, dilation, padding, stride)
    shape = input._data.shape
    check(
        len(shape) in (3, 4) and 0 not in shape[-3:],
        lambda: (
            "[unfold] Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other "
            f"non-zero dimensions for input, but got: {list(shape)}"
        ),
    )
    out = tuple(map(output_size, shape[-2:], kernel, *steps[:3]))
    check(
        min(out) > 0,
        lambda: (
            f"[unfold] Given input with spatial size {tuple(shape[-2:])}, kernel_size={kernel}, "
            f"dilation={steps.dilation}, padding={steps.padding}, calculated shape of the array of "
            f"sliding blocks as {out}, but its components must be at least one."
        ),
    )
    if len(shape) == 3:
        return apply(UNFOLD, input.unsqueeze(0), kernel=kernel, steps=steps).squeeze(0)
    return apply(UNFOLD, input, kernel=kernel, steps=steps)


def fold(
    input: Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> Tensor:
    """The adjoint of `unfold`: adds columns of blocks up to an image, (N, C * kernel, blocks) ->
    (N, C, H, W).
    """
    kernel, steps = block_steps("fold", kernel_size, dilation, padding, stride)
    size = per_dimension(output_size, 2, "output_size", "fold")
    shape, area = input._data.shape, math.prod(kernel)
    check(
        len(shape) in (2, 3) and 0 not in shape[-2:],
        lambda: (
            "[fold] Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and "
            f"non-zero dimensions for input, but got: {list(shape)}"
        ),
    )
    check(
        shape[-2] % area == 0,
        lambda: (
            "[fold] Expected size of input's dimension 1 to be divisible by the product of "
            f"kernel_size, but got input.size(1)={shape[-2]} and kernel_size={kernel}."
        ),
    )
    out = tuple(map(kernels.output_size, size, kernel, *steps[:3]))
    check(
        min(out) > 0 and math.prod(out) == shape[-1],
        lambda: (
            f"[fold] Given output_size={size}, kernel_size={kernel}, dilation={steps.dilation}, "
            f"padding={steps.padding}, stride={steps.stride}, expected size of input's dimension 2 "
            f"to match the calculated number of sliding blocks {' * '.join(map(str, out))} = "
            f"{math.prod(out)}, but got input.size(2)={shape[-1]}."
        ),
    )
    if len(shape) == 2:
        return apply(FOLD, input.unsqueeze(0), size=size, kernel=kernel, steps=steps).squeeze(0)
    return apply(FOLD, input, size=size, kernel=kernel, steps=steps)


EXPORTS["nn.functional"].update(unfold=unfold, fold=fold)
