"""Drawing: PyTorch's random streams as operators. May import large, core and the base.

The streams themselves are in lampion/random; many numbers are drawn by compiled code. As operators
without inputs they are drawn anew when a trace runs again, and a vmap may ask for other numbers in
each row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes, random as streams
from ..core.dispatch import apply
from ..core.graph import STATE
from ..core.op import Op
from ..core.tensor import Tensor
from ..core.transforms import Batched, Vmap
from ..errors import check
from ..layout import Order, inverse
from ..random import Generator, default_generator, generator as stream
from .large import Least, engine


def compiled_draw(operator: str, generator: Generator, out: ndarray, params: dict) -> bool:
    """Fills a large array by compiled code; False where there is none."""
    if out.size < Least.size:
        return False
    compiler = engine("draws")
    return compiler is not None and compiler.draw(operator, generator, out, params)


stream.compiled = compiled_draw


def drawing(name: str, sampler: Callable[..., ndarray]) -> Op:
    """The operator that draws an array of a shape with its dimensions in a given order."""

    def kernel(
        shape: tuple, order: Order, dtype: dtypes.dtype, generator: Any, **params: Any
    ) -> ndarray:
        if order is None:
            return sampler(shape, dtype=dtype.numpy, generator=generator, **params)
        inside = tuple([shape[d] for d in order])
        drawn = sampler(inside, dtype=dtype.numpy, generator=generator, **params)
        return drawn.transpose(inverse(order))

    return Op(f"draw_{name}", (), kernel, random=True)


def complex_uniform(
    shape: tuple, low: float, high: float, dtype: np.dtype, generator: Any
) -> ndarray:
    """Uniform numbers; both parts of complex ones, one after the other."""
    if dtype.kind != "c":
        return streams.uniform(shape, low, high, dtype, generator)
    parts = streams.uniform((*shape, 2), low, high, np.empty(0, dtype).real.dtype, generator)
    return parts.view(dtype)[..., 0]


def dropout_noise(shape: tuple, p: float, dtype: np.dtype, generator: Any) -> ndarray:
    """1 / (1 - p) with probability 1 - p, else 0."""
    noise = np.empty(shape, dtype)
    if stream.drawn("draw_dropout_noise", generator or default_generator, noise, p=p):
        return noise
    kept = streams.bernoulli(shape, 1.0 - p, dtype, generator)
    scale = 1 / (1.0 - p) if dtype.itemsize == 8 else np.float32(1) / np.float32(1.0 - p)
    return kept * np.asarray(scale).astype(dtype)


UNIFORM = drawing("uniform", complex_uniform)
NORMAL = drawing("normal", streams.normal)
RANDINT = drawing("randint", streams.randint)
BERNOULLI_NUMBER = drawing("bernoulli", streams.bernoulli)
EXPONENTIAL = drawing("exponential", streams.exponential)
CAUCHY = drawing("cauchy", streams.cauchy)
GEOMETRIC = drawing("geometric", streams.geometric)
LOG_NORMAL = drawing("log_normal", streams.log_normal)
DROPOUT_NOISE = drawing("dropout_noise", dropout_noise)
RANDPERM = Op(
    "randperm",
    (),
    lambda n, dtype, generator: streams.randperm(n, dtype.numpy, generator),
    random=True,
)


def draw(
    op: Op,
    shape: tuple,
    dtype: dtypes.dtype | None,
    generator: Any,
    order: Order = None,
    **params: Any,
) -> Tensor:
    """A new tensor of draws, of the default type unless one is given."""
    check_generator(generator, op.name)
    level = level_of_rows() if STATE.interpreters else None
    if level is not None:
        inside = None if order is None else (0, *[d + 1 for d in order])
        with STATE.set(interpreters=level.before):
            rows = draw(op, (level.size, *shape), dtype, generator, inside, **params)
        return Batched(level, rows, 0)
    dtype = dtype or dtypes.get_default_dtype()
    return apply(op, shape=shape, order=order, dtype=dtype, generator=generator, **params)


def level_of_rows() -> Vmap | None:
    """The innermost vmap that wants other numbers in each row; raises RuntimeError where a vmap
    forbids random numbers.
    """
    for level in reversed(STATE.interpreters):
        if isinstance(level, Vmap):
            check(
                level.randomness != "error",
                "vmap: called random operation while in randomness error mode. Please either use "
                "the 'same' or 'different' randomness flags on vmap or perform the randomness "
                "operation out of vmap",
            )
            if level.randomness == "different":
                return level
    return None


def draw_from(op: Op, *inputs: Tensor | None, **params: Any) -> Tensor:
    """Runs an operator that draws by parameters in tensors; under a vmap that wants other numbers
    in each row, they get a batch dimension.
    """
    level = level_of_rows() if STATE.interpreters else None
    if level is None:
        return apply(op, *inputs, **params)
    with STATE.set(interpreters=level.before):
        rows = [
            t
            if t is None or t.interpreter is level
            else Batched(level, t.expand(level.size, *t._data.shape), 0)
            for t in inputs
        ]
    return apply(op, *rows, **params)


def check_generator(generator: Any, name: str) -> None:
    """Raises TypeError for what is no generator."""
    check(
        generator is None or isinstance(generator, Generator),
        lambda: (
            f"{name}(): argument 'generator' must be torch.Generator, not "
            f"{type(generator).__name__}"
        ),
        TypeError,
    )
