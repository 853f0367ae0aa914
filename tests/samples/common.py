"""How a sample is written. One record per operator says how to call it and what to compare it with.

    Sample("mul", [A(2, 3), A(3)], np.multiply, dtypes=ALL, errors=[([A(2), A(3)], RuntimeError,
    "size of tensor")])

`A(2, 3)` stands for a random tensor of that shape, made anew for each dtype; plain values are
passed as they are. The reference gets NumPy arrays in the place of tensors and the same other
arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FLOATS = ("float32", "float64")
LOW = ("float16", "bfloat16")
INTS = ("uint8", "int8", "int16", "int32", "int64")
COMPLEX = ("complex64", "complex128")
BOOL = ("bool",)
NUMBERS = FLOATS + INTS
ALL = BOOL + INTS + FLOATS + LOW


@dataclass(frozen=True)
class A:
    """A random tensor: normal numbers mapped into [low, high] where bounds are given;
    `values` gives them outright.
    """

    shape: tuple[int, ...]
    low: float | None
    high: float | None
    dtype: str | None
    values: Any
    grad: bool
    distinct: bool

    def __init__(
        self,
        *shape: int,
        low: float | None = None,
        high: float | None = None,
        dtype: str | None = None,
        values: Any = None,
        grad: bool = True,
        distinct: bool = False,
    ) -> None:
        """dtype: fixed whatever the sample's; distinct: no two values near each other (for max,
        sort, median); grad=False: not differentiated with respect to."""
        for name, value in zip(
            A.__dataclass_fields__, (shape, low, high, dtype, values, grad, distinct)
        ):
            object.__setattr__(self, name, value)

    def array(self, rng: np.random.Generator, dtype: np.dtype) -> np.ndarray:
        """The NumPy array, in the given type (complex: both parts random)."""
        if self.values is not None:
            return np.array(self.values).astype(dtype)
        kind = np.dtype(dtype).kind
        if kind == "b":
            return rng.random(self.shape) < 0.5
        if kind in "iu":
            low = (0 if kind == "u" else -4) if self.low is None else int(np.ceil(self.low))
            high = 5 if self.high is None else max(int(np.floor(self.high)), low)
            return rng.integers(low, high + 1, self.shape).astype(dtype)
        if self.distinct:
            n = int(np.prod(self.shape))
            x = (rng.permutation(n).astype(float) - n / 2) * 0.7 + rng.uniform(-0.1, 0.1, n)
            x = x.reshape(self.shape)
        elif self.low is None and self.high is None:
            x = rng.standard_normal(self.shape)
        else:
            low = -2.0 if self.low is None else self.low
            high = low + 3.0 if self.high is None else self.high
            x = rng.uniform(low, high, self.shape)
        if kind == "c":
            return (x + 1j * rng.standard_normal(self.shape)).astype(dtype)
        return x.astype(dtype)


@dataclass
class Sample:
    """One way to call an operator. `name` is the path of the public function, e.g.
    "nn.functional.relu".
    """

    name: str
    inputs: Sequence[Any]
    reference: Callable | None = (
        None  # on NumPy arrays; None: compared with the golden file or only for derivatives
    )
    kwargs: dict[str, Any] = field(default_factory=dict)
    dtypes: Sequence[str] = FLOATS
    gradient: bool = True  # first order against finite differences (float64), jvp against vjp
    second: bool = True  # second order too
    batch: bool = True  # vmap against a loop
    errors: Sequence[
        tuple
    ] = ()  # (inputs, exception, pattern) or (inputs, kwargs, exception, pattern)
    op: str = ""  # the record's name where it is not the last part of `name`
